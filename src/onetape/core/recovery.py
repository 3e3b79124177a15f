"""When to try a failing peer again, and when not to.

Sans-I/O: `Backoff` says how long to wait before the next attempt, `CircuitBreaker`
whether to attempt at all. Time comes in as seconds on the monotonic clock. The
breaker's life:

               failures in a row              open_s over: one caller probes
      ┌────────┐ ─────────────────▶ ┌──────┐ ─────────────────▶ ┌───────────┐
      │ closed │                    │ open │                    │ half open │ ◀┐ probe
      └────────┘                    └──────┘ ◀───────────────── └───────────┘ ─┘ abandoned:
           ▲                                    probe failed          │          another may
           └──────────────────────────────────────────────────────────┘          probe
                                 probe succeeded
"""

import random as stdlib_random
from collections.abc import Callable
from enum import StrEnum


class Backoff:
    """Delays between attempts: full jitter under a ceiling that doubles; never gives up.

    The n-th delay is drawn from 0 to `min(cap_s, base_s * 2**n)`, so that clients
    cut off together do not come back together. With `first_immediate` the first
    delay is exactly 0.
    """

    def __init__(
        self,
        base_s: float,
        cap_s: float,
        *,
        first_immediate: bool,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
    ) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError("0 < base_s <= cap_s")
        self._base_s = base_s
        self._cap_s = cap_s
        self._first_immediate = first_immediate
        self._random = random
        self._ceiling_s = base_s
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """How many delays were handed out since the start or the last `reset`."""
        return self._attempts

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        self._attempts += 1
        if self._first_immediate and self._attempts == 1:
            return 0.0
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(self._cap_s, ceiling_s * 2)
        return self._random() * ceiling_s

    def reset(self) -> None:
        """Start over. Call it once the peer was up for a while, not as soon as it answers.

        A peer that accepts and drops at once would otherwise be tried in a hot loop.
        """
        self._attempts = 0
        self._ceiling_s = self._base_s


class BreakerState(StrEnum):
    """Where a breaker is; `OPEN` lasts until somebody asks after `open_s`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(StrEnum):
    """What became of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Permit:
    """Leave to make one attempt. Report exactly what became of it; the first report counts.

    So `finally: permit.abandoned(now)` is right on every path: it does nothing after
    a report, and frees the probe when the caller was cancelled. A permit from before
    the breaker changed state reports into the void.
    """

    __slots__ = ("_breaker", "_era", "_reported")

    def __init__(self, breaker: "CircuitBreaker", era: int) -> None:
        self._breaker = breaker
        self._era = era
        self._reported = False

    def succeeded(self, now: float) -> None:
        """Report that the peer answered, whatever it answered."""
        self._report(Outcome.SUCCEEDED, now)

    def failed(self, now: float) -> None:
        """Report that the peer is at fault."""
        self._report(Outcome.FAILED, now)

    def abandoned(self, now: float) -> None:
        """Report that we shall never know: the caller left before the peer answered."""
        self._report(Outcome.ABANDONED, now)

    def _report(self, outcome: Outcome, now: float) -> None:
        if not self._reported:
            self._reported = True
            self._breaker.record(self._era, outcome, now)


class CircuitBreaker:
    """Stops attempts after `failures` in a row, for `open_s`, then lets one probe through.

    Exactly one: however many callers ask at once, and until the probe reports. Every
    permit must therefore report. All calls are O(1); one event loop owns the breaker.
    """

    def __init__(self, failures: int, open_s: float) -> None:
        if failures < 1:
            raise ValueError("failures >= 1")
        self._failures_allowed = failures
        self._open_s = open_s
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._opened_at = self._probe_from = 0.0
        self._probing = False
        self._opened_total = 0
        # Counts openings and closings: a permit of another era is stale.
        self._era = 0

    @property
    def state(self) -> BreakerState:
        """Where the breaker is now."""
        return self._state

    @property
    def opened_total(self) -> int:
        """How often it opened, a failed probe included."""
        return self._opened_total

    def retry_after_s(self, now: float) -> float:
        """Return the seconds until an attempt may be admitted; 0 when one may be now."""
        if self._state is BreakerState.OPEN:
            return max(0.0, self._probe_from - now)
        return 0.0

    def hasten(self, open_s: float) -> None:
        """Let the probe come so soon after it opened, if it would come later."""
        self._probe_from = min(self._probe_from, self._opened_at + open_s)

    def admit(self, now: float) -> Permit | None:
        """Return leave to make one attempt, or None: do not bother the peer."""
        if self._state is BreakerState.CLOSED:
            return Permit(self, self._era)
        if self._state is BreakerState.OPEN and now >= self._probe_from:
            self._state = BreakerState.HALF_OPEN
        if self._state is BreakerState.OPEN or self._probing:
            return None
        self._probing = True
        return Permit(self, self._era)

    def record(self, era: int, outcome: Outcome, now: float) -> None:
        """Take a permit's report; for `Permit` alone."""
        if era != self._era:
            return
        if outcome is Outcome.SUCCEEDED:
            self._failures = 0
            if self._state is BreakerState.HALF_OPEN:
                self._enter(BreakerState.CLOSED)
        elif outcome is Outcome.FAILED:
            self._failures += 1
            if self._state is BreakerState.HALF_OPEN or self._failures >= self._failures_allowed:
                self._opened_at = now
                self._probe_from = now + self._open_s
                self._opened_total += 1
                self._enter(BreakerState.OPEN)
        elif self._state is BreakerState.HALF_OPEN:
            self._probing = False

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._probing = False
