"""Two scripted vendors behind the hybrids, on a loop whose time is leapt over."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import pairwise
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec
import pytest

from onetape.chain_query import ChainQuery
from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    InvalidRequest,
    MassiveApiError,
    NotConnected,
    NotFound,
    OnetapeError,
    TradierApiError,
    UpstreamDown,
    UpstreamThrottled,
)
from onetape.hybrid.factory import (
    DataProviders,
    VendorProviders,
    create_data_providers,
    opened,
)
from onetape.hybrid.providers import (
    HybridBrokerProvider,
    HybridIndicesProvider,
    HybridOptionsProvider,
)
from onetape.hybrid.seats import HybridPolicy
from onetape.hybrid.verdicts import WORDS, Why
from onetape.model import (
    Bar,
    ContractType,
    Flow,
    Greeks,
    IndexSnapshot,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    ProviderHealth,
    Quote,
)
from onetape.providers.interfaces import (
    Handle,
)
from onetape.quality.chains import judge_chain
from onetape.quality.contracts import judge_contract
from onetape.quality.indices import judge_index
from onetape.quality.quotes import judge_quote
from onetape.rows import Rows, SymbolFault
from onetape.testing import LeapClock, leaping
from onetape.timeframes import BarLength, bar_length

T = TypeVar("T")

S = 1_000_000_000
NOON_NS = 1_763_740_800 * S  # a Friday in New York, while the market is open
EXPIRATION = date(2027, 1, 15)
CALL = ContractType.CALL
DOWN = UpstreamDown("the vendor's own words")
MUTE = 1e6
CLOCK = LeapClock(start_ns=NOON_NS)
elapsed = CLOCK.monotonic


# vendors that do as they are told


Reply = Any  # an answer, an error, a function of the question, or seconds to wait first


class Script(Generic[T]):
    """What a method answers: the same until told otherwise, or one after the other."""

    def __init__(self) -> None:
        self.reply: Reply = UpstreamDown("nothing is scripted")
        self.next: list[Reply] = []
        self.delay_s = 0.0
        self.asked: list[tuple[float, Any]] = []
        self.cancelled = 0

    async def __call__(self, about: Any = None) -> Any:
        self.asked.append((elapsed(), about))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        reply = self.next.pop(0) if self.next else self.reply
        if callable(reply):
            reply = reply(about)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Scripted:
    def __init__(self, name: str) -> None:
        self._name = name
        self.chain = Script[OptionChain]()
        self.contract = Script[OptionSnapshot]()
        self.expirations = Script[tuple[date, ...]]()
        self.flow = Script[Flow]()
        self.quotes = Script[Rows[Quote]]()
        self.bars = Script[Rows[Bar]]()
        self.indices = Script[Rows[IndexSnapshot]]()
        self.indicators = Script[Mapping[str, float | None]]()
        self.takers: list[Callable[[Any], None]] = []
        self.closed = 0
        self.is_entered = False

    async def __aenter__(self) -> Self:
        assert not self.is_entered
        self.is_entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_entered = False

    @property
    def name(self) -> str:
        return self._name

    def health(self) -> tuple[ProviderHealth, ...]:
        return (ProviderHealth(provider=self._name, healthy=True, status="ok"),)

    async def get_option_chain(
        self,
        underlying: str,
        query: ChainQuery = ChainQuery(),  # noqa: B008 - frozen
    ) -> OptionChain:
        return await self.chain((underlying, query))

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        return await self.contract((underlying, strike, expiration, contract_type))

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        return await self.expirations(underlying)

    async def get_flow(self, underlying: str) -> Flow:
        return await self.flow(underlying)

    def subscribe_chain(
        self,
        underlying: str,
        take: Callable[[OptionChain], None],
        query: ChainQuery = ChainQuery(),  # noqa: B008 - frozen
    ) -> Handle:
        return self._subscribed(take)

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        return await self.quotes(tuple(symbols))

    async def get_bars(self, symbol: str, length: BarLength, start: Any, end: Any) -> Rows[Bar]:
        return await self.bars((symbol, length, start, end))

    def subscribe_equity(self, symbol: str, take: Callable[[Quote], None]) -> Handle:
        return self._subscribed(take)

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        return await self.indices(tuple(symbols))

    async def get_indicators(
        self, symbol: str, length: BarLength, *, lookback: int = 250
    ) -> Mapping[str, float | None]:
        return await self.indicators((symbol, length, lookback))

    def subscribe_index(self, symbol: str, take: Callable[[IndexSnapshot], None]) -> Handle:
        return self._subscribed(take)

    def deliver(self, value: Any) -> None:
        for take in self.takers:
            take(value)

    def _subscribed(self, take: Callable[[Any], None]) -> Handle:
        if not self.is_entered and self._name == "closed":
            raise NotConnected("not entered")
        self.takers.append(take)
        return _Handle(self, take)


class _Handle:
    def __init__(self, vendor: Scripted, take: Callable[[Any], None]) -> None:
        self._vendor = vendor
        self._take = take

    def close(self) -> None:
        self._vendor.closed += 1
        self._vendor.takers.remove(self._take)


# what they answer


def quote(
    provider: str = "massive",
    symbol: str = "SPY",
    *,
    age_s: float = 0.0,
    bid: float = 99.9,
    ask: float = 100.1,
) -> Quote:
    now_ns = CLOCK.now_ns()
    made = Quote(
        symbol=symbol,
        event_ns=now_ns - round(age_s * S),
        received_ns=now_ns,
        provider=provider,
        bid=bid,
        ask=ask,
        last=(bid + ask) / 2,
    )
    return judge_quote(made, now_ns=now_ns, market_open=True)


def contract(
    provider: str = "massive",
    strike: float = 100.0,
    kind: ContractType = CALL,
    *,
    greeks: bool = True,
    **market: Any,
) -> OptionSnapshot:
    symbol = f"O:SPY270115{'C' if kind is CALL else 'P'}{round(strike * 1000):08d}"
    made = OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=EXPIRATION,
            strike=strike,
            contract_type=kind,
        ),
        quote=quote(provider, symbol, **{"bid": 4.9, "ask": 5.1, **market}),
        greeks=_greeks(provider, kind) if greeks else None,
        implied_volatility=0.2 if greeks else None,
        open_interest=100.0,
        volume=10.0,
    )
    return judge_contract(made, now_ns=CLOCK.now_ns(), market_open=True)


def _greeks(provider: str, kind: ContractType) -> Greeks:
    delta = 0.5 if kind is CALL else -0.5
    return Greeks(
        delta=delta,
        gamma=0.02,
        theta=-0.05,
        vega=0.3,
        rho=0.1,
        provider=provider,
        event_ns=CLOCK.now_ns() - 600 * S if provider == "tradier" else CLOCK.now_ns(),
    )


def chain(
    provider: str = "massive",
    *,
    listed: int | None = None,
    strikes: Sequence[float] = (99, 100, 101),
    **market: Any,
) -> OptionChain:
    now_ns = CLOCK.now_ns()
    made = OptionChain(
        underlying="SPY",
        underlying_price=100.0,
        contracts=tuple(
            contract(provider, strike, kind, **market)
            for strike in strikes
            for kind in ContractType
        ),
        received_ns=now_ns,
        provider=provider,
        listed=listed,
    )
    return judge_chain(made, now_ns=now_ns, market_open=True)


def poor_chain(provider: str = "massive") -> OptionChain:
    return chain(provider, age_s=60)


def answering(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A reply made at the moment of the answer."""
    return lambda _about: make()


