"""The providers that must all answer alike, each by its name.

A vendor's engineer adds one entry to `FACTORIES`: how its three providers are made
against the simulator, and which rules make that vendor fail. `test_contract` asks the
rest of every one of them.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, TypeVar

import anyio
import pytest

from onetape.clock import SystemClock
from onetape.errors import DataProviderError, MassiveApiError, TradierApiError
from onetape.massive.asker import VendorAsker
from onetape.massive.notices import FeedPolicy, Notice, TopicsFailed, TopicsLive
from onetape.massive.providers import (
    MassiveBrokerProvider,
    MassiveIndicesProvider,
    MassiveOptionsProvider,
)
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import Batch, split_topic
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.providers.interfaces import (
    BrokerDataProvider,
    DataProvider,
    Handle,
    IndicesDataProvider,
    OptionsDataProvider,
)
from onetape.providers.vendor import ProviderPolicy
from onetape.secret import Secret
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import (
    Answer,
    EmptyAnswer,
    Fail,
    FailureKind,
    RestRule,
    Rule,
    TradierRule,
)
from onetape.simulator.tradier.policy import TradierPolicy as SimulatedTradier
from onetape.tradier.notices import TradierFeedPolicy
from onetape.tradier.providers import (
    TradierBrokerProvider,
    TradierIndicesProvider,
    TradierOptionsProvider,
)
from onetape.tradier.readers import StreamReaders
from onetape.tradier.rest import TradierPolicy, TradierREST
from onetape.tradier.stream import TradierWebSocket

T = TypeVar("T")
Event = Quote | Trade | Bar
HASTY: Final = RestPolicy(deadline_s=6.0, attempts=1, breaker_failures=1000)
"""So that failures are seen soon, and none is hidden by a retry or a breaker."""


class Providers(NamedTuple):
    """Three providers of one vendor, and how to make it fail."""

    options: OptionsDataProvider
    indices: IndicesDataProvider | None  # None: the vendor is no source of indices
    broker: BrokerDataProvider
    failure: type[DataProviderError]
    has_flow: bool
    faults: Mapping[str, Rule]
    simulator: Simulator

    @property
    def all(self) -> tuple[DataProvider, ...]:
        """Those that there are."""
        three = (self.options, self.indices, self.broker)
        return tuple(one for one in three if one is not None)

    def fail(self, how: str) -> None:
        """Let the vendor fail from now on, until the test ends or `recover`."""
        self.simulator.inject(self.faults[how])

    def recover(self) -> None:
        """Let nothing go wrong any more."""
        self.simulator.faults.clear(now=SystemClock().monotonic())


Factory = Callable[[Simulator, AsyncExitStack], AsyncGenerator[Providers]]


def always(now_ns: int) -> bool:
    """The simulated market is open at any time."""
    return now_ns > 0


# ---- Massive ----


class SocketFeed:
    """A `LiveFeed` on the vendor's own sockets: one for each asset class that is read."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._clock = SystemClock()
        self._readers: list[_Reader] = []
        self._sockets: dict[AssetClass, MassiveWebSocket] = {}

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Event]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> Handle:
        reader = _Reader(topics, take, tell, self._let_go)
        self._readers.append(reader)
        self._want()
        return reader

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["SocketFeed"]:
        async with anyio.create_task_group() as tasks:
            for asset in AssetClass:
                self._sockets[asset] = socket = self._connect(asset)
                tasks.start_soon(socket.run)
            yield self
            tasks.cancel_scope.cancel()

    def _connect(self, asset: AssetClass) -> MassiveWebSocket:
        def take(batch: Batch) -> None:
            socket = self._sockets[asset]
            received_ns = self._clock.now_ns()
            self._take(batch.models(received_ns=received_ns, simulated=socket.simulated))

        return MassiveWebSocket(
            url=f"{self._simulator.socket_url}/{asset}",
            asset=asset,
            credential=lambda: self._simulator.key,
            clock=self._clock,
            policy=FeedPolicy(),
            on_notice=self._hear,
            on_batch=take,
        )

    def _want(self) -> None:
        topics = {topic for reader in self._readers for topic in reader.topics}
        for asset, socket in self._sockets.items():
            own = frozenset(topic for topic in topics if _class_of(topic) is asset)
            socket.want(own)
            (socket.activate if own else socket.deactivate)()

    def _let_go(self, reader: "_Reader") -> None:
        self._readers.remove(reader)
        self._want()

    def _take(self, events: Sequence[Event]) -> None:
        for reader in tuple(self._readers):
            own = [event for event in events if event.symbol in reader.symbols]
            if own:
                reader.take(own)

    def _hear(self, notice: Notice) -> None:
        for reader in tuple(self._readers):
            match notice:
                case TopicsLive(topics=topics):
                    reader.tell(topics & reader.topics, True)
                case TopicsFailed(topics=topics):
                    reader.tell(topics & reader.topics, False)
                case _:
                    pass


