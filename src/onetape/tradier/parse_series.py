"""Tradier's bars, clock and calendar as our model: pure functions from bytes.

What reads differently than it looks:

    `timesales.price` is the middle of the bar's range: not read at all
    `timesales.time` is New York's clock: not read at all, `timestamp` is
    `clock.next_change` is New York's clock without a date
"""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

import msgspec

from onetape.calendar import CLOSE, NEW_YORK, Holiday, HolidayStatus, instant_ns, new_york_date
from onetape.errors import UNREADABLE, UpstreamGarbled
from onetape.model import Bar, MarketStatus
from onetape.provenance import Source
from onetape.rows import SymbolFault
from onetape.tradier.shapes import PROVIDER, Number, Origin, RowReader, malformed, opened, root_of
from onetape.tradier.wire_rest import Intraday, Period, date_of, epoch_ns, number


class BarsPage(NamedTuple):
    """Bars in order of time."""

    bars: list[Bar]
    faults: list[SymbolFault]


class CalendarPage(NamedTuple):
    """One month: the days with a session, and the weekdays that differ."""

    sessions: tuple[date, ...]
    holidays: tuple[Holiday, ...]
    faults: list[SymbolFault]


# bars


class _BarRow(msgspec.Struct):
    date: str = ""
    timestamp: Number = None
    open: Number = None
    high: Number = None
    low: Number = None
    close: Number = None
    volume: Number = None
    vwap: Number = None


_day_rows = RowReader(_BarRow, "date")
_time_rows = RowReader(_BarRow, "time")


class _Window(NamedTuple):
    start_ns: int
    end_ns: int


def parse_history(
    body: bytes, origin: Origin, *, symbol: str, period: Period = Period.DAILY
) -> BarsPage:
    """Read `/markets/history`: bars from midnight to midnight in New York.

    Adjusted for splits and not for dividends; the last may be of a day that is not over.

    Raises:
        UpstreamGarbled: there is no history in it.
    """
    inside = opened(root_of(body, "history"), "history")
    faults: list[SymbolFault] = []
    rows = _day_rows.read(inside.get("day"), faults)

    def window(row: _BarRow) -> _Window | None:
        day = date_of(row.date)
        if day is None:
            return None
        return _Window(instant_ns(day, time()), instant_ns(_end_of(day, period), time()))

    return _bars(rows, window, _Series(symbol, origin), faults)


def parse_timesales(body: bytes, origin: Origin, *, symbol: str, interval: Intraday) -> BarsPage:
    """Read `/markets/timesales` of one interval. Minutes without trades have no bar.

    Raises:
        UpstreamGarbled: there is no series in it.
    """
    inside = opened(root_of(body, "series"), "series")
    faults: list[SymbolFault] = []
    rows = _time_rows.read(inside.get("data"), faults)

    def window(row: _BarRow) -> _Window | None:
        start_ns = epoch_ns(row.timestamp)
        if start_ns is None:
            return None
        return _Window(start_ns, start_ns + interval.seconds * 1_000_000_000)

    return _bars(rows, window, _Series(symbol, origin), faults)


class _Series(NamedTuple):
    symbol: str
    origin: Origin


def _bars(
    rows: list[_BarRow],
    window: Callable[[_BarRow], _Window | None],
    series: _Series,
    faults: list[SymbolFault],
) -> BarsPage:
    bars: dict[int, Bar] = {}
    for row in rows:
        at = window(row)
        bar = None if at is None else _bar(row, at, series)
        if bar is None:
            faults.append(malformed(series.symbol))
        else:
            bars[bar.event_ns] = bar
    return BarsPage([bars[at] for at in sorted(bars)], faults)


def _bar(row: _BarRow, window: _Window, series: _Series) -> Bar | None:
    opened, high = number(row.open), number(row.high)
    low, close = number(row.low), number(row.close)
    if opened is None or high is None or low is None or close is None:
        return None
    is_index = series.symbol.startswith("I:")
    return Bar(
        symbol=series.symbol,
        event_ns=window.start_ns,
        end_ns=window.end_ns,
        received_ns=series.origin.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=series.origin.simulated,
        delayed=series.origin.delayed,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=None if is_index else number(row.volume),
        vwap=None if is_index else number(row.vwap) or None,
    )


