"""One asset class: one upstream socket, any number of readers.

The path of a tick. The upstream hands over a frame split into topics and the vendor's
own bytes. Each event is given to its topic's route, a list of the readers' own
`append`s, so a delivery costs one call and copies nothing. At the end of the loop's
turn, but not sooner than `flush_s` after the last time, every reader that got
something is written one frame. A system call costs as much as a hundred deliveries;
a busy loop reads more in a turn, and so writes more at a time, by itself.

A reader whose socket is full is *congested*: its events go to a bounded `Outbox`
that keeps only the latest quote and value of each topic, and every trade and bar.
Over its bound the reader is told and cut. Nothing here waits, and nobody else notices.

An *insider* reads within the gateway. It keeps the upstream awake as anybody does, and is
served after the clients; it is none of them, so it is not counted, told or cut.

What the upstream should carry is state, handed to it whole and at most once a turn.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from onetape.clock import Clock
from onetape.core.outbox import Outbox
from onetape.core.subscriptions import SubscriptionTable
from onetape.errors import SlowReader, SubscriptionFailed, TooManyTopics
from onetape.massive import notices
from onetape.massive.wire_stream import (
    CONFLATABLE,
    MAX_FRAME_BYTES,
    Split,
    array,
    pack,
    status_event,
    topic_of,
)
from onetape.model import AssetClass, ClientId, Topic


class Upstream(Protocol):
    """What the hub asks of the vendor's socket."""

    def activate(self) -> None:
        """Somebody is here."""
        ...

    def deactivate(self) -> None:
        """Nobody is."""
        ...

    def want(self, topics: frozenset[Topic]) -> None:
        """Carry exactly these."""
        ...


class Sink(Protocol):
    """A reader's socket."""

    def write(self, frame: bytes) -> None:
        """Send one text frame; may call `Reader.pause` before it returns."""
        ...

    def cut(self, error: SlowReader) -> None:
        """Tell the client why, close, and call `MassiveHub.leave`."""
        ...


class Later(Protocol):
    """The event loop, as far as the hub needs one."""

    def call_soon(self, callback: Callable[[], Any], /) -> object:
        """Call at the end of this turn."""
        ...

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> object:
        """Call after `delay` seconds."""
        ...


class HubPolicy(NamedTuple):
    """What the hub allows, and how long it waits."""

    linger_s: float = 5.0
    flush_s: float = 0.001
    outbox_bytes: int = 1 << 20
    option_quotes: int = 1_000  # the vendor's bound of Q contracts on one options connection
    insider_quotes: int = 500  # of these, what the gateway takes for itself; the rest is clients'


class HubStatistics(NamedTuple):
    """A snapshot for metrics, health and the dashboard."""

    clients: int
    congested: int
    topics_read: int
    topics_lingering: int
    subscriptions: int
    topics_failed: int
    events_in: int
    events_out: int
    bytes_out: int
    flushes: int
    conflated: int
    slow_readers: int
    garbled: int


