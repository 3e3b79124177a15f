from datetime import date
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.paths import Paths
from onetape.simulator.seeded.records import Hours, TradeTick
from onetape.simulator.seeded.sessions import MarketDay, Sessions
from onetape.simulator.seeded.tape import Book, Tapes

LISTINGS = listings()
by_hours = pytest.mark.parametrize("hours", list(Hours))


@cache
def tapes(hours: Hours = Hours.EXCHANGE, seed: int = 7, rate: float = 1.0) -> Tapes:
    sessions, memory = Sessions(hours), Memory(50_000_000)
    levels = Levels(seed=seed, sessions=sessions)
    paths = Paths(seed=seed, sessions=sessions, levels=levels, memory=memory)
    return Tapes(seed=seed, rate=rate, paths=paths, memory=memory)


def day(hours: Hours = Hours.EXCHANGE) -> MarketDay:
    found = Sessions(hours).on(date(2026, 11, 20))
    assert found is not None
    return found


@cache
def trades(
    ticker: str, hours: Hours = Hours.EXCHANGE, seed: int = 7, rate: float = 1.0
) -> list[TradeTick]:
    tape = tapes(hours, seed, rate).trades(LISTINGS[ticker], day(hours))
    return tape.ticks(tape.span(day(hours).start_ns, day(hours).end_ns))


def book(ticker: str, hours: Hours = Hours.EXCHANGE) -> Book:
    return tapes(hours).book(LISTINGS[ticker], day(hours))


@by_hours
def test_a_tape_ascends_and_its_sequence_strictly(hours: Hours) -> None:
    ticks = trades("AAPL", hours)
    times = [tick.event_ns for tick in ticks]
    sequences = [tick.sequence for tick in ticks]

    assert times == sorted(times)
    assert all(a < b for a, b in pairwise(sequences))
    assert all(tick.participant_ns < tick.event_ns for tick in ticks)
    assert len({tick.id for tick in ticks}) == len(ticks)


@by_hours
@pytest.mark.parametrize("ticker", ["SPY", "TSLA"])
def test_trades_print_within_the_quote_that_stands(ticker: str, hours: Hours) -> None:
    quoted = book(ticker, hours)
    ticks = trades(ticker, hours)[::29]
    slots = [quoted.standing_slot(tick.event_ns) for tick in ticks]

    for tick, quote in zip(ticks, quoted.quote_ticks(np.array(slots)), strict=True):
        assert quote.event_ns <= tick.event_ns
        assert quote.bid <= tick.price <= quote.ask
        assert round(tick.price * 100, 6) % 1 == 0


def test_conditions_say_odd_lots_extended_hours_and_auctions() -> None:
    ticks, opened, closed = trades("AAPL"), day().open_ns, day().close_ns
    regular = [tick for tick in ticks if opened <= tick.event_ns < closed]
    extended = [tick for tick in ticks if not opened <= tick.event_ns < closed]

    assert all((37 in tick.conditions) == (tick.size < 100) for tick in regular)
    assert regular[0].conditions == (25,)
    assert regular[-1].conditions == (8,)
    assert min(regular[0].size, regular[-1].size) >= 20_000
    assert extended
    assert all(12 in tick.conditions for tick in extended)


def test_only_off_exchange_trades_name_a_reporting_facility() -> None:
    for tick in trades("AAPL"):
        assert (tick.exchange == 4) == (tick.trf_id is not None) == (tick.trf_ns is not None)


def test_there_are_odd_lots_round_lots_and_blocks() -> None:
    sizes = [tick.size for tick in trades("SPY")]

    assert min(sizes) < 100
    assert max(sizes) >= 10_000
    assert 0.3 < sum(size < 100 for size in sizes) / len(sizes) < 0.6


def test_the_seed_names_the_tape_and_the_rate_thickens_it() -> None:
    assert trades("AAPL") != trades("AAPL", seed=8)
    assert len(trades("AAPL", rate=3.0)) > 2.8 * len(trades("AAPL"))


@by_hours
def test_quotes_have_a_spread_and_ascend(hours: Hours) -> None:
    quoted = book("MSFT", hours)
    numbers, _, _ = quoted.slots_between(day(hours).open_ns, day(hours).open_ns + 60 * 10**9)
    ticks = quoted.quote_ticks(numbers)

    assert len(ticks) > 60
    assert all(tick.ask >= tick.bid + 0.0099 for tick in ticks)
    assert all(tick.bid_size > 0 and tick.bid_size % 100 == 0 for tick in ticks)
    assert all(a.event_ns < b.event_ns for a, b in pairwise(ticks))
    assert all(a.sequence < b.sequence for a, b in pairwise(ticks))


def test_spreads_are_wider_before_the_open() -> None:
    quoted = book("MSFT")
    early = quoted.quotes(np.arange(500))
    opened = quoted.standing_slot(day().open_ns + 10**9)
    regular = quoted.quotes(np.arange(opened, opened + 500))

    assert (early.ask - early.bid).mean() > 2 * (regular.ask - regular.bid).mean()


def test_an_index_publishes_only_in_the_regular_session() -> None:
    values = tapes().values(LISTINGS["I:SPX"], day())

    assert values.t_ns[0] == day().open_ns
    assert values.t_ns[-1] < day().close_ns
    assert book("I:SPX").standing_slot(day().open_ns - 1) == -1
    tick = book("I:SPX").value_ticks(np.array([0]))[0]
    assert (tick.event_ns, tick.value) == (day().open_ns, values.price[0])
