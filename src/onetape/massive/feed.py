"""One upstream WebSocket as a machine: time and bytes in, effects and notices out.

                    opened           `connected`           `auth_success`
    ┌──────▶ CONNECTING ──▶ GREETING ──────────▶ AUTHENTICATING ──────────▶ LIVE
    │ Dial        │ closed     │ silence, closed     │ refused, closed       │ closed, evicted,
    │             ▼            ▼                     ▼                       ▼ no pong
    └─ BACKING_OFF or, after an eviction, COOLING ◀── CLOSING (we hung up; waits for closed)

    IDLE is where nobody needs the socket: the way out of every state after `deactivate`.

What the socket should carry is state, not a queue of commands: `want` replaces it,
and whatever happened before, a live connection is made to carry exactly that. The
vendor names no topic it refuses, so a topic is live when it is acknowledged or its
first event comes, and failed when neither happens in time.

The machine never dials while an old connection is not known to be closed, never
subscribes before it is admitted, and does not dial at all during a cool-down: the
vendor evicts the older of two logins, so whoever fights an eviction never wins.
Every input about a connection names its generation; a late one is not heard.
"""

import random as stdlib_random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from onetape.core.recovery import Backoff
from onetape.errors import OnetapeError
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Connecting,
    Dial,
    Effect,
    Evicted,
    FeedPolicy,
    FeedStatistics,
    Garbled,
    Hangup,
    Lost,
    Notice,
    Output,
    Ping,
    Restored,
    SendText,
    State,
    TopicsFailed,
    TopicsLive,
    VendorStatus,
)
from onetape.massive.wire_stream import (
    Split,
    Status,
    auth_frame,
    parse_params,
    split,
    subscribe_frame,
    unsubscribe_frame,
)
from onetape.model import Topic

__all__ = [
    "AuthFailed",
    "Authenticated",
    "Connecting",
    "Dial",
    "Effect",
    "Evicted",
    "Feed",
    "FeedPolicy",
    "FeedStatistics",
    "Garbled",
    "Hangup",
    "Lost",
    "Notice",
    "Output",
    "Ping",
    "Restored",
    "SendText",
    "State",
    "TopicsFailed",
    "TopicsLive",
    "VendorStatus",
]

_Timer = Callable[[float, int], None]
_NORMAL: Final = 1000
_SAMPLE: Final = 120
_REMARKS: Final = 32
_ACK: Final = "subscribed to:"


class _Request:
    """One subscribe frame whose answers are awaited."""

    __slots__ = ("deadline", "refusal", "topics")

    def __init__(self, topics: Sequence[Topic], deadline: float) -> None:
        self.topics = topics
        self.deadline = deadline
        self.refusal: str | None = None


