"""What can be asked of Tradier over REST, as typed questions: request, answer, one or several.

    quotes       any symbols, in chunks, posted when the list is long
    contracts    single options with their Greeks, and what is needed to reckon those anew
    page         one expiration of a chain, which is all that Tradier answers at once
    expirations  the days, of all roots
    listed       how many contracts there are: what an empty answer is checked by (W-60)

Bars are in `series`. Nothing is kept here; who carries the questions is injected. What
Tradier refuses of what we wrote ourselves is no mistake of the caller's, and `UpstreamGarbled`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Final, NamedTuple, Protocol

import msgspec

from onetape.clock import Clock
from onetape.errors import (
    InvalidSymbol,
    NotFound,
    OnetapeError,
    RequestError,
    UpstreamError,
    UpstreamGarbled,
)
from onetape.model import ContractType, OptionSnapshot, Quote
from onetape.rows import SymbolFault
from onetape.symbols import parse_option, to_tradier
from onetape.tradier.budget import BudgetStatistics, Priority
from onetape.tradier.parse import (
    QuotesPage,
    parse_chain,
    parse_expirations,
    parse_lookup,
    parse_quotes,
)
from onetape.tradier.shapes import Origin
from onetape.tradier.valuation import Reasons, valued
from onetape.tradier.wire_rest import (
    Ask,
    Refusal,
    ask_chain,
    ask_expirations,
    ask_lookup,
    ask_quotes,
)

A_CHUNK: Final = 250
"""How many symbols one request names: as many as are known to work."""


class Answer(Protocol):
    """What we need of a `TradierAnswer`."""

    @property
    def body(self) -> bytes:
        """JSON with the member that was asked for."""
        ...

    @property
    def received_ns(self) -> int:
        """When it came."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether Tradier's double gave it."""
        ...


class Statistics(Protocol):
    """What we need of `TradierStatistics`."""

    @property
    def budget(self) -> BudgetStatistics:
        """The requests of this minute."""
        ...


class Asker(Protocol):
    """Who carries a request to Tradier: `TradierREST`."""

    async def ask(
        self, ask: Ask, *, priority: Priority = ..., deadline_s: float | None = None
    ) -> Answer | Refusal:
        """Return a good answer, or what Tradier refused."""
        ...

    def statistics(self) -> Statistics:
        """Count."""
        ...


class Quotes(NamedTuple):
    """Quotes by symbol. Each symbol that was asked for has a row or a fault."""

    rows: Mapping[str, Quote]
    faults: Mapping[str, SymbolFault]
    reasons: Reasons
    simulated: bool


class Contracts(NamedTuple):
    """Options with the Greeks to show, by symbol, and what to say of them."""

    rows: Mapping[str, OptionSnapshot]
    faults: Mapping[str, SymbolFault]
    reasons: Reasons


class Page(NamedTuple):
    """One expiration of a chain, with the Greeks to show."""

    contracts: tuple[OptionSnapshot, ...]
    reasons: Reasons
    faults: tuple[SymbolFault, ...]
    received_ns: int
    simulated: bool


