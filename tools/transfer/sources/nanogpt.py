"""nanoGPT's console output, as `train.py` prints it, saved to a file.

`step N: train loss ..., val loss ...` is an evaluation, `iter N: loss ..., time ..., mfu ...`
an iteration, `saving checkpoint to ...` a checkpoint. Losses have the four digits that were
printed, and there are no times. Flags that were overridden become the configuration.
"""

import ast
import re
from pathlib import Path
from typing import Any

from .reading import read_lines
from .source import Event, LossNames, Source, SourceRun

LITERAL_MAX = 1_000  # characters of a setting that is read as a Python value
_N = r"(-?(?:\d+\.\d+|nan|inf))"
ITER = re.compile(rf"^iter (\d{{1,15}}): loss {_N}, time {_N}ms, mfu {_N}%$")
STEP = re.compile(rf"^step (\d{{1,15}}): train loss {_N}, val loss {_N}$")
SAVING = re.compile(r"^saving checkpoint to (.+)$")
SETTING = re.compile(r"^(?:Overriding: )?(\w+) = (.*)$")
FACTS = {
    "tokens_per_iter": re.compile(r"^tokens per iteration will be: ([\d,]+)$"),
    "n_params": re.compile(r"^number of parameters: (.+)$"),
}


def find(path: Path) -> list[Source]:
    """The runs in a file, or in the text files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if path.is_dir():
        files = [file for file in files if file.suffix in (".txt", ".log", ".out")]
    return [Source([file], file.stem, file) for file in filter(Path.is_file, files) if _fits(file)]


def _fits(file: Path) -> bool:
    lines = map(str.strip, read_lines(file))
    return any(ITER.match(line) or STEP.match(line) for line in lines)


def read(source: Source, loss_names: LossNames) -> SourceRun:
    (path,) = source.files
    run = SourceRun(source.name, [path])
    n_garbled, last = 0, ("", "")
    for line in map(str.strip, read_lines(path)):
        event = _event(line, last)
        if event is not None:
            run.events.append(event)
            if event[0] == "eval":
                last = (str(event[1]["iter"]), str(event[1]["val_loss"]))
        elif not _read_fact(line, run) and re.search(r"\b(iter|step) \d+: ", line):
            n_garbled += 1
    if n_garbled:
        run.unreadable.append(f"{path}: {n_garbled:,} lines that are only in part nanoGPT's")
    run.reason = "the console output does not say how it ended"
    return run


def _event(line: str, last: tuple[str, str]) -> Event | None:
    """`last`: iteration and validation loss of the latest evaluation, which a checkpoint is of."""
    if match := ITER.match(line):
        i, loss, time_ms, mfu = match.groups()
        row = {"loss": float(loss), "time_ms": float(time_ms), "mfu": float(mfu)}
        return "iter", {"iter": int(i)} | row
    if match := STEP.match(line):
        i, train_loss, val_loss = match.groups()
        row = {"train_loss": float(train_loss), "val_loss": float(val_loss)}
        return "eval", {"iter": int(i)} | row
    if (match := SAVING.match(line)) and last[0]:
        path = f"{match[1]}/ckpt.pt"
        return "checkpoint", {"iter": int(last[0]), "val_loss": float(last[1]), "path": path}
    return None


def _read_fact(line: str, run: SourceRun) -> bool:
    if (match := SETTING.match(line)) and not run.events:
        run.config[match[1]] = _literal(match[2])
        return True
    for name, pattern in FACTS.items():
        if match := pattern.match(line):
            run.metadata[name] = _literal(match[1].replace(",", ""))
            return True
    return False


def _literal(text: str) -> Any:
    if len(text) > LITERAL_MAX:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
