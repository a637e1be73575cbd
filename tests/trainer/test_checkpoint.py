"""A checkpoint: whole or not there, plain to load, and every figure comes back."""

import os
import signal

import pytest
import torch

from trainer import checkpoint
from trainer.model import GPT, GPTConfig
from trainer.optim import build_optimizer

CONFIG = GPTConfig(block_size=8, vocab_size=64, n_layer=1, n_head=2, n_embd=16)


def model_and_optimizer():
    model = GPT(CONFIG)
    return model, build_optimizer(model, learning_rate=1e-2, weight_decay=0.1, betas=(0.9, 0.95))


def step(model, optimizer, seed):
    x = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(seed))
    loss = model(x, x)[1]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_model_and_optimizer_go_on_bit_for_bit(tmp_path):
    model, optimizer = model_and_optimizer()
    for seed in range(3):
        step(model, optimizer, seed)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    path, _, _ = checkpoint.save(tmp_path, state, is_best=False)
    expected = [step(model, optimizer, seed) for seed in range(3, 8)]

    saved = checkpoint.load(path)
    model, optimizer = model_and_optimizer()
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])

    assert [step(model, optimizer, seed) for seed in range(3, 8)] == expected


def test_plain_torch_load_reads_it(tmp_path):
    path, size_bytes, _ = checkpoint.save(tmp_path, {"iter_num": 7}, is_best=False)

    assert torch.load(path, weights_only=True)["iter_num"] == 7
    assert path.stat().st_size == size_bytes


def test_killed_while_it_writes_the_one_before_stands(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"iter_num": 1}, is_best=True)
    child = os.fork()
    if child == 0:
        whole = torch.save

        def save_half(state, file):
            whole(state, file)
            file.flush()
            file.truncate(file.tell() // 2) if file.seekable() else None
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = save_half
        checkpoint.save(tmp_path, {"iter_num": 2}, is_best=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    assert checkpoint.load(tmp_path / checkpoint.LATEST)["iter_num"] == 1
    assert checkpoint.load(tmp_path / checkpoint.BEST)["iter_num"] == 1


def test_a_disk_that_refuses_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"iter_num": 1}, is_best=False)

    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, {"iter_num": 2}, is_best=False)
    monkeypatch.undo()

    assert checkpoint.load(tmp_path / checkpoint.LATEST)["iter_num"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LATEST]


def test_the_best_one_outlives_later_ones(tmp_path):
    for iter_num, is_best in ((1, True), (2, True), (3, False), (4, False)):
        checkpoint.save(tmp_path, {"iter_num": iter_num}, is_best=is_best)

    assert checkpoint.load(tmp_path / checkpoint.BEST)["iter_num"] == 2
    assert checkpoint.load(tmp_path / checkpoint.LATEST)["iter_num"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "ckpt.pt"]


def test_a_missing_one_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"ckpt\.pt: there is no checkpoint.*--init_from=scratch"):
        checkpoint.load(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04" + b"\0" * 99])
def test_a_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "ckpt.pt").write_bytes(content)

    with pytest.raises(ValueError, match=r"ckpt\.pt: it cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "ckpt.pt")


def test_somebody_elses_checkpoint_is_not_mistaken_for_one(tmp_path):
    torch.save({"model": {}}, tmp_path / "ckpt.pt")

    with pytest.raises(ValueError, match="not a checkpoint of this trainer"):
        checkpoint.load(tmp_path / "ckpt.pt")


def test_what_makes_a_resumed_run_another_one_is_said():
    saved = {"config": {"learning_rate": 1e-3, "log_interval": 10}, "dataset": {"sha256": "a" * 64}}
    now = {"learning_rate": 5e-4, "log_interval": 99}

    said = checkpoint.changes(saved, now, {"sha256": "b" * 64})

    assert said == "learning_rate 0.001 -> 0.0005, text aaaaaaaa -> bbbbbbbb"
