from collections.abc import Sequence
from typing import TypeVar

import msgspec
import pytest

from onetape.errors import ConfigInvalid, TokenMissing
from onetape.massive.feed import Feed
from onetape.massive.notices import (
    Authenticated,
    AuthFailed,
    Connecting,
    Dial,
    Evicted,
    FeedPolicy,
    Garbled,
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
    VendorStatus,
)
from onetape.massive.wire_stream import Batch, Split, Status, array, read, status_event
from onetape.model import Topic

X, Y, Z = Topic("T.O:X"), Topic("Q.O:Y"), Topic("AM.O:Z")
NS = 1_000_000_000
T = TypeVar("T", bound=Output)


def trade(symbol: str) -> bytes:
    return f'"ev":"T","sym":"{symbol}","p":1.5'.encode()


class Bench:
    """A feed, its clock, and what came out of it since the last look."""

    def __init__(self, policy: FeedPolicy | None = None, *, wanted: Sequence[Topic] = (X,)) -> None:
        self.now = 0.0
        self.pongs = True
        self.secrets = ["key-1"]
        self.feed = Feed(
            policy or FeedPolicy(), credential=lambda: self.secrets[-1], random=lambda: 1.0
        )
        self.generation = 0
        self.seen: list[Output] = []
        self.feed.want(frozenset(wanted), self.now)
        self.feed.activate(self.now, self.now_ns)
        self.look()

    @property
    def now_ns(self) -> int:
        return round(self.now * NS)

    def look(self) -> list[Output]:
        self.feed.tick(self.now, self.now_ns)
        new = self.feed.drain()
        for output in new:
            if isinstance(output, Dial):
                self.generation = output.generation
        self.seen += new
        return new

    def say(self, *statuses: tuple[str, str], raws: Sequence[bytes] = ()) -> list[Output]:
        events = [*raws, *(status_event(status, message) for status, message in statuses)]
        return self.hear(array(events))

    def hear(self, frame: bytes) -> list[Output]:
        self.feed.frame(self.generation, frame, self.now, self.now_ns)
        return self.look()

    def ack(self, *topics: Topic) -> list[Output]:
        return self.say(*(("success", f"subscribed to: {topic}") for topic in topics))

    def open(self) -> list[Output]:
        self.feed.opened(self.generation, self.now)
        return self.look()

    def close(self, code: int | None = None, reason: str = "") -> list[Output]:
        self.feed.closed(self.generation, code, reason, self.now, self.now_ns)
        return self.look()

    def log_in(self) -> list[Output]:
        self.open()
        self.say(("connected", "Connected Successfully"))
        return self.say(("auth_success", "authenticated"))

    def wait(self, seconds: float) -> list[Output]:
        """Pass time as the edge would: wake when asked to."""
        outputs: list[Output] = []
        end = self.now + seconds
        while (wake_at := self.feed.wake_at()) is not None and wake_at <= end:
            self.now = max(self.now, wake_at)
            outputs += self.look()
            if self.pongs:
                self.feed.alive(self.generation)
        self.now = end
        return [output for output in outputs + self.look() if not isinstance(output, Ping)]


def of(outputs: Sequence[Output], kind: type[T]) -> list[T]:
    return [output for output in outputs if isinstance(output, kind)]


def sent(outputs: Sequence[Output]) -> list[tuple[str, str]]:
    frames = [msgspec.json.decode(output.data) for output in of(outputs, SendText)]
    return [(frame["action"], frame["params"]) for frame in frames]


def live(policy: FeedPolicy | None = None, *, wanted: Sequence[Topic] = (X,)) -> Bench:
    bench = Bench(policy, wanted=wanted)
    bench.log_in()
    bench.ack(*wanted)
    bench.seen.clear()
    return bench


# login


def test_nothing_is_sent_before_the_vendor_greets() -> None:
    bench = Bench()

    assert bench.seen == [Connecting(attempt=1), Dial(1)]
    assert bench.open() == []
    assert bench.feed.state is State.GREETING


