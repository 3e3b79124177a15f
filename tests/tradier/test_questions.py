"""What is asked of Tradier, and what its answers come to: R213, W-59, W-60."""

from datetime import date
from typing import Any

import pytest

from onetape.errors import (
    InvalidRequest,
    UpstreamDown,
    UpstreamGarbled,
    UpstreamThrottled,
)
from onetape.model import ContractType, Quote
from onetape.provenance import Source
from onetape.tradier.budget import Priority
from onetape.tradier.questions import A_CHUNK, TradierQuestions
from onetape.tradier.wire_rest import Again, Ask, Refusal

QUOTES, CHAINS = "/markets/quotes", "/markets/options/chains"
EXPIRATIONS, LOOKUP = "/markets/options/expirations", "/markets/options/lookup"
DAY = date(2025, 12, 19)
DOWN = Refusal(UpstreamDown("Tradier answered 503"), Again.LATER)


def stock(symbol: str, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "type": "stock",
        "last": 100.0,
        "bid": 99.9,
        "ask": 100.1,
        "bid_date": 1_764_000_000_000,
    } | fields


def option(symbol: str, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "type": "option",
        "last": 2.0,
        "bid": 2.3,
        "ask": 2.4,
        "bid_date": 1_764_000_000_000,
        "underlying": "SPY",
        "greeks": {
            "delta": 0.5,
            "theta": -0.03,
            "rho": 0.04,
            "bid_iv": 0.2,
            "mid_iv": 0.2,
            "updated_at": "2025-11-24 15:00:07",
        },
    } | fields


