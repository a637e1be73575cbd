"""Command line flags from one flat frozen dataclass, and mistakes answered in one line.

A field made by `flag` becomes `--its_name=value` (or `--its_name value`). tyro does the parsing
and the help; what it says about a mistake is a screenful, so that part is said here.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union
from typing import get_args as args_of
from typing import get_origin as origin_of
from typing import get_type_hints as hints_of

import tyro

T = TypeVar("T")
Preset = Mapping[str, Any]

TYRO_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)


def flag(default: T, group: str, help: str) -> T:
    """A dataclass field that is a flag: shown in `group` of the help, with units in `help`."""
    field: T = dataclasses.field(default=default, metadata={"group": group, "help": help})
    return field


def parse(
    cls: type[T],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Preset] | None = None,
) -> T:
    """The flags in `argv` (None: of this process) as a `cls`.

    With presets, `--preset=name` changes the defaults, and any other flag still has the last word.
    A mistake ends the process with status 2 and one line that names the nearest right spelling.
    What is returned has an attribute `asked`: the names of the flags that were given.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" not in arguments and "-h" not in arguments:
        arguments = _checked(cls, arguments, prog)
    defaults: dict[str, Any] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if presets is not None and name == "--preset":
            defaults = {"preset": value, **presets[value]}
    groups: Any = tyro.cli(
        _grouped(cls, defaults),
        args=arguments,
        prog=prog,
        description=description,
        config=TYRO_STYLE,
        use_underscores=True,
    )
    values: dict[str, Any] = {}
    for group in vars(groups).values():
        values |= vars(group)
    try:
        config = cls(**values)
    except ValueError as mistake:
        _refuse(prog, str(mistake))
    object.__setattr__(config, "asked", _asked(arguments, presets or {}))  # frozen, as a rule
    return config


def _asked(arguments: Sequence[str], presets: Mapping[str, Preset]) -> frozenset[str]:
    """The flags that were given, those that a given preset gives included; no defaults."""
    names: set[str] = set()
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        names.add(name)
        if name == "preset":
            names |= presets[value].keys()
    return frozenset(names)


def _checked(cls: type, arguments: list[str], prog: str) -> list[str]:
    """The arguments, each as one `--name=value`; or the end, at the first that is wrong."""
    hints = hints_of(cls)
    checked = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not argument.startswith("--"):
            _refuse(prog, f"{argument!r} is not a flag: flags are written --name=value")
        if name not in hints:
            _refuse(prog, f"there is no flag --{name}{_nearest(name, list(hints), prefix='--')}")
        if not equals:
            value = next(rest, "")
        if not value:
            _refuse(prog, f"--{name} has no value: it takes {_kind(hints[name])}")
        try:
            alone = dataclasses.make_dataclass("Alone", [(name, hints[name])])
            with contextlib.redirect_stderr(io.StringIO()):
                tyro.cli(alone, args=[f"--{name}={value}"], config=TYRO_STYLE, use_underscores=True)
        except SystemExit:
            choices = args_of(hints[name]) if origin_of(hints[name]) is Literal else ()
            near = _nearest(value, list(choices)) if choices else ""
            _refuse(prog, f"--{name}={value}: it takes {_kind(hints[name])}{near}")
        checked.append(f"--{name}={value}")
    return checked


def _grouped(cls: type, defaults: Mapping[str, Any]) -> type:
    """A dataclass of one dataclass a group, which is how tyro draws headed groups of flags."""
    hints = hints_of(cls)
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in dataclasses.fields(cls):
        default = defaults.get(field.name, field.default)
        kind: Any = Annotated[hints[field.name], tyro.conf.arg(help=field.metadata["help"])]
        groups.setdefault(field.metadata["group"], []).append(
            (field.name, kind, dataclasses.field(default=default))
        )
    kinds = {
        group: dataclasses.make_dataclass(group, fields, frozen=True)
        for group, fields in groups.items()
    }
    return dataclasses.make_dataclass(
        "Flags", [(group, kind, dataclasses.field(default=kind())) for group, kind in kinds.items()]
    )


def _kind(hint: Any) -> str:
    """What a flag takes, in words."""
    if origin_of(hint) is Literal:
        return "one of " + ", ".join(args_of(hint))
    if origin_of(hint) in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in args_of(hint))
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return words.get(hint, "None")


def _nearest(word: str, known: list[str], prefix: str = "") -> str:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {prefix}{matches[0]}?" if matches else "; --help lists them all"


def _refuse(prog: str, mistake: str) -> NoReturn:
    # Under torchrun every rank finds the same mistake; one of them is enough to say it.
    if os.environ.get("RANK", "0") == "0":
        print(f"{prog}: {mistake}", file=sys.stderr)
    raise SystemExit(2)
