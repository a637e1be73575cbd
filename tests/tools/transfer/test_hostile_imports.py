"""Files crafted to break an importer: one line, exit code 1, bounded time and memory."""

import json
import os
import resource
import struct
import subprocess
import sys
import time

import orjson
import pytest

import eventlog
from tools.cli import main
from tools.transfer.sources.metrics import Metrics
from tools.transfer.sources.reading import plain_yaml
from tools.transfer.sources.source import USUAL, SourceRun

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = (
    "a0: &a0 {"
    + ",".join(f"k{n}: 1" for n in range(9))
    + "}\n"
    + "".join(f"a{n}: &a{n}\n  <<: [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
)
METRICS = "epoch,step,train_loss,val_loss\n0,1,2.5,\n0,2,2.25,2.125\n"


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


def imported(path, tmp_path, *args):
    """Exit code and stderr of the real command, in 3 GB and 60 s."""
    command = [sys.executable, "-m", "tools.cli", "import", str(path), "--out", str(tmp_path / "o")]
    done = subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=60, preexec_fn=limited
    )
    return done.returncode, done.stderr


# ---- one line and exit code 1

DEEP = b"[" * 500_000
ODD = {
    "deep hf": ("trainer_state.json", b'{"log_history":' + DEEP, "hf"),
    "deep guide": ("a.json", b'{"training_iterations":' + DEEP, "guide"),
    "binary hf": ("trainer_state.json", bytes(range(256)) * 99, "hf"),
    "list hf": ("trainer_state.json", b"[1]", "hf"),
    "rows that are numbers": ("b.json", b'{"training_iterations":[1],"eval_steps":[[]]}', "guide"),
    "binary csv": ("metrics.csv", bytes(range(256)) * 999, "lightning"),
    "field without an end": ("metrics.csv", b'step,loss\n"' + b"a" * (1 << 20), "lightning"),
    "line without an end": ("log.txt", b"x" * (64 << 20), "nanogpt"),
    "binary log": ("log.txt", os.urandom(100_000), "nanogpt"),
    "binary events": ("a.tfevents.1", os.urandom(10_000), "tensorboard"),
    "exabytes": ("a.tfevents.1", struct.pack("<QI", 1 << 62, 0) + bytes(99), "tensorboard"),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_an_unreadable_file_is_one_line_and_exit_code_one(what, tmp_path, capsys):
    name, data, format = ODD[what]
    if format == "tensorboard":
        pytest.importorskip("tensorboard")
    path = tmp_path / name
    path.write_bytes(data)

    for args in (["--from", format], []):
        assert main(["import", str(path), "--out", str(tmp_path / "out"), *args]) == 1

        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(path) in err
    assert not list((tmp_path).glob("out/*.jsonl"))


def test_a_fifo_is_refused_and_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "metrics.csv")

    assert main(["import", str(tmp_path / "metrics.csv"), "--out", str(tmp_path / "out")]) == 1

    assert "must be a file or a folder" in capsys.readouterr().err


# ---- what is odd in a file that is good otherwise


@pytest.mark.parametrize("bomb", [LAUGHS, MERGES, "a: " + "[" * 100_000, "&a [*a, *a]"])
def test_a_yaml_bomb_beside_the_metrics_costs_nothing(tmp_path, bomb):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "hparams.yaml").write_text(bomb)
    begun = time.monotonic()

    code, err = imported(tmp_path / "metrics.csv", tmp_path)

    assert (code, "Traceback" in err) == (0, False)
    assert time.monotonic() - begun < 20
    (path,) = (tmp_path / "o").glob("*.json")
    assert path.stat().st_size < 2 << 20
    assert len(eventlog.load_run(path).training_iterations) == 2


def test_yaml_with_a_few_aliases_is_read():
    assert plain_yaml("betas: &b [0.9, 0.95]\nagain: *b\nbase: {<<: {x: 1}}\n") == {
        "betas": [0.9, 0.95], "again": [0.9, 0.95], "base": {"x": 1},
    }  # fmt: skip


def test_odd_names_and_numbers_do_not_affect_the_others(tmp_path, capsys):
    path = tmp_path / "metrics.csv"
    rows = ["1,2.5,7", "1e300,2,7", "nan,2,7", '2,"' + "9" * 200_000 + '",7', "3,2.25,7"]
    path.write_text("step,train_loss,self\n" + "\n".join(rows) + "\n")
    log = tmp_path / "log.txt"
    log.write_text(
        f"x = {'(' * 5_000}\niter {'9' * 5_000}: loss 1.0, time 1.0ms, mfu 1.0%\n"
        + "y" * (4 << 20) + "\niter 0: loss 1.5, time 1.0ms, mfu 1.0%\n"
    )  # fmt: skip

    for source in (path, log):
        assert main(["import", str(source), "--out", str(tmp_path / "out"), "--json"]) == 0

        (row,) = map(orjson.loads, capsys.readouterr().out.splitlines())
        losses = [r["loss"] for r in eventlog.load_run(row["path"]).training_iterations]
        assert losses == ([2.5, 2.25] if source == path else [1.5])


def test_a_small_tensor_of_a_huge_shape_is_not_expanded(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    good, bomb = Event(step=1, wall_time=1e300), Event(step=2, wall_time=float("nan"))
    good.summary.value.add(tag="loss", simple_value=2.5)
    value = bomb.summary.value.add(tag="bomb")
    value.tensor.dtype = 1
    value.tensor.float_val.append(1.0)
    for size in (1 << 20, 1 << 20):
        value.tensor.tensor_shape.dim.add(size=size)
    odd = bomb.summary.value.add(tag="_hparams_")
    odd.metadata.plugin_data.plugin_name, odd.metadata.plugin_data.content = "hparams", b"\xff\xff"
    path = tmp_path / "events.tfevents.1"
    with path.open("wb") as file:
        for body in (good.SerializeToString(), bomb.SerializeToString()):
            length = struct.pack("<Q", len(body))
            file.write(length + struct.pack("<I", masked_crc32c(length)))
            file.write(body + struct.pack("<I", masked_crc32c(body)))
        file.write(length)  # a record that was cut

    assert main(["import", str(path), "--out", str(tmp_path / "out")]) == 0

    assert "not scalars" in capsys.readouterr().err


# ---- time


def test_descending_steps_take_linear_time():
    metrics = Metrics()
    begun = time.process_time()
    for step in range(100_000, 0, -1):
        metrics.add(step, {"loss": 1.0, "lr": 0.5})

    run = SourceRun("x", [])
    metrics.into(run, USUAL)
    assert time.process_time() - begun < 5
    assert [event[1]["iter"] for event in run.events] == [*range(1, 100_001)]


def test_a_trainer_state_with_descending_steps_is_imported_in_seconds(tmp_path):
    history = [{"step": step, "loss": 1.0} for step in range(50_000, 0, -1)]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history, "global_step": 1, "max_steps": 1}))

    code, err = imported(path, tmp_path)

    assert (code, "Traceback" in err) == (0, False)
