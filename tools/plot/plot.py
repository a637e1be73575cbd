"""`runs plot`: a picture of one run, or of many."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import eventlog

from ..core import runs
from ..core.names import AXES
from ..core.text import print

KINDS = ("loss", "analysis", "eval", "compare")
FORMS = ("png", "svg", "pdf")
N_PIXELS_MAX = 2**16
"""Each way; what draws them takes no more."""
_NAME_MAX = 100


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Draw runs: loss, evaluations, step times, MFU. Prints the name of the picture."
    command = commands.add_parser("plot", help=summary, description=summary)
    command.add_argument("paths", nargs="+", metavar="RUN")
    command.add_argument(
        "--kind",
        choices=KINDS,
        help="analysis: loss, step times and MFU (default of one run); eval: training against "
        "validation; compare: training and validation (default of several)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    command.add_argument("--x", choices=AXES, default="iter")
    command.add_argument("--log-x", action="store_true")
    command.add_argument("--log-y", action="store_true", help="of losses")
    command.add_argument(
        "--smooth",
        type=_number(int, 0, 10**9),
        metavar="N",
        help="mean over N iterations, the raw line stays behind it; 0: none",
    )
    command.add_argument(
        "--superseded", action="store_true", help="also what was taken again after a resume"
    )
    command.add_argument("--title", metavar="TEXT")
    command.add_argument("--theme", choices=("light", "dark"), default="light")
    size = _number(float, 1, 100)
    command.add_argument("--width", type=size, metavar="INCHES")
    command.add_argument("--height", type=size, metavar="INCHES")
    command.add_argument("--dpi", type=_number(float, 10, 2400), default=150.0)
    command.set_defaults(run=_plot)


def _plot(arguments: argparse.Namespace) -> int:
    form = (arguments.out.suffix if arguments.out else ".png").removeprefix(".").lower()
    if form not in FORMS:
        raise runs.Refusal(f"--out {arguments.out}: a picture ends in .png, .svg or .pdf")
    if max(arguments.width or 0, arguments.height or 0) * arguments.dpi >= N_PIXELS_MAX:
        raise runs.Refusal(f"--dpi {arguments.dpi:g}: more than {N_PIXELS_MAX:,} pixels one way")
    try:
        from . import figure
    except ImportError as error:
        raise runs.Refusal(
            f"runs plot needs {error.name}: pip install 'runjournal[tools]'"
        ) from None
    found, code = _read(arguments.paths)
    picture = figure.draw(
        found,
        arguments.kind,
        x=arguments.x,
        smooth_iters=arguments.smooth,
        log_x=arguments.log_x,
        log_y=arguments.log_y,
        superseded=arguments.superseded,
        title=arguments.title,
        width_in=arguments.width,
        height_in=arguments.height,
        dpi=arguments.dpi,
        theme=arguments.theme,
    )
    out = arguments.out or _name(found, arguments.kind)
    encoded = figure.encode(picture, form)
    out.parent.mkdir(parents=True, exist_ok=True)
    eventlog.atomic_write(out, lambda file: file.write(encoded))
    print(out)
    return code


def _read(names: list[str]) -> tuple[list[eventlog.Run], int]:
    """The runs, and 1 if one of them could not be read: that is said, the others are drawn.

    Raises:
        Refusal: none could.
    """
    from rich.console import Console
    from rich.progress import track

    words, paths = Console(stderr=True), runs.find(names)
    found = list(
        track(
            runs.load(paths),
            "reading",
            len(paths),
            console=words,
            transient=True,
            disable=not words.is_terminal,
        )
    )
    for broken in (f for f in found if f.run is None):
        print(broken.error, file=sys.stderr)
    read = [f.run for f in found if f.run is not None]
    if not read:
        raise runs.Refusal(f"{' '.join(names)}: no run to draw")
    return read, 0 if len(read) == len(found) else 1


def _name(found: list[eventlog.Run], kind: str | None) -> Path:
    """A picture's name where none was given: of the run and of what is drawn."""
    if len(found) > 1:
        return Path(f"{kind or 'compare'}.png")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", found[0].run_name).strip("._-")[:_NAME_MAX]
    return Path(f"{name or 'run'}_{kind or 'analysis'}.png")


def _number(of: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """A type of argparse: a number from `low` to `high`."""

    def parse(text: str) -> float:
        number = of(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text}: it must be from {low:,} to {high:,}")
        return number

    parse.__name__ = "number"  # in the words of argparse: invalid number value
    return parse
