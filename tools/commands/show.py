"""`runs show`: everything about one run on one screen."""

import argparse
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.table import Table

import eventlog

from ..core import rows, runs, series
from ..core.formats import to_the_second
from ..core.origin import origin
from ..core.table import in_full, one_line, print, print_json, print_rich
from .agreement import loss_of

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
SPARK_COLUMNS = 60
SERIES_MAX = 40
"""Lines of a run's series, and prefixes of their names that are shown."""
_LABEL_COLUMNS = 12
_LAST_MAX = 200  # characters of a value that is a text or a list


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Show one run: its loss curve, series, config, summary, sessions, defects, notes."
    command = commands.add_parser("show", help=summary, description=summary)
    command.add_argument("run_name", metavar="RUN")
    command.add_argument(
        "--series",
        action="append",
        metavar="NAME",
        help="only its series of this name, or all that match 'train/*'; may be repeated",
    )
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    found = runs.one(arguments.run_name)
    assert found.run is not None
    if arguments.series:
        return _show_series(found, arguments.series, as_json=arguments.json)
    if arguments.json:
        print_json([described(found)])
        return 0
    for heading, pairs in _sections(found, found.run):
        if heading:
            print(f"\n{heading}")
        _print_pairs(pairs)
    return 0


def _show_series(found: runs.Found, patterns: list[str], *, as_json: bool) -> int:
    """Print the series that `patterns` name, all of them."""
    source = series.Source(found)
    named: dict[str, eventlog.Series] = {}
    for pattern in patterns:
        chosen = source.series(pattern)
        if not chosen:
            raise series.unknown("--series", pattern, source.series())
        named |= chosen
    if as_json:
        print_json({"name": name, **series.summary(one)} for name, one in named.items())
    else:
        _print_pairs([(name, _series_text(one)) for name, one in named.items()])
    return 0


def described(found: runs.Found) -> dict[str, Any]:
    """The run JSON without its arrays, and the path of the file."""
    run = found.run
    assert run is not None
    return {
        "run_name": run.run_name,
        "path": str(found.path),
        "live": found.is_live,
        "status": run.status,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "config": run.config,
        "metadata": run.metadata,
        "summary": run.summary,
        "series": {name: series.summary(one) for name, one in run.series().items()},
        "journal": run.journal,
    }


Pairs = list[tuple[str, str]]


def _sections(found: runs.Found, run: eventlog.Run) -> list[tuple[str, Pairs]]:
    journal = run.journal
    sections = [("", _head(found, run)), ("loss", _curves(run))]
    sections.append(("series", _series(run.series())))
    sections += [(part, _values(getattr(run, part))) for part in ("config", "metadata")]
    sections.append(("summary", _values(_logged_summary(run))))
    sections.append(("summary set by the run", _values(journal.get("summary") or {})))
    sections.append(("origin", _values(origin(run))))
    sessions = journal.get("sessions") or []
    is_last_live = [False] * (len(sessions) - 1) + [found.is_live]
    sections.append(("sessions", list(map(_session, sessions, is_last_live))))
    sections.append(("defects", [_defect(d) for d in journal.get("defects") or []]))
    sections.append(("notes", [_note(n) for n in journal.get("notes") or []]))
    return [(heading, pairs) for heading, pairs in sections if pairs]


def _head(found: runs.Found, run: eventlog.Run) -> Pairs:
    journal = run.journal
    reason = f": {journal['reason']}" if journal.get("reason") else ""
    superseded = ", ".join(
        eventlog.counted(n, "metric value" if what == "metrics" else what.removesuffix("s"))
        for what, n in (journal.get("superseded") or {}).items()
        if n
    )
    missing = ", ".join(f"{a} to {b}" for a, b in journal.get("missing_iterations") or [])
    status = rows.status(rows.row(found))
    pairs = [
        ("run", run.name if run.name == run.run_name else f"{run.name} ({run.run_name})"),
        ("status", ("● " if found.is_live else "") + status + reason),
        ("file", str(found.path)),
        ("started", to_the_second(run.start_time)),
        ("ended", to_the_second(run.end_time)),
        ("tags", " ".join(journal.get("tags") or [])),
        ("superseded", superseded),
        ("missing", f"iterations {missing}" if missing else ""),
    ]
    return [(name, one_line(text)) for name, text in pairs if text]


def _curves(run: eventlog.Run) -> Pairs:
    curves: dict[str, list[tuple[Any, float | None]]] = {
        "train": [(row.get("iter"), loss_of(row)) for row in run.training_iterations],
        "val": [(row.get("iter"), loss_of(row, "val_loss")) for row in run.eval_steps],
    }
    if not any(curves.values()):  # metrics: under their own names
        losses = (one for one in run.losses() if one is not None)
        curves = {one.name: _numbers(run.points(one.name)) for one in losses}
    return [
        (name, f"{sparkline([v for _, v in points])}  {_extremes(points)}")
        for name, points in curves.items()
        if points
    ]


def _numbers(points: Iterable[tuple[int, Any]]) -> list[tuple[Any, float | None]]:
    return [(step, value if type(value) in (int, float) else None) for step, value in points]