def test_the_credential_is_sent_after_the_greeting_and_the_topics_after_the_admission() -> None:
    """R59, R62: queued until admitted, then exactly one subscribe."""
    bench = Bench(wanted=[X, Y])
    bench.open()

    assert sent(bench.say(("connected", "Connected Successfully"))) == [("auth", "key-1")]
    bench.feed.want(frozenset({X, Y, Z}), bench.now)
    assert sent(bench.look()) == []

    outputs = bench.say(("auth_success", "authenticated"))
    assert sent(outputs) == [("subscribe", "AM.O:Z,Q.O:Y,T.O:X")]
    assert of(outputs, Authenticated) == [Authenticated(topics=frozenset({X, Y, Z}))]


def test_the_documented_greeting_success_is_a_greeting_too() -> None:
    bench = Bench()
    bench.open()
    assert sent(bench.say(("success", "Connected Successfully"))) == [("auth", "key-1")]


def test_greeting_and_admission_may_share_a_frame() -> None:
    bench = Bench()
    bench.open()
    outputs = bench.say(("connected", ""), ("auth_success", ""))
    assert sent(outputs) == [("auth", "key-1"), ("subscribe", X)]


@pytest.mark.parametrize("greeted", [False, True])
def test_silence_during_the_login_is_a_loss(greeted: bool) -> None:
    """R59: auth_success, auth_failed and silence are each handled."""
    bench = Bench()
    bench.open()
    if greeted:
        bench.say(("connected", ""))

    assert bench.wait(9.9) == []
    outputs = bench.wait(0.2)

    assert [type(output) for output in outputs] == [Lost, Hangup]
    assert of(bench.close(), Dial) == [Dial(2)]


def test_a_refused_login_fails_every_topic_and_is_tried_again_slowly_with_a_new_credential() -> (
    None
):
    """R63, W-43, C18."""
    bench = Bench(wanted=[X, Y])
    bench.open()
    bench.say(("connected", ""))

    outputs = bench.say(("auth_failed", "authentication failed"))
    assert outputs == [
        AuthFailed(message="authentication failed"),
        TopicsFailed(topics=frozenset({X, Y}), reason="authentication failed"),
        Hangup(1000),
    ]
    assert bench.close() == []
    bench.secrets.append("key-2")
    assert bench.wait(29.9) == []
    assert of(bench.wait(0.2), Dial) == [Dial(2)]
    bench.open()
    assert sent(bench.say(("connected", ""))) == [("auth", "key-2")]
    assert of(bench.say(("auth_failed", "authentication failed")), TopicsFailed) == []
    bench.close()
    assert of(bench.wait(59.9), Dial) == []
    assert of(bench.wait(0.2), Dial) == [Dial(3)]


def test_topics_wanted_while_the_login_is_refused_fail_at_once() -> None:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "no"))
    bench.close()

    bench.feed.want(frozenset({X, Y}), bench.now)

    assert bench.look() == [TopicsFailed(topics=frozenset({Y}), reason="no")]
    assert bench.feed.failed == {X: "no", Y: "no"}


def test_topics_that_failed_with_the_login_are_live_after_the_next_one() -> None:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "no"))
    bench.close()
    bench.wait(31)
    bench.log_in()

    outputs = bench.ack(X)

    assert of(outputs, TopicsLive) == [TopicsLive(topics=frozenset({X}))]
    assert of(outputs, Restored) != []
    assert bench.feed.failed == {}


def test_who_comes_back_while_the_login_is_refused_is_told_and_does_not_hasten_it() -> None:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "no"))
    bench.feed.deactivate(bench.now)
    bench.close()
    assert bench.feed.state is State.IDLE

    bench.feed.activate(bench.now, bench.now_ns)

    assert bench.look() == [
        AuthFailed(message="no"),
        TopicsFailed(topics=frozenset({X}), reason="no"),
    ]
    assert bench.feed.state is State.BACKING_OFF


def test_a_credential_that_cannot_be_read_is_a_refused_login() -> None:
    bench = Bench()

    def unreadable() -> str:
        raise ConfigInvalid("ONETAPE_MASSIVE_API_KEY is missing")

    bench.feed = Feed(FeedPolicy(), credential=unreadable)
    bench.feed.activate(0, 0)
    bench.look()
    bench.open()

    outputs = bench.say(("connected", ""))

    assert of(outputs, AuthFailed) == [
        AuthFailed(message="ONETAPE_MASSIVE_API_KEY is missing", code="config_invalid")
    ]
    assert sent(outputs) == []


