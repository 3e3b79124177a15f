"""What the simulated market says: ticks, bars, contracts and statistics.

Ticks are NamedTuples, because a stream step makes thousands of them; what is looked
up rather than streamed is a frozen Struct. All times are int nanoseconds UTC, all
prices dollars (or index points), all sizes shares or contracts.
"""

from datetime import date
from enum import StrEnum
from typing import NamedTuple

import msgspec

from onetape.model import ContractType
from onetape.simulator.seeded.noise import Floats


class Hours(StrEnum):
    """When the simulated market trades."""

    EXCHANGE = "exchange"
    """The real calendar: pre, regular and after hours; weekends, holidays, early closes."""
    ALWAYS = "always"
    """Every day of the week is one regular session of 24 hours, midnight to midnight ET."""


class Session(StrEnum):
    """The part of the day, as one asset class lives it."""

    CLOSED = "closed"
    PRE = "pre"
    REGULAR = "regular"
    AFTER = "after"


class TradeTick(NamedTuple):
    """One print of a stock or an option."""

    symbol: str
    event_ns: int
    price: float
    size: int
    exchange: int
    conditions: tuple[int, ...]
    """Empty for an ordinary stock trade; options always carry one."""
    sequence: int
    """Strictly increasing per symbol, across days too."""
    participant_ns: int
    """When the exchange stamped it; a little before `event_ns`, the SIP's stamp."""
    id: str | None = None
    """Stocks only."""
    tape: int | None = None
    """Stocks only: 1 NYSE, 2 the other exchanges, 3 Nasdaq."""
    trf_id: int | None = None
    trf_ns: int | None = None


class QuoteTick(NamedTuple):
    """The best bid and offer of a stock or an option.

    A bid of 0.0 with size 0 is what the exchanges publish when nobody bids (far out of
    the money); it is a real quote, not a missing one.
    """

    symbol: str
    event_ns: int
    bid: float
    ask: float
    bid_size: int
    ask_size: int
    bid_exchange: int
    ask_exchange: int
    sequence: int
    """Strictly increasing per symbol, across days too."""
    participant_ns: int
    tape: int | None = None
    """Stocks only."""

    @property
    def mid(self) -> float:
        """Half way between bid and ask."""
        return round((self.bid + self.ask) / 2, 6)


class ValueTick(NamedTuple):
    """One published value of an index."""

    symbol: str
    event_ns: int
    value: float


class BarTick(NamedTuple):
    """One aggregate window `[start_ns, end_ns)`; an index has no volume, so None.

    The `day_…` fields say what the day was when the window closed; only `closed_bars`
    fills them, because only the stream publishes them.
    """

    symbol: str
    start_ns: int
    end_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int | None = None
    vwap: float | None = None
    transactions: int | None = None
    day_open: float | None = None
    """The official open of the day so far (`op`)."""
    day_volume: int | None = None
    """Volume of the day up to the window's end (`av`)."""
    day_vwap: float | None = None
    """Volume-weighted price of the day up to the window's end (`a`)."""


class DayStats(NamedTuple):
    """What a symbol's market day was by some instant; None where nothing traded yet."""

    day: date
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    """The last eligible price so far; the close once the session is over."""
    volume: int | None = None
    """None for an index, 0 for a stock or option that has not traded today."""
    vwap: float | None = None
    transactions: int | None = None
    previous_close: float | None = None
    """The last close before this day, None when it never traded before."""
    pre_open: float | None = None
    """First trade before the regular session (`preMarket`)."""
    after_close: float | None = None
    """Last trade after the regular session (`afterHours`)."""
    regular_close: float | None = None
    """Last price of the regular session so far."""
    updated_ns: int | None = None
    """When the last tick of the day was."""

    @property
    def change(self) -> float | None:
        """Dollars from the previous close to the last price."""
        if self.close is None or self.previous_close is None:
            return None
        return round(self.close - self.previous_close, 4)

    @property
    def change_percent(self) -> float | None:
        """Percent from the previous close to the last price."""
        if self.change is None or not self.previous_close:
            return None
        return round(100 * self.change / self.previous_close, 4)


class Greeks(NamedTuple):
    """The vendor's units: delta and gamma per $1, theta per calendar day, vega per 1 % of volatility."""

    delta: float
    gamma: float
    theta: float
    vega: float


class Deliverable(msgspec.Struct, frozen=True, kw_only=True):
    """One part of what an adjusted contract delivers, as the vendor's reference writes it."""

    amount: float
    type: str
    """`equity` or `currency`."""
    underlying: str


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One listed option."""

    ticker: str
    """`O:SPXW251205P06850500`."""
    root: str
    underlying: str
    """The instrument's ticker, as the chain snapshot wants it: `SPY`, `I:SPX`."""
    contract_type: ContractType
    expiration: date
    strike: float
    exercise_style: str
    """`american` or `european`."""
    expires_ns: int
    """When it stops trading: the end of the session, or its start for AM-settled roots."""
    listed: date
    shares_per_contract: int = 100
    primary_exchange: str = "BATO"
    cfi: str = "OCASPS"
    additional_underlyings: tuple[Deliverable, ...] = ()
    """Not empty for adjusted contracts (root `AAPL1`)."""

    @property
    def underlying_ref(self) -> str:
        """The underlying as the contracts reference writes it: `SPX`, without `I:`."""
        return self.underlying.removeprefix("I:")


class OptionRow(NamedTuple):
    """Everything a chain snapshot says of one contract at one instant."""

    contract: Contract
    day: DayStats
    open_interest: int
    mark: float
    """Fair value, which the quote surrounds."""
    implied_volatility: float | None
    """Fraction (0.30 is 30 %); None when the price holds too little time value to imply one."""
    greeks: Greeks | None
    quote: QuoteTick | None
    trade: TradeTick | None
    """The last trade, of this day or of the few before."""
    break_even: float
    underlying_price: float
    """Last published value or trade price of the underlying."""
    underlying_ns: int
    """When that was."""


class OptionModel(NamedTuple):
    """What the market thinks of contracts of one underlying at one instant, column by column.

    The Greeks are those of the call of each contract's strike, whatever the contract is.
    """

    strike: Floats
    """In effect: less the cash an adjusted contract delivers."""
    sign: Floats
    """+1 call, -1 put."""
    years: Floats
    forward: Floats
    discount: Floats
    deviation: Floats
    """Volatility times the root of the years."""
    time_value: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats
    """Dollars per percentage point of the rate."""
    phi: Floats
    """Dollars per percentage point of the dividend yield."""
    quotes: tuple[QuoteTick | None, ...]


class MarketStatistics(NamedTuple):
    """What the market holds in memory, for metrics."""

    cached: int
    cached_bytes: int
    limit_bytes: int
    hits: int
    misses: int
