"""What whole paths are walked with.

`play`, `calm`: a gateway in front of the simulated vendor. `stage`: both vendors' providers
and the hybrids of them, over loopback, on a clock that can be pushed ahead.
"""

import asyncio
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import anyio
import pytest

from onetape.chain_query import ChainQuery
from onetape.clock import SystemClock
from onetape.errors import OnetapeError
from onetape.gateway.app import Gateway
from onetape.gateway.fanout import MassiveHub
from onetape.gateway.market import PAGE_S, POLICY
from onetape.gateway.taps import Taps
from onetape.hybrid.factory import VendorProviders, create_data_providers, opened
from onetape.hybrid.fallback import FallbackStatistics
from onetape.hybrid.seats import HybridPolicy
from onetape.massive.asker import VendorAsker
from onetape.massive.notices import FeedPolicy, Notice
from onetape.massive.providers import (
    MassiveBrokerProvider,
    MassiveIndicesProvider,
    MassiveOptionsProvider,
)
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.model import AssetClass, Bar, OptionContract
from onetape.secret import Secret
from onetape.settings import TradierConfig
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Rule
from onetape.simulator.tradier.policy import TradierPolicy as SimulatedTradier
from onetape.testing import Playground
from onetape.timeframes import bar_length
from onetape.tradier.connection import connected

# A playground imports these when it is made; a test makes it in the loop, where an
# import reads files and so blocks.
IMPORTED = (Gateway, Simulator)


@pytest.fixture
async def calm(tmp_path: Path) -> AsyncIterator[Playground]:
    """At the market's own pace, where a year of bars is quickly made."""
    async with Playground(tmp_path) as running:
        yield running


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Playground]:
    async with Playground(tmp_path, simulator=SimulatorSettings(rate=20)) as running:
        yield running


# ---- both vendors, on a clock that can be pushed ahead ----

S: Final = 1_000_000_000
TEN_NS: Final = 1_763_737_200 * S
TODAY: Final = date(2025, 11, 21)
"""TEN_NS: ten in the morning in New York, of a Friday."""


