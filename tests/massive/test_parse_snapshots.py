"""What a snapshot says of a symbol, and nothing that it does not say (W-76)."""

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.massive.parse_snapshots import (
    ChainPage,
    parse_chain,
    parse_option_snapshots,
    parse_quotes,
)
from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot, Quote, Trade
from onetape.provenance import Source

NOW_NS = 1_764_000_000_000_000_000
QUOTE_NS = 1_636_573_458_756_383_501
TRADE_NS = 1_675_280_958_783_136_801
DAY_NS = 1_636_520_400_000_000_000

DETAILS = {
    "contract_type": "call",
    "exercise_style": "american",
    "expiration_date": "2022-01-21",
    "shares_per_contract": 100,
    "strike_price": 150,
    "ticker": "O:AAPL220121C00150000",
}
DAY = {
    "change": 4.5,
    "change_percent": 6.76,
    "close": 120.73,
    "high": 120.81,
    "last_updated": DAY_NS,
    "low": 118.9,
    "open": 119.32,
    "previous_close": 119.12,
    "volume": 868,
    "vwap": 119.31,
}
LAST_QUOTE = {
    "ask": 120.3,
    "ask_exchange": 301,
    "ask_size": 4,
    "bid": 120.28,
    "bid_exchange": 302,
    "bid_size": 8,
    "last_updated": QUOTE_NS,
    "midpoint": 120.29,
    "timeframe": "REAL-TIME",
}
LAST_TRADE = {
    "conditions": [209],
    "exchange": 316,
    "price": 0.05,
    "sip_timestamp": TRADE_NS,
    "size": 2,
    "timeframe": "REAL-TIME",
}
UNDERLYING = {
    "change_to_break_even": 4.2,
    "last_updated": QUOTE_NS,
    "price": 147,
    "ticker": "AAPL",
    "timeframe": "DELAYED",
}
CHAIN_ROW: dict[str, Any] = {
    "break_even_price": 151.2,
    "day": DAY,
    "details": DETAILS,
    "fmv": 0.05,
    "greeks": {"delta": 1, "gamma": 0, "theta": 0.00229, "vega": 0},
    "implied_volatility": 5,
    "last_quote": LAST_QUOTE,
    "last_trade": LAST_TRADE,
    "open_interest": 1543,
    "underlying_asset": UNDERLYING,
}
INDEX_ROW: dict[str, Any] = {
    "last_updated": QUOTE_NS,
    "market_status": "regular_trading",
    "name": "Dow Jones Industrial Average",
    "session": {"change": -50.01, "change_percent": -1.45, "close": 3822.39, "high": 3834.41}
    | {"low": 3817.11, "open": 3827.38, "previous_close": 3872.4},
    "ticker": "I:DJI",
    "timeframe": "REAL-TIME",
    "type": "indices",
    "value": 3822.39,
}
STOCK_ROW: dict[str, Any] = {
    "last_minute": {"close": 20.5, "high": 20.6, "low": 20.4, "open": 20.4, "volume": 100},
    "last_quote": LAST_QUOTE | {"bid": 20.5, "ask": 20.6},
    "last_trade": LAST_TRADE | {"price": 20.55, "id": "71675577320245"},
    "market_status": "late_trading",
    "name": "Apple Inc.",
    "session": DAY | {"close": 20.4, "price": 20.55},
    "ticker": "AAPL",
    "type": "stocks",
}


def body(*rows: Any, **envelope: Any) -> bytes:
    return msgspec.json.encode({"status": "OK", "request_id": "r", "results": rows, **envelope})


def quote_of(row: dict[str, Any], **changes: Any) -> Quote:
    page = parse_quotes(body(row | changes), received_ns=NOW_NS)
    assert not page.faults
    [quote] = page.rows
    return quote


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def chain_of(*rows: Any, **envelope: Any) -> ChainPage:
    return parse_chain(body(*rows, **envelope), received_ns=NOW_NS)


def option_of(row: dict[str, Any], **changes: Any) -> OptionSnapshot:
    page = chain_of(row | changes)
    assert not page.faults
    [option] = page.rows
    return option


# ---- quotes ----


def test_a_stock_becomes_a_quote_with_all_it_has() -> None:
    assert quote_of(STOCK_ROW) == Quote(
        symbol="AAPL",
        event_ns=TRADE_NS,
        received_ns=NOW_NS,
        provider="massive",
        source=Source.REST,
        bid=20.5,
        ask=20.6,
        bid_size=8,
        ask_size=4,
        bid_exchange=302,
        ask_exchange=301,
        last=20.55,
        last_size=2,
        open=119.32,
        high=120.81,
        low=118.9,
        previous_close=119.12,
        change=4.5,
        change_percent=6.76,
        volume=868,
        vwap=119.31,
        market_status="after",
    )


