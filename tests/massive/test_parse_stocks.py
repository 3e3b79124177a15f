"""How stocks stand in the vendor's second version: terse keys, zeros for what is not there."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.massive.parse_stocks import parse_stock_quotes
from onetape.model import Quote
from onetape.provenance import Source

NOW_NS = 1_764_000_000_000_000_000
QUOTE_NS = 1_605_195_918_507_251_701
TRADE_NS = 1_605_195_918_306_274_001

# The vendor's own sample, its times made uneven.
ROW: dict[str, Any] = {
    "day": {"c": 120.4229, "dv": "28727868.0", "h": 120.53, "l": 118.81, "o": 119.62}
    | {"v": 28727868, "vw": 119.725},
    "lastQuote": {"P": 120.47, "S": 4, "p": 120.46, "s": 8, "t": QUOTE_NS},
    "lastTrade": {"c": [14, 41], "ds": "236.0", "i": "4046", "p": 120.47, "s": 236}
    | {"t": TRADE_NS, "x": 10},
    "min": {"av": 28724441, "c": 120.4201, "h": 120.468, "l": 120.37, "n": 762, "o": 120.435}
    | {"t": 1684428720000, "v": 270796, "vw": 120.4129},
    "prevDay": {"c": 119.49, "h": 119.63, "l": 116.44, "o": 117.19, "v": 110597265}
    | {"vw": 118.4998},
    "ticker": "AAPL",
    "todaysChange": 0.98,
    "todaysChangePerc": 0.82,
    "updated": TRADE_NS + 5,
}
NOT_YET = {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0}


def body(*rows: Any) -> bytes:
    return msgspec.json.encode({"status": "OK", "count": len(rows), "tickers": rows})


def quote_of(row: dict[str, Any], **changes: Any) -> Quote:
    page = parse_stock_quotes(body(row | changes), received_ns=NOW_NS)
    assert not page.faults
    [quote] = page.rows
    return quote


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_a_row_becomes_a_quote_with_all_it_has() -> None:
    assert quote_of(ROW) == Quote(
        symbol="AAPL",
        event_ns=QUOTE_NS,
        received_ns=NOW_NS,
        provider="massive",
        source=Source.REST,
        bid=120.46,
        ask=120.47,
        bid_size=8,
        ask_size=4,
        last=120.47,
        last_size=236,
        open=119.62,
        high=120.53,
        low=118.81,
        previous_close=119.49,
        change=0.98,
        change_percent=0.82,
        volume=28727868,
        vwap=119.725,
    )


def test_one_ticker_asked_for_alone_is_a_page_of_one() -> None:
    one = msgspec.json.encode({"status": "OK", "request_id": "r", "ticker": ROW})

    page = parse_stock_quotes(one, received_ns=NOW_NS, simulated=True)

    assert [(row.symbol, row.simulated) for row in page.rows] == [("AAPL", True)]


@pytest.mark.parametrize(
    ("gone", "last", "event_ns"),
    [
        (("lastQuote",), 120.47, TRADE_NS),
        (("lastTrade",), 120.4201, QUOTE_NS),
        (("lastTrade", "lastQuote"), 120.4201, TRADE_NS + 5),
        (("lastTrade", "lastQuote", "min"), 120.4229, TRADE_NS + 5),
        (("lastTrade", "lastQuote", "min", "updated"), 120.4229, None),
        (("lastTrade", "min", "day"), None, QUOTE_NS),
    ],
)
def test_without_trades_in_the_plan_the_last_price_is_the_newest_bars(
    gone: tuple[str, ...], last: float | None, event_ns: int | None
) -> None:
    quote = quote_of(without(ROW, *gone))

    assert (quote.last, quote.event_ns) == (last, event_ns)


def test_before_the_first_trade_there_are_no_prices_of_today() -> None:
    """W-76: the vendor clears its rows before the market opens, to zeros."""
    cleared = without(ROW, "lastTrade") | {
        "day": NOT_YET,
        "min": NOT_YET | {"t": 0},
        "lastQuote": {"P": 0, "S": 0, "p": 0, "s": 0, "t": 0},
        "todaysChange": 0,
        "todaysChangePerc": 0,
        "updated": 0,
    }

    quote = quote_of(cleared)

    assert quote.previous_close == 119.49
    assert quote.volume == 0
    gone = ("bid", "ask", "bid_size", "last", "open", "high", "low", "vwap", "change", "event_ns")
    assert [getattr(quote, name) for name in gone] == [None] * len(gone)


def test_one_side_may_be_missing() -> None:
    quote = quote_of(ROW, lastQuote={"P": 120.5, "S": 1, "p": 0, "s": 0, "t": QUOTE_NS})

    assert (quote.bid, quote.bid_size, quote.ask, quote.mid) == (None, None, 120.5, None)
    assert quote.event_ns == QUOTE_NS


def test_a_row_that_cannot_be_read_is_told_of_and_left_out() -> None:
    page = parse_stock_quotes(
        body(ROW, ROW | {"ticker": "BAD", "day": {"c": "12"}}, {"day": {}}), received_ns=NOW_NS
    )

    assert [row.symbol for row in page.rows] == ["AAPL"]
    assert [one.symbol for one in page.faults] == ["BAD", ""]


def test_nobody_known_is_an_empty_page() -> None:
    assert parse_stock_quotes(body(), received_ns=NOW_NS).rows == ()


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_flipped_byte_gives_quotes_or_our_error(at: int, byte: int) -> None:
    golden = body(ROW)
    flipped = golden[:at] + bytes([byte]) + golden[at + 1 :]

    try:
        page = parse_stock_quotes(flipped, received_ns=NOW_NS)
    except UpstreamGarbled:
        return
    assert len(page.rows) <= 1
