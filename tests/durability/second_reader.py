"""A reader of journals written from FORMAT.md alone: it shares no code with eventlog.

Short and slow: it reads each file whole, and returns what the two readers are compared by.
"""

import json
import re
import zlib
from pathlib import Path

END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
FIRST = {  # the fields that come first in a row, and what they are if they are missing
    "iter": {"iter": None, "loss": None, "time_ms": None, "mfu": -100.0},
    "eval": {"iter": None, "train_loss": None, "val_loss": None, "lr": None},
    "checkpoint": {"iter": None, "val_loss": None, "path": None},
}
ARRAYS = {"iterations": "training_iterations", "evals": "eval_steps"}


def read_run(journal: Path) -> dict:
    """The run of a journal that is not being written."""
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
    return {name: fields.pop(name, None) for name in names} | {"fields": fields}


def records_in(path):
    """The records of one file, in the order of its lines."""
    for line in path.read_bytes().split(b"\n"):
        whole = record_of(line)
        yield from [whole] if whole else records_within(line)


def records_within(line):
    last_end = last_but_one = 0
    for match in END.finditer(line):
        end = start = match.end()
        record, tries = None, 16
        while tries and not record and (start := line.rfind(b'{"n":', last_but_one, start)) >= 0:
            record, tries = record_of(line[start:end]), tries - 1
        yield from [record] if record else []
        last_but_one, last_end = end if record else last_end, end


def is_header(record):
    return record["event"] == "segment" and record["n"] == 0 and "session" in record["fields"]


def run_id_in(records, events=("open",)):
    ids = (record["fields"].get("run_id") for record in records if record["event"] in events)
    return next(filter(None, ids), None)


# ---- files and sessions


class Files:
    """The records of a run, each once, and its sessions in their order."""

    def __init__(self, journal):
        self.journal = journal
        self.foreign = set()  # sessions of another run, from their `open` on
        self.numbers = {}  # session -> the numbers of its records
        self.ends = {}  # session -> the highest number of it that another session names
        self.numbered = set()  # sessions with a `session_number`
        self.dropped = {}  # session -> the events that it says it dropped
        self.folders = [journal.parent]
        records = list(records_in(journal))
        beside = (next(records_in(path), None) for path in self.named(journal.parent))
        self.run_id = run_id_in(records) or run_id_in(filter(None, beside), ("open", "segment"))
        self.note_folders(records)
        self.groups = []  # of the journal: a session, and records of it that follow each other
        for record in self.admitted(records):
            if not self.groups or self.groups[-1][0] != record["s"]:
                self.groups.append((record["s"], []))
            self.groups[-1][1].append(record)
        self.segments = {}  # session -> the records of each of its segments
        for _, _, s, records in sorted(self.of_this_run(), key=lambda file: file[:2]):
            self.segments.setdefault(s, []).append(list(self.admitted(records)))

    def named(self, folder):
        """The files with names of segments, and the run, session and number in the name."""
        name = re.escape(self.journal.stem) + r"(?:\.([^.]{8}))?\.([0-9a-f]{8})\.(\d+)\.segment"
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        matches = {path: re.fullmatch(name, path.name) for path in paths}
        return {path: match.groups() for path, match in matches.items() if match}

    def of_this_run(self):
        self.known = {s for s, _ in self.groups}  # sessions that are the run's
        segments = {}
        n_before = -1
        while n_before < len(segments):  # a file may name a folder, or make its session known
            n_before = len(segments)
            for folder in self.folders:
                for path, (run, s, number) in self.named(folder).items():
                    records = list(records_in(path))
                    if path not in segments and self.is_ours(folder, run, s, records):
                        segments[path] = (int(number), path, s, records)
                        self.known.add(s)
                        self.note_folders(records)
        return segments.values()

    def is_ours(self, folder, run, s, records):
        is_known = folder == self.journal.parent or s in self.known
        if self.run_id is None:
            return is_known
        short = re.sub(r"[^0-9A-Za-z_-]", "_", self.run_id)[:8].ljust(8, "_")
        headers = [record["fields"] for record in records if is_header(record)]
        if run not in (None, short) or (headers and headers[0].get("run_id") != self.run_id):
            return False
        first = records[0]["fields"] if records else {}
        return is_known or run or self.run_id in (first.get("run_id"), first.get("annotates"))

    def note_folders(self, records):
        foreign = set()
        for record in records:
            event, fields = record["event"], record["fields"]
            if event == "open" and self.is_foreign(fields):
                foreign.add(record["s"])
            folder = fields.get({"open": "fallback", "segment": "folder"}.get(event))
            if folder and record["s"] not in foreign and Path(folder) not in self.folders:
                self.folders.append(Path(folder))

    def admitted(self, records):
        """Records of this run that were not read before."""
        for record in records:
            s, n, event, fields = (record[name] for name in ("s", "n", "event", "fields"))
            if is_header(record) or n in self.numbers.setdefault(s, set()):
                continue
            self.numbers[s].add(n)
            if event == "open":
                self.run_id = self.run_id or fields.get("run_id")
                if self.is_foreign(fields):
                    self.foreign.add(s)
                elif fields.get("session_number"):
                    self.numbered.add(s)
                if fields.get("prev"):
                    self.note_end(fields["prev"]["s"], fields["prev"]["n"])
            elif event == "lost_tail":
                self.note_end(fields["session"], fields["records"] - 1)
            elif event == "gap":
                self.dropped[s] = self.dropped.get(s, 0) + fields["dropped"]
            if s not in self.foreign:
                yield record

    def is_foreign(self, opened):
        return self.run_id is not None and opened.get("run_id") not in (None, self.run_id)

    def note_end(self, s, n):
        self.ends[s] = max(n, self.ends.get(s, -1))

    def lost_events(self):
        lost = 0
        for s in {*self.numbers, *self.ends}:
            numbers = self.numbers.get(s, set())
            missing = max(*numbers, self.ends.get(s, -1), -1) + 1 - len(numbers)
            lost += max(missing, self.dropped.get(s, 0) if s in self.numbered else 0)
        return lost

    def ordered(self):
        """All records, session by session."""
        begins = {}  # session -> its first record
        for s, group in self.groups:
            begins.setdefault(s, group[0])
        alone = {s: next(filter(None, files), None) for s, files in self.segments.items()}
        alone = {s: records[0] for s, records in alone.items() if records and s not in begins}
        alone = {s: first for s, first in alone.items() if "annotates" not in first["fields"]}
        left, records = order_of(begins, alone), []
        for s, group in self.groups:
            if s in left:
                while (before := left.pop(0)) != s:
                    records += merged(self.segments.pop(before))
                group = merged([group, *self.segments.pop(s, [])])
            records += group
        for s in [*left, *self.segments]:  # annotations are the last
            records += merged(self.segments.pop(s, []))
        return records


