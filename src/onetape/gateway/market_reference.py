"""What only the vendor knows, kept: bars in any order, listings, holidays, the market's state.

    contracts 15 minutes      holidays a day, else the built-in calendar's
    bars      a minute        market status: what was said last, at most a minute ago

`asker` pages are read one at a time and no further than the limit.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import date
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from onetape import calendar
from onetape.calendar import Holiday
from onetape.clock import Clock
from onetape.errors import MassiveApiError, OnetapeError
from onetape.gateway.parameters import MOST_BARS, Bars, Contracts
from onetape.market_answers import ContractsAnswer, HolidaysAnswer
from onetape.massive import parse
from onetape.massive.parse import Page
from onetape.massive.questions import PROVIDER, Asker, MassiveQuestions, chain_params
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import Params
from onetape.model import Bar, MarketStatus, OptionContract
from onetape.own_tasks import OwnTasks
from onetape.pages import Pages
from onetape.providers.vendor import BAR_BYTES, CONTRACT_BYTES, ProviderPolicy, Vendor
from onetape.rows import Rows
from onetape.symbols import normalize_symbol
from onetape.timeframes import Timespan

T = TypeVar("T")

CONTRACTS_S: Final = 900.0
HOLIDAYS_S: Final = 86_400.0
BARS_S: Final = 60.0
STATUS_S: Final = 10.0
"""How old the vendor's market status may be before it is asked anew."""
STATUS_KEPT_S: Final = 60.0
"""How old it may be to be told at all."""
STATUS_WAIT_S: Final = 1.0
"""How long one waits for it who would have to make do with the calendar."""

_CALENDAR: Final = "calendar"
_CONTRACTS_PAGE: Final = 1_000
_CACHE_BYTES: Final = 32 << 20
# The vendor's limit counts the minutes or days that it makes its bars of.
_BASES: Final = {
    Timespan.HOUR: 60,
    Timespan.WEEK: 7,
    Timespan.MONTH: 31,
    Timespan.QUARTER: 92,
    Timespan.YEAR: 366,
}


