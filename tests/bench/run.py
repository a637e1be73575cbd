"""python -m tests.bench.run: the cost of the journal, of reading it and of the training.

Each row is the ratio of two measurements that alternate on this machine, and checks what it
measured. Without --quick the table in RESULTS.md is written. Rows that need a library which is not
installed are left out with a message: `pip install -e '.[test,peers]'`, and `--nanogpt=PATH` for a
checkout of github.com/karpathy/nanoGPT.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import calls, growth, reading, recovery, table, training
from tests.bench.table import FULL, QUICK, Plan, Row

Measurement = Callable[[Plan, Path], Row]

ROWS: dict[str, Measurement] = {
    "call": calls.hot,
    "log": calls.log,
    "call beside peers": calls.beside_peers,
    "call beside a checkpoint": calls.beside_a_checkpoint,
    "recover": recovery.recover,
    "verify": recovery.verify,
    "fold": recovery.fold_a_little_more,
    "compactor": recovery.share_of_a_core,
    "load": reading.load,
    "import": reading.start_of_import,
    "start": reading.start_of_command,
    "logging": training.logging_on_and_off,
    "prepare": training.prepare_text,
}


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: every requested row was measured, whatever its result."""
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    measurements = dict(ROWS)
    if options.nanogpt is not None:
        measurements |= training.beside_nanogpt(options.nanogpt)
    names = options.only.split(",") if options.only else [*measurements, "growth"]
    unknown = [name for name in names if name not in (*measurements, "growth")]
    if unknown:
        say(f"no such row: {', '.join(unknown)}; there are {', '.join([*measurements, 'growth'])}")
        return 2
    rows: dict[str, Row] = {}
    for name in names:
        if name == "growth":
            continue
        with tempfile.TemporaryDirectory(dir=options.workdir, prefix="bench-") as workdir:
            try:
                rows[name] = measurements[name](plan, Path(workdir))
            except ModuleNotFoundError as missing:
                say(f"{name}: left out: {missing}")
                continue
        print(f"{name}: {rows[name].measured} (target {rows[name].target})", flush=True)
    if not options.quick and rows:
        table.save(rows, table.machine())
    if "growth" in names:
        with tempfile.TemporaryDirectory(dir=options.workdir, prefix="bench-") as workdir:
            curve = growth.measure(plan, Path(workdir))
        print(growth.as_table(curve))
        if not options.quick:
            growth.save(curve, table.machine())
    if not options.quick:
        say(f"written: {table.RESULTS_MD}")
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.run", description=__doc__)
    parser.add_argument("--only", metavar="NAME,NAME", help="these rows")
    parser.add_argument("--quick", action="store_true", help="small, and changes nothing")
    parser.add_argument("--nanogpt", type=Path, metavar="PATH", help="a checkout of nanoGPT")
    parser.add_argument("--workdir", metavar="DIR", help="where the files are made; here a disk")
    return parser


if __name__ == "__main__":
    sys.exit(main())