def test_what_the_vendor_says_of_the_credential_is_not_repeated() -> None:
    bench = Bench()
    bench.secrets.append("s3cr3t-key")
    bench.open()
    bench.say(("connected", ""))
    bench.hear(b"\x00" * 118 + b"s3cr3t-key")
    bench.say(("notice", "hello s3cr3t-key"))
    bench.say(("auth_failed", "Unknown API Key s3cr3t-key"))
    told = [output for output in bench.seen if not isinstance(output, SendText)]
    assert "s3cr3t" not in repr(told)
    assert "s3" not in repr(of(bench.seen, Garbled))
    assert "s3cr3t" not in repr(bench.feed)


# the upstream is a gateway


def refused() -> Bench:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "expired"))
    bench.close(4401)
    bench.seen.clear()
    return bench


def test_a_renewal_logs_in_anew_on_the_live_connection_with_the_credential_of_now() -> None:
    """W-12, R123."""
    bench = live()
    bench.secrets.append("key-2")

    bench.feed.renew()

    assert sent(bench.look()) == [("auth", "key-2")]
    assert bench.say(("auth_success", "authenticated")) == []
    assert bench.feed.state is State.LIVE


def test_a_renewal_that_is_refused_is_told_and_costs_nothing_else() -> None:
    bench = live()
    bench.feed.renew()
    bench.feed.renew()
    bench.look()

    outputs = bench.say(("auth_failed", "of another key"), ("auth_success", ""))

    said = Status(status="auth_failed", message="of another key")
    assert outputs == [PeerStatus(status=said)]
    assert bench.feed.state is State.LIVE
    assert of(bench.say(("auth_failed", "revoked")), AuthFailed) != [], "nobody asked for this one"


@pytest.mark.parametrize("state", ["greeting", "unreadable"])
def test_a_renewal_that_cannot_be_is_none(state: str) -> None:
    bench = Bench()
    readable = True

    def credential() -> str:
        if not readable:
            raise TokenMissing("none")
        return "key"

    bench.feed = Feed(FeedPolicy(), credential=credential)
    bench.feed.activate(0, 0)
    bench.look()
    bench.open()
    if state == "unreadable":
        bench.say(("connected", ""), ("auth_success", ""))
        readable = False

    bench.feed.renew()

    assert bench.look() == []


def test_a_renewal_without_an_answer_is_not_mixed_up_with_the_next_login() -> None:
    bench = live()
    bench.feed.renew()
    bench.close()
    bench.open()

    assert of(bench.say(("connected", ""), ("auth_failed", "no")), AuthFailed) != []


def test_neither_the_old_nor_the_new_credential_is_repeated() -> None:
    bench = live()
    bench.secrets.append("tok-2")
    bench.feed.renew()
    bench.say(("notice", "key-1 gives way to tok-2"))
    assert "key-1" not in repr(of(bench.seen, VendorStatus))
    assert "tok-2" not in repr(of(bench.seen, VendorStatus))


def test_a_new_credential_hastens_the_next_login_but_not_a_storm_of_them() -> None:
    """R74, W-14."""
    bench = refused()
    bench.wait(1)

    bench.feed.retry(bench.now)
    assert of(bench.look(), Dial) == [Dial(2)]
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "expired"))
    bench.feed.retry(bench.now)
    assert of(bench.close(4401), Dial) == [], "once in 30 s"
    bench.wait(30)
    bench.feed.retry(bench.now)
    assert of(bench.look(), Dial) == [Dial(3)]


def test_a_new_credential_that_comes_while_the_socket_closes_is_used_when_it_has() -> None:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""), ("auth_failed", "expired"))

    bench.feed.retry(bench.now)

    assert of(bench.look(), Dial) == []
    assert of(bench.close(4401), Dial) == [Dial(2)]


