from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.consolidation import Changed, Consolidation, HubPolicy, Key, Kind, time_of
from onetape.model import (
    ContractType,
    Flow,
    IndexSnapshot,
    MarketDataTick,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
)
from onetape.provenance import Quality, Source

SPY = Key(Kind.EQUITY, "SPY")
CHAIN = Key(Kind.CHAIN, "SPY")
SPX = Key(Kind.INDEX, "I:SPX")


def quote(symbol: str = "SPY", *, at_ns: int | None = 10, last: float = 1.0) -> Quote:
    return Quote(
        symbol=symbol,
        event_ns=at_ns,
        received_ns=99,
        provider="massive",
        last=last,
        quality=Quality(provider="massive", source=Source.REST, received_ns=99, event_ns=at_ns),
    )


def index(*, at_ns: int = 10, last: float = 1.0) -> IndexSnapshot:
    one = quote("I:SPX", at_ns=at_ns, last=last)
    return IndexSnapshot(symbol="I:SPX", quote=one, quality=one.quality)


def chain(*quotes_ns: int, **fields: Any) -> OptionChain:
    rows = tuple(
        OptionSnapshot(
            contract=OptionContract(
                symbol=f"O:{n}",
                root="SPY",
                underlying="SPY",
                expiration=date(2027, 1, 15),
                strike=1.0,
                contract_type=ContractType.CALL,
            ),
            quote=quote(f"O:{n}", at_ns=at_ns),
        )
        for n, at_ns in enumerate(quotes_ns)
    )
    return OptionChain(
        underlying="SPY",
        underlying_price=1.0,
        contracts=rows,
        received_ns=99,
        provider="massive",
        **fields,
    )


def view(*symbols: str, **policy: Any) -> Consolidation:
    made = Consolidation(msgspec.convert({"indices": (), **policy}, HubPolicy))
    made.watch(made.keys_of(symbols))
    return made


def test_a_stock_is_a_quote_and_a_chain_and_an_index_is_an_index_and_a_chain() -> None:
    made = view("SPY", "I:SPX", indices=("I:SPX", "I:VIX"))

    assert set(made.keys) == {
        SPY,
        CHAIN,
        SPX,
        Key(Kind.CHAIN, "I:SPX"),
        Key(Kind.INDEX, "I:VIX"),
    }


def test_a_change_of_the_watchlist_is_a_difference_and_what_is_removed_is_gone() -> None:
    """R236, W-67."""
    made = view("SPY")
    made.offer(SPY, quote(), 1.0)

    changed = made.watch(made.keys_of(["AAPL"]))

    assert changed == Changed(
        added=(Key(Kind.EQUITY, "AAPL"), Key(Kind.CHAIN, "AAPL")), removed=(SPY, CHAIN)
    )
    assert made.get(SPY) is None
    assert made.why(SPY) == "not watched"
    assert made.flush(1) == []
    assert not made.offer(SPY, quote(), 2.0)
    assert made.statistics().unwanted == 1


def test_an_older_answer_never_replaces_a_newer_event() -> None:
    """R238, W-66: newest by the exchange's time wins, whichever way it came."""
    made = view("SPY")
    assert made.offer(SPY, quote(at_ns=20, last=2.0), 1.0)

    assert not made.offer(SPY, quote(at_ns=19, last=1.0), 2.0)
    assert made.offer(SPY, quote(at_ns=20, last=3.0), 3.0)

    kept = made.get(SPY)
    assert isinstance(kept, Quote)
    assert kept.last == 3.0
    assert made.statistics().outdated == 1


def test_many_updates_of_one_key_are_one_tick_with_the_latest() -> None:
    """R232: fifty updates, one tick."""
    made = view("SPY")
    for n in range(50):
        made.offer(SPY, quote(at_ns=n, last=float(n)), 1.0)

    (tick,) = made.flush(7)

    assert (tick.kind, tick.symbol, tick.at_ns, tick.sequence) == ("equity", "SPY", 7, 1)
    assert tick.equity is not None
    assert tick.equity.last == 49.0
    assert not made.has_changes