def merged(streams):
    """The records of one session from several files, always the lowest number next."""
    streams = [list(stream) for stream in streams]
    records = []
    while streams := [stream for stream in streams if stream]:
        records.append(min(streams, key=lambda stream: stream[0]["n"]).pop(0))
    return records


def order_of(journal, alone):
    """All sessions: those in the journal, with those that are only in segments in their places."""
    begins = journal | alone
    opened = {s: r["fields"] if r["event"] == "open" else {} for s, r in begins.items()}
    prev = {s: (fields.get("prev") or {}).get("s") for s, fields in opened.items()}
    number = {s: fields.get("session_number") for s, fields in opened.items()}

    def is_smaller(one, other):
        return None not in (number[one], number[other]) and number[one] < number[other]

    def is_later(one, other):
        if number[other] is None:
            return begins[one]["t"] > begins[other]["t"]
        return is_smaller(other, one)

    order = list(journal)
    left = sorted(alone, key=lambda s: (number[s] or 0, begins[s]["t"], s))
    while left:
        ready = [s for s in left if prev[s] in order]
        for s in reversed(ready):
            at = order.index(prev[s]) + 1
            while at < len(order) and is_smaller(order[at], s):
                at += 1
            order.insert(at, s)
        if not ready:
            ready = [next((s for s in left if prev[s] not in left), left[0])]
            later = (at for at, other in enumerate(order) if is_later(other, ready[0]))
            order.insert(next(later, len(order)), ready[0])
        left = [s for s in left if s not in ready]
    return order


# ---- the run


