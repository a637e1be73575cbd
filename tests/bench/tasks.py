"""Everyday tasks on the page of `runs serve`: what each takes a person, and whether it is right.

    python -m tests.bench.tasks

A folder of 40 runs: 8 settings with 5 seeds each, 60 metrics a run, one run that diverges, one that
goes on, notes. An action is a click, a key, a drag, or a text that is typed. The seconds are from
the first action until the answer stands on the page: what the page takes, without the person.
Needs Chromium and playwright.
"""

import io
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
from playwright.sync_api import Page, sync_playwright

import eventlog
from tests.bench.page import CHROMIUM, load
from tests.tools.dashboard.pages import Serving, serving, until

STEPS = 300
DIVERGED_AT = 180
NOTED, NOTE = 17, "warm start from the August run"
FIGURES = [f"block{k}/{name}" for k in range(14) for name in ("norm", "update", "rank", "scale")]


def write_runs(folder: Path) -> dict[str, float]:
    """Write the runs; returns the least `val/loss` of each that ended."""
    best = {}
    rng = random.Random(5)
    for k in range(40):
        lr, depth, seed = (1e-4, 3e-4, 1e-3, 3e-3)[k % 4], (6, 12)[k // 4 % 2], k // 8
        run = eventlog.init(
            dir=str(folder), name=f"exp-{k}", config={"lr": lr, "depth": depth, "seed": seed}
        )
        floor = 1 + abs(math.log10(lr) + 3) / 3 - depth / 40 + rng.random() / 50
        losses = []
        for i in range(STEPS):
            row = {"train/loss": floor + 3 * math.exp(-i / 60) + rng.gauss(0, 0.02)}
            if k == 7 and i >= DIVERGED_AT:
                row["train/loss"] = math.nan
            if i % 20 == 0:
                losses.append(floor + 0.2 + 3 * math.exp(-i / 60))
                row["val/loss"] = losses[-1]
            run.log(row | {name: rng.random() for name in FIGURES}, step=i)
        run.finish()
        best[f"exp-{k}"] = min(losses)
        if k == NOTED:
            (journal,) = folder.glob(f"exp-{k}_*.jsonl")
            eventlog.annotate(journal, "note", text=NOTE)
    return best


@contextmanager
def live_run(folder: Path) -> Iterator[None]:
    """A run that goes on: 200 of 1,000 iterations of 50 ms are done."""
    with eventlog.open_run(folder, run_name="live", config={"max_iters": 1000}) as run:
        for i in range(200):
            run.log_iter(i, 3 - i / 200, 50.0)
        yield


class Hand:
    """A person's actions on the page, counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.n_actions, self.begun = page, 0, 0.0

    def _act(self) -> Page:
        self.begun = self.begun or time.perf_counter()
        self.n_actions += 1
        return self.page

    def click(self, what: str) -> None:
        self._act().click(what)

    def press(self, key: str) -> None:
        self._act().keyboard.press(key)

    def type(self, where: str, text: str) -> None:
        self._act().fill(where, text)

    def drag(self, what: str, begin: float, end: float) -> None:
        box = self._act().locator(what).bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] * begin, y)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * end, y, steps=5)
        self.page.mouse.up()

    def sees(self, is_so: Callable[[], object]) -> None:
        """Wait for the answer."""
        until(is_so)


def lines(page: Page, name: str) -> list[tuple[str, str, list[float]]]:
    """Of the chart of a series: each line's run, series and x."""
    found: list[tuple[str, str, list[float]]] = page.evaluate(
        """async (name) => {
          const chart = (await import("/main.js")).shownGrid().charts.get(name);
          return chart?.lines.map((one) =>
            [one.name, one.key, [...one.points.x.subarray(0, one.points.n)]]) ?? [];
        }""",
        name,
    )
    return found


def address(page: Page) -> str:
    hash: str = page.evaluate("location.hash")
    return hash


LISTED = ".runs.wide tr[data-id] a.name"


def names(page: Page) -> list[str]:
    texts = page.locator(LISTED).all_inner_texts()
    return [text.split("_2")[0].strip() for text in texts]


def best_by_val(hand: Hand, best: dict[str, float]) -> None:
    hand.press("2")
    hand.click(".runs.wide th button[aria-label^='best val']")
    hand.sees(lambda: names(hand.page)[:3] == sorted(best, key=lambda name: best[name])[:3])


def train_and_val_of_the_top_five(hand: Hand, best: dict[str, float]) -> None:
    hand.press("2")
    hand.click(".runs.wide th button[aria-label^='best val']")
    top = sorted(best, key=lambda name: best[name])[:5]
    hand.sees(lambda: names(hand.page)[:5] == top)
    hand.press("n")
    for k in range(5):
        hand.click(f".runs.wide tr[data-id] >> nth={k} >> input[type=checkbox]")
    hand.press("1")
    hand.page.hover(".panel[data-key='train/loss']")
    hand.click(".panel[data-key='train/loss'] button[aria-label^=Settings]")
    hand.click(".panel-menu button:has-text('+ val/loss')")
    hand.press("Escape")
    hand.sees(lambda: len(lines(hand.page, "train/loss")) == 10)


def what_differs_in_config(hand: Hand, best: dict[str, float]) -> None:
    hand.press("3")
    hand.sees(lambda: {"lr", "depth", "seed"} <= {*rows_of_comparison(hand.page)})


def rows_of_comparison(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".sides tbody th").all_inner_texts()]


