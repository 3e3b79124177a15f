"""Tradier's stream: leave to connect, what is sent, and what its events say.

A client sends one object, and again whenever it wants something else: what it sends
replaces what it sent. A server sends objects, a line each:

    quote                     bid and ask, dated to the second        ──▶ Quote
    trade, tradex, timesale   three accounts of one print             ──▶ Trade, from one of them
                              of an index: its value, size 0          ──▶ Quote with `last` alone
    summary                   not read: it has no date
    {"error": "…"}            a symbol or the session is refused

Idle symbols get their last event again about every 20 seconds. An event is old when its
date is; on the same date a quote is when it says the same, and a print when it was seen.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from onetape.errors import UNREADABLE, InvalidSymbol, UpstreamGarbled
from onetape.model import Quote, Trade
from onetape.provenance import Source
from onetape.secret import Secret
from onetape.symbols import to_tradier
from onetape.tradier.shapes import PROVIDER, Number
from onetape.tradier.wire_rest import epoch_ns, number

Prints = Literal["trade", "tradex", "timesale"]
"""Which account of a print is read. `trade` is of the regular session alone."""

NOBODY: Final = "$empty$"
"""What stands for no symbol at all; an empty list is refused."""


class StreamSession(NamedTuple):
    """Leave to connect one stream. The id is a credential, good for five minutes."""

    session_id: Secret
    url: str


class _Stream(msgspec.Struct):
    sessionid: Annotated[str, msgspec.Meta(min_length=1)]
    url: str = ""


class _SessionBody(msgspec.Struct):
    stream: _Stream


_session = msgspec.json.Decoder(_SessionBody)


def parse_session(body: bytes) -> StreamSession:
    """Read the answer of `/markets/events/session`. Its address is of the HTTP stream.

    Raises:
        UpstreamGarbled: there is no session in it.
    """
    try:
        stream = _session.decode(body).stream
    except UNREADABLE as error:
        raise UpstreamGarbled("Tradier's answer has no session") from error
    return StreamSession(Secret(stream.sessionid), stream.url)


class _Subscription(msgspec.Struct):
    symbols: list[str]
    sessionid: str
    filter: list[str]
    linebreak: bool = True
    validOnly: bool = True  # noqa: N815 - theirs
    advancedDetails: bool = True  # noqa: N815 - theirs


def subscription(
    names: Mapping[str, str], session_id: Secret, *, prints: Prints = "timesale"
) -> bytes:
    """Write the frame that makes the stream carry exactly these: our symbols by Tradier's."""
    kinds = ["quote", prints]
    if prints != "trade" and any(symbol.startswith("I:") for symbol in names.values()):
        kinds.append("trade")  # how the values of an index come
    return msgspec.json.encode(_Subscription(sorted(names) or [NOBODY], session_id.reveal(), kinds))


def wire_names(symbols: Iterable[str]) -> tuple[dict[str, str], frozenset[str]]:
    """Return the symbols by the name Tradier gives them, and those it has no name for."""
    names: dict[str, str] = {}
    refused: set[str] = set()
    for symbol in symbols:
        try:
            names[to_tradier(symbol)] = symbol
        except InvalidSymbol:
            refused.add(symbol)
    return names, frozenset(refused)


# events


class _Event(msgspec.Struct):
    type: str | None = None
    symbol: str | None = None
    error: str | None = None
    bid: Number = None
    ask: Number = None
    bidsz: Number = None
    asksz: Number = None
    biddate: Number = None
    askdate: Number = None
    price: Number = None
    last: Number = None
    size: Number = None
    cvol: Number = None
    date: Number = None
    seq: Number = None
    exch: str | None = None
    cancel: bool | str = False
    correction: bool | str = False


_event = msgspec.json.Decoder(_Event)


class Parsed(NamedTuple):
    """What one frame says: news, refusals, lines that nobody can read, and lines without news."""

    events: list[Quote | Trade]
    errors: list[str]
    garbage: list[bytes]
    quiet: int


class StreamStatistics(NamedTuple):
    """Counts since the start: of lines, and why some of them were no events."""

    lines: int
    old: int
    ignored: int
    garbled: int


_Numbers = tuple[float | None, float | None, float | None, float | None]


class _Tape:
    """What was last seen of one symbol, to know an old event again."""

    __slots__ = ("prints", "prints_ns", "quote", "quote_ns")

    def __init__(self) -> None:
        self.quote_ns = self.prints_ns = 0
        self.quote: _Numbers | None = None
        self.prints: set[_Numbers] = set()  # those of `prints_ns`

    def is_news(self, event_ns: int, said: _Numbers) -> bool:
        """Tell whether a print was not seen before, and remember it."""
        if event_ns > self.prints_ns:
            self.prints_ns = event_ns
            self.prints = {said}
            return True
        if event_ns < self.prints_ns or said in self.prints:
            return False
        self.prints.add(said)
        return True


