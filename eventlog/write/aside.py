"""Asides: the content of an event too large for a line, in a file named by its hash.

    run_20261123_032501.5f0c9a1e2b3c4d5e6f708192a3b4c5d6.aside

The same content has the same name, so neither two threads nor two sessions overwrite each
other's. A long stem is shortened to its beginning and a hash. The line keeps what fits, the name
of the file and the hash of its content.
"""

import errno
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from eventlog.disk import NO_SPACE, Disk, atomic_write
from eventlog.format.files import aside_name
from eventlog.format.record import MAX_LINE_BYTES, encode_fields, fits_in_a_line, plain_json
from eventlog.interruption import ignoring, is_of_a_call

IN_LINE_BYTES = MAX_LINE_BYTES - (64 << 10)  # for the fields that stay in the line
_NOTE_BYTES = 48  # a value is replaced by a note of about this length
_NESTED = frozenset(("config", "summary", "metadata"))  # whose values are judged one by one


@dataclass(frozen=True)
class Aside:
    """The content of one large event."""

    name: str
    data: bytes

    def write(self, folder: Path, disk: Disk) -> bool:
        """Write it into `folder`, not yet durable; False: it is there already.

        Raises:
            OSError: the disk refused.
        """
        path = folder / self.name
        with ignoring(OSError):
            if os.path.isfile(path) and path.read_bytes() == self.data:
                return False
        atomic_write(path, lambda file: file.write(self.data), disk=disk, durable=False)
        return True


class AsideFiles:
    """Writes asides, and knows which of the files a sync has to make durable."""

    def __init__(self, disk: Disk) -> None:
        self.unsynced: list[Path] = []
        self.is_final = False
        """Whether what there is no space for is left out: nothing is tried again."""
        self.left_out: set[str] = set()
        """Names of those that were left out: the line of the event has no content."""
        self._durable: set[Path] = set()
        self._disk = disk

    def write(self, asides: tuple[Aside, ...], folder: Path) -> None:
        """Write those that are not there yet, except what is too long for a file.

        Raises:
            OSError: the disk refused.
        """
        for aside in asides:
            path = folder / aside.name
            try:
                is_new = aside.write(folder, self._disk)
            except OSError as error:
                has_space = error.errno not in NO_SPACE
                if has_space or not (self.is_final or error.errno == errno.EFBIG):
                    raise
                if not is_of_a_call(error):
                    raise
                self.left_out.add(aside.name)
                continue
            self.left_out.discard(aside.name)
            if is_new:
                self._durable.discard(path)
                self.unsynced.append(path)
            elif path not in self._durable and path not in self.unsynced:
                self.unsynced.append(path)  # of an earlier session, which may have been killed

    def were_synced(self, paths: tuple[Path, ...]) -> None:
        for path in paths:
            with ignoring(ValueError):  # two threads may have synced the same
                self.unsynced.remove(path)
        self._durable.update({*paths} - {*self.unsynced})


def fitted(stem: str, event: str, encoded: bytes) -> tuple[bytes, tuple[Aside, ...]]:
    """The encoded fields as they stand in the line of an event, and what does not fit in it.

    `stem`: of the journal's name.
    """
    if fits_in_a_line(event, encoded):
        return encoded, ()
    fields, asides = set_aside(stem, event, orjson.loads(encoded))
    return encode_fields(fields), asides


def set_aside(
    stem: str, event: str, fields: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Aside, ...]]:
    """The fields that stay in the line of a journal called `stem`, and what is set aside.

    Config and metadata of an `open` event are set aside each by itself; of any other event all
    fields are.
    """
    if event != "open":
        in_line, aside = _set_aside(stem, fields)
        return in_line, (aside,)
    asides = []
    for part in ("config", "metadata"):
        if len(plain_json(fields.get(part) or {})) > IN_LINE_BYTES // 3:
            in_line, aside = _set_aside(stem, fields[part], IN_LINE_BYTES // 3)
            fields = fields | {part: in_line}
            asides.append(aside)
    return fields, tuple(asides)


def _set_aside(
    stem: str, fields: dict[str, Any], max_bytes: int = IN_LINE_BYTES
) -> tuple[dict[str, Any], Aside]:
    data = plain_json(fields)
    digest = sha256(data).hexdigest()
    aside = Aside(aside_name(stem, digest), data)
    in_line: dict[str, Any] = orjson.loads(data)
    omitted = _shorten(in_line, max_bytes)
    reference = {"file": aside.name, "size_bytes": len(data), "sha256": digest}
    if omitted:
        reference["omitted"] = omitted
    return in_line | {"set_aside": reference}, aside


def _shorten(fields: dict[str, Any], max_bytes: int) -> int:
    """Replace the largest values by notes until the rest fits; the number of those left out."""
    places = []
    for name, value in fields.items():
        nested = value if name in _NESTED and isinstance(value, dict) else None
        for key in nested if nested is not None else (name,):
            holder = nested if nested is not None else fields
            places.append((len(orjson.dumps(holder[key])) + len(key) + 4, key, holder))
    size_bytes = sum(size for size, _, _ in places)
    for size, key, holder in sorted(places, key=lambda place: -place[0]):
        if size_bytes <= max_bytes or size < 2 * _NOTE_BYTES:
            break
        holder[key] = f"<{size:,} bytes, set aside>"
        size_bytes -= size - _NOTE_BYTES
    omitted = 0
    for size, key, holder in reversed(places):
        if size_bytes <= max_bytes:
            break
        del holder[key]
        size_bytes -= min(size, 2 * _NOTE_BYTES)
        omitted += 1
    return omitted
