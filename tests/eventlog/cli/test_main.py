"""The commands: stdout is data, stderr is messages, and the exit code says how it went."""

import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

import eventlog
from eventlog.cli import run_status
from eventlog.cli.main import main
from eventlog.format.files import run_path


@pytest.fixture
def run(tmp_path):
    """A closed run of 20 iterations, without a run JSON."""
    with eventlog.open_run(tmp_path / "out", save_interval=0, config={"max_iters": 19}) as run:
        for i in range(20):
            if i % 10 == 0:
                run.log_eval(i, 3.0, 3.1 - i / 100, 1e-3)
                run.log_checkpoint(i, "out/ckpt.pt", 3.1, size_bytes=5_000_000)
            run.log_iter(i, 3.0 - i / 10, 50.0, 3.5, tokens_per_s=14_000.0)
    return run


def damage(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def start(*command):
    return subprocess.Popen(
        [sys.executable, "-m", "eventlog", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---- compact, verify


def test_compact_accepts_a_journal_a_folder_a_glob_or_the_run_json_itself(run, capsys):
    folder = run.journal_path.parent
    for named in (run.journal_path, folder, folder / "*.jsonl", folder / "run_*", run.run_path):
        assert main(["compact", str(named)]) == 0
        assert capsys.readouterr() == (f"{run.run_path}\n", "")
    assert eventlog.load_run(run.run_path).status == "completed"


def test_compact_recovers_what_it_can_and_says_what_it_could_not(run, capsys):
    damage(run.journal_path, b'"iter":7,"loss":2.3', b'"iter":7,"loss":9.3')

    code = main(["compact", str(run.journal_path)])

    out, err = capsys.readouterr()
    assert code == 3
    assert out == f"{run.run_path}\n"
    assert "1 event lost" in err
    assert "missing: iteration 7" in err
    assert len(eventlog.load_run(run.run_path).training_iterations) == 19


def test_a_file_that_is_not_a_journal_is_named_and_gets_no_run_json(tmp_path, capsys):
    path = tmp_path / "noise.jsonl"
    path.write_bytes(os.urandom(5000))

    code = main(["compact", str(path)])

    assert code == 5
    message = f"{path}: not a journal: not one whole record in its 5,000 bytes"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_a_data_set_beside_the_journals_of_a_folder_is_skipped(run, capsys):
    (run.journal_path.parent / "train.jsonl").write_text('{"text": "once upon a time"}\n' * 100)

    assert main(["compact", str(run.journal_path.parent)]) == 0

    out, err = capsys.readouterr()
    assert out == f"{run.run_path}\n"
    assert "train.jsonl: skipped" in err


def test_a_journal_of_a_newer_format_is_refused_and_its_old_run_json_stands(tmp_path, capsys):
    from eventlog.format.record import encode

    path = tmp_path / "run.jsonl"
    path.write_bytes(encode(0, "a1b2c3d4", "t", "open", {"format": 2}))
    run_path(path).write_text("old")

    assert main(["compact", str(path)]) == 4

    assert "format 2, this program reads up to 1" in capsys.readouterr().err
    assert run_path(path).read_text() == "old"


@pytest.mark.parametrize("command", ["compact", "verify", "cat", "tail", "status"])
def test_a_missing_journal_is_one_line_on_stderr_and_exit_code_one(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main([command, str(tmp_path / "none.jsonl")]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"{tmp_path / 'none.jsonl'}: no such journal, folder or glob; "
        f"nor is there a segment of it in {tmp_path / 'eventlog'}\n"
    )


def test_wrong_arguments_exit_with_two(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compact"])

    assert ended.value.code == 2


def test_verify_finds_a_whole_journal_complete_and_writes_nothing(run, capsys):
    before = sorted(run.journal_path.parent.iterdir()), run.journal_path.read_bytes()

    assert main(["verify", str(run.journal_path)]) == 0

    assert f"{run.journal_path}: complete\n" in capsys.readouterr().out
    assert (sorted(run.journal_path.parent.iterdir()), run.journal_path.read_bytes()) == before


def test_verify_says_where_a_line_is_damaged_and_what_is_lost(run, capsys):
    line = next(b for b in run.journal_path.read_bytes().splitlines() if b'"iter":5,' in b)
    offset = run.journal_path.read_bytes().index(line)
    damage(run.journal_path, line, line.replace(b"loss", b"\x00\xff\x01\x02"))

    code = main(["verify", "--json", str(run.journal_path)])
    report = orjson.loads(capsys.readouterr().out)

    kinds = {d["kind"]: d for d in report["defects"]}
    assert (code, report["exit_code"], report["verdict"]) == (3, 3, "1 event lost")
    assert (report["lost_events"], report["lost_unknown"]) == (1, 0)
    assert report["missing_iterations"] == [[5, 5]]
    assert (kinds["damaged"]["offset"], kinds["damaged"]["size_bytes"]) == (offset, len(line))
    assert kinds["gap"]["lost"] == 1


def test_verify_names_a_torn_last_line_and_counts_no_loss(run, capsys):
    run.journal_path.write_bytes(run.journal_path.read_bytes()[:-30])

    assert main(["verify", str(run.journal_path)]) == 0

    assert "torn at byte" in capsys.readouterr().out


# ---- cat, tail, status


def test_cat_prints_the_verified_lines_byte_for_byte_and_no_others(run, capfdbinary):
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(
        b"".join([*lines[:3], b"noise\n", bytes(100), *lines[3:], b'{"n":'])
    )

    assert main(["cat", str(run.journal_path)]) == 0

    assert capfdbinary.readouterr().out == b"".join(lines)


def test_cat_prints_only_the_kinds_of_events_that_are_named(run, capfdbinary):
    assert main(["cat", "--event", "eval", "--event", "close", str(run.journal_path)]) == 0

    printed = [orjson.loads(line)["event"] for line in capfdbinary.readouterr().out.splitlines()]
    assert printed == ["eval", "eval", "close"]


@pytest.mark.parametrize("content", [b"", b"notes\n", bytes(900)])
@pytest.mark.parametrize("command", ["cat", "tail", "status", "verify"])
def test_every_command_names_a_file_that_is_no_journal(tmp_path, command, content, capsys):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)

    assert main([command, str(path)]) != 0
    out, err = capsys.readouterr()
    assert f"{path}: not a journal" in out + err


def test_cat_into_a_pipe_that_closes_early_ends_quietly(run):
    shell = f"{sys.executable} -m eventlog cat {run.journal_path} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_verify_of_a_folder_checks_the_journals_of_ranks(tmp_path, capsys):
    run = eventlog.open_run(tmp_path, save_interval=0)
    of_rank = eventlog.open_run(journal=run.journal_path, rank=1)
    for i in range(9):
        of_rank.log_iter(i, 1.0)
    of_rank.close()
    run.close()
    assert main(["verify", str(tmp_path)]) == 0

    lines = of_rank.journal_path.read_bytes().splitlines(keepends=True)
    of_rank.journal_path.write_bytes(b"".join(lines[:3] + lines[5:]))

    assert main(["verify", str(tmp_path)]) == 3
    assert f"{of_rank.journal_path.name}: 2 events lost" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "compact", "verify --json"])
def test_a_loss_is_in_the_exit_code_also_if_nobody_reads_the_output(run, command, tmp_path):
    """And the journals after it are compacted, too."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for k in range(3):
        lines = run.journal_path.read_bytes().splitlines(keepends=True)
        (broken / f"m{k}.jsonl").write_bytes(b"".join(lines[:2] + lines[5:]))
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [sys.executable, "-m", "eventlog", *command.split(), str(broken)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)

    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert len(list(broken.glob("*.json"))) == (3 if command == "compact" else 0)


def test_tail_prints_the_last_events_as_text(run, capsys):
    assert main(["tail", "-n", "3", str(run.journal_path.parent)]) == 0

    last = capsys.readouterr().out.splitlines()
    assert len(last) == 3
    assert "iter 18/19  loss 1.2000  50.0 ms  14,000 tokens/s  mfu 3.50%  eta 0s" in last[0]
    assert last[2].endswith("close    completed")


def test_tail_follows_a_run_through_its_resumption(tmp_path):
    first = eventlog.open_run(tmp_path, save_interval=0)
    first.log_iter(0, 5.0)
    follower = start("tail", "-f", first.journal_path)
    assert "open" in follower.stdout.readline()
    assert "loss 5.0000" in follower.stdout.readline()
    first.log_iter(1, 4.0)
    assert "loss 4.0000" in follower.stdout.readline()
    first.close()
    assert "close    completed" in follower.stdout.readline()
    with open(first.journal_path, "ab") as file:
        file.write(b'{"n":4,"s":"half')
    time.sleep(0.5)

    with eventlog.open_run(journal=first.journal_path, from_iter=1, save_interval=0) as again:
        again.log_iter(1, 3.5)

    resumed = follower.stdout.readline()
    assert "from iteration 1" in resumed
    assert "torn tail" in resumed
    assert "loss 3.5000" in follower.stdout.readline()
    assert "close" in follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    assert follower.stdout.read() == follower.stderr.read() == ""
    follower.stdout.close()
    follower.stderr.close()


def test_status_of_a_live_run_names_its_writer_and_what_is_durable(tmp_path, capsys):
    run = eventlog.open_run(tmp_path, config={"max_iters": 100}, save_interval=0)
    for i in range(5):
        run.log_iter(i, 2.0)
    run.sync()
    run.log_iter(5, 2.0)

    assert main(["status", "--json", str(run.journal_path)]) == 0
    status = orjson.loads(capsys.readouterr().out)
    assert main(["status", str(run.journal_path)]) == 0
    text = capsys.readouterr().out
    run.close()

    assert status["status"] == "running"
    assert (status["pid"], status["session"]) == (os.getpid(), run.id)
    assert (status["iter"], status["max_iters"]) == (5, 100)
    assert (status["accepted_records"], status["durable_records"]) == (7, 6)
    assert f"pid {os.getpid()} on " in text
    assert f"7 accepted in session {run.id} (1 in all), at least 6 durable" in text


@pytest.mark.parametrize(
    ("config", "eta"),
    [({"max_iters": 100}, r"\d+(\.\d)?s"), ({"max_steps": 100}, r"\d+(\.\d)?s"), ({}, "-")],
)
def test_status_of_a_live_run_has_the_time_that_is_left(tmp_path, capsys, config, eta):
    run = eventlog.init(dir=tmp_path, config=config, save_interval=0)
    for i in range(20):
        run.log({"train/loss": 1.0}, step=i)
    capsys.readouterr()

    assert main(["status", str(run.journal_path)]) == 0
    live = capsys.readouterr().out
    run.finish()
    assert main(["status", str(run.journal_path)]) == 0
    ended = capsys.readouterr().out

    assert re.search(rf"^  eta        {eta}$", live, re.MULTILINE)
    assert "  eta " not in ended


def test_status_fits_into_a_terminal_and_paths_stay_whole(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run.journal_path.write_bytes(run.journal_path.read_bytes().rpartition(b'{"n":')[0])  # no close

    assert main(["status", str(run.journal_path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    too_long = [line for line in lines if len(line) > 80]
    assert all(str(run.journal_path.parent) in line for line in too_long)
    assert lines[1].startswith("  state      interrupted: no close event")
    assert lines[2].startswith("             ")


def test_status_says_that_a_run_json_is_older_than_the_journal_and_how_to_write_it(run, capsys):
    def line():
        assert main(["status", str(run.journal_path)]) == 0
        return capsys.readouterr().out.splitlines()[-1].split(maxsplit=2)[-1]

    how = f". If no compactor writes it: eventlog compact {run.journal_path}"
    assert line() == f"none yet{how}"
    eventlog.compact(run.journal_path)
    assert line() == str(run.run_path)
    eventlog.Annotator(run.journal_path).log("note", text="later")
    assert line() == f"{run.run_path}, older than the journal{how}"
    eventlog.compact(run.journal_path)
    run.run_path.write_bytes(run.run_path.read_bytes().replace(b'"completed"', b'"running"'))
    assert line() == f"{run.run_path}, older than the journal{how}"


def test_status_counts_what_a_session_accepted_also_where_a_record_is_damaged(run, capsys):
    def records():
        assert main(["status", str(run.journal_path)]) == 0
        line = next(one for one in capsys.readouterr().out.splitlines() if "accepted" in one)
        return line.split()[1]

    before = records()
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join([lines[0], b"#" + lines[1][1:], *lines[2:]]))

    assert records() == before


def test_status_does_not_say_that_a_run_json_is_older_if_it_has_what_is_missing_here(run, capsys):
    eventlog.Annotator(run.journal_path).log("note", text="later")
    eventlog.compact(run.journal_path)
    (segment,) = run.journal_path.parent.glob("*.segment")
    segment.unlink()

    assert main(["status", str(run.journal_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=2)[-1] == str(run.run_path)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"train/loss": 0.5, "eval/loss": 0.75}, "3, train/loss 0.5000, best val 0.7500\n"),
        ({"train_loss": 0.5}, "3, train_loss 0.5000\n"),
        ({"loss": {"train": math.nan}}, "3, loss.train nan\n"),
        ({"accuracy": 0.5}, "3\n"),
    ],
)
def test_status_shows_the_loss_of_a_run_under_the_name_that_it_was_logged_by(
    tmp_path, values, shown, capsys
):
    with eventlog.init(dir=tmp_path, save_interval=0) as run:
        run.log(values, step=3)

    assert main(["status", str(run.journal_path)]) == 0
    assert f"  iteration  {shown}" in capsys.readouterr().out


def test_status_of_a_run_that_its_program_closed_again_says_that_all_is_durable(tmp_path, capsys):
    program = (
        "import sys, eventlog\nrun = eventlog.init(name='m', save_interval=0)\nrun.log({'a': 1})\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    run.finish()\nsys.exit(1)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60)
    (journal,) = (tmp_path / "out").glob("*.jsonl")

    assert main(["status", str(journal)]) == 0

    text = capsys.readouterr().out
    assert "failed: exit code 1" in text
    assert ", all 4 durable" in text


def test_status_of_a_killed_run_says_that_the_process_is_gone(tmp_path, capsys):
    program = f"""
import eventlog, os
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
run.log_iter(0, 1.0)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program])

    assert main(["status", "--json", str(tmp_path)]) == 0

    status = orjson.loads(capsys.readouterr().out)
    assert status["status"] == "interrupted"
    assert (
        "and the machine was not restarted: killed (SIGKILL, SIGTERM, SIGHUP, out of"
        in status["reason"]
    )


