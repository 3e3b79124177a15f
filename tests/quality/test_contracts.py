"""The first twelve tests are the inventory of the sources for contracts (R268)."""

import math
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.model import ContractType, Greeks, OptionContract, OptionSnapshot, Quote, Trade
from onetape.provenance import Level, Source
from onetape.quality import contracts, quotes
from onetape.quality.contracts import Exposure, contract_reasons, judge_contract
from onetape.quality.reasons import reason
from onetape.quality.rules import moment

S = 1_000_000_000
NOW = 1_764_000_000 * S  # 11:00 in New York on 24 November 2025
TODAY = date(2025, 11, 24)
SYMBOL = "O:SPY251219C00100000"

Make = dict[str, Any]


def snapshot(**changes: Any) -> OptionSnapshot:
    """A contract in order, with changes named by field, or `part__field`."""
    terms: Make = {
        "symbol": SYMBOL,
        "root": "SPY",
        "underlying": "SPY",
        "expiration": date(2025, 12, 19),
        "strike": 100.0,
        "contract_type": ContractType.CALL,
    }
    datum: Make = {"symbol": SYMBOL, "event_ns": NOW, "received_ns": NOW, "provider": "massive"}
    quote: Make = {**datum, "source": Source.REST, "bid": 1.95, "ask": 2.05, "last": 2.0}
    trade: Make = {**datum, "price": 2.0, "size": 1.0}
    greeks: Make = {"delta": 0.5, "gamma": 0.05, "theta": -0.04, "vega": 0.1, "rho": 0.03}
    greeks["provider"] = "massive"
    own: Make = {"implied_volatility": 0.2, "open_interest": 50.0, "volume": 5.0, "break_even": 102}
    parts = {"contract": terms, "quote": quote, "last_trade": trade, "greeks": greeks}
    for name, value in changes.items():
        part, _, field = name.rpartition("__")
        (parts[part] if part else own)[field] = value
    return OptionSnapshot(
        contract=OptionContract(**terms),
        quote=Quote(**quote),
        last_trade=Trade(**trade),
        greeks=Greeks(**greeks),
        **own,
    )


def put(**changes: Any) -> OptionSnapshot:
    return snapshot(
        **{"contract__contract_type": ContractType.PUT, "greeks__delta": -0.5, **changes}
    )


def codes(subject: OptionSnapshot) -> list[str]:
    return [one.code for one in contract_reasons(subject, moment(NOW))]


def score(subject: OptionSnapshot, *, age_s: float = 0) -> int:
    judged = judge_contract(subject, now_ns=NOW, market_open=True)
    assert judged.quality is not None
    return judged.quality.confidence(NOW + round(age_s * S))


def test_a_valid_call_is_excellent() -> None:
    """R268."""
    judged = judge_contract(snapshot(), now_ns=NOW, market_open=True)

    assert judged.quality is not None
    assert judged.quality.reasons == ()
    assert judged.quality.confidence(NOW) == 100
    assert judged.quality.level(NOW) is Level.EXCELLENT


def test_a_valid_put_is_excellent() -> None:
    """R268."""
    assert codes(put()) == []
    assert score(put()) == 100


@pytest.mark.parametrize("strike", [0.0, -1.0, math.nan, math.inf, "100", None])
def test_a_strike_that_is_not_above_zero_is_an_error(strike: Any) -> None:
    """R268."""
    assert codes(snapshot(contract__strike=strike)) == ["strike_invalid"]
    assert score(snapshot(contract__strike=strike)) == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"contract__symbol": ""}, "symbol_missing"),
        ({"contract__symbol": None}, "symbol_missing"),
        ({"contract__root": ""}, "root_missing"),
        ({"contract__underlying": None}, "root_missing"),
        ({"contract__expiration": "2025-12-19"}, "expiration_invalid"),
        ({"contract__expiration": datetime(2025, 12, 19)}, "expiration_invalid"),  # noqa: DTZ001
        ({"contract__contract_type": "straddle"}, "type_invalid"),
        ({"contract__contract_type": None}, "type_invalid"),
    ],
)
def test_terms_that_are_missing_or_of_another_type_are_errors(changes: Make, code: str) -> None:
    """R194, R268."""
    assert codes(snapshot(**changes)) == [code]
    assert score(snapshot(**changes)) == 0


