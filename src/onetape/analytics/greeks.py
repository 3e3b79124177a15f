"""What a European option should be worth, its Greeks, and the volatility in its price.

Black-Scholes-Merton: the underlying pays a continuous dividend yield, rates are
continuously compounded fractions a year, and a year has 365 days.

    Terms ──▶ sensitivities(volatility)      value, delta, gamma, theta, vega, rho
      │
      └─────▶ implied_volatility(price)      the volatility, or why there is none
                  ▲
    a snapshot ───┴──▶ computed_greeks       both, from the middle of bid and ask

**No rate is invented.** The caller passes `rate` and `dividend_yield`. When the yield is
unknown, or the underlying is no traded asset (VIX), `implied_forward` reads the forward
from calls and puts by their parity, and with it the yield that belongs to the rate passed.
Then what is left of the rate is discounting only: a whole percentage point of it moves
the value of an option of 30 days by less than 0.1 %.

**Early exercise is not modelled.** Options on stocks and funds are American. Out of the
money the difference is small; in the money the price may hold a premium for the right to
exercise, which a European model takes for volatility. `computed_greeks` then says
`early_exercise`: read the volatility as an upper bound.
"""

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from functools import lru_cache
from math import exp, inf, isfinite, log, pi, sqrt
from sys import float_info
from typing import Final, NamedTuple

from onetape import calendar
from onetape.analytics.black import deviation_of, normal_cdf, share_of
from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot, Quote
from onetape.provenance import Source

DAYS_A_YEAR: Final = 365
YEAR_NS: Final = DAYS_A_YEAR * 86_400 * 1_000_000_000

MORNING_ROOTS: Final = frozenset({"SPX", "NDX", "RUT", "VIX", "VIXW", "DJX", "RUI", "RLG", "RLV"})
"""Roots settled by the opening prices of their last date: they do not trade on it."""

_ROOT_2PI: Final = sqrt(2 * pi)
_CALL: Final = ContractType.CALL

# Beyond these no market is; within them no power or quotient overflows.
_PRICE_MIN: Final = 1e-9
_PRICE_MAX: Final = 1e15
_EXPONENT_MAX: Final = 100.0
_DEVIATION_MIN: Final = 1e-40
_DEVIATION_MAX: Final = 1e40
_SHARE_MIN: Final = 1e-30
"""Per unit of the underlying: what is cheaper than this is worth nothing."""


class Doubt(StrEnum):
    """Why there is no volatility, or why to take it with care. The codes are public."""

    BAD_INPUT = "bad_input"
    """A number that is not finite, a strike or an underlying price not above 0."""
    NO_UNDERLYING = "no_underlying"
    """The price of the underlying is not known."""
    ADJUSTED = "adjusted"
    """A corporate action changed what is delivered: the underlying's price is not its worth."""
    EXPIRED = "expired"
    NO_BID = "no_bid"
    NO_ASK = "no_ask"
    CROSSED = "crossed"
    BELOW_INTRINSIC = "below_intrinsic"
    """Cheaper than the forward allows whatever the volatility: old, wide or American quotes."""
    NO_TIME_VALUE = "no_time_value"
    """Worth what it is without volatility, as far as a float can tell: any small one will do."""
    ABOVE_BOUND = "above_bound"
    """Dearer than the underlying (a call) or the strike (a put)."""
    EARLY_EXERCISE = "early_exercise"
    """Care: an American option worth more exercised than a European one may be worth kept."""


class Terms(NamedTuple):
    """What the value of an option depends on, its volatility aside."""

    contract_type: ContractType
    spot: float
    strike: float
    years: float
    rate: float
    dividend_yield: float


class Sensitivities(NamedTuple):
    """The value of an option and how it moves, in the units of `model.Greeks`.

    `phi` is per percentage point of dividend yield.
    """

    value: float
    delta: float
    gamma: float
    theta: float
    vega: float
    rho: float
    phi: float


class Implied(NamedTuple):
    """A volatility, as a fraction a year, or why there is none."""

    volatility: float | None
    doubt: Doubt | None = None


class ImpliedQuote(NamedTuple):
    """The volatilities in the bid, the middle and the ask."""

    bid: Implied
    mid: Implied
    ask: Implied


class ComputedGreeks(NamedTuple):
    """What we made of a snapshot; both None when the reasons say that it cannot be done."""

    greeks: Greeks | None
    implied_volatility: float | None
    reasons: tuple[Doubt, ...]


