from datetime import date

import pytest

from onetape.model import ContractType
from onetape.simulator.seeded.records import Contract, DayStats, QuoteTick

DAY = date(2026, 11, 20)


def test_a_change_is_measured_from_the_previous_close() -> None:
    stats = DayStats(DAY, close=110.0, previous_close=100.0)

    assert (stats.change, stats.change_percent) == (10.0, 10.0)


@pytest.mark.parametrize(
    "stats",
    [DayStats(DAY, close=110.0), DayStats(DAY, previous_close=100.0), DayStats(DAY)],
)
def test_a_change_without_both_ends_is_missing(stats: DayStats) -> None:
    assert stats.change is None
    assert stats.change_percent is None


def test_the_mid_is_half_way() -> None:
    assert QuoteTick("X", 1, 0.05, 0.10, 1, 1, 302, 302, 1, 1).mid == 0.075


def test_the_reference_names_an_index_without_its_prefix() -> None:
    contract = Contract(
        ticker="O:SPXW261120C06600000",
        root="SPXW",
        underlying="I:SPX",
        contract_type=ContractType.CALL,
        expiration=DAY,
        strike=6600.0,
        exercise_style="european",
        expires_ns=1,
        listed=DAY,
    )

    assert contract.underlying_ref == "SPX"
