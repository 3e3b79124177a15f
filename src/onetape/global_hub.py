"""A hub without a block: opened by one task, closed by any, and one for a whole program.

Who can should use `async with MarketDataHub(...)`. Notebooks and callbacks cannot.
"""

import asyncio
from typing import Final

from onetape.clock import Clock
from onetape.consolidation import HubPolicy
from onetape.errors import ConfigInvalid
from onetape.hub import MarketDataHub, Providers


async def create_and_initialize_hub(
    providers: Providers, policy: HubPolicy | None = None, *, clock: Clock | None = None
) -> "OwnedHub":
    """Make a hub that needs no block: it has asked for everything once, and runs until closed.

    Raises:
        InvalidSymbol: the policy watches what is no symbol; nothing was asked.
    """
    owned = OwnedHub(MarketDataHub(providers, policy, clock=clock))
    await owned.start()
    return owned


class OwnedHub:
    """A hub and the task that holds its block, so that any task may close it."""

    def __init__(self, hub: MarketDataHub) -> None:
        self.hub = hub
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the hub; return when its first round is over."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        # Without a parent: who closes the hub is its owner.
        self._life = loop.create_task(self._live(ready))
        try:
            await ready
        except BaseException:
            self._life.cancel()
            await asyncio.wait([self._life])
            raise

    async def close(self) -> None:
        """Close the hub; return when nothing of it runs. Idempotent."""
        self._stop.set()
        if self._life is not None:
            await self._life

    async def _live(self, ready: "asyncio.Future[None]") -> None:
        try:
            async with self.hub:
                ready.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            ready.cancel()  # no-op when done


_global: list[OwnedHub] = []  # none, or the one
_turn: Final = asyncio.Lock()


def global_hub() -> MarketDataHub | None:
    """Return the program's one hub; None before `get_global_hub` made it."""
    return _global[0].hub if _global else None


async def get_global_hub(providers: Providers, policy: HubPolicy | None = None) -> MarketDataHub:
    """Return the program's one hub, making it if there is none.

    Raises:
        ConfigInvalid: there is one already, with another policy.
    """
    async with _turn:
        if not _global:
            _global.append(await create_and_initialize_hub(providers, policy))
        hub = _global[0].hub
        if policy is not None and policy != hub.policy:
            raise ConfigInvalid("the global hub runs with another policy: close it first")
        return hub


async def close_global_hub() -> None:
    """Close the program's one hub, if there is one."""
    async with _turn:
        while _global:
            await _global.pop().close()
