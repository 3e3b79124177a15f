"""How far a key has been delivered, so that nothing comes twice and nothing is left out.

Sans-I/O. The stream tells times in milliseconds and REST tells the same trade in
nanoseconds, so two sources are compared by the millisecond. Within one, a trade is known
by its sequence number, or, where a source leaves that out, by price, size and exchange;
a bar by its start.

    … delivered … │ floor: the last millisecond, and what of it was delivered
                  │        rest, from the cursor on      ┐ `bridge`: REST up to the first
                  └──▶ [ ················· ]             │ event that the stream brought
                                    held [ ····· ▶ live  ┘ again, and from there the stream

After a bridge the stream may still bring what REST was faster with: `echo` knows it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from onetape.client._notices import WINDOW_NS, Kind
from onetape.model import Bar, Quote, Trade

E = TypeVar("E", Trade, Bar)
E_co = TypeVar("E_co", covariant=True)

_RESOLUTION_NS: Final = 1_000_000


class Verdict(Enum):
    """What one event is."""

    NEW = "new"
    REPEAT = "repeat"
    LATE = "late"


class Polled(NamedTuple, Generic[E_co]):
    """What a poll brought: the events not delivered yet, and whether anything moved."""

    events: Sequence[E_co]
    moved: bool


class Bridged(NamedTuple, Generic[E_co]):
    """What closes a gap: what REST knows of it, then what the stream brought meanwhile."""

    rest: Sequence[E_co]
    stream: Sequence[E_co]


class Cursor(Protocol):
    """How far one key has been delivered."""

    @property
    def since_ns(self) -> int | None:
        """From when on REST is to be asked; None for what is only ever asked for as it is."""
        ...

    def begin(self, at_ns: int) -> None:
        """Nothing from before that instant is asked for, unless it was begun before."""
        ...

    def take(self, event: Any) -> Verdict:
        """Judge an event of the stream; if it is new it counts as delivered."""
        ...

    def is_ahead(self, event: Any) -> bool:
        """Return whether an event is newer than all that was delivered."""
        ...

    def news(self, events: Sequence[Any]) -> Polled[Any]:
        """Judge what a poll brought; what it returns counts as delivered."""
        ...

    def bridge(self, events: Sequence[Any], held: Sequence[Any]) -> Bridged[Any]:
        """Judge what a poll brought and the stream meanwhile; both count as delivered."""
        ...


def cursor_for(kind: Kind) -> Cursor:
    """Make the cursor for a kind of data."""
    if kind is Kind.QUOTE:
        return QuoteCursor()
    if kind is Kind.TRADE:
        return TradeCursor()
    return BarCursor(WINDOW_NS[kind])


def _millisecond(at_ns: int) -> int:
    return at_ns - at_ns % _RESOLUTION_NS


# Looked up once: of an Enum that costs as much as the rest of the comparison.
_NEW: Final = Verdict.NEW


class QuoteCursor:
    """The last quote. Only the latest matters, so nothing is held or merged.

    Its fields are public for the one who takes a newer quote without calling `take`.
    """

    __slots__ = ("floor_ns", "last", "polled")

    def __init__(self) -> None:
        self.floor_ns = 0
        self.polled = False  # the last is from REST, and the stream may bring it too
        self.last: Quote | None = None

    @property
    def since_ns(self) -> None:
        """Nothing: a snapshot is as of now."""
        return

    def begin(self, at_ns: int) -> None:
        """Nothing: a snapshot is as of now."""

    def take(self, event: Quote) -> Verdict:
        """Take a quote unless it is older than the last; quotes of one millisecond all count."""
        at_ns = event.event_ns
        if at_ns is not None:
            if at_ns < self.floor_ns:
                return Verdict.REPEAT  # of no use any more, so not told as late
            if at_ns == self.floor_ns and self.polled and not self.is_ahead(event):
                return Verdict.REPEAT
            self.floor_ns = at_ns
        self.polled = False
        self.last = event
        return _NEW

    def is_ahead(self, event: Quote) -> bool:
        """Return whether it says something newer. Of the same millisecond: something else."""
        if self.last is None:
            return True
        if event.event_ns is not None:
            newer_ns = _millisecond(event.event_ns) - _millisecond(self.floor_ns)
            if newer_ns:
                return newer_ns > 0
        return _differ(self.last, event, _MARKET)

    def news(self, events: Sequence[Quote]) -> Polled[Quote]:
        """Judge a snapshot: one quote, or none."""
        before = self.last
        ahead = [quote for quote in events[-1:] if self.is_ahead(quote)]
        for quote in ahead:
            if quote.event_ns is not None:
                self.floor_ns = _millisecond(quote.event_ns)
            self.polled = True
            self.last = quote
        moved = any(before is None or _differ(before, quote, _PRICES) for quote in ahead)
        return Polled(ahead, moved)

    def bridge(self, events: Sequence[Quote], held: Sequence[Quote]) -> Bridged[Quote]:
        """Judge the last snapshot before the stream is trusted again; nothing is ever held."""
        return Bridged(self.news(events).events, [])


_PRICES: Final = ("bid", "ask", "last")
_MARKET: Final = (*_PRICES, "bid_size", "ask_size")


def _differ(one: Quote, other: Quote, fields: Iterable[str]) -> bool:
    """Compare what both say: a source that leaves something out does not contradict."""
    for field in fields:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine is not None and theirs is not None and mine != theirs:
            return True
    return False


class _TapeCursor(ABC, Generic[E]):
    """What trades and bars have in common: all of them count, each once and in order."""

    __slots__ = ("_at_floor", "_begin_ns", "_echo", "_floor_ns")

    def __init__(self) -> None:
        self._begin_ns: int | None = None
        self._floor_ns = 0  # 0: nothing was delivered
        self._at_floor: list[E] = []
        self._echo: list[E] = []

    @property
    def since_ns(self) -> int | None:
        """From when on REST is to be asked: what it tells again is recognised."""
        return self._floor_ns or self._begin_ns

    def begin(self, at_ns: int) -> None:
        """Ask for nothing older, unless something was delivered or it was begun before."""
        if self._begin_ns is None:
            self._begin_ns = self._floor(at_ns)

    def take(self, event: E) -> Verdict:
        """Judge an event of the stream; if it is new it counts as delivered."""
        if self._echo and self._is_echo(event):
            return Verdict.REPEAT
        return self._admit(event)

    def is_ahead(self, event: E) -> bool:
        """Return whether an event was not delivered, and nothing newer was."""
        floor_ns = self._floor(event.event_ns)
        if floor_ns != self._floor_ns:
            return floor_ns > self._floor_ns
        return not any(self._same(event, one) for one in self._at_floor)

    def news(self, events: Sequence[E]) -> Polled[E]:
        """Judge what a poll brought; what it returns counts as delivered."""
        fresh = self._admit_all(self._undelivered(events))
        if fresh:
            self._echo = fresh
        return Polled(fresh, bool(fresh))

    def bridge(self, events: Sequence[E], held: Sequence[E]) -> Bridged[E]:
        """Put REST before the first event that the stream brought again, and each once."""
        brought = sorted(held, key=_moment)
        told = self._undelivered(events)
        again = next((one for one in brought if self.is_ahead(one)), None)
        if again is not None:
            # From there on the stream has everything, and as its own source.
            until_ns = self._floor(again.event_ns)
            told = [one for one in told if self._floor(one.event_ns) <= until_ns]
            told = self._without(told, brought)
        rest = self._admit_all(told)
        if rest:
            self._echo = list(rest)
        stream = [one for one in brought if self.take(one) is Verdict.NEW]
        return Bridged(rest, stream)

    @abstractmethod
    def _floor(self, at_ns: int) -> int:
        """Return the start of what cannot be told apart by time."""
        ...

    @abstractmethod
    def _same(self, one: E, other: E) -> bool:
        """Return whether two sources tell one thing."""
        ...

    @abstractmethod
    def _repeats(self, event: E, known: E) -> bool:
        """Return whether one source tells the same thing, of the same floor, twice."""
        ...

    def _admit(self, event: E) -> Verdict:
        floor_ns = self._floor(event.event_ns)
        if floor_ns > self._floor_ns:
            self._floor_ns = floor_ns
            self._at_floor = [event]
            return Verdict.NEW
        if floor_ns < self._floor_ns:
            return Verdict.LATE
        if any(self._repeats(event, known) for known in self._at_floor):
            return Verdict.REPEAT
        self._at_floor.append(event)
        return Verdict.NEW

    def _admit_all(self, events: Iterable[E]) -> list[E]:
        return [one for one in events if self._admit(one) is Verdict.NEW]

    def _undelivered(self, events: Iterable[E]) -> list[E]:
        """Sort what REST told, without what was delivered at the floor or lies before it."""
        lowest_ns = self._floor_ns or self._begin_ns or 0
        told = [one for one in events if self._floor(one.event_ns) >= lowest_ns]
        told.sort(key=_moment)
        return self._without(told, self._at_floor)

    def _without(self, events: list[E], known: Sequence[E]) -> list[E]:
        """Leave out what is known; two alike are two, so each known one stands for one."""
        if not known:
            return events
        waiting: dict[int, list[E]] = {}
        for one in known:
            waiting.setdefault(self._floor(one.event_ns), []).append(one)
        kept: list[E] = []
        for event in events:
            candidates = waiting.get(self._floor(event.event_ns), [])
            twin = next((one for one in candidates if self._same(event, one)), None)
            if twin is None:
                kept.append(event)
            else:
                candidates.remove(twin)
        return kept

    def _is_echo(self, event: E) -> bool:
        floor_ns = self._floor(event.event_ns)
        if floor_ns > self._floor(self._echo[-1].event_ns):
            self._echo = []  # the stream is past what REST told
            return False
        for index, one in enumerate(self._echo):
            if self._same(event, one):
                del self._echo[index]
                return True
        return False


def _moment(event: Trade | Bar) -> int:
    return event.event_ns


class TradeCursor(_TapeCursor[Trade]):
    """How far the trades of a symbol have been delivered."""

    __slots__ = ()

    def _floor(self, at_ns: int) -> int:
        return at_ns - at_ns % _RESOLUTION_NS

    def _same(self, one: Trade, other: Trade) -> bool:
        return (
            one.price == other.price
            and one.size == other.size
            and _agree(one.sequence, other.sequence)
            and _agree(one.exchange, other.exchange)
            and _millisecond(one.event_ns) == _millisecond(other.event_ns)
        )

    def _repeats(self, event: Trade, known: Trade) -> bool:
        # Without a number two prints alike are two: a source does not repeat itself.
        return event.sequence is not None and event.sequence == known.sequence


def _agree(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other


class BarCursor(_TapeCursor[Bar]):
    """How far the bars of a symbol have been delivered, by the start of their windows."""

    __slots__ = ("_window_ns",)

    def __init__(self, window_ns: int) -> None:
        super().__init__()
        self._window_ns = window_ns

    @property
    def since_ns(self) -> int | None:
        """The first window that was not delivered."""
        return self._floor_ns + self._window_ns if self._floor_ns else self._begin_ns

    def _floor(self, at_ns: int) -> int:
        return at_ns - at_ns % self._window_ns

    def _same(self, one: Bar, other: Bar) -> bool:
        return one.event_ns == other.event_ns

    def _repeats(self, event: Bar, known: Bar) -> bool:
        return event.event_ns == known.event_ns
