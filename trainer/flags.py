"""Command line flags from one flat frozen dataclass, parsed by tyro.

A field created by `flag` becomes `--its_name=value` (or `--its_name value`).
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")
Preset = Mapping[str, Any]


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
        SystemExit: after --help; or a flag is wrong: status 2, and a message on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    preset = _preset_of(arguments, presets or {})
    is_main = os.environ.get("RANK", "0") == "0"  # under torchrun rank 0 prints for all ranks
    groups: Any = tyro.cli(
        _grouped(cls, preset),
        args=arguments,
        prog=prog,
        description=description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
        use_underscores=True,
        console_outputs=is_main,
    )
    values: dict[str, Any] = {}
    for group in vars(groups).values():
        values |= vars(group)
    try:
        config = cls(**values)
    except ValueError as error:
        if is_main:
            print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    names = [argument[2:].partition("=")[0] for argument in arguments if argument[:2] == "--"]
    explicit = {name.replace("-", "_") for name in names} | preset.keys()
    object.__setattr__(config, "explicit", frozenset(explicit))  # it is frozen
    return config


def _preset_of(arguments: Sequence[str], presets: Mapping[str, Preset]) -> dict[str, Any]:
    """The defaults of the preset in the arguments; {} without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    name = parser.parse_known_args(arguments)[0].preset
    return {"preset": name, **presets[name]} if name in presets else {}


def _grouped(cls: type, defaults: Mapping[str, Any]) -> type:
    """A dataclass with one dataclass per group, which tyro's help shows as headed groups."""
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in dataclasses.fields(cls):
        default = defaults.get(field.name, field.default)
        groups.setdefault(field.metadata["group"], []).append(
            (field.name, field.type, dataclasses.field(default=default, metadata=field.metadata))
        )
    kinds = {
        group: dataclasses.make_dataclass(group, fields, frozen=True)
        for group, fields in groups.items()
    }
    return dataclasses.make_dataclass(
        "Flags", [(group, kind, dataclasses.field(default=kind())) for group, kind in kinds.items()]
    )
