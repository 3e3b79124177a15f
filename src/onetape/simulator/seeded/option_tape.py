"""One underlying's option trades of one day, all contracts on one tape.

An order is a single print, a sweep (the same contract on several exchanges within
milliseconds) or a package (several contracts of one expiration in the same millisecond).
Orders favour near expirations and strikes near the money as it stands when they come.
Each print is priced at the quote of its contract that stands at that nanosecond.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onetape.simulator.seeded import conditions, slots
from onetape.simulator.seeded.aggregates import Prints, bounds
from onetape.simulator.seeded.chains import Block, Chain
from onetape.simulator.seeded.noise import Flags, Floats, Integers, generator
from onetape.simulator.seeded.option_book import DAY_SEQUENCE, OptionBook
from onetape.simulator.seeded.paths import Activity
from onetape.simulator.seeded.records import TradeTick
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay
from onetape.simulator.seeded.tape import moments

_ORDERS_PER_DAY: Final = 20_000
_CHUNK: Final = 8_192
_KIND_WEIGHT: Final = {"daily": 1.0, "friday": 1.3, "monthly": 2.2, "adjusted": 0.0}
_SWEEPS: Final = 0.03
_PACKAGES: Final = 0.10

_SINGLE: Final = np.array(
    [conditions.AUTO, conditions.AUCTION, 228, conditions.CROSS, conditions.FLOOR]
)
_SINGLE_SHARES: Final = np.array([0.70, 0.92, 0.95, 0.98])
_PACKAGE: Final = np.array(
    [conditions.MULTI_AUTO, conditions.MULTI_AUCTION, conditions.MULTI_FLOOR]
)
_PACKAGE_SHARES: Final = np.array([0.60, 0.85])


class Orders(NamedTuple):
    """Orders before they become prints."""

    t_ns: Integers
    block: Integers
    is_call: Flags
    reach: Floats
    """How far out of the money, in standard deviations of the time left."""
    legs: Integers
    is_sweep: Flags
    is_package: Flags


class Columns(NamedTuple):
    """Prints, ascending in time."""

    t_ns: Integers
    place: Integers
    """Which contract of the chain."""
    price: Floats
    size: Integers
    condition: NDArray[np.int16]
    venue: NDArray[np.int16]


class OptionTape:
    """All the option trades of one underlying on one day."""

    def __init__(self, chain: Chain, day: MarketDay, columns: Columns) -> None:
        self.chain = chain
        self.day = day
        self.columns = columns
        # Positions on the tape contract by contract, and where each contract's begin.
        self._order = np.argsort(columns.place, kind="stable")
        places = np.arange(chain.count + 1)
        self._starts = np.searchsorted(columns.place[self._order], places)

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return sum(column.nbytes for column in self.columns) + 2 * self._order.nbytes

    def span(self, start_ns: int, end_ns: int) -> Integers:
        """Positions of all trades in `[start_ns, end_ns)`."""
        return np.arange(*bounds(self.columns.t_ns, start_ns, end_ns), dtype=np.int64)

    def at(self, ticker: str, start_ns: int, end_ns: int) -> Integers:
        """Positions of one contract's trades in `[start_ns, end_ns)`."""
        place = self.chain.place(ticker)
        mine = self._of(place) if place is not None else self._order[:0]
        if not len(mine):
            return mine
        low, high = bounds(self.columns.t_ns[mine], start_ns, end_ns)
        found: Integers = mine[low:high]
        return found

    def _of(self, place: int) -> Integers:
        return self._order[self._starts[place] : self._starts[place + 1]]

    def grouped(self, positions: Integers) -> Iterator[tuple[str, Integers, Integers]]:
        """Each contract among these trades: symbol, its trades here, all its trades of the day."""
        places = self.columns.place[positions]
        for place in np.unique(places).tolist():
            yield self.chain.tickers[place], positions[places == place], self._of(place)

    def prints(self, positions: Integers) -> Prints:
        """The trades at these positions, for aggregation."""
        columns = self.columns
        return Prints(columns.t_ns[positions], columns.price[positions], columns.size[positions])

    def ticks(self, positions: Integers) -> list[TradeTick]:
        """The trades at these positions, as records."""
        columns = self.columns
        tickers = self.chain.tickers
        base = (self.day.number + 1) * DAY_SEQUENCE + 1
        rows = zip(
            columns.place[positions].tolist(),
            columns.t_ns[positions].tolist(),
            columns.price[positions].tolist(),
            columns.size[positions].tolist(),
            columns.venue[positions].tolist(),
            columns.condition[positions].tolist(),
            positions.tolist(),
            strict=True,
        )
        return [
            TradeTick(
                tickers[place],
                t_ns,
                price,
                size,
                venue,
                (condition,),
                base + position,
                t_ns - 150_000 - position * 7919 % 500_000,
            )
            for place, t_ns, price, size, venue, condition, position in rows
        ]


