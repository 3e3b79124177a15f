"""Technical indicators, computed from the market's own bars.

Bars are fetched with as many before them as the indicator looks back, so a value is the
same on whatever page it appears.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from onetape.simulator.massive import indicators
from onetape.simulator.massive.indicators import Series as Prices
from onetape.simulator.massive.pages import InvalidCursor, key_at, position_at
from onetape.simulator.massive.rest_aggregates import (
    BASES,
    MAX_LIMIT as AGGREGATES_LIMIT,
    ticker_asset,
)
from onetape.simulator.massive.rest_bars import (
    NS_PER_MS,
    Series,
    bar_row,
    check_timeframe,
    lookback_ns,
    tier_for,
    today,
    visible_bars,
)
from onetape.simulator.massive.rest_query import MS_PER_S, Query, Span, malformed
from onetape.simulator.massive.rest_request import ORDERS, Ask, Endpoint
from onetape.simulator.massive.rows import (
    Envelope,
    IndicatorResults,
    IndicatorUnderlying,
    IndicatorValue,
)
from onetape.simulator.seeded.records import BarTick

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 5_000
MAX_WINDOW: Final = 1_000
TIMESPANS: Final = tuple(name for name in BASES if name != "second")
SERIES_TYPES: Final = ("close", "open", "high", "low")


Lines: TypeAlias = dict[str, Prices]


class Study(NamedTuple):
    """One indicator with its windows chosen: how far it looks back, and what it says."""

    depth: int
    compute: Callable[[Prices], Lines]


class Look(NamedTuple):
    """Bars, oldest first, and from which of them on the query wants values."""

    bars: list[BarTick]
    wanted_from: int


def _window(query: Query, name: str, default: int) -> int:
    return query.integer(name, default=default, maximum=MAX_WINDOW)


def _line(compute: Callable[[Prices, int], Prices], window: int, prices: Prices) -> Lines:
    return {"value": compute(prices, window)}


def _sma(query: Query) -> Study:
    window = _window(query, "window", 50)
    return Study(indicators.sma_depth(window), partial(_line, indicators.sma, window))


def _ema(query: Query) -> Study:
    window = _window(query, "window", 50)
    return Study(indicators.ema_depth(window), partial(_line, indicators.ema, window))


def _rsi(query: Query) -> Study:
    window = _window(query, "window", 14)
    return Study(indicators.rsi_depth(window), partial(_line, indicators.rsi, window))


def _macd(query: Query) -> Study:
    windows = (
        _window(query, "short_window", 12),
        _window(query, "long_window", 26),
        _window(query, "signal_window", 9),
    )

    def lines(prices: Prices) -> Lines:
        return indicators.macd(prices, *windows)._asdict()

    return Study(indicators.macd_depth(*windows), lines)


STUDIES: Final[dict[str, Callable[[Query], Study]]] = {
    "sma": _sma,
    "ema": _ema,
    "rsi": _rsi,
    "macd": _macd,
}


# ---- the page ----


def indicator(ask: Ask) -> Envelope:
    """Answer `/v1/indicators/{name}/{ticker}`."""
    query = ask.query
    study = STUDIES[ask.url_path.split("/")[3]](query)
    timespan = query.choice("timespan", TIMESPANS, "day")
    series = Series(ask.path["ticker"], ticker_asset(ask), 1, timespan)
    limit = query.integer("limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT)
    order = query.choice("order", ORDERS, "desc")
    price = query.choice("series_type", SERIES_TYPES, "close")
    is_expanded = query.is_set("expand_underlying", default=False)
    look = _look(ask, series, study.depth, limit, newest_first=order == "desc")
    values = _values(look, study.compute(_prices(look.bars, price)))
    if order == "desc":
        values.reverse()
    page, next_url = values[:limit], None
    if len(values) > limit:
        position = position_at((page[-1].timestamp,))
        next_url = ask.next_url(position, limit=str(limit), order=order)
    underlying = _underlying(ask, series, look.bars, order, is_expanded=is_expanded)
    results = IndicatorResults(underlying=underlying, values=page or None)
    return ask.envelope(results, next_url=next_url)


def _look(ask: Ask, series: Series, depth: int, limit: int, *, newest_first: bool) -> Look:
    """Fetch one value more than the page holds, and the lookback of its oldest."""
    tier = tier_for(ask, series)
    asked = ask.query.span("timestamp", per_s=MS_PER_S)
    asked = Span(asked.start * NS_PER_MS, asked.end * NS_PER_MS)
    if asked.start:
        check_timeframe(ask, tier, asked.start)
    span = _after_position(ask, asked, newest_first=newest_first)
    if not ask.market.exists(series.ticker) or span.start >= span.end:
        return Look([], 0)

    def fetch(start: int, end: int, count: int, *, newest_first: bool) -> list[BarTick]:
        bars = visible_bars(ask, series, tier, Span(start, end), newest_first=newest_first)
        taken = list(islice(bars, count))
        return taken[::-1] if newest_first else taken

    # Of what was asked, not of what is left of it: the same on every page.
    floor = (asked.start or today(ask).start) - lookback_ns(series.asset, series.timespan)
    if newest_first:
        bars = fetch(max(0, floor), span.end, limit + depth, newest_first=True)
        inside = sum(bar.start_ns >= span.start for bar in bars)
        return Look(bars, len(bars) - min(inside, limit + 1))
    start = max(0, floor, span.start)
    before = fetch(max(0, floor), start, depth - 1, newest_first=True)
    return Look(before + fetch(start, span.end, limit + depth, newest_first=False), len(before))


def _after_position(ask: Ask, asked: Span, *, newest_first: bool) -> Span:
    """Return what is left of the span after the query's position."""
    if ask.query.position is None:
        return asked
    at_ns = _position(ask.query.position) * NS_PER_MS
    if newest_first:
        return Span(asked.start, min(asked.end, at_ns))
    return Span(max(asked.start, at_ns + 1), asked.end)


