"""The client as a program sees it: simulated vendor, gateway and provider in one loop.

The five facade tests (R269) and the four recommended ones (R270) are here by name.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from onetape.calendar import new_york_date
from onetape.client import Gap, MassiveDataProvider, Parts, SourceChanged, TransportPolicy
from onetape.client._notices import Change
from onetape.client._rest import GatewayREST
from onetape.client._tokens import Tokens
from onetape.clock import SystemClock
from onetape.gateway.app import Gateway
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse
from onetape.model import AssetClass, MarketStatus, Quote, Trade
from onetape.provenance import Source
from onetape.simulator.app import SimulatorSettings
from onetape.simulator.faults import Drop, Refuse, Stage, StreamRule
from onetape.testing import ManualClock, Playground, until

QUICK = TransportPolicy(
    options_interval_s=0.2,
    stocks_interval_s=0.2,
    indices_interval_s=0.2,
    closed_interval_s=0.2,  # so that no test depends on the hour
    interval_cap_s=0.2,
)
BUSY = SimulatorSettings(rate=4)
INDICES, OPTIONS = AssetClass.INDICES, AssetClass.OPTIONS


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"debug": True, "use_uvloop": False}


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Playground]:
    """One for all tests here: making a day's tapes takes a second."""
    async with Playground(tmp_path_factory.mktemp("ground"), simulator=BUSY) as running:
        yield running


class House:
    """A gateway of the test's own, so that none pays for another's faults, and its vendor."""

    def __init__(self, ground: Playground, gateway: Gateway, keys: tuple[str, str]) -> None:
        self.simulator = ground.simulator
        self.gateway = gateway
        self.key, self.other_key = keys

    def client(self, **settings: Any) -> MassiveDataProvider:
        settings = {"credential": self.key, "parts": Parts(transport=QUICK)} | settings
        return MassiveDataProvider(self.gateway.url, **settings)


@pytest.fixture
async def play(ground: Playground) -> AsyncIterator[House]:
    keys = await ground.key(), await ground.key()  # before the gateway reads them
    async with ground.another() as gateway:
        yield House(ground, gateway, keys)
    ground.simulator.faults.clear(now=SystemClock().monotonic())
    await until(lambda: not any(ground.simulator.state().connections_open.values()))


def topics(play: House, asset: AssetClass) -> tuple[str, ...]:
    return play.simulator.state().topics[asset]


def tasks_of_the_client() -> list[str]:
    tasks = (task.get_coro() for task in asyncio.all_tasks())
    return [str(one) for one in tasks if "/onetape/client/" in one.cr_code.co_filename]  # type: ignore[union-attr]


def near_the_money(play: House, count: int) -> list[str]:
    """The contracts that trade most: of SPY, at the money, soon to expire but not today."""
    market = play.simulator.market
    now_ns = market.now_ns()
    quote = market.last_quote("SPY", now_ns)
    assert quote is not None
    tomorrow = new_york_date(now_ns) + timedelta(days=1)
    alive = [one for one in market.contracts("SPY") if one.expiration > tomorrow]
    alive.sort(key=lambda one: (one.expiration, abs(one.strike - quote.bid)))
    return [one.ticker for one in alive[:count]]


def source_runs(quotes: Iterable[Quote]) -> list[Source]:
    runs: list[Source] = []
    for quote in quotes:
        if not runs or runs[-1] is not quote.source:
            runs.append(quote.source)
    return runs


# R269


async def test_facade_1_a_quote_over_rest(play: House) -> None:
    async with play.client() as massive:
        quote = await massive.get_quote("spx")

    assert (quote.symbol, quote.source, quote.provider) == ("I:SPX", Source.REST, "massive")
    assert quote.simulated
    assert quote.price is not None
    assert quote.price > 0


