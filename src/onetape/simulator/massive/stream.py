"""The sockets of the simulated vendor: carries out what its session machine decides.

One task steps through market time for all connections; reading is callbacks. Nothing
is decided here but how to write, and when a peer that does not say goodbye is cut.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from itertools import count
from typing import Final

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from onetape.asgi import Upgrade, refuse
from onetape.clock import Clock
from onetape.model import AssetClass, Topic
from onetape.simulator.effects import Effect, SessionId
from onetape.simulator.links import TOO_BIG, Link, Pace
from onetape.simulator.massive.events import Symbols, Tape, by_channel, events_between
from onetape.simulator.massive.session import VendorSockets

_log: Final = logging.getLogger("onetape.simulator")
_CLUSTERS: Final = {f"/{cluster}": cluster for cluster in AssetClass}
_SIMULATED: Final = {"X-Onetape-Simulated": "true"}


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
        self._links: dict[SessionId, Link] = {}
        self._clusters: dict[SessionId, AssetClass] = {}
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
        session = SessionId(next(self._ids))
        self._clusters[session] = cluster
        link = Link(self, session)
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

    def opened(self, link: Link) -> None:
        """Greet a connection that can be written to."""
        self._links[link.session] = link
        cluster = self._clusters.pop(link.session)
        self._do(self._sockets.accept(link.session, cluster, self._clock.monotonic()))

    def received(self, session: SessionId, frame: bytes) -> None:
        """Answer a client's frame."""
        self._do(self._sockets.receive(session, frame, self._clock.monotonic()))

    def refuse_size(self, link: Link) -> None:
        """Close on a message in fragments that grows too long: 1009, as for one too long a frame."""
        self._sockets.lost(link.session)
        link.close(TOO_BIG, "", grace_s=self._pace.close_grace_s)

    def closed(self, session: SessionId) -> None:
        """Forget a connection."""
        self._links.pop(session, None)
        self._clusters.pop(session, None)
        self._sockets.lost(session)

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            link = self._links.get(effect.session)
            if link is None:
                continue
            pending_bytes = link.obey(effect, grace_s=self._pace.close_grace_s)
            if pending_bytes:
                self._do(self._sockets.written(effect.session, pending_bytes))
