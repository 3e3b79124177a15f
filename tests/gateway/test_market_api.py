"""The normalised routes of a whole gateway before both simulated vendors."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from onetape import market_json
from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    MassiveApiError,
    MaxRetriesExceeded,
    NotFound,
    OnetapeError,
    UpstreamForbidden,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.gateway.app import Gateway
from onetape.gateway.market_api import root_of, summaries, written
from onetape.gateway.operations import OPERATIONS, Access
from onetape.market_answers import (
    BarsAnswer,
    ChainAnswer,
    ContractsAnswer,
    HolidaysAnswer,
    IndicesAnswer,
    MarketStatusAnswer,
    QuotesAnswer,
)
from onetape.model import OptionChain
from onetape.simulator.app import Simulator
from onetape.simulator.faults import Answer, RestRule
from onetape.testing import Playground, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would read files, and so block
RANGE = {"from": "2026-01-05", "to": "2026-01-06"}
DATA = [path for one in OPERATIONS.values() if one.access is Access.DATA for path in one.paths]


class Caller:
    """A client with a key."""

    def __init__(self, play: Playground, session: aiohttp.ClientSession) -> None:
        self.play = play
        self.session = session

    async def get(self, path: str, **params: Any) -> tuple[int, Any]:
        async with self.session.get(path, params=params) as answer:
            return answer.status, await answer.json()

    async def ask(self, path: str, kind: Any, **params: Any) -> Any:
        async with self.session.get(path, params=params) as answer:
            body = await answer.read()
            assert answer.status == 200, body
            return msgspec.json.decode(body, type=kind)


@asynccontextmanager
async def calling(tmp_path: Path, **settings: Any) -> AsyncGenerator[Caller]:
    async with Playground(tmp_path, **settings) as play:
        headers = {"Authorization": f"Bearer {await play.key()}"}
        async with aiohttp.ClientSession(play.gateway.url, headers=headers) as session:
            yield Caller(play, session)


async def test_every_data_route_needs_a_credential(tmp_path: Path) -> None:
    """R29: also for HEAD, and whatever the parameters are."""
    async with Playground(tmp_path) as play, aiohttp.ClientSession(play.gateway.url) as client:
        for path, method in product(DATA, ("GET", "HEAD")):
            async with client.request(method, path) as answer:
                assert answer.status == 403, path


async def test_quotes_are_of_every_class_in_the_order_asked_for(tmp_path: Path) -> None:
    """R46."""
    async with calling(tmp_path) as caller:
        answer = await caller.ask("/api/quotes", QuotesAnswer, tickers="SPX,SPY,NOSUCH,bad!!")

        assert [one.symbol for one in answer.results] == ["I:SPX", "SPY"]
        assert set(answer.errors) == {"NOSUCH", "bad!!"}
        assert all(one.last and one.quality for one in answer.results)
        assert answer.simulated


async def test_bars_are_the_same_on_every_route_that_has_them(tmp_path: Path) -> None:
    """R39-R41."""
    async with calling(tmp_path) as caller:
        for route, known, symbols in (
            ("/api/bars", "symbol", ["SPY", "SPX"]),
            ("/api/massive/stocks/bars", "symbol", ["spy"]),
            ("/api/massive/indices/bars", "symbol", ["SPX"]),
        ):
            for symbol in symbols:
                asked = {known: symbol, "timespan": "hour", "limit": "3", **RANGE}
                answer = await caller.ask(route, BarsAnswer, **asked)
                assert (answer.count, answer.has_more) == (3, True), (route, symbol)
                assert answer.symbol in {"SPY", "I:SPX"}


async def test_an_option_has_bars_by_its_ticker(tmp_path: Path) -> None:
    """R41: under either name of the parameter, written as people do."""
    async with calling(tmp_path) as caller:
        contracts = await caller.ask(
            "/api/massive/options/contracts", ContractsAnswer, underlying="VIX", limit="1"
        )
        symbol = contracts.results[0].symbol
        for name in ("ticker", "symbol"):
            asked = {name: symbol[2:], "timespan": "day", **RANGE}
            answer = await caller.ask("/api/massive/options/bars", BarsAnswer, **asked)
            assert answer.symbol == symbol


async def test_a_chain_is_grouped_around_the_money_unless_its_bounds_are_given(
    tmp_path: Path,
) -> None:
    """R205, 2.7: window, strikeWindow, and a summary of each expiration."""
    async with calling(tmp_path) as caller:
        asked = {"symbol": "vix", "window": "2", "strikeWindow": "2"}
        near = await caller.ask("/api/options/chain", ChainAnswer, **asked)
        whole = await caller.ask("/api/options/chain", ChainAnswer, underlying="VIX", whole="true")

        assert len(near.expirations) == 2
        assert all(one.calls == one.puts == 5 for one in near.expirations)
        assert near.expirations[0].atm_strike is not None
        assert len(whole.chain.contracts) == whole.chain.listed > 500
        assert sum(one.calls + one.puts for one in whole.expirations) == whole.chain.listed


async def test_the_vendors_filters_make_a_chain(tmp_path: Path) -> None:
    """R42: pages merged, strikes above and not at."""
    async with calling(tmp_path) as caller:
        asked = {"underlying": "VIX", "strike_price.gt": "20", "contract_type": "put"}
        answer = await caller.ask("/api/massive/options/chain", ChainAnswer, **asked)

        assert answer.chain.contracts
        assert all(one.contract.strike > 20 for one in answer.chain.contracts)
        assert all(one.puts and not one.calls for one in answer.expirations)


async def test_indices_keep_the_order_and_tell_what_is_none(tmp_path: Path) -> None:
    """R44."""
    async with calling(tmp_path) as caller:
        answer = await caller.ask("/api/massive/indices", IndicesAnswer, tickers="VIX,NOPE,SPX")

        assert [one.symbol for one in answer.results] == ["I:VIX", "I:SPX"]
        assert answer.errors["I:NOPE"].error == "not_found"


async def test_holidays_and_status_of_the_market(tmp_path: Path) -> None:
    """R32, R49: the status is the vendor's; in a simulated market that never closes it is open."""
    async with calling(tmp_path) as caller:
        holidays = await caller.ask("/api/market/holidays", HolidaysAnswer, year="2025")
        assert holidays.results[-1].date == date(2025, 12, 25)

        answer = await caller.ask("/api/market/status", MarketStatusAnswer)
        assert (answer.status.provider, answer.status.simulated) == ("massive", True)
        assert answer.is_open == answer.status.is_open
        assert answer.is_open


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/api/quotes", {}, "invalid_request"),
        ("/api/bars", {"symbol": "SPY"}, "invalid_request"),
        ("/api/bars", {"symbol": "bad!!", **RANGE}, "invalid_symbol"),
        ("/api/massive/stocks/bars", {"symbol": "I:SPX", **RANGE}, "invalid_symbol"),
        ("/api/options/chain", {"symbol": "SPY", "min_strike": "2", "max_strike": "1"}, None),
        ("/api/options/chain", {"symbol": "O:SPY261218C00650000"}, "invalid_symbol"),
        ("/api/market/holidays", {"year": "1066"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_asked_is_400(
    path: str, params: dict[str, str], code: str | None, tmp_path: Path
) -> None:
    async with calling(tmp_path) as caller:
        status, body = await caller.get(path, **params)

        assert (status, body["code"]) == (400, code or "invalid_request")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, (403, "upstream_forbidden")),
        (500, (502, "upstream_down")),
    ],
)
async def test_a_vendor_that_refuses_is_told_apart_from_one_that_fails(
    status: int, expected: tuple[int, str], tmp_path: Path
) -> None:
    """R31: by status and code, whichever provider wrapped it."""
    async with calling(tmp_path, tradier=False) as caller:
        refusal = RestRule(action=Answer(status=status), path="/v3/*")
        caller.play.simulator.inject(refusal)

        got, body = await caller.get("/api/quotes", tickers="SPY,SPX")

        assert (got, body["code"]) == expected


