"""Captured bars, clocks and calendars of Tradier as our model."""

import contextlib
from collections.abc import Callable
from datetime import date, time

import pytest
from hypothesis import given, strategies as st

from onetape.calendar import HolidayStatus, instant_ns
from onetape.errors import UpstreamGarbled
from onetape.tradier.parse_series import (
    parse_calendar,
    parse_clock,
    parse_history,
    parse_timesales,
)
from onetape.tradier.shapes import Origin
from onetape.tradier.wire_rest import Intraday, Period

ORIGIN = Origin(1_785_528_900_000_000_000, delayed=True, simulated=True)
HISTORY = (
    b'{"history":{"day":[{"date":"2024-02-02","open":179.86,"high":187.33,"low":179.25,'
    b'"close":185.85,"volume":102551680},{"date":"2024-02-01","open":183.985,"high":186.95,'
    b'"low":183.82,"close":186.86,"volume":64885408}]}}'
)
SERIES = (
    b'{"series":{"data":[{"time":"2026-05-21T09:30:00","timestamp":1779370200,"price":301.435,'
    b'"open":301.03,"high":302.47,"low":300.4,"close":301.84,"volume":2239603,"vwap":301.51865},'
    b'{"time":"2026-05-21T09:45:00","timestamp":1779371100,"price":302.35,"open":301.82,'
    b'"high":303.07,"low":301.63,"close":302.75,"volume":1152953,"vwap":302.39747}]}}'
)


def test_history_is_bars_from_midnight_to_midnight_in_order() -> None:
    """R215."""
    page = parse_history(HISTORY, ORIGIN, symbol="AAPL")
    first, second = page.bars

    assert (first.open, first.high, first.low, first.close) == (183.985, 186.95, 183.82, 186.86)
    assert first.event_ns == instant_ns(date(2024, 2, 1), time())
    assert first.end_ns == second.event_ns == instant_ns(date(2024, 2, 2), time())
    assert (first.volume, first.vwap, first.trades) == (64885408, None, None)
    assert (first.provider, first.delayed, first.simulated) == ("tradier", True, True)
    assert page.faults == []


def test_a_day_on_which_the_clocks_change_is_not_a_day_long() -> None:
    row = b'{"date":"2026-03-08","open":1,"high":1,"low":1,"close":1,"volume":1}'
    bar = parse_history(b'{"history":{"day":' + row + b"}}", ORIGIN, symbol="A").bars[0]

    assert (bar.end_ns - bar.event_ns) / 3.6e12 == 23


@pytest.mark.parametrize(
    ("period", "end"),
    [
        (Period.DAILY, date(2024, 1, 2)),
        (Period.WEEKLY, date(2024, 1, 8)),
        (Period.MONTHLY, date(2024, 2, 1)),
    ],
)
def test_a_bar_ends_with_its_period(period: Period, end: date) -> None:
    row = b'{"history":{"day":{"date":"2024-01-01","open":1,"high":1,"low":1,"close":1}}}'
    page = parse_history(row, ORIGIN, symbol="A", period=period)

    assert page.bars[0].end_ns == instant_ns(end, time())


@pytest.mark.parametrize("body", [b'{"history":null}', b'{"history":"null"}'])
def test_no_history_is_no_bars(body: bytes) -> None:
    assert parse_history(body, ORIGIN, symbol="A").bars == []


def test_an_index_has_no_volume() -> None:
    row = (
        b'{"history":{"day":{"date":"2024-01-02","open":1,"high":1,"low":1,"close":1,"volume":0}}}'
    )

    assert parse_history(row, ORIGIN, symbol="I:SPX").bars[0].volume is None


def test_timesales_are_bars_by_their_timestamp_in_seconds() -> None:
    """R215: the middle of the range that Tradier calls price is not read."""
    first, second = parse_timesales(
        SERIES, ORIGIN, symbol="SPY", interval=Intraday.FIFTEEN_MINUTES
    ).bars

    assert first.event_ns == 1_779_370_200_000_000_000
    assert first.end_ns == second.event_ns
    assert first.vwap == 301.51865
    assert 301.435 not in (first.open, first.high, first.low, first.close)


def test_bars_that_are_no_bars_are_left_out_and_named() -> None:
    body = SERIES.replace(b'"open":301.03', b'"open":"NaN"')
    page = parse_timesales(body, ORIGIN, symbol="SPY", interval=Intraday.ONE_MINUTE)

    assert len(page.bars) == 1
    assert [fault.symbol for fault in page.faults] == ["SPY"]
    timeless = SERIES.replace(b'"timestamp":1779370200', b'"timestamp":null')
    assert (
        len(parse_timesales(timeless, ORIGIN, symbol="SPY", interval=Intraday.ONE_MINUTE).bars) == 1
    )
    undated = HISTORY.replace(b"2024-02-01", b"2024-02-31")
    assert len(parse_history(undated, ORIGIN, symbol="SPY").bars) == 1


