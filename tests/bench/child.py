"""A measurement in a process of its own: nothing of the others is in its memory or its caches."""

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
def tell(**figures):
    # Of this program alone: ru_maxrss would be that of what it was forked from, if that is more.
    status = Path("/proc/self/status").read_text()
    figures["peak_mb"] = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024
    print(json.dumps(figures))
"""


def run(program: str, *arguments: object) -> dict[str, Any]:
    """What `program` tells with `tell(...)`; `peak_mb`, the most memory it held, is added."""
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"a measurement failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
