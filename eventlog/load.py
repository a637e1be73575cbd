"""Reading a run: one door for journals and run JSONs alike."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventlog.column import Column
from eventlog.disk import is_locked
from eventlog.errors import NewerFormat, UnreadableRun
from eventlog.figures import number, summarize
from eventlog.fold import Fold
from eventlog.ranks import RANK_SUFFIX
from eventlog.reader import Reader
from eventlog.record import FORMAT
from eventlog.run import Run, parse_run
from eventlog.stretch import Stretch

JOURNAL_SUFFIX = ".jsonl"

SUMMARY = summarize([], [], Column(), Column(), [], 0).keys()
"""The names of the figures."""

PathLike = str | os.PathLike[str]


class Folding:
    """A journal read so far: how it is (`reader`) and what it says (`fold`).

    `with_rows`: False for who wants to know how it is, and no `run` of it.
    """

    def __init__(self, path: Path, *, with_rows: bool = True) -> None:
        self.path = path
        self.reader = Reader(path)
        self.fold = Fold(with_rows=with_rows)
        self._with_rows = with_rows

    def read_on(self, *, to_the_end: bool) -> None:
        """Fold in what the journal has more than before; all of it anew if it changed behind.

        `to_the_end`: nobody writes any more, so a last line without LF is the end of it.
        """
        if self.reader.is_outdated:
            self.reader.restart()
            self.fold = Fold(with_rows=self._with_rows)
        for item in self.reader.read_stretches_on(to_the_end=to_the_end):
            if isinstance(item, Stretch):
                self.fold.add_stretch(item)
            else:
                self.fold.add(item)

    def run(self, *, alive: bool, with_superseded: bool = False) -> Run:
        """The run as read so far.

        Raises:
            UnreadableRun: there is not one whole record.
            NewerFormat: a session in it was written by a later format.
        """
        ledger, journal = self.reader.ledger, self.reader.journal
        if ledger.newer_format is not None:
            raise NewerFormat(
                f"{self.path}: has a session of format {ledger.newer_format!r}, this program "
                f"reads up to {FORMAT}. Nothing was changed. Use a newer eventlog"
            )
        if not ledger.n_records:
            raise UnreadableRun(
                f"{self.path}: no journal: not one whole record in its "
                f"{journal.size_bytes:,} bytes. See: eventlog verify {self.path}"
            )
        run = self.fold.run(
            alive=alive,
            with_superseded=with_superseded,
            journal={
                "format": FORMAT,
                "file": self.path.name,
                "bytes": journal.size_bytes,
                "crc": f"{journal.crc:08x}",
                "segments": self.reader.segments,
                "records": ledger.n_records,
                "defects": [d.to_dict() for d in self.reader.defects],
            },
        )
        run.run_name = run.run_name or self.path.stem
        run.path = self.path
        return run


def load_run(path: PathLike, *, with_superseded: bool = False) -> Run:
    """The run in `path`, a journal (`.jsonl`, a rank's) or a run JSON; a summary is always there.

    A journal is read as it is now, so a live or crashed run needs nothing to be run first.
    `with_superseded` (of a journal): rows that a later take replaced are in `run.journal`.

    Raises:
        UnreadableRun: neither of the two; says where reading stopped, and the way out.
        OSError: no such file, or not to be read.
    """
    path = Path(path)
    if path.suffix in (JOURNAL_SUFFIX, RANK_SUFFIX):
        alive = is_locked(path)
        folding = Folding(path)
        folding.read_on(to_the_end=not alive)
        return folding.run(alive=alive, with_superseded=with_superseded)
    run = parse_run(path.read_bytes(), path)
    if run.journal and run.summary.keys() >= SUMMARY:
        return run  # folded by this package: half the time for 100,000 iterations
    brought = {k: v for k, v in run.summary.items() if v is not None and k != "nonfinite"}
    run.summary = summary_of(run) | brought
    return run


def summary_of(run: Run) -> dict[str, Any]:
    """The summary of a run's own arrays, for files that bring none."""

    def column(key: str) -> list[float]:
        return [number(row.get(key)) for row in run.training_iterations]

    return summarize(
        [row.get("iter") for row in run.training_iterations],
        column("loss"),
        Column(column("time_ms")),
        Column(column("mfu"), floor=0.0),
        [row.get("val_loss") for row in run.eval_steps],
        len(run.checkpoints),
    )


def compare_runs(paths: Iterable[PathLike]) -> dict[str, list[dict[str, Any]]]:
    """`{"runs": [...]}`, a dict per run: run_name, final_loss, best_val_loss, avg_mfu, ...

    A figure that a run does not have is NaN, so that it can be formatted like the others.

    Raises:
        UnreadableRun, OSError: as `load_run`.
    """
    return {"runs": [_figures(load_run(path)) for path in paths]}


def _figures(run: Run) -> dict[str, Any]:
    def figure(key: str) -> Any:
        value = run.summary.get(key)
        return value if type(value) in (float, int) else math.nan

    return {
        "run_name": run.run_name,
        "final_loss": figure("final_train_loss"),
        "best_val_loss": figure("best_val_loss"),
        "avg_mfu": figure("avg_mfu"),
        "total_iters": figure("total_iterations"),
        "avg_time_ms": figure("avg_time_ms"),
        "status": run.status,
    }