async def test_facade_2_delivery_over_the_websocket(play: House) -> None:
    """R165, R109: by iteration and by callback, typed, each to its own subscription."""
    called: list[Quote] = []
    async with play.client() as massive:
        massive.subscribe_quotes(["SPX"], called.append)
        async with massive.subscribe_quotes(["NDX"]) as quotes:
            read = [await anext(quotes) for _ in range(3)]
        await until(lambda: len(called) >= 3)

    assert {(one.symbol, one.source) for one in read} == {("I:NDX", Source.STREAM)}
    assert {(one.symbol, one.source) for one in called} == {("I:SPX", Source.STREAM)}


async def test_facade_3_a_chain_is_cached(play: House) -> None:
    """R102, R104, R158: one fetch for two calls; what else is selected from it is no page more."""

    def asked() -> int:
        return play.simulator.state().rest_paths.get("/v3/snapshot/options/SPY", 0)

    async with play.client() as massive:
        first = await massive.get_options_chain("SPY", max_strike=500)
        second = await massive.get_options_chain("spy", max_strike=500.0)
        pages = asked()
        fewer = await massive.get_options_chain("SPY", max_strike=500, min_open_interest=1)
        statistics = massive.get_health().cache

        assert second == first
        assert set(fewer.contracts) <= set(first.contracts)
        assert (statistics.hits, statistics.misses) == (1, 2)
        assert asked() == pages > 0, "the gateway keeps it whole"

        massive.clear_cache("chain:SPY:*")
        await massive.get_options_chain("SPY", max_strike=500)

        assert massive.get_health().rest.rest.requests == 3


async def test_facade_4_failover_from_the_stream_to_rest_and_back(play: House) -> None:
    """R140, R146, R147, W-02, W-04: by events, never two sources at once."""
    quotes: list[Quote] = []
    changes: list[Change] = []
    async with play.client() as massive:
        massive.subscribe_quotes(["SPX"], quotes.append, on_change=changes.append)
        await until(lambda: quotes)

        play.simulator.inject(
            StreamRule(stage=Stage.UPGRADE, action=Refuse(), cluster="indices", for_s=1.5),
            StreamRule(stage=Stage.LIVE, action=Drop(), cluster="indices", count=1),
        )
        await until(lambda: Source.REST in source_runs(quotes))
        await until(lambda: quotes[-1].source is Source.STREAM)
        polls = massive.get_health().transport.requests
        before = len(quotes)
        await until(lambda: len(quotes) > before + 3)

        assert massive.get_health().transport.requests == polls, "nothing is polled any more"

    assert source_runs(quotes) == [Source.STREAM, Source.REST, Source.STREAM]
    sources = [one.source for one in changes if isinstance(one, SourceChanged)]
    assert sources == [Source.STREAM, Source.REST, Source.STREAM]
    [gap] = [one for one in changes if isinstance(one, Gap)]
    assert gap.start_ns < gap.end_ns
    times = [quote.event_ns for quote in quotes if quote.event_ns is not None]
    assert times == sorted(times)


async def test_facade_5_the_token_is_refreshed_at_four_minutes(play: House) -> None:
    """R76, R72: of a token that lives five, at 240 s and not before."""
    clock, slept = ManualClock(now_ns=SystemClock().now_ns()), asyncio.Event()
    waiting: list[float] = []

    async def sleep(seconds: float) -> None:
        waiting.append(seconds)
        await slept.wait()
        slept.clear()

    mint = MassiveREST(
        base_url=play.gateway.url,
        headers=lambda: {"Authorization": f"Bearer {play.key}"},
        clock=clock,
        policy=RestPolicy(),
    )
    tokens = Tokens(rest=mint, clock=clock, sleep=sleep)
    provider = MassiveDataProvider(
        play.gateway.url, play.key, streams=(), clock=clock, parts=Parts(tokens=tokens)
    )
    async with mint, provider as massive:
        await until(lambda: waiting)
        for passed_s, mints in ((239.0, 1), (1.0, 2)):
            clock.advance(passed_s)
            waiting.clear()
            slept.set()
            await until(lambda: waiting)
            assert massive.get_health().token.mints == mints
        await massive.get_quote("SPY")

        assert massive.get_health().rest.refreshes == 0, "nobody was refused meanwhile"


# R270


