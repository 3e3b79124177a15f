"""The vendor's REST answers as models: the one door to the four modules that read them.

    parse            history and reference (here), and all the names below again
    parse_snapshots  /v3/snapshot…: quotes, option chains
    parse_stocks     /v2/snapshot/…/stocks: quotes
    parse_pages      how a page is read when some of it cannot be

Every function takes the whole body of a 200 answer, tells `received_ns` and `simulated` of
what it made, names `massive` as the provider and REST as the source, and raises
`UpstreamGarbled` for bytes that are no such answer. A row that cannot be read is left out
and reported in `faults`; the others stay.

The vendor's times are milliseconds in bars and indicators, nanoseconds in trades, quotes
and snapshots; here all are nanoseconds.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

import msgspec

from onetape import calendar
from onetape.calendar import NEW_YORK, Holiday, HolidayStatus, Session
from onetape.errors import InvalidRequest, UpstreamGarbled
from onetape.massive.parse_pages import (
    LAST_YEAR,
    NS_PER_MS,
    PROVIDER,
    Code,
    Envelope,
    Ms,
    Page,
    Reader,
    SomeNs,
    decode,
    sort_out,
    whole,
)
from onetape.massive.parse_snapshots import (
    ChainPage,
    Terms,
    as_contract,
    parse_chain,
    parse_option_snapshots,
    parse_quotes,
)
from onetape.massive.parse_stocks import parse_stock_quotes
from onetape.model import Bar, IndicatorValue, MarketStatus, OptionContract, Quote, Trade
from onetape.provenance import Source
from onetape.timeframes import BarLength, Timespan

__all__ = [
    "ChainPage",
    "Page",
    "bar_end",
    "parse_bars",
    "parse_chain",
    "parse_contracts",
    "parse_holidays",
    "parse_indicator",
    "parse_market_status",
    "parse_option_snapshots",
    "parse_quote_history",
    "parse_quotes",
    "parse_stock_quotes",
    "parse_trades",
]

_NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# ---- bars ----

_DAYS: Final[Mapping[Timespan, int]] = {Timespan.DAY: 1, Timespan.WEEK: 7}
_MONTHS: Final[Mapping[Timespan, int]] = {
    Timespan.MONTH: 1,
    Timespan.QUARTER: 3,
    Timespan.YEAR: 12,
}
_MOST: Final = 1000


class _Bar(msgspec.Struct, gc=False):
    t: Ms
    o: float
    h: float
    low: float = msgspec.field(name="l")
    c: float
    v: float | None = None
    vw: float | None = None
    n: Code | None = None


_bars = Reader(msgspec.json.Decoder(Envelope[_Bar]), msgspec.json.Decoder(_Bar))


def parse_bars(
    body: bytes, symbol: str, length: BarLength, *, received_ns: int, simulated: bool = False
) -> Page[Bar]:
    """Read `/v2/aggs/ticker/{symbol}/range/…`, in the answer's order.

    A bar is `[event_ns, end_ns)`. Days and longer end by New York's calendar, so the days
    on which its clocks change have 23 and 25 hours. Index bars have no volume.

    Raises:
        InvalidRequest: When the vendor has no bars of this length.
        UpstreamGarbled: When it is no such page, or one of another symbol.
    """
    end_of = bar_end(length)
    wire = _bars.read(body, symbol=symbol)
    if wire.ticker not in {None, symbol}:
        raise UpstreamGarbled(f"the vendor answered with the bars of another symbol than {symbol}")
    rows = tuple(
        Bar(
            symbol=symbol,
            event_ns=(start_ns := row.t * NS_PER_MS),
            end_ns=end_of(start_ns),
            received_ns=received_ns,
            provider=PROVIDER,
            source=Source.REST,
            simulated=simulated,
            delayed=wire.delayed,
            open=row.o,
            high=row.h,
            low=row.low,
            close=row.c,
            volume=row.v,
            vwap=row.vw,
            trades=whole(row.n),
        )
        for row in wire.rows
    )
    return Page(rows, tuple(wire.faults), wire.next_url)


def bar_end(length: BarLength) -> Callable[[int], int]:
    """Return what tells when a bar that starts at an instant ends.

    Raises:
        InvalidRequest: When the vendor has no bars of this length.
    """
    multiplier, timespan = length
    if not 1 <= multiplier <= _MOST:
        raise InvalidRequest(f"a bar has 1 to {_MOST} units, not {multiplier}")
    if (fixed_ns := length.fixed_ns) is not None:
        return lambda start_ns: start_ns + fixed_ns
    if (days := _DAYS.get(timespan)) is not None:
        return lambda start_ns: _days_later(start_ns, multiplier * days)
    months = _MONTHS[timespan]
    return lambda start_ns: _months_later(start_ns, multiplier * months)


# Bars of indices start at midnight in Chicago, which is one o'clock in New York: so the
# hour is kept, and both change their clocks on the same days.


def _days_later(start_ns: int, days: int) -> int:
    start = datetime.fromtimestamp(start_ns // _NS_PER_S, NEW_YORK)
    return calendar.instant_ns(start.date() + timedelta(days=days), start.time())


def _months_later(start_ns: int, months: int) -> int:
    start = datetime.fromtimestamp(start_ns // _NS_PER_S, NEW_YORK)
    years, month = divmod(start.month - 1 + months, 12)
    first = date(start.year + years, month + 1, 1)
    following = (first + timedelta(days=31)).replace(day=1)
    day = min(first + timedelta(days=start.day - 1), following - timedelta(days=1))
    return calendar.instant_ns(day, start.time())


# ---- trades and quotes ----


class _Trade(msgspec.Struct, gc=False):
    sip_timestamp: SomeNs
    price: Annotated[float, msgspec.Meta(gt=0)]
    size: float
    exchange: Code | None = None
    conditions: tuple[int, ...] | None = None
    sequence_number: Code | None = None


class _Quote(msgspec.Struct, gc=False):
    sip_timestamp: SomeNs
    ask_price: float | None = None
    ask_size: float | None = None
    ask_exchange: Code | None = None
    bid_price: float | None = None
    bid_size: float | None = None
    bid_exchange: Code | None = None
    sequence_number: Code | None = None


_trades = Reader(msgspec.json.Decoder(Envelope[_Trade]), msgspec.json.Decoder(_Trade))
_quotes = Reader(msgspec.json.Decoder(Envelope[_Quote]), msgspec.json.Decoder(_Quote))


def parse_trades(
    body: bytes, symbol: str, *, received_ns: int, simulated: bool = False
) -> Page[Trade]:
    """Read `/v3/trades/{symbol}`, in the answer's order: newest first unless asked otherwise.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire = _trades.read(body, symbol=symbol)
    rows = tuple(
        Trade(
            symbol=symbol,
            event_ns=row.sip_timestamp,
            received_ns=received_ns,
            provider=PROVIDER,
            source=Source.REST,
            simulated=simulated,
            delayed=wire.delayed,
            price=row.price,
            size=row.size,
            exchange=whole(row.exchange),
            conditions=row.conditions or (),
            sequence=whole(row.sequence_number),
        )
        for row in wire.rows
    )
    return Page(rows, tuple(wire.faults), wire.next_url)


