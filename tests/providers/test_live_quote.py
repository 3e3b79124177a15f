from typing import Any

import pytest
from hypothesis import given, strategies as st

from onetape.model import Bar, IndexSnapshot, Quote, Timeframe, Trade
from onetape.provenance import Source
from onetape.providers.live_quote import EquityView, IndexView, LiveQuote, is_representative

NOW_NS = 1_764_000_000_000_000_000


def answer(at: int, bid: float | None = 1.0, last: float | None = 10.0, **more: Any) -> Quote:
    return Quote(
        symbol="SPY",
        event_ns=at,
        received_ns=at,
        provider="massive",
        source=Source.REST,
        bid=bid,
        ask=None if bid is None else bid + 1,
        last=last,
        **more,
    )


def streamed(at: int, bid: float) -> Quote:
    return Quote(
        symbol="SPY",
        event_ns=at,
        received_ns=at + 1,
        provider="massive",
        bid=bid,
        ask=bid + 1,
        bid_size=3,
        ask_size=4,
        sequence=at,
    )


def trade(at: int, price: float, *conditions: int) -> Trade:
    return Trade(
        symbol="SPY",
        event_ns=at,
        received_ns=at + 1,
        provider="massive",
        price=price,
        size=5,
        conditions=conditions,
    )


def test_an_event_renews_its_part_and_leaves_the_others() -> None:
    """R208."""
    live = LiveQuote(answer(10, volume=900.0))

    assert live.take(streamed(11, 2.0))
    assert live.take(trade(12, 20.0))

    quote = live.quote
    assert (quote.bid, quote.ask, quote.bid_size, quote.sequence) == (2.0, 3.0, 3, 11)
    assert (quote.last, quote.last_size, quote.volume) == (20.0, 5, 900.0)
    assert (quote.event_ns, quote.received_ns, quote.source) == (12, 13, Source.STREAM)


def test_an_older_event_changes_nothing() -> None:
    """W-66, R238."""
    live = LiveQuote(answer(10))
    before = live.quote

    assert not live.take(streamed(9, 2.0))
    assert not live.take(trade(9, 20.0))
    assert live.quote is before


def test_an_older_answer_does_not_undo_what_was_streamed() -> None:
    """W-66, R238."""
    live = LiveQuote(answer(10))
    live.take(streamed(12, 2.0))

    live.renew(answer(11, bid=7.0, last=70.0, volume=1000.0))

    assert (live.quote.bid, live.quote.last, live.quote.volume) == (2.0, 70.0, 1000.0)
    assert (live.quote.event_ns, live.quote.source) == (12, Source.STREAM)


def test_a_newer_answer_is_the_whole_truth() -> None:
    live = LiveQuote(answer(10))
    live.take(streamed(12, 2.0))
    whole = answer(13, bid=7.0, last=70.0)

    live.renew(whole)

    assert live.quote is whole


def test_an_answer_older_than_the_last_one_is_none() -> None:
    live = LiveQuote(answer(10, last=None))
    before = live.quote

    assert not live.renew(answer(9, last=8.0))
    assert live.quote is before


def test_an_event_without_a_time_does_not_displace_what_has_one() -> None:
    live = LiveQuote(answer(10))
    timeless = Quote(symbol="SPY", event_ns=None, received_ns=99, provider="massive", bid=9.0)

    assert not live.take(timeless)


def test_an_answer_without_a_time_is_as_new_as_it_comes() -> None:
    """Where the plan has no times, or a new day has no quote yet; what was streamed stays."""
    timeless = Quote(symbol="SPY", event_ns=None, received_ns=99, provider="massive", last=9.0)
    live = LiveQuote(answer(10))
    live.take(streamed(11, 2.0))

    assert live.renew(timeless)
    assert (live.quote.bid, live.quote.last) == (2.0, 9.0)


def test_the_days_range_holds_every_print_since_the_answer() -> None:
    live = LiveQuote(answer(10, last=100.0, high=101.0, low=99.0))

    for at, price in enumerate((105.0, 97.0, 100.0), start=11):
        live.take(trade(at, price))

    assert (live.quote.last, live.quote.high, live.quote.low) == (100.0, 105.0, 97.0)


def test_change_and_range_follow_the_last_price() -> None:
    quote = answer(10, last=100.0, previous_close=80.0, high=101.0, low=99.0, change=20.0)
    live = LiveQuote(quote)

    live.take(trade(11, 104.0))

    assert (live.quote.change, live.quote.change_percent) == (24.0, 30.0)
    assert (live.quote.high, live.quote.low) == (104.0, 99.0)