def test_an_index_is_a_quote_with_its_value_as_the_last_price() -> None:
    assert quote_of(INDEX_ROW) == Quote(
        symbol="I:DJI",
        event_ns=QUOTE_NS,
        received_ns=NOW_NS,
        provider="massive",
        source=Source.REST,
        last=3822.39,
        open=3827.38,
        high=3834.41,
        low=3817.11,
        previous_close=3872.4,
        change=-50.01,
        change_percent=-1.45,
        market_status="open",
    )


def test_an_option_is_a_quote_too() -> None:
    row = without(CHAIN_ROW, "day") | {"ticker": "O:AAPL220121C00150000", "session": DAY}

    quote = quote_of(row)

    assert (quote.bid, quote.ask, quote.last) == (120.28, 120.3, 0.05)
    assert quote.volume == 868


def test_times_are_exact_to_the_nanosecond() -> None:
    assert quote_of(STOCK_ROW).event_ns == 1_675_280_958_783_136_801


@pytest.mark.parametrize(
    ("row", "changes", "event_ns"),
    [
        (STOCK_ROW, {}, TRADE_NS),
        (STOCK_ROW, {"last_trade": LAST_TRADE | {"sip_timestamp": 1}}, QUOTE_NS),
        (STOCK_ROW, {"last_quote": None}, TRADE_NS),
        (STOCK_ROW, {"last_trade": None}, QUOTE_NS),
        (STOCK_ROW, {"last_trade": None, "last_quote": None}, DAY_NS),
        (STOCK_ROW, {"last_trade": {"price": 2, "last_updated": 5}, "last_quote": None}, 5),
        (INDEX_ROW, {}, QUOTE_NS),
        (INDEX_ROW, {"last_updated": 0}, None),
        (INDEX_ROW, {"last_updated": None}, None),
        # a side that is not there tells no time
        (STOCK_ROW, {"last_quote": {"last_updated": NOW_NS, "bid": 0, "ask": 0}}, TRADE_NS),
        # nor does the row itself, for what is not its value
        (STOCK_ROW, {"last_trade": None, "last_quote": None, "session": {}}, None),
    ],
)
def test_the_time_is_the_newest_of_what_the_prices_came_with(
    row: dict[str, Any], changes: dict[str, Any], event_ns: int | None
) -> None:
    assert quote_of(row, **changes).event_ns == event_ns


@pytest.mark.parametrize(
    ("gone", "last", "size"),
    [
        ((), 20.55, 2),
        (("last_trade",), 20.56, None),
        (("last_trade", "price"), 20.4, None),
        (("last_trade", "session"), 20.5, None),
        (("last_trade", "session", "last_minute"), None, None),
    ],
)
def test_the_last_price_is_the_best_that_the_plan_includes(
    gone: tuple[str, ...], last: float | None, size: float | None
) -> None:
    session = without(DAY | {"close": 20.4, "price": 20.56}, *gone)
    row = without(STOCK_ROW | {"session": session}, *gone)

    quote = quote_of(row)

    assert (quote.last, quote.last_size) == (last, size)


def test_the_last_minute_tells_the_time_of_its_price() -> None:
    row = without(STOCK_ROW, "last_trade", "last_quote", "session")

    assert quote_of(row, last_minute={"close": 20.5, "last_updated": 7}).event_ns == 7


def test_zeros_are_not_prices() -> None:
    """W-76: before the first trade a day is all zeros, and so is a side without a quote."""
    zeros = dict.fromkeys(without(DAY, "previous_close", "last_updated"), 0)
    quote = quote_of(
        without(STOCK_ROW, "last_trade", "last_minute"),
        session=zeros | {"previous_close": 119.12},
        last_quote={"ask": 0, "ask_size": 0, "ask_exchange": 0, "bid": 0, "bid_size": 0},
    )

    assert (quote.bid, quote.bid_size, quote.bid_exchange) == (None, None, None)
    assert (quote.ask, quote.ask_size, quote.ask_exchange) == (None, None, None)
    assert (quote.open, quote.high, quote.low, quote.last, quote.vwap) == (None,) * 5
    assert (quote.change, quote.change_percent, quote.mid, quote.price) == (None,) * 4
    assert quote.previous_close == 119.12
    assert quote.volume == 0


