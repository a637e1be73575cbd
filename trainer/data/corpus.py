"""Read documents from text, JSONL or Parquet files, or from Python's standard library.

At most one row of a JSONL file, or a few rows of a Parquet file, are in memory; text files are
streamed.
"""

import codecs
import gzip
import hashlib
import io
import json
import os
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

TEST_FOLDERS = {"test", "tests", "idle_test"}  # some Python installations do not have them
INSTALLED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}
CHUNK_BYTES = 1 << 20
PARQUET_ROWS = 1024  # read at a time; pyarrow's default of 65,536 may not fit into memory

Progress = Callable[[int], object]  # called with a number of bytes that were read
Document = str | Path  # a text, or a file that is one document

READ_ERRORS = (OSError, EOFError, zlib.error)  # disk error; truncated .gz; damaged .gz


def no_progress(amount: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class Corpus:
    """Files in a fixed order, and the documents in them."""

    name: str
    source: Path  # the path that the user gave
    root: Path  # the names of the files are relative to it
    files: tuple[Path, ...]
    text_column: str = "text"

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def sha256(self, progress: Progress) -> str:
        """The SHA-256 of the files' names, lengths and bytes, in order."""
        digest = hashlib.sha256()
        for path in self.files:
            name = path.relative_to(self.root).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    progress(len(chunk))
        return digest.hexdigest()

    def file_stats(self) -> list[tuple[str, int, int, int, int]]:
        """(path, inode, size, mtime, ctime) of each file: different after a file was modified.

        The ctime is set by the kernel: no program can set it back.
        """
        stats = [(path, path.stat()) for path in self.files]
        return [
            (str(path.absolute()), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for path, s in stats
        ]

    def documents(self, progress: Progress = no_progress) -> Iterator[Document]:
        """Every document that is not empty, in the order of the files; see `chunks`.

        Raises:
            ValueError: a file cannot be read; names the file and the line or row group.
        """
        for path in self.files:
            yield from documents_of(path, self.text_column, progress)

    def sample(self, n_characters: int) -> Iterator[str]:
        """About `n_characters`: the first documents of each file, in proportion to its size.

        Deterministic; if the corpus has at most that many, all of it.
        """
        size_bytes = self.size_bytes
        for path in self.files:
            left = n_characters * path.stat().st_size // size_bytes + 1
            for document in documents_of(path, self.text_column, no_progress):
                text = beginning(document, left)
                left -= len(text)
                yield text
                if left <= 0:
                    break


def python_library() -> Corpus:
    """The source of Python's standard library, about 12 MB.

    Raises:
        ValueError: this Python was installed without its source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    excluded = TEST_FOLDERS | INSTALLED_FOLDERS
    files = []
    for folder, folders, names in os.walk(root):  # excluded folders are not even listed
        folders[:] = set(folders) - excluded
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if not files:
        raise ValueError(f"{root} contains no Python source: give a text file with --input")
    return Corpus(f"python-{sysconfig.get_python_version()}", root, root, tuple(sorted(files)))


def open_input(path: Path, text_column: str) -> Corpus:
    """The file at `path`, or every file below it that is not hidden, sorted by name.

    Raises:
        ValueError: `path` does not exist or is empty.
    """
    if path.is_file():
        root, files = path.parent, [path]
    elif path.is_dir():
        root = path
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
    else:
        raise ValueError(f"--input={path}: no such file or folder")
    corpus = Corpus(path.resolve().stem or "input", path, root, tuple(files), text_column)
    if corpus.size_bytes == 0:
        raise ValueError(f"--input={path}: is empty")
    return corpus


def documents_of(path: Path, column: str, progress: Progress) -> Iterator[Document]:
    """The documents of one file of any kind, without empty ones."""
    kind = Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix
    if kind in (".jsonl", ".ndjson"):
        yield from filter(None, read_jsonl(path, column, progress))
    elif kind == ".parquet":
        yield from filter(None, read_parquet(path, column, progress))
    else:
        if next(read_text(path), ""):
            yield path
        progress(path.stat().st_size)


def chunks(document: Document) -> Iterator[str]:
    """The text of a document, in chunks."""
    if isinstance(document, Path):
        return read_text(document)
    return (document[i : i + CHUNK_BYTES] for i in range(0, len(document), CHUNK_BYTES))


def beginning(document: Document, n_characters: int) -> str:
    """The document; if it is a file, about its first `n_characters`."""
    if isinstance(document, str):
        return document
    chunks: list[str] = []
    for chunk in read_text(document):
        chunks.append(chunk)
        n_characters -= len(chunk)
        if n_characters <= 0:
            break
    return "".join(chunks)


def read_text(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, in chunks."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_bytes = n_lines = 0
    try:
        with opened(path, no_progress) as file:
            while True:
                content = file.read(CHUNK_BYTES)
                at = n_bytes - len(decoder.getstate()[0])  # a character may be cut in two
                yield decoder.decode(content, final=not content)
                if not content:
                    return
                n_bytes += len(content)
                n_lines += content.count(b"\n")
    except UnicodeDecodeError as error:
        line = n_lines + error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}, byte {at + error.start}: not UTF-8 text; convert it, for "
            "example with iconv -f latin1 -t utf-8, or move it away"
        ) from None
    except READ_ERRORS as error:
        raise ValueError(f"{path}, after byte {n_bytes:,}: cannot be read ({error})") from None


def read_jsonl(path: Path, column: str, progress: Progress) -> Iterator[str]:
    """The `column` of each line; blank lines are skipped."""
    number = 0
    try:
        with opened(path, progress) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield text_of_row(line, column, f"{path}, line {number}")
    except READ_ERRORS as error:
        raise ValueError(f"{path}, after line {number:,}: cannot be read ({error})") from None


def text_of_row(line: bytes, column: str, place: str) -> str:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}, byte {error.start}: not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict) or column not in row:
        fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"{place}: no field {column!r}, found {fields}; give the right one with --text_column"
        )
    if not isinstance(row[column], str):
        raise ValueError(f"{place}: the field {column!r} is not text")
    return well_formed(row[column])


def well_formed(text: str) -> str:
    """`text`, with U+FFFD for lone surrogates, which JSON can contain and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def read_parquet(path: Path, column: str, progress: Progress) -> Iterator[str]:
    """The `column` of each row, "" for nulls."""
    pyarrow = import_pyarrow(path, "Parquet")
    place = str(path)
    try:
        # With pre_buffer pyarrow would load a whole row group, which may be the whole file.
        with pyarrow.parquet.ParquetFile(
            path, pre_buffer=False, buffer_size=CHUNK_BYTES, page_checksum_verification=True
        ) as table:
            names = table.schema_arrow.names
            if column not in names:
                raise ValueError(
                    f"{path}: no column {column!r}, found {', '.join(names)}; "
                    "give the right one with --text_column"
                )
            for group in range(table.num_row_groups):
                place = f"{path}, row group {group}"
                for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group], columns=[column]):
                    for text in batch.column(0).to_pylist():
                        if text is not None and not isinstance(text, str):
                            raise ValueError(f"{path}: the column {column!r} is not text")
                        yield text or ""
                progress(path.stat().st_size // table.num_row_groups)
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{place}: cannot be read as Parquet ({reason})") from None


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed if its name ends in .gz or .zst."""
    with ExitStack() as stack:
        raw = stack.enter_context(FileWithProgress(path, progress))
        file: Any = io.BufferedReader(raw, CHUNK_BYTES)
        if path.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        elif path.suffix == ".zst":
            pyarrow = import_pyarrow(path, "zstd")
            file = io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))
        yield stack.enter_context(file)


class FileWithProgress(io.FileIO):
    """A file that reports how many bytes were read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path)
        self._progress = progress

    def readinto(self, buffer: Any) -> int:
        n_bytes = super().readinto(buffer) or 0
        self._progress(n_bytes)
        return n_bytes


def import_pyarrow(path: Path, what: str) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{path}: reading {what} needs pyarrow: pip install pyarrow") from None
    module: ModuleType = pyarrow
    return module
