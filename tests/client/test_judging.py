"""What the sockets bring, judged where it is read."""

from typing import Any

import pytest

from onetape.client._judging import Judge
from onetape.model import Bar, Trade
from onetape.testing import ManualClock

MONDAY_NS = 1_764_000_000_000_000_000  # 11:00 in New York
OPTION = "O:SPY251219C00650000"


@pytest.fixture
def judge(bench: Any) -> Judge:
    return Judge(bench.clock)


def trade(**facts: Any) -> Trade:
    known: dict[str, Any] = {"price": 1.0, "size": 1.0, "event_ns": MONDAY_NS}
    return Trade(symbol=OPTION, received_ns=MONDAY_NS, provider="massive", **known | facts)


def test_a_good_quote_scores_all_and_ages(bench: Any, judge: Judge) -> None:
    quality = judge.quote(bench.market.quote("SPY")).quality

    assert quality is not None
    assert quality.confidence(MONDAY_NS) == 100
    assert quality.is_stale(MONDAY_NS + 6_000_000_000)


@pytest.mark.parametrize(("symbol", "ages"), [("SPY", True), (OPTION, False), ("I:SPX", False)])
def test_after_the_close_only_stocks_trade_on(bench: Any, symbol: str, *, ages: bool) -> None:
    bench.clock.advance(6 * 3600)  # 17:00
    judge = Judge(bench.clock)
    found = [judge.quote(bench.market.quote(symbol)) for _ in range(2)]

    for quote in found:
        assert quote.quality is not None
        assert quote.quality.is_stale(bench.clock.now_ns() + 6_000_000_000) is ages


def test_the_hour_is_looked_at_anew_each_second(bench: Any, judge: Judge) -> None:
    def ages() -> bool:
        quality = judge.quote(bench.market.quote(OPTION)).quality
        assert quality is not None
        return quality.is_stale(bench.clock.now_ns() + 6_000_000_000)

    assert ages()
    bench.clock.advance(6 * 3600)
    assert not ages()


def test_what_was_judged_already_is_left_as_it_is(bench: Any, judge: Judge) -> None:
    """The gateway knows more of it: that another vendor answered, and why."""
    quote = bench.market.quote("SPY", bid=2.0, ask=1.0, quality=bench.market.quality("tradier"))
    judged_trade = trade(price=-1.0, quality=bench.market.quality())
    bar = bench.market.bar("SPY", MONDAY_NS, high=0.0, quality=bench.market.quality())

    assert judge.quote(quote) is quote
    assert judge.trade(judged_trade) is judged_trade
    assert judge.bar(bar) is bar


def test_what_cannot_be_true_scores_nothing(bench: Any, judge: Judge) -> None:
    crossed = judge.quote(bench.market.quote("SPY", bid=2.0, ask=1.0))
    negative = judge.trade(trade(price=-1.0))
    inverted = judge.bar(bench.market.bar("SPY", MONDAY_NS - 60_000_000_000, high=0.5))
    good: Bar = judge.bar(bench.market.bar("SPY", MONDAY_NS - 60_000_000_000))

    scores = [
        one.quality.confidence(MONDAY_NS) for one in (crossed, negative, inverted) if one.quality
    ]
    assert scores == [0, 0, 0]
    assert good.quality is not None
    assert good.quality.confidence(MONDAY_NS) == 100


def test_a_series_loses_what_cannot_be_true_and_says_so() -> None:
    clock = ManualClock()
    start_ns = MONDAY_NS - 3600 * 10**9
    bars = [
        Bar(
            symbol="SPY",
            event_ns=start_ns + n * 60 * 10**9,
            end_ns=start_ns + (n + 1) * 60 * 10**9,
            received_ns=MONDAY_NS,
            provider="massive",
            open=1.0,
            high=0.5 if n == 1 else 1.0,
            low=1.0,
            close=1.0,
        )
        for n in range(3)
    ]

    judged = Judge(clock).bars("SPY", bars, reaches_now=False)

    assert (len(judged.bars), judged.dropped) == (2, {"range_inverted": 1})
