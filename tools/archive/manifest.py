"""The manifest: one small file that names all others of an archive, each with its SHA-256.

    manifest.json                          replaced as a whole, and last
    runs/*.parquet                         one row a run, with what its bundle holds
    iterations/month=2026-11/*.parquet     and the other tables of a run: sorted by run, iter
    series/month=2026-11/*.parquet         every value of them in a row of its own
    journals/month=2026-11/*.tar.zst       a bundle for each run: its files as they were
    README.txt                             how to read all that without this program

A file that the manifest does not name is not part of the archive: a killed archiver left it. So
whatever happens while files are written, the archive is in its state before or after. The next
archiver adds such bundles and removes such Parquet files: everything else in an archive can be
rebuilt from its bundles.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson

from ..core.history import STORED
from ..core.runs import Refusal
from .files import MONTH, check_stored_name
from .store import Damaged, Store, Stored

NAME = "manifest.json"
FORMAT = 2
_OURS = re.compile(
    rf"(runs|({'|'.join(STORED)}|journals)/month={MONTH})/"
    r"\.?[^/\x00-\x1f\x7f]*-[0-9a-f]{8}\.(parquet|tar\.zst)(\.[0-9a-f]{8}\.tmp)?"
    r"|\.(manifest\.json|README\.txt)\.[0-9a-f]{8}\.tmp"
)
_TYPES = {
    "double",
    "int64",
    "decimal128(20, 0)",
    "string",
    "bool",
    "timestamp[us]",
}  # `columns.TYPES`
_TAIL = len(b',"sha256":"') + 64 + len(b'"}\n')


@dataclass(frozen=True)
class Part(Stored):
    """A Parquet file with rows of one kind, of runs that began in one month."""

    kind: str
    month: str
    n_rows: int


@dataclass(frozen=True)
class Manifest:
    """The contents of an archive at one moment."""

    generation: int = 0
    runs: Stored | None = None
    readme: Stored | None = None
    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The Arrow types of the columns of each kind."""
    parts: tuple[Part, ...] = ()

    @property
    def files(self) -> list[Stored]:
        """The files that the manifest names itself; `runs` names the bundles."""
        return [file for file in (self.readme, self.runs, *self.parts) if file is not None]

    def of(self, kind: str, month: str | None = None) -> list[Part]:
        """The parts of one kind, of all months or of one."""
        return [p for p in self.parts if p.kind == kind and month in (None, p.month)]

    def to_bytes(self) -> bytes:
        """JSON, one line per file; the last value is the SHA-256 of all bytes before its comma."""
        head = {
            "format": FORMAT,
            "generation": self.generation,
            "runs": self.runs,
            "readme": self.readme,
            "types": self.types,
        }
        lines = ",\n".join(f'"{key}":{orjson.dumps(value).decode()}' for key, value in head.items())
        parts = ",\n".join(orjson.dumps(asdict(part)).decode() for part in self.parts)
        body = f'{{{lines},\n"parts":[\n{parts}\n]'.encode()
        return body + f',"sha256":"{sha256(body).hexdigest()}"}}\n'.encode()


def load(store: Store) -> Manifest | None:
    """The manifest of the archive in `store`; None if there is none.

    Raises:
        Damaged: its bytes are not those that were written.
        Refusal: a newer version wrote it.
        OSError: the store cannot be read.
    """
    try:
        with store.read(NAME) as stream:
            data = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    body, end = data[:-_TAIL], data[-_TAIL:]
    if end != f',"sha256":"{sha256(body).hexdigest()}"}}\n'.encode():
        raise Damaged(
            f"{store.url}: {NAME}: damaged: its SHA-256 does not match. "
            f"To rebuild it from the bundles: runs archive --to {store.url} --repair"
        )
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] > FORMAT:
            raise Refusal(
                f"{store.url}: has format {document['format']}, this program reads up to "
                f"{FORMAT}. Use a newer runjournal"
            )
        return _read(document)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Damaged(
            f"{store.url}: {NAME}: damaged: {error}. "
            f"To rebuild it from the bundles: runs archive --to {store.url} --repair"
        ) from None


def _read(document: Mapping[str, Any]) -> Manifest:
    """The manifest in a JSON document from an untrusted source.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it is not a manifest.
    """
    types = document["types"]
    for kind, columns in types.items():
        if kind not in STORED or not {*columns.values()} <= _TYPES:
            raise ValueError(f"types of {kind!r}")
    parts = []
    for fields in document["parts"]:
        part = Part(**fields)
        check(part)
        if not part.name.startswith(f"{part.kind}/month={part.month}/"):
            raise ValueError(f"{part.name!r} is not a file of {part.kind!r} in {part.month!r}")
        if type(part.n_rows) is not int or part.n_rows < 0:
            raise ValueError(f"{part.name!r}: rows")
        parts.append(part)
    if type(document["generation"]) is not int:
        raise ValueError("generation")
    return Manifest(
        generation=document["generation"],
        runs=_stored(document["runs"]),
        readme=_stored(document["readme"]),
        types=types,
        parts=tuple(parts),
    )


def check(file: Stored) -> Stored:
    """`file`, if an archive can contain such a file; else ValueError."""
    check_stored_name(file.name)
    if type(file.size_bytes) is not int or file.size_bytes < 0:
        raise ValueError(f"{file.name!r}: size")
    if not isinstance(file.sha256, str) or re.fullmatch("[0-9a-f]{64}", file.sha256) is None:
        raise ValueError(f"{file.name!r}: SHA-256")
    return file


def need(store: Store) -> Manifest:
    """As `load`, but there must be a manifest.

    Raises:
        FileNotFoundError: there is none.
    """
    manifest = load(store)
    if manifest is None:
        raise FileNotFoundError(
            f"{store.url}: not an archive: it has no {NAME}. To create one: "
            f"runs archive DIR --to URL"
        )
    return manifest


def switch(store: Store, old: Manifest | None, new: Manifest) -> Manifest:
    """Replace the manifest `old` by `new`; returns `new` as it was written.

    Raises:
        Refusal: another process changed the archive meanwhile; nothing was written.
    """
    if load(store) != old:
        raise Refusal(
            f"{store.url}: another process archived there meanwhile; its work was not "
            f"changed. Run this again"
        )
    new = replace(new, generation=old.generation + 1 if old else 0)
    store.write(NAME, lambda file: file.write(new.to_bytes()))
    return new


def new_name(folder: str, stem: str, suffix: str) -> str:
    """A unique name, also among archivers that run at the same time."""
    return f"{folder}/{stem}-{secrets.token_hex(4)}{suffix}"


def is_ours(name: str) -> bool:
    """Whether a file's name is one that an archiver gives, half-written files included."""
    return _OURS.fullmatch(name) is not None


def is_bundle(name: str) -> bool:
    """Whether a file's name is that of a complete bundle."""
    return is_ours(name) and name.endswith(".tar.zst") and "/." not in name


def strangers(store: Store, known: Iterable[str]) -> dict[str, float]:
    """Files in the store that the archive does not name, each with its age in seconds."""
    known = {NAME, *known}
    return {name: age_s for name, age_s in store.names().items() if name not in known}


def _stored(document: dict[str, Any] | None) -> Stored | None:
    return check(Stored(**document)) if document else None
