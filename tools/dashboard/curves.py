"""Curves of runs as the page draws them: thinned to a chart's width, in a binary response."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from ..core.axis import AXES
from ..core.runs import Refusal
from ..core.smoothing import is_noisy
from ..live import by_series, definitions, marks
from ..live.content import SUPERSEDED_MAX, Content, Table
from ..live.curves import Axis, Curve, Rows
from ..live.following import Following
from ..live.means import rows_of
from ..live.pyramid import Spill
from ..live.usual import usual_first
from . import run_groups
from .request import Site, View, run_ids

TAIL_ROWS = 5_000  # a page that lacks more rows than this gets the whole curve
TAIL_VALUES = 120_000  # the same, for all metrics of a run
BUCKETS_IN_ALL = 1_000_000  # of one answer: 60 MB, 64 runs of 24 metrics at full width
NONFINITE_MAX = 1_000
NAMES_MAX = 1_000  # of a run's series; of all of them the number is in the answer

Array = np.ndarray[Any, Any]


def curves(site: Site, request: Request) -> Response:
    """Curves of several runs and series, packed: see `_packed`."""
    view = View.of(request)
    positions = run_ids(request)
    n_curves = max(1, len(positions) * len(view.keys) * (1 + view.with_superseded * SUPERSEDED_MAX))
    n_curves *= 2 if view.smoothing or view.group_by else 1  # with four means a bucket
    view = replace(view, n_buckets=max(10, min(view.n_buckets, BUCKETS_IN_ALL // n_curves)))
    runs: list[dict[str, Any]] = []
    arrays: list[Array] = []
    alone = replace(view, keys=[]) if view.group_by else view
    for position in positions:
        id, *had = position.split("~")
        with site.folders.at(id) as following:
            if following is None:
                runs.append({"id": id, "gone": True})
            else:
                runs.append({"id": id} | _run(following, had, alone, arrays))
    answer: dict[str, Any] = {"runs": runs}
    if view.group_by:
        ids = [run["id"] for run in runs if not run.get("no_axis")]
        try:
            answer["groups"] = _groups(site, ids, view, arrays)
        except Refusal as refusal:
            answer |= {"groups": [], "problem": str(refusal)}
    return Response(_packed(answer, arrays), media_type="application/octet-stream")


def _groups(site: Site, ids: list[str], view: View, arrays: list[Array]) -> list[dict[str, Any]]:
    """The groups of the answer, each with the mean of its runs as a curve for each series."""
    answer = []
    for head, of_keys in run_groups.curves_of(site, ids, view):
        series = []
        for key, members in of_keys:
            band = members.band()
            curve = _curve(rows_of(band.steps, band.mean), "mean", by_series.BY_VALUE, view, 0)
            crosses = sorted(mark for of in members.curves for mark in of.nonfinite)
            about = {"key": key, "table": members.table, "axis": members.axis, "tail": False}
            about |= {"noisy": is_noisy(key), "unit": members.unit}
            about |= {"note": "" if len(band.steps) else members.note}
            about |= _add(replace(curve, nonfinite=crosses), arrays)
            arrays += run_groups.spread_at(band, curve.x)
            n_averaged = sum(of.is_thinned for of in members.curves)
            series.append(
                about
                | {
                    "runs": len(members.curves),
                    "averaged": n_averaged,
                    "others": members.n_other_axis,
                }
            )
        answer.append(head | {"series": series})
    return answer


def _run(following: Following, had: list[str], view: View, arrays: list[Array]) -> dict[str, Any]:
    """One run of the answer.

    Args:
        had: the generation and the number of rows of each table that the page has
        arrays: where the points of the curves are added
    """
    content = following.content
    defined = definitions.of(following)
    usual, others = usual_first(defined.listed(view.find))
    head: dict[str, Any] = {
        "generation": content.generation,
        "rows": content.n_rows,
        "usual": usual,
        "others": others[:NAMES_MAX],
        "n_more": len(others[NAMES_MAX:]),
        "n_series": defined.count(),
        "axes": by_series.of(following).offered(),
        "reading": following.progress if following.is_reading else None,
        "error": following.error,
    }
    if lacks_axis(following, view.axis):
        return head | {"series": [], "no_axis": True}
    had_rows = _rows_had(had, content, TAIL_VALUES // max(1, len(view.keys)))
    series: list[dict[str, Any]] = []
    for key in view.keys:
        series += _series(following, key, view, had_rows, arrays)
    head["series"] = series
    axes = {one["axis"] for one in series}
    if view.with_superseded:
        head["resumes"] = {x: _resumes(following, x) for x in axes}
    head["starts"] = sorted(_resumes(following, "time")) if "time" in axes else []
    return head


def _series(
    following: Following,
    key: str,
    view: View,
    had_rows: dict[Table, int] | None,
    arrays: list[Array],
) -> Iterator[dict[str, Any]]:
    """One series of a run, then its superseded rows. What has no number has no points."""
    found = by_series.of(following).place(key, view.axis)
    about: dict[str, Any] = {"key": key, "unit": definitions.of(following).unit(key)}
    about["noisy"] = is_noisy(key)
    if found is None:
        if key in definitions.of(following).named():
            empty = {"n": 0, "means": 0, "thinned": False, "nonfinite": []}
            note = definitions.of(following).no_number(key)
            yield about | empty | {"table": "", "axis": "iter", "tail": False, "note": note}
        return
    table, rows, name, x, axis = found
    if axis is None:
        return
    after = rows.n_rows_of(had_rows[table]) if had_rows and x in AXES else 0
    curve = _curve(rows, name, axis, view, after)
    about |= {"table": table, "axis": x, "tail": bool(after)}
    yield about | {"note": definitions.of(following).no_number(key)} | _add(curve, arrays)
    if not view.with_superseded:
        return
    for number, taken in enumerate(following.content.superseded):
        if taken.table != table or name not in taken.rows.columns:
            continue
        placed = taken.rows
        if x not in AXES:
            placed = by_series.of(following).superseded(taken, name, x) or Rows(Spill())
        curve = _curve(placed, name, axis, view, 0)
        yield about | {"tail": False, "superseded": number} | _add(curve, arrays)


def _resumes(following: Following, x: str) -> list[float]:
    return [place for place, kind in marks.places(following, x) if kind == "resume"]


def lacks_axis(following: Following, x: str) -> bool:
    """Whether no series of a run can be drawn by an axis."""
    if x in AXES:
        return following.axis(x) is None
    return bool(x) and following.content.find(x) is None


def _rows_had(had: list[str], content: Content, rows_max: int) -> dict[Table, int] | None:
    """How many rows of each table the page has; None where it needs whole curves."""
    rows = content.n_rows
    try:
        generation, *counts = map(int, had)
    except ValueError:
        return None
    if generation != content.generation or len(counts) != len(rows):
        return None
    n_had = dict(zip(rows, counts, strict=True))
    behind = max(n - n_had[name] for name, n in rows.items())
    return n_had if 0 <= behind <= min(TAIL_ROWS, rows_max) else None


def _curve(rows: Rows, name: str, axis: Axis, view: View, after_row: int) -> Curve:
    return rows.curve(
        name,
        axis,
        begin=view.begin,
        end=view.end,
        n_buckets=view.n_buckets,
        is_log=view.is_log,
        after_row=after_row,
        smoothing=view.smoothing,
    )


def _add(curve: Curve, arrays: list[Array]) -> dict[str, Any]:
    """Add a curve's arrays to those of the answer. Returns their lengths."""
    has_means = curve.is_thinned or len(curve.means) != len(curve.x)
    arrays += [curve.x, curve.y]
    if has_means:  # else they are the points
        arrays += [curve.mean_x, curve.means, curve.counts.astype(np.float64)]
    return {
        "n": len(curve.x),
        "means": len(curve.means) if has_means else 0,
        "thinned": curve.is_thinned,
        "nonfinite": curve.nonfinite[:NONFINITE_MAX],
    }


def _packed(head: dict[str, Any], arrays: Iterable[Array]) -> bytes:
    """Length of the JSON (4 bytes), the JSON, spaces up to a multiple of 8, the float64 arrays."""
    text = orjson.dumps(head)
    text += b" " * (-(4 + len(text)) % 8)
    data = [np.ascontiguousarray(array, np.float64).tobytes() for array in arrays]
    return b"".join([struct.pack("<I", len(text)), text, *data])
