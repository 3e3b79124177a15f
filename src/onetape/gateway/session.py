"""One client's socket, seen from the gateway: the vendor's own dialogue, with manners.

    greet ──auth──▶ live ──────────────▶ over
      │              ▲ └─ auth again: renewed in place
      └─ 5 s, or a bad credential ─────▶ over

Sans-I/O: time comes in as an argument or from the clock, the socket is a `Wire` of
four verbs. The vendor leaves a client to guess; here every fault is a status frame
with a code, and the session survives wherever the vendor's would. A session whose
credential is revoked, or runs out without being renewed, is closed 4401.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from onetape import symbols
from onetape.clock import Clock
from onetape.errors import (
    AuthTimeout,
    FrameTooLarge,
    InvalidFrame,
    NotEntitled,
    OnetapeError,
    SessionExpired,
    ShuttingDown,
    StreamClosed,
    TokenInvalid,
    TokenMissing,
    TooManyTopics,
    UnknownAction,
)
from onetape.gateway import replies
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import MassiveHub, Reader
from onetape.massive.wire_stream import (
    Action,
    array,
    parse_action,
    parse_params,
    status_event,
    status_frame,
)
from onetape.model import ClientId, Topic


class Wire(Protocol):
    """The socket under a session."""

    def write(self, frame: bytes) -> None:
        """Send one text frame."""
        ...

    def ping(self) -> None:
        """Ask for a sign of life."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close after what was written; cut if the client does not take it."""
        ...


class SessionPolicy(NamedTuple):
    """How long a session waits, and how much it takes."""

    auth_timeout_s: float = 5.0
    ping_interval_s: float = 30.0
    pong_deadline_s: float = 10.0
    expiry_warning_s: float = 60.0
    expiry_grace_s: float = 10.0
    max_frame_bytes: int = 262_144
    max_topics: int = 5_000


class SessionEnd(NamedTuple):
    """What the canonical log line says of a session."""

    client: ClientId
    asset: str
    peer: str
    key_id: str | None
    code: str
    duration_s: float
    topics: int
    events: int
    bytes_out: int
    conflated: int


class Doorkeeper(Protocol):
    """What a session asks of `gateway.auth`."""

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        """Say who this is.

        Raises:
            Unauthorized, Throttled: with the reason.
        """
        ...


class House(NamedTuple):
    """What all sessions of a gateway share."""

    auth: Doorkeeper
    clock: Clock
    on_end: Callable[["Session", SessionEnd], None]
    policy: SessionPolicy = SessionPolicy()


_NS = 1_000_000_000


