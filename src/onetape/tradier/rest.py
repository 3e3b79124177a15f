"""The edge of Tradier's REST API: one pooled client, and how it behaves under failure.

One `ask`, from the outside in:

    retry        no answer, 5xx, 404, a page instead of data; 429; 401 once more; full jitter
    breaker      one per path; open, Tradier is not asked at all
    turn         few at once, and a place in the budget of requests a minute, by priority
    exchange     one request; bounded in time and in bytes; judged by `wire_rest.refusal_of`

Unlike Massive, Tradier refuses in plain text and at any status, so an answer is judged
here and `get` returns good ones only. `Refused` beneath an error has the status as a
number. The token is sent to the configured host alone and is cut out of whatever we quote.
"""

import asyncio
import contextlib
import random as stdlib_random
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Annotated, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from onetape.clock import Clock
from onetape.core.recovery import Backoff, BreakerState, CircuitBreaker, Permit
from onetape.errors import (
    ConfigInvalid,
    UpstreamDown,
    UpstreamError,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.wire_rest import parse_retry_after
from onetape.secret import Secret
from onetape.tradier.budget import Budget, BudgetStatistics, Priority, Ticket
from onetape.tradier.wire_rest import (
    Again,
    Ask,
    Refusal,
    ask_session,
    rate_limits,
    refusal_of,
)
from onetape.tradier.wire_stream import StreamSession, parse_session

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]


class TradierPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait, how often to try, and how much to take."""

    timeout_s: Positive = 10.0  # of one attempt
    deadline_s: Positive = 30.0  # of one `ask`, waits included, unless it names its own
    attempts: Count = 3
    backoff_base_s: Positive = 1.0
    backoff_cap_s: Positive = 8.0
    throttle_s: Positive = 5.0  # the pause after a 429 that names none
    breaker_failures: Count = 5
    breaker_open_s: Positive = 10.0
    concurrency: Count = 4
    per_minute: Count = 120
    reserve: Annotated[int, msgspec.Meta(ge=0)] = 24  # of those, for interactive requests alone
    max_body_bytes: Count = 32 << 20
    max_query_bytes: Count = 2_000  # a longer list of symbols is posted


SANDBOX: Final = TradierPolicy(per_minute=60, reserve=12)
"""The sandbox takes half as much."""


class TradierAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A good answer: JSON with the member that was asked for."""

    body: bytes
    received_ns: int
    attempts: int
    simulated: bool = False  # Tradier's double said so itself