def test_what_is_heard_from_is_not_asked_and_what_fell_silent_is() -> None:
    """W-69: poll only what is not streamed or is stale."""
    made = view("SPY")
    assert set(made.due(0.0, market_open=True)) == {SPY, CHAIN}
    assert made.due(4.0, market_open=True) == ()
    made.offer(SPY, quote(), 4.0)

    assert made.due(8.0, market_open=True) == ()
    assert made.due(9.0, market_open=True) == (SPY,)
    assert made.due(20.0, market_open=True) == (SPY, CHAIN)


def test_while_the_market_is_closed_it_is_looked_at_rarely() -> None:
    made = view("SPY")
    made.due(0.0, market_open=False)

    assert made.due(59.0, market_open=False) == ()
    assert set(made.due(60.0, market_open=False)) == {SPY, CHAIN}


def test_the_last_good_value_stays_and_is_marked() -> None:
    """R266: kept, flagged, told once, and the mark goes with the next good value."""
    made = view("SPY")
    made.offer(SPY, quote(), 1.0)
    made.flush(1)

    made.fail(SPY, "upstream_down")
    made.fail(SPY, "upstream_down")

    (tick,) = made.flush(2)
    assert tick.equity is not None
    assert tick.equity.quality is not None
    assert [one.code for one in tick.equity.quality.reasons] == ["last_good"]
    assert made.why(SPY) == "upstream_down"
    made.offer(SPY, quote(at_ns=11), 2.0)
    assert made.get(SPY) == quote(at_ns=11)
    assert made.why(SPY) is None


def test_the_mark_goes_and_that_is_told_though_the_value_is_the_same() -> None:
    made = view("SPY")
    made.offer(SPY, quote(), 1.0)
    made.fail(SPY, "upstream_down")
    made.flush(1)

    assert made.offer(SPY, quote(), 2.0)
    (tick,) = made.flush(2)

    assert tick.equity == quote()
    assert not made.offer(SPY, quote(), 3.0)
    assert made.flush(3) == []


def test_another_reason_for_the_mark_is_told() -> None:
    made = view("SPY")
    made.offer(SPY, quote(), 1.0)
    made.fail(SPY, "upstream_down")
    made.flush(1)

    made.fail(SPY, "upstream_timeout")
    (tick,) = made.flush(2)

    assert tick.equity is not None
    assert tick.equity.quality is not None
    assert [one.detail for one in tick.equity.quality.reasons] == ["upstream_timeout"]


def test_a_value_that_never_came_is_none_with_a_reason() -> None:
    """R235: before data and after a failure."""
    made = view("SPY")

    assert (made.get(SPY), made.why(SPY)) == (None, "not asked for yet")
    made.fail(SPY, "upstream_timeout")
    assert (made.get(SPY), made.why(SPY)) == (None, "upstream_timeout")
    made.fail(SPX, "x")
    assert made.flush(1) == []


def test_a_snapshot_is_the_whole_view_and_nobody_can_change_it() -> None:
    """R234, W-68."""
    made = view("SPY", indices=("I:SPX",), flow=True)
    made.offer(SPY, quote(), 1.0)
    made.offer(SPX, index(), 1.0)
    flow = Flow(underlying="SPY", available=False, reason="no tape", provider="tradier")
    made.offer(Key(Kind.FLOW, "SPY"), flow, 1.0)

    snapshot = made.snapshot(5)

    assert (snapshot.equities, snapshot.indices) == ({"SPY": quote()}, {"I:SPX": index()})
    assert snapshot.flows == {"SPY": flow}
    assert snapshot.missing == {"chain:SPY": "not asked for yet"}
    with pytest.raises(TypeError):
        snapshot.equities["SPY"] = quote()  # type: ignore[index]  # the point
    made.watch([])
    assert snapshot.equities == {"SPY": quote()}
    assert snapshot.confidence(10) == 100
    assert not snapshot.is_stale(10)
    assert not snapshot.simulated
    assert view().snapshot(6).confidence(10) is None


