"""Weights & Biases, offline; read back by the reader it ships (`wandb leet inspect --json`)."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ("wandb",)
VARIANTS = {
    "wandb": 'mode="offline", one `run.log` a step; flushes each 15 s',
    "wandb-flush": "the same, x_transaction_log_flush_interval=0.01 (an unofficial setting)",
}
LOG_FILES = ("wandb/*run-*/*.wandb",)
PROMISE = "an offline run can be synced later; nothing about crashes"


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    """Offline, W&B cannot append: a resumed run is a second file with the same run id."""
    import wandb

    more = {"x_transaction_log_flush_interval": 0.01} if variant == "wandb-flush" else {}
    with wandb.init(
        mode="offline",
        project="trackers",
        id="run",
        dir=folder,
        resume="allow" if first else None,
        settings=wandb.Settings(silent=True, **more),
    ) as run:
        yield lambda step, values: run.log(values, step=step)


def read(folder: Path) -> Iterator[Value]:
    """What `wandb leet inspect --json` prints; it goes on at the next block after damage."""
    from wandb.util import get_core_path

    for path in sorted(folder.glob(LOG_FILES[0])):
        command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
        command += ["--run-file", str(path), str(path.parent.parent)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        for line in done.stdout.splitlines():
            record = json.loads(line)
            if record.get("type") == "history":
                item = record["history"]["item"]
                step = item.get("_step")
                yield from ((step, k, v) for k, v in item.items() if not k.startswith("_"))
        if done.returncode:
            raise OSError(done.stderr.strip())
