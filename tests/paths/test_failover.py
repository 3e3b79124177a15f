"""Massive goes wrong in every way it can, and Tradier answers: R218-R224, R227, W-59, W-60.

Both vendors are simulated, over real sockets, and the policy is the default one: 60 s of
patience are 60 s of the clock. The clock, and with it the timers of the loop, can be pushed
ahead, so nobody waits for them; what nobody pushed was waited for.
"""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from onetape.chain_query import ChainQuery
from onetape.clock import SystemClock
from onetape.errors import AllProvidersFailed, ContractNotFound, MassiveApiError, TradierApiError
from onetape.hybrid.verdicts import WORDS, Why
from onetape.massive.rest import RestPolicy
from onetape.simulator.faults import (
    Answer,
    BodyKind,
    CrossQuotes,
    CutBody,
    EmptyAnswer,
    Fail,
    FailureKind,
    Hang,
    Reset,
    RestActions,
    RestRule,
    SkewTimes,
    Slow,
    StaleValues,
    TradierRule,
    WrongValues,
)
from onetape.testing import Playground

SYSTEM = SystemClock()
WITHIN_S = 5.0
HOLD_S = 60.0
KINDS = ("quotes", "chain", "contract", "bars")
QUOTED = ("quotes", "chain", "contract")
NO_SUCH_STRIKE = ChainQuery(min_strike=1e6)

NEGATIVE = WrongValues(fields=("gamma", "price", "bid", "ask", "o", "h", "l", "c"), times=-1)
TENFOLD = WrongValues(fields=("price", "bid", "ask", "midpoint"), times=10)


class Case(NamedTuple):
    """A fault of Massive's, and what should come of it."""

    does: RestActions
    why: Why
    others: tuple[str, ...] = KINDS
    """Which kinds Tradier answers; the other kinds of answer do not suffer from it."""
    path: str = "*"
    after_s: float = 0.0
    """How long it goes unnoticed, because it takes time to show."""


CASES = {
    "mute": Case(Hang(), Why.TIMEOUT),
    "slow": Case(Slow(before_s=6), Why.TIMEOUT),
    "429": Case(Answer(status=429), Why.THROTTLED),
    "429 for a minute": Case(Answer(status=429, retry_after_s=60), Why.THROTTLED),
    "403": Case(Answer(status=403), Why.REFUSED),
    "502 in HTML": Case(Answer(status=502, body=BodyKind.HTML), Why.DOWN),
    "503": Case(Answer(status=503), Why.DOWN),
    "reset": Case(Reset(), Why.DOWN),
    "cut off": Case(CutBody(), Why.GARBLED),
    "half a document": Case(CutBody(how="json"), Why.GARBLED),
    "empty snapshots": Case(EmptyAnswer(), Why.GARBLED, QUOTED, path="/v3/snapshot*"),
    "crossed quotes": Case(CrossQuotes(), Why.POOR, QUOTED),
    "stale values": Case(StaleValues(), Why.POOR, QUOTED, after_s=31),
    "stale bars": Case(StaleValues(), Why.POOR, after_s=10 * 60),
    "wrong values": Case(NEGATIVE, Why.POOR),
    "a clock that is late": Case(SkewTimes(by_s=-60), Why.POOR, QUOTED),
    "a clock that is very late": Case(SkewTimes(by_s=-900), Why.POOR),
    "a clock that is ahead": Case(SkewTimes(by_s=5), Why.POOR, QUOTED),
}


@pytest.fixture
def anyio_backend(skip_loop: Callable[[], asyncio.AbstractEventLoop]) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"debug": True, "loop_factory": skip_loop}


def massive(does: RestActions, path: str = "*") -> RestRule:
    return RestRule(action=does, path=path)


def tradier(kind: FailureKind) -> TradierRule:
    return TradierRule(action=Fail(kind=kind))


# ---- the matrix ----


@pytest.mark.parametrize("name", CASES)
async def test_the_other_answers_marked_and_in_time_and_the_first_comes_back(
    stage: Any, name: str
) -> None:
    """R218-R220, R224: then no longer marked, with one switch there and one back."""
    case = CASES[name]
    stage.fail(massive(case.does, case.path))
    if case.after_s:
        assert {told.by for told in (await stage.ask_all()).values()} == {"massive"}
        await stage.skip(case.after_s)

    answers = await stage.ask_all()
    stage.recover()
    back_s = await stage.back(*KINDS)

    for kind, told in answers.items():
        is_others = kind in case.others
        assert told.by == ("tradier" if is_others else "massive"), (kind, told)
        assert told.took_s < WITHIN_S, (kind, told.took_s)
        assert told.confidence >= 70, (kind, told)
        assert ("fallback" in told.codes) == is_others, (kind, told)
        assert (told.why is not None) == is_others, (kind, told)
        if is_others and kind != "bars":
            assert f"massive {WORDS[case.why]}" in (told.why or ""), (kind, told)
        assert back_s[kind] <= (200 if is_others else 32), (kind, back_s)
    for kinds in (("quotes", "bars"), ("chain", "contract")):
        counted = stage.statistics(kinds[0])
        assert counted.fallbacks[case.why] >= 1
        assert counted.switches == 2 * len(set(kinds) & set(case.others)), counted
        assert counted.called_off == counted.on_secondary == 0


