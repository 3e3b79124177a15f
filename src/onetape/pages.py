"""A question whose answer has many pages: await it, or walk through it.

rows = await massive.get_option_trades("O:SPY…", max_rows=1_000)        all at once
async for trade in massive.get_option_trades("O:SPY…", max_rows=None):  page by page
"""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from onetape.errors import InvalidRequest
from onetape.massive.parse_pages import Page
from onetape.rows import Rows, SymbolFault

T = TypeVar("T")


class Pages(Generic[T]):
    """An answer not asked for yet: nothing is sent before it is awaited or iterated.

    Awaiting it gives `Rows`; iterating gives row after row and holds one page at a
    time. Both end after `max_rows`, and may be done again, which asks again. Rows that
    cannot be read are left out; awaited rows tell them in `errors`.
    """

    def __init__(
        self,
        pages: Callable[[], AsyncGenerator[tuple[Page[T], bool]]],
        *,
        kind: type[T],
        max_rows: int | None,
        collected: Callable[[], Awaitable[Rows[T]]] | None = None,
    ) -> None:
        """Make it of what reads the pages, each with whether it is simulated.

        Args:
            pages: Reads the pages, one at a time.
            kind: What a row is.
            max_rows: Where to stop; None for the end.
            collected: Another way to all rows at once, through a cache.

        Raises:
            InvalidRequest: `max_rows` is not positive.
        """
        if max_rows is not None and max_rows <= 0:
            raise InvalidRequest("max_rows is a positive number, or None for all")
        self._pages = pages
        self._kind = kind
        self._max_rows = max_rows
        self._collected = collected or self.collect

    def through(self, collected: Callable[[], Awaitable[Rows[T]]]) -> "Pages[T]":
        """Return the same pages, whose rows come by another way when awaited: a cache."""
        return Pages(self._pages, kind=self._kind, max_rows=self._max_rows, collected=collected)

    def mapped(self, change: Callable[[Page[T]], Page[T]]) -> "Pages[T]":
        """Return the same pages, each changed by a function as it is read."""

        async def pages() -> AsyncGenerator[tuple[Page[T], bool]]:
            async with aclosing(self._pages()) as found:
                async for page, simulated in found:
                    yield change(page), simulated

        return Pages(pages, kind=self._kind, max_rows=self._max_rows)

    def __await__(self) -> Generator[Any, None, Rows[T]]:
        return self._collected().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        async with aclosing(self._cut()) as pages:
            async for page, _ in pages:
                for row in page.rows:
                    yield row

    async def collect(self) -> Rows[T]:
        """Read all pages and return their rows."""
        rows: list[T] = []
        faults: list[SymbolFault] = []
        simulated = False
        async with aclosing(self._cut()) as pages:
            async for page, page_simulated in pages:
                rows += page.rows
                faults += page.faults
                simulated |= page_simulated
        return Rows(rows, kind=self._kind, errors=faults, simulated=simulated)

    async def _cut(self) -> AsyncGenerator[tuple[Page[T], bool]]:
        left = sys.maxsize if self._max_rows is None else self._max_rows
        async with aclosing(self._pages()) as pages:
            async for page, simulated in pages:
                yield page._replace(rows=page.rows[:left]), simulated
                left -= len(page.rows)
                if left <= 0:
                    return
