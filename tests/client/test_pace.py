from itertools import pairwise

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.client._notices import TransportPolicy
from onetape.client._pace import Rota, interval_s

POLICY = TransportPolicy()


def intervals(base_s: float, polls: int, **more: bool) -> list[float]:
    about = {"is_open": True, "is_calm": False, **more}
    return [interval_s(POLICY, base_s, unchanged=n, **about) for n in range(polls)]


def test_the_interval_grows_when_nothing_changes_and_is_capped() -> None:
    """R144: 4, 4, 4, 6, 8 … up to 15 s; a change begins it again."""
    assert intervals(4.0, 10) == [4, 4, 4, 6, 8, 10, 12, 14, 15, 15]
    assert intervals(2.0, 4) == [2, 2, 2, 4]


def test_a_closed_market_is_asked_every_twelve_seconds_at_most() -> None:
    """R143."""
    assert intervals(5.0, 6, is_open=False) == [12, 12, 12, 14, 15, 15]


def test_an_interval_that_was_asked_for_is_never_cut_short() -> None:
    """R141: longer than the cap, it stays; longer than the closed interval, it stays."""
    assert intervals(60.0, 5) == [60] * 5
    assert intervals(60.0, 5, is_open=False) == [60] * 5


def test_a_calm_symbol_is_asked_less() -> None:
    """R145."""
    assert intervals(4.0, 4, is_calm=True) == [6, 6, 6, 8]


@pytest.mark.parametrize("base_s", [1.0, 2.0, 4.0, 5.0, 30.0])
@pytest.mark.parametrize("is_open", [True, False])
def test_no_step_makes_it_shorter(base_s: float, is_open: bool) -> None:
    steps = intervals(base_s, 20, is_open=is_open)

    assert all(later >= earlier >= base_s for earlier, later in pairwise(steps))


def test_keys_of_one_group_go_together() -> None:
    """R150: ten symbols cost one batch in an interval."""
    rota: Rota[int, str] = Rota()
    for key in range(10):
        rota.plan(key, "options", 2.0 + key / 100, interval_s=2.0)

    assert rota.take(1.9) == []
    assert rota.take(2.0) == [("options", list(range(10)))]
    assert rota.wake_at() is None


def test_a_key_whose_turn_comes_between_two_batches_waits_for_the_next() -> None:
    rota: Rota[str, str] = Rota()
    rota.plan("a", "options", 0.0, interval_s=2.0)
    rota.take(0.0)

    rota.plan("b", "options", 0.7, interval_s=2.0)

    assert rota.wake_at() == 2.0
    assert rota.take(0.7) == []
    rota.plan("a", "options", 2.0, interval_s=2.0)
    assert rota.take(2.0) == [("options", ["b", "a"])]


def test_what_is_urgent_waits_for_nobody() -> None:
    """R146: within 100 ms of the loss, whatever was asked just before."""
    rota: Rota[str, str] = Rota()
    rota.plan("a", "options", 0.0, interval_s=2.0)
    rota.take(0.0)
    rota.plan("a", "options", 2.0, interval_s=2.0)

    rota.urge("b", "options", 0.1)

    assert rota.wake_at() == 0.1
    assert rota.take(0.1) == [("options", ["b"])]
    assert rota.wake_at() == 2.0


def test_groups_do_not_wait_for_each_other() -> None:
    rota: Rota[str, str] = Rota()
    rota.plan("o", "options", 2.0, interval_s=2.0)
    rota.plan("i", "indices", 5.0, interval_s=5.0)

    assert rota.take(2.0) == [("options", ["o"])]
    assert rota.take(5.0) == [("indices", ["i"])]


def test_a_plan_can_be_hastened_and_cancelled() -> None:
    rota: Rota[str, str] = Rota()
    rota.plan("a", "stocks", 12.0, interval_s=12.0)

    rota.hasten("a", 4.0, interval_s=4.0)
    rota.hasten("a", 9.0, interval_s=4.0)
    rota.hasten("nobody", 1.0, interval_s=4.0)
    assert ("a" in rota, len(rota), rota.wake_at()) == (True, 1, 4.0)

    rota.cancel("a")
    rota.cancel("a")
    assert ("a" in rota, len(rota), rota.wake_at()) == (False, 0, None)


class AnyRota(RuleBasedStateMachine):
    """Nothing planned is forgotten, taken early or twice, and batches keep their distance."""

    keys = st.integers(0, 5)
    delays = st.sampled_from([0.0, 0.3, 1.0, 2.0, 6.0])

    def __init__(self) -> None:
        super().__init__()
        self.rota: Rota[int, str] = Rota()
        self.now = 0.0
        self.planned: dict[int, tuple[float, bool]] = {}
        self.regular_at: dict[str, float] = {}

    def group(self, key: int) -> str:
        return "even" if key % 2 == 0 else "odd"

    @rule(key=keys, delay=delays, urgent=st.booleans())
    def plan(self, key: int, delay: float, urgent: bool) -> None:
        at = self.now + delay
        if urgent:
            self.rota.urge(key, self.group(key), at)
        else:
            self.rota.plan(key, self.group(key), at, interval_s=2.0)
        self.planned[key] = (at, urgent)

    @rule(key=keys)
    def cancel(self, key: int) -> None:
        self.rota.cancel(key)
        self.planned.pop(key, None)

    @rule(elapsed=delays)
    def take(self, elapsed: float) -> None:
        self.now += elapsed
        for group, keys in self.rota.take(self.now):
            kinds = {self.planned[key][1] for key in keys}
            for key in keys:
                at, urgent = self.planned.pop(key)
                assert self.group(key) == group
                assert at <= self.now + (0.0 if urgent else 0.5), "too early"
            if False in kinds:
                assert self.now >= self.regular_at.get(group, -9.0) + 2.0, "too often"
                self.regular_at[group] = self.now

    @invariant()
    def nothing_is_forgotten(self) -> None:
        assert len(self.rota) == len(self.planned)
        assert all(key in self.rota for key in self.planned)
        wake_at = self.rota.wake_at()
        for key, (at, urgent) in self.planned.items():
            batch_at = self.regular_at.get(self.group(key), -9.0) + 2.0
            assert wake_at is not None
            assert wake_at <= (at if urgent else max(at, batch_at)), key


TestAnyRota = AnyRota.TestCase
TestAnyRota.settings = settings(max_examples=40, stateful_step_count=25)
