"""A row that cannot be read costs itself, not the page; an outage is never an empty answer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import BY_CODE, UpstreamGarbled
from onetape.massive.parse_pages import (
    Envelope,
    Ms,
    Ns,
    Reader,
    SomeNs,
    decode,
    garbled,
    refused,
    sort_out,
    whole,
)


class Row(msgspec.Struct):
    ticker: str
    price: float | None = None


reader = Reader(msgspec.json.Decoder(Envelope[Row]), msgspec.json.Decoder(Row))
A, B = Row("A", 1.0), Row("B", 2.0)
A_RAW, B_RAW = b'{"ticker":"A","price":1}', b'{"ticker":"B","price":2.0}'


def page(*rows: bytes) -> bytes:
    return b'{"status":"OK","results":[' + b",".join(rows) + b'],"next_url":"https://v/p?cursor=c"}'


def test_a_page_is_its_rows_and_where_the_next_one_is() -> None:
    wire = reader.read(page(A_RAW, B_RAW))

    assert wire.rows == [A, B]
    assert wire.faults == []
    assert wire.next_url == "https://v/p?cursor=c"


@pytest.mark.parametrize(
    "body",
    [
        b'{"results":[%b],"status":"OK"}' % A_RAW,
        b'{"tickers":[%b],"status":"OK"}' % A_RAW,
        b'{"values":[%b],"status":"OK"}' % A_RAW,
        b'{"results":%b,"status":"OK"}' % A_RAW,
        b'{"ticker":%b,"status":"OK"}' % A_RAW,
        b'{"results":null,"ticker":%b,"status":"OK"}' % A_RAW,
    ],
)
def test_rows_are_found_under_each_of_the_vendors_names_and_alone(body: bytes) -> None:
    assert reader.read(body).rows == [A]


@pytest.mark.parametrize(
    ("bad", "symbol", "reason"),
    [
        (b'{"ticker":"X","price":"1.0"}', "X", "got `str`"),
        (b'{"ticker":"X","price":true}', "X", "got `bool`"),
        (b'{"ticker":"X","price":[1]}', "X", "got `array`"),
        (b'{"ticker":"X","price":1e999}', "X", "out of range"),
        (b'{"ticker":"X","price":NaN}', "X", "got `str`"),
        (b'{"ticker":"X","price":-Infinity}', "X", "got `str`"),
        (b'{"details":{"ticker":"O:X"},"price":1}', "O:X", "missing required field `ticker`"),
        (b'{"ticker":7}', "", "got `int`"),
        (b'{"ticker":"X\xff"}', "", "utf-8"),
        (b"null", "", "got `null`"),
        (b"3", "", "got `int`"),
        (b'"row"', "", "got `str`"),
        (b"[]", "", "got `array`"),
    ],
)
def test_a_row_that_cannot_be_read_is_a_fault_and_the_others_stay(
    bad: bytes, symbol: str, reason: str
) -> None:
    wire = reader.read(page(A_RAW, bad, B_RAW))

    assert wire.rows == [A, B]
    assert wire.next_url == "https://v/p?cursor=c"
    [fault] = wire.faults
    assert (fault.symbol, fault.error) == (symbol, "upstream_garbled")
    assert reason in fault.message


def test_a_fault_of_a_row_without_a_name_is_of_the_symbol_that_was_asked_for() -> None:
    [fault] = reader.read(page(b'{"price":1}'), symbol="SPY").faults

    assert fault.symbol == "SPY"


def test_words_that_look_like_no_numbers_stay_words() -> None:
    wire = reader.read(page(b'{"ticker":"NaN","price":1}', b'{"ticker":"a \\"NaN","price":NaN}'))

    assert wire.rows == [Row("NaN", 1.0)]
    assert [fault.symbol for fault in wire.faults] == ['a "NaN']


def test_the_ticker_of_the_page_survives_a_bad_row() -> None:
    body = b'{"ticker":"I:SPX","results":[3],"status":"OK"}'

    assert reader.read(body).ticker == "I:SPX"


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"OK","results":[]}',
        b'{"status":"OK","results":null}',
        b'{"status":"OK","ticker":"I:SPX","queryCount":0,"resultsCount":0}',
        b'{"status":"DELAYED"}',
    ],
)
def test_no_rows_and_no_complaint_is_an_empty_page(body: bytes) -> None:
    wire = reader.read(body)

    assert (wire.rows, wire.faults) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>502 Bad Gateway</html>",
        b'{"status":"OK","results":[',
        b'{"status":"OK","results":"none"}',
        b'{"status":"OK","results":3}',
        b'{"status":"OK","results":{"price":1}}',
        b'{"status":"OK","results":[],"next_url":5}',
        b'{"status":"OK","results":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"status":"OK","results":[{"ticker":"A","price":NaN}',
        b"{}",
        b'{"status":"ERROR","request_id":"r","error":"No."}',
        b'{"status":"ERROR","error":"No.","results":"none"}',
        b'{"status":"NOT_AUTHORIZED","message":"Not entitled."}',
        b'{"status":"OK","error":"half of it failed"}',
    ],
)
def test_what_is_no_answer_is_never_an_empty_one(body: bytes) -> None:
    """W-75: a refusal or garbage that came as a 200 does not pass for "nothing there"."""
    with pytest.raises(UpstreamGarbled):
        reader.read(body)


def test_the_vendors_reason_is_told_in_short() -> None:
    body = msgspec.json.encode({"status": "ERROR", "error": "why " * 1000})

    with pytest.raises(UpstreamGarbled, match="has no rows: why") as caught:
        reader.read(body)
    assert len(str(caught.value)) < 300


def test_a_nested_page_need_not_say_that_all_is_well() -> None:
    assert reader.read(b'{"underlying":{}}', may_be_bare=True).rows == []


class Times(msgspec.Struct):
    at_ns: Ns | None = None
    must_ns: SomeNs = 1
    at_ms: Ms = 1


@pytest.mark.parametrize(
    "time",
    [
        {"at_ns": -1},
        {"at_ns": 2**63},
        {"at_ns": 1.5},
        {"at_ns": "2025-11-24"},
        {"must_ns": 0},
        {"at_ms": 0},
        {"at_ms": 1_764_000_000_000_000},  # microseconds
    ],
)
def test_times_that_no_market_can_have_are_refused(time: Any) -> None:
    with pytest.raises(UpstreamGarbled):
        decode(msgspec.json.Decoder(Times), msgspec.json.encode(time))


@pytest.mark.parametrize(
    ("code", "read"),
    [(301, 301), (301.0, 301), (2**53 + 1, 2**53 + 1), (301.5, None), (None, None)],
)
def test_a_code_is_an_integer_however_it_is_written(code: float | None, read: int | None) -> None:
    assert whole(code) == read
    assert type(whole(code)) is type(read)


def test_a_row_says_itself_why_it_is_none() -> None:
    assert refused("X", "NOT_FOUND", "Ticker not found.").error == "not_found"
    assert refused("X", "NOT_ENTITLED", None).error == "upstream_forbidden"
    unknown = refused("X", "SOMETHING_NEW", None)
    assert (unknown.error, unknown.message) == ("upstream_down", "SOMETHING_NEW")
    assert {"not_found", "upstream_forbidden", "upstream_down"} <= BY_CODE.keys()


def test_models_and_faults_are_sorted_out_in_order() -> None:
    fault = garbled("X", "no price")
    faults = [garbled("W", "first")]

    assert sort_out([1, fault, 2], faults) == (1, 2)
    assert [one.symbol for one in faults] == ["W", "X"]


prices = st.none() | st.floats(-1e9, 1e9)
wrong = st.sampled_from(["1", True, [1], {"is": 1}])
good_rows = st.fixed_dictionaries({"ticker": st.just("G"), "price": prices})
bad_rows = st.fixed_dictionaries({"ticker": st.just("W"), "price": wrong})
no_rows = st.none() | st.integers() | st.text(max_size=3)


@given(st.lists(good_rows | bad_rows | no_rows, max_size=8))
def test_every_row_is_either_kept_or_told_of(rows: list[Any]) -> None:
    known: list[Any] = [row for row in rows if isinstance(row, dict)]
    good = [row["price"] for row in known if row["ticker"] == "G"]

    wire = reader.read(msgspec.json.encode({"status": "OK", "results": rows}))

    assert [row.price for row in wire.rows] == good
    assert len(wire.rows) + len(wire.faults) == len(rows)
