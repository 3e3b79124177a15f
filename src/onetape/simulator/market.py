"""The simulated market: one pure function of (seed, symbol, time).

Everything here is random access and nothing accumulates: asking twice, in any order,
through REST or through the stream, gives the same tape. Ranges are `[start_ns, end_ns)`,
results ascend in time, and nothing after `now_ns()` is ever shown. Symbols are the
vendor's (`SPY`, `I:SPX`, `O:SPXW251205P06850500`); one that does not exist raises
`NotFound` wherever a symbol is named, except in the lookups that return None and in the
`stream_…` calls, which skip it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from typing import Final

from onetape import calendar
from onetape.errors import InvalidRequest, NotFound
from onetape.model import AssetClass
from onetape.simulator.seeded.bars import BarRange
from onetape.simulator.seeded.cash_desk import CashDesk, Run, Tick, collect
from onetape.simulator.seeded.chains import Boards
from onetape.simulator.seeded.instruments import Instrument, listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.option_desk import Conditions, OptionDesk
from onetape.simulator.seeded.option_stream import OptionStream
from onetape.simulator.seeded.paths import Paths
from onetape.simulator.seeded.records import (
    BarTick,
    Contract,
    DayStats,
    Deliverable,
    Greeks,
    Hours,
    MarketStatistics,
    OptionModel,
    OptionRow,
    QuoteTick,
    Session,
    TradeTick,
    ValueTick,
)
from onetape.simulator.seeded.sessions import MarketDay, Sessions, midnight_ns
from onetape.simulator.seeded.sim_clock import SimClock
from onetape.simulator.seeded.tape import Tapes

__all__ = [
    "BarTick",
    "Contract",
    "DayStats",
    "Deliverable",
    "Greeks",
    "Hours",
    "Instrument",
    "Market",
    "MarketStatistics",
    "OptionModel",
    "OptionRow",
    "QuoteTick",
    "Session",
    "SimClock",
    "TradeTick",
    "ValueTick",
]


_MEMORY_BYTES: Final = 256 * 1024 * 1024
_YEAR_NS: Final = 365 * 86_400 * 1_000_000_000
_LOOK_BACK_DAYS: Final = 5
"""How many market days back a last trade or quote is looked for."""


class Market:
    """The market behind both simulated wires. Sans-I/O; not thread-safe (it caches).

    Two markets of the same settings tell the same, so each thread may have its own. What
    is slow the first time (a day's tapes: tens of milliseconds each) is quick the second;
    `warm` does it ahead.

    Args:
        clock: tells market time.
        seed: names the tape.
        extra: more stock tickers to invent; they have option chains too.
        rate: multiplies how many trades, quotes and values there are.
        hours: the real calendar, or always open.
        memory_bytes: bound on what is remembered.
    """

    def __init__(
        self,
        *,
        clock: SimClock,
        seed: int = 7,
        extra: Sequence[str] = (),
        rate: float = 1.0,
        hours: Hours = Hours.ALWAYS,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        if not rate > 0:
            raise InvalidRequest("rate must be above 0")
        self._clock = clock
        self._listings = listings(extra)
        self._memory = Memory(memory_bytes)
        self._sessions = Sessions(Hours(hours))
        self._levels = levels = Levels(seed=seed, sessions=self._sessions)
        paths = Paths(seed=seed, sessions=self._sessions, levels=levels, memory=self._memory)
        self._cash = CashDesk(
            self._listings,
            sessions=self._sessions,
            tapes=Tapes(seed=seed, rate=rate, paths=paths, memory=self._memory),
            memory=self._memory,
        )
        self._options = OptionDesk(
            Boards(self._listings, sessions=self._sessions, levels=levels),
            sessions=self._sessions,
            paths=paths,
            memory=self._memory,
            conditions=Conditions(seed, rate, self._listings["I:VIX"]),
        )
        self._stream = OptionStream(self._options, sessions=self._sessions, memory=self._memory)

    # ---- time ----

    @property
    def hours(self) -> Hours:
        """When it trades."""
        return self._sessions.hours

    @property
    def clock(self) -> SimClock:
        """What tells its time."""
        return self._clock

    def now_ns(self) -> int:
        """Market time: the end of everything that can be seen."""
        return self._clock.now_ns()

    def session(self, t_ns: int, asset: AssetClass = AssetClass.STOCKS) -> Session:
        """The part of the day. Options and indices have no PRE and AFTER."""
        return self._sessions.session(t_ns, extended=asset is AssetClass.STOCKS)

    def is_open(self, t_ns: int, asset: AssetClass = AssetClass.STOCKS) -> bool:
        """Whether the regular session is on."""
        return self.session(t_ns, asset) is Session.REGULAR

    def market_date(self, t_ns: int) -> date:
        """The date in New York."""
        return calendar.new_york_date(t_ns)

    def session_bounds(
        self, day: date, asset: AssetClass = AssetClass.STOCKS
    ) -> tuple[int, int] | None:
        """Open and close of the regular session, ns; None on a day without one.

        The same for every asset class: index options close at 16:00 here, not at 16:15.
        """
        del asset
        found = self._sessions.on(day)
        return None if found is None else (found.open_ns, found.close_ns)

    # ---- what exists ----

    def instruments(self, asset: AssetClass | None = None) -> Sequence[Instrument]:
        """Stocks, ETFs and indices, sorted by ticker. asset: STOCKS or INDICES to filter."""
        every = (listing.instrument for listing in self._listings.values())
        return [one for one in every if asset is None or one.asset is asset]

    def instrument(self, ticker: str) -> Instrument | None:
        """The stock, ETF or index of this exact ticker."""
        listing = self._listings.get(ticker)
        return None if listing is None else listing.instrument

    def market_cap(self, ticker: str, t_ns: int) -> float | None:
        """Dollars; None without a share count."""
        instrument = self.instrument(ticker)
        if instrument is None or instrument.shares_outstanding is None:
            return None
        trade = self.last_trade(ticker, t_ns)
        return None if trade is None else round(trade.price * instrument.shares_outstanding, 2)

    def optionable(self) -> Sequence[str]:
        """Tickers that have option chains (`I:SPX`, `SPY`, …), sorted."""
        return self._options.boards.tickers

    def contracts(
        self, underlying: str, *, as_of: date | None = None, expired: bool = False
    ) -> Sequence[Contract]:
        """The contracts of an instrument (`I:SPX`; `SPX` too), sorted by ticker.

        Listed and not expired on `as_of` (default, and at most: today); with `expired`,
        those that expired in the 92 days before it instead. Empty when the ticker has no
        options.
        """
        today = self.market_date(self.now_ns())
        name = underlying if underlying in self._listings else f"I:{underlying}"
        return self._options.contracts(name, min(as_of or today, today), expired=expired)

    def contract(self, ticker: str, *, as_of: date | None = None) -> Contract | None:
        """One contract, living or expired, if it was listed by `as_of` (default: today)."""
        today = self.market_date(self.now_ns())
        found = self._options.contract(ticker)
        if found is None or found.listed > min(as_of or today, today):
            return None
        return found

    def exists(self, symbol: str) -> bool:
        """Whether it names an instrument or a contract, living or expired."""
        return self.asset_class(symbol) is not None

    def asset_class(self, symbol: str) -> AssetClass | None:
        """OPTIONS, STOCKS or INDICES; None if it does not exist."""
        if listing := self._listings.get(symbol):
            return listing.instrument.asset
        return AssetClass.OPTIONS if self.contract(symbol) is not None else None

    # ---- history ----

    def trades(
        self,
        symbol: str,
        start_ns: int,
        end_ns: int,
        *,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[TradeTick]:
        """Trades of a stock or option, oldest first; none of an index.

        With `limit`, the first that many from `start_ns`; with `newest_first`, the list
        descends and the limit counts from `end_ns`. Give a limit for long ranges.
        """
        asset = self._class_of(symbol)
        if asset is AssetClass.INDICES:
            return []
        run = self._options.trades if asset is AssetClass.OPTIONS else self._cash.trades
        runs = self._runs(run, symbol, (start_ns, end_ns), newest_first=newest_first)
        return collect(runs, limit, newest_first=newest_first)

    def quotes(
        self,
        symbol: str,
        start_ns: int,
        end_ns: int,
        *,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[QuoteTick]:
        """Quotes of a stock or option, none of an index; limit and order as for `trades`."""
        asset = self._class_of(symbol)
        if asset is AssetClass.INDICES:
            return []
        run = self._options.quotes if asset is AssetClass.OPTIONS else self._cash.quotes
        runs = self._runs(run, symbol, (start_ns, end_ns), newest_first=newest_first)
        return collect(runs, limit, newest_first=newest_first)

    def values(
        self,
        symbol: str,
        start_ns: int,
        end_ns: int,
        *,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[ValueTick]:
        """Values of an index, none of anything else; limit and order as for `trades`."""
        if self._class_of(symbol) is not AssetClass.INDICES:
            return []
        runs = self._runs(self._cash.values, symbol, (start_ns, end_ns), newest_first=newest_first)
        return collect(runs, limit, newest_first=newest_first)

    def bars(
        self, symbol: str, multiplier: int, timespan: str, start_ns: int, end_ns: int
    ) -> list[BarTick]:
        """Aggregates whose window STARTS within the range, aligned to New York time.

        timespan: second, minute, hour, day, week, month, quarter or year. Windows without
        an eligible trade have no bar. The newest bar is the window so far. Stamps
        are window starts (day: midnight ET; week: Sunday midnight ET).
        """
        return list(self.iter_bars(symbol, multiplier, timespan, start_ns, end_ns))

    def iter_bars(
        self,
        symbol: str,
        multiplier: int,
        timespan: str,
        start_ns: int,
        end_ns: int,
        *,
        newest_first: bool = False,
    ) -> Iterator[BarTick]:
        """`bars`, a day (or a calendar window) at a time: stop reading and nothing more is made."""
        is_option = self._class_of(symbol) is AssetClass.OPTIONS
        width = (multiplier, timespan)
        desk = self._options if is_option else self._cash
        bars = BarRange(desk, self._sessions, symbol, width=width, now_ns=self.now_ns())
        low_ns, high_ns = self._life(symbol)
        # A long window that holds the first day of a contract starts before that day.
        start_ns = max(start_ns, bars.start_of(low_ns))
        return bars.bars(start_ns, min(end_ns, high_ns), newest_first=newest_first)

    def day_stats(self, symbol: str, t_ns: int) -> DayStats:
        """The market day of the date of `t_ns`, as far as it had gone.

        On dates that are not market days, and before the first tick of one, the fields of
        the day are None (volume 0 if it has volumes) and `previous_close` stands.
        """
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.on(self.market_date(t_ns))
        if day is not None:
            return self._stats(symbol, day, t_ns + 1)
        before = self.previous_day_stats(symbol, t_ns)
        return DayStats(
            self.market_date(t_ns),
            volume=None if self._class_of(symbol) is AssetClass.INDICES else 0,
            previous_close=None if before is None else before.close,
        )

    def session_stats(self, symbol: str, t_ns: int) -> DayStats:
        """The newest market day that had begun by `t_ns`: on a weekend, Friday."""
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        if day is None:
            return self.day_stats(symbol, t_ns)
        return self._stats(symbol, day, t_ns + 1)

    def previous_day_stats(self, symbol: str, t_ns: int) -> DayStats | None:
        """The last market day before the date of `t_ns` on which it traded."""
        day = self._sessions.last_before(self.market_date(min(t_ns, self.now_ns())))
        low_ns, high_ns = self._life(symbol)
        for _ in range(_LOOK_BACK_DAYS):
            if day is None or day.end_ns <= low_ns:
                return None
            if day.start_ns < high_ns:
                stats = self._stats(symbol, day, day.end_ns)
                if stats.close is not None:
                    return stats
            day = self._sessions.before(day)
        return None

    # ---- the present, or any instant ----

    def last_trade(self, symbol: str, t_ns: int) -> TradeTick | None:
        """The last trade at or before `t_ns`, of that market day or the five before."""
        start_ns = self._some_days_before(t_ns)
        found = self.trades(symbol, start_ns, t_ns + 1, limit=1, newest_first=True)
        return found[0] if found else None

    def last_quote(self, symbol: str, t_ns: int) -> QuoteTick | None:
        """The quote that stands at `t_ns`; None of an index, or before the first."""
        asset = self._class_of(symbol)
        t_ns = min(t_ns, self.now_ns())
        if asset is AssetClass.OPTIONS:
            contract = self.contract(symbol)
            assert contract is not None, "it has a class"
            at_ns = min(t_ns, contract.expires_ns - 1)
            return self._options.standing_quotes([contract], at_ns)[0]
        if asset is AssetClass.INDICES:
            return None
        day = self._sessions.begun(t_ns)
        return None if day is None else self._cash.standing_quote(symbol, day, t_ns)

    def value_at(self, symbol: str, t_ns: int) -> ValueTick | None:
        """The last published value of an index at or before `t_ns`."""
        if self._class_of(symbol) is not AssetClass.INDICES:
            return None
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        if day is not None and t_ns < day.open_ns:
            day = self._sessions.before(day)
        return None if day is None else self._cash.standing_value(symbol, day, t_ns)

    def last_bar(self, symbol: str, seconds: int, t_ns: int) -> BarTick | None:
        """The newest bar (1 or 60 s) of the newest market day begun by `t_ns`, so far."""
        is_option = self._class_of(symbol) is AssetClass.OPTIONS
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        if day is None:
            return None
        desk = self._options if is_option else self._cash
        bars = BarRange(desk, self._sessions, symbol, width=(seconds, "second"), now_ns=t_ns)
        return next(bars.bars(day.start_ns, day.end_ns, newest_first=True), None)

    def option_rows(self, contracts: Sequence[Contract], t_ns: int) -> list[OptionRow]:
        """Chain-snapshot rows of living contracts, in the order given. Cheap per page, not per row.

        Contracts not alive at `t_ns` are left out. `day` is that of the newest market day
        begun by `t_ns`.
        """
        t_ns = min(t_ns, self.now_ns())
        day, today = self._sessions.begun(t_ns), self.market_date(t_ns)
        if day is None:
            return []
        found: dict[str, OptionRow] = {}
        alive = [c for c in contracts if c.listed <= today and t_ns < c.expires_ns]
        for underlying in dict.fromkeys(contract.underlying for contract in alive):
            price = self._price(underlying, t_ns)
            if price is None:
                continue
            mine = [contract for contract in alive if contract.underlying == underlying]
            found.update((r.contract.ticker, r) for r in self._options.rows(mine, day, t_ns, price))
        return [found[c.ticker] for c in alive if c.ticker in found]

    def option_row(self, contract: Contract, t_ns: int) -> OptionRow | None:
        """`option_rows` of one; None when it is not alive."""
        rows = self.option_rows([contract], t_ns)
        return rows[0] if rows else None

    def option_model(self, contracts: Sequence[Contract], t_ns: int) -> OptionModel | None:
        """What stands behind the quotes of contracts of one underlying; None before the first day."""
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        return None if day is None else self._options.model(contracts, day, t_ns)

    def year_range(self, ticker: str, t_ns: int) -> tuple[float, float] | None:
        """Lowest and highest close of the year before the date of `t_ns`, that day left out."""
        day = self._sessions.begun(min(t_ns, self.now_ns()))
        listing = self._listings.get(ticker)
        if listing is None or day is None or not day.number:
            return None
        year_ago = self._sessions.begun(day.midnight_ns - _YEAR_NS)
        first = 0 if year_ago is None else year_ago.number
        low, high = self._levels.range_between(ticker, listing.behaviour, first, day.number)
        return round(low, 2), round(high, 2)

    def mark(self, contract: Contract, t_ns: int) -> float | None:
        """Fair value of one contract; None when it is not alive."""
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        if day is None or contract.listed > self.market_date(t_ns) or t_ns >= contract.expires_ns:
            return None
        return round(float(self._options.value([contract], day, t_ns).fair[0]), 4)

    def open_interest(self, contract: Contract, t_ns: int) -> int | None:
        """Open interest as published before that day's open (the previous day's)."""
        t_ns = min(t_ns, self.now_ns())
        day = self._sessions.begun(t_ns)
        if day is None or contract.listed > self.market_date(t_ns) or t_ns >= contract.expires_ns:
            return None
        return int(self._options.interest([contract], day)[0])

    # ---- the live stream ----

    def stream_trades(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[TradeTick]:
        """Trades of these symbols (None: all of the asset class), merged by time.

        Pass the same frozenset from step to step: the market remembers it.
        """
        end_ns = min(end_ns, self.now_ns() + 1)
        if asset is AssetClass.OPTIONS:
            return self._stream.trades(symbols, start_ns, end_ns)
        if asset is AssetClass.INDICES:
            return []
        return self._cash.stream(self._cash.trades, asset, symbols, (start_ns, end_ns))

    def stream_quotes(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[QuoteTick]:
        """Quotes, merged by time. None (all) is for stocks only: options raise InvalidRequest."""
        end_ns = min(end_ns, self.now_ns() + 1)
        if asset is AssetClass.INDICES:
            return []
        if asset is AssetClass.STOCKS:
            return self._cash.stream(self._cash.quotes, asset, symbols, (start_ns, end_ns))
        if symbols is None:
            raise InvalidRequest("the quotes of all options are more than anybody can carry")
        return self._stream.quotes(symbols, start_ns, end_ns)

    def stream_values(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[ValueTick]:
        """Index values, merged by time."""
        span = (start_ns, min(end_ns, self.now_ns() + 1))
        return self._cash.stream(self._cash.values, AssetClass.INDICES, symbols, span)

    def closed_bars(
        self,
        asset: AssetClass,
        symbols: Collection[str] | None,
        start_ns: int,
        end_ns: int,
        *,
        seconds: int = 60,
    ) -> list[BarTick]:
        """Bars (1 or 60 s) whose window ended within [start_ns, end_ns), with their `day_…` fields.

        To publish with the vendor's lag of about 2 s, ask for a range 2 s back.
        """
        span = (start_ns, min(end_ns, self.now_ns() + 1))
        if asset is AssetClass.OPTIONS:
            return self._stream.closed_bars(symbols, span, seconds)
        return self._cash.closed_bars(asset, symbols, span, seconds)

    # ---- memory ----

    def warm(self, t_ns: int) -> Iterator[str]:
        """Make the tapes of the market day of `t_ns` ahead, a piece per step (tens of ms each).

        Run through it before serving, and again before midnight (or the open) for the
        next day, yielding to others between the steps. Nothing of the future shows.
        """
        day = self._sessions.begun(t_ns)
        for ticker, listing in self._listings.items():
            if day is None:
                return
            self._cash.prints(ticker, day, of_day=False)
            yield ticker
            if listing.instrument.has_options and (board := self._options.boards.of(ticker)):
                _ = self._options.tape(board, day).chain.tickers
                yield f"O:{ticker}"

    def statistics(self) -> MarketStatistics:
        """What is cached."""
        return self._memory.statistics()

    # ---- private ----

    def _class_of(self, symbol: str) -> AssetClass:
        asset = self.asset_class(symbol)
        if asset is None:
            raise NotFound(f"no such symbol: {symbol}")
        return asset

    def _life(self, symbol: str) -> tuple[int, int]:
        """From when to when a symbol can have events."""
        if symbol in self._listings:
            return self._sessions.days[0].start_ns, self._sessions.days[-1].end_ns
        contract = self.contract(symbol)
        if contract is None:
            raise NotFound(f"no such symbol: {symbol}")
        return midnight_ns(contract.listed), contract.expires_ns

    def _runs(
        self,
        run: Callable[[str, MarketDay, int, int], Run[Tick]],
        symbol: str,
        span: tuple[int, int],
        *,
        newest_first: bool,
    ) -> Iterator[Run[Tick]]:
        low_ns, high_ns = self._life(symbol)
        start_ns = max(span[0], low_ns)
        end_ns = min(span[1], high_ns, self.now_ns() + 1)
        if start_ns < end_ns:
            for day in self._sessions.between(start_ns, end_ns, reverse=newest_first):
                yield run(symbol, day, start_ns, end_ns)

    def _stats(self, symbol: str, day: MarketDay, end_ns: int) -> DayStats:
        if self._class_of(symbol) is not AssetClass.OPTIONS:
            return self._cash.day_stats(symbol, day, end_ns)
        return self._options.day_stats(symbol, day, end_ns)

    def _some_days_before(self, t_ns: int) -> int:
        day = self._sessions.begun(min(t_ns, self.now_ns()))
        if day is None:
            return t_ns
        return self._sessions.days[max(day.number - _LOOK_BACK_DAYS, 0)].start_ns

    def _price(self, underlying: str, t_ns: int) -> tuple[float, int] | None:
        """The last price or value of an underlying, and when that was."""
        if value := self.value_at(underlying, t_ns):
            return value.value, value.event_ns
        trade = self.last_trade(underlying, t_ns)
        return None if trade is None else (trade.price, trade.event_ns)
