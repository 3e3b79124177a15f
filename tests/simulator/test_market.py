from datetime import date, time, timedelta
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from onetape import calendar
from onetape.errors import InvalidRequest, NotFound
from onetape.model import AssetClass
from onetape.simulator.market import Hours, Market, Session, SimClock
from onetape.testing import ManualClock

STOCKS, INDICES, OPTIONS = AssetClass.STOCKS, AssetClass.INDICES, AssetClass.OPTIONS
SECOND = 1_000_000_000
THIN = 0.25
HOUR = 3600 * SECOND
FRIDAY = date(2026, 11, 20)
NOON = calendar.instant_ns(FRIDAY, time(12))
by_hours = pytest.mark.parametrize("hours", list(Hours))
splits = st.lists(st.integers(0, 20 * SECOND), max_size=6).map(
    lambda inside: sorted({0, *inside, 20 * SECOND})
)


@cache
def market(hours: Hours = Hours.ALWAYS, now_ns: int = NOON) -> Market:
    # A thin tape: these tests read whole days of it.
    return Market(clock=SimClock(clock=ManualClock(now_ns=now_ns)), hours=hours, rate=THIN)


def fresh(**settings: object) -> Market:
    thin = {"rate": THIN, **settings}
    return Market(clock=SimClock(clock=ManualClock(now_ns=NOON)), **thin)  # pyright: ignore[reportArgumentType]


def contract_near(made: Market, underlying: str = "SPY") -> str:
    trades = made.stream_trades(OPTIONS, None, NOON - 1800 * SECOND, NOON)
    return next(t.symbol for t in trades if t.symbol.startswith(f"O:{underlying}2612"))


def tape(made: Market) -> list[object]:
    start, option = NOON - 300 * SECOND, contract_near(made)
    return [
        made.trades("TSLA", start, NOON),
        made.quotes("SPY", start, NOON),
        made.values("I:VIX", start, NOON),
        made.quotes(option, start, NOON),
        made.stream_trades(OPTIONS, None, start, NOON),
        made.option_rows(made.contracts("I:VIX")[::20], NOON),
    ]


@by_hours
def test_one_seed_tells_the_same_whatever_was_asked_before(hours: Hours) -> None:
    used, unused = market(hours), fresh(hours=hours)

    assert tape(used) == tape(unused)
    assert tape(unused) == tape(used)


def test_another_seed_tells_another_tape() -> None:
    start = NOON - 300 * SECOND
    one, other = market(), fresh(seed=8)

    assert one.trades("TSLA", start, NOON) != other.trades("TSLA", start, NOON)
    assert one.values("I:VIX", start, NOON) != other.values("I:VIX", start, NOON)


def test_forgetting_changes_nothing() -> None:
    forgetful = fresh(memory_bytes=1)

    assert tape(forgetful) == tape(market())
    assert forgetful.statistics().cached <= 2


def test_the_rate_multiplies_what_happens() -> None:
    def count(made: Market) -> int:
        start = NOON - 600 * SECOND
        return (
            len(made.stream_trades(OPTIONS, None, start, NOON))
            + len(made.trades("SPY", start, NOON))
            + len(made.quotes("SPY", start, NOON))
        )

    assert count(fresh(rate=1.0)) == pytest.approx(4 * count(market()), rel=0.15)
    with pytest.raises(InvalidRequest):
        fresh(rate=0)


# ---- nothing after now ----


@by_hours
@pytest.mark.parametrize("symbol", ["SPY", "I:SPX", "option"])
def test_the_future_does_not_show(hours: Hours, symbol: str) -> None:
    made = market(hours)
    name = contract_near(made) if symbol == "option" else symbol
    far = NOON + 30 * 24 * HOUR
    ranges = (
        made.trades(name, NOON - HOUR, far),
        made.quotes(name, NOON - HOUR, far),
        made.values(name, NOON - HOUR, far),
        made.stream_quotes(STOCKS, None, NOON - SECOND, far),
        made.stream_trades(OPTIONS, None, NOON - SECOND, far),
        made.stream_values(None, NOON - SECOND, far),
    )

    assert all(tick.event_ns <= NOON for ticks in ranges for tick in ticks)
    assert all(bar.end_ns <= NOON for bar in made.closed_bars(STOCKS, None, NOON - HOUR, far))
    assert made.last_trade(name, far) == made.last_trade(name, NOON)
    assert made.last_quote(name, far) == made.last_quote(name, NOON)
    assert made.value_at(name, far) == made.value_at(name, NOON)
    assert made.day_stats(name, far) == made.day_stats(name, NOON)
    assert made.bars(name, 1, "day", NOON - 48 * HOUR, far)[-1].close == pytest.approx(
        made.day_stats(name, NOON).close
    )
    assert made.contracts("SPY", as_of=FRIDAY + timedelta(30)) == made.contracts("SPY")


