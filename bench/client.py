"""(f) The client: delivery against the official one, recovery, fallback, tokens, cache, memory."""

import asyncio
import contextlib
import gc
import multiprocessing
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import massive
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from onetape.client import MassiveDataProvider, Parts
from onetape.client._cache import TTL_S, ClientCache
from onetape.client._rest import GatewayStatistics
from onetape.client._streams import Streams
from onetape.client._tokens import TokenStatistics
from onetape.clock import SystemClock
from onetape.massive import wire_stream
from onetape.massive.notices import FeedPolicy
from onetape.massive.rest import RestResponse
from onetape.model import AssetClass, Quote
from onetape.testing import ManualClock, Playground

EVENTS = 200_000
FRAMES = (1, 10, 50)
FRAME = 50
SYMBOLS = [f"O:SPY261218C00{strike}000" for strike in range(600, 700)]
DROPS = 100


def frames(count: int, start: int = 0, size: int = FRAME) -> Iterator[bytes]:
    """Quotes, each newer than the last, in frames as the gateway writes them under load."""
    for first in range(start, start + count, size):
        yield wire_stream.array(_quote(n) for n in range(first, first + size))


def _quote(n: int) -> bytes:
    return wire_stream.event(
        "Q",
        sym=SYMBOLS[n % len(SYMBOLS)],
        bx=302,
        ax=303,
        bp=round(10 + n % 1000 / 100, 2),
        ap=round(10.05 + n % 1000 / 100, 2),
        bs=11,
        as_=25,
        t=1_790_000_000_000 + n,
        q=n,
    )


class _Peer(WSListener):
    """A gateway that lets everybody in, and once asked for topics sends what it has."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._free = asyncio.Event()
        self._free.set()
        self._sender: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(
            WSMsgType.TEXT, wire_stream.status_frame("connected", "Connected Successfully")
        )

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            return
        action = wire_stream.parse_action(frame.get_payload_as_bytes())
        if action.action == "auth":
            transport.send(
                WSMsgType.TEXT, wire_stream.status_frame("auth_success", "authenticated")
            )
        elif action.action == "subscribe" and self._sender is None:
            topics = wire_stream.parse_params(action.params)
            acks = [wire_stream.status_event("success", f"subscribed to: {one}") for one in topics]
            transport.send(WSMsgType.TEXT, wire_stream.array(acks))
            self._sender = asyncio.get_running_loop().create_task(self._send(transport))

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()

    def _book(self) -> Iterable[bytes]:
        """The frames made beforehand, so that making them takes no CPU from the one measured."""
        self._plan["served"] += 1
        if self._plan["served"] == 1:
            return self._plan["book"]
        start = (self._plan["served"] - 1) * self._plan["count"]  # who comes back gets newer ones
        return frames(self._plan["count"], start, self._plan["frame"])

    async def _send(self, transport: WSTransport) -> None:
        for n, frame in enumerate(self._book()):
            await self._free.wait()
            transport.send(WSMsgType.TEXT, frame)
            if n % 20 == 0:
                await asyncio.sleep(self._plan["pause_s"])
        if self._plan["drop"]:
            await asyncio.sleep(0.01)
            transport.disconnect(graceful=False)


def _peer(port: Any, plan: dict[str, Any]) -> None:
    async def run() -> None:
        plan["book"] = list(frames(min(plan["count"], EVENTS), 0, plan["frame"]))
        server = await ws_create_server(lambda _: _Peer(plan), "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    uvloop.run(run())


@contextlib.contextmanager
def peer(
    *, count: int, frame: int = FRAME, pause_s: float = 0.0, drop: bool = False
) -> Iterator[int]:
    """Run one in a process of its own."""
    port = multiprocessing.Value("i", 0)
    plan = {"served": 0, "count": count, "frame": frame, "pause_s": pause_s, "drop": drop}
    process = multiprocessing.Process(target=_peer, args=(port, plan), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.01)
    try:
        yield port.value
    finally:
        process.terminate()
        process.join()


class _Tokens:
    """A token for ever."""

    generation = 1

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *error: object) -> None: ...
    async def ensure_token(self) -> str:
        return "token"

    async def refresh_token(self, *, generation: int | None = None) -> str:
        return "token"

    def current(self) -> str:
        return "token"

    async def run(self) -> None:
        await asyncio.Event().wait()

    def statistics(self) -> TokenStatistics:
        raise NotImplementedError


class _Rest:
    """REST that notes when it is asked."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *error: object) -> None: ...
    async def get(self, path: str, params: Any = None) -> RestResponse:
        self.asked_at.append(time.perf_counter())
        return RestResponse(
            status=200,
            body=b'{"status":"OK","results":[]}',
            content_type="application/json",
            request_id=None,
            retry_after_s=None,
            received_ns=time.time_ns(),
            attempts=1,
        )

    async def pages(self, path: str, params: Any = None, **_: Any) -> AsyncGenerator[RestResponse]:
        yield await self.get(path, params)

    def statistics(self) -> GatewayStatistics:
        raise NotImplementedError


