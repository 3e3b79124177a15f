"""A chain in the making: one request for each expiration, the nearest first, a few at once.

    expirations ──▶ those the query wants, soonest first
                       └─▶ workers ──▶ pages ──▶ enough? ──▶ chain
    underlying ──────────────▶ its quote, once for all pages

Enough is what the query asks for: with `max_expirations`, days are added until so many have
a contract that it admits. An expiration that fails is named in `partial`, and so is what
time or the requests of this minute were not enough for; only when nothing came at all is
the first failure raised (R214). What befalls all alike, a refused token or a limit, ends the
asking. A page that is empty, of a day that is listed, failed as well: an outage may look
like that (W-60). But what expires today may be gone already.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Annotated, Final, NamedTuple, Protocol, TypeVar

import msgspec

from onetape.calendar import new_york_date
from onetape.chain_query import ChainQuery
from onetape.errors import (
    OnetapeError,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.model import OptionChain, Quote
from onetape.provenance import Source
from onetape.tradier.parse import underlying_price
from onetape.tradier.questions import Page, TradierQuestions
from onetape.tradier.shapes import PROVIDER
from onetape.tradier.valuation import Reasons

T = TypeVar("T")

Count = Annotated[int, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

PAGE_CONTRACT_BYTES: Final = 400
"""What a contract takes in a page beside what the chain made of it shares, estimated."""

_OF_ALL: Final = (UpstreamForbidden, UpstreamThrottled)


class ChainLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may be asked for one chain."""

    requests: Count = 40  # more expirations than that are told as not asked
    spare: Annotated[int, msgspec.Meta(ge=0)] = 12  # of this minute's, left for other questions
    at_once: Count = 4
    within_s: Seconds = 4.0  # then what came is the answer


class Lives(NamedTuple):
    """How long what is kept, in seconds."""

    page_s: float
    spot_s: float
    expirations_s: float


class Keeper(Protocol):
    """Who keeps answers and asks once for all who want one: `Vendor`."""

    async def kept(
        self,
        key: str,
        fetch: Callable[[], Awaitable[T]],
        *,
        ttl_s: float,
        size: Callable[[T], int] | None = None,
    ) -> T:
        """Return the fresh answer, or fetch it."""
        ...

    async def ask(self, what: str, question: Awaitable[T]) -> T:
        """Wait for an answer, and count it."""
        ...


class Gathered(NamedTuple):
    """A chain that is not judged yet, and what to say of its contracts."""

    chain: OptionChain
    reasons: Reasons


class Chains:
    """Gathers chains. Cancel-safe; raises `UpstreamError` when nothing came.

    Args:
        keeper: Who keeps what was answered.
        limits: How much may be asked.
        lives: How long it is kept.
    """

    def __init__(self, keeper: Keeper, *, limits: ChainLimits, lives: Lives) -> None:
        self._keeper = keeper
        self._limits = limits
        self._lives = lives

    async def expirations(self, asks: TradierQuestions, symbol: str) -> tuple[date, ...]:
        """Return the listed days, soonest first."""
        return await self._keeper.kept(
            f"expirations:{symbol}",
            lambda: self._keeper.ask("expirations", asks.expirations(symbol)),
            ttl_s=self._lives.expirations_s,
        )

    async def gather(self, asks: TradierQuestions, symbol: str, query: ChainQuery) -> Gathered:
        """Return the contracts that meet the query's terms, of the expirations it wants."""
        gathering = _Gathering(self._keeper, self._limits, self._lives, asks, symbol)
        listed: tuple[date, ...] | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.within_s):
                listed = await self.expirations(asks, symbol)
                await gathering.fill([day for day in listed if query.wants(day)], query)
        if listed is None:
            raise _too_late(symbol)
        chain = gathering.chain(query.of_terms)
        if not chain.contracts and not chain.partial:
            chain = msgspec.structs.replace(chain, listed=await self._count(asks, symbol, listed))
        elif gathering.days == listed and not chain.partial:
            chain = msgspec.structs.replace(chain, listed=gathering.count)
        return Gathered(chain, gathering.reasons())

    async def _count(
        self, asks: TradierQuestions, symbol: str, expirations: tuple[date, ...]
    ) -> int | None:
        """Return how many contracts are listed: what tells an empty chain from an outage."""
        if not expirations:
            return 0
        try:
            return await self._keeper.kept(
                f"listed:{symbol}",
                lambda: asks.listed(symbol),
                ttl_s=self._lives.expirations_s,
            )
        except OnetapeError:
            return None


