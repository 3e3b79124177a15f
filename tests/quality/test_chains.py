"""The first six tests are the inventory of the sources for chains (R268)."""

import math
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.model import ContractType, OptionChain, OptionContract, OptionSnapshot, Quote
from onetape.provenance import Freshness, Level, Quality
from onetape.quality.chains import judge_chain, strike_gaps
from onetape.quality.reasons import reason

S = 1_000_000_000
NOW = 1_764_000_000 * S  # 11:00 in New York on 24 November 2025
DECEMBER, JANUARY = date(2025, 12, 19), date(2026, 1, 16)
CALL, PUT = ContractType.CALL, ContractType.PUT
SIDES = (CALL, PUT)


def contract(
    strike: float = 100.0, side: ContractType = CALL, day: date = DECEMBER, **changes: Any
) -> OptionSnapshot:
    symbol = f"O:SPY{day:%y%m%d}{side[0].upper()}{round(strike * 1000):08d}"
    made: dict[str, Any] = {
        "symbol": symbol,
        "event_ns": NOW,
        "received_ns": NOW,
        "provider": "massive",
        "bid": 1.95,
        "ask": 2.05,
    }
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=day,
            strike=strike,
            contract_type=side,
        ),
        quote=Quote(**{**made, **changes}),
    )


def board(
    strikes: Iterable[float] = range(90, 111),
    *,
    sides: Iterable[ContractType] = SIDES,
    days: Iterable[date] = (DECEMBER,),
) -> tuple[OptionSnapshot, ...]:
    return tuple(
        contract(float(strike), side, day) for day in days for strike in strikes for side in sides
    )


def chain(contracts: tuple[OptionSnapshot, ...] | None = None, **changes: Any) -> OptionChain:
    made: dict[str, Any] = {
        "underlying": "SPY",
        "underlying_price": 100.2,
        "contracts": board() if contracts is None else contracts,
        "received_ns": NOW,
        "provider": "massive",
    }
    return OptionChain(**{**made, **changes})


def judged(subject: OptionChain, **changes: Any) -> OptionChain:
    arguments: dict[str, Any] = {"now_ns": NOW, "market_open": True}
    return judge_chain(subject, **{**arguments, **changes})


def quality(subject: OptionChain, **arguments: Any) -> Quality:
    verdict = judged(subject, **arguments).quality
    assert verdict is not None
    return verdict


def codes(subject: OptionChain, **arguments: Any) -> list[str]:
    return [one.code for one in quality(subject, **arguments).reasons]


def spoil(contracts: tuple[OptionSnapshot, ...], count: int) -> tuple[OptionSnapshot, ...]:
    """Cross the quotes of the first so many."""
    return tuple(
        contract(one.contract.strike, one.contract.contract_type, bid=9.0) if n < count else one
        for n, one in enumerate(contracts)
    )


def test_an_empty_chain_is_an_error() -> None:
    """R204, R268."""
    assert codes(chain(())) == ["chain_empty"]
    assert quality(chain(())).level(NOW) is Level.POOR


def test_a_chain_without_calls_is_a_warning() -> None:
    """R268."""
    puts = chain(board(sides=[PUT]))

    assert codes(puts) == ["calls_missing"]
    assert quality(puts).confidence(NOW) == 95


def test_a_chain_without_puts_is_a_warning() -> None:
    """R268."""
    assert codes(chain(board(sides=[CALL]))) == ["puts_missing"]


def test_a_gap_in_the_strikes_is_found_by_their_usual_step() -> None:
    """R204, R268; information only, as section 2.17 has it."""
    gap = chain(board([90, 95, 100, 110, 115, 120]))

    assert quality(gap).reasons == (reason("strike_gap", "2025-12-19 100-110"),)
    assert quality(gap).confidence(NOW) == 100


def test_a_chain_without_strikes_at_the_money_is_poor() -> None:
    """W-54, R268."""
    wings = chain(board([*range(80, 95), *range(106, 120)]))

    assert codes(wings) == ["atm_missing", "strike_gap"]
    assert quality(wings).level(NOW) is Level.POOR


