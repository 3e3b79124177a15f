import msgspec
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.massive.wire_stream import event
from onetape.model import AssetClass, Topic
from onetape.simulator.faults import (
    Close as CloseFault,
    CutSlow,
    Deny,
    Drop,
    Duplicate,
    Evict,
    Faults,
    FaultScript,
    Garbage,
    Mute,
    Refuse,
    RejectLogin,
    Stage,
    StreamActions,
    StreamRule,
    WithholdAck,
)
from onetape.simulator.massive.accounts import (
    ADVANCED,
    BASIC,
    DELAY_NS,
    DEVELOPER,
    Account,
    Accounts,
    Plan,
)
from onetape.simulator.massive.mangling import Event
from onetape.simulator.massive.session import (
    AUTH_REQUIRED,
    AUTH_SUCCESS,
    AUTH_TIMEOUT,
    BAD_KEY,
    CONNECTED,
    MAX_CONNECTIONS,
    NO_SOCKET_IN_PLAN,
    NOT_AUTHORIZED,
    NOT_READABLE,
    SLOW_CONSUMER,
    UNKNOWN_ACTION,
    Abort,
    Close,
    Effect,
    Freeze,
    Ping,
    Send,
    SessionId,
    StreamPolicy,
    Thaw,
    VendorSockets,
)

OPTIONS, STOCKS, INDICES = AssetClass.OPTIONS, AssetClass.STOCKS, AssetClass.INDICES
ONE, TWO, THREE = SessionId(1), SessionId(2), SessionId(3)

ACCOUNTS = Accounts(
    [
        Account(name="a", keys=frozenset({"key", "key-2"}), plan=Plan.everywhere(ADVANCED)),
        Account(name="b", keys=frozenset({"late"}), plan=Plan.everywhere(DEVELOPER)),
        Account(name="c", keys=frozenset({"basic"}), plan=Plan.everywhere(BASIC)),
        Account(name="d", keys=frozenset({"options"}), plan=Plan(tiers={OPTIONS: ADVANCED})),
        Account(
            name="e",
            keys=frozenset({"three"}),
            plan=Plan.everywhere(ADVANCED),
            max_connections=3,
        ),
    ]
)


def sockets(
    *faults: StreamRule,
    policy: StreamPolicy = StreamPolicy(combine_acks=False),  # noqa: B008 - frozen
) -> VendorSockets:
    return VendorSockets(
        accounts=ACCOUNTS, policy=policy, faults=Faults(FaultScript(rules=faults), now=0)
    )


def ask(action: str, params: object) -> bytes:
    return msgspec.json.encode({"action": action, "params": params})


def login(
    vendor: VendorSockets,
    session: SessionId = ONE,
    *topics: str,
    cluster: AssetClass = STOCKS,
    key: str = "key",
) -> list[Effect]:
    """Connect, log in and subscribe; return what the login and all after it caused."""
    vendor.accept(session, cluster, 0)
    effects = vendor.receive(session, ask("auth", key), 0)
    return effects + (
        vendor.receive(session, ask("subscribe", ",".join(topics)), 0) if topics else []
    )


def frames(effects: list[Effect], session: SessionId = ONE) -> list[bytes]:
    return [one.frame for one in effects if isinstance(one, Send) and one.session == session]


def ack(topic: str) -> bytes:
    return b'[{"ev":"status","status":"success","message":"subscribed to: %s"}]' % topic.encode()


def trade(symbol: str = "SPY", sequence: int = 1) -> Event:
    return Event(Topic(f"T.{symbol}"), event("T", sym=symbol, p=1.0, q=sequence))


# the transcript


def test_the_handshake_is_the_vendors_to_the_byte() -> None:
    """W-49: the transcript of the reference, section 4.2."""
    vendor = sockets()
    contract = "O:SPY251219C00650000"

    effects = vendor.accept(ONE, OPTIONS, 0)
    effects += vendor.receive(ONE, b'{"action":"auth","params":"key"}', 0)
    pairs = f"T.{contract},AM.{contract}".encode()
    effects += vendor.receive(ONE, b'{"action":"subscribe","params":"' + pairs + b'"}', 0)
    effects += vendor.receive(
        ONE, f'{{"action":"unsubscribe","params":"T.{contract}"}}'.encode(), 0
    )

    assert frames(effects) == [
        b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]',
        b'[{"ev":"status","status":"auth_success","message":"authenticated"}]',
        b'[{"ev":"status","status":"success","message":"subscribed to: T.O:SPY251219C00650000"}]',
        b'[{"ev":"status","status":"success","message":"subscribed to: AM.O:SPY251219C00650000"}]',
        b'[{"ev":"status","status":"success","message":"unsubscribed to: T.O:SPY251219C00650000"}]',
    ]


