"""The names of the module `wandb` that are not eventlog's own.

A script is moved by changing its import line, and none of these names ends it, except those that
cannot work without W&B's server: `sweep`, `agent`, `controller` and the methods of `Api` raise an
error that says so, and the names in `REFUSED` do not exist.
"""

import secrets
import string
from types import SimpleNamespace
from typing import Any, NoReturn

from eventlog import errors
from eventlog.tracker.journaled_dict import JournaledDict
from eventlog.tracker.media import MEDIA, AlertLevel, Artifact, box3d, chart
from eventlog.tracker.run import ActiveRun
from eventlog.tracker.wandb_run import Settings, does_nothing
from eventlog.write.messages import say, say_once

OF_THE_RUN = frozenset((
    "alert", "define_metric", "link_artifact", "link_model", "log_artifact", "log_code",
    "log_model", "mark_preempting", "pin_config_keys", "restore", "save", "unwatch",
    "use_artifact", "use_model", "watch",
))  # fmt: skip
"""Functions of the module that are methods of the active run."""

_INTEGRATION = "use the callbacks in eventlog.integrations, or log from your own loop"
_INTERNAL = "an internal name of W&B"
REFUSED = {
    "attach": "one process writes a run; a rank logs with open_run(journal=..., rank=...)",
    "ArtifactTTL": "nothing of a run is ever deleted",
    "visualize": "charts are drawn by `runs plot` and `runs serve`",
    **dict.fromkeys(
        ("catboost", "gym", "integration", "keras", "lightgbm", "sacred", "sagemaker_auth",
         "sklearn", "tensorboard", "tensorflow", "xgboost"), _INTEGRATION
    ),
    **dict.fromkeys(
        ("agents", "analytics", "api", "ensure_configured", "helper", "jupyter", "patched",
         "profiler", "proto", "termsetup", "trigger", "wandb_agent", "wandb_lib", "wandb_torch"),
        _INTERNAL,
    ),
}  # fmt: skip
"""Names of W&B that do not exist here, and what the AttributeError says."""


class Namespace(SimpleNamespace):
    """A module of W&B: the names that scripts use."""


class Api:
    """W&B's public API. It can be made; what asks the server raises CommError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise errors.CommError(
            f"Api.{name}: there is no server; runs are files on this disk. Read one with "
            f"eventlog.load_run(path), all of a folder with eventlog.frame(folder)"
        )


class _Variables:
    """`wandb.env`: the names of environment variables."""

    def __getattr__(self, name: str) -> str:
        if not name.isupper():
            raise AttributeError(f"eventlog.env has no attribute {name!r}")
        return f"WANDB_{name}"


def generate_id(length: int = 8) -> str:
    """A random id, to resume a run by."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def login(*args: Any, **kwargs: Any) -> bool:
    """True: nothing needs a login."""
    does_nothing("login")
    return True


def setup(*args: Any, **kwargs: Any) -> None:
    """Nothing: there is nothing to set up."""


def require(*args: Any, **kwargs: Any) -> None:
    """Nothing: there are no optional features."""


def termlog(text: Any = "", newline: bool = True, repeat: bool = True, **_: Any) -> None:
    """Print a message on stderr."""
    (say if repeat else say_once)(f"{text}")


def _refuse(name: str, instead: str) -> Any:
    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        raise errors.UnsupportedError(f"{name}: there is no server that hands out runs; {instead}")

    refused.__name__ = name
    return refused


def _module_names() -> dict[str, Any]:
    data_types = Namespace(**MEDIA, box3d=box3d)
    run_module = Namespace(Run=ActiveRun)
    names: dict[str, Any] = {
        name: getattr(errors, name) for name in ("Error", "CommError", "UsageError")
    }
    names |= {name: kind for name, kind in MEDIA.items() if name not in ("Media", "WBValue")}
    names |= {
        "AlertLevel": AlertLevel, "Api": Api, "Artifact": Artifact, "Settings": Settings,
        "Config": JournaledDict, "box3d": box3d, "data_types": data_types, "env": _Variables(),
        "apis": Namespace(PublicApi=Api, public=Namespace(Api=Api)), "wandb_run": run_module,
        "util": Namespace(generate_id=generate_id), "plot_table": chart("plot_table"),
        "login": login, "setup": setup, "require": require,
        "termlog": termlog, "termwarn": termlog, "termerror": termlog,
    }  # fmt: skip
    names |= {
        name: _refuse(name, "`runs tune` searches hyperparameters on this machine")
        for name in ("agent", "controller", "sweep")
    }
    shared = ("AlertLevel", "Artifact", "Config", "Settings", "controller", "data_types",
              "login", "require", "setup", "sweep", "wandb_run")  # fmt: skip
    names["sdk"] = Namespace(**{name: names[name] for name in shared})
    names["wandb_sdk"] = names["sdk"]
    return names


NAMES = _module_names()


def attribute(name: str) -> Any:
    """What `eventlog.<name>` is, for a name of W&B.

    Raises:
        AttributeError: W&B has no such name, or one that is refused.
    """
    if name in NAMES:
        return NAMES[name]
    if name in REFUSED:
        raise AttributeError(f"eventlog has no attribute {name!r}: {REFUSED[name]}")
    raise AttributeError(f"eventlog has no attribute {name!r}")
