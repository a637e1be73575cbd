"""`sys.exit` replaced by a function that raises an exception with an instance, until Python 3.12.

The built-in one passes its argument to the interpreter without making an instance of SystemExit.
`sys.exit` itself is replaced when this module is imported: in `sys.exit(main())` it is looked up
before `main` begins a run. A program may have it under other names (`from sys import exit as die`),
so that it is replaced wherever the garbage collector finds it once a run begins. What stays: names
in functions that are running, in slots, and in iterators such as `map`.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any, NoReturn

from eventlog.interruption import ignoring


def replace_exit(modified: Callable[[Any], Any]) -> None:
    """Replace it; `modified` tells the interpreter that a class has other attributes."""
    old = _built_in_exit()
    for holder in _holders(old):
        with ignoring(Exception):  # of an unusual class
            if issubclass(type(holder), type):
                modified(holder)
            else:
                _replace(holder, old, exit)


def _built_in_exit() -> Any:
    if _BUILT_IN is not None:
        return _BUILT_IN
    return next(  # a program's own `sys.exit` may call the built-in one
        f
        for f in gc.get_referrers(sys)
        if type(f) is BuiltinFunctionType and f.__self__ is sys and f.__name__ == "exit"
    )


def _holders(value: Any) -> Iterator[Any]:
    """The objects that refer to `value`, then the classes and functions that these belong to."""
    direct = gc.get_referrers(value)
    if gc.get_freeze_count():  # `gc.freeze` hides objects from the collector
        direct += [
            vars(module) for module in list(sys.modules.values()) if type(module) is ModuleType
        ]
    yield from direct
    parts = [one for one in direct if type(one) is tuple or _is_of_class(one)]
    if parts:
        for owner in gc.get_referrers(*parts):
            if issubclass(type(owner), type | FunctionType | partial):
                yield owner


def _is_of_class(holder: Any) -> bool:
    return type(holder) is dict and "__module__" in holder


def _replace(holder: Any, old: Any, new: Any) -> None:
    """Replace a value in whatever refers to it."""
    kind = type(holder)
    if issubclass(kind, CellType):
        holder.cell_contents = new
    elif issubclass(kind, list):
        for index in [index for index, value in enumerate(list(holder)) if value is old]:
            list.__setitem__(holder, index, new)
    elif issubclass(kind, staticmethod):
        staticmethod.__init__(holder, new)
    elif issubclass(kind, FunctionType):
        if holder.__defaults__:
            holder.__defaults__ = tuple(new if v is old else v for v in holder.__defaults__)
    elif issubclass(kind, partial):
        call, args, *more = holder.__reduce__()[2]
        args = tuple(new if value is old else value for value in args)
        holder.__setstate__((new if call is old else call, args, *more))
    else:
        is_dict = issubclass(kind, dict)
        values = holder if is_dict else object.__getattribute__(holder, "__dict__")
        for name in [name for name, value in list(dict.items(values)) if value is old]:
            dict.__setitem__(values, name, new)


class _Exit:
    """Exit the interpreter by raising SystemExit(status).

    Not a function: one becomes a method as an attribute of a class, which `sys.exit` does not.
    """

    __module__, __name__, __qualname__ = "sys", "exit", "exit"

    def __call__(self, status: Any = None, /) -> NoReturn:
        raise _as_exit(status)

    def __reduce__(self) -> str:
        return "exit"  # pickled by its name


exit = _Exit()


def _as_exit(status: Any) -> SystemExit:
    """The exception that the interpreter makes from the argument of `sys.exit`."""
    if status is None:
        return SystemExit()
    if issubclass(type(status), SystemExit):
        return status  # type: ignore[no-any-return]
    if type(status) is tuple:
        error: Any = SystemExit(*status)
        error.code = status  # what the interpreter prints if nothing catches the exception
        return error  # type: ignore[no-any-return]
    return SystemExit(status)


_BUILT_IN: Any = sys.exit if type(sys.exit) is BuiltinFunctionType else None
if _BUILT_IN is not None and sys.version_info < (3, 12):
    sys.exit = exit
