"""Hubs that need no block, on a provider that is down: opened is asked once, answered or not."""

import asyncio
from typing import Any

import pytest

from onetape.consolidation import HubPolicy, Kind
from onetape.errors import ConfigInvalid, InvalidSymbol, UpstreamDown
from onetape.global_hub import (
    close_global_hub,
    create_and_initialize_hub,
    get_global_hub,
    global_hub,
)
from onetape.hub import Providers
from onetape.testing import ManualClock, until


class Down:
    """A provider of everything, that has nothing."""

    name = "down"

    def health(self) -> tuple[()]:
        return ()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("get_", "subscribe_")):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> Any:
            raise UpstreamDown("down")

        return refuse


POLICY = HubPolicy(watchlist=("SPY",), indices=())


def providers() -> Providers:
    down: Any = Down()
    return Providers(down, down, down)


def running() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_one_hub_serves_a_whole_program() -> None:
    """R239, W-64: concurrent calls make one, another policy is an error."""
    assert global_hub() is None
    others = running()

    hubs = await asyncio.gather(*(get_global_hub(providers(), POLICY) for _ in range(5)))

    assert len({id(hub) for hub in hubs}) == 1
    assert global_hub() is hubs[0]
    with pytest.raises(ConfigInvalid, match="another policy"):
        await get_global_hub(providers(), HubPolicy())
    assert running() > others
    await asyncio.create_task(close_global_hub())  # noqa: TID251 - from another task
    await close_global_hub()
    assert global_hub() is None
    await until(lambda: running() <= others)


async def test_a_hub_without_a_block_is_closed_by_whoever_owns_it() -> None:
    others = running()
    owned = await create_and_initialize_hub(providers(), POLICY, clock=ManualClock())
    assert owned.hub.why(Kind.EQUITY, "SPY") == "upstream_down"
    await owned.close()
    await owned.close()
    assert running() <= others

    with pytest.raises(InvalidSymbol):
        await create_and_initialize_hub(providers(), HubPolicy(watchlist=("*",)))
    assert running() <= others
