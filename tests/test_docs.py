"""The documents cannot drift: what they show is run, what they list exists."""

import importlib
import json
import multiprocessing
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import eventlog
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "trainer" / "TRAINING.md").read_text()
BIN = Path(sys.executable).parent

# Training commands are run as shown, then these flags make them a matter of seconds.
QUICK = ["--eval_iters=1", "--n_layer=1", "--n_embd=32", "--n_head=2", "--block_size=32"]


def blocks(language, document=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)


def commands(document=README):
    """What stands behind a prompt; lines without one are its output."""
    lines = [line for block in blocks("console", document) for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder as the clone is after the first command: trainer/, README.md, out/ with a run."""
    home = tmp_path_factory.mktemp("clone")
    for name in ("trainer", "README.md"):
        (home / name).symlink_to(ROOT / name)
    (home / "trainer_state.json").symlink_to(next((ROOT / "tests").rglob("trainer_state.json")))
    shell("python trainer/train.py --max_iters=4 2>&1", home)  # one is a process of its own
    return home


def shell(command, home):
    words = shlex.split(command)
    if any(word.endswith("train.py") for word in words) and "--help" not in words:
        if "--init_from=auto" in words:
            command = command.replace("--max_iters=510", "--max_iters=6")
        command += " " + " ".join(QUICK)
    if words[:2] == ["runs", "tune"]:
        command = command.replace("--trials 2", "--trials 1")
        command = command.replace('--args="', f'--args="{" ".join(QUICK)} ')
    if is_training(command):
        run_forked(shlex.split(command), home)
        return
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=home, env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


PRELOADED = ("torch", "torch._dynamo", "tyro")


def is_training(command):
    """Whether a fork can run it: nothing that only a shell can do, no thread but torch's."""
    words = shlex.split(command)
    is_ours = words[0] == "python" and words[1] in ("trainer/train.py", "trainer/sample.py")
    return is_ours and not set("|>;*$<") & set(command)


def run_forked(words, home):
    """A command in a fork of this process: importing torch, 4 s, is done once for all of them."""
    for name in PRELOADED:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)  # a fork copies no threads
    process = multiprocessing.get_context("fork").Process(target=become, args=(words, home))
    process.start()
    process.join(100)

    assert process.exitcode == 0, f"{words}\n{(home / 'printed.txt').read_text()}"


def become(words, home):
    """What the shell and the interpreter do before a program's first line."""
    os.chdir(home)
    printed = os.open("printed.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.environ |= {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    sys.stdin, sys.stdout, sys.stderr = open(os.devnull), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = words[1:]
    sys.path.insert(0, str(home / "trainer"))
    runpy.run_path(words[1], run_name="__main__")


def test_the_first_screen_has_the_two_commands_and_they_install_what_is_declared():
    train, test = (block.strip() for block in blocks("bash"))

    make = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert train == f"{make} '.[train,tools]' && .venv/bin/torchrun trainer/train.py"
    assert test == f"{make} '.[test]' && .venv/bin/pytest"
    assert README[: README.index(test)].count("\n") < 20


@pytest.mark.parametrize("document", [README, TRAINING], ids=["README", "TRAINING"])
def test_every_command_shown_runs(document, home):
    for command in commands(document):
        if (
            command.startswith("jq")
            and subprocess.run(["which", "jq"], capture_output=True).returncode
        ):
            continue
        shell(command, home)


def test_the_search_for_the_best_run_that_is_shown_passes_over_runs_without_evals(tmp_path):
    runs = {"no_evals": None, "nanogpt": 1e9, "good": 2.75, "better": 2.5}
    (tmp_path / "out").mkdir()
    for name, loss in runs.items():
        summary = {"final_train_loss": 2.0, "best_val_loss": loss}
        document = {"training_iterations": [], "summary": summary}
        (tmp_path / "out" / f"{name}.json").write_text(json.dumps(document))
    (search,) = [command for command in commands() if ".summary.best_val_loss" in command]

    done = subprocess.run(["bash", "-c", search], cwd=tmp_path, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("2.5 out/better.json\n", "")


def test_every_python_block_runs(home, tmp_path):
    """Those in <details> are training loops of other libraries: test_integrations runs them."""
    for name in ("run_a", "run_b"):
        with eventlog.open_run(tmp_path / "out") as run:
            run.log_iter(0, 1.0, 50.0)
        run.run_path.rename(tmp_path / "out" / f"{name}.json")
    for block in blocks("python", re.sub(r"<details>.*?</details>", "", README, flags=re.DOTALL)):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_the_map_has_every_package_and_every_name_in_it_is_a_file():
    layout = README.split("## Layout")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", layout, re.MULTILINE)
    packages = {
        str(path.parent.relative_to(ROOT))
        for folder in ("eventlog", "trainer", "tools")
        for path in (ROOT / folder).rglob("__init__.py")
    }

    assert {folder for folder, _ in rows} == packages | {"tests"}
    for folder, text in rows:
        for name in re.findall(r"`([\w]+(?:\.py|\.md|/))`", text):
            assert (ROOT / folder / name).exists(), f"{folder}/{name}"


def test_every_package_says_what_it_holds():
    for folder in ("eventlog", "trainer", "tools"):
        for path in (ROOT / folder).rglob("__init__.py"):
            assert path.read_text().startswith('"""'), path


def test_every_command_of_eventlog_and_runs_is_shown():
    shown = " ".join(commands()) + README
    for program in ("eventlog", "runs"):
        text = subprocess.run([BIN / program, "--help"], capture_output=True, text=True).stdout
        names = re.findall(r"^    (\w+)  ", text, re.MULTILINE)

        assert len(names) >= 2
        assert [n for n in names if f"{program} {n}" not in shown] == []


def test_the_change_log_says_something_of_the_coming_version():
    assert "## Unreleased\n\n- " in (ROOT / "CHANGELOG.md").read_text()


def test_every_flag_of_the_trainer_that_is_shown_is_one():
    shown = [line for line in (README + TRAINING).splitlines() if "train.py --" in line]
    prose = re.findall(r"`--(\w+)=", TRAINING)

    named = {flag for line in shown for flag in re.findall(r"--(\w+)=", line.split("train.py")[1])}
    assert named
    assert named | set(prose) <= set(TrainConfig.__dataclass_fields__)