def quotes(provider: str, **by_symbol: Any) -> Callable[[tuple[str, ...]], Rows[Quote]]:
    """A reply with a quote for each symbol asked for, but for those with an error's code."""

    def reply(symbols: tuple[str, ...]) -> Rows[Quote]:
        rows = [
            quote(provider, one, **by_symbol.get(one, {}))
            for one in symbols
            if not isinstance(by_symbol.get(one), str)
        ]
        faults = [
            SymbolFault(symbol=one, error=by_symbol[one])
            for one in symbols
            if isinstance(by_symbol.get(one), str)
        ]
        return Rows(rows, kind=Quote, errors=faults)

    return reply


def _always(_now_ns: int) -> bool:
    return True


class Duo:
    """Both vendors and the hybrids made of them, open."""

    def __init__(self, **policy: Any) -> None:
        self.massive = Scripted("massive")
        self.tradier = Scripted("tradier")
        self.massive.chain.reply = answering(lambda: chain("massive"))
        self.tradier.chain.reply = answering(lambda: chain("tradier"))
        self.massive.quotes.reply = quotes("massive")
        self.tradier.quotes.reply = quotes("tradier")
        settings = HybridPolicy(**policy)
        always: dict[str, Any] = {"clock": CLOCK, "policy": settings, "is_open": _always}
        self.options = HybridOptionsProvider(self.massive, self.tradier, **always)
        self.broker = HybridBrokerProvider(self.massive, self.tradier, **always)
        self.indices = HybridIndicesProvider(self.massive, None, **always)
        self._all = DataProviders(self.options, self.indices, self.broker)
        self._open = opened(self._all)

    async def __aenter__(self) -> Self:
        await self._open.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._open.__aexit__(*error)

    def of(self, provider: str) -> ProviderHealth:
        return next(one for one in self.options.health() if one.provider == provider)

    def fallbacks(self) -> Mapping[Why, int]:
        return self.options.statistics().fallback.fallbacks


