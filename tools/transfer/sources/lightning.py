"""Lightning's CSVLogger: `metrics.csv`, or its `version_N` folder; `hparams.yaml` beside it.

Rows of the same step are merged: Lightning writes training and validation in separate rows. All
columns are imported, `epoch` too. There are no times.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.runs import Refusal
from .metrics import Metrics
from .reading import plain_yaml, read_all, read_lines, whole
from .source import LossNames, Source, SourceRun

FILE, SETTINGS = "metrics.csv", "hparams.yaml"
SETTINGS_MAX = 1 << 20  # bytes of settings


def find(path: Path) -> list[Source]:
    """The runs in a file or folder."""
    files = sorted(path.rglob(FILE)) if path.is_dir() else [path]
    return [
        Source([file], _name(file), file)
        for file in filter(Path.is_file, files)
        if file.suffix == ".csv" and "step" in next(read_lines(file), "").strip().split(",")
    ]


def _name(file: Path) -> str:
    folder = file.resolve().parent
    return "_".join(folder.parts[-2:]) if folder.name.startswith("version_") else folder.name


def read(source: Source, loss_names: LossNames) -> SourceRun:
    (file,) = source.files
    run = SourceRun(source.name, [file])
    metrics = Metrics()
    for number, step, values in _rows(file):
        if step is None:
            run.unreadable.append(f"{file}: line {number} is not a row: torn, or not Lightning's")
        else:
            metrics.add(step, values)
    metrics.into(run, loss_names)
    settings = file.resolve().parent / SETTINGS
    if settings.exists():
        run.files.append(settings)
        _read_settings(settings, run)
    return run


def _rows(file: Path) -> Iterator[tuple[int, int | None, dict[Any, Any]]]:
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
        step = None
        if row and len(row) == len(columns) and not (is_cut and lines.line_num == n_lines):
            step = whole(_value(row[columns.index("step")]))
        cells = zip(columns, row or (), strict=False)
        values = {name: _value(cell) for name, cell in cells if cell != "" and name != "step"}
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


def _value(cell: str) -> float | int | str:
    """The number in a cell; the text where that is no number, or none that a float can be."""
    try:
        value = float(cell)
    except ValueError:
        return cell
    digits = cell.strip().lstrip("+-")
    if "_" in cell or (value in (float("inf"), float("-inf")) and digits[:1].isdigit()):
        return cell
    if abs(value) >= 1 << 53 and digits.isdecimal():
        return int(cell)
    return value


def _read_settings(file: Path, run: SourceRun) -> None:
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
