from collections.abc import Sequence
from datetime import date, time
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from onetape import calendar
from onetape.errors import InvalidRequest
from onetape.model import AssetClass
from onetape.simulator.market import Hours, Market, SimClock
from onetape.testing import ManualClock

OPTIONS = AssetClass.OPTIONS
DAY = date(2026, 11, 19)
NOON = calendar.instant_ns(DAY, time(12))
SECOND = 1_000_000_000
splits = st.lists(st.integers(0, 30 * SECOND), max_size=8).map(
    lambda inside: sorted({0, *inside, 30 * SECOND})
)


@cache
def market() -> Market:
    clock = SimClock(clock=ManualClock(now_ns=NOON + 3600 * SECOND))
    return Market(clock=clock, hours=Hours.ALWAYS, rate=0.5)


@cache
def some() -> frozenset[str]:
    near = [
        contract.ticker
        for underlying in ("I:SPX", "SPY", "NVDA")
        for contract in market().contracts(underlying)[100:900:8]
    ]
    return frozenset([*near, "O:ZZZZ261120C00100000", "SPY"])


@settings(max_examples=25, deadline=None)
@given(splits)
def test_steps_put_together_are_the_range(points: list[int]) -> None:
    made, pairs = market(), list(pairwise(points))

    def quotes(a: int, b: int) -> Sequence[object]:
        return made.stream_quotes(OPTIONS, some(), a, b)

    def trades(a: int, b: int) -> Sequence[object]:
        return made.stream_trades(OPTIONS, None, a, b)

    def bars(a: int, b: int) -> Sequence[object]:
        return made.closed_bars(OPTIONS, None, a, b, seconds=1)

    for ask in (quotes, trades, bars):
        steps = [tick for a, b in pairs for tick in ask(NOON + a, NOON + b)]
        assert steps == ask(NOON, NOON + 30 * SECOND)


def test_the_stream_tells_what_history_tells() -> None:
    made, end = market(), NOON + 120 * SECOND
    quotes = made.stream_quotes(OPTIONS, some(), NOON, end)
    trades = made.stream_trades(OPTIONS, some(), NOON, end)

    for symbol in sorted(some() - {"SPY", "O:ZZZZ261120C00100000"})[::10]:
        assert [q for q in quotes if q.symbol == symbol] == made.quotes(symbol, NOON, end)
        assert [t for t in trades if t.symbol == symbol] == made.trades(symbol, NOON, end)


def test_some_symbols_are_a_filter_of_all() -> None:
    every = market().stream_trades(OPTIONS, None, NOON, NOON + 600 * SECOND)

    filtered = market().stream_trades(OPTIONS, list(some()), NOON, NOON + 600 * SECOND)

    assert filtered == [tick for tick in every if tick.symbol in some()]


def test_a_closed_bar_is_made_of_the_trades_of_its_window_and_day() -> None:
    made = market()
    end = NOON + 60 * SECOND
    bars = made.closed_bars(OPTIONS, None, end, end + 1)
    trades = made.stream_trades(OPTIONS, None, NOON, end)

    assert {bar.symbol for bar in bars} == {trade.symbol for trade in trades}
    for bar in bars:
        mine = [trade for trade in trades if trade.symbol == bar.symbol]
        today = made.trades(bar.symbol, NOON - 12 * 3600 * SECOND, end)
        assert (bar.start_ns, bar.end_ns) == (NOON, end)
        assert (bar.open, bar.close) == (mine[0].price, mine[-1].price)
        assert (bar.volume, bar.transactions) == (sum(t.size for t in mine), len(mine))
        assert bar.day_volume == sum(t.size for t in today)
        assert bar.day_open == today[0].price


def test_bars_of_some_symbols_are_a_filter_of_all() -> None:
    every = market().closed_bars(OPTIONS, None, NOON, NOON + 300 * SECOND)

    found = market().closed_bars(OPTIONS, some(), NOON, NOON + 300 * SECOND)

    assert found == [bar for bar in every if bar.symbol in some()]


def test_midnight_is_crossed_without_a_gap() -> None:
    midnight = calendar.instant_ns(DAY, time(0))
    made, names = market(), some()
    across = made.stream_quotes(OPTIONS, names, midnight - 5 * SECOND, midnight + 5 * SECOND)

    before = made.stream_quotes(OPTIONS, names, midnight - 5 * SECOND, midnight)
    after = made.stream_quotes(OPTIONS, names, midnight, midnight + 5 * SECOND)

    assert before
    assert after
    assert across == before + after


def test_all_option_quotes_are_refused_and_the_exchange_rests_at_night() -> None:
    closed = Market(clock=SimClock(clock=ManualClock(now_ns=NOON)), hours=Hours.EXCHANGE)
    night = calendar.instant_ns(DAY, time(2))

    with pytest.raises(InvalidRequest):
        market().stream_quotes(OPTIONS, None, NOON, NOON + SECOND)
    early = calendar.instant_ns(DAY, time(8))
    for at in (night, early):
        assert closed.stream_quotes(OPTIONS, some(), at, at + 60 * SECOND) == []
        assert closed.stream_trades(OPTIONS, some(), at, at + 60 * SECOND) == []
        assert closed.closed_bars(OPTIONS, None, at, at + 60 * SECOND) == []
