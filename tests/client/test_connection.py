# pyright: reportPrivateUsage=false
# Which parts it is made of is seen from inside alone.
"""The client's life: opened once, closed by anybody, and nothing is left of it.

All parts are fakes, so no test here has a network.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from onetape.client import Parts
from onetape.client._connection import Connection
from onetape.client._endpoint import (
    Denied,
    EndpointDown,
    EndpointUp,
    Evicted,
    StreamNotice,
    TopicFailed,
    TopicLive,
    UpstreamDown as Lost,
    UpstreamUp,
)
from onetape.client._notices import Change, Key, Kind, State
from onetape.client._subscription import Subscription
from onetape.errors import ConfigInvalid, InvalidRequest, NotConnected, TokenInvalid
from onetape.model import AssetClass, Quote, Topic
from onetape.secret import Secret
from onetape.testing import until

INDICES, OPTIONS = AssetClass.INDICES, AssetClass.OPTIONS
SPX, SPY = Key(Kind.QUOTE, "I:SPX"), Key(Kind.QUOTE, "SPY")


def connection_of(bench: Any, **settings: Any) -> Connection:
    settings = {
        "url": "http://gateway.invalid",
        "credential": Secret("ot_key"),
        "streams": frozenset({INDICES}),
        "cache_dir": None,
        "cache_bytes": 1 << 20,
        "clock": bench.clock,
        "parts": bench.parts,
    } | settings
    return Connection(**settings)


@contextlib.asynccontextmanager
async def opened(bench: Any, **settings: Any) -> AsyncGenerator[Connection]:
    connection = connection_of(bench, **settings)
    assert await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


def quote(symbol: str, at_ns: int = 1, *, last: float = 1.0) -> Quote:
    return Quote(symbol=symbol, event_ns=at_ns, received_ns=at_ns, provider="massive", last=last)


def ignore(_: object) -> None:
    pass


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.fixture
async def unraised() -> AsyncGenerator[list[Mapping[str, Any]]]:
    """What was raised where nobody looks; there shall be nothing."""
    found: list[Mapping[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    gc.collect()
    loop.set_exception_handler(None)
    assert found == []


# the life


async def test_it_opens_once_and_closes_as_often_as_one_likes(bench: Any) -> None:
    """R168, W-72."""
    connection = connection_of(bench)
    await connection.close()

    assert [await connection.open() for _ in range(3)] == [True] * 3
    assert connection.is_open
    assert bench.streams.running == 1
    await connection.close()
    await connection.close()

    assert not connection.is_open
    assert not await connection.open(), "its parts are spent"
    assert bench.rest.closed


async def test_many_who_open_at_once_open_one(bench: Any) -> None:
    connection = connection_of(bench)

    assert await asyncio.gather(*(connection.open() for _ in range(5))) == [True] * 5

    assert bench.streams.running == 1
    await connection.close()


async def test_nothing_is_left_after_closing(bench: Any) -> None:
    """R119, R148."""
    before = others()
    async with opened(bench) as connection:
        connection.subscribe(Subscription[Quote]([SPX], callback=ignore))
        assert len(others()) > len(before)

    assert others() == before
    assert bench.streams.running == 0


@pytest.mark.parametrize("silent", [False, True])
async def test_cancelled_anywhere_on_its_way_it_leaves_nothing_behind(
    bench: Any, unraised: list[Any], *, silent: bool
) -> None:
    bench.streams.silent = silent
    before = others()
    for steps in range(30):
        connection = connection_of(bench)
        opening = asyncio.get_running_loop().create_task(connection.open())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])

        assert opening.cancelled() or connection.is_open
        await connection.close()
        assert not connection.is_open
        assert others() == before
        assert bench.streams.running == 0
    assert unraised == []


async def test_it_is_open_when_each_socket_is_up_or_known_not_to_be(bench: Any) -> None:
    """R106: and one that is down does not keep the other waiting."""
    both = frozenset({INDICES, OPTIONS})
    connection = connection_of(bench, streams=both)
    opening = asyncio.get_running_loop().create_task(connection.open())
    for _ in range(20):  # the fake says that indices are up; nobody speaks of options
        await asyncio.sleep(0)
    assert not opening.done()

    bench.streams.on_state(EndpointDown(asset=OPTIONS, reason="refused", since_ns=1))

    assert await opening
    await connection.close()


async def test_without_streams_nobody_is_waited_for(bench: Any) -> None:
    bench.streams.silent = True
    async with asyncio.timeout(1), opened(bench, streams=frozenset()) as connection:
        assert connection.is_open


async def test_a_refused_credential_is_raised_and_leaves_nothing(
    bench: Any, unraised: list[Any]
) -> None:
    before = others()
    bench.tokens.refusal = TokenInvalid("no such key")
    connection = connection_of(bench)

    with pytest.raises(TokenInvalid):
        await connection.open()

    await connection.close()
    assert not await connection.open()
    assert others() == before
    assert unraised == []


async def test_another_task_may_close_it_than_opened_it(bench: Any) -> None:
    """A notebook's cells are tasks of their own."""
    connection = connection_of(bench)
    loop = asyncio.get_running_loop()
    await loop.create_task(connection.open())
    reading = Subscription[Quote]([SPX])
    connection.subscribe(reading)

    await loop.create_task(connection.close())

    assert [one async for one in reading] == []
    assert reading.is_closed


