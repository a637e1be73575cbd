"""Random histories of runs, read by two readers: eventlog and the one written from FORMAT.md.

    python -m tests.durability.histories --n 100000 --seed 1

A history is the files of a run: sessions whose clocks step, segments after failed syncs and full
disks, sessions in segments alone, other runs' segments, rewinds, annotations; half of them damaged.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import eventlog
from eventlog.fold.load import Folding
from eventlog.format.files import segment_name
from eventlog.format.record import encode, encode_header
from tests import corrupt
from tests.durability.second_reader import read_run

STEM = "run_20261123_032501"
JOURNAL = f"{STEM}.jsonl"
RUN_ID, OTHER_RUN_ID = "5f0c9a1e" * 4, "0badcafe" * 4
SECOND, HOUR = 1_000_000, 3_600_000_000
FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())

Event = tuple[str, dict[str, Any]]


class Line(NamedTuple):
    """One record as it is written."""

    n: int
    t: int
    data: bytes


class Session:
    """What one session logged, and its place among the others."""

    def __init__(self, s: str, number: int, last: Line) -> None:
        self.s, self.number, self.last = s, number, last


class History:
    """Makes the files of one run: `files`, by path in the folder of the run."""

    def __init__(self, rng: random.Random, fallback: str, *, is_whole: bool = False) -> None:
        self.rng = rng
        self.fallback = fallback
        self.files: dict[str, bytes] = {JOURNAL: b""}
        self.sessions: list[Session] = []
        self.iter = 0
        self.now = 1_700_000_000_000_000
        self.is_old = rng.random() < 0.2  # written before segments had headers
        for k in range(rng.choice((1, 1, 2, 2, 3, 4, 6))):
            self.live(is_first=not k)
            if rng.random() < 0.2:
                self.annotate()
        if rng.random() < 0.3:
            self.live_of_others()
        if is_whole:
            return
        is_mixed = rng.random() < 0.03
        if is_mixed:
            self.mix_up()
        if rng.random() < 0.5:
            self.damage()
        if is_mixed:  # which of equal lines counts is not defined then; the last has its LF
            self.files[JOURNAL] += b"\n"

    # ---- sessions

    def live(self, *, is_first: bool) -> None:
        """One session, from its `open` on."""
        rng, s = self.rng, self.name()
        if rng.random() < 0.4:
            self.now += rng.choice((-1, 1)) * rng.choice((3 * SECOND, 90 * SECOND, 5 * HOUR))
        met = self.sessions
        if len(met) > 1 and rng.random() < 0.1:
            met = met[: rng.randrange(len(met))]  # it did not see the others: another machine
        number = 1 + max((session.number for session in met), default=0)
        events = [("open", self.opening(met, number)), *self.events()]
        lines = [self.line(n, s, *event) for n, event in enumerate(events)]
        self.sessions.append(Session(s, number, lines[-1]))
        self.write(s, lines, alone=not is_first and rng.random() < 0.25)

    def name(self) -> str:
        return self.rng.choice("abcdef") + f"{self.rng.getrandbits(28):07x}"

    def line(self, n: int, s: str, event: str, fields: dict[str, Any]) -> Line:
        self.now += self.rng.choice((0, 1, 52_000))
        seconds, us = divmod(self.now, SECOND)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        day, hour = divmod(hours, 24)
        day -= 19_675
        t = f"2026-11-{day + 10:02}T{hour:02}:{minute:02}:{second:02}.{us:06}+00:00"
        durable = n if self.rng.random() < 0.1 else None
        return Line(n, self.now, encode(n, s, t, event, fields, durable))

    def opening(self, met: list[Session], number: int) -> dict[str, Any]:
        rng = self.rng
        fields: dict[str, Any] = {"format": 1, "run_id": RUN_ID, "run_name": "run"}
        if rng.random() < 0.8:
            fields["config"] = {name: rng.randrange(3) for name in rng.sample("abcd", 2)}
        if rng.random() < 0.5:
            fields["metadata"] = {"rank": rng.randrange(3)}
        fields["fallback"] = self.fallback
        if met and rng.random() < 0.9:
            fields["prev"] = {"s": met[-1].s, "n": met[-1].last.n}
        if not self.is_old and rng.random() < 0.9:
            fields["session_number"] = number
        if met and rng.random() < 0.6:
            self.iter = max(0, self.iter - rng.randrange(5))
            fields["from_iter"] = self.iter
        return fields

    # ---- events

    def events(self) -> list[Event]:
        events = [self.event() for _ in range(self.rng.choice((0, 1, 2, 4, 6, 9, 14, 20)))]
        if self.rng.random() < 0.1:  # as many alike as are read at once
            kind, first = self.rng.choice((("iter", self.iter), ("metrics", self.iter)))
            name = "iter" if kind == "iter" else "step"
            events += [(kind, {name: first + k} | USUAL) for k in range(12)]
            self.iter += 12
        n_ends = self.rng.choice((0, 0, 1, 1, 1, 1, 1, 2))  # two: the program ended otherwise
        for _ in range(n_ends):
            status = self.rng.choice(("completed", "interrupted", "failed"))
            events.append(("close", {"status": status, "reason": None}))
        return events

    def event(self) -> Event:
        rng = self.rng
        kind = rng.choice(KINDS)
        if kind == "iter":
            if rng.random() < 0.1:
                self.iter = max(0, self.iter - rng.randrange(4))
            self.iter += 1
            fields = {"iter": self.iter - 1, "loss": self.value(), "time_ms": 52.1, "mfu": 31.2}
            return kind, dict([*fields.items()][: 4 if rng.random() < 0.9 else 2])
        near = max(-1, self.iter + rng.randrange(-6, 3))
        match kind:
            case "eval":
                return kind, {"iter": near, "train_loss": self.value(), "val_loss": self.value()}
            case "checkpoint":
                return kind, {"iter": near, "path": rng.choice(("ckpt.pt", "best.pt"))}
            case "rewind":
                self.iter = max(0, near)
                return kind, {"to_iter": self.iter}
            case "metrics":
                names = rng.sample(NAMES, rng.randrange(1, 4))
                step = {rng.choice(("step", "step", "iter")): near}
                return kind, step | {name: self.value() for name in names}
            case "config":
                return kind, {"config": {rng.choice("abcd"): rng.randrange(9)}}
            case "note":
                return kind, {"text": f"note {rng.randrange(99)}", "by": "ann"}
            case "tag":
                return kind, {rng.choice(("add", "remove")): rng.sample(TAGS, 2)}
            case "rename":
                return kind, {"name": rng.choice((*TAGS, ""))}
            case "gap":
                return kind, {"dropped": rng.randrange(1, 4), "why": "the disk refused"}
            case "lost_tail" if self.sessions:
                before = rng.choice(self.sessions)
                records = before.last.n + rng.randrange(-1, 4)
                return kind, {"session": before.s, "records": records, "found": before.last.n}
        return "unknown", {"lr": self.value()}

    def value(self) -> Any:
        roll = self.rng.random()
        if roll < 0.8:
            return round(self.rng.uniform(0, 9), 3)
        return self.rng.choice((float("nan"), float("inf"), 0, -1, {"b": float("nan"), "c": 1}))

    # ---- files

    def write(self, s: str, lines: list[Line], *, alone: bool) -> None:
        """Into the journal, or if it fails into segments; `alone`: into segments only."""
        rng, parts = self.rng, [lines]
        while len(parts[-1]) > 2 and len(parts) < 4 and rng.random() < 0.35:
            at = rng.randrange(1, len(parts[-1]))
            parts[-1:] = [parts[-1][:at], parts[-1][at:]]
        for k, part in enumerate(parts):
            folder = rng.choice(("", "fallback/"))
            if k and not alone and rng.random() < 0.3:
                folder = "elsewhere/"
                self.point_to(s, k - 1, part, folder)
            if k and rng.random() < 0.6:  # a sync failed: what was not durable is written again
                part = parts[k - 1][-rng.randrange(1, 4) :] + part
            if k or alone:
                self.write_segment(s, k - (not alone), part, folder)
            else:
                if len(parts) > 1 and rng.random() < 0.3:  # and the file has holes
                    part = part[: -rng.randrange(1, 3)]
                self.files[JOURNAL] += b"".join(line.data for line in part)

    def point_to(self, s: str, number: int, part: list[Line], folder: str) -> None:
        """The journal says where the session goes on, by a record that is in the segment too."""
        fields = {
            "file": self.segment_name(s, number),
            "folder": str(Path(self.fallback).with_name(folder[:-1])),
            "number": number,
            "first_n": part[0].n,
        }
        k = self.rng.randrange(len(part))
        part[k] = self.line(part[k].n, s, "segment", fields)
        self.files[JOURNAL] += part[k].data

    def segment_name(self, s: str, number: int, run_id: str = RUN_ID) -> str:
        if self.is_old:
            return f"{STEM}.{s}.{number}.segment"
        return segment_name(STEM, run_id, s, number)

    def write_segment(
        self, s: str, number: int, lines: list[Line], folder: str, run_id: str = RUN_ID
    ) -> None:
        header = encode_header(
            run_id=run_id,
            journal=JOURNAL,
            session=s,
            number=number,
            first_n=lines[0].n,
            s=self.name(),
            t="2026-11-23T03:25:01.000000+00:00",
        )
        data = b"".join(line.data for line in lines)
        name = folder + self.segment_name(s, number, run_id)
        self.files[name] = data if self.is_old else header + data

    def annotate(self) -> None:
        """Another program adds an annotation to the run."""
        s, rng = self.name(), self.rng
        of = rng.choice((RUN_ID, RUN_ID, None, OTHER_RUN_ID))
        lines = []
        for n in range(rng.randrange(1, 3)):
            event = rng.choice(("note", "tag", "rename", "alert"))
            fields = {"tag": {"add": rng.sample(TAGS, 1)}, "rename": {"name": rng.choice(TAGS)}}
            fields = fields.get(event, {"text": "lr too high?"})
            lines.append(self.line(n, s, event, fields | {"annotates": of}))
        self.files[f"{STEM}.{s}.0.segment"] = b"".join(line.data for line in lines)

    def live_of_others(self) -> None:
        """A run of the same stem in another folder has its segments in the same fallback."""
        for _ in range(self.rng.randrange(1, 3)):
            s = self.name()
            lines = self.lines_of_another(s)
            if self.rng.random() < 0.1:  # and somebody has put the two journals together
                self.files[JOURNAL] += b"".join(line.data for line in lines)
                continue
            at = self.rng.randrange(len(lines))
            self.write_segment(s, 0, lines[at:], "fallback/", OTHER_RUN_ID)

    def lines_of_another(self, s: str) -> list[Line]:
        first = ("open", {"format": 1, "run_id": OTHER_RUN_ID, "run_name": "run"})
        events = [first, *self.events()]
        return [self.line(n, s, *event) for n, event in enumerate(events)]

    def mix_up(self) -> None:
        """Two sessions write at the same time: their lines alternate."""
        lines = self.files[JOURNAL].splitlines(keepends=True)
        at = self.rng.randrange(len(lines) + 1)
        one, other = lines[:at], lines[at:]
        mixed = []
        while one or other:
            n = self.rng.randrange(1, 5)
            mixed += one[:n]
            one, other = other, one[n:]
        self.files[JOURNAL] = b"".join(mixed)

    # ---- damage

    def damage(self) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            path = self.rng.choice([*self.files])
            if path != JOURNAL and self.rng.random() < 0.2:
                del self.files[path]
            elif self.files[path]:
                self.files[path] = self.accident(self.files[path])

    def accident(self, data: bytes) -> bytes:
        rng = self.rng
        at, size = rng.randrange(len(data)), rng.choice((1, 2, 8, 40, 200, 600))
        lines = data.splitlines(keepends=True)
        begin, n = rng.randrange(len(lines)), rng.randrange(1, 4)
        match rng.randrange(10):
            case 0:
                return corrupt.flip_bit(data, at, rng.randrange(8))
            case 1:
                return corrupt.set_byte(data, at, rng.randrange(256))
            case 2:
                return corrupt.zero_block(data, at, size)
            case 3:
                return corrupt.cut_tail(data, size)
            case 4:
                return corrupt.delete(data, at, size)
            case 5:  # two lines are one
                return b"".join([*lines[:begin], lines[begin][:-1], *lines[begin + 1 :]])
            case 6:
                return b"".join(lines[:begin] + lines[begin + n :])
            case 7:
                again = lines[begin : begin + n]
                to = rng.randrange(len(lines) + 1)
                return b"".join(lines[:to] + again + lines[to:])
            case 8:
                return data.replace(b"\n", b"\r\n")
            case _:
                return corrupt.insert(data, at, rng.randbytes(size))


KINDS = (
    *("iter",) * 12,
    *("metrics",) * 6,
    *("eval",) * 3,
    *("checkpoint",) * 2,
    *("rewind", "config", "note", "tag", "rename", "gap", "lost_tail", "unknown"),
)
USUAL = {"loss": 2.5, "time_ms": 52.1, "mfu": 31.2}
NAMES = ("a", "b", "a.b", "loss", "val/acc")
TAGS = ("good", "bad", "ugly")


# ---- the comparison


def ours(folding: Folding) -> dict[str, Any] | None:
    """What eventlog reads; None: no whole record."""
    folding.read_on(to_the_end=True)
    try:
        run = folding.run(alive=False)
    except eventlog.UnreadableRun:
        return None
    about = run.journal
    return {
        "training_iterations": list(run.training_iterations),
        "eval_steps": list(run.eval_steps),
        "checkpoints": list(run.checkpoints),
        "metrics": list(run.metrics),
        "config": run.config,
        "metadata": run.metadata,
        "tags": about["tags"],
        "name": about.get("name", ""),
        "notes": about["notes"],
        "superseded": {"metrics": 0} | about["superseded"],
        "sessions": [session["s"] for session in about["sessions"]],
        "status": run.status if about["sessions"] else None,
        "lost_events": sum(defect.lost or 0 for defect in folding.reader.defects),
    }


def disagreements(folder: Path, seed: str) -> list[str]:
    """Differences between the two readers' results for the history of `seed`."""
    return differing(*both(folder, seed))