class StreamParser:
    """Reads the stream's frames, and forgets what is old. One per stream, over its reconnects.

    Args:
        prints: Which of the accounts of a print to read.
        round_lot: The unit of a stock's quoted sizes.
        simulated: Tells whether a simulator made it all up.
    """

    def __init__(
        self, *, prints: Prints = "timesale", round_lot: float = 1.0, simulated: bool = False
    ) -> None:
        self._prints = prints
        self._round_lot = round_lot
        self._simulated = simulated
        self._names: Mapping[str, str] = {}
        self._tapes: dict[str, _Tape] = {}
        self._lines = self._old = self._ignored = self._garbled = 0

    def name(self, names: Mapping[str, str]) -> None:
        """Say what is subscribed: our symbols by Tradier's. Others' events are ignored."""
        self._names = names
        for gone in self._tapes.keys() - names.keys():
            del self._tapes[gone]

    def parse(self, frame: bytes, *, received_ns: int) -> Parsed:
        """Read one frame. Never raises: what cannot be read is in `garbage`."""
        out = Parsed([], [], [], 0)
        quiet = self._old + self._ignored
        # Without line breaks objects are run together; a string that holds `}{` would be
        # lost, but there is none in what is read here.
        for line in frame.replace(b"}{", b"}\n{").splitlines():
            if line and not line.isspace():
                self._read(line, received_ns, out)
        return out._replace(quiet=self._old + self._ignored - quiet)

    def statistics(self) -> StreamStatistics:
        """Count everything."""
        return StreamStatistics(self._lines, self._old, self._ignored, self._garbled)

    # private

    def _read(self, line: bytes, received_ns: int, out: Parsed) -> None:
        self._lines += 1
        try:
            event = _event.decode(line)
        except UNREADABLE:
            self._garbled += 1
            out.garbage.append(line)
            return
        if event.error is not None:
            out.errors.append(event.error)
            return
        found = self._event(event, received_ns)
        if found is not None:
            out.events.append(found)

    def _event(self, event: _Event, received_ns: int) -> Quote | Trade | None:
        name = event.symbol or ""
        symbol = self._names.get(name)
        if symbol is None:
            self._ignored += 1
            return None
        tape = self._tapes.get(name)
        if tape is None:
            tape = self._tapes[name] = _Tape()
        if event.type == "quote":
            return self._quote(event, symbol, tape, received_ns)
        if event.type == ("trade" if symbol.startswith("I:") else self._prints):
            return self._print(event, symbol, tape, received_ns)
        self._ignored += 1
        return None

    def _quote(self, event: _Event, symbol: str, tape: _Tape, received_ns: int) -> Quote | None:
        times = (epoch_ns(event.biddate), epoch_ns(event.askdate))
        event_ns = max((at for at in times if at), default=None)
        bid, ask = number(event.bid), number(event.ask) or None
        lot = 1.0
        if not symbol.startswith("O:"):  # there alone, a bid of 0 is a bid
            bid, lot = bid or None, self._round_lot
        said = (bid, ask, number(event.bidsz), number(event.asksz))
        at_ns = tape.quote_ns if event_ns is None else event_ns
        if at_ns < tape.quote_ns or (at_ns == tape.quote_ns and said == tape.quote):
            self._old += 1
            return None
        tape.quote_ns, tape.quote = at_ns, said
        return Quote(
            symbol=symbol,
            event_ns=event_ns,
            received_ns=received_ns,
            provider=PROVIDER,
            source=Source.STREAM,
            simulated=self._simulated,
            bid=bid,
            ask=ask,
            bid_size=None if bid is None or said[2] is None else said[2] * lot,
            ask_size=None if ask is None or said[3] is None else said[3] * lot,
        )

    def _print(
        self, event: _Event, symbol: str, tape: _Tape, received_ns: int
    ) -> Quote | Trade | None:
        event_ns, size = epoch_ns(event.date), number(event.size)
        price = number(event.last if event.price is None else event.price)
        is_index = symbol.startswith("I:")
        if event_ns is None or price is None or not (size or is_index) or _is_undone(event):
            self._ignored += 1
            return None
        if not tape.is_news(event_ns, (number(event.seq), number(event.cvol), price, size)):
            self._old += 1
            return None
        if is_index:
            return Quote(
                symbol=symbol,
                event_ns=event_ns,
                received_ns=received_ns,
                provider=PROVIDER,
                source=Source.STREAM,
                simulated=self._simulated,
                last=price,
            )
        return Trade(
            symbol=symbol,
            event_ns=event_ns,
            received_ns=received_ns,
            provider=PROVIDER,
            source=Source.STREAM,
            simulated=self._simulated,
            price=price,
            size=size or 0.0,
            sequence=_whole(event.seq),
        )


def _is_undone(event: _Event) -> bool:
    """Tell whether a print takes another one back; we cannot, and must not count it again."""
    return any(said in (True, "true") for said in (event.cancel, event.correction))


def _whole(value: Number) -> int | None:
    found = number(value)
    return None if found is None else int(found)
