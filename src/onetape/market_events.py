"""What `/ws/market` says, typed, for whoever reads it: no server is needed for it.

    frame ──decode──▶ events ─┬─ equity, index, flow: the whole of it, newest wins
                              ├─ chain ──▶ ChainView: full, then what changed
                              ├─ snapshot ──▶ SnapshotView: all of it at one instant
                              └─ status

An event supersedes what came of its key before. A chain that is long, or a snapshot,
comes in several events: all but the last say `more`. A chain's change names in `since`
the sequence that it builds on, so a reader that missed one knows.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import msgspec

from onetape.errors import UNREADABLE, UpstreamGarbled
from onetape.massive.wire_stream import Status
from onetape.model import (
    ContractType,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    OptionChain,
    OptionSnapshot,
    Quote,
)

_replace: Final = msgspec.structs.replace


class StatusEvent(Status, frozen=True, kw_only=True, tag_field="ev", tag="status"):
    """An event about the connection, or about a key: then `topic` names it."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev"):
    """What all market events carry. `at_ns` is when it was written: quality reads as of it."""

    at_ns: int
    sequence: int
    """The hub's. Of one key it only grows; it skips what a newer event replaced unsent."""


class EquityEvent(_Event, frozen=True, kw_only=True, tag="equity"):
    """A stock's quote."""

    symbol: str
    data: Quote


class IndexEvent(_Event, frozen=True, kw_only=True, tag="index"):
    """An index."""

    symbol: str
    data: IndexSnapshot


class FlowEvent(_Event, frozen=True, kw_only=True, tag="flow"):
    """What the tape of an underlying's options says."""

    symbol: str
    data: Flow


class ChainEvent(_Event, frozen=True, kw_only=True, tag="chain"):
    """A chain, or what became of it; `ChainView` puts it together."""

    symbol: str
    full: bool
    """Whether it begins the chain anew, rather than to change the one of `since`."""
    since: int | None = None
    """The sequence of the chain that this changes; its own when it goes on with itself."""
    more: bool = False
    """Whether the next event goes on with it: until then the chain is not whole."""
    removed: tuple[str, ...] = ()
    """The symbols of the contracts that are gone."""
    data: OptionChain
    """All but its contracts as it is now; of those what is new or other than before."""


class SnapshotEvent(_Event, frozen=True, kw_only=True, tag="snapshot"):
    """All that the session watches, at one instant; `SnapshotView` puts it together."""

    more: bool = False
    """Whether the next snapshot event goes on with it."""
    data: MarketDataSnapshot


MarketEvent = StatusEvent | EquityEvent | IndexEvent | FlowEvent | ChainEvent | SnapshotEvent


class _Tag(msgspec.Struct):
    ev: str


_events: Final[msgspec.json.Decoder[list[MarketEvent]]] = msgspec.json.Decoder(list[MarketEvent])
_event: Final[msgspec.json.Decoder[MarketEvent]] = msgspec.json.Decoder(MarketEvent)
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])
_tag: Final = msgspec.json.Decoder(_Tag)
_KNOWN: Final = frozenset({"status", "equity", "index", "flow", "chain", "snapshot"})


def decode(frame: bytes | str) -> list[MarketEvent]:
    """Read one frame; events of kinds that are new since are passed over.

    Raises:
        UpstreamGarbled: it is no array of events, or one cannot be read.
    """
    try:
        return _events.decode(frame)
    except UNREADABLE:
        pass
    try:
        raws = _raws.decode(frame)
        return [_event.decode(raw) for raw in raws if _tag.decode(raw).ev in _KNOWN]
    except UNREADABLE as error:
        raise UpstreamGarbled(f"not events of the market: {error}") from error


class ChainView:
    """One chain as its events tell it. Sans-I/O; give it the events of one key, in order.

    none ──full──▶ whole ⇄ changing     a change that does not fit: raised, and none again
    """

    def __init__(self) -> None:
        self.chain: OptionChain | None = None  # the last whole one
        self.sequence: int | None = None  # of it
        self._contracts: dict[str, OptionSnapshot] = {}
        self._holds: int | None = None  # the sequence that the contracts are of, whole or not
        self._is_in_order = True

    def apply(self, event: ChainEvent) -> OptionChain | None:
        """Take the next event; return the chain, or None while there is more to come.

        Raises:
            UpstreamGarbled: it changes another chain than this; subscribe anew for a full one.
        """
        if event.full:
            self._contracts, self._is_in_order = {}, True
        elif event.since is None or event.since != self._holds:
            held, self._holds = self._holds, None
            raise UpstreamGarbled(f"a change since {event.since} does not fit a chain of {held}")
        elif event.since != event.sequence:  # not going on with itself
            self._is_in_order = False
        self._merge(event)
        self._holds = event.sequence
        if event.more:
            return None
        self.sequence = event.sequence
        self.chain = _replace(event.data, contracts=tuple(self._contracts.values()))
        return self.chain

    def _merge(self, event: ChainEvent) -> None:
        contracts = self._contracts
        for symbol in event.removed:
            contracts.pop(symbol, None)
        known = len(contracts)
        for one in event.data.contracts:
            contracts[one.symbol] = one
        # A full chain comes in its order; what a change adds has its place to be found.
        if len(contracts) > known and not self._is_in_order:
            self._contracts = {one.symbol: one for one in sorted(contracts.values(), key=place)}


class SnapshotView:
    """One snapshot as its events tell it."""

    def __init__(self) -> None:
        self._parts: list[MarketDataSnapshot] = []

    def apply(self, event: SnapshotEvent) -> MarketDataSnapshot | None:
        """Take the next event; return the snapshot, or None while there is more to come."""
        self._parts.append(event.data)
        if event.more:
            return None
        parts, self._parts = self._parts, []
        return _joined(parts)


def place(one: OptionSnapshot) -> tuple[date, float, ContractType, str]:
    """Return where in a chain a contract stands: expiration, strike, calls first."""
    terms = one.contract
    return terms.expiration, terms.strike, terms.contract_type, terms.symbol


def _joined(parts: Sequence[MarketDataSnapshot]) -> MarketDataSnapshot:
    chains: dict[str, OptionChain] = {}
    others: dict[str, dict[str, Any]] = {
        name: {} for name in ("indices", "equities", "flows", "missing")
    }
    for part in parts:
        for symbol, chain in part.chains.items():
            begun = chains.get(symbol)
            contracts = () if begun is None else begun.contracts
            chains[symbol] = _replace(chain, contracts=contracts + chain.contracts)
        for name, known in others.items():
            known.update(getattr(part, name))
    return _replace(parts[-1], chains=chains, **others)
