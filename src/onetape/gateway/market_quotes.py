"""Quotes of anything, and index values: each symbol answered or explained, none invented.

    a symbol ── the hub watches it, and what it has is neither stale nor wrong ──▶ that
        └─ else with the others of its class, in one question
              stocks, indices    the providers', which have a second vendor
              options            the vendor's; what fails of a few, the providers' one by one

What cannot be read, and what has no quote, is in `errors` by its symbol (R46).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from onetape.calendar import options_trade
from onetape.clock import Clock
from onetape.errors import InvalidSymbol, NotFound, OnetapeError
from onetape.hub import Providers
from onetape.market_answers import IndicesAnswer, QuotesAnswer
from onetape.massive.batches import SINGLES, all_of
from onetape.massive.questions import MassiveQuestions
from onetape.model import AssetClass, IndexSnapshot, OptionSnapshot, Quote
from onetape.quality.contracts import judge_contract
from onetape.rows import Rows, SymbolFault
from onetape.symbols import asset_class, normalize_symbol, parse_option

MOST_SINGLES: Final = 25
"""How many contracts that the vendor failed are asked for one by one."""


class View(Protocol):
    """What we need of `MarketDataHub`."""

    def get_equity(self, symbol: str) -> Quote | None:
        """Return a stock's quote, if it is watched."""
        ...

    def get_index(self, symbol: str) -> IndexSnapshot | None:
        """Return an index, if it is watched."""
        ...


class _Found(NamedTuple):
    """Quotes by symbol, and why the others have none."""

    quotes: Mapping[str, Quote]
    faults: Mapping[str, SymbolFault]
    failure: OnetapeError | None = None
    """Of the whole question."""


