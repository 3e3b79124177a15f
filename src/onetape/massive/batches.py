"""One question about many symbols: in chunks, and one by one where a chunk fails.

    chunk ──an answer──▶ its rows, and the faults of its symbols
      └─ a failure that one bad symbol of many can cause ──▶ the first and the last alone
            ├─ both fail alike ──▶ so do all: the vendor is the matter, not a symbol
            └─ else each by itself, a few at a time

What fails then is an error beside the rows, never instead of them (W-20).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from onetape.errors import NotFound, UpstreamDown, UpstreamError, UpstreamGarbled, UpstreamTimeout
from onetape.rows import Rows, SymbolFault

T = TypeVar("T")

ANY_OF: Final = 250
"""How many tickers one snapshot request names at most: the vendor's bound."""

SINGLES: Final = 8
"""How many single requests stand in for a chunk that failed, at one time."""

# A cool-down or a refused key is nobody's fault.
_PERHAPS_OF_ONE_SYMBOL: Final = (UpstreamDown, UpstreamGarbled, UpstreamTimeout)

Ask = Callable[[tuple[str, ...]], Awaitable[Rows[T]]]
"""Asks for a chunk of symbols at once."""


async def in_batches(
    symbols: tuple[str, ...], ask: Ask[T], *, kind: type[T], strictly: bool = False
) -> Rows[T]:
    """Return the rows in the order of the symbols; each symbol has a row or an error.

    Args:
        symbols: What is asked for, each once.
        ask: Asks for some of them.
        kind: What a row is.
        strictly: Raise what went wrong when it left us without any row.

    Raises:
        OnetapeError: what `ask` raises other than an `UpstreamError`.
    """
    batch = _Batch(ask, kind)
    parts = await all_of(batch.chunk(chunk) for chunk in _chunks(symbols, ANY_OF))
    found = {symbol: row for part in parts for symbol, row in part.by_symbol.items()}
    faults = {fault.symbol: fault for part in parts for fault in part.errors.values()}
    if strictly and not found:
        _raise_worst(batch.failures, faults.values())
    missing = [symbol for symbol in symbols if symbol not in found]
    return Rows(
        [found[symbol] for symbol in symbols if symbol in found],
        kind=kind,
        errors=[faults.get(symbol) or _no_row(symbol) for symbol in missing],
        simulated=any(part.simulated for part in parts),
    )


async def all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once. The first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(work) for work in works]
    except ExceptionGroup as group:
        first = group.exceptions[0]
        raise first from first.__cause__  # which holds the status; `from None` would cut it off
    return [task.result() for task in started]


class _Batch(Generic[T]):
    """How one kind of row is asked for, and what went wrong on the way."""

    def __init__(self, ask: Ask[T], kind: type[T]) -> None:
        self.failures: list[UpstreamError] = []
        self._ask = ask
        self._kind = kind

    async def chunk(self, symbols: tuple[str, ...]) -> Rows[T]:
        outcome = await self._try(symbols)
        if isinstance(outcome, Rows):
            return outcome
        if len(symbols) > 1 and isinstance(outcome, _PERHAPS_OF_ONE_SYMBOL):
            return await self._one_by_one(symbols)
        return self._failed(symbols, outcome)

    async def _one_by_one(self, symbols: tuple[str, ...]) -> Rows[T]:
        """Find out which symbols a chunk failed for; two that fail alike speak for all."""
        first, last = await all_of(self._try((one,)) for one in (symbols[0], symbols[-1]))
        if isinstance(first, UpstreamError) and type(first) is type(last):
            return self._failed(symbols, first)
        turns = asyncio.Semaphore(SINGLES)

        async def in_turn(symbol: str) -> Rows[T] | UpstreamError:
            async with turns:
                return await self._try((symbol,))

        outcomes = [first, *await all_of(map(in_turn, symbols[1:-1])), last]
        parts = [
            self._failed((symbol,), outcome) if isinstance(outcome, UpstreamError) else outcome
            for symbol, outcome in zip(symbols, outcomes, strict=True)
        ]
        return Rows(
            [row for part in parts for row in part],
            kind=self._kind,
            errors=[fault for part in parts for fault in part.errors.values()],
            simulated=any(part.simulated for part in parts),
        )

    async def _try(self, symbols: tuple[str, ...]) -> Rows[T] | UpstreamError:
        try:
            return await self._ask(symbols)
        except UpstreamError as error:
            self.failures.append(error)
            return error

    def _failed(self, symbols: tuple[str, ...], error: UpstreamError) -> Rows[T]:
        faults = (
            SymbolFault(
                symbol=one,
                error=error.code,
                message=str(error),
                retry_after_s=error.retry_after_s,
            )
            for one in symbols
        )
        return Rows(kind=self._kind, errors=faults)


def _raise_worst(failures: list[UpstreamError], faults: Iterable[SymbolFault]) -> None:
    for fault in faults:
        if fault.error != NotFound.code:
            raise failures[0] if failures else fault.as_error()


def _no_row(symbol: str) -> SymbolFault:
    return SymbolFault(symbol=symbol, error=NotFound.code, message="the vendor has no such symbol")


def _chunks(symbols: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    rest = iter(symbols)
    while chunk := tuple(islice(rest, size)):
        yield chunk
