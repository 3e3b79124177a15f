"""Bars of Tradier: `timesales` within days, `history` of days, weeks and months.

    1m 5m 15m       as they come           30m 1h     rolled up from 15m
    1d 1w 1mo       as they come           others     Tradier has none: `offers`

    from too long ago ──▶ Tradier names the first day it has; asked once more from there
    too much at once  ──▶ in halves
    not understood    ──▶ is the symbol known at all? then it has no bars, else it is a fault

What could not be had is told beside the bars. Tradier has about 59 days of bars within
days, makes its weeks and months itself, and shows the day that is not over yet.
"""

from collections.abc import Mapping
from datetime import date, time, timedelta
from typing import Final, NamedTuple

from onetape.analytics.bars import roll_up, window_of
from onetape.calendar import instant_ns, new_york_date
from onetape.errors import InvalidRequest, NotFound, RequestError
from onetape.model import Bar
from onetape.rows import SymbolFault
from onetape.timeframes import BarLength, Moment, Timespan, moment_ns
from onetape.tradier.parse_series import parse_history, parse_timesales
from onetape.tradier.questions import Answer, TradierQuestions, error_of
from onetape.tradier.wire_rest import Intraday, Period, Refusal, ask_history, ask_timesales

_MINUTE_NS: Final = 60_000_000_000
_NS_PER_S: Final = 1_000_000_000
_DAY: Final = timedelta(days=1)
_MIDNIGHT: Final = time()
_EARLIEST: Final = date(1970, 1, 2)
_LATEST: Final = date(2100, 1, 1)
_HALVINGS: Final = 4
_SESSION_MINUTES: Final = 390


class Bars(NamedTuple):
    """Bars, oldest first, and what is missing of them."""

    rows: tuple[Bar, ...]
    faults: tuple[SymbolFault, ...] = ()
    simulated: bool = False


class _Recipe(NamedTuple):
    interval: Intraday
    roll_up: str | None = None


class _Span(NamedTuple):
    """From the start of the first bar to that of the last, both included."""

    start_ns: int
    end_ns: int


_WITHIN_DAYS: Final[Mapping[int, _Recipe]] = {
    1: _Recipe(Intraday.ONE_MINUTE),
    5: _Recipe(Intraday.FIVE_MINUTES),
    15: _Recipe(Intraday.FIFTEEN_MINUTES),
    30: _Recipe(Intraday.FIFTEEN_MINUTES, "30m"),
    60: _Recipe(Intraday.FIFTEEN_MINUTES, "1h"),
}
_OF_DAYS: Final = {
    BarLength(1, Timespan.DAY): Period.DAILY,
    BarLength(1, Timespan.WEEK): Period.WEEKLY,
    BarLength(1, Timespan.MONTH): Period.MONTHLY,
}


def offers(length: BarLength) -> bool:
    """Tell whether there are bars of that length."""
    return length in _OF_DAYS or _recipe(length) is not None


async def bars(
    asks: TradierQuestions, symbol: str, length: BarLength, start: Moment, end: Moment
) -> Bars:
    """Return the bars of a range, both ends included.

    Raises:
        InvalidRequest: the range is upside down, or there are no bars of that length.
        UpstreamError: what is no answer.
    """
    first, last = moment_ns(start), moment_ns(end)
    span = _Span(_first_ns(first), _last_ns(last))
    if span.start_ns > span.end_ns:
        raise InvalidRequest("the range of bars is upside down")
    period, recipe = _OF_DAYS.get(length), _recipe(length)
    if period is not None:
        return await _of_days(asks, symbol, period, span)
    if recipe is None:
        raise InvalidRequest(f"Tradier has no bars of {length}")
    if recipe.roll_up is None:
        return await _within_days(asks, symbol, recipe.interval, span)
    whole = _Span(span.start_ns, window_of(span.end_ns, recipe.roll_up).end_ns - 1)
    found = await _within_days(asks, symbol, recipe.interval, whole)
    rolled = roll_up(found.rows, recipe.roll_up, now_ns=asks.clock.now_ns(), since_ns=span.start_ns)
    growing = () if rolled.partial is None else (rolled.partial,)
    return found._replace(rows=rolled.bars + growing)


