"""The REST half of the simulated Tradier: routes, the token, the limit, formats, refusals.

    no or wrong token   401 `Invalid Access Token`, of the type `plain/text` (sic)
    over the limit      429, in text or as a fault of the gateway's
    bad parameter       400, text
    unknown route       404, text
    JSON not accepted   XML, or 406 if the policy says so

Every answer says `X-Onetape-Simulated: true`; those that counted tell of the limit, whose
window is the clock's minute. Handlers read the market in a thread, one at a time.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from onetape.asgi import ASGIApp, Receive, Scope, Send
from onetape.clock import Clock
from onetape.simulator.market import Market
from onetape.simulator.tradier import bars, options, quotes, securities
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.request import (
    DELAY_NS,
    NS_PER_MS,
    Ask,
    Endpoint,
    Refusal,
)
from onetape.simulator.tradier.xml import to_xml

PREFIX: Final = "/tradier"
STREAM_PATH: Final = "/v1/markets/events"
ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *quotes.ENDPOINTS,
    *options.ENDPOINTS,
    *bars.ENDPOINTS,
    *securities.ENDPOINTS,
)
INVALID_TOKEN: Final = "Invalid Access Token"  # noqa: S105 - the vendor's words
QUOTA_CODE: Final = "policies.ratelimit.QuotaViolation"
JSON_TYPE: Final = "application/json;charset=UTF-8"
_XML_TYPE: Final = "application/xml;charset=UTF-8"
_MINUTE_MS: Final = 60_000
_HEADERS: Final = {"X-Onetape-Simulated": "true", "Access-Control-Allow-Origin": "*"}


def quota_text(expiry_ms: int) -> str:
    """Return the words of a 429; the last of them is when it ends."""
    return f"Quota Violation. The limit of calls is reached. Quota resets at {expiry_ms}"


def quota_fault_text(allowed: int) -> str:
    """Return the words of the gateway's own 429."""
    return f"Rate limit quota violation. Quota limit exceeded. Limit: {allowed}"


def fault_body(text: str, errorcode: str) -> bytes:
    """Return a fault of the gateway's."""
    return msgspec.json.encode({"fault": {"faultstring": text, "detail": {"errorcode": errorcode}}})


