"""The model against a textbook, against differences, and against itself backwards."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from math import exp, inf, isfinite, log, nan
from statistics import median
from time import perf_counter
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings, strategies as st

from onetape.analytics.greeks import (
    DAYS_A_YEAR,
    YEAR_NS,
    Doubt,
    Sensitivities,
    Terms,
    computed_greeks,
    expires_ns,
    implied_forward,
    implied_quote,
    implied_volatility,
    parity_gap,
    sensitivities,
    terms_of,
    value,
    years_to_expiry,
)
from onetape.model import ContractType, OptionContract, OptionSnapshot, Quote
from onetape.provenance import Source

CALL, PUT = ContractType.CALL, ContractType.PUT
TEXTBOOK = Terms(CALL, spot=42, strike=40, years=0.5, rate=0.1, dividend_yield=0)

kinds = st.sampled_from([CALL, PUT])
volatilities = st.floats(0.02, 4)
sound_terms = st.builds(
    Terms,
    contract_type=kinds,
    spot=st.floats(0.5, 20_000),
    strike=st.just(1.0),
    years=st.floats(-4, 1.0).map(lambda power: 10.0**power),
    rate=st.floats(-0.02, 0.15),
    dividend_yield=st.floats(-0.05, 0.12),
).flatmap(
    lambda terms: st.floats(0.5, 2).map(lambda ratio: terms._replace(strike=terms.spot * ratio))
)


def at(text: str) -> int:
    """The instant at which New York's clocks show a time."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))
    return int(moment.timestamp()) * 1_000_000_000


def contract(
    strike: float = 600,
    *,
    kind: ContractType = CALL,
    root: str = "SPXW",
    underlying: str = "I:SPX",
    expiration: date = date(2026, 3, 20),
    style: str | None = None,
) -> OptionContract:
    return OptionContract(
        symbol=f"{root} {kind} {strike}",
        root=root,
        underlying=underlying,
        expiration=expiration,
        strike=strike,
        contract_type=kind,
        exercise_style=style,
    )


def snapshot(of: OptionContract, bid: float | None, ask: float | None) -> OptionSnapshot:
    quote = Quote(symbol=of.symbol, event_ns=5, received_ns=6, provider="tradier", bid=bid, ask=ask)
    return OptionSnapshot(contract=of, quote=quote)


# ---- value ----


def test_a_textbook_example_comes_out_as_printed() -> None:
    """Hull, Options, Futures, and Other Derivatives: 42 on 40, half a year, 10 %, 20 %."""
    assert value(TEXTBOOK, 0.2) == pytest.approx(4.759422392871532, rel=1e-12)
    assert value(TEXTBOOK._replace(contract_type=PUT), 0.2) == pytest.approx(0.808599, abs=1e-6)


@given(sound_terms, volatilities)
def test_a_call_less_its_put_is_the_discounted_forward_less_the_strike(
    terms: Terms, volatility: float
) -> None:
    call = sensitivities(terms._replace(contract_type=CALL), volatility)
    put = sensitivities(terms._replace(contract_type=PUT), volatility)
    gap = parity_gap(terms)
    scale = 1e-12 * terms.spot * (1 + terms.years)

    assert call.value - put.value == pytest.approx(gap.value, abs=scale)
    assert call.delta - put.delta == pytest.approx(gap.delta, abs=1e-12)
    assert call.theta - put.theta == pytest.approx(gap.theta, abs=scale)
    assert call.rho - put.rho == pytest.approx(gap.rho, abs=scale)
    assert call.phi - put.phi == pytest.approx(gap.phi, abs=scale)
    assert (call.gamma, call.vega) == pytest.approx((put.gamma, put.vega), rel=1e-12)


@given(sound_terms, volatilities, st.floats(1.01, 3))
def test_more_volatility_never_makes_an_option_cheaper(
    terms: Terms, volatility: float, factor: float
) -> None:
    assert value(terms, volatility * factor) >= value(terms, volatility) * (1 - 1e-12)


