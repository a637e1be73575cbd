"""Every number that the page shows as text, against the run JSON."""

import contextlib
import math
import re

import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until

BIG = 1 << 53
NAN, INF = math.nan, math.inf
UNITS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "P": 1e15}


def steps(run, values, **more):
    for i, value in enumerate(values):
        run.log_iter(i, value, 10.25 + i % 7, 31.5, **{k: f(i) for k, f in more.items()})


def evals(run, *values):
    for i, value in enumerate(values):
        run.log_eval(10 * i, value, value)


def logs(run, **series):
    for i in range(30):
        run.log("metrics", step=i, **{name: f(i) for name, f in series.items()})


def resumed(run):
    steps(run, [3.0, 2.0, 1.0, 0.5])
    evals(run, 0.25, 0.125)
    run.log("rewind", to_iter=2)
    run.log_iter(2, 1.75, 12.0, 30.0)


ODD = {
    "plain": lambda run: steps(run, [3 - i / 50 for i in range(50)], lr=lambda i: 1e-3 / (i + 1)),
    "empty": lambda run: None,
    "one-step": lambda run: steps(run, [2.5]),
    "one-eval": lambda run: evals(run, 4.125),
    "long": lambda run: steps(run, [2 + math.sin(i) / 9 for i in range(9000)] + [7.123456]),
    "spike-first": lambda run: steps(run, [1e6] + [1 + i / 100 for i in range(200)]),
    "nan-end": lambda run: steps(run, [1.0, 0.5, NAN]),
    "all-nan": lambda run: steps(run, [NAN] * 20),
    "inf-end": lambda run: (steps(run, [1.0, INF]), evals(run, 1.0, INF)),
    "nan-eval": lambda run: (steps(run, [1.0, 0.9]), evals(run, 0.75, NAN)),
    "no-mfu": lambda run: [run.log_iter(i, 2.0, 10.0) for i in range(5)],
    "mfu-once": lambda run: [run.log_iter(i, 2.0, 9.0, -100.0 if i else 40.0) for i in range(5)],
    "tiny": lambda run: steps(run, [1.5e-9 * (i + 1) for i in range(20)]),
    "huge": lambda run: steps(run, [1.5e12 * (i + 1) for i in range(20)]),
    "negative": lambda run: (steps(run, [-1.5, -2.25]), evals(run, -1.0, -3.5)),
    "whole": lambda run: (steps(run, [3, 2, 1]), evals(run, 2, 1)),
    "resumed": resumed,
    "metrics": lambda run: logs(run, acc=lambda i: i / 30, err=lambda i: -i, ok=lambda i: i % 2),
    "text": lambda run: logs(run, phase=lambda i: "warm" if i < 9 else "cold", x=lambda i: i / 7),
    "late-steps": lambda run: [run.log_iter(10**9 + i, 1.0 / (i + 1), 1.0, 1.0) for i in range(9)],
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The runs by name, as their run JSON has them, and a server of their folder."""
    out = tmp_path_factory.mktemp("odd")
    for k, (name, log) in enumerate(ODD.items()):
        with eventlog.open_run(out, run_name=name, config={"seed": BIG + k}) as run:
            log(run)
    found = {path.stem.rsplit("_", 2)[0]: eventlog.load_run(path) for path in out.glob("*.json")}
    assert found.keys() == ODD.keys()
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == len(ODD))
        yield found, server


def is_shown(text, expected):
    """Whether a text is a number, to as many digits as it has; unknown is a dash."""
    if isinstance(expected, str) and expected in ("nan", "inf", "-inf"):
        return text == expected
    if expected is None or expected != expected:
        return text == "–"
    found = re.fullmatch(r"([−-]?[\d,]*\.?\d+(?:e-?\d+)?)([kMBTP]?)(?: %)?", text)
    if not found:
        return False
    digits, unit = found[1].replace(",", "").replace("−", "-"), found[2]
    shown = float(digits) * UNITS.get(unit, 1)
    if isinstance(expected, int) and not unit:
        return shown == expected
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    step = 10.0 ** (int(exponent or 0) - decimals) * UNITS.get(unit, 1)
    return abs(shown - expected) <= 0.5001 * step + 1e-12 * abs(expected)


def expected_of(run, key):
    """A result of a run: the name of what it is if it is not finite."""
    ends = run.ends_nonfinite()
    if key == "final_train_loss" and "loss" in ends:
        return ends["loss"]
    return run.summary[key]


COLUMNS = {
    "iterations": "total_iterations", "best val": "best_val_loss", "last loss": "final_train_loss",
    "ms/iter": "avg_time_ms", "MFU %": "avg_mfu",
}  # fmt: skip


def test_the_table_has_the_numbers_of_each_run(odd, open_page):
    found, server = odd
    page = open_page(server, "tab=runs", size={"width": 1800, "height": 1600}).page
    page.wait_for_selector(".runs.wide tr[data-id]")
    heads = [text.rstrip("↓↑ ") for text in page.locator(".runs.wide thead th").all_inner_texts()]

    rows = page.locator(".runs.wide tr[data-id]").all()

    assert len(rows) == len(ODD)
    for row in rows:
        cells = dict(zip(heads, row.locator("td, th").all_inner_texts(), strict=True))
        name = cells["run"].split("_2")[0].split("\n")[0].strip()
        run = found[name]
        if not len(run.training_iterations):  # the results of its metrics are tested below
            continue
        for head, key in COLUMNS.items():
            assert is_shown(cells[head], expected_of(run, key)), (name, head, cells[head])
        assert cells["seed"] == str(run.config["seed"])


def test_two_settings_beyond_2_to_the_53_differ_side_by_side(odd, open_page):
    _, server = odd
    page = open_page(server, "tab=compare", size={"width": 4000, "height": 1600}).page
    page.click("button:text-is('all')")
    page.wait_for_selector("text=Settings that differ: 1 of 1")

    shown = page.locator(".sides tr", has=page.locator("th", has_text="seed")).locator("td")

    assert sorted(shown.all_inner_texts()) == sorted(str(BIG + k) for k in range(len(ODD)))


TILES = {
    "iterations": "total_iterations", "last iteration": "final_iter", "MFU": "avg_mfu",
    "best val loss": "best_val_loss", "last train loss": "final_train_loss",
    "ms per iteration": "avg_time_ms", "checkpoints": "total_checkpoints",
}  # fmt: skip


def wrong_tiles(page, run):
    """Tiles whose text is not the summary's value; those of metrics are in the table, too."""
    if not len(run.training_iterations):
        return {}
    tiles = page.locator(".tiles div").all()
    texts = {t.locator("dt").inner_text(): t.locator("dd").inner_text() for t in tiles}
    return {
        label: texts.get(label)
        for label, key in TILES.items()
        if not is_shown(texts.get(label) or "", expected_of(run, key))
    }


def wrong_series(page, run):
    """Rows of the table of series with a cell that is not the series' value."""
    series = run.series()
    rows = [row.locator("td").all_inner_texts() for row in page.locator(".series tbody tr").all()]
    listed = {row[0]: row for row in rows}
    return [
        listed.get(name, name)
        for name in {**series, **listed}
        if not (name in series and name in listed and is_row_of(series[name], *listed[name]))
    ]


def is_row_of(one, name, _, last, at, low, low_at, high, high_at, n, n_nonfinite):
    counts = (n.replace(",", ""), (n_nonfinite or "0").replace(",", ""))
    if counts != (str(one.count), str(one.n_nonfinite)) or not is_shown(at, one.last_step):
        return False
    if not one.is_numeric:
        return (last, low, high) == (one.last, "", "")
    is_finite = isinstance(one.last, int | float) and math.isfinite(one.last)
    pairs = [
        (last, one.last if is_finite else str(one.last)),
        (low.removesuffix("best"), one.min),
        (high.removesuffix("best"), one.max),
        (low_at, one.min_step),
        (high_at, one.max_step),
    ]
    return all(is_shown(*pair) for pair in pairs)


@pytest.mark.parametrize("name", ODD)
def test_the_page_of_a_run_has_its_summary_and_each_of_its_series(odd, open_page, name):
    found, server = odd
    run = found[name]
    (row,) = [row for row in server.rows().values() if row["run"].startswith(f"{name}_2")]
    opened = open_page(server, f"tab=run&run={row['id']}")
    opened.page.wait_for_selector(".tiles dd:not(:empty)")

    def is_right():  # it is read while it is shown
        return not wrong_tiles(opened.page, run) and not wrong_series(opened.page, run)

    with contextlib.suppress(AssertionError):
        opened.wait(is_right)

    assert wrong_tiles(opened.page, run) == {}
    assert wrong_series(opened.page, run) == []


def test_the_latest_value_beside_a_curve_is_the_last_row_and_no_point_of_the_thinned_curve(
    odd, open_page
):
    found, server = odd
    (row,) = [row for row in server.rows().values() if row["run"].startswith("long_2")]
    page = open_page(server, f"tab=run&run={row['id']}").page
    page.wait_for_selector(".panel[data-key=loss][data-points]")

    latest = page.locator(".panel[data-key=loss] .latest").inner_text()

    assert is_shown(latest, found["long"].training_iterations[-1]["loss"])


TICKS = """async ([low, high]) => {
  const { ticks } = await import("/scale.js");
  const { tickLabels } = await import("/format.js");
  return tickLabels(ticks(low, high, 5, false), "", false);
}"""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.00095, 0.00105, ["9.6e-4", "9.8e-4", "0.001", "0.00102", "0.00104"]),
        (BIG, BIG + 600, ["9.007P", "+200", "+400"]),
        (1e6, 1e6 + 4, ["1,000,000", "1,000,001", "1,000,002", "1,000,003", "1,000,004"]),
    ],
)
def test_the_labels_of_an_axis_differ_and_are_short(odd, open_page, low, high, labels):
    page = open_page(odd[1]).page

    shown = page.evaluate(TICKS, [low, high])

    assert len(set(shown)) == len(shown)
    assert shown == labels
