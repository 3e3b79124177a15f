from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.consolidation import Consolidation, HubPolicy, Key, Kind
from onetape.errors import InvalidFrame, NotEntitled, SlowReader, Throttled, TooManyTopics
from onetape.gateway.auth import Principal
from onetape.gateway.keys import Scopes
from onetape.gateway.market_session import MarketDesk, MarketPolicy, MarketVisit
from onetape.gateway.market_wire import SLICE
from onetape.market_events import (
    ChainEvent,
    ChainView,
    EquityEvent,
    MarketEvent,
    SnapshotEvent,
    SnapshotView,
    StatusEvent,
    decode,
)
from onetape.massive.wire_stream import Action
from onetape.model import (
    AssetClass,
    ClientId,
    ContractType,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    MarketDataTick,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
)
from onetape.provenance import Quality, Source
from onetape.testing import ManualClock

SPY = Key(Kind.EQUITY, "SPY")
SPX = Key(Kind.INDEX, "I:SPX")
CHAIN = Key(Kind.CHAIN, "SPY")
FLOW = Key(Kind.FLOW, "SPY")
ALL = "equity:SPY,index:SPX,chain:SPY,flow:SPY"


def quality(at_ns: int) -> Quality:
    return Quality(provider="scripted", source=Source.REST, received_ns=at_ns, event_ns=at_ns)


def quote(symbol: str, price: float, at_ns: int) -> Quote:
    return Quote(
        symbol=symbol,
        event_ns=at_ns,
        received_ns=at_ns,
        provider="scripted",
        last=price,
        quality=quality(at_ns),
    )


def contract(strike: int, bid: float) -> OptionSnapshot:
    symbol = f"O:SPY251219C{strike:05}000"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=date(2025, 12, 19),
            strike=float(strike),
            contract_type=ContractType.CALL,
        ),
        quote=Quote(symbol=symbol, event_ns=1, received_ns=1, provider="scripted", bid=bid),
    )


def chain(bids: dict[int, float], at_ns: int, *, descending: bool = False) -> OptionChain:
    strikes = sorted(bids, reverse=descending)
    return OptionChain(
        underlying="SPY",
        underlying_price=660.0,
        underlying_event_ns=at_ns,
        contracts=tuple(contract(strike, bids[strike]) for strike in strikes),
        received_ns=at_ns,
        provider="scripted",
        quality=quality(at_ns),
    )


class Closer:
    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def close(self) -> None:
        self._close()


class Hub:
    """The hub's machine, published by hand."""

    def __init__(self, clock: ManualClock, room: int = 100) -> None:
        self.clock = clock
        self.room = room
        self.view = Consolidation(HubPolicy(indices=()))
        self.watched: list[Key] = []
        self.callback: Callable[[MarketDataTick], object] | None = None

    def watch(self, keys: Iterable[Key]) -> Closer:
        [key] = keys
        if len(self.watched) >= self.room:
            raise TooManyTopics("all places are taken")
        self.watched.append(key)
        self.view.watch(self.watched)

        def close() -> None:
            self.watched.remove(key)
            self.view.watch(self.watched)

        return Closer(close)

    def subscribe_tick(
        self, name: str, callback: Callable[[MarketDataTick], object] | None = None
    ) -> Closer:
        assert self.callback is None, "one reader"
        self.callback = callback

        def close() -> None:
            self.callback = None

        return Closer(close)

    def snapshot(self) -> MarketDataSnapshot:
        return self.view.snapshot(self.clock.now_ns())

    def why(self, kind: Kind, symbol: str) -> str | None:
        return self.view.why(Key(kind, symbol))

    def offer(self, key: Key, part: Any) -> None:
        self.view.offer(key, part, self.clock.monotonic())

    def publish(self) -> None:
        for tick in self.view.flush(self.clock.now_ns()):
            if self.callback is not None:
                self.callback(tick)


