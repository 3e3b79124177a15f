"""What may be asked of our own routes: Structs, and how a query becomes one.

Field names, types, bounds and descriptions are those of the API, and `/openapi.json` is made
of them. A name that is not in the Struct is refused, for a misspelt bound is no bound; only
the contracts reference drops it (R43). A bound that is clamped and not refused is in the
description alone.
"""

import math
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, field
from starlette.datastructures import QueryParams

from onetape import calendar
from onetape.chain_query import ChainQuery
from onetape.errors import InvalidRequest
from onetape.model import ContractType
from onetape.timeframes import BarLength, Timespan

P = TypeVar("P", bound="Parameters")

MOST_SYMBOLS: Final = 250
MOST_BARS: Final = 50_000
MOST_CONTRACTS: Final = 10_000
MOST_EXPIRATIONS: Final = 250
MOST_STRIKES: Final = 25
STRIKES: Final = 10
"""How many strikes a side a chain has that is asked for by nothing but its symbol."""

_LATEST_MS: Final = 253_402_300_799_000  # the end of the year 9999
_DAY: Final = timedelta(days=1)
_SHOWN: Final = 40
_NO_ALIASES: Final[Mapping[str, str]] = {}


def _symbol(kind: str, text: str) -> Meta:
    return Meta(
        min_length=1, max_length=_SHOWN, description=text, extra_json_schema={"format": kind}
    )


