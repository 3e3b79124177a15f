"""Routes of our own: is it well, is it ready, and the tokens.

    GET          /health  /api/health       200, `ok` or `degraded`; `?ready=1`: 200 or 503
    GET          /api/health/ready          the same as `?ready=1`
    GET          /api/ws-health             200 or 503, asset class by asset class
    GET          /metrics                   Prometheus
    GET          /market/status  /api/market/status      the vendor's word, else the calendar's
    POST DELETE  /api/ws-token              mint a token, revoke the one shown
    POST         /api/massive/ws-token      the same under its old name; deprecated

Health, metrics and market status are public and name no secret, key or client. What
fails is answered as everywhere: `replies`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetape import calendar
from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.errors import NotFound
from onetape.gateway.auth import Auth
from onetape.gateway.callers import Callers
from onetape.gateway.endpoints import (
    Desk,
    Handler,
    json_response,
)
from onetape.gateway.health import Health
from onetape.gateway.operations import OPERATIONS
from onetape.gateway.telemetry import CONTENT_TYPE, Telemetry
from onetape.market_answers import MarketStatusAnswer
from onetape.model import MarketStatus

DEPRECATED_SINCE: Final = "@1763510400"  # 2025-11-19, as RFC 9745 writes a date

_MS: Final = 1_000_000
_SESSIONS: Final = {
    "pre": "premarket",
    "open": "open",
    "after": "afterhours",
    "closed": "closed",
}
"""The words of the old route for those of the model."""


async def _unknown() -> MarketStatus | None:
    return None


class Api:
    """Our own routes over what the composition root gives.

    Args:
        auth: Who may mint and revoke.
        telemetry: Counts and logs requests.
        health: Answers for the gateway.
        callers: Who asks.
        limit: How often; shared with the other routes.
        clock: The time.
        vendor_status: What the vendor said of the market lately.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        *,
        auth: Auth,
        telemetry: Telemetry,
        health: Health,
        callers: Callers,
        limit: SlidingWindow,
        clock: Clock,
        vendor_status: Callable[[], Awaitable[MarketStatus | None]] = _unknown,
    ) -> None:
        self._desk = Desk(auth=auth, telemetry=telemetry, callers=callers, limit=limit, clock=clock)
        self._auth = auth
        self._telemetry = telemetry
        self._health = health
        self._clock = clock
        self._vendor_status = vendor_status

    def routes(self) -> list[BaseRoute]:
        """Return the routes, for the application to mount before its catch-all."""
        public: dict[str, Handler] = {
            "health": self._alive,
            "ready": self._ready,
            "ws_health": self._ws_health,
            "metrics": self._metrics,
            "market_status": self._market,
            "mint_token_deprecated": self._mint_deprecated,
        }
        token = {"POST": self._mint, "DELETE": self._revoke}
        return [
            *(
                route
                for name, handler in public.items()
                for route in self._desk.routes(OPERATIONS[name], handler)
            ),
            Route(OPERATIONS["mint_token"].paths[0], self._desk.endpoint("ws_token", token)),
        ]

    def nowhere(self) -> BaseRoute:
        """Return the route for every other path, to mount behind all: 404 in our shape."""
        methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
        handlers: dict[str, Handler] = dict.fromkeys(methods, _not_found)
        return Route("/{path:path}", self._desk.endpoint("other", handlers))

    # private, health

    async def _alive(self, request: Request) -> Response:
        if request.query_params.get("ready") in {"1", "true"}:
            return await self._ready(request)
        return json_response(self._health.liveness())

    async def _ready(self, _request: Request) -> Response:
        body = self._health.readiness()
        return json_response(body, 200 if body["ready"] else 503)

    async def _ws_health(self, _request: Request) -> Response:
        body = self._health.websockets()
        return json_response(body, 200 if body["healthy"] else 503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(await self._telemetry.render(), headers={"content-type": CONTENT_TYPE})

    async def _market(self, _request: Request) -> Response:
        now_ns = self._clock.now_ns()
        status = await self._vendor_status() or _by_calendar(now_ns)
        answer = MarketStatusAnswer(
            is_open=status.is_open,
            session=_SESSIONS.get(status.session, status.session),
            next_open=calendar.next_open(now_ns) // _MS,
            next_close=calendar.next_close(now_ns) // _MS,
            timestamp=now_ns // _MS,
            status=status,
        )
        return json_response(answer)

    # private, tokens

    async def _mint(self, request: Request) -> Response:
        principal = self._desk.minter(request)
        minted = self._auth.mint(principal)
        return json_response(
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
        principal = self._desk.known(request)
        return json_response({"revoked": await self._auth.revoke_token(principal)})


def _by_calendar(now_ns: int) -> MarketStatus:
    session = calendar.session_of(now_ns)
    return MarketStatus(
        session="open" if session is calendar.Session.REGULAR else session.value,
        event_ns=now_ns,
        received_ns=now_ns,
        provider="calendar",
        next_open_ns=calendar.next_open(now_ns),
        next_close_ns=calendar.next_close(now_ns),
    )


async def _not_found(_request: Request) -> Response:
    raise NotFound("there is nothing at this path")
