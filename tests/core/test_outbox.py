from collections import Counter
from itertools import count

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.core.outbox import Outbox
from onetape.model import Topic

QUOTE, TRADE = Topic("Q.AAPL"), Topic("T.AAPL")


def test_events_leave_in_the_order_they_came() -> None:
    outbox = Outbox(100)

    assert outbox.offer(TRADE, b"t1", conflatable=False)
    assert outbox.offer(QUOTE, b"q1", conflatable=True)
    assert outbox.offer(TRADE, b"t2", conflatable=False)

    assert (len(outbox), outbox.size_bytes) == (3, 6)
    assert outbox.drain() == [b"t1", b"q1", b"t2"]
    assert (len(outbox), outbox.size_bytes) == (0, 0)


def test_a_newer_quote_replaces_the_pending_one_and_goes_to_the_end() -> None:
    """W-45: conflate quotes, count what was dropped."""
    outbox = Outbox(100)

    outbox.offer(QUOTE, b"old quote", conflatable=True)
    outbox.offer(TRADE, b"t1", conflatable=False)
    outbox.offer(QUOTE, b"new", conflatable=True)

    assert outbox.statistics() == (2, 5, 1, 3)
    assert outbox.drain() == [b"t1", b"new"]


def test_an_offer_over_the_bound_is_refused_and_changes_nothing() -> None:
    """W-45: the bound is hard; the caller cuts the reader."""
    outbox = Outbox(10)
    outbox.offer(TRADE, b"12345", conflatable=False)
    outbox.offer(QUOTE, b"12345", conflatable=True)
    before = outbox.statistics()

    assert not outbox.offer(TRADE, b"1", conflatable=False)
    assert not outbox.offer(QUOTE, b"123456", conflatable=True)

    assert outbox.statistics() == before
    assert outbox.drain() == [b"12345", b"12345"]


def test_a_full_outbox_still_takes_a_replacement_that_fits() -> None:
    outbox = Outbox(10)
    outbox.offer(QUOTE, b"0123456789", conflatable=True)

    assert outbox.offer(QUOTE, b"9876543210", conflatable=True)
    assert outbox.drain() == [b"9876543210"]


def test_a_drained_quote_is_not_replaced_but_followed() -> None:
    outbox = Outbox(100)
    outbox.offer(QUOTE, b"q1", conflatable=True)

    assert outbox.drain() == [b"q1"]
    outbox.offer(QUOTE, b"q2", conflatable=True)

    assert outbox.drain() == [b"q2"]
    assert outbox.statistics().conflated == 0


def test_a_budget_takes_the_oldest_events_that_fit_in_it() -> None:
    outbox = Outbox(100)
    for raw in (b"111", b"222", b"333", b"444"):
        outbox.offer(TRADE, raw, conflatable=False)

    assert outbox.drain(6) == [b"111", b"222"]
    assert outbox.drain(5) == [b"333"]
    assert outbox.drain(3) == [b"444"]
    assert outbox.drain(3) == []


def test_an_event_larger_than_the_budget_does_not_block_the_others() -> None:
    outbox = Outbox(100)
    outbox.offer(TRADE, b"large", conflatable=False)
    outbox.offer(TRADE, b"s", conflatable=False)

    assert outbox.drain(1) == [b"large"]
    assert outbox.drain(1) == [b"s"]


class AnyTraffic(RuleBasedStateMachine):
    """Whatever is offered and drained, the outbox is the naive list of what is pending."""

    BOUND = 60
    topics = st.sampled_from([Topic(t) for t in ("Q.A", "Q.B", "T.A", "T.B", "V.I:SPX")])

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(self.BOUND)
        self.pending: list[tuple[Topic, bytes, bool]] = []
        self.numbers = count()
        self.sent: dict[Topic, list[int]] = {}
        self.taken: dict[Topic, list[int]] = {}
        self.happened: Counter[str] = Counter()

    @rule(topic=topics, padding=st.integers(0, 20), either=st.booleans())
    def offer(self, topic: Topic, padding: int, either: bool) -> None:
        # One topic may come both ways: nothing in the outbox depends on its name.
        conflatable = topic.startswith("Q") or (topic.startswith("V") and either)
        number = next(self.numbers)
        raw = b"%d" % number + b" " * padding
        kept = [p for p in self.pending if not (conflatable and p[2] and p[0] == topic)]
        fits = sum(len(p[1]) for p in kept) + len(raw) <= self.BOUND

        assert self.outbox.offer(topic, raw, conflatable=conflatable) is fits

        if fits:
            self.happened["offered"] += 1
            self.happened["conflated"] += len(self.pending) - len(kept)
            self.pending = [*kept, (topic, raw, conflatable)]
            if not conflatable:
                self.taken.setdefault(topic, []).append(number)

    @rule(budget=st.none() | st.integers(0, 70))
    def drain(self, budget: int | None) -> None:
        expected: list[tuple[Topic, bytes, bool]] = []
        while self.pending:
            size = sum(len(p[1]) for p in expected) + len(self.pending[0][1])
            if expected and budget is not None and size > budget:
                break
            expected.append(self.pending.pop(0))

        assert self.outbox.drain(budget) == [raw for _, raw, _ in expected]

        for topic, raw, _ in expected:
            self.sent.setdefault(topic, []).append(int(raw))

    @invariant()
    def size_is_exact_and_within_the_bound(self) -> None:
        size = sum(len(raw) for _, raw, _ in self.pending)
        assert self.outbox.size_bytes == size <= self.BOUND
        assert len(self.outbox) == len(self.pending)
        assert self.outbox.statistics() == (
            len(self.pending),
            size,
            self.happened["conflated"],
            self.happened["offered"],
        )

    @invariant()
    def order_within_a_topic_is_kept(self) -> None:
        for topic, numbers in self.sent.items():
            assert numbers == sorted(numbers), topic

    @invariant()
    def no_trade_is_lost(self) -> None:
        waiting = {int(raw) for _, raw, _ in self.pending}
        for topic, numbers in self.taken.items():
            assert set(numbers) <= waiting | set(self.sent.get(topic, ())), topic


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=60)
