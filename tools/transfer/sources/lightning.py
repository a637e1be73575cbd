"""Lightning's CSVLogger: `metrics.csv`, or its `version_N` folder; `hparams.yaml` beside it.

Rows of the same step are merged: Lightning writes training and validation in separate rows. There
are no times.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.runs import Refusal
from .reading import plain_yaml, read_all, read_lines, whole
from .source_run import LossNames, Metrics, SourceRun

FILE, SETTINGS = "metrics.csv", "hparams.yaml"
SETTINGS_MAX = 1 << 20  # bytes of settings


def fits(path: Path) -> bool:
    if path.is_dir():
        return (path / FILE).exists()
    if path.suffix != ".csv":
        return False
    return "step" in next(read_lines(path), "").strip().split(",")


def read(path: Path, loss_names: LossNames) -> Iterator[SourceRun]:
    file = path / FILE if path.is_dir() else path
    folder = file.resolve().parent
    name = "_".join(folder.parts[-2:]) if folder.name.startswith("version_") else folder.name
    run = SourceRun(name, [file])
    metrics = Metrics()
    for number, step, values in _rows(file, run.left_out):
        if step is None:
            run.left_out.append(f"{file}: line {number} is not a row: torn, or not Lightning's")
        else:
            metrics.add(step, values)
    run.events = list(metrics.events(loss_names))
    if (folder / SETTINGS).exists():
        run.files.append(folder / SETTINGS)
        _take_settings(folder / SETTINGS, run)
    if metrics.is_without_loss(loss_names):
        run.left_out.append(
            "which column is the training loss is unknown; name it with --loss: "
            + ", ".join(sorted(metrics.names()))
        )
    return iter([run])


def _rows(file: Path, left_out: list[str]) -> Iterator[tuple[int, int | None, dict[str, float]]]:
    """Line number, step (None: the line is not a row), values by name."""
    data = read_all(file)
    lines = csv.reader(io.StringIO(data.decode(errors="replace"), newline=""))
    columns = next(_csv_rows(lines), None) or []
    if "step" not in columns:
        raise Refusal(f"{file}: not metrics of Lightning: its first line has no column `step`")
    is_cut = not data.endswith(b"\n")
    n_lines = data.count(b"\n") + is_cut
    for row in _csv_rows(lines):
        if row == columns:  # a resumed run writes its header again
            continue
        try:
            if row is None or len(row) != len(columns) or (is_cut and lines.line_num == n_lines):
                raise ValueError
            values = {k: float(v) for k, v in zip(columns, row, strict=True) if v != ""}
            step = whole(values.pop("step"))
        except (ValueError, KeyError, OverflowError):
            yield lines.line_num, None, {}
        else:
            yield lines.line_num, step, values


def _csv_rows(lines: Any) -> Iterator[list[str] | None]:
    """The rows of a CSV file; None for a row that cannot be parsed."""
    while True:
        try:
            yield next(lines)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _take_settings(file: Path, run: SourceRun) -> None:
    """Read the settings; YAML that needs classes is stored as text."""
    if file.stat().st_size > SETTINGS_MAX:
        run.left_out.append(f"{file}: has more than {SETTINGS_MAX:,} bytes")
        return
    text = file.read_text(errors="replace")
    settings = plain_yaml(text)
    if isinstance(settings, dict):
        run.config = settings
    elif text.strip() not in ("", "{}"):
        run.metadata[SETTINGS] = text
