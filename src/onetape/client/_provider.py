"""`MassiveDataProvider`: all that onetape's client does, in nineteen methods.

    async with MassiveDataProvider("http://127.0.0.1:3000", key) as massive:
        quote = await massive.get_quote("SPY")
        async for quote in massive.subscribe_quotes(["SPX", "SPY"]):
            ...

It talks to a gateway only. Symbols may be written as people write them (`SPX`, `brk/b`,
`SPY251219C00650000`); what comes back is in the vendor's form (`I:SPX`, `BRK.B`, `O:SPY…`).
Nothing is None that is known, and nothing is 0 that is not. What REST answers is judged:
`quote.quality.confidence(now_ns)`; a `provider` other than `massive` stands in for it, and
`quality.fallback_reason` says why. `received_ns` is when the gateway learned of a datum.

Every query raises an `OnetapeError`: a `RequestError` when the question is wrong,
`Throttled` when it came too early, an `UpstreamError` when there is no answer after
three tries, a `DataProviderError` when no provider has one, `NotConnected` outside the
`async with` block. Cancelling one caller never
disturbs another.
"""

from collections.abc import Iterable
from datetime import date
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from onetape.calendar import Holiday
from onetape.chain_query import ChainQuery
from onetape.client._cache import MAX_BYTES
from onetape.client._connection import Connection, Parts
from onetape.client._health import Health
from onetape.client._notices import Key, Kind
from onetape.client._subscription import Callback, OnChange, Overflow, Subscription
from onetape.clock import Clock, SystemClock
from onetape.errors import ConfigInvalid, InvalidRequest
from onetape.massive.questions import Scalar, normalized
from onetape.model import (
    AssetClass,
    Bar,
    ContractType,
    IndexSnapshot,
    IndicatorValue,
    MarketStatus,
    OptionChain,
    OptionContract,
    Quote,
    Trade,
)
from onetape.pages import Pages
from onetape.rows import Rows
from onetape.secret import Secret
from onetape.timeframes import BarLength, Moment, Timespan, bar_length

STREAMED: Final = frozenset({AssetClass.OPTIONS, AssetClass.INDICES})
"""What a plan streams unless it is said otherwise; the rest is polled."""