async def test_recommended_1_one_subscription_however_often_it_is_mounted(
    play: House,
) -> None:
    """R121, R139, R149, W-35."""
    before = play.simulator.state().connections_total[INDICES]
    async with play.client() as massive:
        first, second = massive.subscribe_quotes(["SPX"]), massive.subscribe_quotes(["I:SPX"])
        third: list[Quote] = []
        closing = massive.subscribe_quotes(["spx"], third.append)
        async with asyncio.timeout(10):
            assert (await anext(first)).symbol == (await anext(second)).symbol == "I:SPX"
        await until(lambda: third)

        assert topics(play, INDICES) == ("V.I:SPX",)
        assert play.simulator.state().connections_total[INDICES] - before == 1
        health = massive.get_health()
        assert health.streams[INDICES].topics_wanted == 1
        assert health.transport.streaming == 1

        closing()
        first.close()
        first()
        async with asyncio.timeout(10):
            await anext(second)
        assert topics(play, INDICES) == ("V.I:SPX",), "somebody still reads it"


async def test_recommended_2_nothing_leaks_after_unsubscribing(play: House) -> None:
    """R111, R119, R148: no event, no task, no topic, no socket."""
    before = len(asyncio.all_tasks())
    quotes: list[Quote] = []

    async def take(quote: Quote) -> None:
        quotes.append(quote)

    async with play.client() as massive:
        at_rest = len(tasks_of_the_client())
        symbols = ["SPX", "SPY", *near_the_money(play, 2)]
        subscription = massive.subscribe_quotes(symbols, take)
        await until(lambda: {quote.source for quote in quotes} == {Source.STREAM, Source.REST})

        await subscription.aclose()

        delivered = len(quotes)
        await until(lambda: not topics(play, INDICES) and not topics(play, OPTIONS))
        await until(lambda: len(tasks_of_the_client()) == at_rest)
        assert len(quotes) == delivered
        assert massive.get_health().transport[:5] == (0, 0, 0, 0, 0)

    assert tasks_of_the_client() == []
    await until(lambda: len(asyncio.all_tasks()) <= before)
    hubs = [line.hub.statistics() for line in play.gateway.lines.values()]
    assert all(hub[0] == 0 for hub in hubs), "no client is left at the gateway"


class Recorded(GatewayREST):
    """Notes when it is asked."""

    asked_at: list[float]

    async def get(self, path: str, *args: Any, **more: Any) -> RestResponse:
        self.asked_at.append(asyncio.get_running_loop().time())
        return await super().get(path, *args, **more)


