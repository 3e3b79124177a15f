"""The fair level of a symbol at every instant of a day.

A day's path joins the levels that `levels` gives for its open and close with a bridge
made second by second, quieter at noon than at the ends. Between seconds it is straight.
Symbols share the bridges of the factors, so they move together within the day as they do
from day to day.
"""

from math import sqrt
from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded.instruments import FACTORS, Listing
from onetape.simulator.seeded.levels import Levels, Walk, squeeze
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Floats, Integers, generator
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay, Sessions

_INTRADAY: Final = sqrt(0.7)
_EXTENDED: Final = 0.05
"""Activity before and after hours, relative to the regular session."""
_EVEN_DEVIATION: Final = 2**16 / sqrt(12)
"""Standard deviation of an even choice among 16-bit integers."""
_OPEN_HOUR: Final = 9.5 * 3600
_CLOSE_HOUR: Final = 16 * 3600


class Path:
    """One symbol, one day."""

    def __init__(self, start_ns: int, levels: Floats) -> None:
        self.start_ns = start_ns
        self.levels = levels
        self._last = len(levels) - 2

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return self.levels.nbytes

    def at(self, t_ns: Integers) -> Floats:
        """The fair level at these instants of the day."""
        since = t_ns - self.start_ns
        second = np.clip(since // SECOND_NS, 0, self._last)
        before = self.levels[second]
        rest = (since - second * SECOND_NS) * (1.0 / SECOND_NS)
        return before + (self.levels[second + 1] - before) * rest

    def at_one(self, t_ns: int) -> float:
        """The fair level at one instant of the day."""
        return float(self.at(np.array([t_ns]))[0])


class Activity(NamedTuple):
    """How busy each second of a day is."""

    each: Floats
    """Relative activity of each second."""
    root: Floats
    """Its square root: the scale of each second's step."""
    total: Floats
    """Its running sum, from 0: one more entry than there are seconds."""
    open_second: int
    close_second: int

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return self.each.nbytes + self.root.nbytes + self.total.nbytes


def _activity(day: MarketDay, hours: Hours) -> Activity:
    second = np.arange(day.seconds, dtype=np.float64)
    if hours is Hours.ALWAYS:
        middle = (second - _OPEN_HOUR) / (_CLOSE_HOUR - _OPEN_HOUR)
        busy = (middle >= 0) & (middle < 1)
        each = 0.7 + np.where(busy, 0.3 + 2.4 * (middle - 0.5) ** 2, 0.0)
        bounds = (0, day.seconds)
    else:
        bounds = (
            (day.open_ns - day.start_ns) // SECOND_NS,
            (day.close_ns - day.start_ns) // SECOND_NS,
        )
        middle = (second - bounds[0]) / (bounds[1] - bounds[0])
        regular = (middle >= 0) & (middle < 1)
        each = np.where(regular, 0.6 + 5.0 * (middle - 0.5) ** 2, _EXTENDED)
    total = np.concatenate(([0.0], np.cumsum(each)))
    return Activity(each, np.sqrt(each), total, *bounds)


class Paths:
    """Every path of one seed, made when asked for."""

    def __init__(self, *, seed: int, sessions: Sessions, levels: Levels, memory: Memory) -> None:
        self._seed = seed
        self._sessions = sessions
        self._levels = levels
        self._memory = memory

    def of(self, listing: Listing, day: MarketDay) -> Path:
        """The symbol's path on that day."""
        return self._memory.get(
            ("path", listing.instrument.ticker, day.number),
            lambda: self._make(listing, day),
            lambda path: path.size_bytes,
            day=day.number,
        )

    def activity(self, day: MarketDay) -> Activity:
        """How busy the day is, second by second. Days of one shape share it."""
        shape = (day.seconds, day.open_ns - day.start_ns, day.close_ns - day.start_ns)
        return self._memory.get(
            ("activity", *shape),
            lambda: _activity(day, self._sessions.hours),
            lambda activity: activity.size_bytes,
        )

    def _make(self, listing: Listing, day: MarketDay) -> Path:
        behaviour = listing.behaviour
        total = self._own(listing, day)
        for name, loading in zip(FACTORS, behaviour.loadings, strict=True):
            if loading:
                factor = self._factor(name, day)
                total += factor if loading == 1 else loading * factor
        activity = self.activity(day)
        opened, closed = activity.open_second, activity.close_second
        trend = self._levels.trend(behaviour)
        here, before = float(trend[day.number]), float(trend[max(day.number - 1, 0)])
        total[:opened] += before
        total[opened:closed] += np.linspace(before, here, closed - opened, endpoint=False)
        total[closed:] += here
        return Path(day.start_ns, squeeze(total) if behaviour.is_volatility else np.exp(total))

    def _factor(self, name: str, day: MarketDay) -> Floats:
        return self._memory.get(
            ("factor", name, day.number),
            lambda: self._bridge(f"factor {name}", self._levels.factor(name), day),
            lambda bridge: bridge.nbytes,
            day=day.number,
        )

    def _own(self, listing: Listing, day: MarketDay) -> Floats:
        ticker = listing.instrument.ticker
        walk = self._levels.own(ticker, listing.behaviour)
        if walk.sigma == 0:
            return np.zeros(day.seconds + 1)
        return self._bridge(f"own {ticker}", walk, day)

    def _bridge(self, name: str, walk: Walk, day: MarketDay) -> Floats:
        activity = self.activity(day)
        opened, closed = activity.open_second, activity.close_second
        variance = activity.total[closed] - activity.total[opened]
        rng = generator(self._seed, "intraday", name, day.number)
        free = np.zeros(day.seconds + 1)
        steps = free[1:]
        # Even steps are made ten times faster than normal ones, and over a minute their
        # sum is as normal.
        even = np.frombuffer(rng.bytes(2 * day.seconds), dtype="<i2")
        np.multiply(even, activity.root, out=steps)
        np.cumsum(steps, out=steps)
        free *= walk.sigma * _INTRADAY / sqrt(variance) / _EVEN_DEVIATION
        self._pin(free, walk, day, activity)
        return free

    def _pin(self, free: Floats, walk: Walk, day: MarketDay, activity: Activity) -> None:
        opened, closed = activity.open_second, activity.close_second
        at_open, at_close = float(walk.open[day.number]), float(walk.close[day.number])
        before = float(walk.close[day.number - 1]) if day.number else 0.0
        # Before hours it comes from near the last close; after hours nothing holds it.
        first = before + 0.6 * (at_open - before) if opened else at_open
        shifts = (first - free[0], at_open - free[opened], at_close - free[closed])
        bounds = ((0, opened), (opened, closed))
        for (low, high), shift, until in zip(bounds, shifts, shifts[1:], strict=False):
            if high > low:
                _lean(free[low:high], activity.total[low : high + 1], shift, until)
        free[closed:] += shifts[2]


def _lean(piece: Floats, total: Floats, shift: float, until: float) -> None:
    slope = (until - shift) / (total[-1] - total[0])
    piece += total[:-1] * slope
    piece += shift - total[0] * slope
