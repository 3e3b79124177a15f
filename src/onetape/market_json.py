"""Judged data as JSON: the model as it is, and beside what was found, how it reads now.

    Quality ──▶ {provider, source, reasons, times, …            what is known
                 confidence, level, freshness, age_s, aged …}    how it reads at the writing

A score belongs to an instant, so a reader who keeps a datum reckons it anew from what is
known; one who only looks finds it written out. Whoever decodes into the model's own types
need do nothing: the additions are passed over.

Integers are exact, nanoseconds too; JavaScript reads those to within 256 ns.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast, get_type_hints

import msgspec

from onetape.provenance import Freshness, Level, Quality, Reason

_encoder: Final = msgspec.json.Encoder()
_known_parts: Final[dict[type[msgspec.Struct], tuple[tuple[str, str], ...]]] = {}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a quality object on the wire says beyond the model: how it reads at the writing."""

    confidence: int
    level: Level
    freshness: Freshness
    is_stale: bool
    stale_since_ns: int | None
    age_s: float | None
    updated_ns: int
    aged: tuple[Reason, ...]
    """What its age adds to the reasons."""


def encode(value: object, now_ns: int) -> bytes:
    """Return a model, or anything that holds some, as JSON that reads as of `now_ns`.

    Raises:
        TypeError: it holds what JSON has no word for.
    """
    return _encoder.encode(as_of(value, now_ns))


def as_of(value: object, now_ns: int) -> Any:
    """Return it in plain mappings and lists, every quality with its `Reading` in it."""
    plain = msgspec.to_builtins(value, enc_hook=_opened)
    _read_out(value, plain, now_ns)
    return plain


def reading(quality: Quality, now_ns: int) -> Reading:
    """Return how a quality reads at an instant."""
    flags = quality.flags(now_ns)
    return Reading(
        confidence=flags.confidence,
        level=flags.level,
        freshness=flags.freshness,
        is_stale=flags.is_stale,
        stale_since_ns=flags.stale_since_ns,
        age_s=flags.age_s,
        updated_ns=flags.updated_ns,
        aged=flags.reasons[len(quality.reasons) :],
    )


def _opened(value: object) -> object:
    if isinstance(value, MappingProxyType):
        return dict(cast("MappingProxyType[object, object]", value))
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _read_out(value: object, plain: Any, now_ns: int) -> None:
    """Walk a value beside its plain copy: of a quality only the original can say more."""
    if isinstance(value, Quality):
        plain.update(msgspec.to_builtins(reading(value, now_ns)))
    elif isinstance(value, msgspec.Struct):
        for name, encoded in _parts_of(type(value)):
            part = getattr(value, name)
            if part is not None:
                _read_out(part, plain[encoded], now_ns)
    elif isinstance(value, Mapping):
        parts = cast("Mapping[object, object]", value).values()
        for part, copy in zip(parts, plain.values(), strict=True):
            _read_out(part, copy, now_ns)
    elif isinstance(value, list | tuple):
        for part, copy in zip(cast("list[object]", value), plain, strict=True):
            _read_out(part, copy, now_ns)


def _parts_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """Return the fields in which a quality may be, each with its name in JSON."""
    known = _known_parts.get(kind)
    if known is None:
        hints = get_type_hints(kind)
        known = _known_parts[kind] = tuple(
            (field.name, field.encode_name)
            for field in msgspec.structs.fields(kind)
            if _may_hold(hints[field.name])
        )
    return known


def _may_hold(hint: Any) -> bool:
    if isinstance(hint, type) and hint.__module__ != "builtins":
        return issubclass(hint, msgspec.Struct)
    return any(_may_hold(part) for part in getattr(hint, "__args__", ()))
