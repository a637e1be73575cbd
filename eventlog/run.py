"""The canonical run document: nine keys of the training logging guide, then `journal`.

Strict JSON, one array element a line, so that `diff`, `grep` and `tail` work on it as
well as `jq`. Also reads what earlier loggers wrote: times without offset, `end_time` and
`summary` last or missing, bare NaN, `mfu` as an object.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, overload

import orjson

from eventlog.errors import UnreadableRun

Row = dict[str, Any]

KEYS = (
    "run_name",
    "start_time",
    "end_time",
    "config",
    "training_iterations",
    "eval_steps",
    "checkpoints",
    "metadata",
    "summary",
    "journal",
)
METRICS = "metrics"
"""An eleventh, where there are any: with the arrays, so that both ends of a file stay short."""


_LINES_AT_ONCE = 4096
# A list, a quotation mark inside a string, or one that opens a string which begins with a colon.
# Without them two quotation marks for each `":` mean that all strings are keys.
_ODD = (b"[", b"\\", b':":', b',":', b'{":')


class Rows(Sequence[Row]):
    """Rows kept as they stand in the run JSON (`encode_row`); each is parsed when it is looked at.

    A million iterations take 160 MB this way, as dicts 480, and are written in a tenth of the
    time that encoding them takes.
    """

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [orjson.loads(row) for row in self.encoded[at]]
        row: Row = orjson.loads(self.encoded[at])
        return row

    def __iter__(self) -> Iterator[Row]:
        return map(orjson.loads, self.encoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"


@dataclass
class Run:
    """One training run. `training_iterations[i]` is a dict, as in the JSON."""

    run_name: str = ""
    start_time: str | None = None
    end_time: str | None = None
    config: Row = field(default_factory=dict)
    training_iterations: Sequence[Row] = field(default_factory=list)
    eval_steps: Sequence[Row] = field(default_factory=list)
    checkpoints: Sequence[Row] = field(default_factory=list)
    metrics: Sequence[Row] = field(default_factory=list)
    """Free-form numbers, a row a step."""
    metadata: Row = field(default_factory=dict)
    summary: Row = field(default_factory=dict)
    journal: Row = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)
    """The file it was read from."""

    @property
    def status(self) -> str:
        """`running`, `completed`, `interrupted`, `failed`; `unknown` in an older logger's file."""
        if self.journal:
            return str(self.journal.get("status"))
        return "completed" if self.end_time else "unknown"

    def to_json(self) -> Iterator[bytes]:
        """The document in pieces. Equal runs give equal bytes."""
        yield b'{\n  "run_name": ' + encode_row(self.run_name)
        yield b',\n  "start_time": ' + encode_row(self.start_time)
        yield b',\n  "end_time": ' + encode_row(self.end_time)
        yield from _block("config", self.config)
        for key in ("training_iterations", "eval_steps", "checkpoints"):
            yield from _block(key, getattr(self, key))
        if self.metrics:
            yield from _block(METRICS, self.metrics)
        for key in ("metadata", "summary", "journal"):
            yield from _block(key, getattr(self, key))
        yield b"\n}\n"


def _block(key: str, rows: Row | Sequence[Row]) -> Iterator[bytes]:
    """One top-level array or object, an element a line."""
    if isinstance(rows, Mapping):
        lines: Iterator[bytes] = (encode_row(k) + b": " + _value(v) for k, v in rows.items())
        left, right = b"{", b"}"
    else:
        lines = iter(rows.encoded) if isinstance(rows, Rows) else map(encode_row, rows)
        left, right = b"[", b"]"
    first = next(lines, None)
    if first is None:
        yield b',\n\n  "%b": %b%b' % (key.encode(), left, right)
        return
    yield b',\n\n  "%b": %b\n    %b' % (key.encode(), left, first)
    while some := b",\n    ".join(islice(lines, _LINES_AT_ONCE)):
        yield b",\n    " + some
    yield b"\n  " + right


