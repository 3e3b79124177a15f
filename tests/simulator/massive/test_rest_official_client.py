"""The vendor's own Python client, unchanged, against the simulator on a real port."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from massive import RESTClient  # pyright: ignore[reportMissingTypeStubs]
from massive.exceptions import BadResponse  # pyright: ignore[reportMissingTypeStubs]

from onetape.asgi import Server
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.testing import ManualClock

T = TypeVar("T")


class Official:
    """The client in a thread, because it blocks."""

    def __init__(self, client: RESTClient) -> None:
        self.client = client

    async def __call__(self, work: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(work, self.client)

    async def all(self, work: Callable[[Any], Iterable[T]]) -> list[T]:
        return await asyncio.to_thread(lambda: list(work(self.client)))


def no_socket(_request: object, _peer: str) -> None:
    """Refuse every upgrade: REST only."""


@asynccontextmanager
async def official(market: Any, key: str = "sim-key") -> AsyncGenerator[Official]:
    app = MassiveRestSimulator(market, Accounts(), ManualClock())
    async with Server(app, host="127.0.0.1", port=0, websocket=no_socket) as server:
        client = RESTClient(key, base=f"http://{server.netloc}", retries=0)
        try:
            yield Official(client)
        finally:
            client.client.clear()


@pytest.fixture
async def client(rest: Any) -> AsyncIterator[Official]:
    async with official(rest.market) as one:
        yield one


async def some_contracts(client: Official, count: int, underlying: str = "SPY") -> list[str]:
    rows = await client(
        lambda c: c.list_options_contracts(
            underlying_ticker=underlying, limit=count, raw=True
        ).json()["results"]
    )
    return [row["ticker"] for row in rows]


# ---- reference ----


async def test_market_status_and_holidays(client: Official) -> None:
    status = await client(lambda c: c.get_market_status())
    holidays = await client(lambda c: c.get_market_holidays())

    assert status.market == "open"
    assert status.exchanges.nyse == "open"
    assert status.indicesGroups.s_and_p == "open"
    assert {row.exchange for row in holidays} == {"NYSE", "NASDAQ", "OTC"}
    assert [row.name for row in holidays if row.date == "2025-12-25"] == ["Christmas"] * 3


async def test_contracts_over_many_pages_are_those_of_one_page(client: Official) -> None:
    wanted = {"underlying_ticker": "SPX", "strike_price_gte": 6_000, "strike_price_lt": 6_100}
    small = await client.all(lambda c: c.list_options_contracts(**wanted, limit=97))
    large = await client.all(lambda c: c.list_options_contracts(**wanted, limit=1_000))

    tickers = [row.ticker for row in small]
    assert len(tickers) == len(set(tickers)) > 97
    assert tickers == [row.ticker for row in large]
    assert all(6_000 <= row.strike_price < 6_100 for row in small)


async def test_one_contract(client: Official) -> None:
    [ticker] = await some_contracts(client, 1)
    found = await client(lambda c: c.get_options_contract(ticker))

    assert (found.ticker, found.underlying_ticker) == (ticker, "SPY")
    assert found.exercise_style == "american"


async def test_tickers_their_details_and_their_types(client: Official) -> None:
    every = await client.all(lambda c: c.list_tickers(limit=3))
    found = await client(lambda c: c.get_ticker_details("AAPL", date="2025-10-01"))
    types = await client(lambda c: c.get_ticker_types(asset_class="stocks"))

    assert len({row.ticker for row in every}) == len(every) > 3
    assert (found.ticker, found.type) == ("AAPL", "CS")
    assert "ETF" in {row.code for row in types}


async def test_exchanges_and_conditions(client: Official) -> None:
    exchanges = await client(lambda c: c.get_exchanges(asset_class="options"))
    conditions = await client.all(lambda c: c.list_conditions(asset_class="options", limit=7))

    assert 302 in {row.id for row in exchanges}
    assert len({row.id for row in conditions}) == len(conditions) > 7


async def test_what_the_simulated_world_lacks_is_empty(client: Official) -> None:
    assert await client.all(lambda c: c.list_splits()) == []
    assert await client.all(lambda c: c.list_dividends()) == []
    assert await client.all(lambda c: c.list_ticker_news("NFLX")) == []
    assert await client.all(lambda c: c.vx.list_stock_financials()) == []
    assert await client(lambda c: c.get_related_companies("AAPL")) == []
    assert (await client(lambda c: c.get_ticker_events("AAPL", types="ticker_change"))).events == []


# ---- snapshots ----


async def test_a_chain_over_many_pages_is_that_of_full_pages(client: Official) -> None:
    wanted = {"expiration_date.lte": "2025-11-25", "strike_price.gte": 640}
    small = await client.all(
        lambda c: c.list_snapshot_options_chain("SPY", params={**wanted, "limit": 23})
    )
    large = await client.all(
        lambda c: c.list_snapshot_options_chain("SPY", params={**wanted, "limit": 250})
    )

    tickers = [row.details.ticker for row in small]
    assert len(tickers) == len(set(tickers)) > 23
    assert small == large
    assert all(row.underlying_asset.ticker == "SPY" for row in small)
    assert any(row.greeks is not None and row.greeks.delta is not None for row in small)
    assert any(row.last_quote is not None and row.last_quote.ask > 0 for row in small)


async def test_an_index_chain_has_the_value_of_its_underlying(client: Official) -> None:
    chain = await client(
        lambda c: c.list_snapshot_options_chain("I:SPX", params={"limit": 1}, raw=True).json()
    )
    asset = chain["results"][0]["underlying_asset"]

    assert asset["ticker"] == "I:SPX"
    assert asset["value"] > 0
    assert "price" not in asset


async def test_one_contract_of_a_chain(client: Official) -> None:
    [ticker] = await some_contracts(client, 1)
    found = await client(lambda c: c.get_snapshot_option("SPY", ticker))

    assert found.details.ticker == ticker
    assert found.open_interest >= 0


async def test_universal_snapshots_over_many_pages_are_those_of_one(client: Official) -> None:
    options = await some_contracts(client, 25)
    wanted = ["I:SPX", "SPY", "AAPL", "TSLAAPL", *options]
    small = await client.all(lambda c: c.list_universal_snapshots(ticker_any_of=wanted))
    large = await client.all(lambda c: c.list_universal_snapshots(ticker_any_of=wanted, limit=250))

    assert sorted(row.ticker for row in small) == sorted(wanted)
    assert small == large
    by_ticker = {row.ticker: row for row in small}
    assert by_ticker["TSLAAPL"].error == "NOT_FOUND"
    assert by_ticker["I:SPX"].type == "indices"
    assert by_ticker["SPY"].last_trade.price > 0
    assert by_ticker[options[0]].details.exercise_style == "american"


async def test_index_snapshots(client: Official) -> None:
    found = await client(lambda c: c.get_snapshot_indices(["I:SPX", "I:VIX", "APx"]))

    by_ticker = {row.ticker: row for row in found}
    assert by_ticker["I:SPX"].value > by_ticker["I:VIX"].value > 0
    assert by_ticker["APx"].error == "NOT_FOUND"


async def test_stock_snapshots(client: Official) -> None:
    some = await client(lambda c: c.get_snapshot_all("stocks", tickers=["AAPL", "MSFT", "NONE"]))
    one = await client(lambda c: c.get_snapshot_ticker("stocks", "AAPL"))
    risen = await client(lambda c: c.get_snapshot_direction("stocks", "gainers"))
    fallen = await client(lambda c: c.get_snapshot_direction("stocks", "losers"))

    assert {row.ticker for row in some} == {"AAPL", "MSFT"}
    assert one == next(row for row in some if row.ticker == "AAPL")
    assert one.day.close > 0
    assert one.prev_day.close > 0
    assert all(row.todays_change_percent > 0 for row in risen)
    assert all(row.todays_change_percent < 0 for row in fallen)


async def test_summaries(client: Official) -> None:
    [option] = await some_contracts(client, 1)
    found = await client(lambda c: c.get_summaries([option, "SPY", "APx"]))

    assert [(row.ticker, row.error) for row in found] == [
        (option, None),
        ("SPY", None),
        ("APx", "NOT_FOUND"),
    ]
    assert found[0].options.underlying_ticker == "SPY"


# ---- aggregates and indicators ----


@pytest.mark.parametrize(("multiplier", "timespan"), [(1, "minute"), (5, "minute"), (1, "hour")])
async def test_bars_over_many_pages_are_those_of_one(
    client: Official, multiplier: int, timespan: str
) -> None:
    wanted = ("SPY", multiplier, timespan, "2025-11-19", "2025-11-21")
    small = await client.all(lambda c: c.list_aggs(*wanted, limit=333))
    large = await client.all(lambda c: c.list_aggs(*wanted, limit=50_000))

    stamps = [bar.timestamp for bar in small]
    assert stamps == sorted(set(stamps))
    assert small == large
    assert len(stamps) > 10


async def test_the_four_other_ways_to_ask_for_bars(client: Official) -> None:
    days = await client(lambda c: c.get_aggs("I:SPX", 1, "day", "2025-11-01", "2025-11-21"))
    grouped = await client(lambda c: c.get_grouped_daily_aggs("2025-11-20", adjusted=True))
    previous = await client(lambda c: c.get_previous_close_agg("AAPL"))
    flat = await client(lambda c: c.get_daily_open_close_agg("AAPL", "2025-11-20", adjusted=True))

    assert len(days) == 15
    assert days[0].volume is None
    day = next(bar for bar in grouped if bar.ticker == "AAPL")
    assert (day.open, day.high, day.low) == (flat.open, flat.high, flat.low)
    assert previous[0].ticker == "AAPL"
    assert flat.symbol == "AAPL"


@pytest.mark.parametrize("name", ["sma", "ema", "rsi"])
async def test_single_line_indicators(client: Official, name: str) -> None:
    found = await client(
        lambda c: getattr(c, f"get_{name}")("SPY", window=5, limit=4, expand_underlying=True)
    )

    assert [value.value > 0 for value in found.values] == [True] * 4
    assert found.underlying.url.startswith("http://127.0.0.1")
    assert len(found.underlying.aggregates) > 4


async def test_macd(client: Official) -> None:
    found = await client(lambda c: c.get_macd("I:NDX", short_window=3, long_window=6, limit=3))

    for point in found.values:
        assert point.histogram == pytest.approx(point.value - point.signal)


# ---- prints and quotes ----


async def test_trades_over_many_pages_are_those_of_one(client: Official) -> None:
    span = {"timestamp_gte": 1763996400000000000, "timestamp_lt": 1763996520000000000}
    small = await client.all(lambda c: c.list_trades("SPY", limit=50, **span))
    large = await client.all(lambda c: c.list_trades("SPY", limit=50_000, **span))

    sequences = [trade.sequence_number for trade in small]
    assert len(sequences) == len(set(sequences)) > 50
    assert small == large
    assert sequences == sorted(sequences, reverse=True)


async def test_quotes_oldest_first(client: Official) -> None:
    span = {"timestamp_gte": 1763996400000000000, "timestamp_lt": 1763996430000000000}
    small = await client.all(lambda c: c.list_quotes("SPY", limit=20, order="asc", **span))
    large = await client.all(lambda c: c.list_quotes("SPY", limit=50_000, order="asc", **span))

    assert small == large
    assert [quote.sip_timestamp for quote in small] == sorted(q.sip_timestamp for q in small)


async def test_the_newest_print_and_quote(client: Official) -> None:
    trade = await client(lambda c: c.get_last_trade("SPY"))
    quote = await client(lambda c: c.get_last_quote("SPY"))
    newest = await client(lambda c: next(iter(c.list_trades("SPY", limit=1))))

    assert (trade.ticker, quote.ticker) == ("SPY", "SPY")
    assert trade.sip_timestamp == newest.sip_timestamp
    assert quote.ask_price >= quote.bid_price


# ---- errors ----


async def test_errors_reach_the_user_as_the_vendors_text(client: Official) -> None:
    with pytest.raises(BadResponse, match=r"Ticker not found\."):
        await client(lambda c: c.get_ticker_details("NONE"))
    with pytest.raises(BadResponse, match="Could not parse the time parameter: 'from'"):
        await client(lambda c: c.get_aggs("SPY", 1, "day", "soon", "2025-11-20"))


async def test_a_plan_that_lacks_it_is_a_bad_response(rest: Any) -> None:
    async with official(rest.market, "sim-basic-key") as client:
        with pytest.raises(BadResponse, match="NOT_AUTHORIZED"):
            await client.all(lambda c: c.list_snapshot_options_chain("SPY"))


async def test_crypto_and_forex_are_not_simulated(client: Official) -> None:
    asks: list[Callable[[Any], Any]] = [
        lambda c: c.get_last_crypto_trade("BTC", "USD"),
        lambda c: c.get_real_time_currency_conversion("AUD", "USD"),
        lambda c: c.get_last_forex_quote("AUD", "USD"),
        lambda c: c.get_snapshot_crypto_book("X:BTCUSD"),
        lambda c: c.get_previous_close_agg("X:BTCUSD"),
    ]
    for ask in asks:
        with pytest.raises(BadResponse):
            await client(ask)
