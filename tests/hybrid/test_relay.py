"""A scripted primary and scripted questions, on a loop whose time is leapt over."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from onetape.core.choice import Route
from onetape.core.handover import Rhythm
from onetape.errors import InvalidRequest, UpstreamDown
from onetape.hybrid.relay import Answered, Kind, Relay
from onetape.hybrid.verdicts import GOOD, Verdict, Why
from onetape.providers.interfaces import Handle
from onetape.testing import LeapClock, leaping

PRIMARY, SECONDARY = Route.PRIMARY, Route.SECONDARY
CLOCK = LeapClock(start_ns=0)
elapsed = CLOCK.monotonic


class Value(NamedTuple):
    event_ns: int
    by: Route = PRIMARY
    is_good: bool = True


def event_ns(value: Value) -> int:
    return value.event_ns


def judge(value: Value, _now_ns: int) -> Verdict:
    return GOOD if value.is_good else Verdict(0, Why.POOR)


def always(_now_ns: int) -> bool:
    return True


KIND = Kind(event_ns, judge, always)


class Stage:
    """One relay with a primary and answers that the test gives."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.shown: list[tuple[float, Value]] = []
        self.answer: Value | None = Value(0)
        self.asked: list[float] = []
        self.closed: list[object] = []
        self.handles_closed = 0
        self.deliver: Callable[[Value], None]
        self.relay = Relay(KIND, ask=self._ask, take=self.take, rhythm=Rhythm(4.0), clock=CLOCK)
        self.relay.start(tasks, self._subscribe, on_closed=self.closed.append)

    def take(self, value: Value) -> None:
        self.shown.append((elapsed(), value))

    def close(self) -> None:
        self.handles_closed += 1

    def _subscribe(self, take: Callable[[Value], None]) -> Handle:
        self.deliver = take
        return self

    async def _ask(self) -> Answered[Value]:
        self.asked.append(elapsed())
        if self.answer is None:
            raise UpstreamDown("nobody")
        return Answered(self.answer, self.answer.by)


@leaping
async def test_it_asks_at_once_then_shows_what_the_primary_delivers() -> None:
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        for n in range(1, 21):
            await asyncio.sleep(0.5)
            stage.deliver(Value(n))

        assert stage.asked == [0.0]
        assert [value.event_ns for _, value in stage.shown] == list(range(21))
        assert not stage.relay.is_polling
        stage.relay.close()


@leaping
async def test_silence_is_asked_about_and_the_secondarys_answer_begins_the_polling() -> None:
    """W-62."""
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        await asyncio.sleep(1)
        stage.deliver(Value(1))
        stage.answer = Value(2, SECONDARY)
        await asyncio.sleep(2)
        assert stage.shown[-1] == (2.5, Value(2, SECONDARY))
        assert stage.relay.is_polling

        stage.deliver(Value(3))
        stage.answer = Value(4, SECONDARY)
        await asyncio.sleep(4)

        assert [value.event_ns for _, value in stage.shown] == [0, 1, 2, 4]
        stage.relay.close()


@leaping
async def test_what_was_just_shown_is_not_shown_again() -> None:
    """A primary that polls tells what it kept once more; another value of that instant counts."""
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        await asyncio.sleep(1)
        for value in (Value(1), Value(1), Value(1, is_good=True, by=SECONDARY), Value(1)):
            stage.deliver(value)

        assert [value for _, value in stage.shown] == [
            Value(0), Value(1), Value(1, SECONDARY), Value(1),
        ]  # fmt: skip
        stage.relay.close()


@leaping
async def test_a_poor_value_is_asked_about_at_once_instead_of_shown() -> None:
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        for n in range(1, 11):
            await asyncio.sleep(0.5)
            stage.deliver(Value(n))
        stage.answer = Value(50, SECONDARY)

        stage.deliver(Value(11, is_good=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)

        assert stage.shown[-1] == (pytest.approx(5.0), Value(50, SECONDARY))
        stage.relay.close()


@leaping
async def test_when_nobody_answers_it_asks_again_at_the_polls_pace() -> None:
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        stage.answer = None

        await asyncio.sleep(10)

        assert stage.asked == pytest.approx([0, 1.5, 3, 4.5, 6, 7.5, 9])
        assert stage.relay.unanswered == 7
        assert stage.shown == []
        stage.relay.close()


@leaping
async def test_a_reader_that_raises_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R241."""
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        stage.shown = None  # type: ignore[assignment]  # whatever the reader does wrong
        await asyncio.sleep(0)
        stage.deliver(Value(1))
        stage.deliver(Value(2))
        await asyncio.sleep(0.1)

        assert stage.relay.reader_failures == 3
        stage.relay.close()

    assert [one.msg for one in caplog.records].count("provider.reader_failed") == 1


@leaping
async def test_closed_it_shows_nothing_and_leaves_nothing() -> None:
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        await asyncio.sleep(0.1)
        stage.relay.close()
        stage.relay.close()
        stage.deliver(Value(9))
        await asyncio.sleep(60)

    assert len(stage.shown) == 1
    assert (stage.handles_closed, stage.closed) == (1, [stage.relay])
    assert len(asyncio.all_tasks()) == 1


@leaping
async def test_what_cannot_be_subscribed_is_raised_and_nothing_begins() -> None:
    def refuse(_take: Callable[[Value], None]) -> Handle:
        raise InvalidRequest("no such thing")

    async def ask() -> Answered[Value]:
        raise AssertionError("asked")

    async with asyncio.TaskGroup() as tasks:
        relay = Relay(KIND, ask=ask, take=print, rhythm=Rhythm(4.0), clock=CLOCK)
        with pytest.raises(InvalidRequest):
            relay.start(tasks, refuse, on_closed=print)
        assert len(asyncio.all_tasks()) == 1
        relay.close()


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.1, 1.0, 5.0]),
            st.none() | st.builds(Value, st.integers(0, 9), st.sampled_from(Route), st.just(True)),
            st.none() | st.builds(Value, st.integers(0, 9), st.just(PRIMARY), st.booleans()),
        ),
        max_size=30,
    )
)
def test_whatever_comes_time_never_goes_back_and_only_good_values_come_unasked(
    history: list[tuple[float, Value | None, Value | None]],
) -> None:
    @leaping
    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            stage = Stage(tasks)
            for wait_s, answer, delivered in history:
                stage.answer = answer
                if delivered is not None:
                    stage.deliver(delivered)
                await asyncio.sleep(wait_s)
            stage.relay.close()
        times = [value.event_ns for _, value in stage.shown]
        assert times == sorted(times)
        assert all(value.is_good for _, value in stage.shown)
        assert len(stage.asked) <= elapsed() / 1.5 + 2, "it asks too often"

    run()
