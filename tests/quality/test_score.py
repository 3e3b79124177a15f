from datetime import UTC, datetime

import pytest

from onetape import calendar
from onetape.provenance import Ageing, Freshness, Quality, Reason, Severity, Source
from onetape.quality.reasons import reason
from onetape.quality.score import (
    DELAYED_S,
    THRESHOLDS,
    DataClass,
    Hours,
    StaleFlag,
    ageing,
    hours_at,
    kept_notes,
    noted,
)

S = 1_000_000_000


def new_york(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=calendar.NEW_YORK)
    return int(moment.astimezone(UTC).timestamp()) * S


NOON = new_york("2025-11-24T12:00")
EVENING = new_york("2025-11-24T20:30")


def quality(*reasons: Reason, event_ns: int = NOON, age: Ageing | None = None) -> Quality:
    return Quality(
        provider="massive",
        source=Source.REST,
        received_ns=event_ns,
        event_ns=event_ns,
        reasons=reasons,
        ageing=age,
    )


def open_ageing(kind: DataClass = DataClass.QUOTE) -> Ageing:
    made = ageing(kind, now_ns=NOON, market_open=True)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        (DataClass.QUOTE, (5, 10, 15, 30)),
        (DataClass.CHAIN, (5, 10, 15, 30)),
        (DataClass.INDEX, (5, 10, 15, 30)),
        (DataClass.GREEKS, (60, 120, 180, 360)),
        (DataClass.FLOW, (60, 120, 180, 360)),
        (DataClass.SESSION, (120, 240, 360, 720)),
    ],
)
def test_each_kind_has_its_row_of_the_one_table(
    kind: DataClass, seconds: tuple[float, ...]
) -> None:
    """C21."""
    age = open_ageing(kind)

    assert (age.stale_s, age.alert_s, age.old_s, age.unusable_s) == seconds
    assert age.greeks_s == 60


def test_every_kind_is_in_the_table_in_the_proportions_of_a_quote() -> None:
    assert set(THRESHOLDS) == set(DataClass)
    for limits in THRESHOLDS.values():
        assert [one / limits.stale for one in limits] == [1, 2, 3, 6]


def test_a_bar_ages_in_lengths_of_itself() -> None:
    age = ageing(DataClass.BARS, now_ns=NOON, market_open=True, bar_s=300)

    assert age is not None
    assert (age.stale_s, age.alert_s, age.old_s, age.unusable_s) == (450, 900, 1350, 2700)


def test_delayed_data_are_stale_at_once_but_of_use_until_the_promise_is_broken() -> None:
    late = ageing(DataClass.QUOTE, now_ns=NOON, market_open=True, delayed=True)
    judged = quality(age=late)

    assert judged.is_stale(NOON + 6 * S)
    assert judged.confidence(NOON + 900 * S) == 75
    assert judged.confidence(NOON + round(DELAYED_S + 30) * S) == 75
    assert judged.confidence(NOON + round(DELAYED_S + 31) * S) == 0


def test_the_hours_of_an_open_market_reach_from_its_opening_to_the_next() -> None:
    assert hours_at(NOON, market_open=True) == Hours(
        opened_ns=new_york("2025-11-24T09:30"),
        closes_ns=new_york("2025-11-24T16:15"),
        opens_ns=new_york("2025-11-25T09:30"),
    )


def test_index_options_are_not_let_off_their_age_in_their_last_quarter_of_an_hour() -> None:
    at = new_york("2025-11-24T16:05")

    assert hours_at(at, market_open=True).closes_ns == new_york("2025-11-24T16:15")


def test_a_half_day_closes_early() -> None:
    at = new_york("2025-11-28T12:00")

    assert hours_at(at, market_open=True) == Hours(
        opened_ns=new_york("2025-11-28T09:30"),
        closes_ns=new_york("2025-11-28T13:15"),
        opens_ns=new_york("2025-12-01T09:30"),
    )


