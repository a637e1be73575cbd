"""Resuming: with the shape of the checkpoint, and without losing iterations."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest

import eventlog
from trainer import train
from trainer.checkpoint import read
from trainer.checkpoint.run_files import runs_in
from trainer.console import display_path
from trainer.data.dataset import Batches
from trainer.train import main
from trainer.training_logger import TrainingLogger


def without(argv, *names):
    """The command line without those flags."""
    return [word for word in argv if word.partition("=")[0].removeprefix("--") not in names]


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert main(flags(folder)) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A completed run of 12 iterations."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    (files,) = runs_in(tmp_path)
    return files


# The shape


@pytest.mark.parametrize(
    ("flag", "value", "found"),
    [
        ("n_layer", 2, 1), ("n_head", 4, 2), ("n_embd", 32, 16), ("block_size", 8, 16),
        ("bias", True, False),
    ],
)  # fmt: skip
def test_another_shape_than_the_checkpoints_is_an_error_that_names_the_flag(
    flag, value, found, run, flags, refusal
):
    before = run.journal.read_bytes()

    answer = refusal(flags(run.out_dir, init_from="resume", max_iters=20, **{flag: value}))

    assert f"the checkpoint has --{flag}={found}, but --{flag}={value} was given" in answer
    assert f"give --{flag}={found}" in answer
    assert run.journal.read_bytes() == before


def test_every_flag_that_differs_is_named_at_once(run, flags, refusal):
    answer = refusal(flags(run.out_dir, init_from="auto", max_iters=20, n_layer=3, n_embd=64))

    assert "give --n_layer=1 --n_embd=16" in answer


@pytest.mark.parametrize("preset", ["small", "gpt2"])
def test_a_preset_of_another_shape_is_an_error(preset, run, flags, refusal):
    shape = ("n_layer", "n_head", "n_embd", "block_size", "bias")
    argv = flags(run.out_dir, init_from="resume", max_iters=20, preset=preset)

    answer = refusal(without(argv, *shape))

    assert all(answer.count(f" --{name}=") == 3 for name in shape[:-1])  # has, given, to give


def test_flags_that_are_not_set_have_the_checkpoints_values(run, flags, only_run):
    argv = flags(run.out_dir, init_from="resume", max_iters=20)

    assert main(without(argv, "n_layer", "n_head", "n_embd", "block_size", "bias")) == 0

    config = only_run(run.out_dir).config
    assert [config[name] for name in ("n_layer", "n_head", "n_embd", "block_size")] == [
        1,
        2,
        16,
        16,
    ]


def test_the_preset_of_the_run_is_accepted(run, flags):
    argv = flags(run.out_dir, init_from="resume", max_iters=20, preset="tiny")

    assert main(without(argv, "n_layer", "n_embd")) == 0


# How far


def rows(run):
    return [row["iter"] for row in eventlog.load_run(run.journal).training_iterations]


@pytest.mark.parametrize("init_from", ["auto", "resume"])
def test_a_complete_run_is_not_changed(init_from, run, flags, capsys):
    before = run.journal.read_bytes()
    capsys.readouterr()

    assert main(flags(run.out_dir, init_from=init_from)) == 0

    out = capsys.readouterr().out
    assert "the run already has iteration 12, the last one: nothing to do" in out
    assert "done in" not in out
    assert run.journal.read_bytes() == before


@pytest.mark.parametrize("max_iters", [0, 5, 11])
def test_a_smaller_max_iters_is_an_error_and_removes_no_iterations(max_iters, run, flags, refusal):
    before = run.journal.read_bytes()

    answer = refusal(flags(run.out_dir, init_from="resume", max_iters=max_iters))

    assert f"already has iteration 12, but --max_iters={max_iters} was given" in answer
    assert run.journal.read_bytes() == before


def test_without_max_iters_it_keeps_the_checkpoints_max_iters(run, flags, capsys):
    argv = without(flags(run.out_dir, init_from="resume"), "max_iters")

    assert main(argv) == 0

    assert "nothing to do" in capsys.readouterr().out
    assert rows(run) == list(range(13))


def test_killed_after_the_last_iteration_it_is_completed_without_another_one(
    flags, tmp_path, capsys
):
    child = os.fork()
    if child == 0:
        try:
            TrainingLogger.close = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
            main(flags(tmp_path))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (run,) = runs_in(tmp_path)

    assert main(flags(tmp_path, init_from="auto")) == 0

    logged = eventlog.load_run(run.journal)
    assert rows(run) == list(range(13))
    assert (logged.status, logged.journal["superseded"]["iterations"]) == ("completed", 0)


def test_an_interrupted_run_still_makes_its_last_iteration(flags, tmp_path, monkeypatch):
    train_batch = Batches.train

    def stop(self, iter, micro_step):
        if iter == 11 and micro_step == 0:
            signal.raise_signal(signal.SIGTERM)
        return train_batch(self, iter, micro_step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "train", stop)
        assert main(flags(tmp_path)) == 143
    (run,) = runs_in(tmp_path)
    assert rows(run) == list(range(12))

    assert main(flags(tmp_path, init_from="auto")) == 0

    logged = eventlog.load_run(run.journal)
    assert rows(run) == list(range(13))
    assert (logged.status, logged.journal["superseded"]["iterations"]) == ("completed", 0)


def test_eval_only_removes_no_iterations(run, flags):
    assert main(flags(run.out_dir, init_from="resume", eval_only=True)) == 0

    logged = eventlog.load_run(run.journal)
    assert rows(run) == list(range(13))
    assert (logged.status, logged.journal["superseded"]["iterations"]) == ("completed", 0)


def test_a_complete_run_without_logged_iterations_is_not_changed(flags, tmp_path, capsys):
    main(flags(tmp_path, log_iterations=False))
    (run,) = runs_in(tmp_path)
    before = run.journal.read_bytes()

    assert main(flags(tmp_path, log_iterations=False, init_from="auto")) == 0

    assert "nothing to do" in capsys.readouterr().out
    assert run.journal.read_bytes() == before


# What the journal lost


def test_lost_records_are_logged_on_resume(run, flags):
    position = read.load(run.checkpoints[0])["journal"]
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[: position["records"] - 3]))

    assert main(flags(run.out_dir, init_from="resume", max_iters=15)) == 0

    records = list(eventlog.scan(run.journal))
    at = max(i for i, record in enumerate(records) if record.event == "open")
    lost = records[at + 1]
    assert lost.event == "lost_tail"
    assert {name: lost.fields[name] for name in ("session", "records", "found")} == {
        "session": records[0].s,
        "records": position["records"],
        "found": position["records"] - 3,
    }


def test_without_lost_records_nothing_is_logged_on_resume(run, flags):
    assert main(flags(run.out_dir, init_from="resume", max_iters=15)) == 0

    assert "lost_tail" not in {record.event for record in eventlog.scan(run.journal)}


# What a log that lost events costs


def test_lost_events_are_in_the_last_line_and_the_exit_status(flags, tmp_path, monkeypatch, capsys):
    close = TrainingLogger.close

    def lose_two(self, *args, **more):
        session = self._session
        close(self, *args, **more)
        self._session = SimpleNamespace(
            errors=2, journal_path=session.journal_path, run_path=session.run_path
        )

    monkeypatch.setattr(TrainingLogger, "close", lose_two)

    assert main(flags(tmp_path)) == 4

    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("done in ")
    assert "2 events could not be logged: the log is incomplete (see: eventlog verify " in last
    assert runs_in(tmp_path)[0].checkpoints


def test_a_stopped_run_reports_lost_events_and_keeps_its_exit_status(
    flags, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(TrainingLogger, "lost_events", 3)

    def stop(run, interrupt):
        raise train.Stopped(signal.SIGTERM)

    monkeypatch.setattr(train, "train", stop)

    assert main(flags(tmp_path)) == 143

    assert "3 events could not be logged" in capsys.readouterr().out.splitlines()[-1]


# How paths are shown


def test_a_path_in_the_working_directory_is_shown_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert display_path(tmp_path / "out" / "a.jsonl") == "out/a.jsonl"
    assert display_path(tmp_path.parent / "a.jsonl") == str(tmp_path.parent / "a.jsonl")
