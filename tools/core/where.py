"""`--where`: the rows for which an SQL expression is true. SQLite evaluates it.

rows = [row(found) for found in runs.glance(["out"])]
good = select(rows, "best_val_loss < 7 and config.n_layer in (6, 12)")
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .names import own_name
from .rows import FIELDS, Row, check_field, plain, value
from .runs import Refusal

_WORDS = frozenset((
    "and", "or", "not", "in", "like", "glob", "is", "null", "between", "case", "when", "then",
    "else", "end", "true", "false", "escape",
))  # fmt: skip
_FUNCTIONS = frozenset((
    "abs", "round", "lower", "upper", "length", "min", "max", "coalesce", "ifnull", "nullif",
    "instr", "substr", "replace",
))  # fmt: skip
WHERE_MAX = 10_000  # characters of an expression
WHERE_S = 10.0  # that it may take
TEXT_BYTES = 16 << 10  # of a field's text that an expression sees

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"[^"]*")
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<name>[^\W\d]\w*(?:\.\w+)*)
    | (?P<sign>==|!=|<>|<=|>=|\|\||[-+*/%<>=(),])
    )""",
    re.VERBOSE,
)


def select(rows: Sequence[Row], where: str, *, limit_s: float = WHERE_S) -> list[Row]:
    """The rows for which an expression is true. Text counts up to `TEXT_BYTES`.

    Raises:
        Refusal: it is no expression, names a field that no run has, is too long, or takes longer
            than `limit_s` or more memory than there is for a text.
    """
    if len(where) > WHERE_MAX:
        raise Refusal(f"--where: has {len(where):,} characters, at most {WHERE_MAX:,} may be")
    names: dict[str, str] = {}  # field -> the column it is in
    sql = " ".join(_translate(where, rows, names))
    base = sqlite3.connect(":memory:")
    _bound(base, time.monotonic() + limit_s)
    try:
        base.execute(f"create table runs (at integer{''.join(f', {c}' for c in names.values())})")
        base.executemany(
            f"insert into runs values (?{', ?' * len(names)})",
            ((at, *(_short(value(row, name)) for name in names)) for at, row in enumerate(rows)),
        )
        chosen = base.execute(f"select at from runs where ({sql}) order by at").fetchall()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise Refusal(f"--where: {where[:200]!r} takes longer than {limit_s:g} s") from None
        raise Refusal(f"--where: {where[:200]!r} is no expression: {_said(error, names)}") from None
    except (sqlite3.Error, ValueError) as error:  # the second: text that no SQL may hold
        raise Refusal(f"--where: {where[:200]!r} is no expression: {_said(error, names)}") from None
    finally:
        base.close()
    return [rows[at] for (at,) in chosen]


def _bound(base: sqlite3.Connection, until: float) -> None:
    """Limit what an expression may cost: a nested `replace` makes gigabytes of 500 characters."""
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(TEXT_BYTES * 4, WHERE_MAX * 8))
    base.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000)
    base.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
    base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    base.set_progress_handler(lambda: time.monotonic() > until, 1_000)


def _said(error: Exception, names: dict[str, str]) -> str:
    """SQLite's words, with our names in the place of its columns."""
    fields = {column: field for field, column in names.items()}
    return re.sub(r"\bfield_\d+\b", lambda column: fields.get(column[0], column[0]), str(error))


def _translate(where: str, rows: Sequence[Row], names: dict[str, str]) -> Iterator[str]:
    """The expression's words as SQLite is to have them; `names` takes in the fields it uses."""
    tokens = list(_tokens(where))
    if not tokens:
        raise Refusal("--where: the expression is empty")
    followers = [word for _, word in tokens[1:]] + [""]
    for (kind, word), after in zip(tokens, followers, strict=True):
        if kind == "sign" and after.lower() == "null":
            yield {"=": "is", "==": "is", "!=": "is not", "<>": "is not"}.get(word, word)
        elif kind == "name" and after == "(" and word.lower() not in _WORDS:
            if word.lower() not in _FUNCTIONS:
                known = ", ".join(sorted(_FUNCTIONS))
                raise Refusal(f"--where: no function {word}; there are {known}")
            yield word
        elif kind == "name" and word.lower() not in _WORDS:
            check_field(rows, word, "--where")
            yield names.setdefault(word, f"field_{len(names)}")
        elif kind == "quoted":  # a shell's user writes "completed" as well as 'completed'
            yield _quoted(word[1:-1], rows, names)
        else:
            yield word


def _quoted(word: str, rows: Sequence[Row], names: dict[str, str]) -> str:
    """What double quotes hold: a field, if some run has it, else text."""
    if own_name(word) in FIELDS or any(value(row, word) is not None for row in rows):
        return names.setdefault(word, f"field_{len(names)}")
    return "'" + word.replace("'", "''") + "'"


def _tokens(where: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(where.rstrip())
    while at < end:
        match = _TOKEN.match(where, at)
        if match is None:
            raise Refusal(
                f"--where: {where[:200]!r}: cannot read on from {where[at:][:80].strip()!r}"
            )
        yield str(match.lastgroup), match[str(match.lastgroup)]
        at = match.end()


def _short(value: Any) -> Any:
    """`_plain`, its text up to what an expression may compare."""
    value = plain(value)
    return value[:TEXT_BYTES] if isinstance(value, str) else value
