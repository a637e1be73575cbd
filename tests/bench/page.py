"""What the page of `runs serve` costs: many panels, many runs, many names, one very long run.

    python -m tests.bench.page [--points 10000000] [--runs 1000] [--names 10000] [--panels 24]
                               [--live-runs 10] [--only grid|table|wide|long]

Needs Chromium and playwright. Prints lines for RESULTS.md; what is measured is checked, too.
Times are measured in the browser, which renders in software.
"""

import argparse
import math
import os
import platform
import random
import shutil
import tempfile
import time
from binascii import crc32
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

import eventlog
from tests.tools.dashboard.pages import Serving, serving

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
N_POINTS = 500  # of each run of the grid
SPIKE, SPIKE_AT = 99.0, 0.6543

# From the answer's last byte until all is drawn, and until the frame after that can be begun.
OBSERVE = """() => {
  window.took = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntriesByName("runs-update")) {
      const row = [entry.duration, 0];
      window.took.push(row);
      const begun = entry.startTime;
      requestAnimationFrame(() => setTimeout(() => { row[1] = performance.now() - begun; }));
    }
  }).observe({ type: "measure" });
}"""


# Whether there are so many panels, and those in view have all points.
ARE_DRAWN = """([nPanels, nPoints]) => {
  const panels = [...document.querySelectorAll(".panel")];
  const boxes = panels.map((panel) => [panel, panel.getBoundingClientRect()]);
  const seen = boxes.filter(([, box]) => box.top < innerHeight && box.bottom > 0);
  return panels.length >= nPanels && seen.every(([panel]) => panel.dataset.points === nPoints);
}"""

