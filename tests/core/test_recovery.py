import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onetape.core.recovery import Backoff, BreakerState, CircuitBreaker, Permit


def highest() -> float:
    return 1.0


def granted(permit: Permit | None) -> Permit:
    assert permit is not None, "the breaker refused"
    return permit


def opened_breaker(*, now: float = 0) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=1, open_s=30)
    granted(breaker.admit(now)).failed(now)
    return breaker


def test_the_first_retry_is_immediate_and_the_ceiling_then_doubles_up_to_the_cap() -> None:
    """C15, R84."""
    backoff = Backoff(1, 30, first_immediate=True, random=highest)

    delays = [backoff.next_delay() for _ in range(9)]

    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.attempts == 9


def test_without_an_immediate_first_retry_every_delay_is_drawn() -> None:
    backoff = Backoff(1, 30, first_immediate=False, random=highest)

    assert [backoff.next_delay() for _ in range(3)] == [1, 2, 4]


def test_a_reset_starts_over() -> None:
    backoff = Backoff(1, 30, first_immediate=True, random=highest)
    for _ in range(5):
        backoff.next_delay()

    backoff.reset()

    assert backoff.attempts == 0
    assert [backoff.next_delay() for _ in range(3)] == [0, 1, 2]


def test_it_never_gives_up() -> None:
    """C15: no attempt limit, and no overflow of the exponent either."""
    backoff = Backoff(1, 30, first_immediate=True, random=highest)

    delays = [backoff.next_delay() for _ in range(5_000)]

    assert delays[-1] == 30


def test_two_peers_do_not_come_back_in_lock_step() -> None:
    """W-17: full jitter, from nothing to the ceiling."""
    backoff = Backoff(1, 1, first_immediate=False, random=random.Random(7).random)

    delays = [backoff.next_delay() for _ in range(1_000)]

    assert min(delays) < 0.05
    assert max(delays) > 0.95
    assert sum(delays) / len(delays) == pytest.approx(0.5, abs=0.05)


def test_the_default_randomness_is_random() -> None:
    backoff = Backoff(1, 1, first_immediate=False)

    assert len({backoff.next_delay() for _ in range(10)}) > 1


@pytest.mark.parametrize(("base_s", "cap_s"), [(0, 1), (-1, 1), (2, 1)])
def test_a_backoff_that_makes_no_sense_is_refused(base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s, cap_s, first_immediate=True)


@given(draws=st.lists(st.floats(0, 1), max_size=40), first_immediate=st.booleans())
@settings(deadline=None)
def test_every_delay_is_within_the_ceiling_of_its_attempt(
    draws: list[float], first_immediate: bool
) -> None:
    left = iter(draws)
    backoff = Backoff(1, 30, first_immediate=first_immediate, random=lambda: next(left))

    for n in range(len(draws)):
        exponent = n - 1 if first_immediate else n
        ceiling = 0 if exponent < 0 else min(30, 2.0**exponent)
        assert 0 <= backoff.next_delay() <= ceiling


def test_failures_in_a_row_open_the_breaker() -> None:
    """W-58."""
    breaker = CircuitBreaker(failures=3, open_s=30)

    for _ in range(3):
        granted(breaker.admit(0)).failed(0)

    assert breaker.state is BreakerState.OPEN
    assert breaker.opened_total == 1
    assert breaker.admit(29.9) is None
    assert breaker.retry_after_s(10) == 20


def test_a_success_in_between_starts_the_count_over() -> None:
    breaker = CircuitBreaker(failures=2, open_s=30)

    granted(breaker.admit(0)).failed(0)
    granted(breaker.admit(0)).succeeded(0)
    granted(breaker.admit(0)).failed(0)

    assert breaker.state is BreakerState.CLOSED
    assert breaker.retry_after_s(0) == 0


def test_of_any_number_of_callers_one_probes() -> None:
    """libraries.md 3.4: 20 of 20 were admitted by the packages we tried."""
    breaker = opened_breaker()

    permits = [breaker.admit(30) for _ in range(20)]

    assert sum(permit is not None for permit in permits) == 1
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.admit(10_000) is None, "the probe has not reported"


def test_a_probe_that_succeeds_closes_the_breaker() -> None:
    breaker = opened_breaker()

    granted(breaker.admit(30)).succeeded(31)

    assert breaker.state is BreakerState.CLOSED
    assert all(breaker.admit(31) for _ in range(20))


def test_a_probe_that_fails_opens_it_again_from_then_on() -> None:
    breaker = opened_breaker()

    granted(breaker.admit(30)).failed(40)

    assert breaker.state is BreakerState.OPEN
    assert breaker.opened_total == 2
    assert breaker.admit(69) is None
    assert breaker.admit(70) is not None