def test_nobody_bids_for_an_option_and_that_is_known() -> None:
    """W-57: a zero bid is normal for an option, and not the same as no bid."""
    quote = option_of(CHAIN_ROW, last_quote=LAST_QUOTE | {"bid": 0, "bid_size": 0}).quote

    assert (quote.bid, quote.bid_size, quote.mid) == (0, 0, 60.15)
    lone = option_of(CHAIN_ROW, last_quote=LAST_QUOTE | {"bid": 0, "ask": 0}).quote
    assert (lone.bid, lone.ask, lone.mid) == (0, None, None)


def test_an_index_may_be_zero_or_below() -> None:
    session = {"open": 0, "high": 900, "low": -1000, "close": 0, "previous_close": 0, "change": 0}

    quote = quote_of(INDEX_ROW, ticker="I:TICK", value=0, session=session)

    assert (quote.last, quote.open, quote.low, quote.previous_close) == (0, 0, -1000, 0)
    assert (quote.change, quote.event_ns) == (0, QUOTE_NS)


def test_an_index_without_a_value_has_its_sessions_close() -> None:
    quote = quote_of(without(INDEX_ROW, "value"))

    assert (quote.last, quote.event_ns) == (3822.39, None)


def test_rows_with_nothing_in_them_are_quotes_of_nothing() -> None:
    assert quote_of({"ticker": "SPY"}) == Quote(
        symbol="SPY", event_ns=None, received_ns=NOW_NS, provider="massive", source=Source.REST
    )


@pytest.mark.parametrize(
    ("row", "changes", "delayed"),
    [
        (STOCK_ROW, {}, False),
        (STOCK_ROW, {"last_quote": LAST_QUOTE | {"timeframe": "DELAYED"}}, True),
        (STOCK_ROW, {"last_trade": LAST_TRADE | {"timeframe": "DELAYED"}}, False),
        (
            STOCK_ROW,
            {"last_quote": None, "last_trade": LAST_TRADE | {"timeframe": "DELAYED"}},
            True,
        ),
        (STOCK_ROW, {"last_quote": None, "last_trade": None}, False),
        (INDEX_ROW, {"timeframe": "DELAYED"}, True),
    ],
)
def test_delay_is_what_the_row_says_of_its_quote(
    row: dict[str, Any], changes: dict[str, Any], delayed: bool
) -> None:
    assert quote_of(row, **changes).delayed is delayed


@pytest.mark.parametrize(
    ("vendor", "ours"),
    [
        ("open", "open"),
        ("regular_trading", "open"),
        ("early_trading", "pre"),
        ("late_trading", "after"),
        ("closed", "closed"),
        ("halted_by_aliens", "halted_by_aliens"),
        (None, None),
    ],
)
def test_the_market_status_is_in_our_words(vendor: str | None, ours: str | None) -> None:
    assert quote_of(INDEX_ROW, market_status=vendor).market_status == ours


def test_what_was_simulated_says_so() -> None:
    page = parse_quotes(body(STOCK_ROW), received_ns=NOW_NS, simulated=True)
    chain = parse_chain(body(CHAIN_ROW), received_ns=NOW_NS, simulated=True)

    assert page.rows[0].simulated
    assert chain.rows[0].quote.simulated
    assert chain.rows[0].last_trade is not None
    assert chain.rows[0].last_trade.simulated


def test_a_symbol_that_failed_is_a_fault_and_the_others_have_their_quotes() -> None:
    """W-20 and the vendor's rows with an `error`."""
    page = parse_quotes(
        body(
            INDEX_ROW,
            {"error": "NOT_FOUND", "message": "Ticker not found.", "ticker": "APx"},
            {"error": "NOT_ENTITLED", "message": "Not entitled to this ticker.", "ticker": "APy"},
            {"value": 3.0},
            {"ticker": "I:BAD", "value": "3.0"},
            STOCK_ROW,
            next_url="https://v/next",
        ),
        received_ns=NOW_NS,
    )

    assert [row.symbol for row in page.rows] == ["I:DJI", "AAPL"]
    assert page.next_url == "https://v/next"
    assert {(one.symbol, one.error) for one in page.faults} == {
        ("APx", "not_found"),
        ("APy", "upstream_forbidden"),
        ("", "upstream_garbled"),
        ("I:BAD", "upstream_garbled"),
    }


# ---- options ----


