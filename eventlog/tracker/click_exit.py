"""Exits of programs of click and typer, which end by exceptions of their own."""

from types import TracebackType

from eventlog.interruption import ignoring

_MODULES = ("click.exceptions", "typer.exceptions")


def as_exit(error: BaseException | None) -> BaseException | None:
    """`raise typer.Exit(code)` or `ctx.exit(code)` as the SystemExit that it becomes."""
    kind = type(error)
    if error is None or kind.__name__ != "Exit" or kind.__module__ not in _MODULES:
        return error
    exit_ = SystemExit(getattr(error, "exit_code", 1)).with_traceback(error.__traceback__)
    exit_.__context__ = error
    return exit_


def is_aborted(trace: TracebackType | None) -> bool:
    """Whether click exits because of Ctrl-C: recent versions do so behind the `except`."""
    with ignoring(Exception):  # another version
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_globals.get("__name__") == "click.core" and frame.f_code.co_name == "main":
                aborts = frame.f_globals.get("_echo_aborted")
                return aborts is not None and frame.f_locals.get("report") is aborts
            trace = trace.tb_next
    return False
