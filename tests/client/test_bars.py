"""Whom bars are asked of, and what is known of each."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from onetape import calendar
from onetape.client._bars import MOST_JUDGED, BarQuestions, most_in
from onetape.client._judging import Judge
from onetape.client._market import MarketQuestions
from onetape.errors import InvalidRequest, UpstreamDown
from onetape.massive.questions import MassiveQuestions
from onetape.provenance import Reason, Severity
from onetape.timeframes import bar_length

MONDAY_NS = 1_764_000_000_000_000_000  # 2025-11-24, 11:00 in New York
MINUTE_NS = 60_000_000_000
MINUTE, DAY = bar_length("1m"), bar_length("1d")
BARS = "/api/bars"


@pytest.fixture
def ask(bench: Any) -> BarQuestions:
    market = MarketQuestions(bench.rest)
    vendor = MassiveQuestions(bench.rest, bench.clock)
    return BarQuestions(market, vendor, Judge(bench.clock), bench.clock)


def of_vendor(*starts_ns: int, high: float = 2.0) -> Mapping[str, Any]:
    rows = [
        {"t": at // 1_000_000, "o": 1, "h": high, "l": 1, "c": 1, "v": 3, "vw": 1}
        for at in starts_ns
    ]
    return {"status": "OK", "ticker": "SPY", "results": rows}


class FromVendor(dict[str, Any]):
    """Answers every path that there is no other answer for."""

    answer: Any

    def __missing__(self, path: str) -> Any:
        assert path.startswith("/v2/aggs/")
        return self.answer


# a range


@pytest.mark.parametrize("symbol", ["SPY", "I:SPX", "O:SPY251219C00650000"])
async def test_a_short_range_is_the_gateways_to_judge(
    bench: Any, ask: BarQuestions, symbol: str
) -> None:
    """R161: so a stock's bars have a second vendor behind them."""
    bench.rest.answers[BARS] = bench.market.bars(MONDAY_NS - MINUTE_NS)

    rows = await ask.of_range(symbol, MINUTE, "2025-11-24", "2025-11-24", max_rows=9)

    assert [row.symbol for row in rows] == [symbol]
    assert rows.simulated
    assert bench.rest.asked == [
        (
            BARS,
            "from=2025-11-24&limit=9&multiplier=1&sort=asc"
            f"&symbol={symbol}&timespan=minute&to=2025-11-24",
        )
    ]


async def test_a_long_range_is_the_vendors_pages_judged_here(bench: Any, ask: BarQuestions) -> None:
    """Judging a year of minutes would hold up everybody's ticks at the gateway."""
    bench.rest.answers = FromVendor()
    bench.rest.answers.answer = of_vendor(MONDAY_NS - MINUTE_NS)

    rows = await ask.of_range("SPY", MINUTE, "2024-11-24", "2025-11-24", max_rows=None)

    assert [path for path, _ in bench.rest.asked] == [
        "/v2/aggs/ticker/SPY/range/1/minute/2024-11-24/2025-11-24"
    ]
    assert rows[0].quality is not None
    assert rows[0].quality.confidence(MONDAY_NS + 10**12) == 100, "history does not age"


async def test_what_cannot_be_true_is_left_out_of_the_vendors_pages(
    bench: Any, ask: BarQuestions
) -> None:
    bench.rest.answers = FromVendor()
    bench.rest.answers.answer = of_vendor(MONDAY_NS - MINUTE_NS, high=0.5)

    rows = await ask.of_range("SPY", MINUTE, "2024-11-24", "2025-11-24", max_rows=None)

    assert rows == ()
    assert rows.errors["SPY"].message == "left out: 1 x range_inverted"


async def test_each_bar_says_whose_it_is_and_why(bench: Any, ask: BarQuestions) -> None:
    """R220: a bar with findings of its own keeps them, the others have their series'."""
    why = "massive is down"
    own = bench.market.quality(reasons=(Reason(code="locked", severity=Severity.WARNING),))
    series = bench.market.quality("tradier", fallback_reason=why)
    bars = (
        bench.market.bar("SPY", MONDAY_NS - 2 * MINUTE_NS, quality=own),
        bench.market.bar("SPY", MONDAY_NS - MINUTE_NS),
    )
    notes = ("bars are there from 2025-11-20 on",)
    bench.rest.answers[BARS] = bench.market.bars(bars=bars, quality=series, notes=notes)

    rows = await ask.of_range("SPY", MINUTE, "2025-11-24", "2025-11-24", max_rows=None)

    assert [row.quality for row in rows] == [own, series]
    assert rows.errors["SPY"].message == notes[0]


