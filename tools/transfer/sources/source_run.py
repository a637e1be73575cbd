"""A run as a source has it: its metrics by step, their names there, the events they become."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventlog import LOSSES, VAL_LOSSES

from ...core.formats import iso

Event = tuple[str, dict[str, Any]]
"""Kind and fields, as `Session.log` takes them."""


@dataclass
class SourceRun:
    """One run of a source: the events to log, and what of the source is not among them."""

    name: str
    files: list[Path]
    events: list[Event] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    started: str | None = None
    ended: str | None = None
    status: str = "completed"
    reason: str | None = "the source does not say how it ended"
    left_out: list[str] = field(default_factory=list)
    """What was not imported and why, a sentence each."""


@dataclass(frozen=True)
class LossNames:
    """What a source calls the losses; None: by the usual names."""

    loss: str | None = None
    val_loss: str | None = None


USUAL = LossNames()


EVAL_TRAIN_LOSSES = ("train/loss", "eval/train_loss", "Loss/train_eval")
FIELDS = {
    "MFU": "mfu", "learning_rate": "lr", "train/learning_rate": "lr", "train/lr": "lr",
    "train/grad_norm": "grad_norm", "train/epoch": "epoch", "eval/lr": "lr",
}  # fmt: skip
STEPS = ("iter", "trainer/global_step", "train/global_step", "global_step", "step")
_EVAL_PREFIXES = (
    "val/", "val_", "eval/", "eval_", "valid_", "valid/", "validation", "test/", "test_",
)  # fmt: skip


class Metrics:
    """Named numbers by step. A value that is logged again at a step supersedes the earlier one."""

    def __init__(self) -> None:
        self._steps: dict[int, dict[str, tuple[Any, float | None]]] = {}
        self._by_name: dict[str, list[int]] = {}  # the steps of each name, ascending
        self.n_superseded = 0

    def add(self, step: int, values: Mapping[str, Any], time_s: float | None = None) -> None:
        """Add values; where a name returns to an earlier step, its later points are superseded."""
        for name, value in values.items():
            steps = self._by_name.setdefault(name, [])
            if steps and step < steps[-1]:
                self._supersede(name, step)
            if steps and steps[-1] == step:
                self.n_superseded += 1
            else:
                steps.append(step)
            self._steps.setdefault(step, {})[name] = value, time_s

    def purge(self, from_step: int, names: Iterable[str] | None = None) -> None:
        """Supersede the points of `names` (default: all) from `from_step` on."""
        for name in list(self._by_name if names is None else names):
            self._supersede(name, from_step)

    def _supersede(self, name: str, from_step: int) -> None:
        """Remove the points of one name from `from_step` on."""
        steps = self._by_name.get(name, [])
        while steps and steps[-1] >= from_step:
            del self._steps[steps.pop()][name]
            self.n_superseded += 1

    def names(self) -> set[str]:
        return {name for values in self._steps.values() for name in values}

    def events(self, loss_names: LossNames) -> Iterator[Event]:
        """An `eval` and an `iter` event per step with a loss; all other values are `metrics`."""
        names = self.names()
        val_loss = loss_names.val_loss or _first(VAL_LOSSES, names)
        loss = loss_names.loss or _first([n for n in LOSSES if n != val_loss], names)
        train_loss = _first([n for n in EVAL_TRAIN_LOSSES if n != loss], names)
        known = {loss: "loss", val_loss: "val_loss", train_loss: "train_loss"}
        own = {name: known.get(name) or _field(name, names) for name in names}
        for step in sorted(self._steps):
            evaluated, rest = _split(self._steps[step], known)
            if evaluated and loss not in rest:
                evaluated, rest = evaluated | rest, {}
            if evaluated:
                losses = {"train_loss": None, "val_loss": None}
                yield "eval", {"iter": step} | losses | _row(evaluated, own, val_loss)
            if rest:
                yield (
                    "iter" if loss in rest else "metrics",
                    {"iter": step} | _row(rest, own, loss),
                )

    def is_without_loss(self, loss_names: LossNames) -> bool:
        return not (loss_names.loss or _first(LOSSES, self.names()))


_Values = dict[str, tuple[Any, float | None]]


def _row(values: _Values, own: dict[str, str], main: str | None) -> dict[str, Any]:
    """Values by our names, with the time of the `main` one."""
    row = {own[name]: value for name, (value, _) in values.items()}
    _, time_s = values[main] if main in values else next(iter(values.values()))
    time = None if time_s is None else iso(time_s)
    return row if time is None else row | {"timestamp": time}


def _split(values: _Values, known: dict[str | None, str]) -> tuple[_Values, _Values]:
    """The values of an evaluation, and those of the step."""
    of_eval = {
        k: v
        for k, v in values.items()
        if known.get(k) in ("val_loss", "train_loss")
        or (k not in known and k.lower().startswith(_EVAL_PREFIXES))
    }
    return of_eval, {k: v for k, v in values.items() if k not in of_eval}


def _first(candidates: Iterable[str], names: set[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


def _field(name: str, names: set[str]) -> str:
    """Our name for a usual one, unless the source uses our name for something else."""
    own = FIELDS.get(name, name)
    reserved = {"iter", "loss", "val_loss", "train_loss", "timestamp", "self"}
    if own != name and own in names:
        return name
    return f"{own}_" if own in reserved else own
