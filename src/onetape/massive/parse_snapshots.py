"""How things stand: the vendor's snapshots as quotes and option snapshots.

    /v3/snapshot                                          any symbols     parse_quotes
    /v3/snapshot/indices                                  indices         parse_quotes
    /v3/snapshot/options/{underlying}                     a chain         parse_chain
    /v3/snapshot/options/{underlying}/{contract}          one option      parse_chain
    /v3/snapshot, only its options                        options         parse_option_snapshots

What a plan lacks is not in the rows, so each price is taken from the best that is there:

    bid, ask   last_quote
    last       last_trade ▸ value (an index) ▸ the session's price ▸ its close ▸ the last minute's

`event_ns` is the newest exchange time among those that the bid, the ask and the last price
came with; None when they came with none. `delayed` is what the row says of its quote, or
of what it has instead.

The vendor writes 0 for what is not there, and a day that has not begun is all zeros. No
price is zero but the bid of an option, which is worth knowing, and the value of an index:
`I:TICK` is often 0. So elsewhere 0 is None (W-76). Sizes are as the vendor sends them.
"""

import re
from datetime import date
from sys import intern
from typing import Annotated, Final, NamedTuple

import msgspec

from onetape.massive.parse_pages import (
    DELAYED,
    PROVIDER,
    Code,
    Envelope,
    Ns,
    Page,
    Reader,
    Wire,
    garbled,
    refused,
    sort_out,
    whole,
)
from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot, Quote, Trade
from onetape.provenance import Source
from onetape.rows import SymbolFault
from onetape.symbols import underlying_of

MARKET_STATUSES: Final = {
    "open": "open",
    "regular_trading": "open",
    "early_trading": "pre",
    "late_trading": "after",
    "closed": "closed",
}
"""The vendor's words for what a market is doing, in ours; a word it invents stays its own."""


class _BidAsk(msgspec.Struct, gc=False):
    ask: float | None = None
    ask_size: float | None = None
    ask_exchange: Code | None = None
    bid: float | None = None
    bid_size: float | None = None
    bid_exchange: Code | None = None
    last_updated: Ns | None = None
    timeframe: str | None = None


class _Print(msgspec.Struct, gc=False):
    price: float | None = None
    size: float | None = None
    exchange: Code | None = None
    conditions: tuple[int, ...] | None = None
    sip_timestamp: Ns | None = None
    last_updated: Ns | None = None
    timeframe: str | None = None


class _Day(msgspec.Struct, gc=False):
    change: float | None = None
    change_percent: float | None = None
    close: float | None = None
    high: float | None = None
    last_updated: Ns | None = None
    low: float | None = None
    open: float | None = None
    previous_close: float | None = None
    price: float | None = None
    volume: float | None = None
    vwap: float | None = None


class _Minute(msgspec.Struct, gc=False):
    close: float | None = None
    last_updated: Ns | None = None


class Terms(msgspec.Struct, gc=False):
    """An option's terms as the vendor writes them, here and in its contract reference."""

    contract_type: ContractType
    expiration_date: date
    strike_price: Annotated[float, msgspec.Meta(gt=0)]
    ticker: str | None = None
    underlying_ticker: str | None = None
    exercise_style: str | None = None
    shares_per_contract: float | None = None


class _Greeks(msgspec.Struct, gc=False):
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None


class _Underlying(msgspec.Struct, gc=False):
    ticker: str | None = None
    price: float | None = None
    value: float | None = None
    last_updated: Ns | None = None
    timeframe: str | None = None


class _Row(msgspec.Struct, gc=False):
    """A row of any v3 snapshot: chains name the ticker and the day otherwise than the rest."""

    ticker: str | None = None
    details: Terms | None = None
    error: str | None = None
    message: str | None = None
    market_status: str | None = None
    timeframe: str | None = None
    last_updated: Ns | None = None
    value: float | None = None
    session: _Day | None = None
    day: _Day | None = None
    last_quote: _BidAsk | None = None
    last_trade: _Print | None = None
    last_minute: _Minute | None = None
    greeks: _Greeks | None = None
    implied_volatility: float | None = None
    open_interest: float | None = None
    break_even_price: float | None = None
    underlying_asset: _Underlying | None = None


class Origin(NamedTuple):
    """What every datum of an answer has in common."""

    received_ns: int
    simulated: bool