async def test_recommended_3_polling_begins_within_100_ms_of_a_disconnect(
    play: House,
) -> None:
    """R146: the first poll goes out with the news of the loss; no timer lies between."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    mint = MassiveREST(
        base_url=play.gateway.url,
        headers=lambda: {"Authorization": f"Bearer {play.key}"},
        clock=clock,
        policy=RestPolicy(),
    )
    tokens = Tokens(rest=mint, clock=clock)
    rest = Recorded(url=play.gateway.url, tokens=tokens, clock=clock)
    rest.asked_at = []
    parts = Parts(tokens=tokens, rest=rest, transport=QUICK)
    lost_at: list[float] = []
    quotes: list[Quote] = []

    def told(change: Change) -> None:
        if isinstance(change, SourceChanged) and change.source is Source.REST:
            lost_at.append(loop.time())

    async with mint, MassiveDataProvider(play.gateway.url, play.key, parts=parts) as massive:
        massive.subscribe_quotes(["SPX"], quotes.append, on_change=told)
        await until(lambda: quotes)
        assert rest.asked_at == []

        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Drop(), cluster="indices"))
        await until(lambda: rest.asked_at)

    assert 0 <= rest.asked_at[0] - lost_at[0] < 0.1


async def test_recommended_4_the_trade_tape_is_within_500_ms(play: House) -> None:
    """R122: from the print to the callback; a loaded machine may be late once."""
    now_ns = SystemClock().now_ns
    busy = [one.ticker for one in play.simulator.market.instruments(AssetClass.STOCKS)]
    late_s: list[float] = []
    trades: list[Trade] = []

    def take(trade: Trade) -> None:
        trades.append(trade)
        late_s.append((now_ns() - trade.event_ns) / 1e9)

    async with play.client(streams=["stocks"]) as massive:
        massive.subscribe_trades(busy, take)
        await until(lambda: len(trades) >= 12)

    assert {trade.source for trade in trades} == {Source.STREAM}
    assert median(late_s) < 0.5


# what else R165, R115, R132 ask of the facade


async def test_stocks_are_polled_unless_the_plan_streams_them(play: House) -> None:
    """R132, R133, C12."""
    async with play.client() as massive, play.client(streams=["stocks"]) as other:
        polled = massive.subscribe_quotes(["SPY"])
        streamed = other.subscribe_quotes(["SPY"])
        async with asyncio.timeout(10):
            one, two = await anext(polled), await anext(streamed)

        assert (one.source, two.source) == (Source.REST, Source.STREAM)
        assert massive.get_health().transport.unstreamed == 1
        assert topics(play, AssetClass.STOCKS) == ("Q.SPY",), "of the other one"


async def test_callbacks_may_be_sync_or_async_and_may_raise(
    play: House, caplog: pytest.LogCaptureFixture
) -> None:
    """R110: one that raises starves nobody, and is logged once."""
    called, awaited = Counter[str](), Counter[str]()

    async def wait(quote: Quote) -> None:
        await asyncio.sleep(0)
        awaited[quote.symbol] += 1

    def raising(quote: Quote) -> None:
        raise RuntimeError(quote.symbol)

    def count(quote: Quote) -> None:
        called[quote.symbol] += 1

    async with play.client() as massive:
        bad = massive.subscribe_quotes(["SPX"], raising)
        massive.subscribe_quotes(["SPX"], wait)
        massive.subscribe_quotes(["SPX"], count)
        await until(lambda: called["I:SPX"] > 3 and awaited["I:SPX"] > 3)

        assert bad.statistics().failures > 3
    ours = [one.msg for one in caplog.records if one.name.startswith("onetape.client")]
    assert ours == ["subscription.callback_failed"]


async def test_two_providers_know_nothing_of_each_other(play: House) -> None:
    """R171: another key, another cache, another health, and its own end."""
    one, two = play.client(), play.client(credential=play.other_key)
    async with one:
        async with two:
            mine, theirs = one.subscribe_quotes(["SPX"]), two.subscribe_quotes(["SPX"])
            await two.get_options_chain("SPY", max_strike=400)
        async with asyncio.timeout(10):
            assert [quote async for quote in theirs if quote.symbol != "I:SPX"] == []
            await anext(mine)

        assert one.get_health().cache.entries == 0
        assert one.get_health().rest.rest.requests == 0
        assert (one.get_health().status, two.get_health().status) == ("ok", "disconnected")


async def test_the_watchlist_changes_by_the_difference_after_300_ms(play: House) -> None:
    """R115, R134, R137, W-50: ten changes are one, and what stays is not disturbed."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, frozenset[str]]] = []
    changes: list[Change] = []

    async def watch() -> None:
        while True:
            seen.append((loop.time(), frozenset(topics(play, INDICES))))
            await asyncio.sleep(0.002)

    async with play.client() as massive:
        board = massive.subscribe_quotes(on_change=changes.append)
        massive.update_watchlist(["SPX", "NDX"], at_once=True)
        await until(lambda: set(topics(play, INDICES)) == {"V.I:SPX", "V.I:NDX"})
        async with asyncio.timeout(10):
            await anext(board)
        watching = asyncio.get_running_loop().create_task(watch())
        for symbol in ("RUT", "DJI", "VXN", "SPX"):
            massive.update_watchlist(["NDX", symbol])
        began = loop.time()
        massive.update_watchlist(["NDX", "VIX"])
        await until(lambda: set(topics(play, INDICES)) == {"V.I:NDX", "V.I:VIX"})
        watching.cancel()

        waited_for = {"I:NDX", "I:VIX"}
        async with asyncio.timeout(10):
            while waited_for:
                waited_for.discard((await anext(board)).symbol)

    assert frozenset[str]().union(*(one for _, one in seen)) == {"V.I:SPX", "V.I:NDX", "V.I:VIX"}
    assert all("V.I:NDX" in one for _, one in seen)
    assert min(at for at, one in seen if "V.I:VIX" in one) - began >= 0.3
    ndx = [one for one in changes if one.key.symbol == "I:NDX"]
    assert len(ndx) == 1, "live once, and left alone"


