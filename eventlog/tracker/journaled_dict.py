"""The `config` and `summary` of a run: dicts whose changes are logged."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from eventlog.tracker.values import pairs_as_dict


class JournaledDict(MutableMapping[str, Any]):
    """A dict whose values are attributes, too; `log` is called with what is set."""

    def __init__(self, values: dict[str, Any], log: Callable[[dict[str, Any]], None]) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_log", log)

    def update(self, *args: Any, allow_val_change: bool = True, **named: Any) -> None:
        """As `dict.update`, logged as one event; also takes a namespace or a dataclass.

        A second argument may be `allow_val_change`, as in W&B.
        """
        parts = [pairs_as_dict(part) for part in args if type(part) is not bool]
        values = {k: v for part in parts for k, v in part.items()} | named
        if values:
            self._values.update(values)
            self._log(values)

    def setdefaults(self, values: Any) -> None:
        """Set those that are not set yet."""
        self.update({k: v for k, v in pairs_as_dict(values).items() if k not in self._values})

    def as_dict(self) -> dict[str, Any]:
        return dict(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._log({name: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"has no value named {name!r}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __repr__(self) -> str:
        return repr(self._values)

    def __copy__(self) -> dict[str, Any]:
        """A copy is a plain dict: what is set in it is not logged."""
        return dict(self._values)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(self._values, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as an OrderedDict, which `torch.load(weights_only=True)` accepts."""
        return OrderedDict, (), None, None, iter(self._values.items())
