import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from onetape.clock import SystemClock
from onetape.errors import InvalidTopic, UpstreamDown
from onetape.model import Quote, Topic
from onetape.providers.following import Cadence, Event, Follower
from onetape.providers.interfaces import LiveFeed
from onetape.testing import until

Q, T = Topic("Q.SPY"), Topic("T.SPY")
SOON = Cadence(poll_s=0.01, streamed_s=3600.0, pace_s=0.0)
SELDOM = Cadence(poll_s=3600.0, streamed_s=3600.0, pace_s=0.0)


def event(number: int) -> Quote:
    return Quote(symbol="SPY", event_ns=number, received_ns=number, provider="x", bid=1.0)


class Count:
    """A view of numbers: an answer sets it, an event adds its time."""

    def __init__(self, *topics: Topic) -> None:
        self.topics = frozenset(topics)
        self._number = 0

    def renew(self, answer: int) -> None:
        self._number = answer

    def apply(self, events: Sequence[Event]) -> bool:
        added = sum(one.event_ns or 0 for one in events)
        self._number += added
        return added > 0

    def value(self, now_ns: int) -> int:
        assert now_ns > 0
        if self._number < 0:
            raise ZeroDivisionError
        return self._number


class Feed:
    """Remembers who reads what."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.refusal: Exception | None = None

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Event]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> "Reader":
        if self.refusal is not None:
            raise self.refusal
        self.readers.append(Reader(topics, take, tell))
        return self.readers[-1]

    @property
    def read(self) -> list[frozenset[Topic]]:
        return [reader.topics for reader in self.readers if not reader.is_closed]


class Reader:
    def __init__(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Event]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> None:
        self.topics = topics
        self.take = take
        self.tell = tell
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Source:
    def __init__(self) -> None:
        self.calls = 0
        self.answer = 100
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.answer


@asynccontextmanager
async def following(
    view: Count,
    source: Source,
    take: Callable[[int], None],
    *,
    feed: LiveFeed | None = None,
    cadence: Cadence = SELDOM,
) -> AsyncGenerator[Follower[int]]:
    closed: list[Follower[int]] = []
    follower = Follower(
        view,
        fetch=source,
        take=take,
        feed=feed,
        cadence=cadence,
        clock=SystemClock(),
        on_closed=closed.append,
    )
    async with asyncio.TaskGroup() as tasks:
        follower.start(tasks)
        yield follower
        follower.close()
        follower.close()
    assert closed == [follower], "told once"


async def test_an_answer_is_told_and_then_each_event() -> None:
    told, feed, source = list[int](), Feed(), Source()

    async with following(Count(Q), source, told.append, feed=feed):
        await until(lambda: told == [100])
        feed.readers[0].take([event(5)])
        await until(lambda: told == [100, 105])

    assert source.calls == 1


async def test_an_event_without_news_is_not_told() -> None:
    told, feed = list[int](), Feed()

    async with following(Count(Q), Source(), told.append, feed=feed):
        await until(lambda: told == [100])
        feed.readers[0].take([event(0)])
        feed.readers[0].take([event(1)])
        await until(lambda: len(told) == 2)

    assert told == [100, 101]


async def test_events_that_come_together_are_told_together() -> None:
    told, feed = list[int](), Feed()

    async with following(Count(Q), Source(), told.append, feed=feed):
        await until(lambda: told)
        for number in range(1, 11):
            feed.readers[0].take([event(number)])
        await until(lambda: told[-1] == 155)

    assert told == [100, 155]


async def test_it_is_told_no_oftener_than_the_pace() -> None:
    """R208, R232."""
    told, feed = list[float](), Feed()
    clock = SystemClock()
    paced = SELDOM._replace(pace_s=0.05)

    def take(_number: int) -> None:
        told.append(clock.monotonic())

    async with following(Count(Q), Source(), take, feed=feed, cadence=paced):
        await until(lambda: told)
        while len(told) < 4:
            feed.readers[0].take([event(1)])
            await asyncio.sleep(0.001)

    gaps = [after - before for before, after in pairwise(told)]
    assert min(gaps) >= 0.049


async def test_nothing_is_told_after_it_was_closed() -> None:
    told, feed = list[int](), Feed()

    async with following(Count(Q), Source(), told.append, feed=feed) as follower:
        await until(lambda: told)
        feed.readers[0].take([event(1)])
        follower.close()
        feed.readers[0].take([event(1)])

    assert told == [100]
    assert feed.read == []


async def test_a_reader_may_close_it_from_within() -> None:
    told, source = list[int](), Source()
    handles = list[Follower[int]]()

    def take(number: int) -> None:
        told.append(number)
        handles[0].close()

    async with following(Count(), source, take, cadence=SOON) as follower:
        handles.append(follower)
        await until(lambda: told)

    assert told == [100]


# ---- asking ----


async def some_polls() -> None:
    """Let so much time pass that what is polled is polled a few times."""
    source = Source()
    async with following(Count(), source, lambda _: None, cadence=SOON):
        await until(lambda: source.calls >= 4)


async def test_without_a_stream_it_is_asked_for_again_and_again() -> None:
    """W-62."""
    told, source = list[int](), Source()

    async with following(Count(Q), source, told.append, cadence=SOON) as follower:
        await until(lambda: source.calls >= 3)
        assert not follower.is_streamed

    assert len(told) >= 2


async def test_what_is_streamed_is_hardly_asked_for() -> None:
    """W-69."""
    told, feed, source = list[int](), Feed(), Source()

    async with following(Count(Q, T), source, told.append, feed=feed, cadence=SOON) as follower:
        await until(lambda: feed.readers)
        feed.readers[0].tell(frozenset({Q}), True)
        assert not follower.is_streamed, "half of it"
        feed.readers[0].tell(frozenset({T}), True)
        assert follower.is_streamed
        calls = source.calls
        await some_polls()

    assert source.calls <= calls + 1, "the one that was under way"


async def test_when_the_stream_is_lost_it_is_asked_for_at_once() -> None:
    """W-62, C20."""
    feed, source = Feed(), Source()
    cadence = Cadence(poll_s=0.01, streamed_s=3600.0, pace_s=0.0)

    async with following(Count(Q), source, lambda _: None, feed=feed, cadence=cadence):
        await until(lambda: feed.readers)
        feed.readers[0].tell(frozenset({Q}), True)
        await some_polls()
        calls = source.calls
        feed.readers[0].tell(frozenset({Q}), False)
        await until(lambda: source.calls >= calls + 3)


async def test_what_cannot_be_fetched_stays_as_it_was() -> None:
    told, source = list[int](), Source()

    async with following(Count(), source, told.append, cadence=SOON) as follower:
        await until(lambda: told)
        source.error = UpstreamDown("gone")
        await until(lambda: follower.fetch_failures >= 2)
        told.clear()
        source.error, source.answer = None, 200
        await until(lambda: told)

    assert told[0] == 200


async def test_what_was_never_fetched_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    told, source = list[int](), Source()
    source.error = ZeroDivisionError()

    async with following(Count(), source, told.append, cadence=SOON) as follower:
        await until(lambda: follower.fetch_failures >= 2)

    assert told == []
    assert "ZeroDivisionError" in caplog.text, "a bug is told of, and ends nobody's subscription"


# ---- reading ----


async def test_topics_follow_the_view_and_overlap_while_they_change() -> None:
    view, feed, source = Count(Q), Feed(), Source()

    async with following(view, source, lambda _: None, feed=feed, cadence=SOON):
        await until(lambda: feed.read == [{Q}])
        view.topics = frozenset({Q, T})
        await until(lambda: feed.read == [{Q, T}])
        view.topics = frozenset()
        await until(lambda: feed.read == [])

    assert len(feed.readers) == 2


async def test_a_feed_that_refuses_leaves_it_polled_and_is_asked_again() -> None:
    feed, source, told = Feed(), Source(), list[int]()
    feed.refusal = InvalidTopic("stocks are not streamed here")

    async with following(Count(Q), source, told.append, feed=feed, cadence=SOON) as follower:
        await until(lambda: len(told) >= 2)
        assert not follower.is_streamed
        feed.refusal = None
        await until(lambda: feed.read == [{Q}])


# ---- readers that raise ----


async def test_what_a_reader_raises_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R241."""
    source = Source()

    def take(_number: int) -> None:
        raise ZeroDivisionError

    async with following(Count(), source, take, cadence=SOON) as follower:
        await until(lambda: follower.reader_failures >= 3)

    assert caplog.text.count("Traceback") == 1


async def test_a_view_that_fails_costs_one_telling() -> None:
    told, feed, source = list[int](), Feed(), Source()
    source.answer = -5

    async with following(Count(Q), source, told.append, feed=feed) as follower:
        await until(lambda: follower.reader_failures == 1)
        feed.readers[0].take([event(10)])
        await until(lambda: told == [5])
