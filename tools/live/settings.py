"""The settings of a run as a row of the list has them: flat, and limited in number and length."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.seeds import is_bookkeeping, is_seed

CONFIG_MAX = 500  # entries of a config that a row has
SETTINGS_MAX = 20_000  # of them that distinguish runs
TEXT_MAX = 500  # characters of each


def bounded(values: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested settings as dotted names, limited in number and length."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"[:TEXT_MAX]
        if isinstance(value, dict) and depth < 4:
            flat |= bounded(value, f"{name}.", depth + 1)
        elif isinstance(value, str | list | dict):
            text = value if isinstance(value, str) else _text(value)
            flat[name] = text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"
        else:
            flat[name] = value
        if len(flat) >= CONFIG_MAX:
            break
    return dict(list(flat.items())[:CONFIG_MAX])


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config flat, with a hash for the rest of a long value, and for entries beyond the limit."""
    settings: dict[str, Any] = {}
    rest = []
    for name, value in itertools.islice(leaves(config), SETTINGS_MAX):
        text = value if isinstance(value, str) else repr(value)
        if len(text) > TEXT_MAX:
            value = f"{text[:TEXT_MAX]}… {_hash(text)}"
        if len(settings) < CONFIG_MAX:
            settings[name] = value
        elif not is_seed(name) and not is_bookkeeping(name, value):
            rest.append((name, value))
    return settings | ({f"{len(rest):,} more": _hash(repr(rest))} if rest else {})


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of nested objects, with dots between the names."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _hash(text: str) -> str:
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _text(value: Any) -> str:
    """A list or a nested object as a short text."""
    if isinstance(value, list):
        return f"[{', '.join(str(v)[:40] for v in value[:20])}{', …' * (len(value) > 20)}]"
    return f"{{{len(value)} entries}}"
