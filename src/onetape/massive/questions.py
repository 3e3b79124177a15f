"""What can be asked of Massive over REST, as typed questions: path, parameters, answer.

Who carries the question is not its business: a gateway's client asks the gateway, the
gateway asks the vendor. Nothing is kept here; whoever asks often has a cache in front.

What is asked of many symbols goes in batches; see there for what fails.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from datetime import date, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from onetape import calendar
from onetape.calendar import Holiday
from onetape.chain_query import ChainQuery
from onetape.clock import Clock
from onetape.errors import (
    ContractNotFound,
    InvalidRequest,
    InvalidSymbol,
    NotFound,
    OnetapeError,
    Throttled,
    UpstreamError,
    UpstreamGarbled,
)
from onetape.massive import parse
from onetape.massive.batches import ANY_OF, in_batches
from onetape.massive.parse import ChainPage, Page
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import Params, Scalar as Scalar  # the client names it from here
from onetape.model import (
    AssetClass,
    Bar,
    IndexSnapshot,
    IndicatorValue,
    MarketStatus,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
    Trade,
)
from onetape.pages import Pages
from onetape.provenance import Source
from onetape.rows import Rows, SymbolFault
from onetape.symbols import asset_class, normalize_symbol
from onetape.timeframes import BarLength, Moment, Timespan, moment_ns

T = TypeVar("T")

PROVIDER: Final = "massive"

_PAGE: Final = 250
_MOST: Final = 50_000  # rows of bars or trades in one page
_QUIET: Final = 5  # of five bars one has trades, at least in what people look at
_OPTIONS_ON: Final = (AssetClass.STOCKS, AssetClass.INDICES)


class Asker(Protocol):
    """Who carries a question to the vendor's REST API and raises for every answer but 2xx."""

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        """Ask for a path with parameters of which the Nones are left out."""
        ...

    def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        """Ask for page after page."""
        ...


class Expirations(NamedTuple):
    """When the options on an underlying expire, and how many contracts there are."""

    dates: tuple[date, ...]
    contracts: int
    simulated: bool


