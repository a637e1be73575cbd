"""Lines as text: every dot is in its place, and nothing raises."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tools.terminal.braille import Frame, Line, draw, frame_around

any_float = st.floats() | st.just(float("nan"))
points = st.lists(st.tuples(st.floats(-1e6, 1e6), any_float), max_size=30)


def text(rows):
    return ["".join(cell for cell, _ in row) for row in rows]


def line(*ys, style=""):
    return Line(np.arange(len(ys), dtype=float), np.array(ys, float), style)


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    rows = text(draw([line(0, 1, 2, 3)], Frame(0, 3, 0, 3), 4, 2))

    assert rows == ["  ⣀⠜", "⣀⠜  "] or (rows[1][0] != " " and rows[0][-1] != " ")
    assert rows[0][0] == rows[1][-1] == " "


def test_a_spike_of_one_point_is_drawn_in_full():
    ys = np.ones(500)
    ys[250] = 9.0

    rows = text(draw([line(*ys)], Frame(0, 499, 1, 9), 40, 6))

    assert all(any(cell != " " for cell in row) for row in rows)


def test_a_nan_breaks_the_line():
    whole = text(draw([line(1, 1, 1)], Frame(0, 2, 0, 2), 20, 3))
    broken = text(draw([line(1, float("nan"), 1)], Frame(0, 2, 0, 2), 20, 3))

    assert " " not in whole[1]
    assert broken[1].count(" ") > 15


def test_where_two_lines_cross_the_later_one_has_the_style():
    rows = draw([line(1, 1, style="red"), line(1, 1, style="blue")], Frame(0, 1, 0, 2), 5, 1)

    assert {style for _, style in rows[0]} == {"blue"}


def test_a_log_scale_gives_each_power_of_ten_the_same_height():
    frame = Frame(0, 2, 1, 100, is_log=True)

    assert frame.rows(np.array([100.0, 10.0, 1.0]), 21).tolist() == [0, 10, 20]


@given(st.lists(points, max_size=3), st.booleans(), st.integers(1, 30), st.integers(1, 12))
def test_a_drawing_always_has_the_requested_size(given_lines, is_log, width, height):
    lines = [
        Line(np.array(sorted(x for x, _ in ps), float), np.array([y for _, y in ps], float))
        for ps in given_lines
    ]
    frame = frame_around(lines, -10.0, 10.0, is_log=is_log)
    if frame is None:
        return

    rows = draw(lines, frame, width, height)

    assert [len(row) for row in rows] == [width] * height


@given(st.floats(1.0, 1e3), st.floats(1.0, 1e3))
def test_every_value_of_a_line_is_inside_its_frame(one, other):
    frame = frame_around([line(one, other)], 0, 1)

    rows = frame.rows(np.array([one, other]), 40)

    assert ((rows >= 0) & (rows < 40)).all()