def test_without_time_or_volatility_only_the_forward_counts() -> None:
    assert value(TEXTBOOK._replace(years=0), 0.2) == 2
    assert value(TEXTBOOK._replace(contract_type=PUT), 0) == 0
    assert value(TEXTBOOK, 0) == pytest.approx(42 - 40 * exp(-0.05))
    assert value(TEXTBOOK, 1e-250) == value(TEXTBOOK, 0)


# ---- Greeks ----


def slope(f: Callable[[float], float], x: float, step: float) -> float:
    """The derivative by differences, to the fourth order."""
    near, far = f(x + step) - f(x - step), f(x + 2 * step) - f(x - 2 * step)
    return (8 * near - far) / (12 * step)


TEN_POINTS = [
    Terms(kind, 100, strike, years, 0.045, 0.013)
    for kind in (CALL, PUT)
    for strike, years in ((80, 1.5), (100, 0.02), (101, 0.1), (120, 0.5), (170, 3.0))
]


@pytest.mark.parametrize("terms", TEN_POINTS)
def test_each_greek_is_the_slope_of_the_value(terms: Terms) -> None:
    volatility = 0.27
    found = sensitivities(terms, volatility)

    def moved(field: str, by: float) -> Callable[[float], float]:
        return lambda x: value(terms._replace(**{field: x}), volatility) / by

    assert found.value == value(terms, volatility)
    assert found.delta == pytest.approx(slope(moved("spot", 1), 100, 0.05), abs=1e-8)
    assert found.rho == pytest.approx(slope(moved("rate", 100), terms.rate, 1e-3), abs=1e-7)
    assert found.phi == pytest.approx(
        slope(moved("dividend_yield", 100), terms.dividend_yield, 1e-3), abs=1e-7
    )
    assert found.theta == pytest.approx(
        -slope(moved("years", DAYS_A_YEAR), terms.years, terms.years / 500), abs=1e-8
    )
    assert found.vega == pytest.approx(
        slope(lambda x: value(terms, x) / 100, volatility, 1e-3), abs=1e-8
    )
    assert found.gamma == pytest.approx(
        slope(lambda x: sensitivities(terms._replace(spot=x), volatility).delta, 100, 0.05),
        abs=1e-8,
    )


@given(sound_terms, volatilities)
def test_greeks_have_their_signs_and_bounds(terms: Terms, volatility: float) -> None:
    found = sensitivities(terms, volatility)
    sign = 1 if terms.contract_type is CALL else -1

    assert all(map(isfinite, found))
    assert 0 <= sign * found.delta <= exp(-terms.dividend_yield * terms.years) * (1 + 1e-12)
    assert found.gamma >= 0
    assert found.vega >= 0
    assert sign * found.rho >= 0
    assert sign * found.phi <= 0


def test_a_call_s_greeks_shown_on_a_put_are_corrected_by_the_gap() -> None:
    """W-61: Tradier shows the call's theta, rho and phi on puts."""
    terms = Terms(PUT, spot=5000, strike=400, years=1 / 12, rate=0.053, dividend_yield=0.014)
    call = sensitivities(terms._replace(contract_type=CALL), 0.9)
    gap = parity_gap(terms)

    put = sensitivities(terms, 0.9)

    assert put.theta == pytest.approx(call.theta - gap.theta, abs=1e-12)
    assert put.rho == pytest.approx(call.rho - gap.rho, abs=1e-12)
    assert put.phi == pytest.approx(call.phi - gap.phi, abs=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"spot": 0.0},
        {"spot": -1.0},
        {"spot": nan},
        {"strike": 0.0},
        {"strike": inf},
        {"rate": nan},
        {"rate": 1e300},
        {"dividend_yield": inf},
        {"years": nan},
        {"years": inf},
    ],
)
def test_what_is_no_option_is_refused(change: dict[str, float]) -> None:
    terms = TEXTBOOK._replace(**change)

    with pytest.raises(ValueError, match="above 0"):
        sensitivities(terms, 0.2)
    with pytest.raises(ValueError, match="above 0"):
        value(terms, 0.2)
    with pytest.raises(ValueError, match="above 0"):
        parity_gap(terms)
    assert implied_volatility(terms, 4.0) == (None, Doubt.BAD_INPUT)


