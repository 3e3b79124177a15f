import tracemalloc
from collections import Counter, OrderedDict

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.core.limits import (
    ALERT_SHARE,
    MINUTE_S,
    SLOTS,
    CoolDown,
    MinuteCounter,
    Pacer,
    SlidingWindow,
)

# Sixteenths of a second add up without rounding, so boundaries are met exactly.
steps = (st.integers(0, 4) | st.integers(0, 200)).map(lambda n: n / 16)


def test_the_1201st_call_in_a_minute_is_refused_until_the_window_moves_on() -> None:
    """R28."""
    window = SlidingWindow(1200, 60)

    verdicts = [window.admit("a", 1000 + n / 32) for n in range(1200)]
    refused = window.admit("a", 1040)

    assert all(verdict.admitted for verdict in verdicts)
    assert verdicts[-1].remaining == 0
    assert not refused.admitted
    assert refused.remaining == 0
    assert 0 < refused.retry_after_s <= 21
    assert window.admit("a", 1040 + refused.retry_after_s).admitted
    assert window.admit("a", 1200) == (True, 1199, 0)


def test_a_burst_is_forgotten_exactly_one_window_later() -> None:
    """R28: resets."""
    window = SlidingWindow(1200, 60)
    for _ in range(1200):
        window.admit("a", 1000)

    assert window.admit("a", 1059).retry_after_s == 1
    assert window.admit("a", 1060) == (True, 1199, 0)


def test_no_call_leaves_the_window_before_its_time() -> None:
    window = SlidingWindow(2, 60)
    window.admit("a", 0)
    window.admit("a", 0.5)

    assert window.admit("a", 60) == (False, 0, 0.5), "they share a slot: late, never early"
    assert window.admit("a", 60.5) == (True, 1, 0)


def test_refused_calls_do_not_lengthen_the_wait() -> None:
    window = SlidingWindow(1, 60)
    window.admit("a", 0)

    for now in range(60):
        assert window.admit("a", now).retry_after_s == 60 - now

    assert window.admit("a", 60).admitted


def test_keys_do_not_share_their_limit() -> None:
    window = SlidingWindow(1, 60)

    assert window.admit("a", 0).admitted
    assert window.admit("b", 0).admitted
    assert not window.admit("a", 0).admitted


def test_one_call_may_have_its_own_limit() -> None:
    window = SlidingWindow(1, 60)

    assert window.admit("a", 0, 3) == (True, 2, 0)
    assert window.admit("a", 10, 3) == (True, 1, 0)
    assert window.admit("a", 20, 1) == (False, 0, 50), "both calls must leave the window"
    assert window.admit("a", 20, 3).admitted


def test_a_limit_of_zero_admits_nobody() -> None:
    window = SlidingWindow(0, 60)

    assert window.admit("a", 0) == (False, 0, 60)
    assert window.admit("a", 60) == (False, 0, 60)


def test_made_up_keys_cost_no_memory() -> None:
    window = SlidingWindow(1, 60, max_keys=3)
    window.admit("first", 0)
    window.admit("second", 0)
    for n in range(100):
        window.admit("second", n)
        window.admit(f"made up {n}", n)

    assert len(window) == 3
    assert not window.admit("second", 101 - 60).admitted, "who calls is remembered"
    assert window.admit("first", 0).admitted, "who called longest ago is forgotten"


def test_memory_per_key_is_bounded_whatever_the_limit() -> None:
    window = SlidingWindow(1_000_000, 60)
    tracemalloc.start()
    try:
        for n in range(20_000):
            window.admit("a", n / 16)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held_bytes < 500 * SLOTS


class AnyCalls(RuleBasedStateMachine):
    """The window against a log of every admitted call."""

    LIMIT, WINDOW_S, KEYS = 5, 15.0, 2

    def __init__(self) -> None:
        super().__init__()
        self.window = SlidingWindow(self.LIMIT, self.WINDOW_S, max_keys=self.KEYS)
        self.now = 0.0
        self.logs: OrderedDict[str, list[float]] = OrderedDict()

    @rule(elapsed=steps)
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    def log(self, key: str) -> list[float]:
        log = self.logs.setdefault(key, [])
        self.logs.move_to_end(key)
        if len(self.logs) > self.KEYS:
            self.logs.popitem(last=False)
        return log

    @rule(key=st.sampled_from("abc"), limit=st.none() | st.integers(0, 8))
    def call(self, key: str, limit: int | None) -> None:
        allowed = self.LIMIT if limit is None else limit
        log = self.log(key)
        exact = sum(at + self.WINDOW_S > self.now for at in log)
        slot_s = self.WINDOW_S / SLOTS
        late = sum(at + self.WINDOW_S + slot_s > self.now for at in log)

        verdict = self.window.admit(key, self.now, limit)

        if verdict.admitted:
            assert exact < allowed, "more than the limit in one window"
            assert verdict.remaining in range(allowed - late - 1, allowed - exact)
            assert verdict.retry_after_s == 0
            log.append(self.now)
        else:
            assert late >= allowed, "refused though a slot ago there was room"
            assert verdict.remaining == 0
            assert 0 < verdict.retry_after_s <= self.WINDOW_S

    @rule(key=st.sampled_from("abc"))
    def wait_as_told(self, key: str) -> None:
        log = self.log(key)
        verdict = self.window.admit(key, self.now)
        if not verdict.admitted:
            self.now += verdict.retry_after_s
            assert self.window.admit(key, self.now).admitted, "we said when to come back"
        log.append(self.now)

    @invariant()
    def keys_are_bounded(self) -> None:
        assert len(self.window) == len(self.logs) <= self.KEYS


