"""`runs guard`: each problem is reported once, also by several guards; runs are unaffected."""

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import orjson
import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.cli import main
from tools.live.folders import Folders
from tools.monitor import guard as guard_
from tools.monitor.background import BackgroundGuard
from tools.monitor.guard import Guard
from tools.monitor.hooks import Hooks
from tools.monitor.rules import Limits

QUICK = Limits(stall_s=1.0, crash_s=0.2, start_s=2.0)

WRITER = """
import sys, time, eventlog
run = eventlog.open_run(sys.argv[1], run_name="it", save_interval=0)
for i in range(10**6):
    run.log_iter(i, 3.0, 10.0)
    if i == 20:
        print(run.journal_path, flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that logs a hundred iterations a second until something happens to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "out"], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def live(tmp_path):
    """A run that this process writes, 30 iterations of it."""
    run = eventlog.open_run(tmp_path / "out", run_name="live", save_interval=0)
    for i in range(30):
        run.log_iter(i, 3.0 - i / 100, 10.0)
    yield run
    run.close()


def look_until(guard, n_alerts, within_s=30.0):
    """Look as a guard does until it has said so much; all that it said."""
    new_alerts, until = [], time.monotonic() + within_s
    while len(new_alerts) < n_alerts and time.monotonic() < until:
        new_alerts += guard.check(time.time())
        time.sleep(0.05)
    return new_alerts


def states(alerts):
    return [(alert["rule"], alert["state"]) for alert in alerts]


def pass_time(guard, seconds, step_s=10.0, *, after_s=0.0):
    """Look every ten seconds for so long, by the clock of a story."""
    begin, new_alerts = time.time() + after_s, []
    for n in range(int(seconds / step_s) + 1):
        new_alerts += guard.check(begin + n * step_s)
    return new_alerts


def alerts_of(journal):
    return eventlog.load_run(journal).journal["alerts"]


# ---- what happens to real processes


def test_a_stopped_process_is_a_stall_and_over_when_it_goes_on(writer, tmp_path):
    guard = Guard([str(tmp_path / "out")], QUICK)
    guard.check(time.time())

    writer.send_signal(signal.SIGSTOP)
    stopped = look_until(guard, 1) + look_until(guard, 1, within_s=2)
    writer.send_signal(signal.SIGCONT)
    went_on = look_until(guard, 1)

    assert states(stopped) == [("stall", "raised")]
    assert states(went_on) == [("stall", "over")]


def test_a_killed_process_is_a_crash_reported_once_and_kept_in_the_run_json(writer, tmp_path):
    guard = Guard([str(tmp_path / "out")], QUICK)
    guard.check(time.time())

    writer.kill()
    new_alerts = look_until(guard, 1) + look_until(guard, 1, within_s=1)

    assert states(new_alerts) == [("crash", "raised")]
    (snapshot,) = (tmp_path / "out").glob("*.json")
    run = eventlog.load_run(snapshot)
    logged = [(alert["rule"], alert["state"]) for alert in run.journal["alerts"]]
    assert logged == states(new_alerts)
    assert run.status == "interrupted"


def test_a_crash_is_over_when_the_run_is_resumed(writer, tmp_path):
    guard = Guard([str(tmp_path / "out")], QUICK)
    guard.check(time.time())
    writer.kill()
    look_until(guard, 1)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    with eventlog.open_run(journal=journal, from_iter=5, save_interval=0) as run:
        run.log_iter(5, 1.0)
        new_alerts = look_until(guard, 1)

    assert states(new_alerts) == [("crash", "over")]
    assert "resumed" in new_alerts[0]["text"]


def test_a_process_that_was_replaced_between_two_checks_crashed(writer, tmp_path):
    guard = Guard([str(tmp_path / "out")], QUICK)
    guard.check(time.time())
    writer.kill()
    writer.wait()

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    with eventlog.open_run(journal=journal, from_iter=5, save_interval=0) as run:
        run.log_iter(5, 1.0)
        new_alerts = guard.check(time.time())

    assert states(new_alerts) == [("crash", "raised"), ("crash", "over")]


def test_beside_the_page_alerts_are_in_the_row_and_nothing_is_written(writer, tmp_path):
    make_run(tmp_path / "out", "ended")
    guard = Guard([str(tmp_path / "out")], QUICK, is_kept=False, is_live_only=True)
    guard.check(time.time())  # it has seen the run live, however late the thread begins
    alerts = []
    with Folders([str(tmp_path / "out")]) as folders:
        background = BackgroundGuard(folders, guard, alerts.append, every_s=0.05)
        with background:
            look_until_row(folders, "it", lambda row: row["last_iter"])
            writer.kill()
            row = look_until_row(folders, "it", lambda row: row["alerts"])
            (ended,) = (row for row in folders.rows() if row["run"].startswith("ended"))

    assert [(alert["rule"], alert["now"]) for alert in row["alerts"]] == [("crash", True)]
    assert ended["alerts"] == []
    assert states(alerts) == [("crash", "raised")]
    assert alerts_of(next((tmp_path / "out").glob("it_*.jsonl"))) == []


def look_until_row(folders, name, is_so, within_s=30.0):
    """The row of the run, once `is_so` is true of it."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for row in folders.rows():
            if row["run"].startswith(f"{name}_") and is_so(row):
                return row
        time.sleep(0.05)
    raise AssertionError(folders.rows())


