"""A clock that an operator can stretch and push ahead, under the market's own."""

from onetape.clock import Clock


class ElasticClock:
    """A clock whose monotonic time runs `factor` times as fast as another's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._factor = 1.0
        self._turned_at = self._shown = clock.monotonic()

    @property
    def factor(self) -> float:
        """Seconds shown per second."""
        return self._factor

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return self._shown + (self._clock.monotonic() - self._turned_at) * self._factor

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch: the other clock's, untouched."""
        return self._clock.now_ns()

    def stretch(self, factor: float) -> None:
        """Run this many times as fast from now on."""
        if not factor > 0:
            raise ValueError("factor must be above 0")
        self._shown, self._turned_at = self.monotonic(), self._clock.monotonic()
        self._factor = factor

    def jump(self, seconds: float) -> None:
        """Go ahead at once."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._shown += seconds
