"""How an error leaves us: the only table from a code to the transports.

HTTP statuses follow the vendor where the vendor has one, so that official clients
retry what they should; faults of a credential are all 403 with a `token_*` code.

Close codes tell a client whether to come back:

    4000-4499  come back; 4401 with another token, 4429 not before the wait is over
    4500-4999  do not: the same session would end the same way
    1008 slow_consumer (the vendor's own), 1009 too large, 1011 our fault, 1012 restart

Every status frame has a `message`: official clients read it without looking.
"""

import math
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from onetape.errors import OnetapeError
from onetape.model import Topic


class Reply(NamedTuple):
    """What one code means on each transport."""

    http_status: int
    close_code: int
    status: str = "error"  # of the status frame, in the vendor's vocabulary


REPLIES: Final[Mapping[str, Reply]] = {
    "internal": Reply(500, 1011),
    "config_invalid": Reply(500, 4500),
    "invalid_request": Reply(400, 4500),
    "invalid_frame": Reply(400, 4500),
    "unknown_action": Reply(400, 4500),
    "invalid_topic": Reply(400, 4500),
    "invalid_symbol": Reply(400, 4500),
    "too_many_topics": Reply(400, 4500),
    "frame_too_large": Reply(413, 1009),
    "method_not_allowed": Reply(405, 4505),
    "not_found": Reply(404, 4504),
    "token_missing": Reply(403, 4401, "auth_failed"),
    "token_invalid": Reply(403, 4401, "auth_failed"),
    "token_expired": Reply(403, 4401, "auth_failed"),
    "token_revoked": Reply(403, 4401, "auth_failed"),
    "not_entitled": Reply(403, 4503),
    "not_connected": Reply(500, 1011),
    "throttled": Reply(429, 4429),
    "upstream_down": Reply(502, 4102),
    "upstream_timeout": Reply(504, 4104),
    "upstream_garbled": Reply(502, 4552),
    "upstream_forbidden": Reply(403, 4553),
    "upstream_throttled": Reply(429, 4129),
    "upstream_evicted": Reply(502, 4103),
    "provider_failed": Reply(502, 4102),
    "MASSIVE_API_ERROR": Reply(502, 4102),
    "TRADIER_API_ERROR": Reply(502, 4102),
    "MAX_RETRIES_EXCEEDED": Reply(502, 4102),
    "CONTRACT_NOT_FOUND": Reply(404, 4504),
    "ALL_PROVIDERS_FAILED": Reply(502, 4102),
    "subscription_failed": Reply(502, 4554),
    "stream_closed": Reply(503, 4000),
    "auth_timeout": Reply(408, 4408, "auth_timeout"),
    "session_expired": Reply(403, 4401),
    "slow_reader": Reply(503, 1008, "slow_consumer"),
    "shutting_down": Reply(503, 1012),
}
"""Every code of `errors.BY_CODE`, held to it by a test."""

_INTERNAL: Final = "something went wrong on our side; the log has the request id"


class HttpReply(NamedTuple):
    """An error as raw ASGI takes it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's error body, and our code."""

    status: str = "ERROR"
    request_id: str
    error: str
    code: str


class _StatusEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    ev: str
    status: str
    code: str
    message: str
    topic: str | None = None


_encoder = msgspec.json.Encoder()


def new_request_id() -> str:
    """Name one request, in the vendor's form: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def reply_for(error: BaseException) -> Reply:
    """Look the transports' words up; a foreign exception is `internal`."""
    return REPLIES[code_of(error)]


def code_of(error: BaseException) -> str:
    """Name the error publicly; a foreign exception is `internal`."""
    return error.code if isinstance(error, OnetapeError) else OnetapeError.code


def message_of(error: BaseException) -> str:
    """Say what a stranger may read: our own errors' words, nothing of foreign ones."""
    if not isinstance(error, OnetapeError):
        return _INTERNAL
    return str(error) or error.code.replace("_", " ")


def http_reply(error: BaseException, request_id: str) -> HttpReply:
    """Answer a request with the error, in the vendor's shape."""
    body = _Body(request_id=request_id, error=message_of(error), code=code_of(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode("latin-1", "replace")),
    ]
    retry_after_s = error.retry_after_s if isinstance(error, OnetapeError) else None
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
    return HttpReply(reply_for(error).http_status, headers, _encoder.encode(body))


def close_code(error: BaseException) -> int:
    """Say with which code a session that ends of this error is closed."""
    return reply_for(error).close_code


def status_frame(error: BaseException, *, topic: Topic | None = None) -> bytes:
    """Tell a session's client, and which topic it is about if it is about one."""
    return _frame(reply_for(error).status, error, topic)


def status_event(error: BaseException, *, topic: Topic | None = None) -> bytes:
    """Encode the same without the array's brackets and braces, for a frame of several."""
    return status_frame(error, topic=topic)[2:-2]


def auth_failed_frame(error: BaseException) -> bytes:
    """Refuse a login for whatever reason: official clients take any other status for success."""
    return _frame("auth_failed", error, None)


def _frame(status: str, error: BaseException, topic: Topic | None) -> bytes:
    event = _StatusEvent(
        ev="status", status=status, code=code_of(error), message=message_of(error), topic=topic
    )
    return b"[%b]" % _encoder.encode(event)
