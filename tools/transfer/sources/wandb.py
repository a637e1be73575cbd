"""Weights & Biases: a `.wandb` file, a run's folder, or a `wandb` folder of such folders.

Every value of the history is imported with its time; nested ones by dotted names. The step is
W&B's own (`_step`), or a counter that the program logged in every row (`iter`,
`trainer/global_step`, ...) where nothing is lost by it. The summary is imported as the run's own.
Several files of one run, which was resumed, are one run.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .metrics import Metrics, Name, dotted, field_names
from .reading import whole
from .source import LossNames, Source, SourceRun
from .wandb_file import Values, parsed, records, values

SUFFIX = ".wandb"
OWN = frozenset(("_step", "_timestamp", "_runtime", "_wandb"))
COUNTERS = ("iter", "trainer/global_step", "train/global_step", "global_step")
NOT_METRICS = {
    "stats": "measurements of the machine", "output": "lines of output",
    "output_raw": "lines of output", "artifact": "artifacts", "alert": "alerts",
}  # fmt: skip


def find(path: Path) -> list[Source]:
    """The runs in a file or folder: files of the same run in the same `wandb` folder are one."""
    files = path.rglob(f"*{SUFFIX}") if path.is_dir() else [path]
    runs: dict[Path, list[Path]] = {}
    for file in sorted(file for file in files if file.is_file() and file.suffix == SUFFIX):
        runs.setdefault(file.resolve().parent.parent / file.name, []).append(file)
    return [Source(files, files[0].stem, place) for place, files in runs.items()]


def read(source: Source, loss_names: LossNames) -> SourceRun:
    run = SourceRun(source.name, source.files)
    rows: list[Values] = []
    summary: Values = {}
    others = Counter[str]()
    for file in sorted(source.files):
        rows += _continued(rows, _read_file(file, run, summary, others), file, run)
    run.left_out += [f"{n:,} {what}" for what, n in others.items()]
    _metrics(rows, run).into(run, loss_names)
    own_summary = {n: v for n, v in summary.items() if not _is_own(n) and v is not None}
    run.summary = {field: own_summary[name] for name, field in field_names(own_summary).items()}
    if len(own_summary) < len(summary):
        n = len(summary) - len(own_summary)
        run.left_out.append(f"{n:,} values of the summary: null or W&B's own")
    if run.events and "timestamp" in run.events[-1][1]:
        run.ended = run.events[-1][1]["timestamp"]
    return run


def _is_own(name: Name) -> bool:
    return (name if isinstance(name, str) else name[0]) in OWN


def _read_file(file: Path, run: SourceRun, summary: Values, others: Counter[str]) -> list[Values]:
    """The rows of the history; all else is put into `run` and `summary`, or counted."""
    run.status, run.reason = "interrupted", f"the W&B file {file.name} has no end"
    rows: list[Values] = []
    for kind, record in records(file, run.unreadable):
        if kind == "history":
            row: Values = {"_step": record.step.num}
            rows.append(row | values(record.item))
        elif kind == "run":
            _read_run(record, run)
        elif kind == "config":
            run.config |= _settings(record.update)
        elif kind == "summary":
            summary |= values(record.update)
            for name in values(record.remove):
                summary.pop(name, None)
        elif kind == "exit":
            run.status = "failed" if record.exit_code else "completed"
            run.reason = f"exit code {record.exit_code}" if record.exit_code else None
        elif kind in NOT_METRICS:
            others[NOT_METRICS[kind]] += 1
    return rows


def _read_run(record: Any, run: SourceRun) -> None:
    from google.protobuf.json_format import MessageToDict

    about = MessageToDict(record, preserving_proto_field_name=True)
    run.name = record.display_name or run.name
    run.key = "/".join(("wandb", record.entity, record.project, record.run_id))
    run.started = run.started or about.get("start_time")
    run.config |= _settings(record.config.update)
    hidden = ("config", "telemetry", "summary", "settings", "_info")
    run.metadata["wandb"] = {k: v for k, v in about.items() if k not in hidden}


def _settings(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key: parsed(item.value_json) for item in items if item.key not in OWN}


def _continued(
    rows: Sequence[Values], more: list[Values], file: Path, run: SourceRun
) -> list[Values]:
    """Rows of a later file, behind those there are where W&B could not know where it goes on.

    Offline, a resumed run counts from 0 again.
    """
    is_resumed = run.metadata.get("wandb", {}).get("resume", False)
    if not (rows and more and is_resumed and more[0]["_step"] == 0):
        return more
    first = 1 + max(row["_step"] for row in rows)
    run.left_out.append(
        f"{file}: the step numbers of {len(more):,} rows: they count from {first:,} here and not "
        "from 0 as in the file, which resumes the run"
    )
    return [row | {"_step": row["_step"] + first} for row in more]


def _metrics(rows: list[Values], run: SourceRun) -> Metrics:
    """The values of the rows by step. What is W&B's own is left out and counted."""
    counter = _counter(rows)
    metrics, n_own, n_files = Metrics(), Counter[str](), Counter[str]()
    for row in rows:
        step = whole(row[counter])
        others = {name: value for name, value in row.items() if name != counter}
        own = {name: others.pop(name) for name in [*filter(_is_own, others)]}
        n_own.update(dotted(name) for name in own if name != "_timestamp")
        if step is None:
            run.unreadable.append(f"{len(others):,} values of a row whose step is {row[counter]!r}")
            continue
        metrics.add(step, others, row.get("_timestamp"))
        n_files.update(
            dotted(name).removesuffix("._type")
            for name, value in others.items()
            if name[-1] == "_type" and str(value).endswith("-file")
        )
    run.left_out += [
        *(f"{n:,} files of {name!r}: only what W&B says of them" for name, n in n_files.items()),
        *(f"{n:,} values of {name!r}: W&B's own" for name, n in n_own.items()),
    ]
    return metrics


def _counter(rows: list[Values]) -> Name:
    """The name of the step: that of a counter beside the values of each row, if none is lost."""
    for name in COUNTERS:
        values: dict[tuple[int | None, Name], str] = {}
        steps = [whole(row.get(name)) for row in rows]
        others = [{k: v for k, v in row.items() if k != name and not _is_own(k)} for row in rows]
        if None not in steps and all(
            row and all(values.setdefault((step, k), repr(v)) == repr(v) for k, v in row.items())
            for step, row in zip(steps, others, strict=True)
        ):
            return name
    return "_step"
