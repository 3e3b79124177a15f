from collections.abc import Sequence
from datetime import date, time, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import assume, given, strategies as st

from onetape.analytics.bars import (
    MINUTES,
    SEVERAL,
    RolledUp,
    merged,
    regular_hours,
    roll_up,
    window_of,
)
from onetape.calendar import instant_ns, new_york_date
from onetape.model import Bar
from onetape.provenance import Quality, Source

MINUTE_NS = 60_000_000_000
DAY = date(2026, 3, 6)
START_NS = instant_ns(DAY, time(9, 30))
FOREVER_NS = 2**62
LENGTHS = tuple(MINUTES)

volumes = st.one_of(st.none(), st.integers(0, 5000).map(float))


def minute(place: int, close: float = 10.0, **fields: object) -> Bar:
    """The bar `place` minutes after the opening."""
    known: dict[str, object] = {
        "symbol": "SPY",
        "event_ns": START_NS + place * MINUTE_NS,
        "end_ns": START_NS + (place + 1) * MINUTE_NS,
        "received_ns": START_NS + (place + 1) * MINUTE_NS + 7,
        "provider": "massive",
        "open": close,
        "high": close,
        "low": close,
        "close": close,
    }
    return msgspec.convert(known | fields, Bar)


@st.composite
def minutes(draw: st.DrawFn, volume: st.SearchStrategy[float | None] = volumes) -> tuple[Bar, ...]:
    """Minute bars of three days, with gaps."""
    places = sorted(draw(st.sets(st.integers(-2000, 2000), max_size=40)))
    bars: list[Bar] = []
    for place in places:
        low, *inside, high = sorted(draw(st.tuples(*[st.integers(100, 900)] * 4)))
        open_, close = draw(st.permutations(inside))
        size = draw(volume)
        bars.append(
            minute(
                place,
                open=float(open_),
                high=float(high),
                low=float(low),
                close=float(close),
                volume=size,
                vwap=None if size is None else (low + high) / 2,
                trades=None if size is None else int(size) // 7,
            )
        )
    return tuple(bars)


def whole(bars: Sequence[Bar], length: str) -> tuple[Bar, ...]:
    rolled = roll_up(bars, length, now_ns=FOREVER_NS)
    assert rolled.partial is None
    return rolled.bars


# ---- windows ----


@pytest.mark.parametrize(
    ("length", "start", "end"),
    [
        ("1m", time(9, 44), time(9, 45)),
        ("5m", time(9, 40), time(9, 45)),
        ("15m", time(9, 30), time(9, 45)),
        ("30m", time(9, 30), time(10, 0)),
        ("1h", time(9, 0), time(10, 0)),
    ],
)
def test_windows_of_minutes_and_hours_go_by_the_clock(length: str, start: time, end: time) -> None:
    window = window_of(instant_ns(DAY, time(9, 44, 59)), length)

    assert window == (instant_ns(DAY, start), instant_ns(DAY, end))


@pytest.mark.parametrize(
    ("day", "hours"), [(DAY, 24), (date(2026, 3, 8), 23), (date(2026, 11, 1), 25)]
)
def test_a_day_is_new_york_s_also_when_the_clocks_change(day: date, hours: int) -> None:
    window = window_of(instant_ns(day, time(20)), "1d")

    assert window.start_ns == instant_ns(day, time())
    assert window.end_ns == instant_ns(day + timedelta(days=1), time())
    assert window.end_ns - window.start_ns == hours * 60 * MINUTE_NS


@given(st.integers(1_600_000_000, 2_000_000_000), st.sampled_from(LENGTHS))
def test_every_instant_is_in_the_window_that_holds_it(at_s: int, length: str) -> None:
    at_ns = at_s * 1_000_000_000
    window = window_of(at_ns, length)

    assert window.start_ns <= at_ns < window.end_ns
    assert window_of(window.start_ns, length) == window == window_of(window.end_ns - 1, length)
    assert new_york_date(window.start_ns) == new_york_date(window.end_ns - 1)


