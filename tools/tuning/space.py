"""The search space: parameters and their ranges, from flags or a TOML file.

    learning_rate=log 1e-4..1e-2      a number, uniform in its logarithm
    dropout=0..0.3                    a number; 0..0.3 step 0.1: in steps
    n_layer=1..8                      a whole number, if both ends are
    n_embd=64|128|256                 one of these; also text, true and false
    weight_decay=log 1e-3..1 in 4     one of 4 evenly spaced values

In TOML a line is `learning_rate = "log 1e-4..1e-2"`, `n_embd = [64, 128, 256]` or
`dropout = {low = 0, high = 0.3, step = 0.1}`.
"""

import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.runs import Refusal

Number = int | float
Value = bool | int | float | str
Point = dict[str, Value]

RESERVED = ("out_dir", "args", "trial", "study")
"""Names with another meaning in a command template."""
N_POINTS_MAX = 100_000
"""The largest grid."""
_TABLE_KEYS = ("low", "high", "log", "step", "choices")
_NAME = re.compile(r"[A-Za-z_]\w*")
_RANGE = re.compile(
    r"(?P<log>log\s+)?(?P<low>\S+?)\s*\.\.\s*(?P<high>\S+)"
    r"(?:\s+step\s+(?P<step>\S+)|\s+in\s+(?P<n>\S+))?"
)
_FORMS = "write it as log 1e-4..1e-2, 0..0.3, 1..8, 64..512 step 64, 0..1 in 5 or 2|4|6"


@dataclass(frozen=True)
class Parameter:
    """A parameter: one of `choices`, or a number from `low` to `high` if there are none."""

    name: str
    choices: tuple[Value, ...] = ()
    low: Number = 0
    high: Number = 0
    is_log: bool = False
    step: Number | None = None

    @property
    def is_whole(self) -> bool:
        """Whether a range has only whole numbers."""
        return all(isinstance(n, int) for n in (self.low, self.high, self.step or 1))

    def __str__(self) -> str:
        if self.choices:
            return "|".join(map(as_argument, self.choices))
        step = "" if self.step is None else f" step {self.step!r}"
        return f"{'log ' if self.is_log else ''}{self.low!r}..{self.high!r}{step}"

    @property
    def values(self) -> tuple[Value, ...] | None:
        """All values in order; None if a range has too many."""
        if self.choices:
            return self.choices
        if self.step is None and not self.is_whole:
            return None
        step = 1 if self.step is None else self.step
        n = math.floor((self.high - self.low) / step + 1e-9) + 1
        if n > N_POINTS_MAX:
            return None
        # 0.1 + 2 * 0.1 is 0.30000000000000004: rounded to 12 digits
        return tuple(
            self.low + i * step if self.is_whole else float(f"{self.low + i * step:.12g}")
            for i in range(n)
        )


class Space(dict[str, Parameter]):
    """Parameters by name."""

    def as_text(self) -> dict[str, str]:
        """The space as text that `read` understands."""
        return {name: str(parameter) for name, parameter in self.items()}

    def grid(self) -> Iterator[Point]:
        """Every combination; the last parameter changes fastest.

        Raises:
            Refusal: a parameter is continuous, or there are too many combinations.
        """
        columns = []
        for name, parameter in self.items():
            if parameter.values is None:
                raise Refusal(
                    f"{name}: {parameter}: a grid needs steps, like {parameter} in 5; "
                    "or use --sampler tpe"
                )
            columns.append(parameter.values)
        n_points = math.prod(map(len, columns))
        if n_points > N_POINTS_MAX:
            name = max(self, key=lambda name: len(self[name].values or ()))
            raise Refusal(
                f"{name}: with {len(self[name].values or ()):,} values the grid has {n_points:,} "
                f"points, more than {N_POINTS_MAX:,}; use fewer, or --sampler tpe"
            )
        return (dict(zip(self, point, strict=True)) for point in itertools.product(*columns))


def read(file: Path | None, flags: Sequence[str] = ()) -> Space:
    """The space of a TOML file and of flags `NAME=RANGE`; a flag overrides the file.

    Raises:
        Refusal: the file or a range is invalid.
    """
    space = Space()
    if file is not None:
        for name, value in _read_toml(file).items():
            space[name] = parameter(name, value, f"{file}: {name}")
    seen = set()
    for flag in flags:
        name, sign, text = (part.strip() for part in flag.partition("="))
        if not sign:
            raise Refusal(f"--param: must be NAME=RANGE, got {flag!r}; {_FORMS}")
        if name in seen:
            raise Refusal(f"--param {name}: must be given once")
        seen.add(name)
        space[name] = parameter(name, text, f"--param {name}")
    return space


