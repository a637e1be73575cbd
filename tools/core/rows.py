"""A run as a row of figures: what `ls` shows, `--where` asks for and `--sort` sorts by.

    rows = [row(found) for found in runs.glance(["out"])]
    good = select(rows, "best_val_loss < 7 and config.n_layer in (6, 12)")

The expressions are SQL's, and SQLite computes them: a field is named as in `FIELDS`, or as
`config.learning_rate`, `metadata.versions.torch`; without `config.` where that is plain.
"""

import difflib
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from . import freeform
from .names import own_name
from .runs import Found, Refusal
from .times import seconds

Row = dict[str, Any]

FIELDS = (
    "run", "status", "live", "iterations", "best_val_loss", "final_loss", "avg_time_ms",
    "avg_mfu", "started", "ended", "age_s", "sessions", "defects", "lost", "tags", "notes",
    "path", "error",
)  # fmt: skip

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
NEAR_MAX = 2_000  # names among which the nearest is looked for

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


def row(found: Found, now: float | None = None) -> Row:
    """What there is to say of a run in one row; a broken file is a row that says so.

    `now` is the time that `age_s` is told for, in seconds since 1970.
    """
    path = str(found.path)
    if found.run is None:
        broken: Row = dict.fromkeys(FIELDS)
        why = found.error.removeprefix(f"{path}: ")
        broken |= {"run": found.path.name, "status": "unreadable", "live": False}
        return broken | {"path": path, "error": why, "config": {}, "metadata": {}}
    run, summary, journal = found.run, found.run.summary, found.run.journal
    started = seconds(run.start_time)
    return {
        "run": run.run_name,
        "status": run.status,
        "live": found.is_live,
        "iterations": summary.get("total_iterations"),
        "best_val_loss": summary.get("best_val_loss"),
        "final_loss": summary.get("final_train_loss"),
        "avg_time_ms": summary.get("avg_time_ms"),
        "avg_mfu": summary.get("avg_mfu"),
        "started": run.start_time,
        "ended": run.end_time,
        "age_s": None if started is None or now is None else now - started,
        "sessions": len(journal.get("sessions") or ()) or None,
        "defects": len(journal.get("defects") or ()),
        "lost": _n_lost(journal.get("defects")),
        "tags": journal.get("tags") or [],
        "notes": len(journal.get("notes") or ()),
        "path": path,
        "error": None,
        "config": run.config,
        "metadata": run.metadata,
        **freeform.figures(run),
    }


def _n_lost(defects: Any) -> int:
    """The events that defects say are lost, whatever stands in a run JSON that others wrote."""
    costs = [
        d.get("lost") for d in (defects if isinstance(defects, list) else ()) if isinstance(d, dict)
    ]
    return sum(n for n in costs if type(n) is int)


def value(row: Row, name: str) -> Any:
    """The field `name` of a row, as `--where` names it; None where it has none.

    A name without `config.` or `metadata.` that is no field of its own means the config's.
    """
    name = own_name(name)
    if name in row:
        return row[name]
    part, _, key = name.partition(".")
    if part in ("config", "metadata") and key:
        return _inside(row[part], key)
    known = _inside(row["config"], name)
    return _inside(row["metadata"], name) if known is None else known


def _inside(values: Any, key: str) -> Any:
    while isinstance(values, Mapping):
        if key in values:
            return values[key]
        first, _, key = key.partition(".")
        values = values.get(first)
    return None


def check_field(rows: Sequence[Row], name: str, flag: str) -> str:
    """`name`, if some row has such a field.

    Raises:
        Refusal: none has; names the nearest that there are.
    """
    if own_name(name) in FIELDS or not rows or any(value(row, name) is not None for row in rows):
        return name
    there = dict.fromkeys(FIELDS)
    for part in ("config", "metadata"):
        there |= dict.fromkeys(f"{part}.{key}" for row in rows for key in row[part])
    if name in there:
        return name  # it is null in every run
    there = dict(islice(there.items(), NEAR_MAX))  # the nearest of millions takes minutes
    bare = {key.partition(".")[2] or key: key for key in reversed(there)}
    near = [bare.get(m, m) for m in difflib.get_close_matches(name, [*there, *bare], 3, 0.5)]
    hint = f"the nearest: {', '.join(dict.fromkeys(near))}" if near else "see: runs ls --json"
    raise Refusal(f"{flag}: no run has a field {name}; {hint}")


def sort(rows: Sequence[Row], key: str) -> list[Row]:
    """Rows by a field, what has none last; `-field`: the greatest first.

    Raises:
        Refusal: there is no such field.
    """
    name = check_field(rows, key.removeprefix("-"), "--sort")
    values = [(_orderable(value(row, name)), at) for at, row in enumerate(rows)]
    known = [(v, at) for v, at in values if v is not None]
    known.sort(key=lambda pair: pair[0], reverse=key.startswith("-"))
    order = [at for _, at in known] + [at for v, at in values if v is None]
    return [rows[at] for at in order]


def _orderable(value: Any) -> tuple[bool, float, str] | None:
    """Numbers among themselves, before text."""
    if value is None or value != value:
        return None
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0.0, str(_plain(value))


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
    value = _plain(value)
    return value[:TEXT_BYTES] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """What SQLite can hold: a list or an object is its JSON."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    if isinstance(value, int | float | str | None):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
