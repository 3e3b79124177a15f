import contextlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import formatdate
from enum import Enum, IntEnum, StrEnum
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidRequest
from onetape.massive.wire_rest import (
    TTL,
    Endpoint,
    ParamValue,
    decode_cursor,
    encode_cursor,
    endpoint_class,
    error_body,
    error_text,
    next_url_of,
    parse_retry_after,
    query_of,
    request_id_of,
    rewrite_next_url,
)

NOW_NS = 1_764_000_000_000_000_000
ORIGIN = "https://gateway.example:8443"


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/marketstatus/now", "market_status"),
        ("/v1/marketstatus/upcoming", "market_holidays"),
        ("/v3/snapshot", "snapshot"),
        ("/v1/summaries", "snapshot"),
        ("/v2/snapshot/locale/global/markets/crypto/tickers", "snapshot"),
        ("/v3/snapshot/options/I:SPX", "options_chain"),
        ("/v3/snapshot/options/I%3ASPX", "options_chain"),
        ("/v3/snapshot/options/SPY/O:SPY251219C00650000", "option_snapshot"),
        ("/v3/snapshot/indices", "indices_snapshot"),
        ("/v2/snapshot/locale/us/markets/stocks/tickers", "stocks_snapshot"),
        ("/v2/snapshot/locale/us/markets/stocks/tickers/AAPL", "stocks_snapshot"),
        ("/v2/snapshot/locale/us/markets/stocks/gainers", "stocks_snapshot"),
        ("/v3/reference/options/contracts", "contracts"),
        ("/v3/reference/options/contracts/O:SPY251219C00650000", "contract"),
        (
            "/v2/aggs/ticker/O:SPY251219C00650000/range/5/minute/2025-01-02/1735900000000",
            "aggregates",
        ),
        ("/v2/aggs/ticker/I:NDX/prev", "previous_close"),
        ("/v2/aggs/grouped/locale/us/market/stocks/2025-01-02", "grouped_daily"),
        ("/v1/open-close/I:SPX/2025-01-02", "open_close"),
        ("/v1/indicators/macd/I:NDX", "indicators"),
        ("/v3/trades/O:SPY251219C00650000", "trades"),
        ("/options/v3/trades/O:SPY251219C00650000", "trades"),
        ("/v3/quotes/AAPL", "quotes"),
        ("/options/v3/quotes/O:SPY251219C00650000", "quotes"),
        ("/v2/last/trade/AAPL", "last_trade"),
        ("/v1/last/crypto/BTC/USD", "last_trade"),
        ("/v2/last/nbbo/AAPL", "last_quote"),
        ("/v1/last_quote/currencies/EUR/USD", "last_quote"),
        ("/v3/reference/tickers", "tickers"),
        ("/v3/reference/tickers/AAPL", "ticker"),
        ("/v3/reference/tickers/types", "reference"),
        ("/v3/reference/exchanges", "exchanges"),
        ("/options/v1/exchanges", "exchanges"),
        ("/v3/reference/conditions", "conditions"),
        ("/v3/reference/splits", "reference"),
        ("/vX/reference/financials", "reference"),
        ("/v2/reference/news", "reference"),
        ("/v1/related-companies/AAPL", "reference"),
        ("/futures/v1/aggs/ESU5", "other"),
        ("/v1/conversion/EUR/USD", "other"),
        ("", "other"),
        ("/", "other"),
    ],
)
def test_every_documented_path_has_its_endpoint_class(path: str, endpoint: str) -> None:
    assert endpoint_class(path) == Endpoint(endpoint)


@given(st.text())
def test_any_path_has_an_endpoint_class(path: str) -> None:
    assert endpoint_class(path) in Endpoint


