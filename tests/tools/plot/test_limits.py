"""`--xlim` and `--ylim`: what they cut off is counted; outliers are cut off by default."""

import pytest

from tests.tools.plot.test_any_series import marks, metrics_run
from tests.tools.plot.test_plot import evaluation, make_run, row, texts
from tools.cli import main
from tools.core.runs import Refusal
from tools.plot.figure import draw


def test_ranges_hold_for_all_panels_of_losses():
    run = make_run(n=100)

    figure = draw([run, run], "compare", x_range=(10, 60), y_range=(8.5, 8.9))

    for axes in figure.axes:
        assert (axes.get_xlim(), axes.get_ylim()) == ((10, 60), (8.5, 8.9))


def test_the_y_axis_fits_what_is_within_the_range_of_x():
    run = make_run(rows=[row(i, loss=50.0 if i < 40 else 2.0 + i / 1000) for i in range(100)])

    (axes,) = draw([run], "loss", x_range=(80, None), smooth_iters=0).axes

    assert axes.get_ylim()[1] < 10  # of the evaluations


@pytest.mark.parametrize("kind", ["loss", "compare", "eval"])
def test_an_outlier_among_losses_is_cut_off_marked_and_said(kind):
    spike = 10 if kind == "loss" else 25
    rows = [row(i, loss=1e6 if i == spike else 9.0 - i / 100) for i in range(100)]
    evals = [evaluation(i, val_loss=1e6 if i == spike else 9.0 - i / 100) for i in range(0, 99, 5)]
    runs = [make_run(name, rows=rows, eval_steps=evals) for name in "ab"]

    figure, whole = draw(runs, kind), draw(runs, kind, all_values=True)

    assert figure.axes[-1].get_ylim()[1] < 20
    assert marks(figure.axes[-1], "^") == [spike, spike]
    assert any("2 values outside the axis, up to 1,000,000.0" in text for text in texts(figure))
    assert "; --all-values draws all" in figure.messages[-1]
    assert whole.axes[-1].get_ylim()[1] > 1e6


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"x_range": (5, 2)}, "--xlim 5 2: LOW must be below HIGH"),
        ({"y_range": (None, float("nan"))}, "--ylim auto nan: LOW and HIGH must be finite"),
        ({"y_range": (0, 5), "log_y": True}, "--ylim 0 5: with --log-y, LOW and HIGH must be abo"),
        ({"x_range": (200, 300)}, "--xlim: no values there. iteration goes from 0 to 99"),
    ],
)
def test_a_range_that_cannot_be_drawn_is_refused(ranges, message):
    with pytest.raises(Refusal) as refused:
        draw([make_run()], "loss", **ranges)

    assert message in str(refused.value)


def test_a_range_without_any_value_of_a_series_is_refused():
    with pytest.raises(Refusal, match="step goes from 0 to 2"):
        draw([metrics_run(x=[1.0, 2.0, 3.0])], metrics=["x"], x_range=(5, None))


def test_the_command_takes_negative_numbers_and_auto(tmp_path, zoo, capsys):
    plot = ["plot", str(zoo / "finished.json"), "--out", str(tmp_path / "a.png")]

    assert main([*plot, "--ylim", "-1e-3", "9", "--xlim", "auto", "1e3"]) == 0
    with pytest.raises(SystemExit):
        main([*plot, "--xlim", "1", "x"])

    assert "argument --xlim: must be a number or auto, got 'x'" in capsys.readouterr().err
