"""The quote of one symbol in the making: what was answered, and what was streamed since.

    bid, ask        Q events, each newer than the sides before
    last price      T events of a stock or an option, V events of an index, likewise

The newest exchange time wins, part by part (W-66): an answer that is older than what the
stream brought renews the rest alone. Sans-I/O.

A print that reports an earlier or an extraordinary deal is no last price; which those
are, `UNREPRESENTATIVE` says. Change follows from the last price, and the day's range
widens with it. Volume does not: only an answer knows what it already counts.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from onetape.model import AssetClass, Bar, IndexSnapshot, Quote, Trade
from onetape.providers.following import Event
from onetape.quality.indices import judge_index
from onetape.quality.quotes import judge_quote
from onetape.symbols import topic

D = TypeVar("D", Quote, Trade, Quote | Trade)

UNREPRESENTATIVE: Final[frozenset[int]] = frozenset(
    {
        # stocks: average price, cash and next-day sale, extended hours, official open and
        # close, price variation, seller, stock option, odd lot, contingent
        *(2, 7, 12, 13, 15, 16, 20, 21, 29, 35, 37, 38, 52, 53),
        # options: canceled, late, out of sequence
        *(201, 202, 203, 204, 205, 206, 207, 208),
    }
)
"""The vendor's conditions whose prints set neither the last price nor the day's range."""

_SIDES: Final = (
    *("bid", "ask", "bid_size", "ask_size", "bid_exchange", "ask_exchange", "sequence"),
)
_NO_RANGE: Final = (float("-inf"), float("inf"))

_replace: Final = msgspec.structs.replace


def is_representative(event: Quote | Trade) -> bool:
    """Tell whether an event says what the symbol costs now."""
    if isinstance(event, Trade):
        return UNREPRESENTATIVE.isdisjoint(event.conditions)
    return event.last is not None


class LiveQuote:
    """Merges answers and events of one symbol, when it is looked at. `quote` is not judged.

    An answer is how things stood at its exchange time, all parts of it.
    """

    __slots__ = ("_answer", "_high", "_last", "_low", "_merged", "_sides")

    def __init__(self, answer: Quote) -> None:
        self._answer = answer
        self._sides: Quote | None = None
        self._last: Trade | Quote | None = None
        self._high, self._low = _NO_RANGE
        self._merged: Quote | None = answer

    @property
    def quote(self) -> Quote:
        """All parts, each the newest."""
        if self._merged is None:
            self._merged = self._merge()
        return self._merged

    @property
    def is_as_answered(self) -> bool:
        """Whether nothing newer than the last answer came."""
        return self._sides is None and self._last is None

    def renew(self, answer: Quote) -> bool:
        """Take an answer, but for the parts of which we have newer ones.

        Returns:
            Whether it counts: one that is older than the last answer is none. One
            without a time is as new as it comes.
        """
        as_of_ns = _time_of(answer)
        if answer.event_ns is not None and as_of_ns < _time_of(self._answer):
            return False
        self._answer = answer
        self._sides = _newer(self._sides, as_of_ns)
        self._last = _newer(self._last, as_of_ns)
        self._high, self._low = _NO_RANGE
        self._widen()
        self._merged = answer if self.is_as_answered else None
        return True

    def take(self, event: Quote | Trade) -> bool:
        """Take an event of the symbol; return whether it counts. Quick."""
        at_ns = event.event_ns or 0
        if isinstance(event, Quote) and (event.bid is not None or event.ask is not None):
            if at_ns < _time_of(self._sides or self._answer):
                return False
            self._sides = event
        else:
            if at_ns < _time_of(self._last or self._answer) or not is_representative(event):
                return False
            self._last = event
            self._widen()
        self._merged = None
        return True

    # private

    def _widen(self) -> None:
        price = None if self._last is None else last_price(self._last)
        if price is not None:
            self._high, self._low = max(self._high, price), min(self._low, price)

    def _merge(self) -> Quote:
        answer, sides, last = self._answer, self._sides, self._last
        newest = max((one for one in (sides, last) if one is not None), key=_time_of)
        changes: dict[str, object] = {
            "event_ns": newest.event_ns,
            "received_ns": newest.received_ns,
            "source": newest.source,
            "simulated": answer.simulated or newest.simulated,
            "delayed": answer.delayed or newest.delayed,
            "quality": None,
        }
        if sides is not None:
            changes |= {name: getattr(sides, name) for name in _SIDES}
        if last is not None:
            changes |= self._with_last(answer, last)
        return _replace(answer, **changes)

    def _with_last(self, answer: Quote, event: Trade | Quote) -> dict[str, object]:
        last, close = last_price(event), answer.previous_close
        change = None if last is None or close is None else round(last - close, 6)
        return {
            "last": last,
            "last_size": event.size if isinstance(event, Trade) else event.last_size,
            "high": None if answer.high is None else max(answer.high, self._high),
            "low": None if answer.low is None else min(answer.low, self._low),
            "change": change,
            "change_percent": None if not close or change is None else _percent(change, close),
        }


def last_price(event: Quote | Trade) -> float | None:
    """Return what an event says that the symbol cost last."""
    return event.price if isinstance(event, Trade) else event.last


def _percent(change: float, close: float) -> float:
    return round(100 * change / close, 6)


def _time_of(datum: Quote | Trade) -> int:
    return datum.event_ns or 0


def _newer(event: D | None, as_of_ns: int) -> D | None:
    return event if event is not None and _time_of(event) > as_of_ns else None


class EquityView:
    """A stock shown live."""

    def __init__(self, symbol: str, *, is_open: Callable[[int], bool]) -> None:
        self.topics = frozenset(topic(channel, symbol, AssetClass.STOCKS) for channel in "QT")
        self._symbol = symbol
        self._is_open = is_open
        self._live: LiveQuote | None = None

    def renew(self, answer: Quote) -> None:
        """Take a quote as it was answered."""
        self._live = _renewed(self._live, answer)

    def apply(self, events: Sequence[Event]) -> bool:
        """Take the quotes and prints of the stock."""
        return _applied(self._live, events, self._symbol)

    def value(self, now_ns: int) -> Quote:
        """Return the quote, judged."""
        assert self._live is not None, "renewed first"
        return judge_quote(self._live.quote, now_ns=now_ns, market_open=self._is_open(now_ns))


class IndexView:
    """An index shown live; its bars and indicators are as they were answered."""

    def __init__(self, symbol: str, *, is_open: Callable[[int], bool]) -> None:
        self.topics = frozenset({topic("V", symbol, AssetClass.INDICES)})
        self._symbol = symbol
        self._is_open = is_open
        self._live: LiveQuote | None = None
        self._answer: IndexSnapshot | None = None

    def renew(self, answer: IndexSnapshot) -> None:
        """Take a snapshot as it was answered."""
        self._answer = answer
        self._live = _renewed(self._live, answer.quote)

    def apply(self, events: Sequence[Event]) -> bool:
        """Take the values of the index."""
        return _applied(self._live, events, self._symbol)

    def value(self, now_ns: int) -> IndexSnapshot:
        """Return the snapshot, judged."""
        assert self._live is not None, "renewed first"
        assert self._answer is not None, "renewed first"
        snapshot = _replace(self._answer, quote=self._live.quote)
        return judge_index(snapshot, now_ns=now_ns, market_open=self._is_open(now_ns))


def _renewed(live: LiveQuote | None, answer: Quote) -> LiveQuote:
    if live is None:
        return LiveQuote(answer)
    live.renew(answer)
    return live


def _applied(live: LiveQuote | None, events: Sequence[Event], symbol: str) -> bool:
    has_changed = False
    if live is not None:
        for event in events:
            if not isinstance(event, Bar) and event.symbol == symbol:
                has_changed |= live.take(event)
    return has_changed
