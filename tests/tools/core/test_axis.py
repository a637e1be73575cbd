"""One x axis for picture, terminal and page."""

import numpy as np
import pytest

import eventlog
from tools.core.axis import clock, clock_of_steps
from tools.live.following import Following
from tools.plot.series import Series

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
