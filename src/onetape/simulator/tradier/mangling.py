"""How a batch of Tradier's events becomes frames, well or badly: one object each.

Without a fault an event is its JSON, and a line's end if that was asked for. With one,
exactly that fault is done to it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from onetape.simulator.actions import (
    Cross,
    Distort,
    Duplicate,
    Garbage,
    GarbageKind,
    Oversize,
    Reorder,
    Skew,
    Stale,
    Truncate,
)
from onetape.simulator.spoiling import multiply
from onetape.simulator.tradier.actions import TradierStreamActions, ZeroSize
from onetape.simulator.tradier.events import Event

_TIMES: Final = ("biddate", "askdate", "date")
_GARBAGE: Final = {
    GarbageKind.NOT_JSON: b"<html>502 Bad Gateway</html>",
    GarbageKind.NOT_UTF8: b'{"type":"trade","symbol":"\xff\xfe"}',
    GarbageKind.NOT_ARRAY: b'[{"type":"trade","symbol":"SPY"}]',
    GarbageKind.WRONG_TYPES: b'{"type":"quote","symbol":17,"bid":"cheap","ask":[],"biddate":{}}',
    GarbageKind.UNKNOWN_EVENT: b'{"type":"zzz","symbol":"SPY","price":"1.0"}',
    GarbageKind.NO_SYMBOL: b'{"type":"trade","price":"1.0","size":"1","date":"1"}',
    GarbageKind.EMPTY: b"{}",
}


def garbage(kind: GarbageKind) -> bytes:
    """Return a frame of this kind of garbage; what is no array elsewhere is one here."""
    return _GARBAGE[kind]


class Mangler:
    """Writes one connection's batches, and remembers what a fault holds back."""

    def __init__(self) -> None:
        self._late: list[bytes] = []
        self._first: dict[tuple[str, str], bytes] = {}

    def frames(
        self, batch: Sequence[Event], fault: TradierStreamActions | None, *, detailed: bool
    ) -> list[bytes]:
        """Return the frames that carry the batch, as the fault leaves it."""
        if not isinstance(fault, Stale):
            self._first.clear()
        raws = [one.detailed if detailed else one.raw for one in batch]
        if isinstance(fault, Stale):
            keys = [(one.symbol, one.kind) for one in batch]
            raws = [self._first.setdefault(key, raw) for key, raw in zip(keys, raws, strict=True)]
        if isinstance(fault, Reorder):
            raws.reverse()
            if not self._late:
                self._late = raws
                return []
        late, self._late = self._late, []
        return _spoilt(raws, fault) + late


def _spoilt(raws: list[bytes], fault: TradierStreamActions | None) -> list[bytes]:
    match fault:
        case Duplicate(times=times):
            return [raw for raw in raws for _ in range(times)]
        case Truncate(keep=keep):
            return [raw[: max(1, round(len(raw) * keep))] for raw in raws]
        case Oversize(size_bytes=size_bytes):
            return [raw[:-1].ljust(size_bytes - 1) + b"}" for raw in raws]
        case Garbage(kind=kind):
            return [garbage(kind), *raws]
        case ZeroSize():
            return [one for raw in raws for one in _with_zero_size(raw)]
        case Skew() | Cross() | Distort():
            return [_changed(raw, partial(_change, fault)) for raw in raws]
        case _:
            return raws


def _changed(raw: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    fields = msgspec.json.decode(raw, type=dict[str, Any])
    change(fields)
    return msgspec.json.encode(fields)


def _change(fault: Skew | Cross | Distort, fields: dict[str, Any]) -> None:
    match fault:
        case Skew(by_s=by_s):
            for key in _TIMES:
                if key in fields:
                    fields[key] = str(int(fields[key]) + round(by_s * 1000))
        case Cross(by=by):
            if fields["type"] == "quote":
                fields["bid"] = round(fields["ask"] + by, 4)
        case Distort():
            multiply(fields, fault.fields, fault.times)


def _with_zero_size(raw: bytes) -> list[bytes]:
    fields = msgspec.json.decode(raw, type=dict[str, Any])
    if fields["type"] not in {"trade", "tradex"}:
        return [raw]
    return [raw, msgspec.json.encode(fields | {"size": "0"})]
