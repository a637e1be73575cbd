"""What is served, and to whom."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ..live.folders import Folders

FILTERS_AT_ONCE = 2


@dataclass
class Site:
    """The folders of a server, who may read them, and what the server is busy with."""

    folders: Folders
    hosts: frozenset[str]
    """Host names that a request may be for; IP addresses always may be."""
    token: str | None = None
    cookie: str = "runs"
    is_ending: Callable[[], bool] = field(default=lambda: False)
    n_listeners: int = field(default=0, init=False)
    filtering: threading.Semaphore = field(
        default_factory=partial(threading.Semaphore, FILTERS_AT_ONCE)
    )
