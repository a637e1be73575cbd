"""The door of the page's server: who may ask, and which headers every answer has.

Under these headers the browser runs no script and loads nothing that did not come from here.
"""

import asyncio
import contextlib
import hmac
import socket
from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
}
STUCK_S = 30.0  # a client that takes nothing so long is gone


class Door:
    """Stands before the application: who may ask, and which headers every answer has."""

    def __init__(
        self, inner: ASGIApp, *, hosts: frozenset[str], token: str | None, cookie: str
    ) -> None:
        self.inner = inner
        self._hosts, self._token, self._cookie = hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.inner(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(k, v) for k, v in message["headers"] if k.decode() not in HEADERS]
                ours = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*given, *ours]}
            async with asyncio.timeout(STUCK_S):
                await send(message)

        refusal = self._refusal(Request(scope))
        with contextlib.suppress(TimeoutError):  # the client takes nothing any more
            await (refusal or self.inner)(scope, receive, send_on)

    def _refusal(self, request: Request) -> Response | None:
        """Why not to answer, if so."""
        if request.method not in ("GET", "HEAD"):
            return words(405, "this server only shows: GET and HEAD")
        if not _is_ours(request.headers.get("host", ""), self._hosts):
            return words(
                421, "this name is not served here: use the address that `runs serve` printed"
            )
        # A page of somebody else must not make the browser ask for us; a link to us is fine.
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and request.url.path != "/":
            return words(403, "asked for by another site")
        return self._admit(request) if self._token else None

    def _admit(self, request: Request) -> Response | None:
        token = str(self._token)
        shown = request.query_params.get("token")
        if shown is not None and request.url.path == "/" and _same(shown, token):
            # into a cookie, out of the address: that is copied, kept and seen
            answer = RedirectResponse("/", 303)
            answer.set_cookie(
                self._cookie, token, httponly=True, samesite="lax", max_age=30 * 86_400
            )
            return answer
        if _same(request.cookies.get(self._cookie, ""), token):
            return None
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if _same(bearer, token):
            return None
        return words(401, "a token is needed: open the address that `runs serve` printed")


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names us. A name that somebody made point here (DNS) does not."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    try:
        ip_address(name)
        return True
    except ValueError:
        return name in names


def host_names(bound: str) -> frozenset[str]:
    """The names under which a server bound to `bound` is reached."""
    names = {"localhost"}
    if not is_loopback(bound):
        names |= {bound.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def words(status: int, words: str) -> Response:
    return Response(words + "\n", status, media_type="text/plain; charset=utf-8")
