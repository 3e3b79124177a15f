from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st

from onetape.simulator.seeded.noise import Floats
from onetape.simulator.seeded.pricing import Terms, black, greeks, normal_cdf

forwards = st.floats(10, 10_000)
moneyness = st.floats(-0.5, 0.5)
deviations = st.floats(0.01, 1.0)


def terms(forward: float, strike: float, deviation: float, sign: float = 1.0) -> Terms:
    return Terms(*(np.array([x]) for x in (forward, strike, deviation, 0.97, sign)))


@given(st.floats(-12, 12))
def test_the_normal_distribution_is_exact_to_twelve_digits(x: float) -> None:
    assert abs(normal_cdf(np.array([x]))[0] - 0.5 * erfc(-x / sqrt(2))) < 1e-12


@given(forwards, moneyness, deviations)
def test_calls_and_puts_keep_parity(forward: float, k: float, deviation: float) -> None:
    strike = forward * np.exp(k)
    call = black(terms(forward, strike, deviation))[0]
    put = black(terms(forward, strike, deviation, -1.0))[0]

    assert call - put == pytest.approx(0.97 * (forward - strike), abs=1e-9 * forward)


@given(forwards, moneyness, deviations, st.sampled_from([1.0, -1.0]))
def test_a_value_lies_between_its_bounds(
    forward: float, k: float, deviation: float, sign: float
) -> None:
    strike = forward * np.exp(k)
    value = black(terms(forward, strike, deviation, sign))[0]

    least = max(0.97 * sign * (forward - strike), 0.0)
    most = 0.97 * (forward if sign > 0 else strike)
    assert least - 1e-9 * forward <= value <= most + 1e-9 * forward


def spot_value(spot: float, years: float, volatility: float, sign: float) -> float:
    carry, discount = np.exp(0.03 * years), np.exp(-0.04 * years)
    columns = (spot * carry, 100.0, volatility * np.sqrt(years), discount, sign)
    return float(black(Terms(*(np.array([x]) for x in columns)))[0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("spot", [85.0, 100.0, 120.0])
def test_greeks_are_the_slopes_of_the_value(spot: float, sign: float) -> None:
    years, volatility = 0.4, 0.3
    one: Floats = np.array([1.0])
    carry = np.exp(0.03 * years)
    columns = (spot * carry, 100.0, volatility * np.sqrt(years), np.exp(-0.04 * years), sign)
    found = greeks(
        Terms(*(np.array([x]) for x in columns)),
        years=years * one,
        carry=carry * one,
        growth=0.03 * one,
        rate=0.04,
    )

    def value(ds: float = 0.0, dt: float = 0.0, dv: float = 0.0) -> float:
        return spot_value(spot + ds, years + dt, volatility + dv, sign)

    step = 0.01
    delta = (value(step) - value(-step)) / (2 * step)
    gamma = (value(step) - 2 * value() + value(-step)) / step**2
    theta = (value(dt=-1e-5) - value(dt=1e-5)) / 2e-5 / 365
    vega = (value(dv=1e-5) - value(dv=-1e-5)) / 2e-5 / 100
    assert found.delta[0] == pytest.approx(delta, abs=1e-6)
    assert found.gamma[0] == pytest.approx(gamma, abs=1e-5)
    assert found.theta[0] == pytest.approx(theta, abs=1e-6)
    assert found.vega[0] == pytest.approx(vega, abs=1e-6)
