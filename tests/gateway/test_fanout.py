import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.errors import OnetapeError, SlowReader
from onetape.gateway.fanout import HubPolicy, Insider, MassiveHub, Reader
from onetape.massive import notices
from onetape.massive.wire_stream import array, event, split
from onetape.model import AssetClass, ClientId, Topic
from onetape.testing import ManualClock

SPX, NDX = Topic("V.I:SPX"), Topic("V.I:NDX")
CALL, PUT = Topic("Q.O:SPY251219C00650000"), Topic("T.O:SPY251219P00650000")


class Turns:
    """An event loop that turns when told."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._due: list[tuple[float, Callable[[], Any]]] = []

    def call_soon(self, callback: Callable[[], Any], /) -> object:
        return self.call_later(0, callback)

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> object:
        self._due.append((self._clock.monotonic() + delay, callback))
        return None

    def turn(self) -> None:
        """Run what is due, and what that makes due."""
        while ready := [item for item in self._due if item[0] <= self._clock.monotonic()]:
            self._due = [item for item in self._due if item not in ready]
            for _, callback in ready:
                callback()


class Upstream:
    def __init__(self) -> None:
        self.is_active = False
        self.wanted: frozenset[Topic] = frozenset()
        self.changes = 0

    def activate(self) -> None:
        self.is_active = True

    def deactivate(self) -> None:
        self.is_active = False

    def want(self, topics: frozenset[Topic]) -> None:
        self.wanted = topics
        self.changes += 1


class Sink:
    """A client's socket: keeps what it was sent, and may be made to fill up."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.error: OnetapeError | None = None
        self.reader: Reader | None = None
        self.room: int | None = None  # frames it takes before it is full
        self.is_broken = False
        self.on_cut: Callable[[], None] = lambda: None

    def write(self, frame: bytes) -> None:
        if self.is_broken:
            raise OSError("broken")
        self.frames.append(frame)
        if self.room is not None and len(self.frames) >= self.room and self.reader is not None:
            self.reader.pause()

    def cut(self, error: SlowReader) -> None:
        self.error = error
        self.on_cut()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [element for frame in self.frames for element in msgspec.json.decode(frame)]


