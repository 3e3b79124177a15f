"""The vendor's topics of one asset class, as a session's client asks for them.

The grammar, the key's scopes and the bound of topics are checked here; who reads what,
and what it costs, is the fan-out's.
"""

from onetape import symbols
from onetape.errors import NotEntitled, OnetapeError, TooManyTopics
from onetape.gateway import replies
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import MassiveHub, Sink
from onetape.gateway.session import Account, named
from onetape.massive.wire_stream import Action, status_event
from onetape.model import ClientId, Topic

_EXAMPLE = "T.SPY,T.QQQ"


class TopicDesk:
    """One asset class's hub: a `session.Desk`."""

    actions = ("subscribe", "unsubscribe")

    def __init__(self, hub: MassiveHub, *, max_topics: int) -> None:
        self.hub = hub
        self.max_topics = max_topics

    @property
    def name(self) -> str:
        """The asset class."""
        return self.hub.asset

    def check(self, principal: Principal) -> None:
        """Let in whom the asset class is for.

        Raises:
            NotEntitled: it is not.
        """
        if not principal.admits_asset(self.hub.asset):
            raise NotEntitled(f"this credential is not for {self.hub.asset}")

    def enter(self, client: ClientId, sink: Sink) -> "TopicVisit":
        """Join the fan-out."""
        return TopicVisit(self, client, sink)


class TopicVisit:
    """One client's topics: a `session.Visit`."""

    __slots__ = ("_desk", "_hub", "_reader", "_topics_most")

    def __init__(self, desk: TopicDesk, client: ClientId, sink: Sink) -> None:
        self._desk = desk
        self._hub = desk.hub
        self._reader = desk.hub.join(client, sink)
        self._topics_most = 0

    @property
    def is_congested(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._reader.is_congested

    def act(self, action: Action, principal: Principal) -> None:
        """Subscribe or unsubscribe; a bad topic does not sink the others.

        Raises:
            InvalidFrame: it names no topic.
        """
        names = named(action, _EXAMPLE)
        if action.action == "subscribe":
            self._subscribe(names, principal)
        else:
            self._unsubscribe(names)

    def say(self, event: bytes) -> None:
        """Send one status event, behind whatever was delivered before it."""
        self._reader.say(event)

    def pause(self) -> None:
        """The socket is full."""
        self._reader.pause()

    def resume(self) -> None:
        """The socket takes more."""
        self._reader.resume()

    def leave(self) -> Account:
        """Leave the fan-out."""
        reader = self._reader
        self._hub.leave(reader)
        return Account(self._topics_most, reader.events_out, reader.bytes_out, reader.conflated)

    def _subscribe(self, names: list[str], principal: Principal) -> None:
        held = self._hub.topics(self._reader)
        room = self._desk.max_topics - len(held)
        topics: list[Topic] = []
        for name in names:
            try:
                topic = symbols.parse_topic(name, self._hub.asset).topic
                if topic in held:
                    continue
                if not principal.admits_topic(topic):
                    raise NotEntitled("not authorized")
                if len(topics) >= room:
                    raise TooManyTopics(f"a client holds at most {self._desk.max_topics} topics")
            except OnetapeError as error:
                self._refuse(name, error)
            else:
                topics.append(topic)
        refused = self._hub.subscribe(self._reader, topics)
        for topic, error in refused.items():
            self._refuse(topic, error)
        self._acknowledge("subscribed to: ", [t for t in topics if t not in refused])
        self._topics_most = max(self._topics_most, len(self._hub.topics(self._reader)))

    def _unsubscribe(self, names: list[str]) -> None:
        topics: list[Topic] = []
        for name in names:
            try:
                topics.append(symbols.parse_topic(name, self._hub.asset).topic)
            except OnetapeError as error:
                self._refuse(name, error)
        self._hub.unsubscribe(self._reader, topics)
        self._acknowledge("unsubscribed to: ", topics)

    def _acknowledge(self, what: str, topics: list[Topic]) -> None:
        for topic in topics:
            self._reader.pending.append(status_event("success", what + topic))
        self._reader.settle()

    def _refuse(self, name: str, error: OnetapeError) -> None:
        self._reader.say(replies.status_event(error, topic=Topic(name[:120])))
