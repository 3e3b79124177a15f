"""One port for HTTP and WebSocket: uvicorn's server, our request guard, picows' frames.

uvicorn takes any class for its `http=` and `ws=` protocols. Ours bound the request
head in size and time, which uvicorn does not, and hand an upgrade to picows, which
costs half of uvicorn's own WebSocket code per frame and lets us see a full socket.

The gateway and the simulator are both served from here. `tests/test_asgi.py` holds
the conventions of both libraries that this relies on.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

import uvicorn
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSListener,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):
        """What we use of picows' protocol class, which it does not declare."""

        transport: WSTransport

        def __init__(self, *args: object) -> None: ...
else:
    from picows.picows import WSProtocol  # private: pinned, and held by a contract test

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Upgrade = WSListener | WSUpgradeResponseWithListener | None
WebSocketRoute = Callable[[WSUpgradeRequest, str], Upgrade]
"""From an upgrade request and the peer's address to its listener; None is a 404."""

# picows tells each connection at INFO and makes a logger per connection for it. An
# adapter is no `logging.Logger`, so it makes none; our own lines are the canonical ones.
_picows_log: Final = logging.LoggerAdapter(logging.getLogger("onetape.picows"))
logging.getLogger("onetape.picows").setLevel(logging.WARNING)
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # our own events say what it would


class Limits(NamedTuple):
    """What one connection may cost before we know who it is."""

    head_bytes: int = 32_768
    head_deadline_s: float = 5.0
    frame_bytes: int = 1 << 20  # above this picows closes 1009; smaller bounds are the session's
    write_high_water_bytes: int = 65_536
    read_buffer_bytes: int = 2_048  # grows when a client sends more
    drain_s: float = 5.0
    backlog: int = 2_048


class Server:
    """An HTTP and WebSocket server for as long as its `async with` block is open.

    Leaving the block refuses new connections, asks every client to come back later
    (HTTP: connection close; WebSocket: 1012), waits for running requests up to
    `drain_s` and leaves neither task nor socket behind.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        websocket: WebSocketRoute,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self._socket = _bind(host, port)
        self.host, self.port = host, cast("int", self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            http=cast("Any", partial(GuardedHttp, limits=limits)),
            ws=cast("Any", partial(PicowsUpgrade, route=websocket, limits=limits)),
            loop="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            backlog=limits.backlog,
        )
        self._server = _EmbeddedServer(config, drain_s=limits.drain_s)
        self._tasks = asyncio.TaskGroup()

    @property
    def netloc(self) -> str:
        """`host:port`, with the port that was really taken."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._server.serve(sockets=[self._socket]), name="onetape.asgi")
        await self._server.accepting.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        await self._tasks.__aexit__(None, None, None)


class _EmbeddedServer(uvicorn.Server):
    """uvicorn without its hold on signals, and awake at once when told to stop."""

    def __init__(self, config: uvicorn.Config, *, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self.accepting = asyncio.Event()
        self._stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the program around us."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        """Keep the Date header right until told to stop."""
        while not self._stopping.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new connections, let running requests end, and cut who does not leave.

        uvicorn's own would sleep a tenth of a second at every step, and wait for ever
        for a reader that has stopped and so never drains its socket.
        """
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn's own sets
                    await asyncio.sleep(0.005)
        for connection in list(state.connections):
            cast("GuardedHttp | PicowsUpgrade", connection).abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)

    def stop(self) -> None:
        """Begin the shutdown; `serve` returns when it is over."""
        self.should_exit = True
        self._stopping.set()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio does not turn Nagle's delay off on what it accepts.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 - the socket API's own
    return listener


class GuardedHttp(HttpToolsProtocol):
    """HTTP whose request head is bounded in bytes and in time, on every request."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False  # uvicorn asks the loggers, not its own setting
        self._limits = limits
        self._head_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the first head's deadline."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the head, then let uvicorn read it."""
        if self._in_head:
            self._head_bytes += len(data)
            # The segment that ends a head may carry body too, so a head that ended
            # is not judged by it: the check comes after the parser has seen it.
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.head_bytes:
            self._refuse()

    def on_message_begin(self) -> None:
        """Start counting another head; a kept-alive connection may wait before it."""
        self._in_head = True
        self._head_bytes = 0
        if self._deadline is None:
            self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Judge the head by its own size, then answer it."""
        self._disarm()
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.head_bytes:
            self._refuse()
            return
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Leave the deadline behind with HTTP."""
        self._disarm()
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Close when the running request is done."""
        self._disarm()
        super().shutdown()

    def abort(self) -> None:
        """Cut the connection now."""
        self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self._limits.head_deadline_s, self._refuse)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self) -> None:
        self._disarm()
        if not self.transport.is_closing():
            self.send_400_response("Request head too large or too slow.")


class PicowsUpgrade(WSProtocol):
    """A WebSocket that uvicorn has handed over; `route` decides who listens to it."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        route: WebSocketRoute,
        limits: Limits,
    ) -> None:
        del config, app_state, _loop
        super().__init__(
            None,  # host_port and ws_path: for clients only
            None,
            False,  # noqa: FBT003 - picows' own positional signature: is_client_side
            self._listener_for,
            _picows_log,
            True,  # noqa: FBT003 - disconnect_on_exception
            limits.head_deadline_s,
            False,  # noqa: FBT003 - auto ping: one sweep pings all sessions instead of a task each
            20,
            20,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # noqa: FBT003 - auto pong
            limits.frame_bytes,
            None,
            limits.read_buffer_bytes,
        )
        self._server_state = server_state
        self._route = route
        self._limits = limits
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over from the HTTP protocol."""
        self._server_state.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        cast("asyncio.Transport", transport).set_write_buffer_limits(
            high=self._limits.write_high_water_bytes
        )
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the server's drain go on without this connection."""
        self._server_state.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the request head that uvicorn replays; frames come by `get_buffer`."""
        left = memoryview(data)
        while left:
            room = memoryview(self.get_buffer(len(left)))
            size = min(len(room), len(left))
            room[:size] = left[:size]
            self.buffer_updated(size)
            left = left[size:]

    def shutdown(self) -> None:
        """Ask the client to come back: 1012."""
        self.transport.send_close(WSCloseCode.SERVICE_RESTART, b"restarting")
        self.transport.disconnect()

    def abort(self) -> None:
        """Cut the connection now."""
        self.transport.disconnect(graceful=False)

    def _listener_for(self, request: WSUpgradeRequest) -> Upgrade:
        return self._route(request, self._peer)


def refuse(status: int, body: bytes, headers: dict[str, str]) -> WSUpgradeResponseWithListener:
    """Answer an upgrade with an HTTP error; no WebSocket frame is ever sent."""
    return WSUpgradeResponseWithListener(
        WSUpgradeResponse.create_error_response(status, body, headers), None
    )
