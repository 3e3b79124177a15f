"""Tradier's names for what the simulated market calls by the first vendor's.

    SPY250620C00600000   O:SPY250620C00600000
    SPX                  I:SPX
    BRK/B                BRK.B

A name in the other vendor's form is an unknown one here.
"""

import re
from collections.abc import Mapping
from typing import Final

from onetape.model import AssetClass
from onetape.simulator.market import Contract, Instrument, Market
from onetape.simulator.seeded.conditions import EXCHANGES

_OCC: Final = re.compile(r"[A-Z0-9]{1,6}\d{6}[CP]\d{8}", re.ASCII)
_LETTERS: Final[Mapping[int, str]] = {
    exchange.id: exchange.participant_id for exchange in EXCHANGES if exchange.participant_id
}
_LISTED: Final = {"ARCX": "P", "XNAS": "Q", "XNYS": "N"}
_TYPES: Final = {"CS": "stock", "ETF": "etf", "INDEX": "index"}


def symbol_of(name: str, market: Market) -> str | None:
    """Return the market's symbol of something that exists, whether or not it still trades."""
    if _OCC.fullmatch(name):
        symbol = f"O:{name}"
        return symbol if market.contract(symbol) is not None else None
    found = instrument_of(name, market)
    return None if found is None else found.ticker


def instrument_of(name: str, market: Market) -> Instrument | None:
    """Return the stock, ETF or index of a name."""
    if ":" in name or "." in name:
        return None
    return market.instrument(f"I:{name}") or market.instrument(name.replace("/", "."))


def living_contract(symbol: str, market: Market, now_ns: int) -> Contract | None:
    """Return a contract that is still listed: on its last day until midnight."""
    today = market.market_date(now_ns)
    contract = market.contract(symbol)
    if contract is None or not contract.listed <= today <= contract.expiration:
        return None
    return contract


def name_of(symbol: str) -> str:
    """Return Tradier's name of a symbol of the market."""
    return symbol.removeprefix("O:").removeprefix("I:").replace(".", "/")


def letter(exchange: int) -> str:
    """Return the letter of an exchange; Cboe's for one that has none."""
    return _LETTERS.get(exchange, "C")


def listing_letter(instrument: Instrument) -> str:
    """Return the letter of the exchange that lists it; an index has its publisher's."""
    return _LISTED.get(instrument.primary_exchange or "", "C")


def kind_of(instrument: Instrument) -> str:
    """Return `stock`, `etf` or `index`."""
    if instrument.asset is AssetClass.INDICES:
        return "index"
    return _TYPES.get(instrument.type, "stock")
