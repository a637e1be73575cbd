"""Records -> run. Pure: no files, no clock.

A run that was interrupted, resumed and resumed again has one curve: iteration i supersedes an
earlier iteration i and all later ones. A resumed session says where it begins (`from_iter` of its
`open` event), a trainer that goes back within a session says so too (`rewind`); where neither can
be read, the iteration numbers show it. What is superseded is still in the journal and counted
here, and no longer in the run.
"""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from eventlog.fold.column import Column
from eventlog.fold.document import Row, Rows, Run
from eventlog.fold.metrics import Metrics, step_of
from eventlog.fold.summary import number, summarize
from eventlog.format.json_rows import encode_row, spaced
from eventlog.format.record import TRAILER_BYTES, Record
from eventlog.read.batch import FIGURES, MARKS, Stretch

MFU_UNKNOWN = -100.0
"""What the guide's logs hold where MFU is not known, as in the first iterations."""

# The guide's fields first and in its order, whatever order they were logged in.
_ITERATION: Row = {"iter": None, "loss": None, "time_ms": None, "mfu": MFU_UNKNOWN}
_ITERATION_AT = len(b'"event":"iter",')
_EVAL: Row = {"iter": None, "train_loss": None, "val_loss": None, "lr": None}
_CHECKPOINT: Row = {"iter": None, "val_loss": None, "path": None}


@dataclass
class SessionFold:
    """One writer's life, as the run document tells it."""

    s: str
    opened: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    last: str = ""
    n_records: int = 0
    last_iter: int | None = None
    durable_n: int = 0
    status: str = ""
    reason: str | None = None
    last_words: str = ""
    """What a session said that may explain why it never closed: a signal, an error."""
    changed: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        told = ("host", "pid", "boot_id", "from_iter", "checkpoint", "found")
        row = {
            "s": self.s,
            "started": self.started,
            "last": self.last,
            "records": self.n_records,
            "last_iter": self.last_iter,
        }
        row |= {k: self.opened[k] for k in told if self.opened.get(k) is not None}
        row |= {"status": self.status or None, "reason": self.reason or self.last_words or None}
        if self.changed:
            row["changed"] = self.changed
        return row


