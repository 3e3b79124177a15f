"""The live stream of options: what happens to many contracts within a step.

A basket is the part of a set of symbols that one underlying carries on one day, as
columns. Baskets are remembered by set, so a step costs what happens in it, not what is
subscribed.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from onetape.simulator.seeded import slots
from onetape.simulator.seeded.aggregates import average, totals, whole
from onetape.simulator.seeded.cash_desk import bar_of, window_ends
from onetape.simulator.seeded.chains import Board, Lines
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Integers, Keys
from onetape.simulator.seeded.option_book import OptionBook
from onetape.simulator.seeded.option_desk import OptionDesk, quote_ticks, quoted
from onetape.simulator.seeded.option_tape import OptionTape
from onetape.simulator.seeded.records import BarTick, Contract, QuoteTick, TradeTick
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay, Sessions


class Basket(NamedTuple):
    """Contracts of one underlying that a stream carries on one day."""

    board: Board
    book: OptionBook
    tickers: list[str]
    members: frozenset[str]
    lines: Lines
    keys: Keys
    widths: Integers


class OptionStream:
    """Steps through the events of options. Keeps nothing but its memory of baskets."""

    def __init__(self, desk: OptionDesk, *, sessions: Sessions, memory: Memory) -> None:
        self._desk = desk
        self._sessions = sessions
        self._memory = memory

    def trades(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[TradeTick]:
        """Trades of many contracts, merged by time."""
        found: list[TradeTick] = []
        for day in self._sessions.between(start_ns, end_ns):
            for tape, members in self._tapes(symbols, day):
                positions = tape.span(start_ns, end_ns)
                if not len(positions):
                    continue
                ticks = tape.ticks(positions)
                found += ticks if members is None else (t for t in ticks if t.symbol in members)
        found.sort(key=lambda tick: tick.event_ns)
        return found

    def quotes(self, symbols: Collection[str], start_ns: int, end_ns: int) -> list[QuoteTick]:
        """Quotes of many contracts, merged by time."""
        found: list[QuoteTick] = []
        for day in self._sessions.between(start_ns, end_ns):
            for basket in self._baskets(symbols, day):
                found += _quotes(basket, day, max(start_ns, day.open_ns), min(end_ns, day.close_ns))
        found.sort(key=lambda tick: tick.event_ns)
        return found

    def closed_bars(
        self, symbols: Collection[str] | None, span: tuple[int, int], seconds: int
    ) -> list[BarTick]:
        """Bars of windows that ended within the span."""
        found: list[BarTick] = []
        for end_ns in window_ends(seconds, *span):
            day = self._sessions.at(end_ns - 1)
            if day is None:
                continue
            for tape, members in self._tapes(symbols, day):
                found += _closed(tape, members, end_ns - seconds * SECOND_NS, end_ns)
        return found

    def _tapes(
        self, symbols: Collection[str] | None, day: MarketDay
    ) -> Iterator[tuple[OptionTape, frozenset[str] | None]]:
        if symbols is not None:
            for basket in self._baskets(symbols, day):
                yield self._desk.tape(basket.board, day), basket.members
            return
        for ticker in self._desk.boards.tickers:
            board = self._desk.boards.of(ticker)
            assert board is not None, "tickers are those that have boards"
            yield self._desk.tape(board, day), None

    def _baskets(self, symbols: Collection[str], day: MarketDay) -> list[Basket]:
        chosen = symbols if isinstance(symbols, frozenset) else frozenset(symbols)
        return self._memory.get(
            ("baskets", day.number, chosen),
            lambda: list(self._fill(chosen, day)),
            lambda _: 200 * len(chosen),
        )

    def _fill(self, symbols: Collection[str], day: MarketDay) -> Iterator[Basket]:
        by_underlying: dict[str, list[Contract]] = {}
        for symbol in sorted(symbols):
            contract = self._desk.contract(symbol)
            if contract is not None and quoted(contract, day):
                by_underlying.setdefault(contract.underlying, []).append(contract)
        for ticker, contracts in sorted(by_underlying.items()):
            board = self._desk.boards.of(ticker)
            assert board is not None, "a contract has a board"
            book, lines = self._desk.book(board, day), board.lines(contracts)
            tickers = [contract.ticker for contract in contracts]
            yield Basket(
                board,
                book,
                tickers,
                frozenset(tickers),
                lines,
                book.keys(lines),
                book.widths(lines),
            )


def _quotes(basket: Basket, day: MarketDay, low_ns: int, high_ns: int) -> list[QuoteTick]:
    if low_ns >= high_ns:
        return []
    first, stop = slots.spanned(day.open_ns, basket.widths, low_ns, high_ns)
    places, numbers = _unrolled(first, stop)
    widths = basket.widths[places]
    hashes = slots.scramble(basket.keys[places], numbers)
    t_ns = slots.times(day.open_ns, widths, numbers, hashes)
    happen = (t_ns >= low_ns) & (t_ns < high_ns) & (t_ns < basket.lines.expires_ns[places])
    places = places[happen]
    if not len(places):
        return []
    lines = basket.lines.take(places)
    columns, _ = basket.book.quotes_at(lines, numbers[happen], hashes[happen], t_ns[happen])
    chosen: list[int] = places.tolist()
    return quote_ticks([basket.tickers[place] for place in chosen], columns)


def _unrolled(first: Integers, stop: Integers) -> tuple[Integers, Integers]:
    """All the numbers of many ranges, and which range each is of."""
    counts = stop - first
    places = np.repeat(np.arange(len(first)), counts)
    begun = np.repeat(np.cumsum(counts) - counts, counts)
    return places, np.arange(len(places)) - begun + first[places]


def _closed(
    tape: OptionTape, members: frozenset[str] | None, start_ns: int, end_ns: int
) -> Iterator[BarTick]:
    for ticker, here, today in tape.grouped(tape.span(start_ns, end_ns)):
        if members is not None and ticker not in members:
            continue
        figures = whole(tape.prints(here))
        assert figures is not None, "a group has trades"
        sofar = tape.prints(today[: np.searchsorted(today, here[-1], "right")])
        volume, units = totals(sofar)
        assert volume is not None, "options have volume"
        yield bar_of(ticker, figures._replace(start_ns=start_ns), end_ns)._replace(
            day_open=float(sofar.price[0]),
            day_volume=volume,
            day_vwap=average(units, volume),
        )
