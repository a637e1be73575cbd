"""Where a run begins: from nothing, from a checkpoint, or in a journal that was interrupted."""

import dataclasses
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import checkpoint, resume
from trainer.checkpoint.checkpoint import State
from trainer.checkpoint.resume import LostTail
from trainer.checkpoint.run_files import JOURNAL_SUFFIX, RunFiles, files_of
from trainer.config import TrainConfig
from trainer.distributed.ranks import Ranks
from trainer.training_logger import journal_of_launch, shown
from trainer.wandb_login import why_not_ready


class NothingLeft(Exception):
    """The run to go on with has all the iterations that were asked for: it stays as it is."""

    def __init__(self, message: str, journal: Path | None) -> None:
        super().__init__(message)
        self.journal = journal


@dataclass
class Beginning:
    """Where a run begins: a checkpoint, an interrupted journal without one, or from nothing."""

    path: Path | None = None
    state: State | None = None
    journal: str | None = None
    stem: str = ""
    """What its files are called; empty: they are new, or the checkpoint does not say."""
    newest_ns: int | None = None
    """When its newest checkpoint was written."""
    lost: LostTail | None = None
    """What its journal does not have any more."""
    last_iter: int = -1
    """The last iteration that it has made."""

    @property
    def goes_on(self) -> bool:
        return self.state is not None or self.journal is not None


def find_beginning(config: TrainConfig, ranks: Ranks) -> Beginning:
    """What to go on from. Collective.

    A process that torchrun started again goes on with what its launch has done so far, whatever
    `init_from` says: that was meant for the first one.

    Raises:
        ValueError: there is nothing to go on from, nothing that is whole, or several runs.
    """
    begin, remarks = ranks.on_main(lambda: look_for_beginning(config))
    if ranks.is_main:
        for remark in remarks:
            print(remark, file=sys.stderr, flush=True)
    if begin.path is not None:
        begin.state = checkpoint.load_rest(begin.path)
    return begin


def look_for_beginning(config: TrainConfig) -> tuple[Beginning, list[str]]:
    """The same on rank 0, without the state; and remarks for a person."""
    out_dir = Path(config.out_dir)
    init_from = "resume" if config.resume_from is not None else config.init_from
    launched = journal_of_launch(out_dir, this_launch())
    files: RunFiles | None
    if launched is not None:
        files = files_of(out_dir, launched.removesuffix(JOURNAL_SUFFIX))
    elif init_from == "scratch":
        return Beginning(), []
    else:
        files = resume.choose(
            out_dir,
            init_from=init_from,
            name=config.wandb_run_name,
            resume_from=config.resume_from,
        )
    if files is None or not files.checkpoints:
        stem = files.stem if files else ""
        return Beginning(journal=launched, stem=stem), []
    found = resume.newest(files)
    begin = Beginning(
        path=found.path,
        journal=files.journal.name if files.journal else None,
        stem=files.stem,
        newest_ns=files.written_ns,
        lost=found.lost,
        last_iter=resume.last_iteration(files, checkpoint.load_rest(found.path)),
    )
    return begin, found.remarks


def settled(config: TrainConfig, begin: Beginning, ranks: Ranks) -> TrainConfig:
    """The flags, with those that the checkpoint has settled. Collective.

    Raises:
        ValueError: one was given with another value, or --max_iters is below what the run has.
        NothingLeft: the run has all the iterations that are asked for.
    """
    path, state, asked = begin.path, begin.state, config.asked
    if path is None or state is None:
        return config
    values = ranks.on_main(lambda: resume.settled(path, state, config.as_dict(), asked))
    config = dataclasses.replace(config, **values)
    if config.eval_only or config.max_iters > begin.last_iter:
        return config
    its = f"{shown(path)}: the run has made iteration {begin.last_iter}"
    more = f"nothing was changed; to train on, give more than --max_iters={begin.last_iter}"
    if config.max_iters == begin.last_iter:
        journal = Path(config.out_dir) / begin.journal if begin.journal else None
        raise NothingLeft(f"{its}, its last one: nothing is left to do; {more}", journal)

    def refuse() -> None:
        raise ValueError(f"{its}, and --max_iters={config.max_iters} is below that: {more}")

    ranks.on_main(refuse)
    return config


def is_for_wandb(config: TrainConfig) -> bool:
    """Whether to log to W&B: if that is asked for, and to be had or required.

    Raises:
        ValueError: it is required and not to be had; says what to do.
    """
    reason = why_not_ready() if config.wandb_log else ""
    if reason and config.wandb_required:
        raise ValueError(f"{reason}; or train without it: --wandb_log=False")
    if reason:
        print(f"training without W&B: {reason}", file=sys.stderr, flush=True)
    return config.wandb_log and not reason


def this_launch() -> str | None:
    """What the processes of one torchrun have in common, restarted or not, and no others.

    Its count of restarts does not tell: on the nodes where nothing died it stays 0.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if launch is None:
        return None
    launcher = os.getppid()
    return f"{launch}@{socket.gethostname()}:{launcher}:{started_at(launcher)}"


def started_at(pid: int) -> str:
    """When that process began, in the kernel's ticks: ids are given again. Empty off Linux."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]  # proc(5): field 22, and two are before the ")"
