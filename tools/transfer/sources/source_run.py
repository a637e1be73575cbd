"""A run as a source has it, and what its metrics are called there."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = tuple[str, dict[str, Any]]
"""Kind and fields, as `Session.log` takes them."""


@dataclass
class SourceRun:
    """One run of a source: the events to log, and what of the source is not among them."""

    name: str
    files: list[Path]
    events: list[Event] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    started: str | None = None
    ended: str | None = None
    status: str = "completed"
    reason: str | None = "the source does not say how it ended"
    left_out: list[str] = field(default_factory=list)
    """What was not imported and why, a sentence each."""


@dataclass(frozen=True)
class LossNames:
    """What a source calls the losses; None: by the usual names."""

    loss: str | None = None
    val_loss: str | None = None


USUAL = LossNames()
