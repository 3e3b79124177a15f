"""The vendor's REST grammar: which endpoint a path is, and what its bodies say.

Bodies can be tens of megabytes and are passed on as they came, so nothing here
builds them: a top-level member is found by its bytes, from the front or from the
back, and the whole body is only walked when it lies between two nested values.
"""

import base64
import binascii
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from onetape.errors import UNREADABLE, InvalidRequest

# endpoints


class Endpoint(StrEnum):
    """The endpoint families. Closed: they label metrics, choose TTLs and breakers."""

    MARKET_STATUS = "market_status"
    MARKET_HOLIDAYS = "market_holidays"
    SNAPSHOT = "snapshot"
    OPTIONS_CHAIN = "options_chain"
    OPTION_SNAPSHOT = "option_snapshot"
    INDICES_SNAPSHOT = "indices_snapshot"
    STOCKS_SNAPSHOT = "stocks_snapshot"
    CONTRACTS = "contracts"
    CONTRACT = "contract"
    AGGREGATES = "aggregates"
    PREVIOUS_CLOSE = "previous_close"
    GROUPED_DAILY = "grouped_daily"
    OPEN_CLOSE = "open_close"
    INDICATORS = "indicators"
    TRADES = "trades"
    QUOTES = "quotes"
    LAST_TRADE = "last_trade"
    LAST_QUOTE = "last_quote"
    TICKERS = "tickers"
    TICKER = "ticker"
    EXCHANGES = "exchanges"
    CONDITIONS = "conditions"
    REFERENCE = "reference"
    OTHER = "other"


# First match wins: the special stands before the general. No groups of their own.
_ROUTES: Final[tuple[tuple[Endpoint, str], ...]] = (
    (Endpoint.MARKET_STATUS, r"/v1/marketstatus/now/?$"),
    (Endpoint.MARKET_HOLIDAYS, r"/v1/marketstatus/upcoming/?$"),
    (Endpoint.OPTION_SNAPSHOT, r"/v3/snapshot/options/[^/]+/[^/]+/?$"),
    (Endpoint.OPTIONS_CHAIN, r"/v3/snapshot/options/[^/]+/?$"),
    (Endpoint.INDICES_SNAPSHOT, r"/v3/snapshot/indices/?$"),
    (Endpoint.STOCKS_SNAPSHOT, r"/v2/snapshot/locale/us/markets/stocks/"),
    (Endpoint.SNAPSHOT, r"/v3/snapshot/?$|/v2/snapshot/locale/|/v1/summaries/?$"),
    (Endpoint.CONTRACT, r"/v3/reference/options/contracts/[^/]+/?$"),
    (Endpoint.CONTRACTS, r"/v3/reference/options/contracts/?$"),
    (Endpoint.AGGREGATES, r"/v2/aggs/ticker/[^/]+/range/"),
    (Endpoint.PREVIOUS_CLOSE, r"/v2/aggs/ticker/[^/]+/prev/?$"),
    (Endpoint.GROUPED_DAILY, r"/v2/aggs/grouped/"),
    (Endpoint.OPEN_CLOSE, r"/v1/open-close/"),
    (Endpoint.INDICATORS, r"/v1/indicators/"),
    (Endpoint.TRADES, r"(?:/[a-z]+)?/v3/trades/"),
    (Endpoint.QUOTES, r"(?:/[a-z]+)?/v3/quotes/"),
    (Endpoint.LAST_TRADE, r"/v2/last/trade/|/v1/last/crypto/"),
    (Endpoint.LAST_QUOTE, r"/v2/last/nbbo/|/v1/last_quote/"),
    (Endpoint.EXCHANGES, r"/v3/reference/exchanges/?$|/[a-z]+/v1/exchanges/?$"),
    (Endpoint.CONDITIONS, r"/v3/reference/conditions/?$"),
    (Endpoint.REFERENCE, r"/v3/reference/tickers/types/?$"),
    (Endpoint.TICKERS, r"/v3/reference/tickers/?$"),
    (Endpoint.TICKER, r"/v3/reference/tickers/[^/]+/?$"),
    (Endpoint.REFERENCE, r"/v[0-9X]+/reference/|/v1/related-companies/"),
)
_route = re.compile(
    "|".join(f"(?P<r{i}>{pattern})" for i, (_, pattern) in enumerate(_ROUTES))
).match
_BY_GROUP: Final = {f"r{i}": endpoint for i, (endpoint, _) in enumerate(_ROUTES)}


def endpoint_class(path: str) -> Endpoint:
    """Name the family of a vendor path, encoded or not; `other` for the rest."""
    match = _route(path)
    return _BY_GROUP[match.lastgroup or ""] if match else Endpoint.OTHER


