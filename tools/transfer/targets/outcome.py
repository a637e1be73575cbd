"""The result of exporting a run."""

from dataclasses import dataclass
from typing import Literal

State = Literal["new", "unchanged", "continued", "replaced"]


@dataclass
class Outcome:
    """What an export did, and where."""

    place: str
    """A path, or the target's name of the run."""
    state: State
    n_added: int
    """Rows, points or records, whichever the target has."""
    note: str = ""


def worst(*states: State) -> State:
    """The state that stands for several files."""
    order: tuple[State, ...] = ("unchanged", "continued", "new", "replaced")
    return max(states, key=order.index)
