"""Moving averages, strength and convergence over a series of prices, as traders define them.

Pure functions. An exponential average remembers everything, so what a value is would
depend on where one began. Here each value looks back exactly `depth` prices (fewer only
where the series itself begins), so it does not depend on which page it is asked for in.
About as far as the vendor's own look back: what came before weighs less than 1/2000.

    sma    mean of the last `window` prices
    ema    seeded with the mean of the first `window`, then a = 2 / (window + 1)
    rsi    Wilder: gains and losses averaged with a = 1 / window
    macd   ema(short) - ema(long), its own ema as signal, and their difference
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Series: TypeAlias = NDArray[np.float64]
"""One float per bar, oldest first; NaN where there is not yet a value."""

_EMA_MEMORY: Final = 4  # windows looked back: (1 - 2/(w+1))^4w is about e^-8
_WILDER_MEMORY: Final = 8  # a = 1/w forgets half as fast


class Macd(NamedTuple):
    """Convergence, its signal line and the distance between them."""

    value: Series
    signal: Series
    histogram: Series


def sma_depth(window: int) -> int:
    """How many prices a value of `sma` is made of."""
    return window


def ema_depth(window: int) -> int:
    """How many prices a value of `ema` is made of."""
    return window * _EMA_MEMORY


def rsi_depth(window: int) -> int:
    """How many prices a value of `rsi` is made of."""
    return window * _WILDER_MEMORY + 1


def macd_depth(short: int, long: int, signal: int) -> int:
    """How many prices a point of `macd` is made of."""
    return ema_depth(max(short, long)) + ema_depth(signal) - 1


def sma(prices: Series, window: int) -> Series:
    """Return the simple moving average."""
    out = np.full(len(prices), np.nan)
    if len(prices) >= window:
        out[window - 1 :] = _means(prices, window, len(prices) - window + 1)
    return out


def ema(prices: Series, window: int) -> Series:
    """Return the exponential moving average."""
    return _smoothed(prices, window, alpha=2 / (window + 1), depth=ema_depth(window))


def rsi(prices: Series, window: int) -> Series:
    """Return Wilder's relative strength index, 0 to 100; 50 where nothing moves."""
    moves = np.diff(prices)
    depth = rsi_depth(window) - 1
    gains = _smoothed(np.maximum(moves, 0), window, alpha=1 / window, depth=depth)
    losses = _smoothed(np.maximum(-moves, 0), window, alpha=1 / window, depth=depth)
    total = gains + losses
    share = np.divide(gains, total, out=np.full(len(total), 0.5), where=total != 0)
    share[np.isnan(total)] = np.nan
    return np.concatenate([np.full(min(1, len(prices)), np.nan), 100 * share])


def macd(prices: Series, short: int, long: int, signal: int) -> Macd:
    """Return the moving average convergence and divergence."""
    value = ema(prices, short) - ema(prices, long)
    first = int(np.argmax(~np.isnan(value))) if not np.isnan(value).all() else len(value)
    line = np.full(len(prices), np.nan)
    line[first:] = ema(value[first:], signal)
    return Macd(value, line, value - line)


def _smoothed(prices: Series, window: int, *, alpha: float, depth: int) -> Series:
    """Average exponentially, each value from its own last `depth` prices."""
    count = len(prices)
    out = np.full(count, np.nan)
    if count < window:
        return out
    # Near the beginning there is less than `depth` to look at: one plain recursion.
    average = float(_means(prices, window, 1)[0])
    out[window - 1] = average
    for place in range(window, min(depth, count)):
        average += alpha * (float(prices[place]) - average)
        out[place] = average
    if count < depth:
        return out
    # All other lookbacks at once, one step of each at a time.
    rows = count - depth + 1
    averages = _means(prices, window, rows)
    for step in range(window, depth):
        averages += alpha * (prices[step : step + rows] - averages)
    out[depth - 1 :] = averages
    return out


def _means(prices: Series, window: int, rows: int) -> Series:
    """Return the means of the first `rows` windows, each summed oldest first.

    In this order the last bit of a mean cannot depend on how many are asked for, which
    numpy's own reductions do not promise.
    """
    total = np.zeros(rows)
    for step in range(window):
        total += prices[step : step + rows]
    return total / window
