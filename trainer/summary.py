"""The last console line of a run."""

from eventlog import duration
from trainer.console import display_path
from trainer.run import Run


def completed_line(run: Run, seconds: float) -> str:
    """Duration and best loss of the run, the path of its log, and the next command to run."""
    result = f"done in {duration(seconds)}, best val loss {run.best_val_loss:.4f}"
    sample = f"python trainer/sample.py --out_dir={run.saver.files.out_dir}"
    if run.logger.run_path is None:
        return f"{result}; next: {sample}"
    compare = f"runs compare {run.saver.files.out_dir}/*.json"
    return f"{result}, log in {display_path(run.logger.run_path)}; next: {compare}, or {sample}"


def saved_state(run: Run) -> str:
    """What is saved of a run that stops now. On rank 0."""
    if run.saver.saved_iter == run.iter_num:
        return f"saved before iteration {run.iter_num}"
    return f"could not be saved before iteration {run.iter_num}, last saved: {run.saver.saved_iter}"


def lost_events_note(run: Run) -> str:
    """What to add to the last line if the log has lost events; empty if it has not."""
    n_lost, journal = run.logger.lost_events, run.logger.journal_path
    if not n_lost or journal is None:
        return ""
    return (
        f"; but {n_lost:,} events could not be logged: the log is incomplete "
        f"(see: eventlog verify {display_path(journal)})"
    )
