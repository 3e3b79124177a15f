from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from onetape.core.choice import Route
from onetape.core.handover import Feeding, Handover, Rhythm

RHYTHM = Rhythm(poll_s=4.0)
S = 1_000_000_000


def live(*, at: float = 100.0, event_ns: int = 0) -> Handover:
    """One that was asked about and heard at an instant."""
    handover = Handover(RHYTHM)
    handover.asked(at)
    assert handover.answered(event_ns, Route.PRIMARY)
    assert handover.heard(event_ns, at, is_good=True)
    return handover


def polling(*, at: float = 100.0, event_ns: int = 0) -> Handover:
    handover = Handover(RHYTHM)
    handover.asked(at)
    handover.answered(event_ns, Route.SECONDARY)
    return handover


def test_the_first_question_is_asked_at_once() -> None:
    assert Handover(RHYTHM).due_at(is_open=True) < 0


def test_while_the_primary_delivers_nothing_is_asked() -> None:
    """C20: the stream alone is enough."""
    handover = live(at=100)

    for now in range(101, 200):
        assert handover.heard(now * S, now, is_good=True)
        assert handover.due_at(is_open=True) == now + 1.5


def test_silence_is_a_reason_to_ask_at_ever_longer_intervals() -> None:
    """C20: silence of one symbol is verified, and is no failover by itself."""
    handover = live(at=100)
    waits: list[float] = []
    now = 100.0
    for _ in range(6):
        due_at = handover.due_at(is_open=True)
        waits.append(due_at - now)
        now = due_at
        handover.asked(now)
        assert not handover.answered(0, Route.PRIMARY), "nothing new"

    assert waits == [1.5, 3, 6, 12, 15, 15]
    assert handover.feeding is Feeding.LIVE


def test_answers_that_should_have_been_delivered_are_fetched_as_often_as_the_others() -> None:
    """W-62: a mute stream of a symbol that moves is polled, not asked about ever less."""
    handover = live(at=100)
    waits: list[float] = []
    now = 100.0
    for n in range(1, 7):
        due_at = handover.due_at(is_open=True)
        waits.append(due_at - now)
        now = due_at
        handover.asked(now)
        assert handover.answered(n, Route.PRIMARY)

    assert waits == [1.5, 3, 4, 4, 4, 4]
    assert handover.feeding is Feeding.LIVE
    handover.heard(7, now + 1, is_good=True)
    assert handover.due_at(is_open=True) == now + 2.5, "it delivers again"


def test_to_repeat_what_was_said_is_silence() -> None:
    handover = live(at=100)
    handover.heard(5, 101, is_good=True)

    for n in range(1, 20):
        handover.heard(5, 101 + n / 10, is_good=True)

    assert handover.due_at(is_open=True) == 102.5


def test_to_deliver_what_is_behind_is_silence_too() -> None:
    handover = live(at=100, event_ns=50)

    for n in range(1, 20):
        assert not handover.heard(n, 100 + n / 10, is_good=True)

    assert handover.due_at(is_open=True) == 101.5


def test_something_new_makes_it_impatient_again() -> None:
    handover = live(at=100)
    for _ in range(3):
        handover.asked(110)
        handover.answered(0, Route.PRIMARY)

    handover.heard(1, 100.5, is_good=True)

    assert handover.due_at(is_open=True) == 111.5


def test_a_primary_that_polls_is_not_silent_between_polls() -> None:
    """C32: it is not asked twice for the same."""
    handover = live(at=100)

    for now in (104, 108, 112):
        handover.heard(now, now, is_good=True)
        assert handover.due_at(is_open=True) == now + 5

    for n in range(40):
        handover.heard(200 + n, 112 + n / 10, is_good=True)
    assert handover.due_at(is_open=True) == pytest.approx(115.9 + 1.5), "streamed since"


def test_the_gap_of_an_outage_is_not_taken_for_usual() -> None:
    handover = live(at=100)
    handover.asked(110)
    handover.answered(1, Route.SECONDARY)
    handover.asked(300)
    handover.answered(2, Route.PRIMARY)

    handover.heard(3, 301, is_good=True)

    assert handover.due_at(is_open=True) == 302.5


