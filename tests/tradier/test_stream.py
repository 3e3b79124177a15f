"""The edge against a Tradier on the loopback: what it sends, and how it ends."""

import asyncio
import contextlib
import logging
import socket as sockets
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web

from onetape.clock import SystemClock
from onetape.errors import ConfigInvalid, OnetapeError, UpstreamDown, UpstreamForbidden
from onetape.massive.notices import AuthFailed, Connecting, Lost, Restored, VendorStatus
from onetape.model import Quote, Trade
from onetape.secret import Secret
from onetape.testing import until
from onetape.tradier.notices import SymbolsFailed, TradierFeedPolicy, TradierNotice, TradierState
from onetape.tradier.stream import TradierWebSocket
from onetape.tradier.wire_stream import StreamSession

FAST = TradierFeedPolicy(
    connect_timeout_s=2.0,
    close_timeout_s=0.2,
    replace_s=0.01,
    settle_s=0.05,
    rest_s=0.05,
    backoff_base_s=0.01,
    backoff_cap_s=0.02,
    refused_retry_s=0.02,
    refused_retry_cap_s=0.02,
)
QUOTE = (
    b'{"type":"quote","symbol":"SPY","bid":373.44,"bidsz":9,"bidexch":"Z",'
    b'"biddate":"1609447718000","ask":373.45,"asksz":6,"askexch":"Q","askdate":"1609447718000"}'
)


class Tradier:
    """Both halves of the stream: sessions, and a socket that does what it is told."""

    def __init__(self) -> None:
        self.sessions = 0
        self.failures: list[OnetapeError] = []
        self.lists: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.open = 0
        self.most_open = 0
        self.codes: list[int | None] = []
        self.answers: list[str] = []  # said to each list, in turn
        self.refuse: int | None = None
        self.pings = 0
        self.deaf = False

    async def mint(self) -> StreamSession:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.sessions += 1
        return StreamSession(Secret(f"session-{self.sessions}"), "")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.refuse == 302:
            return web.Response(status=302, headers={"Location": "/v1/markets/events/2"})
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        peer = web.WebSocketResponse(autoping=False, timeout=0.2)
        await peer.prepare(request)
        self.sockets.append(peer)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self.listen(peer)
        finally:
            self.open -= 1
            self.codes.append(peer.close_code)
        return peer

    async def listen(self, peer: web.WebSocketResponse) -> None:
        async for message in peer:
            if message.type is WSMsgType.TEXT:
                self.lists.append(msgspec.json.decode(message.data))
                if self.answers:
                    await peer.send_str(self.answers.pop(0))
            elif message.type is WSMsgType.PING:
                self.pings += 1
                if not self.deaf:
                    await peer.pong(message.data)


class Rig:
    """Tradier, our edge, and what it told."""

    def __init__(self, tradier: Tradier, url: str, policy: TradierFeedPolicy) -> None:
        self.tradier = tradier
        self.events: list[Quote | Trade] = []
        self.notices: list[TradierNotice] = []
        self.failing: Callable[[], None] = lambda: None
        self.stream = TradierWebSocket(
            url=url,
            mint=tradier.mint,
            clock=SystemClock(),
            policy=policy,
            on_events=self.take,
            on_notice=self.notices.append,
            is_open=lambda _: False,
        )

    def take(self, events: list[Quote | Trade]) -> None:
        self.events += events
        self.failing()

    def told(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.notices if isinstance(one, kind)]

    async def live(self, *symbols: str) -> web.WebSocketResponse:
        lists = len(self.tradier.lists)
        self.stream.want(frozenset(symbols or ("SPY",)))
        await until(lambda: len(self.tradier.lists) > lists)
        return self.tradier.sockets[-1]


@contextlib.asynccontextmanager
async def rig(policy: TradierFeedPolicy = FAST) -> AsyncGenerator[Rig]:
    tradier = Tradier()
    app = web.Application()
    app.router.add_get("/v1/markets/events", tradier.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    made = Rig(tradier, f"ws://127.0.0.1:{port}/v1/markets/events", policy)
    task = asyncio.ensure_future(made.stream.run())  # noqa: TID251 - cancelled below
    try:
        yield made
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: tradier.open == 0)
        await runner.cleanup()


