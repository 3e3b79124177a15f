"""When the US exchanges trade: sessions, holidays, half days, trading days to expiry.

All rules are in New York time and all instants in int nanoseconds UTC, so the two
changes of the clock in a year are handled here and nowhere else. A day's edges, each
belonging to what follows it:

    04:00        09:30              16:00          20:00
  ────┬────────────┬──────────────────┬──────────────┬────
      │    pre     │     regular      │    after     │  closed
      └────────────┴──────────────────┴──────────────┘
                         13:00 and 17:00 on a half day

The table covers whole years and is generated (scripts/make_calendar.py); a question
outside it is refused, because a guess would be an invented holiday.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from onetape._sessions import CLOSED, EARLY_CLOSE, FIRST_YEAR, LAST_YEAR
from onetape.errors import InvalidRequest

NEW_YORK: Final = ZoneInfo("America/New_York")

PRE_OPEN: Final = time(4, 0)
OPEN: Final = time(9, 30)
CLOSE: Final = time(16, 0)
AFTER_CLOSE: Final = time(20, 0)
HALF_DAY_CLOSE: Final = time(13, 0)
HALF_DAY_AFTER_CLOSE: Final = time(17, 0)

INDEX_OPTIONS_CLOSE: Final = time(16, 15)
"""Index options open with the stocks and close a quarter of an hour after them."""
INDEX_OPTIONS_HALF_DAY_CLOSE: Final = time(13, 15)
INDEX_OPTIONS_GLOBAL_OPEN: Final = time(20, 15)
"""Global trading hours of SPX and VIX options begin on the evening before the session."""
INDEX_OPTIONS_GLOBAL_CLOSE: Final = time(9, 25)
INDEX_OPTIONS_CURB_CLOSE: Final = time(17, 0)
"""The curb session lasts from the regular close until here; there is none on a half day."""

FIRST_DAY: Final = date(FIRST_YEAR, 1, 1)
LAST_DAY: Final = date(LAST_YEAR, 12, 31)

_EDGES_A_DAY: Final = 4
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Session(StrEnum):
    """What the stock exchanges are doing."""

    PRE = "pre"
    REGULAR = "regular"
    AFTER = "after"
    CLOSED = "closed"


class HolidayStatus(StrEnum):
    """How a day differs from others; the vendor's words."""

    CLOSED = "closed"
    EARLY_CLOSE = "early-close"


class Holiday(msgspec.Struct, frozen=True, kw_only=True):
    """A weekday on which the exchanges keep other hours; the instants of a half day only."""

    date: date
    name: str
    status: HolidayStatus
    open_ns: int | None = None
    close_ns: int | None = None


class TradingDay(NamedTuple):
    """The edges of one session."""

    date: date
    pre_open_ns: int
    open_ns: int
    close_ns: int
    after_close_ns: int
    is_half_day: bool

    @property
    def index_options_close_ns(self) -> int:
        """When index options close that day."""
        close = INDEX_OPTIONS_HALF_DAY_CLOSE if self.is_half_day else INDEX_OPTIONS_CLOSE
        return instant_ns(self.date, close)


_IN_ORDER: Final = (Session.CLOSED, Session.PRE, Session.REGULAR, Session.AFTER)


def session_of(at_ns: int) -> Session:
    """Tell what the exchanges are doing at an instant. Cheap enough for every tick.

    Raises:
        InvalidRequest: When the instant is outside the table.
    """
    return _IN_ORDER[_passed(at_ns) % _EDGES_A_DAY]


def next_open(at_ns: int) -> int:
    """Return the next regular opening after an instant.

    Raises:
        InvalidRequest: When it, or the instant, is outside the table.
    """
    return _next_edge(at_ns, 1)


def next_close(at_ns: int) -> int:
    """Return the next regular close after an instant.

    Raises:
        InvalidRequest: When it, or the instant, is outside the table.
    """
    return _next_edge(at_ns, 2)


