"""(g) Market data: judging and encoding a chain, memory of the view, requests of an hour."""

import asyncio
import gc
import statistics
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from typing import Any, NamedTuple, TypeVar

import msgspec

from onetape import market_json
from onetape.chain_query import ChainQuery
from onetape.clock import Clock
from onetape.consolidation import HubPolicy
from onetape.gateway.market import POLICY
from onetape.hub import MarketDataHub, Providers
from onetape.massive import wire_stream
from onetape.massive.asker import VendorAsker
from onetape.massive.providers import (
    MassiveBrokerProvider,
    MassiveIndicesProvider,
    MassiveOptionsProvider,
)
from onetape.massive.questions import MassiveQuestions
from onetape.massive.rest import RestResponse
from onetape.model import AssetClass, Bar, MarketDataTick, OptionChain, Quote, Topic, Trade
from onetape.providers.interfaces import Handle
from onetape.quality.chains import judge_chain
from onetape.simulator.market import Market, SimClock
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.events import Symbols, by_channel, events_between
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.symbols import parse_topic
from onetape.testing import LeapClock, LeapLoop, ManualClock

T = TypeVar("T")

CONTRACTS = 250
WATCHLIST = ("SPY", "QQQ", "AAPL", "MSFT", "NVDA")
NOON_NS = 1_763_740_800_000_000_000  # a Friday, 11:00 in New York
CLOCK = LeapClock(start_ns=NOON_NS)
KEY = b"Bearer sim-key"
REMEMBERED = 200


# the vendor, without a socket


