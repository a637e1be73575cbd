"""MLflow's two local stores, SQLite (its default) and files, through its own client."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.trackers import Log, Value

PACKAGES = ("mlflow",)
VARIANTS = {
    "mlflow-sqlite": "sqlite, one synchronous `log_metrics` a step",
    "mlflow-files": "file store, the same; in maintenance mode, must be allowed by a variable",
}
LOG_FILES = ("mlflow.db*", "mlruns/**/metrics/*")
PROMISE = "nothing itself; in SQLite, committed data survives a kill and a power loss"
RUN_ID = "run_id"  # a file with the id of the run, for resuming and reading
EXPERIMENT = "trackers"


@contextmanager
def write(folder: Path, variant: str, first: int) -> Iterator[Log]:
    if variant == "mlflow-files":
        (folder / "mlruns").mkdir(exist_ok=True)
    mlflow = _mlflow(folder)
    mlflow.set_experiment(EXPERIMENT)
    run_id = (folder / RUN_ID).read_text() if first else None
    with mlflow.start_run(run_id=run_id) as run:
        (folder / RUN_ID).write_text(run.info.run_id)
        yield lambda step, values: mlflow.log_metrics(values, step=step, synchronous=True)


def read(folder: Path) -> Iterator[Value]:
    """Metric by metric: one that MLflow refuses does not hide the others."""
    if not any(path.is_file() for glob in LOG_FILES for path in folder.glob(glob)):
        return  # the client would make a new store
    client = _mlflow(folder).MlflowClient()
    refused = None
    for name in ("loss", "time_ms", "mfu", "lr"):
        try:
            history = client.get_metric_history(_run_id(folder, client), name)
        except Exception as error:
            refused = error
        else:
            yield from ((metric.step, name, metric.value) for metric in history)
    if refused:
        raise refused


def _run_id(folder: Path, client: Any) -> str:
    """From our file, or if that did not survive, from the store."""
    known = folder / RUN_ID
    if known.exists() and known.stat().st_size:
        return known.read_text()
    for metrics in folder.glob("mlruns/*/*/metrics"):
        return metrics.parent.name
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return str(client.search_runs([experiment.experiment_id])[0].info.run_id)


def _mlflow(folder: Path) -> Any:
    """The module, set to the store in `folder`."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    files = folder / "mlruns"
    uri = files.as_uri() if files.exists() else f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    return mlflow
