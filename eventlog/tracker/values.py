"""Values and arguments of any class: into dicts by text, or replaced by a default with a message.

Nothing here raises for what the class of a value does, and a wrong setting does not end a training.
Only an argument that says which run to resume is refused, elsewhere: logging into another run
would be worse than not logging.
"""

import operator
import os
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any, get_args

from eventlog.format.foreign import Unreadable, are_of, class_name, is_a, mapping, number
from eventlog.format.record import ANNOTATES, RESERVED, Values, text_of, unique
from eventlog.interruption import ignoring, is_interruption, of_value
from eventlog.masking import load_masking
from eventlog.tracker.config_file import read_config
from eventlog.write.journal import Durability
from eventlog.write.messages import error_text, say_once

RESERVED_IN_ROWS = RESERVED | {"step", "nonfinite", ANNOTATES}
FLAT_DEPTH = 20  # dicts nested deeper stay as they are
_NUMBERS_AND_TEXTS = frozenset((float, int, str, bool))
_TEXTS = frozenset((str,))
_SIMPLE = _NUMBERS_AND_TEXTS | {type(None)}
_OF_PAIRS = frozenset((list, tuple, set, zip, map, GeneratorType, type({}.items())))


def as_dict(config: Any) -> dict[str, Any]:
    """A mapping, a namespace or an object with fields as a dict by text.

    The path of a JSON or YAML file stands for what is in it. A value that cannot be read becomes
    a text with the error.
    """
    if config is None:
        return {}
    try:
        fields = mapping(read_config(config))
        if fields is None:
            fields = _attributes(config)
    except Exception as error:
        if is_interruption(error):
            raise
        return _unreadable(config, error)
    values: dict[str, Any] = {}
    tried: dict[str, int] = {}
    for key, value in fields.items():
        name = unique(text_of(key), tried, values)
        values[name] = text_of(value) if type(value) is Unreadable else value
    return values


def _attributes(config: Any) -> dict[str, Any]:
    """The attributes of an object; those of its classes, too, which are often the defaults."""
    if not hasattr(config, "__dict__"):
        return {"config": config}
    classes = config.__mro__ if isinstance(config, type) else type(config).__mro__
    defaults = {k: v for c in reversed(classes[:-1]) for k, v in vars(c).items() if _is_value(k, v)}
    own = {} if isinstance(config, type) else vars(config)
    if is_a(config, ModuleType):
        own = {k: v for k, v in own.items() if _is_value(k, v)}
    return defaults | own


def _is_value(name: str, value: Any) -> bool:
    """Whether an attribute of a class or a module is a setting, and not code."""
    is_code = callable(value) or isinstance(value, ModuleType) or hasattr(type(value), "__get__")
    return not name.startswith("_") and not is_code


def pairs_as_dict(config: Any) -> dict[str, Any]:
    """As `as_dict`; also of pairs of a name and a value, as `dict` takes them."""
    if type(config) in _OF_PAIRS:
        try:
            pairs: list[Any] = of_value(list, config)
        except Exception as error:  # a generator may raise anything
            if is_interruption(error):
                raise
            return _unreadable(config, error)
        if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            return {text_of(name): value for name, value in pairs}
        config = pairs
    return as_dict(config)


def _unreadable(config: Any, error: Exception) -> dict[str, Any]:
    return {"config": f"<{class_name(config)}: {error_text(error)}>"}


def known_of(data: Any) -> Values:
    """What is known of the values of `data`: nothing, unless it is a dict of numbers and texts
    under names that are not reserved."""
    if (
        type(data) is dict
        and are_of(_NUMBERS_AND_TEXTS, data.values())
        and _TEXTS.issuperset(map(type, data))
        and RESERVED_IN_ROWS.isdisjoint(data)
    ):
        return "plain" if str in map(type, data.values()) else "numbers"
    return "any"