@pytest.mark.parametrize(
    ("length", "start", "end", "most"),
    [
        ("1m", date(2025, 11, 24), date(2025, 11, 24), 1_440),
        ("1m", date(2025, 11, 22), date(2025, 11, 24), 4_320),
        ("1m", date(2025, 11, 18), date(2025, 11, 24), 4_839),
        ("1s", MONDAY_NS, MONDAY_NS + 3600 * 10**9, 3_600),
        ("5m", date(2025, 10, 25), date(2025, 11, 24), 4_286),
        ("1d", date(2015, 11, 25), date(2025, 11, 24), 3_653),
        ("1d", date(2025, 11, 24), date(2025, 11, 20), 0),
    ],
)
def test_what_a_range_may_hold_is_guessed_without_nights_and_weekends(
    length: str, start: Any, end: Any, most: int
) -> None:
    assert most_in(bar_length(length), start, end) == most
    assert most < MOST_JUDGED


# the last so many


async def test_the_last_bars_come_from_as_few_sessions_as_it_takes(
    bench: Any, ask: BarQuestions
) -> None:
    """R161, C36: the look-back; oldest first, and the latest, not the oldest of the range."""
    starts = [MONDAY_NS - n * MINUTE_NS for n in range(1, 9)]
    bench.rest.answers[BARS] = bench.market.bars(*starts)

    rows = await ask.last("SPY", MINUTE, 3)

    assert [row.event_ns for row in rows] == starts[:3][::-1]
    friday = calendar.previous_session(date(2025, 11, 24))
    assert bench.rest.asked == [
        (
            BARS,
            f"from={friday}&limit=3&multiplier=1&sort=desc"
            "&symbol=SPY&timespan=minute&to=2025-11-24",
        )
    ]


@pytest.mark.parametrize(("length", "count"), [("1m", 5), ("1d", 250)])
async def test_a_quiet_symbol_is_looked_at_further_back_once(
    bench: Any, ask: BarQuestions, length: str, count: int
) -> None:
    bench.rest.answers[BARS] = bench.market.bars(MONDAY_NS - MINUTE_NS)

    rows = await ask.last("SPY", bar_length(length), count)

    assert len(rows) == 1
    first, second = (params.split("&")[0] for _, params in bench.rest.asked)
    assert second < first


async def test_what_was_left_out_does_not_make_a_symbol_quiet(
    bench: Any, ask: BarQuestions
) -> None:
    starts = [MONDAY_NS - n * MINUTE_NS for n in range(1, 4)]
    bench.rest.answers[BARS] = bench.market.bars(*starts, dropped={"range_inverted": 1})

    rows = await ask.last("SPY", MINUTE, 4)

    assert len(rows) == 3
    assert len(bench.rest.asked) == 1


async def test_many_short_bars_are_the_vendors(bench: Any, ask: BarQuestions) -> None:
    """A session of seconds is 23,400 bars: too many for the gateway to judge for fifty."""
    bench.rest.answers = FromVendor()
    bench.rest.answers.answer = of_vendor(MONDAY_NS - 10**9, MONDAY_NS - 2 * 10**9)

    rows = await ask.last("SPY", bar_length("1s"), 2)

    assert [row.event_ns for row in rows] == [MONDAY_NS - 2 * 10**9, MONDAY_NS - 10**9]
    assert "sort=desc" in bench.rest.asked[0][1]
    assert all(row.quality is not None for row in rows)


async def test_before_the_calendar_the_days_are_guessed(bench: Any, ask: BarQuestions) -> None:
    bench.clock.advance(-30 * 365 * 86_400)
    bench.rest.answers[BARS] = bench.market.bars()

    assert await ask.last("SPY", bar_length("1h"), 5) == ()
    assert [params.split("&")[0] for _, params in bench.rest.asked] == [
        "from=1995-11-23",
        "from=1995-10-11",
    ]


@pytest.mark.parametrize("count", [0, 50_001])
async def test_a_number_of_bars_that_makes_no_sense_is_refused(
    bench: Any, ask: BarQuestions, count: int
) -> None:
    with pytest.raises(InvalidRequest):
        await ask.last("SPY", MINUTE, count)
    assert bench.rest.asked == []


async def test_nobody_who_answers_is_raised(bench: Any, ask: BarQuestions) -> None:
    bench.rest.answers[BARS] = UpstreamDown("no")

    with pytest.raises(UpstreamDown):
        await ask.of_range("SPY", DAY, "2025-11-20", "2025-11-24", max_rows=None)
