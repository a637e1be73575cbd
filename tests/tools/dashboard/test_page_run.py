"""The page of one run in a real browser: what made it, its sessions and its checkpoints."""

import subprocess
import sys

import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until

PROGRAM = """
import sys
import eventlog
with eventlog.open_run(sys.argv[1], run_name="made", save_interval=0) as run:
    run.log_iter(0, 3.0, 10.0)
"""


def git(folder, *arguments):
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    command = ("git", *who, "-C", str(folder), *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def program(tmp_path):
    """A program in a repository, and its commit."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "make it.py").write_text(PROGRAM)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder / "make it.py", git(folder, "rev-parse", "HEAD")


def card(page, heading):
    """The facts of a card by their names."""
    page.wait_for_selector(f"section[aria-label='{heading}'] dt")
    rows = page.locator(f"section[aria-label='{heading}'] dl > div").all()
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows}


def open_run_page(open_page, server):
    (row,) = until(server.rows).values()
    return open_page(server, f"tab=run&run={row['id']}").page


@pytest.mark.parametrize(
    ("added", "statement"),
    [("", "no tracked file differs from it"), ("# changed", "tracked files differ from it")],
)
def test_a_run_shows_its_command_and_commit_and_whether_files_differ(
    open_page, tmp_path, program, added, statement
):
    path, commit = program
    path.write_text(PROGRAM + added)
    out = tmp_path / "out"
    subprocess.run([sys.executable, path, out], check=True, capture_output=True)

    with serving_here(out) as server:
        facts = card(open_run_page(open_page, server), "Origin")

    assert facts["command"].startswith(f"{sys.executable} '{path}' {out}")
    assert facts["git commit"].startswith(commit)
    assert statement in facts["git commit"]
    assert f"python {sys.version.split()[0]}" in facts["versions"]
    assert facts["host"]


def test_what_differs_in_a_later_session_is_shown(open_page, tmp_path, monkeypatch):
    with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
        run.log_iter(0, 3.0, 10.0)
    monkeypatch.setattr(sys, "orig_argv", ["python", "other.py", "--resume"])
    with eventlog.open_run(journal=run.journal_path, from_iter=1, save_interval=0) as again:
        again.log_iter(1, 2.0, 10.0)

    with serving_here(tmp_path) as server:
        page = open_run_page(open_page, server)
        page.wait_for_selector("text=Different in session 2")
        later = page.locator(".origin").nth(1)

        names, command = later.locator("dt").all_inner_texts(), later.locator("code").inner_text()

    assert names == ["command"]
    assert command == "python other.py --resume"


def test_the_checkpoints_of_a_run_are_listed_the_latest_first(open_page, tmp_path):
    with eventlog.open_run(tmp_path, run_name="r", save_interval=0) as run:
        for i in range(3):
            run.log_iter(i, 3.0, 10.0)
            run.log_checkpoint(i, tmp_path / f"{i}.pt", 2.5 - i, size_bytes=1_500_000, sha256="ab")
    with serving_here(tmp_path) as server:
        page = open_run_page(open_page, server)
        page.wait_for_selector("section[aria-label='Checkpoints: 3'] tbody tr")

        table = page.locator("section[aria-label='Checkpoints: 3'] tbody tr")
        rows = [row.locator("td").all_inner_texts() for row in table.all()]

    assert [row[0] for row in rows] == ["2", "1", "0"]
    assert rows[0][1:3] == ["0.5000", "1.5 MB"]
    assert rows[0][4] == str(tmp_path / "2.pt")
