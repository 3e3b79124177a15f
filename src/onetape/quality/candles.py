"""Bars, single and in series.

As in a chain, a bar with an error is left out and counted, and the score of a series
follows from its own reasons: were it to count those of its bars, it would gain when
a doubtful bar becomes a wrong one.

A bar ages from its end, in lengths of itself. A day and longer is history and does
not age: how many days may pass depends on weekends and on what was asked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from onetape.model import Bar
from onetape.provenance import Ageing, Quality, Reason, Source
from onetape.quality.reasons import first_error
from onetape.quality.rules import (
    CLEAN,
    Moment,
    Rules,
    is_instant,
    is_real,
    is_text,
    moment,
    unreal,
    unreal_or_missing,
)
from onetape.quality.score import DataClass, ageing, kept_notes

_DAY_S: Final = 23 * 3600.0  # the day the clocks go forward is this short
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

_PRICES: Final = ("open", "high", "low", "close")


class JudgedBars(NamedTuple):
    """A series: the bars without errors, what was left out by code, and the verdict on all.

    A bar has a quality of its own only when something was found in it.
    """

    bars: tuple[Bar, ...]
    dropped: Mapping[str, int]
    quality: Quality


def _symbol_missing(bar: Bar, _at: Moment) -> str | None:
    return None if is_text(bar.symbol) else ""


def _time_invalid(bar: Bar, _at: Moment) -> str | None:
    return None if is_instant(bar.event_ns) and is_instant(bar.end_ns) else ""


def _not_a_number(bar: Bar, _at: Moment) -> str | None:
    prices = (bar.open, bar.high, bar.low, bar.close)
    return unreal_or_missing(_PRICES, prices) or unreal(("vwap",), (bar.vwap,))


def _future(bar: Bar, at: Moment) -> str | None:
    if bar.event_ns <= at.latest_ns:
        return None
    return f"{(bar.event_ns - at.now_ns) / 1e9:.1f} s ahead"


def _window_invalid(bar: Bar, _at: Moment) -> str | None:
    return "" if bar.end_ns <= bar.event_ns else None


def _price_not_positive(bar: Bar, _at: Moment) -> str | None:
    lowest = min(bar.open, bar.high, bar.low, bar.close)
    return f"{lowest:g}" if lowest <= 0 else None


def _range_inverted(bar: Bar, _at: Moment) -> str | None:
    return f"high {bar.high:g} < low {bar.low:g}" if bar.high < bar.low else None


def _open_outside_range(bar: Bar, _at: Moment) -> str | None:
    return _outside(bar.open, bar)


def _close_outside_range(bar: Bar, _at: Moment) -> str | None:
    return _outside(bar.close, bar)


def _outside(price: float, bar: Bar) -> str | None:
    if bar.high < bar.low or bar.low <= price <= bar.high:
        return None
    return f"{price:g} not in {bar.low:g}..{bar.high:g}"


def _volume_invalid(bar: Bar, _at: Moment) -> str | None:
    volume = bar.volume
    return "" if volume is not None and not (is_real(volume) and volume >= 0) else None


PRESENCE: Final = Rules[Bar](
    {
        "symbol_missing": _symbol_missing,
        "time_invalid": _time_invalid,
        "not_a_number": _not_a_number,
    }
)
BAR: Final = Rules[Bar](
    {
        "future": _future,
        "window_invalid": _window_invalid,
        "price_not_positive": _price_not_positive,
        "range_inverted": _range_inverted,
        "open_outside_range": _open_outside_range,
        "close_outside_range": _close_outside_range,
        "volume_invalid": _volume_invalid,
    }
)


class Series(NamedTuple):
    """A series after its bars were judged one by one."""

    bars: Sequence[Bar]
    dropped: int
    marked: int


def _bars_missing(series: Series, _at: Moment) -> str | None:
    return None if series.bars else ""


def _bars_unordered(series: Series, _at: Moment) -> str | None:
    after = sum(later.event_ns <= earlier.event_ns for earlier, later in pairwise(series.bars))
    return f"{after} of {len(series.bars)}" if after else None


def _bars_dropped(series: Series, _at: Moment) -> str | None:
    total = series.dropped + len(series.bars)
    return f"{series.dropped} of {total}" if series.dropped else None


def _bars_marked(series: Series, _at: Moment) -> str | None:
    return f"{series.marked} of {len(series.bars)}" if series.marked else None


SERIES: Final = Rules[Series](
    {
        "bars_missing": _bars_missing,
        "bars_unordered": _bars_unordered,
        "bars_dropped": _bars_dropped,
        "bars_marked": _bars_marked,
    }
)


def bar_reasons(bar: Bar, at: Moment) -> tuple[Reason, ...]:
    """Return what the rules find in a bar."""
    return PRESENCE.find(bar, at) or BAR.find(bar, at)


def judge_bar(bar: Bar, *, now_ns: int, market_open: bool, notes: tuple[Reason, ...] = ()) -> Bar:
    """Return a bar, as from a stream, with its quality."""
    reasons = bar_reasons(bar, moment(now_ns)) + kept_notes(bar.quality, notes)
    age = _ageing(bar, now_ns=now_ns, market_open=market_open)
    return msgspec.structs.replace(bar, quality=_quality_of(bar, reasons, age, now_ns))


def judge_bars(
    bars: Sequence[Bar],
    *,
    provider: str,
    now_ns: int,
    market_open: bool,
    reaches_now: bool = True,
    dropped: Mapping[str, int] = _NOTHING,
) -> JudgedBars:
    """Judge a series of bars of one length.

    Args:
        bars: The series, in the order of time.
        provider: Who answered; the bars may be none.
        now_ns: The time.
        market_open: Whether it trades now; while it does not, nothing ages.
        reaches_now: Whether the present was asked for; if not it is history and does not age.
        dropped: What was left out before, by reason code.
    """
    at = moment(now_ns)
    kept: list[Bar] = []
    lost = Counter(dropped)
    marked = 0
    for bar in bars:
        reasons = bar_reasons(bar, at)
        error = first_error(reasons)
        if error is not None:
            lost[error] += 1
            continue
        marked += bool(reasons)
        kept.append(_marked(bar, reasons, now_ns) if reasons or bar.quality else bar)
    found = SERIES.find(Series(kept, lost.total(), marked), at)
    if not kept:
        quality = Quality(provider=provider, source=Source.REST, received_ns=now_ns, reasons=found)
        return JudgedBars((), dict(lost), quality)
    last = max(kept, key=lambda bar: bar.event_ns)
    age = _ageing(last, now_ns=now_ns, market_open=market_open) if reaches_now else None
    return JudgedBars(tuple(kept), dict(lost), _quality_of(last, found, age, now_ns))


def _marked(bar: Bar, reasons: tuple[Reason, ...], now_ns: int) -> Bar:
    reasons += kept_notes(bar.quality, CLEAN)
    # Its series ages, and is shown with it; in the middle of a series a bar is history.
    return msgspec.structs.replace(bar, quality=_quality_of(bar, reasons, None, now_ns))


def _ageing(bar: Bar, *, now_ns: int, market_open: bool) -> Ageing | None:
    if not (is_instant(bar.event_ns) and is_instant(bar.end_ns)):
        return None
    bar_s = (bar.end_ns - bar.event_ns) / 1e9
    if not 0 < bar_s < _DAY_S:
        return None
    return ageing(
        DataClass.BARS,
        now_ns=now_ns,
        market_open=market_open,
        delayed=bool(bar.delayed),
        bar_s=bar_s,
    )


def _quality_of(bar: Bar, reasons: tuple[Reason, ...], age: Ageing | None, now_ns: int) -> Quality:
    # A bar that is still growing was true until now, not until its end.
    end_ns = min(bar.end_ns, now_ns) if is_instant(bar.end_ns) else None
    return Quality(
        provider=bar.provider,
        source=bar.source,
        received_ns=bar.received_ns,
        event_ns=end_ns,
        reasons=reasons or CLEAN,
        fallback_reason=None if bar.quality is None else bar.quality.fallback_reason,
        delayed=bar.delayed,
        simulated=bar.simulated,
        ageing=age,
    )
