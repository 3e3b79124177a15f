"""The simulator's time: wall time, shifted and stretched.

`market = start + (wall - wall at birth) x speed`. With the defaults the market is at
wall time now; a fixed start replays from any date, a speed above 1 hurries through it.
"""

from onetape.clock import Clock


class SimClock:
    """Maps the host's clock to market time. Never goes back while the host's clock does not."""

    def __init__(self, *, clock: Clock, start_ns: int | None = None, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError("speed must be above 0")
        self._clock = clock
        self._speed = speed
        self._wall_ns = clock.now_ns()
        self._monotonic_s = clock.monotonic()
        self._start_ns = self._wall_ns if start_ns is None else start_ns

    @property
    def speed(self) -> float:
        """Market seconds per wall second."""
        return self._speed

    def now_ns(self) -> int:
        """Market time, nanoseconds UTC. Measured on the monotonic clock: no steps."""
        elapsed_s = self._clock.monotonic() - self._monotonic_s
        return self._start_ns + round(elapsed_s * self._speed * 1_000_000_000)

    def wall_s(self, market_ns: int) -> float:
        """Wall seconds from now until the market reaches this instant; negative if past."""
        return (market_ns - self.now_ns()) / 1_000_000_000 / self._speed
