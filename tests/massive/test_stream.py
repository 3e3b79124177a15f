"""The edge against a vendor on the loopback that can do everything wrong."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest
import trustme

from onetape.clock import SystemClock
from onetape.errors import ConfigInvalid
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Evicted,
    FeedPolicy,
    Garbled,
    Lost,
    Notice,
    PeerStatus,
    Restored,
    State,
    TopicsFailed,
    TopicsLive,
)
from onetape.massive.stream import MassiveWebSocket, is_delayed
from onetape.massive.wire_stream import (
    Batch,
    Split,
    array,
    parse_params,
    status_event,
    status_frame,
)
from onetape.model import AssetClass, Topic

SPX, NDX = Topic("V.I:SPX"), Topic("V.I:NDX")
VALUE = b'"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130'
FAST = FeedPolicy(
    connect_timeout_s=3,
    greet_timeout_s=3,
    auth_timeout_s=3,
    ack_timeout_s=3,
    close_timeout_s=0.2,
    backoff_base_s=0.02,
    backoff_cap_s=0.05,
    auth_retry_s=0.05,
    auth_retry_cap_s=0.05,
    cool_down_s=0.2,
    retry_topics_s=0.1,
    max_frame_bytes=100_000,
)
HASTY = msgspec.structs.replace(
    FAST, connect_timeout_s=0.2, greet_timeout_s=0.2, auth_timeout_s=0.2
)
TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
SECRET = "k3y-of-the-vendor"
T = TypeVar("T", bound=Notice)


class Peer:
    """One accepted connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.carried: set[str] = set()
        self.ended: tuple[int, bytes] | None = None  # the client's close frame

    async def upgrade(self, status: str = "101 Switching Protocols", *headers: str) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        key = next(
            line.split(b":")[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        magic = key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic).digest())
        self.writer.write(
            f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
            + b"Sec-WebSocket-Accept: %s\r\n" % accept
            + "".join(f"{header}\r\n" for header in headers).encode()
            + b"\r\n"
        )

    def send(self, payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> None:
        size = len(payload)
        head = bytes([opcode | (128 if fin else 0)])
        if size < 126:
            head += bytes([size])
        elif size < 65536:
            head += b"\x7e" + size.to_bytes(2, "big")
        else:
            head += b"\x7f" + size.to_bytes(8, "big")
        self.writer.write(head + payload)

    async def read(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(2)
        size = head[1] & 127
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        mask = await self.reader.readexactly(4)
        masked = await self.reader.readexactly(size)
        return head[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(masked))

    async def log_in(self, *headers: str) -> str:
        await self.upgrade("101 Switching Protocols", *headers)
        self.send(status_frame("connected", "Connected Successfully"))
        opcode, payload = await self.read()
        if opcode == CLOSE:
            raise ConnectionResetError
        action = msgspec.json.decode(payload)
        self.send(status_frame("auth_success", "authenticated"))
        return action["params"]

    async def obey(self, *, pongs: bool = True) -> None:
        """Do what a vendor does, until the client leaves."""
        while True:
            opcode, payload = await self.read()
            if opcode == PING and pongs:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                self.ended = (int.from_bytes(payload[:2], "big"), payload[2:])
                return
            elif opcode == TEXT:
                action = msgspec.json.decode(payload)
                topics = parse_params(action["params"])
                if action["action"] == "unsubscribe":
                    self.carried.difference_update(topics)
                    continue
                self.carried.update(topics)
                acks = [status_event("success", f"subscribed to: {topic}") for topic in topics]
                self.send(array(acks))

    def abort(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def well(peer: Peer) -> None:
    await peer.log_in()
    await peer.obey()


class Rig:
    """A vendor that plays one script per connection, the last for ever; and our socket to it."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.peers: list[Peer] = []
        self.splits: list[Split] = []
        self.notices: list[Notice] = []
        self.news = asyncio.Event()
        self.socket: MassiveWebSocket
        self.credential = SECRET
        self.batches: list[Batch] = []
        self.on_split: Callable[[Split], None] = self.keep_split
        self.on_notice: Callable[[Notice], None] = self.keep_notice
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(peer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        self.tasks.discard(task)

    def keep_split(self, split: Split) -> None:
        self.splits.append(split)
        self.news.set()

    def keep_notice(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.news.set()

    def of(self, kind: type[T]) -> list[T]:
        return [notice for notice in self.notices if isinstance(notice, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.02)


def tolerate_broken_handshakes(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    assert isinstance(context.get("exception"), ConnectionError | ssl.SSLError), context


@contextlib.asynccontextmanager
async def rigged(
    *scripts: Script,
    policy: FeedPolicy = FAST,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    typed: bool = False,
) -> AsyncGenerator[Rig]:
    rig = Rig(*scripts)
    server_tls, client_tls = tls or (None, None)
    if tls:
        # asyncio's server reports each handshake that the client breaks off.
        asyncio.get_running_loop().set_exception_handler(tolerate_broken_handshakes)
    server = await asyncio.start_server(rig.serve, "127.0.0.1", 0, ssl=server_tls)
    port = server.sockets[0].getsockname()[1]
    rig.socket = MassiveWebSocket(
        url=f"ws{'s' if tls else ''}://127.0.0.1:{port}/indices",
        asset=AssetClass.INDICES,
        credential=lambda: rig.credential,
        clock=SystemClock(),
        policy=policy,
        on_batch=rig.batches.append if typed else None,
        on_split=lambda split: rig.on_split(split),
        on_notice=lambda notice: rig.on_notice(notice),
        tls=client_tls,
    )
    before = asyncio.all_tasks()
    run = asyncio.get_running_loop().create_task(rig.socket.run())
    try:
        rig.socket.want(frozenset({SPX}))
        rig.socket.activate()
        yield rig
    finally:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert rig.socket.state is State.IDLE
        server.close()
        for peer in rig.peers:
            peer.abort()
        if rig.tasks:
            await asyncio.wait(rig.tasks, timeout=2)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() - before - rig.tasks == set(), "a task outlived its parent"


async def test_a_frame_goes_from_the_socket_to_the_owner_untouched() -> None:
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))
        rig.peers[0].send(array([VALUE, VALUE]))
        rig.peers[0].send(array([VALUE]), BINARY)
        await rig.until(lambda: len(rig.splits) == 2)

        assert [split.raws for split in rig.splits] == [[VALUE, VALUE], [VALUE]]
        assert rig.splits[0].topics == [SPX, SPX]
        statistics = rig.socket.statistics()
        assert (statistics.state, statistics.topics_acked, statistics.events) == ("live", 1, 3)


async def test_a_frame_may_be_read_as_typed_events() -> None:
    async with rigged(well, typed=True) as rig:
        await rig.until(lambda: rig.of(TopicsLive))
        rig.peers[0].send(array([VALUE, VALUE]))
        await rig.until(lambda: rig.batches)

        assert [m.symbol for m in rig.batches[0].models(received_ns=1)] == ["I:SPX", "I:SPX"]
        assert rig.splits == []


@pytest.mark.parametrize(
    ("headers", "simulated"),
    [([], False), (["X-Onetape-Simulated: true"], True), (["x-onetape-simulated: no"], False)],
)
async def test_the_answer_to_the_upgrade_says_whether_the_vendor_is_a_simulator(
    headers: list[str], simulated: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in(*headers)
        await peer.obey()

    async with rigged(script) as rig:
        assert not rig.socket.simulated
        await rig.until(lambda: rig.of(TopicsLive))
        assert rig.socket.simulated is simulated


async def test_the_answer_to_the_upgrade_says_whether_the_data_are_delayed() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in("X-Onetape-Delayed: true")
        await peer.obey()

    async with rigged(script) as rig:
        assert not rig.socket.delayed
        await rig.until(lambda: rig.of(TopicsLive))
        assert rig.socket.delayed
        assert not rig.socket.simulated


def test_the_vendors_hosts_for_delayed_plans_are_known_by_their_names() -> None:
    assert is_delayed("wss://delayed.massive.com/options")
    assert is_delayed("wss://delayed-business.massive.com/stocks")
    assert not is_delayed("wss://socket.massive.com/delayed")


async def test_a_renewed_credential_is_shown_on_the_live_connection() -> None:
    """W-12."""
    shown: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.log_in()
        while (frame := await peer.read())[0] != CLOSE:
            shown.append(msgspec.json.decode(frame[1]))

    async with rigged(script) as rig:
        await rig.until(lambda: rig.of(Authenticated))
        rig.credential = "renewed"
        rig.socket.renew()
        await rig.until(lambda: {"action": "auth", "params": "renewed"} in shown)
        assert len(rig.peers) == 1


async def test_a_new_credential_is_tried_at_once_after_a_refused_login() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.upgrade()
        peer.send(status_frame("connected", ""))
        await peer.read()
        peer.send(status_frame("auth_failed", "expired", code="token_expired"))
        peer.send((4401).to_bytes(2, "big"), CLOSE)

    policy = msgspec.structs.replace(FAST, auth_retry_s=60, auth_retry_cap_s=60)
    async with rigged(refuse, well, policy=policy) as rig:
        await rig.until(lambda: rig.of(AuthFailed))
        assert rig.of(AuthFailed)[0].code == "token_expired"
        rig.socket.retry()
        await rig.until(lambda: rig.of(Restored))


async def test_what_a_gateway_says_of_topics_and_of_itself_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "onetape.massive.stream")

    async def script(peer: Peer) -> None:
        await peer.log_in()
        peer.send(status_frame("subscription_failed", "no plan", topic=SPX))
        peer.send(status_frame("upstream_restored", "back", gap_start_ns=1, gap_end_ns=2))
        await peer.obey()

    async with rigged(script) as rig:
        await rig.until(lambda: rig.of(PeerStatus))
        assert rig.socket.failure(SPX) == "no plan"
        assert not rig.socket.carries(SPX)
    [record] = [r for r in caplog.records if r.message == "upstream.peer_status"]
    assert record.__dict__["status"] == "upstream_restored"
    assert record.__dict__["gap_end_ns"] == 2
    assert "topic" not in record.__dict__


async def test_leaving_closes_with_1000_and_coming_back_connects_again() -> None:
    """R60."""
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))

        rig.socket.deactivate()
        await rig.until(lambda: rig.peers[0].ended)
        assert rig.peers[0].ended == (1000, b"")
        await rig.until(lambda: rig.socket.state is State.IDLE)
        rig.socket.activate()
        await rig.until(lambda: len(rig.of(TopicsLive)) == 2)

        assert rig.of(Lost) == []


async def test_a_socket_that_was_never_needed_ends_without_a_loss() -> None:
    notices: list[Notice] = []
    socket = MassiveWebSocket(
        url="ws://127.0.0.1:1/options",
        asset=AssetClass.OPTIONS,
        credential=lambda: SECRET,
        clock=SystemClock(),
        policy=FAST,
        on_notice=notices.append,
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await socket.run()
    assert notices == []


async def test_cancelling_closes_with_1000() -> None:
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))
    await rig.until(lambda: rig.peers[0].ended)
    assert rig.peers[0].ended == (1000, b"")


async def test_the_wanted_topics_follow_over_a_live_connection() -> None:
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))
        rig.socket.want(frozenset({NDX}))
        await rig.until(lambda: len(rig.of(TopicsLive)) == 2)
        assert rig.peers[0].carried == {NDX}


async def test_a_topic_the_vendor_ignores_fails_while_the_others_flow() -> None:
    async def ignore(peer: Peer) -> None:
        await peer.log_in()
        await peer.read()
        peer.send(status_frame("success", f"subscribed to: {SPX}"))
        await peer.reader.read()

    policy = msgspec.structs.replace(FAST, ack_timeout_s=0.05)
    async with rigged(ignore, policy=policy) as rig:
        rig.socket.want(frozenset({SPX, NDX}))
        await rig.until(lambda: rig.of(TopicsFailed))
        assert set(rig.socket.failed) == {NDX}
        assert "1 of 2 topics" in repr(rig.socket)


async def before_the_upgrade(peer: Peer) -> None:
    peer.abort()


async def after_the_request(peer: Peer) -> None:
    await peer.reader.readuntil(b"\r\n\r\n")


async def by_refusing(peer: Peer) -> None:
    await peer.upgrade("503 Service Unavailable")


async def by_stalling(peer: Peer) -> None:
    await peer.reader.read()


async def by_talking_nonsense(peer: Peer) -> None:
    peer.writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def after_the_upgrade(peer: Peer) -> None:
    await peer.upgrade()
    peer.abort()


async def by_not_greeting(peer: Peer) -> None:
    await peer.upgrade()
    await peer.reader.read()


async def after_the_login(peer: Peer) -> None:
    await peer.upgrade()
    peer.send(status_frame("connected", ""))
    await peer.read()
    peer.abort()


async def by_not_answering_the_login(peer: Peer) -> None:
    await peer.upgrade()
    peer.send(status_frame("connected", ""))
    await peer.reader.read()


async def after_the_subscription(peer: Peer) -> None:
    await peer.log_in()
    await peer.read()
    peer.abort()


async def with_a_close_frame(peer: Peer) -> None:
    await peer.log_in()
    peer.send((1012).to_bytes(2, "big") + b"restart", CLOSE)
    await peer.reader.read()


async def with_an_orderly_close(peer: Peer) -> None:
    await peer.log_in()
    peer.send((1000).to_bytes(2, "big"), CLOSE)


async def with_a_frame_too_large(peer: Peer) -> None:
    await peer.log_in()
    peer.send(b"x" * 100_001)
    await peer.reader.read()


async def with_fragments_too_large(peer: Peer) -> None:
    await peer.log_in()
    peer.send(b"x" * 60_000, fin=False)
    peer.send(b"x" * 60_000, MORE)
    await peer.reader.read()


async def with_a_stray_fragment(peer: Peer) -> None:
    await peer.log_in()
    peer.send(b"x", MORE)
    await peer.reader.read()


async def as_a_slow_consumer(peer: Peer) -> None:
    await peer.log_in()
    peer.send(status_frame("slow_consumer", "too slow"))
    await peer.reader.read()


SILENT: set[Script] = {by_stalling, by_not_greeting, by_not_answering_the_login}


@pytest.mark.parametrize(
    "drop",
    [
        before_the_upgrade,
        after_the_request,
        by_refusing,
        by_stalling,
        by_talking_nonsense,
        after_the_upgrade,
        by_not_greeting,
        after_the_login,
        by_not_answering_the_login,
        after_the_subscription,
        with_a_close_frame,
        with_an_orderly_close,
        with_a_frame_too_large,
        with_fragments_too_large,
        with_a_stray_fragment,
        as_a_slow_consumer,
    ],
    ids=lambda drop: drop.__name__,
)
async def test_the_stream_survives_a_vendor_that_drops_it(drop: Script) -> None:
    """R118, C15: at every stage, and however it is done."""
    policy = HASTY if drop in SILENT else FAST
    async with rigged(drop, drop, well, policy=policy) as rig:
        await rig.until(lambda: rig.of(Restored))

        assert len(rig.of(Lost)) == 1
        assert len(rig.peers) >= 3
        assert rig.peers[-1].carried == {SPX}
        rig.peers[-1].send(array([VALUE]))
        await rig.until(lambda: rig.splits)


@pytest.mark.parametrize(
    ("drop", "reason", "code"),
    [
        (by_refusing, "upgrade refused with 503", None),
        (by_stalling, "timed out", None),
        (with_a_close_frame, "restart", 1012),
        (with_an_orderly_close, "closed by the vendor", 1000),
        (after_the_subscription, "closed without a word", None),
        (as_a_slow_consumer, "slow_consumer", None),
        (with_fragments_too_large, "a message larger than we read", None),
    ],
)
async def test_the_reason_of_a_loss_is_told(drop: Script, reason: str, code: int | None) -> None:
    async with rigged(drop, policy=HASTY if drop in SILENT else FAST) as rig:
        await rig.until(lambda: rig.of(Lost))
        assert (rig.of(Lost)[0].reason, rig.of(Lost)[0].code) == (reason, code)


async def test_a_host_that_is_not_there_is_tried_again() -> None:
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))
    notices: list[Notice] = []
    socket = MassiveWebSocket(
        url="ws://127.0.0.1:1/options",
        asset=AssetClass.OPTIONS,
        credential=lambda: SECRET,
        clock=SystemClock(),
        policy=FAST,
        on_split=rig.on_split,
        on_notice=notices.append,
    )
    socket.activate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await socket.run()
    assert [n.reason for n in notices if isinstance(n, Lost)] == ["refused"]
    assert len(notices) > 3


async def test_a_message_in_fragments_is_joined_and_pings_between_them_are_answered() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in()
        message = array([VALUE])
        peer.send(message[:5], fin=False)
        peer.send(b"are you there", PING)
        peer.send(message[5:9], MORE, fin=False)
        peer.send(message[9:], MORE)
        while (answer := await peer.read()) != (PONG, b"are you there"):
            assert answer[0] == TEXT
        peer.send(array([VALUE]))
        await peer.obey()

    async with rigged(script) as rig:
        await rig.until(lambda: len(rig.splits) == 2)
        assert [split.raws for split in rig.splits] == [[VALUE], [VALUE]]


async def test_a_vendor_that_never_pongs_is_left() -> None:
    """R64, W-48."""

    async def mute(peer: Peer) -> None:
        await peer.log_in()
        await peer.obey(pongs=False)

    policy = msgspec.structs.replace(FAST, ping_interval_s=0.1, pong_deadline_s=0.1)
    async with rigged(mute, well, policy=policy) as rig:
        await rig.until(lambda: rig.of(Restored))
        assert rig.of(Lost)[0].reason == "no sign of life after a ping"
        await asyncio.sleep(0.35)
        assert rig.socket.state is State.LIVE, "who pongs is kept"


async def test_an_evicted_connection_waits_out_the_cool_down() -> None:
    async def evict(peer: Peer) -> None:
        await peer.log_in()
        peer.send(status_frame("max_connections", "Maximum number of websocket connections."))
        peer.send((1008).to_bytes(2, "big"), CLOSE)

    async with rigged(evict, well) as rig:
        await rig.until(lambda: rig.of(Evicted))
        evicted_at = asyncio.get_running_loop().time()
        await rig.until(lambda: rig.of(Restored))
        assert asyncio.get_running_loop().time() - evicted_at >= FAST.cool_down_s


async def test_a_refused_login_is_tried_again() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.upgrade()
        peer.send(status_frame("connected", ""))
        credential = msgspec.json.decode((await peer.read())[1])["params"]
        peer.send(status_frame("auth_failed", f"Unknown API Key {credential}"))
        peer.abort()

    async with rigged(refuse, well) as rig:
        await rig.until(lambda: rig.of(Restored))
        assert rig.of(AuthFailed)[0].message == "Unknown API Key ***"
        assert rig.of(TopicsFailed)[0].topics == {SPX}


async def test_garbage_does_not_end_the_stream() -> None:
    async def garble(peer: Peer) -> None:
        await peer.log_in()
        peer.send(b"\xff\xfe garbage")
        peer.send(array([VALUE]))
        await peer.obey()

    async with rigged(garble) as rig:
        await rig.until(lambda: rig.splits)
        assert rig.of(Garbled) == [Garbled(count=1, sample="\\xff\\xfe garbage")]
        assert rig.of(Lost) == []


async def test_a_vendor_that_ignores_our_close_is_aborted() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.log_in()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.4)

    async with rigged(deaf) as rig:
        await rig.until(lambda: rig.of(Authenticated))
        rig.socket.deactivate()
        await rig.until(lambda: rig.socket.state is State.IDLE)


async def test_an_owner_that_raises_costs_neither_the_connection_nor_the_next_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with rigged(well) as rig:
        await rig.until(lambda: rig.of(TopicsLive))

        def fail(split: Split) -> None:
            rig.keep_split(split)
            raise ZeroDivisionError

        rig.on_split = fail
        for _ in range(3):
            rig.peers[0].send(array([VALUE]))
        await rig.until(lambda: len(rig.splits) == 3)

        assert rig.of(Lost) == []
    assert [r.message for r in caplog.records].count("upstream.callback_failed") == 1


async def test_what_the_owner_asks_within_a_callback_comes_in_order() -> None:
    async with rigged(well) as rig:
        seen: list[str] = []

        def on_notice(notice: Notice) -> None:
            seen.append(type(notice).__name__)
            if isinstance(notice, Authenticated):
                rig.socket.want(frozenset({SPX, NDX}))
                rig.socket.want(frozenset({NDX}))
                seen.append("after")
            rig.keep_notice(notice)

        rig.on_notice = on_notice
        await rig.until(lambda: rig.of(TopicsLive) and rig.peers[0].carried == {NDX})
        assert seen[seen.index("Authenticated") + 1] == "after"


async def test_every_event_of_the_connection_is_one_line_without_the_credential(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R71."""
    caplog.set_level(logging.DEBUG, "onetape.massive.stream")
    async with rigged(after_the_subscription, by_refusing, well) as rig:
        await rig.until(lambda: rig.of(Restored))
    records = [r for r in caplog.records if r.name == "onetape.massive.stream"]
    assert [r.message for r in records if r.levelno >= logging.INFO][:7] == [
        "upstream.connecting",
        "upstream.authenticated",
        "upstream.lost",
        "upstream.connecting",
        "upstream.dial_failed",
        "upstream.connecting",
        "upstream.authenticated",
    ]
    assert {r.__dict__["asset"] for r in records} == {"indices"}
    assert SECRET not in str([r.__dict__ for r in caplog.records])


@pytest.mark.parametrize("stage", [by_stalling, by_not_greeting, by_not_answering_the_login, well])
@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05])
async def test_it_can_be_cancelled_at_any_moment(stage: Script, after_s: float) -> None:
    """The rig fails on tasks that stay, pytest on sockets."""
    async with rigged(stage):
        await asyncio.sleep(after_s)


@pytest.mark.parametrize("url", ["https://a.b/c", "ws://", "socket.massive.com/options"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        MassiveWebSocket(
            url=url,
            asset=AssetClass.STOCKS,
            credential=str,
            clock=SystemClock(),
            policy=FAST,
            on_split=print,
            on_notice=print,
        )


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


async def test_the_stream_runs_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with rigged(after_the_subscription, well, tls=tls) as rig:
        await rig.until(lambda: rig.of(Restored))
        rig.peers[1].send(array([VALUE]))
        await rig.until(lambda: rig.splits)
        rig.socket.deactivate()
        await rig.until(lambda: rig.peers[1].ended)
        await rig.until(lambda: rig.socket.state is State.IDLE)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.1])
async def test_it_can_be_cancelled_at_any_moment_of_tls(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], after_s: float
) -> None:
    async with rigged(by_stalling, tls=tls):
        await asyncio.sleep(after_s)


async def test_a_certificate_we_do_not_trust_is_a_failed_dial(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    strangers = ssl.create_default_context()
    async with rigged(well, tls=(tls[0], strangers)) as rig:
        await rig.until(lambda: rig.of(Lost))
        assert rig.of(Lost)[0].reason == "TLS failed"
