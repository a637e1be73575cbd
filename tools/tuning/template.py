"""A command with places in it for what a study chooses.

    torchrun --standalone trainer/train.py {args} --out_dir={out_dir} --init_from=auto
    python my.py --lr={learning_rate} --width {n_embd} --to {out_dir}

`{args}` is every parameter as `--name=value`; {trial} and {study} are there too. A brace that is
meant as one is written twice.
"""

import os
import shlex
import shutil
import string
import sys
from collections.abc import Collection
from pathlib import Path

from ..core.runs import Refusal
from .space import Point, said

TRAINER = "trainer/train.py"
_PLACES = ("args", "out_dir", "study", "trial")


class Template:
    """A command template, checked: each parameter has its place, and the run its folder."""

    def __init__(self, words: str, names: Collection[str], more: Collection[str] = ()) -> None:
        """`names` are those of the parameters; `more` arguments come behind, as they are.

        Raises:
            Refusal: it is not right; names the place.
        """
        self.words = words
        try:
            self._parts = [*shlex.split(words), *(_as_it_is(word) for word in more)]
            places = {name for part in self._parts for name in _places(part)}
        except ValueError as error:
            raise Refusal(f"--command {words!r}: {error}") from None
        if not self._parts:
            raise Refusal("--command: it is empty")
        for name in sorted(places - set(names) - set(_PLACES)):
            known = ", ".join([*names, *_PLACES])
            raise Refusal(f"--command: {{{name}}} is no parameter; there are {known}")
        for part in self._parts:
            if "args" in _places(part) and part != "{args}":
                raise Refusal(f"--command: {part}: {{args}} is several words and stands alone")
        for name in names:
            if name not in places and "args" not in places:
                raise Refusal(f"--param {name}: the command has no place for it: {{{name}}}")
        if "out_dir" not in places:
            raise Refusal("--command: it has no {out_dir}, the folder where the run is to write")

    def fill(self, point: Point, *, out_dir: str, study: str, trial: int | str) -> list[str]:
        """The words of a command line."""
        named = {name for part in self._parts for name in _places(part)}
        values = {name: said(value) for name, value in point.items()}
        values |= {"out_dir": out_dir, "study": study, "trial": str(trial)}
        filled: list[str] = []
        for part in self._parts:
            if part == "{args}":
                filled += [f"--{name}={values[name]}" for name in point if name not in named]
            else:
                filled.append(part.format_map(values))
        return filled


def trainer() -> str:
    """The template for this project's own trainer."""
    here = Path(__file__).parents[2] / TRAINER
    path = TRAINER if Path(TRAINER).exists() else shlex.quote(os.fspath(here))
    return (
        f"torchrun --standalone {path} {{args}} --wandb_run_name={{study}}-{{trial}} "
        "--out_dir={out_dir} --init_from=auto"
    )


def program(word: str) -> str:
    """The path of a command's first word: of this Python's environment first, then as a shell.

    Raises:
        Refusal: there is no such program.
    """
    if os.sep in word:
        found = shutil.which(word)
    else:
        beside = os.path.dirname(sys.executable)
        found = shutil.which(word, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise Refusal(f"--command: no program {word}")
    return found


def _places(part: str) -> set[str]:
    """The names in braces.

    Raises:
        ValueError: a brace without its other one, or more than a name in a pair.
    """
    names = set()
    for _, name, form, conversion in string.Formatter().parse(part):
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise ValueError(f"{{{name}}} is no name; a brace that is meant is written twice")
        names.add(name)
    return names


def _as_it_is(word: str) -> str:
    return word.replace("{", "{{").replace("}", "}}")
