"""What every tool has of a run that logged values of every sort: a table in Markdown.

python -m tests.tools.everything                   # each program whose framework is installed
python -m tests.tools.everything "own loop"
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.tools.everything.programs import OWN, PROGRAMS, Program
from tests.tools.everything.tools import TOOLS, Place, Tool


def place_of(program: Program, folder: Path) -> Place:
    """Run a program, and what its run must have."""
    journal = program.run(folder / "out")
    stored = {key: value for key, value in program.stored().items() if value is not None}
    sessions = [program.stored(k) for k in (0, 1)]
    return Place(journal, stored, sessions, folder, is_own=program is OWN)


def table(program: Program) -> Iterator[str]:
    """The lines of a program's table."""
    with TemporaryDirectory() as folder:
        place = place_of(program, Path(folder))
        n_series = len({name for name, _ in place.stored})
        yield f"## {program.name}: {n_series} series, {len(place.stored):,} values\n"
        yield "| tool | form | values | equal | not representable there |"
        yield "| --- | --- | ---: | ---: | --- |"
        for tool in TOOLS:
            yield _line(tool, place)


def _line(tool: Tool, place: Place) -> str:
    if find_spec(tool.package) is None:
        return f"| {tool.name} | {tool.form} | not installed | | |"
    seen = tool.read(place)
    wrong = seen.wrong(place)
    for key in wrong[:5]:
        print(tool.name, key, seen.values.get(key), seen.expected.get(key), file=sys.stderr)
    reasons: dict[str, int] = {}
    for reason in seen.left_out.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    left_out = ", ".join(f"{n} series: {reason}" for reason, n in reasons.items())
    n = len(seen.expected)
    return f"| {tool.name} | {tool.form} | {n:,} | {n - len(wrong):,} | {left_out} |"


if __name__ == "__main__":
    for name in sys.argv[1:] or PROGRAMS:
        if PROGRAMS[name].is_installed:
            print("\n".join(table(PROGRAMS[name])), end="\n\n")
