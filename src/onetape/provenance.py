"""Where a number comes from, and how far to trust it.

Every datum names its provider and how it came. A judged one carries a `Quality`:
what the rules found, and the times that its age is reckoned from. The score is
computed when it is read, never when it was made: what was fresh then may not be now.

    100  - 5 for each warning  x 0.9 when stale, x 0.75 instead when old
      0  with an error, or when it is too old to use

    excellent 90-100    good 70-89    fair 40-69    poor below 40

The age is reckoned from the exchange's time, and only while the market is open:

    fresh ──5 s──▶ stale ──10 s──▶ alert ──30 s──▶ unusable      settled: age does not count
                              15 s: old

The seconds are those of a quote; `quality.score` has the table for every kind.
"""

from enum import StrEnum
from typing import Final

import msgspec


class Source(StrEnum):
    """How a datum came to us."""

    STREAM = "stream"
    REST = "rest"
    COMPUTED = "computed"
    """By us, from data that came; its inputs are named where it is."""


class Severity(StrEnum):
    """What a finding does to the score: nothing, five points, all of it."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Level(StrEnum):
    """The score in words."""

    EXCELLENT = "excellent"
    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"


class Freshness(StrEnum):
    """The age in words."""

    FRESH = "fresh"
    STALE = "stale"
    ALERT = "alert"
    UNUSABLE = "unusable"
    SETTLED = "settled"
    """Age does not count: the market is closed, or the datum is history."""


EXCELLENT_FROM: Final = 90
GOOD_FROM: Final = 70
FAIR_FROM: Final = 40
POINTS_A_WARNING: Final = 5

STALE: Final = "stale"
TOO_OLD: Final = "too_old"
GREEKS_STALE: Final = "greeks_stale"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a rule found. `code` is public and never changes meaning."""

    code: str
    severity: Severity
    detail: str = ""


class Ageing(msgspec.Struct, frozen=True, kw_only=True):
    """How old is too old, and when time does not count. One is shared by many data.

    Beyond `stale_s` a datum is marked, beyond `old_s` it scores less, beyond
    `unusable_s` nothing. Made while the market was open, `opened_ns` is when it opened
    and `closes_ns` when it closes; made while it was closed, neither is there.
    `opens_ns` is the opening after that. The closed time between counts for nothing.
    """

    stale_s: float
    alert_s: float
    old_s: float
    unusable_s: float
    greeks_s: float | None = None
    opened_ns: int | None = None
    closes_ns: int | None = None
    opens_ns: int | None = None

    def counted_s(self, since_ns: int, now_ns: int) -> float | None:
        """Return the seconds that count between two instants; None while the market is closed."""
        opening = self.opened_ns
        if self.opens_ns is not None:
            if now_ns >= self.opens_ns:
                opening = self.opens_ns
            elif self.closes_ns is None or now_ns >= self.closes_ns:
                return None
        start_ns = since_ns if opening is None else max(since_ns, opening)
        return (now_ns - start_ns) / 1e9