def test_a_chain_is_as_new_as_its_newest_quote() -> None:
    assert time_of(chain(5, 9, 7)) == 9
    assert time_of(chain(5, underlying_event_ns=11)) == 11
    assert time_of(chain()) == 99
    assert time_of(quote(at_ns=None)) == 99
    assert time_of(Flow(underlying="SPY", available=False, provider="x")) == 0


def test_a_tick_has_exactly_one_part() -> None:
    """R189."""
    with pytest.raises(ValueError, match="exactly one"):
        MarketDataTick(symbol="SPY", at_ns=1, sequence=1)
    with pytest.raises(ValueError, match="exactly one"):
        MarketDataTick(symbol="SPY", at_ns=1, sequence=1, equity=quote(), index=index())
    assert MarketDataTick(symbol="SPY", at_ns=1, sequence=1, chain=chain()).kind == "option"
    flow = Flow(underlying="SPY", available=False, provider="x")
    assert MarketDataTick(symbol="SPY", at_ns=1, sequence=1, flow=flow).kind == "flow"


def test_the_presets_look_every_ten_five_and_one_seconds() -> None:
    """R240."""
    assert HubPolicy.development().refresh_s == 10.0
    assert HubPolicy.production(watchlist=("SPY",)).refresh_s == 5.0
    assert HubPolicy.low_latency().refresh_s == 1.0
    assert HubPolicy.production(watchlist=("SPY",)).watchlist == ("SPY",)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 9)), min_size=1))
def test_the_order_of_arrival_does_not_decide_what_is_newest(
    updates: list[tuple[int, float]],
) -> None:
    made = view("SPY")
    for at_ns, last in updates:
        made.offer(SPY, quote(at_ns=at_ns, last=last), 0.0)

    kept = made.get(SPY)
    assert kept is not None
    assert time_of(kept) == max(at_ns for at_ns, _ in updates)


class AnyHistory(RuleBasedStateMachine):
    """After any history the view holds what a plain dictionary of the newest would."""

    symbols = st.sampled_from(["A", "B", "C"])

    def __init__(self) -> None:
        super().__init__()
        self.view = view()
        self.newest: dict[str, Quote] = {}
        self.watched: set[str] = set()
        self.told: dict[str, float | None] = {}

    @rule(symbols=st.sets(symbols))
    def watch(self, symbols: set[str]) -> None:
        self.view.watch(self.view.keys_of(sorted(symbols)))
        self.watched = symbols
        for gone in ({*self.newest} | {*self.told}) - symbols:
            self.newest.pop(gone, None)
            self.told.pop(gone, None)

    @rule(symbol=symbols, at_ns=st.integers(0, 5), last=st.floats(1, 5))
    def offer(self, symbol: str, at_ns: int, last: float) -> None:
        one = quote(symbol, at_ns=at_ns, last=last)
        self.view.offer(Key(Kind.EQUITY, symbol), one, 0.0)
        before = self.newest.get(symbol)
        if symbol in self.watched and (before is None or at_ns >= (before.event_ns or 0)):
            self.newest[symbol] = one

    @rule()
    def flush(self) -> None:
        ticks = self.view.flush(0)
        assert len({tick.symbol for tick in ticks}) == len(ticks)
        for tick in ticks:
            assert tick.equity is not None
            self.told[tick.symbol] = tick.equity.last
        # Whoever reads the ticks knows what the view knows.
        assert self.told == {symbol: one.last for symbol, one in self.newest.items()}

    @invariant()
    def the_view_is_the_newest_of_what_is_watched(self) -> None:
        assert self.view.snapshot(0).equities == self.newest


TestAnyHistory = AnyHistory.TestCase
