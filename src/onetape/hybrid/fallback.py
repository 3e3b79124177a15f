"""One question to two providers: the first one's answer, or the other's, or every cause.

    first ──good, or not there──────────────────────────────▶ its answer
      │ └─ silent for longer than usual, if hedged: ask the other too, the first good one wins
      └─failed, late, poor, empty──▶ second ──good──▶ its answer, marked
                                        └─nothing better──▶ the lesser evil; without any,
                                                            `AllProvidersFailed`

Who is first `core.choice` says, for each key by itself. A breaker for each provider keeps
one that failed three times in a row from being asked, but for a probe now and then. Probes
run beside an answer that somebody waits for, so nobody waits for a probe.

An answer comes within `answer_s`. The one asked first gets at most `first_s` of that, so
that there is time for the other. A question may be about many things at once (symbols):
each is decided by itself, and each provider is asked once for all that it should answer.

Without a second provider a question is passed through: no breaker, no deadline of ours.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from onetape.clock import Clock
from onetape.core.choice import Choices, Route, Standing
from onetape.core.recovery import Permit
from onetape.errors import AllProvidersFailed, NotConnected, OnetapeError
from onetape.flights import Flights
from onetape.hybrid.seats import Attempt, HybridPolicy, Limits, Outcome, Question, Seat
from onetape.hybrid.verdicts import WORDS, Why, is_absent, why_of
from onetape.model import ProviderHealth
from onetape.own_tasks import OwnTasks
from onetape.providers.health import is_failure
from onetape.providers.interfaces import DataProvider

P = TypeVar("P", bound=DataProvider)
A = TypeVar("A")

logger: Final = logging.getLogger("onetape.providers")

HYBRID: Final = "hybrid"
"""What several providers are called together."""

_SHORTEST_S: Final = 0.05


class Settled(NamedTuple, Generic[A]):
    """The end of a question about one part. `why` the secondary answered, or None."""

    outcome: Outcome[A]
    by: Route
    why: str | None = None

    def value(self) -> A:
        """Return the answer.

        Raises:
            OnetapeError: there is none; this is why.
        """
        if self.outcome.error is not None:
            raise self.outcome.error
        return self.outcome.answer  # type: ignore[return-value]  # an A, where there is no error


class FallbackStatistics(NamedTuple):
    """A snapshot for metrics. Counts are since the start, of parts."""

    fallbacks: Mapping[Why, int]  # answers of the secondary, by what the primary did
    switches: int  # between the providers, in both directions
    called_off: int  # returns that failed in their first minute
    on_secondary: int  # keys of which the secondary is asked first now
    probes: int
    hedged: int  # questions that both were asked because the first was slow


class Fallback(Generic[P]):
    """Asks one of two providers, and the other if need be. An async context manager.

    Args:
        primary: The one that should answer.
        secondary: The other; None for none.
        clock: The time.
        policy: When, and for how long.
    """

    def __init__(
        self, primary: P, secondary: P | None, *, clock: Clock, policy: HybridPolicy
    ) -> None:
        alone = secondary is None
        self._primary = Seat(primary, clock=clock, policy=policy, never_opens=alone)
        self._secondary = None if secondary is None else Seat(secondary, clock=clock, policy=policy)
        self._clock = clock
        self._policy = policy
        self._choices = Choices(policy.patience)
        self._fallbacks: Counter[Why] = Counter()
        self._switches = self._called_off = self._probed = self._hedged = 0
        self._flights = Flights[Hashable, dict[str, Settled[Any]]]()
        self._tasks = OwnTasks()
        self._probes: set[asyncio.Task[Any]] = set()
        self._is_open = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._flights.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        try:
            await self._flights.__aexit__(kind, error, traceback)
        finally:
            for probe in self._probes:
                probe.cancel()
            await self._tasks.__aexit__(kind, error, traceback)

    # asking

    async def ask(self, question: Question[P, A]) -> dict[str, Settled[A]]:
        """Return for each part its answer or its error, in the order of the parts. Cancel-safe.

        All who ask the same at once ask once: one failure is one, however many wait for it.

        Raises:
            NotConnected: outside of the `async with` block.
        """
        if not self._is_open:
            raise NotConnected("a hybrid provider is used within `async with`")
        return await self._flights.join(question.identity, lambda: self._answer(question))

    async def second_opinion(self, question: Question[P, A]) -> dict[str, A]:
        """Return the good answers that the secondary has, whoever is asked first. Cancel-safe."""
        seat = self._secondary
        if seat is None:
            return {}
        attempt = await self._attempt(
            seat, question, question.parts, self._limits(question).first_s
        )
        if attempt is None:
            return {}
        seat.conclude(attempt, None)
        good = {part: one.answer for part, one in attempt.outcomes.items() if one.is_good}
        return {part: answer for part, answer in good.items() if answer is not None}

    # how it does

    def health(self) -> tuple[ProviderHealth, ...]:
        """Return how the providers do, the primary first."""
        seats = (self._primary, self._secondary)
        return tuple(seat.health() for seat in seats if seat is not None)

    def statistics(self) -> FallbackStatistics:
        """Count everything."""
        return FallbackStatistics(
            fallbacks=dict(self._fallbacks),
            switches=self._switches,
            called_off=self._called_off,
            on_secondary=self._choices.on_secondary(),
            probes=self._probed,
            hedged=self._hedged,
        )

    # private, whom to ask

    def _turns(self, question: Question[P, A]) -> list[tuple[Route, "_Turn[P, A]"]]:
        """Part a question by who is asked first."""
        ends_at = self._clock.monotonic() + self._limits(question).answer_s
        parts: dict[Route, list[str]] = {}
        held: dict[str, str] = {}
        for part in dict.fromkeys(question.parts):
            key = question.key(part)
            parts.setdefault(self._first(key), []).append(part)
            if (why := self._choices.of(key).why) is not None:
                held[part] = why
        return [
            (first, _Turn(question, tuple(some), ends_at, held)) for first, some in parts.items()
        ]

    def _hasten(self) -> None:
        """Let both be probed sooner when neither may be asked: there is nobody else to answer."""
        now = self._clock.monotonic()
        seats = (self._primary, self._other())
        if not any(seat.may_be_asked(now) for seat in seats):
            for seat in seats:
                seat.breaker.hasten(self._policy.alone_s)

    def _first(self, key: str) -> Route:
        first = self._choices.of(key).first
        if first is Route.PRIMARY and not self._primary.is_trusted:
            first = Route.SECONDARY
        now = self._clock.monotonic()
        is_lost = self._secondary is None or not self._secondary.may_be_asked(now)
        return Route.PRIMARY if is_lost else first

    # private, asking

    async def _answer(self, question: Question[P, A]) -> dict[str, Settled[A]]:
        if self._secondary is None:
            return await self._pass_through(question)
        self._hasten()
        turns = self._turns(question)
        if len(turns) == 1:
            ((first, turn),) = turns
            return await self._settle(turn, first)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._settle(turn, first)) for first, turn in turns]
        found = {part: one for task in running for part, one in task.result().items()}
        return {part: found[part] for part in dict.fromkeys(question.parts)}

    async def _settle(self, turn: "_Turn[P, A]", first: Route) -> dict[str, Settled[A]]:
        said = _Said[A]()
        try:
            if first is Route.PRIMARY:
                await self._primary_first(turn, said)
            else:
                await self._secondary_first(turn, said)
            return self._decide(turn, said)
        finally:
            now = self._clock.monotonic()
            for attempt in (said.primary, said.secondary):
                if attempt is not None:
                    attempt.permit.abandoned(now)  # no-op unless we were cancelled

    async def _primary_first(self, turn: "_Turn[P, A]", said: "_Said[A]") -> None:
        secondary = self._other()
        now = self._clock.monotonic()
        limits = self._limits(turn.question)
        limit_s = limits.first_s if secondary.may_be_asked(now) else limits.answer_s
        async with asyncio.TaskGroup() as tasks:
            mine = tasks.create_task(
                self._attempt(self._primary, turn.question, turn.parts, limit_s)
            )
            theirs = await self._hedge(turn, mine, tasks)
            if theirs is not None and not mine.done():
                await asyncio.wait((mine, theirs), return_when=asyncio.FIRST_COMPLETED)
                if not mine.done() and _is_all_good(theirs.result(), turn.parts):
                    mine.cancel()
                    said.secondary, said.is_slow = theirs.result(), True
                    return
            said.primary = await mine
            missing = tuple(part for part in turn.parts if self._is_missing(turn, part, said))
            if theirs is not None and missing:
                said.secondary = await theirs
            elif theirs is not None:
                theirs.cancel()
            elif missing:
                said.secondary = await self._attempt(
                    secondary, turn.question, missing, self._left_s(turn)
                )

    async def _hedge(
        self,
        turn: "_Turn[P, A]",
        mine: asyncio.Task[Attempt[A] | None],
        tasks: asyncio.TaskGroup,
    ) -> asyncio.Task[Attempt[A] | None] | None:
        """Ask the secondary too once the primary takes longer than it usually does."""
        usual_s = self._primary.usual_s(turn.question.what)
        if not self._policy.hedge or not turn.question.may_hedge or usual_s is None:
            return None
        await asyncio.wait((mine,), timeout=usual_s)
        if mine.done() or not self._other().may_be_asked(self._clock.monotonic()):
            return None
        self._hedged += 1
        return tasks.create_task(
            self._attempt(self._other(), turn.question, turn.parts, self._left_s(turn))
        )

    async def _secondary_first(self, turn: "_Turn[P, A]", said: "_Said[A]") -> None:
        probe = self._probe(turn)
        said.secondary = await self._attempt(
            self._other(), turn.question, turn.parts, self._limits(turn.question).first_s
        )
        answers = {} if said.secondary is None else said.secondary.outcomes
        missing = tuple(
            part
            for part in turn.parts
            if part not in answers or not answers[part].is_good_or_absent
        )
        if not missing:
            return
        if probe is None:
            said.primary = await self._attempt(
                self._primary, turn.question, missing, self._left_s(turn)
            )
            return
        said.is_learned = True
        await asyncio.wait((probe,))  # it has a limit of its own, which is over when ours is
        said.primary = probe.result()

    def _probe(self, turn: "_Turn[P, A]") -> asyncio.Task[Attempt[A]] | None:
        """Ask the primary beside the secondary, if it is time to."""
        now = self._clock.monotonic()
        choices = [self._choices.of(turn.question.key(part)) for part in turn.parts]
        is_due = not self._primary.is_trusted or any(one.wants_probe(now) for one in choices)
        permit = self._primary.breaker.admit(now) if is_due else None
        if permit is None:
            return None
        for choice in choices:
            choice.probing(now)
        self._probed += 1
        probe = self._tasks.create_task(self._prove(turn, permit))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)
        return probe

    async def _prove(self, turn: "_Turn[P, A]", permit: Permit) -> Attempt[A]:
        limit_s = self._limits(turn.question).answer_s
        attempt = await self._primary.ask(turn.question, turn.parts, permit, limit_s)
        self._primary.conclude(attempt, None)
        for part, outcome in attempt.outcomes.items():
            self._learn(turn.question.key(part), outcome, None)
        return attempt

    async def _attempt(
        self, seat: Seat[P], question: Question[P, A], parts: tuple[str, ...], limit_s: float
    ) -> Attempt[A] | None:
        """Ask one provider, if it may be asked."""
        permit = seat.breaker.admit(self._clock.monotonic())
        return None if permit is None else await seat.ask(question, parts, permit, limit_s)

    async def _pass_through(self, question: Question[P, A]) -> dict[str, Settled[A]]:
        seat = self._primary
        permit = seat.breaker.admit(self._clock.monotonic())
        assert permit is not None, "it never opens"
        attempt = await seat.ask(question, question.parts, permit, None)
        seat.conclude(attempt, None)
        return {part: Settled(one, Route.PRIMARY) for part, one in attempt.outcomes.items()}

    def _is_missing(self, turn: "_Turn[P, A]", part: str, said: "_Said[A]") -> bool:
        """Tell whether the primary's word on a part is not enough."""
        outcome = None if said.primary is None else said.primary.outcomes[part]
        if outcome is None:
            return True
        if outcome.is_settled:
            return False
        choice = self._choices.of(turn.question.key(part))
        return outcome.error is not None or not choice.is_agreed(self._clock.monotonic())

    def _limits(self, question: Question[P, A]) -> Limits:
        return self._policy.limits(is_long=question.is_long)

    def _left_s(self, turn: "_Turn[P, A]") -> float:
        return max(_SHORTEST_S, turn.ends_at - self._clock.monotonic())

    def _other(self) -> Seat[P]:
        assert self._secondary is not None, "passed through otherwise"
        return self._secondary

    # private, deciding

    def _decide(self, turn: "_Turn[P, A]", said: "_Said[A]") -> dict[str, Settled[A]]:
        settled: dict[str, Settled[A]] = {}
        worse: Outcome[A] | None = None
        told: Counter[Why] = Counter()
        for part in turn.parts:
            key = turn.question.key(part)
            primary, secondary = said.of(part)
            why, text = self._why(primary, said, turn.held.get(part))
            if not said.is_learned and not said.is_slow:
                self._learn(key, primary, secondary, text)
            settled[part] = self._settled(primary, secondary, text)
            if settled[part].by is Route.SECONDARY:
                told[why] += 1
            if primary is not None and secondary is not None and secondary.is_good:
                worse = primary if primary.verdict.why else worse
        if said.primary is not None and not said.is_learned:
            self._primary.conclude(said.primary, None if worse is None else worse.verdict)
        if said.secondary is not None:
            self._other().conclude(said.secondary, None)
        for why, parts in told.items():
            self._count(turn.question.what, why, parts)
        return settled

    def _settled(
        self, primary: Outcome[A] | None, secondary: Outcome[A] | None, why: str
    ) -> Settled[A]:
        """Pick the lesser evil, the primary of two that are equal."""
        if primary is not None and (secondary is None or primary.rank >= secondary.rank):
            if primary.error is None or not is_failure(primary.error):
                return Settled(primary, Route.PRIMARY)
        elif secondary is not None and (secondary.error is None or is_absent(secondary.error)):
            return Settled(secondary, Route.SECONDARY, why)
        return Settled(Outcome(None, self._all_failed(primary, secondary)), Route.PRIMARY)

    def _all_failed(
        self, primary: Outcome[A] | None, secondary: Outcome[A] | None
    ) -> AllProvidersFailed:
        causes: list[OnetapeError] = []
        told: list[str] = []
        for seat, outcome in ((self._primary, primary), (self._other(), secondary)):
            error = None if outcome is None else outcome.error
            why = Why.OPEN if error is None and not seat.is_trusted else None
            causes.append(error or seat.silence())
            told.append(f"{seat.name} {WORDS[why or why_of(causes[-1])]}")
        waits = [one.retry_after_s for one in causes if one.retry_after_s is not None]
        return AllProvidersFailed(
            f"nobody answered: {'; '.join(told)}",
            provider=HYBRID,
            causes=causes,
            retry_after_s=min(waits, default=None),
        )

    def _why(
        self, primary: Outcome[A] | None, said: "_Said[A]", held: str | None
    ) -> tuple[Why, str]:
        """Return why the primary's word is not taken, should it not be."""
        name = self._primary.name
        if primary is not None:
            return primary.why, primary.told_of(name)
        if said.is_slow:
            return Why.SLOW, f"{name} {WORDS[Why.SLOW]}"
        if held is not None:
            return Why.HELD, held
        return Why.OPEN, f"{name} {WORDS[Why.OPEN]}"

    def _learn(
        self, key: str, primary: Outcome[A] | None, secondary: Outcome[A] | None, why: str = ""
    ) -> None:
        """Let the choice about a key know what became of a question."""
        now = self._clock.monotonic()
        choice = self._choices.of(key)
        before = choice.standing
        if primary is not None and primary.is_good_or_absent:
            self._note(key, choice.was_good(now), Route.PRIMARY, "")
        elif secondary is not None and secondary.is_good:
            # A primary that is trusted and was not asked has just proved itself to a probe that
            # was quicker than this answer: no word against it.
            is_left_alone = choice.first is Route.PRIMARY and not self._primary.is_trusted
            if primary is not None or is_left_alone:
                is_switch = choice.fell_back(now, why)
                self._note(key, is_switch, Route.SECONDARY, why)
                self._called_off += before is Standing.TRIAL and not is_switch
        elif primary is not None:
            is_compared = secondary is not None and secondary.is_answer
            if primary.error is None and is_compared:
                choice.agree(now)
            choice.failed()
        self._choices.keep(key, choice, now)

    def _note(self, key: str, is_switch: bool, to: Route, why: str) -> None:  # noqa: FBT001 - of `Choice`
        if not is_switch:
            return
        self._switches += 1
        seat = self._primary if to is Route.PRIMARY else self._other()
        facts = {"what": key, "provider": seat.name, "reason": why}
        logger.warning("provider.switched", extra=facts)

    def _count(self, what: str, why: Why, parts: int) -> None:
        self._fallbacks[why] += parts
        self._primary.fallbacks += parts
        facts = {
            "what": what,
            "provider": self._other().name,
            "instead_of": self._primary.name,
            "reason": why.value,
            "parts": parts,
        }
        # While the secondary is asked first this is how things are, and no news.
        level = logging.DEBUG if why is Why.HELD else logging.WARNING
        logger.log(level, "provider.fell_back", extra=facts)


class _Turn(NamedTuple, Generic[P, A]):
    """A question about parts of which the same provider is asked first."""

    question: Question[P, A]
    parts: tuple[str, ...]
    ends_at: float
    held: Mapping[str, str]
    """Why the secondary was asked first when it began, by part; a probe may end that meanwhile."""


class _Said(Generic[A]):
    """What each provider said to a turn, if it was asked."""

    __slots__ = ("is_learned", "is_slow", "primary", "secondary")

    def __init__(self) -> None:
        self.primary: Attempt[A] | None = None
        self.secondary: Attempt[A] | None = None
        self.is_slow = False  # the primary was not waited for
        self.is_learned = False  # the primary was asked by a probe, which tells the choices

    def of(self, part: str) -> tuple[Outcome[A] | None, Outcome[A] | None]:
        """Return what the primary and the secondary said of a part."""
        primary = None if self.primary is None else self.primary.outcomes.get(part)
        secondary = None if self.secondary is None else self.secondary.outcomes.get(part)
        return primary, secondary


def _is_all_good(attempt: Attempt[A] | None, parts: tuple[str, ...]) -> bool:
    return attempt is not None and all(attempt.outcomes[part].is_good for part in parts)
