"""The hub on scripted providers: they answer what they are told, and say what they were asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import pytest

from onetape.chain_query import ChainQuery
from onetape.consolidation import HubPolicy, Key, Kind
from onetape.errors import InvalidSymbol, OnetapeError, TooManyTopics, UpstreamDown
from onetape.hub import MarketDataHub, Providers
from onetape.model import (
    Bar,
    ContractType,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    MarketDataTick,
    OptionChain,
    OptionSnapshot,
    ProviderHealth,
    Quote,
)
from onetape.provenance import Quality, Source
from onetape.rows import Rows, SymbolFault
from onetape.testing import ManualClock
from onetape.timeframes import BarLength, Moment


class Handle:
    """Something open, and whether it was closed."""

    def __init__(self, take: Callable[[Any], None], query: ChainQuery | None = None) -> None:
        self.take = take
        self.query = query
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Script:
    """All three providers in one."""

    name = "scripted"

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.price = 100.0
        self.error: OnetapeError | None = None
        self.asked: list[str] = []
        self.queries: list[ChainQuery] = []  # of the chains asked for
        self.hold: asyncio.Event | None = None
        self.open: dict[str, Handle] = {}
        self.closed = 0

    def health(self) -> tuple[ProviderHealth, ...]:
        return (ProviderHealth(provider="scripted", healthy=self.error is None, status="ok"),)

    def quote(self, symbol: str, price: float | None = None) -> Quote:
        now_ns = self.clock.now_ns()
        return Quote(
            symbol=symbol,
            event_ns=now_ns,
            received_ns=now_ns,
            provider="scripted",
            last=self.price if price is None else price,
            quality=Quality(provider="scripted", source=Source.REST, received_ns=now_ns),
        )

    async def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error

    async def get_option_chain(
        self,
        underlying: str,
        query: ChainQuery = ChainQuery(),  # noqa: B008 - frozen
    ) -> OptionChain:
        self.queries.append(query)
        await self._answer(f"chain:{underlying}")
        return self.chain(underlying)

    def chain(self, underlying: str) -> OptionChain:
        now_ns = self.clock.now_ns()
        return OptionChain(
            underlying=underlying,
            underlying_price=self.price,
            underlying_event_ns=now_ns,
            contracts=(),
            received_ns=now_ns,
            provider="scripted",
        )

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        raise NotImplementedError

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        raise NotImplementedError

    async def get_flow(self, underlying: str) -> Flow:
        await self._answer(f"flow:{underlying}")
        return Flow(underlying=underlying, available=False, reason="no tape", provider="scripted")

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        await self._answer(f"indices:{','.join(symbols)}")
        rows = [IndexSnapshot(symbol=one, quote=self.quote(one)) for one in symbols]
        return Rows(rows, kind=IndexSnapshot)

    async def get_indicators(
        self, symbol: str, length: BarLength, *, lookback: int = 250
    ) -> Mapping[str, float | None]:
        raise NotImplementedError

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        await self._answer(f"quotes:{','.join(symbols)}")
        known = [symbol for symbol in symbols if symbol != "GONE"]
        faults = [SymbolFault(symbol="GONE", error="upstream_forbidden")] * ("GONE" in symbols)
        return Rows([self.quote(one) for one in known], kind=Quote, errors=faults)

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        raise NotImplementedError

    def subscribe_chain(
        self,
        underlying: str,
        take: Callable[[OptionChain], None],
        query: ChainQuery = ChainQuery(),  # noqa: B008 - frozen
    ) -> Handle:
        return self._opened(f"chain:{underlying}", Handle(take, query))

    def subscribe_index(self, symbol: str, take: Callable[[IndexSnapshot], None]) -> Handle:
        return self._opened(f"index:{symbol}", Handle(take))

    def subscribe_equity(self, symbol: str, take: Callable[[Quote], None]) -> Handle:
        if symbol == "POLL":
            raise UpstreamDown("not streamed")
        return self._opened(f"equity:{symbol}", Handle(take))

    def _opened(self, what: str, handle: Handle) -> Handle:
        self.open[what] = handle
        return handle


class Beat:
    """Lets the hub's loops sleep until time is moved on."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self.sleepers.append((self.clock.monotonic() + seconds, woken))
        await woken.wait()

    async def pass_s(self, seconds: float) -> None:
        """Let time pass in steps, and everybody do what is due."""
        steps = max(1, round(seconds / 0.05))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            for one in [one for one in self.sleepers if one[0] <= self.clock.monotonic() + 1e-6]:
                self.sleepers.remove(one)
                one[1].set()
            for _ in range(10):
                await asyncio.sleep(0)


