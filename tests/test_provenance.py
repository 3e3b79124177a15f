from fractions import Fraction
from math import floor

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.provenance import (
    Ageing,
    Freshness,
    Level,
    Quality,
    QualityFlags,
    Reason,
    Severity,
    Source,
    band,
)

S = 1_000_000_000
NOW = 1_764_000_000 * S
LIMITS = Ageing(stale_s=5, alert_s=10, old_s=15, unusable_s=30, greeks_s=60)

WARNING = Reason(code="zero_bid", severity=Severity.WARNING)
ERROR = Reason(code="crossed", severity=Severity.ERROR)
INFO = Reason(code="locked", severity=Severity.INFO)


def quality(*reasons: Reason, **changes: object) -> Quality:
    made = Quality(
        provider="massive",
        source=Source.REST,
        received_ns=NOW,
        event_ns=NOW,
        reasons=reasons,
        ageing=LIMITS,
    )
    return msgspec.structs.replace(made, **changes)


def after(age_s: float) -> int:
    return NOW + round(age_s * S)


@pytest.mark.parametrize("confidence", range(101))
def test_every_score_has_one_level(confidence: int) -> None:
    """R200, W-55."""
    holds = {
        Level.EXCELLENT: 90 <= confidence <= 100,
        Level.GOOD: 70 <= confidence <= 89,
        Level.FAIR: 40 <= confidence <= 69,
        Level.POOR: 0 <= confidence <= 39,
    }

    assert [level for level, is_it in holds.items() if is_it] == [band(confidence)]


@pytest.mark.parametrize(
    ("warnings", "fresh", "stale", "old"),
    [
        (0, 100, 90, 75),
        (1, 95, 86, 71),  # 85.5 and 71.25: a half counts as one
        (2, 90, 81, 68),
        (3, 85, 77, 64),
        (4, 80, 72, 60),
        (5, 75, 68, 56),
        (6, 70, 63, 53),
        (10, 50, 45, 38),
        (13, 35, 32, 26),
        (19, 5, 5, 4),
        (20, 0, 0, 0),
        (25, 0, 0, 0),
    ],
)
def test_the_score_is_the_documented_formula(
    warnings: int, fresh: int, stale: int, old: int
) -> None:
    """R201, C24: the 25 % replaces the 10 %, it is not added."""
    judged = quality(*[WARNING] * warnings)
    by_age = {0: fresh, 4.9: fresh, 5: fresh, 5.1: stale, 15: stale, 15.1: old, 30: old, 30.1: 0}

    assert {age: judged.confidence(after(age)) for age in by_age} == by_age


@given(
    warnings=st.integers(0, 40),
    infos=st.integers(0, 3),
    errors=st.integers(0, 2),
    age_ms=st.integers(-5_000, 60_000),
)
def test_the_score_agrees_with_exact_arithmetic(
    warnings: int, infos: int, errors: int, age_ms: int
) -> None:
    judged = quality(*[WARNING] * warnings, *[INFO] * infos, *[ERROR] * errors)

    factor = Fraction(9, 10) if age_ms > 5_000 else Fraction(1)
    factor = Fraction(3, 4) if age_ms > 15_000 else factor
    exact = max(0, 100 - 5 * warnings) * factor
    expected = 0 if errors or age_ms > 30_000 else floor(exact + Fraction(1, 2))
    assert judged.confidence(after(age_ms / 1000)) == expected
    assert judged.level(after(age_ms / 1000)) is band(expected)


@given(count=st.integers(0, 19))
def test_one_more_warning_takes_five_points_before_the_age(count: int) -> None:
    fewer, more = quality(*[WARNING] * count), quality(*[WARNING] * (count + 1))

    assert fewer.confidence(NOW) - more.confidence(NOW) == 5


@given(
    ages=st.lists(st.floats(0, 100), min_size=2, max_size=2),
    reasons=st.lists(st.sampled_from([WARNING, INFO]), max_size=8),
)
def test_the_score_never_rises_with_age(ages: list[float], reasons: list[Reason]) -> None:
    younger, older = sorted(ages)
    judged = quality(*reasons)

    assert judged.confidence(after(older)) <= judged.confidence(after(younger))


def test_information_costs_nothing() -> None:
    assert quality(INFO, INFO).confidence(NOW) == 100


@pytest.mark.parametrize(
    ("age_s", "stale", "freshness"),
    [
        (-1, False, Freshness.FRESH),
        (0, False, Freshness.FRESH),
        (4.999, False, Freshness.FRESH),
        (5, False, Freshness.FRESH),
        (5.001, True, Freshness.STALE),
        (10, True, Freshness.STALE),
        (10.001, True, Freshness.ALERT),
        (30, True, Freshness.ALERT),
        (30.001, True, Freshness.UNUSABLE),
    ],
)
def test_staleness_is_computed_when_it_is_read(
    age_s: float, stale: bool, freshness: Freshness
) -> None:
    """R187, R196, R202, C21, W-53."""
    judged = quality()
    at = after(age_s)

    assert judged.age_s(at) == pytest.approx(age_s)
    assert judged.is_stale(at) is stale
    assert judged.freshness(at) is freshness
    assert judged.is_usable(at) is (freshness is not Freshness.UNUSABLE)
    assert (judged.stale_since_ns(at) == after(5)) is stale


