"""One upstream WebSocket as a machine: time and bytes in, effects and notices out.

                    opened           `connected`           `auth_success`
    ┌──────▶ CONNECTING ──▶ GREETING ──────────▶ AUTHENTICATING ──────────▶ LIVE
    │ Dial        │ closed     │ silence, closed     │ refused, closed       │ closed, evicted,
    │             ▼            ▼                     ▼                       ▼ no pong
    └─ BACKING_OFF or, after an eviction, COOLING ◀── CLOSING (we hung up; waits for closed)

    IDLE is where nobody needs the socket: the way out of every state after `deactivate`.

What the socket should carry is state, not a queue of commands: `want` replaces it,
and whatever happened before, a live connection is made to carry exactly that. What
becomes of each topic is in `topics`.

The machine never dials while an old connection is not known to be closed, never
subscribes before it is admitted, and does not dial at all during a cool-down: the
vendor evicts the older of two logins, so whoever fights an eviction never wins.
Every input about a connection names its generation; a late one is not heard.

The upstream may be a gateway. Then the credential is a token that runs out, and is
renewed on the live connection; and the gateway says how its own upstream fares, which
is passed on. A close of 4500 or more is a refusal: the same login would end the same.
"""

import random as stdlib_random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from onetape.core.recovery import Backoff
from onetape.errors import OnetapeError
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Connecting,
    Dial,
    Evicted,
    FeedPolicy,
    FeedStatistics,
    Garbled,
    Hangup,
    Lost,
    Output,
    PeerStatus,
    Ping,
    Restored,
    SendText,
    State,
    VendorStatus,
)
from onetape.massive.topics import Ledger
from onetape.massive.wire_stream import Batch, Split, Status, auth_frame, split
from onetape.model import Topic

_Timer = Callable[[float, int], None]
_NORMAL: Final = 1000
_SAMPLE: Final = 120
_REMARKS: Final = 32
_REFUSED: Final = 4500  # and above: the same session would end the same way
_CUTS: Final = {"slow_consumer", "force_disconnect", "auth_timeout"}
_OF_TOPICS: Final = {"error", "subscription_failed", "subscription_restored"}  # when one is named
_PEER: Final = {
    "upstream_disconnected",
    "upstream_restored",
    "upstream_evicted",
    "upstream_auth_failed",
    "auth_expiring",
}