def sparkline(values: Sequence[float | None]) -> str:
    """A curve in one line: each character is the mean of a batch, `!` if it is not finite."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    bars = BARS if encoding.startswith("utf") else PLAIN_BARS
    n = min(SPARK_COLUMNS, len(values))
    cuts = [i * len(values) // n for i in range(n + 1)] if n else []
    batches = [[v for v in values[a:b] if v is not None] for a, b in pairwise(cuts)]
    means = [_mean(batch) for batch in batches]
    known = [mean for mean in means if math.isfinite(mean)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high / 2 - low / 2  # halved, so that the difference of two finite numbers is finite

    def bar(mean: float, is_empty: bool) -> str:
        if not math.isfinite(mean):
            return " " if is_empty else "!"
        return bars[round((mean / 2 - low / 2) / span * (len(bars) - 1)) if span else 0]

    return "".join(bar(mean, not s) for mean, s in zip(means, batches, strict=True))


def _mean(batch: Sequence[float]) -> float:
    return sum(v / len(batch) for v in batch) if batch else math.nan


def _extremes(points: Sequence[tuple[Any, float | None]]) -> str:
    finite = [(v, i) for i, v in points if v is not None and math.isfinite(v)]
    bad = [i for i, v in points if v is not None and not math.isfinite(v)]
    parts = []
    if finite:
        (low, low_at), (high, high_at) = min(finite), max(finite)
        parts.append(f"min {low:.4f} at {low_at}, max {high:.4f} at {high_at}")
        last = next(v for _, v in reversed(points) if v is not None)
        parts.append(f"last {last:.4f}")
    if bad:
        parts.append(f"{len(bad):,} not finite, the first at {bad[0]}")
    return ", ".join(parts)


def _logged_summary(run: eventlog.Run) -> Mapping[str, Any]:
    """The summary without what the run did not log."""
    if run.summary.get("total_iterations") or run.summary.get("total_eval_steps"):
        return run.summary
    return {name: value for name, value in run.summary.items() if value not in (None, 0)}


def _series(named: Mapping[str, eventlog.Series]) -> Pairs:
    """A line for each series; of many, the first of each prefix, and how many more there are."""
    groups: dict[str, list[str]] = {}
    for name in named:
        groups.setdefault(_prefix(name), []).append(name)
    n_each = max(1, SERIES_MAX // max(1, len(groups))) if len(named) > SERIES_MAX else SERIES_MAX
    pairs = []
    for prefix, names in [*groups.items()][:SERIES_MAX]:
        shown = names if len(names) <= n_each + 1 else names[:n_each]
        pairs += [(name, _series_text(named[name])) for name in shown]
        if n_more := len(names) - len(shown):
            pairs.append(("", f"... and {n_more:,} more: --series {shlex.quote(prefix + '*')}"))
    hidden = [*groups.values()][SERIES_MAX:]
    if hidden:
        n_more = sum(map(len, hidden))
        pairs.append(("", f"... and {n_more:,} more of other prefixes: --series '*'"))
    return pairs


def _prefix(name: str) -> str:
    """The part of a name that groups it with others: `grad/` of `grad/layer.3/weight`."""
    head, slash, _ = name.partition("/")
    return head + slash if slash else ""


def _series_text(one: eventlog.Series) -> str:
    """How many values a series has, its last, least and greatest, and what is not finite."""
    if not one.count:
        return "no value"
    unit = f" {one.definition['unit']}" if one.definition.get("unit") else ""
    last = f"{one.last:.6g}" if isinstance(one.last, float) else in_full(one.last)
    if len(last) > _LAST_MAX:
        last = f"{last[:_LAST_MAX]}... ({len(last):,} characters)"
    parts = [f"{one.count:,} value{'' if one.count == 1 else 's'}"]
    parts.append(f"last {last}{unit} at {one.last_step}")
    if one.min is not None and one.min != one.max:
        parts.append(f"min {one.min:.6g} at {one.min_step}")
        parts.append(f"max {one.max:.6g} at {one.max_step}")
    parts += [f"{one.n_nonfinite:,} not finite"] if one.n_nonfinite else []
    parts += [f"{one.n_superseded:,} superseded"] if one.n_superseded else []
    return one_line(", ".join(parts))


def _values(values: Mapping[str, Any]) -> Pairs:
    return [(str(name), in_full(value)) for name, value in values.items()]


def _session(session: Mapping[str, Any], is_live: bool) -> tuple[str, str]:
    begin, pid = session.get("from_iter"), session.get("pid")
    parts = [
        f"{session.get('records', 0):,} records",
        "" if begin is None else f"from iteration {begin:,}",
        "no iteration" if session.get("last_iter") is None else f"to {session['last_iter']:,}",
        "" if pid is None else f"pid {pid} on {session.get('host')}",
        str(session.get("status") or ("running" if is_live else "no close event")),
        str(session.get("reason") or ""),
    ]
    for key, (before, after) in (session.get("changed") or {}).items():
        parts.append(f"{key} {in_full(before)} -> {in_full(after)}")
    if session.get("found"):
        parts.append(f"found {' and '.join(session['found'])} at the end of the file")
    return to_the_second(session.get("started")), one_line(", ".join(filter(None, parts)))


def _defect(defect: Mapping[str, Any]) -> tuple[str, str]:
    lost = defect.get("lost")
    cost = "cost unknown" if lost is None else f"{eventlog.counted(lost, 'event')} lost"
    offset = defect.get("offset", 0)
    where = "beside it" if offset == -1 else f"at byte {offset:,}"
    where += f" of {defect['file']}" if defect.get("file") else ""
    return str(defect.get("kind")), one_line(f"{where}, {cost}")


def _note(note: Mapping[str, Any]) -> tuple[str, str]:
    by = f"  ({note['by']})" if note.get("by") else ""
    more = {k: v for k, v in note.items() if k not in ("t", "text", "by")}
    text = "  ".join(filter(None, (str(note.get("text") or ""), in_full(more) if more else "")))
    return to_the_second(note.get("t")), one_line(f"{text}{by}")


def _print_pairs(pairs: Pairs) -> None:
    table = Table.grid(padding=(0, 2))
    width = max(_LABEL_COLUMNS, *(len(name) for name, _ in pairs))
    table.add_column(width=width, no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(one_line(name), text)
    print_rich(table)