@pytest.mark.parametrize(("handover", "due_at"), [(live(), 112), (polling(), 112)])
def test_while_the_market_is_closed_it_asks_every_twelve_seconds(
    handover: Handover, due_at: float
) -> None:
    assert handover.due_at(is_open=False) == due_at


def test_a_poor_value_is_not_shown_and_is_asked_about_at_once() -> None:
    handover = live(at=100)
    handover.heard(1, 110, is_good=True)

    assert not handover.heard(2, 110.1, is_good=False)

    assert handover.due_at(is_open=True) <= 110.1
    handover.asked(110.1)
    assert handover.due_at(is_open=True) > 110.1, "once"
    handover.heard(3, 110.2, is_good=False)
    assert handover.due_at(is_open=True) == 114.1, "and then at the poll's pace"


def test_the_secondary_is_polled_and_nothing_else_is_shown() -> None:
    """W-62, W-04: never two sources at once."""
    handover = polling(at=100)

    assert handover.feeding is Feeding.POLLING
    assert handover.due_at(is_open=True) == 104
    assert not handover.heard(50 * S, 101, is_good=True)
    assert handover.held_back == 1


def test_once_the_primary_answers_it_is_shown_live_again() -> None:
    handover = polling(at=100, event_ns=5)

    assert handover.answered(6, Route.PRIMARY)

    assert handover.feeding is Feeding.LIVE
    assert handover.heard(7, 105, is_good=True)
    assert handover.handovers == 2


def test_after_a_handover_the_same_instant_is_shown_once_more() -> None:
    handover = polling(event_ns=5)

    assert handover.answered(5, Route.PRIMARY), "another provider's value of it"
    assert not handover.answered(5, Route.PRIMARY)


def test_what_is_older_than_what_was_shown_is_held_back() -> None:
    handover = live(event_ns=10)

    assert not handover.heard(9, 101, is_good=True)
    assert not handover.answered(9, Route.SECONDARY)
    assert handover.answered(11, Route.SECONDARY)


def test_a_value_without_a_time_is_shown_and_orders_nothing() -> None:
    handover = live(event_ns=10)

    assert handover.heard(None, 101, is_good=True)
    assert not handover.heard(9, 101, is_good=True)


class AnyHistory(RuleBasedStateMachine):
    """Values of both providers in any order, with any times."""

    def __init__(self) -> None:
        super().__init__()
        self.handover = Handover(RHYTHM)
        self.now = 0.0
        self.shown: list[int] = []
        self.by: Route | None = None

    def note(self, event_ns: int, *, is_shown: bool, by: Route) -> None:
        if is_shown:
            assert not self.shown or event_ns >= self.shown[-1], "time went back"
            self.shown.append(event_ns)
            self.by = by

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(event_ns=st.integers(0, 20), is_good=st.booleans())
    def the_primary_delivers(self, event_ns: int, is_good: bool) -> None:
        is_shown = self.handover.heard(event_ns, self.now, is_good=is_good)
        assert is_good or not is_shown, "a poor value was shown unasked"
        assert self.handover.feeding is Feeding.LIVE or not is_shown, "two sources at once"
        self.note(event_ns, is_shown=is_shown, by=Route.PRIMARY)

    @rule(event_ns=st.integers(0, 20), by=st.sampled_from(Route))
    def the_question_is_answered(self, event_ns: int, by: Route) -> None:
        self.handover.asked(self.now)
        due_at = self.handover.due_at(is_open=True)
        assert due_at > self.now, "it asks in a hot loop"
        assert due_at <= self.now + max(RHYTHM.poll_s, RHYTHM.quiet_s), "it never asks again"
        self.note(event_ns, is_shown=self.handover.answered(event_ns, by), by=by)

    @rule()
    def nobody_answers(self) -> None:
        self.handover.asked(self.now)
        assert self.handover.due_at(is_open=True) > self.now


TestAnyHistory: Any = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
