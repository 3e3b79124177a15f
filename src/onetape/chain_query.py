"""Which contracts of a chain are wanted: asked of the vendor where it can, checked here always.

Every provider answers the same question the same way, because what a vendor cannot
filter, and what it filters by another reading, is filtered here. A contract of which
a bound cannot be checked, for lack of a number, is left out: it is not known to meet it.
"""

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import Annotated

import msgspec
from msgspec import Meta

from onetape.errors import InvalidRequest
from onetape.model import ContractType, OptionSnapshot

_NotNegative = Annotated[float, Meta(ge=0)]


class ChainQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds, all inclusive; None does not bind.

    `max_spread_percent` is in percent of the middle of the market. `around` keeps that
    many strikes on either side of the one nearest to the underlying's price, in every
    expiration; `max_expirations` the soonest so many.
    """

    min_strike: float | None = None
    max_strike: float | None = None
    first_expiration: date | None = None
    last_expiration: date | None = None
    contract_type: ContractType | None = None
    min_volume: _NotNegative | None = None
    min_open_interest: _NotNegative | None = None
    max_spread_percent: _NotNegative | None = None
    around: Annotated[int, Meta(ge=0)] | None = None
    max_expirations: Annotated[int, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could meet.

        Raises:
            InvalidRequest: a bound below zero, or two that exclude each other.
        """
        for low, high, what in (
            (self.min_strike, self.max_strike, "strikes"),
            (self.first_expiration, self.last_expiration, "expirations"),
        ):
            if low is not None and high is not None and low > high:  # type: ignore[operator]  # of one kind
                raise InvalidRequest(f"the range of {what} is upside down")
        numbers = (self.min_volume, self.min_open_interest, self.max_spread_percent, self.around)
        if any(number is not None and number < 0 for number in numbers):
            raise InvalidRequest("a bound of a chain is not below zero")
        if self.max_expirations is not None and self.max_expirations <= 0:
            raise InvalidRequest("at least one expiration is wanted, or max_expirations is None")

    @property
    def of_terms(self) -> "ChainQuery":
        """The part that the contracts' terms alone decide: what a vendor may be asked."""
        return ChainQuery(
            min_strike=self.min_strike,
            max_strike=self.max_strike,
            first_expiration=self.first_expiration,
            last_expiration=self.last_expiration,
            contract_type=self.contract_type,
        )

    @property
    def is_wide(self) -> bool:
        """Whether it may want most of what is listed, which takes many pages."""
        is_near = self.last_expiration is not None or self.max_expirations is not None
        is_narrow = self.min_strike is not None and self.max_strike is not None
        return not (is_near or is_narrow or self.around is not None)

    def wants(self, expiration: date) -> bool:
        """Tell whether an expiration is within the range."""
        first, last = self.first_expiration, self.last_expiration
        return (first is None or first <= expiration) and (last is None or expiration <= last)

    def admits(self, row: OptionSnapshot) -> bool:
        """Tell whether one contract meets every bound but `around` and `max_expirations`."""
        terms = row.contract
        return (
            (self.contract_type is None or terms.contract_type is self.contract_type)
            and _at_least(terms.strike, self.min_strike)
            and _at_most(terms.strike, self.max_strike)
            and self.wants(terms.expiration)
            and _at_least(row.volume, self.min_volume)
            and _at_least(row.open_interest, self.min_open_interest)
            and _at_most(row.spread_percent, self.max_spread_percent)
        )

    def select(
        self, rows: Iterable[OptionSnapshot], *, underlying_price: float | None
    ) -> tuple[OptionSnapshot, ...]:
        """Return the contracts that meet all of it, by expiration, strike, calls first.

        Without a price there is no money to be around: `around` then keeps nothing out.
        """
        kept = sorted(filter(self.admits, rows), key=_place)
        if self.max_expirations is not None:
            soonest = sorted({row.contract.expiration for row in kept})[: self.max_expirations]
            kept = [row for row in kept if row.contract.expiration in soonest]
        if self.around is None or underlying_price is None:
            return tuple(kept)
        return tuple(_around(kept, underlying_price, self.around))


def nearest_strike(strikes: Iterable[float], price: float) -> float | None:
    """Return the strike at the money, the lower of two equally near; None of none."""
    return min(strikes, key=lambda strike: (abs(strike - price), strike), default=None)


def _around(
    rows: Iterable[OptionSnapshot], price: float, per_side: int
) -> Iterable[OptionSnapshot]:
    for _, group in groupby(rows, key=lambda row: row.contract.expiration):
        contracts = list(group)
        strikes = sorted({row.contract.strike for row in contracts})
        middle = nearest_strike(strikes, price)
        if middle is None:
            continue
        at = strikes.index(middle)
        kept = set(strikes[max(0, at - per_side) : at + per_side + 1])
        yield from (row for row in contracts if row.contract.strike in kept)


def _place(row: OptionSnapshot) -> tuple[date, float, ContractType, str]:
    terms = row.contract
    return terms.expiration, terms.strike, terms.contract_type, terms.symbol


def _at_least(number: float | None, bound: float | None) -> bool:
    return bound is None or (number is not None and number >= bound)


def _at_most(number: float | None, bound: float | None) -> bool:
    return bound is None or (number is not None and number <= bound)
