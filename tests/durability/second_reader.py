"""A reader of journals written from FORMAT.md alone: it shares no code with eventlog.

Short and slow: it reads each file whole, and gives what the two readers are compared by.
"""

import json
import re
import zlib
from pathlib import Path

END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
ITERATION = {"iter": None, "loss": None, "time_ms": None, "mfu": -100.0}
EVAL = {"iter": None, "train_loss": None, "val_loss": None, "lr": None}
CHECKPOINT = {"iter": None, "val_loss": None, "path": None}
NUMBERED = ("iter", "eval", "checkpoint", "metrics")


def read_run(journal: Path) -> dict:
    """The run of a journal that nobody writes any more."""
    files = Files(journal)
    return fold(files.ordered()) | {"lost_events": files.lost_events()}


# ---- records


def record_of(line):
    """The record of a line without its LF, or None."""
    if not line.startswith(b'{"n":') or not END.fullmatch(line[-18:]):
        return None
    if zlib.crc32(line[:-18]) != int(line[-10:-2], 16):
        return None
    fields = json.loads(line)
    names = ("n", "s", "t", "event", "crc", "durable")
    n, s, t, event, _, _ = (fields.pop(name, None) for name in names)
    return {"n": n, "s": s, "t": t, "event": event, "fields": fields}


def records_in(data):
    """The records of one file, in the order of its lines."""
    for line in data.split(b"\n"):
        whole = record_of(line)
        yield from [whole] if whole else records_within(line)


def records_within(line):
    last_end = last_but_one = 0
    for found in END.finditer(line):
        end = start = found.end()
        for _ in range(16):
            start = line.rfind(b'{"n":', last_but_one, start)
            record = record_of(line[start:end]) if start >= 0 else None
            if record or start < 0:
                break
        if record:
            yield record
        last_but_one, last_end = end if record else last_end, end


# ---- files and sessions


class Files:
    """The records of a run, each once, and its sessions in their order."""

    def __init__(self, journal):
        self.journal = journal
        self.foreign = set()  # sessions of another run, from their `open` on
        self.numbers = {}  # session -> the numbers of its records
        self.met = {}  # session -> the highest number of it that another session names
        self.numbered = set()  # sessions with a `session_number`
        self.dropped = {}  # session -> the events that it says it dropped
        self.folders = [journal.parent]
        records = list(records_in(journal.read_bytes()))
        self.run_id = run_id_in(r for r in records if r["event"] == "open")
        if self.run_id is None:
            firsts = (r for *_, records in self.named(journal.parent) for r in records[:1])
            self.run_id = run_id_in(r for r in firsts if is_header(r) or r["event"] == "open")
        self.note_folders(records)
        self.groups = []  # of the journal: records of one session that follow each other
        for record in self.admitted(records):
            if not self.groups or self.groups[-1][0]["s"] != record["s"]:
                self.groups.append([])
            self.groups[-1].append(record)
        self.in_journal = {group[0]["s"] for group in self.groups}
        self.segments = {}  # session -> the records of each of its segments
        for s, records in self.read_segments():
            self.segments.setdefault(s, []).append(list(self.admitted(records)))

    def named(self, folder):
        """The files called like segments: number, path, session, run, records."""
        stem = re.escape(self.journal.stem)
        names = re.compile(stem + r"(?:\.([^.]{8}))?\.([0-9a-f]{8})\.(\d+)\.segment")
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = names.fullmatch(path.name)
            if match:
                run, s, number = match.groups()
                yield int(number), path, s, run, list(records_in(path.read_bytes()))

    def read_segments(self):
        found = []
        for folder in self.folders:  # it grows
            for number, path, s, run, records in self.named(folder):
                if self.is_ours(folder, s, run, records):
                    found.append((number, path, s, records))
                    self.note_folders(records)
        return [(s, records) for _, _, s, records in sorted(found, key=lambda file: file[:2])]

    def note_folders(self, records):
        for record in records:
            name = {"open": "fallback", "segment": "folder"}.get(record["event"])
            folder = record["fields"].get(name)
            if folder and Path(folder) not in self.folders:
                self.folders.append(Path(folder))

    def is_ours(self, folder, s, run, records):
        if s in self.in_journal or folder == self.journal.parent:
            if self.run_id is None:
                return True
        elif self.run_id is None:
            return False
        short = re.sub(r"[^0-9A-Za-z_-]", "_", self.run_id)[:8].ljust(8, "_")
        headers = [record["fields"] for record in records if is_header(record)]
        if run not in (None, short) or (headers and headers[0].get("run_id") != self.run_id):
            return False
        if run or s in self.in_journal or folder == self.journal.parent:
            return True
        said = [r["fields"] for r in records[:1]]
        return any(self.run_id in (f.get("run_id"), f.get("annotates")) for f in said)

    def admitted(self, records):
        """Those that were not seen before and are of this run."""
        for record in records:
            s, n, fields = record["s"], record["n"], record["fields"]
            if is_header(record) or n in self.numbers.setdefault(s, set()):
                continue
            self.numbers[s].add(n)
            if record["event"] == "open":
                self.note_met(fields.get("prev") or {})
                self.run_id = self.run_id or fields.get("run_id")
                if fields.get("run_id") not in (None, self.run_id):
                    self.foreign.add(s)
                elif fields.get("session_number"):
                    self.numbered.add(s)
            elif record["event"] == "lost_tail":
                self.note_met({"s": fields["session"], "n": fields["records"] - 1})
            elif record["event"] == "gap":
                self.dropped[s] = self.dropped.get(s, 0) + fields["dropped"]
            if s not in self.foreign:
                yield record

    def note_met(self, named):
        if named.get("n", -1) >= 0:
            self.met[named["s"]] = max(named["n"], self.met.get(named["s"], -1))

    def lost_events(self):
        lost = dict.fromkeys([*self.numbers, *self.met], 0)
        for s in lost:
            numbers = self.numbers.get(s, set())
            lost[s] = max(*numbers, self.met.get(s, -1), -1) + 1 - len(numbers)
        for s in self.numbered & self.dropped.keys():
            lost[s] = max(lost[s], self.dropped[s])
        return sum(lost.values())

    def ordered(self):
        """All records, session by session."""
        begins = {}  # session -> its first record, in the order of the journal
        records = []
        for group in self.groups:
            begins.setdefault(group[0]["s"], group[0])
        alone = {s: next(filter(None, files), [None])[0] for s, files in self.segments.items()}
        alone = {s: r for s, r in alone.items() if s not in begins and is_session(r)}
        left = order_of(begins, alone)
        for group in self.groups:
            s = group[0]["s"]
            while s in left:
                blocks = [group] if left[0] == s else []
                records += merged(blocks + self.segments.pop(left.pop(0), []))
                group = group[len(group) * bool(blocks) :]
            records += group
        for s in [*left, *self.segments]:  # annotations are the last
            records += merged(self.segments.pop(s, []))
        return records


