"""How stocks stand in the vendor's second version of its snapshots, which has quotes.

    /v2/snapshot/locale/us/markets/stocks/tickers[/{ticker}]

Its habits are its own: keys are terse, unknown symbols are silently missing, nothing is
paged, and what has not happened today is all zeros. No price of a stock is 0, so 0 is
None here (W-76), and a change without a price is none. Sizes are as the vendor sends
them: round lots once, shares since.
"""

from typing import Final

import msgspec

from onetape.massive.parse_pages import PROVIDER, Envelope, Ns, Page, Reader
from onetape.massive.parse_snapshots import Last, Origin, newest
from onetape.model import Quote
from onetape.provenance import Source


class _Bar(msgspec.Struct, gc=False):
    open: float | None = msgspec.field(name="o", default=None)
    high: float | None = msgspec.field(name="h", default=None)
    low: float | None = msgspec.field(name="l", default=None)
    close: float | None = msgspec.field(name="c", default=None)
    volume: float | None = msgspec.field(name="v", default=None)
    vwap: float | None = msgspec.field(name="vw", default=None)


class _StockBidAsk(msgspec.Struct, gc=False):
    ask: float | None = msgspec.field(name="P", default=None)
    ask_size: float | None = msgspec.field(name="S", default=None)
    bid: float | None = msgspec.field(name="p", default=None)
    bid_size: float | None = msgspec.field(name="s", default=None)
    at_ns: Ns | None = msgspec.field(name="t", default=None)


class _StockPrint(msgspec.Struct, gc=False):
    price: float | None = msgspec.field(name="p", default=None)
    size: float | None = msgspec.field(name="s", default=None)
    at_ns: Ns | None = msgspec.field(name="t", default=None)


class _Stock(msgspec.Struct, gc=False, rename="camel"):
    ticker: str
    day: _Bar | None = None
    prev_day: _Bar | None = None
    min: _Bar | None = None
    last_quote: _StockBidAsk | None = None
    last_trade: _StockPrint | None = None
    todays_change: float | None = None
    todays_change_perc: float | None = None
    updated: Ns | None = None


_stocks = Reader(msgspec.json.Decoder(Envelope[_Stock]), msgspec.json.Decoder(_Stock))
_NO_BAR: Final = _Bar()
_NO_STOCK_BID_ASK: Final = _StockBidAsk()
_NO_STOCK_PRINT: Final = _StockPrint()


def parse_stock_quotes(body: bytes, *, received_ns: int, simulated: bool = False) -> Page[Quote]:
    """Read snapshots of stocks, many or one. Unknown symbols are silently not among them.

    Without trades in the plan the last price is the minute's or the day's close, as of when
    the vendor says that the row was updated. Delay is not told here: see the plan.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire, origin = _stocks.read(body), Origin(received_ns, simulated)
    quotes = tuple(_stock_quote(row, origin) for row in wire.rows)
    return Page(quotes, tuple(wire.faults), wire.next_url)


def _stock_quote(row: _Stock, origin: Origin) -> Quote:
    day = row.day or _NO_BAR
    sides = row.last_quote or _NO_STOCK_BID_ASK
    last = _stock_last(row, day)
    bid, ask = sides.bid or None, sides.ask or None
    return Quote(
        symbol=row.ticker,
        event_ns=newest(sides.at_ns if bid or ask else None, last),
        received_ns=origin.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=origin.simulated,
        bid=bid,
        ask=ask,
        bid_size=sides.bid_size if bid else None,
        ask_size=sides.ask_size if ask else None,
        last=last.price,
        last_size=last.size,
        open=day.open or None,
        high=day.high or None,
        low=day.low or None,
        previous_close=(row.prev_day or _NO_BAR).close or None,
        change=None if last.price is None else row.todays_change,
        change_percent=None if last.price is None else row.todays_change_perc,
        volume=day.volume,
        vwap=day.vwap or None,
    )


def _stock_last(row: _Stock, day: _Bar) -> Last:
    trade = row.last_trade or _NO_STOCK_PRINT
    if trade.price:
        return Last(trade.price, trade.at_ns, trade.size)
    return Last((row.min or _NO_BAR).close or day.close or None, row.updated)
