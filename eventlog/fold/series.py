"""Series: each column of a run's tables, under a name that is the same for every tool.

    loss, lr, time_ms            of `iterations`
    eval/val_loss                of `evals`
    train/loss, val.acc          of `metrics`: as it was logged
    checkpoint/val_loss, system/cpu_percent

`TABLE/COLUMN` (`iterations/loss`, `metrics/loss`) names a series too, and where a run logs a metric
under the name of another series, that one has only this name.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import Any, Literal

from eventlog.fold.flat_rows import axis_of, flat_cells, kind_of
from eventlog.format.events import MFU_UNKNOWN

Row = dict[str, Any]
Goal = Literal["minimize", "maximize"]

PREFIXES = {
    "metrics": "",
    "iterations": "",
    "evals": "eval/",
    "checkpoints": "checkpoint/",
    "system": "system/",
}
"""What the names of each table's series begin with. Of equal names the first table's counts."""

_HIGHER = ("acc", "accuracy", "f1", "auc", "bleu", "rouge", "reward", "return", "map", "iou",
           "precision", "recall", "score", "top1", "top5", "mfu", "tokens_per_s")  # fmt: skip
_LOWER = ("loss", "perplexity", "ppl", "error", "err", "wer", "cer", "mse", "mae", "rmse", "nll",
          "bpb", "time_ms")  # fmt: skip
COUNTERS = ("iter", "iteration", "global_step", "trainer/global_step", "train/global_step")
"""Names under which programs log their own number of the step, the most usual first."""
_NO_VALUE = ("iter", "step", "timestamp", "path", "sha256", "file")
_WILD = frozenset("*?[")
_NUMBERS = frozenset((int, float))


@dataclass(frozen=True)
class Series:
    """One series of a run: its names, its summary, and what the run says about it."""

    name: str
    table: str
    column: str
    count: int = 0
    """How many values it has, those that are not finite included."""
    last: Any = None
    last_step: int | None = None
    min: float | None = None
    """The least of the finite values, and the first step that has it."""
    min_step: int | None = None
    max: float | None = None
    max_step: int | None = None
    n_nonfinite: int = 0
    n_superseded: int = 0
    definition: Mapping[str, Any] = field(default_factory=dict)
    """`unit`, `goal`, `description`, `step_metric`, `hidden`, as the run defined them."""
    step_metric: str | None = None
    """The series that is its x axis: as defined, else a counter that the program logs in every row
    of metrics (`COUNTERS`); None: the step."""

    @property
    def goal(self) -> Goal | None:
        """Whether less or more is better: as defined, else by its usual name; None: unknown."""
        goal = self.definition.get("goal")
        if goal in ("minimize", "maximize"):
            return goal  # type: ignore[no-any-return]
        parts = set(self.name.lower().replace(".", "/").replace("_", "/").split("/"))
        whole = self.name.lower().replace(".", "/").rpartition("/")[2]
        if whole in _LOWER or parts & {*_LOWER}:
            return "minimize"
        return "maximize" if whole in _HIGHER or parts & {*_HIGHER} else None

    @property
    def best(self) -> float | None:
        """The least value, or the greatest where more is better."""
        return self.max if self.goal == "maximize" else self.min

    @property
    def best_step(self) -> int | None:
        return self.max_step if self.goal == "maximize" else self.min_step

    @property
    def ends_nonfinite(self) -> bool:
        """Whether its last value is NaN or infinite."""
        return isinstance(self.last, float) and not math.isfinite(self.last)

    @property
    def is_numeric(self) -> bool:
        """Whether it has a number, finite or not."""
        return self.min is not None or self.n_nonfinite > 0


def of_summary(name: str, summary: Mapping[str, Any], table: str = "metrics") -> Series:
    """The series of a summary in a run JSON (`journal.metrics.names`)."""
    last, named = summary.get("last"), summary.get("nonfinite")
    if last is None and isinstance(named, dict) and isinstance(named.get("last"), str):
        last = float(named["last"])
    if isinstance(last, list):  # as in a flat row
        last = json.dumps(last)
    return Series(
        prefix_of(table) + name,
        table,
        name,
        count=summary.get("count", 0),
        last=last,
        last_step=summary.get("step"),
        min=summary.get("min"),
        min_step=summary.get("min_step"),
        max=summary.get("max"),
        max_step=summary.get("max_step"),
        n_nonfinite=summary.get("n_nonfinite", 0),
        n_superseded=summary.get("superseded", 0),
    )


def nonfinite_in(table: str, row: Row) -> dict[str, str]:
    """The series that are NaN or infinite in a row of a run JSON, and which of these."""
    if not row.get("nonfinite"):
        return {}
    values = flat_cells(row).items()
    return {
        prefix_of(table) + column: str(value)
        for column, value in values
        if isinstance(value, float) and not math.isfinite(value)
    }


def prefix_of(table: str) -> str:
    """What the names of a table's series begin with; of a kind that was added, its name."""
    prefix = PREFIXES.get(table)
    return f"{kind_of(table).name}/" if prefix is None else prefix


def of_rows(table: str, rows: Iterable[Row]) -> list[Series]:
    """The series of a table, from its flat rows in the order of its axis."""
    summaries: dict[str, _Summary] = {}
    _add_rows(summaries, axis_of(table), rows)
    return _named(table, summaries)


def _add_rows(summaries: "dict[str, _Summary]", axis: str, rows: Iterable[Row]) -> None:
    for row in rows:
        step = row.get(axis)
        for column, value in row.items():
            if value is None or column in _NO_VALUE or (column == "mfu" and value == MFU_UNKNOWN):
                continue
            summary = summaries.get(column)
            if summary is None:
                summary = summaries[column] = _Summary()
            summary.add(step, value)


