from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.core.choice import Choice, Choices, Patience, ResponseTimes, Route, Standing

MINUTE = Patience()


def fallen(*, at: float = 0.0, patience: Patience = MINUTE) -> Choice:
    choice = Choice(patience)
    assert choice.fell_back(at, "massive is down")
    return choice


def returned(*, patience: Patience = MINUTE) -> Choice:
    """Back on trial at 60."""
    choice = fallen(patience=patience)
    choice.was_good(30)
    assert choice.was_good(60)
    return choice


def test_the_primary_is_asked_first_until_it_fails() -> None:
    choice = Choice(MINUTE)

    assert choice.first is Route.PRIMARY
    assert choice.is_plain(0)
    assert not choice.was_good(1)
    assert choice.fell_back(2, "massive is down")
    assert choice.first is Route.SECONDARY
    assert choice.why == "massive is down"


def test_a_failure_that_the_secondary_shares_changes_nothing() -> None:
    choice = Choice(MINUTE)

    choice.failed()

    assert choice.first is Route.PRIMARY


def test_a_return_takes_a_minute_and_two_good_probes_in_a_row() -> None:
    """R224: the primary must prove itself."""
    choice = fallen()

    assert not choice.was_good(30)
    assert choice.first is Route.SECONDARY
    assert choice.was_good(60)
    assert choice.first is Route.PRIMARY
    assert choice.why is None


def test_good_probes_within_the_minute_are_not_enough() -> None:
    choice = fallen()

    for now in (10, 20, 30, 40, 50, 59.9):
        assert not choice.was_good(now)

    assert choice.was_good(60)


@pytest.mark.parametrize("how", ["failed", "fell_back"])
def test_a_bad_probe_starts_the_proof_over(how: str) -> None:
    choice = fallen()
    choice.was_good(30)

    if how == "failed":
        choice.failed()
    else:
        assert not choice.fell_back(60, "again")

    assert not choice.was_good(90)
    assert choice.was_good(120)


def test_probes_are_half_a_minute_apart() -> None:
    """R224."""
    choice = fallen()

    assert not choice.wants_probe(29.9)
    assert choice.wants_probe(30)
    choice.probing(30)
    assert not choice.wants_probe(59.9)
    assert choice.wants_probe(60)


def test_what_the_primary_answers_needs_no_probe() -> None:
    assert not Choice(MINUTE).wants_probe(1e9)
    assert not returned().wants_probe(1e9)


def test_a_return_that_fails_at_once_is_called_off_and_the_next_takes_twice_as_long() -> None:
    choice = returned()

    assert not choice.fell_back(61, "massive is down"), "called off, not a switch"

    assert choice.first is Route.SECONDARY
    assert not any(choice.was_good(now) for now in (91, 121, 151, 180.9))
    assert choice.was_good(181)


def test_holds_double_up_to_a_bound() -> None:
    choice = fallen()
    now = 0.0
    holds: list[float] = []
    for _ in range(6):
        fell_at = now
        while not choice.was_good(now):
            now += 1
        holds.append(now - fell_at)
        choice.fell_back(now, "again")

    assert holds == [60, 120, 240, 480, 600, 600]


def test_after_a_good_minute_the_return_is_complete_and_patience_is_as_it_was() -> None:
    choice = returned()
    choice.fell_back(61, "again")
    choice.was_good(91)
    choice.was_good(181)

    choice.was_good(240.9)
    assert choice.standing is Standing.TRIAL
    choice.was_good(241)
    assert choice.standing is Standing.PRIMARY

    assert choice.fell_back(300, "again")
    choice.was_good(330)
    assert choice.was_good(360), "a minute again"


def test_a_failure_after_the_trial_is_a_switch_though_nobody_asked_in_between() -> None:
    choice = returned()

    assert choice.fell_back(120, "again")


