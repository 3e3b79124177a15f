"""Typed questions against the simulated vendor, over real sockets and with its faults."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from onetape import calendar
from onetape.chain_query import ChainQuery
from onetape.clock import SystemClock
from onetape.errors import (
    ContractNotFound,
    InvalidRequest,
    InvalidSymbol,
    NotFound,
    Throttled,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGarbled,
)
from onetape.massive.asker import VendorAsker
from onetape.massive.questions import MassiveQuestions, Params, chain_params, normalized
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import query_of
from onetape.model import ContractType, OptionChain
from onetape.provenance import Source
from onetape.simulator.app import Simulator
from onetape.simulator.faults import Answer, CutBody, RestRule, WrongValues
from onetape.testing import ManualClock
from onetape.timeframes import bar_length

NEAR = ChainQuery(min_strike=655, max_strike=665)
SECOND = 1_000_000_000


class Recorder:
    """An asker that notes what is asked."""

    def __init__(self, asker: VendorAsker) -> None:
        self.paths: list[str] = []
        self.params: list[dict[str, str]] = []
        self._asker = asker

    def _note(self, path: str, params: Params | None) -> None:
        self.paths.append(path)
        self.params.append(dict(parse_qsl(query_of(params or {}))))

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        self._note(path, params)
        return await self._asker.get(path, params)

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        self._note(path, params)
        async with aclosing(self._asker.pages(path, params, max_pages=max_pages)) as pages:
            async for page in pages:
                yield page


@pytest.fixture
def recorder(asker: VendorAsker) -> Recorder:
    return Recorder(asker)


@pytest.fixture
def ask(recorder: Recorder) -> MassiveQuestions:
    return MassiveQuestions(recorder, SystemClock())


def page(body: bytes, received_ns: int = 1) -> RestResponse:
    return RestResponse(
        status=200,
        body=body,
        content_type="application/json",
        request_id=None,
        retry_after_s=None,
        received_ns=received_ns,
        attempts=1,
    )


class Script:
    """An asker that answers with what it is given, in order."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._answers = list(answers)

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        self.asked.append((path, dict(parse_qsl(query_of(params or {})))))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return page(answer)

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        assert max_pages is None
        while self._answers:
            yield await self.get(path, params)


def scripted(*answers: bytes | Exception) -> MassiveQuestions:
    return MassiveQuestions(Script(*answers), ManualClock())


# ---- the market ----


async def test_the_market_says_what_it_does(ask: MassiveQuestions) -> None:
    """R154."""
    status = await ask.market_status()

    assert (status.session, status.is_open, status.simulated) == ("open", True, True)


async def test_a_years_holidays_are_the_past_ones_and_the_vendors(ask: MassiveQuestions) -> None:
    """R155."""
    year = calendar.new_york_date(SystemClock().now_ns()).year
    now = await ask.market_holidays(year)
    past = await ask.market_holidays(2024)

    known = calendar.upcoming_holidays(date(year, 1, 1), days=364)
    assert [one.date for one in now] == [one.date for one in known]
    assert {one.date.year for one in now} == {year}
    assert date(2024, 12, 25) in {one.date for one in past}
    for unknown in (0, 1950, year + 20):
        with pytest.raises(InvalidRequest, match=str(unknown)):
            await ask.market_holidays(unknown)


# ---- quotes and indices ----


