"""The vendor's WebSocket grammar, both sides of it.

A client sends single JSON objects, `{"action":…,"params":…}`. A server sends JSON
arrays of flat event objects, any number of any channels per array. One event's
`raw` is the vendor's own bytes between the braces: a frame is taken apart and put
together with one split and one join on `},{`, and what a reader gets is what the
vendor sent.

Shared by the upstream edge, the gateway's sessions and the simulator; the golden
bytes in the tests pin all three to the vendor's transcript rather than to each other.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, cast

import msgspec

from onetape.errors import UNREADABLE, InvalidFrame, InvalidTopic
from onetape.model import AssetClass, Bar, Quote, Topic, Trade

CHANNELS: Final[Mapping[AssetClass, frozenset[str]]] = {
    AssetClass.OPTIONS: frozenset({"T", "Q", "A", "AM", "FMV"}),
    AssetClass.INDICES: frozenset({"V", "A", "AM"}),
    AssetClass.STOCKS: frozenset({"T", "Q", "A", "AM", "LULD", "NOI", "FMV"}),
}
"""What each cluster carries."""

CONFLATABLE: Final[frozenset[str]] = frozenset({"Q", "V", "FMV", "LV"})
"""Channels whose latest event replaces an older one that nobody has read yet."""

MAX_FRAME_BYTES: Final = 1_000_000
"""The vendor's Go client reads no larger frame, its Python client 1 MiB."""

_MS: Final = 1_000_000


# client → server


class Action(msgspec.Struct, frozen=True):
    """What a client asks for."""

    action: str
    params: str | list[str] | None = None


_action = msgspec.json.Decoder(Action)


def parse_action(frame: bytes) -> Action:
    """Read one client frame, text or binary.

    Raises:
        InvalidFrame: not a JSON object with an `action`.
    """
    try:
        return _action.decode(frame)
    except UNREADABLE as error:
        raise InvalidFrame(f"not an action: {error}") from error


def parse_params(params: str | Sequence[str] | None) -> list[str]:
    """Split comma lists, trim blanks, drop empties and repeats; arrays are taken too."""
    if params is None:
        return []
    parts = params.split(",") if isinstance(params, str) else ",".join(params).split(",")
    return list(dict.fromkeys(part for part in map(str.strip, parts) if part))


def split_topic(topic: str) -> tuple[str, str]:
    """Part channel and symbol at the first dot: `T.BRK.B` is `T` of `BRK.B`.

    Raises:
        InvalidTopic: no dot, or nothing on one side of it.
    """
    channel, dot, symbol = topic.partition(".")
    if not (channel and dot and symbol):
        raise InvalidTopic(f"{topic[:80]!r} is not CHANNEL.SYMBOL, like T.SPY")
    return channel, symbol


def auth_frame(credential: str) -> bytes:
    """Log in."""
    return msgspec.json.encode(Action("auth", credential))


def subscribe_frame(topics: Iterable[Topic]) -> bytes:
    """Ask for topics."""
    return msgspec.json.encode(Action("subscribe", ",".join(topics)))


def unsubscribe_frame(topics: Iterable[Topic]) -> bytes:
    """Ask for no more of them."""
    return msgspec.json.encode(Action("unsubscribe", ",".join(topics)))


# server → client: frames


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An event about the connection, not the market. Only a gateway fills the lower part."""

    status: str
    message: str = ""
    code: str | None = None
    topic: Topic | None = None
    gap_start_ns: int | None = None
    gap_end_ns: int | None = None
    retry_after_s: float | None = None
    expires_in_s: float | None = None


class Split(NamedTuple):
    """One upstream frame, taken apart; `topics[i]` names `raws[i]`."""

    topics: list[Topic]
    raws: list[bytes]
    statuses: list[Status]
    garbage: list[bytes]

    @property
    def size(self) -> int:
        """How many events there are."""
        return len(self.raws)


class _PlainStatus(msgspec.Struct):
    status: str
    message: str = ""


class _Key(msgspec.Struct, gc=False):
    """What of an event says where it goes. The ticker's key differs by channel."""

    ev: str
    sym: str | None = None
    T: str | None = None
    pair: str | None = None


_elements = msgspec.json.Decoder(list[msgspec.Raw])
_key = msgspec.json.Decoder(_Key)
_status = msgspec.json.Decoder(Status)
_plain_status = msgspec.json.Decoder(_PlainStatus)

# Most events begin `"ev":"Q","sym":"…"`, so the bytes before the quote that ends the
# symbol name the topic. Only prefixes of exactly that shape are remembered; the
# table is emptied when a day's worth of contracts has filled it.
_SYMBOL_QUOTE: Final = 17  # the first place that quote can stand: `"ev":"T","sym":"F"`
_MEMO_LIMIT: Final = 200_000
_memo: dict[bytes, Topic] = {}


