"""How a provider does, from what became of its questions.

    ok ──a third failure in a row──▶ failing ──an answer──▶ ok

Sans-I/O. What is not there is an answer, and what the caller asked wrongly is the
caller's affair: neither says anything bad of the provider (W-59).
"""

from typing import Final

from onetape.errors import (
    ContractNotFound,
    DataProviderError,
    OnetapeError,
    RequestError,
    ShuttingDown,
)
from onetape.model import ProviderHealth

UNHEALTHY_AFTER: Final = 3
"""So many failures in a row, and a provider is not healthy (R222)."""

_WEIGHT: Final = 0.2  # of the newest response time in the mean
_TEXT_LIMIT: Final = 200
_DEPTH: Final = 8  # errors beneath errors


class HealthMeter:
    """Counts what became of one provider's questions. One event loop owns it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._requests = self._failures = self._consecutive = 0
        self._last_success_ns: int | None = None
        self._last_failure_ns: int | None = None
        self._last_failure: str | None = None
        self._last_failure_code: str | None = None
        self._response_s: float | None = None
        self._mean_s: float | None = None

    def answered(self, *, took_s: float, now_ns: int) -> None:
        """There was an answer, be it that there is no such thing."""
        self._count(took_s)
        self._consecutive = 0
        self._last_success_ns = now_ns

    def failed(self, error: OnetapeError, *, took_s: float, now_ns: int) -> None:
        """There was none, or one that is worth nothing."""
        self._count(took_s)
        self._failures += 1
        self._consecutive += 1
        self._last_failure_ns = now_ns
        self._last_failure = f"{error.code}: {error}"[:_TEXT_LIMIT]
        self._last_failure_code = root_code_of(error)

    def health(self) -> ProviderHealth:
        """Return how it does."""
        is_healthy = self._consecutive < UNHEALTHY_AFTER
        return ProviderHealth(
            provider=self._provider,
            healthy=is_healthy,
            status="ok" if is_healthy else "failing",
            last_success_ns=self._last_success_ns,
            last_failure_ns=self._last_failure_ns,
            last_failure=self._last_failure,
            last_failure_code=self._last_failure_code,
            consecutive_errors=self._consecutive,
            requests=self._requests,
            failures=self._failures,
            response_time_s=self._response_s,
            mean_response_time_s=self._mean_s,
        )

    def _count(self, took_s: float) -> None:
        self._requests += 1
        self._response_s = took_s
        mean_s = took_s if self._mean_s is None else self._mean_s
        self._mean_s = mean_s + _WEIGHT * (took_s - mean_s)


def is_failure(error: OnetapeError) -> bool:
    """Tell whether an error says something bad of the provider that raised it."""
    return not isinstance(error, RequestError | ContractNotFound | ShuttingDown)


def as_failure(
    error: OnetapeError, kind: type[DataProviderError], provider: str
) -> DataProviderError:
    """Return what went wrong as the failure of a provider, with its cause in it."""
    if isinstance(error, DataProviderError):
        return error
    return kind(
        str(error),
        provider=provider,
        status=status_of(error),
        causes=(error,),
        retry_after_s=error.retry_after_s,
    )


def root_code_of(error: OnetapeError) -> str:
    """Return the code of what a provider's failure comes down to."""
    for _ in range(_DEPTH):
        causes = error.causes if isinstance(error, DataProviderError) else ()
        root = next((cause for cause in causes if isinstance(cause, OnetapeError)), None)
        if root is None:
            break
        error = root
    return error.code


def status_of(error: BaseException | None) -> int | None:
    """Return the HTTP status that an error tells of, itself or in what caused it."""
    for _ in range(_DEPTH):
        if error is None:
            return None
        status = getattr(error, "status", None)
        if isinstance(status, int) and status > 0:
            return status
        error = error.__cause__
    return None
