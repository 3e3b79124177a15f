"""The value of an option as a function of two numbers, and that function's inverse.

By put-call parity every European option is one out of the money, plus what is sure. One
out of the money depends on

    distance    |log(forward / strike)|
    deviation   volatility times the root of the years

alone. Its `share` is its undiscounted value per unit of the smaller of forward and strike;
it rises with the deviation from 0 towards 1. Its `rest` is what it lacks of 1.

`deviation_of` inverts this. Householder steps of third order, on 1/sqrt(-log share) where
the share is the smaller and on log rest where the rest is: both are almost straight lines in
the deviation. The idea to choose what is iterated by region is Jaeckel's; the guess comes
from the model in which prices and not their logarithms are normal.
"""

from math import erfc, exp, expm1, inf, log, log1p, nan, pi, sinh, sqrt
from typing import Final

_ROOT_2: Final = sqrt(2)
_ROOT_2PI: Final = sqrt(2 * pi)
_ROOT_HALF_PI: Final = sqrt(pi / 2)

_CLOSE: Final = 5e-4
"""A step this small, relatively, is the last: what is left is of the order of its 4th power."""

_SMALL: Final = 0.02
_NEAR: Final = 0.04
_FAR: Final = 40.0
_FLAT: Final = 1e-9
_HIGH: Final = 0.2


def normal_cdf(x: float) -> float:
    """Return the probability that a standard normal falls below x."""
    return 0.5 * erfc(-x / _ROOT_2)


def share_of(distance: float, growth: float, deviation: float) -> float:
    """Return the share to 1 part in 10^10 if it is above 10^-30; `growth` is exp(distance)."""
    h = distance / deviation
    d2 = -h - 0.5 * deviation
    if deviation > _SMALL or distance > _NEAR:
        return 0.5 * (erfc((h - 0.5 * deviation) / _ROOT_2) - growth * erfc(-d2 / _ROOT_2))
    if h > _FAR:
        return 0.0
    # The difference of two nearly equal areas, as a series about their middle.
    square, half = h * h, 0.25 * deviation * deviation
    series = 1 + half * ((square - 1) / 6 + half * ((square - 6) * square + 3) / 120)
    density = exp(-0.5 * square) / _ROOT_2PI
    return deviation * density * series - expm1(distance) * normal_cdf(d2)


def rest_of(distance: float, growth: float, deviation: float) -> float:
    """Return the rest, also where 1 less the share would be 0."""
    h = distance / deviation
    return 0.5 * (
        erfc((0.5 * deviation - h) / _ROOT_2) + growth * erfc((0.5 * deviation + h) / _ROOT_2)
    )


def deviation_of(distance: float, share: float, rest: float) -> float:
    """Return the deviation that makes a share; it is told by the smaller of share and rest.

    One or two steps, as the guess is within a percent nearly everywhere. A step that leaves
    the interval known to hold the answer is replaced by halving it, so this always ends.

    Args:
        distance: not negative.
        share: above 10^-30, below 1.
        rest: 1 less the share, or better known.
    """
    growth = exp(distance)
    is_rest = rest < share
    wanted, reach = (rest, rest_of) if is_rest else (share, share_of)
    deviation = _guess(distance, growth, share, rest)
    low, high = 0.0, inf
    while low < deviation < high:
        reached = reach(distance, growth, deviation)
        if (reached < wanted) is is_rest:
            high = deviation
        else:
            low = deviation
        step = _step(distance, deviation, reached, wanted, is_rest=is_rest)
        if abs(step) <= _CLOSE * deviation:
            return deviation + step
        deviation += step
        if not low < deviation < high:
            deviation = (low + high) / 2 if high < inf else 2 * low
    return deviation


def _step(
    distance: float, deviation: float, reached: float, wanted: float, *, is_rest: bool
) -> float:
    h = distance / deviation
    d1 = 0.5 * deviation - h
    slope = exp(-0.5 * d1 * d1) / _ROOT_2PI
    if not (0 < reached < 1 and slope > 0):
        return nan
    # Second and third derivative over the first: of the share, then of its logarithm.
    second = h * h / deviation - 0.25 * deviation
    third = second * second - 3 * h * h / (deviation * deviation) - 0.25
    ratio = (-slope if is_rest else slope) / reached
    third += ratio * (2 * ratio - 3 * second)
    second -= ratio
    if is_rest:
        newton = -log(reached / wanted) / ratio
    else:
        # The share falls like exp(-1 / deviation^2): 1 / sqrt(-log) is nearly a straight line.
        depth = -log(reached)
        bent = 1.5 * ratio / depth
        third += bent * (3 * second + bent * 5 / 3)
        second += bent
        newton = 2 * depth * (sqrt(depth / -log(wanted)) - 1) / ratio
    curved = 1 + newton * (second + newton * third / 6)
    return newton * (1 + 0.5 * newton * second) / curved if curved > 0 else newton


def _guess(distance: float, growth: float, share: float, rest: float) -> float:
    if share > _HIGH:
        # Above the deviation where the share is steepest it resembles a normal distribution.
        steepest = 0.5 - 0.5 * growth * erfc(sqrt(distance))
        if share >= steepest:
            room = 1 - steepest
            stretch = 1 - steepest * rest / room
            return sqrt(2 * distance) + 2 * stretch * _quantile(0.5 * rest / room)
    # Elsewhere as if prices and not their logarithms were normal, which has a closed form
    # to half a percent; then corrected for that.
    root = sqrt(growth)
    share, gap = share / root, 2 * sinh(0.5 * distance)
    straddle = 2 * share + gap
    eta = gap / straddle / (0.5 * log1p(gap / share)) if gap > _FLAT * share else 1.0
    normal = _ROOT_HALF_PI * straddle * sqrt(eta) * (0.4022 + eta * (0.7575 - eta * 0.1597))
    if gap > _FLAT:
        normal *= distance / gap
    return normal * (1 + normal * normal / 24)


def _quantile(tail: float) -> float:
    """Return what a standard normal exceeds with this probability, to 0.003."""
    t = sqrt(-2 * log(tail))
    return max(t - (2.30753 + 0.27061 * t) / (1 + t * (0.99229 + 0.04481 * t)), 0.0)
