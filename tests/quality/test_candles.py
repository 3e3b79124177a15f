import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.model import Bar
from onetape.provenance import Freshness, Source
from onetape.quality.candles import JudgedBars, bar_reasons, judge_bar, judge_bars
from onetape.quality.reasons import reason
from onetape.quality.rules import moment

S = 1_000_000_000
MINUTE = 60 * S
NOW = 1_764_000_000 * S


def bar(minute: int = -1, **changes: Any) -> Bar:
    """The bar of a minute counted from now; that of -1 has just ended."""
    made: dict[str, Any] = {
        "symbol": "I:SPX",
        "event_ns": NOW + minute * MINUTE,
        "end_ns": NOW + (minute + 1) * MINUTE,
        "received_ns": NOW,
        "provider": "massive",
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
    }
    return Bar(**{**made, **changes})


def codes(subject: Bar) -> list[str]:
    return [one.code for one in bar_reasons(subject, moment(NOW))]


def judged(*bars: Bar, **changes: Any) -> JudgedBars:
    arguments: dict[str, Any] = {"provider": "massive", "now_ns": NOW, "market_open": True}
    return judge_bars(bars, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"symbol": ""}, ["symbol_missing"]),
        ({"end_ns": None}, ["time_invalid"]),
        ({"event_ns": 1.5}, ["time_invalid"]),
        ({"open": math.nan}, ["not_a_number"]),
        ({"close": None}, ["not_a_number"]),
        ({"vwap": math.inf}, ["not_a_number"]),
        ({"vwap": 10.5}, []),
        ({"event_ns": NOW + 2 * S, "end_ns": NOW + MINUTE}, []),
        ({"event_ns": NOW + 2 * S + 1, "end_ns": NOW + MINUTE}, ["future"]),
        ({"end_ns": NOW - MINUTE}, ["window_invalid"]),
        ({"low": 0.0}, ["price_not_positive"]),
        ({"low": 0.01}, []),
        (
            {"high": 9.0, "low": 9.01, "open": 9.0, "close": 9.0},
            ["range_inverted"],
        ),
        ({"high": 9.0, "low": 9.0, "open": 9.0, "close": 9.0}, []),
        ({"close": 12.0}, []),
        ({"close": 12.01}, ["close_outside_range"]),
        ({"close": 8.99}, ["close_outside_range"]),
        ({"open": 12.01}, ["open_outside_range"]),
        ({"volume": 0.0}, []),
        ({"volume": -1.0}, ["volume_invalid"]),
        ({"volume": "5"}, ["volume_invalid"]),
    ],
)
def test_every_rule_has_its_boundary(changes: dict[str, Any], found: list[str]) -> None:
    """R193, R197: high below low is an error, a close outside them a warning."""
    assert codes(bar(**changes)) == found


@pytest.mark.parametrize(
    ("age_s", "points"), [(90, 100), (91, 90), (270, 90), (271, 75), (540, 75), (541, 0)]
)
def test_a_bar_ages_from_its_end_in_lengths_of_itself(age_s: int, points: int) -> None:
    single = judge_bar(bar(), now_ns=NOW, market_open=True)

    assert single.quality is not None
    assert single.quality.confidence(NOW + age_s * S) == points
    assert judged(bar(-2), bar()).quality.confidence(NOW + age_s * S) == points


def test_a_bar_that_still_grows_was_true_until_now() -> None:
    growing = judge_bar(bar(-0, event_ns=NOW - 20 * S), now_ns=NOW, market_open=True)

    assert growing.quality is not None
    assert growing.quality.event_ns == NOW


def test_a_series_in_order_is_excellent_and_its_bars_are_the_same_objects() -> None:
    series = [bar(-3), bar(-2), bar(-1)]

    verdict = judged(*series)

    assert all(one is other for one, other in zip(verdict.bars, series, strict=True))
    assert verdict.dropped == {}
    assert verdict.quality.reasons == ()
    assert verdict.quality.confidence(NOW) == 100


def test_bars_with_errors_are_left_out_and_counted() -> None:
    verdict = judged(bar(-3), bar(-2, high=1.0), bar(-1))

    assert [one.event_ns for one in verdict.bars] == [NOW - 3 * MINUTE, NOW - MINUTE]
    assert verdict.dropped == {"range_inverted": 1}
    assert verdict.quality.reasons == (reason("bars_dropped", "1 of 3"),)
    assert verdict.quality.confidence(NOW) == 95


def test_what_was_left_out_before_counts_too() -> None:
    first = judged(bar(-3), bar(-2, high=1.0), bar(-1))

    again = judged(*first.bars, dropped=first.dropped)

    assert again == first