_snapshots = Reader(msgspec.json.Decoder(Envelope[_Row]), msgspec.json.Decoder(_Row))
_NO_DAY: Final = _Day()
_NO_BID_ASK: Final = _BidAsk()
_NO_PRINT: Final = _Print()
_NO_MINUTE: Final = _Minute()
_NO_UNDERLYING: Final = _Underlying()


# ---- quotes ----


def parse_quotes(body: bytes, *, received_ns: int, simulated: bool = False) -> Page[Quote]:
    """Read a universal or an index snapshot, each row as a quote; its failures are faults.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire, origin = _snapshots.read(body), Origin(received_ns, simulated)
    quotes = sort_out((_quote(row, origin) for row in wire.rows), wire.faults)
    return Page(quotes, tuple(wire.faults), wire.next_url)


def _quote(row: _Row, origin: Origin) -> Quote | SymbolFault:
    return _fault(row) or _as_quote(row, row.ticker or "", origin)


def _fault(row: _Row) -> SymbolFault | None:
    if row.error:
        return refused(row.ticker or "", row.error, row.message)
    return None if row.ticker else garbled("", "a row without a ticker")


class Last(NamedTuple):
    """The last price that a row has, wherever it is from, and when it was."""

    price: float | None
    at_ns: int | None
    size: float | None = None


def _as_quote(row: _Row, symbol: str, origin: Origin) -> Quote:
    day = row.session or row.day or _NO_DAY
    sides = row.last_quote or _NO_BID_ASK
    last = _last(row, day)
    bid = sides.bid if symbol.startswith("O:") else sides.bid or None
    ask = sides.ask or None
    is_index = symbol.startswith("I:")
    begun = is_index or day.close or day.price
    status = row.market_status
    return Quote(
        symbol=symbol,
        event_ns=newest(None if bid is None and ask is None else sides.last_updated, last),
        received_ns=origin.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=origin.simulated,
        delayed=_is_delayed(row),
        bid=bid,
        ask=ask,
        bid_size=None if bid is None else sides.bid_size,
        ask_size=None if ask is None else sides.ask_size,
        bid_exchange=None if bid is None else whole(sides.bid_exchange),
        ask_exchange=None if ask is None else whole(sides.ask_exchange),
        last=last.price,
        last_size=last.size,
        open=day.open if is_index else day.open or None,
        high=day.high if is_index else day.high or None,
        low=day.low if is_index else day.low or None,
        previous_close=day.previous_close if is_index else day.previous_close or None,
        change=day.change if begun else None,
        change_percent=day.change_percent if begun else None,
        volume=day.volume,
        vwap=day.vwap or None,
        market_status=None if status is None else MARKET_STATUSES.get(status, status),
    )


def _last(row: _Row, day: _Day) -> Last:
    trade = row.last_trade
    if trade is not None and trade.price:
        return Last(trade.price, trade.sip_timestamp or trade.last_updated, trade.size)
    if row.value is not None:
        return Last(row.value, row.last_updated)
    minute = row.last_minute or _NO_MINUTE
    price = day.price or day.close or minute.close or None
    return Last(price, day.last_updated or minute.last_updated)


def newest(sides_ns: int | None, last: Last) -> int | None:
    """Return the newest time of the prices that are there; 0 is none."""
    last_ns = None if last.price is None else last.at_ns
    return max(sides_ns or 0, last_ns or 0) or None


def _is_delayed(row: _Row) -> bool:
    part = row.last_quote or row.last_trade
    timeframe = row.timeframe if part is None else part.timeframe
    return timeframe == DELAYED


# ---- options ----


class ChainPage(NamedTuple):
    """A page of an option chain, and what the chain is on as far as the page tells."""

    rows: tuple[OptionSnapshot, ...]
    faults: tuple[SymbolFault, ...] = ()
    next_url: str | None = None
    underlying: str | None = None
    underlying_price: float | None = None
    """None where the plan for the *underlying's* asset class does not include it."""
    underlying_event_ns: int | None = None
    underlying_delayed: bool = False


