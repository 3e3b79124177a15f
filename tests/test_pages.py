from collections.abc import AsyncGenerator

import pytest

from onetape.errors import InvalidRequest
from onetape.massive.parse_pages import Page
from onetape.pages import Pages
from onetape.rows import Rows, SymbolFault

FAULT = SymbolFault(symbol="X", error="upstream_garbled")


class Book:
    """Pages of numbers, and how many were turned."""

    def __init__(self, *pages: list[int]) -> None:
        self.pages = pages
        self.turned = 0
        self.closed = 0

    async def read(self) -> AsyncGenerator[tuple[Page[int], bool]]:
        try:
            for page in self.pages:
                self.turned += 1
                yield Page(tuple(page), (FAULT,) if page == [3] else ()), page == [3]
        finally:
            self.closed += 1


def pages(book: Book, max_rows: int | None = None) -> Pages[int]:
    return Pages(book.read, kind=int, max_rows=max_rows)


async def test_awaiting_gives_every_row_and_iterating_gives_them_one_by_one() -> None:
    book = Book([1, 2], [3], [])

    rows = await pages(book)

    assert rows == (1, 2, 3)
    assert (rows.kind, rows.simulated, list(rows.errors)) == (int, True, ["X"])
    assert [row async for row in pages(book)] == [1, 2, 3]


async def test_no_page_is_asked_for_beyond_max_rows() -> None:
    book = Book([1, 2], [3, 4], [5])

    assert await pages(book, 3) == (1, 2, 3)
    assert await pages(book, 2) == (1, 2)
    assert [row async for row in pages(book, 3)] == [1, 2, 3]
    assert (book.turned, book.closed) == (5, 3)


async def test_pages_may_be_changed_as_they_are_read() -> None:
    book = Book([1, 2], [3], [4])
    changed = pages(book, 3).mapped(lambda page: page._replace(rows=tuple(-n for n in page.rows)))

    rows = await changed

    assert rows == (-1, -2, -3)
    assert (rows.simulated, list(rows.errors), book.turned) == (True, ["X"], 2)
    assert [row async for row in changed] == [-1, -2, -3]
    assert book.closed == 2


async def test_leaving_the_loop_closes_the_pages() -> None:
    book = Book([1, 2], [3])
    rows = aiter(pages(book))

    assert await anext(rows) == 1
    assert isinstance(rows, AsyncGenerator)
    await rows.aclose()

    assert book.closed == 1


async def test_nothing_is_asked_before_it_is_wanted() -> None:
    book = Book([1])
    waiting = pages(book, 1)
    assert book.turned == 0

    assert await waiting == (1,)
    assert await waiting == (1,)
    assert book.turned == 2


async def test_rows_kept_elsewhere_are_not_asked_for_again() -> None:
    book = Book([1])

    async def kept() -> Rows[int]:
        return Rows([7], kind=int)

    assert await Pages(book.read, kind=int, max_rows=None, collected=kept) == (7,)
    assert book.turned == 0


def test_a_number_of_rows_is_positive() -> None:
    with pytest.raises(InvalidRequest, match="max_rows"):
        pages(Book(), 0)
