"""Bars of Tradier: R215, traps 8 and 10."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from onetape.calendar import CLOSE, OPEN, instant_ns
from onetape.errors import InvalidRequest, UpstreamDown, UpstreamGarbled
from onetape.timeframes import BarLength, Timespan, bar_length
from onetape.tradier import series
from onetape.tradier.questions import TradierQuestions
from onetape.tradier.wire_rest import Again, Ask, Refusal

SALES, HISTORY, QUOTES = "/markets/timesales", "/markets/history", "/markets/quotes"
TODAY = date(2025, 11, 24)
MINUTE_NS = 60_000_000_000
OPEN_NS = instant_ns(TODAY, OPEN)
REFUSED = Refusal(InvalidRequest("Tradier refused: no reason given"), Again.NEVER)


def bar(at_ns: int, **fields: Any) -> dict[str, Any]:
    told = {"timestamp": at_ns // 1_000_000_000, "open": 1.0, "high": 3.0, "low": 0.5}
    return told | {"close": 2.0, "price": 9.0, "volume": 10, "vwap": 1.5} | fields


def sold(*rows: dict[str, Any]) -> dict[str, Any]:
    data: Any = rows[0] if len(rows) == 1 else list(rows)
    return {"series": {"data": data} if rows else None}


def quarters(count: int) -> dict[str, Any]:
    return sold(*(bar(OPEN_NS + 15 * one * MINUTE_NS) for one in range(count)))


@pytest.fixture
def asks(script: Any) -> TradierQuestions:
    return TradierQuestions(script, script.clock, rate=0.04)


@pytest.mark.parametrize(
    ("length", "interval"),
    [("1m", "1min"), ("5m", "5min"), ("15m", "15min"), ("30m", "15min"), ("1h", "15min")],
)
async def test_bars_within_days_are_made_of_the_longest_there_are(
    script: Any, asks: TradierQuestions, length: str, interval: str
) -> None:
    script.answers[SALES] = sold()

    await series.bars(asks, "SPY", bar_length(length), TODAY, TODAY)

    params = script.asked[0][0].params
    assert params["interval"] == interval
    assert (params["start"], params["end"]) == ("2025-11-24 00:00", "2025-11-24 23:59")


@pytest.mark.parametrize(
    ("length", "period"), [("1d", "daily"), ("1w", "weekly"), ("1mo", "monthly")]
)
async def test_longer_ones_are_tradiers_own(
    script: Any, asks: TradierQuestions, length: str, period: str
) -> None:
    day = {"date": "2025-11-20", "open": 1, "high": 3, "low": 0.5, "close": 2, "volume": 9}
    script.answers[HISTORY] = {"history": {"day": day}}
    start = datetime(2025, 11, 20, 15, tzinfo=UTC)

    found = await series.bars(asks, "SPY", bar_length(length), start, TODAY)

    params = script.asked[0][0].params
    assert (params["interval"], params["start"]) == (period, "2025-11-20")
    assert [one.close for one in found.rows] == [2.0]
    assert found.rows[0].vwap is None


@pytest.mark.parametrize("length", ["30s", "2m", "4h", "2d", "1y", "5d"])
async def test_of_other_lengths_there_are_none(
    script: Any, asks: TradierQuestions, length: str
) -> None:
    assert not series.offers(bar_length(length))
    with pytest.raises(InvalidRequest):
        await series.bars(asks, "SPY", bar_length(length), TODAY, TODAY)
    assert script.asked == []


def test_sixty_minutes_are_an_hour() -> None:
    assert series.offers(BarLength(60, Timespan.MINUTE))


async def test_a_range_upside_down_is_the_callers_mistake(
    script: Any, asks: TradierQuestions
) -> None:
    with pytest.raises(InvalidRequest):
        await series.bars(asks, "SPY", bar_length("5m"), TODAY, date(2025, 11, 21))
    assert script.asked == []


async def test_quarters_are_rolled_up_with_the_hour_that_grows(
    script: Any, asks: TradierQuestions
) -> None:
    """11:00 in New York: the bar of 11:00 has only begun."""
    script.answers[SALES] = quarters(7)

    found = await series.bars(asks, "SPY", bar_length("1h"), OPEN_NS, OPEN_NS + 95 * MINUTE_NS)

    assert script.asked[0][0].params["end"] == "2025-11-24 11:59", "to the end of the last hour"
    hours = [(one.event_ns - OPEN_NS) // MINUTE_NS for one in found.rows]
    assert hours == [30, 90], "what began before the range is left out"
    assert [one.volume for one in found.rows] == [40.0, 10.0]


async def test_bars_outside_the_range_are_left_out(script: Any, asks: TradierQuestions) -> None:
    script.answers[SALES] = quarters(4)

    found = await series.bars(
        asks, "SPY", bar_length("15m"), OPEN_NS + MINUTE_NS, OPEN_NS + 30 * MINUTE_NS
    )

    assert [(one.event_ns - OPEN_NS) // MINUTE_NS for one in found.rows] == [15, 30]


async def test_what_is_too_old_is_asked_once_more_from_the_first_day_there_is(
    script: Any, asks: TradierQuestions
) -> None:
    """Trap 10."""
    earliest_ns = instant_ns(date(2025, 11, 20), OPEN.replace(hour=0, minute=0))
    refusal = REFUSED._replace(earliest_ns=earliest_ns)
    script.answers[SALES] = [refusal, sold(bar(OPEN_NS))]

    found = await series.bars(asks, "SPY", bar_length("5m"), date(2025, 1, 2), TODAY)

    assert [ask.params["start"] for ask, _ in script.asked] == [
        "2025-01-02 00:00",
        "2025-11-20 00:00",
    ]
    assert len(found.rows) == 1
    assert found.faults[0].error == "not_found"
    assert "before 2025-11-20" in found.faults[0].message


async def test_a_range_that_is_all_too_old_has_no_bars(script: Any, asks: TradierQuestions) -> None:
    script.answers[SALES] = REFUSED._replace(earliest_ns=OPEN_NS)

    found = await series.bars(asks, "SPY", bar_length("5m"), date(2025, 1, 2), date(2025, 1, 3))

    assert (found.rows, len(found.faults)) == ((), 1)
    assert script.count(SALES) == 1


async def test_a_second_refusal_of_the_start_is_a_fault(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[SALES] = REFUSED._replace(earliest_ns=OPEN_NS)
    script.answers[QUOTES] = {"quotes": {"quote": {"symbol": "SPY", "type": "etf", "last": 1.0}}}

    with pytest.raises(UpstreamGarbled):
        await series.bars(asks, "SPY", bar_length("5m"), date(2025, 1, 2), TODAY)
    assert script.count(SALES) == 2


async def test_too_much_at_once_is_asked_for_in_halves(script: Any, asks: TradierQuestions) -> None:
    too_large = Refusal(UpstreamGarbled("ask for less"), Again.NEVER, too_large=True)

    def answer(ask: Ask) -> Any:
        start, end = (datetime.fromisoformat(ask.params[name]) for name in ("start", "end"))
        if (end - start).total_seconds() > 3600:
            return too_large
        return sold(bar(instant_ns(start.date(), start.time())))

    script.answers[SALES] = answer

    found = await series.bars(
        asks, "SPY", bar_length("5m"), OPEN_NS, instant_ns(TODAY, CLOSE) - MINUTE_NS
    )

    starts = [one.event_ns for one in found.rows]
    assert starts == sorted(set(starts))
    assert 7 <= len(starts) <= 16


async def test_halving_ends(script: Any, asks: TradierQuestions) -> None:
    script.answers[SALES] = Refusal(UpstreamGarbled("less"), Again.NEVER, too_large=True)

    with pytest.raises(UpstreamGarbled):
        await series.bars(asks, "SPY", bar_length("5m"), TODAY, TODAY)
    assert script.count(SALES) == 5
    with pytest.raises(UpstreamGarbled):
        await series.bars(asks, "SPY", bar_length("5m"), OPEN_NS, OPEN_NS + MINUTE_NS)
    assert script.count(SALES) == 6


@pytest.mark.parametrize("length", ["5m", "1d"])
async def test_what_tradier_does_not_know_has_no_bars(
    script: Any, asks: TradierQuestions, length: str
) -> None:
    """A plain-text 400 for an unknown symbol is an answer (W-59)."""
    script.answers |= {
        SALES: REFUSED,
        HISTORY: REFUSED,
        QUOTES: {"quotes": {"unmatched_symbols": {"symbol": "NOPE"}}},
    }

    found = await series.bars(asks, "NOPE", bar_length(length), TODAY, TODAY)

    assert found.rows == ()
    assert [fault.error for fault in found.faults] == ["not_found"]


async def test_a_failure_is_not_looked_into(script: Any, asks: TradierQuestions) -> None:
    script.answers[SALES] = Refusal(UpstreamDown("503"), Again.LATER)

    with pytest.raises(UpstreamDown):
        await series.bars(asks, "SPY", bar_length("5m"), TODAY, TODAY)
    assert script.paths == [SALES]


async def test_a_bar_of_nan_is_left_out_and_told(script: Any, asks: TradierQuestions) -> None:
    """Section 3: numbers that could not be computed."""
    script.answers[SALES] = sold(bar(OPEN_NS, open="NaN"), bar(OPEN_NS + 5 * MINUTE_NS))

    found = await series.bars(asks, "SPY", bar_length("5m"), TODAY, TODAY)

    assert len(found.rows) == 1
    assert [fault.error for fault in found.faults] == ["upstream_garbled"]


async def test_the_last_bars_are_looked_for_far_enough_back(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[SALES] = quarters(6)
    script.answers[HISTORY] = {"history": None}

    found = await series.last_bars(asks, "I:SPX", bar_length("15m"), 4)
    await series.last_bars(asks, "I:SPX", bar_length("1d"), 250)

    assert len(found.rows) == 4
    assert found.rows[0].volume is None
    starts = [ask.params["start"][:10] for ask, _ in script.asked]
    assert starts[0] == "2025-11-17"
    assert starts[1] < "2024-11-20"
    with pytest.raises(InvalidRequest):
        await series.last_bars(asks, "I:SPX", bar_length("1d"), 0)


async def test_days_that_no_calendar_has_are_brought_into_reach(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[HISTORY] = {"history": None}

    await series.bars(asks, "SPY", bar_length("1d"), date.min, date.max)

    params = script.asked[0][0].params
    assert (params["start"], params["end"]) == ("1970-01-02", "2100-01-01")
