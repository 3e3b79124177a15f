from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import OnetapeError, SlowReader, TokenExpired, TokenInvalid, TokenRevoked
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import MassiveHub
from onetape.gateway.keys import Scopes
from onetape.gateway.session import House, Session, SessionEnd, SessionPolicy
from onetape.gateway.topic_session import TopicDesk
from onetape.massive.wire_stream import event, split
from onetape.model import AssetClass, ClientId
from onetape.testing import ManualClock

CALL = "T.O:SPY251219C00650000"
QUOTE = "Q.O:SPY251219C00650000"
NS = 1_000_000_000


class Wire:
    """A socket that remembers."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.pings = 0
        self.closed: tuple[int, str] | None = None

    def write(self, frame: bytes) -> None:
        if self.closed is None:
            self.frames.append(frame)

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [element for frame in self.frames for element in msgspec.json.decode(frame)]

    @property
    def statuses(self) -> list[str]:
        return [element["status"] for element in self.events if element["ev"] == "status"]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


class Loop:
    def call_soon(self, callback: Any, /) -> object:
        return callback()

    def call_later(self, delay: float, callback: Any, /) -> object:
        return callback()


class Doorkeeper:
    def __init__(self, known: Mapping[str, Principal]) -> None:
        self._known = known

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        if credential == "old":
            raise TokenExpired("the token ran out")
        if credential is None or credential not in self._known:
            raise TokenInvalid("unknown credential")
        return self._known[credential]


class Room:
    """One session and everything around it."""

    def __init__(self, *, brought: bool = False, **policy: Any) -> None:
        self.clock = ManualClock()
        now_ns = self.clock.now_ns()
        key = Principal(key_id="k1", name="bot", kind="client_key", scopes=Scopes())
        token = Principal(
            key_id="k1",
            name="bot",
            kind="token",
            scopes=Scopes(),
            token_id="t1",
            expires_ns=now_ns + 300 * NS,
        )
        newer = msgspec.structs.replace(token, token_id="t2", expires_ns=now_ns + 900 * NS)
        self.principals = {
            "key": key,
            "token": token,
            "newer": newer,
            "other": msgspec.structs.replace(key, key_id="k2"),
            "indices": msgspec.structs.replace(
                key, scopes=Scopes(assets=frozenset({AssetClass.INDICES}))
            ),
        }
        self.wire = Wire()
        self.ends: list[SessionEnd] = []
        self.hub = MassiveHub(AssetClass.OPTIONS, clock=self.clock, loop=Loop())
        self.session = Session(
            ClientId("c1"),
            desk=TopicDesk(self.hub, max_topics=10),
            wire=self.wire,
            house=House(
                Doorkeeper(self.principals),
                self.clock,
                self.ended,
                SessionPolicy(**policy),
            ),
            peer="127.0.0.1",
            principal=token if brought else None,
        )
        self.session.opened()

    def ended(self, session: Session, end: SessionEnd) -> None:
        self.ends.append(end)

    def send(self, action: str, params: object = None) -> None:
        self.session.frame(msgspec.json.encode({"action": action, "params": params}))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.session.tick()


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def live(room: Room) -> Room:
    room.send("auth", "key")
    return room


def test_the_handshake_is_byte_for_byte_the_vendors(room: Room) -> None:
    """R58; the transcript of the vendor facts, section 4.2."""
    room.send("auth", "key")
    room.send("subscribe", f"{CALL},{QUOTE}")
    room.send("unsubscribe", CALL)

    assert room.wire.frames == [
        b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]',
        b'[{"ev":"status","status":"auth_success","message":"authenticated"}]',
        f'[{{"ev":"status","status":"success","message":"subscribed to: {CALL}"}},'
        f'{{"ev":"status","status":"success","message":"subscribed to: {QUOTE}"}}]'.encode(),
        f'[{{"ev":"status","status":"success","message":"unsubscribed to: {CALL}"}}]'.encode(),
    ]


def test_a_credential_brought_along_needs_no_auth_frame() -> None:
    room = Room(brought=True)

    room.send("subscribe", CALL)

    assert room.wire.statuses == ["connected", "auth_success", "success"]


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        ("wrong", "token_invalid"),
        ("old", "token_expired"),
        ("indices", "not_entitled"),
        (["key"], "invalid_frame"),
    ],
)
def test_a_bad_credential_is_told_why_and_closed(room: Room, credential: object, code: str) -> None:
    """The official client raises AuthError on `auth_failed`, whatever the reason."""
    room.send("auth", credential)

    assert (room.wire.last["status"], room.wire.last["code"]) == ("auth_failed", code)
    assert room.wire.closed is not None
    assert [end.code for end in room.ends] == [code]


def test_no_credential_for_five_seconds_is_told_and_closed(room: Room) -> None:
    """C33."""
    room.pass_time(4.9)
    assert room.wire.closed is None

    room.pass_time(0.1)

    assert room.wire.last["status"] == "auth_timeout"
    assert room.wire.closed == (4408, "auth_timeout")


def test_subscribing_before_authenticating_is_told_and_survived(room: Room) -> None:
    room.send("subscribe", CALL)
    room.send("auth", "key")

    assert room.wire.statuses == ["connected", "auth_required", "auth_success"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{", "invalid_frame"),
        (b"\x00\xff\xfe garbage", "invalid_frame"),
        (b'["subscribe"]', "invalid_frame"),
        (b'{"action":"dance"}', "unknown_action"),
        (b'{"action":"subscribe","params":{"a":1}}', "invalid_frame"),
        (b'{"action":"subscribe","params":"AAPL"}', "invalid_topic"),
        (b'{"action":"subscribe","params":"V.I:SPX"}', "invalid_topic"),
        (b'{"action":"subscribe","params":"X.O:SPY251219C00650000"}', "invalid_topic"),
        (b'{"action":"subscribe","params":"Q.*"}', "invalid_topic"),
        (b'{"action":"subscribe","params":"T.O:NOT-A-CONTRACT"}', "invalid_topic"),
        (b'{"action":"unsubscribe","params":"nonsense"}', "invalid_topic"),
        (b'{"action":"subscribe"}', "invalid_frame"),
        (b'{"action":"unsubscribe","params":" , "}', "invalid_frame"),
        (b'{"action":"subscribe","params":"' + b"x" * 300_000 + b'"}', "frame_too_large"),
    ],
)
def test_a_bad_frame_is_told_with_a_code_and_survived(live: Room, frame: bytes, code: str) -> None:
    """W-47, R57."""
    live.session.frame(frame)

    assert (live.wire.last["status"], live.wire.last["code"]) == ("error", code)
    assert live.wire.last["message"]
    live.send("subscribe", CALL)
    assert live.wire.last["message"] == f"subscribed to: {CALL}"


def test_a_ping_is_answered_in_kind(live: Room) -> None:
    live.send("ping")

    assert live.wire.last["status"] == "pong"


def test_a_token_is_renewed_on_the_open_socket(room: Room) -> None:
    """W-12."""
    room.send("auth", "token")
    room.pass_time(241)
    room.session.frame(b'{"action":"ping"}')
    assert "auth_expiring" in room.wire.statuses

    room.send("auth", "newer")
    room.pass_time(100)

    assert room.wire.closed is None
    assert room.session.principal is room.principals["newer"]


def test_a_token_that_runs_out_closes_its_socket(room: Room) -> None:
    """W-12: 4401 says: come back with another token."""
    room.send("auth", "token")

    room.pass_time(309)
    room.session.heard()
    assert room.wire.closed is None
    room.pass_time(2)

    assert room.wire.closed == (4401, "session_expired")


def test_a_renewal_for_another_key_is_refused_and_the_session_goes_on(live: Room) -> None:
    live.send("auth", "other")
    live.send("auth", "wrong")

    assert [e.get("code") for e in live.wire.events[-2:]] == ["token_invalid", "token_invalid"]
    assert live.wire.closed is None
    assert live.session.principal is live.principals["key"]


def test_pings_go_out_every_thirty_seconds_and_a_dead_client_is_cut(live: Room) -> None:
    """R64, W-48."""
    live.pass_time(30)
    live.session.heard()
    live.pass_time(30)
    assert live.wire.pings == 2

    live.pass_time(9)
    assert live.wire.closed is None
    live.pass_time(1)

    assert live.wire.closed is not None
    assert live.hub.statistics().clients == 0


def test_a_full_socket_is_not_blamed_for_its_silence(live: Room) -> None:
    live.session.pause()
    live.pass_time(30)
    live.pass_time(10)
    assert live.wire.closed is None

    live.session.resume()
    live.pass_time(1)
    assert live.wire.closed is not None


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (TokenRevoked("the key was revoked"), (4401, "token_revoked")),
        (SlowReader("too slow"), (1008, "slow_reader")),
    ],
)
def test_an_end_is_told_before_it_comes_and_leaves_nothing_behind(
    live: Room, error: OnetapeError, closed: tuple[int, str]
) -> None:
    live.send("subscribe", CALL)

    live.session.end(error)
    live.session.end(error)
    live.session.lost()

    assert live.wire.last["code"] == error.code
    assert live.wire.closed == closed
    assert len(live.ends) == 1
    assert live.hub.statistics()[:3] == (0, 0, 0)


def test_a_drain_asks_clients_to_come_back(live: Room) -> None:
    live.session.drain()

    assert live.wire.closed == (1012, "shutting_down")


def test_the_end_sums_the_session_up(live: Room) -> None:
    live.send("subscribe", CALL)
    live.hub.deliver(split(b"[{" + event("T", sym=CALL[2:], q=1) + b"}]"))
    live.clock.advance(2)

    live.session.lost()

    [end] = live.ends
    assert (end.key_id, end.code, end.duration_s, end.topics) == (
        "k1",
        "client_left",
        2,
        1,
    )
    assert end.events == 4 - 2, "the acknowledgement and the trade"


def test_frames_after_the_end_are_not_heard(live: Room) -> None:
    live.session.drain()

    live.send("subscribe", CALL)
    live.session.pause()
    live.session.resume()
    live.session.tick()

    assert live.hub.statistics().subscriptions == 0


actions = st.one_of(
    st.binary(max_size=30),
    st.fixed_dictionaries(
        {"action": st.sampled_from(["auth", "subscribe", "unsubscribe", "ping", "x"])},
        optional={
            "params": st.none()
            | st.sampled_from(["key", "wrong", CALL, QUOTE, "T.*", "T.", f"{CALL},,{QUOTE}"])
            | st.lists(st.sampled_from([CALL, "V.I:SPX", ""]), max_size=3)
        },
    ).map(msgspec.json.encode),
)


@given(st.lists(actions, max_size=12), st.lists(st.floats(0, 40), max_size=12))
def test_whatever_a_client_sends_it_is_answered_and_nothing_leaks(
    frames: list[bytes], waits: list[float]
) -> None:
    room = Room()
    for frame in frames:
        room.session.frame(frame)
        if waits:
            room.pass_time(waits.pop())

    assert all(e["message"] for e in room.wire.events if e["ev"] == "status")
    statuses = room.wire.statuses
    if "success" in statuses:
        assert statuses.index("auth_success") < statuses.index("success")
    room.session.lost()
    assert room.hub.statistics()[:3] == (0, 0, room.hub.statistics().topics_read)
    assert room.hub.statistics().subscriptions == 0
    assert len(room.ends) == 1
