"""A missing login to Weights & Biases is reported before the run starts, in one line."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer import wandb_login
from trainer.train import main

TRAINER = Path(__file__).parents[2] / "trainer"
KEY = "0" * 40
HAS_WANDB = importlib.util.find_spec("wandb") is not None
needs_wandb = pytest.mark.skipif(not HAS_WANDB, reason="wandb is not installed")


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine without a login; its home folder."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(wandb_login, "settings_of_wandb", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return home


def test_without_a_login_the_run_does_not_start_and_one_line_says_what_to_do(
    nobody, flags, tmp_path, capsys
):
    out = tmp_path / "out"

    assert main(flags(out, wandb_log=True)) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert all(way in line for way in ("wandb login", "WANDB_MODE=offline", "--wandb_log=False"))
    assert not out.exists()


def test_it_trains_without_wandb_if_that_is_not_required(nobody, flags, tmp_path, capsys, only_run):
    assert main(flags(tmp_path, wandb_log=True, wandb_required=False)) == 0

    assert capsys.readouterr().err.count("training without W&B: ") == 1
    assert only_run(tmp_path).status == "completed"


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled", "OFFLINE"])
def test_an_offline_mode_needs_no_login(mode, nobody, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)

    assert wandb_login.why_not_ready() == ""


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_a_key_in_the_environment_is_a_login(variable, nobody, monkeypatch):
    monkeypatch.setenv(variable, KEY)

    assert wandb_login.why_not_ready() == ""


@pytest.mark.parametrize(
    ("host", "base_url", "is_login"),
    [
        ("api.wandb.ai", None, True),
        ("wandb.company.org", "https://wandb.company.org", True),
        ("github.com", None, False),
    ],
)
def test_netrc_is_a_login_if_it_has_the_host(host, base_url, is_login, nobody, monkeypatch):
    (nobody / ".netrc").write_text(f"machine {host}\n login user\n password {KEY}\n")
    (nobody / ".netrc").chmod(0o600)
    if base_url:
        monkeypatch.setenv("WANDB_BASE_URL", base_url)

    assert (wandb_login.why_not_ready() == "") is is_login


@pytest.mark.parametrize("settings", [{"api_key": KEY}, {"mode": "offline"}])
def test_wandbs_own_settings_count_as_a_login(settings, nobody, monkeypatch):
    settings = SimpleNamespace(
        **{"api_key": None, "mode": "online", "base_url": "https://x", **settings}
    )
    monkeypatch.setattr(wandb_login, "settings_of_wandb", lambda: settings)

    assert wandb_login.why_not_ready() == ""


def test_an_invalid_netrc_is_not_a_login(nobody):
    (nobody / ".netrc").write_text("machine\nmachine machine {")

    assert "no login" in wandb_login.why_not_ready()


# With the real one


def train(flags, out, home, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k != "NETRC"}
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, TRAINER / "train.py", *flags(out, wandb_log=True, max_iters=2)],
        env=clean | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | environment, cwd=home,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@needs_wandb
def test_the_real_wandb_without_a_login_leaves_no_files(flags, tmp_path):
    done = train(flags, tmp_path / "out", tmp_path / "home")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("train.py: --wandb_log=True: no login")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@needs_wandb
def test_the_real_wandb_offline_logs_to_both(flags, tmp_path, only_run):
    done = train(flags, tmp_path / "out", tmp_path / "home", WANDB_MODE="offline")

    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path / "out").status == "completed"
    assert list((tmp_path / "home" / "wandb").glob("offline-run-*/*.wandb"))