class Refused(Exception):
    """What Tradier answered instead of what was asked for: the cause of our error.

    The status tells little: its pages of an outage come with 200.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class TradierStatistics(NamedTuple):
    """A snapshot for metrics, health and the dashboard. Counts are since the start."""

    requests: int
    attempts: int
    throttled: int
    failures: int
    in_flight: int
    consecutive_failures: int
    last_success_ns: int | None
    last_failure_ns: int | None
    last_failure: str | None
    budget: BudgetStatistics
    breakers: Mapping[str, BreakerState]


class _Call(NamedTuple):
    ask: Ask
    url: URL
    form: bytes | None
    priority: Priority
    deadline: float


class _Outcome(NamedTuple):
    """What became of one attempt: `refusal` when there is no answer to use."""

    answer: TradierAnswer | None
    refusal: Refusal | None


_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


class TradierREST:
    """Tradier's REST API. Use as an async context manager.

    `ask` and `get` are cancel-safe: cancelling gives the place in line back, and Tradier
    is not blamed. A request that was sent counts, whatever became of it.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        base_url: str,
        token: Secret,
        clock: Clock,
        policy: TradierPolicy,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ConfigInvalid("TRADIER_BASE_URL is not http:// or https://")
        self._base = base_url.rstrip("/")
        self._token = token
        self._clock = clock
        self._policy = policy
        self._sleep = sleep
        self._random = random
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._slots = _Slots(policy.concurrency)
        self._budget = Budget(policy.per_minute, reserve=min(policy.reserve, policy.per_minute - 1))
        self._breakers: dict[str, CircuitBreaker] = {}
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
            trust_env=False,
        )
        # See `massive.rest`: aiohttp would ask once more by itself, past our budget.
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
        ask: Ask,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float | None = None,
    ) -> TradierAnswer:
        """Ask, and return the answer if it is good.

        Raises:
            InvalidRequest: Tradier refused a parameter; its words are in the message.
            UpstreamDown: no answer, or pages and faults only, or the path's breaker is open.
            UpstreamTimeout: no answer in time, or no turn before the deadline.
            UpstreamGarbled: an answer without what was asked for, or too large.
            UpstreamForbidden: Tradier does not accept our token.
            UpstreamThrottled: the budget, or Tradier's own, outlasts the deadline.
        """
        outcome = await self.ask(ask, priority=priority, deadline_s=deadline_s)
        if isinstance(outcome, Refusal):
            raise outcome.error
        return outcome

    async def ask(
        self,
        ask: Ask,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float | None = None,
    ) -> TradierAnswer | Refusal:
        """Ask as `get` does, but return what Tradier refused: it may say what it would take.

        Raises:
            UpstreamDown: the path's breaker is open.
            UpstreamTimeout: no turn before the deadline.
            UpstreamThrottled: the budget outlasts the deadline.
        """
        self._requests += 1
        call = self._call(ask, priority, deadline_s)
        backoff = Backoff(
            self._policy.backoff_base_s,
            max(self._policy.backoff_base_s, self._policy.backoff_cap_s),
            first_immediate=False,
            random=self._random,
        )
        outcome = await self._attempt(call, 1)
        for number in range(2, self._policy.attempts + 1):
            wait_s = self._patience(outcome, backoff, number)
            if wait_s is None or self._clock.monotonic() + wait_s >= call.deadline:
                break
            await self._sleep(wait_s)
            try:
                outcome = await self._attempt(call, number)
            except UpstreamError:  # no leave to try again: what came before stands
                break
        if outcome.answer is not None:
            return outcome.answer
        assert outcome.refusal is not None, "an outcome is one or the other"
        return outcome.refusal

    async def session(self) -> StreamSession:
        """Get leave to connect one stream, and use it within five minutes. See `get`."""
        answer = await self.get(ask_session())
        return parse_session(answer.body)

    def statistics(self) -> TradierStatistics:
        """Count everything."""
        return TradierStatistics(
            requests=self._requests,
            attempts=self._attempts,
            throttled=self._throttled,
            failures=self._failures,
            in_flight=self._in_flight,
            consecutive_failures=self._consecutive_failures,
            last_success_ns=self._last_success_ns,
            last_failure_ns=self._last_failure_ns,
            last_failure=self._last_failure,
            budget=self._budget.statistics(self._clock.monotonic()),
            breakers={path: breaker.state for path, breaker in self._breakers.items()},
        )

    # private, deciding

    def _call(self, ask: Ask, priority: Priority, deadline_s: float | None) -> _Call:
        # Everything but letters, digits and _.-~ is escaped: the `/` of BRK/B, the blank of
        # a time, and `,` too, which Tradier reads escaped as well as bare.
        query = "&".join(f"{name}={quote(text, safe=',')}" for name, text in ask.params.items())
        is_form = ask.post or len(query) > self._policy.max_query_bytes
        address = self._base + ask.path
        url = URL(address if is_form or not query else f"{address}?{query}", encoded=True)
        allowed_s = self._policy.deadline_s if deadline_s is None else deadline_s
        form = query.encode() if is_form else None
        return _Call(ask, url, form, priority, self._clock.monotonic() + allowed_s)

    def _patience(self, outcome: _Outcome, backoff: Backoff, number: int) -> float | None:
        """Return how long to wait before attempt `number`; None for not to make it."""
        refusal = outcome.refusal
        if refusal is None or refusal.again is Again.NEVER:
            return None
        if refusal.again is Again.ONCE and number > 2:
            return None
        return 0.0 if isinstance(refusal.error, UpstreamThrottled) else backoff.next_delay()

    async def _attempt(self, call: _Call, number: int) -> _Outcome:
        breaker = self._breakers.get(call.ask.path)
        if breaker is None:
            breaker = CircuitBreaker(self._policy.breaker_failures, self._policy.breaker_open_s)
            self._breakers[call.ask.path] = breaker
        permit = breaker.admit(self._clock.monotonic())
        if permit is None:
            raise UpstreamDown(
                f"Tradier's {call.ask.path} keeps failing; not asked again for a while",
                retry_after_s=breaker.retry_after_s(self._clock.monotonic()),
            )
        try:
            async with self._turn(call) as ticket:
                return await self._report(call, ticket, number, permit)
        finally:
            permit.abandoned(self._clock.monotonic())  # unless something was reported

    @contextlib.asynccontextmanager
    async def _turn(self, call: _Call) -> AsyncGenerator[Ticket]:
        """Wait for a place in the budget, then for a free slot."""
        ticket = self._budget.queue(call.priority)
        try:
            while (wait_s := self._budget.claim(ticket, now := self._clock.monotonic())) > 0:
                if now + wait_s >= call.deadline:
                    raise UpstreamThrottled(
                        "Tradier's requests of this minute are used up", retry_after_s=wait_s
                    )
                await self._sleep(wait_s)
            async with self._slot(call):
                yield ticket
        finally:
            self._budget.leave(ticket)

    @contextlib.asynccontextmanager
    async def _slot(self, call: _Call) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(max(0.0, call.deadline - self._clock.monotonic())):
                await self._slots.acquire(call.priority)
        except TimeoutError:
            raise UpstreamTimeout("too many requests ahead of this one") from None
        try:
            yield
        finally:
            self._slots.release()

    # private, doing

    async def _report(self, call: _Call, ticket: Ticket, number: int, permit: Permit) -> _Outcome:
        """Make one exchange and tell the budget, the breaker and the statistics of it."""
        started = self._clock.monotonic()
        allowed_s = min(self._policy.timeout_s, call.deadline - started)
        if allowed_s <= 0:
            raise UpstreamTimeout("the deadline passed before Tradier was asked")
        self._budget.spend(ticket, started)
        self._attempts += 1
        self._in_flight += 1
        try:
            outcome = await self._exchange(call, allowed_s, number)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # A caller in a hurry says nothing about Tradier.
            hurried = isinstance(error, TimeoutError) and allowed_s < self._policy.timeout_s / 2
            outcome = _Outcome(None, Refusal(_failure(error, number), Again.LATER))
            if hurried:
                permit.abandoned(self._clock.monotonic())
        finally:
            self._in_flight -= 1
        self._count(outcome, permit)
        return outcome

    def _count(self, outcome: _Outcome, permit: Permit) -> None:
        now, now_ns = self._clock.monotonic(), self._clock.now_ns()
        if outcome.refusal is None:
            permit.succeeded(now)
            self._consecutive_failures = 0
            self._last_success_ns = now_ns
            return
        error = outcome.refusal.error
        if isinstance(error, UpstreamThrottled):
            permit.succeeded(now)
            self._throttled += 1
            pause_s = error.retry_after_s
            self._budget.brake(self._policy.throttle_s if pause_s is None else pause_s, now)
            return
        if not isinstance(error, UpstreamError):  # the caller's fault, and an answer
            permit.succeeded(now)
            self._consecutive_failures = 0
            return
        if outcome.refusal.again is Again.LATER:
            permit.failed(now)
        else:
            permit.succeeded(now)
        self._failures += 1
        self._consecutive_failures += 1
        self._last_failure_ns = now_ns
        self._last_failure = error.code

    async def _exchange(self, call: _Call, allowed_s: float, number: int) -> _Outcome:
        if self._session is None:
            raise RuntimeError("use TradierREST as an async context manager")
        headers = {"Accept": _JSON, "Authorization": f"Bearer {self._token.reveal()}"}
        if call.form is not None:
            headers["Content-Type"] = _FORM
        async with self._session.request(
            "GET" if call.form is None else "POST",
            call.url,
            data=call.form,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=allowed_s),
            allow_redirects=False,  # the token goes to the configured host alone
        ) as response:
            body = await self._read(response)
            return self._judge(call, response, body, number)

    def _judge(
        self, call: _Call, response: aiohttp.ClientResponse, body: bytes | None, number: int
    ) -> _Outcome:
        now_ns = self._clock.now_ns()
        limits = rate_limits(response.headers)
        self._budget.heed(limits, now=self._clock.monotonic(), now_ns=now_ns)
        if body is None:
            large = UpstreamGarbled("Tradier's answer is larger than we read")
            large.__cause__ = Refused(response.status)
            return _Outcome(None, Refusal(large, Again.NEVER, too_large=True))
        kind = response.headers.get("Content-Type", "")
        refusal = refusal_of(response.status, kind, body, root=call.ask.root, now_ns=now_ns)
        if refusal is not None:
            return _Outcome(None, self._cleaned(refusal, response, now_ns))
        answer = TradierAnswer(
            body=body,
            received_ns=now_ns,
            attempts=number,
            simulated=response.headers.get("X-Onetape-Simulated") == "true",
        )
        return _Outcome(answer, None)

    def _cleaned(self, refusal: Refusal, response: aiohttp.ClientResponse, now_ns: int) -> Refusal:
        """Cut the token out of what Tradier said; add the status, and how long we are to wait."""
        error = refusal.error
        pause_s = error.retry_after_s
        if pause_s is None:
            pause_s = parse_retry_after(response.headers.get("Retry-After"), now_ns)
        said = str(error).replace(self._token.reveal(), "***")
        cleaned = type(error)(said, retry_after_s=pause_s)
        cleaned.__cause__ = Refused(response.status)
        return refusal._replace(error=cleaned)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Return the body, or None when it is larger than we read."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():  # unpacked already, so bombs count too
            size += len(chunk)
            if size > self._policy.max_body_bytes:
                return None
            chunks.append(chunk)
        return b"".join(chunks)


class _Slots:
    """A semaphore with two lines: who is in a hurry goes first."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lines: dict[Priority, deque[asyncio.Future[None]]] = {
            one: deque() for one in Priority
        }

    async def acquire(self, priority: Priority) -> None:
        """Take a slot. Cancel-safe."""
        if self._free > 0:  # and so nobody waits
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._lines[priority].append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given to us just now
                self.release()
            else:
                self._lines[priority].remove(place)
            raise

    def release(self) -> None:
        """Give a slot back, to the first in line."""
        for line in self._lines.values():
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1


def _failure(error: Exception, number: int) -> UpstreamError:
    """Say in our own words why there is no answer, without addresses."""
    failure: UpstreamError
    match error:
        case TimeoutError():
            failure = UpstreamTimeout(f"Tradier did not answer in time ({number} tries)")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            failure = UpstreamGarbled(f"Tradier's answer broke off ({number} tries)")
        case _:
            failure = UpstreamDown(f"Tradier cannot be reached ({number} tries)")
    failure.__cause__ = error
    return failure
