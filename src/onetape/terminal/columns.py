"""What is known of each kind of row, column by column, and how a value is written.

    a row ── Column ──┬── shown   for people: New York's time with its zone, `-` for nothing
                      └── bare    for programs: ISO 8601 in UTC, nothing for nothing

Pure. What is not known is never 0.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from operator import attrgetter
from typing import Any, Final, NamedTuple

from onetape.calendar import NEW_YORK, new_york_date
from onetape.model import Bar, OptionSnapshot, Quote, Trade
from onetape.provenance import Severity

MISSING: Final = "-"

_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _NS


class Form(Enum):
    """How a value is written, for people and for programs."""

    TEXT = auto()
    PRICE = auto()
    CHANGE = auto()
    """A price with its sign."""
    PERCENT = auto()
    """With its sign; 1 is 1 %."""
    FRACTION = auto()
    """0.2 is shown as 20 %."""
    RATIO = auto()
    SIZE = auto()
    COUNT = auto()
    DAY = auto()
    INSTANT = auto()
    WINDOW = auto()
    """The bar itself, shown by when it begins."""
    AGE = auto()
    """An instant, shown by how long ago it was."""
    FLAG = auto()
    CODES = auto()
    QUALITY = auto()
    LEVEL = auto()
    REASONS = auto()


class Column(NamedTuple):
    """One column: where its value is, and how it looks."""

    name: str
    form: Form
    title: str = ""
    """What heads it for people; a column without one is for programs."""
    path: str = ""
    """The attributes that lead to the value; the name itself by default."""
    rank: int = 0
    """The higher, the sooner it gives way on a narrow terminal; 0 never does."""
    is_optional: bool = False
    """Whether it is left out when no row has a value."""

    def value(self, row: Any) -> Any:
        """Return the value, or None when it or what it is part of is not there."""
        for name in (self.path or self.name).split("."):
            if row is None:
                return None
            row = row if name == "self" else attrgetter(name)(row)
        return row

    @property
    def is_number(self) -> bool:
        """Whether it is set flush right."""
        return self.form not in _FLUSH_LEFT


_FLUSH_LEFT: Final = {Form.TEXT, Form.CODES, Form.FLAG, Form.REASONS, Form.LEVEL, Form.DAY}


def _common(prefix: str = "", *, source_title: str = "Source") -> tuple[Column, ...]:
    return (
        Column("confidence", Form.QUALITY, "Quality", "quality", is_optional=True),
        Column("level", Form.LEVEL, "", "quality"),
        Column("reasons", Form.REASONS, "", "quality"),
        Column("provider", Form.TEXT, "Provider", f"{prefix}provider", rank=4),
        Column("source", Form.TEXT, source_title, f"{prefix}source", rank=3),
        Column("delayed", Form.FLAG, "", f"{prefix}delayed"),
        Column("simulated", Form.FLAG, "", f"{prefix}simulated"),
        Column("received_time", Form.INSTANT, "", f"{prefix}received_ns"),
    )


COLUMNS: Final[Mapping[type, tuple[Column, ...]]] = {
    Quote: (
        Column("symbol", Form.TEXT, "Symbol"),
        Column("last", Form.PRICE, "Last"),
        Column("change", Form.CHANGE, "Change", rank=1),
        Column("change_percent", Form.PERCENT, "Change %", rank=2),
        Column("bid", Form.PRICE, "Bid"),
        Column("ask", Form.PRICE, "Ask"),
        Column("bid_size", Form.SIZE, "Bid size", rank=6),
        Column("ask_size", Form.SIZE, "Ask size", rank=6),
        Column("open", Form.PRICE, "Open", rank=8),
        Column("high", Form.PRICE, "High", rank=7),
        Column("low", Form.PRICE, "Low", rank=7),
        Column("previous_close", Form.PRICE, "Prev. close", rank=8),
        Column("volume", Form.SIZE, "Volume", rank=5),
        Column("event_time", Form.INSTANT, "Time", "event_ns", rank=1),
        Column("last_size", Form.SIZE),
        Column("vwap", Form.PRICE),
        Column("bid_exchange", Form.COUNT),
        Column("ask_exchange", Form.COUNT),
        Column("sequence", Form.COUNT),
        Column("market_status", Form.TEXT),
        *_common(),
    ),
    Trade: (
        Column("event_time", Form.INSTANT, "Time", "event_ns"),
        Column("symbol", Form.TEXT, "Symbol", rank=1),
        Column("price", Form.PRICE, "Price"),
        Column("size", Form.SIZE, "Size"),
        Column("exchange", Form.COUNT, "Exchange", rank=5),
        Column("conditions", Form.CODES, "Conditions", rank=6),
        Column("sequence", Form.COUNT),
        *_common(),
    ),
    Bar: (
        Column("event_time", Form.WINDOW, "Begins", "self"),
        Column("end_time", Form.INSTANT, "", "end_ns"),
        Column("symbol", Form.TEXT, "Symbol", rank=8),
        Column("open", Form.PRICE, "Open"),
        Column("high", Form.PRICE, "High"),
        Column("low", Form.PRICE, "Low"),
        Column("close", Form.PRICE, "Close"),
        Column("volume", Form.SIZE, "Volume"),
        Column("vwap", Form.PRICE, "VWAP", rank=5),
        Column("trades", Form.COUNT, "Trades", rank=6),
        *_common(),
    ),
    OptionSnapshot: (
        Column("symbol", Form.TEXT),
        Column("underlying", Form.TEXT, "", "contract.underlying"),
        Column("root", Form.TEXT, "", "contract.root"),
        Column("expiration", Form.DAY, "", "contract.expiration"),
        Column("strike", Form.PRICE, "", "contract.strike"),
        Column("contract_type", Form.TEXT, "", "contract.contract_type"),
        Column("bid", Form.PRICE, "Bid", "quote.bid"),
        Column("ask", Form.PRICE, "Ask", "quote.ask"),
        Column("delta", Form.RATIO, "Delta", "greeks.delta", rank=1),
        Column("implied_volatility", Form.FRACTION, "IV", rank=2),
        Column("volume", Form.SIZE, "Volume", rank=3),
        Column("open_interest", Form.SIZE, "OI", rank=4),
        Column("confidence", Form.QUALITY, "Quality", "quality", rank=5, is_optional=True),
        Column("bid_size", Form.SIZE, "", "quote.bid_size"),
        Column("ask_size", Form.SIZE, "", "quote.ask_size"),
        Column("last", Form.PRICE, "", "quote.last"),
        Column("previous_close", Form.PRICE, "", "quote.previous_close"),
        Column("spread_percent", Form.PRICE),
        Column("gamma", Form.RATIO, "", "greeks.gamma"),
        Column("theta", Form.RATIO, "", "greeks.theta"),
        Column("vega", Form.RATIO, "", "greeks.vega"),
        Column("rho", Form.RATIO, "", "greeks.rho"),
        Column("event_time", Form.INSTANT, "", "quote.event_ns"),
        *(column for column in _common("quote.", source_title="") if column.name != "confidence"),
    ),
}
"""What is known of each kind of row, in the order in which it is shown."""

LINE: Final[Mapping[type, tuple[str, ...]]] = {
    Quote: ("event_time", "symbol", "last", "bid", "ask", "source"),
    Trade: ("event_time", "symbol", "price", "size", "exchange", "conditions", "source"),
    Bar: ("event_time", "symbol", "open", "high", "low", "close", "volume", "source"),
}
"""The columns of an event's line."""


