"""The consolidated view as a machine: what is watched, what is known of it, what is due.

Sans-I/O. Data comes in from polls and streams; of two for one key the newer by the
exchange's time stays, whichever way it came. Out go the polls that are due, and what
changed since the last flush: of each key the latest only.

    watch ──▶ due ──▶ asked ──▶ known ⇄ failed (the last good value stays, and is marked)
      │                           │
      └── watch without it ───────┴──▶ gone: value, failure and all

A key that is heard from is not asked: polling is for what is not streamed, or fell silent.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from onetape.model import (
    AssetClass,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    MarketDataTick,
    OptionChain,
    Quote,
)
from onetape.quality.reasons import reason
from onetape.quality.score import noted
from onetape.symbols import asset_class

Part = OptionChain | IndexSnapshot | Quote | Flow
P = TypeVar("P", OptionChain, IndexSnapshot, Quote, Flow)
_Seconds = Annotated[float, Meta(gt=0)]


class Kind(StrEnum):
    """The parts of the view."""

    CHAIN = "chain"
    INDEX = "index"
    EQUITY = "equity"
    FLOW = "flow"


class Key(NamedTuple):
    """One part of one symbol, in the vendor's form."""

    kind: Kind
    symbol: str


def price_key(symbol: str) -> Key:
    """Return the part that has the price of a stock or an index."""
    is_index = asset_class(symbol) is AssetClass.INDICES
    return Key(Kind.INDEX if is_index else Kind.EQUITY, symbol)


class HubPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is watched, and how often it is looked at when it is not streamed."""

    watchlist: tuple[str, ...] = ()
    indices: tuple[str, ...] = ("I:SPX", "I:NDX", "I:VIX")
    refresh_s: _Seconds = 5.0
    chain_s: _Seconds = 20.0  # chains are long; their quotes are streamed in between
    flow_s: _Seconds = 60.0
    closed_s: _Seconds = 60.0  # the least while the market is closed
    batch_s: _Seconds = 0.1
    streaming: bool = True
    flow: bool = False
    max_pending: Annotated[int, Meta(gt=0)] = 1_000  # keys that may wait for one reader
    max_watched: Annotated[int, Meta(gt=0)] = 500  # parts; each costs the vendor's requests
    chain_days: Annotated[int, Meta(gt=0)] = 10  # of a watched chain: expirations within
    chain_width: Annotated[float, Meta(gt=0, le=1)] = 0.04  # and strikes within 4 % of the price

    @classmethod
    def development(cls, **changes: object) -> "HubPolicy":
        """Look every 10 s."""
        return msgspec.convert({"refresh_s": 10.0} | changes, cls)

    @classmethod
    def production(cls, **changes: object) -> "HubPolicy":
        """Look every 5 s."""
        return msgspec.convert({"refresh_s": 5.0} | changes, cls)

    @classmethod
    def low_latency(cls, **changes: object) -> "HubPolicy":
        """Look every second, and stream."""
        return msgspec.convert({"refresh_s": 1.0, "streaming": True} | changes, cls)

    def every_s(self, kind: Kind) -> float:
        """Return how often one kind is looked at while the market is open."""
        intervals = {Kind.CHAIN: max(self.chain_s, self.refresh_s), Kind.FLOW: self.flow_s}
        return intervals.get(kind, self.refresh_s)


class Changed(NamedTuple):
    """What a change of the watchlist begins and ends."""

    added: tuple[Key, ...]
    removed: tuple[Key, ...]


class ConsolidationStatistics(NamedTuple):
    """A snapshot for metrics. Counts are since the start."""

    watched: int
    known: int
    failed: int
    accepted: int
    outdated: int  # older than what is known; not taken
    unwanted: int  # of what is not watched, or no longer
    ticks: int
    snapshots: int


class _Entry:
    """What is known of one key."""

    __slots__ = ("asked_at", "at_ns", "datum", "has_failed", "heard_at", "why")

    def __init__(self) -> None:
        self.datum: Part | None = None
        self.at_ns = 0
        self.heard_at = float("-inf")
        self.asked_at = float("-inf")
        self.why: str | None = "not asked for yet"  # without a value, or with an old one
        self.has_failed = False


class Consolidation:
    """The machine. `now` is seconds on the monotonic clock, `now_ns` nanoseconds UTC."""

    def __init__(self, policy: HubPolicy) -> None:
        self._policy = policy
        self._entries: dict[Key, _Entry] = {}
        self._changed: dict[Key, None] = {}  # since the last flush, in the order of change
        self._sequence = 0
        self._accepted = self._outdated = self._unwanted = self._ticks = self._snapshots = 0

    # what is watched

    def watch(self, keys: Iterable[Key]) -> Changed:
        """Watch exactly these; forget the others."""
        wanted = dict.fromkeys(keys)
        removed = tuple(key for key in self._entries if key not in wanted)
        added = tuple(key for key in wanted if key not in self._entries)
        for key in removed:
            del self._entries[key]
            self._changed.pop(key, None)
        for key in added:
            self._entries[key] = _Entry()
        return Changed(added, removed)

    @property
    def keys(self) -> tuple[Key, ...]:
        """What is watched."""
        return tuple(self._entries)

    def keys_of(self, symbols: Iterable[str]) -> Iterator[Key]:
        """Return the parts of a watchlist's symbols, and the policy's indices."""
        for symbol in symbols:
            yield price_key(symbol)
            yield Key(Kind.CHAIN, symbol)
            if self._policy.flow:
                yield Key(Kind.FLOW, symbol)
        for symbol in self._policy.indices:
            yield Key(Kind.INDEX, symbol)

    # what is due

    def due(self, now: float, *, market_open: bool) -> tuple[Key, ...]:
        """Return what is to be asked now, and take it as asked."""
        due = [
            key
            for key, entry in self._entries.items()
            if now - max(entry.asked_at, entry.heard_at)
            >= self._wait_s(key, has_failed=entry.has_failed, market_open=market_open)
        ]
        for key in due:
            self._entries[key].asked_at = now
        return tuple(due)

    def _wait_s(self, key: Key, *, has_failed: bool, market_open: bool) -> float:
        wait_s = self._policy.refresh_s if has_failed else self._policy.every_s(key.kind)
        if not market_open:
            wait_s = max(wait_s, self._policy.closed_s)
        return wait_s - min(0.01, wait_s / 10)  # a loop that wakes a little early is on time

    # what comes in

    def offer(self, key: Key, datum: Part, now: float) -> bool:
        """Take a datum, from wherever, unless a newer one is known; tell whether it was taken."""
        entry = self._entries.get(key)
        if entry is None:
            self._unwanted += 1
            return False
        at_ns = time_of(datum)
        if entry.datum is not None and at_ns < entry.at_ns:
            self._outdated += 1
            return False
        entry.heard_at = now
        was_marked = entry.datum is not None and entry.why is not None
        entry.why, entry.has_failed = None, False
        if entry.datum == datum and not was_marked:
            return False
        entry.datum, entry.at_ns = datum, at_ns
        self._accepted += 1
        self._changed.pop(key, None)
        self._changed[key] = None
        return True

    def fail(self, key: Key, why: str) -> None:
        """Note that a key could not be had; its last good value stays, and is marked."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.datum is not None and entry.why != why:
            self._changed.setdefault(key)
        entry.why, entry.has_failed = why, True

    # what is known

    def get(self, key: Key) -> Part | None:
        """Return the value; one whose renewal failed is marked as the last good one."""
        entry = self._entries.get(key)
        if entry is None or entry.datum is None:
            return None
        return entry.datum if entry.why is None else _marked(entry.datum, entry.why)

    def why(self, key: Key) -> str | None:
        """Return why there is no value, or no newer one; None when all is well."""
        entry = self._entries.get(key)
        return "not watched" if entry is None else entry.why

    @property
    def has_changes(self) -> bool:
        """Whether a flush would return anything."""
        return bool(self._changed)

    def flush(self, now_ns: int) -> list[MarketDataTick]:
        """Return a tick for each key that changed since the last flush."""
        changed, self._changed = self._changed, {}
        ticks: list[MarketDataTick] = []
        for key in changed:
            datum = self.get(key)
            if datum is not None:
                self._sequence += 1
                ticks.append(_tick(key, datum, now_ns, self._sequence))
        self._ticks += len(ticks)
        return ticks

    def snapshot(self, now_ns: int) -> MarketDataSnapshot:
        """Return the whole view, which nobody can change."""
        parts: dict[Kind, dict[str, Part]] = {kind: {} for kind in Kind}
        missing: dict[str, str] = {}
        for key, entry in self._entries.items():
            datum = self.get(key)
            if datum is None:
                missing[f"{key.kind}:{key.symbol}"] = entry.why or "not there"
            else:
                parts[key.kind][key.symbol] = datum
        self._snapshots += 1
        return _snapshot(parts, missing, now_ns, self._sequence)

    def statistics(self) -> ConsolidationStatistics:
        """Count everything."""
        entries = self._entries.values()
        return ConsolidationStatistics(
            watched=len(self._entries),
            known=sum(entry.datum is not None for entry in entries),
            failed=sum(entry.has_failed for entry in entries),
            accepted=self._accepted,
            outdated=self._outdated,
            unwanted=self._unwanted,
            ticks=self._ticks,
            snapshots=self._snapshots,
        )