def _end_of(day: date, period: Period) -> date:
    """Return the first day after a bar. What day Tradier labels a week with is not documented."""
    if period is Period.WEEKLY:
        return day + timedelta(days=7)
    if period is Period.MONTHLY:
        return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return day + timedelta(days=1)


# the market's hours


class _Clock(msgspec.Struct):
    state: str
    timestamp: Number
    next_change: str | None = None
    next_state: str | None = None


_clock = msgspec.json.Decoder(_Clock)
_SESSIONS: Final = {"open": "open", "premarket": "pre", "postmarket": "after", "closed": "closed"}


def parse_clock(body: bytes, origin: Origin) -> MarketStatus:
    """Read `/markets/clock`. Its next change has no date: used only when it must be today.

    Raises:
        UpstreamGarbled: there is no clock in it.
    """
    try:
        clock = _clock.decode(root_of(body, "clock"))
    except UNREADABLE as error:
        raise UpstreamGarbled("Tradier's clock cannot be read") from error
    event_ns, session = epoch_ns(clock.timestamp), _SESSIONS.get(clock.state)
    if event_ns is None or session is None:
        raise UpstreamGarbled("Tradier's clock cannot be read")
    changes_ns = None if session == "closed" else _today_at(event_ns, clock.next_change)
    return MarketStatus(
        session=session,
        event_ns=event_ns,
        received_ns=origin.received_ns,
        provider=PROVIDER,
        next_open_ns=changes_ns if clock.next_state == "open" else None,
        next_close_ns=changes_ns if session == "open" else None,
        simulated=origin.simulated,
    )


def _today_at(at_ns: int, text: str | None) -> int | None:
    at = _time(text)
    return None if at is None else instant_ns(new_york_date(at_ns), at)


def _time(text: str | None) -> time | None:
    try:
        return datetime.strptime(text or "", "%H:%M").replace(tzinfo=NEW_YORK).time()
    except ValueError:
        return None


class _Hours(msgspec.Struct):
    start: str | None = None
    end: str | None = None


class _DayRow(msgspec.Struct):
    date: str
    status: str | None = None
    description: str | None = None
    open: _Hours | None = None


_calendar_rows = RowReader(_DayRow, "date")


def parse_calendar(body: bytes) -> CalendarPage:
    """Read `/markets/calendar`. A holiday's name is Tradier's description of the day.

    Raises:
        UpstreamGarbled: there is no calendar in it.
    """
    inside = opened(root_of(body, "calendar"), "calendar")
    days = opened(inside["days"], "days") if "days" in inside else {}
    faults: list[SymbolFault] = []
    sessions: list[date] = []
    holidays: list[Holiday] = []
    for row in _calendar_rows.read(days.get("day"), faults):
        day = date_of(row.date)
        if day is None or row.status not in {"open", "closed"}:
            faults.append(malformed(row.date))
            continue
        if row.status == "open":
            sessions.append(day)
        holiday = _holiday(day, row)
        if holiday is not None:
            holidays.append(holiday)
    return CalendarPage(tuple(sorted(sessions)), tuple(sorted(holidays, key=_day_of)), faults)


def _day_of(holiday: Holiday) -> date:
    return holiday.date


def _holiday(day: date, row: _DayRow) -> Holiday | None:
    name = row.description or "Market holiday"
    if row.status == "closed":
        is_weekend = day.weekday() >= 5
        return None if is_weekend else Holiday(date=day, name=name, status=HolidayStatus.CLOSED)
    start, end = (_time(row.open.start), _time(row.open.end)) if row.open else (None, None)
    if start is None or end is None or end >= CLOSE:
        return None
    return Holiday(
        date=day,
        name=name,
        status=HolidayStatus.EARLY_CLOSE,
        open_ns=instant_ns(day, start),
        close_ns=instant_ns(day, end),
    )
