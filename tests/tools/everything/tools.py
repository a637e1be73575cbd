"""What each tool has of a run, and what it must have: every value, or a stated form of it."""

import contextlib
import csv
import io
import json
import math
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import eventlog
from tests.tools.everything.logged import Key
from tools.cli import main
from tools.core import series as series_

Values = Mapping[Any, Any]


@dataclass
class Place:
    """Where a run is, and what it must have."""

    journal: Path
    stored: dict[Key, Any]
    """Each value by name and step."""
    sessions: list[dict[Key, Any]]
    """What each session logged, with each None, and with what was superseded later."""
    folder: Path
    """For what the tools write."""
    is_own: bool = True
    """Whether nothing else is logged; a framework logs series of its own, too."""

    @property
    def run_json(self) -> Path:
        return self.journal.with_suffix(".json")

    @property
    def run(self) -> eventlog.Run:
        return eventlog.load_run(self.run_json)


@dataclass
class Seen:
    """What a tool has and what it must have, by name, or by name and step or statistic."""

    values: Values
    expected: Values
    left_out: dict[str, str] = field(default_factory=dict)
    """Series that the tool cannot have, and why; the tool or its documentation says so."""

    def wrong(self, place: Place) -> list[Any]:
        """The keys at which the two differ."""
        keys = dict.fromkeys([*self.expected, *self.values])
        known = {name for session in place.sessions for name, _ in session}
        return [
            key
            for key in keys
            if (place.is_own or (key if isinstance(key, str) else key[0]) in known)
            and _text(self.values, key) != _text(self.expected, key)
        ]


def _text(values: Values, key: Any) -> str:
    """A value as text, by which NaN equals NaN and 1 is neither 1.0 nor true."""
    return repr(values[key]) if key in values else "nothing"


# ---- forms of values


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def numbers(stored: Mapping[Key, Any]) -> dict[Key, float]:
    """As float64, without text."""
    return {key: float(value) for key, value in stored.items() if is_number(value)}


def words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def without_numbers(stored: Mapping[Key, Any]) -> set[str]:
    """The series that have no number at all."""
    return {name for name, _ in stored} - {name for name, _ in numbers(stored)}


def by_name(stored: Mapping[Key, Any]) -> dict[str, dict[int, Any]]:
    series: dict[str, dict[int, Any]] = {}
    for (name, step), value in sorted(stored.items(), key=lambda item: item[0][1]):
        series.setdefault(name, {})[step] = value
    return series


def finite(series: Mapping[int, Any]) -> dict[int, Any]:
    return {s: v for s, v in series.items() if is_number(v) and math.isfinite(v)}


def last(series: Mapping[int, Any]) -> Any:
    return series[max(series)] if series else None


def all_series(place: "Place") -> dict[str, dict[int, Any]]:
    """The values of each series by step; of a series that has only None there is none."""
    names = dict.fromkeys(name for session in place.sessions for name, _ in session)
    return {name: {} for name in names} | by_name(place.stored)


def named(value: Any) -> Any:
    """A last value as text where JSON has no number for it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def command(*arguments: str) -> str:
    """What a command prints on stdout.

    Raises:
        AssertionError: it fails.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    assert code in (0, 1), err.getvalue()
    return out.getvalue()


def json_lines(*arguments: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in command(*arguments, "--json").splitlines()]


# ---- tools: lists and tables of the command line


def points(place: Place) -> Seen:
    return Seen(_values_of(place.run), place.stored)


def _values_of(run: eventlog.Run) -> dict[Key, Any]:
    steps_of = series_.points(run, [*run.series().values()])
    return {(name, s): v for name, of in steps_of.items() for s, v in zip(*of, strict=True)}


def frame(place: Place) -> Seen:
    """The columns of `Run.frame`; in a column of floats an integer may be the equal float."""
    table = place.run.frame("metrics")
    values = {
        (name, int(step)): value
        for name in table.columns.difference(["step", "timestamp_"])
        for step, value in zip(table["step"], table[name].tolist(), strict=True)
        if (name, int(step)) in place.stored
    }
    whole = {k: int(v) for k, v in values.items() if type(v) is float and v == place.stored[k]
             and type(place.stored[k]) is int}  # fmt: skip
    return Seen(values | whole, place.stored)