class TradierQuestions:
    """Asks, and reads what comes back. Cancel-safe. Symbols are in the vendor's form.

    Each raises `UpstreamError` for what is no answer.

    Args:
        asker: Who carries the questions.
        clock: The time.
        rate: What money costs, a fraction a year: see `valuation`.
        delayed: Whether all is a quarter of an hour late, as in the sandbox.
        priority: Who goes first when requests are scarce.
        deadline_s: How long one request may take, its waits and tries included.
    """

    def __init__(
        self,
        asker: Asker,
        clock: Clock,
        *,
        rate: float,
        delayed: bool = False,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float | None = None,
    ) -> None:
        self.clock = clock
        self.delayed = delayed
        self._asker = asker
        self._rate = rate
        self._priority = priority
        self._deadline_s = deadline_s

    def in_background(self) -> "TradierQuestions":
        """Return the same questions, which wait behind those that somebody waits for."""
        return TradierQuestions(
            self._asker,
            self.clock,
            rate=self._rate,
            delayed=self.delayed,
            priority=Priority.BACKGROUND,
            deadline_s=self._deadline_s,
        )

    def room(self) -> int:
        """Return how many requests this minute still has."""
        budget = self._asker.statistics().budget
        return max(0, budget.limit - budget.used - budget.admitted)

    # asking

    async def outcome(self, ask: Ask) -> Answer | Refusal:
        """Return a good answer, or what Tradier refused."""
        return await self._asker.ask(ask, priority=self._priority, deadline_s=self._deadline_s)

    async def answer(self, ask: Ask) -> Answer:
        """Return a good answer; raise why there is none."""
        outcome = await self.outcome(ask)
        if isinstance(outcome, Refusal):
            raise error_of(outcome)
        return outcome

    def origin(self, answer: Answer) -> Origin:
        """Return what all rows of an answer share."""
        return Origin(answer.received_ns, delayed=self.delayed, simulated=answer.simulated)

    # quotes and contracts

    async def quotes(self, symbols: Sequence[str]) -> Quotes:
        """Ask `/markets/quotes`. A chunk that fails is its symbols' fault, unless all do."""
        found = Quotes({}, {}, {}, simulated=False)
        failures: list[UpstreamError] = []
        chunks = list(_chunks(symbols))
        for chunk in chunks:
            try:
                part = await self._quotes(chunk)
            except UpstreamError as error:
                failures.append(error)
                part = _failed(chunk, error)
            found = Quotes(
                {**found.rows, **part.rows},
                {**found.faults, **part.faults},
                {**found.reasons, **part.reasons},
                found.simulated or part.simulated,
            )
        if failures and len(failures) == len(chunks):
            raise failures[0]
        return found

    async def _quotes(self, symbols: Sequence[str]) -> Quotes:
        answer = await self.answer(ask_quotes(symbols))
        page = parse_quotes(answer.body, self.origin(answer))
        wanted = set(symbols)
        return Quotes(
            {quote.symbol: quote for quote in page.quotes if quote.symbol in wanted},
            _faults(symbols, page),
            page.reasons,
            answer.simulated,
        )

    async def contracts(self, wanted: Sequence[str], underlying: str) -> Contracts:
        """Ask `/markets/quotes` for options on one underlying; each has a row or a fault.

        With each comes the one on the other side of its strike, from which the forward is
        read, and the underlying itself.
        """
        symbols = (*wanted, *map(_other_side, wanted), underlying)
        answer = await self.answer(ask_quotes(symbols, greeks=True))
        page = parse_quotes(answer.body, self.origin(answer))
        spots = (quote for quote in page.quotes if quote.symbol == underlying)
        found = valued(
            [_of(one, underlying) for one in page.contracts],
            page.reasons,
            underlying=next(spots, None),
            rate=self._rate,
            now_ns=answer.received_ns,
        )
        rows = {one.symbol: one for one in found.contracts if one.symbol in wanted}
        return Contracts(rows, _faults(wanted, page), found.reasons)

    # chains

    async def page(
        self, underlying: str, expiration: date, spot: Callable[[], Awaitable[Quote | None]]
    ) -> Page:
        """Ask `/markets/options/chains`: one expiration, all roots.

        Args:
            underlying: What the options are on.
            expiration: When they end.
            spot: Asks for the underlying's quote at the same time; it does not raise.
        """
        async with asyncio.TaskGroup() as tasks:
            quote = tasks.create_task(_awaited(spot()))
            answer = await _settled(self.answer(ask_chain(underlying, expiration)))
        if isinstance(answer, OnetapeError):
            raise answer
        page = parse_chain(answer.body, self.origin(answer))
        found = valued(
            [_of(one, underlying) for one in page.contracts],
            page.reasons,
            underlying=quote.result(),
            rate=self._rate,
            now_ns=answer.received_ns,
        )
        return Page(
            found.contracts,
            found.reasons,
            tuple(page.faults),
            answer.received_ns,
            answer.simulated,
        )

    async def expirations(self, underlying: str) -> tuple[date, ...]:
        """Ask `/markets/options/expirations`: the days of all roots, soonest first.

        None at all is checked by what is listed: an outage may look the same.
        """
        answer = await self.answer(ask_expirations(underlying))
        found = parse_expirations(answer.body)
        if not found and await self.listed(underlying):
            raise UpstreamGarbled("there are no expirations, although contracts are listed")
        return tuple(one.date for one in found)

    async def listed(self, underlying: str) -> int:
        """Ask `/markets/options/lookup` how many contracts there are."""
        answer = await self.answer(ask_lookup(underlying))
        return sum(map(len, parse_lookup(answer.body).contracts.values()))


