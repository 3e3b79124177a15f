"""Judged by TA-Lib, bar for bar."""

import ast
import sys
from collections.abc import Sequence
from datetime import date, time
from math import inf, nan
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import pytest
import talib
from hypothesis import example, given, strategies as st
from numpy.typing import NDArray

from onetape import analytics
from onetape.analytics.indicators import (
    EMA_WINDOWS,
    Series,
    adx,
    atr,
    bollinger,
    ema,
    last_adx,
    last_atr,
    last_bollinger,
    last_ema,
    last_macd,
    last_rsi,
    last_sma,
    last_vwap,
    macd,
    rsi,
    sma,
    summary,
    vwap,
)
from onetape.calendar import instant_ns
from onetape.model import Bar

Floats: TypeAlias = NDArray[np.float64]

MINUTE_NS = 60_000_000_000
NOON_NS = instant_ns(date(2026, 3, 6), time(12))


class Range(NamedTuple):
    low: float
    close: float
    high: float


def cents(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda number: number / 100)


def walked(moves: Sequence[int], base: int) -> list[float]:
    return [max(1, base + int(level)) / 100 for level in np.cumsum(moves)]


def repeated(price: float, count: int) -> list[float]:
    return [price] * count


prices = st.one_of(
    st.lists(cents(1, 1_000_000), max_size=90),
    st.builds(walked, st.lists(st.integers(-40, 40), max_size=120), st.integers(100, 700_000)),
    st.builds(repeated, cents(1, 700_000), st.integers(0, 60)),
)
ranges = st.lists(
    st.tuples(cents(100, 3000), cents(100, 3000), cents(100, 3000)).map(sorted), max_size=90
).map(lambda rows: [Range(*row) for row in rows])
flat = [Range(5.0, 5.0, 5.0)] * 40


def bars_of(
    rows: Sequence[Range], *, volumes: Sequence[float | None] = (), start_ns: int = NOON_NS
) -> list[Bar]:
    return [
        Bar(
            symbol="SPY",
            event_ns=start_ns + place * MINUTE_NS,
            end_ns=start_ns + (place + 1) * MINUTE_NS,
            received_ns=0,
            provider="massive",
            open=row.close,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=volumes[place] if volumes else None,
        )
        for place, row in enumerate(rows)
    ]


def columns(rows: Sequence[Range]) -> tuple[Floats, Floats, Floats]:
    """High, low, close as TA-Lib takes them."""
    low, close, high = np.array(rows, dtype=float).reshape(-1, 3).T.copy()
    return high, low, close


def agree(ours: Series, theirs: Floats, *, scale: float = 1) -> None:
    """Same leading None, same values to a part in 10^9."""
    assert len(ours) == len(theirs)
    assert [value is None for value in ours] == np.isnan(theirs).tolist()
    known = [value for value in ours if value is not None]
    np.testing.assert_allclose(known, theirs[~np.isnan(theirs)], rtol=1e-9, atol=1e-9 * scale)


# ---- of prices ----


@given(prices, st.integers(2, 30))
def test_moving_averages_are_talib_s(series: list[float], window: int) -> None:
    array = np.array(series, dtype=float)

    agree(sma(series, window), talib.SMA(array, window))
    agree(ema(series, window), talib.EMA(array, window))


@given(prices, st.integers(2, 30))
@example([50.0] * 20, 14)
def test_rsi_is_talib_s(series: list[float], window: int) -> None:
    agree(rsi(series, window), talib.RSI(np.array(series, dtype=float), window))


@given(prices, st.integers(2, 20), st.integers(2, 30), st.integers(1, 12))
def test_macd_is_talib_s_also_with_its_windows_exchanged(
    series: list[float], fast: int, slow: int, signal: int
) -> None:
    theirs = talib.MACD(np.array(series, dtype=float), fast, slow, signal)

    for ours, line in zip(macd(series, fast, slow, signal), theirs, strict=True):
        agree(ours, line, scale=max(series, default=1))