def run_id_in(records):
    ids = (record["fields"].get("run_id") for record in records)
    return next((run_id for run_id in ids if run_id), None)


def is_header(record):
    return record["event"] == "segment" and record["n"] == 0 and "session" in record["fields"]


def is_session(record):
    return record is not None and "annotates" not in record["fields"]


def order_of(begins, alone):
    """All sessions: those of the journal, and where those belong that are in segments alone."""
    order = list(begins)
    begins = begins | alone
    left = sorted(alone, key=lambda s: (number_of(begins[s]) or 0, begins[s]["t"], s))
    while left:
        ready = [s for s in left if prev_of(begins[s]) in order]
        for s in reversed(ready):
            at = order.index(prev_of(begins[s])) + 1
            while at < len(order) and is_smaller(begins[order[at]], begins[s]):
                at += 1
            order.insert(at, s)
        if not ready:
            s = next((s for s in left if prev_of(begins[s]) not in left), left[0])
            later = [other for other in order if is_later(begins[other], begins[s])]
            order.insert(order.index(later[0]) if later else len(order), s)
            ready = [s]
        left = [s for s in left if s not in ready]
    return order


def number_of(begin):
    return begin["fields"].get("session_number") if begin["event"] == "open" else None


def prev_of(begin):
    prev = begin["fields"].get("prev") if begin["event"] == "open" else None
    return prev["s"] if prev else None


def is_smaller(one, other):
    return None not in (number_of(one), number_of(other)) and number_of(one) < number_of(other)


def is_later(one, other):
    return one["t"] > other["t"] if number_of(other) is None else is_smaller(other, one)


def merged(streams):
    """The records of one session from several files: always the lowest number that is next."""
    streams = [list(stream) for stream in streams if stream]
    records = []
    while streams:
        lowest = min(streams, key=lambda stream: stream[0]["n"])
        records.append(lowest.pop(0))
        streams = [stream for stream in streams if stream]
    return records


