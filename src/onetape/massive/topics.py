"""What is wanted of one upstream socket, and what became of each topic: a ledger.

              asked             acknowledged, or its first event comes
    wanted ──────────▶ in doubt ──────────────────────────────────────▶ live
                         ▲  │                                            │
       asked again, each │  │ no answer in time, or refused by name      │ refused by name
        `retry_topics_s` │  ▼                                            │
                        failed ◀─────────────────────────────────────────┘

The vendor names no topic it refuses; a gateway does, and then nothing is waited for.
A gateway may also carry a topic that *its* upstream does not: such a topic is
*suspended*. It is failed, but not asked for again: the gateway does that, and says
when it is back. Until then an acknowledgement of it proves nothing.

Sans-I/O. `now` is seconds on the monotonic clock. Every method that changes something
returns what to send and to tell; call `tick` when `wake_at` has come.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from onetape.massive.notices import (
    FeedPolicy,
    Output,
    SendText,
    TopicsFailed,
    TopicsLive,
)
from onetape.massive.wire_stream import (
    Status,
    parse_params,
    subscribe_frame,
    unsubscribe_frame,
)
from onetape.model import Topic

_ACK: Final = "subscribed to:"
_RELEASE: Final = "unsubscribed to:"
_UNANSWERED: Final = "the vendor did not acknowledge the subscription"


class _Request:
    """One subscribe frame whose answers are awaited."""

    __slots__ = ("deadline", "refusal", "topics")

    def __init__(self, topics: Sequence[Topic], deadline: float) -> None:
        self.topics = topics
        self.deadline = deadline
        self.refusal: str | None = None


class Ledger:
    """What is wanted is state, not commands: an open connection is made to carry it.

    Its owner opens it when a connection is admitted and closes it when that ends.
    """

    def __init__(self, policy: FeedPolicy) -> None:
        self._policy = policy
        self._wanted: frozenset[Topic] = frozenset()
        self._is_open = False
        # A topic whose request ran out is in doubt without one: a late answer counts.
        self._doubtful: dict[Topic, _Request | None] = {}
        self._requests: deque[_Request] = deque()
        self._failed: dict[Topic, str] = {}  # who failed longest ago is asked for first
        self._suspended: set[Topic] = set()
        self._held: set[Topic] = set()
        self._retry_at: float | None = None

    # how it stands

    @property
    def wanted(self) -> frozenset[Topic]:
        """What the connection should carry."""
        return self._wanted

    @property
    def failed(self) -> dict[Topic, str]:
        """The topics that failed, and why: a copy."""
        return dict(self._failed)

    @property
    def failures(self) -> int:
        """How many topics failed."""
        return len(self._failed)

    def failure(self, topic: Topic) -> str | None:
        """Return why a topic failed; None when it did not."""
        return self._failed.get(topic)

    @property
    def doubtful(self) -> Collection[Topic]:
        """Return a live view of the topics whose first event or answer is still to come."""
        return self._doubtful

    @property
    def is_settled(self) -> bool:
        """Whether every topic the connection began with has an answer."""
        return not self._held

    @property
    def live(self) -> int:
        """How many topics are carried."""
        return len(self._wanted) - len(self._doubtful) if self._is_open else 0

    def carries(self, topic: Topic) -> bool:
        """Whether the peer sends this one."""
        return self._is_open and topic in self._wanted and topic not in self._doubtful

    def wake_at(self) -> float | None:
        """Return when to `tick` next; None when only an answer can change anything."""
        due = self._requests[0].deadline if self._requests else None
        return min((at for at in (due, self._retry_at) if at is not None), default=None)

    # the connection

    def open(self, now: float, *, excuse: str | None) -> list[Output]:
        """Ask an admitted connection for all that is wanted.

        What failed before may fail again and holds nothing up, unless it failed of
        `excuse`: a refused login says nothing of its topics.
        """
        doomed = (topic for topic, why in self._failed.items() if why != excuse)
        self._held = set(self._wanted.difference(doomed))
        self._failed.clear()
        self._is_open = True
        return self._ask(sorted(self._wanted), now)

    def close(self) -> None:
        """The connection ended: nothing is carried, nothing more is awaited of it."""
        self._is_open = False
        self._doubtful.clear()
        self._requests.clear()
        self._suspended.clear()
        self._retry_at = None

    def forget(self) -> None:
        """Nobody listens, so nobody misses anything."""
        self._held.clear()
        self._failed.clear()

    # what is wanted

    def want(self, topics: frozenset[Topic], now: float) -> list[Output]:
        """Carry exactly these from now on; only the difference is sent."""
        gone, fresh = sorted(self._wanted - topics), sorted(topics - self._wanted)
        self._wanted = topics
        for topic in gone:
            self._failed.pop(topic, None)
            self._doubtful.pop(topic, None)
        self._held.difference_update(gone)
        self._suspended.difference_update(gone)
        if not self._is_open:
            return []
        chunks = _chunks(gone, self._policy.chunk_topics)
        dropped = [SendText(unsubscribe_frame(chunk)) for chunk in chunks]
        return [*dropped, *self._ask(fresh, now)]

    # what the peer says

    def heard(self, topics: Iterable[Topic]) -> list[Output]:
        """Events of these came: they are carried."""
        return self._carry(self._doubtful.keys() & set(topics))

    def heed(self, status: Status, now: float) -> list[Output]:
        """Heed what the peer says of topics."""
        match status.status:
            case "success" if status.message.startswith(_ACK):
                names = map(Topic, parse_params(status.message.removeprefix(_ACK)))
                return self._carry((self._doubtful.keys() & names) - self._suspended)
            case "success" if status.message.startswith(_RELEASE):
                # What was asked for since then is asked for anew.
                names = map(Topic, parse_params(status.message.removeprefix(_RELEASE)))
                self._suspended.difference_update(names)
            case "subscription_restored":
                return self._carry(self._doubtful.keys() & {status.topic})
            case "subscription_failed" | "error":
                return self._refused(status, now)
            case _:
                pass
        return []

    def blame(self, reason: str) -> None:
        """A refusal that names nothing is the reason for whatever now stays unanswered."""
        for request in self._requests:
            request.refusal = reason

    def deny(self, reason: str) -> list[Output]:
        """The login is refused: nothing wanted is carried."""
        fresh = self._wanted.difference(self._failed)
        self._failed.update(dict.fromkeys(fresh, reason))
        return [TopicsFailed(topics=fresh, reason=reason)] if fresh else []

    # time

    def tick(self, now: float) -> list[Output]:
        """Fail what was asked for too long ago; ask again for what failed long enough ago."""
        told: list[Output] = []
        while self._requests and self._requests[0].deadline <= now:
            request = self._requests.popleft()
            late = [t for t in request.topics if self._doubtful.get(t) is request]
            told += self._fail(late, request.refusal or _UNANSWERED)
            if self._failed and self._retry_at is None:
                self._retry_at = now + self._policy.retry_topics_s
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            told += self._ask_again(now)
        return told

    # private

    def _refused(self, status: Status, now: float) -> list[Output]:
        topic = status.topic
        if topic is None or topic not in self._wanted:
            return []
        if status.status == "subscription_failed":
            self._suspended.add(topic)
        elif self._retry_at is None:
            self._retry_at = now + self._policy.retry_topics_s
        return self._fail([topic], status.message)

    def _ask(self, topics: Iterable[Topic], now: float) -> list[Output]:
        frames: list[Output] = []
        for chunk in _chunks(topics, self._policy.chunk_topics):
            request = _Request(chunk, now + self._policy.ack_timeout_s)
            self._requests.append(request)
            self._doubtful.update(dict.fromkeys(chunk, request))
            frames.append(SendText(subscribe_frame(chunk)))
        return frames

    def _ask_again(self, now: float) -> list[Output]:
        """Ask once more, in one frame, for the topics that failed longest ago."""
        ours = (topic for topic in self._failed if topic not in self._suspended)
        oldest = list(islice(ours, self._policy.chunk_topics))
        for topic in oldest:
            self._failed[topic] = self._failed.pop(topic)  # to the end of the line
        return self._ask(oldest, now)

    def _carry(self, topics: set[Topic]) -> list[Output]:
        if not topics:
            return []
        for topic in topics:
            del self._doubtful[topic]
            self._failed.pop(topic, None)
        self._held -= topics
        self._suspended -= topics
        return [TopicsLive(topics=frozenset(topics))]

    def _fail(self, topics: Iterable[Topic], reason: str) -> list[Output]:
        fresh: list[Topic] = []
        for topic in topics:
            self._doubtful[topic] = None
            self._held.discard(topic)
            if topic not in self._failed:
                fresh.append(topic)
                self._failed[topic] = reason
        return [TopicsFailed(topics=frozenset(fresh), reason=reason)] if fresh else []


def _chunks(topics: Iterable[Topic], size: int) -> Iterator[Sequence[Topic]]:
    rest = iter(topics)
    while chunk := list(islice(rest, size)):
        yield chunk
