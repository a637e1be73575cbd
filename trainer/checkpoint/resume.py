"""Where a run goes on: which run, from which of its checkpoints, and with which flags.

Nothing is guessed: a run that is not the one asked for, or not the only one, is refused, and the
refusal lists what there is.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from eventlog import EventlogError, is_locked, load_run, scan
from trainer.checkpoint import checkpoint
from trainer.checkpoint.checkpoint import Foreign, State
from trainer.checkpoint.run_files import (
    JOURNAL_SUFFIX,
    STEM,
    RunFiles,
    describe,
    only,
    run_id_of,
    runs_in,
    stem_of,
)
from trainer.training_logger import run_id_in

HOW_TO_CHOOSE = (
    "choose one with --resume_from=RUN (as listed) or --wandb_run_name=NAME, "
    "or start another with --init_from=scratch"
)


class LostTail(NamedTuple):
    """Records that a journal had when a checkpoint was saved, and does not have any more."""

    session: str
    records: int
    """How many of that session the checkpoint knew."""
    found: int


@dataclass
class Found:
    """A checkpoint to go on from."""

    path: Path
    remarks: list[str] = field(default_factory=list)
    """For a person: which one was passed over, and why; what the journal lost."""
    lost: LostTail | None = None


# Which run


def choose(
    out_dir: Path, *, init_from: str, name: str | None = None, resume_from: str | None = None
) -> RunFiles | None:
    """The run in `out_dir` to go on with; None: there is none, and `auto` starts a new one.

    Args:
        init_from: `resume`, which insists on one, or `auto`.
        name: the run's, as --wandb_run_name gave it.
        resume_from: the name of its files, or the path of one of them.

    Raises:
        ValueError: there is none; or there are several, and nothing says which; lists them.
    """
    runs = runs_in(out_dir)
    if resume_from is not None:
        return named_by(resume_from, out_dir, runs, name)
    mine = [run for run in runs if name is None or is_named(run, name)]
    if not mine and init_from == "auto":
        return None
    if not mine and name is not None and runs:
        raise ValueError(
            f"{out_dir}: no run there is called {name!r}; there are {listed(runs)}: {HOW_TO_CHOOSE}"
        )
    if not mine:
        raise ValueError(
            f"{out_dir / checkpoint.LATEST}: there is no checkpoint to go on from; "
            "start with --init_from=scratch, or name another --out_dir"
        )
    if init_from == "auto" and len(mine) > 1:
        mine = [run for run in mine if status_of(run) != "completed"] or mine
    if len(mine) == 1:
        refuse_stranger(mine[0])
        return mine[0]
    raise ValueError(
        f"{out_dir}: there are several runs to go on with: {listed(mine)}: {HOW_TO_CHOOSE}"
    )


def named_by(resume_from: str, out_dir: Path, runs: list[RunFiles], name: str | None) -> RunFiles:
    """The run that --resume_from means.

    Raises:
        ValueError: there is no such run, or --wandb_run_name asks for another one.
    """
    path = Path(resume_from)
    stem = path.name.removesuffix(JOURNAL_SUFFIX).removesuffix(".json")
    is_here = path.parent == Path() or path.parent.resolve() == out_dir.resolve()
    chosen = next((run for run in runs if is_here and run.stem == stem), None)
    if chosen is None and path.exists():
        chosen = next((run for run in runs if has_checkpoint(run, path)), None)
        chosen = only(chosen, path) if chosen else only(RunFiles(out_dir, ""), path)
    if chosen is None:
        there = f"; there are {listed(runs)}" if runs else ""
        raise ValueError(
            f"--resume_from={resume_from}: it is no run in {out_dir} and no checkpoint{there}"
        )
    if name is not None and chosen.stem and not is_named(chosen, name):
        raise ValueError(
            f"--resume_from={resume_from} is {chosen.stem}, but --wandb_run_name={name} asks for "
            "another run: give one of the two"
        )
    return chosen


def has_checkpoint(run: RunFiles, path: Path) -> bool:
    return any(os.path.samefile(path, mine) for mine in run.checkpoints)


def is_named(run: RunFiles, name: str) -> bool:
    """Whether `name` is what a run was called, or what its files are called."""
    if name == run.stem:
        return True
    match = STEM.fullmatch(run.stem)
    in_file = name.replace(os.sep, "_").replace("\0", "_")
    if match is None or not in_file or not in_file.startswith(match["name"]):
        return False  # of a long name the file has the beginning
    if in_file == match["name"]:
        return True
    return any(full_name(path) == name for path in run.checkpoints)


def full_name(path: Path) -> str | None:
    """The name of a checkpoint's run."""
    try:
        name = checkpoint.load_rest(path)["config"].get("wandb_run_name")
    except (ValueError, OSError, LookupError, TypeError):
        return None
    return str(name) if name is not None else None


