"""A batch is a function of (seed, iteration, global row), and of nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import Batches, Dataset, Stream, draw

CPU = torch.device("cpu")
DATASET = Dataset(
    Path("nowhere"), np.arange(5000, dtype=np.uint16), np.arange(900, dtype=np.uint16), {}, {}
)


def batches(seed=1, rank=0, world_size=1, batch_size=4, block_size=8):
    return Batches(DATASET, seed, batch_size, block_size, rank, world_size, CPU)


def global_rows(world_size, iter_num, seed, n_micro_batches=12):
    """All rows of an iteration, put together from what each rank reads."""
    rows = {}
    for rank in range(world_size):
        mine = batches(seed=seed, rank=rank, world_size=world_size)
        for step in range(n_micro_batches // world_size):
            rows[step * world_size + rank] = mine.train(iter_num, step)[0].tolist()
    return [rows[k] for k in range(n_micro_batches)]


@given(
    world_size=st.sampled_from([2, 3, 4, 6, 12]),
    iter_num=st.integers(0, 10**9),
    seed=st.integers(0, 2**63),
)
def test_any_world_size_sees_the_same_global_rows(world_size, iter_num, seed):
    assert global_rows(world_size, iter_num, seed) == global_rows(1, iter_num, seed)


@given(iter_num=st.integers(0, 10**9), micro_step=st.integers(0, 50))
def test_y_is_x_moved_one_token_on(iter_num, micro_step):
    x, y = batches().train(iter_num, micro_step)

    assert x.shape == y.shape == (4, 8)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x + 1, y)  # the tokens count upwards


def test_asking_in_another_order_changes_nothing():
    forwards = [batches().train(i, 0)[0].tolist() for i in range(20)]
    backwards = [batches().train(i, 0)[0].tolist() for i in reversed(range(20))]

    assert forwards == backwards[::-1]


def test_other_iterations_other_micro_steps_and_other_seeds_give_other_rows():
    seen = [
        batches(seed=s).train(i, m)[0].tolist()
        for s in range(3)
        for i in range(3)
        for m in range(3)
    ]

    assert len({json.dumps(rows) for rows in seen}) == 27


@given(seed=st.integers(0, 2**63), index=st.integers(0, 1000))
def test_evaluation_is_the_same_for_every_seed_rank_and_world_size(seed, index):
    reference = batches().eval("val", index)[0]

    other = batches(seed=seed, rank=1, world_size=2).eval("val", index)[0]

    assert torch.equal(reference, other)


def test_evaluation_draws_from_a_stream_of_its_own():
    """Even where the run has evaluation's own seed."""
    mine = batches(seed=0)

    assert not torch.equal(mine.eval("train", 0)[0], mine.train(0, 0)[0])


@given(n_starts=st.integers(1, 40))
def test_every_start_can_be_drawn_the_last_one_too(n_starts):
    block_size = len(DATASET.val) - n_starts
    mine = batches(block_size=block_size, batch_size=400)

    first_tokens = set(mine.eval("val", 0)[0][:, 0].tolist())

    assert first_tokens == set(range(n_starts))


def test_the_numbers_behind_it_are_pinned():
    """If these change, no run of before can be resumed exactly."""
    numbers = draw(1337, Stream.TRAIN_ROWS, 42, 3)

    assert numbers.tolist() == [
        7464596586725220487,
        10302367657562756287,
        1190708626283097399,
    ]


def test_dropout_has_its_own_seed_at_each_micro_batch_whoever_computes_it():
    alone = [batches().dropout_seed(5, m) for m in range(4)]
    shared = [batches(rank=m % 2, world_size=2).dropout_seed(5, m // 2) for m in range(4)]

    assert alone == shared
    assert len(set(alone)) == 4


def write_folder(folder, n_train=100, n_val=100):
    meta = {"name": "x", "dtype": "uint16", "n_train_tokens": n_train, "n_val_tokens": n_val}
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "tokenizer.json").write_text("{}")
    for split, n in (("train", n_train), ("val", n_val)):
        (folder / f"{split}.bin").write_bytes(np.zeros(n, np.uint16).tobytes())


def test_a_split_too_short_for_one_row_is_refused_by_name(tmp_path):
    write_folder(tmp_path, n_val=64)

    with pytest.raises(ValueError, match=r"val\.bin has 64 tokens, but block_size=64 needs 65"):
        Dataset.open(tmp_path, block_size=64)


def test_a_file_that_was_cut_is_refused_by_name(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train.bin").write_bytes(b"\0" * 120)

    with pytest.raises(ValueError, match=r"train\.bin is 120 bytes, but was written with 200"):
        Dataset.open(tmp_path, block_size=8)


def test_a_folder_without_data_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="holds no prepared data"):
        Dataset.open(tmp_path, block_size=8)
