"""Bars over a range, of the previous day, of a whole market's day, and one day flat.

The vendor's `limit` counts *base* aggregates (seconds, minutes or days), of which a
window may hold many; a page ends with the last window that fits whole. The next page
starts at the next window, which replaces a bound in the path of `next_url`.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import DataType
from onetape.simulator.massive.rest_bars import (
    NS_PER_MS,
    Series,
    bar_row,
    check_timeframe,
    horizon_ns,
    tier_for,
    visible_bars,
)
from onetape.simulator.massive.rest_query import (
    MS_PER_S,
    NS_PER_S,
    Span,
    day_span,
    malformed,
    not_found,
    parse_day,
    parse_time,
)
from onetape.simulator.massive.rest_request import ORDERS, Ask, Endpoint, asset_of
from onetape.simulator.massive.rows import AggregatesEnvelope, Bar, OpenClose
from onetape.simulator.seeded.records import BarTick, DayStats

DEFAULT_LIMIT: Final = 5_000
MAX_LIMIT: Final = 50_000
BASES: Final = {
    "second": "second",
    "minute": "minute",
    "hour": "minute",
    "day": "day",
    "week": "day",
    "month": "day",
    "quarter": "day",
    "year": "day",
}
"""Of what each timespan's windows are made, and so what `limit` counts."""
MAX_MULTIPLIER: Final = 100_000


class Scanned(NamedTuple):
    """The windows of one page, the base aggregates in them, and the window after them."""

    windows: list[BarTick]
    base_count: int
    following: BarTick | None


def ticker_asset(ask: Ask) -> AssetClass:
    """Return the asset class of the ticker in the path, which must be one we simulate."""
    asset = asset_of(ask.path["ticker"])
    if asset is None:
        raise not_found()
    return asset


# ---- ranges ----


