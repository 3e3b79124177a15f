"""Chains and what they are made of: expirations, strikes and symbols.

An underlying is named, never a root: `SPX` has the rows of SPXW too, `SPXW` has nothing.
Without `includeAllRoots` only the root that is called as its underlying is told.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

from onetape.model import ContractType
from onetape.simulator.market import Contract
from onetape.simulator.seeded.noise import key
from onetape.simulator.tradier import names
from onetape.simulator.tradier.quotes import expiration_type, option_quotes
from onetape.simulator.tradier.request import Ask, Endpoint, few, invalid


def _listed(ask: Ask, name: str) -> Sequence[Contract]:
    """Return every contract of an underlying that is listed today."""
    instrument = names.instrument_of(name.upper(), ask.market)
    if instrument is None or not instrument.has_options:
        return ()
    return ask.market.contracts(instrument.ticker, as_of=ask.today)


def _rooted(ask: Ask, contracts: Sequence[Contract]) -> list[Contract]:
    """Leave out the roots that are not the underlying's own, unless all are asked for."""
    if ask.is_set("includeAllRoots"):
        return list(contracts)
    return [one for one in contracts if one.root == names.name_of(one.underlying).replace("/", "")]


def chains(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/options/chains`: one expiration, all roots, by strike."""
    name, day = ask.text("symbol"), ask.day("expiration")
    contracts = [one for one in _listed(ask, name) if one.expiration == day]
    rows = option_quotes(ask, sorted(contracts, key=_by_strike))
    return {"options": few("option", rows)}


def _by_strike(contract: Contract) -> tuple[float, int]:
    """Order roughly: within a strike the vendor's order is not fixed."""
    return contract.strike, key("chain order", contract.ticker) & 1


def expirations(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/options/expirations`, in the form that the switches ask for."""
    contracts = _rooted(ask, _listed(ask, ask.text("symbol")))
    if not any(map(ask.is_set, ("strikes", "contractSize", "expirationType"))):
        days = sorted({one.expiration for one in contracts})
        return {"expirations": few("date", [day.isoformat() for day in days])}
    parts: dict[tuple[date, str], list[Contract]] = {}
    for one in contracts:
        parts.setdefault((one.expiration, one.root), []).append(one)
    return {"expirations": few("expiration", [_part(ask, parts[at]) for at in sorted(parts)])}


def _part(ask: Ask, contracts: list[Contract]) -> dict[str, Any]:
    first = contracts[0]
    part: dict[str, Any] = {"date": first.expiration.isoformat()}
    if ask.is_set("contractSize"):
        part["contract_size"] = first.shares_per_contract
    if ask.is_set("expirationType"):
        part["expiration_type"] = expiration_type(first)
    if ask.is_set("strikes"):
        part["strikes"] = few("strike", _strikes(contracts))
    return part


def _strikes(contracts: Iterable[Contract]) -> list[float]:
    return sorted({one.strike for one in contracts})


def strikes(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/options/strikes`."""
    contracts = _rooted(ask, _listed(ask, ask.text("symbol")))
    day = ask.day("expiration")
    return {"strikes": few("strike", _strikes(c for c in contracts if c.expiration == day))}


def lookup(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/options/lookup`: the symbols by root, narrowed if asked."""
    roots: dict[str, list[str]] = {}
    for contract in _narrowed(ask, _listed(ask, ask.text("underlying"))):
        roots.setdefault(contract.root, []).append(names.name_of(contract.ticker))
    rows = [{"rootSymbol": root, "options": symbols} for root, symbols in roots.items()]
    return {"symbols": rows or None}


def _narrowed(ask: Ask, contracts: Sequence[Contract]) -> list[Contract]:
    day = ask.day("expiration") if ask.params.get("expiration") else None
    kinds = {"call": ContractType.CALL, "put": ContractType.PUT}
    kind = kinds.get(ask.text("type", "all").lower())
    strike = None
    if ask.params.get("strike"):
        try:
            strike = float(ask.text("strike"))
        except ValueError as error:
            raise invalid("strike", "must be a number") from error
    return [
        one
        for one in contracts
        if day in {None, one.expiration}
        and kind in {None, one.contract_type}
        and strike in {None, one.strike}
    ]


ENDPOINTS: Final = (
    Endpoint("/markets/options/chains", chains),
    Endpoint("/markets/options/expirations", expirations),
    Endpoint("/markets/options/strikes", strikes),
    Endpoint("/markets/options/lookup", lookup),
)
