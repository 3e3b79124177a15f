"""How a query becomes what was asked."""

import math
from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.datastructures import QueryParams

from onetape.chain_query import ChainQuery
from onetape.errors import InvalidRequest
from onetape.gateway.parameters import (
    MOST_BARS,
    Bars,
    Chain,
    Contracts,
    Holidays,
    Parameters,
    Symbols,
    VendorChain,
    read,
)
from onetape.model import ContractType
from onetape.timeframes import BarLength, Timespan

RANGE = "from=2026-01-05&to=1767600000000"
NO_BARS = [
    "",
    "symbol=SPY",
    f"symbol=SPY&{RANGE}&limt=5",
    f"symbol=SPY&symbol=QQQ&{RANGE}",
    f"symbol=SPY&{RANGE}&limit=many",
    f"symbol=SPY&{RANGE}&limit=",
    f"symbol=SPY&{RANGE}&multiplier=0",
    f"symbol=SPY&{RANGE}&multiplier=1001",
    f"symbol=SPY&{RANGE}&timespan=fortnight",
    f"symbol=SPY&{RANGE}&adjusted=1",
    f"symbol=SPY&{RANGE}&sort=up",
    "symbol=SPY&from=yesterday&to=2026-01-05",
    "symbol=SPY&from=2026-02-30&to=2026-01-05",
    "symbol=SPY&from=-1&to=2026-01-05",
]


def test_bars_have_the_defaults_that_are_documented() -> None:
    """R39: and both forms of an end."""
    asked = read(Bars, QueryParams(f"symbol=SPY&{RANGE}"))

    assert (asked.start, asked.end) == (date(2026, 1, 5), 1_767_600_000_000)
    assert asked.length == BarLength(1, Timespan.MINUTE)
    assert (asked.most, asked.adjusted, asked.sort) == (500, True, "asc")


@pytest.mark.parametrize("query", NO_BARS)
def test_what_cannot_be_read_is_refused(query: str) -> None:
    """R39: 400 on missing parameters; a misspelt name is not passed over."""
    with pytest.raises(InvalidRequest):
        read(Bars, QueryParams(query))


@given(st.integers())
def test_a_limit_is_clamped(limit: int) -> None:
    asked = read(Bars, QueryParams(f"symbol=SPY&{RANGE}&limit={limit}"))

    assert asked.most == min(max(1, limit), MOST_BARS)


@pytest.mark.parametrize("text", ["null", "nan", "inf", "-1", "1e999", "", "x"])
def test_a_bound_is_a_number(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read(Chain, QueryParams({"underlying": "SPY", "min_strike": text}))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ChainQuery(around=10)),
        ("strikeWindow=99", ChainQuery(around=25)),
        ("strikeWindow=0&window=0", ChainQuery(around=1, max_expirations=1)),
        ("window=999", ChainQuery(around=10, max_expirations=250)),
        ("endDate=2026-01-16", ChainQuery(around=10, last_expiration=date(2026, 1, 16))),
        ("whole=true", ChainQuery()),
        ("whole=true&strikeWindow=3", ChainQuery(around=3)),
        ("around=40&strikeWindow=3", ChainQuery(around=40)),
        ("max_expirations=300&window=3", ChainQuery(max_expirations=300)),
        (
            "endDate=2026-01-16&last_expiration=2026-01-17",
            ChainQuery(last_expiration=date(2026, 1, 17)),
        ),
        (
            "min_strike=1&max_strike=2.5&first_expiration=2026-01-05&contract_type=put"
            "&min_volume=3&min_open_interest=4&max_spread_percent=5",
            ChainQuery(
                min_strike=1,
                max_strike=2.5,
                first_expiration=date(2026, 1, 5),
                contract_type=ContractType.PUT,
                min_volume=3,
                min_open_interest=4,
                max_spread_percent=5,
            ),
        ),
    ],
)
def test_a_chain_has_ten_strikes_a_side_unless_something_else_was_said(
    query: str, expected: ChainQuery
) -> None:
    """R205: the old names are clamped, the bounds of a query are taken as they are."""
    assert read(Chain, QueryParams(f"underlying=SPY&{query}")).query == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("strike_price=5", ChainQuery(min_strike=5, max_strike=5)),
        ("strike_price.gte=5&strike_price.lte=6", ChainQuery(min_strike=5, max_strike=6)),
        ("strike_price.gt=5", ChainQuery(min_strike=math.nextafter(5, 6))),
        ("strike_price.lt=5", ChainQuery(max_strike=math.nextafter(5, 4))),
        (
            "expiration_date=2026-01-16",
            ChainQuery(first_expiration=date(2026, 1, 16), last_expiration=date(2026, 1, 16)),
        ),
        (
            "expiration_date.gt=2026-01-16&expiration_date.lt=2026-01-31",
            ChainQuery(first_expiration=date(2026, 1, 17), last_expiration=date(2026, 1, 30)),
        ),
        (
            "expiration_date.gte=2026-01-16&expiration_date.lte=2026-01-31&contract_type=call",
            ChainQuery(
                first_expiration=date(2026, 1, 16),
                last_expiration=date(2026, 1, 31),
                contract_type=ContractType.CALL,
            ),
        ),
        ("expiration_date.lt=0001-01-01", ChainQuery(last_expiration=date.min)),
    ],
)
def test_the_vendors_filters_are_kept(query: str, expected: ChainQuery) -> None:
    """R42: dotted filters are preserved, the exclusive ones as the next number or day."""
    assert read(VendorChain, QueryParams(f"underlying=SPY&limit=9999&{query}")).query == expected


def test_bounds_that_exclude_each_other_are_refused() -> None:
    asked = read(VendorChain, QueryParams("underlying=SPY&strike_price=5&strike_price.gt=5"))

    with pytest.raises(InvalidRequest):
        _ = asked.query


def test_symbols_stand_between_commas_under_either_name() -> None:
    """R46."""
    for name in ("tickers", "symbols"):
        query = QueryParams(f"{name}=SPY,$SPX")
        asked = read(Symbols, query, aliases={"symbols": "tickers"})
        assert asked.tickers == ("SPY", "$SPX")


@pytest.mark.parametrize(
    "query",
    ["", "tickers=", "tickers=SPY,,QQQ", "tickers=" + ",".join(["A"] * 251), "tickers=A&symbols=B"],
)
def test_no_symbols_and_too_many_are_refused(query: str) -> None:
    """R46: also one and the same parameter under both of its names."""
    with pytest.raises(InvalidRequest):
        read(Symbols, QueryParams(query), aliases={"symbols": "tickers"})


def test_the_contracts_reference_drops_what_it_does_not_know() -> None:
    """R43."""
    query = QueryParams("underlying_ticker=SPY&apiKey=x&limit=99999&foo=1")

    asked = read(Contracts, query, drops_unknown=True)

    assert (asked.underlying, asked.most) == ("SPY", 10_000)


@given(st.dictionaries(st.text(), st.text()))
def test_any_query_is_read_or_refused(query: dict[str, str]) -> None:
    for kind in (Bars, Chain, Contracts, Holidays, Symbols, Parameters):
        with suppress(InvalidRequest):
            read(kind, QueryParams(query))


def test_a_year_outside_of_the_calendar_is_refused() -> None:
    for year in ("1999", "null", "2026.5"):
        with pytest.raises(InvalidRequest):
            read(Holidays, QueryParams({"year": year}))
    asked: Any = read(Holidays, QueryParams(year="2026"))
    assert asked.year == 2026
