import contextlib
import re
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.market_events import (
    ChainEvent,
    ChainView,
    EquityEvent,
    FlowEvent,
    IndexEvent,
    SnapshotEvent,
    SnapshotView,
    StatusEvent,
    decode,
)
from onetape.model import (
    ContractType,
    MarketDataSnapshot,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
)

STATUS = b'{"ev":"status","status":"success","message":"yes","topic":"equity:SPY"}'
QUOTE = Quote(symbol="SPY", event_ns=1, received_ns=2, provider="massive", last=660.5)
EQUITY = EquityEvent(at_ns=3, sequence=4, symbol="SPY", data=QUOTE)


def contract(strike: int, bid: float = 1.0) -> OptionSnapshot:
    symbol = f"O:SPY251219C{strike:05}000"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=date(2025, 12, 19),
            strike=float(strike),
            contract_type=ContractType.CALL,
        ),
        quote=Quote(symbol=symbol, event_ns=1, received_ns=1, provider="scripted", bid=bid),
    )


def chain(*contracts: OptionSnapshot) -> OptionChain:
    return OptionChain(
        underlying="SPY",
        underlying_price=660.0,
        contracts=contracts,
        received_ns=1,
        provider="scripted",
    )


def told(sequence: int, *strikes: int, since: int | None = None, **more: Any) -> ChainEvent:
    return ChainEvent(
        at_ns=1,
        sequence=sequence,
        symbol="SPY",
        full=since is None,
        since=since,
        data=chain(*map(contract, strikes)),
        **more,
    )


def strikes(made: OptionChain | None) -> list[float]:
    assert made is not None
    return [one.contract.strike for one in made.contracts]


# frames


def test_a_frame_is_read_into_the_models_own_types() -> None:
    status, equity = decode(b"[" + STATUS + b"," + msgspec.json.encode(EQUITY) + b"]")

    assert isinstance(status, StatusEvent)
    assert (status.status, status.topic) == ("success", "equity:SPY")
    assert equity == EQUITY


def test_text_is_read_as_well_as_bytes() -> None:
    assert len(decode(f"[{STATUS.decode()}]")) == 1


def test_events_of_kinds_that_are_new_are_passed_over() -> None:
    assert len(decode(b'[{"ev":"weather"},' + STATUS + b"]")) == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"[1]",
        b"[{}]",
        b"\xff",
        b'[{"ev":"equity"}]',
        b"[" + STATUS,
        "[\udce4]",
        b"[" * 99_999,
    ],
    ids=range(9),
)
def test_what_cannot_be_read_is_one_error(frame: bytes | str) -> None:
    with pytest.raises(UpstreamGarbled):
        decode(frame)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_whatever_comes_there_is_no_other_error(noise: bytes, at: int) -> None:
    whole = b"[" + msgspec.json.encode(EQUITY) + b"]"
    for frame in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        with contextlib.suppress(UpstreamGarbled):
            decode(frame)


def test_every_event_and_its_fields_are_documented() -> None:
    wire = (Path(__file__).parents[1] / "docs/wire.md").read_text("utf-8")
    table = wire.partition("### Events\n")[2].partition("\n\n`data` is")[0]
    documented = {
        name: set(re.findall(r"`(\w+)`", row.split("|")[2]))
        for row in table.splitlines()[3:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }

    kinds = (EquityEvent, IndexEvent, FlowEvent, ChainEvent, SnapshotEvent)
    assert documented == {
        str(kind.__struct_config__.tag): {field.name for field in msgspec.structs.fields(kind)}
        - {"at_ns", "sequence"}
        for kind in kinds
    }


# chains


def test_a_full_chain_comes_in_its_order_and_forgets_the_one_before() -> None:
    view = ChainView()
    assert view.chain is None

    view.apply(told(1, 5))
    made = view.apply(told(9, 3, 1, 2))

    assert strikes(made) == [3, 1, 2]
    assert (view.chain, view.sequence) == (made, 9)


def test_a_change_replaces_in_place_removes_and_finds_the_place_of_what_is_new() -> None:
    view = ChainView()
    view.apply(told(1, 1, 2, 4))

    made = view.apply(told(3, 3, 2, since=1, removed=("O:SPY251219C00001000",)))

    assert strikes(made) == [2, 3, 4]


def test_a_chain_is_whole_when_there_is_no_more_to_come() -> None:
    view = ChainView()
    view.apply(told(1, 1))

    assert view.apply(told(5, 2, since=1, more=True)) is None
    assert (strikes(view.chain), view.sequence) == ([1], 1)
    assert strikes(view.apply(told(5, 3, since=5))) == [1, 2, 3]
    assert view.sequence == 5


def test_a_full_chain_in_parts_keeps_the_order_it_comes_in() -> None:
    view = ChainView()

    view.apply(told(1, 9, 8, more=True))

    assert strikes(view.apply(told(1, 7, 1, since=1))) == [9, 8, 7, 1]


def test_a_change_of_another_chain_is_refused_until_a_full_one() -> None:
    view = ChainView()
    with pytest.raises(UpstreamGarbled, match="does not fit"):
        view.apply(told(2, 1, since=1))
    view.apply(told(3, 1))
    with pytest.raises(UpstreamGarbled):
        view.apply(told(5, 2, since=4))
    with pytest.raises(UpstreamGarbled):
        view.apply(told(6, 2, since=3))

    assert strikes(view.apply(told(7, 4))) == [4]


# snapshots


def test_a_snapshot_in_parts_is_one() -> None:
    def part(*, more: bool, **data: Any) -> SnapshotEvent:
        whole = MarketDataSnapshot(at_ns=1, sequence=2, **data)
        return SnapshotEvent(at_ns=1, sequence=2, more=more, data=whole)

    view = SnapshotView()
    long = chain(contract(1), contract(2))

    assert (
        view.apply(part(more=True, chains={"SPY": chain(contract(1))}, missing={"x": "y"})) is None
    )
    made = view.apply(part(more=False, chains={"SPY": chain(contract(2))}, equities={"SPY": QUOTE}))
    again = view.apply(part(more=False))

    assert made == MarketDataSnapshot(
        at_ns=1, sequence=2, chains={"SPY": long}, equities={"SPY": QUOTE}, missing={"x": "y"}
    )
    assert again == MarketDataSnapshot(at_ns=1, sequence=2)
