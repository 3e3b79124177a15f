"""What is Massive's own about its providers; `providers/test_contract` has what all owe."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import pytest

from onetape.chain_query import ChainQuery
from onetape.errors import (
    ContractNotFound,
    MassiveApiError,
    NotConnected,
    NotFound,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
)
from onetape.massive.providers import (
    MassiveBrokerProvider,
    MassiveIndicesProvider,
    MassiveOptionsProvider,
)
from onetape.massive.questions import Params
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import query_of
from onetape.model import (
    Bar,
    ContractType,
    IndexSnapshot,
    OptionChain,
    Quote,
    Topic,
    Trade,
)
from onetape.providers.interfaces import Handle
from onetape.providers.vendor import ProviderPolicy
from onetape.testing import ManualClock, until
from onetape.timeframes import bar_length

P = TypeVar("P", bound=AbstractAsyncContextManager[Any])
Row = dict[str, Any]

NOW_NS = 1_764_003_600_000_000_000  # Monday 2025-11-24, noon in New York
TODAY = date(2025, 11, 24)
EXPIRATIONS = tuple(TODAY + timedelta(days=days) for days in (0, 1, 4, 11, 25))
SECOND = 1_000_000_000
M1, D1 = bar_length("1m"), bar_length("1d")


# ---- a vendor made of what it is told ----


def contract(day: date, strike: float, kind: str = "call", root: str = "SPY") -> Row:
    ticker = f"O:{root}{day:%y%m%d}{kind[0].upper()}{round(strike * 1000):08}"
    return {
        "contract_type": kind,
        "exercise_style": "american",
        "expiration_date": day.isoformat(),
        "shares_per_contract": 100,
        "strike_price": strike,
        "ticker": ticker,
    }


def option(terms: Row, *, bid: float = 1.0, ask: float = 1.1, at_ns: int = NOW_NS) -> Row:
    return {
        "ticker": terms["ticker"],
        "details": terms,
        "day": {"close": bid, "volume": 7},
        "greeks": {"delta": 0.5 if terms["contract_type"] == "call" else -0.5, "gamma": 0.01},
        "implied_volatility": 0.2,
        "open_interest": 50,
        "last_quote": {
            "bid": bid,
            "ask": ask,
            "bid_size": 1,
            "ask_size": 1,
            "last_updated": at_ns,
            "timeframe": "REAL-TIME",
        },
        "underlying_asset": {"ticker": "SPY", "price": 650.2, "last_updated": at_ns},
    }


LISTED = [
    contract(day, strike, kind)
    for day in EXPIRATIONS
    for strike in (640.0, 645.0, 650.0, 655.0)
    for kind in ("call", "put")
]


class Vendor:
    """Answers as the vendor does, of what it lists and quotes; `failures` go by a path's beginning."""

    def __init__(self, clock: ManualClock) -> None:
        self.asked: Counter[str] = Counter()
        self.params: list[dict[str, str]] = []
        self.listed: list[Row] = LISTED
        self.quoted: list[Row] = [option(terms) for terms in LISTED]
        self.bars: list[Row] = []
        self.snapshots: list[Row] = []
        self.failures: dict[str, Exception] = {}
        self.more_pages = False
        self._clock = clock

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        query = dict(parse_qsl(query_of(params or {})))
        self.asked[path] += 1
        self.params.append(query)
        for beginning, failure in self.failures.items():
            if path.startswith(beginning):
                raise failure
        return self._answer(self._rows(path, query))

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        assert max_pages is None
        yield await self.get(path, params)
        if self.more_pages:
            raise UpstreamDown("the second page")

    def _rows(self, path: str, query: Mapping[str, str]) -> list[Row]:
        if path == "/v3/reference/options/contracts":
            known = [one for one in self.listed if query["underlying_ticker"] in one["ticker"]]
            return [one for one in known if _admits(one, query)]
        if path.startswith("/v3/snapshot/options/"):
            return [one for one in self.quoted if _admits(one["details"], query)]
        if path.startswith("/v2/aggs/"):
            return self.bars
        wanted = query["ticker.any_of"].split(",")
        found = [one for one in [*self.snapshots, *self.quoted] if one["ticker"] in wanted]
        known = {one["ticker"] for one in found}
        return found + [
            {"ticker": one, "error": "NOT_FOUND", "message": "Ticker not found."}
            for one in wanted
            if one not in known
        ]

    def _answer(self, rows: list[Row]) -> RestResponse:
        return RestResponse(
            status=200,
            body=msgspec.json.encode({"status": "OK", "results": rows}),
            content_type="application/json",
            request_id=None,
            retry_after_s=None,
            received_ns=self._clock.now_ns(),
            attempts=1,
            simulated=True,
        )

    def count(self, beginning: str) -> int:
        return sum(count for path, count in self.asked.items() if path.startswith(beginning))


