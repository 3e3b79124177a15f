"""What goes wrong between the vendor, the gateway and the client, and how little of it is seen."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect

from onetape.client import Gap, MassiveDataProvider, Parts, SourceChanged, TransportPolicy
from onetape.client._notices import Change, Reason
from onetape.client._rest import CLIENT_POLICY
from onetape.clock import SystemClock
from onetape.errors import AllProvidersFailed, OnetapeError, TokenRevoked, UpstreamDown
from onetape.gateway.app import Gateway
from onetape.massive.rest import RestPolicy
from onetape.model import AssetClass, Bar, Quote, Trade
from onetape.provenance import Source
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import (
    Answer,
    BodyKind,
    Close,
    Drop,
    Fail,
    FailureKind,
    Hang,
    Mute,
    Refuse,
    RestRule,
    Stage,
    StreamAction,
    StreamRule,
    TradierRule,
)
from onetape.testing import Playground, until

INDICES, STOCKS = AssetClass.INDICES, AssetClass.STOCKS
BUSY = SimulatorSettings(rate=4)
QUICK = TransportPolicy(
    options_interval_s=0.2,
    stocks_interval_s=0.2,
    indices_interval_s=0.2,
    closed_interval_s=0.2,  # so that no test depends on the hour
    interval_cap_s=0.2,
)
IMPATIENT = msgspec.structs.replace(
    CLIENT_POLICY, timeout_s=5.0, deadline_s=5.0, backoff_base_s=0.05, backoff_cap_s=0.1
)
TRADIER_FAILS = Fail(kind=FailureKind.BAD_GATEWAY)
UPSTREAM = {"ping_interval_s": 0.3, "pong_deadline_s": 0.3, "cool_down_s": 1.0}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"debug": True, "use_uvloop": False}


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Playground]:
    """One for all tests here: making a day's tapes takes seconds."""
    path = tmp_path_factory.mktemp("ground")
    async with Playground(path, simulator=BUSY, upstream=UPSTREAM) as running:
        yield running


class House:
    """A gateway of the test's own, so that none pays for another's faults, and its vendor."""

    def __init__(self, ground: Playground, gateway: Gateway, key: str) -> None:
        self.ground = ground
        self.simulator = ground.simulator
        self.gateway = gateway
        self.key = key

    def client(self, **settings: Any) -> MassiveDataProvider:
        settings = {"parts": Parts(transport=QUICK, policy=IMPATIENT)} | settings
        return MassiveDataProvider(self.gateway.url, self.key, **settings)


@pytest.fixture
async def play(ground: Playground) -> AsyncIterator[House]:
    key = await ground.key()  # before the gateway reads them
    async with ground.another() as gateway:
        yield House(ground, gateway, key)
    ground.simulator.faults.clear(now=SystemClock().monotonic())
    await until(lambda: not any(ground.simulator.state().connections_open.values()))


class Reader:
    """Reads quotes and keeps them, and all that is said about them."""

    def __init__(self, massive: MassiveDataProvider, *symbols: str) -> None:
        self.quotes: list[Quote] = []
        self.changes: list[Change] = []
        self.subscription = massive.subscribe_quotes(
            symbols, self.quotes.append, on_change=self.changes.append
        )

    async def hears(self, source: Source) -> None:
        """Wait for a quote of that source that was not there before."""
        before = len(self.quotes)
        await until(lambda: any(one.source is source for one in self.quotes[before:]))

    @property
    def gaps(self) -> list[Gap]:
        return [one for one in self.changes if isinstance(one, Gap)]

    @property
    def sources(self) -> list[Source | None]:
        return [one.source for one in self.changes if isinstance(one, SourceChanged)]

    def holds(self) -> None:
        """What is true whatever happened: in order, and nothing twice."""
        times = [quote.event_ns for quote in self.quotes if quote.event_ns is not None]
        assert times == sorted(times)
        streamed = [one for one in self.quotes if one.source is Source.STREAM]
        assert len({(one.symbol, one.event_ns, one.last) for one in streamed}) == len(streamed)


# the stream


