"""The filter of runs: a part of a text, or an expression as of `--where`."""

from ..core.rows import Row
from ..core.where import select

SEARCHED = ("run", "status", "tags", "file", "note")


def matching(rows: list[Row], where: str) -> list[Row]:
    """The runs that have `where` as a part of a text, or for which it is true.

    Raises:
        Refusal: it is an expression, and wrong.
    """
    if not where:
        return rows
    if not any(sign in where for sign in "<>=()") and " " not in where.strip():
        word = where.strip().lower()
        return [r for r in rows if any(word in str(r.get(key) or "").lower() for key in SEARCHED)]
    return select(rows, where)
