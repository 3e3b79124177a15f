"""Quotes and trades, one by one.

    presence ─▶ book: bid, ask, the day's range, the time ─▶ price: last, change, volume

The book's rules hold for the quote of an option in a chain too, where other rules
than those of the price apply.
"""

from collections.abc import Iterable
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import msgspec

from onetape.model import Quote, Trade
from onetape.provenance import Ageing, Quality, Reason
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
from onetape.quality.score import DataClass, Notes, ageing, kept_notes

CHANGE_TOLERANCE: Final = 1.0
"""Points by which the change may differ from last price less previous close."""
CHANGE_TOLERANCE_RATIO: Final = 0.01
"""The same for what costs less than 100: its share of the previous close."""
_CENT: Final = 0.01
_ROUNDING: Final = 1e-9
_NO_NOTES: Final[Notes] = MappingProxyType({})

NUMBERS: Final = (
    *("bid", "ask", "last", "bid_size", "ask_size", "last_size", "open", "high", "low"),
    *("previous_close", "change", "change_percent", "vwap"),
)
numbers: Final = attrgetter(*NUMBERS)


def _is_present(quote: Quote, _at: Moment) -> bool:
    return is_text(quote.symbol) and is_instant(quote.event_ns) and has_numbers(quote)


def has_numbers(quote: Quote) -> bool:
    """Tell quickly whether a quote's prices and sizes are numbers, as far as they are there.

    Raises:
        TypeError: When one is text or the like.
    """
    # Only a finite number less itself is 0. A loop is as right, and takes three times as long.
    bid, ask, last, change = quote.bid, quote.ask, quote.last, quote.change
    bid_size, ask_size, last_size = quote.bid_size, quote.ask_size, quote.last_size
    high, low, opening, close = quote.high, quote.low, quote.open, quote.previous_close
    percent, vwap = quote.change_percent, quote.vwap
    return (
        (bid is None or not bid - bid)
        and (ask is None or not ask - ask)
        and (last is None or not last - last)
        and (bid_size is None or not bid_size - bid_size)
        and (ask_size is None or not ask_size - ask_size)
        and (last_size is None or not last_size - last_size)
        and (opening is None or not opening - opening)
        and (high is None or not high - high)
        and (low is None or not low - low)
        and (close is None or not close - close)
        and (change is None or not change - change)
        and (percent is None or not percent - percent)
        and (vwap is None or not vwap - vwap)
    )


def _symbol_missing(quote: Quote | Trade, _at: Moment) -> str | None:
    return None if is_text(quote.symbol) else ""


def _time_invalid(quote: Quote, _at: Moment) -> str | None:
    return None if quote.event_ns is None or is_instant(quote.event_ns) else ""


def _not_a_number(quote: Quote, _at: Moment) -> str | None:
    return unreal(NUMBERS, numbers(quote))


def _is_two_sided(quote: Quote, at: Moment) -> bool:
    event_ns, bid, ask, high, low = quote.event_ns, quote.bid, quote.ask, quote.high, quote.low
    bid_size, ask_size = quote.bid_size, quote.ask_size
    return (
        event_ns is not None
        and event_ns <= at.latest_ns
        and bid is not None
        and ask is not None
        and 0 < bid < ask
        and (high is None or low is None or low <= high)
        and (bid_size is None or bid_size >= 0)
        and (ask_size is None or ask_size >= 0)
    )


def _price_negative(quote: Quote, _at: Moment) -> str | None:
    bid, ask = quote.bid, quote.ask
    if (bid is not None and bid < 0) or (ask is not None and ask < 0):
        return "bid or ask"
    return None


def _crossed(quote: Quote, _at: Moment) -> str | None:
    bid, ask = quote.bid, quote.ask
    if bid is not None and ask is not None and bid > ask:
        return f"bid {bid:g} > ask {ask:g}"
    return None


def _locked(quote: Quote, _at: Moment) -> str | None:
    bid = quote.bid
    return "" if bid is not None and bid > 0 and bid == quote.ask else None


def _zero_bid(quote: Quote, _at: Moment) -> str | None:
    return "" if quote.bid == 0 else None


def _size_negative(quote: Quote, _at: Moment) -> str | None:
    bid_size, ask_size = quote.bid_size, quote.ask_size
    if (bid_size is not None and bid_size < 0) or (ask_size is not None and ask_size < 0):
        return ""
    return None


def _range_inverted(quote: Quote, _at: Moment) -> str | None:
    high, low = quote.high, quote.low
    if high is not None and low is not None and high < low:
        return f"high {high:g} < low {low:g}"
    return None


def _future(datum: Quote | Trade, at: Moment) -> str | None:
    event_ns = datum.event_ns
    if event_ns is not None and event_ns > at.latest_ns:
        return f"{(event_ns - at.now_ns) / 1e9:.1f} s ahead"
    return None


def _time_missing(quote: Quote, _at: Moment) -> str | None:
    return "" if quote.event_ns is None else None


def _price_missing(quote: Quote, _at: Moment) -> str | None:
    return "" if quote.last is None and quote.bid is None and quote.ask is None else None


def _price_not_positive(quote: Quote, _at: Moment) -> str | None:
    last = quote.last
    return f"{last:g}" if last is not None and last <= 0 else None


def _last_outside_range(quote: Quote, _at: Moment) -> str | None:
    last, high, low = quote.last, quote.high, quote.low
    if last is None or high is None or low is None or high < low or low <= last <= high:
        return None
    return f"{last:g} not in {low:g}..{high:g}"


