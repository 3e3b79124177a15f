"""Who feeds one live thing: the primary's stream, or answers of whoever has any.

Sans-I/O. The primary delivers by itself (its stream, or its own polls while that is
down). Whether it still does is told by the values alone; when they cease, or are poor, a
question is asked, of both providers by the rules of `core.choice`. Who answers it decides:

             silent, or poor: ask                     the secondary answered
    ┌──────┐ ──────────────────▶ a question ─────────────────────────────▶ ┌─────────┐
    │ live │ ◀────────────────── the primary answered: it is just quiet    │ polling │
    └──────┘ ◀──────────────────────────────────────────────────────────── └─────────┘
                the primary answered               ask every `poll_s`, and show
                                                   nothing else

One of the two is shown at a time, and event times never go back. Silence is what lasts
longer than the gaps there usually are, for a primary that polls delivers seldom; to repeat
what was shown is silence too. What is quiet is asked about less and less often, unless the
answers have news that should have been delivered: then as often as the other would be.
While nothing trades silence means nothing.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from onetape.core.choice import Route


class Feeding(StrEnum):
    """Where what is shown comes from."""

    LIVE = "live"
    POLLING = "polling"


class Rhythm(NamedTuple):
    """How often to ask, in seconds."""

    poll_s: float
    """While the secondary answers."""
    silence_s: float = 1.5
    """The primary is asked about when it was silent for so long, or longer than usual…"""
    quiet_s: float = 15.0
    """…and at most so long, if each time there was nothing new."""
    closed_s: float = 12.0
    """Instead of both, at least, while nothing trades."""


class Handover:
    """Decides what is shown of one thing, and when to ask. One event loop owns it."""

    __slots__ = (
        "_asked_at",
        "_doubted",
        "_gap_s",
        "_had_news",
        "_heard_at",
        "_heard_ns",
        "_quiet",
        "_rhythm",
        "_shown_ns",
        "feeding",
        "handovers",
        "held_back",
    )

    def __init__(self, rhythm: Rhythm) -> None:
        self.feeding = Feeding.LIVE
        self.handovers = 0
        self.held_back = 0
        """How many values were not shown: not better, not newer, or not their turn."""
        self._rhythm = rhythm
        self._asked_at = self._heard_at = float("-inf")
        self._shown_ns: int | None = None
        self._heard_ns: int | None = None
        self._gap_s = 0.0  # what is usual between two values of the primary
        self._quiet = 0  # answers of the primary since it delivered by itself
        self._doubted = False
        self._had_news = False  # the last answer of the primary, that it had not delivered

    @property
    def is_quiet(self) -> bool:
        """Whether the primary answers, but has not delivered by itself since it did."""
        return self._quiet > 0

    # asking

    def due_at(self, *, is_open: bool) -> float:
        """Return when to ask; in the past for now. The first time is at once."""
        if self._asked_at == _NEVER:
            return _NEVER
        return (
            self._asked_at + self._every_s(is_open=is_open)
            if self._must_ask
            else self._silent_at(is_open=is_open)
        )

    def asked(self, now: float) -> None:
        """A question is under way."""
        self._asked_at = now
        self._doubted = False

    # what comes

    def heard(self, event_ns: int | None, now: float, *, is_good: bool) -> bool:
        """The primary delivered a value by itself; return whether to show it.

        A question may be due earlier than before, if it is not good or it was quiet.
        """
        if not is_good:
            self._doubted = True
            return self._hold_back()
        if self.feeding is not Feeding.LIVE:
            return self._hold_back()
        if self._is_delivery(event_ns):
            self._delivered(event_ns, now)
        return self._show(event_ns, again=True)

    def answered(self, event_ns: int | None, by: Route) -> bool:
        """The question was answered; return whether to show the answer."""
        feeding = Feeding.LIVE if by is Route.PRIMARY else Feeding.POLLING
        has_changed = feeding is not self.feeding
        if has_changed:
            self.feeding = feeding
            self.handovers += 1
            self._heard_at = _NEVER  # the gap between was not the primary's
        self._quiet = 0 if feeding is Feeding.POLLING else self._quiet + 1
        self._had_news = not has_changed and self._is_news(event_ns)
        return self._show(event_ns, again=has_changed)

    # private

    def _is_news(self, event_ns: int | None) -> bool:
        return event_ns is None or self._shown_ns is None or event_ns > self._shown_ns

    def _is_delivery(self, event_ns: int | None) -> bool:
        """Tell whether a value is more than a repetition, and not behind what is shown."""
        if event_ns is None:
            return True
        is_late = self._shown_ns is not None and event_ns < self._shown_ns
        return not is_late and (self._heard_ns is None or event_ns > self._heard_ns)

    def _delivered(self, event_ns: int | None, now: float) -> None:
        """Note that the primary delivers by itself, and what is usual between two values."""
        self._heard_ns = event_ns
        if self._heard_at != _NEVER and not self._had_news:  # a gap with news in it is an outage
            gap_s = now - self._heard_at
            self._gap_s = max(gap_s, self._gap_s + _WEIGHT * (gap_s - self._gap_s))
        self._heard_at = now
        self._quiet = 0
        self._had_news = False

    @property
    def _must_ask(self) -> bool:
        return self._doubted or self.feeding is Feeding.POLLING

    def _every_s(self, *, is_open: bool) -> float:
        rhythm = self._rhythm
        return rhythm.poll_s if is_open else max(rhythm.poll_s, rhythm.closed_s)

    def _silent_at(self, *, is_open: bool) -> float:
        rhythm = self._rhythm
        usual_s = max(rhythm.silence_s, _MARGIN * self._gap_s)
        patience_s = min(rhythm.quiet_s, usual_s * 2 ** min(self._quiet, _DOUBLINGS))
        if self._had_news:
            patience_s = min(patience_s, max(rhythm.poll_s, rhythm.silence_s))
        if not is_open:
            patience_s = max(patience_s, rhythm.closed_s)
        return max(self._asked_at, self._heard_at) + patience_s

    def _show(self, event_ns: int | None, *, again: bool) -> bool:
        """Take a value unless it is older than what was shown, or, but for `again`, the same."""
        shown_ns = self._shown_ns
        if event_ns is None or shown_ns is None:
            self._shown_ns = shown_ns if event_ns is None else event_ns
            return True
        if event_ns < shown_ns or (event_ns == shown_ns and not again):
            return self._hold_back()
        self._shown_ns = event_ns
        return True

    def _hold_back(self) -> bool:
        self.held_back += 1
        return False


_NEVER: Final = float("-inf")
_DOUBLINGS: Final = 10
_WEIGHT: Final = 0.2  # of a gap that is shorter than usual
_MARGIN: Final = 1.25