def test_a_bar_in_which_something_was_found_is_marked_and_its_series_too() -> None:
    verdict = judged(bar(-3, close=13.0), bar(-2, close=13.0), bar(-1))

    assert [one.quality is None for one in verdict.bars] == [False, False, True]
    marked = verdict.bars[0].quality
    assert marked is not None
    assert [one.code for one in marked.reasons] == ["close_outside_range"]
    assert marked.freshness(NOW + 3600 * S) is Freshness.SETTLED
    assert verdict.quality.reasons == (reason("bars_marked", "2 of 3"),)
    assert verdict.quality.confidence(NOW) == 100
    assert judged(*verdict.bars) == verdict


def test_a_mark_that_no_longer_holds_is_taken_off() -> None:
    verdict = judged(bar(-1, close=13.0))

    mended = judged(msgspec.structs.replace(verdict.bars[0], close=11.0))

    assert mended.bars[0].quality is not None
    assert mended.bars[0].quality.reasons == ()


def test_no_bars_is_a_warning_that_names_who_answered() -> None:
    verdict = judged(provider="tradier")

    assert verdict.bars == ()
    assert verdict.quality.reasons == (reason("bars_missing"),)
    assert (verdict.quality.provider, verdict.quality.source) == ("tradier", Source.REST)


@pytest.mark.parametrize("minutes", [(-1, -2), (-2, -2)])
def test_bars_out_of_order_are_a_warning(minutes: tuple[int, int]) -> None:
    verdict = judged(*(bar(minute) for minute in minutes))

    assert verdict.quality.reasons == (reason("bars_unordered", "1 of 2"),)
    assert [one.event_ns for one in verdict.bars] == [NOW + one * MINUTE for one in minutes]


def test_history_does_not_age() -> None:
    verdict = judged(bar(-1_000_000), reaches_now=False)

    assert verdict.quality.freshness(NOW) is Freshness.SETTLED
    assert judged(bar(-1_000_000)).quality.freshness(NOW) is Freshness.UNUSABLE


def test_a_day_does_not_age() -> None:
    day = bar(event_ns=NOW - 86_400 * S, end_ns=NOW)

    assert judged(day).quality.freshness(NOW + 4 * 86_400 * S) is Freshness.SETTLED


def test_a_closed_market_does_not_age_bars() -> None:
    night = 1_764_035_000 * S  # 20:43 in New York

    verdict = judge_bars([bar()], provider="massive", now_ns=night, market_open=False)

    assert verdict.quality.freshness(night) is Freshness.SETTLED


def test_a_bar_without_a_window_is_marked_and_does_not_age() -> None:
    broken: Any = None
    single = judge_bar(bar(end_ns=broken), now_ns=NOW, market_open=True)

    assert single.quality is not None
    assert single.quality.event_ns is None
    assert single.quality.confidence(NOW) == 0


def test_a_single_bar_keeps_its_notes() -> None:
    note = reason("last_good")
    first = judge_bar(bar(), now_ns=NOW, market_open=True, notes=(note,))

    assert first.quality is not None
    assert first.quality.reasons == (note,)
    assert judge_bar(first, now_ns=NOW, market_open=True) == first


price = st.one_of(st.floats(), st.floats(1, 3), st.integers(-1, 3), st.sampled_from(["", None]))
spoilt = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), price)
)


@given(changes=st.lists(spoilt, max_size=6))
def test_judging_never_fails_never_alters_a_number_and_loses_no_count(
    changes: list[dict[str, Any]],
) -> None:
    series = [bar(-9 + n, **some) for n, some in enumerate(changes)]

    verdict = judged(*series)

    assert len(verdict.bars) + sum(verdict.dropped.values()) == len(series)
    kept = [
        repr(one)
        for one in series
        if not any(x.severity == "error" for x in bar_reasons(one, moment(NOW)))
    ]
    assert [repr(msgspec.structs.replace(one, quality=None)) for one in verdict.bars] == kept
    assert judged(*verdict.bars, dropped=verdict.dropped) == verdict


@given(good=st.integers(1, 5), some=st.sets(st.sampled_from(["close", "open", "high", "volume"])))
def test_adding_a_fault_never_raises_the_score(good: int, some: set[str]) -> None:
    wrong: dict[str, float] = {"close": 99.0, "open": 99.0, "high": -1.0, "volume": -1.0}
    series = [bar(-9 + n) for n in range(good)]

    def score(names: set[str]) -> int:
        spoilt = bar(-2, **{name: wrong[name] for name in names})
        return judged(*series, spoilt).quality.confidence(NOW)

    for name in wrong:
        assert score(some | {name}) <= score(some)
