"""Whose Greeks are shown: W-61, and traps 4 to 6 of Tradier's facts."""

from datetime import date
from math import exp
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from onetape.analytics.greeks import Terms, sensitivities, value
from onetape.calendar import CLOSE, instant_ns
from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot, Quote
from onetape.provenance import Source
from onetape.tradier.greeks import HOURLY, MISSING, PUT_CORRECTED, PUT_WITHHELD, STALE_0DTE
from onetape.tradier.valuation import Valued, valued

NOW_NS = 1_764_000_000_000_000_000  # Monday 2025-11-24, 11:00 in New York
TODAY = date(2025, 11, 24)
EXPIRATION = date(2025, 12, 19)
MINUTE_NS = 60_000_000_000
CALL, PUT = ContractType.CALL, ContractType.PUT
RATE = 0.04


class World:
    """A market that a model holds in exactly: what is computed can be checked."""

    def __init__(
        self,
        *,
        spot: float = 100.0,
        volatility: float = 0.25,
        dividends: float = 0.01,
        rate: float = RATE,
        expiration: date = EXPIRATION,
        underlying: str = "SPY",
        spread: float = 0.0,
    ) -> None:
        self.spot = spot
        self.volatility = volatility
        self.dividends = dividends
        self.rate = rate
        self.expiration = expiration
        self.underlying = underlying
        self.root = {"I:SPX": "SPXW", "I:VIX": "VIXW"}.get(underlying, underlying)
        self.spread = spread

    def terms(self, kind: ContractType, strike: float) -> Terms:
        years = (instant_ns(self.expiration, CLOSE) - NOW_NS) / (365 * 86_400 * 1e9)
        return Terms(kind, self.spot, strike, years, self.rate, self.dividends)

    def truth(self, kind: ContractType, strike: float) -> Any:
        return sensitivities(self.terms(kind, strike), self.volatility)

    def row(self, kind: ContractType, strike: float, **changes: Any) -> OptionSnapshot:
        worth = value(self.terms(kind, strike), self.volatility)
        root = changes.pop("root", self.root)
        symbol = f"O:{root}{self.expiration:%y%m%d}{kind.value[0].upper()}{strike * 1000:08.0f}"
        sides: dict[str, Any] = {"bid": worth - self.spread / 2, "ask": worth + self.spread / 2}
        greeks: Greeks | None = changes.pop("greeks", theirs())
        return OptionSnapshot(
            contract=OptionContract(
                symbol=symbol,
                root=root,
                underlying=self.underlying,
                expiration=self.expiration,
                strike=strike,
                contract_type=kind,
                exercise_style="european",
            ),
            quote=Quote(
                symbol=symbol,
                event_ns=changes.pop("event_ns", NOW_NS),
                received_ns=NOW_NS,
                provider="tradier",
                source=Source.REST,
                **(sides | changes),
            ),
            greeks=greeks,
            implied_volatility=0.99,
        )

    def pair(self, strike: float, **changes: Any) -> list[OptionSnapshot]:
        return [self.row(CALL, strike, **changes), self.row(PUT, strike, **changes)]

    def quote(self, **changes: Any) -> Quote:
        fields: dict[str, Any] = {"symbol": self.underlying, "event_ns": NOW_NS, "last": self.spot}
        fields |= {"received_ns": NOW_NS, "provider": "tradier"} | changes
        return Quote(**fields)

    def valued(self, *rows: OptionSnapshot, **changes: Any) -> Valued:
        given: dict[str, Any] = {
            "underlying": self.quote(),
            "rate": RATE,
            "now_ns": NOW_NS,
        } | changes
        said = {row.symbol: (HOURLY,) for row in rows} | given.pop("reasons", {})
        return valued(rows, said, **given)


def theirs(*, age_s: float = 1800, delta: float | None = 0.5, **greeks: Any) -> Greeks:
    event_ns = NOW_NS - round(age_s * 1e9)
    return Greeks(delta=delta, provider="tradier", event_ns=event_ns, **greeks)


