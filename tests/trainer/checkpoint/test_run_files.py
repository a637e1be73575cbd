"""Checkpoints belong to a run: no run replaces, removes or resumes those of another."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

import eventlog
from trainer import sample
from trainer.checkpoint import layout, read, run_files, verify
from trainer.checkpoint.run_files import RunFiles, runs_in
from trainer.data.dataset import Batches
from trainer.storage.files import sha256_of
from trainer.train import main

FORMATS = pytest.mark.parametrize("format", ["full", "sharded"])
NAMES = {"full": "ckpt.pt", "sharded": "ckpt"}


def run_called(out_dir, name):
    (run,) = (run for run in runs_in(out_dir) if run.stem.startswith(f"{name}_"))
    return run


def iteration(path):
    return read.load(layout.link_target(path))["iter_num"]


def n_records(run):
    return sum(1 for _ in eventlog.scan(run.journal))


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    assert main(flags(folder, wandb_run_name="a", max_iters=6)) == 0
    assert main(flags(folder, wandb_run_name="b", max_iters=12)) == 0
    return folder


@pytest.fixture
def two(trained, tmp_path):
    """A folder with the completed runs a (to iteration 6) and b (to 12)."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


def stop_at(iter_num, monkeypatch):
    """Stop the training by SIGTERM in that iteration."""
    train_batch = Batches.train

    def batch_and_stop(self, iter, micro_step):
        if iter == iter_num:
            signal.raise_signal(signal.SIGTERM)
        return train_batch(self, iter, micro_step)

    monkeypatch.setattr(Batches, "train", batch_and_stop)


# Side by side


@FORMATS
def test_a_second_run_in_the_folder_replaces_nothing_of_the_first(format, flags, tmp_path):
    shared = {"checkpoint_format": format, "keep_checkpoints": 2, "eval_interval": 2}
    main(flags(tmp_path, wandb_run_name="a", max_iters=6, **shared))
    first = run_called(tmp_path, "a")
    before = {path: read.load(path)["iter_num"] for path in first.checkpoints}

    main(flags(tmp_path, wandb_run_name="b", max_iters=4, **shared))

    assert len(before) >= 2
    assert {path: read.load(path)["iter_num"] for path in first.checkpoints} == before
    assert iteration(tmp_path / NAMES[format]) == 4


@FORMATS
def test_the_links_in_out_dir_point_to_the_run_that_saved_last(format, flags, tmp_path):
    out = tmp_path / "out"
    main(flags(out, checkpoint_format=format))

    (run,) = runs_in(out)
    for name in (NAMES[format], NAMES[format].replace("ckpt", "best")):
        assert not (out / name).readlink().is_absolute()
        assert (out / name).resolve().parent == run.folder.resolve()
    moved = out.rename(tmp_path / "moved")
    assert iteration(moved / NAMES[format]) == 12


@FORMATS
def test_the_path_in_the_event_stays_valid_after_another_run_saves(format, flags, two, only_run):
    main(flags(two, wandb_run_name="c", max_iters=3, eval_interval=3, checkpoint_format=format))

    for name, iter_num in (("a", 6), ("b", 12), ("c", 3)):
        run = eventlog.load_run(run_called(two, name).journal)
        last = run.checkpoints[-1]
        assert read.load(Path(last["path"]))["iter_num"] == last["iter"] == iter_num


def test_two_runs_at_once_have_separate_checkpoints(flags, tmp_path, only_run, losses):
    shared = {"eval_interval": 1, "keep_checkpoints": 3, "max_iters": 20}
    children = {}
    for name, seed in (("a", 1), ("b", 2)):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = main(flags(tmp_path, wandb_run_name=name, seed=seed, **shared))
            finally:
                os._exit(status)
        children[name] = child
    for child in children.values():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    for name, seed in (("a", 1), ("b", 2)):
        run = run_called(tmp_path, name)
        states = [read.load(path) for path in run.checkpoints]
        assert {state["config"]["seed"] for state in states} == {seed}
        assert len(layout.numbered(run.folder, ".pt")) == 3
        assert verify.newest_intact(run).warnings == []


