"""The market's one view, as sessions read it: the latest of each key, to whoever asks.

    MarketDataHub ──ticks──▶ MarketDesk ── owe ──▶ MarketVisit ──▶ socket
      one reader of it         Latest, one a key     what it is owed, and what it holds

Nothing waits in a queue. A visit knows which keys it is owed and the sequence it holds of
each; when its socket takes more it gets what brings it up to date. So what a client missed
costs no memory, the newest is all it ever gets, and a newcomer, a slow reader and one that
keeps up are the same case. Only statuses wait, and they are bounded.

A key is watched at the hub from its first reader until a while after its last.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from onetape.clock import Clock
from onetape.consolidation import Key, Kind
from onetape.core.subscriptions import SubscriptionTable
from onetape.errors import (
    NotEntitled,
    OnetapeError,
    SlowReader,
    Throttled,
    TooManyTopics,
)
from onetape.gateway import replies
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import Later, Sink
from onetape.gateway.market_wire import (
    Latest,
    parse_key,
    part_in,
    part_of,
    snapshot_events,
    topic_of,
    trouble,
)
from onetape.gateway.session import Account, named
from onetape.massive.wire_stream import Action, pack, status_event
from onetape.model import (
    AssetClass,
    ClientId,
    MarketDataSnapshot,
    MarketDataTick,
    Topic,
)
from onetape.providers.interfaces import Handle

ASSETS: Final = {
    Kind.EQUITY: AssetClass.STOCKS,
    Kind.INDEX: AssetClass.INDICES,
    Kind.CHAIN: AssetClass.OPTIONS,
    Kind.FLOW: AssetClass.OPTIONS,
}
"""Which asset class a credential needs for which keys."""

_EXAMPLE: Final = "equity:SPY,index:SPX"
_WRITE_BYTES: Final = 65_536  # between two looks at whether the socket is full


class MarketHub(Protocol):
    """What the desk asks of `hub.MarketDataHub`."""

    def watch(self, keys: Iterable[Key]) -> Handle:
        """Watch parts until the handle is closed."""
        ...

    def subscribe_tick(
        self, name: str, callback: Callable[[MarketDataTick], object] | None = None
    ) -> Handle:
        """Read every change."""
        ...

    def snapshot(self) -> MarketDataSnapshot:
        """Return the whole view."""
        ...

    def why(self, kind: Kind, symbol: str) -> str | None:
        """Return why a part is not there, or is not the newest; None when all is well."""
        ...


class MarketPolicy(NamedTuple):
    """How much one client may have, and how long things wait."""

    max_keys: int = 100  # of one client
    linger_s: float = 5.0
    chain_s: float = 0.5  # between two changes of one chain: they are large
    snapshot_s: float = 1.0  # between two of one client
    stalled_s: float = 30.0  # a socket that was full for so long is not read
    status_bytes: int = 1 << 16  # that may wait for one client


class MarketStatistics(NamedTuple):
    """A snapshot for metrics. Counts are since the start."""

    clients: int
    congested: int
    keys: int
    keys_lingering: int
    subscriptions: int
    ticks: int
    events_out: int
    bytes_out: int
    conflated: int  # events that a newer one replaced before they were sent
    slow_readers: int


class MarketDesk:
    """The hub's view for any number of clients: a `session.Desk`.

    One task, the event loop, calls everything here; no method waits. The hub is open
    for as long as clients are let in.
    """

    name = "market"
    actions = ("subscribe", "unsubscribe", "snapshot")

    def __init__(
        self,
        hub: MarketHub,
        *,
        clock: Clock,
        loop: Later,
        policy: MarketPolicy = MarketPolicy(),  # noqa: B008 - immutable
    ) -> None:
        self.clock = clock
        self.policy = policy
        self._hub = hub
        self._loop = loop
        self._table = SubscriptionTable(linger_s=policy.linger_s)
        self._visits: dict[ClientId, MarketVisit] = {}
        self._latest: dict[Topic, Latest] = {}
        self._watches: dict[Topic, Handle] = {}
        self._told: dict[Topic, tuple[str, str]] = {}  # the trouble that readers know of
        self._reading: Handle | None = None
        self._sequence = 0  # the hub's, as far as we have it
        self._parked: dict[Topic, MarketDataTick] = {}  # chains that changed again too soon
        self._unpark_due = False
        self._changed_at: dict[Topic, float] = {}
        self._touched: dict[ClientId, None] = {}
        self._flush_due = False
        self._frames: dict[tuple[bytes, ...], list[bytes]] = {}  # of this flush
        self._totals = dict.fromkeys(MarketStatistics._fields, 0)

    # sessions

    def check(self, principal: Principal) -> None:
        """Let in whoever may read anything here; each key is looked at by itself.

        Raises:
            NotEntitled: the credential is for nothing at all.
        """
        if not any(principal.admits_asset(asset) for asset in ASSETS.values()):
            raise NotEntitled("this credential is for no market data")

    def enter(self, client: ClientId, sink: Sink) -> "MarketVisit":
        """Take a client in."""
        visit = self._visits[client] = MarketVisit(self, client, sink)
        return visit

    def leave(self, visit: "MarketVisit") -> None:
        """Forget a client, however it left."""
        if self._visits.pop(visit.id, None) is None:
            return
        self._table.drop(visit.id, now=self.clock.monotonic())
        for name in ("events_out", "bytes_out", "conflated"):
            self._totals[name] += getattr(visit, name)

    def topics(self, visit: "MarketVisit") -> Collection[Topic]:
        """What the client reads."""
        return self._table.topics(visit.id)

    def open(self, visit: "MarketVisit", key: Key) -> Topic:
        """Let the client read a key from now on; `begin` sends what is known.

        Raises:
            InvalidSymbol, InvalidRequest: the hub has no such part.
            TooManyTopics: the hub's places are taken.
        """
        topic = topic_of(key)
        if topic not in self._latest:
            self._watches[topic] = self._watch(key)
            self._latest[topic] = Latest(key)
            if self._reading is None:
                self._reading = self._hub.subscribe_tick("ws.market", self._take)
        self._table.add(visit.id, [topic])
        return topic

    def begin(self, visit: "MarketVisit", topics: Sequence[Topic]) -> None:
        """Send the client what is known of keys just opened, and why of what is not."""
        fresh = [one for topic in topics if (one := self._latest[topic]).sequence < 0]
        if fresh:
            self._fill(fresh, self._hub.snapshot())
        for topic in topics:
            told = self._told.get(topic)
            self._look(self._latest[topic])
            if told is not None and told == self._told.get(topic) and visit.id in self._visits:
                visit.say(trouble(topic, *told))  # the others know; what is new was told to all
            if self._latest[topic].datum is not None:
                self._owe([visit.id], topic)

    def close(self, visit: "MarketVisit", topics: Iterable[Topic]) -> None:
        """Send the client these no more."""
        self._table.remove(visit.id, topics, now=self.clock.monotonic())

    def events(self, topic: Topic, held: int | None) -> tuple[Sequence[bytes], int]:
        """Return what brings a reader of a key up to date, and the sequence it then holds."""
        latest = self._latest[topic]
        return latest.events(held, self.clock.now_ns()), latest.sequence

    def snapshot(self, visit: "MarketVisit") -> Sequence[bytes]:
        """Return all the client reads as of the hub's last flush: one instant."""
        topics = sorted(self.topics(visit))
        self._unpark(topics)
        missing = {
            str(topic): self._hub.why(*latest.key) or "not there"
            for topic in topics
            if (latest := self._latest[topic]).datum is None
        }
        parts = [self._latest[topic] for topic in topics]
        now_ns = self.clock.now_ns()
        return snapshot_events(parts, missing, sequence=self._sequence, now_ns=now_ns)

    def flush_soon(self, visit: "MarketVisit") -> None:
        """Write to the client at the end of this turn."""
        self._touched[visit.id] = None
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def frames(self, raws: Sequence[bytes]) -> list[bytes]:
        """Put events together, once for all who get the same in one flush."""
        known = tuple(raws)
        frames = self._frames.get(known)
        if frames is None:
            frames = self._frames[known] = pack(known)
        return frames

    # time

    def tick(self) -> None:
        """Release, look for failures, cut who does not read; call about twice a second."""
        now, now_ns = self.clock.monotonic(), self.clock.now_ns()
        self._frames.clear()
        self._release(self._table.expire(now=now))
        for latest in self._latest.values():
            latest.trim(now_ns)
            self._look(latest)
        for visit in tuple(self._visits.values()):
            if visit.is_stalled(now):
                self.cut(visit, "the client does not read")

    def cut(self, visit: "MarketVisit", why: str) -> None:
        """End a session that cannot keep up."""
        self._totals["slow_readers"] += 1
        visit.sink.cut(SlowReader(why))

    def statistics(self) -> MarketStatistics:
        """Count everything; walks the clients, so call it per scrape."""
        visits, table = self._visits.values(), self._table.statistics()
        return MarketStatistics(
            clients=len(visits),
            congested=sum(visit.is_congested for visit in visits),
            keys=table.topics_read,
            keys_lingering=table.topics_lingering,
            subscriptions=table.subscriptions,
            ticks=self._totals["ticks"],
            events_out=self._totals["events_out"] + sum(one.events_out for one in visits),
            bytes_out=self._totals["bytes_out"] + sum(one.bytes_out for one in visits),
            conflated=self._totals["conflated"] + sum(one.conflated for one in visits),
            slow_readers=self._totals["slow_readers"],
        )

    # private

    def _take(self, tick: MarketDataTick) -> None:
        """Take one change; the hub's reader calls it, all of one flush in one turn."""
        self._sequence = max(self._sequence, tick.sequence)
        topic = topic_of(part_of(tick)[0])
        if topic not in self._latest:
            return
        if tick.chain is not None:
            due_at = self._changed_at.get(topic, float("-inf")) + self.policy.chain_s
            if due_at > self.clock.monotonic():
                self._parked[topic] = tick
                self._unpark_by(due_at)
                return
        self._apply(topic, tick)

    def _unpark_by(self, due_at: float) -> None:
        if not self._unpark_due:
            self._unpark_due = True
            self._loop.call_later(due_at - self.clock.monotonic(), self._unpark_all)

    def _unpark_all(self) -> None:
        self._unpark_due = False
        self._unpark(tuple(self._parked))

    def _unpark(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            tick = self._parked.pop(topic, None)
            if tick is not None:
                self._apply(topic, tick)

    def _apply(self, topic: Topic, tick: MarketDataTick) -> None:
        latest = self._latest[topic]
        if not latest.update(part_of(tick)[1], tick.sequence):
            return
        if tick.chain is not None:
            self._changed_at[topic] = self.clock.monotonic()
        self._totals["ticks"] += 1
        self._look(latest)
        self._owe(self._table.readers(topic), topic)

    def _owe(self, clients: Iterable[ClientId], topic: Topic) -> None:
        for client in clients:
            visit = self._visits.get(client)
            if visit is not None:
                visit.owe(topic)

    def _look(self, latest: Latest) -> None:
        """Tell a key's readers when its trouble begins, changes or ends."""
        why = self._hub.why(*latest.key)
        topic, told = latest.topic, self._told.get(latest.topic)
        if why is None:
            if self._told.pop(topic, ("", ""))[0] == "data_failed":
                event = status_event("data_restored", f"{topic} is renewed again", topic=topic)
                self._tell(topic, event)
            return
        status = "no_data_yet" if latest.datum is None else "data_failed"
        if told != (status, why):
            self._told[topic] = status, why
            self._tell(topic, trouble(topic, status, why))

    def _tell(self, topic: Topic, event: bytes) -> None:
        for client in tuple(self._table.readers(topic)):
            if client in self._visits:
                self._visits[client].say(event)

    def _fill(self, fresh: Iterable[Latest], snapshot: MarketDataSnapshot) -> None:
        self._sequence = max(self._sequence, snapshot.sequence)
        for latest in fresh:
            part = part_in(snapshot, latest.key)
            if part is not None:
                latest.update(part, snapshot.sequence)

    def _watch(self, key: Key) -> Handle:
        try:
            return self._hub.watch([key])
        except TooManyTopics:
            # What lingers gives way to what is wanted.
            self._release(self._table.expire(now=float("inf")))
            return self._hub.watch([key])

    def _release(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            del self._latest[topic]
            self._told.pop(topic, None)
            self._parked.pop(topic, None)
            self._changed_at.pop(topic, None)
            self._watches.pop(topic).close()
        if not self._latest and self._reading is not None:
            self._reading.close()
            self._reading = None

    def _flush(self) -> None:
        self._flush_due = False
        touched, self._touched = self._touched, {}
        for client in touched:
            visit = self._visits.get(client)
            if visit is not None and not _flushed(visit):
                self.cut(visit, "the client's socket is broken")
        self._frames.clear()


class MarketVisit:
    """One client's keys: a `session.Visit`."""

    __slots__ = (
        "_congested_at",
        "_desk",
        "_held",
        "_owed",
        "_snapshot_at",
        "_statuses",
        "_statuses_bytes",
        "_topics_most",
        "_wants_snapshot",
        "bytes_out",
        "conflated",
        "events_out",
        "id",
        "sink",
    )

    def __init__(self, desk: MarketDesk, client: ClientId, sink: Sink) -> None:
        self.id = client
        self.sink = sink
        self.events_out = self.bytes_out = self.conflated = 0
        self._desk = desk
        self._owed: dict[Topic, None] = {}
        self._held: dict[Topic, int] = {}  # the sequence of the last event of each key
        self._statuses: list[bytes] = []
        self._statuses_bytes = 0
        self._wants_snapshot = False
        self._snapshot_at = float("-inf")
        self._congested_at: float | None = None
        self._topics_most = 0

    # the session calls

    @property
    def is_congested(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._congested_at is not None

    def is_stalled(self, now: float) -> bool:
        """Whether the socket took nothing for too long."""
        stalled_s = self._desk.policy.stalled_s
        return self._congested_at is not None and now - self._congested_at >= stalled_s

    def act(self, action: Action, principal: Principal) -> None:
        """Subscribe, unsubscribe or take a snapshot; a bad key does not sink the others.

        Raises:
            InvalidFrame: it names no key.
            Throttled: it took a snapshot just now.
        """
        match action.action:
            case "subscribe":
                self._subscribe(named(action, _EXAMPLE), principal)
            case "unsubscribe":
                self._unsubscribe(named(action, _EXAMPLE))
            case _:
                self._ask_snapshot()

    def say(self, event: bytes) -> None:
        """Send one status event."""
        self._statuses.append(event)
        self._statuses_bytes += len(event)
        self._settle()

    def pause(self) -> None:
        """The socket is full."""
        if self._congested_at is None:
            self._congested_at = self._desk.clock.monotonic()

    def resume(self) -> None:
        """The socket takes more."""
        self._congested_at = None
        self.flush()

    def leave(self) -> Account:
        """Leave the desk."""
        self._desk.leave(self)
        return Account(self._topics_most, self.events_out, self.bytes_out, self.conflated)

    # the desk calls

    def owe(self, topic: Topic) -> None:
        """Note that there is news of a key."""
        if topic in self._owed:
            self.conflated += 1
        self._owed[topic] = None
        if self._congested_at is None:
            self._desk.flush_soon(self)

    def flush(self) -> None:
        """Write what is owed, as far as the socket takes it."""
        self._settle()
        while self._congested_at is None and (self._owed or self._wants_snapshot):
            self._write(self._next())

    # private

    def _next(self) -> list[bytes]:
        """Take the next events from what is owed, the snapshot behind all others."""
        raws: list[bytes] = []
        size_bytes = 0
        while self._owed and size_bytes < _WRITE_BYTES:
            topic = next(iter(self._owed))
            del self._owed[topic]
            events, self._held[topic] = self._desk.events(topic, self._held.get(topic))
            raws += events
            size_bytes += sum(map(len, events))
        if not self._owed and self._wants_snapshot and size_bytes < _WRITE_BYTES:
            self._wants_snapshot = False
            raws += self._desk.snapshot(self)
        return raws

    def _write(self, raws: Sequence[bytes]) -> None:
        self.events_out += len(raws)
        for frame in self._desk.frames(raws):
            self.bytes_out += len(frame)
            self.sink.write(frame)

    def _settle(self) -> None:
        """Write the statuses now; a client that lets too many wait is cut."""
        if not self._statuses:
            return
        if self._congested_at is None:
            statuses, self._statuses, self._statuses_bytes = self._statuses, [], 0
            self.events_out += len(statuses)
            for frame in pack(statuses):
                self.bytes_out += len(frame)
                self.sink.write(frame)
        elif self._statuses_bytes > self._desk.policy.status_bytes:
            self._statuses.clear()
            self._desk.cut(self, "the client reads too slowly")

    def _ask_snapshot(self) -> None:
        now, every_s = self._desk.clock.monotonic(), self._desk.policy.snapshot_s
        if now - self._snapshot_at < every_s:
            raise Throttled(f"a snapshot can be had every {every_s:g} s", retry_after_s=every_s)
        self._snapshot_at = now
        self._wants_snapshot = True
        self._desk.flush_soon(self)

    def _subscribe(self, names: list[str], principal: Principal) -> None:
        opened: list[Topic] = []
        for name in names:
            try:
                topic = self._open(parse_key(name), principal)
            except OnetapeError as error:
                self._note(replies.status_event(error, topic=Topic(name[:120])))
            else:
                if topic is not None:
                    opened.append(topic)
                    self._acknowledge("subscribed to: ", topic)
        self._settle()
        self._topics_most = max(self._topics_most, len(self._desk.topics(self)))
        self._desk.begin(self, opened)

    def _open(self, key: Key, principal: Principal) -> Topic | None:
        topic, held = topic_of(key), self._desk.topics(self)
        if topic in held:
            return None
        if not (principal.admits_asset(ASSETS[key.kind]) and principal.admits_topic(topic)):
            raise NotEntitled("not authorized")
        if len(held) >= self._desk.policy.max_keys:
            raise TooManyTopics(f"a client holds at most {self._desk.policy.max_keys} keys")
        return self._desk.open(self, key)

    def _unsubscribe(self, names: list[str]) -> None:
        for name in names:
            try:
                topic = topic_of(parse_key(name))
            except OnetapeError as error:
                self._note(replies.status_event(error, topic=Topic(name[:120])))
            else:
                self._desk.close(self, [topic])
                self._owed.pop(topic, None)
                self._held.pop(topic, None)
                self._acknowledge("unsubscribed to: ", topic)
        self._settle()

    def _acknowledge(self, what: str, topic: Topic) -> None:
        self._note(status_event("success", what + topic, topic=topic))

    def _note(self, event: bytes) -> None:
        self._statuses.append(event)
        self._statuses_bytes += len(event)


def _flushed(visit: MarketVisit) -> bool:
    try:
        visit.flush()
    except Exception:  # noqa: BLE001 - one client's broken socket must not stop the others
        return False
    return True
