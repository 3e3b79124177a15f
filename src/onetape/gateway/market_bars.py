"""Bars of a range, judged as a series.

    a stock, adjusted, in a range of at most 50 000 bars ──▶ the broker provider's,
        │                                                    which has a second vendor
        └─ anything else ──▶ the vendor's, in the order asked for and up to the limit

The provider reads a whole range and keeps it for a minute; that is no way to read the
first 500 minutes of ten years.
"""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Final

from onetape.calendar import options_trade, stocks_trade
from onetape.clock import Clock
from onetape.errors import InvalidRequest
from onetape.gateway.market_reference import Reference
from onetape.gateway.parameters import MOST_BARS, Bars
from onetape.market_answers import BarsAnswer
from onetape.massive.questions import PROVIDER
from onetape.model import AssetClass, Bar
from onetape.providers.interfaces import BrokerDataProvider
from onetape.quality.candles import judge_bars
from onetape.rows import Rows
from onetape.symbols import asset_class, normalize_symbol
from onetape.timeframes import Moment

_MANY: Final = 1_000
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_DAY_NS: Final = 86_400 * _NS
_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = timedelta(days=1)


class History:
    """Asks for bars. Cancel-safe; one caller never disturbs another."""

    def __init__(
        self,
        *,
        broker: BrokerDataProvider,
        reference: Reference,
        clock: Clock,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._broker = broker
        self._reference = reference
        self._clock = clock
        self._is_open = is_open

    async def bars(self, asked: Bars, symbol: str) -> BarsAnswer:
        """Return bars of a symbol in the vendor's form.

        Raises:
            InvalidRequest: the range is upside down.
            OnetapeError: nobody answered.
        """
        if _start_ns(asked.start) > _end_ns(asked.end):
            raise InvalidRequest("`from` is after `to`")
        found = await self._asked_for(asked, symbol)
        rows = found[: asked.most]
        now_ns = self._clock.now_ns()
        is_ascending = asked.sort == "asc"
        judge = partial(
            judge_bars,
            rows if is_ascending else rows[::-1],
            provider=rows[0].provider if rows else PROVIDER,
            now_ns=now_ns,
            market_open=(self._is_open or _hours_of(symbol))(now_ns),
            reaches_now=_end_ns(asked.end) >= now_ns,
        )
        judged = await asyncio.to_thread(judge) if len(rows) > _MANY else judge()
        return BarsAnswer(
            as_of_ns=now_ns,
            symbol=symbol,
            timespan=asked.timespan,
            multiplier=asked.multiplier,
            start=asked.start,
            end=asked.end,
            adjusted=asked.adjusted,
            sort=asked.sort,
            count=len(judged.bars),
            has_more=len(found) > asked.most,
            bars=judged.bars if is_ascending else judged.bars[::-1],
            dropped=judged.dropped,
            notes=tuple(fault.message for fault in found.errors.values()),
            quality=judged.quality,
            simulated=found.simulated,
        )

    async def _asked_for(self, asked: Bars, symbol: str) -> Rows[Bar]:
        """Return the bars in the order asked for; more than the limit if there are."""
        if not (asked.adjusted and _is_brokers(symbol) and _most_in(asked) <= MOST_BARS):
            return await self._reference.bars(asked, symbol)
        start, end = _moment(asked.start), _moment(asked.end)
        rows = await self._broker.get_bars(symbol, asked.length, start, end)
        return rows if asked.sort == "asc" else rows[::-1]


def _hours_of(symbol: str) -> Callable[[int], bool]:
    is_stock = asset_class(symbol, indices=()) is AssetClass.STOCKS
    return stocks_trade if is_stock else options_trade


def _is_brokers(symbol: str) -> bool:
    """Whether a symbol is a stock to the broker provider too: TRIN is an index to it."""
    return symbol[1:2] != ":" and normalize_symbol(symbol) == symbol


def _most_in(asked: Bars) -> int:
    """Return how many bars a range could have, were there no nights."""
    span_ns = _end_ns(asked.end) - _start_ns(asked.start)
    return span_ns // _NS // asked.length.nominal_s


def _moment(edge: date | int) -> Moment:
    return edge if isinstance(edge, date) else edge * _MS


def _start_ns(edge: date | int) -> int:
    """Return the instant of an edge, of a date its first; to the day, in UTC."""
    return (edge - _EPOCH) // _DAY * _DAY_NS if isinstance(edge, date) else edge * _MS


def _end_ns(edge: date | int) -> int:
    return _start_ns(edge) + (_DAY_NS - 1 if isinstance(edge, date) else 0)
