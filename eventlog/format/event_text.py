"""What an event of each kind says, in one line without its kind and its number."""

import os
from typing import Any

from eventlog.format.record import Record


def open_text(record: Record) -> str:
    f = record.fields
    resumed = "" if f.get("from_iter") is None else f", from iteration {f['from_iter']}"
    found = _dict(f.get("found"))
    torn = f", after a torn tail ({', '.join(found)})" if found else ""
    name, pid, host = f.get("run_name"), f.get("pid"), f.get("host")
    return f"{name}, pid {pid} on {host}, session {record.s}{resumed}{torn}"


def iter_text(record: Record) -> str:
    f = record.fields
    parts = [f"loss {_number(f, 'loss', '.4f')}"]
    if f.get("time_ms") is not None:
        parts.append(f"{_number(f, 'time_ms', '.1f')} ms")
    if f.get("tokens_per_s") is not None:
        parts.append(f"{_number(f, 'tokens_per_s', ',.0f')} tokens/s")
    mfu = f.get("mfu")
    if isinstance(mfu, int | float) and mfu > 0:
        parts.append(f"mfu {mfu:.2f}%")
    return "  ".join(parts)


def eval_text(record: Record) -> str:
    train, val = (_number(record.fields, name, ".4f") for name in ("train_loss", "val_loss"))
    return f"train {train}  val {val}"


def checkpoint_text(record: Record) -> str:
    size_bytes = record.fields.get("size_bytes")
    size = f"  {size_bytes / 1e6:,.1f} MB" if type(size_bytes) is int else ""
    return f"{record.fields.get('path')}{size}"


def close_text(record: Record) -> str:
    status, reason = record.fields.get("status"), record.fields.get("reason")
    return f"{status}: {reason}" if reason else str(status)


def segment_text(record: Record) -> str:
    f = record.fields
    path = os.path.join(str(f.get("folder") or ""), str(f.get("file")))
    return f"session {record.s} goes on in {path} from record {f.get('first_n')}"


def ignored_text(record: Record) -> str:
    return f"{record.fields.get('events')} events were not logged: {record.fields.get('why')}"


def lost_tail_text(record: Record) -> str:
    f = record.fields
    return (
        f"session {f.get('session')} had {f.get('records')} records when its checkpoint was "
        f"written, {f.get('found')} were found"
    )


def _number(fields: dict[str, Any], name: str, form: str) -> str:
    """A number, or the name of what it was instead: nan, inf; `-` if there is none."""
    value = fields.get(name)
    if isinstance(value, int | float):
        return format(value, form)
    return str(_dict(fields.get("nonfinite")).get(name, "-"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
