"""One contract of a chain: its terms, its quote, its liquidity, its Greeks.

    presence ─▶ quotes.BOOK ─▶ market ─▶ liquidity ─▶ Greeks, if any

The bounds of gamma, theta and vega are made for a strike of 100. They grow with the
strike, or for gamma as it falls, because the Greeks do: by fixed bounds every index
option and every cheap share would be suspect.
"""

from datetime import date
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot
from onetape.provenance import Ageing, Reason
from onetape.quality.quotes import BOOK, NUMBERS, both_ageings, has_numbers, numbers, quality_of
from onetape.quality.rules import (
    HUGE,
    INSTANT_MAX,
    Moment,
    Rules,
    is_instant,
    is_real,
    is_text,
    moment,
    unreal,
    unreal_or_missing,
)
from onetape.quality.score import DataClass, kept_notes

SPREAD_WIDE_PERCENT: Final = 20
SPREAD_EXTREME_PERCENT: Final = 50
GAMMA_HIGH: Final = 0.5
THETA_HIGH: Final = 2.0
VEGA_HIGH: Final = 1.0
IV_HIGH: Final = 3.0
IV_EXTREME: Final = 10.0
BOUNDS_STRIKE: Final = 100
"""The strike that the bounds of gamma, theta and vega are made for."""

# A spread of 0.2 about 1 comes out as a hair more than 20 %.
_WIDE: Final = SPREAD_WIDE_PERCENT + 1e-9
_EXTREME: Final = SPREAD_EXTREME_PERCENT + 1e-9

_CALL: Final = ContractType.CALL
_OWN_NUMBERS: Final = ("implied_volatility", "break_even")
_GREEKS: Final = ("delta", "gamma", "theta", "vega", "rho")
_TRADE_NUMBERS: Final = ("last_trade.price", "last_trade.size")
_greeks: Final = attrgetter(*_GREEKS)


