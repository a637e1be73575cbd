"""The command `runs`, also as `python -m tools`."""

import sys


def main() -> int:
    """Run the command; its exit code."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        sys.exit(f"runs needs {error.name}, which comes with: pip install 'runjournal[tools]'")
    return run()


if __name__ == "__main__":
    sys.exit(main())