def test_what_is_seen_does_not_change_when_time_passes() -> None:
    later = market(now_ns=NOON + HOUR)
    start = NOON - 300 * SECOND

    for symbol in ("SPY", contract_near(later)):
        assert later.trades(symbol, start, NOON + 1) == market().trades(symbol, start, NOON + 1)
        assert later.last_quote(symbol, NOON) == market().last_quote(symbol, NOON)
        assert later.day_stats(symbol, NOON) == market().day_stats(symbol, NOON)


# ---- agreement ----


@settings(max_examples=20, deadline=None)
@given(splits)
def test_steps_put_together_are_the_range(points: list[int]) -> None:
    made, start = market(), NOON - 20 * SECOND
    pairs = [(start + a, start + b) for a, b in pairwise(points)]

    for asset, ask in (
        (STOCKS, made.stream_trades),
        (STOCKS, made.stream_quotes),
        (INDICES, made.closed_bars),
        (STOCKS, made.closed_bars),
    ):
        steps = [tick for a, b in pairs for tick in ask(asset, None, a, b)]
        assert steps == ask(asset, None, start, NOON)
    steps = [tick for a, b in pairs for tick in made.stream_values(None, a, b)]
    assert steps == made.stream_values(None, start, NOON)


@by_hours
def test_the_stream_tells_what_history_tells(hours: Hours) -> None:
    made, start = market(hours), NOON - 30 * SECOND
    names = frozenset({"SPY", "AAPL", "I:SPX", "nobody"})

    trades = made.stream_trades(STOCKS, names, start, NOON)
    quotes = made.stream_quotes(STOCKS, names, start, NOON)
    values = made.stream_values(names, start, NOON)

    assert {tick.symbol for tick in quotes} == {"SPY", "AAPL"}
    assert [t for t in trades if t.symbol == "SPY"] == made.trades("SPY", start, NOON)
    assert [q for q in quotes if q.symbol == "AAPL"] == made.quotes("AAPL", start, NOON)
    assert values == made.values("I:SPX", start, NOON)


@by_hours
def test_closed_bars_are_the_minute_bars_and_the_day_so_far(hours: Hours) -> None:
    made, start = market(hours), NOON - 300 * SECOND
    for asset, symbol in ((STOCKS, "NVDA"), (INDICES, "I:SPX")):
        closed = made.closed_bars(asset, {symbol}, start + 1, NOON + 1)
        assert [bar[:10] for bar in closed] == [
            bar[:10] for bar in made.bars(symbol, 1, "minute", start, NOON)
        ]
        day = made.day_stats(symbol, NOON - 1)
        assert (closed[-1].day_open, closed[-1].day_volume) == (day.open, day.volume)
        assert closed[-1].day_vwap == day.vwap


@by_hours
@pytest.mark.parametrize("symbol", ["SPY", "option"])
def test_the_day_is_the_sum_of_its_trades(hours: Hours, symbol: str) -> None:
    made = market(hours)
    name = contract_near(made) if symbol == "option" else symbol
    trades = made.trades(name, NOON - 12 * HOUR, NOON + 1)
    stats = made.day_stats(name, NOON)

    assert stats.volume == sum(trade.size for trade in trades)
    assert stats.updated_ns == trades[-1].event_ns
    assert made.last_trade(name, NOON) == trades[-1]
    newest = made.trades(name, 0, NOON + 1, limit=len(trades), newest_first=True)
    assert newest == trades[::-1]


@by_hours
def test_what_stands_is_the_last_of_the_range(hours: Hours) -> None:
    made = market(hours)

    assert made.last_quote("AAPL", NOON) == made.quotes("AAPL", NOON - HOUR, NOON + 1)[-1]
    assert made.value_at("I:NDX", NOON) == made.values("I:NDX", NOON - HOUR, NOON + 1)[-1]
    option = contract_near(made)
    assert made.last_quote(option, NOON) == made.quotes(option, NOON - HOUR, NOON + 1)[-1]