async def test_quotes_come_in_the_order_asked_for_each_once(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """R156, R157."""
    rows = await ask.quotes(["SPY", "spx", "O:SPY261218C00650000", "NOPE", "I:SPX"])

    assert [row.symbol for row in rows] == ["SPY", "I:SPX", "O:SPY261218C00650000"]
    assert {name: fault.error for name, fault in rows.errors.items()} == {"NOPE": "not_found"}
    assert {(row.provider, row.source, row.simulated) for row in rows} == {
        ("massive", Source.REST, True)
    }
    assert rows[0].bid is not None
    assert recorder.paths == ["/v3/snapshot"]
    assert recorder.params[0]["ticker.any_of"] == "SPY,I:SPX,O:SPY261218C00650000,NOPE"


async def test_an_answer_that_says_nothing_of_any_symbol_is_no_answer() -> None:
    """W-60: of a symbol that there is not the vendor says so."""
    with pytest.raises(UpstreamGarbled):
        await scripted(b'{"status": "OK", "results": []}').quotes(["SPY"], strictly=True)


async def test_one_string_is_not_a_list_of_symbols(ask: MassiveQuestions) -> None:
    with pytest.raises(InvalidRequest):
        await ask.quotes("SPY")
    with pytest.raises(InvalidSymbol):
        normalized(["SPY", "not a symbol"])


async def test_a_batch_that_fails_is_asked_one_by_one(
    ask: MassiveQuestions, recorder: Recorder, simulator: Simulator
) -> None:
    """R157, W-20."""
    simulator.inject(RestRule(action=Answer(status=500), path="/v3/snapshot", count=1))

    rows = await ask.quotes(["SPY", "NOPE", "QQQ", "I:VIX"])

    assert [row.symbol for row in rows] == ["SPY", "QQQ", "I:VIX"]
    assert set(rows.errors) == {"NOPE"}
    assert len(recorder.paths) == 5


async def test_two_that_fail_alike_speak_for_all(
    ask: MassiveQuestions, recorder: Recorder, simulator: Simulator
) -> None:
    """W-20: no storm of requests on a vendor that is down."""
    simulator.inject(RestRule(action=Answer(status=503), path="/v3/snapshot"))
    symbols = [f"A{letter}" for letter in "BCDEFGHIJK"]

    rows = await ask.quotes(symbols)

    assert {fault.error for fault in rows.errors.values()} == {"upstream_down"}
    assert set(rows.errors) == set(symbols)
    assert len(recorder.paths) == 3
    with pytest.raises(UpstreamDown):
        await ask.quotes(symbols, strictly=True)


async def test_indices_are_asked_for_with_their_prefix(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """R160, R206."""
    wanted = ["SPX", "$VIX", "I:NOPE"]

    rows = await ask.indices(wanted)

    assert wanted == ["SPX", "$VIX", "I:NOPE"], "the caller's list is the caller's"
    assert [row.symbol for row in rows] == ["I:SPX", "I:VIX"]
    assert [row.quote.symbol for row in rows] == ["I:SPX", "I:VIX"]
    assert rows[0].quote.last is not None
    assert rows.errors["I:NOPE"].error == "not_found"
    assert recorder.params[0]["ticker.any_of"] == "I:SPX,I:VIX,I:NOPE"
    with pytest.raises(InvalidSymbol, match="SPY is not an index"):
        await ask.indices(["SPX", "SPY"])


async def test_what_the_plan_lacks_is_told_per_index() -> None:
    """R160."""
    body = b"""{"status": "OK", "results": [
        {"ticker": "I:SPX", "value": 6600.5, "last_updated": 1764000000000000000},
        {"ticker": "I:NDX", "error": "NOT_ENTITLED", "message": "Not entitled."}]}"""

    rows = await scripted(body).indices(["SPX", "NDX"])

    assert rows.by_symbol["I:SPX"].quote.last == 6600.5
    assert isinstance(rows.errors["I:NDX"].as_error(), UpstreamForbidden)


# ---- chains ----


async def test_a_chain_has_every_page_of_what_the_vendor_can_choose(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """R158, R205."""
    chain = await ask.option_chain("spy", NEAR)

    assert recorder.paths == ["/v3/snapshot/options/SPY"]
    assert recorder.params[0] == {
        "strike_price.gte": "655",
        "strike_price.lte": "665",
        "limit": "250",
    }
    assert len(chain.contracts) > 250, "more than a page"
    assert {row.contract.strike for row in chain.contracts} <= {*range(655, 666)}
    assert (chain.underlying, chain.provider, chain.simulated) == ("SPY", "massive", True)
    assert chain.underlying_price is not None
    assert chain.underlying_event_ns is not None
    assert (chain.partial, chain.dropped, chain.listed) == ((), {}, None)
    assert chain.contracts == ChainQuery().select(chain.contracts, underlying_price=None)
    near = [row for row in chain.contracts if row.implied_volatility]
    assert near[0].greeks is not None
    assert near[0].open_interest is not None


async def test_only_a_whole_chain_says_how_many_are_listed(ask: MassiveQuestions) -> None:
    """W-60."""
    chain = await ask.option_chain("RUT", ChainQuery(first_expiration=date(2049, 1, 1)))
    assert (chain.contracts, chain.listed) == ((), None)

    chain = await scripted(b'{"status": "OK", "results": []}').option_chain("SPY", ChainQuery())
    assert (chain.contracts, chain.listed) == ((), 0)


def test_a_query_is_written_as_the_vendor_reads_it() -> None:
    query = ChainQuery(
        min_strike=1.5,
        last_expiration=date(2025, 12, 19),
        contract_type=ContractType.PUT,
        min_volume=3,
        around=2,
    )

    assert query_of(chain_params(query)) == (
        "contract_type=put&expiration_date.lte=2025-12-19&strike_price.gte=1.5"
    )


async def failed_later(ask: MassiveQuestions, simulator: Simulator, action: Any) -> OptionChain:
    simulator.inject(RestRule(action=action, path="/v3/snapshot/options/*", pages="next"))
    return await ask.option_chain("SPY", NEAR)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Answer(status=500), "upstream_down"),
        (Answer(status=429), "upstream_throttled"),
        (CutBody(how="json"), "upstream_garbled"),
    ],
)
async def test_a_chain_whose_later_page_fails_says_what_is_missing(
    ask: MassiveQuestions, simulator: Simulator, action: Any, code: str
) -> None:
    chain = await failed_later(ask, simulator, action)

    assert len(chain.contracts) == 250
    assert chain.partial == (f"what follows page 1: {code}",)