def test_a_valid_chain_covers_both_sides_and_the_money_and_is_excellent() -> None:
    """R268."""
    whole = chain(board(days=[DECEMBER, JANUARY]))

    assert quality(whole).reasons == ()
    assert quality(whole).confidence(NOW) == 100
    assert all(one.quality is not None for one in judged(whole).contracts)


# A bad contract.


def test_one_bad_contract_of_250_is_dropped_and_counted_and_sinks_nothing() -> None:
    """R192, W-54."""
    contracts = board([80 + n / 2 for n in range(125)])
    assert len(contracts) == 250

    verdict = judged(chain(spoil(contracts, 1)))

    assert len(verdict.contracts) == 249
    assert verdict.dropped == {"crossed": 1}
    assert verdict.quality is not None
    assert verdict.quality.reasons == (reason("contracts_dropped", "1 of 250"),)
    assert verdict.quality.confidence(NOW) == 95


@pytest.mark.parametrize(
    ("bad", "found", "points"),
    [(0, [], 100), (2, ["contracts_dropped"], 95), (3, ["too_many_invalid"], 0)],
)
def test_a_chain_is_poor_from_more_than_a_fifth_of_bad_contracts(
    bad: int, found: list[str], points: int
) -> None:
    subject = chain(spoil(board([98, 99, 100, 101, 102]), bad))  # of ten

    assert codes(subject) == found
    assert quality(subject).confidence(NOW) == points


def test_a_contract_with_two_errors_is_counted_once() -> None:
    worse = contract(bid=9.0, high=1.0, low=2.0)

    assert judged(chain((*board(), worse))).dropped == {"crossed": 1}


def test_what_was_dropped_before_counts_too() -> None:
    before = chain(board([99, 100]), dropped={"not_a_number": 1, "crossed": 1})

    verdict = judged(before)

    assert verdict.dropped == {"not_a_number": 1, "crossed": 1}
    assert verdict.quality is not None
    assert verdict.quality.reasons == (reason("too_many_invalid", "2 of 6"),)


def test_a_chain_of_bad_contracts_only_is_empty() -> None:
    assert codes(chain((contract(bid=9.0),))) == ["chain_empty", "too_many_invalid"]


def test_an_age_drops_nothing() -> None:
    verdict = judged(chain(), now_ns=NOW + 60 * S)

    assert len(verdict.contracts) == 42
    assert verdict.quality is not None
    assert verdict.quality.confidence(NOW + 60 * S) == 0


def test_warnings_of_contracts_are_told_by_the_contracts() -> None:
    subject = chain((*board([99, 101]), contract(bid=0.0), contract(100, PUT)))

    verdict = judged(subject)

    assert verdict.quality is not None
    assert verdict.quality.reasons == ()
    assert [len(one.quality.reasons) for one in verdict.contracts if one.quality] == [
        *[0] * 4,
        1,
        0,
    ]


# The chain itself.


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"underlying": ""}, ["symbol_missing"]),
        ({"underlying_price": math.nan}, ["not_a_number"]),
        ({"underlying_price": "100"}, ["not_a_number"]),
        ({"underlying_price": 0.0}, ["price_not_positive", "atm_missing"]),
        ({"underlying_price": None}, ["underlying_price_missing"]),
        ({"underlying_event_ns": "now"}, ["time_invalid"]),
        ({"underlying_event_ns": NOW + 2 * S}, []),
        ({"underlying_event_ns": NOW + 2 * S + 1}, ["future"]),
        ({"partial": ("2026-01-16 failed",)}, ["chain_partial"]),
    ],
)
def test_what_is_wrong_with_the_chain_itself_is_found(
    changes: dict[str, Any], found: list[str]
) -> None:
    assert codes(chain(**changes)) == found


def test_what_a_partial_chain_lacks_is_named() -> None:
    (found,) = quality(chain(partial=("2026-01-16 failed", "page 3 not read"))).reasons

    assert found.detail == "2026-01-16 failed; page 3 not read"


@pytest.mark.parametrize(
    ("price", "near"),
    [(102.5, True), (102.6, False), (97.5, True), (97.4, False)],
)
def test_the_money_is_near_within_two_and_a_half_dollars(price: float, near: bool) -> None:
    found = codes(chain(board([100]), underlying_price=price))

    assert found == ([] if near else ["atm_missing"])


