"""The edge of Tradier's WebSocket: a socket, a timer, and nothing clever.

`TradierWebSocket` does what the `TradierFeed` says and reports to it what happens:

    run ─┬─ supervise    the timer; starts what the feed asks for
         ├─ mint         one request for a session at a time
         └─ hold         one connection: reads, with a writer beside

Leaving `run` means that the socket is closed. What is to be sent replaces what was to be
sent, so nothing queues for a slow peer.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from onetape.clock import Clock
from onetape.errors import (
    ConfigInvalid,
    OnetapeError,
    RequestError,
    UpstreamForbidden,
)
from onetape.massive.notices import AuthFailed, Dial, Hangup, Lost, Ping, SendText
from onetape.model import Quote, Trade
from onetape.tradier.feed import TradierFeed, market_is_open
from onetape.tradier.notices import (
    Mint,
    SymbolsFailed,
    Ticks,
    TradierFeedPolicy,
    TradierFeedStatistics,
    TradierNotice,
    TradierOutput,
    TradierState,
)
from onetape.tradier.wire_stream import StreamSession

logger: Final = logging.getLogger("onetape.tradier.stream")

_GOING_AWAY: Final = 1001
_Socket = aiohttp.ClientWebSocketResponse[Literal[False]]
_T = TypeVar("_T")


class TradierWebSocket:
    """Tradier's one stream of a token, kept up for as long as somebody wants a symbol.

    Methods are called from the event loop's thread. `on_events` gets the news of one frame
    at a time; it and `on_notice` are called in order, and not within themselves; what they
    raise is logged and goes no further.

    Args:
        url: `TRADIER_SOCKET_URL`.
        mint: Gets leave to connect: `TradierREST.session`.
        clock: What time it is.
        policy: How long to wait for what.
        on_events: Takes quotes and trades, symbols in Massive's form.
        on_notice: Takes what happens to the stream.
        is_open: Tells whether the market is open at an instant in nanoseconds.
        simulated: Whether a simulator is at the other end.
        tls: Instead of the host's certificates.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        url: str,
        mint: Callable[[], Awaitable[StreamSession]],
        clock: Clock,
        policy: TradierFeedPolicy,
        on_events: Callable[[list[Quote | Trade]], None],
        on_notice: Callable[[TradierNotice], None],
        is_open: Callable[[int], bool] = market_is_open,
        simulated: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ConfigInvalid("TRADIER_SOCKET_URL is not ws:// or wss://")
        self._url = url
        # Made here and once: it reads the host's certificates from the disk.
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "wss" else None
        self._mint = mint
        self._clock = clock
        self._policy = policy
        self._on_events = on_events
        self._on_notice = on_notice
        self._feed = TradierFeed(policy, is_open=is_open, simulated=simulated)
        self._outbox: _Outbox | None = None  # of the connection that is up
        self._due: list[Dial | Mint] = []  # what `run` has to start
        self._dialled = 0  # the last generation of them
        self._poke = asyncio.Event()  # `run` has to look again
        self._draining = False
        self._ailing = False  # a callback raised, and that was logged

    def __repr__(self) -> str:
        return f"<TradierWebSocket {self._feed!r}>"

    def want(self, symbols: frozenset[str]) -> None:
        """Carry exactly these, in Massive's form, from now on and over every reconnect."""
        self._feed.want(symbols, self._clock.monotonic(), self._clock.now_ns())
        self._pump()

    @property
    def state(self) -> TradierState:
        """Where the feed is."""
        return self._feed.state

    @property
    def failed(self) -> dict[str, str]:
        """The wanted symbols that Tradier does not carry, and why: a copy."""
        return self._feed.failed

    def statistics(self) -> TradierFeedStatistics:
        """Count everything."""
        return self._feed.statistics()

    async def run(self) -> None:
        """Keep the stream as it should be, until cancelled; then close it.

        Never raises for a fault of Tradier. Call it once.
        """
        async with _http() as http:
            try:
                await self._own(http)
            finally:
                # A dial that was still to be made, or whose task never got to start.
                self._lost(self._dialled, None, "stopped")

    # private, the tasks

    async def _own(self, http: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._supervise(http, tasks)
            finally:
                # The children are cancelled next; that closes the connection.
                self._feed.retire(self._clock.monotonic(), self._clock.now_ns())
                self._drain()

    async def _supervise(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._pump()
            self._poke.clear()
            due, self._due = self._due, []
            for one in due:
                if isinstance(one, Mint):
                    tasks.create_task(self._renew())
                else:
                    tasks.create_task(self._hold(http, tasks, one.generation))
            wake_at = self._feed.wake_at()
            wait_s = None if wake_at is None else max(0.0, wake_at - self._clock.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._poke.wait()

    async def _renew(self) -> None:
        """Get a session, or say why there is none."""
        try:
            session = await self._mint()
        except OnetapeError as error:
            self._feed.mint_failed(
                str(error),
                self._clock.monotonic(),
                self._clock.now_ns(),
                refused=isinstance(error, UpstreamForbidden | RequestError),
                retry_after_s=error.retry_after_s or 0.0,
            )
        else:
            self._feed.minted(session, self._clock.monotonic(), self._clock.now_ns())
        self._pump()

    async def _hold(
        self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup, generation: int
    ) -> None:
        """Make one connection and read it until it is gone, then say so."""
        code, reason = None, "stopped"
        try:
            async with self._connected(http, tasks) as socket:
                self._feed.opened(generation, self._clock.monotonic(), self._clock.now_ns())
                self._pump()
                code, reason = await self._read(socket, generation)
        except Exception as error:  # noqa: BLE001 - the vendor's bytes may break the library anywhere
            reason = _why(error)
        finally:
            self._lost(generation, code, reason)

    def _lost(self, generation: int, code: int | None, reason: str) -> None:
        self._feed.closed(generation, code, reason, self._clock.monotonic(), self._clock.now_ns())
        self._pump()

    @contextlib.asynccontextmanager
    async def _connected(
        self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup
    ) -> AsyncGenerator[_Socket]:
        """Connect, with a writer beside, and leave no socket behind however this ends."""
        async with asyncio.timeout(self._policy.connect_timeout_s):
            socket = await http.ws_connect(
                self._url,
                ssl=True if self._tls is None else self._tls,
                autoping=False,  # pings must reach us: they are signs of life
                compress=0,
                decode_text=False,
                max_msg_size=self._policy.max_frame_bytes,
                timeout=aiohttp.ClientWSTimeout(
                    ws_close=self._policy.close_timeout_s  # pyright: ignore[reportCallIssue] - attrs, without types
                ),
            )
        outbox = self._outbox = _Outbox()
        writer = tasks.create_task(outbox.write_to(socket))
        try:
            yield socket
        finally:
            if self._outbox is outbox:
                self._outbox = None
            if outbox.hangup is not None:  # the writer closes; that may take a moment
                await asyncio.wait({writer}, timeout=2 * self._policy.close_timeout_s)
            writer.cancel()
            try:
                await socket.close(code=outbox.code)  # nothing when it is closed, else bounded
            finally:
                # aiohttp forgets to when the connection was lost under it.
                socket._response.close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above

    async def _read(self, socket: _Socket, generation: int) -> tuple[int | None, str]:
        """Hand on what comes until nothing can; return how it ended."""
        while True:
            message = await socket.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    self._frame(generation, bytes(message.data))
                case aiohttp.WSMsgType.PING:
                    self._feed.alive(generation)
                    with contextlib.suppress(ConnectionError):
                        await socket.pong(bytes(message.data))
                case aiohttp.WSMsgType.PONG:
                    self._feed.alive(generation)
                case aiohttp.WSMsgType.CLOSE:
                    return int(message.data or 0) or None, message.extra or "closed by Tradier"
                case aiohttp.WSMsgType.ERROR:
                    return socket.close_code, "protocol error"
                case _:
                    return socket.close_code, "closed without a word"

    def _frame(self, generation: int, data: bytes) -> None:
        self._feed.frame(generation, data, self._clock.monotonic(), self._clock.now_ns())
        if self._feed.has_output:
            self._drain()

    # private, what the feed says

    def _pump(self) -> None:
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
                for output in self._feed.drain():
                    self._perform(output)
        finally:
            self._draining = False

    def _perform(self, output: TradierOutput) -> None:
        match output:
            case Ticks(events=events):
                self._call(self._on_events, events)
                return
            case Mint():
                self._due.append(output)
            case Dial(generation=generation):
                self._due.append(output)
                self._dialled = generation
            case SendText() | Ping() | Hangup():
                if self._outbox is not None:  # else the connection ended in this very turn
                    self._outbox.put(output)
            case notice:
                self._log(notice)
                self._call(self._on_notice, notice)
        self._poke.set()

    def _call(self, callback: Callable[[_T], None], argument: _T) -> None:
        try:
            callback(argument)
        except Exception:  # a reader's fault must not cost everybody the connection
            if not self._ailing:
                self._ailing = True
                logger.exception("tradier.callback_failed")

    def _log(self, notice: TradierNotice) -> None:
        fields: dict[str, object] = msgspec.structs.asdict(notice)
        if "message" in fields:  # a name that log records keep to themselves
            fields["detail"] = fields.pop("message")
        if isinstance(notice, SymbolsFailed):
            fields["symbols"] = len(notice.symbols)
        level = _LEVELS.get(type(notice), logging.INFO)
        logger.log(level, "tradier.%s", notice.__struct_config__.tag, extra=fields)


_LEVELS: Final[dict[type, int]] = {
    AuthFailed: logging.ERROR,
    Lost: logging.WARNING,
    SymbolsFailed: logging.WARNING,
}


class _Outbox:
    """What is to be sent on one connection: of several lists, the last."""

    def __init__(self) -> None:
        self._text: bytes | None = None
        self._ping = False
        self.hangup: Hangup | None = None
        self._filled = asyncio.Event()

    @property
    def code(self) -> int:
        """What to close with."""
        return _GOING_AWAY if self.hangup is None else self.hangup.code or _GOING_AWAY

    def put(self, output: SendText | Ping | Hangup) -> None:
        match output:
            case SendText(data=data):
                self._text = data
            case Ping():
                self._ping = True
            case Hangup():
                self.hangup = output
        self._filled.set()

    async def write_to(self, socket: _Socket) -> None:
        """Send until hung up; a socket that breaks is for the reader to notice."""
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while True:
                await self._filled.wait()
                self._filled.clear()
                if self.hangup is not None:
                    await socket.close(code=self.code)
                    return
                text, self._text = self._text, None
                ping, self._ping = self._ping, False
                if text is not None:
                    await socket.send_str(text.decode())
                if ping:
                    await socket.ping()


def _http() -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse)
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "onetape"},
        trust_env=False,
        trace_configs=[trace],
    )


async def _refuse(*_: object) -> None:
    """Follow nobody elsewhere: the session goes to the configured host alone."""
    raise ConnectionAbortedError("redirected")


def _why(error: Exception) -> str:
    """Say why a dial failed, without addresses."""
    match error:
        case TimeoutError():
            return "timed out"
        case aiohttp.WSServerHandshakeError(status=status):
            return f"upgrade refused with {status}"
        case aiohttp.ClientSSLError():
            return "TLS failed"
        case aiohttp.ClientConnectorDNSError():
            return "the name is not known"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "refused"
        case aiohttp.ClientConnectorError():
            return "unreachable"
        case ConnectionAbortedError():
            return "upgrade redirected"
        case aiohttp.ServerDisconnectedError() | OSError():
            return "closed before the upgrade"
        case _:
            return f"upgrade failed: {type(error).__name__}"