def parameter(name: str, value: Any, where: str) -> Parameter:
    """A parameter from the text of a flag or a value in TOML; messages begin with `where`.

    Raises:
        Refusal: it is invalid.
    """
    if not _NAME.fullmatch(name):
        raise Refusal(f"{where}: a name must have letters, digits and _ only, like the flag")
    if name in RESERVED:
        raise Refusal(f"{where}: {name} is reserved: it has another meaning in a command")
    match value:
        case str() if "|" in value:
            return _choices(name, [_value(text.strip()) for text in value.split("|")], where)
        case str():
            return _range(name, value.strip(), where)
        case list():
            return _choices(name, value, where)
        case {"choices": list(choices)} if len(value) == 1:
            return _choices(name, choices, where)
        case {"low": low, "high": high} if set(value) <= {"low", "high", "log", "step"}:
            is_log = value.get("log", False)
            return _checked(Parameter(name, (), low, high, is_log, value.get("step")), where)
        case Mapping():
            unknown = ", ".join(sorted(set(value) - set(_TABLE_KEYS))) or ", ".join(sorted(value))
            raise Refusal(f"{where}: has {unknown}; must be low, high, log and step, or choices")
    raise Refusal(f"{where}: a choice needs at least two values, got {value!r}; {_FORMS}")


def as_argument(value: Value) -> str:
    """A value as it is written on a command line."""
    return value if isinstance(value, str) else repr(value)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise Refusal(f"--space {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"--space {file}: not TOML: {error}") from None


def _choices(name: str, choices: Sequence[Any], where: str) -> Parameter:
    for choice in choices:
        if not isinstance(choice, bool | int | float | str) or choice == "":
            raise Refusal(f"{where}: must be a number, text, true or false, got {choice!r}")
        if isinstance(choice, float) and not math.isfinite(choice):
            raise Refusal(f"{where}: must be a finite number, got {choice!r}")
    if len(set(choices)) < len(choices):  # 1, 1.0 and true are one to Python, and to Optuna
        raise Refusal(f"{where}: has a value twice")
    if len(choices) < 2:
        raise Refusal(f"{where}: a choice needs at least two values; {_FORMS}")
    return Parameter(name, tuple(choices))


def _range(name: str, text: str, where: str) -> Parameter:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise Refusal(f"{where}: not a range: {text!r}; {_FORMS}")
    low, high, step = (
        None if match[part] is None else _number(match[part], where)
        for part in ("low", "high", "step")
    )
    assert low is not None
    assert high is not None
    range_ = _checked(Parameter(name, (), low, high, bool(match["log"]), step), where)
    if match["n"] is None:
        return range_
    if not match["n"].isdecimal() or not 2 <= int(match["n"]) <= N_POINTS_MAX:
        raise Refusal(f"{where}: in: must be a whole number >= 2, got {match['n']!r}")
    return _choices(name, _spread(range_, int(match["n"])), where)


def _checked(range_: Parameter, where: str) -> Parameter:
    low, high, step = range_.low, range_.high, range_.step
    for number in (low, high, 0 if step is None else step):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refusal(f"{where}: must be a number, got {number!r}")
        if not math.isfinite(number) or abs(number) >= 1 << 63:
            raise Refusal(f"{where}: must be finite and below 2^63, got {number!r}")
    if not isinstance(range_.is_log, bool):
        raise Refusal(f"{where}: log must be true or false, got {range_.is_log!r}")
    if low >= high:
        raise Refusal(f"{where}: {low!r}..{high!r}: must ascend")
    if range_.is_log and low <= 0:
        raise Refusal(f"{where}: log {low!r}..{high!r}: must begin above 0")
    if step is not None and range_.is_log:
        raise Refusal(f"{where}: log has no step; use log {low!r}..{high!r} in 5")
    if step is not None and not 0 < step <= high - low:
        raise Refusal(f"{where}: step must be above 0 and at most {high - low!r}, got {step!r}")
    n_steps = 0 if step is None else (high - low) / step
    if abs(n_steps - round(n_steps)) > 1e-6:
        assert step is not None
        end = float(f"{low + math.floor(n_steps) * step:.12g}")
        raise Refusal(f"{where}: steps of {step!r} from {low!r} end at {end:g}, not at {high!r}")
    return range_


def _spread(range_: Parameter, n: int) -> list[Value]:
    """`n` values from one end to the other, both included."""
    low, high = range_.low, range_.high
    if range_.is_log:
        spread = [low * (high / low) ** (i / (n - 1)) for i in range(n)]
    else:
        spread = [low + (high - low) * i / (n - 1) for i in range(n)]
    rounded: list[Value] = [float(f"{value:.6g}") for value in spread]
    if range_.is_whole:
        return list(dict.fromkeys(round(value) for value in spread))
    return rounded


def _number(text: str, where: str) -> Number:
    value = _value(text)
    if isinstance(value, bool | str):
        raise Refusal(f"{where}: must be a number, got {text!r}")
    return value


def _value(text: str) -> Value:
    """The text of a flag as bool, int or float if it looks like one."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
