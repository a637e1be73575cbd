"""The ranks of one start find each other, and none of an earlier start.

torchrun keeps one store for all its restarts, and gloo and NCCL look up each other's addresses
in it by rank. A rank that is started again may so read the address of the one that died, and
then connects to nobody: of 3 restarts of 2 ranks on a CPU 1 failed and 2 hung (torch 2.13.0).
torchrun's count of restarts cannot tell the starts apart: each machine counts for itself.
So the ranks agree on a name that nobody had before, and keep their words to each other under it.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(minutes=30)  # torch's own for gloo; until then a machine may still be starting
POLL_S = 0.01


def meet(rank: int, world_size: int) -> Store:
    """A store that the ranks of this start share and no earlier one has written to. Collective.

    Where it is, is said by the variables that torchrun sets.

    Raises:
        TimeoutError: not all ranks came within `TIMEOUT`; says which did not.
    """
    found = rendezvous("env://", rank, world_size, timeout=TIMEOUT)
    store, rank, world_size = next(iter(found))
    return PrefixStore(agree(store, rank, world_size), store)


def agree(store: Store, rank: int, world_size: int, timeout: timedelta = TIMEOUT) -> str:
    """A name that rank 0 of this start gave it. Collective.

    What stands under `hello` may be of a rank that is dead: rank 0 answers whoever it meets there,
    under the caller's own name, and is done when all have thanked it for this very answer.
    """
    me, give_up = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    if rank != 0:
        store.set(f"hello/{rank}", me)
        _wait(store, [f"answer/{me}"], give_up, "rank 0 did not answer")
        name = str(store.get(f"answer/{me}"), "utf-8")
        store.set(f"thanks/{name}/{rank}", "")
        return name
    missing, answered = set(range(1, world_size)), set()
    while missing:
        for other in sorted(missing):
            if store.check([f"thanks/{me}/{other}"]):
                missing.remove(other)
            elif store.check([f"hello/{other}"]):
                caller = store.get(f"hello/{other}").decode()
                if caller not in answered:
                    answered.add(caller)
                    store.set(f"answer/{caller}", me)
        if missing:
            _pause(give_up, f"ranks {sorted(missing)} of {world_size} did not come")
    return me


def _wait(store: Store, keys: list[str], give_up: float, what: str) -> None:
    while not store.check(keys):
        _pause(give_up, what)


def _pause(give_up: float, what: str) -> None:
    if time.monotonic() > give_up:
        raise TimeoutError(f"{what}: is torchrun running on all machines, with the same flags?")
    time.sleep(POLL_S)