def test_there_are_no_greeks_without_time_or_volatility() -> None:
    for terms, volatility in ((TEXTBOOK._replace(years=0), 0.2), (TEXTBOOK, 0.0)):
        with pytest.raises(ValueError, match="no Greeks"):
            sensitivities(terms, volatility)
    for terms, volatility in ((TEXTBOOK._replace(years=-1), 0.2), (TEXTBOOK, nan), (TEXTBOOK, -1)):
        with pytest.raises(ValueError, match="not below"):
            sensitivities(terms, volatility)


# ---- implied volatility ----


@settings(max_examples=400)
@given(sound_terms, volatilities)
def test_the_volatility_found_gives_back_the_price(terms: Terms, volatility: float) -> None:
    price = value(terms, volatility)
    found, doubt = implied_volatility(terms, price)

    if found is None:
        assert doubt in (Doubt.NO_TIME_VALUE, Doubt.ABOVE_BOUND)
        sure = value(terms, 0)
        blur = 1e-14 * (terms.spot + terms.strike)
        bound = terms.spot * exp(-terms.dividend_yield * terms.years)
        if terms.contract_type is PUT:
            bound = terms.strike * exp(-terms.rate * terms.years)
        assert price <= sure + blur or price >= bound * (1 - 1e-14)
    else:
        assert doubt is None
        assert value(terms, found) == pytest.approx(price, rel=1e-10)


@given(sound_terms, volatilities)
def test_a_volatility_that_matters_is_found_again(terms: Terms, volatility: float) -> None:
    known = sensitivities(terms, volatility)
    assume(100 * known.vega * volatility > 1e-6 * terms.spot)

    found, _ = implied_volatility(terms, known.value)

    assert found == pytest.approx(volatility, rel=1e-7)


@given(kinds, st.floats(0.8, 1.25), st.sampled_from([60, 3600, 6.5 * 3600]), volatilities)
def test_on_the_last_day_it_is_found_to_the_last_minute(
    kind: ContractType, ratio: float, seconds: float, volatility: float
) -> None:
    terms = Terms(kind, 6000, 6000 * ratio, seconds / 86_400 / DAYS_A_YEAR, 0.04, 0.01)
    price = value(terms, volatility)

    found, doubt = implied_volatility(terms, price)

    if doubt is None:
        assert found is not None
        assert value(terms, found) == pytest.approx(price, rel=1e-10)
    else:
        assert doubt is Doubt.NO_TIME_VALUE
        assert price == pytest.approx(value(terms, 0), abs=1e-10)


@pytest.mark.parametrize(
    ("kind", "price", "doubt"),
    [
        (CALL, 3.90, Doubt.BELOW_INTRINSIC),
        (CALL, 42 - 40 * exp(-0.05), Doubt.NO_TIME_VALUE),
        (CALL, 42.0, Doubt.ABOVE_BOUND),
        (CALL, 42 * (1 - 1e-16), Doubt.ABOVE_BOUND),
        (CALL, 0.0, Doubt.BELOW_INTRINSIC),
        (CALL, nan, Doubt.BAD_INPUT),
        (CALL, inf, Doubt.BAD_INPUT),
        (PUT, 0.0, Doubt.NO_TIME_VALUE),
        (PUT, 1e-40, Doubt.NO_TIME_VALUE),
        (PUT, -0.01, Doubt.BELOW_INTRINSIC),
        (PUT, 40 * exp(-0.05), Doubt.ABOVE_BOUND),
        (PUT, 39.0, Doubt.ABOVE_BOUND),
    ],
)
def test_a_price_without_a_volatility_says_why(
    kind: ContractType, price: float, doubt: Doubt
) -> None:
    assert implied_volatility(TEXTBOOK._replace(contract_type=kind), price) == (None, doubt)


def test_a_share_of_one_ulp_below_the_bound_is_the_bound() -> None:
    terms = Terms(PUT, spot=1.0, strike=1.0, years=1.0, rate=0.0, dividend_yield=0.0)

    assert implied_volatility(terms, 1 - 1e-16) == (None, Doubt.ABOVE_BOUND)
    assert implied_volatility(terms, 1 - 1e-14).volatility == pytest.approx(15.5, abs=0.5)


