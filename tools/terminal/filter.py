"""The filter of runs: a part of a text, or an expression as of `--where`."""

from collections.abc import Sequence

from ..core.rows import Row
from ..core.where import names, select
from ..live.values import SeriesValues

SEARCHED = ("run", "status", "tags", "file", "note")
READ_S = 0.1  # of runs for an expression, before the screen is drawn again


def matching(rows: Sequence[Row], where: str, values: SeriesValues) -> tuple[list[Row], int]:
    """The runs that have `where` as a part of a text, or for which it is true.

    Returns how many runs are still to be read for it, too.

    Raises:
        Refusal: it is an expression, and wrong.
    """
    if not where:
        return list(rows), 0
    if not any(sign in where for sign in "<>=()") and " " not in where.strip():
        word = where.strip().lower()
        texts = ((row, (str(row.get(key) or "") for key in SEARCHED)) for row in rows)
        return [row for row, of_row in texts if any(word in text.lower() for text in of_row)], 0
    rows, left = values.with_series(rows, names(where), READ_S)
    if left and not any(row.get("series") for row in rows):
        return [], left  # one that is still to be read may have the series
    return select(rows, where), left