async def test_bars_that_are_another_vendors_say_so_one_by_one(stage: Any) -> None:
    """R220: a bar of a good series has nothing to say of itself, but this."""
    stage.fail(massive(Answer(status=503)))

    bars = (await stage.ask("bars")).value

    assert {bar.provider for bar in bars} == {"tradier"}
    assert {bar.quality.fallback_reason for bar in bars} == {"massive is down"}
    assert all(not bar.quality.has_errors for bar in bars)


async def test_what_is_wrong_but_possible_is_marked_where_it_shows(stage: Any) -> None:
    """A price ten times too high contradicts itself; one vendor's word is not enough for more."""
    stage.fail(massive(TENFOLD))

    answers = await stage.ask_all("quotes", "chain")

    assert answers["chain"].by == "tradier"
    assert "atm_missing" in (answers["chain"].why or "")
    assert answers["quotes"].codes == {"last_outside_range", "change_inconsistent"}
    assert (answers["quotes"].by, answers["quotes"].confidence) == ("massive", 90)


@pytest.mark.parametrize("status", [503, 429])
async def test_in_time_with_the_policies_that_are_the_defaults(staging: Any, status: int) -> None:
    """R219: Massive is asked again as often as it is by default, and nobody waits too long."""
    stage = await staging(rest=RestPolicy())
    stage.fail(massive(Answer(status=status)))

    answers = await stage.ask_all()

    assert {told.by for told in answers.values()} == {"tradier"}
    assert all(told.took_s < WITHIN_S for told in answers.values()), answers


# ---- what is no failure ----


async def test_while_the_first_is_well_nobody_notices_the_other(stage: Any) -> None:
    stage.fail(TradierRule(action=Hang()))
    asked = stage.simulator.state().tradier_requests

    answers = await stage.ask_all()

    assert {(told.by, told.why) for told in answers.values()} == {("massive", None)}
    assert stage.simulator.state().tradier_requests == asked


async def test_what_is_not_there_is_an_answer_however_often(stage: Any) -> None:
    """W-59: no fallback, no failure, and the breaker stays closed."""
    asked = stage.simulator.state().tradier_requests

    for _ in range(5):
        rows = await stage.hybrids.broker.get_quotes(["AAPL", "NOPE"])
        assert rows.errors["NOPE"].error == "not_found"
        assert [row.provider for row in rows] == ["massive"]
        one = stage.contract
        with pytest.raises(ContractNotFound):
            await stage.hybrids.options.get_option_contract(
                "AAPL", one.strike + 0.01, one.expiration, one.contract_type
            )
        await stage.skip(10)

    assert stage.simulator.state().tradier_requests == asked
    for hybrid in (stage.hybrids.options, stage.hybrids.broker):
        assert all(one.healthy and not one.fallbacks for one in hybrid.health())


async def test_what_a_filter_emptied_is_truly_empty(stage: Any) -> None:
    """W-60."""
    asked = stage.simulator.state().tradier_requests

    chain = await stage.hybrids.options.get_option_chain("AAPL", NO_SUCH_STRIKE)

    assert (chain.provider, chain.contracts) == ("massive", ())
    assert chain.listed > 0
    assert stage.simulator.state().tradier_requests == asked


async def test_a_chain_that_expires_today_is_not_empty_while_it_trades(stage: Any) -> None:
    """W-60."""
    stage.fail(massive(EmptyAnswer(), "/v3/snapshot/options/*"))

    chain = await stage.hybrids.options.get_option_chain("AAPL", ChainQuery(max_expirations=1))

    assert chain.provider == "tradier"
    assert chain.contracts


# ---- both ----

BOTH: dict[str, tuple[RestActions, TradierRule, Why, Why]] = {
    "down": (Answer(status=503), tradier(FailureKind.TEXT), Why.DOWN, Why.DOWN),
    "throttled": (
        Answer(status=429),
        tradier(FailureKind.QUOTA_FAULT),
        Why.THROTTLED,
        Why.THROTTLED,
    ),
    "refused": (Answer(status=403), tradier(FailureKind.NOT_ENTITLED), Why.REFUSED, Why.REFUSED),
    "mute": (Hang(), TradierRule(action=Hang()), Why.TIMEOUT, Why.TIMEOUT),
}


@pytest.mark.parametrize("name", BOTH)
async def test_both_fail_and_every_cause_is_told_in_time(stage: Any, name: str) -> None:
    """R221: in words of ours, not the vendors'."""
    mine, theirs, why, other_why = BOTH[name]
    stage.fail(massive(mine), theirs)

    answers = await stage.ask_all()

    for kind, told in answers.items():
        error = told.value
        assert isinstance(error, AllProvidersFailed), (kind, told)
        assert told.took_s < WITHIN_S, (kind, told)
        assert [type(cause) for cause in error.causes] == [MassiveApiError, TradierApiError]
        assert f"massive {WORDS[why]}; tradier {WORDS[other_why]}" in str(error), (kind, told)


