"""Time as an argument.

Everything that needs the time takes a `Clock`, or better, takes `now` as an
argument. Data time is int nanoseconds UTC since the epoch; waiting and ageing
are measured in float seconds on the monotonic clock. The two are never mixed.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the package knows of time."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch; may step when the host's clock is set."""
        ...


class SystemClock:
    """The host's clock."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()  # noqa: TID251 - the one caller

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch."""
        return time.time_ns()  # noqa: TID251 - the one caller
