"""Asides: the content of an event too large for a line, in a file named by its hash.

    run_20261123_032501.5f0c9a1e2b3c4d5e6f708192a3b4c5d6.aside

The same content has the same name, so neither two threads nor two sessions overwrite each
other's. A long stem is shortened to its beginning and a hash. The line keeps what fits, the name
of the file and the hash of its content.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from eventlog.disk import Disk, atomic_write
from eventlog.format.files import aside_name
from eventlog.format.record import MAX_LINE_BYTES, encode_fields, fits_in_a_line, plain_json
from eventlog.interruption import ignoring, is_of_a_call
from eventlog.write.reserve import LAST_BYTES
from eventlog.write.sync import AsideNotSynced

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

PENDING_MAX_BYTES = 64 << 20
RETRY_AFTER_S, RETRY_MAX_S = 1.0, 60.0
WARN_EVERY_S = 60.0
IN_LINE_BYTES = MAX_LINE_BYTES - (64 << 10)  # for the fields that stay in the line
_NOTE_BYTES = 48  # a value is replaced by a note of about this length
_NESTED = frozenset(("config", "summary", "metadata"))  # whose values are judged one by one


@dataclass(frozen=True)
class Aside:
    """The content of one large event."""

    name: str
    data: bytes

    def write(self, folder: Path, disk: Disk, *, is_new: bool = False) -> bool:
        """Write it into `folder`, not yet durable; False: it is there already.

        `is_new`: into a new file in any case, because a sync of the one that is there failed.

        Raises:
            OSError: the disk refused.
        """
        path = folder / self.name
        with ignoring(OSError):
            if not is_new and os.path.isfile(path) and path.read_bytes() == self.data:
                return False
        atomic_write(path, lambda file: file.write(self.data), disk=disk, durable=False)
        return True


class AsideFiles:
    """Writes asides, and knows which of the files a sync has to make durable.

    What a folder refuses is written into another one, or else it is pending: its line is written,
    and its content is tried again.
    """

    def __init__(self, disk: Disk, warn: Callable[[str], None]) -> None:
        self.folders: Sequence[Path] = ()
        """Where readers look for the files of a session."""
        self.may_wait = False
        """Whether a line may be written before its content: not the first one of a session."""
        self.unsynced: list[Path] = []
        self.is_final = False
        """Whether what there is no space for is left out: nothing is tried again."""
        self.left_out: set[tuple[int, str]] = set()
        """Those that were left out, by record and name: its line has no content."""
        self._pending: dict[tuple[int, str], Aside] = {}
        self._retry_at, self._pause_s = 0.0, RETRY_AFTER_S
        self._warn_again_at: dict[bool, float] = {}
        self._failed: set[Path] = set()  # those whose sync failed: they are not synced again
        self._durable: set[Path] = set()
        self._disk, self._warn = disk, warn

    @property
    def first_pending(self) -> int | None:
        """The first record whose content is not written; None: there is none."""
        return min((n for n, _ in self._pending.copy()), default=None)

    def write(self, n: int, asides: tuple[Aside, ...], folder: Path) -> None:
        """Write those of record `n` that are not there yet, except what no folder takes.

        Raises:
            OSError: no folder takes what belongs to the first line of a session.
        """
        for aside in asides:
            try:
                self._write(aside, folder)
            except OSError as error:
                if not is_of_a_call(error):
                    raise
                if not self._is_elsewhere(aside, folder):
                    self._postpone(n, aside, error)
                    continue
            self._pending.pop((n, aside.name), None)
            self.left_out.discard((n, aside.name))

    def retry(self, folder: Path) -> None:
        """Try again what is pending: after a second, and then after twice as long each time."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        free_bytes = max(self._disk.free_bytes(f) for f in (folder, *self.folders))
        if min(len(aside.data) for aside in self._pending.copy().values()) < free_bytes:
            self._write_pending(folder)
            self._pause_s = min(2 * self._pause_s, RETRY_MAX_S) if self._pending else RETRY_AFTER_S
        self._retry_at = now + self._pause_s

    def forget(self, n: int) -> None:
        """Record `n` is lost as a whole."""
        for key in [key for key in self.left_out.copy() if key[0] == n]:
            self.left_out.discard(key)

    def _write_pending(self, folder: Path) -> None:
        for (n, _), aside in list(self._pending.items()):
            with ignoring(OSError):
                self.write(n, (aside,), folder)

    def end(self, folder: Path) -> None:
        """Write what is pending; what there is no space for now is left out."""
        self.is_final = True
        self._write_pending(folder)

    def _write(self, aside: Aside, folder: Path) -> None:
        path = folder / aside.name
        if aside.write(folder, self._disk, is_new=path in self._failed):
            self._durable.discard(path)
            self._failed.discard(path)
            self.unsynced.append(path)
            self._forget_others(path)
        elif path not in self._durable and path not in self.unsynced:
            self.unsynced.append(path)  # of an earlier session, which may have been killed

    def _forget_others(self, path: Path) -> None:
        """Do not sync files of the same content in folders that the session has left."""
        for other in [p for p in self.unsynced if p.name == path.name and p != path]:
            with ignoring(ValueError):
                self.unsynced.remove(other)

    def _is_elsewhere(self, aside: Aside, refusing: Path) -> bool:
        """Write it into another folder than the one that refuses it; False: all do."""
        for folder in self.folders:
            if folder != refusing and folder / aside.name not in self._failed:
                try:
                    self._disk.make_folder(folder)
                    self._write(aside, folder)
                    return True
                except OSError as error:
                    if not is_of_a_call(error):
                        raise
        return False

    def _postpone(self, n: int, aside: Aside, error: OSError) -> None:
        """Keep it in memory; at the end, if no file may be so long, or if too much waits, leave it
        out."""
        if not self.may_wait:
            raise error
        if (n, aside.name) in self._pending and not self.is_final:
            return
        others = [a for key, a in self._pending.copy().items() if key != (n, aside.name)]
        is_too_much = sum(len(a.data) for a in (*others, aside)) > PENDING_MAX_BYTES
        is_lost = self.is_final or error.errno == errno.EFBIG or is_too_much
        if is_lost:
            self.leave_out(n, aside)
        else:
            self._pending[n, aside.name] = aside
        now = time.monotonic()
        if now >= self._warn_again_at.get(is_lost, 0.0):
            self._warn_again_at[is_lost] = now + WARN_EVERY_S
            self._warn(
                f"{aside.name}: {len(aside.data):,} bytes of a large event cannot be written "
                f"({error}): "
                + ("only its line in the journal is kept" if is_lost else "they wait in memory")
            )

    def leave_out(self, n: int, aside: Aside) -> None:
        """Its content is lost; its line is kept."""
        self._pending.pop((n, aside.name), None)
        self.left_out.add((n, aside.name))

    def missed(self, error: AsideNotSynced, asides: list[tuple[int, Aside]], folder: Path) -> bool:
        """A file is not durable: write it again; False: its content is not in memory any more.

        A missing one was moved with its folder, or removed. Another one was refused by its disk,
        and the same bytes in it would be taken for durable.
        """
        path = error.path
        self.were_synced((path,))
        self._durable.discard(path)
        is_gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        if not is_gone:
            self._failed.add(path)
        named = [(n, aside) for n, aside in asides if aside.name == path.name]
        for n, aside in named:
            if is_gone:
                self.write(n, (aside,), folder)
            elif not self._is_elsewhere(aside, path.parent):
                self._postpone(n, aside, error)
        if not named and is_gone and os.path.isfile(folder / path.name):
            self.unsynced.append(folder / path.name)
            return True
        return bool(named)

    def were_synced(self, paths: tuple[Path, ...]) -> None:
        for path in paths:
            with ignoring(ValueError):  # two threads may have synced the same
                self.unsynced.remove(path)
        self._durable.update({*paths} - {*self.unsynced})


