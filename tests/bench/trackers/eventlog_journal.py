"""This project's own journal, as `open_run` sets it up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ("eventlog", "orjson")
VARIANTS = {
    "eventlog": "`open_run`, one `log_iter` a step; a thread syncs each second",
    "eventlog-sync": "the same and `sync()` after each",
}
LOG_FILES = ("*.jsonl",)
PROMISE = "a kill costs nothing, a power loss at most the last second; synced: nothing"


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    import eventlog

    journal = next(folder.glob(LOG_FILES[0])) if first else None
    with eventlog.open_run(folder, journal=journal, from_iter=first or None) as run:

        def log(step: int, values: dict[str, float]) -> None:
            run.log_iter(step, **values)
            if variant == "eventlog-sync":
                run.sync()

        yield log


def read(folder: Path) -> Iterator[Value]:
    """Read the journal alone, and not the run JSON, which has the same events."""
    import eventlog

    for journal in folder.glob(LOG_FILES[0]):
        for row in eventlog.load_run(journal).training_iterations:
            yield from ((row["iter"], name, v) for name, v in row.items() if name != "iter")
