"""The state of `onetape watch`: the last quote of each symbol, and what changed when.

Sans-I/O: quotes and changes of source come in, rows go out. A stream sends what moved
only, such as an index's value; the day's change is reckoned from the previous close that
a snapshot told, and only then.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from onetape.client import SourceChanged
from onetape.model import Quote
from onetape.provenance import Quality, Source
from onetape.rows import Rows
from onetape.terminal.columns import Column, Form, named
from onetape.terminal.views import DOWN, UP

FLASH_S: Final = 0.75
"""How long a price that moved is lit."""


class BoardRow(msgspec.Struct, frozen=True, kw_only=True, tag="board"):
    """One symbol of a board. `trouble` is why nothing comes, in the word of an error."""

    symbol: str
    price: float | None = None
    change: float | None = None
    change_percent: float | None = None
    bid: float | None = None
    ask: float | None = None
    event_ns: int | None = None
    received_ns: int | None = None
    provider: str | None = None
    source: Source | None = None
    simulated: bool = False
    delayed: bool = False
    quality: Quality | None = None
    trouble: str | None = None


BOARD: Final = (
    Column("symbol", Form.TEXT, "Symbol"),
    Column("price", Form.PRICE, "Price"),
    Column("change", Form.CHANGE, "Change", rank=1),
    Column("change_percent", Form.PERCENT, "Change %", rank=3),
    Column("bid", Form.PRICE, "Bid", rank=2),
    Column("ask", Form.PRICE, "Ask", rank=2),
    Column("age_s", Form.AGE, "Age", "event_ns", rank=4),
    Column("confidence", Form.QUALITY, "Quality", "quality", rank=5, is_optional=True),
    Column("level", Form.LEVEL, "", "quality"),
    Column("reasons", Form.REASONS, "", "quality"),
    Column("provider", Form.TEXT, "Provider", rank=6),
    Column("source", Form.TEXT, "Source", rank=5),
    Column("trouble", Form.TEXT, "Trouble", is_optional=True),
    Column("delayed", Form.FLAG),
    Column("simulated", Form.FLAG),
    Column("event_time", Form.INSTANT, "", "event_ns"),
    Column("received_time", Form.INSTANT, "", "received_ns"),
)
"""What a board shows of a symbol."""

_LINE: Final = ("symbol", "price", "change", "change_percent", "bid", "ask", "age_s", "source")


def line_columns() -> list[Column]:
    """Return the columns of a board's line, where there is no terminal to draw a board on."""
    return named(BOARD, _LINE)


class _Place:
    """What is known of one symbol."""

    __slots__ = ("moved_at", "previous_close", "quote", "trouble", "went")

    def __init__(self) -> None:
        self.quote: Quote | None = None
        self.previous_close: float | None = None
        self.trouble: str | None = None
        self.moved_at = float("-inf")
        self.went = ""


class Board:
    """The symbols in the order they were named. All calls are from one task or callback."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self._places = {symbol: _Place() for symbol in symbols}
        self._changed: dict[str, None] = {}

    # what comes

    def know(self, rows: Rows[Quote], now: float) -> None:
        """Take snapshots: closes to reckon from, and prices where there are none yet."""
        for quote in rows:
            place = self._places.get(quote.symbol)
            if place is not None:
                place.previous_close = quote.previous_close
                if place.quote is None:
                    self.take(quote, now)
        for symbol, fault in rows.errors.items():
            if symbol in self._places and self._places[symbol].quote is None:
                self._places[symbol].trouble = fault.error
                self._changed[symbol] = None

    def take(self, quote: Quote, now: float) -> None:
        """Take one quote; `now` is in s, monotonic. The hot path."""
        place = self._places.get(quote.symbol)
        if place is None:
            return
        before = None if place.quote is None else place.quote.price
        price = quote.price
        if before is not None and price is not None and price != before:
            place.moved_at, place.went = now, UP if price > before else DOWN
        if quote.previous_close is not None:
            place.previous_close = quote.previous_close
        place.quote, place.trouble = quote, None
        self._changed[quote.symbol] = None

    def hear(self, change: SourceChanged) -> None:
        """Take note that a symbol's source changed, or that it has none."""
        place = self._places.get(change.key.symbol)
        if place is None:
            return
        if change.source is None:
            place.trouble = change.detail or change.reason
            self._changed[change.key.symbol] = None
        elif place.trouble is not None and place.quote is not None:
            place.trouble = None
            self._changed[change.key.symbol] = None

    # what is shown

    def rows(self) -> list[BoardRow]:
        """Return every symbol as it is."""
        return [_row(symbol, place) for symbol, place in self._places.items()]

    def changed(self) -> list[BoardRow]:
        """Return the symbols that changed since this was asked last."""
        changed, self._changed = self._changed, {}
        return [_row(symbol, self._places[symbol]) for symbol in changed]

    def missing(self) -> list[str]:
        """Return the symbols of which there was never a quote."""
        return [symbol for symbol, place in self._places.items() if place.quote is None]

    def paint(self, row: BoardRow, column: Column, *, now: float) -> str:
        """Return the style of a cell: prices that moved are lit, and keep the colour."""
        place = self._places[row.symbol]
        if column.name == "trouble" and row.trouble is not None:
            return DOWN
        if column.name != "price" or not place.went:
            return ""
        return f"bold reverse {place.went}" if now - place.moved_at < FLASH_S else place.went


def _row(symbol: str, place: _Place) -> BoardRow:
    quote = place.quote
    if quote is None:
        return BoardRow(symbol=symbol, trouble=place.trouble)
    change, percent = _change(quote, place.previous_close)
    return BoardRow(
        symbol=symbol,
        price=quote.price,
        change=change,
        change_percent=percent,
        bid=quote.bid,
        ask=quote.ask,
        event_ns=quote.event_ns,
        received_ns=quote.received_ns,
        provider=quote.provider,
        source=None if place.trouble else quote.source,
        simulated=quote.simulated,
        delayed=quote.delayed,
        quality=quote.quality,
        trouble=place.trouble,
    )


def _change(quote: Quote, close: float | None) -> tuple[float | None, float | None]:
    """Return the day's change; of a middle of the market there is none."""
    if quote.change is not None:
        return quote.change, quote.change_percent
    if quote.last is None or not close:
        return None, None
    change = round(quote.last - close, 6)
    return change, round(100 * change / close, 4)
