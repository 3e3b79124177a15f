"""A Tradier that answers as a test says, and the simulated one at a fixed hour."""

import asyncio
import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import Any, cast

import msgspec
import pytest

from onetape.clock import SystemClock
from onetape.errors import OnetapeError
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.market import Hours
from onetape.simulator.tradier.policy import TradierPolicy as SimulatedTradier
from onetape.testing import ManualClock
from onetape.tradier.budget import BudgetStatistics, Priority
from onetape.tradier.rest import TradierAnswer
from onetape.tradier.wire_rest import Ask, Refusal

START_NS = 1_764_000_000_000_000_000  # Monday 2025-11-24, 11:00 in New York
FLOOR_NS = START_NS + 20 * 60_000_000_000  # the Greeks of 11:00 are old by then


class Script:
    """Answers what it was told to, by path; keeps what it was asked."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ns=START_NS)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[Ask, Priority]] = []
        self.used = 0
        self.at_once = self.most_at_once = 0
        self.gate: asyncio.Event | None = None

    @property
    def paths(self) -> list[str]:
        return [ask.path for ask, _ in self.asked]

    def count(self, path: str) -> int:
        return self.paths.count(path)

    async def ask(
        self,
        ask: Ask,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float | None = None,
    ) -> TradierAnswer | Refusal:
        self.asked.append((ask, priority))
        self.used += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            return self._answer(ask)
        finally:
            self.at_once -= 1

    def _answer(self, ask: Ask) -> TradierAnswer | Refusal:
        said = self.answers[ask.path]
        if callable(said):
            said = said(ask)
        if isinstance(said, list):
            script = cast("list[Any]", said)
            said = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(said, OnetapeError):
            raise said
        if isinstance(said, Refusal):
            return said
        body = said if isinstance(said, bytes) else msgspec.json.encode(said)
        return TradierAnswer(body=body, received_ns=self.clock.now_ns(), attempts=1, simulated=True)

    def statistics(self) -> Any:
        return _Counts(
            BudgetStatistics(
                limit=120,
                used=self.used,
                admitted=0,
                waiting_interactive=0,
                waiting_background=0,
                braked_s=0.0,
            )
        )


class _Counts:
    def __init__(self, budget: BudgetStatistics) -> None:
        self.budget = budget


@pytest.fixture
def script() -> Script:
    return Script()


class Floor:
    """Both simulated vendors, from Monday 2025-11-24, 11:20 in New York on, and their time."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self._host = SystemClock()

    def monotonic(self) -> float:
        return self._host.monotonic()

    def now_ns(self) -> int:
        return self.simulator.market.now_ns()


@contextlib.contextmanager
def served(**settings: Any) -> Generator[Simulator]:
    """Run a simulator in a thread of its own: what it reckons holds up no test."""
    started, stop = threading.Event(), threading.Event()
    made: list[Simulator] = []

    async def run() -> None:
        chosen: dict[str, Any] = {"start_ns": FLOOR_NS, "hours": Hours.EXCHANGE} | settings
        async with Simulator(SimulatorSettings(**chosen)) as simulator:
            made.append(simulator)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(30)
    yield made[0]
    stop.set()
    thread.join()


@pytest.fixture(scope="session")
def shared_floor() -> Iterator[Floor]:
    with served(tradier=SimulatedTradier(calls_per_minute=None)) as simulator:
        yield Floor(simulator)


@pytest.fixture
def floor(shared_floor: Floor) -> Iterator[Floor]:
    """Nothing goes wrong yet; what a test injects ends with it."""
    yield shared_floor
    shared_floor.simulator.faults.clear(now=SystemClock().monotonic())


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Floor]:
    """The delayed one."""
    policy = SimulatedTradier(calls_per_minute=None, sandbox=True)
    with served(tradier=policy) as simulator:
        yield Floor(simulator)
