from datetime import date
from typing import Any

import pytest
from hypothesis import given, strategies as st

from onetape.chain_query import ChainQuery, nearest_strike
from onetape.errors import InvalidRequest
from onetape.model import ContractType, OptionContract, OptionSnapshot, Quote

JANUARY, FEBRUARY = date(2027, 1, 15), date(2027, 2, 19)
CALL, PUT = ContractType.CALL, ContractType.PUT


def row(
    strike: float = 450,
    *,
    expiration: date = JANUARY,
    contract_type: ContractType = CALL,
    bid: float | None = 1.0,
    ask: float | None = 1.01,
    volume: float | None = 50,
    open_interest: float | None = 500,
) -> OptionSnapshot:
    symbol = f"O:SPY{expiration:%y%m%d}{contract_type.value[0].upper()}{round(strike * 1000):08}"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=expiration,
            strike=strike,
            contract_type=contract_type,
        ),
        quote=Quote(symbol=symbol, event_ns=1, received_ns=2, provider="massive", bid=bid, ask=ask),
        volume=volume,
        open_interest=open_interest,
    )


@pytest.mark.parametrize(
    ("bounds", "kept", "left_out"),
    [
        ({"min_strike": 440}, row(440), row(439.99)),
        ({"max_strike": 460}, row(460), row(460.01)),
        ({"first_expiration": FEBRUARY}, row(expiration=FEBRUARY), row()),
        ({"last_expiration": JANUARY}, row(), row(expiration=FEBRUARY)),
        ({"contract_type": PUT}, row(contract_type=PUT), row()),
        ({"min_volume": 10}, row(volume=10), row(volume=9)),
        ({"min_volume": 10}, row(), row(volume=None)),
        ({"min_open_interest": 100}, row(), row(open_interest=99)),
        ({"max_spread_percent": 2}, row(bid=0.99, ask=1.01), row(bid=0.98, ask=1.02)),
        ({"max_spread_percent": 2}, row(), row(bid=None)),
        ({"max_spread_percent": 2}, row(), row(bid=0.0, ask=0.0)),
    ],
)
def test_each_bound_keeps_what_meets_it_and_leaves_out_what_does_not(
    bounds: dict[str, Any], kept: OptionSnapshot, left_out: OptionSnapshot
) -> None:
    """R205: each filter alone."""
    query = ChainQuery(**bounds)

    assert query.select([left_out, kept], underlying_price=450) == (kept,)


def test_the_bounds_hold_together() -> None:
    """R205: strikes 440 to 460, two dates, volume 10, spread 2 %."""
    query = ChainQuery(
        min_strike=440,
        max_strike=460,
        first_expiration=JANUARY,
        last_expiration=FEBRUARY,
        min_volume=10,
        max_spread_percent=2,
    )
    good = row(), row(contract_type=PUT), row(expiration=FEBRUARY)
    bad = row(439), row(461), row(volume=1), row(ask=1.5), row(expiration=date(2027, 3, 19))

    assert query.select([*bad, *reversed(good)], underlying_price=None) == good


def test_a_chain_is_in_order_calls_before_puts() -> None:
    rows = [row(460), row(450, contract_type=PUT), row(450), row(440, expiration=FEBRUARY)]

    chosen = ChainQuery().select(rows, underlying_price=None)

    assert chosen == (rows[2], rows[1], rows[0], rows[3])


def test_around_the_money_is_judged_in_each_expiration() -> None:
    rows = [row(strike) for strike in range(400, 500, 10)]
    rows += [row(strike, expiration=FEBRUARY) for strike in (300, 500, 700)]

    chosen = ChainQuery(around=1).select(rows, underlying_price=446)

    assert [one.contract.strike for one in chosen] == [440, 450, 460, 300, 500, 700]
    assert len(ChainQuery(around=1).select(rows, underlying_price=None)) == len(rows)


def test_the_soonest_expirations_are_kept() -> None:
    rows = [row(expiration=FEBRUARY), row()]

    assert ChainQuery(max_expirations=1).select(rows, underlying_price=1) == (rows[1],)


def test_of_two_strikes_equally_near_the_lower_is_at_the_money() -> None:
    assert nearest_strike([460, 440, 450], 445) == 440
    assert nearest_strike([], 445) is None


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_strike": 2, "max_strike": 1},
        {"first_expiration": FEBRUARY, "last_expiration": JANUARY},
        {"min_volume": -1},
        {"around": -1},
        {"max_expirations": 0},
    ],
)
def test_bounds_that_nothing_could_meet_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ChainQuery(**bounds)


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(1, 300), st.integers(0, 4))
def test_around_never_keeps_more_strikes_than_asked_and_always_the_nearest(
    strikes: list[int], price: int, per_side: int
) -> None:
    rows = [row(strike) for strike in set(strikes)]

    kept = ChainQuery(around=per_side).select(rows, underlying_price=price)

    assert len(kept) <= 2 * per_side + 1
    assert nearest_strike(strikes, price) in {one.contract.strike for one in kept} | {None}


def test_what_a_vendor_may_be_asked_is_about_terms_only() -> None:
    query = ChainQuery(min_strike=1, min_volume=5, around=2)

    assert query.of_terms == ChainQuery(min_strike=1)


@pytest.mark.parametrize(
    ("query", "is_wide"),
    [
        (ChainQuery(), True),
        (ChainQuery(min_strike=1.0, min_volume=5, contract_type=ContractType.CALL), True),
        (ChainQuery(first_expiration=date(2025, 12, 19)), True),
        (ChainQuery(last_expiration=date(2025, 12, 19)), False),
        (ChainQuery(max_expirations=3), False),
        (ChainQuery(min_strike=1.0, max_strike=2.0), False),
        (ChainQuery(around=3), False),
    ],
)
def test_a_query_is_wide_that_may_want_most_of_what_is_listed(
    query: ChainQuery, *, is_wide: bool
) -> None:
    assert query.is_wide is is_wide
