from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from onetape.client._notices import Kind
from onetape.client._tape import BarCursor, QuoteCursor, TradeCursor, Verdict, cursor_for
from onetape.model import Bar, Quote, Trade
from onetape.provenance import Source

MS, S = 1_000_000, 1_000_000_000
NEW, REPEAT, LATE = Verdict.NEW, Verdict.REPEAT, Verdict.LATE


def trade(at_ns: int, number: int | None = None, *, price: float = 1.0) -> Trade:
    return Trade(
        symbol="SPY",
        event_ns=at_ns,
        received_ns=at_ns,
        provider="massive",
        price=price,
        size=1.0,
        sequence=number,
    )


def bar(start_s: int) -> Bar:
    return Bar(
        symbol="SPY",
        event_ns=start_s * S,
        end_ns=(start_s + 1) * S,
        received_ns=start_s * S,
        provider="massive",
        open=1.0,
        high=1.0,
        low=1.0,
        close=1.0,
    )


def quote(
    at_ns: int | None,
    bid: float | None = 1.0,
    *,
    ask_size: float | None = None,
    last: float | None = None,
) -> Quote:
    return Quote(
        symbol="SPY",
        event_ns=at_ns,
        received_ns=0,
        provider="massive",
        bid=bid,
        ask_size=ask_size,
        last=last,
    )


def told(*trades: Trade) -> list[Trade]:
    return [replace(one, source=Source.REST) for one in trades]


def numbers(trades: Sequence[Trade]) -> list[int | None]:
    return [one.sequence for one in trades]


def test_each_kind_has_its_cursor() -> None:
    """R270, W-36: quotes are as of now, trades and bars go on from where they were."""
    kinds = {kind: type(cursor_for(kind)) for kind in Kind}

    assert kinds == {
        Kind.QUOTE: QuoteCursor,
        Kind.TRADE: TradeCursor,
        Kind.SECOND_BAR: BarCursor,
        Kind.MINUTE_BAR: BarCursor,
    }


# trades


def test_rest_is_asked_from_the_millisecond_of_the_last_trade_on() -> None:
    cursor = TradeCursor()
    assert cursor.since_ns is None
    cursor.begin(5 * MS + 7)
    cursor.begin(9 * MS)
    assert cursor.since_ns == 5 * MS

    cursor.news([trade(8 * MS + 3)])

    assert cursor.since_ns == 8 * MS


def test_trades_of_one_millisecond_are_told_apart_by_their_numbers() -> None:
    cursor = TradeCursor()

    verdicts = [cursor.take(trade(MS, n)) for n in (1, 2, 1, 2, 3)]

    assert verdicts == [NEW, NEW, REPEAT, REPEAT, NEW]


def test_two_alike_without_a_number_are_two() -> None:
    """A source does not repeat itself: leaving one out would lose a trade."""
    cursor = TradeCursor()

    assert [cursor.take(trade(MS)) for _ in range(2)] == [NEW, NEW]


def test_of_two_alike_that_rest_tells_again_each_stands_for_one() -> None:
    cursor = TradeCursor()
    cursor.take(trade(MS))

    polled = cursor.news(told(trade(MS + 5), trade(MS + 9)))

    assert [one.event_ns for one in polled.events] == [MS + 9]


def test_what_rest_leaves_out_does_not_make_another_trade_of_it() -> None:
    cursor = TradeCursor()
    cursor.take(replace(trade(MS, 7), exchange=302))

    assert not cursor.news(told(trade(MS + 400))).moved
    assert not cursor.is_ahead(trade(MS + 400))
    assert cursor.is_ahead(trade(MS + 400, 8))
    assert cursor.is_ahead(replace(trade(MS, 7), exchange=303))
    assert cursor.is_ahead(replace(trade(MS, 7), size=2.0))
    assert cursor.is_ahead(trade(MS, 7, price=2.0))


