"""How many requests a minute, and whose: a sliding window that is never overdrawn.

Tradier counts per token, on counters of its own that jump about; so we count ourselves,
exactly, and read its headers only to brake. In any window there are at most `limit`
requests. Those who wait stand in two lines:

    interactive ─────────────▶ whatever the window has left
    background  ─────────────▶ the same, less a reserve, and behind every interactive one

A ticket's life; it is admitted as soon as the window has room for it and for all who
stand before it, so nobody has to wake anybody:

    queue ──▶ waiting ── claim ──▶ admitted ── spend, when it is sent ──▶ counted for a window
                 └── leave ──▶ gone ◀── leave ──┘

Sans-I/O: `now` is seconds on the monotonic clock.
"""

import math
from collections import deque
from enum import IntEnum
from itertools import islice, takewhile
from typing import Final, NamedTuple

from onetape.tradier.wire_rest import RateLimits

WINDOW_S: Final = 61.0
"""A second more than Tradier's, because requests overtake each other on the way."""

_LOOK_AGAIN_S: Final = 1.0


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    """Somebody waits for the answer."""
    BACKGROUND = 1
    """Nobody does: may be starved."""


class BudgetStatistics(NamedTuple):
    """A snapshot: what the last window held, who waits, and how long all must."""

    limit: int
    used: int
    admitted: int
    waiting_interactive: int
    waiting_background: int
    braked_s: float


class Ticket:
    """A place in line. Whoever holds it must `leave` in the end; after `spend` that is nothing."""

    __slots__ = ("priority",)

    def __init__(self, priority: Priority) -> None:
        self.priority = priority


class Budget:
    """The window and its two lines. One event loop owns it.

    Args:
        limit: Requests in a window.
        reserve: How many of them background requests never take.
        window_s: The window's length; the brake never lasts longer.
    """

    def __init__(self, limit: int, *, reserve: int, window_s: float = WINDOW_S) -> None:
        if not 0 <= reserve < limit:
            raise ValueError("0 <= reserve < limit")
        self._limit = limit
        self._reserve = reserve
        self._window_s = window_s
        self._spent: deque[float] = deque()
        # Dicts used as ordered sets: a ticket leaves from the middle in O(1).
        self._lines: dict[Priority, dict[Ticket, None]] = {one: {} for one in Priority}
        self._admitted: set[Ticket] = set()
        self._braked_until = -math.inf

    def queue(self, priority: Priority) -> Ticket:
        """Stand in line."""
        ticket = Ticket(priority)
        self._lines[priority][ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give the place back; idempotent."""
        self._lines[ticket.priority].pop(ticket, None)
        self._admitted.discard(ticket)

    def claim(self, ticket: Ticket, now: float) -> float:
        """Admit the ticket and return 0, or the seconds after which to claim again."""
        braked_s = self._braked_until - now
        if braked_s > 0:
            return braked_s
        self._forget(now)
        room = self._limit - len(self._spent) - len(self._admitted)
        if ticket.priority is Priority.BACKGROUND:
            room -= self._reserve
        if self._ahead(ticket, room) < room:
            self.leave(ticket)
            self._admitted.add(ticket)
            return 0.0
        # Who was admitted may yet give the place back, and an earlier ticket may leave.
        next_s = self._spent[0] + self._window_s - now if self._spent else _LOOK_AGAIN_S
        return min(next_s, _LOOK_AGAIN_S) if self._admitted else next_s

    def spend(self, ticket: Ticket, now: float) -> None:
        """Count an admitted ticket's request, which is sent now."""
        if ticket in self._admitted:
            self._admitted.remove(ticket)
            self._spent.append(now)

    def brake(self, seconds: float, now: float) -> None:
        """Admit nobody for that long, at most one window; never shortens a brake."""
        if seconds > 0:
            self._braked_until = max(self._braked_until, now + min(seconds, self._window_s))

    def heed(self, limits: RateLimits, *, now: float, now_ns: int) -> None:
        """Brake when the headers say that nothing is left before they start over."""
        if limits.available == 0 and limits.expires_ns is not None:
            self.brake((limits.expires_ns - now_ns) / 1e9, now)

    def statistics(self, now: float) -> BudgetStatistics:
        """Count."""
        self._forget(now)
        return BudgetStatistics(
            limit=self._limit,
            used=len(self._spent),
            admitted=len(self._admitted),
            waiting_interactive=len(self._lines[Priority.INTERACTIVE]),
            waiting_background=len(self._lines[Priority.BACKGROUND]),
            braked_s=max(0.0, self._braked_until - now),
        )

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0] + self._window_s <= now:
            self._spent.popleft()

    def _ahead(self, ticket: Ticket, room: int) -> int:
        """Count who stands before the ticket; in its own line no further than `room`."""
        ahead = 0
        if ticket.priority is Priority.BACKGROUND:
            ahead = len(self._lines[Priority.INTERACTIVE])
        before = takewhile(lambda other: other is not ticket, self._lines[ticket.priority])
        return ahead + sum(1 for _ in islice(before, max(0, room)))
