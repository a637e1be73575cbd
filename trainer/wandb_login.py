"""Check before a run starts, without a network, whether Weights & Biases can be used."""

import contextlib
import importlib.util
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OFFLINE = ("offline", "dryrun", "disabled")
HOSTS = ("api.wandb.ai",)
WAYS_OUT = "log in with `wandb login` (or set WANDB_API_KEY), or set WANDB_MODE=offline"


def why_not_ready() -> str:
    """Why W&B cannot be used and what to do, in one line; empty if it can."""
    if importlib.util.find_spec("wandb") is None:
        return "--wandb_log=True needs wandb: pip install wandb"
    settings = settings_of_wandb()
    if is_offline(settings) or has_login(settings):
        return ""
    return f"--wandb_log=True: no login to W&B on this machine: {WAYS_OUT}"


def settings_of_wandb() -> Any:
    """The settings that wandb reads from its files and environment; None if it has none."""
    with contextlib.suppress(Exception):  # versions differ; old ones have no setup()
        import wandb

        return wandb.setup().settings
    return None


def is_offline(settings: Any) -> bool:
    """Whether W&B works without a network: WANDB_MODE, `wandb offline` or `wandb disabled`."""
    mode = os.environ.get("WANDB_MODE") or getattr(settings, "mode", None)
    return str(mode).lower() in OFFLINE


def has_login(settings: Any) -> bool:
    """Whether there is an API key: in the environment, in wandb's settings or in .netrc."""
    variables = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    if any(os.environ.get(name) for name in variables) or getattr(settings, "api_key", None):
        return True
    hosts = list(HOSTS)
    for url in (os.environ.get("WANDB_BASE_URL"), getattr(settings, "base_url", None)):
        if url:
            hosts.insert(0, urlsplit(str(url)).netloc)
    return any(has_password(host) for host in hosts)


def has_password(host: str) -> bool:
    """Whether .netrc has a password for that host."""
    path = os.environ.get("NETRC")
    paths = [Path(path).expanduser()] if path else [Path("~/.netrc"), Path("~/_netrc")]
    for candidate in paths:
        with contextlib.suppress(OSError, RuntimeError, netrc.NetrcParseError):
            entry = netrc.netrc(candidate.expanduser()).authenticators(host)
            if entry and entry[2]:
                return True
    return False