class Feed:
    """The machine. One task calls it; nothing blocks, and outputs are drained by swap.

    `now` is seconds on the monotonic clock, `now_ns` nanoseconds UTC. Call `tick`
    when `wake_at` has come, and after every input. Frames are handed on as `read`
    gives them: taken apart into the vendor's bytes, or decoded.
    """

    def __init__(
        self,
        policy: FeedPolicy,
        *,
        credential: Callable[[], str],
        read: Callable[[bytes], Split | Batch] = split,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
    ) -> None:
        self._policy = policy
        self._credential = credential
        self._secrets: list[str] = []  # the last credentials, to keep them out of what we tell
        self._read_frame = read
        self._output: list[Output] = []
        self._timers: dict[_Timer, float] = {}
        self._state = State.IDLE
        self._active = False
        self._topics = Ledger(policy)
        self._doubtful = self._topics.doubtful  # looked at for each frame

        self._generation = 0
        self._link = 0  # the generation whose `closed` is still to come
        self._reading = 0  # the same, while we listen to it
        self._heard = False  # anything at all since the last ping
        self._live_since = 0.0
        self._complained = False  # of garbage, on this connection
        self._remarks: set[VendorStatus] = set()  # what it said, to say it once

        self._backoff = _backoff(policy.backoff_base_s, policy.backoff_cap_s, random)
        self._auth_backoff = _backoff(policy.auth_retry_s, policy.auth_retry_cap_s, random)
        self._not_before = self._cooling_until = float("-inf")
        self._refusal: AuthFailed | None = None  # why the last login failed
        self._hasten_from = float("-inf")  # a new credential may hasten the next from then on
        self._renewals = 0  # logins on the live connection that have no answer yet

        # An outage lasts from the first trouble to `Restored`, over any number of dials.
        self._trouble: type[Lost | AuthFailed | Evicted] | None = None
        self._gap_start_ns: int | None = None

        self._frames = self._events = self._bytes = self._garbled = 0
        self._frames_at_rest = 0
        self._reconnects = self._evictions = self._auth_failures = 0
        self._last_frame_ns: int | None = None
        self._connected_since_ns: int | None = None

    def __repr__(self) -> str:
        live, wanted = self._topics.live, len(self._topics.wanted)
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
        was_settled = self._topics.is_settled
        self._take(self._topics.want(topics, now))
        if self._topics.is_settled and not was_settled:
            self._timers[self._settle_gap] = now
        if self._state is not State.LIVE and self._refusal is not None and self._active:
            self._take(self._topics.deny(self._refusal.message))

    # the credential

    def renew(self) -> None:
        """Log in anew on the live connection; if that fails, the old login holds while it may."""
        if self._state is not State.LIVE:
            return
        try:
            credential = self._credential()
        except OnetapeError:
            return
        self._renewals += 1
        self._log_in_with(credential)

    def retry(self, now: float) -> None:
        """There is a new credential: after a refusal dial now, but once in `auth_retry_s`."""
        waiting = {State.CLOSING, State.BACKING_OFF, State.COOLING, State.IDLE}
        if self._refusal is None or self._state not in waiting or now < self._hasten_from:
            return
        self._hasten_from = now + self._policy.auth_retry_s
        self._not_before = max(now, self._cooling_until)
        if self._state is State.BACKING_OFF:
            self._settle(now)

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
        parts = self._read_frame(data)
        self._heard = True
        self._last_frame_ns = now_ns
        self._frames += 1
        self._events += len(parts[0])  # one topic or one decoded event for each
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
        if generation != self._link or not generation:  # 0: there never was one
            return
        if self._state is not State.CLOSING and code is not None and code >= _REFUSED:
            self._deny(reason or f"closed with {code}", reason or None, now, now_ns)
        elif self._state is not State.CLOSING:
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
        return self._topics.failed

    def failure(self, topic: Topic) -> str | None:
        """Return why a topic failed; None when it did not."""
        return self._topics.failure(topic)

    def carries(self, topic: Topic) -> bool:
        """Whether the topic is live."""
        return self._topics.carries(topic)

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
            topics_wanted=len(self._topics.wanted),
            topics_acked=self._topics.live,
            topics_failed=self._topics.failures,
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
        self._topics.close()
        self._renewals = 0
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
        self._topics.forget()
        self._frames_at_rest = self._frames

    def _recall_trouble(self, now: float, now_ns: int) -> None:
        """Tell who comes during a cool-down or after a refused login, why nothing happens."""
        if self._state is State.COOLING:
            self._begin_outage(now, now_ns)
            self._tell(Evicted(cool_down_s=self._cooling_until - now))
        elif self._state is State.BACKING_OFF and self._refusal is not None:
            self._begin_outage(now, now_ns)
            self._tell(self._refusal)
            self._take(self._topics.deny(self._refusal.message))

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

    def _read(self, parts: Split | Batch, now: float, now_ns: int) -> None:
        if parts.size:
            self._output.append(parts)
            if self._doubtful:
                self._settle_topics(self._topics.heard(parts.topics), now, now_ns)
        if parts.garbage:
            self._complain(parts.garbage)
        for status in parts.statuses:
            if self._reading:  # else one of them made us hang up
                clean = msgspec.structs.replace(status, message=self._clean(status.message))
                self._heed(clean, now, now_ns)

    def _complain(self, garbage: Sequence[bytes]) -> None:
        self._garbled += len(garbage)
        if not self._complained:
            self._complained = True
            head = self._clean(garbage[0].decode("latin-1"))[:_SAMPLE]
            sample = head.encode("unicode_escape").decode()[:_SAMPLE]
            self._output.append(Garbled(count=self._garbled, sample=sample))

    def _heed(self, status: Status, now: float, now_ns: int) -> None:
        match status.status:
            case "connected" | "success" if self._state is State.GREETING:
                self._log_in(now, now_ns)
            case "auth_success" if self._state is State.AUTHENTICATING:
                self._begin(now, now_ns)
            case "auth_success" | "auth_failed" if self._renewals:
                self._end_renewal(status)
            case "connected" | "auth_success":
                pass
            case "auth_failed":
                self._refuse(status.message, status.code, now, now_ns)
            case "max_connections":
                self._concede(now, now_ns)
            case word if word in _CUTS:
                self._drop(word, _NORMAL, now, now_ns)
            case word if word in _PEER:
                self._output.append(PeerStatus(status=status))
            case word if word == "success" or (status.topic and word in _OF_TOPICS):
                self._settle_topics(self._topics.heed(status, now), now, now_ns)
            case word:
                self._blame(word, status.message)

    def _end_renewal(self, status: Status) -> None:
        self._renewals -= 1
        if status.status == "auth_failed":
            self._output.append(PeerStatus(status=status))

    def _log_in(self, now: float, now_ns: int) -> None:
        try:
            credential = self._credential()
        except OnetapeError as error:
            self._refuse(str(error), error.code, now, now_ns)
            return
        self._enter(State.AUTHENTICATING)
        self._timers[self._lose_patience] = now + self._policy.auth_timeout_s
        self._log_in_with(credential)

    def _log_in_with(self, credential: str) -> None:
        self._secrets = [credential, *(old for old in self._secrets[:1] if old != credential)]
        self._output.append(SendText(auth_frame(credential)))

    def _begin(self, now: float, now_ns: int) -> None:
        self._enter(State.LIVE)
        self._live_since = now
        self._connected_since_ns = now_ns
        self._timers[self._ping] = now + self._policy.ping_interval_s
        self._auth_backoff.reset()
        if self._trouble is not None:
            self._reconnects += 1
        excuse, self._refusal = self._refusal, None
        self._output.append(Authenticated(topics=self._topics.wanted))
        asked = self._topics.open(now, excuse=None if excuse is None else excuse.message)
        self._settle_topics(asked, now, now_ns)

    def _refuse(self, message: str, code: str | None, now: float, now_ns: int) -> None:
        self._deny(message or "the login was refused", code, now, now_ns)
        self._hang_up(_NORMAL)

    def _deny(self, message: str, code: str | None, now: float, now_ns: int) -> None:
        self._auth_failures += 1
        self._refusal = AuthFailed(message=message, code=code)
        self._begin_outage(now, now_ns)
        self._not_before = now + self._policy.auth_retry_s + self._auth_backoff.next_delay()
        if self._trouble is not AuthFailed:
            self._tell(self._refusal)
        self._take(self._topics.deny(message))

    def _concede(self, now: float, now_ns: int) -> None:
        self._evictions += 1
        self._begin_outage(now, now_ns)
        self._cooling_until = self._not_before = now + self._policy.cool_down_s
        self._tell(Evicted(cool_down_s=self._policy.cool_down_s))
        self._hang_up(_NORMAL)

    def _blame(self, status: str, message: str) -> None:
        """A refusal names no topic: it is the reason for whatever now stays unanswered."""
        if status == "error":
            self._topics.blame(message)
        remark = VendorStatus(status=status, message=message)
        if remark not in self._remarks and len(self._remarks) < _REMARKS:
            self._remarks.add(remark)
            self._output.append(remark)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***") if secret else text
        return text

    # private, the topics

    def _take(self, outputs: Sequence[Output]) -> None:
        """Pass on what the ledger says, and wake when it wants."""
        self._output += outputs
        wake_at = self._topics.wake_at()
        if wake_at is None:
            self._timers.pop(self._tick_topics, None)
        else:
            self._timers[self._tick_topics] = wake_at

    def _settle_topics(self, outputs: Sequence[Output], now: float, now_ns: int) -> None:
        self._take(outputs)
        self._settle_gap(now, now_ns)

    def _tick_topics(self, now: float, now_ns: int) -> None:
        self._settle_topics(self._topics.tick(now), now, now_ns)

    def _settle_gap(self, _now: float, now_ns: int) -> None:
        """End the outage when every topic it waits for has an answer."""
        if self._gap_start_ns is None or self._state is not State.LIVE:
            return
        if self._topics.is_settled:
            start_ns, self._gap_start_ns = self._gap_start_ns, None
            self._trouble = None
            self._output.append(Restored(gap_start_ns=start_ns, gap_end_ns=now_ns))


def _backoff(base_s: float, cap_s: float, random: Callable[[], float]) -> Backoff:
    return Backoff(base_s, max(base_s, cap_s), first_immediate=True, random=random)
