"""The sockets of the simulated vendor: carries out what its session machine decides.

One task steps through market time for all connections; reading is callbacks. Nothing
is decided here but how to write, and when a peer that does not say goodbye is cut.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Final

import msgspec
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from onetape.asgi import Upgrade, refuse
from onetape.clock import Clock
from onetape.model import AssetClass, Topic
from onetape.simulator.massive.events import Symbols, Tape, by_channel, events_between
from onetape.simulator.massive.session import (
    Abort,
    Close,
    Effect,
    Freeze,
    Ping,
    Send,
    SessionId,
    Thaw,
    VendorSockets,
)

_log: Final = logging.getLogger("onetape.simulator")
_CLUSTERS: Final = {f"/{cluster}": cluster for cluster in AssetClass}
_NO_CODE: Final = 1005
_TOO_BIG: Final = 1009
_MOST_BYTES: Final = 1 << 20
_SIMULATED: Final = {"X-Onetape-Simulated": "true"}


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How the stream moves through time."""

    step_s: float = 0.05
    bar_lag_s: float = 0.25  # of market time; the vendor's is about 2
    close_grace_s: float = 1.0
    most_s: float = 5.0  # a longer pause of the host is left out, not caught up with


class MassiveStream:
    """Serves the vendor's WebSockets from one market; one loop owns it."""

    def __init__(
        self,
        *,
        sockets: VendorSockets,
        tape: Tape,
        now_ns: Callable[[], int],
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._sockets = sockets
        self._tape = tape
        self._now_ns = now_ns
        self._clock = clock
        self._pace = pace
        self._links: dict[SessionId, _Link] = {}
        self._ids = count(1)
        self._wanted: dict[tuple[AssetClass, int], tuple[frozenset[Topic], dict[str, Symbols]]] = {}
        self.resync()

    def route(self, request: WSUpgradeRequest, peer: str) -> Upgrade:
        """Take an upgrade to a cluster's path; None for any other. Never raises."""
        del peer
        path = request.path.partition(b"?")[0].decode("latin-1").rstrip("/")
        cluster = _CLUSTERS.get(path)
        if cluster is None:
            return None
        status = self._sockets.refuses(cluster, self._clock.monotonic())
        if status is not None:
            return refuse(status, HTTPStatus(status).phrase.encode(), _SIMULATED)
        response = WSUpgradeResponse.create_101_response(_SIMULATED)
        link = _Link(self, SessionId(next(self._ids)), cluster)
        return WSUpgradeResponseWithListener(response, link)

    async def run(self) -> None:
        """Step through market time until cancelled."""
        while True:
            await asyncio.sleep(self._pace.step_s)
            self.step()

    def resync(self) -> None:
        """Go on from the market's present, leaving out what is between."""
        self._stepped_at = self._clock.monotonic()
        self._until_ns = self._now_ns()

    def step(self) -> None:
        """Publish what happened since the last step."""
        now = self._clock.monotonic()
        self._do(self._sockets.tick(now))
        if now - self._stepped_at > self._pace.most_s:
            _log.warning("simulator.paused", extra={"for_s": now - self._stepped_at})
            self.resync()
        start_ns, self._until_ns = self._until_ns, max(self._until_ns, self._now_ns())
        self._stepped_at = now
        for cluster in AssetClass:
            for delay_ns, topics in tuple(self._sockets.demand(cluster).items()):
                events = events_between(
                    self._tape,
                    cluster,
                    self._channels(cluster, delay_ns, topics),
                    start_ns=start_ns - delay_ns,
                    end_ns=self._until_ns - delay_ns,
                    bar_lag_ns=round(self._pace.bar_lag_s * 1e9),
                )
                self._do(self._sockets.publish(cluster, delay_ns, events, now))

    def _channels(
        self, cluster: AssetClass, delay_ns: int, topics: frozenset[Topic]
    ) -> dict[str, Symbols]:
        """Part the topics, once per change: the market remembers the sets it was asked with."""
        known = self._wanted.get((cluster, delay_ns))
        if known is None or known[0] is not topics:
            known = self._wanted[cluster, delay_ns] = topics, by_channel(topics)
        return known[1]

    # called by links

    def opened(self, link: "_Link") -> None:
        """Greet a connection that can be written to."""
        self._links[link.session] = link
        self._do(self._sockets.accept(link.session, link.cluster, self._clock.monotonic()))

    def received(self, session: SessionId, frame: bytes) -> None:
        """Answer a client's frame."""
        self._do(self._sockets.receive(session, frame, self._clock.monotonic()))

    def refuse_size(self, link: "_Link") -> None:
        """Close on a message in fragments that grows too long: 1009, as for one too long a frame."""
        self._sockets.lost(link.session)
        link.close(_TOO_BIG, "", grace_s=self._pace.close_grace_s)

    def closed(self, session: SessionId) -> None:
        """Forget a connection."""
        self._links.pop(session, None)
        self._sockets.lost(session)

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            link = self._links.get(effect.session)
            if link is None:
                continue
            match effect:
                case Send(frame=frame):
                    pending_bytes = link.send(frame)
                    self._do(self._sockets.written(effect.session, pending_bytes))
                case Close(code=code, reason=reason):
                    link.close(code, reason, grace_s=self._pace.close_grace_s)
                case Abort():
                    link.drop(grace_s=self._pace.close_grace_s)
                case Freeze():
                    link.transport.underlying_transport.pause_reading()
                case Thaw():
                    link.transport.underlying_transport.resume_reading()
                case Ping():
                    link.transport.send_ping()


class _Link(WSListener):
    """One socket."""

    transport: WSTransport

    def __init__(self, stream: MassiveStream, session: SessionId, cluster: AssetClass) -> None:
        self.session = session
        self.cluster = cluster
        self._stream = stream
        self._fragments: list[bytes] = []
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say that we are here."""
        self.transport = transport
        self._stream.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand whole messages on; answer a goodbye."""
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._fragments.append(frame.get_payload_as_bytes())
                if frame.fin:
                    message = b"".join(self._fragments)
                    self._fragments.clear()
                    self._stream.received(self.session, message)
                elif sum(map(len, self._fragments)) > _MOST_BYTES:
                    self._fragments.clear()
                    self._stream.refuse_size(self)
            case WSMsgType.CLOSE:
                if not self._closing:
                    transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes()[:2])
                transport.disconnect()
            case _:
                pass

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the machine."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._stream.closed(self.session)

    def pause_writing(self) -> None:
        """Go on: the machine bounds what waits, and cuts."""

    def resume_writing(self) -> None:
        """Go on."""

    def send(self, frame: bytes) -> int:
        """Write one text frame; return the bytes that still wait. Nothing follows a goodbye."""
        if not self._closing:
            self.transport.send(WSMsgType.TEXT, frame)
        return self.transport.underlying_transport.get_write_buffer_size()

    def close(self, code: int, reason: str, *, grace_s: float) -> None:
        """Say goodbye, and wait for the answer no longer than the grace."""
        if not self._closing:
            payload = b"" if code == _NO_CODE else struct.pack("!H", code) + reason.encode()
            self.transport.send(WSMsgType.CLOSE, payload)
            self._end_within(grace_s)

    def drop(self, *, grace_s: float) -> None:
        """End without a close frame, after what was written, which must not take long."""
        if not self._closing:
            self._end_within(grace_s)
            self.transport.disconnect()

    def _end_within(self, grace_s: float) -> None:
        self._closing = True
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            grace_s, partial(self.transport.disconnect, graceful=False)
        )