class MassiveQuestions:
    """Asks, and reads what comes back. Cancel-safe; errors are those of the asker.

    Symbols may be written as people write them. `UpstreamGarbled` is raised for an
    answer that cannot be read, a row that cannot be read is in the rows' `errors`. What
    fails for every symbol of several is there too, or raised if asked `strictly`.
    """

    def __init__(self, asker: Asker, clock: Clock) -> None:
        self._asker = asker
        self._clock = clock

    # the market

    async def market_status(self) -> MarketStatus:
        """Ask `/v1/marketstatus/now`."""
        response = await self._asker.get("/v1/marketstatus/now")
        return parse.parse_market_status(response.body, **_facts(response))

    async def market_holidays(self, year: int) -> Rows[Holiday]:
        """Return the holidays of a year: `/v1/marketstatus/upcoming`, before today the calendar's.

        Raises:
            InvalidRequest: neither knows the year; no holidays would be an invention.
        """
        if not date.min.year <= year <= date.max.year:
            raise InvalidRequest(f"{year} is no year")
        response = await self._asker.get("/v1/marketstatus/upcoming")
        page = parse.parse_holidays(response.body)
        today = calendar.new_york_date(self._clock.now_ns())
        ahead = (one for one in page.rows if one.date.year == year and one.date >= today)
        known = [*_behind(year, today), *ahead]
        if not known and not page.faults:
            raise InvalidRequest(f"nobody tells the holidays of {year}")
        return Rows(
            known,
            kind=Holiday,
            errors=page.faults,
            simulated=response.simulated,
        )

    # quotes and indices

    async def quotes(self, symbols: Iterable[str], *, strictly: bool = False) -> Rows[Quote]:
        """Ask `/v3/snapshot`: the quotes in the order asked for, each symbol once."""
        wanted = normalized(symbols)
        ask = self._batch("/v3/snapshot", parse.parse_quotes, Quote)
        return await in_batches(wanted, ask, kind=Quote, strictly=strictly)

    async def indices(
        self, symbols: Iterable[str], *, strictly: bool = False
    ) -> Rows[IndexSnapshot]:
        """Ask `/v3/snapshot/indices`: the indices in the order asked for, each once."""
        wanted = normalized(symbols)
        for symbol in wanted:
            if asset_class(symbol) is not AssetClass.INDICES:
                raise InvalidSymbol(f"{symbol} is not an index: write I:{symbol} if it is one")
        ask = self._batch("/v3/snapshot/indices", parse.parse_quotes, Quote)
        quotes = await in_batches(wanted, ask, kind=Quote, strictly=strictly)
        return Rows(
            [IndexSnapshot(symbol=quote.symbol, quote=quote) for quote in quotes],
            kind=IndexSnapshot,
            errors=quotes.errors.values(),
            simulated=quotes.simulated,
        )

    def _batch(
        self, path: str, read: Callable[..., Page[T]], kind: type[T]
    ) -> Callable[[tuple[str, ...]], Coroutine[Any, Any, Rows[T]]]:
        async def ask(symbols: tuple[str, ...]) -> Rows[T]:
            params: Params = {"ticker.any_of": symbols, "limit": ANY_OF}
            response = await self._asker.get(path, params)
            page = read(response.body, **_facts(response))
            if not page.rows and not page.faults:
                # Of a symbol that there is not the vendor says so, in a row of its own (W-60).
                raise UpstreamGarbled("the answer is empty: it says nothing of any symbol")
            return Rows(page.rows, kind=kind, errors=page.faults, simulated=response.simulated)

        return ask

    # options

    async def option_chain(self, underlying: str, query: ChainQuery) -> OptionChain:
        """Ask `/v3/snapshot/options/{underlying}` for the terms of a query, over all pages.

        The rest of the query is not looked at: `select` does that, on what may be kept.
        When a page after the first fails, the chain says so in `partial`.
        """
        symbol = _with_options(underlying)
        book = _Book(symbol, is_whole=query.of_terms == ChainQuery())
        path = f"/v3/snapshot/options/{symbol}"
        pages = self._asker.pages(path, {**chain_params(query), "limit": _PAGE})
        try:
            async with aclosing(pages) as responses:
                async for response in responses:
                    book.add(response)
        except (UpstreamError, Throttled) as error:
            if not book.pages:
                raise
            book.partial = (f"what follows page {book.pages}: {error.code}",)
        return book.chain()

    async def option_snapshots(
        self, contracts: Iterable[str], *, strictly: bool = False
    ) -> Rows[OptionSnapshot]:
        """Ask `/v3/snapshot` for options, with all that is known of each, as `quotes` does."""
        wanted = tuple(dict.fromkeys(map(_option, contracts)))
        ask = self._batch("/v3/snapshot", parse.parse_option_snapshots, OptionSnapshot)
        return await in_batches(wanted, ask, kind=OptionSnapshot, strictly=strictly)

    async def option_snapshot(self, underlying: str, contract: str) -> OptionSnapshot:
        """Ask `/v3/snapshot/options/{underlying}/{contract}`.

        Raises:
            ContractNotFound: there is none.
        """
        symbol, option = _with_options(underlying), _option(contract)
        try:
            response = await self._asker.get(f"/v3/snapshot/options/{symbol}/{option}")
        except NotFound as error:
            raise ContractNotFound(f"{option} is not listed", causes=[error]) from error
        page = parse.parse_chain(response.body, **_facts(response))
        if not page.rows:
            raise _none(option, page.faults)
        return page.rows[0]

    async def option_contract(self, contract: str) -> OptionContract:
        """Ask `/v3/reference/options/contracts/{contract}`.

        Raises:
            ContractNotFound: there is none.
        """
        option = _option(contract)
        try:
            response = await self._asker.get(f"/v3/reference/options/contracts/{option}")
        except NotFound as error:
            raise ContractNotFound(f"{option} is not listed", causes=[error]) from error
        page = parse.parse_contracts(response.body)
        if not page.rows:
            raise _none(option, page.faults)
        return page.rows[0]

    async def expirations(self, underlying: str) -> Expirations:
        """Return the listed expirations by `/v3/reference/options/contracts`, over all pages."""
        symbol = _with_options(underlying)
        params: Params = {
            "underlying_ticker": symbol.removeprefix("I:"),
            "expiration_date.gte": calendar.new_york_date(self._clock.now_ns()),
            "limit": 1000,
        }
        dates: set[date] = set()
        contracts, simulated = 0, False
        async with aclosing(self._asker.pages(_CONTRACTS, params)) as responses:
            async for response in responses:
                rows = parse.parse_contracts(response.body).rows
                dates.update(row.expiration for row in rows)
                contracts += len(rows)
                simulated |= response.simulated
        return Expirations(tuple(sorted(dates)), contracts, simulated)

    async def is_listed(self, underlying: str, query: ChainQuery) -> bool:
        """Tell by `/v3/reference/options/contracts` whether a query's terms have any contract."""
        symbol = _with_options(underlying)
        params: Params = {
            **chain_params(query),
            "underlying_ticker": symbol.removeprefix("I:"),
            "limit": 1,
        }
        response = await self._asker.get(_CONTRACTS, params)
        return bool(parse.parse_contracts(response.body).rows)

    # bars, indicators, trades

    def bars(
        self,
        symbol: str,
        length: BarLength,
        start: Moment,
        end: Moment,
        *,
        max_rows: int | None = None,
    ) -> Pages[Bar]:
        """Ask `/v2/aggs/ticker/…/range/…`: both ends included, oldest first."""
        ticker = normalize_symbol(symbol)
        params: Params = {"adjusted": True, "sort": "asc", "limit": _MOST}
        path = _range_path(ticker, length, _edge(start), _edge(end))
        read = self._reader(path, params, _bars_of(ticker, length))
        return Pages(read, kind=Bar, max_rows=max_rows)

    def last_bars(self, symbol: str, length: BarLength, count: int) -> Pages[Bar]:
        """Return the last `count` bars, oldest first, from as far back as it may take."""
        if not 0 < count <= _MOST:
            raise InvalidRequest(f"look back 1 to {_MOST} bars")
        ticker = normalize_symbol(symbol)
        today = calendar.new_york_date(self._clock.now_ns())
        # Nights, weekends and holidays have no bars, and quiet minutes neither.
        days = count * length.nominal_s * _QUIET // 86_400 + 7
        first = max(today - timedelta(days=days), date(1970, 1, 2))
        # One bar more: the oldest of a page may be cut.
        limit = min((count + 1) * length.multiplier * _BASES[length.timespan], _MOST)
        params: Params = {"adjusted": True, "sort": "desc", "limit": limit}
        path = _range_path(ticker, length, first.isoformat(), today.isoformat())
        read = self._reader(path, params, _bars_of(ticker, length))

        async def oldest_first() -> AsyncGenerator[tuple[Page[Bar], bool]]:
            rows = await Pages(read, kind=Bar, max_rows=count).collect()
            yield Page(rows[::-1], tuple(rows.errors.values())), rows.simulated

        return Pages(oldest_first, kind=Bar, max_rows=None)

    async def rsi(self, symbol: str, params: Params) -> Rows[IndicatorValue]:
        """Ask `/v1/indicators/rsi/…`: oldest first."""
        response = await self._asker.get(f"/v1/indicators/rsi/{normalize_symbol(symbol)}", params)
        page = parse.parse_indicator(response.body)
        rows = sorted(page.rows, key=lambda one: one.event_ns)
        return Rows(rows, kind=IndicatorValue, errors=page.faults, simulated=response.simulated)

    def trades(
        self,
        symbol: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        newest_first: bool = False,
        max_rows: int | None = None,
    ) -> Pages[Trade]:
        """Ask `/v3/trades/…`: the prints of a stock or an option, both ends included."""
        ticker = _traded(symbol)
        params = _history_params(start, end, newest_first=newest_first, max_rows=max_rows)

        def read(response: RestResponse) -> Page[Trade]:
            return parse.parse_trades(response.body, ticker, **_facts(response))

        pages = self._reader(f"/v3/trades/{ticker}", params, read)
        return Pages(pages, kind=Trade, max_rows=max_rows)

    def quote_history(
        self,
        symbol: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        newest_first: bool = False,
        max_rows: int | None = None,
    ) -> Pages[Quote]:
        """Ask `/v3/quotes/…`: how bid and ask of a stock or an option went, as `trades`."""
        ticker = _traded(symbol)
        params = _history_params(start, end, newest_first=newest_first, max_rows=max_rows)

        def read(response: RestResponse) -> Page[Quote]:
            return parse.parse_quote_history(response.body, ticker, **_facts(response))

        pages = self._reader(f"/v3/quotes/{ticker}", params, read)
        return Pages(pages, kind=Quote, max_rows=max_rows)

    def _reader(
        self, path: str, params: Params, read: Callable[[RestResponse], Page[T]]
    ) -> Callable[[], AsyncGenerator[tuple[Page[T], bool]]]:
        async def pages() -> AsyncGenerator[tuple[Page[T], bool]]:
            async with aclosing(self._asker.pages(path, params)) as responses:
                async for response in responses:
                    yield read(response), response.simulated

        return pages


