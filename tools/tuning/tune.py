"""`runs tune`: look for the parameters with which training goes best.

The command: what it was told, what it shows while the tuner (tuner.py) works, and what it
concludes.
"""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import eventlog

from ..core import runs
from ..core.formats import age
from ..core.library import need
from ..core.options import number, whole
from ..core.runs import Refusal
from ..core.table import cell, print_json, print_table
from ..core.text import print, printable
from . import slots, space
from . import template as templates
from .metric import Metric
from .template import Template, program, trainer
from .tuner import Limits, Tuner

if TYPE_CHECKING:
    from .study import Result, Study

ROWS_LIVE = 20
_MASK = "***"  # in place of a credential that a journal was given
PICTURE = "study.png"
COLUMNS = {"trial": "trial", "state": "state", "value": "value", "iter": "iter", "time_s": "time"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Look for the best parameters; the same command goes on with a study that was left."
    command = commands.add_parser(
        "tune",
        help=summary,
        description=summary,
        epilog=f"{space.__doc__}\n{templates.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="of the study; names it")
    command.add_argument(
        "--param", action="append", default=[], metavar="NAME=RANGE", help="see below"
    )
    command.add_argument("--space", type=Path, metavar="FILE", help="TOML with a line for each")
    command.add_argument(
        "--command", metavar="TEMPLATE", help="see below; default: this project's trainer"
    )
    command.add_argument("--args", metavar="WORDS", help='for every trial: --args="--preset=small"')
    command.add_argument(
        "--trials", type=whole("--trials", 1), metavar="N", help="in all (20; a whole grid)"
    )
    command.add_argument(
        "--jobs", type=whole("--jobs", 1), default=1, metavar="N", help="trials side by side"
    )
    command.add_argument("--gpus", metavar="0,1,..", help="to divide among them; default: all")
    command.add_argument(
        "--metric", metavar="FIELD", help="best_val_loss: an eval's field, best_: its best"
    )
    command.add_argument(
        "--maximize", action="store_true", default=None, help="the metric is to be large, not small"
    )
    command.add_argument(
        "--sampler", choices=("tpe", "random", "grid"),
        help="tpe learns from the trials before (default); random; grid: every combination",
    )  # fmt: skip
    command.add_argument(
        "--pruner", choices=("median", "hyperband", "none"),
        help="who ends bad trials early: median, if worse than half of the others (default)",
    )  # fmt: skip
    command.add_argument("--seed", type=whole("--seed"), metavar="N", help="of the sampler")
    command.add_argument(
        "--timeout",
        type=number("--timeout", is_more=True),
        metavar="S",
        help="stop then; to be continued",
    )
    command.add_argument(
        "--silence", type=number("--silence", is_more=True), default=600.0, metavar="S",
        help="a trial without a new event for so long has failed (600)",
    )  # fmt: skip
    command.add_argument(
        "--grace", type=number("--grace"), default=30.0, metavar="S",
        help="from SIGTERM to SIGKILL for a trial that is to end (30)",
    )  # fmt: skip
    command.add_argument(
        "--failures",
        type=whole("--failures", 1),
        default=3,
        metavar="N",
        help="in a row that stop the study (3)",
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line, a trial each")
    command.set_defaults(run=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    need("psutil")
    need("optuna")
    from . import study as studies

    before = studies.config_of(arguments.folder)
    if before is None:
        _refuse_a_folder_of_runs(arguments.folder)
    plan = _plan(arguments, before)
    if before is not None:
        studies.check_same(arguments.folder, before, plan)
    template = Template(plan.command, plan.space, plan.arguments)
    program(shlex.split(plan.command)[0])
    gpus = None if arguments.gpus is None else tuple(arguments.gpus.split(","))
    places = slots.divide(arguments.jobs, gpus)
    limits = Limits(arguments.silence, arguments.grace, arguments.timeout, arguments.failures)
    with studies.Study(arguments.folder, plan, arguments.jobs) as study:
        tuner = Tuner(study, template, places, limits)
        with _told_to_stop(tuner), _watched(tuner):
            tuner.run()
        return _conclude(tuner, as_json=arguments.json)


def _refuse_a_folder_of_runs(folder: Path) -> None:
    """A study's folder means its trials: runs that are there already would be hard to find.

    Raises:
        Refusal: there are some.
    """
    there = runs.find([folder]) if folder.is_dir() else []
    if there:
        raise Refusal(
            f"{folder}: has {len(there):,} runs of its own ({there[0].name}); a study needs a "
            f"folder of its own. Use: runs tune {folder / 'study'}"
        )


# ---- what it was told


def _plan(arguments: argparse.Namespace, before: dict[str, Any] | None) -> Any:
    """What the flags say, and where they say nothing what the study was told before.

    Raises:
        Refusal: it is not right.
    """
    from .study import Plan

    known = before or {}
    if arguments.param or arguments.space is not None:
        wanted = space.read(arguments.space, arguments.param)
    else:
        wanted = space.Space(
            (name, space.parameter(name, words, f"{arguments.folder}: {name}"))
            for name, words in (known.get("space") or {}).items()
        )
    if not wanted:
        raise Refusal('nothing to choose from: --param "learning_rate=log 1e-4..1e-2" does it')

    def told(flag: Any, name: str, default: Any) -> Any:
        return known.get(name, default) if flag is None else flag

    for flag, name in (("command", "command"), ("args", "arguments")):
        if getattr(arguments, flag) is None and _MASK in str(known.get(name)):
            raise Refusal(
                f"--{flag}: give it again: the study in {arguments.folder} keeps no credentials. "
                f"Better: leave them in environment variables, which trials inherit"
            )

    sampler = told(arguments.sampler, "sampler", "tpe")
    n_points = sum(1 for _ in wanted.grid()) if sampler == "grid" else 20
    plan = Plan(
        space=wanted,
        metric=Metric(
            told(arguments.metric, "metric", "best_val_loss"),
            told(arguments.maximize, "maximize", False),
        ),
        command=arguments.command or known.get("command") or trainer(),
        arguments=_words(arguments.args, known.get("arguments")),
        sampler=sampler,
        pruner=told(arguments.pruner, "pruner", "median"),
        n_trials=told(arguments.trials, "n_trials", n_points),
        seed=told(arguments.seed, "seed", 0),
    )
    if plan.n_trials < 1:
        raise Refusal(f"--trials {plan.n_trials}: at least one")
    return plan


@contextmanager
def _told_to_stop(tuner: Tuner) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the study in order; the second of them at once."""

    def stop(number: int, _: FrameType | None) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        print("stopping: trials save where they are", file=sys.stderr, flush=True)
        tuner.stop(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- what it shows


@contextmanager
def _watched(tuner: Tuner) -> Iterator[None]:
    """A table of the study on stderr that moves, if a terminal looks."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with ExitStack() as stack:
        if console.is_terminal:
            live = Live(
                console=console, get_renderable=lambda: _table(tuner), refresh_per_second=2,
                transient=True, redirect_stdout=False,
            )  # fmt: skip
            stack.enter_context(live)
        yield


def _table(tuner: Tuner) -> Any:
    """The trials that run, and the best of the others."""
    from rich import box
    from rich.table import Table

    study = tuner.study
    results = list(study.results.values())
    n_done = sum(result.state != "running" for result in results)
    best = study.best
    told = "" if best is None else f", best {cell(best.value)} of trial {best.number}"
    table = Table(
        box=box.SIMPLE_HEAD, title_justify="left",
        title=f"{printable(study.name)}: {n_done} of {study.n_trials} trials{told}",
    )  # fmt: skip
    for name in ("trial", "state", study.plan.metric.name, "iter", "s", *study.plan.space):
        table.add_column(name, justify="left" if name == "state" else "right")
    live = {trial.number: trial for trial in tuner.running}
    shown = [result for result in results if result.number in live]
    shown += _ranked(study, [result for result in results if result.number not in live])
    for result in shown[: max(ROWS_LIVE, len(live))]:
        trial = live.get(result.number)
        value = result.value
        if trial is not None:
            value = study.plan.metric.of(list(trial.values.values()))
        table.add_row(
            str(result.number),
            f"● {trial.ending or 'running'}" if trial else result.state,
            cell(value),
            cell(trial.iter if trial else result.iter),
            f"{time.monotonic() - trial.began if trial else result.time_s:.0f}",
            *(cell(result.params[name]) for name in study.plan.space),
            style="bold" if result is best else "dim" if trial is None else "",
        )
    return table


def _ranked(study: "Study", results: list["Result"]) -> list["Result"]:
    """Complete trials from the best on, then pruned ones, then the others."""
    order = ("complete", "pruned", "running", "failed")
    sign = -1.0 if study.plan.metric.maximize else 1.0
    return sorted(
        results,
        key=lambda r: (order.index(r.state), sign * (r.value or 0.0), r.number),
    )


def _conclude(tuner: Tuner, *, as_json: bool) -> int:
    """Print what came of it; the exit code."""
    study = tuner.study
    ranked = _ranked(study, list(study.results.values()))
    best = study.best
    rows = [result.as_row() for result in ranked]
    if as_json:
        print_json(row | {"best": best is not None and row["trial"] == best.number} for row in rows)
    elif rows:
        names = {f"param {name}": name for name in study.plan.space}
        shown = [
            row
            | {"time_s": age(row["time_s"])}
            | {f"param {name}": value for name, value in row["params"].items()}
            for row in rows
        ]
        columns = COLUMNS | {"value": study.plan.metric.name} | names
        columns |= {"reason": "why"} if any(row["reason"] for row in rows) else {}
        print_table(shown, columns)
    _say_end(tuner, best)
    if best is not None:
        line = shlex.join(tuner.command_of(best.params, study.folder / "best", "best"))
        print(line, file=sys.stderr if as_json else sys.stdout)
        if _draw(study, study.folder / PICTURE):
            print(study.folder / PICTURE, file=sys.stderr)
    if tuner.stopped_by in ("SIGINT", "SIGTERM"):
        return 128 + signal.Signals[tuner.stopped_by]
    return 1 if best is None or tuner.has_failed else 0


def _say_end(tuner: Tuner, best: "Result | None") -> None:
    study = tuner.study
    results = study.results.values()
    counts = [
        f"{n} {state}"
        for state in ("complete", "pruned", "failed", "unfinished")
        if (n := sum(result.as_row()["state"] == state for result in results))
    ]
    end = f", ended early: {tuner.stopped_by}" if tuner.stopped_by else ""
    print(f"{study.folder}: {', '.join(counts) or 'no trials'}{end}", file=sys.stderr)
    failed = [result for result in results if result.state == "failed"]
    if failed and (best is None or tuner.stopped_by):
        last = failed[-1]
        output = study.folder_of(last.number) / "output.log"
        print(f"trial {last.number} failed: {last.reason}; see {output}", file=sys.stderr)
    if tuner.stopped_by:
        print(f"to go on: runs tune {shlex.quote(str(study.folder))}", file=sys.stderr)
    if best is not None:
        print(
            f"best: trial {best.number}, {study.plan.metric.name} {cell(best.value)}, {best.run}",
            file=sys.stderr,
        )


def _draw(study: "Study", path: Path) -> bool:
    """A picture of the study; whether it could be made."""
    try:
        from ..plot import figure
        from . import study_figure
    except ImportError as error:
        print(f"no picture: that needs {error.name}: pip install matplotlib", file=sys.stderr)
        return False
    encoded = figure.encode(study_figure.draw(study), "png")
    eventlog.atomic_write(path, lambda file: file.write(encoded))
    return True


def _words(said: str | None, before: list[str] | None) -> tuple[str, ...]:
    try:
        return tuple((before or ()) if said is None else shlex.split(said))
    except ValueError as error:
        raise Refusal(f"--args {said!r}: {error}") from None
