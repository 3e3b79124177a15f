"""The providers that must all answer alike: each vendor's, and the hybrids made of them.

One entry of `FACTORIES` says how three providers are made against the simulator, and
which rules make them fail. `test_contract` asks the rest of every one of them.
"""

import asyncio
import contextlib
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, TypeVar

import anyio
import pytest

from onetape.clock import SystemClock
from onetape.errors import DataProviderError, MassiveApiError, TradierApiError
from onetape.hybrid import VendorProviders, create_data_providers, opened
from onetape.hybrid.seats import HybridPolicy
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


class Vendor(NamedTuple):
    """One vendor's own providers, and how to make it fail."""

    name: str
    options: OptionsDataProvider
    broker: BrokerDataProvider
    indices: IndicesDataProvider
    failure: type[DataProviderError]
    faults: Mapping[str, Rule]


class Providers(NamedTuple):
    """Three providers of one name, and who is behind them, in the order they are asked."""

    options: OptionsDataProvider
    indices: IndicesDataProvider
    broker: BrokerDataProvider
    vendors: tuple[Vendor, ...]
    has_flow: bool
    simulator: Simulator

    @property
    def all(self) -> tuple[DataProvider, ...]:
        """The three."""
        return self.options, self.indices, self.broker

    def behind(self, provider: DataProvider) -> tuple[Vendor, ...]:
        """Tell who is asked when one of the three is: for indices, the first one alone."""
        return self.vendors[:1] if provider is self.indices else self.vendors

    def fail(self, how: str) -> None:
        """Let every vendor fail from now on, until the test ends or `recover`."""
        for vendor in self.vendors:
            self.simulator.inject(vendor.faults[how])

    def recover(self) -> None:
        """Let nothing go wrong any more."""
        self.simulator.faults.clear(now=SystemClock().monotonic())


Factory = Callable[[Simulator, AsyncExitStack], Awaitable[Providers]]


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


async def massive_vendor(simulator: Simulator, stack: AsyncExitStack) -> Vendor:
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
        policy = ProviderPolicy(equity_poll_s=0.2)
        return kind(asker=asker, clock=clock, feed=feed, policy=policy, is_open=always)

    return Vendor(
        name="massive",
        options=await stack.enter_async_context(made(MassiveOptionsProvider)),
        indices=await stack.enter_async_context(made(MassiveIndicesProvider)),
        broker=await stack.enter_async_context(made(MassiveBrokerProvider)),
        failure=MassiveApiError,
        faults={
            "down": RestRule(action=Answer(status=503)),
            "throttled": RestRule(action=Answer(status=429, retry_after_s=7)),
            "refused": RestRule(action=Answer(status=403)),
            "empty": RestRule(action=EmptyAnswer(), path="/v3/snapshot*"),
        },
    )


# ---- Tradier ----


async def tradier_vendor(simulator: Simulator, stack: AsyncExitStack) -> Vendor:
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
        policy = ProviderPolicy(equity_poll_s=0.2)
        return kind(asker=rest, clock=clock, feed=readers, policy=policy, is_open=always)

    return Vendor(
        name="tradier",
        options=await stack.enter_async_context(made(TradierOptionsProvider)),
        indices=await stack.enter_async_context(made(TradierIndicesProvider)),
        broker=await stack.enter_async_context(made(TradierBrokerProvider)),
        failure=TradierApiError,
        faults={
            "down": TradierRule(action=Fail(kind=FailureKind.TEXT)),
            "throttled": TradierRule(action=Fail(kind=FailureKind.QUOTA_FAULT)),
            "refused": TradierRule(action=Fail(kind=FailureKind.NOT_ENTITLED)),
            "empty": TradierRule(action=EmptyAnswer(), path="/v1/markets/options/chains"),
        },
    )


# ---- all of them ----


async def massive(simulator: Simulator, stack: AsyncExitStack) -> Providers:
    return _bare(await massive_vendor(simulator, stack), simulator, has_flow=True)


async def tradier(simulator: Simulator, stack: AsyncExitStack) -> Providers:
    return _bare(await tradier_vendor(simulator, stack), simulator, has_flow=False)


async def hybrid(simulator: Simulator, stack: AsyncExitStack) -> Providers:
    first = await massive_vendor(simulator, stack)
    return await _hybrid((first, await tradier_vendor(simulator, stack)), simulator, stack)


async def hybrid_of_one(simulator: Simulator, stack: AsyncExitStack) -> Providers:
    """As it is without Tradier's token."""
    return await _hybrid((await massive_vendor(simulator, stack),), simulator, stack)


def _bare(vendor: Vendor, simulator: Simulator, *, has_flow: bool) -> Providers:
    return Providers(
        options=vendor.options,
        indices=vendor.indices,
        broker=vendor.broker,
        vendors=(vendor,),
        has_flow=has_flow,
        simulator=simulator,
    )


async def _hybrid(
    vendors: tuple[Vendor, ...], simulator: Simulator, stack: AsyncExitStack
) -> Providers:
    first, *others = vendors
    made = create_data_providers(
        VendorProviders(first.options, first.broker, first.indices),
        *(VendorProviders(one.options, one.broker) for one in others),
        # So that who failed three times is asked again at once.
        policy=HybridPolicy(open_s=0.001),
    )
    hybrids = await stack.enter_async_context(opened(made))
    return Providers(
        options=hybrids.options,
        indices=hybrids.indices,
        broker=hybrids.broker,
        vendors=vendors,
        has_flow=True,
        simulator=simulator,
    )


FACTORIES: Final[Mapping[str, Factory]] = {
    "massive": massive,
    "tradier": tradier,
    "hybrid": hybrid,
    "hybrid_of_one": hybrid_of_one,
}


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
    """All of them, one after the other; nothing goes wrong yet."""
    async with AsyncExitStack() as stack:
        yield await FACTORIES[request.param](shared_simulator, stack)
    shared_simulator.faults.clear(now=SystemClock().monotonic())
