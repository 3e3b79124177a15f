"""The words every floor shares: what a market datum is, and whose it is.

Frozen and typed. Times are int nanoseconds UTC: `event_ns` is when it happened at
the exchange, `received_ns` when we learned of it. What the vendor left out is
`None`, never 0.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

import msgspec

from onetape.provenance import Quality, Source

if TYPE_CHECKING:
    from onetape.rows import Rows

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


class Datum(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every market datum carries: what it is about, when, from whom, and how it came."""

    symbol: str
    event_ns: int | None
    received_ns: int
    provider: str
    source: Source = Source.STREAM
    simulated: bool = False
    delayed: bool = False
    quality: Quality | None = None

    def age_s(self, now_ns: int) -> float | None:
        """Return how old it is at an instant, by the exchange's time; None without one."""
        return None if self.event_ns is None else (now_ns - self.event_ns) / 1e9


class Quote(Datum, frozen=True, kw_only=True, gc=False, tag="quote"):
    """What a symbol is worth: the best bid and offer, the last price, the day so far.

    Prices in dollars (an index: points), sizes in contracts or shares. Each source
    has only some of it: a streamed option quote has no last price, an index has no
    bid. What is not there is None.
    """

    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    bid_exchange: int | None = None
    ask_exchange: int | None = None
    sequence: int | None = None
    last: float | None = None
    last_size: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    previous_close: float | None = None
    change: float | None = None
    change_percent: float | None = None
    volume: float | None = None
    vwap: float | None = None
    market_status: str | None = None

    @property
    def mid(self) -> float | None:
        """Midway between bid and ask; None unless both are there."""
        if self.bid is None or self.ask is None:
            return None
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> float | None:
        """What the ask is above the bid; negative when crossed."""
        if self.bid is None or self.ask is None:
            return None
        return self.ask - self.bid

    @property
    def price(self) -> float | None:
        """The last price; without one, the middle of the market."""
        return self.mid if self.last is None else self.last


class Trade(Datum, frozen=True, kw_only=True, gc=False, tag="trade"):
    """One print: price in dollars, size in contracts or shares."""

    event_ns: int
    price: float
    size: float
    exchange: int | None = None
    conditions: tuple[int, ...] = ()
    sequence: int | None = None


class Bar(Datum, frozen=True, kw_only=True, gc=False, tag="bar"):
    """One aggregate window `[event_ns, end_ns)`. Index bars have no volume: None, not 0."""

    event_ns: int
    end_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    vwap: float | None = None
    trades: int | None = None


class Greeks(msgspec.Struct, frozen=True, kw_only=True):
    """How an option's price moves. None where the source gives none.

    `delta` per dollar, `gamma` per dollar squared, `theta` in dollars a calendar day,
    `vega` per volatility point (0.01), `rho` per percentage point of interest.
    """

    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None
    rho: float | None = None
    provider: str
    source: Source = Source.REST
    event_ns: int | None = None