def make_option_tape(
    chain: Chain, book: OptionBook, activity: Activity, *, seed: int, rate: float
) -> OptionTape:
    """Make one underlying's day of option trades."""
    rng = generator(seed, "option trades", book.ticker, book.day.number)
    blocks = [block for block in chain.blocks if block.expiration.expires_ns > book.day.open_ns]
    count = int(rng.poisson(_ORDERS_PER_DAY * book.activity * rate)) if blocks else 0
    orders = _orders(rng, book, blocks, _times(rng, book.day, activity, count))
    return OptionTape(chain, book.day, _prints(rng, chain, book, blocks, orders))


def _times(rng: np.random.Generator, day: MarketDay, activity: Activity, count: int) -> Integers:
    opened, closed = activity.open_second, activity.close_second
    total = activity.total[opened : closed + 1] - activity.total[opened]
    seconds = moments(rng, total, count)
    return day.open_ns + (seconds * SECOND_NS).astype(np.int64)


def _orders(
    rng: np.random.Generator, book: OptionBook, blocks: list[Block], t_ns: Integers
) -> Orders:
    count = len(t_ns)
    weights = np.array([_weight(block, book.day) for block in blocks])
    shares = np.cumsum(weights) / max(weights.sum(), 1e-12) if blocks else weights
    which = np.searchsorted(shares, rng.random(count), "right")
    kind = rng.random(count)
    many_venues = len(book.venues) > len("abc")
    is_sweep = (kind < _SWEEPS) & many_venues
    is_package = (kind >= _SWEEPS) & (kind < _SWEEPS + _PACKAGES)
    more = rng.random(count)
    legs = np.where(is_sweep, 2 + (more * 5).astype(np.int64), 1)
    legs = np.where(is_package, 2 + (more > 0.7) + (more > 0.85), legs)
    out = np.where(rng.random(count) < 0.85, 1.0, -0.6)
    return Orders(
        t_ns=t_ns,
        block=np.minimum(which, max(len(blocks) - 1, 0)),
        is_call=rng.random(count) < 0.5,
        reach=out * rng.standard_exponential(count) * 0.6,
        legs=legs,
        is_sweep=is_sweep,
        is_package=is_package,
    )


def _weight(block: Block, day: MarketDay) -> float:
    days = (block.expiration.date - day.date).days
    return _KIND_WEIGHT[block.expiration.kind] / (days + 1.0) ** 0.85


def _places(
    book: OptionBook, blocks: list[Block], orders: Orders
) -> tuple[Integers, Integers, Integers]:
    """Each order's strike position, and its block's count of strikes and offset."""
    offsets = np.array([block.offset for block in blocks])[orders.block]
    counts = np.array([len(block.strikes) for block in blocks])
    expires = np.array([block.expiration.expires_ns for block in blocks])[orders.block]
    years = np.maximum(expires - orders.t_ns, 3600 * SECOND_NS) / (365 * 86_400 * SECOND_NS)
    away = book.board.listing.behaviour.volatility * np.sqrt(years) * orders.reach
    target = book.spot(orders.t_ns) * np.exp(np.where(orders.is_call, away, -away))
    # One sorted run of (block, strike) finds every order's nearest strike at once.
    wall = 1e7
    run = np.concatenate([number * wall + block.strikes for number, block in enumerate(blocks)])
    starts = np.concatenate(([0], np.cumsum(counts)))[orders.block]
    counts = counts[orders.block]
    at = np.clip(np.searchsorted(run, orders.block * wall + target) - starts, 1, counts - 1)
    above, below = run[starts + at], run[starts + at - 1]
    lower = (orders.block * wall + target - below) < (above - orders.block * wall - target)
    return at - lower, counts, offsets


