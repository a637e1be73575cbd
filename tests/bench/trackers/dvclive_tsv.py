"""DVCLive: a TSV file a metric and a summary that is rewritten each step.

`next_step` parses all TSV files again, so its cost grows with the run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.bench.trackers import Log, Value

PACKAGES = ("dvclive",)
VARIANTS = {"dvclive": "`Live` outside a repository, four `log_metric` and a `next_step` a step"}
LOG_FILES = ("dvclive/plots/metrics/*.tsv",)
PROMISE = "nothing"


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    os.environ["DVC_NO_ANALYTICS"] = "1"
    from dvclive import Live

    with Live(
        str(folder / "dvclive"),
        resume=first > 0,
        save_dvc_exp=False,
        dvcyaml=str(folder / "dvc.yaml"),
    ) as live:

        def log(step: int, values: dict[str, float]) -> None:
            live.step = step
            for name, value in values.items():
                live.log_metric(name, value)
            live.next_step()

        yield log


def read(folder: Path) -> Iterator[Value]:
    """File by file: one that DVCLive cannot parse does not hide the others, nor a cell its row."""
    from dvclive.utils import parse_tsv

    refused = None
    for path in folder.glob(LOG_FILES[0]):
        try:
            rows = parse_tsv(path)
        except Exception as error:
            refused = error
            continue
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):
                yield int(row["step"]), path.stem, float(row[path.stem])
    if refused:
        raise refused
