"""When it trades, and what there is: clock, calendar, search, lookup and easy to borrow."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from onetape import calendar
from onetape.model import AssetClass
from onetape.simulator.market import Hours, Instrument
from onetape.simulator.tradier import names
from onetape.simulator.tradier.request import NS_PER_S, Ask, Endpoint, few, invalid
from onetape.simulator.tradier.rows import Security

_PRE_START: Final = time(7)
"""When pre-market begins in Tradier's book, though stocks trade from 04:00."""
_PRE_END: Final = "09:24"
_MONTHS: Final = range(1, 13)
_ONE: Final = timedelta(days=1)

# ---- when ----


def clock(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/clock`: times are New York's, without a date."""
    at = datetime.fromtimestamp(ask.now_ns // NS_PER_S, calendar.NEW_YORK)
    if ask.market.hours is Hours.ALWAYS:
        told = ("open", "00:00", "open", "Market is open from 00:00 to 24:00")
    else:
        told = _state(at)
    state, next_change, next_state, description = told
    return {
        "clock": {
            "date": at.date().isoformat(),
            "description": description,
            "state": state,
            "timestamp": ask.now_ns // NS_PER_S,
            "next_change": next_change,
            "next_state": next_state,
        }
    }


def _state(at: datetime) -> tuple[str, str, str, str]:
    """Return the state, when it changes, into what, and a sentence of it."""
    now = f"{at:%H:%M}"
    if calendar.is_session(at.date()):
        close, end = _closes(at.date())
        edges = (
            ("07:00", "closed", "premarket", "Market is closed"),
            ("09:30", "premarket", "open", "Market is in premarket from 07:00 to 09:24"),
            (close, "open", "postmarket", f"Market is open from 09:30 to {close}"),
            (end, "postmarket", "closed", f"Market is in postmarket from {close} to {end}"),
        )
        for until, state, following, description in edges:
            if now < until:
                return state, until, following, description
    return "closed", f"{_PRE_START:%H:%M}", "premarket", "Market is closed"


def _closes(day: date) -> tuple[str, str]:
    if calendar.is_half_day(day):
        return f"{calendar.HALF_DAY_CLOSE:%H:%M}", f"{calendar.HALF_DAY_AFTER_CLOSE:%H:%M}"
    return f"{calendar.CLOSE:%H:%M}", f"{calendar.AFTER_CLOSE:%H:%M}"


def month(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/calendar`: the exchange's own, even when the market never closes."""
    today = ask.today
    number = _number(ask, "month", today.month)
    year = _number(ask, "year", today.year)
    years = range(calendar.FIRST_DAY.year, calendar.LAST_DAY.year + 1)
    if number not in _MONTHS:
        raise invalid("month", "must be between 01 and 12")
    if year not in years:
        raise invalid("year", "is out of range")
    days = [_calendar_day(day) for day in _days(date(year, number, 1))]
    return {"calendar": {"month": number, "year": year, "days": few("day", days)}}


def _number(ask: Ask, name: str, default: int) -> int:
    value = ask.text(name, str(default))
    if not value.isdecimal():
        raise invalid(name, "must be a number")
    return int(value)


def _days(day: date) -> Iterator[date]:
    wanted = day.month
    while day.month == wanted:
        yield day
        day += _ONE


def _calendar_day(day: date) -> dict[str, Any]:
    if not calendar.is_session(day):
        return {"date": day.isoformat(), "status": "closed", "description": "Market is closed"}
    close, end = _closes(day)
    return {
        "date": day.isoformat(),
        "status": "open",
        "description": "Market is open",
        "premarket": {"start": f"{_PRE_START:%H:%M}", "end": _PRE_END},
        "open": {"start": f"{calendar.OPEN:%H:%M}", "end": close},
        "postmarket": {"start": close, "end": end},
    }


# ---- what ----


def _security(instrument: Instrument) -> Security:
    return Security(
        symbol=names.name_of(instrument.ticker),
        exchange=names.listing_letter(instrument),
        type=names.kind_of(instrument),
        description=instrument.name,
    )


def search(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/search`: by any part of the symbol or the name."""
    wanted, with_indices = ask.text("q").casefold(), ask.is_set("indexes")
    found = [
        row
        for row in map(_security, ask.market.instruments())
        if (with_indices or row.type != "index")
        and wanted in f"{row.symbol} {row.description}".casefold()
    ]
    return {"securities": few("security", found)}


def lookup(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/lookup`: by the beginning of the symbol, exchange and type."""
    exchanges, types = ask.names("exchanges"), ask.names("types")
    wanted = ask.text("q", "").upper()
    if not (wanted or exchanges or types):
        raise invalid("q", "is required")
    found = [
        row
        for row in map(_security, ask.market.instruments())
        if row.symbol.startswith(wanted)
        and (not exchanges or row.exchange in exchanges)
        and (not types or row.type in types)
    ]
    return {"securities": few("security", found)}


def easy_to_borrow(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/etb`: everything that can be borrowed."""
    stocks = ask.market.instruments(AssetClass.STOCKS)
    return {"securities": few("security", [_security(one) for one in stocks])}


ENDPOINTS: Final = (
    Endpoint("/markets/clock", clock),
    Endpoint("/markets/calendar", month),
    Endpoint("/markets/search", search),
    Endpoint("/markets/lookup", lookup),
    Endpoint("/markets/etb", easy_to_borrow),
)
