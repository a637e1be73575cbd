"""A config that is passed as the path of a file: JSON or YAML."""

import importlib
import json
import os
import re
from typing import Any

from eventlog.format.foreign import is_a
from eventlog.format.record import text_of
from eventlog.interruption import is_interruption
from eventlog.write.messages import error_text, say_once

_MAX_BYTES = 16 << 20
_YAML = (".yaml", ".yml")
_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")
"""Numbers such as 1e-3, which YAML 1.1 takes for texts."""


def read_config(config: Any) -> Any:
    """The content of the file that `config` is the path of; `config` itself for all others.

    A file that cannot be read is reported once on stderr.
    """
    if not is_a(config, str) and not hasattr(type(config), "__fspath__"):
        return config
    path = text_of(config)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".json", *_YAML):
        return config
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError("no such file")
        if os.path.getsize(path) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB")
        with open(path, encoding="utf-8-sig") as file:
            content = _yaml(file) if suffix in _YAML else json.load(file)
    except Exception as error:  # of any parser
        if is_interruption(error):
            raise
        say_once(f"config: {path}: cannot be read ({error_text(error)}); only its path is kept")
        return config
    return _without_descriptions(content) if isinstance(content, dict) else {"config": content}


def _yaml(file: Any) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ImportError("YAML needs PyYAML: pip install pyyaml") from None

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined,misc]
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    return yaml.load(file, Loader)


def _without_descriptions(content: dict[Any, Any]) -> dict[Any, Any]:
    """W&B's files have `{"lr": {"desc": ..., "value": 0.1}}`."""
    values = {k: v for k, v in content.items() if k not in ("wandb_version", "_wandb")}
    described = [v for v in values.values() if isinstance(v, dict) and "value" in v]
    if values and len(described) == len(values) and set().union(*described) <= {"desc", "value"}:
        return {k: v["value"] for k, v in values.items()}
    return content