def test_a_guard_that_fails_is_reported_once_and_the_page_goes_on(tmp_path, capsys, monkeypatch):
    guard = Guard([str(tmp_path)], is_kept=False)
    monkeypatch.setattr(guard, "check", lambda now: 1 / 0)

    with Folders([str(tmp_path)]) as folders, BackgroundGuard(folders, guard, every_s=0.01):
        time.sleep(0.2)

    assert capsys.readouterr().err.count("ZeroDivisionError") == 1


def test_the_command_ends_well_on_sigterm(writer, tmp_path):
    command = [sys.executable, "-m", "tools.cli", "guard", "--every", "0.1", "--stall", "1"]
    process = subprocess.Popen(
        [*command, "--json", tmp_path / "out"], stdout=subprocess.PIPE, text=True
    )
    writer.send_signal(signal.SIGSTOP)

    alert = orjson.loads(process.stdout.readline())
    process.terminate()
    rest = process.stdout.read()

    assert (alert["rule"], alert["run"].split("_")[0]) == ("stall", "it")
    assert (process.wait(), rest) == (0, "")
    process.stdout.close()


# ---- figures


def test_a_nan_and_a_spike_are_reported_once_with_their_iteration(live, tmp_path):
    guard = Guard([str(tmp_path / "out")])
    guard.check(time.time())

    for i in range(30, 60):
        live.log_iter(i, {40: float("nan"), 41: float("nan"), 50: 50.0}.get(i, 2.7), 10.0)
    new_alerts = guard.check(time.time()) + guard.check(time.time())

    assert [(a["rule"], a["iter"]) for a in new_alerts] == [("nonfinite", 40), ("spike", 50)]


def test_another_guard_and_a_later_one_report_nothing_again(live, tmp_path):
    live.log_iter(30, float("nan"))
    first = pass_time(Guard([str(tmp_path / "out")]), 100)

    later = pass_time(Guard([str(tmp_path / "out")]), 100, after_s=100)

    assert states(first) == [("nonfinite", "raised"), ("stall", "raised")]
    assert later == []


def test_a_guard_that_slept_with_its_machine_calls_nothing_a_stall(live, tmp_path):
    guard = Guard([str(tmp_path / "out")])
    guard.check(time.time())

    woken = guard.check(time.time() + 8 * 3600)
    soon = guard.check(time.time() + 8 * 3600 + 10)

    assert woken + soon == []


def test_a_long_journal_is_read_from_near_its_end(live, tmp_path, monkeypatch):
    monkeypatch.setattr("tools.monitor.watched.TAIL_BYTES", 2_000)
    live.log_iter(30, float("nan"))

    assert states(Guard([str(tmp_path / "out")]).check(time.time())) == [("nonfinite", "raised")]


def test_an_alert_changes_neither_status_nor_curve_nor_summary(live, tmp_path):
    live.log_iter(30, float("nan"))
    before = eventlog.load_run(live.journal_path)

    Guard([str(tmp_path / "out")]).check(time.time())

    after = eventlog.load_run(live.journal_path)
    unchanged = ("status", "summary", "training_iterations", "end_time", "config")
    assert all(getattr(after, key) == getattr(before, key) for key in unchanged)
    assert after.journal["sessions"] == before.journal["sessions"]
    assert [alert["rule"] for alert in after.journal["alerts"]] == ["nonfinite"]