def named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """Pick columns by name, in the order of the names."""
    by_name = {column.name: column for column in columns}
    return [by_name[name] for name in names]


# instants


def iso(at_ns: int) -> str:
    """Write an instant as ISO 8601 in UTC, to the nanosecond."""
    seconds, rest = divmod(at_ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def new_york(at_ns: int, *, now_ns: int, digits: int = 0) -> str:
    """Write an instant in New York's time with its zone; the date only if it is not today's."""
    at = datetime.fromtimestamp(at_ns // _NS, NEW_YORK)
    day = "" if at.date() == new_york_date(now_ns) else f"{at:%Y-%m-%d} "
    fraction = f".{at_ns % _NS:09d}"[: digits + 1] if digits else ""
    return f"{day}{at:%H:%M:%S}{fraction} {at.tzname()}"


def window(bar: Bar) -> str:
    """Write when a bar begins in New York's time; of a day or more, the date."""
    at = datetime.fromtimestamp(bar.event_ns // _NS, NEW_YORK)
    # The day on which the clock goes forward has 23 hours.
    if bar.end_ns - bar.event_ns >= _DAY_NS * 23 // 24:
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%d %H:%M}{f':{at:%S}' if at.second else ''} {at.tzname()}"


def duration(seconds: float) -> str:
    """Write how long something takes or is ago, short: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for size, unit, limit in ((1, "s", 120), (60, "min", 7_200), (3_600, "h", 172_800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


# cells


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals prices need: two, or four when one is finer than a cent."""
    fine = (value is not None and abs(round(value, 2) - value) > 5e-7 for value in values)
    return 4 if any(fine) else 2


def shown(form: Form, value: Any, *, now_ns: int, places: int | None = None) -> str:
    """Write a value for people."""
    if value is None:
        return MISSING
    match form:
        case Form.PRICE | Form.CHANGE:
            sign = "+" if form is Form.CHANGE and value > 0 else ""
            return f"{sign}{value:,.{decimals([value]) if places is None else places}f}"
        case Form.INSTANT:
            return new_york(value, now_ns=now_ns, digits=3)
        case Form.AGE:
            return duration((now_ns - value) / _NS)
        case Form.QUALITY:
            return f"{value.confidence(now_ns)} {value.level(now_ns)}"
        case _:
            return _WRITERS.get(form, _text)(value)


def _text(value: Any) -> str:
    return printable(str(value)) or MISSING


def printable(text: str) -> str:
    """Return what a terminal shows as it is: it would obey control characters."""
    return (
        text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
    )


def _no_minus_zero(text: str) -> str:
    return text[1:] if not text.strip("+-0.") else text


def _size(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}".rstrip("0")


_WRITERS: Final[Mapping[Form, Callable[[Any], str]]] = {
    Form.PERCENT: lambda value: _no_minus_zero(f"{value:+.2f}"),
    Form.FRACTION: lambda value: f"{100 * value:.1f}%",
    Form.RATIO: lambda value: f"{value:.2f}",
    Form.SIZE: _size,
    Form.COUNT: lambda value: f"{value}",
    Form.WINDOW: window,
    Form.CODES: lambda value: " ".join(map(str, value)) or MISSING,
}


def bare(form: Form, value: Any, *, now_ns: int) -> object:
    """Write a value for programs."""
    if value is None:
        return ""
    match form:
        case Form.INSTANT:
            return iso(value)
        case Form.WINDOW:
            return iso(value.event_ns)
        case Form.AGE:
            return round((now_ns - value) / _NS, 3)
        case Form.QUALITY:
            return value.confidence(now_ns)
        case Form.LEVEL:
            return value.level(now_ns)
        case Form.REASONS:
            reasons = value.reasons_at(now_ns)
            return " ".join(one.code for one in reasons if one.severity is not Severity.INFO)
        case Form.CODES:
            return " ".join(map(str, value))
        case Form.FLAG:
            return "true" if value else "false"
        case _:
            return printable(value) if isinstance(value, str) else value
