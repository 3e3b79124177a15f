"""Tradier's streams on a real port, over WebSocket and HTTP, by clients that know nothing of us."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from onetape.asgi import Message
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.control import ClockChange
from onetape.simulator.faults import (
    Close,
    Drop,
    Faults,
    Garbage,
    GarbageKind,
    Mute,
    Refuse,
    Stage,
    TradierStreamActions,
    TradierStreamRule,
)
from onetape.simulator.links import Pace
from onetape.simulator.market import Hours
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.session import TradierStreams
from onetape.simulator.tradier.stream import TradierStream
from onetape.testing import ManualClock, until

MONDAY_10AM_NS = int(datetime(2025, 11, 24, 15, 0, tzinfo=UTC).timestamp()) * 1_000_000_000


class Vendor:
    """The simulator, and a way to be Tradier's client."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    async def session(self) -> str:
        url = f"{self.simulator.tradier_url}/markets/events/session"
        async with self.http.post(url) as answer:
            return (await answer.json(content_type=None))["stream"]["sessionid"]

    async def socket(self) -> ClientConnection:
        # Without a bound on its queue, or a client that reads no more does not see the goodbye.
        url = self.simulator.tradier_socket_url
        return await connect(url, proxy=None, compression=None, max_queue=None)

    async def reading(self, *symbols: str, **payload: Any) -> ClientConnection:
        client = await self.socket()
        await self.read(client, *symbols, **payload)
        return client

    async def read(self, client: ClientConnection, *symbols: str, **payload: Any) -> None:
        asked = {"symbols": list(symbols), "sessionid": await self.session(), **payload}
        await client.send(msgspec.json.encode(asked).decode())

    def stream(self, method: str = "GET", **params: str) -> Any:
        url = self.simulator.tradier_stream_url
        if method == "GET":
            return self.http.get(url, params=params)
        return self.http.post(url, data=params)

    @property
    def counts(self) -> dict[str, Any]:
        return self.simulator.state().tradier_stream