def _admits(terms: Row, query: Mapping[str, str]) -> bool:
    day, strike = terms["expiration_date"], terms["strike_price"]
    return (
        query.get("expiration_date.gte", "") <= day <= query.get("expiration_date.lte", "9")
        and float(query.get("strike_price.gte", 0)) <= strike
        and strike <= float(query.get("strike_price.lte", "inf"))
        and query.get("contract_type", terms["contract_type"]) == terms["contract_type"]
    )


Event = Quote | Trade | Bar


class Feed:
    """A feed that the test speaks through."""

    def __init__(self) -> None:
        self.topics: frozenset[Topic] = frozenset()
        self.take: Callable[[Sequence[Event]], None] = _nothing
        self.tell: Callable[[frozenset[Topic], bool], None] = _nothing
        self.closed = 0

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Event]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> Handle:
        self.topics, self.take, self.tell = topics, take, tell
        return self

    def close(self) -> None:
        self.closed += 1


def _nothing(*_: object) -> None:
    raise AssertionError("nothing is read")


class Stage:
    """A clock, a vendor and a feed."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ns=NOW_NS)
        self.vendor = Vendor(self.clock)
        self.feed = Feed()

    @asynccontextmanager
    async def plays(
        self, kind: Callable[..., P], policy: ProviderPolicy | None = None, **more: Any
    ) -> AsyncGenerator[P]:
        provider = kind(asker=self.vendor, clock=self.clock, feed=self.feed, policy=policy, **more)
        async with provider:
            yield provider


@pytest.fixture
def stage() -> Stage:
    return Stage()


def never(now_ns: int) -> bool:
    """The market is closed."""
    return now_ns < 0


def always(now_ns: int) -> bool:
    """The market is open."""
    return now_ns >= 0


# ---- chains ----


async def test_a_chain_is_kept_ten_seconds_and_selected_from_anew(stage: Stage) -> None:
    """R210, C11."""
    async with stage.plays(MassiveOptionsProvider) as options:
        whole = await options.get_option_chain("spy")
        few = await options.get_option_chain("SPY", ChainQuery(around=0))
        assert (len(whole.contracts), len(few.contracts), whole.listed) == (40, 10, 40)
        assert stage.vendor.count("/v3/snapshot") == 1

        stage.clock.advance(10)
        await options.get_option_chain("SPY")
        assert stage.vendor.count("/v3/snapshot") == 2


async def test_a_chain_is_kept_longer_while_the_market_is_closed(stage: Stage) -> None:
    async with stage.plays(MassiveOptionsProvider, is_open=never) as options:
        chain = await options.get_option_chain("SPY")
        stage.clock.advance(59)
        await options.get_option_chain("SPY")

    assert stage.vendor.count("/v3/snapshot") == 1
    assert chain.quality is not None
    assert not chain.quality.is_stale(NOW_NS + 3600 * SECOND)


async def test_the_time_of_life_of_every_kind_can_be_set(stage: Stage) -> None:
    """R210."""
    policy = ProviderPolicy(chain_s=2, expirations_s=3, snapshot_s=0)

    async with stage.plays(MassiveOptionsProvider, policy) as options:
        for _ in range(4):
            await options.get_option_chain("SPY")
            await options.get_expirations("SPY")
            await options.get_option_contract("SPY", 650, EXPIRATIONS[1], ContractType.CALL)
            stage.clock.advance(1)

    assert stage.vendor.asked == {
        "/v3/snapshot/options/SPY": 2,
        "/v3/reference/options/contracts": 2,
        "/v3/snapshot": 4,
    }


async def test_what_the_vendor_can_decide_is_asked_of_it(stage: Stage) -> None:
    """R205."""
    query = ChainQuery(min_strike=645, contract_type=ContractType.PUT, min_volume=1)

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY", query)

    assert len(chain.contracts) == 15
    assert stage.vendor.params == [
        {"strike_price.gte": "645", "contract_type": "put", "limit": "250"}
    ]


async def test_the_soonest_expirations_are_asked_for_by_their_dates(stage: Stage) -> None:
    query = ChainQuery(max_expirations=2, first_expiration=EXPIRATIONS[1], around=1)

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY", query)

    assert chain.expirations == EXPIRATIONS[1:3]
    assert stage.vendor.params[-1]["expiration_date.lte"] == EXPIRATIONS[2].isoformat()
    assert chain.quality is not None
    assert chain.quality.reasons == (), "what was left out is not missing"


@pytest.mark.parametrize(
    "query",
    [
        ChainQuery(max_expirations=1, min_volume=1),
        ChainQuery(max_expirations=1, min_strike=645),
        ChainQuery(max_expirations=9),
    ],
)
async def test_expirations_that_could_be_needed_are_not_left_out(
    stage: Stage, query: ChainQuery
) -> None:
    """A bound may empty the soonest one, and then the next counts."""
    async with stage.plays(MassiveOptionsProvider) as options:
        await options.get_option_chain("SPY", query)

    assert "expiration_date.lte" not in stage.vendor.params[-1]


async def test_without_the_reference_more_is_asked_for_than_is_needed(stage: Stage) -> None:
    stage.vendor.failures["/v3/reference"] = UpstreamDown("gone")

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY", ChainQuery(max_expirations=2))

    assert chain.expirations == EXPIRATIONS[:2]


async def test_a_chain_without_its_later_pages_says_so_and_is_not_kept(stage: Stage) -> None:
    stage.vendor.more_pages = True

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY")
        await options.get_option_chain("SPY")

    assert chain.partial == ("what follows page 1: upstream_down",)
    assert chain.quality is not None
    assert "chain_partial" in chain.quality.flags(NOW_NS).warnings
    assert stage.vendor.count("/v3/snapshot") == 2


async def test_bad_contracts_are_left_out_and_counted(stage: Stage) -> None:
    """W-54."""
    stage.vendor.quoted[3] = option(LISTED[3], bid=2.0, ask=1.0)

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY")

    assert (len(chain.contracts), chain.dropped) == (39, {"crossed": 1})
    assert chain.quality is not None
    assert chain.quality.confidence(NOW_NS) == 95


async def test_a_large_chain_is_judged_as_a_small_one(stage: Stage) -> None:
    stage.vendor.listed = [contract(EXPIRATIONS[1], 100.0 + at) for at in range(1001)]
    stage.vendor.quoted = [option(terms) for terms in stage.vendor.listed]

    async with stage.plays(MassiveOptionsProvider) as options:
        chain = await options.get_option_chain("SPY")

    assert len(chain.contracts) == 1001
    assert all(one.quality is not None for one in chain.contracts)


async def test_liquidity_is_judged(stage: Stage) -> None:
    stage.vendor.quoted = [{**option(LISTED[0], bid=0.5, ask=1.5), "open_interest": 0}]

    async with stage.plays(MassiveOptionsProvider) as options:
        [one] = (await options.get_option_chain("SPY")).contracts

    assert one.quality is not None
    assert set(one.quality.flags(NOW_NS).warnings) == {"spread_extreme", "no_open_interest"}


async def test_an_empty_chain_of_listed_contracts_is_a_failure(stage: Stage) -> None:
    """W-60, W-75."""
    stage.vendor.quoted = []

    async with stage.plays(MassiveOptionsProvider) as options:
        for query in (ChainQuery(), ChainQuery(first_expiration=EXPIRATIONS[2])):
            with pytest.raises(MassiveApiError) as caught:
                await options.get_option_chain("SPY", query)
            assert isinstance(caught.value.causes[0], UpstreamGarbled)


FOR_TODAY = ChainQuery(first_expiration=TODAY, last_expiration=TODAY)


@pytest.mark.parametrize(
    ("query", "is_open"),
    [(ChainQuery(min_strike=9000), always), (FOR_TODAY, never)],
    ids=["filtered", "over"],
)
async def test_an_empty_chain_that_is_truly_empty_says_what_is_listed(
    stage: Stage, query: ChainQuery, is_open: Callable[[int], bool]
) -> None:
    """W-60: a filter leaves nothing; or what expires today has no market any more."""
    stage.vendor.quoted = []

    async with stage.plays(MassiveOptionsProvider, is_open=is_open) as options:
        chain = await options.get_option_chain("SPY", query)

    assert (chain.contracts, chain.listed) == ((), 40)


async def test_what_expires_today_has_a_market_while_it_is_open(stage: Stage) -> None:
    """W-60: but an index's may have been settled in the morning."""
    stage.vendor.quoted = []

    async with stage.plays(MassiveOptionsProvider, is_open=always) as options:
        with pytest.raises(MassiveApiError, match="empty"):
            await options.get_option_chain("SPY", FOR_TODAY)
        stage.vendor.listed = [contract(day, 6600, root="SPX") for day in EXPIRATIONS]
        assert (await options.get_option_chain("I:SPX", FOR_TODAY)).contracts == ()