def test_a_new_credential_does_not_shorten_a_cool_down_or_a_backoff() -> None:
    bench = refused()
    bench.wait(31)
    bench.open()
    bench.say(("connected", ""), ("max_connections", ""))
    bench.feed.retry(bench.now)
    assert of(bench.close(), Dial) == []
    assert of(bench.wait(59), Dial) == []

    lost = live()
    lost.close()
    lost.close()
    lost.feed.retry(lost.now)
    assert of(lost.look(), Dial) == []


def test_a_close_that_forbids_to_come_back_is_a_refusal() -> None:
    """Codes of 4500 and more: the same login would end the same."""
    bench = live(wanted=[X, Y])

    assert bench.close(4503, "not_entitled") == [
        AuthFailed(message="not_entitled", code="not_entitled"),
        TopicsFailed(topics=frozenset({X, Y}), reason="not_entitled"),
    ]
    assert of(bench.wait(29), Dial) == []
    assert of(bench.wait(2), Dial) == [Dial(2)]
    assert of(bench.close(4500), AuthFailed) == [], "told once"


def test_why_a_gateway_refuses_the_login_has_a_code() -> None:
    bench = Bench()
    bench.open()
    bench.say(("connected", ""))

    outputs = bench.hear(array([status_event("auth_failed", "over", code="token_expired")]))

    assert of(outputs, AuthFailed) == [AuthFailed(message="over", code="token_expired")]


def test_an_admission_nobody_asked_for_means_nothing() -> None:
    bench = live()
    assert bench.say(("auth_success", ""), ("connected", "")) == []
    assert bench.feed.state is State.LIVE


def test_how_the_gateways_own_side_fares_is_passed_on_each_time() -> None:
    bench = live()
    event = status_event("upstream_restored", "back", gap_start_ns=1, gap_end_ns=2)

    outputs = bench.hear(array([event, event]))

    said = Status(status="upstream_restored", message="back", gap_start_ns=1, gap_end_ns=2)
    assert outputs == [PeerStatus(status=said)] * 2


def test_a_topic_the_gateway_names_fails_at_once_and_comes_back_when_it_says_so() -> None:
    bench = live(wanted=[X, Y])
    failed = status_event("subscription_failed", "no plan", topic=X, code="subscription_failed")

    assert bench.hear(array([failed])) == [TopicsFailed(topics=frozenset({X}), reason="no plan")]
    assert bench.feed.failure(X) == "no plan"
    assert not bench.feed.carries(X)
    restored = status_event("subscription_restored", "", topic=X)
    assert bench.hear(array([restored])) == [TopicsLive(topics=frozenset({X}))]
    assert bench.feed.carries(X)


def test_a_topic_the_gateway_refuses_does_not_keep_the_outage_open() -> None:
    bench = live(wanted=[X, Y])
    bench.close()
    bench.log_in()
    bench.ack(X)

    refusal = status_event("error", "not authorized", topic=Y, code="not_entitled")

    assert of(bench.hear(array([refusal])), Restored) != []


def test_frames_may_be_read_as_typed_events() -> None:
    """The first event of a topic is as good as an acknowledgement here too."""
    bench = Bench(wanted=[Y])
    bench.feed = Feed(FeedPolicy(), credential=lambda: "key", read=read)
    bench.feed.want(frozenset({Y}), 0)
    bench.feed.activate(0, 0)
    bench.look()
    bench.log_in()

    [batch, live_topics] = bench.hear(b'[{"ev":"Q","sym":"O:Y","t":1,"bp":1}]')

    assert isinstance(batch, Batch)
    assert live_topics == TopicsLive(topics=frozenset({Y}))
    assert of(bench.hear(b'[{"ev":"Q","sym":"O:Y","t":1}]'), Batch) != []
    assert of(bench.hear(b"nonsense"), Garbled) != []
    assert bench.feed.statistics().events == 2


# topics


def test_topics_go_out_in_chunks() -> None:
    wanted = [Topic(f"Q.O:{i:03}") for i in range(450)]
    bench = Bench(wanted=wanted)

    frames = sent(bench.log_in())

    assert [len(params.split(",")) for _, params in frames] == [200, 200, 50]
    assert {topic for _, params in frames for topic in params.split(",")} == set(wanted)


