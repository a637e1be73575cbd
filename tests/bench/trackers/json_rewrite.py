"""The common home-made logger: the whole run as one JSON document, rewritten every 100 steps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ()
VARIANTS = {
    "json-every-100": "`open(path, 'w')` and `json.dump(indent=2)` every 100 steps and at the end"
}
LOG_FILES = ("run.json",)
PROMISE = "nothing"
SAVE_INTERVAL = 100


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    path = folder / LOG_FILES[0]
    rows = []
    if first and path.exists():
        with open(path) as file:
            rows = json.load(file)["training_iterations"]

    def save() -> None:
        with open(path, "w") as file:
            json.dump({"run_name": "run", "training_iterations": rows}, file, indent=2)

    def log(step: int, values: dict[str, float]) -> None:
        rows.append({"iter": step} | values)
        if len(rows) % SAVE_INTERVAL == 0:
            save()

    yield log
    save()


def read(folder: Path) -> Iterator[Value]:
    path = folder / LOG_FILES[0]
    if not path.exists():
        return
    with open(path) as file:
        rows = json.load(file)["training_iterations"]
    for row in rows:
        yield from ((row["iter"], name, v) for name, v in row.items() if name != "iter")