class Ttl(NamedTuple):
    """How long a copy is fresh, and how long after that it may stand in for a failing vendor."""

    fresh_s: float
    stale_s: float


_DAY_S: Final = 86_400.0
_REFERENCE: Final = Ttl(_DAY_S, 7 * _DAY_S)
# Nobody may be shown an old price as the current one: these are joined in flight, never kept.
_LIVE: Final = Ttl(0, 0)

TTL: Final[Mapping[Endpoint, Ttl]] = {
    Endpoint.MARKET_STATUS: Ttl(10, 60),
    Endpoint.MARKET_HOLIDAYS: _REFERENCE,
    Endpoint.SNAPSHOT: _LIVE,
    Endpoint.OPTIONS_CHAIN: Ttl(10, 120),
    Endpoint.OPTION_SNAPSHOT: Ttl(1, 60),
    Endpoint.INDICES_SNAPSHOT: _LIVE,
    Endpoint.STOCKS_SNAPSHOT: _LIVE,
    Endpoint.CONTRACTS: Ttl(900, _DAY_S),
    Endpoint.CONTRACT: Ttl(900, _DAY_S),
    Endpoint.AGGREGATES: Ttl(60, 900),
    Endpoint.PREVIOUS_CLOSE: Ttl(60, _DAY_S),
    Endpoint.GROUPED_DAILY: Ttl(60, _DAY_S),
    Endpoint.OPEN_CLOSE: Ttl(60, _DAY_S),
    Endpoint.INDICATORS: Ttl(60, 900),
    Endpoint.TRADES: _LIVE,
    Endpoint.QUOTES: _LIVE,
    Endpoint.LAST_TRADE: _LIVE,
    Endpoint.LAST_QUOTE: _LIVE,
    Endpoint.TICKERS: _REFERENCE,
    Endpoint.TICKER: _REFERENCE,
    Endpoint.EXCHANGES: _REFERENCE,
    Endpoint.CONDITIONS: _REFERENCE,
    Endpoint.REFERENCE: _REFERENCE,
    Endpoint.OTHER: _LIVE,
}
"""The shared cache's times per endpoint; `fresh_s` 0 means joined in flight but not kept."""


# questions

Scalar = str | int | float | date
ParamValue = Scalar | Collection[Scalar] | None
Params = Mapping[str, ParamValue]
"""The parameters of a question; None is left out."""

_SAFE: Final = ":,@/"  # may stand in a query as they are, and read better so


def query_of(params: Params) -> str:
    """Encode parameters, the same for every order: None left out, lists joined by commas.

    Raises:
        InvalidRequest: a value that has no text, or an empty list, which would ask for all.
    """
    texts = {name: text_of(value) for name, value in params.items() if value is not None}
    try:
        return "&".join(
            f"{quote(name, safe=_SAFE)}={quote(texts[name], safe=_SAFE)}" for name in sorted(texts)
        )
    except UnicodeEncodeError:
        raise InvalidRequest("a parameter that is no text") from None


