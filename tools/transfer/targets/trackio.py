"""trackio: a run in the project `runjournal`, in trackio's own database.

The database is in the folder OUT, or in TRACKIO_DIR; `TRACKIO_DIR=OUT trackio show` shows it.
Numbers are float64; times, NaN and infinities are preserved, words are text (trackio reads `NaN`,
`Infinity` and `-Infinity` as numbers). Names that trackio uses itself, `step` and `timestamp`, get
a `_` at their end. Configuration and metadata are the config.

What trackio has of the run is read before anything is added, and trackio accepts the id of each row
only once. When a resumed run superseded points, the run is deleted there and written again.
"""

import math
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ...core.formats import iso
from ...core.history import History, Point
from ...core.library import need
from ...core.runs import Refusal
from .names import unreserved
from .outcome import Outcome, State

PROJECT = "runjournal"
BATCH = 1000
RESERVED = frozenset(("step", "timestamp"))  # names that trackio uses itself
_NUMBERS: dict[float | str, float] = {
    "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf,
}  # fmt: skip


class Log(NamedTuple):
    """One row of trackio's."""

    step: int
    time: str
    values: dict[str, float | str]

    @property
    def id(self) -> str:
        """The same for equal rows; made from text, because a NaN does not equal itself."""
        values = sorted((name, _NUMBERS.get(v, v)) for name, v in self.values.items())
        return sha256(repr((self.step, self.time, values)).encode()).hexdigest()


def export(history: History, out: Path) -> Outcome:
    storage = _storage(out)
    name, run_id = history.run.run_name, history.id
    expected = {log.id: log for log in map(_log, history.points())}
    present = {_row(row).id for row in storage.get_logs(PROJECT, name, run_id=run_id)}
    config = {"config": history.settings(), "metadata": history.facts()}
    state: State = "continued" if present else "new"
    if not present <= expected.keys():
        if not storage.delete_run(PROJECT, name, run_id=run_id):
            raise Refusal(f"{out}: trackio could not delete its run {name}; try again")
        state, present = "replaced", set()
    missing = [log for id, log in expected.items() if id not in present]
    for at in range(0, len(missing), BATCH):
        batch = missing[at : at + BATCH]
        storage.bulk_log(
            PROJECT,
            name,
            [log.values for log in batch],
            steps=[log.step for log in batch],
            timestamps=[log.time for log in batch],
            config=config,
            log_ids=[f"{history.id}-{log.id}" for log in batch],
            run_id=run_id,
        )
    if state == "continued" and not missing:
        state = "unchanged"
    place = f"{storage.get_project_db_path(PROJECT)} run {name}"
    return Outcome(place, state, len(missing))


def _storage(out: Path) -> Any:
    """trackio's storage; trackio decides on the folder once, when it is imported."""
    folder = Path(os.environ.setdefault("TRACKIO_DIR", str(out.resolve())))
    need("trackio")
    storage = need("trackio.sqlite_storage").SQLiteStorage
    current = storage.get_project_db_path(PROJECT).parent
    if current.resolve() != folder.resolve():
        raise Refusal(
            f"{folder}: trackio uses {current} since it was imported, and in no other folder "
            f"before this process ends; export there, or in a process of its own"
        )
    return storage


def _log(point: Point) -> Log:
    values = {unreserved(k, RESERVED): v for k, v in (point.values | point.words).items()}
    return Log(point.step, iso(point.time_s) or "", values)


def _row(row: dict[str, Any]) -> Log:
    return Log(row["step"], row["timestamp"], {k: v for k, v in row.items() if k not in RESERVED})
