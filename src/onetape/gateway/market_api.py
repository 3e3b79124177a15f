"""The normalised routes: judged data of every class, whichever vendor has them.

    request ──▶ admitted ──▶ read ──▶ asked of the providers ──▶ JSON as of now, packed

What can be asked is in `operations`, what is answered in `market_answers`. A failure of
the providers is told by its root: the vendor's 403 is `upstream_forbidden` to the client
too, its 429 `upstream_throttled`, whoever wrapped it on the way.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import date
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from onetape import calendar, market_json
from onetape.calendar import options_trade
from onetape.chain_query import nearest_strike
from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.errors import AllProvidersFailed, ContractNotFound, DataProviderError, OnetapeError
from onetape.gateway.auth import Auth
from onetape.gateway.callers import Callers
from onetape.gateway.endpoints import Desk, Journal, packed_response
from onetape.gateway.market_bars import History
from onetape.gateway.market_quotes import Quotes, View, as_index, as_option, as_stock
from onetape.gateway.market_reference import Reference
from onetape.gateway.openapi import description
from onetape.gateway.operations import OPERATIONS, Operation
from onetape.gateway.parameters import (
    Bars,
    Chain,
    Contracts,
    Holidays,
    Symbols,
    VendorChain,
    read,
)
from onetape.hub import Providers
from onetape.market_answers import (
    BarsAnswer,
    ChainAnswer,
    ContractsAnswer,
    ExpirationSummary,
    HolidaysAnswer,
    IndicesAnswer,
    QuotesAnswer,
)
from onetape.massive.questions import Asker, MassiveQuestions
from onetape.model import ContractType, MarketStatus, OptionChain, OptionSnapshot
from onetape.symbols import normalize_symbol

_MANY_ROWS: Final = 20
"""With more rows an answer may have 32 kB, and is written and packed off the loop."""

_SLICE: Final = 100  # rows; about a millisecond

_encoder: Final = msgspec.json.Encoder()


class MarketApi:
    """Routes over the providers. Use it as an async context manager.

    Args:
        providers: Who answers; whoever made them opens and closes them.
        asker: Who carries questions to the vendor.
        hub: What is watched, and so known without asking.
        auth: Who may ask.
        limit: How often; shared with the other routes.
        callers: Who asks.
        telemetry: Counts and logs requests.
        clock: The time.
        is_open: Whether the market is open at an instant; by default the calendar's word,
            for each class its own.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        *,
        providers: Providers,
        asker: Asker,
        hub: View,
        auth: Auth,
        limit: SlidingWindow,
        callers: Callers,
        telemetry: Journal,
        clock: Clock,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._desk = Desk(auth=auth, telemetry=telemetry, callers=callers, limit=limit, clock=clock)
        self._clock = clock
        self._options = providers.options
        self._reference = Reference(asker=asker, clock=clock)
        self._history = History(
            broker=providers.broker, reference=self._reference, clock=clock, is_open=is_open
        )
        self._quotes = Quotes(
            providers=providers,
            questions=MassiveQuestions(asker, clock),
            hub=hub,
            clock=clock,
            is_open=is_open or options_trade,
        )

    async def __aenter__(self) -> Self:
        await self._reference.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._reference.__aexit__(kind, error, traceback)

    def routes(self) -> list[BaseRoute]:
        """Return the routes, for the application to mount before its catch-all."""
        data: dict[str, _Ask] = {
            "quotes": self._all_quotes,
            "indices": self._indices,
            "bars": partial(self._bars, normalize_symbol),
            "stock_bars": partial(self._bars, as_stock),
            "index_bars": partial(self._bars, as_index),
            "option_bars": partial(self._bars, as_option),
            "chain": self._chain,
            "vendor_chain": self._chain,
            "contracts": self._contracts,
            "market_holidays": self._holidays,
        }
        return [
            *(route for name, ask in data.items() for route in self._data(OPERATIONS[name], ask)),
            *self._desk.routes(OPERATIONS["openapi"], _description),
        ]

    async def market_status(self) -> MarketStatus | None:
        """Return what the vendor said within the last minute, if anything; wait a second for it."""
        return await self._reference.market_status()

    # private, how all are answered

    def _data(self, operation: Operation, ask: "_Ask") -> list[BaseRoute]:
        async def handle(request: Request) -> Response:
            self._desk.admit(request)
            asked = read(
                operation.parameters,
                request.query_params,
                aliases=operation.aliases,
                drops_unknown=operation.drops_unknown,
            )
            try:
                found = await ask(asked)
            except DataProviderError as error:
                raise root_of(error) from error
            encode = partial(written, found, self._clock.now_ns())
            return await packed_response(request, encode, big=len(_rows_of(found)) > _MANY_ROWS)

        return self._desk.routes(operation, handle)

    # private, what is answered

    async def _all_quotes(self, asked: Symbols) -> QuotesAnswer:
        return await self._quotes.quotes(asked.tickers)

    async def _indices(self, asked: Symbols) -> IndicesAnswer:
        return await self._quotes.indices(asked.tickers)

    async def _bars(self, as_symbol: Callable[[str], str], asked: Bars) -> BarsAnswer:
        return await self._history.bars(asked, as_symbol(asked.symbol))

    async def _chain(self, asked: Chain | VendorChain) -> ChainAnswer:
        chain = await self._options.get_option_chain(asked.underlying, asked.query)
        now_ns = self._clock.now_ns()
        return ChainAnswer(
            as_of_ns=now_ns,
            chain=chain,
            expirations=tuple(summaries(chain, calendar.new_york_date(now_ns))),
            simulated=chain.simulated,
        )

    async def _contracts(self, asked: Contracts) -> ContractsAnswer:
        return await self._reference.contracts(asked)

    async def _holidays(self, asked: Holidays) -> HolidaysAnswer:
        return await self._reference.holidays(asked.year)


