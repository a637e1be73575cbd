"""`runs plot`: a plot of one run or of several."""

import argparse
import re
import sys
from pathlib import Path

import eventlog

from ..core import runs
from ..core.options import number, whole
from ..core.table import print, with_progress

KINDS = ("loss", "analysis", "eval", "compare")
FORMS = ("png", "svg", "pdf")
N_PIXELS_MAX = 2**16
"""Of width and height; matplotlib's limit."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Plot runs: loss, evaluations, step times, MFU. Prints the name of the file."
    command = commands.add_parser("plot", help=summary, description=summary)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument(
        "--kind",
        choices=KINDS,
        help="analysis: loss, step times and MFU (default of one run); eval: both losses at "
        "evaluations; compare: training and validation loss (default of several)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    command.add_argument(
        "--x",
        metavar="AXIS",
        help="step (or iter), tokens, time, or the name of a series; by default what the run "
        "defined for a series (step_metric), else step",
    )
    _add_series(command)
    command.add_argument("--log-x", action="store_true")
    command.add_argument("--log-y", action="store_true", help="a log axis for losses")
    command.add_argument(
        "--smooth",
        type=whole("--smooth", at_most=10**9),
        metavar="N",
        help="smooth over N iterations, with the raw line behind; 0: none",
    )
    command.add_argument(
        "--superseded", action="store_true", help="also draw rows that a resumed session superseded"
    )
    command.add_argument("--title", metavar="TEXT")
    command.add_argument("--theme", choices=("light", "dark"), default="light")
    for flag in ("--width", "--height"):
        command.add_argument(flag, type=number(flag, 1, 100), metavar="INCHES")
    command.add_argument("--dpi", type=number("--dpi", 10, 2400), default=150.0)
    command.set_defaults(run=_plot)


def _add_series(command: argparse.ArgumentParser) -> None:
    """The flags for single series."""
    command.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="any series, also 'train/*'; may be repeated",
    )
    command.add_argument(
        "--right",
        action="append",
        default=[],
        metavar="NAME",
        help="a series on an axis of its own on the right side",
    )
    command.add_argument(
        "--group-by",
        metavar="KEYS",
        help="a line a group, the mean of --metric or else of the losses: of runs that differ in "
        "the seed alone, or of those with equal keys: config.lr",
    )
    command.add_argument(
        "--band",
        choices=("std", "range", "none"),
        default="std",
        help="around the mean of a group: standard deviation, min and max, or none",
    )
    for flag, what in (
        ("--xlim", "x: iterations, tokens, seconds, or values of the series that is the axis"),
        ("--ylim", "y: of the losses, or of --metric on the left axis"),
    ):
        command.add_argument(
            flag,
            nargs=2,
            type=_end,
            default=(None, None),
            metavar=("LOW", "HIGH"),
            help=f"range of {what}; auto for an end that is chosen",
        )
    command.add_argument(
        "--all-values",
        action="store_true",
        help="draw outliers too; by default they are cut off, marked and counted",
    )


def _end(text: str) -> float | None:
    """One end of a range; None: it is chosen."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or auto, got {text!r}") from None


def _plot(arguments: argparse.Namespace) -> int:
    form = _form(arguments)
    try:
        from . import figure
    except ImportError as error:
        raise runs.Refusal(
            f"runs plot needs {error.name}: pip install 'runjournal[tools]'"
        ) from None
    loaded, code = _read(arguments.paths)
    picture = figure.draw(
        loaded,
        arguments.kind,
        x=arguments.x,
        smooth_iters=arguments.smooth,
        log_x=arguments.log_x,
        log_y=arguments.log_y,
        superseded=arguments.superseded,
        metrics=arguments.metric,
        right=arguments.right,
        x_range=tuple(arguments.xlim),
        y_range=tuple(arguments.ylim),
        all_values=arguments.all_values,
        group_by=arguments.group_by,
        band=arguments.band,
        title=arguments.title,
        width_in=arguments.width,
        height_in=arguments.height,
        dpi=arguments.dpi,
        theme=arguments.theme,
    )
    for message in picture.messages:
        print(message, file=sys.stderr)
    is_any = arguments.metric or arguments.right or arguments.group_by
    out = arguments.out or _name(loaded, "metrics" if is_any else arguments.kind)
    encoded = figure.encode(picture, form)
    out.parent.mkdir(parents=True, exist_ok=True)
    eventlog.atomic_write(out, lambda file: file.write(encoded))
    print(out)
    return code


def _form(arguments: argparse.Namespace) -> str:
    """The form of the file: png, svg or pdf.

    Raises:
        Refusal: another one, or a picture that is too large.
    """
    form = (arguments.out.suffix if arguments.out else ".png").removeprefix(".").lower()
    if form not in FORMS:
        raise runs.Refusal(f"--out {arguments.out}: must end in .png, .svg or .pdf")
    if max(arguments.width or 0, arguments.height or 0) * arguments.dpi >= N_PIXELS_MAX:
        raise runs.Refusal(
            f"--dpi {arguments.dpi:g}: width and height must be below {N_PIXELS_MAX:,} pixels"
        )
    return form


def _read(names: list[str]) -> tuple[list[eventlog.Run], int]:
    """The runs, and 1 if one of them could not be read: it is named, the others are drawn.

    Raises:
        Refusal: none could be read.
    """
    loaded = [runs.read_at(path) for path in with_progress(runs.find(names), "reading", at_least=1)]
    for broken in (f for f in loaded if f.run is None):
        print(broken.error, file=sys.stderr)
    read = [f.run for f in loaded if f.run is not None]
    if not read:
        raise runs.Refusal(f"{' '.join(names)}: no run to draw")
    return read, 0 if len(read) == len(loaded) else 1


def _name(loaded: list[eventlog.Run], kind: str | None) -> Path:
    """The default file name: of the run and the kind of plot."""
    if len(loaded) > 1:
        return Path(f"{kind or 'compare'}.png")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", loaded[0].run_name).strip("._-") or "run"
    return Path(eventlog.fitting(name, f"_{kind or 'analysis'}.png"))