def flat(data: Any) -> dict[str, Any]:
    """Values by dotted names, none of them reserved; tensors of one number as numbers."""
    values: dict[str, Any] = {}
    tried: dict[str, int] = {}

    def put(items: dict[Any, Any], prefix: str, around: tuple[int, ...]) -> None:
        for key, value in items.items():
            name = f"{prefix}{key if type(key) is str else text_of(key)}"
            if not are_of(_SIMPLE, (value,)):
                value = _number(value)
            if (
                not are_of(_SIMPLE, (value,))
                and len(around) < FLAT_DEPTH
                and id(value) not in around
            ):
                nested = _nested(value)
                if nested:
                    put(nested, f"{name}.", (*around, id(value)))
                    continue
            if name in RESERVED_IN_ROWS or name in values:
                name = unique(name, tried, RESERVED_IN_ROWS, values)
            values[name] = value

    fields = data if type(data) is dict else mapping(data)
    if fields is None:
        raise TypeError(f"expected a dict, got a {class_name(data)}")
    put(fields, "", (id(data),))
    return values


def _number(value: Any) -> Any:
    """A tensor's or array's only number, read once: each read may wait for a GPU."""
    with ignoring(Exception):  # the rules for a record's fields then apply
        return number(value)
    return value


def _nested(value: Any) -> dict[Any, Any] | None:
    """The items of a dict or a config of any kind; none of anything else, or if it refuses."""
    with ignoring(Exception):
        return mapping(value)
    return None


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The values that a summary shows: numbers and texts."""
    if are_of(_NUMBERS_AND_TEXTS, values.values()):
        return values
    return {
        name: value
        for name, value in values.items()
        if value is not None and is_a(value, int | float | str)
    }


def is_true(value: Any) -> bool:
    """The truth of a value, False if it has none."""
    with ignoring(Exception):
        return of_value(bool, value)
    return False


STEP_MAX = 1 << 63
_SHOWN_MAX = 100  # characters
_MASKED_MAX = 10_000  # before that, so that no credential is cut


def shown(value: Any) -> str:
    """A value's `repr` for a message, without credentials, also if its class raises."""
    try:
        text = of_value(repr, value)
    except Exception as error:
        if is_interruption(error):
            raise
        text = f"<{class_name(value)}: {class_name(error)}>"
    text = masked(text_of(text)[:_MASKED_MAX])
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def masked(text: str) -> str:
    """A text of the user without credentials, for an error message."""
    return str(load_masking().mask_text(text))


def as_text(value: Any) -> str | None:
    """A setting as text; None if it is None or empty."""
    return None if value is None else text_of(value) or None


def as_folder(name: str, value: Any, default: str | None) -> Path | None:
    """A folder's path; `default`, and a message, if the value cannot be one."""
    if value is None:
        return _path(default)
    try:
        path = Path(of_value(os.fsdecode, value))
        if b"\0" not in os.fsencode(path):
            return path
        why = "it contains NUL"
    except Exception as error:  # of the wrong type, a lone surrogate, an `__fspath__` that raises
        if is_interruption(error):
            raise
        why = class_name(error)
    used = "the default" if default is None else repr(default)
    say_once(f"init: {name}={shown(value)}: must be a path ({why}); {used} is used instead")
    return _path(default)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def as_durability(value: Any) -> Durability:
    """One of the policies; the default, and a message, for anything else."""
    policies = get_args(Durability)
    text = text_of(value)
    if text in policies:
        return text  # type: ignore[return-value]
    say_once(
        f"init: durability={shown(value)}: must be one of {policies}; 'interval' is used instead"
    )
    return "interval"


def as_interval(value: Any, default: int) -> int:
    """A number of steps; `default`, and a message, for anything else."""
    try:
        whole = int if isinstance(value, float | str) else operator.index
        number = of_value(whole, value)
        if number == value or isinstance(value, str):
            return number
    except Exception as error:
        if is_interruption(error):
            raise
    say_once(
        f"init: save_interval={shown(value)}: must be a whole number; {default} is used instead"
    )
    return default


def as_step(step: Any) -> int | None:
    """A step as a whole number; None for anything else."""
    try:
        step = of_value(step.item) if getattr(step, "ndim", None) == 0 else step
        if is_a(step, float) and of_value(step.is_integer):
            step = of_value(int, step)
        number = of_value(operator.index, step)
        if -STEP_MAX <= number < STEP_MAX - 1:
            return int.__add__(number, 0)  # of True and of other subclasses, too
    except Exception as error:
        if is_interruption(error):
            raise
    return None


def as_tags(tags: Any) -> list[str]:
    """Tags as texts: of a text with commas, or of anything that has elements."""
    if tags is None:
        return []
    parts = text_of(tags).split(",") if is_a(tags, str) else tags
    return [tag for tag in (text_of(part).strip() for part in parts) if tag]