def parse_chain(body: bytes, *, received_ns: int, simulated: bool = False) -> ChainPage:
    """Read a page of an option chain, or the one row of a contract's own snapshot.

    Greeks and implied volatility are None where the vendor could not solve for them. Greeks
    carry no time: the vendor tells none.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire, origin = _snapshots.read(body), Origin(received_ns, simulated)
    rows = sort_out((_option(row, origin) for row in wire.rows), wire.faults)
    return _chain_page(wire, rows)


def parse_option_snapshots(
    body: bytes, *, received_ns: int, simulated: bool = False
) -> Page[OptionSnapshot]:
    """Read the options of a universal snapshot with all that is known of them.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire, origin = _snapshots.read(body), Origin(received_ns, simulated)
    rows = (_option(row, origin) for row in wire.rows if row.details or _is_option(row))
    options = sort_out(rows, wire.faults)
    return Page(options, tuple(wire.faults), wire.next_url)


def _is_option(row: _Row) -> bool:
    return row.ticker is None or row.ticker.startswith("O:") or row.error is not None


def _chain_page(wire: Wire[_Row], rows: tuple[OptionSnapshot, ...]) -> ChainPage:
    told = [row.underlying_asset for row in wire.rows if row.underlying_asset is not None]
    latest = max(told, key=lambda one: one.last_updated or 0, default=_NO_UNDERLYING)
    price = latest.value if latest.value is not None else latest.price or None
    return ChainPage(
        rows=rows,
        faults=tuple(wire.faults),
        next_url=wire.next_url,
        underlying=rows[0].contract.underlying if rows else None,
        underlying_price=price,
        underlying_event_ns=None if price is None else latest.last_updated or None,
        underlying_delayed=latest.timeframe == DELAYED,
    )


def _option(row: _Row, origin: Origin) -> OptionSnapshot | SymbolFault:
    terms = row.details
    symbol = row.ticker or (terms and terms.ticker) or ""
    if row.error:
        return refused(symbol, row.error, row.message)
    if terms is None:
        return garbled(symbol, "an option without its terms")
    on = row.underlying_asset
    contract = as_contract(terms, symbol, on and on.ticker)
    if isinstance(contract, SymbolFault):
        return contract
    quote = _as_quote(row, symbol, origin)
    return OptionSnapshot(
        contract=contract,
        quote=quote,
        last_trade=_as_trade(row.last_trade or _NO_PRINT, quote),
        greeks=_as_greeks(row.greeks),
        implied_volatility=row.implied_volatility or None,
        open_interest=row.open_interest,
        volume=quote.volume,
        break_even=row.break_even_price,
    )


# The vendor's own sample has nine digits of strike: the terms are in the row, so it may.
_root = re.compile(r"O:([A-Z0-9.]{1,6}?)\d{6}[CP]\d{8,9}").fullmatch


def as_contract(
    terms: Terms, symbol: str, underlying: str | None = None
) -> OptionContract | SymbolFault:
    """Read an option's terms. The vendor's word for what it is on stands before any rule."""
    match = _root(symbol)
    if match is None:
        return garbled(symbol, "not an option")
    # A chain has thousands of rows and a handful of these strings: share them.
    root, style = intern(match[1]), terms.exercise_style
    told = underlying or terms.underlying_ticker or root
    underlying = told if told[1:2] == ":" else underlying_of(told)
    return OptionContract(
        symbol=symbol,
        root=root,
        underlying=intern(underlying),
        expiration=terms.expiration_date,
        strike=terms.strike_price,
        contract_type=terms.contract_type,
        exercise_style=None if style is None else intern(style),
        shares_per_contract=terms.shares_per_contract,
    )


def _as_trade(trade: _Print, quote: Quote) -> Trade | None:
    """Return the newest print, if all that makes one is there."""
    if not trade.price or trade.size is None or not trade.sip_timestamp:
        return None
    return Trade(
        symbol=quote.symbol,
        event_ns=trade.sip_timestamp,
        received_ns=quote.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=quote.simulated,
        delayed=trade.timeframe == DELAYED,
        price=trade.price,
        size=trade.size,
        exchange=whole(trade.exchange),
        conditions=trade.conditions or (),
    )


def _as_greeks(greeks: _Greeks | None) -> Greeks | None:
    if greeks is None or greeks == _NO_GREEKS:
        return None
    return Greeks(
        delta=greeks.delta,
        gamma=greeks.gamma,
        theta=greeks.theta,
        vega=greeks.vega,
        provider=PROVIDER,
    )


_NO_GREEKS: Final = _Greeks()