# provider selection: 8 tests (R268)


@leaping
async def test_selection_the_primary_answers_when_it_can() -> None:
    """R218, R268."""
    async with Duo() as duo:
        found = await duo.options.get_option_chain("spy")

    assert found.provider == "massive"
    assert found.quality is not None
    assert found.quality.fallback_reason is None
    assert duo.tradier.chain.asked == []
    assert duo.massive.chain.asked[0][1] == ("SPY", ChainQuery())


@leaping
async def test_selection_falls_back_when_the_primary_fails() -> None:
    """R219, R220, R268: marked, in our words, and counted."""
    async with Duo() as duo:
        duo.massive.chain.reply = DOWN

        found = await duo.options.get_option_chain("SPY")

        assert found.provider == "tradier"
        assert found.quality is not None
        assert found.quality.fallback_reason == "massive is down"
        assert "fallback" in found.quality.flags(CLOCK.now_ns()).warnings
        assert all(one.quality and one.quality.fallback_reason for one in found.contracts)
        assert duo.fallbacks() == {Why.DOWN: 1}
        assert duo.of("massive").fallbacks == 1


@leaping
async def test_selection_falls_back_when_the_primary_is_poor() -> None:
    """R219, R268: confidence below 40, read at the moment of the answer."""
    async with Duo() as duo:
        duo.massive.chain.reply = answering(poor_chain)

        found = await duo.options.get_option_chain("SPY")

        assert found.provider == "tradier"
        assert found.quality is not None
        assert found.quality.fallback_reason == ("massive answered poorly (confidence 0: too_old)")
        assert duo.fallbacks() == {Why.POOR: 1}


@leaping
async def test_selection_falls_back_when_the_primary_is_empty_without_reason() -> None:
    """C22, W-60, R268."""
    async with Duo() as duo:
        duo.massive.chain.reply = answering(lambda: chain("massive", strikes=(), listed=0))

        found = await duo.options.get_option_chain("SPY")

        assert found.provider == "tradier"
        assert found.quality is not None
        assert found.quality.fallback_reason == "massive answered with nothing"
        assert duo.fallbacks() == {Why.EMPTY: 1}


@leaping
async def test_selection_what_a_filter_emptied_is_an_answer() -> None:
    """W-60, R268."""
    async with Duo() as duo:
        duo.massive.chain.reply = answering(lambda: chain("massive", strikes=(), listed=500))

        found = await duo.options.get_option_chain("SPY", ChainQuery(min_strike=9_999))

        assert (found.provider, found.contracts) == ("massive", ())
        assert duo.tradier.chain.asked == []


@leaping
async def test_selection_falls_back_in_time_when_the_primary_hangs() -> None:
    """R219, R268: a marked answer within 5 s, though the primary says nothing at all."""
    async with Duo() as duo:
        duo.massive.chain.delay_s = MUTE
        duo.tradier.chain.delay_s = 1.0

        found = await duo.options.get_option_chain("SPY", ChainQuery(around=10))

        assert found.quality is not None
        assert found.quality.fallback_reason == "massive did not answer in time"
        assert elapsed() == pytest.approx(4.0)
        assert duo.massive.chain.cancelled == 1


@leaping
async def test_selection_waits_longer_for_a_whole_chain_which_has_many_pages() -> None:
    """R218: 40 pages take anybody more than 3 s; that is no reason to ask another."""
    async with Duo() as duo:
        duo.massive.chain.delay_s = 6.0

        whole = await duo.options.get_option_chain("SPY")
        few = await duo.options.get_option_chain("SPY", ChainQuery(max_expirations=2))

        assert (whole.provider, few.provider) == ("massive", "tradier")


@leaping
async def test_selection_not_found_is_an_answer_and_nobody_else_is_asked() -> None:
    """W-59, R268."""
    async with Duo() as duo:
        duo.massive.contract.reply = ContractNotFound("no such contract", provider="massive")

        for _ in range(5):
            with pytest.raises(ContractNotFound):
                await duo.options.get_option_contract("SPY", 100, EXPIRATION, CALL)

        assert duo.tradier.contract.asked == []
        assert duo.of("massive").healthy
        assert duo.of("massive").failures == 0


