import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from onetape.core.recovery import Permit
from onetape.errors import (
    ContractNotFound,
    DataProviderError,
    InvalidRequest,
    MassiveApiError,
    OnetapeError,
    TradierApiError,
    UpstreamDown,
    UpstreamTimeout,
)
from onetape.hybrid.seats import Attempt, HybridPolicy, Outcome, Question, Seat
from onetape.hybrid.verdicts import GOOD, Verdict, Why
from onetape.model import ProviderHealth
from onetape.testing import ManualClock

POOR = Verdict(10, Why.POOR, "confidence 10")
Found = Mapping[str, int | OnetapeError]
Ask = Callable[["Vendor", tuple[str, ...]], Awaitable[Found]]


class Vendor:
    def __init__(self, name: str = "massive") -> None:
        self.name = name

    def health(self) -> tuple[ProviderHealth, ...]:
        return ()


def judge(answer: int, _now_ns: int) -> Verdict:
    return GOOD if answer >= 40 else POOR


def giving(found: Found | Exception, *, clock: ManualClock | None = None) -> Question[Vendor, int]:
    async def ask(_vendor: Vendor, _parts: tuple[str, ...]) -> Found:
        if clock is not None:
            clock.advance(0.12)
        if isinstance(found, Exception):
            raise found
        return found

    return Question(what="number", parts=("a", "b"), ask=ask, judge=judge)


def permit(seat: Seat[Vendor]) -> Permit:
    granted = seat.breaker.admit(1_000.0)
    assert granted is not None
    return granted


def new(name: str = "massive", *, never_opens: bool = False) -> tuple[Seat[Vendor], ManualClock]:
    clock = ManualClock()
    seat = Seat(Vendor(name), clock=clock, policy=HybridPolicy(), never_opens=never_opens)
    return seat, clock


async def asked(seat: Seat[Vendor], question: Question[Vendor, int]) -> Attempt[int]:
    return await seat.ask(question, question.parts, permit(seat), 1.0)


async def test_every_part_has_its_own_outcome() -> None:
    seat, clock = new()

    attempt = await asked(seat, giving({"a": 90, "b": ContractNotFound("none")}, clock=clock))

    assert attempt.outcomes["a"] == Outcome(90)
    assert attempt.outcomes["a"].is_good
    assert attempt.outcomes["b"].is_good_or_absent
    assert not attempt.outcomes["b"].is_good
    health = seat.health()
    assert (health.requests, health.failures, health.status) == (1, 0, "ok")
    assert health.response_time_s == pytest.approx(0.12)


async def test_what_is_raised_is_the_outcome_of_all_and_of_the_providers_kind() -> None:
    seat, _ = new("tradier")

    attempt = await asked(seat, giving(UpstreamDown("x")))

    errors = {type(one.error) for one in attempt.outcomes.values()}
    assert errors == {TradierApiError}
    assert seat.health().consecutive_errors == 1


async def test_a_bug_is_a_failure_of_the_provider_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seat, _ = new("someone")

    attempt = await asked(seat, giving(KeyError("secret")))

    error = attempt.outcomes["a"].error
    assert type(error) is DataProviderError
    assert str(error) == "someone broke: KeyError"
    assert "provider.broke" in [one.msg for one in caplog.records]


async def test_a_part_left_out_is_a_failure_of_that_part() -> None:
    seat, _ = new()

    attempt = await asked(seat, giving({"a": 90}))

    assert isinstance(attempt.outcomes["b"].error, MassiveApiError)
    assert seat.health().failures == 0


async def test_parts_that_all_fail_are_a_failure() -> None:
    seat, _ = new()

    await asked(seat, giving({"a": UpstreamDown("x"), "b": UpstreamDown("x")}))

    assert seat.health().failures == 1


async def test_the_callers_mistake_is_no_failure() -> None:
    """W-59."""
    seat, _ = new()

    for _ in range(4):
        attempt = await asked(seat, giving(InvalidRequest("x")))
        assert attempt.outcomes["a"].is_settled

    assert seat.is_trusted
    assert seat.health().healthy


async def test_a_doubtful_answer_counts_when_it_was_compared() -> None:
    """W-59: quality is a failure only if somebody had better."""
    seat, _ = new()
    first = await asked(seat, giving({"a": 10, "b": 10}))
    assert first.is_doubtful
    assert seat.health().requests == 0

    seat.conclude(first, None)
    seat.conclude(await asked(seat, giving({"a": 10, "b": 20})), POOR)

    health = seat.health()
    assert (health.requests, health.failures) == (2, 1)
    assert health.last_failure == "MASSIVE_API_ERROR: massive answered poorly (confidence 10)"


