"""One live stream as its client sees it: a socket to the gateway, and what it says.

    idle           nobody needs it
    down           waiting to dial again
    connecting
    connected      the socket is open; not logged in yet, or the gateway lost the vendor
    authenticated

The gateway acknowledges a topic as soon as it knows of it; whether the *vendor* carries
it is told only when it does not. So authenticated means: logged in, and no trouble told.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from onetape.clock import Clock
from onetape.massive import notices
from onetape.massive.notices import State
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import Batch, Status
from onetape.model import AssetClass, Bar, Quote, Topic, Trade

_WINDOW_S: Final = 10

Event = Quote | Trade | Bar


# what the owner is told


class EndpointUp(msgspec.Struct, frozen=True, kw_only=True, tag="endpoint_up"):
    """The gateway let us in; topics follow. After an outage: its bounds up to here.

    What happened in the gap was missed, and of each topic what happens until it is live.
    """

    asset: AssetClass
    gap_start_ns: int | None = None
    gap_end_ns: int | None = None


class EndpointDown(msgspec.Struct, frozen=True, kw_only=True, tag="endpoint_down"):
    """The socket is gone or cannot be made; told once per outage. Redialled for ever."""

    asset: AssetClass
    reason: str
    since_ns: int


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied"):
    """The gateway did not let us in: why. `EndpointDown` came before. Tried again slowly,
    and at once with a new token.
    """

    asset: AssetClass
    reason: str
    code: str | None = None


class UpstreamDown(msgspec.Struct, frozen=True, kw_only=True, tag="upstream_down"):
    """The gateway lost the vendor, or is refused by it; our socket stays."""

    asset: AssetClass
    reason: str
    since_ns: int


class UpstreamUp(msgspec.Struct, frozen=True, kw_only=True, tag="upstream_up"):
    """The gateway has the vendor back; what happened between the bounds was missed."""

    asset: AssetClass
    gap_start_ns: int | None
    gap_end_ns: int | None


class Evicted(msgspec.Struct, frozen=True, kw_only=True, tag="evicted"):
    """Another program took the gateway's vendor login; `UpstreamDown` came before."""

    asset: AssetClass
    retry_after_s: float | None


class TopicLive(msgspec.Struct, frozen=True, kw_only=True, tag="topic_live"):
    """These are carried."""

    asset: AssetClass
    topics: frozenset[Topic]


class TopicFailed(msgspec.Struct, frozen=True, kw_only=True, tag="topic_failed"):
    """These are not, and why; tried again, and told by `TopicLive` when they are."""

    asset: AssetClass
    topics: frozenset[Topic]
    reason: str


StreamNotice = (
    EndpointUp
    | EndpointDown
    | Denied
    | UpstreamDown
    | UpstreamUp
    | Evicted
    | TopicLive
    | TopicFailed
)


class TopicState(StrEnum):
    """What became of a wanted topic."""

    LIVE = "live"
    PENDING = "pending"
    FAILED = "failed"
    DOWN = "down"


class EndpointState(StrEnum):
    """Where an endpoint is; from the worst to the best, but for idle."""

    IDLE = "idle"
    DOWN = "down"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"


class EndpointHealth(NamedTuple):
    """How one endpoint fares. Counts are since the start; `messages` are market events."""

    asset: AssetClass
    state: EndpointState
    authenticated: bool  # logged in, and the gateway reports no trouble with the vendor
    upstream_up: bool  # False: the gateway says that it has no vendor for this class
    simulated: bool  # the vendor is a simulator
    topics_wanted: int
    topics_acked: int
    topics_failed: int
    last_message_ns: int | None  # any frame
    messages: int
    messages_per_s: float  # over the last ten seconds
    undecodable: int
    unmodelled: int  # events of channels without a model
    reconnects: int
    auth_failures: int
    lag_s: float | None  # of the last event: from the exchange's time to ours
    since_ns: int | None  # up, or else down, since then


