"""Every error this package raises on purpose.

OnetapeError                  internal
├── ConfigInvalid             config_invalid: a setting is missing or wrong; names the variable
├── RequestError              the caller is at fault; the same request fails again
│   ├── InvalidRequest        invalid_request: a path, parameter or frame we cannot read
│   │   ├── InvalidFrame      invalid_frame: not a JSON object, or not text we can read
│   │   ├── UnknownAction     unknown_action
│   │   ├── InvalidTopic      invalid_topic: not CHANNEL.SYMBOL, or no such channel here
│   │   ├── InvalidSymbol     invalid_symbol: a symbol of no known shape
│   │   ├── TooManyTopics     too_many_topics
│   │   ├── FrameTooLarge     frame_too_large
│   │   └── MethodNotAllowed  method_not_allowed
│   ├── NotFound              not_found
│   ├── Unauthorized          the credential is at fault
│   │   ├── TokenMissing      token_missing
│   │   ├── TokenInvalid      token_invalid
│   │   ├── TokenExpired      token_expired: mint another and try again
│   │   └── TokenRevoked      token_revoked
│   ├── NotEntitled           not_entitled: the credential's scopes do not cover this
│   └── NotConnected          not_connected: the client was not connected, or no longer is
├── Throttled                 throttled: the caller is early; wait `retry_after_s`
├── UpstreamError             the vendor is at fault
│   ├── UpstreamDown          upstream_down: refused, reset, 5xx, or an open breaker
│   ├── UpstreamTimeout       upstream_timeout
│   ├── UpstreamGarbled       upstream_garbled: bytes we cannot read
│   ├── UpstreamForbidden     upstream_forbidden: the vendor's 401 or 403 to our key
│   ├── UpstreamThrottled     upstream_throttled: the vendor's 429
│   └── UpstreamEvicted       upstream_evicted: another login took our connection
├── DataProviderError         provider_failed: of one provider or of all; holds what each said
│   ├── MassiveApiError       MASSIVE_API_ERROR
│   ├── TradierApiError       TRADIER_API_ERROR
│   ├── MaxRetriesExceeded    MAX_RETRIES_EXCEEDED: asked as often as is decent
│   ├── ContractNotFound      CONTRACT_NOT_FOUND: an answer, not a failure of the provider
│   └── AllProvidersFailed    ALL_PROVIDERS_FAILED: nobody answered; every cause is there
├── SubscriptionFailed        subscription_failed: the upstream does not carry the topic
└── StreamClosed              stream_closed: the live stream ended
    ├── AuthTimeout           auth_timeout: no credential arrived in time
    ├── SessionExpired        session_expired: the credential ran out on an open socket
    ├── SlowReader            slow_reader: we cut a reader that could not keep up
    └── ShuttingDown          shutting_down: the gateway drains; come back

The five codes in capitals are those of the data layer we come from. `code` is public: it travels on both wires and in metrics and never changes
meaning. HTTP statuses and close codes are not here; `gateway.replies` owns them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What reading JSON from outside raises; the last where a hundred thousand brackets nest."""


class OnetapeError(Exception):
    """Root of the tree: catch this to catch everything we raise on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConfigInvalid(OnetapeError):
    """A setting is missing or wrong; the message names the variable, never its value."""

    code = "config_invalid"


class RequestError(OnetapeError):
    """The caller is at fault; the same request fails again."""


class InvalidRequest(RequestError):
    """A path, parameter or frame we cannot read."""

    code = "invalid_request"


class InvalidFrame(InvalidRequest):
    """A frame that is not a JSON object, or not text we can read."""

    code = "invalid_frame"


class UnknownAction(InvalidRequest):
    """A frame whose action we do not know."""

    code = "unknown_action"


class InvalidTopic(InvalidRequest):
    """A topic that is not CHANNEL.SYMBOL, or whose channel this socket does not carry."""

    code = "invalid_topic"


class InvalidSymbol(InvalidRequest):
    """A symbol of no known shape."""

    code = "invalid_symbol"


class TooManyTopics(InvalidRequest):
    """More topics than one client, or one upstream connection, may hold."""

    code = "too_many_topics"


class FrameTooLarge(InvalidRequest):
    """A frame or a request larger than we read."""

    code = "frame_too_large"


class MethodNotAllowed(InvalidRequest):
    """A method the route does not answer."""

    code = "method_not_allowed"


class NotFound(RequestError):
    """There is no such thing here."""

    code = "not_found"


class Unauthorized(RequestError):
    """The credential is at fault."""


class TokenMissing(Unauthorized):
    """No credential came with the request."""

    code = "token_missing"


class TokenInvalid(Unauthorized):
    """The credential is unknown, malformed or not signed by us."""

    code = "token_invalid"


class TokenExpired(Unauthorized):
    """The token ran out: mint another and try again."""

    code = "token_expired"


class TokenRevoked(Unauthorized):
    """The key or token was revoked."""

    code = "token_revoked"


class NotEntitled(RequestError):
    """The credential's scopes do not cover this."""

    code = "not_entitled"