def test_spy_is_about_a_tenth_of_spx_and_vix_moves_against_it() -> None:
    made = fresh(hours=Hours.EXCHANGE, rate=1.0)
    closes = {
        symbol: np.array(
            [bar.close for bar in made.bars(symbol, 1, "minute", NOON - 2 * HOUR, NOON)]
        )
        for symbol in ("SPY", "I:SPX", "I:VIX")
    }
    count = min(map(len, closes.values()))
    moves = {symbol: np.diff(np.log(values[-count:])) for symbol, values in closes.items()}

    ratio = closes["SPY"][-1] * 10 / closes["I:SPX"][-1]
    assert ratio == pytest.approx(0.998, abs=0.004)
    assert np.corrcoef(moves["SPY"], moves["I:SPX"])[0, 1] > 0.9
    assert np.corrcoef(moves["I:VIX"], moves["I:SPX"])[0, 1] < -0.5


# ---- hours ----


def test_the_exchange_sleeps_on_saturday_and_the_demo_does_not() -> None:
    saturday = NOON + 24 * HOUR
    asleep, awake = market(Hours.EXCHANGE, saturday), market(Hours.ALWAYS, saturday)

    for asset in AssetClass:
        assert not asleep.is_open(saturday, asset)
        assert awake.is_open(saturday, asset)
    assert asleep.stream_trades(STOCKS, None, saturday - HOUR, saturday) == []
    assert asleep.closed_bars(STOCKS, None, saturday - HOUR, saturday) == []
    assert awake.stream_trades(STOCKS, None, saturday - SECOND * 60, saturday) != []
    assert asleep.session_bounds(FRIDAY + timedelta(1)) is None
    assert (asleep.hours, awake.hours) == (Hours.EXCHANGE, Hours.ALWAYS)


def test_on_a_weekend_friday_still_stands() -> None:
    saturday = NOON + 24 * HOUR
    made = market(Hours.EXCHANGE, saturday)
    close = calendar.instant_ns(FRIDAY, time(16))
    end = calendar.instant_ns(FRIDAY, time(20))

    trade, quote = made.last_trade("SPY", saturday), made.last_quote("SPY", saturday)
    value = made.value_at("I:SPX", saturday)

    assert trade is not None
    assert quote is not None
    assert value is not None
    assert end - HOUR < trade.event_ns < end
    assert end - HOUR < quote.event_ns < end
    assert close - 10 * SECOND < value.event_ns < close
    today, session = made.day_stats("SPY", saturday), made.session_stats("SPY", saturday)
    assert (today.close, today.volume, today.previous_close) == (None, 0, session.close)
    assert (session.day, made.previous_day_stats("SPY", saturday)) == (FRIDAY, session)
    assert session.after_close == trade.price or session.after_close is not None


