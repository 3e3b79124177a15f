"""Greeks for a chain whose own provider left them out: one group of fields, marked as such.

    a contract's terms, quote, last trade, volume     always of one provider
    its Greeks with the implied volatility            of another, if it had none at all

Greeks keep their own provider, source and time, and so they age by themselves; the quality
of the contract and of the chain says `mixed_sources`. Nothing else is mixed: a bid of one
vendor beside an ask of another would be a market that nobody made. Sans-I/O.
"""

from typing import Final

import msgspec

from onetape.model import Greeks, OptionChain, OptionSnapshot
from onetape.provenance import Quality, Reason
from onetape.quality.reasons import NOTES, reason
from onetape.quality.score import noted

_SHARE: Final = 0.5
_OF_GREEKS: Final = ("greeks_", "iv_")
_replace: Final = msgspec.structs.replace


def lacks_greeks(chain: OptionChain) -> bool:
    """Tell whether most contracts have none, of those with a bid that they could follow from.

    A vendor has none for a few deep in the money: that is no reason to ask another.
    """
    quoted = [one for one in chain.contracts if one.quote.bid and one.quote.ask]
    return bool(quoted) and sum(map(_has_none, quoted)) > _SHARE * len(quoted)


def with_greeks_of(chain: OptionChain, other: OptionChain) -> OptionChain:
    """Return the chain with another's Greeks and volatility for contracts that have neither."""
    theirs = {one.symbol: one for one in other.contracts if not _has_none(one)}
    note = reason("mixed_sources", f"Greeks and implied volatility are {other.provider}'s")
    contracts = tuple(_filled(one, theirs.get(one.symbol), note) for one in chain.contracts)
    if contracts == chain.contracts:
        return chain
    return _replace(chain, contracts=contracts, quality=_noted(chain.quality, note))


def _filled(
    contract: OptionSnapshot, theirs: OptionSnapshot | None, note: Reason
) -> OptionSnapshot:
    if theirs is None or contract.implied_volatility is not None or not _has_none(contract):
        return contract
    quality = _noted(contract.quality, note, *_said_of_greeks(theirs))
    if quality is not None and theirs.greeks is not None:
        quality = _replace(quality, greeks_ns=theirs.greeks.event_ns)
    return _replace(
        contract,
        greeks=theirs.greeks,
        implied_volatility=theirs.implied_volatility,
        quality=quality,
    )


def _has_none(contract: OptionSnapshot) -> bool:
    greeks: Greeks | None = contract.greeks
    return greeks is None or greeks.delta is None


def _said_of_greeks(contract: OptionSnapshot) -> tuple[Reason, ...]:
    """Return what their own provider notes about them; it goes where they go."""
    reasons = () if contract.quality is None else contract.quality.reasons
    return tuple(one for one in reasons if one.code in NOTES and one.code.startswith(_OF_GREEKS))


def _noted(quality: Quality | None, *notes: Reason) -> Quality | None:
    return None if quality is None else noted(quality, *notes)
