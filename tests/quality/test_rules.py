import math
from datetime import date
from typing import Any

import pytest

from onetape.provenance import Severity
from onetape.quality.reasons import reason
from onetape.quality.rules import (
    CLEAN,
    Moment,
    Rules,
    is_instant,
    is_real,
    is_text,
    moment,
    unreal,
    unreal_or_missing,
)

NOW = 1_764_000_000_000_000_000
AT = moment(NOW)


def below(value: float, _at: Moment) -> str | None:
    return f"{value:g}" if value < 0 else None


def odd(value: float, _at: Moment) -> str | None:
    return "" if value % 2 else None


def test_reasons_stand_in_the_order_of_the_table() -> None:
    table = Rules[float]({"iv_negative": below, "locked": odd})

    assert table.codes == ("iv_negative", "locked")
    assert table.find(-3, AT) == (reason("iv_negative", "-3"), reason("locked"))
    assert table.find(-2, AT) == (reason("iv_negative", "-2"),)


def test_nothing_found_costs_no_object() -> None:
    assert Rules[float]({"locked": odd}).find(2, AT) is CLEAN


def test_a_finding_without_detail_is_made_once() -> None:
    table = Rules[float]({"locked": odd})

    assert table.find(1, AT) is table.find(3, AT)


def test_what_is_normal_is_not_looked_at() -> None:
    table = Rules[float]({"locked": odd}, normal=lambda value, _at: value > 0)

    assert table.find(3, AT) == CLEAN
    assert table.find(-3, AT) == table.find_slowly(3, AT) == (reason("locked"),)


def test_text_is_not_normal() -> None:
    def is_text_rule(value: Any, _at: Moment) -> str | None:
        return "" if isinstance(value, str) else None

    table = Rules[Any]({"not_a_number": is_text_rule}, normal=lambda value, _at: value > 0)

    assert [one.severity for one in table.find("3", AT)] == [Severity.ERROR]


def test_a_table_takes_only_documented_codes() -> None:
    with pytest.raises(KeyError):
        Rules[float]({"no_such_code": odd})


def test_a_moment_is_dated_in_new_york() -> None:
    assert moment(NOW) == Moment(NOW, date(2025, 11, 24), NOW + 2_000_000_000)


def test_a_clock_that_no_calendar_has_stops_nothing() -> None:
    assert moment(2**80).today == date.min


@pytest.mark.parametrize(
    ("value", "real"),
    [
        (0, True),
        (-1.5, True),
        (1e300, True),
        (math.nan, False),
        (math.inf, False),
        (-math.inf, False),
        ("1", False),
        (None, False),
        ([], False),
    ],
)
def test_a_number_is_finite_and_no_text(value: Any, real: bool) -> None:
    assert is_real(value) is real


@pytest.mark.parametrize(
    ("value", "instant"),
    [(0, True), (NOW, True), (-1, False), (2**63, False), (1.0, False), (True, False), ("", False)],
)
def test_a_time_is_a_whole_number_of_nanoseconds(value: Any, instant: bool) -> None:
    assert is_instant(value) is instant


def test_text_is_not_empty() -> None:
    assert is_text("SPY")
    assert not is_text("")
    assert not is_text(None)


def test_what_is_no_number_is_named() -> None:
    assert unreal(("bid", "ask", "last"), (math.nan, None, 1.0)) == "bid"
    assert unreal(("bid", "ask"), ("1", math.inf)) == "bid, ask"
    assert unreal(("bid",), (None,)) is None
    assert unreal_or_missing(("open", "close"), (None, 1.0)) == "open"
    assert unreal_or_missing(("open",), (1,)) is None
