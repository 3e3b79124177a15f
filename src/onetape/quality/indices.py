"""An index: its value now, and its bars over several lengths.

    quotes.PRESENCE ─▶ quotes.BOOK, quotes.PRICE ─▶ every bar of every length

A bad bar is an error of the snapshot: a chart of it would be wrong. Each code is one
reason, in however many bars it is found.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from onetape.model import IndexSnapshot, Timeframe
from onetape.provenance import Reason
from onetape.quality.candles import bar_reasons
from onetape.quality.quotes import both_ageings, quality_of, quote_reasons
from onetape.quality.reasons import reason
from onetape.quality.rules import Moment, Rules, moment
from onetape.quality.score import DataClass, kept_notes


def _bars_missing(timeframe: Timeframe, _at: Moment) -> str | None:
    return None if timeframe.bars else f"{timeframe.length}"


TIMEFRAME: Final = Rules[Timeframe]({"bars_missing": _bars_missing})


def index_reasons(snapshot: IndexSnapshot, at: Moment) -> tuple[Reason, ...]:
    """Return what the rules find in an index and in its bars."""
    found = {one.code: one for one in quote_reasons(snapshot.quote, at)}
    for one in _timeframe_reasons(snapshot, at):
        found.setdefault(one.code, one)
    return tuple(found.values())


def _timeframe_reasons(snapshot: IndexSnapshot, at: Moment) -> Iterator[Reason]:
    for timeframe in snapshot.timeframes.values():
        yield from TIMEFRAME.find(timeframe, at)
        bars = timeframe.bars
        found = Counter(one.code for bar in bars for one in bar_reasons(bar, at))
        for code, count in found.items():
            yield reason(code, f"{count} of {len(bars)} bars of {timeframe.length}")


def judge_index(
    snapshot: IndexSnapshot,
    *,
    now_ns: int,
    market_open: bool,
    notes: tuple[Reason, ...] = (),
) -> IndexSnapshot:
    """Return an index with its quality; `judge_contract` explains the arguments."""
    at = moment(now_ns)
    ages = both_ageings(DataClass.INDEX, now_ns=now_ns, market_open=market_open)
    quality = quality_of(
        snapshot.quote,
        index_reasons(snapshot, at) + kept_notes(snapshot.quality, notes),
        ages[bool(snapshot.quote.delayed)],
        before=snapshot.quality,
    )
    return msgspec.structs.replace(snapshot, quality=quality)