# From a place of the table's scroll bar until its rows stand there, the quickest first.
SCROLL = """async () => {
  const scroller = document.querySelector(".wide .scroll");
  const took = [];
  for (let i = 1; i <= 60; i += 1) {
    const begun = performance.now();
    scroller.scrollTop = (scroller.scrollHeight * i) / 60;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    took.push(performance.now() - begun);
  }
  return took.sort((a, b) => a - b);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--panels", type=int, default=24)
    parser.add_argument("--live-runs", type=int, default=10)
    parser.add_argument("--only", choices=("grid", "table", "wide", "long"))
    parser.add_argument("--folder", help="where the long run is made, and left (2 GB)")
    parser.add_argument("--screenshot", help="a PNG of the long run at full zoom-out")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        print(
            f"{platform.platform()}, Python {platform.python_version()}, Chromium {browser.version}"
        )
        if arguments.only in (None, "grid"):
            with browser.new_page(viewport={"width": 1600, "height": 2700}) as page:
                result = grid(page, arguments.panels, arguments.live_runs)
                print(f"grid: {result}", flush=True)
        if arguments.only in (None, "table"):
            with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
                print(f"table: {table(page, arguments.runs)}", flush=True)
        if arguments.only in (None, "wide"):
            for table_name in ("metrics", "iterations"):
                with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
                    print(f"wide: {wide(page, arguments.names, table_name)}", flush=True)
        if arguments.only in (None, "long"):
            with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
                result = long(page, arguments.points, arguments.folder, arguments.screenshot)
                print(f"long: {result}", flush=True)
        browser.close()


class Cpu:
    """The CPU time of the page's thread from now on."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    @property
    def ms(self) -> float:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(m["value"]) for m in metrics if m["name"] == "TaskDuration")


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def grid(page: Page, n_panels: int, n_runs: int) -> str:
    """Live runs, each of `n_panels` metrics: one more point in each, 40 times."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs = [
            stack.enter_context(
                eventlog.open_run(
                    folder, run_name=f"r{k}", save_interval=0, durability="never",
                    config={"max_iters": 10 * N_POINTS, "seed": k},
                )
            )
            for k in range(n_runs)
        ]  # fmt: skip

        def log(i: int) -> None:
            for run in runs:
                more = {f"figure_{f}": rng.gauss(f, 1) for f in range(n_panels - 3)}
                run.log_iter(
                    i, 3 + 8 / (1 + i / 20) + rng.gauss(0, 0.1), 50 + rng.random(), 30.0, **more
                )

        for i in range(N_POINTS):
            log(i)
        server = stack.enter_context(serving(folder))
        picks = ",".join(row["id"] for row in all_rows(server, n_runs))
        is_open = quote('{"open":{"figure_*":true}}')
        cpu = Cpu(page)
        begun = time.perf_counter()
        page.goto(f"{server.address}#picks={picks}&layout={is_open}")
        wait(page, lambda: page.evaluate(ARE_DRAWN, [n_panels, str(n_runs * N_POINTS)]))
        first = f"{time.perf_counter() - begun:.2f} s, {cpu.ms:.0f} ms of the page's thread"
        page.evaluate(OBSERVE)
        cpu = Cpu(page)
        for i in range(N_POINTS, N_POINTS + 40):
            log(i)
            page.wait_for_timeout(300)
        cpu_ms = cpu.ms
        took = [row for row in page.evaluate("window.took") if row[1]]
        drawn, framed = (sorted(row[k] for row in took) for k in (0, 1))
    return (
        f"{n_panels} panels x {n_runs} runs x {N_POINTS} points: all in view after {first}; "
        f"{len(took)} updates: "
        f"{cpu_ms / len(took):.0f} ms of the page's thread each in total; until drawn "
        f"p50 {drawn[len(took) // 2]:.0f} ms, p90 {drawn[len(took) * 9 // 10]:.0f} ms, "
        f"min {drawn[0]:.0f} ms; until the next frame p50 {framed[len(took) // 2]:.0f} ms, "
        f"min {framed[0]:.0f} ms ({load()})"
    )


def table(page: Page, n_runs: int) -> str:
    """The table of many runs that ended: from the click on its link until it stands there."""
    with tempfile.TemporaryDirectory() as folder:
        for k in range(n_runs):
            config = {f"key{i}": i for i in range(50)} | {
                "learning_rate": k / 1e6,
                "n_layer": k % 12,
            }
            with eventlog.open_run(
                folder, run_name=f"run{k}", config=config, save_interval=0, durability="never"
            ) as run:
                for i in range(20):
                    run.log_iter(i, 5.0 - i / 20, 50.0, 30.0)
                run.log_eval(20, 4.0, 4.0 + k / n_runs)
            eventlog.compact(run.journal_path)
        begun = time.perf_counter()
        with serving(folder) as server:
            all_rows(server, n_runs)
            ready_s = time.perf_counter() - begun
            first_ms, cpu_ms = [], []
            for _ in range(5):
                page.goto("about:blank")
                cpu = Cpu(page)
                page.goto(f"{server.address}#tab=runs", wait_until="commit")
                first_ms.append(
                    page.evaluate(
                        """() => new Promise((done) => {
                          const rows = () => document.querySelectorAll(".wide tr[data-id]");
                          const check = () => rows().length >= 20
                            ? requestAnimationFrame(() => setTimeout(() => done(performance.now())))
                            : setTimeout(check, 5);
                          check();
                        })"""
                    )
                )
                cpu_ms.append(cpu.ms)
            page.wait_for_selector(".wide .reading", state="hidden", timeout=600_000)
            frames = page.evaluate(SCROLL)
            n_rows = page.locator(".wide tr[data-id]").count()
            memory_mb = server.memory_bytes / 1e6
    first_ms.sort()
    return (
        f"{n_runs:,} runs: first view p50 {first_ms[2]:.0f} ms, min {first_ms[0]:.0f} ms, "
        f"{min(cpu_ms):.0f} ms of the page's thread; scrolled to 60 places in p50 "
        f"{frames[30]:.0f} ms, p90 {frames[54]:.0f} ms, {n_rows} rows in the document; server "
        f"started and all read after {ready_s:.1f} s, {memory_mb:.0f} MB ({load()})"
    )


def wide(page: Page, n_names: int, table_name: str) -> str:
    """A run with many names: to the first chart at the first opening, then to one found by name."""
    with tempfile.TemporaryDirectory() as folder:
        with eventlog.open_run(folder, run_name="wide", save_interval=0, durability="never") as run:
            for i in range(20):
                values = {f"layer{k // 10}/w{k % 10}": i * k % 17 / 7 for k in range(n_names)}
                if table_name == "metrics":
                    run.log("metrics", step=i, **values)
                else:
                    run.log_iter(i, 3.0, 50.0, **values)
        with serving(folder) as server:
            session = page.context.new_cdp_session(page)
            begun = time.perf_counter()
            page.goto(server.address)
            page.wait_for_selector(".panel[data-points]:not([data-points='0'])")
            first_s = time.perf_counter() - begun
            page.wait_for_selector(".grid > .hint >> text=find them by name")
            last = f"layer{(n_names - 1) // 10}/w{(n_names - 1) % 10}"
            begun = time.perf_counter()
            page.fill("input.find", last)
            page.wait_for_selector(f".panel[data-key='{last}'][data-points='20']")
            found_s = time.perf_counter() - begun
            n_panels = page.locator(".panel").count()
            session.send("Performance.enable")
            session.send("HeapProfiler.collectGarbage")
            metrics = session.send("Performance.getMetrics")["metrics"]
            heap = next(float(m["value"]) for m in metrics if m["name"] == "JSHeapUsedSize")
            server_mb = server.memory_bytes / 1e6
    assert n_panels == 1
    return (
        f"{n_names:,} names in {table_name}: first chart after {first_s:.1f} s, one found by name "
        f"after {found_s:.1f} s; JS heap {heap / 1e6:.1f} MB, server {server_mb:.0f} MB ({load()})"
    )


def long(page: Page, n_points: int, folder: str | None, screenshot: str | None) -> str:
    """One long run: the first reading, the first view once it has been read, the zoom."""
    with ExitStack() as stack:
        where = Path(folder or stack.enter_context(tempfile.TemporaryDirectory()))
        where.mkdir(exist_ok=True)
        journal = where / f"long_{n_points}.jsonl"
        if not journal.exists():
            write_long(journal, n_points)
        size_gb = journal.stat().st_size / 1e9
        server = stack.enter_context(serving(where))
        begun = time.perf_counter()
        (row,) = all_rows(server, 1)
        while server.json(f"/api/run?id={row['id']}")["reading"] is not None:
            time.sleep(0.25)
        cold_s = time.perf_counter() - begun
        first_ms = [first_view(page, server, row["id"]) for _ in range(5)]
        page.evaluate(OBSERVE)
        assert has_spike(page), "the spike is not drawn"
        if screenshot:
            page.screenshot(path=screenshot)
        zoomed = list(zooms(page, server, n_points))
        peak_mb = peak_bytes(server) / 1e6
        now_mb = server.memory_bytes / 1e6
    first_ms.sort()
    zoomed.sort()
    return (
        f"{n_points:,} points ({size_gb:.1f} GB of journal): read once in {cold_s:.0f} s; then "
        f"first view p50 {first_ms[2]:.0f} ms, min {first_ms[0]:.0f} ms; zoom p50 "
        f"{zoomed[len(zoomed) // 2]:.0f} ms, max {zoomed[-1]:.0f} ms, min {zoomed[0]:.0f} ms; "
        f"the spike of one point is drawn; server memory {now_mb:.0f} MB, peak {peak_mb:.0f} MB "
        f"({load()})"
    )


def first_view(page: Page, server: Serving, id: str) -> float:
    page.goto("about:blank")
    page.goto(f"{server.address}#picks={id}", wait_until="commit")
    ms: float = page.evaluate(
        """() => new Promise((done) => {
          const check = () => document.querySelector(".panel[data-key=loss][data-points]")
            ? requestAnimationFrame(() => setTimeout(() => done(performance.now())))
            : setTimeout(check, 5);
          check();
        })"""
    )
    return ms


def has_spike(page: Page) -> bool:
    found: bool = page.evaluate(
        """async (spike) => {
          const { shownGrid } = await import("/main.js");
          const chart = shownGrid().charts.get("loss");
          const { points } = chart.lines[0];
          const at = points.y.indexOf(spike);
          const px = chart.y.px(spike), left = chart.x.px(points.x[at]);
          const ratio = window.devicePixelRatio;
          const ctx = chart.base.getContext("2d");
          const spot = [left - 2, px, 5, 6].map((v) => v * ratio);
          const around = ctx.getImageData(...spot).data;
          return at >= 0 && around.some((v, i) => i % 4 === 3 && v > 80);
        }""",
        SPIKE,
    )
    return found


def zooms(page: Page, server: Serving, n_points: int) -> Iterator[float]:
    """From setting a range until it is drawn with what the server has of it, in ms."""
    rng = random.Random(3)
    for k in range(20):
        width = n_points / 3 ** (1 + k % 8)
        low = rng.random() * (n_points - width)
        took: float = page.evaluate(
            """([low, high]) => new Promise(async (done) => {
              const { shownGrid } = await import("/main.js");
              const begun = performance.now();
              const watch = new PerformanceObserver((list) => {
                if (!list.getEntriesByName("runs-update").length) return;
                watch.disconnect();
                done(performance.now() - begun);
              });
              watch.observe({ type: "measure" });
              shownGrid().zoom(low, high);
            })""",
            [low, low + width],
        )
        yield took


def write_long(journal: Path, n_points: int) -> None:
    """A journal of iterations with seven metrics, one of which has a spike of one iteration."""
    rng = random.Random(7)
    noise = [rng.gauss(0, 0.05) for _ in range(9_973)]
    spike = int(n_points * SPIKE_AT)
    opening = {
        "format": 1, "run_id": "r", "run_name": "long", "config": {"max_iters": n_points},
        "metadata": {"tokens_per_iter": 491_520},
    }  # fmt: skip
    from eventlog.format.record import encode

    with journal.open("wb", buffering=1 << 20) as file:
        file.write(encode(0, "a1b2c3d4", "2026-11-01T00:00:00.000000+00:00", "open", opening))
        for i in range(n_points):
            hours, left = divmod(i, 36_000)
            minutes, tenths = divmod(left, 600)
            day, hour = divmod(hours, 24)
            e = noise[i % 9_973]
            loss = SPIKE if i == spike else 2.6 + 8 * math.exp(-i / (n_points / 25)) + e
            body = (
                f'{{"n":{i + 1},"s":"a1b2c3d4","t":"2026-11-{day + 1:02}T{hour:02}:{minutes:02}:'
                f'{tenths // 10:02}.{tenths % 10}00000+00:00","event":"iter","iter":{i},'
                f'"loss":{loss:.6f},"time_ms":{100 + 20 * e:.4f},"mfu":{40 + e:.4f},"lr":6e-4,'
                f'"grad_norm":{1 + e:.5f},"tokens_per_s":{4.9e6 + 1e5 * e:.1f}'
            ).encode()
            file.write(b'%b,"crc":"%08x"}\n' % (body, crc32(body)))


def all_rows(server: Serving, n: int) -> list[dict[str, Any]]:
    while True:
        result = server.json("/api/runs")
        if result["complete"] and len(result["runs"]) == n:
            return list(result["runs"])
        time.sleep(0.05)


def peak_bytes(server: Serving) -> int:
    """The most memory that the server has held."""
    assert server.process is not None
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def wait(page: Page, condition: Any) -> None:
    while not condition():
        page.wait_for_timeout(100)


if __name__ == "__main__":
    main()
