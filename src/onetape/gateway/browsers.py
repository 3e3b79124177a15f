"""What browsers are told: which pages may call us, and what our own pages may do.

Our pages load and call nothing but us, so that a script that got in has nowhere to
send what it finds. Pages of other hosts may call only if `WEB_ORIGIN` names them; to
all others we say nothing of CORS at all, and the browser keeps the answer from them.
"""

from collections.abc import Iterable
from typing import Any, Final, cast

from starlette.middleware.cors import CORSMiddleware

from onetape.asgi import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    b"default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""On every answer: whatever it is, a browser might show it."""

EXPOSED: Final = (
    "age",
    "deprecation",
    "retry-after",
    "x-onetape-cache",
    "x-onetape-stale-reason",
    "x-request-id",
)
_PREFLIGHT_AGE_S: Final = 600


class Browsers:
    """Wraps an application with the headers browsers obey."""

    def __init__(self, app: ASGIApp, *, origins: Iterable[str] = ()) -> None:
        self._app = app
        self._origins = {origin.lower().encode("ascii") for origin in origins}
        self._cors = CORSMiddleware(
            cast("Any", app),
            allow_origins=[origin.decode() for origin in self._origins],
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-massive-proxy-token"],
            expose_headers=EXPOSED,
            max_age=_PREFLIGHT_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; only a named origin's request is given to the CORS middleware."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *HEADERS]
                if self._origins and not is_named:
                    headers.append((b"vary", b"Origin"))
                message = {**message, "headers": headers}
            await send(message)

        is_named = bool(self._origins) and self._is_named(scope)
        await (self._cors if is_named else self._app)(scope, receive, guarded)

    def _is_named(self, scope: Scope) -> bool:
        return any(
            name == b"origin" and value.lower() in self._origins for name, value in scope["headers"]
        )
