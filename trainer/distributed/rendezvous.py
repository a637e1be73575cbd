"""Connect the ranks of one start with each other, and not with ranks of an earlier start.

torchrun keeps one store across restarts, in which gloo and NCCL look up addresses by rank. A
restarted rank may read the address of one that has died, and then fails or hangs (torch 2.13.0).
torchrun's count of restarts does not tell the starts apart, since each machine has its own count.
So the ranks agree on a unique name and use it as the prefix of all keys.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(minutes=30)  # torch's default for gloo: a machine may still be starting
POLL_S = 0.01


def meet(rank: int, world_size: int) -> Store:
    """A store that only the ranks of this start use, at the address that torchrun sets. Collective.

    Raises:
        TimeoutError: a rank did not connect within `TIMEOUT`; says which.
    """
    results = rendezvous("env://", rank, world_size, timeout=TIMEOUT)
    store, rank, world_size = next(iter(results))
    return PrefixStore(agree(store, rank, world_size), store)


def agree(store: Store, rank: int, world_size: int, timeout: timedelta = TIMEOUT) -> str:
    """A unique name for this start, chosen by rank 0. Collective.

    A key under `hello` may be from a dead rank. Rank 0 answers every id that it finds there, under
    that id, and returns when all ranks have confirmed this very answer under `thanks`.
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
            _pause(give_up, f"ranks {sorted(missing)} of {world_size} did not connect")
    return me


def _wait(store: Store, keys: list[str], give_up: float, what: str) -> None:
    while not store.check(keys):
        _pause(give_up, what)


def _pause(give_up: float, what: str) -> None:
    if time.monotonic() > give_up:
        raise TimeoutError(f"{what}: check that torchrun runs on all machines with the same flags")
    time.sleep(POLL_S)