def _prints(
    rng: np.random.Generator, chain: Chain, book: OptionBook, blocks: list[Block], orders: Orders
) -> Columns:
    if not len(orders.t_ns):
        nothing = np.empty(0, np.int64)
        small = np.empty(0, np.int16)
        return Columns(nothing, nothing, np.empty(0), nothing, small, small)
    strike, counts, offsets = _places(book, blocks, orders)
    parent = np.repeat(np.arange(len(orders.legs)), orders.legs)
    first = np.concatenate(([0], np.cumsum(orders.legs)[:-1]))
    leg = np.arange(len(parent)) - first[parent]
    package, sweep = orders.is_package[parent], orders.is_sweep[parent]
    t_ns = _leg_times(book.day, orders.t_ns[parent], leg, package, sweep)
    shifted = _legs_of(strike[parent], counts[parent], leg * package)
    flip = package & (parent % 4 == 0) & (leg % 2 == 1)
    is_call = orders.is_call[parent] ^ flip
    place = offsets[parent] + np.where(is_call, 0, counts[parent]) + shifted
    order = np.argsort(t_ns, kind="stable")
    t_ns, place, package, sweep = t_ns[order], place[order], package[order], sweep[order]
    parent, leg = parent[order], leg[order]
    size = _sizes(rng, len(orders.legs))[parent]
    size = np.where(sweep, 5 + size * 3 // (1 + leg), size)
    venue = rng.integers(len(book.venues), size=len(orders.legs))[parent] + np.where(sweep, leg, 0)
    return Columns(
        t_ns,
        place,
        _priced(rng.random(len(t_ns)), chain, book, place, t_ns),
        size,
        _conditions(rng, len(orders.legs), parent, package, sweep),
        book.venues[venue % len(book.venues)].astype(np.int16),
    )


def _leg_times(
    day: MarketDay, t_ns: Integers, leg: Integers, package: Flags, sweep: Flags
) -> Integers:
    millisecond = 1_000_000
    together = t_ns // millisecond * millisecond + 100_000 + 20_000 * leg
    swept = t_ns + leg * (60_000 + t_ns % 700_000)
    t_ns = np.where(package, together, np.where(sweep, swept, t_ns))
    return np.clip(t_ns, day.open_ns, day.close_ns - 1)


def _legs_of(strike: Integers, counts: Integers, leg: Integers) -> Integers:
    """Move each leg to another strike, up if there is room, else down."""
    up = strike + 2 * leg
    return np.where(up < counts, up, np.maximum(strike - 2 * leg, 0))


def _sizes(rng: np.random.Generator, count: int) -> Integers:
    size = np.exp(0.5 + 1.25 * rng.standard_normal(count)).astype(np.int64) + 1
    is_block = rng.random(count) < 0.006
    return np.where(is_block, 100 + (400 * rng.standard_exponential(count)).astype(np.int64), size)


def _conditions(
    rng: np.random.Generator, count: int, parent: Integers, package: Flags, sweep: Flags
) -> NDArray[np.int16]:
    roll = rng.random(count)
    single = _SINGLE[np.searchsorted(_SINGLE_SHARES, roll, "right")][parent]
    several = _PACKAGE[np.searchsorted(_PACKAGE_SHARES, roll, "right")][parent]
    chosen = np.where(package, several, np.where(sweep, conditions.SWEEP, single))
    return chosen.astype(np.int16)


def _priced(
    side: Floats, chain: Chain, book: OptionBook, place: Integers, t_ns: Integers
) -> Floats:
    """Each print at the bid, the ask or between them, as they stood."""
    price = np.empty(len(place))
    # In pieces that fit the processor's cache: several times faster than at once.
    for low in range(0, len(place), _CHUNK):
        part = slice(low, low + _CHUNK)
        price[part] = _priced_part(side[part], chain, book, place[part], t_ns[part])
    return price


def _priced_part(
    side: Floats, chain: Chain, book: OptionBook, place: Integers, t_ns: Integers
) -> Floats:
    lines = chain.lines.take(place)
    keys, widths = book.keys(lines), book.widths(lines)
    numbers = slots.standing(book.day.open_ns, keys, widths, t_ns)
    hashes = slots.scramble(keys, numbers)
    quoted = slots.times(book.day.open_ns, widths, numbers, hashes)
    quotes, _ = book.quotes_at(lines, numbers, hashes, quoted)
    bid, ask = quotes.bid, quotes.ask
    low, high = book.ticks
    middle = (bid + ask) / 2
    tick = np.where(middle >= 3.0, high, low)
    middle = np.clip(np.rint(np.floor(middle / tick + 1e-6) * tick * 100) / 100, bid, ask)
    # Nobody sells at zero.
    price = np.where((side < 0.42) & (bid > 0), bid, np.where(side < 0.84, ask, middle))
    return np.where(price > 0, price, ask)
