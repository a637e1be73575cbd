"""Values of other libraries as Python's own: numbers, dicts and lists, one level at a time.

A library is recognised by what its types define and is never imported. Attributes are looked up on
the type: an instance may answer to every name (a mock, a handle of a remote object).
"""

import dataclasses
import itertools
import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AnySet
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from eventlog.interruption import is_interruption, of_value

MAX_ARRAY = 1024  # an array with more elements becomes a note of its type and shape
_MAX_ITEMS = 100_000  # of a mapping or a sequence of another library
_EXACT_MAX = 1 << 53  # floats represent whole numbers up to this one
_NO_LISTS = (str, bytes, bytearray, memoryview, range)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_name = vars(type)["__name__"].__get__


class Unreadable:
    """Stands for an item that raised when it was read; its text is the error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __repr__(self) -> str:
        return f"<{class_name(self._error)}: {self._error}>"


def class_name(value: Any) -> str:
    """The name of a value's class, also if the metaclass has another `__name__`."""
    name: str = _name(type(value))
    return name


def are_of(kinds: frozenset[type], values: Iterable[Any]) -> bool:
    """Whether the type of each value is one of these; False where its metaclass refuses a hash."""
    try:
        return kinds.issuperset(map(type, values))
    except Exception as error:
        if is_interruption(error):
            raise
        return False


def is_a(value: Any, kinds: Any) -> bool:
    """`isinstance`; False for a value whose `__class__` raises, such as a dead weak reference."""
    try:
        return isinstance(value, kinds)
    except Exception as error:
        if is_interruption(error):
            raise
        return False


def number(value: Any) -> Any:
    """The number in a value of another library: a scalar, a tensor or an array of one element.

    Decimal, Fraction and `numpy.longdouble` become floats, or int where that is exact and a float
    is not. `value` itself if it holds no number.

    Raises:
        Exception: whatever reading the value raises.
    """
    kind: Any = type(value)
    if issubclass(kind, float):
        return of_value(float, value)
    if issubclass(kind, int):
        return of_value(int, value)
    if _has_item(kind):
        return _element(value, kind)
    if _is_scalar(kind):
        return of_value(value.item) if value.ndim == 0 else value
    if _is_array(kind):
        is_one = math.prod(value.shape) == 1 and not _is_distributed(value, kind)
        element = _array(value, kind) if is_one else value
        return number(element) if type(element) is not kind else value
    return _real(value) if isinstance(value, numbers.Number) else value


def simplified(value: Any) -> Any:
    """`value` in types nearer to JSON's: a number, dict or list; `value` itself if it is neither.

    Raises:
        Exception: whatever reading the value raises.
    """
    kind = type(value)
    if _is_array(kind):
        return _array(value, kind)
    if _is_scalar(kind):
        return of_value(value.item) if value.ndim == 0 else value
    if is_a(value, numbers.Number):
        return _real(value)
    values = mapping(value)
    if values is not None:
        return values
    if getattr(kind, "__pydantic_root_model__", False) is True:
        return value.root
    if is_a(value, Sequence) and not is_a(value, _NO_LISTS):
        size = of_value(len, value)
        _check_size(size)
        return _items(value, range(size), value.__getitem__)
    if is_a(value, AnySet):
        # The order of texts in a set differs from process to process.
        elements: list[Any] = of_value(list, value)
        return sorted(elements) if all(type(e) is str for e in elements) else elements
    return value


def mapping(value: Any) -> dict[Any, Any] | None:
    """The items of a mapping, or the fields of a namespace or a config; None for all others.

    An item that raises when it is read is `Unreadable`.

    Raises:
        Exception: whatever reading the names of the items raises.
    """
    kind = type(value)
    if kind is dict:
        return dict(value)
    if issubclass(kind, type) or _is_array(kind):
        return None
    is_convertible = hasattr(kind, "to_dict") and not hasattr(kind, "shape")  # not a data frame
    if is_a(value, Mapping) or (
        is_convertible and hasattr(kind, "keys") and hasattr(kind, "__getitem__")
    ):
        end = None if is_a(value, dict) else _MAX_ITEMS + 1
        keys: list[Any] = of_value(list, of_value(itertools.islice, value, end))
        if end is not None:
            _check_size(len(keys))
        return dict(zip(keys, _items(value, keys, value.__getitem__), strict=True))
    names = _field_names(value, kind)
    if names is not None:
        return dict(zip(names, _items(value, names, lambda n: getattr(value, n)), strict=True))
    if hasattr(kind, "flags_by_module_dict"):  # absl
        modules = of_value(value.flags_by_module_dict).items()
        flags = [f for name, defined in modules if name.split(".")[0] != "absl" for f in defined]
        return {flag.name: flag.value for flag in flags}
    if is_convertible and hasattr(kind, "from_dict"):  # a config of transformers
        fields = of_value(value.to_dict)
        return fields if type(fields) is dict else None
    return None


