"""The gateway's own answers: judged, scored, and of whichever vendor had the better one.

    quotes             /api/quotes                  any symbols, in batches
    indices            /api/massive/indices
    chains             /api/options/chain           with every bound of the query
    bars               /api/bars                    as many as one answer holds
    status, holidays   /api/market/status, /api/market/holidays

They are the model as it is, so reading one is decoding it. `received_ns` in them is when the
gateway learned of a datum, and `quality` what it found: the score is reckoned here, when it is
asked for. Nothing is kept; whoever asks often has a cache in front.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from onetape.calendar import Holiday
from onetape.chain_query import ChainQuery
from onetape.errors import UNREADABLE, DataProviderError, InvalidSymbol, UpstreamGarbled
from onetape.market_answers import (
    Answer,
    BarsAnswer,
    ChainAnswer,
    HolidaysAnswer,
    IndicesAnswer,
    MarketStatusAnswer,
    QuotesAnswer,
)
from onetape.massive.batches import in_batches
from onetape.massive.questions import Asker, normalized
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import Params
from onetape.model import AssetClass, IndexSnapshot, MarketStatus, OptionChain, Quote
from onetape.rows import Rows, SymbolFault
from onetape.symbols import asset_class, normalize_symbol
from onetape.timeframes import BarLength

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound=msgspec.Struct)


class _WithErrors(Protocol[T_co]):
    """An answer with some rows, and why others are missing."""

    @property
    def results(self) -> tuple[T_co, ...]: ...
    @property
    def errors(self) -> Mapping[str, SymbolFault]: ...
    @property
    def simulated(self) -> bool: ...


_bars: Final = msgspec.json.Decoder(BarsAnswer)
_chain: Final = msgspec.json.Decoder(ChainAnswer)
_holidays: Final = msgspec.json.Decoder(HolidaysAnswer)
_indices: Final = msgspec.json.Decoder(IndicesAnswer)
_quotes: Final = msgspec.json.Decoder(QuotesAnswer)
_status: Final = msgspec.json.Decoder(MarketStatusAnswer)


class MarketQuestions:
    """Asks the gateway's normalised routes. Cancel-safe; errors are those of the asker.

    Symbols may be written as people write them. `UpstreamGarbled` is raised for an answer
    that cannot be read; what fails for some symbols of several is in the rows' `errors`.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.simulated = False
        """Whether a simulator made up any of the last answer."""

    async def market_status(self) -> MarketStatus:
        """Ask `/api/market/status`."""
        return (await self._ask("/api/market/status", {}, _status)).status

    async def market_holidays(self, year: int) -> Rows[Holiday]:
        """Ask `/api/market/holidays`.

        Raises:
            InvalidRequest: nobody knows the holidays of that year.
        """
        answer = await self._ask("/api/market/holidays", {"year": year}, _holidays)
        return _rows(answer, Holiday)

    async def quotes(self, symbols: Iterable[str]) -> Rows[Quote]:
        """Ask `/api/quotes`: the quotes in the order asked for, each symbol once."""

        async def ask(tickers: tuple[str, ...]) -> Rows[Quote]:
            return _rows(await self._ask("/api/quotes", {"tickers": tickers}, _quotes), Quote)

        return await in_batches(normalized(symbols), _sparing(ask, Quote), kind=Quote)

    async def indices(self, symbols: Iterable[str]) -> Rows[IndexSnapshot]:
        """Ask `/api/massive/indices`: the indices in the order asked for, each once.

        Raises:
            InvalidSymbol: one is no index.
        """
        wanted = normalized(symbols)
        for symbol in wanted:
            if asset_class(symbol) is not AssetClass.INDICES:
                raise InvalidSymbol(f"{symbol} is not an index: write I:{symbol} if it is one")

        async def ask(tickers: tuple[str, ...]) -> Rows[IndexSnapshot]:
            answer = await self._ask("/api/massive/indices", {"tickers": tickers}, _indices)
            return _rows(answer, IndexSnapshot)

        return await in_batches(wanted, _sparing(ask, IndexSnapshot), kind=IndexSnapshot)

    async def option_chain(self, underlying: str, query: ChainQuery) -> OptionChain:
        """Ask `/api/options/chain`: what the query wants, and no more of it travels."""
        params: Params = {"underlying": normalize_symbol(underlying), **chain_params(query)}
        params = {**params, "whole": True}  # else a chain without bounds is but its middle
        return (await self._ask("/api/options/chain", params, _chain)).chain

    async def bars(
        self,
        symbol: str,
        length: BarLength,
        start: int | date,
        end: int | date,
        *,
        limit: int,
        sort: Literal["asc", "desc"] = "asc",
    ) -> BarsAnswer:
        """Ask `/api/bars`: both ends included, those first that come first in the order."""
        params: Params = {
            "symbol": normalize_symbol(symbol),
            "timespan": length.timespan,
            "multiplier": length.multiplier,
            "from": _edge(start),
            "to": _edge(end),
            "limit": limit,
            "sort": sort,
        }
        return await self._ask("/api/bars", params, _bars)

    # private

    async def _ask(self, path: str, params: Params, decoder: "msgspec.json.Decoder[S]") -> S:
        answer = _read(await self._asker.get(path, params), decoder)
        if isinstance(answer, Answer):
            self.simulated = answer.simulated
        return answer


def chain_params(query: ChainQuery) -> Params:
    """Write a query as the parameters of the gateway's chain, which are named like its fields."""
    return {name: getattr(query, name) for name in query.__struct_fields__}


def _edge(moment: int | date) -> str:
    """Write an end of a range: a date, or milliseconds."""
    return moment.isoformat() if isinstance(moment, date) else str(moment // 1_000_000)


def _read(response: RestResponse, decoder: "msgspec.json.Decoder[S]") -> S:
    try:
        return decoder.decode(response.body)
    except UNREADABLE as error:
        raise UpstreamGarbled("the gateway's answer cannot be read: is it older?") from error


def _rows(answer: _WithErrors[T], kind: type[T]) -> Rows[T]:
    return Rows(
        answer.results, kind=kind, errors=answer.errors.values(), simulated=answer.simulated
    )


def _sparing(
    ask: Callable[[tuple[str, ...]], Awaitable[Rows[T]]], kind: type[T]
) -> Callable[[tuple[str, ...]], Awaitable[Rows[T]]]:
    """Let what no provider answered be missing from its own batch only."""

    async def spared(symbols: tuple[str, ...]) -> Rows[T]:
        try:
            return await ask(symbols)
        except DataProviderError as error:
            faults = (
                SymbolFault(
                    symbol=one,
                    error=error.code,
                    message=str(error),
                    retry_after_s=error.retry_after_s,
                )
                for one in symbols
            )
            return Rows(kind=kind, errors=faults)

    return spared
