"""Tasks that are over with their block, and errors that come out of it as they are."""

import asyncio

import pytest

from onetape.own_tasks import OwnTasks


async def test_an_error_of_the_block_comes_out_as_it_is_when_the_tasks_are_over() -> None:
    ended: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        ended.append("work")

    async def block() -> None:
        async with OwnTasks() as tasks:
            tasks.create_task(work())
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await block()

    assert ended == ["work"]


async def test_a_cancelled_block_cancels_its_tasks() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def block() -> None:
        async with OwnTasks() as tasks:
            tasks.create_task(work())
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as outer:
        running = outer.create_task(block())
        await begun.wait()
        running.cancel()

    assert running.cancelled()
    assert cancelled.is_set()
