from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.consolidation import Key, Kind
from onetape.errors import InvalidTopic
from onetape.gateway.market_wire import (
    SLICE,
    Latest,
    difference,
    parse_key,
    part_in,
    part_of,
    snapshot_events,
    topic_of,
    trouble,
)
from onetape.market_events import ChainEvent, ChainView, EquityEvent, decode, place
from onetape.massive.wire_stream import array
from onetape.model import (
    ContractType,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    MarketDataTick,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
)
from onetape.provenance import Ageing, Quality, Source

NOW = 1_773_930_600_000_000_000
SECOND = 1_000_000_000
SPY = Key(Kind.EQUITY, "SPY")
CHAIN = Key(Kind.CHAIN, "SPY")


def quote(last: float = 1.0) -> Quote:
    ageing = Ageing(stale_s=5, alert_s=10, old_s=15, unusable_s=30)
    quality = Quality(
        provider="scripted", source=Source.REST, received_ns=NOW, event_ns=NOW, ageing=ageing
    )
    return Quote(
        symbol="SPY",
        event_ns=NOW,
        received_ns=NOW,
        provider="scripted",
        last=last,
        quality=quality,
    )


def contract(strike: float, kind: ContractType = ContractType.CALL, bid: float = 1.0) -> Any:
    symbol = f"O:SPY251219{'C' if kind is ContractType.CALL else 'P'}{round(strike * 1000):08}"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=date(2025, 12, 19),
            strike=strike,
            contract_type=kind,
        ),
        quote=Quote(symbol=symbol, event_ns=1, received_ns=1, provider="scripted", bid=bid),
    )


def chain(*contracts: OptionSnapshot, price: float = 660.0) -> OptionChain:
    return OptionChain(
        underlying="SPY",
        underlying_price=price,
        contracts=contracts,
        received_ns=NOW,
        provider="scripted",
    )


def latest(key: Key, *data: Any) -> Latest:
    made = Latest(key)
    for number, datum in enumerate(data, start=1):
        assert made.update(datum, number)
    return made


def events(raws: Any) -> list[Any]:
    return [event for raw in raws for event in decode(array([raw]))]


def test_a_datum_is_encoded_once_for_all_who_come_within_a_second() -> None:
    one = latest(SPY, quote())

    first = one.events(None, NOW)

    assert one.events(None, NOW + SECOND - 1) is first
    one.trim(NOW + SECOND - 1)
    assert one.events(0, NOW + SECOND - 1) is first


def test_a_newcomer_after_that_reads_how_old_it_is_by_now() -> None:
    one = latest(SPY, quote())
    one.events(None, NOW)

    [raw] = one.events(None, NOW + 7 * SECOND)

    said = msgspec.json.decode(b"{" + raw + b"}")
    assert said["at_ns"] == NOW + 7 * SECOND
    assert said["data"]["quality"]["is_stale"] is True
    assert said["data"]["quality"]["age_s"] == 7


def test_trimmed_it_is_encoded_anew() -> None:
    one = latest(SPY, quote())
    first = one.events(None, NOW)

    one.trim(NOW + SECOND)

    assert one.events(None, NOW) is not first


def test_an_older_tick_that_was_still_on_its_way_counts_for_nothing() -> None:
    one = latest(SPY, quote(1.0), quote(2.0))

    assert not one.update(quote(9.0), 2)
    assert not one.update(quote(9.0), 1)

    [event] = events(one.events(None, NOW))
    assert isinstance(event, EquityEvent)
    assert (event.data.last, event.sequence) == (2.0, 2)


def test_nothing_known_is_no_event() -> None:
    assert list(Latest(SPY).events(None, NOW)) == []
    assert list(Latest(CHAIN).slices(NOW)) == []


def test_a_change_is_for_those_who_hold_what_it_changes_and_encoded_once() -> None:
    a, b, c = contract(1), contract(2), contract(3)
    one = latest(CHAIN, chain(a, b, c), chain(a, contract(2, bid=9.0), c))

    change = one.events(1, NOW)

    assert one.events(1, NOW + 5 * SECOND) is change
    [event] = events(change)
    assert [each.symbol for each in event.data.contracts] == [b.symbol]
    for held in (None, 0, 2):
        [event] = events(one.events(held, NOW))
        assert event.full
        assert event.since is None


def test_a_price_that_moved_alone_carries_no_contract() -> None:
    one = latest(CHAIN, chain(contract(1)), chain(contract(1), price=661.0))

    [event] = events(one.events(1, NOW))

    assert (event.full, event.data.contracts, event.removed) == (False, (), ())
    assert event.data.underlying_price == 661.0


def test_where_everything_is_new_the_whole_is_sent() -> None:
    one = latest(CHAIN, chain(contract(1)), chain(contract(2)))

    [event] = events(one.events(1, NOW))

    assert event.full


def test_an_order_that_merging_would_lose_is_sent_as_the_whole() -> None:
    a, b, c = contract(1), contract(2), contract(3)

    assert difference(chain(a, b), chain(b, a)) is None
    assert difference(chain(c, a), chain(c, a, b)) is None
    assert difference(chain(c, a), chain(c, contract(1, bid=2.0))) is not None
    assert difference(chain(a, c), chain(a, b, c)) == ((b,), ())
    assert difference(chain(a, b, c), chain(b)) == ((), (a.symbol, c.symbol))
    assert difference(chain(a), chain()) == ((), (a.symbol,))