def worst(states: Iterable[EndpointState]) -> EndpointState:
    """Return the state of the whole: that of its worst part; idle when all are."""
    order = list(EndpointState)
    busy = [state for state in states if state is not EndpointState.IDLE]
    return min(busy, key=order.index, default=EndpointState.IDLE)


class Endpoint:
    """One socket, and what the client makes of what it says."""

    def __init__(
        self,
        asset: AssetClass,
        *,
        clock: Clock,
        on_events: Callable[[AssetClass, list[Event]], None],
        on_state: Callable[[StreamNotice], None],
        on_refused: Callable[["Endpoint"], None],
        connect: Callable[["Endpoint"], MassiveWebSocket],
    ) -> None:
        self.asset = asset
        self.wanted: frozenset[Topic] = frozenset()
        self.generation = 0  # of the token shown last
        self._clock = clock
        self._on_events = on_events
        self._on_state = on_state
        self._on_refused = on_refused
        self._is_needed = False
        self._down_since_ns: int | None = None
        self._trouble: str | None = None  # what the gateway says of its upstream
        self._token_refused = False
        self._failures = 0  # refused logins, when a token was shown last
        self._rate = _Rate()
        self._messages = self._undecodable = self._unmodelled = 0
        self._lag_s: float | None = None
        self.socket = connect(self)

    # what is wanted

    def want(self, topics: frozenset[Topic], *, held: bool) -> None:
        if topics != self.wanted:
            self.wanted = topics
            self.socket.want(topics)
        is_needed = held or bool(topics)
        if is_needed is not self._is_needed:
            self._is_needed = is_needed
            if self._down_since_ns is not None and self.socket.state is State.IDLE:
                self._down_since_ns = self._clock.now_ns()  # nobody missed what came before
            (self.socket.activate if is_needed else self.socket.deactivate)()

    def show(self, generation: int) -> bool:
        """Note which token is shown; return whether it was already refused."""
        failures = self.socket.statistics().auth_failures
        again = self._token_refused and generation == self.generation
        refused = again and failures > self._failures
        self.generation, self._failures = generation, failures
        return refused

    # what the socket says

    def take(self, batch: Batch) -> None:
        """The hot path: one call for the events of a frame."""
        received_ns = self._clock.now_ns()
        events = batch.models(received_ns=received_ns, simulated=self.socket.simulated)
        if self.socket.delayed:  # nobody trades on these, so they may cost more
            events = [msgspec.structs.replace(event, delayed=True) for event in events]
        self._undecodable += batch.undecodable
        self._unmodelled += len(batch.wires) - len(events)
        if events:
            self._messages += len(events)
            self._rate.add(len(events), self._clock.monotonic())
            self._lag_s = events[-1].age_s(received_ns)
            self._on_events(self.asset, events)

    def hear(self, notice: notices.Notice) -> None:
        match notice:
            case notices.Authenticated():
                self._up()
            case notices.Lost(reason=reason, since_ns=since_ns):
                self._down(reason, since_ns)
            case notices.Evicted():
                self._down("another login took the connection", self._clock.now_ns())
            case notices.AuthFailed(message=message, code=code):
                self._down(message, self._clock.now_ns())
                self._on_state(Denied(asset=self.asset, reason=message, code=code))
                self._refused(code)
            case notices.TopicsLive(topics=topics):
                self._on_state(TopicLive(asset=self.asset, topics=topics))
            case notices.TopicsFailed(topics=topics, reason=reason):
                self._on_state(TopicFailed(asset=self.asset, topics=topics, reason=reason))
            case notices.PeerStatus(status=status):
                self._hear_peer(status)
            case _:
                pass

    # how it goes

    @property
    def state(self) -> EndpointState:
        state = _STATES[self.socket.state]
        if state is EndpointState.AUTHENTICATED and self._trouble is not None:
            return EndpointState.CONNECTED
        return state

    def topic_state(self, topic: Topic) -> TopicState:
        if self.socket.failure(topic) is not None:
            return TopicState.FAILED
        if self.socket.state is not State.LIVE or self._trouble is not None:
            return TopicState.DOWN
        return TopicState.LIVE if self.socket.carries(topic) else TopicState.PENDING

    def health(self) -> EndpointHealth:
        feed = self.socket.statistics()
        down_ns = self._down_since_ns
        return EndpointHealth(
            asset=self.asset,
            state=self.state,
            authenticated=self.state is EndpointState.AUTHENTICATED,
            upstream_up=self._trouble is None,
            simulated=self.socket.simulated,
            topics_wanted=feed.topics_wanted,
            topics_acked=feed.topics_acked,
            topics_failed=feed.topics_failed,
            last_message_ns=feed.last_frame_ns,
            messages=self._messages,
            messages_per_s=self._rate.per_s(self._clock.monotonic()),
            undecodable=self._undecodable,
            unmodelled=self._unmodelled,
            reconnects=feed.reconnects,
            auth_failures=feed.auth_failures,
            lag_s=self._lag_s,
            since_ns=feed.connected_since_ns if down_ns is None else down_ns,
        )

    # private

    def _up(self) -> None:
        start_ns, self._down_since_ns = self._down_since_ns, None
        self._trouble = None  # told anew with the first topic
        self._token_refused = False
        end_ns = None if start_ns is None else self._clock.now_ns()
        self._on_state(EndpointUp(asset=self.asset, gap_start_ns=start_ns, gap_end_ns=end_ns))

    def _down(self, reason: str, since_ns: int) -> None:
        self._trouble = None
        if self._down_since_ns is None:
            self._down_since_ns = since_ns
            self._on_state(EndpointDown(asset=self.asset, reason=reason, since_ns=since_ns))

    def _refused(self, code: str | None) -> None:
        self._token_refused = code is not None and code.startswith("token_")
        if self._token_refused:  # else another token would fare the same
            self._on_refused(self)

    def _hear_peer(self, status: Status) -> None:
        match status.status:
            case "upstream_restored":
                self._trouble = None
                gap = status.gap_start_ns, status.gap_end_ns
                self._on_state(UpstreamUp(asset=self.asset, gap_start_ns=gap[0], gap_end_ns=gap[1]))
            case "auth_expiring":
                self._on_refused(self)
            case "auth_failed":
                self._refused(status.code)
            case trouble:
                self._upstream_down(trouble, status)

    def _upstream_down(self, trouble: str, status: Status) -> None:
        was, self._trouble = self._trouble, trouble
        if was is None:
            since_ns = status.gap_start_ns or self._clock.now_ns()
            self._on_state(UpstreamDown(asset=self.asset, reason=status.message, since_ns=since_ns))
        if trouble == "upstream_evicted" and was != trouble:
            self._on_state(Evicted(asset=self.asset, retry_after_s=status.retry_after_s))


