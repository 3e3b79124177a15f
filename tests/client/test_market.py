"""What is asked of the gateway's own routes, and what is made of its answers."""

from datetime import date
from typing import Any

import msgspec
import pytest

from onetape.chain_query import ChainQuery
from onetape.client._market import MarketQuestions
from onetape.errors import (
    AllProvidersFailed,
    InvalidRequest,
    InvalidSymbol,
    Throttled,
    UpstreamDown,
    UpstreamGarbled,
)
from onetape.market_json import encode
from onetape.model import ContractType
from onetape.provenance import Reason, Severity
from onetape.timeframes import bar_length

QUOTES, INDICES, CHAIN = "/api/quotes", "/api/massive/indices", "/api/options/chain"


@pytest.fixture
def ask(bench: Any) -> MarketQuestions:
    return MarketQuestions(bench.rest)


async def test_quotes_come_judged_and_score_by_the_readers_time(
    bench: Any, ask: MarketQuestions
) -> None:
    """R157: the score is reckoned when it is asked for, whatever it was when it was sent."""
    bench.rest.answers[QUOTES] = bench.market.quotes

    spy, spx = await ask.quotes(["spy", "SPX", "NOPE"])

    now_ns = bench.clock.now_ns()
    assert (spy.symbol, spx.symbol) == ("SPY", "I:SPX")
    assert spy.quality is not None
    assert spy.quality.confidence(now_ns) == 100
    assert spy.quality.confidence(now_ns + 31_000_000_000) == 0
    assert bench.rest.asked == [(QUOTES, "tickers=SPY,I:SPX,NOPE")]


async def test_what_the_gateway_writes_beside_a_quality_is_passed_over(
    bench: Any, ask: MarketQuestions
) -> None:
    sent = bench.market.quotes({"tickers": ["SPY"]})
    wire = msgspec.json.decode(encode(sent, bench.clock.now_ns()))
    assert wire["results"][0]["quality"]["confidence"] == 100

    bench.rest.answers[QUOTES] = wire

    assert (await ask.quotes(["SPY"]))[0] == sent.results[0]


async def test_a_fallback_says_whose_it_is_and_why(bench: Any, ask: MarketQuestions) -> None:
    """R220."""
    why = "massive is down"
    mark = Reason(code="fallback", severity=Severity.WARNING, detail=why)
    quality = bench.market.quality("tradier", reasons=(mark,), fallback_reason=why)
    quote = bench.market.quote("SPY", provider="tradier", quality=quality)
    answer = msgspec.structs.replace(bench.market.quotes({"tickers": []}), results=(quote,))
    bench.rest.answers[QUOTES] = answer

    (found,) = await ask.quotes(["SPY"])

    assert (found.provider, found.quality) == ("tradier", quality)
    assert found.quality is not None
    assert found.quality.confidence(bench.clock.now_ns()) == 95


async def test_options_are_quoted_with_the_others(bench: Any, ask: MarketQuestions) -> None:
    """R150: one question for all."""
    bench.rest.answers[QUOTES] = bench.market.quotes

    rows = await ask.quotes(["SPY251219C00650000", "SPX", "SPY"])

    assert [row.symbol for row in rows] == ["O:SPY251219C00650000", "I:SPX", "SPY"]
    assert len(bench.rest.asked) == 1


@pytest.mark.parametrize("error", [AllProvidersFailed("nobody"), UpstreamDown("gone")])
async def test_a_batch_that_fails_is_missing_and_not_raised(
    bench: Any, ask: MarketQuestions, error: Exception
) -> None:
    """R157, R221, W-20: symbol by symbol, with the code that it would have been raised with."""
    bench.rest.answers[QUOTES] = error

    rows = await ask.quotes(["SPY", "QQQ"])

    assert rows == ()
    assert {symbol: fault.error for symbol, fault in rows.errors.items()} == {
        "SPY": error.code,  # type: ignore[attr-defined]
        "QQQ": error.code,  # type: ignore[attr-defined]
    }
    with pytest.raises(type(error)):
        raise rows.errors["SPY"].as_error()


