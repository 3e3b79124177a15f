"""Whose Greeks a contract is shown with: Tradier's while they are new, else ours.

    up to a minute old ────────────────────────▶ theirs; on a put, as is true of a put
    older, of no known time, or of none
      ├─ bid and ask that can be believed ─────▶ ours, from their middle
      └─ without ──────────────────────────────▶ theirs, and their age says the rest
    expiring today: ours whenever there are a bid and an ask, for theirs are of another day

Tradier's model runs about once an hour, so theirs is the exception. Ours are computed as
of the newest quote of the contracts given: after the close, and in the delayed sandbox,
that is the time that the prices belong to.

**The rate** is passed in, a fraction a year, and is the one thing assumed. Dividends are
not: for each root and expiration the forward is read from calls and puts by their parity,
and the yield is the one that leads there from the underlying's price at that rate. So an
error in the rate is nearly made good by the yield. A point of it, on an option of 30 days
at the money, moves theta by the interest on its price: less than a cent a day. Where no
strike has both a call and a put that are quoted, there are no dividends.

Nobody can hold VIX, so its options are valued on their own forward, and delta is per point
of that. The same is done with the price of the underlying when it is not of the time of
the quotes. Pure: no clock, no loop.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import exp, log
from typing import Final, NamedTuple

import msgspec

from onetape.analytics.greeks import YEAR_NS, computed_greeks, implied_forward, years_to_expiry
from onetape.calendar import new_york_date
from onetape.model import ContractType, Greeks, OptionSnapshot, Quote
from onetape.provenance import Reason
from onetape.quality.contracts import IV_EXTREME, SPREAD_EXTREME_PERCENT
from onetape.quality.reasons import reason
from onetape.quality.score import THRESHOLDS, DataClass
from onetape.tradier.greeks import (
    PUT_CORRECTED,
    PUT_WITHHELD,
    Carry,
    Sensitivities,
    put_from_call,
)
from onetape.tradier.parse import underlying_price

GREEKS_NS: Final = round(THRESHOLDS[DataClass.GREEKS].stale * 1e9)
"""How old Tradier's Greeks may be and still be shown, when ours could be."""

ON_THEIR_FORWARD: Final = frozenset({"I:VIX"})
"""Underlyings that cannot be held until the expiration, so that no yield leads there."""

_AT_ONCE_NS: Final = 60_000_000_000
_YIELD_MOST: Final = 0.5
_JUMP_MOST: Final = 0.05

Reasons = Mapping[str, tuple[Reason, ...]]
"""What is to be said of contracts, by symbol."""

_OURS: Final = "from the middle of bid and ask"
_OF_PARITY: Final = reason("greeks_computed", f"{_OURS}, with the forward in calls and puts")
_OF_SPOT: Final = reason("greeks_computed", f"{_OURS}, without dividends: no pair is quoted")
_CARE: Final = reason(
    "greeks_computed", f"{_OURS}; early exercise, which is not modelled, may be part of it"
)


class Valued(NamedTuple):
    """Contracts with the Greeks to show, in the order given, and what to say of each."""

    contracts: tuple[OptionSnapshot, ...]
    reasons: Reasons


class _Basis(NamedTuple):
    """What the contracts of one root and expiration are reckoned from."""

    carry: Carry | None
    remark: Reason
    as_of_ns: int
    today: date


def valued(
    contracts: Sequence[OptionSnapshot],
    reasons: Reasons,
    *,
    underlying: Quote | None,
    rate: float,
    now_ns: int,
) -> Valued:
    """Return contracts on one underlying with the Greeks to show.

    Args:
        contracts: As they were answered, of any roots and expirations.
        reasons: What was said of them when they were read.
        underlying: Its quote of about the same time, if there is one.
        rate: The rate to assume, a fraction a year, continuously compounded.
        now_ns: The time, which tells what expires today.
    """
    as_of_ns = max((one.quote.event_ns or 0 for one in contracts), default=0) or now_ns
    spot = _spot(underlying, as_of_ns)
    shown: dict[str, tuple[OptionSnapshot, tuple[Reason, ...]]] = {}
    for series in _series(contracts):
        basis = _basis(series, spot, rate, as_of_ns)._replace(today=new_york_date(now_ns))
        calls = {one.contract.strike: one for one in series if _is_call(one)}
        for one in series:
            said = reasons.get(one.symbol, ())
            shown[one.symbol] = _ours(one, basis) or _theirs(one, said, basis, calls)
    return Valued(
        tuple(shown[one.symbol][0] for one in contracts),
        {symbol: said for symbol, (_, said) in shown.items() if said},
    )


def _series(contracts: Iterable[OptionSnapshot]) -> Iterable[list[OptionSnapshot]]:
    found: defaultdict[tuple[str, date], list[OptionSnapshot]] = defaultdict(list)
    for one in contracts:
        found[one.contract.root, one.contract.expiration].append(one)
    return found.values()


