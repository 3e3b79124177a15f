from math import sqrt

import numpy as np
import pytest

from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.noise import Floats
from onetape.simulator.seeded.pricing import Terms, black
from onetape.simulator.seeded.surface import Market, Smile, Surface

LISTINGS = listings()
SPOTS = {"I:SPX": 6800.0, "NVDA": 190.0, "I:VIX": 18.0}
by_underlying = pytest.mark.parametrize("ticker", list(SPOTS))
by_age = pytest.mark.parametrize("days", [0.1, 1, 7, 30, 180, 700])


def smile(ticker: str, days: float, strike: Floats, vix: float = 18.0) -> Smile:
    full = np.full(len(strike), 1.0)
    market = Market(SPOTS[ticker] * full, vix * full, days / 365 * full)
    return Surface(LISTINGS[ticker].behaviour).smile(market, strike)


def calls(ticker: str, days: float, strike: Floats) -> Floats:
    found = smile(ticker, days, strike)
    return black(
        Terms(found.forward, strike, found.deviation, found.discount, np.ones(len(strike)))
    )


def strikes(ticker: str, days: float) -> Floats:
    reach = 4 * LISTINGS[ticker].behaviour.volatility * sqrt(days / 365)
    return SPOTS[ticker] * np.exp(np.linspace(-min(reach, 1.2), min(reach, 1.2), 201))


@by_age
@by_underlying
def test_no_spread_or_butterfly_of_any_strikes_is_free_money(ticker: str, days: float) -> None:
    edges = strikes(ticker, days)
    strike = np.linspace(float(edges[0]), float(edges[-1]), 201)
    value = calls(ticker, days, strike)
    small = 1e-9 * SPOTS[ticker]

    assert (np.diff(value) <= small).all(), "a call at a higher strike costs more"
    assert (np.diff(value, 2) >= -small).all(), "a butterfly costs less than nothing"


@pytest.mark.parametrize("ticker", ["I:SPX", "NVDA"])
def test_total_variance_rises_with_maturity(ticker: str) -> None:
    deviations = [
        smile(ticker, days, np.array([SPOTS[ticker] * f])).deviation[0]
        for f in (0.95, 1.0, 1.05)
        for days in (0.1, 1, 7, 30, 180, 700)
    ]
    rows = np.array(deviations).reshape(3, -1)

    assert (np.diff(rows, axis=1) > 0).all()


def volatility(ticker: str, days: float, share: float, vix: float = 18.0) -> float:
    strike = np.array([SPOTS[ticker] * share])
    return float(smile(ticker, days, strike, vix).deviation[0] / np.sqrt(days / 365))


def test_index_puts_cost_more_volatility_than_calls_and_vix_calls_more_than_puts() -> None:
    assert volatility("I:SPX", 30, 0.95) > volatility("I:SPX", 30, 1.0) + 0.03
    assert volatility("I:SPX", 30, 1.0) > volatility("I:SPX", 30, 1.03)
    assert volatility("I:VIX", 30, 1.5) > volatility("I:VIX", 30, 1.0)


def test_the_surface_follows_vix() -> None:
    assert volatility("I:SPX", 30, 1.0, vix=18.0) == pytest.approx(0.157, abs=0.02)
    assert volatility("I:SPX", 30, 1.0, vix=30.0) > 1.4 * volatility("I:SPX", 30, 1.0, vix=15.0)
    assert volatility("NVDA", 30, 1.0, vix=30.0) > volatility("NVDA", 30, 1.0, vix=15.0)


def test_vix_forwards_revert() -> None:
    near, far = (float(smile("I:VIX", d, np.array([18.0])).forward[0]) for d in (7, 300))

    assert 18 < near < far < 19
