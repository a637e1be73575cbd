"""What a program logs that logs values of every sort under names of every sort, for 400 steps.

A first session is killed; a second one resumes it and repeats its last 20 steps.
"""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch

STEPS = 400
KILLED_AT, RESUMED_AT = 220, 200

LONG = "long/" + "x" * 3_995


class Metric(NamedTuple):
    """What is passed to `log` at a step, and what of it the run has: under which name, which value.

    Without `stored` it is the value that was passed; a value of None is none.
    """

    name: str
    passed: Callable[[int, int], Any]
    """By step and session."""
    stored: Callable[[Any], Any] = lambda value: value
    stored_name: str | None = None
    every: int = 1


def loss(step: int, session: int) -> float:
    return 4 / (1 + step / 100) + session / 7 + math.sin(step) / 3


def at(step: int, value: float, other: Callable[[int, int], Any] = loss) -> Callable[..., Any]:
    """`value` at one step of a hundred, else the other."""
    return lambda s, session: value if s % 100 == step else other(s, session)


def whole(first: int) -> Callable[[int, int], int]:
    return lambda step, _: first + step


def constant(value: Any) -> Callable[[int, int], Any]:
    return lambda *_: value


FLOATS = [
    Metric("train/loss", loss),
    Metric("val/loss", lambda s, k: loss(s, k) + 0.1, every=10),
    Metric("val.acc", lambda s, k: 1 - 1 / (2 + s) + k / 1e9, every=10),
    Metric("train/lr", lambda s, _: 6e-4 * (1 - s / STEPS)),
    Metric("float/third", lambda s, _: s / 3),
    Metric("float/largest", constant(1.7976931348623157e308)),
    Metric("float/least", constant(5e-324)),
    Metric("float/negative zero", constant(-0.0)),
    Metric("float/once", constant(0.1 + 0.2), every=STEPS),
]
NONFINITE = [
    Metric("nan/at times", at(50, math.nan)),
    Metric("nan/at the end", at(99, math.nan)),
    Metric("nan/always", constant(math.nan)),
    Metric("inf/at times", at(51, math.inf)),
    Metric("inf/negative", at(52, -math.inf)),
    Metric("inf/all three", lambda s, _: (math.nan, math.inf, -math.inf, 1.5)[s % 4]),
]
INTEGERS = [
    Metric("int/step", whole(0)),
    Metric("int/beyond 2^53", whole(2**53 + 1)),
    Metric("int/below -2^53", lambda s, _: -(2**53) - 1 - s),
    Metric("int/64 bits", lambda s, _: 2**63 - 1 - s),
    Metric("int/unsigned", lambda s, _: 2**64 - 1 - s),
    Metric("int/of 30 digits", whole(10**29), str),
]
WORDS = [
    Metric("bool/alternating", lambda s, _: s % 2 == 0),
    Metric("bool/numpy", lambda s, _: np.bool_(s % 3 == 0), bool),
    Metric("text/phase", lambda s, k: f"warmup {k}" if s < 300 else "decay, «ï» 🙂"),
    Metric("text/empty", constant("")),
    Metric("text/like a number", constant("1e5")),
    Metric("text/like a NaN", constant("NaN")),
    Metric("text/lines", constant("a\r\nb\t\"c\", 'd' \\n")),
    Metric("text/or a number", lambda s, k: "none yet" if s < 210 else loss(s, k)),
    Metric("none/always", constant(None)),
    Metric("none/at times", lambda s, k: None if s % 5 else loss(s, k)),
    Metric("list", lambda s, _: [s, 0.5], json.dumps),
]
OF_OTHERS = [
    Metric("tensor/scalar", lambda s, _: torch.tensor(s / 4), lambda t: t.item()),
    Metric("tensor/one element", lambda s, _: torch.full((1, 1), s / 3), lambda t: t.item()),
    Metric("tensor/bfloat16", lambda s, _: torch.tensor([s], dtype=torch.bfloat16),
           lambda t: t.item()),
    Metric("tensor/int64", lambda s, _: torch.tensor([2**60 + s]), lambda t: t.item()),
    Metric("array/one element", lambda s, _: np.array([s / 3]), lambda a: a.item()),
    Metric("array/float32", lambda s, _: np.float32(s / 3), float),
    Metric("array/uint64", lambda s, _: np.uint64(2**64 - 1 - s), int),
    Metric("array/NaN", lambda *_: np.array(math.nan), float),
    Metric("array/longdouble", lambda s, _: np.longdouble(s) / 3, float),
    Metric("decimal", lambda s, _: Decimal(s) / 8, float),
    Metric("fraction", lambda s, _: Fraction(s, 7), float),
    Metric("nested", lambda s, k: {"a": {"b.c": s, "d": loss(s, k)}},
           lambda v: {"a.b.c": v["a"]["b.c"], "a.d": v["a"]["d"]}),
]  # fmt: skip
NAMES = [
    "a.b.c", "a/b/c", 'quote " and \'', "new\nline", "tab\tand\r\n", "comma, semicolon; =2+2",
    " ", "é 日本 🙂", LONG, "*", "[a-z]?", "train/loss:min", "train/loss@10", "%s {x} $HOME <b>",
    "loss", "lr", "iter", "epoch", "time_ms", "mfu", "timestamp", "eval/val_loss",
    "iterations/loss", "metrics/loss", "system/cpu_percent", "checkpoint/val_loss", "run", "status",
    "config.lr", "_step", "_timestamp", "name", "value", "path", "Train/Loss",
]  # fmt: skip
RESERVED = ["step", "nonfinite", "event", "durable", "n", "t"]
NAMED = [
    *(Metric(name, lambda s, k, at=at_: loss(s, k) + at) for at_, name in enumerate(NAMES)),
    *(Metric(name, lambda s, _: float(s), stored_name=f"{name}_") for name in RESERVED),
]
METRICS = [*FLOATS, *NONFINITE, *INTEGERS, *WORDS, *OF_OTHERS, *NAMED]

Key = tuple[str, int]


def row(step: int, session: int, metrics: list[Metric] = METRICS) -> dict[str, Any]:
    """What the program passes to `log`."""
    return {m.name: m.passed(step, session) for m in metrics if step % m.every == 0}


def sessions() -> list[range]:
    return [range(KILLED_AT), range(RESUMED_AT, STEPS)]


def stored(metrics: list[Metric] = METRICS, of_session: int | None = None) -> dict[Key, Any]:
    """Each value that the run must have, by name and step; of a repeated step the later one.

    With `of_session`: what that session logs. A value of None is there, too.
    """
    values: dict[Key, Any] = {}
    for session, steps in enumerate(sessions()):
        for step in steps if of_session in (None, session) else ():
            for metric in metrics:
                if step % metric.every == 0:
                    values |= _stored(metric, step, session)
    return values


def _stored(metric: Metric, step: int, session: int) -> dict[Key, Any]:
    passed = metric.passed(step, session)
    value = None if passed is None else metric.stored(passed)
    name = metric.stored_name or metric.name
    if isinstance(value, dict):
        return {(f"{name}.{inner}", step): v for inner, v in value.items()}
    return {(name, step): value}
