"""What stands in for the parts that talk to a gateway: scripted, counted, and without a network."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import date
from typing import Any, Self

import msgspec
import pytest

from onetape.calendar import Holiday, HolidayStatus
from onetape.client import Parts
from onetape.client._endpoint import EndpointHealth, EndpointState, EndpointUp, Event, StreamNotice
from onetape.client._rest import GatewayStatistics, query_of
from onetape.client._tokens import TokenStatistics
from onetape.errors import NotFound, UpstreamForbidden
from onetape.market_answers import (
    BarsAnswer,
    ChainAnswer,
    HolidaysAnswer,
    IndicesAnswer,
    MarketStatusAnswer,
    QuotesAnswer,
)
from onetape.massive.rest import RestResponse, RestStatistics
from onetape.massive.wire_rest import Params
from onetape.model import (
    AssetClass,
    Bar,
    ContractType,
    IndexSnapshot,
    MarketStatus,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
    Topic,
)
from onetape.provenance import Quality, Source
from onetape.quality.quotes import judge_quotes
from onetape.rows import SymbolFault
from onetape.testing import ManualClock

Script = Mapping[str, Any] | msgspec.Struct | Exception | Callable[[Mapping[str, Any]], Any]


FAULTS = {"NOPE": NotFound.code, "I:DJI": UpstreamForbidden.code}
"""What the gateway has no quotes of."""


class Market:
    """What a gateway says of the market: judged, at the time of a clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def quotes(self, params: Mapping[str, Any]) -> QuotesAnswer:
        wanted = params["tickers"]
        rows = [self.quote(one) for one in wanted if one not in FAULTS]
        return QuotesAnswer(
            results=judge_quotes(rows, now_ns=self._clock.now_ns(), market_open=True),
            errors=self._faults(wanted),
            as_of_ns=self._clock.now_ns(),
            simulated=True,
        )

    def indices(self, params: Mapping[str, Any]) -> IndicesAnswer:
        quotes = self.quotes(params).results
        return IndicesAnswer(
            results=tuple(
                IndexSnapshot(symbol=one.symbol, quote=one, quality=one.quality) for one in quotes
            ),
            errors=self._faults(params["tickers"]),
            as_of_ns=self._clock.now_ns(),
            simulated=True,
        )

    def quote(self, symbol: str, **facts: Any) -> Quote:
        now_ns = self._clock.now_ns()
        known: dict[str, Any] = {"event_ns": now_ns, "provider": "massive", "last": 2.0}
        return Quote(symbol=symbol, source=Source.REST, received_ns=now_ns, **known | facts)

    def chain(self, *strikes: float, underlying: str = "I:SPX", **facts: Any) -> ChainAnswer:
        now_ns = self._clock.now_ns()
        known: dict[str, Any] = {"provider": "massive", "simulated": True}
        chain = OptionChain(
            underlying=underlying,
            underlying_price=6600.0,
            contracts=tuple(map(self._contract, strikes)),
            received_ns=now_ns,
            **known | facts,
        )
        return ChainAnswer(chain=chain, expirations=(), as_of_ns=now_ns, simulated=True)

    def bars(self, *starts_ns: int, **facts: Any) -> Callable[[Mapping[str, Any]], BarsAnswer]:
        """Answer with these of a minute each, as many and in the order as is asked for."""

        def answer(params: Mapping[str, Any]) -> BarsAnswer:
            starts = sorted(starts_ns, reverse=params["sort"] == "desc")[: params["limit"]]
            bars = tuple(self.bar(params["symbol"], at_ns) for at_ns in starts)
            has_more = len(starts_ns) > len(bars)
            known: dict[str, Any] = {"bars": bars, "count": len(bars), "has_more": has_more}
            return BarsAnswer(
                symbol=params["symbol"],
                timespan=params["timespan"],
                multiplier=params["multiplier"],
                start=0,
                end=0,
                adjusted=True,
                sort=params["sort"],
                as_of_ns=self._clock.now_ns(),
                simulated=True,
                **known | facts,
            )

        return answer

    def bar(self, symbol: str, start_ns: int, **facts: Any) -> Bar:
        known: dict[str, Any] = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0}
        return Bar(
            symbol=symbol,
            event_ns=start_ns,
            end_ns=start_ns + 60_000_000_000,
            received_ns=self._clock.now_ns(),
            provider="massive",
            source=Source.REST,
            **known | facts,
        )

    def quality(self, provider: str = "massive", **facts: Any) -> Quality:
        return Quality(
            provider=provider, source=Source.REST, received_ns=self._clock.now_ns(), **facts
        )

    def holidays(self, *days: date) -> HolidaysAnswer:
        return HolidaysAnswer(
            year=days[0].year,
            provider="massive",
            results=tuple(
                Holiday(date=day, name="Holiday", status=HolidayStatus.CLOSED) for day in days
            ),
            as_of_ns=self._clock.now_ns(),
        )

    def status(self) -> MarketStatusAnswer:
        now_ns = self._clock.now_ns()
        return MarketStatusAnswer(
            is_open=True,
            session="open",
            next_open=0,
            next_close=0,
            timestamp=now_ns // 1_000_000,
            status=MarketStatus(
                session="open", event_ns=now_ns, received_ns=now_ns, provider="massive"
            ),
        )

    def _contract(self, strike: float) -> OptionSnapshot:
        symbol = f"O:SPXW251219C{round(strike * 1000):08d}"
        terms = OptionContract(
            symbol=symbol,
            root="SPXW",
            underlying="I:SPX",
            expiration=date(2025, 12, 19),
            strike=strike,
            contract_type=ContractType.CALL,
        )
        return OptionSnapshot(contract=terms, quote=self.quote(symbol, bid=1.0, ask=1.1))

    def _faults(self, symbols: Iterable[str]) -> dict[str, SymbolFault]:
        return {
            one: SymbolFault(symbol=one, error=FAULTS[one], message="no")
            for one in symbols
            if one in FAULTS
        }