class Feed:
    """The machine. One task calls it; nothing blocks, and outputs are drained by swap.

    `now` is seconds on the monotonic clock, `now_ns` nanoseconds UTC. Call `tick`
    when `wake_at` has come, and after every input.
    """

    def __init__(
        self,
        policy: FeedPolicy,
        *,
        credential: Callable[[], str],
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
    ) -> None:
        self._policy = policy
        self._credential = credential
        self._secret = ""  # the credential in use, to keep it out of what we tell
        self._output: list[Output] = []
        self._timers: dict[_Timer, float] = {}
        self._state = State.IDLE
        self._active = False
        self._wanted: frozenset[Topic] = frozenset()

        self._generation = 0
        self._link = 0  # the generation whose `closed` is still to come
        self._reading = 0  # the same, while we listen to it
        self._heard = False  # anything at all since the last ping
        self._live_since = 0.0
        self._complained = False  # of garbage, on this connection
        self._remarks: set[VendorStatus] = set()  # what it said, to say it once

        # What we asked of this connection, and of that what has no answer yet. A topic
        # whose request ran out is in doubt without one: a late answer still counts.
        self._carried: set[Topic] = set()
        self._doubtful: dict[Topic, _Request | None] = {}
        self._requests: deque[_Request] = deque()
        self._failed: dict[Topic, str] = {}

        self._backoff = _backoff(policy.backoff_base_s, policy.backoff_cap_s, random)
        self._auth_backoff = _backoff(policy.auth_retry_s, policy.auth_retry_cap_s, random)
        self._not_before = self._cooling_until = float("-inf")
        self._refusal: str | None = None  # why the last login failed

        # An outage lasts from the first trouble to `Restored`, over any number of dials.
        self._trouble: type[Lost | AuthFailed | Evicted] | None = None
        self._gap_start_ns: int | None = None
        self._held: set[Topic] = set()  # topics whose answer `Restored` waits for

        self._frames = self._events = self._bytes = self._garbled = 0
        self._frames_at_rest = 0
        self._reconnects = self._evictions = self._auth_failures = 0
        self._last_frame_ns: int | None = None
        self._connected_since_ns: int | None = None

    def __repr__(self) -> str:
        live, wanted = len(self._carried) - len(self._doubtful), len(self._wanted)
        return f"<Feed {self._state}, {live} of {wanted} topics, connection {self._generation}>"

    # what is wanted

    def activate(self, now: float, now_ns: int) -> None:
        """Somebody needs the socket."""
        self._active = True
        self._timers.pop(self._rest, None)
        if self._state is State.IDLE:
            self._gap_start_ns = None if self._trouble is None else now_ns
            self._settle(now)
            self._recall_trouble(now, now_ns)

    def deactivate(self, now: float) -> None:
        """Nobody does: let it go after the grace."""
        if self._active:
            self._active = False
            self._timers[self._rest] = now + self._policy.idle_s

    def retire(self, now: float, now_ns: int) -> None:
        """Let it go now, without the grace."""
        self._active = False
        self._timers.pop(self._rest, None)
        self._rest(now, now_ns)

    def want(self, topics: frozenset[Topic], now: float) -> None:
        """Carry exactly these from now on."""
        self._wanted = topics
        for topic in self._failed.keys() - topics:
            del self._failed[topic]
        if self._held and not self._held <= topics:
            self._held &= topics
            self._timers[self._settle_gap] = now
        if self._state is State.LIVE:
            self._reconcile(now)
        elif self._refusal is not None and self._active:
            self._fail_all(self._refusal)

    # what the socket reports

    def opened(self, generation: int, now: float) -> None:
        """The connection is made, TLS and upgrade included."""
        if generation != self._link or self._state is not State.CONNECTING:
            return
        if self._is_resting:
            self._hang_up(_NORMAL)
            return
        self._enter(State.GREETING)
        self._reading = generation
        self._complained = False
        self._remarks.clear()
        self._timers[self._lose_patience] = now + self._policy.greet_timeout_s

    def frame(self, generation: int, data: bytes, now: float, now_ns: int) -> None:
        """A whole message came, text or binary. The hot path."""
        if generation != self._reading:
            return
        parts = split(data)
        self._heard = True
        self._last_frame_ns = now_ns
        self._frames += 1
        self._events += len(parts.raws)
        self._bytes += len(data)
        if parts.statuses or parts.garbage or self._doubtful:
            self._read(parts, now, now_ns)
        else:
            self._output.append(parts)

    def alive(self, generation: int) -> None:
        """Anything else came: a pong, a ping, a part of a message."""
        if generation == self._reading:
            self._heard = True

    def closed(
        self, generation: int, code: int | None, reason: str, now: float, now_ns: int
    ) -> None:
        """The connection is gone, or was never made. The last input of its generation."""
        if generation != self._link:
            return
        if self._state is not State.CLOSING:
            self._lose(reason or "closed", code, now, now_ns)
        self._link = self._reading = 0
        self._settle(now)

    def tick(self, now: float, now_ns: int) -> None:
        """Do what is due."""
        while self._timers:
            timer = min(self._timers, key=self._timers.__getitem__)
            if self._timers[timer] > now:
                return
            del self._timers[timer]
            timer(now, now_ns)

    # output

    @property
    def state(self) -> State:
        """Where the feed is."""
        return self._state

    @property
    def failed(self) -> dict[Topic, str]:
        """The topics that failed, and why: a copy."""
        return dict(self._failed)

    @property
    def has_output(self) -> bool:
        """Whether `drain` has anything to return; cheaper than draining."""
        return bool(self._output)

    def drain(self) -> list[Output]:
        """Return what to do and to tell, in order."""
        output, self._output = self._output, []
        return output

    def wake_at(self) -> float | None:
        """Return when to `tick` next; None when only an input can change anything."""
        return min(self._timers.values(), default=None)

    def statistics(self) -> FeedStatistics:
        """Count everything."""
        return FeedStatistics(
            state=self._state,
            topics_wanted=len(self._wanted),
            topics_acked=len(self._carried) - len(self._doubtful),
            topics_failed=len(self._failed),
            frames=self._frames,
            events=self._events,
            bytes=self._bytes,
            garbled=self._garbled,
            reconnects=self._reconnects,
            evictions=self._evictions,
            auth_failures=self._auth_failures,
            last_frame_ns=self._last_frame_ns,
            connected_since_ns=self._connected_since_ns,
        )

    # private, the connection's life

    @property
    def _is_resting(self) -> bool:
        return not self._active and self._rest not in self._timers

    def _enter(self, state: State) -> None:
        self._state = state
        rest_at = self._timers.get(self._rest)
        self._timers.clear()
        if rest_at is not None:
            self._timers[self._rest] = rest_at
        self._carried.clear()
        self._doubtful.clear()
        self._requests.clear()
        self._connected_since_ns = None

    def _settle(self, now: float) -> None:
        """Decide what to do without a connection."""
        if not self._active:
            self._enter(State.IDLE)
            self._timers.clear()
            self._forget()
        elif now < self._not_before:
            self._enter(State.COOLING if now < self._cooling_until else State.BACKING_OFF)
            self._timers[self._resume] = self._not_before
        else:
            self._dial()

    def _forget(self) -> None:
        """Nobody listens, so nobody misses anything; but an outage that was told stays one."""
        self._held.clear()
        self._failed.clear()
        self._frames_at_rest = self._frames

    def _recall_trouble(self, now: float, now_ns: int) -> None:
        """Tell who comes during a cool-down or after a refused login, why nothing happens."""
        if self._state is State.COOLING:
            self._begin_outage(now, now_ns)
            self._tell(Evicted(cool_down_s=self._cooling_until - now))
        elif self._state is State.BACKING_OFF and self._refusal is not None:
            self._begin_outage(now, now_ns)
            self._tell(AuthFailed(message=self._refusal))
            self._fail_all(self._refusal)

    def _rest(self, now: float, _now_ns: int) -> None:
        if self._reading:
            self._hang_up(_NORMAL)
        elif not self._link:
            self._settle(now)

    def _resume(self, now: float, _now_ns: int) -> None:
        self._settle(now)

    def _dial(self) -> None:
        self._enter(State.CONNECTING)
        self._generation += 1
        self._link = self._generation
        attempt = self._backoff.attempts + 1
        self._output += (Connecting(attempt=attempt), Dial(self._generation))

    def _hang_up(self, code: int | None) -> None:
        self._enter(State.CLOSING)
        self._reading = 0
        self._output.append(Hangup(code))

    def _lose(self, reason: str, code: int | None, now: float, now_ns: int) -> None:
        """Note that the stream went down through no wish of ours, and when to dial again."""
        since_ns = self._begin_outage(now, now_ns)
        self._not_before = max(self._not_before, now + self._backoff.next_delay())
        if self._trouble is not Lost:
            self._tell(Lost(reason=self._clean(reason), code=code, since_ns=since_ns))

    def _begin_outage(self, now: float, now_ns: int) -> int:
        if self._state is State.LIVE and now - self._live_since >= self._policy.stable_s:
            self._backoff.reset()
        if self._gap_start_ns is None:
            heard = self._last_frame_ns if self._frames > self._frames_at_rest else None
            self._gap_start_ns = now_ns if heard is None else heard
        return self._gap_start_ns

    def _tell(self, trouble: Lost | AuthFailed | Evicted) -> None:
        self._trouble = type(trouble)
        self._output.append(trouble)

    def _lose_patience(self, now: float, now_ns: int) -> None:
        awaited = "a greeting" if self._state is State.GREETING else "an answer to the login"
        self._drop(f"no sign of {awaited} in time", None, now, now_ns)

    def _drop(self, reason: str, code: int | None, now: float, now_ns: int) -> None:
        self._lose(reason, None, now, now_ns)
        self._hang_up(code)

    def _ping(self, now: float, _now_ns: int) -> None:
        self._output.append(Ping())
        self._timers[self._ping] = now + self._policy.ping_interval_s
        if self._miss_pong not in self._timers:
            self._heard = False
            self._timers[self._miss_pong] = now + self._policy.pong_deadline_s

    def _miss_pong(self, now: float, now_ns: int) -> None:
        if not self._heard:
            self._drop("no sign of life after a ping", None, now, now_ns)

    # private, what the vendor says

    def _read(self, parts: Split, now: float, now_ns: int) -> None:
        if parts.topics:
            self._output.append(parts)
            if not self._doubtful.keys().isdisjoint(parts.topics):
                self._carry(self._doubtful.keys() & parts.topics, now, now_ns)
        if parts.garbage:
            self._complain(parts.garbage)
        for status in parts.statuses:
            if self._reading:  # else one of them made us hang up
                self._heed(status, now, now_ns)

    def _complain(self, garbage: list[bytes]) -> None:
        self._garbled += len(garbage)
        if not self._complained:
            self._complained = True
            head = self._clean(garbage[0].decode("latin-1"))[:_SAMPLE]
            sample = head.encode("unicode_escape").decode()[:_SAMPLE]
            self._output.append(Garbled(count=self._garbled, sample=sample))

    def _heed(self, status: Status, now: float, now_ns: int) -> None:
        message = self._clean(status.message)
        match status.status:
            case "connected" | "success" if self._state is State.GREETING:
                self._log_in(now, now_ns)
            case "auth_success" if self._state is State.AUTHENTICATING:
                self._begin(now, now_ns)
            case "success" if message.startswith(_ACK):
                names = map(Topic, parse_params(message.removeprefix(_ACK)))
                self._carry(self._doubtful.keys() & names, now, now_ns)
            case "success" | "connected" | "auth_success":
                pass
            case "auth_failed":
                self._refuse(message, now, now_ns)
            case "max_connections":
                self._concede(now, now_ns)
            case "slow_consumer" | "force_disconnect" | "auth_timeout":
                self._drop(status.status, _NORMAL, now, now_ns)
            case _:
                self._blame(status.status, message)

    def _log_in(self, now: float, now_ns: int) -> None:
        try:
            self._secret = self._credential()
        except OnetapeError as error:
            self._refuse(str(error), now, now_ns)
            return
        self._enter(State.AUTHENTICATING)
        self._timers[self._lose_patience] = now + self._policy.auth_timeout_s
        self._output.append(SendText(auth_frame(self._secret)))

    def _begin(self, now: float, now_ns: int) -> None:
        self._enter(State.LIVE)
        self._live_since = now
        self._connected_since_ns = now_ns
        self._timers[self._ping] = now + self._policy.ping_interval_s
        self._auth_backoff.reset()
        if self._trouble is not None:
            self._reconnects += 1
        # What failed before may fail again, and must not keep the outage open; but a
        # refused login says nothing of its topics.
        doomed = (topic for topic, why in self._failed.items() if why != self._refusal)
        self._held = set(self._wanted.difference(doomed))
        self._refusal = None
        self._failed.clear()
        self._output.append(Authenticated(topics=self._wanted))
        self._reconcile(now)
        self._settle_gap(now, now_ns)

    def _refuse(self, message: str, now: float, now_ns: int) -> None:
        self._auth_failures += 1
        self._refusal = message or "the login was refused"
        self._begin_outage(now, now_ns)
        self._not_before = now + self._policy.auth_retry_s + self._auth_backoff.next_delay()
        if self._trouble is not AuthFailed:
            self._tell(AuthFailed(message=self._refusal))
        self._fail_all(self._refusal)
        self._hang_up(_NORMAL)

    def _concede(self, now: float, now_ns: int) -> None:
        self._evictions += 1
        self._begin_outage(now, now_ns)
        self._cooling_until = self._not_before = now + self._policy.cool_down_s
        self._tell(Evicted(cool_down_s=self._policy.cool_down_s))
        self._hang_up(_NORMAL)

    def _blame(self, status: str, message: str) -> None:
        """A refusal names no topic: it is the reason for whatever now stays unanswered."""
        if status == "error":
            for request in self._requests:
                request.refusal = message
        remark = VendorStatus(status=status, message=message)
        if remark not in self._remarks and len(self._remarks) < _REMARKS:
            self._remarks.add(remark)
            self._output.append(remark)

    def _clean(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text

    # private, the topics

    def _reconcile(self, now: float) -> None:
        gone = sorted(self._carried - self._wanted)
        for chunk in _chunks(gone, self._policy.chunk_topics):
            self._output.append(SendText(unsubscribe_frame(chunk)))
        self._carried.difference_update(gone)
        for topic in gone:
            self._doubtful.pop(topic, None)
        self._subscribe(sorted(self._wanted - self._carried), now)

    def _subscribe(self, topics: Iterable[Topic], now: float) -> None:
        deadline = now + self._policy.ack_timeout_s
        for chunk in _chunks(topics, self._policy.chunk_topics):
            request = _Request(chunk, deadline)
            self._requests.append(request)
            self._carried.update(chunk)
            self._doubtful.update(dict.fromkeys(chunk, request))
            self._timers.setdefault(self._run_out, deadline)
            self._output.append(SendText(subscribe_frame(chunk)))

    def _carry(self, topics: set[Topic], now: float, now_ns: int) -> None:
        """The vendor carries these, by its word or by their first event."""
        if not topics:
            return
        for topic in topics:
            del self._doubtful[topic]
            self._failed.pop(topic, None)
        self._output.append(TopicsLive(topics=frozenset(topics)))
        self._held -= topics
        self._settle_gap(now, now_ns)

    def _run_out(self, now: float, now_ns: int) -> None:
        """Fail what was asked for too long ago."""
        while self._requests and self._requests[0].deadline <= now:
            request = self._requests.popleft()
            self._fail(
                [topic for topic in request.topics if self._doubtful.get(topic) is request],
                request.refusal or "the vendor did not acknowledge the subscription",
            )
        if self._requests:
            self._timers[self._run_out] = self._requests[0].deadline
        if self._failed:
            self._timers.setdefault(self._try_again, now + self._policy.retry_topics_s)
        self._settle_gap(now, now_ns)

    def _fail(self, topics: Iterable[Topic], reason: str) -> None:
        fresh: list[Topic] = []
        for topic in topics:
            self._doubtful[topic] = None
            self._held.discard(topic)
            if topic not in self._failed:
                fresh.append(topic)
                self._failed[topic] = reason
        if fresh:
            self._output.append(TopicsFailed(topics=frozenset(fresh), reason=reason))

    def _fail_all(self, reason: str) -> None:
        fresh = self._wanted.difference(self._failed)
        if fresh:
            self._failed.update(dict.fromkeys(fresh, reason))
            self._output.append(TopicsFailed(topics=fresh, reason=reason))

    def _try_again(self, now: float, _now_ns: int) -> None:
        """Ask once more for the topics that failed longest ago."""
        failed = list(islice(self._failed.items(), self._policy.chunk_topics))
        for topic, reason in failed:
            del self._failed[topic]
            self._failed[topic] = reason  # to the end of the line
        self._subscribe([topic for topic, _ in failed], now)

    def _settle_gap(self, _now: float, now_ns: int) -> None:
        """End the outage when every topic it waits for has an answer."""
        if self._gap_start_ns is not None and self._state is State.LIVE and not self._held:
            start_ns, self._gap_start_ns = self._gap_start_ns, None
            self._trouble = None
            self._output.append(Restored(gap_start_ns=start_ns, gap_end_ns=now_ns))


def _backoff(base_s: float, cap_s: float, random: Callable[[], float]) -> Backoff:
    return Backoff(base_s, max(base_s, cap_s), first_immediate=True, random=random)


def _chunks(topics: Iterable[Topic], size: int) -> Iterator[Sequence[Topic]]:
    rest = iter(topics)
    while chunk := list(islice(rest, size)):
        yield chunk
