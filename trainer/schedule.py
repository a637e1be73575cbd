"""The learning rate as a pure function of the iteration: nothing to save, nothing to resume."""

import math


def learning_rate_at(
    iter_num: int, *, peak: float, floor: float, warmup_iters: int, decay_iters: int
) -> float:
    """Linear from near 0 to `peak`, half a cosine down to `floor`, then `floor` for good.

    Args:
        iter_num: the iteration about to run, from 0.
        warmup_iters: iterations below the peak; 0 starts at it.
        decay_iters: the iteration at which the floor is reached, warm-up included.
    """
    if iter_num < warmup_iters:
        return peak * (iter_num + 1) / (warmup_iters + 1)
    if iter_num >= decay_iters:
        return floor
    progress = (iter_num - warmup_iters) / (decay_iters - warmup_iters)  # 0 to 1
    return floor + 0.5 * (1 + math.cos(math.pi * progress)) * (peak - floor)
