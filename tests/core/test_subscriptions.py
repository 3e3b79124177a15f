from collections.abc import Set

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.core.subscriptions import SubscriptionTable
from onetape.model import ClientId, Topic

ALICE, BOB = ClientId("alice"), ClientId("bob")
AAPL, MSFT = Topic("T.AAPL"), Topic("T.MSFT")


def table_with(readers: dict[ClientId, list[Topic]]) -> SubscriptionTable:
    table = SubscriptionTable(linger_s=5)
    for client, topics in readers.items():
        table.add(client, topics)
    return table


def test_only_the_first_reader_opens_a_topic() -> None:
    table = SubscriptionTable(linger_s=5)

    assert table.add(ALICE, [AAPL, MSFT]) == {AAPL, MSFT}
    assert table.add(BOB, [AAPL]) == frozenset()
    assert list(table.readers(AAPL)) == [ALICE, BOB]


def test_a_reader_who_returns_within_the_linger_costs_no_upstream_traffic() -> None:
    table = table_with({ALICE: [AAPL]})

    table.drop(ALICE, now=0)

    assert table.expire(now=4.9) == frozenset()
    assert table.add(BOB, [AAPL]) == frozenset()
    assert table.expire(now=99) == frozenset()


def test_the_last_reader_releases_the_topic_after_the_linger() -> None:
    table = table_with({ALICE: [AAPL], BOB: [AAPL]})

    table.remove(ALICE, [AAPL], now=0)
    table.remove(BOB, [AAPL], now=1)

    assert table.expire(now=5) == frozenset()
    assert table.expire(now=6) == {AAPL}
    assert table.carried == frozenset()


def test_a_forgotten_client_leaves_nothing_behind() -> None:
    table = table_with({ALICE: [AAPL, MSFT]})

    table.drop(ALICE, now=0)
    table.expire(now=5)

    assert table.statistics() == (0, 0, 0, 0)


def test_a_client_sees_what_it_reads_and_nothing_of_the_others() -> None:
    """R61, C17."""
    table = table_with({ALICE: [AAPL, MSFT, AAPL], BOB: [AAPL]})

    table.remove(ALICE, [AAPL], now=0)

    assert list(table.topics(ALICE)) == [MSFT]
    assert list(table.topics(BOB)) == [AAPL]
    assert list(table.topics(ClientId("carol"))) == []


class AnyHistory(RuleBasedStateMachine):
    """After any history, the upstream that obeyed our edges carries what is read.

    `upstream` is built from the returned edges alone, `wanted` from the calls
    alone; the table is right when neither can tell that the other exists.
    """

    clients = st.sampled_from([ClientId(c) for c in "abc"])
    topics = st.sets(st.sampled_from([Topic(t) for t in "wxyz"]))

    def __init__(self) -> None:
        super().__init__()
        self.table = SubscriptionTable(linger_s=5)
        self.now = 0.0
        self.upstream: set[Topic] = set()
        self.wanted: set[tuple[ClientId, Topic]] = set()

    @rule(client=clients, topics=topics)
    def add(self, client: ClientId, topics: Set[Topic]) -> None:
        opened = self.table.add(client, topics)
        assert opened.isdisjoint(self.upstream), "opened twice"
        self.upstream |= opened
        self.wanted |= {(client, topic) for topic in topics}

    @rule(client=clients, topics=topics)
    def remove(self, client: ClientId, topics: Set[Topic]) -> None:
        self.table.remove(client, topics, now=self.now)
        self.wanted -= {(client, topic) for topic in topics}

    @rule(client=clients)
    def drop(self, client: ClientId) -> None:
        self.table.drop(client, now=self.now)
        self.wanted = {pair for pair in self.wanted if pair[0] != client}

    @rule(elapsed=st.sampled_from([0.0, 1.0, 5.0]))
    def expire(self, elapsed: float) -> None:
        self.now += elapsed
        released = self.table.expire(now=self.now)
        assert released <= self.upstream, "released what was never open"
        self.upstream -= released

    @invariant()
    def upstream_carries_what_is_read(self) -> None:
        read = {topic for _, topic in self.wanted}
        assert read <= self.upstream == self.table.carried
        for topic in self.upstream:
            readers = {client for client, other in self.wanted if other == topic}
            assert set(self.table.readers(topic)) == readers
        assert self.table.statistics().subscriptions == len(self.wanted)


TestAnyHistory = AnyHistory.TestCase
