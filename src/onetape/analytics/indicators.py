"""Averages, strength, ranges and bands, as TA-Lib defines them.

Each function takes a series, oldest first, and returns one as long: None where there is
not yet a value, where TA-Lib has NaN. `last_…` gives the newest value only. What is not
finite in the input is refused with ValueError: one NaN would spoil all that follows.

    prices   sma   mean of the last `window`
             ema   a = 2 / (window + 1), begun with the mean of the first `window`
             rsi   Wilder: gains and losses averaged with a = 1 / window; 0 where nothing moved
             macd  ema(fast) - ema(slow), its ema as signal, and their difference; the fast
                   average begins where the slow one does, all three where the signal does
             bollinger  mean of the last `window` and `width` deviations (of the population)
    bars     atr   Wilder's average of the true range, from the second bar on
             adx   Wilder's average of how one-sided the moves are, 0 to 100
             vwap  volume-weighted average price since the day began in New York

An exponential average never forgets where it began. To agree with others, begin as early:
four windows back what came before weighs less than 1/2000, eight windows for Wilder's.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import isfinite, sqrt
from typing import Final, NamedTuple, TypeAlias

from onetape.analytics.bars import window_of
from onetape.model import Bar

Series: TypeAlias = tuple[float | None, ...]
"""One value per bar, oldest first; None where there is not yet one."""

_ZERO: Final = 1e-14
"""What is nearer to nothing counts as nothing, as in TA-Lib."""


class Macd(NamedTuple):
    """Convergence, its signal line, and the first less the second."""

    value: Series
    signal: Series
    histogram: Series


class MacdPoint(NamedTuple):
    """The newest values of a `Macd`."""

    value: float | None
    signal: float | None
    histogram: float | None


class Bands(NamedTuple):
    """Bollinger's bands around a moving average."""

    upper: Series
    middle: Series
    lower: Series


class BandsPoint(NamedTuple):
    """The newest values of `Bands`."""

    upper: float | None
    middle: float | None
    lower: float | None


# ---- of prices ----


def sma(prices: Sequence[float], window: int) -> Series:
    """Return the simple moving average."""
    _check(window)
    _check_finite(prices)
    return _padded(_means(prices, window), len(prices))


def ema(prices: Sequence[float], window: int) -> Series:
    """Return the exponential moving average."""
    _check(window)
    _check_finite(prices)
    return _padded(_smoothed(prices, window, 2 / (window + 1)), len(prices))


def rsi(prices: Sequence[float], window: int = 14) -> Series:
    """Return Wilder's relative strength index, 0 to 100."""
    _check(window, least=2)
    _check_finite(prices)
    moves = [after - before for before, after in pairwise(prices)]
    gains = _smoothed([max(move, 0.0) for move in moves], window, 1 / window)
    losses = _smoothed([max(-move, 0.0) for move in moves], window, 1 / window)
    both = zip(gains, losses, strict=True)
    strengths = [100 * _share(gain, gain + loss) for gain, loss in both]
    return _padded(strengths, len(prices))


def macd(prices: Sequence[float], fast: int = 12, slow: int = 26, signal: int = 9) -> Macd:
    """Return the moving average convergence and divergence."""
    _check(signal)
    _check(fast, least=2)
    _check(slow, least=2)
    _check_finite(prices)
    fast, slow = sorted((fast, slow))
    quick = _smoothed(prices[slow - fast :], fast, 2 / (fast + 1))
    steady = _smoothed(prices, slow, 2 / (slow + 1))
    line = [one - other for one, other in zip(quick, steady, strict=True)]
    smooth = _smoothed(line, signal, 2 / (signal + 1))
    line = line[signal - 1 :]
    gaps = [one - other for one, other in zip(line, smooth, strict=True)]
    count = len(prices)
    return Macd(_padded(line, count), _padded(smooth, count), _padded(gaps, count))


