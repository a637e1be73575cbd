"""Exports to MLflow, trackio and W&B, read back by their own readers, and killed: the long form.

    pip install -e '.[test,peers]' && pytest -n 0 -m slow tests/tools/transfer/test_export_peers.py

Each reader runs in a process of its own: what these libraries warn about is theirs.
"""

import json
import subprocess
import sys

import pytest

from tests.tools.transfer.test_export import (
    EVAL_TRACKER,
    TRACKER,
    Exporter,
    Logged,
    export_and_kill,
    same,
)

pytestmark = pytest.mark.slow

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
print(json.dumps({"points": points, "config": run.data.params, "status": run.info.status}))
"""

TRACKIO = """
import json, os, sys
os.environ["TRACKIO_DIR"] = sys.argv[1]
import trackio
from trackio.sqlite_storage import SQLiteStorage
from datetime import datetime
(run,) = trackio.Api().runs("runjournal")
points = [
    [name, row["step"], repr(value), datetime.fromisoformat(row["timestamp"]).timestamp()]
    for row in SQLiteStorage.get_logs("runjournal", run.name, run_id=run.id)
    for name, value in row.items() if name not in ("step", "timestamp")
]
print(json.dumps({"points": points, "config": run.config["config"], "status": ""}))
"""

WANDB = """
import json, pathlib, subprocess, sys
(file,) = pathlib.Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")
command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
done = subprocess.run(command, capture_output=True, text=True, check=True)
records = [json.loads(line) for line in done.stdout.splitlines()]
items = [record["history"]["item"] for record in records if record["type"] == "history"]
points = [
    [name, item["_step"], repr(float(value)), item["_timestamp"]]
    for item in items for name, value in item.items() if not name.startswith("_")
]
(config,) = [record["run"]["config"]["update"] for record in records if record["type"] == "run"]
(code,) = [r["exit"].get("exit_code", 0) for r in records if r["type"] == "exit"]
print(json.dumps({"points": points, "config": config, "status": code}))
"""

READERS = {"mlflow": MLFLOW, "trackio": TRACKIO, "wandb": WANDB}


def read(to, out):
    """(name, iter) -> value, and all that the reader said."""
    command = [sys.executable, "-W", "ignore", "-c", READERS[to], str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    found = {(name, i): float(value) for name, i, value, _ in result["points"]}
    assert len(found) == len(result["points"])  # no point twice
    return found, result


def expected(logged, to):
    points = logged.points(TRACKER, **EVAL_TRACKER)
    if to == "mlflow":  # its databases have no infinities, and no sign of zero
        points = {
            k: max(-sys.float_info.max, min(v, sys.float_info.max)) if v == v else v
            for k, v in points.items()
        }
    if to in ("mlflow", "wandb"):
        points = {k: v + 0.0 for k, v in points.items()}
    return points


def checkpoint_free(found):
    return {k: v for k, v in found.items() if not k[0].startswith("checkpoint/")}


def export(path, to, out):
    command = [sys.executable, "-W", "ignore", "-m", "tools.cli", "export", str(path)]
    done = subprocess.run(
        [*command, f"--to={to}", f"--out={out}", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=READERS)
def to(request):
    pytest.importorskip(request.param, reason=f"pip install {request.param}")
    return request.param


def test_every_value_is_exported_with_its_step_and_the_configuration(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    logged.take(0, 60)
    logged.close()

    export(logged.path, to, tmp_path / "out")

    found, result = read(to, tmp_path / "out")
    same(checkpoint_free(found), expected(logged, to))
    assert {found["checkpoint/val_loss", 0], found["checkpoint/size_bytes", 0]} == {2.5, 7.0}
    assert float(result["config"]["lr"]) == 6e-4
    assert result["status"] in ("FINISHED", "", 0)


def test_a_run_that_grows_and_rewinds_is_archived_as_it_is_now(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    states = []
    for first, last, take in [(0, 30, 1), (30, 40, 1), (40, 40, 1), (20, 35, 2)]:
        if first != last:
            logged.take(first, last, take)
        states.append(export(logged.path, to, tmp_path / "out")["state"])
        found, _ = read(to, tmp_path / "out")
        same(found, expected(logged, to))
    logged.close()

    grown = "replaced" if to == "wandb" else "continued"
    assert states == ["new", grown, "unchanged", "replaced"]


def test_an_export_killed_at_20_moments_and_run_again_has_each_point_once(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    with Exporter(logged.path, to, tmp_path) as exporter:
        n_killed = export_and_kill(exporter, logged)
    export(logged.path, to, tmp_path / "out")

    found, _ = read(to, tmp_path / "out")
    assert n_killed == 20
    same(found, expected(logged, to))
    assert export(logged.path, to, tmp_path / "out")["state"] == "unchanged"
    logged.close()
