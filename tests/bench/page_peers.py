"""The page of `runs serve` compared with those of TensorBoard and trackio, on the same data.

    python -m tests.bench.page_peers --python PEERS/bin/python [--points 200000]

PEERS: a virtual environment with tensorboard and trackio. Needs Chromium and playwright. Of each:
from opening the page until its last picture stands (looked at 4 times a second), what the page's
thread took, what came over the wire, and whether a spike of one point is among it.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from playwright.sync_api import Browser, Response, sync_playwright

import eventlog
from tests.bench.page import CHROMIUM, Cpu, load

PORT = 8870
SPIKE = 99.0
STILL_S = 3.0  # a page that does not change for this long is complete
PATIENCE_S = 120.0
SHAPES = {  # runs, metrics, points
    "grid": (10, 24, 500),
    "many": (20, 100, 500),
    "long": (1, 1, None),
}

# Runs in the peers' environment: kind of peer, folder, runs, metrics, points.
WRITER = """
import math, random, sys, time
peer, folder, n_runs, n_figures, n_points = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
rng, now, spike = random.Random(1), time.time(), int(n_points * 0.6543)

def values_at(i):
    loss = 99.0 if n_figures == 1 and i == spike else 3 + 8 / (1 + i / 20) + rng.gauss(0, 0.1)
    return {"all/loss": loss} | {f"all/figure_{f}": rng.gauss(f, 1) for f in range(n_figures - 1)}

for k in range(n_runs):
    if peer == "tensorboard":
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        writer = EventFileWriter(f"{folder}/r{k}", max_queue_size=1000, flush_secs=60)
        for i in range(n_points):
            values = [Summary.Value(tag=t, simple_value=v) for t, v in values_at(i).items()]
            writer.add_event(Event(step=i, wall_time=now + i, summary=Summary(value=values)))
        writer.close()
    else:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        if k == 0:
            trackio.init(project="p", name="r0", embed=False)
            trackio.finish()
        for at in range(0, n_points, 20_000):
            steps = list(range(at, min(at + 20_000, n_points)))
            SQLiteStorage.bulk_log("p", f"r{k}", [values_at(i) for i in steps], steps=steps)
