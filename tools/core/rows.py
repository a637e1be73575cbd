"""A run as a row of fields: what `ls` shows, `--where` filters by and `--sort` sorts by.

    rows = [glance(path) for path in runs.find(["out"])]

A field is named as in `FIELDS`, or as `config.learning_rate`, `metadata.versions.torch`;
`config.` may be left out where no other field has the name, or be written `cfg.`. A series is named
as in `series.py` (`val/acc`, `train/loss:min`); a row has those that it was made with.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

import eventlog
from eventlog import seconds

from . import index, runs, series
from .runs import Found, Refusal

OTHER_NAMES = {
    "run": ("run_name", "name"),
    "iterations": ("total_iterations", "total_iters", "n_iterations", "iters"),
    "best_val_loss": ("best val", "best_loss"),
    "final_loss": ("final_train_loss", "final loss", "final_training_loss"),
    "avg_time_ms": ("ms/iter", "ms_per_iter", "time_ms", "avg_ms"),
    "avg_mfu": ("mfu", "MFU", "MFU %"),
    "started": ("start_time",),
    "ended": ("end_time",),
    "age_s": ("age",),
}

_OWN = {other: own for own, others in OTHER_NAMES.items() for other in others}


def folders(paths: Sequence[str]) -> list[str]:
    """The folder of each file, without what all of them have in common: to tell runs of one name
    apart, as each job of a sweep may have it."""
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]
    common = os.path.commonpath(parents) if parents else ""
    return [os.path.relpath(parent, common) for parent in parents]


def own_name(name: str) -> str:
    """The name of a field in a row, for any of its names."""
    return _OWN.get(name, name)


GUIDE_NAMES = {
    "run": "run_name", "iterations": "total_iterations", "total_iters": "total_iterations",
    "final_loss": "final_train_loss", "final_loss_diff": "final_train_loss_diff",
}  # fmt: skip
"""What run JSONs and SQL call these fields, and what commands print in JSON and CSV."""


def guide_name(name: str) -> str:
    """The name of a field in a run JSON."""
    return GUIDE_NAMES.get(name, name)


def with_guide_names(fields: "Row") -> "Row":
    """Fields by their names in a run JSON; their earlier names follow, for scripts."""
    named = {guide_name(name): value for name, value in fields.items()}
    named |= {name: fields[name] for name in GUIDE_NAMES if name in fields}
    if "nonfinite" in fields:
        named["nonfinite"] = with_guide_names(fields["nonfinite"])
    return named


Row = dict[str, Any]

FIELDS = (
    "run", "status", "live", "iterations", "best_val_loss", "final_loss", "avg_time_ms",
    "avg_mfu", "started", "ended", "age_s", "sessions", "defects", "lost", "ignored", "tags",
    "notes", "note", "path", "error",
)  # fmt: skip

IF_KNOWN = ("avg_time_ms", "avg_mfu")
"""Fields that a table leaves out where no run has them."""

NOTE_MAX = 500
"""Characters of the notes of a run."""

NAME_MAX = 40
"""Characters of the name of a series in a status."""

_PARTS = ("config", "metadata")


def glance(path: Path, now: float | None = None) -> Row:
    """The row of the run in one file, from the index if the file has not changed since."""
    fields = indexed(path, _OF_ENDS, _OF_ROWS)
    if fields is None:
        fields = _read(path)
    return fields | {"age_s": _age_s(fields["started"], now)}


_OF_ENDS, _OF_ROWS = "row", "row of another logger"  # what they are called in the index


def indexed(path: Path, *kinds: str) -> Row | None:
    """The row of a run JSON from the index, without `age_s`; None: the file must be read.

    Without `kinds`: only of a run JSON of this package.
    """
    if runs.is_journal(path):
        return None
    with suppress(OSError):
        status = os.stat(path)
        for kind in kinds or (_OF_ENDS,):
            kept = index.get(path, kind, status)
            if kept is not None:
                fields: Row = orjson.loads(kept)
                return fields | {"path": str(path)}
    return None


def _read(path: Path) -> Row:
    try:
        before = os.stat(path)
    except OSError:
        return row(runs.glance_at(path))
    found = runs.glance_at(path)
    fields = row(found)
    if _is_of_its_file_alone(found):
        keep(path, before, fields, _OF_ROWS if found.is_whole else _OF_ENDS)
    return fields


def _is_of_its_file_alone(found: Found) -> bool:
    """Whether all of the row is in the run JSON itself, and nothing of it in a journal."""
    run = found.run
    if run is None or runs.is_journal(found.path):
        return False
    if found.is_whole:  # a run JSON that says `running` may have been completed from its journal
        return not run.journal
    return run.status not in ("running", "unknown")


def keep(path: Path, before: os.stat_result, fields: Row, kind: str = _OF_ENDS) -> None:
    """Keep a row in the index; `before`: the status of the file before it was read."""
    with suppress(OSError, TypeError):
        text = orjson.dumps(fields | {"path": "", "age_s": None})
        is_exact = orjson.loads(text) == fields | {"path": "", "age_s": None}
        if is_exact and index.is_same(before, os.stat(path)):
            index.put(path, kind, before, text)


def row(found: Found, now: float | None = None) -> Row:
    """A run as one row; an unreadable file is a row with its `error`.

    `now`: the time that `age_s` refers to, in seconds since 1970.
    """
    path = str(found.path)
    if found.run is None:
        broken: Row = dict.fromkeys(FIELDS)
        why = found.error.removeprefix(f"{path}: ")
        broken |= {"run": found.path.name, "status": "unreadable", "live": False}
        return broken | {"path": path, "error": why, "config": {}, "metadata": {}}
    run, summary, journal = found.run, found.run.summary, found.run.journal
    losses = _losses(journal.get("defects"))
    fields: Row = {
        "run": run.name,
        "status": run.status,
        "live": found.is_live,
        "iterations": summary.get("total_iterations"),
        "best_val_loss": summary.get("best_val_loss"),
        "final_loss": summary.get("final_train_loss"),
        "avg_time_ms": summary.get("avg_time_ms"),
        "avg_mfu": summary.get("avg_mfu"),
        "started": run.start_time,
        "ended": run.end_time,
        "age_s": _age_s(run.start_time, now),
        "sessions": len(journal.get("sessions") or ()) or None,
        "defects": len(journal.get("defects") or ()),
        "lost": sum(n for n in losses if type(n) is int),
        "unknown_losses": losses.count(None),
        "ignored": journal.get("ignored") or 0,
        "is_orphan": eventlog.lacks_journal(found.path),
        "tags": journal.get("tags") or [],
        "notes": len(journal.get("notes") or ()),
        "note": _note_text(journal.get("notes")),
        "path": path,
        "error": None,
        "config": run.config,
        "metadata": run.metadata,
    }
    fields |= _of_metrics(run)
    return with_ends(fields, run.ends_nonfinite())


def _age_s(started: str | None, now: float | None) -> float | None:
    started_s = seconds(started)
    return None if started_s is None or now is None else now - started_s


def with_ends(fields: Row, ends: Mapping[str, str]) -> Row:
    """A row with the series whose last value is not finite as `ends_nonfinite`: name -> `nan`.

    A training loss of iterations that ends so is not the last finite one, as in the summary.
    """
    if ends:
        fields = fields | {"ends_nonfinite": dict(ends)}
    if "loss" in ends and "final_loss" not in fields.get("nonfinite", {}):
        nonfinite = fields.get("nonfinite", {}) | {"final_loss": ends["loss"]}
        fields |= {"final_loss": None, "nonfinite": nonfinite}
    return fields


def status(fields: Row) -> str:
    """The status of a run, and its warnings: `completed, loss nan, 3 events lost`.

    Of the series that end in NaN or infinity it has one: a loss, if any.
    """
    ends: dict[str, str] = fields.get("ends_nonfinite") or {}
    texts = [str(fields["status"]), *([_nonfinite_text(ends)] if ends else []), *warnings(fields)]
    return ", ".join(texts)


def warnings(fields: Row) -> list[str]:
    """What of a run is not in its files: events lost or ignored, its journal."""
    n_lost, n_unknown, n_ignored = (
        fields.get(name) or 0 for name in ("lost", "unknown_losses", "ignored")
    )
    is_orphan = fields.get("is_orphan")  # what it lacks may be in its journal
    texts = {
        f"{eventlog.counted(n_lost, 'event')} {'missing' if is_orphan else 'lost'}": n_lost,
        f"{eventlog.counted(n_unknown, 'damaged place')} of unknown cost": n_unknown,
        "journal missing": is_orphan,
        f"{eventlog.counted(n_ignored, 'event')} of forks ignored": n_ignored,
    }
    return [text for text, is_so in texts.items() if is_so]


def _nonfinite_text(ends: Mapping[str, str]) -> str:
    name = next((n for n in eventlog.usual_losses(ends) if n is not None), next(iter(ends)))
    shown = name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 1]}…"
    more = f" +{len(ends) - 1:,}" if len(ends) > 1 else ""
    return f"{shown} {ends[name]}{more}"


def with_series(fields: Row, found: Found, names: Iterable[str]) -> Row:
    """A row with what `names` ask of the series of its run, as `series`."""
    source = series.Source(found)
    return with_values(fields, {k: v for name in names for k, v in source.values(name).items()})


def with_values(fields: Row, values: Mapping[str, Any]) -> Row:
    """A row with these values of series, as `series`."""
    if not values:
        return fields
    named = {label: text for label, v in values.items() if (text := series.exact(v)) is not v}
    nonfinite = fields.get("nonfinite", {}) | named
    return fields | {"series": {**values}} | ({"nonfinite": nonfinite} if nonfinite else {})


def _of_metrics(run: eventlog.Run) -> Row:
    """The fields of a run that logged no iterations, by the metrics that are its losses."""
    metrics = run.journal.get("metrics")
    if run.summary.get("total_iterations") or not isinstance(metrics, dict):
        return {}
    loss, val_loss = run.losses()
    last = None if loss is None or not loss.is_numeric else loss.last
    fields: Row = {"iterations": metrics.get("rows"), "final_loss": last}
    if val_loss is not None:
        fields["best_val_loss"] = val_loss.min
    if loss is not None and loss.ends_nonfinite:
        fields |= {"final_loss": None, "nonfinite": {"final_loss": str(loss.last)}}
    return fields


def _note_text(notes: Any) -> str | None:
    """The texts of all notes, the latest first; None: there is none."""
    listed = notes if isinstance(notes, list) else ()
    texts = [str(note["text"]) for note in listed if isinstance(note, dict) and note.get("text")]
    return "; ".join(texts[::-1])[:NOTE_MAX] or None


def _losses(defects: Any) -> list[Any]:
    """How many events each defect cost; other programs may have written the run JSON."""
    listed = defects if isinstance(defects, list) else ()
    return [d.get("lost", 0) for d in listed if isinstance(d, dict)]


def value(row: Row, name: str) -> Any:
    """The field `name` of a row, as in `--where`; None if the row does not have it.

    A name that is not in `FIELDS` and has no prefix is looked up in config, then in metadata, then
    in the series that the row was made with.
    """
    own = own_name(name)
    if own in row and own not in ("series", "nonfinite"):
        return row[own]
    part, _, key = own.partition(".")
    known = _inside(row[part], key) if part in _PARTS and key else None
    for values in (row["config"], row["metadata"]):
        known = _inside(values, own) if known is None else known
    if known is None and part == "cfg" and key:
        known = _inside(row["config"], key)
    return row.get("series", {}).get(name) if known is None else known


def _inside(values: Any, key: str) -> Any:
    while isinstance(values, Mapping):
        if key in values:
            return values[key]
        first, _, key = key.partition(".")
        values = values.get(first)
    return None


def check_field(rows: Sequence[Row], name: str, flag: str) -> str:
    """`name`, if at least one row has this field.

    Raises:
        Refusal: no row has it; suggests similar names.
    """
    if is_field(name) or not rows or any(value(row, name) is not None for row in rows):
        return name
    if any(name in row.get("series", {}) for row in rows):
        return name  # no run has gone on to the step of NAME@STEP
    if flag == "--metric" or "/" in name:
        raise series.unknown(
            flag, name, series.names_in(row["path"] for row in rows if row["path"])
        )
    fields = dict.fromkeys(FIELDS)
    for part in ("config", "metadata"):
        fields |= dict.fromkeys(f"{part}.{key}" for row in rows for key in row[part])
    if {name, re.sub(r"^cfg\.", "config.", name)} & fields.keys():
        return name  # null in every run
    bare = {key.partition(".")[2] or key: key for key in reversed(fields)}
    names = (n for field in fields for n in (field, field.partition(".")[2] or field))
    near = [bare.get(m, m) for m in eventlog.similar(name, names)]
    if not near:
        logged = series.names_in(row["path"] for row in rows if row.get("path"))
        near = eventlog.similar(name, logged)
    hint = eventlog.did_you_mean(near, "See: runs ls --json")
    raise Refusal(f"{flag}: unknown field {name!r}.{hint}")


def is_field(name: str) -> bool:
    """Whether each row has a field of this name, known or not."""
    return own_name(name) in FIELDS


def sort(rows: Sequence[Row], key: str) -> list[Row]:
    """Rows sorted by a field, those without it last; `-field`: in descending order.

    Raises:
        Refusal: no row has the field.
    """
    name = check_field(rows, key.removeprefix("-"), "--sort")
    values = [(_orderable(value(row, name)), at) for at, row in enumerate(rows)]
    known = [(v, at) for v, at in values if v is not None]
    known.sort(key=lambda pair: pair[0], reverse=key.startswith("-"))
    order = [at for _, at in known] + [at for v, at in values if v is None]
    return [rows[at] for at in order]


def _orderable(value: Any) -> tuple[bool, float, str] | None:
    """A sort key: numbers come before text."""
    if value is None or value != value:
        return None
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0.0, str(plain(value))


def plain(value: Any) -> Any:
    """A value that SQLite can store: lists and objects become JSON text."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    if isinstance(value, int | float | str | None):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
