"""Where a run starts: from scratch, from a checkpoint, or in the journal of its own launch."""

import dataclasses
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import choose, journal, read, resumed_flags, verify
from trainer.checkpoint.journal import JOURNAL_SUFFIX, LostTail
from trainer.checkpoint.layout import State
from trainer.checkpoint.run_files import RunFiles, files_of
from trainer.config import TrainConfig
from trainer.console import display_path
from trainer.distributed.ranks import Ranks
from trainer.wandb_login import why_not_ready


class NothingToDo(Exception):
    """The run to resume already has all the iterations that were asked for."""

    def __init__(self, message: str, journal: Path | None) -> None:
        super().__init__(message)
        self.journal = journal


@dataclass
class Start:
    """Where a run starts. The defaults: from scratch."""

    path: Path | None = None
    """The checkpoint to resume from."""
    state: State | None = None
    """Its content; of a folder all but the tensors."""
    journal: str | None = None
    """The name of the journal to append to."""
    stem: str = ""
    """The name of the run's files; empty: a new name, or the checkpoint does not say."""
    written_ns: int | None = None
    """When the run's newest checkpoint was written."""
    lost: LostTail | None = None
    last_iter: int = -1
    """The last iteration that the run has made."""

    @property
    def is_resumed(self) -> bool:
        return self.state is not None or self.journal is not None


def find_start(config: TrainConfig, ranks: Ranks) -> Start:
    """The checkpoint to resume from, if any. Collective.

    A process that torchrun has restarted resumes the run of its launch, whatever `init_from` is.

    Raises:
        ValueError: there is no intact checkpoint to resume from, or several runs could be meant.
    """
    start, warnings = ranks.on_main(lambda: find_start_on_main(config))
    if ranks.is_main:
        for warning in warnings:
            print(warning, file=sys.stderr, flush=True)
    if start.path is not None:
        start.state = read.load_without_shards(start.path)
    return start


def find_start_on_main(config: TrainConfig) -> tuple[Start, list[str]]:
    """The same on rank 0, without the state; and warnings to print."""
    out_dir = Path(config.out_dir)
    launch_journal = journal.journal_of_launch(out_dir, launch_id())
    files = find_run(config, out_dir, launch_journal)
    if files is None or not files.checkpoints:
        return Start(journal=launch_journal, stem=files.stem if files else ""), []
    checkpoint = verify.newest_intact(files)
    state = read.load_without_shards(checkpoint.path)
    logged_iter = journal.last_iteration(files.journal) if files.journal else -1
    start = Start(
        path=checkpoint.path,
        journal=files.journal.name if files.journal else None,
        stem=files.stem,
        written_ns=files.written_ns,
        lost=checkpoint.lost,
        last_iter=max(int(state["iter_num"]) - 1, logged_iter),
    )
    return start, checkpoint.warnings


def find_run(config: TrainConfig, out_dir: Path, launch_journal: str | None) -> RunFiles | None:
    """The run to resume; None: start a new one."""
    if launch_journal is not None:
        return files_of(out_dir, launch_journal.removesuffix(JOURNAL_SUFFIX))
    init_from = "resume" if config.resume_from is not None else config.init_from
    if init_from == "scratch":
        return None
    return choose.choose(
        out_dir, init_from=init_from, name=config.wandb_run_name, resume_from=config.resume_from
    )


def resolve_flags(config: TrainConfig, start: Start, ranks: Ranks) -> TrainConfig:
    """The flags, with those that the checkpoint decides. Collective.

    Raises:
        ValueError: a flag contradicts the checkpoint, or --max_iters is below what the run has.
        NothingToDo: the run already has all the iterations that were asked for.
    """
    path, state = start.path, start.state
    if path is None or state is None:
        return config
    values = ranks.on_main(
        lambda: resumed_flags.flags_from_checkpoint(
            path, state, start.last_iter, config.as_dict(), config.explicit
        )
    )
    config = dataclasses.replace(config, **values)
    if not config.eval_only and config.max_iters == start.last_iter:
        raise NothingToDo(
            f"{display_path(path)}: the run already has iteration {start.last_iter}, the last one: "
            f"nothing to do; to train further, give --max_iters above {start.last_iter}",
            Path(config.out_dir) / start.journal if start.journal else None,
        )
    return config


def use_wandb(config: TrainConfig) -> bool:
    """Whether to log to W&B: if that was asked for, and it is available or required.

    Raises:
        ValueError: it is required and not available.
    """
    reason = why_not_ready() if config.wandb_log else ""
    if reason and config.wandb_required:
        raise ValueError(f"{reason}; or train without it: --wandb_log=False")
    if reason:
        print(f"training without W&B: {reason}", file=sys.stderr, flush=True)
    return config.wandb_log and not reason


def launch_id() -> str | None:
    """An id that all processes of one torchrun have, across its restarts, and no others have.

    torchrun's count of restarts would not do: it stays 0 on nodes on which nothing died.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if launch is None:
        return None
    launcher = os.getppid()
    return f"{launch}@{socket.gethostname()}:{launcher}:{start_ticks(launcher)}"


def start_ticks(pid: int) -> str:
    """When a process started, in kernel ticks, since process ids are reused; empty off Linux."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]  # proc(5): field 22; two are before the ")"
