"""The edge of the vendor's REST API: one pooled client, and how it behaves under failure.

One `get`, from the outside in:

    retry         network errors, 408, 429 and 5xx, a few times, full jitter, within the deadline
    breaker       one per endpoint family; open, the vendor is not asked at all
    cool-down     shared: after a 429 everybody waits as long as the vendor said
    turn          a semaphore and a pacer, so that we are never the ones who flood
    exchange      one request; bounded in time and in bytes, byte-exact in both directions

A `post` goes the same way once, without the retry. An answer of the vendor is returned
whatever its status; only the lack of one is raised.
"""

import asyncio
import contextlib
import random as stdlib_random
import re
import ssl
import statistics
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from onetape.clock import Clock
from onetape.core.limits import CoolDown, MinuteCounter, Pacer
from onetape.core.recovery import Backoff, BreakerState, CircuitBreaker, Permit
from onetape.errors import (
    UNREADABLE,
    ConfigInvalid,
    InvalidRequest,
    UpstreamDown,
    UpstreamError,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.wire_rest import (
    Endpoint,
    endpoint_class,
    parse_retry_after,
    request_id_of,
)

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]


class RestPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait, how often to try, and how much to take."""

    timeout_s: Positive = 10.0  # of one attempt
    deadline_s: Positive = 30.0  # of one `get`, waits included, unless it names its own
    attempts: Count = 3
    backoff_base_s: Positive = 1.0
    backoff_cap_s: Positive = 8.0
    throttle_s: Positive = 5.0  # the pause after a 429 that names none
    retry_after_cap_s: Positive = 60.0
    breaker_failures: Count = 5
    breaker_open_s: Positive = 10.0
    concurrency: Count = 32
    rate_per_s: Positive = 80.0  # the vendor asks to stay under 100
    burst: Count = 40
    max_body_bytes: Count = 64 << 20


class RestResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the vendor answered, unpacked but otherwise as it came."""

    status: int
    body: bytes
    content_type: str
    request_id: str | None
    retry_after_s: float | None
    received_ns: int
    attempts: int
    simulated: bool = False  # the vendor said so itself
    code: str | None = None  # of an error, where a gateway answered
    age_s: float | None = None  # of a copy: how long ago the vendor gave it
    stale_reason: str | None = None  # of an old copy: why there is no newer one


class RestStatistics(NamedTuple):
    """A snapshot for metrics, health and the dashboard. Counts are since the start."""

    requests: int
    attempts: int
    throttled: int
    failures: int
    in_flight: int
    cooling_s: float
    consecutive_failures: int
    last_success_ns: int | None
    last_failure_ns: int | None
    last_failure: str | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    breakers: Mapping[str, BreakerState]
    per_minute: Mapping[str, int]


Headers = Callable[[], Mapping[str, str]]


class _Ask(NamedTuple):
    method: Literal["GET", "POST"]
    url: URL
    headers: Headers
    endpoint: str  # the vendor's family, or the path of a peer's own
    deadline: float
    body: bytes | None = None


class _Outcome(NamedTuple):
    """What became of one attempt, and whether another may do better."""

    result: RestResponse | UpstreamError
    again: bool


_TOO_MANY: Final = 429
_RETRIED: Final = frozenset({408, _TOO_MANY})
_FAULT: Final = 500
_OK: Final = range(200, 300)
_VISIBLE: Final = re.compile(r"[!\"$-~]*").fullmatch  # ASCII without blanks, controls and #
_LATENCIES: Final = 256
_CHECKED_BYTES: Final = 1 << 20
_json = msgspec.json.Decoder(msgspec.Raw)


