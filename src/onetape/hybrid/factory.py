"""The three hybrids of an application, made and opened together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple, TypedDict

from onetape.clock import Clock
from onetape.errors import InvalidRequest
from onetape.hybrid.providers import (
    HybridBrokerProvider,
    HybridIndicesProvider,
    HybridOptionsProvider,
)
from onetape.hybrid.seats import HybridPolicy
from onetape.providers.interfaces import (
    BrokerDataProvider,
    IndicesDataProvider,
    OptionsDataProvider,
)


class VendorProviders(NamedTuple):
    """What one vendor offers. One object may be several of them."""

    options: OptionsDataProvider
    broker: BrokerDataProvider
    indices: IndicesDataProvider | None = None


class DataProviders(NamedTuple):
    """The providers that an application uses."""

    options: HybridOptionsProvider
    indices: HybridIndicesProvider
    broker: HybridBrokerProvider


def create_data_providers(
    massive: VendorProviders,
    tradier: VendorProviders | None = None,
    *,
    clock: Clock | None = None,
    policy: HybridPolicy | None = None,
    is_open: Callable[[int], bool] | None = None,
) -> DataProviders:
    """Put the hybrids together; enter each, or all with `opened`, before use.

    Args:
        massive: The vendor that should answer; with indices.
        tradier: The other; None without its token, which `health` then tells. Its indices,
            if it has any, are asked when Massive's fail.
        clock: The time.
        policy: When the other is asked, and for how long.
        is_open: Whether the market is open at an instant; by default the calendar's word,
            for each provider its own.

    Raises:
        InvalidRequest: Massive's indices are missing.
    """
    if massive.indices is None:
        raise InvalidRequest("Massive is the provider of indices: pass it")
    options, broker, indices = (None, None, None) if tradier is None else tradier
    how: _How = {"clock": clock, "policy": policy, "is_open": is_open}
    return DataProviders(
        options=HybridOptionsProvider(massive.options, options, **how),
        indices=HybridIndicesProvider(massive.indices, indices, **how),
        broker=HybridBrokerProvider(massive.broker, broker, **how),
    )


@asynccontextmanager
async def opened(
    providers: DataProviders, *vendors: VendorProviders
) -> AsyncGenerator[DataProviders]:
    """Open the hybrids for a block, and before them what vendors' providers need opening."""
    async with AsyncExitStack() as stack:
        own = dict.fromkeys(one for vendor in vendors for one in vendor if one is not None)
        for provider in own:
            if isinstance(provider, AbstractAsyncContextManager):
                await stack.enter_async_context(provider)
        for hybrid in providers:
            await stack.enter_async_context(hybrid)
        yield providers


# private


class _How(TypedDict):
    """What all hybrids are made with."""

    clock: Clock | None
    policy: HybridPolicy | None
    is_open: Callable[[int], bool] | None
