"""A provider as the hybrid sees it: asked with a limit, judged, counted, left alone if need be.

    ask ──▶ an outcome for each part: an answer and what it is worth, or an error
     │        good, not there, the caller's mistake   the provider did its part
     │        a failure, or late                      it did not: meter and breaker are told
     └─       doubtful                                told later, when it was compared

Whatever a provider raises becomes an outcome: the other one may know better.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from onetape.clock import Clock
from onetape.core.choice import Patience, ResponseTimes
from onetape.core.recovery import BreakerState, CircuitBreaker, Permit
from onetape.errors import (
    DataProviderError,
    MassiveApiError,
    OnetapeError,
    TradierApiError,
    UpstreamDown,
    UpstreamTimeout,
)
from onetape.hybrid.verdicts import GOOD, WORDS, Verdict, Why, is_absent, why_of
from onetape.model import ProviderHealth
from onetape.providers.health import HealthMeter, as_failure, is_failure
from onetape.providers.interfaces import DataProvider

P = TypeVar("P", bound=DataProvider)
A = TypeVar("A")

Positive = Annotated[float, msgspec.Meta(gt=0)]

logger: Final = logging.getLogger("onetape.providers")

_FAILURES: Final[Mapping[str, type[DataProviderError]]] = {
    "massive": MassiveApiError,
    "tradier": TradierApiError,
}
_NEVER_OPENS: Final = 1 << 62


class Limits(NamedTuple):
    """How long one question is waited for, in seconds."""

    answer_s: float  # for an answer, whoever gives it
    first_s: float  # of that, for the provider that is asked first


class HybridPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When another provider is asked, and for how long it stays. All `_s` are seconds."""

    answer_s: Positive = 4.8  # for an answer, whoever gives it
    first_s: Positive = 3.0  # of that, for the provider that is asked first
    long_answer_s: Positive = 9.0  # the same for what takes anybody long: a whole chain
    long_first_s: Positive = 7.0
    alone_s: Positive = 2.0  # until a probe when there is nobody else left to ask
    failures: Annotated[int, msgspec.Meta(ge=1)] = 3  # in a row, and a provider is left alone
    open_s: Positive = 30.0  # so long, until a probe
    hold_s: Positive = 60.0  # between switches, at least
    probe_s: Positive = 30.0  # between probes of one key
    proofs: Annotated[int, msgspec.Meta(ge=1)] = 2  # good probes in a row before a return
    longest_hold_s: Positive = 600.0
    agreed_s: Positive = 30.0  # a poor answer that the other could not better is taken as it is
    hedge: bool = False  # ask both once the first takes longer than it does 95 times in 100
    fill_greeks: bool = True  # a chain without Greeks gets the other provider's, marked
    chain_poll_s: Positive = 5.0  # of the secondary, for subscriptions, while the market is open
    equity_poll_s: Positive = 4.0
    index_poll_s: Positive = 5.0
    silence_s: Positive = 1.5  # a subscription asks when nothing came for so long…
    quiet_s: Positive = 15.0  # …and at least so often when there is nothing new
    closed_s: Positive = 12.0  # instead of these, at least, while the market is closed

    def limits(self, *, is_long: bool) -> "Limits":
        """Return how long a question is waited for."""
        if is_long:
            return Limits(self.long_answer_s, self.long_first_s)
        return Limits(self.answer_s, self.first_s)

    @property
    def patience(self) -> Patience:
        """What a choice needs of it."""
        return Patience(
            hold_s=self.hold_s,
            probe_s=self.probe_s,
            proofs=self.proofs,
            longest_hold_s=self.longest_hold_s,
            agreed_s=self.agreed_s,
        )


class Question(msgspec.Struct, Generic[P, A], frozen=True, kw_only=True):
    """What is asked, of any provider of its kind, about one or many parts.

    `ask` returns for each part its answer or its error; what it raises is the error of all.
    """

    what: str
    """In a word: a label of the log, and part of every key."""
    parts: tuple[str, ...]
    detail: str = ""
    """What else makes it a question of its own, though it is decided with others: a range."""
    ask: Callable[[P, tuple[str, ...]], Awaitable[Mapping[str, A | OnetapeError]]]
    judge: Callable[[A, int], Verdict]
    may_hedge: bool = True
    is_long: bool = False
    """Whether a whole answer takes long of anybody, so that it is waited for longer."""

    @property
    def identity(self) -> Hashable:
        """What two questions have in common that are the same."""
        return self.what, self.parts, self.detail, self.may_hedge

    def key(self, part: str) -> str:
        """Name what a choice is made about."""
        return f"{self.what}:{part}"


