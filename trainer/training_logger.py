"""The log of a run: written to `eventlog`, and to Weights & Biases if asked for.

Only rank 0 writes it (`is_main`; `setup` opens it there only): on the other ranks every method does
nothing, except for `log_rank`, which writes the journal of each rank (--log_ranks).

    from training_logger import compare_runs
    compare_runs(["out/run_20231031_162345.json", "out/run_20231031_171523.json"])
"""

import contextlib
import importlib.util
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
    "load_run",
]


ALIVE_EVERY_S = 2.0  # 100 bytes each: 4 MB per day and rank


class TrainingLogger:
    """Logs the events of a run. Each is in the journal when its call returns.

    Only the constructor and `open` raise; the other methods never interrupt the training.

    Args:
        is_main: whether this is rank 0, which writes the log.
        rank: this rank, if every rank keeps its own journal (see `open_rank`); else None.
        save_log_to_json: False: keep no journal and no run JSON.
        log_iterations: False: leave `log_iter` out of the journal, for very long runs.
        log_save_interval: iterations between two updates of the run JSON.
        wandb_log: also log to Weights & Biases, online or offline by W&B's own settings.
        wandb_required: False: continue without W&B if it cannot be started.

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
        """Open the log for this session.

        Args:
            from_iter: of a resumed run, the next iteration: the iterations logged before from
                this one on are superseded.
            checkpoint: of a resumed run, the file of its weights.
            journal: name of the journal in the folder to append to. Without a name, or if the
                file is missing, a new journal is created.

        Raises:
            ValueError: another process is writing that journal, or Weights & Biases is required
                and cannot be started.
            OSError: the folder cannot be written.
        """
        path = self.out_dir / journal if journal else None
        if self._keeps_journal and path is not None and not path.exists():
            print(f"{path} is missing: a new journal is created", file=sys.stderr)
            path = None
        if self._keeps_wandb and not (path is not None and is_locked(path)):
            # Before the journal: if W&B fails, no empty run is left behind.
            self._start_wandb({**config, **metadata}, self._run_name or expected_name(path))
        if self._keeps_journal:
            self._open_session(
                path, config=config, metadata=metadata, from_iter=from_iter, checkpoint=checkpoint
            )
            self._rename_wandb()

    def _open_session(self, journal: Path | None, **fields: Any) -> None:
        """Open a session of `journal`, or a new journal."""
        self._run_id = None if journal else secrets.token_hex(16)
        try:
            self._session = open_run(
                self.out_dir,
                run_name=self._run_name,
                run_id=self._run_id,
                journal=journal,
                save_interval=self._log_save_interval,
                **fields,
            )
        except EventlogError as error:
            self._finish_wandb(1)
            raise ValueError(str(error)) from None
        if journal is not None:
            self._run_id = run_id_in(journal)

    def open_rank(
        self, journal: Path, session: str, *, world_size: int, from_iter: int | None
    ) -> None:
        """Open this rank's own journal, beside the run's. If that fails, training continues."""
        if self._rank is None:
            return
        metadata = {"rank": self._rank, "world_size": world_size, "session": session}
        try:
            self._rank_log = RankLog(journal, self._rank, metadata, from_iter)
        except (EventlogError, OSError) as error:
            print(f"rank {self._rank}: journal not opened: {error}", file=sys.stderr, flush=True)

    @property
    def run_path(self) -> Path | None:
        """The run JSON; None if none is kept."""
        return self._session.run_path if self._session else None

    @property
    def journal_path(self) -> Path | None:
        """The journal; None if none is kept."""
        return self._session.journal_path if self._session else None

    @property
    def run_id(self) -> str | None:
        """The run's id in the journal; None if none is kept."""
        return self._run_id

    @property
    def lost_events(self) -> int:
        """How many events were logged but could not be written."""
        return 0 if self._session is None else self._session.errors

    @property
    def position(self) -> dict[str, Any] | None:
        """Journal, session and number of records, for a checkpoint; None if none is kept."""
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
        """This rank's step: its `time_ms`, and `own_ms` of it before it waited for other ranks."""
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
        """A checkpoint at `path`. Call it after the file is complete and durable."""
        if self._session is not None:
            self._session.log_checkpoint(iter, path, val_loss, **more)

    def log(self, event: str, **fields: Any) -> None:
        """Any other kind of event."""
        if self._session is not None:
            self._session.log(event, **fields)

    def close(self, status: str = "completed", reason: str | None = None) -> None:
        """Close the log as `completed`, `interrupted` or `failed`, and write the run JSON."""
        if self._rank_log is not None:
            self._rank_log.close(status, reason)
        if self._session is not None:
            self._session.close(status, reason)
        self._finish_wandb(0 if status == "completed" else 1)

    def _start_wandb(self, config: dict[str, Any], name: str) -> None:
        import wandb

        try:
            self._wandb = wandb.init(project=self._wandb_project, name=name, config=config)
        except Exception as error:  # no network, an expired login, ...
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            if self._wandb_required:
                raise ValueError(
                    f"W&B cannot be started ({reason}): try again, set WANDB_MODE=offline, or "
                    "give --wandb_log=False"
                ) from None
            self._give_up_wandb(error)

    def _rename_wandb(self) -> None:
        """Give an unnamed run the name of its files in W&B as well."""
        if self._wandb is not None and self._session is not None and self._run_name is None:
            try:
                if getattr(self._wandb, "name", None) != self._session.run_name:
                    self._wandb.name = self._session.run_name
            except Exception as error:  # as in _log_to_wandb
                self._give_up_wandb(error)

    def _finish_wandb(self, exit_code: int) -> None:
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
        except Exception as error:  # no failure of W&B may stop the training
            self._give_up_wandb(error)

    def _give_up_wandb(self, error: Exception) -> None:
        print(f"W&B failed and is not used from here on: {error!r}", file=sys.stderr)
        self._wandb = None


