"""A chain from one request for each expiration: R205, R214, R217, W-60."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest

from onetape.chain_query import ChainQuery
from onetape.errors import (
    TradierApiError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.model import ContractType
from onetape.providers.vendor import ProviderPolicy, Vendor
from onetape.tradier.chains import ChainLimits, Chains, Gathered, Lives
from onetape.tradier.questions import TradierQuestions
from onetape.tradier.wire_rest import Again, Ask, Refusal

QUOTES, CHAINS = "/markets/quotes", "/markets/options/chains"
EXPIRATIONS, LOOKUP = "/markets/options/expirations", "/markets/options/lookup"
DAYS = ("2025-11-24", "2025-11-25", "2025-11-26", "2025-11-28", "2025-12-05")
DOWN = Refusal(UpstreamDown("Tradier answered 503"), Again.LATER)
FORBIDDEN = Refusal(UpstreamForbidden("no"), Again.NEVER)
THROTTLED = Refusal(UpstreamThrottled("wait", retry_after_s=9.0), Again.LATER)
EVERYTHING = ChainQuery()
LIMITS = ChainLimits()


def option(day: str, strike: int, kind: str, **fields: Any) -> dict[str, Any]:
    symbol = f"SPY{day[2:].replace('-', '')}{kind}{strike * 1000:08}"
    told: dict[str, Any] = {"symbol": symbol, "type": "option", "underlying": "SPY"}
    told |= {"bid": 2.0, "ask": 2.1, "bid_date": 1_764_000_000_000, "volume": 5, "greeks": None}
    return told | fields


def page(day: str, **fields: Any) -> dict[str, Any]:
    rows = [option(day, strike, kind, **fields) for strike in (99, 100, 101) for kind in "PC"]
    return {"options": {"option": rows}}


class Rig:
    """Tradier, and what gathers chains of it."""

    def __init__(self, script: Any, vendor: Vendor) -> None:
        self.script = script
        self.vendor = vendor
        self.asks = TradierQuestions(script, script.clock, rate=0.04)
        self.pages: dict[str, Any] = {day: page(day) for day in DAYS}
        script.answers |= {
            EXPIRATIONS: {"expirations": {"date": list(DAYS)}},
            CHAINS: self.answer,
            QUOTES: {"quotes": {"quote": {"symbol": "SPY", "type": "etf", "last": 100.0}}},
            LOOKUP: {"symbols": [{"rootSymbol": "SPY", "options": ["SPY251125C00100000"]}]},
        }

    def answer(self, ask: Ask) -> Any:
        return self.pages[ask.params["expiration"]]

    async def gather(
        self, query: ChainQuery = EVERYTHING, *, limits: ChainLimits = LIMITS
    ) -> Gathered:
        chains = Chains(self.vendor, limits=limits, lives=Lives(10.0, 5.0, 300.0))
        return await chains.gather(self.asks, "SPY", query)

    @property
    def asked(self) -> list[str]:
        return [ask.params["expiration"] for ask, _ in self.script.asked if ask.path == CHAINS]


@pytest.fixture
async def rig(script: Any) -> AsyncIterator[Rig]:
    vendor = Vendor("tradier", failure=TradierApiError, clock=script.clock, policy=ProviderPolicy())
    async with vendor:
        yield Rig(script, vendor)


async def test_a_whole_chain_is_all_expirations_the_nearest_first(rig: Rig) -> None:
    found = await rig.gather()

    chain = found.chain
    assert rig.asked == list(DAYS)
    assert [str(day) for day in chain.expirations] == list(DAYS)
    assert (len(chain.contracts), chain.listed, chain.partial) == (30, 30, ())
    assert (chain.underlying_price, chain.provider, chain.simulated) == (100.0, "tradier", True)
    assert chain.contracts == EVERYTHING.select(chain.contracts, underlying_price=None)
    assert {one.code for said in found.reasons.values() for one in said} <= {
        "greeks_computed",
        "greeks_missing",
    }
    assert rig.script.count(QUOTES) == 1


async def test_no_more_than_four_are_asked_for_at_once(rig: Rig) -> None:
    """R217."""
    rig.script.gate = gate = asyncio.Event()
    task = asyncio.ensure_future(rig.gather())  # noqa: TID251 - awaited below
    for _ in range(50):
        await asyncio.sleep(0)
        gate.set()
    await task

    assert rig.script.most_at_once <= 4 + 1, "and the quote of the underlying"


async def test_only_what_the_query_wants_is_asked_for(rig: Rig) -> None:
    query = ChainQuery(
        first_expiration=date(2025, 11, 25),
        last_expiration=date(2025, 11, 28),
        max_expirations=2,
        min_strike=100,
        contract_type=ContractType.CALL,
    )

    chain = (await rig.gather(query)).chain

    assert rig.asked == ["2025-11-25", "2025-11-26"]
    assert [(one.contract.strike, one.contract.contract_type) for one in chain.contracts] == [
        (100.0, ContractType.CALL),
        (101.0, ContractType.CALL),
    ] * 2
    assert chain.listed is None


async def test_days_that_the_query_leaves_nothing_of_are_made_up_for(rig: Rig) -> None:
    """As Massive's filter does it: so many expirations that have something."""
    for day in DAYS[:3]:
        rig.pages[day] = page(day, volume=0)

    chain = (await rig.gather(ChainQuery(max_expirations=2, min_volume=1))).chain

    assert rig.asked == list(DAYS)
    assert len(chain.expirations) == 5, "what is not wanted is left out by the query itself"


