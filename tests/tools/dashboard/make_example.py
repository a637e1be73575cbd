"""Make `tools/dashboard/example.png`, the picture of the page in README and docs.

python -m tests.tools.dashboard.make_example

The page is real, the values of its six runs are computed and not trained. One run is being written
and has a spike, one has failed.
"""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import eventlog
from tests.tools.dashboard.conftest import CHROMIUM
from tests.tools.dashboard.pages import serving_here, until

PICTURE = Path(__file__).parents[3] / "tools/dashboard/example.png"
SIZE = {"width": 1200, "height": 690}
N_COLOURS = 128
ITERS, WARMUP, EVAL_EVERY = 1500, 60, 100
RUNS = (
    ("d1-lr3e-4", 3e-4, 3.0), ("d1-lr3e-3", 3e-3, 2.5), ("d2-lr3e-4", 3e-4, 2.95),
    ("d2-lr3e-3", 3e-3, 2.45),
)  # fmt: skip
"""Name, learning rate and the loss that it ends near."""


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the page shows the folder's name
        for seed, (name, lr, floor) in enumerate(RUNS):
            with opened(name, lr) as run:
                log(run, range(ITERS), lr, floor, seed)
        with opened("d2-lr30", 30.0) as run:
            log(run, range(40), 30.0, 5.5, 8)
            run.close("failed", reason="loss is nan")
        with opened("d3-lr3e-3", 3e-3) as live, serving_here("out") as server:
            log(live, range(450), 3e-3, 2.8, 9, spike=60)
            until(lambda: len(server.rows()) == len(RUNS) + 2)
            save(screenshot(server))
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def opened(name, lr):
    config = {"max_iters": ITERS, "learning_rate": lr, "n_layer": int(name[1])}
    return eventlog.open_run("out", run_name=name, config=config, save_interval=0)


def log(run, iters, lr, floor, seed, spike=-1):
    """A loss that falls to `floor`, the faster the higher the rate, with the usual noise."""
    rng = np.random.default_rng(seed)
    for i in iters:
        rate = lr * min(1, i / WARMUP) * (0.55 + 0.45 * np.cos(np.pi * i / ITERS))
        loss = floor + (5.8 - floor) / (1 + i * (lr / 3e-4) ** 0.5 / 60)
        if i % EVAL_EVERY == 0:
            run.log_eval(i, loss, loss + 0.06 + 0.02 * rng.normal(), lr=rate)
        norm = 100.0 if i == spike else 1.2 + 2 / (1 + i / 20) + 0.1 * abs(rng.normal())
        loss += (2.0 if i == spike else 0.0) + 0.12 * rng.normal()
        run.log_iter(i, loss, 61 + rng.normal(), 36 + 0.3 * rng.normal(), lr=rate, grad_norm=norm)


def screenshot(server):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        failed = next(row["id"] for row in server.rows().values() if row["status"] == "failed")
        picked = [row["id"] for row in server.rows().values() if row["id"] != failed]
        page.goto(f"{server.address}#smooth=50&picks={','.join(picked)}")
        page.wait_for_selector(".panel[data-key=loss][data-points]")
        box = page.locator(".panel[data-key=loss] .plot").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(2_000)
        return page.screenshot()


def save(png):
    """As a PNG of the most frequent colours, which those of all lines are among."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    colours, of_pixels, n = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    palette = colours[np.argsort(-n)[:N_COLOURS]]
    distances = ((colours[:, None].astype(int) - palette[None]) ** 2).sum(axis=2)
    nearest = distances.argmin(axis=1).astype(np.uint8)
    picture = Image.fromarray(nearest[of_pixels].reshape(pixels.shape[:2]), "P")
    picture.putpalette(palette.tobytes())
    picture.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
