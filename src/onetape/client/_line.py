"""What is known of each key that is read, and when REST is asked about it.

`Line` is the record, changed by `Transport` alone. `Polls` gives each line at most one
request in flight: an answer is heard only while the line still waits for it, so what was
asked before the stream came back, or by a key that was closed, arrives nowhere.

            plan, urge                 take                 heard
    idle ─────────────▶ planned ─────────────▶ in flight ─────────▶ idle
      ▲                    │ cancel                │ cancel
      └────────────────────┴───────────────────────┘
"""

from collections.abc import Iterable, Sequence
from typing import Any

from onetape.client._notices import (
    WINDOW_NS,
    Event,
    Key,
    Kind,
    Poll,
    Reason,
    Request,
    State,
    TransportPolicy,
)
from onetape.client._pace import Rota, interval_s
from onetape.client._tape import Cursor, QuoteCursor, cursor_for
from onetape.model import AssetClass, Bar, Topic

Group = tuple[AssetClass, Kind]
"""What goes into one batch."""


class Line:
    """One key, and all that is known of it."""

    __slots__ = (
        "attempts",
        "base_s",
        "batch",
        "cursor",
        "dark",
        "group",
        "heard_at",
        "held",
        "key",
        "live",
        "live_ns",
        "lost_ns",
        "owed_ns",
        "quotes",
        "readers",
        "sent_at",
        "state",
        "steady",
        "tag",
        "topic",
        "unchanged",
        "why",
    )

    def __init__(self, key: Key, topic: Topic | None, base_s: float) -> None:
        self.key = key
        self.topic = topic  # None: not streamed
        self.group: Group = (key.asset, key.kind)
        self.base_s = base_s
        self.cursor: Cursor = cursor_for(key.kind)
        # The same, where the hot path may look into it.
        self.quotes = self.cursor if isinstance(self.cursor, QuoteCursor) else QuoteCursor()
        self.state = State.WAITING
        self.steady = False  # streaming, and not silent: the hot path
        self.readers = 1
        self.live = False  # the stream confirmed the topic
        self.live_ns = 0  # since when we have had all of its events
        self.lost_ns: int | None = None  # since when we have not; None: never had
        self.why = Reason.STREAM_DOWN  # it was lost
        self.heard_at = 0.0
        self.owed_ns: int | None = None  # since when REST has shown what the stream did not bring
        self.dark = False  # the last poll failed
        self.batch = 0  # of the poll in flight; 0: none
        self.sent_at = 0.0
        self.unchanged = 0  # polls in a row that brought nothing
        self.attempts = 0  # to bridge
        self.held: list[Event] = []
        self.tag: Any = None  # the edge's

    def __repr__(self) -> str:
        return f"<Line {self.key.kind} {self.key.symbol} {self.state}>"

    def silence_s(self, policy: TransportPolicy) -> float:
        """Return how long without an event is remarkable; of a bar, after its window."""
        return policy.silence_s + WINDOW_NS.get(self.key.kind, 0) / 1e9

    def settled(
        self, events: Sequence[Event], now_ns: int, policy: TransportPolicy
    ) -> Sequence[Event]:
        """Leave out bars whose window may still change."""
        if self.key.kind not in WINDOW_NS:
            return events
        ended_ns = now_ns - round(policy.bar_settle_s * 1e9)
        return [bar for bar in events if type(bar) is Bar and bar.end_ns <= ended_ns]

    def owed(self, events: Sequence[Event]) -> int | None:
        """Return when the first thing happened that REST shows and the stream did not bring."""
        ahead = [
            at_ns
            for event in events
            if (at_ns := event.end_ns if isinstance(event, Bar) else event.event_ns) is not None
            and at_ns > self.live_ns
            and self.cursor.is_ahead(event)
        ]
        known = [] if self.owed_ns is None else [self.owed_ns]
        self.owed_ns = min([*ahead, *known]) if ahead else None
        return self.owed_ns


class Polls:
    """When REST is asked about which line."""

    def __init__(self, policy: TransportPolicy) -> None:
        self._policy = policy
        self._rota: Rota[Line, Group] = Rota()
        self._calm: set[str] = set()
        self._batch = 0
        self.requests = 0
        self.is_open = True

    @property
    def batches(self) -> int:
        """How many batches were asked for."""
        return self._batch

    def calm(self, symbol: str, atr_percent: float | None) -> None:
        """Take note of how much a symbol moves, in percent of its price; None: unknown."""
        if atr_percent is not None and atr_percent < self._policy.calm_atr_percent:
            self._calm.add(symbol)
        else:
            self._calm.discard(symbol)

    def plan(self, line: Line, now: float, now_ns: int) -> None:
        """Ask again, at the pace of the line; of a bar, not before its window has ended."""
        at = max(now, line.sent_at + self._interval_s(line, line.unchanged))
        window_ns, next_ns = WINDOW_NS.get(line.key.kind), line.cursor.since_ns
        if window_ns is not None and next_ns is not None:
            ends_in_s = (next_ns + window_ns - now_ns) / 1e9
            at = max(at, now + ends_in_s + self._policy.bar_settle_s)
        self._rota.plan(line, line.group, at, interval_s=self._interval_s(line))

    def look(self, line: Line, now: float) -> None:
        """Ask once, with the next batch."""
        self._rota.plan(line, line.group, now, interval_s=line.base_s)

    def urge(self, line: Line, at: float) -> None:
        """Ask then and no later."""
        self._rota.urge(line, line.group, at)

    def hasten(self, lines: Iterable[Line], now: float) -> None:
        """The market opened: nobody waits any longer than its interval is now."""
        for line in lines:
            interval = self._interval_s(line)
            self._rota.hasten(line, now + interval, interval_s=interval)

    def cancel(self, line: Line) -> None:
        """Ask nothing more of it, and hear no answer to what was asked."""
        line.batch = 0
        self._rota.cancel(line)

    def is_asked(self, line: Line) -> bool:
        """Return whether a request is planned or in flight."""
        return line.batch != 0 or line in self._rota

    def wake_at(self) -> float | None:
        """Return when there is something to take; None when nothing is planned."""
        return self._rota.wake_at()

    def take(self, now: float) -> list[Poll]:
        """Return what to ask now."""
        return [self._ask(group, lines, now) for group, lines in self._rota.take(now)]

    def heard(self, line: Line | None, batch: int) -> Line | None:
        """Return the line if it waits for an answer of that batch; then it waits no more."""
        if line is None or line.batch != batch:
            return None
        line.batch = 0
        return line

    def _ask(self, group: Group, lines: list[Line], now: float) -> Poll:
        self._batch += 1
        for line in lines:
            line.batch = self._batch
            line.sent_at = now
        asset, kind = group
        self.requests += 1 if kind is Kind.QUOTE else len(lines)
        requests = tuple(Request(line.key, line.cursor.since_ns) for line in lines)
        return Poll(self._batch, asset, kind, requests)

    def _interval_s(self, line: Line, unchanged: int = 0) -> float:
        return interval_s(
            self._policy,
            line.base_s,
            unchanged=unchanged,
            is_open=self.is_open,
            is_calm=line.key.symbol in self._calm,
        )
