import numpy as np
from hypothesis import given, strategies as st

from onetape.simulator.seeded import slots
from onetape.simulator.seeded.noise import Integers

START = 1_795_200_000_000_000_000
KEYS = np.array([123456789], dtype=np.uint64)


def times(width: int, count: int = 300) -> Integers:
    numbers = np.arange(count)
    return slots.times(START, np.array([width]), numbers, slots.scramble(KEYS, numbers))


@given(st.integers(1_000, 60_000_000_000))
def test_events_ascend_from_the_very_start(width: int) -> None:
    found = times(width)

    assert found[0] == START
    assert (np.diff(found) > 0).all()


@given(st.integers(1_000, 60_000_000_000), st.floats(0, 0.99))
def test_what_stands_is_the_last_event_so_far(width: int, share: float) -> None:
    at = START + int(share * 290 * width)
    every = times(width)

    found = slots.standing(START, KEYS, np.array([width]), np.array([at]))

    assert found[0] == np.searchsorted(every, at, "right") - 1


@given(st.integers(1_000, 10_000_000_000), st.floats(0, 0.9), st.floats(0, 0.1))
def test_a_span_misses_no_event(width: int, begin: float, length: float) -> None:
    low = START + int(begin * 250 * width)
    high = low + 1 + int(length * 250 * width)
    every = times(width)

    first, stop = slots.spanned(START, np.array([width]), low, high)

    inside = np.flatnonzero((every >= low) & (every < high))
    assert set(inside) <= set(range(int(first[0]), int(stop[0])))
    assert int(stop[0]) - int(first[0]) <= len(inside) + 2
