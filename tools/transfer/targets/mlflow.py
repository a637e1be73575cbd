"""MLflow: a run in the experiment `runjournal`, in a database or on a server.

Written to `sqlite:///OUT/mlflow.db`, or to MLFLOW_TRACKING_URI if it is set. Numbers are float64,
times milliseconds; NaN is preserved; MLflow's databases store infinities as the largest float64.
Configuration is MLflow's params, metadata its tags. MLflow has no words over steps: of a series
that has any, the last ones are in the tag `text.NAME`.

Characters that MLflow does not take in a name are their code between colons, in hexadecimal:
`a(b` is `a:28:b`; so is a colon itself. `original_name` has the name again. Of a name longer than
241 characters, the run's own too, the end is a hash, and the tag `name.KEY` has all of it, up to
8,000 characters.

What MLflow has of the run is read before anything is added, so that nothing is added twice.
MLflow cannot remove points: when a resumed run superseded some, the MLflow run is marked as deleted
(`mlflow gc` removes it) and replaced by a new one.
"""

import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from eventlog import seconds

from ...core.history import History
from ...core.library import need
from .outcome import Outcome, State

EXPERIMENT = "runjournal"
ID_TAG = "runjournal.id"
BATCH = 1000  # the most metrics that MLflow accepts in one call
PARAM_MAX, TAG_MAX = 6000, 8000  # characters of a value
NAME_MAX = 250 - len("metadata.")  # the longest prefix of a tag

Metric = tuple[str, int, int, float, bool]
"""Name, iteration, time in ms, value, whether it is NaN."""


def export(history: History, out: Path) -> Outcome:
    client = _client(need("mlflow"), out)
    experiment_id = _experiment(client, out)
    metrics = dict.fromkeys(_metrics(history))
    mlflow_run = _run_of(client, experiment_id, history)
    present: set[Metric] = set()
    state: State = "new"
    if mlflow_run is not None:
        present = _present(client, mlflow_run)
        state = "continued"
        if not present <= metrics.keys() or _contradicts(mlflow_run, history):
            client.delete_run(mlflow_run.info.run_id)
            mlflow_run, present, state = None, set(), "replaced"
    if mlflow_run is None:
        mlflow_run = _create(client, experiment_id, history)
    run_id = mlflow_run.info.run_id
    missing = [metric for metric in metrics if metric not in present]
    _log(client, run_id, missing, history)
    tags = _tags(history)
    changed = {k: v for k, v in tags.items() if mlflow_run.data.tags.get(k) != v}
    for key, value in changed.items():
        client.set_tag(run_id, key, value)
    has_ended = _end(client, mlflow_run, history)
    if state == "continued" and not missing and not has_ended and not changed:
        state = "unchanged"
    return Outcome(f"{client.tracking_uri} run {run_id}", state, len(missing), _note(history))


def _client(mlflow: Any, out: Path) -> Any:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        out.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{(out / 'mlflow.db').resolve()}"
    return mlflow.MlflowClient(tracking_uri=uri)


def _experiment(client: Any, out: Path) -> str:
    mlflow_run = client.get_experiment_by_name(EXPERIMENT)
    if mlflow_run is not None:
        return str(mlflow_run.experiment_id)
    where = None if os.environ.get("MLFLOW_TRACKING_URI") else (out / "mlartifacts").resolve()
    location = None if where is None else where.as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def _run_of(client: Any, experiment_id: str, history: History) -> Any:
    matches = client.search_runs(
        [experiment_id], f"tags.`{ID_TAG}` = '{history.id}'", max_results=1
    )
    return matches[0] if matches else None


def _metrics(history: History) -> Iterator[Metric]:
    for point in history.points():
        for name, value in point.values.items():
            yield _metric(_name(name), point.step, round(point.time_s * 1000), value)


def _metric(name: str, i: int, time_ms: int, value: float) -> Metric:
    """As MLflow stores it, with a NaN that equals itself."""
    if value != value:
        return name, i, time_ms, 0.0, True
    return name, i, time_ms, max(-sys.float_info.max, min(value, sys.float_info.max)), False


def _present(client: Any, run: Any) -> set[Metric]:
    run_id = run.info.run_id
    return {
        _metric(name, m.step, m.timestamp, m.value)
        for name in run.data.metrics
        for m in client.get_metric_history(run_id, name)
    }


def _contradicts(mlflow_run: Any, history: History) -> bool:
    """Whether a param differs: params cannot be changed, so that needs a new run."""
    params = _params(history)
    return any(params.get(k) != v for k, v in mlflow_run.data.params.items())


