"""`runs serve`: a page of live charts, for a browser on this machine."""

import argparse
import contextlib
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import runs
from ..core.options import whole
from ..core.text import print
from ..monitor.guard import Alert, Guard, line
from ..monitor.hooks import Hooks

if TYPE_CHECKING:
    from .web import Site

HOST, PORT = "127.0.0.1", 8642
_PORTS_TRIED = 20


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = "Show runs as a web page that follows them while they go on."
    command = commands.add_parser(
        "serve",
        help=words,
        description=f"{words} It only reads, unless --guard is given, and asks nothing of any "
        "other machine. On stdout: its address. Ctrl-C ends it.",
    )
    command.add_argument(
        "runs", nargs="*", default=[runs.FOLDER], metavar="DIR", help="folders, default: out"
    )
    command.add_argument(
        "--host",
        default=HOST,
        help=f"address to listen on, default {HOST}; any but this machine's own needs a token",
    )
    command.add_argument(
        "--port",
        type=whole("--port"),
        help=f"default {PORT}, or the next that is free; 0: any that is free",
    )
    command.add_argument(
        "--token",
        metavar="TOKEN",
        help="what a browser must show; default: made up when --host is not this machine alone",
    )
    command.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="another name that browsers reach this server by; may be given several times",
    )
    command.add_argument(
        "--guard",
        action="store_true",
        help="keep what is found wrong with live runs beside their journals, as `runs guard` does; "
        "else it is shown on the page alone",
    )
    command.add_argument(
        "--on-alert", metavar="CMD", help="a shell command; the alert is its stdin, as JSON"
    )
    command.add_argument("--webhook", metavar="URL", help="POST the alert there, as JSON")
    command.add_argument("--open", action="store_true", help="open it in a browser")
    command.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from ..live.folders import Folders
        from ..monitor.watchman import Watchman
        from . import auth, web
    except ImportError as error:
        raise runs.Refusal(
            f"runs serve: needs {error.name}, which is not installed. "
            "Use: pip install 'runjournal[tools]'"
        ) from None
    for name in arguments.runs:
        _check(name)
    with _listen(arguments.host, arguments.port) as listening:
        host, port = listening.getsockname()[:2]
        token = arguments.token or None  # an empty one is none
        if token is None and not auth.is_loopback(arguments.host):
            token = secrets.token_urlsafe(24)
        site = web.Site(
            Folders(arguments.runs),
            auth.host_names(arguments.host) | {name.lower() for name in arguments.name},
            token,
            cookie=f"runs_{port}",  # cookies know no ports: two servers would share one
        )
        server = web.server(site)
        _announce(site, _shown_host(arguments.host, host), port, arguments.open)
        guard = Guard(arguments.runs, is_kept=arguments.guard, is_live_only=True)
        hooks = Hooks(arguments.on_alert, arguments.webhook)
        with contextlib.closing(hooks), Watchman(site.folders, guard, _telling(hooks)):
            server.run(sockets=[listening])
    return 0


def _telling(hooks: Hooks) -> Callable[[Alert], None]:
    def tell(alert: Alert) -> None:
        print(line(alert), file=sys.stderr, flush=True)
        if alert["state"] == "raised":
            hooks.send(alert)

    return tell


def _check(name: str) -> None:
    """A folder may come later, with the first run; what else there is must be there."""
    path = Path(name)
    if path.exists() or name == runs.FOLDER:
        return
    runs.find([name])


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; where no port was asked for, on the first that is free.

    Raises:
        Refusal: there is none, or the one that was asked for is taken.
    """
    tried = [port] if port is not None else [*range(PORT, PORT + _PORTS_TRIED), 0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    why: str | None = "ports are 0 to 65535"
    for number in tried:
        try:
            if 0 <= number < 1 << 16:
                return socket.create_server((host, number), family=family)
        except OSError as error:
            why = error.strerror
    raise runs.Refusal(
        f"runs serve: cannot listen on {host} port {tried[0]}: {why}. Use: --port 0 for any other"
    )


def _shown_host(asked: str, bound: str) -> str:
    if bound in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{bound}]" if ":" in bound else bound


def _announce(site: "Site", host: str, port: int, in_browser: bool) -> None:
    address = f"http://{host}:{port}/"
    if site.token:
        address += f"?token={site.token}"
    where = " ".join(map(os.fspath, site.folders.names))
    print(f"the runs of {where}, to be read only; Ctrl-C ends it", file=sys.stderr)
    print(address, flush=True)
    if in_browser:
        webbrowser.open(address)
