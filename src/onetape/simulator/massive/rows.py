"""The rows and envelopes of the vendor's REST answers, key for key.

What is None is left out, never written as null: the vendor's official client fails
on nulls. Field names are the wire's own, so they are terse; times are int
nanoseconds or milliseconds as the vendor's table says, always exact.
"""

from typing import Any

import msgspec

from onetape.simulator.seeded.records import Deliverable


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A JSON object whose absent values are absent.

    Rows hold no cycles, and there may be 50 000: the collector need not look at them.
    """


class Envelope(Row, frozen=True, kw_only=True):
    """What wraps the rows of most endpoints."""

    results: Any = None
    status: str
    request_id: str
    count: int | None = None
    next_url: str | None = None


class ErrorBody(Row, frozen=True, kw_only=True):
    """A refusal: the text is in `error` for ERROR, else in `message`."""

    status: str
    request_id: str
    error: str | None = None
    message: str | None = None


class Bar(Row, frozen=True, kw_only=True):
    """One aggregate; `t` in ms. Indices have prices alone."""

    T: str | None = None
    v: float | None = None
    vw: float | None = None
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the wire's name
    t: int
    n: int | None = None


class AggregatesEnvelope(Row, frozen=True, kw_only=True):
    """What wraps bars; `results` is absent when there are none."""

    ticker: str | None = None
    queryCount: int  # noqa: N815 - wire name
    resultsCount: int | None = None  # noqa: N815 - wire name
    adjusted: bool | None = None
    results: list[Bar] | None = None
    status: str
    request_id: str
    count: int | None = None
    next_url: str | None = None


class OpenClose(Row, frozen=True, kw_only=True):
    """One day of one ticker, flat, and without a `request_id`."""

    status: str
    from_: str = msgspec.field(name="from")
    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    afterHours: float | None = None  # noqa: N815 - wire name
    preMarket: float | None = None  # noqa: N815 - wire name


class Details(Row, frozen=True, kw_only=True):
    """What an option is; `ticker` in chains, `underlying_ticker` in universal snapshots."""

    contract_type: str
    exercise_style: str
    expiration_date: str
    shares_per_contract: float
    strike_price: float
    ticker: str | None = None
    underlying_ticker: str | None = None


class Greeks(Row, frozen=True, kw_only=True):
    """Sensitivities: delta and gamma per dollar, theta per day, vega per volatility point."""

    delta: float
    gamma: float
    theta: float
    vega: float


class LastQuote(Row, frozen=True, kw_only=True):
    """A bid and an offer as of `last_updated`, ns."""

    ask: float | None = None
    ask_exchange: int | None = None
    ask_size: float | None = None
    bid: float | None = None
    bid_exchange: int | None = None
    bid_size: float | None = None
    last_updated: int
    midpoint: float | None = None
    timeframe: str


class LastTrade(Row, frozen=True, kw_only=True):
    """The newest print, ns."""

    conditions: tuple[int, ...] | None = None
    exchange: int
    id: str | None = None
    participant_timestamp: int | None = None
    price: float
    sip_timestamp: int
    size: int
    timeframe: str


class Session(Row, frozen=True, kw_only=True):
    """A day so far: of options in chains `day`, elsewhere `session`."""

    change: float | None = None
    change_percent: float | None = None
    close: float | None = None
    early_trading_change: float | None = None
    early_trading_change_percent: float | None = None
    high: float | None = None
    last_updated: int | None = None
    late_trading_change: float | None = None
    late_trading_change_percent: float | None = None
    low: float | None = None
    open: float | None = None
    previous_close: float | None = None
    price: float | None = None
    regular_trading_change: float | None = None
    regular_trading_change_percent: float | None = None
    volume: float | None = None
    vwap: float | None = None


class Underlying(Row, frozen=True, kw_only=True):
    """What an option is on: a stock has a price, an index a value."""

    change_to_break_even: float | None = None
    last_updated: int | None = None
    price: float | None = None
    value: float | None = None
    ticker: str
    timeframe: str | None = None


class ChainRow(Row, frozen=True, kw_only=True):
    """One contract of a chain snapshot."""

    break_even_price: float | None = None
    day: Session | None = None
    details: Details
    fmv: float | None = None
    fmv_last_updated: int | None = None
    greeks: Greeks | None = None
    implied_volatility: float | None = None
    last_quote: LastQuote | None = None
    last_trade: LastTrade | None = None
    open_interest: float | None = None
    underlying_asset: Underlying | None = None


class LastMinute(Row, frozen=True, kw_only=True):
    """The newest minute bar of a stock, inside a universal snapshot."""

    close: float
    high: float
    low: float
    open: float
    transactions: int | None = None
    volume: float | None = None
    vwap: float | None = None


class SnapshotRow(Row, frozen=True, kw_only=True):
    """One ticker of the universal or the indices snapshot, or why it is not there."""

    break_even_price: float | None = None
    details: Details | None = None
    error: str | None = None
    fmv: float | None = None
    fmv_last_updated: int | None = None
    greeks: Greeks | None = None
    implied_volatility: float | None = None
    last_minute: LastMinute | None = None
    last_quote: LastQuote | None = None
    last_trade: LastTrade | None = None
    last_updated: int | None = None
    market_status: str | None = None
    message: str | None = None
    name: str | None = None
    open_interest: float | None = None
    session: Session | None = None
    ticker: str
    timeframe: str | None = None
    type: str | None = None
    underlying_asset: Underlying | None = None
    value: float | None = None


class SummaryRow(Row, frozen=True, kw_only=True):
    """One ticker in short, or why it is not there."""

    error: str | None = None
    market_status: str | None = None
    message: str | None = None
    name: str | None = None
    options: Details | None = None
    price: float | None = None
    session: Session | None = None
    ticker: str
    type: str | None = None


class StockDay(Row, frozen=True, kw_only=True):
    """A day's bar inside a stock snapshot."""

    c: float
    h: float
    l: float  # noqa: E741 - the wire's name
    o: float
    v: float
    vw: float | None = None