def _change_inconsistent(quote: Quote, _at: Moment) -> str | None:
    last, close, change = quote.last, quote.previous_close, quote.change
    if last is None or close is None or change is None:
        return None
    off = abs(change - (last - close))
    allowed = max(_CENT, min(CHANGE_TOLERANCE, CHANGE_TOLERANCE_RATIO * abs(close)))
    return f"off by {off:g}" if off > allowed + _ROUNDING else None


def _volume_invalid(quote: Quote, _at: Moment) -> str | None:
    volume = quote.volume
    return "" if volume is not None and not (is_real(volume) and volume >= 0) else None


def _trade_not_a_number(trade: Trade, _at: Moment) -> str | None:
    return unreal_or_missing(("price", "size"), (trade.price, trade.size))


def _trade_time_invalid(trade: Trade, _at: Moment) -> str | None:
    return None if is_instant(trade.event_ns) else ""


def _trade_price(trade: Trade, _at: Moment) -> str | None:
    return f"{trade.price:g}" if trade.price <= 0 else None


def _trade_size(trade: Trade, _at: Moment) -> str | None:
    return f"{trade.size:g}" if trade.size < 0 else None


PRESENCE: Final = Rules[Quote](
    {
        "symbol_missing": _symbol_missing,
        "time_invalid": _time_invalid,
        "not_a_number": _not_a_number,
    },
    normal=_is_present,
)
BOOK: Final = Rules[Quote](
    {
        "future": _future,
        "time_missing": _time_missing,
        "price_negative": _price_negative,
        "crossed": _crossed,
        "locked": _locked,
        "zero_bid": _zero_bid,
        "size_negative": _size_negative,
        "range_inverted": _range_inverted,
    },
    normal=_is_two_sided,
)
PRICE: Final = Rules[Quote](
    {
        "price_missing": _price_missing,
        "price_not_positive": _price_not_positive,
        "last_outside_range": _last_outside_range,
        "change_inconsistent": _change_inconsistent,
        "volume_invalid": _volume_invalid,
    }
)
TRADE_PRESENCE: Final = Rules[Trade](
    {
        "symbol_missing": _symbol_missing,
        "time_invalid": _trade_time_invalid,
        "not_a_number": _trade_not_a_number,
    }
)
TRADE: Final = Rules[Trade](
    {
        "future": _future,
        "price_not_positive": _trade_price,
        "size_negative": _trade_size,
    }
)


def quote_reasons(quote: Quote, at: Moment) -> tuple[Reason, ...]:
    """Return what the rules find in a quote that stands alone."""
    return PRESENCE.find(quote, at) or BOOK.find(quote, at) + PRICE.find(quote, at)


def judge_quote(
    quote: Quote, *, now_ns: int, market_open: bool, notes: tuple[Reason, ...] = ()
) -> Quote:
    """Return a quote, of a share, an option or an index, with its quality."""
    by_symbol = {quote.symbol: notes} if notes else _NO_NOTES
    return judge_quotes((quote,), now_ns=now_ns, market_open=market_open, notes=by_symbol)[0]


def judge_quotes(
    quotes: Iterable[Quote], *, now_ns: int, market_open: bool, notes: Notes = _NO_NOTES
) -> tuple[Quote, ...]:
    """Return the quotes of one answer or frame, each with its quality; none is left out.

    Args:
        quotes: The quotes.
        now_ns: The time; an exchange's time ahead of it is an error.
        market_open: Whether they trade now; while they do not, nothing ages.
        notes: What the source has to say, from `reasons.NOTES`, by symbol.
    """
    at = moment(now_ns)
    ages = both_ageings(DataClass.QUOTE, now_ns=now_ns, market_open=market_open)
    judged: list[Quote] = []
    for quote in quotes:
        reasons = quote_reasons(quote, at) + kept_notes(
            quote.quality, notes.get(quote.symbol, CLEAN)
        )
        quality = quality_of(quote, reasons, ages[bool(quote.delayed)])
        judged.append(msgspec.structs.replace(quote, quality=quality))
    return tuple(judged)


def judge_trade(trade: Trade, *, now_ns: int, notes: tuple[Reason, ...] = ()) -> Trade:
    """Return a trade with its quality. A trade is an event: it does not age."""
    at = moment(now_ns)
    reasons = TRADE_PRESENCE.find(trade, at) or TRADE.find(trade, at)
    quality = quality_of(trade, reasons + kept_notes(trade.quality, notes), None)
    return msgspec.structs.replace(trade, quality=quality)


def both_ageings(
    kind: DataClass, *, now_ns: int, market_open: bool
) -> tuple[Ageing | None, Ageing | None]:
    """Return how live data of a kind age, and how delayed data do."""
    live = ageing(kind, now_ns=now_ns, market_open=market_open)
    return live, ageing(kind, now_ns=now_ns, market_open=market_open, delayed=True)


def quality_of(
    datum: Quote | Trade,
    reasons: tuple[Reason, ...],
    age: Ageing | None,
    *,
    before: Quality | None = None,
    greeks_ns: Any = None,
) -> Quality:
    """Return the verdict on a datum from what was found."""
    known = before or datum.quality
    event_ns = datum.event_ns
    return Quality(
        provider=datum.provider,
        source=datum.source,
        received_ns=datum.received_ns,
        event_ns=event_ns if is_instant(event_ns) else None,
        reasons=reasons or CLEAN,
        fallback_reason=None if known is None else known.fallback_reason,
        delayed=datum.delayed,
        simulated=datum.simulated,
        greeks_ns=greeks_ns if is_instant(greeks_ns) else None,
        ageing=age,
    )
