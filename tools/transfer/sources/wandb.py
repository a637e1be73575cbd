"""Weights & Biases: a `.wandb` file, a run's folder, or a `wandb` folder of such folders.

It is read by W&B itself (`wandb leet inspect`, of wandb 0.28 and newer), which skips damaged parts
and reports them. Every number of the history is imported with its time; the step is the one that
the program logged (`iter`, `trainer/global_step`, ...), else W&B's.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.library import need
from ...core.runs import Refusal
from .reading import number, whole
from .source_run import STEPS, LossNames, Metrics, SourceRun

SUFFIX = ".wandb"
_OWN = frozenset(("_step", "_timestamp", "_runtime", "_wandb"))


def fits(path: Path) -> bool:
    return path.suffix == SUFFIX if path.is_file() else bool(next(path.rglob(f"*{SUFFIX}"), None))


def read(path: Path, loss_names: LossNames) -> Iterator[SourceRun]:
    need("wandb")
    files = [path] if path.is_file() else sorted(path.rglob(f"*{SUFFIX}"))
    for file in filter(Path.is_file, files):
        yield _run(file, loss_names)


def _run(file: Path, loss_names: LossNames) -> SourceRun:
    run = SourceRun(file.stem, [file], status="interrupted", reason="the W&B file has no end")
    rows: list[dict[str, Any]] = []
    for kind, record in records(file, run.left_out):
        if kind == "run":
            run.name = record.get("display_name") or run.name
            settings = record.get("config", {}).get("update", {})
            run.config |= {k: v for k, v in settings.items() if k not in _OWN}
            run.started = record.get("start_time")
            run.metadata["wandb"] = {k: v for k, v in record.items() if k not in _NOT_METADATA}
        elif kind == "config":
            run.config |= {k: v for k, v in record.get("update", {}).items() if k not in _OWN}
        elif kind == "history":
            rows.append(record["item"])
        elif kind == "exit":
            code = record.get("exit_code", 0)
            run.status = "failed" if code else "completed"
            run.reason = f"exit code {code}" if code else None
    metrics = _metrics(rows, run.left_out)
    run.events = list(metrics.events(loss_names))
    if run.events and "timestamp" in run.events[-1][1]:
        run.ended = run.events[-1][1]["timestamp"]
    if metrics.is_without_loss(loss_names):
        run.left_out.append(
            "which metric is the training loss is unknown; name it with --loss: "
            + ", ".join(sorted(metrics.names()))
        )
    return run


_NOT_METADATA = frozenset(("config", "telemetry", "summary"))


def _metrics(rows: list[dict[str, Any]], left_out: list[str]) -> Metrics:
    step_name = next((name for name in STEPS if any(name in row for row in rows)), None)
    metrics, others = Metrics(), Counter[str]()
    for row in rows:
        step = whole(row.get(step_name)) if step_name else None
        step = whole(row.get("_step")) if step is None else step
        if step is None:
            others["_step"] += 1
            continue
        values = {}
        for name, value in row.items():
            if name in _OWN or name == step_name:
                continue
            parsed = number(value)
            if parsed is None:
                others[name] += 1
            else:
                values[name] = parsed
        metrics.add(step, values, row.get("_timestamp"))
    left_out += [f"{n:,} values of {name!r}: not numbers" for name, n in others.items()]
    return metrics


def records(file: Path, warnings: list[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records in a W&B file by kind, in order; what W&B reports is added to `warnings`.

    Raises:
        Refusal: W&B cannot read the file at all.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdout is not None
        n_records = 0
        for line in process.stdout:
            record = json.loads(line)
            n_records += 1
            yield record["type"], record.get(record["type"], {})
        process.wait()
        stderr.seek(0)
        messages = [
            line.removeprefix("wandb leet inspect: ") for line in stderr.read().splitlines()
        ]
        if process.returncode or not n_records:
            raise Refusal(f"{file}: W&B cannot read it: {(messages or ['no output'])[-1]}")
        if warnings is not None:
            warnings += [f"{file}: {line}" for line in messages]