def fitted(stem: str, event: str, encoded: bytes) -> tuple[bytes, tuple[Aside, ...]]:
    """The encoded fields as they stand in the line of an event, and what does not fit in it.

    `stem`: of the journal's name.
    """
    most_bytes = _most_bytes(encoded)
    if fits_in_a_line(event, encoded) and len(encoded) <= 2 * most_bytes:
        return encoded, ()
    fields, asides = set_aside(stem, event, orjson.loads(encoded), most_bytes)
    return encode_fields(fields), asides


def _most_bytes(encoded: bytes) -> int:
    """What is to stay in the line: it must not take most of what a file may have (`ulimit -f`)."""
    if len(encoded) > LAST_BYTES and resource is not None:
        most_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most_bytes != resource.RLIM_INFINITY:
            return min(IN_LINE_BYTES, most_bytes // 4)
    return IN_LINE_BYTES


def set_aside(
    stem: str, event: str, fields: dict[str, Any], most_bytes: int = IN_LINE_BYTES
) -> tuple[dict[str, Any], tuple[Aside, ...]]:
    """The fields that stay in the line of a journal called `stem`, and what is set aside.

    About `most_bytes` of them stay.

    Config and metadata of an `open` event are set aside each by itself; of any other event all
    fields are.
    """
    if event != "open":
        in_line, aside = _set_aside(stem, fields, most_bytes)
        return in_line, (aside,)
    asides = []
    for part in ("config", "metadata"):
        if len(plain_json(fields.get(part) or {})) > most_bytes // 3:
            in_line, aside = _set_aside(stem, fields[part], most_bytes // 3)
            fields = fields | {part: in_line}
            asides.append(aside)
    return fields, tuple(asides)


def _set_aside(stem: str, fields: dict[str, Any], max_bytes: int) -> tuple[dict[str, Any], Aside]:
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