async def test_one_of_the_symbols_that_nobody_can_answer_costs_only_itself(
    bench: Any, ask: MarketQuestions
) -> None:
    def answer(params: Any) -> Any:
        if "BAD" in params["tickers"]:
            return UpstreamDown("no")
        return bench.market.quotes(params)

    bench.rest.answers[QUOTES] = answer

    rows = await ask.quotes(["SPY", "BAD", "QQQ"])

    assert [row.symbol for row in rows] == ["SPY", "QQQ"]
    assert set(rows.errors) == {"BAD"}


async def test_who_is_early_is_told_to_wait(bench: Any, ask: MarketQuestions) -> None:
    bench.rest.answers[QUOTES] = Throttled("too many", retry_after_s=2)

    with pytest.raises(Throttled):
        await ask.quotes(["SPY"])


async def test_indices_are_indices(bench: Any, ask: MarketQuestions) -> None:
    """R160."""
    bench.rest.answers[INDICES] = bench.market.indices

    rows = await ask.indices(["vix", "DJI"])

    assert [row.symbol for row in rows] == ["I:VIX"]
    assert rows[0].quality is not None
    assert rows.errors["I:DJI"].error == "upstream_forbidden"
    with pytest.raises(InvalidSymbol):
        await ask.indices(["SPY"])
    with pytest.raises(InvalidRequest):
        await ask.indices("VIX")


async def test_a_chain_is_whole_within_its_bounds(bench: Any, ask: MarketQuestions) -> None:
    """R158: the gateway's own default is ten strikes around the money, and not wanted here."""
    bench.rest.answers[CHAIN] = bench.market.chain(6600, 6605)
    query = ChainQuery(
        first_expiration=date(2025, 12, 19), contract_type=ContractType.CALL, max_spread_percent=5
    )

    chain = await ask.option_chain("spx", query)
    await ask.option_chain("SPX", ChainQuery())

    assert [row.contract.strike for row in chain.contracts] == [6600, 6605]
    assert [params for _, params in bench.rest.asked] == [
        "contract_type=call&first_expiration=2025-12-19&max_spread_percent=5"
        "&underlying=I:SPX&whole=true",
        "underlying=I:SPX&whole=true",
    ]


async def test_bars_are_asked_by_dates_or_by_milliseconds(bench: Any, ask: MarketQuestions) -> None:
    bench.rest.answers["/api/bars"] = bench.market.bars()
    await ask.bars(
        "spy", bar_length("5m"), date(2025, 11, 20), 1_763_650_800_123_456_789, limit=7, sort="desc"
    )

    assert bench.rest.asked[0][1] == (
        "from=2025-11-20&limit=7&multiplier=5&sort=desc&symbol=SPY&timespan=minute&to=1763650800123"
    )


async def test_the_market_and_its_holidays(bench: Any, ask: MarketQuestions) -> None:
    """R154, R155."""
    bench.rest.answers["/api/market/status"] = bench.market.status()
    bench.rest.answers["/api/market/holidays"] = bench.market.holidays(date(2025, 11, 27))

    assert (await ask.market_status()).is_open
    (holiday,) = await ask.market_holidays(2025)

    assert holiday.date == date(2025, 11, 27)
    assert bench.rest.asked[1][1] == "year=2025"


@pytest.mark.parametrize("body", [{}, {"results": 1}, {"isOpen": True, "session": "open"}])
async def test_an_answer_of_another_shape_is_garbled(
    bench: Any, ask: MarketQuestions, body: Any
) -> None:
    """As of a gateway of an earlier version."""
    bench.rest.answers["/api/market/status"] = body

    with pytest.raises(UpstreamGarbled, match="cannot be read"):
        await ask.market_status()
