"""Massive first, Tradier when it fails or is poor, and always visibly: R218-R228.

    HybridOptionsProvider   chains, contracts, expirations; flow is Massive's alone
    HybridBrokerProvider    quotes, symbol by symbol, and bars
    HybridIndicesProvider   Massive's alone, unless it is given another (R225)

Each is a provider like the ones it is made of. `fallback` says when the other is asked,
`verdicts` what an answer is worth; what came from the other carries the reason
`fallback` and `quality.fallback_reason`. A subscription is the primary's own stream;
when that falls silent the other is polled, marked, until the primary has proved itself
(`relay`). Of two contracts or quotes one is taken whole: no market is mixed of two. Only
Greeks may be another's, and say so (`mixing`).

Without a second provider everything passes through, and `health` says `disabled`.

Indices have no second one by default: Tradier has index values without bid and ask, and
of another delay, so whoever wants it chooses it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, NamedTuple, Self, TypeVar

import msgspec

from onetape.calendar import options_trade, stocks_trade
from onetape.chain_query import ChainQuery
from onetape.clock import Clock, SystemClock
from onetape.core.choice import Route
from onetape.core.handover import Rhythm
from onetape.errors import DataProviderError, InvalidRequest, OnetapeError, RequestError
from onetape.hybrid.fallback import HYBRID, Fallback, FallbackStatistics, Settled
from onetape.hybrid.mixing import lacks_greeks, with_greeks_of
from onetape.hybrid.relay import Answered, Kind, Relay
from onetape.hybrid.seats import HybridPolicy, Question
from onetape.hybrid.verdicts import (
    Verdict,
    is_absent,
    marked,
    marked_bars,
    marked_chain,
    marked_flow,
    of_bars,
    of_chain,
    of_datum,
    of_flow,
    of_indicators,
    of_many,
    unmarked,
)
from onetape.model import (
    Bar,
    ContractType,
    Flow,
    IndexSnapshot,
    OptionChain,
    OptionSnapshot,
    ProviderHealth,
    Quote,
)
from onetape.own_tasks import OwnTasks
from onetape.providers.interfaces import (
    BrokerDataProvider,
    DataProvider,
    Handle,
    IndicesDataProvider,
    OptionsDataProvider,
)
from onetape.rows import Rows, SymbolFault
from onetape.symbols import normalize_symbol
from onetape.timeframes import BarLength, Moment

P = TypeVar("P", bound=DataProvider)
A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R", Quote, IndexSnapshot)

_EVERYTHING: Final = ChainQuery()


class HybridStatistics(NamedTuple):
    """A snapshot for metrics."""

    fallback: FallbackStatistics
    relays: int  # open subscriptions
    polling: int  # of these, how many the secondary feeds now
    reader_failures: int  # callbacks that raised


class _Hybrid(Generic[P]):
    """What the three have in common. An async context manager; the providers are the caller's.

    Args:
        primary: The one that should answer.
        secondary: The one that answers when the first does not; None for none.
        clock: The time.
        policy: When, and for how long.
        is_open: Whether what it provides trades at an instant; by default the calendar's word.
    """

    _is_open: Callable[[int], bool] = staticmethod(options_trade)
    _disabled: ClassVar[str | None] = "tradier"
    """Whom `health` calls disabled when there is no secondary."""

    def __init__(
        self,
        primary: P,
        secondary: P | None = None,
        *,
        clock: Clock | None = None,
        policy: HybridPolicy | None = None,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._policy = policy or HybridPolicy()
        self._primary = primary
        self._secondary = secondary
        self._fallback = Fallback(primary, secondary, clock=self._clock, policy=self._policy)
        self._tasks = OwnTasks()
        self._relays: set[Relay[Any]] = set()
        self._reader_failures = 0  # of those that are closed
        if is_open is not None:
            self._is_open = is_open

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._fallback.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for relay in tuple(self._relays):
            relay.close()
        try:
            await self._fallback.__aexit__(kind, error, traceback)
        finally:
            await self._tasks.__aexit__(kind, error, traceback)

    @property
    def name(self) -> str:
        """`hybrid`."""
        return HYBRID

    def health(self) -> tuple[ProviderHealth, ...]:
        """Return how each provider does, the first one first."""
        if self._secondary is not None:
            return self._fallback.health()
        own = self._primary.health()  # passed through, as everything is
        if self._disabled is None:
            return own
        # There is nothing wrong with what is switched off.
        off = ProviderHealth(
            provider=self._disabled, enabled=False, healthy=True, status="disabled"
        )
        return (*own, off)

    def statistics(self) -> HybridStatistics:
        """Count everything."""
        failures = sum(relay.reader_failures for relay in self._relays)
        return HybridStatistics(
            fallback=self._fallback.statistics(),
            relays=len(self._relays),
            polling=sum(relay.is_polling for relay in self._relays),
            reader_failures=self._reader_failures + failures,
        )

    # for the three

    def _about(
        self,
        what: str,
        part: str,
        ask: Callable[[P], Awaitable[A]],
        judge: Callable[[A, int], Verdict],
        *,
        detail: str = "",
        may_hedge: bool = True,
    ) -> Question[P, A]:
        """Make a question about one thing."""

        async def ask_all(provider: P, _parts: tuple[str, ...]) -> dict[str, A | OnetapeError]:
            return {part: await ask(provider)}

        return Question(
            what=what,
            parts=(part,),
            detail=detail,
            ask=ask_all,
            judge=judge,
            may_hedge=may_hedge,
        )

    async def _one(
        self,
        question: Question[P, A],
        mark: Callable[[A, str], A],
    ) -> Answered[A]:
        """Ask about one thing."""
        (settled,) = (await self._fallback.ask(question)).values()
        return Answered(_marked(settled, mark), settled.by)

    async def _many(self, question: "Question[P, R]", kind: type[R]) -> Rows[R]:
        """Ask about several symbols; each is decided by itself."""
        settled = await self._fallback.ask(question)
        found = {
            symbol: _marked(one, marked)
            for symbol, one in settled.items()
            if one.outcome.error is None
        }
        errors = {
            symbol: one.outcome.error
            for symbol, one in settled.items()
            if one.outcome.error is not None
        }
        if not found:
            _raise_what_befell_all(tuple(errors.values()))
        return Rows(
            found.values(),
            kind=kind,
            errors=[_fault(symbol, error) for symbol, error in errors.items()],
            simulated=any(_is_simulated(row) for row in found.values()),
        )

    def _relay(
        self,
        kind: Kind[T],
        *,
        ask: Callable[[], Awaitable[Answered[T]]],
        subscribe: Callable[[Callable[[T], None]], Handle],
        take: Callable[[T], None],
        poll_s: float,
    ) -> Handle:
        """Follow the primary live, and ask for what it does not deliver."""
        if self._secondary is None:
            return subscribe(take)
        policy = self._policy
        rhythm = Rhythm(poll_s, policy.silence_s, policy.quiet_s, policy.closed_s)
        relay = Relay(kind, ask=ask, take=take, rhythm=rhythm, clock=self._clock)
        relay.start(self._tasks, subscribe, on_closed=self._closed)
        self._relays.add(relay)
        return relay

    def _closed(self, relay: Relay[Any]) -> None:
        self._relays.discard(relay)
        self._reader_failures += relay.reader_failures


class HybridOptionsProvider(_Hybrid[OptionsDataProvider]):
    """Chains with Greeks, single contracts, expirations and flow."""

    async def get_option_chain(
        self, underlying: str, query: ChainQuery = _EVERYTHING
    ) -> OptionChain:
        """Return the contracts that the query wants, judged; another provider's are marked.

        Raises:
            AllProvidersFailed: nobody answered.
        """
        return (await self._chain(normalize_symbol(underlying), query)).value

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        """Return one contract with its market, judged; another provider's is marked.

        Raises:
            ContractNotFound: there is none; the provider that was asked first knows.
            AllProvidersFailed: nobody answered.
        """
        symbol = normalize_symbol(underlying)
        question = self._about(
            "contract",
            f"{symbol}:{expiration}:{contract_type.value}:{strike:g}",
            lambda provider: provider.get_option_contract(
                symbol, strike, expiration, contract_type
            ),
            of_datum,
        )
        return (await self._one(question, marked)).value

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        """Return the listed expirations, soonest first.

        Dates have no place for a mark: that they are another's only the log says.

        Raises:
            AllProvidersFailed: nobody answered.
        """
        symbol = normalize_symbol(underlying)
        question = self._about(
            "expirations", symbol, lambda provider: provider.get_expirations(symbol), of_many
        )
        return (await self._one(question, unmarked)).value

    async def get_flow(self, underlying: str) -> Flow:
        """Return what the tape says. Tradier has none: then it is not available, and why.

        Raises:
            AllProvidersFailed: nobody answered.
        """
        symbol = normalize_symbol(underlying)
        question = self._about("flow", symbol, lambda provider: provider.get_flow(symbol), of_flow)
        return (await self._one(question, marked_flow)).value

    def subscribe_chain(
        self,
        underlying: str,
        take: Callable[[OptionChain], None],
        query: ChainQuery = _EVERYTHING,
    ) -> Handle:
        """Tell of the chain whenever it changes; by the primary's stream or by polls of either.

        A chain is told with the time of its newest quote, which never goes back.
        """
        symbol = normalize_symbol(underlying)
        return self._relay(
            Kind(_chain_ns, of_chain, self._is_open),
            ask=lambda: self._chain(symbol, query, live=True),
            subscribe=lambda heard: self._primary.subscribe_chain(symbol, heard, query),
            take=take,
            poll_s=self._policy.chain_poll_s,
        )

    # private

    async def _chain(
        self, symbol: str, query: ChainQuery, *, live: bool = False
    ) -> Answered[OptionChain]:
        terms = "" if query == _EVERYTHING else msgspec.json.encode(query).decode()
        question = self._about(
            "chain",
            f"{symbol}:{terms}",
            lambda provider: provider.get_option_chain(symbol, query),
            of_chain,
            may_hedge=not live,
        )
        question = msgspec.structs.replace(question, is_long=query.is_wide)
        answered = await self._one(question, marked_chain)
        if answered.by is Route.SECONDARY or not self._policy.fill_greeks:
            return answered
        if not lacks_greeks(answered.value):
            return answered
        for other in (await self._fallback.second_opinion(question)).values():
            return Answered(with_greeks_of(answered.value, other), answered.by)
        return answered


class HybridIndicesProvider(_Hybrid[IndicesDataProvider]):
    """Index values, bars and indicators over several lengths."""

    _disabled = None

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        """Return the indices in the order asked for, judged; what is not there is in `errors`.

        Raises:
            MassiveApiError: there is no secondary, and the primary failed.
            AllProvidersFailed: nobody answered.
        """
        return await self._many(self._asking(_normalized(symbols), timeframes), IndexSnapshot)

    async def get_indicators(
        self, symbol: str, length: BarLength, *, lookback: int = 250
    ) -> Mapping[str, float | None]:
        """Return the usual indicators over the last `lookback` bars.

        They have no place for a mark: that they are another's only the log says.

        Raises:
            MassiveApiError: there is no secondary, and the primary failed.
            AllProvidersFailed: nobody answered.
        """
        index = normalize_symbol(symbol)
        question = self._about(
            "indicators",
            f"{index}:{length}:{lookback}",
            lambda provider: provider.get_indicators(index, length, lookback=lookback),
            of_indicators,
        )
        return (await self._one(question, unmarked)).value

    def subscribe_index(self, symbol: str, take: Callable[[IndexSnapshot], None]) -> Handle:
        """Tell of the index whenever its value changes."""
        question = self._asking(_normalized([symbol]), may_hedge=False)
        (index,) = question.parts
        return self._relay(
            Kind(_event_ns, of_datum, self._is_open),
            ask=lambda: self._one(question, marked),
            subscribe=lambda heard: self._primary.subscribe_index(index, heard),
            take=take,
            poll_s=self._policy.index_poll_s,
        )

    # private

    def _asking(
        self,
        symbols: tuple[str, ...],
        timeframes: Sequence[BarLength] = (),
        *,
        may_hedge: bool = True,
    ) -> Question[IndicesDataProvider, IndexSnapshot]:
        async def ask(
            provider: IndicesDataProvider, some: tuple[str, ...]
        ) -> dict[str, IndexSnapshot | OnetapeError]:
            return _by_symbol(await provider.get_index_snapshots(some, timeframes=timeframes))

        lengths = ",".join(map(str, timeframes))
        what = f"indices:{lengths}" if lengths else "indices"
        return Question(what=what, parts=symbols, ask=ask, judge=of_datum, may_hedge=may_hedge)


class HybridBrokerProvider(_Hybrid[BrokerDataProvider]):
    """Quotes and bars of stocks."""

    _is_open = staticmethod(stocks_trade)

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        """Return the quotes in the order asked for, judged; what has none is in `errors`.

        Of each symbol one provider's quote is taken whole, and another's is marked.

        Raises:
            AllProvidersFailed: nobody answered.
        """
        return await self._many(self._asking(_normalized(symbols)), Quote)

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        """Return the bars of a range, oldest first, all of one provider; another's are marked.

        Raises:
            AllProvidersFailed: nobody answered.
        """
        ticker = normalize_symbol(symbol)
        question = self._about(
            "bars",
            f"{ticker}:{length}",
            lambda provider: provider.get_bars(ticker, length, start, end),
            lambda bars, now_ns: of_bars(bars, now_ns, until=end, is_open=self._is_open),
            detail=f"{start}:{end}",
        )
        return (await self._one(question, marked_bars)).value

    def subscribe_equity(self, symbol: str, take: Callable[[Quote], None]) -> Handle:
        """Tell of the quote whenever it changes; by the primary's stream or by polls of either.

        Its exchange time never goes back.
        """
        question = self._asking(_normalized([symbol]), may_hedge=False)
        (ticker,) = question.parts
        return self._relay(
            Kind(_event_ns, of_datum, self._is_open),
            ask=lambda: self._one(question, marked),
            subscribe=lambda heard: self._primary.subscribe_equity(ticker, heard),
            take=take,
            poll_s=self._policy.equity_poll_s,
        )

    # private

    def _asking(
        self, symbols: tuple[str, ...], *, may_hedge: bool = True
    ) -> Question[BrokerDataProvider, Quote]:
        async def ask(
            provider: BrokerDataProvider, some: tuple[str, ...]
        ) -> dict[str, Quote | OnetapeError]:
            return _by_symbol(await provider.get_quotes(some))

        return Question(what="quotes", parts=symbols, ask=ask, judge=of_datum, may_hedge=may_hedge)


# private


def _normalized(symbols: Iterable[str]) -> tuple[str, ...]:
    if isinstance(symbols, str):
        raise InvalidRequest("a list of symbols is wanted, not one string")
    return tuple(dict.fromkeys(map(normalize_symbol, symbols)))


def _marked(settled: Settled[A], mark: Callable[[A, str], A]) -> A:
    answer = settled.value()
    return answer if settled.why is None else mark(answer, settled.why)


def _by_symbol(rows: Rows[R]) -> dict[str, R | OnetapeError]:
    errors: dict[str, R | OnetapeError] = {
        symbol: fault.as_error() for symbol, fault in rows.errors.items()
    }
    return errors | {row.symbol: row for row in rows}


def _raise_what_befell_all(errors: tuple[OnetapeError, ...]) -> None:
    """Raise the error of a whole question; of single symbols it is told in `errors`."""
    for error in errors[:1]:
        is_the_callers = isinstance(error, RequestError) and not is_absent(error)
        is_of_all = all(type(other) is type(error) for other in errors)
        if is_of_all and (isinstance(error, DataProviderError) or is_the_callers):
            raise error


def _fault(symbol: str, error: OnetapeError) -> SymbolFault:
    message = str(error).removeprefix(f"{symbol}: ")  # it may come of a fault's own text
    return SymbolFault(
        symbol=symbol, error=error.code, message=message, retry_after_s=error.retry_after_s
    )


def _is_simulated(row: Quote | IndexSnapshot) -> bool:
    return row.simulated if isinstance(row, Quote) else row.quote.simulated


def _chain_ns(chain: OptionChain) -> int | None:
    times = [one.quote.event_ns for one in chain.contracts if one.quote.event_ns is not None]
    return max(times, default=chain.underlying_event_ns)


def _event_ns(datum: Quote | IndexSnapshot) -> int | None:
    return datum.event_ns if isinstance(datum, Quote) else datum.quote.event_ns
