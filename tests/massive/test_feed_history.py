"""The feed against an obedient peer, after any history: the vendor's manners and a gateway's."""

import msgspec
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from onetape.massive.feed import Feed
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Dial,
    Evicted,
    FeedPolicy,
    Hangup,
    Lost,
    Output,
    PeerStatus,
    Ping,
    Restored,
    SendText,
    State,
    TopicsFailed,
    TopicsLive,
)
from onetape.massive.wire_stream import array, parse_params, status_event
from onetape.model import Topic

NS = 1_000_000_000
KNOWN = [Topic(t) for t in ("T.a", "T.b", "Q.a", "T.*")]
UNKNOWN = [Topic(t) for t in ("LV.a", "LV.b")]  # the peer says nothing to these
REFUSED = [Topic(t) for t in ("X.a", "X.b")]  # a gateway names these
SILENT_OR_REFUSED = [*UNKNOWN, *REFUSED]
POLICY = FeedPolicy(idle_s=3, chunk_topics=2)


class Vendor:
    """One connection as the peer sees it; knows nothing of the feed's states.

    Like a gateway it carries the `ailing` too, says that its own upstream does not, and
    acknowledges them all the same.
    """

    def __init__(self, generation: int, ailing: set[Topic]) -> None:
        self.generation = generation
        self.ailing = ailing
        self.takes_renewals = True
        self.is_open = False
        self.greeted = False
        self.logins = 0
        self.admitted = False
        self.dropping = False  # a close is on its way: by us or by them
        self.carried: set[Topic] = set()
        self.unsent: list[bytes] = []  # answers not sent yet, in order

    def take(self, frame: bytes) -> None:
        action = msgspec.json.decode(frame)
        if action["action"] == "auth":
            assert self.greeted, "a login before the greeting"
            self.logins += 1
            if self.admitted:
                word = "auth_success" if self.takes_renewals else "auth_failed"
                self.unsent.append(status_event(word, "a renewal"))
            return
        assert self.admitted, f"{action['action']} before the admission"
        topics = [Topic(t) for t in parse_params(action["params"])]
        assert 0 < len(topics) <= POLICY.chunk_topics
        for topic in topics:
            if action["action"] == "unsubscribe":
                assert topic in self.carried or topic in SILENT_OR_REFUSED, "never subscribed"
                self.carried.discard(topic)
                self.unsent.append(status_event("success", f"unsubscribed to: {topic}"))
            elif topic in REFUSED:
                self.unsent.append(status_event("error", "no channel X", topic=topic))
            elif topic in KNOWN and topic not in self.carried:  # else: not a word
                self.carried.add(topic)
                if topic in self.ailing:
                    self.unsent.append(status_event("subscription_failed", "ails", topic=topic))
                self.unsent.append(status_event("success", f"subscribed to: {topic}"))


