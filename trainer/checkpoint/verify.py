"""Which checkpoint of a run to resume from: the newest one that is intact and belongs to it."""

from dataclasses import dataclass, field
from pathlib import Path

from trainer.checkpoint import journal, read
from trainer.checkpoint.journal import History, LostTail
from trainer.checkpoint.layout import State
from trainer.checkpoint.read import Foreign
from trainer.checkpoint.run_files import RunFiles, run_id_of, stem_of
from trainer.storage.files import sha256_of

REQUIRED = frozenset(("model_args", "iter_num", "config", "dataset", "tokenizer"))
"""Keys that every checkpoint has, besides its tensors."""


@dataclass
class Verified:
    """A checkpoint to resume from."""

    path: Path
    warnings: list[str] = field(default_factory=list)
    """Which checkpoints were skipped, and why; which records the journal has lost."""
    lost: LostTail | None = None


def newest_intact(run: RunFiles) -> Verified:
    """The newest checkpoint of a run that is intact and agrees with the run's journal.

    Raises:
        ValueError: there is none; says what is wrong with each.
        Foreign: a checkpoint or the journal belongs to another run or program.
    """
    warnings: list[str] = []
    for path in run.checkpoints:
        try:
            lost = verify(run, path, read.load_without_shards(path))
        except Foreign:
            raise
        except ValueError as error:
            warnings.append(f"checkpoint skipped: {error}")
        else:
            if lost is not None:
                warnings.append(
                    f"{run.journal} has {lost.found:,} of the {lost.records:,} records that "
                    f"session {lost.session} had when {path} was saved; see: "
                    f"eventlog verify {run.journal}"
                )
            return Verified(path, warnings, lost)
    if warnings:
        raise ValueError("; ".join(warnings))
    raise ValueError(f"{run.folder}: no checkpoint found")


def verify(run: RunFiles, path: Path, state: State) -> LostTail | None:
    """Check a checkpoint against its run and its journal; the records that the journal has lost.

    A checkpoint says how many records its session had. The next `checkpoint` event of that session
    is its own, unless the process died before that event was logged.

    Raises:
        ValueError: it is damaged.
        Foreign: it, or the journal, belongs to another run or program.
    """
    check_owner(run, path, state)
    position, history = state.get("journal"), None
    if position and run.journal is not None:
        session, n_records = position["session"], position["records"]
        history = journal.history_before(run.journal, session, n_records)
        check_journal(run.journal, history, path, state)
    sha256 = read.check_manifest(path) if path.is_dir() else None
    if history is None:
        return None
    if history.sha256 is not None:
        sha256 = sha256 or sha256_of(path)
        if sha256 != history.sha256:
            raise ValueError(
                f"{path}: damaged: expected the SHA-256 {history.sha256[:12]}... logged at "
                f"iteration {state['iter_num']} in {run.journal}, found {sha256[:12]}..."
            )
    is_complete = history.n_records == n_records
    return None if is_complete else LostTail(session, n_records, history.n_records)


def check_owner(run: RunFiles, path: Path, state: State) -> None:
    """Check that a checkpoint belongs to the run whose files it is among.

    Raises:
        Foreign: the checkpoint belongs to another run than the files that it is among.
    """
    if missing := sorted(REQUIRED - state.keys()):
        raise Foreign(f"{path}: not a checkpoint of this trainer: it has no {missing[0]!r}")
    stem = stem_of(state)
    # Without a stem the checkpoint was asked for by its path, or does not name its run.
    if run.stem and stem is not None and stem != run.stem:
        raise Foreign(
            f"{path}: this checkpoint belongs to the run {stem}, not to {run.stem}: {way_out(path)}"
        )


def check_journal(journal: Path, history: History, path: Path, state: State) -> None:
    """Check that a journal belongs to the same run as a checkpoint.

    Raises:
        Foreign: the file is not a journal, or the journal of another run than the checkpoint's.
    """
    run_id = run_id_of(state)
    if run_id is not None and history.run_id not in (None, run_id):
        raise Foreign(
            f"{path}: this checkpoint belongs to the run with id {run_id}, but {journal} to that "
            f"with id {history.run_id}: {way_out(path)}"
        )
    if not history.sessions and journal.stat().st_size:
        raise Foreign(f"{journal}: not a journal: move it away to resume from {path}")
    session = state["journal"]["session"]
    if run_id is None and history.sessions and session not in history.sessions:
        raise Foreign(
            f"{journal}: it has no session {session}, which saved {path}: it belongs to another "
            "run; move it away to resume"
        )


def way_out(path: Path) -> str:
    return f"move it away, or resume from it in another folder: --resume_from={path}"
