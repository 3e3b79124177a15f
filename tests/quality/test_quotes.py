import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.model import Quote, Trade
from onetape.provenance import Freshness, Source
from onetape.quality import quotes
from onetape.quality.quotes import judge_quote, judge_quotes, judge_trade, quote_reasons
from onetape.quality.reasons import reason
from onetape.quality.rules import moment

S = 1_000_000_000
NOW = 1_764_000_000 * S


def quote(**changes: Any) -> Quote:
    made: dict[str, Any] = {
        "symbol": "AAPL",
        "event_ns": NOW,
        "received_ns": NOW,
        "provider": "massive",
        "bid": 199.9,
        "ask": 200.1,
        "last": 200.0,
        "open": 199.0,
        "high": 201.0,
        "low": 198.0,
        "previous_close": 198.5,
        "change": 1.5,
        "volume": 1e6,
    }
    return Quote(**{**made, **changes})


def trade(**changes: Any) -> Trade:
    made: dict[str, Any] = {
        "symbol": "AAPL",
        "event_ns": NOW,
        "received_ns": NOW,
        "provider": "massive",
        "price": 200.0,
        "size": 100.0,
    }
    return Trade(**{**made, **changes})


def codes(subject: Quote) -> list[str]:
    return [one.code for one in quote_reasons(subject, moment(NOW))]


def trade_codes(subject: Trade) -> list[str]:
    judged = judge_trade(subject, now_ns=NOW)
    assert judged.quality is not None
    return [one.code for one in judged.quality.reasons]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"symbol": ""}, ["symbol_missing"]),
        ({"event_ns": "now"}, ["time_invalid"]),
        ({"event_ns": None}, ["time_missing"]),
        ({"event_ns": NOW + 2 * S}, []),
        ({"event_ns": NOW + 2 * S + 1}, ["future"]),
        ({"bid": math.nan}, ["not_a_number"]),
        ({"change_percent": "1 %"}, ["not_a_number"]),
        ({"bid": -0.01}, ["price_negative"]),
        ({"ask": -0.01, "bid": None}, ["price_negative"]),
        ({"bid": 200.1, "ask": 200.1}, ["locked"]),
        ({"bid": 200.2, "ask": 200.1}, ["crossed"]),
        ({"bid": 0.0}, ["zero_bid"]),
        ({"bid": 0.0, "ask": 0.0}, ["zero_bid"]),
        ({"bid": None, "ask": None}, []),
        ({"bid": None}, []),
        ({"last": None}, []),
        ({"last": None, "bid": None}, []),
        ({"last": None, "bid": None, "ask": None}, ["price_missing"]),
        ({"last": 0.0, "low": 0.0, "change": None}, ["price_not_positive"]),
        ({"high": 197.9, "low": 198.0}, ["range_inverted"]),
        ({"high": 200.0, "low": 200.0}, []),
        ({"last": 201.01, "change": None}, ["last_outside_range"]),
        ({"last": 197.99, "change": None}, ["last_outside_range"]),
        ({"volume": 0.0}, []),
        ({"volume": -1.0}, ["volume_invalid"]),
        ({"volume": math.nan}, ["volume_invalid"]),
        ({"bid_size": -1.0}, ["size_negative"]),
        ({"ask_size": -1.0}, ["size_negative"]),
    ],
)
def test_every_rule_has_its_boundary(changes: dict[str, Any], found: list[str]) -> None:
    """R194-R197, W-57."""
    assert codes(quote(**changes)) == found


@pytest.mark.parametrize(
    ("close", "change", "consistent"),
    [
        (198.5, 2.5, True),  # off by 1 point
        (198.5, 2.51, False),
        (198.5, 0.5, True),
        (198.5, 0.49, False),
    ],
)
def test_the_change_is_last_less_previous_close_to_a_point(
    close: float, change: float, consistent: bool
) -> None:
    found = codes(quote(previous_close=close, change=change))

    assert found == ([] if consistent else ["change_inconsistent"])


@pytest.mark.parametrize(("change", "consistent"), [(0.04, True), (0.06, False)])
def test_the_change_of_what_costs_little_is_held_to_a_hundredth(
    change: float, consistent: bool
) -> None:
    cheap = {"bid": None, "ask": None, "last": 4.0, "high": None, "low": None}

    found = codes(quote(previous_close=4.0, change=change, **cheap))

    assert found == ([] if consistent else ["change_inconsistent"])


def test_a_streamed_quote_of_an_option_is_whole_without_a_last_price() -> None:
    streamed = Quote(
        symbol="O:SPY251219C00650000",
        event_ns=NOW,
        received_ns=NOW,
        provider="massive",
        bid=1.0,
        ask=1.1,
    )

    assert codes(streamed) == []


def test_a_streamed_index_is_whole_with_only_a_value() -> None:
    streamed = Quote(symbol="I:SPX", event_ns=NOW, received_ns=NOW, provider="massive", last=6600.0)

    assert codes(streamed) == []


