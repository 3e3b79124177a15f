"""Which symbols a contract may have that is named by its terms alone.

A stock's options have one root, but for a class share's lost dot. An index's have
several: weekly and monthly series expire on the same day and differ in how they settle.

    I:SPX  SPXW, then SPX      settled at the close before settled at the open
    I:NDX  NDX, then NDXP      I:RUT  RUT, then RUTW      I:VIX  VIX, then VIXW

On a day on which both roots have the contract the first is meant. Adjusted contracts are
not found this way: their terms do not tell what they deliver.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from onetape.errors import InvalidRequest, InvalidSymbol
from onetape.model import AssetClass, ContractType
from onetape.symbols import OptionSymbol, asset_class, normalize_symbol

ROOTS: Final[Mapping[str, tuple[str, ...]]] = {
    "I:SPX": ("SPXW", "SPX"),
    "I:NDX": ("NDX", "NDXP"),
    "I:RUT": ("RUT", "RUTW"),
    "I:VIX": ("VIX", "VIXW"),
    "I:OEX": ("OEX", "XEO"),
}
"""The roots of an index's options, those first that are meant first."""

_THOUSAND: Final = 1000
_EXACT: Final = 1e-6


def candidates(
    underlying: str, strike: float, expiration: date, contract_type: ContractType
) -> tuple[str, ...]:
    """Return the symbols, in the vendor's form, that the contract may have; the likeliest first.

    Raises:
        InvalidSymbol: the underlying has no options, or the terms make no symbol.
        InvalidRequest: a strike finer than a thousandth.
    """
    thousandths = round(strike * _THOUSAND)
    if abs(strike * _THOUSAND - thousandths) > _EXACT:
        raise InvalidRequest("a strike has no more than three decimals")
    return tuple(
        str(
            OptionSymbol(
                root=root,
                expiration=expiration,
                contract_type=contract_type,
                strike_thousandths=thousandths,
            )
        )
        for root in roots_of(underlying)
    )


def roots_of(underlying: str) -> tuple[str, ...]:
    """Return the roots of the options on an underlying.

    Raises:
        InvalidSymbol: it has none.
    """
    symbol = normalize_symbol(underlying)
    kind = asset_class(symbol)
    if kind is AssetClass.OPTIONS:
        raise InvalidSymbol(f"{symbol} has no options: name a stock or an index")
    if kind is AssetClass.INDICES:
        return ROOTS.get(symbol) or (symbol.removeprefix("I:"),)
    return (symbol.replace(".", ""),)
