"""Studies over a command that takes a tenth of a second and logs as a trainer does."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import eventlog
from tools.cli import main
from tools.core.runs import Refusal
from tools.tuning import slots, space
from tools.tuning.template import Template, trainer

pytest.importorskip("optuna")
pytest.importorskip("psutil")

from tools.tuning.metric import Metric
from tools.tuning.study import Plan, Study, config_of
from tools.tuning.study_figure import draw

# A run of a formula: best at lr = 0.1. `nap` seconds pass between two evaluations.
FAKE = """
import os, signal, sys, time
import eventlog
told = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
lr, nap, out_dir = float(told["lr"]), float(told.get("nap", 0)), told["out_dir"]
with open(out_dir + "/pids", "a") as file:
    print(os.getpid(), file=file)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with eventlog.open_run(out_dir, save_interval=0, config=told) as run:
    for i in range(0, 50, 10):
        loss = 3 * abs(lr - 0.1) + 5 / (i + 1)
        run.log_eval(i, loss, loss + 0.001)
        time.sleep(nap)
        if stopped:
            run.close("interrupted", "SIGTERM")
            sys.exit(143)
"""
LR = "lr=0.0..1.0"
WAIT_S = 60


@pytest.fixture
def fake(tmp_path):
    """The template of the command."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    args = [sys.executable, str(script), "{args}", "--out_dir={out_dir}"]
    return shlex.join(args)


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch):
    """In this process; tuners in processes of their own are as users have them."""
    monkeypatch.setattr("tools.tuning.tuner.POLL_S", 0.02)
    monkeypatch.setattr("tools.tuning.tune._draw", lambda study, path: False)


def tune(folder, *flags):
    return main(["tune", str(folder), *map(str, flags)])


def command(folder, *flags):
    return [sys.executable, "-m", "tools.cli", "tune", str(folder), *map(str, flags)]