def frame_with_a_row_a_run(place: Place) -> Seen:
    from tools.transfer.frame import frame_of_runs

    (row,) = frame_of_runs([place.journal]).to_dict("records")
    expected = {name: last(series) for name, series in by_name(place.stored).items()}
    expected = {f"metrics/{n}" if f"metrics/{n}" in row else n: v for n, v in expected.items()}
    return Seen({name: row.get(name) for name in expected}, expected)


STATS: dict[str, Callable[[dict[int, Any]], Any]] = {
    "last": last,
    "first": lambda series: series[min(series)] if series else None,
    "count": len,
    "min": lambda series: min(finite(series).values(), default=None),
    "max": lambda series: max(finite(series).values(), default=None),
}


def ls(place: Place) -> Seen:
    values: dict[Any, Any] = {}
    for stat in STATS:
        (row,) = json_lines("ls", str(place.run_json), "--columns", f"**:{stat}")
        values |= {
            (label.removesuffix(f":{stat}"), stat): _marked(row, label, value)
            for label, value in row["series"].items()
        }
    series = all_series(place)
    expected = {(n, stat): named(of(series[n])) for n in series for stat, of in STATS.items()}
    return Seen(values, expected)


def _marked(row: Mapping[str, Any], label: str, value: Any) -> Any:
    return row.get("nonfinite", {}).get(label) if value is None else value


def show(place: Place) -> Seen:
    series, superseded = all_series(place), n_superseded(place)
    values, expected = {}, {}
    for row in json_lines("show", str(place.run_json), "--series", "**"):
        name = row["name"]
        values[name] = {k: row[k] for k in _summary_of({0: 0}, 0)} | {"last": _last_of(row)}
    for name, of in series.items():
        expected[name] = _summary_of(of, superseded.get(name, 0))
    return Seen(values, expected)


def _summary_of(series: dict[int, Any], n_superseded: int) -> dict[str, Any]:
    known = finite(series)
    low, high = min(known.values(), default=None), max(known.values(), default=None)
    return {
        "count": len(series),
        "last": named(last(series)),
        "last_step": max(series, default=None),
        "min": low,
        "min_step": next((s for s, v in known.items() if v == low), None),
        "max": high,
        "max_step": next((s for s, v in known.items() if v == high), None),
        "n_nonfinite": sum(is_number(v) for v in series.values()) - len(known),
        "n_superseded": n_superseded,
    }


def n_superseded(place: Place) -> dict[str, int]:
    """How many values of each series a later session logged again, or removed."""
    before, after = place.sessions
    first = {name: min(steps) for name, steps in by_name(after).items()}
    counts: dict[str, int] = {}
    for name, step in before:
        if name in first and step >= first[name]:
            counts[name] = counts.get(name, 0) + 1
    return counts


ALSO_FIELDS = ("run", "status", "name", "path", "config.lr", "lr", "time_ms", "mfu")
"""Metrics under the name of a field or a setting: they are found as `metrics/NAME`."""


def best(place: Place) -> Seen:
    values, expected = {}, {}
    for name, series in by_name(place.stored).items():
        if not (known := finite(series)):
            continue
        for sign, stat, of in (("-", "max", max), ("+", "min", min)):
            asked = f"metrics/{name}" if name in ALSO_FIELDS else name
            (row,) = json_lines("best", str(place.run_json), f"--metric={sign}{asked}")
            values[name, stat] = row["series"].get(f"{asked}:{stat}")
            expected[name, stat] = of(known.values())
    none = {name for name, series in by_name(place.stored).items() if not finite(series)}
    return Seen(values, expected, dict.fromkeys(none, "no finite number"))