class Turns:
    """A loop whose turns end when told."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.due: list[Callable[[], Any]] = []
        self.timers: list[tuple[float, Callable[[], Any]]] = []

    def call_soon(self, callback: Callable[[], Any], /) -> None:
        self.due.append(callback)

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> None:
        assert delay > 0
        self.timers.append((self.clock.monotonic() + delay, callback))

    def end(self) -> None:
        for timer in self.timers.copy():
            if timer[0] <= self.clock.monotonic():
                self.timers.remove(timer)
                timer[1]()
        due, self.due = self.due, []
        for callback in due:
            callback()


class Client:
    """A session with a socket that can be full."""

    def __init__(self, room: "Room", name: str, **scopes: Any) -> None:
        self.room = room
        self.frames: list[bytes] = []
        self.cut_with: SlowReader | None = None
        self.fills_up_after: int | None = None  # frames
        self.is_broken = False
        self.principal = Principal(
            key_id="k1", name=name, kind="client_key", scopes=Scopes(**scopes)
        )
        self.visit: MarketVisit = room.desk.enter(ClientId(name), self)

    def write(self, frame: bytes) -> None:
        if self.is_broken:
            raise OSError("broken")
        self.frames.append(frame)
        if self.fills_up_after is not None:
            self.fills_up_after -= 1
            if self.fills_up_after <= 0:
                self.fills_up_after = None
                self.visit.pause()

    def cut(self, error: SlowReader) -> None:
        self.cut_with = error
        self.visit.leave()

    def send(self, action: str, params: Any = None) -> None:
        self.visit.act(Action(action, params), self.principal)
        self.room.turns.end()

    def events(self) -> list[MarketEvent]:
        """Take what came."""
        frames, self.frames = self.frames, []
        return [event for frame in frames for event in decode(frame)]

    def market(self) -> list[Any]:
        return [event for event in self.events() if not isinstance(event, StatusEvent)]

    def statuses(self) -> list[tuple[str, str | None]]:
        return [(e.status, e.topic) for e in self.events() if isinstance(e, StatusEvent)]


class Room:
    """The hub, the desk, a clock."""

    def __init__(self, room: int = 100, *, chain_s: float = 0.0, **policy: Any) -> None:
        self.clock = ManualClock()
        self.hub = Hub(self.clock, room)
        self.turns = Turns(self.clock)
        self.desk = MarketDesk(
            self.hub,
            clock=self.clock,
            loop=self.turns,
            policy=MarketPolicy(chain_s=chain_s, **policy),
        )

    def client(self, name: str = "c1", **scopes: Any) -> Client:
        return Client(self, name, **scopes)

    def offer(self, key: Key, value: Any = 1.0) -> None:
        now_ns = self.clock.now_ns()
        match key.kind:
            case Kind.EQUITY:
                part: Any = quote(key.symbol, value, now_ns)
            case Kind.INDEX:
                of = quote(key.symbol, value, now_ns)
                part = IndexSnapshot(symbol=key.symbol, quote=of, quality=quality(now_ns))
            case Kind.CHAIN:
                part = chain(value, now_ns)
            case Kind.FLOW:
                part = Flow(
                    underlying=key.symbol,
                    available=True,
                    provider="scripted",
                    trades=round(value),
                    updated_ns=now_ns,
                )
        self.hub.offer(key, part)

    def publish(self, values: dict[Key, Any] | None = None) -> None:
        """Let the hub have these, and tell."""
        for key, value in (values or {}).items():
            self.offer(key, value)
        self.hub.publish()
        self.turns.end()

    def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.desk.tick()
        self.turns.end()


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def client(room: Room) -> Client:
    return room.client()


# subscribing


def test_each_key_is_acknowledged_in_the_vendors_form_and_what_is_missing_is_told(
    client: Client,
) -> None:
    client.send("subscribe", ALL)

    topics = ["equity:SPY", "index:I:SPX", "chain:SPY", "flow:SPY"]
    assert client.statuses() == [("success", topic) for topic in topics] + [
        ("no_data_yet", topic) for topic in topics
    ]


def test_what_is_known_comes_at_once_and_in_full(room: Room, client: Client) -> None:
    """R235: of a key that others read, and of one that the hub knows by itself."""
    room.hub.watch([SPY])
    room.publish({SPY: 660.5})
    client.send("subscribe", "equity:SPY")
    other = room.client("c2")
    other.send("subscribe", ["equity:SPY"])

    for one in (client, other):
        acknowledged, event = one.events()
        assert isinstance(acknowledged, StatusEvent)
        assert isinstance(event, EquityEvent)
        assert (event.data.last, event.sequence) == (660.5, 1)


def test_every_kind_arrives_as_its_model(room: Room, client: Client) -> None:
    client.send("subscribe", ALL)
    client.events()

    room.publish({SPY: 1.5, SPX: 2.5, CHAIN: {650: 3.5}, FLOW: 4})

    equity, index, chained, flow = client.market()
    assert (equity.data.last, index.data.quote.last) == (1.5, 2.5)
    assert (chained.data.contracts[0].quote.bid, flow.data.trades) == (3.5, 4)
    assert [e.sequence for e in (equity, index, chained, flow)] == [1, 2, 3, 4]


def test_a_quality_on_the_wire_says_how_it_reads_and_decodes_into_the_model(
    room: Room, client: Client
) -> None:
    client.send("subscribe", "equity:SPY")
    room.publish({SPY: 660.5})

    said = msgspec.json.decode(client.frames[-1])[0]

    assert said["data"]["quality"]["confidence"] == 100
    assert said["data"]["quality"]["level"] == "excellent"
    [event] = client.market()
    assert event.data == room.hub.view.get(SPY)
    assert event.at_ns == room.clock.now_ns()


def test_one_turn_is_one_frame(room: Room, client: Client) -> None:
    client.send("subscribe", ALL)
    client.events()

    room.publish({SPY: 1.5, SPX: 2.5, CHAIN: {650: 3.5}, FLOW: 4})

    assert len(client.frames) == 1


def test_a_second_subscribe_is_not_acknowledged_again(client: Client) -> None:
    client.send("subscribe", "index:SPX")
    client.events()

    client.send("subscribe", "index:I:SPX,index:spx")

    assert client.frames == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SPY", "invalid_topic"),
        ("equity:", "invalid_topic"),
        ("quote:SPY", "invalid_topic"),
        ("T.SPY", "invalid_topic"),
        ("equity:...", "invalid_symbol"),
    ],
)
def test_a_bad_key_is_told_and_does_not_sink_the_others(
    client: Client, name: str, code: str
) -> None:
    for action in ("subscribe", "unsubscribe"):
        client.send(action, [name, "equity:SPY"])

        refused, accepted, *_ = client.events()
        assert isinstance(refused, StatusEvent)
        assert isinstance(accepted, StatusEvent)
        assert (refused.status, refused.code, refused.topic) == ("error", code, name)
        assert accepted.status == "success"


def test_an_action_without_a_key_is_no_frame(client: Client) -> None:
    with pytest.raises(InvalidFrame):
        client.send("subscribe", " , ")


def test_after_unsubscribing_nothing_more_comes(room: Room, client: Client) -> None:
    client.send("subscribe", "equity:SPY")
    client.events()
    room.offer(SPY, 1.0)
    room.hub.publish()  # owed, and not yet written

    client.send("unsubscribe", "equity:SPY")
    room.publish({SPY: 2.0})

    assert client.statuses() == [("success", "equity:SPY")]
    assert client.market() == []


def test_what_the_hub_watches_for_others_is_nobodys_business(room: Room, client: Client) -> None:
    client.send("subscribe", "index:SPX")
    room.hub.watch([SPY])
    client.events()

    room.publish({SPY: 1.0})

    assert client.events() == []
    assert room.desk.statistics().ticks == 0


# what a credential may


@pytest.mark.parametrize(
    ("asset", "admitted"),
    [
        (AssetClass.STOCKS, {"equity:SPY"}),
        (AssetClass.INDICES, {"index:I:SPX"}),
        (AssetClass.OPTIONS, {"chain:SPY", "flow:SPY"}),
    ],
)
def test_a_key_of_one_asset_class_reads_that_alone(
    room: Room, asset: AssetClass, admitted: set[str]
) -> None:
    client = room.client(assets=frozenset({asset}))
    room.desk.check(client.principal)

    client.send("subscribe", ALL)

    told = client.statuses()
    assert {topic for status, topic in told if status == "success"} == admitted
    assert len([status for status, _ in told if status == "error"]) == 4 - len(admitted)
    assert {key.kind for key in room.hub.watched} == {Kind(one.split(":")[0]) for one in admitted}


def test_a_key_of_some_topics_reads_the_keys_that_are_among_them(room: Room) -> None:
    """The vendor's topics do not open ours: what a key may read, it names."""
    client = room.client(topics=("T.O:SPY*", "chain:S*", "index:*"))

    client.send("subscribe", "chain:SPY,chain:QQQ,equity:SPY,index:SPX")

    told = client.statuses()
    assert [topic for status, topic in told if status == "error"] == ["chain:QQQ", "equity:SPY"]


