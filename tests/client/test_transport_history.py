"""The transport against a naive market, after any history of losses, returns and polls.

The market has a tape of trades and bars and a last quote. Its stream brings what happens
while it carries a topic, in milliseconds; its REST tells the tape, in nanoseconds. Both
are built from the rules alone, what is checked from the transport's outputs alone.
"""

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from onetape.client._notices import (
    Deliver,
    Event,
    Gap,
    Output,
    Poll,
    Reason,
    SourceChanged,
    Streamed,
    TransportPolicy,
    Want,
)
from onetape.client._transport import Key, Kind, State, Transport
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.provenance import Source

S, MS = 1_000_000_000, 1_000_000
START_NS = 1_764_000_000 * S
CALL, PUT, STOCK = "O:SPY251219C00650000", "O:SPY251219P00650000", "SPY"
UNNUMBERED = PUT  # REST leaves out the sequence number of its trades
KEYS = [
    *(Key(kind, CALL) for kind in Kind),
    Key(Kind.TRADE, PUT),
    Key(Kind.QUOTE, STOCK),
    Key(Kind.TRADE, STOCK),
]
STREAMABLE = {key.topic: key for key in KEYS if key.asset is AssetClass.OPTIONS}
POLICY = TransportPolicy(hold_events=12)


class Reader:
    """What the readers of one key have been given and told."""

    def __init__(self, opened_ns: int) -> None:
        self.since_ns = opened_ns  # what happened from then on is owed
        self.told = False
        self.source: Source | None = None
        self.events: list[Event] = []
        self.gaps: list[Gap] = []
        self.due_at: float | None = None  # a poll has to have begun by then


