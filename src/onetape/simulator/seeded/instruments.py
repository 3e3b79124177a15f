"""What trades in the simulated market, and how each of it behaves.

Levels follow a few factors: the market, technology and size, plus what is the symbol's
own. An index and its ETF load on the same factors, so one tracks the other; VIX loads on
the market with the opposite sign. `trend` anchors the level at the start of 2024, 2025,
2026, 2027 and 2031, so that any seed gives plausible prices.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from onetape.errors import InvalidSymbol
from onetape.model import AssetClass
from onetape.simulator.seeded.noise import generator

FACTORS: Final[Mapping[str, float]] = {"market": 0.0085, "tech": 0.0055, "size": 0.0070}
"""Each factor and its standard deviation on one business day."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One stock, ETF or index, as `/v3/reference/tickers` describes it."""

    ticker: str
    """`SPY`, `I:SPX`."""
    name: str
    asset: AssetClass
    """STOCKS (stocks and ETFs) or INDICES."""
    type: str
    """`CS`, `ETF` or `INDEX`."""
    primary_exchange: str | None = None
    """MIC; None for an index."""
    tape: int | None = None
    cik: str | None = None
    list_date: str | None = None
    shares_outstanding: int | None = None
    description: str | None = None
    has_options: bool = False


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How a symbol moves and trades."""

    trend: tuple[float, float, float, float, float]
    loadings: tuple[float, float, float]
    """On the market, tech and size factors."""
    own: float = 0.0
    """Standard deviation of its own part on one business day."""
    trades_per_day: int = 0
    quote_every_s: float = 1.0
    """Mean seconds between quotes, or between values of an index."""
    spread: float = 0.01
    """Typical bid to ask, dollars."""
    lot: float = 1.0
    """Scale of trade and quote sizes."""
    volatility: float = 0.16
    """Long-run implied volatility."""
    dividend: float = 0.0
    is_volatility: bool = False
    """VIX: its level is squeezed between bounds and its forwards revert."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol and its behaviour."""

    instrument: Instrument
    behaviour: Behaviour


def _index(
    ticker: str,
    name: str,
    trend: tuple[float, float, float, float, float],
    loadings: tuple[float, float, float],
    **rest: float | bool,
) -> Listing:
    behaviour = {"quote_every_s": 0.5, **rest}
    return Listing(
        instrument=Instrument(
            ticker=ticker, name=name, asset=AssetClass.INDICES, type="INDEX", has_options=True
        ),
        behaviour=Behaviour(trend=trend, loadings=loadings, **behaviour),  # pyright: ignore[reportArgumentType]
    )


def _scaled(
    trend: tuple[float, float, float, float, float], ratio: float
) -> tuple[float, float, float, float, float]:
    first, second, third, fourth, fifth = trend
    return first * ratio, second * ratio, third * ratio, fourth * ratio, fifth * ratio


_SPX: Final = (4743.0, 5869.0, 6850.0, 7250.0, 8800.0)
_NDX: Final = (16544.0, 20975.0, 25300.0, 27500.0, 36000.0)
_RUT: Final = (2012.0, 2231.0, 2480.0, 2600.0, 3100.0)
_ARCA: Final = "ARCX"
_NASDAQ: Final = "XNAS"


def _etf(ticker: str, name: str, exchange: str, list_date: str, behaviour: Behaviour) -> Listing:
    return Listing(
        instrument=Instrument(
            ticker=ticker,
            name=name,
            asset=AssetClass.STOCKS,
            type="ETF",
            primary_exchange=exchange,
            tape=3 if exchange == _NASDAQ else 2,
            list_date=list_date,
            has_options=True,
        ),
        behaviour=behaviour,
    )


def _stock(about: tuple[str, str, str, str, int], behaviour: Behaviour) -> Listing:
    ticker, name, cik, list_date, shares = about
    return Listing(
        instrument=Instrument(
            ticker=ticker,
            name=name,
            asset=AssetClass.STOCKS,
            type="CS",
            primary_exchange=_NASDAQ,
            tape=3,
            cik=cik,
            list_date=list_date,
            shares_outstanding=shares,
            has_options=True,
        ),
        behaviour=behaviour,
    )