async def test_an_empty_chain_of_known_expirations_is_a_failure_whatever_else_is_empty(
    stage: Stage,
) -> None:
    """W-60: all of a vendor's answers are empty when it is ill."""
    async with stage.plays(MassiveOptionsProvider) as options:
        await options.get_expirations("SPY")
        stage.vendor.quoted = stage.vendor.listed = []

        with pytest.raises(MassiveApiError, match="it has expirations"):
            await options.get_option_chain("SPY")


async def test_what_is_listed_stays_unknown_when_the_vendor_does_not_say(stage: Stage) -> None:
    stage.vendor.failures["/v3/reference"] = UpstreamDown("gone")
    past = ChainQuery(last_expiration=TODAY - timedelta(days=1))

    async with stage.plays(MassiveOptionsProvider) as options:
        assert (await options.get_option_chain("SPY", past)).listed is None


# ---- contracts ----


async def test_of_an_indexs_roots_the_first_that_has_it_is_meant(stage: Stage) -> None:
    day = EXPIRATIONS[4]
    both = [contract(day, 6600, root=root) for root in ("SPX", "SPXW")]
    stage.vendor.quoted = [option(terms) for terms in both]

    async with stage.plays(MassiveOptionsProvider) as options:
        first = await options.get_option_contract("SPX", 6600, day, ContractType.CALL)
        stage.vendor.quoted = stage.vendor.quoted[:1]
        stage.clock.advance(5)
        only = await options.get_option_contract("SPX", 6600, day, ContractType.CALL)

    assert (first.contract.root, only.contract.root) == ("SPXW", "SPX")
    wanted = stage.vendor.params[0]["ticker.any_of"]
    assert wanted == "O:SPXW251219C06600000,O:SPX251219C06600000", "one request for both"