class QualityFlags(msgspec.Struct, frozen=True, kw_only=True):
    """A quality as it reads at one instant; what is shown and sent."""

    provider: str
    source: Source
    confidence: int
    level: Level
    freshness: Freshness
    is_stale: bool
    stale_since_ns: int | None
    age_s: float | None
    updated_ns: int
    """The exchange's time; when there is none, when we received it."""
    reasons: tuple[Reason, ...] = ()
    fallback_reason: str | None = None
    delayed: bool = False
    simulated: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """The codes of the warnings."""
        return tuple(one.code for one in self.reasons if one.severity is Severity.WARNING)

    @property
    def has_warnings(self) -> bool:
        """Whether there is any warning."""
        return bool(self.warnings)


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the worth of a datum; the score follows from it and the time.

    Without an exchange's time the age is unknown and it counts from `received_ns`,
    which makes it look younger than it is; a warning says so. Without `ageing` the
    datum does not age.
    """

    provider: str
    source: Source
    received_ns: int
    event_ns: int | None = None
    reasons: tuple[Reason, ...] = ()
    fallback_reason: str | None = None
    delayed: bool = False
    simulated: bool = False
    greeks_ns: int | None = None
    """When the Greeks were computed, where the source says so: they age by themselves."""
    ageing: Ageing | None = None

    @property
    def has_errors(self) -> bool:
        """Whether a rule found an error, whatever the age."""
        return any(one.severity is Severity.ERROR for one in self.reasons)

    @property
    def updated_ns(self) -> int:
        """The exchange's time; when there is none, when we received it."""
        return self.received_ns if self.event_ns is None else self.event_ns

    def age_s(self, now_ns: int) -> float | None:
        """Return how old it is by the exchange's time, open or closed; None without one."""
        return None if self.event_ns is None else (now_ns - self.event_ns) / 1e9

    def is_stale(self, now_ns: int) -> bool:
        """Tell whether it is older than its kind should be while the market is open."""
        return self.stale_since_ns(now_ns) is not None

    def stale_since_ns(self, now_ns: int) -> int | None:
        """Return when it became stale; None when it is not."""
        counted_s = self._counted_s(now_ns)
        if self.ageing is None or counted_s is None or counted_s <= self.ageing.stale_s:
            return None
        return now_ns - round((counted_s - self.ageing.stale_s) * 1e9)

    def is_usable(self, now_ns: int) -> bool:
        """Tell whether it has no error and is not too old to act on."""
        return not self.has_errors and self.freshness(now_ns) is not Freshness.UNUSABLE

    def freshness(self, now_ns: int) -> Freshness:
        """Put the age in a word."""
        ageing, counted_s = self.ageing, self._counted_s(now_ns)
        if ageing is None or counted_s is None:
            return Freshness.SETTLED
        if counted_s > ageing.unusable_s:
            return Freshness.UNUSABLE
        if counted_s > ageing.alert_s:
            return Freshness.ALERT
        return Freshness.STALE if counted_s > ageing.stale_s else Freshness.FRESH

    def confidence(self, now_ns: int) -> int:
        """Return the public score, 0 to 100, in whole points; a half counts as one."""
        if self.reasons and self.has_errors:
            return 0
        warnings = self._greeks_age_s(now_ns) is not None
        for one in self.reasons:
            warnings += one.severity is Severity.WARNING
        points = max(0, 100 - POINTS_A_WARNING * warnings)
        ageing, counted_s = self.ageing, self._counted_s(now_ns)
        if ageing is None or counted_s is None or counted_s <= ageing.stale_s:
            return points
        if counted_s > ageing.unusable_s:
            return 0
        # Whole numbers only: 0.9 and 0.75 of a score end in .5 often enough to matter.
        return (points * 3 + 2) // 4 if counted_s > ageing.old_s else (points * 9 + 5) // 10

    def level(self, now_ns: int) -> Level:
        """Put the score in a word."""
        return band(self.confidence(now_ns))

    def reasons_at(self, now_ns: int) -> tuple[Reason, ...]:
        """Return what the rules found, and what the age adds at an instant."""
        added: list[Reason] = []
        freshness = self.freshness(now_ns)
        if freshness is Freshness.UNUSABLE:
            detail = self._age_in_words(now_ns)
            added.append(Reason(code=TOO_OLD, severity=Severity.ERROR, detail=detail))
        elif freshness in {Freshness.STALE, Freshness.ALERT}:
            detail = self._age_in_words(now_ns)
            added.append(Reason(code=STALE, severity=Severity.INFO, detail=detail))
        greeks_s = self._greeks_age_s(now_ns)
        if greeks_s is not None:
            detail = f"{greeks_s:.0f} s old"
            added.append(Reason(code=GREEKS_STALE, severity=Severity.WARNING, detail=detail))
        return (*self.reasons, *added)

    def flags(self, now_ns: int) -> QualityFlags:
        """Return everything as it reads at an instant."""
        stale_since_ns = self.stale_since_ns(now_ns)
        confidence = self.confidence(now_ns)
        return QualityFlags(
            provider=self.provider,
            source=self.source,
            confidence=confidence,
            level=band(confidence),
            freshness=self.freshness(now_ns),
            is_stale=stale_since_ns is not None,
            stale_since_ns=stale_since_ns,
            age_s=self.age_s(now_ns),
            updated_ns=self.updated_ns,
            reasons=self.reasons_at(now_ns),
            fallback_reason=self.fallback_reason,
            delayed=self.delayed,
            simulated=self.simulated,
        )

    def _counted_s(self, now_ns: int) -> float | None:
        return None if self.ageing is None else self.ageing.counted_s(self.updated_ns, now_ns)

    def _greeks_age_s(self, now_ns: int) -> float | None:
        """Return the age of the Greeks when it is too high."""
        ageing = self.ageing
        if ageing is None or ageing.greeks_s is None or self.greeks_ns is None:
            return None
        counted_s = ageing.counted_s(self.greeks_ns, now_ns)
        if counted_s is None or counted_s <= ageing.greeks_s:
            return None
        return (now_ns - self.greeks_ns) / 1e9

    def _age_in_words(self, now_ns: int) -> str:
        at_least = "at least " if self.event_ns is None else ""
        return f"{at_least}{(now_ns - self.updated_ns) / 1e9:.1f} s old"


def band(confidence: int) -> Level:
    """Return the level of a score."""
    if confidence >= EXCELLENT_FROM:
        return Level.EXCELLENT
    if confidence >= GOOD_FROM:
        return Level.GOOD
    return Level.FAIR if confidence >= FAIR_FROM else Level.POOR