def test_a_length_that_no_bar_has_is_refused() -> None:
    with pytest.raises(ValueError, match="choose among 1m, 5m"):
        window_of(START_NS, "7m")


# ---- laws ----


@given(minutes(), st.sampled_from(LENGTHS))
def test_nothing_is_lost_and_nothing_is_made_up(bars: tuple[Bar, ...], length: str) -> None:
    long = whole(bars, length)

    assert max((bar.high for bar in long), default=0) == max((b.high for b in bars), default=0)
    assert min((bar.low for bar in long), default=0) == min((b.low for b in bars), default=0)
    assert [bar.open for bar in long[:1]] == [bar.open for bar in bars[:1]]
    assert [bar.close for bar in long[-1:]] == [bar.close for bar in bars[-1:]]
    windows = {window_of(bar.event_ns, length) for bar in bars}
    assert [(bar.event_ns, bar.end_ns) for bar in long] == sorted(windows)


@given(minutes(volume=st.integers(0, 5000).map(float)), st.sampled_from(LENGTHS))
def test_volume_trades_and_worth_are_conserved(bars: tuple[Bar, ...], length: str) -> None:
    """Section 2.14: the source averaged vwap without regard to volume."""
    long = whole(bars, length)

    assert sum(bar.volume or 0 for bar in long) == sum(bar.volume or 0 for bar in bars)
    assert sum(bar.trades or 0 for bar in long) == sum(bar.trades or 0 for bar in bars)
    worth = sum((bar.volume or 0) * (bar.vwap or 0) for bar in bars)
    assert sum((bar.volume or 0) * (bar.vwap or 0) for bar in long) == pytest.approx(worth)


def without_rounding(bars: Sequence[Bar]) -> list[Bar]:
    return [
        msgspec.structs.replace(bar, vwap=None if bar.vwap is None else round(bar.vwap, 9))
        for bar in bars
    ]


@given(minutes(volume=st.integers(1, 5000).map(float)), st.permutations(LENGTHS))
def test_by_any_path_the_bars_are_the_same(bars: tuple[Bar, ...], lengths: list[str]) -> None:
    by, to = sorted(lengths[:2], key=LENGTHS.index)

    assert without_rounding(whole(whole(bars, by), to)) == without_rounding(whole(bars, to))


@given(minutes(), st.sampled_from(LENGTHS))
def test_rolling_up_again_to_the_same_length_changes_nothing(
    bars: tuple[Bar, ...], length: str
) -> None:
    once = whole(bars, length)

    assert whole(once, length) == once
    assert whole(bars, "1m") == bars


@given(minutes(), st.sampled_from(LENGTHS), st.integers(-2000, 2000))
def test_an_open_window_is_kept_apart_and_is_what_it_would_be(
    bars: tuple[Bar, ...], length: str, at: int
) -> None:
    now_ns = START_NS + at * MINUTE_NS
    seen = tuple(bar for bar in bars if bar.end_ns <= now_ns)
    assume(seen)

    closed, partial = roll_up(seen, length, now_ns=now_ns)

    assert all(bar.end_ns <= now_ns for bar in closed)
    assert partial is None or partial.end_ns > now_ns
    assert (*closed, *([partial] if partial else [])) == whole(seen, length)


# ---- details ----


def test_a_bar_is_weighted_by_volume_and_says_that_it_is_computed() -> None:
    bars = [
        minute(0, open=10, high=12, low=9, close=11, volume=300, vwap=10.5, trades=3),
        minute(1, open=11, high=13, low=8, close=9, volume=100, vwap=12.5, trades=2),
    ]

    (bar,) = whole(bars, "5m")

    assert (bar.open, bar.high, bar.low, bar.close) == (10, 13, 8, 9)
    assert (bar.volume, bar.vwap, bar.trades) == (400, 11.0, 5)
    assert (bar.source, bar.provider) == (Source.COMPUTED, "massive")
    assert bar.received_ns == bars[1].received_ns


