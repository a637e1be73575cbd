"""Ranks that restart with a store that has keys of dead ranks."""

from datetime import timedelta
from threading import Thread

import pytest
import torch.distributed as dist

from trainer.distributed.rendezvous import agree

SOON = timedelta(milliseconds=50)


def names(store, world_size):
    """The name that each rank of one start agrees on; all start at once."""
    found = [""] * world_size

    def join(rank):
        found[rank] = agree(store, rank, world_size, timedelta(seconds=30))

    threads = [Thread(target=join, args=[rank]) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_all_ranks_of_a_start_agree_on_a_unique_name(world_size):
    store, before = dist.HashStore(), set()
    for n_ranks in (world_size, world_size, 2, world_size):
        found = set(names(store, n_ranks))

        assert len(found) == 1
        assert not found & before
        before |= found


@pytest.mark.parametrize("dead", [[0], [1], [1, 2], [0, 2]])
def test_dead_ranks_of_an_earlier_start_are_not_waited_for(dead):
    """The ranks that connected gave up, and left their keys in the store."""
    store = dist.HashStore()
    for rank in {0, 1, 2} - set(dead):
        with pytest.raises(TimeoutError):
            agree(store, rank, 3, SOON)

    assert len(set(names(store, 3))) == 1


def test_missing_ranks_are_named():
    with pytest.raises(TimeoutError, match=r"ranks \[1, 2\] of 3 did not connect"):
        agree(dist.HashStore(), 0, 3, SOON)