class ParityGap(NamedTuple):
    """What a call has more than the put of its strike, whatever the volatility."""

    value: float
    delta: float
    theta: float
    rho: float
    phi: float


class ImpliedForward(NamedTuple):
    """The forward price in calls and puts, and the bounds that their bids and asks leave.

    `low` above `high` means that the quotes contradict each other: some are old.
    """

    forward: float
    low: float
    high: float
    pairs: int
    years: float
    rate: float

    def dividend_yield(self, spot: float) -> float:
        """Return the yield that leads from the spot to the forward at the rate.

        Raises:
            ValueError: When either is not above 0.
        """
        return self.rate - log(self.forward / spot) / self.years


# ---- time ----


def expires_ns(contract: OptionContract) -> int:
    """Return when the value of a contract is settled.

    That is the close of its last session: 16:00 in New York, 13:00 on a half day, also for
    index options, which trade until 16:15 on every day but their last. Roots settled in the
    morning (`MORNING_ROOTS`) end at 09:30. A last date without a session means the session
    before. Outside the exchange calendar every day is taken for a whole session.
    """
    return _settled_ns(contract.expiration, contract.root in MORNING_ROOTS)


def years_to_expiry(contract: OptionContract, now_ns: int) -> float:
    """Return the years of 365 days until a contract is settled; negative afterwards."""
    return (expires_ns(contract) - now_ns) / YEAR_NS


@lru_cache(maxsize=1024)
def _settled_ns(expiration: date, morning: bool) -> int:  # noqa: FBT001 - the key of a cache
    if not calendar.FIRST_DAY <= expiration <= calendar.LAST_DAY:
        return calendar.instant_ns(expiration, calendar.OPEN if morning else calendar.CLOSE)
    day = calendar.trading_day(expiration)
    if day is None:
        day = calendar.trading_day(calendar.previous_session(expiration))
        assert day is not None, "a session has edges"
    return day.open_ns if morning else day.close_ns


def terms_of(
    contract: OptionContract, *, spot: float, rate: float, dividend_yield: float, now_ns: int
) -> Terms:
    """Return what the value of a contract depends on at an instant."""
    years = years_to_expiry(contract, now_ns)
    return Terms(contract.contract_type, spot, contract.strike, years, rate, dividend_yield)


# ---- the model ----


def sensitivities(terms: Terms, volatility: float) -> Sensitivities:
    """Return the value and the Greeks.

    Raises:
        ValueError: When a number is not finite, or any but the rates is not above 0.
    """
    deviation = _deviation(terms, volatility)
    if not deviation >= _DEVIATION_MIN:
        raise ValueError("without time or volatility an option has a value but no Greeks")
    contract_type, spot, strike, years, rate, dividend_yield = terms
    sign = 1.0 if contract_type is _CALL else -1.0
    kept = spot * exp(-dividend_yield * years)
    owed = strike * exp(-rate * years)
    d1 = (log(spot / strike) + (rate - dividend_yield) * years) / deviation + 0.5 * deviation
    density = exp(-0.5 * d1 * d1) / _ROOT_2PI
    asset = sign * kept * normal_cdf(sign * d1)
    cash = sign * owed * normal_cdf(sign * (d1 - deviation))
    vega = kept * density * sqrt(years)
    decay = 0.5 * vega * volatility / years
    return Sensitivities(
        value=_value(terms, deviation),
        delta=asset / spot,
        gamma=kept * density / (spot * spot * deviation),
        theta=(dividend_yield * asset - rate * cash - decay) / DAYS_A_YEAR,
        vega=vega / 100,
        rho=years * cash / 100,
        phi=-years * asset / 100,
    )


def value(terms: Terms, volatility: float) -> float:
    """Return what an option is worth; without time or volatility, what the forward leaves.

    Raises:
        ValueError: When a number is not finite, the spot or the strike not above 0, or the
            time or the volatility below 0.
    """
    return _value(terms, _deviation(terms, volatility))


