"""What every `LiveFeed` does with its readers: R208, R228."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.model import Quote, Topic
from onetape.providers.readers import Reader, Readers


def quote(key: str) -> Quote:
    return Quote(symbol=key, event_ns=1, received_ns=2, provider="massive", bid=1.0)


def topics(*names: str) -> frozenset[Topic]:
    return frozenset(map(Topic, names))


class Ear:
    """One who reads, and what it was told."""

    def __init__(
        self,
        *,
        on_take: Callable[[], object] = lambda: None,
        on_tell: Callable[[bool], object] = lambda is_live: None,
    ) -> None:
        self.takes: list[list[str]] = []
        self.told: list[tuple[frozenset[Topic], bool]] = []
        self.live: set[Topic] = set()
        self.handle: Reader | None = None
        self._on_take, self._on_tell = on_take, on_tell

    def take(self, events: Sequence[Any]) -> None:
        self.takes.append([event.symbol for event in events])
        self._on_take()

    def tell(self, named: frozenset[Topic], is_live: bool) -> None:
        self.told.append((named, is_live))
        self.live = self.live | named if is_live else self.live - named
        self._on_tell(is_live)

    def close(self) -> None:
        assert self.handle is not None
        self.handle.close()


class Stream:
    """Readers, and what is asked of the stream for them."""

    def __init__(self) -> None:
        self.readers = Readers("here", on_close=self._want)
        self.wanted: list[str] = []

    def _want(self) -> None:
        self.wanted = list(self.readers.keys)

    def read(self, ear: Ear, *keys: str) -> Ear:
        ear.handle = self.readers.open(
            {key: topics(f"Q.{key}") for key in keys}, ear.take, ear.tell
        )
        self._want()
        self.readers.greet(ear.handle)
        return ear

    def publish(self, *keys: str) -> None:
        for key in keys:
            for reader in self.readers.of(key):
                reader.pending.append(quote(key))
        self.readers.flush()


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_a_key_is_wanted_as_long_as_anybody_reads_it(stream: Stream) -> None:
    first, second = stream.read(Ear(), "B", "A"), stream.read(Ear(), "A", "C")
    assert stream.wanted == ["B", "A", "C"], "in the order in which they were first read"

    first.close()
    first.close()
    assert stream.wanted == ["A", "C"]
    second.close()
    assert stream.wanted == []


def test_what_came_since_the_last_flush_is_one_call_for_each(stream: Stream) -> None:
    both, one = stream.read(Ear(), "A", "B"), stream.read(Ear(), "B")

    stream.publish("A", "B", "C", "A")
    stream.publish("A")

    assert both.takes == [["A", "B", "A"], ["A"]]
    assert one.takes == [["B"]]


def test_a_key_may_stand_for_several_topics_of_a_reader(stream: Stream) -> None:
    ear = Ear()
    stream.readers.open({"A": topics("Q.A", "T.A"), "B": topics("Q.B")}, ear.take, ear.tell)

    stream.readers.set_live({"A", "B", "Z"}, is_live=True)
    stream.readers.set_live({"A"}, is_live=False)

    assert ear.told == [(topics("Q.A", "T.A", "Q.B"), True), (topics("Q.A", "T.A"), False)]


def test_only_news_are_told(stream: Stream) -> None:
    ear = stream.read(Ear(), "A")

    stream.readers.set_live({"A"}, is_live=False)
    stream.readers.set_live({"A"}, is_live=True)
    stream.readers.set_live({"A"}, is_live=True)
    late = stream.read(Ear(), "A", "B")

    assert ear.told == [(topics("Q.A"), True)]
    assert late.told == [(topics("Q.A"), True)], "what is live already, at once"


def test_what_nobody_reads_any_more_is_not_live_for_who_comes_later(stream: Stream) -> None:
    ear = stream.read(Ear(), "A")
    stream.readers.set_live({"A"}, is_live=True)

    ear.close()

    assert stream.read(Ear(), "A").live == set()
    assert stream.readers.live == set()


def test_a_reader_that_raises_costs_nobody_else_anything(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mine")

    broken = stream.readers.open({"A": topics("Q.A")}, fail, fail)
    ear = stream.read(Ear(), "A")

    with caplog.at_level(logging.ERROR, "onetape.providers"):
        stream.readers.set_live({"A"}, is_live=True)
        for _ in range(3):
            stream.publish("A")
        stream.readers.tell(broken, topics("Q.Z"), is_live=False)

    assert len(ear.takes) == 3
    assert stream.readers.statistics() == (2, 1, 1, 5)
    assert [record.msg for record in caplog.records] == ["provider.reader_failed"], "once"


def test_who_is_closed_by_another_ones_callback_hears_nothing_more(stream: Stream) -> None:
    late = Ear()
    stream.read(Ear(on_take=late.close, on_tell=lambda is_live: is_live or late.close()), "A")
    stream.read(late, "A")
    stream.publish("A")
    assert late.takes == []

    later = late = Ear()
    stream.read(later, "A")
    stream.readers.set_live({"A"}, is_live=True)
    stream.readers.set_live({"A"}, is_live=False)
    assert later.told == [(topics("Q.A"), True)]


def test_who_closes_itself_while_it_takes_gets_no_more(stream: Stream) -> None:
    ear = Ear()
    ear = stream.read(Ear(on_take=lambda: ear.close()), "A")
    again = ear
    stream.publish("A", "A")
    stream.publish("A")

    assert again.takes == [["A", "A"]]


def test_who_is_opened_by_a_callback_is_told_once_and_gets_what_comes_next(
    stream: Stream,
) -> None:
    opened: list[Ear] = []

    def open_another(_: object = None) -> None:
        if not opened:
            opened.append(stream.read(Ear(), "A"))

    stream.read(Ear(on_tell=open_another), "A")
    stream.readers.set_live({"A"}, is_live=True)
    stream.publish("A")

    assert opened[0].told == [(topics("Q.A"), True)]
    assert opened[0].takes == [["A"]]


def test_the_last_word_is_how_it_is(stream: Stream) -> None:
    """A callback may cause the next change before everybody heard of this one."""
    stream.read(
        Ear(on_tell=lambda is_live: stream.readers.set_live({"A"}, is_live=False)),
        "A",
    )
    last = stream.read(Ear(), "A")

    stream.readers.set_live({"A"}, is_live=True)

    assert last.live == set()
    assert last.told == [(topics("Q.A"), False)]


class ReadersMachine(RuleBasedStateMachine):
    """Against the naive model: a list of readers, and the keys that are live."""

    keys = st.sampled_from("ABCD")

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.open: list[tuple[Ear, frozenset[str]]] = []
        self.live: set[str] = set()

    @property
    def read(self) -> set[str]:
        return {key for _, keys in self.open for key in keys}

    @rule(keys=st.sets(keys))
    def begin(self, keys: set[str]) -> None:
        self.open.append((self.stream.read(Ear(), *sorted(keys)), frozenset(keys)))

    @rule(at=st.integers(0, 20))
    def end(self, at: int) -> None:
        if self.open:
            self.open.pop(at % len(self.open))[0].close()
            self.live &= self.read

    @rule(keys=st.sets(keys), is_live=st.booleans())
    def change(self, keys: set[str], is_live: bool) -> None:
        self.stream.readers.set_live(keys, is_live=is_live)
        self.live = self.live | (keys & self.read) if is_live else self.live - keys

    @rule(frame=st.lists(keys, min_size=1))
    def frame(self, frame: list[str]) -> None:
        before = [len(ear.takes) for ear, _ in self.open]
        self.stream.publish(*frame)
        for (ear, keys), count in zip(self.open, before, strict=True):
            own = [key for key in frame if key in keys]
            assert ear.takes[count:] == ([own] if own else [])

    @invariant()
    def it_agrees(self) -> None:
        assert set(self.stream.wanted) == self.read
        for ear, keys in self.open:
            assert ear.live == named(keys & self.live)


def named(keys: Iterable[str]) -> set[Topic]:
    return {Topic(f"Q.{key}") for key in keys}


TestReadersMachine = ReadersMachine.TestCase