class Quotes:
    """Asks for quotes. Cancel-safe; one caller never disturbs another."""

    def __init__(
        self,
        *,
        providers: Providers,
        questions: MassiveQuestions,
        hub: View,
        clock: Clock,
        is_open: Callable[[int], bool] = options_trade,
    ) -> None:
        self._providers = providers
        self._questions = questions
        self._hub = hub
        self._clock = clock
        self._is_open = is_open

    async def quotes(self, tickers: Sequence[str]) -> QuotesAnswer:
        """Return the quotes in the order asked for, each symbol once.

        Raises:
            OnetapeError: there is no quote at all, and a whole question failed.
        """
        wanted, faults = _read(tickers)
        found = self._held(wanted)
        ask = {
            AssetClass.STOCKS: self._stocks,
            AssetClass.INDICES: self._indices,
            AssetClass.OPTIONS: self._options,
        }
        by_class = _by_class(symbol for symbol in wanted if symbol not in found)
        parts = await all_of(_outcome(ask[kind], some) for kind, some in by_class.items())
        for part in parts:
            found.update(part.quotes)
            faults.update(part.faults)
        failures = [part.failure for part in parts if part.failure is not None]
        if failures and not found:
            raise failures[0]
        return QuotesAnswer(
            as_of_ns=self._clock.now_ns(),
            results=tuple(found[symbol] for symbol in wanted if symbol in found),
            errors={symbol: fault for symbol, fault in faults.items() if symbol not in found},
            simulated=any(quote.simulated for quote in found.values()),
        )

    async def indices(self, tickers: Sequence[str]) -> IndicesAnswer:
        """Return the indices in the order asked for, each once; a bare symbol is one.

        Raises:
            OnetapeError: the question failed.
        """
        wanted, faults = _read(tickers, as_index)
        rows = Rows[IndexSnapshot](kind=IndexSnapshot)
        if wanted:
            rows = await self._providers.indices.get_index_snapshots(wanted)
        return IndicesAnswer(
            as_of_ns=self._clock.now_ns(),
            results=rows,
            errors={**faults, **rows.errors},
            simulated=rows.simulated,
        )

    # private

    def _held(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return what the hub has of them that is neither stale nor wrong."""
        now_ns = self._clock.now_ns()
        held: dict[str, Quote] = {}
        for symbol in symbols:
            quote = self._watched(symbol)
            quality = None if quote is None else quote.quality
            if quote and quality and not (quality.has_errors or quality.is_stale(now_ns)):
                held[symbol] = quote
        return held

    def _watched(self, symbol: str) -> Quote | None:
        match asset_class(symbol):
            case AssetClass.STOCKS:
                return self._hub.get_equity(symbol)
            case AssetClass.INDICES:
                index = self._hub.get_index(symbol)
                return None if index is None else _market_of(index)
            case AssetClass.OPTIONS:
                return None

    async def _stocks(self, symbols: Sequence[str]) -> _Found:
        rows = await self._providers.broker.get_quotes(symbols)
        return _Found(rows.by_symbol, rows.errors)

    async def _indices(self, symbols: Sequence[str]) -> _Found:
        rows = await self._providers.indices.get_index_snapshots(symbols)
        return _Found({row.symbol: _market_of(row) for row in rows}, rows.errors)

    async def _options(self, symbols: Sequence[str]) -> _Found:
        rows = await self._questions.option_snapshots(symbols)
        now_ns = self._clock.now_ns()
        is_open = self._is_open(now_ns)
        judged = [judge_contract(row, now_ns=now_ns, market_open=is_open) for row in rows]
        quotes = {row.symbol: _market_of(row) for row in judged}
        failed = [symbol for symbol, fault in rows.errors.items() if fault.error != NotFound.code]
        turns = asyncio.Semaphore(SINGLES)
        others = await all_of(self._option(symbol, turns) for symbol in failed[:MOST_SINGLES])
        quotes.update({quote.symbol: quote for quote in others if quote is not None})
        failure = None if quotes or not failed else rows.errors[failed[0]].as_error()
        return _Found(quotes, rows.errors, failure)

    async def _option(self, symbol: str, turns: asyncio.Semaphore) -> Quote | None:
        """Ask the providers for one contract, of whom the other may have it."""
        terms = parse_option(symbol)
        async with turns:
            with suppress(OnetapeError):  # the vendor's own words on it are told
                found = await self._providers.options.get_option_contract(
                    terms.underlying, terms.strike, terms.expiration, terms.contract_type
                )
                # Terms do not tell the root: what they name may be SPXW for SPX.
                return _market_of(found) if found.symbol == symbol else None
        return None


# symbols


def as_index(text: str) -> str:
    """Read the symbol of an index; one without a class is one.

    Raises:
        InvalidSymbol: it is none.
    """
    symbol = normalize_symbol(text)
    if asset_class(symbol) is AssetClass.STOCKS:
        symbol = normalize_symbol(f"I:{symbol}")
    if asset_class(symbol) is not AssetClass.INDICES:
        raise InvalidSymbol(f"{symbol} is not an index")
    return symbol


def as_stock(text: str) -> str:
    """Read the symbol of a stock; a bare TRIN is one here.

    Raises:
        InvalidSymbol: it is none.
    """
    symbol = normalize_symbol(text, indices=())
    if asset_class(symbol, indices=()) is not AssetClass.STOCKS:
        raise InvalidSymbol(f"{symbol} is not a stock")
    return symbol


def as_option(text: str) -> str:
    """Read the symbol of an option.

    Raises:
        InvalidSymbol: it is none.
    """
    symbol = normalize_symbol(text)
    if asset_class(symbol) is not AssetClass.OPTIONS:
        raise InvalidSymbol(f"{symbol} is not an option: write O:SPY251219C00650000")
    return symbol


def _read(
    texts: Iterable[str], read: Callable[[str], str] = normalize_symbol
) -> tuple[list[str], dict[str, SymbolFault]]:
    """Return the symbols in the vendor's form, each once, and those that are none."""
    wanted: dict[str, None] = {}
    faults: dict[str, SymbolFault] = {}
    for text in texts:
        try:
            wanted[read(text)] = None
        except InvalidSymbol as error:
            faults[text] = _fault(text, error)
    return list(wanted), faults


def _by_class(symbols: Iterable[str]) -> dict[AssetClass, list[str]]:
    by_class: dict[AssetClass, list[str]] = {}
    for symbol in symbols:
        by_class.setdefault(asset_class(symbol), []).append(symbol)
    return by_class


# answers


async def _outcome(
    ask: Callable[[Sequence[str]], Coroutine[Any, Any, _Found]], symbols: Sequence[str]
) -> _Found:
    """Return what was found; a failure of one class is no failure of another."""
    try:
        return await ask(symbols)
    except OnetapeError as error:
        return _Found({}, {symbol: _fault(symbol, error) for symbol in symbols}, error)


def _fault(symbol: str, error: OnetapeError) -> SymbolFault:
    return SymbolFault(
        symbol=symbol, error=error.code, message=str(error), retry_after_s=error.retry_after_s
    )


def _market_of(whole: IndexSnapshot | OptionSnapshot) -> Quote:
    """Return the quote with the verdict on what it is part of, which stays behind."""
    quote = whole.quote
    return quote if quote.quality else msgspec.structs.replace(quote, quality=whole.quality)
