"""Every kind of event, once: its fields, what a writer and a fold do with it, and its text.

To add a kind, add an entry to `_ALL` and its row to the table in FORMAT.md (a test compares the
two). It needs a fold rule only if it changes the run JSON; without one it is kept and counted.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from eventlog.format.record import ANNOTATES, Record

MFU_UNKNOWN = -100.0
"""What the guide's logs hold where MFU is not known, as in the first iterations."""

FoldRule = Literal[
    "iterations", "evals", "checkpoints", "metrics", "system",  # a row of that table
    "config", "summary", "session", "status", "rewind", "reason", "remarks",
    "definitions", "counted",
]  # fmt: skip
"""What a fold does with an event. `system` rows are in no run JSON; `counted`: nothing else."""

Axis = Literal["iter", "step"]


@dataclass(frozen=True)
class Kind:
    """One kind of event."""

    name: str
    says: str
    """What happened, and its fields with their units, as in FORMAT.md."""
    rule: FoldRule = "counted"
    axis: Axis | None = None
    """The field by which its rows are ordered."""
    key: str = ""
    """The key of its rows in the run JSON, and the attribute of a `Run`."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """What its row in the run JSON begins with, and what stands there for a missing field."""
    is_durable_at_once: bool = False
    """Whether it is synced at once and not within the interval."""
    may_be_dropped: bool = False
    """Whether it is dropped, oldest first, if no disk accepts events for too long."""
    is_mark: bool = False
    """Whether it is marked on the time line of a run that is followed."""
    is_drawn: bool = False
    """Whether the numbers of its rows are curves of a run that is followed."""
    is_progress: bool = True
    """False: it may be logged by a thread that lives on when the training hangs."""
    finite: tuple[str, ...] = ()
    """Fields that are finite numbers in a healthy run."""
    label: str = ""
    """What its line begins with, if that is not its name."""
    text: Callable[[Record], str] | None = None
    """Makes its text of one line; without it, the text is all of its fields."""

    @property
    def line_in_specification(self) -> str:
        """Its row in the table of FORMAT.md."""
        rule = "" if self.rule == "counted" else self.rule
        cells = (f"`{self.name}`", self.says, rule, _yes(self.is_durable_at_once))
        return f"| {' | '.join(cells)} | {_yes(self.may_be_dropped)} |"


def _yes(value: bool) -> str:
    return "yes" if value else ""


# ---- texts


def one_line(record: Record, n_iters: int | None = None) -> str:
    """The text of a record: one line that begins with its kind.

    `n_iters`: how many iterations the run is to have, if that is known.
    """
    kind = KINDS.get(record.event, _UNKNOWN)
    label = kind.label or f"{record.event:8}"
    if kind.axis is not None and kind.text is not None:
        i = record.fields.get(kind.axis)
        n_digits = 6 if n_iters is None else len(str(n_iters))
        label += f" {i!s:>{n_digits}}" + ("" if n_iters is None else f"/{n_iters}") + " "
    return f"{label} {describe(record)}"


def describe(record: Record, *, longest: int | None = None) -> str:
    """The text of a record in one line, without its kind and its number on the axis.

    `longest`: the most characters of each value, if the kind has no text of its own.
    """
    kind = KINDS.get(record.event, _UNKNOWN)
    if kind.text is not None:
        return kind.text(record)
    fields = {k: v for k, v in record.fields.items() if k not in ("durable", ANNOTATES)}
    nonfinite = fields.get("nonfinite")
    if isinstance(nonfinite, dict):  # "loss": null, "nonfinite": {"loss": "nan"}
        del fields["nonfinite"]
        fields |= nonfinite
    return "  ".join(
        f"{name} {format(value, '.6g') if type(value) is float else str(value)[:longest]}"
        for name, value in fields.items()
        if value is not None
    )


def open_text(record: Record) -> str:
    f = record.fields
    resumed = "" if f.get("from_iter") is None else f", from iteration {f['from_iter']}"
    found = _dict(f.get("found"))
    torn = f", after a torn tail ({', '.join(found)})" if found else ""
    name, pid, host = f.get("run_name"), f.get("pid"), f.get("host")
    return f"{name}, pid {pid} on {host}, session {record.s}{resumed}{torn}"


def iter_text(record: Record) -> str:
    f = record.fields
    parts = [f"loss {_number(f, 'loss', '.4f')}"]
    if f.get("time_ms") is not None:
        parts.append(f"{_number(f, 'time_ms', '.1f')} ms")
    if f.get("tokens_per_s") is not None:
        parts.append(f"{_number(f, 'tokens_per_s', ',.0f')} tokens/s")
    mfu = f.get("mfu")
    if isinstance(mfu, int | float) and mfu > 0:
        parts.append(f"mfu {mfu:.2f}%")
    return "  ".join(parts)


def eval_text(record: Record) -> str:
    train, val = (_number(record.fields, name, ".4f") for name in ("train_loss", "val_loss"))
    return f"train {train}  val {val}"


def checkpoint_text(record: Record) -> str:
    size_bytes = record.fields.get("size_bytes")
    size = f"  {size_bytes / 1e6:,.1f} MB" if type(size_bytes) is int else ""
    return f"{record.fields.get('path')}{size}"


def close_text(record: Record) -> str:
    status, reason = record.fields.get("status"), record.fields.get("reason")
    return f"{status}: {reason}" if reason else str(status)


def segment_text(record: Record) -> str:
    f = record.fields
    path = os.path.join(str(f.get("folder") or ""), str(f.get("file")))
    return f"session {record.s} goes on in {path} from record {f.get('first_n')}"


def ignored_text(record: Record) -> str:
    return f"{record.fields.get('events')} events were not logged: {record.fields.get('why')}"


def lost_tail_text(record: Record) -> str:
    f = record.fields
    return (
        f"session {f.get('session')} had {f.get('records')} records when its checkpoint was "
        f"written, {f.get('found')} were found"
    )


def _number(fields: dict[str, Any], name: str, form: str) -> str:
    """A formatted number; `nan` or `inf` if it was not finite; `-` if it is missing."""
    value = fields.get(name)
    if isinstance(value, int | float):
        return format(value, form)
    return str(_dict(fields.get("nonfinite")).get(name, "-"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ---- the kinds

_UNKNOWN = Kind("", "a kind that this program does not know")

_ALL = [
    Kind(
        "open",
        "n = 0 of every session: `format`, `run_id`, `run_name`, `config`, `metadata`, `host`, "
        "`pid`, `pid_started` (clock ticks after boot), `boot_id`, `user`, `cwd`, `command`, "
        "`git_commit`, `versions`, `platform`, `durability`, `fallback`, `fallback_device` "
        "and `fallback_made_ns` (`st_dev` of that folder and when it was made, if it was there "
        "when the session began), `has_lock` (whether `flock` works there), "
        "`session_number` (1 for the first session of a run, then 1 + the highest that the "
        "session met), `prev` (`s` and `n` of the last record that it met, in "
        "the journal or a segment), `from_iter` (resumed: the iteration it takes next), "
        "`checkpoint` (resumed: its file), `started` (imported: the source's time), `found` "
        "(after a crash)",
        rule="session",
        is_durable_at_once=True,
        is_mark=True,
        text=open_text,
    ),
    Kind(
        "iter",
        "one optimizer step: `iter`, `loss` (mean), `time_ms` (the step alone), "
        "`mfu` (percent, −100.0: unknown), then any: `lr`, `grad_norm`, `tokens_per_s`, ...",
        rule="iterations",
        axis="iter",
        key="training_iterations",
        row={"iter": None, "loss": None, "time_ms": None, "mfu": MFU_UNKNOWN},
        may_be_dropped=True,
        is_drawn=True,
        finite=("loss", "grad_norm"),
        label="iter",
        text=iter_text,
    ),
    Kind(
        "eval",
        "before step `iter`: `iter`, `train_loss`, `val_loss`, `lr`, `time_ms`",
        rule="evals",
        axis="iter",
        key="eval_steps",
        row={"iter": None, "train_loss": None, "val_loss": None, "lr": None, "timestamp": None},
        is_durable_at_once=True,
        is_drawn=True,
        finite=("train_loss", "val_loss"),
        label="eval",
        text=eval_text,
    ),
    Kind(
        "checkpoint",
        "`path` is complete and durable: `iter`, `val_loss`, `path`, `size_bytes`, `sha256`, "
        "`time_ms`",
        rule="checkpoints",
        axis="iter",
        key="checkpoints",
        row={"iter": None, "val_loss": None, "path": None, "timestamp": None},
        is_durable_at_once=True,
        is_mark=True,
        label="saved",
        text=checkpoint_text,
    ),
    Kind(
        "close",
        "the end of the session: `status` (`completed`, `interrupted`, `failed`), `reason`, "
        "`ended` (imported: the source's time)",
        rule="status",
        is_durable_at_once=True,
        is_mark=True,
        text=close_text,
    ),
    Kind(
        "rewind",
        "the same session goes back: `to_iter` (the iteration that it takes next)",
        rule="rewind",
        is_durable_at_once=True,
    ),
    Kind(
        "signal",
        "one was received, before the `close` that may not come: `signal` (its name), `iter`",
        rule="reason",
        is_durable_at_once=True,
        is_mark=True,
    ),
    Kind(
        "error",
        "one happened, before the `close` that may not come: `error`, `iter`",
        rule="reason",
        is_durable_at_once=True,
        is_mark=True,
    ),
    Kind(
        "nonfinite",
        "a loss or gradient is not finite: `iter`, then any",
        is_durable_at_once=True,
        is_mark=True,
    ),
    Kind(
        "io_error",
        "a sync failed: `call`, `error`, `durable_records`, `segment` (the file that the "
        "session goes on in)",
        is_mark=True,
    ),
    Kind(
        "segment",
        "the session goes on in a segment: `file` (its name), `folder` (absolute), `number`, "
        "`first_n` (the first record in it)",
        label="segment   ",
        text=segment_text,
    ),
    Kind(
        "gap",
        "no disk took events for too long: `dropped` (how many were dropped, of the kinds that "
        "may be), `why`",
        is_mark=True,
    ),
    Kind(
        "ignored",
        "events that a forked child logged and that are not in the journal: `events` (how "
        "many), `why`",
        label="ignored   ",
        text=ignored_text,
    ),
    Kind(
        "lost_tail",
        "a resumed run knows of records that the journal lacks: `session`, `records` (how many "
        "it had, as the checkpoint says), `found` (how many of them are there)",
        is_durable_at_once=True,
        label="lost      ",
        text=lost_tail_text,
    ),
    Kind(
        "metrics",
        "what a run logs under names of its own: `step` (importers: `iter`), then any numbers "
        "and text",
        rule="metrics",
        axis="step",
        key="metrics",
        row={"step": None},
        may_be_dropped=True,
        is_drawn=True,
    ),
    Kind(
        "config",
        "settings set while the run goes on: `config` (an object)",
        rule="config",
    ),
    Kind(
        "summary",
        "results that the run states itself: `summary` (an object)",
        rule="summary",
    ),
    Kind(
        "define",
        "how a metric is to be read: `name` (`*` in it stands for any text), and any of "
        "`step_metric` (the metric that is its axis), `step_sync`, `hidden`, `summary` (a list of "
        "`min`, `max`, `mean`, `best`, `last`, `first`, `copy`, `none`), `goal` (`minimize`, "
        "`maximize`), `overwrite` (true: what was defined before no longer counts), `unit`, "
        "`description`",
        rule="definitions",
    ),
    Kind("log", "a line of the program's own log: `level`, `logger`, `text`"),
    Kind(
        "system",
        "the state of the machine, now and then: `cpu_percent`, `memory_used_bytes`, "
        "`disk_free_bytes`, `gpu0_percent`, ...",
        rule="system",
        is_drawn=True,
        is_progress=False,
    ),
    Kind(
        "note",
        "a remark of a person or a program: `text`, `by`, ...",
        rule="remarks",
        is_mark=True,
    ),
    Kind(
        "tag",
        "tags of the run: `add` (a list), `remove` (a list), `by`",
        rule="remarks",
    ),
    Kind(
        "rename",
        "another name for the run in lists and legends: `name` (empty: its own again), `by`",
        rule="remarks",
    ),
    Kind(
        "alert",
        "a monitor reports a problem: `rule`, `state` (`raised`, `over`), `text`, `session` "
        "(that it is about), `record` (that it is about), `iter`, ...",
        rule="remarks",
        is_mark=True,
    ),
    Kind(
        "idle",
        "the program has finished a part of its work, as a `fit`: until it logs a later step, "
        "neither its silence nor its end is a fault; `why`",
    ),
    Kind("alive", "in a rank's journal: it lives", is_progress=False),
]

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""All kinds that are known, by name. Readers keep and count any other."""

DURABLE_AT_ONCE = frozenset(kind.name for kind in _ALL if kind.is_durable_at_once)
OF_THE_WRITER = frozenset(("open", "close", "segment", "gap", "ignored", "io_error"))
"""What a journal logs about itself, which no program can log."""
MAY_BE_DROPPED = frozenset(kind.name for kind in _ALL if kind.may_be_dropped)
