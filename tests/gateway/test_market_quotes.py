"""Quotes of every class, of fakes that say what they were asked."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, cast

import pytest

from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    InvalidSymbol,
    OnetapeError,
    UpstreamTimeout,
)
from onetape.gateway.market_quotes import MOST_SINGLES, Quotes, as_index, as_option, as_stock
from onetape.hub import Providers
from onetape.massive.questions import MassiveQuestions
from onetape.model import ContractType, IndexSnapshot, OptionContract, OptionSnapshot, Quote
from onetape.provenance import Ageing, Quality, Reason, Severity, Source
from onetape.rows import Rows, SymbolFault
from onetape.symbols import parse_option
from onetape.testing import ManualClock

CLOCK = ManualClock()
NOW_NS = CLOCK.now_ns()
CALL, PUT = "O:SPY261218C00650000", "O:SPY261218P00650000"


def judged(*reasons: Reason, age_s: float = 0.0) -> Quality:
    return Quality(
        provider="massive",
        source=Source.REST,
        received_ns=NOW_NS,
        event_ns=NOW_NS - round(age_s * 1e9),
        reasons=reasons,
        ageing=Ageing(stale_s=5, alert_s=10, old_s=15, unusable_s=30),
    )


def quote(symbol: str, price: float = 1.0, quality: Quality | None = None) -> Quote:
    return Quote(
        symbol=symbol,
        event_ns=NOW_NS,
        received_ns=NOW_NS,
        provider="massive",
        last=price,
        simulated=True,
        quality=quality,
    )


def snapshot(symbol: str) -> OptionSnapshot:
    terms = parse_option(symbol)
    contract = OptionContract(
        symbol=symbol,
        root=terms.root,
        underlying=terms.underlying,
        expiration=terms.expiration,
        strike=terms.strike,
        contract_type=terms.contract_type,
    )
    return OptionSnapshot(contract=contract, quote=quote(symbol))


def fault(symbol: str, error: str) -> SymbolFault:
    return SymbolFault(symbol=symbol, error=error, message="so")


class World:
    """Providers, questions and a hub in one; `down` has what fails as a whole."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.down: dict[str, OnetapeError] = {}
        self.faults: dict[str, str] = {}
        self.second: dict[str, OptionSnapshot] = {}
        self.held: dict[str, Any] = {}
        providers = Providers(*[cast("Any", self)] * 3)
        self.quotes = Quotes(
            providers=providers,
            questions=cast("MassiveQuestions", self),
            hub=self,
            clock=CLOCK,
            is_open=lambda _: True,
        )

    def get_equity(self, symbol: str) -> Quote | None:
        return self.held.get(symbol)

    def get_index(self, symbol: str) -> IndexSnapshot | None:
        return self.held.get(symbol)

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        return self.rows("stocks", symbols, {one: quote(one) for one in symbols}, Quote)

    async def get_index_snapshots(self, symbols: Sequence[str]) -> Rows[IndexSnapshot]:
        made = {
            one: IndexSnapshot(symbol=one, quote=quote(one), quality=judged()) for one in symbols
        }
        return self.rows("indices", symbols, made, IndexSnapshot)

    async def option_snapshots(self, symbols: Sequence[str]) -> Rows[OptionSnapshot]:
        return self.rows(
            "options", symbols, {one: snapshot(one) for one in symbols}, OptionSnapshot
        )

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        key = f"{underlying} {strike:g} {expiration} {contract_type}"
        self.asked.append(("one", (key,)))
        if key not in self.second:
            raise ContractNotFound("no such contract")
        return self.second[key]

    def rows(
        self, what: str, symbols: Iterable[str], made: Mapping[str, Any], kind: type
    ) -> Rows[Any]:
        self.asked.append((what, tuple(symbols)))
        if what in self.down:
            raise self.down[what]
        return Rows(
            [row for symbol, row in made.items() if symbol not in self.faults],
            kind=kind,
            errors=[fault(one, self.faults[one]) for one in made if one in self.faults],
            simulated=True,
        )


async def test_each_class_is_asked_once_and_the_answer_is_in_the_order_asked_for() -> None:
    """R46: results with the vendor's symbols, however they were written."""
    world = World()

    answer = await world.quotes.quotes(["spy", CALL, "$SPX", "AAPL", PUT, "VIX"])

    assert [one.symbol for one in answer.results] == ["SPY", CALL, "I:SPX", "AAPL", PUT, "I:VIX"]
    assert sorted(world.asked) == [
        ("indices", ("I:SPX", "I:VIX")),
        ("options", (CALL, PUT)),
        ("stocks", ("SPY", "AAPL")),
    ]
    assert answer.errors == {}
    assert answer.simulated


async def test_every_symbol_is_in_results_or_in_errors_and_in_one_of_them_once() -> None:
    """R46: no zero for what is not there; one that cannot be read disturbs no other."""
    world = World()
    world.faults = {"NOSUCH": "not_found", CALL: "not_found"}

    answer = await world.quotes.quotes(["SPY", "bad!!", "NOSUCH", "$SPX", "SPX", CALL, "SPY"])

    assert [one.symbol for one in answer.results] == ["SPY", "I:SPX"]
    assert {name: one.error for name, one in answer.errors.items()} == {
        "bad!!": "invalid_symbol",
        "NOSUCH": "not_found",
        CALL: "not_found",
    }