def test_changes_while_live_are_sent_as_differences() -> None:
    bench = live(wanted=[X, Y])

    bench.feed.want(frozenset({Y, Z}), bench.now)
    assert sent(bench.look()) == [("unsubscribe", X), ("subscribe", Z)]
    bench.feed.want(frozenset({Y, Z}), bench.now)
    assert sent(bench.look()) == []


def test_an_acknowledged_topic_is_live_once() -> None:
    bench = Bench(wanted=[X, Y])
    bench.log_in()

    assert bench.ack(X, Y) == [
        TopicsLive(topics=frozenset({X})),
        TopicsLive(topics=frozenset({Y})),
    ]
    assert bench.ack(X) == []
    assert bench.feed.statistics().topics_acked == 2
    assert bench.wait(6) == []


def test_the_first_event_of_a_topic_is_as_good_as_an_acknowledgement() -> None:
    bench = Bench(wanted=[X, Y])
    bench.log_in()

    outputs = bench.hear(array([trade("O:X")]))

    assert [type(output) for output in outputs] == [Split, TopicsLive]
    assert of(bench.wait(6), TopicsFailed) == [
        TopicsFailed(
            topics=frozenset({Y}), reason="the vendor did not acknowledge the subscription"
        )
    ]


def test_a_topic_that_failed_is_told_once_tried_again_slowly_and_can_still_come() -> None:
    """R63: bounded retry."""
    bench = Bench(wanted=[X])
    bench.log_in()
    assert len(of(bench.wait(5), TopicsFailed)) == 1

    outputs = bench.wait(59.9)
    assert (sent(outputs), of(outputs, TopicsFailed)) == ([], [])
    assert sent(bench.wait(0.2)) == [("subscribe", X)]
    assert of(bench.wait(30), TopicsFailed) == []
    assert bench.feed.statistics().topics_failed == 1

    assert bench.hear(array([trade("O:X")]))[1:] == [TopicsLive(topics=frozenset({X}))]
    assert bench.feed.statistics().topics_failed == 0
    assert sent(bench.wait(300)) == []


def test_failed_topics_take_turns_one_frame_at_a_time() -> None:
    wanted = [Topic(f"Q.O:{i}") for i in range(5)]
    bench = Bench(FeedPolicy(chunk_topics=2), wanted=wanted)
    bench.log_in()
    bench.wait(5)

    tried = [sent(bench.wait(65)) for _ in range(3)]

    assert [len(frames) for frames in tried] == [1, 1, 1]
    assert {t for frames in tried for t in frames[0][1].split(",")} == set(wanted)


def test_a_refusal_that_names_nothing_is_the_reason_for_what_stays_unanswered() -> None:
    bench = Bench(wanted=[X, Y])
    bench.log_in()

    outputs = bench.say(("error", "not authorized"), ("success", f"subscribed to: {X}"))
    assert of(outputs, VendorStatus) == [VendorStatus(status="error", message="not authorized")]
    assert of(bench.say(("error", "not authorized")), VendorStatus) == [], "told once"
    failed = of(bench.wait(5), TopicsFailed)
    bench.feed.want(frozenset({X, Y, Z}), bench.now)
    bench.look()

    assert failed == [TopicsFailed(topics=frozenset({Y}), reason="not authorized")]
    assert "acknowledge" in of(bench.wait(5), TopicsFailed)[0].reason


def test_a_topic_nobody_wants_any_more_does_not_fail() -> None:
    bench = Bench(wanted=[X, Y])
    bench.log_in()

    bench.feed.want(frozenset({Y}), bench.now)
    bench.ack(Y)

    assert of(bench.wait(10), TopicsFailed) == []


def test_a_failed_topic_nobody_wants_any_more_is_forgotten_and_fails_anew_when_it_is() -> None:
    bench = Bench(wanted=[X])
    bench.log_in()
    bench.wait(5)
    bench.feed.want(frozenset(), bench.now)
    assert bench.feed.failed == {}
    assert sent(bench.wait(120)) == [("unsubscribe", X)]

    bench.feed.want(frozenset({X}), bench.now)

    assert len(of(bench.wait(5), TopicsFailed)) == 1


