"""Authentication: which requests are answered, and the security headers of every answer.

With these headers a browser runs no script and loads nothing that is not from this server.
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
SEND_S = 30.0  # a client that reads nothing for this long is disconnected
COOKIE_S = 30 * 86_400


class Auth:
    """Middleware: refuses requests that are not for this server or have no token."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        hosts: frozenset[str],
        token: str | None,
        cookie: str,
        can_edit: bool = False,
    ) -> None:
        assert token or not can_edit
        self.inner = inner
        self._hosts, self._token, self._cookie = hosts, token, cookie
        self._can_edit = can_edit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(k, v) for k, v in message["headers"] if k.decode() not in HEADERS]
                ours = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*others, *ours]}
            async with asyncio.timeout(SEND_S):
                await send(message)

        refusal = self._refusal(Request(scope))
        with contextlib.suppress(TimeoutError):  # the client has stopped reading
            await (refusal or self.inner)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that is refused or redirected, None for any other."""
        is_write = request.method not in ("GET", "HEAD")
        if is_write and not (self._can_edit and request.method == "POST"):
            return text_response(405, "this server is read-only: use GET or HEAD")
        if not _is_our_host(request.headers.get("host", ""), self._hosts):
            return text_response(
                421, "unknown host name: use the address that `runs serve` printed"
            )
        # Another site must not make the browser read from here; a link to the page is fine.
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and request.url.path != "/":
            return text_response(403, "requests from other sites are refused")
        if is_write and not _is_from_page(request):
            return text_response(403, "an edit must come from this page, as application/json")
        return self._check_token(request, self._token) if self._token else None

    def _check_token(self, request: Request, token: str) -> Response | None:
        in_address = request.query_params.get("token", "")
        if request.url.path == "/" and _is_same(in_address, token):
            # moved to a cookie: an address is copied, stored and seen by others
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, token, httponly=True, samesite="lax", max_age=COOKIE_S)
            return answer
        in_header = request.headers.get("authorization", "").removeprefix("Bearer ")
        if any(_is_same(t, token) for t in (request.cookies.get(self._cookie, ""), in_header)):
            return None
        return text_response(401, "a token is needed: open the address that `runs serve` printed")


def _is_from_page(request: Request) -> bool:
    """Whether a write is from this server's own page, or from a program that is not a browser.

    A form of another site has an Origin that is not this server's, and no JSON.
    """
    origin = request.headers.get("origin")
    here = f"{request.url.scheme}://{request.headers.get('host', '')}"
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return media == "application/json" and origin in (None, here)


def _is_same(text: str, token: str) -> bool:
    return hmac.compare_digest(text.encode(), token.encode())


def _is_our_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header is an IP address or one of `names`.

    Any other name resolves to this machine only by DNS rebinding, an attack on the browser.
    """
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    try:
        ip_address(name)
        return True
    except ValueError:
        return name in names


def host_names(bound: str) -> frozenset[str]:
    """The host names of a server that listens on the address `bound`."""
    names = {"localhost"}
    if not is_loopback(bound):
        names |= {bound.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def text_response(status: int, text: str) -> Response:
    return Response(text + "\n", status, media_type="text/plain; charset=utf-8")