strikes = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(list(ContractType)), st.sampled_from([1.0, 2.0])),
    max_size=8,
    unique_by=lambda one: one[:2],
)


@given(st.lists(st.tuples(strikes, st.booleans()), min_size=1, max_size=5))
def test_merging_a_difference_gives_the_chain_it_was_made_for(
    history: list[tuple[list[tuple[int, ContractType, float]], bool]],
) -> None:
    view, one = ChainView(), Latest(CHAIN)
    held = None
    for number, (rows, is_sorted) in enumerate(history, start=1):
        contracts = [contract(strike, kind, bid) for strike, kind, bid in rows]
        contracts = sorted(contracts, key=place) if is_sorted else contracts
        one.update(chain(*contracts), number)
        for event in events(one.events(held, NOW)):
            assert isinstance(event, ChainEvent)
            view.apply(event)
        assert view.chain == one.datum
        held = number


def test_an_empty_chain_is_a_chain() -> None:
    [event] = events(latest(CHAIN, chain()).events(None, NOW))

    assert event.full
    assert ChainView().apply(event) == chain()


def test_a_long_change_goes_on_with_itself() -> None:
    before = [contract(strike) for strike in range(1, 2 * SLICE + 3)]
    after = [contract(strike, bid=2.0) for strike in range(2, 2 * SLICE + 3)]
    one = latest(CHAIN, chain(*before), chain(before[0], *after))

    first, second, third = events(one.events(1, NOW))

    assert [(e.since, e.more) for e in (first, second, third)] == [(1, True), (2, True), (2, False)]


def test_every_part_is_found_in_ticks_and_in_snapshots() -> None:
    index = IndexSnapshot(symbol="I:SPX", quote=quote())
    flow = Flow(underlying="SPY", available=False, provider="scripted")
    common: dict[str, Any] = {"at_ns": NOW, "sequence": 1}
    parts: dict[Key, tuple[dict[str, Any], dict[str, Any]]] = {
        Key(Kind.CHAIN, "SPY"): ({"chain": chain()}, {"chains": {"SPY": chain()}}),
        Key(Kind.INDEX, "I:SPX"): ({"index": index}, {"indices": {"I:SPX": index}}),
        Key(Kind.EQUITY, "SPY"): ({"equity": quote()}, {"equities": {"SPY": quote()}}),
        Key(Kind.FLOW, "SPY"): ({"flow": flow}, {"flows": {"SPY": flow}}),
    }
    for key, (tick, snapshot) in parts.items():
        [datum] = tick.values()
        assert part_of(MarketDataTick(symbol=key.symbol, **common, **tick)) == (key, datum)
        assert part_in(MarketDataSnapshot(**common, **snapshot), key) == datum
        assert part_in(MarketDataSnapshot(**common), key) is None
    assert topic_of(CHAIN) == "chain:SPY"


def test_a_snapshot_that_is_too_long_for_one_event_comes_in_several() -> None:
    long = latest(CHAIN, chain(*(contract(strike) for strike in range(1, 3 * SLICE))))
    short = latest(Key(Kind.CHAIN, "QQQ"), chain())

    raws = snapshot_events(
        [long, short, latest(SPY, quote())], {"flow:SPY": "off"}, sequence=7, now_ns=NOW
    )

    told = events(raws)
    assert [(e.more, e.sequence, set(e.data.chains)) for e in told] == [
        (True, 7, {"SPY"}),
        (True, 7, {"SPY"}),
        (False, 7, {"SPY", "QQQ"}),
    ]
    assert [e.data.missing for e in told] == [{"flow:SPY": "off"}, {}, {}]


def test_keys_are_read_as_people_write_them() -> None:
    assert parse_key("index:$spx") == parse_key("index:SPXW") == Key(Kind.INDEX, "I:SPX")
    assert parse_key("chain:SPX") == Key(Kind.CHAIN, "I:SPX")
    assert parse_key("equity:brk/b") == Key(Kind.EQUITY, "BRK.B")


@pytest.mark.parametrize("name", ["SPY", "equity:", ":SPY", "quote:SPY", "EQUITY:SPY", "T.SPY", ""])
def test_what_is_no_key_is_refused_with_the_kinds_there_are(name: str) -> None:
    with pytest.raises(InvalidTopic, match="there are chain, equity, flow, index"):
        parse_key(name)


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ("upstream_down", "upstream_down"),
        ("TimeoutError", "upstream_timeout"),
        ("KeyError", "provider_failed"),
        ("not asked for yet", None),
    ],
)
def test_trouble_is_told_with_a_public_code(why: str, code: str | None) -> None:
    for status in ("no_data_yet", "data_failed"):
        [told] = events([trouble(topic_of(SPY), status, why)])
        expected = "provider_failed" if status == "data_failed" and code is None else code
        assert (told.status, told.code, told.topic) == (status, expected, "equity:SPY")
        assert why in told.message
