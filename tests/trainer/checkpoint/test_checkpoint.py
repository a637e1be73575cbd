"""One checkpoint: complete or absent, loadable by torch, restored bit for bit."""

import errno
import os
import shutil
import signal

import pytest
import torch

from trainer.checkpoint import layout, read, verify, write
from trainer.checkpoint.layout import checkpoints_in
from trainer.checkpoint.resumed_flags import changes
from trainer.checkpoint.run_files import RunFiles
from trainer.checkpoint.write import save_full, save_sharded
from trainer.model.gpt import GPT, GPTConfig
from trainer.optim.optimizer import Optimizer
from trainer.storage import files
from trainer.storage.files import sha256_of

CONFIG = GPTConfig(block_size=8, vocab_size=64, n_layer=1, n_head=2, n_embd=16)
SAVES = pytest.mark.parametrize("save", [save_full, save_sharded])
ALWAYS = torch.tensor(True)


def model_and_optimizer(name="adamw"):
    model = GPT(CONFIG)
    parameters = dict(model.named_parameters())
    return model, Optimizer(
        parameters, name=name, learning_rate=1e-2, weight_decay=0.1, betas=(0.9, 0.95)
    )


def state_at(iter_num, model=None, optimizer=None):
    return {
        "model": dict(model.named_parameters()) if model else {"w": torch.full((4,), iter_num)},
        "optimizer": optimizer.state() if optimizer else {},
        "tied": GPT.tied if model else {},
        "iter_num": iter_num,
        "journal": None,
        **dict.fromkeys(verify.REQUIRED - {"iter_num"}),
    }


def newest(folder):
    """The checkpoint to resume from in a folder without a known run, and the warnings."""
    found = verify.newest_intact(RunFiles(folder, "", tuple(checkpoints_in(folder))))
    return found.path, found.warnings


def step(model, optimizer, seed):
    x = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(seed))
    loss = model(x, x)[1]
    loss.backward()
    optimizer.step(ALWAYS)
    model.zero_grad()
    return loss.item()


@SAVES
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_model_and_optimizer_resume_bit_for_bit(save, name, tmp_path):
    model, optimizer = model_and_optimizer(name)
    for seed in range(3):
        step(model, optimizer, seed)
    path = save(tmp_path, state_at(3, model, optimizer), is_best=False).path
    expected = [step(model, optimizer, seed) for seed in range(3, 8)]

    saved = read.load(path)
    model, optimizer = model_and_optimizer(name)
    model.load_state_dict(saved["model"])
    optimizer.load_state(saved["optimizer"], lambda value, parameter: value)

    assert [step(model, optimizer, seed) for seed in range(3, 8)] == expected


def test_plain_torch_load_reads_a_full_one(tmp_path):
    model, _ = model_and_optimizer()
    path, size_bytes, sha256 = save_full(tmp_path, state_at(7, model), is_best=False)

    saved = torch.load(path, weights_only=True)
    assert saved["iter_num"] == 7
    assert path.stat().st_size == size_bytes
    assert sha256_of(path) == sha256
    assert model.load_state_dict(saved["model"]).missing_keys == []


@SAVES
def test_killed_at_any_rename_or_write_the_previous_one_is_intact(save, tmp_path):
    """A child dies at its N-th call that changes a name or syncs, for every N."""
    deaths = 0
    for n in range(1, 100):
        out_dir = tmp_path / str(n)
        out_dir.mkdir()
        save(out_dir, state_at(1), is_best=True)
        child = os.fork()
        if child == 0:
            die_at_call(n)
            save(out_dir, state_at(2), is_best=True)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        path, warnings = newest(out_dir)
        whole = read.load(path)
        assert warnings == []
        assert whole["model"]["w"].tolist() == [whole["iter_num"]] * 4
        if status == 0:
            assert whole["iter_num"] == 2
            break
        assert status == -signal.SIGKILL
        deaths += 1
    assert deaths >= 3


def die_at_call(n):
    """Send SIGKILL to this process at the n-th system call of a save."""
    calls = [0]

    def mortal(function):
        def call(*args, **more):
            calls[0] += 1
            if calls[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return call

    for name in ("fsync", "fdatasync", "rename", "replace", "link", "symlink", "unlink", "rmdir"):
        setattr(os, name, mortal(getattr(os, name)))


@SAVES
def test_after_a_failed_write_the_previous_one_is_intact(save, tmp_path, monkeypatch):
    save(tmp_path, state_at(1), is_best=False)

    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, state_at(2), is_best=False)
    monkeypatch.undo()

    path, warnings = newest(tmp_path)
    assert (read.load(path)["iter_num"], warnings) == (1, [])


@SAVES
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_best_and_the_latest_ones_are_kept(save, keep, tmp_path):
    for iter_num, is_best in ((1, True), (2, True), (3, False), (4, False), (5, False)):
        save(tmp_path, state_at(iter_num), is_best=is_best, keep=keep)

    there = {read.load(path)["iter_num"] for path in checkpoints_in(tmp_path)}
    assert read.load(layout.find(tmp_path, "best"))["iter_num"] == 2
    assert read.load(layout.find(tmp_path, "latest"))["iter_num"] == 5
    assert there == {2, *range(6 - keep, 6)}