class Stage:
    """A clock, a script and the hub on them."""

    def __init__(self, **policy: Any) -> None:
        self.clock = ManualClock(now_ns=1_773_930_600_000_000_000)  # a Thursday, while open
        self.script = Script(self.clock)
        self.beat = Beat(self.clock)
        chosen = {"watchlist": ("SPY",), "indices": ("I:SPX",), **policy}
        self.providers = Providers(self.script, self.script, self.script)
        self.hub = MarketDataHub(
            self.providers,
            msgspec.convert(chosen, HubPolicy),
            clock=self.clock,
            sleep=self.beat.sleep,
        )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    async with made.hub:
        yield made


def running() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_the_hub_knows_everything_it_watches_once_it_is_open(stage: Stage) -> None:
    """R229, R235."""
    hub = stage.hub

    assert hub.get_equity("SPY") is not None
    assert hub.get_index("spx") is not None
    assert hub.get_option_chain("SPY") is not None
    assert hub.get_flow("SPY") is None
    assert hub.why(Kind.EQUITY, "SPY") is None
    assert hub.why(Kind.EQUITY, "AAPL") == "not watched"
    assert stage.script.asked == ["indices:I:SPX", "quotes:SPY", "chain:SPY"]
    assert repr(hub) == "<MarketDataHub 3 of 3 parts, 0 readers>"


async def test_a_first_round_that_fails_opens_the_hub_all_the_same() -> None:
    """R229: after the first round, successful or failed."""
    stage = Stage()
    stage.script.error = UpstreamDown("gone")
    async with stage.hub as hub:
        assert (hub.get_equity("SPY"), hub.why(Kind.EQUITY, "SPY")) == (None, "upstream_down")
        assert hub.metrics().poll_failures == 3
        stage.script.error = None
        await stage.beat.pass_s(6)
        assert hub.get_option_chain("SPY") is not None


async def test_a_bad_watchlist_is_refused_before_anything_is_asked() -> None:
    """R229: bad config raises before any network call."""
    stage = Stage(watchlist=("SPY", "*"))
    with pytest.raises(InvalidSymbol):
        async with stage.hub:
            raise AssertionError
    assert stage.script.asked == []


async def test_it_polls_at_a_fixed_rate_and_never_twice_at_once() -> None:
    """R230, W-37: a slow answer never overlaps with the next question."""
    stage = Stage(streaming=False)
    async with stage.hub as hub:
        stage.script.asked.clear()
        await stage.beat.pass_s(5.1)
        assert stage.script.asked == ["indices:I:SPX", "quotes:SPY"]
        stage.script.hold = asyncio.Event()
        await stage.beat.pass_s(16)
        assert stage.script.asked.count("quotes:SPY") == 2
        stage.script.hold.set()
        stage.script.hold = None
        await stage.beat.pass_s(9.5)
        assert stage.script.asked.count("quotes:SPY") == 3
        assert hub.metrics().rounds >= 5


async def test_without_streams_it_polls_all_the_same() -> None:
    """R231: the original polled only when it streamed."""
    stage = Stage(streaming=False)
    async with stage.hub:
        assert stage.script.open == {}
        await stage.beat.pass_s(21)

    assert stage.script.asked.count("chain:SPY") == 2
    assert stage.script.asked.count("quotes:SPY") == 5


async def test_what_is_streamed_is_not_polled_until_it_falls_silent(stage: Stage) -> None:
    """W-69."""
    stage.script.asked.clear()
    for _ in range(4):
        await stage.beat.pass_s(3)
        stage.script.open["equity:SPY"].take(stage.script.quote("SPY"))
    assert "quotes:SPY" not in stage.script.asked
    await stage.beat.pass_s(11)
    assert "quotes:SPY" in stage.script.asked


async def test_a_tick_reaches_its_subscribers_within_the_batch(stage: Stage) -> None:
    """R232, R233."""
    ticks, snapshots = list[MarketDataTick](), list[MarketDataSnapshot]()
    stage.hub.subscribe_tick("a", ticks.append)
    stage.hub.subscribe_snapshot("b", snapshots.append)
    await stage.beat.pass_s(0.3)
    ticks.clear()
    snapshots.clear()

    for n in range(50):
        stage.clock.advance(0.0001)
        stage.script.open["equity:SPY"].take(stage.script.quote("SPY", float(n)))
    await stage.beat.pass_s(0.3)

    assert [tick.equity.last for tick in ticks if tick.equity] == [49.0]
    assert len(snapshots) == 1
    assert snapshots[0].equities["SPY"].last == 49.0


