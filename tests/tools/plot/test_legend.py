"""The legend names what differs between runs, and of many runs the best few."""

import pytest

import eventlog
from tests.tools.plot.test_any_series import metrics_run
from tests.tools.plot.test_plot import make_run, texts
from tools.plot.figure import draw
from tools.plot.theme import THEMES


def sweep(n, name="acc", value=float, **more):
    """Runs of one name that differ in `lr`; the value of run k is that of `value(k)`."""
    return [
        eventlog.Run(
            f"run_20261201_0102{k:02}",
            config={"lr": (k + 1) / 1000, "out_dir": f"out/{k}"},
            metrics=[{"step": i, name: value(k)} for i in range(3)],
            **more,
        )
        for k in range(n)
    ]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def colours(figure):
    return [line.get_color() for line in figure.axes[0].get_lines()]


def test_runs_are_named_by_the_settings_that_differ_not_by_their_time():
    figure = draw(sweep(3), metrics=["acc"])

    assert legend_of(figure) == ["lr=0.001", "lr=0.002", "lr=0.003"]
    assert any("different: lr" in text for text in texts(figure))


def test_a_comparison_names_the_settings_that_differ_and_the_best_losses():
    runs = [make_run("a", config={"lr": 1, "seed": 1}), make_run("b", config={"lr": 2, "seed": 1})]

    found = texts(draw(runs))

    assert "different: lr · smoothed over 4 iterations" in found
    assert "a, lr=1, best 8.3500" in found


def test_14_runs_have_different_styles():
    for theme in THEMES:
        figure = draw([make_run(str(i), 3) for i in range(14)], "loss", theme=theme)

        handles = figure.legends[0].get_lines()
        assert len({(h.get_color(), str(h._dash_pattern)) for h in handles}) == 14


@pytest.mark.parametrize(
    ("name", "best"), [("acc", range(49, 42, -1)), ("val/loss", range(7)), ("width", range(7))]
)
def test_of_many_runs_the_best_are_named_and_the_others_pale(name, best):
    figure = draw(sweep(50, name), metrics=[name])

    assert legend_of(figure) == [*(f"lr={(k + 1) / 1000:g}" for k in best), "43 more"]
    pale = THEMES["light"].pale
    assert [k for k, colour in enumerate(colours(figure)) if colour != pale] == sorted(best)
    way = "the first" if name == "width" else f"the best by {name}"
    assert any(f"7 of 50 runs named, {way}" in text for text in texts(figure))


def test_of_many_runs_those_with_the_lowest_validation_loss_are_named():
    runs = [make_run(f"r{k:02}", 3 * k + 1) for k in range(20)]

    figure = draw(runs)

    assert legend_of(figure)[0].startswith("r17")  # a new evaluation each 25 iterations
    assert any("the best by validation loss" in text for text in texts(figure))


def test_a_run_that_is_not_finite_is_not_among_the_best():
    runs = [*sweep(1, "val/loss", lambda k: float("nan")), *sweep(20, "val/loss")]

    figure = draw(runs, metrics=["val/loss"])

    assert colours(figure)[0] == THEMES["light"].pale


def test_of_many_groups_the_best_are_named():
    groups = [
        eventlog.Run(f"{k}.{s}", config={"lr": k, "seed": s}, metrics=[{"step": 0, "acc": k + s}])
        for k in range(20)
        for s in range(2)
    ]

    figure = draw(groups, metrics=["acc"], group_by="seeds")

    assert legend_of(figure)[:2] == ["lr=19 (2 runs)", "lr=18 (2 runs)"]
    assert legend_of(figure)[-1] == "13 more"
    assert len(figure.axes[0].collections) == 7  # bands


def test_a_name_in_the_legend_is_one_line_of_text():
    runs = [metrics_run(f"a\n{k}$x^2$", acc=[1.0, 2.0]) for k in range(2)]

    assert legend_of(draw(runs, metrics=["acc"])) == ["a 0$x^2$", "a 1$x^2$"]