class Reference:
    """Asks the vendor. Use it as an async context manager; cancel-safe.

    Failures are `MassiveApiError` with the cause in them.
    """

    def __init__(self, *, asker: Asker, clock: Clock, status_wait_s: float = STATUS_WAIT_S) -> None:
        self._status_wait_s = status_wait_s
        self._asker = asker
        self._questions = MassiveQuestions(asker, clock)
        self._clock = clock
        policy = ProviderPolicy(cache_bytes=_CACHE_BYTES)
        self._vendor = Vendor(PROVIDER, failure=MassiveApiError, clock=clock, policy=policy)
        self._tasks = OwnTasks()
        self._asking: asyncio.Task[None] | None = None
        self._status: MarketStatus | None = None
        self._status_at = self._status_due = float("-inf")

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._vendor.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._asking is not None:
            self._asking.cancel()
        try:
            await self._vendor.__aexit__(kind, error, traceback)
        finally:
            await self._tasks.__aexit__(kind, error, traceback)

    async def bars(self, asked: Bars, symbol: str) -> Rows[Bar]:
        """Return the bars in the order asked for; one more than the limit if there are."""
        return await self._vendor.kept(
            f"bars:{symbol}:{msgspec.json.encode(asked).decode()}",
            lambda: self._vendor.ask("bars", self._bars(asked, symbol)),
            ttl_s=BARS_S,
            size=lambda rows: BAR_BYTES * len(rows),
        )

    async def contracts(self, asked: Contracts) -> ContractsAnswer:
        """Return the terms of listed contracts (R43).

        Raises:
            InvalidSymbol: the underlying has no shape that we know.
        """
        name = asked.underlying
        if name is not None:
            name = normalize_symbol(name).removeprefix("I:")
        return await self._vendor.kept(
            f"contracts:{name}:{msgspec.json.encode(asked).decode()}",
            lambda: self._vendor.ask("contracts", self._contracts(asked, name)),
            ttl_s=CONTRACTS_S,
            size=lambda answer: CONTRACT_BYTES * len(answer.results),
        )

    async def holidays(self, year: int | None) -> HolidaysAnswer:
        """Return the holidays of a year that the calendar covers (R49)."""
        now_ns = self._clock.now_ns()
        wanted = year or calendar.new_york_date(now_ns).year
        provider = PROVIDER
        try:
            rows = await self._vendor.kept(
                f"holidays:{wanted}",
                lambda: self._vendor.ask("holidays", self._questions.market_holidays(wanted)),
                ttl_s=HOLIDAYS_S,
            )
        except OnetapeError:  # not kept, so the vendor is asked again the next time
            provider, rows = _CALENDAR, _calendars_holidays(wanted)
        return HolidaysAnswer(
            as_of_ns=now_ns,
            year=wanted,
            provider=provider,
            results=rows,
            errors=rows.errors,
            simulated=rows.simulated,
        )

    async def market_status(self) -> MarketStatus | None:
        """Return what the vendor said within the last minute, if anything.

        When that is some seconds old the vendor is asked anew, for who comes next; who has
        nothing else waits for the answer, but not long. Cancel-safe.
        """
        now = self._clock.monotonic()
        if now >= self._status_due and (self._asking is None or self._asking.done()):
            self._status_due = now + STATUS_S
            self._asking = self._tasks.create_task(self._ask_status())
        if not self._has_status(now) and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=self._status_wait_s)
        return self._status if self._has_status(self._clock.monotonic()) else None

    # private

    def _has_status(self, now: float) -> bool:
        return now - self._status_at < STATUS_KEPT_S

    async def _ask_status(self) -> None:
        with suppress(OnetapeError):  # then what was said before stands, and soon the calendar
            self._status = await self._vendor.ask("status", self._questions.market_status())
            self._status_at = self._clock.monotonic()

    async def _bars(self, asked: Bars, symbol: str) -> Rows[Bar]:
        length, most = asked.length, asked.most + 1
        base = length.multiplier * _BASES.get(length.timespan, 1)
        params: Params = {
            "adjusted": asked.adjusted,
            "sort": asked.sort,
            "limit": min(most * base, MOST_BARS),
        }
        span = f"{length.multiplier}/{length.timespan.value}"
        path = f"/v2/aggs/ticker/{symbol}/range/{span}/{asked.start}/{asked.end}"

        def read(response: RestResponse) -> Page[Bar]:
            return parse.parse_bars(
                response.body,
                symbol,
                length,
                received_ns=response.received_ns,
                simulated=response.simulated,
            )

        return await self._first(path, params, read, most, kind=Bar)

    async def _contracts(self, asked: Contracts, name: str | None) -> ContractsAnswer:
        params: Params = {
            **chain_params(asked.query),
            "underlying_ticker": name,
            "expired": asked.expired or None,
            "as_of": asked.as_of,
            "order": asked.order,
            "sort": asked.sort,
            "limit": min(asked.most + 1, _CONTRACTS_PAGE),
        }
        rows = await self._first(
            "/v3/reference/options/contracts",
            params,
            lambda response: parse.parse_contracts(response.body),
            asked.most + 1,
            kind=OptionContract,
        )
        return ContractsAnswer(
            as_of_ns=self._clock.now_ns(),
            results=rows[: asked.most],
            has_more=len(rows) > asked.most,
            errors=rows.errors,
            simulated=rows.simulated,
        )

    def _first(
        self,
        path: str,
        params: Params,
        read: Callable[[RestResponse], Page[T]],
        most: int,
        *,
        kind: type[T],
    ) -> Awaitable[Rows[T]]:
        """Read pages until there are so many rows."""

        async def pages() -> AsyncGenerator[tuple[Page[T], bool]]:
            async with aclosing(self._asker.pages(path, params)) as responses:
                async for response in responses:
                    yield read(response), response.simulated

        return Pages(pages, kind=kind, max_rows=most).collect()


def _calendars_holidays(year: int) -> Rows[Holiday]:
    first = date(year, 1, 1)
    days = (date(year, 12, 31) - first).days
    return Rows(calendar.upcoming_holidays(first, days=days), kind=Holiday)
