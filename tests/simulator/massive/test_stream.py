import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from onetape.asgi import Receive, Scope, Send, Server
from onetape.clock import Clock, SystemClock
from onetape.model import AssetClass
from onetape.simulator.faults import (
    Close,
    Cross,
    CutSlow,
    Drop,
    Duplicate,
    Evict,
    Faults,
    FaultScript,
    Garbage,
    Mute,
    Oversize,
    Refuse,
    Reorder,
    Skew,
    Stage,
    Stale,
    StreamRule,
    Truncate,
)
from onetape.simulator.links import Pace
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.session import StreamPolicy, VendorSockets
from onetape.simulator.massive.stream import MassiveStream
from onetape.simulator.seeded.records import BarTick, QuoteTick, TradeTick, ValueTick
from onetape.testing import ManualClock

MS = 1_000_000
CONTRACT = "O:SPY251219C00650000"


class CountingTape:
    """One trade, quote and value per symbol every 5 ms, numbered without a gap."""

    def __init__(self) -> None:
        self.weight = 1

    def numbers(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[tuple[str, int]]:
        first, last = -(-start_ns // (5 * MS)), -(-end_ns // (5 * MS))
        named = sorted(symbols or {"ALL"}) * self.weight
        return [(symbol, n) for n in range(first, last) for symbol in named]

    def stream_trades(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[TradeTick]:
        del asset
        return [
            TradeTick(symbol, n * 5 * MS, 500.0, 1, 4, (233,), n, n * 5 * MS)
            for symbol, n in self.numbers(symbols, start_ns, end_ns)
        ]

    def stream_quotes(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[QuoteTick]:
        del asset
        return [
            QuoteTick(symbol, n * 5 * MS, 9.7, 9.8, 1, 2, 302, 308, n, n * 5 * MS)
            for symbol, n in self.numbers(symbols, start_ns, end_ns)
        ]

    def stream_values(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[ValueTick]:
        return [
            ValueTick(symbol, n * 5 * MS, float(n))
            for symbol, n in self.numbers(symbols, start_ns, end_ns)
        ]

    def closed_bars(
        self,
        asset: AssetClass,
        symbols: Collection[str] | None,
        start_ns: int,
        end_ns: int,
        *,
        seconds: int = 60,
    ) -> list[BarTick]:
        return []


class Vendor:
    """The vendor's sockets on a real port, and a way to be its client."""

    def __init__(self, *faults: StreamRule, policy: StreamPolicy, pace: Pace, clock: Clock) -> None:
        self.clock = clock
        self.tape = CountingTape()
        self.faults = Faults(FaultScript(rules=faults), now=clock.monotonic())
        self.sockets = VendorSockets(accounts=Accounts(), policy=policy, faults=self.faults)
        self.stream = MassiveStream(
            sockets=self.sockets, tape=self.tape, now_ns=clock.now_ns, clock=clock, pace=pace
        )
        self.netloc = ""

    async def connect(self, cluster: str = "options", **options: Any) -> ClientConnection:
        options = {"proxy": None, "compression": None, "ping_interval": None} | options
        return await connect(f"ws://{self.netloc}/{cluster}", **options)

    async def logged_in(self, *topics: str, cluster: str = "options") -> ClientConnection:
        client = await self.connect(cluster)
        await client.recv()
        await client.send('{"action":"auth","params":"sim-key"}')
        await client.recv()
        if topics:
            await client.send(
                msgspec.json.encode({"action": "subscribe", "params": topics}), text=True
            )
        return client


@asynccontextmanager
async def vendor(
    *faults: StreamRule,
    policy: StreamPolicy = StreamPolicy(),  # noqa: B008 - frozen
    pace: Pace = Pace(step_s=0.01, close_grace_s=0.3),  # noqa: B008 - frozen
    clock: Clock = SystemClock(),  # noqa: B008 - has no state
) -> AsyncGenerator[Vendor]:
    one = Vendor(*faults, policy=policy, pace=pace, clock=clock)
    async with (
        Server(nothing, host="127.0.0.1", port=0, websocket=one.stream.route) as server,
        asyncio.timeout(30),
    ):
        one.netloc = server.netloc
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(one.stream.run())
            try:
                yield one
            finally:
                pump.cancel()


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def events(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    """Read until that many market events have come; statuses are left out."""
    heard: list[dict[str, Any]] = []
    while len(heard) < count:
        frame = await client.recv()
        heard += [one for one in msgspec.json.decode(frame) if one["ev"] != "status"]
    return heard


async def statuses(client: ClientConnection) -> list[str]:
    """Read to the end, and return the statuses on the way."""
    heard: list[str] = []
    try:
        while True:
            frame = await client.recv()
            heard += [one["status"] for one in msgspec.json.decode(frame) if one["ev"] == "status"]
    except ConnectionClosed:
        return heard


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def read_all(client: ClientConnection) -> None:
    """Read to the end, which raises."""
    while True:
        await client.recv()


async def test_a_client_that_does_not_wait_for_greetings_is_served_in_order() -> None:
    """JavaScript and Go send their login at once and the subscription right behind it."""
    async with vendor() as one, await one.connect("indices") as client:
        await client.send(b'{"action":"auth","params":"sim-key"}')
        await client.send('{"action":"subscribe","params":"V.I:SPX"}')

        greetings = [await client.recv() for _ in range(3)]
        heard = await events(client, 5)

    assert [msgspec.json.decode(frame)[0]["status"] for frame in greetings] == [
        "connected",
        "auth_success",
        "success",
    ]
    assert {(value["ev"], value["T"]) for value in heard} == {("V", "I:SPX")}


async def test_the_tape_comes_without_a_gap_or_a_repeat_from_step_to_step() -> None:
    async with vendor() as one, await one.logged_in(f"T.{CONTRACT}") as client:
        heard = await events(client, 40)

    numbers = [trade["q"] for trade in heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_frame_in_fragments_is_one_frame() -> None:
    async with vendor() as one, await one.connect() as client:
        await client.recv()
        await client.send(['{"action":"auth",', '"params":', '"sim-key"}'])

        assert b"auth_success" in await client.recv(decode=False)


async def test_fragments_without_end_are_refused() -> None:
    async with vendor() as one, await one.connect() as client:

        async def endless() -> AsyncGenerator[str]:
            for _ in range(40):
                yield "x" * 50_000

        with suppress(ConnectionClosed):
            await client.send(endless())
        await statuses(client)

        assert client.close_code == 1009


async def test_nothing_follows_a_goodbye() -> None:
    """A step may hold several frames for a client whom the first of them cuts."""
    policy = StreamPolicy(buffer_bytes=0)
    async with vendor(policy=policy) as one, await one.logged_in() as client:
        one.tape.weight = 5_000
        await client.send('{"action":"subscribe","params":"T.*"}')

        assert (await statuses(client))[-1] == "slow_consumer"
        assert client.close_code == 1008


async def test_only_the_three_clusters_are_served() -> None:
    async with vendor() as one:
        with pytest.raises(InvalidStatus) as refused:
            await one.connect("forex")
        client = await one.connect("stocks/?x=1")
        await client.close()

    assert refused.value.response.status_code == 404


async def test_the_upgrade_says_that_all_of_it_is_simulated() -> None:
    async with vendor() as one, await one.connect() as client:
        assert client.response is not None
        assert client.response.headers["X-Onetape-Simulated"] == "true"


async def test_an_evicted_client_reads_why_before_it_is_closed() -> None:
    async with vendor() as one, await one.logged_in() as old, await one.logged_in() as new:
        assert await statuses(old) == ["max_connections"]
        assert old.close_code == 1008
        await new.send('{"action":"subscribe","params":"T.*"}')
        assert await events(new, 1)


async def test_a_refused_login_ends_without_a_close_frame() -> None:
    async with vendor() as one, await one.connect() as client:
        await client.recv()
        await client.send('{"action":"auth","params":"wrong"}')

        assert await statuses(client) == ["auth_failed"]
        assert client.close_code == 1006


async def test_who_never_logs_in_is_closed() -> None:
    policy = StreamPolicy(auth_timeout_s=0.05)
    async with vendor(policy=policy) as one, await one.connect() as client:
        assert await statuses(client) == ["connected", "auth_timeout"]


async def test_the_vendor_pings_and_answers_pings() -> None:
    policy = StreamPolicy(ping_interval_s=0.02)
    async with vendor(policy=policy) as one, await one.logged_in() as client:
        pong = await client.ping()
        async with asyncio.timeout(2):
            await pong
        await asyncio.wait_for(client.ping(), 1)

    assert client.close_code == 1000


async def test_a_client_that_leaves_is_forgotten() -> None:
    async with vendor() as one:
        client = await one.logged_in(f"T.{CONTRACT}")
        await client.close()
        await until(lambda: not one.sockets.statistics()[AssetClass.OPTIONS].connections_open)

    assert one.sockets.demand(AssetClass.OPTIONS) == {}


async def test_a_client_that_stops_reading_is_cut() -> None:
    """The vendor keeps a buffer per connection and cuts whoever fills it."""
    policy = StreamPolicy(buffer_bytes=100_000)
    async with vendor(policy=policy) as one:
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        host, port = one.netloc.split(":")
        await asyncio.get_running_loop().sock_connect(lazy, (host, int(port)))
        client = await one.connect(sock=lazy, max_queue=1)
        await client.recv()
        await client.send('{"action":"auth","params":"sim-key"}')
        await client.recv()
        one.tape.weight = 2000
        await client.send('{"action":"subscribe","params":"T.*"}')
        await until(lambda: one.sockets.statistics()[AssetClass.OPTIONS].slow_consumers > 0)
        one.tape.weight = 1
        client.transport.abort()

    assert one.sockets.statistics()[AssetClass.OPTIONS].connections_open == 0


async def test_a_pause_of_the_host_is_left_out_rather_than_caught_up_with() -> None:
    clock = ManualClock()
    async with vendor(clock=clock) as one, await one.logged_in(f"T.{CONTRACT}") as client:
        await client.recv()
        numbers: list[int] = []
        for pause_s in (1, 60, 1):
            one.stream.step()
            clock.advance(pause_s)
            one.stream.step()
            numbers += [trade["q"] for trade in await events(client, 200)] if pause_s == 1 else []

    assert numbers[199] - numbers[0] == 199
    assert numbers[200] - numbers[199] == 60 * 200 + 1


# every fault, seen by a client


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 4001])
async def test_a_close_has_the_code_of_the_script(code: int) -> None:
    fault = StreamRule(action=Close(code=code, reason="why"), stage=Stage.AUTHENTICATED)
    async with vendor(fault) as one, await one.logged_in() as client:
        await statuses(client)

        assert (client.close_code, client.close_reason) == (code, "why")


@pytest.mark.parametrize("stage", [Stage.ACCEPT, Stage.GREETED, Stage.LIVE, Stage.DATA])
async def test_a_drop_has_no_close_frame(stage: Stage) -> None:
    async with vendor(StreamRule(action=Drop(), stage=stage)) as one:
        client = await one.connect()
        with suppress(ConnectionClosed):
            await client.send('{"action":"auth","params":"sim-key"}')
            await client.send('{"action":"subscribe","params":"T.*"}')
        await statuses(client)

        assert client.close_code == 1006


async def test_a_refused_upgrade_is_an_http_error() -> None:
    async with vendor(StreamRule(action=Refuse(status=503), count=1)) as one:
        with pytest.raises(InvalidStatus) as refused:
            await one.connect()
        client = await one.connect()
        await client.close()

    assert refused.value.response.status_code == 503


async def test_a_mute_socket_is_open_and_answers_pings_alone() -> None:
    async with vendor(StreamRule(action=Mute(), stage=Stage.ACCEPT)) as one:
        client = await one.connect()
        async with asyncio.timeout(1):
            await (await client.ping())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.1)
        await client.close()


async def test_a_dead_socket_does_not_even_pong_until_it_wakes() -> None:
    fault = StreamRule(action=Mute(pong=False, for_s=0.3), stage=Stage.GREETED)
    async with vendor(fault) as one, await one.connect() as client:
        await client.recv()
        pong = await client.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), 0.1)
        async with asyncio.timeout(2):
            await pong


async def test_an_alien_login_evicts_out_of_the_blue() -> None:
    async with vendor(StreamRule(action=Evict(), count=1)) as one, await one.logged_in() as client:
        assert await statuses(client) == ["max_connections"]
        assert client.close_code == 1008


async def test_a_slow_consumer_cut_out_of_the_blue_says_so() -> None:
    async with (
        vendor(StreamRule(action=CutSlow(), count=1)) as one,
        await one.logged_in() as client,
    ):
        assert await statuses(client) == ["slow_consumer"]


async def test_garbage_and_halves_of_frames_arrive_as_they_are() -> None:
    faults = [StreamRule(action=Garbage(), count=1), StreamRule(action=Truncate(), count=1)]
    async with vendor(*faults) as one, await one.logged_in(f"T.{CONTRACT}") as client:
        broken = 0
        while broken < 2:
            try:
                msgspec.json.decode(await client.recv())
            except msgspec.DecodeError:
                broken += 1
        assert await events(client, 1)


async def test_an_oversized_frame_is_more_than_the_official_clients_read() -> None:
    async with vendor(StreamRule(action=Oversize())) as one, await one.logged_in("T.*") as client:
        with pytest.raises(ConnectionClosedError) as closed:
            await read_all(client)

    assert closed.value.sent is not None
    assert closed.value.sent.code == 1009


async def test_repeats_reorderings_and_stuck_values_arrive_as_they_are() -> None:
    async with vendor() as one, await one.logged_in(f"T.{CONTRACT}") as client:

        async def numbers(rule: StreamRule | None, count: int) -> list[int]:
            one.faults.clear(now=0)
            if rule is not None:
                one.faults.add([rule], now=0)
            return [trade["q"] for trade in await events(client, count)]

        assert len(set(twice := await numbers(StreamRule(action=Duplicate()), 60))) < len(twice)
        shuffled = await numbers(StreamRule(action=Reorder()), 60)
        assert shuffled != sorted(shuffled)
        stuck = await numbers(StreamRule(action=Stale()), 60)
        assert stuck[-1] == stuck[-20]
        assert (await numbers(None, 60))[-1] > stuck[-1]


async def test_crossed_quotes_and_skewed_clocks_arrive_as_they_are() -> None:
    faults = [
        StreamRule(action=Cross(), cluster="options"),
        StreamRule(action=Skew(by_s=-900), cluster="indices"),
    ]
    async with (
        vendor(*faults) as one,
        await one.logged_in(f"Q.{CONTRACT}") as quotes,
        await one.logged_in("V.I:SPX", cluster="indices") as values,
    ):
        quote, value = (await events(quotes, 1))[0], (await events(values, 1))[0]

    assert quote["bp"] > quote["ap"]
    assert one.clock.now_ns() // MS - value["t"] >= 900_000