async def test_an_async_callback_may_close_it(bench: Any) -> None:
    """It is cancelled like every other task, and nobody waits for ever."""
    closed: list[bool] = []
    connection = connection_of(bench)
    await connection.open()

    async def enough(quote: Quote) -> None:
        del quote
        try:
            await connection.close()
        finally:
            closed.append(connection.is_open)

    connection.subscribe(Subscription[Quote]([SPX], callback=enough))
    bench.streams.on_events(INDICES, [quote("I:SPX")])
    async with asyncio.timeout(5):
        await until(lambda: closed)
        await connection.close()

    assert closed == [False]


async def test_who_gives_up_closing_does_not_keep_it_open(bench: Any) -> None:
    before = others()
    async with opened(bench) as connection:
        closing = asyncio.get_running_loop().create_task(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        await until(lambda: others() == before)

        assert not connection.is_open


async def test_a_fault_of_ours_ends_every_reader_and_is_raised_at_the_end(bench: Any) -> None:
    """Nobody waits for data that no task brings any more."""
    connection = connection_of(bench)
    await connection.open()
    reading = Subscription[Quote]([SPX])
    connection.subscribe(reading)

    bench.streams.fault.set_exception(ZeroDivisionError())

    async with asyncio.timeout(5):
        assert [one async for one in reading] == []
    await until(lambda: not connection.is_open)
    with pytest.raises(NotConnected):
        _ = connection.queries
    with pytest.raises(ExceptionGroup) as raised:
        await connection.close()
    assert raised.group_contains(ZeroDivisionError)


async def test_outside_of_its_life_everything_is_not_connected(bench: Any) -> None:
    connection = connection_of(bench)
    for _ in range(2):
        for call in (
            lambda: connection.queries,
            lambda: connection.subscribe(Subscription[Quote]([SPX])),
            lambda: connection.follow(Subscription[Quote](())),
            lambda: connection.watch(["I:SPX"], at_once=True),
        ):
            with pytest.raises(NotConnected):
                call()
        assert connection.health().status == "disconnected"
        assert connection.status == "http://gateway.invalid disconnected"
        await connection.open()
        await connection.close()


@pytest.mark.parametrize(
    "url", ["gateway:3000", "ftp://x", "http:///x", "http://a@b", "http://x?y"]
)
def test_an_address_that_is_none_is_refused_at_once_and_not_repeated(bench: Any, url: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        connection_of(bench, url=url, parts=Parts())

    assert url not in str(refused.value)


# what the parts say to each other


async def test_what_the_streams_say_reaches_the_transport(bench: Any) -> None:
    """R140, R146, R147: each notice, and what becomes of the line."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    topics = frozenset({Topic("V.I:SPX")})
    story: list[tuple[StreamNotice, State]] = [
        (TopicLive(asset=INDICES, topics=topics), State.STREAMING),
        (EndpointDown(asset=INDICES, reason="gone", since_ns=1), State.POLLING),
        (Denied(asset=INDICES, reason="no"), State.POLLING),
        (EndpointUp(asset=INDICES), State.POLLING),
        (TopicLive(asset=INDICES, topics=topics), State.BRIDGING),
        (TopicFailed(asset=INDICES, topics=topics, reason="plan"), State.POLLING),
        (TopicLive(asset=INDICES, topics=topics), State.BRIDGING),
        (Lost(asset=INDICES, reason="vendor", since_ns=1), State.POLLING),
        (Evicted(asset=INDICES, retry_after_s=1.0), State.POLLING),
        (UpstreamUp(asset=INDICES, gap_start_ns=1, gap_end_ns=2), State.BRIDGING),
    ]
    async with opened(bench) as connection:
        connection.subscribe(Subscription[Quote]([SPX], callback=ignore))
        assert bench.streams.wants[-1] == topics
        for notice, state in story:
            bench.streams.on_state(notice)
            assert connection.transport.states()[SPX] is state, notice


async def test_polls_ask_the_questions_that_stand_in_for_the_topics(bench: Any) -> None:
    """R132, R150, W-36: quotes in one batch, trades from the last on, bars likewise."""
    trade, second, minute = (
        Key(kind, "SPY") for kind in (Kind.TRADE, Kind.SECOND_BAR, Kind.MINUTE_BAR)
    )
    now_ns = bench.clock.now_ns()

    async with opened(bench) as connection:
        for key in (SPY, trade, second, minute):
            connection.subscribe(Subscription[Any]([key], callback=ignore))
        await until(lambda: len(bench.rest.asked) == 4)

    asked = dict(bench.rest.asked)
    assert asked["/api/quotes"] == "tickers=SPY"
    assert f"timestamp.gte={now_ns}" in asked["/v3/trades/SPY"]
    since_ms, end_ms = now_ns // 1_000_000, now_ns // 1_000_000 + 60_000
    for span in ("second", "minute"):
        assert f"/v2/aggs/ticker/SPY/range/1/{span}/{since_ms}/{end_ms}" in asked
    assert all(not want for want in bench.streams.wants), "stocks are not streamed here"


async def test_it_has_one_of_each(bench: Any) -> None:
    """R3: the same REST, tokens and cache behind everything, and none made twice."""
    connection = connection_of(bench)

    assert connection.rest is bench.rest
    assert connection.tokens is bench.tokens
    assert connection.streams is bench.streams
    queries, transport = connection._queries, connection.transport
    assert queries._cache is connection.cache
    assert queries._ask is connection._questions
    assert queries._market is connection._market
    assert queries._market._asker is queries._ask._asker
    assert queries._ask._asker._rest is bench.rest  # type: ignore[attr-defined]
    assert transport._fetches.quotes.__self__ is connection._market  # type: ignore[attr-defined]


async def test_a_renewed_token_is_shown_to_the_streams(bench: Any) -> None:
    """R76, W-12: our own tokens call the streams."""
    connection = connection_of(bench, parts=Parts(rest=bench.rest, streams=bench.streams.make))

    connection.tokens._tell()  # type: ignore[attr-defined]

    assert bench.streams.renewals == 1


async def test_what_the_gateway_says_is_made_up_is_told_in_health(bench: Any) -> None:
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with opened(bench, streams=frozenset()) as connection:
        bench.streams.states = {}
        assert not connection.health().simulated

        await connection.queries.quotes(["SPY"])

        assert connection.health().simulated


# the watchlist


async def test_the_watchlist_is_settled_at_once_or_after_a_while(bench: Any) -> None:
    """R115, R134: by difference, and the last of several changes is the one."""
    async with opened(bench) as connection:
        connection.watch(["I:SPX", "I:NDX"], at_once=True)
        assert bench.streams.wants == [{"V.I:SPX", "V.I:NDX"}]

        connection.watch(["I:VIX"], at_once=False)
        connection.watch(["I:NDX", "I:VIX"], at_once=False)
        assert len(bench.streams.wants) == 1
        bench.clock.advance(0.3)
        await until(lambda: len(bench.streams.wants) > 1)

        assert bench.streams.wants[1:] == [{"V.I:NDX", "V.I:VIX"}]


async def test_the_same_watchlist_again_changes_nothing(bench: Any) -> None:
    async with opened(bench) as connection:
        connection.watch(["I:SPX"], at_once=True)
        connection.watch(["I:SPX"], at_once=True)

        assert len(bench.streams.wants) == 1


async def test_followers_read_what_is_watched_and_know_the_last_quotes(bench: Any) -> None:
    seen: list[str] = []
    async with opened(bench) as connection:
        connection.watch(["I:SPX", "I:NDX"], at_once=True)
        bench.streams.on_events(INDICES, [quote("I:SPX", 1), quote("I:NDX", 2)])

        follower = connection.follow(
            Subscription((), callback=lambda one: seen.append(one.symbol), on_change=None)
        )
        assert seen == ["I:SPX", "I:NDX"]
        connection.watch(["I:NDX", "I:VIX"], at_once=True)
        bench.streams.on_events(INDICES, [quote(one, 3) for one in ("I:SPX", "I:NDX", "I:VIX")])
        assert seen[2:] == ["I:NDX", "I:VIX"]

        follower.close()
        bench.streams.on_events(INDICES, [quote("I:NDX", 4)])
        connection.watch(["I:SPX"], at_once=True)
        assert len(seen) == 4
        late = connection.follow(Subscription(()))
        assert late.statistics().pending == 0, "SPX was forgotten when it was not watched"


async def test_what_cannot_be_watched_changes_nothing(bench: Any) -> None:
    async with opened(bench) as connection:
        connection.watch(["I:SPX"], at_once=True)
        with pytest.raises(InvalidRequest):
            connection.watch(["I:NDX", "*"], at_once=True)

        assert set(connection.transport.states()) == {SPX}


async def test_a_change_of_the_watchlist_that_comes_due_at_the_end_is_let_go(bench: Any) -> None:
    called = asyncio.Event()

    async def slow_to_go(quote: Quote) -> None:
        del quote
        called.set()
        try:
            await asyncio.Event().wait()
        finally:
            bench.clock.advance(1)
            await asyncio.sleep(0.35)  # the debounce is over by then

    async with opened(bench) as connection:
        connection.watch(["I:SPX"], at_once=True)
        connection.subscribe(Subscription[Quote]([SPX], callback=slow_to_go))
        bench.streams.on_events(INDICES, [quote("I:SPX")])
        await called.wait()
        connection.watch(["I:SPX", "I:VIX"], at_once=False)

    assert bench.streams.wants == [{"V.I:SPX"}]


@pytest.mark.parametrize("at_once", [True, False])
async def test_followers_may_close_each_other_while_the_watchlist_changes(
    bench: Any, *, at_once: bool
) -> None:
    """A callback of a reader's must not end everybody's connection."""
    pair: list[Subscription[Quote]] = []

    def close_all(change: Change) -> None:
        del change
        for one in pair:
            one.close()

    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with opened(bench) as connection:
        connection.watch(["I:SPX"], at_once=True)
        for _ in range(2):
            follower = Subscription[Quote]((), callback=ignore, on_change=close_all)
            pair.append(connection.follow(follower))
        bench.clock.advance(2.5)  # SPX falls back to REST as soon as anybody looks

        connection.watch(["I:SPX", "SPY"], at_once=at_once)
        bench.clock.advance(0.3)
        await until(lambda: SPY in connection.transport.states())

        assert connection.is_open
        assert [one.is_closed for one in pair] == [True, True]
