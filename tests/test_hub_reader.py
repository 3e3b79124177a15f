import asyncio

import pytest

from onetape.hub_reader import Reader
from onetape.model import MarketDataTick, Quote


def tick(symbol: str, sequence: int) -> MarketDataTick:
    quote = Quote(symbol=symbol, event_ns=1, received_ns=1, provider="massive")
    return MarketDataTick(symbol=symbol, at_ns=1, sequence=sequence, equity=quote)


def reader(max_pending: int = 3) -> Reader[MarketDataTick]:
    return Reader("test", max_pending, lambda _: None)


async def test_of_each_key_only_the_latest_waits() -> None:
    one = reader()
    for sequence, symbol in enumerate("ABAA"):
        one.offer(symbol, tick(symbol, sequence))

    assert [(await anext(one)).sequence for _ in range(2)] == [1, 3]
    assert (one.delivered, one.dropped) == (2, 2)


async def test_a_reader_that_hangs_fills_its_own_queue_and_no_more() -> None:
    """R241: bounded."""
    one = reader(max_pending=3)
    for sequence in range(10):
        one.offer(sequence, tick("A", sequence))

    assert one.dropped == 7
    assert (await anext(one)).sequence == 7
    assert repr(one) == "<Reader 'test', 2 waiting>"


async def test_closing_ends_the_iteration_and_is_done_once() -> None:
    closed: list[Reader[MarketDataTick]] = []
    one: Reader[MarketDataTick] = Reader("test", 3, closed.append)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_all(one))
        await asyncio.sleep(0)
        one.offer("A", tick("A", 1))
        await asyncio.sleep(0)
        one.close()
        one.close()

    assert waiting.result() == [1]
    assert closed == [one]
    one.offer("A", tick("A", 2))
    with pytest.raises(StopAsyncIteration):
        await anext(one)


async def _all(one: Reader[MarketDataTick]) -> list[int]:
    return [tick.sequence async for tick in one]


async def test_a_callback_that_raises_is_counted_and_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R241: publish errors are isolated."""
    one, heard = reader(), list[int]()

    async def take(tick: MarketDataTick) -> None:
        heard.append(tick.sequence)
        raise ValueError("mine")

    async with asyncio.TaskGroup() as tasks:
        one.task = tasks.create_task(one.serve(take))
        for sequence in range(3):
            one.offer(sequence, tick("A", sequence))
        while len(heard) < 3:
            await asyncio.sleep(0)
        one.close()

    assert (heard, one.failures) == ([0, 1, 2], 3)
    assert [line.message for line in caplog.records] == ["hub.subscriber_failed"]


async def test_a_callback_may_close_its_own_subscription() -> None:
    one, heard = reader(), list[int]()

    def take(tick: MarketDataTick) -> None:
        heard.append(tick.sequence)
        one.close()

    one.offer(1, tick("A", 1))
    one.offer(2, tick("A", 2))
    one.task = asyncio.current_task()
    await one.serve(take)

    assert heard == [1]
