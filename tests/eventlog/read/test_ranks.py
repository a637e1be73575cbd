"""A rank's journal: like any other, beside its run's, and never listed as a run."""

import pytest

import eventlog


@pytest.fixture
def run(tmp_path):
    """A run of 3 iterations, still being written."""
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(3):
            run.log_iter(i, loss=3.0 - i)
        yield run


def log_as(run, rank, iterations=range(3), **opening):
    with eventlog.open_run(
        journal=run.journal_path, rank=rank, metadata={"rank": rank}, **opening
    ) as log:
        for i in iterations:
            log.log("iter", iter=i, own_ms=10.0 * rank)
    return log


def test_ranks_are_found_by_their_run_in_order(run):
    paths = {rank: log_as(run, rank).journal_path for rank in (10, 2, 0)}

    found = eventlog.find_ranks(run.journal_path)

    assert found == paths
    assert list(found) == [0, 2, 10]
    assert eventlog.find_ranks(run.run_path) == found


def test_ranks_of_a_run_with_a_longer_name_are_not_found(tmp_path, run):
    other = run.journal_path.with_name(f"{run.journal_path.stem}_2.jsonl")
    other.write_bytes(run.journal_path.read_bytes())

    log_as(run, 1)

    assert eventlog.find_ranks(other) == {}


def test_a_rank_has_the_name_of_its_run_and_its_own_metrics(run):
    log = eventlog.load_run(log_as(run, 2).journal_path)

    assert log.run_name == run.run_name
    assert [row["own_ms"] for row in log.training_iterations] == [20.0] * 3
    assert (log.status, log.metadata["rank"]) == ("completed", 2)


def test_a_rank_that_resumes_repeats_iterations_and_repairs_a_torn_line(run):
    path = log_as(run, 1).journal_path
    with open(path, "ab") as file:
        file.write(b'{"n":5,"s":"a12')

    log_as(run, 1, range(1, 5), from_iter=1)

    log = eventlog.load_run(path)
    assert [row["iter"] for row in log.training_iterations] == [0, 1, 2, 3, 4]
    assert log.journal["defects"] == []


def test_what_a_rank_writes_after_its_disk_failed_does_not_enter_the_run(run):
    path = log_as(run, 1).journal_path
    line = path.read_bytes().splitlines(keepends=True)[-2]
    s = eventlog.load_run(path).journal["sessions"][0]["s"]
    path.with_name(f"{path.stem}.{s}.0.segment").write_bytes(line)

    whole = eventlog.load_run(run.journal_path)

    assert whole.journal["segments"] == []
    assert [row["loss"] for row in whole.training_iterations] == [3.0, 2.0, 1.0]
    assert [part["bytes"] for part in eventlog.load_run(path).journal["segments"]] == [len(line)]


def test_no_run_json_is_made_of_a_rank(run, tmp_path, capfd):
    path = log_as(run, 1).journal_path
    assert capfd.readouterr().err == ""

    with pytest.raises(eventlog.EventlogError, match=r"rank1\.journal: is a rank's journal"):
        eventlog.compact(path)

    assert list(tmp_path.glob("*.json")) == []


def test_a_rank_of_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rank=1: needs the journal"):
        eventlog.open_run(tmp_path, rank=1)