class OptionContract(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of one listed option; symbols in the vendor's form (`O:…`, `I:SPX`)."""

    symbol: str
    root: str
    underlying: str
    expiration: date
    strike: float
    contract_type: ContractType
    exercise_style: str | None = None
    shares_per_contract: float | None = None


class OptionSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One contract of a chain, with its market. `implied_volatility` is a fraction: 0.2 is 20 %."""

    contract: OptionContract
    quote: Quote
    last_trade: Trade | None = None
    greeks: Greeks | None = None
    implied_volatility: float | None = None
    open_interest: float | None = None
    volume: float | None = None
    break_even: float | None = None
    quality: Quality | None = None

    @property
    def symbol(self) -> str:
        """The contract's symbol."""
        return self.contract.symbol

    @property
    def spread_percent(self) -> float | None:
        """The spread in percent of the middle, to a millionth; None without a positive middle."""
        spread, mid = self.quote.spread, self.quote.mid
        # 1.01 - 0.99 is not 0.02 in floats, and a bound of 2 % shall hold for it.
        return None if spread is None or not mid or mid < 0 else round(100 * spread / mid, 6)


class OptionChain(msgspec.Struct, frozen=True, kw_only=True):
    """The contracts on one underlying, by expiration, strike and type (calls first)."""

    underlying: str
    underlying_price: float | None
    contracts: tuple[OptionSnapshot, ...]
    received_ns: int
    provider: str
    source: Source = Source.REST
    underlying_event_ns: int | None = None
    partial: tuple[str, ...] = ()
    """What is missing, in words: an expiration that failed, pages that were not read."""
    dropped: Mapping[str, int] = {}
    """How many rows were left out, by reason code."""
    listed: int | None = None
    """How many contracts the provider has before any filter; None when it did not say."""
    delayed: bool = False
    simulated: bool = False
    quality: Quality | None = None

    @property
    def expirations(self) -> tuple[date, ...]:
        """The expirations of the chain, soonest first."""
        return tuple(sorted({one.contract.expiration for one in self.contracts}))

    @property
    def rows(self) -> "Rows[OptionSnapshot]":
        """The contracts as rows, which have `to_polars` and `to_pandas`."""
        from onetape.rows import Rows

        return Rows(self.contracts, kind=OptionSnapshot, simulated=self.simulated)


class IndicatorValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value of an indicator at the start of its window."""

    event_ns: int
    value: float


class Timeframe(msgspec.Struct, frozen=True, kw_only=True):
    """An index over one bar length: its bars, and indicators by name."""

    length: str
    bars: tuple[Bar, ...]
    indicators: Mapping[str, float | None] = {}
    provider: str
    updated_ns: int


class IndexSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An index now, and over several bar lengths (`1m`, `5m`, `15m`, `1h`, `1d`) if asked for."""

    symbol: str
    quote: Quote
    timeframes: Mapping[str, Timeframe] = {}
    quality: Quality | None = None


class MarketStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchanges are doing: `open`, `pre`, `after` or `closed`."""

    session: str
    event_ns: int
    received_ns: int
    provider: str
    next_open_ns: int | None = None
    next_close_ns: int | None = None
    exchanges: Mapping[str, str] = {}
    simulated: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the regular session is on."""
        return self.session == "open"


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape of an underlying's options says. Without a tape it is not available.

    `pressure` is the share of volume bought at the offer, in percent; `score` 0 to 100.
    """

    underlying: str
    available: bool
    reason: str | None = None
    """Why it is not available."""
    provider: str
    trades: int | None = None
    volume: float | None = None
    pressure: float | None = None
    score: float | None = None
    updated_ns: int | None = None
    simulated: bool = False


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider does. Times in ns UTC, durations in seconds."""

    provider: str
    enabled: bool = True
    healthy: bool
    status: str
    """In a word: `ok`, `failing`, `open` (not asked for a while), `probing`, `disabled`."""
    last_success_ns: int | None = None
    last_failure_ns: int | None = None
    last_failure: str | None = None
    """What went wrong, in words; some may be the vendor's."""
    last_failure_code: str | None = None
    """The code at the bottom of it, such as `upstream_down`."""
    consecutive_errors: int = 0
    requests: int = 0
    failures: int = 0
    fallbacks: int = 0
    """How often another provider answered instead."""
    response_time_s: float | None = None
    mean_response_time_s: float | None = None
    """Exponentially weighted."""


class MarketDataTick(msgspec.Struct, frozen=True, kw_only=True):
    """One update of the consolidated view: exactly one of its four parts changed."""

    symbol: str
    at_ns: int
    sequence: int
    chain: OptionChain | None = None
    index: IndexSnapshot | None = None
    equity: Quote | None = None
    flow: Flow | None = None

    def __post_init__(self) -> None:
        """Hold the tick to one part.

        Raises:
            ValueError: none, or more than one.
        """
        if sum(part is not None for part in (self.chain, self.index, self.equity, self.flow)) != 1:
            raise ValueError("a tick has exactly one of chain, index, equity and flow")

    @property
    def kind(self) -> str:
        """Which part: `option`, `index`, `equity` or `flow`."""
        parts = {"option": self.chain, "index": self.index, "equity": self.equity}
        return next((kind for kind, part in parts.items() if part is not None), "flow")


class MarketDataSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The consolidated view at one moment: by symbol, immutable, judged as a whole."""

    at_ns: int
    sequence: int
    chains: Mapping[str, OptionChain] = {}
    indices: Mapping[str, IndexSnapshot] = {}
    equities: Mapping[str, Quote] = {}
    flows: Mapping[str, Flow] = {}
    missing: Mapping[str, str] = {}
    """What is watched and not there, and why."""

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The qualities of all parts that were judged."""
        parts = (*self.chains.values(), *self.indices.values(), *self.equities.values())
        return tuple(part.quality for part in parts if part.quality is not None)

    def confidence(self, now_ns: int) -> int | None:
        """Return the mean of the parts' scores, 0 to 100; None when nothing is there."""
        scores = [quality.confidence(now_ns) for quality in self.qualities]
        return (2 * sum(scores) + len(scores)) // (2 * len(scores)) if scores else None

    def is_stale(self, now_ns: int) -> bool:
        """Tell whether any part is older than its kind should be."""
        return any(quality.is_stale(now_ns) for quality in self.qualities)

    @property
    def simulated(self) -> bool:
        """Whether any part was made up by a simulator."""
        return any(quality.simulated for quality in self.qualities)