def test_the_age_adds_its_reasons_when_it_is_read() -> None:
    judged = quality(WARNING)

    assert judged.reasons_at(after(5)) == (WARNING,)
    stale = Reason(code="stale", severity=Severity.INFO, detail="7.2 s old")
    assert judged.reasons_at(after(7.2)) == (WARNING, stale)
    too_old = Reason(code="too_old", severity=Severity.ERROR, detail="31.0 s old")
    assert judged.reasons_at(after(31)) == (WARNING, too_old)
    assert judged.reasons == (WARNING,)


def test_an_unknown_age_counts_from_when_it_was_received() -> None:
    judged = quality(event_ns=None)

    assert judged.age_s(after(6)) is None
    assert judged.updated_ns == NOW
    assert judged.confidence(after(6)) == 90
    assert judged.reasons_at(after(6))[0].detail == "at least 6.0 s old"


def test_what_does_not_age_is_settled() -> None:
    judged = quality(WARNING, ageing=None, greeks_ns=NOW)
    at = after(1_000_000)

    assert judged.freshness(at) is Freshness.SETTLED
    assert not judged.is_stale(at)
    assert judged.confidence(at) == 95
    assert judged.reasons_at(at) == (WARNING,)
    assert judged.age_s(at) == 1_000_000


def test_an_error_makes_it_useless_at_any_age() -> None:
    judged = quality(WARNING, ERROR)

    assert judged.has_errors
    assert not judged.is_usable(NOW)
    assert judged.confidence(NOW) == 0
    assert judged.level(NOW) is Level.POOR


@pytest.mark.parametrize(
    ("read_at_s", "confidence"), [(50, 75), (99, 0), (100, 100), (199, 100), (203, 100), (206, 90)]
)
def test_time_while_the_market_is_closed_counts_for_nothing(
    read_at_s: float, confidence: int
) -> None:
    """Open until second 100, then again from second 200; the quote is of second 30."""
    hours = msgspec.structs.replace(LIMITS, closes_ns=after(100), opens_ns=after(200))
    judged = quality(event_ns=after(30), ageing=hours)

    assert judged.confidence(after(read_at_s)) == confidence


def test_what_was_judged_before_the_opening_ages_from_the_opening_on() -> None:
    closed = msgspec.structs.replace(LIMITS, opens_ns=after(1000))
    judged = quality(ageing=closed)

    assert judged.freshness(after(999)) is Freshness.SETTLED
    assert judged.freshness(after(1005)) is Freshness.FRESH
    assert judged.freshness(after(1006)) is Freshness.STALE
    assert judged.stale_since_ns(after(1006)) == after(1005)
    assert judged.freshness(after(1031)) is Freshness.UNUSABLE


def test_the_night_before_the_opening_counts_for_nothing() -> None:
    opened = msgspec.structs.replace(
        LIMITS, opened_ns=after(1000), closes_ns=after(5000), opens_ns=after(9000)
    )
    judged = quality(ageing=opened)

    assert judged.is_stale(after(1004)) is False
    assert judged.is_stale(after(1006)) is True


def test_greeks_age_by_themselves_and_cost_one_warning() -> None:
    """W-61: hourly Greeks beside a live quote."""
    judged = quality(greeks_ns=NOW - 58 * S, event_ns=NOW + 2 * S)

    assert judged.confidence(after(2)) == 100
    assert judged.confidence(after(3)) == 95
    assert judged.reasons_at(after(3)) == (
        Reason(code="greeks_stale", severity=Severity.WARNING, detail="61 s old"),
    )
    assert quality(greeks_ns=NOW - 3600 * S, ageing=None).confidence(NOW) == 100


def test_greeks_do_not_age_while_the_market_is_closed() -> None:
    closed = msgspec.structs.replace(LIMITS, opens_ns=after(1000))

    assert quality(greeks_ns=NOW - 3600 * S, ageing=closed).confidence(NOW) == 100


def test_a_kind_without_greeks_has_no_limit_for_them() -> None:
    bare = msgspec.structs.replace(LIMITS, greeks_s=None)

    assert quality(greeks_ns=NOW - 3600 * S, ageing=bare).confidence(NOW) == 100


def test_the_flags_are_everything_at_one_instant() -> None:
    """R187."""
    judged = quality(
        WARNING, INFO, fallback_reason="massive: upstream_timeout", delayed=True, simulated=True
    )

    flags = judged.flags(after(8))

    assert flags == QualityFlags(
        provider="massive",
        source=Source.REST,
        confidence=86,
        level=Level.GOOD,
        freshness=Freshness.STALE,
        is_stale=True,
        stale_since_ns=after(5),
        age_s=8.0,
        updated_ns=NOW,
        reasons=judged.reasons_at(after(8)),
        fallback_reason="massive: upstream_timeout",
        delayed=True,
        simulated=True,
    )
    assert flags.warnings == ("zero_bid",)
    assert flags.has_warnings
    assert not quality(INFO).flags(NOW).has_warnings


def test_a_quality_travels_with_all_it_needs_to_age() -> None:
    judged = quality(WARNING, ERROR, greeks_ns=NOW)

    assert msgspec.json.decode(msgspec.json.encode(judged), type=Quality) == judged
    assert msgspec.json.decode(
        msgspec.json.encode(judged.flags(NOW)), type=QualityFlags
    ) == judged.flags(NOW)


def test_what_is_left_out_has_the_values_that_claim_nothing() -> None:
    bare = Quality(provider="tradier", source=Source.STREAM, received_ns=NOW)

    assert bare.reasons == ()
    assert bare.age_s(NOW) is None
    assert bare.confidence(NOW) == 100
    assert not bare.has_errors
