"""The vendor's WebSocket grammar, both sides of it.

A client sends single JSON objects, `{"action":…,"params":…}`. A server sends JSON
arrays of flat event objects, any number of any channels per array. One event's
`raw` is the vendor's own bytes between the braces: a frame is taken apart and put
together with one split and one join on `},{`, and what a reader gets is what the
vendor sent.

Shared by the upstream edge, the gateway's sessions and the simulator; the golden
bytes in the tests pin all three to the vendor's transcript rather than to each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from onetape.errors import InvalidFrame, InvalidTopic
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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    """An event about the connection, not the market."""

    status: str
    message: str = ""


class Split(NamedTuple):
    """One upstream frame, taken apart; `topics[i]` names `raws[i]`."""

    topics: list[Topic]
    raws: list[bytes]
    statuses: list[Status]
    garbage: list[bytes]


class _Key(msgspec.Struct, gc=False):
    """What of an event says where it goes. The ticker's key differs by channel."""

    ev: str
    sym: str | None = None
    T: str | None = None
    pair: str | None = None


_elements = msgspec.json.Decoder(list[msgspec.Raw])
_key = msgspec.json.Decoder(_Key)
_status = msgspec.json.Decoder(Status)

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
    except (msgspec.DecodeError, UnicodeDecodeError):
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
            out.statuses.append(_status.decode(element))
            return
    except (msgspec.DecodeError, UnicodeDecodeError):
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


class _Trade(msgspec.Struct):
    sym: str
    p: float
    s: float
    t: int
    x: int | None = None
    c: tuple[int, ...] = ()
    q: int | None = None


class _Quote(msgspec.Struct):
    sym: str
    t: int
    bp: float | None = None
    ap: float | None = None
    bs: float | None = None
    as_: float | None = msgspec.field(default=None, name="as")
    bx: int | None = None
    ax: int | None = None
    q: int | None = None


class _Aggregate(msgspec.Struct):
    sym: str
    o: float
    c: float
    h: float
    low: float = msgspec.field(name="l")
    s: int
    e: int
    v: float | None = None
    vw: float | None = None


class _Value(msgspec.Struct):
    T: str
    val: float
    t: int


_trade = msgspec.json.Decoder(_Trade)
_quote = msgspec.json.Decoder(_Quote)
_aggregate = msgspec.json.Decoder(_Aggregate)
_value = msgspec.json.Decoder(_Value)


def decode(
    topic: Topic, raw: bytes, *, received_ns: int, simulated: bool = False
) -> Quote | Trade | Bar | None:
    """Read one event; None for channels without a model here (LULD, NOI, FMV).

    The value of an index is a quote that has a last price and nothing else.

    Raises:
        InvalidFrame: a field is missing or of another type.
    """
    channel, symbol = split_topic(topic)
    common: dict[str, Any] = {
        "symbol": symbol,
        "received_ns": received_ns,
        "provider": "massive",
        "simulated": simulated,
    }
    element = b"{" + raw + b"}"
    try:
        match channel:
            case "Q":
                return _as_quote(_quote.decode(element), common)
            case "T":
                return _as_trade(_trade.decode(element), common)
            case "A" | "AM":
                return _as_bar(_aggregate.decode(element), common)
            case "V":
                value = _value.decode(element)
                return Quote(event_ns=value.t * _MS, last=value.val, **common)
            case _:
                return None
    except msgspec.DecodeError as error:
        raise InvalidFrame(f"{topic}: {error}") from error


def _as_quote(quote: _Quote, common: dict[str, Any]) -> Quote:
    return Quote(
        event_ns=quote.t * _MS,
        bid=quote.bp,
        ask=quote.ap,
        bid_size=quote.bs,
        ask_size=quote.as_,
        bid_exchange=quote.bx,
        ask_exchange=quote.ax,
        sequence=quote.q,
        **common,
    )


def _as_trade(trade: _Trade, common: dict[str, Any]) -> Trade:
    return Trade(
        event_ns=trade.t * _MS,
        price=trade.p,
        size=trade.s,
        exchange=trade.x,
        conditions=trade.c,
        sequence=trade.q,
        **common,
    )


def _as_bar(bar: _Aggregate, common: dict[str, Any]) -> Bar:
    return Bar(
        event_ns=bar.s * _MS,
        end_ns=bar.e * _MS,
        open=bar.o,
        high=bar.h,
        low=bar.low,
        close=bar.c,
        volume=bar.v,
        vwap=bar.vw,
        **common,
    )


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