async def test_of_two_poor_answers_the_first_ones_is_given_as_it_is(stage: Any) -> None:
    """What both call crossed is crossed: marked, not replaced, and no switch."""
    stage.fail(massive(CrossQuotes()), TradierRule(action=CrossQuotes()))

    told = await stage.ask("quotes")

    assert (told.by, told.why, told.confidence) == ("massive", None, 0)
    assert told.codes == {"crossed"}
    assert stage.statistics("quotes").switches == 0


async def test_the_other_fails_while_it_is_asked_first_and_the_first_is_well(stage: Any) -> None:
    """No switch follows from what the other does: that question the first one answers."""
    stage.fail(massive(Answer(status=503)))
    await stage.ask("quotes")
    stage.recover()
    stage.fail(tradier(FailureKind.TEXT))

    told = await stage.ask("quotes")

    assert (told.by, told.why) == ("massive", None)
    assert stage.statistics("quotes").switches == 1


# ---- no flapping ----


DOWN = Answer(status=503)
INTERMITTENT: dict[str, tuple[RestRule, ...]] = {
    "every other request": (RestRule(action=DOWN, probability=0.5),),
    "now and then": (RestRule(action=DOWN, probability=0.1),),
    "20 s of 40": tuple(RestRule(action=DOWN, after_s=40 * n, for_s=20) for n in range(15)),
    "90 s of 180": tuple(RestRule(action=DOWN, after_s=180 * n, for_s=90) for n in range(4)),
}


@pytest.mark.parametrize("name", INTERMITTENT)
async def test_who_answers_changes_at_most_once_a_minute(stage: Any, name: str) -> None:
    """R224: ten minutes of a vendor that comes and goes, asked every five seconds."""
    stage.fail(*INTERMITTENT[name])
    answered: list[tuple[float, str]] = []
    began, switched = stage.clock.monotonic(), list[float]()

    while (at_s := stage.clock.monotonic() - began) < 10 * 60:
        told = await stage.ask("quotes")
        answered.append((at_s, told.by))
        assert (told.why is not None) == (told.by == "tradier"), told
        await stage.skip(5)
        if stage.statistics("quotes").switches > len(switched):
            switched.append(at_s)

    assert {by for _, by in answered} == {"massive", "tradier"}
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(switched)), switched
    assert len(switched) == stage.statistics("quotes").switches
    changed = [at_s for (_, before), (at_s, by) in pairwise(answered) if by != before]
    assert len(changed) <= 10
    # A return that is called off is no switch, but it is seen: twice, and not soon again.
    for first, _, third in zip(changed, changed[1:], changed[2:], strict=False):
        assert third - first > HOLD_S - 5, changed


async def test_one_that_is_left_alone_is_only_probed(stage: Any) -> None:
    """R222, R224: after three failures in a row, one request in 30 s, whoever asks."""
    stage.fail(massive(DOWN))
    for _ in range(3):
        await stage.ask_all("quotes", "bars")
        await stage.skip(31)
    (first, _) = stage.hybrids.broker.health()
    asked = stage.simulator.state().rest_requests

    for _ in range(30):
        assert (await stage.ask("quotes")).by == "tradier"
        await stage.skip(10)

    assert (first.healthy, first.status) == (False, "open")
    assert stage.simulator.state().rest_requests - asked <= 300 / 30 + 1


# ---- through the gateway ----


async def test_a_gateway_answers_with_the_others_data_and_says_why(tmp_path: Path) -> None:
    """R218, R220: what a program reads over HTTP."""
    async with Playground(tmp_path) as play:
        headers = {"Authorization": f"Bearer {await play.key()}"}
        async with aiohttp.ClientSession(play.gateway.url, headers=headers) as http:
            well = await quoted(http)
            play.simulator.inject(RestRule(action=Answer(status=403)))
            began = SYSTEM.monotonic()
            quote, chain = await asyncio.gather(quoted(http), chained(http))
            took_s = SYSTEM.monotonic() - began
            async with http.get("/api/quotes", params={"symbols": "NOPE"}) as answer:
                missing = await answer.json()

    assert (well["provider"], well["quality"].get("fallback_reason")) == ("massive", None)
    for datum in (quote, chain, chain["contracts"][0]):
        quality = datum["quality"]
        assert quality["provider"] == "tradier"
        assert WORDS[Why.REFUSED] in quality["fallback_reason"]
        assert "fallback" in {one["code"] for one in quality["reasons"]}
    assert took_s < WITHIN_S
    assert missing["errors"]["NOPE"]["error"]


async def quoted(http: aiohttp.ClientSession) -> Any:
    async with http.get("/api/quotes", params={"symbols": "AAPL"}) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["results"][0]


async def chained(http: aiohttp.ClientSession) -> Any:
    wanted = {"symbol": "AAPL", "max_expirations": "1", "around": "2"}
    async with http.get("/api/options/chain", params=wanted) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["chain"]
