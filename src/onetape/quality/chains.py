"""A chain: its contracts one by one, and what it covers.

A contract with an error is left out and counted, and the chain stays good; it is
poor when more than a fifth went, or when the strikes near the money are missing.
The chain's score follows from its own reasons only: what is wrong with a contract
is told by the contract. Its age is that of its newest quote, because a contract
that nobody trades is quoted seldom and says nothing about the source.

Coverage is not asked of a chain that was asked for in part.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from onetape.model import ContractType, OptionChain, OptionSnapshot
from onetape.provenance import Quality, Reason
from onetape.quality.contracts import contract_reasons, with_verdict
from onetape.quality.quotes import both_ageings
from onetape.quality.reasons import first_error
from onetape.quality.rules import CLEAN, Moment, Rules, is_instant, is_real, is_text, moment
from onetape.quality.score import DataClass, Notes, kept_notes

INVALID_RATIO: Final = 0.2
"""The share of contracts that may have errors before the chain is poor."""
MONEY_RATIO: Final = 0.025
"""How far from the underlying's price the nearest strike may be, as a share of it."""
MONEY_REACH: Final = 2.5
"""The same in dollars, for cheap shares: their strikes stand far apart."""
_MILLS: Final = 1000
_NO_NOTES: Final[Notes] = MappingProxyType({})


class Coverage(NamedTuple):
    """A chain after its contracts were judged: what is left and what is gone."""

    chain: OptionChain
    kept: tuple[OptionSnapshot, ...]
    dropped: int
    strikes: Mapping[date, frozenset[float]]
    """The strikes of each expiration."""


def _symbol_missing(covered: Coverage, _at: Moment) -> str | None:
    return None if is_text(covered.chain.underlying) else ""


def _not_a_number(covered: Coverage, _at: Moment) -> str | None:
    price = covered.chain.underlying_price
    return "underlying_price" if price is not None and not is_real(price) else None


def _time_invalid(covered: Coverage, _at: Moment) -> str | None:
    event_ns = covered.chain.underlying_event_ns
    return None if event_ns is None or is_instant(event_ns) else ""


def _chain_empty(covered: Coverage, _at: Moment) -> str | None:
    return None if covered.kept else ""


def _chain_partial(covered: Coverage, _at: Moment) -> str | None:
    return "; ".join(covered.chain.partial) if covered.chain.partial else None


def _contracts_dropped(covered: Coverage, _at: Moment) -> str | None:
    return _dropped(covered) if covered.dropped and not _is_too_many(covered) else None


def _too_many_invalid(covered: Coverage, _at: Moment) -> str | None:
    return _dropped(covered) if _is_too_many(covered) else None


def _is_too_many(covered: Coverage) -> bool:
    return covered.dropped > INVALID_RATIO * (covered.dropped + len(covered.kept))


def _dropped(covered: Coverage) -> str:
    return f"{covered.dropped} of {covered.dropped + len(covered.kept)}"


def _future(covered: Coverage, at: Moment) -> str | None:
    event_ns = covered.chain.underlying_event_ns
    return "underlying" if is_instant(event_ns) and event_ns > at.latest_ns else None


def _price_not_positive(covered: Coverage, _at: Moment) -> str | None:
    price = covered.chain.underlying_price
    return f"underlying {price:g}" if is_real(price) and price <= 0 else None


def _underlying_price_missing(covered: Coverage, _at: Moment) -> str | None:
    return "" if covered.chain.underlying_price is None else None


def _calls_missing(covered: Coverage, _at: Moment) -> str | None:
    return "" if _sides(covered) == {ContractType.PUT} else None


def _puts_missing(covered: Coverage, _at: Moment) -> str | None:
    return "" if _sides(covered) == {ContractType.CALL} else None


def _sides(covered: Coverage) -> set[ContractType]:
    return {one.contract.contract_type for one in covered.kept}


def _atm_missing(covered: Coverage, _at: Moment) -> str | None:
    far = _far_from_money(covered)
    return "" if far and len(far) == len(covered.strikes) else None


def _atm_partial(covered: Coverage, _at: Moment) -> str | None:
    far = _far_from_money(covered)
    if not far or len(far) == len(covered.strikes):
        return None
    return ", ".join(day.isoformat() for day in sorted(far))


def _far_from_money(covered: Coverage) -> list[date]:
    """Return the expirations whose strikes are all far from the underlying's price.

    Near is a distance that does not follow from the strikes: leaving a contract out
    must never bring the money into reach.
    """
    price = covered.chain.underlying_price
    if not is_real(price):
        return []
    reach = max(MONEY_REACH, MONEY_RATIO * price)
    return [
        day
        for day, strikes in covered.strikes.items()
        if min(abs(strike - price) for strike in strikes) > reach
    ]