def split(frame: bytes) -> Split:
    """Take one server frame apart. Never raises: what cannot be read is in `garbage`."""
    out = Split([], [], [], [])
    try:
        elements = _elements.decode(frame)
    except UNREADABLE:
        _salvage(frame, out)
        return out
    raws = frame[2:-2].split(b"},{") if elements else []
    # As many `{` as elements, and as many parts: then no brace hides in a string or a
    # nested object, and every separator is the vendor's. Else take the slow way.
    if len(raws) != len(elements) or frame.count(b"{") != len(raws) or not frame.endswith(b"}]"):
        for element in elements:
            _file(bytes(element).strip(), out)
        return out
    known = _memo.get
    topics = [known(raw[: raw.find(b'"', _SYMBOL_QUOTE)]) for raw in raws]
    if None not in topics:
        return Split(cast("list[Topic]", topics), raws, [], [])
    for topic, raw in zip(topics, raws, strict=True):
        if topic is None:
            _file(b"{" + raw + b"}", out)
        else:
            out.topics.append(topic)
            out.raws.append(raw)
    return out


def topic_of(raw: bytes) -> Topic | None:
    """Name the topic of one event; None for a status, or what names no symbol."""
    topic = _memo.get(raw[: raw.find(b'"', _SYMBOL_QUOTE)])
    if topic is not None:
        return topic
    out = Split([], [], [], [])
    _file(b"{" + raw + b"}", out)
    return out.topics[0] if out.topics else None


def _file(element: bytes, out: Split) -> None:
    """Put one element where it belongs."""
    try:
        key = _key.decode(element)
        if key.ev == "status":
            out.statuses.append(_read_status(element))
            return
    except UNREADABLE:
        out.garbage.append(element)
        return
    symbol = key.sym or key.T or key.pair
    if not symbol or not key.ev:
        out.garbage.append(element)
        return
    raw, topic = element[1:-1], Topic(f"{key.ev}.{symbol}")
    prefix = f'"ev":"{key.ev}","sym":"{symbol}'.encode()
    if raw[: raw.find(b'"', _SYMBOL_QUOTE)] == prefix:
        if len(_memo) >= _MEMO_LIMIT:
            _memo.clear()
        _memo[prefix] = topic
    out.topics.append(topic)
    out.raws.append(raw)


def _read_status(element: bytes) -> Status:
    """Read a status; what the vendor may mean by our words does not make it unreadable."""
    try:
        return _status.decode(element)
    except msgspec.ValidationError:
        plain = _plain_status.decode(element)
        return Status(status=plain.status, message=plain.message)


def _salvage(frame: bytes, out: Split) -> None:
    """Keep what can be read of a broken frame: every flat object in it that parses."""
    start = frame.find(b"{")
    if start < 0:
        out.garbage.append(frame)
        return
    while start >= 0:
        following = frame.find(b"{", start + 1)
        end = frame.rfind(b"}", start, following if following >= 0 else len(frame)) + 1
        stop = following if following >= 0 else len(frame)
        _file(frame[start : end or stop], out)
        start = following


def array(raws: Iterable[bytes]) -> bytes:
    """Put events together as one frame."""
    return b"[{" + b"},{".join(raws) + b"}]"


def pack(raws: Sequence[bytes]) -> list[bytes]:
    """Put events together as frames every official client can read."""
    if not raws:
        return []
    if sum(map(len, raws)) + 3 * len(raws) + 4 < MAX_FRAME_BYTES:
        return [array(raws)]
    frames: list[bytes] = []
    batch: list[bytes] = []
    size = 4
    for raw in raws:
        if batch and size + len(raw) + 3 >= MAX_FRAME_BYTES:
            frames.append(array(batch))
            batch, size = [], 4
        batch.append(raw)
        size += len(raw) + 3
    frames.append(array(batch))
    return frames


def status_frame(status: str, message: str, **extra: object) -> bytes:
    """Say something about the connection; the official client needs `ev` and `message`."""
    return array([status_event(status, message, **extra)])


def status_event(status: str, message: str, **extra: object) -> bytes:
    """Encode one status event, for an array of several."""
    return _encode({"ev": "status", "status": status, "message": message} | extra)


# server → client: events, typed

# One struct per channel, so that a frame is read in one pass whatever it mixes.

_Ms = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]  # 1970 to 2100, else no time
_PROVIDER: Final = "massive"


class _Wire(msgspec.Struct, tag_field="ev", gc=False):
    """An event as it travels; without a model of ours unless its channel has one."""

    def model(self, received_ns: int, simulated: bool) -> Quote | Trade | Bar | None:  # noqa: FBT001 - the hot path
        return None

    def topic(self) -> Topic:
        key: Any = self
        return Topic(f"{self.__struct_config__.tag}.{key.sym}")


class _Quote(_Wire, tag="Q", gc=False):
    sym: str
    t: _Ms
    bp: float | None = None
    ap: float | None = None
    bs: float | None = None
    as_: float | None = msgspec.field(default=None, name="as")
    bx: int | None = None
    ax: int | None = None
    q: int | None = None

    def model(self, received_ns: int, simulated: bool) -> Quote:  # noqa: FBT001 - the hot path
        return Quote(
            symbol=self.sym,
            event_ns=self.t * _MS,
            received_ns=received_ns,
            provider=_PROVIDER,
            simulated=simulated,
            bid=self.bp,
            ask=self.ap,
            bid_size=self.bs,
            ask_size=self.as_,
            bid_exchange=self.bx,
            ask_exchange=self.ax,
            sequence=self.q,
        )


