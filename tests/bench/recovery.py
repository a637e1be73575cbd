"""The cost of recovering a journal, of verifying it, and of folding new events."""

from pathlib import Path

import orjson

from eventlog.format.record import encode
from tests.bench import child
from tests.bench.table import Plan, Row

_PARSE = """
import orjson
begun = time.perf_counter()
with open(arguments[0], "rb") as file:
    n = len([orjson.loads(line) for line in file])
report(seconds=time.perf_counter() - begun, events=n)
"""
_RECOVER = """
import eventlog
begun = time.perf_counter()
run = eventlog.compact(arguments[0])
report(seconds=time.perf_counter() - begun, events=run.summary["total_iterations"] + 1)
"""
_READ = """
begun = time.perf_counter()
with open(arguments[0], "rb", buffering=0) as file:
    n = 0
    while chunk := file.read(1 << 16):
        n += chunk.count(b"\\n")
report(seconds=time.perf_counter() - begun, events=n)
"""
_READ_LINES = """
begun = time.perf_counter()
with open(arguments[0], "rb") as file:
    n = sum(1 for line in file)
report(seconds=time.perf_counter() - begun, events=n)
"""
_VERIFY = """
import contextlib, io
from eventlog.cli.main import main
output = io.StringIO()
begun = time.perf_counter()
with contextlib.redirect_stdout(output):
    status = main(["verify", "--json", arguments[0]])
seconds = time.perf_counter() - begun
result = json.loads(output.getvalue())
result = result[0] if isinstance(result, list) else result
assert status == 0, result
report(seconds=seconds, events=result["records"])
"""
_FOLD_ON = """
import fcntl
from eventlog.fold.compaction import write_run
from eventlog.fold.load import Folding
from eventlog.format.record import encode
path, n, more = Path(arguments[0]), int(arguments[1]), 100
writer = path.open("ab", buffering=0)
fcntl.flock(writer, fcntl.LOCK_EX)  # as a live writer has it: nothing is the end yet
folding = Folding(path)
folding.read_on(to_the_end=False)
write_run(folding)
took, cpu = [], []
for k in range(int(arguments[2])):
    for i in range(n + k * more, n + (k + 1) * more):
        fields = {"iter": i, "loss": 2.83 + i * 1e-9, "time_ms": 52.1, "mfu": 31.2, "lr": 6e-4}
        t = "2026-11-23T03:25:01.123456+00:00"
        writer.write(encode(i + 1, "a1b2c3d4", t, "iter", fields))
    begun, cpu_begun = time.perf_counter(), time.process_time()
    folding.read_on(to_the_end=False)
    run = write_run(folding)
    took.append(time.perf_counter() - begun)
    cpu.append(time.process_time() - cpu_begun)
assert run.summary["total_iterations"] == n + (k + 1) * more
report(seconds=min(took), cpu_s=min(cpu), events=n)
"""


def journal_of(folder: Path, n_events: int) -> Path:
    """A journal of `n_events` iterations, no two alike, that nobody closed."""
    path = folder / f"run{n_events}.jsonl"
    t = "2026-11-23T03:25:01.123456+00:00"
    with path.open("wb") as file:
        opening = {"format": 1, "run_id": "r", "run_name": "run"}
        file.write(encode(0, "a1b2c3d4", t, "open", opening))
        for i in range(n_events):
            fields = {"iter": i, "loss": 2.83 + i * 1e-9, "time_ms": 52.1, "mfu": 31.2, "lr": 6e-4}
            file.write(encode(i + 1, "a1b2c3d4", t, "iter", fields))
    return path


def recover(plan: Plan, workdir: Path) -> Row:
    """Verify every byte, fold, write the run JSON; beside parsing the lines and no more."""
    path = journal_of(workdir, plan.events)
    parse_s, ours = float("inf"), {"seconds": float("inf")}
    for _ in range(min(plan.rounds, 3)):
        parsed, recovered = child.run(_PARSE, path), child.run(_RECOVER, path)
        assert (parsed["events"], recovered["events"]) == (plan.events + 1, plan.events + 1)
        parse_s = min(parse_s, parsed["seconds"])
        ours = min(ours, recovered, key=lambda result: result["seconds"])
    document = orjson.loads(path.with_suffix(".json").read_bytes())
    assert document["training_iterations"][-1]["iter"] == plan.events - 1
    ratio, peak_mb = ours["seconds"] / parse_s, ours["peak_mb"]
    return Row(
        f"recover {plan.events:,} events ({path.stat().st_size / 1e6:.0f} MB)",
        "`[orjson.loads(line) for line in file]`",
        "2x, peak 300 MB",
        f"{ratio:.1f}x ({ours['seconds']:.1f} s), peak {peak_mb:.0f} MB",
        ratio <= 2 and peak_mb <= 300,
    )


def verify(plan: Plan, workdir: Path) -> Row:
    """`eventlog verify`, every byte; beside reading the file, as bytes and as lines."""
    path = journal_of(workdir, plan.events)
    best = {"read": float("inf"), "lines": float("inf"), "verify": float("inf")}
    for _ in range(min(plan.rounds, 3)):
        for name, program in (("read", _READ), ("lines", _READ_LINES), ("verify", _VERIFY)):
            result = child.run(program, path)
            assert result["events"] == plan.events + 1, (name, result)
            best[name] = min(best[name], result["seconds"])
    ratio = best["verify"] / best["read"]
    return Row(
        "`eventlog verify` of the same",
        "reading the file",
        "5x",
        f"{ratio:.0f}x ({best['verify']:.1f} s); {best['verify'] / best['lines']:.0f}x of reading "
        "it line by line",
        ratio <= 5,
    )


def fold_a_little_more(plan: Plan, workdir: Path) -> Row:
    """100 iterations more are folded and the run JSON written, in a long run and a short one."""
    short, long = min(1000, plan.events), plan.events
    result = {
        n: child.run(_FOLD_ON, journal_of(workdir, n), n, min(plan.rounds, 5))
        for n in (short, long)
    }
    seconds = result[long]["seconds"]
    return Row(
        f"fold and write a run of {long:,} iterations after 100 more",
        f"the same after {short:,}",
        "0.3 s, cost grows with what is new",
        f"{seconds:.2f} s ({result[long]['cpu_s']:.2f} s of a core), after {short:,}: "
        f"{result[short]['seconds'] * 1000:.0f} ms",
        seconds <= 0.3,
    )


def share_of_a_core(plan: Plan, workdir: Path) -> Row:
    """Ten iterations a second, folded every 100: the processor time of the compactor process."""
    program = """
import os, resource, eventlog
seconds, pause_s = float(arguments[1]), 0.1
begun, i = time.monotonic(), 0
with eventlog.open_run(arguments[0], save_interval=100) as run:
    while time.monotonic() - begun < seconds:
        run.log_iter(i, 2.83, 52.1, 31.2, lr=6e-4)
        i += 1
        time.sleep(pause_s)
took = time.monotonic() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
assert len(eventlog.load_run(run.run_path).training_iterations) == i
report(share=(used.ru_utime + used.ru_stime) / took, used=used.ru_utime + used.ru_stime)
"""
    seconds = plan.seconds * 3
    result = child.run(program, workdir / "out", seconds)
    return Row(
        f"the compactor over a run of {seconds:.0f} s, ten iterations a second",
        "one core",
        "2 %",
        f"{result['share'] * 100:.2f} % ({result['used']:.2f} s, its start included)",
        result["share"] <= 0.02,
    )
