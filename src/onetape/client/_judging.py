"""Judging what the sockets stream: the vendor's own words, which nobody checked before.

    an event ──▶ judged already? ── as it is
                   └─ no ──▶ the rules of its kind ──▶ the event, with its quality

What REST answers was judged by the gateway. Judging takes longer than everything else a
streamed event goes through, so a reader asks for it, and gets it for what it reads: not for
what was conflated or dropped before.
"""

from collections.abc import Sequence
from typing import Final

from onetape.calendar import options_trade, stocks_trade
from onetape.clock import Clock
from onetape.massive.questions import PROVIDER
from onetape.model import AssetClass, Bar, Quote, Trade
from onetape.quality.candles import JudgedBars, judge_bar, judge_bars
from onetape.quality.quotes import judge_quote, judge_trade
from onetape.symbols import asset_class

_S: Final = 1_000_000_000


class Judge:
    """Judges events at the time of a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[bool, tuple[int, bool]] = {}  # by whether it is a stock's

    def quote(self, quote: Quote) -> Quote:
        """Return a quote with its quality."""
        if quote.quality is not None:
            return quote
        now_ns = self._clock.now_ns()
        return judge_quote(quote, now_ns=now_ns, market_open=self._is_open(quote.symbol, now_ns))

    def trade(self, trade: Trade) -> Trade:
        """Return a trade with its quality."""
        if trade.quality is not None:
            return trade
        return judge_trade(trade, now_ns=self._clock.now_ns())

    def bar(self, bar: Bar) -> Bar:
        """Return a bar with its quality."""
        if bar.quality is not None:
            return bar
        now_ns = self._clock.now_ns()
        return judge_bar(bar, now_ns=now_ns, market_open=self._is_open(bar.symbol, now_ns))

    def bars(self, symbol: str, bars: Sequence[Bar], *, reaches_now: bool) -> JudgedBars:
        """Judge a series of the vendor's; what cannot be true is left out of it."""
        now_ns = self._clock.now_ns()
        return judge_bars(
            bars,
            provider=PROVIDER,
            now_ns=now_ns,
            market_open=self._is_open(symbol, now_ns),
            reaches_now=reaches_now,
        )

    def _is_open(self, symbol: str, now_ns: int) -> bool:
        """Tell whether the symbol trades; the calendar is asked once a second."""
        is_stock = asset_class(symbol) is AssetClass.STOCKS
        now_s, known = self._seen.get(is_stock, (-1, False))
        if now_s == now_ns // _S:
            return known
        trade = stocks_trade if is_stock else options_trade
        is_open = trade(now_ns)
        self._seen[is_stock] = now_ns // _S, is_open
        return is_open