async def last_bars(asks: TradierQuestions, symbol: str, length: BarLength, count: int) -> Bars:
    """Return the last bars, as far back as Tradier has them; errors as for `bars`."""
    if count <= 0:
        raise InvalidRequest("look back at least one bar")
    today = new_york_date(asks.clock.now_ns())
    # Sessions are five of seven days, less holidays, and short of bars where nobody trades.
    minutes = length.nominal_s / 60
    sessions = count * minutes / (1440 if length in _OF_DAYS else _SESSION_MINUTES)
    first = max(today - timedelta(days=min(round(1.6 * sessions) + 7, 20_000)), _EARLIEST)
    found = await bars(asks, symbol, length, first, today)
    return found._replace(rows=found.rows[-count:])


def _recipe(length: BarLength) -> _Recipe | None:
    width_ns = length.fixed_ns
    if width_ns is None or width_ns % _MINUTE_NS:
        return None
    return _WITHIN_DAYS.get(width_ns // _MINUTE_NS)


def _first_ns(moment: int | date) -> int:
    if isinstance(moment, date):
        return instant_ns(min(max(moment, _EARLIEST), _LATEST), _MIDNIGHT)
    return moment


def _last_ns(moment: int | date) -> int:
    if isinstance(moment, date):
        return instant_ns(min(max(moment, _EARLIEST), _LATEST) + _DAY, _MIDNIGHT) - 1
    return moment


async def _of_days(asks: TradierQuestions, symbol: str, period: Period, span: _Span) -> Bars:
    first, last = new_york_date(span.start_ns), new_york_date(span.end_ns)
    outcome = await asks.outcome(ask_history(symbol, first, last, period=period))
    if isinstance(outcome, Refusal):
        return await _none(asks, symbol, outcome)
    page = parse_history(outcome.body, asks.origin(outcome), symbol=symbol, period=period)
    return Bars(tuple(page.bars), tuple(page.faults), outcome.simulated)


async def _within_days(
    asks: TradierQuestions, symbol: str, interval: Intraday, span: _Span, halvings: int = _HALVINGS
) -> Bars:
    outcome = await asks.outcome(ask_timesales(symbol, *span, interval=interval))
    faults: tuple[SymbolFault, ...] = ()
    if isinstance(outcome, Refusal) and outcome.earliest_ns is not None:
        faults = (_too_old(symbol, interval, outcome.earliest_ns),)
        span = _Span(max(span.start_ns, outcome.earliest_ns), span.end_ns)
        if span.start_ns > span.end_ns:
            return Bars((), faults)
        outcome = await asks.outcome(ask_timesales(symbol, *span, interval=interval))
    if not isinstance(outcome, Refusal):
        found = _read(asks, symbol, interval, outcome)
        kept = tuple(bar for bar in found.rows if span.start_ns <= bar.event_ns <= span.end_ns)
        return Bars(kept, faults + found.faults, found.simulated)
    width_ns = interval.seconds * _NS_PER_S
    if not (outcome.too_large and halvings and span.end_ns - span.start_ns >= 2 * width_ns):
        return await _none(asks, symbol, outcome)
    middle_ns = (span.start_ns + span.end_ns) // 2 // width_ns * width_ns
    halves = (_Span(span.start_ns, middle_ns - 1), _Span(middle_ns, span.end_ns))
    early, late = [await _within_days(asks, symbol, interval, s, halvings - 1) for s in halves]
    return Bars(
        early.rows + late.rows,
        faults + early.faults + late.faults,
        early.simulated or late.simulated,
    )


def _read(asks: TradierQuestions, symbol: str, interval: Intraday, answer: Answer) -> Bars:
    page = parse_timesales(answer.body, asks.origin(answer), symbol=symbol, interval=interval)
    return Bars(tuple(page.bars), tuple(page.faults), answer.simulated)


def _too_old(symbol: str, interval: Intraday, earliest_ns: int) -> SymbolFault:
    since = new_york_date(earliest_ns).isoformat()
    message = f"Tradier has no bars of {interval.value} before {since}"
    return SymbolFault(symbol=symbol, error=NotFound.code, message=message)


async def _none(asks: TradierQuestions, symbol: str, refusal: Refusal) -> Bars:
    """Return no bars of what Tradier does not know; of what it knows, raise the refusal."""
    if isinstance(refusal.error, RequestError):
        fault = (await asks.quotes([symbol])).faults.get(symbol)
        if fault is not None and fault.error == NotFound.code:
            return Bars((), (fault,))
    raise error_of(refusal)
