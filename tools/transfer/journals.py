"""The journals of imported runs: found again, and written.

`metadata.imported` of each import names the source: its files with sizes and SHA-256, its format,
`fingerprint` (of all that it has), and `source` (what it is known by when it has grown).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

import eventlog

from ..core import runs
from .sources.source import Event, LossNames, SourceRun

Progress = Callable[[Sequence[Event]], Iterator[Event]]

_BEGIN_BYTES = 1 << 20  # an `open` event is one line, and a line is no longer
_HEAD_BYTES = 200  # of a line, within which it says its kind
_EVENTS = frozenset(kind.name for kind in eventlog.KINDS.values() if kind.key)
_DEFAULTS = {
    name: {field: "" if field == "path" else v for field, v in kind.row.items()}
    for name, kind in eventlog.KINDS.items()
    if name in _EVENTS and kind.axis == "iter"
}
for _fields in _DEFAULTS.values():
    _fields.pop("timestamp", None)  # a record has its time
_BEFORE_STEP = frozenset(
    kind.name for kind in eventlog.KINDS.values() if kind.rule in ("evals", "checkpoints")
)
_REALS = frozenset(name for name, kind in eventlog.KINDS.items() if "loss" in " ".join(kind.finite))
"""What comes first in an event, as in one that a trainer logs."""


@dataclass
class Written:
    """What was written."""

    journal: Path
    state: str
    """`new`, `continued` (after an import that was killed), `grown` or `known` (nothing)."""
    events: int
    """That the run has now."""


class Journals:
    """The journals in a folder that runs were imported into."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._by_source: dict[str, Path] = {}
        self._by_fingerprint: dict[str, Path] = {}
        for path in sorted(filter(Path.is_file, out.glob(f"*{eventlog.JOURNAL_SUFFIX}"))):
            for imported in _imports_into(path):
                self._note(path, imported)

    def _note(self, path: Path, imported: dict[str, Any]) -> None:
        self._by_fingerprint[str(imported.get("fingerprint"))] = path
        self._by_source[str(imported.get("source"))] = path

    def write(
        self, run: SourceRun, format: str, loss_names: LossNames, progress: Progress = iter
    ) -> Written:
        """Log what is new of a run, all of it the first time, and write the run JSON.

        Raises:
            Refusal, eventlog.EventlogError, OSError: it cannot be written.
        """
        imported = _provenance(run, format, loss_names)
        fingerprint, source = imported["fingerprint"], imported["source"]
        events = [(kind, _DEFAULTS.get(kind, {}) | _real(kind, row)) for kind, row in run.events]
        journal = self._by_fingerprint.get(fingerprint) or self._by_source.get(source)
        logged = _Logged(journal) if journal else _Logged()
        if journal and (fingerprint in logged.whole or logged.has_all_of(events)):
            if not journal.with_suffix(eventlog.RUN_JSON_SUFFIX).exists():
                eventlog.compact(journal)
            return Written(journal, "known", len(logged.events))
        if journal and not logged.is_same_run(events) and fingerprint not in logged.fingerprints:
            journal, logged = None, _Logged()  # another run is in the same file now
        first, from_step = logged.first_new(events)
        session = eventlog.open_run(
            self._out,
            run_name=run.name,
            journal=journal,
            from_iter=from_step,
            config=run.config,
            metadata=run.metadata | {"imported": imported},
            save_interval=0,  # compacted once, at the end
            durability="checkpoint",
            started=run.started,
        )
        self._note(session.journal_path, imported)
        for kind, fields in progress(events[first:]):
            session.log(kind, **fields)
        if run.summary:
            session.log("summary", summary=run.summary)
        more = {} if run.ended is None else {"ended": run.ended}
        session.close(run.status, run.reason, **more, imported_events=len(events))
        if session.errors:
            raise runs.Refusal(f"{session.journal_path}: {session.errors} events were not logged")
        eventlog.compact(session.journal_path)
        state = "new" if journal is None else "grown" if logged.whole else "continued"
        return Written(session.journal_path, state, len(events))