_CONTRACTS: Final = "/v3/reference/options/contracts"

# The vendor's limit counts the seconds, minutes or days that it makes its bars of.
_BASES: Final = {
    Timespan.SECOND: 1,
    Timespan.MINUTE: 1,
    Timespan.HOUR: 60,
    Timespan.DAY: 1,
    Timespan.WEEK: 7,
    Timespan.MONTH: 31,
    Timespan.QUARTER: 92,
    Timespan.YEAR: 366,
}


class _Book:
    """A chain in the making."""

    def __init__(self, underlying: str, *, is_whole: bool) -> None:
        self.underlying = underlying
        self.pages = 0
        self._is_whole = is_whole
        self.partial: tuple[str, ...] = ()
        self._rows: dict[str, OptionSnapshot] = {}  # one page may overlap the next
        self._dropped: Counter[str] = Counter()
        self._told: ChainPage | None = None
        self._received_ns = 0
        self._simulated = False

    def add(self, response: RestResponse) -> None:
        page = parse.parse_chain(response.body, **_facts(response))
        self.pages += 1
        self._rows.update((row.symbol, row) for row in page.rows)
        self._dropped.update(fault.error for fault in page.faults)
        self._received_ns = response.received_ns
        self._simulated |= response.simulated
        before = self._told
        if page.underlying_price is not None and (
            before is None or (page.underlying_event_ns or 0) >= (before.underlying_event_ns or 0)
        ):
            self._told = page

    def chain(self) -> OptionChain:
        told = self._told
        rows = tuple(self._rows.values())
        return OptionChain(
            underlying=self.underlying,
            underlying_price=None if told is None else told.underlying_price,
            underlying_event_ns=None if told is None else told.underlying_event_ns,
            contracts=ChainQuery().select(rows, underlying_price=None),
            received_ns=self._received_ns,
            provider=PROVIDER,
            source=Source.REST,
            partial=self.partial,
            dropped=dict(self._dropped),
            listed=len(rows) if self._is_whole and not self.partial else None,
            delayed=any(row.quote.delayed for row in rows),
            simulated=self._simulated,
        )


