"""Answers against the vendor's own schema, reduced to types and required keys.

`tests/data/massive_rest_schemas.json` is taken from the vendor's OpenAPI file; each
line is the 200 body of one endpoint. Two slips of that file are mended in it: an empty
schema (`mstarc`) and an integer that is a price (`preMarket`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

SCHEMAS: Final[Mapping[str, Any]] = msgspec.json.decode(
    (Path(__file__).parents[2] / "data" / "massive_rest_schemas.json").read_bytes()
)
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
NEWER: Final = frozenset(
    {
        # Keys that newer copies of the vendor's file have, its samples, or its live answers.
        "T",
        "ask_exchange",
        "bid_exchange",
        "count",
        "fmv_last_updated",
        "last_minute",
        "next_url",
        "request_id",
        "sequence_number",
        "underlying_ticker",
    }
)
SPY: Final = "/v3/snapshot/options/SPY?expiration_date.lte=2025-11-26&limit=250"
AGGS: Final = "range/1/hour/2025-11-20/2025-11-21"
STOCKS: Final = "/v2/snapshot/locale/us/markets/stocks"

URLS: Final = {
    "marketstatus-now": "/v1/marketstatus/now",
    "marketstatus-upcoming": "/v1/marketstatus/upcoming",
    "snapshot": "/v3/snapshot?type=stocks&limit=250",
    "snapshot-indices": "/v3/snapshot/indices?limit=250",
    "stocks-tickers": f"{STOCKS}/tickers",
    "stocks-ticker": f"{STOCKS}/tickers/AAPL",
    "stocks-movers": f"{STOCKS}/losers",
    "contracts": "/v3/reference/options/contracts?limit=1000",
    "aggs-stock": f"/v2/aggs/ticker/SPY/{AGGS}",
    "aggs-index": f"/v2/aggs/ticker/I:SPX/{AGGS}",
    "prev-stock": "/v2/aggs/ticker/SPY/prev",
    "prev-index": "/v2/aggs/ticker/I:SPX/prev",
    "grouped": "/v2/aggs/grouped/locale/us/market/stocks/2025-11-20",
    "open-close-stock": "/v1/open-close/SPY/2025-11-20",
    "open-close-index": "/v1/open-close/I:SPX/2025-11-20",
    "sma": "/v1/indicators/sma/SPY?expand_underlying=true",
    "ema": "/v1/indicators/ema/SPY?window=5&expand_underlying=true",
    "rsi": "/v1/indicators/rsi/SPY",
    "macd": "/v1/indicators/macd/SPY",
    "trades-stock": "/v3/trades/SPY",
    "quotes-stock": "/v3/quotes/SPY",
    "last-trade-stock": "/v2/last/trade/SPY",
    "last-nbbo": "/v2/last/nbbo/SPY",
    "tickers": "/v3/reference/tickers",
    "ticker": "/v3/reference/tickers/AAPL",
    "ticker-types": "/v3/reference/tickers/types",
    "exchanges": "/v3/reference/exchanges",
    "conditions": "/v3/reference/conditions?limit=1000",
    "summaries": "/v1/summaries?ticker.any_of=SPY,AAPL,NONE",
    "splits": "/v3/reference/splits",
    "dividends": "/v3/reference/dividends",
    "events": "/vX/reference/tickers/AAPL/events",
    "news": "/v2/reference/news",
    "related": "/v1/related-companies/AAPL",
}
OPTION_URLS: Final = {
    "snapshot": "/v3/snapshot?ticker.any_of={}",
    "chain-contract": "/v3/snapshot/options/SPY/{}",
    "contract": "/v3/reference/options/contracts/{}",
    "aggs-option": "/v2/aggs/ticker/{}/" + AGGS,
    "prev-option": "/v2/aggs/ticker/{}/prev",
    "open-close-option": "/v1/open-close/{}/2025-11-21",
    "trades-option": "/v3/trades/{}",
    "quotes-option": "/v3/quotes/{}",
    "last-trade-option": "/v2/last/trade/{}",
    "summaries": "/v1/summaries?ticker.any_of={}",
}


def is_of(value: object, kind: str) -> bool:
    """Whether a JSON value has the type; unlike Python, `true` is no number."""
    return isinstance(value, TYPES[kind]) and isinstance(value, bool) is (kind == "boolean")


def problems(schema: Mapping[str, Any], value: Any, at: str = "") -> Iterator[str]:
    """Yield where a value departs from its schema."""
    if not is_of(value, schema["type"]):
        yield f"{at}: {value!r} is not of type {schema['type']}"
    elif schema["type"] == "object":
        yield from _object_problems(schema, value, at)
    elif schema["type"] == "array":
        for place, item in enumerate(value):
            yield from problems(schema["items"], item, f"{at}[{place}]")
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not one of {schema['enum']}"


def _object_problems(schema: Mapping[str, Any], value: dict[str, Any], at: str) -> Iterator[str]:
    known = schema.get("properties")
    if known is None:  # a free object
        return
    yield from (
        f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value
    )
    for name, item in value.items():
        if name in known:
            yield from problems(known[name], item, f"{at}.{name}")
        elif name not in NEWER:
            yield f"{at}.{name} is unknown"


@pytest.mark.parametrize("name", URLS)
def test_an_answer_keeps_to_the_vendors_schema(rest: Any, name: str) -> None:
    assert list(problems(SCHEMAS[name], rest.json(URLS[name]))) == []


@pytest.fixture(scope="module")
def traded(rest: Any) -> str:
    """The option that traded most today and before, near the money."""
    rows = rest.rows(
        "/v3/snapshot/options/SPY?expiration_date.gte=2025-12-01&expiration_date.lte=2025-12-20"
        "&strike_price.gte=640&strike_price.lte=690&limit=250"
    )
    return max(rows, key=lambda row: row["day"].get("volume", 0))["details"]["ticker"]


@pytest.mark.parametrize("name", OPTION_URLS)
def test_an_answer_about_an_option_does_too(rest: Any, traded: str, name: str) -> None:
    assert list(problems(SCHEMAS[name], rest.json(OPTION_URLS[name].format(traded)))) == []


def test_a_chain_does_too_but_for_days_without_a_trade(rest: Any) -> None:
    body = rest.json(SPY)

    found = list(problems(SCHEMAS["chain"], body))
    assert len(body["results"]) == 250
    assert [one for one in found if ".day." not in one or "missing" not in one] == []


def test_every_schema_is_asked_for() -> None:
    assert {*URLS, *OPTION_URLS, "chain"} == set(SCHEMAS)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1}, []),
        ({"a": 1.5}, [".a: 1.5 is not of type integer"]),
        ({"a": None}, [".a: None is not of type integer"]),
        ({"a": True}, [".a: True is not of type integer"]),
        ({}, [".a is missing"]),
        ({"a": 1, "b": "z"}, [".b: 'z' is not one of ['x']"]),
        ({"a": 1, "c": 1}, [".c is unknown"]),
        ([], [": [] is not of type object"]),
    ],
)
def test_the_judge_itself_finds_what_is_wrong(value: Any, found: list[str]) -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "string", "enum": ["x"]}},
    }

    assert list(problems(schema, value)) == found
