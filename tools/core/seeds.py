"""Runs that differ in the seed alone, as one: groups of them, their mean, spread and difference.

groups(rows)                             # by all settings but seeds and bookkeeping
groups(rows, by=["config.lr"])           # by settings of one's choice
stat([0.91, 0.93, 0.90]).text()          # 0.9133 ± 0.0153
p_value([0.91, 0.93], [0.88, 0.87])      # of Welch's t-test
band([(steps, values), ...])             # mean, spread and extremes at each step
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventlog

from .formats import first_of, number
from .library import need
from .rows import Row, plain, value

Floats = NDArray[np.float64]
Curve = tuple[Sequence[float] | Floats, Sequence[float] | Floats]
"""Steps, ascending, and the value at each."""
TEST = "two-sided Welch's t-test against the first group"
VALUE_MAX = 40  # characters of a setting in the name of a group
DIGITS = (4, 6, 9, 12)  # of a number there: the first of these that keeps all apart

_PLACE = re.compile(
    r"_?(?:(?:default|project|hub|tensorboard|tb|wandb|mlflow)_)*"
    r"(?:out|output|log|logging|save|ckpt|checkpoint|work|working|cache|tmp|temp|run|result|exp"
    r"|experiment|artifact|snapshot|root)s?_?(?:dir|directory|path|folder|root|file|prefix)"
)
"""Where something is written."""
_NO_SETTINGS = frozenset((
    "run_name", "exp_name", "experiment_name", "job_name", "display_name", "project_name",
    "group_name", "run_id", "job_id", "task_id", "trial_id", "sweep_id", "run_group", "run_notes",
    "host", "hostname", "node", "nodename", "user", "username", "pid", "port", "master_addr",
    "master_port", "dist_url", "rank", "local_rank", "node_rank", "device_id",
    "timestamp", "start_time", "started", "started_at", "created_at", "date", "datetime",
    "resume", "resume_from", "resume_from_checkpoint", "auto_resume", "overwrite_output_dir",
    "eval_interval", "eval_steps", "log_interval", "log_every", "logging_steps",
    "log_save_interval", "save_steps", "save_interval", "save_every", "save_total_limit",
    "verbose", "report_to", "disable_tqdm", "push_to_hub", "log_level",
))  # fmt: skip
_NO_SETTINGS_ALONE = frozenset((
    "name", "id", "dir", "root", "group", "project", "entity", "experiment", "exp", "tag", "tags",
    "notes", "comment", "description", "device", "time", "output", "out",
))  # fmt: skip
"""Of no setting if nothing stands before them: `model.name` and `data.root` are settings."""
_TRACKERS = frozenset((
    "hydra", "wandb", "_wandb", "mlflow", "comet", "neptune", "logger", "loggers", "logging",
    "tracking", "tracker", "run", "experiment", "slurm", "paths",
))  # fmt: skip
_WANDB = re.compile(r"(?:use_|with_)?(?:wandb|mlflow|comet|neptune|slurm|hub|hydra)(?:_.*)?")
_STARTS = ("scratch", "resume", "auto")
"""Values of `init_from` (nanoGPT) that begin or continue the same training."""
_SEED = re.compile(
    r"seeds?|rngs?|random_?state|.*seeds?"
    r"|seeds?_(?!(?:steps?|frames|episodes|size|text|len|length|tokens|words|prompt|iters)$).*"
)
_NO_SEEDS = re.compile(r"(?:num|n|use|max)_seeds?")


def is_seed(name: str) -> bool:
    """Whether a setting is a seed, by one of the parts of its name."""
    parts = name.lower().split(".")
    return any(_SEED.fullmatch(part) and not _NO_SEEDS.fullmatch(part) for part in parts)


def is_bookkeeping(name: str, setting: Any = None) -> bool:
    """Whether a setting does not change what is trained: folders, names, hosts, times, ids."""
    first, _, rest = name.lower().partition(".")
    last = rest.rpartition(".")[2] or first
    return (
        (first in _TRACKERS and bool(rest))
        or last in _NO_SETTINGS
        or (not rest and last in _NO_SETTINGS_ALONE)
        or bool(_PLACE.fullmatch(last) or _WANDB.fullmatch(last))
        or (last == "init_from" and setting in _STARTS)
    )


@dataclass
class Group:
    """Runs with equal settings."""

    name: str
    """`lr=0.1, depth=4`; of a single group that has no such settings `all`."""
    settings: dict[str, Any]
    """Those by which the groups differ, or which were asked for."""
    rows: list[Row] = field(default_factory=list)

    def stat(self, name: str) -> "Stat":
        """A field of the runs."""
        return stat(
            [value(row, name) for row in self.rows], [_mark(row, name) for row in self.rows]
        )


def groups(rows: Sequence[Row], by: Sequence[str] | None = None) -> list[Group]:
    """Runs with equal settings together, in the order of the first of each group.

    `by` None: all settings count but seeds and bookkeeping, and the groups are named by those in
    which they differ.
    """
    of_rows = [settings_of(row) if by is None else {k: value(row, k) for k in by} for row in rows]
    names = sorted({k for settings in of_rows for k in settings}) if by is None else [*by]
    keys = [tuple(key_of(settings.get(name)) for name in names) for settings in of_rows]
    used = [k for k in range(len(names)) if by is not None or len({key[k] for key in keys}) > 1]
    bare = shortest([names[k] for k in used])
    columns = [texts([settings.get(names[k]) for settings in of_rows]) for k in used]
    by_key: dict[tuple[Any, ...], Group] = {}
    for at, (row, settings, key) in enumerate(zip(rows, of_rows, keys, strict=True)):
        chosen = {names[k]: settings.get(names[k]) for k in used}
        pairs = zip(bare, columns, strict=True)
        name = ", ".join(f"{short}={column[at]}" for short, column in pairs) or "all"
        group = Group(name, chosen)
        by_key.setdefault(tuple(key[k] for k in used), group).rows.append(row)
    return [*by_key.values()]


def seed_of(row: Row) -> Any:
    """The first of a run's seeds; None: its config has none."""
    config = row.get("config")
    flat = eventlog.flatten(config) if isinstance(config, Mapping) else {}
    return next((v for name, v in flat.items() if is_seed(name) and v is not None), None)


