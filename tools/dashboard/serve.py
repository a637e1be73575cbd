"""`runs serve`: a web page with live charts, by default for this machine only."""

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
from ..core.table import print
from ..monitor.guard import Alert, Guard, line
from ..monitor.hooks import Hooks, add_flags

if TYPE_CHECKING:
    from .request import Site

HOST, PORT = "127.0.0.1", 8642
_PORTS_TRIED = 20


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Show runs on a web page that updates while they go on."
    command = commands.add_parser(
        "serve",
        help=text,
        description=f"{text} It only reads without --guard and --edit, and makes no "
        "requests to other hosts. It prints its address on stdout. Ctrl-C stops it.",
    )
    command.add_argument(
        "runs", nargs="*", default=[runs.FOLDER], metavar="DIR", help="folders, default: out"
    )
    command.add_argument(
        "--host",
        default=HOST,
        help=f"address to listen on, default {HOST}; a loopback address needs no token",
    )
    command.add_argument(
        "--port",
        type=whole("--port"),
        help=f"default: {PORT} or the next free port; 0: any free port",
    )
    command.add_argument(
        "--token",
        metavar="TOKEN",
        help="the secret that a browser must send; default: a random one when --host needs it",
    )
    command.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="another host name of this server; can be repeated",
    )
    command.add_argument(
        "--guard",
        action="store_true",
        help="write alerts about live runs into files beside their journals, as `runs guard` does; "
        "without it they are only shown",
    )
    command.add_argument(
        "--edit",
        action="store_true",
        help="let the page add notes and tags, rename runs, and keep its layout of charts; needs "
        "a token, which is part of the address that is printed",
    )
    add_flags(command)
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    command.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from ..live.folders import Folders
        from ..monitor.background import BackgroundGuard
        from . import auth
        from .request import Site
        from .server import server
    except ImportError as error:
        raise runs.Refusal(
            f"runs serve: {error.name} is not installed. Run: pip install 'runjournal[tools]'"
        ) from None
    for name in arguments.runs:
        _check_name(name)
    with _listen(arguments.host, arguments.port) as listening:
        host, port = listening.getsockname()[:2]
        token = arguments.token or None  # an empty one would let everybody in
        if token is None and (arguments.edit or not auth.is_loopback(arguments.host)):
            token = secrets.token_urlsafe(24)
        site = Site(
            Folders(arguments.runs),
            auth.host_names(arguments.host) | {name.lower() for name in arguments.name},
            token,
            cookie=f"runs_{port}",  # browsers share cookies between the ports of a host
            can_edit=arguments.edit,
        )
        running = server(site)
        _announce(site, _shown_host(host), port, arguments.open)
        guard = Guard(arguments.runs, is_kept=arguments.guard, is_live_only=True)
        hooks = Hooks(arguments.on_alert, arguments.webhook)
        with contextlib.closing(hooks), BackgroundGuard(site.folders, guard, _reporter(hooks)):
            running.run(sockets=[listening])
    return 0


def _reporter(hooks: Hooks) -> Callable[[Alert], None]:
    def report(alert: Alert) -> None:
        print(line(alert), file=sys.stderr, flush=True)
        if alert["state"] == "raised":
            hooks.send(alert)

    return report


def _check_name(name: str) -> None:
    """The default folder may be created later, by the first run; other names must exist.

    Raises:
        Refusal: no run has this name
    """
    path = Path(name)
    if path.exists() or name == runs.FOLDER:
        return
    runs.find([name])


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens on `port`, or on the first free one from the default on.

    Raises:
        Refusal: the port is in use, not a port number, or the host is not of this machine
    """
    tried = [port] if port is not None else [*range(PORT, PORT + _PORTS_TRIED), 0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    why: str | None = "a port must be 0 to 65535"
    for number in tried:
        try:
            if 0 <= number < 1 << 16:
                return socket.create_server((host, number), family=family)
        except OSError as error:
            why = error.strerror
    raise runs.Refusal(
        f"runs serve: cannot listen on {host} port {tried[0]}: {why}. Try --port 0: any free port"
    )


def _shown_host(bound: str) -> str:
    if bound in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{bound}]" if ":" in bound else bound


def _announce(site: "Site", host: str, port: int, in_browser: bool) -> None:
    address = f"http://{host}:{port}/"
    if site.token:
        address += f"?token={site.token}"
    where = " ".join(map(os.fspath, site.folders.names))
    how = "the page may edit" if site.can_edit else "read-only"
    print(f"serving {where}, {how}; Ctrl-C stops it", file=sys.stderr)
    print(address, flush=True)
    if in_browser:
        webbrowser.open(address)
