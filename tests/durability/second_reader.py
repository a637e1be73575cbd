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
    return fold(files.ordered(), files.run_id) | {"lost_events": files.lost_events()}


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
        self.run_id = None
        self.foreign = set()  # sessions of another run, from their `open` on
        self.numbers = {}  # session -> the numbers of its records
        self.met = {}  # session -> the highest number of it that a `prev` names
        self.folders = [journal.parent]
        self.groups = []  # of the journal: records of one session that follow each other
        for record in self.admitted(journal):
            if not self.groups or self.groups[-1][0]["s"] != record["s"]:
                self.groups.append([])
            self.groups[-1].append(record)
        self.segments = {}  # session -> the records of each of its segments
        for folder in self.folders:  # it may grow
            found = []
            for path in folder.glob("*.segment") if folder.is_dir() else ():
                name = self.parsed(path.name)
                if name:
                    found.append((*name, path))
            for _, s, path in sorted(found):
                self.segments.setdefault(s, []).append(list(self.admitted(path)))
        self.segments = {s: files for s, files in self.segments.items() if any(files)}

    def parsed(self, name):
        """The number and the session of a segment of this run."""
        stem = re.escape(self.journal.stem)
        match = re.fullmatch(stem + r"(?:\.(.{8}))?\.([0-9a-f]{8})\.(\d+)\.segment", name)
        run = re.sub(r"[^0-9A-Za-z_-]", "_", self.run_id or "")[:8].ljust(8, "_")
        if match and match[1] in (None, run):
            return int(match[3]), match[2]
        return None

    def admitted(self, path):
        """The records of a file that were not seen before and are of this run."""
        for k, record in enumerate(records_in(path.read_bytes())):
            s, n, fields = record["s"], record["n"], record["fields"]
            if k == 0 and record["event"] == "segment" and n == 0 and "session" in fields:
                if fields.get("run_id") != self.run_id:
                    return
                continue
            if n in self.numbers.setdefault(s, set()):
                continue
            self.numbers[s].add(n)
            if record["event"] == "open":
                self.note_open(s, fields)
            self.note_folder(record["event"], fields)
            if s not in self.foreign:
                yield record

    def note_open(self, s, fields):
        self.run_id = self.run_id or fields.get("run_id")
        if fields.get("run_id") not in (None, self.run_id):
            self.foreign.add(s)
        prev = fields.get("prev")
        if prev:
            self.met[prev["s"]] = max(prev["n"], self.met.get(prev["s"], -1))

    def note_folder(self, event, fields):
        folder = fields.get({"open": "fallback", "segment": "folder"}.get(event))
        if folder and Path(folder) not in self.folders:
            self.folders.append(Path(folder))

    def ordered(self):
        """All records, session by session."""
        blocks = []  # of the records of one session
        there = set()
        for group in self.groups:
            s = group[0]["s"]
            blocks.append(group if s in there else merged([group, *self.segments.get(s, [])]))
            there.add(s)
        alone = [merged(files) for s, files in self.segments.items() if s not in there]
        alone.sort(key=lambda block: (number_of(block) or 0, *begin_of(block)))
        self.alone = {block[0]["s"] for block in alone}
        while alone:
            there = {block[0]["s"] for block in blocks}
            following = next((block for block in alone if prev_of(block) in there), alone[0])
            alone.remove(following)
            blocks.insert(self.place(following, blocks), following)
        return [record for block in blocks for record in block]

    def place(self, block, blocks):
        """Where a session that is in segments alone belongs."""
        number, prev = number_of(block), prev_of(block)
        names = [other[0]["s"] for other in blocks]
        if prev in names:
            at = len(names) - names[::-1].index(prev)
            while at < len(blocks) and self.is_before(blocks[at], block):
                at += 1
            return at
        for at, other in enumerate(blocks):
            if number and (number_of(other) or 0) > number:
                return at
            if not number and begin_of(other)[0] > begin_of(block)[0]:
                return at
        return len(blocks)

    def is_before(self, other, block):
        numbers = number_of(other), number_of(block)
        if None not in numbers and numbers[0] != numbers[1]:
            return numbers[0] < numbers[1]
        is_like = other[0]["s"] in self.alone and prev_of(other) == prev_of(block)
        return is_like and begin_of(other) < begin_of(block)

    def lost_events(self):
        ends = {s: max(numbers) + 1 for s, numbers in self.numbers.items()}
        missing = sum(ends[s] - len(numbers) for s, numbers in self.numbers.items())
        return missing + sum(max(0, n + 1 - ends.get(s, 0)) for s, n in self.met.items())


def merged(streams):
    """The records of one session from several files: always the lowest number that is next."""
    streams = [list(stream) for stream in streams if stream]
    records = []
    while streams:
        lowest = min(streams, key=lambda stream: stream[0]["n"])
        records.append(lowest.pop(0))
        streams = [stream for stream in streams if stream]
    return records


def opened(block):
    return next((record["fields"] for record in block if record["event"] == "open"), {})


def number_of(block):
    return opened(block).get("session_number")


def prev_of(block):
    return (opened(block).get("prev") or {}).get("s")


def begin_of(block):
    return block[0]["t"], block[0]["s"]


# ---- the run


def fold(records, run_id):
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
    for record in records:
        s, event, fields = record["s"], record["event"], record["fields"]
        if event in ("note", "tag") and fields.get("annotates") in (None, run_id):
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
