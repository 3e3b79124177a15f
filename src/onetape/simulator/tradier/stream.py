"""Tradier's streams, over WebSocket and over HTTP: carries out what their machine decides.

One task steps through market time for all connections. Symbols are Tradier's towards
clients and the market's towards the market.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import time
from http import HTTPStatus
from itertools import count, islice
from typing import Final, cast
from urllib.parse import parse_qsl

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from onetape import calendar
from onetape.asgi import Receive, Scope, Send as ASGISend, Upgrade, refuse
from onetape.clock import Clock
from onetape.simulator.effects import Abort, Close, Effect, Send, SessionId
from onetape.simulator.faulty_rest import SIMULATED, cut
from onetape.simulator.links import TOO_BIG, Link, Pace
from onetape.simulator.market import Market
from onetape.simulator.tradier import names
from onetape.simulator.tradier.events import KINDS, Ticker
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.rest import PREFIX, STREAM_PATH
from onetape.simulator.tradier.session import Payload, TradierStreams, Transport

_log: Final = logging.getLogger("onetape.simulator")
_UPGRADE_HEADERS: Final = {"X-Onetape-Simulated": "true"}
_NIGHT: Final = time(2)
_STANDING_AT_ONCE: Final = 20
_MOST_BODY_BYTES: Final = 1 << 20


class TradierStream:
    """Serves Tradier's streams from one market; one loop owns it."""

    def __init__(
        self,
        *,
        streams: TradierStreams,
        market: Market,
        clock: Clock,
        pace: Pace,
        policy: TradierPolicy,
    ) -> None:
        self._streams = streams
        self._market = market
        self._clock = clock
        self._pace = pace
        self._policy = policy
        self._ticker = Ticker(market, index_ticks=policy.index_ticks)
        self._links: dict[SessionId, Link | _Pipe] = {}
        self._ids = count(1)
        self._demand: Mapping[str, frozenset[str]] = {}
        self._wanted: dict[str, frozenset[str]] = {}
        self._read: frozenset[str] = frozenset()
        self._standing: set[str] = set()
        self.resync()

    # ---- time ----

    async def run(self) -> None:
        """Step through market time until cancelled."""
        while True:
            await asyncio.sleep(self._pace.step_s)
            self.step()

    def resync(self) -> None:
        """Go on from the market's present, leaving out what is between."""
        self._stepped_at = self._clock.monotonic()
        self._until_ns = self._market.now_ns()
        self._ticker.forget()

    def step(self) -> None:
        """Publish what happened since the last step."""
        now = self._clock.monotonic()
        self._do(self._streams.tick(now))
        if now - self._stepped_at > self._pace.most_s:
            _log.warning("simulator.paused", extra={"for_s": now - self._stepped_at})
            self.resync()
        start_ns, self._until_ns = self._until_ns, max(self._until_ns, self._market.now_ns())
        self._stepped_at = now
        self._follow()
        if self._wanted:
            self._know_some()
            events = self._ticker.events_between(self._wanted, start_ns, self._until_ns)
            self._do(self._streams.publish(events, now))
        if self._policy.nightly_close and self._is_night(start_ns):
            self._do(self._streams.end_all())

    def _follow(self) -> None:
        demand = self._streams.demand()
        if demand is self._demand:
            return
        self._demand = demand
        wanted = {kind: self._symbols(some) for kind, some in demand.items()}
        self._wanted = {kind: symbols for kind, symbols in wanted.items() if symbols}
        every = frozenset[str]().union(*self._wanted.values())
        self._standing = (self._standing | (every - self._read)) & every
        self._read = every

    def _symbols(self, some: Iterable[str]) -> frozenset[str]:
        found = (names.symbol_of(name, self._market) for name in some)
        return frozenset(symbol for symbol in found if symbol is not None)

    def _know_some(self) -> None:
        """Look up how a few symbols stand: what is sent again while they are idle."""
        some = list(islice(self._standing, _STANDING_AT_ONCE))
        if some:
            self._standing.difference_update(some)
            self._streams.remember(self._ticker.standing(some, self._until_ns))

    def _is_night(self, start_ns: int) -> bool:
        """Whether 02:00 in New York was passed since."""
        for at_ns in (start_ns, self._until_ns):
            night_ns = calendar.instant_ns(calendar.new_york_date(at_ns), _NIGHT)
            if start_ns < night_ns <= self._until_ns:
                return True
        return False

    # ---- WebSocket ----

    def route(self, request: WSUpgradeRequest, peer: str) -> Upgrade:
        """Take an upgrade to the stream's path; None for any other. Never raises."""
        del peer
        path = request.path.partition(b"?")[0].decode("latin-1").rstrip("/")
        if path.removeprefix(PREFIX) != STREAM_PATH:
            return None
        status = self._streams.refuses("websocket", self._clock.monotonic())
        if status is not None:
            return refuse(status, HTTPStatus(status).phrase.encode(), _UPGRADE_HEADERS)
        response = WSUpgradeResponse.create_101_response(_UPGRADE_HEADERS)
        return WSUpgradeResponseWithListener(response, Link(self, SessionId(next(self._ids))))

    def opened(self, link: Link) -> None:
        """Take on a WebSocket that can be written to."""
        self._take_on(link.session, link, "websocket")

    def received(self, session: SessionId, frame: bytes) -> None:
        """Read a client's message."""
        self._do(self._streams.receive(session, frame, self._clock.monotonic()))

    def refuse_size(self, link: Link) -> None:
        """Close on a message in fragments that grows too long."""
        self._streams.lost(link.session)
        link.close(TOO_BIG, "", grace_s=self._pace.close_grace_s)

    def closed(self, session: SessionId) -> None:
        """Forget a connection."""
        self._links.pop(session, None)
        self._streams.lost(session)

    def _take_on(self, session: SessionId, link: "Link | _Pipe", transport: Transport) -> None:
        self._links[session] = link
        self._do(self._streams.accept(session, transport, self._clock.monotonic()))

    # ---- HTTP ----

    @staticmethod
    def is_for(path: str) -> bool:
        """Whether a request is for the HTTP stream; the path is without the prefix."""
        return path == STREAM_PATH

    async def __call__(self, scope: Scope, receive: Receive, send: ASGISend) -> None:
        """Stream to one HTTP client until either side ends it."""
        params = dict(parse_qsl(cast("bytes", scope["query_string"]).decode("latin-1")))
        if scope["method"] == "POST":
            params |= dict(parse_qsl((await _body(receive)).decode("utf-8", "replace")))
        now = self._clock.monotonic()
        status = self._streams.refuses("http", now)
        if status is not None:
            await _answer(send, status)
            return
        pipe, session = _Pipe(self._policy.chunk_bytes), SessionId(next(self._ids))
        self._take_on(session, pipe, "http")
        self._do(self._streams.read(session, _payload(params), now))
        try:
            await pipe.run(receive, send)
        finally:
            self.closed(session)

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            link = self._links.get(effect.session)
            if link is not None:
                pending_bytes = link.obey(effect, grace_s=self._pace.close_grace_s)
                if pending_bytes:
                    self._do(self._streams.written(effect.session, pending_bytes))