def started(folder, *flags):
    """A tuner in a process of its own."""
    return subprocess.Popen(
        command(folder, *flags), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def events(folder, kind):
    journal = folder / "study.jsonl"
    if not journal.exists():
        return []
    return [record.fields for record in eventlog.scan(journal) if record.event == kind]


def finished(folder):
    return {fields["trial"] for fields in events(folder, "result")}


def pids(folder, number):
    return (folder / f"trial_{number:04}" / "pids").read_text().split()


def sessions(folder, number):
    """Every session that any process has written in a trial's folder."""
    journals = sorted((folder / f"trial_{number:04}").glob("*.jsonl"))
    return [
        record.s for path in journals for record in eventlog.scan(path) if record.event == "open"
    ]


def best_of_files(folder):
    """The lowest validation loss in any trial's run."""
    journals = folder.glob("trial_*/*.jsonl")
    return min(eventlog.load_run(path).summary["best_val_loss"] for path in journals)


def wait_until(is_so):
    until = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def rows_of(output):
    return [json.loads(line) for line in output.splitlines()]


def kill_twice_and_finish(folder, n_before, *flags):
    """A study whose tuner is killed at so many results, twice: the sessions of what was finished
    at the first kill that saw it so, and the last tuner's rows."""
    known = {}
    for n in n_before:
        tuner = started(folder, *flags)
        wait_until(lambda: len(finished(folder)) >= n or tuner.poll() is not None)  # noqa: B023
        tuner.kill()
        tuner.communicate()
        known = {number: sessions(folder, number) for number in finished(folder)} | known
    done = subprocess.run(
        command(folder, *flags, "--json"), capture_output=True, text=True, check=True
    )
    return known, rows_of(done.stdout)


def test_a_tuner_killed_twice_repeats_nothing_and_finds_the_best_of_the_run_files(tmp_path, fake):
    folder = tmp_path / "study"
    flags = ("--param", LR, "--command", fake + " --nap=0.03", "--trials", 8, "--jobs", 2)

    known, rows = kill_twice_and_finish(folder, (2, 5), *flags)

    assert len(known) >= 5
    assert {number: sessions(folder, number) for number in known} == known
    assert Counter(row["trial"] for row in rows) == Counter(range(8))
    # Whether a trial is pruned depends on how far it is when the tuner looks.
    assert {row["state"] for row in rows} - {"pruned"} == {"complete"}
    assert rows[0]["best"]
    assert rows[0]["value"] == best_of_files(folder)
    assert (folder / "study.png").stat().st_size > 10_000


def test_a_trial_that_outlives_its_tuner_is_adopted(tmp_path, fake):
    folder = tmp_path / "study"
    flags = ("--param", LR, "--command", fake + " --nap=0.4", "--trials", 1)
    tuner = started(folder, *flags)
    wait_until(lambda: list(folder.glob("trial_0000/*.jsonl")))
    tuner.kill()
    tuner.communicate()

    code = tune(folder)

    assert code == 0
    assert len(pids(folder, 0)) == 1
    assert [fields["state"] for fields in events(folder, "result")] == ["complete"]


def test_a_trial_that_died_with_its_tuner_is_continued(tmp_path, fake):
    folder = tmp_path / "study"
    flags = ("--param", LR, "--command", fake + " --nap=0.2", "--trials", 1)
    tuner = started(folder, *flags)
    wait_until(lambda: (folder / "trial_0000" / "pids").exists() and pids(folder, 0))
    tuner.kill()
    tuner.communicate()
    os.kill(int(pids(folder, 0)[0]), signal.SIGKILL)

    code = tune(folder, "--command", fake)

    assert code == 0
    assert len(pids(folder, 0)) == 2
    assert [fields["state"] for fields in events(folder, "result")] == ["complete"]


def test_a_study_that_is_stopped_stops_its_trials_and_can_be_continued(tmp_path, fake):
    folder = tmp_path / "study"
    tuner = started(folder, "--param", LR, "--command", fake + " --nap=0.3", "--trials", 2)
    wait_until(lambda: list(folder.glob("trial_0000/*.jsonl")))

    tuner.terminate()
    output, _ = tuner.communicate()

    (run,) = map(eventlog.load_run, folder.glob("trial_0000/*.jsonl"))
    assert run.status == "interrupted"
    assert "to continue: runs tune" in output
    assert tune(folder, "--command", fake) == 0
    assert finished(folder) == {0, 1}


def test_a_trial_that_is_worse_than_the_others_is_pruned(tmp_path, fake, capsys):
    folder = tmp_path / "study"
    flags = ("--command", fake + " --nap=0.1", "--sampler", "grid", "--trials", 5)

    code = tune(folder, "--param", "lr=0.1|0.2|0.15|0.12|0.9", *flags)

    last = events(folder, "result")[-1]
    assert code == 0
    assert (last["trial"], last["state"]) == (4, "pruned")
    assert main(["ls", str(folder / "trial_0004"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["status"], row["tags"]) == ("interrupted", ["pruned"])


def test_a_pruned_trial_stays_pruned_if_its_tuner_is_killed(tmp_path, fake, monkeypatch):
    folder = tmp_path / "study"
    monkeypatch.setattr(Study, "report", lambda self, number, iter_num, value: True)
    monkeypatch.setattr(Study, "tell", lambda *_, **__: sys.exit("killed"))

    with pytest.raises(SystemExit, match="killed"):
        tune(folder, "--param", LR, "--command", fake + " --nap=0.1", "--trials", 1)

    (journal,) = folder.glob("trial_0000/*.jsonl")
    assert eventlog.load_run(journal).journal["tags"] == ["pruned"]


def test_the_runs_of_a_study_are_a_group_with_their_parameters(tmp_path, fake, capsys):
    folder = tmp_path / "lr_study"
    tune(folder, "--param", "lr=0.1|0.2", "--command", fake, "--sampler", "grid")
    capsys.readouterr()

    where = "group = 'lr_study' and params.lr < 0.15"
    code = main(["ls", str(folder), "--where", where, "--json"])

    (row,) = rows_of(capsys.readouterr().out)
    assert code == 0
    assert row["metadata"] == {"group": "lr_study", "trial": 0, "params": {"lr": 0.1}}


def test_the_folder_of_a_study_stands_for_its_trials_and_ls_shows_the_group(tmp_path, fake, capsys):
    folder = tmp_path / "lr_study"
    tune(folder, "--param", "lr=0.1|0.2", "--command", fake, "--sampler", "grid")
    capsys.readouterr()

    assert main(["ls", str(folder)]) == 0

    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "group" in head
    assert [row.split()[-1] for row in rows] == ["lr_study", "lr_study"]


def test_the_figure_of_a_study_has_a_line_for_each_trial(tmp_path, fake):
    folder = tmp_path / "study"
    tune(folder, "--param", "lr=0.1|0.2|0.6", "--command", fake, "--sampler", "grid")
    before = config_of(folder)
    plan = Plan(
        space.Space(lr=space.parameter("lr", before["space"]["lr"], "lr")),
        Metric(), before["command"], sampler="grid", n_trials=3,
    )  # fmt: skip

    with Study(folder, plan) as study:
        lines = draw(study).axes[2].get_lines()

    ends = [tuple(line.get_ydata()) for line in lines]
    best = min(ends, key=lambda ys: ys[-1])
    assert len(ends) == 3
    assert best == min(ends, key=lambda ys: ys[0])  # lr=0.1 is the lowest of its axis
    assert all(0 <= y <= 1 for ys in ends for y in ys)


def test_the_projects_own_trainer_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    args = shlex.split(trainer())

    assert Path(args[2]).name == "train.py"
    assert Path(args[2]).is_file()


def test_each_point_of_a_grid_is_tried_once(tmp_path, fake, capsys):
    flags = ("--sampler", "grid", "--pruner", "none", "--jobs", 2, "--json")

    code = tune(tmp_path / "s", "--param", "lr=0.1|0.2|0.3", "--command", fake, *flags)

    rows = rows_of(capsys.readouterr().out)
    assert code == 0
    assert sorted(row["params"]["lr"] for row in rows) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo some words; echo 'ValueError: no such data' >&2; exit 3",
         "exit status 3: ValueError: no such data"),
        ("echo 'python: x.py: [Errno 2] No such file'; echo 'traceback : see'; exit 2",
         "exit status 2: python: x.py: [Errno 2] No such file"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("true", "exited with 0, but left no journal"),
        ("exec sleep 100", "no new event for 0.3 s"),
        ("trap '' TERM; while :; do sleep 0.05; done", "no new event for 0.3 s"),
    ],
    ids=["crashes", "is not there", "is killed", "does nothing", "hangs", "will not end"],
)  # fmt: skip
def test_a_study_with_a_failing_command_ends_and_names_the_reason(
    tmp_path, capsys, script, message
):
    folder = tmp_path / "study"
    template = shlex.join(["sh", "-c", script, "{lr}", "{out_dir}"])
    patience = ("--silence", 0.3, "--grace", 0.2, "--failures", 2)

    code = tune(folder, "--param", LR, "--command", template, *patience)

    errors = capsys.readouterr().err
    assert code == 1
    assert len(finished(folder)) == 2
    assert f"trial 1 failed: {message}" in errors
    assert "2 trials in a row failed" in errors


# A run of metrics alone: the accuracy is best at lr = 0.1, in the middle of the run.
METRICS = """
import sys, eventlog
lr, out_dir = float(sys.argv[1]), sys.argv[2]
with eventlog.init(dir=out_dir, save_interval=0) as run:
    for step in range(5):
        run.log({"val/acc": 1 - abs(lr - 0.1) - abs(step - 2) / 10, "val": {"f1": lr}}, step=step)
"""


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("val/acc:best", 1.0), ("val/acc", 0.8), ("-val.f1", 0.5), ("+val.f1", 0.1)],
)
def test_any_series_is_a_metric_with_the_direction_of_its_name_or_a_sign(
    tmp_path, capsys, metric, expected
):
    (tmp_path / "train.py").write_text(METRICS)
    template = shlex.join([sys.executable, str(tmp_path / "train.py"), "{lr}", "{out_dir}"])
    flags = ("--sampler", "grid", "--param", "lr=0.1|0.5", "--pruner", "none", "--json")

    assert tune(tmp_path / "study", *flags, "--command", template, f"--metric={metric}") == 0

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    (best,) = (row for row in rows if row["best"])
    assert best["value"] == pytest.approx(expected)


