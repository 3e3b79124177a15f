"""Tradier as a provider, against the simulated one and its faults: R213-R217, R264, W-60, W-63.

What every provider owes its callers is asked in `tests/providers`; here is what is
Tradier's own.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from onetape.calendar import CLOSE, instant_ns, new_york_date
from onetape.chain_query import ChainQuery
from onetape.clock import Clock, SystemClock
from onetape.errors import (
    ContractNotFound,
    InvalidRequest,
    InvalidSymbol,
    NotConnected,
    TradierApiError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
)
from onetape.massive.asker import VendorAsker
from onetape.massive.providers import MassiveOptionsProvider
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.model import ContractType, IndexSnapshot, OptionChain, OptionSnapshot, Quote
from onetape.provenance import Source
from onetape.providers.vendor import ProviderPolicy
from onetape.secret import Secret
from onetape.simulator.faults import EmptyAnswer, Fail, FailureKind, Shape, TradierRule
from onetape.testing import until
from onetape.timeframes import bar_length
from onetape.tradier.budget import Priority
from onetape.tradier.providers import (
    TradierBrokerProvider,
    TradierHabits,
    TradierIndicesProvider,
    TradierOptionsProvider,
)
from onetape.tradier.rest import TradierPolicy, TradierREST
from onetape.tradier.wire_rest import Again, Ask, Refusal

CALL, PUT = ContractType.CALL, ContractType.PUT
CHAINS = "/v1/markets/options/chains"
NEAR = ChainQuery(max_expirations=2)
HASTY = TradierPolicy(attempts=1, breaker_failures=1000, throttle_s=0.01, per_minute=10_000)
TODAY = date(2025, 11, 24)


@contextlib.asynccontextmanager
async def made(
    kind: Callable[..., Any],
    floor: Any,
    *,
    rest: TradierPolicy = HASTY,
    clock: Clock | None = None,
    **arguments: Any,
) -> AsyncGenerator[Any]:
    now: Any = clock or floor
    edge = TradierREST(
        base_url=floor.simulator.tradier_url,
        token=Secret(floor.simulator.tradier_token),
        clock=now,
        policy=rest,
    )
    async with edge, kind(asker=edge, clock=now, **arguments) as provider:
        yield provider


def scripted(kind: Callable[..., Any], script: Any, **arguments: Any) -> Any:
    return kind(**({"asker": script, "clock": script.clock} | arguments))


def computed(chain: OptionChain) -> dict[str, OptionSnapshot]:
    return {
        row.symbol: row
        for row in chain.contracts
        if row.greeks is not None and row.greeks.source is Source.COMPUTED
    }


def codes(row: OptionSnapshot) -> set[str]:
    assert row.quality is not None
    return {one.code for one in row.quality.reasons}


# ---- beside Massive, of the same market ----


@contextlib.asynccontextmanager
async def massive(floor: Any) -> AsyncGenerator[MassiveOptionsProvider]:
    rest = MassiveREST(
        base_url=floor.simulator.url,
        headers=lambda: {"Authorization": f"Bearer {floor.simulator.key}"},
        clock=floor,
        policy=RestPolicy(),
    )
    async with rest, MassiveOptionsProvider(asker=VendorAsker(rest), clock=floor) as provider:
        yield provider


@pytest.mark.parametrize("underlying", ["AAPL", "SPX"])
async def test_both_vendors_tell_of_one_market(floor: Any, underlying: str) -> None:
    """Issue 4, part 4: prices to rounding, and Greeks that we computed beside those of Massive."""
    async with made(TradierOptionsProvider, floor) as tradier, massive(floor) as other:
        theirs = await other.get_option_chain(underlying, NEAR)
        ours = await tradier.get_option_chain(underlying, NEAR)

    rows = {row.symbol: row for row in theirs.contracts}
    assert {row.symbol for row in ours.contracts} == rows.keys()
    assert ours.underlying_price == pytest.approx(theirs.underlying_price, rel=1e-3)
    same = [row for row in ours.contracts if _sides(row) == _sides(rows[row.symbol])]
    assert len(same) > 0.7 * len(rows), "a second lies between the two"
    for row in ours.contracts:
        assert row.open_interest == rows[row.symbol].open_interest
        assert row.contract == rows[row.symbol].contract
    mine = computed(ours)
    assert len(mine) > 0.15 * len(rows)
    for symbol, row in mine.items():
        true = rows[symbol]
        assert row.greeks is not None
        if true.greeks is None:  # deep in the money Massive has none
            assert abs(row.greeks.delta or 0) > 0.9
            continue
        assert row.greeks.delta == pytest.approx(true.greeks.delta, abs=0.015)
        assert row.implied_volatility == pytest.approx(true.implied_volatility, abs=0.02)
        assert row.greeks.vega == pytest.approx(true.greeks.vega, rel=0.15, abs=0.02)


def _sides(row: OptionSnapshot) -> tuple[float | None, float | None]:
    return row.quote.bid, row.quote.ask


# ---- Greeks ----


async def test_hourly_greeks_are_computed_where_the_quotes_are_live(floor: Any) -> None:
    """Trap 5; issue 4, part 3."""
    async with made(TradierOptionsProvider, floor) as options:
        chain = await options.get_option_chain("SPY", ChainQuery(around=3, max_expirations=3))

    now_ns = floor.now_ns()
    for row in chain.contracts:
        if row.contract.expiration > TODAY:
            assert row.greeks is not None
            assert row.greeks.source is Source.COMPUTED
            assert "greeks_computed" in codes(row)
            assert row.greeks.delta is not None
            assert (row.greeks.delta > 0) is (row.contract.contract_type is CALL)
            assert row.greeks.rho is not None
            assert (row.greeks.rho > 0) is (row.contract.contract_type is CALL)
    assert chain.quality is not None
    assert chain.quality.confidence(now_ns) >= 90


async def test_what_expires_today_is_computed_or_marked(floor: Any) -> None:
    """Trap 5: those of Tradier are of the close before."""
    query = ChainQuery(last_expiration=TODAY)
    async with made(TradierOptionsProvider, floor) as options:
        chain = await options.get_option_chain("SPX", query)

    marks = [codes(row) & {"greeks_computed", "greeks_stale_0dte"} for row in chain.contracts]
    assert all(marks)
    assert {"greeks_computed"} in marks


async def test_where_nobody_bids_theirs_are_kept_true_of_puts_and_age(floor: Any) -> None:
    """Traps 4 and 6."""
    async with made(TradierOptionsProvider, floor) as options:
        chain = await options.get_option_chain("SPX", ChainQuery(max_expirations=2))

    unbid = [row for row in chain.contracts if not row.quote.bid and row.greeks is not None]
    puts = [row for row in unbid if row.contract.contract_type is PUT]
    assert puts
    for row in puts:
        assert row.greeks is not None
        assert row.greeks.source is Source.REST
        assert {"greeks_hourly", "greeks_corrected"} <= codes(row)
        assert row.greeks.rho is not None
        assert row.greeks.rho <= 1e-4, "a call's is above 0"
        assert row.implied_volatility != 0, "0 is no solution"
        assert row.quality is not None
        found = {one.code for one in row.quality.reasons_at(floor.now_ns())}
        assert "greeks_stale" in found


async def test_a_contract_has_its_greeks_from_its_pair(floor: Any) -> None:
    async with made(TradierOptionsProvider, floor) as options:
        query = ChainQuery(around=2, first_expiration=TODAY + timedelta(days=10), max_expirations=1)
        chain = await options.get_option_chain("SPY", query)
        terms = chain.contracts[4].contract
        row = await options.get_option_contract(
            "SPY", terms.strike, terms.expiration, terms.contract_type
        )

    assert row.symbol == terms.symbol
    assert row.greeks is not None
    assert row.greeks.source is Source.COMPUTED
    beside = chain.contracts[4]
    assert beside.greeks is not None
    assert row.greeks.delta == pytest.approx(beside.greeks.delta, abs=0.02)


# ---- faults ----

FAILURES: dict[FailureKind, type[Exception]] = {
    FailureKind.INVALID_TOKEN: UpstreamForbidden,  # plain text, as plain/text
    FailureKind.TOKEN_EXPIRED: UpstreamForbidden,
    FailureKind.NOT_ENTITLED: UpstreamForbidden,
    FailureKind.QUOTA_TEXT: UpstreamThrottled,
    FailureKind.QUOTA_FAULT: UpstreamThrottled,
    FailureKind.HTML: UpstreamDown,
    FailureKind.DATASTORE_ERROR: UpstreamDown,
    FailureKind.BAD_GATEWAY: UpstreamDown,
    FailureKind.NOT_FOUND: UpstreamDown,
    FailureKind.TOO_BIG_BODY: UpstreamGarbled,
    FailureKind.ERRORS: UpstreamGarbled,
    FailureKind.EMPTY_BODY: UpstreamDown,
}


@pytest.mark.parametrize("how", FAILURES)
async def test_whatever_its_shape_a_failure_is_tradiers_with_its_cause(
    floor: Any, how: FailureKind
) -> None:
    """R264, R265, section 1.2 of the facts."""
    floor.simulator.inject(TradierRule(action=Fail(kind=how)))

    # The faults of the simulator are of the host's time.
    async with made(TradierBrokerProvider, floor, clock=SystemClock()) as broker:
        with pytest.raises(TradierApiError) as caught:
            await broker.get_quotes(["SPY"])
        (health,) = broker.health()

    error = caught.value
    assert (error.provider, error.code) == ("tradier", "TRADIER_API_ERROR")
    assert isinstance(error.causes[0], FAILURES[how])
    assert floor.simulator.tradier_token not in str(error)
    assert (health.failures, health.healthy) == (1, True)
    if how is FailureKind.QUOTA_TEXT:
        assert error.retry_after_s is not None
        assert 0 <= error.retry_after_s <= 61


async def test_a_passing_failure_is_asked_over(floor: Any) -> None:
    floor.simulator.inject(TradierRule(action=Fail(kind=FailureKind.HTML), count=2))
    patient = TradierPolicy(backoff_base_s=0.01, backoff_cap_s=0.01)

    async with made(TradierBrokerProvider, floor, rest=patient) as broker:
        rows = await broker.get_quotes(["SPY"])

    assert [row.symbol for row in rows] == ["SPY"]


async def test_an_expiration_that_fails_is_named_and_the_others_stand(floor: Any) -> None:
    """R214."""
    floor.simulator.inject(TradierRule(action=Fail(), path=CHAINS, skip=1, count=1))

    async with made(TradierOptionsProvider, floor) as options:
        chain = await options.get_option_chain("MSFT", ChainQuery(max_expirations=3))
        again = await options.get_option_chain("MSFT", ChainQuery(max_expirations=3))

    assert len(chain.expirations) == 2
    (named,) = chain.partial
    assert named.startswith("expiration 2025-")
    assert named.endswith(": upstream_down")
    assert chain.quality is not None
    assert "chain_partial" in {one.code for one in chain.quality.reasons}
    assert (len(again.expirations), again.partial) == (3, ()), "it was not kept"


@pytest.mark.parametrize("nothing", ["null", "text"])
async def test_an_empty_chain_of_what_is_listed_is_a_failure(floor: Any, nothing: Any) -> None:
    """W-60."""
    floor.simulator.inject(TradierRule(action=Shape(items=0, nothing=nothing), path=CHAINS))

    async with made(TradierOptionsProvider, floor) as options:
        with pytest.raises(TradierApiError) as caught:
            await options.get_option_chain(
                "SPY", ChainQuery(first_expiration=TODAY + timedelta(days=1), max_expirations=1)
            )
    assert isinstance(caught.value.causes[0], UpstreamGarbled)


async def test_a_chain_of_one_contract_is_read(floor: Any) -> None:
    """Trap 2."""
    floor.simulator.inject(TradierRule(action=Shape(items=1), path=CHAINS))

    async with made(TradierOptionsProvider, floor) as options:
        chain = await options.get_option_chain("SPY", ChainQuery(max_expirations=1))

    assert len(chain.contracts) + sum(chain.dropped.values()) == 1


async def test_no_expirations_of_what_is_listed_are_a_failure(floor: Any) -> None:
    floor.simulator.inject(
        TradierRule(action=EmptyAnswer(), path="/v1/markets/options/expirations")
    )

    async with made(TradierOptionsProvider, floor) as options:
        with pytest.raises(TradierApiError):
            await options.get_expirations("SPY")
        assert await options.get_expirations("ZZZZ") == ()


async def test_the_status_of_an_error_is_told_where_it_is_known(script: Any) -> None:
    cause = UpstreamDown("Tradier answered 503")
    cause.__cause__ = _Status(503)
    script.answers["/markets/quotes"] = Refusal(cause, Again.LATER)

    async with scripted(TradierBrokerProvider, script) as broker:
        with pytest.raises(TradierApiError) as caught:
            await broker.get_quotes(["SPY"])
    assert caught.value.status == 503


class _Status(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


async def test_a_contract_in_an_answer_that_leaves_it_out_is_a_failure(script: Any) -> None:
    """W-59, W-60: not found is what Tradier says, not what it does not say."""
    spy = {"symbol": "SPY", "type": "etf", "last": 100.0}
    script.answers["/markets/quotes"] = {"quotes": {"quote": spy}}

    async with scripted(TradierOptionsProvider, script) as options:
        with pytest.raises(TradierApiError):
            await options.get_option_contract("SPY", 100, date(2025, 12, 19), CALL)
        bad: dict[str, Any] = {"symbol": "SPY251219C00100000", "type": "option", "bid": []}
        script.answers["/markets/quotes"] = {"quotes": {"quote": [spy, bad]}}
        with pytest.raises(TradierApiError):
            await options.get_option_contract("SPY", 100, date(2025, 12, 19), CALL)
        assert options.health()[0].failures == 2

        strangers = ["SPY251219C00100000", "SPY251219P00100000"]
        body = {"quote": spy, "unmatched_symbols": {"symbol": strangers}}
        script.answers["/markets/quotes"] = {"quotes": body}
        with pytest.raises(ContractNotFound) as caught:
            await options.get_option_contract("SPY", 100, date(2025, 12, 19), CALL)
    assert caught.value.provider == "tradier"


# ---- quotes and bars ----


async def test_after_the_close_the_last_price_stands_still_and_says_so(script: Any) -> None:
    """Trap 9."""
    script.clock.advance(8 * 3600)
    at_ms = script.clock.now_ns() // 1_000_000
    row = {"symbol": "SPY", "type": "etf", "last": 100.0, "bid": 101.0, "ask": 101.2}
    script.answers["/markets/quotes"] = {"quotes": {"quote": row | {"bid_date": at_ms}}}

    async with scripted(TradierBrokerProvider, script) as broker:
        (quote,) = await broker.get_quotes(["SPY"])

    assert quote.quality is not None
    assert [one.code for one in quote.quality.reasons] == ["last_frozen"]


async def test_long_lists_are_posted(floor: Any) -> None:
    """Section 4.1 of the facts: a long address is refused."""
    strangers = [f"ZZ{chr(65 + one // 26)}{chr(65 + one % 26)}" for one in range(600)]
    async with made(TradierBrokerProvider, floor) as broker:
        rows = await broker.get_quotes(["QQQ", *strangers, "SPY"])

    assert [row.symbol for row in rows] == ["QQQ", "SPY"]
    assert len(rows.errors) == 600
    assert rows.simulated


async def test_intraday_bars_reach_back_as_far_as_tradier_does(floor: Any) -> None:
    """R215, trap 10."""
    async with made(TradierBrokerProvider, floor) as broker:
        bars = await broker.get_bars("SPY", bar_length("15m"), "2025-01-02", "2025-10-01")

    days = [new_york_date(bar.event_ns) for bar in bars]
    assert days[0] >= TODAY - timedelta(days=60)
    assert days[-1] == date(2025, 10, 1)
    assert "before" in bars.errors["SPY"].message


async def test_hours_are_made_of_quarters(floor: Any) -> None:
    day = date(2025, 11, 21)
    async with made(TradierBrokerProvider, floor) as broker:
        hours = await broker.get_bars("SPY", bar_length("1h"), day, day)
        quarters = await broker.get_bars("SPY", bar_length("15m"), day, day)

    assert {bar.source for bar in hours} == {Source.COMPUTED}
    assert sum(bar.volume or 0 for bar in hours) == sum(bar.volume or 0 for bar in quarters)
    close_ns = instant_ns(day, CLOSE)
    assert [bar.end_ns for bar in hours if bar.end_ns == close_ns] == [close_ns]


async def test_bars_that_cannot_be_true_are_left_out_and_counted(script: Any) -> None:
    rows = [
        {"date": "2025-11-20", "open": 1, "high": 3, "low": 0.5, "close": 2, "volume": 9},
        {"date": "2025-11-21", "open": 1, "high": 3, "low": 0.0, "close": 2, "volume": 9},
    ]
    script.answers["/markets/history"] = {"history": {"day": rows}}

    async with scripted(TradierBrokerProvider, script) as broker:
        bars = await broker.get_bars("SPY", bar_length("1d"), "2025-11-20", "2025-11-21")

    assert len(bars) == 1
    assert bars.errors["SPY"].message == "left out: 1 x price_not_positive"


async def test_a_length_that_tradier_lacks_is_its_failure_and_does_not_count(script: Any) -> None:
    """So that a hybrid goes on to whoever has it; nothing was asked."""
    async with scripted(TradierBrokerProvider, script) as broker:
        with pytest.raises(TradierApiError, match="2m"):
            await broker.get_bars("SPY", bar_length("2m"), TODAY, TODAY)
        assert broker.health()[0].failures == 0
    assert script.asked == []


async def test_a_range_upside_down_is_the_callers_mistake(script: Any) -> None:
    async with scripted(TradierBrokerProvider, script) as broker:
        with pytest.raises(InvalidRequest):
            await broker.get_bars("SPY", bar_length("5m"), TODAY, "2025-11-20")
        assert broker.health()[0].failures == 0


async def test_an_index_without_bars_of_a_length_has_none_of_it(floor: Any) -> None:
    lengths = [bar_length("1d"), bar_length("2m")]
    floor.simulator.inject(TradierRule(action=Fail(), path="/v1/markets/history"))

    async with made(TradierIndicesProvider, floor) as indices:
        (index,) = await indices.get_index_snapshots(["SPX"], timeframes=lengths)

    assert index.quote.bid is None, "indices have no bid"
    assert {name: one.bars for name, one in index.timeframes.items()} == {"1d": (), "2m": ()}


async def test_indicators_are_those_of_the_last_bars(floor: Any) -> None:
    """R207."""
    async with made(TradierIndicesProvider, floor, is_open=bool) as indices:
        found = await indices.get_indicators("SPX", bar_length("15m"), lookback=60)
        few = await indices.get_indicators("SPX", bar_length("15m"), lookback=5)

    assert found["ema_21"] == pytest.approx(6800, rel=0.1)
    assert few["ema_21"] is None


# ---- flow, and no token ----


async def test_there_is_no_flow_and_no_number_for_it(script: Any) -> None:
    """R212, R216, W-63."""
    async with scripted(TradierOptionsProvider, script) as options:
        flow = await options.get_flow("spx")
        with pytest.raises(InvalidSymbol):
            await options.get_flow("O:SPY251219C00650000")

    assert (flow.underlying, flow.available, flow.provider) == ("I:SPX", False, "tradier")
    assert flow.reason == "tradier has no flow data"
    assert (flow.trades, flow.volume, flow.pressure, flow.score) == (None,) * 4
    assert script.asked == []


async def test_without_a_token_it_is_disabled_and_says_so() -> None:
    """R22."""
    clock = SystemClock()
    async with TradierOptionsProvider(asker=None, clock=clock) as options:
        (health,) = options.health()
        with pytest.raises(TradierApiError, match="TRADIER_ACCESS_TOKEN"):
            await options.get_option_chain("SPY")
        assert options.health() == (health,)

    assert (health.enabled, health.healthy, health.status) == (False, False, "disabled")


async def test_outside_of_its_block_it_is_not_connected(script: Any) -> None:
    with pytest.raises(NotConnected):
        await scripted(TradierOptionsProvider, script).get_option_chain("SPY")


async def test_what_is_no_index_is_the_callers_mistake(script: Any) -> None:
    async with scripted(TradierIndicesProvider, script) as indices:
        with pytest.raises(InvalidSymbol):
            indices.subscribe_index("SPY", print)
        assert (indices.name, indices.statistics().followed) == ("tradier", 0)


# ---- what is kept, and subscriptions ----


async def test_a_page_is_kept_ten_seconds_and_expirations_five_minutes(floor: Any) -> None:
    def asked(name: str) -> int:
        return floor.simulator.state().tradier_paths.get(f"/v1/markets/options/{name}", 0)

    async with made(TradierOptionsProvider, floor) as options:
        before = asked("chains"), asked("expirations")
        await options.get_option_chain("QQQ", ChainQuery(max_expirations=1, around=1))
        await options.get_option_chain("QQQ", ChainQuery(max_expirations=1))
        await options.get_option_chain("QQQ", ChainQuery(max_expirations=2))
        assert (asked("chains") - before[0], asked("expirations") - before[1]) == (2, 1)
        assert options.forget("page:*") == 2
        assert options.forget("chain:*") == 2


async def test_subscriptions_ask_in_the_background_and_no_more_than_their_share(
    script: Any, floor: Any
) -> None:
    """R217: a chain of many expirations is asked for less often."""
    days = ["2025-11-25", "2025-11-26"]

    def chain(ask: Ask) -> dict[str, Any]:
        day = ask.params["expiration"][2:].replace("-", "")
        row = {"symbol": f"SPY{day}C00100000", "type": "option", "bid": 2.0, "ask": 2.1}
        return {"options": {"option": row}}

    script.answers |= {
        "/markets/options/expirations": {"expirations": {"date": days}},
        "/markets/options/chains": chain,
        "/markets/quotes": {"quotes": {"quote": {"symbol": "SPY", "type": "etf", "last": 100.0}}},
    }
    told: list[OptionChain] = []
    options = scripted(
        TradierOptionsProvider,
        script,
        clock=floor,
        policy=ProviderPolicy(
            chain_s=0.001, chain_closed_s=0.001, chain_poll_s=0.001, snapshot_s=0.0
        ),
        habits=TradierHabits(followed_per_minute=60 * 60),  # so that a turn of 3 takes 50 ms
    )
    async with options:
        started = floor.monotonic()
        handle = options.subscribe_chain("SPY", told.append)
        await until(lambda: script.count("/markets/options/chains") >= 8)
        took_s = floor.monotonic() - started
        handle.close()

    assert {priority for _, priority in script.asked} == {Priority.BACKGROUND}
    assert took_s > 0.14, "three turns were waited for"
    assert told


async def test_polls_tell_of_a_stock_and_an_index_without_a_stream(
    script: Any, floor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The sandbox has none. What is unknown for a moment costs a turn."""
    prices = iter(range(100, 10_000))

    def quotes(ask: Ask) -> dict[str, Any]:
        name, price = ask.params["symbols"], next(prices)
        if price == 101:
            return {"quotes": {"unmatched_symbols": {"symbol": name}}}
        kind = "index" if name == "SPX" else "etf"
        at_ms = 1_764_000_000_000 + price
        return {
            "quotes": {"quote": {"symbol": name, "type": kind, "last": price, "trade_date": at_ms}}
        }

    script.answers["/markets/quotes"] = quotes
    told: list[Quote] = []
    values: list[IndexSnapshot] = []
    policy = ProviderPolicy(equity_poll_s=0.01, index_poll_s=0.001, snapshot_s=0.001)
    broker = scripted(TradierBrokerProvider, script, clock=floor, policy=policy)
    indices = scripted(TradierIndicesProvider, script, clock=floor, policy=policy)
    with caplog.at_level(logging.ERROR):
        async with broker, indices:
            handle = broker.subscribe_equity("SPY", told.append)
            await until(lambda: len(told) >= 3)
            handle.close()
            handle = indices.subscribe_index("SPX", values.append)
            await until(lambda: len(values) >= 2)
            handle.close()

    assert [quote.last for quote in told[:3]] == [100, 102, 103]
    assert values[-1].symbol == "I:SPX"
    assert {priority for _, priority in script.asked} == {Priority.BACKGROUND}
    assert caplog.records == []


def test_habits_have_bounds() -> None:
    wrongs: list[dict[str, Any]] = [{"rate": 2}, {"deadline_s": 0}, {"followed_per_minute": 0}]
    for wrong in [*wrongs, {"nope": 1}]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, TradierHabits)
