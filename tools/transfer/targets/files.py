"""A folder for each run; its files are replaced as a whole or grow by what is missing."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import orjson

import eventlog

from ...core.history import SERIES, TABLES, WIDE_MAX, History
from .outcome import State

ABOUT = "run.json"
BLOCK_BYTES = 1 << 20


def run_folder(history: History, out: Path) -> Path:
    """The run's folder in `out`, by its name; another run of the same name gets its own.

    A name that is too long for a folder ends in a hash. `run.json` in the folder has the whole
    name, the configuration, metadata and summary, and the id of the run.
    """
    name = re.sub(r"[^\w.+-]+", "_", history.run.run_name).strip(".") or "run"
    for end in ("", f"-{history.id[:8]}"):
        folder = out / eventlog.fitting(name, end)
        owner = _owner(folder)
        if owner is None or owner == history.id:
            break
    folder.mkdir(parents=True, exist_ok=True)
    about = orjson.dumps(history.about(), option=orjson.OPT_INDENT_2, default=str) + b"\n"
    replace(folder / ABOUT, lambda: iter([about]))
    return folder


def _owner(place: Path) -> str | None:
    try:
        about = orjson.loads((place / ABOUT).read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:  # not written by an export
        return ""
    return str(about.get("id", "")) if isinstance(about, dict) else ""


def columns_of(history: History, table: str) -> list[str]:
    """The columns of a table, its axis first; none if it has no rows."""
    columns: dict[str, None] = {}
    for row in history.rows(table):
        columns = columns or {TABLES[table]: None}
        columns |= dict.fromkeys(row)
    return list(columns)


def too_wide(history: History, columns: Mapping[str, list[str]]) -> str:
    """Which tables are not written; empty if all are."""
    return "; ".join(
        f"{history.run.run_name}: {table} has {len(names):,} columns, more than {WIDE_MAX:,}: its "
        f"values are in {SERIES} alone"
        for table, names in columns.items()
        if len(names) > WIDE_MAX
    )


def replace(path: Path, make: Callable[[], Iterator[bytes]]) -> State:
    """Write what `make` yields to `path`, atomically, if it differs; nothing: remove the file."""
    if next(make(), None) is None:
        is_there = path.exists()
        path.unlink(missing_ok=True)
        return "replaced" if is_there else "unchanged"
    if path.exists() and _holds(path, make()):
        return "unchanged"
    state: State = "replaced" if path.exists() else "new"
    eventlog.atomic_write(path, lambda file: file.writelines(make()))
    return state


def grow(path: Path, make: Callable[[], Iterator[bytes]]) -> tuple[State, int]:
    """Write what `make` yields to `path`: append if the file is the beginning of it, else replace.

    Earlier pieces are the same bytes at each call, so that a file that was cut off anywhere, even
    in the middle of a record, is continued at its last byte. Returns how many pieces were written.
    """
    if not path.exists():
        return "new", _replace_counted(path, make)
    agreed_bytes = _agreement(path, make())
    if agreed_bytes < path.stat().st_size:
        return "replaced", _replace_counted(path, make)
    n_pieces = 0
    with open(path, "ab") as file:
        for piece in _beyond(make(), agreed_bytes):
            file.write(piece)
            n_pieces += 1
        if n_pieces:
            file.flush()
            os.fsync(file.fileno())
    return ("continued" if n_pieces else "unchanged"), n_pieces


def _replace_counted(path: Path, make: Callable[[], Iterator[bytes]]) -> int:
    n_pieces = 0

    def counted() -> Iterator[bytes]:
        nonlocal n_pieces
        for piece in make():
            n_pieces += 1
            yield piece

    eventlog.atomic_write(path, lambda file: file.writelines(counted()))
    return n_pieces


def _agreement(path: Path, pieces: Iterator[bytes]) -> int:
    """How many bytes at the beginning of the file equal those of `pieces`."""
    agreed_bytes = 0
    with open(path, "rb", buffering=BLOCK_BYTES) as file:
        for piece in pieces:
            present = file.read(len(piece))
            if present != piece:
                return agreed_bytes + (len(present) if piece.startswith(present) else 0)
            agreed_bytes += len(piece)
    return agreed_bytes


def _beyond(pieces: Iterator[bytes], skip_bytes: int) -> Iterator[bytes]:
    for piece in pieces:
        if skip_bytes < len(piece):
            yield piece[skip_bytes:]
        skip_bytes = max(0, skip_bytes - len(piece))


def _holds(path: Path, pieces: Iterator[bytes]) -> bool:
    with open(path, "rb", buffering=BLOCK_BYTES) as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
