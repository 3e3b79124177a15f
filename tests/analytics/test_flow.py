"""Golden tapes, and what holds for every tape: R244's formulas by C. Lee's and M. Ready's rule."""

import pytest
from hypothesis import given, strategies as st

from onetape.analytics.flow import CONDITIONS, FlowFigures, Side, Tape, Use, figures, sides
from onetape.model import Quote, Trade

CALL = "O:SPY251219C00650000"
BUY, SELL = Side.BUY, Side.SELL


def trade(at: int, price: float, size: float = 1, *conditions: int) -> Trade:
    return Trade(
        symbol=CALL,
        event_ns=at,
        received_ns=at,
        provider="massive",
        price=price,
        size=size,
        conditions=conditions,
    )


def quote(at: int, bid: float | None, ask: float | None) -> Quote:
    return Quote(symbol=CALL, event_ns=at, received_ns=at, provider="massive", bid=bid, ask=ask)


def test_who_pays_the_others_price_wanted_the_trade() -> None:
    quotes = [quote(1, 1.00, 1.10), quote(5, 1.20, 1.30)]
    trades = [trade(2, 1.10), trade(3, 1.00), trade(4, 1.15), trade(6, 1.20), trade(7, 1.35)]

    assert sides(trades, quotes) == (BUY, SELL, BUY, SELL, BUY)


def test_within_the_quote_the_last_other_price_decides() -> None:
    quotes = [quote(1, 1.00, 1.10)]
    prices = [1.05, 1.05, 1.06, 1.06, 1.04, 1.04]

    found = sides([trade(2 + at, price) for at, price in enumerate(prices)], quotes)

    assert found == (None, None, BUY, BUY, SELL, SELL)


def test_a_quote_counts_from_the_instant_after_it_came() -> None:
    """What comes with the print is more likely what the print left behind."""
    assert sides([trade(5, 1.10)], [quote(5, 1.00, 1.10)]) == (None,)
    assert sides([trade(6, 1.10)], [quote(5, 1.00, 1.10)]) == (BUY,)


@pytest.mark.parametrize(("bid", "ask"), [(None, None), (1.05, 1.05), (1.10, 1.00), (0.5, None)])
def test_a_market_that_does_not_tell_leaves_it_to_the_ticks(
    bid: float | None, ask: float | None
) -> None:
    quotes = [quote(1, bid, ask)]

    assert sides([trade(2, 1.04), trade(3, 1.05)], quotes)[1] is BUY


@pytest.mark.parametrize("code", [code for code, use in CONDITIONS.items() if use is not Use.SWEEP])
def test_the_price_of_a_package_or_a_late_print_tells_nothing(code: int) -> None:
    """W-77."""
    quotes = [quote(1, 1.00, 1.10)]
    trades = [trade(2, 1.10, 1, code), trade(3, 1.05), trade(4, 1.05)]

    assert sides(trades, quotes) == (None, None, None), "nor is it a tick to go by"


def test_a_tape_comes_to_its_figures() -> None:
    """R212, R244."""
    tape = Tape(
        trades=[
            trade(2, 1.10, 30, 219),  # bought, a sweep
            trade(3, 1.00, 10, 209),  # sold
            trade(4, 20.0, 120),  # bought; large, and a block
            trade(5, 1.05, 40, 232),  # a leg of a package
            trade(6, 1.10, 999, 201),  # canceled
        ],
        quotes=[quote(1, 1.00, 1.10)],
        open_interest=600,
    )

    found = figures([tape])

    assert found == FlowFigures(
        trades=4,
        volume=200,
        bought=150,
        sold=10,
        sweeps=1,
        blocks=1,
        large=1,
        is_unusual=True,
        newest_ns=5,
    )
    assert found.pressure == 93.75
    assert found.score == 15 + 10 + 3 + 10


def test_several_contracts_are_one_flow() -> None:
    tapes = [Tape([trade(2, 1.10)], [quote(1, 1.0, 1.1)]), Tape([trade(9, 1.0)], [quote(8, 1, 2)])]

    found = figures(tapes)

    assert (found.trades, found.bought, found.sold, found.newest_ns) == (2, 1, 1, 9)
    assert found.pressure == 50, "measured, and no more than that"


@pytest.mark.parametrize("tapes", [[], [Tape([])], [Tape([trade(2, 1.1, 1, 205)])]])
def test_without_prints_there_is_no_number(tapes: list[Tape]) -> None:
    """W-63."""
    found = figures(tapes)

    assert (found.trades, found.pressure, found.score, found.newest_ns) == (0, None, None, None)


def test_without_a_known_side_there_is_no_pressure() -> None:
    """W-63."""
    found = figures([Tape([trade(2, 1.10), trade(3, 1.10)])])

    assert (found.trades, found.pressure, found.score) == (2, None, 0)


prices = st.integers(1, 400).map(lambda cents: cents / 100)
codes = st.sampled_from([(), (209,), (219,), (232,), (201,), (999,)])


@given(
    st.lists(st.tuples(prices, st.integers(0, 500), codes)),
    st.lists(st.tuples(prices, prices)),
    st.none() | st.integers(0, 1000),
)
def test_figures_stay_within_their_bounds(
    prints: list[tuple[float, int, tuple[int, ...]]],
    markets: list[tuple[float, float]],
    open_interest: int | None,
) -> None:
    tape = Tape(
        [trade(2 * at, price, size, *code) for at, (price, size, code) in enumerate(prints)],
        [quote(3 * at, *market) for at, market in enumerate(markets)],
        open_interest=open_interest,
    )

    found = figures([tape])

    assert found.bought + found.sold <= found.volume
    assert found.sweeps + found.blocks + found.large <= 3 * found.trades
    assert found.pressure is None or 0 <= found.pressure <= 100
    assert found.score is None or 0 <= found.score <= 100
    assert (found.score is None) is (found.trades == 0)