async def test_who_follows_the_watchlist_later_sees_it_at_once(play: House) -> None:
    async with play.client() as massive:
        massive.update_watchlist(["SPY", "VIX"], at_once=True)
        first = massive.subscribe_quotes()
        seen: set[str] = set()
        async with asyncio.timeout(10):
            while seen != {"SPY", "I:VIX"}:
                seen.add((await anext(first)).symbol)

        second = massive.subscribe_quotes()

        assert {(await anext(second)).symbol, (await anext(second)).symbol} == seen
        first.close()
        await until(lambda: topics(play, INDICES) == ("V.I:VIX",))


async def vendors_status(massive: MassiveDataProvider) -> MarketStatus:
    """The gateway tells the calendar's while it asks the vendor."""
    while (status := await massive.get_market_status()).provider != "massive":
        await asyncio.sleep(0.01)
    return status


async def test_every_question_has_its_answer_at_the_gateway(play: House) -> None:
    """R154 to R164: typed, simulated and said so, in the order and number asked for."""
    option = near_the_money(play, 1)[0]
    yesterday = new_york_date(play.simulator.market.now_ns()) - timedelta(days=1)
    async with play.client() as massive:
        status = await vendors_status(massive)
        holidays = await massive.get_market_holidays()
        rows = await massive.get_quotes(["VIX", option, "NOPE", "SPY"])
        indices = await massive.get_indices(["SPX", "VIX"])
        contract = await massive.get_option_contract(option.lower())
        last = await massive.get_aggregates("SPY", "1h", lookback=5)
        days = await massive.get_aggregates("I:SPX", "1d", yesterday - timedelta(days=2), yesterday)
        rsi = await massive.get_rsi("SPY", limit=4)
        oldest = await massive.get_option_trades("SPY", start=yesterday, max_rows=3)
        newest = massive.get_option_trades("SPY", order="desc", max_rows=2)
        walked = [trade async for trade in newest]

    assert (status.session, status.simulated) == ("open", True)
    assert holidays
    assert [row.symbol for row in rows] == ["I:VIX", option, "SPY"]
    assert list(rows.errors) == ["NOPE"]
    assert [one.symbol for one in indices] == ["I:SPX", "I:VIX"]
    assert (contract.symbol, contract.underlying) == (option, "SPY")
    assert len(last) == 5
    assert [bar.event_ns for bar in last] == sorted(bar.event_ns for bar in last)
    assert len(days) == 3
    assert {bar.volume for bar in days} == {None}
    assert len(rsi) == 4
    assert all(0 <= one.value <= 100 for one in rsi)
    assert [one.event_ns for one in oldest] == sorted(one.event_ns for one in oldest)
    assert (len(oldest), len(walked)) == (3, 2)
    assert walked[0].event_ns > walked[1].event_ns > oldest[-1].event_ns
    judged = (*rows, *indices, *oldest, *walked, *last, *days)
    assert all(row.quality is not None and row.quality.simulated for row in judged)


async def test_what_is_simulated_is_told_and_not_saved_without_a_stream_too(
    play: House, tmp_path: Path
) -> None:
    """R105: what a simulator made up is not for the next client, which may ask a real vendor."""
    async with play.client(streams=(), cache_dir=tmp_path / "kept") as massive:
        assert await massive.get_market_holidays()
        assert massive.get_health().simulated

    assert not any(b"date" in one.read_bytes() for one in (tmp_path / "kept").rglob("*.json"))