DROPS: list[tuple[Stage, StreamAction]] = [
    (Stage.UPGRADE, Refuse()),
    (Stage.ACCEPT, Drop()),
    (Stage.GREETED, Drop()),
    (Stage.AUTH, Drop()),
    (Stage.AUTHENTICATED, Close(code=1011)),
    (Stage.SUBSCRIBE, Drop()),
    (Stage.LIVE, Drop()),
]


@pytest.mark.parametrize(("stage", "action"), DROPS, ids=lambda part: str(part)[:24])
async def test_a_drop_at_any_stage_is_bridged_by_rest(
    play: House, stage: Stage, action: Any
) -> None:
    """R108, W-02, W-03: the reader does nothing and goes on."""
    rule = StreamRule(stage=stage, action=action, cluster="indices", count=1)
    async with play.client() as massive:
        if stage is not Stage.LIVE:
            play.simulator.inject(rule)
        reader = Reader(massive, "SPX")
        await reader.hears(Source.STREAM)
        if stage is Stage.LIVE:
            play.simulator.inject(rule)
            await until(lambda: Source.REST in reader.sources)
            await reader.hears(Source.STREAM)
            assert [gap.start_ns < gap.end_ns for gap in reader.gaps] == [True]

        assert reader.sources[-1] is Source.STREAM
        assert play.simulator.faults.statistics()[-1].struck == 1
        reader.holds()


async def test_a_mute_vendor_is_replaced_by_rest_until_it_speaks(play: House) -> None:
    """R64, W-48: the gateway misses a pong and says so."""
    async with play.client() as massive:
        reader = Reader(massive, "SPX")
        await reader.hears(Source.STREAM)

        mute = StreamRule(stage=Stage.LIVE, action=Mute(pong=False), cluster="indices", count=1)
        play.simulator.inject(mute)
        await until(lambda: Source.REST in reader.sources)
        await reader.hears(Source.STREAM)

        assert reader.sources == [Source.STREAM, Source.REST, Source.STREAM]
        reader.holds()


class Elsewhen(SystemClock):
    """The time it would be, were it that time when the clock was made."""

    def __init__(self, now_ns: int) -> None:
        self._shift_ns = now_ns - super().now_ns()

    def now_ns(self) -> int:
        return super().now_ns() + self._shift_ns


FRIDAY_NOON_NS = 1_795_194_000_000_000_000  # 2026-11-20 12:00 in New York


async def test_a_vendor_that_answers_pings_and_nothing_else_is_found_out(tmp_path: Path) -> None:
    """W-38: one look at REST tells silence from stillness, while the market is open."""
    policy = TransportPolicy(indices_interval_s=0.2, silence_s=0.6, missed_after_s=0.3)
    noon = SimulatorSettings(rate=2, start_ns=FRIDAY_NOON_NS)
    async with Playground(tmp_path, simulator=noon) as play:
        clock = Elsewhen(play.simulator.state().market_ns)
        url, key, parts = play.gateway.url, await play.key(), Parts(transport=policy)
        async with MassiveDataProvider(url, key, clock=clock, parts=parts) as massive:
            reader = Reader(massive, "SPX")
            await reader.hears(Source.STREAM)

            play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Mute(for_s=3.0), count=1))
            await reader.hears(Source.REST)
            assert reader.changes[-1].reason is Reason.SILENT
            await reader.hears(Source.STREAM)

            assert massive.get_health().streams[INDICES].reconnects == 0
            assert massive.get_health().transport.verifications >= 1
            reader.holds()


async def test_what_may_not_be_streamed_is_polled_and_the_rest_streams(
    ground: Playground,
) -> None:
    """R133, R140: a topic that is refused fails alone."""
    key = await ground.key(topics=("V.I:SPX",))
    async with ground.another() as gateway, House(ground, gateway, key).client() as massive:
        refused, carried = Reader(massive, "NDX"), Reader(massive, "SPX")
        await refused.hears(Source.REST)
        await carried.hears(Source.STREAM)

        assert {quote.source for quote in refused.quotes} == {Source.REST}
        assert [one.reason for one in refused.changes] == [Reason.TOPIC_FAILED]
        assert carried.sources == [Source.STREAM]
        health = massive.get_health().streams[INDICES]
        assert (health.topics_wanted, health.topics_failed) == (2, 1)


