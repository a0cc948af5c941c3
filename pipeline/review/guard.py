"""Who may talk to the page: whoever knows the token, from the page's own address, and nobody else."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_BODY = 64 * 1024
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Address:
    """Where the page is served. The token is a part of each path: no other page learns it, as it would a cookie."""

    host: str
    port: int
    token: str

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.authority}"

    @property
    def url(self) -> str:
        return f"{self.origin}/{self.token}/"


class Guard:
    """Refuses a request that names another host, comes from another origin or lacks the token; else passes it on.

    `address.token` is cut off the path that is passed on. A page elsewhere that makes its own name lead here (DNS
    rebinding) fails by its Host, one that posts here by its Origin, and both, as any program, by the token.
    """

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self._app = app
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if refusal := self._refusal(scope):
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send_guarded)
            return
        # Without `raw_path`, which still has the token, routes see what they are to see.
        path = scope["path"][len(self._address.token) + 1 :]
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self._app(inner, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") != [self._address.authority]:
            return 421, "this address is not served here"
        origins = headers.getlist("origin")
        if any(origin != self._address.origin for origin in origins):
            return 403, "requests from other pages are refused"
        prefix = f"/{self._address.token}/".encode()
        # Compared in constant time: how far a guess is right cannot be measured.
        if not secrets.compare_digest(scope["path"].encode("utf-8", "surrogatepass")[: len(prefix)], prefix):
            return 403, "the address lacks the token: open the one that `diary review` printed"
        if scope["method"] not in ("GET", "HEAD"):
            if scope["method"] != "POST" or not origins:
                return 403, "requests from other pages are refused"
            if headers.get("content-type") != "application/json":
                return 415, "wanted application/json"
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > _MAX_BODY:
                return 413, f"wanted at most {_MAX_BODY} bytes"
        return None