class Outcome(NamedTuple, Generic[A]):
    """What one provider says of one part: an answer and what it is worth, or an error."""

    answer: A | None
    error: OnetapeError | None = None
    verdict: Verdict = GOOD

    @property
    def is_good(self) -> bool:
        """Whether it is an answer that needs no comparing."""
        return self.error is None and self.verdict.why is None

    @property
    def is_settled(self) -> bool:
        """Whether it is that, or that there is no such thing, or the caller's mistake."""
        return self.is_good if self.error is None else not is_failure(self.error)

    @property
    def is_answer(self) -> bool:
        """Whether it is an answer of any worth, be it that there is no such thing."""
        return self.error is None or is_absent(self.error)

    @property
    def is_good_or_absent(self) -> bool:
        """Whether it is an answer that needs no comparing, or that there is no such thing."""
        return self.is_good or (self.error is not None and is_absent(self.error))

    @property
    def rank(self) -> int:
        """Tell the lesser evil by: good, then doubtful, then not there, then failed."""
        if self.error is None:
            return 1000 if self.is_good else 100 + self.verdict.confidence
        return 1 if is_absent(self.error) else 0

    def told_of(self, provider: str) -> str:
        """Say in our words what is wrong with it."""
        if self.error is None:
            return self.verdict.told_of(provider)
        return f"{provider} {WORDS[why_of(self.error)]}"

    @property
    def why(self) -> Why:
        """Why it was not taken."""
        return self.verdict.why or Why.FAILED if self.error is None else why_of(self.error)


class Attempt(Generic[A]):
    """One provider asked once. Its verdict on the provider may have to wait for the other's."""

    __slots__ = ("outcomes", "permit", "started", "took_s")

    def __init__(self, permit: Permit, started: float) -> None:
        self.permit = permit
        self.started = started
        self.took_s = 0.0
        self.outcomes: dict[str, Outcome[A]] = {}

    @property
    def is_doubtful(self) -> bool:
        """Whether every answer that there is needs comparing."""
        answers = [one for one in self.outcomes.values() if one.error is None]
        return bool(answers) and not any(one.is_good for one in answers)