def _named(table: str, summaries: "Mapping[str, _Summary]") -> list[Series]:
    return [
        Series(prefix_of(table) + column, table, column, **vars(summary))
        for column, summary in summaries.items()
    ]


def of_pieces(table: str, pieces: Iterable[tuple[list[Row], bool]]) -> list[Series]:
    """As `of_rows`, of lists of rows and whether each list is flat."""
    axis = axis_of(table)
    summaries: dict[str, _Summary] = {}
    for rows, is_flat in pieces:
        columns = _columns(rows, axis) if is_flat else None
        if columns is None:
            _add_rows(summaries, axis, rows if is_flat else map(flat_cells, rows))
            continue
        steps = columns.pop(axis)
        for column, values in columns.items():
            if column not in _NO_VALUE:
                summaries.setdefault(column, _Summary()).add_all(steps, values)
    return _named(table, summaries)


def _columns(rows: list[Row], axis: str) -> dict[str, list[Any]] | None:
    """The columns of flat rows; None: these differ, or some values are not finite numbers."""
    names = [*rows[0]] if rows else []
    if axis not in names or sum(map(len, rows)) != len(names) * len(rows):
        return None
    try:
        columns = {name: [*map(itemgetter(name), rows)] for name in names}
    except KeyError:
        return None
    for values in columns.values():
        if not (_NUMBERS.issuperset(map(type, values)) and all(map(math.isfinite, values))):
            return None
    return None if MFU_UNKNOWN in columns.get("mfu", ()) else columns


class _Summary:
    def __init__(self) -> None:
        self.count = self.n_nonfinite = 0
        self.last: Any = None
        self.last_step: Any = None
        self.min: float | None = None
        self.max: float | None = None
        self.min_step: Any = None
        self.max_step: Any = None

    def add(self, step: Any, value: Any) -> None:
        self.count += 1
        self.last, self.last_step = value, step
        if type(value) not in (int, float):
            return
        if type(value) is float and not math.isfinite(value):
            self.n_nonfinite += 1
            return
        if self.min is None or value < self.min:
            self.min, self.min_step = value, step
        if self.max is None or value > self.max:
            self.max, self.max_step = value, step

    def add_all(self, steps: list[Any], values: list[Any]) -> None:
        """Add values that are all finite numbers; at least one."""
        self.count += len(values)
        self.last, self.last_step = values[-1], steps[-1]
        low, high = min(values), max(values)
        if self.min is None or low < self.min:
            self.min, self.min_step = low, steps[values.index(low)]
        if self.max is None or high > self.max:
            self.max, self.max_step = high, steps[values.index(high)]


def by_name(
    series: Iterable[Series], definitions: Mapping[str, Any], n_metric_rows: int
) -> dict[str, Series]:
    """All by name, with their definitions and axes; in the order of the tables.

    `n_metric_rows`: how many rows `metrics` has.
    """
    order = {table: at for at, table in enumerate(PREFIXES)}
    series = sorted(series, key=lambda one: order.get(one.table, len(order)))
    counter = _counter_of(series, n_metric_rows)
    named: dict[str, Series] = {}
    for one in series:
        defined = definition_of(one.name, definitions)
        axis = defined.get("step_metric") or (counter if one.table == "metrics" else None)
        if defined or axis:
            axis = axis if axis != one.name else None
            one = replace(one, definition=defined, step_metric=axis)
        if one.name in named:
            one = replace(one, name=f"{one.table}/{one.column}")
        named.setdefault(one.name, one)
    return named


def _counter_of(series: Iterable[Series], n_rows: int) -> str | None:
    """The counter that a program logs in every row of metrics, unless it is the step itself."""
    of_metrics = {one.column: one for one in series if one.table == "metrics"}
    for name in COUNTERS:
        one = of_metrics.get(name)
        if one is None or one.count != n_rows or type(one.last) is not int or one.n_nonfinite:
            continue
        is_step = (one.min, one.max) == (one.min_step, one.max_step)
        return None if is_step or one.last != one.max else name
    return None


def column_of(name: str, table: str) -> str | None:
    """The column of `table` that the name of a series may mean; None: it is of another table."""
    for prefix in (f"{table}/", PREFIXES.get(table, f"{table}/")):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return None


def definition_of(name: str, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was defined for a name: by its own name, else by the first pattern that it matches."""
    exact = definitions.get(name)
    if exact is None:
        matching = (d for pattern, d in definitions.items() if fnmatchcase(name, pattern))
        exact = next(matching, None)
    return exact if isinstance(exact, Mapping) else {}


def select(named: Mapping[str, Series], patterns: Iterable[str]) -> dict[str, Series]:
    """The series that the patterns name, in their order: a name, `TABLE/COLUMN`, or wildcards.

    A name with `*`, `?` or `[` in it that a series has exactly is that series. What matches
    nothing is left out.
    """
    chosen: dict[str, Series] = {}
    for pattern in patterns:
        chosen |= dict(_matching(named, pattern))
    return chosen


def _matching(named: Mapping[str, Series], pattern: str) -> Iterator[tuple[str, Series]]:
    if pattern in named:
        yield pattern, named[pattern]
        return
    is_wild = not _WILD.isdisjoint(pattern)
    for name, one in named.items():
        full = f"{one.table}/{one.column}"
        if full == pattern or (is_wild and fnmatchcase(name, pattern)):
            yield name, one
