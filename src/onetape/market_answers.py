"""What the gateway's normalised routes answer: the model, and what was asked of it.

    /api/quotes                       QuotesAnswer
    /api/bars, …/bars                 BarsAnswer
    /api/options/chain, …/chain       ChainAnswer
    /api/massive/options/contracts    ContractsAnswer
    /api/massive/indices              IndicesAnswer
    /api/market/status                MarketStatusAnswer
    /api/market/holidays              HolidaysAnswer

`results` come in the order asked for, symbols in the vendor's form (`I:SPX`). What has no
result is in `errors`, by its symbol; a symbol that cannot be read is there as it was
written. `as_of_ns` is when the gateway answered, of what it keeps (contracts) when it learned
of it: what `quality` says it says of then.
"""

from collections.abc import Mapping
from datetime import date

import msgspec

from onetape.calendar import Holiday
from onetape.model import Bar, IndexSnapshot, MarketStatus, OptionChain, OptionContract, Quote
from onetape.provenance import Quality
from onetape.rows import SymbolFault
from onetape.timeframes import Timespan


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them say. `simulated`: at least a part was made up by a simulator."""

    as_of_ns: int
    simulated: bool = False


class QuotesAnswer(Answer, frozen=True, kw_only=True):
    """Quotes of stocks, indices and options; each symbol is in exactly one of the two."""

    results: tuple[Quote, ...]
    errors: Mapping[str, SymbolFault] = {}


class IndicesAnswer(Answer, frozen=True, kw_only=True):
    """Indices; each symbol is in exactly one of the two."""

    results: tuple[IndexSnapshot, ...]
    errors: Mapping[str, SymbolFault] = {}


class BarsAnswer(Answer, frozen=True, kw_only=True):
    """Bars of one length, in the order of `sort`; `quality` is that of the series.

    `start` and `end` (on the wire `from` and `to`) are what was asked for: a date of New
    York, or milliseconds UTC.
    """

    symbol: str
    timespan: Timespan
    multiplier: int
    start: date | int = msgspec.field(name="from")
    end: date | int = msgspec.field(name="to")
    adjusted: bool
    sort: str
    count: int
    has_more: bool = False
    """Whether the range has more bars than `limit` let through."""
    bars: tuple[Bar, ...]
    dropped: Mapping[str, int] = {}
    """How many were left out as wrong, by reason code."""
    notes: tuple[str, ...] = ()
    """What the provider says of the range: what it left out, from when on it has bars."""
    quality: Quality | None = None


class ExpirationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain has of one expiration."""

    date: date
    dte: int
    """Days to it on the calendar of New York; below 0 when it is past."""
    atm_strike: float | None
    """The strike nearest to the underlying's price; None without a price."""
    calls: int
    puts: int


class ChainAnswer(Answer, frozen=True, kw_only=True):
    """A chain as it was asked for, and what it has by expiration."""

    chain: OptionChain
    expirations: tuple[ExpirationSummary, ...]


class ContractsAnswer(Answer, frozen=True, kw_only=True):
    """The terms of listed contracts; rows that could not be read are in `errors`."""

    results: tuple[OptionContract, ...]
    has_more: bool = False
    """Whether more contracts meet the question than `limit` let through."""
    errors: Mapping[str, SymbolFault] = {}


class HolidaysAnswer(Answer, frozen=True, kw_only=True):
    """The holidays and half days of a year; of the vendor, or of the built-in calendar."""

    year: int
    provider: str
    results: tuple[Holiday, ...]
    errors: Mapping[str, SymbolFault] = {}


class MarketStatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchanges are doing. The five old fields say it in milliseconds.

    `status.provider` is the vendor when it said so within the last minute, else `calendar`.
    """

    is_open: bool = msgspec.field(name="isOpen")
    session: str
    """`premarket`, `open`, `afterhours` or `closed`."""
    next_open: int = msgspec.field(name="nextOpen")
    next_close: int = msgspec.field(name="nextClose")
    timestamp: int
    status: MarketStatus
