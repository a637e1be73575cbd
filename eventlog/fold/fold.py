"""Records -> run. Pure: no files, no clock.

A run that was interrupted, resumed and resumed again has one curve: iteration i supersedes an
earlier iteration i and all later ones. A resumed session says where it begins (`from_iter` of its
`open` event), a trainer that goes back within a session says so too (`rewind`); where neither can
be read, the iteration numbers show it. Superseded rows are still in the journal and counted here,
and no longer in the run.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from eventlog.fold.document import Run
from eventlog.fold.metrics import Metrics, step_of
from eventlog.fold.row_sink import RowSink
from eventlog.fold.rows import Row
from eventlog.fold.series import nonfinite_in
from eventlog.fold.summary import summarize
from eventlog.fold.tables import Iterations, Remarks
from eventlog.format.events import KINDS, FoldRule
from eventlog.format.json_rows import encode_row
from eventlog.format.record import ANNOTATES, Record, with_nonfinite
from eventlog.read.batch import Batch
from eventlog.read.reader import Items

_EVAL, _CHECKPOINT = KINDS["eval"].row, KINDS["checkpoint"].row
_REMARKS = frozenset(kind.name for kind in KINDS.values() if kind.rule == "remarks")


@dataclass
class SessionFold:
    """One session, as the run JSON has it."""

    s: str
    opened: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    last: str = ""
    n_records: int = 0
    last_iter: int | None = None
    durable_n: int = 0
    status: str = ""
    reason: str | None = None
    last_problem: str = ""
    """A signal or an error, which may explain why the session never closed."""
    changed: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from_open = ("host", "pid", "boot_id", "from_iter", "checkpoint", "found")
        row = {
            "s": self.s,
            "started": self.started,
            "last": self.last,
            "records": self.n_records,
            "last_iter": self.last_iter,
        }
        row |= {k: self.opened[k] for k in from_open if self.opened.get(k) is not None}
        row |= {"status": self.status or None, "reason": self.reason or self.last_problem or None}
        if self.changed:
            row["changed"] = self.changed
        return row


class Fold:
    """Turns a journal's records, added in order, into a run.

    More can be added at any time; `run()` is the run of those that were added so far.

    Args:
        with_rows: False keeps only the numbers of the iterations, for callers that count them or
            have a sink: `run()` then has no iterations, and its summary no values of them.
        sink: gets the rows as they come and as they are superseded.
    """

    def __init__(self, *, with_rows: bool = True, sink: RowSink | None = None) -> None:
        self.name = ""
        self.started = ""
        self.last = ""
        self.config: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.sessions: dict[str, SessionFold] = {}
        self.kinds: Counter[str] = Counter()
        self.position = -1
        """The iteration of the latest iter or eval event."""
        self._sink = sink
        self._iterations = Iterations(with_rows=with_rows)
        self._evals: list[Row] = []
        self._checkpoints: dict[int, dict[Any, Row]] = {}  # by iteration, ascending, and by path
        self._metrics = Metrics(self._metrics_superseded if sink is not None else None)
        self._superseded: dict[str, list[bytes]] = {
            "iterations": [],
            "evals": [],
            "checkpoints": [],
        }
        self._own_summary: Row = {}
        self._definitions: dict[str, Row] = {}
        self.remarks = Remarks()

    @property
    def superseded(self) -> dict[str, int]:
        """How many rows were superseded, by table; of `metrics`, how many values."""
        counts = {table: len(rows) for table, rows in self._superseded.items()}
        n_metrics = self._metrics.n_superseded
        return counts | ({"metrics": n_metrics} if n_metrics else {})

    # ---- adding

    def add(self, record: Record) -> None:
        """Fold one record in."""
        event, fields = record.event, record.fields
        self.kinds[event] += 1
        if event in _REMARKS:
            self.remarks.add(record)
        session = self.sessions.get(record.s)
        if session is None:
            if ANNOTATES in fields:
                return  # logged about the run, not by it
            session = self.sessions[record.s] = SessionFold(record.s, started=record.t)
            self.started = self.started or record.t
        self.last = session.last = record.t
        session.n_records += 1
        if "durable" in fields:
            session.durable_n = fields["durable"]
            fields = {k: v for k, v in fields.items() if k != "durable"}
        rule = _RULES.get(event)
        if rule is not None:
            rule(self, record, fields, session)

    def add_all(self, items: Items) -> Iterator[Sequence[Record]]:
        """Fold items of a reader in, and yield after each what was folded in."""
        for item in items:
            if isinstance(item, Batch):
                self.add_batch(item)
                yield item
            else:
                self.add(item)
                yield (item,)

    def add_batch(self, batch: Batch) -> None:
        """Fold many events in, as if one by one."""
        session = self.sessions.get(batch.s)
        rows = self._metrics if batch.event == "metrics" else self._iterations
        if session is None or not rows.ends_before(batch.steps[0]):
            for record in batch:
                self.add(record)
            return
        self.kinds[batch.event] += len(batch)
        self.last = session.last = batch.last.t
        session.n_records += len(batch)
        self.position = batch.steps[-1]
        rows.add_batch(batch)
        if self._sink is not None:
            self._sink.add_rows(batch.event, batch.steps, batch.times(), batch.columns())
        if batch.event == "iter" or not len(self._iterations):
            session.last_iter = self.position

    # ---- the rules, by which each kind of event is folded

    def _fold_iteration(self, record: Record, fields: Row, session: SessionFold) -> None:
        i = self._number(record, fields)
        if i is None:
            return
        if len(self._iterations) and not self._iterations.ends_before(i):
            self._rewind(i)
        self._iterations.add(fields, record.line)
        if self._sink is not None:
            self._sink.add(record, i)
        self.position = session.last_iter = i

    def _fold_eval(self, record: Record, fields: Row, session: SessionFold) -> None:
        i = self._number(record, fields)
        if i is None:
            return
        self._supersede_evals(i)
        self._evals.append({**_EVAL, "timestamp": record.t, **fields})
        if self._sink is not None:
            self._sink.add(record, i)
        self.position = i

    def _fold_checkpoint(self, record: Record, fields: Row, session: SessionFold) -> None:
        """One iteration may leave several files: the latest and the best, say."""
        i = self._number(record, fields)
        if i is None:
            return
        row = {**_CHECKPOINT, "timestamp": record.t, **fields}
        path = row["path"]
        if isinstance(path, dict | list):  # not written by us
            path = encode_row(path)
        replaced = self._checkpoints.get(i, {}).pop(path, None)
        if replaced is not None:
            self._superseded["checkpoints"].append(encode_row(replaced))
        self._supersede_checkpoints(i + 1)
        self._checkpoints.setdefault(i, {})[path] = row
        if self._sink is not None:
            self._sink.add(record, i)

    def _fold_metrics(self, record: Record, fields: Row, session: SessionFold) -> None:
        step = step_of(fields)
        if step is None:
            self.kinds["metrics without a number"] += 1
            return
        self._metrics.add(session.s, step, fields)
        if self._sink is not None:
            self._sink.add(record, step)
        self.position = step
        if not len(self._iterations):
            session.last_iter = step

    def _fold_system(self, record: Record, fields: Row, session: SessionFold) -> None:
        if self._sink is not None:
            self._sink.add(record, max(0, self.position))

    def _fold_config(self, record: Record, fields: Row, session: SessionFold) -> None:
        config = with_nonfinite(fields, "config")
        if isinstance(config, dict):
            self.config |= config

    def _fold_summary(self, record: Record, fields: Row, session: SessionFold) -> None:
        """What the run itself states: null removes a name, NaN is the text `nan`."""
        values = with_nonfinite(fields, "summary")
        for name, value in values.items() if isinstance(values, dict) else ():
            if value is None:
                self._own_summary.pop(name, None)
            else:
                self._own_summary[name] = value

    def _fold_definition(self, record: Record, fields: Row, session: SessionFold) -> None:
        """What is defined later counts more, field by field."""
        name = fields.get("name")
        if isinstance(name, str) and name:
            known = {} if fields.get("overwrite") is True else self._definitions.get(name, {})
            new = {k: v for k, v in fields.items() if k not in ("name", "overwrite")}
            self._definitions[name] = known | new

    def _fold_open(self, record: Record, fields: Row, session: SessionFold) -> None:
        session.opened = fields
        if isinstance(fields.get("started"), str) and len(self.sessions) == 1:
            self.started = fields["started"]
        self.remarks.run_id = self.remarks.run_id or fields.get("run_id")
        self.name = self.name or str(fields.get("run_name") or "")
        for key, known in (("config", self.config), ("metadata", self.metadata)):
            values = with_nonfinite(fields, key)
            if isinstance(values, dict) and values:  # else those of the session before
                if known:  # a resumed run: the latest values count, what changed is noted
                    session.changed |= {
                        k: [known.get(k), v] for k, v in values.items() if known.get(k) != v
                    }
                setattr(self, key, values.copy())  # what is set later changes it in place
        if session.n_records == 1:  # else a damaged journal has the session's first line later on
            self._rewind(fields.get("from_iter"))

    def _fold_close(self, record: Record, fields: Row, session: SessionFold) -> None:
        session.status = str(fields.get("status", "completed"))
        session.reason = fields.get("reason")
        if isinstance(fields.get("ended"), str):
            self.last = fields["ended"]

    def _fold_rewind(self, record: Record, fields: Row, session: SessionFold) -> None:
        self._rewind(fields.get("to_iter"))

    def _fold_reason(self, record: Record, fields: Row, session: SessionFold) -> None:
        if record.event == "signal":
            session.last_problem = f"{fields.get('signal', 'a signal')} was received"
        else:
            session.last_problem = str(fields.get("error", "an error"))

    def _number(self, record: Record, fields: Row) -> int | None:
        """The iteration of an event; None, and the event is counted as such, if it has none."""
        i = fields.get("iter")
        if type(i) is int and -(1 << 63) <= i < 1 << 63:
            return i
        self.kinds[f"{record.event} without a number"] += 1
        return None

    # ---- superseding

    def _rewind(self, to_iter: Any) -> None:
        """Supersede iteration `to_iter` and all that follows.

        An eval and a checkpoint of iteration `to_iter` are made before its step: they stay.
        """
        if type(to_iter) is int:
            self._superseded["iterations"] += self._iterations.cut(to_iter)
            self._metrics.supersede(to_iter)
            if self._sink is not None:
                self._sink.supersede("iter", to_iter)
            self._supersede_evals(to_iter + 1)
            self._supersede_checkpoints(to_iter + 1)

    def _metrics_superseded(
        self, from_step: int, before: int | None, names: Collection[str] | None
    ) -> None:
        if self._sink is not None:
            self._sink.supersede("metrics", from_step, before, names)

    def _supersede_evals(self, from_iter: int) -> None:
        at = len(self._evals)
        while at and self._evals[at - 1]["iter"] >= from_iter:
            at -= 1
        self._superseded["evals"] += map(encode_row, self._evals[at:])
        del self._evals[at:]
        if self._sink is not None:
            self._sink.supersede("eval", from_iter)

    def _supersede_checkpoints(self, from_iter: int) -> None:
        removed = []
        while self._checkpoints and next(reversed(self._checkpoints)) >= from_iter:
            removed.append(self._checkpoints.popitem()[1])
        for rows in reversed(removed):
            self._superseded["checkpoints"] += map(encode_row, rows.values())
        if self._sink is not None:
            self._sink.supersede("checkpoint", from_iter)

    # ---- the run

    def run(
        self,
        *,
        alive: bool = False,
        journal: dict[str, Any] | None = None,
        with_superseded: bool = False,
    ) -> Run:
        """The run as folded so far.

        `alive`: whether somebody is writing the journal now. `with_superseded`: the superseded
        rows are in `journal`, too, in the order in which they were: `superseded_iterations`, ...
        """
        status, reason = self._status(alive)
        return Run(
            run_name=self.name,
            start_time=self.started or None,
            end_time=None if status == "running" else self.last or None,
            config=self.config.copy(),
            training_iterations=self._iterations.rows(),
            eval_steps=self._evals.copy(),  # what is added later is not in this run
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
                **({"name": name} if (name := self.remarks.name()) else {}),
                "tags": self.remarks.tags(),
                "notes": self.remarks.of_kind("note"),
                "alerts": self.remarks.of_kind("alert"),
                **self._ends_nonfinite(),
                **({"metrics": self._metrics.summary()} if len(self._metrics) else {}),
                **({"definitions": self._definitions.copy()} if self._definitions else {}),
                **({"summary": self._own_summary.copy()} if self._own_summary else {}),
                "sessions": [s.to_dict() for s in self.sessions.values()],
                **(self._superseded_rows() if with_superseded else {}),
            },
        )

    def _ends_nonfinite(self) -> dict[str, dict[str, str]]:
        """`ends_nonfinite`: what is NaN or infinite in the last iteration and the last eval.

        The summary has finite values alone, and readers of it do not read the rows.
        """
        last_eval = self._evals[-1] if self._evals else {}
        names = nonfinite_in("iterations", self._iterations.last())
        names |= nonfinite_in("evals", last_eval)
        return {"ends_nonfinite": names} if names else {}

    def _status(self, alive: bool) -> tuple[str, str | None]:
        """Status and reason, by the last session."""
        session = next(reversed(self.sessions.values()), None)
        if session is not None and session.status:
            return session.status, session.reason
        if alive:
            return "running", None
        if session is None:
            return "interrupted", None
        if session.last_problem:
            return "interrupted", f"{session.last_problem}, then no close event"
        return "interrupted", "no close event: the process was killed, or its machine stopped"

    def _superseded_rows(self) -> dict[str, list[Row]]:
        superseded = dict(self._superseded)
        if self._metrics.superseded:
            superseded["metrics"] = self._metrics.superseded
        return {
            f"superseded_{table}": [orjson.loads(row) for row in rows]
            for table, rows in superseded.items()
        }

    def missing_iterations(self) -> list[list[int]]:
        """Ranges [first, last] that are absent from a run that logs every iteration."""
        return self._iterations.missing()

    def summary(self) -> dict[str, Any]:
        """The guide's eight values. NaN is left out of all of them."""
        return summarize(
            self._iterations.numbers,
            self._iterations.losses,
            self._iterations.times_ms,
            self._iterations.mfus,
            [row.get("val_loss") for row in self._evals],
            sum(map(len, self._checkpoints.values())),
        )


_Rule = Callable[[Fold, Record, Row, SessionFold], None]
_FOLDED: dict[FoldRule, _Rule] = {
    "iterations": Fold._fold_iteration,
    "evals": Fold._fold_eval,
    "checkpoints": Fold._fold_checkpoint,
    "metrics": Fold._fold_metrics,
    "system": Fold._fold_system,
    "config": Fold._fold_config,
    "summary": Fold._fold_summary,
    "session": Fold._fold_open,
    "status": Fold._fold_close,
    "rewind": Fold._fold_rewind,
    "reason": Fold._fold_reason,
    "definitions": Fold._fold_definition,
}
_RULES = {kind.name: _FOLDED[kind.rule] for kind in KINDS.values() if kind.rule in _FOLDED}
