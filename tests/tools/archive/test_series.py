"""Any history gives the same series, from the run, live, files, SQL over folders and archives."""

import csv
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventlog
from tests import strategies
from tests.tools.live.test_groups import drawn
from tools.archive import manifest, parts
from tools.archive.archive import archive, repair, restore
from tools.archive.catalog import INDEX, N_VALUES, Catalog
from tools.archive.query import answer
from tools.archive.store import open_store
from tools.live.content import Content
from tools.transfer.export import export

NAMES = ("train/loss", "val.acc", "loss", "eval/val_loss", "Loss", "a,b\r\n", '"', "path", "iter")
values = (
    strategies.any_floats
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | strategies.text
    | st.lists(st.integers(0, 9), max_size=2)
)
metrics = st.tuples(
    st.just("metrics"),
    st.integers(-3, 8),
    st.dictionaries(st.sampled_from(NAMES) | strategies.text.filter(bool), values, max_size=4),
)
others = st.sampled_from(["iter", "eval", "checkpoint", "rewind", "system"])
events = st.lists(
    metrics | st.tuples(others, st.integers(0, 8), strategies.any_floats), max_size=12
)
histories = st.lists(events, min_size=1, max_size=3)


def log(folder, sessions):
    """A run of these sessions; the path of its journal."""
    journal = None
    for session in sessions:
        where = {"run_name": "run"} if journal is None else {"journal": journal}
        with eventlog.open_run(
            *([folder] if journal is None else []), **where, save_interval=0
        ) as run:
            journal = run.journal_path
            for event, number, value in session:
                log_event(run, event, number, value)
    return journal


def log_event(run, event, number, value):
    if event == "metrics":
        run.log("metrics", step=number, **{k: v for k, v in value.items() if k not in RESERVED})
    elif event == "iter":
        run.log_iter(number, value, 50.0, extra=value)
    elif event == "eval":
        run.log_eval(number, value, value)
    elif event == "checkpoint":
        run.log_checkpoint(number, f"{number}.pt", val_loss=value)
    elif event == "rewind":
        run.log("rewind", to_iter=number)
    else:
        run.log("system", cpu_percent=value)


RESERVED = frozenset({*strategies.RESERVED, "step", "nonfinite", "event", "self"})


def from_run(journal):
    run = eventlog.load_run(journal)
    names = [*run.series(), *run.series("system/*")]
    return [(name, step, value) for name in names for step, value in run.points(name)]


def from_csv(out):
    (path,) = out.glob("*/series.csv")
    with open(path, newline="") as file:
        rows = [*csv.DictReader(file)]
    return [
        (row["name"], int(row["step"]), float(row["value"]) if row["value"] else None, row["text"])
        for row in rows
    ]  # fmt: skip


def from_parquet(out):
    (path,) = out.glob("*/series.parquet")
    rows = pyarrow.parquet.read_table(path).to_pylist()
    return [(row["name"], row["step"], row["value"], row["text"] or "") for row in rows]


def from_sql(place):
    with answer("select name, step, value, coalesce(text, '') from series", [str(place)]) as result:
        return [tuple(row) for row in result.rows]


def in_files(name, step, value):
    """A value as the long table has it."""
    if type(value) is float:
        return name, step, value, ""
    if type(value) is int:
        return name, step, float(value), "" if float(value) == value else str(value)
    text = value if isinstance(value, str) else {True: "true", False: "false"}[value]
    return name, step, None, text


def from_live(journal, series):
    """The numbers of some series as the page and the terminal have them."""
    content = Content()
    for _ in content.read(eventlog.Reader(journal).read_batches_on(to_the_end=True)):
        pass
    content.settle()
    rows = []
    for name in series:
        finite, marks = drawn(content, name)
        rows += [(name, int(step), float(value), "") for step, value in finite]
        rows += [(name, step, float(mark), "") for step, mark in marks]
    return rows


def numbers(journal):
    """The series that have only numbers that a float64 holds, and their rows."""
    run = eventlog.load_run(journal)
    points = {
        name: [in_files(name, step, value) for step, value in run.points(name)]
        for name, one in run.series().items()
        if one.table in ("iterations", "evals", "metrics") and one.is_numeric
    }
    known = {name: rows for name, rows in points.items() if not any(row[3] for row in rows)}
    return [*known], [row for rows in known.values() for row in rows]


def comparable(rows):
    return sorted(map(repr, rows))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories)
def test_any_history_gives_the_same_series_everywhere(sessions):
    with TemporaryDirectory() as folder:
        home = Path(folder)
        journal = log(home / "out", sessions)

        expected = comparable(in_files(*point) for point in from_run(journal))
        export(journal, "csv", home / "csv")
        export(journal, "parquet", home / "parquet")
        archive([home / "out"], str(home / "kept"))

        names, rows = numbers(journal)
        assert comparable(from_live(journal, names)) == comparable(rows)
        assert comparable(from_csv(home / "csv")) == expected
        assert comparable(from_parquet(home / "parquet")) == expected
        assert comparable(from_sql(home / "out")) == expected
        assert comparable(from_sql(home / "kept")) == expected


