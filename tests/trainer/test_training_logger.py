"""The log: only rank 0 writes it, and nothing in it stops the training."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import eventlog
from trainer.training_logger import TrainingLogger

TRAINER = Path(__file__).parents[2] / "trainer"


def log_a_little(logger):
    logger.open(config={"n_layer": 1}, metadata={"world_size": 1})
    logger.log_eval(0, 2.0, 2.1, 1e-3)
    logger.log_iter(0, 2.0, 10.0, lr=1e-3)
    logger.log_iter(1, 1.5, 10.0, 30.0, lr=1e-3)
    logger.log_checkpoint(1, Path("out/ckpt.pt"), 1.6)
    logger.log("note", text="hello")
    logger.close("completed")


def test_what_is_logged_is_in_the_run_json(tmp_path):
    log_a_little(logger := TrainingLogger(tmp_path))

    run = json.loads(logger.run_path.read_text())
    assert [row["loss"] for row in run["training_iterations"]] == [2.0, 1.5]
    assert run["training_iterations"][0]["mfu"] == -100.0
    assert run["checkpoints"][0]["path"] == "out/ckpt.pt"
    assert run["journal"]["status"] == "completed"


@pytest.mark.parametrize("setting", [{"is_main": False}, {"save_log_to_json": False}])
def test_other_ranks_and_a_disabled_log_write_nothing(tmp_path, setting):
    log_a_little(logger := TrainingLogger(tmp_path / "out", **setting))

    assert not (tmp_path / "out").exists()
    assert logger.run_path is logger.journal_path is logger.position is None


def test_without_iterations_evals_and_checkpoints_are_still_logged(tmp_path):
    log_a_little(logger := TrainingLogger(tmp_path, log_iterations=False))

    run = eventlog.load_run(logger.run_path)
    assert len(run.training_iterations) == 0
    assert len(run.eval_steps) == len(run.checkpoints) == 1


def test_the_file_name_starts_with_the_name_of_the_run(tmp_path):
    log_a_little(logger := TrainingLogger(tmp_path, wandb_run_name="my_experiment"))

    assert logger.run_path.match("my_experiment_????????_??????.json")


def test_the_position_in_the_journal_counts_the_records_of_the_session(tmp_path):
    log_a_little(first := TrainingLogger(tmp_path))

    second = TrainingLogger(tmp_path)
    second.open(config={}, metadata={}, from_iter=1, journal=first.position["file"])
    second.log_iter(1, 1.4, 10.0)
    second.close()

    assert second.journal_path == first.journal_path
    assert first.position["records"] == 7
    run = eventlog.load_run(second.run_path)
    assert [row["loss"] for row in run.training_iterations] == [2.0, 1.4]


def test_a_missing_journal_is_reported_and_a_new_one_created(tmp_path, capsys):
    logger = TrainingLogger(tmp_path)

    logger.open(config={}, metadata={}, from_iter=1, journal="run_gone.jsonl")
    logger.close()

    assert "run_gone.jsonl is missing: a new journal is created" in capsys.readouterr().err
    assert logger.run_path.exists()


def test_a_journal_that_another_process_writes_is_a_value_error(tmp_path):
    first = TrainingLogger(tmp_path)
    first.open(config={}, metadata={})

    with pytest.raises(ValueError, match=r"run_.*\.jsonl"):
        TrainingLogger(tmp_path).open(config={}, metadata={}, journal=first.position["file"])

    first.close()


def test_a_missing_wandb_is_an_error_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(ValueError, match="pip install wandb"):
        TrainingLogger(tmp_path, wandb_log=True)


class FakeWandb(types.ModuleType):
    """The part of wandb that the logger calls; with `fails` every call after init raises."""

    def __init__(self, fails=False):
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace(name="wandb")
        self.fails, self.started, self.logged, self.finished = fails, [], [], []

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, values, step):
        if self.fails:
            raise ConnectionError("no way out")
        self.logged.append((step, values))

    def finish(self, exit_code):
        self.finished.append(exit_code)


def test_wandb_receives_the_same_values_as_the_journal(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())

    log_a_little(logger := TrainingLogger(tmp_path, wandb_log=True, wandb_project="p"))

    assert wandb.started[0]["project"] == "p"
    assert wandb.started[0]["name"] == eventlog.load_run(logger.run_path).run_name
    assert [step for step, _ in wandb.logged] == [0, 0, 1]
    assert wandb.finished == [0]


def test_a_failure_of_wandb_stops_nothing_and_is_reported_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails=True))

    log_a_little(logger := TrainingLogger(tmp_path, wandb_log=True))

    assert len(eventlog.load_run(logger.run_path).training_iterations) == 2
    assert capsys.readouterr().err.count("W&B failed") == 1


def test_the_guides_import_works_in_the_trainers_folder(tmp_path):
    log_a_little(logger := TrainingLogger(tmp_path))
    program = (
        "from training_logger import compare_runs\n"
        f"run, = compare_runs([{str(logger.run_path)!r}])['runs']\n"
        "print(f\"{run['final_loss']:.4f} {run['best_val_loss']:.4f} {run['avg_mfu']:.2f}%\")"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TRAINER, capture_output=True, text=True
    )

    assert done.stdout == "1.5000 2.1000 30.00%\n", done.stderr


def test_if_wandb_cannot_start_no_run_is_created(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    monkeypatch.setattr(wandb, "init", lambda **settings: 1 / 0, raising=False)

    with pytest.raises(ValueError, match=r"W&B cannot be started \(ZeroDivisionError.*offline"):
        log_a_little(TrainingLogger(tmp_path, wandb_log=True))
    assert not list(tmp_path.iterdir())

    log_a_little(logger := TrainingLogger(tmp_path, wandb_log=True, wandb_required=False))
    assert len(eventlog.load_run(logger.run_path).training_iterations) == 2