async def test_one_good_part_makes_it_an_answer() -> None:
    seat, _ = new()

    attempt = await asked(seat, giving({"a": 90, "b": 10}))
    seat.conclude(attempt, POOR)

    assert not attempt.is_doubtful
    assert (seat.health().requests, seat.health().failures) == (1, 0)


async def test_three_failures_in_a_row_open_it_and_a_good_answer_closes_it() -> None:
    """R222, R224."""
    seat, clock = new()
    for _ in range(3):
        await asked(seat, giving(UpstreamDown("x")))

    assert (seat.health().status, seat.health().healthy) == ("open", False)
    assert not seat.may_be_asked(clock.monotonic())
    left_alone = seat.silence()
    assert isinstance(left_alone, MassiveApiError)
    assert left_alone.retry_after_s == 30
    clock.advance(30)
    assert seat.may_be_asked(clock.monotonic())
    probe = seat.breaker.admit(clock.monotonic())
    assert probe is not None
    assert seat.health().status == "probing"

    await seat.ask(giving({"a": 90, "b": 90}), ("a",), probe, None)

    assert (seat.health().status, seat.health().consecutive_errors) == ("ok", 0)


async def test_alone_it_is_never_left_alone() -> None:
    seat, _ = new(never_opens=True)
    for _ in range(50):
        await asked(seat, giving(UpstreamDown("x")))

    assert seat.is_trusted
    assert seat.health().status == "failing"


def hanging() -> Ask:
    async def ask(_vendor: Vendor, _parts: tuple[str, ...]) -> Found:
        await asyncio.Event().wait()
        raise AssertionError("never")

    return ask


async def test_what_takes_too_long_is_a_failure_and_is_told_as_such() -> None:
    seat, _ = new()
    question = msgspec.structs.replace(giving({}), ask=hanging())

    attempt = await seat.ask(question, ("a",), permit(seat), 0.001)

    error = attempt.outcomes["a"].error
    assert isinstance(error, MassiveApiError)
    assert isinstance(error.__cause__, UpstreamTimeout)


async def test_a_time_out_of_the_providers_own_is_one_too() -> None:
    seat, _ = new()

    attempt = await seat.ask(giving(TimeoutError()), ("a",), permit(seat), None)

    assert attempt.outcomes["a"].told_of("massive") == "massive did not answer in time"


async def test_a_caller_that_leaves_blames_nobody_and_frees_the_probe() -> None:
    seat, clock = new()
    for _ in range(3):
        await asked(seat, giving(UpstreamDown("x")))
    clock.advance(30)
    probe = seat.breaker.admit(clock.monotonic())
    assert probe is not None
    question = msgspec.structs.replace(giving({}), ask=hanging())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await seat.ask(question, ("a",), probe, None)

    assert seat.health().failures == 3
    assert seat.breaker.admit(clock.monotonic()) is not None


async def test_what_is_usual_is_known_of_each_kind_of_question() -> None:
    seat, clock = new()
    for _ in range(20):
        await asked(seat, giving({"a": 90, "b": 90}, clock=clock))

    assert seat.usual_s("number") == pytest.approx(0.12)
    assert seat.usual_s("chain") is None


async def test_one_that_was_trusted_and_silent_was_late() -> None:
    seat, _ = new()

    assert isinstance(seat.silence().__cause__, UpstreamTimeout)


def test_outcomes_are_ranked_by_what_they_are_worth() -> None:
    ranked = [
        Outcome[int](None, MassiveApiError("x")),
        Outcome[int](None, ContractNotFound("x")),
        Outcome(1, None, Verdict(0, Why.EMPTY)),
        Outcome(1, None, POOR),
        Outcome(1),
    ]

    assert [one.rank for one in ranked] == sorted({one.rank for one in ranked})
    assert [one.why for one in ranked[:3]] == [Why.FAILED, Why.MISSING, Why.EMPTY]
    assert [one.is_answer for one in ranked] == [False, True, True, True, True]
    assert ranked[3].told_of("massive") == "massive answered poorly (confidence 10)"


def test_a_policy_is_strict() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"hold_s": 0}, HybridPolicy)
