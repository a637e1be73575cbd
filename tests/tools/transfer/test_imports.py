"""`runs import`: what other loggers wrote, value by value, once."""

import csv
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

import eventlog
from tools.cli import main
from tools.core.history import History, load

GOLDEN = Path(__file__).parents[1] / "golden"
GUIDE = Path(__file__).parents[2] / "golden"


def made(name):
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def imported(source, out, *flags):
    """The run that `runs import` makes of a source, from its run JSON."""
    assert main(["import", str(source), "--out", str(out), *flags]) == 0
    (path,) = out.glob("*.json")
    return eventlog.load_run(path)


def logged(run, kind="iterations"):
    """Rows as they were logged, a NaN in its place, without what was not logged."""
    return {row["iter"]: row for row in History(run).rows(kind)}


def metrics(run):
    """The `metrics` rows by step."""
    return {row["step"]: eventlog.restore_nonfinite(row) for row in run.metrics}


def equal(rows, key, expected):
    """Whether `key` of the rows is exactly `expected`, by iteration, bit for bit."""
    found = {i: row[key] for i, row in rows.items() if row.get(key) is not None}
    return found.keys() == expected.keys() and all(same(found[i], expected[i]) for i in found)


def same(a, b):
    """NaN is NaN, and 0.0 is not -0.0."""
    return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)


# ---- each format, from files that its own system wrote


def test_hf_trainer_state_is_imported_value_by_value(tmp_path):
    run = imported(GOLDEN / "hf" / "trainer_state.json", tmp_path)

    log = json.loads((GOLDEN / "hf" / "trainer_state.json").read_text())["log_history"]
    rows, evals, others = logged(run), logged(run, "evals"), metrics(run)
    assert len(rows) == 20
    for name in ("loss", "grad_norm"):
        assert equal(rows, name, {e["step"]: e[name] for e in log if name in e})
    assert equal(evals, "val_loss", {e["step"]: e["eval_loss"] for e in log if "eval_loss" in e})
    for name in {name for e in log for name in e} - {"loss", "grad_norm", "eval_loss", "step"}:
        assert equal(others, name, {e["step"]: e[name] for e in log if name in e})
    assert run.config["max_steps"] == 20
    assert run.status == "completed"


def test_a_trainer_state_with_nan_tokens_keeps_them(tmp_path):
    entries = [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}]
    state = {"log_history": entries, "global_step": 2, "max_steps": 5}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))

    run = imported(tmp_path / "trainer_state.json", tmp_path / "out")

    assert equal(logged(run), "loss", {1: math.nan, 2: math.inf})
    assert run.status == "interrupted"


def test_lightning_metrics_are_imported_value_by_value(tmp_path):
    run = imported(GOLDEN / "lightning" / "version_0", tmp_path)

    with open(GOLDEN / "lightning" / "version_0" / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))

    def column(name):
        return {int(row["step"]): float(row[name]) for row in lines if row[name]}

    assert len(column("train_loss_step")) == 12
    assert equal(logged(run), "loss", column("train_loss_step"))
    assert equal(logged(run, "evals"), "val_loss", column("val_loss"))
    for name in ("nan_metric", "train_loss_epoch", "epoch"):
        assert equal(metrics(run), name, column(name))
    assert run.config == {"lr": 0.02} or "0.02" in run.metadata["hparams.yaml"]


def test_nanogpt_console_output_is_imported_line_by_line(tmp_path):
    run = imported(GOLDEN / "nanogpt.txt", tmp_path)

    text = (GOLDEN / "nanogpt.txt").read_text()
    lines = re.findall(r"^iter (\d+): loss (.*), time (.*)ms, mfu (.*)%$", text, re.MULTILINE)
    steps = re.findall(r"^step (\d+): train loss (.*), val loss (.*)$", text, re.MULTILINE)
    assert [(len(lines), len(steps))] == [(13, 3)]
    for k, key in enumerate(("loss", "time_ms", "mfu"), 1):
        assert equal(logged(run), key, {int(line[0]): float(line[k]) for line in lines})
    for k, key in enumerate(("train_loss", "val_loss"), 1):
        assert equal(logged(run, "evals"), key, {int(step[0]): float(step[k]) for step in steps})
    assert [c["path"] for c in run.checkpoints] == ["out-tiny/ckpt.pt"] * 2
    assert run.config | {"eval_iters": 2, "n_embd": 16, "device": "cpu"} == run.config
    assert run.metadata["tokens_per_iter"] == 128


