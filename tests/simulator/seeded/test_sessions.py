from datetime import date, time
from itertools import pairwise

import pytest

from onetape import calendar
from onetape.simulator.seeded.records import Hours, Session
from onetape.simulator.seeded.sessions import Sessions, midnight_ns

EXCHANGE, ALWAYS = Sessions(Hours.EXCHANGE), Sessions(Hours.ALWAYS)
FRIDAY, SATURDAY, MONDAY = date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 23)


def at(day: date, hour: int, minute: int = 0) -> int:
    return calendar.instant_ns(day, time(hour, minute))


@pytest.mark.parametrize(
    ("hour", "minute", "stocks", "options"),
    [
        (3, 59, Session.CLOSED, Session.CLOSED),
        (4, 0, Session.PRE, Session.CLOSED),
        (9, 30, Session.REGULAR, Session.REGULAR),
        (15, 59, Session.REGULAR, Session.REGULAR),
        (16, 0, Session.AFTER, Session.CLOSED),
        (20, 0, Session.CLOSED, Session.CLOSED),
    ],
)
def test_an_exchange_day_has_its_parts(
    hour: int, minute: int, stocks: Session, options: Session
) -> None:
    assert EXCHANGE.session(at(FRIDAY, hour, minute), extended=True) is stocks
    assert EXCHANGE.session(at(FRIDAY, hour, minute), extended=False) is options


def test_the_exchange_rests_on_weekends_and_holidays_and_closes_early_after_thanksgiving() -> None:
    assert EXCHANGE.on(SATURDAY) is None
    assert EXCHANGE.on(date(2026, 11, 26)) is None
    early = EXCHANGE.on(date(2026, 11, 27))
    assert early is not None
    assert early.close_ns == at(early.date, 13)
    assert early.end_ns == at(early.date, 17)


def test_the_market_that_is_always_open_is_one_session_after_the_other() -> None:
    days = ALWAYS.days

    assert all(a.end_ns == b.start_ns for a, b in pairwise(days))
    assert all(day.start_ns == day.open_ns < day.close_ns == day.end_ns for day in days)
    assert ALWAYS.session(at(SATURDAY, 3), extended=False) is Session.REGULAR


def test_days_of_a_clock_change_are_an_hour_shorter_and_longer() -> None:
    spring, autumn = ALWAYS.on(date(2026, 3, 8)), ALWAYS.on(date(2026, 11, 1))

    assert spring is not None
    assert autumn is not None
    assert (spring.seconds, autumn.seconds) == (23 * 3600, 25 * 3600)


def test_a_weekend_belongs_to_the_friday_that_began_before_it() -> None:
    begun = EXCHANGE.begun(at(SATURDAY, 12))

    assert begun is not None
    assert begun.date == FRIDAY
    assert EXCHANGE.at(at(SATURDAY, 12)) is None
    assert EXCHANGE.last_before(MONDAY) == begun
    assert EXCHANGE.before(EXCHANGE.days[0]) is None
    assert EXCHANGE.begun(midnight_ns(date(2020, 1, 1))) is None


def test_days_of_a_range_come_in_either_order() -> None:
    start, end = at(FRIDAY, 12), at(MONDAY, 12)
    there = [day.date for day in EXCHANGE.between(start, end)]
    back = [day.date for day in EXCHANGE.between(start, end, reverse=True)]

    assert there == back[::-1] == [FRIDAY, MONDAY]
    assert list(EXCHANGE.between(at(FRIDAY, 20), at(MONDAY, 4))) == []
    assert len(list(ALWAYS.between(start, end))) == 4
