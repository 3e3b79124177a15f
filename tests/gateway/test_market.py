"""The gateway's view of the market, on both simulated vendors over loopback."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from onetape.clock import SystemClock
from onetape.config import Config, HubConfig, MassiveConfig, Secret, TradierConfig
from onetape.consolidation import Key, Kind
from onetape.gateway import market
from onetape.gateway.market import Market
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.model import Bar, Quote, Topic, Trade
from onetape.providers.interfaces import Handle
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Answer, RestRule
from onetape.testing import until


class Open:
    """A topic somebody reads, of a stream that is silent."""

    def __init__(self, topics: frozenset[Topic], readers: list["Open"]) -> None:
        self.topics = topics
        self._readers = readers
        readers.append(self)

    def close(self) -> None:
        if self in self._readers:
            self._readers.remove(self)


class Silent:
    """Carries nothing, and knows what it was asked to."""

    def __init__(self) -> None:
        self.readers: list[Open] = []

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Quote | Trade | Bar]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> Handle:
        return Open(topics, self.readers)


FEED = Silent()


@asynccontextmanager
async def running(
    simulator: Simulator, *, token: str | None = "sim-tradier-token", **hub: Any
) -> AsyncGenerator[Market]:
    config = Config(
        massive=MassiveConfig(api_key=Secret(simulator.key), base_url=simulator.url),
        tradier=TradierConfig(
            access_token=None if token is None else Secret(token),
            base_url=simulator.tradier_url,
            socket_url=simulator.tradier_socket_url,
        ),
        hub=HubConfig(**hub),
    )
    rest = MassiveREST(
        base_url=simulator.url,
        headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
        clock=SystemClock(),
        policy=RestPolicy(attempts=1),
    )
    async with (
        rest,
        market.running(
            config,
            rest=rest,
            feed=FEED,
            clock=SystemClock(),
            simulated=True,
            is_open=lambda _: True,
        ) as view,
    ):
        yield view


async def test_what_the_settings_watch_is_known_soon_after_the_start() -> None:
    """R229, R230: without waiting for it."""
    async with (
        Simulator(SimulatorSettings(port=0)) as simulator,
        running(simulator, watchlist=("SPX",)) as view,
    ):
        assert view.hub.watchlist == ("I:SPX",)
        await until(lambda: view.hub.get_option_chain("SPX") is not None, timeout_s=15)
        index = view.hub.get_index("SPX")
        assert index is not None
        assert (index.quote.provider, index.quote.simulated) == ("massive", True)
        facts = view.facts(SystemClock().now_ns())
        assert (facts.hub.view.known, facts.confidence) == (2, 100)
    assert not FEED.readers


async def test_nothing_is_asked_before_somebody_wants_something() -> None:
    async with (
        Simulator(SimulatorSettings(port=0)) as simulator,
        running(simulator, refresh_s=0.05) as view,
    ):
        await asyncio.sleep(0.2)
        assert simulator.state().rest_paths == {}
        handle = view.hub.watch([Key(Kind.EQUITY, "SPY")])
        await until(lambda: view.hub.get_equity("SPY") is not None)
        assert FEED.readers
        handle.close()
        assert not FEED.readers


async def test_tradier_answers_when_massive_fails_and_facts_say_so() -> None:
    """R218, R220, R226."""
    async with Simulator(SimulatorSettings(port=0)) as simulator, running(simulator) as view:
        simulator.inject(RestRule(action=Answer(status=500)))
        rows = await view.providers.broker.get_quotes(["SPY"])
        facts = view.facts(SystemClock().now_ns())

    quality = rows[0].quality
    assert (rows[0].provider, quality and quality.fallback_reason is not None) == ("tradier", True)
    assert [(one.provider, one.failures) for one in facts.providers["broker"]] == [
        ("massive", 1),
        ("tradier", 0),
    ]
    assert sum(facts.hybrids["broker"].fallback.fallbacks.values()) == 1


async def test_without_a_token_tradier_is_disabled_and_says_so() -> None:
    """R22."""
    async with (
        Simulator(SimulatorSettings(port=0)) as simulator,
        running(simulator, token=None) as view,
    ):
        assert await view.providers.broker.get_quotes(["SPY"])
        facts = view.facts(SystemClock().now_ns())

    statuses = {one.provider: one.status for one in facts.providers["broker"]}
    assert statuses["tradier"] == "disabled"
    assert next(one.provider for one in facts.providers["indices"]) == "massive"
