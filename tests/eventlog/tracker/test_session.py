"""`open_run`: three lines in any loop, and the loop never fails because of them."""

import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from datetime import datetime

import numpy as np
import orjson
import pytest

import eventlog
from eventlog.cli.main import main
from eventlog.tracker import location


def events_of(run):
    return list(eventlog.scan(run.journal_path))


def test_the_files_have_the_names_of_the_guide(tmp_path):
    before = datetime.now().replace(microsecond=0)
    with eventlog.open_run(tmp_path, run_name="my_experiment") as run:
        run.log_iter(0, 1.0)

    name, day, clock = run.run_path.stem.rsplit("_", 2)
    assert name == "my_experiment"
    assert before <= datetime.strptime(day + clock, "%Y%m%d%H%M%S") <= datetime.now()
    assert sorted(p.name for p in tmp_path.iterdir()) == [run.run_path.name, run.journal_path.name]


def test_an_imported_run_has_the_start_and_end_of_its_source(tmp_path):
    then, later = "2020-01-02T03:04:05+00:00", "2020-01-02T05:00:00+00:00"
    run = eventlog.open_run(tmp_path, started=then)
    run.log_iter(0, 1.0)
    run.close(ended=later)

    loaded = eventlog.load_run(run.run_path)
    assert (loaded.start_time, loaded.end_time) == (then, later)
    assert loaded.journal["sessions"][0]["started"] > later


def test_two_runs_begun_in_one_second_get_different_names(tmp_path):
    runs = [eventlog.open_run(tmp_path, save_interval=0) for _ in range(5)]
    for run in runs:
        run.close()

    assert len({run.journal_path for run in runs}) == 5


def test_the_name_of_a_run_json_without_its_journal_is_not_used_again(tmp_path, monkeypatch):
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(location, "datetime", Frozen)
    (tmp_path / "run_20260102_030405.json").write_text("somebody's history")

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass

    assert run.journal_path.name == "run_20260102_030405_2.jsonl"


def test_a_name_with_a_slash_stays_in_its_folder(tmp_path):
    with eventlog.open_run(tmp_path / "out", run_name="../../etc/x", save_interval=0) as run:
        pass

    assert run.journal_path.parent == tmp_path / "out"


