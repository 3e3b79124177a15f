from datetime import date
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from onetape.model import AssetClass
from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.seeded.conditions import MULTI_LEG, SWEEP
from onetape.simulator.seeded.records import TradeTick
from onetape.simulator.seeded.sessions import midnight_ns
from onetape.symbols import parse_option
from onetape.testing import ManualClock

DAY = date(2026, 11, 19)
START = midnight_ns(DAY)
END = midnight_ns(date(2026, 11, 20))


@cache
def market(hours: Hours = Hours.EXCHANGE, seed: int = 7) -> Market:
    clock = SimClock(clock=ManualClock(now_ns=END))
    return Market(clock=clock, hours=hours, seed=seed, rate=0.25)


@cache
def tape(hours: Hours = Hours.EXCHANGE, seed: int = 7) -> list[TradeTick]:
    return market(hours, seed).stream_trades(AssetClass.OPTIONS, None, START, END)


@pytest.mark.parametrize("hours", list(Hours))
def test_the_tape_ascends_and_each_contracts_sequence_strictly(hours: Hours) -> None:
    last: dict[str, int] = {}
    for tick in tape(hours):
        assert tick.sequence > last.get(tick.symbol, 0)
        last[tick.symbol] = tick.sequence

    assert all(a.event_ns <= b.event_ns for a, b in pairwise(tape(hours)))


@pytest.mark.parametrize("hours", list(Hours))
def test_every_print_is_at_or_inside_the_quote_that_stands(hours: Hours) -> None:
    for tick in tape(hours)[::97]:
        quote = market(hours).last_quote(tick.symbol, tick.event_ns)

        assert quote is not None
        assert quote.event_ns <= tick.event_ns
        assert quote.bid <= tick.price <= quote.ask
        assert tick.price > 0


def test_only_contracts_that_exist_trade_and_only_while_they_live() -> None:
    bounds = market().session_bounds(DAY)
    assert bounds is not None

    for tick in tape()[::29]:
        contract = market().contract(tick.symbol, as_of=DAY)
        assert contract is not None
        assert bounds[0] <= tick.event_ns < min(bounds[1], contract.expires_ns)
        assert not contract.additional_underlyings


def test_a_sweep_takes_one_contract_on_several_exchanges_within_milliseconds() -> None:
    bursts: dict[str, list[TradeTick]] = {}
    for tick in tape():
        if SWEEP in tick.conditions:
            bursts.setdefault(tick.symbol, []).append(tick)
    near = [
        (a, b)
        for ticks in bursts.values()
        for a, b in pairwise(ticks)
        if b.event_ns - a.event_ns < 2_000_000
    ]

    assert len(near) > 30
    assert sum(a.exchange != b.exchange for a, b in near) > 0.95 * len(near)


def test_a_package_prints_several_contracts_of_one_expiration_in_a_millisecond() -> None:
    legs: dict[tuple[int, str, date], set[str]] = {}
    for tick in tape():
        if tick.conditions[0] in MULTI_LEG:
            symbol = parse_option(tick.symbol)
            moment = (tick.event_ns // 1_000_000, symbol.root, symbol.expiration)
            legs.setdefault(moment, set()).add(tick.symbol)

    assert len(legs) > 300
    assert all(len(symbols) >= 2 for symbols in legs.values())


def test_products_of_one_exchange_do_not_print_elsewhere_nor_sweep() -> None:
    for tick in tape():
        if tick.symbol.startswith(("O:SPX", "O:VIX", "O:RUT")):
            assert tick.exchange == 302
            assert SWEEP not in tick.conditions


def test_there_are_blocks_but_most_trades_are_small() -> None:
    sizes = np.array([tick.size for tick in tape()])

    assert np.median(sizes) < 5
    assert 0.002 < (sizes >= 100).mean() < 0.03
    assert sizes.min() >= 1


def test_trading_gathers_near_the_money_and_near_expiration() -> None:
    spy = [tick for tick in tape() if tick.symbol.startswith("O:SPY2")]
    value = market().last_trade("SPY", END)
    assert value is not None
    near = sum(abs(parse_option(t.symbol).strike / value.price - 1) < 0.03 for t in spy)
    soon = sum((parse_option(t.symbol).expiration - DAY).days <= 7 for t in spy)

    assert near > 0.6 * len(spy)
    assert soon > 0.4 * len(spy)


def test_the_seed_names_the_tape() -> None:
    assert tape() == market().stream_trades(AssetClass.OPTIONS, None, START, END)
    assert tape() != tape(seed=8)
