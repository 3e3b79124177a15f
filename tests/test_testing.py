from onetape.testing import ManualClock


async def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic=5.0, now_ns=7)

    clock.advance(1.5)

    assert (clock.monotonic(), clock.now_ns()) == (6.5, 1_500_000_007)