def keys_of(text: str) -> list[str] | None:
    """The keys of `--group-by`; None: `seeds`, so all settings but those."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return None if names == ["seeds"] else names


def notes_on(found: Sequence[Group], by: Sequence[str] | None) -> list[str]:
    """What a table of groups does not show: other differences within one, runs without a config."""
    notes = []
    keys = by or ()
    for group in found if keys else ():
        within = groups(group.rows)
        settings = [name for name in within[0].settings if name not in keys]
        differing = [n for name in settings if (n := name.removeprefix("config.")) not in keys]
        if len(within) > 1 and differing:
            notes.append(f"{group.name}: its runs also differ in {first_of(differing, 5)}")
    without = sum(not row.get("config") for group in found for row in group.rows)
    if by is None and without:
        notes.append(f"{without:,} run{'' if without == 1 else 's'} without a config: one group")
    return notes


def settings_of(row: Row) -> dict[str, Any]:
    """The settings of a run that change what is trained, without seeds, each as `config.NAME`."""
    config = row.get("config")
    flat = eventlog.flatten(config) if isinstance(config, Mapping) else {}
    return {
        f"config.{name}": v
        for name, v in flat.items()
        if not is_seed(name) and not is_bookkeeping(name, v)
    }


def key_of(setting: Any) -> Any:
    """Equal for equal settings: 1 and 1.0 are, NaN and NaN too."""
    setting = plain(setting)
    return setting if setting == setting else "nan"


def shortest(names: Sequence[str]) -> list[str]:
    """Each name by as many of its last parts as tell it from the others."""
    parts = [name.removeprefix("config.").split(".") for name in names]
    n_shared = Counter(".".join(of[-n:]) for of in parts for n in range(1, len(of) + 1))
    return [
        next((t for n in range(1, len(of)) if n_shared[t := ".".join(of[-n:])] == 1), ".".join(of))
        for of in parts
    ]


def texts(settings: Sequence[Any]) -> list[str]:
    """Values of one setting as text: numbers in few digits, but different ones differ."""
    values = [plain(setting) for setting in settings]
    floats = {v for v in values if isinstance(v, float)}
    n_digits = next((n for n in DIGITS if len({f"{v:.{n}g}" for v in floats}) == len(floats)), None)
    return [_shown(v, n_digits if isinstance(v, float) else None) for v in values]


def _shown(value: Any, n_digits: int | None) -> str:
    text = str(value)
    if n_digits is not None and len(brief := f"{value:.{n_digits}g}") < len(text):
        return brief
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 1]}…"


@dataclass(frozen=True)
class Stat:
    """Numbers of several runs: `std` is that of a sample (n - 1), NaN of a single one."""

    n: int
    mean: float
    std: float
    min: float
    max: float
    values: list[float] = field(default_factory=list)
    n_runs: int = 0
    n_nonfinite: int = 0
    """Runs whose value is NaN or infinite: they are in none of the numbers above."""

    def text(self) -> str:
        """`0.9133 ± 0.0153`; where not all runs have a number: `0.9133 ± 0.0153 (3 of 5, ...)`."""
        is_whole = self.mean.is_integer() and (self.n == 1 or self.std == 0)
        text = f"{self.mean:,.0f}" if is_whole else number(self.mean) if self.n else "-"
        text += f" ± {number(self.std) if self.std else 0}" if self.n > 1 else ""
        notes = [f"{self.n} of {self.n_runs}"] if self.n < self.n_runs else []
        notes += [f"{self.n_nonfinite} not finite"] if self.n_nonfinite else []
        return f"{text} ({', '.join(notes)})" if notes else text

    def as_json(self) -> dict[str, Any]:
        """Unknown numbers are None."""
        numbers = {"mean": self.mean, "std": self.std, "min": self.min, "max": self.max}
        finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        return {"n": self.n, **finite, "n_nonfinite": self.n_nonfinite}


def stat(values: Sequence[Any], marks: Sequence[Any] = ()) -> Stat:
    """What the runs have; `marks`: the name of a value that is None because it is not finite."""
    finite = [float(v) for v in values if type(v) in (int, float) and math.isfinite(v)]
    n_bad = sum(isinstance(v, float) and not math.isfinite(v) for v in values)
    n_bad += sum(v is None and bool(mark) for v, mark in zip(values, marks, strict=False))
    if not finite:
        return Stat(0, *(math.nan,) * 4, finite, len(values), n_bad)
    std = stdev(finite) if len(finite) > 1 else math.nan
    numbers = fmean(finite), std, min(finite), max(finite)
    return Stat(len(finite), *numbers, finite, len(values), n_bad)


def _mark(row: Row, name: str) -> Any:
    return row.get("nonfinite", {}).get(name)


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


def difference(stat: Stat, first: Stat) -> dict[str, Any]:
    """The difference of a mean to the first one, and its p-value (`TEST`) or why there is none.

    Raises:
        Refusal: as `p_value`.
    """
    known = bool(stat.n and first.n)
    p, why = None, None
    if known:
        p = p_value(stat.values, first.values)
    if min(stat.n, first.n) < 2:
        why = f"n = {min(stat.n, first.n)}: the test needs two values on each side"
    elif p is None:
        why = "no spread on either side"
    return {"diff": stat.mean - first.mean if known else None, "p": p, "why_no_p": why}


def notes_on_test(why_no_p: Iterable[tuple[str, str | None]], *, several: bool) -> list[str]:
    """What Δ and p of a table of groups are.

    Args:
        why_no_p: names of groups, and why one of their p-values is unknown, or None.
        several: the table has more than one p-value.
    """
    more = "; not corrected for several comparisons" if several else ""
    reasons = dict.fromkeys(f"{name}: no p-value, {why}" for name, why in why_no_p if why)
    return [f"Δ: to the first group. p: {TEST}{more}", *reasons]


@dataclass(frozen=True)
class Band:
    """What several runs have at each step; `n` runs have a finite value there."""

    steps: Floats
    mean: Floats
    std: Floats
    """Of a sample (n - 1); NaN where only one run has a value."""
    low: Floats
    high: Floats
    n: NDArray[np.int64]


def band(curves: Sequence[Curve]) -> Band:
    """The curves as one, at each step at which one of them has a finite value.

    A run counts from its first to its last step: between two of its values it is on the straight
    line through them, so that runs which log at other steps do not make the mean jump. It does not
    count next to a value that is not finite.
    """
    known = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in curves if len(x)]
    known = [(x, np.where(np.isfinite(y), y, np.nan)) for x, y in known]
    steps = np.unique(np.concatenate([np.empty(0), *(x[np.isfinite(y)] for x, y in known)]))
    table = np.array([_on(steps, x, y) for x, y in known]).reshape(len(known), len(steps))
    is_known = np.isfinite(table)
    n = is_known.sum(axis=0)
    mean = np.where(is_known, table, 0.0).sum(axis=0) / np.maximum(n, 1)
    squares = np.where(is_known, (table - mean) ** 2, 0.0).sum(axis=0)
    std = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
    low, high = (np.where(is_known, table, end) for end in (np.inf, -np.inf))
    if not len(known):
        return Band(steps, mean, std, mean, mean, n)
    return Band(steps, mean, std, low.min(axis=0), high.max(axis=0), n)


def _on(steps: Floats, x: Floats, y: Floats) -> Floats:
    """A curve at some steps: exactly its own values at its own steps, NaN outside of it."""
    values: Floats = np.interp(steps, x, y, left=np.nan, right=np.nan)
    at = np.searchsorted(x, steps).clip(0, len(x) - 1)
    is_own = x[at] == steps
    values[is_own] = y[at[is_own]]
    return values
