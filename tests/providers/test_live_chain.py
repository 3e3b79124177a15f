from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from onetape.chain_query import ChainQuery
from onetape.model import (
    Bar,
    ContractType,
    Greeks,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
    Trade,
)
from onetape.provenance import Source
from onetape.providers.live_chain import LiveChain
from onetape.quality.chains import judge_chain

NOW_NS = 1_764_000_000_000_000_000  # 2025-11-24
DAY = date(2025, 12, 19)
STRIKES = (640.0, 650.0, 660.0)


def symbol(strike: float) -> str:
    return f"O:SPY251219C{round(strike * 1000):08}"


def row(strike: float, *, at: int = 0, bid: float = 1.0, **more: Any) -> OptionSnapshot:
    name = symbol(strike)
    terms = OptionContract(
        symbol=name,
        root="SPY",
        underlying="SPY",
        expiration=DAY,
        strike=strike,
        contract_type=ContractType.CALL,
    )
    quote = Quote(
        symbol=name,
        event_ns=NOW_NS + at,
        received_ns=NOW_NS + at,
        provider="massive",
        source=Source.REST,
        bid=bid,
        ask=bid + 0.1,
        last=bid,
    )
    known: dict[str, Any] = {
        "greeks": Greeks(delta=0.5, provider="massive"),
        "open_interest": 10.0,
        "volume": 5.0,
    }
    return OptionSnapshot(contract=terms, quote=quote, **{**known, **more})


def chain(
    rows: Sequence[OptionSnapshot], *, price: float | None = 651.0, at: int = 0
) -> OptionChain:
    made = OptionChain(
        underlying="SPY",
        underlying_price=price,
        underlying_event_ns=NOW_NS + at,
        contracts=tuple(rows),
        received_ns=NOW_NS + at,
        provider="massive",
    )
    return judge_chain(made, now_ns=NOW_NS, market_open=True)


def quoted(strike: float, bid: float, *, at: int, ask: float | None = None) -> Quote:
    return Quote(
        symbol=symbol(strike),
        event_ns=NOW_NS + at,
        received_ns=NOW_NS + at + 1,
        provider="massive",
        bid=bid,
        ask=bid + 0.1 if ask is None else ask,
    )


def traded(name: str, price: float, *, at: int, conditions: tuple[int, ...] = ()) -> Trade:
    return Trade(
        symbol=name,
        event_ns=NOW_NS + at,
        received_ns=NOW_NS + at + 1,
        provider="massive",
        price=price,
        size=2,
        conditions=conditions,
    )


def live_chain(query: ChainQuery | None = None, *, most: int = 100) -> LiveChain:
    return LiveChain(
        "SPY", query or ChainQuery(), is_open=lambda _now_ns: True, streamed_contracts=most
    )


def filled(query: ChainQuery | None = None, *, most: int = 100) -> LiveChain:
    view = live_chain(query, most=most)
    view.renew(chain([row(strike) for strike in STRIKES]))
    return view


def shown(view: LiveChain, strike: float = 650.0) -> OptionSnapshot:
    return next(one for one in view.value(NOW_NS).contracts if one.symbol == symbol(strike))


def test_an_answer_alone_is_shown_as_it_is() -> None:
    answer = chain([row(strike) for strike in STRIKES])
    view = live_chain()

    view.renew(answer)

    assert view.value(NOW_NS) == answer


def test_a_quote_changes_its_contract_and_no_other() -> None:
    """R208: a Q event updates one contract."""
    view = filled()
    before = {one.symbol: one for one in view.value(NOW_NS).contracts}

    assert view.apply([quoted(650, 2.0, at=1)])

    after = {one.symbol: one for one in view.value(NOW_NS).contracts}
    assert after[symbol(640)] is before[symbol(640)]
    one = after[symbol(650)]
    assert (one.quote.bid, one.quote.source) == (2.0, Source.STREAM)
    assert one.quality is not None
    assert (one.quality.event_ns, one.quality.source) == (NOW_NS + 1, Source.STREAM)
    assert one.greeks is before[symbol(650)].greeks, "the answer's, and they say so (W-61)"


def test_a_print_is_the_last_trade() -> None:
    view = filled()
    print_ = traded(symbol(650), 1.05, at=1)

    assert view.apply([print_])

    one = shown(view)
    assert one.last_trade == print_
    assert (one.quote.last, one.quote.bid) == (1.05, 1.0)
    assert one.volume == 5, "only an answer knows what it counts"