def _position(position: str) -> int:
    try:
        return int(key_at(position, like=(0,))[0])
    except InvalidCursor as error:
        raise malformed("The cursor could not be read") from error


def _prices(bars: list[BarTick], price: str) -> Prices:
    return np.array([getattr(bar, price) for bar in bars], dtype=np.float64)


def _values(look: Look, lines: dict[str, Prices]) -> list[IndicatorValue]:
    """Return a point for each wanted bar that has one, oldest first."""
    columns = [line.tolist() for line in lines.values()]
    rows = zip(look.bars, *columns, strict=True)
    return [
        IndicatorValue(timestamp=bar.start_ns // NS_PER_MS, **dict(zip(lines, row, strict=True)))
        for bar, *row in islice(rows, look.wanted_from, None)
        if not any(map(math.isnan, row))
    ]


def _underlying(
    ask: Ask, series: Series, bars: list[BarTick], order: str, *, is_expanded: bool
) -> IndicatorUnderlying:
    start_ms, end_ms = 0, ask.now_ns // NS_PER_MS
    if bars:
        start_ms, end_ms = bars[0].start_ns // NS_PER_MS, bars[-1].start_ns // NS_PER_MS
    # `limit` counts base aggregates, of which an hour has sixty.
    is_base = BASES[series.timespan] == series.timespan
    limit = min(max(1, len(bars)), AGGREGATES_LIMIT) if is_base else AGGREGATES_LIMIT
    path = f"/v2/aggs/ticker/{series.ticker}/range/1/{series.timespan}/{start_ms}/{end_ms}"
    rows = [bar_row(bar) for bar in bars] if is_expanded else None
    if rows is not None and order == "desc":
        rows.reverse()
    return IndicatorUnderlying(
        aggregates=rows, url=f"{ask.origin}{path}?limit={limit}&sort={order}"
    )


ENDPOINTS: Final = tuple(
    Endpoint(f"/v1/indicators/{name}/{{ticker}}", indicator) for name in STUDIES
)
