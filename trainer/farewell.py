"""The last line of a run, in words for whoever started it."""

from trainer.setup import Run
from trainer.training_logger import shown


def where_saved(run: Run) -> str:
    """Where a run that stops now will go on, in words for rank 0."""
    if run.saved_iter == run.iter_num:
        return f"saved before iteration {run.iter_num}"
    return f"could not be saved before iteration {run.iter_num}, last saved: {run.saved_iter}"


def farewell(run: Run, seconds: float) -> str:
    """The last line: how it went, where it is, what to type next."""
    went = f"done in {minutes(seconds)}, best val loss {run.best_val_loss:.4f}"
    sample = f"python trainer/sample.py --out_dir={run.saver.files.out_dir}"
    if run.logger.run_path is None:
        return f"{went}; next: {sample}"
    compare = f"runs compare {run.saver.files.out_dir}/*.json"
    return f"{went}, log in {shown(run.logger.run_path)}; next: {compare}, or {sample}"


def but_incomplete(run: Run) -> str:
    """What the last line says of a log that lost events; empty of one that did not."""
    n_lost, journal = run.logger.lost_events, run.logger.journal_path
    if not n_lost or journal is None:
        return ""
    return (
        f"; but {n_lost:,} events could not be logged, the log is not complete "
        f"(see: eventlog verify {shown(journal)})"
    )


def minutes(seconds: float) -> str:
    """As h:mm:ss, or m:ss below an hour."""
    h, m, s = round(seconds) // 3600, round(seconds) // 60 % 60, round(seconds) % 60
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"