def when_it_diverged(hand: Hand, best: dict[str, float]) -> None:
    hand.type("#side input[type=search]", "exp-7")
    hand.click("#side a.name:has-text('exp-7')")
    text = f"nan since {DIVERGED_AT}"
    hand.sees(lambda: text in hand.page.inner_text("#content"))


def alive_and_time_left(hand: Hand, best: dict[str, float]) -> None:
    hand.click("#side a.name:has-text('live')")
    hand.sees(lambda: "time left" in hand.page.inner_text(".tiles"))


def against_wall_time(hand: Hand, best: dict[str, float]) -> None:
    hand.click(".segments button:has-text('Time')")
    hand.sees(
        lambda: [x[-1] < STEPS / 4 for *_, x in lines(hand.page, "train/loss")][-1:] == [True]
    )


def without_the_first_50_steps(hand: Hand, best: dict[str, float]) -> None:
    plot = ".panel[data-key='train/loss'] .plot"
    hand.drag(plot, 0.27, 0.99)
    hand.sees(lambda: "from=" in address(hand.page))


def share_the_view(hand: Hand, best: dict[str, float]) -> None:
    hand.click("#side button[aria-label^='Copy a link']")
    hand.sees(lambda: "picks=" in address(hand.page) and "columns=" in address(hand.page))


def numbers_into_pandas(hand: Hand, best: dict[str, float]) -> None:
    hand.page.hover(".panel[data-key='val/loss']")
    with hand.page.expect_download() as download:
        hand.click(".panel[data-key='val/loss'] button[aria-label*=CSV]")
    table = pandas.read_csv(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert len(table) >= STEPS // 20


def run_by_its_note(hand: Hand, best: dict[str, float]) -> None:
    hand.type("#side input[type=search]", "August")
    hand.sees(lambda: hand.page.locator("#side a.name").all_inner_texts() == [f"exp-{NOTED}"])


def mean_over_seeds(hand: Hand, best: dict[str, float]) -> None:
    hand.press("a")
    hand.press("e")
    hand.sees(lambda: len(lines(hand.page, "train/loss")) == 8)


TASKS = [
    best_by_val, train_and_val_of_the_top_five, what_differs_in_config, when_it_diverged,
    alive_and_time_left, against_wall_time, without_the_first_50_steps, share_the_view,
    numbers_into_pandas, run_by_its_note, mean_over_seeds,
]  # fmt: skip


def do(page: Page, server: Serving, task: Callable[[Hand, dict[str, float]], None],
       best: dict[str, float]) -> str:  # fmt: skip
    page.goto("about:blank")
    page.goto(server.address)
    page.wait_for_selector(".panel[data-key='val/loss'][data-points]")
    hand = Hand(page)
    task(hand, best)
    took_s = time.perf_counter() - hand.begun
    return f"| {task.__name__.replace('_', ' ')} | {hand.n_actions} | {took_s:.1f} s |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        best = write_runs(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with live_run(Path(folder)), serving(folder) as server:
            until(lambda: len(server.rows()) == 41)
            with browser.new_page(viewport={"width": 1600, "height": 1000}) as page:
                for task in TASKS:
                    print(do(page, server, task, best), flush=True)
        print(load(), file=sys.stderr)
        browser.close()


if __name__ == "__main__":
    main()
