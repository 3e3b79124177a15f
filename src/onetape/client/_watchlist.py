"""The symbols somebody watches, changed by difference and not too often.

    settled ── update ──▶ pending ── 300 ms without another update ──▶ settled, with what changed

What counts is the content, not the number: one symbol replaced by another is a change.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

DEBOUNCE_S: Final = 0.3


class Difference(NamedTuple):
    """What a change of the watchlist adds and removes, in the order of the watchlist."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class Watchlist:
    """The machine: `now` is seconds on the monotonic clock."""

    def __init__(self, *, debounce_s: float = DEBOUNCE_S) -> None:
        self._debounce_s = debounce_s
        self._settled: tuple[str, ...] = ()
        self._pending: tuple[str, ...] | None = None
        self.due_at: float | None = None
        """When to `settle`; None when nothing is pending."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is watched: as it is, not as it is about to be."""
        return self._settled

    def update(self, symbols: Iterable[str], now: float) -> None:
        """Watch these, once nothing else came for the debounce."""
        self._pending = tuple(dict.fromkeys(symbols))
        self.due_at = now + self._debounce_s

    def settle(self, now: float) -> Difference | None:
        """Return what changed, if the debounce is over and anything did."""
        if self._pending is None or self.due_at is None or now < self.due_at:
            return None
        before, self._settled = self._settled, self._pending
        self._pending = self.due_at = None
        change = Difference(
            tuple(symbol for symbol in self._settled if symbol not in before),
            tuple(symbol for symbol in before if symbol not in self._settled),
        )
        return change if change.added or change.removed else None