def test_nothing_is_found_after_the_expiration() -> None:
    assert implied_volatility(TEXTBOOK._replace(years=0), 3) == (None, Doubt.EXPIRED)


def test_a_quote_has_three_volatilities_in_order() -> None:
    bid, mid, ask = (found.volatility for found in implied_quote(TEXTBOOK, 4.70, 4.80))

    assert bid is not None
    assert mid is not None
    assert ask is not None
    assert bid < mid < ask
    assert value(TEXTBOOK, mid) == pytest.approx(4.75, rel=1e-10)


@pytest.mark.parametrize(
    ("bid", "ask", "doubts"),
    [
        (None, 4.8, (Doubt.NO_BID, Doubt.NO_BID, None)),
        (0.0, 4.8, (Doubt.NO_BID, Doubt.NO_BID, None)),
        (4.7, None, (None, Doubt.NO_ASK, Doubt.NO_ASK)),
        (4.7, 0.0, (None, Doubt.NO_ASK, Doubt.NO_ASK)),
        (4.8, 4.7, (None, Doubt.CROSSED, None)),
        (3.0, 4.8, (Doubt.BELOW_INTRINSIC, Doubt.BELOW_INTRINSIC, None)),
        (nan, 4.8, (Doubt.BAD_INPUT, Doubt.BAD_INPUT, None)),
    ],
)
def test_a_quote_with_a_side_missing_or_wrong_has_no_middle(
    bid: float | None, ask: float | None, doubts: tuple[Doubt | None, ...]
) -> None:
    assert tuple(found.doubt for found in implied_quote(TEXTBOOK, bid, ask)) == doubts


def test_solving_costs_a_small_number_of_valuations() -> None:
    """The time of one solution over that of one valuation, in the same process."""
    cases = [(terms, value(terms, 0.3)) for terms in TEN_POINTS] * 20

    def cost(f: Callable[[Terms, float], object], inputs: Sequence[tuple[Terms, float]]) -> float:
        def once() -> float:
            began = perf_counter()
            for terms, number in inputs:
                f(terms, number)
            return perf_counter() - began

        return median(once() for _ in range(9))

    assert cost(implied_volatility, cases) < 8 * cost(value, [(t, 0.3) for t, _ in cases])


# ---- time ----


@pytest.mark.parametrize(
    ("root", "expiration", "settled"),
    [
        ("SPY", date(2026, 3, 20), "2026-03-20T16:00"),
        ("SPXW", date(2026, 3, 20), "2026-03-20T16:00"),
        ("SPX", date(2026, 3, 20), "2026-03-20T09:30"),
        ("VIXW", date(2026, 3, 25), "2026-03-25T09:30"),
        ("SPXW", date(2026, 11, 27), "2026-11-27T13:00"),
        ("SPY", date(2026, 4, 3), "2026-04-02T16:00"),
        ("SPX", date(2026, 4, 4), "2026-04-02T09:30"),
        ("SPX", date(2031, 12, 19), "2031-12-19T09:30"),
        ("SPY", date(2019, 1, 18), "2019-01-18T16:00"),
    ],
)
def test_a_contract_is_settled_at_the_close_or_the_open_of_its_last_session(
    root: str, expiration: date, settled: str
) -> None:
    assert expires_ns(contract(root=root, expiration=expiration)) == at(settled)


def test_on_the_last_day_time_runs_to_the_close_and_below_nothing_after_it() -> None:
    today = contract(expiration=date(2026, 3, 20))

    assert years_to_expiry(today, at("2026-03-20T15:00")) == 3_600_000_000_000 / YEAR_NS
    assert years_to_expiry(today, at("2026-03-20T16:00")) == 0
    assert years_to_expiry(today, at("2026-03-20T16:10")) < 0


# ---- the forward ----

NOW_NS = at("2026-03-06T11:00")
CHAIN = [contract(strike, kind=kind) for strike in range(90, 112, 2) for kind in (CALL, PUT)]