class Reader:
    """A session as the fan-out sees it."""

    __slots__ = (
        "_conflated",
        "_max_bytes",
        "_outbox",
        "_sink",
        "bytes_out",
        "events_out",
        "id",
        "pending",
    )

    def __init__(self, client: ClientId, sink: Sink, *, max_bytes: int) -> None:
        self.id = client
        self.pending: list[bytes] = []  # this turn's events; only the hub appends
        self.events_out = 0
        self.bytes_out = 0
        self._conflated = 0  # by outboxes that are empty again
        self._sink = sink
        self._max_bytes = max_bytes
        self._outbox: Outbox | None = None  # exists only while the socket is full

    @property
    def is_congested(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._outbox is not None

    @property
    def conflated(self) -> int:
        """Events that a later one of the same topic replaced before they were sent."""
        waiting = self._outbox.statistics().conflated if self._outbox is not None else 0
        return self._conflated + waiting

    def flush(self) -> bool:
        """Write this turn's events as one frame; False when over the bound."""
        pending = self.pending
        if not pending:
            return True
        if self._outbox is not None:
            return self._stow(self._outbox)
        self.events_out += len(pending)
        frame = array(pending)
        for part in (frame,) if len(frame) < MAX_FRAME_BYTES else pack(pending):
            self.bytes_out += len(part)
            self._sink.write(part)
        pending.clear()
        return True

    def say(self, status: bytes) -> None:
        """Send one status event, behind whatever was delivered before it."""
        self.pending.append(status)
        self.settle()

    def settle(self) -> None:
        """Flush now, between turns; cut the reader if that is too much for it."""
        if not self.flush():
            self.cut(SlowReader("the client reads too slowly; its outbox is full"))

    def cut(self, error: SlowReader) -> None:
        """Tell the client why it is cut, and cut it."""
        self._sink.cut(error)

    def pause(self) -> None:
        """The socket is full: keep what comes, conflated, until `resume`."""
        if self._outbox is None:
            self._outbox = Outbox(self._max_bytes)

    def resume(self) -> None:
        """The socket takes more: write what waits, as far as it goes."""
        outbox, self._outbox = self._outbox, None
        while outbox is not None and len(outbox):
            raws = outbox.drain(MAX_FRAME_BYTES // 8)
            self.events_out += len(raws)
            frame = array(raws)
            self.bytes_out += len(frame)
            self._sink.write(frame)
            if self._outbox is not None:  # full again: go on with what is left
                self._outbox = outbox
                return
        if outbox is not None:
            self._conflated += outbox.statistics().conflated

    def _stow(self, outbox: Outbox) -> bool:
        fits = True
        for raw in self.pending:
            topic = topic_of(raw) or _STATUS
            conflatable = topic.partition(".")[0] in CONFLATABLE
            fits = fits and outbox.offer(topic, raw, conflatable=conflatable)
        self.pending.clear()
        return fits


class Insider:
    """A reader within the gateway: no client, never full, and told no statuses.

    Args:
        reader: A name that no client has.
        take: Takes what came since the last time, as the vendor wrote it. It may
            subscribe, unsubscribe and leave.
        recheck: Called when a topic may be carried otherwise than before and no notice
            says so: a `*` took the place of single topics upstream, or gave it back.
    """

    __slots__ = ("_take", "id", "pending", "recheck")

    def __init__(
        self,
        reader: ClientId,
        take: Callable[[list[bytes]], None],
        recheck: Callable[[], None],
    ) -> None:
        self.id = reader
        self.pending: list[bytes] = []  # this turn's events; only the hub appends
        self.recheck = recheck
        self._take = take

    def flush(self) -> None:
        """Hand over what came."""
        if self.pending:
            raws = self.pending.copy()  # the routes append to this very list
            self.pending.clear()
            self._take(raws)

    def say(self, status: bytes) -> None:
        """Say nothing: whoever is inside hears the notices themselves."""

    def settle(self) -> None:
        """Do nothing: every flush reaches an insider, whatever it reads by then."""


Route = Sequence[Callable[[bytes], None]]
_STATUS: Final = Topic("status")
_ROUTES: Final = 300_000  # topics remembered, read or not; more than the vendor lists


class MassiveHub:
    """Every reader of one asset class, and what they make the upstream carry.

    One task, the event loop, calls everything here; no method waits.
    """

    def __init__(
        self,
        asset: AssetClass,
        *,
        clock: Clock,
        loop: Later,
        policy: HubPolicy = HubPolicy(),  # noqa: B008 - immutable
    ) -> None:
        self.asset = asset
        self._clock = clock
        self._loop = loop
        self._policy = policy
        self._upstream: Upstream | None = None
        self._readers: dict[ClientId, Reader] = {}
        self._insiders: dict[ClientId, Insider] = {}
        self._table = SubscriptionTable(linger_s=policy.linger_s)
        self._routes: dict[Topic, Route] = {}
        self._option_quotes: set[Topic] = set()  # of those carried; the vendor bounds them
        self._failed: dict[Topic, str] = {}
        self._trouble: bytes | None = None  # the status a newcomer must hear too
        self._touched: set[Topic] = set()  # topics of this turn
        self._deliveries = 0  # of this turn
        self._flush_due = False
        self._flush_from = 0.0  # not before this
        self._want_due = False
        self._wildcards: frozenset[Topic] = frozenset()  # of what was asked of the upstream
        self._totals = dict.fromkeys(HubStatistics._fields, 0)

    def connect(self, upstream: Upstream) -> None:
        """Name the upstream; once, before the first reader."""
        self._upstream = upstream

    # sessions

    def join(self, client: ClientId, sink: Sink) -> Reader:
        """Take a client in; the first one wakes the upstream."""
        reader = Reader(client, sink, max_bytes=self._policy.outbox_bytes)
        self._readers[client] = reader
        self._wake()
        return reader

    def admit(self, insider: Insider) -> None:
        """Take an insider in, as `join` does a client."""
        self._insiders[insider.id] = insider
        self._wake()

    def leave(self, reader: Reader | Insider) -> None:
        """Forget a reader, however it left; the last one lets the upstream go idle."""
        present = self._readers if isinstance(reader, Reader) else self._insiders
        if present.pop(reader.id, None) is None:
            return
        self._forget_routes(self._table.topics(reader.id))
        self._table.drop(reader.id, now=self._clock.monotonic())
        reader.pending.clear()
        if isinstance(reader, Reader):
            for name in ("events_out", "bytes_out", "conflated"):
                self._totals[name] += getattr(reader, name)
        if not self._readers and not self._insiders and self._upstream is not None:
            self._upstream.deactivate()

    def subscribe(
        self, reader: Reader | Insider, topics: Collection[Topic]
    ) -> dict[Topic, TooManyTopics]:
        """Send the reader these topics from now on; returns those refused, and why."""
        refused = self._beyond_vendor_bound(topics)
        refused |= self._beyond_own_share(reader, [t for t in topics if t not in refused])
        accepted = [topic for topic in topics if topic not in refused]
        opened = self._table.add(reader.id, accepted)
        self._forget_routes(accepted)
        if opened:
            if self.asset is AssetClass.OPTIONS:
                self._option_quotes.update(t for t in opened if t.startswith("Q."))
            self._want_soon()
        if accepted and self._trouble is not None:
            reader.say(self._trouble)
        for topic in self._failed.keys() & accepted if self._failed else ():
            reader.say(_failure(topic, self._failed[topic]))
        return refused

    def unsubscribe(self, reader: Reader | Insider, topics: Iterable[Topic]) -> None:
        """Send the reader these topics no more; what came of them until now it still gets."""
        gone = list(topics)
        if reader.pending:  # the flush looks for readers by topic, and would miss this one
            reader.settle()
        self._forget_routes(gone)
        self._table.remove(reader.id, gone, now=self._clock.monotonic())

    def topics(self, reader: Reader | Insider) -> Collection[Topic]:
        """What the reader reads."""
        return self._table.topics(reader.id)

    # upstream

    def deliver(self, frame: Split) -> None:
        """Hand each event to its topic's readers: the hot path, one call a delivery."""
        routes = self._routes
        deliveries = 0
        for topic, raw in zip(frame.topics, frame.raws, strict=True):
            route = routes.get(topic)
            if route is None:
                route = self._open_route(topic)
            for put in route:
                put(raw)
            deliveries += len(route)
        self._totals["events_in"] += len(frame.raws)
        self._totals["garbled"] += len(frame.garbage)
        if deliveries:
            self._deliveries += deliveries
            self._touched.update(frame.topics)
            self._flush_soon()

    def notice(self, notice: notices.Notice) -> None:
        """Tell the clients concerned what became of the upstream."""
        match notice:
            case notices.TopicsFailed(topics=topics, reason=reason):
                self._failed.update(dict.fromkeys(topics, reason))
                self._tell_readers_of({topic: _failure(topic, reason) for topic in topics})
            case notices.TopicsLive(topics=topics):
                back = [topic for topic in topics if self._failed.pop(topic, None) is not None]
                self._tell_readers_of({topic: _recovery(topic) for topic in back})
            case notices.Authenticated():
                self._trouble = None
            case notices.VendorStatus(status=status, message=message):
                self._tell_all(status_event(status, message))
            case notices.PeerStatus(status=said):
                self._tell_all(status_event(said.status, said.message))
            case _:
                event = _trouble(notice)
                if event is not None:
                    if not isinstance(notice, notices.Restored):
                        self._trouble = event
                    self._tell_all(event)

    def tick(self) -> None:
        """Release the topics whose linger is over; call about twice a second."""
        released = self._table.expire(now=self._clock.monotonic())
        if released:
            self._option_quotes -= released
            for topic in released:
                self._failed.pop(topic, None)
            self._want_soon()

    def statistics(self) -> HubStatistics:
        """Count everything; walks the readers, so call it per scrape."""
        table = self._table.statistics()
        readers = self._readers.values()
        return HubStatistics(
            clients=len(readers),
            congested=sum(reader.is_congested for reader in readers),
            topics_read=table.topics_read,
            topics_lingering=table.topics_lingering,
            subscriptions=table.subscriptions,
            topics_failed=len(self._failed),
            events_in=self._totals["events_in"],
            events_out=self._totals["events_out"] + sum(r.events_out for r in readers),
            bytes_out=self._totals["bytes_out"] + sum(r.bytes_out for r in readers),
            flushes=self._totals["flushes"],
            conflated=self._totals["conflated"] + sum(r.conflated for r in readers),
            slow_readers=self._totals["slow_readers"],
            garbled=self._totals["garbled"],
        )

    # private

    def _wake(self) -> None:
        if len(self._readers) + len(self._insiders) == 1 and self._upstream is not None:
            self._upstream.activate()

    def _open_route(self, topic: Topic) -> Route:
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        everything = Topic(topic.partition(".")[0] + ".*")
        clients = dict.fromkeys((*self._table.readers(topic), *self._table.readers(everything)))
        present: list[Reader | Insider] = [
            self._readers.get(client) or self._insiders[client] for client in clients
        ]
        route = [reader.pending.append for reader in present]
        self._routes[topic] = route
        return route

    def _forget_routes(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic.endswith(".*"):
                self._routes.clear()
            self._routes.pop(topic, None)

    def _flush_soon(self) -> None:
        if self._flush_due:
            return
        self._flush_due = True
        wait_s = self._flush_from - self._clock.monotonic()
        if wait_s > 0:
            self._loop.call_later(wait_s, self._flush)
        else:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._totals["flushes"] += 1
        too_slow = [reader for reader in self._touched_readers() if not _flushed(reader)]
        self._touched.clear()
        self._deliveries = 0
        self._flush_from = self._clock.monotonic() + self._policy.flush_s
        for reader in too_slow:
            self._totals["slow_readers"] += 1
            reader.cut(SlowReader("the client reads too slowly; its outbox is full"))
        for insider in tuple(self._insiders.values()):
            insider.flush()

    def _touched_readers(self) -> Collection[Reader]:
        """Which clients got something: no more than deliveries, so never O(clients) for little."""
        if self._deliveries >= len(self._readers):
            return list(self._readers.values())
        clients: set[ClientId] = set()
        for topic in self._touched:
            clients.update(self._table.readers(topic))
            clients.update(self._table.readers(Topic(topic.partition(".")[0] + ".*")))
        return [reader for client in clients if (reader := self._readers.get(client)) is not None]

    def _want_soon(self) -> None:
        if not self._want_due:
            self._want_due = True
            self._loop.call_soon(self._want)

    def _want(self) -> None:
        self._want_due = False
        if self._upstream is None:
            return
        wanted = _least(self._table.carried)
        self._upstream.want(wanted)
        before, self._wildcards = self._wildcards, frozenset(t for t in wanted if t.endswith(".*"))
        if before != self._wildcards:
            for insider in tuple(self._insiders.values()):
                insider.recheck()

    def _beyond_vendor_bound(self, topics: Collection[Topic]) -> dict[Topic, TooManyTopics]:
        if self.asset is not AssetClass.OPTIONS:
            return {}
        fresh = [t for t in topics if t.startswith("Q.") and t not in self._option_quotes]
        room = self._policy.option_quotes - len(self._option_quotes)
        if len(fresh) > room:
            # Lingering topics give way to wanted ones.
            self._option_quotes -= self._table.expire(now=float("inf"))
            room = self._policy.option_quotes - len(self._option_quotes)
        error = TooManyTopics(
            f"the vendor carries quotes of {self._policy.option_quotes} option contracts"
            " per connection, and all are taken"
        )
        return dict.fromkeys(fresh[max(0, room) :], error)

    def _beyond_own_share(
        self, reader: Reader | Insider, topics: Collection[Topic]
    ) -> dict[Topic, TooManyTopics]:
        """Refuse an insider what would leave clients too little."""
        if self.asset is not AssetClass.OPTIONS or isinstance(reader, Reader):
            return {}
        held = self._table.topics(reader.id)
        fresh = [topic for topic in topics if topic.startswith("Q.") and topic not in held]
        room = self._policy.insider_quotes - sum(topic.startswith("Q.") for topic in held)
        error = TooManyTopics(f"the gateway itself reads {self._policy.insider_quotes} at most")
        return dict.fromkeys(fresh[max(0, room) :], error)

    def _tell_all(self, event: bytes) -> None:
        for reader in self._readers.values():
            if self._table.topics(reader.id):
                reader.pending.append(event)
        self._deliveries += len(self._readers)
        self._flush_soon()

    def _tell_readers_of(self, events: dict[Topic, bytes]) -> None:
        for topic, event in events.items():
            for client in self._table.readers(topic):
                if client in self._readers:  # and no insider
                    self._readers[client].pending.append(event)
                    self._deliveries += 1
        self._touched.update(events)
        self._flush_soon()


def _flushed(reader: Reader) -> bool:
    try:
        return reader.flush()
    except Exception:  # noqa: BLE001 - one client's broken socket must not stop the others
        return False


def _least(carried: frozenset[Topic]) -> frozenset[Topic]:
    """What to ask of the vendor: a `*` makes its channel's single topics superfluous."""
    whole = {topic[:-1] for topic in carried if topic.endswith(".*")}
    if not whole:
        return carried
    return frozenset(t for t in carried if t.endswith(".*") or t[: t.index(".") + 1] not in whole)


def _failure(topic: Topic, reason: str) -> bytes:
    return status_event("subscription_failed", reason, code=SubscriptionFailed.code, topic=topic)


def _recovery(topic: Topic) -> bytes:
    return status_event("subscription_restored", f"{topic} is carried again", topic=topic)


def _trouble(notice: notices.Notice) -> bytes | None:
    """The status a client hears of the upstream's state; None when it is none of its business."""
    match notice:
        case notices.Lost(reason=reason, since_ns=since_ns):
            return status_event(
                "upstream_disconnected",
                f"the vendor's connection is lost ({reason}); reconnecting",
                code="upstream_down",
                gap_start_ns=since_ns,
            )
        case notices.Restored(gap_start_ns=start, gap_end_ns=end):
            return status_event(
                "upstream_restored",
                "the vendor's connection is back; events between the bounds were missed",
                gap_start_ns=start,
                gap_end_ns=end,
            )
        case notices.Evicted(cool_down_s=cool_down_s):
            return status_event(
                "upstream_evicted",
                "another login on the vendor account took our connection;"
                f" waiting {cool_down_s:g} s before trying again",
                code="upstream_evicted",
                retry_after_s=cool_down_s,
            )
        case notices.AuthFailed():
            return status_event(
                "upstream_auth_failed",
                "the vendor did not accept the gateway's key for this asset class",
                code="upstream_forbidden",
            )
        case _:
            return None