class FakeRest:
    """Answers by path: with a body, with what a function of the parameters returns, or an error."""

    def __init__(self, clock: ManualClock) -> None:
        self.answers: dict[str, Script] = {}
        self.asked: list[tuple[str, str]] = []
        self.hold: asyncio.Event | None = None  # nothing is answered before it is set
        self.failures = 0  # in a row, as health has it
        self.closed = False
        self._clock = clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> None:
        self.closed = True

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        self.asked.append((path, query_of(params or {})))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers[path]
        if callable(answer):
            answer = answer(params or {})
        if isinstance(answer, Exception):
            raise answer
        return RestResponse(
            status=200,
            body=msgspec.json.encode(answer),
            content_type="application/json",
            request_id="r1",
            retry_after_s=None,
            received_ns=self._clock.now_ns(),
            attempts=1,
            simulated=True,
        )

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        del max_pages
        yield await self.get(path, params)

    @property
    def paths(self) -> Counter[str]:
        return Counter(path for path, _ in self.asked)

    def statistics(self) -> GatewayStatistics:
        rest = RestStatistics(
            requests=len(self.asked),
            attempts=len(self.asked),
            throttled=0,
            failures=self.failures,
            in_flight=0,
            cooling_s=0.0,
            consecutive_failures=self.failures,
            last_success_ns=None,
            last_failure_ns=None,
            last_failure=None,
            latency_p50_s=None,
            latency_p95_s=None,
            breakers={},
            per_minute={},
        )
        return GatewayStatistics(healthy=self.failures < 3, refreshes=0, rest=rest)


class FakeTokens:
    """One token for ever."""

    def __init__(self) -> None:
        self.generation = 1
        self.refusal: Exception | None = None
        self.valid = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> None:
        pass

    async def ensure_token(self) -> str:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return self.current()

    async def refresh_token(self, *, generation: int | None = None) -> str:
        del generation
        return self.current()

    def current(self) -> str:
        return "token"

    async def run(self) -> None:
        await asyncio.Event().wait()

    def statistics(self) -> TokenStatistics:
        return TokenStatistics(self.valid, 300.0, self.generation, 1, 0, 0, None, 0.001)


def endpoint_health(asset: AssetClass, state: EndpointState) -> EndpointHealth:
    return EndpointHealth(
        asset=asset,
        state=state,
        authenticated=state is EndpointState.AUTHENTICATED,
        upstream_up=True,
        simulated=True,
        topics_wanted=0,
        topics_acked=0,
        topics_failed=0,
        last_message_ns=None,
        messages=0,
        messages_per_s=0.0,
        undecodable=0,
        unmodelled=0,
        reconnects=0,
        auth_failures=0,
        lag_s=None,
        since_ns=None,
    )


class FakeStreams:
    """Says what the test lets it say."""

    def __init__(self, assets: Iterable[AssetClass] = (AssetClass.INDICES,)) -> None:
        self.states = dict.fromkeys(assets, EndpointState.AUTHENTICATED)
        self.wants: list[frozenset[Topic]] = []
        self.renewals = 0
        self.silent = False  # it never says that it is up
        self.fault: asyncio.Future[None] | None = None
        self.running = 0

    def make(
        self,
        on_events: Callable[[AssetClass, list[Event]], None],
        on_state: Callable[[StreamNotice], None],
    ) -> Self:
        self.on_events, self.on_state = on_events, on_state
        return self

    def want(self, topics: frozenset[Topic]) -> None:
        self.wants.append(topics)

    def connect(self, assets: Iterable[AssetClass] | None = None) -> None:
        del assets
        if not self.silent:
            for asset in self.states:
                self.on_state(EndpointUp(asset=asset))

    def renew(self) -> None:
        self.renewals += 1

    async def run(self) -> None:
        self.running += 1
        self.fault = asyncio.get_running_loop().create_future()
        try:
            await self.fault
        finally:
            self.running -= 1

    def health(self) -> Mapping[AssetClass, EndpointHealth]:
        return {asset: endpoint_health(asset, state) for asset, state in self.states.items()}


class Bench:
    """All of the fakes, and the parts that are made of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.market = Market(self.clock)
        self.rest = FakeRest(self.clock)
        self.tokens = FakeTokens()
        self.streams = FakeStreams()

    @property
    def parts(self) -> Parts:
        return Parts(tokens=self.tokens, rest=self.rest, streams=self.streams.make)


@pytest.fixture
def bench() -> Bench:
    return Bench()