def test_after_an_early_close_only_the_evening_trades() -> None:
    day = date(2026, 11, 27)
    at = calendar.instant_ns(day, time(13, 30))
    made = market(Hours.EXCHANGE, at)

    assert made.session(at) is Session.AFTER
    assert made.session(at, OPTIONS) is Session.CLOSED
    assert made.values("I:SPX", at - HOUR // 2, at) == []
    late = made.trades("SPY", at - HOUR // 2 + SECOND, at)
    assert late
    assert all(12 in trade.conditions for trade in late)
    assert made.last_trade(contract_in(made, day), at) is not None


def contract_in(made: Market, day: date) -> str:
    bounds = made.session_bounds(day)
    assert bounds is not None
    return made.stream_trades(OPTIONS, None, bounds[0], bounds[0] + 600 * SECOND)[0].symbol


def test_before_the_open_the_day_has_volume_but_no_price() -> None:
    at = calendar.instant_ns(FRIDAY, time(8))
    made = market(Hours.EXCHANGE, at)
    stock, index = made.day_stats("SPY", at), made.day_stats("I:SPX", at)

    assert stock.close is None
    assert stock.volume
    assert stock.pre_open is not None
    assert (index.close, index.volume) == (None, None)
    assert stock.previous_close is not None
    assert index.previous_close is not None
    value = made.value_at("I:SPX", at)
    assert value is not None
    assert value.value == index.previous_close


# ---- what exists ----


def test_names_are_found_and_told_apart() -> None:
    made = market()
    option = contract_near(made)

    assert made.asset_class("SPY") is STOCKS
    assert made.asset_class("I:SPX") is INDICES
    assert made.asset_class(option) is OPTIONS
    assert not made.exists("SPX")
    assert made.instrument("SPX") is None
    assert [one.ticker for one in made.instruments(INDICES)] == ["I:NDX", "I:RUT", "I:SPX", "I:VIX"]
    assert len(made.instruments()) == len(made.optionable()) == 11
    assert made.contracts("SPX") == made.contracts("I:SPX")
    assert made.contracts("ZZZZ") == ()
    assert made.market_date(NOON) == FRIDAY
    assert made.clock.now_ns() == made.now_ns() == NOON


def test_expired_contracts_are_kept_for_a_quarter_and_remembered_longer() -> None:
    made = market()
    expired = made.contracts("SPY", expired=True)
    contract = expired[0]

    assert all(FRIDAY - timedelta(92) <= one.expiration < FRIDAY for one in expired)
    assert made.contract(contract.ticker) == contract
    assert made.contract(contract.ticker, as_of=contract.listed - timedelta(1)) is None
    assert made.trades(contract.ticker, contract.expires_ns, NOON) == []
    quote = made.last_quote(contract.ticker, NOON)
    assert quote is not None
    assert quote.event_ns < contract.expires_ns


def test_market_value_needs_a_share_count() -> None:
    trade = market().last_trade("AAPL", NOON)

    assert trade is not None
    assert market().market_cap("AAPL", NOON) == pytest.approx(trade.price * 14.84e9)
    assert market().market_cap("SPY", NOON) is None
    assert market().market_cap("ZZZZ", NOON) is None


@pytest.mark.parametrize("symbol", ["SPX", "", "O:SPY", "O:SPY261120C00000001", "spy"])
def test_what_does_not_exist_is_not_found(symbol: str) -> None:
    made = market()
    for ask in (made.last_trade, made.last_quote, made.value_at, made.day_stats):
        with pytest.raises(NotFound):
            ask(symbol, NOON)
    with pytest.raises(NotFound):
        made.bars(symbol, 1, "day", 0, NOON)


def test_an_index_does_not_trade_and_a_stock_has_no_value() -> None:
    made = market()

    assert made.trades("I:SPX", NOON - HOUR, NOON) == []
    assert made.quotes("I:SPX", NOON - HOUR, NOON) == []
    assert made.values("SPY", NOON - HOUR, NOON) == []
    assert made.last_quote("I:SPX", NOON) is None
    assert made.value_at("SPY", NOON) is None
    assert made.stream_trades(INDICES, None, NOON - SECOND, NOON) == []
    assert made.stream_quotes(INDICES, None, NOON - SECOND, NOON) == []


def test_before_its_first_day_the_market_is_empty() -> None:
    made, ancient = market(), calendar.instant_ns(date(2024, 1, 1), time(12))

    assert made.last_trade("SPY", ancient) is None
    assert made.last_quote("SPY", ancient) is None
    assert made.value_at("I:SPX", ancient) is None
    assert made.last_bar("SPY", 60, ancient) is None
    assert made.option_rows(made.contracts("SPY")[:5], ancient) == []
    assert made.day_stats("SPY", ancient) == made.session_stats("SPY", ancient)
    assert made.previous_day_stats("SPY", ancient) is None
    assert made.bars("SPY", 1, "day", 0, ancient) == []


def test_the_first_day_has_no_previous_close_but_has_chains() -> None:
    at = calendar.instant_ns(date(2024, 1, 2), time(12))
    made = market(now_ns=at)

    assert made.day_stats("SPY", at).previous_close is None
    assert made.option_rows(made.contracts("SPY")[:50], at)


def test_warming_makes_a_day_ahead_a_piece_at_a_time() -> None:
    made = fresh()

    pieces = list(made.warm(NOON))
    misses = made.statistics().misses
    made.stream_trades(OPTIONS, None, NOON - SECOND, NOON)

    assert len(pieces) == 22
    assert made.statistics().misses == misses
    assert list(made.warm(0)) == []