def bollinger(prices: Sequence[float], window: int = 20, width: float = 2.0) -> Bands:
    """Return the bands `width` standard deviations above and below the moving average."""
    _check(window, least=2)
    _check_finite(prices)
    middle = _means(prices, window)
    reach = [
        width * sqrt(sum((price - mean) ** 2 for price in prices[at : at + window]) / window)
        for at, mean in enumerate(middle)
    ]
    count = len(prices)
    return Bands(
        _padded([mean + away for mean, away in zip(middle, reach, strict=True)], count),
        _padded(middle, count),
        _padded([mean - away for mean, away in zip(middle, reach, strict=True)], count),
    )


# ---- of bars ----


def atr(bars: Sequence[Bar], window: int = 14) -> Series:
    """Return Wilder's average true range, in the unit of the prices."""
    _check(window)
    _check_bars(bars)
    return _padded(_smoothed(list(_true_ranges(bars)), window, 1 / window), len(bars))


def adx(bars: Sequence[Bar], window: int = 14) -> Series:
    """Return Wilder's average directional index, 0 to 100: strength of a trend, not direction."""
    _check(window, least=2)
    _check_bars(bars)
    indices = list(_directional(bars, window))
    if len(indices) < window:
        return (None,) * len(bars)
    # A bar without any range tells nothing: it counts as 0 at the start, later not at all.
    average = sum(index or 0.0 for index in indices[:window]) / window
    averages = [average]
    for index in indices[window:]:
        if index is not None:
            average = (average * (window - 1) + index) / window
        averages.append(average)
    return _padded(averages, len(bars))


def vwap(bars: Sequence[Bar]) -> Series:
    """Return the volume-weighted average price, begun anew on each day of New York.

    A bar counts with its own `vwap`; without one with the mean of high, low and close. None
    before the first volume of a day, and for the rest of it after a bar whose volume is not
    known: an index has none at all. To count regular hours only, give only their bars
    (`bars.regular_hours`).
    """
    _check_bars(bars)
    averages: list[float | None] = []
    day_end_ns, worth, volume = 0, 0.0, 0.0
    for bar in bars:
        if bar.event_ns >= day_end_ns:
            day_end_ns, worth, volume = window_of(bar.event_ns, "1d").end_ns, 0.0, 0.0
        if bar.volume is None:
            volume = float("nan")
        elif bar.volume > 0:
            typical = (bar.high + bar.low + bar.close) / 3
            worth += bar.volume * (typical if bar.vwap is None else bar.vwap)
            volume += bar.volume
        averages.append(worth / volume if volume > 0 else None)
    return tuple(averages)


# ---- the newest value ----


def last_sma(prices: Sequence[float], window: int) -> float | None:
    """Return the newest value of `sma`."""
    return _last(sma(prices[-window:] if window > 0 else prices, window))


def last_ema(prices: Sequence[float], window: int) -> float | None:
    """Return the newest value of `ema`."""
    return _last(ema(prices, window))


def last_rsi(prices: Sequence[float], window: int = 14) -> float | None:
    """Return the newest value of `rsi`."""
    return _last(rsi(prices, window))


def last_macd(
    prices: Sequence[float], fast: int = 12, slow: int = 26, signal: int = 9
) -> MacdPoint:
    """Return the newest values of `macd`."""
    return MacdPoint(*map(_last, macd(prices, fast, slow, signal)))


def last_bollinger(prices: Sequence[float], window: int = 20, width: float = 2.0) -> BandsPoint:
    """Return the newest values of `bollinger`."""
    recent = prices[-window:] if window > 0 else prices
    return BandsPoint(*map(_last, bollinger(recent, window, width)))


def last_atr(bars: Sequence[Bar], window: int = 14) -> float | None:
    """Return the newest value of `atr`."""
    return _last(atr(bars, window))


def last_adx(bars: Sequence[Bar], window: int = 14) -> float | None:
    """Return the newest value of `adx`."""
    return _last(adx(bars, window))


