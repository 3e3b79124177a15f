"""Prints and quotes: their history, newest first unless asked otherwise, and the newest one.

Positions are (time, sequence) pairs. Times are not unique, sequences rise with them.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import DataType
from onetape.simulator.massive.pages import InvalidCursor, key_at, position_at
from onetape.simulator.massive.rest_aggregates import ticker_asset
from onetape.simulator.massive.rest_bars import check_timeframe, lookback_ns, today
from onetape.simulator.massive.rest_query import NS_PER_S, Span, malformed, not_found
from onetape.simulator.massive.rest_request import ORDERS, Ask, Endpoint
from onetape.simulator.massive.rows import (
    Envelope,
    LastQuoteResult,
    LastTradeResult,
    QuoteRow,
    TradeRow,
)
from onetape.simulator.seeded.records import QuoteTick, TradeTick

DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 50_000

Tick = TypeVar("Tick", TradeTick, QuoteTick)


class Fetch(Protocol[Tick]):
    """How the market is asked for ticks: `Market.trades` or `Market.quotes`."""

    def __call__(
        self,
        symbol: str,
        start_ns: int,
        end_ns: int,
        *,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Tick]:
        """Return the ticks of `[start_ns, end_ns)`."""
        ...


# ---- history ----


def trades(ask: Ask) -> Envelope:
    """Answer `/v3/trades/{ticker}`."""
    return _history(ask, DataType.TRADES, ask.market.trades, _trade_row)


def quotes(ask: Ask) -> Envelope:
    """Answer `/v3/quotes/{ticker}`."""
    return _history(ask, DataType.QUOTES, ask.market.quotes, _quote_row)


def _history(ask: Ask, data: DataType, fetch: Fetch[Tick], row: Callable[[Tick], Any]) -> Envelope:
    asset = ticker_asset(ask)
    if asset is AssetClass.INDICES:
        raise not_found()  # an index has values, neither trades nor quotes
    tier = ask.tier(asset, data)
    limit = ask.query.integer("limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT)
    order = ask.query.choice("order", ORDERS, "desc")
    ask.query.choice("sort", ("timestamp",), "timestamp")
    span = ask.query.span("timestamp", per_s=NS_PER_S)
    if span.start:
        check_timeframe(ask, tier, span.start)
    start = span.start or max(0, today(ask).start - lookback_ns(asset, "second"))
    span = Span(start, min(span.end, ask.seen_ns(asset) + 1))
    found: list[Tick] = []
    if ask.market.exists(ask.path["ticker"]) and span.start < span.end:
        found = _page(ask, fetch, span, limit=limit + 1, newest_first=order == "desc")
    if len(found) <= limit:
        return ask.envelope([row(tick) for tick in found])
    last = found[limit - 1]
    position = position_at((last.event_ns, last.sequence))
    resolved = {"limit": str(limit), "order": order, "sort": "timestamp"}
    if span.start:
        resolved["timestamp.gte"] = str(span.start)
    next_url = ask.next_url(position, **resolved)
    return ask.envelope([row(tick) for tick in found[:limit]], next_url=next_url)


def _page(
    ask: Ask, fetch: Fetch[Tick], span: Span, *, limit: int, newest_first: bool
) -> list[Tick]:
    """Return the ticks after the query's position: those of its very instant, then the rest."""
    ticker, position = ask.path["ticker"], ask.query.position
    same: list[Tick] = []
    if position is not None:
        at_ns, sequence = _position(position)
        if at_ns not in span:
            raise malformed("The cursor could not be read")
        tied = fetch(ticker, at_ns, at_ns + 1, newest_first=newest_first)
        if newest_first:
            same = [tick for tick in tied if tick.sequence < sequence]
            span = Span(span.start, at_ns)
        else:
            same = [tick for tick in tied if tick.sequence > sequence]
            span = Span(at_ns + 1, span.end)
    wanted = limit - len(same)
    if wanted <= 0:
        return same[:limit]
    return same + fetch(ticker, *span, limit=wanted, newest_first=newest_first)


def _position(position: str) -> tuple[int, int]:
    try:
        at_ns, sequence = key_at(position, like=(0, 0))
    except InvalidCursor as error:
        raise malformed("The cursor could not be read") from error
    return int(at_ns), int(sequence)


def _trade_row(tick: TradeTick) -> TradeRow:
    return TradeRow(
        conditions=tick.conditions or None,
        exchange=tick.exchange,
        id=tick.id,
        participant_timestamp=tick.participant_ns,
        price=tick.price,
        sequence_number=tick.sequence,
        sip_timestamp=tick.event_ns,
        size=tick.size,
        tape=tick.tape,
        trf_id=tick.trf_id,
        trf_timestamp=tick.trf_ns,
    )


def _quote_row(tick: QuoteTick) -> QuoteRow:
    is_stock = tick.tape is not None
    return QuoteRow(
        ask_exchange=tick.ask_exchange,
        ask_price=tick.ask,
        ask_size=tick.ask_size,
        bid_exchange=tick.bid_exchange,
        bid_price=tick.bid,
        bid_size=tick.bid_size,
        participant_timestamp=tick.participant_ns if is_stock else None,
        sequence_number=tick.sequence,
        sip_timestamp=tick.event_ns,
        tape=tick.tape,
    )


# ---- the newest ----


def last_trade(ask: Ask) -> Envelope:
    """Answer `/v2/last/trade/{ticker}`."""
    ticker, asset = ask.path["ticker"], ticker_asset(ask)
    if asset is AssetClass.INDICES:
        raise not_found()
    ask.tier(asset, DataType.TRADES)
    tick = None
    if ask.market.exists(ticker):
        tick = ask.market.last_trade(ticker, ask.seen_ns(asset))
    if tick is None:
        raise not_found()
    result = LastTradeResult(
        T=ticker,
        c=tick.conditions or None,
        f=tick.trf_ns,
        i=tick.id or "",
        p=tick.price,
        q=tick.sequence,
        r=tick.trf_id,
        s=tick.size,
        t=tick.event_ns,
        x=tick.exchange,
        y=tick.participant_ns,
        z=tick.tape,
    )
    return ask.envelope(result)


def last_quote(ask: Ask) -> Envelope:
    """Answer `/v2/last/nbbo/{ticker}`: stocks only."""
    ticker, asset = ask.path["ticker"], ticker_asset(ask)
    if asset is not AssetClass.STOCKS:
        raise not_found()
    ask.tier(asset, DataType.QUOTES)
    tick = None
    if ask.market.exists(ticker):
        tick = ask.market.last_quote(ticker, ask.seen_ns(asset))
    if tick is None:
        raise not_found()
    result = LastQuoteResult(
        T=ticker,
        P=tick.ask,
        S=tick.ask_size,
        X=tick.ask_exchange,
        p=tick.bid,
        q=tick.sequence,
        s=tick.bid_size,
        t=tick.event_ns,
        x=tick.bid_exchange,
        y=tick.participant_ns,
        z=tick.tape,
    )
    return ask.envelope(result)


ENDPOINTS: Final = (
    Endpoint("/v3/trades/{ticker}", trades),
    Endpoint("/v3/quotes/{ticker}", quotes),
    Endpoint("/v2/last/trade/{ticker}", last_trade),
    Endpoint("/v2/last/nbbo/{ticker}", last_quote),
)