class _Trade(_Wire, tag="T", gc=False):
    sym: str
    p: float
    s: float
    t: _Ms
    x: int | None = None
    c: tuple[int, ...] = ()
    q: int | None = None

    def model(self, received_ns: int, simulated: bool) -> Trade:  # noqa: FBT001 - the hot path
        return Trade(
            symbol=self.sym,
            event_ns=self.t * _MS,
            received_ns=received_ns,
            provider=_PROVIDER,
            simulated=simulated,
            price=self.p,
            size=self.s,
            exchange=self.x,
            conditions=self.c,
            sequence=self.q,
        )


class _Second(_Wire, tag="A", gc=False):
    sym: str
    o: float
    c: float
    h: float
    low: float = msgspec.field(name="l")
    s: _Ms
    e: _Ms
    v: float | None = None
    vw: float | None = None

    def model(self, received_ns: int, simulated: bool) -> Bar:  # noqa: FBT001 - the hot path
        return Bar(
            symbol=self.sym,
            event_ns=self.s * _MS,
            received_ns=received_ns,
            provider=_PROVIDER,
            simulated=simulated,
            end_ns=self.e * _MS,
            open=self.o,
            high=self.h,
            low=self.low,
            close=self.c,
            volume=self.v,
            vwap=self.vw,
        )


class _Minute(_Second, tag="AM", gc=False):
    pass


class _Value(_Wire, tag="V", gc=False):
    sym: str = msgspec.field(name="T")
    val: float
    t: _Ms

    def model(self, received_ns: int, simulated: bool) -> Quote:  # noqa: FBT001 - the hot path
        return Quote(
            symbol=self.sym,
            event_ns=self.t * _MS,
            received_ns=received_ns,
            provider=_PROVIDER,
            simulated=simulated,
            last=self.val,
        )


class _Band(_Wire, tag="LULD", gc=False):
    sym: str = msgspec.field(name="T")


class _Imbalance(_Wire, tag="NOI", gc=False):
    sym: str = msgspec.field(name="T")


class _FairValue(_Wire, tag="FMV", gc=False):
    sym: str


_Event = _Quote | _Trade | _Second | _Minute | _Value | _Band | _Imbalance | _FairValue
_event: Final[msgspec.json.Decoder[_Event]] = msgspec.json.Decoder(_Event)
_events: Final[msgspec.json.Decoder[list[_Event]]] = msgspec.json.Decoder(list[_Event])


class Batch(NamedTuple):
    """One server frame, read as far as it can be: what `Split` is to who passes bytes on."""

    wires: Sequence[_Event]
    statuses: Sequence[Status] = ()
    garbage: Sequence[bytes] = ()
    undecodable: int = 0  # a field is missing or of another type, or a channel nobody knows

    @property
    def size(self) -> int:
        """How many events there are, those that cannot be read included."""
        return len(self.wires) + self.undecodable

    @property
    def topics(self) -> list[Topic]:
        """The topic of each event that was read."""
        return [wire.topic() for wire in self.wires]

    def models(self, *, received_ns: int, simulated: bool = False) -> list[Quote | Trade | Bar]:
        """Return the events in order, but for channels without a model here (LULD, NOI, FMV).

        The value of an index is a quote that has a last price and nothing else.
        """
        return [
            model
            for wire in self.wires
            if (model := wire.model(received_ns, simulated)) is not None
        ]


def read(frame: bytes) -> Batch:
    """Read one server frame. Never raises; an event that cannot be read is counted."""
    try:
        return Batch(_events.decode(frame))
    except UNREADABLE:
        return _read_each(split(frame))


def _read_each(parts: Split) -> Batch:
    """Read a frame that holds a status, or something that cannot be read."""
    wires: list[_Event] = []
    for raw in parts.raws:
        with contextlib.suppress(*UNREADABLE):
            wires.append(_event.decode(b"{" + raw + b"}"))
    return Batch(wires, parts.statuses, parts.garbage, len(parts.raws) - len(wires))


def decode(
    topic: Topic, raw: bytes, *, received_ns: int, simulated: bool = False
) -> Quote | Trade | Bar | None:
    """Read one event of a `Split`; None for channels without a model here (LULD, NOI, FMV).

    Raises:
        InvalidFrame: a field is missing or of another type.
    """
    try:
        wire = _event.decode(b"{" + raw + b"}")
    except UNREADABLE as error:
        raise InvalidFrame(f"{topic}: {error}") from error
    return wire.model(received_ns, simulated)


# server → client: events, written in the vendor's key order


def _encode(event: dict[str, object]) -> bytes:
    return msgspec.json.encode(event)[1:-1]


def event(ev: str, **fields: object) -> bytes:
    """Encode one event from the vendor's own short keys, in the order given.

    Keys that are Python words take a trailing underscore (`as_`); a value of None
    is left out, as the vendor does.
    """
    named = {key.rstrip("_"): value for key, value in fields.items() if value is not None}
    return _encode({"ev": ev} | named)