class SkipClock:
    """The host's clock, but at ten on a trading day, and with what was skipped."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._started_s = self._system.monotonic()
        self._skipped_s = 0.0

    def monotonic(self) -> float:
        return self._system.monotonic() + self._skipped_s

    def now_ns(self) -> int:
        return TEN_NS + round((self.monotonic() - self._started_s) * S)

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds


SKIP_CLOCK: Final = SkipClock()


class SkipLoop(asyncio.SelectorEventLoop):
    """A loop whose timers follow the clock: what was skipped is over for them too."""

    def time(self) -> float:
        return SKIP_CLOCK.monotonic()


@pytest.fixture(scope="session")
def both_vendors() -> Iterator[Simulator]:
    """In a thread and a loop of their own, like vendors: their market is made once."""
    started, stop = threading.Event(), threading.Event()
    made: list[Simulator] = []

    async def run() -> None:
        # Each test has a client, and a budget, of its own; the simulator would count them as one.
        settings = SimulatorSettings(rate=4, tradier=SimulatedTradier(calls_per_minute=None))
        async with Simulator(settings, clock=SKIP_CLOCK) as simulator:
            made.append(simulator)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(30)
    yield made[0]
    stop.set()
    thread.join()


@pytest.fixture
def skip_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """What a test on `stage` runs on."""
    return SkipLoop


class Told(NamedTuple):
    """What an answer says of itself, and after how long it came."""

    by: str
    took_s: float
    why: str | None = None
    codes: frozenset[str] = frozenset()
    confidence: int = 0
    value: Any = None


KINDS: Final = ("quotes", "chain", "contract", "bars")
NEAR: Final = ChainQuery(max_expirations=2, around=3)
_BY_KIND: Final = {"quotes": "broker", "bars": "broker", "chain": "options", "contract": "options"}


class Stage:
    """The hybrids, what they are made of, and how to make it fail."""

    def __init__(self, simulator: Simulator, rests: Sequence[Any]) -> None:
        self.simulator = simulator
        self.clock = SKIP_CLOCK
        self.massive: Any = None
        self.tradier: Any = None
        self.hybrids: Any = None
        self.contract: Any = None
        self.near = NEAR
        self._rests = rests

    # what goes wrong

    def fail(self, *rules: Rule) -> None:
        """Let these things go wrong from now on, too."""
        self.simulator.inject(*rules)

    def recover(self) -> None:
        """Let nothing go wrong any more."""
        self.simulator.faults.clear(now=self.clock.monotonic())

    async def skip(self, seconds: float) -> None:
        """Let time pass, once no probe waits for Massive any more (0.5 s at most).

        What is skipped while somebody waits is waited for, and would be too long.
        """
        patience = SystemClock()
        until_s = patience.monotonic() + 0.5
        while self._is_probing and patience.monotonic() < until_s:
            await asyncio.sleep(0.001)
        self.clock.skip(seconds)
        await asyncio.sleep(0)

    async def run(self, seconds: float, *, step_s: float = 0.4, patience_s: float = 2.0) -> None:
        """Let time pass in small steps, as long as vendors need to answer.

        Before each step they have up to `patience_s` of real time, for a busy machine. While
        one is mute that passes in vain, so it should be short.
        """
        until_s = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until_s:
            await asyncio.sleep(0.02)
            patience = SystemClock()
            latest_s = patience.monotonic() + patience_s
            while self._in_flight() and patience.monotonic() < latest_s:
                await asyncio.sleep(0.002)
            self.clock.skip(step_s)

    # asking

    async def ask(self, kind: str) -> Told:
        """Ask the hybrids."""
        started = self.clock.monotonic()
        try:
            value = await self._asked(kind)
        except OnetapeError as error:
            return Told(error.code, self.clock.monotonic() - started, str(error), value=error)
        return self._told(value, self.clock.monotonic() - started)

    async def ask_all(self, *kinds: str) -> dict[str, Told]:
        """Ask for one of each kind, at once."""
        wanted = kinds or KINDS
        found = await asyncio.gather(*(self.ask(kind) for kind in wanted))
        return dict(zip(wanted, found, strict=True))

    async def warm(self) -> None:
        """Ask for everything while all is well, and let it be forgotten."""
        chain = await self.hybrids.options.get_option_chain("AAPL", NEAR)
        plain = [one.contract for one in chain.contracts if one.contract.root == "AAPL"]
        self.contract = min(plain, key=lambda one: abs(one.strike - chain.underlying_price))
        assert {told.by for told in (await self.ask_all()).values()} == {"massive"}
        await self.skip(70)

    async def back(self, *kinds: str) -> dict[str, float]:
        """Ask every 31 s until Massive answers again; return when it did, by kind."""
        began, when = self.clock.monotonic(), dict[str, float]()
        for _ in range(20):
            if len(when) == len(kinds):
                break
            await self.skip(31)
            for kind, told in (await self.ask_all(*kinds)).items():
                if told.by == "massive" and told.why is None:
                    when.setdefault(kind, self.clock.monotonic() - began)
        return when

    def statistics(self, kind: str) -> FallbackStatistics:
        """Return what the hybrid that answers this kind has counted."""
        hybrid: Any = getattr(self.hybrids, _BY_KIND[kind])
        return hybrid.statistics().fallback

    # private

    def _in_flight(self) -> int:
        """Count requests, and questions that are between two of them."""
        asking = (hybrid._fallback for hybrid in self.hybrids)
        questions = sum(one._flights.in_flight + len(one._probes) for one in asking)
        return questions + sum(rest.statistics().in_flight for rest in self._rests)

    @property
    def _is_probing(self) -> bool:
        return any(hybrid._fallback._probes for hybrid in self.hybrids)

    def _asked(self, kind: str) -> Awaitable[Any]:
        options, broker = self.hybrids.options, self.hybrids.broker
        if kind == "quotes":
            return broker.get_quotes(["AAPL"])
        if kind == "bars":
            return broker.get_bars("AAPL", bar_length("1m"), TODAY, TODAY)
        if kind == "chain":
            return options.get_option_chain("AAPL", NEAR)
        one: OptionContract = self.contract
        return options.get_option_contract("AAPL", one.strike, one.expiration, one.contract_type)

    def _told(self, value: Any, took_s: float) -> Told:
        now_ns = self.clock.now_ns()
        if isinstance(value, tuple):  # of rows, of which the newest speaks for all
            if not value:
                return Told("nobody", took_s, value=value)
            last: Any = cast("tuple[Any, ...]", value)[-1]
            if isinstance(last, Bar) and last.quality is None:
                return Told(last.provider, took_s, confidence=100, value=value)
            return self._told(last, took_s)._replace(value=value)
        quality = value.quality
        return Told(
            quality.provider,
            took_s,
            quality.fallback_reason,
            frozenset(one.code for one in quality.reasons_at(now_ns)),
            quality.confidence(now_ns),
            value,
        )


class Wired:
    """One class of assets on a socket of Massive's, as the gateway puts it together."""

    def __init__(self, asset: AssetClass, simulator: Simulator) -> None:
        self.hub = MassiveHub(asset, clock=SKIP_CLOCK, loop=asyncio.get_running_loop())
        self.stream = MassiveWebSocket(
            url=f"{simulator.socket_url}/{asset}",
            asset=asset,
            credential=lambda: simulator.key,
            clock=SKIP_CLOCK,
            policy=FeedPolicy(),
            on_split=self.hub.deliver,
            on_notice=self._notice,
        )
        self.hub.connect(self.stream)
        self.taps: Taps | None = None

    def _notice(self, notice: Notice) -> None:
        self.hub.notice(notice)
        if self.taps is not None:
            self.taps.notice(self.hub.asset, notice)