@leaping
async def test_selection_both_failing_names_every_cause() -> None:
    """R221, R268."""
    async with Duo() as duo:
        duo.massive.chain.reply = DOWN
        duo.tradier.chain.reply = UpstreamThrottled("slow down", retry_after_s=7)

        with pytest.raises(AllProvidersFailed) as caught:
            await duo.options.get_option_chain("SPY")

    error = caught.value
    assert str(error) == "nobody answered: massive is down; tradier asks us to wait"
    assert [type(cause) for cause in error.causes] == [MassiveApiError, TradierApiError]
    assert error.retry_after_s == 7
    described = error.as_dict()
    assert described["code"] == "ALL_PROVIDERS_FAILED"
    assert [one["provider"] for one in described["causes"]] == ["massive", "tradier"]


# health: 4 tests (R268)


@leaping
async def test_health_tracks_what_goes_well() -> None:
    """R223, R226, R268: the response time within 10 %."""
    async with Duo() as duo:
        duo.massive.chain.delay_s = 0.12

        await duo.options.get_option_chain("SPY")
        health = duo.of("massive")

    assert (health.healthy, health.status, health.enabled) == (True, "ok", True)
    assert (health.requests, health.failures, health.consecutive_errors) == (1, 0, 0)
    assert health.response_time_s == pytest.approx(0.12, rel=0.1)
    assert health.mean_response_time_s == pytest.approx(0.12, rel=0.1)
    assert health.last_success_ns == NOON_NS + round(0.12 * S)
    assert health.last_failure_ns is None


@leaping
async def test_health_tracks_errors_and_how_long_they_took() -> None:
    """R223, R226, R268."""
    async with Duo() as duo:
        duo.massive.chain.reply = DOWN
        duo.massive.chain.delay_s = 0.5

        await duo.options.get_option_chain("SPY")
        health = duo.of("massive")

        assert (health.healthy, health.consecutive_errors, health.failures) == (True, 1, 1)
        assert health.response_time_s == pytest.approx(0.5)
        assert health.last_failure_ns is not None
        assert duo.of("tradier").requests == 1


@leaping
async def test_health_three_failures_in_a_row_are_unhealthy_and_end_the_asking() -> None:
    """R222, W-58, R268."""
    async with Duo() as duo:
        duo.massive.chain.delay_s = MUTE
        for n in range(3):
            assert duo.of("massive").healthy
            await duo.options.get_option_chain("SPY", ChainQuery(min_strike=n))
        health = duo.of("massive")
        assert (health.healthy, health.status, health.consecutive_errors) == (False, "open", 3)
        before = elapsed()

        found = await duo.options.get_option_chain("QQQ")

        assert elapsed() == before, "nobody waits for a dead primary"
        assert len(duo.massive.chain.asked) == 3
        assert found.quality is not None
        assert found.quality.fallback_reason == f"massive {WORDS[Why.OPEN]}"
        assert duo.fallbacks()[Why.OPEN] == 1


@leaping
async def test_health_recovers_by_a_probe_that_nobody_waits_for() -> None:
    """R224, R268: every 30 s, one."""
    async with Duo() as duo:
        duo.massive.chain.reply = DOWN
        for n in range(3):
            await duo.options.get_option_chain("SPY", ChainQuery(min_strike=n))
        duo.massive.chain.delay_s = MUTE
        await asyncio.sleep(30)
        before = elapsed()

        found = await duo.options.get_option_chain("SPY")

        assert (found.provider, elapsed()) == ("tradier", before)
        assert duo.of("massive").status == "probing"
        await asyncio.sleep(29)
        assert duo.of("massive").status == "open", "the probe failed"
        assert len(duo.massive.chain.asked) == 4

        duo.massive.chain.delay_s, duo.massive.chain.reply = 0, answering(chain)
        await asyncio.sleep(20)
        await duo.options.get_option_chain("SPY")
        await asyncio.sleep(0.1)
        assert duo.of("massive").healthy
        assert duo.of("massive").consecutive_errors == 0


# subscriptions: 2 tests (R268), and what they do when the primary falls silent


