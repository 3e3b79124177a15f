"""Massive as a provider of options, indices and stocks: R205-R212.

    questions ──▶ judged by the rules ──▶ kept as long as it is true ──▶ you
    feed      ──▶ merged into the last answer, newest exchange time first ──▶ subscribers

Who carries the questions is injected: the vendor's REST on the server, the gateway on a
client (C10). So is the feed; without one, subscriptions poll. What goes wrong is a
`MassiveApiError` with its cause in it, but for what the caller did wrong and for what is
not there, which are answers.

Each provider is an async context manager: its requests, its cache and its subscriptions
end with the block.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from onetape import calendar
from onetape.analytics import indicators
from onetape.calendar import options_trade, stocks_trade
from onetape.chain_query import ChainQuery
from onetape.clock import Clock
from onetape.errors import (
    ContractNotFound,
    DataProviderError,
    MassiveApiError,
    NotFound,
    UpstreamGarbled,
)
from onetape.massive.batches import all_of
from onetape.massive.questions import (
    PROVIDER,
    Asker,
    Expirations,
    MassiveQuestions,
    normalized,
)
from onetape.massive.sampling import EXPIRATIONS, Sampling
from onetape.model import (
    AssetClass,
    Bar,
    ContractType,
    Flow,
    IndexSnapshot,
    OptionChain,
    OptionSnapshot,
    ProviderHealth,
    Quote,
    Timeframe,
)
from onetape.providers.contract_lookup import candidates
from onetape.providers.following import Cadence
from onetape.providers.interfaces import Handle, LiveFeed
from onetape.providers.live_chain import LiveChain
from onetape.providers.live_quote import EquityView, IndexView
from onetape.providers.vendor import (
    BAR_BYTES,
    ProviderPolicy,
    Vendor,
    VendorStatistics,
    chain_bytes,
)
from onetape.quality.candles import judge_bars
from onetape.quality.chains import judge_chain
from onetape.quality.contracts import judge_contract
from onetape.quality.indices import judge_index
from onetape.quality.quotes import judge_quotes
from onetape.rows import Rows, SymbolFault
from onetape.symbols import asset_class, normalize_symbol
from onetape.timeframes import BarLength, Moment

T = TypeVar("T")

_EVERYTHING: Final = ChainQuery()
_MANY: Final = 1_000
_DAY: Final = timedelta(days=1)


class _MassiveProvider:
    """What the three have in common.

    Args:
        asker: Who carries the questions.
        clock: The time.
        feed: Where live events come from; None for nowhere.
        policy: How long what is kept.
        is_open: Whether what it provides trades at an instant; by default the calendar's word.
    """

    _is_open: Callable[[int], bool] = staticmethod(options_trade)

    def __init__(
        self,
        *,
        asker: Asker,
        clock: Clock,
        feed: LiveFeed | None = None,
        policy: ProviderPolicy | None = None,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._questions = MassiveQuestions(asker, clock)
        self._clock = clock
        self._feed = feed
        self._policy = policy or ProviderPolicy()
        self._vendor = Vendor(PROVIDER, failure=MassiveApiError, clock=clock, policy=self._policy)
        if is_open is not None:
            self._is_open = is_open

    async def __aenter__(self) -> Self:
        await self._vendor.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._vendor.__aexit__(kind, error, traceback)

    @property
    def name(self) -> str:
        """`massive`."""
        return PROVIDER

    def health(self) -> tuple[ProviderHealth, ...]:
        """Return how Massive does, as far as this provider knows."""
        return (self._vendor.health(),)

    def statistics(self) -> VendorStatistics:
        """Count everything."""
        return self._vendor.statistics()

    def forget(self, glob: str = "*") -> int:
        """Forget kept answers, `chain:SPY:*` or all; return how many."""
        return self._vendor.forget(glob)


class MassiveOptionsProvider(_MassiveProvider):
    """Chains with Greeks, single contracts, expirations and flow."""

    async def get_option_chain(
        self, underlying: str, query: ChainQuery = _EVERYTHING
    ) -> OptionChain:
        """Return the contracts that the query wants, judged, over all pages. Kept 10 s.

        The vendor is asked for what it can decide, the rest is decided here. Source:
        `/v3/snapshot/options/{underlying}`. A chain that is empty although the vendor's
        reference lists its contracts is a failure, not an answer (W-60).

        Raises:
            MassiveApiError: the first page failed; later ones are told in `partial`.
        """
        chain = await self._chain(normalize_symbol(underlying), query)
        contracts = query.select(chain.contracts, underlying_price=chain.underlying_price)
        return msgspec.structs.replace(chain, contracts=contracts)

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        """Return one contract with its market, judged. Kept 5 s.

        Source: `/v3/snapshot`. An index has several roots: see `contract_lookup`.

        Raises:
            ContractNotFound: there is none.
        """
        wanted = candidates(underlying, strike, expiration, contract_type)
        return await self._vendor.kept(
            f"contract:{','.join(wanted)}",
            lambda: self._contract(wanted),
            ttl_s=self._policy.snapshot_s,
        )

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        """Return the listed expirations, soonest first; none of what has no options.

        Kept 5 minutes. Source: `/v3/reference/options/contracts`.
        """
        return (await self._expirations(normalize_symbol(underlying))).dates

    async def get_flow(self, underlying: str) -> Flow:
        """Return what the prints of the most traded contracts say. Kept a minute.

        A sample of the last hour, and its numbers are the sample's: see `massive.sampling`.
        Without prints, in the plan or on the tape, flow is not available and all are None.
        """
        symbol = normalize_symbol(underlying)

        async def fetch() -> Flow:
            chain = await self._chain(symbol, ChainQuery(max_expirations=EXPIRATIONS))
            sample = Sampling(self._questions, self._vendor.ask)
            return await sample.flow(chain, now_ns=self._clock.now_ns())

        return await self._vendor.kept(f"flow:{symbol}", fetch, ttl_s=self._policy.flow_s)

    def subscribe_chain(
        self,
        underlying: str,
        take: Callable[[OptionChain], None],
        query: ChainQuery = _EVERYTHING,
    ) -> Handle:
        """Tell of the chain whenever it changes, at most every 100 ms.

        It is asked for anew as long as a chain is kept. Between answers quotes and
        prints are merged in, of as many contracts near the money as the policy allows.
        """
        symbol = normalize_symbol(underlying)
        view = LiveChain(
            symbol,
            query,
            is_open=self._is_open,
            streamed_contracts=self._policy.streamed_contracts,
        )
        return self._vendor.follow(
            view,
            fetch=lambda: self._chain(symbol, query),
            take=take,
            feed=self._feed,
            cadence=Cadence(
                self._policy.chain_poll_s, self._policy.chain_live_s, self._policy.chain_pace_s
            ),
        )

    # private, chains

    async def _chain(self, symbol: str, query: ChainQuery) -> OptionChain:
        """Return all that meets the query's terms, judged."""
        terms = await self._narrowed(symbol, query)
        is_open = self._is_open(self._clock.now_ns())
        return await self._vendor.kept(
            f"chain:{symbol}:{msgspec.json.encode(terms).decode()}",
            lambda: self._judged_chain(symbol, terms),
            ttl_s=self._policy.chain_s if is_open else self._policy.chain_closed_s,
            size=chain_bytes,
            worth_keeping=lambda chain: not chain.partial,
        )

    async def _narrowed(self, symbol: str, query: ChainQuery) -> ChainQuery:
        """Return the query's terms, without the expirations that it would drop anyway.

        Which those are is known beforehand only if nothing else can empty an expiration.
        """
        terms = query.of_terms
        most = query.max_expirations
        if most is None or query != _bare(query):
            return terms
        with suppress(DataProviderError):  # then more is asked for than is needed
            dates = (await self._expirations(symbol)).dates
            wanted = [day for day in dates if query.wants(day)]
            if len(wanted) > most:
                return msgspec.structs.replace(terms, last_expiration=wanted[most - 1])
        return terms

    async def _judged_chain(self, symbol: str, terms: ChainQuery) -> OptionChain:
        chain = await self._vendor.ask("chain", self._true_chain(symbol, terms))
        now_ns = self._clock.now_ns()
        judge = partial(
            judge_chain,
            chain,
            now_ns=now_ns,
            market_open=self._is_open(now_ns),
            whole=(terms.min_strike, terms.max_strike, terms.contract_type) == (None, None, None),
        )
        # All of SPX takes a tenth of a second, for which the ticks would wait.
        return await asyncio.to_thread(judge) if len(chain.contracts) > _MANY else judge()

    async def _true_chain(self, symbol: str, terms: ChainQuery) -> OptionChain:
        chain = await self._questions.option_chain(symbol, terms)
        if chain.contracts or chain.dropped or chain.partial:
            return chain
        ahead = self._first_day_with_a_market(symbol)
        later = max(terms.first_expiration or ahead, ahead)
        if terms.last_expiration is None or later <= terms.last_expiration:
            narrowed = msgspec.structs.replace(terms, first_expiration=later)
            if await self._questions.is_listed(symbol, narrowed):
                raise UpstreamGarbled("the chain is empty, although contracts of it are listed")
        with suppress(DataProviderError):
            known = await self._expirations(symbol)
            if terms == _bare(terms) and any(
                later <= day and terms.wants(day) for day in known.dates
            ):
                raise UpstreamGarbled("the chain is empty, although it has expirations")
            return msgspec.structs.replace(chain, listed=known.contracts)
        return chain

    def _first_day_with_a_market(self, symbol: str) -> date:
        """Return which expiration has a market for certain, if it is listed.

        What expires today may be listed still and have none any more; but while they trade
        only an index's may have been settled in the morning.
        """
        now_ns = self._clock.now_ns()
        today = calendar.new_york_date(now_ns)
        is_traded = self._is_open(now_ns) and asset_class(symbol) is not AssetClass.INDICES
        return today if is_traded else today + _DAY

    async def _expirations(self, symbol: str) -> Expirations:
        return await self._vendor.kept(
            f"expirations:{symbol}",
            lambda: self._vendor.ask("expirations", self._questions.expirations(symbol)),
            ttl_s=self._policy.expirations_s,
        )

    async def _contract(self, wanted: tuple[str, ...]) -> OptionSnapshot:
        question = self._questions.option_snapshots(wanted, strictly=True)
        rows = (await self._vendor.ask("contract", question)).by_symbol
        for symbol in wanted:
            if symbol in rows:
                now_ns = self._clock.now_ns()
                is_open = self._is_open(now_ns)
                return judge_contract(rows[symbol], now_ns=now_ns, market_open=is_open)
        raise ContractNotFound(f"{' or '.join(wanted)} is not listed", provider=PROVIDER)