def test_a_metric_that_no_evaluation_has_is_named(tmp_path, fake, capsys):
    flags = ("--param", LR, "--command", fake, "--metric", "accuracy", "--failures", 1)

    code = tune(tmp_path / "study", *flags)

    assert code == 1
    assert "completed, but has no number as accuracy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "no parameters"),
        (("--param", "lr=2..1"), "--param lr: 2..1"),
        (("--param", LR, "--sampler", "grid"), "lr: 0.0..1.0: a grid needs steps"),
        (("--param", LR, "--command", "true {lr}"), "must have {out_dir}"),
        (("--param", LR, "--command", "true {out_dir}"), "--param lr: the command must have"),
        (("--param", LR, "--command", "true {lr} {out_dir} {x}"), "unknown parameter {x}"),
        (("--param", LR, "--command", "no-such-program {lr} {out_dir}"), "program not found"),
        (("--param", LR, "--command", "true {lr} {out_dir} '"), "No closing quotation"),
        (("--param", LR, "--trials", "0"), "--trials: must be"),
        (("--param", LR, "--jobs", "0"), "--jobs: must be"),
    ],
)
def test_invalid_flags_are_refused_before_a_trial_starts(tmp_path, capsys, flags, message):
    code = tune(tmp_path / "study", *flags)

    errors = capsys.readouterr().err
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_another_space_in_the_same_folder_is_refused_by_name(tmp_path, fake, capsys):
    flags = ("--sampler", "grid", "--command", fake)
    tune(tmp_path / "study", "--param", "lr=0.1|0.2", *flags)

    code = tune(tmp_path / "study", "--param", "lr=0.1|0.3", *flags)

    assert code == 2
    assert "lr: the study in" in capsys.readouterr().err