def test_a_key_for_nothing_is_not_let_in(room: Room) -> None:
    with pytest.raises(NotEntitled):
        room.desk.check(room.client(assets=frozenset()).principal)


def test_one_client_may_not_take_the_whole_hub() -> None:
    """W-46."""
    client = Room(max_keys=2).client()

    client.send("subscribe", ALL)

    codes = [e.code for e in client.events() if isinstance(e, StatusEvent) and e.status == "error"]
    assert codes == ["too_many_topics"] * 2


def test_what_lingers_gives_way_to_what_is_wanted() -> None:
    room = Room(room=1)
    client = room.client()
    client.send("subscribe", "equity:SPY")
    client.send("subscribe", "index:SPX")
    assert ("error", "index:SPX") in client.statuses()

    client.send("unsubscribe", "equity:SPY")
    client.send("subscribe", "index:SPX")

    assert ("success", "index:I:SPX") in client.statuses()
    assert room.hub.watched == [SPX]


def test_a_key_is_watched_until_a_while_after_its_last_reader(room: Room, client: Client) -> None:
    """W-67: and an idle desk reads nothing."""
    other = room.client("c2")
    for one in (client, other):
        one.send("subscribe", "equity:SPY,index:SPX")
    assert sorted(room.hub.watched) == [SPY, SPX]

    client.visit.leave()
    room.pass_s(6)
    assert sorted(room.hub.watched) == [SPY, SPX]
    other.send("unsubscribe", "equity:SPY")
    room.pass_s(4)
    assert sorted(room.hub.watched) == [SPY, SPX]
    room.pass_s(2)
    assert room.hub.watched == [SPX]
    assert room.hub.callback is not None

    other.visit.leave()
    other.visit.leave()
    room.pass_s(6)
    assert room.hub.watched == []
    assert room.hub.callback is None
    assert room.desk.statistics()[:5] == (0, 0, 0, 0, 0)