def test_runs_that_ended_long_ago_and_files_that_are_none_are_left_alone(zoo, capsys):
    for path in zoo.glob("*.jsonl"):
        if path.name != "live.jsonl":
            os.utime(path, (1e9, 1e9))

    assert Guard([str(zoo)]).check(time.time()) == []


def test_a_folder_of_everything_broken_is_watched_all_the_same(zoo):
    new_alerts = pass_time(Guard([str(zoo)], Limits(start_s=60)), 100)

    assert ("live", "stall") in {(alert["run"], alert["rule"]) for alert in new_alerts}
    assert {alert["rule"] for alert in new_alerts} <= {"stall", "crash"}


def test_an_alert_that_cannot_be_written_is_still_reported(live, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(eventlog.Annotator, "log", refuse)
    live.log_iter(30, float("nan"))
    guard = Guard([str(tmp_path / "out")])

    new_alerts = guard.check(time.time()) + guard.check(time.time())

    assert states(new_alerts) == [("nonfinite", "raised")]
    assert "was not written" in capsys.readouterr().err


# ---- disks


def test_a_full_disk_is_reported_once_for_all_runs_on_it_and_over_once(live, tmp_path, monkeypatch):
    other = eventlog.open_run(tmp_path / "out", run_name="other", save_interval=0)
    other.log_iter(0, 1.0)
    usage = SimpleNamespace(total=10**12, free=10**9)
    monkeypatch.setattr(guard_.shutil, "disk_usage", lambda path: usage)
    guard = Guard([str(tmp_path / "out")], Limits(stall_s=1e6))

    full = pass_time(guard, 100)
    usage.free = 5 * 10**11
    freed = pass_time(guard, 200)
    other.close()

    assert states(full) == [("disk", "raised")]
    assert "1 GB of 1 TB free" in full[0]["text"]
    assert states(freed) == [("disk", "over")]


def test_a_full_disk_is_not_reported_again_when_the_run_with_the_alert_ends(
    live, tmp_path, monkeypatch
):
    usage = SimpleNamespace(total=10**12, free=10**9)
    monkeypatch.setattr(guard_.shutil, "disk_usage", lambda path: usage)
    guard = Guard([str(tmp_path / "out")], Limits(stall_s=1e6))
    first = guard.check(time.time())
    other = eventlog.open_run(tmp_path / "out", run_name="other", save_interval=0)
    other.log_iter(0, 1.0)
    live.close()

    still_full = pass_time(guard, 100)
    usage.free = 5 * 10**11
    freed = pass_time(guard, 100, after_s=110)
    other.close()

    assert states(first) == [("disk", "raised")]
    assert (still_full, states(freed)) == ([], [("disk", "over")])


def test_a_disk_without_a_live_run_is_not_checked(tmp_path, monkeypatch):
    make_run(tmp_path, "ended")
    usage = SimpleNamespace(total=10**12, free=0)
    monkeypatch.setattr(guard_.shutil, "disk_usage", lambda path: usage)

    assert pass_time(Guard([str(tmp_path)]), 100) == []


# ---- once, for cron


def test_once_exits_with_one_while_something_is_wrong_and_reports_it_each_time(
    writer, tmp_path, capsys
):
    once = ["guard", "--once", "--json", "--start", "0.2", "--stall", "0.2", str(tmp_path / "out")]
    assert main(once) == 0
    writer.kill()
    writer.wait()
    time.sleep(0.5)

    assert (main(once), main(once)) == (1, 1)

    alerts = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(a["rule"], a["state"]) for a in alerts] == [("crash", "raised"), ("crash", "standing")]


def test_once_reports_a_killed_process_at_once(writer, tmp_path, capsys):
    writer.kill()
    writer.wait()

    assert main(["guard", "--once", str(tmp_path / "out")]) == 1

    assert "crash: the process is gone" in capsys.readouterr().out


