import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from onetape.client._notices import Change, Gap, Key, Kind, Reason, SourceChanged
from onetape.client._subscription import Overflow, Subscription, SubscriptionStatistics
from onetape.errors import InvalidRequest, SlowReader
from onetape.model import Quote, Trade
from onetape.provenance import Source
from onetape.testing import until

T = TypeVar("T", Quote, Trade)

SPY, QQQ = Key(Kind.QUOTE, "SPY"), Key(Kind.QUOTE, "QQQ")
TRADES = Key(Kind.TRADE, "SPY")


class Desk:
    """A carrier: it remembers who left, and owns the tasks."""

    def __init__(self) -> None:
        self.released: list[Subscription[Any]] = []
        self.handed = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def release(self, subscription: Subscription[Any]) -> None:
        self.released.append(subscription)

    def source_of(self, key: Key) -> Source | None:
        return Source.REST if key == SPY else Source.STREAM

    def delivered(self, keys: Sequence[Key]) -> int:
        return self.handed

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    def carry(self, subscription: Subscription[T]) -> Subscription[T]:
        subscription.bind(self, subscription.keys, self.start)
        return subscription

    def hand(self, subscription: Subscription[Any], events: Sequence[Any]) -> None:
        subscription.offer(events)
        self.handed += len(events)


def quote(bid: float, symbol: str = "SPY") -> Quote:
    return Quote(symbol=symbol, event_ns=1, received_ns=2, provider="massive", bid=bid)


def trade(number: int) -> Trade:
    return Trade(
        symbol="SPY",
        event_ns=number,
        received_ns=number,
        provider="massive",
        price=1.0,
        size=1.0,
        sequence=number,
    )


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def read(subscription: Subscription[Any]) -> list[Any]:
    return [event async for event in subscription]


# iterating


