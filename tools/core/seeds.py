"""Runs that differ in the seed alone, as one: groups of them, their mean, spread and difference.

groups(rows)                             # by all settings but seeds and bookkeeping
groups(rows, by=["config.lr"])           # by settings of one's choice
stat([0.91, 0.93, 0.90]).text()          # 0.9133 ± 0.0153 (3)
p_value([0.91, 0.93], [0.88, 0.87])      # of Welch's t-test
band([(steps, values), ...])             # mean, spread and extremes at each step
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventlog

from .library import need
from .rows import Row, plain, value

Floats = NDArray[np.float64]
Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, ascending, and the value at each."""

BOOKKEEPING = frozenset((
    "out_dir", "output_dir", "log_dir", "logging_dir", "save_dir", "checkpoint_dir", "work_dir",
    "cache_dir", "dir", "root", "name", "run_name", "exp_name", "experiment", "experiment_name",
    "wandb_run_name", "wandb_project", "wandb_log", "project", "group", "tags", "notes", "id",
    "resume", "resume_from", "init_from", "host", "hostname", "port", "master_port", "rank",
    "local_rank", "device", "eval_interval", "eval_steps", "log_interval", "logging_steps",
    "log_save_interval", "save_steps", "save_interval", "verbose", "report_to",
))  # fmt: skip
"""Settings that do not change what is trained; runs that differ in them are the same."""


def is_seed(name: str) -> bool:
    """Whether a setting is a seed, by the last part of its name."""
    last = name.lower().rpartition(".")[2]
    return last in ("seed", "seeds", "rng") or last.startswith("seed_") or last.endswith("seed")


@dataclass
class Group:
    """Runs with equal settings."""

    settings: dict[str, Any]
    """Those by which the groups differ, or which were asked for."""
    rows: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`lr=0.1, depth=4`; of a single group that has no such settings `all`."""
        return ", ".join(f"{_bare(k)}={v}" for k, v in self.settings.items()) or "all"

    def values(self, name: str) -> list[float]:
        """A field of the runs, of those that have it as a finite number."""
        found = (value(row, name) for row in self.rows)
        return [float(v) for v in found if type(v) in (int, float) and math.isfinite(v)]


def groups(rows: Sequence[Row], by: Sequence[str] | None = None) -> list[Group]:
    """Runs with equal settings together, in the order of the first of each group.

    `by` None: all settings count but seeds and bookkeeping, and the groups are named by those in
    which they differ.
    """
    found: dict[tuple[Any, ...], Group] = {}
    if by is not None:
        for row in rows:
            settings = {name: value(row, name) for name in by}
            key = tuple(str(plain(v)) for v in settings.values())
            found.setdefault(key, Group(settings)).rows.append(row)
        return [*found.values()]
    all_settings = [_settings(row) for row in rows]
    names = sorted({name for settings in all_settings for name in settings})
    texts = [tuple(str(plain(settings.get(name))) for name in names) for settings in all_settings]
    differing = [k for k in range(len(names)) if len({text[k] for text in texts}) > 1]
    for row, settings, text in zip(rows, all_settings, texts, strict=True):
        key = tuple(text[k] for k in differing)
        chosen = {names[k]: settings.get(names[k]) for k in differing}
        found.setdefault(key, Group(chosen)).rows.append(row)
    return [*found.values()]


def _settings(row: Row) -> dict[str, Any]:
    config = row.get("config")
    flat = eventlog.flatten(config) if isinstance(config, Mapping) else {}
    return {
        f"config.{name}": v
        for name, v in flat.items()
        if not is_seed(name) and name.lower().rpartition(".")[2] not in BOOKKEEPING
    }


def _bare(name: str) -> str:
    return name.removeprefix("config.")


@dataclass(frozen=True)
class Stat:
    """Numbers of several runs: `std` is that of a sample (n - 1), NaN of a single one."""

    n: int
    mean: float
    std: float
    min: float
    max: float

    def text(self) -> str:
        """`0.9133 ± 0.0153 (3)`."""
        if not self.n:
            return "-"
        spread = f" ± {self.std:.3g}" if self.n > 1 else ""
        return f"{self.mean:.4f}{spread} ({self.n})"


def stat(values: Sequence[float]) -> Stat:
    if not values:
        return Stat(0, math.nan, math.nan, math.nan, math.nan)
    std = stdev(values) if len(values) > 1 else math.nan
    return Stat(len(values), fmean(values), std, min(values), max(values))


def p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """How probable a difference of the means as great as this one is if there is none in truth.

    Two-sided, by Welch's t-test (the variances may differ). None where it cannot be computed: one
    side has fewer than two values, or no value differs from its side's mean.

    Raises:
        Refusal: scipy is not installed.
    """
    if len(a) < 2 or len(b) < 2 or (len({*a}) == 1 and len({*b}) == 1):
        return None
    stats = need("scipy.stats")
    p = float(stats.ttest_ind(a, b, equal_var=False).pvalue)
    return p if math.isfinite(p) else None


@dataclass(frozen=True)
class Band:
    """What several runs have at each step; `n` runs have a finite value there."""

    steps: Floats
    mean: Floats
    std: Floats
    """Of a sample (n - 1); 0 where only one run has a value."""
    low: Floats
    high: Floats
    n: NDArray[np.int64]


def band(curves: Sequence[Curve]) -> Band:
    """The curves as one, at each step at which one of them has a finite value."""
    known = []
    for curve_steps, curve_values in curves:
        x, y = np.asarray(curve_steps, np.float64), np.asarray(curve_values, np.float64)
        known.append((x[np.isfinite(y)], y[np.isfinite(y)]))
    steps = np.unique(np.concatenate([x for x, _ in known])) if known else np.empty(0)
    n = np.zeros(len(steps), np.int64)
    total, low = np.zeros(len(steps)), np.full(len(steps), np.inf)
    high = np.full(len(steps), -np.inf)
    places = [np.searchsorted(steps, x) for x, _ in known]
    for at, (_, y) in zip(places, known, strict=True):
        n[at] += 1
        total[at] += y
        low[at], high[at] = np.minimum(low[at], y), np.maximum(high[at], y)
    mean = total / np.maximum(n, 1)
    squares = np.zeros(len(steps))
    for at, (_, y) in zip(places, known, strict=True):
        squares[at] += (y - mean[at]) ** 2
    return Band(steps, mean, np.sqrt(squares / np.maximum(n - 1, 1)), low, high, n)