class StockMinute(Row, frozen=True, kw_only=True):
    """The newest minute inside a stock snapshot; `t` in ms, `av` the day's volume so far."""

    av: float
    c: float
    h: float
    l: float  # noqa: E741 - the wire's name
    n: int | None = None
    o: float
    t: int
    v: float
    vw: float | None = None


class StockQuote(Row, frozen=True, kw_only=True):
    """A stock's quote in terse keys: capitals for the offer; `t` in ns."""

    P: float
    S: int
    p: float
    s: int
    t: int


class StockTrade(Row, frozen=True, kw_only=True):
    """A stock's print in terse keys; `t` in ns."""

    c: tuple[int, ...]
    i: str
    p: float
    s: int
    t: int
    x: int


class StockSnapshot(Row, frozen=True, kw_only=True):
    """One stock of the v2 snapshots; `updated` in ns."""

    day: StockDay
    lastQuote: StockQuote | None = None  # noqa: N815 - wire name
    lastTrade: StockTrade | None = None  # noqa: N815 - wire name
    min: StockMinute | None = None
    prevDay: StockDay | None = None  # noqa: N815 - wire name
    ticker: str
    todaysChange: float | None = None  # noqa: N815 - wire name
    todaysChangePerc: float | None = None  # noqa: N815 - wire name
    updated: int | None = None


class StockSnapshots(Row, frozen=True, kw_only=True):
    """What wraps v2 snapshots: several under `tickers` with their count, or one `ticker`."""

    status: str
    request_id: str
    count: int | None = None
    ticker: StockSnapshot | None = None
    tickers: list[StockSnapshot] | None = None


class TradeRow(Row, frozen=True, kw_only=True):
    """One print of a trade history; times in ns."""

    conditions: tuple[int, ...] | None = None
    exchange: int
    id: str | None = None
    participant_timestamp: int | None = None
    price: float
    sequence_number: int | None = None
    sip_timestamp: int
    size: int
    tape: int | None = None
    trf_id: int | None = None
    trf_timestamp: int | None = None


class QuoteRow(Row, frozen=True, kw_only=True):
    """One quote of a quote history; times in ns."""

    ask_exchange: int | None = None
    ask_price: float | None = None
    ask_size: float | None = None
    bid_exchange: int | None = None
    bid_price: float | None = None
    bid_size: float | None = None
    conditions: tuple[int, ...] | None = None
    participant_timestamp: int | None = None
    sequence_number: int
    sip_timestamp: int
    tape: int | None = None


class LastTradeResult(Row, frozen=True, kw_only=True):
    """The newest print of one ticker in terse keys; times in ns."""

    T: str
    c: tuple[int, ...] | None = None
    f: int | None = None
    i: str
    p: float
    q: int
    r: int | None = None
    s: int
    t: int
    x: int
    y: int
    z: int | None = None


class LastQuoteResult(Row, frozen=True, kw_only=True):
    """The newest quote of one stock in terse keys; times in ns."""

    T: str
    P: float
    S: int
    X: int
    p: float
    q: int
    s: int
    t: int
    x: int
    y: int
    z: int | None = None


class ContractRow(Row, frozen=True, kw_only=True):
    """One option of the contracts reference."""

    additional_underlyings: tuple[Deliverable, ...] | None = None
    cfi: str
    contract_type: str
    exercise_style: str
    expiration_date: str
    primary_exchange: str
    shares_per_contract: float
    strike_price: float
    ticker: str
    underlying_ticker: str


class IndicatorValue(Row, frozen=True, kw_only=True):
    """One point of an indicator; `timestamp` in ms. MACD has a signal and a histogram too."""

    histogram: float | None = None
    signal: float | None = None
    timestamp: int
    value: float


class IndicatorUnderlying(Row, frozen=True, kw_only=True):
    """The bars an indicator was computed from: where they are, and themselves on request."""

    aggregates: list[Bar] | None = None
    url: str


class IndicatorResults(Row, frozen=True, kw_only=True):
    """The values of an indicator and what they come from."""

    underlying: IndicatorUnderlying
    values: list[IndicatorValue] | None = None
