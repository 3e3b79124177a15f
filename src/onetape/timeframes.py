"""Bar lengths and ranges of time, in every spelling we meet.

    5m  5min  5minute  →  5 minutes        1h  60m are two lengths: the vendor aligns
    1D  1d    day      →  1 day            an hour and sixty minutes alike, others may not
    1mo 1M             →  1 month          `m` is a minute, `M` a month

A range's ends are dates of New York, instants with a zone, or int nanoseconds UTC.
"""

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from onetape.errors import InvalidRequest

Moment = date | datetime | int | str
"""An end of a range: a date, an instant with a zone, nanoseconds UTC, or ISO 8601 of either."""


class Timespan(StrEnum):
    """The units of a bar's length; the vendor's words."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


_SPELLINGS: Final = {
    spelling: span
    for span, spellings in {
        Timespan.SECOND: "s sec second seconds",
        Timespan.MINUTE: "m min minute minutes",
        Timespan.HOUR: "h hour hours",
        Timespan.DAY: "d day days",
        Timespan.WEEK: "w week weeks",
        Timespan.MONTH: "mo mon month months",
        Timespan.QUARTER: "q quarter quarters",
        Timespan.YEAR: "y year years",
    }.items()
    for spelling in spellings.split()
}
_SHORT: Final = {span: span.value[0] for span in Timespan} | {Timespan.MONTH: "mo"}
_FIXED_S: Final = {
    Timespan.SECOND: 1,
    Timespan.MINUTE: 60,
    Timespan.HOUR: 3600,
}
_NOMINAL_S: Final = _FIXED_S | {
    Timespan.DAY: 86_400,
    Timespan.WEEK: 7 * 86_400,
    Timespan.MONTH: 30 * 86_400,
    Timespan.QUARTER: 91 * 86_400,
    Timespan.YEAR: 365 * 86_400,
}
_form: Final = re.compile(r"(\d{0,4})([a-z]+)").fullmatch


class BarLength(NamedTuple):
    """How much time one bar covers."""

    multiplier: int
    timespan: Timespan

    @property
    def fixed_ns(self) -> int | None:
        """Its length where it is always the same; a day, a week or more is not."""
        unit = _FIXED_S.get(self.timespan)
        return None if unit is None else self.multiplier * unit * 1_000_000_000

    @property
    def nominal_s(self) -> int:
        """About how long it is, to judge age by; not to compute ends with."""
        return self.multiplier * _NOMINAL_S[self.timespan]

    def __str__(self) -> str:
        """The short spelling: `5m`, `1h`, `1d`."""
        return f"{self.multiplier}{_SHORT[self.timespan]}"


def bar_length(text: str) -> BarLength:
    """Read a bar length.

    Raises:
        InvalidRequest: When it is none.
    """
    typed = text.strip()
    lower = re.sub(r"(?<=\d)M$", "mo", typed).lower()
    found = _form(lower)
    span = _SPELLINGS.get(found[2]) if found else None
    if found is None or span is None or found[1] in {"0", "00", "000", "0000"}:
        raise InvalidRequest(f"{typed[:20]!r} is not a bar length: write 1m, 5m, 1h, 1d, 1w or 1mo")
    return BarLength(int(found[1] or 1), span)


def moment_ns(moment: Moment) -> int | date:
    """Bring an end of a range to a date or to nanoseconds UTC.

    Raises:
        InvalidRequest: When it is neither, or an instant without a zone.
    """
    if isinstance(moment, str):
        moment = _read(moment)
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InvalidRequest("an instant needs a zone: datetime(…, tzinfo=…)")
        elapsed = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return elapsed // timedelta(microseconds=1) * 1000
    return moment


def _read(text: str) -> date | datetime:
    try:
        if len(text) == len("2026-01-02"):
            return date.fromisoformat(text)
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text[:40]!r} is not a date or an instant in ISO 8601") from None