def codes(found: Valued, row: OptionSnapshot) -> list[str]:
    return [one.code for one in found.reasons.get(row.symbol, ())]


# ---- ours ----


def test_greeks_of_an_hour_ago_are_computed_anew_and_marked() -> None:
    world = World()
    call, put = world.pair(102.0)

    found = world.valued(call, put)

    for row, kind in zip(found.contracts, (CALL, PUT), strict=True):
        truth = world.truth(kind, 102.0)
        assert row.greeks is not None
        assert (row.greeks.source, row.greeks.provider) == (Source.COMPUTED, "tradier")
        assert row.greeks.event_ns == NOW_NS, "they are as old as the quote"
        assert row.implied_volatility == pytest.approx(world.volatility, rel=1e-6)
        assert row.greeks.delta == pytest.approx(truth.delta, rel=1e-5)
        assert row.greeks.gamma == pytest.approx(truth.gamma, rel=1e-5)
        assert row.greeks.theta == pytest.approx(truth.theta, rel=1e-4)
        assert row.greeks.vega == pytest.approx(truth.vega, rel=1e-5)
        assert row.greeks.rho == pytest.approx(truth.rho, rel=1e-4)
        assert codes(found, row) == ["greeks_computed"]


@given(
    strike=st.floats(80, 125),
    volatility=st.floats(0.1, 1.5),
    dividends=st.floats(-0.05, 0.15),
    rate=st.floats(0.0, 0.08),
)
def test_a_wrong_rate_hardly_matters_because_the_forward_is_read_from_the_chain(
    strike: float, volatility: float, dividends: float, rate: float
) -> None:
    world = World(volatility=volatility, dividends=dividends, rate=rate)

    found = world.valued(*world.pair(round(strike, 1)))

    for row, kind in zip(found.contracts, (CALL, PUT), strict=True):
        truth = world.truth(kind, row.contract.strike)
        if row.greeks is not None and row.greeks.source is Source.COMPUTED:
            assert row.greeks.delta == pytest.approx(truth.delta, abs=0.01)
            assert row.implied_volatility == pytest.approx(volatility, rel=0.02, abs=0.01)
            assert row.greeks.theta == pytest.approx(truth.theta, abs=0.015)


def test_the_side_out_of_the_money_tells_the_volatility_of_both() -> None:
    """In the money a spread is more than all time value."""
    world = World()
    call = world.row(CALL, 80.0, bid=19.0, ask=21.6)
    put = world.row(PUT, 80.0, bid=0.010, ask=0.012)

    found = world.valued(*world.pair(100.0), call, put)

    deep, cheap = found.contracts[2:]
    assert deep.implied_volatility == cheap.implied_volatility
    assert deep.greeks is not None
    assert 0.98 < (deep.greeks.delta or 0) < 1


def test_where_nobody_bids_out_of_the_money_theirs_stay() -> None:
    world = World(spread=0.02)
    call, put = world.row(CALL, 97.0), world.row(PUT, 97.0, bid=0.0, ask=9.0)

    found = world.valued(*world.pair(100.0), call, put)

    assert found.contracts[2:] == (call, put)


def test_what_has_no_greeks_gets_them() -> None:
    world = World()
    rows = world.pair(100.0, greeks=None)

    found = world.valued(*rows, reasons={row.symbol: (MISSING,) for row in rows})

    assert all(row.greeks and row.greeks.source is Source.COMPUTED for row in found.contracts)
    assert codes(found, rows[0]) == ["greeks_computed"]


def test_what_expires_today_is_computed_however_new_theirs_are() -> None:
    """Trap 5: those of such contracts are of the close before."""
    world = World(expiration=TODAY)
    rows = world.pair(100.0, greeks=theirs(age_s=1))

    found = world.valued(*rows, reasons={row.symbol: (HOURLY, STALE_0DTE) for row in rows})

    assert [codes(found, row) for row in rows] == [["greeks_computed"]] * 2