class Fold:
    """Takes a journal's records in order; `run()` is what they amount to so far.

    Add more at any time: the state is that of the records added, nothing is read twice.

    Args:
        with_rows: False keeps of the iterations only how many there are and their figures. Such a
            fold has a summary, and no run.
    """

    def __init__(self, *, with_rows: bool = True) -> None:
        self.name = ""
        self.started = ""
        self.last = ""
        self.config: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.sessions: dict[str, SessionFold] = {}
        self.kinds: Counter[str] = Counter()
        self.position = -1
        """The iteration of the latest iter or eval event."""
        self._taken_back: dict[str, list[bytes]] = {
            "iterations": [],
            "evals": [],
            "checkpoints": [],
        }
        self._iters = array("q")  # ascending: this is what "one curve" means
        self._rows = Rows()
        self._with_rows = with_rows
        self._names: tuple[str, ...] = ()
        self._losses = array("d")
        self._times_ms = Column()
        self._mfus = Column(floor=0.0)
        self._evals: list[Row] = []
        self._checkpoints: dict[int, dict[Any, Row]] = {}  # by iteration, ascending, and by path
        self._metrics = Metrics()
        self._own_summary: Row = {}
        self._run_id: Any = None
        self._remarks: list[Record] = []  # notes, tags, alerts, in the order they were read

    @property
    def superseded(self) -> dict[str, int]:
        """How many rows were taken back, by what they are."""
        taken_back = {name: len(rows) for name, rows in self._taken_back.items()}
        n_metrics = len(self._metrics.taken_back)
        return taken_back | ({"metrics": n_metrics} if n_metrics else {})

    def add(self, record: Record) -> None:
        """Fold one record in."""
        self.kinds[record.event] += 1
        if record.event in ("note", "tag", "alert"):
            self._remarks.append(record)
        if "annotates" in record.fields and record.s not in self.sessions:
            return  # it was said by somebody who does not write the run, whenever it is read
        session = self.sessions.get(record.s)
        if session is None:
            session = self.sessions[record.s] = SessionFold(record.s, started=record.t)
            self.started = self.started or record.t
        self.last = session.last = record.t
        session.n_records += 1
        fields = record.fields
        if "durable" in fields:
            session.durable_n = fields["durable"]
            fields = {k: v for k, v in fields.items() if k != "durable"}
        match record.event:
            case "iter" | "eval" | "checkpoint" if not _has_number(fields):
                self.kinds[f"{record.event} without a number"] += 1
            case "iter":
                self._take_iteration(fields, record.line)
                self.position = session.last_iter = fields["iter"]
            case "eval":
                self._take_back_evals(fields["iter"])
                self._evals.append(_EVAL | {"timestamp": record.t} | fields)
                self.position = fields["iter"]
            case "checkpoint":
                self._take_checkpoint(_CHECKPOINT | {"timestamp": record.t} | fields)
            case "metrics":
                self._take_metrics(fields, session)
            case "config" if isinstance(fields.get("config"), dict):
                self.config |= fields["config"]
            case "summary" if isinstance(fields.get("summary"), dict):
                self._set_summary(fields["summary"], fields.get("nonfinite"))
            case "open":
                self._open(fields, session)
            case "close":
                session.status = str(fields.get("status", "completed"))
                session.reason = fields.get("reason")
                if isinstance(fields.get("ended"), str):
                    self.last = fields["ended"]
            case "rewind":
                self._rewind(fields.get("to_iter"))
            case "signal":
                session.last_words = f"{fields.get('signal', 'a signal')} was received"
            case "error":
                session.last_words = str(fields.get("error", "an error"))

    def add_stretch(self, stretch: Stretch) -> None:
        """Fold many events in, as if one by one."""
        session = self.sessions.get(stretch.s)
        if stretch.event == "metrics":
            goes_on = self._metrics.goes_on(stretch.steps[0])
        else:
            goes_on = bool(self._iters) and stretch.steps[0] > self._iters[-1]
        if session is None or not goes_on:
            for record in stretch.records():
                self.add(record)
            return
        self.kinds[stretch.event] += len(stretch)
        self.last = session.last = stretch.last.t
        session.n_records += len(stretch)
        self.position = stretch.steps[-1]
        if stretch.event == "metrics":
            names = stretch.shape.names[1:]
            columns = {name: stretch.column(name) for name in names}
            self._metrics.take_many(stretch.steps, stretch.rows(), columns)
        else:
            self._take_iterations(stretch)
        if stretch.event == "iter" or not self._iters:
            session.last_iter = self.position

    def _take_iterations(self, stretch: Stretch) -> None:
        times_ms = stretch.column("time_ms")
        self._iters.extend(stretch.steps)
        self._losses.extend(stretch.column("loss"))
        self._times_ms.extend([math.nan] * len(stretch) if times_ms[0] is None else times_ms)
        self._mfus.extend(stretch.column("mfu"))
        rows = stretch.rows() if self._with_rows else b"\n" * (len(stretch) - 1)
        self._rows.extend(rows, len(stretch))

    def _open(self, fields: dict[str, Any], session: SessionFold) -> None:
        session.opened = fields
        if isinstance(fields.get("started"), str) and len(self.sessions) == 1:
            self.started = fields["started"]
        self._run_id = self._run_id or fields.get("run_id")
        self.name = self.name or str(fields.get("run_name") or "")
        for key, known in (("config", self.config), ("metadata", self.metadata)):
            given = fields.get(key)
            if isinstance(given, dict) and given:  # a session that brings none has the one before
                if known:  # a resumed run: the setting in force is the latest, the change is told
                    session.changed |= {
                        k: [known.get(k), v] for k, v in given.items() if known.get(k) != v
                    }
                setattr(self, key, given.copy())  # what is set later changes it in place
        self._rewind(fields.get("from_iter"))

    def _rewind(self, to_iter: Any) -> None:
        """Take back all that a run standing before iteration `to_iter` has not done yet.

        An eval and a checkpoint of that very iteration came before its step: they stay.
        """
        if type(to_iter) is int:
            self._take_back_iterations(to_iter)
            self._metrics.take_back(to_iter)
            self._take_back_evals(to_iter + 1)
            self._take_back_checkpoints(to_iter + 1)

    def _take_back_iterations(self, from_iter: int) -> None:
        if not self._iters or from_iter > self._iters[-1]:
            return
        at = bisect_left(self._iters, from_iter)
        self._taken_back["iterations"] += self._rows.cut(at)
        del self._iters[at:], self._losses[at:]
        self._times_ms.cut(at)
        self._mfus.cut(at)

    def _take_back_evals(self, from_iter: int) -> None:
        at = len(self._evals)
        while at and self._evals[at - 1]["iter"] >= from_iter:
            at -= 1
        self._taken_back["evals"] += map(encode_row, self._evals[at:])
        del self._evals[at:]

    def _take_back_checkpoints(self, from_iter: int) -> None:
        removed = []
        while self._checkpoints and next(reversed(self._checkpoints)) >= from_iter:
            removed.append(self._checkpoints.popitem()[1])
        for rows in reversed(removed):
            self._taken_back["checkpoints"] += map(encode_row, rows.values())

    def _take_iteration(self, fields: Row, line: bytes) -> None:
        i = fields["iter"]
        if self._iters and i <= self._iters[-1]:
            self._rewind(i)
        at = line.find(MARKS["iter"])
        if at >= 0 and self._is_usual(tuple(fields)) and type(fields["mfu"]) in (float, int):
            # The line's own bytes: to encode the fields anew costs 0.9 µs, a third of the fold.
            row = spaced(b"{%b}" % line[at + _ITERATION_AT : -TRAILER_BYTES])
        else:
            fields = _ITERATION | fields
            if type(fields["mfu"]) not in (float, int):
                fields["mfu"] = MFU_UNKNOWN
            row = encode_row(fields)
        self._iters.append(i)
        self._rows.append(row if self._with_rows else b"")
        self._losses.append(number(fields["loss"]))
        self._times_ms.append(number(fields["time_ms"]))
        self._mfus.append(number(fields["mfu"]))

    def _is_usual(self, names: tuple[str, ...]) -> bool:
        """Whether the fields stand as in the guide; nearly all lines of a run have the same."""
        if names != self._names:
            if names[: len(FIGURES)] != FIGURES:
                return False
            self._names = names
        return True

    def _take_checkpoint(self, row: Row) -> None:
        """One iteration may leave several files: the latest and the best, say."""
        path = row["path"]
        if isinstance(path, dict | list):  # no path of ours
            path = encode_row(path)
        replaced = self._checkpoints.get(row["iter"], {}).pop(path, None)
        if replaced is not None:
            self._taken_back["checkpoints"].append(encode_row(replaced))
        self._take_back_checkpoints(row["iter"] + 1)
        self._checkpoints.setdefault(row["iter"], {})[path] = row

    def _take_metrics(self, fields: dict[str, Any], session: SessionFold) -> None:
        step = step_of(fields)
        if step is None:
            self.kinds["metrics without a number"] += 1
            return
        self._metrics.take(session.s, step, fields)
        self.position = step
        if not self._iters:
            session.last_iter = step

    def _set_summary(self, values: Row, named: Any) -> None:
        """What the run itself says of itself; null takes a word back, NaN is the word `nan`."""
        nonfinite = named if isinstance(named, dict) else {}
        for name, value in values.items():
            said = nonfinite.get(f"summary.{name}", value)
            if said is None:
                self._own_summary.pop(name, None)
            else:
                self._own_summary[name] = said

    def run(
        self,
        *,
        alive: bool = False,
        journal: dict[str, Any] | None = None,
        with_superseded: bool = False,
    ) -> Run:
        """The run as it stands.

        `alive`: whether somebody is writing the journal now. `with_superseded`: what was taken
        back is in `journal`, too, in the order in which it was: `superseded_iterations`, ...
        """
        assert self._with_rows
        session = next(reversed(self.sessions.values()), None)
        status, reason = "interrupted", None
        if session is not None and session.status:
            status, reason = session.status, session.reason
        elif alive:
            status = "running"
        elif session is not None:
            reason = "no close event: the process was killed, or its machine stopped"
            if session.last_words:
                reason = f"{session.last_words}, then no close event"
        return Run(
            run_name=self.name,
            start_time=self.started or None,
            end_time=None if status == "running" else self.last or None,
            config=self.config.copy(),
            training_iterations=self._rows.copy(),  # what is added later is not in this run
            eval_steps=self._evals.copy(),
            checkpoints=[row for rows in self._checkpoints.values() for row in rows.values()],
            metrics=self._metrics.rows(),
            metadata=self.metadata.copy(),
            summary=self.summary(),
            journal={
                "status": status,
                "reason": reason,
                **(journal or {}),
                "events": dict(sorted(self.kinds.items())),
                "superseded": self.superseded,
                "missing_iterations": self.missing_iterations(),
                "tags": self.tags(),
                "notes": self.notes(),
                "alerts": self.alerts(),
                **({"metrics": self._metrics.figures()} if len(self._metrics) else {}),
                **({"summary": self._own_summary.copy()} if self._own_summary else {}),
                "sessions": [s.to_dict() for s in self.sessions.values()],
                **(self._superseded_rows() if with_superseded else {}),
            },
        )

    def notes(self) -> list[Row]:
        """What was noted, by time: `t`, `text`, and what else was said."""
        return self._said("note")

    def alerts(self) -> list[Row]:
        """What a watchman said was wrong, and was over, by time."""
        return self._said("alert")

    def _said(self, event: str) -> list[Row]:
        unsaid = ("annotates", "durable")
        return [
            {"t": record.t} | {k: v for k, v in record.fields.items() if k not in unsaid}
            for record in self._in_time(event)
        ]

    def tags(self) -> list[str]:
        """The tags that were added and not removed later."""
        tags: set[str] = set()
        for record in self._in_time("tag"):
            removed, added = record.fields.get("remove"), record.fields.get("add")
            tags -= set(map(str, removed if isinstance(removed, list) else ()))
            tags |= set(map(str, added if isinstance(added, list) else ()))
        return sorted(tags)

    def _in_time(self, event: str) -> list[Record]:
        """Those of this run in an order that does not depend on when each was read."""
        ours = [
            r
            for r in self._remarks
            if r.event == event
            and (self._run_id is None or r.fields.get("annotates") in (None, self._run_id))
        ]
        return sorted(ours, key=lambda r: (r.t, r.s, r.n))

    def _superseded_rows(self) -> dict[str, list[Row]]:
        taken_back = dict(self._taken_back)
        if self._metrics.taken_back:
            taken_back["metrics"] = self._metrics.taken_back
        return {
            f"superseded_{name}": [orjson.loads(row) for row in rows]
            for name, rows in taken_back.items()
        }

    def missing_iterations(self) -> list[list[int]]:
        """Stretches [first, last] absent from the curve of a run that logs every iteration.

        A run that logs every tenth by intention has none: fewer than half its steps are 1.
        """
        if not self._iters or self._iters[-1] - self._iters[0] == len(self._iters) - 1:
            return []  # they ascend: 0.1 s less for a million
        holes = [(a, b) for a, b in pairwise(self._iters) if b - a > 1]
        if 2 * len(holes) > len(self._iters) - 1:
            return []
        return [[a + 1, b - 1] for a, b in holes]

    def summary(self) -> dict[str, Any]:
        """The guide's eight figures, from the events alone. A NaN takes part in none of them."""
        return summarize(
            self._iters,
            self._losses,
            self._times_ms,
            self._mfus,
            [row.get("val_loss") for row in self._evals],
            sum(map(len, self._checkpoints.values())),
        )


def _has_number(fields: dict[str, Any]) -> bool:
    i = fields.get("iter")
    return type(i) is int and -(1 << 63) <= i < 1 << 63
