from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.simulator.actions import (
    Cross,
    Distort,
    Drop,
    Duplicate,
    Garbage,
    GarbageKind,
    Oversize,
    Reorder,
    Skew,
    Stale,
    Truncate,
)
from onetape.simulator.tradier.actions import TradierStreamActions, ZeroSize
from onetape.simulator.tradier.events import Event, event
from onetape.simulator.tradier.mangling import Mangler, garbage


def trade(number: int, kind: str = "trade") -> Event:
    fields = {"exch": "Q", "price": "10.0", "size": str(number), "date": str(1_000 + number)}
    return event("SPY", kind, fields, {"seq": number} if kind == "timesale" else {})


QUOTE = event("SPY", "quote", {"bid": 1.0, "ask": 1.1, "biddate": "5000", "askdate": "5000"}, {})


def sent(mangler: Mangler, *batch: Event, fault: TradierStreamActions | None = None) -> list[bytes]:
    return mangler.frames(batch, fault, detailed=False)


def read(frame: bytes) -> dict[str, Any]:
    return msgspec.json.decode(frame)


def test_without_a_fault_each_event_is_a_frame_as_it_is() -> None:
    assert sent(Mangler(), trade(1), QUOTE) == [trade(1).raw, QUOTE.raw]
    assert sent(Mangler(), trade(1), fault=Drop()) == [trade(1).raw]


def test_details_are_for_those_who_asked() -> None:
    sale = trade(7, "timesale")

    assert "seq" not in read(sent(Mangler(), sale)[0])
    assert read(Mangler().frames([sale], None, detailed=True)[0])["seq"] == 7


def test_a_duplicate_comes_in_place() -> None:
    one, two = trade(1), trade(2)

    assert sent(Mangler(), one, two, fault=Duplicate()) == [one.raw, one.raw, two.raw, two.raw]


def test_a_reordered_batch_comes_turned_around_after_the_next() -> None:
    mangler = Mangler()

    assert sent(mangler, trade(1), trade(2), fault=Reorder()) == []
    assert sent(mangler, trade(3)) == [trade(n).raw for n in (3, 2, 1)]


def test_a_stale_symbol_repeats_its_first_event_of_the_fault() -> None:
    mangler = Mangler()

    assert sent(mangler, trade(1), QUOTE, fault=Stale()) == [trade(1).raw, QUOTE.raw]
    assert sent(mangler, trade(2), fault=Stale()) == [trade(1).raw]
    assert sent(mangler, trade(3)) == [trade(3).raw]
    assert sent(mangler, trade(4), fault=Stale()) == [trade(4).raw]


def test_times_prices_and_bids_are_spoilt_in_their_own_types() -> None:
    skewed = [read(raw) for raw in sent(Mangler(), trade(1), QUOTE, fault=Skew(by_s=-1))]
    crossed = [read(raw) for raw in sent(Mangler(), trade(1), QUOTE, fault=Cross())]
    wrong = [read(raw) for raw in sent(Mangler(), trade(1), QUOTE, fault=Distort())]

    assert (skewed[0]["date"], skewed[1]["biddate"], skewed[1]["askdate"]) == ("1", "4000", "4000")
    assert (crossed[0], crossed[1]["bid"]) == (read(trade(1).raw), 1.15)
    assert (wrong[0]["price"], wrong[1]["bid"], wrong[1]["biddate"]) == ("100.0", 10.0, "5000")


def test_a_trade_comes_again_without_a_size() -> None:
    frames = sent(Mangler(), trade(3), QUOTE, trade(4, "timesale"), fault=ZeroSize())

    assert [read(raw).get("size") for raw in frames] == ["3", "0", None, "4"]


def test_a_truncated_or_a_huge_frame() -> None:
    (cut,) = sent(Mangler(), trade(1), fault=Truncate())
    (huge,) = sent(Mangler(), trade(1), fault=Oversize(size_bytes=2_000))

    assert trade(1).raw.startswith(cut)
    assert len(huge) == 2_000
    assert read(huge) == read(trade(1).raw)


@pytest.mark.parametrize("kind", GarbageKind)
def test_garbage_stands_before_the_data(kind: GarbageKind) -> None:
    assert sent(Mangler(), trade(1), fault=Garbage(kind=kind)) == [garbage(kind), trade(1).raw]


faults = st.sampled_from([None, Duplicate(), Reorder(), Skew(), Cross(), Distort(), ZeroSize()])


@given(st.lists(st.tuples(st.integers(0, 3), faults), max_size=12))
def test_these_faults_lose_no_event(steps: list[tuple[int, TradierStreamActions | None]]) -> None:
    mangler, number, frames = Mangler(), 0, list[bytes]()
    for size, fault in [*steps, (0, None)]:
        batch = [trade(number + n) for n in range(size)]
        number += size
        frames += sent(mangler, *batch, fault=fault)
    said = {int(read(raw)["size"]) for raw in frames}

    assert said | {0} == set(range(number)) | {0}