async def test_a_later_page_that_cannot_be_read_leaves_what_came_before() -> None:
    first = b"""{"status": "OK", "results": [{"details": {"contract_type": "call",
        "expiration_date": "2025-12-19", "strike_price": 650, "ticker": "O:SPY251219C00650000"}}]}"""

    garbled = await scripted(first, b'{"results": 5}').option_chain("SPY", ChainQuery())
    throttled = await scripted(first, Throttled("wait")).option_chain("SPY", ChainQuery())

    assert len(garbled.contracts) == len(throttled.contracts) == 1
    assert garbled.partial == ("what follows page 1: upstream_garbled",)
    assert throttled.partial == ("what follows page 1: throttled",)
    assert garbled.listed is None, "it was not read to the end"


@pytest.mark.parametrize("error", [UpstreamDown("gone"), Throttled("wait"), NotFound("none")])
async def test_a_chain_whose_first_page_fails_is_none(error: Exception) -> None:
    with pytest.raises(type(error)):
        await scripted(error).option_chain("SPY", ChainQuery())


async def test_rows_that_cannot_be_read_are_counted(
    ask: MassiveQuestions, simulator: Simulator
) -> None:
    wrong = WrongValues(fields=("strike_price",), times=-1)
    simulator.inject(RestRule(action=wrong, path="/v3/snapshot/options/*", count=1))

    chain = await ask.option_chain("SPY", NEAR)

    assert chain.dropped == {"upstream_garbled": 250}
    assert chain.contracts


@pytest.mark.parametrize("symbol", ["O:SPY251219C00650000", "not a symbol"])
async def test_a_chain_is_of_a_stock_or_an_index(ask: MassiveQuestions, symbol: str) -> None:
    with pytest.raises(InvalidSymbol):
        await ask.option_chain(symbol, ChainQuery())


# ---- contracts ----


async def test_one_contract_is_its_terms_or_its_market(ask: MassiveQuestions) -> None:
    """R159."""
    known = (await ask.option_chain("SPX", ChainQuery(min_strike=6600, max_strike=6600))).contracts
    name = known[5].symbol

    terms = await ask.option_contract(name.removeprefix("O:"))
    snapshot = await ask.option_snapshot("SPX", name)
    rows = await ask.option_snapshots([name, "O:SPY261218C00650001", name])

    assert terms == snapshot.contract == rows[0].contract == known[5].contract
    assert snapshot.contract.underlying == "I:SPX"
    assert snapshot.open_interest == rows[0].open_interest is not None
    assert rows[0].greeks is not None
    assert (len(rows), rows.errors["O:SPY261218C00650001"].error) == (1, "not_found")