def quoted(one: OptionContract, *, spot: float, rate: float, dividend_yield: float) -> Quote:
    terms = terms_of(one, spot=spot, rate=rate, dividend_yield=dividend_yield, now_ns=NOW_NS)
    worth = value(terms, 0.2)
    return snapshot(one, worth - 0.02, worth + 0.02).quote


def chain(**market: float) -> tuple[list[OptionSnapshot], list[OptionSnapshot]]:
    every = [OptionSnapshot(contract=one, quote=quoted(one, **market)) for one in CHAIN]
    calls = [one for one in every if one.contract.contract_type is CALL]
    return calls, [one for one in every if one.contract.contract_type is PUT]


@given(st.floats(95, 105), st.floats(0, 0.1), st.floats(-0.3, 0.1))
def test_the_forward_and_the_yield_are_read_from_calls_and_puts(
    spot: float, rate: float, dividend_yield: float
) -> None:
    calls, puts = chain(spot=spot, rate=rate, dividend_yield=dividend_yield)

    found = implied_forward(calls, puts, rate=rate, now_ns=NOW_NS)

    assert found is not None
    assert found.pairs == 7
    expected = spot * exp((rate - dividend_yield) * found.years)
    assert found.forward == pytest.approx(expected, rel=1e-12)
    assert found.low < found.forward < found.high
    assert found.dividend_yield(spot) == pytest.approx(dividend_yield, abs=1e-9)


def test_one_wrong_quote_does_not_move_the_forward_but_shows_as_a_contradiction() -> None:
    calls, puts = chain(spot=100, rate=0.04, dividend_yield=0.01)
    right = implied_forward(calls, puts, rate=0.04, now_ns=NOW_NS)
    stale = [
        snapshot(one.contract, 12.0, 12.1) if one.contract.strike == 98 else one for one in calls
    ]

    found = implied_forward(stale, puts, rate=0.04, now_ns=NOW_NS, strikes=11)

    assert right is not None
    assert found is not None
    assert found.forward == pytest.approx(right.forward, abs=1e-9)
    assert found.low > found.high


def test_there_is_no_forward_without_a_pair_or_after_the_expiration() -> None:
    calls, puts = chain(spot=100, rate=0.04, dividend_yield=0.01)
    one_sided = [snapshot(one.contract, None, 1.0) for one in puts]

    assert implied_forward(calls, one_sided, rate=0.04, now_ns=NOW_NS) is None
    assert implied_forward([], [], rate=0.04, now_ns=NOW_NS) is None
    assert implied_forward(calls, puts, rate=0.04, now_ns=at("2026-03-20T16:00")) is None


def test_an_even_number_of_strikes_has_the_middle_of_the_two_in_the_middle() -> None:
    calls, puts = chain(spot=100, rate=0.0, dividend_yield=0.0)

    found = implied_forward(calls, puts, rate=0.0, now_ns=NOW_NS, strikes=2)

    assert found is not None
    assert found.pairs == 2
    assert found.forward == pytest.approx(100, abs=1e-9)


def test_a_forward_of_several_expirations_is_refused() -> None:
    calls, puts = chain(spot=100, rate=0.04, dividend_yield=0.01)
    other = snapshot(contract(100, expiration=date(2026, 4, 17)), 1, 2)

    with pytest.raises(ValueError, match="one expiration"):
        implied_forward([*calls, other], puts, rate=0.04, now_ns=NOW_NS)


# ---- a snapshot ----


def test_greeks_are_computed_from_the_quote_and_say_so() -> None:
    """Issue 4: when the vendor's Greeks are old and bid and ask are live; W-61."""
    one = snapshot(contract(6000), 99.0, 101.0)

    greeks, volatility, reasons = computed_greeks(
        one, underlying_price=5990, rate=0.04, dividend_yield=0.013, now_ns=NOW_NS
    )

    assert greeks is not None
    assert volatility is not None
    terms = terms_of(one.contract, spot=5990, rate=0.04, dividend_yield=0.013, now_ns=NOW_NS)
    expected: Sensitivities = sensitivities(terms, volatility)
    assert expected.value == pytest.approx(100, rel=1e-10)
    assert (greeks.delta, greeks.gamma, greeks.theta) == expected[1:4]
    assert (greeks.vega, greeks.rho) == expected[4:6]
    assert (greeks.source, greeks.provider, greeks.event_ns) == (Source.COMPUTED, "tradier", 5)
    assert reasons == ()