# trouble


def test_a_failure_is_told_with_its_reason_and_the_last_good_value_is_marked(
    room: Room, client: Client
) -> None:
    """R266."""
    client.send("subscribe", "equity:SPY")
    room.publish({SPY: 660.5})
    client.events()

    room.hub.view.fail(SPY, "upstream_down")
    room.publish()

    told, marked = client.events()
    assert isinstance(told, StatusEvent)
    assert (told.status, told.code, told.topic) == ("data_failed", "upstream_down", "equity:SPY")
    assert isinstance(marked, EquityEvent)
    assert marked.data.last == 660.5
    assert marked.data.quality is not None
    assert [one.code for one in marked.data.quality.reasons] == ["last_good"]

    newcomer = room.client("c2")
    newcomer.send("subscribe", "equity:SPY")
    assert [status for status, _ in newcomer.statuses()] == ["success", "data_failed"]

    room.clock.advance(1)
    room.publish({SPY: 661.0})
    assert client.statuses() == [("data_restored", "equity:SPY")]


def test_another_reason_for_the_same_failure_is_told_by_the_tick(
    room: Room, client: Client
) -> None:
    client.send("subscribe", "equity:SPY,equity:QQQ")
    client.events()

    room.hub.view.fail(SPY, "upstream_down")
    room.hub.view.fail(Key(Kind.EQUITY, "QQQ"), "ValueError")
    room.pass_s(0.5)
    room.pass_s(0.5)
    codes = [(e.status, e.code) for e in client.events() if isinstance(e, StatusEvent)]
    assert codes == [("no_data_yet", "upstream_down"), ("no_data_yet", "provider_failed")]

    room.hub.view.fail(SPY, "TimeoutError")
    room.pass_s(0.5)
    [told] = client.events()
    assert isinstance(told, StatusEvent)
    assert told.code == "upstream_timeout"

    room.publish({SPY: 1.0})
    assert len(client.events()) == 1, "the data say by themselves that they are there"