async def test_a_contract_is_judged(stage: Stage) -> None:
    stage.vendor.quoted = [option(LISTED[8], bid=2.0, ask=1.0)]

    async with stage.plays(MassiveOptionsProvider) as options:
        found = await options.get_option_contract("SPY", 640, EXPIRATIONS[1], ContractType.CALL)

    assert found.quality is not None
    assert found.quality.confidence(NOW_NS) == 0, "told, so that another provider may be asked"


async def test_a_contract_that_is_not_listed_is_not_found(stage: Stage) -> None:
    """W-59."""
    async with stage.plays(MassiveOptionsProvider) as options:
        with pytest.raises(ContractNotFound, match="O:SPY251125C00641000 is not listed"):
            await options.get_option_contract("SPY", 641, EXPIRATIONS[1], ContractType.CALL)
        assert options.health()[0].failures == 0


async def test_a_contract_of_which_a_root_failed_is_not_said_to_be_missing(stage: Stage) -> None:
    row = {"ticker": "O:SPX251219C06600000", "error": "NOT_ENTITLED", "message": "no"}
    stage.vendor.snapshots = [row]

    async with stage.plays(MassiveOptionsProvider) as options:
        with pytest.raises(MassiveApiError):
            await options.get_option_contract("SPX", 6600, EXPIRATIONS[4], ContractType.CALL)