def client(port: int, rest: _Rest | None = None) -> MassiveDataProvider:
    def streams(on_events: Any, on_state: Any) -> Streams:
        return Streams(
            url=f"http://127.0.0.1:{port}",
            assets=frozenset({AssetClass.OPTIONS}),
            tokens=_Tokens(),
            clock=SystemClock(),
            on_events=on_events,
            on_state=on_state,
            policy=FeedPolicy(stable_s=0.001),  # each drop is the first of its kind
        )

    parts = Parts(tokens=_Tokens(), rest=rest or _Rest(), streams=streams)
    return MassiveDataProvider(f"http://127.0.0.1:{port}", "key", streams=["options"], parts=parts)


# delivery


async def _ours_callback(port: int) -> float:
    got, done = 0, asyncio.Event()

    def take(quote: Quote) -> None:
        nonlocal got
        got += 1
        if got == EVENTS:
            done.set()

    async with client(port) as provider:
        started = time.process_time()
        with contextlib.closing(provider.subscribe_quotes(SYMBOLS, take)):
            await done.wait()
        return EVENTS / (time.process_time() - started)


async def _ours_iterated(port: int) -> float:
    async with client(port) as provider:
        started = time.process_time()
        async with provider.subscribe_quotes(SYMBOLS) as quotes:
            async for quote in quotes:
                if quote.sequence == EVENTS - 1:  # the last of its symbol is never conflated
                    break
            seen = quotes.statistics()
        spent = time.process_time() - started
        return (seen.delivered + seen.conflated) / spent


async def _official(port: int) -> float:
    got, done = 0, asyncio.Event()

    async def take(messages: list[Any]) -> None:
        nonlocal got
        got += len(messages)
        if got >= EVENTS:
            done.set()

    feed = massive.WebSocketClient(
        api_key="key",
        feed=f"127.0.0.1:{port}",
        secure=False,
        market="options",
        subscriptions=[f"Q.{symbol}" for symbol in SYMBOLS],
        max_reconnects=0,
    )
    started = time.process_time()
    task = asyncio.get_running_loop().create_task(feed.connect(take))
    await done.wait()
    spent = time.process_time() - started
    task.cancel()
    await asyncio.wait([task], timeout=5)
    return EVENTS / spent


def delivery() -> list[str]:
    runs: dict[str, Callable[[int], Any]] = {
        "official": _official,
        "callback": _ours_callback,
        "async for": _ours_iterated,
    }
    lines: list[str] = []
    for size in FRAMES:
        rates: dict[str, float] = {}
        for name, run in runs.items():
            with peer(count=EVENTS, frame=size) as port:
                rates[name] = asyncio.run(run(port))
        lines.append(
            f"delivery, {size:>2} events/frame   official {rates['official'] / 1e3:,.0f} k typed quotes"
            + "".join(
                f", {name} {rates[name] / 1e3:,.0f} k ({rates[name] / rates['official']:.1f} x)"
                for name in ("callback", "async for")
            )
            + " per CPU-second (goal 3 x)"
        )
    return lines


# recovery and fallback


async def _recover(port: int) -> list[float]:
    """From the moment a socket is lost to the first event after it."""
    taken: list[float] = []
    lost_at: float | None = None
    async with client(port) as provider:
        hear = provider._connection.streams._endpoints["options"]._on_state  # type: ignore[attr-defined]

        def note(notice: Any) -> None:
            nonlocal lost_at
            if type(notice).__name__ == "EndpointDown":
                lost_at = time.perf_counter()
            hear(notice)

        provider._connection.streams._endpoints["options"]._on_state = note  # type: ignore[attr-defined]
        async with provider.subscribe_quotes(SYMBOLS[:1]) as quotes:
            async for quote in quotes:
                if lost_at is not None and quote.source == "stream":
                    taken.append(time.perf_counter() - lost_at)
                    lost_at = None
                    if len(taken) == DROPS:
                        break
    return taken


