from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from onetape.simulator.elastic_clock import ElasticClock
from onetape.testing import ManualClock


def test_untouched_it_is_the_clock_beneath() -> None:
    beneath = ManualClock(monotonic=5.0, now_ns=9)
    clock = ElasticClock(beneath)
    beneath.advance(2)

    assert (clock.monotonic(), clock.now_ns(), clock.factor) == (7.0, 2_000_000_009, 1.0)


def test_stretched_it_hurries_from_now_on_only() -> None:
    beneath = ManualClock(monotonic=0.0)
    clock = ElasticClock(beneath)
    beneath.advance(10)
    clock.stretch(60)
    beneath.advance(1)

    assert clock.monotonic() == 70.0


def test_a_jump_goes_ahead_at_once() -> None:
    beneath = ManualClock(monotonic=0.0)
    clock = ElasticClock(beneath)
    clock.jump(3600)

    assert clock.monotonic() == 3600.0


def test_time_neither_stops_nor_goes_back() -> None:
    clock = ElasticClock(ManualClock())

    with pytest.raises(ValueError, match="factor"):
        clock.stretch(0)
    with pytest.raises(ValueError, match="back"):
        clock.jump(-1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["advance", "jump", "stretch"]), st.floats(0.01, 100)),
        max_size=20,
    )
)
def test_whatever_is_done_to_it_time_only_grows(moves: list[tuple[str, float]]) -> None:
    beneath = ManualClock(monotonic=0.0)
    clock = ElasticClock(beneath)
    seen = [clock.monotonic()]
    for move, amount in moves:
        beneath.advance(amount) if move == "advance" else getattr(clock, move)(amount)
        seen.append(clock.monotonic())

    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(seen))