class _Logged:
    """What imports have logged into a journal, and which of them were complete."""

    def __init__(self, journal: Path | None = None) -> None:
        self.fingerprints: set[str] = set()
        self.whole: set[str] = set()
        self.events: list[Event] = []
        sessions: dict[str, str] = {}
        for record in () if journal is None else eventlog.scan(journal):
            if record.event == "open":
                imported = record.fields.get("metadata", {}).get("imported", {})
                if "fingerprint" in imported:
                    sessions[record.s] = imported["fingerprint"]
                    self._rewind(record.fields.get("from_iter"))
            elif record.s in sessions and record.event in _EVENTS:
                fields = {k: v for k, v in record.fields.items() if k != "durable"}
                self.events.append((record.event, eventlog.restore_nonfinite(fields)))
            elif record.s in sessions and "imported_events" in record.fields:
                self.whole.add(sessions[record.s])
        self.fingerprints.update(sessions.values())

    def _rewind(self, from_step: Any) -> None:
        if from_step is not None:
            self.events = [event for event in self.events if _step(event) < from_step]

    def _n_equal(self, events: Sequence[Event]) -> int:
        """How many events at the beginning are the same."""
        both = zip(self.events, events, strict=False)
        return next((k for k, (a, b) in enumerate(both) if repr(a) != repr(b)), len(self.events))

    def has_all_of(self, events: Sequence[Event]) -> bool:
        """Whether the source has only what is logged, and less."""
        return len(events) < len(self.events) and self._n_equal(events) >= len(events)

    def is_same_run(self, events: Sequence[Event]) -> bool:
        """Whether a source that has these events is the one that these are of, grown."""
        return not self.events or self._n_equal(events) > 0

    def first_new(self, events: Sequence[Event]) -> tuple[int, int | None]:
        """From which event on to log, and the step from which on all that is logged is replaced.

        No step: the new events come behind all others.
        """
        n = self._n_equal(events)
        changed = [*self.events[n:], *events[n:]]
        is_by_step = all(_step(a) <= _step(b) for a, b in pairwise(events))
        if n == len(self.events) and not (is_by_step and self._is_passed_by(events[n:])):
            return n, None
        from_step = min(map(_step, changed if is_by_step else [*self.events, *events]))
        if any(_step(e) == from_step for e in self.events[n:] if e[0] in _BEFORE_STEP):
            from_step -= 1  # those of the step that a run goes back to stay
        return sum(_step(event) < from_step for event in events), from_step

    def _is_passed_by(self, events: Sequence[Event]) -> bool:
        """Whether a new event is not behind all of its kind: it would supersede others."""
        last: dict[str, int] = {}
        for event in self.events:
            last[event[0]] = max(_step(event), last.get(event[0], _step(event)))
        return any(event[0] in last and _step(event) <= last[event[0]] for event in events)


def _step(event: Event) -> int:
    fields = event[1]
    step: int = fields["step"] if event[0] == "metrics" and "step" in fields else fields["iter"]
    return step


def _real(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers of the usual fields as floats, as a trainer's are."""
    if kind not in _REALS:
        return row
    reals = _DEFAULTS[kind].keys() - {"iter"}
    return {
        k: float(v) if k in reals and type(v) is int and abs(v) < 1 << 53 else v
        for k, v in row.items()
    }


def _imports_into(journal: Path) -> Iterator[dict[str, Any]]:
    """`metadata.imported` of the sessions in a journal."""
    with open(journal, "rb") as file:
        if b'"imported":{' not in file.read(_BEGIN_BYTES):
            return
        file.seek(0)
        for line in file:
            if b'"event":"open"' in line[:_HEAD_BYTES]:
                with suppress(ValueError, KeyError, TypeError):  # torn, or another program's
                    yield dict(orjson.loads(line)["metadata"]["imported"])


def _provenance(run: SourceRun, format: str, loss_names: LossNames) -> dict[str, Any]:
    files = [_file(path) for path in run.files]
    names = (
        f"Meaning(loss={loss_names.loss!r}, val_loss={loss_names.val_loss!r})"  # must not change
    )
    hashes = [*sorted(file["sha256"] for file in files), format, names]
    source = [run.key or files[0]["file"], format, names]
    return {
        "format": format,
        "files": files,
        "fingerprint": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        "source": hashlib.sha256("\n".join(source).encode("utf-8", "replace")).hexdigest(),
        "importer": f"runjournal {_version()}",
        "started": run.started,
        "ended": run.ended,
        "renamed": run.renamed,
        "left_out": [*run.unreadable, *run.left_out][:100],
    }


def _file(path: Path) -> dict[str, Any]:
    size_bytes = path.stat().st_size
    return {
        "file": str(path.resolve()),
        "size_bytes": size_bytes,
        "sha256": eventlog.sha256_of(path),
    }


def _version() -> str:
    with suppress(PackageNotFoundError):
        return version("runjournal")
    return "unknown"
