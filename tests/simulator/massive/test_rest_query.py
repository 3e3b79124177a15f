from collections.abc import Callable
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from onetape.simulator.massive.pages import encode_cursor
from onetape.simulator.massive.rest_query import (
    FOREVER,
    Query,
    Refusal,
    Span,
    day_of,
    day_span,
    parse_day,
    parse_time,
)

NS = 1_000_000_000
MS = 1_000
NEW_YORK = ZoneInfo("America/New_York")


def query(**params: str) -> Query:
    return Query((name.replace("__", "."), value) for name, value in params.items())


def refusal(call: Callable[..., object], *args: object, **kwargs: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    return caught.value


def test_the_first_of_a_repeated_parameter_counts() -> None:
    assert Query([("tickers", "A"), ("tickers", "B")]).text("tickers") == "A"


def test_an_empty_parameter_is_an_absent_one() -> None:
    assert query(ticker="").text("ticker") is None


def test_a_cursor_replaces_everything_else() -> None:
    cursor = encode_cursor({"limit": "3"}, "[1]")
    read = Query([("cursor", cursor), ("limit", "9"), ("order", "desc")])

    assert (read.params, read.position) == ({"limit": "3"}, "[1]")


def test_a_cursor_that_cannot_be_read_is_a_400() -> None:
    refused = refusal(Query, [("cursor", "ä")])

    assert (refused.http, refused.status) == (400, "ERROR")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", "²", "+1", "1e3", " 1"])
def test_a_limit_that_is_no_positive_integer_is_refused(value: str) -> None:
    refused = refusal(query(limit=value).integer, "limit", default=10)

    assert refused.text == "The parameter 'limit' must be a positive integer"


def test_a_limit_over_the_maximum_is_refused() -> None:
    refused = refusal(query(limit="251").integer, "limit", default=10, maximum=250)

    assert refused.text == "The parameter 'limit' cannot be greater than 250"
    assert query(limit="250").integer("limit", default=10, maximum=250) == 250
    assert query().integer("limit", default=10, maximum=250) == 10


def test_a_choice_outside_its_options_is_refused_by_naming_them() -> None:
    refused = refusal(query(order="up").choice, "order", ("asc", "desc"), "asc")

    assert refused.text == "The parameter 'order' must be one of: asc, desc"


def test_an_absent_choice_is_its_default_or_nothing() -> None:
    assert query().choice("order", ("asc", "desc"), "asc") == "asc"
    assert query().optional_choice("contract_type", ("call", "put")) is None


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("", True)])
def test_booleans_are_written_in_lower_case(value: str, expected: bool) -> None:
    assert query(adjusted=value).is_set("adjusted", default=True) is expected


def test_any_of_lists_each_value_once_without_blanks() -> None:
    assert query(ticker__any_of="I:SPX, SPY,,SPY").any_of("ticker") == ["I:SPX", "SPY"]
    assert query().any_of("ticker") is None


def test_more_than_250_values_are_refused() -> None:
    many = ",".join(f"T{number}" for number in range(251))

    assert "250" in refusal(query(ticker__any_of=many).any_of, "ticker").text


@pytest.mark.parametrize(
    ("params", "admitted"),
    [
        ({}, "ABC"),
        ({"t": "B"}, "B"),
        ({"t__gte": "B"}, "BC"),
        ({"t__gt": "B"}, "C"),
        ({"t__lte": "B"}, "AB"),
        ({"t__lt": "B"}, "A"),
        ({"t__gt": "A", "t__lt": "C"}, "B"),
    ],
)
def test_dotted_comparisons_narrow_strings(params: dict[str, str], admitted: str) -> None:
    names = query(**params).strings("t")

    assert [name for name in "ABC" if names.admits(name)] == list(admitted)


def test_numbers_and_dates_are_compared_as_such() -> None:
    strikes = query(strike_price__gte="9.5").numbers("strike_price")
    days = query(expiration_date__lt="2025-01-02").days("expiration_date")

    assert strikes.admits(10)
    assert not strikes.admits(9)
    assert days.admits("2025-01-01")
    assert not days.admits("2025-01-02")


