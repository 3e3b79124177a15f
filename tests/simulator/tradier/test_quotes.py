"""`/markets/quotes` through the phases of a day, and against the first vendor's figures."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from onetape.simulator.market import Hours
from onetape.simulator.tradier.quotes import change_of, expiration_type

AT = Callable[..., Any]
PHASES = ("2025-11-24 08:00", "2025-11-24 11:00", "2025-11-24 18:00", "2025-11-23 12:00")


def test_before_the_open_last_is_the_close_before(at: AT) -> None:
    spy = at("2025-11-24 08:00").quote("SPY")

    assert [spy[key] for key in ("open", "high", "low", "close")] == [None] * 4
    assert (spy["last"], spy["change"], spy["change_percentage"]) == (spy["prevclose"], 0.0, 0.0)
    assert spy["volume"] > 0
    assert spy["bid"] < spy["ask"]


def test_in_the_session_there_is_no_close(at: AT) -> None:
    spy = at().quote("SPY")

    assert spy["close"] is None
    assert spy["low"] <= spy["last"] <= spy["high"]
    assert spy["change"] == pytest.approx(spy["last"] - spy["prevclose"], abs=0.006)


def test_after_the_close_last_stays_there(at: AT) -> None:
    early, late = at("2025-11-24 16:01").quote("SPY"), at("2025-11-24 19:30").quote("SPY")

    assert early["last"] == early["close"] == late["close"] == late["last"]
    assert late["trade_date"] > early["trade_date"], "it trades on"
    assert late["volume"] > early["volume"]


def test_on_a_weekend_it_is_fridays_close(at: AT) -> None:
    friday, sunday = at("2025-11-21 20:30"), at("2025-11-23 12:00")

    for symbol in ("SPY", "SPX", "SPY251219C00650000"):
        assert sunday.quote(symbol) == friday.quote(symbol)


def test_a_market_that_never_closes_has_no_close(at: AT) -> None:
    assert at("2025-11-23 12:00", hours=Hours.ALWAYS).quote("SPY")["close"] is None


@pytest.mark.parametrize("now", PHASES)
@pytest.mark.parametrize("symbol", ["SPY", "AAPL", "I:SPX", "I:VIX"])
def test_both_vendors_tell_the_same_of_stocks_and_indices(at: AT, now: str, symbol: str) -> None:
    tradier = at(now)
    market, now_ns = tradier.market, tradier.market.now_ns()
    row = tradier.quote(symbol.removeprefix("I:"))
    stats, quote = market.session_stats(symbol, now_ns), market.last_quote(symbol, now_ns)

    assert (row["open"], row["high"], row["low"]) == (stats.open, stats.high, stats.low)
    assert row["prevclose"] == stats.previous_close
    assert row["last"] == (stats.close if stats.close is not None else stats.previous_close)
    assert row["volume"] == (stats.volume or 0)
    if quote is None:
        assert (row["bid"], row["ask"], row["bidsize"], row["bid_date"]) == (None, None, 0, 0)
    else:
        assert (row["bid"], row["ask"]) == (quote.bid, quote.ask)
        assert (row["bidsize"], row["asksize"]) == (quote.bid_size, quote.ask_size)
        assert 0 <= quote.event_ns // 1_000_000 - row["bid_date"] < 1000


@pytest.mark.parametrize("now", PHASES)
@pytest.mark.parametrize("underlying", ["SPY", "I:SPX"])
def test_both_vendors_tell_the_same_of_options(at: AT, now: str, underlying: str) -> None:
    tradier = at(now)
    market, now_ns = tradier.market, tradier.market.now_ns()
    day = date(2025, 12, 19)
    contracts = [c for c in market.contracts(underlying) if c.expiration == day]
    rows = {r["symbol"]: r for r in tradier.chain(underlying.removeprefix("I:"), day.isoformat())}

    assert len(rows) == len(contracts)
    for want in market.option_rows(contracts, now_ns):
        row = rows[want.contract.ticker.removeprefix("O:")]
        assert (row["strike"], row["open_interest"]) == (want.contract.strike, want.open_interest)
        assert (row["open"], row["high"], row["low"]) == (
            want.day.open,
            want.day.high,
            want.day.low,
        )
        assert row["volume"] == want.day.volume
        assert row["last"] == (want.day.close or (want.trade and want.trade.price))
        assert row["trade_date"] == (want.trade.event_ns // 1_000_000 if want.trade else 0)
        if want.quote is not None:
            assert (row["bid"], row["ask"]) == (want.quote.bid, want.quote.ask)


def test_a_side_that_nobody_bids_on_has_no_exchange(at: AT) -> None:
    rows = at().chain("SPX", "2025-12-19")
    without = [row for row in rows if row["bid"] == 0.0]

    assert without
    assert {(row["bidsize"], row["bidexch"]) for row in without} == {(0, None)}
    assert all(row["askexch"] for row in without)


def test_a_contract_that_never_traded_has_nulls_and_zeros(at: AT) -> None:
    keys = ("last", "change", "open", "high", "low", "close", "prevclose", "change_percentage")
    row = next(row for row in at().chain("SPX", "2025-12-19") if row["trade_date"] == 0)

    assert [row[key] for key in keys] == [None] * len(keys)
    assert (row["volume"], row["last_volume"]) == (0, 0)


def test_an_option_names_what_it_is(at: AT) -> None:
    row = at().quote("SPXW251124P06750000")

    assert row["description"] == "SPXW Nov 24 2025 $6750.00 Put"
    assert (row["underlying"], row["root_symbol"], row["exch"]) == ("SPX", "SPXW", "C")
    assert (row["type"], row["option_type"], row["contract_size"]) == ("option", "put", 100)
    assert (row["expiration_date"], row["expiration_type"]) == ("2025-11-24", "weeklys")
    assert at().quote("SPY251219C00650000")["exch"] == "Z"


def test_a_contract_stays_until_the_end_of_the_day_it_expires_on(at: AT) -> None:
    assert at("2025-11-24 17:00").quote("SPY251124C00675000")["bid"] is not None
    assert at("2025-12-19 11:00").quote("SPX251219C06750000")["root_symbol"] == "SPX"
    gone = at("2025-11-25 11:00").json("quotes", symbols="SPY251124C00675000")
    assert gone == {"quotes": {"unmatched_symbols": {"symbol": "SPY251124C00675000"}}}


@pytest.mark.parametrize(
    ("symbol", "label"),
    [
        ("O:SPY251219C00650000", "standard"),
        ("O:SPXW251219C06750000", "standard"),
        ("O:SPY251128C00675000", "eom"),
        ("O:SPXW251231C06800000", "quarterlys"),
        ("O:SPY251205C00675000", "weeklys"),
        ("O:VIX251217C00020000", "standard"),
        ("O:SPX260618C06800000", "weeklys"),
    ],
)
def test_a_label_is_of_the_date_not_of_the_contract(at: AT, symbol: str, label: str) -> None:
    contract = at("2025-12-15 11:00").market.contract(symbol)
    assert contract is not None
    assert expiration_type(contract) == label


def test_some_unknown_names_stand_apart_and_one_row_is_no_list(at: AT) -> None:
    tradier = at()
    some = tradier.json("quotes", symbols="SPY,NOPE,SPX,I:SPX")["quotes"]
    one = tradier.json("quotes", symbols="SPY,NOPE")["quotes"]
    none = tradier.json("quotes", symbols="NOPE,NADA")["quotes"]

    assert [row["symbol"] for row in some["quote"]] == ["SPY", "SPX"]
    assert some["unmatched_symbols"] == {"symbol": ["NOPE", "I:SPX"]}
    assert (one["quote"]["symbol"], one["unmatched_symbols"]) == ("SPY", {"symbol": "NOPE"})
    assert none == {"unmatched_symbols": {"symbol": ["NOPE", "NADA"]}}


def test_a_long_list_comes_in_a_form_and_in_its_order(at: AT) -> None:
    tradier = at()
    rows = tradier.chain("SPY", "2025-12-19")[:80]
    symbols = [row["symbol"] for row in rows] + ["SPY", "SPY251205C00675000"]
    answer = tradier.json("quotes", method="POST", symbols=",".join(symbols), greeks="true")

    assert [row["symbol"] for row in answer["quotes"]["quote"]] == symbols
    assert answer["quotes"]["quote"][0]["greeks"]["updated_at"]


def test_symbols_are_required(at: AT) -> None:
    assert at().refusal("quotes") == (400, "Invalid parameter, symbols: is required.")


def test_an_index_may_have_zeros_for_bid_and_ask(at: AT) -> None:
    spx = at(index_quotes="zero").quote("SPX")

    assert (spx["bid"], spx["ask"], spx["type"], spx["volume"]) == (0.0, 0.0, "index", 0)


def test_the_sandbox_is_a_quarter_of_an_hour_late(at: AT) -> None:
    late, then = at("2025-11-24 11:15", sandbox=True), at("2025-11-24 11:00")

    for symbol in ("SPY", "SPX", "SPY251219C00650000"):
        assert late.quote(symbol, greeks="true") == then.quote(symbol, greeks="true")


def test_the_range_of_a_year_leaves_today_out(at: AT) -> None:
    row = at().quote("SPY")
    market = at().market

    assert row["week_52_low"] < row["prevclose"] <= row["week_52_high"] * 1.001
    assert market.year_range("SPY", market.now_ns()) == (row["week_52_low"], row["week_52_high"])
    assert market.year_range("O:NONE", market.now_ns()) is None


def test_a_change_needs_a_close_before() -> None:
    assert change_of(1.0, None) == (None, None)
    assert change_of(1.0, 0.0) == (1.0, None)
    assert change_of(10.05, 10.54) == (-0.49, -4.65)
