"""Who reads what of the one stream: R208, R228."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.massive.notices import AuthFailed, Lost, Restored
from onetape.model import Quote, Topic, Trade
from onetape.providers.readers import Reader
from onetape.tradier.notices import SymbolsFailed
from onetape.tradier.readers import StreamReaders


def quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, event_ns=1, received_ns=2, provider="tradier", bid=1.0)


def trade(symbol: str) -> Trade:
    return Trade(symbol=symbol, event_ns=1, received_ns=2, provider="tradier", price=1.0, size=1.0)


def topics(*names: str) -> frozenset[Topic]:
    return frozenset(map(Topic, names))


class Ear:
    """One who reads, and what it was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.live: set[Topic] = set()
        self.handle: Reader | None = None

    def take(self, events: Sequence[Any]) -> None:
        self.events += events

    def tell(self, named: frozenset[Topic], is_live: bool) -> None:
        assert named
        self.live = self.live | named if is_live else self.live - named

    def read(self, readers: StreamReaders, *names: str) -> "Ear":
        self.handle = readers.open(topics(*names), self.take, self.tell)
        return self

    def close(self) -> None:
        assert self.handle is not None
        self.handle.close()


class Stream:
    def __init__(self, *, most_symbols: int = 1000) -> None:
        self.wanted: frozenset[str] = frozenset()
        self.readers = StreamReaders(most_symbols=most_symbols)
        self.readers.connect(self.want)

    def want(self, symbols: frozenset[str]) -> None:
        self.wanted = symbols


LOST = Lost(reason="reset", code=None, since_ns=1)


def test_a_symbol_is_wanted_once_for_all_who_read_any_topic_of_it() -> None:
    stream = Stream()
    first = Ear().read(stream.readers, "Q.SPY", "T.SPY", "V.I:SPX")
    second = Ear().read(stream.readers, "T.SPY", "T.BRK.B", "Q.O:SPY251219C00650000")

    assert stream.wanted == {"SPY", "I:SPX", "BRK.B", "O:SPY251219C00650000"}
    first.close()
    first.close()
    assert stream.wanted == {"SPY", "BRK.B", "O:SPY251219C00650000"}
    second.close()
    assert stream.wanted == frozenset()


def test_what_tradier_has_no_channel_for_is_never_live() -> None:
    stream = Stream()

    ear = Ear().read(stream.readers, "AM.SPY", "LULD.SPY")

    assert stream.wanted == frozenset()
    assert ear.live == set()


def test_each_gets_the_events_of_its_symbols_as_one_list() -> None:
    stream = Stream()
    both, one = Ear().read(stream.readers, "Q.SPY", "T.QQQ"), Ear().read(stream.readers, "T.QQQ")
    frame = [quote("SPY"), trade("QQQ"), quote("IWM")]

    stream.readers.take(frame)

    assert both.events == frame[:2]
    assert one.events == frame[1:2]


def test_a_symbol_is_live_once_something_came_of_it() -> None:
    """Tradier acknowledges nothing."""
    stream = Stream()
    ear = Ear().read(stream.readers, "Q.SPY", "T.SPY", "V.I:SPX")
    assert ear.live == set()

    stream.readers.take([quote("SPY")])

    assert ear.live == {"Q.SPY", "T.SPY"}
    assert Ear().read(stream.readers, "T.SPY", "T.QQQ").live == {"T.SPY"}, "told at once"


@pytest.mark.parametrize("notice", [LOST, AuthFailed(message="no")])
def test_nothing_is_live_when_the_stream_is_lost(notice: Any) -> None:
    """R228."""
    stream = Stream()
    ear = Ear().read(stream.readers, "Q.SPY", "Q.QQQ")
    stream.readers.take([quote("SPY"), quote("QQQ")])

    stream.readers.hear(notice)
    assert ear.live == set()
    stream.readers.hear(Restored(gap_start_ns=1, gap_end_ns=2))
    assert ear.live == set(), "not before something comes"
    stream.readers.take([quote("QQQ")])
    assert ear.live == {"Q.QQQ"}


def test_a_symbol_that_is_refused_is_not_live() -> None:
    stream = Stream()
    ear = Ear().read(stream.readers, "Q.SPY", "Q.QQQ")
    stream.readers.take([quote("SPY"), quote("QQQ")])

    stream.readers.hear(SymbolsFailed(symbols=frozenset({"SPY", "NOPE"}), reason="unknown"))

    assert ear.live == {"Q.QQQ"}


def test_what_was_read_first_is_streamed_when_not_all_can_be() -> None:
    stream = Stream(most_symbols=2)
    Ear().read(stream.readers, "Q.A")
    second = Ear().read(stream.readers, "Q.B", "Q.C")
    assert stream.wanted == {"A", "B"}

    second.close()
    Ear().read(stream.readers, "Q.D")

    assert stream.wanted == {"A", "D"}


def test_before_it_is_connected_wishes_are_kept() -> None:
    readers = StreamReaders()
    Ear().read(readers, "Q.SPY")
    stream = Stream()

    readers.connect(stream.want)

    assert stream.wanted == {"SPY"}


class ReadersMachine(RuleBasedStateMachine):
    """Against the naive model: a list of readers, and the symbols heard since the last loss."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.open: list[tuple[Ear, frozenset[str]]] = []
        self.heard: set[str] = set()

    @rule(symbols=st.sets(st.sampled_from("ABCD"), min_size=1))
    def read(self, symbols: set[str]) -> None:
        ear = Ear().read(self.stream.readers, *(f"Q.{one}" for one in symbols))
        self.open.append((ear, frozenset(symbols)))

    @rule(at=st.integers(0, 20))
    def close(self, at: int) -> None:
        if self.open:
            self.open.pop(at % len(self.open))[0].close()
            self.heard &= self.wanted

    @rule(symbol=st.sampled_from("ABCD"))
    def event(self, symbol: str) -> None:
        before = [len(ear.events) for ear, _ in self.open]
        self.stream.readers.take([quote(symbol)])
        if symbol in self.wanted:
            self.heard.add(symbol)
        for (ear, symbols), count in zip(self.open, before, strict=True):
            assert len(ear.events) == count + (symbol in symbols)

    @rule()
    def lose(self) -> None:
        self.stream.readers.hear(LOST)
        self.heard.clear()

    @rule(symbol=st.sampled_from("ABCD"))
    def refuse(self, symbol: str) -> None:
        self.stream.readers.hear(SymbolsFailed(symbols=frozenset({symbol}), reason="no"))
        self.heard.discard(symbol)

    @property
    def wanted(self) -> set[str]:
        return {symbol for _, symbols in self.open for symbol in symbols}

    @invariant()
    def it_agrees(self) -> None:
        assert self.stream.wanted == self.wanted
        for ear, symbols in self.open:
            assert ear.live == {f"Q.{one}" for one in symbols & self.heard}


TestReadersMachine = ReadersMachine.TestCase