def test_the_quality_is_of_the_quote_and_ages_with_it() -> None:
    judged = judge_quote(
        quote(source=Source.REST, simulated=True), now_ns=NOW + S, market_open=True
    )

    assert judged.quality is not None
    assert judged.quality.provider == "massive"
    assert judged.quality.source is Source.REST
    assert judged.quality.simulated
    assert judged.quality.confidence(NOW + 5 * S) == 100
    assert judged.quality.confidence(NOW + 6 * S) == 90


def test_quotes_of_one_answer_are_judged_one_by_one_and_none_is_left_out() -> None:
    three = [quote(), quote(bid=300.0), quote(delayed=True)]

    judged = judge_quotes(three, now_ns=NOW, market_open=True)

    verdicts = [one.quality for one in judged if one.quality is not None]
    assert [len(one.reasons) for one in verdicts] == [0, 1, 0]
    assert [one.confidence(NOW + 31 * S) for one in verdicts] == [0, 0, 75]


def test_what_the_source_says_is_added_by_symbol() -> None:
    two = [quote(), quote(symbol="MSFT")]
    frozen = reason("last_frozen")

    judged = judge_quotes(two, now_ns=NOW, market_open=True, notes={"MSFT": (frozen,)})

    assert [one.quality.reasons for one in judged if one.quality] == [(), (frozen,)]


def test_a_note_is_kept_when_a_quote_is_judged_again() -> None:
    first = judge_quote(quote(), now_ns=NOW, market_open=True, notes=(reason("last_good"),))

    again = judge_quote(first, now_ns=NOW, market_open=True)

    assert again == first
    assert again.quality is not None
    assert again.quality.reasons == (reason("last_good"),)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"symbol": ""}, ["symbol_missing"]),
        ({"price": math.nan}, ["not_a_number"]),
        ({"size": None}, ["not_a_number"]),
        ({"event_ns": None}, ["time_invalid"]),
        ({"event_ns": NOW + 3 * S}, ["future"]),
        ({"price": 0.0}, ["price_not_positive"]),
        ({"size": 0.0}, []),
        ({"size": -1.0}, ["size_negative"]),
    ],
)
def test_a_trade_is_judged(changes: dict[str, Any], found: list[str]) -> None:
    assert trade_codes(trade(**changes)) == found


def test_a_trade_does_not_age() -> None:
    judged = judge_trade(trade(), now_ns=NOW)

    assert judged.quality is not None
    assert judged.quality.freshness(NOW + 3600 * S) is Freshness.SETTLED
    assert judge_trade(judged, now_ns=NOW) == judged


FAULTS: dict[str, dict[str, Any]] = {
    "crossed": {"bid": 201.0},
    "negative": {"ask": -1.0},
    "inverted": {"high": 1.0},
    "last": {"last": -1.0},
    "size": {"bid_size": -1.0},
    "change": {"change": 40.0},
    "volume": {"volume": -1.0},
    "ahead": {"event_ns": NOW + 9 * S},
    "text": {"vwap": "200"},
}


@given(
    some=st.sets(st.sampled_from(sorted(FAULTS))),
    another=st.sampled_from(sorted(FAULTS)),
    age_s=st.sampled_from([0, 6, 16]),
)
def test_adding_a_fault_never_raises_the_score(some: set[str], another: str, age_s: int) -> None:
    def score(names: set[str]) -> int:
        changes: dict[str, Any] = {}
        for name in sorted(names):
            changes |= FAULTS[name]
        judged = judge_quote(quote(**changes), now_ns=NOW, market_open=True)
        assert judged.quality is not None
        return judged.quality.confidence(NOW + age_s * S)

    assert score(some | {another}) <= score(some)


number = st.one_of(
    st.none(), st.floats(), st.floats(-2, 2), st.integers(-5, 5), st.sampled_from(["", "1"])
)


@given(
    values=st.fixed_dictionaries({}, optional=dict.fromkeys((*quotes.NUMBERS, "volume"), number))
)
def test_judging_never_fails_and_never_alters_a_number(values: dict[str, Any]) -> None:
    subject = quote(**values)

    judged = judge_quote(subject, now_ns=NOW, market_open=True)

    assert repr(msgspec.structs.replace(judged, quality=None)) == repr(subject)
    assert judge_quote(judged, now_ns=NOW, market_open=True).quality == judged.quality


@given(
    values=st.fixed_dictionaries({}, optional=dict.fromkeys((*quotes.NUMBERS, "volume"), number))
)
def test_what_is_called_normal_has_nothing_to_find(values: dict[str, Any]) -> None:
    subject, at = quote(**values), moment(NOW)

    missing = quotes.PRESENCE.find_slowly(subject, at)
    assert quotes.PRESENCE.find(subject, at) == missing
    if not missing:
        assert quotes.BOOK.find(subject, at) == quotes.BOOK.find_slowly(subject, at)
