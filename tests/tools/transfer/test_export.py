"""`runs export`: each system's own reader returns what was logged, once."""

import csv
import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from tests.tools.transfer.readers import export_peer, need, values_in
from tools.cli import main
from tools.transfer.export import TARGETS, export
from tools.transfer.targets import files, mlflow, trackio, wandb
from tools.transfer.targets.names import original, unreserved

ODD = {4: math.nan, 5: math.inf, 6: -math.inf, 7: 1e300, 8: 5e-324, 9: -0.0, 10: 0.1 + 0.2}


def loss(i, take=1):
    return ODD.get(i, random.Random(100 * i + take).random() * 10) if take == 1 else take + i / 7


class Logged:
    """A run being logged, and what a reader must find of it: (name, iter) -> value."""

    def __init__(self, folder):
        self.session = eventlog.open_run(
            folder,
            run_name="run",
            config={"lr": 6e-4, "net": {"n_layer": 2, "act": "gelu"}, "betas": [0.9, 0.95]},
            metadata={"world_size": 2, "device": "cpu"},
            save_interval=0,
        )
        self.path = self.session.journal_path
        self.iterations, self.evals = {}, {}

    def take(self, first, last, take=1):
        """Take iterations; those already taken, and later ones, are taken back."""
        for rows in (self.iterations, self.evals):
            for i in [i for i in rows if i >= first]:
                del rows[i]
        self.session.log("rewind", to_iter=first)
        for i in range(first, last):
            if i % 50 == 0:
                self.evals[i] = {"train_loss": loss(i, take) / 3, "val_loss": loss(i + 20, take)}
                self.session.log_eval(i, **self.evals[i])
            row = {"loss": loss(i, take), "time_ms": 50 + i / 3, "mfu": 30.5 if i > 3 else -100.0}
            self.iterations[i] = row | {"grad_norm": 1 / (i + 1)}
            self.session.log_iter(i, **self.iterations[i])

    def close(self):
        self.session.log_checkpoint(0, "out/ckpt.pt", val_loss=2.5, size_bytes=7)
        self.session.close()

    def points(self, names, **eval_names):
        """All values by (name, iteration), as a tracker has them."""
        found = {
            (names.get(key, key), i): value
            for i, row in self.iterations.items()
            for key, value in row.items()
            if (key, value) != ("mfu", -100.0)
        }
        return found | {
            (eval_names[key], i): value
            for i, row in self.evals.items()
            for key, value in row.items()
        }


@pytest.fixture
def logged(tmp_path):
    logged = Logged(tmp_path / "runs")
    logged.take(0, 120)
    yield logged
    logged.close()


def bits(value):
    return "nan" if value != value else struct.pack("<d", value)


def same(found, expected):
    """Equal bit for bit, NaN and the sign of zero included."""
    assert found.keys() == expected.keys()
    wrong = {k: (found[k], expected[k]) for k in found if bits(found[k]) != bits(expected[k])}
    assert wrong == {}
    return True


# ---- what each system's reader reads


def read_csv(out, kind="iterations"):
    (path,) = out.glob(f"*/{kind}.csv")
    with open(path, newline="") as file:
        return {int(row["iter"]): row for row in csv.DictReader(file)}


def numbers(rows, key):
    """The last character of a row is its own: nan is a number, nothing is none."""
    return {i: float(row[key]) for i, row in rows.items() if row[key] not in ("", None)}