def test_a_topic_wanted_anew_has_a_time_out_of_its_own() -> None:
    bench = Bench(wanted=[X])
    bench.log_in()
    bench.wait(3)
    bench.feed.want(frozenset(), bench.now)
    bench.feed.want(frozenset({X}), bench.now)

    assert of(bench.wait(3), TopicsFailed) == []
    assert of(bench.wait(3), TopicsFailed) != []


def test_a_late_acknowledgement_of_an_unwanted_topic_changes_nothing() -> None:
    bench = Bench(wanted=[X])
    bench.log_in()
    bench.feed.want(frozenset(), bench.now)
    bench.look()

    assert bench.ack(X) == []
    assert bench.say(("success", f"unsubscribed to: {X}")) == []


def test_remarks_are_told_but_not_without_bound() -> None:
    bench = live()
    for i in range(100):
        bench.say(("notice", f"maintenance at {i}"))
    assert len(of(bench.seen, VendorStatus)) == 32


# loss


def test_a_loss_is_told_with_its_start_redialled_at_once_and_the_gap_told_when_all_is_back() -> (
    None
):
    """R65, R118, W-44."""
    bench = live(wanted=[X, Y])
    bench.wait(20)
    bench.hear(array([trade("O:X")]))
    bench.seen.clear()
    bench.wait(5)

    outputs = bench.close(1006, "reset")
    assert outputs == [
        Lost(reason="reset", code=1006, since_ns=20 * NS),
        Connecting(attempt=2),
        Dial(2),
    ]
    bench.wait(1)
    assert sent(bench.log_in()) == [("subscribe", f"{Y},{X}")]
    assert of(bench.ack(X), Restored) == []
    assert of(bench.hear(array([b'"ev":"Q","sym":"O:Y","bp":1'])), Restored) == [
        Restored(gap_start_ns=20 * NS, gap_end_ns=26 * NS)
    ]
    assert bench.feed.statistics().reconnects == 1


def test_an_outage_is_told_once_however_many_dials_it_takes() -> None:
    bench = live()
    bench.close(1006, "reset")
    for _ in range(5):
        bench.wait(60)
        bench.close(None, "refused")

    assert len(of(bench.seen, Lost)) == 1
    assert [notice.attempt for notice in of(bench.seen, Connecting)] == [2, 3, 4, 5, 6]


def test_the_delays_grow_to_thirty_seconds_and_never_end() -> None:
    """C15, W-32, W-33; random() is 1 here, so these are the ceilings of the jitter."""
    bench = live()
    bench.wait(60)
    bench.close()
    delays: list[float] = []
    for _ in range(9):
        bench.close(None, "refused")
        wake_at = bench.feed.wake_at()
        assert wake_at is not None
        delays.append(wake_at - bench.now)
        bench.wait(delays[-1])
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_only_a_stable_stream_starts_the_delays_anew() -> None:
    bench = live(FeedPolicy(stable_s=10))
    bench.wait(20)
    bench.close()
    bench.log_in()
    bench.wait(9)
    assert of(bench.close(), Dial) == [], "dropped after 9 s: still the same trouble"
    bench.wait(1)
    bench.log_in()
    bench.wait(10)
    assert of(bench.close(), Dial) != []


@pytest.mark.parametrize("reason", ["slow_consumer", "force_disconnect", "auth_timeout"])
def test_the_vendors_reason_for_hanging_up_is_told(reason: str) -> None:
    bench = live()

    outputs = bench.say((reason, "bye"), ("success", "ignored"), raws=[trade("O:X")])

    assert [type(output) for output in outputs] == [Split, Lost, Hangup]
    assert of(outputs, Lost)[0].reason == reason
    assert of(bench.close(1008), Dial) == [Dial(2)]


def test_a_topic_that_failed_before_does_not_keep_the_outage_open() -> None:
    bench = Bench(wanted=[X, Y])
    bench.log_in()
    bench.ack(X)
    bench.wait(20)
    bench.close()
    bench.log_in()

    assert of(bench.ack(X), Restored) != []


