from datetime import date
from functools import cache

import numpy as np
import pytest

from onetape.simulator.seeded.chains import Board, Chain, Lines
from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Integers
from onetape.simulator.seeded.option_book import OptionBook
from onetape.simulator.seeded.paths import Paths
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import SECOND_NS, Sessions

LISTINGS = listings()
SESSIONS = Sessions(Hours.EXCHANGE)
LEVELS = Levels(seed=7, sessions=SESSIONS)
PATHS = Paths(seed=7, sessions=SESSIONS, levels=LEVELS, memory=Memory(50_000_000))
DAY = date(2026, 11, 19)
by_underlying = pytest.mark.parametrize("ticker", ["I:SPX", "I:VIX", "AAPL", "SPY"])


@cache
def made(ticker: str, rate: float = 1.0) -> tuple[Chain, OptionBook]:
    day = SESSIONS.on(DAY)
    assert day is not None
    board = Board(LISTINGS[ticker], sessions=SESSIONS, levels=LEVELS)
    path, vix = PATHS.of(LISTINGS[ticker], day), PATHS.of(LISTINGS["I:VIX"], day)
    book = OptionBook(board, day, path, vix, seed=7, rate=rate)
    return Chain(board, board.alive(DAY), DAY), book


def at(book: OptionBook, lines: Lines, hours: float = 3.0) -> Integers:
    return np.full(len(lines.strike), book.day.open_ns + int(hours * 3600) * SECOND_NS)


@by_underlying
def test_quotes_never_cross_and_surround_the_value(ticker: str) -> None:
    chain, book = made(ticker)
    quotes, valued = book.quotes(chain.lines, book.standing(chain.lines, at(book, chain.lines)))

    assert (quotes.bid >= 0).all()
    assert (quotes.bid < quotes.ask).all()
    assert (quotes.bid <= valued.fair + 1e-9).all()
    assert (quotes.ask >= valued.fair - 1e-9).all()
    assert ((quotes.bid == 0) == (quotes.bid_size == 0)).all()
    assert (quotes.ask_size > 0).all()


@by_underlying
def test_prices_are_on_their_grid(ticker: str) -> None:
    chain, book = made(ticker)
    quotes, _ = book.quotes(chain.lines, book.standing(chain.lines, at(book, chain.lines)))
    low, high = book.ticks

    for price in (quotes.bid, quotes.ask):
        steps = price / np.where(price >= 3.0, high, low)
        assert np.abs(steps - np.rint(steps)).max() < 1e-6


def test_far_out_of_the_money_nobody_bids() -> None:
    chain, book = made("SPY")
    quotes, valued = book.quotes(chain.lines, book.standing(chain.lines, at(book, chain.lines)))

    assert (valued.fair < 0.002).any()
    assert (quotes.bid[valued.fair < 0.002] == 0).all()


@by_underlying
def test_near_the_money_quotes_come_more_often(ticker: str) -> None:
    chain, book = made(ticker)
    widths = book.widths(chain.lines)
    spot = float(book.spot(np.array([book.day.open_ns]))[0])
    away = np.abs(np.log(chain.lines.strike / spot))

    assert np.median(widths[away < 0.02]) < np.median(widths[away > np.quantile(away, 0.9)])


def test_the_rate_multiplies_quotes() -> None:
    chain, book = made("SPY")
    _, faster = made("SPY", 10.0)

    assert (book.widths(chain.lines) > 9 * faster.widths(chain.lines)).all()


def test_american_options_are_worth_at_least_exercising_them() -> None:
    chain, book = made("AAPL")
    valued = book.value(chain.lines, at(book, chain.lines))

    assert (valued.fair >= chain.lines.sign * (valued.spot - chain.lines.strike) - 1e-9).all()
    assert (valued.time_value >= -1e-9).all()


def test_european_calls_and_puts_keep_parity() -> None:
    chain, book = made("I:SPX")
    valued = book.value(chain.lines, at(book, chain.lines))

    for block in chain.blocks:
        count = len(block.strikes)
        calls = slice(block.offset, block.offset + count)
        puts = slice(block.offset + count, block.offset + 2 * count)
        gap = valued.smile.discount[calls] * (valued.smile.forward[calls] - block.strikes)
        assert np.abs(valued.fair[calls] - valued.fair[puts] - gap).max() < 1e-6


def test_greeks_have_their_signs() -> None:
    chain, book = made("I:SPX")
    found = book.sensitivities(chain.lines, book.value(chain.lines, at(book, chain.lines)))

    assert (found.delta * chain.lines.sign >= 0).all()
    assert (np.abs(found.delta) <= 1.0 + 1e-9).all()
    assert (found.gamma >= 0).all()
    assert (found.vega >= 0).all()


def test_after_the_close_a_value_only_loses_time() -> None:
    chain, book = made("SPY")
    close, late = (book.value(chain.lines, at(book, chain.lines, h)).spot for h in (6.5, 9.0))

    assert (close == late).all()


def test_open_interest_grows_with_age_and_peaks_near_the_money() -> None:
    chain, book = made("SPY")
    count = len(chain.lines.strike)
    spot = float(book.spot(np.array([book.day.open_ns]))[0])

    fresh = book.open_interest(chain.lines, np.zeros(count), spot)
    old = book.open_interest(chain.lines, np.full(count, 60.0), spot)

    away = np.abs(np.log(chain.lines.strike / spot))
    assert (fresh == 0).all()
    assert old[away < 0.03].mean() > 3 * old[away > 0.2].mean()
