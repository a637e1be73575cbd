"""Credentials among the arguments of a command: `--hf_token X`, `mysql -pX`, `redis-cli -a X`.

masked_command(["redis-cli", "-a", "hunter2"], Masking(), with_p=True)   ['redis-cli', '-a', '***']
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from eventlog.masking.formats import MASK
from eventlog.masking.names import ALWAYS, IF_RANDOM, NEVER, Masking, is_credential, strength
from eventlog.masking.rules import PASSWORD_FLAGS
from eventlog.masking.text import mask_text

WANDB_KEY = re.compile(r"[0-9a-f]{40}")
_ASSIGNED = re.compile(r"(?s)([-+~]{0,2}(?P<name>[\w.\-/@]{1,128})=)(?P<value>.*)")
_USER_FLAGS = frozenset(("-u", "--user", "--userpass", "--auth", "--http-user"))
_USER_AND_PASSWORD = re.compile(r"(?P<keep>[^\s:/]{1,64}:)(?!//)(?!\d*$)\S+")
_SETTING = frozenset(("set", "config", "configure", "config:set", "setenv"))
_P_FLAG = re.compile(r"(?P<keep>(?:^|\s)-p[ \t]{1,4})(?P<value>[^\s\"'-][^\s\"']*)")
_P_VALUES = re.compile(r"no:.*|[\d.,:x+\-]+|b?f(?:loat|p)?\d+|int\d+|true|false")
"""Values of `-p` that are not a password: a port, a precision, a plugin of pytest."""
_END_OF_COMMAND = re.compile(r"[\n|;&()]")
_NAME_OF_PROGRAM = re.compile(r"(?:(?!\w+://).*/)?([\w-]{2,32})(?:\.exe)?")


class _Program(NamedTuple):
    """What the short flags of a program mean."""

    password: re.Pattern[str] | None = None
    """A flag and its password, which is the group `value`."""
    has_password_p: bool = True
    """Whether the value of `-p` may be a password."""


_ANY = _Program()
_NOT_P = _Program(has_password_p=False)
_NO_PASSWORD = re.compile(
    "cp|cpio|git|install|ls|mkdir|mkfifo|mv|nmap|patch|perl|pytest|rmdir|rsync|scp|tar"
)
"""Programs whose `-p` has no password."""


def masked_command(argv: Sequence[Any], masking: Masking, *, with_p: bool) -> list[Any]:
    """The arguments of a command; `with_p`: the value of `-p` may be a password."""
    if not masking.enabled:
        return list(argv)
    masked: list[Any] = []
    how, flag, program = NEVER, "", _ANY
    for arg in argv:
        if type(arg) is not str:
            masked.append(arg)
            continue
        if flag and not arg.startswith("-"):
            masked.append(_flag_value(arg, flag, how, program, masking, before=masked))
            if not flag.endswith("s") or flag.endswith("pass"):  # --api-keys may have several
                flag = ""
            continue
        flag = ""
        if not (masked and str(masked[-1]).startswith("--")):
            program = _program(arg) or program
        if _takes_value(arg, masked):
            how = (_flag_strength if arg.startswith("-") else strength)(arg, masking)
            is_p = arg == "-p" and with_p and program.has_password_p
            if how != NEVER or arg in _USER_FLAGS or is_p or (program.password and len(arg) == 2):
                flag = arg
        masked.append(_argument(arg, program, masking, before=masked))
    return masked


def masked_p_flags(text: str) -> str:
    """A command line in one text, without the passwords after `-p`."""
    return _P_FLAG.sub(_p_flag, text)


def _takes_value(arg: str, before: list[Any]) -> bool:
    """Whether the next argument may be the value of this: after a flag, or `config set NAME`."""
    if arg.startswith("-"):
        return "=" not in arg
    return not _SETTING.isdisjoint(other for other in before[-4:] if type(other) is str)


@lru_cache(maxsize=1024)
def _program(arg: str) -> _Program | None:
    """The program of this name, if its short flags are known."""
    match = _NAME_OF_PROGRAM.fullmatch(arg)
    if match is None:
        return None
    if _NO_PASSWORD.fullmatch(match[1]):
        return _NOT_P
    for hint, programs, flag, has_password_p in PASSWORD_FLAGS:  # compiled when first met
        if hint in match[1] and re.fullmatch(programs, match[1]):
            password = re.compile(rf"(?s)(?P<keep>{flag})(?P<value>[^\s-].*)")
            return _Program(password, has_password_p)
    return None


def _flag_value(
    value: str, flag: str, how: int, program: _Program, masking: Masking, *, before: list[Any]
) -> str:
    if program.password and (match := program.password.fullmatch(f"{flag} {value}")):
        return match["keep"].removeprefix(f"{flag} ") + MASK
    if flag == "-p" and program.has_password_p:
        return value if _P_VALUES.fullmatch(value) else MASK
    if is_credential(value, how):
        return MASK
    if flag in _USER_FLAGS:
        value = _USER_AND_PASSWORD.sub(rf"\g<keep>{MASK}", value)
    return _argument(value, program, masking, before=before)


def _argument(arg: str, program: _Program, masking: Masking, *, before: list[Any]) -> str:
    """One argument of a command: `--name=value`, `name=value`, code, anything."""
    match = _ASSIGNED.fullmatch(arg)
    if match and is_credential(match["value"], _flag_strength(match["name"], masking)):
        return match[1] + MASK
    last = [other for other in before[-4:] if type(other) is str]
    if WANDB_KEY.fullmatch(arg) and any("wandb" in other for other in last):
        return MASK
    if "login" in last and ("wandb" in last or "vault" in last) and not arg.startswith("-"):
        return MASK if is_credential(arg, IF_RANDOM) else arg
    if program.password and (match := program.password.fullmatch(arg)):
        return match["keep"] + MASK
    return mask_text(arg, masking)


def _flag_strength(flag: str, masking: Masking) -> int:
    """As `strength`; a flag `--token` takes a credential, while a field `token` may not."""
    how = strength(flag, masking)
    is_token = how == IF_RANDOM and flag.lower().endswith("token")
    return ALWAYS if is_token else how


def _p_flag(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 256) : match.start()]
    programs = filter(None, map(_program, _END_OF_COMMAND.split(before)[-1].split()))
    is_password = all(program.has_password_p for program in programs)
    if not is_password or _P_VALUES.fullmatch(match["value"]):
        return match[0]
    return match["keep"] + MASK