class AnyHistory(RuleBasedStateMachine):
    keys = st.sampled_from(KEYS)

    def __init__(self) -> None:
        super().__init__()
        self.transport = Transport(POLICY, streamed={AssetClass.OPTIONS})
        self.now = 0.0
        self.readers: dict[Key, Reader] = {}
        self.counts: dict[Key, int] = {}
        self.wanted: frozenset[Topic] = frozenset()
        self.polls: list[tuple[Poll, Key, int | None]] = []
        self.up = False
        self.upstream = True
        self.acked: set[Topic] = set()
        self.carried: set[Topic] = set()
        self.trades: list[Trade] = []
        self.bars: list[Bar] = []
        self.quotes: dict[str, Quote] = {}
        self.wire: list[Event] = []
        self.number = 0

    @property
    def now_ns(self) -> int:
        return START_NS + round(self.now * S)

    # the market

    def happen(self, event: Event, kind: Kind) -> None:
        """Something happens; the stream has it when it carries the topic."""
        topic = Key(kind, event.symbol).topic
        if self.up and self.upstream and topic in self.carried:
            self.wire.append(event)

    def pass_time(self, seconds: float) -> None:
        """Advance to each moment the machine asked for, and to each end of a window."""
        until = self.now + seconds
        while True:
            wake_at = self.transport.wake_at()
            second = float(int(self.now) + 1)
            moment = min(until, second, wake_at if wake_at is not None else until)
            if self.now < second <= moment:
                self.now = second
                self.close_windows()
            self.now = max(self.now, moment)
            self.do()
            if moment >= until:
                return

    def close_windows(self) -> None:
        for kind, length_s in ((Kind.SECOND_BAR, 1), (Kind.MINUTE_BAR, 60)):
            if int(self.now) % length_s:
                continue
            start_ns = self.now_ns - length_s * S
            traded = {t.symbol for t in self.trades if start_ns <= t.event_ns < self.now_ns}
            for symbol in sorted(traded & {CALL}):
                bar = self.bar(symbol, start_ns, length_s)
                self.bars.append(bar)
                self.happen(bar, kind)

    def bar(self, symbol: str, start_ns: int, length_s: int) -> Bar:
        return Bar(
            symbol=symbol,
            event_ns=start_ns,
            end_ns=start_ns + length_s * S,
            received_ns=self.now_ns,
            provider="massive",
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
        )

    # what happens

    @initialize(keys=st.lists(keys, unique=True), works=st.booleans())
    def begin(self, keys: list[Key], works: bool) -> None:
        for key in keys:
            self.open(key)
        if works:
            self.recover()

    @rule(
        symbol=st.sampled_from([CALL, PUT]),
        gaps=st.lists(st.sampled_from([1e-5, 0.0004, 0.05]), max_size=14),
        arrives=st.integers(0, 14),
    )
    def burst(self, symbol: str, gaps: list[float], arrives: int) -> None:
        for index, after in enumerate(gaps):
            self.trade(symbol, after)
            if index == arrives:
                self.flush(False)

    @rule(failures=st.integers(1, 3))
    def rest_fails(self, failures: int) -> None:
        for _ in range(failures):
            while self.polls:
                self.answer(0, False)
            self.pass_time(2.1)

    @rule(
        symbol=st.sampled_from([CALL, CALL, PUT, STOCK]), after=st.sampled_from([1e-5, 0.003, 0.4])
    )
    def trade(self, symbol: str, after: float) -> None:
        self.pass_time(after)
        self.number += 1
        trade = Trade(
            symbol=symbol,
            event_ns=self.now_ns,
            received_ns=self.now_ns,
            provider="massive",
            price=1.0,
            size=float(self.number if symbol == UNNUMBERED else 1),
            sequence=self.number,
        )
        self.trades.append(trade)
        self.happen(coarse(trade), Kind.TRADE)

    @rule(symbol=st.sampled_from([CALL, STOCK]), after=st.sampled_from([1e-5, 0.003, 0.4]))
    def quote(self, symbol: str, after: float) -> None:
        self.pass_time(after)
        self.number += 1
        quote = Quote(
            symbol=symbol,
            event_ns=self.now_ns,
            received_ns=self.now_ns,
            provider="massive",
            bid=float(self.number),
        )
        self.quotes[symbol] = quote
        self.happen(coarse(quote), Kind.QUOTE)

    @rule(seconds=st.sampled_from([0.06, 0.3, 1.0, 3.3, 20.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(repeat=st.booleans())
    def flush(self, repeat: bool) -> None:
        """What is on the wire arrives; a careless stream may say it all twice."""
        events, self.wire = self.wire, []
        self.transport.events(AssetClass.OPTIONS, events, self.now, self.now_ns)
        self.do()
        if repeat:
            again = [event for event in events[-1:] if not isinstance(event, Quote)]
            self.transport.events(AssetClass.OPTIONS, again, self.now, self.now_ns)
            self.do()

    # the endpoint

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        self.up, self.upstream = True, True
        for reader in self.readers.values():
            reader.due_at = None  # it gets a chance to confirm
        self.transport.endpoint_up(AssetClass.OPTIONS, self.now, self.now_ns)
        self.do()

    @precondition(lambda self: self.up)
    @rule()
    def disconnect(self) -> None:
        self.up = False
        self.acked.clear()
        self.lose()
        self.transport.endpoint_down(AssetClass.OPTIONS, self.now, self.now_ns, self.now_ns)
        self.do()

    @precondition(lambda self: self.up and self.upstream)
    @rule()
    def lose_upstream(self) -> None:
        self.upstream = False
        self.lose()
        self.transport.upstream_down(AssetClass.OPTIONS, self.now, self.now_ns, self.now_ns)
        self.do()

    @precondition(lambda self: self.up and not self.upstream)
    @rule()
    def restore_upstream(self) -> None:
        self.upstream = True
        self.carried = set(self.acked)
        self.transport.upstream_up(AssetClass.OPTIONS, self.now, self.now_ns)
        self.do()

    def lose(self) -> None:
        """Nothing is carried, and what was on the wire is gone."""
        self.carried.clear()
        self.wire.clear()
        for key, reader in self.readers.items():
            if key in STREAMABLE.values() and reader.source is Source.STREAM:
                reader.due_at = self.now + 0.1

    @precondition(lambda self: self.up)
    @rule(topic=st.sampled_from(sorted(STREAMABLE)), refused=st.booleans())
    def confirm(self, topic: Topic, refused: bool) -> None:
        if topic not in self.wanted:
            return
        if refused:
            self.acked.discard(topic)
            self.carried.discard(topic)
            self.wire = [event for event in self.wire if topic_of(event) != topic]
            reader = self.readers[STREAMABLE[topic]]
            if reader.source is Source.STREAM:
                reader.due_at = self.now + 0.1
            self.transport.topics_failed([topic], self.now, self.now_ns)
        else:
            self.acked.add(topic)
            if self.upstream:
                self.carried.add(topic)
            self.transport.topics_live([topic], self.now, self.now_ns)
        self.do()

    # REST

    @precondition(lambda self: self.polls)
    @rule(which=st.integers(0, 99), works=st.booleans())
    def answer(self, which: int, works: bool) -> None:
        poll, key, since_ns = self.polls.pop(which % len(self.polls))
        if works:
            told = self.ask(key, since_ns)
            self.transport.polled(poll.batch, key, told, self.now, self.now_ns)
        else:
            self.transport.poll_failed(poll.batch, key, self.now, self.now_ns, "upstream_down")
        self.do()

    def ask(self, key: Key, since_ns: int | None) -> list[Event]:
        if key.kind is Kind.QUOTE:
            quote = self.quotes.get(key.symbol)
            return [] if quote is None else [polled(quote)]
        tape = self.trades if key.kind is Kind.TRADE else self.bars
        return [
            polled(event)
            for event in tape
            if kind_of(event) is key.kind
            and event.symbol == key.symbol
            and event.event_ns >= (since_ns or 0)
        ]

    # readers

    @rule(key=keys)
    def open(self, key: Key) -> None:
        if key not in self.readers:
            self.readers[key] = Reader(self.now_ns)
            self.readers[key].due_at = None if self.up else self.now + 0.1
        self.counts[key] = self.counts.get(key, 0) + 1
        self.transport.open(key, self.now, self.now_ns)
        self.do()

    @rule(key=keys)
    def close(self, key: Key) -> None:
        if not self.counts.get(key):
            return
        self.counts[key] -= 1
        if not self.counts[key]:
            self.check_tape(key)
            del self.readers[key]
            self.acked.discard(key.topic)
            self.carried.discard(key.topic)
            self.wire = [event for event in self.wire if topic_of(event) != key.topic]
        self.transport.close(key)
        self.do()

    @rule(is_open=st.booleans())
    def market(self, is_open: bool) -> None:
        self.transport.market(self.now, is_open=is_open)
        self.do()

    @rule()
    def recover(self) -> None:
        """Everything works for a while."""
        if self.up and not self.upstream:
            self.restore_upstream()
        if not self.up:
            self.connect()
        for topic in sorted(self.wanted):
            self.confirm(topic, False)
        for _ in range(6):
            self.pass_time(1.0)
            self.flush(False)
            while self.polls:
                self.answer(0, True)
        for key in self.readers:
            if key.asset is AssetClass.OPTIONS:
                assert self.transport.states()[key] is State.STREAMING
            self.check_tape(key)

    # what the machine says

    def do(self) -> None:
        self.transport.tick(self.now, self.now_ns)
        for output in self.transport.drain():
            self.heed(output)

    def heed(self, output: Output) -> None:
        match output:
            case Want():
                assert output.topics != self.wanted, "wanted what was wanted"
                self.wanted = output.topics
            case Poll():
                for key, since_ns in output.requests:
                    in_flight = [poll for poll, other, _ in self.polls if other == key]
                    assert key in self.readers, "asked for a key that is closed"
                    assert (output.asset, output.kind) == (key.asset, key.kind)
                    # An older one may be on its way still: its answer is not waited for.
                    assert all(poll.batch < output.batch for poll in in_flight)
                    self.polls.append((output, key, since_ns))
                    self.readers[key].due_at = None
            case SourceChanged():
                reader = self.readers[output.key]
                assert output.source is not reader.source or not reader.told
                reader.source = output.source
                if output.source is Source.STREAM:
                    reader.due_at = None
                    if not reader.told:
                        reader.since_ns = self.now_ns + 1
                reader.told = True
            case Streamed():
                self.check_frame(output)
            case Deliver():
                self.check_delivery(self.readers[output.key], output)
            case Gap():
                assert output.start_ns <= output.end_ns
                self.readers[output.key].gaps.append(output)

    def check_frame(self, output: Streamed) -> None:
        for line, event in zip(output.lines, output.events, strict=True):
            self.check_delivery(self.readers[line.key], Deliver(line.key, [event]))

    def check_delivery(self, reader: Reader, output: Deliver) -> None:
        assert output.events
        for event in output.events:
            assert (kind_of(event), event.symbol) == output.key, "another's event"
            assert event.source is reader.source, "two sources at once"
            if reader.events:
                last = reader.events[-1]
                assert event.event_ns // MS >= (last.event_ns or 0) // MS, "out of order"
            known = {identity(one) for one in reader.events}
            assert identity(event) not in known, "delivered twice"
            reader.events.append(event)

    def check_tape(self, key: Key) -> None:
        """While the stream is the source, all that it and REST ever offered was delivered."""
        reader = self.readers[key]
        if key.kind is Kind.QUOTE or self.transport.source_of(key) is not Source.STREAM:
            return
        self.flush(False)
        have = {identity(event) for event in reader.events}
        for event in self.ask(key, reader.since_ns):
            assert identity(event) in have or told(reader, event), event

    # what always holds

    @invariant()
    def wanted_are_the_topics_of_what_is_read(self) -> None:
        read = {key.topic for key in self.readers if key.asset is AssetClass.OPTIONS}
        assert self.transport.wanted == self.wanted == read

    @invariant()
    def each_key_is_carried_once_and_its_source_is_what_was_told(self) -> None:
        assert self.transport.states().keys() == self.readers.keys()
        for key, reader in self.readers.items():
            assert self.transport.source_of(key) is reader.source

    @invariant()
    def polling_begins_in_time(self) -> None:
        for key, reader in self.readers.items():
            assert reader.due_at is None or self.now <= reader.due_at + 1e-9, key

    @invariant()
    def nothing_read_needs_no_timer(self) -> None:
        if not self.readers:
            assert self.transport.wake_at() is None

    @invariant()
    def losses_are_told_for_a_reason(self) -> None:
        for reader in self.readers.values():
            assert Reason.LATE not in {gap.reason for gap in reader.gaps}


def coarse(event: Trade | Quote) -> Trade | Quote:
    """As the stream tells it."""
    at_ns = event.event_ns or 0
    return replace(event, event_ns=at_ns - at_ns % MS)


def polled(event: Event) -> Event:
    """As REST tells it."""
    if isinstance(event, Trade) and event.symbol == UNNUMBERED:
        return replace(event, source=Source.REST, sequence=None)
    return replace(event, source=Source.REST)


def kind_of(event: Event) -> Kind:
    if isinstance(event, Bar):
        return Kind.SECOND_BAR if event.end_ns - event.event_ns == S else Kind.MINUTE_BAR
    return Kind.QUOTE if isinstance(event, Quote) else Kind.TRADE


def topic_of(event: Event) -> Topic:
    return Key(kind_of(event), event.symbol).topic


def identity(event: Event) -> object:
    if isinstance(event, Trade):
        return event.size if event.symbol == UNNUMBERED else event.sequence
    return event.bid if isinstance(event, Quote) else event.event_ns


def told(reader: Reader, event: Event) -> bool:
    at_ns = event.event_ns or 0
    return any(gap.start_ns // MS <= at_ns // MS <= gap.end_ns // MS for gap in reader.gaps)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=70, stateful_step_count=40)
