"""What was: days, weeks and months (`history`), and bars and ticks within days (`timesales`).

The figures are the first vendor's bars. Days count regular sales for their prices; their
volume is the whole day's, or the regular session's with `session_filter=open`.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from typing import Any, Final

from onetape import calendar
from onetape.model import AssetClass
from onetape.simulator.market import BarTick
from onetape.simulator.tradier import names
from onetape.simulator.tradier.request import (
    NS_PER_S,
    Ask,
    Endpoint,
    Refusal,
    few,
    invalid,
)
from onetape.simulator.tradier.rows import Day, Sale, TickSale

_DEFAULT_DAYS: Final = 30
_TICK_DAYS: Final = 5
_ONE: Final = timedelta(days=1)
_MINUTES: Final = {"1min": 1, "5min": 5, "15min": 15}
_FORMATS: Final = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
NOT_A_NUMBER: Final = "NaN"

# ---- days ----


def history(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/history`; an unknown symbol, interval or an expired option has none."""
    symbol = _symbol(ask, ask.text("symbol"))
    interval = ask.text("interval", "daily").lower()
    end = max(min(ask.day("end", ask.today), ask.today), calendar.FIRST_DAY)
    start = max(ask.day("start", end - timedelta(days=_DEFAULT_DAYS)), calendar.FIRST_DAY)
    if symbol is None or interval not in {"daily", "weekly", "monthly"} or start > end:
        return {"history": None}
    days = _days(ask, symbol, start, end)
    return {"history": few("day", days if interval == "daily" else _folded(days, interval))}


def _symbol(ask: Ask, name: str) -> str | None:
    symbol = names.symbol_of(name.upper(), ask.market)
    if symbol is None or not symbol.startswith("O:"):
        return symbol
    is_living = names.living_contract(symbol, ask.market, ask.now_ns) is not None
    return symbol if is_living else None


def _midnight_ns(day: date) -> int:
    return calendar.instant_ns(day, time())


def _days(ask: Ask, symbol: str, start: date, end: date) -> list[Day]:
    last_ns = min(_midnight_ns(end) + 1, ask.now_ns)
    bars = ask.market.bars(symbol, 1, "day", _midnight_ns(start), last_ns)
    regular_only = ask.text("session_filter", "all") == "open"
    return [_day(ask, bar, regular_only=regular_only) for bar in bars]


def _day(ask: Ask, bar: BarTick, *, regular_only: bool) -> Day:
    day = ask.market.market_date(bar.start_ns)
    volume = bar.volume or 0
    bounds = ask.market.session_bounds(day)
    if regular_only and volume and bounds is not None:
        halves = ask.market.bars(bar.symbol, 30, "minute", *bounds)
        volume = sum(half.volume or 0 for half in halves)
    return Day(
        date=day.isoformat(),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=volume,
    )


def _folded(days: Iterable[Day], interval: str) -> list[Day]:
    """Join days to weeks, which are named by their Monday, or months, by their first."""
    joined: dict[str, list[Day]] = {}
    for day in days:
        on = date.fromisoformat(day.date)
        first = on.replace(day=1) if interval == "monthly" else on - on.weekday() * _ONE
        joined.setdefault(first.isoformat(), []).append(day)
    return [
        Day(
            date=first,
            open=some[0].open,
            high=max(day.high for day in some),
            low=min(day.low for day in some),
            close=some[-1].close,
            volume=sum(day.volume for day in some),
        )
        for first, some in joined.items()
    ]


# ---- within days ----


def timesales(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/timesales`; `end` names the last bar that is told."""
    interval = ask.text("interval", "tick").lower()
    symbol = _symbol(ask, ask.text("symbol"))
    if interval != "tick" and interval not in _MINUTES:
        raise invalid("interval", "must be one of tick, 1min, 5min, 15min")
    if symbol is None:
        raise invalid("symbol", "is not a valid symbol")
    is_tick = interval == "tick"
    if is_tick and ask.policy.sandbox:
        raise invalid("interval", "tick is not available")
    start_ns, end_ns = _span(ask, days=_TICK_DAYS if is_tick else ask.policy.timesales_days)
    if is_tick:
        return {"series": few("data", _ticks(ask, symbol, start_ns, end_ns))}
    bars = ask.market.bars(symbol, _MINUTES[interval], "minute", start_ns, end_ns)
    told = [_sale(bar) for bar in bars if _is_told(ask, bar.start_ns)]
    return {"series": few("data", told)}


def _span(ask: Ask, *, days: int) -> tuple[int, int]:
    """Return the range of instants asked for; its end is in it."""
    today = ask.today
    oldest = today - timedelta(days=days)
    start_ns = _instant(ask, "start", _midnight_ns(today))
    if start_ns < _midnight_ns(oldest):
        raise invalid("start", f"must be on or after {oldest} 00:00:00")
    return start_ns, min(_instant(ask, "end", ask.now_ns), ask.now_ns) + 1


def _instant(ask: Ask, name: str, default_ns: int) -> int:
    value = ask.params.get(name, "").strip()
    if not value:
        return default_ns
    for form in _FORMATS:
        try:
            at = datetime.strptime(value, form)  # noqa: DTZ007 - New York's clocks, put on below
        except ValueError:
            continue
        ask.in_calendar(name, at.date())
        return calendar.instant_ns(at.date(), at.time())
    raise invalid(name, "must be in the format YYYY-MM-DD HH:MM")


def _is_told(ask: Ask, start_ns: int) -> bool:
    if ask.text("session_filter", "all") != "open":
        return True
    bounds = ask.market.session_bounds(ask.market.market_date(start_ns))
    return bounds is not None and bounds[0] <= start_ns <= bounds[1]


def _sale(bar: BarTick) -> Sale:
    at = datetime.fromtimestamp(bar.start_ns // NS_PER_S, calendar.NEW_YORK)
    return Sale(
        time=at.strftime("%Y-%m-%dT%H:%M:%S"),
        timestamp=bar.start_ns // NS_PER_S,
        price=round((bar.high + bar.low) / 2, 5),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume or 0,
        vwap=NOT_A_NUMBER if bar.vwap is None else round(bar.vwap, 5),
    )


def _ticks(ask: Ask, symbol: str, start_ns: int, end_ns: int) -> list[TickSale]:
    if ask.market.asset_class(symbol) is AssetClass.INDICES:
        return []
    most = ask.policy.most_ticks
    trades = ask.market.trades(symbol, start_ns, end_ns, limit=most + 1)
    if len(trades) > most:
        raise Refusal(
            HTTPStatus.BAD_GATEWAY,
            "Body buffer overflow",
            errorcode="protocol.http.TooBigBody",
        )
    return [
        TickSale(
            time=datetime.fromtimestamp(t.event_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            timestamp=t.event_ns // NS_PER_S,
            price=t.price,
            volume=t.size,
        )
        for t in trades
        if _is_told(ask, t.event_ns)
    ]


ENDPOINTS: Final = (
    Endpoint("/markets/history", history),
    Endpoint("/markets/timesales", timesales),
)
