"""Where a run comes from: read quickly, without disturbing work in the repository."""

import contextlib
import gc
import os
import site
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import eventlog
from eventlog.read.alive import start_of
from eventlog.write import provenance

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


def git(folder, *args):
    done = subprocess.run(
        ["git", *IDENTITY, "-C", folder, *args], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit that contains the program `train.py`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("import eventlog")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    monkeypatch.setattr(sys, "argv", [str(folder / "train.py")])
    return folder


def use_git(monkeypatch, folder, script):
    """Put a program named git first on the PATH."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)


def head(folder):
    return git(folder, "rev-parse", "HEAD")


def commit():
    return provenance.origin()["git_commit"]


def test_a_clean_repository_is_its_commit_and_changed_files_add_a_plus(repository):
    clean = commit()
    (repository / "notes.txt").write_text("not tracked")
    untracked = commit()
    (repository / "train.py").write_text("import eventlog  # changed")
    changed = commit()
    git(repository, "add", "train.py")
    staged = commit()

    assert clean == untracked == head(repository)
    assert changed == staged == head(repository) + "+"


def test_the_index_of_the_repository_is_not_written(repository):
    index = repository / ".git" / "index"
    os.utime(repository / "train.py", (1, 1))  # what git would refresh in the index
    before = (index.stat().st_ino, index.stat().st_mtime_ns, index.read_bytes())

    git_commit = commit()

    assert git_commit == head(repository)
    assert (index.stat().st_ino, index.stat().st_mtime_ns, index.read_bytes()) == before


def test_the_commit_is_found_while_the_index_lock_is_held(repository):
    (repository / ".git" / "index.lock").touch()

    assert commit() == head(repository)


def test_a_git_that_hangs_costs_half_a_second_and_only_the_mark_of_changes(
    repository, monkeypatch, tmp_path
):
    expected = head(repository)
    use_git(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; sleep 10; echo late")

    n_threads, began = threading.active_count(), time.monotonic()
    git_commit = commit()
    took = time.monotonic() - began

    assert git_commit == expected + "?"
    assert took < 2
    wait_until(lambda: not Path("/proc", (tmp_path / "pid").read_text().strip()).exists())
    wait_until(lambda: not list(processes_of_git(tmp_path)))  # what the killed git had started
    wait_until(lambda: threading.active_count() == n_threads)


def wait_until(is_so):
    for _ in range(100):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("not within 5 s")


def test_a_git_that_is_slow_to_die_stays_no_zombie_and_gives_no_warning(
    repository, monkeypatch, tmp_path
):
    use_git(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; sleep 10")
    monkeypatch.setattr(provenance, "KILL_WAIT_S", 0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        git_commit = commit()
        gc.collect()

    assert git_commit.endswith("?")
    assert caught == []
    wait_until(lambda: not Path("/proc", (tmp_path / "pid").read_text().strip()).exists())


def processes_of_git(where):
    """The command lines of processes that the git in a folder started and that still run."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"PATH={where}/bin".encode() in (process / "environ").read_bytes():
                yield (process / "cmdline").read_text()


def test_a_program_ends_at_once_while_git_hangs(repository, monkeypatch, tmp_path):
    use_git(monkeypatch, tmp_path, "trap '' TERM INT HUP; sleep 10 & wait")
    program = f"import eventlog; eventlog.open_run({str(tmp_path / 'out')!r}, save_interval=0)"
    (repository / "train.py").write_text(program)

    began = time.monotonic()
    subprocess.run([sys.executable, repository / "train.py"], check=True)

    assert time.monotonic() - began < 4
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    opened = next(iter(eventlog.scan(journal))).fields
    assert opened["git_commit"] == head_in_files(repository) + "?"


def head_in_files(folder):
    return (folder / ".git" / "refs" / "heads" / "main").read_text().strip()


@pytest.mark.parametrize("script", ["exit 128", "echo nonsense", "echo '# branch.oid x'"])
def test_if_git_fails_the_commit_is_read_from_the_files(repository, monkeypatch, tmp_path, script):
    expected = head(repository)
    use_git(monkeypatch, tmp_path, script)

    assert commit() == expected + "?"


def without_git(monkeypatch, tmp_path):
    use_git(monkeypatch, tmp_path, "exit 1")


def test_references_that_git_has_packed_are_found_without_it(repository, monkeypatch, tmp_path):
    expected = head(repository)
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    without_git(monkeypatch, tmp_path)

    assert commit() == expected + "?"


def test_a_detached_head_is_found_without_git(repository, monkeypatch, tmp_path):
    expected = head(repository)
    git(repository, "checkout", "-q", "--detach")
    without_git(monkeypatch, tmp_path)

    assert commit() == expected + "?"


def test_the_head_of_a_worktree_is_found_without_git(repository, monkeypatch, tmp_path):
    beside = tmp_path / "beside"
    git(repository, "worktree", "add", "-q", "-b", "topic", str(beside))
    (beside / "train.py").write_text("other")
    git(beside, "commit", "-qam", "second")
    expected = head(beside)
    assert expected != head(repository)
    monkeypatch.setattr(sys, "argv", [str(beside / "train.py")])
    assert commit() == expected
    without_git(monkeypatch, tmp_path)

    assert commit() == expected + "?"


def test_a_program_in_a_folder_of_the_repository_has_its_commit(repository, monkeypatch):
    (repository / "scripts").mkdir()
    monkeypatch.setattr(sys, "argv", [str(repository / "scripts" / "run.py")])

    assert commit() == head(repository)


@pytest.fixture
def environment(tmp_path):
    """A repository with an environment, as for a clone of somebody else's program."""
    folder = tmp_path / "tools"
    (folder / "env").mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-qm", "of the environment", "--allow-empty")
    return folder / "env"


@pytest.mark.parametrize(
    "program",
    [
        "lib/python3.11/site-packages/ipykernel_launcher.py",
        "lib/python3/dist-packages/lightning/__main__.py",
        "bin/accelerate",
        "user/bin/torchrun",
        "lib/python3.11/pdb.py",
    ],
)
def test_an_installed_program_has_the_commit_of_the_working_folder(
    repository, environment, monkeypatch, program
):
    monkeypatch.setattr(sys, "argv", [str(environment / program)])
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    monkeypatch.setattr(os, "__file__", str(environment / "lib" / "python3.11" / "os.py"))
    monkeypatch.setattr(site, "USER_BASE", str(environment / "user"))
    monkeypatch.chdir(repository)

    assert commit() == head(repository)


def test_a_program_of_a_virtual_environment_has_the_commit_of_the_working_folder(
    repository, environment, monkeypatch
):
    monkeypatch.setattr(sys, "argv", [str(environment / "share" / "train.py")])
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.chdir(repository)

    assert commit() == head(repository)


def test_a_program_beside_the_environment_has_its_own_commit(
    repository, environment, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "prefix", str(repository / ".venv"))
    monkeypatch.chdir(environment)

    assert commit() == head(repository)


def test_outside_a_repository_and_before_the_first_commit_git_commit_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    outside = commit()
    git(tmp_path, "init", "-q")

    assert (outside, commit()) == (None, None)


def test_no_program_of_the_repository_is_run(repository, tmp_path):
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(hook))
    git(repository, "config", "core.hooksPath", str(tmp_path))
    os.utime(repository / "train.py", (1, 1))
    (tmp_path / "ran").unlink(missing_ok=True)

    assert commit() == head(repository)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["HEAD", "packed-refs", "refs/heads/main", "commondir"])
