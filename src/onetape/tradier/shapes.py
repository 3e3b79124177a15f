"""The shapes of Tradier's JSON, which was XML once: one-or-many, nothing, and bad rows.

    many    [{…}, {…}]
    one     {…}
    none    null, "null", or no member at all

A row that cannot be read is left out and named among the faults; the others stand. Only
a body without its member raises.
"""

from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from onetape.errors import UNREADABLE, InvalidSymbol, NotFound, UpstreamGarbled
from onetape.rows import SymbolFault
from onetape.symbols import from_tradier
from onetape.tradier.wire_rest import as_list

PROVIDER: Final = "tradier"

Number = float | str | None
"""How a number may come."""

_RowT = TypeVar("_RowT", bound=msgspec.Struct)


class Origin(NamedTuple):
    """What every row of one answer shares. `round_lot` is the unit of a stock's sizes."""

    received_ns: int
    delayed: bool = False
    simulated: bool = False
    round_lot: float = 1.0


def malformed(symbol: str) -> SymbolFault:
    """Name a row that was left out, by its symbol or date; empty when it has none."""
    return SymbolFault(
        symbol=_ours(symbol), error=UpstreamGarbled.code, message="a row that we cannot read"
    )


def unmatched(symbol: str) -> SymbolFault:
    """Name a symbol, as Tradier writes it, that Tradier does not know."""
    return SymbolFault(
        symbol=_ours(symbol), error=NotFound.code, message="Tradier does not know it"
    )


def _ours(symbol: str) -> str:
    try:
        return from_tradier(symbol)
    except InvalidSymbol:
        return symbol[:40]


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_texts = msgspec.json.Decoder(list[str] | str | None)
_parts = msgspec.json.Decoder(list[msgspec.Raw])
_NONE: Final = frozenset((b"null", b'"null"', b'""'))


def root_of(body: bytes, name: str) -> msgspec.Raw:
    """Return the member of an answer.

    Raises:
        UpstreamGarbled: not JSON, or without it.
    """
    try:
        return _members.decode(body)[name]
    except (*UNREADABLE, KeyError) as error:
        raise UpstreamGarbled(f"Tradier's answer has no {name}") from error


def opened(raw: msgspec.Raw, name: str) -> dict[str, msgspec.Raw]:
    """Open an object; nothing is an empty one.

    Raises:
        UpstreamGarbled: it is not an object.
    """
    if is_none(raw):
        return {}
    try:
        return _members.decode(raw)
    except UNREADABLE as error:
        raise UpstreamGarbled(f"Tradier's {name} is not an object") from error


def is_none(raw: msgspec.Raw | None) -> bool:
    """Tell whether a member says nothing, in any of the ways that Tradier does."""
    return raw is None or (len(memoryview(raw)) < 7 and bytes(raw).strip() in _NONE)


class RowReader(Generic[_RowT]):
    """Reads the one-or-many rows of a kind; at once, or one by one when any is bad."""

    def __init__(self, row: type[_RowT], name: str) -> None:
        self._one = msgspec.json.Decoder(row)
        self._many = msgspec.json.Decoder(list[row])
        self._named = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._name = name  # the member that tells rows apart, to name a bad one

    def read(self, raw: msgspec.Raw | None, faults: list[SymbolFault]) -> list[_RowT]:
        """Return the rows that can be read, and add the others to the faults."""
        if raw is None or is_none(raw):
            return []
        many = bytes(memoryview(raw)[:1]) == b"["
        try:
            return self._many.decode(raw) if many else [self._one.decode(raw)]
        except UNREADABLE:
            return self._salvage(_parts.decode(raw) if many else [raw], faults)

    def _salvage(self, parts: list[msgspec.Raw], faults: list[SymbolFault]) -> list[_RowT]:
        rows: list[_RowT] = []
        for part in parts:
            try:
                rows.append(self._one.decode(part))
            except UNREADABLE:
                faults.append(malformed(self._name_of(part)))
        return rows

    def _name_of(self, part: msgspec.Raw) -> str:
        try:
            name = msgspec.json.decode(self._named.decode(part)[self._name])
        except (*UNREADABLE, KeyError):
            return ""
        return name[:40] if isinstance(name, str) else ""


def texts_of(raw: msgspec.Raw | None) -> list[str]:
    """Return one-or-many strings; none when it is anything else."""
    if raw is None or is_none(raw):
        return []
    try:
        return as_list(_texts.decode(raw))
    except UNREADABLE:
        return []
