"""One client's socket, seen from the gateway: the vendor's own dialogue, with manners.

    Session ── who is there, for how long, is it alive ── the same on every path
       └─ Visit, at a Desk ── what it reads there: `topic_session`, `market_session`

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

from onetape.clock import Clock
from onetape.errors import (
    AuthTimeout,
    FrameTooLarge,
    InvalidFrame,
    OnetapeError,
    SessionExpired,
    ShuttingDown,
    StreamClosed,
    TokenInvalid,
    TokenMissing,
    UnknownAction,
)
from onetape.gateway import replies
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import Sink
from onetape.massive.wire_stream import (
    Action,
    array,
    parse_action,
    parse_params,
    status_event,
    status_frame,
)
from onetape.model import ClientId


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


class Account(NamedTuple):
    """What a client got at a desk, for the log."""

    topics: int = 0  # the most it read at a time
    events: int = 0
    bytes_out: int = 0
    conflated: int = 0


class Visit(Protocol):
    """One client at a desk, from its login to its end."""

    @property
    def is_congested(self) -> bool:
        """Whether the socket takes no more for now."""
        ...

    def act(self, action: Action, principal: Principal) -> None:
        """Do one of the desk's actions.

        Raises:
            OnetapeError: the whole of it is refused; the client is told, and stays.
        """
        ...

    def say(self, event: bytes) -> None:
        """Send one status event, behind whatever was delivered before it."""
        ...

    def pause(self) -> None:
        """The socket is full."""
        ...

    def resume(self) -> None:
        """The socket takes more."""
        ...

    def leave(self) -> Account:
        """Release everything."""
        ...


class Desk(Protocol):
    """What clients come for: one asset class's topics, or the market's view."""

    @property
    def name(self) -> str:
        """What logs and metrics call it, and its path ends in."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """What a client may ask of it."""
        ...

    def check(self, principal: Principal) -> None:
        """Let a client come this far.

        Raises:
            NotEntitled: nothing here is for this credential.
        """
        ...

    def enter(self, client: ClientId, sink: Sink) -> Visit:
        """Take a client in."""
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
        "_desk",
        "_heard_at",
        "_house",
        "_opened_at",
        "_peer",
        "_pinged_at",
        "_policy",
        "_visit",
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
        desk: Desk,
        wire: Wire,
        house: House,
        peer: str,
        principal: Principal | None = None,
    ) -> None:
        self.client = client
        self.principal = principal
        self.is_over = False
        self._desk = desk
        self._wire = wire
        self._house = house
        self._clock = house.clock
        self._policy = house.policy
        self._peer = peer
        self._visit: Visit | None = None
        self._opened_at = self._heard_at = self._pinged_at = house.clock.monotonic()
        self._warned = False

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
        if self._visit is not None:
            self._visit.pause()

    def resume(self) -> None:
        """The socket takes more."""
        if self._visit is not None:
            self._visit.resume()

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

    # the desk's sink

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
            case "ping":
                self._say(status_event("pong", "pong"))
            case asked if asked in self._desk.actions:
                if self._visit is None or self.principal is None:
                    raise TokenMissing("authenticate first")
                self._visit.act(action, self.principal)
            case other:
                known = ", ".join(("auth", *self._desk.actions, "ping"))
                raise UnknownAction(f"unknown action {other[:40]!r}; there are {known}")

    def _auth(self, action: Action) -> None:
        try:
            if not isinstance(action.params, str):
                raise InvalidFrame("auth takes the key or token as `params`, a string")
            principal = self._house.auth.identify(action.params, peer=self._peer)
            self._desk.check(principal)
            if self.principal is not None and principal.key_id != self.principal.key_id:
                raise TokenInvalid("an open session is renewed with a token of the same key")
        except OnetapeError as error:
            if self._visit is not None:
                raise
            self._wire.write(replies.auth_failed_frame(error))
            self._wire.close(replies.close_code(error), error.code)
            self._finish(error.code)
            return
        if self._visit is None:
            self._enter(principal)
            return
        self.principal, self._warned = principal, False
        self._say(status_event("auth_success", "authenticated"))

    def _enter(self, principal: Principal) -> None:
        self.principal = principal
        self._wire.write(status_frame("auth_success", "authenticated"))
        self._visit = self._desk.enter(self.client, self)

    def _tell(self, error: OnetapeError) -> None:
        if isinstance(error, TokenMissing):
            self._say(status_event("auth_required", str(error), code=error.code))
        else:
            self._say(replies.status_event(error))

    def _say(self, event: bytes) -> None:
        if self._visit is not None:
            self._visit.say(event)
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
            # A full socket holds the ping back too: that is the desk's to judge.
            self._visit is not None and self._visit.is_congested
        ):
            self.end(StreamClosed("no sign of life from the client"))

    def _finish(self, code: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        visit, self._visit = self._visit, None
        account = Account() if visit is None else visit.leave()
        self._house.on_end(
            self,
            SessionEnd(
                client=self.client,
                asset=self._desk.name,
                peer=self._peer,
                key_id=self.principal.key_id if self.principal is not None else None,
                code=code,
                duration_s=self._clock.monotonic() - self._opened_at,
                topics=account.topics,
                events=account.events,
                bytes_out=account.bytes_out,
                conflated=account.conflated,
            ),
        )


def named(action: Action, example: str) -> list[str]:
    """Return what an action names.

    Raises:
        InvalidFrame: nothing.
    """
    names = parse_params(action.params)
    if not names:
        raise InvalidFrame(f"{action.action} takes topics as `params`, like {example}")
    return names
