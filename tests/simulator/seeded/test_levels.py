import numpy as np
import pytest

from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.noise import Floats
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import Sessions

LISTINGS = listings()
RANGES = {
    "I:SPX": (5200, 9000),
    "I:NDX": (17_000, 35_000),
    "I:RUT": (1600, 3600),
    "I:VIX": (11.5, 34.5),
    "SPY": (520, 900),
    "NVDA": (60, 600),
}


def closes(ticker: str, seed: int = 7, hours: Hours = Hours.EXCHANGE) -> Floats:
    levels = Levels(seed=seed, sessions=Sessions(hours))
    return levels.closes(ticker, LISTINGS[ticker].behaviour)


def returns(ticker: str, seed: int = 7) -> Floats:
    return np.diff(np.log(closes(ticker, seed)))


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("ticker", list(RANGES))
def test_any_seed_gives_plausible_levels_for_2025_and_2026(ticker: str, seed: int) -> None:
    low, high = RANGES[ticker]
    found = closes(ticker, seed)[252:756]

    assert low < found.min() <= found.max() < high


@pytest.mark.parametrize(
    ("ticker", "least"), [("SPY", 0.99), ("I:NDX", 0.8), ("I:RUT", 0.6), ("NVDA", 0.4)]
)
def test_everything_moves_with_the_market(ticker: str, least: float) -> None:
    assert np.corrcoef(returns("I:SPX"), returns(ticker))[0, 1] > least


def test_vix_moves_against_it() -> None:
    assert np.corrcoef(returns("I:SPX"), returns("I:VIX"))[0, 1] < -0.6


def test_an_etf_stays_within_a_third_of_a_percent_of_its_index() -> None:
    ratio = closes("SPY") / closes("I:SPX")

    assert np.abs(ratio / ratio.mean() - 1).max() < 0.003


@pytest.mark.parametrize("hours", list(Hours))
def test_a_year_has_the_same_volatility_whatever_the_hours(hours: Hours) -> None:
    a_year = 252 if hours is Hours.EXCHANGE else 365
    moves = np.diff(np.log(closes("I:SPX", hours=hours)))

    assert moves.std() * np.sqrt(a_year) == pytest.approx(0.135, abs=0.02)


def test_seeds_differ_and_a_seed_repeats() -> None:
    assert (closes("AAPL", 1) == closes("AAPL", 1)).all()
    assert (closes("AAPL", 1) != closes("AAPL", 2)).any()