def compare(place: Place) -> Seen:
    rows = json_lines("compare", str(place.journal), str(other_run(place)), "--metric", "**")
    ours = [row for row in rows if row["path"] == str(place.journal.with_suffix(".json"))
            or row["path"] == str(place.journal)]  # fmt: skip
    values = {row["series"]: (_last_of(row), row["last_step"]) for row in ours}
    series = by_name(place.stored)
    left_out = without_numbers(place.stored)
    expected = {n: (named(last(s)), max(s)) for n, s in series.items() if n not in left_out}
    return Seen(values, expected, dict.fromkeys(left_out, "words"))


def _last_of(row: Mapping[str, Any]) -> Any:
    """A last value in JSON, which has the name of a NaN beside it."""
    return row.get("nonfinite", {}).get("last") if row["last"] is None else row["last"]


def diff(place: Place) -> Seen:
    """The last values of series that differ from those of a run of 30 steps."""
    other = other_run(place)
    theirs = {name: one.last for name, one in eventlog.load_run(other).series().items()}
    rows = json_lines("diff", str(place.journal), str(other), "--only", "results")
    values = {
        row["name"].removesuffix(":last"): (row["ours"], row["theirs"])
        for row in rows
        if row["name"].endswith(":last")
    }
    ours = {name: last(series) for name, series in by_name(place.stored).items()}
    expected = {
        name: (named(ours[name]), named(theirs[name]))
        for name in ours
        if name in theirs and repr(ours[name]) != repr(theirs[name])
    }
    return Seen(values, expected)


def other_run(place: Place) -> Path:
    """A shorter run with the same names."""
    folder = place.folder / "other"
    journal = next(folder.glob("*.jsonl"), None)
    if journal is None:
        run = eventlog.init(dir=folder, name="other", quiet=True, reinit="create_new")
        for step in range(30):
            run.log({n: v for (n, s), v in place.stored.items() if s == step}, step=step)
        run.finish()
        (journal,) = folder.glob("*.jsonl")
    return journal


# ---- charts

FIGURE_SERIES = 20
DRAWN_MAX, DRAWN_MIN = 1e100, 1e-100


def with_first_marks(stored: Mapping[Key, Any]) -> dict[Key, float]:
    """Numbers as float64; of neighbours that are not finite, and the same, the first one."""
    drawn: dict[Key, float] = {}
    for name, series in by_name(numbers(stored)).items():
        before = 0.0
        for step, value in series.items():
            if math.isfinite(value) or repr(value) != repr(before):
                drawn[name, step] = value
            before = value
    return drawn


def plot(place: Place) -> Seen:
    """The points of the curves that are drawn, and the marks where a value is not finite."""
    from tools.plot import any_series, figure

    left_out = without_numbers(place.stored)
    names = [name for name in by_name(place.stored) if name not in left_out]
    values: dict[Key, Any] = {}
    draw_curve = any_series._draw_curve

    def recorded(axes: Any, drawing: Any, curve: Any) -> None:
        marks = {int(curve.x[at]): float(mark) for at, mark in curve.nonfinite.items()}
        values.update({(curve.name, step): mark for step, mark in marks.items()})
        values.update(
            ((curve.name, int(x)), float(y))
            for x, y in zip(curve.x, curve.y, strict=True)
            if math.isfinite(y) and int(x) not in marks
        )
        draw_curve(axes, drawing, curve)

    any_series._draw_curve = recorded
    try:
        for at in range(0, len(names), FIGURE_SERIES):
            metrics = names[at : at + FIGURE_SERIES]
            figure.draw([place.run], metrics=metrics, x="step", all_values=True, dpi=50)
    finally:
        any_series._draw_curve = draw_curve
    drawable = {key: _drawable(value) for key, value in numbers(place.stored).items()}
    changed = {name for (name, step), value in drawable.items()
               if repr(value) != repr(float(place.stored[name, step]))}  # fmt: skip
    reasons = dict.fromkeys(left_out, "words") | dict.fromkeys(changed, "as 1e100, or as 0.0")
    return Seen(values, drawable, reasons)