@pytest.mark.parametrize(("price", "near"), [(6150.0, True), (6154.0, False)])
def test_the_money_is_near_within_a_fortieth_of_a_high_price(price: float, near: bool) -> None:
    found = codes(chain(board([6000]), underlying_price=price))

    assert found == ([] if near else ["atm_missing"])


def test_some_expirations_without_the_money_are_a_warning_that_names_them() -> None:
    some = (*board(days=[DECEMBER]), *board([150, 151], days=[JANUARY]))

    assert quality(chain(some)).reasons == (reason("atm_partial", "2026-01-16"),)


def test_a_chain_asked_for_in_part_is_not_asked_what_it_covers() -> None:
    far_calls = chain(board([150, 155, 165, 170], sides=[CALL]))

    assert codes(far_calls, whole=False) == []
    assert codes(far_calls) == ["puts_missing", "atm_missing", "strike_gap"]


@pytest.mark.parametrize(
    ("strikes", "gaps"),
    [
        ([], []),
        ([1], []),
        ([1, 2, 4], []),
        ([90, 95, 100, 110, 115], [(100, 110)]),
        ([110, 90, 115, 100, 95, 95], [(100, 110)]),
        ([90, 95, 100, 115, 120], [(100, 115)]),
        ([90, 95, 105, 115, 120, 125], [(95, 105), (105, 115)]),
        ([80, 90, 95, 100, 105, 110, 120, 130], []),  # the wings are coarser
        ([50, 75, 85, 90, 95, 100, 110, 135], []),
        ([1.5, 2.0, 2.5, 3.5, 4.0], [(2.5, 3.5)]),
        ([0.1 * n for n in range(10)], []),  # steps of floats differ by a hair
        ([1, 2, 3, 5, 6, 9, 10, 11], [(3, 5), (6, 9)]),
    ],
)
def test_a_gap_is_a_step_wider_than_usual_between_narrower_ones(
    strikes: list[float], gaps: list[tuple[float, float]]
) -> None:
    assert strike_gaps(strikes) == gaps


def test_of_many_gaps_three_are_named() -> None:
    strikes = [n for n in range(90, 130) if n % 5]  # 90, 95 … are missing

    (found,) = quality(chain(board(strikes))).reasons

    assert found.detail.startswith("2025-12-19 94-96, 2025-12-19 99-101, 2025-12-19 104-106 and ")
    assert found.detail.endswith(" more")


# Age, provenance, and what stays.


def test_the_chain_is_as_old_as_its_newest_quote() -> None:
    """A contract that nobody trades is old, its chain is not."""
    old = contract(90.0, event_ns=NOW - 600 * S)
    verdict = judged(chain((*board(), old)))

    assert verdict.quality is not None
    assert verdict.quality.confidence(NOW + 5 * S) == 100
    assert verdict.quality.is_stale(NOW + 6 * S)
    last = verdict.contracts[-1].quality
    assert last is not None
    assert last.freshness(NOW) is Freshness.UNUSABLE


def test_without_times_of_quotes_the_underlyings_counts() -> None:
    timeless = tuple(
        contract(one.contract.strike, one.contract.contract_type, event_ns=None) for one in board()
    )

    assert quality(chain(timeless, underlying_event_ns=NOW - 7 * S)).event_ns == NOW - 7 * S
    assert quality(chain(timeless)).event_ns is None
    assert quality(chain(timeless, underlying_event_ns=-1)).event_ns is None


def test_a_closed_market_ages_no_chain() -> None:
    night = 1_764_035_000 * S  # 20:43 in New York

    verdict = judged(chain(), now_ns=night, market_open=False)

    assert verdict.quality is not None
    assert verdict.quality.freshness(night) is Freshness.SETTLED
    assert {one.quality.confidence(night) for one in verdict.contracts if one.quality} == {100}