def fold(records):
    arrays = {"iterations": [], "evals": [], "checkpoints": [], "metrics": []}
    superseded = dict.fromkeys(arrays, 0)
    run = {"config": {}, "metadata": {}, "tags": [], "notes": [], "name": ""}
    statuses, metrics, remarks = {}, Metrics(), []
    run_id = run_id_in(records)

    def supersede(name, is_superseded):
        live = [row for row in arrays[name] if not is_superseded(row)]
        removed = [row for row in arrays[name] if is_superseded(row)]
        superseded[name] += sum(map(n_values, removed)) if name == "metrics" else len(removed)
        arrays[name] = live

    def rewind(to):
        if type(to) is int:
            supersede("iterations", lambda row: row["iter"] >= to)
            supersede("metrics", lambda row: row["step"] >= to)
            supersede("evals", lambda row: row["iter"] > to)
            supersede("checkpoints", lambda row: row["iter"] > to)

    def take(event, i, record):
        fields = record["fields"]
        time = {} if event == "iter" else {"timestamp": record["t"]}
        row = FIRST.get(event, {}) | time | fields
        if event == "iter":
            row["mfu"] = row["mfu"] if type(row["mfu"]) in (int, float) else -100.0
            if arrays["iterations"] and i <= arrays["iterations"][-1]["iter"]:
                rewind(i)
            arrays["iterations"].append(row)
        elif event == "eval":
            supersede("evals", lambda old: old["iter"] >= i)
            arrays["evals"].append(row)
        elif event == "checkpoint":
            supersede("checkpoints", lambda old: (old["iter"], old["path"]) == (i, row["path"]))
            supersede("checkpoints", lambda old: old["iter"] > i)
            arrays["checkpoints"].append(row)
        elif event == "metrics":
            superseded["metrics"] += metrics.add(arrays["metrics"], i, fields, record["s"])

    for record in records:
        event, fields = record["event"], record["fields"]
        if event in ("note", "tag", "rename"):
            is_ours = run_id is None or fields.get("annotates") in (None, run_id)
            remarks += [record] if is_ours else []
        if "annotates" in fields and record["s"] not in statuses:
            continue
        is_first = record["s"] not in statuses
        statuses.setdefault(record["s"], "interrupted")
        number = number_in(event, fields)
        if number is not None:
            take(event, number, record)
        elif event == "rewind" or (event == "open" and is_first):
            rewind(fields.get("to_iter" if event == "rewind" else "from_iter"))
        if event == "open":
            for key in ("config", "metadata"):
                run[key] = dict(fields.get(key) or run[key])
        elif event == "config":
            run["config"] |= fields["config"]
        elif event == "close":
            statuses[record["s"]] = fields["status"]
    for record in sorted(remarks, key=lambda r: (r["t"], r["s"], r["n"])):
        fields = {k: v for k, v in record["fields"].items() if k != "annotates"}
        if record["event"] == "note":
            run["notes"].append({"t": record["t"]} | fields)
        elif record["event"] == "rename":
            run["name"] = fields["name"]
        else:
            tags = set(run["tags"]) - set(fields.get("remove", ()))
            run["tags"] = sorted(tags | set(fields.get("add", ())))
    run |= {ARRAYS.get(name, name): rows for name, rows in arrays.items()}
    status = [*statuses.values()][-1] if statuses else None
    return run | {"superseded": superseded, "sessions": [*statuses], "status": status}


def number_in(event, fields):
    names = {"metrics": ("step", "iter")}.get(event, ("iter",) if event in FIRST else ())
    numbers = (fields.get(name) for name in names)
    return next((n for n in numbers if type(n) is int and -(2**63) <= n < 2**63), None)


class Metrics:
    """Which turn of a session logged each value: by (step, name)."""

    def __init__(self):
        self.session, self.turn, self.owners = None, 0, {}

    def add(self, rows, step, fields, session):
        """Add an event to the rows; how many values it supersedes."""
        if session != self.session:
            self.session, self.turn = session, self.turn + 1
        own = "step" if type(fields.get("step")) is int else "iter"
        fields = {name: value for name, value in fields.items() if name != own}
        n_superseded = 0
        for name in fields:
            for row in [row for row in rows if row["step"] >= step and name in row]:
                is_earlier = self.owners[row["step"], name] != self.turn
                if is_earlier and not (name == "nonfinite" and type(row[name]) is dict):
                    n_superseded += n_values({"step": 0, name: row[name]})
                    row["nonfinite"] = marks_without(row, [name])
                    del row[name]
                    if not row["nonfinite"]:
                        del row["nonfinite"]
        rows[:] = [row for row in rows if len(row) > 1]
        if step not in [row["step"] for row in rows]:
            rows.append({"step": step})
            rows.sort(key=lambda row: row["step"])
        (row,) = [row for row in rows if row["step"] == step]
        n_superseded += self.merge(row, fields)
        self.owners |= {(step, name): self.turn for name in fields}
        return n_superseded

    def merge(self, row, fields):
        before, marks = dict(row), row.get("nonfinite", {})
        stay, new = marks_without(row, fields), fields.get("nonfinite", {})
        row |= fields
        if "nonfinite" in row:
            row["nonfinite"] = stay | new
            if not row["nonfinite"]:
                del row["nonfinite"]
        n_superseded = 0
        for name in fields.keys() & before.keys() - {"nonfinite"}:
            gone = {path: m for path, m in marks.items() if path not in stay}
            same = json_of(before[name]) == json_of(fields[name])
            old_marks = marks_of(name, before[name], gone)
            same = same and old_marks == marks_of(name, fields[name], new)
            n_superseded += 0 if same else n_values({"step": 0, name: before[name]})
        return n_superseded


def json_of(value):
    return json.dumps(value, sort_keys=True)


def marks_of(name, value, marks):
    is_nested = type(value) in (dict, list)
    return {
        path: mark
        for path, mark in marks.items()
        if (path.startswith(name + ".") if is_nested else path == name)
    }


def marks_without(row, names):
    return {
        path: mark
        for path, mark in row.get("nonfinite", {}).items()
        if path not in names and (path in row or not is_of(path, names))
    }


def n_values(row):
    """How many values a row has; an object has as many as it has inside."""
    values = [
        value
        for name, value in row.items()
        if name != "step" and not (name == "nonfinite" and type(value) is dict)
    ]
    return sum(map(n_leaves, values))


def n_leaves(value):
    return sum(map(n_leaves, value.values())) if type(value) is dict else 1


def is_of(path, names):
    return any(path == name or path.startswith(name + ".") for name in names)
