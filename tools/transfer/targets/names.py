"""Names of series in a target that keeps some names for itself."""

from collections.abc import Collection


def unreserved(name: str, reserved: Collection[str]) -> str:
    """`name`, with one `_` more at its end if it is reserved, or reserved but for such ends.

    So no two series get the same name, and `original` has the name again.
    """
    return f"{name}_" if name.rstrip("_") in _bare(reserved) else name


def original(name: str, reserved: Collection[str]) -> str:
    """The name of the series that `unreserved` named so."""
    return name[:-1] if name.rstrip("_") in _bare(reserved) else name


def _bare(reserved: Collection[str]) -> set[str]:
    return {name.rstrip("_") for name in reserved}
