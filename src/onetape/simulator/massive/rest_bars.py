"""Bars as an account may see them: not later than its plan, not older than its history.

A window that reaches past what a delayed plan sees is made again from the bars that
have ended by then, so that a day's bar does not tell what its minutes keep back.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import DataType, Freshness, Tier
from onetape.simulator.massive.rest_query import (
    FOREVER,
    MS_PER_S,
    NS_PER_S,
    Span,
    day_of,
    day_span,
)
from onetape.simulator.massive.rest_request import (
    BEFORE_END_OF_DAY,
    WRONG_TIMEFRAME,
    Ask,
    forbidden,
)
from onetape.simulator.massive.rows import Bar
from onetape.simulator.seeded.records import BarTick

NS_PER_MS: Final = NS_PER_S // MS_PER_S
_DAY_NS: Final = 86_400 * NS_PER_S
_YEAR_NS: Final = 366 * _DAY_NS


class Series(NamedTuple):
    """The bars of one ticker in one size."""

    ticker: str
    asset: AssetClass
    multiplier: int
    timespan: str


def bar_row(bar: BarTick, ticker: str | None = None) -> Bar:
    """Write a bar as the vendor does; `ticker` where rows name theirs."""
    return Bar(
        T=ticker,
        v=bar.volume,
        vw=bar.vwap,
        o=bar.open,
        c=bar.close,
        h=bar.high,
        l=bar.low,
        t=bar.start_ns // NS_PER_MS,
        n=bar.transactions,
    )


def tier_for(ask: Ask, series: Series) -> Tier:
    """Return the tier that covers the series; second bars are not in every plan."""
    is_seconds = series.timespan == "second"
    return ask.tier(series.asset, DataType.SECONDS if is_seconds else DataType.AGGREGATES)


def today(ask: Ask) -> Span:
    """Return the New York day of the request, ns."""
    return day_span(day_of(ask.now_ns // NS_PER_S), per_s=NS_PER_S)


def lookback_ns(asset: AssetClass, timespan: str) -> int:
    """Return how far before what was asked for it is worth looking.

    An option may have traded on a few days of its two years, and a day of its whole
    chain must be made to know: without a bound one request would take ten seconds.
    """
    if asset is not AssetClass.OPTIONS:
        return FOREVER
    days = 30 if timespan in {"second", "minute", "hour"} else 120
    return days * _DAY_NS


def check_timeframe(ask: Ask, tier: Tier, start_ns: int) -> None:
    """Refuse a range that starts before the plan's history, or with today before its end."""
    if tier.history_years is not None and start_ns < ask.now_ns - tier.history_years * _YEAR_NS:
        raise forbidden(WRONG_TIMEFRAME)
    if tier.freshness is Freshness.END_OF_DAY and start_ns in today(ask):
        raise forbidden(BEFORE_END_OF_DAY)


def horizon_ns(ask: Ask, tier: Tier) -> int:
    """Return the instant before which the tier sees bars."""
    if tier.freshness is Freshness.END_OF_DAY:
        return today(ask).start
    return ask.now_ns - tier.delay_ns


def visible_bars(
    ask: Ask, series: Series, tier: Tier, span_ns: Span, *, newest_first: bool
) -> Iterator[BarTick]:
    """Yield the bars that start within the span, as far as the tier sees them."""
    ticker, _, multiplier, timespan = series
    horizon = horizon_ns(ask, tier)
    bars = ask.market.iter_bars(
        ticker,
        multiplier,
        timespan,
        span_ns.start,
        min(span_ns.end, horizon + 1),
        newest_first=newest_first,
    )
    if not tier.is_delayed:
        return bars
    return (seen for bar in bars if (seen := _as_seen(ask, series, bar, horizon)) is not None)


def _as_seen(ask: Ask, series: Series, bar: BarTick, horizon: int) -> BarTick | None:
    if bar.end_ns <= horizon:
        return bar
    if series.timespan == "second":
        return None
    day_start = day_span(day_of(horizon // NS_PER_S), per_s=NS_PER_S).start
    parts = chain(
        ask.market.bars(series.ticker, 1, "day", bar.start_ns, day_start),
        ask.market.bars(series.ticker, 1, "minute", max(bar.start_ns, day_start), horizon),
    )
    return _folded(bar, [part for part in parts if part.end_ns <= horizon])


def _folded(window: BarTick, parts: list[BarTick]) -> BarTick | None:
    if not parts:
        return None
    volumes = [part.volume or 0 for part in parts]
    volume = sum(volumes)
    traded = sum((part.vwap or 0.0) * size for part, size in zip(parts, volumes, strict=True))
    has_volume = window.volume is not None
    return BarTick(
        symbol=window.symbol,
        start_ns=window.start_ns,
        end_ns=window.end_ns,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=volume if has_volume else None,
        vwap=round(traded / volume, 4) if has_volume and volume else None,
        transactions=sum(part.transactions or 0 for part in parts) if has_volume else None,
    )
