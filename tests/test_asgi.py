"""Holds the conventions of uvicorn and picows that `asgi.py` relies on, over real sockets."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onetape.asgi import Limits, Receive, Scope, Send, Server, Upgrade, refuse

LIMITS = Limits(head_bytes=4_096, head_deadline_s=0.3, frame_bytes=10_000, drain_s=1.0)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = scope["path"].encode() + body
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})


class Echo(WSListener):
    def __init__(self) -> None:
        self.paused = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def pause_writing(self) -> None:
        self.paused.set()

    def resume_writing(self) -> None:
        self.paused.clear()


class Flood(Echo):
    """Fills a socket that nobody reads."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        for _ in range(500):
            transport.send(WSMsgType.TEXT, b"x" * 100_000)
            if self.paused.is_set():
                break


def route(request: WSUpgradeRequest, peer: str) -> Upgrade:
    match request.path:
        case b"/echo":
            return Echo()
        case b"/flood":
            return Flood()
        case b"/agreed":
            response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": "v1"})
            return WSUpgradeResponseWithListener(response, Echo())
        case b"/refused":
            return refuse(403, b'{"peer":"%b"}' % peer.encode(), {"Retry-After": "1"})
        case _:
            return None


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(app, host="127.0.0.1", port=0, websocket=route, limits=LIMITS) as running:
        yield running


async def ask(server: Server, request: bytes) -> bytes:
    """Send raw bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), timeout=3)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_http_and_websocket_answer_on_one_port(server: Server) -> None:
    answer = await ask(server, b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with connect(f"ws://{server.netloc}/echo") as client:
        await client.send("back")
        assert await client.recv() == "back"

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"/hello")


async def test_a_body_larger_than_the_head_bound_is_not_taken_for_a_head(server: Server) -> None:
    body = b"b" * 9_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9000\r\n\r\n"

    answer = await ask(server, head + body)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(body)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 50_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nx-endless: " + b"a" * 50_000,
    ],
    ids=["header", "path", "many", "unfinished"],
)
async def test_a_head_beyond_its_bound_is_refused(server: Server, head: bytes) -> None:
    assert (await ask(server, head)).startswith(b"HTTP/1.1 400")


async def test_a_head_that_does_not_come_is_not_waited_for(server: Server) -> None:
    assert (await ask(server, b"GET / HT")).startswith(b"HTTP/1.1 400")
    assert (await ask(server, b"")).startswith(b"HTTP/1.1 400")


async def test_a_kept_connection_may_rest_between_requests(server: Server) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for _ in range(2):
        writer.write(b"GET /again HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"/again"), timeout=3)
        assert answer.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(LIMITS.head_deadline_s * 1.5)
    writer.close()
    await writer.wait_closed()


async def test_an_upgrade_may_be_refused_with_a_status_and_a_body(server: Server) -> None:
    """R36: no frame is ever sent."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{server.netloc}/refused")
    with pytest.raises(InvalidStatus) as unknown:
        await connect(f"ws://{server.netloc}/nowhere")

    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b'{"peer":"127.0.0.1"}'
    assert unknown.value.response.status_code == 404


async def test_a_subprotocol_is_agreed_on(server: Server) -> None:
    async with connect(f"ws://{server.netloc}/agreed", subprotocols=["v1"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "v1"


async def test_a_frame_beyond_the_hard_bound_is_closed_1009(server: Server) -> None:
    async with connect(f"ws://{server.netloc}/echo") as client:
        await client.send("a" * (LIMITS.frame_bytes + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_leaving_asks_clients_to_come_back() -> None:
    async with Server(app, host="127.0.0.1", port=0, websocket=route, limits=LIMITS) as server:
        client = await connect(f"ws://{server.netloc}/echo")
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_client_that_never_reads_does_not_hold_the_shutdown() -> None:
    async with Server(app, host="127.0.0.1", port=0, websocket=route, limits=LIMITS) as server:
        key = b"dGhlIHNhbXBsZSBub25jZQ=="
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(
            b"GET /flood HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        leaving = asyncio.timeout(5)
        await leaving.__aenter__()
    await leaving.__aexit__(None, None, None)
    writer.transport.abort()
    gc.collect()


async def test_starting_and_stopping_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    for _ in range(5):
        async with Server(app, host="127.0.0.1", port=0, websocket=route, limits=LIMITS) as server:
            assert server.port > 0

    assert asyncio.all_tasks() == before


async def test_a_port_in_use_is_told_at_once(server: Server) -> None:
    with pytest.raises(OSError, match="in use"):
        Server(app, host="127.0.0.1", port=server.port, websocket=route)
