"""What every provider owes its callers, whoever is behind it: R205-R210, R213, R215, W-59 … W-66.

`conftest.FACTORIES` names them, vendors' own and hybrids; each test here is asked of
every one of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from onetape import calendar
from onetape.chain_query import ChainQuery
from onetape.clock import SystemClock
from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    DataProviderError,
    InvalidRequest,
    InvalidSymbol,
)
from onetape.model import (
    ContractType,
    Flow,
    IndexSnapshot,
    OptionChain,
    OptionSnapshot,
    ProviderHealth,
    Quote,
)
from onetape.providers.interfaces import (
    BrokerDataProvider,
    IndicesDataProvider,
    OptionsDataProvider,
)
from onetape.rows import Rows
from onetape.testing import until
from onetape.timeframes import bar_length

NEAR = ChainQuery(around=3, max_expirations=2)
PAST = ChainQuery(last_expiration=date(2020, 1, 1))


@pytest.fixture
def options(providers: Any) -> OptionsDataProvider:
    return providers.options


@pytest.fixture
def broker(providers: Any) -> BrokerDataProvider:
    return providers.broker


@pytest.fixture
def indices(providers: Any) -> IndicesDataProvider:
    return providers.indices


def health(provider: Any) -> ProviderHealth:
    first: ProviderHealth = provider.health()[0]
    return first


# ---- all three ----


async def test_each_is_what_its_interface_says(providers: Any) -> None:
    """R188, R213."""
    assert isinstance(providers.options, OptionsDataProvider)
    assert isinstance(providers.broker, BrokerDataProvider)
    assert isinstance(providers.indices, IndicesDataProvider)
    assert {one.name for one in providers.all} == {providers.options.name}


async def test_one_that_was_not_asked_yet_is_well(providers: Any) -> None:
    for provider in providers.all:
        assert all(one.healthy and one.last_failure is None for one in provider.health())


# ---- chains ----


async def test_a_chain_is_whole_judged_and_in_order(options: OptionsDataProvider) -> None:
    chain = await options.get_option_chain("SPY", NEAR)
    now_ns = SystemClock().now_ns()

    assert chain.underlying == "SPY"
    assert chain.underlying_price is not None
    assert (chain.simulated, chain.partial) == (True, ())
    assert len(chain.expirations) == 2
    assert len(chain.contracts) == 2 * 2 * 7
    assert chain.contracts == ChainQuery().select(chain.contracts, underlying_price=None)
    assert chain.quality is not None
    assert chain.quality.confidence(now_ns) >= 70
    for one in chain.contracts:
        assert one.quality is not None
        assert not one.quality.has_errors
        assert one.quality.provider == one.quote.provider
        assert one.quote.bid is not None
        assert one.quote.event_ns is not None
    assert any(one.greeks is not None and one.implied_volatility for one in chain.contracts)
    assert any(one.open_interest for one in chain.contracts)


async def test_a_chain_of_an_index_has_the_contracts_of_all_its_roots(
    options: OptionsDataProvider,
) -> None:
    query = ChainQuery(min_strike=2600, max_strike=2600)
    chain = await options.get_option_chain("RUT", query)

    assert chain.underlying == "I:RUT"
    assert {one.contract.underlying for one in chain.contracts} == {"I:RUT"}
    assert {one.contract.root for one in chain.contracts} == {"RUT", "RUTW"}


def strikes(chain: OptionChain) -> set[float]:
    return {one.contract.strike for one in chain.contracts}


FILTERS: dict[str, tuple[ChainQuery, Callable[[OptionSnapshot], bool]]] = {
    "strikes": (
        ChainQuery(min_strike=650, max_strike=670, max_expirations=2),
        lambda one: 650 <= one.contract.strike <= 670,
    ),
    "type": (
        ChainQuery(contract_type=ContractType.PUT, max_expirations=2),
        lambda one: one.contract.contract_type is ContractType.PUT,
    ),
    "volume": (
        ChainQuery(min_volume=10, max_expirations=2),
        lambda one: one.volume is not None and one.volume >= 10,
    ),
    "open interest": (
        ChainQuery(min_open_interest=100, max_expirations=2),
        lambda one: one.open_interest is not None and one.open_interest >= 100,
    ),
    "spread": (
        ChainQuery(max_spread_percent=2.0, max_expirations=2),
        lambda one: one.spread_percent is not None and one.spread_percent <= 2,
    ),
    "all of them": (
        ChainQuery(
            min_strike=640,
            max_strike=680,
            contract_type=ContractType.CALL,
            min_volume=1,
            min_open_interest=1,
            max_spread_percent=10,
            max_expirations=2,
        ),
        lambda one: (
            640 <= one.contract.strike <= 680
            and one.contract.contract_type is ContractType.CALL
            and bool(one.volume)
            and bool(one.open_interest)
            and one.spread_percent is not None
            and one.spread_percent <= 10
        ),
    ),
}


@pytest.mark.parametrize("which", FILTERS)
async def test_every_filter_holds(options: OptionsDataProvider, which: str) -> None:
    """R205: alone and together, asked of the vendor or not."""
    query, holds = FILTERS[which]

    chain = await options.get_option_chain("SPY", query)

    assert chain.contracts, "or it says nothing"
    assert len(chain.expirations) <= 2
    assert all(map(holds, chain.contracts))


async def test_a_range_of_expirations_holds_at_both_its_ends(
    options: OptionsDataProvider,
) -> None:
    """R205."""
    known = await options.get_expirations("SPY")
    query = ChainQuery(first_expiration=known[1], last_expiration=known[3], around=1)

    chain = await options.get_option_chain("SPY", query)

    assert chain.expirations == known[1:4]


async def test_an_empty_chain_is_an_answer(options: OptionsDataProvider) -> None:
    """W-60."""
    chain = await options.get_option_chain("SPY", PAST)

    assert chain.contracts == ()
    assert chain.listed != 0, "it is the query that leaves nothing"
    assert health(options).failures == 0


async def test_what_has_no_options_has_an_empty_chain(options: OptionsDataProvider) -> None:
    """W-60."""
    chain = await options.get_option_chain("ZZZZ")

    assert (chain.contracts, chain.listed) == ((), 0)
    assert await options.get_expirations("ZZZZ") == ()
    assert health(options).failures == 0


async def test_all_who_ask_at_once_cause_one_question(options: OptionsDataProvider) -> None:
    await options.get_expirations("SPY")
    before = health(options).requests

    chains = await asyncio.gather(*(options.get_option_chain("SPY", NEAR) for _ in range(20)))

    assert all(chain == chains[0] for chain in chains)
    assert health(options).requests - before <= len(chains[0].expirations)
    assert await options.get_option_chain("SPY", NEAR) == chains[0], "and it is kept a while"


# ---- contracts, expirations, flow ----


async def test_a_contract_is_found_by_its_terms(options: OptionsDataProvider) -> None:
    chain = await options.get_option_chain("SPY", NEAR)
    terms = chain.contracts[9].contract

    found = await options.get_option_contract(
        "SPY", terms.strike, terms.expiration, terms.contract_type
    )

    assert found.symbol == terms.symbol
    assert found.quality is not None
    assert found.quote.bid is not None
    assert found.greeks is not None


async def test_a_contract_on_an_index_is_found_whatever_its_root(
    options: OptionsDataProvider,
) -> None:
    query = ChainQuery(min_strike=2600, max_strike=2600, contract_type=ContractType.CALL)
    weekly = (await options.get_option_chain("RUT", query)).contracts[0].contract

    found = await options.get_option_contract(
        "RUT", weekly.strike, weekly.expiration, weekly.contract_type
    )

    assert found.contract.expiration == weekly.expiration
    assert found.contract.underlying == "I:RUT"


async def test_a_contract_that_is_not_there_is_an_answer(
    options: OptionsDataProvider, providers: Any
) -> None:
    """W-59, R265: of whoever was asked first, and the other one is not asked."""
    day = calendar.new_york_date(SystemClock().now_ns()) + timedelta(days=30)
    for _ in range(4):
        with pytest.raises(ContractNotFound) as caught:
            await options.get_option_contract("SPY", 650.001, day, ContractType.CALL)
        assert caught.value.provider == providers.vendors[0].name

    assert health(options).healthy
    assert health(options).failures == 0


async def test_expirations_are_in_order_and_those_of_the_chain(
    options: OptionsDataProvider,
) -> None:
    found = await options.get_expirations("SPY")
    chain = await options.get_option_chain("SPY", NEAR)

    assert list(found) == sorted(set(found))
    assert chain.expirations == found[:2]
    assert found[0] >= calendar.new_york_date(SystemClock().now_ns())


def numbers(flow: Flow) -> tuple[float | None, ...]:
    return flow.trades, flow.volume, flow.pressure, flow.score, flow.updated_ns


async def test_flow_is_measured_or_not_there(options: OptionsDataProvider, providers: Any) -> None:
    """R212, R216, W-63."""
    flow = await options.get_flow("SPY")

    assert (flow.underlying, flow.available) == ("SPY", providers.has_flow)
    if flow.available:
        assert flow.trades
        assert flow.volume
        assert flow.pressure is None or 0 <= flow.pressure <= 100
        assert flow.score is not None
        assert 0 <= flow.score <= 100
    else:
        assert flow.reason
        assert numbers(flow) == (None,) * 5


# ---- subscriptions ----


async def test_a_chain_is_told_as_it_changes(options: OptionsDataProvider) -> None:
    """R208."""
    told: list[OptionChain] = []

    handle = options.subscribe_chain("SPY", told.append, NEAR)
    await until(lambda: len(told) >= 3)
    handle.close()
    handle.close()
    count = len(told)

    assert {one.symbol for one in told[0].contracts} == {one.symbol for one in told[-1].contracts}
    assert told[-1].quality is not None
    moved = {one.symbol: one.quote.event_ns or 0 for one in told[0].contracts}
    assert all(moved[one.symbol] <= (one.quote.event_ns or 0) for one in told[-1].contracts)
    await options.get_expirations("SPY")
    assert len(told) == count, "nothing after it was closed"


async def test_a_stock_is_told_as_it_changes(broker: BrokerDataProvider) -> None:
    told: list[Quote] = []

    handle = broker.subscribe_equity("SPY", told.append)
    await until(lambda: len(told) >= 3)
    handle.close()

    assert {one.symbol for one in told} == {"SPY"}
    assert all(one.quality is not None and one.price for one in told)
    times = [one.event_ns or 0 for one in told]
    assert times == sorted(times)


async def test_an_index_is_told_as_it_changes(indices: IndicesDataProvider) -> None:
    told: list[IndexSnapshot] = []

    handle = indices.subscribe_index("SPX", told.append)
    await until(lambda: len(told) >= 3)
    handle.close()

    assert {one.symbol for one in told} == {"I:SPX"}
    times = [one.quote.event_ns or 0 for one in told]
    assert times == sorted(times)


# ---- indices ----


async def test_indices_come_with_the_lengths_asked_for(
    indices: IndicesDataProvider,
) -> None:
    """R206, R207."""
    lengths = [bar_length("1m"), bar_length("5m")]

    rows = await indices.get_index_snapshots(["SPX", "VIX", "I:NOPE"], timeframes=lengths)

    assert [row.symbol for row in rows] == ["I:SPX", "I:VIX"]
    assert set(rows.errors) == {"I:NOPE"}
    for row in rows:
        assert row.quality is not None
        assert row.quality.confidence(SystemClock().now_ns()) >= 70
        assert list(row.timeframes) == ["1m", "5m"]
        assert all(len(one.bars) == 250 for one in row.timeframes.values())
        assert row.timeframes["5m"].indicators["ema_21"] is not None
    same = await indices.get_indicators("SPX", lengths[1])
    assert same == rows[0].timeframes["5m"].indicators


async def test_what_is_no_index_is_the_callers_mistake(
    indices: IndicesDataProvider,
) -> None:
    with pytest.raises(InvalidSymbol):
        await indices.get_index_snapshots(["SPY"])
    assert health(indices).failures == 0


# ---- stocks ----


async def test_quotes_come_in_the_order_asked_for(broker: BrokerDataProvider) -> None:
    """R157, R186."""
    rows = await broker.get_quotes(["QQQ", "SPY", "NOPE", "qqq"])

    assert [row.symbol for row in rows] == ["QQQ", "SPY"]
    assert list(rows.errors) == ["NOPE"]
    assert rows.errors["NOPE"].error == "not_found"
    for row in rows:
        assert row.quality is not None
        assert not row.quality.has_errors
        assert row.last is not None
        assert row.previous_close is not None
        assert row.change == pytest.approx(row.last - row.previous_close, abs=1.0)


async def test_only_unknown_symbols_are_an_answer_too(broker: BrokerDataProvider) -> None:
    """W-59."""
    rows = await broker.get_quotes(["NOPE"])

    assert (rows, set(rows.errors)) == ((), {"NOPE"})
    assert health(broker).failures == 0


@pytest.mark.parametrize("length", ["5m", "1d"])
async def test_bars_are_those_of_the_range_oldest_first(
    broker: BrokerDataProvider, length: str
) -> None:
    """R215."""
    today = calendar.new_york_date(SystemClock().now_ns())
    last = calendar.previous_session(today)
    first = calendar.previous_session(last)

    bars = await broker.get_bars("SPY", bar_length(length), first, last)

    days = [calendar.new_york_date(bar.event_ns) for bar in bars]
    assert (days[0], days[-1]) == (first, last)
    assert [bar.event_ns for bar in bars] == sorted({bar.event_ns for bar in bars})
    assert all(bar.low <= bar.open <= bar.high and bar.volume for bar in bars)
    assert bars.errors == {}


async def test_an_upside_down_symbol_is_the_callers_mistake(broker: BrokerDataProvider) -> None:
    with pytest.raises(InvalidRequest):
        await broker.get_quotes(["not a symbol"])
    with pytest.raises(InvalidRequest):
        await broker.get_quotes("SPY")
    assert health(broker).failures == 0


# ---- failure ----


def questions(providers: Any) -> Iterator[tuple[Any, Callable[[], Awaitable[Any]]]]:
    """Yield one question of each kind, of symbols that nothing was asked of before."""
    day = calendar.new_york_date(SystemClock().now_ns()) + timedelta(days=30)
    options, broker, indices = providers.options, providers.broker, providers.indices
    yield options, lambda: options.get_option_chain("AAPL", ChainQuery(min_strike=1))
    yield options, lambda: options.get_option_contract("AAPL", 250, day, ContractType.CALL)
    yield options, lambda: options.get_expirations("AAPL")
    yield broker, lambda: broker.get_quotes(["AAPL", "MSFT"])
    yield broker, lambda: broker.get_bars("AAPL", bar_length("5m"), day, day)
    yield indices, lambda: indices.get_index_snapshots(["NDX"])
    yield indices, lambda: indices.get_indicators("NDX", bar_length("1m"))


def vendors_errors(error: DataProviderError, providers: Any, asked: Any) -> list[DataProviderError]:
    """Return what each vendor behind a provider said, out of its one error.

    A vendor's own provider signs its errors. So does a hybrid with two vendors behind it,
    for what failed is all of them, and each one's own error is in it. With one behind it
    there is nothing to add, and that one's error is passed on as it came.
    """
    if len(providers.behind(asked)) == 1:
        return [error]
    assert isinstance(error, AllProvidersFailed)
    assert error.provider == asked.name
    assert error.status is None, "whose would it be?"
    causes = [one for one in error.causes if isinstance(one, DataProviderError)]
    assert len(causes) == len(error.causes)
    return causes


@pytest.mark.parametrize("how", ["down", "throttled", "refused"])
async def test_every_failure_is_the_providers_own_with_its_cause(providers: Any, how: str) -> None:
    """R264, R265, W-52."""
    providers.fail(how)

    for provider, question in questions(providers):
        before = health(provider).failures
        with pytest.raises(DataProviderError) as caught:
            await question()
        said = vendors_errors(caught.value, providers, provider)
        for vendor, error in zip(providers.behind(provider), said, strict=True):
            assert type(error) is vendor.failure
            assert error.provider == vendor.name
            assert error.causes
        assert health(provider).failures > before
        assert health(provider).last_failure


@pytest.mark.parametrize(("how", "status"), [("down", 503), ("throttled", 429), ("refused", 403)])
async def test_a_failure_tells_the_status_that_the_vendor_answered(
    providers: Any, how: str, status: int
) -> None:
    """R264: as a number and safe for JSON."""
    providers.fail(how)

    with pytest.raises(DataProviderError) as caught:
        await providers.broker.get_quotes(["AAPL", "MSFT"])

    said = vendors_errors(caught.value, providers, providers.broker)
    shown = msgspec.json.decode(msgspec.json.encode(caught.value.as_dict()))
    assert [error.status for error in said] == [status] * len(providers.vendors)
    described = [shown] if len(said) == 1 else shown["causes"]
    assert [one["status"] for one in described] == [status] * len(said)
    assert [one["code"] for one in described] == [error.code for error in said]


async def test_three_failures_in_a_row_make_it_fail_and_an_answer_makes_it_well(
    providers: Any,
) -> None:
    """R222, R224."""
    broker = providers.broker
    providers.fail("down")
    for _ in range(3):
        with pytest.raises(DataProviderError):
            await broker.get_quotes(["SPY"])
    assert (health(broker).healthy, health(broker).consecutive_errors) == (False, 3)
    assert health(broker).response_time_s is not None

    providers.recover()
    rows: Rows[Quote] = await broker.get_quotes(["SPY"])

    assert len(rows) == 1
    await until(lambda: health(broker).healthy)  # a hybrid proves it beside the other's answer
    assert health(broker).consecutive_errors == 0


async def test_an_empty_answer_about_what_is_listed_is_a_failure(providers: Any) -> None:
    """W-60, W-75: an outage may come as an empty 200."""
    providers.fail("empty")

    with pytest.raises(DataProviderError) as caught:
        await providers.options.get_option_chain("MSFT", ChainQuery(max_expirations=1))

    said = vendors_errors(caught.value, providers, providers.options)
    assert [type(error) for error in said] == [vendor.failure for vendor in providers.vendors]


async def test_a_subscription_outlives_a_failure(providers: Any) -> None:
    told: list[Quote] = []
    providers.fail("down")
    handle = providers.broker.subscribe_equity("QQQ", told.append)
    await until(lambda: health(providers.broker).failures)
    assert told == []

    providers.recover()
    await until(lambda: told)
    handle.close()
