"""Reading a run: one door for journals and run JSONs alike."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventlog.disk import is_locked
from eventlog.errors import NewerFormat, UnreadableRun
from eventlog.fold import Fold, summarize
from eventlog.record import FORMAT
from eventlog.run import Run, parse_run
from eventlog.scan import Scanner, read_chunks

JOURNAL_SUFFIX = ".jsonl"

PathLike = str | os.PathLike[str]


@dataclass
class Folding:
    """A journal read so far: what it says (`fold`) and how it is (`scanner`)."""

    path: Path
    scanner: Scanner = field(default_factory=Scanner)
    fold: Fold = field(default_factory=Fold)
    _ended: bool = False  # what was read as the end may be cut, or be no end, once somebody writes

    def restart(self) -> None:
        """Forget all that was read."""
        self.scanner, self.fold, self._ended = Scanner(), Fold(), False

    def read_on(self, *, to_the_end: bool) -> int:
        """Fold in what the journal has more than before; how many records that was.

        `to_the_end`: nobody writes any more, so a last line without LF is the end of it.
        A journal that was read to its end, or became shorter, is read anew.
        """
        if self._ended or os.stat(self.path).st_size < self.scanner.size_bytes:
            self.restart()
        before = self.scanner.n_records
        self.scanner.forget_pending()  # it may be a torn line that was cut since
        for chunk in read_chunks(self.path, self.scanner.size_bytes):
            for record in self.scanner.feed(chunk):
                self.fold.add(record)
        self._ended = to_the_end
        if to_the_end:
            for record in self.scanner.finish():
                self.fold.add(record)
        return self.scanner.n_records - before

    def run(self, *, alive: bool) -> Run:
        """The run as read so far.

        Raises:
            UnreadableRun: there is not one whole record.
            NewerFormat: a session in it was written by a later format.
        """
        if self.scanner.newer_format is not None:
            raise NewerFormat(
                f"{self.path}: has a session of format {self.scanner.newer_format!r}, this program "
                f"reads up to {FORMAT}. Nothing was changed. Use a newer eventlog"
            )
        if not self.scanner.n_records:
            raise UnreadableRun(
                f"{self.path}: no journal: not one whole record in its "
                f"{self.scanner.size_bytes:,} bytes. See: eventlog verify {self.path}"
            )
        run = self.fold.run(
            alive=alive,
            journal={
                "format": FORMAT,
                "file": self.path.name,
                "bytes": self.scanner.size_bytes,
                "crc": f"{self.scanner.crc:08x}",
                "records": self.scanner.n_records,
                "defects": [d.to_dict() for d in self.scanner.defects],
            },
        )
        run.run_name = run.run_name or self.path.stem
        run.path = self.path
        return run


def load_run(path: PathLike) -> Run:
    """The run in `path`, a journal (`.jsonl`) or a run JSON; a summary is always there.

    A journal is read as it is now, so a live or crashed run needs nothing to be run first.

    Raises:
        UnreadableRun: neither of the two; says where reading stopped, and the way out.
        OSError: no such file, or not to be read.
    """
    path = Path(path)
    if path.suffix == JOURNAL_SUFFIX:
        alive = is_locked(path)
        folding = Folding(path)
        folding.read_on(to_the_end=not alive)
        return folding.run(alive=alive)
    run = parse_run(path.read_bytes(), path)
    run.summary = summary_of(run) | run.summary
    return run


def summary_of(run: Run) -> dict[str, Any]:
    """The summary of a run's own arrays, for files that bring none."""

    def column(key: str) -> list[float]:
        values = (row.get(key) for row in run.training_iterations)
        return [float(v) if isinstance(v, float | int) else math.nan for v in values]

    return summarize(
        [row["iter"] for row in run.training_iterations],
        column("loss"),
        column("time_ms"),
        column("mfu"),
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
        return math.nan if value is None else value

    return {
        "run_name": run.run_name,
        "final_loss": figure("final_train_loss"),
        "best_val_loss": figure("best_val_loss"),
        "avg_mfu": figure("avg_mfu"),
        "total_iters": figure("total_iterations"),
        "avg_time_ms": figure("avg_time_ms"),
        "status": run.status,
    }
