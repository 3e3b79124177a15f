"""What the prints of some options say: whether buyers were in a hurry, or sellers.

    at or above the ask    bought   quote rule, by the quote that stood before the print
    at or below the bid    sold
    between, or no quote   tick rule: above the last other price bought, below it sold
    else                   unknown: the first print, a leg of a package, one told late

    pressure    of the volume whose side is known, the share that was bought, in percent
    score       15 for each sweep, at most 40 + 10 for each block, at most 30
                + 3 for each large print, at most 20 + 10 if more traded than is usual

What cannot be known is None: a tape without any known side has no pressure, not 50 (W-63).
`CONDITIONS` is the table of what the vendor's condition codes mean here (W-77): those of
options are 200 and a number for OPRA's letter. That a side was in a hurry is inferred from
prices; nobody but the two traders knows who they were.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, StrEnum, auto
from itertools import chain
from typing import Final, NamedTuple

from onetape.model import Quote, Trade

BLOCK_DOLLARS: Final = 100_000
"""A print worth more is a block."""
LARGE_SIZE: Final = 100
"""A print of so many contracts is large."""
UNUSUAL_SHARE: Final = 0.3
"""More than this share of the open interest in one look is unusual."""


class Side(StrEnum):
    """Who wanted the trade: the one that paid the other's price."""

    BUY = "buy"
    SELL = "sell"


class Use(Enum):
    """What a condition does to a print here."""

    VOID = auto()
    """It was taken back, or takes another back."""
    UNSIDED = auto()
    """Its price is not one that the quote was met with: told late, or made as a package."""
    SWEEP = auto()
    """An order that took several exchanges at once."""


CONDITIONS: Final[Mapping[int, Use]] = {
    **dict.fromkeys((201, 203, 205, 207), Use.VOID),
    **dict.fromkeys((202, 204, 206, 208), Use.UNSIDED),
    **dict.fromkeys(range(232, 248), Use.UNSIDED),
    **dict.fromkeys((219, 228, 230), Use.SWEEP),
}
"""What is not here is an ordinary print."""


class Tape(NamedTuple):
    """The prints of one contract and the quotes that stood, both oldest first."""

    trades: Sequence[Trade]
    quotes: Sequence[Quote] = ()
    shares: float = 100.0
    open_interest: float | None = None


class FlowFigures(NamedTuple):
    """What some tapes come to. Volumes are in contracts."""

    trades: int
    volume: float
    bought: float
    sold: float
    sweeps: int
    blocks: int
    large: int
    is_unusual: bool
    newest_ns: int | None

    @property
    def pressure(self) -> float | None:
        """The share that was bought, in percent; None when no side is known."""
        known = self.bought + self.sold
        return 100 * self.bought / known if known > 0 else None

    @property
    def score(self) -> float | None:
        """How remarkable it is, 0 to 100; None without prints."""
        if not self.trades:
            return None
        points = min(15 * self.sweeps, 40) + min(10 * self.blocks, 30) + min(3 * self.large, 20)
        return float(points + 10 * self.is_unusual)


class _Print(NamedTuple):
    trade: Trade
    side: Side | None
    dollars: float
    is_sweep: bool


def figures(tapes: Iterable[Tape]) -> FlowFigures:
    """Return what the tapes of several contracts come to."""
    tapes = tuple(tapes)
    prints = list(chain.from_iterable(map(_prints, tapes)))
    return FlowFigures(
        trades=len(prints),
        volume=sum(one.trade.size for one in prints),
        bought=sum(one.trade.size for one in prints if one.side is Side.BUY),
        sold=sum(one.trade.size for one in prints if one.side is Side.SELL),
        sweeps=sum(one.is_sweep for one in prints),
        blocks=sum(one.dollars > BLOCK_DOLLARS for one in prints),
        large=sum(one.trade.size >= LARGE_SIZE for one in prints),
        is_unusual=any(map(_is_unusual, tapes)),
        newest_ns=max((one.trade.event_ns for one in prints), default=None),
    )


def sides(trades: Sequence[Trade], quotes: Sequence[Quote]) -> tuple[Side | None, ...]:
    """Return who wanted each print of a contract; prints and quotes are oldest first."""
    times = [quote.event_ns or 0 for quote in quotes]
    found: list[Side | None] = []
    tick: Side | None = None
    last: float | None = None
    for trade in trades:
        if Use.VOID in _uses(trade) or Use.UNSIDED in _uses(trade):
            found.append(None)
            continue
        if last is not None and trade.price != last:
            tick = Side.BUY if trade.price > last else Side.SELL
        last = trade.price
        # A quote of the same instant is more likely what the print left behind.
        at = bisect_left(times, trade.event_ns)
        found.append((_by_quote(trade.price, quotes[at - 1]) if at else None) or tick)
    return tuple(found)


def _by_quote(price: float, quote: Quote) -> Side | None:
    is_bought = quote.ask is not None and price >= quote.ask
    is_sold = quote.bid is not None and price <= quote.bid
    if is_bought is is_sold:  # between; or the market was locked or crossed
        return None
    return Side.BUY if is_bought else Side.SELL


def _prints(tape: Tape) -> Iterable[_Print]:
    for trade, side in zip(tape.trades, sides(tape.trades, tape.quotes), strict=True):
        uses = _uses(trade)
        if Use.VOID not in uses:
            dollars = trade.price * trade.size * tape.shares
            yield _Print(trade, side, dollars, Use.SWEEP in uses)


def _is_unusual(tape: Tape) -> bool:
    if not tape.open_interest:
        return False
    volume = sum(trade.size for trade in tape.trades if Use.VOID not in _uses(trade))
    return volume > UNUSUAL_SHARE * tape.open_interest


def _uses(trade: Trade) -> frozenset[Use]:
    return frozenset(CONDITIONS[code] for code in trade.conditions if code in CONDITIONS)