# chains


def test_a_chain_after_the_first_carries_what_changed(room: Room, client: Client) -> None:
    client.send("subscribe", "chain:SPY")
    room.publish({CHAIN: {640: 1.0, 650: 1.0, 660: 1.0}})
    view = ChainView()
    [full] = client.market()
    assert full.full
    view.apply(full)

    room.clock.advance(0.1)
    room.publish({CHAIN: {640: 1.0, 655: 2.0, 660: 3.0}})

    [change] = client.market()
    assert (change.full, change.since, change.more) == (False, full.sequence, False)
    assert [one.contract.strike for one in change.data.contracts] == [655, 660]
    assert change.removed == ("O:SPY251219C00650000",)
    assert view.apply(change) == room.hub.view.get(CHAIN)


def test_who_missed_a_change_gets_the_whole(room: Room, client: Client) -> None:
    other = room.client("c2")
    bids = {640: 1.0, 650: 1.0, 660: 1.0}
    for one in (client, other):
        one.send("subscribe", "chain:SPY")
    room.publish({CHAIN: bids})
    client.visit.pause()
    for price in (2.0, 3.0):
        room.clock.advance(0.1)
        room.publish({CHAIN: bids | {650: price}})
    other.events()

    client.visit.resume()
    room.clock.advance(0.1)
    room.publish({CHAIN: bids | {660: 9.0}})

    first, missed, change = client.market()
    assert (first.full, missed.full, change.full) == (True, True, False)
    assert change.since == missed.sequence
    assert client.visit.leave().conflated == 1
    assert [event.full for event in other.market()] == [False]


def test_who_left_and_came_back_gets_the_whole(room: Room, client: Client) -> None:
    client.send("subscribe", "chain:SPY")
    room.publish({CHAIN: {640: 1.0, 650: 1.0}})
    client.send("unsubscribe", "chain:SPY")
    room.clock.advance(0.1)
    room.publish({CHAIN: {640: 1.0, 650: 2.0}})
    client.events()

    client.send("subscribe", "chain:SPY")

    [event] = client.market()
    assert event.full


def test_a_long_chain_comes_in_several_events_below_a_megabyte(room: Room, client: Client) -> None:
    client.send("subscribe", "chain:SPY")
    bids = dict.fromkeys(range(100, 1_001), 1.0)
    room.publish({CHAIN: bids})

    assert max(map(len, client.frames)) < 1_000_000
    events = client.market()
    assert [event.more for event in events] == [True] * 4 + [False]
    view = ChainView()
    views = [view.apply(event) for event in events]
    assert views[:4] == [None] * 4
    assert views[4] == room.hub.view.get(CHAIN)

    room.clock.advance(1)
    room.publish({CHAIN: {strike: 2.0 for strike in bids if strike > 300}})
    events = client.market()
    assert events[0].full, "all of it is new, so the whole is as short"
    room.clock.advance(1)
    room.publish({CHAIN: dict.fromkeys(range(700, 1_300), 2.0)})
    changes = client.market()
    assert [(e.full, e.more) for e in changes] == [(False, True), (False, False)]
    for event in (*events, *changes):
        view.apply(event)
    assert view.chain == room.hub.view.get(CHAIN)


