"""Healthy runs with noise, for which no rule may raise an alert."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime

import eventlog

BEGIN = 1_795_000_000.0  # seconds since 1970


@dataclass(frozen=True)
class Shape:
    """How a run goes: its rhythm, its noise, its pauses."""

    step_s: float = 0.5
    jitter: float = 0.05
    """Of the logarithm of a step's duration."""
    hiccup: float = 0.01
    """How many of the steps take up to eight times as long: a page cache, a collector."""
    noise: float = 0.03
    """Of a loss, as a part of it; now and then three times as much."""
    eval_every: int = 100
    eval_s: float = 20.0
    save_every: int = 200
    save_s: float = 8.0
    compile_s: float = 90.0
    n_iters: int = 1500
    resume_at: tuple[int, ...] = ()
    """Iterations before which it is stopped and goes on, some iterations back."""
    float16: bool = False


def shapes(n: int = 20) -> list[Shape]:
    """Of each kind some: fast and slow, quiet and noisy, with long evals, resumed."""
    kinds = [
        Shape(),
        Shape(step_s=0.02, n_iters=6000, eval_s=0.5, save_s=0.1, compile_s=3, jitter=0.3),
        Shape(step_s=12.0, n_iters=400, eval_every=50, eval_s=600, save_every=50, save_s=120),
        Shape(noise=0.12, hiccup=0.05, jitter=0.2),
        Shape(resume_at=(450, 900), float16=True),
        Shape(step_s=2.0, compile_s=900, eval_every=500, eval_s=300, save_every=500, save_s=60),
        Shape(step_s=0.1, noise=0.2, n_iters=4000, eval_every=1000, save_every=1000, jitter=0.4),
    ]
    return [kinds[i % len(kinds)] for i in range(n)]


def records(shape: Shape, seed: int):
    """Yields (time, record), as the journal of such a run would have them."""
    chance = random.Random(seed)
    clock = BEGIN
    session, n = f"a{seed:07}", 0

    def record(event, **fields):
        nonlocal n
        t = datetime.fromtimestamp(clock, UTC).isoformat(timespec="microseconds")
        n += 1
        return clock, eventlog.Record(n - 1, session, t, event, fields)

    def opened(from_iter=None):
        nonlocal clock
        begin = record("open", config={"max_iters": shape.n_iters}, from_iter=from_iter)
        clock += shape.compile_s * chance.uniform(0.5, 1)
        return begin

    yield opened()
    i, resumed = 0, set()
    while i < shape.n_iters:
        if i in shape.resume_at and i not in resumed:
            resumed.add(i)
            yield record("close", status="interrupted", reason="SIGTERM")
            clock += chance.uniform(10, 4000)
            session, n, i = f"b{seed:03}{i:04}", 0, i - 30
            yield opened(i)
        usual = 2.5 + 8 / (1 + i / 40) ** 0.5
        if i % shape.eval_every == 0:
            clock += shape.eval_s * chance.uniform(0.8, 1.6)
            yield record("eval", iter=i, train_loss=usual, val_loss=usual * 1.01)
        if i and i % shape.save_every == 0:
            clock += shape.save_s * chance.uniform(0.7, 2)
            yield record("checkpoint", iter=i, path="ckpt.pt", size_bytes=1 << 20)
        step_s = shape.step_s * math.exp(chance.gauss(0, shape.jitter))
        if chance.random() < shape.hiccup:
            step_s *= chance.uniform(2, 8)
        clock += step_s
        wide = 3 if chance.random() < 0.01 else 1
        loss = usual * (1 + wide * chance.gauss(0, shape.noise) / 2)
        overflow = shape.float16 and chance.random() < 0.005
        more = {"skipped": True, "nonfinite": {"grad_norm": "inf"}} if overflow else {}
        yield record("iter", iter=i, loss=loss, time_ms=1000 * step_s, **more)
        i += 1
    yield record("close", status="completed", reason=None)
