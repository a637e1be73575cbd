"""A measurement in a separate process, which shares no memory and no caches with the others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_PRELUDE = """
import json, re, sys, time
from pathlib import Path
arguments = sys.argv[1:]
def report(**results):
    # Of this program alone: ru_maxrss may be that of the process which it was forked from.
    status = Path("/proc/self/status").read_text()
    results["peak_mb"] = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024
    print(json.dumps(results))
"""


def run(program: str, *arguments: object) -> dict[str, Any]:
    """The results that `program` passes to `report(...)`, and its peak memory, `peak_mb`."""
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"a measurement failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