def _drawable(value: float) -> float:
    """Of a number that matplotlib cannot draw, the nearest one that it can."""
    limited = max(-DRAWN_MAX, min(DRAWN_MAX, value)) if math.isfinite(value) else value
    return 0.0 if abs(limited) < DRAWN_MIN else limited


def serve(place: Place) -> Seen:
    """The points that the page gets of each curve, at a width at which none is left out."""
    from tests.tools.dashboard.pages import serving_here, until

    names = sorted({name for name, _ in place.stored})
    keys = "\n".join(name.replace("\\", "\\\\").replace("\n", "\\n") or "\\e" for name in names)
    values: dict[Key, Any] = {}
    with serving_here(place.journal) as server:
        (id,) = [row["id"] for row in until(lambda: server.json("/api/runs")["runs"])]
        until(lambda: not server.json(f"/api/run?id={id}")["reading"])
        body = _answer(server, f"/api/curves?runs={id}&x=step&px=4000&keys={_quoted(keys)}")
    head, arrays = body
    at = 0
    for one in head["runs"][0]["series"]:
        assert not one["thinned"]
        x, y = arrays[at : at + one["n"]], arrays[at + one["n"] : at + 2 * one["n"]]
        at += 2 * one["n"] + 3 * one["means"]
        values |= {(one["key"], int(s)): float(v) for s, v in zip(x, y, strict=True) if v == v}
        values |= {(one["key"], int(s)): float(mark) for s, mark in one["nonfinite"]}
    left_out = without_numbers(place.stored)
    return Seen(values, with_first_marks(place.stored), dict.fromkeys(left_out, "words"))


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _answer(server: Any, path: str) -> tuple[dict[str, Any], Any]:
    status, _, body = server.get(path)
    assert status == 200, body
    (length,) = struct.unpack_from("<I", body)
    begin = 4 + length
    return orjson.loads(body[4:begin]), np.frombuffer(body[begin:], np.float64)


def watch(place: Place) -> Seen:
    """The lines of the terminal's charts, and the marks where a value is not finite."""
    from tools.live.folders import Folders
    from tools.terminal import drawing
    from tools.terminal.view import View

    values: dict[Key, Any] = {}
    left_out = without_numbers(place.stored)
    with Folders([str(place.journal)]) as folders:
        ids = _ids(folders)
        view = View(axis="iter")
        edges = drawing.x_range(folders, ids, view)
        for name in sorted({name for name, _ in place.stored} - left_out):
            drawn = drawing.drawing(folders, ids, name, view, edges, 4_000)
            for line in drawn.lines:
                pairs = zip(line.x, line.y, strict=True)
                values |= {(name, int(x)): float(y) for x, y in pairs if not math.isnan(y)}
            marked = [int(x) for x, kind in drawn.marks if kind == "nonfinite"]
            values |= {(name, x): "not finite" for x in marked}
    expected = {
        key: value if math.isfinite(value) else "not finite"
        for key, value in with_first_marks(place.stored).items()
    }
    return Seen(values, expected, dict.fromkeys(left_out, "words"))


def _ids(folders: Any) -> list[str]:
    from tests.tools.dashboard.pages import until

    until(lambda: folders.is_complete and folders.rows())
    (id,) = [row["id"] for row in folders.rows()]

    def is_read() -> bool:
        with folders.at(id) as following:
            return following is not None and not following.is_reading

    until(is_read)
    return [id]


# ---- rules


def guard(place: Place) -> Seen:
    """The steps at which a rule for every series finds the first NaN or infinity of several."""
    from tools.monitor.rules import Limits
    from tools.monitor.series_rules import SeriesRule, SeriesWatch

    watch = SeriesWatch([SeriesRule("*", "nan")], Limits())
    found = []
    for record in eventlog.scan(place.journal):
        if record.event == "open":
            watch.clear()
        found += [text for _, text in watch.add(record, 0.0)]
    expected = []
    for session in place.sessions:
        for name, series in by_name(session).items():
            steps = [(s, v) for s, v in series.items() if is_number(v)]
            for at, (step, value) in enumerate(steps):
                is_first = at == 0 or math.isfinite(steps[at - 1][1])
                if not math.isfinite(value) and is_first:
                    expected.append(f"{name} {value} at step {step:,}")
    left_out = dict.fromkeys(without_numbers(place.stored), "words")
    return Seen(_counted(found), _counted(expected), left_out)