def _strike_gap(covered: Coverage, _at: Moment) -> str | None:
    gaps = [
        f"{day.isoformat()} {low:g}-{high:g}"
        for day, strikes in covered.strikes.items()
        for low, high in strike_gaps(strikes)
    ]
    return ", ".join(gaps[:3]) + (f" and {len(gaps) - 3} more" if gaps[3:] else "") or None


def strike_gaps(strikes: Iterable[float]) -> list[tuple[float, float]]:
    """Return the neighbours between which strikes are missing, by the most usual step.

    Steps grow away from the money, and there a wider one is no gap: only steps with
    narrower ones on both sides are.
    """
    mills = sorted({round(strike * _MILLS) for strike in strikes})
    steps = [high - low for low, high in pairwise(mills)]
    if len(steps) < 3:
        return []
    ((usual, _),) = Counter(sorted(steps)).most_common(1)
    runs = [(step, len(list(run))) for step, run in groupby(steps)]
    gaps: list[tuple[float, float]] = []
    at = 0
    for before, (step, length), after in zip(runs, runs[1:], runs[2:], strict=False):
        at += before[1]
        if step > usual and before[0] < step > after[0]:
            edges = mills[at : at + length + 1]
            gaps += [(low / _MILLS, high / _MILLS) for low, high in pairwise(edges)]
    return gaps


CHAIN: Final = Rules[Coverage](
    {
        "symbol_missing": _symbol_missing,
        "not_a_number": _not_a_number,
        "time_invalid": _time_invalid,
        "future": _future,
        "price_not_positive": _price_not_positive,
        "chain_empty": _chain_empty,
        "too_many_invalid": _too_many_invalid,
        "contracts_dropped": _contracts_dropped,
        "chain_partial": _chain_partial,
        "underlying_price_missing": _underlying_price_missing,
    }
)
COVERAGE: Final = Rules[Coverage](
    {
        "calls_missing": _calls_missing,
        "puts_missing": _puts_missing,
        "atm_missing": _atm_missing,
        "atm_partial": _atm_partial,
        "strike_gap": _strike_gap,
    }
)


def judge_chain(
    chain: OptionChain,
    *,
    now_ns: int,
    market_open: bool,
    whole: bool = True,
    notes: tuple[Reason, ...] = (),
    contract_notes: Notes = _NO_NOTES,
) -> OptionChain:
    """Return a chain of the contracts without errors, each with its quality, and its own.

    Args:
        chain: The chain; what it has `dropped` before counts too.
        now_ns: The time; an exchange's time ahead of it is an error.
        market_open: Whether it trades now; while it does not, nothing ages.
        whole: Whether all strikes and both sides were asked for.
        notes: What the source has to say of the chain, from `reasons.NOTES`.
        contract_notes: What it has to say of contracts, by symbol.
    """
    at = moment(now_ns)
    ages = both_ageings(DataClass.QUOTE, now_ns=now_ns, market_open=market_open)
    kept: list[OptionSnapshot] = []
    dropped = Counter(chain.dropped)
    for snapshot in chain.contracts:
        reasons = contract_reasons(snapshot, at)
        error = first_error(reasons) if reasons else None
        if error is None:
            said = contract_notes.get(snapshot.contract.symbol, CLEAN)
            kept.append(with_verdict(snapshot, reasons, ages, said))
        else:
            dropped[error] += 1
    covered = Coverage(chain, tuple(kept), dropped.total(), _strikes(kept))
    found = CHAIN.find(covered, at) + (COVERAGE.find(covered, at) if whole else CLEAN)
    chain_ages = both_ageings(DataClass.CHAIN, now_ns=now_ns, market_open=market_open)
    before = chain.quality
    quality = Quality(
        provider=chain.provider,
        source=chain.source,
        received_ns=chain.received_ns,
        event_ns=_newest(covered),
        reasons=found + kept_notes(before, notes),
        fallback_reason=None if before is None else before.fallback_reason,
        delayed=chain.delayed,
        simulated=chain.simulated,
        ageing=chain_ages[bool(chain.delayed)],
    )
    return msgspec.structs.replace(
        chain, contracts=covered.kept, dropped=dict(dropped), quality=quality
    )


def _strikes(kept: Iterable[OptionSnapshot]) -> dict[date, frozenset[float]]:
    strikes: defaultdict[date, set[float]] = defaultdict(set)
    for snapshot in kept:
        strikes[snapshot.contract.expiration].add(snapshot.contract.strike)
    return {day: frozenset(some) for day, some in strikes.items()}


def _newest(covered: Coverage) -> int | None:
    times = [one.quote.event_ns for one in covered.kept if one.quote.event_ns is not None]
    if times:
        return max(times)
    underlying_ns = covered.chain.underlying_event_ns
    return underlying_ns if is_instant(underlying_ns) else None