class AnyHistory(RuleBasedStateMachine):
    """After any history, once quiet and live, the vendor carries exactly what is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wanted: frozenset[Topic] = frozenset()
        self.active = False
        self.feed = Feed(POLICY, credential=lambda: "key", random=lambda: 0.5)
        self.vendor: Vendor | None = None
        self.ailing: set[Topic] = set()  # the peer's own upstream does not carry these
        self.said = 0  # statuses that are to be passed on
        self.gone: list[int] = []  # generations whose end was reported
        self.cool_until = float("-inf")
        self.trouble: type[Output] | None = None
        self.failed: set[Topic] = set()
        self.outputs: list[Output] = []

    # the edge

    def settle(self) -> None:
        self.feed.tick(self.now, round(self.now * NS))
        for output in self.feed.drain():
            self.outputs.append(output)
            self.obey(output)
            self.listen(output)

    def obey(self, output: Output) -> None:
        match output:
            case Dial(generation=generation):
                assert self.vendor is None, "a second dial while the first connection stands"
                assert self.active, "a dial that nobody needs"
                assert self.now >= self.cool_until, "a dial during the cool-down"
                self.vendor = Vendor(generation, self.ailing)
            case SendText(data=data):
                assert self.vendor is not None
                if not self.vendor.dropping:
                    self.vendor.take(data)
            case Ping():
                assert self.vendor is not None
                self.feed.alive(self.vendor.generation)
            case Hangup():
                assert self.vendor is not None
                self.vendor.dropping = True
            case _:
                pass

    def listen(self, output: Output) -> None:
        """Believe what an owner would, from the notices alone."""
        match output:
            case Lost() | Evicted() | AuthFailed():
                self.trouble = type(output)
            case Restored(gap_start_ns=start_ns, gap_end_ns=end_ns):
                assert self.trouble is not None, "restored what was not lost"
                assert start_ns <= end_ns == round(self.now * NS)
                self.trouble = None
            case TopicsFailed(topics=topics):
                assert topics <= self.wanted
                self.failed |= topics
            case TopicsLive(topics=topics):
                assert topics <= self.wanted & set(KNOWN)
                self.failed -= topics
            case PeerStatus():
                self.said -= 1
            case Authenticated(topics=topics):
                assert topics == self.wanted
                self.failed.clear()
            case _:
                pass

    def say(self, *events: bytes) -> None:
        assert self.vendor is not None
        now_ns = round(self.now * NS)
        self.feed.frame(self.vendor.generation, array(events), self.now, now_ns)
        self.settle()

    def close(self, code: int = 1006) -> None:
        assert self.vendor is not None
        self.gone.append(self.vendor.generation)
        self.said = 0
        generation, self.vendor = self.vendor.generation, None
        self.feed.closed(generation, code, "", self.now, round(self.now * NS))
        self.settle()

    # the owner

    @initialize(topics=st.frozensets(st.sampled_from(KNOWN + UNKNOWN + REFUSED)))
    def begin(self, topics: frozenset[Topic]) -> None:
        self.want(topics)
        self.need(active=True)

    @rule(accepted=st.booleans())
    def renew(self, accepted: bool) -> None:
        if self.vendor is not None:
            self.vendor.takes_renewals = accepted
            if self.feed.state is State.LIVE and not accepted:
                self.said += 1
        self.feed.renew()
        self.settle()

    @rule()
    def retry(self) -> None:
        """Dials are judged in `obey`: never two, never in a cool-down, never for nobody."""
        self.feed.retry(self.now)
        self.settle()

    @rule(topics=st.frozensets(st.sampled_from(KNOWN + UNKNOWN + REFUSED)))
    def want(self, topics: frozenset[Topic]) -> None:
        self.wanted = topics
        self.failed &= topics
        self.feed.want(topics, self.now)
        self.settle()

    @rule(active=st.sampled_from([True, True, False]))
    def need(self, active: bool) -> None:
        self.active = active
        if active:
            self.feed.activate(self.now, round(self.now * NS))
        else:
            self.feed.deactivate(self.now)
        self.settle()

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 6.0, 31.0, 65.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (wake_at := self.feed.wake_at()) is not None and wake_at <= end:
            assert wake_at >= self.now, "a tick that was due is still due"
            self.now = wake_at
            self.settle()
        self.now = end

    # the vendor

    @precondition(lambda self: self.vendor is not None and not self.vendor.is_open)
    @rule()
    def open(self) -> None:
        assert self.vendor is not None
        self.vendor.is_open = True
        self.feed.opened(self.vendor.generation, self.now)
        self.settle()

    @precondition(lambda self: self.vendor is not None and self.vendor.is_open)
    @rule()
    def greet(self) -> None:
        assert self.vendor is not None
        if not self.vendor.greeted:
            self.vendor.greeted = True
            self.say(status_event("connected", "Connected Successfully"))

    @precondition(lambda self: self.vendor is not None and self.vendor.logins)
    @rule(admit=st.sampled_from([True, True, False]))
    def answer_login(self, admit: bool) -> None:
        if self.vendor is None or self.vendor.admitted:
            return
        self.vendor.admitted = admit
        if admit:
            self.say(status_event("auth_success", "authenticated"))
        else:
            self.say(status_event("auth_failed", "authentication failed"))

    @precondition(lambda self: self.vendor is not None and self.vendor.unsent)
    @rule(together=st.booleans())
    def acknowledge(self, together: bool) -> None:
        assert self.vendor is not None
        unsent, self.vendor.unsent = self.vendor.unsent, []
        was_live = self.feed.state is State.LIVE
        if together:
            self.say(*unsent)
        for event in () if together else unsent:
            self.say(event)
        if was_live:
            assert self.feed.state is State.LIVE, "an answer, even a refused renewal, cuts nothing"
            assert self.said == 0, "what the peer says is passed on each time"
        self.said = 0

    @rule(topic=st.sampled_from(KNOWN))
    def ail(self, topic: Topic) -> None:
        if topic not in self.ailing:
            self.ailing.add(topic)
            if self.vendor is not None and topic in self.vendor.carried:
                failure = status_event("subscription_failed", "ails", topic=topic)
                self.vendor.unsent.append(failure)

    @precondition(lambda self: self.ailing)
    @rule()
    def heal(self) -> None:
        topic = min(self.ailing)
        self.ailing.discard(topic)
        if self.vendor is not None and topic in self.vendor.carried:
            self.vendor.unsent.append(status_event("subscription_restored", "back", topic=topic))

    @precondition(lambda self: self.vendor is not None and self.vendor.admitted)
    @rule(word=st.sampled_from(["upstream_disconnected", "upstream_restored", "auth_expiring"]))
    def fare(self, word: str) -> None:
        """How the peer's own side fares: told each time, and no reason for anything."""
        assert self.vendor is not None
        if self.feed.state is State.LIVE:
            before = len(self.outputs)
            self.say(status_event(word, ""), status_event(word, ""))
            assert [type(out) for out in self.outputs[before:]] == [PeerStatus, PeerStatus]
            self.said += 2

    @precondition(lambda self: self.vendor is not None and self.vendor.carried - self.ailing)
    @rule()
    def publish(self) -> None:
        assert self.vendor is not None
        topic = min(self.vendor.carried - self.ailing)
        channel, symbol = topic.split(".")
        self.say(f'"ev":"{channel}","sym":"{symbol.replace("*", "c")}"'.encode())

    @precondition(lambda self: self.vendor is not None)
    @rule(code=st.sampled_from([1006, 1012, 4401, 4503]))
    def drop(self, code: int) -> None:
        was_closing = self.feed.state is State.CLOSING
        self.close(code)
        if code >= 4500 and not was_closing and self.active:
            assert self.feed.state in {State.BACKING_OFF, State.COOLING}, "come back, but slowly"

    @precondition(lambda self: self.vendor is not None and self.vendor.greeted)
    @rule()
    def evict(self) -> None:
        assert self.vendor is not None
        if not self.vendor.dropping:
            self.cool_until = self.now + POLICY.cool_down_s
        self.vendor.dropping = True
        self.say(status_event("max_connections", "Maximum number of connections exceeded."))

    @precondition(lambda self: self.gone)
    @rule()
    def stir(self) -> None:
        """Events of connections that are long gone."""
        before = len(self.outputs)
        for generation in self.gone[-3:]:
            frame = array([status_event("max_connections", ""), status_event("auth_failed", "")])
            self.feed.opened(generation, self.now)
            self.feed.frame(generation, frame, self.now, round(self.now * NS))
            self.feed.closed(generation, 4503, "", self.now, round(self.now * NS))
        self.settle()
        assert len(self.outputs) == before, "an old connection disturbed the new one"

    @rule()
    def calm(self) -> None:
        """Let the vendor do its part until nothing is left to do."""
        for _ in range(12):
            self.cooperate()
            wake_at = self.feed.wake_at() or self.now
            waiting = self.feed.state in {State.BACKING_OFF, State.COOLING}
            self.wait(max(6.0, wake_at - self.now) if waiting else 6.0)
        if not self.active:
            assert self.vendor is None
            assert self.feed.state is State.IDLE
            return
        assert self.vendor is not None
        assert self.feed.state is State.LIVE
        assert self.vendor.carried == self.wanted & set(KNOWN)
        hopeless = self.wanted & {*SILENT_OR_REFUSED, *self.ailing}
        assert set(self.feed.failed) == self.failed == hopeless
        healthy = self.vendor.carried - self.ailing
        assert self.feed.statistics().topics_acked == len(healthy)
        assert all(self.feed.carries(topic) is (topic in healthy) for topic in self.wanted)
        assert self.trouble is None, "an outage that never ended"

    def cooperate(self) -> None:
        if self.vendor is not None and self.vendor.dropping:
            self.close()
        if self.vendor is not None and not self.vendor.is_open:
            self.open()
        if self.vendor is not None and not self.vendor.dropping:
            self.greet()
        if self.vendor is not None and self.vendor.logins and not self.vendor.dropping:
            self.answer_login(admit=True)
        if self.vendor is not None and self.vendor.unsent and not self.vendor.dropping:
            self.acknowledge(together=True)

    @invariant()
    def the_connection_and_the_feed_agree(self) -> None:
        if self.feed.state in {State.IDLE, State.BACKING_OFF, State.COOLING}:
            assert self.vendor is None
        if self.feed.state is State.LIVE:
            assert self.vendor is not None
            assert self.vendor.admitted
            assert self.vendor.carried == self.wanted & set(KNOWN)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