def _field_names(value: Any, kind: Any) -> list[str] | None:
    """The fields of a dataclass, named tuple or namespace, a class of attrs, pydantic, msgspec."""
    if hasattr(kind, "__pydantic_fields_set__") or hasattr(kind, "__fields_set__"):
        if getattr(kind, "__pydantic_root_model__", False) is True:
            return None
        fields = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "__fields__", {})
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return [n for n in [*vars(value), *extra] if not _is_excluded(fields.get(n))]
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return list(kind._fields)  # a named tuple
    if hasattr(kind, "__dataclass_fields__"):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    if isinstance(getattr(kind, "__struct_fields__", None), tuple):  # msgspec
        return list(kind.__struct_fields__)
    namespace = getattr(sys.modules.get("argparse"), "Namespace", SimpleNamespace)
    return list(vars(value)) if issubclass(kind, (SimpleNamespace, namespace)) else None


def _is_excluded(field: Any) -> bool:
    """Whether a field of pydantic is left out when its model is serialized."""
    return getattr(getattr(field, "field_info", field), "exclude", None) is True


def _items(value: Any, names: Iterable[Any], read: Callable[[Any], Any]) -> list[Any]:
    items = []
    for name in names:
        try:
            items.append(of_value(read, name))
        except Exception as error:
            if is_interruption(error):
                raise
            items.append(_as_written(value, name, error))
    return items


def _as_written(value: Any, name: Any, error: Exception) -> Any:
    """What an OmegaConf config says where it has no value: `???`, or a reference to nothing."""
    if type(error).__module__ == "omegaconf.errors":
        omegaconf: Any = sys.modules["omegaconf"]
        return omegaconf.OmegaConf.to_container(value, resolve=False)[name]
    return Unreadable(error)


def without_addresses(text: str, value: Any) -> str:
    """The text of `value` without memory addresses, which differ between equal runs."""
    is_exact = is_a(value, (bytes, bytearray, BaseException))
    return text if is_exact else _ADDRESS.sub("", text)


# ---- numbers


def _element(value: Any, kind: Any) -> Any:
    """The only element of a tensor or an array; `value` itself if it has none or several."""
    if value.ndim and math.prod(value.shape) != 1:
        return value
    element = of_value(value.item)
    if type(element) is float:
        return element
    if type(element) is int:
        return _array(value, kind) if _is_of_times(value) else element
    return _real(element) if type(element) is kind else element


def _is_scalar(kind: Any) -> bool:
    """Whether a type is that of a number which is no array."""
    return hasattr(kind, "item") and hasattr(kind, "ndim") and not hasattr(kind, "shape")


@lru_cache(maxsize=256)
def _has_item(kind: Any) -> bool:
    """Whether `item` of an array's type is its only element, and reading it is local."""
    is_other = hasattr(kind, "filled") or hasattr(kind, "full_tensor")  # masked or distributed
    return _is_array(kind) and hasattr(kind, "item") and hasattr(kind, "ndim") and not is_other


def _array(value: Any, kind: Any) -> Any:
    if _is_distributed(value, kind):
        return f"<{class_name(value)} of shape {tuple(value.shape)}, not gathered from all ranks>"
    if hasattr(kind, "full_tensor"):
        return simplified(of_value(value.to_local))
    if not hasattr(kind, "tolist"):
        return simplified(of_value(value.numpy)) if hasattr(kind, "numpy") else value
    size = math.prod(value.shape)
    if size > MAX_ARRAY:
        return f"<{class_name(value)} of shape {tuple(value.shape)}>"
    if _is_of_times(value):  # the integers of `tolist` have no unit
        value = of_value(value.astype, str)
    elements = of_value(value.tolist)
    while size == 1 and type(elements) is list:
        (elements,) = elements
    return _real(elements) if type(elements) is kind else elements


def _is_array(kind: Any) -> bool:
    """Whether a type is one of tensors, arrays or their scalars. A config may have a `shape`."""
    return hasattr(kind, "shape") and any(hasattr(kind, n) for n in ("item", "tolist", "numpy"))


def _is_of_times(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) == "M"


def _check_size(size: int) -> None:
    if size > _MAX_ITEMS:
        raise ValueError(f"more than {_MAX_ITEMS:,} items")


def _is_distributed(value: Any, kind: Any) -> bool:
    """Whether reading a tensor would wait for other ranks, which may not be logging."""
    if not hasattr(kind, "full_tensor"):
        return False
    return not all(of_value(placement.is_replicate) for placement in value.placements)


def _real(value: Any) -> Any:
    """A real number as a float, or as an int if only that is exact; as text beyond all floats."""
    if is_a(value, (int, float)) or not (hasattr(type(value), "__float__")):
        return value
    if is_a(value, numbers.Complex) and not is_a(value, numbers.Real):
        return value
    try:
        real = of_value(float, value)
    except OverflowError:  # a Fraction
        return of_value(int, value) if value == of_value(int, value) else of_value(str, value)
    except ValueError:  # a signaling NaN of Decimal
        return math.nan
    if math.isinf(real) and value != real:
        return of_value(str, value)
    if abs(real) >= _EXACT_MAX and math.isfinite(real) and real != value:
        is_whole_exactly = abs(real) < 1 << 64 or _has_all_digits(value)
        if is_whole_exactly and value == (whole := of_value(int, value)):
            return whole
    return real


def _has_all_digits(value: Any) -> bool:
    """Whether this is a Fraction, or a Decimal that is written without an exponent."""
    exponent = of_value(value.as_tuple).exponent if hasattr(value, "as_tuple") else None
    return exponent == 0 or is_a(value, numbers.Rational)