# ---- what is missing ----


async def test_an_expiration_that_fails_is_named(rig: Rig) -> None:
    """R214."""
    rig.pages[DAYS[1]] = DOWN

    chain = (await rig.gather()).chain

    assert chain.partial == ("expiration 2025-11-25: upstream_down",)
    assert len(chain.expirations) == 4
    assert chain.listed is None


async def test_one_that_failed_is_not_made_up_for(rig: Rig) -> None:
    rig.pages[DAYS[0]] = DOWN

    chain = (await rig.gather(ChainQuery(max_expirations=2))).chain

    assert [str(day) for day in chain.expirations] == [DAYS[1]]
    assert len(chain.partial) == 1


async def test_only_what_failed_is_asked_again(rig: Rig) -> None:
    rig.pages[DAYS[1]] = [DOWN, page(DAYS[1])]
    await rig.gather()

    chain = (await rig.gather()).chain

    assert rig.asked == [*DAYS, DAYS[1]]
    assert chain.partial == ()


async def test_nothing_at_all_is_a_failure_and_says_what_the_nearest_said(rig: Rig) -> None:
    for day in DAYS:
        rig.pages[day] = DOWN
    rig.pages[DAYS[0]] = Refusal(UpstreamGarbled("a page"), Again.NEVER)

    with pytest.raises(UpstreamGarbled):
        await rig.gather()


@pytest.mark.parametrize("refusal", [FORBIDDEN, THROTTLED])
async def test_what_befalls_all_ends_the_asking(rig: Rig, refusal: Refusal) -> None:
    rig.pages[DAYS[2]] = refusal
    limits = ChainLimits(at_once=1)

    chain = (await rig.gather(limits=limits)).chain

    assert rig.asked == list(DAYS[:3])
    assert chain.partial == tuple(f"expiration {day}: {refusal.error.code}" for day in DAYS[2:])


async def test_a_listed_day_without_contracts_failed(rig: Rig) -> None:
    """W-60: an outage may be an empty 200."""
    rig.pages |= {DAYS[0]: {"options": None}, DAYS[1]: {"options": "null"}}

    chain = (await rig.gather()).chain

    assert chain.partial == ("expiration 2025-11-25: upstream_garbled",)
    assert str(chain.expirations[0]) == DAYS[2], "what expires today may be gone already"


async def test_one_that_has_a_single_contract_is_no_list(rig: Rig) -> None:
    """Trap 2."""
    rig.pages[DAYS[0]] = {"options": {"option": option(DAYS[0], 100, "C")}}

    chain = (await rig.gather(ChainQuery(max_expirations=1))).chain

    assert len(chain.contracts) == 1


async def test_rows_that_cannot_be_read_are_counted(rig: Rig) -> None:
    rows = [option(DAYS[0], 100, "C"), option(DAYS[0], 100, "P", bid={})]
    rig.pages[DAYS[0]] = {"options": {"option": rows}}

    chain = (await rig.gather(ChainQuery(max_expirations=1))).chain

    assert chain.dropped == {"upstream_garbled": 1}


async def test_the_price_of_the_underlying_may_be_missing(rig: Rig) -> None:
    rig.script.answers[QUOTES] = DOWN

    chain = (await rig.gather()).chain

    assert chain.underlying_price is None
    assert chain.partial == ("the price of SPY: upstream_down",)
    assert len(chain.contracts) == 30
    assert rig.script.count(QUOTES) < 5, "not asked again for every page"