async def test_an_index_and_an_option_carry_the_verdict_on_the_whole() -> None:
    world = World()

    answer = await world.quotes.quotes(["SPX", CALL])

    assert all(one.quality is not None for one in answer.results)


async def test_a_class_that_fails_is_told_symbol_by_symbol() -> None:
    world = World()
    world.down["indices"] = AllProvidersFailed("nobody", retry_after_s=3)

    answer = await world.quotes.quotes(["SPY", "SPX", "VIX"])

    assert [one.symbol for one in answer.results] == ["SPY"]
    assert set(answer.errors) == {"I:SPX", "I:VIX"}
    assert answer.errors["I:SPX"].retry_after_s == 3


async def test_when_nothing_could_be_asked_it_is_an_error() -> None:
    """R31: a dead upstream is no 200."""
    world = World()
    world.down["stocks"] = UpstreamTimeout("late")

    with pytest.raises(UpstreamTimeout):
        await world.quotes.quotes(["SPY", "bad!!"])


async def test_only_unreadable_symbols_ask_nobody() -> None:
    world = World()

    answer = await world.quotes.quotes(["bad!!"])

    assert (answer.results, world.asked) == ((), [])


async def test_what_the_hub_has_fresh_is_not_asked_for() -> None:
    world = World()
    world.held = {
        "SPY": quote("SPY", 5.0, judged()),
        "I:SPX": IndexSnapshot(symbol="I:SPX", quote=quote("I:SPX", 6.0), quality=judged()),
    }

    answer = await world.quotes.quotes(["SPY", "SPX", CALL])

    assert [one.last for one in answer.results] == [5.0, 6.0, 1.0]
    assert world.asked == [("options", (CALL,))]


@pytest.mark.parametrize(
    "quality",
    [None, judged(age_s=6), judged(Reason(code="crossed", severity=Severity.ERROR))],
    ids=["unjudged", "stale", "wrong"],
)
async def test_what_the_hub_has_is_not_told_when_it_is_doubtful(quality: Quality | None) -> None:
    """W-53."""
    world = World()
    world.held = {"SPY": quote("SPY", 5.0, quality)}

    answer = await world.quotes.quotes(["SPY"])

    assert [one.last for one in answer.results] == [1.0]


async def test_options_that_the_vendor_fails_are_asked_of_the_providers() -> None:
    world = World()
    world.faults = {CALL: "upstream_down", PUT: "upstream_down"}
    world.second = {"SPY 650 2026-12-18 call": snapshot(CALL)}

    answer = await world.quotes.quotes([CALL, PUT])

    assert [one.symbol for one in answer.results] == [CALL]
    assert answer.errors[PUT].error == "upstream_down"


async def test_another_contract_of_the_same_terms_is_not_taken() -> None:
    """SPX and SPXW expire on one day and are two."""
    asked, other = "O:SPX261218C06000000", "O:SPXW261218C06000000"
    world = World()
    world.faults = {asked: "upstream_timeout"}
    world.second = {"I:SPX 6000 2026-12-18 call": snapshot(other)}

    with pytest.raises(UpstreamTimeout):
        await world.quotes.quotes([asked])


async def test_only_so_many_options_are_asked_for_one_by_one() -> None:
    many = [f"O:SPY261218C{strike:05}000" for strike in range(100, 150)]
    world = World()
    world.faults = dict.fromkeys(many, "upstream_down")

    with pytest.raises(OnetapeError):
        await world.quotes.quotes(many)

    assert sum(what == "one" for what, _ in world.asked) == MOST_SINGLES


async def test_indices_are_in_the_order_asked_for_and_what_is_none_is_an_error() -> None:
    """R44: a bare symbol is an index here."""
    world = World()
    world.faults = {"I:NOPE": "not_found"}

    answer = await world.quotes.indices(["VIX", "NOPE", CALL, "I:SPX", "bad!!", "VIX"])

    assert [one.symbol for one in answer.results] == ["I:VIX", "I:SPX"]
    assert {name: one.error for name, one in answer.errors.items()} == {
        "I:NOPE": "not_found",
        CALL: "invalid_symbol",
        "bad!!": "invalid_symbol",
    }
    assert world.asked == [("indices", ("I:VIX", "I:NOPE", "I:SPX"))]


async def test_no_index_at_all_asks_nobody() -> None:
    world = World()

    assert (await world.quotes.indices([CALL])).results == ()
    assert world.asked == []


def test_symbols_are_read_as_the_route_means_them() -> None:
    """R40: TRIN is an index to people and a stock on the stocks' route."""
    assert (as_index("spx"), as_index("TRIN"), as_index("ABC")) == ("I:SPX", "I:TRIN", "I:ABC")
    assert (as_stock("spy"), as_stock("TRIN")) == ("SPY", "TRIN")
    assert as_option(CALL[2:]) == CALL


@pytest.mark.parametrize(
    ("read", "text"), [(as_index, CALL), (as_stock, "I:SPX"), (as_stock, CALL), (as_option, "SPY")]
)
def test_a_symbol_of_another_class_is_refused(read: Any, text: str) -> None:
    with pytest.raises(InvalidSymbol):
        read(text)
