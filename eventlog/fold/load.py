"""Reading a run, from a journal or a run JSON."""

import math
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from eventlog.blocks import check_is_file, read_all
from eventlog.disk import is_locked
from eventlog.errors import EventlogError, NewerFormat, UnreadableRun
from eventlog.fold.document import Run, parse_run
from eventlog.fold.fold import Fold
from eventlog.fold.row_sink import RowSink
from eventlog.fold.summary import summarize
from eventlog.fold.tables import Column, number
from eventlog.format.files import (
    JOURNAL_SUFFIX,
    RANK_SUFFIX,
    RUN_JSON_SUFFIX,
    SEGMENT_SUFFIX,
    journal_path,
    parse_orphan,
    run_path,
)
from eventlog.format.record import FORMAT
from eventlog.read.alive import process_lives, writes_without_lock
from eventlog.read.batch import Batch
from eventlog.read.defects import Defect
from eventlog.read.evidence import Known, aside_defects, fewer_records, known_from
from eventlog.read.reader import Reader

SUMMARY = summarize([], [], Column(), Column(), [], 0).keys()
"""The keys of a summary."""

PathLike = str | os.PathLike[str]


class Folding:
    """A journal read so far: its files and defects (`reader`) and its run (`fold`).

    Args:
        with_rows, sink: as those of `Fold`.
    """

    def __init__(
        self,
        path: Path,
        *,
        with_rows: bool = True,
        sink: RowSink | None = None,
    ) -> None:
        self.path = path
        self.reader = Reader(path)
        self._new_fold = partial(Fold, with_rows=with_rows, sink=sink)
        self._sink = sink
        self.fold = self._new_fold()
        self.n_written = -1
        """How many records the latest run JSON was made from; negative: none was written."""
        self._known: Known | None = None
        self._evidence: dict[bool, list[Defect]] = {}

    def read(self) -> bool:
        """Read what is new, to the very end if no writer is alive; whether one is."""
        alive = self.is_alive()
        self.read_on(to_the_end=not alive)
        if not alive and self._writes_without_lock():  # now that its `open` event is known
            alive = True
            self.read_on(to_the_end=False)
        return alive

    def is_alive(self) -> bool:
        """Whether a writer is alive, as far as is known from what was read."""
        return is_locked(self.path) or self._writes_without_lock()

    def _writes_without_lock(self) -> bool:
        session = next(reversed(self.fold.sessions.values()), None)
        return (
            session is not None
            and not session.status
            and self._process_writes(session.opened, session.started)
        )

    def _process_writes(self, opened: dict[str, Any], t: str) -> bool:
        """Whether the process of a session without a lock is alive; a segment alone has no lock."""
        if self.path.suffix == SEGMENT_SUFFIX:
            return process_lives(opened, t) is True
        return writes_without_lock(opened, t)

    def read_on(self, *, to_the_end: bool, most_bytes: int | None = None) -> None:
        """Fold what is new in the journal; everything again if what was read has changed.

        Args:
            to_the_end: no writer is alive, so a last line without LF is complete.
            most_bytes: stop after about this many bytes; the next call goes on.
        """
        if self.reader.is_outdated:
            self._forget()
        self._read_on(to_the_end, most_bytes)
        if self.reader.is_misordered:  # a file was found whose records belong before others
            self._forget()
            self._read_on(to_the_end)

    def _forget(self) -> None:
        self.reader.restart()
        self.n_written = -1
        self.fold = self._new_fold()
        if self._sink is not None:
            self._sink.clear()

    def _read_on(self, to_the_end: bool, most_bytes: int | None = None) -> None:
        self._evidence.clear()
        if self._known is None:
            self.note_known()
        for item in self.reader.read_batches_on(to_the_end=to_the_end, most_bytes=most_bytes):
            if isinstance(item, Batch):
                self.fold.add_batch(item)
            else:
                self.fold.add(item)

    def defects(self, *, with_content: bool = False) -> list[Defect]:
        """All defects: of the journal, of its segments, and of other files of the run.

        `with_content`: compare the content of files of large events, and not only their sizes.
        """
        if with_content not in self._evidence:
            asides = aside_defects(self.reader, with_content=with_content)
            self._evidence[with_content] = asides
        return [*self._defects_of_records(), *self._evidence[with_content]]

    def _defects_of_records(self) -> list[Defect]:
        """Those of the journal and its segments, and records that an earlier run JSON has."""
        reader, known = self.reader, self._known or Known()
        fewer = fewer_records(known, reader.sequence, self.fold.sessions, reader.others)
        return [*(d for d in reader.defects if not self._was_searched(d)), *fewer]

    def _was_searched(self, defect: Defect) -> bool:
        """Whether it is a folder that is gone, and the run JSON was made when it was there, after
        the session had ended: from all records that are here."""
        session, known = self.fold.sessions.get(defect.session), self._known or Known()
        n_records = None if session is None else session.n_records
        return defect.kind == "missing_folder" and known.searched.get(defect.session) == n_records

    def note_known(self) -> None:
        """Note how many records there were earlier: before reading, since a live writer's
        compactor may write a run JSON of more records than are read here."""
        self._known = known_from(run_path(self.path))

    def check(self) -> None:
        """Check that there is a run.

        Raises:
            UnreadableRun: there is not one whole record.
            NewerFormat: a session in it was written by a later format.
        """
        sequence, journal = self.reader.sequence, self.reader.journal
        if sequence.newer_format is not None:
            raise NewerFormat(
                f"{self.path}: has a session of format {sequence.newer_format!r}, this program "
                f"reads up to {FORMAT}. Nothing was changed. Use a newer eventlog"
            )
        if not sequence.n_records:
            raise UnreadableRun(
                f"{self.path}: not a journal: not one whole record in its "
                f"{journal.size_bytes:,} bytes. See: eventlog verify {self.path}"
            )

    @property
    def lacks_journal(self) -> bool:
        """Whether this is a segment, and the journal with the rest of its run is not here."""
        return lacks_journal(self.path)

    def run(self, *, alive: bool, with_superseded: bool = False) -> Run:
        """The run as read so far; raises as `check`."""
        self.check()
        sequence, journal = self.reader.sequence, self.reader.journal
        annotators, n_ignored = sequence.annotators, self.reader.n_ignored
        run = self.fold.run(
            alive=alive,
            with_superseded=with_superseded,
            journal={
                "format": FORMAT,
                "file": self.path.name,
                "bytes": journal.size_bytes,
                "crc": f"{journal.crc:08x}",
                "segments": self.reader.segments,
                "records": sequence.n_records,
                **({"annotators": annotators} if annotators else {}),
                "defects": [d.to_dict() for d in self._defects_of_records()],
                **({"ignored": n_ignored} if n_ignored else {}),
            },
        )
        self._add_where_it_went_on(run)
        run.run_name = run.run_name or self.path.stem
        run.path = self.path
        return without_journal(run)

    def _add_where_it_went_on(self, run: Run) -> None:
        """Correct the reason if the end of the last session may be in a file that is missing."""
        s = next(reversed(self.fold.sessions), "")
        if run.journal["status"] != "interrupted" or not s or self.fold.sessions[s].status:
            return
        missing: dict[str, list[str]] = {"missing_segment": [], "missing_folder": []}
        for defect in self.reader.missing_segments:
            is_missed = defect.lost != 0 and not self._was_searched(defect)
            if defect.session == s and is_missed and defect.detail:
                missing[defect.kind].append(defect.detail)
        files, folders = map("; ".join, missing.values())
        if files:
            run.journal["reason"] = (
                f"the session went on in another file, which is not here or not readable: {files}"
            )
        elif folders:
            reasons = (run.journal["reason"], f"it may have gone on in {folders}")
            run.journal["reason"] = "; ".join(filter(None, reasons))


