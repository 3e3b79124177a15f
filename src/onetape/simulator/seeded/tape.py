"""The tapes of stocks and indices, a day at a time.

Quotes and index values come from slots, so any of them is reached alone. A day's trades
are made together and priced at the quote that stood when they happened.
"""

from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded import conditions, slots
from onetape.simulator.seeded.aggregates import Prints, bounds
from onetape.simulator.seeded.instruments import Listing
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Floats, Integers, Keys, digit, generator, key, mix, unit
from onetape.simulator.seeded.paths import Path, Paths
from onetape.simulator.seeded.records import QuoteTick, TradeTick, ValueTick
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay

_DAY_SEQUENCE: Final = 100_000_000
"""More than the events of a day, so that sequences increase across days too."""

# What a stock trade may carry. `code` in a tape is a position in this table.
_REGULAR, _ODD, _ISO, _ISO_ODD, _LATE, _LATE_ODD, _OPENING, _CLOSING = range(8)
CODES: Final[tuple[tuple[int, ...], ...]] = (
    (),
    (conditions.ODD_LOT,),
    (conditions.ISO, conditions.TRADE_THRU_EXEMPT),
    (conditions.ISO, conditions.ODD_LOT, conditions.TRADE_THRU_EXEMPT),
    (conditions.FORM_T,),
    (conditions.FORM_T, conditions.ODD_LOT),
    (conditions.OPENING,),
    (conditions.CLOSING,),
)


def _sets_price(codes: tuple[int, ...], *, of_day: bool) -> bool:
    # Form T prints update nothing but volume in the day's bar, yet the vendor's shorter
    # bars do run before and after hours.
    return all(
        conditions.BY_ID[code].updates_open_close or (code == conditions.FORM_T and not of_day)
        for code in codes
    )


_PRICED: Final = np.array([_sets_price(codes, of_day=False) for codes in CODES])
_DAY_PRICED: Final = np.array([_sets_price(codes, of_day=True) for codes in CODES])

_VENUES: Final = np.array([4, 12, 11, 8, 19, 21, 10, 7, 18, 15, 20, 2])
_VENUE_SHARES: Final = np.array([35, 18, 11, 9, 7, 7, 4, 2, 2, 3, 1, 1]).cumsum() / 100
_QUOTE_VENUES: Final = np.array([12, 11, 8, 19, 21, 10, 7, 15])
_TRF: Final = 4
_TRF_ID: Final = 202


class QuoteColumns(NamedTuple):
    """Quotes, column by column."""

    t_ns: Integers
    bid: Floats
    ask: Floats
    bid_size: Integers
    ask_size: Integers
    bid_exchange: Integers
    ask_exchange: Integers
    sequence: Integers
    participant_ns: Integers


def latency_ns(hashes: Keys) -> Integers:
    """How long a quote or trade takes from the exchange to the SIP."""
    return 150_000 + digit(hashes, 3, 700_000)


