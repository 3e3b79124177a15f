"""The first three tests are the inventory of the sources for index snapshots (R268)."""

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from onetape.model import Bar, IndexSnapshot, Quote, Timeframe
from onetape.provenance import Quality
from onetape.quality.indices import judge_index
from onetape.quality.reasons import reason

S = 1_000_000_000
NOW = 1_764_000_000 * S


def bar(**changes: Any) -> Bar:
    made: dict[str, Any] = {
        "symbol": "I:SPX",
        "event_ns": NOW - 60 * S,
        "end_ns": NOW,
        "received_ns": NOW,
        "provider": "massive",
        "open": 6600.0,
        "high": 6610.0,
        "low": 6590.0,
        "close": 6605.0,
    }
    return Bar(**{**made, **changes})


def index(*, timeframes: dict[str, tuple[Bar, ...]] | None = None, **changes: Any) -> IndexSnapshot:
    made: dict[str, Any] = {
        "symbol": "I:SPX",
        "event_ns": NOW,
        "received_ns": NOW,
        "provider": "massive",
        "last": 6605.0,
        "open": 6600.0,
        "high": 6610.0,
        "low": 6590.0,
        "previous_close": 6580.0,
        "change": 25.0,
    }
    frames = {
        length: Timeframe(length=length, bars=bars, provider="massive", updated_ns=NOW)
        for length, bars in (timeframes or {}).items()
    }
    return IndexSnapshot(symbol="I:SPX", quote=Quote(**{**made, **changes}), timeframes=frames)


def verdict(snapshot: IndexSnapshot) -> Quality:
    judged = judge_index(snapshot, now_ns=NOW, market_open=True)
    assert judged.quality is not None
    return judged.quality


def codes(snapshot: IndexSnapshot) -> list[str]:
    return [one.code for one in verdict(snapshot).reasons]


def test_an_inverted_candle_is_an_error_of_the_index() -> None:
    """R193, R268."""
    quality = verdict(index(timeframes={"1m": (bar(), bar(high=6580.0)), "5m": (bar(),)}))

    assert quality.reasons == (reason("range_inverted", "1 of 2 bars of 1m"),)
    assert quality.confidence(NOW) == 0


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"last": None}, ["price_missing"]),
        ({"last": 0.0, "low": 0.0, "change": None}, ["price_not_positive"]),
        ({"last": -1.0, "low": None, "change": None}, ["price_not_positive"]),
        ({"last": math.nan}, ["not_a_number"]),
        ({"last": "6605"}, ["not_a_number"]),
        ({"change": math.inf}, ["not_a_number"]),
        ({"high": 6589.0}, ["range_inverted"]),
    ],
)
def test_an_invalid_value_is_an_error(changes: dict[str, Any], found: list[str]) -> None:
    """R268."""
    assert codes(index(**changes)) == found
    assert verdict(index(**changes)).confidence(NOW) == 0


@pytest.mark.parametrize(("age_s", "points"), [(5, 100), (5.1, 90), (15.1, 75), (30.1, 0)])
def test_a_stale_index_loses_points_and_then_all(age_s: float, points: int) -> None:
    """R268."""
    assert verdict(index()).confidence(NOW + round(age_s * S)) == points


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"last": 6610.5, "change": None}, ["last_outside_range"]),
        ({"change": 26.0}, []),
        ({"change": 26.1}, ["change_inconsistent"]),
        ({"change": 23.9}, ["change_inconsistent"]),
        ({"previous_close": None}, []),
        ({"event_ns": None}, ["time_missing"]),
        ({"event_ns": NOW + 3 * S}, ["future"]),
    ],
)
def test_the_value_is_judged_as_a_quote(changes: dict[str, Any], found: list[str]) -> None:
    assert codes(index(**changes)) == found


def test_bar_lengths_that_were_not_asked_for_are_not_missed() -> None:
    assert codes(index(timeframes={})) == []
    assert verdict(index(timeframes={"5m": ()})).reasons == (reason("bars_missing", "5m"),)


def test_a_code_is_one_reason_in_however_many_bars() -> None:
    wrong = bar(close=6700.0)

    quality = verdict(index(timeframes={"1m": (wrong, wrong), "5m": (wrong,)}))

    assert quality.reasons == (reason("close_outside_range", "2 of 2 bars of 1m"),)
    assert quality.confidence(NOW) == 95


def test_nothing_but_the_quality_is_changed_and_judging_again_changes_nothing() -> None:
    snapshot = index(timeframes={"1m": (bar(), bar(close=6700.0))}, volume=-1.0)

    judged = judge_index(snapshot, now_ns=NOW, market_open=True, notes=(reason("mixed_sources"),))

    assert (judged.symbol, judged.quote, judged.timeframes) == (
        snapshot.symbol,
        snapshot.quote,
        snapshot.timeframes,
    )
    assert judge_index(judged, now_ns=NOW, market_open=True) == judged


FAULTS: dict[str, dict[str, Any]] = {
    "value": {"last": -1.0},
    "inverted": {"high": 1.0},
    "change": {"change": 400.0},
    "volume": {"volume": -1.0},
    "bar": {"timeframes": {"1m": (bar(close=9999.0),)}},
    "bars": {"timeframes": {"1m": ()}},
}


@given(some=st.sets(st.sampled_from(sorted(FAULTS))), another=st.sampled_from(sorted(FAULTS)))
def test_adding_a_fault_never_raises_the_score(some: set[str], another: str) -> None:
    def score(names: set[str]) -> int:
        changes: dict[str, Any] = {}
        for name in sorted(names):
            changes |= FAULTS[name]
        return verdict(index(**changes)).confidence(NOW)

    assert score(some | {another}) <= score(some)