def test_a_second_tuner_of_the_same_study_is_refused(tmp_path, capsys):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.jsonl").touch()

    config = {"space": {"lr": "0.0..1.0"}, "metric": "best_val_loss", "maximize": False}

    with eventlog.open_run(folder, journal=folder / "study.jsonl", config=config, save_interval=0):
        code = tune(folder, "--param", LR, "--command", "true {lr} {out_dir}")

    assert code == 1
    assert "study.jsonl" in capsys.readouterr().err
    assert not list(folder.glob("trial_*"))


def test_a_command_template_is_filled_with_the_parameters():
    template = Template("go {args} --w={width} to {out_dir}/{{x}}", ["lr", "width"], ["--n={n}"])

    args = template.fill({"lr": 0.5, "width": 3}, out_dir="o", study="s", trial=1)

    assert args == ["go", "--lr=0.5", "--w=3", "to", "o/{x}", "--n={n}"]


def test_cores_and_gpus_are_divided_among_jobs(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(slots, "n_usable_cores", lambda: 16)

    two = [slot.environment() for slot in slots.divide(2, ("0", "1", "2", "3"))]
    three = [slot.environment() for slot in slots.divide(3, ("0", "1"))]
    none = [slot.environment() for slot in slots.divide(1, ())]

    assert two == [
        {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": "0,1"},
        {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": "2,3"},
    ]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in three] == ["0", "1", "0"]
    assert none == [{"OMP_NUM_THREADS": "16"}]


def test_no_jobs_are_refused():
    with pytest.raises(Refusal, match="--jobs: must be"):
        slots.divide(0)


@pytest.mark.slow
def test_the_real_trainer_is_tuned_over_two_kills_of_the_tuner(tmp_path):
    """pytest -m slow -n 0 -s tests/tools/tuning/test_tune.py"""
    folder = tmp_path / "study"
    text = tmp_path / "book.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 400)
    small = {
        "input": text, "data_dir": tmp_path / "data", "tokenizer": "bytes", "n_head": 2,
        "n_embd": 16, "block_size": 16, "batch_size": 4, "max_iters": 60, "eval_interval": 10,
        "eval_iters": 3, "warmup_iters": 2, "device": "cpu", "peak_flops": 1e12,
    }  # fmt: skip
    arguments = shlex.join(f"--{name}={value}" for name, value in small.items())
    flags = (
        "--param", "learning_rate=log 1e-4..1e-1", "--param", "n_layer=1|2", f"--args={arguments}",
        "--trials", 12, "--jobs", 2, "--silence", 300,
    )  # fmt: skip
    global WAIT_S
    before, WAIT_S = WAIT_S, 600
    try:
        known, rows = kill_twice_and_finish(folder, (3, 7), *flags)
    finally:
        WAIT_S = before

    for row in rows:
        print(row)
    assert len(known) >= 7
    assert {number: sessions(folder, number) for number in known} == known
    assert Counter(row["trial"] for row in rows) == Counter(range(12))
    assert rows[0]["value"] == best_of_files(folder)


def test_a_study_whose_command_had_a_credential_asks_for_it_again(tmp_path, capsys):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.jsonl").touch()
    config = {
        "space": {"lr": "1e-4..1e-2"},
        "command": "python t.py --hf_token=opensesame {args} {out_dir}",
    }
    with eventlog.open_run(folder, journal=folder / "study.jsonl", config=config, save_interval=0):
        pass

    assert main(["tune", str(folder)]) == 2

    assert "--command: give it again" in capsys.readouterr().err
    assert b"opensesame" not in (folder / "study.jsonl").read_bytes()
