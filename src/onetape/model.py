"""The words every floor shares: what a market datum is, and whose it is.

Frozen and typed. Times are int nanoseconds UTC: `event_ns` is when it happened at
the exchange, `received_ns` when we learned of it. What the vendor left out is
`None`, never 0.
"""

from enum import StrEnum
from typing import NewType

import msgspec

Topic = NewType("Topic", str)
"""One channel of one symbol in the vendor's form: `Q.O:SPY251219C00650000`, `V.I:SPX`, `T.*`."""

ClientId = NewType("ClientId", str)
"""One session of one client; unique in a process, never reused."""


class AssetClass(StrEnum):
    """What the vendor sells, and so what one upstream socket carries."""

    OPTIONS = "options"
    INDICES = "indices"
    STOCKS = "stocks"


class ContractType(StrEnum):
    """The right an option gives."""

    CALL = "call"
    PUT = "put"


class Datum(msgspec.Struct, frozen=True, kw_only=True):
    """What every market datum carries: what it is about, when, and from whom."""

    symbol: str
    event_ns: int
    received_ns: int
    provider: str
    simulated: bool = False


class Quote(Datum, frozen=True, kw_only=True, tag="quote"):
    """The best bid and offer of one symbol; prices in dollars, sizes as the vendor sent them."""

    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    bid_exchange: int | None = None
    ask_exchange: int | None = None
    sequence: int | None = None


class Trade(Datum, frozen=True, kw_only=True, tag="trade"):
    """One print: price in dollars, size in contracts or shares."""

    price: float
    size: float
    exchange: int | None = None
    conditions: tuple[int, ...] = ()
    sequence: int | None = None


class Bar(Datum, frozen=True, kw_only=True, tag="bar"):
    """One aggregate window `[event_ns, end_ns)`. Index bars have no volume: None, not 0."""

    end_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    vwap: float | None = None


class IndexValue(Datum, frozen=True, kw_only=True, tag="index_value"):
    """The published value of an index, in index points."""

    value: float