# ---- flow ----


async def test_flow_looks_at_the_next_expirations_and_is_kept_a_minute(stage: Stage) -> None:
    """R212, W-63."""
    stage.vendor.failures["/v3/trades"] = UpstreamForbidden("plan")

    async with stage.plays(MassiveOptionsProvider) as options:
        flow = await options.get_flow("SPY")
        stage.clock.advance(59)
        await options.get_flow("SPY")

    assert (flow.available, flow.pressure, flow.score) == (False, None, None)
    assert flow.reason == "the plan does not have the prints of options"
    assert stage.vendor.count("/v3/trades") == 5
    chains = [one for one in stage.vendor.params if "expiration_date.lte" in one]
    assert [one["expiration_date.lte"] for one in chains] == [EXPIRATIONS[2].isoformat()]
    assert options.health()[0].healthy, "what the plan lacks is no outage"


# ---- indices ----


def value(name: str, points: float, at_ns: int = NOW_NS) -> Row:
    return {"ticker": name, "value": points, "last_updated": at_ns, "timeframe": "REAL-TIME"}


def bar(minutes_ago: int, close: float = 6600.0, **more: Any) -> Row:
    at_ms = NOW_NS // 10**6 - minutes_ago * 60_000
    return {"t": at_ms, "o": close, "h": close + 1, "l": close - 1, "c": close, **more}


async def test_values_are_kept_five_seconds_and_indicators_a_minute(stage: Stage) -> None:
    """R207, R210."""
    stage.vendor.snapshots = [value("I:SPX", 6600.0), value("I:VIX", 17.0)]
    stage.vendor.bars = [bar(ago) for ago in range(1, 40)]

    async with stage.plays(MassiveIndicesProvider) as indices:
        rows = await indices.get_index_snapshots(["SPX", "VIX"], timeframes=[M1, M1])
        for _ in range(11):
            stage.clock.advance(5)
            rows = await indices.get_index_snapshots(["SPX", "VIX"], timeframes=[M1, M1])
        stage.clock.advance(5)
        same = await indices.get_indicators("I:SPX", M1)

    assert [row.symbol for row in rows] == ["I:SPX", "I:VIX"]
    assert stage.vendor.count("/v3/snapshot/indices") == 12
    assert stage.vendor.count("/v2/aggs") == 3, "SPX and VIX, and SPX once more after a minute"
    assert rows[0].timeframes["1m"].indicators == same
    times = [one.event_ns for one in rows[0].timeframes["1m"].bars]
    assert times == sorted(times)


async def test_every_length_and_look_back_is_its_own(stage: Stage) -> None:
    """The original's key left both out."""
    stage.vendor.bars = [bar(ago) for ago in range(1, 40)]

    async with stage.plays(MassiveIndicesProvider) as indices:
        short = await indices.get_indicators("SPX", M1, lookback=10)
        long = await indices.get_indicators("SPX", M1, lookback=39)
        await indices.get_indicators("SPX", bar_length("5m"), lookback=39)

    assert (short["ema_20"], long["ema_20"]) == (None, 6600.0)
    assert stage.vendor.count("/v2/aggs") == 3


async def test_a_length_without_bars_costs_the_index_a_warning(stage: Stage) -> None:
    stage.vendor.snapshots = [value("I:SPX", 6600.0)]
    stage.vendor.failures["/v2/aggs"] = NotFound("no bars")

    async with stage.plays(MassiveIndicesProvider) as indices:
        [row] = await indices.get_index_snapshots(["SPX"], timeframes=[M1])
        stage.vendor.failures["/v2/aggs"] = UpstreamDown("gone")
        [again] = await indices.get_index_snapshots(["SPX"], timeframes=[M1])
        with pytest.raises(MassiveApiError):
            await indices.get_indicators("SPX", M1)

    for one in (row, again):
        assert one.quality is not None
        assert one.quality.flags(NOW_NS).warnings == ("bars_missing",)
        assert one.timeframes["1m"].bars == ()
        assert set(one.timeframes["1m"].indicators.values()) == {None}, "not made up (W-76)"