class Book:
    """The quotes of one stock, or the values of one index, on one day."""

    def __init__(
        self, listing: Listing, day: MarketDay, path: Path, *, seed: int, rate: float
    ) -> None:
        self.day = day
        self.path = path
        self.symbol = listing.instrument.ticker
        self.tape = listing.instrument.tape
        self.behaviour = listing.behaviour
        is_stock = listing.behaviour.trades_per_day > 0
        self.start_ns, self.end_ns = (
            (day.start_ns, day.end_ns) if is_stock else (day.open_ns, day.close_ns)
        )
        self.width_ns = max(round(self.behaviour.quote_every_s * SECOND_NS / rate), 1_000_000)
        # Arrays of one: they meet arrays of slots.
        self._keys = np.array([key(seed, "book", self.symbol, day.number)], dtype=np.uint64)
        self._widths = np.array([self.width_ns], dtype=np.int64)

    def slots_between(self, low_ns: int, high_ns: int) -> tuple[Integers, Integers, Keys]:
        """Slots, times and hashes of the events in `[low_ns, high_ns)`."""
        low_ns, high_ns = max(low_ns, self.start_ns), min(high_ns, self.end_ns)
        first = (low_ns - self.start_ns) // self.width_ns
        stop = (high_ns - 1 - self.start_ns) // self.width_ns + 1
        numbers = np.arange(first, max(stop, first), dtype=np.int64)
        hashes = slots.scramble(self._keys, numbers)
        t_ns = slots.times(self.start_ns, self._widths, numbers, hashes)
        low, high = bounds(t_ns, low_ns, high_ns)
        return numbers[low:high], t_ns[low:high], hashes[low:high]

    def standing_slot(self, t_ns: int) -> int:
        """The slot of the last event at or before an instant of the day; -1 if none."""
        t_ns = min(t_ns, self.end_ns - 1)
        if t_ns < self.start_ns:
            return -1
        at = np.array([t_ns], dtype=np.int64)
        return int(slots.standing(self.start_ns, self._keys, self._widths, at)[0])

    def quotes(self, numbers: Integers) -> QuoteColumns:
        """The quotes of these slots."""
        hashes = slots.scramble(self._keys, numbers)
        t_ns = slots.times(self.start_ns, self._widths, numbers, hashes)
        return self._quotes(numbers, t_ns, hashes)

    def _quotes(self, numbers: Integers, t_ns: Integers, hashes: Keys) -> QuoteColumns:
        bid, ask, more = self._prices(t_ns, hashes)
        lot = self.behaviour.lot
        deep = (1.0 + 8.0 * unit(mix(more)) ** 3) * lot
        return QuoteColumns(
            t_ns,
            bid,
            ask,
            100 * (1 + (deep * digit(more, 0, 5)).astype(np.int64)),
            100 * (1 + (deep * digit(more, 1, 5)).astype(np.int64)),
            _QUOTE_VENUES[digit(more, 2, len(_QUOTE_VENUES))],
            _QUOTE_VENUES[digit(more, 3, len(_QUOTE_VENUES))],
            self._sequence(numbers),
            t_ns - latency_ns(hashes),
        )

    def _prices(self, t_ns: Integers, hashes: Keys) -> tuple[Floats, Floats, Keys]:
        more = mix(hashes)
        half = self.behaviour.spread * (0.2 + 0.6 * unit(more))
        if self.start_ns != self.day.open_ns:
            extended = (t_ns < self.day.open_ns) | (t_ns >= self.day.close_ns)
            half = np.where(extended, 5 * half, half)
        fair = self.path.at(t_ns)
        bid = np.floor((fair - half) * 100)
        ask = np.maximum(np.ceil((fair + half) * 100), bid + 1)
        return bid / 100, ask / 100, more

    def prices_standing(self, t_ns: Integers) -> tuple[Floats, Floats]:
        """Bid and ask that stood at these instants; none may precede the first quote."""
        numbers = slots.standing(self.start_ns, self._keys, self._widths, t_ns)
        hashes = slots.scramble(self._keys, numbers)
        quoted = slots.times(self.start_ns, self._widths, numbers, hashes)
        bid, ask, _ = self._prices(quoted, hashes)
        return bid, ask

    def quote_ticks(self, numbers: Integers) -> list[QuoteTick]:
        """The quotes of these slots, as records."""
        columns = (column.tolist() for column in self.quotes(numbers))
        count = len(numbers)
        rows = zip([self.symbol] * count, *columns, [self.tape] * count, strict=True)
        return list(map(QuoteTick._make, rows))

    def values(self, t_ns: Integers) -> Floats:
        """The index values published at these instants."""
        return np.rint(self.path.at(t_ns) * 100) / 100

    def value_ticks(self, numbers: Integers) -> list[ValueTick]:
        """The index values of these slots, as records."""
        hashes = slots.scramble(self._keys, numbers)
        t_ns = slots.times(self.start_ns, self._widths, numbers, hashes)
        rows = zip(t_ns.tolist(), self.values(t_ns).tolist(), strict=True)
        return [ValueTick(self.symbol, *row) for row in rows]

    def value_prints(self) -> Prints:
        """All the values of the day."""
        _, t_ns, _ = self.slots_between(self.start_ns, self.end_ns)
        return Prints(t_ns, self.values(t_ns))

    def _sequence(self, numbers: Integers) -> Integers:
        return numbers + (1 + (self.day.number + 1) * _DAY_SEQUENCE)


class StockTape:
    """All the trades of one stock on one day."""

    def __init__(self, book: Book, prints: Prints, code: Integers, venue: Integers) -> None:
        self.symbol = book.symbol
        self.day = book.day
        self.prints = prints
        self.day_prints = prints._replace(priced=_DAY_PRICED[code])
        self._tape = book.tape
        self._code = code
        self._venue = venue

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return self.prints.size_bytes + self._code.nbytes + self._venue.nbytes + len(self._code)

    def span(self, start_ns: int, end_ns: int) -> Integers:
        """Positions of the trades in `[start_ns, end_ns)`."""
        return np.arange(*bounds(self.prints.t_ns, start_ns, end_ns), dtype=np.int64)

    def ticks(self, positions: Integers) -> list[TradeTick]:
        """The trades at these positions, as records."""
        prints, base = self.prints, (self.day.number + 1) * _DAY_SEQUENCE
        assert prints.size is not None, "stocks have volume"
        rows = zip(
            prints.t_ns[positions].tolist(),
            prints.price[positions].tolist(),
            prints.size[positions].tolist(),
            self._venue[positions].tolist(),
            self._code[positions].tolist(),
            (positions + 1).tolist(),
            strict=True,
        )
        return [self._tick(base, *row) for row in rows]

    def _tick(self, base: int, *row: int) -> TradeTick:
        t_ns, price, size, venue, code, number = row
        # Latency without a column: spread by the sequence number.
        participant_ns = t_ns - 200_000 - number * 7919 % 600_000
        off_exchange = venue == _TRF
        return TradeTick(
            self.symbol,
            t_ns,
            price,
            size,
            venue,
            CODES[code],
            base + number,
            participant_ns,
            str(number),
            self._tape,
            _TRF_ID if off_exchange else None,
            t_ns - 40_000 if off_exchange else None,
        )