def test_a_chain_changes_twice_a_second_at_most_and_ends_with_the_newest() -> None:
    room = Room(chain_s=0.5)
    client = room.client()
    client.send("subscribe", "chain:SPY,equity:SPY")
    client.events()

    for step in range(1, 21):
        room.clock.advance(0.1)
        room.publish({CHAIN: {640: 1.0, 650: float(step)}, SPY: float(step)})
    room.clock.advance(0.5)
    room.turns.end()

    events = client.market()
    bids = [e.data.contracts[-1].quote.bid for e in events if isinstance(e, ChainEvent)]
    assert bids == [1, 6, 11, 16, 20]
    assert sum(isinstance(e, EquityEvent) for e in events) == 20


def test_a_snapshot_and_a_newcomer_do_not_wait_for_a_chain() -> None:
    room = Room(chain_s=0.5)
    client, other = room.client(), room.client("c2")
    client.send("subscribe", "chain:SPY")
    room.publish({CHAIN: {640: 1.0, 650: 1.0}})
    room.clock.advance(0.1)
    room.publish({CHAIN: {640: 1.0, 650: 2.0}})
    client.events()

    client.send("snapshot")
    other.send("subscribe", "chain:SPY")
    room.turns.end()

    snapshot, change = client.market()
    [whole] = other.market()
    told = [snapshot.data.chains["SPY"], change.data, whole.data]
    assert [chain.contracts[-1].quote.bid for chain in told] == [2.0] * 3
    assert (snapshot.sequence, change.full, whole.full) == (2, False, True)
    room.clock.advance(1)
    room.turns.end()
    assert client.market() == other.market() == []


def test_a_chain_that_nobody_reads_any_more_is_not_waited_for() -> None:
    room = Room(chain_s=100.0)
    client = room.client()
    client.send("subscribe", "chain:SPY")
    for step in range(2):
        room.clock.advance(0.1)
        room.publish({CHAIN: {640: 1.0, 650: float(step)}})
    client.visit.leave()
    room.pass_s(6)

    room.pass_s(100)

    assert room.desk.statistics().keys_lingering == 0


# many readers


def test_what_goes_to_all_is_encoded_and_put_together_once(room: Room) -> None:
    clients = [room.client(f"c{number}") for number in range(5)]
    for client in clients:
        client.send("subscribe", "equity:SPY,chain:SPY")
        client.events()

    room.publish({SPY: 1.0, CHAIN: {650: 1.0}})

    [frame] = {id(client.frames[0]) for client in clients}
    assert frame


def test_a_broken_socket_is_cut_and_the_others_notice_nothing(room: Room, client: Client) -> None:
    other = room.client("c2")
    for one in (client, other):
        one.send("subscribe", "equity:SPY")
        one.events()
    client.is_broken = True

    room.publish({SPY: 1.0})

    assert client.cut_with is not None
    assert len(other.market()) == 1
    assert room.desk.statistics().slow_readers == 1


def test_a_full_socket_costs_nothing_and_gets_the_newest(room: Room, client: Client) -> None:
    client.send("subscribe", "equity:SPY,index:SPX")
    client.events()
    client.visit.pause()
    client.visit.pause()

    for price in range(1, 1_001):
        room.clock.advance(0.01)
        room.publish({SPY: float(price), SPX: float(price)})
    assert client.frames == []
    assert room.desk.statistics().congested == 1
    client.visit.resume()

    equity, index = client.market()
    assert (equity.data.last, index.data.quote.last) == (1_000, 1_000)
    assert room.desk.statistics().conflated == 2 * 999


def test_a_socket_that_fills_up_gets_the_rest_when_it_drains(room: Room, client: Client) -> None:
    names = [f"chain:{name}" for name in ("SPY", "QQQ", "IWM")]
    client.send("subscribe", names)
    client.events()
    client.fills_up_after = 1
    many = dict.fromkeys(range(100, 250), 1.0)

    room.publish({Key(Kind.CHAIN, name.split(":")[1]): many for name in names})
    assert len(client.frames) == 1
    client.visit.resume()

    assert sorted(event.symbol for event in client.market()) == ["IWM", "QQQ", "SPY"]


