import msgspec
import pytest

from onetape.massive.notices import FeedPolicy, Output, SendText, TopicsFailed, TopicsLive
from onetape.massive.topics import Ledger
from onetape.massive.wire_stream import Status
from onetape.model import Topic

X, Y, Z = Topic("V.I:X"), Topic("V.I:Y"), Topic("V.I:Z")
POLICY = FeedPolicy(chunk_topics=2, ack_timeout_s=5, retry_topics_s=60)


def opened(*topics: Topic) -> Ledger:
    ledger = Ledger(POLICY)
    ledger.want(frozenset(topics), 0)
    ledger.open(0, excuse=None)
    return ledger


def sent(outputs: list[Output]) -> list[tuple[str, str]]:
    frames = [msgspec.json.decode(out.data) for out in outputs if isinstance(out, SendText)]
    return [(frame["action"], frame["params"]) for frame in frames]


def ack(topic: Topic) -> Status:
    return Status(status="success", message=f"subscribed to: {topic}")


def release(topic: Topic) -> Status:
    return Status(status="success", message=f"unsubscribed to: {topic}")


def failing(topic: Topic | None, reason: str = "no plan") -> Status:
    return Status(status="subscription_failed", message=reason, topic=topic)


def refusing(topic: Topic | None) -> Status:
    return Status(status="error", code="not_entitled", message="not authorized", topic=topic)


def restored(topic: Topic) -> Status:
    return Status(status="subscription_restored", topic=topic)


LIVE, FAILED = [TopicsLive(topics=frozenset({X}))], TopicsFailed


def test_what_is_wanted_before_a_connection_is_asked_for_when_it_opens() -> None:
    """R108, W-03."""
    ledger = Ledger(POLICY)

    assert ledger.want(frozenset({X, Y, Z}), 0) == []
    assert sent(ledger.open(0, excuse=None)) == [("subscribe", f"{X},{Y}"), ("subscribe", Z)]


def test_while_open_only_the_difference_is_sent() -> None:
    """R115, R137, W-50: by content, not by size."""
    ledger = opened(X, Y)

    assert sent(ledger.want(frozenset({Y, Z}), 0)) == [("unsubscribe", X), ("subscribe", Z)]
    assert ledger.want(frozenset({Y, Z}), 0) == []


def test_a_topic_is_live_from_its_acknowledgement_or_its_first_event() -> None:
    ledger = opened(X, Y)

    assert not ledger.carries(X)
    assert ledger.heed(ack(X), 0) == LIVE
    assert ledger.heed(ack(X), 0) == []
    assert ledger.heard([Y, Z]) == [TopicsLive(topics=frozenset({Y}))]
    assert (ledger.live, ledger.carries(X), bool(ledger.doubtful)) == (2, True, False)
    assert ledger.is_settled


def test_what_stays_unanswered_fails_in_time_and_is_asked_for_again() -> None:
    ledger = opened(X)
    assert ledger.wake_at() == 5

    [failed] = ledger.tick(5)
    assert isinstance(failed, TopicsFailed)
    assert "acknowledge" in failed.reason
    assert ledger.wake_at() == 65
    assert sent(ledger.tick(65)) == [("subscribe", X)]
    assert ledger.tick(70) == [], "told once"
    assert ledger.heed(ack(X), 71) == LIVE
    assert ledger.failed == {}


def test_a_refusal_by_name_fails_the_topic_at_once_and_spares_the_others() -> None:
    """R133, W-02: fallback need not wait for a time-out."""
    ledger = opened(X, Y)

    told = ledger.heed(refusing(X), 1)
    ledger.heed(ack(Y), 1)

    assert told == [TopicsFailed(topics=frozenset({X}), reason="not authorized")]
    assert ledger.failure(X) == "not authorized"
    assert ledger.carries(Y)
    assert ledger.tick(5) == []
    assert sent(ledger.tick(61)) == [("subscribe", X)], "ours to try again"


def test_a_live_topic_may_be_refused_later() -> None:
    ledger = opened(X)
    ledger.heed(ack(X), 0)
    ledger.tick(5)

    assert ledger.heed(refusing(X), 9) != []
    assert not ledger.carries(X)
    assert ledger.wake_at() == 69


