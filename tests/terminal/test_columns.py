from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.model import Bar, OptionSnapshot, Quote, Trade
from onetape.provenance import Quality, Reason, Severity, Source
from onetape.terminal.board import BOARD
from onetape.terminal.columns import (
    COLUMNS,
    LINE,
    Column,
    Form,
    bare,
    decimals,
    duration,
    iso,
    named,
    new_york,
    shown,
    window,
)

NOON = round(datetime(2026, 11, 20, 17, tzinfo=UTC).timestamp()) * 1_000_000_000
"""Of a Friday, in New York's winter time."""
JUDGED = Quality(
    provider="massive",
    source=Source.REST,
    received_ns=NOON,
    reasons=(
        Reason(code="wide_spread", severity=Severity.WARNING),
        Reason(code="no_greeks", severity=Severity.INFO),
    ),
)
BAR = Bar(
    symbol="SPY",
    event_ns=NOON,
    end_ns=NOON + 60_000_000_000,
    received_ns=NOON,
    provider="massive",
    open=1,
    high=1,
    low=1,
    close=1,
)


@pytest.mark.parametrize(
    ("form", "value", "people", "programs"),
    [
        (Form.PRICE, 6616.7, "6,616.70", 6616.7),
        (Form.PRICE, 0.0, "0.00", 0.0),
        (Form.PRICE, 0.0123, "0.0123", 0.0123),
        (Form.PRICE, -1.5, "-1.50", -1.5),
        (Form.CHANGE, 0.78, "+0.78", 0.78),
        (Form.CHANGE, -0.78, "-0.78", -0.78),
        (Form.CHANGE, 0.0, "0.00", 0.0),
        (Form.PERCENT, 1.234, "+1.23", 1.234),
        (Form.PERCENT, -0.001, "0.00", -0.001),
        (Form.FRACTION, 0.183, "18.3%", 0.183),
        (Form.RATIO, -0.456, "-0.46", -0.456),
        (Form.SIZE, 6_705_959.0, "6,705,959", 6_705_959.0),
        (Form.SIZE, 0.25, "0.25", 0.25),
        (Form.SIZE, 0.0, "0", 0.0),
        (Form.COUNT, 308, "308", 308),
        (Form.CODES, (231, 7), "231 7", "231 7"),
        (Form.CODES, (), "-", ""),
        (Form.TEXT, "open", "open", "open"),
        (Form.TEXT, "", "-", ""),
        (Form.TEXT, "\x1b[31mred\n", "?[31mred?", "?[31mred?"),
        (Form.FLAG, True, "True", "true"),
        (Form.FLAG, False, "False", "false"),
        (Form.INSTANT, NOON, "12:00:00.000 EST", "2026-11-20T17:00:00.000000000Z"),
        (Form.WINDOW, BAR, "2026-11-20 12:00 EST", "2026-11-20T17:00:00.000000000Z"),
        (Form.AGE, NOON - 400_000_000, "0.4 s", 0.4),
        (Form.QUALITY, JUDGED, "95 excellent", 95),
        (Form.LEVEL, JUDGED, "-", "excellent"),
        (Form.REASONS, JUDGED, "-", "wide_spread"),
    ],
)
def test_a_value_is_written_for_people_and_for_programs(
    form: Form, value: object, people: str, programs: object
) -> None:
    if form not in {Form.LEVEL, Form.REASONS}:  # which only programs see
        assert shown(form, value, now_ns=NOON) == people
    assert bare(form, value, now_ns=NOON) == programs


@pytest.mark.parametrize("form", Form, ids=lambda form: form.name)
def test_what_is_missing_is_never_zero(form: Form) -> None:
    assert shown(form, None, now_ns=NOON) == "-"
    assert bare(form, None, now_ns=NOON) == ""


def test_new_york_has_its_zone_and_another_day_its_date() -> None:
    summer = round(datetime(2026, 7, 1, 13, 30, tzinfo=UTC).timestamp()) * 1_000_000_000

    assert new_york(NOON, now_ns=NOON) == "12:00:00 EST"
    assert new_york(NOON + 1_234_567, now_ns=NOON, digits=6) == "12:00:00.001234 EST"
    assert new_york(summer, now_ns=NOON) == "2026-07-01 09:30:00 EDT"


@pytest.mark.parametrize(
    ("start", "seconds", "written"),
    [
        (datetime(2026, 11, 20, 14, 30, tzinfo=UTC), 60, "2026-11-20 09:30 EST"),
        (datetime(2026, 11, 20, 14, 30, 5, tzinfo=UTC), 1, "2026-11-20 09:30:05 EST"),
        (datetime(2026, 11, 20, 5, tzinfo=UTC), 86_400, "2026-11-20"),
        (datetime(2026, 3, 8, 5, tzinfo=UTC), 23 * 3_600, "2026-03-08"),
    ],
    ids=["minute", "second", "day", "day-of-23-hours"],
)
def test_a_bar_is_named_by_when_it_begins(start: datetime, seconds: int, written: str) -> None:
    begins_ns = round(start.timestamp()) * 1_000_000_000
    end_ns = begins_ns + seconds * 1_000_000_000
    bar = msgspec.structs.replace(BAR, event_ns=begins_ns, end_ns=end_ns)

    assert window(bar) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-0.2, "0.0 s"),
        (0.44, "0.4 s"),
        (12, "12 s"),
        (180, "3 min"),
        (5 * 3_600, "5 h"),
        (3 * 86_400, "3 d"),
    ],
)
def test_durations_are_short(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@given(st.lists(st.none() | st.integers(-10_000_000, 10_000_000).map(lambda cents: cents / 100)))
def test_whole_cents_need_two_decimals(prices: list[float | None]) -> None:
    assert decimals(prices) == 2
    assert decimals([*prices, 0.0001]) == 4


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_iso_keeps_every_nanosecond(at_ns: int) -> None:
    text = iso(at_ns)

    assert int(text[-10:-1]) == at_ns % 1_000_000_000
    read = datetime.fromisoformat(text[:19] + "+00:00")
    assert round(read.timestamp()) == at_ns // 1_000_000_000


ALL: list[tuple[Any, ...]] = [*COLUMNS.values(), BOARD]


@pytest.mark.parametrize("columns", ALL, ids=[*(kind.__name__ for kind in COLUMNS), "board"])
def test_every_name_is_there_once(columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]

    assert len(names) == len({*names})
    assert {"simulated", "delayed", "provider", "source", "event_time"} <= {*names}


def test_a_path_that_breaks_off_leads_to_nothing() -> None:
    delta = next(one for one in COLUMNS[OptionSnapshot] if one.name == "delta")

    class Bare:
        greeks = None

    assert delta.value(Bare()) is None


def test_columns_are_picked_by_name() -> None:
    for kind in (Quote, Trade, Bar):
        assert [one.name for one in named(COLUMNS[kind], LINE[kind])] == [*LINE[kind]]
