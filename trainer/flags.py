"""Command line flags from one flat frozen dataclass, with one-line error messages.

A field created by `flag` becomes `--its_name=value` (or `--its_name value`). tyro parses values and
prints the help. Its error messages are many lines long, so errors are reported here.
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
    """A dataclass field that is a flag; `--help` lists it under `group`."""
    field: T = dataclasses.field(default=default, metadata={"group": group, "help": help})
    return field


def same_flag(cls: type, name: str) -> Any:
    """The same flag as field `name` of the dataclass `cls`."""
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def parse(
    cls: type[T],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Preset] | None = None,
) -> T:
    """The flags in `argv` (None: of this process) as a `cls`.

    `--preset=name` sets defaults, which any other flag overrides. The result has an attribute
    `explicit`: the names of the flags that were given, those of a given preset included.

    Raises:
        SystemExit: a flag is wrong: status 2, and one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" not in arguments and "-h" not in arguments:
        arguments = _check(cls, arguments, prog)
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
    except ValueError as error:
        _fail(prog, str(error))
    object.__setattr__(config, "explicit", _explicit(arguments, presets or {}))  # it is frozen
    return config


def _explicit(arguments: Sequence[str], presets: Mapping[str, Preset]) -> frozenset[str]:
    """The flags that were given, those of a given preset included."""
    names: set[str] = set()
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        names.add(name)
        if name == "preset":
            names |= presets[value].keys()
    return frozenset(names)


def _check(cls: type, arguments: list[str], prog: str) -> list[str]:
    """The arguments, each as one `--name=value`; exits at the first wrong one."""
    hints = hints_of(cls)
    checked = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not argument.startswith("--"):
            _fail(prog, f"unexpected argument {argument!r}: flags are written --name=value")
        if name not in hints:
            _fail(prog, f"unknown flag: --{name}{_nearest(name, list(hints), prefix='--')}")
        if not equals:
            value = next(rest, "")
        if not value:
            _fail(prog, f"--{name} has no value: expected {_expected(hints[name])}")
        try:
            alone = dataclasses.make_dataclass("Alone", [(name, hints[name])])
            with contextlib.redirect_stderr(io.StringIO()):
                tyro.cli(alone, args=[f"--{name}={value}"], config=TYRO_STYLE, use_underscores=True)
        except SystemExit:
            choices = args_of(hints[name]) if origin_of(hints[name]) is Literal else ()
            hint = _nearest(value, list(choices)) if choices else ""
            _fail(prog, f"--{name}={value}: must be {_expected(hints[name])}{hint}")
        checked.append(f"--{name}={value}")
    return checked


def _grouped(cls: type, defaults: Mapping[str, Any]) -> type:
    """A dataclass with one dataclass per group, which tyro's help shows as headed groups."""
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


def _expected(hint: Any) -> str:
    """The values of a flag, for an error message."""
    if origin_of(hint) is Literal:
        return "one of " + ", ".join(args_of(hint))
    if origin_of(hint) in (Union, types.UnionType):
        return " or ".join(_expected(part) for part in args_of(hint))
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return names.get(hint, "None")


def _nearest(text: str, known: list[str], prefix: str = "") -> str:
    matches = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    return f". Did you mean {prefix}{matches[0]}?" if matches else "; see --help"


def _fail(prog: str, message: str) -> NoReturn:
    # Under torchrun every rank finds the same error: it is printed once.
    if os.environ.get("RANK", "0") == "0":
        print(f"{prog}: {message}", file=sys.stderr)
    raise SystemExit(2)
