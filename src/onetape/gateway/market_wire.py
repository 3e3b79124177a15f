"""What `/ws/market` takes and says: its keys, its statuses, and the latest of each key.

One part of the market is encoded once, whoever reads it:

    update ──▶ latest ─┬─ whole, for newcomers and those who missed one
                       └─ what changed since the one before, for a chain's other readers

An encoded whole is kept for a second, so that many who come at once cost one encoding;
`at_ns` tells when that was. Nothing is encoded that nobody asks for. Events are bytes
without their braces, as `wire_stream.array` joins them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from onetape import market_json
from onetape.consolidation import Key, Kind, Part
from onetape.errors import BY_CODE, InvalidTopic
from onetape.market_events import place
from onetape.massive.wire_stream import status_event
from onetape.model import MarketDataSnapshot, MarketDataTick, OptionChain, OptionSnapshot, Topic
from onetape.symbols import normalize_symbol

SLICE: Final = 200
"""Contracts in one event: it stays well below the largest frame that clients read."""

EVENT_BYTES: Final = 500_000
"""A snapshot's events are no larger, but for one part that is."""

_KEPT_NS: Final = 1_000_000_000
_SECTIONS: Final[Mapping[Kind, str]] = {
    Kind.CHAIN: "chains",
    Kind.INDEX: "indices",
    Kind.EQUITY: "equities",
    Kind.FLOW: "flows",
}
_encode: Final = msgspec.json.Encoder().encode


class Difference(NamedTuple):
    """What makes one chain of another."""

    changed: tuple[OptionSnapshot, ...]
    removed: tuple[str, ...]


def difference(before: OptionChain, after: OptionChain) -> Difference | None:
    """Return what to merge into a chain; None when the whole is as short, or order would be lost.

    Merging keeps contracts where they are; with new ones among them, it sorts them all.
    """
    known = {one.symbol: one for one in before.contracts}
    changed: list[OptionSnapshot] = []
    added = 0
    for one in after.contracts:
        old = known.pop(one.symbol, None)
        added += old is None
        if old is not one and old != one:
            changed.append(one)
    if changed and len(changed) == len(after.contracts):
        return None
    order = [one.symbol for one in after.contracts]
    if added:
        merged = [one.symbol for one in sorted(after.contracts, key=place)]
    else:
        merged = [one.symbol for one in before.contracts if one.symbol not in known]
    if merged != order:
        return None
    return Difference(tuple(changed), tuple(known))


def part_of(tick: MarketDataTick) -> tuple[Key, Part]:
    """Return what a tick is about, and what it says."""
    for kind, part in (
        (Kind.EQUITY, tick.equity),
        (Kind.INDEX, tick.index),
        (Kind.CHAIN, tick.chain),
        (Kind.FLOW, tick.flow),
    ):
        if part is not None:
            return Key(kind, tick.symbol), part
    raise AssertionError("a tick has one part")


def part_in(snapshot: MarketDataSnapshot, key: Key) -> Part | None:
    """Return one part of a snapshot."""
    match key.kind:
        case Kind.CHAIN:
            return snapshot.chains.get(key.symbol)
        case Kind.INDEX:
            return snapshot.indices.get(key.symbol)
        case Kind.EQUITY:
            return snapshot.equities.get(key.symbol)
        case Kind.FLOW:
            return snapshot.flows.get(key.symbol)


def parse_key(name: str) -> Key:
    """Read a key as a client writes it: `equity:SPY`, `index:SPX`, `chain:SPX`.

    Raises:
        InvalidTopic: it is not KIND:SYMBOL.
        InvalidSymbol: its symbol has no shape that we know.
    """
    kind, colon, symbol = name.partition(":")
    if not (colon and symbol) or kind not in set(Kind):
        kinds = ", ".join(sorted(Kind))
        raise InvalidTopic(f"{name[:80]!r} is not KIND:SYMBOL; there are {kinds}")
    return Key(Kind(kind), normalize_symbol(symbol))