@pytest.mark.parametrize("name", ["guide", "guide_crashed", "guide_mfu_object", "guide_nan"])
def test_the_guides_logger_is_imported_in_both_schemas(name, tmp_path):
    run = imported(GUIDE / f"{name}.json", tmp_path)

    document = json.loads((GUIDE / f"{name}.json").read_text())
    iterations = document["training_iterations"]
    rows, evals, checkpoints = logged(run), logged(run, "evals"), logged(run, "checkpoints")
    mfus = {r["iter"]: r["mfu"] for r in iterations}
    mfus = {i: m["mfu_percent"] if isinstance(m, dict) else m for i, m in mfus.items()}
    assert equal(rows, "loss", {r["iter"]: r["loss"] for r in iterations})
    assert equal(rows, "time_ms", {r["iter"]: r["time_ms"] for r in iterations})
    assert equal(rows, "mfu", mfus)
    for key in ("train_loss", "val_loss", "lr"):
        assert equal(evals, key, {r["iter"]: r[key] for r in document["eval_steps"]})
    assert [c["timestamp"] for c in checkpoints.values()] == [
        c["timestamp"] for c in document["checkpoints"]
    ]
    assert run.config == document["config"]
    assert run.metadata.get("startup_info") == document.get("startup_info")
    assert run.status == ("interrupted" if name == "guide_crashed" else "completed")


