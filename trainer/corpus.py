"""Documents to train on: text, JSONL or Parquet files, or the Python library on this machine."""

import hashlib
import json
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEST_FOLDERS = {"test", "tests", "idle_test"}  # slim Python installs leave them out
INSTALLED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}
CHUNK_BYTES = 1 << 20

Progress = Callable[[int], object]  # told how many bytes went by


@dataclass(frozen=True)
class Corpus:
    """Files in a fixed order, and how to read documents from them."""

    name: str
    source: Path  # what the user named
    root: Path  # what the names of the files are relative to
    files: tuple[Path, ...]
    text_column: str = "text"

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def sha256(self, progress: Progress) -> str:
        """One digest over the files' names, lengths and bytes, in order."""
        digest = hashlib.sha256()
        for path in self.files:
            name = path.relative_to(self.root).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    progress(len(chunk))
        return digest.hexdigest()

    def documents(self) -> Iterator[str]:
        """Every document that is not empty, file by file.

        A text file is one document and is read whole; JSONL and Parquet stream.

        Raises:
            ValueError: a file cannot be read as what it is; names the file and the place in it.
        """
        for path in self.files:
            if path.suffix in (".jsonl", ".ndjson"):
                documents = read_jsonl(path, self.text_column)
            elif path.suffix == ".parquet":
                documents = read_parquet(path, self.text_column)
            else:
                documents = iter([decode(path.read_bytes(), path)])
            yield from filter(None, documents)


def python_library() -> Corpus:
    """The source of the standard library, about 12 MB: on every machine that can run this.

    Raises:
        ValueError: this Python came without its source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    left_out = TEST_FOLDERS | INSTALLED_FOLDERS
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if left_out.isdisjoint(path.relative_to(root).parts)
    ]
    if not files:
        raise ValueError(f"{root} holds no Python source: give a text file with --input")
    return Corpus(f"python-{sysconfig.get_python_version()}", root, root, tuple(files))


def open_input(path: Path, text_column: str) -> Corpus:
    """The file at `path`, or every file below it that is not hidden, in order of name.

    Raises:
        ValueError: there is nothing at `path`, or nothing in it.
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
        raise ValueError(f"--input={path}: there is no such file or folder")
    corpus = Corpus(path.resolve().stem or "input", path, root, tuple(files), text_column)
    if corpus.size_bytes == 0:
        raise ValueError(f"--input={path}: it is empty")
    return corpus


def read_jsonl(path: Path, column: str) -> Iterator[str]:
    """The `column` of each line; blank lines are passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}, byte {error.start}: not UTF-8") from None
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from None
            if not isinstance(row, dict) or column not in row:
                found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
                raise ValueError(
                    f"{path}, line {number}: no field {column!r}, there is {found}; "
                    "name the right one with --text_column"
                )
            if not isinstance(row[column], str):
                raise ValueError(f"{path}, line {number}: the field {column!r} is not text")
            yield row[column]


def read_parquet(path: Path, column: str) -> Iterator[str]:
    """The `column` of each row; nulls are passed over."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = parquet.ParquetFile(path)
        names = table.schema_arrow.names
        if column not in names:
            raise ValueError(
                f"{path}: no column {column!r}, there is {', '.join(names)}; "
                "name the right one with --text_column"
            )
        for batch in table.iter_batches(columns=[column]):
            for text in batch.column(0).to_pylist():
                if text is not None and not isinstance(text, str):
                    raise ValueError(f"{path}: the column {column!r} is not text")
                yield text or ""
    except (OSError, ArrowInvalid) as error:
        raise ValueError(f"{path}: it cannot be read as Parquet ({error})") from None


def decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}, byte {error.start}: not UTF-8 text; convert it, for example "
            f"with iconv -f latin1 -t utf-8, or move it away"
        ) from None
