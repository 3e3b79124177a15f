from onetape.client._line import Line, Polls
from onetape.client._notices import Key, Kind, Poll, TransportPolicy
from onetape.model import AssetClass, Bar

CALL = "O:SPY251219C00650000"
NOW_NS = 1_764_000_000_000_000_000


def line(kind: Kind = Kind.QUOTE, symbol: str = CALL) -> Line:
    key = Key(kind, symbol)
    return Line(key, key.topic, 2.0)


def test_a_batch_holds_the_lines_of_one_asset_class_and_kind() -> None:
    """R150, W-37: one request for many quotes; each line knows the batch it waits for."""
    polls = Polls(TransportPolicy())
    lines = [line(), line(symbol="O:SPY251219P00650000"), line(Kind.TRADE)]
    for one in lines:
        polls.urge(one, 1.0)

    assert polls.take(0.9) == []
    quotes, trades = polls.take(1.0)

    assert (quotes.asset, quotes.kind) == (AssetClass.OPTIONS, Kind.QUOTE)
    assert [key for key, _ in quotes.requests] == [lines[0].key, lines[1].key]
    assert [key for key, _ in trades.requests] == [lines[2].key]
    assert [one.batch for one in lines] == [quotes.batch, quotes.batch, trades.batch]
    assert (polls.batches, polls.requests) == (2, 2)


def taken(polls: Polls, one: Line, now: float) -> Poll:
    polls.urge(one, now)
    (poll,) = polls.take(now)
    return poll


def test_an_answer_is_heard_once_and_only_while_it_is_waited_for() -> None:
    polls, one = Polls(TransportPolicy()), line()
    first = taken(polls, one, 0.0)
    assert polls.is_asked(one)
    second = taken(polls, one, 1.0)

    assert polls.heard(one, first.batch) is None
    assert polls.heard(one, second.batch) is one
    assert polls.heard(one, second.batch) is None
    assert polls.heard(None, second.batch) is None
    assert not polls.is_asked(one)


def test_a_cancelled_line_is_not_asked_and_hears_no_answer() -> None:
    """R148."""
    polls, one = Polls(TransportPolicy()), line()
    poll = taken(polls, one, 0.0)
    polls.urge(one, 1.0)

    polls.cancel(one)

    assert polls.wake_at() is None
    assert polls.heard(one, poll.batch) is None


def test_the_next_poll_is_counted_from_when_the_last_was_asked() -> None:
    polls, one = Polls(TransportPolicy()), line()
    taken(polls, one, 0.0)

    polls.plan(one, 0.5, NOW_NS)
    assert polls.wake_at() == 2.0

    polls.plan(one, 7.0, NOW_NS)
    assert polls.wake_at() == 7.0


def test_a_bar_is_asked_for_when_its_window_is_over_and_settled() -> None:
    polls, one = Polls(TransportPolicy()), line(Kind.MINUTE_BAR)
    one.cursor.take(
        Bar(
            symbol=CALL,
            event_ns=NOW_NS - 60_000_000_000,
            end_ns=NOW_NS,
            received_ns=NOW_NS,
            provider="massive",
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
        )
    )

    polls.plan(one, 100.0, NOW_NS + 2_000_000_000)

    assert polls.wake_at() == 100.0 + 58.0 + 1.0


def test_a_line_shows_what_it_is() -> None:
    assert repr(line()) == f"<Line quote {CALL} waiting>"
