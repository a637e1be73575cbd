"""Runs as they grow: each journal is read once, and then only what was appended.

    run = Following(Path("out/run_20261123_032501.jsonl"))
    while run.read_on():                    # True: something is new
        print(run.iterations.last_iter, run.status)

What was read is in `content`. A journal that was cut or replaced is read again; until that is
complete, the earlier content is shown.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import eventlog
from eventlog import seconds

from ..core import ends, runs
from ..core.axis import AxisName
from .content import Content, content_of
from .curves import Axis, Rows

CLOCK_RECORDS = 100  # records between two checks of the clock: 0.4 ms where folding is fast
JSON_MAX_BYTES = 256 << 20  # a run JSON without its journal is held whole while it is read
BESIDE_S = 1.0  # between two searches for segments


class Following:
    """One run file that is followed; `read_on` reads what is new in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = Content()
        self.error = ""
        """Why it cannot be read, in a line."""
        self.is_alive = False
        """Whether a writer is alive."""
        self.was_read = False
        """Whether all that was there has been read once: before, a status is not known."""
        self._coming: Content | None = None  # being read again, until that is complete
        self._reading: Iterator[int] | None = None
        self._reader: eventlog.Reader | None = None
        self._seen: tuple[int, ...] = ()
        self._ordered: tuple[int, ...] = ()  # what was there when all was last read again
        self._look_beside_at = 0.0
        self._whole: eventlog.Run | None = None
        self._fewer: list[dict[str, Any]] = []  # defects: records that an earlier run JSON has
        self._fewer_seen: tuple[Any, ...] = ()
        self.by_series: object = None
        """What `live.by_series` remembers of this run."""
        self.definitions: object = None
        """What `live.definitions` remembers of it."""

    # ---- reading

    def read_on(self, budget_s: float = 0.05) -> bool:
        """Read for about `budget_s`; returns whether anything changed, or is still to be read."""
        was = (self.error, self.is_alive)
        try:
            eventlog.check_is_file(self.path)
            if not runs.is_journal(self.path):
                return self._read_json()
            changed = self._read_journal(budget_s)
        except (eventlog.EventlogError, OSError) as error:
            self._reading, self._seen = None, ()
            self.error, self.is_alive = self._reason(error), False
            changed = False
        return changed or was != (self.error, self.is_alive)

    @property
    def is_reading(self) -> bool:
        """Whether a part of the file that is known to be there has not been read yet."""
        return self._reading is not None

    @property
    def progress(self) -> float:
        """How much of the journal has been read, 0 to 1."""
        if self._reading is None or self._reader is None:
            return 1.0
        try:
            return min(1.0, self._reader.journal.size_bytes / max(1, os.stat(self.path).st_size))
        except OSError:
            return 1.0

    def _read_journal(self, budget_s: float) -> bool:
        if self._reading is None and not self._begin_reading():
            self.error = self._why_not()
            return False
        content = self._coming or self.content
        until = time.monotonic() + budget_s
        n_unchecked = 0
        for n_records in self._reading or ():
            n_unchecked += n_records
            if n_unchecked >= CLOCK_RECORDS:
                n_unchecked = 0
                if time.monotonic() > until:
                    break
        else:
            self._reading = None
        content.settle()
        if self._reading is None:
            self.content, self._coming = content, None
            self.was_read = True
            self.error = self._why_not()
            self._note_fewer_records()
        return True

    def _note_fewer_records(self) -> None:
        """Note records that the journal lacks and its run JSON knows of, if that has changed."""
        run_json = self.path.with_suffix(eventlog.RUN_JSON_SUFFIX)
        n_records = self._reader.sequence.n_records if self._reader else 0
        try:
            stat = os.stat(run_json)
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, self.is_alive or n_records)
            if seen != self._fewer_seen:
                self._fewer = self._fewer_records(run_json, n_records)
                self._fewer_seen = seen
        except (eventlog.EventlogError, OSError):
            self._fewer = []

    def _fewer_records(self, run_json: Path, n_records: int) -> list[dict[str, Any]]:
        run = ends.read(run_json)
        known = run.journal if run and run.journal.get("file") == self.path.name else {}
        n_known = known.get("records")
        if not self.is_alive and type(n_known) is int and n_known > n_records:
            return _of_fewer_records(eventlog.load_run(self.path).journal)
        return _of_fewer_records(known)

    def _why_not(self) -> str:
        sequence = self._reader.sequence if self._reader else None
        if sequence is not None and sequence.newer_format is not None:
            return (
                f"has a session of format {sequence.newer_format!r}, this program reads up to "
                f"{eventlog.FORMAT}. Use a newer eventlog"
            )
        return "" if self.content.n_records else "not a journal: not one whole record in it"

    def _begin_reading(self) -> bool:
        """Begin to read what is new; returns whether there is anything."""
        stat = os.stat(self.path)
        alive = eventlog.is_locked(self.path)
        reader, was_alive, self.is_alive = self._reader, self.is_alive, alive
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, alive)
        # Records that came too late for their place: all is read again, once if no file grows.
        is_misordered = reader is not None and reader.is_misordered and seen != self._ordered
        if seen == self._seen and not is_misordered and not self._has_new_segments():
            return was_alive != alive
        self._seen = seen
        if is_misordered:
            self._ordered = seen
        if reader is None or is_misordered or reader.is_outdated:
            reader = self._begin_again()
        rest = not alive and stat.st_size > reader.journal.size_bytes
        # If no writer is alive, a last line without LF is read as complete. When the run is resumed
        # everything is read again then, so this is done only if there is such a line.
        to_the_end = rest and not self._ends_with_lf(stat.st_size)
        if to_the_end and self.content.n_records and self._coming is None:
            reader = self._begin_again()
        if reader.is_behind or to_the_end:
            items = reader.read_batches_on(to_the_end=to_the_end)
            self._reading = (self._coming or self.content).read(items)
            return True
        return was_alive != alive

    def _has_new_segments(self) -> bool:
        """Whether there are new segments, checked rarely: the folder may be large."""
        now = time.monotonic()
        if self._reader is None or now < self._look_beside_at:
            return False
        self._look_beside_at = now + BESIDE_S
        return self._reader.is_behind

    def _begin_again(self) -> eventlog.Reader:
        if self._reader is None:
            self._reader = eventlog.Reader(self.path)
        else:
            self._reader.restart()  # with the folders that are known by now
        self._coming = Content() if self.content.n_records else None
        if self._coming is None:
            self.content = Content()
        return self._reader

    def _ends_with_lf(self, size_bytes: int) -> bool:
        with open(self.path, "rb") as file:
            file.seek(max(0, size_bytes - 1))
            return file.read(1) == b"\n"

    def _read_json(self) -> bool:
        """Read a run JSON as a whole if it changed: older loggers wrote no journal."""
        try:
            stat = os.stat(self.path)
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen == self._seen:
                return False
            self._seen = seen
            if stat.st_size > JSON_MAX_BYTES:
                raise eventlog.UnreadableRun(
                    f"{stat.st_size:,} bytes of JSON and no journal beside it: "
                    f"up to {JSON_MAX_BYTES:,} are drawn here. See: runs plot {self.path}"
                )
            run = eventlog.load_run(self.path)
        except (eventlog.EventlogError, OSError) as error:
            self.error = self._reason(error)
            return True
        self.error, self.content = "", content_of(run)
        run.training_iterations, run.eval_steps = [], []  # they are in the tables
        self._whole, self.was_read = run, True
        return True

    def _reason(self, error: Exception) -> str:
        """The text of an error without the path, which is shown beside it, and as UTF-8."""
        text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        return text.removeprefix(f"{self.path}: ").encode("utf-8", "replace").decode()

    # ---- the run

    @property
    def iterations(self) -> Rows:
        return self.content.tables["iter"]

    @property
    def evals(self) -> Rows:
        return self.content.tables["eval"]

    @property
    def last_iter(self) -> int | None:
        """The latest iteration; of a run that logs only metrics the latest step."""
        last = self.iterations.last_iter
        position = self.content.fold.position
        return last if last is not None or position < 0 else position

    @property
    def status(self) -> str:
        return self.run().status

    @property
    def started(self) -> float:
        """When the run began, in seconds since 1970; NaN if unknown."""
        started = seconds(self._whole.start_time if self._whole else self.content.fold.started)
        return math.nan if started is None else started

    def axis(self, name: AxisName) -> Axis | None:
        """The x axis `name` of this run; None if the run lacks what that needs."""
        knots = self.content.knots
        if name == "tokens" and not knots:
            return None
        started = self.started
        if name == "time" and started != started:
            return None
        return Axis(name, 0.0 if started != started else started, tuple(knots))

    def run(self) -> eventlog.Run:
        """The run without its iterations, which are in `iterations`."""
        if self._whole is not None:
            return self._whole
        reader, content = self._reader, self.content
        defects = [d.to_dict() for d in reader.defects] if reader else []
        run = content.fold.run(
            alive=self.is_alive,
            journal={
                "file": self.path.name,
                "defects": defects + self._fewer,
                "ignored": reader.n_ignored if reader else 0,
            },
        )
        run.run_name = run.run_name or os.fsencode(self.path.stem).decode("utf-8", "replace")
        run.path = self.path
        run.summary |= self._iterations_summary()
        return eventlog.without_journal(run)

    def _iterations_summary(self) -> dict[str, Any]:
        """The part of the summary that a fold without rows does not have."""
        rows = self.iterations
        loss = rows.columns.get("loss")
        return {
            "final_train_loss": loss.last() if loss else None,
            "avg_time_ms": _mean(rows, "time_ms"),
            "avg_mfu": _mean(rows, "mfu"),
        }


def _of_fewer_records(journal: Mapping[str, Any]) -> list[dict[str, Any]]:
    defects = journal.get("defects")
    listed = defects if isinstance(defects, list) else ()
    return [d for d in listed if isinstance(d, dict) and d.get("kind") == "fewer_records"]


def _mean(rows: Rows, key: str) -> float | None:
    column = rows.columns.get(key)
    total, n = column.total() if column else (0.0, 0)
    return total / n if n else None
