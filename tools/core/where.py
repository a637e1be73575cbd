"""`--where`: the rows for which an SQL expression is true. SQLite evaluates it.

rows = [row(found) for found in runs.glance(["out"])]
good = select(rows, "best_val_loss < 7 and config.n_layer in (6, 12)")

A series is written as it is named where letters, digits, dots and slashes are all its name has:
`val/acc > 0.9`, `train/loss:min < 2`. Any other name is in double quotes, a quote in it doubled:
`"val acc" > 0.9`. A slash with spaces around it divides.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .rows import Row, check_field, is_field, plain, value
from .runs import Refusal
from .series import STATS

_KEYWORDS = frozenset((
    "and", "or", "not", "in", "like", "glob", "is", "null", "between", "case", "when", "then",
    "else", "end", "true", "false", "escape",
))  # fmt: skip
_FUNCTIONS = frozenset((
    "abs", "round", "lower", "upper", "length", "min", "max", "coalesce", "ifnull", "nullif",
    "instr", "substr", "replace",
))  # fmt: skip
WHERE_MAX = 10_000  # characters of an expression
WHERE_S = 10.0  # time limit of an expression
TEXT_BYTES = 16 << 10  # of a field's text that an expression sees

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<series>
          [^\W\d]\w*(?:[./]\w+)*(?::(?:STATS)|@\d+)\b
        | [^\W\d]\w*(?:\.\w+)*(?:/[\w.]+)+(?![\w./]*\s*\()  # `a/max(b)` divides
      )
    | (?P<name>[^\W\d]\w*(?:\.\w+)*)
    | (?P<sign>==|!=|<>|<=|>=|\|\||[-+*/%<>=(),])
    )""".replace("STATS", "|".join(STATS)),
    re.VERBOSE,
)


def select(rows: Sequence[Row], where: str, *, limit_s: float = WHERE_S) -> list[Row]:
    """The rows for which an expression is true. It sees the first `TEXT_BYTES` of each text.

    Raises:
        Refusal: the expression is malformed, too long or takes longer than `limit_s`, or names a
            field that no row has, or a text in it becomes too large.
    """
    if len(where) > WHERE_MAX:
        raise Refusal(f"--where: must have at most {WHERE_MAX:,} characters, has {len(where):,}")
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
        selected = base.execute(f"select at from runs where ({sql}) order by at").fetchall()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise Refusal(f"--where: {where[:200]!r} takes longer than {limit_s:g} s") from None
        raise Refusal(f"--where: cannot parse {where[:200]!r}: {_message(error, names)}") from None
    except (sqlite3.Error, ValueError) as error:  # ValueError: text that SQL cannot contain
        raise Refusal(f"--where: cannot parse {where[:200]!r}: {_message(error, names)}") from None
    finally:
        base.close()
    return [rows[at] for (at,) in selected]


def names(where: str) -> list[str]:
    """The names in an expression that may be series, for `rows.row`."""
    try:
        tokens = list(_tokens(where[:WHERE_MAX]))
    except Refusal:
        return []  # `select` says why
    return [
        _unquoted(token) if kind == "quoted" else token
        for kind, token in tokens
        if (kind in ("series", "name") and token.lower() not in _KEYWORDS)
        or (kind == "quoted" and not token[1:-1].isidentifier())  # "completed" is text
    ]


def _bound(base: sqlite3.Connection, until: float) -> None:
    """Limit the cost of an expression: a nested `replace` can make gigabytes of 500 characters."""
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(TEXT_BYTES * 4, WHERE_MAX * 8))
    base.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000)
    base.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
    base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    base.set_progress_handler(lambda: time.monotonic() > until, 1_000)


def _message(error: Exception, names: dict[str, str]) -> str:
    """SQLite's message, with the names of fields in place of its columns."""
    fields = {column: field for field, column in names.items()}
    return re.sub(r"\bfield_\d+\b", lambda column: fields.get(column[0], column[0]), str(error))


def _translate(where: str, rows: Sequence[Row], names: dict[str, str]) -> Iterator[str]:
    """The tokens of the expression for SQLite; adds the fields it uses to `names`."""
    tokens = list(_tokens(where))
    if not tokens:
        raise Refusal("--where: the expression is empty")
    followers = [token for _, token in tokens[1:]] + [""]
    for (kind, token), after in zip(tokens, followers, strict=True):
        if kind == "sign" and after.lower() == "null":
            yield {"=": "is", "==": "is", "!=": "is not", "<>": "is not"}.get(token, token)
        elif kind == "name" and after == "(" and token.lower() not in _KEYWORDS:
            if token.lower() not in _FUNCTIONS:
                known = ", ".join(sorted(_FUNCTIONS))
                raise Refusal(f"--where: unknown function {token!r}. There are {known}")
            yield token
        elif kind == "name" and token.lower() not in _KEYWORDS:
            check_field(rows, token, "--where")
            yield names.setdefault(token, f"field_{len(names)}")
        elif kind == "series":
            yield _series(token, rows, names)
        elif kind == "quoted":  # "completed" as well as 'completed'
            yield _quoted(_unquoted(token), rows, names)
        else:
            yield token


def _series(token: str, rows: Sequence[Row], names: dict[str, str]) -> str:
    """A series if at least one row has it, else a division of fields that stand without spaces."""
    parts = token.split("/")
    if any(value(row, token) is not None for row in rows) or len(parts) == 1:
        return names.setdefault(check_field(rows, token, "--where"), f"field_{len(names)}")
    for part in parts:
        is_number = re.fullmatch(r"\d+\.?\d*", part)
        if not (is_number or is_field(part) or any(value(row, part) is not None for row in rows)):
            check_field(rows, token, "--where")
    return " / ".join(
        part if part[0].isdigit() else names.setdefault(part, f"field_{len(names)}")
        for part in parts
    )


def _unquoted(token: str) -> str:
    return token[1:-1].replace('""', '"')


def _quoted(token: str, rows: Sequence[Row], names: dict[str, str]) -> str:
    """A token in double quotes: a field if at least one row has it, else text."""
    if is_field(token) or any(value(row, token) is not None for row in rows):
        return names.setdefault(token, f"field_{len(names)}")
    return "'" + token.replace("'", "''") + "'"


def _tokens(where: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(where.rstrip())
    while at < end:
        match = _TOKEN.match(where, at)
        if match is None:
            raise Refusal(
                f"--where: cannot parse {where[:200]!r} from {where[at:][:80].strip()!r} on"
            )
        yield str(match.lastgroup), match[str(match.lastgroup)]
        at = match.end()


def _short(value: Any) -> Any:
    """`plain`, with text cut to what an expression may compare."""
    value = plain(value)
    return value[:TEXT_BYTES] if isinstance(value, str) else value
