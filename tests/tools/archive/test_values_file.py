"""The values of a run that are kept for the next query: the same answer, and no run is read."""

import math
import os
import time

import pytest

import eventlog
from tests.tools.core.test_index import TICK_S, close, count_opens, use, without_index
from tools.archive import query
from tools.core import index, values_file

SQL = "select * from series"


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A run with all sorts of values, resumed; files count as settled at once."""
    monkeypatch.setattr(index, "SETTLED_S", 0.0)
    monkeypatch.setattr(values_file, "BYTES_LEAST", 0)
    use(monkeypatch, tmp_path / "cache")
    log(tmp_path / "out", 0, {"loss": 1.5, "words": "a 'b'", "huge": 2**63 - 1, "bad": math.nan})
    log(tmp_path / "out", 1, {"loss": 1.25, "true": True, "bad": math.inf})
    return tmp_path / "out"


def log(folder, step, values):
    journals = [*folder.glob("*.jsonl")] if folder.exists() else []
    where = {"journal": journals[0]} if journals else {"out_dir": folder, "run_name": "a"}
    with eventlog.open_run(save_interval=0, **where) as run:
        run.log("metrics", step=step, **values)
        run.log_iter(step, 4.5, 10.0)
    eventlog.compact(run.journal_path)
    time.sleep(TICK_S)


def answer(folder, sql=SQL):
    with query.answer(sql, [str(folder)]) as result:
        return result.names, [repr(row) for row in result.rows]


def test_the_first_the_second_and_an_answer_without_the_cache_are_the_same(out):
    first = answer(out)
    close()

    assert first == answer(out) == without_index(lambda: answer(out))
    assert len(first[1]) == 11


def test_a_second_query_reads_no_run_file(out, monkeypatch):
    answer(out)
    close()

    assert count_opens(monkeypatch, out, lambda: answer(out)) == []


def test_a_query_of_series_and_of_another_table_has_both(out):
    sql = "select s.value, i.loss from series s join iterations i on s.step = i.iter order by all"
    answer(out)

    assert answer(out, sql) == without_index(lambda: answer(out, sql))


def test_a_run_that_went_on_is_read_again(out):
    before = answer(out)
    log(out, 2, {"loss": 0.75})

    after = answer(out)

    assert after == without_index(lambda: answer(out))
    assert len(after[1]) == len(before[1]) + 3


def kept(out):
    (file,) = (out.parent / "cache" / "values").glob("*.parquet")
    return file


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "deleted", "of another run"])
def test_a_damaged_file_of_values_changes_no_answer(out, damage):
    before = answer(out)
    file = kept(out)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    if damage == "deleted":
        file.unlink()
    elif damage == "of another run":
        other = out.parent / "other"
        log(other, 0, {"loss": 9.0})
        answer(other)
        (of_other,) = {*file.parent.glob("*.parquet")} - {file}
        of_other.replace(file)
    else:
        file.write_bytes({"flipped": bytes(data), "cut": data[:100], "empty": b""}[damage])

    assert answer(out) == before


def test_values_that_depend_on_other_files_are_not_kept(out):
    (journal,) = out.glob("*.jsonl")
    state = values_file.state_of(journal.with_suffix(".json"))
    (out / f"{journal.stem}.0123abcd.1.segment").touch()

    assert state is not None
    assert values_file.state_of(journal.with_suffix(".json")) is None
    assert values_file.state_of(journal) is None


def test_a_run_whose_journal_has_more_than_its_run_json_is_not_kept(out):
    (journal,) = out.glob("*.jsonl")
    eventlog.Annotator(journal).log("note", text="not in the run JSON")
    time.sleep(TICK_S)

    assert values_file.state_of(journal.with_suffix(".json")) is None


def test_a_full_disk_changes_no_answer(out, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(values_file, "_make_room", full)

    assert answer(out) == without_index(lambda: answer(out))


def test_files_that_were_not_used_lately_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(values_file, "BYTES_MAX", 250)
    for hours in (1, 2, 3, 4):
        file = tmp_path / f"{hours}.parquet"
        file.write_bytes(bytes(100))
        os.utime(file, (time.time() - 3600 * hours - 60,) * 2)

    values_file._make_room(tmp_path)

    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1", "2"]
