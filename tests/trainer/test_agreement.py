"""On resume the checkpoint is checked against the journal."""

import shutil

import pytest

from trainer.checkpoint import verify
from trainer.checkpoint.run_files import runs_in
from trainer.storage.files import sha256_of
from trainer.train import main


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        losses = iter([3.0, 2.0, 2.5, 2.4, 2.3])
        patch.setattr("trainer.train.evaluate", lambda run, interrupt: (1.0, next(losses)))
        assert main(flags(folder, max_iters=8, eval_interval=2)) == 0
    return folder


@pytest.fixture
def out(trained, tmp_path):
    """A finished run whose best checkpoint (iteration 2) is not its latest (iteration 8)."""
    return shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)


def journal_of(out):
    (journal,) = out.glob("*.jsonl")
    return journal


def folder_of(out):
    """The folder of the checkpoints of the only run in `out`."""
    (run,) = runs_in(out)
    return run.folder


def newest(out):
    (run,) = runs_in(out)
    found = verify.newest_intact(run)
    return found.path, found.warnings


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_event_of_a_checkpoint_holds_its_size_and_its_digest(out, only_run):
    last = only_run(out).checkpoints[-1]

    assert last["size_bytes"] == (out / "ckpt.pt").stat().st_size
    assert last["sha256"] == sha256_of(out / "ckpt.pt")


def test_an_intact_checkpoint_gives_no_warning(out):
    assert newest(out) == (folder_of(out) / "ckpt.pt", [])


@pytest.mark.parametrize("where", [0.01, 0.5, 0.99])
def test_one_damaged_byte_in_the_latest_is_detected_and_the_best_is_used(
    out, flags, where, capfd, only_run
):
    folder = folder_of(out)
    damage(folder / "ckpt.pt", int(where * (folder / "ckpt.pt").stat().st_size))

    assert main(flags(out, max_iters=9, init_from="resume")) == 0

    output = capfd.readouterr()
    assert "checkpoint skipped: " in output.err
    assert str(folder / "ckpt.pt") in output.err
    assert f"resuming from {folder / 'best.pt'} at iteration 2" in output.out
    assert [row["iter"] for row in only_run(out).training_iterations] == list(range(10))


def test_a_truncated_file_is_skipped(out):
    folder = folder_of(out)
    whole = (folder / "ckpt.pt").read_bytes()
    (folder / "ckpt.pt").write_bytes(whole[: len(whole) // 2])

    path, (remark,) = newest(out)

    assert path == folder / "best.pt"
    assert remark.startswith(f"checkpoint skipped: {folder / 'ckpt.pt'}: ")


def test_if_no_checkpoint_is_intact_the_error_names_each(out):
    folder = folder_of(out)
    for name in ("ckpt.pt", "best.pt"):
        damage(folder / name, 2000)

    with pytest.raises(ValueError, match="checkpoint skipped: ") as refusal:
        newest(out)

    assert str(refusal.value).count("checkpoint skipped: ") == 2
    assert str(folder / "ckpt.pt") in str(refusal.value)
    assert str(folder / "best.pt") in str(refusal.value)


def test_a_checkpoint_whose_event_was_never_logged_is_used(out):
    """Killed between the rename and the event: the file is complete and durable."""
    journal = journal_of(out)
    lines = journal.read_bytes().splitlines(keepends=True)
    at = max(i for i, line in enumerate(lines) if b'"event":"checkpoint"' in line)
    journal.write_bytes(b"".join(lines[:at]))

    assert newest(out) == (folder_of(out) / "ckpt.pt", [])


def test_records_lost_since_the_checkpoint_are_reported(out):
    journal = journal_of(out)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-6]))

    path, (remark,) = newest(out)

    assert path == folder_of(out) / "ckpt.pt"
    assert f"{journal} has {len(lines) - 6} of the " in remark
    assert f"eventlog verify {journal}" in remark


def test_a_checkpoint_without_its_journal_is_used(out):
    journal_of(out).unlink()

    assert newest(out) == (folder_of(out) / "ckpt.pt", [])
