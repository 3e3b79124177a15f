from datetime import date, time, timedelta
from functools import cache

import numpy as np
import pytest

from onetape import calendar
from onetape.model import ContractType
from onetape.simulator.market import Contract, Hours, Market, SimClock
from onetape.testing import ManualClock

DAY = date(2026, 11, 19)
NOON = calendar.instant_ns(DAY, time(12))
HOUR = 3_600_000_000_000
by_hours = pytest.mark.parametrize("hours", list(Hours))


@cache
def market(hours: Hours = Hours.EXCHANGE) -> Market:
    return Market(clock=SimClock(clock=ManualClock(now_ns=NOON + 48 * HOUR)), hours=hours)


def page(underlying: str, hours: Hours = Hours.EXCHANGE, within: float = 0.02) -> list[Contract]:
    spot = (
        market(hours)
        .option_rows([market(hours).contracts(underlying, as_of=DAY)[-1]], NOON)[0]
        .underlying_price
    )
    return [
        contract
        for contract in market(hours).contracts(underlying, as_of=DAY)
        if abs(contract.strike / spot - 1) < within
        and contract.expiration <= DAY + timedelta(days=15)
    ]


@by_hours
@pytest.mark.parametrize("underlying", ["I:SPX", "AAPL"])
def test_a_row_tells_what_the_single_questions_tell(hours: Hours, underlying: str) -> None:
    made = market(hours)
    rows = made.option_rows(page(underlying, hours), NOON)

    assert rows
    for row in rows[::17]:
        ticker = row.contract.ticker
        assert row == made.option_row(row.contract, NOON)
        assert row.mark == made.mark(row.contract, NOON)
        assert row.open_interest == made.open_interest(row.contract, NOON)
        assert row.quote == made.last_quote(ticker, NOON)
        assert row.day == made.day_stats(ticker, NOON)
        trades = made.trades(ticker, NOON - 12 * HOUR, NOON + 1)
        assert row.day.volume == sum(trade.size for trade in trades)
        if trades:
            assert row.trade == trades[-1] == made.last_trade(ticker, NOON)
            assert row.day.vwap == pytest.approx(
                sum(t.price * t.size for t in trades) / sum(t.size for t in trades), abs=6e-5
            )
            assert (row.day.open, row.day.close) == (trades[0].price, trades[-1].price)


def test_rows_keep_the_order_asked_for_and_leave_out_the_dead() -> None:
    contracts = page("AAPL")[::5] + page("I:SPX")[::50]
    expired = market().contracts("AAPL", as_of=DAY, expired=True)[:3]

    rows = market().option_rows([*contracts[:2], *expired, *contracts[2:]], NOON)

    assert [row.contract for row in rows] == contracts
    assert market().option_rows([], NOON) == []
    assert market().option_row(expired[0], NOON) is None
    assert market().mark(expired[0], NOON) is None
    assert market().open_interest(expired[0], NOON) is None


def test_the_quote_surrounds_the_mark_of_its_moment() -> None:
    for row in market().option_rows(page("AAPL"), NOON):
        assert row.quote is not None
        mark = market().mark(row.contract, row.quote.event_ns)
        assert mark is not None
        assert row.quote.bid <= mark + 1e-4
        assert row.quote.ask >= mark - 1e-4
        assert 0 <= NOON - row.quote.event_ns < 121 * 10**9


def test_volatility_and_greeks_are_missing_together_and_only_without_time_value() -> None:
    rows = market().option_rows(market().contracts("SPY", as_of=DAY)[:700], NOON)
    missing = [row for row in rows if row.greeks is None]

    assert missing
    assert len(missing) < len(rows)
    for row in rows:
        assert (row.greeks is None) == (row.implied_volatility is None)
        if row.greeks is not None:
            assert row.implied_volatility is not None
            assert 0.02 < row.implied_volatility < 6


def test_break_even_is_the_strike_and_the_premium() -> None:
    for row in market().option_rows(page("SPY")[::20], NOON):
        sign = 1 if row.contract.contract_type is ContractType.CALL else -1

        assert row.break_even == pytest.approx(row.contract.strike + sign * row.mark, abs=1e-3)


def test_open_interest_moves_less_in_a_day_than_what_trades() -> None:
    made = market()
    contracts = [c for c in page("SPY") if c.expiration > DAY + timedelta(days=1)]
    today = np.array([made.open_interest(c, NOON) for c in contracts])
    tomorrow = np.array([made.open_interest(c, NOON + 24 * HOUR) for c in contracts])
    volume = np.array([made.session_stats(c.ticker, NOON + 8 * HOUR).volume for c in contracts])

    moved = np.abs(tomorrow - today)
    assert moved.sum() < 0.5 * volume.sum()
    busy = volume >= 50
    assert (moved[busy] <= volume[busy]).mean() > 0.95


def test_before_the_open_the_quotes_of_the_evening_before_stand() -> None:
    early = calendar.instant_ns(DAY, time(8))
    rows = market().option_rows(page("AAPL"), early)

    quotes = [row.quote for row in rows if row.quote is not None]
    assert quotes
    assert all(quote.event_ns < early - 12 * HOUR for quote in quotes)
    assert all(row.day.volume == 0 for row in rows)


def test_a_previous_close_is_the_last_price_of_the_days_before() -> None:
    made = market()
    bounds = made.session_bounds(date(2026, 11, 18))
    assert bounds is not None

    found = 0
    for contract in page("AAPL"):
        before = made.trades(contract.ticker, *bounds)
        if before:
            found += 1
            assert made.day_stats(contract.ticker, NOON).previous_close == before[-1].price
    assert found > 10


@pytest.mark.parametrize("underlying", ["I:SPX", "AAPL", "I:VIX"])
def test_a_model_has_the_calls_greeks_for_calls_and_puts_alike(underlying: str) -> None:
    contracts = page(underlying, within=0.1)
    model = market().option_model(contracts, NOON)
    assert model is not None
    rows = {row.contract.ticker: row for row in market().option_rows(contracts, NOON)}
    calls = {
        (c.root, c.expiration, c.strike): rows[c.ticker].greeks
        for c in contracts
        if c.contract_type is ContractType.CALL
    }

    for place, contract in enumerate(contracts):
        greeks = calls[contract.root, contract.expiration, contract.strike]
        assert model.quotes[place] == rows[contract.ticker].quote
        if greeks is not None:
            found = [float(column[place]) for column in (model.delta, model.gamma, model.theta)]
            assert found == pytest.approx([greeks.delta, greeks.gamma, greeks.theta], rel=1e-9)
    assert (model.rho >= 0).all()
    assert (model.phi <= 0).all()


def test_rho_and_phi_move_the_price_by_what_they_say() -> None:
    """Merton's: a call gains K T N(d2) per unit of the rate and loses S T N(d1) of the yield."""
    contracts = [c for c in page("AAPL") if c.contract_type is ContractType.CALL]
    model = market().option_model(contracts, NOON)
    assert model is not None
    # c = e^-qT S N(d1) - e^-rT K N(d2), so what the two say must add up to the value.
    value = -(model.phi + model.rho) * 100 / model.years
    marks = np.array([market().mark(one, NOON) for one in contracts])

    european = model.time_value > 0.01
    assert np.allclose(value[european], marks[european], atol=1e-3)


def test_there_is_no_model_before_the_first_day() -> None:
    early = calendar.instant_ns(date(2023, 12, 29), time(12))

    assert market().option_model(page("AAPL"), early) is None
