"""Reading files that anybody may have written: with bounds, and without trust."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.runs import Refusal

FILE_MAX = 256 << 20  # bytes of a file that is read as a whole: as Python objects 10 times that
LINE_MAX = 1 << 20
STEP_MAX = 1 << 53  # beyond it, JSON's numbers are not exact


def read_all(path: Path) -> bytes:
    """The contents of a file.

    Raises:
        Refusal: it has more than FILE_MAX bytes.
    """
    with open(path, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise Refusal(f"{path}: too large to import: must have at most {FILE_MAX:,} bytes")
    return data


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, cut to LINE_MAX bytes."""
    with open(path, "rb") as file:
        is_rest = False
        while line := file.readline(LINE_MAX):
            if not is_rest:
                yield line.decode(errors="replace")
            is_rest = not line.endswith(b"\n")


def number(value: Any) -> float | int | None:
    """A number, also of `"NaN"` and `"Infinity"`; None for anything else."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return None


def whole(value: Any) -> int | None:
    """A step number; None if it is not one."""
    if type(value) is float and math.isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and abs(value) < STEP_MAX else None


VALUES_MAX = 20_000  # of a document, with every alias expanded


def plain_yaml(text: str) -> Any:
    """The value of a YAML text; None if it is invalid, needs classes, is cyclic or too large."""
    try:
        import yaml

        class Loader(yaml.SafeLoader):  # type: ignore[misc]
            def flatten_mapping(self, node: Any) -> None:
                super().flatten_mapping(node)
                if len(node.value) > VALUES_MAX:  # `<<: [*a, *a]` doubles with each level
                    raise yaml.YAMLError("too many merged values")

        value = yaml.load(text, Loader)
    except Exception:  # no yaml; not YAML; nested too deep
        return None
    return value if _is_small(value) else None


def _is_small(value: Any) -> bool:
    """Whether it has at most VALUES_MAX values, with every alias expanded."""
    todo, n_values = [value], 0
    while todo and n_values <= VALUES_MAX:
        one = todo.pop()
        n_values += 1
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            todo += one
    return n_values <= VALUES_MAX
