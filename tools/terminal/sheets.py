"""All that is known of one run, as tables: where it comes from, settings, series, alerts, log."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventlog import duration, seconds

from ..core.formats import to_the_second
from ..core.origin import origin
from ..core.rows import Row
from ..core.series import exact
from ..core.table import cell, in_full
from ..live import definitions
from ..live.following import Following
from ..live.search import search
from ..live.settings import leaves
from ..live.usual import usual_first
from .summary import eta_s

ROWS_MAX = 500
Rows = list[tuple[str, ...]]


@dataclass
class Sheet:
    """A table of texts."""

    columns: tuple[str, ...]
    rows: Rows
    numeric: frozenset[int] = frozenset()
    """The columns of numbers."""
    empty: str = ""
    """What there is in place of rows."""
    n_all: int = field(default=0)
    """How many rows there are before the search."""


def sheet(name: str, row: Row, run: Following, find: str) -> Sheet:
    """A table of a run, of `SHEETS`: the rows that have `find`, the first `ROWS_MAX`."""
    if name == "series":
        return _series(run, find)
    full = SHEETS[name](row, run)
    full.n_all, word = len(full.rows), find.strip().lower()
    full.rows = [cells for cells in full.rows if any(word in text.lower() for text in cells)]
    del full.rows[ROWS_MAX:]
    return full


def _run(row: Row, run: Following) -> Sheet:
    """What the run is, where it comes from, and what its summary has."""
    pairs = [*_state(row, run), *_origin(run), *_remarks(run), *_summary(run)]
    return Sheet(("of the run", "value"), [(name, text) for name, text in pairs if text])


def _state(row: Row, run: Following) -> Iterator[tuple[str, str]]:
    whole = run.run()
    reason = whole.journal.get("reason")
    yield "run", str(whole.run_name)
    yield "status", f"{whole.status}{f': {reason}' if reason else ''}"
    yield "warnings", ", ".join(row["warnings"])
    total = row.get("max_iters")
    if run.last_iter is not None:
        yield "last step", f"{run.last_iter:,}{f' of {total:,}' if total else ''}"
    if row.get("live") and (left_s := eta_s(run, total)) is not None:
        yield "time left", duration(left_s)
    begun, ended = seconds(whole.start_time), seconds(whole.end_time)
    yield "started", to_the_second(whole.start_time)
    yield "ended", to_the_second(whole.end_time)
    if begun is not None and ended is not None:
        yield "duration", duration(ended - begun)
    yield "sessions", str(row.get("sessions") or "")
    yield "file", str(row["path"])


def _origin(run: Following) -> Iterator[tuple[str, str]]:
    known = origin(run.run())
    command = known.get("command")
    yield "command", shlex.join(map(str, command)) if isinstance(command, list) else ""
    labels = {"cwd": "folder", "git_commit": "git commit", "host": "host", "user": "user"}
    for key, label in (labels | {"platform": "platform", "versions": "versions"}).items():
        yield label, in_full(known[key]) if key in known else ""


def _remarks(run: Following) -> Iterator[tuple[str, str]]:
    journal = run.run().journal
    yield "tags", " ".join(map(str, journal.get("tags") or ()))
    for note in journal.get("notes") or ():
        by = f" ({note['by']})" if note.get("by") else ""
        yield f"note {to_the_second(note.get('t'))}", f"{note.get('text') or ''}{by}"


def _summary(run: Following) -> Iterator[tuple[str, str]]:
    whole = run.run()
    has_steps = whole.summary.get("total_iterations") or whole.summary.get("total_eval_steps")
    for name, value in whole.summary.items():
        if value is not None and (value or has_steps):
            yield f"summary.{name}", in_full(value)
    for name, value in leaves(whole.journal.get("summary") or {}):
        yield f"summary.{name}", in_full(value)
    for name, value in leaves(whole.metadata):
        yield f"metadata.{name}", in_full(value)


def _settings(row: Row, run: Following) -> Sheet:
    settings: Rows = [(name, in_full(value)) for name, value in leaves(run.run().config)]
    return Sheet(("setting", "value"), settings, empty="the run has no settings")


def _series(run: Following, find: str) -> Sheet:
    """Every series that is not hidden, or those that are searched for as in `live.search`."""
    defined = definitions.of(run)
    named = defined.named()
    names = [name for name, one in named.items() if one.definition.get("hidden") is not True]
    usual, others = usual_first(search(named, find) if find.strip() else names)
    columns = ("series", "last", "at", "min", "at", "max", "at", "count", "not finite", "unit")
    rows = []
    for name in [*usual, *others][:ROWS_MAX]:
        one = named[name]
        numbers: list[Any] = [one.last, one.last_step, one.min, one.min_step, one.max, one.max_step]
        counts = [one.count, one.n_nonfinite or None]
        texts = [_number(exact(value)) for value in (*numbers, *counts)]
        rows.append((name, *texts, defined.unit(name)))
    n_all = len(named) if find.strip() else len(names)
    return Sheet(columns, rows, frozenset(range(1, 9)), "the run has no series", n_all)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}" if type(value) is int else cell(value)


def _alerts(row: Row, run: Following) -> Sheet:
    alerts = run.run().journal.get("alerts") or ()
    rows = [
        (
            to_the_second(a.get("t")),
            *(_number(a.get(key)) for key in ("rule", "state", "iter", "text")),
        )
        for a in alerts
    ]
    columns = ("time", "rule", "state", "step", "alert")
    return Sheet(
        columns, rows[::-1], frozenset((3,)), "no alerts: see runs guard, runs serve --guard"
    )


def _events(row: Row, run: Following) -> Sheet:
    marks: Rows = [
        (to_the_second(mark["t"]), mark["kind"], f"{mark['iter']:,}", str(mark["text"]))
        for mark in run.content.marks
    ]
    return Sheet(("time", "event", "step", "text"), marks[::-1], frozenset((2,)), "no events")


def _log(row: Row, run: Following) -> Sheet:
    lines: Rows = [
        (to_the_second(line["t"])[11:19], line["level"], line["logger"], line["text"])
        for line in run.content.log
    ]
    empty = "no lines of a log: see eventlog.integrations.logging_handler"
    return Sheet(("time", "level", "logger", "text"), lines[::-1], empty=empty)


SHEETS: Mapping[str, Callable[[Row, Following], Sheet]] = {
    "run": _run, "settings": _settings, "series": lambda _, run: _series(run, ""),
    "alerts": _alerts, "events": _events, "log": _log,
}  # fmt: skip