class MassiveDataProvider:
    """Market data through one gateway. Use it as an async context manager.

    Args:
        url: The gateway's address: `http://127.0.0.1:3000`.
        credential: A client key of the gateway's (`ot_…`). Never the vendor's key.
        streams: The asset classes the plan streams. What is not among them is polled.
        cache_dir: Where holidays and contracts outlive the process; None for nowhere.
        cache_bytes: What the cache may hold.
        clock: Where the time comes from.
        parts: Parts to use in place of our own, for tests and unusual wiring.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the user's, by name
        self,
        url: str,
        credential: str | Secret,
        *,
        streams: Iterable[AssetClass | str] = STREAMED,
        cache_dir: Path | None = None,
        cache_bytes: int = MAX_BYTES,
        clock: Clock | None = None,
        parts: Parts | None = None,
    ) -> None:
        self._make = partial(
            Connection,
            url=url,
            credential=_secret(credential),
            streams=_asset_classes(streams),
            cache_dir=cache_dir,
            cache_bytes=cache_bytes,
            clock=clock or SystemClock(),
            parts=parts or Parts(),
        )
        self._connection = self._make()

    def __repr__(self) -> str:
        return f"<MassiveDataProvider {self._connection.status}>"

    # life

    async def connect(self) -> None:
        """Fetch a token and open the sockets; connected already, do nothing.

        Raises:
            Unauthorized: the gateway does not accept the credential.
            UpstreamError: the gateway cannot be reached.
        """
        connection = self._connection
        while not await connection.open():
            if connection is self._connection:  # else somebody was faster
                self._connection = self._make()
            connection = self._connection

    async def disconnect(self) -> None:
        """End every subscription, close the sockets, and leave no task behind."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def get_health(self) -> Health:
        """Return how rest, streams, token and cache do; costs nothing and asks nobody."""
        return self._connection.health()

    def clear_cache(self, glob: str | None = None) -> int:
        """Forget kept answers and return how many; `chain:I:SPX:*` leaves other chains.

        Keys begin with `chain:`, `contract:`, `aggs:` or `holidays:`. `*` stands for any
        characters and `?` for one; there are no other patterns.
        """
        return self._connection.cache.clear(glob)

    # the market

    async def get_market_status(self) -> MarketStatus:
        """Return what the exchanges are doing; the calendar's word until the vendor's is there.

        Source: `/api/market/status`.
        """
        return await self._connection.queries.market_status()

    async def get_market_holidays(self, year: int | None = None) -> Rows[Holiday]:
        """Return a year's holidays and half days; of this year without a number. Kept a day.

        Source: `/api/market/holidays`; before today, onetape's exchange calendar.

        Raises:
            InvalidRequest: a year that the calendar does not cover.
        """
        return await self._connection.queries.market_holidays(year)

    # quotes and indices

    async def get_quote(self, symbol: str) -> Quote:
        """Return the quote of a stock, an option or an index, in dollars or index points.

        Source: `/api/quotes`: judged; of a stock or an option, there is a second provider.

        Raises:
            NotFound: there is no such symbol.
            UpstreamForbidden: the plan does not have it.
            AllProvidersFailed: nobody answered.
        """
        rows = await self.get_quotes([symbol])
        for fault in rows.errors.values():
            raise fault.as_error()
        return rows[0]

    async def get_quotes(self, symbols: Iterable[str]) -> Rows[Quote]:
        """Return quotes in the order asked for; what has none is in `errors`, by symbol.

        Source: `/api/quotes`, 250 symbols a request.
        """
        return await self._connection.queries.quotes(symbols)

    async def get_index(self, symbol: str) -> IndexSnapshot:
        """Return one index, in points. Source: `/api/massive/indices`.

        Raises:
            NotFound: there is no such index.
            UpstreamForbidden: the plan does not have it.
        """
        rows = await self.get_indices([symbol])
        for fault in rows.errors.values():
            raise fault.as_error()
        return rows[0]

    async def get_indices(self, symbols: Iterable[str]) -> Rows[IndexSnapshot]:
        """Return indices in the order asked for; what is not there is in `errors`, by symbol.

        Source: `/api/massive/indices`, 250 symbols a request.
        """
        return await self._connection.queries.indices(symbols)

    # options

    async def get_options_chain(  # noqa: PLR0913 - the bounds of a chain, all by name
        self,
        underlying: str,
        *,
        min_strike: float | None = None,
        max_strike: float | None = None,
        first_expiration: date | None = None,
        last_expiration: date | None = None,
        contract_type: ContractType | Literal["call", "put"] | None = None,
        min_volume: float | None = None,
        min_open_interest: float | None = None,
        max_spread_percent: float | None = None,
        around: int | None = None,
        max_expirations: int | None = None,
    ) -> OptionChain:
        """Return the contracts on a stock or an index, with quotes, Greeks and open interest.

        All bounds are inclusive, and one that cannot be checked for lack of a number keeps
        a contract out. The chain is kept 10 s, a minute while the market is closed.

        Source: `/api/options/chain`: all pages of the first provider, or the other's chain;
        each contract is judged, and so is the whole. A page that fails after the first
        leaves the chain without what follows, and `partial` says so.

        Args:
            underlying: `SPY`, `SPX`.
            min_strike: In dollars or index points.
            max_strike: The same.
            first_expiration: The soonest.
            last_expiration: The latest.
            contract_type: `call` or `put`; both without it.
            min_volume: Contracts traded today.
            min_open_interest: Contracts open as of yesterday.
            max_spread_percent: Of the middle of the market.
            around: So many strikes on either side of the money, in each expiration.
            max_expirations: The soonest so many.

        Raises:
            InvalidRequest: bounds that nothing could meet.
        """
        query = ChainQuery(
            min_strike=min_strike,
            max_strike=max_strike,
            first_expiration=first_expiration,
            last_expiration=last_expiration,
            contract_type=_contract_type(contract_type),
            min_volume=min_volume,
            min_open_interest=min_open_interest,
            max_spread_percent=max_spread_percent,
            around=around,
            max_expirations=max_expirations,
        )
        return await self._connection.queries.option_chain(underlying, query)

    async def get_option_contract(self, symbol: str) -> OptionContract:
        """Return the terms of one option. Kept 15 minutes.

        Source: `/v3/reference/options/contracts/{symbol}`.

        Raises:
            ContractNotFound: there is none.
        """
        return await self._connection.queries.option_contract(symbol)

    def get_option_trades(
        self,
        symbol: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        order: Literal["asc", "desc"] = "asc",
        max_rows: int | None = 50,
    ) -> Pages[Trade]:
        """Return an option's prints: await them all, or iterate page by page.

        Source: `/v3/trades/{symbol}`, judged here.

        Args:
            symbol: The option.
            start: The first instant, included; a date begins in New York.
            end: The last instant, included.
            order: `asc` for the oldest first.
            max_rows: Where to stop; None for all there are.
        """
        return self._connection.queries.trades(
            symbol, start=start, end=end, newest_first=order == "desc", max_rows=max_rows
        )

    # bars and indicators

    def get_aggregates(
        self,
        symbol: str,
        timeframe: str = "1m",
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        lookback: int | None = None,
        max_rows: int | None = 50_000,
    ) -> Pages[Bar]:
        """Return bars, oldest first: await them all, or iterate page by page. Kept 60 s.

        Source: `/api/bars`, adjusted for splits and judged; of a stock, there is a second
        provider. A range that may have more than 5,000 bars is the vendor's pages,
        `/v2/aggs/ticker/{symbol}/range/…`, judged here.

        Args:
            symbol: A stock, an option or an index.
            timeframe: `30s`, `1m`, `5m`, `1h`, `1d`, `1w`, `1mo` …
            start: The first day or instant, included.
            end: The last, included; now without one.
            lookback: In place of a range: the last so many bars.
            max_rows: Where to stop in a range; None for all there are.
        """
        length = bar_length(timeframe)
        if (start is None) is (lookback is None) or (start is None and end is not None):
            raise InvalidRequest("bars of a range (start, end) or the last so many (lookback)")
        if start is None:
            return self._connection.queries.last_bars(symbol, length, lookback or 0)
        return self._connection.queries.bars(symbol, length, start, end, max_rows=max_rows)

    async def get_rsi(
        self,
        symbol: str,
        *,
        window: int = 14,
        timespan: str = "day",
        series_type: Literal["open", "high", "low", "close"] = "close",
        limit: int = 10,
        **more: Scalar,
    ) -> Rows[IndicatorValue]:
        """Return the relative strength index, 0 to 100, oldest first.

        Source: `/v1/indicators/rsi/{symbol}`; `more` are parameters of it, such as
        `timestamp` or `adjusted`.
        """
        params = {"window": window, "timespan": timespan, "series_type": series_type}
        return await self._connection.queries.rsi(symbol, {**params, "limit": limit, **more})

    # live

    def subscribe_quotes(
        self,
        symbols: Iterable[str] | None = None,
        callback: Callback[Quote] | None = None,
        *,
        overflow: Overflow = Overflow.CONFLATE,
        poll_interval_s: float | None = None,
        on_change: OnChange | None = None,
        judged: bool = False,
    ) -> Subscription[Quote]:
        """Stream quotes, and poll what is not streamed, or not just now.

        Iterate over the subscription, or give a callback; end it by leaving its `async
        with` block or by calling it. Every quote says its `source` and its provider.

        Sources: `Q.` of options, `V.` of indices, else `/api/quotes`.

        Args:
            symbols: Stocks, options and indices; None follows the watchlist.
            callback: A function, or a coroutine function, called with each quote.
            overflow: What happens when quotes come faster than they are read.
            poll_interval_s: How often to poll, in place of 2 s for options, 4 s for
                stocks, 5 s for indices and at least 12 s while the market is closed.
            on_change: Told when a symbol's source changes and when a gap opens.
            judged: Judge what the stream brings too, as it is read; what is polled was judged.

        Raises:
            NotConnected: not between `connect` and `disconnect`.
            InvalidRequest: no symbol, one that has no quotes, or one of no shape that we know.
        """
        keys = () if symbols is None else _keys(Kind.QUOTE, symbols)
        subscription = Subscription(
            keys,
            callback=callback,
            on_change=on_change,
            overflow=overflow,
            judge=self._connection.judge.quote if judged else None,
        )
        if symbols is None:
            return self._connection.follow(subscription, poll_interval_s=poll_interval_s)
        return self._connection.subscribe(subscription, poll_interval_s=poll_interval_s)

    def subscribe_aggregates(
        self,
        symbols: Iterable[str],
        callback: Callback[Bar] | None = None,
        timespan: str = "1m",
        *,
        overflow: Overflow = Overflow.CUT,
        on_change: OnChange | None = None,
        judged: bool = False,
    ) -> Subscription[Bar]:
        """Stream bars as they close: none missing and none twice, however they came.

        Bars that the stream missed are fetched before it goes on; those that could not be
        are told to `on_change` as a gap. The rest is as for `subscribe_quotes`.

        Sources: `AM.` or `A.`, else `/v2/aggs/…`.

        Args:
            symbols: Stocks, options and indices.
            callback: A function, or a coroutine function, called with each bar.
            timespan: `1m` or `1s`: what is streamed; longer ones are asked for.
            overflow: What happens when bars come faster than they are read.
            on_change: Told when a symbol's source changes and when a gap opens.
            judged: As for `subscribe_quotes`.
        """
        kind = _BARS.get(bar_length(timespan))
        if kind is None:
            raise InvalidRequest(f"bars of {timespan} are not streamed: 1s and 1m are")
        subscription: Subscription[Bar] = Subscription(
            _keys(kind, symbols),
            callback=callback,
            on_change=on_change,
            overflow=overflow,
            judge=self._connection.judge.bar if judged else None,
        )
        return self._connection.subscribe(subscription)

    def subscribe_trades(
        self,
        symbols: Iterable[str],
        callback: Callback[Trade] | None = None,
        *,
        overflow: Overflow = Overflow.CUT,
        poll_interval_s: float | None = None,
        on_change: OnChange | None = None,
        judged: bool = False,
    ) -> Subscription[Trade]:
        """Stream the prints of options and stocks: none missing and none twice.

        Prints that the stream missed are fetched before it goes on; those that could not
        be are told to `on_change` as a gap. The rest is as for `subscribe_quotes`.

        Sources: `T.`, else `/v3/trades/…` from the last print on.
        """
        subscription: Subscription[Trade] = Subscription(
            _keys(Kind.TRADE, symbols),
            callback=callback,
            on_change=on_change,
            overflow=overflow,
            judge=self._connection.judge.trade if judged else None,
        )
        return self._connection.subscribe(subscription, poll_interval_s=poll_interval_s)

    def update_watchlist(self, symbols: Iterable[str], *, at_once: bool = False) -> None:
        """Watch these in place of those watched now; only the difference is subscribed.

        Changes within 300 ms are one change, unless `at_once`. `subscribe_quotes()` without
        symbols follows.
        """
        self._connection.watch(normalized(symbols), at_once=at_once)