def read_tensorboard(out):
    """(tag, step) -> value, and the number of points, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (p.parent for p in out.glob("*/events.*"))
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    events = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
    found = {(tag, e.step): e.value for tag, all in events.items() for e in all}
    return found, sum(map(len, events.values()))


TAGS = {"loss": "Loss/train", "mfu": "MFU"}
EVAL_TAGS = {"train_loss": "Loss/train_eval", "val_loss": "Loss/val"}
TRACKER = {"loss": "train/iter_loss"}
EVAL_TRACKER = {"train_loss": "train/loss", "val_loss": "val/loss"}


def float32(value):
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:  # TensorBoard's numbers end at 3.4e38
        return math.copysign(math.inf, value)


def test_csv_holds_every_value_bit_for_bit(logged, tmp_path):
    export(logged.path, "csv", tmp_path / "out")

    rows, evals = read_csv(tmp_path / "out"), read_csv(tmp_path / "out", "evals")
    for key in ("loss", "time_ms", "mfu", "grad_norm"):
        same(numbers(rows, key), {i: row[key] for i, row in logged.iterations.items()})
    for key in ("train_loss", "val_loss"):
        same(numbers(evals, key), {i: row[key] for i, row in logged.evals.items()})
    assert rows[4]["loss"] == "nan"
    assert rows[4]["timestamp"].endswith("+00:00")


def test_csv_read_by_pandas_and_duckdb_has_the_same_bits(logged, tmp_path):
    import duckdb
    import pandas

    export(logged.path, "csv", tmp_path / "out")

    (path,) = tmp_path.glob("out/*/iterations.csv")
    exactly = {} if pandas.__version__ >= "3" else {"float_precision": "round_trip"}
    by_pandas = pandas.read_csv(path, **exactly)
    by_duckdb = duckdb.sql(f"select iter, loss from read_csv('{path}') order by iter").fetchall()
    expected = {i: row["loss"] for i, row in logged.iterations.items()}
    same(dict(zip(by_pandas["iter"], by_pandas["loss"], strict=True)), expected)
    same(dict(by_duckdb), expected)


def test_parquet_has_every_value_bit_for_bit_and_distinguishes_nan_from_missing(logged, tmp_path):
    import duckdb
    import pyarrow.parquet

    logged.session.log_iter(120, 1.5)  # no time_ms, no grad_norm
    export(logged.path, "parquet", tmp_path / "out")

    (path,) = tmp_path.glob("out/*/iterations.parquet")
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for key in ("loss", "time_ms", "mfu", "grad_norm"):
        expected = {i: row[key] for i, row in logged.iterations.items()}
        same({row["iter"]: row[key] for row in rows[:-1]}, expected)
    assert (rows[-1]["loss"], rows[-1]["time_ms"], rows[-1]["grad_norm"]) == (1.5, None, None)
    query = f"select count(*), count(loss), count(grad_norm) from '{path}'"
    assert duckdb.sql(query).fetchall() == [(121, 121, 120)]
    about = orjson.loads(pyarrow.parquet.read_schema(path).metadata[b"runjournal"])
    assert about["config"]["net"] == {"n_layer": 2, "act": "gelu"}


def test_tensorboard_holds_every_value_as_float32_with_its_step_and_time(logged, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")

    export(logged.path, "tensorboard", tmp_path / "out")

    found, n_points = read_tensorboard(tmp_path / "out")
    expected = {k: float32(v) for k, v in logged.points(TAGS, **EVAL_TAGS).items()}
    same(found, expected)
    assert n_points == len(expected)
    assert wall_times(tmp_path / "out") == logged_times(logged.path)


def wall_times(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (p.parent for p in out.glob("*/events.*"))
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [event.wall_time for event in reader.Scalars("Loss/train")]


def logged_times(journal):
    from datetime import datetime

    records = (r for r in eventlog.scan(journal) if r.event == "iter")
    return [datetime.fromisoformat(record.t).timestamp() for record in records]


def test_tensorboard_has_the_configuration_as_hyperparameters(logged, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    export(logged.path, "tensorboard", tmp_path / "out")

    (folder,) = (p.parent for p in (tmp_path / "out").glob("*/events.*"))
    reader = EventAccumulator(str(folder)).Reload()
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["lr"].number_value == 6e-4
    assert hparams["net.n_layer"].number_value == 2
    assert hparams["net.act"].string_value == "gelu"
    assert hparams["metadata.world_size"].number_value == 2


def test_a_frame_has_non_finite_numbers_as_numbers(logged):
    run = eventlog.load_run(logged.path)
    iterations, evals = run.frame("iterations"), run.frame("evals")

    same(dict(zip(iterations["iter"], iterations["loss"], strict=True)),
         {i: row["loss"] for i, row in logged.iterations.items()})  # fmt: skip
    assert list(iterations.columns[:4]) == ["iter", "loss", "time_ms", "mfu"]
    assert "timestamp" in iterations
    assert list(evals["iter"]) == [0, 50, 100]


# ---- every target


def log_metrics(folder):
    """A run of metrics: names that targets have for themselves, words, NaN, old steps.

    Its own name and some of the metrics' are too long for files, tags and keys.
    """
    run = eventlog.open_run(folder, run_name="L" * 300, save_interval=0)
    names = (
        "",
        "n" * 250,
        f"{'n' * 4_000}1",
        f"{'n' * 4_000}2",
        "é" * 300,
        "train/loss",
        "val.acc",
        "odd (name) é",
        "timestamp",
        "_step",
        "_step_",
        "a:b",
        "a/../b",
    )
    for step in range(6):
        run.log("metrics", step=step, **{name: loss(step) + k for k, name in enumerate(names)})
    run.log("metrics", step=2, late=2.5, note="a word", flag=True, **{"w" * 300: "long"})
    run.log("metrics", step=1, note='another, "quoted"\nword', **{"train/loss": -1.0})
    return run


def grow(run):
    """A new step, an old step that gets a value, and one whose value is replaced."""
    run.log("metrics", step=6, **{"train/loss": 0.5})
    run.log("metrics", step=0, late=7.5)
    run.log("metrics", step=2, late=-2.5, note="other")


def series_of(path, to):
    """Its numbers and words by series and step, as the target can have them."""
    run = eventlog.load_run(path)
    points = {(name, i): v for name in run.series() for i, v in run.points(name)}
    numbers = {k: float(v) for k, v in points.items() if type(v) in (int, float)}
    words = {k: v if isinstance(v, str) else "true" for k, v in points.items() if k not in numbers}
    if to == "tensorboard":
        numbers = {k: float32(v) for k, v in numbers.items()}
    if to == "mlflow":  # its databases have no infinities; its tags have the last words
        largest = sys.float_info.max
        numbers = {k: v if v != v else max(-largest, min(v, largest)) for k, v in numbers.items()}
        words = {name: value for (name, _), value in sorted(words.items())}
    if to in ("mlflow", "wandb"):  # they have no sign of zero
        numbers = {k: v + 0.0 for k, v in numbers.items()}
    return numbers, words


@pytest.mark.parametrize("to", TARGETS)
def test_every_target_has_every_series_under_its_name_and_nothing_twice(to, tmp_path):
    need(to)
    run = log_metrics(tmp_path / "runs")
    states = []
    for change in (lambda run: None, lambda run: None, grow):
        change(run)
        states.append(export_peer(run.journal_path, to, tmp_path / "out")["state"])

        numbers, words = values_in(to, tmp_path / "out")
        expected, expected_words = series_of(run.journal_path, to)
        same(numbers, expected)
        assert words == expected_words
    run.close()

    assert states[:2] == ["new", "unchanged"]
    assert states[2] in ("continued", "replaced")


# ---- again and again


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
def test_a_second_export_changes_nothing(to, logged, tmp_path):
    if to == "tensorboard":
        pytest.importorskip("tensorboard", reason="pip install tensorboard")
    first = export(logged.path, to, tmp_path / "out")
    before = contents(tmp_path / "out")

    second = export(logged.path, to, tmp_path / "out")

    assert (first.state, second.state, second.n_added) == ("new", "unchanged", 0)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
def test_a_run_that_grows_and_rewinds_is_exported_as_if_for_the_first_time(to, logged, tmp_path):
    if to == "tensorboard":
        pytest.importorskip("tensorboard", reason="pip install tensorboard")
    states = []
    for first, last, take in [(120, 130, 1), (130, 140, 1), (110, 125, 2), (125, 126, 2)]:
        logged.take(first, last, take)
        states.append(export(logged.path, to, tmp_path / "out").state)

    export(logged.path, to, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    if to == "tensorboard":
        assert states == ["new", "continued", "replaced", "continued"]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_runs_of_the_same_name_get_separate_folders(tmp_path):
    for folder in ("a", "b"):
        with eventlog.open_run(tmp_path / folder, save_interval=0) as run:
            run.log_iter(0, 1.0)
        run.journal_path.rename(tmp_path / folder / "same.jsonl")
        text = (tmp_path / folder / "same.jsonl").read_text()
        assert text.count(run.run_name)
        export(tmp_path / folder / "same.jsonl", "csv", tmp_path / "out")

    assert len(list(tmp_path.glob("out/*/iterations.csv"))) == 2


def test_a_run_json_and_its_journal_are_one_run(logged, tmp_path):
    logged.close()
    run_json = tmp_path / "alone.json"
    eventlog.compact(logged.path)
    run_json.write_bytes(logged.path.with_suffix(".json").read_bytes())

    export(logged.path, "csv", tmp_path / "out")
    export(run_json, "csv", tmp_path / "out")

    assert len(list(tmp_path.glob("out/*/iterations.csv"))) == 1


# ---- a crash of the exporter


pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=12)


@given(pieces, st.data())
def test_an_export_cut_anywhere_is_completed(tmp_path_factory, all, data):
    path = tmp_path_factory.mktemp("grow") / "file"
    whole = b"".join(all)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])

    files.grow(path, lambda: iter(all))

    assert path.read_bytes() == whole


@given(pieces, st.binary(max_size=300))
def test_an_export_with_other_content_is_replaced(tmp_path_factory, all, held):
    path = tmp_path_factory.mktemp("grow") / "file"
    path.write_bytes(held)

    files.grow(path, lambda: iter(all))

    assert path.read_bytes() == b"".join(all)


FORK_SERVER = """
import importlib, os, sys
from pathlib import Path
from tools.transfer.export import export
if sys.argv[2] in ("csv", "parquet", "tensorboard"):
    export(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) / "warm")  # imports what it needs
