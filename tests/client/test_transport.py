"""Examples of `Transport`; `test_transport_history` holds it to its laws over any history."""

from itertools import pairwise

import pytest

from onetape.client._notices import (
    Deliver,
    Event,
    Gap,
    Poll,
    Reason,
    SourceChanged,
    Streamed,
    Want,
)
from onetape.client._transport import Key, Kind, State, Transport
from onetape.errors import InvalidRequest, InvalidTopic
from onetape.model import AssetClass, Bar, Quote, Trade
from onetape.provenance import Source

OPTIONS, INDICES, STOCKS = AssetClass.OPTIONS, AssetClass.INDICES, AssetClass.STOCKS
CALL, PUT = "O:SPY251219C00650000", "O:SPY251219P00650000"
QUOTES, TRADES = Key(Kind.QUOTE, CALL), Key(Kind.TRADE, CALL)
SECONDS, MINUTES = Key(Kind.SECOND_BAR, CALL), Key(Kind.MINUTE_BAR, CALL)
STOCK = Key(Kind.QUOTE, "SPY")
START_NS = 1_764_000_000_000_000_000  # a whole minute
MS = 1_000_000


class Desk:
    """A transport, its time, and what it said: a driver for tests, with nothing clever in it."""

    def __init__(self, *, streamed: frozenset[AssetClass] = frozenset({OPTIONS, INDICES})) -> None:
        self.transport = Transport(streamed=streamed)
        self.now = 0.0
        self.delivered: dict[Key, list[Event]] = {}
        self.changes: list[SourceChanged] = []
        self.gaps: list[Gap] = []
        self.polls: list[Poll] = []
        self.asked_at: list[float] = []
        self.wanted: list[frozenset[str]] = []

    @property
    def now_ns(self) -> int:
        return START_NS + round(self.now * 1e9)

    def open(self, *keys: Key, poll_interval_s: float | None = None) -> None:
        for key in keys:
            self.transport.open(key, self.now, self.now_ns, poll_interval_s=poll_interval_s)
        self.do()

    def up(self, *keys: Key, asset: AssetClass = OPTIONS) -> None:
        """The endpoint is up and carries the topics of these."""
        self.transport.endpoint_up(asset, self.now, self.now_ns)
        self.live(*keys)

    def live(self, *keys: Key) -> None:
        self.transport.topics_live([key.topic for key in keys], self.now, self.now_ns)
        self.do()

    def down(self, asset: AssetClass = OPTIONS, *, since: float | None = None) -> None:
        at = self.now if since is None else since
        self.transport.endpoint_down(asset, self.now, START_NS + round(at * 1e9), self.now_ns)
        self.do()

    def stream(self, *events: Event, asset: AssetClass = OPTIONS) -> None:
        self.transport.events(asset, events, self.now, self.now_ns)
        self.do()

    def wait(self, seconds: float) -> None:
        """Let time pass, waking the machine when it asks for it and not in between."""
        until = self.now + seconds
        while (wake_at := self.transport.wake_at()) is not None and wake_at <= until:
            self.now = max(self.now, wake_at)
            self.do()
            assert self.transport.wake_at() != wake_at, "asked to be woken at once again"
        self.now = until

    def answer(self, *events: Event, poll: Poll | None = None) -> None:
        """Answer the last poll, or this one: each key gets what is of its symbol."""
        poll = poll or self.polls[-1]
        for key, _ in poll.requests:
            mine = [event for event in events if event.symbol == key.symbol]
            self.transport.polled(poll.batch, key, mine, self.now, self.now_ns)
        self.do()

    def fail(self, poll: Poll | None = None) -> None:
        poll = poll or self.polls[-1]
        for key, _ in poll.requests:
            self.transport.poll_failed(poll.batch, key, self.now, self.now_ns, "upstream_down")
        self.do()

    def do(self) -> None:
        self.transport.tick(self.now, self.now_ns)
        for output in self.transport.drain():
            match output:
                case Want():
                    self.wanted.append(output.topics)
                case Poll():
                    self.polls.append(output)
                    self.asked_at.append(self.now)
                case Streamed():
                    for line, event in zip(output.lines, output.events, strict=True):
                        self.delivered.setdefault(line.key, []).append(event)
                case Deliver():
                    self.delivered.setdefault(output.key, []).extend(output.events)
                case SourceChanged():
                    self.changes.append(output)
                case Gap():
                    self.gaps.append(output)

    def state(self, key: Key) -> State:
        return self.transport.states()[key]

    def steps(self) -> list[tuple[Source | None, Reason]]:
        return [(change.source, change.reason) for change in self.changes]

    def quote(self, at: float, bid: float, *, rest: bool = False, symbol: str = CALL) -> Quote:
        return Quote(
            symbol=symbol,
            event_ns=START_NS + round(at * 1e9),
            received_ns=self.now_ns,
            provider="massive",
            source=Source.REST if rest else Source.STREAM,
            bid=bid,
            ask=bid + 1,
        )

    def trade(self, at: float, number: int, *, rest: bool = False, symbol: str = CALL) -> Trade:
        at_ns = START_NS + round(at * 1e9)
        return Trade(
            symbol=symbol,
            event_ns=at_ns if rest else at_ns - at_ns % MS,
            received_ns=self.now_ns,
            provider="massive",
            source=Source.REST if rest else Source.STREAM,
            price=1.0,
            size=1.0,
            sequence=number,
        )

    def bar(self, at: float, length_s: int = 60, *, rest: bool = False, symbol: str = CALL) -> Bar:
        at_ns = START_NS + round(at * 1e9)
        return Bar(
            symbol=symbol,
            event_ns=at_ns,
            end_ns=at_ns + length_s * 1_000_000_000,
            received_ns=self.now_ns,
            provider="massive",
            source=Source.REST if rest else Source.STREAM,
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


def streaming(desk: Desk, *keys: Key) -> None:
    desk.open(*keys)
    desk.up(*keys)
    desk.wait(1.0)
    assert all(desk.state(key) is State.STREAMING for key in keys)


# the stream first


def test_the_stream_comes_first_and_nothing_is_polled_while_it_carries_the_key(desk: Desk) -> None:
    """R140, R146: confirmed within the grace, REST is never asked."""
    desk.open(QUOTES)
    desk.wait(0.04)
    desk.up(QUOTES)
    desk.stream(quote := desk.quote(0.04, 1.0))
    desk.wait(2.0)

    assert desk.wanted == [{QUOTES.topic}]
    assert desk.delivered == {QUOTES: [quote]}
    assert desk.steps() == [(Source.STREAM, Reason.LIVE)]
    assert (desk.polls, desk.gaps) == ([], [])


def test_an_event_is_as_good_as_a_confirmation(desk: Desk) -> None:
    desk.open(TRADES)
    desk.up()
    desk.stream(trade := desk.trade(0.0, 1))

    assert desk.state(TRADES) is State.STREAMING
    assert desk.delivered[TRADES] == [trade]


def test_asked_for_while_the_stream_is_down_polling_begins_within_100_ms(desk: Desk) -> None:
    """R140, R146, W-02, C20: no exception is needed for the fallback to begin."""
    desk.open(QUOTES)
    desk.wait(0.1)

    assert desk.polls[0].requests == ((QUOTES, None),)
    assert desk.asked_at[0] <= 0.1
    assert desk.steps() == [(Source.REST, Reason.NOT_LIVE_IN_TIME)]


def test_not_confirmed_in_time_by_a_stream_that_is_up_the_key_is_polled(desk: Desk) -> None:
    """C20: connected is not subscribed."""
    desk.up()
    desk.open(QUOTES)
    desk.wait(1.9)
    assert desk.polls == []

    desk.wait(0.2)

    assert desk.state(QUOTES) is State.POLLING


def test_a_connection_that_comes_up_gets_time_to_confirm(desk: Desk) -> None:
    desk.open(QUOTES)
    desk.wait(0.04)
    desk.up()
    desk.wait(1.9)
    assert desk.polls == []

    desk.down()
    desk.wait(0.1)

    assert desk.state(QUOTES) is State.POLLING


def test_confirmed_before_the_endpoint_is_up_counts_once_it_is(desk: Desk) -> None:
    desk.open(QUOTES)
    desk.live(QUOTES)
    assert desk.state(QUOTES) is State.WAITING

    desk.up()

    assert desk.state(QUOTES) is State.STREAMING


# the fallback


def test_the_loss_of_the_stream_starts_polling_in_the_same_moment(desk: Desk) -> None:
    """R140, R146, C20: not at a tick of some timer. All keys of a class in one batch: W-40."""
    other = Key(Kind.QUOTE, PUT)
    streaming(desk, QUOTES, other)

    desk.down()

    assert [poll.requests for poll in desk.polls] == [((QUOTES, None), (other, None))]
    assert desk.transport.source_of(QUOTES) is Source.REST
    assert desk.transport.statistics().fallbacks == 2


def test_a_topic_that_fails_falls_back_alone(desk: Desk) -> None:
    """R133, C18, C20: not entitled, refused, not acknowledged."""
    other = Key(Kind.QUOTE, PUT)
    streaming(desk, QUOTES, other)

    desk.transport.topics_failed([QUOTES.topic], desk.now, desk.now_ns, "not authorized")
    desk.do()

    assert (desk.state(QUOTES), desk.state(other)) == (State.POLLING, State.STREAMING)
    assert desk.changes[-1].reason is Reason.TOPIC_FAILED
    assert desk.changes[-1].detail == "not authorized"


def test_the_loss_of_one_asset_class_does_not_touch_another(desk: Desk) -> None:
    index = Key(Kind.QUOTE, "I:SPX")
    desk.open(QUOTES, index)
    desk.up(QUOTES)
    desk.up(index, asset=INDICES)

    desk.down(INDICES)

    assert (desk.state(QUOTES), desk.state(index)) == (State.STREAMING, State.POLLING)


def test_the_gateway_losing_its_vendor_is_a_loss_too_and_needs_no_new_confirmation(
    desk: Desk,
) -> None:
    streaming(desk, QUOTES)
    now_ns = desk.now_ns
    desk.transport.upstream_down(OPTIONS, desk.now, now_ns, now_ns, "reset")
    desk.do()
    assert desk.state(QUOTES) is State.POLLING
    desk.live(QUOTES)
    assert desk.state(QUOTES) is State.POLLING

    desk.transport.upstream_up(OPTIONS, desk.now, desk.now_ns)
    desk.do()
    assert desk.state(QUOTES) is State.BRIDGING
    desk.stream(desk.quote(1.0, 2.0))

    assert desk.state(QUOTES) is State.STREAMING


def test_up_and_without_its_vendor_the_gateway_carries_nothing(desk: Desk) -> None:
    desk.transport.upstream_down(OPTIONS, 0.0, desk.now_ns, desk.now_ns)
    desk.open(QUOTES)
    desk.up(QUOTES)
    desk.wait(0.1)

    assert desk.state(QUOTES) is State.POLLING


def test_what_a_lost_stream_still_sends_is_not_taken(desk: Desk) -> None:
    """W-04: never two sources; nobody would say that it is lost a second time."""
    streaming(desk, QUOTES)
    desk.down()

    desk.stream(desk.quote(1.0, 5.0))

    assert desk.state(QUOTES) is State.POLLING
    assert QUOTES not in desk.delivered
    assert desk.transport.statistics().stale == 1


def test_a_stock_is_polled_unless_the_plan_streams_stocks(desk: Desk) -> None:
    """R132: no topic is wanted, REST at once, every 4 s."""
    desk.open(STOCK)

    assert desk.wanted == []
    assert desk.state(STOCK) is State.UNSTREAMED
    assert desk.steps() == [(Source.REST, Reason.UNSTREAMED)]
    for price in range(4):
        desk.answer(desk.quote(desk.now, price, rest=True, symbol="SPY"))
        desk.wait(4.0)
    assert desk.asked_at == [0.0, 4.0, 8.0, 12.0, 16.0]


def test_a_stray_event_of_what_is_not_streamed_is_not_taken(desk: Desk) -> None:
    desk.open(STOCK)
    desk.up(asset=STOCKS)

    desk.stream(desk.quote(0.0, 1.0, symbol="SPY"), asset=STOCKS)

    assert desk.delivered == {}


def test_a_plan_with_stocks_streams_them() -> None:
    desk = Desk(streamed=frozenset(AssetClass))
    desk.open(STOCK)
    desk.up(STOCK, asset=STOCKS)

    assert desk.wanted == [{"Q.SPY"}]
    assert desk.state(STOCK) is State.STREAMING


# the way back


def test_the_first_fresh_quote_of_the_stream_ends_polling(desk: Desk) -> None:
    """R147, W-04: nothing is asked afterwards, and what was asked arrives nowhere."""
    streaming(desk, QUOTES)
    desk.down()
    desk.answer(polled := desk.quote(1.0, 2.0, rest=True))
    desk.wait(3.0)
    late = desk.polls[-1]
    desk.up(QUOTES)

    desk.stream(fresh := desk.quote(4.0, 3.0))
    desk.answer(desk.quote(3.9, 9.0, rest=True), poll=late)
    desk.stream(*[desk.quote(4.0 + n, n) for n in range(3)])
    polls = len(desk.polls)
    desk.wait(2.0)

    assert desk.delivered[QUOTES][:2] == [polled, fresh]
    assert len(desk.delivered[QUOTES]) == 5
    assert len(desk.polls) == polls
    assert desk.steps()[-2:] == [
        (Source.REST, Reason.STREAM_DOWN),
        (Source.STREAM, Reason.RESUMED),
    ]


def test_of_quotes_the_gap_is_told_with_its_bounds(desk: Desk) -> None:
    """Quotes are not backfilled: REST gave some of them at best."""
    streaming(desk, QUOTES)
    desk.wait(1.0)
    desk.down(since=1.5)
    desk.wait(2.0)
    desk.up(QUOTES)
    desk.stream(desk.quote(4.0, 3.0))

    assert desk.gaps == [
        Gap(
            key=QUOTES,
            start_ns=START_NS + 1_500_000_000,
            end_ns=START_NS + 4_000_000_000,
            reason=Reason.STREAM_DOWN,
        )
    ]


def test_a_key_that_never_streamed_has_no_gap(desk: Desk) -> None:
    desk.open(QUOTES)
    desk.wait(1.0)
    desk.up(QUOTES)
    desk.stream(desk.quote(1.0, 3.0))

    assert desk.state(QUOTES) is State.STREAMING
    assert desk.gaps == []


def test_a_quote_that_rest_already_had_does_not_end_polling(desk: Desk) -> None:
    """The stream's milliseconds and REST's nanoseconds are of one quote."""
    streaming(desk, QUOTES)
    desk.down()
    desk.answer(desk.quote(1.0007, 2.0, rest=True))
    desk.up()

    desk.stream(desk.quote(1.0, 2.0), desk.quote(0.9, 1.0))
    assert desk.state(QUOTES) is State.POLLING

    desk.stream(other := desk.quote(1.0, 2.5))
    assert desk.delivered[QUOTES][-1] is other


def test_a_quiet_quote_is_asked_once_after_the_confirmation_and_then_trusted(desk: Desk) -> None:
    """W-38: an illiquid contract is not polled for ever because nothing happens to it."""
    streaming(desk, QUOTES)
    desk.down()
    desk.answer()
    desk.up(QUOTES)
    desk.wait(0.3)

    desk.answer(last := desk.quote(1.1, 2.0, rest=True))

    assert desk.delivered[QUOTES] == [last]
    assert desk.state(QUOTES) is State.STREAMING
    assert desk.transport.statistics().bridges == 1


def test_the_bridge_closes_the_gap_of_trades_without_loss_and_without_repeats(desk: Desk) -> None:
    """R147, W-36: trades with a cursor; the stream's are held until REST has told its part."""
    streaming(desk, TRADES)
    desk.stream(desk.trade(1.0, 1), desk.trade(1.0005, 2))
    desk.down()
    since_ns = START_NS + 1_000_000_000
    assert desk.polls[-1].requests == ((TRADES, since_ns),)
    desk.answer(*[desk.trade(1.0 + n / 10_000, n, rest=True) for n in (1, 2, 5)])
    desk.wait(1.0)
    desk.up(TRADES)
    desk.stream(desk.trade(2.0011, 8), desk.trade(2.01, 9))
    assert [trade.sequence for trade in numbered(desk)] == [1, 2, 5]
    desk.wait(0.3)

    told = [desk.trade(at, n, rest=True) for at, n in ((1.0005, 5), (1.5, 6), (2.0003, 7))]
    more = [desk.trade(2.0011, 8, rest=True), desk.trade(2.01, 9, rest=True)]
    desk.answer(*told, *more)
    desk.stream(desk.trade(2.3, 10))

    assert [trade.sequence for trade in numbered(desk)] == [1, 2, 5, 6, 7, 8, 9, 10]
    assert desk.gaps == []
    assert [trade.source for trade in numbered(desk)][3:] == [
        *[Source.REST] * 2,
        *[Source.STREAM] * 3,
    ]


def numbered(desk: Desk, key: Key = TRADES) -> list[Trade]:
    return [event for event in desk.delivered.get(key, []) if isinstance(event, Trade)]


def test_what_rest_was_faster_with_is_not_repeated_by_the_stream(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.answer()
    desk.up(TRADES)
    desk.wait(0.3)
    desk.answer(desk.trade(1.28, 1, rest=True), desk.trade(1.2899, 2, rest=True))
    assert desk.state(TRADES) is State.STREAMING

    desk.stream(desk.trade(1.28, 1), desk.trade(1.2899, 2), desk.trade(1.2899, 3))

    assert [trade.sequence for trade in numbered(desk)] == [1, 2, 3]
    assert desk.gaps == []


def test_a_trade_that_comes_before_the_confirmation_begins_the_bridge(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.answer(desk.trade(1.0, 1, rest=True))
    desk.up()
    desk.stream(desk.trade(1.0, 1))
    assert desk.state(TRADES) is State.POLLING

    desk.stream(desk.trade(1.2, 3))
    desk.wait(0.3)
    desk.answer(desk.trade(1.1, 2, rest=True), desk.trade(1.2, 3, rest=True))

    assert [trade.sequence for trade in numbered(desk)] == [1, 2, 3]


def test_a_stream_lost_again_while_it_is_bridged_loses_nothing(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.up(TRADES)
    desk.stream(desk.trade(1.1, 1))
    desk.down()

    desk.answer(desk.trade(1.05, 0, rest=True), desk.trade(1.1, 1, rest=True))

    assert desk.state(TRADES) is State.POLLING
    assert [trade.sequence for trade in numbered(desk)] == [0, 1]


def test_a_bridge_that_fails_is_tried_again_and_then_told_as_a_gap(desk: Desk) -> None:
    """No loss is silent: the stream goes on, and the bounds of what is missing are told."""
    streaming(desk, TRADES)
    desk.stream(desk.trade(1.0, 1))
    desk.down()
    desk.fail()
    desk.wait(1.0)
    desk.up(TRADES)
    desk.stream(desk.trade(2.1, 2))
    for _ in range(3):
        desk.wait(2.0)
        assert desk.state(TRADES) is State.BRIDGING
        desk.fail()

    assert [trade.sequence for trade in numbered(desk)] == [1, 2]
    assert [(gap.start_ns, gap.end_ns, gap.reason) for gap in desk.gaps] == [
        (START_NS + 1_000_000_000, START_NS + 2_100_000_000, Reason.BRIDGE_FAILED)
    ]
    assert desk.state(TRADES) is State.STREAMING


def test_a_bridge_of_nothing_that_fails_is_told_up_to_the_return(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.wait(1.0)
    desk.up(TRADES)
    for _ in range(3):
        desk.wait(2.0)
        desk.fail()

    assert [(gap.start_ns, gap.end_ns) for gap in desk.gaps] == [
        (START_NS, START_NS + 2_000_000_000)
    ]


def test_a_quote_that_cannot_be_asked_for_is_trusted_to_the_stream(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.down()
    desk.wait(1.0)
    desk.up(QUOTES)
    for _ in range(3):
        desk.wait(2.0)
        desk.fail()

    assert desk.state(QUOTES) is State.STREAMING
    assert [gap.reason for gap in desk.gaps] == [Reason.STREAM_DOWN]


def test_more_than_may_be_held_is_let_through_and_told_as_a_gap(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.stream(desk.trade(1.0, 0))
    desk.down()
    desk.up(TRADES)

    desk.stream(*[desk.trade(2.0 + n / 1000, n + 1) for n in range(10_002)])
    desk.wait(0.3)

    assert len(numbered(desk)) == 10_003
    assert [gap.reason for gap in desk.gaps] == [Reason.HELD_TOO_MUCH]
    assert desk.transport.statistics().gaps == 1
    assert len(desk.polls) == 1


def test_a_trade_older_than_one_delivered_is_told_and_not_put_out_of_order(desk: Desk) -> None:
    """Per key, events are in order; what cannot be delivered is not left out in silence."""
    streaming(desk, TRADES)

    desk.stream(desk.trade(1.5, 2), desk.trade(1.2, 1), desk.trade(1.5, 2))

    assert [trade.sequence for trade in numbered(desk)] == [2]
    at_ns = START_NS + 1_200_000_000
    assert [(gap.start_ns, gap.end_ns, gap.reason) for gap in desk.gaps] == [
        (at_ns, at_ns, Reason.LATE)
    ]
    assert desk.transport.statistics().stale == 2


def test_a_late_trade_after_a_silence_is_told_too(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.stream(desk.trade(1.0, 1))
    desk.wait(4.0)

    desk.stream(desk.trade(0.9, 0))

    assert [gap.reason for gap in desk.gaps] == [Reason.LATE]


def test_a_quote_older_than_the_last_is_no_loss(desk: Desk) -> None:
    streaming(desk, QUOTES)

    desk.stream(last := desk.quote(1.5, 2.0), desk.quote(1.2, 1.0))

    assert desk.delivered[QUOTES] == [last]
    assert desk.gaps == []


# bars


def test_polled_bars_are_those_whose_window_is_over_and_settled(desk: Desk) -> None:
    """Bars fall back to aggregates; one that may still change is left for the next poll."""
    streaming(desk, MINUTES)
    desk.wait(60.0)
    desk.down()

    desk.answer(desk.bar(0.0, rest=True), desk.bar(60.0, rest=True))

    assert [bar.event_ns for bar in desk.delivered[MINUTES]] == [START_NS]


def test_a_minute_bar_is_not_asked_for_before_its_minute_is_over(desk: Desk) -> None:
    """R151: nothing new can be there."""
    streaming(desk, MINUTES)
    desk.wait(60.0)
    desk.down()
    desk.answer(desk.bar(0.0, rest=True))
    asked = len(desk.polls)

    desk.wait(59.9)
    assert len(desk.polls) == asked
    desk.wait(0.2)

    assert desk.polls[-1].requests == ((MINUTES, START_NS + 60_000_000_000),)
    assert desk.asked_at[-1] == pytest.approx(121.0)


def test_bars_of_both_lengths_go_to_their_own_readers(desk: Desk) -> None:
    """W-30: one symbol, four kinds; nobody gets another's."""
    streaming(desk, QUOTES, TRADES, SECONDS, MINUTES)
    second, minute = desk.bar(0.0, 1), desk.bar(0.0, 60)
    quote, trade = desk.quote(1.0, 1.0), desk.trade(1.0, 1)

    desk.stream(minute, quote, second, trade, desk.quote(1.0, 1.0, symbol=PUT))

    assert desk.delivered == {
        QUOTES: [quote],
        TRADES: [trade],
        SECONDS: [second],
        MINUTES: [minute],
    }


def test_the_bridge_closes_the_gap_of_bars(desk: Desk) -> None:
    streaming(desk, SECONDS)
    desk.stream(desk.bar(0.0, 1))
    desk.down()
    desk.fail()
    desk.wait(4.0)
    desk.answer(desk.bar(1.0, 1, rest=True), desk.bar(2.0, 1, rest=True))
    desk.up(SECONDS)
    desk.stream(desk.bar(4.0, 1))
    desk.wait(0.3)

    desk.answer(*[desk.bar(float(n), 1, rest=True) for n in (2, 3, 4)])
    desk.stream(desk.bar(4.0, 1), desk.bar(5.0, 1))

    starts = [bar.event_ns for bar in desk.delivered[SECONDS] if bar.event_ns is not None]
    assert [(at - START_NS) // 1_000_000_000 for at in starts] == [0, 1, 2, 3, 4, 5]
    assert desk.gaps == []


# the pace


@pytest.mark.parametrize(
    ("symbol", "asset", "interval_s"),
    [(CALL, OPTIONS, 2.0), ("SPY", STOCKS, 4.0), ("I:SPX", INDICES, 5.0)],
)
def test_each_asset_class_has_its_own_interval(
    desk: Desk, symbol: str, asset: AssetClass, interval_s: float
) -> None:
    """R142, C12."""
    desk.open(Key(Kind.QUOTE, symbol))
    desk.wait(0.1)
    for price in range(5):
        assert desk.polls[-1].asset is asset
        desk.answer(desk.quote(desk.now, price, rest=True, symbol=symbol))
        desk.wait(interval_s)

    assert gaps_between(desk.asked_at) == [interval_s] * 5


def gaps_between(times: list[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


def poll_for(desk: Desk, seconds: float, *, price: float | None = None) -> None:
    """Answer every poll at once for a while: a new price each time, or always this one."""
    until = desk.now + seconds
    while desk.now < until:
        if desk.asked_at and desk.asked_at[-1] == desk.now:
            bid = desk.now if price is None else price
            desk.answer(desk.quote(desk.now, bid, rest=True, symbol="SPY"))
        wake_at = desk.transport.wake_at()
        assert wake_at is not None
        desk.wait(min(max(wake_at - desk.now, 0.0), until - desk.now))


def test_the_interval_grows_while_nothing_changes_and_a_change_resets_it(desk: Desk) -> None:
    """R144."""
    desk.open(STOCK)
    poll_for(desk, 30.0, price=5.0)
    assert gaps_between(desk.asked_at) == [4, 4, 4, 6, 8]

    poll_for(desk, 15.0)

    assert gaps_between(desk.asked_at)[5:] == [10, 4, 4]


def test_a_closed_market_is_asked_less_and_its_opening_is_not_slept_through(desk: Desk) -> None:
    """R143, W-39: whoever knows the calendar says so."""
    desk.transport.market(0.0, is_open=False)
    desk.open(STOCK)
    poll_for(desk, 25.0)
    assert gaps_between(desk.asked_at) == [12, 12]

    desk.transport.market(desk.now, is_open=True)
    desk.transport.market(desk.now, is_open=True)
    poll_for(desk, 9.0)

    assert gaps_between(desk.asked_at)[2:] == [5.0, 4.0]


def test_a_night_without_changes_does_not_slow_the_morning(desk: Desk) -> None:
    desk.transport.market(0.0, is_open=False)
    desk.open(STOCK)
    poll_for(desk, 120.0, price=1.0)
    asked = len(desk.asked_at)

    desk.transport.market(desk.now, is_open=True)
    poll_for(desk, 13.0, price=1.0)

    assert gaps_between(desk.asked_at)[asked:] == [4.0, 4.0]


def test_an_interval_asked_for_is_respected_and_the_shortest_counts(desk: Desk) -> None:
    """R141, C12: 3 s only as an explicit choice."""
    desk.open(STOCK, poll_interval_s=3.0)
    poll_for(desk, 7.0)
    assert gaps_between(desk.asked_at) == [3, 3]

    desk.open(STOCK, poll_interval_s=1.0)
    desk.open(STOCK, poll_interval_s=9.0)
    poll_for(desk, 4.5)

    assert gaps_between(desk.asked_at)[3:] == [1, 1]


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
def test_an_interval_of_nothing_is_refused(desk: Desk, interval_s: float) -> None:
    with pytest.raises(InvalidRequest):
        desk.open(STOCK, poll_interval_s=interval_s)

    assert desk.transport.states() == {}


def test_a_calm_symbol_is_asked_less_until_it_moves_again(desk: Desk) -> None:
    """R145."""
    desk.transport.volatility("SPY", 0.3)
    desk.open(STOCK)
    poll_for(desk, 13.0)
    assert gaps_between(desk.asked_at) == [6, 6]

    desk.transport.volatility("SPY", 1.6)
    poll_for(desk, 9.0)

    assert gaps_between(desk.asked_at)[3:] == [4]


def test_ten_symbols_cost_no_more_requests_than_one(desk: Desk) -> None:
    """R150: 12 to 20 requests a minute, not 200; however different their starts were."""
    for n in range(10):
        desk.open(Key(Kind.QUOTE, f"STK{chr(65 + n)}"))
        desk.wait(0.37)
    begun = len(desk.polls)
    answered: set[int] = set()
    until = desk.now + 60.0
    while desk.now < until:
        for poll in [poll for poll in desk.polls if poll.batch not in answered]:
            answered.add(poll.batch)
            quotes = [
                desk.quote(desk.now, desk.now, rest=True, symbol=key.symbol)
                for key, _ in poll.requests
            ]
            desk.answer(*quotes, poll=poll)
        desk.wait(0.05)

    assert 12 <= len(desk.polls) - begun <= 20


def test_adaptive_intervals_save_more_than_two_requests_in_five(desk: Desk) -> None:
    """R151: an hour of a stock that moves for a quarter of it, against every 4 s."""
    desk.open(STOCK)
    for quarter in range(4):
        poll_for(desk, 900.0, price=None if quarter == 0 else float(quarter))

    assert len(desk.polls) <= 0.6 * 3600 / 4


def test_a_slow_answer_is_not_overtaken_by_a_second_request(desk: Desk) -> None:
    """W-37: a key has one request in flight; its next is counted from when it was asked."""
    desk.open(STOCK)
    desk.wait(11.0)
    assert len(desk.polls) == 1

    desk.answer(desk.quote(11.0, 1.0, rest=True, symbol="SPY"))
    desk.wait(0.0)

    assert desk.asked_at == [0.0, 11.0]


def test_an_answer_counts_once_and_only_for_its_own_batch(desk: Desk) -> None:
    desk.open(STOCK)
    quote = desk.quote(0.0, 1.0, rest=True, symbol="SPY")
    desk.answer(quote)
    desk.answer(desk.quote(1.0, 2.0, rest=True, symbol="SPY"))
    desk.fail()

    assert desk.delivered[STOCK] == [quote]
    assert desk.transport.statistics().failures == 0


# what fails


def test_a_poll_that_fails_is_told_once_and_asked_again(desk: Desk) -> None:
    """W-37: the first exception ends nothing; neither source is not the same as REST."""
    desk.open(STOCK)
    desk.fail()
    assert desk.transport.source_of(STOCK) is None
    desk.wait(4.0)
    desk.fail()
    desk.wait(4.0)
    desk.answer(desk.quote(8.0, 1.0, rest=True, symbol="SPY"))

    assert desk.steps() == [
        (Source.REST, Reason.UNSTREAMED),
        (None, Reason.POLL_FAILED),
        (Source.REST, Reason.POLL_ANSWERED),
    ]
    assert desk.changes[1].detail == "upstream_down"
    assert desk.transport.source_of(STOCK) is Source.REST


def test_one_symbol_that_fails_does_not_fail_its_batch(desk: Desk) -> None:
    """W-37: errors are per symbol."""
    other = Key(Kind.QUOTE, PUT)
    desk.open(QUOTES, other)
    desk.wait(0.1)
    batch = desk.polls[-1].batch

    desk.transport.poll_failed(batch, QUOTES, desk.now, desk.now_ns, "not_found")
    desk.transport.polled(batch, other, [desk.quote(0.1, 1.0, symbol=PUT)], desk.now, desk.now_ns)
    desk.do()

    assert list(desk.delivered) == [other]


def test_a_bridge_that_answers_after_dark_says_so_before_it_delivers(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.fail()
    desk.up(TRADES)
    desk.wait(0.3)

    desk.answer(desk.trade(1.1, 1, rest=True))

    assert desk.steps()[-3:] == [
        (None, Reason.POLL_FAILED),
        (Source.REST, Reason.POLL_ANSWERED),
        (Source.STREAM, Reason.RESUMED),
    ]


# silence


def test_silence_is_looked_at_once_and_is_no_failure(desk: Desk) -> None:
    """W-38, C21, 2.19: 3 s without an event while the market is open, one verification poll."""
    streaming(desk, QUOTES)
    desk.stream(last := desk.quote(1.0, 1.0))
    desk.wait(3.0)
    assert desk.asked_at == [4.0]
    desk.answer(desk.quote(1.0004, 1.0, rest=True))

    desk.wait(60.0)

    assert len(desk.polls) == 1
    assert desk.state(QUOTES) is State.STREAMING
    assert desk.delivered[QUOTES] == [last]


def test_the_next_event_makes_silence_count_anew(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.wait(3.0)
    desk.answer()
    desk.stream(desk.quote(4.0, 1.0))
    desk.wait(2.9)
    assert len(desk.polls) == 1

    desk.wait(0.2)

    assert len(desk.polls) == 2


def test_a_look_that_fails_or_comes_late_changes_nothing(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.wait(3.0)
    desk.fail()
    assert desk.state(QUOTES) is State.STREAMING
    desk.stream(desk.quote(4.0, 1.0))
    desk.wait(3.0)
    look = desk.polls[-1]
    desk.stream(desk.quote(7.0, 2.0))

    desk.answer(desk.quote(5.0, 9.0, rest=True), poll=look)

    assert desk.state(QUOTES) is State.STREAMING
    assert [quote.event_ns for quote in desk.delivered[QUOTES]] == [
        START_NS + 4_000_000_000,
        START_NS + 7_000_000_000,
    ]


def test_a_look_is_over_when_the_stream_speaks(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.wait(3.0)
    desk.stream(desk.quote(4.0, 1.0))
    desk.wait(2.9)

    desk.answer(desk.quote(4.5, 2.0, rest=True))

    assert desk.state(QUOTES) is State.STREAMING


def test_silence_while_rest_shows_what_the_stream_did_not_bring_is_a_loss(desk: Desk) -> None:
    """C20: stale. What happened too lately to judge does not count."""
    streaming(desk, QUOTES)
    desk.stream(desk.quote(1.0, 1.0))
    desk.wait(3.0)
    desk.answer(desk.quote(3.5, 2.0, rest=True))
    assert desk.state(QUOTES) is State.STREAMING
    desk.stream(desk.quote(4.0, 2.5))
    desk.wait(4.0)
    desk.answer(desk.quote(5.0, 3.0, rest=True))
    assert desk.changes[-1].reason is Reason.SILENT
    desk.answer(missed := desk.quote(5.0, 3.0, rest=True))

    desk.stream(desk.quote(8.1, 4.0))

    assert desk.delivered[QUOTES][2] is missed
    assert desk.steps()[-1] == (Source.STREAM, Reason.RESUMED)
    assert [(gap.start_ns, gap.reason) for gap in desk.gaps] == [
        (START_NS + 4_000_000_000, Reason.SILENT)
    ]


def test_a_busy_symbol_is_looked_at_again_for_rest_only_shows_what_is_new(desk: Desk) -> None:
    """C20: what is too fresh to judge at the first look is overdue at the second."""
    streaming(desk, QUOTES)
    desk.stream(desk.quote(1.0, 1.0))
    desk.wait(3.0)
    desk.answer(desk.quote(3.9, 2.0, rest=True))
    assert desk.state(QUOTES) is State.STREAMING

    desk.wait(2.0)
    assert desk.asked_at == [4.0, 6.0]
    desk.answer(desk.quote(5.9, 3.0, rest=True))

    assert desk.state(QUOTES) is State.POLLING
    assert desk.changes[-1].reason is Reason.SILENT
    assert desk.transport.statistics().verifications == 1


def test_the_second_look_is_called_off_when_the_stream_speaks(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.wait(3.0)
    desk.answer(desk.quote(2.9, 2.0, rest=True))
    desk.wait(1.0)
    desk.stream(desk.quote(2.9, 2.0))

    desk.wait(2.5)
    assert len(desk.polls) == 1
    desk.wait(1.0)
    desk.answer(desk.quote(7.4, 3.0, rest=True))

    assert desk.state(QUOTES) is State.STREAMING, "what it owed then was paid"


def test_a_second_look_that_shows_nothing_new_ends_the_matter(desk: Desk) -> None:
    streaming(desk, QUOTES)
    desk.stream(desk.quote(1.0, 1.0))
    desk.wait(3.0)
    desk.answer(desk.quote(3.9, 2.0, rest=True))
    desk.wait(2.0)
    desk.answer(desk.quote(1.0, 1.0, rest=True))

    desk.wait(60.0)

    assert len(desk.polls) == 2
    assert desk.state(QUOTES) is State.STREAMING


def test_what_happened_before_the_stream_carried_the_key_is_not_missing(desk: Desk) -> None:
    desk.wait(100.0)
    streaming(desk, QUOTES)
    desk.wait(3.0)

    desk.answer(desk.quote(50.0, 1.0, rest=True))

    assert desk.state(QUOTES) is State.STREAMING


def test_a_closed_market_is_silent_and_nobody_looks(desk: Desk) -> None:
    """W-38."""
    streaming(desk, QUOTES)
    desk.transport.market(desk.now, is_open=False)
    desk.wait(60.0)
    assert desk.polls == []

    desk.transport.market(desk.now, is_open=True)
    desk.wait(3.1)

    assert len(desk.polls) == 1


def test_the_opening_of_the_market_makes_nobody_live(desk: Desk) -> None:
    desk.transport.market(desk.now, is_open=False)
    desk.up()
    desk.open(QUOTES)
    desk.transport.market(desk.now, is_open=True)

    desk.stream(desk.quote(0.0, 1.0))

    assert desk.steps() == [(Source.STREAM, Reason.LIVE)]


def test_quiet_trades_are_looked_at_one_by_one(desk: Desk) -> None:
    """Each costs a request of its own; a thousand quiet contracts must not cost a thousand."""
    keys = [Key(Kind.TRADE, f"O:SPY251219C00{n}000") for n in range(600, 640)]
    streaming(desk, *keys)

    for _ in range(60):
        desk.wait(1.0)
        for poll in desk.polls[-1:]:
            desk.answer(poll=poll)

    assert 20 <= desk.transport.statistics().requests <= 32


def test_bars_are_silent_only_after_their_window(desk: Desk) -> None:
    streaming(desk, MINUTES)

    desk.wait(61.0)
    assert desk.polls == []
    desk.wait(2.0)
    desk.answer(desk.bar(0.0, rest=True))

    assert desk.changes[-1].reason is Reason.SILENT


# readers


def test_one_key_is_carried_once_however_many_read_it(desk: Desk) -> None:
    """R111, R139, R149, W-35, C19: the same symbol is never subscribed twice."""
    desk.open(QUOTES, QUOTES, TRADES)
    assert desk.wanted == [{QUOTES.topic, TRADES.topic}]

    desk.transport.close(QUOTES)
    desk.do()
    assert desk.transport.wanted == {QUOTES.topic, TRADES.topic}
    desk.transport.close(QUOTES)
    desk.do()

    assert desk.wanted[1:] == [{TRADES.topic}]


def test_a_closed_key_has_no_timer_and_no_answer(desk: Desk) -> None:
    """R148."""
    desk.open(QUOTES, STOCK)
    desk.wait(0.1)
    poll = desk.polls[-1]
    desk.transport.close(QUOTES)
    desk.transport.close(STOCK)
    desk.transport.close(STOCK)

    desk.answer(desk.quote(0.1, 1.0, rest=True), poll=poll)

    assert desk.transport.wake_at() is None
    assert desk.delivered == {}
    assert desk.transport.states() == {}
    assert desk.transport.source_of(QUOTES) is None


def test_closed_and_opened_again_it_begins_anew(desk: Desk) -> None:
    streaming(desk, TRADES)
    desk.down()
    desk.wait(0.5)
    stale = desk.polls[-1]
    desk.transport.close(TRADES)
    desk.open(TRADES)

    desk.answer(desk.trade(1.1, 1, rest=True), poll=stale)

    assert desk.delivered == {}
    assert desk.state(TRADES) is State.WAITING


def test_what_there_is_not_cannot_be_opened(desk: Desk) -> None:
    with pytest.raises(InvalidRequest):
        desk.open(Key(Kind.TRADE, "I:SPX"))
    with pytest.raises(InvalidTopic):
        desk.open(Key(Kind.QUOTE, "O:SPY"))

    assert desk.transport.states() == {}


def test_topics_that_nobody_wants_are_ignored(desk: Desk) -> None:
    desk.live(QUOTES)
    desk.transport.topics_failed([QUOTES.topic], desk.now, desk.now_ns)
    desk.do()

    assert not desk.transport.has_output
    assert repr(desk.transport) == "<Transport idle>"


def test_its_state_is_in_its_repr_and_its_statistics(desk: Desk) -> None:
    streaming(desk, QUOTES, TRADES)
    desk.open(STOCK)
    desk.stream(desk.quote(1.0, 1.0), desk.trade(1.0, 1))
    desk.answer(desk.quote(1.0, 1.0, rest=True, symbol="SPY"))

    statistics = desk.transport.statistics()

    assert repr(desk.transport) == "<Transport 2 streaming, 1 unstreamed>"
    assert (statistics.streaming, statistics.unstreamed) == (2, 1)
    assert (statistics.streamed_events, statistics.polled_events) == (2, 1)
    assert (statistics.batches, statistics.requests) == (1, 1)