def test_the_chain_says_that_it_is_streamed_and_since_when() -> None:
    view = filled()
    view.apply([quoted(640, 2.0, at=3), quoted(650, 2.0, at=2)])

    live = view.value(NOW_NS + 9)

    assert (live.source, live.received_ns) == (Source.STREAM, NOW_NS + 4)
    assert live.quality is not None
    assert (live.quality.source, live.quality.event_ns) == (Source.STREAM, NOW_NS + 3)
    assert live.quality.received_ns == NOW_NS + 4


def test_an_older_answer_does_not_undo_what_was_streamed() -> None:
    """W-66, R238."""
    view = filled()
    view.apply([quoted(650, 2.0, at=5), traded(symbol(650), 2.05, at=6)])

    view.renew(chain([row(strike, at=4, bid=1.5, volume=9.0) for strike in STRIKES]))

    one = shown(view)
    assert (one.quote.bid, one.quote.last, one.volume) == (2.0, 2.05, 9.0)
    assert one.last_trade is not None
    assert one.last_trade.event_ns == NOW_NS + 6
    assert shown(view, 640).quote.bid == 1.5
    assert view.value(NOW_NS).source is Source.STREAM


def test_a_newer_answer_is_the_whole_truth() -> None:
    view = filled()
    view.apply([quoted(650, 2.0, at=5), traded(symbol(650), 2.05, at=5)])
    newer = chain([row(strike, at=8, bid=1.5) for strike in STRIKES])

    view.renew(newer)

    assert view.value(NOW_NS) == newer


def test_an_event_that_is_wrong_is_not_shown() -> None:
    """W-54: a crossed quote is an error; the contract stays as it was, and ages."""
    view = filled()
    before = shown(view)

    view.apply([quoted(650, 2.0, at=1, ask=1.0)])

    assert shown(view) is before
    assert view.statistics().rejected == 1
    view.apply([quoted(650, 2.0, at=2)])
    assert shown(view).quote.bid == 2.0


def test_what_it_does_not_show_it_ignores() -> None:
    view = filled()
    bar = Bar(
        symbol=symbol(650),
        event_ns=NOW_NS,
        end_ns=NOW_NS + 1,
        received_ns=NOW_NS,
        provider="massive",
        open=1,
        high=1,
        low=1,
        close=1,
    )

    assert not view.apply([quoted(999, 2.0, at=1), bar, quoted(650, 2.0, at=-1)])
    assert view.statistics()._asdict() == {
        "contracts": 3,
        "streamed": 3,
        "merged": 0,
        "ignored": 3,
        "rejected": 0,
    }


def test_nothing_counts_before_the_first_answer() -> None:
    view = live_chain()

    assert not view.apply([traded("SPY", 652.0, at=1), quoted(650, 2.0, at=1)])
    assert view.topics == frozenset()


# ---- the underlying ----


def test_the_underlyings_price_is_that_of_its_newest_print() -> None:
    view = filled()

    assert view.apply([traded("SPY", 652.0, at=2)])
    assert not view.apply([traded("SPY", 600.0, at=1)])
    assert not view.apply([traded("SPY", 600.0, at=3, conditions=(37,))]), "an odd lot"
    view.renew(chain([row(strike) for strike in STRIKES], price=640.0, at=1))

    live = view.value(NOW_NS)
    assert (live.underlying_price, live.underlying_event_ns) == (652.0, NOW_NS + 2)
    view.renew(chain([row(strike) for strike in STRIKES], price=640.0, at=3))
    assert view.value(NOW_NS).underlying_price == 640.0


def test_an_index_is_worth_its_newest_value() -> None:
    view = LiveChain("I:SPX", ChainQuery(), is_open=lambda _now_ns: True, streamed_contracts=1)
    answer = msgspec.structs.replace(chain([row(650)]), underlying="I:SPX", underlying_price=None)
    view.renew(answer)
    value = Quote(
        symbol="I:SPX", event_ns=NOW_NS + 1, received_ns=NOW_NS, provider="massive", last=6600.0
    )

    assert "V.I:SPX" in view.topics
    assert view.apply([value])
    assert view.value(NOW_NS).underlying_price == 6600.0