def reason_of(path):
    """What `status` says of a run that has no end."""
    status = run_status.status_of(path)
    assert status["status"] == "interrupted"
    return status["reason"]


def test_status_of_a_run_whose_killed_process_is_not_reaped_says_so(tmp_path):
    program = f"""
import eventlog, os, sys
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.Popen([sys.executable, "-c", program])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    [path] = tmp_path.glob("*.jsonl")

    as_zombie = reason_of(path)
    killed.wait()

    assert f"its process {killed.pid} has ended, a zombie whose exit status" in as_zombie
    assert "killed (SIGKILL, SIGTERM, SIGHUP, out of" in as_zombie
    assert "the process is gone" in reason_of(path)


def test_status_of_a_copy_of_a_live_runs_journal_does_not_say_that_it_was_killed(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        copy = Path(shutil.copy(run.journal_path, tmp_path / "copy.jsonl"))
        reason = reason_of(copy)

    assert f"its process {os.getpid()} lives and does not hold the lock" in reason
    assert "copy" in reason
    assert "killed" not in reason
    assert "another process" not in reason


def test_status_of_a_run_whose_process_runs_another_program_does_not_say_that_it_was_killed(
    tmp_path,
):
    program = f"""
import eventlog, os
run = eventlog.open_run({str(tmp_path)!r}, save_interval=0)
os.execvp("sh", ["sh", "-c", "echo; read line"])
"""
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    [path] = tmp_path.glob("*.jsonl")
    reason = reason_of(path)
    other.communicate()

    assert f"its process {other.pid} lives and does not hold the lock" in reason
    assert "another program" in reason
    assert "killed" not in reason


def test_status_reports_that_another_process_has_the_writers_pid(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.close()
    opened = next(eventlog.scan(run.journal_path)).fields

    text = run_status._what_became_of(opened | {"pid_started": opened["pid_started"] - 1}, "")

    assert "another process has its number now" in text


def test_status_of_a_run_without_its_first_line_says_that_the_writer_is_unknown(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[1:]))

    main(["status", str(run.journal_path)])

    assert "  writer     unknown since " in capsys.readouterr().out


def test_status_without_the_boot_in_the_open_event_does_not_say_that_it_was_restarted():
    assert run_status._why("no close event", "interrupted", {"host": socket.gethostname()}, "") == (
        "no close event"
    )


def test_the_command_imports_nothing_that_only_a_training_needs():
    program = "import sys, eventlog.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    loaded = set(done.stdout.split())
    assert loaded & {"torch", "numpy", "rich", "tyro", "pandas", "asyncio"} == set()


def test_many_journals_on_a_terminal_get_a_progress_bar(tmp_path):
    import pty

    for _ in range(6):
        eventlog.open_run(tmp_path, save_interval=0).close()
    leader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "eventlog", "compact", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    seen = os.read(leader, 100_000).decode()
    os.close(leader)

    assert done.stdout.count(b".json\n") == 6
    assert "[#####" in seen
    assert "3/6" in seen


def replaced_and_edited(tmp_path, old, new):
    """The journal of a run whose writer went on, with all its events, in a segment."""
    run = eventlog.open_run(tmp_path / "out", save_interval=0, fallback=tmp_path / "fallback")
    for i in range(20):
        run.log_iter(i, 1.0)
    subprocess.run(["sed", "-i", f"s/{old}/{new}/", run.journal_path], check=True)
    run._journal._appender.check_place()
    run.close()
    return run.journal_path


@pytest.mark.parametrize(
    ("old", "new"), [('"t":"2', '"t":"3'), ('"event":', '"event";'), ('"event":', '"Event":')]
)
def test_damaged_lines_that_are_whole_in_a_segment_cost_nothing(tmp_path, old, new, capsys):
    """In each of its lines, so that nothing is left in the journal to count a gap between."""
    journal = replaced_and_edited(tmp_path, old, new)
    capsys.readouterr()

    codes = [main(["verify", str(journal)]), main(["verify", "--json", str(journal)])]

    text, as_json = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert codes == [0, 0]
    assert text.startswith(f"{journal}: {orjson.loads(as_json)['verdict']}\n")
    assert orjson.loads(as_json)["verdict"] == "complete"


def test_a_line_damaged_in_its_number_is_a_loss_not_another_record(tmp_path, capsys):
    """The last line, damaged in its number: the number before it is there, and is not it."""
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.0)
    damage(run.journal_path, b'{"n":2,', b'{"n":1,')
    capsys.readouterr()

    assert main(["verify", str(run.journal_path)]) == 3
    assert "1 damaged place of unknown cost" in capsys.readouterr().out


def test_many_damaged_lines_of_a_kind_are_one_line_with_the_first_places(tmp_path, capsys):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        for i in range(40):
            run.log_iter(i, 1.0)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    lines[2:32:2] = [b.replace(b"loss", b"l\xffss") for b in lines[2:32:2]]
    run.journal_path.write_bytes(b"".join(lines))
    capsys.readouterr()

    assert main(["verify", str(run.journal_path)]) == 3
    (text,) = [b for b in capsys.readouterr().out.splitlines() if b.startswith("  damaged")]
    assert "in 15 places" in text
    assert f"the first at bytes {len(lines[0] + lines[1]):,}, " in text


@pytest.fixture
def orphan(tmp_path, monkeypatch):
    """A run whose folder was deleted and became a file: all its events are in the state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = eventlog.open_run(tmp_path / "out", save_interval=1000)
    while not run.run_path.exists():
        time.sleep(0.02)
    for i in range(10):
        run.log_iter(i, 1.0)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("hi")
    run._journal._appender.check_place()
    run.log_iter(10, 1.0)
    return run