def test_runs_without_a_log_have_separate_checkpoints(flags, tmp_path):
    for seed in (1, 2):
        main(flags(tmp_path, save_log_to_json=False, seed=seed, max_iters=3, eval_interval=3))

    seeds = [read.load(run.checkpoints[0])["config"]["seed"] for run in runs_in(tmp_path)]
    assert sorted(seeds) == [1, 2]


def test_an_out_dir_inside_an_out_dir_is_not_a_run(flags, tmp_path):
    main(flags(tmp_path / "nested", max_iters=2))
    main(flags(tmp_path, max_iters=3, eval_interval=3))

    (run,) = runs_in(tmp_path)
    assert iteration(run.checkpoints[0]) == 3


# Where the file system has no links


@pytest.fixture
def no_symlinks(monkeypatch):
    def refuse(self, target, *args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.fixture
def no_links(no_symlinks, monkeypatch):
    def refuse(*args, **more):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize(
    ("without", "format"),
    [
        ("no_links", "full"),
        pytest.param("no_links", "sharded", marks=pytest.mark.slow),
        pytest.param("no_symlinks", "full", marks=pytest.mark.slow),
        ("no_symlinks", "sharded"),
    ],
)
def test_without_links_two_runs_still_have_separate_checkpoints(
    without, format, flags, tmp_path, request, capfd
):
    request.getfixturevalue(without)
    shared = {"checkpoint_format": format, "keep_checkpoints": 2}
    main(flags(tmp_path, wandb_run_name="a", max_iters=6, **shared))
    main(flags(tmp_path, wandb_run_name="b", max_iters=12, **shared))
    assert iteration(tmp_path / NAMES[format]) == 12

    assert main(flags(tmp_path, wandb_run_name="a", max_iters=7, init_from="auto", **shared)) == 0

    assert "not saved" not in capfd.readouterr().err
    assert iteration(tmp_path / NAMES[format]) == 7
    assert iteration(layout.find(run_called(tmp_path, "b").folder, "latest")) == 12
    assert iteration(layout.find(run_called(tmp_path, "a").folder, "best")) in (6, 7)


# Going on


@pytest.mark.parametrize("init_from", ["auto", "resume"])
def test_the_named_run_resumes_and_the_other_does_not_change(init_from, flags, two):
    before = n_records(run_called(two, "b"))

    assert main(flags(two, wandb_run_name="a", max_iters=8, init_from=init_from)) == 0

    assert n_records(run_called(two, "b")) == before
    assert read.load(two / "ckpt.pt")["iter_num"] == 8
    assert len(eventlog.load_run(run_called(two, "a").journal).journal["sessions"]) == 2


@pytest.mark.parametrize("init_from", ["auto", "resume"])
def test_with_several_runs_the_error_lists_all(init_from, flags, two, refusal):
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}

    answer = refusal(flags(two, init_from=init_from, max_iters=20))

    stems = [run_called(two, name).stem for name in "ab"]
    assert all(f"{stem} (completed, saved at iteration " in answer for stem in stems)
    assert "--resume_from=RUN" in answer
    assert before == {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}


