"""What tests of onetape, ours and yours, are made of: shipped, typed and tested."""


class ManualClock:
    """A clock that moves only when told; monotonic and wall time move together."""

    def __init__(
        self, *, monotonic: float = 1_000.0, now_ns: int = 1_764_000_000_000_000_000
    ) -> None:
        self._monotonic = monotonic
        self._now_ns = now_ns

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._now_ns += round(seconds * 1_000_000_000)
