"""How old each kind of datum may be, and what its sources say about it besides.

`THRESHOLDS` is the one table of ages. A quality carries its row of it, with the
hours of the market, so that whoever reads it, and whenever, comes to the same score.
Judging adds what the rules found; notes are what only the source can know.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from onetape import calendar
from onetape.errors import InvalidRequest
from onetape.provenance import Ageing, Quality, Reason
from onetape.quality.reasons import NOTES


class DataClass(StrEnum):
    """A kind of datum, as far as its age is concerned."""

    QUOTE = "quote"
    CHAIN = "chain"
    INDEX = "index"
    GREEKS = "greeks"
    BARS = "bars"
    FLOW = "flow"
    SESSION = "session"


class Limits(NamedTuple):
    """A row of `THRESHOLDS`: seconds, or for bars their length, that an age may not exceed."""

    stale: float
    alert: float
    old: float
    unusable: float


THRESHOLDS: Final[Mapping[DataClass, Limits]] = {
    DataClass.QUOTE: Limits(stale=5, alert=10, old=15, unusable=30),
    DataClass.CHAIN: Limits(stale=5, alert=10, old=15, unusable=30),
    DataClass.INDEX: Limits(stale=5, alert=10, old=15, unusable=30),
    DataClass.GREEKS: Limits(stale=60, alert=120, old=180, unusable=360),
    DataClass.BARS: Limits(stale=1.5, alert=3, old=4.5, unusable=9),
    DataClass.FLOW: Limits(stale=60, alert=120, old=180, unusable=360),
    DataClass.SESSION: Limits(stale=120, alert=240, old=360, unusable=720),
}
"""Where the sources name the first only, the others keep the proportions of a quote."""

FUTURE_TOLERANCE_NS: Final = 2_000_000_000
"""How far ahead of our clock an exchange's time may be: clocks differ a little."""

DELAYED_S: Final = 900.0
"""What a delayed plan promises. Its data are stale at once, but useless only past this too."""

_S: Final = 1_000_000_000
# Index options trade on after the stocks; before that, nothing is let off its age.
_LATEST_CLOSE_NS: Final = 15 * 60 * _S
_FLICKER_S: Final = 6.0


class Hours(NamedTuple):
    """The market's opening and close around an instant; see `provenance.Ageing`."""

    opened_ns: int | None = None
    closes_ns: int | None = None
    opens_ns: int | None = None


def hours_at(now_ns: int, *, market_open: bool) -> Hours:
    """Return when time counts, seen from an instant.

    The caller knows whether the market is open: it may trade outside the regular
    session, and it may be halted within. Beyond the calendar nothing is known.
    """
    return _hours_at(now_ns // _S, market_open=market_open)  # it opens and closes on the second


@lru_cache(maxsize=8)
def _hours_at(now_s: int, *, market_open: bool) -> Hours:
    now_ns = now_s * _S
    try:
        if not market_open:
            return Hours(opens_ns=calendar.next_open(now_ns))
        closes_ns = calendar.next_close(now_ns - _LATEST_CLOSE_NS) + _LATEST_CLOSE_NS
        opens_ns = calendar.next_open(closes_ns)
        opened_ns = calendar.instant_ns(calendar.new_york_date(closes_ns), calendar.OPEN)
    except InvalidRequest:
        return Hours()
    return Hours(opened_ns if opened_ns <= now_ns else None, closes_ns, opens_ns)


def ageing(
    kind: DataClass,
    *,
    now_ns: int,
    market_open: bool,
    delayed: bool = False,
    bar_s: float | None = None,
) -> Ageing | None:
    """Return how a kind of datum ages from now on; None when it does not.

    Args:
        kind: The row of `THRESHOLDS`.
        now_ns: The instant that the hours are seen from.
        market_open: Whether it trades now.
        delayed: Whether the plan gives it a quarter of an hour late.
        bar_s: The length of a bar; `THRESHOLDS` counts in it for bars.
    """
    hours = hours_at(now_ns, market_open=market_open)
    if not market_open and hours.opens_ns is None:
        return None
    return _ageing(THRESHOLDS[kind], hours, bar_s or 1.0, DELAYED_S if delayed else 0.0)


@lru_cache(maxsize=256)
def _ageing(limits: Limits, hours: Hours, unit_s: float, delay_s: float) -> Ageing:
    return Ageing(
        stale_s=limits.stale * unit_s,
        alert_s=limits.alert * unit_s,
        old_s=limits.old * unit_s,
        unusable_s=limits.unusable * unit_s + delay_s,
        greeks_s=float(THRESHOLDS[DataClass.GREEKS].stale),
        opened_ns=hours.opened_ns,
        closes_ns=hours.closes_ns,
        opens_ns=hours.opens_ns,
    )


def noted(quality: Quality, *notes: Reason, fallback_reason: str | None = None) -> Quality:
    """Return a quality with more notes; those it has already are not repeated."""
    return msgspec.structs.replace(
        quality,
        reasons=quality.reasons + tuple(one for one in notes if one not in quality.reasons),
        fallback_reason=fallback_reason or quality.fallback_reason,
    )


def kept_notes(before: Quality | None, notes: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return the notes for a new verdict: what was noted before, then what is new."""
    if before is None or not before.reasons:
        return notes
    kept = tuple(one for one in before.reasons if one.code in NOTES)
    return kept + tuple(one for one in notes if one not in kept)


Notes = Mapping[str, tuple[Reason, ...]]
"""What the source has to say of each symbol."""


class StaleFlag:
    """Staleness without flicker, for whoever shows it.

    A source polled as often as its data may be old crosses the line at every poll.
    The flag goes up once stale, and comes down when it has been fresh for a while:

        down ──stale──▶ up ──fresh for `hold_s`──▶ down
    """

    def __init__(self, *, hold_s: float = _FLICKER_S) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._stale_at_ns: int | None = None

    def update(self, quality: Quality, now_ns: int) -> bool:
        """Take a look at the newest quality; return whether the flag is up."""
        if quality.is_stale(now_ns):
            self._stale_at_ns = now_ns
        elif self._stale_at_ns is not None and now_ns - self._stale_at_ns > self._hold_ns:
            self._stale_at_ns = None
        return self._stale_at_ns is not None
