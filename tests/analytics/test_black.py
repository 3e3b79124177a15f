"""Against the same functions in a hundred decimal digits."""

from decimal import Decimal, localcontext
from math import erf, exp, isnan, nan, sqrt

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from onetape.analytics.black import deviation_of, normal_cdf, rest_of, share_of

_PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534"
)
_DIGITS = 90

distances = st.one_of(st.just(0.0), st.floats(-9, 1.3).map(lambda power: 10.0**power))
deviations = st.floats(-5, 1).map(lambda power: 10.0**power)


def exact_cdf(x: Decimal) -> Decimal:
    """The series of the error function: all its digits, if enough are carried."""
    term = x
    total = term
    n = 0
    while abs(term) > Decimal(10) ** -_DIGITS:
        n += 1
        term = -term * x * x / (2 * n)
        total += term / (2 * n + 1)
    return Decimal("0.5") + total / (2 * _PI).sqrt()


def exact_share(distance: float, deviation: float) -> Decimal:
    far, wide = Decimal(distance), Decimal(deviation)
    d1 = -far / wide + wide / 2
    return exact_cdf(d1) - far.exp() * exact_cdf(d1 - wide)


@settings(max_examples=60)
@given(distance=distances, deviation=deviations)
@example(distance=0.04, deviation=0.02)
@example(distance=0.0400001, deviation=0.01)
@example(distance=1e-9, deviation=1e-5)
@example(distance=0.0, deviation=1.0)
def test_share_and_rest_are_right_to_a_part_in_ten_to_the_tenth(
    distance: float, deviation: float
) -> None:
    assume(distance / deviation < 11 and deviation - distance / deviation < 9)
    with localcontext() as context:
        context.prec = 140
        share = exact_share(distance, deviation)
        rest = float(1 - share)
    growth = exp(distance)

    assert share_of(distance, growth, deviation) == pytest.approx(float(share), rel=1e-10)
    assert rest_of(distance, growth, deviation) == pytest.approx(rest, rel=1e-10)


@given(distance=distances, deviation=deviations)
def test_the_deviation_found_makes_the_share(distance: float, deviation: float) -> None:
    growth = exp(distance)
    share, rest = share_of(distance, growth, deviation), rest_of(distance, growth, deviation)
    assume(share > 1e-30 and rest > 1e-15)

    found = deviation_of(distance, share, rest)

    assert share_of(distance, growth, found) == pytest.approx(share, rel=1e-10)
    assert rest_of(distance, growth, found) == pytest.approx(rest, rel=1e-10)


@pytest.mark.parametrize("deviation", [0.1525, 1.0, 5.0, 7.5, 10.0, 11.55, 13.34, 30.0])
@pytest.mark.parametrize("distance", [20.0, 60.0, 100.0])
def test_a_guess_that_is_far_off_still_leads_there(distance: float, deviation: float) -> None:
    growth = exp(distance)
    share, rest = share_of(distance, growth, deviation), rest_of(distance, growth, deviation)
    if not (share > 1e-30 and rest > 1e-15):
        return

    found = deviation_of(distance, share, rest)

    assert found == pytest.approx(deviation, rel=1e-9)


def test_at_the_money_the_deviation_is_known_in_closed_form() -> None:
    for deviation in (1e-6, 0.01, 0.2, 1.0, 4.0):
        share = erf(deviation / sqrt(8))

        assert deviation_of(0.0, share, 1 - share) == pytest.approx(deviation, rel=1e-12)


def test_nothing_is_left_so_far_away_that_no_float_can_tell() -> None:
    assert share_of(0.01, exp(0.01), 1e-300) == 0
    assert share_of(50.0, exp(50.0), 1e-3) == 0


@given(st.floats(-8, 8))
def test_the_normal_distribution_is_symmetric(x: float) -> None:
    assert normal_cdf(x) + normal_cdf(-x) == pytest.approx(1, abs=1e-15)


def test_what_is_no_number_stays_none() -> None:
    assert isnan(deviation_of(0.1, nan, nan))
