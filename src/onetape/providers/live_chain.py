"""An option chain in the making: what was answered, and what was streamed since.

    answer ──▶ terms, Greeks, open interest, volume, and quotes as they were then
    Q, T   ──▶ bid and ask, last print of a contract; the newest exchange time wins (W-66)
    V, T   ──▶ the underlying's price

Sans-I/O. Greeks stay those of the answer and say so by their own source (W-61). What
the rules find wrong in an event is not shown: the contract stays as it was, and ages.

A chain can be larger than a stream carries. The contracts nearest to the money are
streamed, as many as is allowed; the others are as they were answered.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from onetape.chain_query import ChainQuery
from onetape.model import AssetClass, Bar, OptionChain, OptionSnapshot, Quote, Topic, Trade
from onetape.provenance import Source
from onetape.providers.following import Event
from onetape.providers.live_quote import LiveQuote, is_representative, last_price
from onetape.quality.contracts import contract_reasons, with_verdict
from onetape.quality.quotes import both_ageings
from onetape.quality.rules import moment
from onetape.quality.score import DataClass
from onetape.symbols import asset_class, topic

_replace: Final = msgspec.structs.replace


class LiveChainStatistics(NamedTuple):
    """A snapshot for metrics. Counts are since the start."""

    contracts: int
    streamed: int
    merged: int  # events that count
    ignored: int  # older than what was known, or of no contract that is shown
    rejected: int  # contracts left as they were, because of an error in what came


class _Row:
    """One contract: what is shown, and what came since."""

    __slots__ = ("live", "shown", "trade")

    def __init__(self, snapshot: OptionSnapshot) -> None:
        self.shown = snapshot
        self.live = LiveQuote(snapshot.quote)
        self.trade = snapshot.last_trade

    def renew(self, answer: OptionSnapshot) -> None:
        before = self.trade
        if not self.live.renew(answer.quote):
            return
        self.shown = answer
        self.trade = answer.last_trade
        if before is not None and before.event_ns > (answer.quote.event_ns or 0):
            self.trade = before

    def take(self, event: Quote | Trade) -> bool:
        if not self.live.take(event):
            return False
        if isinstance(event, Trade):
            self.trade = event
        return True

    @property
    def is_as_answered(self) -> bool:
        return self.live.is_as_answered and self.trade is self.shown.last_trade

    def snapshot(self) -> OptionSnapshot:
        return _replace(self.shown, quote=self.live.quote, last_trade=self.trade)


class LiveChain:
    """A chain shown live: a `following.View`.

    Args:
        underlying: In the vendor's form.
        query: Which contracts are wanted.
        is_open: Whether options trade at an instant.
        streamed_contracts: How many contracts a stream may be asked for.
    """

    def __init__(
        self,
        underlying: str,
        query: ChainQuery,
        *,
        is_open: Callable[[int], bool],
        streamed_contracts: int,
    ) -> None:
        self._underlying = underlying
        self._query = query
        self._is_open = is_open
        self._most = streamed_contracts
        self._rows: dict[str, _Row] = {}
        self._touched: set[str] = set()
        self._chain: OptionChain | None = None
        self._price_ns = 0
        self._event_ns = 0
        self._received_ns = 0
        self._is_streamed = False  # something came since the answer
        self._merged = self._ignored = self._rejected = 0
        self.topics: frozenset[Topic] = frozenset()

    # what comes

    def renew(self, answer: OptionChain) -> None:
        """Take a whole, judged chain; what is known to be newer stays."""
        price, price_ns = self._newest_price(answer)
        self._chain = _replace(answer, underlying_price=price, underlying_event_ns=price_ns or None)
        self._price_ns = price_ns
        selected = self._query.select(answer.contracts, underlying_price=price)
        before, self._rows, self._touched = self._rows, {}, set()
        for snapshot in selected:
            row = before.get(snapshot.symbol)
            if row is None:
                row = _Row(snapshot)
            else:
                row.renew(snapshot)
            self._rows[snapshot.symbol] = row
            if not row.is_as_answered:
                self._touched.add(snapshot.symbol)
        self._event_ns = _newest_ns(answer)
        self._received_ns = answer.received_ns
        self._is_streamed = bool(self._touched)
        self.topics = frozenset(self._wanted(price))

    def apply(self, events: Sequence[Event]) -> bool:
        """Take the events of its contracts and of its underlying."""
        merged = 0
        for event in events:
            if not isinstance(event, Bar):
                merged += self._take(event)
        self._merged += merged
        self._ignored += len(events) - merged
        self._is_streamed |= merged > 0
        return merged > 0

    # what is shown

    def value(self, now_ns: int) -> OptionChain:
        """Return the chain: what was touched since the last time is judged anew."""
        assert self._chain is not None, "renewed first"
        self._judge(now_ns)
        chain = self._chain
        rows = (row.shown for row in self._rows.values())
        contracts = tuple(filter(self._query.admits, rows) if self._is_bound else rows)
        if not self._is_streamed:
            return _replace(chain, contracts=contracts)
        quality = chain.quality
        return _replace(
            chain,
            contracts=contracts,
            source=Source.STREAM,
            received_ns=self._received_ns,
            quality=quality
            and _replace(
                quality,
                source=Source.STREAM,
                received_ns=self._received_ns,
                event_ns=self._event_ns or quality.event_ns,
            ),
        )

    def statistics(self) -> LiveChainStatistics:
        """Count everything."""
        return LiveChainStatistics(
            contracts=len(self._rows),
            streamed=sum(one.startswith("Q.O:") for one in self.topics),
            merged=self._merged,
            ignored=self._ignored,
            rejected=self._rejected,
        )

    # private

    @property
    def _is_bound(self) -> bool:
        """Whether a contract may drop out for what its market does."""
        query = self._query
        bounds = (query.min_volume, query.min_open_interest, query.max_spread_percent)
        return any(bound is not None for bound in bounds)

    def _take(self, event: Quote | Trade) -> bool:
        if event.symbol == self._underlying:
            return self._take_price(event)
        row = self._rows.get(event.symbol)
        if row is None or not row.take(event):
            return False
        self._touched.add(event.symbol)
        self._received_ns = max(self._received_ns, event.received_ns)
        return True

    def _take_price(self, event: Quote | Trade) -> bool:
        price = last_price(event)
        at_ns = event.event_ns or 0
        is_new = at_ns >= self._price_ns and is_representative(event)
        if self._chain is None or price is None or not is_new:
            return False
        self._price_ns = at_ns
        self._chain = _replace(self._chain, underlying_price=price, underlying_event_ns=at_ns)
        self._received_ns = max(self._received_ns, event.received_ns)
        return True

    def _newest_price(self, answer: OptionChain) -> tuple[float | None, int]:
        answer_ns, known = answer.underlying_event_ns or 0, self._chain
        if known is not None and known.underlying_price is not None and self._price_ns > answer_ns:
            return known.underlying_price, self._price_ns
        return answer.underlying_price, answer_ns

    def _judge(self, now_ns: int) -> None:
        if not self._touched:
            return
        is_open, at = self._is_open(now_ns), moment(now_ns)
        ages = both_ageings(DataClass.QUOTE, now_ns=now_ns, market_open=is_open)
        for symbol in self._touched:
            row = self._rows[symbol]
            snapshot = row.snapshot()
            judged = with_verdict(snapshot, contract_reasons(snapshot, at), ages)
            if judged.quality is not None and judged.quality.has_errors:
                self._rejected += 1
            else:
                row.shown = judged
                self._event_ns = max(self._event_ns, judged.quote.event_ns or 0)
        self._touched.clear()

    def _wanted(self, price: float | None) -> Iterator[Topic]:
        if not self._rows or not self._most:
            return
        # V has an index's value; of a stock it is the prints.
        asset = asset_class(self._underlying)
        channel = "V" if asset is AssetClass.INDICES else "T"
        yield topic(channel, self._underlying, asset)
        for symbol in islice(self._nearest(price), self._most):
            yield Topic(f"Q.{symbol}")
            yield Topic(f"T.{symbol}")

    def _nearest(self, price: float | None) -> Iterator[str]:
        if price is None or len(self._rows) <= self._most:
            return iter(self._rows)
        strikes = {name: row.shown.contract.strike for name, row in self._rows.items()}
        return iter(sorted(self._rows, key=lambda name: abs(strikes[name] - price)))


def _newest_ns(chain: OptionChain) -> int:
    return max((row.quote.event_ns or 0 for row in chain.contracts), default=0)
