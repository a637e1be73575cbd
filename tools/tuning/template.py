"""Command templates with placeholders for the parameters of a study.

    torchrun --standalone trainer/train.py {args} --out_dir={out_dir} --init_from=auto
    python my.py --lr={learning_rate} --width {n_embd} --to {out_dir}

`{args}` stands for every parameter as `--name=value`; {trial} and {study} for their name. Write a
literal brace as {{ or }}.
"""

import os
import shlex
import shutil
import string
import sys
from collections.abc import Collection
from pathlib import Path

from ..core.runs import Refusal
from .space import Point, as_argument

TRAINER = "trainer/train.py"
_OWN_NAMES = ("args", "out_dir", "study", "trial")


class Template:
    """A checked command template: it has all parameters and the folder of the run."""

    def __init__(self, text: str, names: Collection[str], more: Collection[str] = ()) -> None:
        """`names` are those of the parameters; `more` arguments are appended as they are.

        Raises:
            Refusal: the template is invalid.
        """
        try:
            self._parts = [*shlex.split(text), *(_escaped(argument) for argument in more)]
            names_used = {name for part in self._parts for name in _names_in(part)}
        except ValueError as error:
            raise Refusal(f"--command {text!r}: {error}") from None
        if not self._parts:
            raise Refusal("--command: must not be empty")
        for name in sorted(names_used - set(names) - set(_OWN_NAMES)):
            known = ", ".join([*names, *_OWN_NAMES])
            raise Refusal(f"--command: unknown parameter {{{name}}}. There are {known}")
        for part in self._parts:
            if "args" in _names_in(part) and part != "{args}":
                raise Refusal(f"--command: {part}: {{args}} must be an argument of its own")
        for name in names:
            if name not in names_used and "args" not in names_used:
                raise Refusal(f"--param {name}: the command must have {{{name}}} or {{args}}")
        if "out_dir" not in names_used:
            raise Refusal("--command: must have {out_dir}, the folder of the run")

    def fill(self, point: Point, *, out_dir: str, study: str, trial: int | str) -> list[str]:
        """The arguments of the command line."""
        named = {name for part in self._parts for name in _names_in(part)}
        values = {name: as_argument(value) for name, value in point.items()}
        values |= {"out_dir": out_dir, "study": study, "trial": str(trial)}
        filled: list[str] = []
        for part in self._parts:
            if part == "{args}":
                filled += [f"--{name}={values[name]}" for name in point if name not in named]
            else:
                filled.append(part.format_map(values))
        return filled


def trainer() -> str:
    """The template for this project's trainer."""
    here = Path(__file__).parents[2] / TRAINER
    path = TRAINER if Path(TRAINER).exists() else shlex.quote(os.fspath(here))
    return (
        f"torchrun --standalone {path} {{args}} --wandb_run_name={{study}}-{{trial}} "
        "--out_dir={out_dir} --init_from=auto"
    )


def program(argument: str) -> str:
    """The path of a program: in this Python's environment, else in PATH.

    Raises:
        Refusal: there is no such program.
    """
    if os.sep in argument:
        found = shutil.which(argument)
    else:
        beside = os.path.dirname(sys.executable)
        found = shutil.which(argument, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise Refusal(f"--command: program not found: {argument}")
    return found


def _names_in(part: str) -> set[str]:
    """The names in braces.

    Raises:
        ValueError: a brace is not closed, or has more than a name in it.
    """
    names = set()
    for _, name, form, conversion in string.Formatter().parse(part):
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise ValueError(f"{{{name}}} is not a name; write a literal brace as {{{{ or }}}}")
        names.add(name)
    return names


def _escaped(argument: str) -> str:
    return argument.replace("{", "{{").replace("}", "}}")
