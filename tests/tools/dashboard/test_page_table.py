"""The table of runs in a real browser: its columns, order, colours and file; 1,000 rows."""

import csv
import re
import subprocess
import sys
import urllib.parse
from urllib.parse import urlsplit

import orjson
import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until
from tests.tools.dashboard.test_columns import make_sweep

ROWS = ".runs.wide tr[data-id]"
N_MANY = 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    make_sweep(out)
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == 12)
        yield server


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A thousand run JSONs of another logger."""
    out = tmp_path_factory.mktemp("many")
    for k in range(N_MANY):
        run = {
            "run_name": f"r{k:04}", "start_time": f"2026-01-01T00:{k // 60 % 60:02}:{k % 60:02}",
            "end_time": "2026-01-02T00:00:00", "config": {"k": k}, "training_iterations": [],
            "eval_steps": [], "checkpoints": [], "metadata": {}, "summary": {"best_val_loss": k},
        }  # fmt: skip
        (out / f"r{k:04}.json").write_bytes(orjson.dumps(run))
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == N_MANY)
        yield server


def heads(page):
    return [text.strip(" ↓↑\n") for text in page.locator(".runs.wide thead th").all_inner_texts()]


def names(page):
    return [text.split("_")[0] for text in page.locator(f"{ROWS} a.name").all_inner_texts()]


def cells(page, head):
    """The texts of a column."""
    at = heads(page).index(head)
    return [row.locator("td").nth(at).inner_text() for row in page.locator(ROWS).all()]


def open_table(open_page, server, view="", column="val/acc:best"):
    opened = open_page(server, f"tab=runs{view}", size={"width": 1500, "height": 700})
    opened.wait(lambda: column in heads(opened.page))
    opened.wait(lambda: any(text != "–" for text in cells(opened.page, column)))
    return opened


def test_a_column_is_added_by_its_name_moved_and_removed_and_a_link_shows_the_same(
    open_page, server
):
    opened = open_table(open_page, server)
    page = opened.page
    page.click("text=Columns")
    for text in ("val/loss:min", "same"):
        page.keyboard.type(text)
        page.keyboard.press("Enter")
    page.click("[aria-label='Remove: dropout']")
    for _ in range(8):
        page.locator("[aria-label='Move to the left: val/loss:min']").press("Enter")
    page.keyboard.press("Escape")
    opened.wait(lambda: "val/loss:min" in heads(page) and cells(page, "val/loss:min")[0] != "–")

    again = open_table(open_page, server, "&" + urlsplit(page.url).fragment, "val/loss:min")

    shown = heads(again.page)
    assert shown[1:4] == ["status", "val/loss:min", "run"]
    assert "dropout" not in shown
    assert shown[-1] == "same"
    assert cells(again.page, "val/loss:min")[0] == "0"
    at = shown.index("val/acc:best")
    exact = again.page.locator(ROWS).first.locator("td").nth(at).get_attribute("title")
    assert float(exact) == 2 / 10 + 1 / 100 + 11 / 3e4
    assert cells(again.page, "val/acc:best")[0] == "0.2104"


def test_the_table_is_sorted_by_a_series_and_filtered_by_one(open_page, server):
    opened = open_table(open_page, server)
    page = opened.page
    button = page.locator(".runs.wide th button", has_text="val/acc:best")

    button.click()
    opened.wait(lambda: names(page)[0] == "r00")
    ascending = names(page)
    button.click()
    opened.wait(lambda: names(page)[0] == "r11")
    page.fill(".runs.wide input[type=search]", "val/acc:max > 0.1 and config.dropout = 1")
    opened.wait(lambda: page.locator(ROWS).count() == 4)

    assert ascending == [f"r{k:02}" for k in range(12)]
    assert names(page) == ["r11", "r09", "r07", "r05"]


def test_words_of_a_filter_are_looked_for_in_notes_tags_and_groups(open_page, server):
    opened = open_table(open_page, server)
    found = {}

    for words in ("outage", "kept", "g1"):
        opened.page.fill(".runs.wide input[type=search]", words)
        opened.wait(lambda: opened.page.locator(ROWS).count() < 12)
        found[words] = names(opened.page)
        opened.page.keyboard.press("Escape")
        opened.wait(lambda: opened.page.locator(ROWS).count() == 12)

    assert found["outage"] == found["kept"] == ["r03"]
    assert sorted(found["g1"]) == [f"r{k:02}" for k in range(1, 12, 2)]


def test_the_file_of_the_table_has_its_rows_and_columns_with_numbers_in_full(open_page, server):
    view = "&q=dropout = 1&sort=-val/acc:best&columns=run,val/acc:best,config.lr,note"
    opened = open_table(open_page, server, view)
    opened.wait(lambda: names(opened.page)[0] == "r11")

    with opened.page.expect_download() as file:
        opened.page.click("text=CSV")
    with open(file.value.path(), newline="") as lines:
        rows = list(csv.DictReader(lines))

    assert [row["run"].split("_")[0] for row in rows] == ["r11", "r09", "r07", "r05", "r03", "r01"]
    for row in rows:
        k = int(row["run"][1:3])
        assert float(row["val/acc:best"]) == k // 4 / 10 + 1 / 100 + k / 3e4
        assert float(row["config.lr"]) == 0.1 * (1 + k // 4)
    assert rows[4]["note"] == "after the outage"


def test_no_cell_of_the_file_is_a_formula(open_page, tmp_path):
    with eventlog.open_run(
        tmp_path, run_name="=1+1", config={"a": '=cmd|"/C calc"!A0', "b": -3}, save_interval=0
    ) as run:
        run.log_iter(0, 1.0, 1.0)
    with serving_here(tmp_path) as server:
        until(server.rows)
        page = open_page(server, "tab=runs&columns=run,config.a,config.b").page
        page.wait_for_selector(ROWS)
        with page.expect_download() as file:
            page.click("text=CSV")
        with open(file.value.path(), newline="") as lines:
            head, row = csv.reader(lines)

    assert head == ["run", "config.a", "config.b"]
    assert row[0].startswith("'=1+1")
    assert row[1:] == ['\'=cmd|"/C calc"!A0', "-3"]


def test_the_list_can_have_the_picked_runs_alone_and_counts_what_is_not_drawn(open_page, server):
    ids = {row["run"].split("_")[0]: row["id"] for row in server.rows().values()}
    opened = open_table(open_page, server, f"&picks={ids['r02']},{ids['r07']},0123456789ab")
    page = opened.page
    text = page.inner_text(".runs.wide .drawn")

    page.click("text=Only picked")
    opened.wait(lambda: page.locator(ROWS).count() == 2)

    assert text == "2 of 12 drawn: those that are ticked; 1 picked run not in these folders"
    assert sorted(names(page)) == ["r02", "r07"]
    assert "only=1" in page.url


def test_a_copied_link_has_the_runs_and_columns_that_were_chosen_by_default(open_page, server):
    opened = open_table(open_page, server)
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    drawn = page.evaluate("[...document.querySelectorAll('.wide tr:has(input:checked)')].length")

    page.click(".runs.wide [aria-label^='Copy a link']")
    page.wait_for_selector("text=Link copied")

    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert "columns=status,run,best_val_loss,val/acc:best" in urllib.parse.unquote(link)
    assert len(link.split("picks=")[1].split("&")[0].split(",")) == drawn == 6


COLOURS = """async () => {
  const { shownGrid } = await import("/main.js");
  return Object.fromEntries(shownGrid().linesOf("val/acc").map((l) => [l.name, l.colour]));
}"""


def test_runs_with_an_equal_setting_have_one_colour_and_the_legend_has_its_value(open_page, server):
    ids = ",".join(row["id"] for row in server.rows().values())
    opened = open_page(server, f"colour=config.lr&picks={ids}")
    opened.page.wait_for_selector(".panel[data-key='val/acc'][data-points='24']")

    colours = opened.page.evaluate(COLOURS)
    legend = opened.page.locator(".legend li").all_inner_texts()

    of_lr = [{colours[f"r{k:02}"] for k in range(4 * j, 4 * j + 4)} for j in range(3)]
    assert [len(one) for one in of_lr] == [1, 1, 1]
    assert len(set.union(*of_lr)) == 3
    assert [text.split() for text in legend] == [
        ["lr"], ["0.1", "4", "runs"], ["0.2", "4", "runs"], ["0.3", "4", "runs"],
    ]  # fmt: skip


def test_the_legend_says_how_many_values_have_no_colour_of_their_own(open_page, server):
    ids = ",".join(row["id"] for row in server.rows().values())
    page = open_page(server, f"colour=config.seed&picks={ids}").page

    page.wait_for_selector(".legend >> text=5 other values: more than there are colours")

    assert page.locator(".legend .swatch").count() == 8


PALE = """async () => {
  const { shownGrid } = await import("/main.js");
  return shownGrid().linesOf("val/acc").map((line) => [line.name, line.colour.length]);
}"""


def test_the_line_of_the_row_under_the_pointer_stands_out(open_page, server):
    opened = open_page(server)
    opened.wait(lambda: len(opened.points("val/acc")) == 6)

    opened.page.hover("#side tr[data-id] >> nth=3")

    lines = opened.page.evaluate(PALE)
    name = opened.page.locator("#side tr[data-id] a.name > span").nth(3).inner_text()
    assert lines[-1] == [name, len("#rrggbb")]
    assert {length for _, length in lines[:-1]} == {len("#rrggbbaa")}
    opened.page.mouse.move(700, 5)
    opened.wait(lambda: all(n == len("#rrggbb") for _, n in opened.page.evaluate(PALE)))


NEAR = """async ([key, name]) => {
  const { shownGrid } = await import("/main.js");
  const chart = shownGrid().charts.get(key);
  const { points } = chart.lines.find((line) => line.name === name);
  const box = chart.plot.getBoundingClientRect();
  return [box.left + chart.x.px(points.x[0]) + 1, box.top + chart.y.px(points.y[0])];
}"""


def test_the_row_of_the_line_under_the_pointer_stands_out(open_page, server):
    opened = open_page(server)
    opened.wait(lambda: len(opened.points("val/acc")) == 6)
    opened.page.wait_for_selector(".panel[data-key='val/acc'][data-points='12']")

    opened.page.mouse.move(*opened.page.evaluate(NEAR, ["val/acc", "r06"]))

    row = opened.page.wait_for_selector("#side tr.pointed a.name > span")
    assert row.inner_text() == "r06"


def test_of_a_thousand_runs_the_rows_in_view_are_there_and_all_can_be_scrolled_to(open_page, many):
    opened = open_page(many, "tab=runs&sort=run", size={"width": 1200, "height": 700})
    page = opened.page
    page.wait_for_selector(ROWS)
    n_at_first = page.locator(ROWS).count()

    page.evaluate("document.querySelector('.wide .scroll').scrollTop = 1e9")
    opened.wait(lambda: names(page)[-1] == "r0999")

    assert n_at_first < 100
    assert page.locator(ROWS).count() < 100
    assert page.get_attribute(".wide table", "aria-rowcount") == str(N_MANY + 1)
    assert page.locator(ROWS).last.get_attribute("aria-rowindex") == str(N_MANY + 1)
    assert page.inner_text(".wide .drawn").startswith("6 of 1,000 drawn")


def test_keys_go_on_to_rows_that_were_not_in_view(open_page, many):
    opened = open_page(many, "tab=runs&sort=run", size={"width": 1200, "height": 700})
    page = opened.page
    page.wait_for_selector(ROWS)

    for _ in range(60):
        page.keyboard.press("j")

    focused = "document.activeElement.closest('tr').dataset.id"
    opened.wait(lambda: page.evaluate("document.activeElement.textContent") == "r0059")
    assert page.evaluate(f"document.querySelector(`tr[data-id='${{{focused}}}']`) !== null")


def test_all_of_more_runs_than_can_be_drawn_are_counted(open_page, many):
    opened = open_page(many, "tab=runs&sort=run")
    opened.page.wait_for_selector(ROWS)

    opened.page.keyboard.press("a")

    opened.page.wait_for_selector("text=64 of 1,000 drawn: no more than 64 at once")


def test_the_lines_that_an_empty_folder_shows_make_a_run(open_page, tmp_path):
    with serving_here(tmp_path) as server:
        page = open_page(server, "tab=runs").page
        page.wait_for_selector(".runs.wide pre")
        place = page.inner_text(".runs.wide .places li")

        code = page.inner_text(".runs.wide pre")
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

        page.wait_for_selector("a.name >> text=first")
    assert place == str(tmp_path)


def contrasts(page):
    """Of each text of the list and the dialog, the contrast to what is behind it; the least."""
    return page.evaluate("""() => {
      const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
      const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = (e) => {
        for (let at = e; at; at = at.parentElement) {
          const colour = parsed(getComputedStyle(at).backgroundColor);
          if (colour[3] !== 0 && colour.length !== 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
      };
      const isShown = (e) => e.checkVisibility() && !e.closest(":disabled");
      const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
      const all = document.querySelectorAll(".runs.wide *, dialog[open] *");
      return [...all].filter((e) => isShown(e) && hasText(e)).map((e) => {
        const [a, b] = [parsed(getComputedStyle(e).color), behind(e)].map(luminance);
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)];
      });
    }""")


GRAPHICS = """async () => {
  const { colourAt, COLOURS_MAX } = await import("/theme.js");
  const probe = document.body.appendChild(document.createElement("i"));
  const computed = (colour) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  const tick = getComputedStyle(document.querySelector(".wide td input:not(:checked)"));
  const lines = Array.from({ length: COLOURS_MAX + 1 }, (_, i) => computed(colourAt(i)));
  return { ground: computed("var(--panel)"), drawn: [tick.borderTopColor, ...lines] };
}"""


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_lines_and_the_borders_of_ticks_have_enough_contrast(
    open_page, server, scheme
):
    page = open_page(server, "tab=runs", color_scheme=scheme).page
    page.wait_for_selector(ROWS)

    shown = page.evaluate(GRAPHICS)

    ground = luminance(shown["ground"])
    assert len(shown["drawn"]) == 9
    for colour in shown["drawn"]:
        low, high = sorted([ground, luminance(colour)])
        assert (high + 0.05) / (low + 0.05) >= 3, colour


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_of_the_table_and_its_dialog_have_enough_contrast(open_page, server, scheme):
    page = open_page(server, "tab=runs&colour=config.lr", color_scheme=scheme).page
    page.wait_for_selector(ROWS)
    page.click("text=Columns")
    page.wait_for_selector(".found li")

    low = [(ratio, text) for ratio, text in contrasts(page) if ratio < 4.5]

    assert low == []


def test_every_control_of_the_dialog_has_a_label_and_is_reached_by_the_keyboard(open_page, server):
    opened = open_table(open_page, server)
    page = opened.page
    page.locator("text=Columns").press("Enter")
    enabled = "dialog[open] button:enabled, dialog[open] input"
    n_controls = page.locator(enabled).count()

    reached = set()
    for _ in range(n_controls + 2):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))

    labels = {control.get_attribute("aria-label") for control in page.locator(enabled).all()}
    labels.discard(None)  # a text of its own
    assert len(labels) > 20
    assert labels <= reached
