"""One x axis for picture, terminal and page."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.dashboard.pages import until
from tools.core.axis import clock, clock_of_steps, with_gaps
from tools.live.folders import Folders
from tools.live.following import Following
from tools.live.marks import places
from tools.plot.figure import draw
from tools.plot.series import Series
from tools.terminal.drawing import View as TerminalView
from tools.terminal.drawing import drawing

T = "2026-11-23T03:25:0{}.500000+00:00"


def test_time_stands_still_where_the_clock_was_set_back_or_a_time_is_none():
    assert np.diff(clock([T.format(k) for k in (1, 3, 2, 5)])).tolist() == [2, 0, 2]
    assert np.diff(clock([T.format(1), "?", T.format(4)])).tolist() == [0, 3]


def test_a_step_begins_when_all_before_it_are_over():
    assert clock_of_steps([100.0, None, 300.0, 50]) == pytest.approx([0, 0.1, 0.1, 0.4])


@pytest.fixture
def journal(tmp_path):
    """A run with evaluations, and a second session that logs its last iterations again."""
    with eventlog.open_run(tmp_path, save_interval=0, metadata={"tokens_per_iter": 10}) as run:
        for i in range(20):
            if i % 5 == 0:
                run.log_eval(i, 3.0, 3.0)
            run.log_iter(i, 3.0, 100.0)
    with eventlog.open_run(journal=run.journal_path, from_iter=15, save_interval=0) as run:
        for i in range(15, 25):
            run.log_iter(i, 3.0, 100.0)
    eventlog.compact(run.journal_path)
    return run.journal_path


@pytest.mark.parametrize("x", ["iter", "tokens", "time"])
@pytest.mark.parametrize("form", ["journal", "run JSON with its journal", "run JSON alone"])
def test_picture_terminal_and_page_place_every_row_at_the_same_x(journal, x, form):
    path = journal if form == "journal" else journal.with_suffix(".json")
    if form == "run JSON alone":
        journal.unlink()
    followed = Following(path if form == "run JSON alone" else journal)
    while followed.read_on():
        pass
    axis = followed.axis(x)
    series = Series(eventlog.load_run(path))

    live = [
        axis.place(rows, np.arange(len(rows))) for rows in (followed.iterations, followed.evals)
    ]
    plotted = series.place(series.iterations["iter"], x), series.place_evals(x)

    assert len(live[0]) == 25
    assert plotted[0] == pytest.approx(live[0], abs=2e-6)
    assert plotted[1] == pytest.approx(live[1], abs=2e-6)


@given(st.lists(st.floats(0, 100), max_size=30).map(sorted), st.lists(st.floats(-10, 110)))
def test_with_any_gaps_a_line_keeps_its_points_and_none_joins_two_sessions(x, starts):
    x = np.array(x)

    placed, y = with_gaps(x, np.arange(len(x), dtype=float), starts)

    assert placed[np.isfinite(y)].tolist() == x.tolist()
    for a, b, ya, yb in zip(placed[:-1], placed[1:], y[:-1], y[1:], strict=True):
        assert np.isnan(ya + yb) or not any(a < start <= b for start in starts)


@pytest.fixture
def resumed_later(tmp_path):
    """A run that is resumed half a second after it ended."""
    with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
        for i in range(10):
            run.log_iter(i, 3.0, 100.0)
    time.sleep(0.5)
    with eventlog.open_run(journal=run.journal_path, from_iter=10, save_interval=0) as run:
        for i in range(10, 20):
            run.log_iter(i, 3.0, 100.0)
    return run.journal_path


def test_by_time_no_tool_draws_a_line_while_nobody_was_running(resumed_later):
    series = Series(eventlog.load_run(resumed_later))
    at = series.place(series.iterations["iter"], "time").tolist()
    with Folders([str(resumed_later)]) as folders:
        until(lambda: folders.is_complete)
        (id,) = (row["id"] for row in folders.rows())
        terminal = drawing(folders, [id], "loss", TerminalView(), (0.0, 60.0), 100, "time")
        with folders.at(id) as following:
            (start,) = (x for x, kind in places(following, "time") if kind == "resume")

    plot = draw([resumed_later], "loss", x="time", smooth_iters=0).axes[0].lines[0]

    assert at[9] < start < at[10]
    for x, y in ((terminal.lines[0].x, terminal.lines[0].y), plot.get_data()):
        assert x.tolist() == pytest.approx([*at[:10], at[10], *at[10:]], abs=1e-5)
        assert np.flatnonzero(np.isnan(y)).tolist() == [10]