def _is_call(one: OptionSnapshot) -> bool:
    return one.contract.contract_type is ContractType.CALL


# the underlying


def _spot(underlying: Quote | None, as_of_ns: int) -> float | None:
    """Return the underlying's price, unless it is of another time than the quotes."""
    if underlying is None or underlying.symbol in ON_THEIR_FORWARD:
        return None
    at_ns = underlying.event_ns
    if at_ns is not None and abs(as_of_ns - at_ns) > _AT_ONCE_NS:
        return None
    price = underlying_price(underlying)
    return price if price is not None and price > 0 else None


def _basis(
    series: Sequence[OptionSnapshot], spot: float | None, rate: float, as_of_ns: int
) -> _Basis:
    basis = _Basis(None, _OF_SPOT, as_of_ns, date.min)
    found = implied_forward(
        filter(_is_call, series),
        (one for one in series if not _is_call(one)),
        rate=rate,
        now_ns=as_of_ns,
    )
    if found is None or found.forward <= 0:
        return basis if spot is None else basis._replace(carry=Carry(spot, rate))
    if spot is None:
        # On the forward itself: what it costs to hold is what the rate pays.
        return basis._replace(carry=Carry(found.forward, rate, rate), remark=_OF_PARITY)
    # No dividends or loan fees lead that far: some of the quotes are wrong.
    if abs(log(found.forward / spot)) > _JUMP_MOST + _YIELD_MOST * found.years:
        return basis._replace(carry=Carry(spot, rate))
    carry = Carry(spot, rate, found.dividend_yield(spot))
    return basis._replace(carry=carry, remark=_OF_PARITY)


# one contract


def _ours(one: OptionSnapshot, basis: _Basis) -> tuple[OptionSnapshot, tuple[Reason, ...]] | None:
    """Compute volatility and Greeks; None where theirs are as good, or ours cannot be had."""
    if basis.carry is None or not _is_wanted(one, basis):
        return None
    found = computed_greeks(
        one,
        underlying_price=basis.carry.spot,
        rate=basis.carry.rate,
        dividend_yield=basis.carry.dividend_yield,
        now_ns=basis.as_of_ns,
    )
    volatility = found.implied_volatility
    if found.greeks is None or volatility is None or volatility > IV_EXTREME:
        return None
    snapshot = msgspec.structs.replace(one, greeks=found.greeks, implied_volatility=volatility)
    return snapshot, (_CARE if found.reasons else basis.remark,)


def _is_wanted(one: OptionSnapshot, basis: _Basis) -> bool:
    quote, theirs = one.quote, one.greeks
    if not quote.bid or not quote.ask or quote.bid > quote.ask:
        return False
    if theirs is None or theirs.delta is None or one.contract.expiration == basis.today:
        return True
    if theirs.event_ns is not None:
        # A quote that they are newer than tells nothing that they did not know.
        known_ns = theirs.event_ns if quote.event_ns is None else quote.event_ns
        if basis.as_of_ns - theirs.event_ns <= GREEKS_NS or known_ns < theirs.event_ns:
            return False
    spread = one.spread_percent
    return spread is not None and spread <= SPREAD_EXTREME_PERCENT


def _theirs(
    one: OptionSnapshot,
    said: tuple[Reason, ...],
    basis: _Basis,
    calls: Mapping[float, OptionSnapshot],
) -> tuple[OptionSnapshot, tuple[Reason, ...]]:
    """Return a contract as Tradier has it; a put's theta and rho follow from its call's."""
    if basis.carry is None or one.greeks is None or PUT_WITHHELD not in said:
        return one, said
    call = calls.get(one.contract.strike)
    theirs = None if call is None else call.greeks
    # The very run of the model that the put's row is of.
    if theirs is None or theirs.theta is None or theirs.event_ns != one.greeks.event_ns:
        return one, said
    greeks = _put_greeks(one, one.greeks, theirs, basis)
    corrected = tuple(PUT_CORRECTED if this is PUT_WITHHELD else this for this in said)
    return msgspec.structs.replace(one, greeks=greeks), corrected


def _put_greeks(put: OptionSnapshot, own: Greeks, call: Greeks, basis: _Basis) -> Greeks:
    assert basis.carry is not None, "asked for with one"
    at_ns = basis.as_of_ns if own.event_ns is None else own.event_ns
    found = put_from_call(
        Sensitivities(call.theta, call.rho, None),
        strike=put.contract.strike,
        years=max(0.0, years_to_expiry(put.contract, at_ns)),
        carry=basis.carry,
    )
    return msgspec.structs.replace(own, theta=found.theta, rho=found.rho)


assert YEAR_NS and exp  # noqa: S101 - placeholder
