"""What Tradier's greeks are worth, and what of them is true of a put.

The block comes from a model that runs about once an hour, and is made for the call of a
strike: on the put's row only the delta is the put's, and gamma and vega are the same
for both. Theta, rho and phi of the put follow by put-call parity, for a European
option; an American one differs by what early exercise is worth.

    theta_p = theta_c + (r K exp(-rT) - q S exp(-qT)) / 365     dollars a calendar day
    rho_p   = rho_c - K T exp(-rT) / 100                        a point of interest
    phi_p   = phi_c + S T exp(-qT) / 100                        a point of dividend yield

Without spot and rate there is no such correction, and the call's values are not shown as
the put's: they are None. A volatility of 0.0 means "not solved" and is None as well.
"""

import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from onetape.calendar import CLOSE, instant_ns, new_york_date, trading_day
from onetape.errors import InvalidRequest
from onetape.model import ContractType, Greeks
from onetape.provenance import Reason, Severity, Source
from onetape.tradier.wire_rest import number

_DAYS_A_YEAR: Final = 365
_YEAR_NS: Final = _DAYS_A_YEAR * 86_400 * 1_000_000_000


def _reason(code: str, severity: Severity, detail: str) -> Reason:
    return Reason(code=code, severity=severity, detail=detail)


HOURLY: Final = _reason(
    "greeks_hourly", Severity.INFO, "Tradier's greeks are refreshed about once an hour"
)
PUT_CORRECTED: Final = _reason(
    "greeks_corrected", Severity.INFO, "theta and rho follow from the call's by parity"
)
PUT_WITHHELD: Final = _reason(
    "greeks_withheld",
    Severity.WARNING,
    "Tradier gives the call's theta and rho, and without spot and rate they stay out",
)
STALE_0DTE: Final = _reason(
    "greeks_stale_0dte", Severity.WARNING, "expires today, with greeks of an earlier day"
)
MISSING: Final = _reason("greeks_missing", Severity.INFO, "Tradier gives no greeks for it")
IV_SMOOTHED: Final = _reason(
    "iv_smoothed", Severity.INFO, "no volatility solves both sides: the strike's smoothed one"
)
IV_UNSOLVED: Final = _reason("iv_unsolved", Severity.INFO, "Tradier found no volatility")

_Number = float | str | None


class GreeksBlock(msgspec.Struct):
    """The `greeks` member of a row, as it comes."""

    delta: _Number = None
    gamma: _Number = None
    theta: _Number = None
    vega: _Number = None
    rho: _Number = None
    phi: _Number = None
    bid_iv: _Number = None
    mid_iv: _Number = None
    ask_iv: _Number = None
    smv_vol: _Number = None
    updated_at: str | None = None


class Carry(NamedTuple):
    """What holding the underlying costs: its price, and both rates as fractions a year."""

    spot: float
    rate: float
    dividend_yield: float = 0.0


class Sensitivities(NamedTuple):
    """What differs between the call and the put of a strike, in the units of the module."""

    theta: float | None
    rho: float | None
    phi: float | None


class Reading(NamedTuple):
    """What a block says once it is made true, and the reasons to trust it less."""

    greeks: Greeks | None
    implied_volatility: float | None
    reasons: tuple[Reason, ...]


def put_from_call(
    call: Sensitivities, *, strike: float, years: float, carry: Carry
) -> Sensitivities:
    """Return the put's sensitivities, given the call's of the same strike and expiration."""
    owed = strike * math.exp(-carry.rate * years)
    held = carry.spot * math.exp(-carry.dividend_yield * years)
    decay = (carry.rate * owed - carry.dividend_yield * held) / _DAYS_A_YEAR
    return Sensitivities(
        theta=None if call.theta is None else call.theta + decay,
        rho=None if call.rho is None else call.rho - years * owed / 100,
        phi=None if call.phi is None else call.phi + years * held / 100,
    )


@lru_cache(maxsize=1024)
def expiry_ns(expiration: date) -> int:
    """Return the close in New York on the day; 16:00 where the exchange calendar ends."""
    try:
        day = trading_day(expiration)
    except InvalidRequest:
        day = None
    return instant_ns(expiration, CLOSE) if day is None else day.close_ns


def years_to(expiration: date, at_ns: int) -> float:
    """Return the years of 365 days from an instant to the close on the expiration; 0 after it."""
    return max(0, expiry_ns(expiration) - at_ns) / _YEAR_NS


@lru_cache(maxsize=256)
def updated_ns(text: str | None) -> int | None:
    """Read `updated_at`: UTC, though it does not say so."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def choose_iv(block: GreeksBlock) -> tuple[float | None, Reason | None]:
    """Pick the volatility to believe, as a fraction, and what to say about the choice.

    `mid_iv` is the mean of those of bid and ask, and only means anything with a bid;
    then the volatility smoothed over the strikes. 0.0 is "no solution".
    """
    mid, bid, smoothed = number(block.mid_iv), number(block.bid_iv), number(block.smv_vol)
    if mid is not None and mid > 0 and bid is not None and bid > 0:
        return mid, None
    if smoothed is not None and smoothed > 0:
        return smoothed, IV_SMOOTHED
    return None, IV_UNSOLVED


def read_greeks(
    block: GreeksBlock | None,
    *,
    contract_type: ContractType,
    strike: float,
    expiration: date,
    received_ns: int,
    carry: Carry | None = None,
) -> Reading:
    """Make the block of one row true, and say what was done and what is doubtful."""
    if block is None:
        return Reading(None, None, (MISSING,))
    event_ns = updated_ns(block.updated_at)
    reasons = [HOURLY]
    said = Sensitivities(number(block.theta), number(block.rho), number(block.phi))
    if contract_type is ContractType.PUT:
        if carry is None:
            said, remark = Sensitivities(None, None, None), PUT_WITHHELD
        else:
            years = years_to(expiration, received_ns if event_ns is None else event_ns)
            said = put_from_call(said, strike=strike, years=years, carry=carry)
            remark = PUT_CORRECTED
        reasons.append(remark)
    if _is_stale_0dte(expiration, event_ns, received_ns):
        reasons.append(STALE_0DTE)
    volatility, doubt = choose_iv(block)
    if doubt is not None:
        reasons.append(doubt)
    greeks = Greeks(
        delta=number(block.delta),
        gamma=number(block.gamma),
        theta=said.theta,
        vega=number(block.vega),
        rho=said.rho,
        provider="tradier",
        source=Source.REST,
        event_ns=event_ns,
    )
    return Reading(greeks, volatility, tuple(reasons))


_day = lru_cache(maxsize=16)(new_york_date)  # one for all rows of an answer


def _is_stale_0dte(expiration: date, event_ns: int | None, received_ns: int) -> bool:
    """Tell whether a contract that expires today carries an earlier day's values."""
    if expiration != _day(received_ns):
        return False
    return event_ns is None or new_york_date(event_ns) < expiration
