"""Bars of a range: whose they are, in what order, how many, and what they are worth."""

from collections.abc import Sequence
from datetime import date
from typing import Any, cast

import pytest
from starlette.datastructures import QueryParams

from onetape.errors import InvalidRequest
from onetape.gateway.market_bars import History
from onetape.gateway.parameters import Bars, read
from onetape.model import Bar
from onetape.provenance import Source
from onetape.rows import Rows, SymbolFault
from onetape.testing import ManualClock
from onetape.timeframes import BarLength, Moment

CLOCK = ManualClock(now_ns=1_767_639_600_000_000_000)  # 5 January 2026, 14:00 in New York
OPEN_NS = 1_767_623_400_000_000_000
MINUTE_NS = 60_000_000_000


def bar(at: int, **changes: Any) -> Bar:
    facts: dict[str, Any] = {
        "symbol": "SPY",
        "event_ns": OPEN_NS + at * MINUTE_NS,
        "end_ns": OPEN_NS + (at + 1) * MINUTE_NS,
        "received_ns": CLOCK.now_ns(),
        "provider": "tradier",
        "source": Source.REST,
        "simulated": True,
        "open": 1.0,
        "high": 2.0,
        "low": 1.0,
        "close": 2.0,
    }
    return Bar(**facts | changes)


class Sources:
    """The broker provider and the reference in one."""

    def __init__(self, rows: Sequence[Bar], notes: Sequence[str] = ()) -> None:
        self.rows = rows
        self.notes = notes
        self.asked: list[str] = []
        self.range: tuple[Moment, Moment] | None = None
        mine = cast("Any", self)
        self.history = History(broker=mine, reference=mine, clock=CLOCK)

    def found(self, rows: Sequence[Bar]) -> Rows[Bar]:
        errors = [
            SymbolFault(symbol="SPY", error="upstream_garbled", message=note) for note in self.notes
        ]
        return Rows(rows, kind=Bar, errors=errors, simulated=True)

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        self.asked.append(f"broker {symbol} {length}")
        self.range = (start, end)
        return self.found(self.rows)

    async def bars(self, asked: Bars, symbol: str) -> Rows[Bar]:
        self.asked.append(f"reference {symbol} {asked.length}")
        rows = self.rows if asked.sort == "asc" else self.rows[::-1]
        return self.found(rows[: asked.most + 1])


def asked_for(query: str, edges: str = "from=2026-01-05&to=2026-01-05") -> Bars:
    return read(Bars, QueryParams(f"symbol=SPY&{edges}&{query}"))


async def test_a_stocks_bars_are_the_broker_providers() -> None:
    """R39: with fallback."""
    sources = Sources([bar(0), bar(1)], notes=["bars from 2026 on"])

    answer = await sources.history.bars(asked_for("timespan=minute"), "SPY")

    assert sources.asked == ["broker SPY 1m"]
    assert sources.range == (date(2026, 1, 5), date(2026, 1, 5))
    assert (answer.symbol, answer.count, answer.has_more) == ("SPY", 2, False)
    assert answer.notes == ("bars from 2026 on",)
    assert answer.quality is not None
    assert answer.quality.provider == "tradier"
    assert answer.simulated


@pytest.mark.parametrize(
    ("query", "symbol"),
    [("", "I:SPX"), ("", "O:SPY261218C00650000"), ("", "TRIN"), ("adjusted=false", "SPY")],
)
async def test_the_rest_is_the_vendors(query: str, symbol: str) -> None:
    """R40, R41: a stock that is named like an index would be the index to the provider."""
    sources = Sources([])

    await sources.history.bars(asked_for(query), symbol)

    assert sources.asked == [f"reference {symbol} 1m"]


async def test_a_range_of_very_many_bars_is_read_from_its_beginning_only() -> None:
    sources = Sources([])
    for edges in ("from=2025-12-07&to=2026-01-05", "from=2016-01-05&to=2026-01-05"):
        await sources.history.bars(asked_for("", edges), "SPY")

    assert sources.asked == ["broker SPY 1m", "reference SPY 1m"]


async def test_milliseconds_are_instants() -> None:
    sources = Sources([])

    await sources.history.bars(asked_for("", "from=1767623400000&to=2026-01-05"), "SPY")

    assert sources.range == (1_767_623_400_000_000_000, date(2026, 1, 5))


@pytest.mark.parametrize("symbol", ["SPY", "I:SPX"])
@pytest.mark.parametrize(("sort", "kept"), [("asc", [0, 1]), ("desc", [4, 3])])
async def test_the_limit_keeps_those_that_come_first_in_the_order(
    symbol: str, sort: str, kept: list[int]
) -> None:
    sources = Sources([bar(at) for at in range(5)])

    answer = await sources.history.bars(asked_for(f"limit=2&sort={sort}"), symbol)

    assert [one.event_ns for one in answer.bars] == [OPEN_NS + at * MINUTE_NS for at in kept]
    assert (answer.count, answer.has_more, answer.sort) == (2, True, sort)
    assert answer.quality is not None
    assert "bars_unordered" not in {one.code for one in answer.quality.reasons}


async def test_a_bar_that_cannot_be_true_is_left_out_and_counted() -> None:
    sources = Sources([bar(0), bar(1, high=0.5, low=0.7, close=0.6, open=0.6)])

    answer = await sources.history.bars(asked_for(""), "I:SPX")

    assert (answer.count, answer.dropped) == (1, {"range_inverted": 1})


async def test_no_bars_are_no_error_and_say_so() -> None:
    answer = await Sources([]).history.bars(asked_for(""), "SPY")

    assert (answer.bars, answer.count) == ((), 0)
    assert answer.quality is not None
    assert [one.code for one in answer.quality.reasons] == ["bars_missing"]


async def test_history_does_not_age_and_what_reaches_the_present_does() -> None:
    sources = Sources([bar(0)])
    past = await sources.history.bars(asked_for("", "from=2026-01-02&to=2026-01-03"), "I:SPX")
    present = await sources.history.bars(asked_for(""), "I:SPX")

    assert past.quality is not None
    assert present.quality is not None
    assert not past.quality.is_stale(CLOCK.now_ns())
    assert present.quality.is_stale(CLOCK.now_ns())


async def test_many_bars_are_judged_as_few_are() -> None:
    sources = Sources([bar(at - 2_000) for at in range(1_500)])

    answer = await sources.history.bars(asked_for("limit=1400"), "SPY")

    assert (answer.count, answer.has_more) == (1_400, True)


@pytest.mark.parametrize(
    "edges", ["from=2026-01-06&to=2026-01-05", "from=1767639600000&to=1767639599999"]
)
async def test_a_range_upside_down_is_refused(edges: str) -> None:
    sources = Sources([])

    with pytest.raises(InvalidRequest):
        await sources.history.bars(asked_for("", edges), "SPY")

    assert sources.asked == []
