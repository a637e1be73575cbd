"""The learning rate as a pure function of the iteration: no state to save or resume."""

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
    """Linear warm-up to `peak`, decay to `floor`, then constant.

    Args:
        iter_num: the iteration, from 0.
        warmup_iters: iterations of the warm-up; 0: start at `peak`.
        decay_iters: the iteration at which `floor` is reached.
        schedule: `cosine` decays in half a cosine from the warm-up on; `wsd` (warm-up, stable,
            decay) stays at `peak` and decays linearly over the last `cooldown_iters`, so that a
            run can be extended later.
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