def moments(rng: np.random.Generator, total: Floats, count: int) -> Floats:
    """Seconds of the day, ascending, where the activity's running sum puts `count` events."""
    # Spacings of a Poisson process are exponential: this is sorted without sorting.
    arrived = np.cumsum(rng.standard_exponential(count + 1))
    seconds = np.arange(len(total), dtype=np.float64)
    reached = arrived[:-1] * (float(total[-1]) / float(arrived[-1]))
    return np.interp(reached, total, seconds)


def _sizes(rng: np.random.Generator, count: int, lot: float) -> Integers:
    kind = rng.random(count)
    scale = rng.standard_exponential(count)
    odd = 1 + (scale * 24).astype(np.int64) % 99
    round_lots = 100 * (1 + (scale * lot * 1.5).astype(np.int64))
    blocks = 100 * (50 + (scale * lot * 60).astype(np.int64))
    return np.where(kind < 0.45, odd, np.where(kind < 0.998, round_lots, blocks))


def make_tape(listing: Listing, book: Book, paths: Paths, *, seed: int, rate: float) -> StockTape:
    """Make one stock's day of trades."""
    day = book.day
    rng = generator(seed, "trades", book.symbol, day.number)
    count = int(rng.poisson(listing.behaviour.trades_per_day * rate))
    seconds = moments(rng, paths.activity(day).total, count)
    t_ns = day.start_ns + (seconds * SECOND_NS).astype(np.int64)
    # Not before the first quote, and the last not at the very end.
    t_ns = np.clip(t_ns, day.start_ns + book.width_ns, day.end_ns - 1)
    bid, ask = book.prices_standing(t_ns)
    side = rng.random(count)
    middle = np.floor((bid + ask) * 50 + 1e-6) / 100
    price = np.where(side < 0.45, bid, np.where(side < 0.9, ask, middle))
    size = _sizes(rng, count, listing.behaviour.lot)
    code = np.where(rng.random(count) < 0.25, _ISO, _REGULAR) + (size < 100)
    venue = _VENUES[np.searchsorted(_VENUE_SHARES, rng.random(count), "right").clip(0, 11)]
    _mark_hours(day, t_ns, size, code)
    return StockTape(book, Prints(t_ns, price, size, _PRICED[code]), code, venue)


def _mark_hours(day: MarketDay, t_ns: Integers, size: Integers, code: Integers) -> None:
    """Flag trades outside the regular session, and the two auctions."""
    if day.start_ns == day.open_ns:
        return
    opened, closed = bounds(t_ns, day.open_ns, day.close_ns)
    for part in (slice(0, opened), slice(closed, None)):
        code[part] = np.where(size[part] < 100, _LATE_ODD, _LATE)
    if closed - opened > 1:
        for position, auction in ((opened, _OPENING), (closed - 1, _CLOSING)):
            code[position] = auction
            size[position] = size[position] * 100 + 20_000


class Tapes:
    """Every book and tape of one seed, made when asked for."""

    def __init__(self, *, seed: int, rate: float, paths: Paths, memory: Memory) -> None:
        self._seed = seed
        self._rate = rate
        self._paths = paths
        self._memory = memory

    def book(self, listing: Listing, day: MarketDay) -> Book:
        """The quotes, or index values, of a symbol on a day."""
        path = self._paths.of(listing, day)
        return Book(listing, day, path, seed=self._seed, rate=self._rate)

    def trades(self, listing: Listing, day: MarketDay) -> StockTape:
        """The trades of a stock on a day."""
        return self._memory.get(
            ("trades", listing.instrument.ticker, day.number),
            lambda: make_tape(
                listing, self.book(listing, day), self._paths, seed=self._seed, rate=self._rate
            ),
            lambda tape: tape.size_bytes,
            day=day.number,
        )

    def values(self, listing: Listing, day: MarketDay) -> Prints:
        """The values of an index on a day."""
        return self._memory.get(
            ("values", listing.instrument.ticker, day.number),
            lambda: self.book(listing, day).value_prints(),
            lambda prints: prints.size_bytes,
            day=day.number,
        )