def test_acks_may_share_one_array() -> None:
    vendor = sockets(policy=StreamPolicy(combine_acks=True))

    acks = frames(login(vendor, ONE, "T.SPY", "Q.SPY"))[1:]

    assert acks == [
        b'[{"ev":"status","status":"success","message":"subscribed to: T.SPY"},'
        b'{"ev":"status","status":"success","message":"subscribed to: Q.SPY"}]'
    ]


def test_the_official_clients_spelling_with_blanks_and_lists_is_read() -> None:
    vendor = sockets()
    login(vendor)

    spaced = vendor.receive(ONE, b'{"action": "subscribe", "params": "T.BRK.B, T.SPY ,"}', 0)
    listed = vendor.receive(ONE, ask("subscribe", ["Q.SPY"]), 0)

    assert frames(spaced + listed) == [ack("T.BRK.B"), ack("T.SPY"), ack("Q.SPY")]


# logging in


@pytest.mark.parametrize(
    ("key", "cluster", "answer"),
    [
        ("nobody's", STOCKS, BAD_KEY),
        (["key"], STOCKS, BAD_KEY),
        (None, STOCKS, BAD_KEY),
        ("basic", STOCKS, NO_SOCKET_IN_PLAN),
        ("options", STOCKS, NO_SOCKET_IN_PLAN),
    ],
)
def test_a_refused_login_is_cut_without_a_close_frame(
    key: object, cluster: AssetClass, answer: bytes
) -> None:
    vendor = sockets()
    vendor.accept(ONE, cluster, 0)

    effects = vendor.receive(ONE, ask("auth", key), 0)

    assert effects == [Send(ONE, answer), Abort(ONE)]
    assert vendor.receive(ONE, ask("auth", "key"), 0) == []
    assert vendor.statistics()[cluster].logins_failed == 1


def test_who_does_not_log_in_is_closed_when_the_time_is_over() -> None:
    vendor = sockets()
    vendor.accept(ONE, STOCKS, 5)
    login(vendor, TWO)

    assert vendor.tick(14.9) == []
    assert vendor.tick(15) == [Send(ONE, AUTH_TIMEOUT), Close(ONE, 1008)]


def test_a_subscription_before_the_login_is_refused_and_the_socket_stays() -> None:
    vendor = sockets()
    vendor.accept(ONE, STOCKS, 0)

    assert vendor.receive(ONE, ask("subscribe", "T.SPY"), 0) == [Send(ONE, AUTH_REQUIRED)]
    assert vendor.receive(ONE, ask("auth", "key"), 0) == [Send(ONE, AUTH_SUCCESS)]


def test_a_second_login_of_the_same_account_changes_nothing() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY")

    assert vendor.receive(ONE, ask("auth", "key-2"), 0) == [Send(ONE, AUTH_SUCCESS)]
    assert vendor.receive(ONE, ask("auth", "late"), 0) == [Send(ONE, BAD_KEY), Abort(ONE)]
    assert vendor.statistics()[STOCKS].logins == 1


# the limit on connections


def test_the_newest_login_takes_the_place_of_the_oldest() -> None:
    """The limit is counted per account and cluster, whatever key was used."""
    vendor = sockets()
    login(vendor, ONE, "T.SPY")

    effects = login(vendor, TWO, key="key-2")

    assert effects == [Send(ONE, MAX_CONNECTIONS), Close(ONE, 1008), Send(TWO, AUTH_SUCCESS)]
    assert vendor.demand(STOCKS) == {}


def test_accounts_and_clusters_do_not_evict_each_other() -> None:
    vendor = sockets()
    login(vendor, ONE)

    assert login(vendor, TWO, cluster=OPTIONS) == [Send(TWO, AUTH_SUCCESS)]
    assert login(vendor, THREE, key="late") == [Send(THREE, AUTH_SUCCESS)]