@asynccontextmanager
async def vendor(
    *rules: TradierStreamRule, hours: Hours = Hours.EXCHANGE, speed: float = 20.0, **policy: Any
) -> AsyncGenerator[Vendor]:
    settings = SimulatorSettings(
        start_ns=MONDAY_10AM_NS,
        rate=1.0,
        speed=speed,
        hours=hours,
        pace=Pace(step_s=0.01, close_grace_s=0.2),
        tradier=TradierPolicy(**policy),
    )
    headers = {"Authorization": "Bearer sim-tradier-token", "Accept": "application/json"}
    async with (
        asyncio.timeout(20),
        Simulator(settings) as simulator,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        simulator.inject(*rules)
        yield Vendor(simulator, http)


def on(action: TradierStreamActions, **place: Any) -> TradierStreamRule:
    return TradierStreamRule(action=action, **place)


async def heard(client: ClientConnection, *, kind: str = "trade", symbol: str = "SPY") -> Any:
    while True:
        event = msgspec.json.decode(await client.recv())
        if (event.get("type"), event.get("symbol")) == (kind, symbol):
            return event


async def test_a_socket_reads_stocks_indices_and_options() -> None:
    async with vendor() as one:
        near = near_the_money(one.simulator)
        client = await one.reading("SPY", "SPX", near)
        for kind, symbol in (("quote", "SPY"), ("trade", "SPY"), ("trade", "SPX"), ("quote", near)):
            await heard(client, kind=kind, symbol=symbol)
        await client.close()
        await until(lambda: one.counts["connections_open"] == 0)


def near_the_money(simulator: Simulator) -> str:
    market = simulator.market
    last = market.last_trade("SPY", market.now_ns())
    assert last is not None
    near = min(market.contracts("SPY"), key=lambda c: (c.expiration, abs(c.strike - last.price)))
    return near.ticker.removeprefix("O:")


async def test_what_is_streamed_is_what_rest_tells() -> None:
    """The tape is one: every trade of the stream is among the ticks of REST, in order."""
    async with vendor() as one:
        client = await one.reading("SPY", filter=["trade"])
        trades = [await heard(client) for _ in range(30)]
        url = f"{one.simulator.tradier_url}/markets/timesales"
        params = {"symbol": "SPY", "start": "2025-11-24 10:00", "interval": "tick"}
        async with one.http.get(url, params=params) as answer:
            rows = (await answer.json(content_type=None))["series"]["data"]
        await client.close()

    ticks = [(row["timestamp"], row["price"], row["volume"]) for row in rows]
    said = [(int(t["date"]) // 1000, float(t["price"]), int(t["size"])) for t in trades]
    start = ticks.index(said[0])
    assert ticks[start : start + len(said)] == said


async def test_what_is_sent_again_replaces_the_symbols() -> None:
    async with vendor() as one:
        client = await one.reading("SPY", filter=["quote"])
        await heard(client, kind="quote")
        await one.read(client, "QQQ", filter=["quote"])
        await heard(client, kind="quote", symbol="QQQ")
        assert one.counts["symbols"] == ("QQQ",)
        await client.close()


async def test_a_bad_session_is_an_error_frame_and_no_goodbye() -> None:
    async with vendor() as one:
        client = await one.socket()
        await client.send('{"symbols":["SPY"],"sessionid":"nope"}')
        assert msgspec.json.decode(await client.recv()) == {"error": "session not found"}
        await client.send("not json")
        assert "error" in msgspec.json.decode(await client.recv())
        await one.read(client, "SPY")
        await heard(client, kind="quote")
        await client.close()


async def test_a_second_stream_ends_the_first() -> None:
    async with vendor() as one:
        first = await one.reading("SPY")
        await heard(first, kind="quote")
        second = await one.reading("SPY")
        await heard(second, kind="quote")
        with pytest.raises(ConnectionClosedOK):
            await heard(first, symbol="NONE")
        assert one.counts["evictions"] == 1
        await second.close()


async def test_an_idle_symbol_gets_its_old_tick_again() -> None:
    """The market is closed: all that can come is old."""
    async with vendor(hours=Hours.EXCHANGE, resend_s=0.2) as one:
        one.simulator.change_clock(ClockChange(jump_s=14 * 3600))
        client = await one.reading("SPY", "SPX")
        first = await heard(client, kind="quote")
        again = await heard(client, kind="quote")
        assert again == first
        assert await heard(client, kind="trade", symbol="SPX")
        await client.close()


async def test_the_night_ends_every_stream() -> None:
    async with vendor() as one:
        client = await one.reading("SPY", filter=["quote"])
        await heard(client, kind="quote")
        one.simulator.change_clock(ClockChange(jump_s=16 * 3600 - 60))
        one.simulator.change_clock(ClockChange(speed=1000))
        with pytest.raises(ConnectionClosedOK) as caught:
            await heard(client, symbol="NONE")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


@pytest.mark.parametrize(
    ("action", "code"), [(Drop(), 1006), (Close(code=1012), 1012), (Close(code=1000), 1000)]
)
async def test_a_socket_may_end_in_any_way(action: TradierStreamActions, code: int) -> None:
    async with vendor(on(action, count=1)) as one:
        client = await one.reading("SPY")
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as caught:
            await heard(client, symbol="NONE")
        received = caught.value.rcvd
        assert (1006 if received is None else received.code) == code


async def test_an_upgrade_may_be_refused() -> None:
    async with vendor(on(Refuse(status=502))) as one:
        with pytest.raises(InvalidStatus) as caught:
            await one.socket()
        assert caught.value.response.status_code == 502
        assert caught.value.response.headers["X-Onetape-Simulated"] == "true"
        async with one.stream(sessionid="x", symbols="SPY") as answer:
            assert answer.status == 502


async def test_garbage_comes_between_events_and_a_mute_stream_speaks_again() -> None:
    rules = (
        on(Garbage(kind=GarbageKind.NO_SYMBOL)),
        on(Mute(pong=False, for_s=0.2), stage=Stage.LIVE, count=1),
    )
    async with vendor(*rules) as one:
        client = await one.reading("SPY", filter=["trade", "quote"])
        seen: list[Any] = []
        while not any("symbol" not in event for event in seen) or len(seen) < 5:
            seen.append(msgspec.json.decode(await client.recv()))
        await client.close()


async def test_a_message_in_too_many_fragments_is_too_big() -> None:
    async with vendor() as one:
        client = await one.socket()
        await client.send(["x" * 600_000, "y" * 400_000, "z" * 100_000])
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize("path", ["/tradier/v1/markets/other", "/v2/markets/events"])
async def test_another_path_is_no_stream(path: str) -> None:
    async with vendor() as one:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{one.simulator.socket_url}{path}", proxy=None)
        assert caught.value.response.status_code == 404


async def test_the_host_may_pause_and_the_stream_leaves_out_what_was_between() -> None:
    async with vendor() as one:
        client = await one.reading("SPY", filter=["trade"])
        await heard(client)
        one.simulator.change_clock(ClockChange(jump_s=1800))
        trade = await heard(client)
        while int(trade["date"]) < (MONDAY_10AM_NS + 1800 * 10**9) // 10**6:
            trade = await heard(client)
        at_ns = (int(trade["date"]) + 1) * 10**6 - 1
        volume = one.simulator.market.day_stats("SPY", at_ns).volume
        assert volume is not None
        assert int(trade["cvol"]) <= volume
        assert int(trade["cvol"]) > volume * 0.99
        await client.close()


# ---- HTTP ----


async def lines(answer: aiohttp.ClientResponse, count: int) -> list[Any]:
    return [msgspec.json.decode(await answer.content.readline()) for _ in range(count)]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_http_stream_tells_the_same_in_lines(method: str) -> None:
    async with vendor() as one:
        params = {"symbols": "SPY,SPX", "filter": "trade,quote,timesale", "linebreak": "true"}
        params |= {"advancedDetails": "true", "sessionid": await one.session()}
        async with one.stream(method, **params) as answer:
            assert answer.status == 200
            assert answer.headers["X-Onetape-Simulated"] == "true"
            events = await lines(answer, 40)
        await until(lambda: one.counts["connections_open"] == 0)

    assert {event["symbol"] for event in events} == {"SPY", "SPX"}
    assert all("seq" in event for event in events if event["type"] == "timesale")


async def test_without_line_ends_objects_are_joined_and_cut_anywhere() -> None:
    async with vendor(chunk_bytes=7) as one:
        sessionid = await one.session()
        async with one.stream(symbols="SPY", filter="quote", sessionid=sessionid) as answer:
            pieces = [piece async for piece in _some(answer, 60)]

    assert max(map(len, pieces)) <= 7
    assert b"}{" in b"".join(pieces)


async def _some(answer: aiohttp.ClientResponse, count: int) -> AsyncGenerator[bytes]:
    async for piece, _ in answer.content.iter_chunks():
        yield piece
        count -= 1
        if not count:
            return


async def test_a_bad_session_over_http_is_said_and_ends() -> None:
    async with vendor() as one, one.stream(symbols="SPY", sessionid="nope") as answer:
        assert await answer.json() == {"error": "session not found"}


async def test_an_http_stream_without_data_ends() -> None:
    async with (
        vendor(idle_close_s=0.3) as one,
        one.stream(symbols="$empty$", sessionid=await one.session()) as answer,
    ):
        assert await answer.read() == b""


async def test_an_http_stream_may_drop() -> None:
    async with (
        vendor(on(Drop(), stage=Stage.DATA, transport="http")) as one,
        one.stream(symbols="SPY", sessionid=await one.session()) as answer,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_body_that_has_no_end_is_not_read_to_it(tradier: Any) -> None:
    clock, policy = ManualClock(), TradierPolicy()
    streams = TradierStreams(policy=policy, faults=Faults())
    stream = TradierStream(
        streams=streams, market=tradier.market, clock=clock, pace=Pace(), policy=policy
    )
    asked, sent = 0, list[Any]()

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked > 32:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"a=" + b"b" * 100_000, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        scope = {"type": "http", "method": "POST", "query_string": b"sessionid=x&symbols=SPY"}
        await stream(scope, receive, send)

    assert b"".join(one.get("body", b"") for one in sent) == b'{"error":"session not found"}'
    assert asked < 20


def test_a_pause_of_the_host_is_left_out(tradier: Any, caplog: pytest.LogCaptureFixture) -> None:
    clock, policy = ManualClock(), TradierPolicy()
    stream = TradierStream(
        streams=TradierStreams(policy=policy, faults=Faults()),
        market=tradier.market,
        clock=clock,
        pace=Pace(),
        policy=policy,
    )
    clock.advance(4.9)
    stream.step()
    assert not caplog.messages
    clock.advance(5.1)
    stream.step()

    assert caplog.messages == ["simulator.paused"]


async def test_the_socket_is_at_the_vendors_own_path_too() -> None:
    async with vendor() as one:
        url = f"{one.simulator.socket_url}/v1/markets/events"
        client = await connect(url, proxy=None, compression=None, max_queue=None)
        await one.read(client, "SPY")
        await heard(client, kind="quote")
        await client.close()
