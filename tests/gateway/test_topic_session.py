from typing import Any

import msgspec
import pytest

from onetape.errors import InvalidFrame, NotEntitled, SlowReader
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import MassiveHub
from onetape.gateway.keys import Scopes
from onetape.gateway.topic_session import TopicDesk
from onetape.massive.wire_stream import Action, event, split
from onetape.model import AssetClass, ClientId
from onetape.testing import ManualClock

CALL = "T.O:SPY251219C00650000"
QUOTE = "Q.O:SPY251219C00650000"


class Loop:
    def call_soon(self, callback: Any, /) -> object:
        return callback()

    def call_later(self, delay: float, callback: Any, /) -> object:
        return callback()


class Sink:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def cut(self, error: SlowReader) -> None:
        raise AssertionError

    @property
    def events(self) -> list[dict[str, Any]]:
        return [one for frame in self.frames for one in msgspec.json.decode(frame)]


class Room:
    """One client at the desk."""

    def __init__(self, *, max_topics: int = 10, **scopes: Any) -> None:
        self.hub = MassiveHub(AssetClass.OPTIONS, clock=ManualClock(), loop=Loop())
        self.sink = Sink()
        self.desk = TopicDesk(self.hub, max_topics=max_topics)
        self.visit = self.desk.enter(ClientId("c1"), self.sink)
        self.principal = Principal(
            key_id="k1", name="bot", kind="client_key", scopes=Scopes(**scopes)
        )

    def send(self, action: str, params: Any = None) -> None:
        self.visit.act(Action(action, params), self.principal)

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.sink.events


@pytest.fixture
def room() -> Room:
    return Room()


def test_one_bad_topic_does_not_sink_the_others(room: Room) -> None:
    room.send("subscribe", f"bad,{CALL}, V.I:SPX")

    assert [e.get("topic") for e in room.events] == ["bad", "V.I:SPX", None]
    assert room.events[-1]["message"] == f"subscribed to: {CALL}"


def test_one_bad_topic_does_not_keep_the_others_subscribed(room: Room) -> None:
    room.send("subscribe", f"{CALL},{QUOTE}")

    room.send("unsubscribe", f"{CALL},bad,{QUOTE}")

    assert room.hub.statistics().subscriptions == 0
    assert [e.get("topic") for e in room.events[-3:]] == ["bad", None, None]


def test_more_topics_than_allowed_are_refused_one_by_one() -> None:
    """W-46."""
    room = Room(max_topics=1)

    room.send("subscribe", f"{CALL},{QUOTE}")

    assert [e.get("code") for e in room.events] == ["too_many_topics", None]


def test_a_topic_outside_the_keys_scopes_is_not_authorized() -> None:
    room = Room(topics=("T.O:SPY*",))

    room.send("subscribe", f"{CALL},T.O:QQQ251219C00650000")

    refusal = room.events[0]
    assert (refusal["status"], refusal["message"]) == ("error", "not authorized")
    assert (refusal["code"], refusal["topic"]) == ("not_entitled", "T.O:QQQ251219C00650000")


def test_a_second_subscribe_is_not_acknowledged_again(room: Room) -> None:
    """As the vendor does."""
    room.send("subscribe", CALL)

    room.send("subscribe", [CALL])

    assert len(room.sink.frames) == 1


def test_blanks_around_a_topic_do_not_matter(room: Room) -> None:
    room.send("subscribe", f" {CALL} ,")

    assert room.events[-1]["message"] == f"subscribed to: {CALL}"


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_an_action_without_a_topic_is_no_frame(room: Room, action: str) -> None:
    with pytest.raises(InvalidFrame, match="takes topics"):
        room.send(action)


def test_only_who_may_read_the_asset_class_is_let_in() -> None:
    room = Room(assets=frozenset({AssetClass.STOCKS}))

    with pytest.raises(NotEntitled, match="options"):
        room.desk.check(room.principal)
    room.desk.check(Room().principal)


def test_a_quote_above_the_vendors_bound_is_refused_by_the_hub(room: Room) -> None:
    quotes = [f"Q.O:SPY251219C{strike:05}000" for strike in range(1, 1_003)]
    room = Room(max_topics=5_000)

    room.send("subscribe", quotes)

    refused = [e["topic"] for e in room.events if e.get("code") == "too_many_topics"]
    assert len(refused) == 2
    assert room.visit.leave().topics == 1_000


def test_a_full_socket_gets_the_newest_quote_when_it_takes_more(room: Room) -> None:
    room.send("subscribe", QUOTE)
    room.visit.pause()
    for number in (1, 2):
        room.hub.deliver(split(b"[{" + event("Q", sym=QUOTE[2:], q=number) + b"}]"))
    assert room.visit.is_congested

    room.visit.resume()

    assert room.events[-1]["q"] == 2
    assert room.visit.leave()[:2] == (1, 2)
    assert room.hub.statistics().clients == 0
