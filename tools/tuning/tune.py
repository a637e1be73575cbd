"""`runs tune`: hyperparameter search.

The command: its settings, its display while the tuner (tuner.py) runs, and its results.
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
from ..core.series import direction
from ..core.table import cell, print, print_json, print_table, printable
from . import slots, space
from . import template as templates
from .metric import Metric
from .template import Template, program, trainer
from .tuner import Limits, Tuner

if TYPE_CHECKING:
    from .study import Result, Study

ROWS_LIVE = 20
_MASK = "***"  # stands for a credential in a journal
PICTURE = "study.png"
COLUMNS = {"trial": "trial", "state": "state", "value": "value", "iter": "iter", "time_s": "time"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "Search for the best parameters; the same command continues an unfinished study."
    command = commands.add_parser(
        "tune",
        help=summary,
        description=summary,
        epilog=f"{space.__doc__}\n{templates.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="folder and name of the study")
    command.add_argument(
        "--param", action="append", default=[], metavar="NAME=RANGE", help="see below"
    )
    command.add_argument("--space", type=Path, metavar="FILE", help="parameters in a TOML file")
    command.add_argument(
        "--command", metavar="TEMPLATE", help="see below; default: this project's trainer"
    )
    command.add_argument(
        "--args", metavar="ARGS", help='arguments of every trial: --args="--preset=small"'
    )
    command.add_argument(
        "--trials",
        type=whole("--trials", 1),
        metavar="N",
        help="number of trials (20; a whole grid)",
    )
    command.add_argument(
        "--jobs", type=whole("--jobs", 1), default=1, metavar="N", help="trials at the same time"
    )
    command.add_argument(
        "--gpus", metavar="0,1,..", help="GPUs to divide among trials; default: all"
    )
    _add_search(command)
    _add_limits(command)
    command.add_argument("--json", action="store_true", help="one JSON object per line and trial")
    command.set_defaults(run=_tune)


def _add_search(command: argparse.ArgumentParser) -> None:
    """The flags of the metric and of how parameters are chosen."""
    command.add_argument(
        "--metric",
        metavar="NAME",
        help="a field of evals or any series (val/acc): its last value; best_NAME or NAME:best: "
        "its best one (best_val_loss); -NAME: more is better, +NAME: less is; default: by its name",
    )
    command.add_argument(
        "--maximize",
        action="store_true",
        default=None,
        help="maximize the metric: as --metric=-NAME",
    )
    command.add_argument(
        "--sampler", choices=("tpe", "random", "grid"),
        help="tpe learns from earlier trials (default); random; grid: every combination",
    )  # fmt: skip
    command.add_argument(
        "--pruner", choices=("median", "hyperband", "none"),
        help="ends bad trials early: median, if worse than half of the others (default)",
    )  # fmt: skip
    command.add_argument("--seed", type=whole("--seed"), metavar="N", help="seed of the sampler")


def _add_limits(command: argparse.ArgumentParser) -> None:
    """The flags of what ends a trial or the study."""
    command.add_argument(
        "--timeout",
        type=number("--timeout", is_more=True),
        metavar="S",
        help="stop after S seconds; it can be continued",
    )
    command.add_argument(
        "--silence", type=number("--silence", is_more=True), default=600.0, metavar="S",
        help="a trial without an event for S seconds has failed (600)",
    )  # fmt: skip
    command.add_argument(
        "--grace", type=number("--grace"), default=30.0, metavar="S",
        help="seconds from SIGTERM to SIGKILL when a trial is ended (30)",
    )  # fmt: skip
    command.add_argument(
        "--failures",
        type=whole("--failures", 1),
        default=3,
        metavar="N",
        help="failed trials in a row that stop the study (3)",
    )


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
    slots_ = slots.divide(arguments.jobs, gpus)
    limits = Limits(arguments.silence, arguments.grace, arguments.timeout, arguments.failures)
    with studies.Study(arguments.folder, plan, arguments.jobs) as study:
        tuner = Tuner(study, template, slots_, limits)
        with _stopped_by_signals(tuner), _watched(tuner):
            tuner.run()
        return _conclude(tuner, as_json=arguments.json)


def _refuse_a_folder_of_runs(folder: Path) -> None:
    """Check that the folder of a new study has no runs: names would then match its trials instead.

    Raises:
        Refusal: it has runs.
    """
    found = runs.find([folder]) if folder.is_dir() else []
    if found:
        raise Refusal(
            f"{folder}: has {len(found):,} runs ({found[0].name}); a study needs a folder "
            f"without runs. Use: runs tune {folder / 'study'}"
        )


# ---- the settings


def _plan(arguments: argparse.Namespace, before: dict[str, Any] | None) -> Any:
    """The settings from the flags, else those that the study had before.

    Raises:
        Refusal: they are invalid.
    """
    from .study import Plan

    known = before or {}
    chosen_space = _space(arguments, known)
    _check_credentials(arguments, known)

    def setting(flag: Any, name: str, default: Any) -> Any:
        return known.get(name, default) if flag is None else flag

    sampler = setting(arguments.sampler, "sampler", "tpe")
    n_points = sum(1 for _ in chosen_space.grid()) if sampler == "grid" else 20
    plan = Plan(
        space=chosen_space,
        metric=_metric(arguments, known),
        command=arguments.command or known.get("command") or trainer(),
        arguments=_split(arguments.args, known.get("arguments")),
        sampler=sampler,
        pruner=setting(arguments.pruner, "pruner", "median"),
        n_trials=setting(arguments.trials, "n_trials", n_points),
        seed=setting(arguments.seed, "seed", 0),
    )
    if plan.n_trials < 1:
        raise Refusal(f"--trials: must be a whole number >= 1, got {plan.n_trials}")
    return plan


def _metric(arguments: argparse.Namespace, known: dict[str, Any]) -> Metric:
    """The metric from the flags, else the one that the study had before; minimized by default."""
    name, goal = direction(arguments.metric or known.get("metric", "best_val_loss"))
    maximize = arguments.maximize or (goal and goal == "maximize")
    if maximize is None and name == known.get("metric"):
        maximize = known.get("maximize")
    if maximize is None:
        field = Metric(name).field
        maximize = eventlog.Series(field, "metrics", field).goal == "maximize"
    return Metric(name, bool(maximize))


def _space(arguments: argparse.Namespace, known: dict[str, Any]) -> space.Space:
    """The space from the flags, else the one that the study had before."""
    if arguments.param or arguments.space is not None:
        chosen = space.read(arguments.space, arguments.param)
    else:
        chosen = space.Space(
            (name, space.parameter(name, text, f"{arguments.folder}: {name}"))
            for name, text in (known.get("space") or {}).items()
        )
    if not chosen:
        raise Refusal('no parameters: give --param "learning_rate=log 1e-4..1e-2" or --space FILE')
    return chosen


def _check_credentials(arguments: argparse.Namespace, known: dict[str, Any]) -> None:
    """Refuse to continue with a command whose credentials were masked in the journal."""
    for flag, name in (("command", "command"), ("args", "arguments")):
        if getattr(arguments, flag) is None and _MASK in str(known.get(name)):
            raise Refusal(
                f"--{flag}: give it again: the study in {arguments.folder} keeps no credentials. "
                f"Better: leave them in environment variables, which trials inherit"
            )


@contextmanager
def _stopped_by_signals(tuner: Tuner) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the study; a second one ends the process at once."""

    def stop(number: int, _: FrameType | None) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        print("stopping: trials save their state", file=sys.stderr, flush=True)
        tuner.stop(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the display


@contextmanager
def _watched(tuner: Tuner) -> Iterator[None]:
    """A live table of the study on stderr, if that is a terminal."""
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
    """The running trials, and the best of the others."""
    from rich import box
    from rich.table import Table

    study = tuner.study
    results = list(study.results.values())
    n_done = sum(result.state != "running" for result in results)
    best = study.best
    best_text = "" if best is None else f", best {cell(best.value)} of trial {best.number}"
    table = Table(
        box=box.SIMPLE_HEAD, title_justify="left",
        title=f"{printable(study.name)}: {n_done} of {study.n_trials} trials{best_text}",
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
    """Complete trials, the best first, then pruned ones, then the others."""
    order = ("complete", "pruned", "running", "failed")
    sign = -1.0 if study.plan.metric.maximize else 1.0
    return sorted(
        results,
        key=lambda r: (order.index(r.state), sign * (r.value or 0.0), r.number),
    )


def _conclude(tuner: Tuner, *, as_json: bool) -> int:
    """Print the results and return the exit code."""
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
        print(f"to continue: runs tune {shlex.quote(str(study.folder))}", file=sys.stderr)
    if best is not None:
        print(
            f"best: trial {best.number}, {study.plan.metric.name} {cell(best.value)}, {best.run}",
            file=sys.stderr,
        )


def _draw(study: "Study", path: Path) -> bool:
    """Draw the study; whether that was possible."""
    try:
        from ..plot import figure
        from . import study_figure
    except ImportError as error:
        print(f"no figure: this needs {error.name}: pip install matplotlib", file=sys.stderr)
        return False
    encoded = figure.encode(study_figure.draw(study), "png")
    eventlog.atomic_write(path, lambda file: file.write(encoded))
    return True


def _split(text: str | None, before: list[str] | None) -> tuple[str, ...]:
    try:
        return tuple((before or ()) if text is None else shlex.split(text))
    except ValueError as error:
        raise Refusal(f"--args {text!r}: {error}") from None
