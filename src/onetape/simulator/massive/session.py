"""The vendor's side of its WebSockets: who is logged in, who reads what, who is cut.

Sans-I/O: bytes and time come in, effects come out for the edge to carry out in
order. One machine holds all connections, because the vendor's limit is counted
over them: one per account and cluster, and the newest login takes the place of the
oldest.

    accept ─▶ OPEN ──auth, good key──▶ LOGGED IN ──▶ subscribe, unsubscribe, data
               │ [connected] at once        │
               ├─ auth, bad key or plan ──▶ [auth_failed], cut without a close frame
               ├─ nobody logs in ─────────▶ [auth_timeout], closed
               └─ subscribe ──────────────▶ [auth_required], stays
                                            ├─ another login ─────▶ [max_connections], 1008
                                            └─ does not keep up ──▶ [slow_consumer], 1008

What of this the vendor never confirmed is an option of `StreamPolicy`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

import msgspec

from onetape.errors import InvalidFrame, InvalidTopic
from onetape.massive.wire_stream import (
    CHANNELS,
    Action,
    pack,
    parse_action,
    parse_params,
    split_topic,
    status_event,
    status_frame,
)
from onetape.model import AssetClass, Topic
from onetape.simulator.effects import (
    Abort,
    Close,
    Effect,
    Freeze,
    Ping,
    Send,
    SessionId,
    Thaw,
)
from onetape.simulator.faults import (
    Close as CloseFault,
    CutSlow,
    Deny,
    Drop,
    Evict,
    Faults,
    Garbage,
    Mute,
    Refuse,
    RejectLogin,
    Stage,
    StreamActions,
    WithholdAck,
)
from onetape.simulator.massive.accounts import Account, Accounts, Tier
from onetape.simulator.massive.mangling import Event, Mangler, garbage

CONNECTED: Final = status_frame("connected", "Connected Successfully")
AUTH_SUCCESS: Final = status_frame("auth_success", "authenticated")
BAD_KEY: Final = status_frame("auth_failed", "authentication failed")
NO_SOCKET_IN_PLAN: Final = status_frame(
    "auth_failed",
    "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade.",
)
AUTH_TIMEOUT: Final = status_frame("auth_timeout", "No authentication request received.")
MAX_CONNECTIONS: Final = status_frame(
    "max_connections", "Maximum number of websocket connections exceeded. "
)
NOT_AUTHORIZED: Final = status_frame("error", "not authorized")
# The vendor's words for these are not known.
AUTH_REQUIRED: Final = status_frame("auth_required", "authenticate before you subscribe")
SLOW_CONSUMER: Final = status_frame("slow_consumer", "too far behind: connection closed")
NOT_READABLE: Final = status_frame("error", "not a JSON object with an action")
UNKNOWN_ACTION: Final = status_frame("error", "unknown action")

_POLICY_VIOLATION: Final = 1008
_ABNORMAL: Final = 1006
_CAPPED: Final = frozenset({"Q", "FMV"})


class StreamPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the vendor behaves where it may, or where nobody knows."""

    auth_timeout_s: float = 10.0
    evict: Literal["oldest", "newest"] = "oldest"
    evict_by: Literal["close", "abort"] = "close"
    combine_acks: bool = True
    max_option_quotes: int = 1000
    buffer_bytes: int = 4 << 20
    ping_interval_s: float = 30.0


class ClusterStatistics(NamedTuple):
    """What one cluster has seen."""

    connections_open: int
    connections_total: int
    logins: int
    logins_failed: int
    evictions: int
    slow_consumers: int
    events: int
    topics: tuple[Topic, ...]


class _Counts:
    def __init__(self) -> None:
        self.connections = self.logins = self.logins_failed = 0
        self.evictions = self.slow_consumers = self.events = 0


class _Session:
    """One connection, as the vendor sees it."""

    def __init__(self, session: SessionId, cluster: AssetClass, now: float) -> None:
        self.id = session
        self.cluster = cluster
        self.opened_at = self.pinged_at = now
        self.account: Account | None = None
        self.tier: Tier | None = None
        self.topics: set[Topic] = set()
        self.per_channel: Counter[str] = Counter()
        self.mangler = Mangler()
        self.muted_until: float | None = None
        self.frozen = False

    @property
    def tape(self) -> tuple[AssetClass, int]:
        """Whose events it reads: a cluster's, and how late."""
        return self.cluster, 0 if self.tier is None else self.tier.delay_ns


