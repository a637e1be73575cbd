"""Make `tools/dashboard/example.png`, the picture of the page in README and docs.

python -m tests.tools.dashboard.make_example

Six runs of the trainer, of a minute each on two cores: four that complete, one whose learning rate
is far too high, and one that is being written.
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.tools.dashboard.conftest import CHROMIUM
from tests.tools.dashboard.pages import serving_here, until

ROOT = Path(__file__).parents[3]
PICTURE = ROOT / "tools/dashboard/example.png"
SIZE = {"width": 1200, "height": 690}
N_COLOURS = 128
ITERS, EVAL_EVERY = 1500, 100
RUNS = {"d1-lr3e-4": 3e-4, "d1-lr3e-3": 3e-3, "d2-lr3e-4": 3e-4, "d2-lr3e-3": 3e-3}
"""Learning rates by name; the digit is the number of layers."""


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the page shows the folder's name
        for name, lr in RUNS.items():
            train(name, lr).wait()
        train("d2-lr30", 30.0).wait()
        live = train("d3-lr3e-3", 3e-3)
        try:
            with serving_here("out") as server:
                until(lambda: iterations_of(server, "d3") >= 450, 300)
                save(screenshot(server))
        finally:
            live.kill()
            live.wait()
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def train(name, lr):
    flags = {
        "wandb_run_name": name, "learning_rate": lr, "n_layer": int(name[1]), "max_iters": ITERS,
        "lr_decay_iters": ITERS, "warmup_iters": 60, "eval_interval": EVAL_EVERY, "eval_iters": 10,
        "n_head": 4, "n_embd": 64, "block_size": 64, "batch_size": 16, "nonfinite": "stop",
        "min_lr": lr / 10, "log_interval": 100, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    settings = [f"--{flag}={value}" for flag, value in flags.items()]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "trainer/train.py"), *settings],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # other programs may be running
    )


def iterations_of(server, name):
    rows = [row for row in server.rows().values() if row["run"].startswith(name)]
    return max((row["iterations"] or 0 for row in rows), default=0)


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
