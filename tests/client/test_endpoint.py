"""What a client makes of what a socket says; the socket itself is not run here."""

from itertools import product

import pytest
from hypothesis import given, strategies as st

from onetape.client._endpoint import (
    Denied,
    Endpoint,
    EndpointDown,
    EndpointState,
    EndpointUp,
    Event,
    Evicted,
    StreamNotice,
    TopicFailed,
    TopicLive,
    TopicState,
    UpstreamDown,
    UpstreamUp,
    worst,
)
from onetape.massive import notices
from onetape.massive.notices import FeedPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import Status, read
from onetape.model import AssetClass, Topic
from onetape.testing import ManualClock

INDICES = AssetClass.INDICES
SPX = Topic("V.I:SPX")
NS = 1_000_000_000


class Bench:
    """An endpoint whose socket never runs, and what came out of it."""

    def __init__(self, host: str = "127.0.0.1:1") -> None:
        self.clock = ManualClock(monotonic=1000.0, now_ns=5_000 * NS)
        self.told: list[StreamNotice] = []
        self.events: list[list[Event]] = []
        self.refused = 0
        self.endpoint = Endpoint(
            INDICES,
            clock=self.clock,
            on_events=lambda _, events: self.events.append(events),
            on_state=self.told.append,
            on_refused=self.refuse,
            connect=lambda endpoint: MassiveWebSocket(
                url=f"ws://{host}/ws/indices",
                asset=INDICES,
                credential=str,
                clock=self.clock,
                policy=FeedPolicy(),
                on_batch=endpoint.take,
                on_notice=endpoint.hear,
            ),
        )

    def refuse(self, _: Endpoint) -> None:
        self.refused += 1

    def hear(self, *said: notices.Notice) -> list[StreamNotice]:
        self.told.clear()
        for notice in said:
            self.endpoint.hear(notice)
        return list(self.told)

    def peer(
        self,
        status: str,
        *,
        code: str | None = None,
        gap: tuple[int | None, int | None] = (None, None),
        retry_after_s: float | None = None,
    ) -> list[StreamNotice]:
        said = Status(
            status=status,
            message="why",
            code=code,
            gap_start_ns=gap[0],
            gap_end_ns=gap[1],
            retry_after_s=retry_after_s,
        )
        return self.hear(notices.PeerStatus(status=said))


UP = notices.Authenticated(topics=frozenset())
LOST = notices.Lost(reason="reset", code=None, since_ns=7)


def denied(code: str | None) -> notices.AuthFailed:
    return notices.AuthFailed(message="no", code=code)


def test_an_outage_is_told_once_and_its_end_with_the_bounds() -> None:
    """R117, R118."""
    bench = Bench()

    assert bench.hear(UP) == [EndpointUp(asset=INDICES)]
    assert bench.hear(LOST, LOST) == [EndpointDown(asset=INDICES, reason="reset", since_ns=7)]
    assert bench.hear(UP) == [EndpointUp(asset=INDICES, gap_start_ns=7, gap_end_ns=5_000 * NS)]


def test_a_refused_login_is_an_outage_and_says_why() -> None:
    bench = Bench()

    assert bench.hear(denied("token_expired")) == [
        EndpointDown(asset=INDICES, reason="no", since_ns=5_000 * NS),
        Denied(asset=INDICES, reason="no", code="token_expired"),
    ]
    assert bench.hear(LOST) == []


@pytest.mark.parametrize(
    ("code", "asked"),
    [("token_expired", 1), ("token_missing", 1), ("not_entitled", 0), ("throttled", 0), (None, 0)],
)
def test_another_token_is_asked_for_only_where_it_may_help(code: str | None, asked: int) -> None:
    """C7."""
    bench = Bench()

    bench.hear(denied(code))
    assert bench.refused == asked
    bench.peer("auth_failed", code=code)
    assert bench.refused == 2 * asked


def test_a_token_that_ends_soon_is_renewed() -> None:
    """W-12."""
    bench = Bench()
    assert bench.peer("auth_expiring") == []
    assert bench.refused == 1


def test_the_vendors_end_is_told_once_and_its_return_with_the_bounds() -> None:
    """W-51, C16: the socket stays, and is not authenticated."""
    bench = Bench()
    bench.hear(UP)

    assert bench.peer("upstream_disconnected", gap=(3, None)) == [
        UpstreamDown(asset=INDICES, reason="why", since_ns=3)
    ]
    assert bench.peer("upstream_disconnected", gap=(3, None)) == []
    assert not bench.endpoint.health().upstream_up
    assert bench.peer("upstream_restored", gap=(3, 9)) == [
        UpstreamUp(asset=INDICES, gap_start_ns=3, gap_end_ns=9)
    ]
    assert bench.endpoint.health().upstream_up