def test_auto_resumes_the_only_interrupted_run(flags, two, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        main(flags(two, wandb_run_name="c"))

    assert main(flags(two, init_from="auto", max_iters=6)) == 0

    assert eventlog.load_run(run_called(two, "c").journal).status == "completed"


def test_auto_refuses_to_choose_between_two_interrupted_runs(flags, tmp_path, monkeypatch, refusal):
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        for name in "cd":
            main(flags(tmp_path, wandb_run_name=name))

    answer = refusal(flags(tmp_path, init_from="auto"))

    assert "several runs can be resumed" in answer


def test_for_an_unknown_name_auto_starts_a_run_and_resume_fails(flags, two, refusal):
    assert "no run named 'c'" in refusal(flags(two, init_from="resume", wandb_run_name="c"))

    assert main(flags(two, init_from="auto", wandb_run_name="c", max_iters=2)) == 0

    assert eventlog.load_run(next(iter(two.glob("c_*.jsonl")))).status == "completed"


def test_two_runs_of_one_name_are_distinguished_by_the_names_of_their_files(
    flags, tmp_path, refusal
):
    for max_iters in (3, 4):
        main(flags(tmp_path, wandb_run_name="a", max_iters=max_iters, eval_interval=1))
    runs = runs_in(tmp_path)
    refusal(flags(tmp_path, wandb_run_name="a", init_from="resume", max_iters=5))

    stem = runs[1].stem
    assert main(flags(tmp_path, resume_from=stem, max_iters=5)) == 0

    assert iteration(runs[1].folder / "ckpt.pt") == 5
    assert iteration(runs[0].folder / "ckpt.pt") == 4


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("stem", marks=pytest.mark.slow),
        "journal",
        "checkpoint",
        pytest.param("best", marks=pytest.mark.slow),
    ],
)
def test_resume_from_accepts_any_file_of_a_run(what, flags, two):
    run = run_called(two, "a")
    by = {
        "stem": run.stem, "journal": run.journal, "checkpoint": run.folder / "ckpt.pt",
        "best": run.folder / "best.pt",
    }[what]  # fmt: skip

    assert main(flags(two, resume_from=by, max_iters=8)) == 0

    assert iteration(run.folder / "ckpt.pt") == 8


def test_resume_from_an_earlier_checkpoint_goes_back_to_it(flags, tmp_path, only_run):
    main(flags(tmp_path, eval_interval=3, keep_checkpoints=5))
    (run,) = runs_in(tmp_path)

    main(flags(tmp_path, resume_from=run.folder / "ckpt.00000006.pt", max_iters=20))

    *_, second = only_run(tmp_path).journal["sessions"]
    assert second["from_iter"] == 6
    assert iteration(tmp_path / "ckpt.pt") == 20


def test_resume_from_another_folder_starts_a_new_run(flags, tmp_path, only_run):
    main(flags(tmp_path / "one", max_iters=6))
    before = {p: p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}

    assert main(flags(tmp_path / "two", resume_from=tmp_path / "one" / "ckpt.pt")) == 0

    assert only_run(tmp_path / "two").training_iterations[0]["iter"] == 6
    assert before == {p: p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}


def test_contradicting_name_and_resume_from_are_an_error(flags, two, refusal):
    stem = run_called(two, "a").stem

    answer = refusal(flags(two, resume_from=stem, wandb_run_name="b"))

    assert f"--resume_from={stem} is the run {stem}, but --wandb_run_name=b" in answer


# Foreign


@pytest.mark.parametrize("how", ["copied over the link", "copied into the run's folder"])
def test_a_checkpoint_of_another_run_is_an_error(how, flags, tmp_path, refusal):
    main(flags(tmp_path / "one", max_iters=6))
    main(flags(tmp_path / "two", max_iters=6, seed=2, wandb_run_name="two"))
    (run,) = runs_in(tmp_path / "two")
    other = run.out_dir if how == "copied over the link" else run.folder
    shutil.copy(tmp_path / "one" / "ckpt.pt", other / "ckpt.pt")  # through the link, as cp does
    before = run.journal.read_bytes()

    answer = refusal(flags(tmp_path / "two", init_from="auto", max_iters=9))

    assert f"belongs to the run {runs_in(tmp_path / 'one')[0].stem}, not to {run.stem}" in answer
    assert run.journal.read_bytes() == before


def test_the_journal_of_another_run_is_an_error(flags, tmp_path, refusal):
    main(flags(tmp_path / "one", max_iters=6))
    main(flags(tmp_path / "two", max_iters=6))
    (one,), (two,) = runs_in(tmp_path / "one"), runs_in(tmp_path / "two")
    shutil.copy(one.journal, two.journal)
    before = two.journal.read_bytes()

    answer = refusal(flags(tmp_path / "two", init_from="resume", max_iters=9))

    assert f"but {two.journal} to that with id" in answer
    assert two.journal.read_bytes() == before


