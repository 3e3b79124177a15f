"""The edge between picows and a session, and the door clients' sockets come in by.

Two doors to the same dialogue:

- `/options`, `/indices`, `/stocks`: the vendor's own; the credential comes in band,
  as official clients send it.
- `/ws/options` …, `/ws/market`: ours; the credential may come with the upgrade, as subprotocol
  (`onetape.v1` and `onetape.token.<token>`), as `Authorization: Bearer`, or in the
  deprecated `?token=`; or else in the first frame. A bad one is refused with HTTP 403
  before any frame.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, cast
from urllib.parse import parse_qs

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from onetape.asgi import Upgrade, refuse
from onetape.clock import Clock
from onetape.errors import (
    NotEntitled,
    NotFound,
    OnetapeError,
    ShuttingDown,
    Throttled,
    TokenInvalid,
)
from onetape.gateway import replies
from onetape.gateway.auth import Principal
from onetape.gateway.callers import Callers
from onetape.gateway.fanout import MassiveHub
from onetape.gateway.session import Desk, Doorkeeper, House, Session, SessionEnd, SessionPolicy
from onetape.gateway.topic_session import TopicDesk
from onetape.model import AssetClass, ClientId

SUBPROTOCOL: Final = "onetape.v1"
TOKEN_PROTOCOL: Final = "onetape.token."  # noqa: S105 - a prefix, not a secret
_ABORT_AFTER_S: Final = 2.0
_QUERY_TOKEN_AGE_NS: Final = 60_000_000_000


class SessionSocket(WSListener):
    """One client's socket; knows frames, not what they mean."""

    def __init__(self, frame_bytes: int) -> None:
        self.session: Session | None = None
        self._frame_bytes = frame_bytes
        self._transport: WSTransport | None = None
        self._parts: bytearray | None = None  # of a fragmented message

    # picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self._transport = transport
        if self.session is not None:
            self.session.opened()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a message on; answer a close."""
        if self.session is None:
            return
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                message = self._joined(frame)
                if message is not None:
                    self.session.frame(message)
            case WSMsgType.CLOSE:
                if not transport.is_close_frame_sent:
                    transport.send_close(WSCloseCode.OK)
                transport.disconnect()
            case _:
                self.session.heard()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the session, which then forgets the socket."""
        session, self.session = self.session, None
        if session is not None:
            session.lost()

    def pause_writing(self) -> None:
        """The transport's buffer is over its high water mark."""
        if self.session is not None:
            self.session.pause()

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        if self.session is not None:
            self.session.resume()

    # the session calls

    def write(self, frame: bytes) -> None:
        """Send one text frame."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, frame)

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._transport is not None:
            self._transport.send_ping()

    def close(self, code: int, reason: str) -> None:
        """Close; a client that does not read it is cut."""
        transport, self._transport = self._transport, None
        if transport is None or transport.is_close_frame_sent:
            return
        transport.send_close(cast("WSCloseCode", code), reason.encode()[:120])
        transport.disconnect()
        asyncio.get_running_loop().call_later(_ABORT_AFTER_S, _abort, transport)

    def _joined(self, frame: WSFrame) -> bytes | None:
        """Put a fragmented message together, as far as a session would read it."""
        data = frame.get_payload_as_bytes()
        if frame.fin and self._parts is None:
            return data
        parts = self._parts = bytearray() if self._parts is None else self._parts
        if len(parts) <= self._frame_bytes:  # one byte too many is enough to refuse it
            parts += data
        if not frame.fin:
            return None
        self._parts = None
        return bytes(parts)


def _abort(transport: WSTransport) -> None:
    if not transport.is_disconnected:
        transport.disconnect(graceful=False)


class DoorPolicy(NamedTuple):
    """Who may come in, and how many."""

    max_clients: int = 2_000
    web_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    simulated: bool = False  # the vendor is: every upgrade says so
    delayed: bool = False  # its data are: the same
    session: SessionPolicy = SessionPolicy()


class Door:
    """Admits WebSocket clients and keeps track of their sessions.

    Args:
        hubs: What has both doors, by asset class.
        desks: What has ours only, at `/ws/<name>`.
        auth: Who knows the credentials.
        clock: The time.
        policy: Who may come in.
        on_end: Hears of each session that ended.
        on_query_token: Hears of each token that came in a URL.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        hubs: Mapping[AssetClass, MassiveHub],
        *,
        desks: Iterable[Desk] = (),
        auth: Doorkeeper,
        clock: Clock,
        policy: DoorPolicy,
        on_end: Callable[[SessionEnd], None],
        on_query_token: Callable[[], None] = lambda: None,
    ) -> None:
        max_topics = policy.session.max_topics
        vendors = [TopicDesk(hub, max_topics=max_topics) for hub in hubs.values()]
        self._paths: dict[str, tuple[Desk, bool]] = {
            **{f"/{desk.name}": (desk, False) for desk in vendors},
            **{f"/ws/{desk.name}": (desk, True) for desk in (*vendors, *desks)},
        }
        self._auth = auth
        self._clock = clock
        self._policy = policy
        self._house = House(auth, clock, self._ended, policy.session)
        self._on_end = on_end
        self._on_query_token = on_query_token
        self._sessions: dict[ClientId, Session] = {}
        self._admitted = 0
        self._callers = Callers(policy.trusted_proxies)
        self._query_tokens: dict[str, int] = {}  # token ids used so, until they expire
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def route(self, request: WSUpgradeRequest, peer: str) -> Upgrade:
        """Admit an upgrade, or answer it with an HTTP error. Never raises."""
        try:
            return self._admit(request, peer)
        except Exception as error:  # noqa: BLE001 - picows would print it to the client
            reply = replies.http_reply(error, replies.new_request_id())
            headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
            return refuse(reply.status, reply.body, headers)

    def tick(self) -> None:
        """Let every session check its deadlines; call once a second."""
        for session in self:
            session.tick()
        if self._query_tokens:
            now_ns = self._clock.now_ns()
            self._query_tokens = {t: e for t, e in self._query_tokens.items() if e > now_ns}

    def recheck(self, why_not: Callable[[Principal], OnetapeError | None]) -> None:
        """End every session whose credential is good no more."""
        for session in self:
            if session.principal is not None:
                error = why_not(session.principal)
                if error is not None:
                    session.end(error)

    def drain(self) -> None:
        """Let nobody in, and ask everybody to come back later."""
        self._is_draining = True
        for session in self:
            session.drain()

    # private

    def _admit(self, request: WSUpgradeRequest, peer: str) -> Upgrade:
        path, _, query = request.path.decode("latin-1").partition("?")
        desk, is_ours = self._paths.get(path, (None, False))
        if desk is None:
            raise NotFound(f"there is no WebSocket here; there are {', '.join(self._paths)}")
        self._check_room()
        self._check_origin(request)
        peer = self._callers.peer_behind(
            peer, ",".join(request.headers.getall("x-forwarded-for", []))
        )
        principal, response = None, WSUpgradeResponse.create_101_response()
        if self._policy.simulated:
            response.headers["X-Onetape-Simulated"] = "true"
        if self._policy.delayed:
            response.headers["X-Onetape-Delayed"] = "true"
        if is_ours:
            offered = [
                name.strip()
                for name in request.headers.get("sec-websocket-protocol", "").split(",")
            ]
            if SUBPROTOCOL in offered:
                response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
            principal = self._principal(request, offered, query, peer)
            if principal is not None:
                desk.check(principal)
        return WSUpgradeResponseWithListener(response, self._session(desk, principal, peer))

    def _session(self, desk: Desk, principal: Principal | None, peer: str) -> SessionSocket:
        self._admitted += 1
        client = ClientId(f"c{self._admitted}")
        socket = SessionSocket(self._policy.session.max_frame_bytes)
        socket.session = self._sessions[client] = Session(
            client,
            desk=desk,
            wire=socket,
            house=self._house,
            peer=peer,
            principal=principal,
        )
        return socket

    def _ended(self, session: Session, end: SessionEnd) -> None:
        self._sessions.pop(session.client, None)
        self._on_end(end)

    def _principal(
        self, request: WSUpgradeRequest, offered: list[str], query: str, peer: str
    ) -> Principal | None:
        for name in offered:
            if name.startswith(TOKEN_PROTOCOL):
                return self._auth.identify(name.removeprefix(TOKEN_PROTOCOL), peer=peer)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and bearer:
            return self._auth.identify(bearer.strip(), peer=peer)
        if "token=" in query:
            return self._query_principal(parse_qs(query).get("token", [""])[0], peer)
        return None

    def _query_principal(self, token: str, peer: str) -> Principal:
        """Let a token in the URL in, once and while fresh: URLs end up in logs."""
        principal = self._auth.identify(token, peer=peer)
        token_id, now_ns = principal.token_id, self._clock.now_ns()
        if token_id is None or principal.expires_ns is None or principal.issued_ns is None:
            raise TokenInvalid("only a short-lived token may come in the URL")
        if now_ns - principal.issued_ns > _QUERY_TOKEN_AGE_NS:
            raise TokenInvalid("a token in the URL is good for 60 s after it was minted")
        if token_id in self._query_tokens:
            raise TokenInvalid("a token in the URL is good for one socket")
        self._query_tokens[token_id] = principal.expires_ns
        self._on_query_token()
        return principal

    def _check_room(self) -> None:
        if self._is_draining:
            raise ShuttingDown("the gateway restarts; reconnect", retry_after_s=1)
        if len(self._sessions) >= self._policy.max_clients:
            raise Throttled(f"all {self._policy.max_clients} places are taken", retry_after_s=5)

    def _check_origin(self, request: WSUpgradeRequest) -> None:
        origin = request.headers.get("origin")
        if origin is None or origin.lower() in self._policy.web_origins:
            return
        # A page of the gateway's own is at home wherever the gateway is reached.
        if origin.partition("://")[2] == request.headers.get("host"):
            return
        raise NotEntitled("pages of this origin may not connect; see WEB_ORIGIN")