TestAnyCalls = AnyCalls.TestCase
TestAnyCalls.settings = settings(max_examples=60)


def test_a_pacer_lets_a_burst_go_and_then_keeps_the_pace() -> None:
    """W-73."""
    pacer = Pacer(rate_per_s=4, burst=3)

    assert [pacer.reserve(100) for _ in range(6)] == [0, 0, 0, 0.25, 0.5, 0.75]


def test_a_pacer_recovers_its_burst_when_idle_and_no_more() -> None:
    pacer = Pacer(rate_per_s=4, burst=2)
    for _ in range(4):
        pacer.reserve(100)

    assert [pacer.reserve(200) for _ in range(3)] == [0, 0, 0.25]


def test_a_turn_given_back_is_taken_by_the_next_caller() -> None:
    pacer = Pacer(rate_per_s=1, burst=1)
    waits = [pacer.reserve(0) for _ in range(4)]

    pacer.cancel(waits[1], now=0.5)

    assert waits == [0, 1, 2, 3]
    assert pacer.reserve(0.5) == 0.5
    assert pacer.reserve(0.5) == 3.5


def test_a_turn_that_has_come_up_cannot_be_given_back() -> None:
    pacer = Pacer(rate_per_s=1, burst=1)
    pacer.reserve(0)

    pacer.cancel(0, now=0)

    assert pacer.reserve(0) == 1


def test_a_turn_given_back_and_missed_is_gone() -> None:
    pacer = Pacer(rate_per_s=1, burst=1)
    pacer.reserve(0)
    pacer.cancel(pacer.reserve(0), now=0)

    assert pacer.reserve(1.5) == 0.5


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_pacer_that_makes_no_sense_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate_per_s"):
        Pacer(rate, burst)


@given(
    calls=st.lists(st.tuples(steps, st.booleans()), max_size=60),
    rate=st.sampled_from([0.5, 1, 4]),
    burst=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_no_stretch_of_time_has_more_turns_than_its_share(
    calls: list[tuple[float, bool]], rate: float, burst: int
) -> None:
    pacer = Pacer(rate, burst)
    now = 0.0
    turns: list[float] = []
    for elapsed, leaves in calls:
        now += elapsed
        turn = now + pacer.reserve(now)
        if leaves and turn > now:
            pacer.cancel(turn, now)
        else:
            turns.append(turn)

    turns.sort()
    for first, start in enumerate(turns):
        for last in range(first, len(turns)):
            assert last - first + 1 <= burst + (turns[last] - start) * rate


def test_a_cool_down_is_shared_and_ends() -> None:
    """R85, W-16."""
    pause = CoolDown(60)
    assert pause.until is None
    assert pause.remaining(100) == 0

    pause.start(5, 100)

    assert pause.until == 105
    assert pause.remaining(102) == 3
    assert pause.remaining(106) == 0


def test_the_longest_of_several_cool_downs_counts() -> None:
    pause = CoolDown(60)

    pause.start(20, 100)
    pause.start(5, 101)

    assert pause.remaining(101) == 19


@pytest.mark.parametrize("seconds", [61, 1e9, float("inf")])
def test_an_absurd_cool_down_is_capped(seconds: float) -> None:
    """R85: an absurd value is capped."""
    pause = CoolDown(60)

    pause.start(seconds, 100)

    assert pause.remaining(100) == 60


@pytest.mark.parametrize("seconds", [0, -5, float("nan"), float("-inf")])
def test_a_cool_down_of_nothing_is_none(seconds: float) -> None:
    """W-16: what could not be read as a number must not disable anything."""
    pause = CoolDown(60)

    pause.start(seconds, 100)

    assert pause.until is None
    pause.start(5, 100)
    assert pause.remaining(100) == 5


def test_events_count_for_a_minute() -> None:
    """R261."""
    counter = MinuteCounter()
    counter.add("chain", 0)
    counter.add("chain", 30, 2)
    counter.add("bars", 30)

    assert counter.count("chain", 59) == 3
    assert counter.count("chain", 60) == 2
    assert counter.snapshot(60) == {"chain": 2, "bars": 1}
    assert counter.snapshot(90) == {}
    assert counter.count("never", 0) == 0


def test_the_alert_comes_at_eighty_percent_and_clears_below() -> None:
    """R261."""
    counter = MinuteCounter()
    for second in range(79):
        counter.add("chain", second / 8)
    counter.add("bars", 0)
    assert counter.near(100, 10) == {}

    counter.add("chain", 10)

    assert counter.near(100, 10) == {"chain": 80}
    assert counter.near(100, 61) == {}
    assert ALERT_SHARE == 0.8


def test_counted_keys_are_bounded() -> None:
    counter = MinuteCounter(max_keys=2)
    for key in "abac":
        counter.add(key, 0)

    assert counter.snapshot(0) == {"a": 2, "c": 1}


@given(adds=st.lists(st.tuples(st.sampled_from("ab"), steps, st.integers(1, 3)), max_size=80))
@settings(max_examples=60, deadline=None)
def test_a_count_is_that_of_the_last_minute_to_within_a_second(
    adds: list[tuple[str, float, int]],
) -> None:
    counter = MinuteCounter()
    log: list[tuple[str, float]] = []
    now = 0.0
    for key, elapsed, events in adds:
        now += elapsed
        counter.add(key, now, events)
        log += [(key, now)] * events

        least = Counter(k for k, at in log if at + MINUTE_S > now)
        most = Counter(k for k, at in log if at + MINUTE_S + MINUTE_S / SLOTS > now)
        counts = counter.snapshot(now)
        assert all(least[k] <= counts.get(k, 0) <= most[k] for k in "ab")
