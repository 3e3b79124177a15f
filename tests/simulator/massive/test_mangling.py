import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.massive.wire_stream import event, split
from onetape.model import Topic
from onetape.simulator.faults import (
    Cross,
    Distort,
    Duplicate,
    Garbage,
    GarbageKind,
    Oversize,
    Reorder,
    Skew,
    Stale,
    StreamActions,
    Truncate,
)
from onetape.simulator.massive.mangling import Event, Mangler, garbage


def trade(sequence: int, symbol: str = "SPY") -> Event:
    raw = event("T", sym=symbol, x=4, p=500.0, s=100, t=1_000 + sequence, q=sequence)
    return Event(Topic(f"T.{symbol}"), raw)


def quote(sequence: int, symbol: str = "SPY") -> Event:
    raw = event("Q", sym=symbol, bp=499.9, ap=500.1, bs=2, as_=3, t=1_000 + sequence, q=sequence)
    return Event(Topic(f"Q.{symbol}"), raw)


BAR = Event(Topic("AM.SPY"), event("AM", sym="SPY", v=5, o=1.0, c=1.0, h=1.0, l=1.0, s=0, e=60_000))


def sent(mangler: Mangler, *batch: Event, fault: StreamActions | None = None) -> list[bytes]:
    return [raw for frame in mangler.frames(batch, fault) for raw in split(frame).raws]


def test_without_a_fault_the_batch_is_one_frame_of_the_events_as_they_are() -> None:
    one, two = trade(1), quote(2)

    assert Mangler().frames([one, two], None) == [b"[{" + one.raw + b"},{" + two.raw + b"}]"]


def test_prices_in_wrong_units_are_ten_times_what_they_are() -> None:
    (told,) = sent(Mangler(), quote(1), fault=Distort())
    fields = msgspec.json.decode(b"{" + told + b"}")

    assert (fields["bp"], fields["ap"], fields["bs"], fields["t"]) == (4999.0, 5001.0, 2, 1_001)


def test_a_duplicate_batch_says_everything_twice_in_place() -> None:
    one, two = trade(1), trade(2)

    assert sent(Mangler(), one, two, fault=Duplicate()) == [one.raw, one.raw, two.raw, two.raw]


def test_a_reordered_batch_comes_turned_around_after_the_next() -> None:
    mangler, events = Mangler(), [trade(n) for n in range(3)]

    assert sent(mangler, *events[:2], fault=Reorder()) == []
    assert sent(mangler, events[2]) == [events[2].raw, events[1].raw, events[0].raw]


def test_reordering_without_end_loses_nothing() -> None:
    mangler, events = Mangler(), [trade(n) for n in range(4)]

    heard = [raw for one in events for raw in sent(mangler, one, fault=Reorder())]

    assert heard == [events[n].raw for n in (1, 0, 3, 2)]


def test_a_stale_topic_repeats_itself_until_the_fault_ends() -> None:
    mangler, spy, qqq = Mangler(), [trade(n) for n in range(3)], trade(9, "QQQ")

    assert sent(mangler, spy[0], fault=Stale()) == [spy[0].raw]
    assert sent(mangler, spy[1], qqq, fault=Stale()) == [spy[0].raw, qqq.raw]
    assert sent(mangler, spy[2]) == [spy[2].raw]
    assert sent(mangler, spy[1], fault=Stale()) == [spy[1].raw]


def test_a_skewed_clock_shifts_times_and_leaves_sizes_and_order_alone() -> None:
    shifted = sent(Mangler(), trade(1), BAR, fault=Skew(by_s=-1))

    assert shifted == [
        event("T", sym="SPY", x=4, p=500.0, s=100, t=1, q=1),
        event("AM", sym="SPY", v=5, o=1.0, c=1.0, h=1.0, l=1.0, s=-1_000, e=59_000),
    ]


def test_a_crossed_quote_bids_above_its_ask_and_only_quotes_cross() -> None:
    crossed = sent(Mangler(), quote(1), trade(2), fault=Cross(by=0.05))

    assert crossed == [
        event("Q", sym="SPY", bp=500.15, ap=500.1, bs=2, as_=3, t=1_001, q=1),
        trade(2).raw,
    ]


def test_a_quote_without_an_ask_cannot_cross() -> None:
    bare = Event(Topic("Q.SPY"), event("Q", sym="SPY", bp=1.0, t=1))

    assert sent(Mangler(), bare, fault=Cross()) == [bare.raw]


def test_a_truncated_frame_is_the_beginning_of_the_true_one() -> None:
    (whole,), (cut,) = Mangler().frames([trade(1)], None), Mangler().frames([trade(1)], Truncate())

    assert len(cut) == round(len(whole) / 2)
    assert whole.startswith(cut)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(cut)


def test_an_oversized_frame_is_too_long_and_still_says_the_same() -> None:
    (frame,) = Mangler().frames([trade(1)], Oversize(size_bytes=1_100_000))

    assert len(frame) == 1_100_000
    assert split(frame).raws == [trade(1).raw]


@pytest.mark.parametrize("kind", GarbageKind)
def test_garbage_comes_beside_the_data_and_spoils_none_of_it(kind: GarbageKind) -> None:
    frames = Mangler().frames([trade(1), trade(2)], Garbage(kind=kind))

    raws = [raw for frame in frames for raw in split(frame).raws]
    assert raws[-2:] == [trade(1).raw, trade(2).raw]
    assert frames != Mangler().frames([trade(1), trade(2)], None)


@pytest.mark.parametrize(
    "kind", [GarbageKind.NOT_JSON, GarbageKind.NOT_UTF8, GarbageKind.NO_SYMBOL]
)
def test_what_should_be_unreadable_is(kind: GarbageKind) -> None:
    assert split(garbage(kind)).topics == []
    assert split(garbage(kind)).garbage


@given(
    batches=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4), max_size=8),
    fault=st.sampled_from(
        [None, Reorder(), Garbage(kind=GarbageKind.NOT_JSON), Oversize(size_bytes=9)]
    ),
)
def test_these_faults_lose_and_invent_no_event(
    batches: list[list[int]], fault: StreamActions | None
) -> None:
    mangler, heard = Mangler(), list[bytes]()
    for batch in batches:
        heard += sent(mangler, *map(trade, batch), fault=fault)
    heard += sent(mangler, trade(1_000))

    expected = [trade(n).raw for batch in batches for n in batch] + [trade(1_000).raw]
    assert sorted(heard) == sorted(expected)