def test_what_the_gateways_upstream_does_not_carry_is_left_to_the_gateway() -> None:
    ledger = opened(X)

    assert ledger.heed(failing(X), 0) == [TopicsFailed(topics=frozenset({X}), reason="no plan")]
    assert ledger.heed(ack(X), 0) == [], "it carries the topic; the vendor does not"
    assert ledger.heed(failing(X), 1) == []
    ledger.tick(5)
    assert ledger.tick(65) == []
    assert ledger.wake_at() is None
    assert ledger.heed(restored(X), 70) == LIVE
    assert ledger.failures == 0


def test_an_event_proves_more_than_a_failure_that_was_told() -> None:
    ledger = opened(X)
    ledger.heed(failing(X), 0)

    assert ledger.heard([X]) == LIVE
    assert ledger.heed(restored(X), 0) == []


def test_a_failure_of_before_the_topic_was_given_up_does_not_outlive_it() -> None:
    ledger = opened(X)
    ledger.heed(ack(X), 0)
    ledger.want(frozenset(), 1)
    ledger.want(frozenset({X}), 1)

    ledger.heed(failing(X), 1)  # on its way when we gave the topic up
    ledger.heed(release(X), 1)

    assert ledger.heed(ack(X), 1) == LIVE


def test_a_topic_wanted_anew_is_asked_for_anew_however_it_fared_before() -> None:
    ledger = opened(X)
    ledger.heed(failing(X), 0)
    ledger.want(frozenset(), 1)
    ledger.want(frozenset({X}), 1)
    assert ledger.heed(ack(X), 1) == LIVE

    ledger.heed(failing(X), 2)
    ledger.close()
    ledger.open(3, excuse=None)
    assert ledger.heed(ack(X), 3) == LIVE


@pytest.mark.parametrize("status", [failing(Z), refusing(Z), restored(Z), ack(Z), failing(None)])
def test_what_is_said_of_topics_nobody_wants_changes_nothing(status: Status) -> None:
    ledger = opened(X)

    assert ledger.heed(status, 0) == []
    assert ledger.failed == {}


def test_a_success_without_topics_and_words_for_others_change_nothing() -> None:
    ledger = opened(X)

    assert ledger.heed(Status(status="success", message="hello"), 0) == []
    assert ledger.heed(Status(status="pong", topic=X), 0) == []
    assert ledger.live == 0


def test_a_refusal_without_a_name_is_the_reason_for_what_stays_unanswered() -> None:
    ledger = opened(X, Y)
    ledger.blame("not authorized")
    ledger.heed(ack(Y), 0)

    assert ledger.tick(5) == [TopicsFailed(topics=frozenset({X}), reason="not authorized")]


def test_the_end_of_a_connection_ends_what_it_carried_but_not_what_failed() -> None:
    ledger = opened(X, Y)
    ledger.heed(ack(X), 0)
    ledger.heed(failing(Y), 0)

    ledger.close()

    assert (ledger.live, ledger.carries(X), bool(ledger.doubtful)) == (0, False, False)
    assert (ledger.failed, ledger.wake_at()) == ({Y: "no plan"}, None)


def test_only_what_may_come_back_is_waited_for() -> None:
    ledger = opened(X, Y)
    ledger.heed(refusing(Y), 0)
    ledger.close()

    ledger.open(9, excuse=None)
    assert not ledger.is_settled
    ledger.heed(ack(X), 9)

    assert ledger.is_settled


def test_topics_of_a_refused_login_are_waited_for_after_the_next() -> None:
    ledger = Ledger(POLICY)
    ledger.want(frozenset({X}), 0)
    assert ledger.deny("no") == [TopicsFailed(topics=frozenset({X}), reason="no")]
    assert ledger.deny("no") == []

    ledger.open(9, excuse="no")

    assert not ledger.is_settled
    assert ledger.failed == {}


def test_who_is_forgotten_holds_nothing_up() -> None:
    ledger = opened(X)
    ledger.close()
    ledger.forget()
    assert ledger.is_settled


def test_failed_topics_take_turns_one_frame_at_a_time_without_the_suspended() -> None:
    topics = [Topic(f"V.I:{n}") for n in range(5)]
    ledger = opened(*topics)
    ledger.heed(failing(topics[0]), 0)
    ledger.tick(5)

    asked: list[str] = []
    for _ in range(2):
        wake_at = ledger.wake_at()
        assert wake_at is not None
        [(_, params)] = sent(ledger.tick(wake_at))
        asked += params.split(",")
        ledger.tick(wake_at + 5)

    assert sorted(asked) == topics[1:]