def test_a_trade_from_before_the_last_is_late() -> None:
    cursor = TradeCursor()
    cursor.take(trade(3 * MS, 3))

    assert cursor.take(trade(2 * MS, 2)) is LATE
    assert not cursor.is_ahead(trade(2 * MS, 2))


def test_a_poll_brings_what_is_new_in_order() -> None:
    cursor = TradeCursor()
    cursor.begin(2 * MS)

    polled = cursor.news(told(trade(4 * MS, 4), trade(3 * MS, 3), trade(MS, 1)))

    assert numbers(polled.events) == [3, 4]
    assert cursor.news(told(trade(3 * MS, 3), trade(4 * MS, 4))) == ([], False)


def test_a_bridge_ends_where_the_stream_begins() -> None:
    cursor = TradeCursor()
    cursor.take(trade(MS, 1))
    held = [trade(3 * MS, 4), trade(5 * MS, 6)]

    rest = told(*[trade(at, n) for at, n in ((MS + 1, 1), (2 * MS, 2), (3 * MS + 1, 3))])
    more = told(*[trade(at, n) for at, n in ((3 * MS + 2, 4), (4 * MS, 5), (5 * MS, 6))])
    bridged = cursor.bridge([*rest, *more], held)

    # 5 was offered by REST alone, after the stream was back: the stream is trusted.
    assert numbers(bridged.rest) == [2, 3]
    assert numbers(bridged.stream) == [4, 6]


def test_held_events_that_were_delivered_already_are_left_out() -> None:
    cursor = TradeCursor()
    cursor.news(told(trade(2 * MS + 1, 2), trade(3 * MS + 1, 3)))

    bridged = cursor.bridge([], [trade(2 * MS, 2), trade(3 * MS, 3), trade(3 * MS, 4)])

    assert (numbers(bridged.rest), numbers(bridged.stream)) == ([], [4])


def test_the_echo_of_rest_is_known_until_the_stream_is_past_it() -> None:
    cursor = TradeCursor()
    cursor.bridge(told(*[trade(n * MS + 1, n) for n in (1, 2, 3)]), [])

    verdicts = [cursor.take(trade(n * MS, n)) for n in (2, 3, 4, 3)]

    assert verdicts == [REPEAT, REPEAT, NEW, LATE]


def test_what_rest_did_not_tell_and_the_stream_brings_late_is_late() -> None:
    cursor = TradeCursor()
    cursor.bridge(told(trade(MS, 1), trade(3 * MS, 3)), [])

    assert cursor.take(trade(2 * MS, 2)) is LATE