# ---- which contracts ----


def test_the_query_chooses_the_contracts_and_their_topics() -> None:
    """R205."""
    view = filled(ChainQuery(around=0))

    assert [one.contract.strike for one in view.value(NOW_NS).contracts] == [650]
    assert view.topics == {"T.SPY", f"Q.{symbol(650)}", f"T.{symbol(650)}"}


def test_a_contract_drops_out_when_its_market_does_not_meet_the_query_any_more() -> None:
    view = filled(ChainQuery(max_spread_percent=15.0))
    assert len(view.value(NOW_NS).contracts) == 3

    view.apply([quoted(650, 1.0, at=1, ask=1.3)])
    assert [one.contract.strike for one in view.value(NOW_NS).contracts] == [640, 660]
    view.apply([quoted(650, 1.0, at=2, ask=1.1)])
    assert len(view.value(NOW_NS).contracts) == 3


@pytest.mark.parametrize(
    ("price", "most", "strikes"),
    [(651.0, 2, {650, 660}), (651.0, 0, set[int]()), (None, 1, {640}), (651.0, 3, {640, 650, 660})],
)
def test_those_near_the_money_are_streamed(
    price: float | None, most: int, strikes: set[int]
) -> None:
    view = live_chain(most=most)

    view.renew(chain([row(strike) for strike in STRIKES], price=price))

    wanted = {f"{channel}.{symbol(strike)}" for strike in strikes for channel in "QT"}
    assert view.topics == (wanted | {"T.SPY"} if wanted else frozenset())
    assert view.statistics().streamed == len(strikes)


def test_a_contract_that_is_gone_is_gone() -> None:
    view = filled()
    view.apply([quoted(650, 2.0, at=1)])

    view.renew(chain([row(640)]))

    assert [one.contract.strike for one in view.value(NOW_NS).contracts] == [640]
    view.renew(chain([]))
    assert view.value(NOW_NS).contracts == ()
    assert view.topics == frozenset()


# ---- any history ----


class AnyHistory(RuleBasedStateMachine):
    """After any history each contract shows what came with its newest exchange time.

    The model is a list of everything that ever came; of one instant the last counts.
    """

    strikes = st.sampled_from(STRIKES)
    moments = st.integers(0, 9)

    def __init__(self) -> None:
        super().__init__()
        self.view = live_chain()
        self.mark = 1.0
        self.bids: dict[float, list[tuple[int, float]]] = {strike: [] for strike in STRIKES}
        self.lasts: dict[float, list[tuple[int, float]]] = {strike: [] for strike in STRIKES}

    @initialize(at=moments)
    def first(self, at: int) -> None:
        self.answer(at)

    @rule(at=moments)
    def answer(self, at: int) -> None:
        self.mark += 1
        self.view.renew(chain([row(strike, at=at, bid=self.mark) for strike in STRIKES], at=at))
        for strike in STRIKES:
            self.bids[strike].append((at, self.mark))
            self.lasts[strike].append((at, self.mark))

    @rule(strike=strikes, at=moments)
    def quote(self, strike: float, at: int) -> None:
        self.mark += 1
        self.view.apply([quoted(strike, self.mark, at=at)])
        self.bids[strike].append((at, self.mark))

    @rule(strike=strikes, at=moments)
    def trade(self, strike: float, at: int) -> None:
        self.mark += 1
        self.view.apply([traded(symbol(strike), self.mark, at=at)])
        self.lasts[strike].append((at, self.mark))

    @rule()
    def look(self) -> None:
        self.view.value(NOW_NS + 20)

    @invariant()
    def each_part_is_the_newest(self) -> None:
        if not self.bids[650.0]:
            return
        contracts = self.view.value(NOW_NS + 20).contracts
        assert [one.contract.strike for one in contracts] == list(STRIKES)
        for one in contracts:
            strike = one.contract.strike
            assert one.quote.bid == newest(self.bids[strike])
            assert one.quote.last == newest(self.lasts[strike])
            assert one.quality is not None
            assert one.quality.event_ns == one.quote.event_ns


def newest(history: list[tuple[int, float]]) -> float:
    latest = max(at for at, _ in history)
    return [mark for at, mark in history if at == latest][-1]


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=40, stateful_step_count=30)
