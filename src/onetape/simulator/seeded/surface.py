"""Implied volatility of every strike and maturity, from the underlying and VIX.

Equities follow SSVI (Gatheral and Jacquier): total variance is

    w(k) = theta/2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2)),   phi = eta / sqrt(theta (1 + theta))

with k = ln(strike / forward) and theta(T) the at-the-money variance of a volatility that
reverts from today's level to its long-run one. eta (1 + |rho|) <= 2 keeps it free of
butterfly arbitrage, theta rising in T of calendar arbitrage. Options on VIX sit on its
mean-reverting forward, with a volatility that falls with maturity and a call skew.
"""

from math import exp
from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded.instruments import Behaviour
from onetape.simulator.seeded.noise import Floats

RATE: Final = 0.042
YEAR_NS: Final = 365 * 86_400 * 1_000_000_000
_REVERSION: Final = 4.0
_MONTH: Final = 30 / 365
_USUAL_VIX: Final = 17.0
_FORWARD_REVERSION: Final = 2.0
_FORWARD_LEVEL: Final = 19.0
_FADE: Final = 3.0


class Market(NamedTuple):
    """Where the market is, one entry per option asked about."""

    spot: Floats
    vix: Floats
    years: Floats


class Smile(NamedTuple):
    """What pricing needs of the surface, one entry per option."""

    forward: Floats
    discount: Floats
    deviation: Floats
    carry: Floats
    growth: Floats


class Surface:
    """The surface of one underlying."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._is_volatility = behaviour.is_volatility
        self._long = behaviour.volatility
        self._dividend = behaviour.dividend
        is_index = behaviour.own < 0.001 and not behaviour.is_volatility
        self._rho, self._eta = (-0.7, 1.1) if is_index else (-0.35, 1.0)
        if behaviour.is_volatility:
            self._rho, self._eta = 0.6, 0.9
        # At the money, one month: an index follows VIX closely, a stock loosely.
        self._fixed = 0.0 if is_index else 0.65 * self._long
        per_point = 0.87 / 17.5 if is_index else 0.35 / _USUAL_VIX
        self._per_point = per_point * self._long

    def smile(self, market: Market, strike: Floats) -> Smile:
        """Forward, discount and deviation of these strikes."""
        forward, carry, growth = self._forward(market)
        theta = self._theta(market)
        k = np.log(strike / forward)
        phi = self._eta / np.sqrt(theta * (1.0 + theta))
        rho = self._rho
        wing = phi * k + rho
        total = 0.5 * theta * (1.0 + rho * phi * k + np.sqrt(wing * wing + (1.0 - rho * rho)))
        discount = np.exp(-RATE * market.years)
        return Smile(forward, discount, np.sqrt(total), carry, growth)

    def _forward(self, market: Market) -> tuple[Floats, Floats, Floats]:
        if self._is_volatility:
            carry = np.exp(-_FORWARD_REVERSION * market.years)
            forward = _FORWARD_LEVEL + (market.spot - _FORWARD_LEVEL) * carry
            growth = _FORWARD_REVERSION * (_FORWARD_LEVEL - market.spot) * carry / forward
            return forward, carry, growth
        drift = RATE - self._dividend
        carry = np.exp(drift * market.years)
        return market.spot * carry, carry, np.full(len(carry), drift)

    def _theta(self, market: Market) -> Floats:
        if self._is_volatility:
            fade = 2 * _FADE
            return -(self._long**2) * np.expm1(-fade * market.years) / fade
        month = self._fixed + self._per_point * market.vix
        long = self._long**2
        # What today's variance must be for the month's average to be this.
        stretch = _REVERSION * _MONTH / (1 - exp(-_REVERSION * _MONTH))
        short = np.maximum((month * month - long) * stretch + long, 0.25 * month * month)
        kept = -np.expm1(-_REVERSION * market.years) / _REVERSION
        return long * market.years + (short - long) * kept
