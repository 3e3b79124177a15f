"""Short bars rolled up to long ones.

Windows are those of the vendor: minutes and hours by the clock of New York, counted from
midnight (an hour begins at 09:00, not at 09:30), and days from midnight to midnight there,
with all that traded before and after the session.

    1m ──▶ 5m ──▶ 15m ──▶ 30m ──▶ 1h ──▶ 1d      by any path the same bar

A window without a bar stays without one: gaps are not filled. A window that is still open,
or began before the bars do, is not a bar yet: `roll_up` keeps it apart, or leaves it out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeVar

from onetape import calendar
from onetape.model import Bar
from onetape.provenance import Source

_Number = TypeVar("_Number", int, float)

_MINUTE_NS: Final = 60_000_000_000
_MIDNIGHT: Final = time()
_DAY: Final = "1d"

MINUTES: Final[Mapping[str, int]] = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, _DAY: 1440}
"""The lengths of bars, in minutes; a day in which New York's clocks change has more or fewer."""

SEVERAL: Final = "hybrid"
"""The provider of a bar made of several providers' bars."""


class Window(NamedTuple):
    """The interval `[start_ns, end_ns)` of a bar."""

    start_ns: int
    end_ns: int


class RolledUp(NamedTuple):
    """Whole bars, and the one whose window is still open, if it has begun."""

    bars: tuple[Bar, ...]
    partial: Bar | None


def window_of(at_ns: int, length: str) -> Window:
    """Return the window that holds an instant.

    Raises:
        ValueError: When there are no bars of that length.
    """
    minutes = MINUTES.get(length)
    if minutes is None:
        raise ValueError(f"no bars of this length: choose among {', '.join(MINUTES)}")
    if length == _DAY:
        return _day(calendar.new_york_date(at_ns))
    # New York is whole hours from UTC all year, so its clock and UTC's cut the same windows.
    width = minutes * _MINUTE_NS
    start_ns = at_ns - at_ns % width
    return Window(start_ns, start_ns + width)


def roll_up(
    bars: Sequence[Bar], length: str, *, now_ns: int, since_ns: int | None = None
) -> RolledUp:
    """Make long bars of short ones of one symbol.

    Volumes and trades are summed and prices weighted by volume; where a bar of the window
    lacks one of them the long bar does. What they say of provider, delay and simulation
    holds for the long bar; its quality is not known until it is judged.

    Args:
        bars: ascending, without overlap (see `merged`).
        length: one of `MINUTES`.
        now_ns: a window that ends later is still open.
        since_ns: from when on the bars are known. A window that began earlier is left out.

    Raises:
        ValueError: When there are no bars of that length, or the bars are of several
            symbols, out of order, or longer than the window.
    """
    _check(bars)
    rolled: list[Bar] = []
    for window, group in groupby(bars, key=lambda bar: window_of(bar.event_ns, length)):
        if since_ns is None or window.start_ns >= since_ns:
            rolled.append(_joined(list(group), window))
    if rolled and rolled[-1].end_ns > now_ns:
        return RolledUp(tuple(rolled[:-1]), rolled[-1])
    return RolledUp(tuple(rolled), None)


def merged(*series: Iterable[Bar]) -> tuple[Bar, ...]:
    """Return the bars of one symbol in order, of each window the one that we learned last.

    The vendor sends a bar again when a trade of it comes late; history and stream overlap.
    Of two received at once the one of the later series counts.
    """
    latest: dict[int, Bar] = {}
    for bars in series:
        for bar in bars:
            known = latest.get(bar.event_ns)
            if known is None or bar.received_ns >= known.received_ns:
                latest[bar.event_ns] = bar
    return tuple(latest[at_ns] for at_ns in sorted(latest))


def regular_hours(bars: Iterable[Bar]) -> Iterator[Bar]:
    """Yield the bars that lie within the regular session of their day.

    Raises:
        InvalidRequest: When a bar is outside the exchange calendar.
    """
    for bar in bars:
        day = calendar.trading_day(calendar.new_york_date(bar.event_ns))
        if day is not None and day.open_ns <= bar.event_ns and bar.end_ns <= day.close_ns:
            yield bar


@lru_cache(maxsize=1024)
def _day(day: date) -> Window:
    following = day + timedelta(days=1)
    return Window(calendar.instant_ns(day, _MIDNIGHT), calendar.instant_ns(following, _MIDNIGHT))


def _check(bars: Sequence[Bar]) -> None:
    for before, after in pairwise(bars):
        if after.symbol != before.symbol:
            raise ValueError("the bars are of several symbols")
        if after.event_ns < before.end_ns:
            raise ValueError("the bars overlap or are out of order: give them to `merged` first")


def _joined(bars: Sequence[Bar], window: Window) -> Bar:
    first, last = bars[0], bars[-1]
    if last.end_ns > window.end_ns:
        raise ValueError("a bar reaches past the window: bars are not cut into shorter ones")
    if (first.event_ns, first.end_ns) == window:
        return first
    volume = _total([bar.volume for bar in bars])
    return Bar(
        symbol=first.symbol,
        event_ns=window.start_ns,
        end_ns=window.end_ns,
        received_ns=max(bar.received_ns for bar in bars),
        provider=first.provider if len({bar.provider for bar in bars}) == 1 else SEVERAL,
        source=Source.COMPUTED,
        simulated=any(bar.simulated for bar in bars),
        delayed=any(bar.delayed for bar in bars),
        open=first.open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=last.close,
        volume=volume,
        vwap=_weighted(bars, volume),
        trades=_total([bar.trades for bar in bars]),
    )


def _total(parts: Sequence[_Number | None]) -> _Number | None:
    known = [part for part in parts if part is not None]
    return sum(known[1:], start=known[0]) if len(known) == len(parts) else None


def _weighted(bars: Sequence[Bar], volume: float | None) -> float | None:
    if not volume:
        return None
    worth = 0.0
    for bar in bars:
        if bar.volume and bar.vwap is None:
            return None
        worth += (bar.volume or 0.0) * (bar.vwap or 0.0)
    return worth / volume