async def _description(request: Request) -> Response:
    return await packed_response(request, description, big=True)


_Answer = QuotesAnswer | IndicesAnswer | BarsAnswer | ChainAnswer | ContractsAnswer | HolidaysAnswer
_Ask = Callable[[Any], Awaitable[_Answer]]


def written(answer: _Answer, now_ns: int) -> bytes:
    """Write an answer as JSON, its rows in slices.

    While one call of the encoder works nothing else does, in whatever thread it is: all of
    SPX at once would hold up the ticks for a fifth of a second.
    """
    match answer:
        case ChainAnswer(chain=chain):
            bare = replace(answer, chain=replace(chain, contracts=()))
            plain = market_json.as_of(bare, now_ns)
            plain["chain"]["contracts"] = _sliced(chain.contracts, now_ns)
        case BarsAnswer(bars=bars):
            plain = market_json.as_of(replace(answer, bars=()), now_ns)
            plain["bars"] = _sliced(bars, now_ns)
        case _:
            plain = market_json.as_of(replace(answer, results=()), now_ns)
            plain["results"] = _sliced(answer.results, now_ns)
    return _encoder.encode(plain)


def _sliced(rows: Sequence[object], now_ns: int) -> msgspec.Raw:
    starts = range(0, len(rows), _SLICE)
    parts = [market_json.encode(rows[at : at + _SLICE], now_ns)[1:-1] for at in starts]
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _rows_of(answer: _Answer) -> Sequence[object]:
    match answer:
        case ChainAnswer(chain=chain):
            return chain.contracts
        case BarsAnswer(bars=bars):
            return bars
        case _:
            return answer.results


def summaries(chain: OptionChain, today: date) -> Iterator[ExpirationSummary]:
    """Yield a line on each expiration of a chain, soonest first."""
    groups: dict[date, list[OptionSnapshot]] = {}
    for row in chain.contracts:
        groups.setdefault(row.contract.expiration, []).append(row)
    price = chain.underlying_price
    for day in sorted(groups):
        rows = groups[day]
        strikes = {row.contract.strike for row in rows}
        calls = sum(row.contract.contract_type is ContractType.CALL for row in rows)
        yield ExpirationSummary(
            date=day,
            dte=(day - today).days,
            atm_strike=None if price is None else nearest_strike(strikes, price),
            calls=calls,
            puts=len(rows) - calls,
        )


def root_of(error: OnetapeError) -> OnetapeError:
    """Return what a provider's failure comes down to, if to one thing; else itself.

    A timeout under a provider's name is a timeout. When both providers failed that is
    the news, whatever each one's reason (R221). That there is no such contract is an answer.
    """
    if not isinstance(error, DataProviderError) or isinstance(error, ContractNotFound):
        return error
    if isinstance(error, AllProvidersFailed) and len(error.causes) > 1:
        return error
    roots = [root_of(cause) for cause in error.causes if isinstance(cause, OnetapeError)]
    if len(roots) != len(error.causes) or len({root.code for root in roots}) != 1:
        return error
    return roots[0]
