"""Large values of a run that is resumed or forked, read back from the asides."""

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from eventlog.blocks import read_all
from eventlog.interruption import ignoring
from eventlog.read.reader import scan
from eventlog.write.messages import say_once

_NOTE = re.compile(r"<[\d,]+ bytes, set aside>")


def restored(fields: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Fields with the values that were logged, in place of the notes that stand for them.

    If the file is missing or damaged, the notes are left out, and that is reported on stderr.
    """
    reference = fields.get("set_aside")
    if not isinstance(reference, dict) or "sha256" not in reference:
        return fields
    content = _content(reference, folders)
    if content is not None:
        return fields | content if "set_aside" in content else _without(fields | content)
    say_once(f"{reference.get('file')}: is missing or damaged; the large values in it are left out")
    return _without_notes(_without(fields))


def restored_config(
    journal: Path, config: dict[str, Any], folders: Sequence[Path]
) -> dict[str, Any]:
    """The config of a run as it was logged; `config` is what is left of it in its events."""
    if "set_aside" not in config and _without_notes(config) == config:
        return config
    if not os.path.isfile(journal):  # only the run JSON is left
        return _without_notes(restored(config, folders))
    values: dict[str, Any] = {}
    for record in scan(journal):
        if record.event == "open":
            values = restored(_dict(record.fields.get("config")), folders) or values
        elif record.event == "config":
            values = values | _dict(restored(record.fields, folders).get("config"))
    return values


def folders_of(journal: Path, fallback: Any) -> list[Path]:
    """The folders in which files of a run may be."""
    return [journal.parent] + ([Path(fallback)] if isinstance(fallback, str) else [])


def _content(reference: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any] | None:
    name = reference.get("file")
    if not isinstance(name, str) or os.path.basename(name) != name:
        return None
    for folder in folders:
        with ignoring(OSError, ValueError):
            data = read_all(folder / name)
            if sha256(data).hexdigest() == reference["sha256"]:
                return _dict(orjson.loads(data))
    return None


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k != "set_aside"}


def _without_notes(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the notes that stand for values, also in nested dicts."""
    return _top_level({k: _top_level(v) if isinstance(v, dict) else v for k, v in fields.items()})


def _top_level(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if not (type(v) is str and _NOTE.fullmatch(v))}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
