"""The progress of a run as text: share done, remaining time, latest values and event."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from eventlog import duration, seconds

from ..core.formats import short
from ..core.rows import Row
from ..live import definitions
from ..live.following import Following
from ..live.usual import usual_first

PACE_ROWS = 200
VALUES = 4
LABELS = {"eval/val_loss": "val", "time_ms": "ms"}


def progress(row: Row) -> str:
    """Four characters: the share of a run that is not complete."""
    if row.get("progress") is not None:
        return "read"
    last, total = row.get("last_iter"), row.get("max_iters")
    last = last if last is not None else (row.get("iterations") or 0) - 1
    if row["status"] == "completed" or not total or type(last) is not int:
        return "    "
    return f"{min(99, max(0, int(100 * last / total))):3}%"


def eta_s(run: Following, total: int | None) -> float | None:
    """Seconds to the last iteration, at the pace of the latest ones."""
    rows = run.iterations
    n = min(PACE_ROWS, len(rows))
    if n < 2 or total is None:
        return None
    ends = np.array([len(rows) - n, len(rows) - 1])
    (begin, end), (first, last) = rows.times.floats_at(ends), rows.iters.floats_at(ends)
    return float((end - begin) / max(1, last - first) * max(0, total - last))


def summary(row: Row, run: Following | None) -> tuple[str, str]:
    """Two lines: status and latest values, then warnings, and why it ended or its latest event."""
    parts = [f"{row['run']}  {row['status']}"]
    warnings = ", ".join(row["warnings"])
    last, total = row.get("last_iter"), row.get("max_iters")
    if last is not None:
        parts.append(f"iter {last:,}{f'/{total:,}' if total else ''}")
    if run is None:
        return "  ".join(parts), warnings
    if row.get("live") and (left_s := eta_s(run, total)) is not None:
        parts.append(f"eta {duration(left_s)}")
    parts += [f"{LABELS.get(name, name)} {text}" for name, text in _latest_values(run)]
    reason = run.run().journal.get("reason") if not row.get("live") else None
    remarks = (warnings, _standing_alerts(run), str(reason or _latest_event(run)))
    return "  ".join(parts), "  ".join(filter(None, remarks))


def _latest_values(run: Following) -> Iterator[tuple[str, str]]:
    """The values of the first series: finite, or what they are instead."""
    defined = definitions.of(run)
    usual, others = usual_first(defined.listed())
    for name in [*usual, *others][:VALUES]:
        value, stat = _value(run, name)
        if value is not None:
            label = LABELS.get(name, name) + ("" if stat == "last" else f" {stat}")
            text = short(value) if isinstance(value, int | float) else str(value)
            unit = defined.unit(name)
            yield label, f"{text} {unit}" if unit else text


def _value(run: Following, name: str) -> tuple[Any, str]:
    """The latest value; or what the run defined for it, and its name."""
    value, stat = definitions.of(run).value(name)
    found = run.content.find(name)
    if stat != "last" or found is None:
        return value, stat
    _, rows, column = found
    return rows.last_mark(column) or rows.columns[column].last(), stat


def _standing_alerts(run: Following) -> str:
    """The alerts of the run that are not over: `alert spike: loss 30`."""
    standing: dict[tuple[Any, Any], str] = {}
    for alert in run.run().journal.get("alerts") or ():
        key = alert.get("rule"), alert.get("session")
        standing.pop(key, None)
        if alert.get("state") != "over":
            standing[key] = f"alert {alert.get('rule')}: {alert.get('text')}"
    return "  ".join(standing.values())


def _latest_event(run: Following) -> str:
    """The latest mark of a time line but alerts, which are beside it."""
    mark = next((mark for mark in reversed(run.content.marks) if mark["kind"] != "alert"), None)
    if mark is None:
        return ""
    at = time.strftime("%H:%M:%S", time.localtime(seconds(mark["t"]))) if mark["t"] else ""
    return f"{at} {mark['kind']} at {mark['iter']:,}  {mark['text']}"