def test_without_a_previous_close_there_is_no_change() -> None:
    """W-76: the answer's change belongs to another price."""
    live = LiveQuote(answer(10, change=5.0, change_percent=1.0))

    live.take(trade(11, 104.0))

    assert (live.quote.change, live.quote.change_percent, live.quote.high) == (None, None, None)


@pytest.mark.parametrize("code", [2, 12, 37, 53, 201, 204])
def test_an_extraordinary_print_is_no_last_price(code: int) -> None:
    """W-77."""
    live = LiveQuote(answer(10))

    assert not is_representative(trade(11, 20.0, code))
    assert not live.take(trade(11, 20.0, 14, code))
    assert live.quote.last == 10.0


moments = st.integers(0, 12)
steps = st.lists(st.tuples(st.sampled_from(["answer", "quote", "trade"]), moments), max_size=12)


@given(moments, steps)
def test_each_part_is_that_of_its_newest_exchange_time(
    first: int, history: list[tuple[str, int]]
) -> None:
    """W-66, against a list of all that ever came; of one time the last to come counts."""
    live = LiveQuote(answer(first, bid=-1.0, last=-1.0))
    sides, lasts = [(first, -1.0)], [(first, -1.0)]
    for at, (what, when) in enumerate(history):
        mark = float(at)
        if what == "answer":
            live.renew(answer(when, bid=mark, last=mark))
        else:
            live.take(streamed(when, mark) if what == "quote" else trade(when, mark))
        sides += [(when, mark)] if what != "trade" else []
        lasts += [(when, mark)] if what != "quote" else []

    newest = max(sides, key=lambda one: one[0])[0], max(lasts, key=lambda one: one[0])[0]
    assert live.quote.bid == [mark for when, mark in sides if when == newest[0]][-1]
    assert live.quote.last == [mark for when, mark in lasts if when == newest[1]][-1]
    assert (live.quote.event_ns or 0) == max(newest)


# ---- views ----


def test_a_stock_is_shown_judged() -> None:
    view = EquityView("SPY", is_open=lambda _now_ns: True)
    assert view.topics == {"Q.SPY", "T.SPY"}
    assert not view.apply([streamed(NOW_NS, 2.0)]), "nothing to merge it into yet"

    view.renew(answer(NOW_NS, bid=1.0, last=1.5))
    assert view.apply([trade(NOW_NS + 1, 1.8), streamed(NOW_NS + 1, 1.7)])

    quote = view.value(NOW_NS + 7_000_000_000)
    assert quote.quality is not None
    assert (quote.bid, quote.last, quote.quality.source) == (1.7, 1.8, Source.STREAM)
    assert quote.quality.is_stale(NOW_NS + 7_000_000_000)


def test_what_is_of_another_symbol_is_none_of_its_business() -> None:
    view = EquityView("QQQ", is_open=lambda _now_ns: True)
    view.renew(answer(NOW_NS))
    bar = Bar(
        symbol="QQQ",
        event_ns=NOW_NS,
        end_ns=NOW_NS + 1,
        received_ns=NOW_NS,
        provider="massive",
        open=1,
        high=1,
        low=1,
        close=1,
    )

    assert not view.apply([streamed(NOW_NS + 1, 2.0), bar])


def index(at: int, value: float) -> Quote:
    return Quote(symbol="I:SPX", event_ns=at, received_ns=at, provider="massive", last=value)


def test_an_index_is_shown_with_the_bars_it_was_answered_with() -> None:
    view = IndexView("I:SPX", is_open=lambda _now_ns: True)
    timeframe = Timeframe(length="1m", bars=(), provider="massive", updated_ns=NOW_NS)
    snapshot = IndexSnapshot(
        symbol="I:SPX", quote=index(NOW_NS, 6600.0), timeframes={"1m": timeframe}
    )

    assert view.topics == {"V.I:SPX"}
    assert not view.apply([index(NOW_NS, 1.0)])
    view.renew(snapshot)
    assert view.apply([index(NOW_NS + 5, 6601.0)])
    view.renew(snapshot)

    shown = view.value(NOW_NS + 5)
    assert (shown.quote.last, shown.quote.event_ns) == (6601.0, NOW_NS + 5)
    assert shown.timeframes == {"1m": timeframe}
    assert shown.quality is not None
    assert shown.quality.flags(NOW_NS + 5).warnings == ("bars_missing",)
