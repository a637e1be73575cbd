"""Real power losses: what was reported as durable is there afterwards, on ext4 and on XFS.

A writer process logs into a file system of its own, which is shut down at some moment as by a
power cut; what it reported before is in memory outside of it. The long form, 40 cuts on each file
system with their numbers:

    pytest -m slow tests/durability/test_power_loss.py        (POWER_CUTS=200 for more)

This cannot show that the folder is synced after a file is created in it: on both file systems the
name of a new file becomes durable with the first sync of the file.
"""

import ctypes
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import orjson
import pytest

import eventlog
from eventlog.format.files import run_path
from eventlog.format.record import decode
from eventlog.read.scanner import scan_file
from tests.durability import bare_writer
from tests.durability.bare_writer import Syncs
from tests.durability.filesystems import MAKE, sync_beside, sync_range
from tests.durability.writer import Writer, checkpoint_of, loss_of

TRIALS = int(os.environ.get("POWER_CUTS", "40"))
CHECKPOINT_BYTES = 1 << 20
PAGE_BYTES = 4096
SCHEDULING_S = 0.3  # for a thread to get its turn on a machine that has other things to do
MOMENTS = ("any", "durable", "opened", "any", "durable")
"""When the power goes: some time; when more was reported durable; when the run was opened."""
TAIL = {"torn", "nul", "damaged", "glued", "gap", "unterminated"}
"""What a power loss may leave of lines that were not durable yet."""


@dataclass
class Loss:
    """What one power cut cost, and what was found afterwards."""

    moment: str
    durable: int = 0  # records that were reported to survive
    events: int = 0  # accepted, not durable yet, and gone
    seconds: float = 0.0  # how long ago the oldest of them had been accepted
    n_checkpoints: int = 0  # checkpoint events that survived; each has its file
    defects: set[str] = field(default_factory=set)
    compact_code: int = 0


def cut_power(disk, folder, seed, *, sync_interval_s, longest_s):
    """One trial: a run, a power cut, a restart, all promises checked; what it cost."""
    chances = random.Random(seed)
    loss = Loss(moment=MOMENTS[seed % len(MOMENTS)])
    out = disk.path / "out"
    settings = {
        "rate": 50 * 20 ** chances.random(),
        "sync_interval_s": sync_interval_s,
        "save_interval": 20,
        "checkpoint_bytes": chances.choice((0, 0, 1 << 20, 16 << 20)),
        "checkpoint_pause_s": chances.uniform(0.1, 1.5),
        "sync_delay_s": chances.choice((0, 0.1)),
    }
    life_s = chances.uniform(0.05, longest_s)
    snapshots, before_cut = [], b""

    with Writer(out, folder / f"report{seed}", **settings) as writer:
        report = writer.report
        writer.wait_until(lambda report: report.opened)
        if loss.moment != "opened":
            (journal,) = out.glob("*.jsonl")
            snapshots = watch(run_path(journal), life_s)
        if loss.moment == "durable":
            seen = report.durable
            writer.wait_until(lambda report: report.durable > seen)
        else:
            before_cut = b"".join(path.read_bytes() for path in out.glob("*.jsonl"))
        accepted = report.accepted
        sync_began, cut_at = report.sync_began, time.time()
        loss.durable = writer.lose_power(disk)
    disk.restart()

    (journal,) = out.glob("*.jsonl")  # it is there, once open_run has returned
    records, defects = read(journal)
    check_durable_records(records, loss.durable)
    loss.n_checkpoints = check_checkpoints(records)
    check_run_json(run_path(journal), snapshots)
    loss.compact_code = check_compact(journal, records)
    check_resume(journal, records)

    loss.events = max(0, accepted - len(records))
    loss.defects = {defect.kind for defect in defects}
    assert loss.defects <= TAIL
    survivors = {record.n for record in records}
    ages = {r.n: cut_at - unix_time(r.t) for r in whole_records(before_cut) if r.n not in survivors}
    loss.seconds = max(ages.values(), default=0.0)
    sync_s = max(report.longest_sync_s, cut_at - sync_began if sync_began else 0.0)
    assert loss.seconds <= sync_interval_s + sync_s + SCHEDULING_S
    return loss


def watch(path, life_s):
    """The last two states of a run JSON, read again and again for a while."""
    states, end = [], time.monotonic() + 30
    while time.monotonic() < end:
        if path.exists():
            document = path.read_bytes()
            if not states:
                end = time.monotonic() + life_s
            if states[-1:] != [document]:
                states = [*states[-1:], document]
        time.sleep(0.002)
    return states


def check_durable_records(records, durable):
    """All that was reported as durable is there and in order, with the logged values."""
    assert [record.n for record in records[:durable]] == list(range(durable))
    iterations = [record.fields for record in records if record.event == "iter"]
    n_durable = sum(record.event == "iter" for record in records[:durable])
    assert [row["iter"] for row in iterations[:n_durable]] == list(range(n_durable))
    assert [row["loss"] for row in iterations] == [loss_of(row["iter"]) for row in iterations]


