"""The vendor's answer as we pass it on: what is changed, what is not, and its copies.

A good answer and a refusal of the vendor go through byte for byte, but for the place
in `next_url` that names the host: there the stored body has a blank, which is filled
with the origin the client called. Three things do not go through:

    200 that is HTML, or no JSON although it says so   UpstreamGarbled, never kept
    401, our key is bad                                403 upstream_forbidden: not the client's fault
    HTML or nothing with an error status               our JSON in the vendor's shape, same status

An `Answer` is made once and read by many; its copies (with which origin, packed or
not) are made when first asked for.
"""

import gzip
import math
import secrets
from typing import Final, NamedTuple, Protocol

import msgspec

from onetape.errors import (
    UNREADABLE,
    InvalidRequest,
    NotFound,
    OnetapeError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.gateway.replies import http_reply, new_request_id
from onetape.massive.wire_rest import rewrite_next_url

Header = tuple[bytes, bytes]

PACK_FROM_BYTES: Final = 1_024
"""Smaller bodies go out as they are: packing saves no segment on the wire."""

PACK_LEVEL: Final = 1  # JSON rows: 4:1 where level 9 gives 5:1 for nine times the work

MAX_RETRY_AFTER_S: Final = 5.0
"""The official client sleeps for what we say, three times, in its caller's thread."""

_OVERHEAD_BYTES: Final = 1_024
_PACKED_COPIES: Final = 4  # one gateway is called by few names
_KEPT_STATUSES: Final = frozenset({502, 503, 504})
# No vendor can guess it, so what we find is what `rewrite_next_url` put there.
_BLANK: Final = f"http://{secrets.token_hex(16)}.invalid"


class VendorResponse(Protocol):
    """What we need of `massive.rest.RestResponse`."""

    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102
    @property
    def content_type(self) -> str: ...  # noqa: D102
    @property
    def request_id(self) -> str | None: ...  # noqa: D102
    @property
    def retry_after_s(self) -> float | None: ...  # noqa: D102
    @property
    def simulated(self) -> bool: ...  # noqa: D102


class Copy(NamedTuple):
    """One answer as one kind of client takes it; headers that vary by request are not in it."""

    headers: tuple[Header, ...]
    body: bytes


class Answer:
    """What one upstream request gave, for all who asked the same."""

    __slots__ = ("_copies", "_headers", "_packable", "_parts", "code", "request_id", "status")

    def __init__(
        self,
        *,
        status: int,
        headers: tuple[Header, ...],
        parts: tuple[bytes, ...],
        request_id: str,
        code: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.request_id = request_id
        self._parts = parts
        size = sum(map(len, parts))
        self._packable = size > PACK_FROM_BYTES and _is_text(headers)
        self._headers = (*headers, (b"vary", b"accept-encoding")) if self._packable else headers
        self._copies: dict[str, Copy] = {}  # the packed ones, by base

    @property
    def is_good(self) -> bool:
        """Whether it may be kept, and served again."""
        return self.status == 200

    @property
    def is_fault(self) -> bool:
        """Whether an older good answer serves the client better."""
        return self.status >= 500 or self.status == 429

    @property
    def size_bytes(self) -> int:
        """What keeping it costs: the body, and room for packed copies as large together."""
        return 2 * sum(map(len, self._parts)) + _OVERHEAD_BYTES

    def plain(self, base: str) -> Copy:
        """Return the copy as it came; `base` is the origin and prefix that the client called."""
        parts = self._parts
        # Filling the blank copies the body; that costs less than writing it to a socket,
        # and a kept copy per origin would double the memory.
        body = parts[0] if len(parts) == 1 else base.encode("ascii").join(parts)
        return Copy((*self._headers, (b"content-length", b"%d" % len(body))), body)

    def needs_packing(self, base: str) -> bool:
        """Whether a client that takes gzip has to wait for `pack`."""
        return self._packable and self._base(base) not in self._copies

    def packed(self, base: str) -> Copy:
        """Return the gzip copy if one was made, else the plain one."""
        return self._copies.get(self._base(base)) or self.plain(base)

    def pack(self, base: str) -> None:
        """Make the gzip copy. Takes a few ms per MB: call it from a thread for large bodies."""
        body = gzip.compress(self.plain(base).body, PACK_LEVEL, mtime=0)
        headers: tuple[Header, ...] = (
            *self._headers,
            (b"content-encoding", b"gzip"),
            (b"content-length", b"%d" % len(body)),
        )
        copies = self._copies
        # In one step, so that a reader in another thread sees the old or the new ones.
        self._copies = {
            **dict([*copies.items()][1 - _PACKED_COPIES :]),
            self._base(base): Copy(headers, body),
        }

    def _base(self, base: str) -> str:
        return base if len(self._parts) > 1 else ""


def answer_of(response: VendorResponse) -> Answer:
    """Judge the vendor's response. Reads all of it: call it from a thread for large bodies.

    Raises:
        UpstreamGarbled: it claims success and cannot be read.
    """
    if response.status < 400:
        return _good(response)
    if response.status == 401:
        return _refusal(response, UpstreamForbidden("the vendor does not accept the gateway's key"))
    error = _error_for(response)
    status = response.status
    if status >= 500 and status not in _KEPT_STATUSES:
        status = 502
    readable = _is_json(response.body) if status >= 500 or status == 429 else not _is_html(response)
    if not readable:
        return _refusal(response, error, status)
    return _passed(response, status, (response.body,), error)


def _good(response: VendorResponse) -> Answer:
    if response.status >= 300:
        raise UpstreamGarbled("the vendor answered with a redirect")
    if _is_html(response):
        raise UpstreamGarbled("the vendor answered with a page")
    body, parts = response.body, (response.body,)
    if "json" in response.content_type:
        if not _is_json(body):
            raise UpstreamGarbled("the vendor's JSON cannot be read")
        if b"next_url" in body:
            rewritten = rewrite_next_url(body, origin=_BLANK, prefix="")
            parts = tuple(rewritten.split(_BLANK.encode("ascii")))
    return _passed(response, response.status, parts, None)


def _error_for(response: VendorResponse) -> OnetapeError:
    match response.status:
        case 403:
            return UpstreamForbidden("the vendor's plan does not include this")
        case 404:
            return NotFound("the vendor has no such thing")
        case 429:
            wanted = MAX_RETRY_AFTER_S if response.retry_after_s is None else response.retry_after_s
            return UpstreamThrottled("the vendor asks us to wait", retry_after_s=short(wanted))
        case 504:
            return UpstreamTimeout("the vendor's own upstream did not answer in time")
        case status if status >= 500:
            return UpstreamDown(f"the vendor failed with status {status}")
        case _:
            return InvalidRequest("the vendor refused the request")


def short(seconds: float) -> float:
    """Cap a wait to what a client that sleeps through it can bear; at least a second."""
    return min(max(1.0, seconds), MAX_RETRY_AFTER_S)


def _passed(
    response: VendorResponse, status: int, parts: tuple[bytes, ...], error: OnetapeError | None
) -> Answer:
    request_id = _header_text(response.request_id or "") or new_request_id()
    content_type = _header_text(response.content_type) or "application/octet-stream"
    headers: list[Header] = [
        (b"content-type", content_type.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if response.simulated:
        headers.append((b"x-onetape-simulated", b"true"))
    if error is not None:
        headers.append((b"x-onetape-code", error.code.encode("ascii")))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    return Answer(
        status=status,
        headers=tuple(headers),
        parts=parts,
        request_id=request_id,
        code=error.code if error else None,
    )


def _refusal(response: VendorResponse, error: OnetapeError, status: int | None = None) -> Answer:
    request_id = _header_text(response.request_id or "") or new_request_id()
    return refusal(error, request_id, status)


def refusal(error: OnetapeError, request_id: str, status: int | None = None) -> Answer:
    """Answer in the vendor's shape with an error of ours; whatever it asks, the wait is short."""
    if error.retry_after_s is not None:
        error = type(error)(str(error), retry_after_s=short(error.retry_after_s))
    reply = http_reply(error, request_id)
    return Answer(
        status=status or reply.status,
        headers=(*reply.headers, (b"x-onetape-code", error.code.encode("ascii"))),
        parts=(reply.body,),
        request_id=request_id,
        code=error.code,
    )


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


def _is_html(response: VendorResponse) -> bool:
    return "html" in response.content_type.lower()


def _is_text(headers: tuple[Header, ...]) -> bool:
    content_type = headers[0][1]
    return content_type.startswith(b"text/") or b"json" in content_type


def _header_text(text: str) -> str:
    """Return it if a header may carry it, else nothing."""
    return text if len(text) <= 128 and text.isascii() and text.isprintable() else ""