def _create(client: Any, experiment_id: str, history: History) -> Any:
    """Create the run with its id tag in one call, so that it is always found again."""
    run = history.run
    started_s = seconds(run.start_time)
    tags = {f"metadata.{k}": _text(v, TAG_MAX) for k, v in _named(history.facts()).items()}
    source = {"mlflow.source.name": str(run.path or ""), ID_TAG: history.id}
    return client.create_run(
        experiment_id,
        start_time=None if started_s is None else round(started_s * 1000),
        run_name=run.run_name if len(run.run_name) <= NAME_MAX else _name(run.run_name),
        tags=tags | source,
    )


def _log(client: Any, run_id: str, missing: list[Metric], history: History) -> None:
    from mlflow.entities import Metric as Entity
    from mlflow.entities import Param

    params = [Param(k, v) for k, v in _params(history).items()]
    for at in range(0, len(params), 100):  # existing ones of the same value are accepted
        client.log_batch(run_id, params=params[at : at + 100])
    for at in range(0, len(missing), BATCH):
        batch = [
            Entity(name, float("nan") if is_nan else value, time_ms, i)
            for name, i, time_ms, value, is_nan in missing[at : at + BATCH]
        ]
        client.log_batch(run_id, metrics=batch)


def _end(client: Any, mlflow_run: Any, history: History) -> bool:
    """Set the final status, after all points; returns whether it has changed."""
    statuses = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
    status = statuses.get(history.run.status, "RUNNING")
    ended_s = seconds(history.run.end_time)
    if mlflow_run.info.status == status:
        return False
    if status == "RUNNING":
        client.update_run(mlflow_run.info.run_id, status=status)
    else:
        ended_ms = None if ended_s is None else round(ended_s * 1000)
        client.set_terminated(mlflow_run.info.run_id, status=status, end_time=ended_ms)
    return True


def _params(history: History) -> dict[str, str]:
    return {k: _text(v, PARAM_MAX) for k, v in _named(history.settings()).items()}


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    return {_name(k): v for k, v in settings.items()}


def _name(name: str) -> str:
    """A name that MLflow takes: letters, digits, a few signs, a plain path, 241 characters.

    A name that it takes as it is, and that has no colon, stays as it is.
    """
    encoded = _REFUSED.sub(lambda match: _code(match[0]), name)
    if not name:
        encoded = "::"
    elif _is_no_plain_path(encoded):
        encoded = re.sub(r"[./]", lambda match: _code(match[0]), encoded)
    if len(encoded) > NAME_MAX:
        digest = sha256(name.encode(errors="backslashreplace")).hexdigest()[:16]
        encoded = f"{encoded[: NAME_MAX - len(digest) - 1].rstrip('/.')}:{digest}"
    return encoded


def _is_no_plain_path(name: str) -> bool:
    plain = posixpath.normpath(name)
    return plain != name or plain == "." or plain.startswith(("..", "/"))


def original_name(name: str) -> str:
    """The name that `_name` made a name of MLflow's of, if that was not too long."""
    if name == "::":
        return ""
    return re.sub(r":([0-9a-f]+):", lambda match: chr(int(match[1], 16)), name)


_REFUSED = re.compile(r"[^/\w.\- ]")


def _code(character: str) -> str:
    return f":{ord(character):x}:"


def _tags(history: History) -> dict[str, str]:
    """The last words of each series that has any, and all of each name that is too long."""
    tags: dict[str, str] = {}
    names = {history.run.run_name, *history.settings(), *history.facts()}
    for point in history.points():
        names |= point.values.keys() | point.words.keys()
        for name, words in point.words.items():
            tags[f"text.{_name(name)}"] = _text(words, TAG_MAX)
    keys = {name: _name(name) for name in names}
    tags |= {
        f"name.{key}": _text(name, TAG_MAX)
        for name, key in keys.items()
        if original_name(key) != name
    }
    return tags


def _note(history: History) -> str:
    """How many words MLflow does not have."""
    counts = Counter(name for point in history.points() for name in point.words)
    n_left_out = counts.total() - len(counts)
    if not n_left_out:
        return ""
    return (
        f"{history.run.run_name}: MLflow has no words over steps: of {len(counts):,} series the "
        f"last ones are in its tags, {n_left_out:,} earlier ones are left out"
    )


def _text(value: Any, n_max: int) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= n_max else text[: n_max - 1] + "…"