@pytest.mark.parametrize("command", ["compact", "verify", "status", "recover", "cat"])
def test_a_journal_that_is_gone_is_read_from_its_segments_by_both_names(orphan, command, capfd):
    orphan.close()
    err = capfd.readouterr().err
    segment = orphan._journal._appender.path
    assert f"eventlog compact {segment}\n" in err

    for name in (orphan.journal_path, segment):
        assert main([command, str(name)]) == 0
        out, err = capfd.readouterr()
        assert "missing_segment" not in out + err
        assert (f"its events are in {segment}" in err) == (name != segment)
    if command == "compact":
        assert eventlog.load_run(run_path(segment)).summary["total_iterations"] == 11


def test_the_orphaned_segments_of_a_run_are_read_together_and_of_no_other(orphan, capsys):
    appender = orphan._journal._appender
    first = appender.path
    appender._segments.retry_at = 0.0
    assert appender.to_segment()
    orphan.log_iter(11, 1.0)
    stranger = appender.path.name.replace(orphan._journal._writer.run_id[:8], "f" * 8)
    (first.parent / stranger).write_bytes(appender.path.read_bytes())
    assert eventlog.load_run(first).status == "running"
    orphan.close()

    found = eventlog.load_run(first)

    assert [row["iter"] for row in found.training_iterations] == list(range(12))
    assert (found.status, found.journal["defects"]) == ("completed", [])


@pytest.mark.parametrize("command", ["verify", "status", "compact"])
def test_a_folder_means_the_journals_of_its_subfolders_each_once(command, tmp_path, capsys):
    out = tmp_path / "multirun/0/out"
    with eventlog.open_run(out, run_name="job", save_interval=0) as run:
        run.log_iter(0, 1.0)
    (out / "latest.jsonl").symlink_to(run.journal_path.name)
    (out / "train.jsonl").write_text('{"text": "once upon a time"}\n')

    assert main([command, str(tmp_path), str(out)]) == 0

    printed = capsys.readouterr()
    assert printed.out.count(str(run.journal_path.with_suffix(""))) == (
        2 if command == "status" else 1
    )
    assert "latest" not in printed.out
    assert printed.err == ""
