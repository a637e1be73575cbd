"""The page in a real browser."""

import contextlib
import time
from urllib.parse import urlsplit

import pytest

import eventlog
from tests.tools.conftest import make_run
from tests.tools.dashboard.pages import serving, serving_here, until

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)<_script>"
ROWS = ".runs.wide tr[data-id]"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    out = tmp_path_factory.mktemp("three") / "out"
    out.mkdir()
    make_run(out, "alpha", [5.0, 4.0, 3.5], learning_rate=1e-3, n_layer=6)
    make_run(out, "beta", [5.0, 4.5, 4.0], learning_rate=3e-4, n_layer=12)
    make_run(out, "gamma", [5.0, 4.8], learning_rate=3e-4, n_layer=12)
    with serving_here(out) as server:
        yield server


def log(run, *iters):
    for i in iters:
        run.log_iter(i, 5.0 - i / 100, 50.0, 30.0)


def test_points_arrive_while_the_run_goes_on(open_page, tmp_path):
    with serving_here(tmp_path) as server, eventlog.open_run(tmp_path, save_interval=0) as run:
        log(run, *range(10))
        opened = open_page(server)
        opened.wait_for_iters(range(10))
        for i in range(10, 30):
            log(run, i)
        opened.wait_for_iters(range(30))
        assert opened.page.text_content(".mark.running .word") == "running"
    ((_, points),) = opened.points().items()
    assert points[-1] == [29, pytest.approx(4.71)]


def test_a_resume_leaves_no_gap_and_no_duplicates_and_shows_what_it_superseded(open_page, tmp_path):
    with serving_here(tmp_path) as server:
        with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
            log(run, *range(20))
            opened = open_page(server)
            opened.wait_for_iters(range(20))
        with eventlog.open_run(journal=run.journal_path, from_iter=12, save_interval=0) as again:
            log(again, *range(12, 15))
            opened.wait_for_iters(range(15))
            log(again, *range(15, 40))
            opened.wait_for_iters(range(40))
            opened.page.click("a.name")
            opened.page.wait_for_selector("text=8 iterations: still in the journal")
            superseded = opened.page.evaluate(
                "async () => (await import('/main.js')).shownGrid().curves.runs.values().next()"
                ".value.superseded.filter((s) => s.key === 'loss')"
                ".map((s) => [...s.series.points.x])"
            )
    assert superseded == [list(range(12, 20))]


def test_by_time_the_line_has_a_gap_while_nobody_was_running(open_page, tmp_path):
    with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
        log(run, *range(20))
    time.sleep(0.4)
    with eventlog.open_run(journal=run.journal_path, from_iter=20, save_interval=0) as again:
        log(again, *range(20, 40))

    with serving_here(tmp_path) as server:
        opened = open_page(server, "x=time&smooth=5")
        opened.wait(lambda: [len(points) for points in opened.points().values()] == [40])
        by_time = share_with_a_line(opened)
        opened.page.click("text=Iterations")
        opened.page.wait_for_url("**x=iter*")
        by_iter = share_with_a_line(opened)

    assert by_iter > 0.95
    assert by_time < 0.5


LINE_SHARE = """async () => {
  const { shownGrid } = await import("/main.js");
  await new Promise((done) => setTimeout(done, 500));
  const chart = shownGrid().charts.get("loss");
  const [r, g, b] = chart.lines[0].colour.slice(1).match(/../g).map((part) => parseInt(part, 16));
  const { width, height } = chart.base;
  const { data } = chart.base.getContext("2d").getImageData(0, 0, width, height);
  const hasLine = new Set();
  for (let i = 0; i < data.length; i += 4) {
    const distance = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b);
    if (data[i + 3] > 60 && distance < 60) hasLine.add((i / 4) % width);
  }
  return hasLine.size / (chart.x.b - chart.x.a) / chart.ratio;
}"""


def share_with_a_line(opened):
    """The share of the chart's width in which there is a line."""
    return opened.page.evaluate(LINE_SHARE)