class _Reader:
    def __init__(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Event]], None],
        tell: Callable[[frozenset[Topic], bool], None],
        let_go: Callable[["_Reader"], None],
    ) -> None:
        self.topics = topics
        self.symbols = {split_topic(topic)[1] for topic in topics}
        self.take = take
        self.tell = tell
        self._let_go = let_go

    def close(self) -> None:
        self._let_go(self)


def _class_of(topic: Topic) -> AssetClass:
    prefixes = {"O:": AssetClass.OPTIONS, "I:": AssetClass.INDICES}
    return prefixes.get(split_topic(topic)[1][:2], AssetClass.STOCKS)


async def massive(simulator: Simulator, stack: AsyncExitStack) -> AsyncGenerator[Providers]:
    clock = SystemClock()
    rest = MassiveREST(
        base_url=simulator.url,
        headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
        clock=clock,
        policy=HASTY,
    )
    asker = VendorAsker(await stack.enter_async_context(rest))
    feed = await stack.enter_async_context(SocketFeed(simulator).running())

    def made(kind: Callable[..., T]) -> T:
        policy = ProviderPolicy(equity_s=0.2)
        return kind(asker=asker, clock=clock, feed=feed, policy=policy, is_open=always)

    yield Providers(
        options=await stack.enter_async_context(made(MassiveOptionsProvider)),
        indices=await stack.enter_async_context(made(MassiveIndicesProvider)),
        broker=await stack.enter_async_context(made(MassiveBrokerProvider)),
        failure=MassiveApiError,
        has_flow=True,
        faults={
            "down": RestRule(action=Answer(status=503)),
            "throttled": RestRule(action=Answer(status=429, retry_after_s=7)),
            "refused": RestRule(action=Answer(status=403)),
            "empty": RestRule(action=EmptyAnswer(), path="/v3/snapshot*"),
        },
        simulator=simulator,
    )


# ---- Tradier ----


async def tradier(simulator: Simulator, stack: AsyncExitStack) -> AsyncGenerator[Providers]:
    clock = SystemClock()
    rest = TradierREST(
        base_url=simulator.tradier_url,
        token=Secret(simulator.tradier_token),
        clock=clock,
        policy=TradierPolicy(
            deadline_s=6.0,
            attempts=1,
            breaker_failures=1000,
            throttle_s=0.01,
            per_minute=10_000,
        ),
    )
    readers = StreamReaders()
    stream = TradierWebSocket(
        url=simulator.tradier_socket_url,
        mint=rest.session,
        clock=clock,
        policy=TradierFeedPolicy(replace_s=0.01, close_timeout_s=0.2),
        on_events=readers.take,
        on_notice=readers.hear,
        is_open=always,
        simulated=True,
    )
    readers.connect(stream.want)
    await stack.enter_async_context(rest)
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    tasks.start_soon(stream.run)

    def made(kind: Callable[..., T]) -> T:
        policy = ProviderPolicy(equity_s=0.2)
        return kind(asker=rest, clock=clock, feed=readers, policy=policy, is_open=always)

    yield Providers(
        options=await stack.enter_async_context(made(TradierOptionsProvider)),
        indices=await stack.enter_async_context(made(TradierIndicesProvider)),
        broker=await stack.enter_async_context(made(TradierBrokerProvider)),
        failure=TradierApiError,
        has_flow=False,
        faults={
            "down": TradierRule(action=Fail(kind=FailureKind.TEXT)),
            "throttled": TradierRule(action=Fail(kind=FailureKind.QUOTA_FAULT)),
            "refused": TradierRule(action=Fail(kind=FailureKind.NOT_ENTITLED)),
            "empty": TradierRule(action=EmptyAnswer(), path="/v1/markets/options/chains"),
        },
        simulator=simulator,
    )


FACTORIES: Final[Mapping[str, Factory]] = {"massive": massive, "tradier": tradier}
"""By the name that the providers give themselves."""


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    """Both vendors, in a thread of their own: their market is made once."""
    started, stop = threading.Event(), threading.Event()
    made: list[Simulator] = []

    async def run() -> None:
        # Each test has a client, and a budget, of its own; the simulator would count them as one.
        unlimited = SimulatorSettings(tradier=SimulatedTradier(calls_per_minute=None))
        async with Simulator(unlimited) as simulator:
            made.append(simulator)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(30)
    yield made[0]
    stop.set()
    thread.join()


@pytest.fixture(params=FACTORIES)
async def providers(
    request: pytest.FixtureRequest, shared_simulator: Simulator
) -> AsyncIterator[Providers]:
    """Every vendor's providers, one after the other; nothing goes wrong yet."""
    async with AsyncExitStack() as stack:
        made = FACTORIES[request.param](shared_simulator, stack)
        async with contextlib.aclosing(made):
            yield await anext(made)
    shared_simulator.faults.clear(now=SystemClock().monotonic())
