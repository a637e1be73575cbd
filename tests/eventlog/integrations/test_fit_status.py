"""The status of a run whose framework's training does not end well."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import eventlog

LIGHTNING = """
import os, signal, sys, torch
from lightning import LightningModule, Trainer
from eventlog.integrations.lightning import JournalLogger
class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
    def training_step(self, x, i):
        loss = (self.layer(x) - 1).square().mean()
        self.log("train_loss", loss)
        if i == 5: exec(sys.argv[1])
        if i == 8: exec(sys.argv[2])
        return loss
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.01)
data = torch.utils.data.DataLoader(torch.randn(40, 8), batch_size=4)
logger = JournalLogger("out", name="l", quiet=True, save_interval=0)
settings = {"max_epochs": 1, "devices": 1, "accelerator": "cpu", "log_every_n_steps": 1}
for part in ("progress_bar", "checkpointing", "model_summary"): settings["enable_" + part] = False
trainer = Trainer(logger=logger, **settings)
trainer.fit(Model(), data)
"""
TERM, INT, USR1, KILL = (
    f"os.kill(os.getpid(), signal.SIG{s})" for s in ("TERM", "INT", "USR1", "KILL")
)
FITS = {
    "Ctrl-C": ([INT, ""], "interrupted", "KeyboardInterrupt"),
    "SIGTERM": ([TERM, ""], "interrupted", "exit code 143"),
    "an exception": (["raise ValueError('bad batch')", ""], "failed", "ValueError: bad batch"),
    "Slurm's requeue, then SIGKILL": ([USR1, KILL], "interrupted", None),
    "Slurm's requeue, and the end": ([USR1, ""], "completed", None),
    "nothing": (["", ""], "completed", None),
}


@pytest.mark.parametrize("case", FITS)
def test_a_fit_of_lightning_ends_the_run_as_it_ended(tmp_path, case):
    pytest.importorskip("lightning")
    (tmp_path / "scontrol").write_text("#!/bin/sh\n")
    (tmp_path / "scontrol").chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "train",
        "SLURM_PROCID": "0",
    }
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "n1"}
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    (tmp_path / "fit.py").write_text(LIGHTNING)
    steps, status, reason = FITS[case]
    subprocess.run(
        [sys.executable, "fit.py", *steps],
        cwd=tmp_path,
        env=env | slurm if "Slurm" in case else env,
        capture_output=True,
    )

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, len(run.journal["sessions"])) == (status, 1)
    assert reason is None or run.journal["reason"] == reason
    assert run.journal["events"].get("error", 0) == (case == "an exception")


@pytest.fixture
def callback(monkeypatch):
    """The callback for Hugging Face; its calls are made here, in the order of `Trainer`."""
    names = ("TrainerCallback", "TrainerControl", "TrainerState", "TrainingArguments")
    stub = SimpleNamespace(**{name: type(name, (), {}) for name in names})
    monkeypatch.setitem(sys.modules, "transformers", stub)
    monkeypatch.delitem(sys.modules, "eventlog.integrations.huggingface", raising=False)
    from eventlog.integrations.huggingface import JournalCallback

    yield JournalCallback(quiet=True, save_interval=0)
    monkeypatch.delitem(sys.modules, "eventlog.integrations.huggingface")


def train(callback, folder, *, ends):
    arguments = SimpleNamespace(output_dir=folder, run_name="r", to_dict=dict)
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    callback.on_train_begin(arguments, state, None)
    state.global_step = 1
    callback.on_log(arguments, state, None, logs={"loss": 1.0})
    if ends:
        callback.on_train_end(arguments, state, None)
    return callback.run.journal_path


def test_the_id_of_a_failed_fit_can_be_read_and_the_run_stays_failed(tmp_path):
    pytest.importorskip("lightning")
    program = LIGHTNING.replace("trainer.fit(", "try: trainer.fit(")
    program += "except ValueError: print(logger.version)\n"

    subprocess.run(
        [sys.executable, "-c", program, "raise ValueError()", ""], cwd=tmp_path, check=True
    )

    (run,) = map(eventlog.load_run, (tmp_path / "out").glob("*.jsonl"))
    assert (run.status, len(run.journal["sessions"])) == ("failed", 1)


def test_an_attempt_of_hugging_face_that_died_is_not_completed(tmp_path, callback):
    first = train(callback, tmp_path, ends=False)
    second = train(callback, tmp_path, ends=True)
    callback.run.finish()

    died, ended = eventlog.load_run(first), eventlog.load_run(second)
    assert (died.status, died.journal["reason"]) == ("interrupted", "ended before its training did")
    assert ended.status == "completed"


def test_a_run_that_awaits_something_is_interrupted_if_its_program_ends(tmp_path):
    code = "import eventlog\nrun = eventlog.init(save_interval=0)\nrun.awaits = 'its fit did'"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert eventlog.load_run(journal).journal["reason"] == "ended before its fit did"