class House:
    def __init__(self, asset: AssetClass = AssetClass.OPTIONS, **policy: Any) -> None:
        self.clock = ManualClock()
        self.turns = Turns(self.clock)
        self.upstream = Upstream()
        self.hub = MassiveHub(asset, clock=self.clock, loop=self.turns, policy=HubPolicy(**policy))
        self.hub.connect(self.upstream)

    def client(self, name: str, *topics: Topic) -> tuple[Reader, Sink]:
        sink = Sink()
        reader = sink.reader = self.hub.join(ClientId(name), sink)
        sink.on_cut = lambda: self.hub.leave(reader)
        self.hub.subscribe(reader, topics)
        self.turns.turn()
        return reader, sink

    def publish(self, *raws: bytes) -> None:
        self.hub.deliver(split(array(raws)))

    def settle(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.hub.tick()
        self.turns.turn()


def happening(topic: Topic, number: int) -> bytes:
    channel, _, symbol = topic.partition(".")
    return event(channel, sym=symbol, q=number)


@pytest.fixture
def house() -> House:
    return House()


def test_each_client_gets_its_topics_and_nothing_else(house: House) -> None:
    """R66, C17."""
    _, alice = house.client("alice", CALL)
    _, bob = house.client("bob", CALL, PUT)

    house.publish(happening(CALL, 1), happening(PUT, 2))
    house.settle()

    assert [e["q"] for e in alice.events] == [1]
    assert [e["q"] for e in bob.events] == [1, 2]


def test_what_comes_within_a_turn_is_one_write_of_the_vendors_own_bytes(house: House) -> None:
    _, alice = house.client("alice", CALL, PUT)
    raws = [happening(CALL, 1), happening(PUT, 2), happening(CALL, 3)]

    house.publish(raws[0])
    house.publish(*raws[1:])
    house.settle()

    assert alice.frames == [array(raws)]


def test_flushes_keep_their_distance_under_load(house: House) -> None:
    _, alice = house.client("alice", CALL)
    house.publish(happening(CALL, 1))
    house.settle()

    house.publish(happening(CALL, 2))
    house.settle()
    early = len(alice.frames)
    house.settle(0.001)

    assert (early, len(alice.frames)) == (1, 2)


def test_the_documented_two_client_example_holds(house: House) -> None:
    """R61: upstream only on 0→1 and 1→0; a second subscribe of the same client counts once."""
    alice, _ = house.client("alice", CALL)
    bob, _ = house.client("bob", CALL)
    house.hub.subscribe(alice, [CALL])

    house.hub.unsubscribe(alice, [CALL])
    house.settle(100)
    assert house.upstream.wanted == {CALL}

    house.hub.unsubscribe(bob, [CALL])
    house.settle(4.9)
    assert house.upstream.wanted == {CALL}, "lingers"
    house.settle(0.2)
    assert house.upstream.wanted == frozenset()


def test_the_first_client_wakes_the_upstream_and_the_last_lets_it_rest(house: House) -> None:
    """R60."""
    alice, _ = house.client("alice")
    bob, _ = house.client("bob")
    assert house.upstream.is_active

    house.hub.leave(alice)
    assert house.upstream.is_active

    house.hub.leave(bob)
    house.hub.leave(bob)
    assert not house.upstream.is_active


def test_any_number_of_arrivals_in_a_turn_is_one_change_upstream(house: House) -> None:
    for number in range(300):
        reader = house.hub.join(ClientId(str(number)), Sink())
        house.hub.subscribe(reader, [CALL, Topic(f"T.O:SPY251219P{number:08}")])
    house.turns.turn()

    assert house.upstream.changes == 1
    assert len(house.upstream.wanted) == 301


def test_a_wildcard_reads_everything_of_its_channel_once(house: House) -> None:
    _, alice = house.client("alice", Topic("T.*"), PUT)
    _, bob = house.client("bob", PUT)

    house.publish(happening(PUT, 1), happening(CALL, 2), happening(Topic("T.O:X"), 3))
    house.settle()

    assert [e["q"] for e in alice.events] == [1, 3]
    assert [e["q"] for e in bob.events] == [1]
    assert house.upstream.wanted == {Topic("T.*")}, "single topics of it are superfluous"


def test_single_topics_come_back_upstream_when_the_wildcard_goes(house: House) -> None:
    alice, _ = house.client("alice", Topic("T.*"))
    _, bob = house.client("bob", PUT)

    house.hub.leave(alice)
    house.settle(6)
    house.publish(happening(PUT, 1))
    house.settle()

    assert house.upstream.wanted == {PUT}
    assert [e["q"] for e in bob.events] == [1]


def test_a_full_socket_gets_the_latest_quote_and_every_trade(house: House) -> None:
    """R122: quotes conflate, trades never."""
    _, slow = house.client("slow", CALL, PUT)
    slow.room = 1
    house.publish(happening(CALL, 0))
    house.settle(1)

    for number in range(1, 5):
        house.publish(happening(CALL, number), happening(PUT, number))
        house.settle(1)
    slow.room = None
    assert slow.reader is not None
    slow.reader.resume()

    assert [(e["ev"], e["q"]) for e in slow.events[1:]] == [
        ("T", 1),
        ("T", 2),
        ("T", 3),
        ("Q", 4),
        ("T", 4),
    ]
    assert house.hub.statistics().conflated == 3


def test_a_socket_that_fills_again_while_it_drains_keeps_the_rest(house: House) -> None:
    _, slow = house.client("slow", PUT)
    slow.room = 1
    house.publish(happening(PUT, 0))
    house.settle(1)
    wanted = list(range(1, 4_000))
    house.publish(*[happening(PUT, number) for number in wanted])
    house.settle(1)

    for room in range(2, 9):
        slow.room = room
        assert slow.reader is not None
        slow.reader.resume()

    assert [e["q"] for e in slow.events[1:]] == wanted


def test_a_reader_over_its_bound_is_cut_and_nobody_else_notices() -> None:
    """W-45: bounded, told, counted."""
    house = House(outbox_bytes=2_000)
    _, slow = house.client("slow", PUT)
    _, brisk = house.client("brisk", PUT)
    slow.room = 1

    for number in range(200):
        house.publish(happening(PUT, number))
        house.settle(1)

    assert isinstance(slow.error, SlowReader)
    assert [e["q"] for e in brisk.events] == list(range(200))
    assert house.hub.statistics()[:2] == (1, 0)
    assert house.hub.statistics().slow_readers == 1


def test_a_broken_socket_does_not_stop_the_others(house: House) -> None:
    _, broken = house.client("broken", PUT)
    _, fine = house.client("fine", PUT)
    broken.is_broken = True

    house.publish(happening(PUT, 1))
    house.settle()

    assert len(fine.events) == 1
    assert broken.error is not None


def test_a_turn_that_outgrows_a_frame_is_several(house: House) -> None:
    _, alice = house.client("alice", PUT)

    for _ in range(3):
        house.publish(*[event("T", sym=PUT[2:], i="x" * 1_000)] * 500)
    house.settle()

    assert len(alice.frames) == 2
    assert len(alice.events) == 1_500


def test_the_vendors_bound_of_option_quotes_is_told_not_exceeded() -> None:
    """W-46: at most 1,000 option-quote contracts on a connection."""
    house = House(option_quotes=2)
    one, two, three = (Topic(f"Q.O:SPY251219C0000{n}000") for n in range(1, 4))
    reader, sink = house.client("alice", one, two)

    refused = house.hub.subscribe(reader, [one, three, PUT])
    house.hub.unsubscribe(reader, [one])
    accepted = house.hub.subscribe(reader, [three])
    house.settle()

    assert list(refused) == [three]
    assert refused[three].code == "too_many_topics"
    assert accepted == {}, "a lingering topic gives way"
    assert house.upstream.wanted == {two, three, PUT}
    assert sink.error is None


def test_the_gateway_itself_leaves_option_quotes_to_its_clients() -> None:
    """Can one hurt another? Watching many chains takes no more than its share."""
    house = House(option_quotes=4, insider_quotes=2)
    insider = Insider(ClientId("inside"), lambda _: None, lambda: None)
    house.hub.admit(insider)
    mine = [Topic(f"Q.O:SPY251219C0000{n}000") for n in range(1, 4)]

    refused = house.hub.subscribe(insider, [*mine, PUT])
    _, sink = house.client("alice", mine[2])
    house.settle()

    assert list(refused) == [mine[2]]
    assert refused[mine[2]].code == "too_many_topics"
    assert house.hub.subscribe(insider, [mine[0]]) == {}, "it is held already"
    assert house.upstream.wanted == {mine[0], mine[1], mine[2], PUT}
    assert sink.error is None
    house.hub.unsubscribe(insider, [mine[0]])
    assert house.hub.subscribe(insider, [mine[2]]) == {}


def statuses(sink: Sink) -> list[str]:
    return [e["status"] for e in sink.events if e["ev"] == "status"]


def test_an_outage_is_told_with_the_bounds_of_what_was_missed(house: House) -> None:
    """R65, W-44: clients keep their sockets and learn the gap."""
    _, alice = house.client("alice", CALL)
    _, idle = house.client("idle")

    house.hub.notice(notices.Lost(reason="reset", code=1006, since_ns=5))
    house.settle()
    _, late = house.client("late", CALL)
    house.hub.notice(notices.Authenticated(topics=frozenset({CALL})))
    house.hub.notice(notices.Restored(gap_start_ns=5, gap_end_ns=9))
    house.settle(1)
    _, later = house.client("later", CALL)

    assert statuses(alice) == ["upstream_disconnected", "upstream_restored"]
    assert (alice.events[-1]["gap_start_ns"], alice.events[-1]["gap_end_ns"]) == (5, 9)
    assert statuses(late) == ["upstream_disconnected", "upstream_restored"]
    assert statuses(idle) == []
    assert statuses(later) == []


def test_a_refused_topic_is_told_to_its_readers_and_to_those_who_come_after(house: House) -> None:
    """R63, W-43, C18."""
    _, alice = house.client("alice", CALL, PUT)
    _, bob = house.client("bob", PUT)

    house.hub.notice(notices.TopicsFailed(topics=frozenset({CALL}), reason="not authorized"))
    house.settle()
    _, carol = house.client("carol", CALL)
    house.hub.notice(notices.TopicsLive(topics=frozenset({CALL, PUT})))
    house.settle(1)

    assert statuses(alice) == ["subscription_failed", "subscription_restored"]
    assert alice.events[0]["topic"] == CALL
    assert alice.events[0]["code"] == "subscription_failed"
    assert statuses(bob) == []
    assert statuses(carol) == ["subscription_failed", "subscription_restored"]


@pytest.mark.parametrize(
    ("notice", "status"),
    [
        (notices.Evicted(cool_down_s=60), "upstream_evicted"),
        (notices.AuthFailed(message="authentication failed"), "upstream_auth_failed"),
        (notices.VendorStatus(status="error", message="not authorized"), "error"),
    ],
)
def test_what_the_vendor_says_of_the_connection_is_passed_on(
    house: House, notice: notices.Notice, status: str
) -> None:
    """W-47; and an eviction is an alarm, not a fight."""
    _, alice = house.client("alice", CALL)

    house.hub.notice(notice)
    house.settle()

    assert statuses(alice) == [status]
    assert "message" in alice.events[0], "the official client reads it"


def test_how_the_upstream_dials_is_no_business_of_clients(house: House) -> None:
    _, alice = house.client("alice", CALL)

    house.hub.notice(notices.Connecting(attempt=1))
    house.hub.notice(notices.Garbled(count=1, sample="?"))
    house.settle()

    assert alice.events == []


def test_what_came_before_an_unsubscription_is_still_delivered(house: House) -> None:
    reader, alice = house.client("alice", CALL)
    house.client("bob", PUT)
    house.client("carol", PUT)

    house.publish(happening(CALL, 1))
    house.hub.unsubscribe(reader, [CALL])
    house.settle()

    assert [e["q"] for e in alice.events] == [1]


class Inside:
    """A reader within the gateway."""

    def __init__(self, house: House, *topics: Topic) -> None:
        self.turns: list[list[bytes]] = []
        self.rechecks = 0
        self.on_take: Callable[[], None] = lambda: None
        self.insider = Insider(ClientId("inside"), self.take, self.recheck)
        house.hub.admit(self.insider)
        assert house.hub.subscribe(self.insider, topics) == {}
        house.turns.turn()

    def take(self, raws: list[bytes]) -> None:
        self.turns.append(raws)
        self.on_take()

    def recheck(self) -> None:
        self.rechecks += 1


def test_an_insider_gets_the_vendors_own_bytes_of_a_turn_in_one_call(house: House) -> None:
    _, alice = house.client("alice", CALL)
    inside = Inside(house, CALL)
    raws = [happening(CALL, number) for number in range(3)]

    house.publish(raws[0], happening(PUT, 1))
    house.publish(*raws[1:])
    house.settle()
    house.publish(happening(PUT, 2))
    house.settle(1)

    assert inside.turns == [raws]
    assert alice.frames == [array(raws)]


def test_an_insider_keeps_the_upstream_awake_and_is_not_counted(house: House) -> None:
    """R60: as long as anybody reads, whoever it is."""
    inside = Inside(house, CALL)
    assert house.upstream.is_active
    assert house.upstream.wanted == {CALL}
    alice, _ = house.client("alice")
    assert house.hub.statistics()[:3] == (1, 0, 1)
    assert set(house.hub.topics(inside.insider)) == {CALL}

    house.hub.leave(alice)
    assert house.upstream.is_active
    house.hub.leave(inside.insider)
    house.hub.leave(inside.insider)
    assert not house.upstream.is_active
    assert house.hub.statistics()[:3] == (0, 0, 0)


def test_an_insider_hears_no_statuses(house: House) -> None:
    house.hub.notice(notices.Lost(reason="reset", code=1006, since_ns=5))
    inside = Inside(house, CALL)
    _, alice = house.client("alice", CALL)

    house.hub.notice(notices.TopicsFailed(topics=frozenset({CALL}), reason="not authorized"))
    house.hub.notice(notices.Restored(gap_start_ns=5, gap_end_ns=9))
    house.settle(1)

    assert inside.turns == []
    assert statuses(alice) == ["upstream_disconnected", "subscription_failed", "upstream_restored"]


def test_what_came_before_an_insider_unsubscribed_reaches_it_with_the_turn(house: House) -> None:
    """Not within its own call: who unsubscribes is not served meanwhile."""
    inside = Inside(house, CALL, PUT)
    for name in "abc":
        house.client(name, PUT)

    house.publish(happening(CALL, 1))
    house.hub.unsubscribe(inside.insider, [CALL])
    assert inside.turns == []
    house.settle()

    assert inside.turns == [[happening(CALL, 1)]]


def test_clients_are_served_before_insiders_whatever_those_do(house: House) -> None:
    inside = Inside(house, CALL)
    _, alice = house.client("alice", CALL)
    seen: list[int] = []

    def leave_and_return() -> None:
        seen.append(len(alice.frames))
        house.hub.leave(inside.insider)
        house.hub.admit(inside.insider)
        house.hub.subscribe(inside.insider, [PUT])

    inside.on_take = leave_and_return
    house.publish(happening(CALL, 1))
    house.settle(1)
    house.publish(happening(PUT, 2))
    house.settle(1)

    assert seen == [1, 1]
    assert inside.turns == [[happening(CALL, 1)], [happening(PUT, 2)]]


def test_what_an_insider_causes_within_a_flush_is_flushed_next(house: House) -> None:
    inside = Inside(house, CALL)
    _, alice = house.client("alice", PUT)
    house.client("bob")
    house.client("carol")
    inside.on_take = lambda: house.publish(happening(PUT, 2))

    house.publish(happening(CALL, 1))
    house.settle(1)
    house.settle(1)

    assert [e["q"] for e in alice.events] == [2]


def test_an_insider_is_told_when_wildcards_come_and_go(house: House) -> None:
    """No notice says that T.* took the place of the single topics it reads."""
    inside = Inside(house, PUT)
    house.client("bob", CALL)
    assert inside.rechecks == 0

    alice, _ = house.client("alice", Topic("T.*"))
    assert (inside.rechecks, house.upstream.wanted) == (1, {Topic("T.*"), CALL})
    house.hub.leave(alice)
    house.settle(6)
    assert (inside.rechecks, house.upstream.wanted) == (2, {PUT, CALL})


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32))
@example(1)
def test_200_clients_and_10_000_steps_break_nobodys_sequence(seed: int) -> None:
    """R12: each client gets exactly what it asked for, whatever the others do."""
    chance = random.Random(seed)
    house = House(linger_s=0.0)
    topics = [Topic(f"T.O:SPY251219C{n:08}") for n in range(40)]
    clients = {n: house.client(f"{seed}-{n}") for n in range(200)}
    expected: dict[int, list[bytes]] = {n: [] for n in clients}
    held: dict[int, set[Topic]] = {n: set() for n in clients}
    for step in range(10_000):
        number = chance.choice(list(clients)) if clients else 0
        match chance.choices(["add", "remove", "kill", "publish"], [45, 30, 1, 24])[0]:
            case "add" if clients:
                some = chance.sample(topics, chance.randint(1, 5))
                house.hub.subscribe(clients[number][0], some)
                held[number].update(some)
            case "remove" if clients:
                some = chance.sample(topics, chance.randint(1, 5))
                house.hub.unsubscribe(clients[number][0], some)
                held[number].difference_update(some)
            case "kill" if clients:
                house.turns.turn()
                house.settle(1)
                reader, sink = clients.pop(number)
                house.hub.leave(reader)
                assert [array([r])[1:-1] for r in expected[number]] == separate(sink.frames)
            case _:
                topic = chance.choice(topics)
                house.publish(happening(topic, step))
                for n in clients:
                    if topic in held[n]:
                        expected[n].append(happening(topic, step))
        if step % 7 == 0:
            house.settle(0.01)
    house.settle(1)
    for n, (reader, sink) in clients.items():
        assert [array([r])[1:-1] for r in expected[n]] == separate(sink.frames)
        assert set(house.hub.topics(reader)) == held[n]
    assert house.upstream.wanted == frozenset().union(*(held[n] for n in clients))
    for reader, _ in clients.values():
        house.hub.leave(reader)
    house.settle(1)
    assert house.upstream.wanted == frozenset()
    assert house.hub.statistics()[:5] == (0, 0, 0, 0, 0)


