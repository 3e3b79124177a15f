"""One WebSocket carrying out effects; the vendors' own tests show it at work."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from onetape.asgi import Receive, Scope, Send as ASGISend, Server
from onetape.simulator.effects import Abort, Close, Effect, Freeze, Ping, Send, SessionId, Thaw
from onetape.simulator.links import TOO_BIG, Link
from onetape.testing import until

ONE = SessionId(1)


class Owner:
    """Writes down what a link tells."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.messages: list[bytes] = []
        self.is_closed = False

    def opened(self, link: Link) -> None:
        self.link = link

    def received(self, session: SessionId, frame: bytes) -> None:
        assert session == ONE
        self.messages.append(frame)

    def refuse_size(self, link: Link) -> None:
        link.close(TOO_BIG, "", grace_s=0.2)

    def closed(self, session: SessionId) -> None:
        assert session == ONE
        self.is_closed = True

    def obey(self, effect: Effect) -> int:
        assert self.link is not None
        return self.link.obey(effect, grace_s=0.2)


async def no_http(scope: Scope, receive: Receive, send: ASGISend) -> None:
    raise AssertionError("only upgrades come here")


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[Owner, ClientConnection]]:
    owner = Owner()

    def route(request: WSUpgradeRequest, peer: str) -> WSUpgradeResponseWithListener:
        del request, peer
        return WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response({}), Link(owner, ONE)
        )

    async with (
        asyncio.timeout(10),
        Server(no_http, host="127.0.0.1", port=0, websocket=route) as server,
        connect(f"ws://{server.netloc}/", proxy=None, compression=None) as client,
    ):
        await until(lambda: owner.link)
        yield owner, client


async def test_messages_come_whole_and_frames_go_out() -> None:
    async with linked() as (owner, client):
        await client.send(["one ", "message"])
        await until(lambda: owner.messages == [b"one message"])

        assert owner.obey(Send(ONE, b"hello")) == 0
        assert await client.recv() == "hello"
        assert owner.obey(Ping(ONE)) == 0


async def test_a_frozen_link_reads_nothing_until_it_thaws() -> None:
    async with linked() as (owner, client):
        owner.obey(Freeze(ONE))
        await client.send("later")
        owner.obey(Send(ONE, b"still written"))
        assert await client.recv() == "still written"
        assert owner.messages == []
        owner.obey(Thaw(ONE))
        await until(lambda: owner.messages == [b"later"])


@pytest.mark.parametrize(
    ("effect", "code"),
    [(Close(ONE, 1012, "x"), 1012), (Close(ONE, 1005), 1005), (Abort(ONE), 1006)],
)
async def test_nothing_follows_a_goodbye(effect: Effect, code: int) -> None:
    async with linked() as (owner, client):
        owner.obey(effect)
        owner.obey(effect)
        owner.obey(Send(ONE, b"too late"))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == code
        await until(lambda: owner.is_closed)


async def test_fragments_without_end_are_refused() -> None:
    async with linked() as (_, client):
        await client.send(["x" * 600_000, "y" * 400_000, "z" * 100_000])
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == TOO_BIG
