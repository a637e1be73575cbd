"""Which series of a run are shown first."""

from collections.abc import Iterable

import eventlog

USUAL = (
    "time_ms", "mfu", "lr", "learning_rate", "train/lr", "train/learning_rate", "grad_norm",
    "train/grad_norm", "tokens_per_s", "memory_bytes",
)  # fmt: skip
LAST = ("eval/train_loss", "eval/lr", "eval/time_ms")


def usual_first(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The usual ones among some names of series, then the others, in their order.

    The usual ones begin with the losses; samples of the machine are the last of the others.
    """
    known = dict.fromkeys(names)
    own = [name for name in ("loss", "eval/val_loss") if name in known]
    losses = [name for name in eventlog.usual_losses(known) if name is not None]
    usual = dict.fromkeys([*own, *losses, *(name for name in USUAL if name in known)])
    others = [name for name in known if name not in usual]
    return list(usual), sorted(others, key=lambda name: (name.startswith("system/"), name in LAST))