@pytest.mark.parametrize("theirs_ns", [None, NOW_NS - 61_000_000_000])
def test_greeks_of_no_known_time_and_of_more_than_a_minute_are_old(theirs_ns: int | None) -> None:
    world = World()
    greeks = Greeks(delta=0.5, provider="tradier", event_ns=theirs_ns)

    found = world.valued(*world.pair(100.0, greeks=greeks))

    assert all(row.greeks and row.greeks.source is Source.COMPUTED for row in found.contracts)


# ---- the underlying ----


def test_where_no_pair_is_quoted_there_are_no_dividends() -> None:
    world = World(dividends=0.0)
    call = world.row(CALL, 101.0)

    found = world.valued(call)

    assert found.contracts[0].implied_volatility == pytest.approx(world.volatility, rel=1e-6)
    assert "without dividends" in found.reasons[call.symbol][0].detail


def test_without_a_price_of_the_underlying_the_forward_stands_for_it() -> None:
    world = World(dividends=0.0)

    for quote in (
        None,
        world.quote(last=None),
        world.quote(last=200.0, event_ns=NOW_NS - 2 * MINUTE_NS),  # of another time
    ):
        row = world.valued(*world.pair(100.0), underlying=quote).contracts[0]
        assert row.greeks is not None
        assert row.greeks.delta == pytest.approx(world.truth(CALL, 100.0).delta, rel=1e-4)


def test_an_index_without_a_time_is_taken_at_its_word() -> None:
    world = World(underlying="I:SPX", dividends=0.0)

    found = world.valued(world.row(CALL, 101.0), underlying=world.quote(event_ns=None))

    assert found.contracts[0].implied_volatility == pytest.approx(world.volatility, rel=1e-6)


def test_options_on_vix_are_valued_on_their_forward() -> None:
    """Nobody can hold VIX: its forward may be anywhere."""
    world = World(underlying="I:VIX", spot=20.0, volatility=0.9, dividends=RATE)

    found = world.valued(*world.pair(21.0), underlying=world.quote(last=14.0))

    row = found.contracts[0]
    # They settle in the morning, a few hours before the terms of this world.
    assert row.implied_volatility == pytest.approx(0.9, rel=0.01)
    assert row.greeks is not None
    assert row.greeks.delta == pytest.approx(world.truth(CALL, 21.0).delta, rel=0.01)


def test_a_forward_that_no_dividends_lead_to_is_not_believed() -> None:
    world = World(dividends=0.0)
    call = world.row(CALL, 101.0)
    wrong = world.row(PUT, 101.0, bid=0.01, ask=0.012)

    found = world.valued(call, wrong, underlying=world.quote(last=140.0))

    assert all("without dividends" in found.reasons[one.symbol][0].detail for one in (call, wrong))


def test_nothing_at_all_to_reckon_from_leaves_theirs() -> None:
    world = World()
    call = world.row(CALL, 101.0)

    found = world.valued(call, underlying=None)

    assert found.contracts == (call,)
    assert codes(found, call) == ["greeks_hourly"]
    assert valued([], {}, underlying=None, rate=RATE, now_ns=NOW_NS) == Valued((), {})


def test_roots_of_one_day_have_forwards_of_their_own() -> None:
    morning, evening = World(underlying="I:SPX"), World(underlying="I:SPX", dividends=0.10)
    spxw = evening.pair(100.0)

    found = morning.valued(*morning.pair(100.0, root="XSP"), *spxw)

    ivs = {row.contract.root: row.implied_volatility for row in found.contracts}
    assert ivs["XSP"] == pytest.approx(0.25, rel=1e-3)
    assert ivs["SPXW"] == pytest.approx(0.25, rel=1e-3)


# ---- theirs ----


def test_greeks_of_this_minute_stay() -> None:
    world = World()
    rows = world.pair(100.0, greeks=theirs(age_s=60))

    assert world.valued(*rows).contracts == tuple(rows)