async def test_an_underlying_that_is_unknown_has_no_price(rig: Rig) -> None:
    rig.script.answers[QUOTES] = {"quotes": {"unmatched_symbols": {"symbol": "SPY"}}}

    assert (await rig.gather()).chain.partial == ("the price of SPY: not_found",)


# ---- limits ----


async def test_the_requests_of_this_minute_are_not_all_taken(rig: Rig) -> None:
    """R217: 12 are left for other questions."""
    rig.script.used = 120 - 12 - 4

    chain = (await rig.gather(limits=ChainLimits(at_once=1))).chain

    assert len(rig.asked) == 2
    assert [one.split()[-1] for one in chain.partial] == ["upstream_throttled"] * 3


async def test_without_any_left_one_is_asked_for_all_the_same(rig: Rig) -> None:
    """Whether that may be sent is for the budget to say."""
    rig.script.used = 120

    await rig.gather()

    assert rig.asked == [DAYS[0]]


async def test_a_chain_may_cost_only_so_many(rig: Rig) -> None:
    chain = (await rig.gather(limits=ChainLimits(requests=2, at_once=1))).chain

    assert rig.asked == list(DAYS[:2])
    assert len(chain.partial) == 3


async def test_what_came_in_time_is_the_answer(rig: Rig) -> None:
    """Issue 4: an answer within 5 s."""
    slow = asyncio.Event()
    answer = rig.script.ask

    async def ask(ask: Ask, **about: Any) -> Any:
        if ask.params.get("expiration") in DAYS[2:]:
            await slow.wait()
        return await answer(ask, **about)

    rig.script.ask = ask

    chain = (await rig.gather(limits=ChainLimits(within_s=0.05))).chain

    assert len(chain.expirations) == 2
    assert chain.partial == tuple(f"expiration {day}: upstream_timeout" for day in DAYS[2:])


@pytest.mark.parametrize("stuck", [EXPIRATIONS, CHAINS])
async def test_nothing_in_time_is_a_failure(rig: Rig, stuck: str) -> None:
    answer = rig.script.ask

    async def ask(ask: Ask, **about: Any) -> Any:
        if ask.path == stuck:
            await asyncio.Event().wait()
        return await answer(ask, **about)

    rig.script.ask = ask

    with pytest.raises(UpstreamTimeout):
        await rig.gather(limits=ChainLimits(within_s=0.05))


async def test_a_price_that_is_late_is_missing(rig: Rig) -> None:
    rig.script.answers[EXPIRATIONS] = {"expirations": {"date": DAYS[0]}}
    first = await rig.gather()
    assert first.chain.partial == ()
    rig.vendor.forget("spot:*")
    answer = rig.script.ask

    async def ask(ask: Ask, **about: Any) -> Any:
        if ask.path == QUOTES:
            await asyncio.Event().wait()
        return await answer(ask, **about)

    rig.script.ask = ask

    chain = (await rig.gather(limits=ChainLimits(within_s=0.05))).chain

    assert chain.partial == ("the price of SPY: upstream_timeout",)


# ---- nothing is an answer too ----


async def test_a_query_that_leaves_nothing_is_told_from_an_outage(rig: Rig) -> None:
    """W-60: what is listed says so."""
    for query in (ChainQuery(last_expiration=date(2020, 1, 1)), ChainQuery(min_strike=500)):
        chain = (await rig.gather(query)).chain
        assert (chain.contracts, chain.listed, chain.partial) == ((), 1, ())
    assert rig.script.count(LOOKUP) == 1, "kept"

    rig.vendor.forget("listed:*")
    rig.script.answers[LOOKUP] = DOWN
    assert (await rig.gather(ChainQuery(min_strike=500))).chain.listed is None


async def test_what_has_no_options_has_none(rig: Rig) -> None:
    rig.script.answers |= {EXPIRATIONS: {"expirations": None}, LOOKUP: {"symbols": None}}

    chain = (await rig.gather()).chain

    assert (chain.contracts, chain.listed, chain.partial) == ((), 0, ())
    assert rig.script.count(QUOTES) == 0


async def test_expirations_that_fail_are_a_failure_that_is_counted_once(rig: Rig) -> None:
    rig.script.answers[EXPIRATIONS] = DOWN

    with pytest.raises(TradierApiError):
        await rig.vendor.ask("chain", rig.gather())
    assert rig.vendor.health().failures == 1