def test_an_eviction_is_told_beside_the_end_it_is() -> None:
    bench = Bench()

    assert bench.peer("upstream_evicted", retry_after_s=60) == [
        UpstreamDown(asset=INDICES, reason="why", since_ns=5_000 * NS),
        Evicted(asset=INDICES, retry_after_s=60),
    ]
    assert bench.peer("upstream_evicted", retry_after_s=60) == []
    assert bench.peer("upstream_auth_failed") == []


def test_a_new_connection_knows_nothing_of_the_vendor_until_it_is_told() -> None:
    bench = Bench()
    bench.peer("upstream_disconnected")
    bench.hear(LOST, UP)
    assert bench.endpoint.health().upstream_up


def test_topics_are_told_as_they_come() -> None:
    bench = Bench()
    topics = frozenset({SPX})

    assert bench.hear(
        notices.TopicsFailed(topics=topics, reason="no"),
        notices.TopicsLive(topics=topics),
        notices.Connecting(attempt=1),
        notices.Evicted(cool_down_s=1),
    ) == [
        TopicFailed(asset=INDICES, topics=topics, reason="no"),
        TopicLive(asset=INDICES, topics=topics),
        EndpointDown(
            asset=INDICES, reason="another login took the connection", since_ns=5_000 * NS
        ),
    ]


def test_events_are_handed_on_a_frame_at_a_time_and_counted() -> None:
    """R109, R120, W-34."""
    bench = Bench()
    frame = (
        b'[{"ev":"V","T":"I:SPX","val":1,"t":4999500},{"ev":"V","T":"I:NDX","val":2,"t":4999000},'
        b'{"ev":"LULD","T":"F"},{"ev":"V","T":"I:SPX","t":1}]'
    )

    bench.endpoint.take(read(frame))
    bench.endpoint.take(read(b'[{"ev":"LULD","T":"F"}]'))
    health = bench.endpoint.health()

    assert [[event.symbol for event in events] for events in bench.events] == [["I:SPX", "I:NDX"]]
    assert (health.messages, health.undecodable, health.unmodelled) == (2, 1, 2)
    assert health.lag_s == 1.0


def test_messages_per_second_are_those_of_the_last_ten() -> None:
    bench = Bench()
    batch = read(b'[{"ev":"V","T":"I:SPX","val":1,"t":1}]')
    rates: list[float] = [bench.endpoint.health().messages_per_s]

    for _ in range(40):
        bench.endpoint.take(batch)
        bench.endpoint.take(batch)
        bench.clock.advance(0.5)
    rates.append(bench.endpoint.health().messages_per_s)
    bench.clock.advance(5)
    rates.append(bench.endpoint.health().messages_per_s)
    bench.clock.advance(20)
    rates.append(bench.endpoint.health().messages_per_s)

    assert rates[0] == rates[3] == 0
    assert rates[1] == pytest.approx(4, rel=0.05)
    assert 1.5 < rates[2] < 2.5


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=60))
def test_a_rate_is_never_more_than_came_in_its_window(pauses: list[float]) -> None:
    bench = Bench()
    batch = read(b'[{"ev":"V","T":"I:SPX","val":1,"t":1}]')
    came: list[float] = []
    for pause in pauses:
        bench.clock.advance(pause)
        bench.endpoint.take(batch)
        came.append(bench.clock.monotonic())
    now = bench.clock.monotonic()
    window = max(1.0, min(now - came[0], 9.0))

    recent = sum(at >= now - 10 for at in came)
    assert 0 < bench.endpoint.health().messages_per_s <= recent / window + 1e-9


def test_an_endpoint_nobody_needs_is_idle_and_dials_when_something_is_wanted() -> None:
    bench = Bench()
    assert bench.endpoint.state is EndpointState.IDLE

    bench.endpoint.want(frozenset({SPX}), held=False)

    assert bench.endpoint.state is EndpointState.CONNECTING
    assert bench.endpoint.topic_state(SPX) is TopicState.DOWN


def test_what_was_missed_while_nobody_wanted_anything_is_no_gap() -> None:
    bench = Bench()
    bench.hear(LOST)
    bench.clock.advance(60)

    bench.endpoint.want(frozenset({SPX}), held=False)

    [up] = bench.hear(UP)
    assert isinstance(up, EndpointUp)
    assert up.gap_start_ns == 5_060 * NS


ORDER = ["idle", "down", "connecting", "connected", "authenticated"]


@pytest.mark.parametrize(("one", "other"), list(product(EndpointState, repeat=2)))
def test_the_whole_is_as_its_worst_part_that_somebody_needs(
    one: EndpointState, other: EndpointState
) -> None:
    """R136: authenticated only when both are."""
    needed = [state for state in (one, other) if state != "idle"]

    assert worst([one, other]) == min(needed, key=ORDER.index, default="idle")
    assert worst([]) == "idle"


def test_every_event_of_a_delayed_socket_is_marked() -> None:
    frame = b'[{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}]'
    for host, delayed in (("delayed.example:1", True), ("127.0.0.1:1", False)):
        bench = Bench(host)
        bench.endpoint.take(read(frame))
        assert [event.delayed for events in bench.events for event in events] == [delayed]