class Latest:
    """The latest of one key, and its events."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.topic = topic_of(key)
        self.datum: Part | None = None
        self.sequence = -1
        self._before: OptionChain | None = None
        self._before_sequence = -1
        self._slices: tuple[bytes, ...] = ()  # of the whole
        self._whole: tuple[bytes, ...] = ()
        self._written_ns = 0
        self._change: tuple[bytes, ...] | None = None

    def update(self, datum: Part, sequence: int) -> bool:
        """Take what is newer; tell whether it was."""
        if sequence <= self.sequence:
            return False
        self._before = self.datum if isinstance(self.datum, OptionChain) else None
        self._before_sequence = self.sequence
        self.datum, self.sequence = datum, sequence
        self._slices = self._whole = ()
        self._change = None
        return True

    def events(self, held: int | None, now_ns: int) -> Sequence[bytes]:
        """Return what brings a reader up to date whose last event was of sequence `held`."""
        if held is not None and held == self._before_sequence:
            if self._change is None:
                self._change = tuple(self._changes(now_ns))
            if self._change:
                return self._change
        self.slices(now_ns)
        if not self._whole:
            self._whole = tuple(self._wholes())
        return self._whole

    def slices(self, now_ns: int) -> Sequence[bytes]:
        """Return the datum itself, a long chain in several; none without a datum."""
        if self._slices and now_ns - self._written_ns >= _KEPT_NS:
            self.trim(now_ns)
        if not self._slices and self.datum is not None:
            self._slices = tuple(market_json.encode(one, now_ns) for one in _sliced(self.datum))
            self._written_ns = now_ns
        return self._slices

    def trim(self, now_ns: int) -> None:
        """Keep no encoded whole that is a second old."""
        if now_ns - self._written_ns >= _KEPT_NS:
            self._slices = self._whole = ()

    def _wholes(self) -> Iterator[bytes]:
        last = len(self._slices) - 1
        for number, data in enumerate(self._slices):
            if self.key.kind is Kind.CHAIN:
                since = None if number == 0 else self.sequence
                yield self._chain_event(data, since=since, more=number < last)
            else:
                yield self._event(data, self._written_ns)

    def _changes(self, now_ns: int) -> Iterator[bytes]:
        before, after = self._before, self.datum
        if before is None or not isinstance(after, OptionChain):
            return
        found = difference(before, after)
        if found is None:
            return
        slices = list(_sliced(msgspec.structs.replace(after, contracts=found.changed)))
        for number, one in enumerate(slices):
            yield self._chain_event(
                market_json.encode(one, now_ns),
                since=self.sequence if number else self._before_sequence,
                more=number < len(slices) - 1,
                removed=() if number else found.removed,
                at_ns=now_ns,
            )

    def _chain_event(
        self,
        data: bytes,
        *,
        since: int | None,
        more: bool,
        removed: Sequence[str] = (),
        at_ns: int | None = None,
    ) -> bytes:
        return self._event(
            data,
            self._written_ns if at_ns is None else at_ns,
            full=since is None,
            since=since,
            more=more,
            removed=removed,
        )

    def _event(self, data: bytes, at_ns: int, **extra: object) -> bytes:
        said = {"ev": self.key.kind, "symbol": self.key.symbol, "at_ns": at_ns}
        said |= {"sequence": self.sequence, **extra, "data": msgspec.Raw(data)}
        return _encode(said)[1:-1]


def topic_of(key: Key) -> Topic:
    """Write a key as a client does: `chain:SPY`."""
    return Topic(f"{key.kind}:{key.symbol}")


def snapshot_events(
    parts: Iterable[Latest], missing: Mapping[str, str], *, sequence: int, now_ns: int
) -> list[bytes]:
    """Return one snapshot of these parts, in as many events as it takes."""
    batches: list[dict[str, dict[str, msgspec.Raw]]] = [{}]
    size_bytes = 0
    for part in parts:
        section = _SECTIONS[part.key.kind]
        for data in part.slices(now_ns):
            size_bytes += len(data)
            if size_bytes > EVENT_BYTES or part.key.symbol in batches[-1].get(section, ()):
                batches.append({})
                size_bytes = len(data)
            batches[-1].setdefault(section, {})[part.key.symbol] = msgspec.Raw(data)
    instant = {"at_ns": now_ns, "sequence": sequence}
    return [
        _encode(
            {"ev": "snapshot", **instant, "more": number < len(batches)}
            | {"data": instant | batch | ({"missing": missing} if number == 1 else {})}
        )[1:-1]
        for number, batch in enumerate(batches, start=1)
    ]


def trouble(topic: Topic, status: str, why: str) -> bytes:
    """Say that a key has no data yet, or none that is new, and why."""
    if status == "data_failed":
        said = f"{topic} is not renewed, and stays as it was: {why}"
        return status_event("data_failed", said, code=_code_of(why), topic=topic)
    said = f"{topic} has no data yet: {why}"
    if " " in why:  # in words: nothing is wrong so far
        return status_event("no_data_yet", said, topic=topic)
    return status_event("no_data_yet", said, code=_code_of(why), topic=topic)


def _code_of(why: str) -> str:
    if why == TimeoutError.__name__:
        return "upstream_timeout"
    return why if why in BY_CODE else "provider_failed"


def _sliced(datum: Part) -> Iterator[Part]:
    """Part a long chain into shorter ones; anything else is one slice."""
    if not isinstance(datum, OptionChain) or len(datum.contracts) <= SLICE:
        yield datum
        return
    for start in range(0, len(datum.contracts), SLICE):
        contracts = datum.contracts[start : start + SLICE]
        yield msgspec.structs.replace(datum, contracts=contracts)
