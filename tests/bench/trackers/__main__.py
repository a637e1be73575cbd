"""`python -m tests.bench.trackers`: all that are installed, all tests, tests/bench/RESULTS.md.

A quick run is printed and changes nothing.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eventlog.disk import file_system_of
from tests.bench.table import machine
from tests.bench.trackers import harness, missing_packages, report, trackers
from tests.bench.trackers.harness import FULL, QUICK, TESTS, Bench, Plan

ALL_TESTS = (*TESTS, "cost", "power")
Results = report.Results


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: everything that is installed was run."""
    options = _parser().parse_args(arguments)
    all_trackers = trackers()
    names = [
        n for n, tracker in all_trackers.items() if _is_selected(n, tracker.PACKAGES, options.only)
    ]
    for name in list(names):
        missing = missing_packages(all_trackers[name])
        if missing:
            names.remove(name)
            say(f"{name}: not installed ({', '.join(missing)})")
    if len(names) < len(all_trackers):
        say("to have all: pip install -e '.[peers]'")
    tests = options.tests.split(",") if options.tests else ALL_TESTS
    unknown = set(tests) - set(ALL_TESTS)
    if unknown or not names:
        say(f"nothing to run: unknown tests {sorted(unknown)}, trackers {names}")
        return 2
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="trackers-") as workdir:
        results = run(names, tests, plan, Path(workdir), seed=options.seed, jobs=options.jobs)
        where = f"{machine()}, {file_system_of(Path(workdir))}; seed {options.seed}"
        where += f", {options.jobs} trackers at a time (cost: one)" if options.jobs > 1 else ""
    for by_test in results.values():
        for summary in by_test.values():
            summary["run"] = where
    if options.quick:
        print(report.render(results))
        return 0
    earlier = report.load()
    for name, by_test in results.items():
        earlier.setdefault(name, {}).update(by_test)
    report.save(earlier)
    say(f"written: {report.RESULTS_MD}")
    return 0


def run(
    names: list[str], tests: Any, plan: Plan, workdir: Path, *, seed: int = 1, jobs: int = 1
) -> Results:
    """Results by tracker and test. A test that fails has the error as its result."""
    benches = [Bench(name, workdir / name, plan, seed) for name in names]
    results: Results = {bench.name: {"who": who(bench)} for bench in benches}

    def alone(bench: Bench) -> None:
        for test in (test for test in TESTS if test in tests):
            begin = time.monotonic()
            results[bench.name][test] = attempt(getattr(bench, test))
            say(f"{bench.name}: {test}, {time.monotonic() - begin:.0f} s")

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(alone, benches))
        if "cost" in tests:
            for name, summary in harness.cost(benches, plan, say).items():
                results[name]["cost"] = summary
        if "power" in tests and plan.power:
            for kind, label in (("ext4", "power ext4"), ("xfs", "power XFS")):
                for name, summary in lose_power(benches, kind, plan, workdir, seed).items():
                    results[name][label] = summary
    finally:
        for bench in benches:
            bench.close()
    return results


def attempt(test: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return test()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def lose_power(
    benches: list[Bench], kind: str, plan: Plan, workdir: Path, seed: int
) -> dict[str, dict[str, Any]]:
    """All cuts on one kind of file system, summed up; empty if they are not possible here."""
    try:
        from tests.durability.filesystems import Unavailable
    except ImportError:
        say("no power cuts: tests/durability/filesystems.py is not here")
        return {}
    trials = []
    for trial in range(plan.power):
        try:
            trials.append(harness.power(benches, kind, workdir, seed + trial, say))
        except Unavailable as error:
            say(f"no power cuts on {kind}: {error}")
            return {}
    return {bench.name: harness.sum_up([t[bench.name] for t in trials]) for bench in benches}


def who(bench: Bench) -> dict[str, Any]:
    package = bench.tracker.PACKAGES[0] if bench.tracker.PACKAGES else None
    return {
        "version": "this tree" if package == "eventlog" else version(package) if package else "-",
        "setup": bench.tracker.VARIANTS[bench.name],
        "promise": bench.tracker.PROMISE,
    }


def _is_selected(name: str, packages: Any, only: str | None) -> bool:
    return (
        only is None or name in only.split(",") or any(p in only.split(",") for p in packages[:1])
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.trackers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few trials; prints, changes nothing")
    parser.add_argument("--only", help="trackers or packages, separated by commas")
    parser.add_argument("--tests", help=f"of {','.join(ALL_TESTS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jobs", type=int, default=2, help="trackers at the same time (not for cost)"
    )
    parser.add_argument("--workdir", help="a folder on the disk to test on; default: temporary")
    return parser


_saying = threading.Lock()


def say(text: str) -> None:
    with _saying:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