@pytest.mark.parametrize("value", ["ten", "nan", "inf", ""])
def test_a_number_that_is_none_is_refused_unless_absent(value: str) -> None:
    if not value:
        assert query(strike_price=value).numbers("strike_price").admits(1)
    else:
        assert "strike_price" in refusal(query(strike_price=value).numbers, "strike_price").text


@pytest.mark.parametrize(
    "value",
    ["2025-02-30", "9999-12-31", "0001-01-01", "20250101", "2025-1-1", "today", "٢٠٢٥-٠١-٠١"],
)
def test_a_date_that_is_none_is_refused(value: str) -> None:
    assert "'as_of'" in refusal(parse_day, value, name="as_of").text


def test_a_bad_time_is_refused_in_the_vendors_words() -> None:
    refused = refusal(parse_time, "yesterday", name="from", per_s=MS)

    assert refused.text == (
        "Could not parse the time parameter: 'from'. Use YYYY-MM-DD or Unix MS Timestamps"
    )


@pytest.mark.parametrize("value", ["2025-02-30", "2025-02-30T00:00:00Z", "2025-01-01T25:00:00Z"])
def test_a_day_or_an_instant_that_never_was_is_refused(value: str) -> None:
    assert "Unix NS Timestamps" in refusal(parse_time, value, name="timestamp", per_s=NS).text


def test_a_time_is_a_number_a_new_york_day_or_an_instant() -> None:
    """2.7: the same parameter takes a date or an integer, in the endpoint's own unit."""
    assert parse_time("1577941200000", name="from", per_s=MS) == (1577941200000, 1577941200001)
    assert parse_time("2020-01-02", name="from", per_s=MS).start == 1577941200000
    instant = parse_time("2022-02-17T17:25:13.009356032Z", name="timestamp", per_s=NS)
    assert instant.start == 1645118713009356032


def test_an_instant_with_an_offset_is_the_same_moment() -> None:
    there = parse_time("2022-02-17T12:25:13-05:00", name="timestamp", per_s=MS)

    assert there == parse_time("2022-02-17T17:25:13Z", name="timestamp", per_s=MS)


def test_new_york_days_have_23_to_25_hours() -> None:
    hours = [
        (span.end - span.start) // 3600
        for day in (date(2025, 3, 9), date(2025, 3, 10), date(2025, 11, 2))
        for span in [day_span(day, per_s=1)]
    ]

    assert hours == [23, 24, 25]


@given(st.dates(date(2000, 1, 1), date(2040, 1, 1)))
def test_every_instant_of_a_day_is_on_that_day(day: date) -> None:
    span = day_span(day, per_s=1)

    assert day_of(span.start) == day_of(span.end - 1) == day
    assert day_of(span.end) != day
    assert datetime.fromtimestamp(span.start, NEW_YORK).hour == 0


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, (0, FOREVER)),
        ({"t": "5"}, (5, 6)),
        ({"t__gte": "5"}, (5, FOREVER)),
        ({"t__gt": "5"}, (6, FOREVER)),
        ({"t__lte": "5"}, (0, 6)),
        ({"t__lt": "5"}, (0, 5)),
        ({"t__gte": "5", "t__lt": "9"}, (5, 9)),
    ],
)
def test_time_comparisons_leave_a_half_open_span(
    params: dict[str, str], expected: tuple[int, int]
) -> None:
    assert query(**params).span("t", per_s=NS) == expected


def test_a_date_in_a_comparison_means_the_whole_day() -> None:
    day = day_span(date(2025, 1, 2), per_s=NS)

    assert query(t="2025-01-02").span("t", per_s=NS) == day
    assert query(t__gt="2025-01-02").span("t", per_s=NS).start == day.end
    assert query(t__lte="2025-01-02").span("t", per_s=NS).end == day.end
    assert query(t__lt="2025-01-02").span("t", per_s=NS).end == day.start


def test_a_span_holds_its_start_and_not_its_end() -> None:
    assert [value in Span(2, 4) for value in (1, 2, 3, 4, "3")] == [False, True, True, False, False]


def test_a_filter_without_comparisons_is_false() -> None:
    assert not query().strings("ticker")
    assert query(ticker="A").strings("ticker")
