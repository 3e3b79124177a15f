"""The rows of Tradier's answers, key for key and in their order.

Unlike the other vendor, what is not known is written as null; only `greeks` is absent
when nobody asked. Times are epoch milliseconds, 0 for never.
"""

import msgspec
from msgspec import UNSET, UnsetType


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A JSON object; rows hold no cycles."""


class Greeks(Row, frozen=True, kw_only=True):
    """What ORATS thinks of a contract, once an hour; a put's are its call's, but for delta."""

    delta: float
    gamma: float
    theta: float
    vega: float
    rho: float
    phi: float
    bid_iv: float
    mid_iv: float
    ask_iv: float
    smv_vol: float
    updated_at: str


class Quote(Row, frozen=True, kw_only=True):
    """One stock, ETF or index."""

    symbol: str
    description: str
    exch: str
    type: str
    last: float | None
    change: float | None
    volume: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    bid: float | None
    ask: float | None
    change_percentage: float | None
    average_volume: int
    last_volume: int
    trade_date: int
    prevclose: float | None
    week_52_high: float
    week_52_low: float
    bidsize: int
    bidexch: str | None
    bid_date: int
    asksize: int
    askexch: str | None
    ask_date: int
    root_symbols: str


class OptionQuote(Row, frozen=True, kw_only=True):
    """One contract, in quotes and in chains alike."""

    symbol: str
    description: str
    exch: str
    type: str = "option"
    last: float | None
    change: float | None
    volume: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    bid: float | None
    ask: float | None
    underlying: str
    strike: float
    greeks: Greeks | UnsetType | None = UNSET
    change_percentage: float | None
    average_volume: int = 0
    last_volume: int
    trade_date: int
    prevclose: float | None
    week_52_high: float = 0.0
    week_52_low: float = 0.0
    bidsize: int
    bidexch: str | None
    bid_date: int
    asksize: int
    askexch: str | None
    ask_date: int
    open_interest: int
    contract_size: int
    expiration_date: str
    expiration_type: str
    option_type: str
    root_symbol: str


class Day(Row, frozen=True, kw_only=True):
    """One bar of a history."""

    date: str
    open: float
    high: float
    low: float
    close: float
    volume: int


class Sale(Row, frozen=True, kw_only=True):
    """One bar within a day; `price` is half way between high and low."""

    time: str
    timestamp: int
    price: float
    open: float
    high: float
    low: float
    close: float
    volume: int
    vwap: float | str


class TickSale(Row, frozen=True, kw_only=True):
    """One trade; `time` is UTC, unlike a bar's."""

    time: str
    timestamp: int
    price: float
    volume: int


class Security(Row, frozen=True, kw_only=True):
    """One symbol, as a search finds it."""

    symbol: str
    exchange: str
    type: str
    description: str