_TABLE: Final = (
    _index("I:SPX", "S&P 500", _SPX, (1.0, 0.0, 0.0), volatility=0.175),
    _index("I:NDX", "Nasdaq 100", _NDX, (1.1, 1.0, 0.0), volatility=0.215),
    _index("I:RUT", "Russell 2000", _RUT, (1.0, 0.0, 1.0), volatility=0.225),
    # The trend is unused: its level is squeezed around 17 (see levels.py).
    _index(
        "I:VIX",
        "Cboe Volatility Index",
        (17.0, 17.0, 17.0, 17.0, 17.0),
        (-24.0, 0.0, 0.0),
        own=0.12,
        quote_every_s=1.0,
        volatility=0.9,
        is_volatility=True,
    ),
    _etf(
        "SPY",
        "SPDR S&P 500 ETF Trust",
        _ARCA,
        "1993-01-29",
        Behaviour(
            trend=_scaled(_SPX, 0.0998),
            loadings=(1.0, 0.0, 0.0),
            own=0.00006,
            trades_per_day=24_000,
            quote_every_s=0.25,
            lot=2.5,
            volatility=0.175,
            dividend=0.012,
        ),
    ),
    _etf(
        "QQQ",
        "Invesco QQQ Trust, Series 1",
        _NASDAQ,
        "1999-03-10",
        Behaviour(
            trend=_scaled(_NDX, 0.0243),
            loadings=(1.1, 1.0, 0.0),
            own=0.00006,
            trades_per_day=20_000,
            quote_every_s=0.3,
            lot=2.0,
            volatility=0.215,
            dividend=0.006,
        ),
    ),
    _etf(
        "IWM",
        "iShares Russell 2000 ETF",
        _ARCA,
        "2000-05-22",
        Behaviour(
            trend=_scaled(_RUT, 0.0992),
            loadings=(1.0, 0.0, 1.0),
            own=0.00008,
            trades_per_day=12_000,
            quote_every_s=0.4,
            lot=2.0,
            volatility=0.225,
            dividend=0.012,
        ),
    ),
    _stock(
        ("AAPL", "Apple Inc.", "0000320193", "1980-12-12", 14_840_000_000),
        Behaviour(
            trend=(185.6, 243.9, 271.0, 290.0, 380.0),
            loadings=(1.05, 0.5, 0.0),
            own=0.011,
            trades_per_day=20_000,
            quote_every_s=0.4,
            lot=1.2,
            volatility=0.27,
            dividend=0.004,
        ),
    ),
    _stock(
        ("MSFT", "Microsoft Corp", "0000789019", "1986-03-13", 7_430_000_000),
        Behaviour(
            trend=(370.9, 418.6, 484.0, 520.0, 700.0),
            loadings=(1.0, 0.55, 0.0),
            own=0.009,
            trades_per_day=15_000,
            quote_every_s=0.5,
            spread=0.03,
            volatility=0.25,
            dividend=0.007,
        ),
    ),
    _stock(
        ("NVDA", "Nvidia Corp", "0001045810", "1999-01-22", 24_300_000_000),
        Behaviour(
            trend=(48.2, 138.3, 187.0, 210.0, 320.0),
            loadings=(1.6, 1.2, 0.0),
            own=0.017,
            trades_per_day=24_000,
            quote_every_s=0.3,
            lot=2.0,
            volatility=0.43,
        ),
    ),
    _stock(
        ("TSLA", "Tesla, Inc. Common Stock", "0001318605", "2010-06-29", 3_330_000_000),
        Behaviour(
            trend=(248.4, 379.3, 440.0, 450.0, 600.0),
            loadings=(1.5, 0.8, 0.0),
            own=0.025,
            trades_per_day=24_000,
            quote_every_s=0.3,
            spread=0.03,
            volatility=0.55,
        ),
    ),
)


def _invented(ticker: str) -> Listing:
    if not ticker.isalnum() or not ticker.isupper():
        raise InvalidSymbol(f"cannot simulate {ticker!r}: expected a plain stock ticker")
    # Keyed by the ticker alone: what a company is does not depend on the seed.
    rng = generator("invented", ticker)
    price = float(_between(rng.random(), 20.0, 400.0))
    own = float(0.008 + 0.02 * rng.random())
    beta = float(0.6 + rng.random())
    return Listing(
        instrument=Instrument(
            ticker=ticker,
            name=f"{ticker} (simulated)",
            asset=AssetClass.STOCKS,
            type="CS",
            primary_exchange="XNYS",
            tape=1,
            has_options=True,
        ),
        behaviour=Behaviour(
            trend=(price, price * 1.06, price * 1.12, price * 1.18, price * 1.5),
            loadings=(beta, 0.2, 0.2),
            own=own,
            trades_per_day=6_000,
            quote_every_s=1.0,
            spread=max(0.01, round(price * 0.0002, 2)),
            volatility=round(16 * (own + 0.0085 * beta) * 0.9, 3),
        ),
    )


def _between(unit: float, low: float, high: float) -> float:
    """Spread a number in [0, 1) evenly over the logarithms between low and high."""
    return low * (high / low) ** unit


def listings(extra: Sequence[str] = ()) -> Mapping[str, Listing]:
    """The market's symbols by ticker, sorted: the table, and stocks invented for `extra`."""
    every: dict[str, Listing] = {listing.instrument.ticker: listing for listing in _TABLE}
    new: Iterable[str] = (ticker for ticker in extra if ticker not in every)
    every.update({ticker: _invented(ticker) for ticker in new})
    return dict(sorted(every.items()))
