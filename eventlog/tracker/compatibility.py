"""Names that scripts written for W&B use and that a journal has no use for.

    table = eventlog.Table(columns=["text", "loss"])  # the text `Table with columns text, loss`
    eventlog.watch(model)                             # does nothing

A script is moved by changing its import line, and such a name must not end it. Each is reported
once on stderr; media become texts if they are logged.
"""

import secrets
import string
from typing import Any

from eventlog.write.messages import say_once

MEDIA = frozenset((
    "Audio", "Graph", "Histogram", "Html", "Image", "Molecule", "Object3D", "Plotly", "Table",
    "Video",
))  # fmt: skip
UNSUPPORTED = frozenset((
    "AlertLevel", "Api", "Artifact", "Settings", "agent", "controller", "define_metric",
    "link_artifact", "link_model", "log_artifact", "log_code", "log_model", "login",
    "mark_preempting", "plot", "plot_table", "require", "restore", "save", "sdk", "setup", "sweep",
    "teardown", "termerror", "termlog", "termwarn", "unwatch", "use_artifact", "use_model", "watch",
))  # fmt: skip

PLOTS = ("bar", "confusion_matrix", "histogram", "line", "line_series", "pr_curve", "roc_curve",
         "scatter")  # fmt: skip


class Placeholder(str):
    """The text for a thing that is not logged. It can be called, and has any attribute."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> "Placeholder":
        return Placeholder(" ".join([str(self), *_described(args, kwargs)]))

    def __getattr__(self, name: str) -> "Placeholder":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self) -> "Placeholder":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Util:
    """`wandb.util`: the one function that scripts use, for an id to resume by."""

    @staticmethod
    def generate_id(length: int = 8) -> str:
        return "".join(
            secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length)
        )


def attribute(name: str, owner: str = "eventlog") -> Any:
    """The placeholder for a name of W&B.

    Raises:
        AttributeError: W&B has no such name: it is a mistake.
    """
    if name == "util":
        return Util
    if name in MEDIA:
        say_once(f"{name}: logged as text; a journal holds numbers and text only")
    elif name in UNSUPPORTED:
        say_once(f"{name}: not supported, does nothing")
    else:
        raise AttributeError(f"{owner} has no attribute {name!r}")
    return Placeholder(name)


def add_plots_of_wandb(plot: Any) -> None:
    """Give `eventlog.plot` the functions of `wandb.plot`: a script that calls them goes on."""
    for name in PLOTS:
        setattr(plot, name, lambda *args, **kwargs: attribute("plot"))


def _described(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """What the arguments say about the thing, in a few words."""
    first: Any = args[0] if args else kwargs.get("data_or_path", kwargs.get("sequence"))
    try:
        parts = []
        if hasattr(first, "shape"):
            parts.append(f"of shape {tuple(first.shape)}")
        elif isinstance(first, str):
            parts.append(first[:100])
        if kwargs.get("columns"):
            parts.append(f"with columns {', '.join(map(str, kwargs['columns']))}"[:200])
        if kwargs.get("caption"):
            parts.append(f"({str(kwargs['caption'])[:200]})")
        return parts
    except Exception:  # the class of an argument raises
        return []
