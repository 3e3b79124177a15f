"""How a page of the vendor's rows is read when some of them, or all, are not what they should be.

    body ──▶ all rows at once, typed ──▶ a Page
      │           │ one of them is not as it should be
      │           ▼
      │      row by row: the good ones are kept, a fault is told of each other
      │           │ not even an array of rows
      ▼           ▼
    UpstreamGarbled: not JSON, not an answer, or a refusal that came as a 200

The first way is that of nearly every page, and costs one pass in C. A number is a JSON
number that fits a float: a string, a boolean, `1e999` or a bare `NaN` (which some
programs write, though it is not JSON) is a fault of its row.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final, Generic, NamedTuple, TypeVar

import msgspec

from onetape.errors import UNREADABLE, NotFound, UpstreamDown, UpstreamForbidden, UpstreamGarbled
from onetape.rows import SymbolFault

W = TypeVar("W")
T = TypeVar("T")

PROVIDER: Final = "massive"
NS_PER_MS: Final = 1_000_000

LAST_YEAR: Final = 2200
"""Nothing is dated in this year or later, nor before 1970: what is reckoned from a time fits too."""
Ns = Annotated[int, msgspec.Meta(ge=0, lt=7_258_118_400_000_000_000)]
"""An instant in nanoseconds; the vendor writes 0 for none."""
SomeNs = Annotated[int, msgspec.Meta(gt=0, lt=7_258_118_400_000_000_000)]
"""An instant in nanoseconds that must be there."""
Ms = Annotated[int, msgspec.Meta(gt=0, lt=7_258_118_400_000)]
"""An instant in milliseconds that must be there."""


Code = int | float
"""An integer that the vendor's specification lets be written `301.0`."""


class Page(NamedTuple, Generic[T]):
    """What one answer held: its rows in order, what was wrong with others, and what follows."""

    rows: tuple[T, ...]
    faults: tuple[SymbolFault, ...] = ()
    next_url: str | None = None
    """The vendor's address of the next page; none after the last one."""


DELAYED: Final = "DELAYED"
"""What the vendor says of a page or a quote that is fifteen minutes old."""


class Wire(NamedTuple, Generic[W]):
    """A page as the vendor wrote it."""

    rows: list[W]
    faults: list[SymbolFault]
    next_url: str | None
    ticker: str | None
    delayed: bool = False
    """The page says that its data are, as those of a delayed plan do."""


class Envelope(msgspec.Struct, Generic[W], gc=False):
    """What the rows come in; the vendor has four names for them, and one row may stand alone."""

    results: list[W] | None = None
    tickers: list[W] | None = None
    values: list[W] | None = None
    next_url: str | None = None
    ticker: str | None = None
    status: str | None = None
    error: str | None = None
    message: str | None = None


_TEXT_LIMIT: Final = 200
_NOTHING: Final = msgspec.Raw(b"null")


class _Loose(msgspec.Struct, gc=False):
    results: msgspec.Raw = _NOTHING
    tickers: msgspec.Raw = _NOTHING
    values: msgspec.Raw = _NOTHING
    ticker: msgspec.Raw = _NOTHING
    next_url: str | None = None
    status: str | None = None
    error: str | None = None
    message: str | None = None


class _Details(msgspec.Struct):
    ticker: str | None = None


class _Named(msgspec.Struct):
    """A row of which only the name matters."""

    ticker: str | None = None
    details: _Details | None = None


_loose = msgspec.json.Decoder(_Loose)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_named = msgspec.json.Decoder(_Named)
_text = msgspec.json.Decoder(str)
_not_json = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?\b(?:NaN|Infinity)\b', re.DOTALL)

_ROW_ERRORS: Final = {
    "NOT_FOUND": NotFound.code,
    "NOT_ENTITLED": UpstreamForbidden.code,
    "NOT_AUTHORIZED": UpstreamForbidden.code,
}