def load_run(path: PathLike, *, with_superseded: bool = False, sink: RowSink | None = None) -> Run:
    """The run in `path`, a journal (`.jsonl`, a rank's) or a run JSON; a summary is always there.

    A journal is read as it is now, so a live or crashed run needs nothing to be run first. A run
    JSON that says `running` while nobody writes the journal beside it is read from the journal.

    Args:
        with_superseded: of a journal: the superseded rows are in `run.journal`.
        sink: of a journal: gets its rows as they come and as they are superseded.

    Raises:
        UnreadableRun: neither of the two; the message says where reading stopped and what to do.
        OSError: the file is missing, unreadable, or not a regular file.
    """
    path = Path(path)
    if path.suffix in (JOURNAL_SUFFIX, RANK_SUFFIX, SEGMENT_SUFFIX):
        folding = Folding(path, sink=sink)
        alive = folding.read()
        return folding.run(alive=alive, with_superseded=with_superseded)
    run = parse_run(read_all(path), path)
    if run.journal and run.status == "running":
        run = without_journal(_as_it_ended(run, with_superseded) or run)
    if run.journal and run.summary.keys() >= SUMMARY:
        return run  # folded by this package: half the time for 100,000 iterations
    run.summary = _recomputed(run)
    return run


def _as_it_ended(run: Run, with_superseded: bool) -> Run | None:
    """The run as read from its journal, if no writer is alive: its JSON lacks the end."""
    assert run.path is not None
    segment = run.path.with_suffix(SEGMENT_SUFFIX)
    journal = segment if _is_of_segment(run.path) else journal_path(run.path)
    try:
        check_is_file(journal)
        if is_locked(journal):
            return None
        ended = load_run(journal, with_superseded=with_superseded)
    except (OSError, EventlogError):
        return None
    ended.path = run.path
    return ended if ended.status != "running" else None