def test_a_row_of_a_chain_becomes_a_snapshot_with_all_it_has() -> None:
    """Also what the vendor's own sample has wrong: a strike of nine digits in the ticker."""
    symbol = "O:AAPL211022C000150000"

    option = option_of(CHAIN_ROW, details=DETAILS | {"ticker": symbol})

    assert option == OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="AAPL",
            underlying="AAPL",
            expiration=date(2022, 1, 21),
            strike=150,
            contract_type=ContractType.CALL,
            exercise_style="american",
            shares_per_contract=100,
        ),
        quote=option.quote,
        last_trade=Trade(
            symbol=symbol,
            event_ns=TRADE_NS,
            received_ns=NOW_NS,
            provider="massive",
            source=Source.REST,
            price=0.05,
            size=2,
            exchange=316,
            conditions=(209,),
        ),
        greeks=Greeks(delta=1, gamma=0, theta=0.00229, vega=0, provider="massive"),
        implied_volatility=5,
        open_interest=1543,
        volume=868,
        break_even=151.2,
    )
    assert (option.quote.bid, option.quote.last, option.quote.vwap) == (120.28, 0.05, 119.31)
    assert option.quote.event_ns == TRADE_NS


@pytest.mark.parametrize("greeks", [{}, None])
def test_greeks_that_are_not_there_are_none(greeks: dict[str, float] | None) -> None:
    assert option_of(without(CHAIN_ROW, "greeks")).greeks is None
    assert option_of(CHAIN_ROW, greeks=greeks).greeks is None


def test_of_the_greeks_some_may_be_known() -> None:
    assert option_of(CHAIN_ROW, greeks={"delta": 0}).greeks == Greeks(delta=0, provider="massive")


@pytest.mark.parametrize("solved", [0, None])
def test_a_volatility_that_was_not_solved_is_none(solved: float | None) -> None:
    assert option_of(CHAIN_ROW, implied_volatility=solved).implied_volatility is None


def test_a_row_on_the_smallest_plan_has_neither_quote_nor_trade() -> None:
    option = option_of(without(CHAIN_ROW, "last_quote", "last_trade", "greeks"))

    assert option.last_trade is None
    assert (option.quote.bid, option.quote.last) == (None, 120.73)
    assert option.quote.event_ns == DAY_NS


def test_a_contract_that_has_not_traded_today_has_no_last_price() -> None:
    option = option_of(without(CHAIN_ROW, "last_trade"), day={"volume": 0})

    assert (option.quote.last, option.volume, option.quote.event_ns) == (None, 0, QUOTE_NS)


@pytest.mark.parametrize("missing", ["price", "size", "sip_timestamp"])
def test_a_print_that_lacks_what_makes_one_is_none(missing: str) -> None:
    assert option_of(CHAIN_ROW, last_trade=without(LAST_TRADE, missing)).last_trade is None


def test_the_vendors_word_for_the_underlying_stands_before_the_rule() -> None:
    weekly = DETAILS | {"ticker": "O:SPXW220121C04500000", "strike_price": 4500}
    told = option_of(CHAIN_ROW, details=weekly, underlying_asset={"ticker": "I:SPX"})
    untold = option_of(without(CHAIN_ROW, "underlying_asset"), details=weekly)
    bare = option_of(CHAIN_ROW, details=weekly, underlying_asset={"ticker": "SPX"})

    assert {one.contract.underlying for one in (told, untold, bare)} == {"I:SPX"}
    assert told.contract.root == "SPXW"


def test_the_root_of_an_adjusted_contract_keeps_its_digit() -> None:
    adjusted = DETAILS | {"ticker": "O:AAPL1211119C00085000"}

    assert option_of(CHAIN_ROW, details=adjusted).contract.root == "AAPL1"


@pytest.mark.parametrize(
    ("changes", "symbol", "reason"),
    [
        ({"details": None}, "", "without its terms"),
        ({"details": DETAILS | {"ticker": "AAPL"}}, "AAPL", "not an option"),
        ({"details": without(DETAILS, "ticker")}, "", "not an option"),
        ({"details": DETAILS | {"contract_type": "other"}}, DETAILS["ticker"], "'other'"),
        ({"details": DETAILS | {"strike_price": 0}}, DETAILS["ticker"], "> 0"),
        ({"details": DETAILS | {"expiration_date": "soon"}}, DETAILS["ticker"], "date"),
        ({"greeks": {"delta": "NaN"}}, DETAILS["ticker"], "`str`"),
        ({"error": "NOT_FOUND", "ticker": "O:X"}, "O:X", "NOT_FOUND"),
    ],
)
def test_a_row_that_is_no_option_is_told_of_and_left_out(
    changes: dict[str, Any], symbol: str, reason: str
) -> None:
    page = chain_of(CHAIN_ROW | changes, CHAIN_ROW)

    assert len(page.rows) == 1
    [fault] = page.faults
    assert fault.symbol == symbol
    assert reason in fault.message


