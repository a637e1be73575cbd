"""The last console line of a run."""

from eventlog import counted, duration
from trainer.console import display_path
from trainer.run import Run


def completed_line(run: Run, seconds: float) -> str:
    """Duration and best loss of the run, the path of its log, and the next command to run."""
    result = f"done in {duration(seconds)}, best val loss {run.best_val_loss:.4f}"
    commands = []
    if run.logger.run_path is not None:
        result += f", log in {display_path(run.logger.run_path)}"
        commands.append(f"runs compare {run.saver.files.out_dir}/*.json")
    if run.saver.saved_iter is not None:
        commands.append(f"python trainer/sample.py --out_dir={run.saver.files.out_dir}")
    return "; next: ".join([result, *[", or ".join(commands)] * bool(commands)])


def saved_state(run: Run) -> str:
    """What is saved of a run that stops now. On rank 0."""
    if run.saver.saved_iter == run.iter_num:
        return f"saved before iteration {run.iter_num}"
    return f"could not be saved before iteration {run.iter_num}; {run.last_checkpoint}"


def next_after_stop(run: Run) -> str:
    """How a run that stops now is continued. On rank 0."""
    if run.saver.saved_iter is None:
        return "to begin again, give the same command"
    return "to resume, give the same command with --init_from=resume"


def unsaved_note(run: Run) -> str:
    """What to add to the last line if the state at the end was not saved; empty if it was."""
    if run.saver.error is None:
        return ""
    return f"; but the state at the end was not saved: {run.last_checkpoint}"


def lost_events_note(run: Run) -> str:
    """What to add to the last line if the log has lost events; empty if it has not."""
    n_lost, journal = run.logger.lost_events, run.logger.journal_path
    if not n_lost or journal is None:
        return ""
    return (
        f"; but {counted(n_lost, 'event')} could not be logged: the log is incomplete "
        f"(see: eventlog verify {display_path(journal)})"
    )
