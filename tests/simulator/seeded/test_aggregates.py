import numpy as np
import pytest
from hypothesis import given, strategies as st

from onetape.simulator.seeded.aggregates import Prints, average, totals, whole, windows

prints = st.lists(
    st.tuples(st.integers(0, 400), st.integers(1, 500), st.integers(1, 5_000), st.booleans()),
    max_size=60,
).map(sorted)
Rows = list[tuple[int, int, int, bool]]


def columns(rows: Rows) -> Prints:
    return Prints(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] / 100 for row in rows]),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[3] for row in rows], dtype=np.bool_),
    )


def naive(rows: Rows, origin: int, width: int) -> list[tuple[float | int, ...]]:
    found: list[tuple[float | int, ...]] = []
    for start in sorted({origin + (row[0] - origin) // width * width for row in rows}):
        mine = [row for row in rows if start <= row[0] < start + width]
        priced = [row[1] / 100 for row in mine if row[3]]
        if priced:
            volume = sum(row[2] for row in mine)
            vwap = sum(row[1] * row[2] for row in mine) / 100 / volume
            found.append(
                (start, priced[0], max(priced), min(priced), priced[-1], volume, vwap, len(mine))
            )
    return found


@given(prints, st.integers(-20, 0), st.integers(1, 90))
def test_windows_are_what_a_loop_over_the_prints_gives(rows: Rows, origin: int, width: int) -> None:
    found = windows(columns(rows), origin, width)

    assert [row[:6] for row in found] == [row[:6] for row in naive(rows, origin, width)]
    for ours, theirs in zip(found, naive(rows, origin, width), strict=True):
        assert ours.vwap == pytest.approx(theirs[6], abs=5.1e-5)
        assert ours.transactions == theirs[7]


@given(prints)
def test_the_whole_is_one_wide_window(rows: Rows) -> None:
    every = columns(rows)
    wide = windows(every, 0, 1_000)

    found = whole(every)

    assert (found is None) == (not wide)
    if found is not None:
        assert found[1:] == wide[0][1:]
    assert totals(every)[0] == sum(row[2] for row in rows)


def test_an_index_has_no_volume() -> None:
    values = Prints(np.array([1, 2, 3]), np.array([5.0, 7.0, 6.0]))

    assert whole(values) == (1, 5.0, 7.0, 5.0, 6.0, None, None, None)
    assert windows(values, 0, 10) == [(0, 5.0, 7.0, 5.0, 6.0, None, None, None)]
    assert totals(values) == (None, 0)


def test_a_cut_takes_what_lies_between() -> None:
    every = columns([(1, 100, 1, True), (5, 200, 2, True), (9, 300, 3, False)])

    assert every.between(1, 9).t_ns.tolist() == [1, 5]
    assert every.between(2, 2).t_ns.tolist() == []
    assert every.size_bytes > 0
    assert average(3_000_000, 100) == 3.0