def test_each_value_has_the_time_at_which_it_was_logged(tmp_path):
    with eventlog.open_run(tmp_path, run_name="run", save_interval=0) as run:
        run.log("metrics", step=0, a=1.0, b=1.0)
        run.log("metrics", step=1, a=2.0)
        run.log("metrics", step=0, b=3.0)
        run.log_iter(2, 0.5)
    logged = [r for r in eventlog.scan(run.journal_path) if r.event in ("metrics", "iter")]
    times = [datetime.fromisoformat(record.t).replace(tzinfo=None) for record in logged]

    with answer("select name, step, time from series order by name, step", [str(tmp_path)]) as out:
        rows = [row for row in out.rows if row[0] in ("a", "b", "loss")]

    assert rows == [
        ("a", 0, times[0]), ("a", 1, times[1]), ("b", 0, times[2]), ("loss", 2, times[3]),
    ]  # fmt: skip


def test_thousands_of_names_are_a_thousand_columns_and_all_of_them_in_series(tmp_path):
    with eventlog.open_run(tmp_path / "out", run_name="run", save_interval=0) as run:
        run.log("metrics", step=0, **{f"name/{k}": float(k) for k in range(3_000)})
        run.log("metrics", step=1, last=math.inf)
    archive([tmp_path / "out"], str(tmp_path / "kept"))

    for place in (tmp_path / "out", tmp_path / "kept"):
        with answer("select * from metrics", [str(place)]) as result:
            assert len(result.names) <= 1_001
            assert "name/0" in result.names
        with answer("select count(*), max(value) from series", [str(place)]) as result:
            assert [*result.rows] == [(3_001, math.inf)]


def test_the_files_of_an_archive_are_read_by_pandas_and_polars(tmp_path):
    polars = pytest.importorskip("polars", reason="pip install polars")
    with eventlog.open_run(tmp_path / "out", run_name="run", save_interval=0) as run:
        run.log("metrics", step=0, **{"val/acc": math.nan, "note": "a word"})
    archive([tmp_path / "out"], str(tmp_path / "kept"))
    (path,) = (tmp_path / "kept").glob("series/*/*.parquet")

    rows = polars.read_parquet(path).select("name", "value", "text").rows()
    frame = pandas.read_parquet(path)

    assert repr(rows) == repr([("val/acc", math.nan, None), ("note", None, "a word")])
    assert frame["name"].tolist() == ["val/acc", "note"]
    assert str(frame["time"].dtype) == "datetime64[us]"


# ---- archives from before there was `series`


def make_old(kept):
    """The archive as an earlier version wrote it: three tables, and no count in the index."""
    store = open_store(str(kept))
    catalog = Catalog(store, manifest.need(store))
    old = ("iterations", "evals", "checkpoints")
    contents = catalog.manifest
    for part in contents.parts:
        if part.kind not in old:
            store.remove(part.name)
    index = parts.write_parquet(
        store, contents.runs.name, catalog.index.select([n for n in INDEX.names if n != N_VALUES])
    )
    contents = replace(
        contents,
        runs=index,
        types={kind: types for kind, types in contents.types.items() if kind in old},
        parts=tuple(part for part in contents.parts if part.kind in old),
    )
    store.write(manifest.NAME, lambda file: file.write(contents.to_bytes()))


@pytest.fixture
def old(tmp_path):
    """An archive of one run by an earlier version."""
    with eventlog.open_run(tmp_path / "out", run_name="run", save_interval=0) as run:
        run.log("metrics", step=0, **{"val/acc": 0.5})
        run.log_iter(0, 1.5)
    archive([tmp_path / "out"], str(tmp_path / "kept"))
    make_old(tmp_path / "kept")
    return tmp_path / "kept"


def count(kept):
    with answer("select count(*) from series where name in ('val/acc', 'loss')", [str(kept)]) as it:
        return [*it.rows]


def test_an_archive_of_an_earlier_version_is_read_and_has_no_series(old):
    with answer("select loss from iterations", [str(old)]) as result:
        assert [*result.rows] == [(1.5,)]
    assert count(old) == [(0,)]


def test_archiving_the_same_folder_again_adds_the_tables_that_an_old_archive_lacks(old):
    bundles = [*old.glob("journals/*/*")]
    before = {path.name: path.read_bytes() for path in (old.parent / "out").iterdir()}

    assert archive([old.parent / "out"], str(old)).states["grown"] == 1
    assert archive([old.parent / "out"], str(old)).states["unchanged"] == 1

    assert count(old) == [(2,)]
    assert [*old.glob("journals/*/*")] == bundles
    for path in restore("run", str(old), old.parent / "back"):
        assert path.read_bytes() == before[path.name]


def test_repair_adds_the_tables_that_an_old_archive_lacks(old):
    repair(str(old))

    assert count(old) == [(2,)]