def last_vwap(bars: Sequence[Bar]) -> float | None:
    """Return the newest value of `vwap`."""
    return _last(vwap(bars))


EMA_WINDOWS: Final = (8, 9, 20, 21, 50, 200)
"""The exponential averages in `summary`."""


def summary(bars: Sequence[Bar]) -> dict[str, float | None]:
    """Return the newest values of all, of closing prices, by names that never change.

    `ema_8` and the other `EMA_WINDOWS`, `rsi_14`, `atr_14`, `adx_14`, `macd`, `macd_signal`,
    `macd_histogram`, `bollinger_upper`, `bollinger_middle`, `bollinger_lower`, `vwap`.
    """
    closes = [bar.close for bar in bars]
    converged, bands = last_macd(closes), last_bollinger(closes)
    return {
        **{f"ema_{window}": last_ema(closes, window) for window in EMA_WINDOWS},
        "rsi_14": last_rsi(closes),
        "atr_14": last_atr(bars),
        "adx_14": last_adx(bars),
        "macd": converged.value,
        "macd_signal": converged.signal,
        "macd_histogram": converged.histogram,
        "bollinger_upper": bands.upper,
        "bollinger_middle": bands.middle,
        "bollinger_lower": bands.lower,
        "vwap": last_vwap(bars),
    }


# ---- private ----


def _check(window: int, *, least: int = 1) -> None:
    if window < least:
        raise ValueError(f"a window is at least {least} long")


def _check_finite(prices: Iterable[float]) -> None:
    if not all(map(isfinite, prices)):
        raise ValueError("a price is not a finite number")


def _check_bars(bars: Sequence[Bar]) -> None:
    _check_finite(price for bar in bars for price in (bar.high, bar.low, bar.close))


def _padded(values: Sequence[float], count: int) -> Series:
    return (None,) * (count - len(values)) + tuple(values)


def _last(series: Series) -> float | None:
    return series[-1] if series else None


def _share(part: float, whole: float) -> float:
    return 0.0 if abs(whole) < _ZERO else part / whole


def _means(prices: Sequence[float], window: int) -> list[float]:
    """Return the means of all whole windows.

    Each is summed anew: a running sum would keep the rounding of every price it ever held.
    """
    return [sum(prices[at : at + window]) / window for at in range(len(prices) - window + 1)]


def _smoothed(values: Sequence[float], window: int, weight: float) -> list[float]:
    """Average exponentially, begun with the mean of the first window."""
    if len(values) < window:
        return []
    first = sum(values[:window]) / window
    return list(
        accumulate(
            values[window:],
            lambda average, value: average + weight * (value - average),
            initial=first,
        )
    )


def _true_ranges(bars: Sequence[Bar]) -> Iterator[float]:
    for before, bar in pairwise(bars):
        yield max(bar.high, before.close) - min(bar.low, before.close)


def _directional(bars: Sequence[Bar], window: int) -> Iterator[float | None]:
    """Yield Wilder's index of each bar from the one at `window` on; None without any range."""
    kept = 1 - 1 / window
    up, down, ranges = 0.0, 0.0, 0.0
    moves = zip(pairwise(bars), _true_ranges(bars), strict=True)
    for place, ((before, bar), true_range) in enumerate(moves, start=1):
        if place >= window:
            up, down, ranges = up * kept, down * kept, ranges * kept
        rise, fall = bar.high - before.high, before.low - bar.low
        up += rise if rise > max(fall, 0.0) else 0.0
        down += fall if fall > max(rise, 0.0) else 0.0
        ranges += true_range
        if place >= window:
            yield _one_sided(up, down, ranges)


def _one_sided(up: float, down: float, ranges: float) -> float | None:
    if abs(ranges) < _ZERO:
        return None
    both = 100 * up / ranges + 100 * down / ranges
    if abs(both) < _ZERO:
        return None
    return 100 * abs(up - down) / (up + down)
