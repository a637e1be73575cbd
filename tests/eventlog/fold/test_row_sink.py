"""A row sink has, after every record, the rows that the run has."""

from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog import Fold
from tests.kept_rows import KeptRows
from tests.strategies import SESSIONS, T, histories, journals, line, record

TABLES = {"iter": "training_iterations", "eval": "eval_steps", "metrics": "metrics"}


def assert_has_the_rows_of(sink, run):
    assert [row for _, row in sorted(sink.rows.get("metrics", {}).items())] == run.metrics
    for event, name in TABLES.items():
        numbers = [row.get("iter", row.get("step")) for row in getattr(run, name)]
        assert sorted(sink.rows.get(event, {})) == numbers
    assert [sink.rows["iter"][row["iter"]]["loss"] for row in run.training_iterations] == [
        row["loss"] for row in run.training_iterations
    ]


def records_of(history, metrics):
    """Records of the sessions, each with some events of `metrics` among them."""
    for s, steps in zip([*SESSIONS, "e5e5e5e5"], history, strict=False):
        n = 0
        for event, number in steps:
            key = {"rewind": "to_iter", "open": "from_iter"}.get(event, "iter")
            fields = {} if event == "open" and number < 0 else {key: number}
            yield record(n, s, event, **fields, **({"loss": n / 7} if event == "iter" else {}))
            n += 1
            if metrics and n % 2:
                yield record(n, s, "metrics", step=number, **{"abc"[n // 2 % 3]: n})
                n += 1


@given(histories, st.booleans(), st.booleans())
def test_a_sink_has_the_rows_of_the_run_after_every_record(history, metrics, with_rows):
    sink = KeptRows()
    watched, alone = Fold(sink=sink, with_rows=with_rows), Fold()

    for one in records_of(history, metrics):
        watched.add(one)
        alone.add(one)
        assert_has_the_rows_of(sink, alone.run())

    assert watched.superseded == alone.superseded
    assert watched.sessions == alone.sessions
    assert watched.missing_iterations() == alone.missing_iterations()


@given(journals)
def test_load_run_gives_a_sink_the_rows_of_the_journal(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("sink") / "run.jsonl"
    path.write_bytes(written.data)
    sink = KeptRows()

    run = eventlog.load_run(path, sink=sink)

    assert sorted(sink.rows.get("iter", {})) == [row["iter"] for row in run.training_iterations]


def test_events_of_the_machine_come_with_the_latest_iteration():
    sink = KeptRows()
    fold = Fold(sink=sink)
    events = [("open", {}), ("system", {"cpu_percent": 1.0}), ("iter", {"iter": 7, "loss": 1.0})]

    for n, (event, fields) in enumerate([*events, ("system", {"cpu_percent": 2.0})]):
        fold.add(record(n, event=event, **fields))

    assert sink.rows["system"] == {0: {"cpu_percent": 1.0}, 7: {"cpu_percent": 2.0}}


def test_a_journal_that_is_read_again_clears_the_sink(tmp_path):
    from eventlog.fold.load import Folding

    path, other = tmp_path / "run.jsonl", tmp_path / "other"
    path.write_bytes(b"".join(line(n, iter=n, loss=1.0) for n in range(5)))
    other.write_bytes(line(0, SESSIONS[1], iter=9, loss=1.0, t=T))
    sink = KeptRows()
    folding = Folding(path, sink=sink)
    folding.read()

    other.replace(path)
    folding.read()

    assert list(sink.rows["iter"]) == [9]
