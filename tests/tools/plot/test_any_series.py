"""`runs plot --metric`: any series, on two axes; what is cut off is marked and counted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.plot.test_plot import make_run, texts
from tools.cli import main
from tools.core.runs import Refusal
from tools.plot.figure import draw


def metrics_run(name="m", **series):
    """A run that logged `series` (name -> values, one a step)."""
    n = max(map(len, series.values()))
    rows = [
        {"step": i} | {k: values[i] for k, values in series.items() if i < len(values)}
        for i in range(n)
    ]
    return eventlog.Run(name, metrics=rows)


def drawn(axes):
    """The curves of an axis, without marks at its edges and entries of a legend."""
    lines = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
    return [np.asarray(line.get_ydata(), float) for line in lines if len(line.get_ydata())]


def marks(axes, marker):
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [x for line in lines for x in np.asarray(line.get_xdata(), float)]


def test_series_of_several_tables_are_drawn_on_two_axes():
    run = make_run(metrics=[{"step": i, "train/f1": i / 100, "train/acc": 0.5} for i in range(9)])

    figure = draw([run], metrics=["train/*", "eval/val_loss"], right=["train/acc"])

    left, right = figure.axes
    assert [len(y) for y in drawn(left)] == [9, 4]
    assert [len(y) for y in drawn(right)] == [9]
    assert (left.get_ylabel(), right.get_ylabel()) == ("train/f1, eval/val_loss", "train/acc")
    assert {"train/f1", "eval/val_loss", "train/acc (right)"} <= {*texts(figure)}


def test_a_spike_is_cut_off_marked_and_counted_unless_all_values_are_wanted():
    run = metrics_run(x=[5 - i / 100 + (1e6 if i == 50 else 0) for i in range(100)])

    figure, whole = draw([run], metrics=["x"]), draw([run], metrics=["x"], all_values=True)

    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 6
    assert marks(axes, "^") == [50]
    assert any("1 value outside the axis, up to 1,000,004.5" in text for text in texts(figure))
    assert figure.messages == [
        "x: 1 value outside the axis, up to 1,000,004.5; --all-values draws all"
    ]
    assert whole.axes[0].get_ylim()[1] > 1e6
    assert not whole.messages


def test_the_fast_fall_at_the_beginning_of_a_training_is_no_outlier():
    run = metrics_run(loss=[11, 9, 7.5, 6, *(5 - i / 200 for i in range(200))])

    assert draw([run], metrics=["loss"]).axes[0].get_ylim()[1] > 11


def test_a_series_of_few_values_is_not_smoothed_as_if_it_had_one_a_step():
    rows = [{"step": i, "x": i % 2} | ({"rare": i} if i % 10 == 0 else {}) for i in range(100)]
    run = eventlog.Run("m", metrics=rows)

    figure = draw([run], metrics=["x", "rare"], smooth_iters=20)

    raw, smoothed, rare = drawn(figure.axes[0])
    assert (raw.max(), smoothed.max() < 0.8) == (1, True)
    assert rare.tolist() == list(range(0, 100, 10))


def test_what_is_not_finite_is_a_cross_and_in_the_legend():
    run = metrics_run(x=[1.0, math.nan, 2.0, math.inf])

    figure = draw([run], metrics=["x"])

    assert marks(figure.axes[0], "x") == [1, 3]
    assert "x, 1× inf, 1× nan" in texts(figure)


@pytest.mark.parametrize(
    ("band", "what"),
    [("std", " · band: ± standard deviation"), ("range", " · band: min to max"), ("none", "")],
)
def test_the_head_says_what_the_band_around_a_mean_is(band, what):
    figure = draw([metrics_run("a", x=[1.0, 2.0])] * 2, metrics=["x"], group_by="seeds", band=band)

    assert f"mean of runs with equal settings{what}" in texts(figure)


def test_a_range_of_x_cuts_the_curves_and_one_of_y_says_what_is_outside():
    run = metrics_run(x=[float(i) for i in range(10)])

    figure = draw([run], metrics=["x"], x_range=(2, 7), y_range=(None, 5))

    (axes,) = figure.axes
    assert (axes.get_xlim(), axes.get_ylim()[1]) == ((2, 7), 5)
    assert [y.tolist() for y in drawn(axes)] == [[2, 3, 4, 5, 6, 7]]
    assert figure.messages == ["x: 2 values outside the axis, up to 7.0000"]


def test_several_runs_have_a_colour_each_and_their_series_a_line_style_each():
    runs = [metrics_run(name, a=[1.0, 2.0], b=[2.0, 1.0]) for name in "pq"]

    figure = draw(runs, metrics=["a", "b"])

    lines = figure.axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == 2
    assert len({str(line.get_linestyle()) for line in lines}) == 2
    assert {"p", "q", "a", "b"} <= {*texts(figure)}


def test_a_unit_that_the_run_defined_is_on_the_axis():
    run = metrics_run(speed=[1.0, 2.0])
    run.journal = {"definitions": {"speed": {"unit": "m/s"}}}

    assert draw([run], metrics=["speed"]).axes[0].get_ylabel() == "speed (m/s)"


@pytest.mark.parametrize(
    ("metric", "message"),
    [("los", "unknown series 'los'. Did you mean loss?"), ("word", "'word' has no numbers")],
)
def test_a_series_that_cannot_be_drawn_is_refused(metric, message):
    run = metrics_run(loss=[1.0], word=["a"])

    with pytest.raises(Refusal, match=message.replace("?", r"\?")):
        draw([run], metrics=[metric])


def test_runs_without_tokens_are_left_out_with_a_message():
    known = make_run("known", metadata={"tokens_per_iter": 10})

    figure = draw([known, make_run("unknown")], x="tokens")

    assert "known" in texts(figure)
    assert figure.messages == [
        "unknown: its metadata has no tokens_per_iter. Use: --x iter (left out)"
    ]
    with pytest.raises(Refusal, match="no tokens_per_iter"):
        draw([make_run("unknown")], x="tokens")


def test_the_command_prints_the_file_and_says_what_is_cut_off(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with eventlog.init(dir=tmp_path, name="m", save_interval=0) as run:
        for i in range(30):
            run.log({"train/loss": 3 - i / 30 + (1e5 if i == 9 else 0)}, step=i)

    capsys.readouterr()
    assert main(["plot", str(run.journal_path), "--metric", "train/*", "--x", "step"]) == 0

    printed = capsys.readouterr()
    assert printed.out.strip().endswith("_metrics.png")
    assert (tmp_path / printed.out.strip()).stat().st_size > 1000
    assert printed.err == "train/loss: 1 value outside the axis, up to 100,002.7; " + (
        "--all-values draws all\n"
    )


@given(st.lists(st.floats() | st.integers(-(10**400), 10**400), min_size=1, max_size=40))
def test_any_values_can_be_drawn(values):
    figure = draw([metrics_run(x=values)], metrics=["x"], right=["x"])

    assert figure.axes


# ---- the x axis


def places(axes):
    lines = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
    return [np.asarray(line.get_xdata(), float).tolist() for line in lines if len(line.get_xdata())]


def nanogpt_run():
    """An own loop that logs at evaluations alone, with its own counter in every row."""
    rows = [{"step": k, "iter": 250 * k, "val/loss": 5.0 - k} for k in range(3)]
    return eventlog.Run("nano", metrics=rows, journal={"metrics": {"rows": 3, "names": {
        "iter": {"count": 3, "last": 500, "step": 2, "min": 0, "min_step": 0, "max": 500,
                 "max_step": 2, "n_nonfinite": 0},
        "val/loss": {"count": 3, "last": 3.0, "step": 2, "min": 3.0, "min_step": 2, "max": 5.0,
                     "max_step": 0, "n_nonfinite": 0},
    }}})  # fmt: skip


def test_a_series_stands_at_the_counter_that_the_program_logs_in_every_row():
    run = nanogpt_run()

    (axes,) = draw([run], metrics=["val/loss"]).axes
    (by_kind,) = draw([run], "eval").axes
    (by_step,) = draw([run], metrics=["val/loss"], x="step").axes

    assert (places(axes), axes.get_xlabel()) == ([[0, 250, 500]], "iter")
    assert (places(by_kind), by_kind.get_xlabel()) == ([[0, 250, 500]], "iter")
    assert (places(by_step), by_step.get_xlabel()) == ([[0, 1, 2]], "step")


def test_a_value_without_an_axis_value_in_its_row_stands_at_the_last_one_before_it():
    rows = [{"step": 0, "loss": 9.0}, {"step": 1, "epoch": 0.5}, {"step": 2, "loss": 7.0},
            {"step": 3, "epoch": 0.25, "loss": math.nan}, {"step": 4, "loss": 6.0}]  # fmt: skip
    run = eventlog.Run(
        "m", metrics=rows, journal={"definitions": {"lo*": {"step_metric": "epoch"}}}
    )

    (axes,) = draw([run], metrics=["loss"]).axes

    assert axes.get_xlabel() == "epoch"
    assert places(axes)[-1] == [0.25, 0.25, 0.5]  # from left to right
    assert marks(axes, "x") == [0.25]


def test_any_series_can_be_the_axis_of_any_other(tmp_path, capsys):
    with eventlog.init(name="r", dir=tmp_path, quiet=True) as run:
        for i in range(4):
            run.log({"seen": 100 * i, "loss": 4 - i}, step=i)

    def plotted(x):
        return main(["plot", "--metric=loss", f"--x={x}", f"--out={tmp_path}/a.png", str(tmp_path)])

    assert [plotted("seen"), plotted("sen")] == [0, 2]
    assert "has no series 'sen' with numbers. Use: --x step" in capsys.readouterr().err


@pytest.fixture
def seeded(tmp_path):
    """Three seeds of two settings; the last run of the second ends early."""
    for lr in (0.1, 0.2):
        for seed in range(3):
            config = {"lr": lr, "seed": seed, "out_dir": f"out/{seed}"}
            run = eventlog.init(dir=tmp_path, name=f"lr{lr}_s{seed}", config=config)
            for step in range(3 if (lr, seed) == (0.2, 2) else 5):
                run.log({"val/acc": lr + step * (1 + seed)}, step=step)
            run.finish()
    return sorted(tmp_path.glob("*.json"))


@pytest.mark.parametrize("band", ["std", "range", "none"])
def test_groups_are_drawn_as_their_mean_with_a_band(seeded, band):
    figure = draw(seeded, metrics=["val/acc"], group_by="seeds", band=band)

    (axes,) = figure.axes
    first = axes.get_lines()[0]
    assert first.get_ydata() == pytest.approx([0.1 + 2 * step for step in range(5)])
    assert len(axes.collections) == (0 if band == "none" else 2)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["lr=0.1 (3 runs)", "lr=0.2 (3 runs)"]
    assert [m for m in figure.messages if "of fewer than its 3 runs, from 3" in m]
    if band == "std":
        edges = axes.collections[0].get_paths()[0].vertices
        assert edges[:, 1].max() == pytest.approx(0.1 + 8 + 4)  # 4, 8, 12: deviation 4


def test_of_many_means_of_fewer_runs_some_are_named_and_the_others_counted():
    runs = [
        eventlog.Run(
            f"{k}.{seed}",
            config={"lr": k, "seed": seed},
            metrics=[{"step": i, "x": 1.0} for i in range(2 + seed)],
        )
        for k in range(8)
        for seed in range(2)
    ]

    messages = draw(runs, metrics=["x"], group_by="seeds").messages

    assert len(messages) == 6
    assert messages[0] == (
        "x, lr=0: at 1 of 3 places the mean is of fewer than its 2 runs, from 2.0000 on"
    )
    assert messages[-1] == "3 more means are in places of fewer runs"


def test_grouping_without_a_series_draws_the_losses(seeded):
    runs = [metrics_run(name, **{"train/loss": [2.0, 1.0], "x": [0.0, 1.0]}) for name in "pq"]

    (axes,) = draw(runs, group_by="seeds").axes

    assert [y.tolist() for y in drawn(axes)] == [[2.0, 1.0]]
    with pytest.raises(Refusal, match="--group-by draws series, not a --kind"):
        draw(seeded, "loss", group_by="seeds")
    with pytest.raises(Refusal, match="--group-by draws series"):
        draw(seeded, group_by="seeds")  # they log no loss


@pytest.mark.parametrize(("by", "equal"), [("seeds", "lr"), ("config.lr", "lr")])
def test_the_head_of_a_plot_of_groups_says_in_what_their_runs_are_equal(seeded, by, equal):
    shown = texts(draw(seeded, metrics=["val/acc"], group_by=by))

    assert any(f"mean of runs with equal {equal} · band: ± standard" in text for text in shown)
    assert not any("seed" in text for text in shown)


def test_what_else_differs_within_a_group_is_said(tmp_path):
    for depth in (1, 2):
        with eventlog.init(dir=tmp_path, name=f"d{depth}", config={"lr": 1, "depth": depth}) as run:
            run.log({"x": 1.0}, step=0)
            run.log({"x": 2.0}, step=1)

    figure = draw(sorted(tmp_path.glob("*.json")), metrics=["x"], group_by="config.lr")

    assert "lr=1: its runs also differ in depth" in figure.messages


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ((3, None), "3 values outside the axis, down to 0"),
        ((None, 7), "2 values outside the axis, up to 9"),
        ((2, 8), "3 values outside the axis, up to 9 and down to 0"),
    ],
)
def test_values_outside_are_said_with_their_direction(limits, text):
    run = metrics_run(x=[float(k) for k in range(10)])

    figure = draw([run], metrics=["x"], y_range=limits)

    assert [message.replace(".0000", "") for message in figure.messages] == [f"x: {text}"]


def test_a_series_without_a_name_is_not_the_axis_of_the_others():
    rows = [{"step": i, "": 7.0, "loss": 4.0 - i} for i in range(3)]

    (axes,) = draw([eventlog.Run("m", metrics=rows)], metrics=["loss"]).axes

    assert (places(axes), axes.get_xlabel()) == ([[0, 1, 2]], "step")


def test_a_name_of_thousands_of_characters_is_cut_in_the_plot():
    run = metrics_run(**{"long/" + "x" * 4_000: [1.0, 2.0], "y": [1.0, 2.0]})

    figure = draw([run], metrics=["*"])

    (text,) = {text for text in texts(figure) if text.startswith("long/") and ", " not in text}
    assert len(text) < 100
