"""`runs plot`: everything that happened in a run is visible in its plot, for any run."""

import hashlib
import math
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import eventlog
from tools.cli import main
from tools.plot.columns import thin
from tools.plot.figure import draw, encode
from tools.plot.panel import KINDS
from tools.plot.series import Series
from tools.plot.theme import clean, fit, width_of

NAN = {"loss": None, "nonfinite": {"loss": "nan"}}


def row(i, **fields):
    return {"iter": i, "loss": 9.0 - i / 100, "time_ms": 50.0 + i % 7, "mfu": 30.0} | fields


def evaluation(i, **fields):
    return {"iter": i, "train_loss": 9.0 - i / 100, "val_loss": 9.1 - i / 100} | fields


def make_run(name="a", n=100, *, rows=None, **fields):
    fields = {"eval_steps": [evaluation(i) for i in range(0, n, 25)]} | fields
    return eventlog.Run(name, training_iterations=rows or [row(i) for i in range(n)], **fields)


def line(axes, label):
    return next(line for line in axes.get_lines() if str(line.get_label()).startswith(label))


def texts(figure):
    """Every text of a plot except the numbers of its axes."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_xlabel(), axes.get_ylabel()]
    for legend in [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]:
        found += [text.get_text().strip() for text in legend.get_texts()]
    return found


@pytest.fixture
def journal(tmp_path):
    """A run that did 0 to 7 and died; a second session went on from 5, to 9."""
    with eventlog.open_run(
        tmp_path, run_name="again", save_interval=0, metadata={"tokens_per_iter": 10}
    ) as run:
        for i in range(8):
            run.log_iter(i, 8.0 - i, 100.0)
    with eventlog.open_run(
        journal=run.journal_path, from_iter=5, save_interval=0, metadata={"tokens_per_iter": 20}
    ) as run:
        for i in range(5, 10):
            run.log_iter(i, 3.0, 200.0)
    eventlog.compact(run.journal_path)
    return run.journal_path


# ---- the columns


def test_an_iteration_is_placed_where_its_tokens_and_seconds_begin(journal):
    series = Series(eventlog.load_run(journal))
    iters = np.array([0.0, 4.0, 5.0, 6.0, 9.0])

    assert series.place(iters, "iter").tolist() == iters.tolist()
    assert series.place(iters, "tokens").tolist() == [0, 40, 50, 70, 130]
    assert series.training_seconds(iters) == pytest.approx([0, 0.4, 0.5, 0.7, 1.3])


def test_time_counts_the_iterations_that_were_not_logged():
    series = Series(make_run(rows=[row(i, time_ms=100.0) for i in range(0, 100, 10)]))

    assert series.training_seconds(np.array([90.0])) == pytest.approx([9.0])


def test_a_resume_is_found_with_the_iterations_it_logged_again(journal):
    series = Series(eventlog.load_run(journal.with_suffix(".json")))

    assert [(r.at, r.n_again) for r in series.resumes] == [(5, 3)]
    assert [take["iter"].tolist() for take in series.superseded] == [[5, 6, 7]]


def test_a_run_that_goes_back_within_a_session_has_its_superseded_rows_and_marks(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in (*range(12), *range(3, 8), *range(6, 20)):
            run.log_iter(i, 1.0, 1.0)

    series = Series(eventlog.load_run(run.journal_path))

    assert [(t["iter"][0], t["iter"][-1]) for t in series.superseded] == [(3, 11), (6, 7)]
    assert [(r.at, r.n_again) for r in series.resumes] == [(3, 9), (6, 2)]


columns = st.integers(1, 400).flatmap(
    lambda n: arrays(float, n, elements=st.floats(-1e6, 1e6) | st.just(math.nan))
)


@given(columns, st.integers(1, 20))
def test_thinning_keeps_the_lowest_highest_and_missing_of_every_pixel(y, n_pixels):
    x = np.arange(len(y), dtype=float)

    thinned = thin(x, y, n_pixels)

    assert len(thinned) <= max(4 * n_pixels, 6 * n_pixels)
    edges = np.minimum(x / ((x[-1] or 1) / n_pixels), n_pixels - 1).astype(int)
    for pixel in np.unique(edges):
        whole, part = y[edges == pixel], y[thinned][edges[thinned] == pixel]
        assert np.isnan(whole).any() == np.isnan(part).any()
        if not np.isnan(whole).all():
            assert (np.nanmin(whole), np.nanmax(whole)) == (np.nanmin(part), np.nanmax(part))


# ---- the picture


def test_spikes_of_a_long_run_are_visible_in_its_plot():
    rows = [row(i, loss=3.0) for i in range(50_000)]
    rows[31_337]["loss"], rows[12_345]["loss"] = 99.0, 0.5

    axes = draw([make_run(rows=rows)], "loss").axes[0]

    drawn = line(axes, "training loss, each iteration")
    assert len(drawn.get_xdata()) < 20_000
    assert (max(drawn.get_ydata()), min(drawn.get_ydata())) == (99.0, 0.5)


def test_a_loss_that_is_not_finite_is_marked_where_it_was():
    rows = [row(i) | (NAN if i in (40, 70) else {}) for i in range(100)]

    axes = draw([make_run(rows=rows)], "loss").axes[0]

    crosses = line(axes, "nan (2×)")
    assert crosses.get_marker() == "x"
    assert list(crosses.get_xdata()) == [40, 70]
    assert math.isnan(line(axes, "training loss").get_ydata()[40])


def test_a_value_between_two_gaps_is_a_dot():
    rows = [row(i) | (NAN if i % 2 else {}) for i in range(10)]

    axes = draw([make_run(rows=rows)], "loss").axes[0]

    assert list(line(axes, "training loss").get_xdata()) == [0, 2, 4, 6, 8]
    assert line(axes, "training loss").get_marker() == "."


def test_a_rewind_is_marked_and_superseded_rows_are_drawn_on_request(journal):
    plain, both = draw([journal], "loss"), draw([journal], "loss", superseded=True)

    assert "rewound: 5 to 7 logged again" in texts(plain)
    assert "superseded" not in texts(plain)
    assert list(line(both.axes[0], "superseded").get_ydata()) == [3.0, 2.0, 1.0]


def test_among_several_runs_a_resume_is_a_marker_on_its_curve(journal):
    figure = draw([journal, make_run()], "loss", smooth_iters=0)

    assert "rewound" in texts(figure)
    (sign,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "<"]
    assert (list(sign.get_xdata()), list(sign.get_ydata())) == ([5], [3.0])


def test_axes_have_units_and_the_head_names_the_model_and_device():
    metadata = {"n_params": 124_000_000, "dtype": "bfloat16", "world_size": 8, "device": "cuda"}
    metadata |= {"tokens_per_iter": 1024}

    figure = draw([make_run("baseline", metadata=metadata)], "analysis")

    assert "baseline" in texts(figure)
    model = "124M parameters · bfloat16 · 8 × cuda"
    assert f"{model} · 1,024 tokens per iteration · unknown" in texts(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss (nats per token)", "share of iterations (%)", "model FLOPs utilization (%)",
    ]  # fmt: skip


def test_a_loss_of_a_run_that_counts_no_tokens_has_no_unit_but_its_own():
    defined = {"definitions": {"loss": {"unit": "bits"}}}

    assert draw([make_run()], "loss").axes[0].get_ylabel() == "loss"
    assert draw([make_run(journal=defined)], "loss").axes[0].get_ylabel() == "loss (bits)"


@pytest.mark.parametrize("kind", KINDS)
def test_no_legend_covers_a_curve_or_a_label(kind, journal):
    for runs in ([journal], [make_run(f"a long name of a run {i}") for i in range(9)]):
        figure = draw(runs, kind, superseded=True, height_in=3.5)

        legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
        boxes = [legend.get_window_extent() for legend in legends]
        assert boxes
        drawn = [box for a in figure.axes for box in (a.bbox, a.xaxis.label.get_window_extent())]
        assert not [box for box in boxes for other in drawn if box.overlaps(other)]


HOSTILE = (
    "$\\alpha_$ {x} %s <b>&amp;",
    "_hidden",
    "two\nlines\t\x00\x1b[31m",
    "日本🎉",
    "\ud800",
    "",
)


@pytest.mark.parametrize("name", [*HOSTILE, "W" * 200, "x" * 100_000])
def test_any_name_is_shown_as_text_within_the_plot(name):
    for runs in ([make_run(name)], [make_run(name), make_run("b")]):
        figure = draw(runs, "loss", dpi=50)
        encode(figure, "png")

        right = figure.bbox.width
        all_texts = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
        assert all(t.get_window_extent().x1 <= right for t in all_texts)
        if name in HOSTILE[:2]:
            assert any(found.startswith(name) for found in texts(figure))


@given(st.text(max_size=60), st.floats(0.3, 4.0))
@settings(max_examples=30)
def test_a_shortened_text_fits_and_a_short_one_is_left_alone(text, width_in):
    text = clean(text)

    shown = fit(text, width_in, 9)

    assert width_of(shown, 9) <= max(width_in, width_of("…", 9))
    assert shown == text or width_of(text, 9) > width_in


NO_NUMBERS = (("x", 1), (None, 1), (True, 1), (1, []), (10**300, 1), (2, 10**400), (3, "1"))
ODD = {
    "empty": {"rows": [], "eval_steps": []},
    "one": {"n": 1},
    "evals alone": {"rows": []},
    "nothing finite": {"rows": [row(i) | NAN for i in range(30)], "eval_steps": []},
    "negative": {"rows": [row(i, loss=-i, time_ms=-1.0) for i in range(30)]},
    "flat": {"rows": [row(i, loss=2.0, time_ms=5.0, mfu=-100.0) for i in range(30)]},
    "enormous": {"rows": [row(i, loss=10.0 ** (i * 10)) for i in range(31)]},
    "twice": {"rows": [row(i) for i in (*range(30), *range(20, 50))]},
    "not numbers": {
        "rows": [row(i, iter=at, loss=x) for i, (at, x) in enumerate(NO_NUMBERS)],
        "metadata": {"n_params": "many", "tokens_per_iter": {}, "device": [1], "world_size": None},
        "journal": {"status": 3, "superseded": [], "sessions": [{}, {"from_iter": "a"}]},
    },
}


@pytest.mark.parametrize("name", ODD)
def test_any_run_can_be_plotted(name):
    odd = {"rows": None} | ODD[name]
    rows = odd.pop("rows")
    run = make_run(**odd)
    run.training_iterations = run.training_iterations if rows is None else rows

    for kind, is_log in (("loss", False), ("analysis", True), ("eval", True)):
        assert 1 <= len(draw([run], kind, log_x=is_log, log_y=is_log).axes) <= len(KINDS[kind])
    picture = encode(draw([run, make_run()], log_y=True, dpi=30), "png")
    assert picture.startswith(b"\x89PNG")


def test_a_panel_without_values_is_left_out():
    run = make_run(rows=[row(i, mfu=-100.0, time_ms=None) for i in range(30)])
    metrics = eventlog.Run("m", metrics=[{"step": i, "train/loss": 2.0} for i in range(9)])

    figures = [draw([run], "analysis"), draw([run, make_run()], "analysis"), draw([metrics] * 2)]

    assert [len(figure.axes) for figure in figures] == [1, 3, 1]
    assert figures[-1].axes[0].get_ylabel() == "training loss"


def test_a_run_without_values_has_one_panel_that_says_so():
    figure = draw([eventlog.Run("empty")], "analysis")

    assert len(figure.axes) == 1
    assert "nothing logged" in texts(figure)


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_equal_plots_are_equal_bytes_whatever_the_rcparams(form):
    once = encode(draw([make_run()]), form)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "axes.grid": False}):
        twice = encode(draw([make_run()]), form)

    assert once == twice


def test_a_notebook_shows_a_figure():
    figure = draw([make_run()], "loss", dpi=30)

    assert figure._repr_png_() == encode(figure, "png")


# ---- the command


def test_the_same_command_makes_the_same_bytes_in_another_process(journal, tmp_path):
    sums = set()
    for seed in "12":
        out = tmp_path / f"{seed}.svg"
        subprocess.run(
            [sys.executable, "-m", "tools.cli", "plot", journal, "--out", out],
            env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True,
        )  # fmt: skip
        sums.add(hashlib.sha256(out.read_bytes()).hexdigest())

    assert len(sums) == 1


def test_a_plot_has_a_default_name_which_is_printed(journal, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["plot", str(journal), "--kind", "loss"]) == 0

    name = capsys.readouterr().out.strip()
    assert name == f"{journal.stem}_loss.png"
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_an_unreadable_run_is_reported_and_the_others_are_drawn(zoo, tmp_path, capsys):
    out = tmp_path / "all.PNG"

    assert main(["plot", str(zoo), "--out", str(out), "--log-x", "--superseded"]) == 1

    stdout, stderr = capsys.readouterr()
    assert stdout == f"{out}\n"
    assert "binary.json" in stderr
    assert "Traceback" not in stderr
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "x.jpg"], "--out x.jpg: must end in .png, .svg or .pdf"),
        (["--x", "tokens"], "its metadata has no tokens_per_iter. Use: --x iter"),
        (["--width", "1", "--height", "1"], "make --width or --height larger"),
        (
            ["--width", "90", "--dpi", "2400"],
            "--dpi 2400: width and height must be",
        ),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_one_line_and_no_file(
    flags, message, zoo_of_the_dead, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    assert main(["plot", str(zoo_of_the_dead / "finished.json"), *flags]) == 2

    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["matplotlib", "optuna"])
def test_no_command_imports_what_takes_long_unless_it_needs_it(library):
    code = f"import sys, tools.cli; sys.exit({library!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_message_says_what_to_install(journal):
    code = (
        "import sys; sys.modules['matplotlib'] = None; "
        f"from tools.cli import main; sys.exit(main(['plot', {str(journal)!r}]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == "runs plot needs matplotlib: pip install 'runjournal[tools]'\n"