def test_delayed_and_live_quotes_of_one_chain_age_each_their_way() -> None:
    mixed = chain((contract(100.0), contract(100.0, PUT, delayed=True)), delayed=True)

    verdict = judged(mixed)

    live, late = (one.quality for one in verdict.contracts)
    assert live is not None
    assert late is not None
    assert verdict.quality is not None
    assert live.confidence(NOW + 31 * S) == 0
    assert late.confidence(NOW + 31 * S) == verdict.quality.confidence(NOW + 31 * S) == 75


def test_notes_and_the_fallback_reason_survive_judging() -> None:
    note = reason("fallback", "massive: upstream_down")
    first = judged(chain(), notes=(note,))
    assert first.quality is not None
    why = msgspec.structs.replace(first.quality, fallback_reason="massive: upstream_down")

    again = judged(msgspec.structs.replace(first, quality=why))

    assert again.quality == why
    assert why.reasons == (note,)


def test_what_the_source_says_of_a_contract_is_told_by_it() -> None:
    """W-61: Tradier's Greeks are hourly, and its puts' are corrected."""
    said = reason("greeks_corrected")
    one, other = board([100])

    verdict = judged(chain((one, other)), contract_notes={other.symbol: (said,)})

    assert [each.quality.reasons for each in verdict.contracts if each.quality] == [(), (said,)]
    assert judged(verdict) == verdict


FAULTS: dict[str, Callable[[OptionSnapshot], OptionSnapshot]] = {
    name: lambda one, changes=changes: msgspec.structs.replace(
        one, quote=msgspec.structs.replace(one.quote, **changes)
    )
    for name, changes in {
        "crossed": {"bid": 9.0},
        "negative": {"bid": -1.0},
        "ahead": {"event_ns": NOW + 9 * S},
        "text": {"last": "2.0"},
        "zero bid": {"bid": 0.0},
        "wide": {"ask": 9.0},
    }.items()
}
FAULTS["strike"] = lambda one: msgspec.structs.replace(
    one, contract=msgspec.structs.replace(one.contract, strike=-1.0)
)
boards = st.builds(
    board,
    st.lists(st.integers(85, 115), min_size=1, max_size=10, unique=True),
    sides=st.sampled_from([SIDES, (CALL,), (PUT,)]),
    days=st.sampled_from([(DECEMBER,), (DECEMBER, JANUARY)]),
)
faults = st.lists(st.tuples(st.integers(0, 39), st.sampled_from(sorted(FAULTS))), max_size=12)


def with_faults(
    contracts: tuple[OptionSnapshot, ...], places: list[tuple[int, str]]
) -> tuple[OptionSnapshot, ...]:
    spoilt = list(contracts)
    for place, name in places:
        spoilt[place % len(spoilt)] = FAULTS[name](spoilt[place % len(spoilt)])
    return tuple(spoilt)


@given(
    contracts=boards, some=faults, another=st.sampled_from(sorted(FAULTS)), at=st.integers(0, 39)
)
def test_adding_a_fault_never_raises_the_score_of_a_chain(
    contracts: tuple[OptionSnapshot, ...], some: list[tuple[int, str]], another: str, at: int
) -> None:
    untouched = [n for n in range(len(contracts)) if n not in {p % len(contracts) for p, _ in some}]
    if not untouched:
        return
    worse = [*some, (untouched[at % len(untouched)], another)]

    before = quality(chain(with_faults(contracts, some))).confidence(NOW)
    after = quality(chain(with_faults(contracts, worse))).confidence(NOW)

    assert after <= before


@given(contracts=boards, some=faults)
def test_judging_loses_no_count_alters_no_number_and_comes_to_the_same_verdict(
    contracts: tuple[OptionSnapshot, ...], some: list[tuple[int, str]]
) -> None:
    subject = chain(with_faults(contracts, some))

    verdict = judged(subject)

    assert len(verdict.contracts) + sum(verdict.dropped.values()) == len(contracts)
    numbers = [repr(msgspec.structs.replace(one, quality=None)) for one in verdict.contracts]
    every = [repr(one) for one in subject.contracts]
    assert [one for one in every if one in set(numbers)] == numbers
    assert verdict.underlying_price == subject.underlying_price
    assert judged(verdict) == verdict