def test_every_endpoint_has_a_time_to_live_and_live_prices_are_never_kept() -> None:
    """C11, R98-R103."""
    assert set(TTL) == set(Endpoint)
    assert TTL[Endpoint.CONTRACTS].fresh_s == TTL[Endpoint.CONTRACT].fresh_s == 900
    assert TTL[Endpoint.AGGREGATES].fresh_s == TTL[Endpoint.INDICATORS].fresh_s == 60
    assert TTL[Endpoint.MARKET_HOLIDAYS].fresh_s == 86_400
    assert TTL[Endpoint.OPTIONS_CHAIN].fresh_s == 10
    assert TTL[Endpoint.MARKET_STATUS].fresh_s == 10
    for live in ("trades", "quotes", "last_trade", "last_quote", "indices_snapshot", "snapshot"):
        assert TTL[Endpoint(live)] == (0, 0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("12", 12.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("soon", None),
        (formatdate(NOW_NS / 1e9 + 30, usegmt=True), 30.0),
        (formatdate(NOW_NS / 1e9 - 30, usegmt=True), 0.0),
        (formatdate(NOW_NS / 1e9 + 30), 30.0),
        ("Wed, 99 Foo 2025 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    """R85, W-16."""
    assert parse_retry_after(value, NOW_NS) == seconds


@given(st.text(max_size=40))
def test_retry_after_never_raises(value: str) -> None:
    seconds = parse_retry_after(value, NOW_NS)
    assert seconds is None or 0 <= seconds < float("inf")


PAGE = b"https://api.massive.com/v3/quotes/O:SPY?cursor=YXA9"
OURS = b"https://gateway.example:8443/v3/quotes/O:SPY?cursor=YXA9"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"next_url":"%s","request_id":"a","results":[{"x":1}],"status":"OK"}', True),
        (b'{"status":"OK","request_id":"a","results":[{"x":1}],"next_url":"%s"}', True),
        (
            b'{"results":[{"x":[1,{}]}],"next_url":"%s","request_id":"a","count":-1.5e3,"d":null}\n',
            True,
        ),
        (b'{"results":[{"x":1}],"next_url":"%s","extra":{"y":[2]}}', True),
        (b' { "results" : [ ] ,\n "next_url" : "%s" ,\t"extra":{} } ', True),
        (b'{"next_url":"%s"}', True),
        (b'{"results":[{"next_url":"%s"}],"status":"OK"}', False),
        (b'{"results":{"next_url":"%s"}}', False),
        (b'{"results":[{"next_url":"%s"}],"next_url":null}', False),
        (b'{"results":[{"next_url":"%s"}],"next_url":5,"z":[]}', False),
        (b'{"text":"\\"next_url\\":\\"%s\\""}', False),
        (b'{"text":"a,\\"next_url\\":\\"%s","z":1}', False),
        (b'{"a":["next_url","%s"]}', False),
        (b'{"next_url":"/v3/relative","a":"%s"}', False),
        (b'["next_url","%s"]', False),
        (b'[{"next_url":"%s"}]', False),
        (b'see {"next_url":"%s"}', False),
        (b'{"next_url":"%s', False),
        (b'{"a":{},"next_url":"%s","b":{}', False),
        (b'{"a":{},"a":[1,2,3],"next_url":"%s","b":{}}', False),
        (b"404 page not found", False),
        (b"<html>502</html>", False),
        (b"", False),
    ],
)
def test_only_the_top_level_next_url_is_rewritten(body: bytes, expected: bool) -> None:
    body = body.replace(b"%s", PAGE)

    rewritten = rewrite_next_url(body, origin=ORIGIN)

    assert rewritten == (body.replace(PAGE, OURS) if expected else body)


def test_a_nested_next_url_beside_a_real_one_stays() -> None:
    body = b'{"results":[{"next_url":"%s"}],"next_url":"%s","z":[{"next_url":"%s"}]}'
    body = body.replace(b"%s", PAGE)

    rewritten = rewrite_next_url(body, origin=ORIGIN)

    assert rewritten.count(PAGE) == 2
    assert rewritten.index(OURS) == body.index(b',"next_url":"') + len(b',"next_url":"')


def test_escapes_in_the_address_stay_as_the_vendor_wrote_them() -> None:
    body = rb'{"next_url":"https:\/\/api.polygon.io\/v2\/aggs\/x?cursor=a\u0026b","s":[]}'

    rewritten = rewrite_next_url(body, origin="http://127.0.0.1:9/", prefix="/api/massive/")

    assert rewritten == (
        rb'{"next_url":"http://127.0.0.1:9/api/massive\/v2\/aggs\/x?cursor=a\u0026b","s":[]}'
    )
    assert next_url_of(rewritten) == "http://127.0.0.1:9/api/massive/v2/aggs/x?cursor=a&b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["next_url", "request_id"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    page=st.dictionaries(st.text() | st.sampled_from(["next_url", "a"]), json_values, max_size=5),
    address=st.none() | st.text(),
    spaced=st.booleans(),
)
def test_rewriting_changes_the_top_level_next_url_and_nothing_else(
    page: dict[str, object], address: str | None, spaced: bool
) -> None:
    if address is not None:
        page = {**page, "next_url": f"https://api.massive.com/{address}"}
    body = msgspec.json.encode(page)
    body = msgspec.json.format(body, indent=2) if spaced else body

    rewritten = msgspec.json.decode(rewrite_next_url(body, origin=ORIGIN, prefix="/p"))

    if address is not None:
        page["next_url"] = f"{ORIGIN}/p/{address}"
    assert rewritten == page


@given(st.binary() | st.text().map(str.encode))
def test_bodies_that_are_not_pages_come_back_as_they_are(body: bytes) -> None:
    assert rewrite_next_url(body, origin=ORIGIN) == body


@given(cut=st.integers(0, 200))
def test_no_truncation_raises(cut: int) -> None:
    body = b'{"results":[{"x":1}],"next_url":"%s","request_id":"a","e":{}}'.replace(b"%s", PAGE)

    rewrite_next_url(body[:cut], origin=ORIGIN)
    request_id_of(body[:cut])
    error_text(body[:cut])


@pytest.mark.parametrize("tail", [b'],"next_url":"https://a.b/c","request_id":"r"}', b'],"z":1}'])
def test_a_huge_body_is_searched_not_built(tail: bytes) -> None:
    row = b'{"ask_price":282,"bid_price":277.5,"sequence_number":789539218},'
    body = b'{"results":[' + row * 200_000 + b"{}" + tail
    started = time.perf_counter()

    rewrite_next_url(body, origin=ORIGIN)

    searched_s = time.perf_counter() - started
    started = time.perf_counter()
    msgspec.json.decode(body)
    assert searched_s < (time.perf_counter() - started) / 3


def test_the_request_id_is_found_wherever_it_stands() -> None:
    assert request_id_of(b'{"request_id":"6a7e","results":[]}') == "6a7e"
    assert request_id_of(b'{"results":[],"request_id":"6a7e"}') == "6a7e"
    assert request_id_of(b'{"results":[],"request_id":"6a7e","z":[]}') == "6a7e"
    assert request_id_of(b'[{"date":"2020-11-26"}]') is None
    assert request_id_of(b'{"request_id":"\\ud800"}') is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"status":"ERROR","request_id":"a","error":"Unknown API Key"}', "Unknown API Key"),
        (b'{"status":"NOT_FOUND","message":"Ticker not found."}', "Ticker not found."),
        (b'{"error":"why","message":"other"}', "why"),
        (b'{"count":1}', '{"count":1}'),
        (b'{"error":{"code":1}}', '{"error":{"code":1}}'),
        (b"404 page not found\n", "404 page not found"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 9999, "x" * 500),
        (b"", ""),
    ],
)
def test_the_text_of_an_error_is_its_error_else_its_message_else_the_body(
    body: bytes, text: str
) -> None:
    """Massive API 2.4."""
    assert error_text(body) == text


def test_error_bodies_have_the_vendors_shape() -> None:
    assert error_body("ERROR", "Unknown API Key", request_id="ab") == (
        b'{"status":"ERROR","request_id":"ab","error":"Unknown API Key"}'
    )
    assert error_body("NOT_AUTHORIZED", "no", request_id="ab", code="token_expired") == (
        b'{"status":"NOT_AUTHORIZED","request_id":"ab","message":"no","code":"token_expired"}'
    )


def test_cursors_read_as_the_vendors() -> None:
    assert decode_cursor("bGltaXQ9MiZzb3J0PWFzYw") == "limit=2&sort=asc"
    assert encode_cursor("limit=2&sort=asc") == "bGltaXQ9MiZzb3J0PWFzYw"


@given(st.text())
def test_every_cursor_comes_back(query: str) -> None:
    cursor = encode_cursor(query)
    assert re.fullmatch(r"[\w-]*", cursor)
    assert decode_cursor(cursor) == query


@given(st.text())
def test_a_foreign_cursor_is_refused_or_read(cursor: str) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_cursor(cursor)


# questions


class Side(StrEnum):
    CALL = "call"


class OldSide(str, Enum):  # noqa: UP042 - what old code passes
    PUT = "put"


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"b": 1, "a": 2}, "a=2&b=1"),
        ({"a": None, "b": ""}, "b="),
        ({"adjusted": True, "z": False}, "adjusted=true&z=false"),
        ({"strike_price.gte": 650.0, "lte": 650.5}, "lte=650.5&strike_price.gte=650"),
        ({"ticker.any_of": ["O:SPY1", "I:SPX"]}, "ticker.any_of=O:SPY1,I:SPX"),
        ({"a": ("x", 1, True)}, "a=x,1,true"),
        ({"a": {"c", "b"}}, "a=b,c"),
        ({"expiration_date": date(2025, 12, 19)}, "expiration_date=2025-12-19"),
        ({"t": datetime(2025, 12, 19, 14, 30, tzinfo=UTC)}, "t=2025-12-19T14:30:00Z"),
        (
            {"t": datetime(2025, 12, 19, 9, 30, tzinfo=timezone(timedelta(hours=-5)))},
            "t=2025-12-19T14:30:00Z",
        ),
        ({"a": Side.CALL, "b": OldSide.PUT, "c": Number.ONE}, "a=call&b=put&c=1"),
        ({"a b": "c&d=e f+g%h/é#?*"}, "a%20b=c%26d%3De%20f%2Bg%25h/%C3%A9%23%3F%2A"),
        ({"n": -0.0, "m": 1e22}, f"m={10**22}&n=0"),
    ],
)
def test_parameters_are_encoded_in_one_way(params: Mapping[str, ParamValue], query: str) -> None:
    """R80, W-26."""
    assert query_of(params) == query


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [],
        (),
        set[str](),
        ["a", ""],
        ["a,b"],
        "\ud800",
        datetime(2025, 1, 1),  # noqa: DTZ001 - the fault
    ],
)
def test_a_parameter_that_cannot_be_meant_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        query_of({"a": value})


texts = st.text(st.characters(codec="utf-8"), max_size=6)
scalars = st.one_of(texts, st.integers(), st.booleans(), st.dates())


@given(st.dictionaries(texts, st.none() | scalars, max_size=6), st.randoms())
def test_a_query_is_the_same_for_every_order_and_says_what_was_meant(
    params: dict[str, ParamValue], random: Any
) -> None:
    """R80, W-26."""
    names = list(params)
    random.shuffle(names)
    query = query_of(params)

    assert query == query_of({name: params[name] for name in names})
    assert query.isascii()
    read = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    assert set(read) == {name for name, value in params.items() if value is not None}
    for name, value in params.items():
        if isinstance(value, str):
            assert read[name] == value
