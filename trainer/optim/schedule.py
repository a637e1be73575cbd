"""The learning rate as a pure function of the iteration: nothing to save, nothing to resume."""

import math
from typing import Literal

ScheduleName = Literal["cosine", "wsd"]


def learning_rate_at(
    iter_num: int,
    *,
    peak: float,
    floor: float,
    warmup_iters: int,
    decay_iters: int,
    schedule: ScheduleName = "cosine",
    cooldown_iters: int = 0,
) -> float:
    """Linear from near 0 to `peak`, down to `floor`, then `floor` for good.

    Args:
        iter_num: the iteration about to run, from 0.
        warmup_iters: iterations below the peak; 0 starts at it.
        decay_iters: the iteration at which the floor is reached, warm-up included.
        schedule: `cosine` goes down in half a cosine all the way; `wsd` (warm-up, stable, decay)
            stays at the peak and goes down in a straight line over the last `cooldown_iters`, so
            that a run can be made longer without knowing beforehand how long.
    """
    if iter_num < warmup_iters:
        return peak * (iter_num + 1) / (warmup_iters + 1)
    if iter_num >= decay_iters:
        return floor
    if schedule == "wsd":
        left = (decay_iters - iter_num) / max(1, cooldown_iters)  # above 1 while stable
        return floor + min(1.0, left) * (peak - floor)
    progress = (iter_num - warmup_iters) / (decay_iters - warmup_iters)  # 0 to 1
    return floor + 0.5 * (1 + math.cos(math.pi * progress)) * (peak - floor)
