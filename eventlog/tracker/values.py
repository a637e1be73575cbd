"""Values of any class, as configs and rows have them, into dicts by text. Nothing here raises for
what the class of a value does."""

from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

from eventlog.format.record import ANNOTATES, RESERVED, is_a, text_of, unique
from eventlog.interruption import ignoring, is_interruption
from eventlog.write.messages import error_text

RESERVED_IN_ROWS = RESERVED | {"step", "nonfinite", ANNOTATES}
FLAT_DEPTH = 20  # dicts nested deeper stay as they are
_SIMPLE = frozenset((float, int, str, bool, type(None)))
_OF_PAIRS = frozenset((list, tuple, set, zip, map, GeneratorType, type({}.items())))


def as_dict(config: Any) -> dict[str, Any]:
    """A mapping, a namespace or a dataclass as a dict by text.

    A value that cannot be read (`???` in an OmegaConf config) becomes a text with the error.
    """
    if config is None:
        return {}
    values: dict[str, Any] = {}
    try:
        if not is_a(config, Mapping):
            config = vars(config) if hasattr(config, "__dict__") else {"config": config}
        names = list(config)
    except Exception as error:
        if is_interruption(error):
            raise
        return _unreadable(config, error)
    tried: dict[str, int] = {}
    for key in names:
        name = unique(text_of(key), tried, values)
        try:
            values[name] = config[key]
        except Exception as error:
            if is_interruption(error):
                raise
            values[name] = f"<{error_text(error)}>"
    return values


def pairs_as_dict(config: Any) -> dict[str, Any]:
    """As `as_dict`; also of pairs of a name and a value, as `dict` takes them."""
    if type(config) in _OF_PAIRS:
        try:
            pairs = list(config)
        except Exception as error:  # a generator may raise anything
            if is_interruption(error):
                raise
            return _unreadable(config, error)
        if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            return {text_of(name): value for name, value in pairs}
        config = pairs
    return as_dict(config)


def _unreadable(config: Any, error: Exception) -> dict[str, Any]:
    return {"config": f"<{type(config).__name__}: {error_text(error)}>"}


def flat(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by dotted names, none of them reserved; tensors of one number as numbers."""
    values: dict[str, Any] = {}
    tried: dict[str, int] = {}

    def put(items: Iterable[tuple[Any, Any]], prefix: str, depth: int) -> None:
        for key, value in items:
            name = f"{prefix}{key if type(key) is str else text_of(key)}"
            if type(value) not in _SIMPLE and depth < FLAT_DEPTH:
                nested = _items(value)
                if nested:
                    put(nested, f"{name}.", depth + 1)
                    continue
            if name in RESERVED_IN_ROWS or name in values:
                name = unique(name, tried, RESERVED_IN_ROWS, values)
            values[name] = _number(value)

    if not is_a(data, Mapping):
        raise TypeError(f"expected a dict, got a {type(data).__name__}")
    put(data.items(), "", 0)
    return values


def _number(value: Any) -> Any:
    """A tensor's or array's only number, read once: each read may wait for a GPU."""
    if type(value) not in _SIMPLE:
        with ignoring(Exception):  # the rules for a record's fields then apply
            if getattr(value, "ndim", None) == 0:
                return value.item()
    return value


def _items(value: Any) -> list[tuple[Any, Any]]:
    """The items of a dict of any kind; none of anything else, or if it refuses."""
    with ignoring(Exception):
        if is_a(value, Mapping):
            return list(value.items())
    return []


def is_plain(value: Any) -> bool:
    """Whether a value can be shown in the summary."""
    return type(value) in _SIMPLE or is_a(value, int | float | str)


def is_true(value: Any) -> bool:
    """The truth of a value, False if it has none."""
    with ignoring(Exception):
        return bool(value)
    return False
