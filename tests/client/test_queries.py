"""What is asked again, what is kept and how long, and what several callers share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from onetape.chain_query import ChainQuery
from onetape.client._cache import ClientCache
from onetape.client._judging import Judge
from onetape.client._market import MarketQuestions
from onetape.client._queries import Queries
from onetape.errors import (
    ContractNotFound,
    InvalidSymbol,
    NotConnected,
    NotFound,
    ShuttingDown,
    UpstreamDown,
)
from onetape.massive.questions import MassiveQuestions
from onetape.model import Bar, ContractType
from onetape.pages import Pages
from onetape.rows import Rows
from onetape.testing import until
from onetape.timeframes import bar_length

OPTION = "O:SPY251219C00650000"
CHAIN = "/api/options/chain"
BARS = "/api/bars"
CONTRACT = f"/v3/reference/options/contracts/{OPTION}"
MONDAY_NS = 1_764_000_000_000_000_000  # 2025-11-24, 11:00 in New York: the market is open
MINUTE_NS = MONDAY_NS - 60_000_000_000
SATURDAY_NS = MONDAY_NS - 2 * 86_400_000_000_000


def contract() -> Mapping[str, Any]:
    details = {
        "ticker": OPTION,
        "underlying_ticker": "SPY",
        "contract_type": "call",
        "exercise_style": "american",
        "expiration_date": "2025-12-19",
        "shares_per_contract": 100,
        "strike_price": 650,
    }
    return {"status": "OK", "results": details}


class House:
    """Questions behind a cache, on a clock that stands still."""

    def __init__(self, bench: Any, cache: ClientCache) -> None:
        self.bench = bench
        self.rest = bench.rest
        self.market = bench.market
        self.cache = cache
        self.is_over = False
        self.ask = Queries(
            market=MarketQuestions(bench.rest),
            questions=MassiveQuestions(bench.rest, bench.clock),
            judge=Judge(bench.clock),
            cache=cache,
            clock=bench.clock,
            is_over=lambda: self.is_over,
        )

    async def fetches(self, ask: Callable[[], Awaitable[object]], *after_s: float) -> list[int]:
        """Ask again and again, and count how often that went further than the cache."""
        counts: list[int] = []
        for seconds in after_s:
            self.bench.clock.advance(seconds)
            before = len(self.rest.asked)
            await ask()
            counts.append(len(self.rest.asked) - before)
        return counts


@pytest.fixture
async def house(bench: Any) -> AsyncIterator[House]:
    async with ClientCache(clock=bench.clock) as cache:
        yield House(bench, cache)


# kept


async def test_a_chain_is_kept_ten_seconds_while_the_market_is_open(house: House) -> None:
    """R102, C11, W-29."""
    house.rest.answers[CHAIN] = house.market.chain(6600)

    counts = await house.fetches(
        lambda: house.ask.option_chain("SPX", ChainQuery()), 0, 5, 4.9, 0.2
    )

    assert counts == [1, 0, 0, 1]


async def test_a_chain_is_kept_a_minute_while_the_market_is_closed(house: House) -> None:
    house.bench.clock.advance((SATURDAY_NS - MONDAY_NS) / 1e9)
    house.rest.answers[CHAIN] = house.market.chain(6600)

    counts = await house.fetches(lambda: house.ask.option_chain("SPX", ChainQuery()), 0, 59, 2)

    assert counts == [1, 0, 1]


@pytest.mark.parametrize("symbol", ["spx", "$SPX", "I:SPX"])
async def test_one_chain_has_one_name(house: House, symbol: str) -> None:
    """R104, W-26: however it is written."""
    house.rest.answers[CHAIN] = house.market.chain(6600)
    await house.ask.option_chain(
        "SPX", ChainQuery(min_strike=6600, contract_type=ContractType.CALL)
    )
    again = ChainQuery(contract_type=ContractType("call"), min_strike=6600.0)

    assert await house.fetches(lambda: house.ask.option_chain(symbol, again), 0) == [0]
    assert house.rest.asked == [
        (CHAIN, "contract_type=call&min_strike=6600&underlying=I:SPX&whole=true")
    ]


async def test_a_chain_that_is_not_whole_is_told_as_such_and_not_kept(house: House) -> None:
    """W-28: a failure is not kept, be it of a page that came after the first."""
    missing = ("what follows page 1: upstream_down",)
    house.rest.answers[CHAIN] = house.market.chain(6600, partial=missing)
    found = await house.ask.option_chain("SPX", ChainQuery())
    assert (len(found.contracts), found.partial) == (1, missing)

    house.rest.answers[CHAIN] = house.market.chain(6600)

    assert not (await house.ask.option_chain("SPX", ChainQuery())).partial


async def test_bars_of_which_some_were_left_out_are_not_kept(house: House) -> None:
    house.rest.answers[BARS] = house.market.bars(dropped={"range_inverted": 1})
    first, last = date(2025, 11, 10), date(2025, 11, 11)

    async def ask() -> Rows[Bar]:
        return await house.ask.bars("SPY", bar_length("1d"), first, last, max_rows=None)

    assert (await ask()).errors["SPY"].message == "left out: 1 x range_inverted"
    house.rest.answers[BARS] = house.market.bars(MINUTE_NS)

    assert len(await ask()) == 1


async def test_other_bounds_are_another_chain(house: House) -> None:
    """R158: what they leave out does not travel, so it is not there to be selected from."""
    house.rest.answers[CHAIN] = house.market.chain(6600)
    await house.ask.option_chain("SPX", ChainQuery(min_strike=6600))

    for query in (
        ChainQuery(),
        ChainQuery(min_strike=6605),
        ChainQuery(max_strike=6600),
        ChainQuery(min_strike=6600, around=1),
        ChainQuery(min_strike=6600, min_volume=2),
    ):
        assert await house.fetches(lambda q=query: house.ask.option_chain("SPX", q), 0) == [1]


async def test_a_contract_is_kept_a_quarter_of_an_hour_by_its_own_name(house: House) -> None:
    """R98, R159."""
    house.rest.answers[CONTRACT] = contract()
    spellings = iter(
        [OPTION, "spy251219c00650000", "SPY   251219C00650000".replace(" ", ""), OPTION]
    )

    counts = await house.fetches(
        lambda: house.ask.option_contract(next(spellings)), 0, 60, 14 * 60 - 1, 62
    )

    assert counts == [1, 0, 0, 1]


async def test_an_old_contract_stands_in_for_a_gateway_that_fails(house: House) -> None:
    house.rest.answers[CONTRACT] = contract()
    first = await house.ask.option_contract(OPTION)
    house.bench.clock.advance(1_000)
    house.rest.answers[CONTRACT] = UpstreamDown("no")

    assert await house.ask.option_contract(OPTION) == first
    assert house.cache.statistics().stood_in == 1


async def test_a_contract_that_is_not_listed_is_no_failure_and_is_not_kept(house: House) -> None:
    house.rest.answers[CONTRACT] = NotFound("no")
    with pytest.raises(ContractNotFound):
        await house.ask.option_contract(OPTION)

    house.rest.answers[CONTRACT] = contract()

    assert (await house.ask.option_contract(OPTION)).symbol == OPTION


async def test_bars_to_the_present_are_kept_a_minute(house: House) -> None:
    """R99."""
    house.rest.answers[BARS] = house.market.bars(MINUTE_NS)
    minute = bar_length("1m")

    async def ask() -> object:
        return await house.ask.bars("spy", minute, date(2025, 11, 24), None, max_rows=None)

    assert await house.fetches(ask, 0, 59, 2) == [1, 0, 1]


async def test_bars_of_the_past_are_kept_a_day(house: House) -> None:
    house.rest.answers[BARS] = house.market.bars(MINUTE_NS)
    minute = bar_length("1m")

    async def ask() -> object:
        return await house.ask.bars("SPY", minute, "2025-11-20", "2025-11-21", max_rows=None)

    assert await house.fetches(ask, 0, 61, 86_400 - 62, 2) == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("length", "end", "kept"),
    [
        ("1m", "2025-11-23", True),
        ("1m", "2025-11-24", False),
        ("1m", datetime(2025, 11, 24, 15, tzinfo=UTC), False),
        ("1d", date(2025, 11, 23), True),
        ("1w", date(2025, 11, 23), False),
        ("1mo", date(2025, 11, 23), False),
    ],
)
async def test_a_range_is_over_when_no_bar_in_it_can_change(
    house: House, length: str, end: Any, *, kept: bool
) -> None:
    class FromAnybody(dict[str, Any]):
        def __missing__(self, path: str) -> Any:
            return {"status": "OK", "ticker": "SPY", "results": []}

    house.rest.answers = FromAnybody({BARS: house.market.bars(MINUTE_NS)})

    async def ask() -> object:
        return await house.ask.bars("SPY", bar_length(length), "2025-11-03", end, max_rows=None)

    assert await house.fetches(ask, 0, 61) == [1, 0 if kept else 1]


async def test_the_last_bars_are_kept_a_minute(house: House) -> None:
    """R99, R161."""
    starts = [MINUTE_NS - n * 60_000_000_000 for n in range(5)]
    house.rest.answers[BARS] = house.market.bars(*starts)
    minute = bar_length("1m")

    counts = await house.fetches(lambda: _awaited(house.ask.last_bars("SPY", minute, 2)), 0, 59, 2)
    more = await house.fetches(lambda: _awaited(house.ask.last_bars("SPY", minute, 3)), 0)

    assert (counts, more) == ([1, 0, 1], [1])


async def _awaited(pages: Pages[Bar]) -> Rows[Bar]:
    return await pages


HOLIDAYS = "/api/market/holidays"
THANKSGIVING = date(2025, 11, 27)


async def test_holidays_are_of_a_year_and_kept_a_day(house: House) -> None:
    """R100, R155."""
    house.rest.answers[HOLIDAYS] = house.market.holidays(date(2025, 1, 1), THANKSGIVING)

    this_year = await house.ask.market_holidays(None)
    counts = await house.fetches(lambda: house.ask.market_holidays(2025), 86_300, 200)
    await house.ask.market_holidays(2026)

    assert [one.date for one in this_year] == [date(2025, 1, 1), THANKSGIVING]
    assert counts == [0, 1]
    assert [query for _, query in house.rest.asked] == ["year=2025", "year=2025", "year=2026"]


async def test_a_year_ends_at_midnight_in_new_york(house: House) -> None:
    house.rest.answers[HOLIDAYS] = house.market.holidays(THANKSGIVING)
    new_year = datetime(2026, 1, 1, 5, tzinfo=UTC)
    house.bench.clock.advance(new_year.timestamp() - MONDAY_NS / 1e9 - 1)
    await house.ask.market_holidays(None)
    house.bench.clock.advance(1)

    await house.ask.market_holidays(None)

    assert [query for _, query in house.rest.asked] == ["year=2025", "year=2026"]


async def test_holidays_that_could_not_be_had_are_not_kept(house: House) -> None:
    """W-28; and the last good ones stand in."""
    house.rest.answers[HOLIDAYS] = UpstreamDown("no")
    with pytest.raises(UpstreamDown):
        await house.ask.market_holidays(2025)
    house.rest.answers[HOLIDAYS] = house.market.holidays(THANKSGIVING)
    good = await house.ask.market_holidays(2025)
    house.rest.answers[HOLIDAYS] = UpstreamDown("no")
    house.bench.clock.advance(7 * 86_400)

    assert await house.ask.market_holidays(2025) == good


async def test_holidays_from_the_disk_are_rows_again(bench: Any, tmp_path: Any) -> None:
    """R105."""
    bench.rest.answers[HOLIDAYS] = bench.market.holidays(THANKSGIVING)
    async with ClientCache(clock=bench.clock, directory=tmp_path) as cache:
        first = await House(bench, cache).ask.market_holidays(2025)

    async with ClientCache(clock=bench.clock, directory=tmp_path) as cache:
        again = await House(bench, cache).ask.market_holidays(2025)

    assert again == first
    assert again.kind is first.kind
    assert len(bench.rest.asked) == 1


# never kept


LIVE: dict[str, tuple[str, Callable[[Queries], Awaitable[object]]]] = {
    "status": ("/api/market/status", lambda ask: ask.market_status()),
    "quotes": ("/api/quotes", lambda ask: ask.quotes(["SPY", "I:SPX"])),
    "indices": ("/api/massive/indices", lambda ask: ask.indices(["SPX"])),
    "rsi": ("/v1/indicators/rsi/SPY", lambda ask: ask.rsi("spy", {"window": 14})),
}


def live_answers(market: Any) -> dict[str, Any]:
    value = {"timestamp": 1_763_999_940_000, "value": 50.0}
    return {
        "/api/market/status": market.status(),
        "/api/quotes": market.quotes,
        "/api/massive/indices": market.indices,
        "/v1/indicators/rsi/SPY": {"status": "OK", "results": {"values": [value]}},
        f"/v3/trades/{OPTION}": {"status": "OK", "results": []},
    }


@pytest.mark.parametrize("name", LIVE)
async def test_live_answers_are_asked_anew_each_time(house: House, name: str) -> None:
    """R103."""
    house.rest.answers = live_answers(house.market)

    assert await house.fetches(lambda: LIVE[name][1](house.ask), 0, 0) == [1, 1]
    assert house.cache.statistics().entries == 0


@pytest.mark.parametrize("name", LIVE)
async def test_who_asks_meanwhile_gets_the_same_answer(house: House, name: str) -> None:
    """R92, R103: joined in flight, so fifty are one."""
    house.rest.answers = live_answers(house.market)

    answers = await asyncio.gather(*(LIVE[name][1](house.ask) for _ in range(50)))

    assert house.rest.paths == {LIVE[name][0]: 1}
    assert all(answer is answers[0] for answer in answers)


async def test_trades_are_asked_anew_each_time(house: House) -> None:
    house.rest.answers = live_answers(house.market)

    async def ask() -> object:
        return await house.ask.trades(OPTION, max_rows=5)

    assert await house.fetches(ask, 0, 0) == [1, 1]


async def test_rows_keep_the_order_asked_for_and_name_what_is_missing(house: House) -> None:
    """R157, W-20."""
    house.rest.answers = live_answers(house.market)

    rows = await house.ask.quotes(["spx", "NOPE", "SPY", "SPX"])

    assert [row.symbol for row in rows] == ["I:SPX", "SPY"]
    assert rows.errors["NOPE"].error == "not_found"
    assert rows.simulated
    assert house.rest.asked == [("/api/quotes", "tickers=I:SPX,NOPE,SPY")]


async def test_an_impossible_symbol_is_refused_before_anybody_is_asked(house: House) -> None:
    with pytest.raises(InvalidSymbol):
        await house.ask.quotes(["SPY", "not a symbol"])
    with pytest.raises(InvalidSymbol):
        house.ask.trades("SPX")

    assert house.rest.asked == []


async def test_cancelling_one_caller_leaves_the_others_their_answer(house: House) -> None:
    """R89, W-18."""
    house.rest.answers = live_answers(house.market)
    house.rest.hold = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        leaving, staying = (tasks.create_task(house.ask.quotes(["SPY"])) for _ in range(2))
        await until(lambda: house.rest.asked)

        leaving.cancel()
        await asyncio.wait([leaving])
        house.rest.hold.set()

    assert staying.result()[0].symbol == "SPY"
    assert len(house.rest.asked) == 1


# the end


async def test_what_the_end_cuts_off_is_not_connected(bench: Any) -> None:
    bench.rest.answers = live_answers(bench.market)
    bench.rest.hold = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, ClientCache(clock=bench.clock) as cache:
        house = House(bench, cache)

        async def ask() -> type[Exception] | None:
            try:
                await house.ask.quotes(["SPY"])
            except NotConnected as error:
                return type(error)
            return None

        asking = tasks.create_task(ask())
        await until(lambda: bench.rest.asked)
        house.is_over = True

    assert asking.result() is NotConnected


async def test_a_gateway_that_shuts_down_is_told_as_such(house: House) -> None:
    house.rest.answers["/api/market/status"] = ShuttingDown("come back")

    with pytest.raises(ShuttingDown):
        await house.ask.market_status()