def parse_quote_history(
    body: bytes, symbol: str, *, received_ns: int, simulated: bool = False
) -> Page[Quote]:
    """Read `/v3/quotes/{symbol}`, in the answer's order: newest first unless asked otherwise.

    A side that the vendor writes as 0 is a side that nobody quoted, but for an option's bid.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire = _quotes.read(body, symbol=symbol)
    is_option = symbol.startswith("O:")
    rows = tuple(
        Quote(
            symbol=symbol,
            event_ns=row.sip_timestamp,
            received_ns=received_ns,
            provider=PROVIDER,
            source=Source.REST,
            simulated=simulated,
            delayed=wire.delayed,
            bid=(bid := row.bid_price if is_option else row.bid_price or None),
            ask=(ask := row.ask_price or None),
            bid_size=None if bid is None else row.bid_size,
            ask_size=None if ask is None else row.ask_size,
            bid_exchange=None if bid is None else whole(row.bid_exchange),
            ask_exchange=None if ask is None else whole(row.ask_exchange),
            sequence=whole(row.sequence_number),
        )
        for row in wire.rows
    )
    return Page(rows, tuple(wire.faults), wire.next_url)


# ---- indicators ----


class _Value(msgspec.Struct, gc=False):
    timestamp: Ms
    value: float


class _Indicator(msgspec.Struct, gc=False):
    results: msgspec.Raw
    next_url: str | None = None


_values = Reader(msgspec.json.Decoder(Envelope[_Value]), msgspec.json.Decoder(_Value))
_indicator = msgspec.json.Decoder(_Indicator)


def parse_indicator(body: bytes) -> Page[IndicatorValue]:
    """Read `/v1/indicators/{sma|ema|rsi|macd}/{symbol}`, in the answer's order: newest first.

    Of a MACD this is the line; its signal and histogram follow from the line.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    outer = decode(_indicator, body)
    wire = _values.read(bytes(outer.results), may_be_bare=True)
    rows = tuple(
        IndicatorValue(event_ns=row.timestamp * NS_PER_MS, value=row.value) for row in wire.rows
    )
    return Page(rows, tuple(wire.faults), outer.next_url)