class Seat(Generic[P]):
    """One of the two providers: whether it may be asked, and how it does."""

    def __init__(
        self, provider: P, *, clock: Clock, policy: HybridPolicy, never_opens: bool = False
    ) -> None:
        self.provider: Final = provider
        self.name: Final = provider.name
        failures = _NEVER_OPENS if never_opens else policy.failures
        self.breaker: Final = CircuitBreaker(failures, policy.open_s)
        self.fallbacks = 0  # how often the other answered instead
        self._clock = clock
        self._meter = HealthMeter(self.name)
        self._times: dict[str, ResponseTimes] = {}

    @property
    def is_trusted(self) -> bool:
        """Whether it may be asked while somebody waits: its breaker is closed."""
        return self.breaker.state is BreakerState.CLOSED

    def may_be_asked(self, now: float) -> bool:
        """Tell whether it may be asked in an emergency: that, or its turn to probe has come."""
        is_due = self.breaker.state is BreakerState.OPEN and not self.breaker.retry_after_s(now)
        return self.is_trusted or is_due

    def usual_s(self, what: str) -> float | None:
        """Return what its answers take at most, but for a twentieth of them."""
        times = self._times.get(what)
        return None if times is None else times.p95_s()

    async def ask(
        self,
        question: Question[P, A],
        parts: tuple[str, ...],
        permit: Permit,
        limit_s: float | None,
    ) -> Attempt[A]:
        """Ask, and take whatever comes for an answer; raise nothing. Cancel-safe."""
        attempt = Attempt[A](permit, self._clock.monotonic())
        try:
            found = await self._bounded(question.ask(self.provider, parts), limit_s)
            now_ns = self._clock.now_ns()
            attempt.outcomes = {
                part: self._outcome(question, part, found, now_ns) for part in parts
            }
        except Exception as error:  # noqa: BLE001 - delivered: it is an outcome, and counted
            failure = self._named(error)
            attempt.outcomes = {part: Outcome(None, failure) for part in parts}
        finally:
            attempt.took_s = self._clock.monotonic() - attempt.started
            if not attempt.outcomes:
                permit.abandoned(self._clock.monotonic())
        self._report(question, attempt)
        return attempt

    def conclude(self, attempt: Attempt[Any], worse: Verdict | None) -> None:
        """Count a doubtful attempt: as a failure if the other's answer was better."""
        if not attempt.is_doubtful:
            return  # counted when it ended
        if worse is None:
            self._answered(attempt)
            return
        kind = _FAILURES.get(self.name, DataProviderError)
        self._failed(attempt, kind(worse.told_of(self.name), provider=self.name))

    def health(self) -> ProviderHealth:
        """Return how the provider does, by what it was asked here."""
        state = self.breaker.state
        words = {BreakerState.OPEN: "open", BreakerState.HALF_OPEN: "probing"}
        health = self._meter.health()
        return msgspec.structs.replace(
            health,
            healthy=health.healthy and self.is_trusted,
            status=words.get(state, health.status),
            fallbacks=self.fallbacks,
        )

    def silence(self) -> OnetapeError:
        """Return the error of a provider that was not asked, or whose answer is awaited still."""
        if self.is_trusted:
            error: OnetapeError = UpstreamTimeout(f"{self.name} {WORDS[Why.TIMEOUT]}")
        else:
            wait_s = self.breaker.retry_after_s(self._clock.monotonic())
            error = UpstreamDown(f"{self.name} {WORDS[Why.OPEN]}", retry_after_s=wait_s)
        return as_failure(error, _FAILURES.get(self.name, DataProviderError), self.name)

    # private

    async def _bounded(self, answer: Awaitable[A], limit_s: float | None) -> A:
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError:
            limit = "its limit" if limit_s is None else f"{limit_s:.1f} s"
            raise UpstreamTimeout(f"{self.name} did not answer within {limit}") from None

    def _named(self, error: Exception) -> OnetapeError:
        if isinstance(error, OnetapeError):
            if not is_failure(error):
                return error
            return as_failure(error, _FAILURES.get(self.name, DataProviderError), self.name)
        logger.error("provider.broke", exc_info=error, extra={"provider": self.name})
        kind = _FAILURES.get(self.name, DataProviderError)
        text = f"{self.name} broke: {type(error).__name__}"
        return kind(text, provider=self.name, causes=(error,))

    def _outcome(
        self,
        question: Question[P, A],
        part: str,
        found: Mapping[str, A | OnetapeError],
        now_ns: int,
    ) -> Outcome[A]:
        answer = found.get(part)
        if answer is None:
            kind = _FAILURES.get(self.name, DataProviderError)
            return Outcome(None, kind(f"{self.name} left {part} out", provider=self.name))
        if isinstance(answer, OnetapeError):
            return Outcome(None, answer)
        return Outcome(answer, None, question.judge(answer, now_ns))

    def _report(self, question: Question[P, A], attempt: Attempt[A]) -> None:
        if attempt.is_doubtful:
            return  # until it was compared
        outcomes = attempt.outcomes.values()
        if any(one.is_settled for one in outcomes):
            times = self._times.setdefault(question.what, ResponseTimes())
            times.add(attempt.took_s)
            self._answered(attempt)
            return
        error = next((one.error for one in outcomes if one.error is not None), None)
        assert error is not None, "neither settled nor doubtful: it failed"
        self._failed(attempt, error)

    def _answered(self, attempt: Attempt[Any]) -> None:
        attempt.permit.succeeded(self._clock.monotonic())
        self._meter.answered(took_s=attempt.took_s, now_ns=self._clock.now_ns())

    def _failed(self, attempt: Attempt[Any], error: OnetapeError) -> None:
        attempt.permit.failed(self._clock.monotonic())
        self._meter.failed(error, took_s=attempt.took_s, now_ns=self._clock.now_ns())