def _symbol_missing(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return None if is_text(snapshot.contract.symbol) else ""


def _root_missing(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    contract = snapshot.contract
    return None if is_text(contract.root) and is_text(contract.underlying) else ""


def _strike_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    strike = snapshot.contract.strike
    return None if is_real(strike) and strike > 0 else ""


def _expiration_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return None if type(snapshot.contract.expiration) is date else ""


def _type_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return None if type(snapshot.contract.contract_type) is ContractType else ""


def _time_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    event_ns = snapshot.quote.event_ns
    if event_ns is not None and not is_instant(event_ns):
        return ""
    greeks = snapshot.greeks
    if greeks is None or greeks.event_ns is None or is_instant(greeks.event_ns):
        return None
    return "greeks"


def _not_a_number(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    greeks, trade = snapshot.greeks, snapshot.last_trade
    found = [
        unreal(NUMBERS, numbers(snapshot.quote)),
        unreal(_OWN_NUMBERS, (snapshot.implied_volatility, snapshot.break_even)),
        None if greeks is None else unreal(_GREEKS, _greeks(greeks)),
        None if trade is None else unreal_or_missing(_TRADE_NUMBERS, (trade.price, trade.size)),
    ]
    wrong = [names for names in found if names]
    return ", ".join(wrong) if wrong else None


def _is_present(snapshot: OptionSnapshot, _at: Moment) -> bool:
    contract, greeks, trade = snapshot.contract, snapshot.greeks, snapshot.last_trade
    volatility, break_even = snapshot.implied_volatility, snapshot.break_even
    symbol, root, underlying = contract.symbol, contract.root, contract.underlying
    return (
        has_numbers(snapshot.quote)
        and 0 < contract.strike < HUGE
        and type(contract.expiration) is date
        and type(contract.contract_type) is ContractType
        and type(snapshot.quote.event_ns) is int
        and 0 <= snapshot.quote.event_ns < INSTANT_MAX
        and type(symbol) is str
        and type(root) is str
        and type(underlying) is str
        and symbol != ""
        and root != ""
        and underlying != ""
        and (volatility is None or not volatility - volatility)
        and (break_even is None or not break_even - break_even)
        and (trade is None or not (trade.price - trade.price or trade.size - trade.size))
        and (greeks is None or _has_greeks(greeks))
    )


def _has_greeks(greeks: Greeks) -> bool:
    delta, gamma, theta, vega = greeks.delta, greeks.gamma, greeks.theta, greeks.vega
    return (
        (delta is None or not delta - delta)
        and (gamma is None or not gamma - gamma)
        and (theta is None or not theta - theta)
        and (vega is None or not vega - vega)
        and (greeks.rho is None or not greeks.rho - greeks.rho)
        and (greeks.event_ns is None or is_instant(greeks.event_ns))
    )


def _expired(snapshot: OptionSnapshot, at: Moment) -> str | None:
    expiration = snapshot.contract.expiration
    return expiration.isoformat() if expiration < at.today else None


def _quote_missing(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    quote = snapshot.quote
    return "" if quote.bid is None or quote.ask is None else None


def _last_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    trade, last = snapshot.last_trade, snapshot.quote.last
    if (trade is not None and trade.price <= 0) or (last is not None and last <= 0):
        return ""
    return None


def _spread_percent(snapshot: OptionSnapshot) -> float | None:
    """Return the spread in percent of the middle; None where it says nothing.

    Without a bid it is always 200 %, and that nobody bids is a reason of its own.
    """
    bid, ask = snapshot.quote.bid, snapshot.quote.ask
    if bid is None or ask is None or bid <= 0 or ask <= bid:
        return None
    return 200 * (ask - bid) / (ask + bid)


def _spread_wide(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    percent = _spread_percent(snapshot)
    if percent is None or not _WIDE < percent <= _EXTREME:
        return None
    return f"{percent:.0f} %"


def _spread_extreme(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    percent = _spread_percent(snapshot)
    return None if percent is None or percent <= _EXTREME else f"{percent:.0f} %"


def _is_tradable(snapshot: OptionSnapshot, at: Moment) -> bool:
    quote, trade = snapshot.quote, snapshot.last_trade
    bid, ask, last, volatility = quote.bid, quote.ask, quote.last, snapshot.implied_volatility
    return (
        bid is not None
        and ask is not None
        and (bid == 0 or 200 * (ask - bid) <= SPREAD_WIDE_PERCENT * (ask + bid))
        and snapshot.contract.expiration >= at.today
        and (trade is None or trade.price > 0)
        and (last is None or last > 0)
        and (volatility is None or 0 <= volatility <= IV_HIGH)
    )


def _no_volume(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return "" if snapshot.volume == 0 else None


def _volume_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return _count_invalid(snapshot.volume) or _count_invalid(snapshot.quote.volume)


def _no_open_interest(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return "" if snapshot.open_interest == 0 else None


def _open_interest_invalid(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    return _count_invalid(snapshot.open_interest)


def _count_invalid(count: float | None) -> str | None:
    if count is None:
        return None
    if not is_real(count):
        return "not a number"
    return f"{count:g}" if count < 0 else None


def _is_liquid(snapshot: OptionSnapshot, _at: Moment) -> bool:
    volume, of_quote, interest = snapshot.volume, snapshot.quote.volume, snapshot.open_interest
    return (
        (volume is None or 0 < volume < HUGE)
        and (of_quote is None or 0 <= of_quote < HUGE)
        and (interest is None or 0 < interest < HUGE)
    )


def _iv_negative(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    volatility = snapshot.implied_volatility
    return f"{volatility:g}" if volatility is not None and volatility < 0 else None


def _iv_high(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    volatility = snapshot.implied_volatility
    return (
        f"{volatility:g}" if volatility is not None and IV_HIGH < volatility <= IV_EXTREME else None
    )


def _iv_extreme(snapshot: OptionSnapshot, _at: Moment) -> str | None:
    volatility = snapshot.implied_volatility
    return f"{volatility:g}" if volatility is not None and volatility > IV_EXTREME else None


class Exposure(NamedTuple):
    """The Greeks of a contract with what their bounds depend on."""

    greeks: Greeks
    strike: float
    is_call: bool


def _delta_range(exposure: Exposure, _at: Moment) -> str | None:
    delta = exposure.greeks.delta
    return f"{delta:g}" if delta is not None and not -1 <= delta <= 1 else None


def _delta_sign(exposure: Exposure, _at: Moment) -> str | None:
    delta = exposure.greeks.delta
    if not delta:  # missing, or far out of the money, where it is 0
        return None
    return f"{delta:g}" if (delta < 0) is exposure.is_call else None


def _gamma_negative(exposure: Exposure, _at: Moment) -> str | None:
    gamma = exposure.greeks.gamma
    return f"{gamma:g}" if gamma is not None and gamma < 0 else None


def _gamma_high(exposure: Exposure, _at: Moment) -> str | None:
    gamma = exposure.greeks.gamma
    if gamma is None or gamma <= GAMMA_HIGH * max(1.0, BOUNDS_STRIKE / exposure.strike):
        return None
    return f"{gamma:g}"


def _theta_range(exposure: Exposure, _at: Moment) -> str | None:
    theta = exposure.greeks.theta
    if theta is None or abs(theta) <= THETA_HIGH * max(1.0, exposure.strike / BOUNDS_STRIKE):
        return None
    return f"{theta:g}"


def _vega_range(exposure: Exposure, _at: Moment) -> str | None:
    vega = exposure.greeks.vega
    if vega is None or 0 <= vega <= VEGA_HIGH * max(1.0, exposure.strike / BOUNDS_STRIKE):
        return None
    return f"{vega:g}"


def _is_usual(greeks: Greeks, terms: OptionContract) -> bool:
    """Tell what `normal` of a table tells, before an exposure is made."""
    delta, gamma, theta, vega = greeks.delta, greeks.gamma, greeks.theta, greeks.vega
    strike = terms.strike
    times = strike / BOUNDS_STRIKE if strike > BOUNDS_STRIKE else 1.0
    return (
        (delta is None or (0 <= delta <= 1 if terms.contract_type is _CALL else -1 <= delta <= 0))
        and (gamma is None or 0 <= gamma <= GAMMA_HIGH)
        and (theta is None or abs(theta) <= THETA_HIGH * times)
        and (vega is None or 0 <= vega <= VEGA_HIGH * times)
    )


PRESENCE: Final = Rules[OptionSnapshot](
    {
        "symbol_missing": _symbol_missing,
        "root_missing": _root_missing,
        "strike_invalid": _strike_invalid,
        "expiration_invalid": _expiration_invalid,
        "type_invalid": _type_invalid,
        "time_invalid": _time_invalid,
        "not_a_number": _not_a_number,
    },
    normal=_is_present,
)
MARKET: Final = Rules[OptionSnapshot](
    {
        "expired": _expired,
        "quote_missing": _quote_missing,
        "spread_wide": _spread_wide,
        "spread_extreme": _spread_extreme,
        "last_invalid": _last_invalid,
        "iv_negative": _iv_negative,
        "iv_high": _iv_high,
        "iv_extreme": _iv_extreme,
    },
    normal=_is_tradable,
)
LIQUIDITY: Final = Rules[OptionSnapshot](
    {
        "no_volume": _no_volume,
        "volume_invalid": _volume_invalid,
        "no_open_interest": _no_open_interest,
        "open_interest_invalid": _open_interest_invalid,
    },
    normal=_is_liquid,
)
GREEKS: Final = Rules[Exposure](
    {
        "delta_range": _delta_range,
        "delta_sign": _delta_sign,
        "gamma_negative": _gamma_negative,
        "gamma_high": _gamma_high,
        "theta_range": _theta_range,
        "vega_range": _vega_range,
    }
)


def contract_reasons(snapshot: OptionSnapshot, at: Moment) -> tuple[Reason, ...]:
    """Return what the rules find in a contract."""
    missing = PRESENCE.find(snapshot, at)
    if missing:
        return missing
    found = BOOK.find(snapshot.quote, at) + MARKET.find(snapshot, at) + LIQUIDITY.find(snapshot, at)
    greeks, terms = snapshot.greeks, snapshot.contract
    if greeks is None or _is_usual(greeks, terms):
        return found
    return found + GREEKS.find(Exposure(greeks, terms.strike, terms.contract_type is _CALL), at)


def judge_contract(
    snapshot: OptionSnapshot,
    *,
    now_ns: int,
    market_open: bool,
    notes: tuple[Reason, ...] = (),
) -> OptionSnapshot:
    """Return a contract with its quality.

    Args:
        snapshot: The contract; notes and the fallback reason of a quality it has are kept.
        now_ns: The time; an exchange's time ahead of it is an error.
        market_open: Whether it trades now; while it does not, nothing ages.
        notes: What the source has to say, from `reasons.NOTES`.
    """
    at = moment(now_ns)
    ages = both_ageings(DataClass.QUOTE, now_ns=now_ns, market_open=market_open)
    return with_verdict(snapshot, contract_reasons(snapshot, at), ages, notes)


def with_verdict(
    snapshot: OptionSnapshot,
    reasons: tuple[Reason, ...],
    ages: tuple[Ageing | None, Ageing | None],
    notes: tuple[Reason, ...] = (),
) -> OptionSnapshot:
    """Return the contract with the quality that follows from what was found."""
    greeks, before = snapshot.greeks, snapshot.quality
    if notes or before is not None:
        reasons += kept_notes(before, notes)
    quality = quality_of(
        snapshot.quote,
        reasons,
        ages[bool(snapshot.quote.delayed)],
        before=before,
        greeks_ns=None if greeks is None else greeks.event_ns,
    )
    return msgspec.structs.replace(snapshot, quality=quality)