def test_an_index_has_no_volume_and_gets_none() -> None:
    (bar,) = whole([minute(0), minute(1)], "1h")

    assert (bar.volume, bar.vwap, bar.trades) == (None, None, None)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    (bar,) = whole([minute(0, volume=5, vwap=10, trades=1), minute(1)], "5m")

    assert (bar.volume, bar.vwap, bar.trades) == (None, None, None)


def test_an_average_with_an_unknown_part_is_unknown_unless_nothing_traded_there() -> None:
    known, unknown = minute(0, volume=5, vwap=10), minute(1, volume=5)
    idle = minute(1, volume=0)

    assert whole([known, unknown], "5m")[0].vwap is None
    assert whole([known, idle], "5m")[0].vwap == 10
    assert whole([idle, minute(2, volume=0)], "5m")[0].vwap is None


def test_what_is_doubtful_of_a_part_is_doubtful_of_the_whole() -> None:
    quality = Quality(provider="massive", source=Source.REST, received_ns=1)
    parts = [minute(0, simulated=True, quality=quality), minute(1, delayed=True), minute(2)]
    mixed = [minute(0), minute(1, provider="tradier")]

    (bar,) = whole(parts, "5m")

    assert (bar.simulated, bar.delayed, bar.quality) == (True, True, None)
    assert whole(mixed, "5m")[0].provider == SEVERAL


def test_gaps_stay_gaps() -> None:
    long = whole([minute(0), minute(17)], "5m")

    assert [(bar.event_ns - START_NS) // MINUTE_NS for bar in long] == [0, 15]


def test_a_window_that_began_before_the_bars_are_known_is_left_out() -> None:
    bars = [minute(place) for place in range(2, 12)]
    since_ns = START_NS + 2 * MINUTE_NS

    rolled = roll_up(bars, "5m", now_ns=START_NS + 12 * MINUTE_NS, since_ns=since_ns)

    assert [bar.event_ns for bar in rolled.bars] == [START_NS + 5 * MINUTE_NS]
    assert rolled.partial is not None
    assert rolled.partial.event_ns == START_NS + 10 * MINUTE_NS


def test_no_bars_make_no_bars() -> None:
    assert roll_up([], "1h", now_ns=0) == RolledUp((), None)


@pytest.mark.parametrize(
    ("bars", "words"),
    [
        ([minute(1), minute(0)], "out of order"),
        ([minute(0), minute(0)], "overlap"),
        ([minute(0), minute(1, symbol="QQQ")], "several symbols"),
        ([minute(4, end_ns=START_NS + 6 * MINUTE_NS)], "not cut"),
    ],
)
def test_bars_that_do_not_fit_are_refused(bars: list[Bar], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        roll_up(bars, "5m", now_ns=FOREVER_NS)


@given(minutes(), st.randoms())
def test_merging_sorts_and_keeps_what_was_learned_last(
    bars: tuple[Bar, ...], random: Random
) -> None:
    late = [msgspec.structs.replace(bar, received_ns=bar.received_ns + 9) for bar in bars[::2]]
    again = [msgspec.structs.replace(bar, close=bar.low) for bar in late]
    one, other = list(bars), [*late, *again]
    random.shuffle(one)

    found = merged(one, other)

    assert [bar.event_ns for bar in found] == [bar.event_ns for bar in bars]
    assert list(found[::2]) == again
    assert found[1::2] == bars[1::2]
    assert merged(other, one) == found


def test_regular_hours_leave_out_what_traded_before_and_after_and_on_holidays() -> None:
    half_day = date(2026, 11, 27)
    half_close = instant_ns(half_day, time(13))
    inside = [
        minute(0),
        minute(389),
        minute(0, event_ns=half_close - MINUTE_NS, end_ns=half_close),
    ]
    sunday = instant_ns(date(2026, 3, 8), time(12))
    outside = [
        minute(-1),
        minute(390),
        minute(0, event_ns=half_close, end_ns=half_close + MINUTE_NS),
        minute(0, event_ns=sunday, end_ns=sunday + MINUTE_NS),
    ]

    assert list(regular_hours([*inside, *outside])) == inside
