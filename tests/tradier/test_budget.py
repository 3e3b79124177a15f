"""The window is never overdrawn, and who is in a hurry goes first."""

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onetape.tradier.budget import WINDOW_S, Budget, Priority, Ticket
from onetape.tradier.wire_rest import RateLimits

INTERACTIVE, BACKGROUND = Priority.INTERACTIVE, Priority.BACKGROUND


def spend(budget: Budget, count: int, now: float, priority: Priority = INTERACTIVE) -> int:
    """Ask for so many at once; return how many went through."""
    done = 0
    for _ in range(count):
        ticket = budget.queue(priority)
        if budget.claim(ticket, now) == 0:
            budget.spend(ticket, now)
            done += 1
        budget.leave(ticket)
    return done


@pytest.mark.parametrize("limit", [120, 60])
def test_a_minute_holds_so_many_requests_and_no_more(limit: int) -> None:
    """R217."""
    budget = Budget(limit, reserve=0)

    assert spend(budget, limit + 50, 0.0) == limit
    assert spend(budget, 1, WINDOW_S - 0.01) == 0
    assert spend(budget, limit + 1, WINDOW_S) == limit
    assert WINDOW_S > 60


def test_background_requests_leave_a_reserve() -> None:
    budget = Budget(10, reserve=3)

    assert spend(budget, 20, 0.0, BACKGROUND) == 7
    assert spend(budget, 20, 0.0, INTERACTIVE) == 3


def test_who_is_in_a_hurry_goes_before_those_who_waited_longer() -> None:
    budget = Budget(2, reserve=1)
    spend(budget, 2, 0.0)
    slow, quick = budget.queue(BACKGROUND), budget.queue(INTERACTIVE)

    assert budget.claim(slow, WINDOW_S) > 0
    assert budget.claim(quick, WINDOW_S) == 0
    budget.spend(quick, WINDOW_S)
    assert budget.claim(slow, WINDOW_S) == WINDOW_S
    assert budget.claim(slow, 2 * WINDOW_S) == 0


def test_the_first_in_line_need_not_be_awake_for_the_second_to_go() -> None:
    budget = Budget(2, reserve=0)
    tickets = [budget.queue(INTERACTIVE) for _ in range(3)]

    assert budget.claim(tickets[1], 0.0) == 0
    assert budget.claim(tickets[2], 0.0) > 0
    assert budget.claim(tickets[0], 0.0) == 0


def test_a_place_given_back_can_be_had_at_once() -> None:
    budget = Budget(1, reserve=0)
    first, second = budget.queue(INTERACTIVE), budget.queue(INTERACTIVE)
    assert budget.claim(first, 0.0) == 0
    wait_s = budget.claim(second, 0.0)

    budget.leave(first)
    budget.spend(first, 0.0)  # too late: it left

    assert 0 < wait_s <= 1
    assert budget.claim(second, wait_s) == 0


def test_a_brake_holds_everybody_for_at_most_a_window() -> None:
    budget = Budget(10, reserve=0)
    ticket = budget.queue(INTERACTIVE)
    budget.brake(5.0, 0.0)
    budget.brake(1.0, 0.0)
    budget.brake(-1.0, 0.0)

    assert budget.claim(ticket, 2.0) == 3.0
    assert budget.statistics(2.0).braked_s == 3.0
    assert budget.claim(ticket, 5.0) == 0
    budget.brake(1e9, 5.0)
    assert budget.statistics(5.0).braked_s == WINDOW_S


@pytest.mark.parametrize(
    ("available", "expires_ns", "braked_s"),
    [(0, 30_000_000_000, 20.0), (0, None, 0.0), (1, 30_000_000_000, 0.0), (0, 1, 0.0)],
)
def test_headers_brake_and_never_give(
    available: int, expires_ns: int | None, braked_s: float
) -> None:
    budget = Budget(2, reserve=0)

    budget.heed(RateLimits(500, available, expires_ns), now=0.0, now_ns=10_000_000_000)

    assert budget.statistics(0.0).braked_s == braked_s
    assert budget.statistics(0.0).limit == 2


def test_a_reserve_is_less_than_the_limit() -> None:
    with pytest.raises(ValueError, match="reserve"):
        Budget(5, reserve=5)


class AnyTraffic(RuleBasedStateMachine):
    """Whatever is asked for: no window is overdrawn, and nobody waits for ever."""

    LIMIT, RESERVE = 5, 2

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(self.LIMIT, reserve=self.RESERVE, window_s=10.0)
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.admitted: list[Ticket] = []
        self.sent: list[tuple[float, Priority]] = []

    @rule(priority=st.sampled_from(Priority))
    def queue(self, priority: Priority) -> None:
        self.waiting.append(self.budget.queue(priority))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        used = sum(at + 10.0 > self.now for at, _ in self.sent) + len(self.admitted)
        room = self.LIMIT - used - (self.RESERVE if ticket.priority else 0)
        before = [
            one
            for at, one in enumerate(self.waiting)
            if (one.priority, at) < (ticket.priority, self.waiting.index(ticket))
        ]
        wait_s = self.budget.claim(ticket, self.now)
        assert (wait_s == 0) is (len(before) < room), "admitted out of turn"
        if wait_s == 0:
            self.waiting.remove(ticket)
            self.admitted.append(ticket)
        else:
            assert 0 < wait_s <= 10.0

    @precondition(lambda self: self.admitted)
    @rule()
    def send(self) -> None:
        ticket = self.admitted.pop(0)
        self.budget.spend(ticket, self.now)
        self.sent.append((self.now, ticket.priority))

    @precondition(lambda self: self.waiting or self.admitted)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting + self.admitted))
        self.budget.leave(ticket)
        for line in (self.waiting, self.admitted):
            if ticket in line:
                line.remove(ticket)

    @rule(elapsed=st.sampled_from([0.5, 3.0, 10.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    @invariant()
    def no_window_is_overdrawn(self) -> None:
        recent = [one for at, one in self.sent if at + 10.0 > self.now]
        assert len(recent) + len(self.admitted) <= self.LIMIT
        counted = self.budget.statistics(self.now)
        assert (counted.used, counted.admitted) == (len(recent), len(self.admitted))
        assert counted.waiting_interactive + counted.waiting_background == len(self.waiting)


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=50, deadline=None)