def chain_params(query: ChainQuery) -> Params:
    """Write the part of a query that the vendor can decide as its parameters."""
    return {
        "strike_price.gte": query.min_strike,
        "strike_price.lte": query.max_strike,
        "expiration_date.gte": query.first_expiration,
        "expiration_date.lte": query.last_expiration,
        "contract_type": query.contract_type,
    }


def normalized(symbols: Iterable[str]) -> tuple[str, ...]:
    """Bring symbols to the vendor's form, each once, in order.

    Raises:
        InvalidRequest: one string instead of several.
        InvalidSymbol: one has no shape that we know.
    """
    if isinstance(symbols, str):
        raise InvalidRequest("a list of symbols is wanted, not one string")
    return tuple(dict.fromkeys(map(normalize_symbol, symbols)))


def _with_options(underlying: str) -> str:
    symbol = normalize_symbol(underlying)
    if asset_class(symbol) not in _OPTIONS_ON:
        raise InvalidSymbol(f"{symbol} has no options: a chain is of a stock or an index")
    return symbol


def _option(contract: str) -> str:
    symbol = normalize_symbol(contract)
    if asset_class(symbol) is not AssetClass.OPTIONS:
        raise InvalidSymbol(f"{symbol} is not an option: write O:SPY251219C00650000")
    return symbol


def _none(option: str, faults: tuple[SymbolFault, ...]) -> OnetapeError:
    if faults and faults[0].error != NotFound.code:
        return faults[0].as_error()
    return ContractNotFound(f"{option} is not listed")


def _facts(response: RestResponse) -> dict[str, Any]:
    return {"received_ns": response.received_ns, "simulated": response.simulated}


def _behind(year: int, today: date) -> Iterator[Holiday]:
    """Yield the holidays of a year that are past: the vendor tells only those to come."""
    first, last = date(year, 1, 1), min(date(year, 12, 31), today - timedelta(days=1))
    if first <= last and first >= calendar.FIRST_DAY and last <= calendar.LAST_DAY:
        yield from calendar.upcoming_holidays(first, days=(last - first).days)


def _bars_of(ticker: str, length: BarLength) -> Callable[[RestResponse], Page[Bar]]:

    def read(response: RestResponse) -> Page[Bar]:
        return parse.parse_bars(response.body, ticker, length, **_facts(response))

    return read


def _range_path(ticker: str, length: BarLength, start: str, end: str) -> str:
    span = f"{length.multiplier}/{length.timespan.value}"
    return f"/v2/aggs/ticker/{ticker}/range/{span}/{start}/{end}"


def _edge(moment: Moment) -> str:
    """Write an end of a range of bars: a date, or milliseconds."""
    at = moment_ns(moment)
    return at.isoformat() if isinstance(at, date) else str(at // 1_000_000)


def _instant(moment: Moment) -> str | int:
    """Write an end of a range of trades: a date, or nanoseconds."""
    at = moment_ns(moment)
    return at.isoformat() if isinstance(at, date) else at


def _traded(symbol: str) -> str:
    ticker = normalize_symbol(symbol)
    if asset_class(ticker) is AssetClass.INDICES:
        raise InvalidSymbol(f"{ticker} is an index, and an index is not traded")
    return ticker


def _history_params(
    start: Moment | None, end: Moment | None, *, newest_first: bool, max_rows: int | None
) -> Params:
    return {
        "timestamp.gte": None if start is None else _instant(start),
        "timestamp.lte": None if end is None else _instant(end),
        "order": "desc" if newest_first else "asc",
        "sort": "timestamp",
        "limit": min(max_rows or _MOST, _MOST),
    }
