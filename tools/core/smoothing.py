"""The smoothed curve of a chart: one definition for plots and the terminal.

The page has the same one in `dashboard/page/smooth.js`; a test compares every number of both.
"""

import re

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EVALUATION = {"val", "valid", "validation", "eval", "evaluation", "test", "dev"}
_SCHEDULE = re.compile(
    r"lr|lr[-_ ].*|.*[-_ ]lr|learning[-_ ]?rate([-_ ].*)?|.*[-_ ]learning[-_ ]?rate"
    r"|momentum|beta_?[12]|weight[-_ ]?decay|wd|epochs?|(global[-_ ]?)?step|iter(ation)?s?"
    r"|(tokens|samples)([-_ ]seen)?|warm[-_]?up|temperature|ema[-_ ]?decay|.*[-_ ]coef(ficient)?"
)


def smooth(values: Floats, width: float, counts: Ints | None = None) -> Floats:
    """The weighted mean of about `width` logged values around each of `values`.

    Near the start the window extends only as far to the right as to the left, so that the mean
    follows a steep start. A value that is not finite has no weight and no mean.

    Args:
        values: one per point of the curve.
        width: in logged values; below 3 nothing changes.
        counts: how many logged values each of `values` is the mean of; None: one each.
    """
    known = np.flatnonzero(np.isfinite(values))
    weights = np.ones(len(known)) if counts is None else counts[known].astype(np.float64)
    means = values[known].astype(np.float64)
    if len(known):
        middles = np.cumsum(weights) - weights / 2
        half = np.minimum(width / 4, middles)
        begin = np.searchsorted(middles, middles - half, side="left")
        end = np.searchsorted(middles, middles + half, side="right")
        totals = _sums(weights, begin, end)
        for _ in range(2):  # twice half the width: a spike becomes a hill, not a plateau
            means = _sums(means * weights, begin, end) / totals
    smoothed = np.full(len(values), np.nan)
    smoothed[known] = means
    return smoothed


def is_noisy(name: str) -> bool:
    """Whether a series is smoothed by default.

    Not evaluations (`val/loss`), which are few, nor what changes by a rule (`lr`, `train/epoch`).
    """
    words = re.split(r"[/._ -]", name.lower())
    if not _EVALUATION.isdisjoint(words[:2]):
        return False
    return not any(_SCHEDULE.fullmatch(part) for part in re.split(r"[/.]", name.lower()))


def bucket_means(values: Floats, n_buckets: int) -> tuple[Ints, Floats, Ints]:
    """A long curve as at most `2 * n_buckets` means, narrow ones at its start for a log axis.

    Returns where each mean is (an index of `values`), the means, and the number of values of each;
    the mean is NaN if none of them is finite.
    """
    n = len(values)
    if n <= 2 * n_buckets:
        return np.arange(n), values, np.ones(n, np.int64)
    even, early = np.linspace(0, n, n_buckets + 1)[:-1], np.geomspace(1, n, n_buckets) - 1
    edges = np.unique(np.concatenate([even, early]).astype(np.int64))
    edges = edges[edges < n]
    known = np.isfinite(values)
    counts = np.add.reduceat(known, edges, dtype=np.int64)
    sums = np.add.reduceat(np.where(known, values, 0.0), edges)
    means = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    return (edges + np.append(edges[1:], n)) // 2, means, counts


def _sums(values: Floats, begin: Ints, end: Ints) -> Floats:
    """The sum of `values[begin:end]` for each pair, added up from pieces of 2^k values.

    Differences of running sums would be faster, but lose all digits after one huge value.
    """
    sums, at, lengths = np.zeros(len(begin)), begin.copy(), end - begin
    pieces, length = values, 1
    while length <= lengths.max():
        has_piece = (lengths & length) != 0
        sums[has_piece] += pieces[at[has_piece]]
        at[has_piece] += length
        pieces = pieces[:-length] + pieces[length:]
        length *= 2
    return sums