def aggregates(ask: Ask) -> AggregatesEnvelope:
    """Answer `/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}`."""
    series = Series(ask.path["ticker"], ticker_asset(ask), _multiplier(ask), _timespan(ask))
    tier = tier_for(ask, series)
    span = _span_ns(ask)
    limit = ask.query.integer("limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT)
    sort = ask.query.choice("sort", ORDERS, "asc")
    check_timeframe(ask, tier, span.start)
    scanned = Scanned([], 0, None)
    if ask.market.exists(series.ticker):
        windows = visible_bars(ask, series, tier, span, newest_first=sort == "desc")
        scanned = _scan(_counted(ask, series, windows, newest_first=sort == "desc"), limit)
    next_url = None
    if scanned.following is not None:
        path = _path_from(ask, scanned.following.start_ns // NS_PER_MS, sort)
        next_url = ask.next_url(None, path=path, limit=str(limit), sort=sort)
    return _envelope(
        ask,
        [bar_row(window) for window in scanned.windows],
        scanned=scanned.base_count,
        status="DELAYED" if tier.is_delayed else "OK",
        next_url=next_url,
    )


def _multiplier(ask: Ask) -> int:
    value = ask.path["multiplier"]
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= MAX_MULTIPLIER:
        raise malformed("The parameter 'multiplier' must be a positive integer")
    return int(value)


def _timespan(ask: Ask) -> str:
    value = ask.path["timespan"]
    if value not in BASES:
        raise malformed(f"The parameter 'timespan' must be one of: {', '.join(BASES)}")
    return value


def _span_ns(ask: Ask) -> Span:
    start = parse_time(ask.path["from"], name="from", per_s=MS_PER_S).start
    end = parse_time(ask.path["to"], name="to", per_s=MS_PER_S).end
    if end <= start:
        raise malformed("The parameter 'to' cannot be a time that occurs before 'from'")
    return Span(start * NS_PER_MS, end * NS_PER_MS)


def _path_from(ask: Ask, start_ms: int, sort: str) -> str:
    """Return the path with the bound that the pages walk away from replaced."""
    start, end = ask.path["from"], ask.path["to"]
    stem = ask.url_path.removesuffix(f"{start}/{end}")
    return f"{stem}{start}/{start_ms}" if sort == "desc" else f"{stem}{start_ms}/{end}"


def _scan(windows: Iterator[tuple[BarTick, int]], limit: int) -> Scanned:
    taken: list[BarTick] = []
    scanned = 0
    for window, base_count in windows:
        if taken and scanned + base_count > limit:
            return Scanned(taken, scanned, window)
        taken.append(window)
        scanned += base_count
    return Scanned(taken, scanned, None)


def _counted(
    ask: Ask, series: Series, windows: Iterator[BarTick], *, newest_first: bool
) -> Iterator[tuple[BarTick, int]]:
    """Pair each window with the number of base aggregates in it."""
    base = BASES[series.timespan]
    if series.multiplier == 1 and base == series.timespan:
        return ((window, 1) for window in windows)
    first = next(windows, None)
    if first is None:
        return iter(())
    start, end = (0, first.end_ns) if newest_first else (first.start_ns, ask.now_ns + 1)
    bases = ask.market.iter_bars(series.ticker, 1, base, start, end, newest_first=newest_first)
    return _merged(chain([first], windows), bases, newest_first=newest_first)


def _merged(
    windows: Iterator[BarTick], bases: Iterator[BarTick], *, newest_first: bool
) -> Iterator[tuple[BarTick, int]]:
    base = next(bases, None)
    for window in windows:
        count = 0
        while base is not None and (
            base.start_ns >= window.start_ns if newest_first else base.start_ns < window.end_ns
        ):
            count += window.start_ns <= base.start_ns < window.end_ns
            base = next(bases, None)
        yield window, max(1, count)


def _envelope(
    ask: Ask,
    rows: list[Bar],
    *,
    scanned: int,
    status: str,
    next_url: str | None = None,
) -> AggregatesEnvelope:
    ticker = ask.path.get("ticker")
    is_index = ticker is not None and asset_of(ticker) is AssetClass.INDICES
    return AggregatesEnvelope(
        ticker=ticker,
        queryCount=scanned,
        resultsCount=len(rows),
        adjusted=None if is_index else ask.query.is_set("adjusted", default=True),
        results=rows or None,
        status=status,
        request_id=ask.request_id,
        count=len(rows),
        next_url=next_url,
    )


# ---- whole days ----


def previous(ask: Ask) -> AggregatesEnvelope:
    """Answer `/v2/aggs/ticker/{ticker}/prev`; the bar is stamped with its session's end."""
    ticker, asset = ask.path["ticker"], ticker_asset(ask)
    tier = ask.tier(asset, DataType.AGGREGATES)
    stats = None
    if ask.market.exists(ticker):
        stats = ask.market.previous_day_stats(ticker, horizon_ns(ask, tier))
    rows = [] if stats is None else _day_rows(ask, ticker, asset, stats)
    return _envelope(ask, rows, scanned=len(rows), status="OK")


class _Prices(NamedTuple):
    """What a day with trades has, all of it."""

    open: float
    high: float
    low: float
    close: float


def _prices(stats: DayStats) -> _Prices | None:
    match stats.open, stats.high, stats.low, stats.close:
        case (float(first), float(high), float(low), float(last)):
            return _Prices(first, high, low, last)
        case _:
            return None


def _day_rows(ask: Ask, ticker: str, asset: AssetClass, stats: DayStats) -> list[Bar]:
    session, prices = ask.market.session_bounds(stats.day, asset), _prices(stats)
    if session is None or prices is None:
        return []
    row = Bar(
        T=ticker,
        v=stats.volume,
        vw=stats.vwap,
        o=prices.open,
        c=prices.close,
        h=prices.high,
        l=prices.low,
        t=session[1] // NS_PER_MS,
        n=stats.transactions,
    )
    return [row]


def grouped(ask: Ask) -> AggregatesEnvelope:
    """Answer `/v2/aggs/grouped/locale/us/market/stocks/{date}`; stamped as `previous`."""
    day = parse_day(ask.path["date"], name="date")
    tier = ask.tier(AssetClass.STOCKS, DataType.AGGREGATES)
    span = day_span(day, per_s=NS_PER_S)
    check_timeframe(ask, tier, span.start)
    rows: list[Bar] = []
    if (session := ask.market.session_bounds(day)) is not None:
        stamp = session[1] // NS_PER_MS
        for instrument in ask.market.instruments(AssetClass.STOCKS):
            series = Series(instrument.ticker, AssetClass.STOCKS, 1, "day")
            for bar in visible_bars(ask, series, tier, span, newest_first=False):
                row = bar_row(bar, instrument.ticker)
                rows.append(msgspec.structs.replace(row, t=stamp))
    return _envelope(ask, rows, scanned=len(rows), status="OK")


def open_close(ask: Ask) -> OpenClose:
    """Answer `/v1/open-close/{ticker}/{date}`: one flat object."""
    ticker, asset = ask.path["ticker"], ticker_asset(ask)
    day = parse_day(ask.path["date"], name="date")
    tier = ask.tier(asset, DataType.AGGREGATES)
    span = day_span(day, per_s=NS_PER_S)
    check_timeframe(ask, tier, span.start)
    if not ask.market.exists(ticker):
        raise not_found()
    stats = ask.market.day_stats(ticker, min(span.end - 1, horizon_ns(ask, tier)))
    prices = _prices(stats)
    if stats.day != day or prices is None:
        raise not_found("Data not found.")
    is_index = asset is AssetClass.INDICES
    return OpenClose(
        status="OK",
        from_=f"{day}T00:00:00.000Z" if is_index else day.isoformat(),
        symbol=ticker,
        open=prices.open,
        high=prices.high,
        low=prices.low,
        close=prices.close if stats.regular_close is None else stats.regular_close,
        volume=stats.volume,
        afterHours=stats.after_close,
        preMarket=stats.pre_open,
    )


ENDPOINTS: Final = (
    Endpoint("/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}", aggregates),
    Endpoint("/v2/aggs/ticker/{ticker}/prev", previous),
    Endpoint("/v2/aggs/grouped/locale/us/market/stocks/{date}", grouped),
    Endpoint("/v1/open-close/{ticker}/{date}", open_close),
)