_STATES: Final[Mapping[State, EndpointState]] = {
    State.IDLE: EndpointState.IDLE,
    State.CONNECTING: EndpointState.CONNECTING,
    State.GREETING: EndpointState.CONNECTED,
    State.AUTHENTICATING: EndpointState.CONNECTED,
    State.LIVE: EndpointState.AUTHENTICATED,
    State.CLOSING: EndpointState.DOWN,
    State.BACKING_OFF: EndpointState.DOWN,
    State.COOLING: EndpointState.DOWN,
}


class _Rate:
    """Events per second over the last ten seconds, in one count for each."""

    def __init__(self) -> None:
        self._seconds = [-_WINDOW_S] * _WINDOW_S
        self._counts = [0] * _WINDOW_S
        self._since: float | None = None

    def add(self, events: int, now: float) -> None:
        if self._since is None:
            self._since = now
        second = int(now)
        place = second % _WINDOW_S
        if self._seconds[place] != second:
            self._seconds[place], self._counts[place] = second, 0
        self._counts[place] += events

    def per_s(self, now: float) -> float:
        if self._since is None:
            return 0.0
        oldest = int(now) - _WINDOW_S + 1
        counts = zip(self._seconds, self._counts, strict=True)
        events = sum(count for second, count in counts if second >= oldest)
        return events / max(1.0, now - max(self._since, float(oldest)))
