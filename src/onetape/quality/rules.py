"""What a rule is: a small pure function, in a table under the code of its reason.

A rule looks at one subject and returns None, or what it found in a few words, which
may be none. `reasons` has the severity and the meaning of each code. The first table
of every subject is its *presence*: is everything there, and of the right type? When
it finds something the other tables are not asked, since they reckon with numbers.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from math import isfinite
from typing import Final, Generic, NamedTuple, TypeGuard, TypeVar

from onetape import calendar
from onetape.errors import InvalidRequest
from onetape.provenance import Reason
from onetape.quality.reasons import reason
from onetape.quality.score import FUTURE_TOLERANCE_NS

S = TypeVar("S")

CLEAN: Final[tuple[Reason, ...]] = ()

HUGE: Final = 1e300
"""Beyond every number that means something. Infinity is not below it, nor is NaN."""
INSTANT_MAX: Final = 2**63


class Moment(NamedTuple):
    """What a rule is told of the time."""

    now_ns: int
    today: date
    """The date in New York."""
    latest_ns: int
    """An exchange's time after this is wrong."""


def moment(now_ns: int) -> Moment:
    """Return what rules are told at an instant."""
    return Moment(now_ns, _today(now_ns // 1_000_000_000), now_ns + FUTURE_TOLERANCE_NS)


@lru_cache(maxsize=8)
def _today(now_s: int) -> date:
    try:
        return calendar.new_york_date(now_s * 1_000_000_000)
    except InvalidRequest:  # a clock this wrong must not stop the data
        return date.min


def _never(_subject: object, _at: Moment) -> bool:
    return False


class Rules(Generic[S]):
    """A table of rules about one kind of subject: reason codes, and what looks for each.

    Args:
        checks: The rules.
        normal: Tells in one expression that none of them will find anything. It is asked
            first, since nearly all data are in order; it may say no, and then they are asked.
    """

    def __init__(
        self,
        checks: Mapping[str, Callable[[S, Moment], str | None]],
        *,
        normal: Callable[[S, Moment], bool] | None = None,
    ) -> None:
        self.codes = tuple(checks)
        self._normal = normal or _never
        # Most findings say nothing but their code: these are made once.
        self._checks = tuple((check, code, (reason(code),)) for code, check in checks.items())

    def find(self, subject: S, at: Moment) -> tuple[Reason, ...]:
        """Return what the rules find, in their order; `CLEAN` when nothing."""
        try:
            if self._normal(subject, at):
                return CLEAN
        except TypeError:
            pass  # text where a number should be: the rules will say so
        return self.find_slowly(subject, at)

    def find_slowly(self, subject: S, at: Moment) -> tuple[Reason, ...]:
        """Do the same without asking first whether all is normal."""
        found = CLEAN
        for check, code, bare in self._checks:
            detail = check(subject, at)
            if detail is not None:
                found += (reason(code, detail),) if detail else bare
        return found


def is_real(value: object) -> TypeGuard[float]:
    """Tell whether it is a number that one can reckon with: no NaN, infinity or text."""
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def unreal(names: Iterable[str], values: Iterable[object]) -> str | None:
    """Return the names of the values that are there and no numbers, or None."""
    pairs = zip(names, values, strict=True)
    return (
        ", ".join(name for name, value in pairs if value is not None and not is_real(value)) or None
    )


def unreal_or_missing(names: Iterable[str], values: Iterable[object]) -> str | None:
    """Return the names of the values that are no numbers, or not there, or None."""
    pairs = zip(names, values, strict=True)
    return ", ".join(name for name, value in pairs if not is_real(value)) or None


def is_instant(value: object) -> TypeGuard[int]:
    """Tell whether it is a time in nanoseconds since the epoch."""
    return type(value) is int and 0 <= value < INSTANT_MAX


def is_text(value: object) -> bool:
    """Tell whether it is text, and not empty."""
    return isinstance(value, str) and bool(value)
