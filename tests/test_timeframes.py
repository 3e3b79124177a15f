from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidRequest
from onetape.timeframes import BarLength, Timespan, bar_length, moment_ns


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1m", BarLength(1, Timespan.MINUTE)),
        ("5min", BarLength(5, Timespan.MINUTE)),
        ("15 minutes".replace(" ", ""), BarLength(15, Timespan.MINUTE)),
        ("1M", BarLength(1, Timespan.MONTH)),
        ("3mo", BarLength(3, Timespan.MONTH)),
        ("1D", BarLength(1, Timespan.DAY)),
        ("day", BarLength(1, Timespan.DAY)),
        ("30s", BarLength(30, Timespan.SECOND)),
        (" 4h ", BarLength(4, Timespan.HOUR)),
        ("1w", BarLength(1, Timespan.WEEK)),
        ("1q", BarLength(1, Timespan.QUARTER)),
        ("1y", BarLength(1, Timespan.YEAR)),
    ],
)
def test_a_bar_length_is_read_in_every_spelling(text: str, length: BarLength) -> None:
    """W-21: multiplier and timespan are two things."""
    assert bar_length(text) == length


@pytest.mark.parametrize("text", ["", "0m", "m5", "5x", "-1m", "1.5h", "99999m", "1 m", "ﬁve"])
def test_what_is_no_bar_length_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="bar length"):
        bar_length(text)


@given(st.integers(1, 9999), st.sampled_from(Timespan))
def test_a_bar_length_is_read_as_it_is_written(multiplier: int, timespan: Timespan) -> None:
    length = BarLength(multiplier, timespan)

    assert bar_length(str(length)) == length


def test_only_intraday_bars_have_a_fixed_length() -> None:
    assert bar_length("5m").fixed_ns == 300_000_000_000
    assert bar_length("1d").fixed_ns is None
    assert bar_length("1d").nominal_s == 86_400


def test_a_date_stays_a_date_and_an_instant_becomes_nanoseconds() -> None:
    new_york = timezone(timedelta(hours=-5))

    assert moment_ns("2026-01-02") == date(2026, 1, 2)
    assert moment_ns(date(2026, 1, 2)) == date(2026, 1, 2)
    assert moment_ns(1_700_000_000_000_000_000) == 1_700_000_000_000_000_000
    assert moment_ns(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005_000
    assert moment_ns("1969-12-31T19:00:01-05:00") == 1_000_000_000
    assert moment_ns(datetime(1969, 12, 31, 19, 0, tzinfo=new_york)) == 0


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", datetime(2026, 1, 1)])  # noqa: DTZ001 - the point
def test_what_names_no_instant_is_refused(moment: str | datetime) -> None:
    with pytest.raises(InvalidRequest):
        moment_ns(moment)