@leaping
async def test_subscriptions_of_a_chain_are_the_primarys_and_survive_it() -> None:
    """R228, W-62, R268: live, then polled from the other, then live again; time never goes back."""
    async with Duo() as duo:
        shown: list[tuple[float, OptionChain]] = []
        handle = duo.options.subscribe_chain("SPY", lambda one: shown.append((elapsed(), one)))

        await _stream(duo.massive, chain, for_s=20)
        assert {one.provider for _, one in shown} == {"massive"}
        duo.massive.chain.reply = DOWN
        before = len(shown)
        await asyncio.sleep(5)
        first_at, first = shown[before]
        assert first.provider == "tradier"
        assert first_at - 20 <= 5, "within 5 s"
        assert first.quality is not None
        assert first.quality.fallback_reason == "massive is down"

        await asyncio.sleep(120)
        assert {one.provider for _, one in shown[before:]} == {"tradier"}
        duo.massive.chain.reply = answering(chain)
        await _stream(duo.massive, chain, for_s=150)
        assert shown[-1][1].provider == "massive"

        providers = [one.provider for _, one in shown]
        times = [max(row.quote.event_ns or 0 for row in one.contracts) for _, one in shown]
        assert _changes(providers) == 2
        assert times == sorted(times)
        handle.close()
        handle.close()
        assert duo.massive.closed == 1
        count = len(shown)
        await asyncio.sleep(60)
        assert len(shown) == count


@leaping
async def test_subscriptions_of_flow_there_are_none_and_asking_never_invents() -> None:
    """R228, W-63, R268: what only the primary knows is not available without it."""
    async with Duo() as duo:
        duo.massive.flow.reply = Flow(
            underlying="SPY", available=True, provider="massive", pressure=60.0, score=70.0
        )
        duo.tradier.flow.reply = Flow(
            underlying="SPY", available=False, provider="tradier", reason="tradier has no tape"
        )
        assert (await duo.options.get_flow("SPY")).score == 70.0

        duo.massive.flow.reply = DOWN
        flow = await duo.options.get_flow("SPY")

        assert (flow.available, flow.score, flow.pressure) == (False, None, None)
        assert flow.reason == "massive is down; tradier has no tape"
        duo.massive.flow.reply = Flow(underlying="SPY", available=True, provider="massive")
        assert (await duo.options.get_flow("SPY")).available, "no switch to who knows nothing"


async def _stream(vendor: Scripted, make: Callable[[], Any], *, for_s: int) -> None:
    for _ in range(for_s * 2):
        await asyncio.sleep(0.5)
        vendor.deliver(make())


def _changes(names: Sequence[str]) -> int:
    return sum(a != b for a, b in pairwise(names))


@leaping
async def test_a_quote_stream_that_turns_poor_is_replaced_within_five_seconds() -> None:
    """W-62: crossed quotes are not shown while there are better."""
    async with Duo() as duo:
        shown: list[Quote] = []
        duo.broker.subscribe_equity("SPY", shown.append)
        await _stream(duo.massive, quote, for_s=5)
        duo.massive.quotes.reply = quotes("massive", SPY={"bid": 101.0})
        before = len(shown)

        await _stream(duo.massive, lambda: quote(bid=101.0), for_s=5)

        assert [one.provider for one in shown[before:]] == ["tradier", "tradier"]
        assert not any(one.quality and one.quality.has_errors for one in shown)


@leaping
async def test_a_subscription_begins_with_whoever_answers() -> None:
    """A dead primary does not delay the first value beyond 5 s."""
    async with Duo() as duo:
        duo.massive.quotes.delay_s = MUTE
        shown: list[float] = []
        duo.broker.subscribe_equity("SPY", lambda _one: shown.append(elapsed()))

        await asyncio.sleep(5)

        assert shown[0] == pytest.approx(3.0)


@leaping
async def test_a_quiet_symbol_is_asked_about_less_and_less_and_stays_live() -> None:
    """C20: silence is verified."""
    async with Duo() as duo:
        still = quote()

        def settled() -> Rows[Quote]:
            judged = judge_quote(still, now_ns=CLOCK.now_ns(), market_open=False)
            return Rows([judged], kind=Quote)

        duo.massive.quotes.reply = answering(settled)
        shown: list[Quote] = []
        duo.broker.subscribe_equity("SPY", shown.append)

        await asyncio.sleep(120)

        assert len(shown) == 1
        assert len(duo.massive.quotes.asked) <= 12
        assert duo.tradier.quotes.asked == []
        assert duo.broker.statistics().polling == 0


@leaping
async def test_when_nobody_answers_a_subscription_keeps_asking() -> None:
    async with Duo() as duo:
        duo.massive.quotes.reply = duo.tradier.quotes.reply = DOWN
        shown: list[Quote] = []
        duo.broker.subscribe_equity("SPY", shown.append)
        await asyncio.sleep(60)
        assert shown == []

        duo.tradier.quotes.reply = quotes("tradier")
        await asyncio.sleep(40)

        assert shown[-1].provider == "tradier"
        assert duo.broker.statistics().polling == 1


