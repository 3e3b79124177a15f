"""The gateway's own providers on its fan-out: R60, R61, R208, R228, W-62."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onetape.clock import SystemClock
from onetape.gateway.fanout import HubPolicy, MassiveHub, Reader
from onetape.gateway.taps import Tap, Taps
from onetape.massive import notices
from onetape.massive.notices import FeedPolicy, Notice
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import Status, array, event, split
from onetape.model import AssetClass, Bar, ClientId, Quote, Topic, Trade
from onetape.providers.interfaces import Handle
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Drop, Evict, Stage, StreamRule
from onetape.testing import ManualClock, until

OPTIONS, INDICES, STOCKS = AssetClass.OPTIONS, AssetClass.INDICES, AssetClass.STOCKS
CALL, PUT = Topic("Q.O:SPY251219C00650000"), Topic("T.O:SPY251219P00650000")
SPX, SPY, PRINTS = Topic("V.I:SPX"), Topic("T.SPY"), Topic("T.*")
LOST = notices.Lost(reason="reset", code=1006, since_ns=5)
RESTORED = notices.Restored(gap_start_ns=5, gap_end_ns=9)
T_MS = 1_763_717_580_000


def topics(*names: str) -> frozenset[Topic]:
    return frozenset(map(Topic, names))


def happening(topic: str, number: int = 1) -> bytes:
    """One event as the vendor writes it."""
    channel, _, symbol = topic.partition(".")
    match channel:
        case "Q":
            return event("Q", sym=symbol, bp=1.0, ap=1.2, bs=5, as_=6, t=T_MS, q=number)
        case "T":
            return event("T", sym=symbol, p=1.1, s=2, t=T_MS, q=number)
        case "V":
            return event("V", val=5000.5, T=symbol, t=T_MS)
        case _:
            return event(channel, sym=symbol, o=1, c=2, h=3, l=0.5, s=T_MS, e=T_MS + 1_000, v=7)


class Turns:
    """An event loop that turns when told."""

    def __init__(self) -> None:
        self._due: list[Callable[[], Any]] = []

    def call_soon(self, callback: Callable[[], Any], /) -> object:
        self._due.append(callback)
        return None

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> object:
        return self.call_soon(callback)

    def turn(self) -> None:
        while self._due:
            ready, self._due = self._due, []
            for callback in ready:
                callback()


class Stream:
    """A vendor's socket that acknowledges what it is told to."""

    def __init__(self) -> None:
        self.is_active = False
        self.wanted: frozenset[Topic] = frozenset()
        self.acked: set[Topic] = set()
        self.simulated = self.delayed = False

    def activate(self) -> None:
        self.is_active = True

    def deactivate(self) -> None:
        self.is_active = False

    def want(self, topics: frozenset[Topic]) -> None:
        self.wanted = topics
        self.acked &= topics

    def carries(self, topic: Topic) -> bool:
        return topic in self.acked


class Line:
    """One asset class of a gateway, without sockets."""

    def __init__(self, asset: AssetClass, clock: ManualClock, **policy: Any) -> None:
        self.turns = Turns()
        self.stream = Stream()
        self.hub = MassiveHub(asset, clock=clock, loop=self.turns, policy=HubPolicy(**policy))
        self.hub.connect(self.stream)


class Ear:
    """One who reads, and what it was told."""

    def __init__(self) -> None:
        self.takes: list[list[Any]] = []
        self.told: list[tuple[frozenset[Topic], bool]] = []
        self.live: set[Topic] = set()
        self.handle: Handle | None = None
        self.on_take: Callable[[], object] = lambda: None

    @property
    def events(self) -> list[Any]:
        return [event for events in self.takes for event in events]

    def take(self, events: Sequence[Quote | Trade | Bar]) -> None:
        assert events
        self.takes.append(list(events))
        self.on_take()

    def tell(self, named: frozenset[Topic], is_live: bool) -> None:
        assert named
        self.told.append((named, is_live))
        self.live = self.live | named if is_live else self.live - named

    def close(self) -> None:
        assert self.handle is not None
        self.handle.close()


