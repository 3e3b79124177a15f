from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, strategies as st

from onetape import calendar
from onetape.calendar import (
    FIRST_DAY,
    LAST_DAY,
    NEW_YORK,
    HolidayStatus,
    Session,
    instant_ns,
    is_half_day,
    is_session,
    new_york_date,
    next_close,
    next_open,
    next_session,
    previous_session,
    session_of,
    sessions_between,
    trading_day,
    trading_days_to,
    upcoming_holidays,
)
from onetape.errors import InvalidRequest

SECOND = 1_000_000_000
WEDNESDAY = date(2025, 6, 11)
HALF_DAY = date(2025, 11, 28)
SATURDAY = date(2025, 6, 14)

days = st.dates(FIRST_DAY, LAST_DAY)
instants = st.integers(instant_ns(FIRST_DAY, time()), instant_ns(LAST_DAY, time(23, 59)))


def at(day: date, clock: str) -> int:
    return instant_ns(day, time.fromisoformat(clock))


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.filterwarnings("ignore")  # of pandas and numpy, which only this test imports
def test_the_table_agrees_with_exchange_calendars_on_every_day() -> None:
    """W-39: holidays and half days, 2024 to 2030."""
    library: Any = import_module("exchange_calendars")
    xnys = library.get_calendar("XNYS", start=str(FIRST_DAY), end=str(LAST_DAY))
    opens = {day.date(): moment.value for day, moment in xnys.opens.items()}
    closes = {day.date(): moment.value for day, moment in xnys.closes.items()}
    every = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    ours = {day.date: day for day in map(trading_day, every) if day is not None}

    assert {day: session.open_ns for day, session in ours.items()} == opens
    assert {day: session.close_ns for day, session in ours.items()} == closes


@pytest.mark.parametrize(
    ("day", "clock", "session"),
    [
        (WEDNESDAY, "03:59:59.999999", Session.CLOSED),
        (WEDNESDAY, "04:00", Session.PRE),
        (WEDNESDAY, "09:29:59", Session.PRE),
        (WEDNESDAY, "09:30", Session.REGULAR),
        (WEDNESDAY, "15:59:59", Session.REGULAR),
        (WEDNESDAY, "16:00", Session.AFTER),
        (WEDNESDAY, "19:59:59", Session.AFTER),
        (WEDNESDAY, "20:00", Session.CLOSED),
        (WEDNESDAY, "23:00", Session.CLOSED),
        (HALF_DAY, "12:59:59", Session.REGULAR),
        (HALF_DAY, "13:00", Session.AFTER),
        (HALF_DAY, "16:59:59", Session.AFTER),
        (HALF_DAY, "17:00", Session.CLOSED),
        (SATURDAY, "11:00", Session.CLOSED),
        (date(2025, 11, 27), "11:00", Session.CLOSED),  # Thanksgiving
        (date(2025, 1, 9), "11:00", Session.CLOSED),  # a day of mourning, no rule's holiday
    ],
)
def test_the_session_follows_the_clocks_of_new_york(
    day: date, clock: str, session: Session
) -> None:
    """W-39: 09:30, half days and holidays, not local hours."""
    assert session_of(at(day, clock)) is session


@pytest.mark.parametrize(
    ("day", "open_utc", "close_utc"),
    [
        ("2025-03-07", "14:30", "21:00"),  # the Friday before the clocks go forward
        ("2025-03-10", "13:30", "20:00"),
        ("2025-10-31", "13:30", "20:00"),  # the Friday before they go back
        ("2025-11-03", "14:30", "21:00"),
        ("2025-07-03", "13:30", "17:00"),
        ("2025-12-24", "14:30", "18:00"),
    ],
)
def test_opening_and_close_move_with_daylight_saving(
    day: str, open_utc: str, close_utc: str
) -> None:
    session = trading_day(date.fromisoformat(day))

    assert session is not None
    assert session.open_ns == utc(f"{day}T{open_utc}")
    assert session.close_ns == utc(f"{day}T{close_utc}")