class Reader(Generic[W]):
    """Reads pages whose rows have one shape."""

    def __init__(
        self, whole: msgspec.json.Decoder[Envelope[W]], row: msgspec.json.Decoder[W]
    ) -> None:
        self._whole = whole
        self._row = row

    def read(self, body: bytes, *, symbol: str = "", may_be_bare: bool = False) -> Wire[W]:
        """Read a page of many rows, or of the one in its `results` or `ticker`.

        Args:
            body: The whole body of an answer.
            symbol: Whose rows they are, where the rows do not say it.
            may_be_bare: Whether no rows and no status are an answer too.

        Raises:
            UpstreamGarbled: When it is no page, or its only row cannot be read.
        """
        try:
            page = self._whole.decode(body)
        except UNREADABLE:
            return self._read_loosely(body, symbol)
        rows = page.results if page.results is not None else page.tickers
        if rows is None and (rows := page.values) is None and not may_be_bare:
            _check_empty(page)
        return Wire(rows or [], [], page.next_url, page.ticker, page.status == DELAYED)

    def _read_loosely(self, body: bytes, symbol: str) -> Wire[W]:
        page = _decode_loosely(body)
        raws = (page.results, page.tickers, page.values, page.ticker)
        raw = next((bytes(one) for one in raws if bytes(one) != b"null"), b"null")
        if raw.startswith(b"{"):
            row = decode(self._row, raw)
            return Wire([row], [], page.next_url, None, page.status == DELAYED)
        if not raw.startswith(b"["):
            _check_empty(page)
            raise UpstreamGarbled("the vendor's answer has no array of rows")
        rows: list[W] = []
        faults: list[SymbolFault] = []
        for one in decode(_raws, raw):
            try:
                rows.append(self._row.decode(one))
            except UNREADABLE as error:
                faults.append(garbled(_name_of(one) or symbol, str(error)))
        return Wire(rows, faults, page.next_url, _ticker_of(page), page.status == DELAYED)


def _decode_loosely(body: bytes) -> _Loose:
    try:
        return _loose.decode(body)
    except UNREADABLE as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise UpstreamGarbled(f"the vendor's answer cannot be read: {error}") from error
    # As strings they are JSON, and still no numbers.
    return decode(_loose, _not_json.sub(_quoted, body))


def _quoted(match: re.Match[bytes]) -> bytes:
    token = match[0]
    return token if token.startswith(b'"') else b'"' + token + b'"'


def _check_empty(page: "Envelope[W] | _Loose") -> None:
    """Let an answer without rows pass only if it says that all is well."""
    reason = (page.error or page.message or "")[:_TEXT_LIMIT]
    if reason or page.status in {None, "ERROR", "NOT_FOUND", "NOT_AUTHORIZED"}:
        raise UpstreamGarbled(f"the vendor's answer has no rows: {reason or 'it does not say why'}")


def _name_of(raw: msgspec.Raw) -> str:
    try:
        row = _named.decode(raw)
    except UNREADABLE:
        return ""
    return row.ticker or (row.details.ticker if row.details else None) or ""


def _ticker_of(page: _Loose) -> str | None:
    try:
        return _text.decode(page.ticker)
    except UNREADABLE:
        return None


def decode(decoder: msgspec.json.Decoder[W], body: bytes) -> W:
    """Decode all of a body.

    Raises:
        UpstreamGarbled: When that cannot be done.
    """
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise UpstreamGarbled(f"the vendor's answer cannot be read: {error}") from error


def whole(code: Code | None) -> int | None:
    """Return the integer that a code is; None if it is none."""
    return code if isinstance(code, int) or code is None else _whole(code)


def _whole(code: float) -> int | None:
    return int(code) if code.is_integer() else None


def garbled(symbol: str, reason: str) -> SymbolFault:
    """Tell of a row that is left out because it cannot be read."""
    return SymbolFault(symbol=symbol, error=UpstreamGarbled.code, message=reason)


def refused(symbol: str, error: str, message: str | None) -> SymbolFault:
    """Tell of a row in which the vendor says why it has none."""
    code = _ROW_ERRORS.get(error, UpstreamDown.code)
    return SymbolFault(symbol=symbol, error=code, message=message or error)


def sort_out(made: Iterable[T | SymbolFault], faults: list[SymbolFault]) -> tuple[T, ...]:
    """Put what became of each row where it belongs: return the models, collect the faults."""
    models: list[T] = []
    for one in made:
        if isinstance(one, SymbolFault):
            faults.append(one)
        else:
            models.append(one)
    return tuple(models)