def test_an_unanswered_topic_keeps_the_outage_open_until_its_time_out() -> None:
    bench = live(wanted=[X, Y])
    bench.close()
    bench.log_in()
    bench.ack(X)

    outputs = bench.wait(5)

    assert [type(output) for output in outputs] == [TopicsFailed, Restored]


def test_unwanting_the_last_unanswered_topic_ends_the_outage() -> None:
    bench = live(wanted=[X, Y])
    bench.close()
    bench.log_in()
    bench.ack(X)

    bench.feed.want(frozenset({X}), bench.now)

    assert of(bench.look(), Restored) != []


def test_a_second_loss_before_all_is_back_is_the_same_gap() -> None:
    bench = live(wanted=[X, Y])
    bench.wait(3)
    bench.close()
    bench.log_in()
    bench.wait(2)
    bench.close()
    bench.wait(1)
    bench.log_in()
    assert of(bench.ack(X, Y), Restored) == [Restored(gap_start_ns=0, gap_end_ns=6 * NS)]
    assert len(of(bench.seen, Lost)) == 1


def test_a_first_connection_that_fails_is_a_gap_from_that_moment() -> None:
    bench = Bench()
    bench.wait(2)

    assert of(bench.close(None, "refused"), Lost) == [
        Lost(reason="refused", code=None, since_ns=2 * NS)
    ]


# eviction


@pytest.mark.parametrize("logged_in", [False, True])
def test_an_eviction_is_not_fought(logged_in: bool) -> None:
    bench = live() if logged_in else Bench()
    if not logged_in:
        bench.open()

    outputs = bench.say(("max_connections", "Maximum number of websocket connections exceeded."))
    assert outputs == [Evicted(cool_down_s=60), Hangup(1000)]
    assert bench.close(1008) == []
    assert bench.feed.state is State.COOLING
    assert bench.wait(59.9) == []
    assert of(bench.wait(0.2), Dial) != []


def test_neither_leaving_nor_wanting_shortens_a_cool_down() -> None:
    bench = live()
    bench.say(("max_connections", ""))
    bench.close()
    bench.wait(10)
    bench.feed.deactivate(bench.now)
    assert bench.look() == []
    assert bench.feed.state is State.IDLE
    bench.wait(20)

    bench.feed.activate(bench.now, bench.now_ns)
    bench.feed.want(frozenset({X, Y}), bench.now)

    assert bench.look() == [Evicted(cool_down_s=30)]
    assert bench.wait(29.9) == []
    assert of(bench.wait(0.2), Dial) != []
    bench.log_in()
    assert of(bench.ack(X, Y), Restored) != []


# heartbeat


def test_the_feed_pings_at_thirty_and_sixty_seconds() -> None:
    """R64."""
    bench = live()

    bench.wait(29.9)
    assert of(bench.seen, Ping) == []
    bench.wait(0.1)
    assert of(bench.seen, Ping) == [Ping()]
    bench.wait(29.9)
    assert of(bench.seen, Ping) == [Ping()]
    bench.wait(0.1)
    assert of(bench.seen, Ping) == [Ping(), Ping()]


def test_a_ping_without_any_sign_of_life_is_a_loss() -> None:
    """R64, W-48."""
    bench = live()
    bench.pongs = False
    bench.wait(30)

    assert bench.wait(9.9) == []
    outputs = bench.wait(0.1)

    assert [type(output) for output in outputs] == [Lost, Hangup]
    assert of(outputs, Hangup) == [Hangup(None)], "abort: nobody would answer a close"


@pytest.mark.parametrize("sign", ["pong", "data"])
def test_anything_that_comes_after_a_ping_is_a_sign_of_life(sign: str) -> None:
    bench = live()
    bench.pongs = False
    bench.wait(35)

    if sign == "pong":
        bench.feed.alive(bench.generation)
    else:
        bench.hear(array([trade("O:X")]))

    assert of(bench.wait(24), Lost) == []


def test_a_deadline_longer_than_the_interval_still_ends() -> None:
    bench = live(FeedPolicy(ping_interval_s=5, pong_deadline_s=12))
    bench.pongs = False
    assert of(bench.wait(16.9), Lost) == []
    assert of(bench.wait(0.2), Lost) != []


# coming and going