class Vendor:
    """The simulated vendor's REST in a thread of its own, whose time is the caller's.

    The caller waits for it without its loop turning, so a leaping loop does not leap over
    an answer. The first questions it answers from memory when they are asked again at the
    same instant, so that what is weighed is not the vendor.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._clock = ManualClock(now_ns=NOON_NS)
        accounts = Accounts()
        market = Market(clock=SimClock(clock=self._clock))
        self._app = MassiveRestSimulator(market, accounts, self._clock)
        self._loop = asyncio.new_event_loop()
        self._known: dict[tuple[int, str, str], RestResponse] = {}

    def serve(self) -> None:
        self._loop.run_forever()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def close(self) -> None:
        self._loop.close()

    def of(self, clock: Clock) -> "Rest":
        return Rest(self, clock)

    def answer(self, path: str, query: str, now_ns: int) -> RestResponse:
        self.asked[kind_of(path)] += 1
        key = now_ns, path, query
        answer = self._known.get(key)
        if answer is None:
            self._clock.advance((now_ns - self._clock.now_ns()) / 1e9)
            work = self._answer(path, query, now_ns)
            answer = asyncio.run_coroutine_threadsafe(work, self._loop).result()
            if len(self._known) < REMEMBERED:
                self._known[key] = answer
        return answer

    async def _answer(self, path: str, query: str, now_ns: int) -> RestResponse:
        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"vendor"), (b"authorization", KEY)],
        }
        await self._app(scope, receive, send)
        return RestResponse(
            status=said[0]["status"],
            body=b"".join(one.get("body", b"") for one in said[1:]),
            content_type="application/json",
            request_id=None,
            retry_after_s=None,
            received_ns=now_ns,
            attempts=1,
            simulated=True,
        )


class Rest(NamedTuple):
    """What `VendorAsker` needs of `MassiveREST`, for one clock."""

    vendor: Vendor
    clock: Clock

    async def get(
        self, path: str, query: str = "", *, deadline_s: float | None = None
    ) -> RestResponse:
        return self.vendor.answer(path, query, self.clock.now_ns())


def kind_of(path: str) -> str:
    kinds = {
        "/v3/snapshot/options/": "chains",
        "/v3/snapshot/indices": "indices",
        "/v3/snapshot": "quotes",
        "/v3/reference/options/": "reference",
    }
    return next((kind for start, kind in kinds.items() if path.startswith(start)), "other")


@contextmanager
def vendor() -> Generator[Vendor]:
    made = Vendor()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join()
        made.close()


# its stream


class Feed:
    """A `LiveFeed` of the same market, stepped every second; every topic is live at once."""

    def __init__(self) -> None:
        self.events = 0
        self._market = Market(clock=SimClock(clock=CLOCK))
        self._readers: list[_Reader] = []

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Quote | Trade | Bar]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> Handle:
        reader = _Reader(topics, take, self._readers.remove)
        self._readers.append(reader)
        asyncio.get_running_loop().call_soon(tell, topics, True)
        return reader

    async def run(self) -> None:
        until_ns = self._market.now_ns()
        while True:
            await asyncio.sleep(1)
            since_ns, until_ns = until_ns, self._market.now_ns()
            for reader in tuple(self._readers):
                for asset, wanted in reader.wanted.items():
                    found = events_between(
                        self._market, asset, wanted, start_ns=since_ns, end_ns=until_ns
                    )
                    frame = wire_stream.array(one.raw for one in found)
                    models = wire_stream.read(frame).models(received_ns=CLOCK.now_ns())
                    self.events += len(models)
                    reader.take(models)


class _Reader:
    def __init__(
        self, topics: frozenset[Topic], take: Any, let_go: Callable[["_Reader"], None]
    ) -> None:
        self.take = take
        self._let_go = let_go
        parts: dict[AssetClass, set[Topic]] = {}
        for one in topics:
            parts.setdefault(parse_topic(one).asset, set()).add(one)
        self.wanted: dict[AssetClass, Mapping[str, Symbols]] = {
            asset: by_channel(some) for asset, some in parts.items()
        }

    def close(self) -> None:
        self._let_go(self)


# the hub on it


def leap(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=LeapLoop) as runner:
        return runner.run(work)


@asynccontextmanager
async def hub(
    source: Vendor, feed: Feed | None, policy: HubPolicy | None = None
) -> AsyncGenerator[MarketDataHub]:
    asker = VendorAsker(source.of(CLOCK))
    quiet = msgspec.structs.replace(POLICY, enable_logging=False)
    made: dict[str, Any] = {"asker": asker, "clock": CLOCK, "feed": feed, "policy": quiet}
    watched = policy or HubPolicy(watchlist=WATCHLIST, streaming=feed is not None)
    async with (
        MassiveOptionsProvider(**made) as options,
        MassiveIndicesProvider(**made) as indices,
        MassiveBrokerProvider(**made) as broker,
        MarketDataHub(Providers(options, indices, broker), watched, clock=CLOCK) as running,
    ):
        yield running


# judging and encoding


async def chain_of(source: Vendor) -> OptionChain:
    """Return the 250 contracts nearest to the money as they were answered, not judged."""
    clock = ManualClock(now_ns=NOON_NS)
    questions = MassiveQuestions(VendorAsker(source.of(clock)), clock)
    query = ChainQuery(last_expiration=date(2025, 12, 1))
    whole = await questions.option_chain("SPY", query)
    price = whole.underlying_price or 0.0
    near = sorted(whole.contracts, key=lambda one: abs(one.contract.strike - price))
    return msgspec.structs.replace(
        whole, contracts=query.select(near[:CONTRACTS], underlying_price=price)
    )


class Taken(NamedTuple):
    """Milliseconds of the same work, again and again."""

    best: float
    median: float

    def __str__(self) -> str:
        return f"{self.best:.2f} ms (median {self.median:.2f})"


def taken(work: Callable[[], object], runs: int) -> Taken:
    spent: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - started))
    return Taken(min(spent), statistics.median(spent))


def judging(source: Vendor, runs: int = 300) -> list[str]:
    answered = leap(chain_of(source))
    body = msgspec.json.encode(answered)
    decoder = msgspec.json.Decoder(OptionChain)
    judged = judge_chain(answered, now_ns=NOON_NS, market_open=True)

    def judge() -> list[int]:
        found = judge_chain(answered, now_ns=NOON_NS, market_open=True)
        all_of_it = (found.quality, *(one.quality for one in found.contracts))
        return [one.confidence(NOON_NS) for one in all_of_it if one is not None]

    assert len(judge()) == CONTRACTS + 1, "all judged, none dropped"
    base = taken(lambda: decoder.decode(body), runs)
    judging = taken(judge, runs)
    plain = taken(lambda: msgspec.json.encode(judged), runs)
    ours = taken(lambda: market_json.encode(judged, NOON_NS), max(1, runs // 5))
    return [
        f"chain of {CONTRACTS}, msgspec decodes       {base}, {len(body) / 1024:.0f} KiB of JSON",
        f"chain of {CONTRACTS}, judged and scored     {judging} (goal 2),"
        f" {judging.best / base.best:.1f} x decoding it",
        f"chain of {CONTRACTS}, msgspec encodes       {plain}, judged",
        f"chain of {CONTRACTS}, as market JSON        {ours}, {ours.best / plain.best:.1f} x that",
    ]


# memory


def memory(source: Vendor) -> list[str]:
    lines: list[str] = []
    for name, goal, measure in (
        (f"chain of {CONTRACTS}", "500 KiB", _chain_memory),
        ("the hub itself", "1,024 KiB", _bare_hub),
        ("5 symbols polled", "2,048 to 5,120 KiB", _polled_hub),
        ("5 symbols streamed", "2,048 to 5,120 KiB", _streamed_hub),
    ):
        leap(measure(source))  # what is loaded or asked once is not the data's
        used, what = leap(measure(source))
        lines.append(f"memory, {name:<18} {used / 1024:7,.0f} KiB, {what} (goal {goal})")
    return lines


class Weight:
    """Bytes that are held from its making until they are asked for."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]

    def bytes(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self._before

    def bytes_of_ours(self) -> int:
        """Leave out what the simulator holds, where it cannot be kept still."""
        gc.collect()
        filters = (
            tracemalloc.Filter(True, "*/onetape/*"),
            tracemalloc.Filter(False, "*/simulator/*"),
        )
        found = tracemalloc.take_snapshot().filter_traces(filters)
        return sum(one.size for one in found.statistics("filename"))

    def stop(self) -> None:
        tracemalloc.stop()


@contextmanager
def weighing() -> Generator[Weight]:
    weight = Weight()
    try:
        yield weight
    finally:
        weight.stop()


async def _chain_memory(source: Vendor) -> tuple[int, str]:
    with weighing() as weight:
        chain = judge_chain(await chain_of(source), now_ns=NOON_NS, market_open=True)
        used = weight.bytes()
    return used, f"{len(chain.contracts)} contracts as they come from the vendor, judged"


async def _bare_hub(source: Vendor) -> tuple[int, str]:
    with weighing() as weight:
        async with hub(source, None, HubPolicy(watchlist=(), indices=())) as nothing:
            itself = weight.bytes()
            readers = [nothing.subscribe_tick(f"{n}", _ignore) for n in range(100)]
            await asyncio.sleep(0)
            more = weight.bytes() - itself
            return (
                itself,
                f"its providers included; {more / 1024:,.0f} KiB for {len(readers)} readers",
            )


async def _polled_hub(source: Vendor) -> tuple[int, str]:
    with weighing() as weight:
        async with hub(source, None) as running:
            used = weight.bytes()
            return used, _known(running)


async def _streamed_hub(source: Vendor) -> tuple[int, str]:
    feed = Feed()
    with weighing() as weight:
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(feed.run())
            async with hub(source, feed) as running:
                await asyncio.sleep(30)
                used, what = weight.bytes_of_ours(), _known(running)
            stream.cancel()
    return used, f"{what} and {feed.events:,} events"


def _known(running: MarketDataHub) -> str:
    chains = [running.get_option_chain(symbol) for symbol in WATCHLIST]
    contracts = sum(len(one.contracts) for one in chains if one is not None)
    return f"of {contracts:,} contracts"


def _ignore(_tick: MarketDataTick) -> None: ...


# requests


class Hour(NamedTuple):
    """What an hour of the hub cost its vendor, and what came of it."""

    asked: Mapping[str, int]  # by kind
    most: int  # of any minute but the first, which asks for everything once
    ticks: int
    events: int  # of the streams

    def told(self, minutes: float) -> str:
        each = {kind: n / minutes / len(WATCHLIST) for kind, n in self.asked.items()}
        kinds = ", ".join(f"{kind} {n:.1f}" for kind, n in each.items())
        return (
            f"{sum(each.values()):4.1f} ({kinds}), most {self.most / len(WATCHLIST):.1f};"
            f" {self.ticks:,} ticks of {self.events:,} events"
        )


async def _pass_time(source: Vendor, feed: Feed | None, minutes: int) -> Hour:
    source.asked.clear()
    ticks, minute = 0, list[int]()

    def count(_tick: MarketDataTick) -> None:
        nonlocal ticks
        ticks += 1

    async with asyncio.TaskGroup() as tasks:
        stream = None if feed is None else tasks.create_task(feed.run())
        async with hub(source, feed) as running:
            running.subscribe_tick("bench", count)
            for _ in range(minutes):
                before = source.asked.total()
                await asyncio.sleep(60)
                minute.append(source.asked.total() - before)
            assert not running.metrics().poll_failures, running.metrics()
        if stream is not None:
            stream.cancel()
    events = 0 if feed is None else feed.events
    return Hour(dict(source.asked.most_common()), max(minute[1:]), ticks, events)


async def _polled(source: Vendor, minutes: int) -> Hour:
    return await _pass_time(source, None, minutes)


async def _streamed(source: Vendor, minutes: int) -> Hour:
    return await _pass_time(source, Feed(), minutes)


def requests(source: Vendor, minutes: int = 60) -> list[str]:
    lines: list[str] = []
    for name, run in (("polled", _polled), ("streamed", _streamed)):
        hour = leap(run(source, minutes))
        lines.append(f"requests, {name:<9} {hour.told(minutes)} a symbol and minute (goal 5 to 10)")
    return lines


def main() -> list[str]:
    with vendor() as source:
        return [*judging(source), *memory(source), *requests(source)]


if __name__ == "__main__":
    print("\n".join(main()))