class NotConnected(RequestError):
    """The client was not connected, or no longer is: `async with`, or `connect` first."""

    code = "not_connected"


class Throttled(OnetapeError):
    """The caller is early: try again after `retry_after_s` seconds."""

    code = "throttled"
    retryable = True


class UpstreamError(OnetapeError):
    """The vendor is at fault; another source may still answer."""

    retryable = True


class UpstreamDown(UpstreamError):
    """The vendor refused, reset, answered 5xx, or its breaker is open."""

    code = "upstream_down"


class UpstreamTimeout(UpstreamError):
    """The vendor did not answer within the deadline."""

    code = "upstream_timeout"


class UpstreamGarbled(UpstreamError):
    """The vendor answered with bytes we cannot read; asking again won't help."""

    code = "upstream_garbled"
    retryable = False


class UpstreamForbidden(UpstreamError):
    """The vendor does not accept our key, or our plan lacks this."""

    code = "upstream_forbidden"
    retryable = False


class UpstreamThrottled(UpstreamError):
    """The vendor asks us to wait `retry_after_s` seconds."""

    code = "upstream_throttled"


class UpstreamEvicted(UpstreamError):
    """Another login on the same account took our connection."""

    code = "upstream_evicted"


class DataProviderError(OnetapeError):
    """A provider did not do what was asked of it.

    `provider` is who, `status` the HTTP status if there was one, and `causes` what
    went wrong beneath, one error for each provider or attempt.
    """

    code = "provider_failed"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        causes: Sequence[Exception] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.provider = provider
        self.status = status
        self.causes = tuple(causes)
        if self.causes:
            self.__cause__ = self.causes[-1]

    def as_dict(self) -> dict[str, Any]:
        """Describe the error for JSON: no traceback, and nothing but what we said ourselves."""
        return {
            "code": self.code,
            "message": str(self),
            "provider": self.provider,
            "status": self.status,
            "retry_after_s": self.retry_after_s,
            "causes": [_described(cause) for cause in self.causes],
        }


class MassiveApiError(DataProviderError):
    """Massive failed, or its answer is worth nothing."""

    code = "MASSIVE_API_ERROR"


class TradierApiError(DataProviderError):
    """Tradier failed, or its answer is worth nothing."""

    code = "TRADIER_API_ERROR"


class MaxRetriesExceeded(DataProviderError):
    """A provider was asked as often as is decent and answered nothing of use."""

    code = "MAX_RETRIES_EXCEEDED"


class ContractNotFound(DataProviderError):
    """There is no such contract: an answer, and no fault of the provider."""

    code = "CONTRACT_NOT_FOUND"
    retryable = False


class AllProvidersFailed(DataProviderError):
    """Nobody answered; `causes` has what each of them said."""

    code = "ALL_PROVIDERS_FAILED"


class SubscriptionFailed(OnetapeError):
    """The upstream does not carry the topic."""

    code = "subscription_failed"


class StreamClosed(OnetapeError):
    """The live stream ended."""

    code = "stream_closed"
    retryable = True


class AuthTimeout(StreamClosed):
    """No credential arrived in time."""

    code = "auth_timeout"


class SessionExpired(StreamClosed):
    """The credential ran out on an open socket and was not renewed."""

    code = "session_expired"


class SlowReader(StreamClosed):
    """We cut a reader that could not keep up."""

    code = "slow_reader"


class ShuttingDown(StreamClosed):
    """The gateway drains; come back."""

    code = "shutting_down"


def _described(cause: Exception) -> dict[str, Any]:
    if isinstance(cause, DataProviderError):
        return cause.as_dict()
    if isinstance(cause, OnetapeError):
        return {"code": cause.code, "message": str(cause)}
    return {"code": OnetapeError.code, "message": type(cause).__name__}  # its text is not ours


def _tree(root: type[OnetapeError]) -> Iterator[type[OnetapeError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_CODE: Final[Mapping[str, type[OnetapeError]]] = {
    cls.code: cls for cls in _tree(OnetapeError) if "code" in vars(cls)
}
"""What the client library raises for a `code` it reads off the wire."""
