"""Market days: when the simulated market is open, in nanoseconds.

    exchange   start 04:00 ── PRE ── open 09:30 ── REGULAR ── close 16:00 ── AFTER ── end 20:00
               (close 13:00, end 17:00 on early-close days; no day on weekends and holidays)
    always     start = open 00:00 ────────── REGULAR ────────── close = end 24:00, every day

All New York time. The market reaches from 2024-01-02 to 2030-12-31.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import date, time, timedelta
from functools import cache
from typing import Final, NamedTuple

from onetape import calendar
from onetape.simulator.seeded.records import Hours, Session

FIRST: Final = date(2024, 1, 2)
LAST: Final = calendar.LAST_DAY
SECOND_NS: Final = 1_000_000_000
_MIDNIGHT: Final = time(0)
_ONE: Final = timedelta(days=1)


class MarketDay(NamedTuple):
    """One day of trading. `number` counts the market's days from the first."""

    date: date
    number: int
    midnight_ns: int
    start_ns: int
    open_ns: int
    close_ns: int
    end_ns: int

    @property
    def seconds(self) -> int:
        """How long the day is, pre and after hours included."""
        return (self.end_ns - self.start_ns) // SECOND_NS


def midnight_ns(day: date) -> int:
    """When a date begins in New York."""
    return calendar.instant_ns(day, _MIDNIGHT)


def _hours_of(day: date, hours: Hours) -> tuple[int, int, int, int]:
    if hours is Hours.ALWAYS:
        midnight, end = midnight_ns(day), midnight_ns(day + _ONE)
        return midnight, midnight, end, end
    early = calendar.is_half_day(day)
    edges = (
        calendar.PRE_OPEN,
        calendar.OPEN,
        calendar.HALF_DAY_CLOSE if early else calendar.CLOSE,
        calendar.HALF_DAY_AFTER_CLOSE if early else calendar.AFTER_CLOSE,
    )
    start, opened, closed, end = (calendar.instant_ns(day, edge) for edge in edges)
    return start, opened, closed, end


@cache
def _all_days(hours: Hours) -> tuple[MarketDay, ...]:
    dates = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    if hours is Hours.EXCHANGE:
        dates = [day for day in dates if calendar.is_session(day)]
    return tuple(
        MarketDay(day, index, midnight_ns(day), *_hours_of(day, hours))
        for index, day in enumerate(dates)
    )


class Sessions:
    """All the market's days, and which of them an instant falls in."""

    def __init__(self, hours: Hours) -> None:
        self.hours = hours
        self.days = _all_days(hours)
        self._starts = [day.start_ns for day in self.days]
        self._by_date = {day.date: day for day in self.days}

    def on(self, day: date) -> MarketDay | None:
        """The market day of a date."""
        return self._by_date.get(day)

    def begun(self, t_ns: int) -> MarketDay | None:
        """The newest market day that had started by then; over or not."""
        index = bisect_right(self._starts, t_ns) - 1
        return self.days[index] if index >= 0 else None

    def at(self, t_ns: int) -> MarketDay | None:
        """The market day that is on at that instant."""
        day = self.begun(t_ns)
        return day if day is not None and t_ns < day.end_ns else None

    def before(self, day: MarketDay) -> MarketDay | None:
        """The market day before."""
        return self.days[day.number - 1] if day.number else None

    def last_before(self, day: date) -> MarketDay | None:
        """The newest market day before a date."""
        return self.begun(midnight_ns(day) - 1)

    def between(self, start_ns: int, end_ns: int, *, reverse: bool = False) -> Iterator[MarketDay]:
        """Market days that overlap `[start_ns, end_ns)`, one by one."""
        low = max(bisect_right(self._starts, start_ns) - 1, 0)
        high = bisect_right(self._starts, end_ns - 1)
        indexes = range(high - 1, low - 1, -1) if reverse else range(low, high)
        for index in indexes:
            day = self.days[index]
            if day.end_ns > start_ns and day.start_ns < end_ns:
                yield day

    def session(self, t_ns: int, *, extended: bool) -> Session:
        """The part of the day; `extended` for assets that trade before and after hours."""
        day = self.at(t_ns)
        if day is None:
            return Session.CLOSED
        if day.open_ns <= t_ns < day.close_ns:
            return Session.REGULAR
        if not extended:
            return Session.CLOSED
        return Session.PRE if t_ns < day.open_ns else Session.AFTER