def parity_gap(terms: Terms) -> ParityGap:
    """Return what a call has more than the put of its strike; gamma and vega are the same.

    A vendor that shows the call's theta, rho and phi on puts is corrected by subtracting
    these. Holds for European options.

    Raises:
        ValueError: When a number is not finite, or the spot or the strike not above 0.
    """
    if not _is_sound(terms):
        raise ValueError("an option has a price and a strike above 0")
    _, spot, strike, years, rate, dividend_yield = terms
    kept, owed = spot * exp(-dividend_yield * years), strike * exp(-rate * years)
    return ParityGap(
        value=kept - owed,
        delta=kept / spot,
        theta=(dividend_yield * kept - rate * owed) / DAYS_A_YEAR,
        rho=years * owed / 100,
        phi=-years * kept / 100,
    )


def implied_forward(
    calls: Iterable[OptionSnapshot],
    puts: Iterable[OptionSnapshot],
    *,
    rate: float,
    now_ns: int,
    strikes: int = 7,
) -> ImpliedForward | None:
    """Read the forward from the calls and puts of one root and expiration.

    By parity a call less the put of its strike is worth the discounted difference between
    forward and strike. The median over the strikes nearest to the money is taken, so that a
    wrong quote does not count. On American options parity holds only nearly, so the nearest
    strikes are the ones to trust. None without a strike that has both, two-sided and not
    crossed, or after the expiration.

    Raises:
        ValueError: When the contracts are of several roots or expirations.
    """
    calls, puts = tuple(calls), tuple(puts)
    if len({(one.contract.root, one.contract.expiration) for one in calls + puts}) > 1:
        raise ValueError("a forward belongs to one root and one expiration")
    gaps = _gaps(calls, puts)
    years = years_to_expiry(calls[0].contract, now_ns) if gaps else 0.0
    if years <= 0:
        return None
    growth = exp(rate * years)
    nearest = sorted(gaps, key=lambda gap: abs(gap.low + gap.high))[:strikes]
    lows = [gap.strike + growth * gap.low for gap in nearest]
    highs = [gap.strike + growth * gap.high for gap in nearest]
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    return ImpliedForward(_median(middles), max(lows), min(highs), len(middles), years, rate)


# ---- volatility from prices ----


def implied_volatility(terms: Terms, price: float) -> Implied:
    """Return the volatility at which the option is worth the price.

    Put into `value` it gives back the price to 1 part in 10^10. It takes microseconds. A
    price in the money that is all but its intrinsic value still has a volatility, but one
    that the next cent moves far: look at vega.
    """
    if not (_is_sound(terms) and isfinite(price)):
        return Implied(None, Doubt.BAD_INPUT)
    contract_type, spot, strike, years, rate, dividend_yield = terms
    if years <= 0:
        return Implied(None, Doubt.EXPIRED)
    forward = spot * exp((rate - dividend_yield) * years)
    undiscounted = price * exp(rate * years)
    if undiscounted >= (forward if contract_type is _CALL else strike):
        return Implied(None, Doubt.ABOVE_BOUND)
    # By parity an option in the money is the one out of the money on the other side, and
    # what it would be worth if nothing moved.
    sure = forward - strike if contract_type is _CALL else strike - forward
    blur = 0.0
    if sure > 0:
        undiscounted -= sure
        blur = 4 * float_info.epsilon * (forward + strike)
    smaller = min(forward, strike)
    share = undiscounted / smaller
    if undiscounted < -blur:
        return Implied(None, Doubt.BELOW_INTRINSIC)
    if undiscounted <= blur or share < _SHARE_MIN:
        return Implied(None, Doubt.NO_TIME_VALUE)
    rest = (smaller - undiscounted) / smaller
    if rest <= float_info.epsilon:
        return Implied(None, Doubt.ABOVE_BOUND)
    distance = abs(log(spot / strike) + (rate - dividend_yield) * years)
    return Implied(deviation_of(distance, share, rest) / sqrt(years))


def implied_quote(terms: Terms, bid: float | None, ask: float | None) -> ImpliedQuote:
    """Return the volatilities in a quote; that of the middle is in the middle of the prices.

    A bid of 0 is no bid: the middle of nothing and an ask is nobody's price.
    """
    return ImpliedQuote(
        bid=Implied(None, Doubt.NO_BID) if not bid else implied_volatility(terms, bid),
        mid=_implied_middle(terms, bid, ask),
        ask=Implied(None, Doubt.NO_ASK) if not ask else implied_volatility(terms, ask),
    )


