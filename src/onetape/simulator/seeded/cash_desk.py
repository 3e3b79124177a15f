"""Stocks and indices: history, the present and the stream, from books and tapes.

What a day gives is a `Run`: positions of events and how to turn some of them into
records, so that a limit is applied before any record is made.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from onetape.model import AssetClass
from onetape.simulator.seeded.aggregates import Figures, Prints, average, totals, whole, windows
from onetape.simulator.seeded.instruments import Listing
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Integers
from onetape.simulator.seeded.records import BarTick, DayStats, QuoteTick, TradeTick, ValueTick
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay, Sessions
from onetape.simulator.seeded.tape import Tapes

Tick = TypeVar("Tick", TradeTick, QuoteTick, ValueTick)


class Run(NamedTuple, Generic[Tick]):
    """Some events of one symbol on one day, ascending."""

    positions: Integers
    make: Callable[[Integers], list[Tick]]


def collect(runs: Iterator[Run[Tick]], limit: int | None, *, newest_first: bool) -> list[Tick]:
    """Make records of runs until the limit; runs come in the order wanted."""
    found: list[Tick] = []
    for run in runs:
        positions = run.positions[::-1] if newest_first else run.positions
        if limit is not None:
            positions = positions[: limit - len(found)]
        if not len(positions):
            continue
        ticks = run.make(np.sort(positions))
        found += reversed(ticks) if newest_first else ticks
        if limit is not None and len(found) >= limit:
            break
    return found


class DayTotal(NamedTuple):
    """What a whole day was, with the exact sums that longer bars need."""

    figures: Figures | None
    volume: int | None
    units: int
    transactions: int


def total_of(prints: Prints) -> DayTotal:
    """Sum up prints."""
    volume, units = totals(prints)
    return DayTotal(whole(prints), volume, units, len(prints.t_ns))


def stats_of(day: MarketDay, prints: Prints, previous_close: float | None) -> DayStats:
    """Describe a day by its prints so far."""
    figures = whole(prints)
    volume = None if prints.size is None else int(prints.size.sum())
    updated = int(prints.t_ns[-1]) if len(prints.t_ns) else None
    if figures is None:
        return DayStats(day.date, volume=volume, previous_close=previous_close, updated_ns=updated)
    return DayStats(
        day=day.date,
        open=figures.open,
        high=figures.high,
        low=figures.low,
        close=figures.close,
        volume=volume,
        vwap=figures.vwap,
        transactions=figures.transactions,
        previous_close=previous_close,
        regular_close=figures.close,
        updated_ns=updated,
    )


def bar_of(symbol: str, figures: Figures, end_ns: int) -> BarTick:
    """A bar of one window."""
    return BarTick(symbol, figures.start_ns, end_ns, *figures[1:])


def window_ends(seconds: int, start_ns: int, end_ns: int) -> Iterator[int]:
    """Ends of windows, aligned to the epoch, within `[start_ns, end_ns)`.

    New York's offset is a whole number of hours, so they are aligned there too.
    """
    width = seconds * SECOND_NS
    yield from range(-(-start_ns // width) * width, end_ns, width)


class CashDesk:
    """All stocks and indices of one market."""

    def __init__(
        self,
        listings: Mapping[str, Listing],
        *,
        sessions: Sessions,
        tapes: Tapes,
        memory: Memory,
    ) -> None:
        self._listings = listings
        self._sessions = sessions
        self._tapes = tapes
        self._memory = memory
        self._by_asset = {
            asset: [
                ticker for ticker, listing in listings.items() if listing.instrument.asset is asset
            ]
            for asset in (AssetClass.STOCKS, AssetClass.INDICES)
        }

    # ---- runs: one symbol, one day ----

    def trades(self, symbol: str, day: MarketDay, start_ns: int, end_ns: int) -> Run[TradeTick]:
        """Trades of a stock."""
        tape = self._tapes.trades(self._listings[symbol], day)
        return Run(tape.span(start_ns, end_ns), tape.ticks)

    def quotes(self, symbol: str, day: MarketDay, start_ns: int, end_ns: int) -> Run[QuoteTick]:
        """Quotes of a stock."""
        book = self._tapes.book(self._listings[symbol], day)
        numbers, _, _ = book.slots_between(start_ns, end_ns)
        return Run(numbers, book.quote_ticks)

    def values(self, symbol: str, day: MarketDay, start_ns: int, end_ns: int) -> Run[ValueTick]:
        """Values of an index."""
        book = self._tapes.book(self._listings[symbol], day)
        numbers, _, _ = book.slots_between(start_ns, end_ns)
        return Run(numbers, book.value_ticks)

    def prints(self, symbol: str, day: MarketDay, *, of_day: bool) -> Prints:
        """What bars are made of: by the rules of a day's bar, or of shorter ones."""
        listing = self._listings[symbol]
        if listing.instrument.asset is AssetClass.INDICES:
            return self._tapes.values(listing, day)
        tape = self._tapes.trades(listing, day)
        return tape.day_prints if of_day else tape.prints

    def intraday(self, symbol: str, day: MarketDay) -> Prints:
        """What bars shorter than a day are made of."""
        return self.prints(symbol, day, of_day=False)

    # ---- days ----

    def total(self, symbol: str, day: MarketDay, end_ns: int) -> DayTotal:
        """The day up to an instant; whole days are remembered."""
        if end_ns < day.end_ns:
            prints = self.prints(symbol, day, of_day=True)
            return total_of(prints.between(day.start_ns, end_ns))
        return self._memory.get(
            ("total", symbol, day.number),
            lambda: total_of(self.prints(symbol, day, of_day=True)),
            lambda _: 400,
        )

    def day_stats(self, symbol: str, day: MarketDay, end_ns: int) -> DayStats:
        """The day up to an instant."""
        prints = self.prints(symbol, day, of_day=True).between(day.start_ns, end_ns)
        stats = stats_of(day, prints, self.close_before(symbol, day))
        if prints.size is None or day.start_ns == day.open_ns:
            return stats
        every = self.prints(symbol, day, of_day=False).between(day.start_ns, end_ns)
        before = whole(every.between(day.start_ns, day.open_ns))
        after = whole(every.between(day.close_ns, day.end_ns))
        return stats._replace(
            pre_open=None if before is None else before.open,
            after_close=None if after is None else after.close,
        )

    def close_before(self, symbol: str, day: MarketDay) -> float | None:
        """The close of the market day before."""
        before = self._sessions.before(day)
        if before is None:
            return None
        figures = self.total(symbol, before, before.end_ns).figures
        return None if figures is None else figures.close

    # ---- an instant ----

    def standing_quote(self, symbol: str, day: MarketDay, t_ns: int) -> QuoteTick | None:
        """The quote of a stock that stands at an instant, if the day has had one."""
        book = self._tapes.book(self._listings[symbol], day)
        number = book.standing_slot(t_ns)
        return book.quote_ticks(np.array([number]))[0] if number >= 0 else None

    def standing_value(self, symbol: str, day: MarketDay, t_ns: int) -> ValueTick | None:
        """The value of an index that stands at an instant, if the day has had one."""
        book = self._tapes.book(self._listings[symbol], day)
        number = book.standing_slot(t_ns)
        return book.value_ticks(np.array([number]))[0] if number >= 0 else None

    # ---- the stream ----

    def _chosen(self, asset: AssetClass, symbols: Collection[str] | None) -> list[str]:
        mine = self._by_asset[asset]
        return mine if symbols is None else [symbol for symbol in mine if symbol in symbols]

    def stream(
        self,
        run: Callable[[str, MarketDay, int, int], Run[Tick]],
        asset: AssetClass,
        symbols: Collection[str] | None,
        span: tuple[int, int],
    ) -> list[Tick]:
        """Events of many symbols, merged by time."""
        chosen = self._chosen(asset, symbols)
        found: list[Tick] = []
        for day in self._sessions.between(*span):
            for symbol in chosen:
                positions, make = run(symbol, day, *span)
                if len(positions):
                    found += make(positions)
        found.sort(key=lambda tick: tick.event_ns)
        return found

    def closed_bars(
        self,
        asset: AssetClass,
        symbols: Collection[str] | None,
        span: tuple[int, int],
        seconds: int,
    ) -> list[BarTick]:
        """Bars of windows that ended within the span."""
        chosen = self._chosen(asset, symbols)
        found: list[BarTick] = []
        for end_ns in window_ends(seconds, *span):
            day = self._sessions.at(end_ns - 1)
            if day is not None:
                bars = (self._closed(symbol, day, end_ns, seconds) for symbol in chosen)
                found += [bar for bar in bars if bar is not None]
        return found

    def _closed(self, symbol: str, day: MarketDay, end_ns: int, seconds: int) -> BarTick | None:
        start_ns = end_ns - seconds * SECOND_NS
        prints = self.prints(symbol, day, of_day=False)
        figures = windows(prints.between(start_ns, end_ns), start_ns, end_ns - start_ns)
        if not figures:
            return None
        sofar = self.prints(symbol, day, of_day=True).between(day.start_ns, end_ns)
        priced = sofar.price if sofar.priced is None else sofar.price[sofar.priced]
        volume, units = totals(sofar)
        return bar_of(symbol, figures[0], end_ns)._replace(
            day_open=float(priced[0]) if len(priced) else None,
            day_volume=volume,
            day_vwap=average(units, volume) if volume else None,
        )
