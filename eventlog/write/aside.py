"""Events too large for a line: their content in a file of its own, named by its hash.

    run_20261123_032501.5f0c9a1e2b3c4d5e6f708192a3b4c5d6.aside

The same content has the same name, so that neither two threads nor two sessions overwrite
each other's. Of a long stem the name has the beginning and a hash. The line keeps what fits, and
says where the rest is and what its hash is.
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from eventlog.disk import Disk, atomic_write
from eventlog.format.files import aside_name
from eventlog.format.record import MAX_LINE_BYTES, plain_json
from eventlog.interruption import ignoring

ROOM_BYTES = MAX_LINE_BYTES - (64 << 10)  # for the fields that stay in the line
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


def set_aside(
    stem: str, event: str, fields: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Aside, ...]]:
    """The fields that stay in the line of a journal called `stem`, and what is set aside.

    Of an `open` event its config and its metadata are set aside, each by itself; of any other
    event all its fields.
    """
    if event != "open":
        kept, aside = _set_aside(stem, fields)
        return kept, (aside,)
    asides = []
    for part in ("config", "metadata"):
        if len(plain_json(fields.get(part) or {})) > ROOM_BYTES // 3:
            kept, aside = _set_aside(stem, fields[part], ROOM_BYTES // 3)
            fields = fields | {part: kept}
            asides.append(aside)
    return fields, tuple(asides)


def _set_aside(
    stem: str, fields: dict[str, Any], room_bytes: int = ROOM_BYTES
) -> tuple[dict[str, Any], Aside]:
    data = plain_json(fields)
    digest = sha256(data).hexdigest()
    aside = Aside(aside_name(stem, digest), data)
    kept: dict[str, Any] = orjson.loads(data)
    omitted = _shorten(kept, room_bytes)
    reference = {"file": aside.name, "size_bytes": len(data), "sha256": digest}
    if omitted:
        reference["omitted"] = omitted
    return kept | {"set_aside": reference}, aside


def _shorten(kept: dict[str, Any], room_bytes: int) -> int:
    """Replace the largest values by notes until the rest fits; how many had to be left out."""
    places = []
    for name, value in kept.items():
        nested = value if name in _NESTED and isinstance(value, dict) else None
        for key in nested if nested is not None else (name,):
            holder = nested if nested is not None else kept
            places.append((len(orjson.dumps(holder[key])) + len(key) + 4, key, holder))
    size_bytes = sum(size for size, _, _ in places)
    for size, key, holder in sorted(places, key=lambda place: -place[0]):
        if size_bytes <= room_bytes or size < 2 * _NOTE_BYTES:
            break
        holder[key] = f"<{size:,} bytes, set aside>"
        size_bytes -= size - _NOTE_BYTES
    omitted = 0
    for size, key, holder in reversed(places):
        if size_bytes <= room_bytes:
            break
        del holder[key]
        size_bytes -= min(size, 2 * _NOTE_BYTES)
        omitted += 1
    return omitted
