"""The run and its JSON: the nine keys of the training logging guide, then `journal`.

Strict JSON, one array element a line, so that `diff`, `grep` and `tail` work on it as well as `jq`.
Also reads what earlier loggers wrote: times without offset, `end_time` and `summary` last or
missing, bare NaN, `mfu` as an object.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from eventlog.errors import UnreadableRun
from eventlog.fold import flat_rows
from eventlog.fold import losses as losses_
from eventlog.fold import series as run_series
from eventlog.fold.rows import HasPieces, Row, Rows
from eventlog.fold.series import Series
from eventlog.format.files import RUN_JSON_SUFFIX, journal_path
from eventlog.format.json_rows import encode_row
from eventlog.format.text import did_you_mean, similar
from eventlog.notebook import frame_of_rows, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

KEYS = (
    "run_name",
    "start_time",
    "end_time",
    "config",
    "training_iterations",
    "eval_steps",
    "checkpoints",
    "metadata",
    "summary",
    "journal",
)
METRICS = "metrics"
"""An eleventh key, if there are any; before `metadata`, so that both ends of a file are short."""


_TYPES = (
    dict.fromkeys(("run_name", "start_time", "end_time"), "a text")
    | dict.fromkeys(("config", "metadata", "summary", "journal"), "an object")
    | dict.fromkeys(
        ("training_iterations", "eval_steps", "checkpoints", METRICS), "a list of objects"
    )
)
_LINES_AT_ONCE = 64  # texts of `Rows` in one piece of the document; each may have 800 rows


@dataclass
class Run:
    """One training run. `training_iterations[i]` is a dict, as in the JSON."""

    run_name: str = ""
    start_time: str | None = None
    end_time: str | None = None
    config: Row = field(default_factory=dict)
    training_iterations: Sequence[Row] = field(default_factory=list)
    eval_steps: Sequence[Row] = field(default_factory=list)
    checkpoints: Sequence[Row] = field(default_factory=list)
    metrics: Sequence[Row] = field(default_factory=list)
    """Free-form numbers, a row a step."""
    metadata: Row = field(default_factory=dict)
    summary: Row = field(default_factory=dict)
    journal: Row = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)
    """The file it was read from."""

    @property
    def status(self) -> str:
        """`running`, `completed`, `interrupted`, `failed`; `unknown` in an older logger's file."""
        if self.journal:
            return str(self.journal.get("status"))
        return "completed" if self.end_time else "unknown"

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of a table, one value per column, in the order of its axis.

        `iterations`, `evals`, `checkpoints` and `system` are ordered by `iter`, `metrics` by
        `step`. Objects within a row are dotted names, lists are JSON text, NaN and infinities are
        numbers. `system` has a row for each sample of the machine, with its `timestamp` and the
        last iteration before it.

        Raises:
            ValueError: unknown table.
            OSError: the journal, which alone has `system`, is not there or not readable.
        """
        flat_rows.check_table(table)
        if table == flat_rows.SYSTEM:
            return flat_rows.system_rows(self._journal_path())
        return flat_rows.flat_rows(getattr(self, flat_rows.kind_of(table).key), table)

    @property
    def name(self) -> str:
        """What a person renamed it to (`runs rename`), else its `run_name`."""
        return str(self.journal.get("name") or self.run_name)

    def series(self, *patterns: str) -> dict[str, Series]:
        """The series of the run by name, each with its summary; see `fold/series.py`.

        `patterns` are names of series, `TABLE/COLUMN`, or have wildcards (`train/*`); without any:
        all of the run JSON. `system` has no summary in a run JSON: its series are read from the
        journal where a pattern begins with `system/`.

        Raises:
            OSError: the journal, which alone has `system`, is not there or not readable.
        """
        logged: list[Series] = []
        for table in flat_rows.tables():
            stored = self._summaries() if table == METRICS else None
            if stored is not None:
                logged += [
                    run_series.of_summary(name, of_name)
                    for name, of_name in stored.items()
                    if name not in flat_rows.ASIDE_NAMES
                ]
            else:
                rows = getattr(self, flat_rows.kind_of(table).key)
                if isinstance(rows, HasPieces):
                    logged += run_series.of_pieces(table, rows.pieces())
                else:
                    logged += run_series.of_rows(table, self.rows(table))
        if any(pattern.startswith("system/") for pattern in patterns):
            logged += run_series.of_rows(flat_rows.SYSTEM, self.rows(flat_rows.SYSTEM))
        definitions = self.journal.get("definitions") or {}
        of_metrics = self.journal.get(METRICS)  # also where the rows themselves were not read
        n_rows = of_metrics.get("rows") if isinstance(of_metrics, dict) else None
        named = run_series.by_name(logged, definitions, n_rows or len(self.metrics))
        return run_series.select(named, patterns) if patterns else named

    def losses(self) -> tuple[Series | None, Series | None]:
        """The series that are its training and its validation loss; None where there is none.

        Those of `iterations` and `evals`, else the metrics that have usual names of losses.
        """
        return losses_.losses(self.series())

    def ends_nonfinite(self) -> dict[str, str]:
        """The series whose last value is `nan`, `inf` or `-inf`, and which; without reading rows.

        Of iterations and evals: those of the last row of the table.
        """
        names = dict(self.journal.get("ends_nonfinite") or {})
        if not self.journal:  # of another logger, whose rows were read
            for table, rows in (
                ("iterations", self.training_iterations),
                ("evals", self.eval_steps),
            ):
                names |= run_series.nonfinite_in(table, rows[-1] if rows else {})
        for name, summary in (self._summaries() or {}).items():
            mark = summary["nonfinite"].get("last") if summary.get("nonfinite") else None
            if mark is not None:
                names[name] = str(mark)
        return names

    def _summaries(self) -> Row | None:
        """The summaries of `metrics`; None where the run JSON has none, or an earlier version's."""
        of_metrics = self.journal.get(METRICS)
        names = of_metrics.get("names") if isinstance(of_metrics, dict) else None
        if not isinstance(names, dict):
            return None
        is_whole = all(
            isinstance(of_name, dict) and "count" in of_name for of_name in names.values()
        )
        return names if is_whole else None

    def points(self, name: str, x: str | None = None) -> Iterator[tuple[Any, Any]]:
        """The values of a series with their places on its axis, in order; NaN is a float.

        `x` None: the axis is the step, or the iteration. Otherwise it is another series of the same
        table (such as its `step_metric`), by its latest value at each step; values before its first
        one are left out.

        Raises:
            ValueError: the run has no such series; names the nearest.
            OSError: as `rows`.
        """
        one = self._one_series(name)
        axis = flat_rows.axis_of(one.table) if x is None else self._one_series(x).column
        place = None
        for row in self.rows(one.table):
            place = row.get(axis, place)
            value = row.get(one.column)
            if value is not None and place is not None:
                yield place, value

    def _one_series(self, name: str) -> Series:
        matching = self.series(name)
        if matching:
            return next(iter(matching.values()))
        hint = did_you_mean(similar(name, self.series()))
        raise ValueError(f"{self.run_name}: unknown series: {name!r}.{hint}")

    def frame(self, table: str = "iterations") -> "DataFrame":
        """The rows of a table (see `rows`) as a pandas frame.

        `time_ms` is in milliseconds, `mfu` in percent (-100: unknown), losses are in nats;
        `timestamp` is an ISO 8601 text in UTC. Rows of `iterations` and `metrics` have theirs
        where the journal is beside the run JSON. A missing number is NaN, as pandas has it. A
        column with integers beyond 2^53 in which one is missing has Python's own numbers.

        Raises:
            ImportError: pandas is not installed.
            ValueError, OSError: as `rows`.
        """
        rows = [*self.rows(table)]
        axis = flat_rows.axis_of(table)
        frame = frame_of_rows(rows, axis)
        if rows and table in ("iterations", "metrics") and "timestamp" not in frame:
            with contextlib.suppress(OSError):
                times = flat_rows.logged_times(self._journal_path(), table)
                frame["timestamp"] = frame[axis].map(times.get)
        return frame

    def plot(self, kind: str | None = None, **options: Any) -> "Figure":
        """A matplotlib Figure of this run, which a notebook shows: see `eventlog.plot`."""
        return plot([self], kind, **options)

    def _journal_path(self) -> Path:
        """The journal beside the file that the run was read from.

        Raises:
            FileNotFoundError: the run was read from no file.
        """
        if self.path is None:
            raise FileNotFoundError(f"{self.run_name}: was not read from a file, so has no journal")
        return journal_path(self.path) if self.path.suffix == RUN_JSON_SUFFIX else self.path

    def to_json(self) -> Iterator[bytes]:
        """The document in pieces. Equal runs give equal bytes."""
        yield b'{\n  "run_name": ' + encode_row(self.run_name)
        yield b',\n  "start_time": ' + encode_row(self.start_time)
        yield b',\n  "end_time": ' + encode_row(self.end_time)
        yield from _block("config", self.config)
        for key in ("training_iterations", "eval_steps", "checkpoints"):
            yield from _block(key, getattr(self, key))
        if self.metrics:
            yield from _block(METRICS, self.metrics)
        for key in ("metadata", "summary", "journal"):
            yield from _block(key, getattr(self, key))
        yield b"\n}\n"