def text_of(value: Scalar | Collection[Scalar]) -> str:
    """Write one value as the vendor reads it; equal numbers have one spelling.

    Raises:
        InvalidRequest: it cannot be written.
    """
    match value:
        case str():
            return str.__str__(value)  # of an Enum of strings its value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return _number(value)
        case datetime():
            return _instant(value)
        case date():
            return value.isoformat()
        case _:
            return _listed(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise InvalidRequest("a number that is not finite")
    return str(int(value)) if value.is_integer() else repr(float(value))


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise InvalidRequest("an instant without its time zone")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _listed(values: Collection[Scalar]) -> str:
    texts = [text_of(value) for value in values]
    if not all(texts) or not texts:
        raise InvalidRequest("an empty list, or an empty entry in one")
    if any("," in text for text in texts):
        raise InvalidRequest("a comma in an entry of a list")
    return ",".join(sorted(texts) if isinstance(values, set | frozenset) else texts)


# headers


def parse_retry_after(value: str | None, now_ns: int) -> float | None:
    """Read seconds or an HTTP date as seconds from now; None for what is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value, now_ns)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(text: str, now_ns: int) -> float | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": the sender does not tell; HTTP dates are UTC
        at = at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - now_ns / 1e9)


# bodies

_STRING: Final = rb'"(?:[^"\\]|\\.)*+"'
_SCALAR: Final = rb'(?:"(?:[^"\\]|\\.)*+"|[-+.0-9eE]++|true|false|null)'
_MEMBER: Final = rb"\s*+" + _STRING + rb"\s*+:\s*+" + _SCALAR + rb"\s*+"


class _Member(NamedTuple):
    """How to find one top-level string member by its bytes."""

    quoted: bytes
    ahead: re.Pattern[bytes]  # from the body's first byte, over scalars only
    behind: re.Pattern[bytes]  # to the body's last byte, over scalars only


def _member(key: str) -> _Member:
    quoted = f'"{key}"'.encode()
    value = rb"\s*+" + quoted + rb"\s*+:\s*+(" + _STRING + rb")"
    return _Member(
        quoted,
        re.compile(
            rb"\s*+\{(?:(?!\s*+" + quoted + rb"\s*+:)" + _MEMBER + rb",)*+" + value, re.DOTALL
        ),
        re.compile(value + rb"\s*+(?:," + _MEMBER + rb")*+\}\s*+\Z", re.DOTALL),
    )


_NEXT_URL: Final = _member("next_url")
_REQUEST_ID: Final = _member("request_id")
_ABSOLUTE: Final = re.compile(rb'"https?:(?:\\?/){2}[^/\\?"]+')


def _find(body: bytes, member: _Member) -> tuple[int, int] | None:
    """Return the span of a top-level string member's value, quotes included.

    In JSON a quote that follows `{` or `,` and blanks opens a string, and a string
    before a colon is a key: so a key is known by its bytes. Its depth is known when
    only scalars lie between it and one end of the body.
    """
    last = body.rfind(member.quoted)
    if last < 0 or not body[:64].lstrip().startswith(b"{"):
        return None
    match = member.ahead.match(body)
    if match is None and _opens_a_member(body, last):
        match = member.behind.match(body, last)
    return match.span(1) if match else _find_between(body, member.quoted)


def _opens_a_member(body: bytes, at: int) -> bool:
    return body[max(0, at - 64) : at].rstrip()[-1:] in {b"{", b","}


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb"\s*+,?\s*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)


def _find_between(body: bytes, quoted: bytes) -> tuple[int, int] | None:
    """Walk the whole body: the member may lie between two nested values, or nowhere."""
    try:
        members = _object.decode(body)
    except UNREADABLE:
        return None
    # A raw value is exactly its bytes in the body, so their lengths lead from key to
    # key. Repeated keys break the chain; then there is nothing we could be sure of.
    at = body.index(b"{") + 1
    for raw in members.values():
        key = _KEY.match(body, at)
        if key is None:
            return None
        at = key.end() + len(memoryview(raw))
        if key.group(1) == quoted:
            return (key.end(), at) if body[key.end() : key.end() + 1] == b'"' else None
    return None


def rewrite_next_url(body: bytes, *, origin: str, prefix: str = "") -> bytes:
    """Make the next page's address ours: `origin + prefix` in place of the vendor's origin.

    Every other byte, of the address and of the body, stays. Bodies without a top-level
    `next_url`, and bodies that are not JSON, come back as they are.
    """
    span = _find(body, _NEXT_URL)
    if span is None:
        return body
    vendor = _ABSOLUTE.match(body, *span)
    if vendor is None:
        return body
    ours = b'"' + (origin.rstrip("/") + prefix.rstrip("/")).encode()
    view = memoryview(body)  # megabytes, copied once
    return b"".join((view[: span[0]], ours, view[vendor.end() :]))


def next_url_of(body: bytes) -> str | None:
    """Return the address of the next page, if there is one."""
    return _value(body, _NEXT_URL)


def request_id_of(body: bytes) -> str | None:
    """Return the vendor's own name for this answer, to quote in a report."""
    return _value(body, _REQUEST_ID)


def _value(body: bytes, member: _Member) -> str | None:
    span = _find(body, member)
    if span is None:
        return None
    try:
        return msgspec.json.decode(body[slice(*span)], type=str)
    except UNREADABLE:
        return None


class _Failure(msgspec.Struct):
    error: str | None = None
    message: str | None = None


_failure = msgspec.json.Decoder(_Failure)
_TEXT_LIMIT: Final = 500


def error_text(body: bytes) -> str:
    """Say what an error body says: `error`, else `message`, else its text, shortened."""
    try:
        failure = _failure.decode(body)
    except UNREADABLE:
        failure = _Failure()
    text = failure.error or failure.message or body[: 4 * _TEXT_LIMIT].decode(errors="replace")
    return text.strip()[:_TEXT_LIMIT]


def error_body(
    status: str, message: str, *, request_id: str | None = None, code: str | None = None
) -> bytes:
    """Write an error as the vendor does: the text is in `error` for `ERROR`, else in `message`."""
    text = "error" if status == "ERROR" else "message"
    members = {"status": status, "request_id": request_id, text: message, "code": code}
    return msgspec.json.encode({key: value for key, value in members.items() if value is not None})


# cursors


def encode_cursor(query: str) -> str:
    """Wrap a query and position as the vendor does: base64url without padding."""
    return base64.urlsafe_b64encode(query.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Unwrap a cursor.

    Raises:
        InvalidRequest: not a cursor.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("not a cursor of ours") from error
