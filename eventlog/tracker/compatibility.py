"""What scripts written for a hosted tracker also call: taken, said once, kept as text if logged.

    table = eventlog.Table(columns=["text", "loss"])  # the words `Table with columns text, loss`
    eventlog.watch(model)                             # nothing

A script is moved over by its import line, and what has no meaning in a file on this disk
must not end it.
"""

import secrets
import string
from typing import Any

from eventlog.write.messages import say_once

MEDIA = frozenset((
    "Audio", "Graph", "Histogram", "Html", "Image", "Molecule", "Object3D", "Plotly", "Table",
    "Video",
))  # fmt: skip
WITHOUT_MEANING = frozenset((
    "AlertLevel", "Api", "Artifact", "Settings", "agent", "controller", "define_metric",
    "link_artifact", "link_model", "log_artifact", "log_code", "log_model", "login",
    "mark_preempting", "plot", "plot_table", "require", "restore", "save", "sdk", "setup", "sweep",
    "teardown", "termerror", "termlog", "termwarn", "unwatch", "use_artifact", "use_model", "watch",
))  # fmt: skip


class Unkept(str):
    """The words for a thing that is not kept. It may be called, and has any attribute."""

    __slots__ = ()

    def __call__(self, *given: Any, **named: Any) -> "Unkept":
        return Unkept(" ".join([str(self), *_described(given, named)]))

    def __getattr__(self, name: str) -> "Unkept":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self) -> "Unkept":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Util:
    """The one tool of that drawer that scripts use: an id to resume by."""

    @staticmethod
    def generate_id(length: int = 8) -> str:
        return "".join(
            secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length)
        )


def attribute(name: str, owner: str = "eventlog") -> Any:
    """The stand-in called `name`.

    Raises:
        AttributeError: there is none: a name that nobody knows is a mistake.
    """
    if name == "util":
        return Util
    if name in MEDIA:
        say_once(f"{name}: kept as words; a journal holds numbers and text")
    elif name in WITHOUT_MEANING:
        say_once(f"{name}: has no meaning here and does nothing")
    else:
        raise AttributeError(f"{owner} has no attribute {name!r}")
    return Unkept(name)


def _described(given: tuple[Any, ...], named: dict[str, Any]) -> list[str]:
    """What of the arguments says in a few words what the thing was."""
    first: Any = given[0] if given else named.get("data_or_path", named.get("sequence"))
    try:
        said = []
        if hasattr(first, "shape"):
            said.append(f"of shape {tuple(first.shape)}")
        elif isinstance(first, str):
            said.append(first[:100])
        if named.get("columns"):
            said.append(f"with columns {', '.join(map(str, named['columns']))}"[:200])
        if named.get("caption"):
            said.append(f"({str(named['caption'])[:200]})")
        return said
    except Exception:  # somebody else's class: its words are not worth a run
        return []
