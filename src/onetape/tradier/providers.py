"""Tradier as a provider of options, stocks and indices: R213-R217. Slower, but reliable.

    questions ──▶ Greeks made true or computed ──▶ judged by the rules ──▶ kept ──▶ you
    feed      ──▶ merged into the last answer, newest exchange time first ──▶ subscribers

The same interfaces and answers as Massive's providers. What is different of Tradier's:

    a chain      one request for each expiration: `chains` says what that means for `partial`
    Greeks       an hour old, so mostly computed here: `valuation`; the reasons say which
    the last     stands still outside the regular session, and is marked `last_frozen`
    flow         there is none: not available, never neutral numbers (W-63)
    bars         of some lengths and not from long ago: `series`
    requests     120 a minute, the sandbox 60; subscriptions ask in the background
    the sandbox  a quarter of an hour late, without a stream: marked `delayed`, and polled

What goes wrong is a `TradierApiError` with its cause in it, but for what the caller did
wrong and for what is not there, which are answers. Without a token every question is one,
and `health` says `disabled` (R22).

`connection` makes all of it from the settings. Each provider is an async context manager: its
requests, its cache and its subscriptions end with the block.
"""

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import date
from functools import cached_property
from types import TracebackType
from typing import Annotated, Final, Self, TypeVar

import msgspec

from onetape.analytics import indicators
from onetape.calendar import options_trade, stocks_trade
from onetape.chain_query import ChainQuery
from onetape.clock import Clock
from onetape.errors import (
    ContractNotFound,
    DataProviderError,
    InvalidSymbol,
    NotFound,
    RequestError,
    TradierApiError,
    UpstreamGarbled,
)
from onetape.massive.batches import all_of
from onetape.massive.questions import normalized
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
from onetape.provenance import Reason
from onetape.providers.contract_lookup import candidates, roots_of
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
from onetape.tradier import series
from onetape.tradier.budget import Priority
from onetape.tradier.chains import ChainLimits, Chains, Lives
from onetape.tradier.questions import Answer, Asker, Quotes, Statistics, TradierQuestions
from onetape.tradier.shapes import PROVIDER
from onetape.tradier.wire_rest import Ask, Refusal

T = TypeVar("T")
P = TypeVar("P", bound="_TradierProvider")

Seconds = Annotated[float, msgspec.Meta(gt=0)]

_EVERYTHING: Final = ChainQuery()
_NO_FLOW: Final = "tradier has no flow data"
_LOOKBACK: Final = 250
"""How many bars a timeframe of a snapshot has at most: enough for the slowest average."""


class TradierHabits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only Tradier's providers need to know."""

    rate: Annotated[float, msgspec.Meta(ge=-0.1, le=1)] = 0.04
    """What money costs a year: the one assumption in computed Greeks; see `valuation`."""
    delayed: bool = False
    """Whether all is a quarter of an hour late: the sandbox."""
    deadline_s: Seconds = 4.0
    """How long one request may take, its waits and tries included."""
    chain: ChainLimits = ChainLimits()
    followed_per_minute: Annotated[int, msgspec.Meta(gt=0)] = 40
    """How many requests a minute one subscription to a chain may cost."""