def test_a_client_that_does_not_read_is_cut(room: Room, client: Client) -> None:
    """W-45."""
    client.send("subscribe", "equity:SPY")
    client.visit.pause()

    room.pass_s(29)
    assert client.cut_with is None
    room.pass_s(1)

    assert client.cut_with is not None
    assert room.desk.statistics().clients == 0


def test_a_client_that_asks_and_does_not_read_is_cut(room: Room, client: Client) -> None:
    client.visit.pause()

    for _ in range(1_000):
        if client.cut_with is None:
            client.visit.say(b"x" * 100)

    assert client.cut_with is not None
    assert room.desk.statistics().slow_readers == 1


def test_a_client_that_is_cut_while_it_subscribes_leaves_nothing_behind(room: Room) -> None:
    client = room.client()
    client.send("subscribe", "equity:SPY")
    client.visit.pause()
    for _ in range(600):
        client.visit.say(b"x" * 100)

    client.send(
        "subscribe", [f"equity:{name}" for name in ("AAPL", "MSFT", "SPY", "nonsense!")] * 9
    )
    for _ in range(100):
        if client.cut_with is None:
            client.send("subscribe", "nonsense")

    assert client.cut_with is not None
    assert room.desk.statistics().subscriptions == 0
    room.pass_s(6)
    assert room.hub.watched == []


# snapshots


def test_a_snapshot_is_all_that_the_session_reads_at_one_instant(
    room: Room, client: Client
) -> None:
    client.send("subscribe", ALL + ",equity:QQQ")
    other = room.client("c2")
    other.send("subscribe", "equity:AAPL")
    room.publish({SPY: 1.5, SPX: 2.5, CHAIN: {650: 3.5}, FLOW: 4, Key(Kind.EQUITY, "AAPL"): 1.0})
    room.offer(SPY, 99.0)  # known to the hub, and not yet told
    client.events()

    client.send("snapshot")

    [event] = client.market()
    assert isinstance(event, SnapshotEvent)
    told = SnapshotView().apply(event)
    assert told is not None
    assert set(told.equities) == {"SPY"}
    assert (told.equities["SPY"].last, told.sequence) == (1.5, event.sequence)
    assert told.chains["SPY"].contracts[0].quote.bid == 3.5
    assert (told.indices["I:SPX"].quote.last, told.flows["SPY"].trades) == (2.5, 4)
    assert told.missing == {"equity:QQQ": "not asked for yet"}


def test_a_long_snapshot_comes_in_several_events(room: Room, client: Client) -> None:
    client.send("subscribe", "equity:SPY,chain:SPY,chain:QQQ")
    qqq = Key(Kind.CHAIN, "QQQ")
    room.publish({SPY: 1.5, CHAIN: dict.fromkeys(range(100, 1_001), 1.0), qqq: {1: 1.0}})
    client.events()

    client.send("snapshot")

    events = client.market()
    assert [event.more for event in events] == [True] * (len(events) - 1) + [False]
    view = SnapshotView()
    told = [view.apply(event) for event in events][-1]
    assert told is not None
    assert told.chains == {"SPY": room.hub.view.get(CHAIN), "QQQ": room.hub.view.get(qqq)}
    assert told.equities["SPY"].last == 1.5


def test_a_snapshot_of_nothing_is_empty(client: Client) -> None:
    client.send("snapshot")

    [event] = client.market()
    assert event.data.missing == {}


def test_a_snapshot_waits_for_a_full_socket_and_is_sent_once(room: Room, client: Client) -> None:
    client.send("subscribe", "equity:SPY")
    room.publish({SPY: 1.5})
    client.events()
    client.visit.pause()

    for _ in range(10):
        client.send("snapshot")
        room.clock.advance(1)
    assert client.frames == []
    client.visit.resume()

    assert len(client.market()) == 1


