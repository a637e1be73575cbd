"""`runs watch`: live charts, filters, broken files, small terminals, no colour."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.cli import main
from tools.live.folders import Folders
from tools.terminal.drawing import View
from tools.terminal.screen import Watch

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def watching(folder, size=(80, 24), **more):
    """The application on a virtual screen, with all runs listed."""
    with Folders([str(folder)]) as folders:
        app = Watch(folders, **more)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: folders.is_complete and app.listing.rows)
            yield app, pilot


async def until(pilot, condition, within_s=30):
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        await pilot.pause(0.05)
    await pilot.pause()
    assert condition(), "timed out"


def seen(app):
    """What is on the screen, as lines."""
    return [
        "".join(segment.text for segment in strip).rstrip()
        for strip in app.screen._compositor.render_strips()
    ]


def foot(app):
    """The two lines about the run at the cursor; below them are the keys."""
    return seen(app)[-3:-1]


def names(app):
    return [row["run"] for row in app.listing.rows]


def test_a_live_run_is_listed_first_and_its_charts_follow_it(tmp_path):
    async def story():
        make_run(tmp_path, "ended")
        run = eventlog.open_run(
            tmp_path, run_name="live", save_interval=0, config={"max_iters": 100}
        )
        for i in range(20):
            run.log_iter(i, 4.0 - i / 100, 50.0, 30.0)
        async with watching(tmp_path) as (app, pilot):
            await until(pilot, lambda: "3.81" in seen(app)[1])
            for i in range(20, 50):
                run.log_iter(i, 4.0 - i / 50, 50.0, 30.0)
            await until(pilot, lambda: "loss  3.02" in seen(app)[1])
            lines = seen(app)
        run.close()
        return lines

    lines = asyncio.run(story())

    assert "2 runs, 1 live" in lines[0]
    assert "● live" in lines[1]
    assert "49%" in lines[1]
    assert "running  iter 49/100  eta" in lines[-3]


def test_picked_runs_share_the_charts_and_are_marked_with_letters(tmp_path):
    async def story():
        for name, losses in (("low", (2.0, 1.9, 1.8)), ("high", (5.0, 4.0, 3.5))):
            make_run(tmp_path, name, losses)
        async with watching(tmp_path) as (app, pilot):
            await pilot.press("space", "down", "space")
            await until(pilot, lambda: "B" in seen(app)[1])
            return seen(app)

    lines = asyncio.run(story())

    assert lines[1].startswith("A")
    assert lines[2].startswith("B")
    assert "loss  A " in lines[1]
    charts = [line[28:] for line in lines[2:10]]
    assert any("A" in line for line in charts)
    assert any("B" in line for line in charts)


def test_events_are_marked_below_the_chart(tmp_path):
    async def story():
        with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
            for i in range(40):
                if i == 10:
                    run.log_eval(i, 2.0, 2.0)
                if i == 20:
                    run.log_checkpoint(i, "ckpt.pt")
                run.log_iter(i, float("nan") if i == 30 else 3.0 + i)
            run.log("signal", signal="SIGTERM", iter=38)
        eventlog.annotate(run.journal_path, "alert", rule="spike", text="loss 30")
        async with watching(tmp_path, size=(120, 40)) as (app, pilot):
            await until(pilot, lambda: any("─" in line for line in seen(app)))
            return next(line for line in seen(app) if "─e─" in line)

    axis = asyncio.run(story())

    assert all(mark in axis for mark in "ec!sa")
    assert axis.index("e") < axis.index("c") < axis.index("!")


def test_a_resumed_run_has_one_curve_and_a_mark_at_the_resume(tmp_path):
    async def story():
        with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
            for i in range(30):
                run.log_iter(i, 9.0)
        with eventlog.open_run(journal=run.journal_path, from_iter=10, save_interval=0) as run:
            for i in range(10, 30):
                run.log_iter(i, 2.0)
        async with watching(tmp_path, size=(120, 40)) as (app, pilot):
            await until(pilot, lambda: any("─r─" in line for line in seen(app)))
            return seen(app)[1]

    assert "loss  2" in asyncio.run(story())


def test_broken_files_are_listed_at_any_size_and_every_key_works(zoo):
    keys = (
        "down space s l x m plus left right minus 0 1 1 2 escape end home pageup pagedown "
        "e s l x m plus left 0 down space up space x e end"
    )

    async def story():
        async with watching(zoo) as (app, pilot):
            files = [row["file"] for row in app.listing.rows]
            for size in ((80, 24), (1, 1)):
                await pilot.resize_terminal(*size)
                await pilot.press("end", *["up", "space"] * 3)
                await pilot.press(*keys.split(), "question_mark", "z", "f", *"no (", "escape")
                await pilot.press("k", *"gr*", "enter")
            return files, app.return_code

    files, code = asyncio.run(story())

    assert len(files) == len(set(files)) > 10
    assert code in (None, 0)


def test_a_run_that_is_being_read_is_listed_and_the_screen_does_not_wait_for_it(tmp_path):
    async def story():
        make_run(tmp_path, "busy")
        async with watching(tmp_path) as (app, pilot):
            (row,) = app.listing.rows
            with ThreadPoolExecutor() as pool:  # a lock that another thread holds, as the reader
                held = pool.submit(hold, app.folders, row["id"], release := threading.Event())
                await until(pilot, held.running)
                begun = time.monotonic()
                await pilot.press("space")
                took_s = time.monotonic() - begun
                release.set()
            return seen(app), took_s

    lines, took_s = asyncio.run(story())

    assert "busy" in lines[1]
    assert took_s < 4


def hold(folders, id, release):
    with folders.at(id):
        release.wait(30)


def test_an_unreadable_file_says_why(zoo):
    async def story():
        async with watching(zoo, where="half") as (app, pilot):
            await pilot.press("down", "up")
            await pilot.pause()
            return names(app), foot(app)[0]

    listed, below = asyncio.run(story())

    assert listed == ["half.json"]
    assert "half.json: not a run JSON" in below


def test_runs_are_filtered_by_name_and_by_settings(tmp_path):
    async def story():
        make_run(tmp_path, "wide", learning_rate=0.01)
        make_run(tmp_path, "deep", learning_rate=0.001)
        async with watching(tmp_path) as (app, pilot):
            found = []
            for where in ("dee", "config.learning_rate > 0.005", "no_such_field = 1"):
                await pilot.press("slash")
                app.query_one("#ask").value = where
                await pilot.press("enter")
                await pilot.pause()
                found.append((names(app), foot(app)[0]))
            return found

    by_name, by_config, wrong = asyncio.run(story())

    assert [name[:4] for name in by_name[0]] == ["deep"]
    assert [name[:4] for name in by_config[0]] == ["wide"]
    assert len(wrong[0]) == 2
    assert "unknown field 'no_such_field'" in wrong[1]


def test_a_run_of_metrics_is_drawn_under_its_own_names(tmp_path):
    with eventlog.open_run(tmp_path, run_name="m", save_interval=0) as run:
        for i in range(20):
            loss = 4.0 - i / 10 if i < 19 else float("nan")
            run.log("metrics", step=i, **{"train/loss": loss, "z": 1.0, "y/acc": i / 20, "w": 2.0})
            run.log("metrics", step=i, fifth=3.0)

    async def story():
        async with watching(tmp_path, size=(120, 40)) as (app, pilot):
            await until(pilot, lambda: "train/loss" in "".join(seen(app)))
            first = "\n".join(seen(app))
            await pilot.press("k", *"y/*", "enter")
            await until(pilot, lambda: "train/loss" not in seen(app)[1])
            return first, seen(app)

    first, chosen = asyncio.run(story())

    assert "not logged" not in first
    assert all(f"{name}  " in first for name in ("train/loss", "z", "y/acc", "w"))
    assert "train/loss  nan" in first
    assert " NaN" in first
    assert "series" not in first.split("\n")[0]  # all five are on the page
    assert "y/acc  0.95" in chosen[1]


def test_evaluations_of_an_own_loop_stand_at_its_own_counter_until_another_axis_is_chosen(tmp_path):
    async def story():
        with eventlog.init(name="nano", dir=tmp_path, quiet=True) as run:
            for k in range(3):
                run.log({"iter": 250 * k, "val/loss": 5.0 - k, "bad": float("nan")}, step=k)
        async with watching(tmp_path, size=(120, 40)) as (app, pilot):
            await until(pilot, lambda: "val/loss by iter" in "\n".join(seen(app)))
            by_default = ends(app), "\n".join(seen(app))
            await pilot.press("x")
            await until(pilot, lambda: "val/loss by iter" not in "\n".join(seen(app)))
            return by_default, ends(app)

    def ends(app):
        (drawing,) = (c.drawing for c in app.charts.shown if c.drawing.title.startswith("val/loss"))
        return drawing.frame.left, drawing.frame.right

    (by_default, screen), by_step = asyncio.run(story())
    assert (by_default, by_step) == ((0, 500), (0, 2))
    assert "no number: 3 x NaN at steps 0 to 2" in screen


def test_metrics_are_chosen_by_name(tmp_path):
    async def story():
        with eventlog.open_run(tmp_path, run_name="it", save_interval=0) as run:
            for i in range(5):
                run.log_iter(i, 1.0, grad_norm=0.5, lr=0.25)
        async with watching(tmp_path) as (app, pilot):
            await pilot.press("k")
            app.query_one("#ask").value = "gra* lr"
            await pilot.press("enter")
            await pilot.pause()
            return seen(app)[1]

    assert "grad_norm  0.5" in asyncio.run(story())


def test_hidden_units_and_summaries_are_as_the_run_defined_them(tmp_path):
    async def story():
        with eventlog.init(name="defined", dir=tmp_path, quiet=True) as run:
            run.define_metric("cost", unit="ms", summary="min")
            run.define_metric("debug/*", hidden=True)
            for k in range(4):
                run.log({"cost": abs(k - 1) + 2.0, "debug/a": k, "debug/b": k}, step=k)
        async with watching(tmp_path, size=(120, 40)) as (app, pilot):
            await until(pilot, lambda: "cost" in "\n".join(seen(app)))
            by_default = titles(app), "\n".join(seen(app))
            await pilot.press("k", *"debug/a", "enter")
            await until(pilot, lambda: "debug/a" in "\n".join(seen(app)))
            return by_default, titles(app)

    def titles(app):
        return [chart.drawing.title.split("  ")[0] for chart in app.charts.shown if chart.drawing]

    (shown, screen), found = asyncio.run(story())
    assert shown[0] == "cost (ms)"
    assert not any("debug" in title for title in shown)
    assert "cost min 2 ms" in screen
    assert found[0] == "debug/a"


def test_a_run_that_comes_later_is_listed(tmp_path):
    async def story():
        make_run(tmp_path, "first")
        async with watching(tmp_path) as (app, pilot):
            make_run(tmp_path, "second")
            await until(pilot, lambda: len(app.listing.rows) == 2)
            return names(app)

    assert {name.split("_")[0] for name in asyncio.run(story())} == {"first", "second"}


def test_control_characters_in_a_name_are_shown_not_executed(tmp_path):
    async def story():
        make_run(tmp_path, "evil")
        for path in tmp_path.glob("evil*"):
            data = path.read_bytes().replace(b'"run_name": "evil', b'"run_name": "\\u001b[2Jevil')
            path.write_bytes(data)
        (tmp_path / "evil.jsonl").unlink(missing_ok=True)
        async with watching(tmp_path) as (app, pilot):
            await pilot.pause()
            return "".join(seen(app))

    shown = asyncio.run(story())

    assert "evil" in shown
    assert "\x1b" not in shown


def test_zooming_keeps_the_right_edge_at_the_end_of_a_live_run():
    view = View()

    view.zoom(0.5)
    view.zoom(0.5)
    assert (view.begin, view.end) == (0.75, 1.0)
    view.move(-1)
    assert (view.begin, view.end) == (0.5, 0.75)
    view.zoom(0.5)
    assert (view.begin, view.end) == (0.5625, 0.6875)
    view.zoom(1000)
    assert (view.begin, view.end) == (0.0, 1.0)


def test_without_a_terminal_it_names_the_command_for_plain_text(tmp_path, capsys):
    assert main(["watch", str(tmp_path)]) == 2

    assert "eventlog tail -f" in capsys.readouterr().err


# ---- in a real terminal


needs_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux"
)


class Terminal:
    """The command in a tmux server of its own."""

    def __init__(self, folder, *command, width=80, height=24, **env):
        self._socket = folder / "tmux"
        variables = [f"{key}={value}" for key, value in env.items()]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
                   "env", "-u", "COLUMNS", "-u", "LINES", *variables,
                   sys.executable, "-m", "tools.cli", *map(str, command))  # fmt: skip

    def _tmux(self, *texts):
        done = subprocess.run(
            ["tmux", "-S", self._socket, *texts], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )  # fmt: skip
        return done.stdout

    def keys(self, *names):
        self._tmux("send-keys", *names)

    def resize(self, width, height):
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *flags):
        return self._tmux("capture-pane", "-p", *flags)

    def until(self, *texts, within_s=40):
        """The screen as soon as all `words` are on it."""
        end = time.monotonic() + within_s
        while not all(text in self.screen() for text in texts) and time.monotonic() < end:
            time.sleep(0.1)
        shown = self.screen()
        assert all(text in shown for text in texts), f"{texts} did not come:\n{shown}"
        return shown

    @property
    def is_open(self):
        return bool(self._tmux("list-sessions"))

    def end(self):
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path):
    """`terminal("watch", folder)`: the command in a terminal of 80 x 24."""
    opened = []

    def begin(*command, **more):
        opened.append(Terminal(tmp_path, *command, **more))
        return opened[-1]

    yield begin
    for one in opened:
        one.end()


@needs_tmux
def test_in_a_terminal_it_starts_follows_overlays_resizes_and_quits(terminal, tmp_path):
    out = tmp_path / "out"
    make_run(out, "ended", (5.0, 4.0, 3.5))
    run = eventlog.open_run(out, run_name="live", save_interval=0, config={"max_iters": 99})
    for i in range(30):
        run.log_iter(i, 4.0, 50.0)

    shown = terminal("watch", out)
    first = shown.until("2 runs, 1 live", "iter 29/99", "loss  4")
    assert len(first.rstrip("\n").split("\n")) <= 24
    for i in range(30, 60):
        run.log_iter(i, 2.5, 50.0)
    shown.until("iter 59/99", "loss  2.5")
    shown.keys("Space", "Down", "Space")
    shown.until("loss  A 2.5  B 4.5")
    shown.resize(120, 40)
    wide = shown.until(f"A● live{' ' * 16}", "B✓ ended  ")
    assert max(map(len, wide.split("\n"))) > 100
    shown.keys("?")
    shown.until("any key: back")
    shown.keys("x")
    shown.keys("q")
    end = time.monotonic() + 20
    while shown.is_open and time.monotonic() < end:
        time.sleep(0.05)
    run.close()

    assert not shown.is_open


@needs_tmux
def test_with_no_color_no_colours_are_sent(terminal, tmp_path):
    make_run(tmp_path / "out", "it")

    shown = terminal("watch", tmp_path / "out", NO_COLOR="1")
    shown.until("loss")

    escapes = [part.partition("m")[0] for part in shown.screen("-e").split("\x1b[")[1:]]
    codes = {code for escape in escapes for code in escape.split(";")}
    assert codes <= {"", "0", "1", "2", "7", "22", "27", "39", "49"}  # bold, dim, reverse, none