def test_by_option_the_evicted_is_the_newest_or_is_cut_without_a_close_frame() -> None:
    vendor = sockets(policy=StreamPolicy(evict="newest", evict_by="abort"))
    login(vendor, ONE)

    assert login(vendor, TWO) == [
        Send(TWO, AUTH_SUCCESS),
        Send(TWO, MAX_CONNECTIONS),
        Abort(TWO),
    ]


def test_a_connection_that_left_leaves_its_place_to_others() -> None:
    vendor = sockets()
    login(vendor, ONE)
    vendor.lost(ONE)

    assert login(vendor, TWO) == [Send(TWO, AUTH_SUCCESS)]


# subscribing


@pytest.mark.parametrize("topic", ["V.I:SPX", "T", ".SPY", "T.", "XT.BTC-USD", "LV.SPY"])
def test_what_the_cluster_does_not_know_is_silently_ignored(topic: str) -> None:
    vendor = sockets()
    login(vendor)

    effects = vendor.receive(ONE, ask("subscribe", f"{topic},T.SPY"), 0)

    assert frames(effects) == [ack("T.SPY")]


def test_what_the_plan_lacks_is_one_error_that_names_nothing() -> None:
    vendor = sockets()

    effects = login(vendor, ONE, "Q.SPY", "T.SPY", "Q.QQQ", key="late")

    assert frames(effects)[1:] == [NOT_AUTHORIZED, ack("T.SPY")]


def test_a_duplicate_is_not_acked_again() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY")

    assert vendor.receive(ONE, ask("subscribe", "T.SPY"), 0) == []


def test_option_quotes_are_capped_and_never_all_at_once() -> None:
    vendor = sockets(policy=StreamPolicy(combine_acks=False, max_option_quotes=2))
    login(vendor, cluster=OPTIONS)

    wild = frames(vendor.receive(ONE, ask("subscribe", "Q.*,T.*"), 0))
    named = frames(vendor.receive(ONE, ask("subscribe", "Q.O:A,Q.O:B,Q.O:C"), 0))

    assert b'"status":"error"' in wild[0]
    assert wild[1] == ack("T.*")
    assert named[:2] == [ack("Q.O:A"), ack("Q.O:B")]
    assert b'"status":"error"' in named[2]


def test_an_unsubscribed_quote_makes_room_under_the_cap() -> None:
    vendor = sockets(policy=StreamPolicy(combine_acks=False, max_option_quotes=1))
    login(vendor, ONE, "Q.O:A", cluster=OPTIONS)

    vendor.receive(ONE, ask("unsubscribe", "Q.O:A"), 0)

    assert frames(vendor.receive(ONE, ask("subscribe", "Q.O:B"), 0)) == [ack("Q.O:B")]


def test_a_thousand_pairs_in_one_frame_are_acked_in_order() -> None:
    vendor = sockets(policy=StreamPolicy(combine_acks=True))
    login(vendor, cluster=OPTIONS)
    topics = [f"Q.O:SPY251219C{strike:08}" for strike in range(1000)]

    (frame,) = frames(vendor.receive(ONE, ask("subscribe", ",".join(topics)), 0))

    assert [one["message"] for one in msgspec.json.decode(frame)] == [
        f"subscribed to: {topic}" for topic in topics
    ]


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        (b"{", NOT_READABLE),
        (b'"auth"', NOT_READABLE),
        (b"\xff\xfe", NOT_READABLE),
        (b'{"params":"T.SPY"}', NOT_READABLE),
        (b'{"action":"dance"}', UNKNOWN_ACTION),
    ],
)
def test_what_cannot_be_read_is_an_error_and_the_socket_stays(frame: bytes, answer: bytes) -> None:
    vendor = sockets()
    login(vendor)

    assert vendor.receive(ONE, frame, 0) == [Send(ONE, answer)]


# data


def test_events_reach_whoever_reads_them_in_one_frame_each() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY", "T.QQQ", key="three")
    login(vendor, TWO, "T.*", key="three")
    login(vendor, THREE, "T.SPY", "T.*", key="three")

    effects = vendor.publish(STOCKS, 0, [trade("SPY"), trade("QQQ"), trade("IBM")], 0)

    named = b"[{" + trade("SPY").raw + b"},{" + trade("QQQ").raw + b"}]"
    everything = named[:-1] + b",{" + trade("IBM").raw + b"}]"
    assert set(effects) == {Send(ONE, named), Send(TWO, everything), Send(THREE, everything)}