def test_a_file_that_is_not_a_journal_is_an_error_and_is_not_changed(flags, tmp_path, refusal):
    main(flags(tmp_path, max_iters=6))
    (run,) = runs_in(tmp_path)
    run.journal.write_text('{"text": "of a data set"}\n' * 9)

    answer = refusal(flags(tmp_path, init_from="resume", max_iters=9))

    assert "not a journal" in answer
    assert run.journal.read_text() == '{"text": "of a data set"}\n' * 9


@pytest.mark.parametrize("content", [{"format": 99}, {"model": {}}])
def test_a_checkpoint_of_another_format_is_an_error(content, flags, tmp_path, refusal):
    main(flags(tmp_path, max_iters=6))
    (run,) = runs_in(tmp_path)
    torch.save(content, run.folder / "ckpt.pt")

    answer = refusal(flags(tmp_path, init_from="resume", max_iters=9))

    assert "not a checkpoint of this trainer" in answer


def test_a_checkpoint_without_its_journal_among_other_journals_is_an_error(
    flags, tmp_path, refusal
):
    main(flags(tmp_path / "one", wandb_run_name="one", max_iters=6))
    main(flags(tmp_path / "two", max_iters=6, save_log_to_json=False))
    main(flags(tmp_path / "three", wandb_run_name="three", max_iters=1))
    three = tmp_path / "three"
    (three / "ckpt.pt").unlink(missing_ok=True)
    for run in runs_in(three):
        shutil.rmtree(run.folder)
    shutil.copy(tmp_path / "one" / "ckpt.pt", three / "ckpt.pt")

    answer = refusal(flags(three, init_from="auto", max_iters=9))

    assert "whose journal is missing" in answer
    assert main(flags(three, resume_from=three / "ckpt.pt", max_iters=9)) == 0


def test_a_stray_checkpoint_does_not_count_as_the_only_interrupted_run(flags, tmp_path, refusal):
    main(flags(tmp_path / "one", wandb_run_name="one", max_iters=6))
    state = torch.load(tmp_path / "one" / "ckpt.pt", weights_only=True)
    main(flags(tmp_path / "two", wandb_run_name="two", max_iters=6))
    (tmp_path / "two" / "ckpt.pt").unlink()
    torch.save(state | {"iter_num": 3}, tmp_path / "two" / "ckpt.pt")

    answer = refusal(flags(tmp_path / "two", init_from="auto", max_iters=9))

    assert "whose journal is missing" in answer


# Of before runs had folders


@pytest.fixture
def old(flags, tmp_path):
    """A folder of an earlier version: checkpoints beside the journal, without a run id."""
    main(flags(tmp_path, eval_interval=3, keep_checkpoints=2))
    (run,) = runs_in(tmp_path)
    for name in ("ckpt.pt", "best.pt"):
        (tmp_path / name).unlink()
    for path in run.folder.iterdir():
        state = torch.load(path, weights_only=True)
        del state["run"]
        time.sleep(0.01)  # their times say which is the newest
        digest = sha256_of(path)
        shutil.copy2(path, tmp_path / path.name)
        assert sha256_of(tmp_path / path.name) == digest
    shutil.rmtree(run.folder)
    return tmp_path


def test_a_run_in_the_old_layout_resumes_and_keeps_its_best(old, flags, only_run):
    best = iteration(old / "best.pt")

    assert main(flags(old, init_from="auto", max_iters=15, eval_interval=3)) == 0

    (run,) = runs_in(old)
    assert len(only_run(old).journal["sessions"]) == 2
    assert iteration(old / "ckpt.pt") == 15
    assert (old / "ckpt.pt").is_symlink()
    assert iteration(old / "best.pt") in (best, 15)
    assert run.folder.is_dir()