def test_once_is_well_with_an_empty_folder_and_with_runs_that_ended(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    make_run(tmp_path / "some", "it")

    assert main(["guard", "--once", str(tmp_path / "none"), str(tmp_path / "some")]) == 0

    assert capsys.readouterr().out == ""


def test_an_ignored_rule_reports_nothing(live, tmp_path, capsys):
    live.log_iter(30, float("nan"))

    assert main(["guard", "--once", "--ignore", "nonfinite", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--webhook", "ftp://x"], "must begin with http"),
        (["no/such/folder"], "no such run"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path, capsys, flags, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()

    assert main(["guard", "--once", *flags]) in (1, 2)

    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


# ---- hooks


ALERT = {
    "t": "2026-11-23T03:25:01+00:00", "run": "it", "path": "out/it.jsonl", "rule": "stall",
    "state": "raised", "text": "no event; $(touch pwned) `touch pwned`", "session": "a", "iter": 3,
}  # fmt: skip


def test_a_command_gets_the_alert_as_json_and_in_variables(tmp_path):
    script = f'cat > {tmp_path}/json; printf %s "$EVENTLOG_ALERT_TEXT" > {tmp_path}/text'
    hooks = Hooks(script)

    hooks.send(ALERT)
    hooks.close()

    assert orjson.loads((tmp_path / "json").read_bytes()) == ALERT
    assert (tmp_path / "text").read_text() == ALERT["text"]


def test_hooks_are_run_for_raised_alerts_and_not_when_they_are_over(writer, tmp_path):
    guard = ["guard", "--every", "0.1", "--stall", "1", "--on-alert"]
    hook = f"echo $EVENTLOG_ALERT_RULE $EVENTLOG_ALERT_STATE >> {tmp_path}/hooked"
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", *guard, hook, tmp_path / "out"],
        stdout=subprocess.PIPE,
        text=True,
    )
    writer.send_signal(signal.SIGSTOP)
    process.stdout.readline()
    writer.send_signal(signal.SIGCONT)
    over = process.stdout.readline()
    process.terminate()
    process.wait()
    process.stdout.close()

    assert "stall over" in over
    assert (tmp_path / "hooked").read_text() == "stall raised\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [("exit 3", "exit status 3"), ("no-such-command", "exit status 127"),
     ("sleep 60 & sleep 60", "ended after 0.3 s")],
)  # fmt: skip
def test_a_command_that_fails_or_hangs_is_reported_and_ended(command, message, capfd):
    hooks = Hooks(command, timeout_s=0.3)

    hooks.send(ALERT)
    hooks.close()

    assert message in capfd.readouterr().err


def test_nothing_that_a_command_began_outlives_its_time(tmp_path):
    hooks = Hooks(
        f"(sleep 1; touch {tmp_path}/child) & sleep 1; touch {tmp_path}/it", timeout_s=0.2
    )

    hooks.send(ALERT)
    hooks.close()
    time.sleep(1.2)

    assert list(tmp_path.iterdir()) == []


def test_a_flood_of_alerts_leaves_hooks_out_and_not_the_guard(capsys, monkeypatch):
    monkeypatch.setattr("tools.monitor.hooks.WAITING_MAX", 5)
    hooks = Hooks("sleep 60", timeout_s=0.2)

    for _ in range(12):
        hooks.send(ALERT)
    hooks.close()

    assert capsys.readouterr().err.count("are waiting") == 7


class _Server(HTTPServer):
    """Takes POSTs on a loopback port; answers with `codes`, one after the other."""

    def __init__(self, codes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.codes, self.got = list(codes), []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Content-Type"], orjson.loads(body)))
        self.send_response(self.server.codes.pop(0))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """`serve(200, ...)`: a server that answers so, and what it got."""
    servers = []

    def begin(*codes):
        server = _Server(codes)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server, f"http://127.0.0.1:{server.server_port}/hook"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def wait_for(server, n, within_s=20):
    until = time.monotonic() + within_s
    while len(server.got) < n and time.monotonic() < until:
        time.sleep(0.01)


def test_a_webhook_gets_the_alert_and_is_tried_again_after_a_server_error(serve):
    server, url = serve(503, 200)
    hooks = Hooks(url=url)

    hooks.send(ALERT)
    wait_for(server, 2)
    hooks.close()

    assert server.got == [("application/json", ALERT)] * 2


def test_a_webhook_that_refuses_an_alert_is_not_called_again(serve, capsys):
    server, url = serve(404, 200)
    hooks = Hooks(url=url)

    hooks.send(ALERT)
    wait_for(server, 2, within_s=1.5)  # it would be tried again after a second
    hooks.close()

    assert len(server.got) == 1
    assert "404" in capsys.readouterr().err


def test_a_webhook_that_is_not_there_is_reported(capsys):
    hooks = Hooks(url="http://127.0.0.1:9/", timeout_s=1)

    hooks.send(ALERT)
    hooks.close()

    assert capsys.readouterr().err.startswith("--webhook http://127.0.0.1:9/: ")