class _Gathering:
    """One chain in the making."""

    def __init__(
        self,
        keeper: Keeper,
        limits: ChainLimits,
        lives: Lives,
        asks: TradierQuestions,
        symbol: str,
    ) -> None:
        self._keeper = keeper
        self._limits = limits
        self._lives = lives
        self._asks = asks
        self._symbol = symbol
        self._pages: dict[date, Page] = {}
        self._failures: dict[date, OnetapeError] = {}
        self._fetched = 0
        self._of_all: OnetapeError | None = None  # why it is no use to go on
        self._quote: Quote | None = None
        self._quote_failure: OnetapeError | None = None
        self.days: tuple[date, ...] = ()

    # asking

    async def fill(self, wanted: Sequence[date], query: ChainQuery) -> None:
        """Ask for the days, the nearest first, until it is enough; cancelled when it is late."""
        todo = deque(wanted)
        most = query.max_expirations or len(wanted)
        while todo and self._of_all is None and (lacking := most - self._settled(query)) > 0:
            batch = [todo.popleft() for _ in range(min(lacking, len(todo)))]
            self.days += tuple(batch)
            await self._ask(deque(batch))
        if wanted:  # each page asked for it too, unless it was kept
            await self._spot()

    def _settled(self, query: ChainQuery) -> int:
        """Count the days that need no other in their place; one that failed might have done."""
        admitted = (any(map(query.admits, page.contracts)) for page in self._pages.values())
        return len(self._failures) + sum(admitted)

    async def _ask(self, days: deque[date]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._limits.at_once, len(days))):
                tasks.create_task(self._work(days))

    async def _work(self, days: deque[date]) -> None:
        while days and self._of_all is None:
            day = days.popleft()
            try:
                self._pages[day] = await self._page(day)
            except OnetapeError as error:
                self._failures[day] = error
                if isinstance(error, _OF_ALL):
                    self._of_all = error

    async def _page(self, day: date) -> Page:
        return await self._keeper.kept(
            f"page:{self._symbol}:{day}",
            lambda: self._fetch(day),
            ttl_s=self._lives.page_s,
            size=lambda page: PAGE_CONTRACT_BYTES * len(page.contracts),
        )

    async def _fetch(self, day: date) -> Page:
        limits, self._fetched = self._limits, self._fetched + 1
        if self._fetched > 1 and (
            self._fetched > limits.requests or self._asks.room() <= limits.spare
        ):
            raise UpstreamThrottled("the requests of this minute are left for other questions")
        page = await self._asks.page(self._symbol, day, self._spot)
        if not page.contracts and day > new_york_date(self._asks.clock.now_ns()):
            raise UpstreamGarbled(f"{day} has no contracts, although it is listed")
        return page

    async def _spot(self) -> Quote | None:
        """Return the underlying's quote; after a failure, without asking again."""
        if self._quote_failure is None:
            try:
                self._quote = await self._keeper.kept(
                    f"spot:{self._symbol}", self._fetch_spot, ttl_s=self._lives.spot_s
                )
            except OnetapeError as error:
                self._quote_failure = error
        return self._quote

    async def _fetch_spot(self) -> Quote:
        found = await self._asks.quotes([self._symbol])
        for fault in found.faults.values():
            raise fault.as_error()
        return found.rows[self._symbol]

    # what came

    @property
    def count(self) -> int:
        """How many contracts came, of any terms."""
        return sum(len(page.contracts) for page in self._pages.values())

    def reasons(self) -> Reasons:
        """Return what is to be said of the contracts."""
        return {
            symbol: said for page in self._pages.values() for symbol, said in page.reasons.items()
        }

    def chain(self, terms: ChainQuery) -> OptionChain:
        """Return the contracts that meet the terms, and what is missing.

        Raises:
            OnetapeError: nothing came: what the nearest expiration said.
        """
        pages = self._pages.values()
        missing = {day: self._why(day) for day in self.days if day not in self._pages}
        if missing and not pages:
            raise missing[self.days[0]]
        rows = [row for page in pages for row in page.contracts if terms.admits(row)]
        quote = self._quote
        return OptionChain(
            underlying=self._symbol,
            underlying_price=None if quote is None else underlying_price(quote),
            underlying_event_ns=None if quote is None else quote.event_ns,
            contracts=ChainQuery().select(rows, underlying_price=None),
            received_ns=max(
                (page.received_ns for page in pages), default=self._asks.clock.now_ns()
            ),
            provider=PROVIDER,
            source=Source.REST,
            partial=tuple(self._missing(missing)),
            dropped=dict(Counter(fault.error for page in pages for fault in page.faults)),
            delayed=self._asks.delayed,
            simulated=any(page.simulated for page in pages),
        )

    def _why(self, day: date) -> OnetapeError:
        return self._failures.get(day) or self._of_all or _too_late(self._symbol)

    def _missing(self, days: Mapping[date, OnetapeError]) -> Iterator[str]:
        for day, error in days.items():
            yield f"expiration {day}: {error.code}"
        if self._quote is None and self.days:
            error = self._quote_failure or _too_late(self._symbol)
            yield f"the price of {self._symbol}: {error.code}"


def _too_late(symbol: str) -> UpstreamTimeout:
    return UpstreamTimeout(f"Tradier did not answer for {symbol} in time")