def test_a_restart_of_the_server_leaves_no_gap_and_no_duplicates(open_page, tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        with serving(tmp_path) as server:
            log(run, *range(10))
            opened = open_page(server)
            opened.wait_for_iters(range(10))
        opened.page.wait_for_selector("#banner.lost:not([hidden])")
        log(run, *range(10, 20))
        with serving(tmp_path, "--port", server.port):
            opened.wait_for_iters(range(20))
            log(run, *range(20, 25))
            opened.wait_for_iters(range(25))
            opened.page.wait_for_selector("#banner", state="hidden")


def test_a_page_whose_first_requests_fail_recovers(open_page, three):
    opened = open_page(three)
    opened.page.route("**/api/runs", lambda route: route.fulfill(status=503, body="busy"))
    opened.page.reload()
    opened.page.wait_for_selector("#banner.lost:not([hidden])")

    opened.page.unroute("**/api/runs")

    opened.wait_for_iters(range(3), range(3), range(2))
    opened.page.wait_for_selector("#banner", state="hidden")


def test_a_link_restores_the_filter_the_group_and_the_picked_runs(open_page, three):
    opened = open_page(three, "tab=runs")
    page = opened.page
    page.fill(".runs.wide input[type=search]", "n_layer = 12")
    opened.wait(lambda: page.locator(ROWS).count() == 2)
    page.select_option("[aria-label='Group runs by']", "config.learning_rate")
    page.wait_for_selector("tr.group")
    page.click("tr.group button")
    page.keyboard.press("1")
    page.wait_for_selector(".panel[data-key=loss][data-points]")

    again = open_page(three, urlsplit(page.url).fragment)
    again.wait_for_iters(range(3), range(2))
    again.page.keyboard.press("2")
    again.wait(lambda: again.page.locator(ROWS).count() == 2)
    assert again.page.text_content("tr.group .value") == "learning_rate 0.0003"
    assert again.page.text_content(".runs.wide .count") == "2 of 3 runs"


def test_a_wrong_filter_expression_shows_an_error_and_keeps_the_list(open_page, three):
    opened = open_page(three, "tab=runs")

    opened.page.fill(".runs.wide input[type=search]", "n_layers = 12")

    opened.page.wait_for_selector("text=Did you mean config.n_layer")
    assert opened.page.locator(ROWS).count() == 3


def test_a_drag_zooms_all_charts_and_a_double_click_resets_them(open_page, three):
    opened = open_page(three)
    opened.wait(lambda: len(opened.points()) == 3)
    box = opened.page.locator(".panel[data-key=loss] .plot").bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=4)
    opened.page.mouse.up()
    opened.page.wait_for_url("**from=*")

    ranges = "async () => [...(await import('/main.js')).shownGrid().charts.values()].map((c) => c.x && [c.x.low, c.x.high])"  # noqa: E501
    opened.page.wait_for_timeout(300)
    low, high = opened.page.evaluate(ranges)[0]
    assert 0 < low < high < 2
    assert all(found in (None, [low, high]) for found in opened.page.evaluate(ranges))
    opened.page.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
    opened.wait(lambda: "from=" not in opened.page.url)


def test_the_cursor_and_zoom_work_from_the_keyboard_and_are_announced(open_page, three):
    opened = open_page(three)
    opened.page.wait_for_selector(".panel[data-key=loss][data-points]")
    plot = opened.page.locator(".panel[data-key=loss] .plot")
    plot.focus()

    opened.page.keyboard.press("End")

    assert "iteration 2: beta 5, alpha 4.5" in opened.page.text_content("#spoken")
    opened.page.keyboard.press("+")
    opened.page.wait_for_url("**from=*")
    opened.page.keyboard.press("0")
    opened.wait(lambda: "from=" not in opened.page.url)


def make_trial(folder, number, params, val_loss):
    """A completed trial as `runs tune` logs it, of the group `lr`."""
    metadata = {"group": "lr", "trial": number, "params": params}
    with eventlog.open_run(
        folder, run_name=f"trial{number}", metadata=metadata, save_interval=0, durability="never"
    ) as run:
        run.log_eval(0, val_loss, val_loss)
        run.log_iter(0, val_loss, 50.0)


@pytest.fixture
def study(tmp_path):
    """Four trials of a group: the higher the learning rate the better."""
    for k in range(4):
        make_trial(tmp_path, k, {"lr": 10.0 ** (k - 5), "act": "ab"[k % 2]}, 5.0 - k)
    with serving_here(tmp_path) as server:
        yield server


TRIALS = ".trials tbody tr"


