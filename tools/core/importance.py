"""How much of the differences between results one setting explains, each setting alone.

importances({"lr": [1e-3, 1e-4, ...], "depth": [2, 4, ...]}, losses)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .library import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNS_MIN = 10
"""With fewer results nothing is claimed of any setting."""
LEVELS_MAX = 10  # numbers with more values are put in ranges of equally many runs
CLEAR_P = 0.05


@dataclass(frozen=True)
class Importance:
    """What of the variation of results (of their ranks) goes with one setting."""

    share: float
    """0 to 1, less what chance alone would give (epsilon squared)."""
    low: float
    high: float
    """The ends of its 90 % confidence interval."""
    p: float
    """How likely so much is if the setting has no effect, for as many settings as there are."""
    n_runs: int

    @property
    def is_clear(self) -> bool:
        """Whether it is more than chance explains."""
        return self.p < CLEAR_P

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"is_clear": self.is_clear}


def importances(
    settings: Mapping[str, Sequence[float | str | None]], results: Sequence[float]
) -> dict[str, Importance]:
    """The importance of each setting, the greatest first; without those that cannot be known.

    One-way analysis of variance of the ranks of the results over the values of each setting (what
    Kruskal and Wallis test), so a few very bad results do not decide. Numbers are groups of equal
    values, or ranges of equally many runs if there are many. p-values are corrected for the number
    of settings (Benjamini and Hochberg). Settings that were changed together have the same share.

    Args:
        settings: of each one its values, in the order of `results`; None: it was not set.

    Raises:
        Refusal: scipy is not installed.
    """
    if len(results) < RUNS_MIN:
        return {}
    stats = need("scipy.stats")
    ranks = _ranks(results)
    found = {name: _alone(_levels(values), ranks) for name, values in settings.items()}
    known = {name: one for name, one in found.items() if one is not None}
    if not known:
        return {}
    corrected = stats.false_discovery_control([one.p for one in known.values()])
    by_name = {
        name: Importance(one.share, one.low, one.high, float(p), one.n_runs)
        for (name, one), p in zip(known.items(), corrected, strict=True)
    }
    return dict(sorted(by_name.items(), key=lambda item: (-item[1].share, item[1].p)))


def shares(
    settings: Mapping[str, Sequence[float | str | None]], results: Sequence[float]
) -> dict[str, float]:
    """The share of each setting, as `importances` has it, but neither interval nor p-value."""
    if len(results) < RUNS_MIN:
        return {}
    ranks = _ranks(results)
    found = {name: _explained(_levels(values), ranks) for name, values in settings.items()}
    return {name: one[1] for name, one in found.items() if one is not None}


def _ranks(results: Sequence[float]) -> "NDArray[np.float64]":
    """The place of each result in their order; equal ones share the mean of their places."""
    _, at, counts = np.unique(np.asarray(results), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[at]
    return ranks


def _levels(values: Sequence[float | str | None]) -> "NDArray[np.int64]":
    """The group of each run: those with an equal value, or one of a range."""
    numbers = sorted({v for v in values if isinstance(v, float | int)})
    n = sum(isinstance(v, float | int) for v in values)
    if len(numbers) > min(LEVELS_MAX, n // 2):
        n_ranges = 3 if n < 30 else 4 if n < 100 else 5
        inner = np.linspace(0, 1, n_ranges + 1)[1:-1]
        edges = np.quantile([v for v in values if isinstance(v, float | int)], inner)
        range_of = {v: int(np.searchsorted(edges, v)) for v in numbers}
        values = [range_of[v] if isinstance(v, float | int) else v for v in values]
    keys: dict[Any, int] = {}
    return np.array([keys.setdefault((type(v) is str, v), len(keys)) for v in values])


def _explained(
    levels: "NDArray[np.int64]", ranks: "NDArray[np.float64]"
) -> tuple[float, float] | None:
    """Eta squared and epsilon squared of one setting; None: too few runs for its values."""
    n, k = len(ranks), int(levels.max()) + 1
    if k < 2 or n < 2 * k:
        return None
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if not total:
        return None  # all results are equal
    sizes = np.bincount(levels, minlength=k)
    means = np.bincount(levels, weights=ranks, minlength=k) / sizes
    between = float((sizes * (means - ranks.mean()) ** 2).sum())
    eta_squared = min(between / total, 1.0)
    return eta_squared, max(0.0, 1.0 - (1.0 - eta_squared) * (n - 1) / (n - k))


def _alone(levels: "NDArray[np.int64]", ranks: "NDArray[np.float64]") -> Importance | None:
    """The importance of one setting, before the correction; None: too few runs for its values."""
    explained = _explained(levels, ranks)
    if explained is None:
        return None
    n, k = len(ranks), int(levels.max()) + 1
    eta_squared, epsilon_squared = explained
    if eta_squared >= 1.0:
        return Importance(1.0, 1.0, 1.0, 0.0, n)
    ratio = (eta_squared / (k - 1)) / ((1.0 - eta_squared) / (n - k))
    low = _bound(ratio, k - 1, n - k, n, 0.95)
    # Less than chance makes on average: the interval would be empty, as if all were known.
    high = _bound(max(ratio, 1.0), k - 1, n - k, n, 0.05)
    p = float(need("scipy.stats").f.sf(ratio, k - 1, n - k))
    return Importance(epsilon_squared, low, max(high, epsilon_squared), p, n)


def _bound(ratio: float, df_between: int, df_within: int, n: int, level: float) -> float:
    """The share at which an F ratio of at most `ratio` has the probability `level` (Steiger, 2004:
    by the noncentral F distribution)."""
    stats, optimize = need("scipy.stats"), need("scipy.optimize")

    def excess(noncentrality: float) -> float:
        return float(stats.ncf.cdf(ratio, df_between, df_within, noncentrality)) - level

    if excess(0.0) <= 0.0:
        return 0.0
    most = 1.0
    while excess(most) > 0.0 and most < 1e6:
        most *= 2.0
    noncentrality = (
        optimize.brentq(excess, 0.0, most, xtol=1e-6) if excess(most) <= 0.0 else math.inf
    )
    return 1.0 if math.isinf(noncentrality) else float(noncentrality / (noncentrality + n))