async def test_a_contract_that_is_not_listed_is_not_found(ask: MassiveQuestions) -> None:
    """W-59."""
    with pytest.raises(ContractNotFound) as terms:
        await ask.option_contract("O:SPY261218C00650001")
    with pytest.raises(ContractNotFound):
        await ask.option_snapshot("SPY", "O:SPY261218C00650001")

    assert isinstance(terms.value.causes[0], NotFound)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"status": "OK", "results": []}', ContractNotFound),
        (
            b'{"status": "OK", "results": [{"ticker": "O:SPY251219C00650000", '
            b'"error": "NOT_ENTITLED", "message": "Not entitled."}]}',
            UpstreamForbidden,
        ),
    ],
)
async def test_a_contract_without_a_row_is_explained(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await scripted(body).option_snapshot("SPY", "O:SPY251219C00650000")


async def test_a_reference_without_a_row_is_no_contract() -> None:
    with pytest.raises(ContractNotFound):
        await scripted(b'{"status": "OK", "results": []}').option_contract("O:SPY251219C00650000")


@pytest.mark.parametrize("symbol", ["SPY", "I:SPX"])
async def test_what_is_no_option_is_no_contract(ask: MassiveQuestions, symbol: str) -> None:
    with pytest.raises(InvalidSymbol):
        await ask.option_contract(symbol)


async def test_expirations_are_those_of_every_root_from_today_on(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """Of an index the vendor's reference has the bare name."""
    found = await ask.expirations("RUT")
    today = calendar.new_york_date(SystemClock().now_ns())

    assert recorder.params[0]["underlying_ticker"] == "RUT"
    assert recorder.params[0]["expiration_date.gte"] == today.isoformat()
    assert list(found.dates) == sorted(set(found.dates))
    assert found.dates[0] >= today
    assert len(found.dates) > 20, "monthly, weekly and daily"
    assert found.contracts > 1000, "more than a page"
    assert found.simulated


async def test_what_is_listed_can_be_asked_without_a_market(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """W-60."""
    assert await ask.is_listed("SPX", ChainQuery(min_strike=6600, max_strike=6600))
    assert not await ask.is_listed("SPX", ChainQuery(min_strike=90_000))
    assert not await ask.is_listed("ZZZZ", ChainQuery())
    assert recorder.params[0]["underlying_ticker"] == "SPX"


# ---- bars, indicators ----


async def test_a_range_of_bars_includes_both_its_ends(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """R161, R162, W-21: multiplier and timespan are two parts of the path."""
    today = calendar.new_york_date(SystemClock().now_ns())
    last = calendar.previous_session(today)
    first = calendar.previous_session(last)

    rows = await ask.bars("SPY", bar_length("30m"), first, last)

    assert recorder.paths == [f"/v2/aggs/ticker/SPY/range/30/minute/{first}/{last}"]
    days = [calendar.new_york_date(row.event_ns) for row in rows]
    assert (days[0], days[-1]) == (first, last)
    assert [row.event_ns for row in rows] == sorted({row.event_ns for row in rows})
    assert all(row.end_ns - row.event_ns == 1800 * SECOND for row in rows)


async def test_instants_are_milliseconds_in_the_path(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    now_ns = SystemClock().now_ns() // SECOND * SECOND
    await ask.bars("I:SPX", bar_length("1m"), now_ns - 600 * SECOND, now_ns)

    start, end = recorder.paths[0].split("/")[-2:]
    assert (int(start), int(end)) == ((now_ns - 600 * SECOND) // 10**6, now_ns // 10**6)


@pytest.mark.parametrize("length", ["1m", "5m", "1h"])
async def test_a_look_back_is_the_latest_bars_oldest_first(
    ask: MassiveQuestions, length: str
) -> None:
    """R161; the original gave the oldest of its range."""
    rows = await ask.last_bars("I:SPX", bar_length(length), 20)
    now_ns = SystemClock().now_ns()

    assert len(rows) == 20
    assert [row.event_ns for row in rows] == sorted({row.event_ns for row in rows})
    assert rows[-1].end_ns > now_ns - 2 * bar_length(length).nominal_s * SECOND


async def test_a_look_back_asks_for_no_more_than_it_needs(
    ask: MassiveQuestions, recorder: Recorder
) -> None:
    """The vendor's limit counts minutes, and the oldest bar of a page may be cut."""
    await ask.last_bars("SPY", bar_length("5m"), 20)

    assert recorder.params[0]["limit"] == str(21 * 5)
    assert recorder.params[0]["sort"] == "desc"


async def test_a_look_back_of_quiet_days_goes_on_to_the_next_page() -> None:
    def bars(*days: int) -> bytes:
        row = b'{"o": 1, "h": 1, "l": 1, "c": 1, "t": %d}'
        return b'{"status": "OK", "results": [%s]}' % b", ".join(row % (1e6 + day) for day in days)

    script = Script(bars(9, 8), bars(7, 6, 5), bars(4))
    rows = await MassiveQuestions(script, ManualClock()).last_bars("SPY", bar_length("1d"), 4)

    assert [row.event_ns // 10**6 - 10**6 for row in rows] == [6, 7, 8, 9]


@pytest.mark.parametrize("count", [0, -1, 50_001])
async def test_a_look_back_is_bounded(ask: MassiveQuestions, count: int) -> None:
    with pytest.raises(InvalidRequest):
        ask.last_bars("SPY", bar_length("1d"), count)


async def test_rsi_is_oldest_first(ask: MassiveQuestions, recorder: Recorder) -> None:
    """R163."""
    params: Mapping[str, Any] = {"timespan": "minute", "window": 7, "limit": 5}

    rows = await ask.rsi("SPY", params)

    assert len(rows) == 5
    assert [row.event_ns for row in rows] == sorted(row.event_ns for row in rows)
    assert all(0 <= row.value <= 100 for row in rows)
    assert recorder.paths == ["/v1/indicators/rsi/SPY"]
    assert recorder.params == [{"timespan": "minute", "window": "7", "limit": "5"}]


# ---- trades, quotes over time ----


async def test_trades_are_walked_page_by_page_and_end(ask: MassiveQuestions) -> None:
    """R164."""
    now_ns = SystemClock().now_ns()
    start = now_ns - 3600 * SECOND

    newest = await ask.trades("SPY", start=start, newest_first=True, max_rows=30)
    oldest = await ask.trades("SPY", start=start, end=now_ns, max_rows=30)

    assert [row.event_ns for row in newest] == sorted(
        (row.event_ns for row in newest), reverse=True
    )
    assert [row.event_ns for row in oldest] == sorted(row.event_ns for row in oldest)
    assert all(row.event_ns >= start for row in (*newest, *oldest))
    assert len(newest) == len(oldest) == 30
    few = [row async for row in ask.trades("SPY", start=oldest[3].event_ns, max_rows=2)]
    assert few[0].event_ns == oldest[3].event_ns


async def test_quotes_over_time_are_those_of_the_range(ask: MassiveQuestions) -> None:
    now_ns = SystemClock().now_ns()

    rows = await ask.quote_history(
        "SPY", start=now_ns - 600 * SECOND, newest_first=True, max_rows=50
    )

    assert len(rows) == 50
    assert all(row.bid and row.ask and row.bid <= row.ask for row in rows)
    times = [row.event_ns or 0 for row in rows]
    assert times == sorted(times, reverse=True)


async def test_a_day_may_bound_the_trades(ask: MassiveQuestions, recorder: Recorder) -> None:
    day = calendar.new_york_date(SystemClock().now_ns()) - timedelta(days=1)

    await ask.trades("SPY", start=day, max_rows=1)

    assert recorder.params[0]["timestamp.gte"] == day.isoformat()


@pytest.mark.parametrize("method", ["trades", "quote_history"])
async def test_an_index_has_no_tape(ask: MassiveQuestions, method: str) -> None:
    with pytest.raises(InvalidSymbol, match="not traded"):
        getattr(ask, method)("SPX")


async def test_what_the_asker_raises_comes_out_of_every_question(
    ask: MassiveQuestions, simulator: Simulator
) -> None:
    simulator.inject(RestRule(action=Answer(status=403)))
    today = calendar.new_york_date(SystemClock().now_ns())

    for work in (
        ask.market_status(),
        ask.expirations("SPY"),
        ask.option_chain("SPY", ChainQuery()),
        ask.option_contract("O:SPY251219C00650000"),
        ask.bars("SPY", bar_length("1d"), today, today).collect(),
        ask.trades("SPY").collect(),
    ):
        with pytest.raises(UpstreamForbidden):
            await work


async def test_an_answer_that_is_none_is_garbled() -> None:
    with pytest.raises(UpstreamGarbled):
        await scripted(b"[1]").market_status()
    with pytest.raises(UpstreamError):
        await scripted(b"nonsense").expirations("SPY")
