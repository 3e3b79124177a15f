"""Where a number comes from, and how far to trust it.

Every datum names its provider and how it came. A judged one carries a `Quality`:
what the rules found, and the times that its age is reckoned from. The score is
computed when it is read, never when it was made: what was fresh then may not be now.

    excellent 90-100    good 70-89    fair 40-69    poor below 40
"""

from enum import StrEnum

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


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a rule found. `code` is public and never changes meaning."""

    code: str
    severity: Severity
    detail: str = ""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the worth of a datum; the score follows from it and the time."""

    provider: str
    source: Source
    received_ns: int
    event_ns: int | None = None
    reasons: tuple[Reason, ...] = ()
    fallback_reason: str | None = None
    delayed: bool = False
    simulated: bool = False