def new_york_date(at_ns: int) -> date:
    """Return the date in New York at an instant, which is the exchange's. Any year will do.

    Raises:
        InvalidRequest: When no calendar has such a year.
    """
    try:
        at = _EPOCH + timedelta(seconds=at_ns // 1_000_000_000)
        return at.astimezone(NEW_YORK).date()
    except OverflowError as error:
        raise InvalidRequest("no date is that far away; are these nanoseconds?") from error


def instant_ns(day: date, at: time) -> int:
    """Return the instant at which New York's clocks show a time."""
    elapsed = datetime.combine(day, at, NEW_YORK) - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000_000 + elapsed.microseconds * 1000


def is_session(day: date) -> bool:
    """Tell whether the exchanges open on a day.

    Raises:
        InvalidRequest: When the day is outside the table.
    """
    _check(day)
    return day.weekday() < 5 and day.isoformat() not in CLOSED


def is_half_day(day: date) -> bool:
    """Tell whether the regular session of a day ends at 13:00.

    Raises:
        InvalidRequest: When the day is outside the table.
    """
    _check(day)
    return day.isoformat() in EARLY_CLOSE


def trading_day(day: date) -> TradingDay | None:
    """Return the edges of a day's session, or None when there is no session.

    Raises:
        InvalidRequest: When the day is outside the table.
    """
    if not is_session(day):
        return None
    half = is_half_day(day)
    return TradingDay(
        date=day,
        pre_open_ns=instant_ns(day, PRE_OPEN),
        open_ns=instant_ns(day, OPEN),
        close_ns=instant_ns(day, HALF_DAY_CLOSE if half else CLOSE),
        after_close_ns=instant_ns(day, HALF_DAY_AFTER_CLOSE if half else AFTER_CLOSE),
        is_half_day=half,
    )


def sessions_between(first: date, last: date) -> Sequence[date]:
    """Return the days with a session from `first` to `last`, both included.

    Raises:
        InvalidRequest: When either is outside the table.
    """
    _check(first)
    _check(last)
    days = _session_days()
    return days[bisect_left(days, first) : bisect_right(days, last)]


def next_session(day: date) -> date:
    """Return the first day after this one with a session.

    Raises:
        InvalidRequest: When there is none in the table.
    """
    _check(day)
    days = _session_days()
    after = bisect_right(days, day)
    if after == len(days):
        raise _outside()
    return days[after]


def previous_session(day: date) -> date:
    """Return the last day before this one with a session.

    Raises:
        InvalidRequest: When there is none in the table.
    """
    _check(day)
    days = _session_days()
    before = bisect_left(days, day)
    if before == 0:
        raise _outside()
    return days[before - 1]


def trading_days_to(expiration: date, *, today: date) -> int:
    """Count the sessions after today until the expiration, that day included; 0 when it is past.

    Raises:
        InvalidRequest: When either day is outside the table.
    """
    _check(today)
    _check(expiration)
    days = _session_days()
    return max(0, bisect_right(days, expiration) - bisect_right(days, today))


def upcoming_holidays(today: date, *, days: int = 365) -> tuple[Holiday, ...]:
    """Return the holidays and half days from today on, as far as the table goes.

    Raises:
        InvalidRequest: When today is outside the table.
    """
    _check(today)
    last = today + timedelta(days=days)
    return tuple(one for one in _holidays() if today <= one.date <= last)


def _passed(at_ns: int) -> int:
    start_ns, end_ns = _bounds()
    if not start_ns <= at_ns < end_ns:
        raise _outside()
    return bisect_right(_edges(), at_ns)


def _next_edge(at_ns: int, place: int) -> int:
    passed = _passed(at_ns)
    index = passed + (place - passed) % _EDGES_A_DAY
    if index >= len(_edges()):
        raise _outside()
    return _edges()[index]


def _check(day: date) -> None:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise _outside()


def _outside() -> InvalidRequest:
    return InvalidRequest(f"the exchange calendar covers {FIRST_YEAR} to {LAST_YEAR} only")


@cache
def _bounds() -> tuple[int, int]:
    return instant_ns(FIRST_DAY, time()), instant_ns(LAST_DAY + _DAY, time())


def options_trade(now_ns: int) -> bool:
    """Tell whether options trade: the regular session, and the quarter of an hour after it.

    Beyond the calendar, yes. Indices are computed at the same hours.
    """
    try:
        day = trading_day(new_york_date(now_ns))
    except InvalidRequest:
        return True
    return day is not None and day.open_ns <= now_ns < day.index_options_close_ns


def stocks_trade(now_ns: int) -> bool:
    """Tell whether stocks trade, before and after hours included; beyond the calendar, yes."""
    try:
        return session_of(now_ns) is not Session.CLOSED
    except InvalidRequest:
        return True


@cache
def _session_days() -> tuple[date, ...]:
    every = (FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1))
    return tuple(day for day in every if is_session(day))


@cache
def _edges() -> tuple[int, ...]:
    days = (trading_day(day) for day in _session_days())
    return tuple(edge for day in days if day is not None for edge in day[1:5])


@cache
def _holidays() -> tuple[Holiday, ...]:
    whole = [
        Holiday(date=date.fromisoformat(day), name=name, status=HolidayStatus.CLOSED)
        for day, name in CLOSED.items()
    ]
    half = [
        Holiday(
            date=day,
            name=name,
            status=HolidayStatus.EARLY_CLOSE,
            open_ns=instant_ns(day, OPEN),
            close_ns=instant_ns(day, HALF_DAY_CLOSE),
        )
        for day, name in ((date.fromisoformat(text), name) for text, name in EARLY_CLOSE.items())
    ]
    return tuple(sorted(whole + half, key=lambda one: one.date))