def test_a_crossed_quote_is_an_error() -> None:
    """R197, C25, R268."""
    crossed = snapshot(quote__bid=2.1, quote__ask=2.05)

    assert codes(crossed) == ["crossed"]
    assert score(crossed) == 0


@pytest.mark.parametrize("changes", [{"quote__bid": -0.01}, {"quote__ask": -0.01}])
def test_a_negative_price_is_an_error(changes: Make) -> None:
    """R268."""
    assert "price_negative" in codes(snapshot(**changes))
    assert score(snapshot(**changes)) == 0


def test_a_locked_quote_is_only_information_and_a_zero_bid_a_warning() -> None:
    """W-57, R268."""
    locked, zero = snapshot(quote__bid=2.0, quote__ask=2.0), snapshot(quote__bid=0.0)

    assert (codes(locked), score(locked)) == (["locked"], 100)
    assert (codes(zero), score(zero)) == (["zero_bid"], 95)


@pytest.mark.parametrize(
    ("greek", "value", "code", "points"),
    [
        ("delta", 1.0, None, 100),
        ("delta", 1.01, "delta_range", 95),
        ("delta", 0.0, None, 100),
        ("gamma", 0.0, None, 100),
        ("gamma", -0.0001, "gamma_negative", 0),
        ("gamma", 0.5, None, 100),
        ("gamma", 0.51, "gamma_high", 95),
        ("theta", -2.0, None, 100),
        ("theta", -2.01, "theta_range", 95),
        ("theta", 2.0, None, 100),
        ("theta", 2.01, "theta_range", 95),
        ("vega", 0.0, None, 100),
        ("vega", -0.01, "vega_range", 95),
        ("vega", 1.0, None, 100),
        ("vega", 1.01, "vega_range", 95),
    ],
)
def test_greeks_outside_their_bounds_are_found(
    greek: str, value: float, code: str | None, points: int
) -> None:
    """R195, C25, R268: a warning outside, an error when physically impossible."""
    subject = snapshot(**{f"greeks__{greek}": value})

    assert codes(subject) == ([code] if code else [])
    assert score(subject) == points


@pytest.mark.parametrize(
    ("make", "delta", "found"),
    [
        (snapshot, -0.1, ["delta_sign"]),
        (snapshot, 0.0, []),
        (snapshot, 0.1, []),
        (put, 0.1, ["delta_sign"]),
        (put, 0.0, []),
        (put, -0.1, []),
        (put, -1.0, []),
        (put, -1.1, ["delta_range"]),
    ],
)
def test_the_sign_of_delta_follows_the_side(
    make: Callable[..., OptionSnapshot], delta: float, found: list[str]
) -> None:
    """R199, R268."""
    assert codes(make(greeks__delta=delta)) == found


@pytest.mark.parametrize(
    ("volatility", "found", "points"),
    [
        (-0.01, ["iv_negative"], 0),
        (0.0, [], 100),
        (3.0, [], 100),
        (3.01, ["iv_high"], 95),
        (10.0, ["iv_high"], 95),
        (10.01, ["iv_extreme"], 0),
    ],
)
def test_implied_volatility_is_bounded(volatility: float, found: list[str], points: int) -> None:
    """W-56, R268."""
    subject = snapshot(implied_volatility=volatility)

    assert (codes(subject), score(subject)) == (found, points)


@pytest.mark.parametrize(("age_s", "points"), [(4.9, 100), (5.1, 90), (15.1, 75), (30.1, 0)])
def test_an_old_quote_loses_points_and_then_all(age_s: float, points: int) -> None:
    """R196, R268."""
    assert score(snapshot(), age_s=age_s) == points


def test_each_warning_takes_five_points() -> None:
    """R201, R268."""
    faults = {"volume": 0.0, "open_interest": 0.0, "quote__bid": 0.0, "greeks__delta": -0.1}

    assert score(snapshot(**faults)) == 80
    assert score(snapshot(**faults), age_s=6) == 72
    assert score(snapshot(**faults), age_s=16) == 60


