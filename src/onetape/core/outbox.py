"""What one congested client has yet to be sent, bounded in bytes.

Sans-I/O. A client that keeps up never has an outbox in use; once its socket is
full, events wait here. Events that only the latest of matters (quotes, index
values) replace the pending one of their topic; all others (trades, bars) are kept
each and every one, until the bound says that the reader cannot keep up.

    offer ──▶ [oldest … newest] ──▶ drain         a refused offer means: cut the reader

Order holds within a topic. Across topics a replaced event takes the place of its
replacement, at the end, so nothing is ever sent before what it followed.
"""

from collections import OrderedDict
from typing import NamedTuple

from onetape.model import Topic


class OutboxStatistics(NamedTuple):
    """A snapshot for metrics; `offered == conflated + drained + pending` at all times."""

    pending: int
    size_bytes: int
    conflated: int  # replaced by a newer event of the same topic before they were sent
    offered: int  # taken in; a refused offer counts nowhere


class Outbox:
    """The pending events of one client; it holds at most `max_bytes` of event bytes.

    Every call is O(1) but `drain`, which is O(events returned). One task owns it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Conflatable events are keyed by topic, the others by a number of their own.
        # An OrderedDict, because a plain dict scans the dead slots left at its front.
        self._pending: OrderedDict[Topic | int, bytes] = OrderedDict()
        self._size_bytes = 0
        self._conflated = 0
        self._offered = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def size_bytes(self) -> int:
        """The bytes of all pending events."""
        return self._size_bytes

    def offer(self, topic: Topic, raw: bytes, *, conflatable: bool) -> bool:
        """Take the event in, or change nothing and return False: it would break the bound."""
        replaced = self._pending.get(topic) if conflatable else None
        size_bytes = self._size_bytes + len(raw)
        if replaced is not None:
            size_bytes -= len(replaced)
        if size_bytes > self._max_bytes:
            return False
        self._offered += 1
        self._size_bytes = size_bytes
        if not conflatable:
            self._pending[self._offered] = raw
            return True
        self._pending[topic] = raw
        if replaced is not None:
            self._pending.move_to_end(topic)
            self._conflated += 1
        return True

    def drain(self, max_bytes: int | None = None) -> list[bytes]:
        """Release and return the oldest events: all, or as many as fit in `max_bytes`.

        At least one when there is any, so that an event larger than the budget
        cannot block the ones behind it.
        """
        if max_bytes is None or max_bytes >= self._size_bytes:
            drained = list(self._pending.values())
            self._pending.clear()
            self._size_bytes = 0
            return drained
        drained: list[bytes] = []
        left_bytes = max_bytes
        while self._pending:
            key, raw = next(iter(self._pending.items()))
            left_bytes -= len(raw)
            if left_bytes < 0 and drained:
                break
            del self._pending[key]
            self._size_bytes -= len(raw)
            drained.append(raw)
        return drained

    def statistics(self) -> OutboxStatistics:
        """Count everything; O(1)."""
        return OutboxStatistics(
            pending=len(self._pending),
            size_bytes=self._size_bytes,
            conflated=self._conflated,
            offered=self._offered,
        )