def test_a_snapshot_can_be_had_once_a_second(room: Room, client: Client) -> None:
    client.send("snapshot")
    with pytest.raises(Throttled):
        client.send("snapshot")

    room.clock.advance(1)
    client.send("snapshot")

    assert len(client.market()) == 2


def test_the_bounds_are_documented() -> None:
    wire = (Path(__file__).parents[2] / "docs/wire.md").read_text("utf-8")
    policy = MarketPolicy()

    assert f"| keys of one client | {policy.max_keys} |" in wire
    assert f"| contracts in one event | {SLICE} |" in wire
    assert f"takes nothing for {policy.stalled_s:g} s" in wire
    assert policy.snapshot_s == 1, "at most one a second"
    assert policy.chain_s == 0.5, "a chain at most twice"


# the law

bids = st.dictionaries(st.integers(600, 606), st.sampled_from([1.0, 2.0]), max_size=7)
NOTHING: dict[int, float] = {}
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["publish", "reverse", "offer"]), bids),
        st.tuples(
            st.sampled_from(["pause", "resume", "fill", "leave", "join", "fail", "snapshot"]),
            st.just(NOTHING),
        ),
        st.tuples(st.sampled_from(["rest", "long_rest"]), st.just(NOTHING)),
    ),
    max_size=25,
)


class Play:
    """One client and one chain; the client reads whatever comes, as soon as it comes."""

    def __init__(self) -> None:
        self.room = Room(stalled_s=1e9, chain_s=0.25)
        self.client = self.room.client()
        self.known: list[Any] = []
        self.join({})

    def publish(self, bids: dict[int, float]) -> None:
        self.offer(bids)
        self.room.publish()

    def reverse(self, bids: dict[int, float]) -> None:
        self.offer(bids, descending=True)
        self.room.publish()

    def offer(self, bids: dict[int, float], *, descending: bool = False) -> None:
        """Known to the hub, and told with the next flush."""
        part = chain(bids, self.room.clock.now_ns(), descending=descending)
        self.room.hub.offer(CHAIN, part)
        self.known.append(part)

    def fail(self, _: object) -> None:
        self.room.hub.view.fail(CHAIN, "upstream_down")
        self.known.append(self.room.hub.view.get(CHAIN))
        self.room.publish()

    def pause(self, _: object) -> None:
        self.client.visit.pause()

    def resume(self, _: object) -> None:
        self.client.visit.resume()

    def fill(self, _: object) -> None:
        self.client.fills_up_after = 1

    def leave(self, _: object) -> None:
        self.client.send("unsubscribe", "chain:SPY")

    def join(self, _: object) -> None:
        self.client.send("unsubscribe", "chain:SPY")
        self.read() if self.known else None
        self.view = ChainView()
        self.sequences: list[int] = []
        self.client.send("subscribe", "chain:SPY")

    def rest(self, _: object) -> None:
        self.room.pass_s(1)

    def snapshot(self, _: object) -> None:
        self.client.send("snapshot")
        self.room.clock.advance(1)

    def long_rest(self, _: object) -> None:
        self.room.pass_s(7)

    def read(self) -> None:
        for event in self.client.market():
            if isinstance(event, ChainEvent):
                assert self.view.apply(event) in self.known
                self.sequences.append(event.sequence)
            else:
                assert isinstance(event, SnapshotEvent)
                chain = event.data.chains.get("SPY")
                assert chain is None or chain in self.known


@given(steps)
def test_what_a_client_puts_together_is_what_the_hub_has(
    script: list[tuple[str, dict[int, float]]],
) -> None:
    """Whatever the congestion: each whole chain is one that the hub told, the last its last."""
    play = Play()
    for step, value in script:
        play.room.clock.advance(0.1)
        getattr(play, step)(value)
        play.read()
    play.client.fills_up_after = None
    play.resume({})
    play.read()
    if not play.room.desk.topics(play.client.visit):
        play.join({})
    play.room.publish()
    play.rest({})
    play.read()

    assert play.view.chain == play.room.hub.view.get(CHAIN)
    assert play.sequences == sorted(set(play.sequences))
