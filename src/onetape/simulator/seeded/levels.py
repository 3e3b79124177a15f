"""Where every symbol closes on every day, and where it opens the next.

Each factor, and each symbol's own part, is an Ornstein-Uhlenbeck walk of daily steps:
nearly independent returns that are pulled back over months, so levels wander around
their trend without leaving it. All days are made at once (milliseconds), so any date is
as near as any other.

VIX lives in a squeezed space: level = 11.5 + 23 / (1 + exp(-z)).
"""

from math import exp, log, sqrt
from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded.instruments import FACTORS, Behaviour
from onetape.simulator.seeded.noise import Floats, generator
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import FIRST, Sessions

_MEMORY_DAYS: Final = 130.0
"""Calendar days over which a walk forgets."""
_VIX_MEMORY_DAYS: Final = 36.0
_GAP: Final = 0.3
"""Share of a day's variance that happens overnight."""
_TREND_DAYS: Final = (0.0, 366.0, 731.0, 1096.0, 2557.0)
_VIX_LOW: Final = 11.5
_VIX_WIDTH: Final = 23.0
_VIX_CENTRE: Final = -1.15


class Walk(NamedTuple):
    """A factor's, or a symbol's own, log level: at each day's close, and at its open."""

    close: Floats
    open: Floats
    sigma: float
    """Standard deviation of one day, as long as this market's days are."""


def squeeze(z: Floats) -> Floats:
    """VIX from its unbounded form."""
    return _VIX_LOW + _VIX_WIDTH / (1.0 + np.exp(-z))


class Levels:
    """The daily walks of one seed."""

    def __init__(self, *, seed: int, sessions: Sessions) -> None:
        self._seed = seed
        self._continuous = sessions.hours is Hours.ALWAYS
        self._count = len(sessions.days)
        elapsed = [float((day.date - FIRST).days) for day in sessions.days]
        self._elapsed = np.array(elapsed)
        self._step_days = 1.0 if self._continuous else 365.0 / 252.0
        # Seven days a week share the variance of five.
        self._scale = sqrt(252.0 / 365.0) if self._continuous else 1.0
        self._walks: dict[str, Walk] = {}

    def factor(self, name: str) -> Walk:
        """The walk of one factor."""
        return self._walk(f"factor {name}", FACTORS[name] * self._scale)

    def own(self, ticker: str, behaviour: Behaviour) -> Walk:
        """The walk of what is the symbol's alone."""
        if behaviour.is_volatility:
            return self._volatility(ticker, behaviour)
        return self._walk(f"own {ticker}", behaviour.own * self._scale)

    def trend(self, behaviour: Behaviour) -> Floats:
        """Log of the anchored level at each day's close; for VIX the centre of its form."""
        if behaviour.is_volatility:
            return np.full(self._count, _VIX_CENTRE)
        return np.interp(self._elapsed, _TREND_DAYS, [log(level) for level in behaviour.trend])

    def closes(self, ticker: str, behaviour: Behaviour) -> Floats:
        """The fair level at each day's close."""
        level = self.trend(behaviour) + self.own(ticker, behaviour).close
        for name, loading in zip(FACTORS, behaviour.loadings, strict=True):
            if loading:
                level = level + loading * self.factor(name).close
        return squeeze(level) if behaviour.is_volatility else np.exp(level)

    def range_between(
        self, ticker: str, behaviour: Behaviour, first: int, stop: int
    ) -> tuple[float, float]:
        """Lowest and highest fair close of the days `[first, stop)`."""
        closes = self.closes(ticker, behaviour)[first:stop]
        return float(closes.min()), float(closes.max())

    def _walk(self, name: str, sigma: float) -> Walk:
        if name not in self._walks:
            rng = generator(self._seed, "daily", name)
            steps = sigma * rng.standard_normal(self._count)
            kept = exp(-self._step_days / _MEMORY_DAYS)
            close = _reverting(steps, kept)
            self._walks[name] = self._with_opens(close, sigma, rng)
        return self._walks[name]

    def _volatility(self, ticker: str, behaviour: Behaviour) -> Walk:
        # z = y; y falls when the market rises and forgets faster than the market does, so
        # what is its own is y less the part that the market loading already brings.
        name = f"own {ticker}"
        if name not in self._walks:
            market = self.factor("market")
            sigma = behaviour.own * self._scale
            rng = generator(self._seed, "daily", name)
            loading = behaviour.loadings[0]
            moves = np.diff(market.close, prepend=0.0)
            steps = sigma * rng.standard_normal(self._count) + loading * moves
            y = _reverting(steps, exp(-self._step_days / _VIX_MEMORY_DAYS))
            self._walks[name] = self._with_opens(y - loading * market.close, sigma, rng)
        return self._walks[name]

    def _with_opens(self, close: Floats, sigma: float, rng: np.random.Generator) -> Walk:
        before = np.concatenate(([0.0], close[:-1]))
        if self._continuous:
            return Walk(close, before, sigma)
        gaps = sigma * sqrt(_GAP * (1 - _GAP)) * rng.standard_normal(self._count)
        return Walk(close, before + _GAP * (close - before) + gaps, sigma)


def _reverting(steps: Floats, kept: float) -> Floats:
    level = 0.0
    levels: list[float] = []
    for step in steps.tolist():
        level = kept * level + step
        levels.append(level)
    return np.array(levels)