@leaping
async def test_a_reader_that_raises_is_counted_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Duo() as duo:
        shown: list[Quote] = []

        def bad(_quote: Quote) -> None:
            raise ValueError("the reader's own")

        handle = duo.broker.subscribe_equity("SPY", bad)
        duo.broker.subscribe_equity("SPY", shown.append)
        await _stream(duo.massive, quote, for_s=2)

        assert duo.broker.statistics().reader_failures > 1
        assert len(shown) > 1
        assert len([one for one in caplog.records if one.msg == "provider.reader_failed"]) == 1
        handle.close()
        assert duo.broker.statistics().reader_failures > 1, "still counted"
        assert duo.broker.statistics().relays == 1


@leaping
async def test_leaving_the_block_ends_subscriptions_and_probes() -> None:
    async with Duo() as duo:
        duo.broker.subscribe_equity("SPY", lambda _one: None)
        duo.massive.chain.reply = DOWN
        await duo.options.get_option_chain("SPY")
        duo.massive.chain.delay_s = MUTE
        await asyncio.sleep(30)
        await duo.options.get_option_chain("SPY")
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) > 1

    assert duo.massive.closed == 1
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(NotConnected):
        await duo.options.get_option_chain("SPY")


@leaping
async def test_what_cannot_be_subscribed_says_so_at_once() -> None:
    massive = Scripted("closed")
    async with HybridBrokerProvider(massive, Scripted("tradier"), clock=CLOCK) as broker:
        with pytest.raises(NotConnected):
            broker.subscribe_equity("SPY", lambda _one: None)

        assert broker.statistics().relays == 0


# routing: no flapping


@leaping
async def test_routing_stays_with_the_secondary_for_a_minute_and_returns_when_proved() -> None:
    """R224: hysteresis both ways."""
    async with Duo() as duo:
        duo.massive.chain.next = [DOWN]
        given: list[str] = []
        for _ in range(90):
            given.append((await duo.options.get_option_chain("SPY")).provider)
            await asyncio.sleep(1)

        assert given == ["tradier"] * 61 + ["massive"] * 29
        assert len(duo.massive.chain.asked) == 1 + 2 + 29, "one failure, two probes"
        assert duo.fallbacks() == {Why.DOWN: 1, Why.HELD: 60}
        assert duo.options.statistics().fallback.switches == 2


@leaping
async def test_the_callers_mistake_is_the_callers() -> None:
    """W-52."""
    async with Duo() as duo:
        duo.massive.contract.reply = InvalidRequest("a strike has no more than three decimals")

        for _ in range(4):
            with pytest.raises(InvalidRequest):
                await duo.options.get_option_contract("SPY", 100, EXPIRATION, CALL)

        assert duo.tradier.contract.asked == []
        assert duo.of("massive").healthy


# several symbols


@leaping
async def test_each_symbol_is_decided_by_itself_and_asked_once() -> None:
    async with Duo() as duo:
        duo.massive.quotes.reply = quotes(
            "massive", QQQ={"age_s": 60}, IWM="not_found", DIA="upstream_forbidden"
        )

        found = await duo.broker.get_quotes(["SPY", "QQQ", "IWM", "DIA", "SPY"])

        assert [(one.symbol, one.provider) for one in found] == [
            ("SPY", "massive"),
            ("QQQ", "tradier"),
            ("DIA", "tradier"),
        ]
        assert found.errors["IWM"].error == "not_found"
        assert duo.tradier.quotes.asked[0][1] == ("QQQ", "DIA")
        assert found[1].quality is not None
        assert found[1].quality.fallback_reason is not None
        assert found[0].quality is not None
        assert found[0].quality.fallback_reason is None
        assert duo.broker.health()[0].failures == 0, "it answered well about most"

        await duo.broker.get_quotes(["SPY", "QQQ"])
        assert duo.massive.quotes.asked[-1][1] == ("SPY",)
        assert duo.tradier.quotes.asked[-1][1] == ("QQQ",)


@leaping
async def test_one_symbol_that_nobody_has_is_told_in_the_errors() -> None:
    async with Duo() as duo:
        duo.massive.quotes.reply = quotes("massive", QQQ="upstream_garbled")
        duo.tradier.quotes.reply = quotes("tradier", QQQ="upstream_garbled")

        found = await duo.broker.get_quotes(["SPY", "QQQ"])
        nothing = await duo.broker.get_quotes([])

        assert [one.symbol for one in found] == ["SPY"]
        assert found.errors["QQQ"].error == "ALL_PROVIDERS_FAILED"
        assert nothing == ()


