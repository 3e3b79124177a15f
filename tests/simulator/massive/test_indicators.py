import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from onetape.simulator.massive import indicators

prices = st.lists(st.floats(1, 1_000), min_size=0, max_size=120)


def line(values: list[float]) -> indicators.Series:
    return np.array(values, dtype=np.float64)


def naive_ema(values: list[float], window: int, alpha: float) -> list[float]:
    """The textbook: nan, then the mean of the first window, then the recursion to the end."""
    out = [math.nan] * len(values)
    if len(values) < window:
        return out
    average = sum(values[:window]) / window
    out[window - 1] = average
    for place in range(window, len(values)):
        average += alpha * (values[place] - average)
        out[place] = average
    return out


def naive_rsi(values: list[float], window: int) -> list[float]:
    moves = [after - before for before, after in pairwise(values)]
    gains = naive_ema([max(move, 0.0) for move in moves], window, 1 / window)
    losses = naive_ema([max(-move, 0.0) for move in moves], window, 1 / window)
    pairs = zip(gains, losses, strict=True)
    strengths = [50.0 if up + down == 0 else 100 * up / (up + down) for up, down in pairs]
    return ([math.nan] if values else []) + strengths


def test_a_simple_average_is_the_mean_of_its_window() -> None:
    found = indicators.sma(line([1, 2, 3, 4]), 3)

    assert found.tolist()[2:] == [2.0, 3.0]
    assert np.isnan(found[:2]).all()


def test_an_exponential_average_is_seeded_with_a_simple_one() -> None:
    assert indicators.ema(line([1, 2, 3, 10]), 3).tolist()[2:] == [2.0, 6.0]


def looking_back(
    textbook: Callable[[list[float]], list[float]], values: list[float], depth: int
) -> list[float]:
    """The textbook's last word on each lookback, as if nothing had come before it."""
    ends = range(1, len(values) + 1)
    return [textbook(values[max(0, end - depth) : end])[-1] for end in ends]


@given(prices, st.integers(1, 12))
def test_averages_agree_with_the_textbook(values: list[float], window: int) -> None:
    found = indicators.ema(line(values), window)

    expected = looking_back(
        lambda part: naive_ema(part, window, 2 / (window + 1)),
        values,
        indicators.ema_depth(window),
    )
    assert found == pytest.approx(expected, nan_ok=True)


@given(prices, st.integers(1, 6))
def test_strength_agrees_with_wilder(values: list[float], window: int) -> None:
    found = indicators.rsi(line(values), window)

    expected = looking_back(
        lambda part: naive_rsi(part, window), values, indicators.rsi_depth(window)
    )
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@settings(max_examples=25)
@given(st.lists(st.floats(-0.02, 0.02), min_size=150, max_size=300), st.integers(2, 20))
def test_what_came_before_the_lookback_hardly_matters(moves: list[float], window: int) -> None:
    values = [100 * math.exp(sum(moves[:count])) for count in range(len(moves))]

    found = indicators.ema(line(values), window)

    assert found[-1] == pytest.approx(naive_ema(values, window, 2 / (window + 1))[-1], rel=2e-3)


@given(prices.filter(lambda values: len(values) > 20))
def test_macd_is_the_difference_of_two_averages_and_its_own_average(values: list[float]) -> None:
    found = indicators.macd(line(values), 3, 6, 4)

    value = indicators.ema(line(values), 3) - indicators.ema(line(values), 6)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.signal[5:] == pytest.approx(indicators.ema(value[5:], 4), nan_ok=True)
    assert found.histogram[8:] == pytest.approx(found.value[8:] - found.signal[8:])


@settings(max_examples=25)
@given(st.lists(st.floats(1, 1_000), min_size=90, max_size=160), st.integers(1, 60))
def test_a_value_does_not_depend_on_what_came_before_its_lookback(
    values: list[float], cut: int
) -> None:
    """Pages fetch different amounts of history; what they say of a bar is the same."""
    whole, part = line(values), line(values[cut:])
    studies = [
        (indicators.sma, 5, indicators.sma_depth(5)),
        (indicators.ema, 2, indicators.ema_depth(2)),
        (indicators.rsi, 2, indicators.rsi_depth(2)),
    ]
    for study, window, depth in studies:
        assert (study(whole, window)[cut:][depth - 1 :] == study(part, window)[depth - 1 :]).all()


@settings(max_examples=25)
@given(st.lists(st.floats(1, 1_000), min_size=90, max_size=160), st.integers(1, 20))
def test_a_point_of_macd_does_not_either(values: list[float], cut: int) -> None:
    depth = indicators.macd_depth(1, 2, 2)
    whole = indicators.macd(line(values), 1, 2, 2)
    part = indicators.macd(line(values[cut:]), 1, 2, 2)

    for all_of, some_of in zip(whole, part, strict=True):
        assert (all_of[cut:][depth - 1 :] == some_of[depth - 1 :]).all()


@pytest.mark.parametrize("study", [indicators.sma, indicators.ema, indicators.rsi])
def test_a_series_shorter_than_its_window_has_no_values(
    study: Callable[[indicators.Series, int], indicators.Series],
) -> None:
    found = study(line([1, 2]), 5)

    assert len(found) == 2
    assert np.isnan(found).all()


def test_macd_of_a_short_series_has_no_values() -> None:
    assert np.isnan(indicators.macd(line([1, 2]), 2, 5, 2).signal).all()
    assert len(indicators.macd(line([]), 2, 5, 2).value) == 0


def test_a_price_that_never_moves_has_the_strength_of_neither_side() -> None:
    assert indicators.rsi(line([5] * 9), 3).tolist()[3:] == [50.0] * 6


def test_a_price_that_only_rises_has_full_strength() -> None:
    assert indicators.rsi(line([1, 2, 3, 4, 5]), 3).tolist()[3:] == [100.0, 100.0]
