"""Where the events of a run are on an axis of its charts: evaluations, resumes, alerts, ..."""

import math
from collections.abc import Iterator

import numpy as np

from eventlog import seconds

from ..core.axis import AXES
from . import by_series
from .curves import Axis
from .following import Following


def places(following: Following, x: str) -> Iterator[tuple[float, str]]:
    """The place of each event on the axis `x`, and its kind; none where the run lacks the axis.

    On an axis that is a series it is the last value of that at the step of the event or before it.
    """
    axis = following.axis(x) if x in AXES else None
    series = None if x in AXES else following.content.find(x)
    if axis is None and series is None:
        return
    evals = following.evals
    if len(evals):
        if series is not None:
            at = by_series.places(evals.iters.values, series)
        else:
            assert axis is not None
            at = axis.place(evals, np.arange(len(evals)))
        yield from ((place, "eval") for place in np.unique(at).tolist() if math.isfinite(place))
    for mark in following.content.marks:
        i = mark["iter"]
        if mark["kind"] == "open" and i <= 0:
            continue
        if series is not None:
            place = float(by_series.places(np.array([i]), series)[0])
        else:
            assert axis is not None
            place = _place(following, axis, i, mark["t"])
        if math.isfinite(place):
            yield place, mark["kind"]


def _place(following: Following, axis: Axis, i: int, t: str) -> float:
    if axis.name == "iter":
        return float(i)
    if axis.name == "time":
        return (seconds(t) or math.nan) - axis.started
    rows = following.iterations
    if not len(rows):
        return 0.0
    at = np.searchsorted(rows.iters.values, i)
    return float(axis.place(rows, np.clip([at], 0, len(rows) - 1))[0])
