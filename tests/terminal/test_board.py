from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.client import Reason, SourceChanged
from onetape.client._notices import Key, Kind
from onetape.model import Quote
from onetape.provenance import Source
from onetape.rows import Rows, SymbolFault
from onetape.terminal.board import BOARD, FLASH_S, Board, BoardRow, line_columns

NOW_NS = 1_795_194_000_000_000_000
PRICE = next(column for column in BOARD if column.name == "price")
TROUBLE = next(column for column in BOARD if column.name == "trouble")


def quote(symbol: str, **facts: Any) -> Quote:
    return Quote(symbol=symbol, event_ns=NOW_NS, received_ns=NOW_NS, provider="massive", **facts)


def changed(symbol: str, source: Source | None, detail: str = "") -> SourceChanged:
    key = Key(Kind.QUOTE, symbol)
    return SourceChanged(
        key=key, source=source, reason=Reason.POLL_FAILED, at_ns=NOW_NS, detail=detail
    )


def known(*quotes: Quote, **errors: str) -> Rows[Quote]:
    faults = [SymbolFault(symbol=symbol, error=error) for symbol, error in errors.items()]
    return Rows(quotes, kind=Quote, errors=faults)


def row_of(board: Board, symbol: str) -> BoardRow:
    return next(row for row in board.rows() if row.symbol == symbol)


def test_a_streamed_value_has_the_change_since_the_close_that_was_told() -> None:
    board = Board(["I:SPX"])
    board.know(known(quote("I:SPX", last=99.0, previous_close=100.0)), 0)
    board.take(quote("I:SPX", last=101.0), 1)

    row = row_of(board, "I:SPX")
    assert (row.price, row.change, row.change_percent) == (101.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "one",
    [quote("A", last=1.0), quote("A", bid=1.0, ask=2.0), quote("A", last=1.0, previous_close=0.0)],
    ids=["no-close", "no-last", "close-of-zero"],
)
def test_without_a_close_or_a_last_price_there_is_no_change(one: Quote) -> None:
    board = Board(["A"])
    board.take(one, 0)

    assert (row_of(board, "A").change, row_of(board, "A").change_percent) == (None, None)


def test_the_vendors_own_change_stands() -> None:
    board = Board(["A"])
    board.take(quote("A", last=3.0, previous_close=1.0, change=1.5, change_percent=9.0), 0)

    assert (row_of(board, "A").change, row_of(board, "A").change_percent) == (1.5, 9.0)


def test_a_later_snapshot_brings_a_new_close_and_no_older_price() -> None:
    board = Board(["A"])
    board.take(quote("A", last=12.0), 0)
    board.know(known(quote("A", last=5.0, previous_close=10.0), quote("Z", last=1.0)), 1)

    assert (row_of(board, "A").price, row_of(board, "A").change) == (12.0, 2.0)


def test_a_price_that_moved_is_lit_for_a_while_and_keeps_its_colour() -> None:
    board = Board(["A"])

    def style(now: float) -> str:
        return board.paint(row_of(board, "A"), PRICE, now=now)

    board.take(quote("A", last=1.0), 0)
    assert style(0) == ""
    board.take(quote("A", last=2.0), 1)
    board.take(quote("A", last=2.0), 1.1)
    assert style(1.2) == "bold reverse green"
    assert style(1 + FLASH_S) == "green"
    board.take(quote("A", last=1.5), 9)
    assert style(9) == "bold reverse red"
    assert board.paint(row_of(board, "A"), BOARD[0], now=9) == ""


def test_a_symbol_that_is_not_there_says_why() -> None:
    board = Board(["A", "NOSUCH"])
    board.know(known(quote("A", last=1.0), NOSUCH="not_found", OTHER="not_found"), 0)

    assert board.missing() == ["NOSUCH"]
    row = row_of(board, "NOSUCH")
    assert (row.trouble, row.price, row.source) == ("not_found", None, None)
    assert board.paint(row, TROUBLE, now=0) == "red"
    assert board.paint(row_of(board, "A"), TROUBLE, now=0) == ""


def test_a_symbol_that_lost_its_source_keeps_its_price_and_says_so() -> None:
    board = Board(["A"])
    board.take(quote("A", last=1.0, source=Source.REST), 0)
    board.hear(changed("A", None, "upstream_down"))
    lost = row_of(board, "A")
    board.hear(changed("A", Source.STREAM))
    back = row_of(board, "A")

    assert (lost.price, lost.source, lost.trouble) == (1.0, None, "upstream_down")
    assert (back.source, back.trouble) == (Source.REST, None)


def test_a_reason_stands_in_for_a_detail_and_is_kept_until_there_is_a_quote() -> None:
    board = Board(["A"])
    board.hear(changed("A", None))
    board.hear(changed("A", Source.REST))
    board.hear(changed("B", None))

    assert row_of(board, "A").trouble == "poll_failed"
    board.take(quote("A", last=1.0), 0)
    assert row_of(board, "A").trouble is None


def test_a_source_that_is_only_another_is_no_change_of_the_row() -> None:
    board = Board(["A"])
    board.take(quote("A", last=1.0), 0)
    board.changed()
    board.hear(changed("A", Source.REST))

    assert board.changed() == []


def test_a_line_has_columns_of_the_board() -> None:
    assert {column.name for column in line_columns()} < {column.name for column in BOARD}


class Boards(RuleBasedStateMachine):
    """Against the plainest of models: the last quote of each, and a set of those touched."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board("ABC")
        self.last: dict[str, float | None] = dict.fromkeys("ABC")
        self.touched: set[str] = set()

    @rule(symbol=st.sampled_from("ABCZ"), price=st.integers(1, 5))
    def take(self, symbol: str, price: int) -> None:
        self.board.take(quote(symbol, last=float(price)), 0)
        if symbol in self.last:
            self.last[symbol] = price
            self.touched.add(symbol)

    @rule()
    def drain(self) -> None:
        rows = self.board.changed()
        assert {row.symbol for row in rows} == self.touched
        assert all(row.price == self.last[row.symbol] for row in rows)
        self.touched = set()

    @invariant()
    def every_symbol_has_its_place(self) -> None:
        assert [row.symbol for row in self.board.rows()] == ["A", "B", "C"]
        assert {row.symbol: row.price for row in self.board.rows()} == self.last
        assert self.board.missing() == [one for one, price in self.last.items() if price is None]


TestBoards = Boards.TestCase