Symbol = Annotated[str, _symbol("symbol", "Of a stock, an index or an option: BRK.B, SPX, I:SPX.")]
Stock = Annotated[str, _symbol("stock", "Of a stock.")]
Index = Annotated[str, _symbol("index", "Of an index, with or without its `I:`.")]
Option = Annotated[
    str,
    _symbol("option", "O:SPY251219C00650000; `symbol` is another name for this parameter."),
]
Underlying = Annotated[
    str,
    _symbol("underlying", "A stock or an index; `symbol` is another name for this parameter."),
]
Ticker = Annotated[str, Meta(min_length=1, pattern="^[^,]+$", description="One symbol.")]
Tickers = Annotated[
    tuple[Ticker, ...],
    Meta(
        min_length=1,
        max_length=MOST_SYMBOLS,
        description="Symbols between commas; `symbols` is another name for this parameter.",
    ),
]
Edge = Annotated[
    date | Annotated[int, Meta(ge=0, le=_LATEST_MS)],
    Meta(description="A date of New York, or milliseconds UTC; included."),
]
Multiplier = Annotated[int, Meta(ge=1, le=1_000, description="How many of the timespan.")]
Limit = Annotated[int, Meta(description=f"How many bars at most; clamped to 1 to {MOST_BARS}.")]
Strike = Annotated[float, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
Year = Annotated[
    int,
    Meta(
        ge=calendar.FIRST_DAY.year,
        le=calendar.LAST_DAY.year,
        description="The present one without it.",
    ),
]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be asked; without fields nothing."""


class Symbols(Parameters, frozen=True, kw_only=True):
    """Several symbols."""

    tickers: Tickers


class Ready(Parameters, frozen=True, kw_only=True):
    """Of `/health`."""

    ready: Annotated[str, Meta(description="`1` or `true`: answer as `/api/health/ready`.")] = ""


class Bars(Parameters, frozen=True, kw_only=True):
    """Bars of one length; `limit` keeps those that come first in the order of `sort`."""

    symbol: Symbol
    timespan: Timespan = Timespan.MINUTE
    multiplier: Multiplier = 1
    start: Edge = field(name="from")
    end: Edge = field(name="to")
    limit: Limit = 500
    adjusted: Annotated[bool, Meta(description="For splits.")] = True
    sort: Literal["asc", "desc"] = "asc"

    @property
    def length(self) -> BarLength:
        """How much time one bar covers."""
        return BarLength(self.multiplier, self.timespan)

    @property
    def most(self) -> int:
        """The limit, clamped."""
        return clamped(self.limit, MOST_BARS)


class StockBars(Bars, frozen=True, kw_only=True):
    """As `Bars`."""

    symbol: Stock


class IndexBars(Bars, frozen=True, kw_only=True):
    """As `Bars`, with a limit of its own."""

    symbol: Index
    limit: Limit = 250


class OptionBars(Bars, frozen=True, kw_only=True):
    """As `Bars`, keyed by `ticker`, with a limit of its own."""

    symbol: Option = field(name="ticker")
    limit: Limit = 5_000


class Chain(Parameters, frozen=True, kw_only=True):
    """A chain within bounds, all inclusive.

    `window`, `strikeWindow` and `endDate` are clamped; `max_expirations`, `around` and
    `last_expiration` are the same bounds, taken as they are, and prevail over them.
    """

    underlying: Underlying
    window: Annotated[
        int | None, Meta(description=f"The soonest so many; clamped to 1 to {MOST_EXPIRATIONS}.")
    ] = None
    strike_window: Annotated[
        int | None,
        Meta(
            description=f"Strikes on either side of the money; clamped to 1 to {MOST_STRIKES}. "
            f"{STRIKES} without it, unless `whole` or one of the bounds after `endDate` is given."
        ),
    ] = field(default=None, name="strikeWindow")
    end_date: Annotated[date | None, Meta(description="The last expiration.")] = field(
        default=None, name="endDate"
    )
    whole: Annotated[bool, Meta(description="Whether nothing binds that is not given.")] = False
    min_strike: Strike | None = None
    max_strike: Strike | None = None
    first_expiration: date | None = None
    last_expiration: date | None = None
    contract_type: ContractType | None = None
    min_volume: Amount | None = None
    min_open_interest: Amount | None = None
    max_spread_percent: Amount | None = None
    around: Annotated[int, Meta(ge=0, le=_LATEST_MS)] | None = None
    max_expirations: Annotated[int, Meta(gt=0, le=_LATEST_MS)] | None = None

    @property
    def query(self) -> ChainQuery:
        """What of the chain is wanted.

        Raises:
            InvalidRequest: two bounds exclude each other.
        """
        own = {name: getattr(self, name) for name in ChainQuery.__struct_fields__}
        is_bound = self.whole or any(bound is not None for bound in own.values())
        strikes = self.strike_window
        if strikes is None and not is_bound:
            strikes = STRIKES
        if own["around"] is None and strikes is not None:
            own["around"] = clamped(strikes, MOST_STRIKES)
        if own["max_expirations"] is None and self.window is not None:
            own["max_expirations"] = clamped(self.window, MOST_EXPIRATIONS)
        own["last_expiration"] = own["last_expiration"] or self.end_date
        return ChainQuery(**own)


class Terms(Parameters, frozen=True, kw_only=True):
    """Contracts by their terms, in the vendor's own words."""

    strike_price: Strike | None = None
    strike_gte: Strike | None = field(default=None, name="strike_price.gte")
    strike_gt: Strike | None = field(default=None, name="strike_price.gt")
    strike_lte: Strike | None = field(default=None, name="strike_price.lte")
    strike_lt: Strike | None = field(default=None, name="strike_price.lt")
    expiration_date: date | None = None
    expiration_gte: date | None = field(default=None, name="expiration_date.gte")
    expiration_gt: date | None = field(default=None, name="expiration_date.gt")
    expiration_lte: date | None = field(default=None, name="expiration_date.lte")
    expiration_lt: date | None = field(default=None, name="expiration_date.lt")
    contract_type: ContractType | None = None

    @property
    def query(self) -> ChainQuery:
        """The same as inclusive bounds: above a strike is from the next number on.

        Raises:
            InvalidRequest: two bounds exclude each other.
        """
        above = None if self.strike_gt is None else math.nextafter(self.strike_gt, math.inf)
        below = None if self.strike_lt is None else math.nextafter(self.strike_lt, -math.inf)
        after = None if self.expiration_gt is None else _shifted(self.expiration_gt, _DAY)
        before = None if self.expiration_lt is None else _shifted(self.expiration_lt, -_DAY)
        lows = [self.strike_price, self.strike_gte, above]
        highs = [self.strike_price, self.strike_lte, below]
        firsts = [self.expiration_date, self.expiration_gte, after]
        lasts = [self.expiration_date, self.expiration_lte, before]
        return ChainQuery(
            min_strike=max((one for one in lows if one is not None), default=None),
            max_strike=min((one for one in highs if one is not None), default=None),
            first_expiration=max((one for one in firsts if one is not None), default=None),
            last_expiration=min((one for one in lasts if one is not None), default=None),
            contract_type=self.contract_type,
        )


class VendorChain(Terms, frozen=True, kw_only=True):
    """A chain by the vendor's filters."""

    underlying: Underlying
    limit: Annotated[
        int, Meta(description="The vendor's page size; pages are merged, so it changes nothing.")
    ] = 250


class Contracts(Terms, frozen=True, kw_only=True):
    """The contracts reference, by the vendor's filters; what is none of them is dropped."""

    underlying: Underlying | None = field(default=None, name="underlying_ticker")
    expired: Annotated[bool, Meta(description="Expired contracts instead.")] = False
    as_of: Annotated[date | None, Meta(description="As the listing was on that day.")] = None
    order: Literal["asc", "desc"] = "asc"
    sort: Literal["ticker", "underlying_ticker", "expiration_date", "strike_price"] = "ticker"
    limit: Annotated[
        int, Meta(description=f"How many at most; clamped to 1 to {MOST_CONTRACTS}.")
    ] = 250

    @property
    def most(self) -> int:
        """The limit, clamped."""
        return clamped(self.limit, MOST_CONTRACTS)


class Holidays(Parameters, frozen=True, kw_only=True):
    """The holidays of one year."""

    year: Year | None = None


def clamped(number: int, most: int) -> int:
    """Bring a number to 1 to `most`."""
    return min(max(1, number), most)


def _shifted(day: date, by: timedelta) -> date:
    try:
        return day + by
    except OverflowError:
        return day  # the first and the last day there are


# reading a query


def read(
    kind: type[P],
    query: QueryParams,
    *,
    aliases: Mapping[str, str] = _NO_ALIASES,
    drops_unknown: bool = False,
) -> P:
    """Read the parameters of a request.

    Args:
        kind: What may be asked.
        query: What was asked.
        aliases: Other names of parameters.
        drops_unknown: Whether a name that is none is dropped, and not refused.

    Raises:
        InvalidRequest: one is missing, unknown, given twice, or is not what it should be.
    """
    wanted = _names(kind)
    given: dict[str, str | list[str]] = {}
    for name, text in query.multi_items():
        name = aliases.get(name, name)
        if name not in wanted and drops_unknown:
            continue
        if name not in wanted:
            raise InvalidRequest(f"{name[:_SHOWN]!a} is no parameter of this route")
        if name in given:
            raise InvalidRequest(f"{name} is given twice")
        given[name] = text.split(",") if name == "tickers" else text
    try:
        asked = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error).replace("$.", "").replace("$", "the query")) from None
    for name in given:
        if not _is_plain(getattr(asked, wanted[name]), given[name]):
            raise InvalidRequest(f"{name} is not what it should be")
    return asked


def _names(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {one.encode_name: one.name for one in msgspec.structs.fields(kind)}


def _is_plain(value: object, text: object) -> bool:
    """Whether a text was meant so: `null`, `nan` and `1` for true are read by msgspec too."""
    match value:
        case None:
            return False
        case bool():
            return text in {"true", "false"}
        case float():
            return math.isfinite(value)
        case _:
            return True