def error_of(refusal: Refusal) -> OnetapeError:
    """Return what a refusal is to a caller, who is not at fault for what we wrote."""
    if not isinstance(refusal.error, RequestError):
        return refusal.error
    error = UpstreamGarbled(str(refusal.error))
    error.__cause__ = refusal.error
    return error


async def _settled(answer: Awaitable[Answer]) -> Answer | OnetapeError:
    """Return the error: a TaskGroup would wrap it."""
    try:
        return await answer
    except OnetapeError as error:
        return error


async def _awaited(quote: Awaitable[Quote | None]) -> Quote | None:
    return await quote


def _chunks(symbols: Sequence[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(symbols)
    while chunk := tuple(islice(rest, A_CHUNK)):
        yield chunk


def _failed(symbols: Sequence[str], error: UpstreamError) -> Quotes:
    faults = {
        symbol: SymbolFault(
            symbol=symbol,
            error=error.code,
            message=str(error),
            retry_after_s=error.retry_after_s,
        )
        for symbol in symbols
    }
    return Quotes({}, faults, {}, simulated=False)


def _faults(symbols: Sequence[str], page: QuotesPage) -> dict[str, SymbolFault]:
    """Return why symbols have no row.

    Tradier does not say what kind of thing a name is that it does not know, so faults are
    found by the name.

    Raises:
        UpstreamGarbled: nothing is said of any of them.
    """
    said = {_wire_name(fault.symbol): fault for fault in page.faults}
    rows = {quote.symbol for quote in page.quotes}
    named = said.keys() | {_wire_name(symbol) for symbol in rows}
    faults: dict[str, SymbolFault] = {}
    for symbol in symbols:
        name = to_tradier(symbol)
        if symbol in rows:
            continue
        if name in said:
            faults[symbol] = msgspec.structs.replace(said[name], symbol=symbol)
        elif name in named:
            faults[symbol] = _fault(symbol, NotFound, "Tradier has another thing of that name")
        else:
            faults[symbol] = _fault(symbol, UpstreamGarbled, "Tradier's answer leaves it out")
    if not named & set(map(to_tradier, symbols)):
        raise UpstreamGarbled("Tradier's answer has nothing that was asked for")
    return faults


def _fault(symbol: str, kind: type[OnetapeError], message: str) -> SymbolFault:
    return SymbolFault(symbol=symbol, error=kind.code, message=message)


def _wire_name(symbol: str) -> str:
    try:
        return to_tradier(symbol)
    except InvalidSymbol:  # as it came from Tradier, and cut short
        return symbol


_OTHER: Final = {
    ContractType.CALL: ContractType.PUT,
    ContractType.PUT: ContractType.CALL,
}


def _other_side(symbol: str) -> str:
    option = parse_option(symbol)
    return str(msgspec.structs.replace(option, contract_type=_OTHER[option.contract_type]))


def _of(one: OptionSnapshot, underlying: str) -> OptionSnapshot:
    """Return a contract on what was asked for: an index that we do not know has no prefix."""
    terms = one.contract
    if terms.underlying == underlying or to_tradier(terms.underlying) != to_tradier(underlying):
        return one
    contract = msgspec.structs.replace(terms, underlying=underlying)
    return msgspec.structs.replace(one, contract=contract)