def test_a_delayed_plan_reads_the_tape_of_a_quarter_of_an_hour_ago() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY")
    login(vendor, TWO, "T.QQQ", key="late")

    assert vendor.demand(STOCKS) == {0: {"T.SPY"}, DELAY_NS: {"T.QQQ"}}
    assert vendor.publish(STOCKS, 0, [trade("QQQ")], 0) == []
    assert len(vendor.publish(STOCKS, DELAY_NS, [trade("QQQ")], 0)) == 1


def test_the_demand_is_the_same_object_until_it_changes() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY")

    before = vendor.demand(STOCKS)
    assert vendor.demand(STOCKS) is before
    vendor.receive(ONE, ask("subscribe", "T.QQQ"), 0)
    assert vendor.demand(STOCKS) == {0: {"T.SPY", "T.QQQ"}}


def test_no_frame_reaches_the_million_bytes_the_official_clients_read() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.*")
    big = [
        Event(Topic(f"T.S{n}"), b'"ev":"T","sym":"S","i":"' + b"x" * 900 + b'"')
        for n in range(2000)
    ]

    sent = frames(vendor.publish(STOCKS, 0, big, 0))

    assert len(sent) == 2
    assert max(map(len, sent)) < 1_000_000
    assert sum(len(msgspec.json.decode(frame)) for frame in sent) == 2000


def test_a_client_that_does_not_read_is_told_and_closed() -> None:
    vendor = sockets(policy=StreamPolicy(buffer_bytes=100))
    login(vendor, ONE, "T.SPY")

    assert vendor.written(ONE, 100) == []
    assert vendor.written(ONE, 101) == [Send(ONE, SLOW_CONSUMER), Close(ONE, 1008)]
    assert vendor.statistics()[STOCKS].slow_consumers == 1


def test_the_vendor_pings_now_and_then() -> None:
    vendor = sockets(policy=StreamPolicy(ping_interval_s=20))
    login(vendor)

    assert vendor.tick(19) == []
    assert vendor.tick(20) == [Ping(ONE)]
    assert vendor.tick(39) == []


def test_statistics_count_what_happened() -> None:
    vendor = sockets()
    login(vendor, ONE, "T.SPY", "Q.SPY")
    login(vendor, TWO, "T.SPY")
    vendor.publish(STOCKS, 0, [trade()], 0)

    stocks = vendor.statistics()[STOCKS]

    assert (stocks.connections_open, stocks.connections_total, stocks.logins) == (1, 2, 2)
    assert (stocks.evictions, stocks.events, stocks.topics) == (1, 1, ("T.SPY",))


# faults


@pytest.mark.parametrize(
    "stage",
    [Stage.ACCEPT, Stage.GREETED, Stage.AUTH, Stage.AUTHENTICATED, Stage.SUBSCRIBE, Stage.ACKED],
)
def test_a_connection_can_be_dropped_at_every_stage_of_the_protocol(stage: Stage) -> None:
    vendor = sockets(StreamRule(action=Drop(), stage=stage))

    effects = vendor.accept(ONE, STOCKS, 0)
    effects += vendor.receive(ONE, ask("auth", "key"), 0)
    effects += vendor.receive(ONE, ask("subscribe", "T.SPY"), 0)

    said = {
        Stage.ACCEPT: [],
        Stage.GREETED: [CONNECTED],
        Stage.AUTH: [CONNECTED],
        Stage.AUTHENTICATED: [CONNECTED, AUTH_SUCCESS],
        Stage.SUBSCRIBE: [CONNECTED, AUTH_SUCCESS],
        Stage.ACKED: [CONNECTED, AUTH_SUCCESS, ack("T.SPY")],
    }
    assert effects == [*(Send(ONE, frame) for frame in said[stage]), Abort(ONE)]
    assert vendor.statistics()[STOCKS].connections_open == 0


def test_a_live_connection_can_be_dropped_without_data_and_with() -> None:
    idle, busy = (
        sockets(StreamRule(action=Drop())),
        sockets(StreamRule(action=Drop(), stage=Stage.DATA)),
    )
    login(idle, ONE, "T.SPY")
    login(busy, ONE, "T.SPY")

    assert busy.tick(1) == []
    assert idle.tick(1) == [Abort(ONE)]
    assert busy.publish(STOCKS, 0, [trade()], 1) == [Abort(ONE)]