def _secret(credential: str | Secret) -> Secret:
    if isinstance(credential, Secret):
        return credential
    if not credential.strip() or not credential.isprintable():  # it is never repeated
        raise ConfigInvalid("the credential is empty, or not the line that `onetape keys` printed")
    return Secret(credential.strip())


def _asset_classes(names: Iterable[AssetClass | str]) -> frozenset[AssetClass]:
    known = {one.value: one for one in AssetClass}
    wanted = [names] if isinstance(names, str) else list(names)
    if not set(wanted) <= known.keys():
        raise ConfigInvalid(f"streams are among {', '.join(known)}")
    return frozenset(known[name] for name in wanted)


def _contract_type(name: ContractType | str | None) -> ContractType | None:
    if name is None:
        return None
    try:
        return ContractType(name)
    except ValueError:
        raise InvalidRequest("a contract is a call or a put") from None


_BARS: Final = {
    BarLength(1, Timespan.SECOND): Kind.SECOND_BAR,
    BarLength(1, Timespan.MINUTE): Kind.MINUTE_BAR,
}


def _keys(kind: Kind, symbols: Iterable[str]) -> tuple[Key, ...]:
    keys = tuple(Key(kind, symbol) for symbol in normalized(symbols))
    if not keys:  # nothing would ever come
        raise InvalidRequest("name at least one symbol")
    return keys