def _counted(texts: Iterable[str]) -> dict[tuple[str, str], int]:
    """How often each finding of a series is there: `NAME nan at step 3`."""
    return Counter((text.rsplit(" ", 4)[0], text) for text in texts)


# ---- SQL, archives, exports


def long_table(rows: Iterable[tuple[str, int, Any, Any]]) -> dict[Key, Any]:
    """A float64, or the text of what is none; of an integer beyond 2^53 the text."""
    values: dict[Key, Any] = {}
    for name, step, value, text in rows:
        assert (name, step) not in values
        values[name, step] = text if text is not None else value
    return values


def in_long_table(value: Any) -> Any:
    if is_number(value) and float(value) == value:
        return float(value)
    if isinstance(value, float):
        return value
    return str(value) if type(value) is int else words(value)


def query(place: Place) -> Seen:
    return _by_sql(place.journal, place)


def _by_sql(where: Path | str, place: Place) -> Seen:
    from tools.archive.query import answer

    sql = "select name, step, value, text from series where run = (select max(run) from runs)"
    with answer(sql, [str(where)]) as result:
        values = long_table(tuple(row) for row in result.rows)  # type: ignore[misc]
    return Seen(values, {key: in_long_table(value) for key, value in place.stored.items()})


def archive(place: Place) -> Seen:
    return _by_sql(_archived(place), place)


def _archived(place: Place) -> Path:
    to = place.folder / "archive"
    if not to.exists():
        command("archive", str(place.journal), "--to", str(to))
    return to


def restore(place: Place) -> Seen:
    to = place.folder / "restored"
    to_archive = ["--to", str(_archived(place))]
    command("archive", "--restore", place.run.run_name, *to_archive, "--out", str(to))
    (journal,) = to.rglob("*.jsonl")
    return Seen(_values_of(eventlog.load_run(journal)), place.stored)


def table_files(to: str) -> Callable[[Place], Seen]:
    """The long table of CSV or Parquet, by the csv module and pyarrow."""

    def read(place: Place) -> Seen:
        out = place.folder / to
        command("export", str(place.journal), "--to", to, "--out", str(out))
        (path,) = out.glob(f"*/series.{to}")
        values = long_table(_READERS[to](path))
        return Seen(values, {key: in_long_table(v) for key, v in place.stored.items()})

    return read


Line = tuple[str, int, Any, Any]


def _csv(path: Path) -> Iterator[Line]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            is_number = bool(row["value"])
            value, text = row["value"], row["text"]
            yield row["name"], int(row["step"]), float(value) if is_number else None, (
                None if is_number and not text else text
            )  # fmt: skip


def _parquet(path: Path) -> Iterator[Line]:
    import pyarrow.parquet

    for row in pyarrow.parquet.read_table(path).to_pylist():
        yield row["name"], row["step"], row["value"], row["text"]


_READERS: dict[str, Callable[[Path], Iterator[Line]]] = {"csv": _csv, "parquet": _parquet}


def tracker(to: str) -> Callable[[Place], Seen]:
    """What another tracker's own reader has; numbers and texts apart."""

    def read(place: Place) -> Seen:
        from tests.tools.transfer.readers import export_peer, values_in

        out = place.folder / to
        export_peer(place.journal, to, out)
        found, texts = values_in(to, out)
        if to == "mlflow":
            texts = {(name, -1): text for name, text in texts.items()}
        expected, left_out = FORMS[to](place.stored)
        return Seen(texts | found, expected, left_out)

    return read


Form = tuple[dict[Key, Any], dict[str, str]]
"""What a target must have, and the series of which it cannot have all, with the reason."""


def _in_tensorboard(stored: Mapping[Key, Any]) -> Form:
    with np.errstate(over="ignore"):
        values = {k: float(np.float32(float(v))) for k, v in stored.items() if is_number(v)}
    return _texts(stored) | values, {}


