"""Which of two providers is asked first, so that what is shown does not flap.

Sans-I/O: a `Choice` is told what became of the questions about one thing, and says
whom to ask first next time. Time comes in as seconds on the monotonic clock.

               it failed, and the secondary did not
    ┌─────────┐ ─────────────────────────────▶ ┌───────────┐
    │ primary │                                │ secondary │ ◀┐ failed again: called
    └─────────┘                                └───────────┘  │ off, and the next time
         ▲    good for `hold_s`                  │ `hold_s` over,  it takes twice as long
         │         ┌───────┐ ◀───────────────────┘ `proofs` probes
         └──────── │ trial │                       in a row good │
                   └───────┘ ──────────────────────────────────▶┘

Falling back cannot wait: the primary has just failed. Going back can, and does: until
then the primary is asked beside the secondary, at most every `probe_s`, and its answers
count but are not shown. A return is a trial first, and one that fails is not a switch
but a return called off. So, whatever happens:

    switches are at least `hold_s` apart
    who is asked first changes at most twice within `hold_s`
    it never changes because the secondary failed: that question the primary answers
"""

from collections import deque
from enum import StrEnum
from typing import Final, NamedTuple


class Route(StrEnum):
    """One of two providers."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class Standing(StrEnum):
    """Where a choice stands; in `PRIMARY` and `TRIAL` the primary is asked first."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    TRIAL = "trial"


class Patience(NamedTuple):
    """How long a choice holds, in seconds, and what ends it."""

    hold_s: float = 60.0
    probe_s: float = 30.0
    proofs: int = 2
    longest_hold_s: float = 600.0
    agreed_s: float = 30.0


class Choice:
    """Whom to ask first about one thing. Every method is O(1); one event loop owns it."""

    __slots__ = (
        "_agreed_until",
        "_hold_s",
        "_patience",
        "_probed_at",
        "_proofs",
        "_since",
        "standing",
        "why",
    )

    def __init__(self, patience: Patience) -> None:
        self.standing = Standing.PRIMARY
        self.why: str | None = None
        """Why the secondary is asked first, in the words given to `fell_back`."""
        self._patience = patience
        self._hold_s = patience.hold_s
        self._since = self._probed_at = self._agreed_until = float("-inf")
        self._proofs = 0

    @property
    def first(self) -> Route:
        """Whom to ask first, if both may be asked."""
        return Route.SECONDARY if self.standing is Standing.SECONDARY else Route.PRIMARY

    def is_plain(self, now: float) -> bool:
        """Tell whether there is nothing to remember: it is as a new one would be."""
        return self.standing is Standing.PRIMARY and not self.is_agreed(now)

    # the primary failed

    def fell_back(self, now: float, why: str) -> bool:
        """The secondary answered well what the primary did not; return whether that is a switch.

        It is none if the secondary is asked first already, or if it calls a trial off.
        """
        if self.standing is Standing.SECONDARY:
            self._proofs = 0
            return False
        is_relapse = self.standing is Standing.TRIAL and now - self._since < self._patience.hold_s
        self._hold_s = (
            min(2 * self._hold_s, self._patience.longest_hold_s)
            if is_relapse
            else self._patience.hold_s
        )
        self.standing, self.why = Standing.SECONDARY, why
        self._since = self._probed_at = now
        self._proofs = 0
        return not is_relapse

    def failed(self) -> None:
        """The primary failed, and so did the secondary or it was not asked."""
        self._proofs = 0

    # the primary may be back

    def wants_probe(self, now: float) -> bool:
        """Tell whether the primary should be asked beside the secondary."""
        is_due = now - self._probed_at >= self._patience.probe_s
        return self.standing is Standing.SECONDARY and is_due

    def probing(self, now: float) -> None:
        """A probe is under way."""
        self._probed_at = now

    def was_good(self, now: float) -> bool:
        """The primary answered well; return whether it will be asked first from now on."""
        if self.standing is Standing.SECONDARY:
            self._proofs += 1
            if self._proofs < self._patience.proofs or now - self._since < self._hold_s:
                return False
            self.standing, self._since, self.why = Standing.TRIAL, now, None
            return True
        if self.standing is Standing.TRIAL and now - self._since >= self._patience.hold_s:
            self.standing = Standing.PRIMARY
        return False

    # the primary is right after all

    def agree(self, now: float) -> None:
        """The secondary had nothing better: what looks wrong is so."""
        self._agreed_until = now + self._patience.agreed_s

    def is_agreed(self, now: float) -> bool:
        """Tell whether a doubtful answer of the primary need not be compared again yet."""
        return now < self._agreed_until


class Choices:
    """The choices about many things; those of which there is nothing to say take no room.

    Over the bound the one that was made first is forgotten: its next question asks the
    primary first.
    """

    def __init__(self, patience: Patience, *, most: int = 4096) -> None:
        self._patience = patience
        self._most = most
        self._choices: dict[str, Choice] = {}

    def __len__(self) -> int:
        return len(self._choices)

    def of(self, key: str) -> Choice:
        """Return the choice about a thing; to change it, `keep` it."""
        return self._choices.get(key) or Choice(self._patience)

    def keep(self, key: str, choice: Choice, now: float) -> None:
        """Remember a choice, if there is anything to remember."""
        if choice.is_plain(now):
            self._choices.pop(key, None)
            return
        self._choices[key] = choice
        if len(self._choices) > self._most:
            del self._choices[next(iter(self._choices))]

    def on_secondary(self) -> int:
        """Count those for which the secondary is asked first."""
        return sum(one.first is Route.SECONDARY for one in self._choices.values())


_KEPT: Final = 128
_ENOUGH: Final = 20
_SHARE: Final = 0.95


class ResponseTimes:
    """What the newest good answers took, to tell when one takes unusually long."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times = deque[float](maxlen=_KEPT)

    def add(self, took_s: float) -> None:
        """Take the time of one good answer."""
        self._times.append(took_s)

    def p95_s(self) -> float | None:
        """Return what all but a twentieth took at most; None of too few to tell."""
        if len(self._times) < _ENOUGH:
            return None
        ordered = sorted(self._times)
        return ordered[min(len(ordered) - 1, int(_SHARE * len(ordered)))]
