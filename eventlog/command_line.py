"""What the commands `eventlog` and `runs` have in common: `--version` and shell completion."""

import argparse
import re
from typing import Any, NoReturn

from eventlog.version import __version__

PLACES = {"PATH", "FILE", "JOURNAL", "RUN", "ARCHIVE", "DIR", "FOLDER"}
"""Arguments whose metavar has one of these words are completed as file names."""


def command_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command, with `--version` and `--print-completion SHELL`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help=f'completion for a shell: eval "$({prog} --print-completion bash)" in ~/.bashrc',
    )
    return parser


class _PrintCompletion(argparse.Action):
    """Prints the script with which a shell completes the command; shtab writes it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        try:
            import shtab
        except ImportError:
            parser.error("shell completion needs shtab: pip install shtab")
        _complete_places(parser, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def _complete_places(parser: argparse.ArgumentParser, complete: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_places(subparser, complete)
        elif PLACES & {*re.findall(r"\w+", str(action.metavar))}:
            action.complete = complete  # type: ignore[attr-defined]