def differing(first: dict[str, Any] | None, second: dict[str, Any]) -> list[str]:
    """Differences between two results; none if there is no run to be read."""
    return [] if first is None else [key for key in first if text(first[key]) != text(second[key])]


def both(folder: Path, seed: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    write(folder, seed)
    journal = folder / JOURNAL
    return ours(Folding(journal)), read_run(journal)


def disagreements_while_it_grows(folder: Path, seed: str) -> list[str]:
    """As `disagreements`, of an undamaged history that eventlog reads while it grows."""
    write(folder, seed, is_whole=True)
    rng, journal = random.Random(f"{seed} grows"), folder / JOURNAL
    whole = {path: path.read_bytes() for path in [journal, *sorted(folder.rglob("*.segment"))]}
    begin = rng.randrange(len(whole[journal]) + 1)
    journal.write_bytes(whole[journal][:begin])
    later = whole[journal][begin:]
    for path in whole:  # a session that will begin in the journal has no segment yet
        if path == journal:
            continue
        if path.name.split(".")[-3].encode() in later or rng.random() < 0.5:
            path.unlink()
    folding = Folding(journal)
    folding.read_on(to_the_end=False)
    for path, data in whole.items():
        with open(path, "ab") as file:
            file.write(data[path.stat().st_size :])
    if rng.random() < 0.5:
        folding.read_on(to_the_end=False)
    return differing(ours(folding), read_run(journal))


def write(folder: Path, seed: str, *, is_whole: bool = False) -> None:
    fallback = folder / "fallback"
    for old in (folder, fallback, folder / "elsewhere"):
        old.mkdir(exist_ok=True)
        for path in old.iterdir():
            if path.is_file():
                path.unlink()
    history = History(random.Random(seed), str(fallback), is_whole=is_whole)
    for name, data in history.files.items():
        (folder / name).write_bytes(data)


def text(value: Any) -> str:
    """As JSON: 1 and 1.0 are not the same, and the order of names counts in rows."""
    return json.dumps(value, sort_keys=isinstance(value, dict))


def run(n: int, seed: int, progress: bool = False) -> list[tuple[str, list[str]]]:
    """The seeds of all histories of `n` that the two do not agree on, and on what."""
    differences = []
    folder = Path(tempfile.mkdtemp(dir=FAST))
    try:
        for k in range(n):
            keys = disagreements(folder, f"{seed}.{k}")
            if keys:
                differences.append((f"{seed}.{k}", keys))
            if progress and k % 200 == 199:
                bar = "#" * (40 * (k + 1) // n)
                print(f"\r[{bar:40}] {k + 1:,} of {n:,}", end="", file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    differences = run(arguments.n, arguments.seed, progress=sys.stderr.isatty())
    for seed, keys in differences[:20]:
        print(f"seed {seed}: {', '.join(keys)}")
    print(f"{len(differences):,} disagreements in {arguments.n:,} histories")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