class MassiveREST:
    """The vendor's REST API, or a gateway's copy of it. Use as an async context manager.

    `get` is cancel-safe: cancelling it cancels the request, and the vendor is not
    blamed for it. `headers` is read anew for every attempt, so that a renewed
    credential counts at once.

    Args:
        base_url: What stands before every path.
        headers: What to send beside our own headers.
        clock: The time.
        policy: How long, how often, how much.
        sleep: How to wait.
        random: The jitter, from 0 to 1.
        tls: Whom to believe; the host's certificates if None.
        peer: What error messages call the other side.
        mount: A prefix of paths behind which the vendor's own are found.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        base_url: str,
        headers: Headers,
        clock: Clock,
        policy: RestPolicy,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
        tls: ssl.SSLContext | None = None,
        peer: str = "the vendor",
        mount: str = "",
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ConfigInvalid("the base address of the REST API is not http:// or https://")
        self._base = base_url.rstrip("/")
        self._headers = headers
        self._clock = clock
        self._policy = policy
        self._sleep = sleep
        self._random = random
        self._tls = tls
        self._peer = peer
        self._mount = mount
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(policy.concurrency)
        self._pacer = Pacer(policy.rate_per_s, policy.burst)
        self._cool_down = CoolDown(policy.retry_after_cap_s)
        self._breakers: dict[str, CircuitBreaker] = {}
        self._minute = MinuteCounter()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._requests = self._attempts = self._throttled = self._failures = 0
        self._in_flight = self._consecutive_failures = 0
        self._last_success_ns: int | None = None
        self._last_failure_ns: int | None = None
        self._last_failure: str | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._policy.concurrency, ssl=True if self._tls is None else self._tls
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "onetape"},
            timeout=aiohttp.ClientTimeout(total=self._policy.timeout_s),
            trust_env=False,
        )
        # aiohttp would ask once more by itself, unseen by the breaker, the pacer and the
        # counters. Its test client turns that off the same way; a test of ours holds it.
        self._session._retry_connection = False  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # asking

    async def get(
        self,
        path: str,
        query: str = "",
        *,
        deadline_s: float | None = None,
        headers: Headers | None = None,
    ) -> RestResponse:
        """Ask for a path and a query string, both already encoded; they are sent as they are.

        `headers` are for this request in place of the common ones.

        Raises:
            InvalidRequest: not an encoded absolute path or query.
            UpstreamDown: no answer, or the breaker of this endpoint family is open.
            UpstreamTimeout: no answer in time, or no turn before the deadline.
            UpstreamGarbled: only answers that are cut short, not what they say, or too large.
            UpstreamThrottled: the shared cool-down or the queue outlasts the deadline.
        """
        url, endpoint = self._target(path, query)
        ask = _Ask("GET", url, headers or self._headers, endpoint, self._deadline(deadline_s))
        self._requests += 1
        backoff = Backoff(
            self._policy.backoff_base_s,
            max(self._policy.backoff_base_s, self._policy.backoff_cap_s),
            first_immediate=False,
            random=self._random,
        )
        outcome = await self._attempt(ask, 1)
        for number in range(2, self._policy.attempts + 1):
            wait_s = self._patience(outcome, backoff)
            if wait_s is None or self._clock.monotonic() + wait_s >= ask.deadline:
                break
            await self._sleep(wait_s)
            try:
                outcome = await self._attempt(ask, number)
            except UpstreamError:  # no leave to try again: what came before stands
                break
        return _answer(outcome)

    async def post(
        self, path: str, body: bytes = b"", *, deadline_s: float | None = None
    ) -> RestResponse:
        """Send JSON to an encoded path, once: nobody knows what a lost request has done.

        Raises:
            InvalidRequest: not an encoded absolute path.
            UpstreamError: as for `get`.
        """
        url, endpoint = self._target(path, "")
        ask = _Ask("POST", url, self._headers, endpoint, self._deadline(deadline_s), body)
        self._requests += 1
        return _answer(await self._attempt(ask, 1))

    def statistics(self) -> RestStatistics:
        """Count everything."""
        now = self._clock.monotonic()
        ranked = sorted(self._latencies)
        return RestStatistics(
            requests=self._requests,
            attempts=self._attempts,
            throttled=self._throttled,
            failures=self._failures,
            in_flight=self._in_flight,
            cooling_s=self._cool_down.remaining(now),
            consecutive_failures=self._consecutive_failures,
            last_success_ns=self._last_success_ns,
            last_failure_ns=self._last_failure_ns,
            last_failure=self._last_failure,
            latency_p50_s=statistics.median(ranked) if ranked else None,
            latency_p95_s=ranked[len(ranked) * 95 // 100] if ranked else None,
            breakers={endpoint: breaker.state for endpoint, breaker in self._breakers.items()},
            per_minute=self._minute.snapshot(now),
        )

    # private, deciding

    def _target(self, path: str, query: str) -> tuple[URL, str]:
        if not (path.startswith("/") and _VISIBLE(path) and _VISIBLE(query)) or "?" in path:
            raise InvalidRequest("a path or query that is not encoded")
        url = URL(f"{self._base}{path}?{query}" if query else self._base + path, encoded=True)
        endpoint = endpoint_class(path.removeprefix(self._mount))
        # Behind a mount there are the peer's own paths too: few, and each fails by itself.
        is_own = endpoint is Endpoint.OTHER and bool(self._mount)
        return url, path if is_own else endpoint

    def _deadline(self, deadline_s: float | None) -> float:
        allowed_s = self._policy.deadline_s if deadline_s is None else deadline_s
        return self._clock.monotonic() + allowed_s

    def _patience(self, outcome: _Outcome, backoff: Backoff) -> float | None:
        """Return how long to wait before the next attempt; None for not to make one."""
        if not outcome.again:
            return None
        result = outcome.result
        if isinstance(result, RestResponse):
            if result.status == _TOO_MANY:
                return self._cool_down.remaining(self._clock.monotonic())
            if result.retry_after_s is not None:
                return max(result.retry_after_s, backoff.next_delay())
        return backoff.next_delay()

    async def _attempt(self, ask: _Ask, number: int) -> _Outcome:
        breaker = self._breakers.get(ask.endpoint)
        if breaker is None:
            breaker = CircuitBreaker(self._policy.breaker_failures, self._policy.breaker_open_s)
            self._breakers[ask.endpoint] = breaker
        permit = breaker.admit(self._clock.monotonic())
        if permit is None:
            raise UpstreamDown(
                f"{self._peer} keeps failing at {ask.endpoint}; not asked again for a while",
                retry_after_s=breaker.retry_after_s(self._clock.monotonic()),
            )
        try:
            async with self._turn(ask.deadline):
                return await self._report(ask, number, permit)
        finally:
            permit.abandoned(self._clock.monotonic())  # unless something was reported

    @contextlib.asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncGenerator[None]:
        """Wait until we may ask: no cool-down, a free slot, and a turn at our own pace."""
        await self._pause(deadline)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                await self._turns.acquire()
        except TimeoutError:
            raise UpstreamTimeout("too many requests ahead of this one") from None
        try:
            await self._pause(deadline)  # it may have begun while we stood in line
            await self._pace(deadline)
            yield
        finally:
            self._turns.release()

    async def _pause(self, deadline: float) -> None:
        while (wait_s := self._cool_down.remaining(now := self._clock.monotonic())) > 0:
            if now + wait_s >= deadline:
                raise UpstreamThrottled(f"{self._peer} asked us to wait", retry_after_s=wait_s)
            await self._sleep(wait_s)

    async def _pace(self, deadline: float) -> None:
        now = self._clock.monotonic()
        wait_s = self._pacer.reserve(now)
        if wait_s <= 0:
            return
        turn = now + wait_s
        try:
            if turn >= deadline:
                raise UpstreamThrottled("too many requests ahead", retry_after_s=wait_s)
            await self._sleep(wait_s)
        finally:
            self._pacer.cancel(turn, self._clock.monotonic())  # unless it has come

    # private, doing

    async def _report(self, ask: _Ask, number: int, permit: Permit) -> _Outcome:
        """Make one exchange and tell the breaker and the statistics what became of it."""
        started = self._clock.monotonic()
        allowed_s = min(self._policy.timeout_s, ask.deadline - started)
        if allowed_s <= 0:
            raise UpstreamTimeout(f"the deadline passed before {self._peer} was asked")
        self._minute.add(ask.endpoint, started)
        self._attempts += 1
        self._in_flight += 1
        try:
            response = await self._exchange(ask, allowed_s, number)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # A caller in a hurry says nothing about the vendor.
            hurried = isinstance(error, TimeoutError) and allowed_s < self._policy.timeout_s / 2
            if not hurried:
                permit.failed(self._clock.monotonic())
            return _Outcome(self._failed(_failure(error, self._peer, number)), again=True)
        except UpstreamGarbled as failure:  # too large, and so it would be again
            permit.succeeded(self._clock.monotonic())
            return _Outcome(self._failed(failure), again=False)
        finally:
            self._in_flight -= 1
        self._answered(response, permit, started)
        if not _is_readable(response):
            failure = UpstreamGarbled(f"{self._peer}'s answer is not the JSON it says it is")
            return _Outcome(self._failed(failure), again=True)
        return _Outcome(response, again=response.status in _RETRIED or response.status >= _FAULT)

    def _answered(self, response: RestResponse, permit: Permit, started: float) -> None:
        now = self._clock.monotonic()
        self._latencies.append(now - started)
        if response.status >= _FAULT:
            permit.failed(now)
            self._failed(UpstreamDown(f"status {response.status}"))
            return
        permit.succeeded(now)
        self._consecutive_failures = 0
        self._last_success_ns = response.received_ns
        if response.status == _TOO_MANY:
            self._throttled += 1
            pause_s = response.retry_after_s
            self._cool_down.start(self._policy.throttle_s if pause_s is None else pause_s, now)

    def _failed(self, failure: UpstreamError) -> UpstreamError:
        self._failures += 1
        self._consecutive_failures += 1
        self._last_failure_ns = self._clock.now_ns()
        self._last_failure = failure.code
        return failure

    async def _exchange(self, ask: _Ask, allowed_s: float, number: int) -> RestResponse:
        if self._session is None:
            raise RuntimeError("use MassiveREST as an async context manager")
        headers = ask.headers()
        if ask.body is not None:
            headers = {"Content-Type": "application/json", **headers}
        async with self._session.request(
            ask.method,
            ask.url,
            headers=headers,
            data=ask.body,
            timeout=aiohttp.ClientTimeout(total=allowed_s),
            allow_redirects=False,  # the credential goes to the configured host alone
        ) as response:
            body = await self._read(response)
            received_ns = self._clock.now_ns()
            pause_s = parse_retry_after(response.headers.get("Retry-After"), received_ns)
            cap_s = self._policy.retry_after_cap_s
            return RestResponse(
                status=response.status,
                body=body,
                content_type=response.headers.get("Content-Type", ""),
                request_id=response.headers.get("X-Request-Id") or request_id_of(body),
                retry_after_s=None if pause_s is None else min(pause_s, cap_s),
                received_ns=received_ns,
                attempts=number,
                simulated=response.headers.get("X-Onetape-Simulated") == "true",
                code=response.headers.get("X-Onetape-Code"),
                age_s=_age_of(response.headers.get("Age", "")),
                stale_reason=response.headers.get("X-Onetape-Stale-Reason"),
            )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():  # unpacked already, so bombs count too
            size += len(chunk)
            if size > self._policy.max_body_bytes:
                raise UpstreamGarbled(f"{self._peer}'s answer is larger than we read")
            chunks.append(chunk)
        return b"".join(chunks)


def _is_readable(response: RestResponse) -> bool:
    """Check that a good answer that says it is JSON is; of a large one, only its ends.

    Walking costs about a millisecond per megabyte, which the ticks would wait for.
    """
    if response.status not in _OK or "json" not in response.content_type.lower():
        return True
    body = response.body
    if len(body) > _CHECKED_BYTES:
        ends = body[:64].lstrip()[:1] + body[-64:].rstrip()[-1:]
        return ends in {b"{}", b"[]"}
    try:
        _json.decode(body)
    except UNREADABLE:
        return False
    return True


def _age_of(value: str) -> float | None:
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _answer(outcome: _Outcome) -> RestResponse:
    if isinstance(outcome.result, UpstreamError):
        raise outcome.result
    return outcome.result


def _failure(error: Exception, peer: str, number: int) -> UpstreamError:
    """Say in our own words why there is no answer, without addresses."""
    tries = "1 try" if number == 1 else f"{number} tries"
    failure: UpstreamError
    match error:
        case TimeoutError():
            failure = UpstreamTimeout(f"{peer} did not answer in time ({tries})")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            failure = UpstreamGarbled(f"{peer}'s answer broke off ({tries})")
        case _:
            failure = UpstreamDown(f"{peer} cannot be reached ({tries})")
    failure.__cause__ = error
    return failure
