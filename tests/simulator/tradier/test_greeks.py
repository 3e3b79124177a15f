"""Tradier's Greeks against the market's own, and against the reference's section 5."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from onetape import calendar
from onetape.simulator.market import Hours
from onetape.simulator.tradier.greeks import greeks_of, implied, refreshed_ns
from onetape.simulator.tradier.policy import TradierPolicy

DECEMBER = "2025-12-19"
AT = Callable[..., Any]


def updated(tradier: Any, symbol: str) -> str:
    return tradier.quote(symbol, greeks="true")["greeks"]["updated_at"]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("2025-11-24 08:00", "2025-11-21 21:00:07"),
        ("2025-11-24 09:30:06", "2025-11-21 21:00:07"),
        ("2025-11-24 09:30:07", "2025-11-24 14:30:07"),
        ("2025-11-24 10:00:06", "2025-11-24 14:30:07"),
        ("2025-11-24 11:59", "2025-11-24 16:00:07"),
        ("2025-11-24 15:59", "2025-11-24 20:00:07"),
        ("2025-11-24 18:00", "2025-11-24 21:00:07"),
        ("2025-11-23 12:00", "2025-11-21 21:00:07"),
        ("2025-07-01 16:30", "2025-07-01 20:00:07"),
        ("2025-11-28 15:00", "2025-11-28 18:00:07"),
    ],
)
def test_greeks_are_refreshed_hourly_and_say_so_in_utc(at: AT, now: str, told: str) -> None:
    assert updated(at(now), "SPY251219C00650000") == told


def test_contracts_that_expire_today_keep_those_of_the_close_before(at: AT) -> None:
    symbol = "SPXW251124C06750000"

    assert updated(at("2025-11-24 15:30"), symbol) == "2025-11-21 21:00:07"
    assert updated(at("2025-11-24 15:30", zero_dte_frozen=False), symbol) == "2025-11-24 20:00:07"


def test_nothing_may_be_refreshed_before_ten(at: AT) -> None:
    symbol = "SPY251219C00650000"

    assert updated(at("2025-11-24 09:45", late_greeks=True), symbol) == "2025-11-21 21:00:07"
    assert updated(at("2025-11-24 10:30", late_greeks=True), symbol) == "2025-11-24 15:00:07"


def test_a_market_that_never_closes_refreshes_every_hour(at: AT) -> None:
    tradier = at("2025-11-23 20:20", hours=Hours.ALWAYS)

    assert updated(tradier, "SPY251219C00650000") == "2025-11-24 01:00:07"


def test_before_the_first_day_there_is_nothing_to_tell(at: AT) -> None:
    market = at().market
    before_ns = calendar.instant_ns(datetime(2023, 12, 1, tzinfo=UTC).date(), calendar.OPEN)

    assert refreshed_ns(market, before_ns, TradierPolicy(), frozen=False) is None
    contracts = market.contracts("SPY")[:2]
    assert greeks_of(market, contracts, before_ns, TradierPolicy()) == [None, None]
    assert greeks_of(market, [], market.now_ns(), TradierPolicy()) == []


def pairs(rows: list[Any]) -> list[tuple[Any, Any]]:
    calls = {
        r["strike"]: r for r in rows if r["option_type"] == "call" and r["root_symbol"] == "SPX"
    }
    puts = {r["strike"]: r for r in rows if r["option_type"] == "put" and r["root_symbol"] == "SPX"}
    return [(calls[strike], puts[strike]) for strike in calls]


def test_a_put_carries_its_calls_greeks_but_for_delta(at: AT) -> None:
    rows = at().chain("SPX", DECEMBER, greeks="true")

    for call, put in pairs(rows):
        mine, other = put["greeks"], call["greeks"]
        for key in ("gamma", "theta", "vega", "rho", "phi", "smv_vol", "updated_at"):
            assert mine[key] == other[key]
        assert mine["delta"] == pytest.approx(other["delta"] - 1, abs=1e-9)
        assert mine["rho"] >= 0 >= mine["phi"]


def test_mid_is_the_mean_of_bid_and_ask_or_the_ask_alone(at: AT) -> None:
    blocks = [row["greeks"] for row in at().chain("SPX", DECEMBER, greeks="true")]
    shapes: set[str] = set()
    for block in blocks:
        bid, mid, ask = block["bid_iv"], block["mid_iv"], block["ask_iv"]
        if bid and ask:
            shapes.add("both")
            assert mid == pytest.approx((bid + ask) / 2, abs=2e-6)
            assert bid <= ask
        else:
            shapes.add("ask only" if ask else "none")
            assert (bid, mid) == (0.0, ask)
        assert block["smv_vol"] > 0

    assert shapes == {"both", "ask only", "none"}


def test_the_figures_are_the_markets_of_that_hour(at: AT) -> None:
    """Both vendors agree when Massive is asked for the instant of the refresh."""
    told = {
        r["symbol"]: r["greeks"]
        for r in at("2025-11-24 11:20").chain("SPY", DECEMBER, greeks="true")
    }
    market = at("2025-11-24 11:00").market
    contracts = [c for c in market.contracts("SPY") if c.expiration.isoformat() == DECEMBER]
    compared = 0
    for row in market.option_rows(contracts, market.now_ns()):
        block = told[row.contract.ticker.removeprefix("O:")]
        if row.greeks is None or row.implied_volatility is None or row.greeks.delta < 0.02:
            continue
        compared += 1
        assert block["delta"] == pytest.approx(row.greeks.delta, abs=6e-5)
        assert block["gamma"] == pytest.approx(row.greeks.gamma, abs=6e-6)
        assert block["theta"] == pytest.approx(row.greeks.theta, abs=6e-5)
        assert block["vega"] == pytest.approx(row.greeks.vega, abs=6e-5)
        assert block["smv_vol"] == pytest.approx(row.implied_volatility, abs=6e-4)
        if 0.1 < row.greeks.delta < 0.9:
            assert block["bid_iv"] <= row.implied_volatility + 2e-3
            assert block["ask_iv"] >= row.implied_volatility - 2e-3
    assert compared > 50


def test_prices_imply_the_volatility_they_were_made_of(at: AT) -> None:
    market = at().market
    contracts = [c for c in market.contracts("I:SPX") if c.expiration.isoformat() == DECEMBER]
    model = market.option_model(contracts, market.now_ns())
    assert model is not None
    marks = np.array([market.mark(one, market.now_ns()) for one in contracts])
    near = (model.time_value > 1.0).nonzero()[0]

    found = implied(model, marks)[near]

    assert len(near) > 50
    assert np.allclose(found, (model.deviation / np.sqrt(model.years))[near], atol=2e-4)


def test_a_contract_without_a_quote_at_the_refresh_has_no_greeks(at: AT) -> None:
    """Listed today and expiring today cannot be; listed after the refresh can."""
    market = at("2025-11-24 04:30").market
    newest = max(market.contracts("SPY"), key=lambda one: one.listed)
    (block,) = greeks_of(market, [newest], market.now_ns(), TradierPolicy())

    assert (block is None) == (newest.listed == market.market_date(market.now_ns()))


def test_the_whole_block_is_absent_unless_asked_for(at: AT) -> None:
    tradier = at()

    assert "greeks" not in tradier.quote("SPY251219C00650000")
    assert "greeks" not in tradier.quote("SPY", greeks="true")
