"""Who reads what, and so what the upstream must carry.

Sans-I/O: the table never talks to the upstream. Each change returns the edge it
caused (the topics to open or to release) and the caller acts on it. Time comes
in as an argument, in seconds on the monotonic clock.

A topic's life, seen from the upstream:

    add, first reader          remove, last reader        expire, linger over
  ───────────────────▶ read ───────────────────▶ lingering ───────────────▶ gone
                         ▲      add, a reader is back │
                         └────────────────────────────┘ no upstream traffic

The linger absorbs page reloads and reconnects, which would otherwise unsubscribe
and resubscribe the same topic within a second.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from onetape.model import ClientId, Topic


class TableStatistics(NamedTuple):
    """A snapshot for metrics and the dashboard."""

    clients: int
    topics_read: int
    topics_lingering: int
    subscriptions: int  # (client, topic) pairs


class SubscriptionTable:
    """Reference counts between many clients and one upstream feed.

    Every method is O(topics named), none awaits, and all are idempotent: a second
    `add` of the same pair and a `remove` of an absent one change nothing. One task
    owns the table; others may only call `readers`, `topics` and `statistics`.
    """

    def __init__(self, *, linger_s: float) -> None:
        self._linger_s = linger_s
        # Two views of one relation; every change below touches both. Readers are
        # dicts used as ordered sets, so fan-out order is stable across runs.
        self._readers: dict[Topic, dict[ClientId, None]] = {}
        self._topics: dict[ClientId, set[Topic]] = {}
        # Release time of each topic without readers. The linger is constant, so
        # insertion order is release order and `expire` only looks at the front.
        self._lingering: dict[Topic, float] = {}

    @property
    def carried(self) -> frozenset[Topic]:
        """What the upstream must carry now; send all of it after a reconnect."""
        return frozenset(self._readers.keys() | self._lingering.keys())

    def readers(self, topic: Topic) -> Collection[ClientId]:
        """Return a live view of the topic's readers. The hot path: one dict get."""
        return self._readers.get(topic, ())

    def topics(self, client: ClientId) -> Collection[Topic]:
        """Return a live view of what the client reads."""
        return self._topics.get(client, ())

    def add(self, client: ClientId, topics: Iterable[Topic]) -> frozenset[Topic]:
        """Let the client read the topics; return those to open upstream."""
        opened: set[Topic] = set()
        for topic in topics:
            if topic not in self._readers:
                self._readers[topic] = {}
                if self._lingering.pop(topic, None) is None:
                    opened.add(topic)
            self._readers[topic][client] = None
            self._topics.setdefault(client, set()).add(topic)
        return frozenset(opened)

    def remove(self, client: ClientId, topics: Iterable[Topic], *, now: float) -> None:
        """Stop the client reading the topics; the last reader starts the linger."""
        held = self._topics.get(client, set())
        for topic in held.intersection(topics):
            held.remove(topic)
            readers = self._readers[topic]
            del readers[client]
            if not readers:
                del self._readers[topic]
                self._lingering[topic] = now + self._linger_s
        if not held:
            self._topics.pop(client, None)

    def drop(self, client: ClientId, *, now: float) -> None:
        """Forget a client that left, however it left."""
        self.remove(client, tuple(self._topics.get(client, ())), now=now)

    def expire(self, *, now: float) -> frozenset[Topic]:
        """Return the topics nobody came back for, to release upstream."""
        released: list[Topic] = []
        for topic, release_at in self._lingering.items():
            if release_at > now:
                break
            released.append(topic)
        for topic in released:
            del self._lingering[topic]
        return frozenset(released)

    def statistics(self) -> TableStatistics:
        """Count everything; cheap enough to call on every scrape."""
        return TableStatistics(
            clients=len(self._topics),
            topics_read=len(self._readers),
            topics_lingering=len(self._lingering),
            subscriptions=sum(map(len, self._topics.values())),
        )