# The rest of the boundaries.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1.0", "", ()])
@pytest.mark.parametrize(
    "field",
    [
        *(f"quote__{name}" for name in quotes.NUMBERS),
        *(f"greeks__{name}" for name in ("delta", "gamma", "theta", "vega", "rho")),
        *("last_trade__price", "last_trade__size", "implied_volatility", "break_even"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_field(field: str, value: Any) -> None:
    """R194."""
    (found,) = contract_reasons(snapshot(**{field: value}), moment(NOW))

    assert found.code == "not_a_number"
    assert field.replace("quote__", "").replace("greeks__", "").replace("__", ".") in found.detail


@pytest.mark.parametrize("field", ["quote__event_ns", "greeks__event_ns"])
@pytest.mark.parametrize("value", ["now", 1.5, -1, 2**63, math.nan])
def test_a_time_that_is_none_is_an_error_and_is_not_reckoned_with(field: str, value: Any) -> None:
    judged = judge_contract(snapshot(**{field: value}), now_ns=NOW, market_open=True)

    assert judged.quality is not None
    assert [one.code for one in judged.quality.reasons] == ["time_invalid"]
    assert None in (judged.quality.event_ns, judged.quality.greeks_ns)
    assert judged.quality.flags(NOW).confidence == 0


def test_an_exchange_time_ahead_of_ours_is_an_error_beyond_two_seconds() -> None:
    assert codes(snapshot(quote__event_ns=NOW + 2 * S)) == []
    assert codes(snapshot(quote__event_ns=NOW + 2 * S + 1)) == ["future"]
    assert score(snapshot(quote__event_ns=NOW + 60 * S)) == 0


def test_a_contract_is_expired_from_the_day_after() -> None:
    assert codes(snapshot(contract__expiration=TODAY)) == []
    assert codes(snapshot(contract__expiration=date(2025, 11, 23))) == ["expired"]


def test_the_day_of_expiration_is_new_yorks() -> None:
    evening_ns = NOW + 9 * 3600 * S + 1800 * S  # 20:30 in New York, the next day in UTC
    subject = snapshot(contract__expiration=TODAY)

    assert contract_reasons(subject, moment(evening_ns)) == ()


@pytest.mark.parametrize(
    ("bid", "ask", "found"),
    [
        (0.9, 1.1, []),  # 20 %
        (0.899, 1.101, ["spread_wide"]),
        (0.75, 1.25, ["spread_wide"]),  # 50 %
        (0.749, 1.251, ["spread_extreme"]),
        (0.0, 1.0, ["zero_bid"]),  # always 200 %: said already
        (0.0, 0.0, ["zero_bid"]),
        (None, 1.0, ["quote_missing"]),
        (1.0, None, ["quote_missing"]),
        (None, None, ["quote_missing"]),
    ],
)
def test_a_wide_spread_is_a_warning(bid: float | None, ask: float | None, found: list[str]) -> None:
    """R198; an absent side is missing, not 0: W-76."""
    assert codes(snapshot(quote__bid=bid, quote__ask=ask)) == found


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        (None, []),
        (1.0, []),
        (1, []),
        (0.0, ["no_volume"]),
        (-1.0, ["volume_invalid"]),
        (math.nan, ["volume_invalid"]),
        (math.inf, ["volume_invalid"]),
        ("5", ["volume_invalid"]),
    ],
)
def test_a_volume_or_open_interest_of_nothing_or_no_number_is_a_warning(
    volume: Any, found: list[str]
) -> None:
    """R198."""
    assert codes(snapshot(volume=volume)) == found
    interest = [code.replace("volume", "open_interest") for code in found]
    assert codes(snapshot(open_interest=volume)) == interest


def test_the_volume_of_the_quote_is_looked_at_too() -> None:
    assert codes(snapshot(quote__volume=-1.0)) == ["volume_invalid"]
    assert codes(snapshot(quote__volume=0.0)) == []


@pytest.mark.parametrize("field", ["last_trade__price", "quote__last"])
def test_a_last_price_that_is_not_above_zero_is_a_warning(field: str) -> None:
    assert codes(snapshot(**{field: 0.01})) == []
    assert codes(snapshot(**{field: 0.0})) == ["last_invalid"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"quote__bid_size": -1.0}, ["size_negative"]),
        ({"quote__ask_size": -1.0}, ["size_negative"]),
        ({"quote__ask_size": 0.0, "quote__bid_size": 0.0}, []),
        ({"quote__high": 1.0, "quote__low": 1.1}, ["range_inverted"]),
        ({"quote__high": 1.0, "quote__low": 1.0}, []),
        ({"quote__event_ns": None}, ["time_missing"]),
    ],
)
def test_the_quote_in_a_contract_is_judged_as_a_quote(changes: Make, found: list[str]) -> None:
    assert codes(snapshot(**changes)) == found