async def test_an_index_that_the_plan_lacks_is_told_beside_the_others(stage: Stage) -> None:
    """R160."""
    row = {"ticker": "I:NDX", "error": "NOT_ENTITLED", "message": "no"}
    stage.vendor.snapshots = [value("I:SPX", 6600.0), row]

    async with stage.plays(MassiveIndicesProvider) as indices:
        rows = await indices.get_index_snapshots(["SPX", "NDX"])
        assert rows.errors["I:NDX"].error == "upstream_forbidden"
        with pytest.raises(MassiveApiError):
            await indices.get_index_snapshots(["NDX"])


# ---- stocks ----


def stock(at_ns: int = NOW_NS, bid: float = 650.0) -> Row:
    quote = {"bid": bid, "ask": bid + 0.01, "last_updated": at_ns, "timeframe": "REAL-TIME"}
    trade = {"price": bid, "size": 10, "last_updated": at_ns, "timeframe": "REAL-TIME"}
    return {"ticker": "SPY", "last_quote": quote, "last_trade": trade, "session": {"close": bid}}


async def test_quotes_are_not_kept(stage: Stage) -> None:
    stage.vendor.snapshots = [stock()]

    async with stage.plays(MassiveBrokerProvider) as broker:
        await broker.get_quotes(["SPY"])
        [quote] = await broker.get_quotes(["SPY"])

    assert quote.quality is not None
    assert quote.quality.confidence(NOW_NS) == 100
    assert stage.vendor.count("/v3/snapshot") == 2


async def test_a_failure_tells_how_long_to_wait_and_what_beneath(stage: Stage) -> None:
    """R264."""
    cause = UpstreamThrottled("slow down", retry_after_s=7)
    stage.vendor.failures["/v3"] = cause

    async with stage.plays(MassiveBrokerProvider) as broker:
        with pytest.raises(MassiveApiError) as caught:
            await broker.get_quotes(["SPY", "QQQ"])

    assert (caught.value.retry_after_s, caught.value.causes) == (7, (cause,))
    assert stage.vendor.count("/v3") == 1


async def test_bars_that_cannot_be_true_are_left_out_and_told(stage: Stage) -> None:
    good = bar(3, v=10)
    stage.vendor.bars = [good, {**bar(2), "h": 1.0}, {**bar(1), "l": -1.0, "o": "x"}]

    async with stage.plays(MassiveBrokerProvider) as broker:
        bars = await broker.get_bars("SPY", M1, TODAY, TODAY)
        await broker.get_bars("SPY", M1, TODAY, TODAY)

    assert [one.event_ns for one in bars] == [good["t"] * 10**6]
    assert bars.errors["SPY"].error == "upstream_garbled"
    assert stage.vendor.count("/v2/aggs") == 1, "kept a minute"

    stage.vendor.bars = [good, {**bar(2), "h": 1.0}]
    async with stage.plays(MassiveBrokerProvider) as broker:
        bars = await broker.get_bars("SPY", M1, TODAY, TODAY)
    assert bars.errors["SPY"].message == "left out: 1 x range_inverted"


# ---- live ----


def live_quote(symbol: str, at_ns: int, bid: float | None = None, **more: Any) -> Quote:
    return Quote(
        symbol=symbol,
        event_ns=at_ns,
        received_ns=at_ns,
        provider="massive",
        bid=bid,
        ask=None if bid is None else bid + 0.1,
        **more,
    )


async def test_a_quote_changes_one_contract_of_a_subscribed_chain(stage: Stage) -> None:
    """R208."""
    told: list[OptionChain] = []
    name = LISTED[2]["ticker"]

    async with stage.plays(MassiveOptionsProvider) as options:
        handle = options.subscribe_chain("SPY", told.append, ChainQuery(max_expirations=1))
        await until(lambda: told)
        stage.feed.take([live_quote(name, NOW_NS + 5, 3.0)])
        stage.clock.advance(0.1)
        await until(lambda: len(told) > 1)
        handle.close()

    before, after = ({one.symbol: one for one in chain.contracts} for chain in told[:2])
    assert [key for key in before if before[key] != after[key]] == [name]
    assert (before[name].quote.bid, after[name].quote.bid) == (1.0, 3.0)
    assert stage.feed.topics == {
        "T.SPY",
        *(f"{channel}.{one}" for one in before for channel in "QT"),
    }
    assert stage.feed.closed == 1


