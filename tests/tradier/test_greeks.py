"""What Tradier's greeks are worth, checked against Black, Scholes and Merton."""

import math
from datetime import date

import pytest
from hypothesis import given, strategies as st

from onetape.model import ContractType
from onetape.provenance import Severity, Source
from onetape.tradier.greeks import (
    Carry,
    GreeksBlock,
    Sensitivities,
    choose_iv,
    expiry_ns,
    put_from_call,
    read_greeks,
    updated_ns,
    years_to,
)

CALL, PUT = ContractType.CALL, ContractType.PUT
EXPIRATION = date(2026, 8, 3)
UPDATED_NS = 1_785_528_007_000_000_000  # 2026-07-31 20:00:07 UTC
RECEIVED_NS = UPDATED_NS + 60_000_000_000
BLOCK = GreeksBlock(
    delta=-0.1669,
    gamma=0.02617,
    theta=-0.2395,
    vega=0.1395,
    rho=0.0538,
    phi=-0.0546,
    bid_iv=0.1005,
    mid_iv=0.1008,
    ask_iv=0.1012,
    smv_vol=0.104,
    updated_at="2026-07-31 20:00:07",
)


def cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def merton(kind: ContractType, strike: float, years: float, vol: float, carry: Carry) -> float:
    """The price of a European option: the textbook, for the derivatives to be taken of."""
    root = vol * math.sqrt(years)
    drift = carry.rate - carry.dividend_yield + vol * vol / 2
    d1 = (math.log(carry.spot / strike) + drift * years) / root
    held = carry.spot * math.exp(-carry.dividend_yield * years)
    owed = strike * math.exp(-carry.rate * years)
    if kind is CALL:
        return held * cdf(d1) - owed * cdf(d1 - root)
    return owed * cdf(root - d1) - held * cdf(-d1)


def sensitivities(
    kind: ContractType, strike: float, years: float, vol: float, carry: Carry
) -> Sensitivities:
    step = 1e-5
    later, sooner = (merton(kind, strike, years + d, vol, carry) for d in (step, -step))
    up, down = (
        merton(kind, strike, years, vol, carry._replace(rate=carry.rate + d)) for d in (step, -step)
    )
    rich, poor = (
        merton(kind, strike, years, vol, carry._replace(dividend_yield=carry.dividend_yield + d))
        for d in (step, -step)
    )
    return Sensitivities(
        theta=-(later - sooner) / (2 * step) / 365,
        rho=(up - down) / (2 * step) / 100,
        phi=(rich - poor) / (2 * step) / 100,
    )


@given(
    strike=st.floats(50, 200),
    years=st.floats(0.05, 3),
    vol=st.floats(0.1, 0.8),
    rate=st.floats(-0.01, 0.08),
    dividend_yield=st.floats(0, 0.05),
)
def test_a_put_follows_from_the_call_as_the_textbook_has_it(
    strike: float, years: float, vol: float, rate: float, dividend_yield: float
) -> None:
    """W-61."""
    carry = Carry(100.0, rate, dividend_yield)
    call = sensitivities(CALL, strike, years, vol, carry)

    put = put_from_call(call, strike=strike, years=years, carry=carry)

    expected = sensitivities(PUT, strike, years, vol, carry)
    for found, true in zip(put, expected, strict=True):
        assert found == pytest.approx(true, abs=2e-5)


def test_what_is_not_known_of_the_call_is_not_known_of_the_put() -> None:
    nothing = Sensitivities(None, None, None)

    assert put_from_call(nothing, strike=1, years=1, carry=Carry(1, 0)) == nothing


def test_the_correction_of_a_captured_put_has_the_size_that_it_should() -> None:
    """The SPX 400 put of the captures cannot lose 0.198 a day: it costs 0.15."""
    call = Sensitivities(theta=-0.198, rho=0.1, phi=-0.2)

    put = put_from_call(call, strike=400, years=0.01, carry=Carry(500, 0.05, 0.014))

    assert put.theta is not None
    assert abs(put.theta) < 0.2
    assert put.theta > -0.198


def read(block: GreeksBlock | None, kind: ContractType = PUT, carry: Carry | None = None):
    return read_greeks(
        block,
        contract_type=kind,
        strike=740.0,
        expiration=EXPIRATION,
        received_ns=RECEIVED_NS,
        carry=carry,
    )


def codes(block: GreeksBlock | None, kind: ContractType = PUT, carry: Carry | None = None):
    return [one.code for one in read(block, kind, carry).reasons]