def _block(key: str, rows: Row | Sequence[Row]) -> Iterator[bytes]:
    """One top-level array or object, an element a line."""
    if isinstance(rows, Mapping):
        lines: Iterator[bytes] = (encode_row(k) + b": " + _value(v) for k, v in rows.items())
        left, right = b"{", b"}"
    else:
        lines = _of_rows(rows)
        left, right = b"[", b"]"
    first = next(lines, None)
    if first is None:
        yield b',\n\n  "%b": %b%b' % (key.encode(), left, right)
        return
    yield b',\n\n  "%b": %b\n    %b' % (key.encode(), left, first)
    while some := b",\n    ".join(islice(lines, _LINES_AT_ONCE)):
        yield b",\n    " + some
    yield b"\n  " + right


def _of_rows(rows: Sequence[Row]) -> Iterator[bytes]:
    if isinstance(rows, Rows):
        return (text.replace(b"\n", b",\n    ") for text in rows.texts())
    return map(encode_row, rows)


def _value(value: Any) -> bytes:
    """A list of objects (sessions, defects) gets a line for each, everything else is one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return b"[\n      " + b",\n      ".join(map(encode_row, value)) + b"\n    ]"
    return encode_row(value)


def parse_run(data: bytes, path: Path) -> Run:
    """The run of a run JSON's bytes. `summary` is as stored: {} where the file has none.

    Raises:
        UnreadableRun: no JSON, or not a run; names the byte where reading stopped.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as strict:
        try:
            document = json.loads(data)  # the guide's first logger wrote bare NaN
        except (ValueError, RecursionError):
            raise UnreadableRun(
                f"{path}: not a run JSON: {strict.msg} at byte {strict.pos:,} of {len(data):,}. "
                f"If its journal is beside it: eventlog compact {journal_path(path)}"
            ) from None
        document = _named_nonfinite(document)
    if not isinstance(document, dict) or not isinstance(document.get("training_iterations"), list):
        raise UnreadableRun(f"{path}: valid JSON, but not a run: it has no training_iterations")
    values = {k: document[k] for k in KEYS if document.get(k) is not None}
    for key, value in values.items():
        if not _fits(key, value):
            raise UnreadableRun(
                f"{path}: valid JSON, but not a run: {key} has the wrong type: "
                f"expected {_TYPES[key]}, found {_type_name(value)}"
            )
    if _fits(METRICS, document.get(METRICS)):  # another logger may mean something else by it
        values[METRICS] = document[METRICS]
    run = Run(path=path, **values)
    for row in () if run.journal else run.training_iterations:  # of an earlier logger
        if type(row.get("mfu")) is dict:
            row["mfu_breakdown"] = row["mfu"]
            row["mfu"] = row["mfu"].get("mfu_percent", -100.0)
    run.run_name = run.run_name or path.stem
    return run


def _fits(key: str, value: Any) -> bool:
    """Whether `value` has the shape that this key of a run JSON has."""
    if _TYPES[key] == "a text":
        return isinstance(value, str)
    if _TYPES[key] == "an object":
        return isinstance(value, dict)
    return isinstance(value, list) and {*map(type, value)} <= {dict}


def _type_name(value: Any) -> str:
    names = {str: "a text", dict: "an object", list: "a list", bool: "true or false"}
    return names.get(type(value), "a number")


def _named_nonfinite(value: Any) -> Any:
    """A bare NaN of an older logger as this format writes it: null, and its name beside it."""
    if isinstance(value, list):
        return [_named_nonfinite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        bad = {k: str(v) for k, v in value.items() if isinstance(v, float) and not math.isfinite(v)}
        named = [("nonfinite", bad)] if bad else []
        return dict(chain(((k, _named_nonfinite(v)) for k, v in value.items()), named))
    return value