def _texts(stored: Mapping[Key, Any]) -> dict[Key, str]:
    return {key: words(value) for key, value in stored.items() if not is_number(value)}


def _in_trackio(stored: Mapping[Key, Any]) -> Form:
    """Its files have NaN as the text `NaN`."""
    named = {key: math.nan for key, text in _texts(stored).items() if text == "NaN"}
    reason = "the text NaN is the number"
    return _texts(stored) | numbers(stored) | named, dict.fromkeys({n for n, _ in named}, reason)


def _in_wandb(stored: Mapping[Key, Any]) -> Form:
    """As trackio; and it has no sign of zero."""
    values, left_out = _in_trackio(stored)
    zeros = {n for (n, _), value in values.items() if repr(value) == "-0.0"}
    unsigned = {k: value + 0.0 if type(value) is float else value for k, value in values.items()}
    return unsigned, left_out | dict.fromkeys(zeros, "-0.0 is 0.0")


def _in_mlflow(stored: Mapping[Key, Any]) -> Form:
    """Numbers, the infinities as the largest ones; of words the last, which has no step there."""
    texts = by_name(_texts(stored))
    values: dict[Key, Any] = {(name, -1): last(series) for name, series in texts.items()}
    left_out = dict.fromkeys(texts, "of words the last one")
    most = sys.float_info.max
    for (name, step), value in numbers(stored).items():
        values[name, step] = 0.0 + (value if math.isnan(value) else max(-most, min(most, value)))
        if repr(values[name, step]) != repr(value):
            reason = "infinities are the largest number" if math.isinf(value) else "-0.0 is 0.0"
            left_out.setdefault(name, reason)
    return values, left_out


FORMS: dict[str, Callable[[Mapping[Key, Any]], Form]] = {
    "tensorboard": _in_tensorboard,
    "wandb": _in_wandb,
    "mlflow": _in_mlflow,
    "trackio": _in_trackio,
}


# ---- all of them


@dataclass(frozen=True)
class Tool:
    name: str
    read: Callable[[Place], Seen]
    form: str
    """How it has values."""
    package: str = "eventlog"


EXACT = "as logged"
LONG = "float64; of words and integers beyond 2^53 the text"
TOOLS = (
    Tool("`Run.points`", points, EXACT),
    Tool("`Run.frame`", frame, EXACT, "pandas"),
    Tool("`eventlog.frame`", frame_with_a_row_a_run, "last value, as logged", "pandas"),
    Tool("`runs ls --columns`", ls, "last, first, count, min, max, as logged"),
    Tool("`runs show`", show, "last, min, max and their steps, counts, as logged"),
    Tool("`runs best --metric`", best, "least and greatest number, as logged"),
    Tool("`runs compare --metric`", compare, "last value of numbers, as logged"),
    Tool("`runs diff`", diff, "last value, as logged"),
    Tool("`runs plot --metric`", plot, "float64; a mark where it is not finite", "matplotlib"),
    Tool("`runs serve`", serve, "float64; a mark where it is not finite", "starlette"),
    Tool("`runs watch`", watch, "float64; a mark where it is not finite", "textual"),
    Tool("`runs guard --rule`", guard, "each NaN or infinity after a finite value"),
    Tool("`runs query`", query, LONG, "duckdb"),
    Tool("`runs archive`, queried", archive, LONG, "duckdb"),
    Tool("`runs archive --restore`", restore, EXACT, "pyarrow"),
    Tool("export to CSV", table_files("csv"), LONG),
    Tool("export to Parquet", table_files("parquet"), LONG, "pyarrow"),
    Tool("export to TensorBoard", tracker("tensorboard"), "float32; words as text", "tensorboard"),
    Tool("export to W&B", tracker("wandb"), "float64; words as text", "wandb"),
    Tool("export to MLflow", tracker("mlflow"), "float64", "mlflow"),
    Tool("export to trackio", tracker("trackio"), "float64; words as text", "trackio"),
)