@pytest.mark.parametrize(
    ("action", "effects"),
    [
        (CloseFault(code=1012, reason="bye"), [Close(ONE, 1012, "bye")]),
        (CloseFault(code=1006), [Abort(ONE)]),
        (Evict(), [Send(ONE, MAX_CONNECTIONS), Close(ONE, 1008)]),
        (CutSlow(), [Send(ONE, SLOW_CONSUMER), Close(ONE, 1008)]),
        (Garbage(), [Send(ONE, b"<html>502 Bad Gateway</html>")]),
    ],
)
def test_a_live_connection_suffers_what_the_script_says(
    action: StreamActions, effects: list[Effect]
) -> None:
    vendor = sockets(StreamRule(action=action, stage=Stage.LIVE, count=1))
    login(vendor)

    assert vendor.tick(1) == effects


def test_a_refused_upgrade_has_its_status() -> None:
    vendor = sockets(StreamRule(action=Refuse(status=429), count=1))

    assert vendor.refuses(STOCKS, 0) == 429
    assert vendor.refuses(STOCKS, 0) is None


@pytest.mark.parametrize(
    ("action", "answer"),
    [(RejectLogin(), BAD_KEY), (RejectLogin(reason="plan"), NO_SOCKET_IN_PLAN)],
)
def test_a_good_key_can_be_refused(action: RejectLogin, answer: bytes) -> None:
    vendor = sockets(StreamRule(action=action))

    assert login(vendor) == [Send(ONE, answer), Abort(ONE)]


def test_a_mute_socket_says_nothing_more_and_does_nothing_when_told_not_to_pong() -> None:
    vendor = sockets(
        StreamRule(action=Mute(), stage=Stage.ACCEPT, cluster="stocks"),
        StreamRule(action=Mute(pong=False, for_s=5), stage=Stage.ACKED),
    )

    assert vendor.accept(ONE, STOCKS, 0) == []
    assert vendor.receive(ONE, ask("auth", "key"), 0) == []
    assert login(vendor, TWO, "T.O:A", cluster=OPTIONS)[-1] == Freeze(TWO)
    assert vendor.publish(OPTIONS, 0, [trade("O:A")], 4) == []
    assert vendor.tick(5) == [Thaw(TWO)]
    assert frames(vendor.publish(OPTIONS, 0, [trade("O:A")], 6), TWO) != []


def test_a_mute_socket_is_not_pinged_and_ends_without_a_goodbye() -> None:
    vendor = sockets(StreamRule(action=Mute(), stage=Stage.AUTHENTICATED, count=1))
    login(vendor, ONE)

    assert vendor.tick(100) == []
    assert login(vendor, TWO) == [Abort(ONE), Send(TWO, AUTH_SUCCESS)]


def test_topics_can_be_denied_although_the_plan_has_them() -> None:
    vendor = sockets(StreamRule(action=Deny(topics="Q.*")))

    assert frames(login(vendor, ONE, "Q.SPY", "T.SPY"))[1:] == [NOT_AUTHORIZED, ack("T.SPY")]


@pytest.mark.parametrize("carried", [False, True])
def test_a_withheld_ack_may_hide_a_subscription_that_works(carried: bool) -> None:
    vendor = sockets(StreamRule(action=WithholdAck(topics="T.SPY", carried=carried)))

    acks = frames(login(vendor, ONE, "T.SPY", "T.QQQ"))[1:]

    assert acks == [ack("T.QQQ")]
    assert (len(vendor.publish(STOCKS, 0, [trade()], 0)) == 1) is carried


def test_a_batch_of_data_can_be_spoiled() -> None:
    vendor = sockets(StreamRule(action=Duplicate(times=3), cluster="stocks"))
    login(vendor, ONE, "T.SPY")

    (frame,) = frames(vendor.publish(STOCKS, 0, [trade()], 0))

    assert len(msgspec.json.decode(frame)) == 3


# any history

KEYS = {"key": "a", "key-2": "a", "late": "b", "options": "d", "three": "e", "no": None}
LIMITS = {"a": 1, "b": 1, "d": 1, "e": 3}
PAIRS = ["T.SPY", "Q.SPY", "T.*", "V.I:SPX", "AM.SPY", "nonsense"]


