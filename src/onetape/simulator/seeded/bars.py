"""Bars of any width, aligned to New York's days, weeks and months.

Seconds, minutes and hours are counted from midnight and never cross it; days, weeks and
longer are made of whole market days. Whatever the width, the newest bar is the window so
far.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final, Protocol

from onetape import calendar
from onetape.errors import InvalidRequest
from onetape.simulator.seeded.aggregates import Prints, average, windows
from onetape.simulator.seeded.cash_desk import DayTotal, bar_of
from onetape.simulator.seeded.records import BarTick
from onetape.simulator.seeded.sessions import FIRST, SECOND_NS, MarketDay, Sessions, midnight_ns

_INTRADAY: Final = {"second": 1, "minute": 60, "hour": 3600}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
TIMESPANS: Final = (*_INTRADAY, "day", "week", *_MONTHS)
_SUNDAY: Final = date(2023, 12, 31)


class Desk(Protocol):
    """What bars are made from."""

    def intraday(self, symbol: str, day: MarketDay) -> Prints:
        """The prints of a day that make bars shorter than a day."""
        ...

    def total(self, symbol: str, day: MarketDay, end_ns: int) -> DayTotal:
        """What a day was, up to an instant."""
        ...


class BarRange:
    """Bars of one symbol and width; windows that start within `[start_ns, end_ns)`."""

    def __init__(
        self, desk: Desk, sessions: Sessions, symbol: str, *, width: tuple[int, str], now_ns: int
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._symbol = symbol
        self._multiplier, self._timespan = width
        if self._timespan not in TIMESPANS or self._multiplier < 1:
            raise InvalidRequest(f"no bars of {self._multiplier} {self._timespan}")
        self._seen_ns = now_ns + 1

    def bars(self, start_ns: int, end_ns: int, *, newest_first: bool) -> Iterator[BarTick]:
        """Make the bars one by one."""
        end_ns = min(end_ns, self._seen_ns)
        if start_ns >= end_ns:
            return iter(())
        if self._timespan in _INTRADAY:
            return self._short(start_ns, end_ns, newest_first=newest_first)
        return self._long(start_ns, end_ns, newest_first=newest_first)

    def start_of(self, t_ns: int) -> int:
        """When the window that holds an instant starts."""
        if self._timespan in _INTRADAY:
            return t_ns
        return midnight_ns(self._bucket(calendar.new_york_date(t_ns)))

    def _short(self, start_ns: int, end_ns: int, *, newest_first: bool) -> Iterator[BarTick]:
        width = self._multiplier * _INTRADAY[self._timespan] * SECOND_NS
        for day in self._sessions.between(start_ns, end_ns, reverse=newest_first):
            # Whole windows only: the first that starts in the range to the last that does.
            low = day.midnight_ns + -(-(start_ns - day.midnight_ns) // width) * width
            high = day.midnight_ns + -(-(end_ns - day.midnight_ns) // width) * width
            prints = self._desk.intraday(self._symbol, day)
            prints = prints.between(low, min(high, self._seen_ns))
            found = windows(prints, day.midnight_ns, width)
            for figures in reversed(found) if newest_first else found:
                yield bar_of(self._symbol, figures, figures.start_ns + width)

    def _long(self, start_ns: int, end_ns: int, *, newest_first: bool) -> Iterator[BarTick]:
        first = self._bucket(max(calendar.new_york_date(start_ns), FIRST))
        if midnight_ns(first) < start_ns:
            first = self._next(first)
        starts: list[date] = []
        while midnight_ns(first) < end_ns:
            starts.append(first)
            first = self._next(first)
        for bucket in reversed(starts) if newest_first else starts:
            bar = self._joined(bucket)
            if bar is not None:
                yield bar

    def _joined(self, bucket: date) -> BarTick | None:
        start_ns, end_ns = midnight_ns(bucket), midnight_ns(self._next(bucket))
        days = self._sessions.between(start_ns, min(end_ns, self._seen_ns))
        totals = [self._desk.total(self._symbol, day, self._seen_ns) for day in days]
        traded = [total.figures for total in totals if total.figures is not None]
        if not traded:
            return None
        volumes = [total.volume for total in totals if total.volume is not None]
        volume = sum(volumes)
        units = sum(total.units for total in totals)
        return BarTick(
            symbol=self._symbol,
            start_ns=start_ns,
            end_ns=end_ns,
            open=traded[0].open,
            high=max(figures.high for figures in traded),
            low=min(figures.low for figures in traded),
            close=traded[-1].close,
            volume=volume if volumes else None,
            vwap=average(units, volume) if volume else None,
            transactions=sum(total.transactions for total in totals) if volumes else None,
        )

    def _bucket(self, day: date) -> date:
        """The first date of the window that holds a date."""
        if self._timespan in _MONTHS:
            width = self._multiplier * _MONTHS[self._timespan]
            months = (day.year * 12 + day.month - 1) // width * width
            return date(months // 12, months % 12 + 1, 1)
        width = self._days()
        return day - timedelta(days=(day - _SUNDAY).days % width)

    def _next(self, bucket: date) -> date:
        if self._timespan in _MONTHS:
            months = bucket.year * 12 + bucket.month - 1
            months += self._multiplier * _MONTHS[self._timespan]
            return date(months // 12, months % 12 + 1, 1)
        return bucket + timedelta(days=self._days())

    def _days(self) -> int:
        return self._multiplier * (7 if self._timespan == "week" else 1)