@given(prices, st.integers(2, 30), st.floats(0.5, 3))
def test_bollinger_bands_are_talib_s(series: list[float], window: int, width: float) -> None:
    theirs = talib.BBANDS(np.array(series, dtype=float), window, width, width)
    # TA-Lib subtracts squares of prices: of a nearly flat series it keeps half of the digits.
    loss = 100 * max(series, default=1)

    upper, middle, lower = bollinger(series, window, width)

    agree(middle, theirs[1])
    agree(upper, theirs[0], scale=loss)
    agree(lower, theirs[2], scale=loss)


def test_bollinger_bands_of_a_series_that_moves_agree_to_a_part_in_ten_to_the_ninth() -> None:
    series = (100 + np.random.default_rng(7).normal(0, 1, 400).cumsum()).tolist()

    for ours, theirs in zip(
        bollinger(series), talib.BBANDS(np.array(series), 20, 2, 2), strict=True
    ):
        agree(ours, theirs)


def test_bands_around_a_flat_series_are_flat() -> None:
    assert last_bollinger([6845.17] * 30) == (6845.17, 6845.17, 6845.17)


# ---- of bars ----


@given(ranges, st.integers(2, 20))
@example(flat, 14)
def test_atr_is_talib_s(rows: list[Range], window: int) -> None:
    agree(atr(bars_of(rows), window), talib.ATR(*columns(rows), window))


@given(ranges, st.integers(2, 20))
@example(flat, 14)
@example([Range(4.0, 5.0, 6.0)] * 40, 5)
@example([Range(4.0, 5.0, 6.0 + place) for place in range(12)] + flat, 3)
def test_adx_is_talib_s(rows: list[Range], window: int) -> None:
    agree(adx(bars_of(rows), window), talib.ADX(*columns(rows), window))


def test_a_window_of_one_is_the_series_itself() -> None:
    rows = [Range(1.0, 2.0, 3.0), Range(2.0, 2.0, 5.0), Range(4.0, 4.0, 4.0)]

    assert sma([3.0, 1.0], 1) == ema([3.0, 1.0], 1) == (3.0, 1.0)
    assert atr(bars_of(rows), 1) == (None, 3.0, 2.0)


def test_vwap_weighs_typical_prices_by_volume_from_the_first_volume_on() -> None:
    """R250: computed, not a stub."""
    bars = bars_of(
        [Range(1.0, 2.0, 3.0), Range(2.0, 3.0, 4.0), Range(5.0, 6.0, 7.0)],
        volumes=[0.0, 30.0, 10.0],
    )

    assert vwap(bars) == (None, 3.0, (30 * 3 + 10 * 6) / 40)


def test_vwap_prefers_what_the_bar_says_of_itself() -> None:
    (bar,) = bars_of([Range(1.0, 2.0, 3.0)], volumes=[10.0])

    assert vwap([msgspec.structs.replace(bar, vwap=1.5)]) == (1.5,)


def test_vwap_begins_anew_at_midnight_in_new_york() -> None:
    """Section 2.14: the source lacked the reset. 23:58 EST is another day in UTC."""
    late = instant_ns(date(2026, 3, 5), time(23, 58))
    rows = [Range(1.0, 1.0, 1.0), Range(3.0, 3.0, 3.0), Range(7.0, 7.0, 7.0)]

    assert vwap(bars_of(rows, volumes=[1, 1, 1], start_ns=late)) == (1.0, 2.0, 7.0)


def test_vwap_is_unknown_for_the_day_once_a_volume_is() -> None:
    rows = [Range(1.0, 1.0, 1.0)] * 3

    assert vwap(bars_of(rows, volumes=[1.0, None, 1.0])) == (1.0, None, None)
    assert vwap(bars_of(rows)) == (None, None, None)


# ---- the newest values ----


