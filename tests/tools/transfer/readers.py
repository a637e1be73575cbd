"""What each export target has of a run, by its own reader.

The readers of MLflow, trackio and W&B run in processes of their own: what these libraries warn
about is theirs.
"""

import csv
import json
import subprocess
import sys

import pytest

from tools.transfer.targets.mlflow import original_name
from tools.transfer.targets.names import original
from tools.transfer.targets.tensorboard import TEXT_SUFFIX
from tools.transfer.targets.trackio import RESERVED as OF_TRACKIO
from tools.transfer.targets.wandb import RESERVED as OF_WANDB

MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow.db")
(experiment,) = [e for e in client.search_experiments() if e.name == "runjournal"]
(run,) = client.search_runs([experiment.experiment_id])
points = [
    [m.key, m.step, repr(m.value), m.timestamp / 1000]
    for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)
]
words = {k[5:]: v for k, v in run.data.tags.items() if k.startswith("text.")}
names = {k[5:]: v for k, v in run.data.tags.items() if k.startswith("name.")}
print(json.dumps(
    {"points": points, "words": words, "names": names, "config": run.data.params,
     "status": run.info.status}
))
"""

TRACKIO = """
import json, os, sys
os.environ["TRACKIO_DIR"] = sys.argv[1]
import trackio
from trackio.sqlite_storage import SQLiteStorage
from datetime import datetime
(run,) = trackio.Api().runs("runjournal")
points = [
    [name, row["step"], value, datetime.fromisoformat(row["timestamp"]).timestamp()]
    for row in SQLiteStorage.get_logs("runjournal", run.name, run_id=run.id)
    for name, value in row.items() if name not in ("step", "timestamp")
]
words = [[n, step, v] for n, step, v, _ in points if isinstance(v, str)]
points = [[n, step, repr(v), t] for n, step, v, t in points if not isinstance(v, str)]
print(json.dumps(
    {"points": points, "words": words, "config": run.config["config"], "status": ""}
))
"""

WANDB = """
import json, pathlib, subprocess, sys
(file,) = pathlib.Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")
command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
done = subprocess.run(command, capture_output=True, text=True, check=True)
records = [json.loads(line) for line in done.stdout.splitlines()]
items = [record["history"]["item"] for record in records if record["type"] == "history"]
points = [
    [name, item["_step"], value, item["_timestamp"]]
    for item in items for name, value in item.items()
    if name not in ("_step", "_timestamp", "_runtime")
]
nonfinite = ("NaN", "Infinity", "-Infinity")  # as this reader has them
words = [
    [n, step, v] for n, step, v, _ in points if isinstance(v, str) and v not in nonfinite
]
points = [
    [n, step, repr(float(v)), t] for n, step, v, t in points
    if not isinstance(v, str) or v in nonfinite
]
(config,) = [record["run"]["config"]["update"] for record in records if record["type"] == "run"]
(code,) = [r["exit"].get("exit_code", 0) for r in records if r["type"] == "exit"]
print(json.dumps({"points": points, "words": words, "config": config, "status": code}))
"""

READERS = {"mlflow": MLFLOW, "trackio": TRACKIO, "wandb": WANDB}


def need(to):
    """Skip the test if the library of a target is not installed."""
    library = {"csv": "csv", "parquet": "pyarrow"}.get(to, to)
    pytest.importorskip(library, reason=f"pip install {library}")


def read_peer(to, out):
    """(name, step) -> value, and all that the reader printed."""
    command = [sys.executable, "-W", "ignore", "-c", READERS[to], str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    found = {(name, i): float(value) for name, i, value, _ in printed["points"]}
    assert len(found) == len(printed["points"])  # no point twice
    return found, printed


def export_peer(path, to, out):
    """Export in a process of its own; what the command printed."""
    command = [sys.executable, "-W", "ignore", "-m", "tools.cli", "export", str(path)]
    done = subprocess.run(
        [*command, f"--to={to}", f"--out={out}", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- every value, words too


def values_in(to, out):
    """The numbers and the words of a run in a target, each by name as logged and step."""
    return _VALUES[to](out)


def _of_csv(out):
    (path,) = out.glob("*/series.csv")
    with open(path, newline="") as file:
        return _split(
            (row["name"], int(row["step"]), float(row["value"]) if row["value"] else None,
             row["text"])
            for row in csv.DictReader(file)
        )  # fmt: skip


def _of_parquet(out):
    import pyarrow.parquet

    (path,) = out.glob("*/series.parquet")
    rows = pyarrow.parquet.read_table(path).to_pylist()
    return _split((row["name"], row["step"], row["value"], row["text"]) for row in rows)


def _split(rows):
    numbers, words = {}, {}
    for name, step, value, text in rows:
        kind = words if value is None else numbers
        assert (name, step) not in kind
        kind[name, step] = text if value is None else value
    return numbers, words


def _of_tensorboard(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (p.parent for p in out.glob("*/events.*"))
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    numbers, words = {}, {}
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            assert (tag, event.step) not in numbers
            numbers[tag, event.step] = event.value
    for tag in reader.Tags()["tensors"]:
        if tag.endswith(TEXT_SUFFIX):
            for event in reader.Tensors(tag):
                text = event.tensor_proto.string_val[0].decode()
                words[tag.removesuffix(TEXT_SUFFIX), event.step] = text
    return numbers, words


def _of_mlflow(out):
    numbers, printed = read_peer("mlflow", out)

    def name_of(key):
        return printed["names"].get(key, original_name(key))

    words = {name_of(key): value for key, value in printed["words"].items()}
    return {(name_of(key), step): v for (key, step), v in numbers.items()}, words


def _of_trackio(out):
    return _of_peer("trackio", out, OF_TRACKIO)


def _of_wandb(out):
    return _of_peer("wandb", out, OF_WANDB)


def _of_peer(to, out, reserved):
    numbers, printed = read_peer(to, out)
    words = {(original(name, reserved), step): v for name, step, v in printed["words"]}
    return {(original(name, reserved), step): v for (name, step), v in numbers.items()}, words


_VALUES = {
    "csv": _of_csv,
    "parquet": _of_parquet,
    "tensorboard": _of_tensorboard,
    "wandb": _of_wandb,
    "mlflow": _of_mlflow,
    "trackio": _of_trackio,
}
