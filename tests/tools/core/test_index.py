"""The index of run files: an answer with it is the answer without it, and nothing is read twice."""

import builtins
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventlog
from tests.tools.conftest import GOLDEN, make_run
from tools.archive import query
from tools.commands import ls
from tools.core import index, rows
from tools.live.folders import Folders

NOW = 1_800_000_000.0
TICK_S = 0.012  # a file system's clock is at least this fine: two changes have two times


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An index of its own, with files that count as settled at once."""
    monkeypatch.setattr(index, "SETTLED_S", 0.0)
    return use(monkeypatch, tmp_path / "cache")


def use(monkeypatch, folder):
    monkeypatch.setenv("RUNS_CACHE", str(folder))
    close()
    return folder


def close():
    """What the exit of a process does: the next call opens the index again."""
    for opened in index._indexes.values():
        if opened is not None:
            opened.close()
    index._indexes.clear()


def make_runs(folder, n=3):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        make_run(folder, f"r{k}", [5.0 - k, 4.0 - k], seed=k)
    with eventlog.open_run(folder, run_name="m", config={"lr": 0.1}, save_interval=0) as run:
        for step in range(5):
            run.log("metrics", step=step, **{"val/acc": step / 10, "train/loss": math.nan})
    journal = run.journal_path.rename(folder / "metrics.jsonl")
    eventlog.compact(journal)
    shutil.copy(GOLDEN / "guide.json", folder)
    time.sleep(TICK_S)
    return folder


def answers(folder):
    """What `ls`, `best` and `serve` have of the runs, as bytes."""
    listed = ls.listed([str(folder)], columns=["val/acc:max", "eval/val_loss:min"])
    page = Folders([str(folder)])
    page.refresh()
    while page.read_on():
        pass
    shown = sorted(page.rows(), key=lambda row: row["id"])
    for row in (*listed, *shown):
        row["age_s"] = None
    return orjson.dumps([listed, shown], option=orjson.OPT_NON_STR_KEYS)


def without_index(read):
    kept, os.environ["RUNS_CACHE"] = os.environ["RUNS_CACHE"], "off"
    try:
        return read()
    finally:
        os.environ["RUNS_CACHE"] = kept


def count_opens(monkeypatch, folder, read):
    """How many files of a folder are opened to be read."""
    opened = []

    def counting(function):
        def call(path, *args, **kwargs):
            if isinstance(path, str | os.PathLike) and str(path).startswith(str(folder)):
                opened.append(os.fspath(path))
            return function(path, *args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", counting(os.open))
        patch.setattr(builtins, "open", counting(builtins.open))
        read()
    return opened


def test_a_second_start_reads_no_run_file_that_did_not_change(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    read = lambda: [row["run"] for row in ls.listed([str(out)])]  # noqa: E731
    first = read()
    close()

    opened = count_opens(monkeypatch, out, lambda: first.extend(read()))

    assert opened == []
    assert first[:5] == first[5:]


def test_a_second_start_reads_the_one_run_that_changed(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    ls.listed([str(out)])
    close()
    make_run(out, "r1", [9.0])
    time.sleep(TICK_S)

    opened = count_opens(monkeypatch, out, lambda: ls.listed([str(out)]))

    assert {os.path.basename(path) for path in opened} == {"r1.json", "r1.jsonl"}


def test_the_table_of_runs_of_a_query_is_answered_by_the_index(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    (out / "guide.json").unlink()  # of another logger: is read whole
    sql = "select run, best_val_loss, config from runs order by run"

    def read():
        with query.answer(sql, [str(out)]) as answer:
            return [*answer.rows]

    first = read()
    close()
    again = []

    opened = count_opens(monkeypatch, out, lambda: again.extend(read()))

    assert opened == []
    assert again == first == without_index(read)


def change(folder, random_):
    """One change of the files of a folder, as people and programs make them."""
    names = sorted(path.name for path in folder.iterdir())
    jsons = [folder / name for name in names if name.endswith(".json")]
    path = random_.choice(jsons) if jsons else None
    what = random_.choice(
        ["new", "resume", "append", "edit", "replace", "delete", "rename", "swap", "touch",
         "lose_journal", "cut", "back_in_time"]
    )  # fmt: skip
    if what == "new" or path is None:
        make_run(folder, f"r{random_.randrange(6)}", [random_.random() + 1], seed=1)
        return
    journal = path.with_suffix(".jsonl")
    if what == "resume" and journal.exists():
        with eventlog.open_run(journal=journal, save_interval=0) as run:
            run.log_iter(7, 0.5)
    elif what == "append" and journal.exists():
        eventlog.Annotator(journal).log("note", text="a note")
    elif what == "edit":  # in place, of the same size
        path.write_bytes(path.read_bytes().replace(b"4", b"3"))
    elif what == "replace":  # of the same size too, often with the inode that became free
        new = path.with_suffix(".new")
        new.write_bytes(path.read_bytes().replace(b"3", b"2"))
        new.rename(path)
    elif what == "delete":
        path.unlink()
    elif what == "rename":
        path.rename(folder / f"x{random_.randrange(3)}.json")
    elif what == "swap" and len(jsons) > 1:
        other = random_.choice([p for p in jsons if p != path])
        path.rename(folder / "swap")
        other.rename(path)
        (folder / "swap").rename(other)
    elif what == "touch":
        path.touch()
    elif what == "lose_journal":
        journal.unlink(missing_ok=True)
    elif what == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif what == "back_in_time":  # another content with the times of the earlier one
        times = path.stat()
        path.write_bytes(path.read_bytes().replace(b"2", b"1"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 30))
def test_after_any_changes_the_answer_is_that_of_reading_all(seed, tmp_path_factory):
    random_ = random.Random(seed)
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "SETTLED_S", 0.0)
        use(patch, folder / "cache")
        out = make_runs(folder / "out", n=2)
        for _ in range(6):
            change(out, random_)
            time.sleep(TICK_S)
            assert answers(out) == without_index(lambda: answers(out))
            if random_.random() < 0.5:
                close()
        close()


def test_a_file_that_changed_just_now_is_not_kept(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(index, "SETTLED_S", 2.0)
    out = make_runs(tmp_path / "out")
    ls.listed([str(out)])
    close()

    opened = count_opens(monkeypatch, out, lambda: ls.listed([str(out)]))

    assert len(opened) >= 5


def n_kept(cache):
    with sqlite3.connect(cache / "index.sqlite") as base:
        return {os.fsdecode(name) for (name,) in base.execute("select distinct name from kept")}


def test_a_deleted_run_leaves_the_index(tmp_path, cache):
    out = make_runs(tmp_path / "out")
    ls.listed([str(out)])
    close()
    before = n_kept(cache)
    (out / "r1.json").unlink()
    (out / "r1.jsonl").unlink()

    ls.listed([str(out)])
    close()

    assert before - n_kept(cache) == {"r1.json"}


def test_a_folder_that_is_not_listed_for_a_month_leaves_the_index(tmp_path, cache, monkeypatch):
    for name in ("old", "new"):
        ls.listed([str(make_runs(tmp_path / name))])
    close()
    now = time.time()
    monkeypatch.setattr(index.time, "time", lambda: now + 31 * 86_400)

    ls.listed([str(tmp_path / "new")])
    close()

    with sqlite3.connect(cache / "index.sqlite") as base:
        folders = {os.fsdecode(row[0]) for row in base.execute("select distinct folder from kept")}
    assert folders == {str(tmp_path / "new")}


def test_the_size_of_the_index_is_bounded(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(index, "BYTES_MAX", 100_000)
    path = tmp_path / "file.json"
    path.write_text("{}")
    time.sleep(TICK_S)
    for k in range(100):
        index.put(path, f"row {k}", path.stat(), random.Random(k).randbytes(10_000))
        index.flush()
    close()

    assert (cache / "index.sqlite").stat().st_size < 300_000


@pytest.mark.parametrize("damage", ["zeros", "text", "half", "flipped", "other_format", "a_folder"])
def test_a_damaged_index_changes_no_answer_and_is_replaced(tmp_path, cache, damage):
    out = make_runs(tmp_path / "out")
    answers(out)
    close()
    path = cache / "index.sqlite"
    data = path.read_bytes()
    path.unlink()
    if damage == "a_folder":
        path.mkdir()
    elif damage == "other_format":
        with sqlite3.connect(path) as base:
            base.execute("create table kept (a)")
            base.execute("pragma user_version = 99")
    else:
        path.write_bytes(
            {
                "zeros": bytes(len(data)),
                "text": b"not a database" * 100,
                "half": data[: len(data) // 2],
                "flipped": bytes(b ^ (1 if k % 97 == 0 and k > 200 else 0)
                                 for k, b in enumerate(data)),
            }[damage]
        )  # fmt: skip

    for _ in range(3):
        assert answers(out) == without_index(lambda: answers(out))
        close()


def test_what_was_kept_of_another_file_is_noticed(tmp_path, cache):
    out = make_runs(tmp_path / "out")
    expected = answers(out)
    close()
    with sqlite3.connect(cache / "index.sqlite") as base:
        kept = base.execute("select rowid, data from kept order by name, what").fetchall()
        for (rowid, _), (_, data) in zip(kept, kept[-3:] + kept[:-3], strict=True):
            base.execute("update kept set data = ? where rowid = ?", (data, rowid))

    assert answers(out) == expected


def test_an_index_that_another_process_locks_is_not_waited_for(tmp_path, cache):
    out = make_runs(tmp_path / "out")
    expected = answers(out)
    close()
    base = sqlite3.connect(cache / "index.sqlite", isolation_level=None)
    base.execute("begin exclusive")
    begun = time.monotonic()

    locked = answers(out)

    assert locked == expected
    assert time.monotonic() - begun < 10
    base.close()


def test_a_full_or_read_only_disk_changes_no_answer(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    expected = without_index(lambda: answers(out))
    opened = index.of_user()
    opened._base.execute("pragma max_page_count = 8")  # as `database or disk is full`

    assert answers(out) == expected
    assert opened.is_closed or not opened._pending


def test_the_index_of_another_user_is_not_used(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    cache.mkdir()
    close()
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)

    rows = ls.listed([str(out)])

    assert len(rows) == 5
    assert not (cache / "index.sqlite").exists()


def test_why_the_index_is_not_used_is_said_if_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setenv("RUNS_CACHE", "verbose")
    out = make_runs(tmp_path / "out")

    ls.listed([str(out)])

    assert "/dev/null/runs: the index is not used: " in capsys.readouterr().err


def test_two_processes_at_once_both_answer(tmp_path, cache):
    out = make_runs(tmp_path / "out", n=6)
    command = [sys.executable, "-m", "tools", "ls", str(out), "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]

    answers = [process.communicate()[0].splitlines() for process in processes]

    assert [len(lines) for lines in answers] == [8] * 4
    assert [process.returncode for process in processes] == [0] * 4


def test_a_row_of_other_code_is_not_used(tmp_path, cache, monkeypatch):
    out = make_runs(tmp_path / "out")
    path = out / "r0.json"
    rows.glance(path)
    assert rows.indexed(path) is not None
    monkeypatch.setattr(index, "_code", lambda: b"another!")

    assert rows.indexed(path) is None


def test_a_run_whose_journal_is_gone_is_seen_again_with_its_journal(tmp_path, cache):
    """The status of such a run JSON depends on a file beside it, so it is not kept."""
    path = tmp_path / "a.json"
    with eventlog.open_run(tmp_path / "out", run_name="a") as run:
        run.log_iter(0, 1.0)
        eventlog.compact(run.journal_path)
        shutil.copy(run.journal_path.with_suffix(".json"), path)  # it says `running`
    time.sleep(TICK_S)
    assert rows.glance(path)["status"] == "unknown"
    shutil.copy(run.journal_path, tmp_path / "a.jsonl")

    assert rows.glance(path)["status"] == "completed"