async def test_an_eviction_is_waited_out_on_rest(play: House) -> None:
    """Another program takes the gateway's login: nobody fights, and the reader reads on."""
    async with play.client() as massive:
        reader = Reader(massive, "SPX")
        await reader.hears(Source.STREAM)

        alien = await connect(play.simulator.socket_url + "/indices")
        await alien.send('{"action":"auth","params":"sim-key"}')
        await reader.hears(Source.REST)
        logins = play.simulator.state().logins[INDICES]
        await reader.hears(Source.STREAM)

        assert play.simulator.state().logins[INDICES] == logins + 1
        assert massive.get_health().streams[INDICES].reconnects == 0
        await alien.close()
        reader.holds()


# once each: trades and bars over every kind of loss


class Tapes:
    """All trades and second bars of the stocks, and what the vendor's own tape says of them."""

    def __init__(self, simulator: Simulator, massive: MassiveDataProvider) -> None:
        self._market = simulator.market
        self.symbols = [one.ticker for one in self._market.instruments(STOCKS)]
        self.trades: dict[str, list[Trade]] = defaultdict(list)
        self.bars: dict[str, list[Bar]] = defaultdict(list)
        self.changes: list[Change] = []
        told: Callable[[Change], None] = self.changes.append
        massive.subscribe_trades(self.symbols, self._trade, on_change=told)
        massive.subscribe_aggregates(self.symbols, self._bar, "1s", on_change=told)

    def _trade(self, trade: Trade) -> None:
        self.trades[trade.symbol].append(trade)

    def _bar(self, bar: Bar) -> None:
        self.bars[bar.symbol].append(bar)

    async def stream(self) -> None:
        """Wait until all of them are streamed, and remember when that was."""
        sources: dict[object, Source | None] = {}

        def streamed() -> bool:
            sources.update((c.key, c.source) for c in self.changes if isinstance(c, SourceChanged))
            return [*sources.values()] == [Source.STREAM] * 2 * len(self.symbols)

        await until(streamed)
        self.since_ns = self._market.now_ns()

    async def resumed(self) -> None:
        """Wait until all of them came back from REST."""

        def back() -> bool:
            last = {c.key: c.source for c in self.changes if isinstance(c, SourceChanged)}
            times = len([c for c in self.changes if isinstance(c, SourceChanged)])
            return times > 2 * len(last) and set(last.values()) == {Source.STREAM}

        await until(back, timeout_s=20)

    async def are_whole(self) -> None:
        """Let a little more come, then compare with what the vendor's tape has."""
        start_ns, end_ns = self.since_ns, self._market.now_ns()
        # A bar counts when its window began after the start and was over at the end.
        first_ns = -(-start_ns // 1_000_000_000) * 1_000_000_000
        last_ns = end_ns - 1_000_000_000
        await until(lambda: self._market.now_ns() > end_ns + 800_000_000)
        for symbol in self.symbols:
            tape = self._market.trades(symbol, start_ns, end_ns)
            ours = [
                one.sequence for one in self.trades[symbol] if start_ns < one.event_ns <= end_ns
            ]
            numbers = [one.sequence for one in tape]
            assert _inner(ours, numbers) == _inner(numbers, ours), symbol
            bars = self._market.bars(symbol, 1, "second", first_ns, last_ns)
            mine = [b.event_ns for b in self.bars[symbol] if first_ns <= b.event_ns <= last_ns]
            assert mine == [bar.start_ns for bar in bars], symbol
        assert not [one for one in self.changes if isinstance(one, Gap)]

    @property
    def sources(self) -> set[Source]:
        everything: list[Sequence[Trade | Bar]] = [*self.trades.values(), *self.bars.values()]
        return {one.source for many in everything for one in many}


def _inner(some: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """The stream's times are cut to milliseconds: at either end one may be in and not the other."""
    return [one for one in some if one in others or one not in (some[0], some[-1])]


async def test_trades_and_bars_come_once_each_over_a_drop(play: House) -> None:
    """R114, R122, R165: what the stream missed is fetched before it goes on."""
    async with play.client(streams=["stocks"]) as massive:
        tapes = Tapes(play.simulator, massive)
        await tapes.stream()
        play.simulator.inject(
            StreamRule(stage=Stage.UPGRADE, action=Refuse(), cluster="stocks", for_s=1.0),
            StreamRule(stage=Stage.LIVE, action=Drop(), cluster="stocks", count=1),
        )
        await tapes.resumed()
        await tapes.are_whole()

    assert tapes.sources == {Source.STREAM, Source.REST}


async def test_trades_and_bars_come_once_each_over_a_restart_of_the_gateway(
    ground: Playground,
) -> None:
    """R108, R118, R273: another gateway at the same address, and nobody has to do anything."""
    key = await ground.key()
    async with ground.another() as first:
        port = int(first.netloc.rpartition(":")[2])
        massive = House(ground, first, key).client(streams=["stocks", "indices"])
        await massive.connect()
        tapes, reader = Tapes(ground.simulator, massive), Reader(massive, "SPX")
        await tapes.stream()
        await reader.hears(Source.STREAM)
    try:
        await until(lambda: Source.REST in reader.sources)
        assert (
            massive.get_health().status == "down" or "stream:stocks" in massive.get_health().reasons
        )
        async with ground.another(port=port):
            await tapes.resumed()
            await reader.hears(Source.STREAM)
            await tapes.are_whole()
            reader.holds()
            assert massive.get_health().status == "ok"
            assert massive.get_health().streams[STOCKS].reconnects >= 1
            await massive.disconnect()
    finally:
        await massive.disconnect()


# tokens and keys


async def test_a_token_that_ends_is_renewed_in_place_and_nothing_is_lost(
    ground: Playground,
) -> None:
    """R72, R76, W-12: the session stays the same one, with another token."""
    key = await ground.key()
    async with ground.another(token_ttl_s=2) as gateway:
        play = House(ground, gateway, key)
        async with play.client(streams=["stocks", "indices"]) as massive:
            tapes = Tapes(play.simulator, massive)
            await tapes.stream()
            door = play.gateway._door  # pyright: ignore[reportPrivateUsage] - nothing else tells
            before = {s.client: s.principal.token_id for s in door if s.principal is not None}

            await until(lambda: massive.get_health().token.generation >= 4)
            await tapes.are_whole()
            await massive.get_quote("SPY")
            after = {s.client: s.principal.token_id for s in door if s.principal is not None}
            health = massive.get_health()

    assert before.keys() == after.keys()
    assert all(before[client] != after[client] for client in before)
    assert [one.reconnects for one in health.streams.values()] == [0, 0]
    assert health.rest.refreshes == 0
    assert tapes.sources == {Source.STREAM}


async def test_a_revoked_key_ends_everything_by_name_and_is_not_hammered(
    play: House,
) -> None:
    """docs/testing.md: do you stop, or hammer?"""
    async with play.client() as massive:
        reader = Reader(massive, "SPX")
        await reader.hears(Source.STREAM)

        await play.ground.revoke(play.key)
        await until(lambda: reader.changes[-1].reason is Reason.POLL_FAILED)
        failure = reader.changes[-1]
        with pytest.raises(TokenRevoked):
            await massive.get_quote("SPY")
        minted = massive.get_health().token.failures
        await asyncio.sleep(1.5)
        health = massive.get_health()

        assert isinstance(failure, SourceChanged)
        assert (failure.source, failure.detail) == (None, "token_revoked")
        assert health.status == "degraded" or health.status == "down"
        assert {"token", "stream:indices", "stream:options"} <= set(health.reasons)
        assert health.token.last_failure == "token_revoked"
        assert health.token.failures - minted <= 2, "asked again once a second at most"
        assert health.streams[INDICES].auth_failures <= 2
        assert len(reader.changes) <= 3, "told once"


# REST


async def test_a_storm_of_429_is_sat_out_together(play: House) -> None:
    """R85, W-16: one pause for all, no more requests than answers."""
    storm = Answer(status=429, retry_after_s=1)
    play.simulator.inject(RestRule(path="/v3/snapshot", action=storm, count=2))
    symbols = [one.ticker for one in play.simulator.market.instruments()]
    before = play.simulator.state().rest_requests
    parts = Parts(policy=RestPolicy(backoff_base_s=0.05))
    async with play.client(parts=parts) as massive:
        quotes = await asyncio.gather(*(massive.get_quote(symbol) for symbol in symbols))
        rest = massive.get_health().rest.rest

    assert [quote.symbol for quote in quotes] == symbols
    assert play.simulator.state().rest_requests - before <= len(symbols) + 2
    assert rest.failures == 0


async def test_a_storm_of_429_that_does_not_end_is_told_by_name(play: House) -> None:
    """R83, R87, R91, R221: three tries, then the caller decides, and knows who said what."""
    play.simulator.inject(
        RestRule(path="/v3/snapshot*", action=Answer(status=429, retry_after_s=60)),
        TradierRule(action=TRADIER_FAILS),
    )
    async with play.client() as massive:
        with pytest.raises(AllProvidersFailed) as caught:
            await massive.get_quote("SPY")

        assert "massive" in str(caught.value)
        assert "tradier" in str(caught.value)
        assert "undefined" not in str(caught.value)
        assert massive.get_health().rest.rest.attempts <= 3


async def test_vendors_that_fail_are_told_by_name(play: House) -> None:
    """R83, R87, R88, R221: three failures in a row are ill health, one success is good health."""
    failing = Answer(status=503, body=BodyKind.HTML)
    patient = msgspec.structs.replace(IMPATIENT, timeout_s=10.0, deadline_s=30.0)
    async with play.client(parts=Parts(policy=patient)) as massive:
        play.simulator.inject(
            RestRule(path="/v3/snapshot*", action=failing), TradierRule(action=TRADIER_FAILS)
        )
        with pytest.raises((AllProvidersFailed, UpstreamDown), match=r"SPY: .* 3 tries"):
            await massive.get_quote("SPY")

        assert massive.get_health().rest.rest.attempts == 3
        assert not massive.get_health().rest.healthy
        assert (massive.get_health().status, massive.get_health().reasons) == (
            "degraded",
            ("rest",),
        )
        await massive.get_market_status()
        assert massive.get_health().status == "ok"


async def test_a_vendor_that_fails_is_stood_in_for_and_the_quote_says_so(play: House) -> None:
    """R219, R220: whose it is, and why; asked for and polled alike."""
    play.simulator.inject(RestRule(path="/v3/snapshot*", action=Answer(status=403)))
    async with play.client() as massive:
        asked = await massive.get_quote("SPY")
        reader = Reader(massive, "SPY")
        await reader.hears(Source.REST)

    for quote in (asked, reader.quotes[-1]):
        assert quote.provider == "tradier"
        assert quote.quality is not None
        assert quote.quality.fallback_reason == (
            "massive does not accept our key, or the plan lacks this"
        )


async def test_polls_go_on_when_the_vendors_are_back(play: House) -> None:
    """W-37: who reads is told that nothing comes, and that it comes again."""
    once = msgspec.structs.replace(IMPATIENT, attempts=1)  # who fails thrice is left alone
    async with play.client(parts=Parts(transport=QUICK, policy=once)) as massive:
        reader = Reader(massive, "SPY")
        await reader.hears(Source.REST)
        play.simulator.inject(
            RestRule(path="/v3/snapshot*", action=Answer(status=403)),
            TradierRule(action=TRADIER_FAILS),
        )
        await until(lambda: reader.changes[-1].reason is Reason.POLL_FAILED)
        failed = reader.changes[-1]
        play.simulator.faults.clear(now=SystemClock().monotonic())
        await reader.hears(Source.REST)

        assert isinstance(failed, SourceChanged)
        assert (failed.source, failed.detail) == (None, AllProvidersFailed.code)
        reasons = [Reason.UNSTREAMED, Reason.POLL_FAILED, Reason.POLL_ANSWERED]
        assert [change.reason for change in reader.changes] == reasons
        reader.holds()


async def test_disconnecting_ends_what_is_still_being_asked(play: House) -> None:
    """R119: by an error of ours, not by a cancellation that nobody asked for."""
    play.simulator.inject(RestRule(path="/v3/snapshot", action=Hang()))
    massive = play.client()
    async with massive, asyncio.TaskGroup() as tasks:

        async def ask() -> OnetapeError | None:
            try:
                await massive.get_quote("SPY")
            except OnetapeError as error:
                return error
            return None

        asking = tasks.create_task(ask())
        await until(lambda: massive.get_health().rest.rest.in_flight)
        await massive.disconnect()

    assert isinstance(asking.result(), OnetapeError)