def test_a_calls_greeks_stand_and_are_flagged_as_hourly() -> None:
    """W-61."""
    reading = read(BLOCK, CALL)

    assert reading.greeks is not None
    assert reading.greeks.theta == -0.2395
    assert reading.greeks.source is Source.REST
    assert reading.greeks.provider == "tradier"
    assert reading.greeks.event_ns == UPDATED_NS
    assert codes(BLOCK, CALL) == ["greeks_hourly"]


def test_a_puts_theta_and_rho_are_corrected_and_flagged() -> None:
    carry = Carry(747.0, 0.04, 0.012)
    reading = read(BLOCK, PUT, carry)

    assert reading.greeks is not None
    years = years_to(EXPIRATION, UPDATED_NS)
    expected = put_from_call(
        Sensitivities(-0.2395, 0.0538, -0.0546), strike=740.0, years=years, carry=carry
    )
    assert (reading.greeks.theta, reading.greeks.rho) == (expected.theta, expected.rho)
    assert (reading.greeks.delta, reading.greeks.gamma) == (-0.1669, 0.02617)
    assert reading.greeks.vega == 0.1395
    assert codes(BLOCK, PUT, carry) == ["greeks_hourly", "greeks_corrected"]


def test_without_spot_and_rate_a_put_does_not_show_the_calls_values() -> None:
    reading = read(BLOCK, PUT)

    assert reading.greeks is not None
    assert reading.greeks.theta is None
    assert reading.greeks.rho is None
    assert reading.greeks.gamma == 0.02617
    assert codes(BLOCK, PUT) == ["greeks_hourly", "greeks_withheld"]


@pytest.mark.parametrize(
    ("bid", "mid", "smoothed", "chosen", "code"),
    [
        (0.2, 0.25, 0.3, 0.25, None),
        (0.0, 0.25, 0.3, 0.3, "iv_smoothed"),
        (0.0, 0.0, 0.1557, 0.1557, "iv_smoothed"),
        (None, None, 4.2, 4.2, "iv_smoothed"),
        (0.0, 0.25, 0.0, None, "iv_unsolved"),
        (0.0, 0.0, None, None, "iv_unsolved"),
        ("NaN", "NaN", "NaN", None, "iv_unsolved"),
        (2.9, 3.1, None, 3.1, None),
    ],
)
def test_the_volatility_is_one_that_was_solved_or_none(
    bid: float | None,
    mid: float | None,
    smoothed: float | None,
    chosen: float | None,
    code: str | None,
) -> None:
    """W-56: a fraction, never divided again, never cut off; 0.0 is not a volatility."""
    block = GreeksBlock(bid_iv=bid, mid_iv=mid, ask_iv=mid, smv_vol=smoothed)

    volatility, reason = choose_iv(block)

    assert volatility == chosen
    assert (reason and reason.code) == code
    assert read(block, CALL).implied_volatility == chosen


def test_a_missing_block_is_no_greeks_and_a_reason() -> None:
    assert read(None).greeks is None
    assert codes(None) == ["greeks_missing"]


def test_greeks_of_an_earlier_day_on_the_day_of_expiration_are_flagged() -> None:
    today_ns = expiry_ns(EXPIRATION) - 3_600_000_000_000

    def found(updated_at: str | None) -> set[str]:
        block = GreeksBlock(delta=0.5, updated_at=updated_at)
        reading = read_greeks(
            block, contract_type=CALL, strike=1, expiration=EXPIRATION, received_ns=today_ns
        )
        assert all(one.severity is not Severity.ERROR for one in reading.reasons)
        return {one.code for one in reading.reasons}

    assert "greeks_stale_0dte" in found("2026-07-31 20:00:07")
    assert "greeks_stale_0dte" in found(None)
    assert "greeks_stale_0dte" not in found("2026-08-03 15:00:01")


def test_years_end_at_the_close_in_new_york() -> None:
    year_ns = 365 * 86_400 * 1_000_000_000

    assert expiry_ns(date(2026, 8, 3)) == 1_785_787_200_000_000_000  # 20:00 UTC
    assert expiry_ns(date(2025, 11, 28)) == 1_764_352_800_000_000_000  # 13:00, a half day
    assert expiry_ns(date(2026, 8, 1)) % 86_400_000_000_000 == 72_000_000_000_000  # a Saturday
    assert expiry_ns(date(2090, 1, 20)) > 0  # the calendar ends before
    assert years_to(EXPIRATION, expiry_ns(EXPIRATION) - year_ns) == 1
    assert years_to(EXPIRATION, expiry_ns(EXPIRATION) + 1) == 0


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("2026-07-31 20:00:07", UPDATED_NS),
        ("2026-07-31T16:00:07-04:00", UPDATED_NS),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_updated_at_is_utc(text: str | None, at_ns: int | None) -> None:
    assert updated_ns(text) == at_ns