def refuse_stranger(run: RunFiles) -> None:
    """Refuse checkpoints that lie among other runs' journals and not beside their own.

    Raises:
        ValueError: names both.
    """
    if run.journal is not None or not run.stem or run.folder.is_dir():
        return
    others = [path.name for path in sorted(run.out_dir.glob(f"*{JOURNAL_SUFFIX}"))]
    if others:
        raise ValueError(
            f"{run.checkpoints[0]}: it is of the run {run.stem}, whose journal is not there, but "
            f"that of another one ({', '.join(others[:3])}): to go on from it all the same, give "
            f"--resume_from={run.checkpoints[0]}"
        )


def status_of(run: RunFiles) -> str:
    """`running`, `completed`, `interrupted`, ...: as its journal says, or its checkpoint."""
    if run.journal is not None:
        try:
            return "running" if is_locked(run.journal) else load_run(run.journal).status
        except (EventlogError, OSError):
            return "its journal cannot be read"
    for path in run.checkpoints:
        try:
            state = checkpoint.load_rest(path)
            is_over = state["iter_num"] >= state["config"]["max_iters"]
        except (ValueError, OSError, LookupError, TypeError):
            continue
        return "completed" if is_over else "interrupted"
    return "unknown"


def listed(runs: list[RunFiles]) -> str:
    return ", ".join(describe(run, status_of(run)) for run in runs)


def refuse_live(journal: Path) -> None:
    """Refuse to go on with a run that another process is training.

    Raises:
        ValueError: names its journal.
    """
    if is_locked(journal):
        raise ValueError(
            f"{journal}: another process is training this run (see: eventlog status {journal}): "
            "wait for its end, or stop it"
        )


# From which of its checkpoints


def newest(run: RunFiles) -> Found:
    """The newest checkpoint of a run that is whole and is the one its event speaks of.

    Raises:
        ValueError: there is none, or none that is whole; says what is wrong with each.
        Foreign: one is of another run or another program, or the journal is.
    """
    remarks: list[str] = []
    for path in run.checkpoints:
        try:
            state = checkpoint.load_rest(path)
            check_identity(run, path, state)
            lost = check_against_journal(run, path, state)
        except Foreign:
            raise
        except ValueError as error:
            remarks.append(f"passed over: {error}")
        else:
            if lost is not None:
                remarks.append(
                    f"{run.journal} has {lost.found:,} of the {lost.records:,} records that its "
                    f"session {lost.session} had when {path} was saved; see: "
                    f"eventlog verify {run.journal}"
                )
            return Found(path, remarks, lost)
    if remarks:
        raise ValueError("; ".join(remarks))
    raise ValueError(f"{run.folder}: there is no checkpoint to go on from")


def check_identity(run: RunFiles, path: Path, state: State) -> None:
    """Refuse a checkpoint that is not of the run whose files it lies among.

    Raises:
        Foreign: names the run that it is of, and how to go on from it all the same.
    """
    missing = checkpoint.REQUIRED - state.keys()
    if missing:
        raise Foreign(f"{path}: it is not a checkpoint of this trainer: no {sorted(missing)[0]!r}")
    if not run.stem:
        return  # it was asked for by its path, or nothing says whose it is
    way_out = f"move it away, or go on from it in another folder: --resume_from={path}"
    stem = stem_of(state)
    if stem is not None and stem != run.stem:
        raise Foreign(f"{path}: it is of the run {stem}, not of {run.stem}: {way_out}")
    if run.journal is None:
        return
    told, known = run_id_of(state), run_id_in(run.journal)
    if told is not None and known is not None and told != known:
        raise Foreign(
            f"{path}: it is of the run with id {told}, but {run.journal} is of {known}: {way_out}"
        )


def check_against_journal(run: RunFiles, path: Path, state: State) -> LostTail | None:
    """Hold a checkpoint against the journal it was written beside; what that has lost since.

    A checkpoint remembers how many records its session had before it; its event, if the
    process lived to log it, is the first one after that, and holds the SHA-256.

    Raises:
        ValueError: these are not the bytes that the event speaks of.
        Foreign: it is no journal, or of another run.
    """
    sha256 = checkpoint.check_manifest(path) if path.is_dir() else None
    position, journal = state.get("journal"), run.journal
    if not position or journal is None:
        return None
    s, n_before = position["session"], position["records"]
    n_found, sessions = 0, set()
    for record in scan(journal):
        sessions.add(record.s)
        if record.s == s and record.n < n_before:
            n_found += 1
        elif record.s == s and record.event == "checkpoint":
            told = record.fields.get("sha256")
            if told is not None and told != (sha256 or checkpoint.sha256_of(path)):
                raise ValueError(
                    f"{path}: its bytes are not those that were saved at iteration "
                    f"{state['iter_num']} (SHA-256 {told[:12]}... in {journal})"
                )
            break
    if not sessions and journal.stat().st_size:
        raise Foreign(f"{journal}: it is not a journal: move it away to go on from {path}")
    if run_id_of(state) is None and s not in sessions and sessions:
        raise Foreign(
            f"{journal}: it does not know the session {s} that saved {path}: it is the journal of "
            "another run; move it away to go on"
        )
    return None if n_found == n_before else LostTail(s, n_before, n_found)


