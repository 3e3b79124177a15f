from typing import Any

import pytest

from onetape.simulator.market import Market
from onetape.simulator.tradier import names
from onetape.symbols import from_tradier, to_tradier


@pytest.fixture
def market(tradier: Any) -> Market:
    return tradier.market


@pytest.mark.parametrize("symbol", ["SPY", "I:SPX", "I:VIX", "O:SPY251219C00650000"])
def test_a_name_leads_to_the_symbol_and_back(market: Market, symbol: str) -> None:
    assert names.symbol_of(names.name_of(symbol), market) == symbol
    assert names.name_of(symbol) == to_tradier(symbol)
    assert from_tradier(names.name_of(symbol)) == symbol


@pytest.mark.parametrize(
    "name", ["I:SPX", "O:SPY251219C00650000", "BRK.B", "ZZZZ", "SPXW", "SPY251219C00650001", ""]
)
def test_the_other_vendors_form_and_roots_are_unknown_names(market: Market, name: str) -> None:
    assert names.symbol_of(name, market) is None
    assert names.instrument_of(name, market) is None


def test_class_shares_have_a_slash() -> None:
    assert names.name_of("BRK.B") == "BRK/B"


def test_a_contract_lives_until_the_end_of_its_last_day(market: Market) -> None:
    now_ns = market.now_ns()

    assert names.living_contract("O:SPY251124C00675000", market, now_ns) is not None
    assert names.living_contract("O:SPY251121C00675000", market, now_ns) is None


def test_exchanges_and_kinds_have_letters_and_words(market: Market) -> None:
    assert [names.letter(number) for number in (10, 11, 302, 999)] == ["N", "P", "C", "C"]
    told = {
        one.ticker: (names.listing_letter(one), names.kind_of(one)) for one in market.instruments()
    }
    assert told["SPY"] == ("P", "etf")
    assert told["AAPL"] == ("Q", "stock")
    assert told["I:SPX"] == ("C", "index")