def expiry_ms(now_ns: int) -> int:
    """Return when the minute ends, epoch milliseconds."""
    return (now_ns // NS_PER_MS // _MINUTE_MS + 1) * _MINUTE_MS


class Quota:
    """The calls of one minute of the clock."""

    def __init__(self, policy: TradierPolicy) -> None:
        self._policy = policy
        self._ends_ms = 0
        self._used = 0

    def count(self, now_ns: int) -> dict[str, str]:
        """Count a call; return the headers that tell of it.

        Raises:
            Refusal: the limit was reached.
        """
        allowed = self._policy.calls_per_minute
        if allowed is None:
            return {}
        ends_ms = expiry_ms(now_ns)
        if ends_ms != self._ends_ms:
            self._ends_ms, self._used = ends_ms, 0
        if self._used >= allowed:
            raise self._refusal(allowed)
        self._used += 1
        told = self._used
        if self._policy.used_jitter:
            told = max(1, self._used - self._used % 3)
        return {
            "X-Ratelimit-Allowed": str(allowed),
            "X-Ratelimit-Used": str(told),
            "X-Ratelimit-Available": str(allowed - told),
            "X-Ratelimit-Expiry": str(ends_ms),
        }

    def _refusal(self, allowed: int) -> Refusal:
        status = HTTPStatus.TOO_MANY_REQUESTS
        if self._policy.quota_body == "text":
            return Refusal(status, quota_text(self._ends_ms))
        return Refusal(status, quota_fault_text(allowed), errorcode=QUOTA_CODE)


class TradierRest:
    """An ASGI application that answers as Tradier's REST API does.

    `market` is read in a thread, of which `thread` admits one at a time: give the same
    limiter to whoever else reads this market in a thread.
    """

    def __init__(
        self,
        market: Market,
        *,
        token: str,
        policy: TradierPolicy,
        clock: Clock,
        thread: CapacityLimiter,
        open_session: Callable[[], str],
    ) -> None:
        self._market = market
        self._token = token
        self._policy = policy
        self._clock = clock
        self._thread = thread
        self._open_session = open_session
        self._quota = Quota(policy)
        routes = [
            Route(f"/v1{one.path}", partial(self._answer, one), methods=one.methods)
            for one in ENDPOINTS
        ]
        session = Route(f"{STREAM_PATH}/session", self._session, methods=["POST"])
        self._router: ASGIApp = Router(
            [*routes, session], default=_no_route, redirect_slashes=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; `mount` in the scope is what stood before its path."""
        await self._router(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            headers = self._admitted(request)
            ask = self._ask(await _params(request))
            work = partial(_body, endpoint, ask)
            body = await to_thread.run_sync(work, limiter=self._thread)
        except Refusal as refusal:
            return _refused(refusal)
        return _told(request, body, headers)

    async def _session(self, request: Request) -> Response:
        try:
            headers = self._admitted(request)
        except Refusal as refusal:
            return _refused(refusal)
        stream = {"url": _stream_url(request), "sessionid": self._open_session()}
        return _told(request, msgspec.json.encode({"stream": stream}), headers)

    def _admitted(self, request: Request) -> dict[str, str]:
        """Know the caller, count the call, and see whether it can read our answer."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or credential.strip() != self._token:
            raise Refusal(HTTPStatus.UNAUTHORIZED, INVALID_TOKEN)
        headers = self._quota.count(self._clock.now_ns())
        if self._policy.without_accept == "refuse" and not _accepts_json(request):
            raise Refusal(HTTPStatus.NOT_ACCEPTABLE, "Not Acceptable")
        return headers

    def _ask(self, params: dict[str, str]) -> Ask:
        late_ns = DELAY_NS if self._policy.sandbox else 0
        return Ask(
            market=self._market,
            params=params,
            policy=self._policy,
            now_ns=self._market.now_ns() - late_ns,
        )


async def _params(request: Request) -> dict[str, str]:
    params = dict(reversed(request.query_params.multi_items()))
    if request.method == "POST":
        body = (await request.body()).decode("utf-8", "replace")
        params |= dict(parse_qsl(body, keep_blank_values=True))
    return params


def _body(endpoint: Endpoint, ask: Ask) -> bytes:
    body = endpoint.answer(ask)
    if ask.policy.nothing == "text":
        body = {root: "null" if value is None else value for root, value in body.items()}
    return msgspec.json.encode(body)


def _accepts_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "").lower()


def _told(request: Request, body: bytes, headers: dict[str, str]) -> Response:
    if _accepts_json(request):
        response = Response(body, headers=_HEADERS | headers, media_type=JSON_TYPE)
    else:
        document = to_xml(msgspec.json.decode(body, type=dict[str, Any]))
        response = Response(document, headers=_HEADERS | headers, media_type=_XML_TYPE)
    del response.headers["content-length"]  # the vendor sends chunks
    return response


def _refused(refusal: Refusal) -> Response:
    if refusal.errorcode is not None:
        body = fault_body(refusal.text, refusal.errorcode)
        return Response(body, refusal.status, headers=_HEADERS, media_type=JSON_TYPE)
    # `plain/text` is what the vendor writes where it means text/plain.
    is_token = refusal.status is HTTPStatus.UNAUTHORIZED
    kind = "plain/text" if is_token else "text/plain;charset=UTF-8"
    return Response(refusal.text, refusal.status, headers=_HEADERS, media_type=kind)


def _stream_url(request: Request) -> str:
    host = request.headers.get("host", request.url.netloc)
    mount = request.scope.get("mount", "")
    return f"{request.url.scheme}://{host}{mount}{STREAM_PATH}"


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    answer = Response("Not Found", HTTPStatus.NOT_FOUND, headers=_HEADERS, media_type="text/plain")
    await answer(scope, receive, send)