def check_checkpoints(records):
    """A checkpoint event that survived names a whole file: that checkpoint or a later one."""
    events = [record.fields for record in records if record.event == "checkpoint"]
    for event in events:
        with open(event["path"], "rb") as file:
            content = file.read()
        i = int(content[:20])
        assert i == event["iter"] or (i > event["iter"] and event["path"].endswith("latest.pt"))
        assert content == checkpoint_of(i, event["size_bytes"])
    return len(events)


def check_run_json(path, seen):
    """The run JSON is whole: one of the last two that were read, or a later one."""
    if len(seen) == 2:
        assert path.exists()
    if path.exists():
        document = path.read_bytes()
        losses = losses_in(document)
        assert losses == [loss_of(i) for i in range(len(losses))]
        assert document in seen or len(losses) >= max(map(len, map(losses_in, seen)), default=0)


def check_compact(journal, records):
    """`eventlog compact` recovers the run and exits with 0, or 3 if the loss cannot be known."""
    command = [sys.executable, "-m", "eventlog", "compact", str(journal.parent)]
    done = subprocess.run(command, capture_output=True, text=True)

    run = orjson.loads(run_path(journal).read_bytes())
    iterations = [row["iter"] for row in run["training_iterations"]]
    assert done.returncode in (0, 3), done.stderr
    assert iterations == [record.fields["iter"] for record in records if record.event == "iter"]
    assert run["journal"]["status"] == "interrupted"
    return done.returncode


def check_resume(journal, records):
    """The next session appends readable lines; a torn tail is saved, byte for byte."""
    tail = journal.read_bytes().rpartition(b"\n")[2]
    begin = max((r.fields["iter"] + 1 for r in records if r.event == "iter"), default=0)

    with eventlog.open_run(journal=journal, from_iter=begin, save_interval=0) as run:
        for i in range(begin, begin + 20):
            run.log_iter(i, loss_of(i))

    after, _ = read(journal)
    assert after[: len(records)] == records
    added = [r.fields["iter"] for r in after[len(records) :] if r.event == "iter"]
    assert added == list(range(begin, begin + 20))
    if tail and decode(tail) is None:
        (saved,) = journal.parent.glob("*.torn")
        assert saved.read_bytes() == tail


def read(journal):
    scanner = eventlog.Scanner()
    return list(scan_file(journal, scanner)), scanner.defects


def whole_records(data):
    return eventlog.Scanner().feed(data)


def losses_in(document):
    return [row["loss"] for row in orjson.loads(document)["training_iterations"]]


def unix_time(t):
    return datetime.fromisoformat(t).timestamp()