class VendorSockets:
    """All connections to one simulated vendor. One task owns it; nothing awaits.

    Every method that may have to say something returns effects. A connection that
    has been closed or aborted by an effect is forgotten at once; what still comes in
    for it is ignored.
    """

    def __init__(self, *, accounts: Accounts, policy: StreamPolicy, faults: Faults) -> None:
        self._accounts = accounts
        self._policy = policy
        self._faults = faults
        self._sessions: dict[SessionId, _Session] = {}
        # Logged-in sessions in order of login, so the first is the oldest.
        self._logins: dict[tuple[str, AssetClass], dict[SessionId, None]] = {}
        # Who reads what, apart for each delay, because each delay has its own tape.
        self._readers: dict[tuple[AssetClass, int], dict[Topic, dict[SessionId, None]]] = {}
        self._demand: dict[AssetClass, dict[int, frozenset[Topic]]] = {}
        self._counts = {cluster: _Counts() for cluster in AssetClass}
        self._out: list[Effect] = []

    # receiving

    def refuses(self, cluster: AssetClass, now: float) -> int | None:
        """Whether the upgrade fails, and with what HTTP status."""
        fault = self._faults.for_stream(Stage.UPGRADE, cluster, now)
        return fault.status if isinstance(fault, Refuse) else None

    def accept(self, session: SessionId, cluster: AssetClass, now: float) -> list[Effect]:
        """Greet a new connection."""
        new = self._sessions[session] = _Session(session, cluster, now)
        self._counts[cluster].connections += 1
        if self._survives(new, Stage.ACCEPT, now):
            self._say(new, CONNECTED)
            self._survives(new, Stage.GREETED, now)
        return self._drained()

    def receive(self, session: SessionId, frame: bytes, now: float) -> list[Effect]:
        """Read one client frame, text or binary alike."""
        known = self._sessions.get(session)
        if known is not None:
            try:
                action = parse_action(frame)
            except InvalidFrame:
                self._say(known, NOT_READABLE)
            else:
                self._obey(known, action, now)
        return self._drained()

    def written(self, session: SessionId, pending_bytes: int) -> list[Effect]:
        """Learn how much of what was sent still waits; too much cuts the client."""
        known = self._sessions.get(session)
        if known is not None and pending_bytes > self._policy.buffer_bytes:
            self._cut_slow(known)
        return self._drained()

    def lost(self, session: SessionId) -> None:
        """Forget a connection that ended, however it ended."""
        known = self._sessions.get(session)
        if known is not None:
            self._forget(known)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: logins that never came, silences that end, faults of live sockets."""
        for session in tuple(self._sessions.values()):
            self._unmute(session, now)
            self._ping(session, now)
            if session.account is not None:
                self._survives(session, Stage.LIVE, now)
            elif now - session.opened_at >= self._policy.auth_timeout_s:
                self._say(session, AUTH_TIMEOUT)
                self._close(session, _POLICY_VIOLATION)
        return self._drained()

    # sending

    def demand(self, cluster: AssetClass) -> Mapping[int, frozenset[Topic]]:
        """What must be published to the cluster, by how late; the same object until it changes."""
        if cluster not in self._demand:
            self._demand[cluster] = {
                delay_ns: frozenset(readers)
                for (of, delay_ns), readers in self._readers.items()
                if of is cluster and readers
            }
        return self._demand[cluster]

    def publish(
        self, cluster: AssetClass, delay_ns: int, events: Iterable[Event], now: float
    ) -> list[Effect]:
        """Hand the events of one step to whoever reads them."""
        readers = self._readers.get((cluster, delay_ns), {})
        batches: defaultdict[SessionId, list[Event]] = defaultdict(list)
        for event in events:
            for session in _readers_of(event.topic, readers):
                batches[session].append(event)
        for session, batch in batches.items():
            self._deliver(self._sessions[session], batch, now)
        return self._drained()

    def statistics(self) -> dict[AssetClass, ClusterStatistics]:
        """Count everything, per cluster."""
        open_now = dict.fromkeys(AssetClass, 0)
        for session in self._sessions.values():
            open_now[session.cluster] += 1
        return {
            cluster: ClusterStatistics(
                connections_open=open_now[cluster],
                connections_total=counts.connections,
                logins=counts.logins,
                logins_failed=counts.logins_failed,
                evictions=counts.evictions,
                slow_consumers=counts.slow_consumers,
                events=counts.events,
                topics=tuple(sorted(set[Topic]().union(*self.demand(cluster).values()))),
            )
            for cluster, counts in self._counts.items()
        }

    # actions of clients

    def _obey(self, session: _Session, action: Action, now: float) -> None:
        match action.action:
            case "auth":
                self._log_in(session, action, now)
            case "subscribe" | "unsubscribe" if session.tier is None:
                self._say(session, AUTH_REQUIRED)
            case "subscribe":
                self._subscribe(session, action, now)
            case "unsubscribe":
                self._unsubscribe(session, action)
            case _:
                self._say(session, UNKNOWN_ACTION)

    def _log_in(self, session: _Session, action: Action, now: float) -> None:
        if not self._survives(session, Stage.AUTH, now):
            return
        account = self._accounts.find(action.params) if isinstance(action.params, str) else None
        if account is None:
            self._refuse_login(session, BAD_KEY)
        elif not account.plan.admits_socket(session.cluster):
            self._refuse_login(session, NO_SOCKET_IN_PLAN)
        elif session.account is None:
            self._admit(session, account, now)
        elif session.account.name == account.name:
            self._say(session, AUTH_SUCCESS)
        else:
            self._refuse_login(session, BAD_KEY)

    def _admit(self, session: _Session, account: Account, now: float) -> None:
        logins = self._logins.setdefault((account.name, session.cluster), {})
        oldest = [self._sessions[one] for one in logins]
        session.account, session.tier = account, account.plan.tier(session.cluster)
        logins[session.id] = None
        self._counts[session.cluster].logins += 1
        excess = len(logins) - account.max_connections
        if excess > 0 and self._policy.evict == "oldest":
            for one in oldest[:excess]:
                self._evict(one)
        self._say(session, AUTH_SUCCESS)
        if excess > 0 and self._policy.evict == "newest":
            self._evict(session)
            return
        self._survives(session, Stage.AUTHENTICATED, now)

    def _subscribe(self, session: _Session, action: Action, now: float) -> None:
        fault = self._suffer(session, Stage.SUBSCRIBE, now)
        if session.id not in self._sessions:
            return
        answers: list[bytes] = []
        denied = False
        for topic, channel in self._asked(session, action):
            if not _entitled(session, channel) or (
                isinstance(fault, Deny) and fnmatchcase(topic, fault.topics)
            ):
                denied = True
            elif topic not in session.topics:
                answers += self._take_on(session, topic, channel, fault)
        if denied:
            self._say(session, NOT_AUTHORIZED)
        self._say_all(session, answers)
        if answers:
            self._survives(session, Stage.ACKED, now)

    def _take_on(
        self, session: _Session, topic: Topic, channel: str, fault: StreamActions | None
    ) -> Iterator[bytes]:
        """Carry one more topic, and yield what is said of it."""
        if reason := self._over_cap(session, channel, topic):
            yield status_event("error", reason)
        elif isinstance(fault, WithholdAck) and fnmatchcase(topic, fault.topics):
            if fault.carried:
                self._read(session, topic)
        else:
            self._read(session, topic)
            yield status_event("success", f"subscribed to: {topic}")

    def _unsubscribe(self, session: _Session, action: Action) -> None:
        # Whether the vendor acks a pair that was not subscribed is not known; an ack
        # leaves no client waiting.
        acks: list[bytes] = []
        for topic, _ in self._asked(session, action):
            self._stop_reading(session, topic)
            acks.append(status_event("success", f"unsubscribed to: {topic}"))
        self._say_all(session, acks)

    def _asked(self, session: _Session, action: Action) -> Iterator[tuple[Topic, str]]:
        """Yield the pairs that this cluster knows; the vendor is silent on all others."""
        for param in parse_params(action.params):
            try:
                channel, _ = split_topic(param)
            except InvalidTopic:
                continue
            if channel in CHANNELS[session.cluster]:
                yield Topic(param), channel

    def _over_cap(self, session: _Session, channel: str, topic: Topic) -> str | None:
        if session.cluster is not AssetClass.OPTIONS or channel not in _CAPPED:
            return None
        if topic.endswith(".*"):
            return f"all contracts of {channel} cannot be subscribed at once: {topic}"
        if session.per_channel[channel] >= self._policy.max_option_quotes:
            return f"more than {self._policy.max_option_quotes} contracts of {channel}: {topic}"
        return None

    # what happens to a session

    def _survives(self, session: _Session, stage: Stage, now: float) -> bool:
        """Suffer what the script has for this stage; False when the session is over."""
        self._suffer(session, stage, now)
        return session.id in self._sessions

    def _suffer(self, session: _Session, stage: Stage, now: float) -> StreamActions | None:
        fault = self._faults.for_stream(stage, session.cluster, now)
        match fault:
            case Drop() | CloseFault(code=1006):
                self._abort(session)
            case CloseFault(code=code, reason=reason):
                self._close(session, code, reason)
            case Mute():
                self._mute(session, fault, now)
            case Evict():
                self._evict(session)
            case CutSlow():
                self._cut_slow(session)
            case RejectLogin(reason=reason):
                self._refuse_login(session, BAD_KEY if reason == "key" else NO_SOCKET_IN_PLAN)
            case Garbage(kind=kind) if stage is not Stage.DATA:
                self._say(session, garbage(kind))
            case _:
                pass
        return fault

    def _deliver(self, session: _Session, batch: Sequence[Event], now: float) -> None:
        fault = self._suffer(session, Stage.DATA, now)
        if session.id not in self._sessions:
            return
        self._counts[session.cluster].events += len(batch)
        for frame in session.mangler.frames(batch, fault):
            self._say(session, frame)

    def _mute(self, session: _Session, fault: Mute, now: float) -> None:
        session.muted_until = float("inf") if fault.for_s is None else now + fault.for_s
        if not fault.pong and not session.frozen:
            session.frozen = True
            self._out.append(Freeze(session.id))

    def _unmute(self, session: _Session, now: float) -> None:
        if session.muted_until is not None and now >= session.muted_until:
            session.muted_until = None
            if session.frozen:
                session.frozen = False
                self._out.append(Thaw(session.id))

    def _ping(self, session: _Session, now: float) -> None:
        if now - session.pinged_at >= self._policy.ping_interval_s:
            session.pinged_at = now
            if session.muted_until is None:
                self._out.append(Ping(session.id))

    def _refuse_login(self, session: _Session, why: bytes) -> None:
        self._counts[session.cluster].logins_failed += 1
        self._say(session, why)
        self._abort(session)

    def _evict(self, session: _Session) -> None:
        self._counts[session.cluster].evictions += 1
        self._say(session, MAX_CONNECTIONS)
        if self._policy.evict_by == "close":
            self._close(session, _POLICY_VIOLATION)
        else:
            self._abort(session)

    def _cut_slow(self, session: _Session) -> None:
        self._counts[session.cluster].slow_consumers += 1
        self._say(session, SLOW_CONSUMER)
        self._close(session, _POLICY_VIOLATION)

    def _close(self, session: _Session, code: int, reason: str = "") -> None:
        if session.muted_until is not None:
            self._abort(session)  # a mute socket says no goodbye either
            return
        self._out.append(Close(session.id, code, reason))
        self._forget(session)

    def _abort(self, session: _Session) -> None:
        self._out.append(Abort(session.id))
        self._forget(session)

    def _forget(self, session: _Session) -> None:
        for topic in tuple(session.topics):
            self._stop_reading(session, topic)
        del self._sessions[session.id]
        if session.account is not None:
            key = (session.account.name, session.cluster)
            self._logins[key].pop(session.id, None)
            if not self._logins[key]:
                del self._logins[key]

    # who reads what

    def _read(self, session: _Session, topic: Topic) -> None:
        session.topics.add(topic)
        session.per_channel[_channel(topic)] += 1
        readers = self._readers.setdefault(session.tape, {})
        readers.setdefault(topic, {})[session.id] = None
        self._demand.pop(session.cluster, None)

    def _stop_reading(self, session: _Session, topic: Topic) -> None:
        if topic not in session.topics:
            return
        session.topics.remove(topic)
        session.per_channel[_channel(topic)] -= 1
        readers = self._readers[session.tape]
        del readers[topic][session.id]
        if not readers[topic]:
            del readers[topic]
        self._demand.pop(session.cluster, None)

    # output

    def _say(self, session: _Session, frame: bytes) -> None:
        if session.muted_until is None:
            self._out.append(Send(session.id, frame))

    def _say_all(self, session: _Session, events: Sequence[bytes]) -> None:
        frames = (
            pack(events) if self._policy.combine_acks else [b"[{" + one + b"}]" for one in events]
        )
        for frame in frames:
            self._say(session, frame)

    def _drained(self) -> list[Effect]:
        effects, self._out = self._out, []
        return effects


def _channel(topic: Topic) -> str:
    return topic[: topic.index(".")]


def _entitled(session: _Session, channel: str) -> bool:
    return session.tier is not None and session.tier.admits_channel(channel)


def _readers_of(topic: Topic, readers: dict[Topic, dict[SessionId, None]]) -> Iterable[SessionId]:
    """Who gets an event; one who asked for both the topic and all of it gets it once."""
    named = readers.get(topic)
    everything = readers.get(Topic(_channel(topic) + ".*"))
    if named and everything:
        return named | everything
    return named or everything or ()
