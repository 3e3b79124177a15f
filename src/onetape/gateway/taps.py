"""The gateway's own providers as readers of its fan-out: the `LiveFeed` on Massive's streams.

    providers ── open ──▶ Taps ──▶ Tap ──insider──▶ MassiveHub ──▶ MassiveWebSocket
                                    │ one for each asset class, shared with the clients
    take ◀── typed, one list ───────┤◀── a turn's events, as the vendor wrote them
    tell ◀── live, not live ────────┘◀── notices

So what the gateway needs itself and what its clients read is one subscription upstream. A
tap joins with the first topic that is wanted and leaves with the last: an idle gateway
holds no upstream. A topic is *live* while the upstream carries it, acknowledged and up;
what that is, the upstream is asked whenever a notice says that it may have changed:

    wanted ──acknowledged, or carried for somebody already──▶ live
    live ──lost, evicted, login refused, topic refused──▶ not live ──carried again──▶ live

What is not carried at all is told not live at once: a channel without a model, a class
that the gateway has no stream of, a quote beyond the vendor's bound. The last is asked for
again whenever what is wanted changes. Sans-I/O.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from onetape.clock import Clock
from onetape.errors import InvalidTopic
from onetape.gateway.fanout import Insider, MassiveHub
from onetape.massive import notices
from onetape.massive.wire_stream import array, read
from onetape.model import AssetClass, ClientId, Topic
from onetape.providers.interfaces import Handle
from onetape.providers.readers import Event, Reader, Readers, Take, Tell
from onetape.symbols import CHANNELS, WILDCARD, parse_topic

MODELLED: Final = frozenset({"Q", "T", "A", "AM", "V"})
"""The channels whose events have a model; only these can be read."""

_INSIDE: Final = ClientId("inside")
_ROUTES: Final = 100_000  # remembered; a wildcard could make them as many as the vendor lists
_CLASSES: Final = {"O:": AssetClass.OPTIONS, "I:": AssetClass.INDICES}
_CUT_OFF: Final = {"upstream_disconnected", "upstream_evicted", "upstream_auth_failed"}

Route = Sequence[Callable[[Event], None]]


class Carrier(Protocol):
    """What a tap must know of the vendor's socket: `MassiveWebSocket`."""

    @property
    def simulated(self) -> bool:
        """Whether the vendor is a simulator."""
        ...

    @property
    def delayed(self) -> bool:
        """Whether the vendor's data are."""
        ...

    def carries(self, topic: Topic) -> bool:
        """Whether the topic is live."""
        ...


class Line(Protocol):
    """One asset class of the gateway: its fan-out and the socket under it."""

    @property
    def hub(self) -> MassiveHub:
        """The fan-out."""
        ...

    @property
    def stream(self) -> Carrier:
        """The socket."""
        ...


class TapStatistics(NamedTuple):
    """A snapshot for metrics."""

    readers: int
    topics: int
    live: int
    refused: int  # topics beyond the vendor's bound
    failures: int  # callbacks that raised
    events: int
    undecodable: int


