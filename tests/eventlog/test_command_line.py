"""`--version` and completion, of both commands; completion as a person has it, by Tab in bash."""

import contextlib
import os
import pty
import subprocess
import sys
import time

import pytest

import eventlog
from eventlog.cli.main import main as eventlog_main
from tools.cli import main as runs_main

COMMANDS = [("eventlog", eventlog_main), ("runs", runs_main)]


@pytest.fixture
def bash(tmp_path):
    """A bash at a terminal, with the completion of both commands; `bash(keys)` is what it shows."""
    setup = "bind 'set bell-style none'; PS1='$ '\n"
    for module in ("eventlog", "tools"):
        command = [sys.executable, "-m", module, "--print-completion", "bash"]
        setup += subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "bashrc").write_text(setup)
    (tmp_path / "mine.jsonl").touch()
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--rcfile", tmp_path / "bashrc", "-i"],
        stdin=its_end, stdout=its_end, stderr=its_end, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    os.close(its_end)

    def shown(keys, until):
        os.write(terminal, keys.encode())
        text, deadline = "", time.monotonic() + 20
        while until not in text and time.monotonic() < deadline:
            text += os.read(terminal, 4096).decode()
        return text

    shown("", until="$ ")
    yield shown
    process.kill()
    process.wait()
    with contextlib.suppress(OSError):
        os.close(terminal)


@pytest.mark.parametrize(
    ("keys", "completed"),
    [
        ("eventlog ver\t", "eventlog verify "),
        ("eventlog verify --js\t", "eventlog verify --json "),
        ("eventlog tail -f mi\t", "eventlog tail -f mine.jsonl "),
        ("runs comp\t", "runs compare "),
        ("runs plot --kind ana\t", "runs plot --kind analysis "),
        ("runs show mi\t", "runs show mine.jsonl "),
    ],
)
def test_tab_completes_commands_options_choices_and_files(bash, keys, completed):
    assert completed in bash(keys, until=completed)


@pytest.mark.parametrize(("name", "main"), COMMANDS)
def test_both_commands_print_their_version(name, main, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])

    assert capsys.readouterr().out == f"{name} {eventlog.__version__}\n"


@pytest.mark.parametrize(("name", "main"), COMMANDS)
def test_without_shtab_completion_says_what_to_install(name, main, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)

    with pytest.raises(SystemExit, match="2"):
        main(["--print-completion", "bash"])

    assert f"{name}: error: shell completion needs shtab: pip install" in capsys.readouterr().err
