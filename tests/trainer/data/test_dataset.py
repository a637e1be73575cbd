"""A batch is a function of (seed, iteration, global row) only."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.dataset import Batches, Dataset, Stream, Tokens, draw

CPU = torch.device("cpu")


def counting(n, *cuts, dtype=np.uint16):
    """0, 1, 2, ..., cut into len(cuts) + 1 shards."""
    return Tokens(np.split(np.arange(n, dtype=dtype), sorted(cuts)))


def dataset(train, val):
    return Dataset(Path("nowhere"), train, val, {}, {})


DATASET = dataset(counting(5000), counting(900))


def batches(seed=1, rank=0, world_size=1, batch_size=4, block_size=8, dataset=DATASET):
    return Batches(dataset, seed, batch_size, block_size, rank, world_size, CPU)


def global_rows(world_size, iter_num, seed, n_micro_batches=12):
    """All rows of an iteration, from the batches of all ranks."""
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
def test_y_is_x_shifted_by_one_token(iter_num, micro_step):
    x, y = batches().train(iter_num, micro_step)

    assert x.shape == y.shape == (4, 8)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x + 1, y)  # the tokens count upwards


def test_batches_do_not_depend_on_the_order_of_calls():
    forwards = [batches().train(i, 0)[0].tolist() for i in range(20)]
    backwards = [batches().train(i, 0)[0].tolist() for i in reversed(range(20))]

    assert forwards == backwards[::-1]


def test_iterations_micro_steps_and_seeds_have_different_rows():
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


def test_evaluation_uses_its_own_random_stream():
    """Even if the run has the seed of the evaluation."""
    mine = batches(seed=0)

    assert not torch.equal(mine.eval("train", 0)[0], mine.train(0, 0)[0])


@given(n_starts=st.integers(1, 40))
def test_every_start_can_be_drawn_including_the_last(n_starts):
    block_size = len(DATASET.val) - n_starts
    mine = batches(block_size=block_size, batch_size=400)

    first_tokens = set(mine.eval("val", 0)[0][:, 0].tolist())

    assert first_tokens == set(range(n_starts))


def test_the_random_numbers_do_not_change():
    """If these change, runs of earlier versions cannot be resumed exactly."""
    numbers = draw(1337, Stream.TRAIN_ROWS, 42, 3)

    assert numbers.tolist() == [
        7464596586725220487,
        10302367657562756287,
        1190708626283097399,
    ]


def test_dropout_has_its_own_seed_for_each_micro_batch_on_any_rank():
    alone = [batches().dropout_seed(5, m) for m in range(4)]
    shared = [batches(rank=m % 2, world_size=2).dropout_seed(5, m // 2) for m in range(4)]

    assert alone == shared
    assert len(set(alone)) == 4


@given(
    cuts=st.lists(st.integers(0, 5000), max_size=9),
    iter_num=st.integers(0, 10**9),
    block_size=st.integers(1, 4000),
)
def test_any_cut_into_shards_gives_the_same_batches(cuts, iter_num, block_size):
    """Windows that span two or more shards; shards of one token, and empty ones."""
    sharded = dataset(counting(5000, *cuts), counting(900, *(cut for cut in cuts if cut <= 900)))

    mine = batches(dataset=sharded, block_size=block_size)

    whole = batches(block_size=block_size)
    assert torch.equal(mine.train(iter_num, 0)[0], whole.train(iter_num, 0)[0])
    if block_size < 900:
        assert torch.equal(mine.eval("val", iter_num)[1], whole.eval("val", iter_num)[1])


def test_batches_are_those_of_the_version_without_shards():
    """If these change, runs of earlier versions cannot be resumed exactly."""
    x, _ = batches(seed=1337).train(42, 1)

    assert x[:, 0].tolist() == [3809, 1096, 433, 1841]


def write_folder(folder, n_train=100, n_val=100, dtype="uint16"):
    """A folder of the version without shards."""
    meta = {"name": "x", "dtype": dtype, "n_train_tokens": n_train, "n_val_tokens": n_val}
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "tokenizer.json").write_text("{}")
    for split, n in (("train", n_train), ("val", n_val)):
        (folder / f"{split}.bin").write_bytes(np.arange(n).astype(dtype).tobytes())


def write_sparse_folder(folder, dtype, lengths):
    """Sparse shards of `lengths` tokens, which take no space on the disk."""
    listed = []
    for number, n in enumerate(lengths):
        name = f"train.{number:03}.bin"
        (folder / name).touch()
        os.truncate(folder / name, n * np.dtype(dtype).itemsize)
        listed.append({"file": name, "n_tokens": n, "sha256": "not asked for"})
    (folder / "val.000.bin").write_bytes(np.zeros(100, dtype).tobytes())
    meta = {
        "name": "x", "dtype": dtype, "n_train_tokens": sum(lengths), "n_val_tokens": 100,
        "shards": {"train": listed, "val": [{"file": "val.000.bin", "n_tokens": 100}]},
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "tokenizer.json").write_text("{}")


def write_tokens(path, at, tokens):
    with path.open("r+b") as file:
        file.seek(at * tokens.itemsize)
        file.write(tokens.tobytes())


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("lengths", [[2**31 + 1000], [2**31 - 7, 2**20, 3, 2**31]])
def test_more_than_2_to_the_32_tokens_are_all_readable(tmp_path, dtype, lengths):
    write_sparse_folder(tmp_path, dtype, lengths)
    last = tmp_path / f"train.{len(lengths) - 1:03}.bin"
    write_tokens(last, lengths[-1] - 5, np.arange(1, 6, dtype=dtype))

    opened = Dataset.open(tmp_path, block_size=64)

    assert len(opened.train) == sum(lengths) > 2**31
    assert opened.train.window(sum(lengths) - 9, 9).tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]


def test_rows_are_drawn_from_both_sides_of_the_32nd_bit():
    """2^32 tokens, of which the second half is 7: about every second row is in it."""
    lower, upper = np.zeros(2**20, np.uint16), np.full(2**20, 7, np.uint16)
    halves = dataset(Tokens([lower] * 2048 + [upper] * 2048), counting(900))

    x, _ = batches(dataset=halves, block_size=64, batch_size=400).train(0, 0)

    assert len(halves.train) == 2**32
    assert 150 < (x[:, 0] == 7).sum() < 250


def test_a_window_may_span_two_files(tmp_path):
    write_sparse_folder(tmp_path, "uint32", [50, 60])
    write_tokens(tmp_path / "train.000.bin", 48, np.array([70_001, 70_002], "<u4"))
    write_tokens(tmp_path / "train.001.bin", 0, np.array([70_003, 70_004], "<u4"))

    tokens = Dataset.open(tmp_path, block_size=8).train

    assert tokens.window(47, 6).tolist() == [0, 70_001, 70_002, 70_003, 70_004, 0]


def test_a_folder_of_the_version_without_shards_opens(tmp_path):
    write_folder(tmp_path, dtype="uint32")

    opened = Dataset.open(tmp_path, block_size=8)

    assert opened.train.window(90, 10).tolist() == list(range(90, 100))


def test_the_list_of_shards_is_not_logged(tmp_path):
    write_sparse_folder(tmp_path, "uint16", [100] * 50)

    assert "shards" not in Dataset.open(tmp_path, block_size=8).meta


def test_a_missing_shard_is_an_error_that_names_it(tmp_path):
    write_sparse_folder(tmp_path, "uint16", [100, 100])
    (tmp_path / "train.001.bin").unlink()

    with pytest.raises(ValueError, match=r"train\.001\.bin: expected 200 bytes, found 0"):
        Dataset.open(tmp_path, block_size=8)


def test_a_split_too_short_for_one_row_is_an_error_that_names_it(tmp_path):
    write_folder(tmp_path, n_val=64)

    with pytest.raises(
        ValueError, match=r": val has 64 tokens, but --block_size=64 needs at least 65"
    ):
        Dataset.open(tmp_path, block_size=64)


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train.bin").write_bytes(b"\0" * 120)

    with pytest.raises(ValueError, match=r"train\.bin: expected 200 bytes, found 120"):
        Dataset.open(tmp_path, block_size=8)


def test_a_folder_without_data_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="no prepared data"):
        Dataset.open(tmp_path, block_size=8)
