"""Masks credentials before an event reaches the disk.

    mask_text("postgres://ann:hunter2@db/runs")          'postgres://ann:***@db/runs'
    mask_command(["train.py", "--hf_token=hf_abc"])      ['train.py', '--hf_token=***']
    mask({"api_key": "abc", "max_tokens": 512})          {'api_key': '***', 'max_tokens': 512}

A text is masked if it has the name of a credential (`names`: `password`,
`aws_secret_access_key`, ...) in a config, as a flag of a command, or as `name=value` in a text;
or if it looks like a credential (`rules`, `formats`). Numbers and booleans are never masked.

Three environment variables change this:

    EVENTLOG_MASK=off               nothing is masked
    EVENTLOG_MASK_ALLOW=a,b*        values with these names (globs, any case) are not masked
    EVENTLOG_MASK_NAMES=c,*_salt    values with these names are masked as well

Every function returns its argument itself if nothing had to change.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from types import NoneType
from typing import Any

import orjson

from eventlog.format.record import plain_json, text_of
from eventlog.interruption import ignoring
from eventlog.masking.command import WANDB_KEY, masked_command, masked_p_flags
from eventlog.masking.formats import MASK, is_of_names
from eventlog.masking.names import (
    ALWAYS,
    IF_KEY,
    IF_NO_WORD,
    IF_RANDOM,
    NEVER,
    Masking,
    is_credential,
    strength,
)
from eventlog.masking.rules import masked_shapes
from eventlog.masking.text import CACHED_CHARACTERS, mask_text

_NO_TEXT = frozenset((int, float, bool, NoneType))
_ARRAYS = frozenset(("torch", "numpy", "jax", "jaxlib", "cupy", "tensorflow", "mlx"))
_NEVER_MASKED = {"open": frozenset(("run_name", "run_id", "boot_id", "git_commit"))}

_COMMANDS = frozenset(("args", "argv", "arguments", "cmd", "cmdline", "command", "orig_argv"))
_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|digest|apikey|negotiate|key|ssws)\s+")
_WEBHOOK = re.compile(r"(?i)(?:.*[\W_])?webhooks?(?:[\W_]?(?:url|uri|address|endpoint)s?)?")
_WEBHOOK_PATH = re.compile(r"(?P<keep>https?://[^/\s]{1,256}/)(?!\*\*\*$)\S+")
_WANDB_OTHER = re.compile(r"(?i)commit|sha|hash|rev|digest|checksum|version|id$")
_BESIDE = re.compile(  # fields beside a credential that are not credentials
    r"(?i).*(?:user(?:name)?|login|host|port|type|name|url|uri|path|file|email|region|scope|issuer)"
)
_USERS = frozenset(("user", "username", "login", "User", "USER"))
_PAIR_NAMES = ("name", "key", "variable", "header")


def mask(fields: dict[str, Any], masking: Masking | None = None) -> dict[str, Any]:
    """A config, metadata or other fields, also nested ones, without credentials."""
    return _masked(fields, frozenset(), masking or Masking.from_environment())


def mask_event(
    event: str, fields: dict[str, Any], masking: Masking | None = None
) -> dict[str, Any]:
    """The fields of an event without credentials; fast for a row of numbers."""
    if _NO_TEXT.issuperset(map(type, fields.values())):
        return fields
    masking = masking or Masking.from_environment()
    if not masking.enabled or _all_clean(fields, masking):
        return fields
    return _masked(fields, _NEVER_MASKED.get(event, frozenset()), masking)


def _all_clean(fields: dict[str, Any], masking: Masking) -> bool:
    # No generator: a StopIteration that a signal handler raises in one becomes a RuntimeError.
    for name, value in fields.items():
        is_text = type(value) not in _NO_TEXT
        if is_text and not (type(value) is str and _is_clean(name, value, masking)):
            return False
    return True


def mask_file_name(name: str, masking: Masking | None = None) -> str:
    """The name of a run without credentials, for the names of its files."""
    masked = mask_text(name, masking)
    return name if masked == name else masked.replace(MASK, "masked")


def mask_command(argv: Sequence[Any], masking: Masking | None = None) -> list[Any]:
    """The arguments of a command without credentials: `-p secret` is one, `-p 8080` is not."""
    return masked_command(argv, masking or Masking.from_environment(), with_p=True)


def _masked(fields: dict[str, Any], unmasked: frozenset[str], masking: Masking) -> dict[str, Any]:
    if not masking.enabled:
        return fields
    with ignoring(Exception):  # an object, a dict in itself, one that changes, an odd key
        return _Walk(masking).top(fields, unmasked)
    with ignoring(Exception):
        return _Walk(masking).top(orjson.loads(plain_json(fields)), unmasked)
    # The event is logged, without any text that was not checked.
    return {k: v if type(v) in _NO_TEXT or k in unmasked else MASK for k, v in fields.items()}


class _NotPlain(Exception):
    """A value that becomes text only when it is written."""


class _Walk:
    """Masks nested values; returns those without credentials unchanged."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking

    def top(self, fields: dict[str, Any], unmasked: frozenset[str]) -> dict[str, Any]:
        rest = {k: v for k, v in fields.items() if k not in unmasked}
        masked = self._dict(rest, "", NEVER)
        if masked is rest:
            return fields
        return {k: v for k, v in fields.items() if k in unmasked} | masked

    def _value(self, value: Any, name: str, how: int) -> Any:
        kind = type(value)
        if kind in _NO_TEXT:
            return value
        if kind is str:
            return self._named_text(value, name, how)
        if kind is dict:
            return self._dict(value, name, how)
        if kind is list or kind is tuple:
            return self._list(value, name, how)
        if _is_numeric(value):
            return value
        raise _NotPlain

    def _dict(self, values: dict[Any, Any], parent: str, how: int) -> dict[Any, Any]:
        masked: dict[Any, Any] = {}
        is_same = True
        pair = _name_of_pair(values)
        for key, value in values.items():
            if type(value) in _NO_TEXT and type(key) is str and len(key) < 16:
                masked[key] = value
                continue
            name = key if type(key) is str else text_of(key)
            new_key = masked_shapes(name) if len(name) >= 16 else key
            if self._masking.allows(name):
                new = value
            else:
                own = self._strength(pair if pair and name == "value" else name, parent, values)
                inherited = NEVER if how != NEVER and _BESIDE.fullmatch(name) else how
                is_wandb = "wandb" in parent and "wandb" not in name
                new = self._value(value, f"wandb.{name}" if is_wandb else name, max(own, inherited))
            is_same = is_same and new is value and new_key == name
            masked[key if new_key == name else new_key] = new
        return values if is_same else masked

    def _strength(self, name: str, parent: str, beside: dict[Any, Any]) -> int:
        """As `strength`, also by the names around it: `db: {pass: ...}`, `tokens: {hf: ...}`."""
        how = strength(name, self._masking)
        if how == IF_NO_WORD and not _USERS.isdisjoint(beside):
            return ALWAYS
        if name == "key" and "username" in beside:  # kaggle.json
            how = max(how, IF_KEY)
        if how != ALWAYS and parent and name.lower() in ("key", "token", "pass", "pw"):
            return max(how, strength(f"{parent}_{name}", self._masking))
        if how != ALWAYS and parent.lower() in ("keys", "tokens") and not _BESIDE.fullmatch(name):
            is_name = type(beside.get(name)) is str and is_of_names(beside[name])
            own = strength(f"{name}_{parent[:-1]}", self._masking)
            return max(how, NEVER if own == IF_RANDOM and is_name else own)
        return how

    def _list(self, values: Any, name: str, how: int) -> Any:
        if _NO_TEXT.issuperset(map(type, values)):
            return values
        is_text = all(type(value) is str for value in values)
        if how == NEVER and is_text:
            is_command = name.lower() in _COMMANDS
            if is_command or any(value.startswith("-") for value in values):
                masked = masked_command(values, self._masking, with_p=is_command)
            elif len(values) == 2:  # a header, or an item of a dict
                hows = (NEVER, strength(values[0], self._masking))
                masked = [self._named_text(v, name, h) for v, h in zip(values, hows, strict=True)]
            else:
                masked = [self._named_text(value, name, NEVER) for value in values]
        elif is_text and name.lower() == "auth" and len(values) == 2:
            masked = [values[0], MASK]
        else:
            masked = [self._value(value, name, how) for value in values]
        if all(a is b for a, b in zip(masked, values, strict=True)):
            return values
        return type(values)(masked)

    def _named_text(self, text: str, name: str, how: int) -> str:
        is_webhook = "://" in text and _WEBHOOK.fullmatch(name)
        if is_credential(text, how) and not is_webhook:
            scheme = _SCHEME.match(text)
            return (scheme[0] if scheme else "") + MASK
        if "wandb" in name.lower() and WANDB_KEY.fullmatch(text) and not _WANDB_OTHER.search(name):
            return MASK
        if is_webhook:
            text = _WEBHOOK_PATH.sub(rf"\g<keep>{MASK}", text)
        if name.lower() in _COMMANDS:
            text = masked_p_flags(text)
        return mask_text(text, self._masking)


def _name_of_pair(values: dict[Any, Any]) -> str:
    """The name in {"name": "HF_TOKEN", "value": "..."}."""
    if "value" in values:
        for key in _PAIR_NAMES:
            name = values.get(key)
            if type(name) is str:
                return name
    return ""


def _is_clean(name: Any, text: str, masking: Masking) -> bool:
    """Whether this is a short text without credentials; the answer is cached."""
    return len(text) <= CACHED_CHARACTERS and _is_short_clean(name, text, masking)


@lru_cache(maxsize=2048)
def _is_short_clean(name: Any, text: str, masking: Masking) -> bool:
    fields = {name: text}
    return _masked(fields, frozenset(), masking) is fields


def _is_numeric(value: Any) -> bool:
    """Whether this is a tensor or an array of numbers, which holds no text."""
    if type(value).__module__.partition(".")[0] not in _ARRAYS:
        return False
    dtype = getattr(value, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "f") in "biufcV"