async def _fall_back(port: int, stop: Callable[[], None]) -> float:
    """From the loss of the stream to the first REST request."""
    rest, lost_at = _Rest(), 0.0
    async with client(port, rest) as provider:
        endpoint = provider._connection.streams._endpoints["options"]  # type: ignore[attr-defined]
        hear = endpoint._on_state

        def note(notice: Any) -> None:
            nonlocal lost_at
            if type(notice).__name__ == "EndpointDown":
                lost_at = time.perf_counter()
            hear(notice)

        endpoint._on_state = note
        async with provider.subscribe_quotes(SYMBOLS[:1]) as quotes:
            await anext(quotes)
            rest.asked_at.clear()
            stop()
            while not rest.asked_at:
                await asyncio.sleep(0.001)
        return rest.asked_at[0] - lost_at


def recovery() -> list[str]:
    with peer(count=FRAME * 4, drop=True) as port:
        taken = sorted(asyncio.run(_recover(port)))
    waits: list[float] = []
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(peer(count=EVENTS * 20, pause_s=0.01))
            waits.append(asyncio.run(_fall_back(port, stack.close)))
    return [
        f"reconnect to first event    p50 {taken[len(taken) // 2] * 1e3:.0f} ms,"
        f" p99 {taken[len(taken) * 99 // 100] * 1e3:.0f} ms of {len(taken)} drops (goal 2,000)",
        f"fallback begins             p50 {statistics.median(waits) * 1e3:.1f} ms,"
        f" most {max(waits) * 1e3:.1f} ms of {len(waits)} losses (goal 100)",
    ]


# tokens, cache, memory


async def _refresh() -> list[float]:
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Playground(Path(folder)) as play:
            key = await play.key()
            async with MassiveDataProvider(play.gateway.url, key) as provider:
                tokens = provider._connection.tokens
                for _ in range(200):
                    started = time.perf_counter()
                    await tokens.refresh_token()
                    taken.append(time.perf_counter() - started)
    return sorted(taken)


WORKLOAD: list[tuple[float, str, float]] = [
    # every so many seconds, what a dashboard with three panels asks, and how long it is good
    *((2.0, f"chain:{symbol}", TTL_S["chain"]) for symbol in ("SPY", "QQQ", "I:SPX")),
    *(
        (15.0, f"aggs:{symbol}:{length}", TTL_S["aggs"])
        for symbol in ("SPY", "I:SPX")
        for length in ("1m", "5m", "15m", "1h", "1d")
    ),
    *((5.0, f"contract:O:{n}", TTL_S["contract"]) for n in range(10)),
    (30.0, "holidays:2026", TTL_S["holidays"]),
]


async def _hit_rate() -> float:
    """An hour of what the dashboard asks, answer by answer, on a clock that is moved."""
    clock = ManualClock()
    questions = sorted(
        (at, name, ttl_s)
        for every_s, name, ttl_s in WORKLOAD
        for at in (n * every_s for n in range(int(3600 / every_s)))
    )

    async def fetch() -> tuple[int, ...]:
        return (1, 2, 3)

    async with ClientCache(clock=clock) as cache:
        began = clock.monotonic()
        for at, name, ttl_s in questions:
            clock.advance(max(0.0, began + at - clock.monotonic()))
            await cache.get_or_fetch(name, fetch, ttl_s=ttl_s)
        return cache.statistics().hit_rate or 0.0


async def _listeners() -> float:
    async with client(9) as provider:
        provider.subscribe_quotes(SYMBOLS[:1], lambda _: None)
        await asyncio.sleep(0)
        kept = [None] * 100

        def take(_: Quote) -> None: ...

        tracemalloc.start()
        gc.collect()
        before = tracemalloc.take_snapshot()
        for n in range(100):
            kept[n] = provider.subscribe_quotes(SYMBOLS[:1], take)  # type: ignore[call-overload]
        gc.collect()
        after = tracemalloc.take_snapshot()
        tracemalloc.stop()
        grown = after.compare_to(before, "filename")
        return sum(one.size_diff for one in grown if "onetape" in str(one.traceback)) / 1024


def main() -> list[str]:
    refreshed = asyncio.run(_refresh())
    return [
        *delivery(),
        *recovery(),
        f"token refresh               p50 {refreshed[100] * 1e3:.1f} ms, p95 {refreshed[190] * 1e3:.1f} ms"
        " (goal 100), gateway in the same process",
        f"cache hit rate              {asyncio.run(_hit_rate()):.0%} of an hour's dashboard (goal 70 %)",
        f"memory, 100 listeners       {asyncio.run(_listeners()):.1f} KiB (goal 10)",
    ]


if __name__ == "__main__":
    print("\n".join(main()))
