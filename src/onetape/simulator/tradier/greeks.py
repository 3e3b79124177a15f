"""Tradier's Greeks: what ORATS thinks, about once an hour.

    open ── refreshed ── each full hour (UTC) ── refreshed at the close ── until the next open
    expiring today: those of the close before, all day, if the policy says so

A row's own volatilities are those that its bid and its ask imply; everything else is the
call's of its strike, but for a put's delta.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from onetape import calendar
from onetape.simulator.market import Contract, Market, OptionModel
from onetape.simulator.seeded.noise import Floats
from onetape.simulator.seeded.pricing import Terms, black
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.request import NS_PER_S
from onetape.simulator.tradier.rows import Greeks

LAG_NS: Final = 7 * NS_PER_S
"""How long after its instant a refresh is told."""
_HOUR_NS: Final = 3600 * NS_PER_S
_DAYS_BACK: Final = 7
_NO_TIME_VALUE: Final = 0.005
_MOST_VOLATILITY: Final = 5.0
_STEPS: Final = 40
_LATE: Final = 10


def refreshed_ns(market: Market, t_ns: int, policy: TradierPolicy, *, frozen: bool) -> int | None:
    """Return the newest instant whose Greeks are told by `t_ns`; None before the first of all."""
    today = market.market_date(t_ns)
    found = None if frozen else _of_day(market, today, t_ns, policy)
    return _close_before(market, today, t_ns) if found is None else found


def _of_day(market: Market, day: date, t_ns: int, policy: TradierPolicy) -> int | None:
    bounds = market.session_bounds(day)
    if bounds is None:
        return None
    open_ns, close_ns = bounds
    hours = range(open_ns // _HOUR_NS + 1, -(-close_ns // _HOUR_NS))
    instants = [open_ns, *(hour * _HOUR_NS for hour in hours), close_ns]
    if policy.late_greeks:
        least_ns = calendar.instant_ns(day, calendar.OPEN.replace(hour=_LATE, minute=0))
        instants = [at_ns for at_ns in instants if at_ns >= least_ns]
    return max((at_ns for at_ns in instants if at_ns + LAG_NS <= t_ns), default=None)


def _close_before(market: Market, day: date, t_ns: int) -> int | None:
    for back in range(1, _DAYS_BACK + 1):
        bounds = market.session_bounds(day - timedelta(days=back))
        if bounds is not None and bounds[1] + LAG_NS <= t_ns:
            return bounds[1]
    return None


def greeks_of(
    market: Market, contracts: Sequence[Contract], t_ns: int, policy: TradierPolicy
) -> list[Greeks | None]:
    """Return what is told by `t_ns` of contracts of one underlying and expiration."""
    if not contracts:
        return []
    frozen = policy.zero_dte_frozen and contracts[0].expiration == market.market_date(t_ns)
    at_ns = refreshed_ns(market, t_ns, policy, frozen=frozen)
    model = None if at_ns is None else market.option_model(contracts, at_ns)
    if at_ns is None or model is None:
        return [None] * len(contracts)
    told = datetime.fromtimestamp((at_ns + LAG_NS) // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return _blocks(model, told)


def _blocks(model: OptionModel, updated_at: str) -> list[Greeks | None]:
    shown = model.time_value >= _NO_TIME_VALUE
    bids = np.array([0.0 if quote is None else quote.bid for quote in model.quotes])
    asks = np.array([0.0 if quote is None else quote.ask for quote in model.quotes])
    bid_iv = np.where(shown, implied(model, bids), 0.0)
    ask_iv = np.where(shown, implied(model, asks), 0.0)
    mid_iv = np.where((bid_iv > 0) & (ask_iv > 0), (bid_iv + ask_iv) / 2, ask_iv)
    call_delta = np.rint(model.delta * 1e4) / 1e4
    columns = (
        np.where(model.sign > 0, call_delta, np.rint((call_delta - 1) * 1e4) / 1e4),
        np.rint(model.gamma * 1e5) / 1e5,
        *(np.rint(one * 1e4) / 1e4 for one in (model.theta, model.vega, model.rho, model.phi)),
        *(np.rint(one * 1e6) / 1e6 for one in (bid_iv, mid_iv, ask_iv)),
        np.rint(model.deviation / np.sqrt(model.years) * 1e3) / 1e3,
    )
    rows = zip(model.quotes, *(column.tolist() for column in columns), strict=True)
    return [None if quote is None else _block(values, updated_at) for quote, *values in rows]


def _block(values: list[float], updated_at: str) -> Greeks:
    delta, gamma, theta, vega, rho, phi, bid_iv, mid_iv, ask_iv, smv_vol = values
    return Greeks(
        delta=delta,
        gamma=gamma,
        theta=theta,
        vega=vega,
        rho=rho,
        phi=phi,
        bid_iv=bid_iv,
        mid_iv=mid_iv,
        ask_iv=ask_iv,
        smv_vol=smv_vol,
        updated_at=updated_at,
    )


def implied(model: OptionModel, prices: Floats) -> Floats:
    """Return the volatilities that prices imply; 0 where there is none."""
    root = np.sqrt(model.years)
    low, high = np.full(len(prices), 1e-6), _MOST_VOLATILITY * root
    for _ in range(_STEPS):
        middle = (low + high) / 2
        terms = Terms(model.forward, model.strike, middle, model.discount, model.sign)
        below = black(terms) < prices
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    sure = model.discount * np.maximum(model.sign * (model.forward - model.strike), 0.0)
    solved = (prices > sure + 1e-4) & (high < _MOST_VOLATILITY * root)
    return np.where(solved, (low + high) / 2 / root, 0.0)