async def test_a_client_that_leaves_disturbs_nobody_who_asks_the_same(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        asked = {"underlying": "VIX", "whole": "true"}
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(caller.get("/api/options/chain", **asked))
            staying = tasks.create_task(caller.get("/api/options/chain", **asked))
            await until(lambda: caller.play.gateway.market.providers.options.health()[0].requests)
            leaving.cancel()

        assert staying.result()[0] == 200


def test_one_provider_fails_by_its_cause_and_two_are_all_providers_failed() -> None:
    timeout, wait = UpstreamTimeout("late"), UpstreamThrottled("wait", retry_after_s=2)
    wrapped = MassiveApiError("x", causes=[MaxRetriesExceeded("y", causes=[timeout, timeout])])
    absent = ContractNotFound("none", causes=[NotFound("404")])
    both = AllProvidersFailed("z", causes=[wrapped, MassiveApiError("w", causes=[wait])])

    assert root_of(wrapped) is timeout
    alone = AllProvidersFailed("z", causes=[wrapped])
    assert root_of(alone) is timeout
    assert root_of(both) is both
    alike = AllProvidersFailed("z", causes=[wrapped, wrapped])
    assert root_of(alike) is alike, "R221: that both failed is the news"
    for error in (absent, MassiveApiError("no cause"), UpstreamForbidden("no")):
        assert root_of(error) is error
    foreign: OnetapeError = MassiveApiError("x", causes=[ValueError("theirs")])
    assert root_of(foreign) is foreign


async def test_an_answer_written_in_slices_is_the_answer(tmp_path: Path) -> None:
    async with Playground(tmp_path) as play:
        chain = await play.gateway.market.providers.options.get_option_chain("VIX")
    answer = ChainAnswer(
        as_of_ns=1, chain=chain, expirations=tuple(summaries(chain, date(2026, 1, 5)))
    )

    in_slices = msgspec.json.decode(written(answer, 10))

    assert in_slices == msgspec.json.decode(market_json.encode(answer, 10))


def test_an_empty_chain_has_no_expirations() -> None:
    """2.7: where the old route crashed."""
    chain = OptionChain(
        underlying="SPY", underlying_price=None, contracts=(), received_ns=1, provider="massive"
    )

    assert list(summaries(chain, date(2026, 1, 5))) == []
