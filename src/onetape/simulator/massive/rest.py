"""The REST half of the simulated vendor: routes, keys, limits, envelopes, errors.

    unknown route    404, plain text
    no or bad key    401 ERROR
    over the limit   429 ERROR, with Retry-After only when the fault script wants it
    not in the plan  403 NOT_AUTHORIZED
    bad parameter    400 ERROR
    unknown ticker   404 NOT_FOUND

Every answer says `X-Onetape-Simulated: true`, and but for the market status pair
every JSON object has the `request_id` of its `X-Request-Id` header. Handlers that
read the market run in a thread, one at a time: a large query must not hold the event
loop, and the market is not made for two threads.
"""

import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final, cast

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.simulator.market import Market
from onetape.simulator.massive import (
    rest_aggregates,
    rest_indicators,
    rest_reference,
    rest_snapshots,
    rest_stocks,
    rest_tape,
)
from onetape.simulator.massive.accounts import Account, Accounts
from onetape.simulator.massive.rest_query import Query, Refusal
from onetape.simulator.massive.rest_request import Ask, Endpoint
from onetape.simulator.massive.rows import AggregatesEnvelope, Envelope, ErrorBody

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *rest_reference.ENDPOINTS,
    *rest_snapshots.ENDPOINTS,
    *rest_stocks.ENDPOINTS,
    *rest_aggregates.ENDPOINTS,
    *rest_indicators.ENDPOINTS,
    *rest_tape.ENDPOINTS,
)

NO_KEY: Final = "API Key was not provided"
UNKNOWN_KEY: Final = "Unknown API Key"
TOO_MANY: Final = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your "
    "subscription to continue. https://polygon.io/pricing"
)

ROWS_AT_ONCE: Final = 2_000

RetryAfter = Callable[[], str | None]
"""The fault script's word on the `Retry-After` of a 429: none unless it returns a value."""


class MassiveRestSimulator:
    """An ASGI application that answers as the vendor's REST API does.

    `market` must not be used by anybody else while requests run, because it is read in
    a thread and is not made for two: give the stream another one of the same seed and
    clock, which says the same, or share `thread`, which admits one at a time. `clock` is the host's, for the limits on calls per
    minute; the market has its own time.
    """

    def __init__(
        self,
        market: Market,
        accounts: Accounts,
        clock: Clock,
        *,
        retry_after: RetryAfter = lambda: None,
        thread: CapacityLimiter | None = None,
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._clock = clock
        self._retry_after = retry_after
        self._calls = SlidingWindow(5, 60.0)
        self._thread = thread or CapacityLimiter(1)
        self._router: ASGIApp = Router(
            [Route(endpoint.path, partial(self._answer, endpoint)) for endpoint in ENDPOINTS],
            default=_no_route,
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-onetape-simulated", b"true")]
            await send(message)

        await self._router(scope, receive, send_marked)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        request_id = uuid.uuid4().hex
        headers = {"X-Request-Id": request_id} if endpoint.has_request_id else {}
        try:
            ask = self._admitted(request, request_id)
            if endpoint.reads_market:
                body = await to_thread.run_sync(_body, endpoint, ask, limiter=self._thread)
            else:
                body = _body(endpoint, ask)
        except Refusal as refusal:
            return self._refused(refusal, request_id)
        return Response(body, headers=headers, media_type="application/json")

    def _admitted(self, request: Request, request_id: str) -> Ask:
        """Know the caller, count the call, and read what is asked, in this order."""
        account = self._account(request)
        self._count(account)
        return Ask(
            market=self._market,
            account=account,
            query=Query(request.query_params.multi_items()),
            path=request.path_params,
            origin=_origin(request),
            url_path=request.url.path,
            now_ns=self._market.now_ns(),
            request_id=request_id,
        )

    def _account(self, request: Request) -> Account:
        key = _key(request)
        if not key:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "ERROR", NO_KEY)
        account = self._accounts.find(key)
        if account is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "ERROR", UNKNOWN_KEY)
        return account

    def _count(self, account: Account) -> None:
        limit = account.plan.calls_per_minute
        if limit is None:
            return
        verdict = self._calls.admit(account.name, self._clock.monotonic(), limit)
        if not verdict.admitted:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "ERROR", TOO_MANY)

    def _refused(self, refusal: Refusal, request_id: str) -> Response:
        is_error = refusal.status == "ERROR"
        body = ErrorBody(
            status=refusal.status,
            request_id=request_id,
            error=refusal.text if is_error else None,
            message=None if is_error else refusal.text,
        )
        headers = {"X-Request-Id": request_id}
        if refusal.http is HTTPStatus.TOO_MANY_REQUESTS and (after := self._retry_after()):
            headers["Retry-After"] = after
        return Response(
            _json.encode(body), refusal.http, headers=headers, media_type="application/json"
        )


_json: Final = msgspec.json.Encoder()


def _body(endpoint: Endpoint, ask: Ask) -> bytes:
    body = endpoint.answer(ask)
    if isinstance(body, Envelope | AggregatesEnvelope) and isinstance(body.results, list):
        rows = cast("list[object]", body.results)
        if len(rows) > ROWS_AT_ONCE:
            body = msgspec.structs.replace(body, results=_encoded(rows))
    return _json.encode(body)


def _encoded(rows: list[object]) -> msgspec.Raw:
    """Encode rows some at a time: the encoder lets no other thread run, the event loop neither."""
    starts = range(0, len(rows), ROWS_AT_ONCE)
    parts = (_json.encode(rows[start : start + ROWS_AT_ONCE])[1:-1] for start in starts)
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _key(request: Request) -> str | None:
    if key := request.query_params.get("apiKey"):
        return key
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else None


def _origin(request: Request) -> str:
    """Return the scheme and host the caller used, as far as a proxy before us tells."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", request.url.netloc))
    return f"{scheme}://{host.split(',')[0].strip()}"


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("404 page not found", HTTPStatus.NOT_FOUND)(scope, receive, send)