def test_a_pipe_in_place_of_a_file_of_the_repository_does_not_hang(
    repository, monkeypatch, tmp_path, name
):
    without_git(monkeypatch, tmp_path)
    (repository / ".git" / name).unlink(missing_ok=True)
    os.mkfifo(repository / ".git" / name)

    began = time.monotonic()
    commit()

    assert time.monotonic() - began < 2


def test_a_reference_cannot_point_to_a_file_outside_refs(repository, monkeypatch, tmp_path):
    without_git(monkeypatch, tmp_path)
    (repository / "token").write_text("0" * 40)
    (repository / ".git" / "HEAD").write_text("ref: refs/../../token")

    assert commit() is None


def test_a_run_begins_in_a_working_folder_that_was_deleted(tmp_path):
    (tmp_path / "gone").mkdir()
    program = (
        f"import os; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())\n"
        f"import sys; sys.argv = ['']\n"
        f"import eventlog; eventlog.open_run({str(tmp_path / 'out')!r}, save_interval=0).close()"
    )

    subprocess.run([sys.executable, "-c", program], check=True)

    (journal,) = (tmp_path / "out").glob("*.jsonl")
    opened = next(iter(eventlog.scan(journal))).fields
    assert "cwd" not in opened
    assert opened["pid"] > 0


def test_the_start_time_of_a_process_distinguishes_it_from_another_with_the_same_pid(tmp_path):
    with subprocess.Popen(["sleep", "5"]) as process:
        started = start_of(process.pid)
        process.kill()
    ticks = os.sysconf("SC_CLK_TCK")
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])

    assert 0 <= uptime_s - started / ticks < 60
    assert start_of(process.pid) is None
    assert provenance.origin()["pid_started"] == start_of(os.getpid())
