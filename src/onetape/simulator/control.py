"""The simulator's own switchboard: `/_simulator/…`, on the vendor's port, for this host only.

    GET     /_simulator/state    what is connected, subscribed and asked
    GET     /_simulator/faults   the fault script, and how each rule has fared
    PUT     /_simulator/faults   play this script instead
    POST    /_simulator/faults   play these rules too
    DELETE  /_simulator/faults   let nothing go wrong
    GET     /_simulator/clock    market time
    POST    /_simulator/clock    {"speed": 10, "jump_s": 3600}

No key is asked for: who may connect from this host owns the simulator. A browser's
page may not: requests that carry an `Origin` are refused.
"""

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from onetape.asgi import ASGIApp, Receive, Scope, Send
from onetape.clock import Clock
from onetape.errors import UNREADABLE, InvalidRequest
from onetape.model import Topic
from onetape.simulator.faults import Faults, FaultScript, parse_script

PREFIX: Final = "/_simulator"


class SimulatorState(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator has seen; the clusters' figures are by cluster name."""

    connections_open: dict[str, int]
    connections_total: dict[str, int]
    logins: dict[str, int]
    logins_failed: dict[str, int]
    evictions: dict[str, int]
    slow_consumers: dict[str, int]
    events: dict[str, int]
    topics: dict[str, tuple[Topic, ...]]
    rest_requests: int
    rest_paths: dict[str, int]
    market_ns: int
    speed: float
    tradier_requests: int = 0
    tradier_paths: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    tradier_stream: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class ClockChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How market time is to go on."""

    speed: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    jump_s: Annotated[float, Meta(ge=0)] = 0.0


_clock_change = msgspec.json.Decoder(ClockChange)


class Control:
    """An ASGI application for the operator of the simulator."""

    def __init__(
        self,
        *,
        faults: Faults,
        clock: Clock,
        state: Callable[[], SimulatorState],
        change_clock: Callable[[ClockChange], None],
    ) -> None:
        self._faults = faults
        self._clock = clock
        self._state = state
        self._change_clock = change_clock
        self._router: ASGIApp = Router(
            [
                Route(f"{PREFIX}/state", self._show_state, methods=["GET"]),
                Route(f"{PREFIX}/faults", self._show_faults, methods=["GET"]),
                Route(f"{PREFIX}/faults", self._play, methods=["PUT"]),
                Route(f"{PREFIX}/faults", self._add, methods=["POST"]),
                Route(f"{PREFIX}/faults", self._clear, methods=["DELETE"]),
                Route(f"{PREFIX}/clock", self._show_clock, methods=["GET"]),
                Route(f"{PREFIX}/clock", self._set_clock, methods=["POST"]),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of this host."""
        app = self._router if is_local(scope) else _json({"error": "for this host only"}, 403)
        await app(scope, receive, send)

    async def _show_state(self, request: Request) -> Response:
        del request
        return _json(self._state())

    async def _show_faults(self, request: Request) -> Response:
        del request
        statistics = [one._asdict() for one in self._faults.statistics()]
        return _json({"script": self._faults.script, "statistics": statistics})

    async def _play(self, request: Request) -> Response:
        return await self._scripted(request, lambda script, now: self._faults.play(script, now=now))

    async def _add(self, request: Request) -> Response:
        return await self._scripted(
            request, lambda script, now: self._faults.add(script.rules, now=now)
        )

    async def _scripted(
        self, request: Request, act: Callable[[FaultScript, float], None]
    ) -> Response:
        try:
            script = parse_script(await request.body())
        except InvalidRequest as error:
            return _json({"error": str(error)}, 400)
        act(script, self._clock.monotonic())
        return await self._show_faults(request)

    async def _clear(self, request: Request) -> Response:
        self._faults.clear(now=self._clock.monotonic())
        return await self._show_faults(request)

    async def _show_clock(self, request: Request) -> Response:
        del request
        state = self._state()
        return _json({"market_ns": state.market_ns, "speed": state.speed})

    async def _set_clock(self, request: Request) -> Response:
        try:
            change = _clock_change.decode(await request.body())
        except UNREADABLE as error:
            return _json({"error": str(error)}, 400)
        self._change_clock(change)
        return await self._show_clock(request)


def is_local(scope: Scope) -> bool:
    """Whether a program on this host asks, and not a page in its browser."""
    client = scope.get("client")
    if client is None or any(name == b"origin" for name, _ in scope["headers"]):
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