def computed_greeks(
    snapshot: OptionSnapshot,
    *,
    underlying_price: float | None,
    rate: float,
    dividend_yield: float,
    now_ns: int,
) -> ComputedGreeks:
    """Compute volatility and Greeks from the middle of a contract's bid and ask.

    They are as old as that quote: `event_ns` is its. Whether it is fresh, and as fresh as
    the underlying's price, is for the caller to see to.
    """
    contract, quote = snapshot.contract, snapshot.quote
    if contract.root[-1:].isdigit():
        return ComputedGreeks(None, None, (Doubt.ADJUSTED,))
    if underlying_price is None:
        return ComputedGreeks(None, None, (Doubt.NO_UNDERLYING,))
    terms = terms_of(
        contract, spot=underlying_price, rate=rate, dividend_yield=dividend_yield, now_ns=now_ns
    )
    volatility, doubt = _implied_middle(terms, quote.bid, quote.ask)
    if volatility is None:
        return ComputedGreeks(None, None, () if doubt is None else (doubt,))
    found = sensitivities(terms, volatility)
    greeks = Greeks(
        delta=found.delta,
        gamma=found.gamma,
        theta=found.theta,
        vega=found.vega,
        rho=found.rho,
        provider=quote.provider,
        source=Source.COMPUTED,
        event_ns=quote.event_ns,
    )
    care = (Doubt.EARLY_EXERCISE,) if _may_be_exercised(contract, terms) else ()
    return ComputedGreeks(greeks, volatility, care)


def _implied_middle(terms: Terms, bid: float | None, ask: float | None) -> Implied:
    if terms.years <= 0:
        return Implied(None, Doubt.EXPIRED)
    if not bid:
        return Implied(None, Doubt.NO_BID)
    if not ask:
        return Implied(None, Doubt.NO_ASK)
    if bid > ask:
        return Implied(None, Doubt.CROSSED)
    return implied_volatility(terms, (bid + ask) / 2)


def _may_be_exercised(contract: OptionContract, terms: Terms) -> bool:
    if contract.exercise_style is None:
        european = contract.underlying.startswith("I:") and contract.root != "OEX"
    else:
        european = contract.exercise_style == "european"
    if european:
        return False
    sign = 1.0 if terms.contract_type is _CALL else -1.0
    return sign * (terms.spot - terms.strike) > max(sign * parity_gap(terms).value, 0.0)


# ---- parity ----


class _Gap(NamedTuple):
    """What a call less the put of its strike can be bought and sold for."""

    strike: float
    low: float
    high: float


def _gaps(calls: Iterable[OptionSnapshot], puts: Iterable[OptionSnapshot]) -> list[_Gap]:
    sides = {put.contract.strike: _sides(put.quote) for put in puts}
    gaps: list[_Gap] = []
    for call in calls:
        strike = call.contract.strike
        of_call, of_put = _sides(call.quote), sides.get(strike)
        if of_call and of_put:
            gaps.append(_Gap(strike, of_call[0] - of_put[1], of_call[1] - of_put[0]))
    return gaps


def _sides(quote: Quote) -> tuple[float, float] | None:
    bid, ask = quote.bid, quote.ask
    return (bid, ask) if bid and ask and 0 < bid <= ask else None


def _median(values: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


# ---- shared ----


def _is_sound(terms: Terms) -> bool:
    # A comparison with NaN is false: this also finds what is not finite.
    _, spot, strike, years, rate, dividend_yield = terms
    return (
        _PRICE_MIN <= spot <= _PRICE_MAX
        and _PRICE_MIN <= strike <= _PRICE_MAX
        and -inf < years < inf
        and abs(rate * years) <= _EXPONENT_MAX
        and abs(dividend_yield * years) <= _EXPONENT_MAX
    )


def _deviation(terms: Terms, volatility: float) -> float:
    if _is_sound(terms) and terms.years >= 0:
        deviation = volatility * sqrt(terms.years)
        if 0 <= deviation <= _DEVIATION_MAX:
            return deviation
    raise ValueError("an option has a price and a strike above 0, time and volatility not below")


def _value(terms: Terms, deviation: float) -> float:
    contract_type, spot, strike, years, rate, dividend_yield = terms
    carry = (rate - dividend_yield) * years
    forward = spot * exp(carry)
    sure = forward - strike if contract_type is _CALL else strike - forward
    share = 0.0
    if deviation > 0:
        distance = abs(log(spot / strike) + carry)
        share = share_of(distance, exp(distance), deviation)
    return exp(-rate * years) * (max(sure, 0.0) + min(forward, strike) * max(share, 0.0))
