"""Options: chains, history, the present and the stream, from books and tapes."""

from collections.abc import Sequence
from datetime import date
from typing import Final, NamedTuple

import numpy as np

from onetape.model import ContractType
from onetape.simulator.seeded import slots
from onetape.simulator.seeded.aggregates import Prints
from onetape.simulator.seeded.cash_desk import DayTotal, Run, stats_of, total_of
from onetape.simulator.seeded.chains import Board, Boards, Chain
from onetape.simulator.seeded.instruments import Listing
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.noise import Integers
from onetape.simulator.seeded.option_book import OptionBook, Valued
from onetape.simulator.seeded.option_tape import OptionTape, make_option_tape
from onetape.simulator.seeded.paths import Paths
from onetape.simulator.seeded.pricing import normal_cdf
from onetape.simulator.seeded.records import (
    Contract,
    DayStats,
    Greeks,
    OptionModel,
    OptionRow,
    QuoteTick,
    TradeTick,
)
from onetape.simulator.seeded.sessions import MarketDay, Sessions
from onetape.simulator.seeded.tape import QuoteColumns

EXPIRED_DAYS: Final = 92
_LOOK_BACK_DAYS: Final = 3
"""How many market days back the last trade of a contract is looked for."""
_NO_TIME_VALUE: Final = 0.005
"""Below half a cent of time value a price implies no volatility."""
_KNOWN: Final = 100_000


class Conditions(NamedTuple):
    """What a desk's tapes depend on."""

    seed: int
    rate: float
    vix: Listing


def quoted(contract: Contract, day: MarketDay) -> bool:
    """Whether a contract has quotes and trades on a market day."""
    return contract.listed <= day.date and contract.expires_ns > day.open_ns


def quote_ticks(tickers: Sequence[str], columns: QuoteColumns) -> list[QuoteTick]:
    """Quotes as records, one ticker each."""
    rows = zip(tickers, *(column.tolist() for column in columns), strict=True)
    return [QuoteTick(*row) for row in rows]


def _no_quotes(_: Integers) -> list[QuoteTick]:
    return []


