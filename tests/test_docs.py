"""The documents are correct: their commands print what is shown, and their links exist."""

import fcntl
import glob
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import eventlog.format.files
from tests.program_server import ProgramServer
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ENV = os.environ | {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # stdout and stderr in the order of a terminal
}
TRAINING = "trainer/TRAINING.md"
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
DOCUMENTS = ["README.md", *PAGES, TRAINING]
TEXT = {name: (ROOT / name).read_text() for name in DOCUMENTS}
README = TEXT["README.md"]

# Training commands are run as shown, then these flags make them a matter of seconds.
QUICK = "--eval_iters=1 --n_layer=1 --n_embd=32 --n_head=2 --block_size=32"
# Training loops of other libraries: tests/eventlog/integrations runs them.
RUN_ELSEWHERE = re.compile(r"^import (torch|keras)$", re.MULTILINE)


@dataclass
class Step:
    """A command with the output shown below it, or a Python block."""

    command: str
    shown: list[str] = field(default_factory=list)
    is_python: bool = False


def blocks(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def steps(text):
    """The commands and Python blocks of a document, in its order."""
    found = []
    for language, block in re.findall(
        r"^```(console|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        if language == "python":
            found.append(Step(block, is_python=True))
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            else:
                found[-1].shown.append(line)
    return found


def commands(text):
    return [step.command for step in steps(text) if not step.is_python]


@pytest.fixture(scope="module")
def server():
    server = ProgramServer(ENV)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder as the clone is after the first command: out/ has one run."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("trainer", "README.md"):
        (clone / name).symlink_to(ROOT / name)
    (clone / "trainer_state.json").symlink_to(next((ROOT / "tests").rglob("trainer_state.json")))
    (clone / "printed").write_text(in_shell(quick("python trainer/train.py --max_iters=20"), clone))
    return clone


@pytest.fixture(scope="module")
def two_runs(clone, server, tmp_path_factory):
    """The same with two runs in out/: `baseline`, and `resumed`, which was resumed once."""
    two_runs = tmp_path_factory.mktemp("two_runs") / "clone"
    shutil.copytree(clone, two_runs, symlinks=True)
    shutil.rmtree(two_runs / "out")
    train = "python trainer/train.py --eval_interval=10"
    for options in (
        "--wandb_run_name=baseline --max_iters=20 --learning_rate=1e-3",
        "--wandb_run_name=resumed --max_iters=20",
        "--wandb_run_name=resumed --max_iters=30 --init_from=auto",
    ):
        run(f"{train} {options}", two_runs, server)
    return two_runs


def quick(command):
    """The command, for a model so small that it trains in seconds."""
    program = command.split("|")[0].strip()
    if "train.py" in program and "--help" not in program:
        program = program.replace("--max_iters=400", "--max_iters=40") + " " + QUICK
    if program.startswith("runs tune"):
        program = program.replace('--args="', f'--args="{QUICK} ')
    return program + command[len(command.split("|")[0].rstrip()) :]


def run(command, folder, server):
    """Run a command as a shell does, and return its output."""
    args = shlex.split(quick(command))
    if args[:2] in (["runs", "serve"], ["runs", "watch"]) or "-f" in args:
        return until_stopped(command, folder)
    if set("|>;&<$'") & set(command) or args[0] not in ("python", "runs", "eventlog"):
        return in_shell(quick(command), folder)
    if "prepare.py" in command:  # its tokenizer's threads do not like forks
        return in_shell(quick(command), folder)
    args = [name for arg in args for name in sorted(glob.glob(arg, root_dir=folder)) or [arg]]
    script = args[1:] if args[0] == "python" else [str(BIN / args[0]), *args[1:]]
    return in_fork(script, folder, server, command)


def until_stopped(command, folder):
    """The output, in a terminal, of a command that runs until a person stops it."""
    terminal, program_side = pty.openpty()
    fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=ENV | {"TERM": "xterm-256color"},
        stdin=program_side,
        stdout=program_side,
        stderr=program_side,
        start_new_session=True,
        preexec_fn=take_the_terminal,
    )
    os.close(program_side)
    output = b""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            output += read(terminal)
        elif output:
            os.write(terminal, b"q\x03")  # q leaves `watch`, Ctrl-C the others
    output += read(terminal)
    os.close(terminal)
    process.kill()
    assert process.wait() in (0, 130, -signal.SIGINT), f"{command}\n{output!r}"
    return re.sub(r"q?\^C|\r", "", output.decode())


def take_the_terminal():
    """As a shell does: Ctrl-C reaches the program, also if the tests run in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: its last program has ended
        return b""


def in_shell(command, folder):
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def in_fork(args, folder, server, command):
    output = folder / ".output"
    status = server.run(args, folder, output)
    expected = 1 if command.startswith("runs diff") else 0  # as `diff`: 1 if there is a difference
    assert status == expected, f"{command}\nexit status {status}\n{output.read_text()}"
    return output.read_text()


def mask(line):
    """The line with numbers, times, ids, bars and the width of columns made alike."""
    line = re.sub(r"\b\d{8}_\d{6}\b", "0", line)
    line = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{8}(-[0-9a-f-]{27})?\b", "0", line)
    line = re.sub(r"[-+−]?\d+([,.:]?\d)*(e[-+]?\d+)?( ?([kMG]?B|ms|s|m|h|d|%)\b)?", "0", line)
    line = re.sub(r"[▁▂▃▄▅▆▇█]+", "▁", line)
    line = re.sub(r"(─|-{3})[─-]*", "───", line)
    return re.sub(r"\s+", " ", line).strip()


def pattern(shown):
    """A regular expression for what is shown: `...` is any text, or any lines if it is alone."""
    lines = []
    for line in shown:
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            text = r".*".join(re.escape(mask(part)) for part in line.split("..."))
            lines.append(text.replace(r".*", r" ?.* ?") + r"\n")
    return "".join(lines)


def test_text_that_differs_in_more_than_numbers_is_not_what_is_shown():
    shown = ["iter 7  loss 1.25", "...", "run_20261123_053219  3.0 MB at ..."]
    printed = "iter 11 loss 0.3\none\ntwo\nrun_20270101_000000 900 kB at 12:00\n"

    assert_printed(shown, printed, "log")
    for word, other in (("loss", "lost"), ("iter", "step"), ("run_", "run-"), ("kB", "kilobytes")):
        with pytest.raises(AssertionError):
            assert_printed(shown, printed.replace(word, other), "log")


def assert_printed(shown, output, command):
    printed = "".join(mask(line) + "\n" for line in output.splitlines())

    assert re.fullmatch(pattern(shown), printed), (
        f"$ {command}\n--- shown\n" + "\n".join(shown) + f"\n--- printed\n{output}"
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_shown_run_and_print_what_is_shown(name, request, server, tmp_path):
    home = request.getfixturevalue("two_runs" if name in PAGES else "clone")
    folder = tmp_path / "clone"
    shutil.copytree(home, folder, symlinks=True)
    for step in steps(TEXT[name]):
        if step.is_python:
            run_python(step.command, folder, server)
        elif not step.command.startswith("jq ") or shutil.which("jq"):
            output = run(step.command, folder, server)
            if step.shown:
                assert_printed(step.shown, output, step.command)


def run_python(code, folder, server):
    """Run a block, or save it if it begins with a file's name."""
    if RUN_ELSEWHERE.search(code):
        return
    if file := re.match(r"# (\w+\.py)\n", code):
        (folder / file[1]).write_text(code)
    else:
        in_fork(["-W", "error", "-c", code], folder, server, code)


def test_the_search_for_the_best_run_that_is_shown_passes_over_runs_without_evals(tmp_path):
    runs = {"no_evals": None, "nanogpt": 1e9, "good": 2.75, "better": 2.5}
    (tmp_path / "out").mkdir()
    for name, loss in runs.items():
        summary = {"final_train_loss": 2.0, "best_val_loss": loss}
        document = {"training_iterations": [], "summary": summary}
        (tmp_path / "out" / f"{name}.json").write_text(json.dumps(document))
    (search,) = [c for c in commands(TEXT["docs/notebook.md"]) if ".summary.best_val_loss" in c]

    assert in_shell(search, tmp_path) == "2.5 out/better.json\n"


def test_the_first_screen_has_the_two_commands_and_they_install_what_is_declared():
    train, test = (block.strip() for block in blocks("bash", README))

    make = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert train == f"{make} '.[train,tools]' && .venv/bin/torchrun trainer/train.py"
    assert test == f"{make} '.[test]' && .venv/bin/pytest"
    assert README[: README.index(test)].count("\n") < 40


def test_the_losses_in_the_readme_are_those_that_were_measured():
    """The table of the README against the one of the benchmark: three rates for each logger."""
    results = (ROOT / "tests" / "bench" / "RESULTS.md").read_text()
    kills = results.split("### 1. kill -9")[1].split("\n### ")[0]
    costs = results.split("### 6. Cost of a call")[1].split("\n### ")[0]
    loggers = {
        "eventlog": "eventlog",
        "W&B": "wandb",
        "TensorBoard": "tensorboard",
        "trackio": "trackio",
        "JSON": "json-every-100",
    }
    rows = [line for line in README.splitlines() if line.startswith("| ") and " µs |" in line]

    assert len(rows) == 5
    for row, (shown, measured) in zip(rows, loggers.items(), strict=True):
        name, *lost, cost = cells(row)
        assert shown in name
        assert lost == [cell.split(" (")[0] for cell in cells_of(measured, kills)[:3]]
        assert cost == f"{cells_of(measured, costs)[2]} µs"


def cells(row):
    return [cell.strip().replace("*", "") for cell in row.strip("|").split("|")]


def cells_of(logger, table):
    return cells(re.search(rf"^\| {logger} \|(.*)\|$", table, re.MULTILINE)[1])


def test_documents_are_short():
    assert README.count("\n") <= 150
    assert {name: TEXT[name].count("\n") for name in PAGES if TEXT[name].count("\n") > 120} == {}


def test_output_is_shown_below_its_command_and_nowhere_else():
    """A block of text is not checked against anything: a file tree is the only use for one."""
    for name in ["README.md", *PAGES]:
        for block in blocks("text", TEXT[name]):
            assert all(line.startswith("out") for line in block.splitlines()), f"{name}\n{block}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(name):
    for target in re.findall(r"\]\(([^)]+)\)", TEXT[name]):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in {
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            }


def test_the_readme_links_to_every_page():
    assert {name for name in PAGES if f"]({name})" not in README} == set()


def test_every_kind_of_file_that_a_run_may_leave_is_listed():
    files = TEXT["docs/archive-and-sql.md"].split("## The files of a run")[1].split("\n## ")[0]
    kinds = re.findall(r"^    <stem>\S*(\.[a-z-]+)/? ", eventlog.format.files.__doc__, re.MULTILINE)

    assert len(kinds) > 8
    assert [kind for kind in kinds if kind not in files and kind != ".pruned"] == []
    assert ".aside" in README


def test_the_map_has_every_package_and_every_name_in_it_is_a_file():
    layout = README.split("## Layout")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", layout, re.MULTILINE)
    packages = {
        str(path.parent.relative_to(ROOT))
        for folder in ("eventlog", "trainer", "tools")
        for path in (ROOT / folder).rglob("__init__.py")
    }

    assert {folder for folder, _ in rows} == packages | {"tests", "docs"}
    for folder, text in rows:
        for name in re.findall(r"`([\w]+(?:\.py|\.md|/))`", text):
            assert (ROOT / folder / name).exists(), f"{folder}/{name}"


def test_every_package_says_what_it_holds():
    for folder in ("eventlog", "trainer", "tools"):
        for path in (ROOT / folder).rglob("__init__.py"):
            assert path.read_text().startswith('"""'), path


def test_every_command_of_eventlog_and_runs_is_shown():
    text = "".join(TEXT.values())
    for program in ("eventlog", "runs"):
        usage = subprocess.run([BIN / program, "--help"], capture_output=True, text=True).stdout
        names = re.findall(r"^    (\w+)  ", usage, re.MULTILINE)

        assert len(names) >= 2
        assert [name for name in names if f"{program} {name}" not in text] == []


def test_every_flag_of_the_trainer_that_is_shown_is_one():
    shown = [line for text in TEXT.values() for line in text.splitlines() if "train.py --" in line]
    prose = re.findall(r"`--(\w+)=", TEXT[TRAINING] + TEXT["docs/training.md"])

    named = {flag for line in shown for flag in re.findall(r"--(\w+)=", line.split("train.py")[1])}
    assert named
    assert named | set(prose) <= set(TrainConfig.__dataclass_fields__)
