"""A run as a source tells it, and how named numbers of other loggers become its events."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.names import LOSSES, VAL_LOSSES
from ...core.runs import Refusal
from ...core.times import iso

FILE_MAX = 256 << 20  # bytes of a file that is read as a whole: as Python objects 10 times that
LINE_MAX = 1 << 20
STEP_MAX = 1 << 53  # beyond it, JSON's numbers are not exact

Event = tuple[str, dict[str, Any]]
"""Kind and fields, as `Session.log` takes them."""


@dataclass
class Told:
    """One run: what is to be logged, and what of the source is not in it."""

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
    """What was not taken and why, a sentence each."""


@dataclass(frozen=True)
class Meaning:
    """Which of a logger's names is what; None: by the names that are usual."""

    loss: str | None = None
    val_loss: str | None = None


USUAL = Meaning()

EVAL_TRAIN_LOSSES = ("train/loss", "eval/train_loss", "Loss/train_eval")
FIELDS = {
    "MFU": "mfu", "learning_rate": "lr", "train/learning_rate": "lr", "train/lr": "lr",
    "train/grad_norm": "grad_norm", "train/epoch": "epoch", "eval/lr": "lr",
}  # fmt: skip
STEPS = ("iter", "trainer/global_step", "train/global_step", "global_step", "step")
_OF_EVALS = ("val/", "val_", "eval/", "eval_", "valid_", "valid/", "validation", "test/", "test_")


class Metrics:
    """Named numbers by step. What is told again of a step replaces what was told before."""

    def __init__(self) -> None:
        self._steps: dict[int, dict[str, tuple[Any, float | None]]] = {}
        self._by_name: dict[str, list[int]] = {}  # the steps of each name, ascending
        self.n_superseded = 0

    def add(self, step: int, values: Mapping[str, Any], time_s: float | None = None) -> None:
        """A resumed logger goes back: of a name that does, the later points are taken back."""
        for name, value in values.items():
            steps = self._by_name.setdefault(name, [])
            if steps and step < steps[-1]:
                self._take_back(name, step)
            if steps and steps[-1] == step:
                self.n_superseded += 1
            else:
                steps.append(step)
            self._steps.setdefault(step, {})[name] = value, time_s

    def purge(self, from_step: int, names: Iterable[str] | None = None) -> None:
        """Take back the points of `names` (all) from `from_step` on."""
        for name in list(self._by_name if names is None else names):
            self._take_back(name, from_step)

    def _take_back(self, name: str, from_step: int) -> None:
        """The points of one name: each is removed once, whatever the order of the steps."""
        steps = self._by_name.get(name, [])
        while steps and steps[-1] >= from_step:
            del self._steps[steps.pop()][name]
            self.n_superseded += 1

    def names(self) -> set[str]:
        return {name for values in self._steps.values() for name in values}

    def events(self, meaning: Meaning) -> Iterator[Event]:
        """An `eval` and an `iter` a step, as far as there is a loss; all else is `metrics`."""
        names = self.names()
        val_loss = meaning.val_loss or _first(VAL_LOSSES, names)
        loss = meaning.loss or _first([n for n in LOSSES if n != val_loss], names)
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

    def is_without_loss(self, meaning: Meaning) -> bool:
        return not (meaning.loss or _first(LOSSES, self.names()))


_Values = dict[str, tuple[Any, float | None]]


def _row(values: _Values, own: dict[str, str], main: str | None) -> dict[str, Any]:
    """By our names, with the time of the value that matters most."""
    row = {own[name]: value for name, (value, _) in values.items()}
    _, time_s = values[main] if main in values else next(iter(values.values()))
    time = None if time_s is None else iso(time_s)
    return row if time is None else row | {"timestamp": time}


def _split(values: _Values, known: dict[str | None, str]) -> tuple[_Values, _Values]:
    """What belongs to an evaluation, and what to the step."""
    of_eval = {
        k: v
        for k, v in values.items()
        if known.get(k) in ("val_loss", "train_loss")
        or (k not in known and k.lower().startswith(_OF_EVALS))
    }
    return of_eval, {k: v for k, v in values.items() if k not in of_eval}


def _first(candidates: Iterable[str], names: set[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


def _field(name: str, names: set[str]) -> str:
    """Our word for a usual name, unless the source has that word for something else."""
    own = FIELDS.get(name, name)
    taken = {"iter", "loss", "val_loss", "train_loss", "timestamp", "self"}
    if own != name and own in names:
        return name
    return f"{own}_" if own in taken else own


def read_all(path: Path, bytes_max: int = FILE_MAX) -> bytes:
    """A file that is held in memory as a whole.

    Raises:
        Refusal: it is too large for that.
    """
    with open(path, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Refusal(f"{path}: has more than {bytes_max:,} bytes, which is too much to import")
    return data


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file; of one that is very long only the beginning."""
    with open(path, "rb") as file:
        is_rest = False
        while line := file.readline(LINE_MAX):
            if not is_rest:
                yield line.decode(errors="replace")
            is_rest = not line.endswith(b"\n")


def number(value: Any) -> float | int | None:
    """A number as it is, `"NaN"` and `"Infinity"` too; None for anything else."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return None


def whole(value: Any) -> int | None:
    """A step number; None if it is none."""
    if type(value) is float and math.isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and abs(value) < STEP_MAX else None
