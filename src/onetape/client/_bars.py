"""Bars, from whoever is the better one to ask.

    up to 5,000 in the range ──▶ /api/bars     judged by the gateway, and of a stock there
                                               is another vendor behind the first
    more ──▶ the vendor's own pages            judged here, page by page

A range of a year of minutes would hold up the gateway, and with it everybody else's ticks,
for as long as it judges: it passes the vendor's pages on as they are instead.

A bar in which the rules found something has a quality of its own. The others have that of
their series, which says whose it is, why, and what is missing between its ends.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from math import ceil
from typing import Final

import msgspec

from onetape import calendar
from onetape.client._judging import Judge
from onetape.client._market import MarketQuestions
from onetape.clock import Clock
from onetape.errors import InvalidRequest, UpstreamGarbled
from onetape.market_answers import BarsAnswer
from onetape.massive.parse_pages import Page
from onetape.massive.questions import MassiveQuestions
from onetape.model import Bar
from onetape.pages import Pages
from onetape.provenance import Quality
from onetape.rows import SymbolFault
from onetape.timeframes import BarLength, Moment, moment_ns

MOST_JUDGED: Final = 5_000
"""What may be asked of the gateway to judge: it serves others meanwhile."""

MOST: Final = 50_000
"""What one answer of the gateway's has at most."""

_DAY_S: Final = 86_400
_SESSION_S: Final = 6.5 * 3600
_LONG_DAY_S: Final = 16 * 3600  # with what trades before and after
_SHORT_S: Final = 3 * _DAY_S  # within this there may be no night and no weekend
_OPEN: Final = 0.48  # of all hours of a week, before and after hours included
_NS: Final = 1_000_000_000


class BarQuestions:
    """Asks for bars. Cancel-safe; errors are those of the asker."""

    def __init__(
        self, market: MarketQuestions, vendor: MassiveQuestions, judge: Judge, clock: Clock
    ) -> None:
        self._market = market
        self._vendor = vendor
        self._judge = judge
        self._clock = clock

    def of_range(
        self, symbol: str, length: BarLength, start: Moment, end: Moment, *, max_rows: int | None
    ) -> Pages[Bar]:
        """Return the bars of a range, both ends included, oldest first."""
        first, last = moment_ns(start), moment_ns(end)
        if most_in(length, first, last) > MOST_JUDGED:
            pages = self._vendor.bars(symbol, length, start, end, max_rows=max_rows)
            return pages.mapped(lambda page: self._judged(symbol, page, reaches_now=False))
        limit = MOST if max_rows is None else min(max_rows, MOST)

        async def read() -> AsyncGenerator[tuple[Page[Bar], bool]]:
            answer = await self._market.bars(symbol, length, first, last, limit=limit)
            yield _page(answer), answer.simulated

        return Pages(read, kind=Bar, max_rows=max_rows)

    def last(self, symbol: str, length: BarLength, count: int) -> Pages[Bar]:
        """Return the last `count` bars, oldest first."""
        from_vendor = self._vendor.last_bars(symbol, length, count)  # raises for a wrong count
        today = calendar.new_york_date(self._clock.now_ns())
        first = _reach(length, count, today)
        if most_in(length, first, today) > MOST_JUDGED:
            return from_vendor.mapped(lambda page: self._judged(symbol, page, reaches_now=True))

        async def read() -> AsyncGenerator[tuple[Page[Bar], bool]]:
            answer = await self._last(symbol, length, count, (first, today))
            if not answer.has_more and answer.count + sum(answer.dropped.values()) < count:
                # A quiet symbol, or a young one.
                wide = max(date(1970, 1, 2), first - 4 * (today - first) - timedelta(days=7))
                answer = await self._last(symbol, length, count, (wide, today))
            page = _page(answer)
            yield page._replace(rows=page.rows[::-1]), answer.simulated

        return Pages(read, kind=Bar, max_rows=None)

    async def _last(
        self, symbol: str, length: BarLength, count: int, days: tuple[date, date]
    ) -> BarsAnswer:
        first, last = days
        return await self._market.bars(symbol, length, first, last, limit=count, sort="desc")

    def _judged(self, symbol: str, page: Page[Bar], *, reaches_now: bool) -> Page[Bar]:
        judged = self._judge.bars(symbol, page.rows, reaches_now=reaches_now)
        rows = _labelled(judged.bars, judged.quality)
        faults = (*page.faults, *_left_out(symbol, judged.dropped))
        return page._replace(rows=rows, faults=faults)


def most_in(length: BarLength, start: int | date, end: int | date) -> int:
    """Return how many bars a range may have: nights and weekends have none."""
    seconds = max(0, _instant_s(end, days=1) - _instant_s(start))
    if seconds > _SHORT_S and length.nominal_s < _DAY_S:
        seconds = ceil(seconds * _OPEN)
    return ceil(seconds / length.nominal_s)


def _instant_s(moment: int | date, *, days: int = 0) -> int:
    """Return the instant; of a date when it begins, roughly, and so many days on."""
    if isinstance(moment, int):
        return moment // _NS
    return int(datetime.combine(moment, time(), UTC).timestamp()) + days * _DAY_S


def _reach(length: BarLength, count: int, today: date) -> date:
    """Return from when on a symbol that trades all day has so many bars."""
    if length.nominal_s >= _DAY_S:
        days = ceil(count * length.nominal_s / _DAY_S * 1.5) + 7
        return max(date(1970, 1, 2), today - timedelta(days=min(days, 20_000)))
    sessions = ceil(count * length.nominal_s / _SESSION_S)
    day = today
    try:
        for _ in range(min(sessions, 300)):
            day = calendar.previous_session(day)
    except InvalidRequest:  # before the calendar
        return today - timedelta(days=2 * sessions + 7)
    return day


def _page(answer: BarsAnswer) -> Page[Bar]:
    faults = [*_left_out(answer.symbol, answer.dropped)]
    faults += [_fault(answer.symbol, note) for note in answer.notes]
    return Page(_labelled(answer.bars, answer.quality), tuple(faults))


def _labelled(bars: Sequence[Bar], quality: Quality | None) -> tuple[Bar, ...]:
    return tuple(
        bar if bar.quality is not None else msgspec.structs.replace(bar, quality=quality)
        for bar in bars
    )


def _left_out(symbol: str, dropped: Mapping[str, int]) -> Iterator[SymbolFault]:
    if dropped:
        counts = ", ".join(f"{count} x {code}" for code, count in dropped.items())
        yield _fault(symbol, f"left out: {counts}")


def _fault(symbol: str, message: str) -> SymbolFault:
    return SymbolFault(symbol=symbol, error=UpstreamGarbled.code, message=message)