def test_a_group_opens_as_a_study_and_new_trials_are_drawn(open_page, study, tmp_path):
    opened = open_page(study, "tab=runs&group=metadata.group")
    page = opened.page
    page.click("[aria-label='Open this group as a study']")
    opened.wait(lambda: page.locator(TRIALS).count() == 4)
    assert page.locator(".axis title").all_text_contents() == ["lr", "act", "best val loss"]
    assert page.locator("tr.best th").text_content() == "trial3"
    assert page.text_content(".why").startswith("Too few runs: 4 runs have completed")

    make_trial(tmp_path, 4, {"lr": 0.1, "act": "c"}, 0.5)

    opened.wait(lambda: page.locator("tr.best th").text_content() == "trial4")
    assert page.locator(".coordinates-lines g:first-child path").count() == 5
    assert "c" in page.locator(".axis-label").all_text_contents()


def test_the_importance_of_each_parameter_is_shown_with_its_interval(open_page, tmp_path):
    for k in range(12):
        make_trial(tmp_path, k, {"lr": 10.0 ** (k // 4 - 5), "act": "ab"[k % 2]}, 5.0 - k // 4)
    with serving_here(tmp_path) as server:
        page = open_page(server, "tab=study").page
        page.wait_for_selector(".shares li")

        shown = page.locator(".shares li").all_inner_texts()

    assert [text.split("\n")[0] for text in shown] == ["lr", "act"]
    assert "100 % (100 to 100 %)" in shown[0]
    assert "0 %, not clear (0 to " in shown[1]


def test_a_link_restores_a_brushed_range(open_page, study):
    opened = open_page(study, "tab=study")
    page = opened.page
    opened.wait(lambda: page.locator(TRIALS).count() == 4)
    box = page.locator(".axis .grab").first.bounding_box()
    x, middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, middle)
    page.mouse.down()
    page.mouse.move(x, box["y"], steps=3)
    page.mouse.up()
    opened.wait(lambda: page.locator(TRIALS).count() == 2)
    opened.wait(lambda: "brush=" in page.url)

    again = open_page(study, urlsplit(page.url).fragment)
    again.wait(lambda: again.page.locator(TRIALS).count() == 2)
    assert again.page.locator(f"{TRIALS} th").all_text_contents() == ["trial3", "trial2"]
    assert again.page.locator(".coordinates-lines g:first-child path.out").count() == 2
    again.page.locator("[aria-label='lr from']").press("ArrowUp")
    again.page.locator("[aria-label='lr from']").press("Escape")
    again.wait(lambda: again.page.locator(TRIALS).count() == 4)
    assert "brush=" not in again.page.url


def test_trials_can_be_browsed_opened_and_filtered_from_the_keyboard(open_page, study):
    opened = open_page(study, "tab=study")
    page = opened.page
    opened.wait(lambda: page.locator(TRIALS).count() == 4)

    page.locator("[aria-label='best val loss to']").press("PageDown")
    opened.wait(lambda: page.locator(TRIALS).count() == 3)
    page.locator(".coordinates-focus").press("ArrowDown")

    assert page.text_content("#spoken") == "trial3, complete: lr 0.01, act b, best val loss 2"
    assert page.locator("tr.pointed th").text_content() == "trial3"
    page.keyboard.press("Enter")
    page.wait_for_selector(".run-head h1 >> text=trial3")
    page.click("a.tag >> text=study lr")
    opened.wait(lambda: page.locator(TRIALS).count() == 3)


def test_compare_shows_the_settings_that_differ_and_the_best_result(open_page, three):
    opened = open_page(three, "tab=compare")

    opened.page.wait_for_selector("text=Settings that differ: 3 of 3")
    row = opened.page.locator("tr", has_text="best validation loss")
    assert row.locator(".best").text_content() == "3.5000best"
    assert opened.page.locator("tr", has_text="n_layer").locator("td").count() == 3


def test_a_chart_can_be_saved_as_png_and_as_csv(open_page, three):
    opened = open_page(three)
    opened.page.wait_for_selector(".panel[data-key=loss][data-points]")
    opened.page.hover(".panel[data-key=loss]")
    with opened.page.expect_download() as png:
        opened.page.click(".panel[data-key=loss] button[aria-label*=PNG]")
    with opened.page.expect_download() as table:
        opened.page.click(".panel[data-key=loss] button[aria-label*=CSV]")

    assert png.value.suggested_filename == "loss.png"
    with open(png.value.path(), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    with open(table.value.path()) as file:
        assert file.readline() == "run,iter,seconds,loss\n"
        assert len(file.readlines()) == 8


def test_scripts_in_names_settings_and_notes_are_shown_as_text(open_page, tmp_path):
    config = {SCRIPT: SCRIPT, "b": "</script><script>alert(3)</script>"}
    for k in range(2):
        with eventlog.open_run(
            tmp_path,
            run_name=f"{SCRIPT}{k}",
            config=config | {"k": f"{SCRIPT}{k}"},
            save_interval=0,
        ) as run:
            log(run, 0, 1)
            run.log("note", text=SCRIPT)
            run.log_iter(2, 1.0, 50.0, **{SCRIPT: 1.0})
            run.log(f"{SCRIPT}", text=SCRIPT)
    with serving_here(tmp_path) as server:
        opened = open_page(server, f"tab=runs&group=config.{SCRIPT}&sort=config.k")
        opened.page.wait_for_selector("tr[data-id]")
        for tab in ("charts", "compare", "study"):
            opened.page.goto(f"{server.address}#tab={tab}")
            opened.page.wait_for_timeout(400)
        opened.page.click("a.name >> nth=0")
        opened.page.wait_for_selector(".tail li")
        assert opened.page.locator(f"text={SCRIPT}").count() > 3
        assert opened.page.locator("img, script:not([src='/main.js'])").count() == 0


@pytest.mark.parametrize(
    "view",
    ["", "tab=runs", "tab=compare", "tab=study", "tab=run&run=RUN", "mean=seeds",
     "tab=runs&mean=config.n_layer"],
)  # fmt: skip
def test_every_control_has_a_label_and_the_page_fits_a_phone(open_page, three, view):
    id = next(iter(three.rows().values()))["id"]
    opened = open_page(three, view.replace("RUN", id), size={"width": 390, "height": 844})
    opened.page.wait_for_timeout(600)

    nameless = opened.page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, [tabindex='0']")]
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.closest("label")))
      .map((e) => e.outerHTML)""")  # noqa: E501
    assert nameless == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_alerts_are_in_the_list_and_on_the_page_of_the_run(open_page, tmp_path):
    journal = make_run(tmp_path, "alpha").with_suffix(".jsonl")
    stall = {"rule": "stall", "text": "no event for 5 min", "iter": 2, "t": "", "now": True}
    with serving_here(tmp_path) as server:
        page = open_page(server, "tab=runs").page
        page.wait_for_selector(ROWS)
        server.folders.warn({journal: [stall]})
        page.wait_for_selector(".tags.bad")

        marked = page.locator(".tags.bad").first.text_content()
        page.locator(f"{ROWS} a.name").click()
        alert = page.wait_for_selector(".alerts .now").text_content()

    assert marked == "⚠ stall"
    assert alert == "stall no event for 5 min now"


HIGH = "async () => (await import('/main.js')).shownGrid().charts.get('loss').y.high"


@pytest.fixture
def opened_with(open_page, tmp_path):
    """Opens the page of a run of 100 losses from 3.0 to 3.4, of which one has another value."""
    with contextlib.ExitStack() as servers:

        def open_with(iter, loss):
            with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
                for i in range(100):
                    run.log_iter(i, loss if i == iter else 3.0 + i % 5 / 10, 50.0)
            shown = open_page(servers.enter_context(serving_here(tmp_path)))
            shown.wait(lambda: shown.page.locator(".panel[data-key=loss][data-points]").count())
            return shown

        yield open_with


def test_an_outlier_that_would_flatten_the_rest_is_cut_off_and_a_click_shows_it(opened_with):
    shown = opened_with(0, 1e6)
    cut = shown.page.locator(".panel[data-key=loss] .cut")
    assert cut.inner_text() == "1 outlier cut off"
    assert shown.page.evaluate(HIGH) < 10

    cut.click()

    shown.wait(lambda: shown.page.evaluate(HIGH) > 1e6)
    assert cut.is_hidden()
    assert shown.page.evaluate("async () => (await import('/state.js')).layoutNow().panels") == {
        "loss": {"fit": "off"}
    }


def test_other_outliers_are_cut_off_on_request(opened_with):
    shown = opened_with(40, 5.0)
    assert shown.page.evaluate(HIGH) > 5

    shown.page.keyboard.press("o")

    shown.wait(lambda: shown.page.evaluate(HIGH) < 4)
    assert "fit=on" in shown.page.url


def test_a_run_of_metrics_has_a_chart_for_each_series_and_is_marked_where_it_ends_in_nan(
    open_page, tmp_path
):
    with eventlog.open_run(tmp_path, run_name="m", save_interval=0) as run:
        for i in range(3):
            values = {"train/loss": 1.0 if i < 2 else float("nan"), "val/acc": 0.5, "a\nb": 1.0}
            run.log("metrics", step=i, phase="warmup", **values)
    with serving_here(tmp_path) as server:
        (row,) = until(server.rows).values()
        page = open_page(server, f"tab=run&run={row['id']}").page
        page.wait_for_selector('.panel[data-key="train/loss"][data-points]')
        titles = page.locator(".panel h3 > span").all_text_contents()
        tile = page.locator(".tiles dd.bad").text_content()
        latest = page.locator('.panel[data-key="train/loss"] .latest.bad').text_content()
        table = page.locator(".series tr").all_text_contents()
        name = page.locator("tr .tags.bad").first.text_content()

    assert titles == ["train/loss", "a\nb", "val/acc"]
    assert tile == "nan"
    assert latest == "nan since 2"
    assert any("phase" in line and "warmup" in line for line in table)
    assert "ends in NaN: train/loss" in name


def test_metrics_named_like_properties_of_every_object_are_drawn(open_page, tmp_path):
    names = ("constructor", "to_string_constructor", "hasOwnProperty")
    with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
        for i in range(3):
            run.log_iter(i, 3.0, 50.0, **dict.fromkeys(names, float(i)))
    with serving_here(tmp_path) as server:
        page = open_page(server).page
        page.wait_for_selector(".panel[data-key=hasOwnProperty][data-points]")
        titles = page.locator(".panel h3").all_text_contents()

    assert set(names) <= set(titles)


def test_on_a_phone_the_colours_of_runs_are_explained_above_the_charts(open_page, three):
    page = open_page(three, "", size={"width": 390, "height": 800}).page

    names = page.locator(".names li")

    names.first.wait_for(state="visible")
    assert sorted(names.all_text_contents()) == ["alpha", "beta", "gamma"]


def test_the_theme_follows_the_system_and_can_be_chosen(open_page, three):
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = open_page(three, color_scheme="dark")
    light = open_page(three, color_scheme="light")
    seen = [one.page.evaluate(ground) for one in (dark, light)]
    light.page.keyboard.press("t")

    assert seen[0] != seen[1]
    assert light.page.evaluate(ground) == seen[0]
    light.page.reload()
    assert light.page.evaluate(ground) == seen[0]


def test_an_empty_folder_explains_itself_and_shows_the_first_run(open_page, tmp_path):
    with serving_here(tmp_path) as server:
        opened = open_page(server, "tab=runs")
        opened.page.wait_for_selector("text=Runs appear here as soon as they start")
        make_run(tmp_path, "first", [5.0, 4.0])
        opened.page.wait_for_selector("a.name >> text=first")


@pytest.mark.slow
def test_a_run_that_is_resumed_many_times_is_followed_exactly(open_page, tmp_path):
    """pytest -m slow tests/tools/dashboard/test_page.py"""
    with serving_here(tmp_path) as server:
        opened, path, done = None, None, 0
        for k in range(12):
            begin = max(0, done - 7 * (k % 3))
            with eventlog.open_run(
                tmp_path, journal=path, from_iter=begin if path else None, save_interval=0
            ) as run:
                path = run.journal_path
                opened = opened or open_page(server)
                done = begin + 40
                for i in range(begin, done):
                    log(run, i)
                    time.sleep(0.005)
            opened.wait_for_iters(range(done))


def test_evaluations_of_an_own_loop_stand_at_its_own_counter(open_page, tmp_path):
    with eventlog.init(name="nano", dir=tmp_path, quiet=True) as run:
        for k in range(3):
            run.log({"iter": 250 * k, "val/loss": 5.0 - k, "other": 1.0}, step=k)
    panel = '.panel[data-key="val/loss"][data-points]'
    with serving_here(tmp_path) as server:
        view = open_page(server, "picks=" + one_of(until(server.rows)))
        page = view.page
        page.wait_for_selector(panel)
        page.wait_for_selector(".axis-series option[value='metrics/iter']", state="attached")
        by_default = keyboard_text(page, panel, "End")
        pressed = page.locator(".segments [aria-pressed=true]").count()
        page.click(".segments [data-x=iter]")
        view.wait(lambda: keyboard_text(page, panel, "End").startswith("iteration 2"))

    assert by_default.startswith("iter 500")
    assert pressed == 0


def one_of(rows):
    (row,) = rows.values()
    return row["id"]


def keyboard_text(page, panel, key):
    """What is announced after a key in a chart: its place on the axis, and its values."""
    page.locator(f"{panel} .plot").focus()
    page.keyboard.press(key)
    return page.text_content("#spoken")