def quoted(*rows: dict[str, Any], unmatched: list[str] | str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if rows:
        body["quote"] = rows[0] if len(rows) == 1 else list(rows)
    if unmatched:
        body["unmatched_symbols"] = {"symbol": unmatched}
    return {"quotes": body}


@pytest.fixture
def asks(script: Any) -> TradierQuestions:
    return TradierQuestions(script, script.clock, rate=0.04, deadline_s=2.0)


# ---- quotes ----


async def test_quotes_are_found_by_symbol_and_what_is_unknown_is_named(
    script: Any, asks: TradierQuestions
) -> None:
    index = stock("SPX", type="index", bid=None, ask=None)
    script.answers[QUOTES] = quoted(stock("BRK/B"), index, unmatched=["NOPE", "ZZZ"])

    found = await asks.quotes(["BRK.B", "I:SPX", "I:NOPE", "ZZZ"])

    assert set(found.rows) == {"BRK.B", "I:SPX"}
    assert {fault.symbol: fault.error for fault in found.faults.values()} == {
        "I:NOPE": "not_found",
        "ZZZ": "not_found",
    }
    assert found.simulated
    assert script.asked[0][0].params["symbols"] == "BRK/B,SPX,NOPE,ZZZ"


async def test_a_single_row_and_a_single_stranger_are_no_lists(
    script: Any, asks: TradierQuestions
) -> None:
    """Trap 2."""
    script.answers[QUOTES] = quoted(stock("SPY"), unmatched="NOPE")

    found = await asks.quotes(["SPY", "NOPE"])

    assert (set(found.rows), set(found.faults)) == ({"SPY"}, {"NOPE"})


async def test_a_stock_is_not_the_index_of_its_name(script: Any, asks: TradierQuestions) -> None:
    script.answers[QUOTES] = quoted(stock("NDAQ"))

    found = await asks.quotes(["I:NDAQ"])

    assert found.rows == {}
    assert found.faults["I:NDAQ"].error == "not_found"


async def test_a_symbol_that_the_answer_leaves_out_is_told(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[QUOTES] = quoted(stock("SPY"))

    found = await asks.quotes(["SPY", "QQQ"])

    assert found.faults["QQQ"].error == "upstream_garbled"


async def test_a_row_that_cannot_be_read_is_its_symbols_fault(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[QUOTES] = quoted(
        stock("SPY"), stock("QQQ", type=7), stock("no such shape of a name at all")
    )

    found = await asks.quotes(["SPY", "QQQ"])

    assert set(found.rows) == {"SPY"}
    assert found.faults["QQQ"].error == "upstream_garbled"


@pytest.mark.parametrize("body", [{"quotes": None}, {"quotes": "null"}, quoted(stock("IWM"))])
async def test_an_answer_about_nothing_that_was_asked_is_none(
    script: Any, asks: TradierQuestions, body: dict[str, Any]
) -> None:
    """W-60."""
    script.answers[QUOTES] = body

    with pytest.raises(UpstreamGarbled):
        await asks.quotes(["SPY"])


async def test_many_symbols_go_in_chunks_and_a_chunk_that_fails_is_its_symbols_fault(
    script: Any, asks: TradierQuestions
) -> None:
    symbols = [f"A{one:03}" for one in range(A_CHUNK)] + ["SPY"]
    script.answers[QUOTES] = [DOWN, quoted(stock("SPY"))]

    found = await asks.quotes(symbols)

    assert script.count(QUOTES) == 2
    assert set(found.rows) == {"SPY"}
    assert len(found.faults) == A_CHUNK
    assert found.faults["A000"].error == "upstream_down"


async def test_when_every_chunk_fails_the_question_does(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[QUOTES] = Refusal(UpstreamThrottled("wait", retry_after_s=7.0), Again.LATER)

    with pytest.raises(UpstreamThrottled) as caught:
        await asks.quotes(["SPY"])
    assert caught.value.retry_after_s == 7


async def test_what_tradier_does_not_understand_is_no_mistake_of_the_callers(
    script: Any, asks: TradierQuestions
) -> None:
    refused = InvalidRequest("Tradier refused: Invalid parameter, symbols: too long.")
    script.answers[QUOTES] = Refusal(refused, Again.NEVER)

    with pytest.raises(UpstreamGarbled, match="too long") as caught:
        await asks.quotes(["SPY"])
    assert caught.value.__cause__ is refused


async def test_the_background_asks_behind_the_others(script: Any, asks: TradierQuestions) -> None:
    script.answers[QUOTES] = quoted(stock("SPY"))

    await asks.quotes(["SPY"])
    await asks.in_background().quotes(["SPY"])

    assert [one for _, one in script.asked] == [Priority.INTERACTIVE, Priority.BACKGROUND]
    assert asks.room() == 118


# ---- contracts ----


async def test_a_contract_comes_with_its_pair_and_the_underlying_in_one_request(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[QUOTES] = quoted(
        option("SPY251219C00101000"),
        option("SPY251219P00101000", bid=2.9, ask=3.0),
        stock("SPY"),
    )

    found = await asks.contracts(["O:SPY251219C00101000"], "SPY")

    (ask, _) = script.asked[0]
    assert ask.params["symbols"] == "SPY251219C00101000,SPY251219P00101000,SPY"
    assert ask.params["greeks"] == "true"
    row = found.rows["O:SPY251219C00101000"]
    assert row.greeks is not None
    assert row.greeks.source is Source.COMPUTED
    assert set(found.rows) == {"O:SPY251219C00101000"}
    assert found.faults == {}


async def test_a_contract_that_is_unmatched_is_not_found(
    script: Any, asks: TradierQuestions
) -> None:
    """W-59."""
    script.answers[QUOTES] = quoted(
        stock("SPY"), unmatched=["SPY251219P00101000", "SPY251219C00101000"]
    )

    found = await asks.contracts(["O:SPY251219P00101000"], "SPY")

    assert found.rows == {}
    assert found.faults["O:SPY251219P00101000"].error == "not_found"


# ---- chains ----


async def spot() -> Quote:
    return Quote(
        symbol="SPY",
        event_ns=1_764_000_000_000_000_000,
        received_ns=1_764_000_000_000_000_000,
        provider="tradier",
        last=100.0,
    )


async def test_a_page_has_the_greeks_to_show(script: Any, asks: TradierQuestions) -> None:
    bad = option("SPY251219C00103000", type=3)
    script.answers[CHAINS] = {
        "options": {
            "option": [
                option("SPY251219P00101000", bid=2.9, ask=3.0),
                option("SPY251219C00101000"),
                option("SPY251219C00102000", bid=0.0),
                bad,
            ]
        }
    }

    page = await asks.page("SPY", DAY, spot)

    kinds = {ContractType.CALL: "C", ContractType.PUT: "P"}
    names = [(kinds[row.contract.contract_type], row.contract.strike) for row in page.contracts]
    assert names == [("C", 101.0), ("P", 101.0), ("C", 102.0)]
    sources = [row.greeks.source for row in page.contracts if row.greeks]
    assert sources == [Source.COMPUTED, Source.COMPUTED, Source.REST]
    assert page.reasons["O:SPY251219C00102000"][0].code == "greeks_hourly"
    assert [fault.symbol for fault in page.faults] == ["O:SPY251219C00103000"]
    assert page.simulated


async def test_an_index_that_we_do_not_know_is_what_its_options_are_on(
    script: Any, asks: TradierQuestions
) -> None:
    row = option("XYZW251219C00101000", underlying="XYZ")
    script.answers[CHAINS] = {"options": {"option": row}}

    page = await asks.page("I:XYZ", DAY, spot)

    assert page.contracts[0].contract.underlying == "I:XYZ"


async def test_a_page_that_fails_says_so_without_a_group(
    script: Any, asks: TradierQuestions
) -> None:
    script.answers[CHAINS] = DOWN

    with pytest.raises(UpstreamDown):
        await asks.page("SPY", DAY, spot)


async def test_the_delayed_sandbox_is_marked(script: Any) -> None:
    """Trap 12."""
    late = TradierQuestions(script, script.clock, rate=0.04, delayed=True)
    script.answers[CHAINS] = {"options": {"option": option("SPY251219C00101000")}}

    page = await late.page("SPY", DAY, spot)

    assert page.contracts[0].quote.delayed
    assert late.in_background().delayed


@pytest.mark.parametrize("body", [{"expirations": None}, {"expirations": "null"}])
async def test_no_expirations_are_checked_by_what_is_listed(
    script: Any, asks: TradierQuestions, body: dict[str, Any]
) -> None:
    """W-60: an outage may look like a stock without options."""
    script.answers |= {EXPIRATIONS: body, LOOKUP: {"symbols": None}}
    assert await asks.expirations("ZZZZ") == ()

    listed = {"rootSymbol": "SPY", "options": ["SPY251219C00101000", "SPY251219P00101000"]}
    script.answers[LOOKUP] = {"symbols": [listed]}
    with pytest.raises(UpstreamGarbled):
        await asks.expirations("SPY")
    assert await asks.listed("SPY") == 2


async def test_expirations_of_all_roots_come_once_each_in_order(
    script: Any, asks: TradierQuestions
) -> None:
    def answer(ask: Ask) -> dict[str, Any]:
        assert ask.params["includeAllRoots"] == "true"
        days = ["2025-12-19", "2025-11-28", "2025-12-19"]
        return {"expirations": {"expiration": [{"date": day} for day in days]}}

    script.answers[EXPIRATIONS] = answer

    assert await asks.expirations("I:SPX") == (date(2025, 11, 28), DAY)
