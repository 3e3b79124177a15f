"""The gateway's own view of the market: both vendors, the hybrids on them, and one hub.

    MassiveREST ── VendorAsker ─┐
    the fan-out ── Taps ────────┴─ Massive's providers ─┐
                                                        ├─ hybrids ─┬─ /api/…
    TradierREST, its stream ────── Tradier's providers ─┘           └─ MarketDataHub ─ /ws/market

It shares the vendor's REST edge, and so the quota, with the proxy, and the upstream
sockets with everybody. Nothing is asked or held open before somebody wants something.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple, TypeVar

import msgspec

from onetape.clock import Clock
from onetape.config import Config
from onetape.consolidation import HubPolicy
from onetape.hub import HubMetrics, MarketDataHub, Providers
from onetape.hybrid.factory import (
    DataProviders,
    VendorProviders,
    create_data_providers,
    opened,
)
from onetape.hybrid.providers import HybridStatistics
from onetape.massive.asker import Rest, VendorAsker
from onetape.massive.providers import (
    MassiveBrokerProvider,
    MassiveIndicesProvider,
    MassiveOptionsProvider,
)
from onetape.model import ProviderHealth
from onetape.providers.interfaces import LiveFeed
from onetape.providers.vendor import ProviderPolicy
from onetape.tradier.connection import connected

P = TypeVar("P", MassiveOptionsProvider, MassiveBrokerProvider, MassiveIndicesProvider)

DATA: Final = DataProviders._fields
"""What providers are asked for: `options`, `indices`, `broker`."""


POLICY: Final = ProviderPolicy(chain_s=1.0, snapshot_s=0.5)
"""What is kept for others who ask: long enough to share it, too short to hide that its source is
gone."""


PAGE_S: Final = 2.5
"""How long a page of Massive's may take its providers: less than the hybrids wait for a first
answer, so that one long answer of many pages is told from a vendor that is mute."""


class MarketFacts(NamedTuple):
    """A snapshot for metrics and health; `DATA` names its mappings' keys."""

    hub: HubMetrics
    confidence: int | None  # of the hub's view; None while there is none
    providers: Mapping[str, tuple[ProviderHealth, ...]]
    hybrids: Mapping[str, HybridStatistics]


class Market(NamedTuple):
    """What answers the normalised routes, and the hub behind the stream."""

    providers: DataProviders
    asker: VendorAsker  # patient, for what only the vendor has
    hub: MarketDataHub

    def facts(self, now_ns: int) -> MarketFacts:
        """Say how it does at an instant; asks nobody."""
        named = self.providers._asdict()
        return MarketFacts(
            hub=self.hub.metrics(),
            confidence=self.hub.snapshot().confidence(now_ns),
            providers={data: hybrid.health() for data, hybrid in named.items()},
            hybrids={data: hybrid.statistics() for data, hybrid in named.items()},
        )


@asynccontextmanager
async def running(
    config: Config,
    *,
    rest: Rest,
    feed: LiveFeed,
    clock: Clock,
    simulated: bool,
    is_open: Callable[[int], bool] | None = None,
) -> AsyncGenerator[Market]:
    """Run providers and hub for as long as the block is open.

    Args:
        config: Tradier's token, the watchlist and how often to look.
        rest: Massive's REST edge.
        feed: Massive's live events.
        clock: The time.
        simulated: Whether simulators are at the other ends.
        is_open: Whether the market is open at an instant; by default the calendar's word,
            for each provider its own.
    """
    asker = VendorAsker(rest, deadline_s=PAGE_S)
    policy = msgspec.structs.replace(POLICY, enable_logging=config.gateway.log_level == "debug")

    def made(kind: Callable[..., P]) -> P:
        return kind(asker=asker, clock=clock, feed=feed, policy=policy, is_open=is_open)

    massive = VendorProviders(
        made(MassiveOptionsProvider), made(MassiveBrokerProvider), made(MassiveIndicesProvider)
    )
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            connected(
                config.tradier, clock=clock, policy=policy, simulated=simulated, is_open=is_open
            )
        )
        # Indices are Massive's alone (R225): Tradier has no bid and ask of them.
        tradier = None if other is None else VendorProviders(other.options, other.broker)
        hybrids = create_data_providers(massive, tradier, clock=clock, is_open=is_open)
        vendors = [massive] if tradier is None else [massive, tradier]
        await stack.enter_async_context(opened(hybrids, *vendors))
        providers = Providers(hybrids.options, hybrids.indices, hybrids.broker)
        hub = MarketDataHub(providers, _hub_policy(config), clock=clock, is_open=is_open)
        await stack.enter_async_context(hub)
        hub.update_watchlist(config.hub.watchlist)  # now: a start does not wait for answers
        yield Market(hybrids, VendorAsker(rest), hub)


def _hub_policy(config: Config) -> HubPolicy:
    """Watch what the settings say, and nothing that nobody asked for."""
    return HubPolicy(indices=(), refresh_s=config.hub.refresh_s, max_watched=config.hub.max_watched)