def time_of(datum: Part) -> int:
    """Return when a part happened, by the exchange; when it does not say, when it came."""
    match datum:
        case OptionChain():
            known = [
                row.quote.event_ns for row in datum.contracts if row.quote.event_ns is not None
            ]
            if datum.underlying_event_ns is not None:
                known.append(datum.underlying_event_ns)
            return max(known, default=datum.received_ns)
        case IndexSnapshot():
            return time_of(datum.quote)
        case Quote():
            return datum.received_ns if datum.event_ns is None else datum.event_ns
        case Flow():
            return datum.updated_ns or 0


def _marked(datum: Part, why: str) -> Part:
    quality = None if isinstance(datum, Flow) else datum.quality
    if isinstance(datum, Flow) or quality is None:
        return datum
    return msgspec.structs.replace(datum, quality=noted(quality, reason("last_good", why)))


def _tick(key: Key, datum: Part, now_ns: int, sequence: int) -> MarketDataTick:
    return MarketDataTick(
        symbol=key.symbol,
        at_ns=now_ns,
        sequence=sequence,
        chain=datum if isinstance(datum, OptionChain) else None,
        index=datum if isinstance(datum, IndexSnapshot) else None,
        equity=datum if isinstance(datum, Quote) else None,
        flow=datum if isinstance(datum, Flow) else None,
    )


def _snapshot(
    parts: Mapping[Kind, Mapping[str, Part]],
    missing: Mapping[str, str],
    now_ns: int,
    sequence: int,
) -> MarketDataSnapshot:
    return MarketDataSnapshot(
        at_ns=now_ns,
        sequence=sequence,
        chains=_only(parts[Kind.CHAIN], OptionChain),
        indices=_only(parts[Kind.INDEX], IndexSnapshot),
        equities=_only(parts[Kind.EQUITY], Quote),
        flows=_only(parts[Kind.FLOW], Flow),
        missing=MappingProxyType(dict(missing)),
    )


def _only(parts: Mapping[str, Part], kind: type[P]) -> Mapping[str, P]:
    return MappingProxyType(
        {symbol: part for symbol, part in parts.items() if isinstance(part, kind)}
    )