def test_what_both_say_is_believed_for_a_while() -> None:
    """W-60: the other has nothing either."""
    choice = Choice(MINUTE)

    choice.agree(10)

    assert choice.is_agreed(39.9)
    assert not choice.is_plain(39.9)
    assert not choice.is_agreed(40)
    assert choice.is_plain(40)


def test_only_choices_with_something_to_say_take_room() -> None:
    choices = Choices(MINUTE, most=2)
    for key in "abc":
        choice = choices.of(key)
        choices.keep(key, choice, 0)
    assert len(choices) == 0

    for key in "abc":
        choice = choices.of(key)
        choice.fell_back(0, "down")
        choices.keep(key, choice, 0)

    assert len(choices) == 2
    assert choices.on_secondary() == 2
    assert choices.of("a").first is Route.PRIMARY, "the oldest was forgotten"
    assert choices.of("c").first is Route.SECONDARY


def test_a_choice_that_came_back_is_forgotten() -> None:
    choices = Choices(MINUTE)
    choice = returned()
    choices.keep("a", choice, 60)
    assert len(choices) == 1
    assert choices.on_secondary() == 0

    choice.was_good(120)
    choices.keep("a", choice, 120)

    assert len(choices) == 0


def test_the_usual_time_is_told_of_enough_answers_only() -> None:
    """R227."""
    times = ResponseTimes()
    for n in range(19):
        times.add(n / 100)
    assert times.p95_s() is None

    times.add(0.19)

    assert times.p95_s() == 0.19


@given(st.lists(st.floats(0, 10), min_size=20, max_size=300))
def test_no_more_than_a_twentieth_of_the_newest_answers_took_longer(taken: list[float]) -> None:
    times = ResponseTimes()
    for took_s in taken:
        times.add(took_s)

    newest = taken[-128:]
    usual_s = times.p95_s()

    assert usual_s is not None
    assert sum(one > usual_s for one in newest) <= len(newest) / 20


class AnyHistory(RuleBasedStateMachine):
    """Questions at any time, the primary good or bad at each, the secondary good."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = Choice(MINUTE)
        self.now = 0.0
        self.switches: list[float] = []
        self.firsts: list[tuple[float, Route]] = [(float("-inf"), Route.PRIMARY)]
        self.good_since: float | None = None
        self.goods = 0

    def note(self, *, is_switch: bool) -> None:
        if is_switch:
            self.switches.append(self.now)
        if self.firsts[-1][1] is not self.choice.first:
            self.firsts.append((self.now, self.choice.first))

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_primary_is_good(self) -> None:
        before = self.choice.first
        self.goods += 1
        self.note(is_switch=self.choice.was_good(self.now))
        if before is Route.SECONDARY and self.choice.first is Route.PRIMARY:
            assert self.goods >= MINUTE.proofs, "it returned without having proved itself"

    @rule(both=st.booleans())
    def the_primary_fails(self, both: bool) -> None:
        self.goods = 0
        if both:
            self.choice.failed()
            self.note(is_switch=False)
        else:
            self.note(is_switch=self.choice.fell_back(self.now, "why"))
            assert self.choice.first is Route.SECONDARY, "the one that answers is asked next"

    @invariant()
    def switches_are_a_minute_apart(self) -> None:
        assert all(b - a >= 60 for a, b in pairwise(self.switches)), "it flaps"

    @invariant()
    def who_is_first_changes_at_most_twice_a_minute(self) -> None:
        changes = [at for at, _ in self.firsts[1:]]
        assert all(c - a >= 60 for a, c in zip(changes, changes[2:], strict=False)), "it flaps"

    @invariant()
    def over_many_minutes_there_is_one_change_a_minute_and_one_more(self) -> None:
        changes = [at for at, _ in self.firsts[1:]]
        for i, first_at in enumerate(changes):
            for j in range(i, len(changes)):
                minutes = (changes[j] - first_at) / 60
                assert j - i <= minutes + 1, "it flaps"


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=80, deadline=None)
