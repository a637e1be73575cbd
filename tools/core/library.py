"""Libraries that only some commands need: there, or a line that says how to get them."""

import importlib
from typing import Any

from .runs import Refusal


def need(name: str, package: str | None = None) -> Any:
    """The module `name`, of the package that pip knows as `package` (or by the same name).

    Raises:
        Refusal: it is not installed; says what to type.
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