@SAVES
def test_a_later_save_of_an_iteration_counts_as_the_newest(save, tmp_path):
    """After a rewind a run saves lower numbers after higher ones."""
    for iter_num in (5, 9, 5, 7):
        save(tmp_path, state_at(iter_num), is_best=False, keep=2)

    assert read.load(newest(tmp_path)[0])["iter_num"] == 7


@pytest.mark.parametrize("name", ["meta.pt", ".metadata", "__0_0.distcp", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "damage", "remove"])
def test_a_folder_with_a_damaged_file_is_skipped_with_a_warning(name, harm, tmp_path):
    save_sharded(tmp_path, state_at(1), is_best=False, keep=2)
    folder = save_sharded(tmp_path, state_at(2), is_best=False, keep=2).path
    file = folder / name
    data = bytearray(file.read_bytes())
    match harm:
        case "cut":
            file.write_bytes(data[: len(data) // 2])
        case "damage":
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "remove":
            file.unlink()

    path, warnings = newest(tmp_path)

    if name == "manifest.json" and harm == "damage":
        return  # found by its event's digest alone: tests/trainer/test_agreement.py
    assert read.load(path)["iter_num"] == 1
    assert warnings
    assert str(folder) in warnings[0]


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"ckpt\.pt: no checkpoint found.*--init_from=scratch"):
        read.load(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04" + b"\0" * 99])
def test_a_file_that_is_not_a_checkpoint_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "ckpt.pt").write_bytes(content)

    with pytest.raises(ValueError, match=r"ckpt\.pt: cannot be read as a checkpoint"):
        read.load(tmp_path / "ckpt.pt")


def test_a_checkpoint_of_another_program_is_an_error(tmp_path):
    torch.save({"model": {}}, tmp_path / "ckpt.pt")

    with pytest.raises(ValueError, match="not a checkpoint of this trainer"):
        read.load(tmp_path / "ckpt.pt")


def test_changes_that_affect_the_training_are_listed():
    saved = {"config": {"learning_rate": 1e-3, "log_interval": 10}, "dataset": {"sha256": "a" * 64}}
    now = {"learning_rate": 5e-4, "log_interval": 99}

    text = changes(saved, now, {"sha256": "b" * 64})

    assert text == "learning_rate 0.001 -> 0.0005, text aaaaaaaa -> bbbbbbbb"


def test_a_flag_newer_than_the_checkpoint_is_not_a_change():
    saved = {"config": {"learning_rate": 1e-3}, "dataset": {"sha256": "a" * 64}}

    text = changes(saved, {"learning_rate": 1e-3, "new": 3}, {"sha256": "a" * 64})

    assert text == ""


@pytest.mark.parametrize("number", ["EPERM", "ENOTSUP", "EMLINK", "ENOSYS", "EACCES"])
def test_without_hard_links_the_best_is_a_copy_and_the_save_succeeds(number, tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(os, "link", refuse)
    for iter_num, is_best in ((1, True), (2, True), (3, False)):
        save_full(tmp_path, state_at(iter_num), is_best=is_best, keep=2)

    there = {name: read.load(tmp_path / name)["iter_num"] for name in os.listdir(tmp_path)}
    assert there == {
        "ckpt.pt": 3, "best.pt": 2, "ckpt.00000002.pt": 2, "ckpt.00000003.pt": 3,
    }  # fmt: skip
    assert newest(tmp_path) == (tmp_path / "ckpt.pt", [])


def test_killed_while_copying_the_best_the_previous_one_is_intact(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *args: os.symlink("", "/"))  # raises
    save_full(tmp_path, state_at(1), is_best=True)
    child = os.fork()
    if child == 0:
        copyfile = shutil.copyfile
        shutil.copyfile = lambda *args: (copyfile(*args), os.kill(os.getpid(), signal.SIGKILL))
        save_full(tmp_path, state_at(2), is_best=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    assert read.load(tmp_path / "best.pt")["iter_num"] == 1
    assert read.load(tmp_path / "ckpt.pt")["iter_num"] == 2


def test_a_failed_copy_of_the_best_is_not_a_failed_save(tmp_path, monkeypatch):
    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)

    with pytest.raises(
        write.LinkFailed, match="is saved, but its other names could not be set"
    ) as error:
        save_full(tmp_path, state_at(1), is_best=True)

    assert read.load(error.value.saved.path)["iter_num"] == 1


def test_checkpoints_can_be_saved_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    sync = files.sync

    def refuse_folders(path):
        if path.is_dir():
            raise OSError(22, "Invalid argument")
        sync(path)

    monkeypatch.setattr(files, "sync", refuse_folders)

    assert save_sharded(tmp_path, state_at(1), is_best=True).path.is_dir()