@pytest.mark.parametrize(
    ("one", "spot", "now_ns", "doubt"),
    [
        (snapshot(contract(), None, 1), 600.0, NOW_NS, Doubt.NO_BID),
        (snapshot(contract(), 1, None), 600.0, NOW_NS, Doubt.NO_ASK),
        (snapshot(contract(), 2, 1), 600.0, NOW_NS, Doubt.CROSSED),
        (snapshot(contract(), 1, 2), None, NOW_NS, Doubt.NO_UNDERLYING),
        (snapshot(contract(), 1, 2), 0.0, NOW_NS, Doubt.BAD_INPUT),
        (snapshot(contract(), 1, 2), 700.0, NOW_NS, Doubt.BELOW_INTRINSIC),
        (snapshot(contract(), None, None), 600.0, at("2026-03-20T16:00"), Doubt.EXPIRED),
        (
            snapshot(contract(root="AAPL1", underlying="AAPL"), 1, 2),
            600.0,
            NOW_NS,
            Doubt.ADJUSTED,
        ),
    ],
)
def test_what_cannot_be_computed_is_none_and_says_why(
    one: OptionSnapshot, spot: float | None, now_ns: int, doubt: Doubt
) -> None:
    found = computed_greeks(
        one, underlying_price=spot, rate=0.04, dividend_yield=0.01, now_ns=now_ns
    )

    assert found == (None, None, (doubt,))


@pytest.mark.parametrize(
    ("kind", "strike", "root", "style", "is_doubtful"),
    [
        (PUT, 110, "SPY", "american", True),
        (PUT, 110, "SPY", None, True),
        (PUT, 110, "SPXW", None, False),
        (PUT, 110, "SPXW", "european", False),
        (PUT, 110, "OEX", None, True),
        (PUT, 90, "SPY", "american", False),
        (CALL, 90, "SPY", "american", False),
    ],
)
def test_a_price_that_may_hold_an_early_exercise_premium_is_marked(
    kind: ContractType, strike: float, root: str, style: str | None, is_doubtful: bool
) -> None:
    one = contract(
        strike, kind=kind, root=root, underlying="SPY" if root == "SPY" else "I:X", style=style
    )
    terms = terms_of(one, spot=100, rate=0.04, dividend_yield=0.01, now_ns=NOW_NS)
    worth = value(terms, 0.5)

    found = computed_greeks(
        snapshot(one, worth - 0.01, worth + 0.01),
        underlying_price=100,
        rate=0.04,
        dividend_yield=0.01,
        now_ns=NOW_NS,
    )

    assert found.implied_volatility == pytest.approx(0.5, rel=1e-6)
    assert found.reasons == ((Doubt.EARLY_EXERCISE,) if is_doubtful else ())


def test_a_dividend_above_the_rate_makes_calls_doubtful_too() -> None:
    one = contract(90, root="SPY", underlying="SPY", style="american")
    market = {"rate": 0.01, "dividend_yield": 0.08}
    worth = value(terms_of(one, spot=100, now_ns=NOW_NS, **market), 0.5)

    found = computed_greeks(
        snapshot(one, worth, worth), underlying_price=100, now_ns=NOW_NS, **market
    )

    assert found.reasons == (Doubt.EARLY_EXERCISE,)


def test_a_percentage_point_of_the_rate_hardly_matters_once_the_forward_is_known() -> None:
    """The module promises less than 0.1 % of the value for thirty days."""
    years, forward = 30 / DAYS_A_YEAR, 100.0
    worth: list[float] = []
    for rate in (0.03, 0.04):
        dividend_yield = rate - log(forward / 99.7) / years
        worth.append(value(Terms(CALL, 99.7, 101, years, rate, dividend_yield), 0.2))

    assert abs(worth[1] / worth[0] - 1) < 0.001
