"""A journal as lines for people: one an event, as it happens."""

import os
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from eventlog.format.record import Record
from eventlog.format.text import printable
from eventlog.read.ends import last_open
from eventlog.read.reader import Reader

POLL_S = 0.2
_ETA_WINDOW = 50  # iterations whose wall time, evals and saves included, the estimate rests on
_LINE_BYTES = 1024  # generous length of one line, for finding the last n of them


class Lines:
    """Turns records into lines; remembers what an estimate of the end needs."""

    def __init__(self) -> None:
        self._max_iters: int | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=_ETA_WINDOW)

    def line(self, record: Record) -> str:
        """One line, without LF, for any record."""
        said = {
            "iter": self._iter,
            "eval": self._eval,
            "checkpoint": self._checkpoint,
            "open": self._open,
            "close": self._close,
            "ignored": remark,
            "segment": remark,
            "lost_tail": remark,
        }.get(record.event, self._other)
        return printable(f"{record.t[:10]} {record.t[11:19]}  {said(record)}")

    def learn(self, record: Record) -> None:
        """Take from an `open` event what later lines need, without a line of its own."""
        max_iters = _dict(record.fields.get("config")).get("max_iters")
        self._max_iters = max_iters if type(max_iters) is int else None
        self._recent.clear()

    def _open(self, record: Record) -> str:
        self.learn(record)
        f = record.fields
        resumed = "" if f.get("from_iter") is None else f", from iteration {f['from_iter']}"
        found = _dict(f.get("found"))
        torn = f", after a torn tail ({', '.join(found)})" if found else ""
        return (
            f"open     {f.get('run_name')}, pid {f.get('pid')} on {f.get('host')}, "
            f"session {record.s}{resumed}{torn}"
        )

    def _iter(self, record: Record) -> str:
        f = record.fields
        parts = [
            f"iter {_count(f.get('iter'), self._max_iters)}",
            f"loss {_figure(f, 'loss', '.4f')}",
        ]
        if f.get("time_ms") is not None:
            parts.append(f"{_figure(f, 'time_ms', '.1f')} ms")
        if f.get("tokens_per_s") is not None:
            parts.append(f"{_figure(f, 'tokens_per_s', ',.0f')} tokens/s")
        mfu = f.get("mfu")
        if isinstance(mfu, int | float) and mfu > 0:
            parts.append(f"mfu {mfu:.2f}%")
        eta = self._eta(f.get("iter"), record.t)
        return "  ".join(parts + [f"eta {eta}"] * bool(eta))

    def _eta(self, i: Any, t: str) -> str:
        try:
            now = datetime.fromisoformat(t).timestamp()
        except (ValueError, OverflowError):
            return ""
        if type(i) is not int or self._max_iters is None:
            return ""
        if self._recent and i <= self._recent[-1][0]:
            self._recent.clear()
        self._recent.append((i, now))
        (first, begun), left = self._recent[0], self._max_iters - i
        if i == first or left <= 0 or now < begun:
            return ""
        return duration((now - begun) / (i - first) * left)

    def _eval(self, record: Record) -> str:
        f = record.fields
        losses = f"train {_figure(f, 'train_loss', '.4f')}  val {_figure(f, 'val_loss', '.4f')}"
        return f"eval {_count(f.get('iter'), self._max_iters)}  {losses}"

    def _checkpoint(self, record: Record) -> str:
        f = record.fields
        size = f"  {f['size_bytes'] / 1e6:,.1f} MB" if type(f.get("size_bytes")) is int else ""
        return f"saved {_count(f.get('iter'), None)}  {f.get('path')}{size}"

    def _close(self, record: Record) -> str:
        f = record.fields
        return f"close    {f.get('status')}" + (f": {f['reason']}" if f.get("reason") else "")

    def _other(self, record: Record) -> str:
        unsaid = ("durable", "annotates")
        said = "  ".join(f"{k} {v}" for k, v in record.fields.items() if k not in unsaid)
        return f"{record.event:8} {said}"


def tail(path: Path, *, n_lines: int = 10, follow: bool = False) -> Iterator[str]:
    """The last `n_lines` events as lines, then with `follow` each new one as it is appended.

    Follows the journal through resumed sessions and the repair of a torn tail.
    """
    lines = Lines()
    opened = last_open(path)
    if opened is not None:
        lines.learn(opened)
    before_last = os.path.getsize(path) - (n_lines + _ETA_WINDOW) * _LINE_BYTES
    reader = Reader(path, start=max(0, before_last))
    yield from deque(map(lines.line, reader.read_on(to_the_end=False)), maxlen=n_lines)
    while follow:
        time.sleep(POLL_S)
        if reader.is_outdated:
            is_shorter = os.stat(path).st_size < reader.end
            reader.restart()
            what = "is shorter than before" if is_shorter else "is not the file it was"
            yield printable(f"{path}: {what}; from its beginning")
        yield from map(lines.line, reader.read_on(to_the_end=False))


def remark(record: Record) -> str:
    """What a session says of records that are elsewhere, were not logged, or are lost."""
    f = record.fields
    match record.event:
        case "segment":
            where = os.path.join(str(f.get("folder") or ""), str(f.get("file")))
            return (
                f"segment    session {record.s} goes on in {where} from record {f.get('first_n')}"
            )
        case "ignored":
            return f"ignored    {f.get('events')} events were not logged: {f.get('why')}"
        case _:
            return (
                f"lost       session {f.get('session')} had {f.get('records')} records when its "
                f"checkpoint was written, {f.get('found')} were found"
            )


def duration(seconds: float) -> str:
    """1:05:09, 4:31 or 0:07."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _count(i: Any, of: int | None) -> str:
    return f"{i!s:>6}" if of is None else f"{i!s:>{len(str(of))}}/{of}"


def _figure(fields: dict[str, Any], key: str, form: str) -> str:
    """A number as told, or the name of what it was instead: nan, inf, nothing."""
    value = fields.get(key)
    if isinstance(value, int | float):
        return format(value, form)
    return str(_dict(fields.get("nonfinite")).get(key, "-"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