@pytest.mark.parametrize("name", [".hidden", "..", "../../x", "."])
def test_no_name_makes_a_hidden_file(tmp_path, name):
    with eventlog.init(dir=tmp_path, name=name, save_interval=0) as run:
        pass
    with eventlog.init(dir=tmp_path, name=name, resume="must", save_interval=0) as again:
        pass

    assert again.journal_path == run.journal_path
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_the_open_event_has_process_and_command_but_not_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-is-secret")
    with eventlog.open_run(tmp_path, config={"lr": 0.1}, metadata={"world_size": 2}) as run:
        pass

    (opened, _) = events_of(run)
    fields = opened.fields
    assert (fields["config"], fields["metadata"]) == ({"lr": 0.1}, {"world_size": 2})
    assert (fields["pid"], fields["format"], len(fields["run_id"])) == (os.getpid(), 1, 32)
    assert fields["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert b"hunter2" not in run.journal_path.read_bytes()


def test_an_error_inside_the_with_block_fails_the_run_and_passes_through(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        eventlog.open_run(tmp_path) as run,
    ):
        run.log_iter(0, 1 / 0)

    journal = orjson.loads(run.run_path.read_bytes())["journal"]
    assert (journal["status"], journal["reason"]) == (
        "failed",
        "ZeroDivisionError: division by zero",
    )


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("notes")

    with pytest.raises(NotADirectoryError, match=r"notes\.txt: is a file; a run needs a folder"):
        eventlog.open_run(path)


def test_an_error_with_a_text_of_megabytes_fails_the_run_and_its_last_line_can_be_read(tmp_path):
    text = "batch 7: " + "x" * 3_000_000
    with suppress(ValueError), eventlog.open_run(tmp_path, save_interval=0) as run:
        raise ValueError(text)

    loaded = eventlog.load_run(run.journal_path)
    assert loaded.status == "failed"
    assert loaded.journal["reason"].startswith("ValueError: batch 7: xxx")
    assert main(["verify", str(run.journal_path)]) == 0
    assert any(text in aside.read_text() for aside in tmp_path.glob("*.aside"))


def test_a_credential_is_masked_also_where_a_long_reason_is_cut(tmp_path):
    text = "x" * 968 + " postgres://admin:S3cr3tPassw0rd@db.example.com/runs " + "y" * 400
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.close("failed", text)

    assert "S3cr3t" not in run.journal_path.read_text()


def test_fields_of_the_end_that_no_line_holds_are_counted_as_an_error_and_the_run_is_closed(
    tmp_path,
):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.close("completed", samples="x" * 3_000_000)

    assert run.errors == 1
    assert eventlog.load_run(run.journal_path).status == "completed"


def test_ctrl_c_inside_the_with_block_interrupts_the_run(tmp_path):
    with pytest.raises(KeyboardInterrupt), eventlog.open_run(tmp_path) as run:
        raise KeyboardInterrupt

    assert eventlog.load_run(run.run_path).status == "interrupted"


def run_of(begin, folder):
    folders = {"init": {"dir": folder}, "open_run": {"out_dir": folder}}
    return getattr(eventlog, begin)(save_interval=0, **folders[begin])


EXITS = {
    "sys.exit(3)": ("failed", "exit code 3"),
    "sys.exit('no data')": ("failed", "SystemExit: no data"),
    "sys.exit([1])": ("failed", "SystemExit: [1]"),
    "sys.exit(143)": ("interrupted", "exit code 143"),
    "sys.exit(0)": ("completed", None),
    "raise MemoryError": ("failed", "MemoryError"),
}


@pytest.mark.parametrize("begin", ["init", "open_run"])
@pytest.mark.parametrize("end", EXITS)
def test_init_and_open_run_say_in_the_same_words_how_the_program_ended(tmp_path, begin, end):
    with suppress(BaseException), run_of(begin, tmp_path):
        exec(end, {"sys": sys})

    (journal,) = tmp_path.glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == EXITS[end]


@pytest.mark.parametrize("begin", ["init", "open_run"])
@pytest.mark.parametrize("end", EXITS)
def test_a_run_that_is_ended_in_a_finally_ends_as_its_exception_says(tmp_path, begin, end):
    run = run_of(begin, tmp_path)
    with suppress(BaseException):
        try:
            exec(end, {"sys": sys})
        finally:
            run.finish() if begin == "init" else run.close()

    (journal,) = tmp_path.glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == EXITS[end]


@pytest.mark.parametrize("is_second_try", [False, True])
@pytest.mark.parametrize("error", [IndexError, MemoryError, StopIteration])
@pytest.mark.parametrize("begin", ["init", "open_run"])
def test_a_run_that_is_ended_in_an_except_which_handles_its_error_is_completed(
    tmp_path, begin, error, is_second_try
):
    """As a loop ends that stops early or has no more data, or as a second try does."""
    run = None if is_second_try else run_of(begin, tmp_path)
    try:
        raise error
    except error:
        run = run or run_of(begin, tmp_path)
        run.finish() if begin == "init" else run.close()

    (journal,) = tmp_path.glob("*.jsonl")
    assert eventlog.load_run(journal).status == "completed"


@pytest.mark.parametrize("begin", ["init", "open_run"])
def test_what_the_program_says_of_the_end_holds_also_in_a_finally(tmp_path, begin):
    run = run_of(begin, tmp_path)
    with suppress(ZeroDivisionError):
        try:
            raise ZeroDivisionError
        finally:
            run.finish(exit_code=0) if begin == "init" else run.close("completed")

    (journal,) = tmp_path.glob("*.jsonl")
    assert eventlog.load_run(journal).status == "completed"


@pytest.mark.parametrize("begin", ["init", "open_run"])
def test_a_second_ctrl_c_while_the_run_is_closed_interrupts_it(tmp_path, begin):
    program = f"""
import os, signal, eventlog
from eventlog.write.journal import Journal
close, n_calls = Journal.close, []
def interrupted(*args):
    n_calls.append(1)
    if len(n_calls) == 1:
        os.kill(os.getpid(), signal.SIGINT)
    close(*args)
Journal.close = interrupted
with eventlog.{begin}(save_interval=0):
    os.kill(os.getpid(), signal.SIGINT)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    run = eventlog.load_run(journal)
    assert (run.status, run.journal["reason"]) == ("interrupted", "KeyboardInterrupt")


def test_a_program_that_ends_without_closing_leaves_a_closed_run(tmp_path):
    program = f"import eventlog\nrun = eventlog.open_run({str(tmp_path)!r})\nrun.log_iter(0, 1.0)"
    subprocess.run([sys.executable, "-c", program], check=True)

    (path,) = tmp_path.glob("*.json")
    journal = orjson.loads(path.read_bytes())["journal"]
    assert journal["status"] == "interrupted"
    assert journal["reason"] == "the process ended without closing the run"


def test_a_resumed_run_keeps_its_identity_and_has_each_iteration_once(tmp_path):
    with eventlog.open_run(tmp_path, run_name="a", config={"max_iters": 10}) as first:
        for i in range(8):
            first.log_iter(i, 8.0 - i)
    with eventlog.open_run(
        journal=first.journal_path, from_iter=5, checkpoint="ckpt.pt", config={"max_iters": 12}
    ) as second:
        for i in range(5, 9):
            second.log_iter(i, 80.0 - i)

    run = eventlog.load_run(second.run_path)
    opens = [r.fields for r in events_of(second) if r.event == "open"]
    assert first.run_path == second.run_path
    assert first.run_name == second.run_name
    assert opens[0]["run_id"] == opens[1]["run_id"]
    assert [row["iter"] for row in run.training_iterations] == list(range(9))
    assert [row["loss"] for row in run.training_iterations] == [8.0, 7, 6, 5, 4, 75, 74, 73, 72]
    assert run.journal["superseded"] == {"iterations": 3, "evals": 0, "checkpoints": 0}
    assert run.journal["sessions"][1]["changed"] == {"max_iters": [10, 12]}
    assert run.config == {"max_iters": 12}


def test_a_missing_journal_to_continue_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl: no such journal to continue"):
        eventlog.open_run(journal=tmp_path / "gone.jsonl")


class Hostile:
    def __repr__(self):
        raise RuntimeError("not even my name")


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, 10**40, b"\xff", {1: {2: 3}}, "\ud800", Hostile(), object, [[[]]], {1, 2}],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_logged_and_none_raises(tmp_path, value):
    with eventlog.open_run(tmp_path, save_interval=0, config={"it": value}) as run:
        run.log_iter(0, value, time_ms=value, mfu=value, anything=value)
        run.log_eval(0, value, value, lr=value)
        run.log("note", it=value)

    assert run.errors == 0
    assert [r.event for r in events_of(run)] == ["open", "iter", "eval", "note", "close"]
    for line in run.journal_path.read_bytes().splitlines():
        json.loads(line, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))


def test_a_value_too_large_for_a_line_is_complete_in_a_separate_file(tmp_path):
    text = "x" * 3_000_000
    with eventlog.open_run(tmp_path, config={"corpus": text, "lr": 0.5}) as run:
        run.log("note", iter=3, text=text)

    note = next(r for r in events_of(run) if r.event == "note").fields
    aside = tmp_path / note["set_aside"]["file"]
    assert orjson.loads(aside.read_bytes()) == {"iter": 3, "text": text}
    assert note["iter"] == 3
    config = eventlog.load_run(run.run_path).config
    assert config["lr"] == 0.5
    assert orjson.loads((tmp_path / config["set_aside"]["file"]).read_bytes())["corpus"] == text


def test_logging_after_close_is_counted_and_reported_but_does_not_raise(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass

    run.log_iter(0, 1.0)
    run.close()

    assert run.errors == 1
    assert "'iter' event was not logged" in capsys.readouterr().err


def test_closing_writes_the_run_json_before_it_returns(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=10**9)
    run.log_iter(0, 2.5)

    run.close("failed", "out of patience")

    document = orjson.loads(run.run_path.read_bytes())
    assert document["journal"]["status"] == "failed"
    assert document["journal"]["reason"] == "out of patience"
    assert document["summary"]["final_train_loss"] == 2.5


def test_without_a_compactor_the_journal_alone_is_written(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)

    assert [p.suffix for p in tmp_path.iterdir()] == [".jsonl"]
    assert eventlog.load_run(run.journal_path).status == "completed"


def test_a_closed_stderr_does_not_stop_the_loop(tmp_path):
    """A daemon's stderr may be closed; a warning about the log must not raise there."""
    program = f"""
import os, sys
import eventlog
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
run.close()
os.close(2)
run.log_iter(0, 1.0)
sys.stderr = None
run.log_iter(1, 1.0)
os._exit(run.errors)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 2


def test_a_run_json_that_cannot_be_written_is_reported_and_no_event_counts_as_not_logged(
    tmp_path, capsys
):
    run = eventlog.open_run(tmp_path)
    run.run_path.mkdir()
    run.log_iter(0, 1.0)
    run.close()

    assert run.errors == 0
    assert f"{run.run_path}: could not be written" in capsys.readouterr().err
    assert eventlog.load_run(run.journal_path).status == "completed"


def test_a_resumed_session_records_the_last_record_before_it(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as first:
        first.log_iter(0, 1.0)
    with eventlog.open_run(journal=first.journal_path, save_interval=0) as second:
        pass

    (prev,) = [r.fields["prev"] for r in events_of(second) if r.s == second.id and r.n == 0]
    assert prev == {"s": first.id, "n": 2}


def test_whole_numbers_are_logged_as_floats(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, loss=2, time_ms=50, mfu=3)
        run.log_eval(0, 2, 3, lr=0)

    for row in (r.fields for r in events_of(run) if r.event in ("iter", "eval")):
        assert {type(v) for k, v in row.items() if k not in ("iter", "durable")} == {float}


@pytest.mark.parametrize("step", ["a", None, 1.5, [1], float("nan")])
def test_a_step_that_is_no_number_is_an_error_and_its_values_stay(tmp_path, capsys, step):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(step, 1.5, lr=0.25)
        run.log_eval(step, 1.5, 1.25)
        run.log_checkpoint(step, "ckpt.pt")

    logged = [r for r in eventlog.scan(run.journal_path) if r.event == "log"]
    assert run.errors == 3
    assert [r.fields.get(k) for r, k in zip(logged, ("lr", "val_loss", "path"), strict=True)] == [
        0.25, 1.25, "ckpt.pt",
    ]  # fmt: skip
    assert not len(eventlog.load_run(run.journal_path).training_iterations)
    assert f"iter={step!r}: must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("step", [3.0, np.int64(3), np.array(3), True + 2])
def test_a_step_of_another_type_is_a_whole_number(tmp_path, step):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(step, 1.5)

    assert run.errors == 0
    assert eventlog.load_run(run.journal_path).training_iterations[0]["iter"] == 3


@pytest.mark.parametrize("event", ["open", "close", "segment", "gap", "ignored", "io_error"])
def test_a_program_cannot_log_the_events_of_the_journal_itself(tmp_path, capsys, event):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log(event, status="failed", dropped=3, events=4, file="x.segment", run_id="b")
        run.log_iter(0, 1.0)

    logged = eventlog.load_run(run.journal_path)
    assert logged.status == "completed"
    assert len(logged.journal["sessions"]) == 1
    assert not logged.journal["defects"]
    assert logged.journal["events"][f"{event}_"] == 1
    assert f"logged as {event}_" in capsys.readouterr().err


def test_a_session_without_a_config_keeps_the_runs_own(tmp_path):
    with eventlog.open_run(tmp_path, config={"lr": 0.1}, save_interval=0) as first:
        pass
    with eventlog.open_run(journal=first.journal_path, save_interval=0):
        pass

    run = eventlog.load_run(first.journal_path)
    assert run.config == {"lr": 0.1}
    assert "changed" not in run.journal["sessions"][1]


def test_an_unknown_durability_is_refused_before_any_file_is_made(tmp_path):
    with pytest.raises(ValueError, match="durability='always': must be one of"):
        eventlog.open_run(tmp_path / "out", durability="always")

    assert not (tmp_path / "out").exists()


def test_a_user_without_a_home_can_log(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(location.Path, "home", homeless)

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)

    assert [r.event for r in events_of(run)] == ["open", "iter", "close"]


@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt])
def test_a_system_exit_of_a_values_repr_passes_and_leaves_the_journal_intact(exit_, tmp_path):
    class Leaves:
        def __repr__(self):
            raise exit_

    run = eventlog.open_run(tmp_path, save_interval=0)
    with pytest.raises(exit_):
        run.log("note", value=Leaves())
    run.log("note", text="on")
    run.close()

    loaded = eventlog.load_run(run.journal_path)
    assert [note["text"] for note in loaded.journal["notes"]] == ["on"]
    assert loaded.journal["defects"] == []