class MassiveIndicesProvider(_MassiveProvider):
    """Index values, and bars and indicators over several lengths."""

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        """Return the indices in the order asked for, judged; what is not there is in `errors`.

        Values are kept 5 s, bars and indicators a minute. Sources: `/v3/snapshot/indices`
        and `/v2/aggs/…`. A length whose bars could not be had is there without bars.
        """
        wanted = normalized(symbols)
        found = await self._vendor.kept(
            f"snapshot:{','.join(wanted)}",
            lambda: self._vendor.ask("indices", self._questions.indices(wanted, strictly=True)),
            ttl_s=self._policy.snapshot_s,
        )
        lengths = tuple(dict.fromkeys(timeframes))
        whole = await all_of(self._over(snapshot, lengths) for snapshot in found)
        now_ns = self._clock.now_ns()
        is_open = self._is_open(now_ns)
        return Rows(
            [judge_index(snapshot, now_ns=now_ns, market_open=is_open) for snapshot in whole],
            kind=IndexSnapshot,
            errors=found.errors.values(),
            simulated=found.simulated,
        )

    async def get_indicators(
        self, symbol: str, length: BarLength, *, lookback: int = 250
    ) -> Mapping[str, float | None]:
        """Return `analytics.indicators.summary` of the last `lookback` bars. Kept a minute.

        What has too few bars is None. The last bar may still be growing.
        """
        timeframe = await self._timeframe(normalize_symbol(symbol), length, lookback)
        return timeframe.indicators

    def subscribe_index(self, symbol: str, take: Callable[[IndexSnapshot], None]) -> Handle:
        """Tell of the index whenever its value changes; polled every 5 s unless streamed."""
        (index,) = normalized([symbol])
        return self._vendor.follow(
            IndexView(index, is_open=self._is_open),
            fetch=lambda: _only(self.get_index_snapshots([index])),
            take=take,
            feed=self._feed,
            cadence=Cadence(self._policy.index_poll_s, self._policy.streamed_s, 0.0),
        )

    # private

    async def _over(self, snapshot: IndexSnapshot, lengths: Iterable[BarLength]) -> IndexSnapshot:
        found = await all_of(self._timeframe_or_none(snapshot.symbol, one) for one in lengths)
        timeframes = {timeframe.length: timeframe for timeframe in found}
        return msgspec.structs.replace(snapshot, timeframes=timeframes)

    async def _timeframe_or_none(self, symbol: str, length: BarLength) -> Timeframe:
        try:
            return await self._timeframe(symbol, length, _LOOKBACK)
        except (DataProviderError, NotFound):
            return self._made(length, ())

    async def _timeframe(self, symbol: str, length: BarLength, lookback: int) -> Timeframe:
        async def fetch() -> Timeframe:
            return self._made(length, await self._last_bars(symbol, length, lookback))

        return await self._vendor.kept(
            f"indicators:{symbol}:{length}:{lookback}",
            fetch,
            ttl_s=self._policy.indicators_s,
            size=lambda timeframe: BAR_BYTES * len(timeframe.bars),
        )

    async def _last_bars(self, symbol: str, length: BarLength, count: int) -> tuple[Bar, ...]:
        async def fetch() -> tuple[Bar, ...]:
            question = self._questions.last_bars(symbol, length, count).collect()
            return tuple(await self._vendor.ask("bars", question))

        return await self._vendor.kept(
            f"bars:{symbol}:{length}:{count}",
            fetch,
            ttl_s=self._policy.bars_s,
            size=lambda bars: BAR_BYTES * len(bars),
        )

    def _made(self, length: BarLength, bars: tuple[Bar, ...]) -> Timeframe:
        return Timeframe(
            length=str(length),
            bars=bars,
            indicators=indicators.summary(bars),
            provider=PROVIDER,
            updated_ns=self._clock.now_ns(),
        )


