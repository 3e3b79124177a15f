"""Whose Greeks a contract is shown with: Tradier's while they are new, else ours.

    up to a minute old ────────────────────────▶ theirs; on a put, as is true of a put
    older, of no known time, or of none
      ├─ bid and ask that can be believed ─────▶ ours
      └─ without ──────────────────────────────▶ theirs, and their age says the rest
    expiring today: ours if only there are a bid and an ask, for theirs are of another day

Tradier's model runs about once an hour, so theirs is the exception. Ours are computed as
of the newest quote of the contracts given: after the close, and in the delayed sandbox,
that is the time that the prices belong to.

**The volatility of a strike** is that of its side out of the money, for both. There the
price is all time value; in the money the spread alone is often more than that, and an
American option's may be worth early exercise besides, which is not modelled: its Greeks are
those of a European one. A quote is believed unless half its spread is worth more than 5
points of volatility. Nobody's bid is no quote.

**The rate** is passed in, a fraction a year, and is the one thing assumed. Dividends are
not: for each root and expiration the forward is read from calls and puts by their parity,
and the yield is the one that leads there from the underlying's price at that rate. So an
error in the rate is nearly made good by the yield. A point of it, on an option of 30 days
at the money, moves theta by the interest on its price: less than a cent a day. Where no
strike has both a call and a put that are quoted, there are no dividends.

Nobody can hold VIX, so its options are valued on their own forward, and delta is per point
of that. A price of the underlying that is not of the time of the quotes, as after hours,
is not used: then the one that the forward is worth today stands for it. Sans-I/O.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import exp, log
from typing import Final, NamedTuple

import msgspec

from onetape.analytics.greeks import (
    Terms,
    computed_greeks,
    implied_forward,
    parity_gap,
    sensitivities,
    terms_of,
    years_to_expiry,
)
from onetape.calendar import new_york_date
from onetape.model import ContractType, Greeks, OptionSnapshot, Quote
from onetape.provenance import Reason, Source
from onetape.quality.contracts import IV_EXTREME
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

DOUBT_POINTS: Final = 5.0
"""By how many points of volatility half the spread may move it, for a quote to be believed."""

ON_THEIR_FORWARD: Final = frozenset({"I:VIX"})
"""Underlyings that cannot be held until the expiration, so that no yield leads there."""

_AT_ONCE_NS: Final = 60_000_000_000
_YIELD_MOST: Final = 0.5
_JUMP_MOST: Final = 0.05

Reasons = Mapping[str, tuple[Reason, ...]]
"""What is to be said of contracts, by symbol."""

_PARITY: Final = reason("greeks_computed", "from bid and ask, with the forward in calls and puts")
_FLAT: Final = reason("greeks_computed", "from bid and ask, without dividends: no pair is quoted")


class Valued(NamedTuple):
    """Contracts with the Greeks to show, in the order given, and what to say of each."""

    contracts: tuple[OptionSnapshot, ...]
    reasons: Reasons


class _Basis(NamedTuple):
    """What the contracts of one root and expiration are reckoned from."""

    as_of_ns: int
    expires_today: bool
    carry: Carry | None = None
    remark: Reason = _FLAT


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
    today = new_york_date(now_ns)
    shown: dict[str, _Shown] = {}
    for series in _series(contracts):
        basis = _Basis(as_of_ns, series[0].contract.expiration == today)
        book = _Book(series, _carried(basis, series, spot, rate))
        for one in series:
            shown[one.symbol] = book.shown(one, reasons.get(one.symbol, ()))
    return Valued(
        tuple(shown[one.symbol].snapshot for one in contracts),
        {symbol: one.reasons for symbol, one in shown.items() if one.reasons},
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


def _carried(
    basis: _Basis, series: Sequence[OptionSnapshot], spot: float | None, rate: float
) -> _Basis:
    found = implied_forward(
        filter(_is_call, series),
        (one for one in series if not _is_call(one)),
        rate=rate,
        now_ns=basis.as_of_ns,
    )
    if found is None or found.forward <= 0:
        return basis if spot is None else basis._replace(carry=Carry(spot, rate))
    if series[0].contract.underlying in ON_THEIR_FORWARD:
        return basis._replace(carry=Carry(found.forward, rate, rate), remark=_PARITY)
    if spot is None:
        spot = found.forward * exp(-rate * found.years)
    # No dividends or loan fees lead that far: some of the quotes are wrong.
    if abs(log(found.forward / spot)) > _JUMP_MOST + _YIELD_MOST * found.years:
        return basis._replace(carry=Carry(spot, rate))
    carry = Carry(spot, rate, found.dividend_yield(spot))
    return basis._replace(carry=carry, remark=_PARITY)


# one root and expiration


class _Shown(NamedTuple):
    snapshot: OptionSnapshot
    reasons: tuple[Reason, ...]


class _Solved(NamedTuple):
    """The volatility in a quote."""

    volatility: float
    event_ns: int | None


class _Book:
    """Contracts of one root and expiration."""

    def __init__(self, series: Sequence[OptionSnapshot], basis: _Basis) -> None:
        self._basis = basis
        self._calls = {one.contract.strike: one for one in series if _is_call(one)}
        self._puts = {one.contract.strike: one for one in series if not _is_call(one)}
        self._solved: dict[str, _Solved | None] = {}

    def shown(self, one: OptionSnapshot, said: tuple[Reason, ...]) -> _Shown:
        """Return a contract with the Greeks to show."""
        carry = self._basis.carry
        if carry is None:
            return _Shown(one, said)
        return self._ours(one, carry) or self._theirs(one, said, carry)

    # ours

    def _ours(self, one: OptionSnapshot, carry: Carry) -> _Shown | None:
        """Compute the Greeks; None where theirs are as good, or ours cannot be had."""
        if not self._is_wanted(one):
            return None
        terms = self._terms(one, carry)
        other = (self._puts if _is_call(one) else self._calls).get(one.contract.strike)
        solved = self._volatility(other if _sure(terms) > 0 else one, one, carry)
        if solved is None:
            return None
        found = sensitivities(terms, solved.volatility)
        greeks = Greeks(
            delta=found.delta,
            gamma=found.gamma,
            theta=found.theta,
            vega=found.vega,
            rho=found.rho,
            provider=one.quote.provider,
            source=Source.COMPUTED,
            event_ns=solved.event_ns,
        )
        snapshot = msgspec.structs.replace(one, greeks=greeks, implied_volatility=solved.volatility)
        return _Shown(snapshot, (self._basis.remark,))

    def _is_wanted(self, one: OptionSnapshot) -> bool:
        theirs, basis = one.greeks, self._basis
        if theirs is None or theirs.delta is None or basis.expires_today:
            return True
        return theirs.event_ns is None or basis.as_of_ns - theirs.event_ns > GREEKS_NS

    def _volatility(
        self, source: OptionSnapshot | None, one: OptionSnapshot, carry: Carry
    ) -> _Solved | None:
        """Return the volatility in the quote of a contract, if `one` shall be shown with it."""
        if source is None or not self._is_believed(source, one):
            return None
        if source.symbol not in self._solved:
            self._solved[source.symbol] = self._solve(source, carry)
        return self._solved[source.symbol]

    def _is_believed(self, source: OptionSnapshot, one: OptionSnapshot) -> bool:
        quote, theirs = source.quote, one.greeks
        if not quote.bid or not quote.ask or quote.bid > quote.ask:
            return False
        if theirs is None or theirs.delta is None or self._basis.expires_today:
            return True
        # A quote that theirs are newer than tells nothing that they did not know.
        return quote.event_ns is None or quote.event_ns >= (theirs.event_ns or 0)

    def _solve(self, source: OptionSnapshot, carry: Carry) -> _Solved | None:
        found = computed_greeks(
            source,
            underlying_price=carry.spot,
            rate=carry.rate,
            dividend_yield=carry.dividend_yield,
            now_ns=self._basis.as_of_ns,
        )
        volatility, spread = found.implied_volatility, source.quote.spread
        if volatility is None or found.greeks is None or volatility > IV_EXTREME:
            return None
        if (spread or 0.0) / 2 > DOUBT_POINTS * (found.greeks.vega or 0.0):
            return None
        return _Solved(volatility, source.quote.event_ns)

    def _terms(self, one: OptionSnapshot, carry: Carry) -> Terms:
        return terms_of(
            one.contract,
            spot=carry.spot,
            rate=carry.rate,
            dividend_yield=carry.dividend_yield,
            now_ns=self._basis.as_of_ns,
        )

    # theirs

    def _theirs(self, one: OptionSnapshot, said: tuple[Reason, ...], carry: Carry) -> _Shown:
        """Return a contract as Tradier has it; a put's theta and rho follow from its call's."""
        if one.greeks is None or PUT_WITHHELD not in said:
            return _Shown(one, said)
        call = self._calls.get(one.contract.strike)
        theirs = None if call is None else call.greeks
        # The very run of the model that the put's row is of.
        if theirs is None or theirs.theta is None or theirs.event_ns != one.greeks.event_ns:
            return _Shown(one, said)
        at_ns = self._basis.as_of_ns if theirs.event_ns is None else theirs.event_ns
        found = put_from_call(
            Sensitivities(theirs.theta, theirs.rho, None),
            strike=one.contract.strike,
            years=max(0.0, years_to_expiry(one.contract, at_ns)),
            carry=carry,
        )
        greeks = msgspec.structs.replace(one.greeks, theta=found.theta, rho=found.rho)
        corrected = tuple(PUT_CORRECTED if this is PUT_WITHHELD else this for this in said)
        return _Shown(msgspec.structs.replace(one, greeks=greeks), corrected)


def _sure(terms: Terms) -> float:
    """Return what an option is worth if nothing moves, or 0."""
    gap = parity_gap(terms).value
    return max(0.0, gap if terms.contract_type is ContractType.CALL else -gap)