def test_before_the_opening_an_open_market_counts_all_the_time() -> None:
    at = new_york("2025-11-24T08:00")

    assert hours_at(at, market_open=True) == Hours(
        opened_ns=None,
        closes_ns=new_york("2025-11-24T16:15"),
        opens_ns=new_york("2025-11-25T09:30"),
    )


def test_while_the_market_is_closed_nothing_ages_until_it_opens() -> None:
    """R196: thresholds relaxed when the market is closed."""
    judged = quality(event_ns=NOON, age=ageing(DataClass.QUOTE, now_ns=EVENING, market_open=False))
    opening = new_york("2025-11-25T09:30")

    assert judged.freshness(EVENING) is Freshness.SETTLED
    assert judged.confidence(opening - 1) == 100
    assert judged.confidence(opening + 6 * S) == 90
    assert judged.confidence(opening + 31 * S) == 0


def test_what_was_fresh_at_the_close_is_not_stale_at_night_but_is_after_the_opening() -> None:
    close = new_york("2025-11-24T16:15")
    judged = quality(
        event_ns=close - S, age=ageing(DataClass.QUOTE, now_ns=close - S, market_open=True)
    )

    assert judged.confidence(EVENING) == 100
    assert judged.confidence(new_york("2025-11-25T09:30") + 16 * S) == 75


def test_beyond_the_calendar_an_open_market_ages_and_a_closed_one_does_not() -> None:
    at = new_york("2090-01-03T12:00")

    assert hours_at(at, market_open=True) == hours_at(at, market_open=False) == Hours()
    assert ageing(DataClass.QUOTE, now_ns=at, market_open=False) is None
    age = ageing(DataClass.QUOTE, now_ns=at, market_open=True)
    assert quality(event_ns=at, age=age).confidence(at + 6 * S) == 90


def test_data_of_one_kind_share_one_ageing() -> None:
    assert open_ageing() is open_ageing()
    assert ageing(DataClass.QUOTE, now_ns=NOON + S, market_open=True) is open_ageing()


def test_notes_are_added_once_and_the_first_fallback_reason_stays() -> None:
    computed = reason("greeks_computed")

    first = noted(quality(reason("zero_bid")), computed, fallback_reason="massive: timeout")
    second = noted(first, computed, reason("mixed_sources"))

    assert [one.code for one in second.reasons] == ["zero_bid", "greeks_computed", "mixed_sources"]
    assert second.fallback_reason == "massive: timeout"


def test_judging_again_keeps_notes_and_forgets_findings() -> None:
    before = quality(reason("zero_bid"), reason("greeks_corrected"))
    fallback = reason("fallback", "massive: timeout")

    assert kept_notes(None, (fallback,)) == (fallback,)
    assert kept_notes(quality(), (fallback,)) == (fallback,)
    assert kept_notes(before, (fallback,)) == (reason("greeks_corrected"), fallback)
    assert kept_notes(before, (reason("greeks_corrected"),)) == (reason("greeks_corrected"),)


def test_only_codes_of_the_table_are_reasons() -> None:
    assert reason("fallback").severity is Severity.WARNING
    with pytest.raises(KeyError):
        reason("no_such_code")


def test_a_flag_does_not_flicker_when_polls_are_as_far_apart_as_data_may_be_old() -> None:
    """W-53: a poll each 5 s and a limit of 5 s."""
    flag, seen = StaleFlag(), list[bool]()

    for half_s in range(120):
        at = NOON + half_s * S // 2
        polled_at = at - (at - NOON) % (11 * S // 2)  # every 5.5 s
        seen.append(flag.update(quality(event_ns=polled_at - S, age=open_ageing()), at))

    assert seen.index(True) == 9
    assert all(seen[9:])


def test_a_flag_comes_down_after_some_time_of_fresh_data() -> None:
    flag = StaleFlag(hold_s=6)

    assert not flag.update(quality(age=open_ageing()), NOON)
    assert flag.update(quality(age=open_ageing()), NOON + 6 * S)
    assert flag.update(quality(event_ns=NOON + 12 * S, age=open_ageing()), NOON + 12 * S)
    assert not flag.update(quality(event_ns=NOON + 13 * S, age=open_ageing()), NOON + 13 * S)
