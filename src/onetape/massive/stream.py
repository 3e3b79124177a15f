"""The edge of one upstream WebSocket: a socket, a timer, and nothing clever.

`MassiveWebSocket` does what the `Feed` says and reports to it what happens. Frames
are handed on in the read callback: nothing waits between the socket and `on_split`.
One task, `run`, owns the timer and a child task for the connection; leaving it means
that the socket is closed.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohappyeyeballs import (
    start_connection,  # pyright: ignore[reportUnknownVariableType] - a bare tuple in it
)
from picows import (
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSProtocolError,
    WSTransport,
    ws_connect,  # pyright: ignore[reportUnknownVariableType] - its **kwargs
)

from onetape.clock import Clock
from onetape.errors import ConfigInvalid
from onetape.massive.feed import Feed
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Dial,
    Evicted,
    FeedPolicy,
    FeedStatistics,
    Garbled,
    Hangup,
    Lost,
    Notice,
    Output,
    PeerStatus,
    Ping,
    SendText,
    State,
    TopicsFailed,
    TopicsLive,
    VendorStatus,
)
from onetape.massive.wire_stream import Batch, Split, read, split
from onetape.model import AssetClass, Topic

logger: Final = logging.getLogger("onetape.massive.stream")

_HAPPY_EYEBALLS_S: Final = 0.25
_TURN_S: Final = 0.001
_SIMULATED: Final = "X-Onetape-Simulated"
_DELAYED: Final = "X-Onetape-Delayed"
_T = TypeVar("_T")


class MassiveWebSocket:
    """One socket of one asset class, kept up for as long as somebody needs it.

    Methods are called from the event loop's thread. The callbacks are called in order,
    and not within themselves; what they raise is logged and goes no further. Frames
    come as the vendor's bytes to `on_split`, or decoded to `on_batch` if that is given.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        url: str,
        asset: AssetClass,
        credential: Callable[[], str],
        clock: Clock,
        policy: FeedPolicy,
        on_notice: Callable[[Notice], None],
        on_split: Callable[[Split], None] | None = None,
        on_batch: Callable[[Batch], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ConfigInvalid(f"not a ws:// or wss:// address for {asset}")
        self._url = url
        # Made here and once: it reads the host's certificates from the disk.
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "wss" else None
        self._asset = asset
        self._clock = clock
        self._policy = policy
        self._on_split = on_split or _ignore
        self._on_batch = on_batch or _ignore
        self._on_notice = on_notice
        self._feed = Feed(policy, credential=credential, read=read if on_batch else split)
        self._is_simulated = False
        self._is_delayed = self._is_always_delayed = is_delayed(url)
        self._connection: _Connection | None = None
        self._dials: list[int] = []  # generations `run` has to connect
        self._dialled = 0  # the last of them
        self._poke = asyncio.Event()  # `run` has to look again
        self._draining = False
        self._ailing = False  # a callback raised, and that was logged

    def __repr__(self) -> str:
        return f"<MassiveWebSocket {self._asset} {self._feed!r}>"

    # what is wanted

    def activate(self) -> None:
        """Somebody needs the socket: connect, and stay connected."""
        self._feed.activate(self._clock.monotonic(), self._clock.now_ns())
        self.pump()

    def deactivate(self) -> None:
        """Nobody does: close it after the policy's grace."""
        self._feed.deactivate(self._clock.monotonic())
        self.pump()

    def want(self, topics: frozenset[Topic]) -> None:
        """Carry exactly these from now on, over every reconnect."""
        self._feed.want(topics, self._clock.monotonic())
        self.pump()

    def renew(self) -> None:
        """The credential was renewed: log in anew on the live connection."""
        self._feed.renew()
        self.pump()

    def retry(self) -> None:
        """There is a new credential: after a refused login dial now rather than later."""
        self._feed.retry(self._clock.monotonic())
        self.pump()

    # how it goes

    @property
    def state(self) -> State:
        """Where the feed is."""
        return self._feed.state

    @property
    def failed(self) -> dict[Topic, str]:
        """The wanted topics that the vendor does not carry, and why: a copy."""
        return self._feed.failed

    @property
    def simulated(self) -> bool:
        """Whether the vendor is a simulator: the upgrade to this connection, or the last, said so."""
        return self._is_simulated

    @property
    def delayed(self) -> bool:
        """Whether the vendor's data are: its host is a delayed one, or the upgrade said so."""
        return self._is_delayed

    def failure(self, topic: Topic) -> str | None:
        """Return why a wanted topic is not carried; None when it did not fail."""
        return self._feed.failure(topic)

    def carries(self, topic: Topic) -> bool:
        """Whether the topic is live."""
        return self._feed.carries(topic)

    def statistics(self) -> FeedStatistics:
        """Count everything."""
        return self._feed.statistics()

    # the work

    async def run(self) -> None:
        """Keep the socket as it should be, until cancelled; then close it.

        Never raises for a fault of the vendor. Call it once.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    await self._supervise(tasks)
                finally:
                    # The child is cancelled next; that finds the close frame on its way.
                    self._feed.retire(self._clock.monotonic(), self._clock.now_ns())
                    self.pump()
        finally:
            # A dial that was still to be made, or whose task never got to start.
            self.lost(self._dialled, None, "stopped")

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self.pump()
            self._poke.clear()
            dials, self._dials = self._dials, []
            for generation in dials:
                tasks.create_task(self._hold(generation))
            await self._due()

    async def _due(self) -> None:
        """Wait until the feed has something to do, or something happened."""
        wake_at = self._feed.wake_at()
        wait_s = None if wake_at is None else max(0.0, wake_at - self._clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._poke.wait()

    async def _hold(self, generation: int) -> None:
        """Make one connection and hold it until it is gone, then say so."""
        reason = "closed"
        try:
            async with self._connected(generation) as transport:
                await transport.wait_disconnected()
        except WSProtocolError as error:
            reason = f"protocol error: {error.args[-1]}"
        except Exception as error:  # noqa: BLE001 - the vendor's bytes may break the library anywhere
            reason = _why(error)
            logger.warning(
                "upstream.dial_failed", extra={"asset": self._asset.value, "reason": reason}
            )
        finally:
            self.lost(generation, None, reason)  # not heard when it was said before

    @contextlib.asynccontextmanager
    async def _connected(self, generation: int) -> AsyncGenerator[WSTransport]:
        """Connect, and leave no socket behind however this ends."""
        made: list[socket.socket] = []

        async def connect(url: WSParsedURL) -> socket.socket:
            # Ours, and not picows': it leaves the socket open when it is cancelled
            # while it waits for the answer to the upgrade.
            loop = asyncio.get_running_loop()
            addresses: list[Any] = await loop.getaddrinfo(
                url.host, url.port, type=socket.SOCK_STREAM
            )
            made.append(await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_S))
            return made[0]

        try:
            async with asyncio.timeout(self._policy.connect_timeout_s):
                transport, listener = await ws_connect(
                    lambda: _Connection(self, generation, self._policy),
                    self._url,
                    ssl_context=self._tls,
                    socket_factory=connect,
                    websocket_handshake_timeout=None,
                    enable_auto_pong=False,  # pings must reach us: they are signs of life
                    max_frame_size=self._policy.max_frame_bytes,
                    max_redirects=0,  # the credential goes to the configured host alone
                )
            # picows returns without a listener when the socket closed before the upgrade.
            if not isinstance(listener, _Connection):
                raise ConnectionResetError
            yield transport
        finally:
            for sock in made:
                await _bury(sock, self._policy.close_timeout_s)

    # what the connection reports; for `_Connection`

    def opened(self, connection: "_Connection", headers: Mapping[str, str]) -> None:
        """The upgrade succeeded; the headers are those of its answer."""
        self._connection = connection
        self._is_simulated = _says(headers, _SIMULATED)
        self._is_delayed = self._is_always_delayed or _says(headers, _DELAYED)
        self._feed.opened(connection.generation, self._clock.monotonic())
        self.pump()

    def frame(self, generation: int, data: bytes) -> None:
        """A whole message came. The hot path: nothing here waits or allocates for nothing."""
        feed = self._feed
        feed.frame(generation, data, self._clock.monotonic(), self._clock.now_ns())
        if feed.has_output:
            self._drain()

    def alive(self, generation: int) -> None:
        """Anything else came."""
        self._feed.alive(generation)

    def lost(self, generation: int, code: int | None, reason: str) -> None:
        """The connection is gone."""
        if self._connection is not None and self._connection.generation == generation:
            self._connection = None
        self._feed.closed(generation, code, reason, self._clock.monotonic(), self._clock.now_ns())
        self.pump()

    def pump(self) -> None:
        """Let the feed do what is due, do what it says, and let `run` look again."""
        self._feed.tick(self._clock.monotonic(), self._clock.now_ns())
        self._drain()
        self._poke.set()

    def _drain(self) -> None:
        if self._draining:  # a callback called us; the loop below takes what it caused
            return
        self._draining = True
        try:
            while self._feed.has_output:
                self._hand_out(self._feed.drain())
        finally:
            self._draining = False

    def _hand_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if type(output) is Batch:
                self._call(self._on_batch, output)
            elif type(output) is Split:
                self._call(self._on_split, output)
            else:
                self._perform(output)
                self._poke.set()

    def _perform(self, output: Output) -> None:
        connection = self._connection
        match output:
            case Dial(generation=generation):
                self._dials.append(generation)
                self._dialled = generation
            case SendText(data=data) if connection is not None:
                connection.send(data)
            case Ping() if connection is not None:
                connection.ping()
            case Hangup(code=code) if connection is not None:
                connection.hang_up(code)
            case SendText() | Ping() | Hangup() | Split() | Batch():
                pass  # the connection ended in this very turn; the feed hears of it next
            case notice:
                self._log(notice)
                self._call(self._on_notice, notice)

    def _log(self, notice: Notice) -> None:
        level, event, fields = _line(notice)
        logger.log(level, event, extra={"asset": self._asset.value} | fields)

    def _call(self, callback: Callable[[_T], None], argument: _T) -> None:
        try:
            callback(argument)
        except Exception:  # a reader's fault must not cost everybody the connection
            if not self._ailing:
                self._ailing = True
                logger.exception("upstream.callback_failed", extra={"asset": self._asset.value})


class _Connection(WSListener):
    """One connection: joins fragments, answers pings and closes, and reports."""

    def __init__(self, owner: MassiveWebSocket, generation: int, policy: FeedPolicy) -> None:
        super().__init__()
        self.generation = generation
        self._owner = owner
        self._policy = policy
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []  # of a fragmented message, of which more is to come
        self._size = 0
        self._close: tuple[int | None, str] = (None, "closed without a word")
        self._abort: asyncio.TimerHandle | None = None

    # what picows reports

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._owner.opened(self, transport.response.headers)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if (kind is WSMsgType.TEXT or kind is WSMsgType.BINARY) and frame.fin and not self._parts:
            self._owner.frame(self.generation, frame.get_payload_as_bytes())
            return
        self._owner.alive(self.generation)
        if kind is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            self._answer_close(transport, frame.get_payload_as_bytes())
        elif kind is not WSMsgType.PONG:
            self._join(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._abort is not None:
            self._abort.cancel()
        code, reason = self._close
        # picows closes by itself over a breach of the protocol; our own close goes by another way.
        if code is None and transport.is_close_frame_sent:
            sent = transport.close_handshake.sent
            reason = (sent.reason if sent is not None else None) or reason
        self._transport = None
        self._owner.lost(self.generation, code, reason)

    def pause_writing(self) -> None:
        """We write little, and a peer that reads nothing fails the heartbeat."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    # what the owner asks

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, data)

    def ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def hang_up(self, code: int | None) -> None:
        """Close, and abort when that takes too long; without a code abort at once."""
        if self._transport is None:
            return
        if code is None:
            self._transport.disconnect(graceful=False)
            return
        self._transport.send(WSMsgType.CLOSE, code.to_bytes(2, "big"))
        self._transport.disconnect()
        self._abort = asyncio.get_running_loop().call_later(
            self._policy.close_timeout_s, self._transport.underlying_transport.abort
        )

    # private

    def _join(self, frame: WSFrame) -> None:
        if (frame.msg_type is WSMsgType.CONTINUATION) is not bool(self._parts):
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "fragments out of order")
        self._size += frame.payload_size
        if self._size > self._policy.max_frame_bytes:
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, "a message larger than we read")
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            message, self._parts, self._size = b"".join(self._parts), [], 0
            self._owner.frame(self.generation, message)

    def _answer_close(self, transport: WSTransport, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else None
        text = payload[2:].decode(errors="replace")
        self._close = code, text or "closed by the vendor"
        transport.send(WSMsgType.CLOSE, payload[:2])
        transport.disconnect()


def _ignore(_frame: object) -> None:
    pass


async def _bury(sock: socket.socket, within_s: float) -> None:
    """Make sure that the socket is closed, whoever owns it by now."""
    if sock.fileno() < 0:
        return
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # its transport, if it has one, wakes up and ends
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while sock.fileno() >= 0:  # noqa: ASYNC110 - nobody tells when a socket is closed
                await asyncio.sleep(_TURN_S)
    sock.close()


def _why(error: Exception) -> str:
    """Say why a dial failed, without addresses."""
    match error:
        case TimeoutError():
            return "timed out"
        case WSHandshakeError(response=response) if response is not None:
            return f"upgrade refused with {int(response.status)}"
        case ssl.SSLError():
            return "TLS failed"
        case socket.gaierror():
            return "the name is not known"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionError():
            return "closed before the upgrade"
        case OSError():
            return "unreachable"
        case _:
            return f"upgrade failed: {type(error).__name__}"


def _line(notice: Notice) -> tuple[int, str, dict[str, object]]:
    """Return the log line of a notice: its level, its event and its fields."""
    fields: dict[str, object] = msgspec.structs.asdict(notice)
    if isinstance(notice, PeerStatus):
        said = msgspec.structs.asdict(notice.status).items()
        fields = {name: value for name, value in said if value is not None}
    if "message" in fields:  # a name that log records keep to themselves
        fields["detail"] = fields.pop("message")
    if isinstance(notice, Authenticated | TopicsFailed | TopicsLive):
        fields["topics"] = len(notice.topics)
    event = str(notice.__struct_config__.tag)
    level = _LEVELS.get(type(notice), logging.INFO)
    if isinstance(notice, Lost) and notice.reason == "stopped":
        level = logging.INFO  # we stop: nothing is wrong
    return level, f"upstream.{event}", fields


_LEVELS: Final[dict[type, int]] = {
    TopicsLive: logging.DEBUG,
    Lost: logging.WARNING,
    TopicsFailed: logging.WARNING,
    Garbled: logging.WARNING,
    VendorStatus: logging.WARNING,
    Evicted: logging.ERROR,
    AuthFailed: logging.ERROR,
}


def is_delayed(url: str) -> bool:
    """Tell whether a WebSocket of the vendor's is one for delayed plans: their hosts say so."""
    return (urlsplit(url).hostname or "").startswith("delayed")


def _says(headers: Mapping[str, str], name: str) -> bool:
    return headers.get(name, "").lower() == "true"