def test_a_new_run_beside_the_old_layout_removes_none_of_its_checkpoints(old, flags):
    (before,) = runs_in(old)
    there = sorted({read.load(path)["iter_num"] for path in before.checkpoints})

    main(flags(old, wandb_run_name="new", max_iters=3, eval_interval=3))

    (after,) = (run for run in runs_in(old) if run.stem == before.stem)
    assert sorted({read.load(path)["iter_num"] for path in after.checkpoints}) == there
    assert main(flags(old, resume_from=before.stem, max_iters=15)) == 0


def test_a_file_of_another_program_is_kept(flags, tmp_path, capsys):
    (tmp_path / "ckpt.pt").write_bytes(b"of some other program")

    main(flags(tmp_path, max_iters=2, eval_interval=2))

    (renamed,) = tmp_path.glob("ckpt.kept*")
    assert renamed.read_bytes() == b"of some other program"
    assert iteration(tmp_path / "ckpt.pt") == 2


# Started again by torchrun


def test_a_restart_resumes_the_run_of_its_launch(flags, two, monkeypatch):
    """Even if an earlier launch has created the journal."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch")

    def train_and_die():
        child = os.fork()
        if child == 0:
            try:
                stop = Batches.train

                def die(self, iter, micro_step):
                    if iter == 9:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return stop(self, iter, micro_step)

                Batches.train = die
                main(flags(two, resume_from=run_called(two, "a").stem, max_iters=12))
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert train_and_die() == -signal.SIGKILL
    before = n_records(run_called(two, "b"))

    def restart():
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = main(flags(two, resume_from=run_called(two, "a").stem, max_iters=12))
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert restart() == 0
    assert n_records(run_called(two, "b")) == before
    assert len(eventlog.load_run(run_called(two, "a").journal).journal["sessions"]) == 3


def test_without_a_log_a_running_run_is_not_resumed(flags, tmp_path, refusal):
    main(flags(tmp_path, max_iters=6))
    (run,) = runs_in(tmp_path)
    with eventlog.open_run(journal=run.journal):
        answer = refusal(flags(tmp_path, init_from="resume", save_log_to_json=False, max_iters=9))

    assert "another process is training this run" in answer


# Text from one of them


@pytest.mark.parametrize("which", ["latest", "best"])
def test_sample_uses_the_named_run_or_the_latest(which, two):
    a, b = run_called(two, "a"), run_called(two, "b")

    assert sample.find(two, "a", which).parent == a.folder
    assert sample.find(two, b.stem, which).parent == b.folder
    assert sample.find(two, None, which).resolve().parent == b.folder.resolve()
    with pytest.raises(ValueError, match=f"no such run.*{a.stem}"):
        sample.find(two, "c", which)


def test_a_failed_link_costs_no_checkpoint(flags, tmp_path, monkeypatch, capfd, only_run):
    def refuse(files, path, *, is_best):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_files, "update_links", refuse)

    assert main(flags(tmp_path)) == 0

    (run,) = runs_in(tmp_path)
    assert [row["iter"] for row in only_run(tmp_path).checkpoints] == [6, 12]
    assert "is saved, but the links in" in capfd.readouterr().err
    assert isinstance(run, RunFiles)


def test_a_run_whose_folder_is_moved_saves_beside_its_journal(flags, tmp_path, monkeypatch):
    train_batch = Batches.train

    def move_and_go_on(self, iter, micro_step):
        if iter == 3 and (tmp_path / "out").is_dir():
            os.rename(tmp_path / "out", tmp_path / "moved")
            time.sleep(2.5)  # the log looks at its files once a second
        return train_batch(self, iter, micro_step)

    monkeypatch.setattr(Batches, "train", move_and_go_on)
    assert main(flags(tmp_path / "out", max_iters=6, eval_interval=2)) == 0

    (run,) = runs_in(tmp_path / "moved")
    assert not (tmp_path / "out").exists()
    assert iteration(tmp_path / "moved" / "ckpt.pt") == 6
    assert iteration(run.checkpoints[0]) == 6
    assert eventlog.load_run(run.journal).status == "completed"
