"""One simulated vendor for all tests that ask it: its market is made once, in its own thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from onetape.clock import SystemClock
from onetape.massive.asker import VendorAsker
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.simulator.app import Simulator


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    started, stop = threading.Event(), threading.Event()
    made: list[Simulator] = []

    async def run() -> None:
        async with Simulator() as simulator:
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
def simulator(shared_simulator: Simulator) -> Iterator[Simulator]:
    """The vendor, with nothing going wrong yet; what a test injects ends with it."""
    yield shared_simulator
    shared_simulator.faults.clear(now=SystemClock().monotonic())


@pytest.fixture
async def asker(simulator: Simulator) -> AsyncIterator[VendorAsker]:
    """Asks once: what fails is not hidden by another try or by a breaker."""
    rest = MassiveREST(
        base_url=simulator.url,
        headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
        clock=SystemClock(),
        policy=RestPolicy(attempts=1, breaker_failures=1000),
    )
    async with rest:
        yield VendorAsker(rest)