async def test_events_are_read_in_order_by_whoever_iterates(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    desk.hand(subscription, [trade(1), trade(2)])
    desk.hand(subscription, [trade(3)])

    numbers = [(await anext(subscription)).sequence for _ in range(3)]

    assert numbers == [1, 2, 3]
    assert subscription.statistics() == (3, 0, 0, 0, 0)


async def test_a_reader_waits_for_the_next_event(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(anext(subscription))
        await asyncio.sleep(0)
        assert not reading.done()
        desk.hand(subscription, [trade(1)])
        desk.hand(subscription, [trade(2)])

    assert reading.result().sequence == 1
    assert subscription.statistics().pending == 1


async def test_a_reader_that_is_cancelled_loses_nothing(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anext(subscription)

    desk.hand(subscription, [trade(1)])

    assert (await anext(subscription)).sequence == 1


async def test_there_is_one_reader_at_a_time(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(subscription))
        await asyncio.sleep(0)
        with pytest.raises(InvalidRequest, match="one reader"):
            await anext(subscription)
        desk.hand(subscription, [trade(1)])

    assert first.result().sequence == 1


# its end


async def test_closed_it_ends_what_waits_and_drops_what_is_queued(desk: Desk) -> None:
    """R111: idempotent, however it is called."""
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(subscription))
        await asyncio.sleep(0)
        subscription()
    desk.hand(subscription, [])
    subscription.close()
    await subscription.aclose()

    assert reading.result() == []
    assert subscription.is_closed
    assert desk.released == [subscription]
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def test_leaving_its_block_closes_it(desk: Desk) -> None:
    async with desk.carry(Subscription[Quote]([SPY])) as subscription:
        desk.hand(subscription, [quote(1.0)])
        assert not subscription.is_closed

    assert subscription.is_closed
    assert subscription.statistics().pending == 0


async def test_ended_by_us_what_is_queued_is_still_read(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    desk.hand(subscription, [trade(1)])

    subscription.end()

    assert [one.sequence for one in await read(subscription)] == [1]


async def test_an_error_that_ended_it_is_raised_after_what_was_queued(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Trade]([TRADES]))
    desk.hand(subscription, [trade(1)])
    subscription.end(InvalidRequest("why"))
    subscription.end(InvalidRequest("later"))

    assert (await anext(subscription)).sequence == 1
    with pytest.raises(InvalidRequest, match="why"):
        await anext(subscription)


# who does not keep up


async def test_of_quotes_the_latest_of_each_symbol_is_read(desk: Desk) -> None:
    """R122: memory is bounded by the symbols; a busy one does not push a quiet one back."""
    subscription = desk.carry(Subscription[Quote]([SPY, QQQ]))
    for bid in range(1000):
        desk.hand(subscription, [quote(bid), quote(bid, "QQQ")])
    desk.hand(subscription, [quote(1000.0, "QQQ")])

    first, second = await anext(subscription), await anext(subscription)

    assert (first.symbol, first.bid) == ("SPY", 999)
    assert (second.symbol, second.bid) == ("QQQ", 1000)
    assert subscription.statistics() == (2, 0, 0, 1999, 0)


async def test_who_reads_trades_too_slowly_is_cut_after_what_was_whole(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """R122: lossless up to a bound, and then not silently."""
    told: list[Change] = []
    subscription = desk.carry(Subscription[Trade]([TRADES], max_events=3, on_change=told.append))
    desk.hand(subscription, [trade(1), trade(2)])

    with caplog.at_level(logging.WARNING):
        desk.hand(subscription, [trade(3), trade(4), trade(5)])

    assert [(await anext(subscription)).sequence for _ in range(3)] == [1, 2, 3]
    for _ in range(2):
        with pytest.raises(SlowReader):
            await anext(subscription)
    assert subscription.statistics() == (3, 0, 2, 0, 0)
    assert desk.released == [subscription]
    assert told == [SourceChanged(key=TRADES, source=None, reason=Reason.SLOW_READER, at_ns=5)]
    assert [one.message for one in caplog.records if "onetape" in one.name] == ["subscription.cut"]


async def test_the_oldest_are_dropped_and_counted_when_that_was_asked_for(desk: Desk) -> None:
    subscription = desk.carry(
        Subscription[Trade]([TRADES], overflow=Overflow.DROP_OLDEST, max_events=3)
    )
    desk.hand(subscription, [trade(1), trade(2)])
    desk.hand(subscription, [trade(n) for n in range(3, 9)])

    subscription.end()

    assert [one.sequence for one in await read(subscription)] == [6, 7, 8]
    assert subscription.statistics() == (3, 0, 5, 0, 0)


@given(
    overflow=st.sampled_from(Overflow),
    steps=st.lists(st.integers(-3, 5), max_size=30),
    max_events=st.integers(1, 6),
)
@settings(max_examples=60)
def test_whatever_is_offered_and_read_the_queue_is_the_naive_one(
    overflow: Overflow, steps: list[int], max_events: int
) -> None:
    """A positive step offers so many events of two symbols at once, a negative one reads."""
    asyncio.run(_compare(overflow, steps, max_events))


async def _compare(overflow: Overflow, steps: list[int], max_events: int) -> None:
    desk = Desk()
    subscription = desk.carry(
        Subscription[Quote]([SPY, QQQ], overflow=overflow, max_events=max_events)
    )
    naive: list[Quote] = []
    offered = read = lost = 0
    for step in steps:
        for _ in range(-step if step < 0 and naive else 0):
            if naive:
                assert await anext(subscription) is naive.pop(0)
                read += 1
        batch = [quote(offered + n, "SPY" if n % 2 else "QQQ") for n in range(max(0, step))]
        if subscription.is_closed or not batch:
            continue
        offered += len(batch)
        subscription.offer(batch)
        for event in batch:
            same = [one for one in naive if one.symbol == event.symbol]
            if overflow is Overflow.CONFLATE and same:
                naive[naive.index(same[0])] = event
            elif overflow is Overflow.CONFLATE or len(naive) < max_events:
                naive.append(event)
            elif overflow is Overflow.DROP_OLDEST:
                naive = [*naive[1:], event]
            else:
                lost += 1

    statistics = subscription.statistics()
    assert statistics.pending == len(naive)
    assert statistics.delivered == read
    assert offered == read + len(naive) + statistics.dropped + statistics.conflated
    assert subscription.is_closed is (lost > 0)


# callbacks


def test_a_callback_gets_each_event_at_once_and_nothing_is_queued(desk: Desk) -> None:
    got: list[Quote] = []
    subscription = desk.carry(Subscription[Quote]([SPY], callback=got.append))

    desk.hand(subscription, [quote(1.0), quote(2.0)])

    assert [one.bid for one in got] == [1.0, 2.0]
    assert subscription.statistics() == SubscriptionStatistics(2, 0, 0, 0, 0)


def test_a_callback_that_raises_is_counted_logged_once_and_called_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """R110, R241: exceptions are isolated."""
    got: list[Quote] = []

    def callback(event: Quote) -> None:
        got.append(event)
        raise ZeroDivisionError

    subscription = desk.carry(Subscription[Quote]([SPY], callback=callback))
    for _ in range(3):
        desk.hand(subscription, [quote(1.0)])

    assert len(got) == 3
    assert subscription.statistics() == (3, 0, 0, 0, 3)
    assert [one.message for one in caplog.records if "onetape" in one.name] == [
        "subscription.callback_failed"
    ]


def test_a_callback_may_close_its_own_subscription(desk: Desk) -> None:
    got: list[Quote] = []

    def callback(event: Quote) -> None:
        got.append(event)
        subscription()

    subscription = desk.carry(Subscription[Quote]([SPY], callback=callback))

    desk.hand(subscription, [quote(1.0), quote(2.0), quote(3.0)])

    assert len(got) == 1
    assert subscription.statistics().delivered == 1


def test_what_came_before_it_is_not_counted_and_what_came_is_kept_when_it_is_closed(
    desk: Desk,
) -> None:
    desk.handed = 500
    subscription = desk.carry(Subscription[Quote]([SPY], callback=lambda _: None))
    desk.hand(subscription, [quote(1.0)])
    subscription.unbind()  # its keys change
    desk.handed = 9
    desk.carry(subscription)
    desk.hand(subscription, [quote(1.0)])

    subscription.close()
    desk.handed = 999

    assert subscription.statistics().delivered == 2


def test_a_callback_that_forgot_async_is_a_fault(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Its awaitable would never run, and nobody would know."""

    async def work() -> None:
        raise AssertionError

    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    results = iter([work(), future, 5])
    subscription = desk.carry(Subscription[Quote]([SPY], callback=lambda _: next(results)))

    desk.hand(subscription, [quote(1.0), quote(2.0), quote(3.0)])

    assert subscription.statistics().failures == 2
    assert "async def" in str(caplog.records[0].exc_info)


async def test_an_async_callback_is_awaited_event_by_event(desk: Desk) -> None:
    """R241: a hanging reader delays nobody; its queue is bounded."""
    got: list[float | None] = []
    gate = asyncio.Event()

    async def callback(event: Quote) -> None:
        await gate.wait()
        got.append(event.bid)
        if event.bid == 3.0:
            raise ZeroDivisionError

    subscription = desk.carry(Subscription[Quote]([SPY], callback=callback))
    desk.hand(subscription, [quote(1.0)])
    await asyncio.sleep(0)
    desk.hand(subscription, [quote(2.0), quote(3.0)])
    gate.set()
    await until(lambda: len(got) == 2)
    desk.hand(subscription, [quote(4.0)])
    await until(lambda: len(got) == 3)

    assert got == [1.0, 3.0, 4.0]
    assert subscription.statistics() == (3, 0, 0, 1, 1)
    await subscription.aclose()
    assert all(task.done() for task in desk.tasks)


async def test_an_async_callback_is_cancelled_when_it_is_closed_from_outside(desk: Desk) -> None:
    """R153: closing awaits the exit of its task."""
    hanging = asyncio.Event()

    async def callback(_: Quote) -> None:
        hanging.set()
        await asyncio.Event().wait()

    subscription = desk.carry(Subscription[Quote]([SPY], callback=callback))
    desk.hand(subscription, [quote(1.0)])
    await hanging.wait()

    await subscription.aclose()

    assert [task.cancelled() for task in desk.tasks] == [True]


async def test_an_async_callback_may_close_its_own_subscription(desk: Desk) -> None:
    got: list[Quote] = []

    async def callback(event: Quote) -> None:
        got.append(event)
        await subscription.aclose()

    subscription = desk.carry(Subscription[Quote]([SPY], callback=callback))
    desk.hand(subscription, [quote(1.0)])
    await until(lambda: got)
    desk.hand(subscription, [])
    await asyncio.wait(desk.tasks)

    assert [task.exception() for task in desk.tasks] == [None]


async def test_an_async_callback_that_is_cut_ends_quietly(desk: Desk) -> None:
    async def callback(_: Trade) -> None:
        await asyncio.sleep(0)

    subscription = desk.carry(Subscription[Trade]([TRADES], callback=callback, max_events=2))
    desk.hand(subscription, [trade(n) for n in range(5)])
    await asyncio.wait(desk.tasks)

    assert subscription.statistics() == (2, 0, 3, 0, 0)
    assert [task.exception() for task in desk.tasks] == [None]


async def test_an_object_with_an_async_call_is_an_async_callback(desk: Desk) -> None:
    got: list[Quote] = []

    class Bot:
        async def __call__(self, event: Quote) -> None:
            got.append(event)

    subscription = desk.carry(Subscription[Quote]([SPY], callback=Bot()))
    desk.hand(subscription, [quote(1.0)])
    await until(lambda: got)

    await subscription.aclose()
    assert len(got) == 1


@pytest.mark.parametrize("is_async", [True, False])
async def test_with_a_callback_there_is_nothing_to_iterate(desk: Desk, is_async: bool) -> None:
    async def waits(_: Quote) -> None: ...

    def returns(_: Quote) -> None: ...

    subscription = desk.carry(Subscription[Quote]([SPY], callback=waits if is_async else returns))

    with pytest.raises(InvalidRequest, match="callback"):
        await anext(subscription)
    await subscription.aclose()


# changes


def test_changes_are_told_to_who_asked_for_them(desk: Desk) -> None:
    """R263, W-71: typed events."""
    told: list[Change] = []
    changed = SourceChanged(key=SPY, source=Source.REST, reason=Reason.STREAM_DOWN, at_ns=1)
    gap = Gap(key=SPY, start_ns=1, end_ns=2, reason=Reason.STREAM_DOWN)
    subscription = desk.carry(
        Subscription[Quote]([SPY], callback=lambda _: None, on_change=told.append)
    )

    for change in (changed, gap):
        subscription.tell(change)
        desk.carry(Subscription[Quote]([SPY])).tell(change)

    assert told == [changed, gap]


def test_who_is_told_and_raises_harms_nobody(desk: Desk) -> None:
    def on_change(_: Change) -> None:
        raise ZeroDivisionError

    subscription = desk.carry(Subscription[Quote]([SPY], on_change=on_change))

    subscription.tell(Gap(key=SPY, start_ns=1, end_ns=2, reason=Reason.LATE))

    assert subscription.statistics().failures == 1


# what it is


def test_it_knows_where_each_symbol_comes_from(desk: Desk) -> None:
    """R152: told beside each event's own source."""
    subscription = desk.carry(Subscription[Quote]([SPY, QQQ, SPY]))

    assert subscription.keys == (SPY, QQQ)
    sources = [subscription.source_of(symbol) for symbol in ("SPY", "QQQ", "IWM", "spy")]
    assert sources == [Source.REST, Source.STREAM, None, Source.REST]
    subscription.close()
    assert subscription.source_of("SPY") is None


@pytest.mark.parametrize("policy", Overflow)
def test_an_overflow_policy_may_be_named_and_one_that_there_is_not_is_refused(
    policy: Overflow,
) -> None:
    """A name must not pass for another policy: `cut` once dropped the oldest in silence."""
    named: Any = policy.value
    unknown: Any = "cut off"
    subscription = Subscription[Trade]([TRADES], overflow=named, max_events=1)
    desk = Desk()
    desk.carry(subscription)

    desk.hand(subscription, [trade(1), trade(2)])

    assert subscription.is_closed is (policy is Overflow.CUT)
    assert (subscription.statistics().conflated == 1) is (policy is Overflow.CONFLATE)
    with pytest.raises(InvalidRequest, match="conflate, drop_oldest, cut"):
        Subscription[Trade]([TRADES], overflow=unknown)


def test_it_shows_what_it_is(desk: Desk) -> None:
    subscription = desk.carry(Subscription[Quote]([SPY, QQQ]))
    nothing = Subscription[Quote]([])

    assert repr(subscription) == "<Subscription open: quote SPY and 1 more>"
    assert repr(nothing) == "<Subscription closed: nothing>"


@pytest.mark.parametrize(
    ("keys", "max_events"), [([SPY, TRADES], 10), ([SPY], 0)], ids=["two kinds", "no room"]
)
def test_what_cannot_be_read_is_refused(keys: list[Key], max_events: int) -> None:
    with pytest.raises(InvalidRequest):
        Subscription[Quote](keys, max_events=max_events)


# judging


def doubled(one: Quote) -> Quote:
    return msgspec.structs.replace(one, bid=2 * (one.bid or 0))


async def test_what_is_read_is_judged_and_not_what_was_conflated(desk: Desk) -> None:
    judged: list[Quote] = []

    def judge(one: Quote) -> Quote:
        judged.append(one)
        return doubled(one)

    subscription = desk.carry(Subscription[Quote]([SPY], judge=judge))
    desk.hand(subscription, [quote(1), quote(2), quote(3)])

    assert (await anext(subscription)).bid == 6
    assert [one.bid for one in judged] == [3]


def test_a_callback_gets_what_was_judged(desk: Desk) -> None:
    got: list[Quote] = []
    subscription = Subscription[Quote]([SPY], callback=got.append, judge=doubled)
    desk.hand(desk.carry(subscription), [quote(1), quote(2)])

    assert [one.bid for one in got] == [2, 4]


async def test_an_async_callback_gets_what_was_judged_once(desk: Desk) -> None:
    got: list[Quote] = []

    async def take(one: Quote) -> None:
        got.append(one)

    subscription = desk.carry(Subscription[Quote]([SPY], callback=take, judge=doubled))
    desk.hand(subscription, [quote(2)])
    await until(lambda: got)
    await subscription.aclose()

    assert [one.bid for one in got] == [4]
