"""Every route of our own in one table: its paths, what may be asked, what is answered.

OPERATIONS ──┬─▶ the routes that `Api` and `MarketApi` mount
             ├─▶ how a query is read: `parameters`
             └─▶ /openapi.json: `openapi`
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from onetape.gateway import bodies
from onetape.gateway.parameters import (
    Bars,
    Chain,
    Contracts,
    Holidays,
    IndexBars,
    OptionBars,
    Parameters,
    Ready,
    StockBars,
    Symbols,
    VendorChain,
)
from onetape.market_answers import (
    BarsAnswer,
    ChainAnswer,
    ContractsAnswer,
    HolidaysAnswer,
    IndicesAnswer,
    MarketStatusAnswer,
    QuotesAnswer,
)


class Access(StrEnum):
    """Who may ask."""

    PUBLIC = "public"
    DATA = "data"
    """A client key or a token, if its scopes cover the path."""
    TOKENS = "tokens"
    """Whoever may mint, or shows the token to revoke."""


class Operation(NamedTuple):
    """One thing that can be asked for."""

    name: str
    summary: str
    paths: tuple[str, ...]
    answers: tuple[Any, ...]
    """What the body is of status 200, one of them; `str` is text."""
    parameters: type[Parameters] = Parameters
    aliases: Mapping[str, str] = {}
    """Other names of parameters."""
    method: str = "GET"
    access: Access = Access.DATA
    counted: str = "market"
    """The endpoint that metrics and the log name."""
    tag: str = "market data"
    asks_vendor: bool = True
    may_be_missing: bool = False
    """Whether it can be `not_found`."""
    unhealthy: bool = False
    """Whether the same body comes with 503 when something is wrong."""
    deprecated: bool = False
    drops_unknown: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the handler answers; HEAD as GET, without the body."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_UNDERLYING: Final = {"symbol": "underlying"}
_TICKERS: Final = {"symbols": "tickers"}


_public = partial(Operation, access=Access.PUBLIC, tag="gateway", asks_vendor=False)
_tokens = partial(
    Operation, access=Access.TOKENS, tag="gateway", asks_vendor=False, counted="ws_token"
)

OPERATIONS: Final[Mapping[str, Operation]] = {
    one.name: one
    for one in (
        Operation(
            "quotes",
            "Quotes of stocks, indices and options, each symbol in results or in errors",
            ("/api/quotes",),
            (QuotesAnswer,),
            Symbols,
            _TICKERS,
            counted="quotes",
        ),
        Operation(
            "bars",
            "Bars of a stock, an index or an option",
            ("/api/bars",),
            (BarsAnswer,),
            Bars,
            counted="bars",
            may_be_missing=True,
        ),
        Operation(
            "stock_bars",
            "Bars of a stock",
            ("/api/massive/stocks/bars",),
            (BarsAnswer,),
            StockBars,
            counted="bars",
            may_be_missing=True,
        ),
        Operation(
            "index_bars",
            "Bars of an index, with or without its `I:`",
            ("/api/massive/indices/bars",),
            (BarsAnswer,),
            IndexBars,
            counted="bars",
            may_be_missing=True,
        ),
        Operation(
            "option_bars",
            "Bars of an option",
            ("/api/massive/options/bars",),
            (BarsAnswer,),
            OptionBars,
            {"symbol": "ticker"},
            counted="bars",
            may_be_missing=True,
        ),
        Operation(
            "chain",
            "The chain of an underlying, around the money or within bounds",
            ("/api/options/chain",),
            (ChainAnswer,),
            Chain,
            _UNDERLYING,
            counted="chain",
            may_be_missing=True,
        ),
        Operation(
            "vendor_chain",
            "The chain of an underlying by the vendor's filters, pages merged",
            ("/api/massive/options/chain",),
            (ChainAnswer,),
            VendorChain,
            _UNDERLYING,
            counted="chain",
            may_be_missing=True,
        ),
        Operation(
            "contracts",
            "The terms of listed options by the vendor's filters; kept 15 minutes",
            ("/api/massive/options/contracts",),
            (ContractsAnswer,),
            Contracts,
            {"underlying": "underlying_ticker", "symbol": "underlying_ticker"},
            counted="contracts",
            may_be_missing=True,
            drops_unknown=True,
        ),
        Operation(
            "indices",
            "Index values, each symbol in results or in errors",
            ("/api/massive/indices",),
            (IndicesAnswer,),
            Symbols,
            _TICKERS,
            counted="indices",
        ),
        Operation(
            "market_holidays",
            "The holidays and half days of a year",
            ("/api/market/holidays",),
            (HolidaysAnswer,),
            Holidays,
            counted="holidays",
        ),
        _public(
            "market_status",
            "What the exchanges are doing, by the vendor or else by the calendar",
            ("/api/market/status", "/market/status"),
            (MarketStatusAnswer,),
            counted="market",
            tag="market data",
        ),
        _public(
            "health",
            "Whether the gateway lives, and how its parts do",
            ("/api/health", "/health"),
            (bodies.Liveness, bodies.Readiness),
            Ready,
            counted="health",
            unhealthy=True,
        ),
        _public(
            "ready",
            "Whether clients may be sent here",
            ("/api/health/ready",),
            (bodies.Readiness,),
            counted="health",
            unhealthy=True,
        ),
        _public(
            "ws_health",
            "The live side, asset class by asset class",
            ("/api/ws-health",),
            (bodies.LiveSide,),
            counted="ws_health",
            unhealthy=True,
        ),
        _public("metrics", "Prometheus", ("/metrics",), (str,), counted="metrics"),
        _public(
            "openapi",
            "This description",
            ("/openapi.json",),
            (bodies.Description,),
            counted="openapi",
        ),
        _tokens(
            "mint_token",
            "Mint a token from a key, or another from a token",
            ("/api/ws-token",),
            (bodies.MintedToken,),
            method="POST",
        ),
        _tokens(
            "mint_token_deprecated",
            "The same under its old name",
            ("/api/massive/ws-token",),
            (bodies.MintedToken,),
            method="POST",
            deprecated=True,
        ),
        _tokens(
            "revoke_token",
            "Revoke the token that is shown",
            ("/api/ws-token",),
            (bodies.RevokedToken,),
            method="DELETE",
        ),
    )
}
"""By name."""
