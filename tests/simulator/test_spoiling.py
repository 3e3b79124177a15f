from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.simulator import spoiling

MASSIVE = {
    "results": [
        {
            "details": {"ticker": "O:A"},
            "greeks": {"delta": 0.5, "gamma": 0.01},
            "implied_volatility": 0.2,
            "last_quote": {"bid": 1.0, "ask": 1.1, "last_updated": 1_764_000_000_000_000_000},
        },
        {"ticker": "SPY", "lastQuote": {"p": 5.0, "P": 5.1, "t": 1_764_000_000_000_000_000}},
    ]
}
TRADIER = {
    "quotes": {
        "quote": [
            {
                "symbol": "A",
                "bid": 1.0,
                "ask": 1.1,
                "bidsize": 4,
                "trade_date": 1_764_000_000_123,
                "greeks": {"gamma": 0.01, "updated_at": "2025-11-24 16:00:07"},
            },
            {"symbol": "B", "bid": None, "ask": None, "trade_date": 0, "greeks": None},
        ]
    }
}


def spoilt(tree: Any, change: Any, **options: Any) -> Any:
    body = msgspec.json.encode(tree)
    return msgspec.json.decode(spoiling.respelt(body, lambda tree: change(tree, **options)))


def test_bids_are_put_above_their_asks_in_either_vendors_words() -> None:
    rows = spoilt(MASSIVE, spoiling.cross, by=0.05)["results"]
    one, none = spoilt(TRADIER, spoiling.cross, by=0.05)["quotes"]["quote"]

    assert rows[0]["last_quote"]["bid"] == 1.15
    assert rows[1]["lastQuote"]["p"] == 5.15
    assert one["bid"] == 1.15
    assert none["bid"] is None


def test_numbers_are_multiplied_by_key() -> None:
    tree = {"gamma": 0.5, "size": 3, "price": "2.5", "bid": "cheap", "flag": True, "last": None}

    found = spoilt(tree, spoiling.multiply, fields=("*",), times=-2.0)

    assert found == {
        "gamma": -1.0,
        "size": -6,
        "price": "-5.0",
        "bid": "cheap",
        "flag": True,
        "last": None,
    }
    assert spoilt(tree, spoiling.multiply, fields=("g*",), times=3.0) == tree | {"gamma": 1.5}


def test_times_are_shifted_in_their_own_unit() -> None:
    tree = {
        "last_updated": 1_764_000_000_000_000_000,
        "trade_date": 1_764_000_000_123,
        "timestamp": 1_764_000_000,
        "updated_at": "2025-11-24 16:00:07",
        "time": "2025-11-24T11:00:00",
        "t": "no time",
        "bid_date": 0,
        "updated": None,
        "volume": 1_764_000_000,
    }

    assert spoilt(tree, spoiling.skew, by_s=-60) == tree | {
        "last_updated": 1_763_999_940_000_000_000,
        "trade_date": 1_763_999_940_123,
        "timestamp": 1_763_999_940,
        "updated_at": "2025-11-24 15:59:07",
        "time": "2025-11-24T10:59:00",
    }


def test_parts_of_rows_stay_as_they_were() -> None:
    now: Any = msgspec.json.decode(msgspec.json.encode(TRADIER))
    now["quotes"]["quote"][0] |= {"bid": 9.0, "ask": 9.1, "greeks": {"gamma": 9.0}, "last": 7.0}
    first: Any = TRADIER

    quotes = spoilt(now, spoiling.hold, first=first, parts="quotes")["quotes"]["quote"][0]
    greeks = spoilt(now, spoiling.hold, first=first, parts="greeks")["quotes"]["quote"][0]

    assert (quotes["bid"], quotes["greeks"], quotes["last"]) == (1.0, {"gamma": 9.0}, 7.0)
    assert (greeks["bid"], greeks["greeks"]["gamma"]) == (9.0, 0.01)


def test_the_other_vendors_rows_are_known_by_their_details() -> None:
    now: Any = msgspec.json.decode(msgspec.json.encode(MASSIVE))
    now["results"][0]["greeks"] = {"delta": 0.9}
    now["results"][0]["implied_volatility"] = 0.9
    first: Any = MASSIVE

    row = spoilt(now, spoiling.hold, first=first, parts="greeks")["results"][0]

    assert (row["greeks"]["delta"], row["implied_volatility"]) == (0.5, 0.2)


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b""])
def test_what_is_no_json_stays_as_it_is(body: bytes) -> None:
    assert spoiling.respelt(body, lambda tree: spoiling.cross(tree, 1.0)) is body


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(trees)
def test_nothing_changes_where_nothing_is_named(tree: Any) -> None:
    for change, options in (
        (spoiling.cross, {"by": 0.1}),
        (spoiling.multiply, {"fields": ("z",), "times": 2.0}),
        (spoiling.skew, {"by_s": 5.0}),
    ):
        assert spoilt(tree, change, **options) == tree