def test_zero_one_zero_clients_cost_one_dial_and_one_orderly_close() -> None:
    """R60."""
    bench = live()

    bench.feed.deactivate(bench.now)

    assert bench.look() == [Hangup(1000)]
    assert bench.close(1000) == []
    assert bench.feed.state is State.IDLE
    assert bench.feed.wake_at() is None


def test_who_comes_back_within_the_grace_finds_the_stream_as_it_was() -> None:
    bench = live(FeedPolicy(idle_s=10))

    bench.feed.deactivate(bench.now)
    assert bench.wait(9) == []
    bench.feed.activate(bench.now, bench.now_ns)

    assert bench.wait(20) == []
    bench.feed.deactivate(bench.now)
    assert bench.wait(10) == [Hangup(1000)]


def test_leaving_while_the_dial_is_out_hangs_up_when_it_opens() -> None:
    bench = Bench()
    bench.feed.deactivate(bench.now)
    assert bench.look() == []

    assert bench.open() == [Hangup(1000)]
    assert bench.close() == []
    assert bench.feed.state is State.IDLE


def test_coming_back_while_the_dial_is_out_keeps_it() -> None:
    bench = Bench()
    bench.feed.deactivate(bench.now)
    bench.look()
    bench.feed.activate(bench.now, bench.now_ns)
    assert bench.open() == []


def test_coming_back_while_the_socket_closes_dials_when_it_is_closed() -> None:
    bench = live()
    bench.feed.deactivate(bench.now)
    bench.look()

    bench.feed.activate(bench.now, bench.now_ns)

    assert bench.look() == []
    assert of(bench.close(1000), Dial) == [Dial(2)]


def test_a_rest_is_not_a_gap() -> None:
    bench = live()
    bench.hear(array([trade("O:X")]))
    bench.feed.deactivate(bench.now)
    bench.look()
    bench.close(1000)
    bench.wait(60)

    bench.feed.activate(bench.now, bench.now_ns)
    bench.look()
    bench.log_in()

    assert of(bench.ack(X), Restored) == []
    assert bench.feed.statistics().reconnects == 0


# bytes


def test_events_are_handed_out_in_order_and_untouched() -> None:
    bench = live()

    bench.feed.frame(1, array([trade("O:X"), trade("O:W")]), 0, 7)
    bench.feed.frame(1, array([trade("O:X")]), 0, 8)
    outputs = of(bench.look(), Split)

    assert [split.topics for split in outputs] == [["T.O:X", "T.O:W"], ["T.O:X"]]
    assert outputs[0].raws == [trade("O:X"), trade("O:W")]
    statistics = bench.feed.statistics()
    assert (statistics.events, statistics.last_frame_ns) == (3, 8)


def test_garbage_is_counted_and_told_once_per_connection() -> None:
    bench = live()

    first = bench.hear(b"\xff\x00<html>" + b"x" * 500)
    again = bench.hear(b"nonsense")

    assert [type(output) for output in first] == [Garbled]
    assert len(of(first, Garbled)[0].sample) <= 120
    assert of(first, Garbled)[0].sample.isprintable()
    assert again == []
    assert bench.feed.statistics().garbled == 2
    bench.close()
    bench.log_in()
    assert of(bench.hear(b"nonsense"), Garbled) == [Garbled(count=3, sample="nonsense")]


def test_nothing_an_old_connection_does_disturbs_the_new_one() -> None:
    bench = live()
    bench.close()
    bench.log_in()
    bench.ack(X)

    bench.feed.opened(1, bench.now)
    bench.feed.frame(1, array([status_event("max_connections", "")]), bench.now, bench.now_ns)
    bench.feed.alive(1)
    bench.feed.closed(1, 1006, "late", bench.now, bench.now_ns)

    assert bench.look() == []
    assert bench.feed.state is State.LIVE


def test_frames_that_come_after_we_hung_up_are_not_heard() -> None:
    bench = live()
    bench.say(("max_connections", ""))

    assert bench.hear(array([trade("O:X")])) == []


def test_the_feed_shows_where_it_is() -> None:
    assert repr(live().feed) == "<Feed live, 1 of 1 topics, connection 1>"