@given(ranges)
def test_the_newest_value_is_the_last_of_the_series(rows: list[Range]) -> None:
    bars, closes = bars_of(rows, volumes=[2.0] * len(rows)), [row.close for row in rows]

    def newest(series: Series) -> float | None:
        return series[-1] if series else None

    assert last_sma(closes, 5) == newest(sma(closes, 5))
    assert last_ema(closes, 5) == newest(ema(closes, 5))
    assert last_rsi(closes) == newest(rsi(closes))
    assert last_macd(closes) == tuple(map(newest, macd(closes)))
    assert last_bollinger(closes) == tuple(map(newest, bollinger(closes)))
    assert last_atr(bars) == newest(atr(bars))
    assert last_adx(bars) == newest(adx(bars))
    assert last_vwap(bars) == newest(vwap(bars))


def test_two_hundred_bars_have_every_indicator() -> None:
    """R207, R250: names and values of the summary that index snapshots carry."""
    closes = (5000 + np.random.default_rng(11).normal(0, 3, 200).cumsum()).round(2)
    rows = [Range(close - 1, close, close + 2) for close in closes.tolist()]
    high, low, _ = columns(rows)

    found = summary(bars_of(rows, volumes=[1.0] * 200))

    assert all(value is not None for value in found.values())
    assert {f"ema_{window}" for window in EMA_WINDOWS} < set(found)
    for window in EMA_WINDOWS:
        assert found[f"ema_{window}"] == pytest.approx(talib.EMA(closes, window)[-1], rel=1e-9)
    macd_lines = [line[-1] for line in talib.MACD(closes)]
    assert [found[f"macd{part}"] for part in ("", "_signal", "_histogram")] == pytest.approx(
        macd_lines, abs=1e-8
    )
    assert found["rsi_14"] == pytest.approx(talib.RSI(closes)[-1], rel=1e-9)
    assert found["atr_14"] == pytest.approx(talib.ATR(high, low, closes)[-1], rel=1e-9)
    assert found["adx_14"] == pytest.approx(talib.ADX(high, low, closes)[-1], rel=1e-9)
    assert found["bollinger_upper"] == pytest.approx(talib.BBANDS(closes, 20)[0][-1], rel=1e-9)


def test_without_bars_every_indicator_is_none() -> None:
    assert set(summary([]).values()) == {None}


# ---- what is refused ----


@pytest.mark.parametrize("wrong", [nan, inf])
def test_one_number_that_is_none_spoils_nothing_but_is_refused(wrong: float) -> None:
    series = [1.0, wrong, 3.0]

    for function in (sma, ema, rsi, bollinger):
        with pytest.raises(ValueError, match="finite"):
            function(series, 2)
    with pytest.raises(ValueError, match="finite"):
        macd(series)
    for of_bars in (atr, adx):
        with pytest.raises(ValueError, match="finite"):
            of_bars(bars_of([Range(1.0, wrong, 3.0)]), 2)
    with pytest.raises(ValueError, match="finite"):
        vwap(bars_of([Range(wrong, 1.0, 3.0)]))


def test_a_window_too_short_to_mean_anything_is_refused() -> None:
    for function in (sma, ema, last_sma):
        with pytest.raises(ValueError, match="at least 1"):
            function([1.0], 0)
    for function in (rsi, bollinger, last_bollinger):
        with pytest.raises(ValueError, match="at least"):
            function([1.0], 0)
    for windows in ((1, 26, 9), (12, 1, 9), (12, 26, 0)):
        with pytest.raises(ValueError, match="at least"):
            macd([1.0], *windows)
    with pytest.raises(ValueError, match="at least 2"):
        adx([], 1)
    with pytest.raises(ValueError, match="at least 1"):
        atr([], 0)


def test_analytics_import_only_the_standard_library_and_our_model() -> None:
    """R282."""
    sources = Path(analytics.__file__).parent.glob("*.py")
    imported: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")

    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in foreign} == {"onetape"}