# How far it is


def last_iteration(run: RunFiles, state: State) -> int:
    """The last iteration that the run has made, as its checkpoint and its journal say; or -1."""
    last = int(state["iter_num"]) - 1
    if run.journal is None:
        return last
    try:
        logged = load_run(run.journal)
    except (EventlogError, OSError):
        return last
    if len(logged.training_iterations):
        return max(last, int(logged.training_iterations[-1]["iter"]))
    # Its iterations were not logged: if it was completed it made them all.
    if logged.status == "completed" and not logged.config.get("eval_only"):
        return max(last, int(logged.config.get("max_iters", last)))
    return last


# With which flags


SHAPE = ("block_size", "n_layer", "n_head", "n_embd", "bias")
OTHERS = ("tokenizer", "optimizer")  # of these the defaults count too


def settled(
    path: Path, state: State, config: Mapping[str, Any], asked: Collection[str]
) -> dict[str, Any]:
    """The flags that a checkpoint has settled: the shape of the weights; and how long the run is to
    be and what it is called, where that was not asked for.

    Args:
        asked: the flags that were given; of those that were not, the checkpoint's value counts.

    Raises:
        ValueError: one was given with another value; names each, asked and found.
    """
    before = {
        **{name: state["model_args"][name] for name in SHAPE},
        "tokenizer": state["dataset"]["tokenizer"],
        "optimizer": state["config"].get("optimizer", "adamw"),
    }
    # Another preset than before asks for a shape of its own, also where that is the default one.
    is_other_preset = config["preset"] != state["config"].get("preset", config["preset"])
    checked = {*asked, *OTHERS, *(SHAPE if "preset" in asked and is_other_preset else ())}
    wrong = [name for name in before if name in checked and config[name] != before[name]]
    if wrong:
        found = ", ".join(
            f"--{name}={config[name]} was asked for, the checkpoint's {name} is {before[name]}"
            for name in wrong
        )
        right = " ".join(f"--{name}={before[name]}" for name in wrong)
        raise ValueError(
            f"{path}: {found}: to go on give {right}, or start with --init_from=scratch"
        )
    for name in ("max_iters", "wandb_run_name"):
        if name not in asked and name in state["config"]:
            before[name] = state["config"][name]
    return before


def check_same_tokenizer(
    checkpoint: State, tokenizer: dict[str, Any], dataset: dict[str, Any]
) -> None:
    """Refuse data whose token ids do not mean what they meant to the weights.

    Raises:
        ValueError: the tokenizer is another one; names both.
    """
    if checkpoint["tokenizer"] != tokenizer:
        before = checkpoint["dataset"]
        raise ValueError(
            f"the checkpoint's tokenizer is {before['tokenizer']} made from {before['name']}, but "
            f"the data's is {dataset['tokenizer']} made from {dataset['name']}: give the same "
            "--input and --tokenizer, or start with --init_from=scratch"
        )


def check_same_vocabulary(state: State, vocab_size: int) -> None:
    """Refuse data with more or fewer token ids than the weights have rows for.

    Raises:
        ValueError: names both.
    """
    before = state["model_args"]["vocab_size"]
    if before != vocab_size:
        raise ValueError(
            f"the checkpoint's vocabulary has {before:,} rows, but the data's {vocab_size:,}: give "
            " the same --input and --tokenizer, or start with --init_from=scratch"
        )


def changes(checkpoint: State, config: dict[str, Any], dataset: dict[str, Any]) -> str:
    """What makes the run that goes on another one: `learning_rate 0.001 -> 0.0005, ...`."""
    before = checkpoint["config"] | {"text": checkpoint["dataset"]["sha256"][:8]}
    now = config | {"text": dataset["sha256"][:8]}
    return ", ".join(
        f"{name} {show(before[name])} -> {show(now[name])}"
        for name in now
        if name not in BYSTANDERS and before.get(name, now[name]) != now[name]  # a newer flag
    )


def show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Flags that do not move a training loss.
BYSTANDERS = {
    "preset", "init_from", "eval_interval", "eval_iters", "eval_only", "always_save_checkpoint",
    "out_dir", "log_interval", "save_log_to_json", "log_save_interval", "log_iterations",
    "wandb_log", "wandb_project", "wandb_run_name", "data_dir", "input", "peak_flops",
    "checkpoint_format", "keep_checkpoints", "async_checkpoint", "nonfinite", "resume_from",
    "wandb_required",
}  # fmt: skip
