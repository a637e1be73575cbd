"""`runs` prints text from other sources without control characters that a terminal would obey."""

import ast
import contextlib
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

import eventlog
from tools.cli import main
from tools.monitor.guard import Guard, line
from tools.monitor.hooks import Hooks

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2028\r\x08\x7f[red]"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\u2028", "\r", "\x08", "\x7f")
ON_A_TERMINAL = ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\u2028", "\x08", "\x7f")


def make_run(folder, name, value, *, status="completed"):
    run = eventlog.open_run(
        folder,
        run_name=f"{name}{EVIL}",
        config={EVIL: f"{EVIL}{value}", "nested": {EVIL: [EVIL]}},
        metadata={EVIL: f"{value}{EVIL}", "group": EVIL},
        save_interval=0,
    )
    for i in range(3):
        run.log_iter(i, value + i, 1.0)
        run.log_eval(i, value, value)
    run.log_checkpoint(1, EVIL)
    run.log("metrics", step=0, **{EVIL: value, "text": EVIL})
    run.log("summary", summary={EVIL: EVIL})
    run.log("note", text=EVIL, by=EVIL)
    run.log("tag", add=[EVIL, f"{name}{EVIL}"])
    run.log("error", error=EVIL)
    run.log(EVIL, **{EVIL: EVIL})
    run.close(status, EVIL)
    eventlog.compact(run.journal_path)
    return run.journal_path


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder of runs whose authors, machines and files are all called something evil."""
    monkeypatch.setattr(sys, "orig_argv", ["train.py", EVIL])
    monkeypatch.setattr("socket.gethostname", lambda: EVIL)
    monkeypatch.setenv("USER", EVIL)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"out{EVIL}"
    first = make_run(folder, "a", 2.0)
    make_run(folder, "b", 1.0, status=f"failed{EVIL}")
    eventlog.annotate(first, "alert", rule=EVIL, state="raised", text=EVIL, by=EVIL)
    (folder / f"broken{EVIL}.json").write_text('{"run_name": "x", "training_it')
    (folder / f"broken{EVIL}_2.jsonl").write_text("nothing\n")
    (folder / f"study{EVIL}.json").write_bytes(orjson.dumps({"run_name": EVIL, "config": EVIL}))
    with eventlog.open_run(journal=first, rank=1, save_interval=0) as rank:
        rank.log_iter(0, 1.0, 1.0)
        rank.close("failed", EVIL)
    return folder


def arguments(out):
    """Every command that prints something of a run, with its ways of printing."""
    a, b = sorted(out.glob("[ab]*.jsonl"))[:2]
    a, b = (path for path in (a, b))
    archive = str(out.parent / f"archive{EVIL}")
    dump = out.parent / f"dump{EVIL}.json"
    dump.write_text("[1, 2")
    column = f"config.{EVIL}"
    return [
        ["ls", out], ["ls", "--json", out], ["ls", "--csv", out], ["ls", "--columns", column, out],
        ["ls", "--sort", EVIL, out], ["ls", "--where", EVIL, out], ["ls", out / EVIL],
        ["best", out], ["best", "--path", out], ["best", "--json", out],
        ["best", "--metric", EVIL, out],
        ["show", a], ["show", "--json", a], ["show", b], ["show", out], ["show", out / f"x{EVIL}"],
        ["diff", a, b], ["diff", "--json", a, b], ["diff", a, out / f"x{EVIL}"],
        ["compare", a, b], ["compare", "--format", "markdown", a, b],
        ["compare", "--format", "csv", a, b], ["compare", "--json", a, b],
        ["compare", "--exact", a, b], ["compare", "--exact", "--json", a, b], ["compare", out],
        ["compare", "--at-tokens", "5", a, b],
        ["note", a, EVIL],
        ["rename", a, "x"], ["tag", a],
        ["tag", a, f"+{EVIL}"], ["ranks", a], ["ranks", "--json", a],
        ["plot", a, "--out", out.parent / f"p{EVIL}.svg"], ["plot", out / f"broken{EVIL}.json"],
        ["export", "--to", "csv", "--out", out.parent / f"export{EVIL}", out],
        ["export", "--to", "csv", "--json", "--out", out.parent / f"export{EVIL}", a],
        ["import", dump, "--out", out.parent / "imported"],
        ["archive", out, "--to", archive], ["archive", out, "--to", archive, "--json"],
        ["archive", "--verify", "--to", archive], ["archive", "--repair", "--to", archive],
        ["archive", "--restore", a.stem, "--out", out.parent / f"back{EVIL}", "--to", archive],
        ["archive", "--restore", EVIL, "--out", out.parent / "back", "--to", archive],
        ["query", "select * from runs", out], ["query", "--json", "select * from runs", out],
        ["query", "--csv", "select * from runs", out], ["query", f"select '{EVIL}'", out],
        ["query", f"select * from {EVIL}", out], ["query", "select * from metrics", archive],
        ["prune", "--unarchived", "--keep-best", "1", out],
        ["prune", "--unarchived", "--keep-best", "1", "--json", out],
        ["guard", "--once", out], ["guard", "--once", "--json", out], ["guard", "--once", EVIL],
        ["tune", out / EVIL], ["tune", out / EVIL, "--param", f"{EVIL}=1..2"],
        ["serve", out / EVIL], ["watch", out],
    ]  # fmt: skip


def test_no_command_prints_control_characters(out, capfd):
    for args in arguments(out):
        with contextlib.suppress(SystemExit):  # argparse: misuse
            main([str(arg) for arg in args])
        captured = capfd.readouterr()
        shown = captured.out + captured.err
        assert [c for c in OBEYED if c in shown] == [], f"{args}: {shown!r}"
        assert "Traceback" not in shown, shown


def on_a_terminal(args, folder):
    """What a command prints where a terminal looks."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "tools.cli", *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment, cwd=folder,
    ):  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody has the other end any more
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    return shown.decode("utf-8", "replace")