@given(
    tape=st.lists(st.integers(0, 40_000), min_size=1, max_size=40).map(sorted),
    lost=st.integers(0, 40),
    back=st.integers(0, 40),
    polls=st.lists(st.integers(0, 40), max_size=4).map(sorted),
    numbered=st.booleans(),
)
@settings(max_examples=150)
def test_whatever_is_lost_and_polled_every_trade_comes_once_and_in_order(
    tape: list[int], lost: int, back: int, polls: list[int], numbered: bool
) -> None:
    """The stream has the tape up to `lost` and from `back` on; REST has all of it so far."""
    market = [trade(S + us * 1000, n, price=float(n)) for n, us in enumerate(tape)]
    rest = told(*[replace(one, sequence=one.sequence if numbered else None) for one in market])
    coarse = [replace(one, event_ns=one.event_ns - one.event_ns % MS) for one in market]
    lost, back = sorted((lost, back))
    cursor = TradeCursor()
    cursor.begin(S)
    delivered = [one for one in coarse[:lost] if cursor.take(one) is NEW]
    for reach in polls:
        since_ns = cursor.since_ns or 0
        asked = [one for one in rest[: min(reach, back)] if one.event_ns >= since_ns]
        delivered += cursor.news(asked).events
    since_ns = cursor.since_ns or 0
    until = (back + len(coarse)) // 2
    bridged = cursor.bridge(
        [one for one in rest[:until] if one.event_ns >= since_ns], coarse[back:until]
    )
    delivered += [*bridged.rest, *bridged.stream]
    delivered += [one for one in coarse[until:] if cursor.take(one) is NEW]

    assert sorted(one.price for one in delivered) == [one.price for one in market]
    milliseconds = [one.event_ns // MS for one in delivered]
    assert milliseconds == sorted(milliseconds)


# bars


def test_rest_is_asked_for_the_window_after_the_last() -> None:
    cursor = BarCursor(S)
    cursor.begin(10 * S + 5)
    assert cursor.since_ns == 10 * S

    cursor.take(bar(11))

    assert cursor.since_ns == 12 * S


def test_a_window_comes_once() -> None:
    cursor = BarCursor(S)

    verdicts = [cursor.take(bar(n)) for n in (3, 3, 2, 4)]

    assert verdicts == [NEW, REPEAT, LATE, NEW]


def test_a_bridge_of_bars_puts_rest_before_the_stream() -> None:
    cursor = BarCursor(S)
    cursor.take(bar(1))

    bridged = cursor.bridge([bar(n) for n in (1, 2, 3, 4)], [bar(4), bar(6)])

    assert [one.event_ns // S for one in bridged.rest] == [2, 3]
    assert [one.event_ns // S for one in bridged.stream] == [4, 6]


# quotes


def test_quotes_of_the_stream_come_but_for_older_ones() -> None:
    cursor = QuoteCursor()

    verdicts = [cursor.take(quote(at * MS)) for at in (2, 2, 1, 3)]

    assert verdicts == [NEW, NEW, REPEAT, NEW]


def test_a_quote_without_a_time_is_new_when_it_says_something_else() -> None:
    """Missing is None, never 0: it must not look older than all others."""
    cursor = QuoteCursor()
    cursor.take(quote(2 * MS))

    assert cursor.take(quote(None, 2.0)) is NEW
    assert not cursor.news([quote(None, 2.0)]).events
    assert cursor.news([quote(None, 3.0)]).events


@pytest.mark.parametrize(
    ("later", "ahead"),
    [
        (quote(2 * MS + 400), False),  # the same, in nanoseconds
        (quote(2 * MS + 400, 2.0), True),
        (quote(2 * MS + 400, 1.0, ask_size=3.0), True),
        (quote(2 * MS + 400, 1.0, last=3.0), False),  # the stream did not say
        (quote(2 * MS + 400, None), False),
        (quote(1 * MS, 2.0), False),
        (quote(3 * MS), True),
    ],
)
def test_a_polled_quote_is_new_when_it_is_of_another_millisecond_or_says_more(
    later: Quote, ahead: bool
) -> None:
    cursor = QuoteCursor()
    cursor.take(quote(2 * MS, 1.0, ask_size=2.0))

    assert cursor.is_ahead(later) is ahead
    assert bool(cursor.news([later]).events) is ahead


def test_what_moved_is_the_price() -> None:
    """R144: a newer time alone is no change."""
    cursor = QuoteCursor()

    moved = [cursor.news([quote(n * MS, bid)]).moved for n, bid in ((1, 1.0), (2, 1.0), (3, 2.0))]

    assert moved == [True, False, True]
    assert cursor.news([]) == ([], False)
    assert cursor.since_ns is None


def test_a_quote_that_rest_was_faster_with_is_not_repeated_by_the_stream() -> None:
    cursor = QuoteCursor()
    cursor.begin(0)
    bridged = cursor.bridge([quote(2 * MS + 400, 2.0)], [])

    assert len(bridged.rest) == 1
    assert cursor.take(quote(2 * MS, 2.0)) is REPEAT
    assert cursor.take(quote(2 * MS, 2.5)) is NEW
    assert cursor.take(quote(2 * MS, 2.5)) is NEW