class Session:
    """The dialogue with one client, from the greeting to the end."""

    __slots__ = (
        "_clock",
        "_heard_at",
        "_house",
        "_hub",
        "_opened_at",
        "_peer",
        "_pinged_at",
        "_policy",
        "_reader",
        "_topics_most",
        "_warned",
        "_wire",
        "client",
        "is_over",
        "principal",
    )

    def __init__(
        self,
        client: ClientId,
        *,
        hub: MassiveHub,
        wire: Wire,
        house: House,
        peer: str,
        principal: Principal | None = None,
    ) -> None:
        self.client = client
        self.principal = principal
        self.is_over = False
        self._hub = hub
        self._wire = wire
        self._house = house
        self._clock = house.clock
        self._policy = house.policy
        self._peer = peer
        self._reader: Reader | None = None
        self._opened_at = self._heard_at = self._pinged_at = house.clock.monotonic()
        self._warned = False
        self._topics_most = 0

    # receiving

    def opened(self) -> None:
        """Greet; a client that brought its credential along is let in at once."""
        self._wire.write(status_frame("connected", "Connected Successfully"))
        if self.principal is not None:
            self._enter(self.principal)

    def frame(self, data: bytes) -> None:
        """Answer one frame."""
        self.heard()
        if self.is_over:
            return
        try:
            if len(data) > self._policy.max_frame_bytes:
                raise FrameTooLarge(
                    f"a frame of more than {self._policy.max_frame_bytes} bytes is not read;"
                    " send the topics in several"
                )
            self._act(parse_action(data))
        except OnetapeError as error:
            self._tell(error)

    def heard(self) -> None:
        """Note a sign of life: any frame is one."""
        self._heard_at = self._clock.monotonic()

    def pause(self) -> None:
        """The socket is full."""
        if self._reader is not None:
            self._reader.pause()

    def resume(self) -> None:
        """The socket takes more."""
        if self._reader is not None:
            self._reader.resume()

    def lost(self) -> None:
        """The socket is gone, whoever closed it."""
        self._finish("client_left")

    # time

    def tick(self) -> None:
        """Enforce the deadlines; call about once a second."""
        now = self._clock.monotonic()
        if self.principal is None:
            if now - self._opened_at >= self._policy.auth_timeout_s:
                self.end(AuthTimeout("No authentication request received."))
            return
        if self.principal.expires_ns is not None:
            self._check_expiry(self.principal.expires_ns)
        if not self.is_over:
            self._check_life(now)

    def end(self, error: OnetapeError) -> None:
        """Tell the client why, close, and leave nothing behind."""
        if self.is_over:
            return
        self._wire.write(replies.status_frame(error))
        self._wire.close(replies.close_code(error), error.code)
        self._finish(error.code)

    def drain(self) -> None:
        """Ask the client to come back: the gateway restarts."""
        self.end(ShuttingDown("the gateway restarts; reconnect"))

    # the fan-out's sink

    def write(self, frame: bytes) -> None:
        """Send events."""
        self._wire.write(frame)

    def cut(self, error: OnetapeError) -> None:
        """End a session that cannot keep up."""
        self.end(error)

    # private

    def _act(self, action: Action) -> None:
        match action.action:
            case "auth":
                self._auth(action)
            case "subscribe" | "unsubscribe" if self._reader is None:
                raise TokenMissing("authenticate first")
            case "subscribe":
                self._subscribe(_named(action))
            case "unsubscribe":
                self._unsubscribe(_named(action))
            case "ping":
                self._say(status_event("pong", "pong"))
            case other:
                raise UnknownAction(
                    f"unknown action {other[:40]!r}; there are auth, subscribe, unsubscribe, ping"
                )

    def _auth(self, action: Action) -> None:
        try:
            if not isinstance(action.params, str):
                raise InvalidFrame("auth takes the key or token as `params`, a string")
            principal = self._house.auth.identify(action.params, peer=self._peer)
            if not principal.admits_asset(self._hub.asset):
                raise NotEntitled(f"this credential is not for {self._hub.asset}")
            if self.principal is not None and principal.key_id != self.principal.key_id:
                raise TokenInvalid("an open session is renewed with a token of the same key")
        except OnetapeError as error:
            if self._reader is not None:
                raise
            self._wire.write(replies.auth_failed_frame(error))
            self._wire.close(replies.close_code(error), error.code)
            self._finish(error.code)
            return
        if self._reader is None:
            self._enter(principal)
            return
        self.principal, self._warned = principal, False
        self._say(status_event("auth_success", "authenticated"))

    def _enter(self, principal: Principal) -> None:
        self.principal = principal
        self._wire.write(status_frame("auth_success", "authenticated"))
        self._reader = self._hub.join(self.client, self)

    def _subscribe(self, names: list[str]) -> None:
        reader, principal = self._reader, self.principal
        if reader is None or principal is None:
            return
        held = self._hub.topics(reader)
        room = self._policy.max_topics - len(held)
        topics: list[Topic] = []
        for name in names:
            try:
                topic = symbols.parse_topic(name, self._hub.asset).topic
                if topic in held:
                    continue
                if not principal.admits_topic(topic):
                    raise NotEntitled("not authorized")
                if len(topics) >= room:
                    raise TooManyTopics(f"a client holds at most {self._policy.max_topics} topics")
            except OnetapeError as error:
                self._tell(error, topic=Topic(name[:120]))
            else:
                topics.append(topic)
        refused = self._hub.subscribe(reader, topics)
        for topic, error in refused.items():
            self._tell(error, topic=topic)
        self._acknowledge("subscribed to: ", [t for t in topics if t not in refused])
        self._topics_most = max(self._topics_most, len(self._hub.topics(reader)))

    def _unsubscribe(self, names: list[str]) -> None:
        if self._reader is None:
            return
        topics: list[Topic] = []
        for name in names:
            try:
                topics.append(symbols.parse_topic(name, self._hub.asset).topic)
            except OnetapeError as error:
                self._tell(error, topic=Topic(name[:120]))
        self._hub.unsubscribe(self._reader, topics)
        self._acknowledge("unsubscribed to: ", topics)

    def _acknowledge(self, what: str, topics: list[Topic]) -> None:
        if self._reader is not None:
            for topic in topics:
                self._reader.pending.append(status_event("success", what + topic))
            self._reader.settle()

    def _tell(self, error: OnetapeError, *, topic: Topic | None = None) -> None:
        if isinstance(error, TokenMissing):
            self._say(status_event("auth_required", str(error), code=error.code))
        else:
            self._say(replies.status_event(error, topic=topic))

    def _say(self, event: bytes) -> None:
        if self._reader is not None:
            self._reader.say(event)
        else:
            self._wire.write(array([event]))

    def _check_expiry(self, expires_ns: int) -> None:
        left_s = (expires_ns - self._clock.now_ns()) / _NS
        if left_s <= -self._policy.expiry_grace_s:
            self.end(SessionExpired("the token ran out and was not renewed"))
        elif left_s <= self._policy.expiry_warning_s and not self._warned:
            self._warned = True
            self._say(
                status_event(
                    "auth_expiring",
                    "the token runs out; send auth with a new one",
                    expires_in_s=max(0, round(left_s)),
                )
            )

    def _check_life(self, now: float) -> None:
        if self._heard_at >= self._pinged_at:
            if now - self._pinged_at >= self._policy.ping_interval_s:
                self._pinged_at = now
                self._wire.ping()
        elif now - self._pinged_at >= self._policy.pong_deadline_s and not (
            # A full socket holds the ping back too: that is the outbox's to judge.
            self._reader is not None and self._reader.is_congested
        ):
            self.end(StreamClosed("no sign of life from the client"))

    def _finish(self, code: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        reader, self._reader = self._reader, None
        if reader is not None:
            self._hub.leave(reader)
        self._house.on_end(
            self,
            SessionEnd(
                client=self.client,
                asset=self._hub.asset,
                peer=self._peer,
                key_id=self.principal.key_id if self.principal is not None else None,
                code=code,
                duration_s=self._clock.monotonic() - self._opened_at,
                topics=self._topics_most,
                events=reader.events_out if reader is not None else 0,
                bytes_out=reader.bytes_out if reader is not None else 0,
                conflated=reader.conflated if reader is not None else 0,
            ),
        )


def _named(action: Action) -> list[str]:
    names = parse_params(action.params)
    if not names:
        raise InvalidFrame(f"{action.action} takes topics as `params`, like T.SPY,T.QQQ")
    return names