@pytest.mark.parametrize(
    ("strike", "greek", "within", "outside"),
    [
        (6000.0, "theta", -120.0, -120.1),
        (6000.0, "vega", 60.0, 60.1),
        (6000.0, "gamma", 0.5, 0.51),
        (5.0, "theta", -2.0, -2.01),
        (5.0, "vega", 1.0, 1.01),
        (5.0, "gamma", 10.0, 10.1),
    ],
)
def test_bounds_keep_their_proportion_to_the_strike(
    strike: float, greek: str, within: float, outside: float
) -> None:
    """An index option with a theta of -30 dollars a day is in order."""

    def found(value: float) -> list[str]:
        return codes(snapshot(contract__strike=strike, **{f"greeks__{greek}": value}))

    assert found(within) == []
    assert found(outside) == [f"{greek}_{'high' if greek == 'gamma' else 'range'}"]


def test_what_is_not_there_is_not_judged() -> None:
    bare = msgspec.structs.replace(
        snapshot(quote__last=None),
        greeks=None,
        last_trade=None,
        implied_volatility=None,
        open_interest=None,
        volume=None,
        break_even=None,
    )

    assert codes(bare) == []
    nothing: Make = dict.fromkeys(("delta", "gamma", "theta", "vega", "rho"))
    assert codes(snapshot(**{f"greeks__{name}": None for name in nothing})) == []
    nothing |= {"gamma": -1.0}
    assert codes(snapshot(**{f"greeks__{name}": value for name, value in nothing.items()})) == [
        "gamma_negative"
    ]
    nothing |= {"gamma": None, "vega": -1.0}
    assert codes(snapshot(**{f"greeks__{name}": value for name, value in nothing.items()})) == [
        "vega_range"
    ]


def test_the_quality_says_whose_it_is() -> None:
    subject = snapshot(
        quote__provider="tradier",
        quote__delayed=True,
        quote__simulated=True,
        greeks__event_ns=NOW - 3600 * S,
    )

    quality = judge_contract(subject, now_ns=NOW, market_open=True).quality

    assert quality is not None
    assert (quality.provider, quality.source) == ("tradier", Source.REST)
    assert (quality.delayed, quality.simulated) == (True, True)
    assert (quality.event_ns, quality.received_ns) == (NOW, NOW)
    assert quality.flags(NOW).warnings == ("greeks_stale",)
    assert quality.ageing is not None
    assert quality.ageing.unusable_s == 930


def test_notes_of_the_source_are_part_of_the_verdict_and_survive_another() -> None:
    """W-61."""
    note = reason("greeks_computed", "older than an hour")
    first = judge_contract(snapshot(volume=0.0), now_ns=NOW, market_open=True, notes=(note,))
    changed = msgspec.structs.replace(first, volume=5.0)

    second = judge_contract(changed, now_ns=NOW, market_open=True)

    assert first.quality is not None
    assert [one.code for one in first.quality.reasons] == ["no_volume", "greeks_computed"]
    assert second.quality is not None
    assert second.quality.reasons == (note,)


def test_the_fallback_reason_survives_judging() -> None:
    first = judge_contract(snapshot(), now_ns=NOW, market_open=True)
    assert first.quality is not None
    why = "massive: upstream_timeout"
    marked = msgspec.structs.replace(
        first, quality=msgspec.structs.replace(first.quality, fallback_reason=why)
    )

    again = judge_contract(marked, now_ns=NOW, market_open=True)

    assert again.quality is not None
    assert again.quality.fallback_reason == why


FAULTS: dict[str, Make] = {
    "crossed": {"quote__bid": 9.0},
    "negative ask": {"quote__ask": -1.0},
    "negative size": {"quote__bid_size": -1.0},
    "inverted day": {"quote__high": 1.0, "quote__low": 2.0},
    "ahead": {"quote__event_ns": NOW + 9 * S},
    "no last": {"last_trade__price": 0.0},
    "no volume": {"volume": 0.0},
    "no interest": {"open_interest": math.nan},
    "volatile": {"implied_volatility": 4.0},
    "delta": {"greeks__delta": -1.5},
    "gamma": {"greeks__gamma": 0.7},
    "theta": {"greeks__theta": -9.0},
    "vega": {"greeks__vega": -1.0},
    "rho": {"greeks__rho": math.nan},
    "break-even": {"break_even": "102"},
    "strike": {"contract__strike": -1.0},
    "root": {"contract__root": ""},
    "expired": {"contract__expiration": date(2025, 1, 17)},
}