class Sink:
    """A client's socket."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def cut(self, error: Exception) -> None:
        raise AssertionError from error


class House:
    """A gateway of some classes, without sockets, and the taps on it."""

    def __init__(self, *assets: AssetClass, **policy: Any) -> None:
        self.clock = ManualClock()
        self.lines = {asset: Line(asset, self.clock, **policy) for asset in assets or (OPTIONS,)}
        self.taps = Taps(self.lines, clock=self.clock)
        self.first = next(iter(self.lines))

    @property
    def line(self) -> Line:
        return self.lines[self.first]

    @property
    def stream(self) -> Stream:
        return self.line.stream

    def read(self, *names: str, ear: Ear | None = None) -> Ear:
        ear = ear or Ear()
        ear.handle = self.taps.open(topics(*names), ear.take, ear.tell)
        self.turn()
        return ear

    def client(self, *names: str, name: str = "c1") -> tuple[Reader, Sink]:
        sink = Sink()
        reader = self.line.hub.join(ClientId(name), sink)
        self.line.hub.subscribe(reader, sorted(topics(*names)))
        self.turn()
        return reader, sink

    def turn(self) -> None:
        for line in self.lines.values():
            line.turns.turn()

    def publish(self, *raws: bytes, asset: AssetClass | None = None) -> None:
        self.lines[asset or self.first].hub.deliver(split(array(raws)))
        self.turn()

    def notice(self, notice: Notice, asset: AssetClass | None = None) -> None:
        self.lines[asset or self.first].hub.notice(notice)
        self.taps.notice(asset or self.first, notice)
        self.turn()

    def ack(self, *names: str, asset: AssetClass | None = None) -> None:
        acked = topics(*names)
        self.lines[asset or self.first].stream.acked |= acked
        self.notice(notices.TopicsLive(topics=acked), asset)

    def lose(self) -> None:
        self.stream.acked.clear()
        self.notice(LOST)


@pytest.fixture
def house() -> House:
    return House()


# what is read


def test_what_is_read_is_wanted_upstream_and_no_longer_than_that(house: House) -> None:
    """R60: an idle gateway holds nothing."""
    assert not house.stream.is_active

    first, second = house.read(CALL, PUT), house.read(PUT)
    assert house.stream.is_active
    assert house.stream.wanted == {CALL, PUT}

    first.close()
    first.close()
    house.clock.advance(6)
    house.line.hub.tick()
    house.turn()
    assert house.stream.wanted == {PUT}

    second.close()
    assert not house.stream.is_active
    assert house.taps.statistics()[OPTIONS][:3] == (0, 0, 0)


def test_it_is_one_subscription_with_the_clients(house: House) -> None:
    """R61."""
    client, sink = house.client(CALL)
    ear = house.read(CALL)
    house.publish(happening(CALL))
    ear.close()
    assert house.stream.wanted == {CALL}

    ear = house.read(CALL)
    house.line.hub.leave(client)
    assert house.stream.is_active, "a tap keeps the upstream awake"
    house.publish(happening(CALL))

    assert len(sink.frames) == 1
    assert len(ear.events) == 1


def test_a_tap_is_no_client(house: House) -> None:
    house.read(CALL)
    house.publish(happening(CALL))
    statistics = house.line.hub.statistics()

    assert (statistics.clients, statistics.events_out, statistics.bytes_out) == (0, 0, 0)
    assert (statistics.topics_read, statistics.events_in) == (1, 1)


def test_a_flood_neither_conflates_nor_cuts_it(house: House) -> None:
    """W-45 is about clients; inside nothing waits."""
    ear = house.read(CALL)
    line = house.line

    for number in range(3_000):
        line.hub.deliver(split(array([happening(CALL, number)])))
    house.turn()

    assert [quote.sequence for quote in ear.events] == list(range(3_000))
    assert len(ear.takes) == 1


# what it gives


def test_events_come_typed_as_one_list_for_each_taker_in_the_vendors_order(house: House) -> None:
    both, one, none = house.read(CALL, PUT), house.read(PUT), house.read("Q.O:X251219C00650000")

    house.publish(happening(CALL, 1), happening(PUT, 2), happening(CALL, 3))

    assert [[event.sequence for event in events] for events in both.takes] == [[1, 2, 3]]
    assert [type(event) for event in both.events] == [Quote, Trade, Quote]
    assert [[event.sequence for event in events] for events in one.takes] == [[2]]
    assert none.takes == []
    quote = both.events[0]
    assert (quote.symbol, quote.bid, quote.ask, quote.provider) == (CALL[2:], 1.0, 1.2, "massive")
    assert (quote.event_ns, quote.received_ns) == (T_MS * 1_000_000, house.clock.now_ns())
    assert not quote.simulated
    assert not quote.delayed


@pytest.mark.parametrize(
    ("asset", "topic", "kind"),
    [
        (INDICES, "V.I:SPX", Quote),
        (INDICES, "A.I:SPX", Bar),
        (INDICES, "AM.I:SPX", Bar),
        (STOCKS, "Q.BRK.B", Quote),
        (STOCKS, "T.SPY", Trade),
        (STOCKS, "AM.SPY", Bar),
        (OPTIONS, CALL, Quote),
        (OPTIONS, PUT, Trade),
    ],
)
def test_every_channel_with_a_model_is_read(asset: AssetClass, topic: str, kind: type) -> None:
    house = House(asset)
    ear = house.read(topic)

    house.publish(happening(topic))

    assert [type(event) for event in ear.events] == [kind]


def test_bars_of_seconds_and_of_minutes_are_not_mistaken_for_each_other() -> None:
    house = House(STOCKS)
    seconds, minutes = house.read("A.SPY"), house.read("AM.SPY")

    house.publish(happening("A.SPY"), happening("AM.SPY"), happening("A.SPY"))

    assert (len(seconds.events), len(minutes.events)) == (2, 1)


def test_a_value_of_an_index_is_a_quote_with_a_last_price_alone() -> None:
    house = House(INDICES)
    ear = house.read(SPX)

    house.publish(happening(SPX))

    assert (ear.events[0].last, ear.events[0].bid) == (5000.5, None)


def test_a_whole_channel_can_be_read_where_only_one_class_has_it() -> None:
    house = House(INDICES, STOCKS)
    ear = house.read("V.*", SPX)
    house.publish(happening(SPX), happening("V.I:NDX"), asset=INDICES)
    assert [quote.symbol for quote in ear.events] == ["I:SPX", "I:NDX"], "each once"

    ear = house.read(PRINTS)
    assert ear.told == [({PRINTS}, False)], "of stocks, or of options?"


def test_what_is_simulated_or_delayed_says_so(house: House) -> None:
    """R281, W-07: by what the vendor says of itself now."""
    ear = house.read(CALL)

    house.stream.simulated = house.stream.delayed = True
    house.publish(happening(CALL))

    assert ear.events[0].simulated
    assert ear.events[0].delayed


def test_what_cannot_be_read_costs_the_others_nothing(house: House) -> None:
    ear = house.read(CALL)

    house.publish(happening(CALL, 1), event("Q", sym=CALL[2:], bp="dear"), happening(CALL, 2))

    assert [quote.sequence for quote in ear.events] == [1, 2]
    assert house.taps.statistics()[OPTIONS].undecodable == 1
    assert house.taps.statistics()[OPTIONS].events == 2


def test_clients_are_told_statuses_and_a_tap_is_not_disturbed(house: House) -> None:
    """R65: in the same turn as events."""
    _, sink = house.client(CALL)
    ear = house.read(CALL)
    line = house.line

    line.hub.notice(LOST)
    line.hub.notice(notices.TopicsFailed(topics=topics(CALL), reason="no"))
    line.hub.deliver(split(array([happening(CALL)])))
    house.turn()
    house.read(CALL, PUT)

    assert b"upstream_disconnected" in sink.frames[0]
    assert b"subscription_failed" in sink.frames[0]
    assert [type(event) for event in ear.events] == [Quote]
    assert house.taps.statistics()[OPTIONS].undecodable == 0


# what is live


def test_a_topic_is_live_when_it_is_acknowledged_and_not_before(house: House) -> None:
    ear = house.read(CALL, PUT)
    assert ear.told == []

    house.ack(CALL)

    assert ear.told == [({CALL}, True)]


def test_what_somebody_else_has_live_is_live_at_once(house: House) -> None:
    house.client(CALL)
    house.ack(CALL)

    ear = house.read(CALL, PUT)
    again = house.read(CALL)

    assert ear.told == again.told == [({CALL}, True)]


@pytest.mark.parametrize(
    "trouble",
    [LOST, notices.Evicted(cool_down_s=60), notices.AuthFailed(message="no")],
)
def test_nothing_is_live_while_the_upstream_is_gone(house: House, trouble: Notice) -> None:
    """W-62: whoever reads falls back."""
    ear, other = house.read(CALL, PUT), house.read(PUT)
    house.ack(CALL, PUT)

    house.stream.acked.clear()
    house.notice(trouble)
    assert ear.told[1:] == [({CALL, PUT}, False)]
    assert other.live == set()

    house.notice(notices.Authenticated(topics=topics(CALL, PUT)))
    assert ear.live == set(), "admitted is not carried"
    house.ack(CALL)
    house.notice(RESTORED)
    assert ear.live == {CALL}
    assert ear.told[2:] == [({CALL}, True)]


def test_a_refused_topic_is_not_live_until_it_is_carried(house: House) -> None:
    """R63."""
    ear = house.read(CALL, PUT)
    house.ack(CALL, PUT)

    house.stream.acked.remove(PUT)
    house.notice(notices.TopicsFailed(topics=topics(PUT), reason="not authorized"))
    assert ear.live == {CALL}
    house.ack(PUT)
    assert ear.live == {CALL, PUT}


def test_how_the_upstream_dials_changes_nothing(house: House) -> None:
    ear = house.read(CALL)
    house.ack(CALL)

    house.notice(notices.Connecting(attempt=1))
    house.notice(notices.VendorStatus(status="error", message="?"))
    house.notice(notices.PeerStatus(status=Status(status="auth_expiring")))

    assert ear.told == [({CALL}, True)]


@pytest.mark.parametrize(
    "word", ["upstream_disconnected", "upstream_evicted", "upstream_auth_failed"]
)
def test_behind_another_gateway_its_upstream_counts(house: House, word: str) -> None:
    """R65: what another gateway acknowledged, it may not get itself."""
    ear = house.read(CALL)
    house.ack(CALL)

    house.notice(notices.PeerStatus(status=Status(status=word)))
    assert ear.live == set()
    assert house.read(CALL).live == set(), "nor for who comes now"
    house.notice(notices.PeerStatus(status=Status(status="upstream_restored")))
    assert ear.live == {CALL}

    house.notice(notices.PeerStatus(status=Status(status=word)))
    house.notice(notices.Authenticated(topics=topics(CALL)))
    assert ear.live == {CALL}, "said anew if it is still so"


def test_a_topic_that_a_clients_wildcard_covers_is_as_live_as_that() -> None:
    """The upstream is asked for the wildcard alone."""
    house = House(STOCKS, linger_s=0.0)
    ear = house.read(SPY)
    house.ack(SPY)

    client, _ = house.client(PRINTS)
    assert house.stream.wanted == {PRINTS}
    assert ear.live == set(), "nobody has acknowledged that yet"
    house.ack(PRINTS)
    assert ear.live == {SPY}
    house.stream.acked.clear()
    house.notice(notices.TopicsFailed(topics=topics(PRINTS), reason="no"))
    assert ear.live == set()
    house.ack(PRINTS)

    house.line.hub.leave(client)
    house.line.hub.tick()
    house.turn()
    assert house.stream.wanted == {SPY}
    assert ear.live == set()
    house.ack(SPY)
    assert ear.live == {SPY}


# what cannot be


def test_a_class_that_the_gateway_does_not_carry_is_told_at_once() -> None:
    house = House(OPTIONS, INDICES)

    ear = house.read(CALL, SPX, SPY, "Q.NOT A TICKER")

    assert ear.told == [({SPY, "Q.NOT A TICKER"}, False)]
    assert house.lines[OPTIONS].stream.wanted == {CALL}
    assert house.lines[INDICES].stream.wanted == {SPX}
    house.ack(CALL, asset=OPTIONS)
    house.ack(SPX, asset=INDICES)
    assert ear.live == {CALL, SPX}
    ear.close()
    assert not any(line.stream.is_active for line in house.lines.values())


def test_a_channel_without_a_model_is_not_asked_for() -> None:
    house = House(STOCKS)

    ear = house.read("LULD.SPY", "FMV.SPY")

    assert ear.told == [({"LULD.SPY", "FMV.SPY"}, False)]
    assert not house.stream.is_active


def test_an_event_of_such_a_channel_is_passed_over() -> None:
    clock, ear = ManualClock(), Ear()
    tap = Tap(Line(STOCKS, clock), clock=clock)
    tap.open(topics(SPY), ear.take, ear.tell)

    tap.take([event("LULD", T="SPY", h=1, l=0), happening(SPY)])

    assert [type(event) for event in ear.events] == [Trade]


def test_quotes_beyond_the_vendors_bound_are_refused_until_there_is_room() -> None:
    """W-46: 1,000 contracts; here two."""
    house = House(option_quotes=2)
    one, two, three = (Topic(f"Q.O:SPY251219C0000{n}000") for n in range(1, 4))
    client, _ = house.client(one)

    first = house.read(two)
    second = house.read(three, PUT)
    assert second.told == [({three}, False)]
    assert house.taps.statistics()[OPTIONS].refused == 1
    house.ack(one, two, PUT)
    assert second.live == {PUT}

    house.line.hub.unsubscribe(client, [one])
    assert second.live == {PUT}, "nobody tells a tap that there is room"
    first.close()
    house.turn()
    assert three in house.stream.wanted
    house.ack(three)
    assert second.live == {PUT, three}


def test_nowhere_to_read_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    taps = Taps({}, clock=ManualClock())

    def fail(*_: object) -> None:
        raise RuntimeError("mine")

    with caplog.at_level(logging.ERROR):
        taps.open(topics(SPY), fail, fail).close()

    assert [record.msg for record in caplog.records] == ["provider.reader_failed"]


# who misbehaves


def test_a_taker_that_raises_costs_nobody_else_anything(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mine")

    house.taps.open(topics(CALL), fail, fail)
    _, sink = house.client(CALL)
    ear = house.read(CALL)

    with caplog.at_level(logging.ERROR):
        house.ack(CALL)
        for number in range(3):
            house.publish(happening(CALL, number))

    assert (len(ear.events), len(sink.frames)) == (3, 3)
    assert ear.live == {CALL}
    assert house.taps.statistics()[OPTIONS].failures == 4
    assert [record.msg for record in caplog.records] == ["provider.reader_failed"], "once"


def test_a_taker_may_close_and_open_handles_while_it_takes(house: House) -> None:
    first, second = Ear(), Ear()

    def swap() -> None:
        first.close()
        second.handle = house.taps.open(topics(CALL, PUT), second.take, second.tell)

    first.on_take = swap
    house.read(CALL, ear=first)
    _, sink = house.client(PUT)
    house.publish(happening(CALL), happening(PUT))
    house.publish(happening(CALL), happening(PUT))

    assert len(first.events) == 1
    assert [type(event) for event in second.events] == [Quote, Trade]
    assert len(sink.frames) == 2
    assert house.stream.wanted == {CALL, PUT}


def test_who_closes_before_the_turn_ends_gets_nothing_more(house: House) -> None:
    ear, other = house.read(CALL, PUT), house.read(PUT)
    line = house.line

    line.hub.deliver(split(array([happening(CALL), happening(PUT)])))
    ear.close()
    house.turn()

    assert ear.takes == []
    assert len(other.events) == 1


def test_reading_the_next_before_closing_the_last_costs_no_traffic_upstream(house: House) -> None:
    """As `Follower` does when a chain moves."""
    before = house.read(CALL)
    house.ack(CALL)

    after = house.read(CALL, PUT)
    before.close()
    house.turn()

    assert house.stream.wanted == {CALL, PUT}
    assert after.live == {CALL}, "all the time"
    assert house.stream.is_active


class TapsMachine(RuleBasedStateMachine):
    """Against the naive model: who reads what, and what the vendor has acknowledged."""

    names = (SPY, Topic("Q.SPY"), Topic("T.QQQ"), Topic("AM.SPY"))
    some = st.sets(st.sampled_from(names), min_size=1)

    def __init__(self) -> None:
        super().__init__()
        self.house = House(STOCKS, linger_s=0.0)
        self.open: list[tuple[Ear, set[Topic]]] = []
        self.expected: dict[int, list[int | None]] = {}
        self.clients: list[Reader] = []
        self.number = 0

    @rule(names=some)
    def read(self, names: set[Topic]) -> None:
        ear = self.house.read(*names)
        self.open.append((ear, set(names)))
        self.expected[id(ear)] = []

    @rule(at=st.integers(0, 9))
    def close(self, at: int) -> None:
        if self.open:
            ear, _ = self.open.pop(at % len(self.open))
            told = list(ear.told)
            ear.close()
            self.house.turn()
            assert ear.told == told, "nothing is told afterwards"

    @rule(topic=st.sampled_from((*names, PRINTS)))
    def join(self, topic: Topic) -> None:
        name = f"c{self.number}"
        self.number += 1
        self.clients.append(self.house.client(topic, name=name)[0])

    @rule(at=st.integers(0, 9))
    def leave(self, at: int) -> None:
        if self.clients:
            self.house.line.hub.leave(self.clients.pop(at % len(self.clients)))
            self.house.line.hub.tick()
            self.house.turn()

    @rule()
    def release(self) -> None:
        self.house.line.hub.tick()
        self.house.turn()

    @precondition(lambda self: self.house.stream.wanted - self.house.stream.acked)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        doubtful = sorted(self.house.stream.wanted - self.house.stream.acked)
        self.house.ack(*data.draw(st.sets(st.sampled_from(doubtful), min_size=1)))

    @precondition(lambda self: self.house.stream.acked)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        topic = data.draw(st.sampled_from(sorted(self.house.stream.acked)))
        self.house.stream.acked.remove(topic)
        self.house.notice(notices.TopicsFailed(topics=topics(topic), reason="no"))

    @rule()
    def lose(self) -> None:
        self.house.lose()

    @rule(frame=st.lists(st.sampled_from(names), min_size=1, max_size=5))
    def publish(self, frame: list[Topic]) -> None:
        before = {id(ear): len(ear.events) for ear, _ in self.open}
        self.house.publish(*(happening(topic) for topic in frame))
        for ear, read in self.open:
            assert len(ear.events) - before[id(ear)] == sum(topic in read for topic in frame)

    @invariant()
    def live_is_what_is_acknowledged(self) -> None:
        acked = self.house.stream.acked
        for ear, read in self.open:
            assert ear.live == {
                topic
                for topic in read
                if topic in acked or (topic.startswith("T.") and PRINTS in acked)
            }

    @invariant()
    def the_upstream_is_held_while_anybody_reads(self) -> None:
        assert self.house.stream.is_active == bool(self.open or self.clients)
        assert self.house.line.hub.statistics().clients == len(self.clients)

    def teardown(self) -> None:
        for ear, _ in self.open:
            ear.close()
        for client in self.clients:
            self.house.line.hub.leave(client)
        self.house.clock.advance(1)
        self.release()
        assert not self.house.stream.wanted
        assert not self.house.stream.is_active


TestTapsMachine = TapsMachine.TestCase


# on sockets


class Wired:
    """One asset class on a socket to the simulated vendor, as the gateway puts it together."""

    def __init__(self, asset: AssetClass, simulator: Simulator) -> None:
        clock = SystemClock()
        self.hub = MassiveHub(
            asset,
            clock=clock,
            loop=asyncio.get_running_loop(),
            policy=HubPolicy(linger_s=0.0),
        )
        self.stream = MassiveWebSocket(
            url=f"{simulator.socket_url}/{asset}",
            asset=asset,
            credential=lambda: simulator.key,
            clock=clock,
            policy=FeedPolicy(
                backoff_base_s=0.05, cool_down_s=0.3, idle_s=0.05, close_timeout_s=0.2
            ),
            on_split=self.hub.deliver,
            on_notice=self._notice,
        )
        self.hub.connect(self.stream)
        self.taps: Taps | None = None

    def _notice(self, notice: Notice) -> None:
        self.hub.notice(notice)
        assert self.taps is not None
        self.taps.notice(self.hub.asset, notice)


@asynccontextmanager
async def wired(*assets: AssetClass) -> AsyncGenerator[tuple[Taps, Simulator]]:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(SimulatorSettings(rate=20)))
        lines = {asset: Wired(asset, simulator) for asset in assets}
        taps = Taps(lines, clock=SystemClock())
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running: list[asyncio.Task[None]] = []
        for line in lines.values():
            line.taps = taps
            running.append(tasks.create_task(line.stream.run()))
        stack.callback(lambda: [task.cancel() for task in running])
        yield taps, simulator


async def test_events_of_every_class_come_over_real_sockets_and_none_is_held_afterwards() -> None:
    """R60."""
    async with wired(STOCKS, INDICES) as (taps, simulator):
        ear = Ear()
        ear.handle = taps.open(topics(SPY, "Q.SPY", SPX, CALL), ear.take, ear.tell)

        await until(lambda: ear.live == {SPY, "Q.SPY", SPX})
        wanted = {(Quote, "SPY"), (Trade, "SPY"), (Quote, "I:SPX")}
        await until(lambda: {(type(event), event.symbol) for event in ear.events} == wanted)
        assert all(event.simulated and not event.delayed for event in ear.events)
        assert sum(simulator.state().connections_open.values()) == 2

        ear.close()
        await until(lambda: not sum(simulator.state().connections_open.values()))
        assert taps.statistics()[STOCKS].undecodable == 0


@pytest.mark.parametrize(
    "fault",
    [
        StreamRule(action=Drop(), stage=Stage.DATA, count=1),
        StreamRule(action=Evict(), count=1),
    ],
    ids=["dropped", "evicted"],
)
async def test_an_outage_is_told_and_so_is_its_end(fault: StreamRule) -> None:
    """W-62, R65."""
    async with wired(INDICES) as (taps, simulator):
        ear = Ear()
        ear.handle = taps.open(topics(SPX), ear.take, ear.tell)
        await until(lambda: ear.events)

        simulator.inject(fault)
        await until(lambda: len(ear.told) == 3)
        count = len(ear.events)
        await until(lambda: len(ear.events) > count)

        assert ear.told == [({SPX}, True), ({SPX}, False), ({SPX}, True)]
        ear.close()