def test_a_probe_may_be_hastened_but_never_put_off() -> None:
    breaker = opened_breaker()  # at 0

    breaker.hasten(2)
    assert breaker.admit(1.9) is None
    granted(breaker.admit(2)).failed(2)
    assert breaker.admit(31) is None, "it opened anew, for the whole time"
    breaker.hasten(60)
    assert breaker.retry_after_s(31) == 1
    assert breaker.admit(32) is not None


def test_an_abandoned_probe_frees_the_place_for_another() -> None:
    breaker = opened_breaker()

    granted(breaker.admit(30)).abandoned(31)

    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.opened_total == 1
    granted(breaker.admit(31)).succeeded(31)
    assert breaker.state is BreakerState.CLOSED


def test_cancelled_callers_never_open_the_breaker() -> None:
    """libraries.md 3.4: another package opened after three cancellations."""
    breaker = CircuitBreaker(failures=2, open_s=30)

    granted(breaker.admit(0)).failed(0)
    for _ in range(10):
        granted(breaker.admit(0)).abandoned(0)

    assert breaker.state is BreakerState.CLOSED
    granted(breaker.admit(0)).failed(0)
    assert breaker.state is BreakerState.OPEN, "nor does abandoning heal"


def test_only_the_first_report_of_a_permit_counts() -> None:
    breaker = CircuitBreaker(failures=2, open_s=30)
    permit = granted(breaker.admit(0))

    permit.failed(0)
    permit.failed(0)
    permit.succeeded(0)
    permit.abandoned(0)

    assert breaker.state is BreakerState.CLOSED
    granted(breaker.admit(0)).failed(0)
    assert breaker.state is BreakerState.OPEN


def test_a_late_report_from_before_the_opening_disturbs_nothing() -> None:
    breaker = CircuitBreaker(failures=1, open_s=30)
    early, other, slow = (granted(breaker.admit(0)) for _ in range(3))
    early.failed(0)

    other.succeeded(1)
    assert breaker.state is BreakerState.OPEN, "a success from before is no probe"

    probe = granted(breaker.admit(30))
    slow.failed(30)
    assert breaker.state is BreakerState.HALF_OPEN
    probe.succeeded(31)
    assert breaker.state is BreakerState.CLOSED


def test_a_breaker_without_a_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="failures"):
        CircuitBreaker(failures=0, open_s=30)


class Issued(NamedTuple):
    permit: Permit
    history: int  # how many state changes and probes the model had seen


class AnyCallers(RuleBasedStateMachine):
    """The breaker against a model that derives its state from the list of all that happened."""

    FAILURES, OPEN_S = 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(self.FAILURES, self.OPEN_S)
        self.now = 0.0
        self.state = "closed"
        self.row = 0
        self.opened_at: list[float] = []
        self.history = 0
        self.probe: Issued | None = None
        self.flying: list[Issued] = []
        self.spent: list[Permit] = []

    @rule(elapsed=st.sampled_from([0.0, 1.0, 5.0, 10.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    @rule(callers=st.integers(1, 5))
    def ask(self, callers: int) -> None:
        permits = [p for p in (self.breaker.admit(self.now) for _ in range(callers)) if p]
        if self.state == "open" and self.now >= self.opened_at[-1] + self.OPEN_S:
            self.state, self.probe = "half_open", None
        if self.state == "closed":
            assert len(permits) == callers
        elif self.state == "open":
            assert not permits
        else:
            assert len(permits) == (self.probe is None), "one probe, and only one"
            self.history += len(permits)
        for permit in permits:
            issued = Issued(permit, self.history)
            self.flying.append(issued)
            if self.state == "half_open":
                self.probe = issued

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def report(self, data: st.DataObject, outcome: str) -> None:
        issued = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        getattr(issued.permit, outcome)(self.now)
        self.spent.append(issued.permit)
        if self.state == "half_open" and issued is self.probe:
            self.probe_reported(outcome)
        elif self.state == "closed" and issued.history == self.history:
            self.row = {"succeeded": 0, "failed": self.row + 1, "abandoned": self.row}[outcome]
            if self.row == self.FAILURES:
                self.opens()

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def report_again(self, data: st.DataObject, outcome: str) -> None:
        getattr(data.draw(st.sampled_from(self.spent)), outcome)(self.now)

    def probe_reported(self, outcome: str) -> None:
        self.probe = None
        if outcome == "succeeded":
            self.state, self.row = "closed", 0
            self.history += 1
        elif outcome == "failed":
            self.opens()

    def opens(self) -> None:
        self.state, self.row = "open", 0
        self.history += 1
        self.opened_at.append(self.now)

    @invariant()
    def breaker_is_where_the_model_is(self) -> None:
        assert self.breaker.state == self.state
        assert self.breaker.opened_total == len(self.opened_at)
        left = self.opened_at[-1] + self.OPEN_S - self.now if self.state == "open" else 0
        assert self.breaker.retry_after_s(self.now) == max(0, left)


TestAnyCallers = AnyCallers.TestCase
TestAnyCallers.settings = settings(max_examples=60)