# ---- reference ----

_contracts = Reader(msgspec.json.Decoder(Envelope[Terms]), msgspec.json.Decoder(Terms))


def parse_contracts(body: bytes) -> Page[OptionContract]:
    """Read `/v3/reference/options/contracts`, a page of them, or `…/{contract}`, the one.

    The vendor names an index without its prefix here; the symbols are as everywhere.

    Raises:
        UpstreamGarbled: When it is no such page.
    """
    wire = _contracts.read(body)
    made = (as_contract(row, row.ticker or "") for row in wire.rows)
    return Page(sort_out(made, wire.faults), tuple(wire.faults), wire.next_url)


class _Holiday(msgspec.Struct, gc=False):
    day: date = msgspec.field(name="date")
    status: HolidayStatus
    name: str
    exchange: str = "NYSE"
    open: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    close: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_holidays = Reader(msgspec.json.Decoder(Envelope[_Holiday]), msgspec.json.Decoder(_Holiday))
_EXCHANGES: Final = ("NYSE", "NASDAQ")


def parse_holidays(body: bytes) -> Page[Holiday]:
    """Read `/v1/marketstatus/upcoming`: one holiday a day, by date.

    The vendor has a row for each exchange. A day counts when the New York Stock Exchange
    keeps it, or else Nasdaq; what only others keep is left out.

    Raises:
        UpstreamGarbled: When it is no such list.
    """
    if not body.lstrip().startswith(b"["):
        raise UpstreamGarbled("the vendor's holidays are not an array")
    wire = _holidays.read(b'{"results":' + body + b"}")
    days: dict[date, Holiday] = {}
    for exchange in _EXCHANGES:
        for row in wire.rows:
            if row.exchange == exchange:
                days.setdefault(row.day, _as_holiday(row))
    return Page(tuple(days[day] for day in sorted(days)), tuple(wire.faults))


def _as_holiday(row: _Holiday) -> Holiday:
    return Holiday(
        date=row.day,
        name=row.name,
        status=row.status,
        open_ns=None if row.open is None else _instant_ns(row.open),
        close_ns=None if row.close is None else _instant_ns(row.close),
    )


class _Status(msgspec.Struct, gc=False, rename="camel"):
    market: str
    early_hours: bool = False
    after_hours: bool = False
    server_time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    exchanges: dict[str, str] | None = None


_status = msgspec.json.Decoder(_Status)
_EXTENDED: Final = "extended-hours"


def parse_market_status(body: bytes, *, received_ns: int, simulated: bool = False) -> MarketStatus:
    """Read `/v1/marketstatus/now`: `open`, `pre`, `after` or `closed`.

    The vendor may say that it is early and late at once: then its clock decides. The next
    opening and close are the exchange calendar's, None beyond it; `exchanges` has the
    vendor's own words.

    Raises:
        UpstreamGarbled: When it is no market status.
    """
    row = decode(_status, body)
    at_ns = received_ns if row.server_time is None else _instant_ns(row.server_time)
    session = _extended(row, at_ns) if row.market == _EXTENDED else row.market
    return MarketStatus(
        session=session,
        event_ns=at_ns,
        received_ns=received_ns,
        provider=PROVIDER,
        next_open_ns=_within(calendar.next_open, at_ns),
        next_close_ns=_within(calendar.next_close, at_ns),
        exchanges=row.exchanges or {},
        simulated=simulated,
    )


def _extended(row: _Status, at_ns: int) -> str:
    if row.early_hours is not row.after_hours:
        return Session.PRE.value if row.early_hours else Session.AFTER.value
    noon = calendar.instant_ns(calendar.new_york_date(at_ns), time(12))
    return Session.PRE.value if at_ns < noon else Session.AFTER.value


def _within(question: Callable[[int], int], at_ns: int) -> int | None:
    try:
        return question(at_ns)
    except InvalidRequest:
        return None


def _instant_ns(at: datetime) -> int:
    elapsed = at - _EPOCH
    if not 1970 <= at.year < LAST_YEAR:
        raise UpstreamGarbled(f"the vendor's answer is dated {at.year}")
    return (elapsed.days * 86_400 + elapsed.seconds) * _NS_PER_S + elapsed.microseconds * 1000
