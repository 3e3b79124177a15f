"""How much is too much: per caller, per minute, and towards the vendor.

Sans-I/O: time comes in as seconds on the monotonic clock. `SlidingWindow` refuses
callers, `Pacer` makes them wait their turn, `CoolDown` makes all of them wait after
the vendor said so, and `MinuteCounter` only counts.
"""

import heapq
import math
from collections import OrderedDict
from typing import Final, NamedTuple

SLOTS: Final = 60
"""Into how many slots a window is cut: memory per key, and the rounding of its edge."""

MINUTE_S: Final = 60.0

ALERT_SHARE: Final = 0.8
"""The share of a limit from which we warn."""


class Verdict(NamedTuple):
    """Whether a caller may go on; `retry_after_s` is 0 when it may."""

    admitted: bool
    remaining: int
    retry_after_s: float


class _Tally:
    """Events of one key within a window, in at most `SLOTS + 2` slots.

    A slot leaves the window with its last event, so no event leaves early and each
    leaves at most one slot's length late: a limit held against the tally holds for
    every window there is, and a burst is forgotten exactly one window later.
    """

    __slots__ = ("slots", "total")

    def __init__(self) -> None:
        # [opened, last event, events] each; a list, for most keys have one or two.
        self.slots: list[list[float]] = []
        self.total = 0

    def forget(self, now: float, window_s: float) -> None:
        slots = self.slots
        while slots and slots[0][1] + window_s <= now:
            self.total -= int(slots.pop(0)[2])

    def add(self, now: float, window_s: float, events: int = 1) -> None:
        self.total += events
        if self.slots:
            slot = self.slots[-1]
            if now < slot[0] + window_s / SLOTS:
                slot[1] = now
                slot[2] += events
                return
        self.slots.append([now, now, events])

    def wait_s(self, limit: int, now: float, window_s: float) -> float:
        """Seconds until the total is below the limit; the whole window if it never is."""
        total = self.total
        for _, last, events in self.slots:
            total -= int(events)
            if total < limit:
                return last + window_s - now
        return window_s


class _Tallies:
    """The tallies of the `max_keys` keys that had events last; others are forgotten."""

    __slots__ = ("by_key", "max_keys", "window_s")

    def __init__(self, window_s: float, max_keys: int) -> None:
        self.window_s = window_s
        self.max_keys = max_keys
        self.by_key: OrderedDict[str, _Tally] = OrderedDict()

    def touch(self, key: str, now: float) -> _Tally:
        """Return the key's tally as of now, making one and room for it if need be."""
        tally = self.by_key.get(key)
        if tally is not None:
            self.by_key.move_to_end(key)
            tally.forget(now, self.window_s)
            return tally
        tally = self.by_key[key] = _Tally()
        if len(self.by_key) > self.max_keys:
            self.by_key.popitem(last=False)
        return tally


class SlidingWindow:
    """Admits at most `limit` calls of one key in any `window_s`; refused calls do not count.

    It remembers `max_keys` keys; beyond that the one that called longest ago is
    forgotten, so that made-up keys cost no memory. Key by what callers cannot make up.
    """

    def __init__(self, limit: int, window_s: float, *, max_keys: int = 10_000) -> None:
        self._limit = limit
        self._window_s = window_s
        self._tallies = _Tallies(window_s, max_keys)

    def __len__(self) -> int:
        return len(self._tallies.by_key)

    def admit(self, key: str, now: float, limit: int | None = None) -> Verdict:
        """Decide on one call of the key; `limit` replaces the common one for this call."""
        allowed = self._limit if limit is None else limit
        tally = self._tallies.touch(key, now)
        if tally.total >= allowed:
            wait_s = tally.wait_s(allowed, now, self._window_s)
            return Verdict(admitted=False, remaining=0, retry_after_s=wait_s)
        tally.add(now, self._window_s)
        return Verdict(admitted=True, remaining=allowed - tally.total, retry_after_s=0.0)


class Pacer:
    """Spreads calls over time: `burst` at once, then `rate_per_s`; rejects nobody.

    A caller reserves its turn and waits for it; in any `t` seconds at most
    `burst + t * rate_per_s` turns come up.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError("rate_per_s > 0 and burst >= 1")
        self._interval_s = 1 / rate_per_s
        self._slack_s = (burst - 1) * self._interval_s
        self._next = -math.inf  # when the next turn comes up at a steady pace
        self._freed: list[float] = []  # a heap of turns given back, to be taken again

    def reserve(self, now: float) -> float:
        """Take the next turn; return the seconds to wait for it."""
        while self._freed:
            turn = heapq.heappop(self._freed)
            if turn > now:
                return turn - now
        steady = max(self._next, now)
        self._next = steady + self._interval_s
        return max(0.0, steady - self._slack_s - now)

    def cancel(self, turn: float, now: float) -> None:
        """Give a turn back that has not come up: `turn` is `now + wait` of its `reserve`."""
        if turn > now:
            heapq.heappush(self._freed, turn)


class CoolDown:
    """A pause that all callers share after the vendor asked one of them to wait."""

    def __init__(self, cap_s: float) -> None:
        self._cap_s = cap_s
        self._until = -math.inf

    @property
    def until(self) -> float | None:
        """When the latest pause ends or ended; None before the first."""
        return None if self._until == -math.inf else self._until

    def start(self, seconds: float, now: float) -> None:
        """Pause for that long, at most `cap_s`; never shortens a pause that runs."""
        if seconds > 0:  # and so not NaN
            self._until = max(self._until, now + min(seconds, self._cap_s))

    def remaining(self, now: float) -> float:
        """Return the seconds left to wait; 0 when there is no pause."""
        return max(0.0, self._until - now)


class MinuteCounter:
    """Counts events per key over the last minute, to within a second.

    It remembers `max_keys` keys; beyond that the one that counted longest ago is forgotten.
    """

    def __init__(self, *, max_keys: int = 1_000) -> None:
        self._tallies = _Tallies(MINUTE_S, max_keys)

    def add(self, key: str, now: float, events: int = 1) -> None:
        """Count events of the key."""
        self._tallies.touch(key, now).add(now, MINUTE_S, events)

    def count(self, key: str, now: float) -> int:
        """Return how many events the key had in the last minute."""
        tally = self._tallies.by_key.get(key)
        if tally is None:
            return 0
        tally.forget(now, MINUTE_S)
        return tally.total

    def snapshot(self, now: float) -> dict[str, int]:
        """Return the counts of all keys that had any event in the last minute."""
        counts = {key: self.count(key, now) for key in self._tallies.by_key}
        return {key: count for key, count in counts.items() if count}

    def near(self, limit: int, now: float) -> dict[str, int]:
        """Return the counts that are at `ALERT_SHARE` of the limit or above it."""
        alert_at = ALERT_SHARE * limit
        return {key: count for key, count in self.snapshot(now).items() if count >= alert_at}