"""
TRACKIO = "import trackio, time; trackio.show(project='p', open_browser=False, block_thread=False)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of the peers' environment")
    parser.add_argument("--only", choices=SHAPES, default="")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--screenshots", type=Path, help="a folder for what each page showed")
    arguments = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for shape, (n_runs, n_figures, n_points) in SHAPES.items():
            if arguments.only not in ("", shape):
                continue
            for peer in ("runs", "tensorboard", "trackio"):
                where = Path(folder, f"{peer}-{shape}")
                where.mkdir()
                size = (n_runs, n_figures, n_points or arguments.points)
                write(peer, arguments.python, where, *size)
                with serving(peer, arguments.python, where) as (address, pid):
                    result, has_spike = open_page(
                        browser, peer, address, arguments.screenshots, f"{peer}-{shape}"
                    )
                    memory_mb = memory_bytes(pid) / 1e6
                if shape == "long":
                    result += f", the spike is {'there' if has_spike else 'not there'}"
                print(f"{shape} {size} {peer}: {result}, server {memory_mb:.0f} MB ({load()})")
                sys.stdout.flush()
        browser.close()


def write(peer: str, python: str, where: Path, n_runs: int, n_figures: int, n_points: int) -> None:
    if peer != "runs":
        argv = [peer, str(where), *map(str, (n_runs, n_figures, n_points))]
        env = os.environ | {"TRACKIO_DIR": str(where)}
        subprocess.run(
            [python, "-c", WRITER, *argv], env=env, check=True, stdout=subprocess.DEVNULL
        )
        return
    import random

    rng, spike = random.Random(1), int(n_points * 0.6543)
    for k in range(n_runs):
        with eventlog.open_run(where, run_name=f"r{k}", save_interval=0, durability="never") as run:
            for i in range(n_points):
                loss = 3 + 8 / (1 + i / 20) + rng.gauss(0, 0.1)
                loss = SPIKE if n_figures == 1 and i == spike else loss
                more = {f"figure_{f}": rng.gauss(f, 1) for f in range(n_figures - 2)}
                run.log_iter(i, loss, 50.0, **more)
        eventlog.compact(run.journal_path)


@contextmanager
def serving(peer: str, python: str, where: Path) -> Iterator[tuple[str, int]]:
    """The address of its page, and its process, once it answers."""
    commands = {
        "runs": [sys.executable, "-m", "tools.cli", "serve", "--port", str(PORT), str(where)],
        "tensorboard": [
            python, "-m", "tensorboard.main", "--logdir", str(where), "--port", str(PORT)
        ],
        "trackio": [python, "-c", f"{TRACKIO}; time.sleep(3600)"],
    }  # fmt: skip
    address = f"http://127.0.0.1:{PORT}/"
    views = {"runs": "", "tensorboard": "#timeseries", "trackio": "?project=p"}
    env = os.environ | {"TRACKIO_DIR": str(where), "GRADIO_SERVER_PORT": str(PORT)}
    process = subprocess.Popen(
        commands[peer], env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        time.sleep(20)  # what it reads before it is asked is not the page's time
        if peer == "runs":  # all of them: it draws six while nobody has picked any
            with urllib.request.urlopen(f"{address}api/runs") as answer:
                ids = [row["id"] for row in orjson.loads(answer.read())["runs"]]
            views[peer] = f"#picks={','.join(ids)}"
        yield address + views[peer], process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def open_page(
    browser: Browser, peer: str, address: str, screenshots: Path | None, name: str
) -> tuple[str, bool]:
    """The second visit: the server has read, the browser starts afresh."""
    with browser.new_page(viewport={"width": 1600, "height": 2700}) as page:
        page.goto(address)
        page.wait_for_timeout(10_000)
    with browser.new_page(viewport={"width": 1600, "height": 2700}) as page:
        answers: list[Response] = []
        page.on("response", lambda answer: answers.append(answer))
        cpu = Cpu(page)
        begun = changed = time.perf_counter()
        page.goto(address, wait_until="commit")
        last = b""
        while time.perf_counter() - changed < STILL_S and time.perf_counter() - begun < PATIENCE_S:
            screenshot = page.screenshot()
            if screenshot != last:
                last, changed = screenshot, time.perf_counter()
            page.wait_for_timeout(250)
        cpu_ms = cpu.ms
        size_bytes, has_spike = weigh(answers)
        if peer == "runs":
            has_spike = page.evaluate(
                """async (spike) => (await import("/main.js")).shownGrid().charts.get("loss")
                   .lines.some((line) => line.points.y.includes(spike))""",
                SPIKE,
            )
        if screenshots:
            screenshots.mkdir(exist_ok=True)
            (screenshots / f"{name}.png").write_bytes(last)
    return (
        f"last change after {changed - begun:.1f} s, {cpu_ms / 1000:.1f} s of the page's thread, "
        f"{size_bytes / 1e6:.1f} MB over the wire"
    ), has_spike


def weigh(answers: list[Response]) -> tuple[int, bool]:
    """Bytes of all answers, and whether the spike is in one of them."""
    total, has_spike = 0, False
    for answer in answers:
        if "event-stream" in answer.headers.get("content-type", ""):
            continue  # it never ends
        try:
            body = answer.body()
        except Exception:  # a redirect, or one that was broken off
            continue
        total += len(body)
        is_json = "json" in answer.headers.get("content-type", "")
        has_spike |= is_json and re.search(rb"(value|loss)\"?:\s*99(\.0)?[,}\]]", body) is not None
    return total, has_spike


def memory_bytes(pid: int) -> int:
    """What a process and those it began hold."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == pid:
                    pages = int((entry / "statm").read_text().split()[1])
                    total += pages * os.sysconf("SC_PAGE_SIZE")
            except OSError:
                continue
    return total


if __name__ == "__main__":
    main()
