import asyncio
import gc
import traceback
from collections.abc import Awaitable, Callable

import pytest

from onetape.errors import OnetapeError, ShuttingDown, UpstreamDown
from onetape.flights import Flights


class Vendor:
    """Work that flies until told to land, and counts what became of each call."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask(self) -> str:
        self.calls += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Callers:
    """Tasks of their own, as clients' requests are."""

    def __init__(self, tasks: asyncio.TaskGroup, flights: Flights[str, str]) -> None:
        self._tasks = tasks
        self._flights = flights

    def start(
        self, count: int, work: Callable[[], Awaitable[str]], *, key: str = "key"
    ) -> list[asyncio.Task[str | Exception]]:
        async def call() -> str | Exception:
            try:
                return await self._flights.join(key, work)
            except Exception as error:  # noqa: BLE001 - returned: the test looks at it
                return error

        return [self._tasks.create_task(call()) for _ in range(count)]

    async def join(
        self, count: int, work: Callable[[], Awaitable[str]], *, key: str = "key"
    ) -> list[asyncio.Task[str | Exception]]:
        callers = self.start(count, work, key=key)
        await settle()
        return callers


async def settle() -> None:
    """Let everything that can run do so; no time passes."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_hundred_callers_cause_one_call() -> None:
    """R92, W-25."""
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        callers = await Callers(tasks, flights).join(100, vendor.ask)
        assert flights.joined("key")
        assert flights.in_flight == 1

        vendor.answer.set_result("chain")

        assert [await caller for caller in callers] == ["chain"] * 100
        assert vendor.calls == 1
        assert not flights.joined("key")
        assert flights.statistics() == (0, 1, 99, 0)
        assert flights.coalesced == 99


async def test_keys_fly_apart() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        callers = Callers(tasks, flights)
        await callers.join(1, vendor.ask, key="a")
        await callers.join(1, vendor.ask, key="b")

        assert (vendor.calls, flights.in_flight, flights.coalesced) == (2, 2, 0)
        vendor.answer.set_result("landed")


async def test_cancelling_one_caller_spares_the_others() -> None:
    """R89: the first caller, who started the work, is no different."""
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        first, second, third = await Callers(tasks, flights).join(3, vendor.ask)

        first.cancel()
        second.cancel()
        await settle()
        vendor.answer.set_result("chain")

        assert await third == "chain"
        assert first.cancelled()
        assert second.cancelled()
        assert vendor.cancelled == 0


async def test_when_every_caller_left_the_work_is_cancelled() -> None:
    """R89, libraries.md 3.3."""
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        callers = await Callers(tasks, flights).join(3, vendor.ask)

        for caller in callers:
            caller.cancel()
        await settle()

        assert all(caller.cancelled() for caller in callers)
        assert vendor.cancelled == 1
        assert flights.statistics() == (0, 1, 2, 1)


async def test_who_comes_while_cancelled_work_ends_starts_afresh() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        ending = asyncio.Event()

        async def slow_to_end() -> str:
            try:
                return await asyncio.Future[str]()
            finally:
                await ending.wait()

        callers = Callers(tasks, flights)
        (leaver,) = await callers.join(1, slow_to_end)
        leaver.cancel()
        await settle()

        vendor = Vendor()
        (comer,) = await callers.join(1, vendor.ask)
        ending.set()
        await settle()
        assert flights.joined("key"), "the end of the old flight is not the end of the new"
        vendor.answer.set_result("new")

        assert await comer == "new"


async def test_a_caller_that_gives_up_waiting_cancels_only_itself() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        (patient,) = await Callers(tasks, flights).join(1, vendor.ask)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await flights.join("key", vendor.ask)

        vendor.answer.set_result("chain")
        assert await patient == "chain"


async def test_a_caller_cancelled_as_the_work_lands_is_cancelled() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        leaver, stayer = await Callers(tasks, flights).join(2, vendor.ask)

        vendor.answer.set_result("chain")
        while flights.joined("key"):
            await asyncio.sleep(0)
        leaver.cancel()
        await settle()

        assert leaver.cancelled()
        assert await stayer == "chain"
        assert flights.statistics().abandoned == 0


async def test_a_failure_reaches_every_caller_and_is_not_kept() -> None:
    """R92, W-28: exceptions are not cached."""
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        callers = await Callers(tasks, flights).join(3, vendor.ask)

        vendor.answer.set_exception(UpstreamDown("refused"))
        outcomes = [await caller for caller in callers]
        vendor = Vendor()
        vendor.answer.set_result("recovered")

        assert [str(outcome) for outcome in outcomes] == ["refused"] * 3
        assert await flights.join("key", vendor.ask) == "recovered"


async def test_a_failure_before_the_first_await_is_a_failure_like_any() -> None:
    async with Flights[str, str]() as flights:

        def fail() -> Awaitable[str]:
            raise UpstreamDown("no route")

        with pytest.raises(UpstreamDown, match="no route"):
            await flights.join("key", fail)
        assert flights.in_flight == 0


async def test_the_traceback_does_not_grow_with_the_number_of_callers() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        vendor = Vendor()
        lengths: list[int] = []

        async def call() -> None:
            try:
                await flights.join("key", vendor.ask)
            except UpstreamDown as error:
                lengths.append(len(traceback.extract_tb(error.__traceback__)))

        for _ in range(50):
            tasks.create_task(call())
        await settle()
        vendor.answer.set_exception(UpstreamDown("refused"))
        await settle()

        assert len(lengths) == 50
        assert len(set(lengths)) == 1


async def test_a_failure_nobody_waits_for_makes_no_noise() -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:

        async def fails_when_cancelled() -> str:
            try:
                return await asyncio.Future[str]()
            except asyncio.CancelledError:
                raise UpstreamDown("reset") from None

        (leaver,) = await Callers(tasks, flights).join(1, fails_when_cancelled)
        leaver.cancel()
        await settle()
    gc.collect()

    assert leaver.cancelled()
    assert noise == []


async def test_work_that_cancels_itself_is_a_failure_not_a_cancellation_of_its_callers() -> None:
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:

        async def cancels_itself() -> str:
            raise asyncio.CancelledError

        callers = await Callers(tasks, flights).join(2, cancels_itself)

        for outcome in [await caller for caller in callers]:
            assert type(outcome) is OnetapeError


async def test_leaving_the_block_cancels_the_work_and_tells_the_callers() -> None:
    before = asyncio.all_tasks()
    async with asyncio.TaskGroup() as tasks:
        async with Flights[str, str]() as flights:
            vendor = Vendor()
            callers = await Callers(tasks, flights).join(2, vendor.ask)

        assert vendor.cancelled == 1
        assert flights.in_flight == 0
        assert asyncio.all_tasks() - before == set(callers), "the work is over, not only cancelled"

    assert [type(caller.result()) for caller in callers] == [ShuttingDown] * 2


async def test_callers_of_work_that_never_took_its_first_step_are_told_too() -> None:
    vendor = Vendor()
    async with asyncio.TaskGroup() as tasks, Flights[str, str]() as flights:
        (caller,) = Callers(tasks, flights).start(1, vendor.ask)
        await asyncio.sleep(0)
        assert (vendor.calls, flights.in_flight) == (0, 1)

    assert type(caller.result()) is ShuttingDown
    assert vendor.calls == 0


async def test_nothing_flies_outside_the_block() -> None:
    flights = Flights[str, str]()
    vendor = Vendor()

    with pytest.raises(ShuttingDown):
        await flights.join("key", vendor.ask)
    async with flights:
        pass
    with pytest.raises(ShuttingDown):
        await flights.join("key", vendor.ask)

    assert vendor.calls == 0


async def test_an_error_of_the_block_leaves_it_as_it_is() -> None:
    vendor = Vendor()
    waiting: list[asyncio.Task[str | Exception]] = []

    async def block(tasks: asyncio.TaskGroup) -> None:
        async with Flights[str, str]() as flights:
            waiting.extend(await Callers(tasks, flights).join(1, vendor.ask))
            raise UpstreamDown("of the block")

    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(UpstreamDown, match="of the block"):
            await block(tasks)

    assert [type(caller.result()) for caller in waiting] == [ShuttingDown]
    assert vendor.cancelled == 1


async def test_a_cancelled_block_cancels_the_work_and_stays_cancelled() -> None:
    inside = asyncio.Event()
    vendor = Vendor()

    async def block() -> None:
        async with Flights[str, str]() as flights:
            inside.set()
            await flights.join("key", vendor.ask)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(block())
        await inside.wait()
        await settle()
        task.cancel()
        await settle()

    assert task.cancelled()
    assert (vendor.calls, vendor.cancelled) == (1, 1)


async def test_what_is_no_ordinary_exception_takes_the_block_down_and_tells_the_callers() -> None:
    class Stop(BaseException):
        """What an interpreter or a supervisor raises."""

    vendor = Vendor()
    waiting: list[asyncio.Task[str | Exception]] = []

    async def stop() -> str:
        await vendor.ask()
        raise Stop

    async def block(tasks: asyncio.TaskGroup) -> None:
        async with Flights[str, str]() as flights:
            callers = Callers(tasks, flights)
            waiting.extend(await callers.join(2, stop, key="stops"))
            waiting.extend(await callers.join(2, asyncio.Future[str], key="flies on"))
            vendor.answer.set_result("never mind")
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(BaseExceptionGroup) as caught:
            await block(tasks)

    assert caught.group_contains(Stop)
    assert [type(caller.result()) for caller in waiting] == [ShuttingDown] * 4


async def test_a_storm_of_joins_and_leaves_ends_with_nothing_in_flight() -> None:
    """Every caller that stays gets its answer, however the others come and go."""
    async with asyncio.TaskGroup() as tasks, Flights[int, int]() as flights:

        async def work() -> int:
            for _ in range(3):
                await asyncio.sleep(0)
            return 7

        stayers: list[asyncio.Task[int]] = []
        leavers: list[asyncio.Task[int]] = []
        for n in range(300):
            task = tasks.create_task(flights.join(n % 5, work))
            (leavers if n % 3 else stayers).append(task)
            if n % 2:
                await asyncio.sleep(0)
            if n % 3 and len(leavers) % 4:
                leavers[-1].cancel()
        assert await asyncio.gather(*stayers) == [7] * 100
        await settle()

        assert flights.in_flight == 0
        assert all(task.cancelled() or task.result() == 7 for task in leavers)