@given(instants)
def test_the_session_is_what_a_wall_clock_in_new_york_says(at_ns: int) -> None:
    here = datetime.fromtimestamp(at_ns // SECOND, NEW_YORK)
    day, clock = here.date(), here.time()
    half = is_half_day(day)

    if not is_session(day) or clock < time(4) or clock >= time(17 if half else 20):
        expected = Session.CLOSED
    elif clock < time(9, 30):
        expected = Session.PRE
    else:
        expected = Session.REGULAR if clock < time(13 if half else 16) else Session.AFTER
    assert session_of(at_ns) is expected
    assert new_york_date(at_ns) == day


@given(st.integers(instant_ns(FIRST_DAY, time()), instant_ns(date(2030, 12, 30), time())))
def test_the_next_edge_is_later_and_changes_the_session(at_ns: int) -> None:
    opens, closes = next_open(at_ns), next_close(at_ns)

    assert opens > at_ns < closes
    assert (session_of(opens - 1), session_of(opens)) == (Session.PRE, Session.REGULAR)
    assert (session_of(closes - 1), session_of(closes)) == (Session.REGULAR, Session.AFTER)
    assert (closes < opens) == (session_of(at_ns) is Session.REGULAR)
    assert next_open(opens - 1) == opens < next_open(opens)
    assert next_close(closes - 1) == closes < next_close(closes)


def test_the_next_open_skips_a_long_weekend() -> None:
    friday = at(date(2025, 8, 29), "18:00")

    assert next_open(friday) == at(date(2025, 9, 2), "09:30")


@pytest.mark.parametrize(
    ("today", "expiration", "expected"),
    [
        (WEDNESDAY, WEDNESDAY, 0),
        (WEDNESDAY, date(2025, 6, 12), 1),
        (WEDNESDAY, date(2025, 6, 10), 0),
        (date(2025, 6, 13), date(2025, 6, 16), 1),  # over a weekend
        (date(2025, 6, 18), date(2025, 6, 20), 1),  # over Juneteenth
        (SATURDAY, date(2025, 6, 16), 1),
        (WEDNESDAY, SATURDAY, 2),
        (date(2025, 11, 26), HALF_DAY, 1),  # a half day is a session
    ],
)
def test_days_to_expiry_are_sessions(today: date, expiration: date, expected: int) -> None:
    assert trading_days_to(expiration, today=today) == expected


@given(days, days)
def test_days_to_expiry_agree_with_counting(one: date, other: date) -> None:
    today, expiration = sorted((one, other))

    counted = [day for day in sessions_between(today, expiration) if day != today]

    assert trading_days_to(expiration, today=today) == len(counted)
    assert all(is_session(day) for day in counted)
    assert trading_days_to(today, today=expiration) == 0


@given(st.dates(date(2024, 1, 10), date(2030, 12, 20)))
def test_the_sessions_around_a_day_are_the_nearest(day: date) -> None:
    before, after = previous_session(day), next_session(day)

    assert before < day < after
    assert is_session(before)
    assert is_session(after)
    assert set(sessions_between(before, after)) - {day} == {before, after}


def test_no_sessions_lie_between_days_in_the_wrong_order() -> None:
    assert list(sessions_between(WEDNESDAY, date(2025, 6, 10))) == []


def test_upcoming_holidays_name_the_day_and_the_hours_of_half_days() -> None:
    """The shape of /v1/marketstatus/upcoming."""
    found = upcoming_holidays(date(2025, 11, 27), days=30)

    assert [(str(one.date), one.name, one.status) for one in found] == [
        ("2025-11-27", "Thanksgiving", HolidayStatus.CLOSED),
        ("2025-11-28", "Thanksgiving", HolidayStatus.EARLY_CLOSE),
        ("2025-12-24", "Christmas", HolidayStatus.EARLY_CLOSE),
        ("2025-12-25", "Christmas", HolidayStatus.CLOSED),
    ]
    assert (found[0].open_ns, found[0].close_ns) == (None, None)
    assert found[1].open_ns == utc("2025-11-28T14:30")
    assert found[1].close_ns == utc("2025-11-28T18:00")


def test_a_year_ahead_is_the_usual_horizon() -> None:
    found = upcoming_holidays(date(2026, 1, 1))

    assert found[0].date == found[-1].date.replace(year=2026) == date(2026, 1, 1)
    assert len([one for one in found if one.status is HolidayStatus.CLOSED]) == 11


@pytest.mark.parametrize(
    ("day", "clock"),
    [(WEDNESDAY, "16:15"), (HALF_DAY, "13:15"), (date(2026, 12, 24), "13:15")],
)
def test_index_options_close_a_quarter_of_an_hour_after_the_stocks(day: date, clock: str) -> None:
    """Public calendars of Cboe miss the half days; ours follow XNYS."""
    session = trading_day(day)

    assert session is not None
    assert session.index_options_close_ns == at(day, clock)


def test_global_hours_end_before_the_session_that_they_precede() -> None:
    assert calendar.INDEX_OPTIONS_GLOBAL_OPEN > calendar.AFTER_CLOSE
    assert calendar.INDEX_OPTIONS_GLOBAL_CLOSE < calendar.OPEN
    assert calendar.INDEX_OPTIONS_CURB_CLOSE > calendar.INDEX_OPTIONS_CLOSE


@pytest.mark.parametrize("day", [date(2023, 12, 31), date(2031, 1, 1), date.min, date.max])
def test_a_day_outside_the_table_is_refused_and_not_guessed(day: date) -> None:
    questions: list[Callable[[date], object]] = [
        is_session,
        is_half_day,
        trading_day,
        next_session,
        previous_session,
        upcoming_holidays,
        lambda day: trading_days_to(day, today=WEDNESDAY),
        lambda day: trading_days_to(WEDNESDAY, today=day),
        lambda day: sessions_between(day, WEDNESDAY),
        lambda day: sessions_between(WEDNESDAY, day),
    ]

    for ask in questions:
        with pytest.raises(InvalidRequest, match="2024 to 2030"):
            ask(day)


@pytest.mark.parametrize(
    "at_ns", [0, at(FIRST_DAY, "00:00") - 1, at(date(2031, 1, 1), "00:00"), 10**30, -(10**30)]
)
def test_an_instant_outside_the_table_is_refused_and_not_guessed(at_ns: int) -> None:
    for ask in (session_of, next_open, next_close):
        with pytest.raises(InvalidRequest, match="2024 to 2030"):
            ask(at_ns)


def test_what_follows_the_last_session_of_the_table_is_refused() -> None:
    evening = at(LAST_DAY, "18:00")

    assert session_of(evening) is Session.AFTER
    with pytest.raises(InvalidRequest):
        next_open(evening)
    with pytest.raises(InvalidRequest):
        next_session(LAST_DAY)
    with pytest.raises(InvalidRequest):
        previous_session(FIRST_DAY)


def test_the_date_in_new_york_is_known_in_any_year() -> None:
    assert new_york_date(utc("2019-07-01T03:59")) == date(2019, 6, 30)
    with pytest.raises(InvalidRequest, match="nanoseconds"):
        new_york_date(10**30)


def test_microseconds_of_an_instant_are_kept() -> None:
    assert instant_ns(WEDNESDAY, time(9, 30, 0, 1)) - at(WEDNESDAY, "09:30") == 1_000


MONDAY_NOON = calendar.instant_ns(date(2025, 11, 24), time(12))
HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("at_ns", "options", "stocks"),
    [
        (MONDAY_NOON, True, True),
        (MONDAY_NOON - 3 * HOUR, False, True),  # 09:00
        (MONDAY_NOON + 4 * HOUR, True, True),  # 16:00
        (MONDAY_NOON + 4 * HOUR + 900 * SECOND, False, True),  # 16:15
        (MONDAY_NOON + 9 * HOUR, False, False),
        (MONDAY_NOON - 24 * HOUR, False, False),  # Sunday
        (0, True, True),  # long before the calendar begins
    ],
)
def test_what_trades_when(at_ns: int, *, options: bool, stocks: bool) -> None:
    assert (calendar.options_trade(at_ns), calendar.stocks_trade(at_ns)) == (options, stocks)
