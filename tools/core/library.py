"""Import libraries that only some commands need, or say how to install them."""

import importlib
from typing import Any

from .runs import Refusal


class MissingLibrary(Refusal):
    """A library is not installed."""


def need(name: str, package: str | None = None) -> Any:
    """Import the module `name` of the PyPI package `package` (default: the same name).

    Raises:
        MissingLibrary: it is not installed; the message says what to type.
        Refusal: it is installed, but cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = package or name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(
            name.partition(".")[0]
        ):
            raise MissingLibrary(f"this needs {package}: pip install {package}") from None
        raise Refusal(f"{package} is installed but does not import ({error})") from None