async def test_a_subscribed_chain_is_asked_for_again_when_it_is_due(stage: Stage) -> None:
    told: list[OptionChain] = []
    policy = ProviderPolicy(chain_s=0.02, chain_poll_s=0.02, chain_pace_s=0)

    async with stage.plays(MassiveOptionsProvider, policy) as options:
        options.subscribe_chain("SPY", told.append)
        await until(lambda: told)
        stage.clock.advance(1)
        await until(lambda: stage.vendor.count("/v3/snapshot") >= 2)


async def test_no_more_contracts_are_streamed_than_the_policy_allows(stage: Stage) -> None:
    told: list[OptionChain] = []
    policy = ProviderPolicy(streamed_contracts=10)

    async with stage.plays(MassiveOptionsProvider, policy) as options:
        options.subscribe_chain("SPY", told.append)
        await until(lambda: told)

    assert len(told[0].contracts) == 40
    streamed = {topic[2:] for topic in stage.feed.topics if topic.startswith("Q.")}
    assert {int(one[-8:]) for one in streamed} == {650_000}
    assert len(streamed) == 10


async def test_a_subscribed_index_follows_its_values(stage: Stage) -> None:
    told: list[IndexSnapshot] = []
    stage.vendor.snapshots = [value("I:SPX", 6600.0)]

    async with stage.plays(MassiveIndicesProvider) as indices:
        indices.subscribe_index("SPX", told.append)
        await until(lambda: told)
        stage.feed.take([live_quote("I:SPX", NOW_NS + 5, last=6601.0)])
        await until(lambda: len(told) == 2)

    assert stage.feed.topics == {"V.I:SPX"}
    assert [one.quote.last for one in told] == [6600.0, 6601.0]


async def test_a_subscribed_stock_follows_its_quotes(stage: Stage) -> None:
    told: list[Quote] = []
    stage.vendor.snapshots = [stock()]

    async with stage.plays(MassiveBrokerProvider) as broker:
        broker.subscribe_equity("SPY", told.append)
        await until(lambda: told)
        stage.feed.take([live_quote("SPY", NOW_NS + 5, 651.0)])
        await until(lambda: len(told) == 2)

    assert stage.feed.topics == {"Q.SPY", "T.SPY"}
    assert [one.bid for one in told] == [650.0, 651.0]
    assert (broker.name, broker.health()[0].requests) == ("massive", 1)


async def test_a_subscription_to_what_is_not_there_waits_for_it(stage: Stage) -> None:
    told: list[Quote] = []

    async with stage.plays(MassiveBrokerProvider, ProviderPolicy(equity_poll_s=0.01)) as broker:
        broker.subscribe_equity("SPY", told.append)
        await until(lambda: stage.vendor.count("/v3/snapshot") == 1)
        assert told == []
        stage.vendor.snapshots = [stock()]
        await until(lambda: stage.clock.advance(0.01) or told)


# ---- a life ----


async def test_nothing_is_asked_before_the_block_or_after_it(stage: Stage) -> None:
    provider = MassiveOptionsProvider(asker=stage.vendor, clock=stage.clock)

    with pytest.raises(NotConnected):
        await provider.get_option_chain("SPY")
    async with provider:
        assert (await provider.get_option_chain("SPY")).contracts
    with pytest.raises(NotConnected):
        provider.subscribe_chain("SPY", lambda _: None)


async def test_bars_of_which_nothing_is_wrong_have_no_errors(stage: Stage) -> None:
    stage.vendor.bars = [bar(2, v=10), bar(1, v=10)]

    async with stage.plays(MassiveBrokerProvider) as broker:
        bars = await broker.get_bars("SPY", M1, TODAY, TODAY)

    assert (len(bars), bars.errors, bars.simulated) == (2, {}, True)


async def test_what_is_kept_can_be_forgotten_and_counted(stage: Stage) -> None:
    async with stage.plays(MassiveOptionsProvider) as options:
        await options.get_option_chain("SPY")
        assert options.statistics().cache.entries == 1
        assert options.forget("chain:SPY:*") == 1
        await options.get_option_chain("SPY")

    assert stage.vendor.count("/v3/snapshot") == 2