class RankLog:
    """The journal of one rank: its steps, and an `alive` event every `ALIVE_EVERY_S`.

    When a rank dies the others wait for it and log no steps: the last `alive` events show which
    rank it was.
    """

    def __init__(
        self, journal: Path, rank: int, metadata: dict[str, Any], from_iter: int | None
    ) -> None:
        self.session = open_run(journal=journal, rank=rank, metadata=metadata, from_iter=from_iter)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._log_alive, name="alive", daemon=True)
        self._thread.start()

    def close(self, status: str, reason: str | None) -> None:
        self._end.set()
        self._thread.join()
        self.session.close(status, reason)

    def _log_alive(self) -> None:
        while not self._end.wait(ALIVE_EVERY_S):
            self.session.log("alive")


def close_as_completed(journal: Path) -> None:
    """Set the status of a run that has all its iterations to completed.

    A process that was killed after its last iteration has not done so.
    """
    with contextlib.suppress(EventlogError, OSError, ValueError):  # the run is complete anyway
        run = load_run(journal)
        if run.status not in ("completed", "running"):
            logger = TrainingLogger(journal.parent)
            logger.open(config=run.config, metadata=run.metadata, journal=journal.name)
            logger.close("completed")


def run_id_in(journal: Path) -> str | None:
    """The id of a journal's run; None if no `open` event has one."""
    return first_open_fields(journal).get("run_id")


def expected_name(journal: Path | None) -> str:
    """The name of the run in `journal`; of a new run the name that `open_run` will choose."""
    name = first_open_fields(journal).get("run_name") if journal is not None else None
    return str(name) if name else f"run_{datetime.now():%Y%m%d_%H%M%S}"


def first_open_fields(journal: Path) -> dict[str, Any]:
    """The fields of the first `open` event of a run; empty if there is none."""
    for record in scan(journal):
        if record.event == "open" and isinstance(record.fields.get("run_id"), str):
            return record.fields
    return {}