@pytest.mark.parametrize("body", [b'{"series":null}', b'{"series":"null"}'])
def test_no_series_is_no_bars(body: bytes) -> None:
    assert parse_timesales(body, ORIGIN, symbol="A", interval=Intraday.ONE_MINUTE).bars == []


def clock(state: str, following: str, at: str, timestamp: int = 1557156988) -> bytes:
    return (
        f'{{"clock":{{"date":"2019-05-06","description":"…","state":"{state}","timestamp":'
        f'{timestamp},"next_change":"{at}","next_state":"{following}"}}}}'
    ).encode()


def test_the_clock_says_what_the_market_does_and_until_when() -> None:
    status = parse_clock(clock("open", "postmarket", "16:00"), ORIGIN)

    assert status.is_open
    assert status.event_ns == 1_557_156_988_000_000_000
    assert status.next_close_ns == instant_ns(date(2019, 5, 6), time(16))
    assert status.next_open_ns is None
    assert status.simulated


def test_the_next_change_is_used_only_when_it_is_of_today() -> None:
    pre = parse_clock(clock("premarket", "open", "09:30"), ORIGIN)
    after = parse_clock(clock("postmarket", "closed", "20:00"), ORIGIN)
    closed = parse_clock(clock("closed", "premarket", "07:00"), ORIGIN)
    odd = parse_clock(clock("open", "postmarket", "soon"), ORIGIN)

    assert pre.session == "pre"
    assert pre.next_open_ns == instant_ns(date(2019, 5, 6), time(9, 30))
    assert (after.session, after.next_open_ns, after.next_close_ns) == ("after", None, None)
    assert (closed.session, closed.next_open_ns) == ("closed", None)
    assert odd.next_close_ns is None


@pytest.mark.parametrize(
    "body",
    [b'{"clock":null}', clock("lunch", "open", "09:30"), clock("open", "x", "y", 0), b"{}"],
)
def test_a_clock_that_cannot_be_read_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        parse_clock(body, ORIGIN)


HOURS = (
    b'"premarket":{"start":"07:00","end":"09:24"},"open":{"start":"09:30","end":"%s"},'
    b'"postmarket":{"start":"16:00","end":"20:00"}'
)
CALENDAR = (
    b'{"calendar":{"month":11,"year":2026,"days":{"day":['
    b'{"date":"2026-11-27","status":"open","description":"Early close",'
    + HOURS
    % b"13:00"
    + b'},{"date":"2026-11-26","status":"closed","description":"Market is closed for Thanksgiving"},'
    b'{"date":"2026-11-28","status":"closed","description":"Market is closed"},'
    b'{"date":"2026-11-25","status":"open","description":"Market is open",'
    + HOURS
    % b"16:00"
    + b'},{"date":"2026-11-24","status":"open"},{"date":"2026-11-23","status":"closed"},'
    b'{"date":"2026-11-22","status":"?"},{"date":"x","status":"open"}]}}}'
)


def test_the_calendar_has_sessions_and_the_days_that_differ() -> None:
    page = parse_calendar(CALENDAR)

    assert page.sessions == (date(2026, 11, 24), date(2026, 11, 25), date(2026, 11, 27))
    unnamed, thanksgiving, friday = page.holidays
    assert (unnamed.name, unnamed.date) == ("Market holiday", date(2026, 11, 23))
    assert thanksgiving.status is HolidayStatus.CLOSED
    assert thanksgiving.name == "Market is closed for Thanksgiving"
    assert friday.status is HolidayStatus.EARLY_CLOSE
    assert friday.close_ns == instant_ns(date(2026, 11, 27), time(13))
    assert len(page.faults) == 2


def test_an_empty_calendar_has_no_days() -> None:
    assert parse_calendar(b'{"calendar":{"days":null}}').sessions == ()
    assert parse_calendar(b'{"calendar":null}').holidays == ()


@given(st.sampled_from([HISTORY, SERIES, CALENDAR, clock("open", "x", "16:00")]), st.data())
def test_cut_or_flipped_bytes_are_our_error_or_rows(body: bytes, data: st.DataObject) -> None:
    bent = bytearray(body)
    at = data.draw(st.integers(0, len(bent) - 1))
    if data.draw(st.booleans()):
        del bent[at:]
    else:
        bent[at] ^= 1 << data.draw(st.integers(0, 7))

    parsers: tuple[Callable[[bytes], object], ...] = (
        lambda raw: parse_history(raw, ORIGIN, symbol="A"),
        lambda raw: parse_timesales(raw, ORIGIN, symbol="A", interval=Intraday.ONE_MINUTE),
        lambda raw: parse_clock(raw, ORIGIN),
        parse_calendar,
    )
    for parse in parsers:
        with contextlib.suppress(UpstreamGarbled):
            parse(bytes(bent))