def spaced(rows: list[bytes], *, plain: bool = False) -> list[bytes]:
    """Rows of JSON without spaces as `encode_row` writes them.

    `plain`: known to have nothing but numbers, under names of letters. Then, and where no string
    is anything but a key, the spaces go into all rows at once: 0.3 µs a row instead of 1.2.
    """
    text = b"\n".join(rows)
    if plain or (
        text.count(b'"') == 2 * text.count(b'":') and not any(odd in text for odd in _ODD)
    ):
        return text.replace(b',"', b', "').replace(b'":', b'": ').split(b"\n")
    return [encode_row(orjson.loads(row)) for row in rows]


def _value(value: Any) -> bytes:
    """A list of objects (sessions, defects) gets a line for each, everything else is one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return b"[\n      " + b",\n      ".join(map(encode_row, value)) + b"\n    ]"
    return encode_row(value)


def encode_row(value: Any) -> bytes:
    """JSON with a space after `:` and `,`, as the guide prints it.

    Where an object's only quotes are those around its keys and no list is in it, the two pairs
    of bytes that get a space stand nowhere else (a key that itself begins or ends with one of
    them is the exception); that is three times as fast as the standard library.
    """
    if type(value) is dict:
        row = _compact(value)
        if row.count(b'"') == 2 * len(value) and not any(odd in row for odd in _ODD):
            return row.replace(b',"', b', "').replace(b'":', b'": ')
    return json.dumps(_strict(value), ensure_ascii=False, default=str).encode()


def _compact(value: Row) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # what orjson refuses (a lone surrogate, a huge int), json takes
        return b""


def _strict(value: Any) -> Any:
    """`value` without what strict JSON does not have: non-finite floats, lone surrogates."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_strict(str(k)): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    return value


def parse_run(data: bytes, path: Path) -> Run:
    """The run of a run JSON's bytes. `summary` is as stored: {} where the file has none.

    Raises:
        UnreadableRun: no JSON, or not a run; names the byte where reading stopped.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as strict:
        try:
            document = json.loads(data)  # the guide's first logger wrote bare NaN
        except (ValueError, RecursionError):
            raise UnreadableRun(
                f"{path}: not a run JSON: {strict.msg} at byte {strict.pos:,} of {len(data):,}. "
                f"If its journal is beside it: eventlog compact {path.with_suffix('.jsonl')}"
            ) from None
        document = _named_nonfinite(document)
    if not isinstance(document, dict) or not isinstance(document.get("training_iterations"), list):
        raise UnreadableRun(f"{path}: valid JSON, but not a run: it has no training_iterations")
    given = {k: document[k] for k in KEYS if document.get(k) is not None}
    for key, value in given.items():
        if not _fits(key, value):
            raise UnreadableRun(f"{path}: valid JSON, but not a run: its {key} are no such thing")
    if _fits(METRICS, document.get(METRICS)):  # another logger may mean something else by it
        given[METRICS] = document[METRICS]
    run = Run(path=path, **given)
    for row in () if run.journal else run.training_iterations:  # of an earlier logger
        if type(row.get("mfu")) is dict:
            row["mfu_breakdown"] = row["mfu"]
            row["mfu"] = row["mfu"].get("mfu_percent", -100.0)
    run.run_name = run.run_name or path.stem
    return run


def _fits(key: str, value: Any) -> bool:
    """Whether `value` has the shape that this key of a run JSON has."""
    if key in ("run_name", "start_time", "end_time"):
        return isinstance(value, str)
    if key in ("config", "metadata", "summary", "journal"):
        return isinstance(value, dict)
    return isinstance(value, list) and {*map(type, value)} <= {dict}


def _named_nonfinite(value: Any) -> Any:
    """Old bare NaN as this format says it: null, and its name beside it."""
    if isinstance(value, list):
        return [_named_nonfinite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        bad = {k: str(v) for k, v in value.items() if isinstance(v, float) and not math.isfinite(v)}
        named = [("nonfinite", bad)] if bad else []
        return dict(chain(((k, _named_nonfinite(v)) for k, v in value.items()), named))
    return value