@pytest.mark.parametrize(
    "quote",
    [
        {"bid": 0.0},
        {"bid": None},
        {"ask": None},
        {"bid": 3.0, "ask": 2.9},  # crossed
        {"bid": 0.5, "ask": 6.0},  # half of it is more than 5 points of volatility
        {"event_ns": NOW_NS - 31 * MINUTE_NS},  # older than theirs
        {"bid": 99.9, "ask": 100.1},  # dearer than the underlying
    ],
)
def test_they_stay_where_the_quote_cannot_be_used(quote: dict[str, Any]) -> None:
    world = World()
    call, put = world.row(CALL, 102.0, **quote), world.row(PUT, 102.0, bid=None, ask=None)

    found = world.valued(*world.pair(100.0), call, put)

    assert found.contracts[2:] == (call, put)
    assert codes(found, call) == ["greeks_hourly"]


def test_an_absurd_volatility_is_none() -> None:
    """It would be an error, and the contract be left out for it."""
    world = World(expiration=TODAY, spot=100.0)
    call = world.row(CALL, 130.0, bid=5.0, ask=5.02)

    found = world.valued(*world.pair(100.0), call)

    assert found.contracts[2] == call


def test_after_the_expiration_nothing_is_computed() -> None:
    world = World(expiration=TODAY)
    rows = world.pair(100.0)
    late = NOW_NS + 10 * 3_600_000_000_000
    old = [quoted_at(row, late) for row in rows]

    assert valued(old, {}, underlying=None, rate=RATE, now_ns=late).contracts == tuple(old)


def quoted_at(row: OptionSnapshot, event_ns: int) -> OptionSnapshot:
    return replace(row, quote=replace(row.quote, event_ns=event_ns))


def test_the_calls_greeks_on_a_put_are_made_the_puts() -> None:
    """Trap 4: section 5 of the facts."""
    world = World(dividends=0.02)
    truth = {kind: world.truth(kind, 100.0) for kind in (CALL, PUT)}
    of_call = theirs(age_s=30, theta=truth[CALL].theta, rho=truth[CALL].rho)
    call, put = (
        world.row(CALL, 100.0, greeks=of_call),
        world.row(PUT, 100.0, greeks=theirs(age_s=30)),
    )

    found = world.valued(call, put, reasons={put.symbol: (HOURLY, PUT_WITHHELD)})

    greeks = found.contracts[1].greeks
    assert greeks is not None
    assert greeks.theta == pytest.approx(truth[PUT].theta, rel=1e-3)
    assert greeks.rho == pytest.approx(truth[PUT].rho, rel=1e-3)
    assert greeks.source is Source.REST
    assert found.reasons[put.symbol] == (HOURLY, PUT_CORRECTED)
    assert found.contracts[0] == call


def test_without_its_call_of_the_same_run_a_puts_theta_stays_out() -> None:
    world = World()
    put = world.row(PUT, 90.0, greeks=theirs(age_s=30))
    other_run = world.row(CALL, 90.0, greeks=theirs(age_s=31, theta=-0.1))
    bare = world.row(CALL, 90.0, greeks=None)
    said = {put.symbol: (HOURLY, PUT_WITHHELD)}

    for call in (other_run, bare, world.row(CALL, 91.0)):
        found = world.valued(call, put, reasons=said)
        assert found.contracts[1] == put
        assert found.reasons[put.symbol] == said[put.symbol]


def test_a_run_of_no_known_time_is_as_of_the_quotes() -> None:
    world = World(spread=4.0)
    greeks = Greeks(delta=0.5, theta=-0.05, rho=0.03, provider="tradier")
    call, put = (
        world.row(CALL, 100.0, greeks=greeks, bid=0.0),
        world.row(PUT, 100.0, greeks=greeks, bid=0.0),
    )

    found = world.valued(call, put, reasons={put.symbol: (PUT_WITHHELD,)})

    changed = found.contracts[1].greeks
    assert changed is not None
    years = world.terms(PUT, 100.0).years
    assert changed.rho == pytest.approx(0.03 - years * 100 * exp(-RATE * years) / 100)