async def test_a_hanging_and_a_raising_subscriber_hold_up_nobody(stage: Stage) -> None:
    """R241."""
    heard = list[MarketDataTick]()
    never = asyncio.Event()

    async def hang(_: MarketDataTick) -> None:
        await never.wait()

    def fail(_: MarketDataTick) -> None:
        raise ValueError("mine")

    stage.hub.subscribe_tick("hangs", hang)
    stage.hub.subscribe_tick("fails", fail)
    stage.hub.subscribe_tick("hears", heard.append)
    for n in range(5):
        stage.clock.advance(0.001)
        stage.script.open["equity:SPY"].take(stage.script.quote("SPY", float(n)))
        await stage.beat.pass_s(0.2)

    assert [tick.equity.last for tick in heard if tick.equity] == [0.0, 1.0, 2.0, 3.0, 4.0]
    metrics = stage.hub.metrics()
    assert metrics.failures == 5
    assert metrics.dropped == 3
    assert metrics.tick_subscribers == 3


async def test_two_subscribers_of_one_name_are_two(stage: Stage) -> None:
    """R233, W-65: an old handle does not close the new one."""
    first = stage.hub.subscribe_tick("app")
    second = stage.hub.subscribe_tick("app")
    first.close()
    stage.clock.advance(0.001)
    stage.script.open["equity:SPY"].take(stage.script.quote("SPY", 7.0))
    await stage.beat.pass_s(0.2)

    tick = await anext(second)
    assert tick.equity is not None
    assert tick.equity.last == 7.0
    assert stage.hub.metrics().tick_subscribers == 1


async def test_a_removed_symbol_is_unsubscribed_and_forgotten(stage: Stage) -> None:
    """R236, W-67."""
    equity, chain = stage.script.open["equity:SPY"], stage.script.open["chain:SPY"]

    stage.hub.update_watchlist(["AAPL"])
    await stage.beat.pass_s(6)

    assert equity.is_closed
    assert chain.is_closed
    assert stage.hub.get_equity("SPY") is None
    assert stage.hub.get_equity("AAPL") is not None
    assert stage.hub.watchlist == ("AAPL",)
    equity.take(stage.script.quote("SPY"))
    assert stage.hub.get_equity("SPY") is None


async def test_the_last_good_value_is_kept_and_marked(stage: Stage) -> None:
    """R266."""
    stage.script.error = UpstreamDown("gone")
    await stage.beat.pass_s(6)

    kept = stage.hub.get_equity("SPY")
    assert kept is not None
    assert kept.quality is not None
    assert [one.code for one in kept.quality.reasons] == ["last_good"]
    assert stage.hub.metrics().poll_failures >= 2


async def test_a_chain_is_streamed_around_its_price_and_followed_when_that_moves(
    stage: Stage,
) -> None:
    handle = stage.script.open["chain:SPY"]
    assert handle.query is not None
    assert (handle.query.min_strike, handle.query.max_strike) == (96.0, 104.0)

    stage.clock.advance(0.001)
    stage.script.price = 110.0
    stage.script.open["equity:SPY"].take(stage.script.quote("SPY", 110.0))
    await stage.beat.pass_s(6)

    assert handle.is_closed
    query = stage.script.open["chain:SPY"].query
    assert query is not None
    assert (query.min_strike, query.max_strike) == (105.6, 114.4)


async def test_what_is_refused_is_missing_with_its_reason() -> None:
    stage = Stage(watchlist=("SPY", "GONE", "POLL"), flow=True)
    async with stage.hub as hub:
        assert hub.get_equity("GONE") is None
        assert hub.why(Kind.EQUITY, "GONE") == "upstream_forbidden"
        assert hub.get_equity("POLL") is not None
        flow = hub.get_flow("SPY")
        assert flow is not None
        assert not flow.available
        assert hub.snapshot().missing == {"equity:GONE": "upstream_forbidden"}


async def test_metrics_count_what_happened(stage: Stage) -> None:
    """R237."""
    metrics = stage.hub.metrics()

    assert metrics.view.known == 3
    assert metrics.polls == 3
    assert metrics.last_poll_ns == stage.clock.now_ns()
    assert metrics.last_update_ns == stage.clock.now_ns()
    assert [one.provider for one in metrics.providers] == ["scripted"] * 3


async def test_leaving_the_block_leaves_nothing_running() -> None:
    before = running()
    stage = Stage()
    async with stage.hub as hub:
        hub.subscribe_tick("a", lambda _: None)
        handles = list(stage.script.open.values())
        assert running() != before

    assert running() == before
    assert all(handle.is_closed for handle in handles)


async def test_a_fault_in_the_block_is_raised_as_it_is() -> None:
    stage = Stage()
    with pytest.raises(ValueError, match="mine"):
        async with stage.hub:
            raise ValueError("mine")