async def test_quotes_come_by_a_session_minted_for_the_connection() -> None:
    async with rig() as made:
        peer = await made.live("SPY", "I:SPX")
        await peer.send_bytes(QUOTE + b"\n" + QUOTE)
        await until(lambda: made.events)
        state = made.stream.state
        counted = made.stream.statistics()

    assert made.tradier.lists[0]["symbols"] == ["SPX", "SPY"]
    assert made.tradier.lists[0]["sessionid"] == "session-1"
    assert [one.symbol for one in made.events] == ["SPY"]
    assert state is TradierState.LIVE
    assert (counted.frames, counted.mints) == (1, 1)
    assert made.told(Connecting)
    assert made.tradier.codes == [1000]  # left with a close frame
    assert "idle" in repr(made.stream)


async def test_nothing_is_asked_for_until_something_is_wanted() -> None:
    async with rig() as made:
        await asyncio.sleep(0.02)

    assert made.tradier.sessions == 0
    assert made.tradier.sockets == []


async def test_a_new_list_replaces_the_other_on_the_same_socket() -> None:
    async with rig() as made:
        await made.live("SPY")
        await made.live("SPY", "QQQ")

    assert [one["symbols"] for one in made.tradier.lists] == [["SPY"], ["QQQ", "SPY"]]
    assert len(made.tradier.sockets) == 1


async def test_nothing_wanted_any_more_says_so_and_then_leaves() -> None:
    async with rig() as made:
        await made.live()
        made.stream.want(frozenset())
        await until(lambda: made.stream.state is TradierState.IDLE)
        await until(lambda: made.tradier.open == 0)

    assert made.tradier.lists[-1]["symbols"] == ["$empty$"]
    assert made.tradier.codes == [1000]
    assert made.told(Lost) == []


async def test_the_overnight_close_is_followed_by_a_new_session_and_the_whole_list() -> None:
    async with rig() as made:
        peer = await made.live("SPY", "QQQ")
        await peer.close(code=1001, message=b"night")
        await until(lambda: len(made.tradier.lists) == 2)
        await until(lambda: made.told(Restored))

    assert made.tradier.lists[1] == made.tradier.lists[0] | {"sessionid": "session-2"}
    assert (made.told(Lost)[0].code, made.told(Lost)[0].reason) == (1001, "night")
    assert made.tradier.most_open == 1


async def test_a_socket_that_breaks_is_made_again() -> None:
    async with rig() as made:
        peer = await made.live()
        peer.get_extra_info("socket").shutdown(sockets.SHUT_RDWR)
        await until(lambda: len(made.tradier.lists) == 2)

    assert made.told(Lost)[0].reason == "closed without a word"


async def test_a_breach_of_the_protocol_is_a_loss() -> None:
    async with rig(msgspec.structs.replace(FAST, max_frame_bytes=1000)) as made:
        peer = await made.live()
        await peer.send_str("x" * 5000)
        await until(lambda: len(made.tradier.lists) == 2)

    assert made.told(Lost)[0].reason == "protocol error"


async def test_a_rejected_session_is_told_and_the_socket_left() -> None:
    async with rig() as made:
        made.tradier.answers = ['{"error":"session not found"}'] * 2
        await made.live()
        await until(lambda: len(made.tradier.lists) == 3)
        await until(lambda: made.told(Restored))

    assert made.told(AuthFailed) == [AuthFailed(message="session not found")]
    assert made.tradier.most_open == 1


async def test_a_bad_symbol_is_told_and_left_out() -> None:
    async with rig() as made:
        made.tradier.answers = ['{"error":"QQQ is not a valid symbol"}', '{"error":"hm"}']
        await made.live("SPY", "QQQ")
        await until(lambda: made.told(VendorStatus))
        failed = made.stream.failed

    assert made.told(SymbolsFailed)[0].symbols == {"QQQ"}
    assert failed.keys() == {"QQQ"}
    assert made.tradier.lists[1]["symbols"] == ["SPY"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamForbidden("Tradier does not accept our token"), AuthFailed),
        (UpstreamDown("away", retry_after_s=0.02), Lost),
    ],
)
async def test_no_session_is_told_and_asked_for_again(error: OnetapeError, kind: type) -> None:
    async with rig() as made:
        made.tradier.failures = [error]
        await made.live()
        await until(lambda: made.told(Restored))

    assert len(made.told(kind)) == 1