@leaping
async def test_when_nobody_answers_about_any_symbol_it_is_raised() -> None:
    """R221."""
    async with Duo() as duo:
        duo.massive.quotes.reply = duo.tradier.quotes.reply = DOWN

        with pytest.raises(AllProvidersFailed):
            await duo.broker.get_quotes(["SPY", "QQQ"])


@leaping
async def test_symbols_that_do_not_exist_are_an_answer() -> None:
    """W-59."""
    async with Duo() as duo:
        duo.massive.quotes.reply = quotes("massive", NOPE="not_found")

        found = await duo.broker.get_quotes(["NOPE"])

        assert (tuple(found), found.errors["NOPE"].error) == ((), "not_found")
        assert duo.tradier.quotes.asked == []


@leaping
async def test_a_symbol_left_out_without_a_word_is_a_failure() -> None:
    async with Duo() as duo:
        duo.massive.quotes.reply = Rows[Quote](kind=Quote)

        (found,) = await duo.broker.get_quotes(["SPY"])

        assert found.provider == "tradier"


@leaping
async def test_one_string_is_not_a_list_of_symbols() -> None:
    async with Duo() as duo:
        with pytest.raises(InvalidRequest):
            await duo.broker.get_quotes("SPY")


# the other questions


@leaping
async def test_contracts_bars_and_expirations_fall_back_as_well() -> None:
    """R218: drop-in for all of it."""
    async with Duo() as duo:
        duo.massive.contract.reply = duo.massive.bars.reply = duo.massive.expirations.reply = DOWN
        duo.tradier.contract.reply = answering(lambda: contract("tradier"))
        bar = Bar(
            symbol="SPY", event_ns=1, end_ns=2, received_ns=3, provider="tradier",
            open=1.0, high=1.0, low=1.0, close=1.0,
        )  # fmt: skip
        judged = msgspec.structs.replace(bar, quality=quote("tradier").quality)
        duo.tradier.bars.reply = Rows([judged, bar], kind=Bar)
        duo.tradier.expirations.reply = (EXPIRATION,)

        one = await duo.options.get_option_contract("SPY", 100, EXPIRATION, CALL)
        bars = await duo.broker.get_bars("SPY", bar_length("1d"), EXPIRATION, EXPIRATION)
        dates = await duo.options.get_expirations("SPY")

        assert one.quality is not None
        assert one.quality.fallback_reason == "massive is down"
        assert bars[0].quality is not None
        assert bars[0].quality.fallback_reason == "massive is down"
        assert bars[1].quality is not None, "nothing was found in it, but this is to be said"
        assert bars[1].quality.fallback_reason == "massive is down"
        assert (bars[1].quality.event_ns, bars[1].quality.received_ns) == (2, 3)
        assert dates == (EXPIRATION,)


@leaping
async def test_an_empty_list_that_both_give_is_true_and_not_compared_again_at_once() -> None:
    """W-60."""
    async with Duo() as duo:
        duo.massive.expirations.reply = ()
        duo.tradier.expirations.reply = NotFound("no such symbol")

        for _ in range(3):
            assert await duo.options.get_expirations("SPY") == ()

        assert len(duo.tradier.expirations.asked) == 1
        assert duo.of("massive").failures == 0


@leaping
async def test_when_only_the_secondary_knows_that_it_is_not_there_that_is_the_answer() -> None:
    async with Duo() as duo:
        duo.massive.contract.reply = DOWN
        duo.tradier.contract.reply = ContractNotFound("none", provider="tradier")

        with pytest.raises(ContractNotFound):
            await duo.options.get_option_contract("SPY", 100, EXPIRATION, CALL)


# Greeks of another (W-61)


@leaping
async def test_a_chain_without_greeks_gets_the_others_marked() -> None:
    async with Duo() as duo:
        duo.massive.chain.reply = answering(lambda: chain(greeks=False))

        found = await duo.options.get_option_chain("SPY")

        one = found.contracts[0]
        assert found.provider == one.quote.provider == "massive"
        assert one.greeks is not None
        assert one.greeks.provider == "tradier"
        assert one.quality is not None
        assert "mixed_sources" in {reason.code for reason in one.quality.reasons}
        assert "greeks_stale" in one.quality.flags(CLOCK.now_ns()).warnings, (
            "they age by themselves"
        )
        assert duo.fallbacks() == {}
        assert found.quality is not None
        assert found.quality.fallback_reason is None