@given(
    some=st.sets(st.sampled_from(sorted(FAULTS))),
    another=st.sampled_from(sorted(FAULTS)),
    age_s=st.sampled_from([0, 6, 16, 31]),
)
def test_adding_a_fault_never_raises_the_score(some: set[str], another: str, age_s: int) -> None:
    def with_faults(names: set[str]) -> int:
        changes: Make = {}
        for name in sorted(names):
            changes |= FAULTS[name]
        return score(snapshot(**changes), age_s=age_s)

    assert with_faults(some | {another}) <= with_faults(some)


WARNINGS: tuple[Make, ...] = (
    {"volume": 0.0},
    {"open_interest": 0.0},
    {"quote__bid": 0.0},
    {"quote__ask_size": -1.0},
    {"last_trade__price": 0.0},
    {"implied_volatility": 5.0},
    {"greeks__delta": -0.5},
    {"greeks__gamma": 0.7},
    {"greeks__theta": 5.0},
    {"greeks__vega": 5.0},
    {"quote__event_ns": None},
)


@given(order=st.permutations(WARNINGS), count=st.integers(0, len(WARNINGS) - 1))
def test_one_more_warning_lowers_the_score_by_five(order: list[Make], count: int) -> None:
    def with_first(number: int) -> int:
        changes: Make = {}
        for one in order[:number]:
            changes |= one
        return score(snapshot(**changes))

    assert with_first(count) - with_first(count + 1) == 5


number = st.one_of(
    st.none(),
    st.floats(-3, 3),
    st.floats(),
    st.integers(-(2**64), 2**64),
    st.sampled_from([0.0, -0.0, 0.9, 1.1, 1e-300, 1.5e300, -1.5e300, "", "1", math.nan, -math.inf]),
)
anything = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((f"quote__{name}" for name in quotes.NUMBERS), number),
        **dict.fromkeys(
            (f"greeks__{n}" for n in ("delta", "gamma", "theta", "vega", "rho")), number
        ),
        **dict.fromkeys(("volume", "open_interest", "implied_volatility", "break_even"), number),
        **dict.fromkeys(("contract__strike", "last_trade__price", "last_trade__size"), number),
        "quote__volume": number,
        "quote__event_ns": st.one_of(st.none(), st.integers(), st.floats(), st.just("now")),
        "contract__contract_type": st.sampled_from([*ContractType, None, "x"]),
        "contract__expiration": st.one_of(st.dates(), st.none()),
    },
)


@given(changes=anything)
def test_judging_never_fails_never_alters_a_number_and_comes_to_the_same_verdict(
    changes: Make,
) -> None:
    subject = snapshot(**changes)

    judged = judge_contract(subject, now_ns=NOW, market_open=True)

    def values(one: OptionSnapshot) -> str:
        return repr(msgspec.structs.replace(one, quality=None))

    assert values(judged) == values(subject)
    assert judge_contract(judged, now_ns=NOW, market_open=True).quality == judged.quality
    assert judged.quality is not None
    assert 0 <= judged.quality.flags(NOW).confidence <= 100


@given(changes=anything)
def test_what_is_called_normal_has_nothing_to_find(changes: Make) -> None:
    """The short way and the long way to a verdict are one."""
    subject, at = snapshot(**changes), moment(NOW)

    missing = contracts.PRESENCE.find_slowly(subject, at)
    assert contracts.PRESENCE.find(subject, at) == missing
    if missing or subject.greeks is None:
        return
    exposure = Exposure(
        subject.greeks,
        subject.contract.strike,
        subject.contract.contract_type is ContractType.CALL,
    )
    every = (
        *quotes.BOOK.find_slowly(subject.quote, at),
        *contracts.MARKET.find_slowly(subject, at),
        *contracts.LIQUIDITY.find_slowly(subject, at),
        *contracts.GREEKS.find_slowly(exposure, at),
    )
    assert contract_reasons(subject, at) == every