async def test_pings_are_answered_and_sent_and_a_deaf_peer_is_left() -> None:
    policy = msgspec.structs.replace(FAST, ping_interval_s=0.05, pong_deadline_s=0.1)
    async with rig(policy) as made:
        peer = await made.live()
        await peer.ping(b"hello")
        await until(lambda: made.tradier.pings >= 3)
        assert made.told(Lost) == []
        made.tradier.deaf = True
        await until(lambda: made.told(Lost))

    assert made.told(Lost)[0].reason == "no sign of life after a ping"


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "upgrade refused with 503"), (302, "upgrade redirected")]
)
async def test_a_refused_upgrade_is_tried_again(status: int, reason: str) -> None:
    async with rig() as made:
        made.tradier.refuse = status
        made.stream.want(frozenset({"SPY"}))
        await until(lambda: made.told(Lost))
        made.tradier.refuse = None
        await until(lambda: made.tradier.lists)

    assert made.told(Lost)[0].reason == reason
    assert made.tradier.sessions == 1  # never used, so used now


async def test_a_callback_that_raises_costs_nobody_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("reader's fault")

    async with rig() as made:
        made.failing = fail
        peer = await made.live()
        with caplog.at_level(logging.ERROR, "onetape.tradier.stream"):
            for bid in (b"1", b"2", b"3"):
                await peer.send_bytes(QUOTE.replace(b"373.44", bid))
            await until(lambda: len(made.events) == 3)

    assert [one.message for one in caplog.records] == ["tradier.callback_failed"]


async def test_a_callback_may_change_what_is_wanted() -> None:
    async with rig() as made:
        made.failing = lambda: made.stream.want(frozenset({"QQQ"}))
        peer = await made.live()
        await peer.send_bytes(QUOTE)
        await until(lambda: len(made.tradier.lists) == 2)

    assert made.tradier.lists[1]["symbols"] == ["QQQ"]


async def test_the_session_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "onetape"):
        async with rig() as made:
            made.tradier.answers = ['{"error":"session session-1 not found"}'] * 3
            await made.live()
            await until(lambda: made.told(AuthFailed))

    lines = [f"{one.message} {vars(one)}" for one in caplog.records]
    assert any("tradier.auth_failed" in line for line in lines)
    assert not any("session-1" in line for line in lines)


async def test_stopping_at_any_moment_leaves_nothing_behind() -> None:
    for naps in range(1, 7):
        async with rig() as made:
            made.stream.want(frozenset({"SPY"}))
            for _ in range(naps):
                await asyncio.sleep(0)
        assert made.stream.state is TradierState.IDLE


async def wait_for_loss(url: str, policy: TradierFeedPolicy = FAST) -> str:
    made = Rig(Tradier(), url, policy)
    task = asyncio.ensure_future(made.stream.run())  # noqa: TID251 - cancelled below
    made.stream.want(frozenset({"SPY"}))
    await until(lambda: made.told(Lost))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return str(made.told(Lost)[0].reason)


def free_port() -> int:
    with sockets.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


async def test_why_a_dial_failed_is_said_without_addresses() -> None:
    done: list[bool] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()  # until we leave
        writer.close()
        done.append(True)

    rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    slow = await asyncio.start_server(stall, "127.0.0.1", 0)
    impatient = msgspec.structs.replace(FAST, connect_timeout_s=0.05)
    async with rude, slow:
        ports = [one.sockets[0].getsockname()[1] for one in (rude, slow)]

        assert await wait_for_loss(f"ws://127.0.0.1:{free_port()}/") == "refused"
        assert await wait_for_loss(f"ws://127.0.0.1:{ports[0]}/") == "closed before the upgrade"
        assert await wait_for_loss(f"wss://127.0.0.1:{ports[0]}/") == "unreachable"
        assert await wait_for_loss(f"ws://127.0.0.1:{ports[1]}/", impatient) == "timed out"
        assert (await wait_for_loss("ws://127.0.0.1:99999/")).startswith("upgrade failed: ")
        await until(lambda: done)


async def test_it_wants_the_address_of_a_websocket() -> None:
    for url in ("https://x", "wss://"):
        with pytest.raises(ConfigInvalid):
            Rig(Tradier(), url, FAST)
