"""The command `runs`, also as `python -m tools`."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit


def main() -> int:
    """Run the command; its exit code."""
    try:
        from .cli import main as run

        return run()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "eventlog", "tools", "runjournal"):
            raise  # a fault of ours
        sys.exit(f"runs needs {library}, which is not installed. Use: {install_command()}")


def install_command() -> str:
    """How to install what `runs` needs, from where this package was installed."""
    source = "runjournal"
    try:
        origin = json.loads(distribution("runjournal").read_text("direct_url.json") or "{}")
        url = urlsplit(origin.get("url", ""))
        if url.scheme == "file":  # a clone: the package index need not have it
            source = unquote(url.path)
    except (PackageNotFoundError, ValueError):
        pass
    return f"pip install {shlex.quote(f'{source}[tools]')}"


if __name__ == "__main__":
    sys.exit(main())