async def test_a_provider_that_breaks_is_a_failed_poll(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(streaming=False)

    async def broken(symbols: Sequence[str]) -> Rows[Quote]:
        raise RuntimeError(str(symbols))

    stage.script.get_quotes = broken  # what a bug would do
    async with stage.hub as hub:
        assert hub.why(Kind.EQUITY, "SPY") == "RuntimeError"
    assert "hub.poll_failed" in [line.message for line in caplog.records]


def parts(hub: MarketDataHub) -> int:
    return hub.metrics().view.watched


async def test_a_part_is_watched_for_as_long_as_somebody_wants_it(stage: Stage) -> None:
    """R236: beside the watchlist, by handles; the last one to go lets the part go."""
    hub, script = stage.hub, stage.script
    script.asked.clear()
    first = hub.watch([Key(Kind.EQUITY, "aapl")])
    second = hub.watch([Key(Kind.EQUITY, "AAPL"), Key(Kind.EQUITY, "SPY")])
    await stage.beat.pass_s(0.1)
    assert script.asked == ["quotes:AAPL"]  # at once, and only what is new
    assert hub.get_equity("AAPL") is not None

    first.close()
    first.close()
    assert hub.get_equity("AAPL") is not None
    second.close()
    assert hub.why(Kind.EQUITY, "AAPL") == "not watched"
    assert script.open["equity:AAPL"].is_closed
    assert hub.get_equity("SPY") is not None  # the watchlist wants it still


async def test_a_chain_that_is_wanted_is_asked_for_around_its_price(stage: Stage) -> None:
    stage.script.asked.clear()
    handle = stage.hub.watch([Key(Kind.CHAIN, "SPX")])  # which has its price already
    other = stage.hub.watch([Key(Kind.CHAIN, "AAPL")])
    await stage.beat.pass_s(0.2)

    assert stage.script.asked == ["chain:I:SPX", "quotes:AAPL", "chain:AAPL"]
    bounds = [one.query for one in (stage.script.open["chain:AAPL"],) if one.query is not None]
    assert [(one.min_strike, one.max_strike) for one in bounds] == [(96.0, 104.0)]
    other.close()
    handle.close()
    assert parts(stage.hub) == 3


async def test_a_chain_whose_price_cannot_be_had_is_bounded_all_the_same() -> None:
    stage = Stage(watchlist=(), indices=())
    async with stage.hub as hub:
        hub.watch([Key(Kind.CHAIN, "GONE")])
        await stage.beat.pass_s(0.1)

        assert hub.why(Kind.EQUITY, "GONE") == "upstream_forbidden"
        assert [query.around for query in stage.script.queries] == [25]


@pytest.mark.parametrize(
    "key",
    [
        Key(Kind.EQUITY, "I:SPX"),
        Key(Kind.INDEX, "SPY"),
        Key(Kind.CHAIN, "O:SPY251219C00650000"),
        Key(Kind.FLOW, "*"),
    ],
)
async def test_a_part_that_a_symbol_does_not_have_is_refused(stage: Stage, key: Key) -> None:
    with pytest.raises(InvalidSymbol):
        stage.hub.watch([Key(Kind.EQUITY, "AAPL"), key])
    assert parts(stage.hub) == 3


async def test_there_are_no_more_parts_than_the_policy_has_places_for() -> None:
    stage = Stage(watchlist=(), indices=(), max_watched=2)
    async with stage.hub as hub:
        chain = hub.watch([Key(Kind.CHAIN, "AAPL")])
        hub.watch([Key(Kind.EQUITY, "AAPL")])
        with pytest.raises(TooManyTopics):
            hub.watch([Key(Kind.EQUITY, "QQQ")])
        chain.close()
        hub.watch([Key(Kind.EQUITY, "QQQ")])
        assert parts(hub) == 2


async def test_a_handle_that_outlives_the_hub_closes_quietly() -> None:
    stage = Stage()
    async with stage.hub as hub:
        handle = hub.watch([Key(Kind.FLOW, "SPY")])
    handle.close()


async def test_hours_of_another_market_are_the_callers_to_say() -> None:
    """A simulated market may never close; then nothing is asked at the pace of a closed one."""
    for is_open, polls in ((True, 12), (False, 2)):
        stage = Stage(streaming=False, closed_s=30.0)
        stage.hub = MarketDataHub(
            stage.providers,
            stage.hub.policy,
            clock=stage.clock,
            sleep=stage.beat.sleep,
            is_open=lambda _, now=is_open: now,
        )
        async with stage.hub:
            stage.script.asked.clear()
            await stage.beat.pass_s(60.5)
        assert stage.script.asked.count("quotes:SPY") == polls
