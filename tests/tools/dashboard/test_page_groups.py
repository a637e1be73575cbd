"""The mean of runs that differ in the seed alone, on the page in a real browser."""

import contextlib

import numpy as np
import pytest

import eventlog
from tests.tools.conftest import make_seeds
from tests.tools.dashboard.pages import serving_here, until

BANDS = """async (key) => {
  const grid = (await import("/main.js")).shownGrid();
  return Object.fromEntries(grid.curves.groups.map(({ name, series }) => {
    const { points, spread } = series.get(key);
    return [name, { mean: [...points.y], std: [...spread.std], n: [...spread.n] }];
  }));
}"""


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A folder with three settings of five seeds, and the losses of each setting."""
    out = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(2)
    losses = {lr: 3.0 + rng.normal(size=(5, 8)) for lr in (0.1, 0.01, 0.001)}
    make_seeds(out, losses)
    return out, {f"lr={lr}": of_seeds for lr, of_seeds in losses.items()}


@pytest.fixture(scope="module")
def server(losses):
    with serving_here(losses[0]) as server:
        until(lambda: len(server.rows()) == 15)
        yield server


def test_the_switch_draws_the_mean_of_each_setting_with_its_band(open_page, server, losses):
    opened = open_page(server)
    opened.page.wait_for_selector(".panel[data-key=loss][data-points]")

    opened.page.click("button >> text=Mean of seeds")
    opened.wait(lambda: opened.page.locator(".names.grouped li").count() == 3)

    legend = opened.page.locator(".names.grouped li").all_text_contents()
    assert sorted(legend) == sorted(f"{name}5 runs" for name in losses[1])
    bands = opened.page.evaluate(BANDS, "loss")
    for name, of_runs in losses[1].items():
        assert bands[name]["n"] == [5.0] * 8
        np.testing.assert_allclose(bands[name]["mean"], of_runs.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(bands[name]["std"], of_runs.std(axis=0, ddof=1), rtol=1e-12)
    assert opened.page.locator(".panel").count() == opened.page.locator(".panel h3").count() > 1


def test_the_table_has_a_row_for_each_setting_that_opens_to_its_runs(open_page, server, losses):
    page = open_page(server, "tab=runs&mean=seeds").page
    page.wait_for_selector("thead th.number >> text=seed")
    page.wait_for_selector("tr.mean-row >> nth=2")

    rows = {
        row.locator(".value").text_content(): row.locator("td.number").all_text_contents()
        for row in page.locator("tr.mean-row").all()
    }
    page.click("tr.mean-row:has-text('lr=0.01') button")
    page.wait_for_selector("tr[data-id] >> nth=4")

    for name, of_runs in losses[1].items():
        last = of_runs[:, -1]
        assert f"{last.mean():.4f} ± {last.std(ddof=1):.4f}" in rows[name]
        assert f"lr={rows[name][-2]}" == name
        assert rows[name][-1] == "5 values"  # of the seed
    assert page.locator("tr[data-id]").count() == 5
    assert page.locator("tr.mean-row").count() == 3


def test_the_compare_tab_has_a_column_for_each_setting_with_its_p_value(open_page, server, losses):
    stats = pytest.importorskip("scipy.stats")
    ids = [row["id"] for row in server.rows().values()]
    page = open_page(server, f"tab=compare&picks={','.join(ids)}").page
    page.wait_for_selector(".sides thead tr > * >> nth=15")

    page.click(".compare button >> text=Mean of seeds")
    page.wait_for_selector(".sides thead .value >> nth=2")

    names = page.locator(".sides thead .value").all_text_contents()
    assert sorted(names) == sorted(losses[1])
    assert page.locator(".sides thead small").all_text_contents() == ["5 runs"] * 3
    cells = page.locator("tr:has(> th:text-is('last training loss')) > td").all_text_contents()
    first = losses[1][names[0]][:, -1]
    for name, cell in zip(names, cells, strict=True):
        last = losses[1][name][:, -1]
        assert cell.startswith(f"{last.mean():.4f} ± {last.std(ddof=1):.4f}")
        p = stats.ttest_ind(last, first, equal_var=False).pvalue
        assert name == names[0] or cell.endswith(f", p {p:.3g}")
    settings = page.locator("tr:has(> th:text-is('lr')) > td").all_text_contents()
    assert settings == [name.removeprefix("lr=") for name in names]


def test_runs_are_grouped_by_keys_and_a_link_restores_them(open_page, server):
    opened = open_page(server, "mean=seeds")
    opened.page.fill(".controls .mean-by input", "config.seed")
    opened.page.keyboard.press("Enter")
    opened.wait(lambda: opened.page.locator(".names.grouped li").count() == 5)

    again = open_page(server, opened.page.url.partition("#")[2])
    again.wait(lambda: again.page.locator(".names.grouped li").count() == 5)
    names = again.page.locator(".names.grouped li b").all_text_contents()
    again.page.keyboard.press("e")
    again.wait(lambda: again.page.locator(".names.grouped").count() == 0)

    assert sorted(names) == [f"seed={k}" for k in range(5)]


def test_an_unknown_key_is_an_error_beside_the_charts(open_page, server):
    page = open_page(server, "mean=config.sead").page

    page.wait_for_selector(".grid > .hint >> text=Did you mean config.seed")


def test_a_run_without_a_tick_is_not_in_the_mean(open_page, server):
    opened = open_page(server, "mean=seeds")
    opened.wait(lambda: opened.page.locator(".names.grouped li").count() == 3)
    opened.page.click("tr.mean-row:has-text('lr=0.01') button.disclose")
    opened.page.click("tr[data-id] >> nth=0 >> input")

    opened.wait(lambda: opened.page.locator(".names li >> text=4 runs").count() == 1)

    assert set(opened.page.evaluate(BANDS, "loss")["lr=0.01"]["n"]) == {4.0}


def test_the_mean_follows_runs_that_go_on(open_page, tmp_path):
    with serving_here(tmp_path) as server, contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(
                eventlog.open_run(
                    tmp_path, run_name=f"s{seed}", config={"seed": seed}, save_interval=0
                )
            )
            for seed in range(2)
        ]
        for seed, run in enumerate(runs):
            run.log_iter(0, 1.0 + seed, 50.0)
        until(lambda: len(server.rows()) == 2)
        opened = open_page(server, "mean=seeds")
        opened.wait(lambda: mean_of(opened.page) == [1.5])

        runs[0].log_iter(1, 3.0, 50.0)
        opened.wait(lambda: mean_of(opened.page) == [1.5, 3.0])
        runs[1].log_iter(1, 5.0, 50.0)

        opened.wait(lambda: mean_of(opened.page) == [1.5, 4.0])


def mean_of(page):
    groups = page.evaluate(BANDS, "loss") if page.locator(".names.grouped li").count() else {}
    return next((of["mean"] for of in groups.values()), None)
