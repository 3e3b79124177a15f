import numpy as np
import pytest
from hypothesis import given, strategies as st

from onetape.simulator.seeded.aggregates import Prints
from onetape.simulator.seeded.cash_desk import Run, collect, stats_of, total_of, window_ends
from onetape.simulator.seeded.noise import Integers
from onetape.simulator.seeded.records import Hours, ValueTick
from onetape.simulator.seeded.sessions import SECOND_NS, Sessions

DAY = Sessions(Hours.ALWAYS).days[100]


def run(*times: int) -> Run[ValueTick]:
    def make(at: Integers) -> list[ValueTick]:
        return [ValueTick("X", int(t), 1.0) for t in at]

    return Run(np.array(times, dtype=np.int64), make)


@given(
    st.lists(st.integers(0, 1_000), unique=True, max_size=40).map(sorted),
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(0, 45)),
    st.booleans(),
)
def test_a_limit_counts_from_the_end_asked_for(
    times: list[int], split: int, limit: int | None, newest_first: bool
) -> None:
    runs = [run(*times[:split]), run(*times[split:])]
    expected = times[::-1] if newest_first else times

    found = collect(iter(runs[::-1] if newest_first else runs), limit, newest_first=newest_first)

    assert [tick.event_ns for tick in found] == expected[:limit]


def test_no_run_is_made_after_the_limit() -> None:
    def runs():
        yield run(1, 2, 3)
        raise AssertionError("one run was enough")

    assert len(collect(runs(), 3, newest_first=False)) == 3


@pytest.mark.parametrize(
    ("start", "end", "ends"),
    [(0, 60, [0]), (1, 60, []), (1, 61, [60]), (59, 181, [60, 120, 180]), (60, 60, [])],
)
def test_a_window_that_ends_on_the_edge_belongs_to_what_follows(
    start: int, end: int, ends: list[int]
) -> None:
    found = window_ends(60, start * SECOND_NS, end * SECOND_NS)

    assert [at // SECOND_NS for at in found] == ends


def test_a_day_of_odd_lots_has_volume_but_no_price() -> None:
    prints = Prints(np.array([DAY.open_ns]), np.array([5.0]), np.array([7]), np.array([False]))

    stats, total = stats_of(DAY, prints, 4.0), total_of(prints)

    assert (stats.close, stats.volume, stats.previous_close) == (None, 7, 4.0)
    assert stats.updated_ns == DAY.open_ns
    assert (total.figures, total.volume, total.transactions) == (None, 7, 1)


def test_a_day_without_prints_is_all_missing_but_its_volume() -> None:
    nothing = Prints(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

    stats = stats_of(DAY, nothing, None)

    assert stats == (DAY.date, *[None] * 4, 0, *[None] * 7)