class Tap:
    """One asset class. One event loop owns it."""

    def __init__(self, line: Line, *, clock: Clock) -> None:
        self._hub = line.hub
        self._stream = line.stream
        self._clock = clock
        self._readers = Readers(f"massive.{line.hub.asset}", on_close=self._follow)
        self._insider: Insider | None = None
        self._held: set[Topic] = set()  # what the fan-out sends us
        self._routes: defaultdict[type, dict[str, Route]] = defaultdict(dict)
        self._is_cut_off = False  # the upstream is a gateway, and its own upstream is gone
        self._events = self._undecodable = 0

    def open(self, topics: frozenset[Topic], take: Take, tell: Tell) -> Reader:
        """Read topics of this class; see `LiveFeed.open`. `T.*` reads a whole channel."""
        readable = [topic for topic in sorted(topics) if topic.partition(".")[0] in MODELLED]
        reader = self._readers.open({topic: frozenset({topic}) for topic in readable}, take, tell)
        self._readers.greet(reader)
        self._follow()
        self._readers.tell(reader, topics - self._held, is_live=False)
        return reader

    def take(self, raws: list[bytes]) -> None:
        """Read a turn's events and hand them out: the hot path."""
        batch = read(array(raws))
        received_ns = self._clock.now_ns()
        is_simulated, is_delayed = self._stream.simulated, self._stream.delayed
        routes = self._routes
        for wire in batch.wires:
            event = wire.model(received_ns, is_simulated)
            if event is None:
                continue  # of a channel that is not read
            if is_delayed:  # nobody trades on these, so they may cost more
                event = msgspec.structs.replace(event, delayed=True)
            route = routes[type(wire)].get(event.symbol)  # the type is the channel
            if route is None:
                route = self._open_route(wire.topic(), routes[type(wire)], event.symbol)
            for put in route:
                put(event)
        self._events += len(batch.wires)
        self._undecodable += batch.undecodable
        self._readers.flush()

    def hear(self, notice: notices.Notice) -> None:
        """Take what happens upstream: some topics may be live now, or no longer."""
        match notice:
            case notices.TopicsLive(topics=topics) | notices.TopicsFailed(topics=topics):
                if not any(topic.endswith(".*") for topic in topics):
                    self._recheck(topics & self._held)
                    return
            case notices.Authenticated():
                self._is_cut_off = False  # said anew with the first topic
            case notices.PeerStatus(status=said) if said.status in _CUT_OFF:
                self._is_cut_off = True
            case notices.PeerStatus(status=said) if said.status == "upstream_restored":
                self._is_cut_off = False
            case notices.Lost() | notices.Evicted() | notices.AuthFailed() | notices.Restored():
                pass
            case _:
                return
        self._recheck(self._held)

    def statistics(self) -> TapStatistics:
        """Count everything."""
        readers = self._readers.statistics()
        return TapStatistics(
            readers=readers.readers,
            topics=readers.keys,
            live=readers.live,
            refused=readers.keys - len(self._held),
            failures=readers.failures,
            events=self._events,
            undecodable=self._undecodable,
        )

    # private

    def _follow(self) -> None:
        """Read of the fan-out what is wanted now; nothing is no reason to be in it."""
        self._routes.clear()
        wanted = frozenset(map(Topic, self._readers.keys))
        if not wanted:
            self._leave()
            return
        if self._insider is None:
            self._insider = Insider(_INSIDE, self.take, lambda: self._recheck(self._held))
            self._hub.admit(self._insider)
        gone = self._held - wanted
        self._held -= gone
        self._hub.unsubscribe(self._insider, gone)
        missing = wanted - self._held
        refused = self._hub.subscribe(self._insider, sorted(missing))
        self._held |= missing - refused.keys()
        self._recheck(missing)

    def _leave(self) -> None:
        insider, self._insider = self._insider, None
        self._held.clear()
        if insider is not None:
            self._hub.leave(insider)

    def _recheck(self, topics: Iterable[Topic]) -> None:
        live = {topic for topic in topics if self._is_live(topic)}
        self._readers.set_live(set(topics) - live, is_live=False)
        self._readers.set_live(live, is_live=True)

    def _is_live(self, topic: Topic) -> bool:
        if self._is_cut_off or topic not in self._held:
            return False
        return self._stream.carries(topic) or self._stream.carries(_channel_of(topic))

    def _open_route(self, topic: Topic, routes: dict[str, Route], symbol: str) -> Route:
        if len(routes) >= _ROUTES:
            routes.clear()
        readers = (*self._readers.of(topic), *self._readers.of(_channel_of(topic)))
        route = routes[symbol] = [reader.pending.append for reader in dict.fromkeys(readers)]
        return route


class Taps:
    """A `LiveFeed` over every stream of the gateway. One event loop owns it.

    Args:
        lines: What the gateway carries.
        clock: The time.
    """

    def __init__(self, lines: Mapping[AssetClass, Line], *, clock: Clock) -> None:
        self._taps = {asset: Tap(line, clock=clock) for asset, line in lines.items()}
        self._nowhere = Readers("nowhere", on_close=_nothing)  # of what is not carried

    def open(self, topics: frozenset[Topic], take: Take, tell: Tell) -> Handle:
        """Read topics, each on the stream of its class. Never raises.

        What is live already is told at once, and so is what cannot be.
        """
        by_asset: defaultdict[AssetClass | None, set[Topic]] = defaultdict(set)
        for topic in topics:
            asset = _asset_of(topic)
            by_asset[asset if asset in self._taps else None].add(topic)
        nowhere = self._nowhere.open({}, take, tell)
        self._nowhere.tell(nowhere, frozenset(by_asset.pop(None, ())), is_live=False)
        parts: list[Handle] = [nowhere]
        for asset, tap in self._taps.items():
            if asset in by_asset:
                parts.append(tap.open(frozenset(by_asset[asset]), take, tell))
        return _Handles(parts)

    def notice(self, asset: AssetClass, notice: notices.Notice) -> None:
        """Take every notice of a stream, after its fan-out did."""
        self._taps[asset].hear(notice)

    def statistics(self) -> Mapping[AssetClass, TapStatistics]:
        """Count everything."""
        return {asset: tap.statistics() for asset, tap in self._taps.items()}


class _Handles:
    """What was opened with one call."""

    def __init__(self, parts: Sequence[Handle]) -> None:
        self._parts = parts

    def close(self) -> None:
        """Close all of it."""
        for part in self._parts:
            part.close()


def _asset_of(topic: Topic) -> AssetClass | None:
    """Return the class whose stream has the topic; None when none has, or several."""
    channel, _, symbol = topic.partition(".")
    if symbol == WILDCARD:
        having = [asset for asset, channels in CHANNELS.items() if channel in channels]
        return having[0] if len(having) == 1 else None
    asset = _CLASSES.get(symbol[:2], AssetClass.STOCKS)
    try:
        parse_topic(topic, asset)
    except InvalidTopic:
        return None
    return asset


def _channel_of(topic: Topic) -> Topic:
    return Topic(topic.partition(".")[0] + ".*")


def _nothing() -> None:
    pass