class _TradierProvider:
    """What the three have in common.

    Args:
        asker: Who carries the questions: one `TradierREST` for all; None without a token.
        clock: The time.
        feed: Where live events come from, `readers.StreamReaders`; None for nowhere.
        policy: How long what is kept.
        habits: What is particular to Tradier.
        is_open: Whether what it provides trades at an instant; by default the calendar's word.
    """

    _is_open: Callable[[int], bool] = staticmethod(options_trade)

    def __init__(
        self,
        *,
        asker: Asker | None,
        clock: Clock,
        feed: LiveFeed | None = None,
        policy: ProviderPolicy | None = None,
        habits: TradierHabits | None = None,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._habits = habits or TradierHabits()
        self._policy = policy or ProviderPolicy()
        self._clock = clock
        self._feed = feed
        self._is_enabled = asker is not None
        self._asks = TradierQuestions(
            asker or _Nobody(),
            clock,
            rate=self._habits.rate,
            delayed=self._habits.delayed,
            deadline_s=self._habits.deadline_s,
        )
        self._vendor = Vendor(PROVIDER, failure=TradierApiError, clock=clock, policy=self._policy)
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
        """`tradier`."""
        return PROVIDER

    def health(self) -> tuple[ProviderHealth, ...]:
        """Return how Tradier does, as far as this provider knows."""
        if self._is_enabled:
            return (self._vendor.health(),)
        return (ProviderHealth(provider=PROVIDER, enabled=False, healthy=False, status="disabled"),)

    def statistics(self) -> VendorStatistics:
        """Count everything."""
        return self._vendor.statistics()

    def forget(self, glob: str = "*") -> int:
        """Forget kept answers, `page:SPY:*` or all; return how many."""
        return self._vendor.forget(glob)

    # private

    def _now(self) -> tuple[int, bool]:
        now_ns = self._clock.now_ns()
        return now_ns, self._is_open(now_ns)

    async def _quotes(self, asks: TradierQuestions, symbols: tuple[str, ...]) -> Quotes:
        return await self._vendor.ask("quotes", asks.quotes(symbols))


class TradierOptionsProvider(_TradierProvider):
    """Chains with Greeks, single contracts, and expirations."""

    async def get_option_chain(
        self, underlying: str, query: ChainQuery = _EVERYTHING
    ) -> OptionChain:
        """Return the contracts that the query wants, judged. Kept 10 s, expiration by expiration.

        `chains` says what is asked for and what `partial` then names. Sources:
        `/markets/options/expirations`, `/markets/options/chains`, `/markets/quotes`.

        Raises:
            TradierApiError: nothing came.
        """
        chain = await self._chain(self._asks, _with_options(underlying), query)
        contracts = query.select(chain.contracts, underlying_price=chain.underlying_price)
        return msgspec.structs.replace(chain, contracts=contracts)

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        """Return one contract with its market, judged. Kept 5 s.

        Source: `/markets/quotes`. An index has several roots: see `contract_lookup`.

        Raises:
            ContractNotFound: there is none.
        """
        symbol = _with_options(underlying)
        wanted = candidates(symbol, strike, expiration, contract_type)
        return await self._vendor.kept(
            f"contract:{','.join(wanted)}",
            lambda: self._contract(wanted, symbol),
            ttl_s=self._policy.snapshot_s,
        )

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        """Return the listed expirations of all roots, soonest first; none of what has no options.

        Kept 5 minutes. Source: `/markets/options/expirations`.
        """
        symbol = _with_options(underlying)
        return await self._chains.expirations(self._asks, symbol)

    async def get_flow(self, underlying: str) -> Flow:
        """Return that there is none: Tradier has no tape of the market (R212, R216, W-63)."""
        symbol = _with_options(underlying)
        return Flow(underlying=symbol, available=False, reason=_NO_FLOW, provider=PROVIDER)

    def subscribe_chain(
        self,
        underlying: str,
        take: Callable[[OptionChain], None],
        query: ChainQuery = _EVERYTHING,
    ) -> Handle:
        """Tell of the chain whenever it changes, at most every 100 ms.

        It is asked for anew every 10 s, or as seldom as its expirations make necessary:
        see `TradierHabits.followed_per_minute`. Greeks are those of the last answer.
        Between answers quotes and prints are merged in, where there is a stream.
        """
        symbol = _with_options(underlying)
        view = LiveChain(
            symbol,
            query,
            is_open=self._is_open,
            streamed_contracts=self._policy.streamed_contracts,
        )
        pace, behind = (
            _Pace(self._clock, self._habits.followed_per_minute),
            self._asks.in_background(),
        )

        async def fetch() -> OptionChain:
            await pace.turn()
            chain = await self._chain(behind, symbol, query)
            pace.cost(1 + len(chain.expirations) + len(chain.partial))
            return chain

        return self._vendor.follow(
            view,
            fetch=fetch,
            take=take,
            feed=self._feed,
            cadence=Cadence(
                self._policy.chain_poll_s, self._policy.chain_live_s, self._policy.chain_pace_s
            ),
        )

    # private

    @cached_property
    def _chains(self) -> Chains:
        policy = self._policy
        return Chains(
            self._vendor,
            limits=self._habits.chain,
            lives=Lives(policy.chain_s, policy.snapshot_s, policy.expirations_s),
        )

    async def _chain(self, asks: TradierQuestions, symbol: str, query: ChainQuery) -> OptionChain:
        """Return all that meets the query's terms, of the expirations it takes, judged."""
        _, is_open = self._now()
        wide = _wide(query)
        return await self._vendor.kept(
            f"chain:{symbol}:{msgspec.json.encode(wide).decode()}",
            lambda: self._judged_chain(asks, symbol, wide),
            ttl_s=self._policy.chain_s if is_open else self._policy.chain_closed_s,
            size=chain_bytes,
            worth_keeping=lambda chain: not chain.partial,
        )

    async def _judged_chain(
        self, asks: TradierQuestions, symbol: str, query: ChainQuery
    ) -> OptionChain:
        found = await self._vendor.ask("chain", self._chains.gather(asks, symbol, query))
        now_ns, is_open = self._now()
        return judge_chain(
            found.chain,
            now_ns=now_ns,
            market_open=is_open,
            whole=(query.min_strike, query.max_strike, query.contract_type) == (None, None, None),
            contract_notes=found.reasons,
        )

    async def _contract(self, wanted: tuple[str, ...], underlying: str) -> OptionSnapshot:
        row, notes = await self._vendor.ask("contract", self._found(wanted, underlying))
        now_ns, is_open = self._now()
        return judge_contract(row, now_ns=now_ns, market_open=is_open, notes=notes)

    async def _found(
        self, wanted: tuple[str, ...], underlying: str
    ) -> tuple[OptionSnapshot, tuple[Reason, ...]]:
        found = await self._asks.contracts(wanted, underlying)
        for symbol in wanted:
            if symbol in found.rows:
                return found.rows[symbol], found.reasons.get(symbol, ())
        for fault in found.faults.values():
            if fault.error != NotFound.code:
                raise fault.as_error()
        raise ContractNotFound(f"{' or '.join(wanted)} is not listed", provider=PROVIDER)


class TradierBrokerProvider(_TradierProvider):
    """Quotes and bars of stocks."""

    _is_open = staticmethod(stocks_trade)

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        """Return the quotes in the order asked for, judged; what has none is in `errors`.

        Never kept, but asked once for all who ask at the same time. Source:
        `/markets/quotes`, posted when the list is long.
        """
        return await self._judged(self._asks, normalized(symbols))

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        """Return the bars of a range, both ends included, oldest first. Kept a minute.

        Sources: `/markets/timesales` and `/markets/history`, adjusted for splits. `errors`
        says what was left out, and from when on there are bars if not from the start.

        Raises:
            TradierApiError: it failed, or Tradier has no bars of that length.
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
        behind = self._asks.in_background()
        return self._vendor.follow(
            EquityView(ticker, is_open=self._is_open),
            fetch=lambda: _only(self._judged(behind, (ticker,))),
            take=take,
            feed=self._feed,
            cadence=Cadence(self._policy.equity_poll_s, self._policy.streamed_s, 0.0),
        )

    # private

    async def _judged(self, asks: TradierQuestions, wanted: tuple[str, ...]) -> Rows[Quote]:
        found = await self._vendor.kept(
            f"quotes:{','.join(wanted)}", lambda: self._quotes(asks, wanted), ttl_s=0.0
        )
        now_ns, is_open = self._now()
        rows = [found.rows[symbol] for symbol in wanted if symbol in found.rows]
        return Rows(
            judge_quotes(rows, now_ns=now_ns, market_open=is_open, notes=found.reasons),
            kind=Quote,
            errors=found.faults.values(),
            simulated=found.simulated,
        )

    async def _bars(self, ticker: str, length: BarLength, start: Moment, end: Moment) -> Rows[Bar]:
        _check_length(length)
        question = series.bars(self._asks, ticker, length, start, end)
        found = await self._vendor.ask("bars", question)
        now_ns, is_open = self._now()
        judged = judge_bars(found.rows, provider=PROVIDER, now_ns=now_ns, market_open=is_open)
        faults = list(found.faults)
        if judged.dropped:
            left_out = ", ".join(f"{count} x {code}" for code, count in judged.dropped.items())
            garbled = UpstreamGarbled.code
            faults.append(
                SymbolFault(symbol=ticker, error=garbled, message=f"left out: {left_out}")
            )
        return Rows(judged.bars, kind=Bar, errors=faults, simulated=found.simulated)


class TradierIndicesProvider(_TradierProvider):
    """Index values, without bid and ask, and bars and indicators over several lengths."""

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        """Return the indices in the order asked for, judged; what is not there is in `errors`.

        Values are kept 5 s, bars and indicators a minute. Sources: `/markets/quotes`,
        `/markets/timesales`, `/markets/history`. A length whose bars could not be had is
        there without bars.
        """
        return await self._snapshots(self._asks, _indices(symbols), tuple(timeframes))

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
        wanted, behind = _indices([symbol]), self._asks.in_background()
        return self._vendor.follow(
            IndexView(wanted[0], is_open=self._is_open),
            fetch=lambda: _only(self._snapshots(behind, wanted, ())),
            take=take,
            feed=self._feed,
            cadence=Cadence(self._policy.index_poll_s, self._policy.streamed_s, 0.0),
        )

    # private

    async def _snapshots(
        self, asks: TradierQuestions, wanted: tuple[str, ...], lengths: tuple[BarLength, ...]
    ) -> Rows[IndexSnapshot]:
        found = await self._vendor.kept(
            f"snapshot:{','.join(wanted)}",
            lambda: self._quotes(asks, wanted),
            ttl_s=self._policy.snapshot_s,
        )
        quotes = [found.rows[symbol] for symbol in wanted if symbol in found.rows]
        whole = await all_of(self._over(quote, dict.fromkeys(lengths)) for quote in quotes)
        now_ns, is_open = self._now()
        return Rows(
            [judge_index(snapshot, now_ns=now_ns, market_open=is_open) for snapshot in whole],
            kind=IndexSnapshot,
            errors=found.faults.values(),
            simulated=found.simulated,
        )

    async def _over(self, quote: Quote, lengths: Iterable[BarLength]) -> IndexSnapshot:
        found = await all_of(self._timeframe_or_none(quote.symbol, one) for one in lengths)
        timeframes = {timeframe.length: timeframe for timeframe in found}
        return IndexSnapshot(symbol=quote.symbol, quote=quote, timeframes=timeframes)

    async def _timeframe_or_none(self, symbol: str, length: BarLength) -> Timeframe:
        try:
            return await self._timeframe(symbol, length, _LOOKBACK)
        except (DataProviderError, RequestError):
            return self._made(length, ())

    async def _timeframe(self, symbol: str, length: BarLength, lookback: int) -> Timeframe:
        async def fetch() -> Timeframe:
            _check_length(length)
            question = series.last_bars(self._asks, symbol, length, lookback)
            return self._made(length, (await self._vendor.ask("bars", question)).rows)

        return await self._vendor.kept(
            f"indicators:{symbol}:{length}:{lookback}",
            fetch,
            ttl_s=self._policy.indicators_s,
            size=lambda timeframe: BAR_BYTES * len(timeframe.bars),
        )

    def _made(self, length: BarLength, bars: tuple[Bar, ...]) -> Timeframe:
        return Timeframe(
            length=str(length),
            bars=bars,
            indicators=indicators.summary(bars),
            provider=PROVIDER,
            updated_ns=self._clock.now_ns(),
        )


# private


class _Nobody:
    """Carries no question: there is no token."""

    async def ask(
        self,
        ask: Ask,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float | None = None,
    ) -> Answer | Refusal:
        raise TradierApiError(
            "Tradier is disabled: TRADIER_ACCESS_TOKEN is not set", provider=PROVIDER
        )

    def statistics(self) -> Statistics:
        raise AssertionError("nothing was asked")


class _Pace:
    """Spaces the answers of one subscription by what they cost."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock = clock
        self._each_s = 60 / per_minute
        self._started = self._next = clock.monotonic()

    async def turn(self) -> None:
        """Wait until the requests of the last time are paid for."""
        await asyncio.sleep(max(0.0, self._next - self._clock.monotonic()))
        self._started = self._clock.monotonic()

    def cost(self, requests: int) -> None:
        """Note what it took."""
        self._next = self._started + requests * self._each_s


def _wide(query: ChainQuery) -> ChainQuery:
    """Return what decides which expirations are asked for, and the terms."""
    if query.max_expirations is None:
        return query.of_terms
    return msgspec.structs.replace(query, around=None)


def _with_options(underlying: str) -> str:
    symbol = normalize_symbol(underlying)
    roots_of(symbol)  # raises for what has none
    return symbol


def _indices(symbols: Sequence[str]) -> tuple[str, ...]:
    wanted = normalized(symbols)
    for symbol in wanted:
        if asset_class(symbol) is not AssetClass.INDICES:
            raise InvalidSymbol(f"{symbol} is not an index: write I:{symbol} if it is one")
    return wanted


def _check_length(length: BarLength) -> None:
    if not series.offers(length):
        raise TradierApiError(f"Tradier has no bars of {length}", provider=PROVIDER)


async def _only(rows: Awaitable[Rows[T]]) -> T:
    """Return the one row; raise why there is none."""
    found = await rows
    for fault in found.errors.values():
        raise fault.as_error()
    return found[0]