def test_a_page_of_a_chain_tells_what_it_is_on() -> None:
    older = UNDERLYING | {"last_updated": QUOTE_NS - 1, "price": 146}
    page = chain_of(CHAIN_ROW | {"underlying_asset": older}, CHAIN_ROW, next_url="https://v/n")

    assert (page.underlying, page.underlying_price) == ("AAPL", 147)
    assert (page.underlying_event_ns, page.underlying_delayed) == (QUOTE_NS, True)
    assert page.next_url == "https://v/n"


def test_an_index_under_a_chain_has_a_value() -> None:
    on = {"ticker": "I:SPX", "value": 5985.1, "last_updated": 5, "timeframe": "REAL-TIME"}

    page = chain_of(CHAIN_ROW | {"underlying_asset": on})

    assert (page.underlying, page.underlying_price) == ("I:SPX", 5985.1)
    assert (page.underlying_event_ns, page.underlying_delayed) == (5, False)


@pytest.mark.parametrize(
    "on", [None, {"ticker": "AAPL"}, {"ticker": "AAPL", "price": 0, "last_updated": 5}]
)
def test_an_underlying_outside_the_plan_has_no_price(on: dict[str, Any] | None) -> None:
    page = chain_of(CHAIN_ROW | {"underlying_asset": on})

    assert (page.underlying, page.underlying_price) == ("AAPL", None)
    assert page.underlying_event_ns is None


def test_an_empty_chain_is_an_answer() -> None:
    assert chain_of() == ChainPage(rows=())


def test_the_snapshot_of_one_contract_is_a_page_of_one_row() -> None:
    one = msgspec.json.encode({"status": "OK", "request_id": "r", "results": CHAIN_ROW})

    assert parse_chain(one, received_ns=NOW_NS) == chain_of(CHAIN_ROW)


def test_one_contract_that_cannot_be_read_is_garbled() -> None:
    one = msgspec.json.encode({"status": "OK", "results": CHAIN_ROW | {"open_interest": "many"}})

    with pytest.raises(UpstreamGarbled, match="open_interest"):
        parse_chain(one, received_ns=NOW_NS)


def test_the_options_of_a_universal_snapshot_have_all_that_a_chain_has() -> None:
    row = without(CHAIN_ROW, "day") | {
        "ticker": DETAILS["ticker"],
        "session": DAY,
        "details": without(DETAILS, "ticker") | {"underlying_ticker": "AAPL"},
        "market_status": "open",
    }
    nope = {"ticker": "O:NOPE", "error": "NOT_FOUND"}

    page = parse_option_snapshots(body(row, STOCK_ROW, nope, INDEX_ROW), received_ns=NOW_NS)

    [option] = page.rows
    alike = option_of(CHAIN_ROW)
    assert option.contract == alike.contract
    assert option.greeks == alike.greeks
    assert option.last_trade == alike.last_trade
    assert (option.quote.last, option.volume) == (alike.quote.last, 868)
    assert option.quote.market_status == "open"
    assert [(one.symbol, one.error) for one in page.faults] == [("O:NOPE", "not_found")]


def test_rows_of_a_chain_share_what_they_have_in_common() -> None:
    """R275: a chain of 250 contracts takes at most 500 kB."""
    first, second = chain_of(CHAIN_ROW, CHAIN_ROW).rows

    assert first.contract.underlying is second.contract.underlying
    assert first.contract.root is second.contract.root
    assert first.contract.exercise_style is second.contract.exercise_style
    assert first.quote.symbol is first.contract.symbol


# ---- any bytes at all ----

GOLDEN = body(CHAIN_ROW, INDEX_ROW, STOCK_ROW)


@given(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255))
def test_a_flipped_byte_gives_models_or_our_error(at: int, byte: int) -> None:
    flipped = GOLDEN[:at] + bytes([byte]) + GOLDEN[at + 1 :]

    for parse in (parse_quotes, parse_chain, parse_option_snapshots):
        try:
            page = parse(flipped, received_ns=NOW_NS)
        except UpstreamGarbled:
            continue
        assert len(page.rows) <= 3


@given(st.integers(0, len(GOLDEN) - 1))
def test_a_body_cut_short_is_garbled(at: int) -> None:
    for parse in (parse_quotes, parse_chain, parse_option_snapshots):
        with pytest.raises(UpstreamGarbled):
            parse(GOLDEN[:at], received_ns=NOW_NS)
