from datetime import date, time, timedelta
from functools import cache

import pytest

from onetape import calendar
from onetape.errors import InvalidRequest
from onetape.simulator.market import BarTick, Hours, Market, SimClock, TradeTick
from onetape.simulator.seeded.conditions import BY_ID, FORM_T
from onetape.simulator.seeded.sessions import midnight_ns
from onetape.testing import ManualClock

SECOND = 1_000_000_000
DAY = date(2026, 11, 19)
NOON = calendar.instant_ns(DAY, time(12, 0, 30))
by_hours = pytest.mark.parametrize("hours", list(Hours))


@cache
def market(hours: Hours = Hours.EXCHANGE) -> Market:
    return Market(clock=SimClock(clock=ManualClock(now_ns=NOON)), hours=hours)


def eligible(trade: TradeTick, *, of_day: bool) -> bool:
    return all(
        BY_ID[code].updates_open_close or (code == FORM_T and not of_day)
        for code in trade.conditions
    )


def naive(trades: list[TradeTick], start: int, end: int, *, of_day: bool) -> tuple[object, ...]:
    mine = [trade for trade in trades if start <= trade.event_ns < end]
    prices = [trade.price for trade in mine if eligible(trade, of_day=of_day)]
    volume = sum(trade.size for trade in mine)
    vwap = sum(round(t.price * 10_000) * t.size for t in mine) / volume / 10_000
    rounded = pytest.approx(vwap, abs=6e-5)
    return prices[0], max(prices), min(prices), prices[-1], volume, rounded, len(mine)


def figures(bar: BarTick) -> tuple[object, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.transactions


@by_hours
@pytest.mark.parametrize(("multiplier", "timespan"), [(1, "second"), (1, "minute"), (5, "minute")])
def test_bars_are_what_a_loop_over_the_trades_gives(
    hours: Hours, multiplier: int, timespan: str
) -> None:
    made, start = market(hours), NOON - 1830 * SECOND
    trades = made.trades("AAPL", start, NOON)
    bars = made.bars("AAPL", multiplier, timespan, start, NOON)

    assert bars
    for bar in bars:
        assert figures(bar) == naive(trades, bar.start_ns, bar.end_ns, of_day=False)
    width = bars[0].end_ns - bars[0].start_ns
    expected = {
        trade.event_ns // width * width for trade in trades if eligible(trade, of_day=False)
    }
    assert {bar.start_ns for bar in bars} == expected


@by_hours
def test_a_day_bar_is_what_its_tape_gives(hours: Hours) -> None:
    made, yesterday = market(hours), DAY - timedelta(days=1)
    start, end = midnight_ns(yesterday), midnight_ns(DAY)
    trades = made.trades("TSLA", start, end)

    (bar,) = made.bars("TSLA", 1, "day", start, end)

    assert (bar.start_ns, bar.end_ns) == (start, end)
    assert figures(bar) == naive(trades, start, end, of_day=True)


@by_hours
def test_longer_bars_are_made_of_days(hours: Hours) -> None:
    made = market(hours)
    start = midnight_ns(date(2026, 11, 1))
    days = made.bars("NVDA", 1, "day", start, NOON)

    for timespan in ("week", "month"):
        for bar in made.bars("NVDA", 1, timespan, start, NOON):
            mine = [day for day in days if bar.start_ns <= day.start_ns < bar.end_ns]
            assert (bar.open, bar.close) == (mine[0].open, mine[-1].close)
            assert bar.high == max(day.high for day in mine)
            assert bar.low == min(day.low for day in mine)
            assert bar.volume == sum(day.volume or 0 for day in mine)


@pytest.mark.parametrize(
    ("timespan", "first"),
    [
        ("week", date(2026, 10, 4)),
        ("month", date(2026, 10, 1)),
        ("quarter", date(2026, 10, 1)),
        ("year", date(2026, 1, 1)),
    ],
)
def test_stamps_are_the_first_midnight_of_the_window(timespan: str, first: date) -> None:
    bars = market().bars("I:SPX", 1, timespan, midnight_ns(first), NOON)

    assert bars[0].start_ns == midnight_ns(first)
    assert market().bars("I:SPX", 1, timespan, midnight_ns(first) + 1, NOON) == bars[1:]


@by_hours
@pytest.mark.parametrize("width", [(1, "minute"), (2, "hour"), (1, "day"), (2, "week")])
def test_newest_first_is_the_reverse(hours: Hours, width: tuple[int, str]) -> None:
    made, start = market(hours), NOON - 40 * 86_400 * SECOND
    start = start if width[1] in {"day", "week"} else NOON - 2 * 86_400 * SECOND
    there = made.bars("I:RUT", *width, start, NOON)

    back = list(made.iter_bars("I:RUT", *width, start, NOON, newest_first=True))

    assert back == there[::-1]
    assert all(bar.volume is None and bar.vwap is None for bar in there)


def test_the_newest_bar_is_the_window_so_far() -> None:
    made = market()
    minute = made.bars("SPY", 1, "minute", NOON - 60 * SECOND, NOON)[-1]
    day = made.bars("SPY", 1, "day", midnight_ns(DAY), NOON + 1)[-1]

    assert minute.start_ns == NOON - 30 * SECOND
    assert minute == made.last_bar("SPY", 60, NOON)
    assert day.close == made.day_stats("SPY", NOON).close
    assert day.volume == sum(t.size for t in made.trades("SPY", midnight_ns(DAY), NOON + 1))


def test_options_have_bars_from_their_first_day_to_their_last() -> None:
    made = market()
    expired = made.contracts("SPY", as_of=date(2026, 11, 13), expired=True)
    contract = expired[-100]

    days = made.bars(contract.ticker, 1, "day", 0, NOON)
    weeks = made.bars(contract.ticker, 1, "week", 0, NOON)

    assert sum(bar.volume or 0 for bar in days) == sum(bar.volume or 0 for bar in weeks)
    assert all(midnight_ns(contract.listed) <= bar.start_ns < contract.expires_ns for bar in days)


@pytest.mark.parametrize("width", [(0, "minute"), (1, "fortnight"), (-1, "day")])
def test_other_widths_are_refused(width: tuple[int, str]) -> None:
    with pytest.raises(InvalidRequest):
        market().bars("SPY", *width, 0, NOON)


def test_an_empty_range_has_no_bars() -> None:
    assert market().bars("SPY", 1, "minute", NOON, NOON) == []
    assert market().bars("SPY", 1, "day", NOON + 1, NOON + 86_400 * SECOND) == []
