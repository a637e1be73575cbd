"""A run in a source: its files, and once they are read, the events to log."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = tuple[str, dict[str, Any]]
"""Kind and fields, as `Session.log` takes them."""


@dataclass
class Source:
    """The files of one run, before they are read."""

    files: list[Path]
    name: str
    place: Path
    """What the files of the same run have in common: a folder, or the file itself."""
    is_detected: bool = True
    """Whether the files look like the format that they are read as."""


@dataclass
class SourceRun:
    """One run of a source: the events to log, and what of the source is not among them."""

    name: str
    files: list[Path]
    key: str = ""
    """What the same run is known by when it has grown; default: the path of its first file."""
    events: list[Event] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    started: str | None = None
    ended: str | None = None
    status: str = "completed"
    reason: str | None = "the source does not say how it ended"
    renamed: dict[str, str] = field(default_factory=dict)
    """The metrics that have another name in the run."""
    left_out: list[str] = field(default_factory=list)
    """What was not imported and why, a sentence each."""
    unreadable: list[str] = field(default_factory=list)
    """The same, of what may have been data of the run."""


@dataclass(frozen=True)
class LossNames:
    """What a source calls the losses; None: by the usual names."""

    loss: str | None = None
    val_loss: str | None = None


USUAL = LossNames()
