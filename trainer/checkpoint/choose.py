"""Which run in a folder to resume.

If the requested run is missing or several runs match, an error lists the runs of the folder.
"""

import os
from dataclasses import replace
from pathlib import Path

from trainer.checkpoint import journal, read
from trainer.checkpoint.journal import JOURNAL_SUFFIX, RUN_JSON_SUFFIX
from trainer.checkpoint.layout import LATEST
from trainer.checkpoint.run_files import STEM, RunFiles, describe, runs_in

HOW_TO_CHOOSE = (
    "choose one with --resume_from=RUN (a name from this list) or --wandb_run_name=NAME, "
    "or start a new run with --init_from=scratch"
)


def choose(
    out_dir: Path, *, init_from: str, name: str | None = None, resume_from: str | None = None
) -> RunFiles | None:
    """The run in `out_dir` to resume; None: there is none, and `auto` starts a new one.

    Args:
        init_from: `resume` (there must be one) or `auto`.
        name: the run's name, from --wandb_run_name.
        resume_from: the name of the run's files, or the path of one of them.

    Raises:
        ValueError: there is no such run, or there are several.
    """
    runs = runs_in(out_dir)
    if resume_from is not None:
        return find_by_file(resume_from, out_dir, runs, name)
    matches = [run for run in runs if name is None or is_named(run, name)]
    if not matches and init_from == "auto":
        return None
    if not matches and name is not None and runs:
        raise ValueError(
            f"{out_dir}: no run named {name!r}; runs in this folder: {listed(runs)}: "
            f"{HOW_TO_CHOOSE}"
        )
    if not matches:
        raise ValueError(
            f"{out_dir / LATEST}: no checkpoint found; start a new run with --init_from=scratch, "
            "or give another --out_dir"
        )
    if init_from == "auto" and len(matches) > 1:
        matches = [run for run in matches if status_of(run) != "completed"] or matches
    if len(matches) == 1:
        check_journal_is_there(matches[0])
        return matches[0]
    raise ValueError(f"{out_dir}: several runs can be resumed: {listed(matches)}: {HOW_TO_CHOOSE}")


def find_by_file(
    resume_from: str, out_dir: Path, runs: list[RunFiles], name: str | None
) -> RunFiles:
    """The run that --resume_from names.

    Raises:
        ValueError: there is no such run, or --wandb_run_name names another one.
    """
    path = Path(resume_from)
    stem = path.name.removesuffix(JOURNAL_SUFFIX).removesuffix(RUN_JSON_SUFFIX)
    is_in_out_dir = path.parent == Path() or path.parent.resolve() == out_dir.resolve()
    run = next((run for run in runs if is_in_out_dir and run.stem == stem), None)
    if run is None and path.exists():
        owner = next((run for run in runs if has_checkpoint(run, path)), None)
        run = replace(owner or RunFiles(out_dir, ""), checkpoints=(path,))
    if run is None:
        others = f"; runs in this folder: {listed(runs)}" if runs else ""
        raise ValueError(
            f"--resume_from={resume_from}: neither a run in {out_dir} nor a checkpoint{others}"
        )
    if name is not None and run.stem and not is_named(run, name):
        raise ValueError(
            f"--resume_from={resume_from} is the run {run.stem}, but --wandb_run_name={name} names "
            "another run: give only one of the two"
        )
    return run


def has_checkpoint(run: RunFiles, path: Path) -> bool:
    return any(os.path.samefile(path, checkpoint) for checkpoint in run.checkpoints)


def is_named(run: RunFiles, name: str) -> bool:
    """Whether `name` is the run's name or the name of its files."""
    if name == run.stem:
        return True
    match = STEM.fullmatch(run.stem)
    name_in_file = name.replace(os.sep, "_").replace("\0", "_")
    if match is None or not name_in_file or not name_in_file.startswith(match["name"]):
        return False
    if name_in_file == match["name"]:
        return True
    # File names contain only the beginning of a long name.
    return any(full_name(path) == name for path in run.checkpoints)


def full_name(path: Path) -> str | None:
    """The name of a checkpoint's run."""
    try:
        name = read.load_without_shards(path)["config"].get("wandb_run_name")
    except (ValueError, OSError, LookupError, TypeError):
        return None
    return str(name) if name is not None else None


def check_journal_is_there(run: RunFiles) -> None:
    """Refuse checkpoints of the old layout that have no journal in a folder with other journals.

    Raises:
        ValueError: names both runs.
    """
    if run.journal is not None or not run.stem or run.folder.is_dir():
        return
    others = [path.name for path in sorted(run.out_dir.glob(f"*{JOURNAL_SUFFIX}"))]
    if others:
        raise ValueError(
            f"{run.checkpoints[0]}: this checkpoint belongs to the run {run.stem}, whose journal "
            f"is missing; this folder has journals of other runs ({', '.join(others[:3])}): "
            f"to resume from it anyway, give --resume_from={run.checkpoints[0]}"
        )


def status_of(run: RunFiles) -> str:
    """`running`, `completed`, `interrupted`, ...: from its journal, or else its checkpoint."""
    if run.journal is not None:
        return journal.status_of(run.journal)
    for path in run.checkpoints:
        try:
            state = read.load_without_shards(path)
            is_complete = state["iter_num"] >= state["config"]["max_iters"]
        except (ValueError, OSError, LookupError, TypeError):
            continue
        return "completed" if is_complete else "interrupted"
    return "unknown"


def listed(runs: list[RunFiles]) -> str:
    return ", ".join(describe(run, status_of(run)) for run in runs)
