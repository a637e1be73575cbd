"""Import libraries that only some commands need, or say how to install them."""

import importlib
from typing import Any

from .runs import Refusal


def need(name: str, package: str | None = None) -> Any:
    """Import the module `name` of the PyPI package `package` (default: the same name).

    Raises:
        Refusal: it is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = package or name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(
            name.partition(".")[0]
        ):
            raise Refusal(f"this needs {package}: pip install {package}") from None
        raise Refusal(f"{package} is installed but does not import ({error})") from None