@pytest.mark.parametrize("kind", MAKE)
def test_records_reported_as_durable_survive_a_power_loss(tmp_path, kind):
    for seed in range(3):
        with MAKE[kind](tmp_path, 1 << 30) as disk:
            cut_power(disk, tmp_path, seed, sync_interval_s=0.1, longest_s=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
def test_records_reported_as_durable_survive_many_power_losses(tmp_path, kind, capsys):
    losses = []
    for seed in range(TRIALS):
        with MAKE[kind](tmp_path, 1 << 30) as disk:
            try:
                loss = cut_power(disk, tmp_path, seed, sync_interval_s=1.0, longest_s=5.0)
            except AssertionError as error:
                error.add_note(f"{kind}, seed {seed}, after {len(losses)} good trials")
                raise
        losses.append(loss)

    with capsys.disabled():
        print(f"\n{summary(kind, losses)}")
    assert sum(loss.durable for loss in losses) > 50 * TRIALS  # else it would prove nothing


def summary(kind, losses):
    """The numbers of a series of trials as text."""
    random_cuts = [loss for loss in losses if loss.moment == "any"]
    seconds = sorted(loss.seconds for loss in random_cuts)
    events = sorted(loss.events for loss in random_cuts)
    defects = Counter(kind for loss in losses for kind in loss.defects)
    return (
        f"{kind}: {len(losses)} power cuts, {sum(loss.durable for loss in losses):,} records "
        f"reported durable, 0 of them missing; {sum(loss.n_checkpoints for loss in losses)} "
        f"checkpoint events, each with its whole file; left by the cut: {dict(defects)}; exit "
        f"codes of compact: {dict(Counter(loss.compact_code for loss in losses))}\n"
        f"  the tail not yet durable, lost in the {len(random_cuts)} cuts at a random moment: "
        f"median {statistics.median(seconds):.2f} s, longest {seconds[-1]:.2f} s; median "
        f"{statistics.median(events):.0f} events, most {events[-1]}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
def test_only_syncs_under_way_at_a_cut_report_what_is_lost(tmp_path, kind, capsys):
    """With nothing of ours in between: which reports of a sync a trial may count."""
    n_false = 0
    for seed in range(TRIALS):
        with MAKE[kind](tmp_path) as disk:
            report = tmp_path / f"syncs{seed}"
            report.write_bytes(bytes(ctypes.sizeof(Syncs)))
            syncs = Syncs.at(report)
            command = [sys.executable, bare_writer.__file__, str(disk.path), str(report)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                while not syncs.durable:
                    time.sleep(0.001)
                time.sleep(random.Random(seed).uniform(0, 0.1))
                durable = syncs.durable
                disk.power_cut()
                cut_at = time.time()
                process.wait()
            disk.restart()

            left_bytes = (disk.path / "file").stat().st_size
            assert left_bytes >= durable
            assert left_bytes >= syncs.durable or syncs.began < cut_at
            n_false += left_bytes < syncs.durable
    with capsys.disabled():
        print(f"\n{kind}: {n_false} of {TRIALS} cuts came while a sync then reported lost bytes")


# ---- what a cut at one known moment leaves


@pytest.mark.parametrize("kind", MAKE)
def test_every_line_around_a_hole_is_read_and_the_gap_is_reported_exactly(
    tmp_path, kind, monkeypatch
):
    """100 synced lines, lines that never reached the disk, and good lines after those."""
    with MAKE[kind](tmp_path) as disk:
        monkeypatch.setenv("XDG_STATE_HOME", str(disk.path / "state"))  # lost as well
        run = eventlog.open_run(disk.path / "out", save_interval=0, sync_interval_s=3600)
        log(run, range(100))
        assert run.sync()
        log(run, range(100, 300))
        begin = -(-run.journal_path.stat().st_size // PAGE_BYTES) * PAGE_BYTES
        log(run, range(300, 500))
        written = run.journal_path.read_bytes()
        sync_range(run.journal_path, begin, len(written))
        sync_beside(disk.path / "beside")
        disk.power_cut()
        run.close()
        disk.restart()

        left = run.journal_path.read_bytes()
        whole = [r for r in whole_records(written) if same(left, written, r)]
        missing = sorted({r.n for r in whole_records(written)} - {r.n for r in whole})
        records, defects = read(run.journal_path)
        assert missing == list(range(missing[0], missing[-1] + 1))
        assert missing[0] > 100
        assert whole[-1].n == 500  # there are good lines behind the hole
        assert [(r.n, r.fields) for r in records] == [(r.n, r.fields) for r in whole]
        assert [(d.first_n, d.last_n, d.lost) for d in defects if d.lost] == [
            (missing[0], missing[-1], len(missing))
        ]
        assert check_compact(run.journal_path, records) == 3
        check_resume(run.journal_path, records)


def log(run, iterations):
    for i in iterations:
        run.log_iter(i, loss_of(i), 50.0, 3.0)


def same(left, written, record):
    stretch = slice(record.offset, record.offset + record.size_bytes)
    return left[stretch] == written[stretch]


@pytest.mark.parametrize("kind", MAKE)
def test_an_event_that_is_urgent_does_not_wait_for_the_interval(tmp_path, kind):
    with (
        MAKE[kind](tmp_path) as disk,
        Writer(
            disk.path / "out",
            tmp_path / "report",
            sync_interval_s=3600,
            checkpoint_bytes=CHECKPOINT_BYTES,
        ) as writer,
    ):
        writer.wait_until(lambda report: report.durable > 1)
        durable = writer.lose_power(disk)
        writer.kill()
        disk.restart()

        (journal,) = (disk.path / "out").glob("*.jsonl")
        records, _ = read(journal)
        check_durable_records(records, durable)
        assert check_checkpoints(records) >= 1


@pytest.mark.parametrize("kind", MAKE)
def test_a_renamed_file_has_durable_content(tmp_path, kind):
    """Another file's sync makes names durable, not bytes: on XFS that reveals a late sync."""
    out = tmp_path / kind / "out"
    latest = out / "latest.pt"
    with (
        MAKE[kind](tmp_path) as disk,
        Writer(
            out,
            tmp_path / "report",
            checkpoint_bytes=CHECKPOINT_BYTES,
            checkpoint_pause_s=0.05,
            sync_delay_s=0.05,
        ) as writer,
    ):
        writer.wait_until(lambda report: latest.exists())
        before = latest.stat().st_ino
        writer.wait_until(lambda report: latest.stat().st_ino != before)
        sync_beside(disk.path / "beside")
        disk.power_cut()
        writer.kill()
        disk.restart()

        content = latest.read_bytes()
        assert content == checkpoint_of(int(content[:20]), CHECKPOINT_BYTES)


@pytest.mark.parametrize("kind", MAKE)
def test_events_in_the_run_json_are_durable_in_the_journal(tmp_path, kind):
    """Otherwise folding the journal again after the cut would remove events that had survived."""
    out = tmp_path / kind / "out"
    with (
        MAKE[kind](tmp_path) as disk,
        Writer(out, tmp_path / "report", sync_interval_s=3600, save_interval=20) as writer,
    ):
        writer.wait_until(lambda report: report.opened)
        (journal,) = out.glob("*.jsonl")
        states = watch(run_path(journal), 0.8)
        disk.power_cut()
        writer.kill()
        disk.restart()

        records, _ = read(journal)
        in_json = losses_in(run_path(journal).read_bytes())
        assert len(in_json) >= len(losses_in(states[0])) > 0
        in_journal = [r.fields["loss"] for r in records if r.event == "iter"]
        assert in_journal[: len(in_json)] == in_json
