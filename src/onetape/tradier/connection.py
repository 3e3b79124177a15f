"""Tradier from the settings: one token, and so one budget and one stream for all providers.

    settings ──▶ TradierREST ──────────▶ requests, counted together
            └──▶ TradierWebSocket ─────▶ StreamReaders     but not in the sandbox: polled
                       └─ both ─▶ options, broker, indices

Without a token there is nothing to connect: `connected` gives None, and whoever puts the
hybrids together passes that on (R22).
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from onetape.clock import Clock
from onetape.own_tasks import OwnTasks
from onetape.providers.vendor import ProviderPolicy
from onetape.settings import TradierConfig
from onetape.tradier.feed import market_is_open
from onetape.tradier.notices import TradierFeedPolicy
from onetape.tradier.providers import (
    TradierBrokerProvider,
    TradierHabits,
    TradierIndicesProvider,
    TradierOptionsProvider,
)
from onetape.tradier.readers import StreamReaders
from onetape.tradier.rest import SANDBOX, TradierPolicy, TradierREST
from onetape.tradier.stream import TradierWebSocket

P = TypeVar("P", TradierOptionsProvider, TradierBrokerProvider, TradierIndicesProvider)


class TradierProviders(NamedTuple):
    """What Tradier offers, in the order of `hybrid.VendorProviders`."""

    options: TradierOptionsProvider
    broker: TradierBrokerProvider
    indices: TradierIndicesProvider


@asynccontextmanager
async def connected(  # noqa: PLR0913 - called once, by who puts things together; all by name
    config: TradierConfig,
    *,
    clock: Clock,
    policy: ProviderPolicy | None = None,
    habits: TradierHabits | None = None,
    sandbox: bool | None = None,
    simulated: bool = False,
    is_open: Callable[[int], bool] | None = None,
) -> AsyncGenerator[TradierProviders | None]:
    """Make the providers of one token, with their requests and their stream; None without one.

    They are not entered: each is an async context manager of its own.

    Args:
        config: The token and the addresses.
        clock: The time.
        policy: How long what is kept.
        habits: What is particular to Tradier; `delayed` is the sandbox's to say.
        sandbox: Whether it is Tradier's sandbox; None for what the address says.
        simulated: Whether a simulator is at the other end.
        is_open: Whether the market is open at an instant; by default the calendar's word,
            for each provider its own.
    """
    token = config.access_token
    if token is None:
        yield None
        return
    is_late = is_sandbox(config.base_url) if sandbox is None else sandbox
    rest = TradierREST(
        base_url=config.base_url,
        token=token,
        clock=clock,
        policy=SANDBOX if is_late else TradierPolicy(),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(rest)
        readers = None
        if not is_late:
            readers = StreamReaders()
            stream = TradierWebSocket(
                url=config.socket_url,
                mint=rest.session,
                clock=clock,
                policy=TradierFeedPolicy(),
                on_events=readers.take,
                on_notice=readers.hear,
                simulated=simulated,
                is_open=is_open or market_is_open,
            )
            readers.connect(stream.want)
            await stack.enter_async_context(_beside(stream.run()))
        own = msgspec.structs.replace(habits or TradierHabits(), delayed=is_late)

        def made(kind: Callable[..., P]) -> P:
            return kind(
                asker=rest, clock=clock, feed=readers, policy=policy, habits=own, is_open=is_open
            )

        yield TradierProviders(
            made(TradierOptionsProvider), made(TradierBrokerProvider), made(TradierIndicesProvider)
        )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Let something run for as long as the block is open."""
    async with OwnTasks() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


def is_sandbox(base_url: str) -> bool:
    """Tell whether an address is the sandbox's."""
    return (urlsplit(base_url).hostname or "").startswith("sandbox.")