class _Pipe:
    """One HTTP stream: what waits to be written, and how it ends."""

    def __init__(self, chunk_bytes: int | None) -> None:
        self._chunk_bytes = chunk_bytes
        self._waiting: list[bytes] = []
        self._end: Close | Abort | None = None
        self._news = asyncio.Event()

    def obey(self, effect: Effect, *, grace_s: float) -> int:
        """Carry out an effect; return the bytes that still wait to be written."""
        del grace_s
        if isinstance(effect, Send):
            self._waiting.append(effect.frame)
        elif isinstance(effect, Close | Abort) and self._end is None:
            self._end = effect
        self._news.set()
        return sum(map(len, self._waiting))

    async def run(self, receive: Receive, send: ASGISend) -> None:
        """Write until the end, or until the client is gone."""
        headers = [SIMULATED, (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_gone(receive, self._news))
            while not watch.done():
                await self._news.wait()
                self._news.clear()
                await self._write(send)
                if self._end is not None:
                    break
            watch.cancel()
        if isinstance(self._end, Close):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._end is not None:
            await cut(receive, send, reset=False)

    async def _write(self, send: ASGISend) -> None:
        data, self._waiting = b"".join(self._waiting), []
        size = self._chunk_bytes or len(data) or 1
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _gone(receive: Receive, news: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while sum(map(len, parts)) <= _MOST_BODY_BYTES:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _answer(send: ASGISend, status: int) -> None:
    phrase = HTTPStatus(status).phrase.encode()
    headers = [
        SIMULATED,
        (b"content-type", b"text/plain"),
        (b"content-length", b"%d" % len(phrase)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": phrase})


def _payload(params: Mapping[str, str]) -> Payload:
    """Read what an HTTP client asks for: lists by commas, switches in words."""

    def listed(name: str) -> list[str]:
        return [part for part in params.get(name, "").split(",") if part]

    def is_set(name: str, default: str = "false") -> bool:
        return params.get(name, default).lower() == "true"

    return Payload(
        symbols=listed("symbols"),
        sessionid=params.get("sessionid", ""),
        filter=listed("filter") or list(KINDS),
        linebreak=is_set("linebreak"),
        valid_only=is_set("validOnly", "true"),
        advanced_details=is_set("advancedDetails"),
    )