class OptionDesk:
    """All options of one market."""

    def __init__(
        self,
        boards: Boards,
        *,
        sessions: Sessions,
        paths: Paths,
        memory: Memory,
        conditions: Conditions,
    ) -> None:
        self.boards = boards
        self._sessions = sessions
        self._paths = paths
        self._memory = memory
        self._seed, self._rate, self._vix = conditions
        self._known: dict[str, Contract] = {}

    # ---- what exists ----

    def contract(self, ticker: str) -> Contract | None:
        """The contract of a symbol, whenever it is listed."""
        found = self._known.get(ticker)
        if found is None and (found := self.boards.find(ticker)):
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[ticker] = found
        return found

    def contracts(self, underlying: str, on: date, *, expired: bool) -> Sequence[Contract]:
        """The living, or the recently expired, contracts on a date."""
        board = self.boards.of(underlying)
        if board is None:
            return ()
        if not expired:
            return self._chain(board, on).contracts
        return self._memory.get(
            ("expired", underlying, on),
            lambda: Chain(board, board.expired(on, days=EXPIRED_DAYS), on),
            lambda chain: chain.size_bytes,
        ).contracts

    def _chain(self, board: Board, on: date) -> Chain:
        return self._memory.get(
            ("chain", board.ticker, on),
            lambda: Chain(board, board.alive(on), on),
            lambda chain: chain.size_bytes,
        )

    # ---- one underlying, one day ----

    def book(self, board: Board, day: MarketDay) -> OptionBook:
        """The quotes of a board on a day."""
        return self._memory.get(
            ("option book", board.ticker, day.number),
            lambda: OptionBook(
                board,
                day,
                self._paths.of(board.listing, day),
                self._paths.of(self._vix, day),
                seed=self._seed,
                rate=self._rate,
            ),
            lambda _: 2_000,
            day=day.number,
        )

    def tape(self, board: Board, day: MarketDay) -> OptionTape:
        """The trades of a board on a day."""
        return self._memory.get(
            ("option tape", board.ticker, day.number),
            lambda: make_option_tape(
                self._chain(board, day.date),
                self.book(board, day),
                self._paths.activity(day),
                seed=self._seed,
                rate=self._rate,
            ),
            lambda tape: tape.size_bytes,
            day=day.number,
        )

    # ---- runs: one contract, one day ----

    def trades(self, ticker: str, day: MarketDay, start_ns: int, end_ns: int) -> Run[TradeTick]:
        """Trades of a contract."""
        tape = self.tape(self._board(ticker), day)
        return Run(tape.at(ticker, start_ns, end_ns), tape.ticks)

    def quotes(self, ticker: str, day: MarketDay, start_ns: int, end_ns: int) -> Run[QuoteTick]:
        """Quotes of a contract."""
        contract = self._listed(ticker)
        low_ns = max(start_ns, day.open_ns)
        high_ns = min(end_ns, day.close_ns, contract.expires_ns)
        if low_ns >= high_ns or not quoted(contract, day):
            return Run(np.empty(0, np.int64), _no_quotes)
        board = self._board(ticker)
        book, lines = self.book(board, day), board.lines([contract])
        widths, keys = book.widths(lines), book.keys(lines)
        first, stop = slots.spanned(day.open_ns, widths, low_ns, high_ns)
        numbers = np.arange(int(first[0]), int(stop[0]))
        t_ns = slots.times(day.open_ns, widths, numbers, slots.scramble(keys, numbers))
        numbers = numbers[(t_ns >= low_ns) & (t_ns < high_ns)]

        def make(at: Integers) -> list[QuoteTick]:
            return quote_ticks([ticker] * len(at), book.quotes(lines, at)[0])

        return Run(numbers, make)

    def intraday(self, symbol: str, day: MarketDay) -> Prints:
        """All the trades of a contract on a day."""
        tape = self.tape(self._board(symbol), day)
        return tape.prints(tape.at(symbol, day.start_ns, day.end_ns))

    def _listed(self, ticker: str) -> Contract:
        contract = self.contract(ticker)
        assert contract is not None, "the market has looked it up"
        return contract

    def _board(self, ticker: str) -> Board:
        board = self.boards.of(self._listed(ticker).underlying)
        assert board is not None, "a contract has a board"
        return board

    # ---- days ----

    def total(self, symbol: str, day: MarketDay, end_ns: int) -> DayTotal:
        """The day up to an instant; whole days are remembered."""
        if end_ns < day.end_ns:
            return total_of(self.intraday(symbol, day).between(day.start_ns, end_ns))
        return self._memory.get(
            ("total", symbol, day.number),
            lambda: total_of(self.intraday(symbol, day)),
            lambda _: 400,
        )

    def day_stats(self, ticker: str, day: MarketDay, end_ns: int) -> DayStats:
        """The day up to an instant."""
        contract = self._listed(ticker)
        tape = self.tape(self._board(ticker), day)
        return self._traded(contract, tape, end_ns)[0]

    def _traded(
        self, contract: Contract, tape: OptionTape, end_ns: int
    ) -> tuple[DayStats, TradeTick | None]:
        """A contract's day before an instant, and its last trade, of that day or just before."""
        day = tape.day
        today = tape.at(contract.ticker, day.start_ns, end_ns)
        old_tape, old = self._before(contract, day)
        close = float(old_tape.columns.price[old[-1]]) if old_tape is not None else None
        stats = stats_of(day, tape.prints(today), close)
        last_tape, last = (tape, today) if len(today) else (old_tape, old)
        trade = None if last_tape is None else last_tape.ticks(last[-1:])[0]
        return stats, trade

    def _before(self, contract: Contract, day: MarketDay) -> tuple[OptionTape | None, Integers]:
        """The tape and trades of the last of the days just before on which it traded."""
        board = self.boards.of(contract.underlying)
        assert board is not None, "a contract has a board"
        for _ in range(_LOOK_BACK_DAYS):
            before = self._sessions.before(day)
            if before is None or before.date < contract.listed:
                break
            tape = self.tape(board, before)
            positions = tape.at(contract.ticker, before.start_ns, before.end_ns)
            if len(positions):
                return tape, positions
            day = before
        return None, np.empty(0, np.int64)

    # ---- rows of a chain ----

    def value(self, contracts: Sequence[Contract], day: MarketDay, t_ns: int) -> Valued:
        """Value contracts of one underlying at one instant."""
        board = self._board(contracts[0].ticker)
        return self.book(board, day).value(board.lines(contracts), np.full(len(contracts), t_ns))

    def rows(
        self,
        contracts: Sequence[Contract],
        day: MarketDay,
        t_ns: int,
        underlying: tuple[float, int],
    ) -> list[OptionRow]:
        """Describe living contracts of one underlying, at one instant of its newest day.

        Args:
            contracts: all of one underlying.
            day: the newest market day.
            t_ns: the instant.
            underlying: its price, and when that was.
        """
        board = self._board(contracts[0].ticker)
        tape, book, lines = self.tape(board, day), self.book(board, day), board.lines(contracts)
        valued = book.value(lines, np.full(len(contracts), t_ns))
        sensitivities = (column.tolist() for column in book.sensitivities(lines, valued))
        columns = zip(
            contracts,
            valued.fair.round(4).tolist(),
            valued.time_value.tolist(),
            (valued.smile.deviation / np.sqrt(valued.years)).tolist(),
            map(Greeks._make, zip(*sensitivities, strict=True)),
            self.interest(contracts, day).tolist(),
            self.standing_quotes(contracts, t_ns),
            strict=True,
        )
        found: list[OptionRow] = []
        for contract, mark, time_value, volatility, greeks, interest, quote in columns:
            stats, trade = self._traded(contract, tape, t_ns + 1)
            sign = 1 if contract.contract_type is ContractType.CALL else -1
            implies = time_value >= _NO_TIME_VALUE
            row = OptionRow(
                contract=contract,
                day=stats,
                open_interest=interest,
                mark=mark,
                implied_volatility=volatility if implies else None,
                greeks=greeks if implies else None,
                quote=quote,
                trade=trade,
                break_even=round(contract.strike + sign * mark, 4),
                underlying_price=underlying[0],
                underlying_ns=underlying[1],
            )
            found.append(row)
        return found

    def model(self, contracts: Sequence[Contract], day: MarketDay, t_ns: int) -> OptionModel:
        """What stands behind the quotes of contracts of one underlying, at one instant."""
        board = self._board(contracts[0].ticker)
        book, lines = self.book(board, day), board.lines(contracts)
        valued = book.value(lines, np.full(len(contracts), t_ns))
        calls = lines._replace(sign=np.ones(len(contracts)))
        greeks = book.sensitivities(calls, valued)
        smile, years = valued.smile, valued.years
        d1 = np.log(smile.forward / lines.strike) / smile.deviation + 0.5 * smile.deviation
        in_money = normal_cdf(d1 - smile.deviation)
        percent = smile.discount * years / 100
        return OptionModel(
            strike=lines.strike,
            sign=lines.sign,
            years=years,
            forward=smile.forward,
            discount=smile.discount,
            deviation=smile.deviation,
            time_value=valued.time_value,
            delta=greeks.delta,
            gamma=greeks.gamma,
            theta=greeks.theta,
            vega=greeks.vega,
            rho=percent * lines.strike * in_money,
            phi=-percent * smile.forward * normal_cdf(d1),
            quotes=tuple(self.standing_quotes(contracts, t_ns)),
        )

    def interest(self, contracts: Sequence[Contract], day: MarketDay) -> Integers:
        """Open interest of contracts of one underlying before the day's open."""
        board = self._board(contracts[0].ticker)
        ages = np.array([(day.date - contract.listed).days for contract in contracts], np.float64)
        usual = board.usual_level(day)
        return self.book(board, day).open_interest(board.lines(contracts), ages, usual)

    def standing_quotes(self, contracts: Sequence[Contract], t_ns: int) -> list[QuoteTick | None]:
        """The quote that stands at an instant, of contracts of one underlying."""
        day = self._sessions.begun(t_ns)
        if day is not None and t_ns < day.open_ns:
            day = self._sessions.before(day)
        if day is None:
            return [None] * len(contracts)
        board = self._board(contracts[0].ticker)
        book, lines = self.book(board, day), board.lines(contracts)
        # A quote does not outlive its contract.
        numbers = book.standing(lines, np.minimum(t_ns, lines.expires_ns - 1))
        tickers = [contract.ticker for contract in contracts]
        ticks = quote_ticks(tickers, book.quotes(lines, np.maximum(numbers, 0))[0])
        pairs = zip(contracts, ticks, strict=True)
        return [tick if quoted(contract, day) else None for contract, tick in pairs]
