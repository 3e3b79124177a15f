from datetime import date

import pytest

from onetape.errors import InvalidRequest, InvalidSymbol
from onetape.model import ContractType
from onetape.providers.contract_lookup import candidates, roots_of

DAY = date(2025, 12, 19)


@pytest.mark.parametrize(
    ("underlying", "symbols"),
    [
        ("SPY", ("O:SPY251219C00650000",)),
        ("spy", ("O:SPY251219C00650000",)),
        ("BRK.B", ("O:BRKB251219C00650000",)),
        ("SPX", ("O:SPXW251219C00650000", "O:SPX251219C00650000")),
        ("I:NDX", ("O:NDX251219C00650000", "O:NDXP251219C00650000")),
        ("RUT", ("O:RUT251219C00650000", "O:RUTW251219C00650000")),
        ("$VIX", ("O:VIX251219C00650000", "O:VIXW251219C00650000")),
        ("I:XSP", ("O:XSP251219C00650000",)),
    ],
)
def test_terms_become_the_symbols_they_may_have(underlying: str, symbols: tuple[str, ...]) -> None:
    assert candidates(underlying, 650, DAY, ContractType.CALL) == symbols


def test_strikes_have_thousandths() -> None:
    assert candidates("F", 12.345, DAY, ContractType.PUT) == ("O:F251219P00012345",)
    assert candidates("F", 0.1 + 0.2, DAY, ContractType.PUT) == ("O:F251219P00000300",)
    with pytest.raises(InvalidRequest):
        candidates("F", 12.3456, DAY, ContractType.PUT)


@pytest.mark.parametrize("strike", [0, -5, 1e6])
def test_a_strike_that_nothing_has_is_refused(strike: float) -> None:
    with pytest.raises(InvalidSymbol):
        candidates("SPY", strike, DAY, ContractType.CALL)


def test_an_option_has_no_options() -> None:
    with pytest.raises(InvalidSymbol):
        roots_of("O:SPY251219C00650000")