@asynccontextmanager
async def wired(simulator: Simulator, *assets: AssetClass) -> AsyncGenerator[Taps]:
    """Read Massive's streams as the gateway does."""
    lines = {asset: Wired(asset, simulator) for asset in assets}
    taps = Taps(lines, clock=SKIP_CLOCK)
    async with anyio.create_task_group() as tasks:
        for line in lines.values():
            line.taps = taps
            tasks.start_soon(line.stream.run)
        yield taps
        tasks.cancel_scope.cancel()


class Staging:
    """Makes stages, as many as a test likes."""

    def __init__(self, simulator: Simulator, stack: AsyncExitStack) -> None:
        self._simulator = simulator
        self._stack = stack

    async def __call__(
        self,
        *,
        rest: RestPolicy | None = None,
        policy: HybridPolicy | None = None,
        streamed: Iterable[AssetClass] = (),
    ) -> Stage:
        """Make one. By default Massive is asked once, not thrice: failures are seen at once."""
        simulator, clock, enter = self._simulator, SKIP_CLOCK, self._stack.enter_async_context
        feed = await enter(wired(simulator, *streamed)) if streamed else None
        vendor = await enter(
            MassiveREST(
                base_url=simulator.url,
                headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
                clock=clock,
                policy=rest or RestPolicy(attempts=1),
            )
        )
        asker = VendorAsker(vendor, deadline_s=PAGE_S)  # as the gateway does
        config = TradierConfig(
            access_token=Secret(simulator.tradier_token),
            base_url=simulator.tradier_url,
            socket_url=simulator.tradier_socket_url,
        )
        tradier = await enter(connected(config, clock=clock, policy=POLICY, simulated=True))
        assert tradier is not None
        stage = Stage(simulator, (vendor, cast("Any", tradier.options)._asks._asker))
        stage.massive = VendorProviders(
            MassiveOptionsProvider(asker=asker, clock=clock, feed=feed, policy=POLICY),
            MassiveBrokerProvider(asker=asker, clock=clock, feed=feed, policy=POLICY),
            MassiveIndicesProvider(asker=asker, clock=clock, feed=feed, policy=POLICY),
        )
        stage.tradier = VendorProviders(tradier.options, tradier.broker)
        made = create_data_providers(stage.massive, stage.tradier, clock=clock, policy=policy)
        stage.hybrids = await enter(opened(made, stage.massive, stage.tradier))
        await stage.warm()
        return stage


@pytest.fixture
async def staging(both_vendors: Simulator) -> AsyncIterator[Staging]:
    """What makes a stage; nothing goes wrong yet."""
    both_vendors.faults.clear(now=SKIP_CLOCK.monotonic())
    async with AsyncExitStack() as stack:
        yield Staging(both_vendors, stack)
    both_vendors.faults.clear(now=SKIP_CLOCK.monotonic())


@pytest.fixture
async def stage(staging: Staging) -> Stage:
    """One with the policy that is the default."""
    return await staging()