def separate(frames: Sequence[bytes]) -> list[bytes]:
    return [b"{" + raw + b"}" for frame in frames for raw in split(frame).raws]


class AnyHistory(RuleBasedStateMachine):
    """Whatever clients do and however full their sockets are, trades come whole and in order."""

    names = st.sampled_from("abc")
    topics = st.sampled_from([Topic("T.O:A"), Topic("T.O:B"), Topic("T.*"), Topic("Q.O:A")])

    def __init__(self) -> None:
        super().__init__()
        self.house = House(linger_s=0.0)
        self.clients: dict[str, tuple[Reader, Sink]] = {}
        self.expected: dict[str, list[int]] = {}
        self.held: dict[str, set[Topic]] = {}
        self.number = 0

    @rule(name=names, topic=topics)
    def subscribe(self, name: str, topic: Topic) -> None:
        if name not in self.clients:
            self.clients[name] = self.house.client(f"{name}{self.number}")
            self.expected[name], self.held[name] = [], set()
        self.house.hub.subscribe(self.clients[name][0], [topic])
        self.held[name].add(topic)

    @rule(name=names, topic=topics)
    def unsubscribe(self, name: str, topic: Topic) -> None:
        if name in self.clients:
            self.house.hub.unsubscribe(self.clients[name][0], [topic])
            self.held[name].discard(topic)

    @rule(name=names)
    def kill(self, name: str) -> None:
        if name in self.clients:
            self.house.hub.leave(self.clients.pop(name)[0])

    @rule(name=names)
    def fill(self, name: str) -> None:
        if name in self.clients:
            self.clients[name][0].pause()

    @rule(name=names)
    def drain(self, name: str) -> None:
        if name in self.clients:
            self.clients[name][0].resume()

    @rule(topic=st.sampled_from([Topic("T.O:A"), Topic("T.O:B"), Topic("Q.O:A")]))
    def publish(self, topic: Topic) -> None:
        self.number += 1
        self.house.publish(happening(topic, self.number))
        for name in self.clients:
            if topic in self.held[name] or (topic[0] == "T" and Topic("T.*") in self.held[name]):
                self.expected[name].append(self.number if topic[0] == "T" else 0)

    @rule()
    def turn(self) -> None:
        self.house.settle(0.01)

    @invariant()
    def nobody_got_a_trade_twice_late_or_unasked(self) -> None:
        for name, (_, sink) in self.clients.items():
            got = [e["q"] for e in sink.events if e["ev"] == "T"]
            wanted = [n for n in self.expected[name] if n]
            assert got == wanted[: len(got)]

    def teardown(self) -> None:
        self.house.settle(1)
        for name, (reader, sink) in self.clients.items():
            reader.resume()
            got = [e["q"] for e in sink.events if e["ev"] == "T"]
            assert got == [n for n in self.expected[name] if n], "lossless"


TestAnyHistory = AnyHistory.TestCase