else:  # these keep threads, connections or servers that no fork may have
    importlib.import_module(sys.argv[2])
    importlib.import_module(f"tools.transfer.targets.{sys.argv[2]}")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        export(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) / line.strip())
        os._exit(0)
    print(child, flush=True)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # its id stays its own until it is asked
    print("gone", flush=True)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Exporter:
    """Exports in forked processes that can be killed at any moment of the work itself."""

    def __init__(self, path, to, out):
        command = [sys.executable, "-c", FORK_SERVER, str(path), to, str(out)]
        root = str(Path(__file__).parents[3])
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env=os.environ | {"PYTHONPATH": root, "TRACKIO_DIR": str(out / "out")},
        )  # fmt: skip

    def run(self, name, kill_after_s=None):
        """One export; how long it took, or None if it was killed."""
        self.server.stdin.write(f"{name}\n")
        self.server.stdin.flush()
        child = int(self.server.stdout.readline())
        begun = time.monotonic()
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(child, signal.SIGKILL)
        assert self.server.stdout.readline() == "gone\n"
        took_s = time.monotonic() - begun
        self.server.stdin.write("reap\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        return took_s if status == 0 else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


def export_and_kill(exporter, logged):
    """Export a run that grows, and goes back now and then, until 20 exports were killed."""
    chance, n_killed, n_taken = random.Random(5), 0, 200
    logged.take(0, n_taken)
    takes_s = exporter.run("out")
    for k in range(1, 100):
        first = n_taken - (15 if k % 7 == 0 else 0)
        n_taken += 20
        logged.take(first, n_taken, take=1 + k)
        took_s = exporter.run("out", kill_after_s=chance.uniform(0, takes_s))
        n_killed += took_s is None
        takes_s = took_s or takes_s
        if n_killed == 20:
            break
    return n_killed


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
def test_an_export_killed_at_20_moments_and_run_again_has_each_point_once(to, tmp_path):
    if to == "tensorboard":
        pytest.importorskip("tensorboard", reason="pip install tensorboard")
    logged = Logged(tmp_path / "runs")
    with Exporter(logged.path, to, tmp_path) as exporter:
        n_killed = export_and_kill(exporter, logged)
        exporter.run("out")
        exporter.run("fresh")
    logged.close()

    assert n_killed == 20
    assert contents_of_run(tmp_path / "out") == contents_of_run(tmp_path / "fresh")
    if to == "tensorboard":
        found, n_points = read_tensorboard(tmp_path / "out")
        assert n_points == len(found)
        same(found, {k: float32(v) for k, v in logged.points(TAGS, **EVAL_TAGS).items()})


def contents_of_run(folder):
    """Without the files that a killed export was writing aside."""
    return {k: v for k, v in contents(folder).items() if not k.endswith(".tmp")}


# ---- the command


def test_the_command_reports_each_run_and_continues_after_a_bad_one(logged, tmp_path, capsys):
    (tmp_path / "runs" / "bad.json").write_text("{")

    code = main(
        ["export", str(tmp_path / "runs"), "--to=csv", "--out", str(tmp_path / "out"), "--json"]
    )

    out, err = capsys.readouterr()
    row = json.loads(out)
    assert code == 1
    assert (row["state"], row["n_added"], row["to"]) == ("new", 123, "csv")
    assert err.count("\n") == 1
    assert "bad.json" in err


def test_a_second_export_into_a_folder_at_the_same_time_is_refused(logged, tmp_path, capsys):
    import fcntl

    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".export.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = main(["export", str(logged.path), "--to=csv", "--out", str(tmp_path / "out")])

    assert code == 2
    assert "another export" in capsys.readouterr().err


def test_a_missing_library_is_one_line_with_the_command_that_gets_it(
    logged, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)

    code = main(["export", str(logged.path), "--to=mlflow", "--out", str(tmp_path / "out")])

    assert code == 1
    assert capsys.readouterr().err == "this needs mlflow: pip install mlflow\n"


def test_a_missing_library_is_one_line_for_many_runs(tmp_path, capsys, monkeypatch):
    for name in ("a", "b"):
        with eventlog.open_run(tmp_path / "runs", run_name=name, save_interval=0) as run:
            run.log_iter(0, 1.0)
    monkeypatch.setitem(sys.modules, "mlflow", None)

    main(["export", str(tmp_path / "runs"), "--to=mlflow", "--out", str(tmp_path / "out")])

    assert capsys.readouterr().err.count("this needs mlflow") == 1


@given(st.text(max_size=20) | st.text("a:./2f", max_size=12), st.text("a:./2f", max_size=12))
def test_the_names_that_targets_make_of_names_can_be_reversed(name, other):
    assert mlflow.original_name(mlflow._name(name)) == name
    assert (mlflow._name(name) == mlflow._name(other)) == (name == other)
    for reserved in (wandb.RESERVED, trackio.RESERVED):
        for one in (name, *reserved, *(f"{word}_" for word in reserved)):
            assert original(unreserved(one, reserved), reserved) == one
            assert unreserved(one, reserved) not in reserved


def test_a_table_of_more_than_1000_columns_is_in_series_alone_and_that_is_printed(tmp_path, capsys):
    with eventlog.open_run(tmp_path / "runs", run_name="run", save_interval=0) as run:
        run.log("metrics", step=0, **{f"name/{k}": float(k) for k in range(1_001)})

    main(["export", str(tmp_path / "runs"), "--to=csv", "--out", str(tmp_path / "out")])

    assert "metrics has 1,003 columns, more than 1,000" in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob("out/*/*")} == {"run.json", "series.csv"}
    assert len(values_in("csv", tmp_path / "out")[0]) == 1_001
