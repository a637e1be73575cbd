"""Lightning's CSVLogger: `metrics.csv`, or its `version_N` folder; `hparams.yaml` beside it.

Rows of one step are one: Lightning writes training and validation apart. It keeps no times.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.runs import Refusal
from tools.transfer.sources.told import Meaning, Metrics, Told

FILE, SETTINGS = "metrics.csv", "hparams.yaml"


def fits(path: Path) -> bool:
    if path.is_dir():
        return (path / FILE).exists()
    if path.suffix != ".csv":
        return False
    with open(path, errors="replace") as file:
        return "step" in file.readline().strip().split(",")


def read(path: Path, meaning: Meaning) -> Iterator[Told]:
    file = path / FILE if path.is_dir() else path
    folder = file.resolve().parent
    name = "_".join(folder.parts[-2:]) if folder.name.startswith("version_") else folder.name
    told = Told(name, [file])
    metrics = Metrics()
    for number, step, values in _rows(file, told.left_out):
        if step is None:
            told.left_out.append(f"{file}: line {number} is no row: torn, or not Lightning's")
        else:
            metrics.add(step, values)
    told.events = list(metrics.events(meaning))
    if (folder / SETTINGS).exists():
        told.files.append(folder / SETTINGS)
        _take_settings(folder / SETTINGS, told)
    if metrics.is_without_loss(meaning):
        told.left_out.append(
            "no column is known as the training loss; name it with --loss: "
            + ", ".join(sorted(metrics.names()))
        )
    return iter([told])


def _rows(file: Path, left_out: list[str]) -> Iterator[tuple[int, int | None, dict[str, float]]]:
    """Line number, step (None: the line is no row), values by name."""
    data = file.read_bytes()
    lines = csv.reader(io.StringIO(data.decode(errors="replace"), newline=""))
    columns = next(lines, [])
    if "step" not in columns:
        raise Refusal(f"{file}: no metrics of Lightning's: its first line has no column `step`")
    is_cut = not data.endswith(b"\n")
    n_lines = data.count(b"\n") + is_cut
    for row in lines:
        if row == columns:  # a resumed run begins with its header again
            continue
        try:
            if len(row) != len(columns) or (is_cut and lines.line_num == n_lines):
                raise ValueError
            told = {k: float(v) for k, v in zip(columns, row, strict=True) if v != ""}
            step = int(told.pop("step"))
        except (ValueError, KeyError, OverflowError):
            yield lines.line_num, None, {}
        else:
            yield lines.line_num, step, told


def _take_settings(file: Path, told: Told) -> None:
    """YAML may need classes that are not here: then its text is kept as it is."""
    text = file.read_text(errors="replace")
    try:
        import yaml

        settings: Any = yaml.safe_load(text)
    except Exception:  # no yaml, or not plain YAML
        settings = None
    if isinstance(settings, dict):
        told.config = settings
    elif text.strip() not in ("", "{}"):
        told.metadata[SETTINGS] = text
