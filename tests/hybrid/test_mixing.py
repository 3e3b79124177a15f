from datetime import date
from typing import Any

import msgspec

from onetape.hybrid.mixing import lacks_greeks, with_greeks_of
from onetape.model import (
    ContractType,
    Greeks,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
)
from onetape.provenance import Quality, Source
from onetape.quality.chains import judge_chain
from onetape.quality.reasons import reason

S = 1_000_000_000
NOW_NS = 1_763_740_800 * S
HOURLY = reason("greeks_hourly", "about once an hour")


def contract(
    provider: str, strike: float, *, greeks: bool = True, bid: float | None = 1.0
) -> OptionSnapshot:
    symbol = f"O:SPY270115C{round(strike * 1000):08d}"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=date(2027, 1, 15),
            strike=strike,
            contract_type=ContractType.CALL,
        ),
        quote=Quote(
            symbol=symbol,
            event_ns=NOW_NS,
            received_ns=NOW_NS,
            provider=provider,
            bid=bid,
            ask=1.1,
        ),
        greeks=Greeks(delta=0.5, provider=provider, event_ns=NOW_NS - 600 * S) if greeks else None,
        implied_volatility=0.2 if greeks else None,
    )


def chain(provider: str, *contracts: OptionSnapshot, **judging: Any) -> OptionChain:
    made = OptionChain(
        underlying="SPY",
        underlying_price=100.0,
        contracts=contracts,
        received_ns=NOW_NS,
        provider=provider,
    )
    return judge_chain(made, now_ns=NOW_NS, market_open=True, **judging)


def bare(strike: float) -> OptionSnapshot:
    return contract("massive", strike, greeks=False)


def test_greeks_lack_when_most_quoted_contracts_have_none() -> None:
    assert lacks_greeks(chain("massive", bare(99), bare(100), contract("massive", 101)))
    assert not lacks_greeks(chain("massive", bare(99), contract("massive", 101)))
    assert not lacks_greeks(chain("massive"))


def test_contracts_that_nobody_bids_for_need_none() -> None:
    unquoted = contract("massive", 200, greeks=False, bid=0.0)

    assert not lacks_greeks(chain("massive", unquoted, unquoted, contract("massive", 100)))


def test_greeks_that_say_nothing_are_none() -> None:
    hollow = msgspec.structs.replace(bare(100), greeks=Greeks(provider="massive"))

    assert lacks_greeks(chain("massive", hollow))


def test_they_come_as_one_group_with_their_own_source_and_time() -> None:
    """W-61."""
    theirs = chain(
        "tradier",
        contract("tradier", 100),
        contract_notes={contract("tradier", 100).symbol: (HOURLY,)},
    )

    mixed = with_greeks_of(chain("massive", bare(100)), theirs)

    (one,) = mixed.contracts
    assert one.quote.provider == "massive"
    assert one.greeks == Greeks(
        delta=0.5, provider="tradier", source=Source.REST, event_ns=NOW_NS - 600 * S
    )
    assert one.implied_volatility == 0.2
    assert one.quality is not None
    codes = [found.code for found in one.quality.reasons_at(NOW_NS)]
    assert {"mixed_sources", "greeks_hourly", "greeks_stale"} <= set(codes)
    assert mixed.provider == "massive"
    assert _codes(mixed.quality) == {*_codes(theirs.quality), "mixed_sources"}


def _codes(quality: Quality | None) -> set[str]:
    return set() if quality is None else {one.code for one in quality.reasons}


def test_what_has_its_own_keeps_it() -> None:
    """W-61: no field is replaced."""
    own = chain("massive", contract("massive", 100), bare(101))

    mixed = with_greeks_of(own, chain("tradier", contract("tradier", 100)))

    assert mixed is own


def test_a_volatility_without_greeks_is_not_mixed_with_anothers_greeks() -> None:
    half = msgspec.structs.replace(bare(100), implied_volatility=0.3)
    own = chain("massive", half)

    assert with_greeks_of(own, chain("tradier", contract("tradier", 100))) is own


def test_what_nobody_judged_is_filled_all_the_same() -> None:
    own = msgspec.structs.replace(chain("massive"), contracts=(bare(100),), quality=None)
    theirs = msgspec.structs.replace(
        chain("tradier"), contracts=(contract("tradier", 100),), quality=None
    )

    (one,) = with_greeks_of(own, theirs).contracts

    assert one.greeks is not None
    assert one.quality is None
