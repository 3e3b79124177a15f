"""Routes of our own: is it well, is it ready, and the tokens.

    GET          /health  /api/health       200, `ok` or `degraded`; `?ready=1`: 200 or 503
    GET          /api/health/ready          the same as `?ready=1`
    GET          /api/ws-health             200 or 503, asset class by asset class
    GET          /metrics                   Prometheus
    GET          /market/status  /api/market/status
    POST DELETE  /api/ws-token              mint a token, revoke the one shown
    POST         /api/massive/ws-token      the same under its old name; deprecated

Health, metrics and market status are public and name no secret, key or client. What
fails is answered as everywhere: `replies`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetape import calendar
from onetape.asgi import Receive, Scope, Send
from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.errors import (
    FrameTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OnetapeError,
    Throttled,
)
from onetape.gateway.auth import Auth, Principal
from onetape.gateway.callers import Callers
from onetape.gateway.health import Health
from onetape.gateway.replies import code_of, http_reply, new_request_id
from onetape.gateway.telemetry import CONTENT_TYPE, Telemetry

MAX_BODY_BYTES: Final = 4_096
DEPRECATED_SINCE: Final = "@1763510400"  # 2025-11-19, as RFC 9745 writes a date

_MS: Final = 1_000_000
_SESSIONS: Final = {
    calendar.Session.PRE: "premarket",
    calendar.Session.REGULAR: "open",
    calendar.Session.AFTER: "afterhours",
    calendar.Session.CLOSED: "closed",
}

_encoder = msgspec.json.Encoder()
_log: Final = logging.getLogger(__name__)


class Api:
    """Our own routes over what the composition root gives."""

    def __init__(
        self,
        *,
        auth: Auth,
        telemetry: Telemetry,
        health: Health,
        callers: Callers,
        limit: SlidingWindow,
        clock: Clock,
    ) -> None:
        self._auth = auth
        self._telemetry = telemetry
        self._health = health
        self._callers = callers
        self._limit = limit
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return the routes, for the application to mount before its catch-all."""
        token = {"POST": self._mint, "DELETE": self._revoke}
        old = {"POST": self._mint_deprecated}
        return [
            *self._get("health", self._alive, "/api/health", "/health"),
            *self._get("health", self._ready, "/api/health/ready"),
            *self._get("ws_health", self._ws_health, "/api/ws-health"),
            *self._get("metrics", self._metrics, "/metrics"),
            *self._get("market", self._market, "/api/market/status", "/market/status"),
            Route("/api/ws-token", _Endpoint("ws_token", token, self._telemetry, self._clock)),
            Route(
                "/api/massive/ws-token", _Endpoint("ws_token", old, self._telemetry, self._clock)
            ),
        ]

    def nowhere(self) -> BaseRoute:
        """Return the route for every other path, to mount behind all: 404 in our shape."""
        methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
        handlers: dict[str, _Handler] = dict.fromkeys(methods, _not_found)
        return Route("/{path:path}", _Endpoint("other", handlers, self._telemetry, self._clock))

    # private, health

    def _get(self, endpoint: str, handler: "_Handler", *paths: str) -> Iterator[Route]:
        answer = _Endpoint(
            endpoint, {"GET": handler, "HEAD": handler}, self._telemetry, self._clock
        )
        for path in paths:
            yield Route(path, answer)

    async def _alive(self, request: Request) -> Response:
        if request.query_params.get("ready") in {"1", "true"}:
            return await self._ready(request)
        return _json(self._health.liveness())

    async def _ready(self, _request: Request) -> Response:
        body = self._health.readiness()
        return _json(body, 200 if body["ready"] else 503)

    async def _ws_health(self, _request: Request) -> Response:
        body = self._health.websockets()
        return _json(body, 200 if body["healthy"] else 503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(await self._telemetry.render(), headers={"content-type": CONTENT_TYPE})

    async def _market(self, _request: Request) -> Response:
        now_ns = self._clock.now_ns()
        session = calendar.session_of(now_ns)
        return _json(
            {
                "isOpen": session is calendar.Session.REGULAR,
                "session": _SESSIONS[session],
                "nextOpen": calendar.next_open(now_ns) // _MS,
                "nextClose": calendar.next_close(now_ns) // _MS,
                "timestamp": now_ns // _MS,
            }
        )

    # private, tokens

    async def _mint(self, request: Request) -> Response:
        principal = self._auth.identify_minter(
            header_credential_of(request.scope), peer=self._callers.of(request.scope).peer
        )
        self._admit(request, principal)
        minted = self._auth.mint(principal)
        return _json(
            {
                "token": minted.token,
                "expiresAt": minted.expires_ns // _MS,
                "expires_in": minted.expires_in_s,
                "token_id": minted.token_id,
            }
        )

    async def _mint_deprecated(self, request: Request) -> Response:
        response = await self._mint(request)
        response.headers["deprecation"] = DEPRECATED_SINCE
        response.headers["link"] = '</api/ws-token>; rel="successor-version"'
        return response

    async def _revoke(self, request: Request) -> Response:
        principal = self._auth.identify(
            header_credential_of(request.scope), peer=self._callers.of(request.scope).peer
        )
        self._admit(request, principal)
        return _json({"revoked": await self._auth.revoke_token(principal)})

    def _admit(self, request: Request, principal: Principal) -> None:
        request.state.key_id = principal.key_id
        verdict = self._limit.admit(
            principal.key_id, self._clock.monotonic(), principal.scopes.rate_per_minute
        )
        if not verdict.admitted:
            raise Throttled("too many requests", retry_after_s=verdict.retry_after_s)


_Handler = Callable[[Request], Awaitable[Response]]


class _Finished(NamedTuple):
    """One request of ours, for `Telemetry`."""

    method: str
    endpoint: str
    status: int
    duration_s: float
    sent_bytes: int
    client: str | None
    how: str | None
    code: str | None
    request_id: str | None
    peer: str


async def _not_found(_request: Request) -> Response:
    raise NotFound("there is nothing at this path")


class _Endpoint:
    """Answers any method of one path, errors in the shape of everywhere, and counts it."""

    def __init__(
        self,
        endpoint: str,
        handlers: Mapping[str, _Handler],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._endpoint = endpoint
        self._handlers = handlers
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises only what `send` raises."""
        began = self._clock.monotonic()
        request, request_id, code = Request(scope, receive), new_request_id(), None
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug is a reply too
            code = code_of(error)
            if not isinstance(error, OnetapeError):
                _log.exception("api.internal", extra={"request_id": request_id})
            reply = http_reply(error, request_id)
            response = Response(reply.body, reply.status)
            response.raw_headers += reply.headers
            if isinstance(error, MethodNotAllowed):
                response.headers["allow"] = ", ".join(self._handlers)
        response.headers["x-request-id"] = request_id
        await response(scope, receive, send)
        client = scope.get("client")
        self._telemetry.rest_request(
            _Finished(
                method=request.method,
                endpoint=self._endpoint,
                status=response.status_code,
                duration_s=self._clock.monotonic() - began,
                sent_bytes=len(response.body),
                client=getattr(request.state, "key_id", None),
                how=None,
                code=code,
                request_id=request_id,
                peer=client[0] if client else "",
            )
        )

    async def _answer(self, request: Request) -> Response:
        handler = self._handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(f"only {' and '.join(self._handlers)} are answered here")
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise InvalidRequest("Content-Length is no number")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise FrameTooLarge(f"no body of more than {MAX_BODY_BYTES} bytes is read here")
        return await handler(request)


# credentials


def credential_of(scope: Mapping[str, Any]) -> str | None:
    """Return what a request shows to be let in: a Bearer token, our older header, `apiKey`.

    The query is for the vendor's own paths, whose official clients may put the key
    there; routes of our own read headers only.
    """
    shown = header_credential_of(scope)
    if shown is not None:
        return shown
    query: bytes = scope["query_string"]
    if b"apikey=" not in query.lower():
        return None
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if value and name.lower() == b"apikey":
            return unquote_to_bytes(value.replace(b"+", b" ")).decode("latin-1")
    return None


def header_credential_of(scope: Mapping[str, Any]) -> str | None:
    """Return what the headers show: `Authorization: Bearer` before `X-Massive-Proxy-Token`."""
    token = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            if value[:7].lower() == b"bearer " and value[7:].strip():
                return value[7:].strip().decode("latin-1")
        elif name == b"x-massive-proxy-token":
            token = token or value
    return token.decode("latin-1") or None


def _json(body: object, status: int = 200) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(_encoder.encode(body), status, headers)
