"""The run's log: the only bridge from the trainer to `eventlog`, and to Weights & Biases.

Which rank writes is decided here, once: on every rank but 0 each method does nothing, but for the
journal that each rank may have of its own.

    from training_logger import compare_runs
    compare_runs(["out/run_20231031_162345.json", "out/run_20231031_171523.json"])
"""

import contextlib
import importlib.util
import os
import secrets
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from eventlog import (
    MFU_UNKNOWN,
    EventlogError,
    Session,
    compare_runs,
    is_locked,
    load_run,
    open_run,
    scan,
)

__all__ = [
    "MFU_UNKNOWN",
    "TrainingLogger",
    "close_as_completed",
    "compare_runs",
    "journal_of_launch",
    "load_run",
    "shown",
]


ALIVE_EVERY_S = 2.0  # 100 bytes each: 4 MB a day and rank


class TrainingLogger:
    """What happens in a run, written down as it happens. Nothing here stops the training.

    `open` may refuse; after that no method raises. An event is on disk when its call returns.

    Args:
        is_main: whether this is rank 0, the one that writes.
        rank: which one this is, if each is to have a journal of its own: see `open_rank`.
        save_log_to_json: False keeps no journal and no run JSON.
        log_iterations: False leaves `log_iter` out of the journal, for the longest runs.
        log_save_interval: iterations between two updates of the run JSON.
        wandb_log: also log to Weights & Biases, online or offline by W&B's own settings.
        wandb_required: False goes on without it where it cannot be begun.

    Raises:
        ValueError: `wandb_log` is set and wandb is not installed.
    """

    def __init__(
        self,
        out_dir: Path,
        *,
        is_main: bool = True,
        rank: int | None = None,
        save_log_to_json: bool = True,
        log_iterations: bool = True,
        log_save_interval: int = 100,
        wandb_log: bool = False,
        wandb_required: bool = True,
        wandb_project: str = "owt",
        wandb_run_name: str | None = None,
    ) -> None:
        if wandb_log and importlib.util.find_spec("wandb") is None:
            raise ValueError("--wandb_log=True needs wandb: pip install wandb")
        self.out_dir = out_dir
        self._keeps_journal = is_main and save_log_to_json
        self._log_iterations = log_iterations
        self._log_save_interval = log_save_interval
        self._keeps_wandb = is_main and wandb_log
        self._wandb_required = wandb_required
        self._wandb_project = wandb_project
        self._run_name = wandb_run_name
        self._session: Session | None = None
        self._run_id: str | None = None
        self._wandb: Any = None
        self._rank = rank
        self._rank_log: RankLog | None = None

    def open(
        self,
        *,
        config: Mapping[str, Any],
        metadata: Mapping[str, Any],
        from_iter: int | None = None,
        checkpoint: Path | None = None,
        journal: str | None = None,
    ) -> None:
        """Begin the log of this session.

        Args:
            from_iter, checkpoint: of a resumed run, the iteration that comes next and the file
                its weights are from. Later iterations logged earlier leave the run.
            journal: name of the journal in the folder to go on with. Without one, or if it is
                gone, a new journal begins.

        Raises:
            ValueError: another process is writing that journal; says which. Or Weights & Biases
                refuses, and is required.
            OSError: the folder cannot be written.
        """
        path = self.out_dir / journal if journal else None
        if self._keeps_journal and path is not None and not path.exists():
            print(f"{path} is gone: the log goes on in a new one", file=sys.stderr)
            path = None
        if self._keeps_wandb and not (path is not None and is_locked(path)):
            # Before the journal: what refuses here must not leave an empty run there.
            self._begin_wandb({**config, **metadata}, self._run_name or name_to_be(path))
        if self._keeps_journal:
            self._run_id = None if path else secrets.token_hex(16)
            try:
                self._session = open_run(
                    self.out_dir,
                    run_name=self._run_name,
                    run_id=self._run_id,
                    journal=path,
                    config=config,
                    metadata=metadata,
                    from_iter=from_iter,
                    checkpoint=checkpoint,
                    save_interval=self._log_save_interval,
                )
            except EventlogError as refusal:
                self._end_wandb(1)
                raise ValueError(str(refusal)) from None
            if path is not None:
                self._run_id = run_id_in(path)
            self._name_in_wandb()

    def open_rank(
        self, journal: Path, session: str, *, world_size: int, from_iter: int | None
    ) -> None:
        """Begin this rank's own journal, beside the run's; without it the training goes on."""
        if self._rank is None:
            return
        told = {"rank": self._rank, "world_size": world_size, "session": session}
        try:
            self._rank_log = RankLog(journal, self._rank, told, from_iter)
        except (EventlogError, OSError) as error:
            print(f"rank {self._rank} keeps no journal: {error}", file=sys.stderr, flush=True)

    @property
    def run_path(self) -> Path | None:
        """The run JSON, or None where none is kept."""
        return self._session.run_path if self._session else None

    @property
    def journal_path(self) -> Path | None:
        """The journal, or None where none is kept."""
        return self._session.journal_path if self._session else None

    @property
    def run_id(self) -> str | None:
        """The run's identity in the journal, or None where none is kept."""
        return self._run_id

    @property
    def lost_events(self) -> int:
        """Events that the log does not have, though they were logged."""
        return 0 if self._session is None else self._session.errors

    @property
    def position(self) -> dict[str, Any] | None:
        """Where the journal stands, for a checkpoint to remember; None where none is kept."""
        if self._session is None:
            return None
        return {
            "file": self._session.journal_path.name,
            "session": self._session.id,
            "records": self._session.records,
        }

    def log_iter(
        self, iter: int, loss: float, time_ms: float, mfu: float = MFU_UNKNOWN, **more: Any
    ) -> None:
        """One optimizer step: the mean loss, its duration in ms, the MFU in percent."""
        if self._session is not None and self._log_iterations:
            self._session.log_iter(iter, loss, time_ms, mfu, **more)
        self._log_to_wandb(iter, {"train/iter_loss": loss, "time_ms": time_ms, "mfu": mfu, **more})

    def log_rank(self, iter: int, own_ms: float, time_ms: float) -> None:
        """This rank's step: `own_ms` of its `time_ms` before it first waited for another."""
        if self._rank_log is not None:
            self._rank_log.session.log("iter", iter=iter, time_ms=time_ms, own_ms=own_ms)

    def log_eval(
        self, iter: int, train_loss: float, val_loss: float, lr: float | None = None, **more: Any
    ) -> None:
        """An evaluation of both splits, before the step of iteration `iter`."""
        if self._session is not None:
            self._session.log_eval(iter, train_loss, val_loss, lr, **more)
        self._log_to_wandb(iter, {"train/loss": train_loss, "val/loss": val_loss, "lr": lr})

    def log_checkpoint(
        self, iter: int, path: Path, val_loss: float | None = None, **more: Any
    ) -> None:
        """A checkpoint that is complete and durable at `path`: to be called after that."""
        if self._session is not None:
            self._session.log_checkpoint(iter, path, val_loss, **more)

    def log(self, event: str, **fields: Any) -> None:
        """Anything else, by its kind."""
        if self._session is not None:
            self._session.log(event, **fields)

    def close(self, status: str = "completed", reason: str | None = None) -> None:
        """End the log: `completed`, `interrupted` or `failed`. The run JSON is then on disk."""
        if self._rank_log is not None:
            self._rank_log.close(status, reason)
        if self._session is not None:
            self._session.close(status, reason)
        self._end_wandb(0 if status == "completed" else 1)

    def _begin_wandb(self, config: dict[str, Any], name: str) -> None:
        import wandb

        try:
            self._wandb = wandb.init(project=self._wandb_project, name=name, config=config)
        except Exception as error:  # no network, a login that is not valid any more, ...
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            if self._wandb_required:
                raise ValueError(
                    f"W&B cannot be begun ({reason}): try again, set WANDB_MODE=offline, or give "
                    "--wandb_log=False"
                ) from None
            self._give_up_wandb(error)

    def _name_in_wandb(self) -> None:
        """A run without a name of its own is called there as its files are here."""
        if self._wandb is not None and self._session is not None and self._run_name is None:
            try:
                if getattr(self._wandb, "name", None) != self._session.run_name:
                    self._wandb.name = self._session.run_name
            except Exception as error:  # as in _log_to_wandb
                self._give_up_wandb(error)

    def _end_wandb(self, exit_code: int) -> None:
        if self._wandb is not None:
            try:
                self._wandb.finish(exit_code=exit_code)
            except Exception as error:  # as in _log_to_wandb
                self._give_up_wandb(error)

    def _log_to_wandb(self, iter: int, values: dict[str, Any]) -> None:
        if self._wandb is None:
            return
        try:
            self._wandb.log({"iter": iter, **values}, step=iter)
        except Exception as error:  # whatever W&B's trouble is, it is not the training's
            self._give_up_wandb(error)

    def _give_up_wandb(self, error: Exception) -> None:
        print(f"wandb failed and is left out from here on: {error!r}", file=sys.stderr)
        self._wandb = None