@pytest.mark.parametrize("trouble", ["down", "off", "none"])
def test_a_chain_stays_as_it_is_when_nobody_has_greeks(trouble: str) -> None:
    @leaping
    async def run() -> None:
        async with Duo(fill_greeks=trouble != "off") as duo:
            duo.massive.chain.reply = answering(lambda: chain(greeks=False))
            if trouble == "down":
                duo.tradier.chain.reply = DOWN
            if trouble == "none":
                duo.tradier.chain.reply = answering(lambda: chain("tradier", greeks=False))

            found = await duo.options.get_option_chain("SPY")

            assert found.provider == "massive"
            assert all(one.greeks is None for one in found.contracts)
            assert len(duo.tradier.chain.asked) == (trouble != "off")

    run()


# without a secondary, and indices (R22, R225)


@leaping
async def test_without_a_token_tradier_is_disabled_and_everything_passes_through() -> None:
    massive = Scripted("massive")
    massive.chain.reply = answering(poor_chain)
    massive.quotes.reply = DOWN
    providers = create_data_providers(VendorProviders(massive, massive, massive), None, clock=CLOCK)

    async with opened(providers, VendorProviders(massive, massive, massive)):
        assert massive.is_entered
        chain_found = await providers.options.get_option_chain("SPY")
        for _ in range(5):
            with pytest.raises(MassiveApiError):
                await providers.broker.get_quotes(["SPY"])
        taken: list[Quote] = []
        handle = providers.broker.subscribe_equity("SPY", taken.append)
        massive.deliver(quote())

        assert chain_found.provider == "massive"
        assert len(massive.quotes.asked) == 5
        assert len(taken) == 1
        handle.close()
        health = {one.provider: one for one in providers.options.health()}
        assert (health["tradier"].status, health["tradier"].enabled) == ("disabled", False)
        assert [one.provider for one in providers.indices.health()] == ["massive"]
        assert health["massive"] == massive.health()[0], "its own"
    assert not massive.is_entered


@leaping
async def test_without_a_secondary_a_chain_without_greeks_has_none() -> None:
    massive = Scripted("massive")
    massive.chain.reply = answering(lambda: chain(greeks=False))
    async with HybridOptionsProvider(massive, clock=CLOCK) as options:
        found = await options.get_option_chain("SPY")

    assert found.contracts[0].greeks is None


def snapshot(provider: str, symbol: str = "I:SPX", **market: Any) -> IndexSnapshot:
    value = quote(provider, symbol, **market)
    made = IndexSnapshot(symbol=symbol, quote=value)
    return judge_index(made, now_ns=CLOCK.now_ns(), market_open=True)


@leaping
async def test_indices_are_the_primarys_alone_and_fail_typed() -> None:
    """R225."""
    async with Duo() as duo:

        def snapshots(symbols: tuple[str, ...]) -> Rows[IndexSnapshot]:
            return Rows([snapshot("massive", one) for one in symbols], kind=IndexSnapshot)

        duo.massive.indices.reply = snapshots
        duo.massive.indicators.reply = {"rsi": None}
        found = await duo.indices.get_index_snapshots(["SPX", "vix"])
        indicators = await duo.indices.get_indicators("SPX", bar_length("1d"))
        duo.massive.indices.reply = DOWN

        with pytest.raises(MassiveApiError):
            await duo.indices.get_index_snapshots(["SPX"], timeframes=[bar_length("1d")])

        assert [one.symbol for one in found] == ["I:SPX", "I:VIX"]
        assert indicators == {"rsi": None}


@leaping
async def test_indices_may_be_given_another_by_choice() -> None:
    """R225: whoever wants it chooses it."""
    massive, tradier = Scripted("massive"), Scripted("tradier")
    massive.indices.reply = massive.indicators.reply = DOWN
    tradier.indices.reply = answering(lambda: Rows([snapshot("tradier")], kind=IndexSnapshot))
    tradier.indicators.reply = {"rsi": 50.0}
    providers = create_data_providers(
        VendorProviders(massive, massive, massive),
        VendorProviders(tradier, tradier, tradier),
        clock=CLOCK,
    )
    async with opened(providers) as (_options, indices, _broker):
        (found,) = await indices.get_index_snapshots(["SPX"])
        shown: list[IndexSnapshot] = []
        indices.subscribe_index("SPX", shown.append)
        await asyncio.sleep(1)

        assert found.quality is not None
        assert found.quality.fallback_reason == "massive is down"
        assert [one.quote.provider for one in shown] == ["tradier"]
        assert await indices.get_indicators("SPX", bar_length("1d")) == {"rsi": 50.0}
        assert [one.provider for one in indices.health()] == ["massive", "tradier"]


@leaping
async def test_an_error_in_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(OnetapeError, match="the block's own"):
        async with Duo():
            raise OnetapeError("the block's own")