class MassiveBrokerProvider(_MassiveProvider):
    """Quotes and bars of stocks."""

    _is_open = staticmethod(stocks_trade)

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        """Return the quotes in the order asked for, judged; what has none is in `errors`.

        Never kept, but asked once for all who ask at the same time. Source: `/v3/snapshot`.
        """
        wanted = normalized(symbols)
        found = await self._vendor.kept(
            f"quotes:{','.join(wanted)}",
            lambda: self._vendor.ask("quotes", self._questions.quotes(wanted, strictly=True)),
            ttl_s=0.0,
        )
        now_ns = self._clock.now_ns()
        return Rows(
            judge_quotes(found, now_ns=now_ns, market_open=self._is_open(now_ns)),
            kind=Quote,
            errors=found.errors.values(),
            simulated=found.simulated,
        )

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        """Return the bars of a range, both ends included, oldest first. Kept a minute.

        Source: `/v2/aggs/…`, adjusted for splits. Bars that cannot be true are left out,
        and `errors` says how many.
        """
        ticker = normalize_symbol(symbol)
        return await self._vendor.kept(
            f"bars:{ticker}:{length}:{start}:{end}",
            lambda: self._bars(ticker, length, start, end),
            ttl_s=self._policy.bars_s,
            size=lambda bars: BAR_BYTES * len(bars),
        )

    def subscribe_equity(self, symbol: str, take: Callable[[Quote], None]) -> Handle:
        """Tell of the quote whenever it changes; polled every 4 s unless streamed."""
        (ticker,) = normalized([symbol])
        return self._vendor.follow(
            EquityView(ticker, is_open=self._is_open),
            fetch=lambda: _only(self.get_quotes([ticker])),
            take=take,
            feed=self._feed,
            cadence=Cadence(self._policy.equity_poll_s, self._policy.streamed_s, 0.0),
        )

    # private

    async def _bars(self, ticker: str, length: BarLength, start: Moment, end: Moment) -> Rows[Bar]:
        question = self._questions.bars(ticker, length, start, end).collect()
        found = await self._vendor.ask("bars", question)
        now_ns = self._clock.now_ns()
        judge = partial(
            judge_bars,
            found,
            provider=PROVIDER,
            now_ns=now_ns,
            market_open=self._is_open(now_ns),
        )
        judged = await asyncio.to_thread(judge) if len(found) > _MANY else judge()
        errors = list(found.errors.values())
        if judged.dropped:
            left_out = ", ".join(f"{count} x {code}" for code, count in judged.dropped.items())
            garbled = UpstreamGarbled.code
            errors.append(
                SymbolFault(symbol=ticker, error=garbled, message=f"left out: {left_out}")
            )
        return Rows(judged.bars, kind=Bar, errors=errors, simulated=found.simulated)


def _bare(query: ChainQuery) -> ChainQuery:
    """Return the part of a query that cannot empty an expiration."""
    return ChainQuery(
        first_expiration=query.first_expiration,
        last_expiration=query.last_expiration,
        max_expirations=query.max_expirations,
        around=query.around,
    )


_LOOKBACK: Final = 250
"""How many bars a timeframe of a snapshot has at most: enough for the slowest average."""


async def _only(rows: Awaitable[Rows[T]]) -> T:
    """Return the one row; raise why there is none."""
    found = await rows
    for fault in found.errors.values():
        raise fault.as_error()
    return found[0]
