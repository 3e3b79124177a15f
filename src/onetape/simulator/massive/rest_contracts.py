"""What chains and the contracts reference share: which contracts are meant, in what order."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from onetape.simulator.massive.pages import Key
from onetape.simulator.massive.rest_query import Query
from onetape.simulator.seeded.records import Contract

SORTS: Final[Mapping[str, Callable[[Contract], Key]]] = {
    "ticker": lambda row: (row.ticker,),
    "expiration_date": lambda row: (row.expiration.isoformat(), row.ticker),
    "strike_price": lambda row: (row.strike, row.ticker),
}
"""By what contracts may be sorted, the default first; the ticker settles ties."""


def narrowed(query: Query, contracts: Iterable[Contract]) -> Iterator[Contract]:
    """Return the contracts that the query's type, strike and expiration leave.

    There may be tens of thousands, so a filter that was not given costs nothing.
    """
    right = query.optional_choice("contract_type", ("call", "put"))
    strikes, days = query.numbers("strike_price"), query.days("expiration_date")
    found = iter(contracts)
    if right is not None:
        found = filter(lambda row: row.contract_type == right, found)
    if strikes:
        found = filter(lambda row: strikes.admits(row.strike), found)
    if days:
        found = filter(lambda row: days.admits(row.expiration.isoformat()), found)
    return found
