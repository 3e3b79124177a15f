import pytest

from onetape.simulator.seeded.sim_clock import SimClock
from onetape.testing import ManualClock


def test_it_starts_at_wall_time_and_keeps_pace() -> None:
    wall = ManualClock()
    clock = SimClock(clock=wall)
    assert clock.now_ns() == wall.now_ns()

    wall.advance(1.5)

    assert clock.now_ns() == wall.now_ns()


def test_a_fixed_start_and_a_speed_replay_any_date_faster() -> None:
    wall = ManualClock()
    clock = SimClock(clock=wall, start_ns=5_000_000_000, speed=60)

    wall.advance(2)

    assert clock.now_ns() == 125_000_000_000
    assert clock.speed == 60
    assert clock.wall_s(185_000_000_000) == 1.0


def test_time_cannot_stand_still_or_go_back() -> None:
    with pytest.raises(ValueError, match="above 0"):
        SimClock(clock=ManualClock(), speed=0)
