"""How stocks stand, in the vendor's second version: one, some, all, gainers and losers.

Its keys are terse and its habits its own: unknown tickers are silently missing, nothing
is paged, and a day without a trade yet is all zeros.
"""

from typing import Final

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import DataType, Tier
from onetape.simulator.massive.rest_query import Query, not_found
from onetape.simulator.massive.rest_request import Ask, Endpoint
from onetape.simulator.massive.rows import (
    StockDay,
    StockMinute,
    StockQuote,
    StockSnapshot,
    StockSnapshots,
    StockTrade,
)
from onetape.simulator.seeded.records import BarTick, DayStats, QuoteTick, TradeTick

MOVERS: Final = 20
MOVERS_MINIMUM_VOLUME: Final = 10_000

_NOT_YET: Final = StockDay(c=0, h=0, l=0, o=0, v=0, vw=0)


def _row(ask: Ask, ticker: str, tier: Tier) -> StockSnapshot:
    at_ns = ask.seen_ns(AssetClass.STOCKS)
    stats = ask.market.day_stats(ticker, at_ns)
    quote = ask.market.last_quote(ticker, at_ns) if DataType.QUOTES in tier.data else None
    trade = ask.market.last_trade(ticker, at_ns) if DataType.TRADES in tier.data else None
    return StockSnapshot(
        day=_day(stats) or _NOT_YET,
        lastQuote=quote and _quote(quote),
        lastTrade=trade and _trade(trade),
        min=_minute(ask.market.last_bar(ticker, 60, at_ns), stats),
        prevDay=_day(ask.market.previous_day_stats(ticker, at_ns)),
        ticker=ticker,
        todaysChange=stats.change or 0,
        todaysChangePerc=stats.change_percent or 0,
        updated=stats.updated_ns or 0,
    )


def _day(stats: DayStats | None) -> StockDay | None:
    if stats is None or stats.close is None:
        return None
    return StockDay(
        c=stats.close,
        h=stats.close if stats.high is None else stats.high,
        l=stats.close if stats.low is None else stats.low,
        o=stats.close if stats.open is None else stats.open,
        v=stats.volume or 0,
        vw=stats.vwap,
    )


def _minute(bar: BarTick | None, stats: DayStats) -> StockMinute:
    if bar is None or stats.close is None:  # a bar of another day
        return StockMinute(av=0, c=0, h=0, l=0, n=0, o=0, t=0, v=0, vw=0)
    return StockMinute(
        av=stats.volume or 0,
        c=bar.close,
        h=bar.high,
        l=bar.low,
        n=bar.transactions,
        o=bar.open,
        t=bar.start_ns // 1_000_000,
        v=bar.volume or 0,
        vw=bar.vwap,
    )


def _quote(tick: QuoteTick) -> StockQuote:
    return StockQuote(P=tick.ask, S=tick.ask_size, p=tick.bid, s=tick.bid_size, t=tick.event_ns)


def _trade(tick: TradeTick) -> StockTrade:
    return StockTrade(
        c=tick.conditions,
        i=tick.id or "",
        p=tick.price,
        s=tick.size,
        t=tick.event_ns,
        x=tick.exchange,
    )


def stock_snapshots(ask: Ask) -> StockSnapshots:
    """Answer `/v2/snapshot/locale/us/markets/stocks/tickers`; unknown tickers are just missing."""
    tier = ask.tier(AssetClass.STOCKS, DataType.SNAPSHOTS)
    named = _names(ask.query)
    rows = [
        _row(ask, instrument.ticker, tier)
        for instrument in ask.market.instruments(AssetClass.STOCKS)
        if named is None or instrument.ticker in named
    ]
    return StockSnapshots(status="OK", request_id=ask.request_id, count=len(rows), tickers=rows)


def _names(query: Query) -> set[str] | None:
    value = query.text("tickers")
    return None if value is None else {name.strip() for name in value.split(",")}


def stock_snapshot(ask: Ask) -> StockSnapshots:
    """Answer `/v2/snapshot/locale/us/markets/stocks/tickers/{ticker}`."""
    tier = ask.tier(AssetClass.STOCKS, DataType.SNAPSHOTS)
    ticker = ask.path["ticker"]
    if ask.market.asset_class(ticker) is not AssetClass.STOCKS:
        raise not_found()
    return StockSnapshots(status="OK", request_id=ask.request_id, ticker=_row(ask, ticker, tier))


def gainers(ask: Ask) -> StockSnapshots:
    """Answer `/v2/snapshot/locale/us/markets/stocks/gainers`."""
    return _movers(ask, sign=1)


def losers(ask: Ask) -> StockSnapshots:
    """Answer `/v2/snapshot/locale/us/markets/stocks/losers`."""
    return _movers(ask, sign=-1)


def _movers(ask: Ask, *, sign: int) -> StockSnapshots:
    tier = ask.tier(AssetClass.STOCKS, DataType.SNAPSHOTS)
    moved: list[tuple[float, StockSnapshot]] = []
    for instrument in ask.market.instruments(AssetClass.STOCKS):
        row = _row(ask, instrument.ticker, tier)
        move = sign * (row.todaysChangePerc or 0)
        if move > 0 and row.day.v >= MOVERS_MINIMUM_VOLUME:
            moved.append((move, row))
    moved.sort(key=lambda pair: pair[0], reverse=True)
    rows = [row for _, row in moved[:MOVERS]]
    return StockSnapshots(status="OK", request_id=ask.request_id, tickers=rows)


_STOCKS: Final = "/v2/snapshot/locale/us/markets/stocks"
ENDPOINTS: Final = (
    Endpoint(f"{_STOCKS}/tickers", stock_snapshots),
    Endpoint(f"{_STOCKS}/tickers/{{ticker}}", stock_snapshot),
    Endpoint(f"{_STOCKS}/gainers", gainers),
    Endpoint(f"{_STOCKS}/losers", losers),
)
