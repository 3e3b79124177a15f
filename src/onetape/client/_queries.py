"""The questions a client asks, with the cache in front of them.

    of the gateway   market status, quotes, indices          only joined while in flight
                     chains 10 s (60 s when closed)          holidays a day
                     bars 60 s
    of the vendor    RSI, trades                             only joined while in flight
                     bars when there are many                contracts 15 min

What the gateway says is judged, and of another vendor when the first fails; what is the
vendor's own word is judged here. A chain is kept
by all its bounds, for what they leave out does not travel; the gateway itself keeps it
whole. An answer that is not whole is given to who asked, and not kept.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from typing import Final, TypeVar, cast

from onetape import calendar
from onetape.calendar import Holiday
from onetape.chain_query import ChainQuery
from onetape.client._bars import BarQuestions
from onetape.client._cache import STALE_S, TTL_S, ClientCache
from onetape.client._judging import Judge
from onetape.client._market import MarketQuestions, chain_params
from onetape.client._polling import market_is_open
from onetape.clock import Clock
from onetape.errors import NotConnected, ShuttingDown
from onetape.massive.questions import MassiveQuestions, Params, normalized
from onetape.model import (
    Bar,
    IndexSnapshot,
    IndicatorValue,
    MarketStatus,
    OptionChain,
    OptionContract,
    Quote,
    Trade,
)
from onetape.pages import Pages
from onetape.rows import Rows
from onetape.symbols import normalize_symbol
from onetape.timeframes import BarLength, Moment, Timespan, moment_ns

T = TypeVar("T")

DISCONNECTED: Final = "the client is disconnected"

_CONTRACT_BYTES: Final = 2_100  # of a judged row in memory, measured
_BAR_BYTES: Final = 300
_key = ClientCache.key


class Queries:
    """Asks what is not known yet. Cancel-safe; one caller never disturbs another."""

    def __init__(
        self,
        *,
        market: MarketQuestions,
        questions: MassiveQuestions,
        judge: Judge,
        cache: ClientCache,
        clock: Clock,
        is_over: Callable[[], bool],
    ) -> None:
        self._market = market
        self._ask = questions
        self._judge = judge
        self._bars = BarQuestions(market, questions, judge, clock)
        self._cache = cache
        self._clock = clock
        self._is_over = is_over

    # never kept

    async def market_status(self) -> MarketStatus:
        """Ask what the exchanges are doing."""
        return await self._joined(_key("status"), self._market.market_status)

    async def quotes(self, symbols: Iterable[str]) -> Rows[Quote]:
        """Return quotes in the order asked for."""
        wanted = normalized(symbols)
        return await self._joined(_key("quotes", *wanted), lambda: self._market.quotes(wanted))

    async def indices(self, symbols: Iterable[str]) -> Rows[IndexSnapshot]:
        """Return indices in the order asked for."""
        wanted = normalized(symbols)
        return await self._joined(_key("indices", *wanted), lambda: self._market.indices(wanted))

    async def rsi(self, symbol: str, params: Params) -> Rows[IndicatorValue]:
        """Return the relative strength index, oldest first."""
        name = _key("rsi", normalize_symbol(symbol), **params)
        return await self._joined(name, lambda: self._ask.rsi(symbol, params))

    def trades(
        self,
        symbol: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        newest_first: bool = False,
        max_rows: int | None = None,
    ) -> Pages[Trade]:
        """Return prints, page by page."""
        pages = self._ask.trades(
            symbol, start=start, end=end, newest_first=newest_first, max_rows=max_rows
        )
        return pages.mapped(
            lambda page: page._replace(rows=tuple(map(self._judge.trade, page.rows)))
        )

    # kept

    async def market_holidays(self, year: int | None) -> Rows[Holiday]:
        """Return a year's holidays."""
        this_year = calendar.new_york_date(self._clock.now_ns()).year
        wanted = this_year if year is None else year

        async def ask() -> tuple[Holiday, ...]:
            return await self._market.market_holidays(wanted)

        kept = await self._fetched(
            _key("holidays", wanted), ask, ttl_s=TTL_S["holidays"], stale_s=STALE_S["holidays"]
        )
        # What was read from the disk is a bare tuple.
        return cast("Rows[Holiday]", kept) if isinstance(kept, Rows) else Rows(kept, kind=Holiday)

    async def option_chain(self, underlying: str, query: ChainQuery) -> OptionChain:
        """Return the contracts that the query wants."""
        symbol = normalize_symbol(underlying)
        is_open = market_is_open(self._clock.now_ns())
        return await self._fetched(
            _key("chain", symbol, **chain_params(query)),
            lambda: self._market.option_chain(symbol, query),
            ttl_s=TTL_S["chain" if is_open else "chain_closed"],
            size=_chain_bytes,
        )

    async def option_contract(self, symbol: str) -> OptionContract:
        """Return the terms of one option."""
        option = normalize_symbol(symbol)
        return await self._fetched(
            _key("contract", option),
            lambda: self._ask.option_contract(option),
            ttl_s=TTL_S["contract"],
            stale_s=STALE_S["contract"],
        )

    def bars(
        self,
        symbol: str,
        length: BarLength,
        start: Moment,
        end: Moment | None,
        *,
        max_rows: int | None,
    ) -> Pages[Bar]:
        """Return the bars of a range, oldest first; to the present without an end."""
        ticker = normalize_symbol(symbol)
        today = calendar.new_york_date(self._clock.now_ns())
        last = today if end is None else end
        pages = self._bars.of_range(ticker, length, start, last, max_rows=max_rows)
        name = _key("aggs", ticker, str(length), str(start), str(last), rows=max_rows)
        ttl_s = TTL_S["aggs_closed" if _is_over(last, length, today) else "aggs"]
        return self._kept(name, pages, ttl_s)

    def last_bars(self, symbol: str, length: BarLength, count: int) -> Pages[Bar]:
        """Return the last `count` bars, oldest first."""
        ticker = normalize_symbol(symbol)
        pages = self._bars.last(ticker, length, count)
        return self._kept(_key("aggs", ticker, str(length), "last", count), pages, TTL_S["aggs"])

    # private

    def _kept(self, name: str, pages: Pages[Bar], ttl_s: float) -> Pages[Bar]:
        async def collected() -> Rows[Bar]:
            return await self._fetched(name, pages.collect, ttl_s=ttl_s, size=_bars_bytes)

        return pages.through(collected)

    async def _joined(self, name: str, fetch: Callable[[], Awaitable[T]]) -> T:
        return await self._fetched(name, fetch, ttl_s=0)

    async def _fetched(
        self,
        name: str,
        fetch: Callable[[], Awaitable[T]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        size: Callable[[T], int | None] | None = None,
    ) -> T:
        try:
            return await self._cache.get_or_fetch(
                name, fetch, ttl_s=ttl_s, stale_s=stale_s, size=size
            )
        except ShuttingDown:
            if not self._is_over():
                raise  # it is the gateway that shuts down
            raise NotConnected(DISCONNECTED) from None


def _chain_bytes(chain: OptionChain) -> int | None:
    return None if chain.partial else _CONTRACT_BYTES * (len(chain.contracts) + 1)


def _bars_bytes(rows: Rows[Bar]) -> int | None:
    return None if rows.errors else _BAR_BYTES * (len(rows) + 1)


def _is_over(end: Moment, length: BarLength, today: date) -> bool:
    """A range that ended before today does not change, but for its last week, month or year."""
    at = moment_ns(end)
    last = at if isinstance(at, date) else calendar.new_york_date(at)
    is_short = length.fixed_ns is not None or length.timespan is Timespan.DAY
    return is_short and last < today