class AnyHistory(RuleBasedStateMachine):
    """After any history, only who logged in hears data, and acks match subscriptions.

    The model is built from the calls and the effects alone: who is open, since when,
    as whom, and what each was told it is subscribed to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vendor = sockets()
        self.now = 0.0
        self.count = 0
        self.open: dict[SessionId, AssetClass] = {}
        self.account: dict[SessionId, str] = {}  # in order of login
        self.acked: dict[SessionId, set[str]] = {}

    def pick(self, index: int) -> SessionId | None:
        return sorted(self.open)[index % len(self.open)] if self.open else None

    def obey(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert effect.session in self.open, "an effect for a session that is over"
            if isinstance(effect, Close | Abort):
                self.forget(effect.session)
            elif isinstance(effect, Send):
                self.hear(effect)

    def hear(self, sent: Send) -> None:
        for one in msgspec.json.decode(sent.frame):
            if one["ev"] != "status":
                assert sent.session in self.account, "data before auth"
                topics = self.acked[sent.session]
                assert f"T.{one['sym']}" in topics or "T.*" in topics, "data nobody asked for"
            elif one["message"].startswith("subscribed to: "):
                topic = one["message"].removeprefix("subscribed to: ")
                assert topic not in self.acked[sent.session], "acked twice"
                self.acked[sent.session].add(topic)
            elif one["message"].startswith("unsubscribed to: "):
                self.acked[sent.session].discard(one["message"].removeprefix("unsubscribed to: "))

    def forget(self, session: SessionId) -> None:
        del self.open[session]
        self.account.pop(session, None)
        self.acked.pop(session, None)

    @rule(cluster=st.sampled_from([STOCKS, OPTIONS]))
    def connect(self, cluster: AssetClass) -> None:
        self.count += 1
        session = SessionId(self.count)
        self.open[session] = cluster
        self.acked[session] = set()
        effects = self.vendor.accept(session, cluster, self.now)
        assert effects == [Send(session, CONNECTED)]

    @rule(index=st.integers(0, 9), key=st.sampled_from(sorted(KEYS)))
    def log_in(self, index: int, key: str) -> None:
        session = self.pick(index)
        if session is None:
            return
        cluster, name = self.open[session], KEYS[key]
        before = [
            one for one, of in self.account.items() if of == name and self.open[one] == cluster
        ]
        effects = self.vendor.receive(session, ask("auth", key), self.now)
        admitted = Send(session, AUTH_SUCCESS) in effects
        if admitted and name is not None and session not in self.account:
            self.account[session] = name
            ended = [one.session for one in effects if isinstance(one, Close | Abort)]
            excess = max(0, len(before) + 1 - LIMITS[name])
            assert ended == before[:excess], "not the oldest, or not as many as must go"
        self.obey(effects)

    @rule(
        index=st.integers(0, 9),
        action=st.sampled_from(["subscribe", "unsubscribe"]),
        pairs=st.lists(st.sampled_from(PAIRS), max_size=4),
    )
    def ask_for(self, index: int, action: str, pairs: list[str]) -> None:
        session = self.pick(index)
        if session is None:
            return
        effects = self.vendor.receive(session, ask(action, ",".join(pairs)), self.now)
        if session not in self.account:
            assert effects == [Send(session, AUTH_REQUIRED)]
        self.obey(effects)

    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        session = self.pick(index)
        if session is not None:
            self.vendor.lost(session)
            self.forget(session)

    @rule(elapsed=st.sampled_from([0.1, 4.0, 11.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed
        self.obey(self.vendor.tick(self.now))

    @rule(delayed=st.booleans(), cluster=st.sampled_from([STOCKS, OPTIONS]))
    def publish(self, delayed: bool, cluster: AssetClass) -> None:
        events = [trade("SPY"), trade("QQQ")]
        delay_ns = DELAY_NS if delayed else 0
        self.obey(self.vendor.publish(cluster, delay_ns, events, self.now))

    @invariant()
    def nobody_holds_more_connections_than_the_account_may(self) -> None:
        for name, limit in LIMITS.items():
            for cluster in (STOCKS, OPTIONS):
                held = [
                    one
                    for one, of in self.account.items()
                    if of == name and self.open[one] == cluster
                ]
                assert len(held) <= limit

    @invariant()
    def the_demand_is_what_was_acked(self) -> None:
        for cluster in (STOCKS, OPTIONS):
            acked = {
                topic
                for one, topics in self.acked.items()
                if self.open[one] == cluster
                for topic in topics
            }
            demanded = self.vendor.demand(cluster).values()
            assert set[str]().union(*demanded) == acked
        total = sum(one.connections_open for one in self.vendor.statistics().values())
        assert total == len(self.open)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