def test_tensorboard_files_are_imported_value_by_value_and_the_later_value_wins(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    loss, other, started = made("loss"), made("other"), made("STARTED_S")

    run = imported(GOLDEN / "tensorboard", tmp_path)

    rows, evals = logged(run), logged(run, "evals")
    losses = {i: float32(loss(i)) for i in range(10)}
    losses |= {i: float32(loss(i, take=2)) for i in (10, 11, 12)}
    assert equal(rows, "loss", losses)
    assert equal(metrics(run), "MFU", {i: float32(other(i)) for i in range(2, 10)})
    assert equal(evals, "val_loss", {i: float32(other(i)) for i in (0, 5)})
    assert metrics(run)[12]["double"] == 0.1
    assert metrics(run)[12]["words/text_summary"] == "no number"
    assert rows[3]["timestamp"] == "2023-11-14T22:13:23.250000+00:00"
    assert eventlog_time(rows[12]["timestamp"]) == started + 212
    assert run.metadata["imported"]["left_out"] == ["5 values that a restart superseded"]


def test_wandb_offline_files_are_imported_value_by_value(tmp_path):
    pytest.importorskip("wandb", reason="pip install wandb")
    loss, other, started = made("loss"), made("other"), made("STARTED_S")

    run = imported(GOLDEN / "wandb.wandb", tmp_path)

    rows, evals = logged(run), logged(run, "evals")
    assert equal(rows, "loss", {10 * i: loss(i) for i in range(12)})
    assert equal(rows, "time_ms", {10 * i: other(i) for i in range(12)})
    assert equal(evals, "train_loss", {10 * i: other(i + 1) for i in (0, 5, 10)})
    assert equal(evals, "val_loss", {10 * i: other(i + 2) for i in (0, 5, 10)})
    assert metrics(run)[70]["words"] == "no number"
    assert [eventlog_time(row["timestamp"]) for row in rows.values()] == [
        started + i for i in range(12)
    ]
    assert run.config == {"lr": 3e-4, "net": {"n_layer": 2}, "betas": [0.9, 0.95]}
    assert run.run_name.startswith("golden run_")
    assert run.status == "completed"


def float32(value):
    import struct

    return struct.unpack("f", struct.pack("f", value))[0]


def eventlog_time(text):
    from eventlog import seconds

    return seconds(text)


# ---- what the rest of the tools see


def test_the_source_is_named_by_file_size_hash_and_format(tmp_path):
    source = GOLDEN / "nanogpt.txt"

    run = imported(source, tmp_path)

    import hashlib

    source_files = run.metadata["imported"]
    assert source_files["format"] == "nanogpt"
    assert source_files["importer"].startswith("runjournal ")
    assert source_files["files"] == [
        {
            "file": str(source.resolve()),
            "size_bytes": source.stat().st_size,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    ]


def test_an_imported_run_passes_verify_and_all_tools_read_it(tmp_path, capsys):
    imported(GUIDE / "guide.json", tmp_path)

    (journal,) = tmp_path.glob("*.jsonl")
    verified = subprocess.run([sys.executable, "-m", "eventlog", "verify", str(journal)])
    capsys.readouterr()
    assert verified.returncode == 0
    assert main(["ls", "--json", str(tmp_path)]) == 0
    assert orjson.loads(capsys.readouterr().out)["best_val_loss"] == 7.1189


# ---- once


def test_a_second_import_of_the_same_source_adds_nothing(tmp_path, capsys):
    imported(GUIDE / "guide.json", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()

    shutil.copy(GUIDE / "guide.json", tmp_path / "copy")  # the same bytes elsewhere
    (tmp_path / "copy").rename(tmp_path.parent / "copy.json")
    again = main(["import", str(tmp_path.parent / "copy.json"), "--out", str(tmp_path), "--json"])

    assert again == 0
    assert orjson.loads(capsys.readouterr().out)["state"] == "known"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_import_killed_at_any_moment_is_continued_and_nothing_is_imported_twice(tmp_path):
    source = tmp_path / "console.txt"
    lines = [f"iter {i}: loss {i / 8:.4f}, time 1.00ms, mfu 1.00%\n" for i in range(8000)]
    source.write_text("".join(lines))
    out = tmp_path / "out"

    n_killed = 0
    for delay_ms in range(0, 80, 10):
        n_killed += killed_import(source, out, delay_ms / 1000)
    run = imported(source, out)

    assert n_killed > 3
    assert equal(logged(run), "loss", {i: i / 8 for i in range(8000)})
    assert run.journal["superseded"] == {"iterations": 0, "evals": 0, "checkpoints": 0}
    assert run.journal["events"]["iter"] == 8000


def killed_import(source, out, delay_s):
    """Import in a process of its own that is killed so long after it began to log."""
    child = os.fork()
    if child == 0:
        main(["import", str(source), "--out", str(out)])
        os._exit(0)
    size = sum(path.stat().st_size for path in out.glob("*.jsonl"))
    for _ in range(2000):
        if sum(path.stat().st_size for path in out.glob("*.jsonl")) > size:
            break
        time.sleep(0.001)
    time.sleep(delay_s / 4)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


# ---- bad sources


def test_a_cut_csv_is_imported_up_to_its_last_complete_line(tmp_path, capsys):
    data = (GOLDEN / "lightning" / "version_0" / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(data[: data.index(b"4.474") + 30])

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert list(logged(run)) == [1]
    assert "line 3 is not a row" in capsys.readouterr().err


def test_a_number_that_may_have_been_cut_is_not_imported(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("step,loss\n0,3.5\n1,2.7")  # perhaps 2.75

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert equal(logged(run), "loss", {0: 3.5})
    assert "line 3 is not a row" in capsys.readouterr().err


def test_a_step_that_was_logged_again_has_its_later_value(tmp_path, capsys):
    rows = [(0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0), (1, 4.5), (2, 3.5)]
    lines = [f"{step},{loss}" for step, loss in rows]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,loss", *lines, ""]))

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert equal(logged(run), "loss", {0: 5.0, 1: 4.5, 2: 3.5, 3: 2.0})
    assert "2 values of 'loss': superseded" in capsys.readouterr().err


def test_a_damaged_event_file_is_imported_without_the_damaged_record_which_is_named(
    tmp_path, capsys
):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    source = sorted((GOLDEN / "tensorboard").iterdir())[0]
    data = bytearray(source.read_bytes())
    data[data.index(b"Loss/train") + 12] ^= 1  # in the first point's data
    (tmp_path / source.name).write_bytes(data[:-5])

    run = imported(tmp_path / source.name, tmp_path / "out")

    err = capsys.readouterr().err
    assert list(logged(run)) == list(range(1, 12))
    assert "a damaged record of" in err
    assert "torn or damaged" in err
    assert list(logged(run, "evals")) == [0, 5]


def test_a_cut_wandb_file_is_imported_up_to_its_last_complete_record(tmp_path, capsys):
    pytest.importorskip("wandb", reason="pip install wandb")
    data = (GOLDEN / "wandb.wandb").read_bytes()
    (tmp_path / "cut.wandb").write_bytes(data[: len(data) // 2])

    run = imported(tmp_path / "cut.wandb", tmp_path / "out")

    assert 0 < len(run.training_iterations) < 12
    assert run.status == "interrupted"
    assert "incomplete" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.json", b"", "unknown format"),
        ("noise.bin", bytes(range(256)), "unknown format"),
        ("trainer_state.json", b'{"log_history": [', "not JSON"),
        ("x.json", b'{"training_iterations": [', "not a run JSON"),
    ],
)
def test_a_bad_source_is_one_line_and_nothing_is_written(name, data, message, tmp_path, capsys):
    (tmp_path / name).write_bytes(data)

    assert main(["import", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1

    out, err = capsys.readouterr()
    assert out.endswith("\n0 imported, 0 without data, 1 refused\n")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("trainer_state.json", b'{"log_history": []}'),
        ("metrics.csv", b"step,loss\n"),
    ],
)
def test_a_run_without_data_is_named_and_no_failure(name, data, tmp_path, capsys):
    (tmp_path / name).write_bytes(data)

    assert main(["import", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 0

    out, err = capsys.readouterr()
    assert "nothing to import" in err
    assert out.endswith("\n0 imported, 1 without data, 0 refused\n")
    assert not (tmp_path / "out").exists()


def test_a_run_json_of_our_own_is_refused_by_name(tmp_path, capsys):
    imported(GUIDE / "guide.json", tmp_path)
    (ours,) = tmp_path.glob("*.json")

    assert main(["import", str(ours), "--out", str(tmp_path)]) == 1

    assert "already" in capsys.readouterr().err


def test_the_metric_named_with_loss_is_the_loss(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,my/nll,my/holdout\n0,3.5,\n1,2.5,2.75\n")

    run = imported(
        tmp_path / "metrics.csv", tmp_path / "out", "--loss=my/nll", "--val-loss=my/holdout"
    )

    assert equal(logged(run), "loss", {0: 3.5, 1: 2.5})
    assert equal(logged(run, "evals"), "val_loss", {1: 2.75})


def test_imported_times_are_those_of_the_source(tmp_path):
    run = imported(GUIDE / "guide.json", tmp_path)

    assert run.eval_steps[0]["timestamp"] == "2023-10-31T16:24:01.000001"
    assert run.metadata["imported"]["started"] == "2023-10-31T16:23:45.123456"
    assert load(run.path).run.eval_steps[0]["timestamp"] == "2023-10-31T16:24:01.000001"


# ---- folders, resumed and grown runs


def csv_of(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.csv").write_text(text)
    return folder / "metrics.csv"


def test_every_run_of_a_folder_is_tried_and_counted(tmp_path, capsys):
    logs = tmp_path / "logs"
    csv_of(logs / "version_0", "step,loss\n")  # has no data
    csv_of(logs / "version_1", "step,loss\n0,1.5\n")
    csv_of(logs / "version_2", "step,loss\n0\n")  # has no whole row
    csv_of(logs / "version_3", "step,loss\n0,2.5\n")

    assert main(["import", str(logs), "--out", str(tmp_path / "out")]) == 1

    out, _ = capsys.readouterr()
    assert out.endswith("\n2 imported, 1 without data, 1 refused\n")
    assert "line 2 is not a row" in out


def test_json_has_a_row_for_each_run_of_a_folder(tmp_path, capsys):
    csv_of(tmp_path / "logs" / "version_0", "step,loss\n")
    csv_of(tmp_path / "logs" / "version_1", "step,loss\n0,1.5\n")

    assert main(["import", str(tmp_path / "logs"), "--out", str(tmp_path / "out"), "--json"]) == 0

    out, err = capsys.readouterr()
    rows = [orjson.loads(line) for line in out.splitlines()]
    assert [row["state"] for row in rows] == ["no data", "new"]
    assert [row["why"] for row in rows] == ["has nothing to import as lightning", None]
    assert err.endswith("\n1 imported, 1 without data, 0 refused\n")


def test_a_run_that_has_grown_is_completed_in_the_same_journal(tmp_path, capsys):
    before = "step,loss,acc,val_loss\n0,3.5,1,\n1,2.5,2,9.0\n"
    csv_of(tmp_path, before)
    imported(tmp_path / "metrics.csv", tmp_path / "out")
    capsys.readouterr()
    csv_of(tmp_path, before + "1,,,8.0\n2,1.5,3,7.0\n")

    run = imported(tmp_path / "metrics.csv", tmp_path / "out", "--json")

    row = orjson.loads(capsys.readouterr().out)
    assert row["state"] == "grown"
    assert equal(logged(run), "loss", {0: 3.5, 1: 2.5, 2: 1.5})
    assert equal(logged(run, "evals"), "val_loss", {1: 8.0, 2: 7.0})
    assert equal(metrics(run), "acc", {0: 1.0, 1: 2.0, 2: 3.0})


def test_rows_behind_the_last_step_supersede_nothing(tmp_path):
    before = "step,loss,acc\n0,3.5,1\n1,2.5,2\n"
    csv_of(tmp_path, before)
    imported(tmp_path / "metrics.csv", tmp_path / "out")
    csv_of(tmp_path, before + "2,1.5,3\n")

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert equal(metrics(run), "acc", {0: 1.0, 1: 2.0, 2: 3.0})
    assert run.journal["superseded"] == {"iterations": 0, "evals": 0, "checkpoints": 0}


def test_another_run_in_the_same_file_is_another_run(tmp_path):
    csv_of(tmp_path, "step,loss\n0,3.5\n")
    imported(tmp_path / "metrics.csv", tmp_path / "out")
    csv_of(tmp_path, "step,loss\n0,7.5\n")

    assert main(["import", str(tmp_path / "metrics.csv"), "--out", str(tmp_path / "out")]) == 0

    runs = map(eventlog.load_run, (tmp_path / "out").glob("*.json"))
    assert sorted(run.training_iterations[0]["loss"] for run in runs) == [3.5, 7.5]


def test_a_loss_that_is_text_somewhere_stays_under_its_own_name(tmp_path):
    csv_of(tmp_path, "step,loss\n0,3.5\n1,diverged\n")

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert {i: row["loss"] for i, row in metrics(run).items()} == {0: 3.5, 1: "diverged"}


def test_every_value_at_a_step_is_in_the_journal(tmp_path):
    csv_of(tmp_path, "step,loss,lr,acc\n0,3.5,0.5,1\n0,2.5,,2\n")

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert logged(run)[0] | {"loss": 2.5, "lr": 0.5} == logged(run)[0]
    assert metrics(run)[0]["acc"] == 2.0
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    values = [r.fields.get("acc", r.fields.get("loss")) for r in eventlog.scan(journal)]
    assert {3.5, 2.5, 1.0, 2.0} <= set(values)


def test_of_several_checkpoints_the_last_one_is_read(tmp_path):
    for step in (5, 10):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        entries = [{"step": i, "loss": i / 2} for i in range(1, step + 1)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": entries}))

    run = imported(tmp_path / "run", tmp_path / "out")

    assert len(logged(run)) == 10


def test_a_trainer_that_stopped_early_has_completed(tmp_path):
    control = {"TrainerControl": {"args": {"should_training_stop": True}}}
    state = {"log_history": [{"step": 1, "loss": 1.0}], "global_step": 1, "max_steps": 9}
    state |= {"stateful_callbacks": control, "best_metric": 0.5}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))

    run = imported(tmp_path / "trainer_state.json", tmp_path / "out")

    assert run.status == "completed"
    assert run.journal["summary"] == {"best_metric": 0.5}


def wandb_run(folder, rows, **more):
    """Log rows with W&B itself, offline."""
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    quiet = wandb.Settings(
        console="off", disable_code=True, disable_git=True, silent=True,
        x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip
    run = wandb.init(project="p", mode="offline", dir=str(folder), settings=quiet, **more)
    for row in rows:
        run.log(row)
    run.summary.update({"best": 0.25})
    run.finish()


def test_a_step_column_of_wandb_is_a_value_and_no_axis(tmp_path):
    rows = [{"loss": epoch * 100 + i, "step": i} for epoch in range(3) for i in range(10)]
    wandb_run(tmp_path, rows)

    run = imported(tmp_path / "wandb", tmp_path / "out")

    assert equal(logged(run), "loss", {i: float(row["loss"]) for i, row in enumerate(rows)})
    assert equal(metrics(run), "step_", {i: row["step"] for i, row in enumerate(rows)})
    assert run.metadata["imported"]["renamed"] == {"step": "step_"}
    assert run.journal["summary"]["best"] == 0.25


def test_nested_metrics_of_wandb_have_dotted_names(tmp_path):
    wandb_run(tmp_path, [{"train": {"loss": 1 / (i + 1), "acc": i}, "w": "NaN"} for i in range(3)])

    run = imported(tmp_path / "wandb", tmp_path / "out")

    assert equal(metrics(run), "train.loss", {i: 1 / (i + 1) for i in range(3)})
    assert equal(metrics(run), "train.acc", {i: i for i in range(3)})
    assert metrics(run)[0]["w"] == "NaN"


def test_the_files_of_a_resumed_run_of_wandb_are_one_run(tmp_path):
    wandb_run(tmp_path, [{"loss": 9.0 - i} for i in range(3)], id="resumed1")
    wandb_run(tmp_path, [{"loss": 6.0 - i} for i in range(3)], id="resumed1", resume="allow")

    run = imported(tmp_path / "wandb", tmp_path / "out")

    assert equal(logged(run), "loss", {i: 9.0 - i for i in range(6)})


def test_images_and_histograms_of_tensorboard_are_counted_as_left_out(tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    import torch
    from torch.utils.tensorboard import SummaryWriter

    for first in (0, 2):  # two event files of one run
        writer = SummaryWriter(str(tmp_path / "run"), filename_suffix=str(first))
        for i in (first, first + 1):
            writer.add_scalar("a/b", i / 2, i)
            writer.add_histogram("weights", torch.arange(4.0), i)
        writer.close()

    run = imported(tmp_path / "run", tmp_path / "out")

    assert equal(metrics(run), "a/b", {i: i / 2 for i in range(4)})
    assert "left out: 4 values of 'weights': not scalars" in capsys.readouterr().err


def test_a_loss_that_is_logged_again_leaves_the_other_values_of_its_step(tmp_path):
    csv_of(tmp_path, "step,loss,acc,lr\n0,3.5,1,0.5\n0,2.5,,0.25\n")

    run = imported(tmp_path / "metrics.csv", tmp_path / "out")

    assert (logged(run)[0]["loss"], logged(run)[0]["lr"], metrics(run)[0]["acc"]) == (
        2.5,
        0.25,
        1.0,
    )