def without_journal(run: Run) -> Run:
    """The run, with status `unknown` if its journal is not here to tell whether it is running.

    A run JSON whose journal was moved or deleted alone is not updated any more. A segment that is
    read without its journal may not have the end; nor does anybody lock it.
    """
    path = run.path
    if path is None:
        return run
    last = max((str(s.get("last") or "") for s in run.journal.get("sessions", ())), default="")
    as_of = f"; last state as of {last[:19].replace('T', ' ')} UTC" if last else ""
    if lacks_journal(path):
        why = f"its journal {_journal_of(path).name} is not here"
        is_old = run.status == "running" and path.suffix == RUN_JSON_SUFFIX
        if (is_old or run.status == "interrupted") and _may_go_on(run):
            run.journal |= {"status": "unknown", "reason": None}
            run.end_time, why = None, f"{why}, which would tell whether it is running{as_of}"
        run.journal["reason"] = "; ".join(filter(None, (run.journal["reason"], why)))
    elif run.status == "running" and not os.path.lexists(journal := _journal_of(path)):
        why = f"its journal {journal.name} is gone from here{as_of}"
        run.journal |= {"status": "unknown", "reason": why}
    return run


def lacks_journal(path: Path) -> bool:
    """Whether `path` is a segment, or the run JSON of one, whose journal is not beside it."""
    return _is_of_segment(path) and not os.path.lexists(_journal_of(path))


def _is_of_segment(path: Path) -> bool:
    if path.suffix != RUN_JSON_SUFFIX:
        return parse_orphan(path) is not None
    is_called_so = parse_orphan(path.with_suffix(SEGMENT_SUFFIX)) is not None
    return is_called_so and not os.path.lexists(journal_path(path))


def _journal_of(path: Path) -> Path:
    """The journal of a run JSON or a segment."""
    orphan = parse_orphan(path.with_suffix(SEGMENT_SUFFIX)) if _is_of_segment(path) else None
    return journal_path(path) if orphan is None else path.with_name(f"{orphan[0]}{JOURNAL_SUFFIX}")


def _may_go_on(run: Run) -> bool:
    """Whether the last session of a run without its journal is open, as far as is known here."""
    session: dict[str, Any] = next(reversed(run.journal["sessions"]), {})
    lives = process_lives(session, session.get("started", ""))
    return not session.get("status") and lives is not False


def _recomputed(run: Run) -> dict[str, Any]:
    """The summary of a file of another logger: computed from its rows, completed from its own.

    The file's own values are kept where it has no rows to compute them from, except for a best
    loss without evals: some loggers wrote a placeholder there.
    """
    own = {k: v for k, v in run.summary.items() if v is not None and k != "nonfinite"}
    computed = summary_of(run)
    if not len(run.training_iterations):
        of_rows = ("total_iterations", "final_iter", "final_train_loss", "avg_time_ms", "avg_mfu")
        computed |= {k: own[k] for k in of_rows if k in own}
    return computed | {k: v for k, v in own.items() if k not in computed}


def summary_of(run: Run) -> dict[str, Any]:
    """The summary computed from a run's rows."""

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

    A value that a run lacks is NaN, so that it can be formatted like the others. A run
    that logged metrics alone has the losses that `Run.losses` finds among them.

    Raises:
        UnreadableRun, OSError: as `load_run`.
    """
    return {"runs": [_compared(load_run(path)) for path in paths]}


def _compared(run: Run) -> dict[str, Any]:
    summary = run.summary | _of_metrics(run)

    def value(key: str) -> Any:
        stored = summary.get(key)
        return stored if type(stored) in (float, int) else math.nan

    return {
        "run_name": run.run_name,
        "final_loss": value("final_train_loss"),
        "best_val_loss": value("best_val_loss"),
        "avg_mfu": value("avg_mfu"),
        "total_iters": value("total_iterations"),
        "avg_time_ms": value("avg_time_ms"),
        "status": run.status,
    }


def _of_metrics(run: Run) -> dict[str, Any]:
    """The summary of a run that logged no iterations, by the metrics that are its losses."""
    if run.summary.get("total_iterations") or not len(run.metrics):
        return {}
    loss, val_loss = run.losses()
    summary: dict[str, Any] = {"total_iterations": len(run.metrics)}
    if loss is not None:
        summary["final_train_loss"] = loss.last
    return summary | ({} if val_loss is None else {"best_val_loss": val_loss.min})
