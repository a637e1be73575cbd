"""CSV: iterations.csv, evals.csv, checkpoints.csv and run.json in a folder of the run's name.

Numbers read back as the same 64 bits (pandas before 3 needs `float_precision="round_trip"`); NaN
and infinities are nan, inf, -inf; missing values are empty. A file is replaced as a whole or not
at all.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.history import KINDS, History, Kind
from .files import replace, run_folder
from .outcome import Outcome, worst


def export(history: History, out: Path) -> Outcome:
    folder = run_folder(history, out)
    states = [
        replace(folder / f"{kind}.csv", lambda kind=kind: _lines(history, kind))  # type: ignore[misc]
        for kind in KINDS
    ]
    state = worst(*states)
    return Outcome(str(folder), state, history.n_rows if state != "unchanged" else 0)


def _lines(history: History, kind: Kind) -> Iterator[bytes]:
    columns = list(dict.fromkeys(key for row in history.rows(kind) for key in row)) or ["iter"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in history.rows(kind):
        writer.writerow([_cell(row.get(key)) for key in columns])
        if text.tell() > 1 << 16:
            yield text.getvalue().encode()
            text.seek(text.truncate(0))
    yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else "" if value is None else value
