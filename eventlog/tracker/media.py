"""Classes for what a script for W&B logs beside numbers: tables, images, artifacts.

    table = eventlog.Table(columns=["text", "loss"], data=rows)
    # the text `Table of 8 rows with columns text, loss; its rows are not logged`

A journal holds numbers and text: each of these is a text, and is logged as that. Their methods
exist and do nothing, except that a table keeps its rows in memory and an artifact its name.
"""

import os
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any

from eventlog.format.foreign import is_a
from eventlog.format.record import text_of
from eventlog.format.text import counted
from eventlog.interruption import ignoring
from eventlog.tracker.notices import notice_once


class Placeholder(str):
    """The text for a thing that is not logged. It can be called, and has any attribute."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> "Placeholder":
        return Placeholder(" ".join([str(self), *_described(args, kwargs)]))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self) -> "Placeholder":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as text."""
        return str, (str(self),)


class Media(Placeholder):
    """The base class of all that is logged as text."""

    _note = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Media":
        name, note = cls.__name__, cls._note
        notice_once(f"{name}: logged as text{note}; a journal holds numbers and text only")
        return super().__new__(cls, " ".join([name, *cls._described(args, kwargs)]) + note)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    @classmethod
    def _described(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        return _described(args, kwargs)


class Table(Media):
    """`columns` and the rows in `data`, which stay in memory and are not logged."""

    _note = "; its rows are not logged"

    @classmethod
    def _described(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """How many rows it begins with and its columns, in a few words."""
        named = dict(zip(("columns", "data", "rows", "dataframe"), args, strict=False)) | kwargs
        parts: list[str] = []
        with ignoring(Exception):
            frame: Any = named.get("dataframe")
            rows: Any = named.get("data", named.get("rows")) if frame is None else frame
            if hasattr(rows, "__len__") and len(rows):
                parts.append(f"of {counted(len(rows), 'row')}")
            columns = named.get("columns") if frame is None else frame.columns
            if columns is not None and len(columns):
                parts.append(f"with columns {', '.join(map(str, columns))}"[:200])
        return parts

    def __init__(
        self,
        columns: Any = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        **_: Any,
    ) -> None:
        self.columns: list[Any] = []
        self.data: list[list[Any]] = []
        with ignoring(Exception):
            if dataframe is not None:
                columns, data = dataframe.columns, dataframe.values.tolist()
            self.columns = list(columns or [])
            self.data = [list(row) for row in (rows if data is None else data) or []]

    def add_data(self, *row: Any) -> None:
        self.data.append(list(row))

    def add_row(self, *row: Any) -> None:
        self.data.append(list(row))

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        self.columns.append(name)
        with ignoring(Exception):
            for row, value in zip(self.data or [[] for _ in data], data, strict=False):
                row.append(value)

    def get_column(self, name: str, convert_to: str | None = None) -> list[Any]:
        at = self.columns.index(name)
        return [row[at] for row in self.data]

    def get_dataframe(self) -> Any:
        """A pandas frame."""
        return import_module("pandas").DataFrame(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        return enumerate(self.data)


class Artifact(Media):
    """A name and a type. No file is copied: each stays where the program has written it."""

    def __init__(
        self,
        name: Any = "",
        type: Any = "",
        description: str | None = None,
        metadata: Any = None,
        **_: Any,
    ) -> None:
        self.name, self.type = text_of(name), text_of(type)
        self.description, self.metadata = description, {} if metadata is None else metadata
        self.aliases: list[str] = []
        self.tags: list[str] = []

    def wait(self, timeout: Any = None) -> "Artifact":
        return self

    def files(self, *args: Any, **kwargs: Any) -> list[Any]:
        return []

    def download(self, root: Any = None, **_: Any) -> str:
        """The folder where W&B would put the files; nothing is written to it."""
        name = self.name.replace(":", "-")
        return os.path.join("artifacts", name) if root is None else text_of(root)


class AlertLevel(Enum):
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def _media_class(name: str) -> type[Media]:
    return type(name, (Media,), {"__doc__": "Logged as text.", "__module__": __name__})


MEDIA: dict[str, type[Media]] = {"Media": Media, "WBValue": Media, "Table": Table} | {
    name: _media_class(name)
    for name in (
        "Audio", "BatchableMedia", "Bokeh", "BoundingBoxes2D", "Classes", "CustomChart",
        "EvalTable", "Graph", "Histogram", "Html", "Image", "ImageMask", "JoinedTable", "Molecule",
        "Node", "Object3D", "PartitionedTable", "Plotly", "Video", "WBTraceTree",
    )
}  # fmt: skip
"""The classes of `wandb.data_types`, by name."""


def box3d(**corners: Any) -> dict[str, Any]:
    """A box as `wandb.box3d` makes it: a dict of what was passed."""
    return corners


CHARTS = (
    "CustomChart", "Visualize", "bar", "confusion_matrix", "custom_chart", "histogram", "line",
    "line_series", "plot_table", "pr_curve", "roc_curve", "scatter", "visualize",
)  # fmt: skip


def chart(name: str) -> Any:
    """The function `wandb.plot.<name>`; its chart is logged as text."""

    def make(*args: Any, **kwargs: Any) -> Placeholder:
        notice_once("plot: charts are logged as text; `runs plot` and `runs serve` draw metrics")
        title = kwargs.get("title")
        return Placeholder(f"plot.{name}" + ("" if title is None else f" {text_of(title)[:100]}"))

    make.__name__ = name
    return make


def add_charts(plot: Any) -> None:
    """Give `eventlog.plot` the functions of `wandb.plot`: a script that calls them goes on."""
    for name in CHARTS:
        setattr(plot, name, chart(name))


def _described(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """What the arguments say about the thing, in a few words."""
    parts: list[str] = []
    with ignoring(Exception):  # the class of an argument raises
        names = ("data_or_path", "sequence", "name")
        named = [kwargs[name] for name in names if name in kwargs]
        first: Any = next(iter([*args, *named]), None)
        if is_a(first, str):
            parts.append(text_of(first)[:100])
        elif hasattr(first, "shape"):
            parts.append(f"of shape {tuple(first.shape)}")
        if kwargs.get("caption"):
            parts.append(f"({str(kwargs['caption'])[:200]})")
        return parts
    return []
