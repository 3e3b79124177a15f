"""Black-76 on the forward, and the Greeks, over arrays.

One path of code prices everything, live or past, one contract or a chain, so that no two
answers differ. The normal distribution is read from a table of cubics built on
`math.erfc`: absolute error below 1e-13.
"""

from math import erfc, exp, pi, sqrt
from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded.noise import Floats

_REACH: Final = 9.0
_PER_UNIT: Final = 512
_CELLS: Final = int(2 * _REACH) * _PER_UNIT
_ROOT_2PI: Final = sqrt(2 * pi)


def _cubics() -> Floats:
    # Hermite cubics through the exact values and slopes at the nodes: error h^4/384.
    nodes = [-_REACH + cell / _PER_UNIT for cell in range(_CELLS + 1)]
    value = np.array([0.5 * erfc(-x / sqrt(2)) for x in nodes])
    slope = np.array([exp(-x * x / 2) / _ROOT_2PI for x in nodes]) / _PER_UNIT
    rise = np.diff(value)
    left, right = slope[:-1], slope[1:]
    columns = (value[:-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise)
    return np.ascontiguousarray(np.stack(columns, axis=1))


_TABLE: Final = _cubics()


def normal_cdf(x: Floats) -> Floats:
    """Probability that a standard normal falls below x."""
    place = np.clip((x + _REACH) * _PER_UNIT, 0.0, _CELLS - 1e-9)
    cell = place.astype(np.int64)
    rest = place - cell
    cubic = _TABLE[cell]
    return cubic[:, 0] + rest * (cubic[:, 1] + rest * (cubic[:, 2] + rest * cubic[:, 3]))


def normal_pdf(x: Floats) -> Floats:
    """Density of a standard normal at x."""
    return np.exp(-0.5 * x * x) / _ROOT_2PI


class Terms(NamedTuple):
    """What an option's value depends on, one entry per option."""

    forward: Floats
    strike: Floats
    deviation: Floats
    """Implied volatility times the root of the years left."""
    discount: Floats
    sign: Floats
    """+1 for a call, -1 for a put."""


def black(terms: Terms) -> Floats:
    """Value of European options."""
    forward, strike, deviation, discount, sign = terms
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    d2 = d1 - deviation
    return discount * sign * (forward * normal_cdf(sign * d1) - strike * normal_cdf(sign * d2))


class Sensitivities(NamedTuple):
    """Greeks in the vendor's units, one entry per option."""

    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats


def greeks(
    terms: Terms, *, years: Floats, carry: Floats, growth: Floats, rate: float
) -> Sensitivities:
    """Greeks of European options.

    Args:
        terms: the options.
        years: time left.
        carry: how much the forward moves per $1 of the underlying.
        growth: relative growth of the forward per year of maturity.
        rate: of interest.
    """
    forward, strike, deviation, discount, sign = terms
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    inside = normal_cdf(sign * d1)
    value = discount * sign * (forward * inside - strike * normal_cdf(sign * (d1 - deviation)))
    density = discount * forward * normal_pdf(d1)
    decay = -density * deviation / (2 * years)
    decay += rate * value - growth * discount * forward * sign * inside
    return Sensitivities(
        delta=discount * carry * sign * inside,
        gamma=density * carry * carry / (forward * forward * deviation),
        theta=decay / 365,
        vega=density * np.sqrt(years) / 100,
    )