# ---- the run


def fold(records):
    run = {
        "training_iterations": [],
        "eval_steps": [],
        "checkpoints": [],
        "metrics": [],
        "config": {},
        "metadata": {},
        "tags": [],
        "notes": [],
        "superseded": dict.fromkeys(("iterations", "evals", "checkpoints", "metrics"), 0),
        "sessions": [],
    }
    statuses, have_metrics, remarks = {}, set(), []
    run_id = run_id_in(record for record in records if record["event"] == "open")
    for record in records:
        s, event, fields = record["s"], record["event"], record["fields"]
        if event in ("note", "tag") and (
            run_id is None or fields.get("annotates") in (None, run_id)
        ):
            remarks.append(record)
        if "annotates" in fields:
            continue
        statuses.setdefault(s, "interrupted")
        number = number_in(event, fields)
        if event in NUMBERED and number is None:
            continue
        if event == "iter":
            if run["training_iterations"] and number <= run["training_iterations"][-1]["iter"]:
                rewind(run, number)
            row = ITERATION | fields
            row["mfu"] = row["mfu"] if type(row["mfu"]) in (int, float) else -100.0
            run["training_iterations"].append(row)
        elif event == "eval":
            supersede(run, "eval_steps", "evals", lambda row, i=number: row["iter"] >= i)
            run["eval_steps"].append(EVAL | {"timestamp": record["t"]} | fields)
        elif event == "checkpoint":
            row = CHECKPOINT | {"timestamp": record["t"]} | fields
            supersede(run, "checkpoints", "checkpoints", lambda old, row=row: replaces(row, old))
            run["checkpoints"].append(row)
        elif event == "metrics":
            if s not in have_metrics:
                supersede(run, "metrics", "metrics", lambda row, i=number: row["step"] >= i)
            have_metrics.add(s)
            add_metrics(run["metrics"], number, fields)
        elif event == "rewind":
            rewind(run, fields.get("to_iter"))
        elif event == "open":
            for key in ("config", "metadata"):
                run[key] = dict(fields.get(key) or run[key])
            rewind(run, fields.get("from_iter"))
        elif event == "config":
            run["config"] |= fields["config"]
        elif event == "close":
            statuses[s] = fields["status"]
    for record in sorted(remarks, key=lambda r: (r["t"], r["s"], r["n"])):
        given = {k: v for k, v in record["fields"].items() if k != "annotates"}
        if record["event"] == "note":
            run["notes"].append({"t": record["t"]} | given)
        else:
            kept = set(run["tags"]) - set(given.get("remove", ()))
            run["tags"] = sorted(kept | set(given.get("add", ())))
    run["sessions"] = [*statuses]
    run["status"] = [*statuses.values()][-1] if statuses else None
    return run


def number_in(event, fields):
    names = ("step", "iter") if event == "metrics" else ("iter",)
    numbers = (fields.get(name) for name in names)
    return next((n for n in numbers if type(n) is int and -(2**63) <= n < 2**63), None)


def supersede(run, array, name, is_superseded):
    kept = [row for row in run[array] if not is_superseded(row)]
    run["superseded"][name] += len(run[array]) - len(kept)
    run[array] = kept


def rewind(run, to):
    if type(to) is int:
        supersede(run, "training_iterations", "iterations", lambda row: row["iter"] >= to)
        supersede(run, "metrics", "metrics", lambda row: row["step"] >= to)
        supersede(run, "eval_steps", "evals", lambda row: row["iter"] > to)
        supersede(run, "checkpoints", "checkpoints", lambda row: row["iter"] > to)


def replaces(row, old):
    is_same = (old["iter"], old["path"]) == (row["iter"], row["path"])
    return is_same or old["iter"] > row["iter"]


def add_metrics(rows, step, fields):
    fields = dict(fields)
    fields.pop("step" if type(fields.get("step")) is int else "iter")
    marks = fields.get("nonfinite", {})
    row = next((row for row in rows if row["step"] == step), None)
    if row is None:
        rows.append({"step": step} | fields)
        rows.sort(key=lambda row: row["step"])
        return
    if "nonfinite" in row:
        stay = {p: name for p, name in row["nonfinite"].items() if not is_of(p, fields)}
        fields["nonfinite"] = stay | marks
    row |= fields
    if not row.get("nonfinite", True):
        del row["nonfinite"]


def is_of(path, names):
    return any(path == name or path.startswith(name + ".") for name in names)