class RankLog:
    """A rank's journal: its steps, and now and then that it lives.

    Where a rank dies the others wait for it, with no step to log: the latest sign of life tells
    which one it was.
    """

    def __init__(
        self, journal: Path, rank: int, told: dict[str, Any], from_iter: int | None
    ) -> None:
        self.session = open_run(journal=journal, rank=rank, metadata=told, from_iter=from_iter)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="alive", daemon=True)
        self._thread.start()

    def close(self, status: str, reason: str | None) -> None:
        self._end.set()
        self._thread.join()
        self.session.close(status, reason)

    def _beat(self) -> None:
        while not self._end.wait(ALIVE_EVERY_S):
            self.session.log("alive")


def close_as_completed(journal: Path) -> None:
    """Say in the journal of a run that has all its iterations that it is completed.

    A process that was killed after the last iteration could not say so.
    """
    with contextlib.suppress(EventlogError, OSError, ValueError):  # it is as complete without
        before = load_run(journal)
        if before.status not in ("completed", "running"):
            logger = TrainingLogger(journal.parent)
            logger.open(config=before.config, metadata=before.metadata, journal=journal.name)
            logger.close("completed")


def journal_of_launch(out_dir: Path, launch: str | None) -> str | None:
    """Name of the journal that the processes of one launcher have written in `out_dir`.

    In any of its sessions: the first may be of an earlier launch, which this one went on with.

    Args:
        launch: what their metadata say under that name.
    """
    if not launch:
        return None
    for path in sorted(out_dir.glob("*.jsonl"), key=lambda path: -path.stat().st_mtime_ns):
        # A look at the bytes first: of other launches' journals none is read record by record.
        if holds(path, launch.encode()) and any(
            record.event == "open" and (record.fields.get("metadata") or {}).get("launch") == launch
            for record in scan(path)
        ):
            return path.name
    return None


def run_id_in(journal: Path) -> str | None:
    """The identity of a journal's run; None where no `open` event tells it."""
    return opening_of(journal).get("run_id")


def name_to_be(journal: Path | None) -> str:
    """The name of a run that goes on in `journal`; of a new one what `open_run` will call it."""
    name = opening_of(journal).get("run_name") if journal is not None else None
    return str(name) if name else f"run_{datetime.now():%Y%m%d_%H%M%S}"


def opening_of(journal: Path) -> dict[str, Any]:
    """What the first `open` event says of its run; nothing where there is none."""
    for record in scan(journal):
        if record.event == "open" and isinstance(record.fields.get("run_id"), str):
            return record.fields
    return {}


def holds(path: Path, needle: bytes) -> bool:
    """Whether these bytes are anywhere in a file that can be read."""
    before = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                if needle in before + chunk:
                    return True
                before = chunk[-len(needle) :]
    except OSError:
        pass
    return False


def shown(path: Path) -> str:
    """A path as a person would type it: relative if it is in the working folder."""
    try:
        return os.fspath(path.relative_to(Path.cwd())) if path.is_absolute() else os.fspath(path)
    except (ValueError, OSError):  # elsewhere, or the working folder is gone
        return os.fspath(path)
