"""How a request to one of our own routes is let in, answered and counted.

Endpoint ── a method we answer? ── a body we need not read? ── the handler
    │                                                             │
    └── any error: our shape, `replies` ◀─────────────────────────┤
                                                                  ▼
Desk     who is it ── may they ── not too often ──▶ Principal   json_response, packed
"""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetape.asgi import Receive, Scope, Send
from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.errors import (
    FrameTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotEntitled,
    OnetapeError,
    Throttled,
)
from onetape.gateway.answers import PACK_FROM_BYTES, PACK_LEVEL
from onetape.gateway.auth import Auth, Principal
from onetape.gateway.callers import Callers, takes_gzip
from onetape.gateway.operations import Operation
from onetape.gateway.replies import code_of, http_reply, new_request_id
from onetape.gateway.telemetry import RequestFacts

MAX_BODY_BYTES: Final = 4_096
"""What a request to us may carry; none of our routes reads it."""

_encoder = msgspec.json.Encoder()
_log: Final = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class Journal(Protocol):
    """What we need of `Telemetry`."""

    def rest_request(self, record: RequestFacts) -> None:
        """Count and log one request that is over."""
        ...


class Desk:
    """Lets callers in, and makes the endpoints that they come to."""

    def __init__(
        self,
        *,
        auth: Auth,
        telemetry: Journal,
        callers: Callers,
        limit: SlidingWindow,
        clock: Clock,
    ) -> None:
        self._auth = auth
        self._telemetry = telemetry
        self._callers = callers
        self._limit = limit
        self._clock = clock

    def endpoint(self, name: str, handlers: Mapping[str, Handler]) -> "Endpoint":
        """Make an endpoint; `name` is what its requests are counted under."""
        return Endpoint(name, handlers, self._telemetry, self._clock)

    def routes(self, operation: Operation, handler: Handler) -> list[BaseRoute]:
        """Answer an operation at each of its paths, all that is answered there."""
        handlers = dict.fromkeys(operation.methods, handler)
        endpoint = self.endpoint(operation.counted, handlers)
        return [Route(path, endpoint) for path in operation.paths]

    def admit(self, request: Request) -> Principal:
        """Let in who may use the path of a request.

        Raises:
            Unauthorized: nobody we know, with the code that a client acts on.
            NotEntitled: the credential's scopes do not cover the path.
            Throttled: too many requests of this client, or too many wrong credentials.
        """
        principal = self.known(request)
        if not principal.admits_path(request.scope["path"]):
            raise NotEntitled("the credential's scopes do not cover this path")
        return principal

    def known(self, request: Request) -> Principal:
        """Let in whoever we know, as `admit`, whatever their scopes."""
        credential, peer = self._shown(request)
        return self._counted(request, self._auth.identify(credential, peer=peer))

    def minter(self, request: Request) -> Principal:
        """Let in who may mint tokens, as `admit`."""
        credential, peer = self._shown(request)
        return self._counted(request, self._auth.identify_minter(credential, peer=peer))

    def _shown(self, request: Request) -> tuple[str | None, str]:
        scope = request.scope
        return header_credential_of(scope), self._callers.of(scope).peer

    def _counted(self, request: Request, principal: Principal) -> Principal:
        request.state.key_id = principal.key_id
        verdict = self._limit.admit(
            principal.key_id, self._clock.monotonic(), principal.scopes.rate_per_minute
        )
        if not verdict.admitted:
            raise Throttled("too many requests", retry_after_s=verdict.retry_after_s)
        return principal


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


class Endpoint:
    """Answers any method of one path, errors in the shape of everywhere, and counts it."""

    def __init__(
        self, name: str, handlers: Mapping[str, Handler], telemetry: Journal, clock: Clock
    ) -> None:
        self._name = name
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
                endpoint=self._name,
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


# answers


def json_response(body: object, status: int = 200) -> Response:
    """Answer with something small."""
    return _made(_encoder.encode(body), status)


async def packed_response(request: Request, encode: Callable[[], bytes], *, big: bool) -> Response:
    """Answer with what `encode` writes, as gzip if the client takes it.

    Args:
        request: What is answered.
        encode: Writes the body; called in a thread if it is big.
        big: Whether the body may have more than some 32 kB.
    """
    gzipped = takes_gzip(",".join(request.headers.getlist("accept-encoding")).encode("latin-1"))

    def written() -> tuple[bytes, bool]:
        body = encode()
        if not gzipped or len(body) <= PACK_FROM_BYTES:
            return body, False
        return gzip.compress(body, PACK_LEVEL, mtime=0), True

    body, is_packed = await asyncio.to_thread(written) if big else written()
    response = _made(body)
    response.headers["vary"] = "accept-encoding"
    if is_packed:
        response.headers["content-encoding"] = "gzip"
    return response


def _made(body: bytes, status: int = 200) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(body, status, headers)