def test_a_terminal_gets_no_control_characters_but_our_colours(out):
    a, b = sorted(out.glob("[ab]*.jsonl"))[:2]
    for args in (["ls", out], ["show", a], ["diff", a, b], ["compare", a, b]):
        shown = on_a_terminal(args, out.parent)

        assert "owned" in shown
        assert [c for c in ON_A_TERMINAL if c in shown] == [], f"{args}: {shown!r}"
        assert "[red]" in shown


def test_alerts_are_printed_and_sent_without_control_characters(out, tmp_path):
    journal = eventlog.open_run(out, run_name=f"bad{EVIL}", save_interval=0)
    journal.log_iter(0, 1.0, 1.0)
    journal.close("failed", EVIL)
    alerts = Guard([str(out)]).check(time.time())
    sent = tmp_path / "sent"
    hooks = Hooks(command=f'cat >> {sent}; echo "$EVENTLOG_ALERT_TEXT" >> {sent}')

    for alert in alerts:
        hooks.send(alert)
    hooks.close()

    assert any("owned" in alert["text"] for alert in alerts)
    printed = "".join(line(alert) + line(alert, as_json=True) for alert in alerts)
    texts = [orjson.loads(x)["text"] for x in sent.read_bytes().splitlines() if x[:1] == b"{"]
    for shown in (printed, *texts):
        assert [c for c in OBEYED if c in shown] == []


def test_the_screen_of_watch_draws_no_control_characters():
    from tools.terminal.chart import _segments

    (segment,) = _segments([(f"title {EVIL}", "bold")])

    assert segment.text.isprintable()


def test_a_secret_address_is_not_printed(capfd):
    hooks = Hooks(url="http://127.0.0.1:9/secret-path-of-a-webhook", timeout_s=0.2)
    hooks._end.set()

    hooks._post({"rule": "x"})
    hooks.close()

    shown = capfd.readouterr().err
    assert "--webhook http://127.0.0.1:9/***" in shown
    assert "secret-path" not in shown


def modules_that_print():
    for path in sorted((ROOT / "tools").rglob("*.py")):
        if "print(" not in (text := path.read_text()):
            continue  # parsing every module would take a second of each worker
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            yield pytest.param(path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", list(modules_that_print()))
def test_every_module_that_prints_uses_the_print_that_shows_control_characters(path):
    if path.name == "table.py":  # lays out cells that are safe, with rich's own colours
        return
    imported = [
        name.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "core.table"
        for name in node.names
    ]

    assert "print" in imported
