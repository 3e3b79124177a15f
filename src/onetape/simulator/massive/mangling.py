"""How a batch of events becomes frames, well or badly.

Without a fault a batch is packed as the vendor packs it. With one, exactly that
fault is done to it: the market's events stay the truth, and what a client of a
faulty vendor sees differs from them only as the script says.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from onetape.massive.wire_stream import array, pack
from onetape.model import Topic
from onetape.simulator.faults import (
    Cross,
    Distort,
    Duplicate,
    Garbage,
    GarbageKind,
    Oversize,
    Reorder,
    Skew,
    Stale,
    StreamActions,
    Truncate,
)
from onetape.simulator.spoiling import multiply


class Event(NamedTuple):
    """One market event: where it goes, and the vendor's bytes of it, without braces."""

    topic: Topic
    raw: bytes


_TIMES: Final = ("t", "s", "e", "trft")
_INTO_THE_ARRAY: Final = {
    GarbageKind.WRONG_TYPES: b'"ev":"Q","sym":17,"bp":"cheap","ap":[],"t":"yesterday"',
    GarbageKind.UNKNOWN_EVENT: b'"ev":"ZZZ","sym":"SPY","p":1.0,"t":1',
    GarbageKind.NO_SYMBOL: b'"ev":"T","p":1.0,"s":1,"t":1',
}
_ON_THEIR_OWN: Final = {
    GarbageKind.NOT_JSON: b"<html>502 Bad Gateway</html>",
    GarbageKind.NOT_UTF8: b'[{"ev":"T","sym":"\xff\xfe"}]',
    GarbageKind.NOT_ARRAY: b'{"ev":"status","status":"success","message":"not in an array"}',
    GarbageKind.EMPTY: b"[]",
}


def garbage(kind: GarbageKind) -> bytes:
    """Return a frame of this kind of garbage."""
    raw = _INTO_THE_ARRAY.get(kind)
    return _ON_THEIR_OWN[kind] if raw is None else array([raw])


class Mangler:
    """Packs one connection's batches, and remembers what a fault holds back."""

    def __init__(self) -> None:
        self._late: list[bytes] = []
        self._first: dict[Topic, bytes] = {}

    def frames(self, batch: Sequence[Event], fault: StreamActions | None) -> list[bytes]:
        """Return the frames that carry the batch, as the fault leaves it."""
        if not isinstance(fault, Stale):
            self._first.clear()
        raws = self._raws(batch, fault)
        if isinstance(fault, Reorder) and not self._late:
            self._late = raws
            return []
        late, self._late = self._late, []
        return _framed(raws + late, fault)

    def _raws(self, batch: Sequence[Event], fault: StreamActions | None) -> list[bytes]:
        match fault:
            case Stale():
                return [self._first.setdefault(event.topic, event.raw) for event in batch]
            case Duplicate(times=times):
                return [event.raw for event in batch for _ in range(times)]
            case Reorder():
                return [event.raw for event in reversed(batch)]
            case Skew(by_s=by_s):
                return [_skewed(event.raw, round(by_s * 1000)) for event in batch]
            case Cross(by=by):
                return [_crossed(event, by) for event in batch]
            case Distort():
                return [_distorted(event.raw, fault) for event in batch]
            case _:
                return [event.raw for event in batch]


def _framed(raws: list[bytes], fault: StreamActions | None) -> list[bytes]:
    match fault:
        case Garbage(kind=kind) if kind in _INTO_THE_ARRAY:
            return pack([_INTO_THE_ARRAY[kind], *raws])
        case Garbage(kind=kind):
            return [_ON_THEIR_OWN[kind], *pack(raws)]
        case Truncate(keep=keep):
            return [frame[: max(1, round(len(frame) * keep))] for frame in pack(raws)]
        case Oversize(size_bytes=size_bytes):
            return [frame[:-1].ljust(size_bytes - 1) + b"]" for frame in pack(raws)]
        case _:
            return pack(raws)


def _read(raw: bytes) -> dict[str, Any]:
    return msgspec.json.decode(b"{" + raw + b"}", type=dict[str, Any])


def _write(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields)[1:-1]


def _skewed(raw: bytes, by_ms: int) -> bytes:
    fields = _read(raw)
    bar = "o" in fields  # a bar's `s` is its start; a trade's is its size
    times = [key for key in _TIMES if key in fields and (bar or key != "s")]
    return _write(fields | {key: fields[key] + by_ms for key in times})


def _distorted(raw: bytes, fault: Distort) -> bytes:
    fields = _read(raw)
    multiply(fields, fault.fields, fault.times)
    return _write(fields)


def _crossed(event: Event, by: float) -> bytes:
    if not event.topic.startswith("Q."):
        return event.raw
    fields = _read(event.raw)
    if fields.get("ap") is None:
        return event.raw
    return _write(fields | {"bp": round(fields["ap"] + by, 4)})
