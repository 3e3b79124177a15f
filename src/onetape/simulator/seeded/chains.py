"""Which option contracts exist: expirations, strikes, and the symbols they make.

    kind      what                                      listed before it expires
    daily     Monday to Thursday                        28 days
    friday    Fridays (SPXW: the third one too)         49 days
    monthly   third Fridays (VIX: Wednesdays)           365 days; January, June, December 730
    adjusted  third Fridays of a root such as AAPL1     90 days; a handful of strikes

Strikes lie in a band around the closes since the listing date: fine steps near, coarse
ones further out. The band only ever grows, so a contract that existed yesterday exists
today. Holidays move an expiration to the session before.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from math import ceil, exp, floor
from typing import Final, NamedTuple

import numpy as np

from onetape import calendar
from onetape.errors import InvalidSymbol
from onetape.model import ContractType
from onetape.simulator.seeded.instruments import Listing
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.noise import Floats, Integers, Keys, key, mix
from onetape.simulator.seeded.records import Contract, Deliverable
from onetape.simulator.seeded.sessions import FIRST, LAST, MarketDay, Sessions
from onetape.symbols import OptionSymbol, parse_option

_FRIDAY: Final = 4
_WEDNESDAY: Final = 2
_USUAL_DAYS: Final = 30
_LONG_MONTHS: Final = frozenset({1, 6, 12})
_CALL, _PUT = 1, 0


class Rule(NamedTuple):
    """One series of expirations of an underlying."""

    root: str
    kind: str
    dates: str
    """Which calendar of dates it follows."""
    listed_days: int
    morning: bool = False
    """Settled at the open: it does not trade on its last date."""


class Steps(NamedTuple):
    """Strike steps, near and far."""

    fine: float
    coarse: float


class Expiration(NamedTuple):
    """One expiration of one root."""

    root: str
    kind: str
    listed: date
    date: date
    morning: bool
    expires_ns: int
    prefix: str
    """The symbol as far as the right: `O:SPXW251205`."""


# ---- dates ----


def _on_or_before(day: date) -> date:
    return day if calendar.is_session(day) else calendar.previous_session(day)


def _third_friday(year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(_FRIDAY - first.weekday()) % 7 + 14)


def _months() -> Iterator[tuple[int, int]]:
    for year in range(FIRST.year, LAST.year + 1):
        for month in range(1, 13):
            yield year, month


def _weekdays(weekday: int) -> Iterator[date]:
    day = FIRST + timedelta(days=(weekday - FIRST.weekday()) % 7)
    while day <= LAST:
        yield day
        day += timedelta(days=7)


@cache
def _dates(name: str) -> tuple[date, ...]:
    """The session dates of one calendar of expirations."""
    third = {_third_friday(year, month) for year, month in _months()}
    if name == "third friday":
        return tuple(sorted(_on_or_before(day) for day in third))
    if name == "every friday":
        return tuple(_on_or_before(day) for day in _weekdays(_FRIDAY))
    if name == "other friday":
        return tuple(_on_or_before(day) for day in _weekdays(_FRIDAY) if day not in third)
    if name == "monday to thursday":
        fridays = set(_dates("every friday"))
        days = calendar.sessions_between(FIRST, LAST)
        return tuple(day for day in days if day.weekday() < _FRIDAY and day not in fridays)
    # VIX expires 30 days before the next month's third Friday.
    settled = {
        _on_or_before(day - timedelta(days=30)) for day in third if day > FIRST + timedelta(30)
    }
    if name == "vix month":
        return tuple(sorted(settled))
    wednesdays = (_on_or_before(day) for day in _weekdays(_WEDNESDAY))
    return tuple(day for day in wednesdays if day not in settled)


# ---- what each underlying lists ----


def _index_rules(root: str, weekly: str) -> tuple[Rule, ...]:
    return (
        Rule(root, "monthly", "third friday", 365, morning=True),
        Rule(weekly, "friday", "every friday", 49),
        Rule(weekly, "daily", "monday to thursday", 28),
    )


def _stock_rules(root: str) -> tuple[Rule, ...]:
    return (
        Rule(root, "monthly", "third friday", 365),
        Rule(root, "friday", "other friday", 49),
    )


_VIX_RULES: Final = (
    Rule("VIX", "monthly", "vix month", 240, morning=True),
    Rule("VIXW", "friday", "vix week", 35, morning=True),
)
_DAILY_ETFS: Final = frozenset({"SPY", "QQQ", "IWM"})
_ADJUSTED: Final[Mapping[str, tuple[Deliverable, ...]]] = {
    "AAPL": (
        Deliverable(amount=100, type="equity", underlying="AAPL"),
        Deliverable(amount=12.5, type="currency", underlying="USD"),
    ),
}
ADJUSTED_CASH: Final = 0.125
"""Dollars a share that come with an adjusted contract."""

_STEPS: Final[Mapping[str, tuple[Steps, Steps]]] = {
    "I:SPX": (Steps(5, 25), Steps(25, 100)),
    "I:NDX": (Steps(50, 250), Steps(250, 1000)),
    "I:RUT": (Steps(10, 50), Steps(25, 100)),
    "I:VIX": (Steps(0.5, 1), Steps(1, 5)),
    "SPY": (Steps(1, 5), Steps(2, 10)),
    "QQQ": (Steps(1, 5), Steps(2, 10)),
    "IWM": (Steps(1, 5), Steps(2, 10)),
}
_STEPS_BY_PRICE: Final = (
    (40.0, Steps(0.5, 1), Steps(1, 2.5)),
    (100.0, Steps(1, 2.5), Steps(2.5, 5)),
    (300.0, Steps(2.5, 5), Steps(5, 10)),
    (float("inf"), Steps(5, 10), Steps(10, 20)),
)
# Half width of the bands, in log strike, for a volatility of 16 %.
_BANDS: Final[Mapping[str, tuple[float, float]]] = {
    "daily": (0.03, 0.08),
    "friday": (0.05, 0.14),
    "monthly": (0.10, 0.32),
    "adjusted": (0.03, 0.03),
}


def _rules(ticker: str) -> tuple[Rule, ...]:
    if ticker == "I:VIX":
        return _VIX_RULES
    if ticker.startswith("I:"):
        root = ticker.removeprefix("I:")
        return _index_rules(root, "NDXP" if root == "NDX" else f"{root}W")
    rules = _stock_rules(ticker)
    if ticker in _DAILY_ETFS:
        rules = (*rules, Rule(ticker, "daily", "monday to thursday", 14))
    if ticker in _ADJUSTED:
        rules = (*rules, Rule(f"{ticker}1", "adjusted", "third friday", 90))
    return rules


class Lines(NamedTuple):
    """Contracts of one underlying, column by column, as pricing wants them."""

    strike: Floats
    """In effect: less the cash an adjusted contract delivers."""
    sign: Floats
    """+1 call, -1 put."""
    expires_ns: Integers
    keys: Keys
    """A stable hash of each contract."""

    def take(self, places: Integers) -> "Lines":
        """The contracts at these places."""
        strike, sign, expires_ns, keys = self
        return Lines(strike[places], sign[places], expires_ns[places], keys[places])


class Block(NamedTuple):
    """One expiration's part of a chain: calls by strike, then puts by strike."""

    expiration: Expiration
    strikes: Floats
    listed: Integers
    """Market-day index since which each strike exists."""
    offset: int


class Board:
    """What one underlying lists, on any date."""

    def __init__(self, listing: Listing, *, sessions: Sessions, levels: Levels) -> None:
        self.ticker = listing.instrument.ticker
        self.listing = listing
        self._sessions = sessions
        self._closes = levels.closes(self.ticker, listing.behaviour)
        self._usual = _smoothed(self._closes)
        self._widen = (listing.behaviour.volatility / 0.16) ** 0.8
        self.rules = _rules(self.ticker)
        self.is_american = not self.ticker.startswith("I:")
        self._expirations = {
            (rule.root, day): self._expiration(rule, day)
            for rule in self.rules
            for day in _dates(rule.dates)
        }
        self._strikes: dict[tuple[str, date], Block] = {}

    def _expiration(self, rule: Rule, day: date) -> Expiration:
        days = rule.listed_days
        if rule.kind == "monthly" and rule.dates == "third friday" and day.month in _LONG_MONTHS:
            days = 730
        listed = max(FIRST, day - timedelta(days=days))
        market_day = self._sessions.on(day)
        assert market_day is not None, "expirations are sessions"
        expires_ns = market_day.open_ns if rule.morning else market_day.close_ns
        return Expiration(
            rule.root,
            rule.kind,
            _on_or_before(listed),
            day,
            rule.morning,
            expires_ns,
            f"O:{rule.root}{day:%y%m%d}",
        )

    def alive(self, on: date) -> list[Expiration]:
        """Expirations listed and not past on a date, in the order of their symbols."""
        found = (one for one in self._expirations.values() if one.listed <= on <= one.date)
        return sorted(found, key=lambda one: one.prefix)

    def expired(self, before: date, *, days: int) -> list[Expiration]:
        """Expirations of the days before a date, in the order of their symbols."""
        oldest = before - timedelta(days=days)
        found = (one for one in self._expirations.values() if oldest <= one.date < before)
        return sorted(found, key=lambda one: one.prefix)

    def block(self, expiration: Expiration, on: date, offset: int = 0) -> Block:
        """The strikes of an expiration that exist on a date."""
        everything = self._all_strikes(expiration)
        exist = everything.listed <= self._index_before(on + timedelta(days=1))
        return Block(expiration, everything.strikes[exist], everything.listed[exist], offset)

    def find(self, symbol: OptionSymbol) -> Contract | None:
        """The contract of a symbol, whenever it is listed."""
        expiration = self._expirations.get((symbol.root, symbol.expiration))
        if expiration is None:
            return None
        everything = self._all_strikes(expiration)
        place = int(np.searchsorted(everything.strikes, symbol.strike - 1e-6))
        if place == len(everything.strikes) or everything.strikes[place] != symbol.strike:
            return None
        listed = int(everything.listed[place])
        return self.contract(expiration, symbol.strike, symbol.contract_type, listed)

    def contract(
        self, expiration: Expiration, strike: float, kind: ContractType, listed: int
    ) -> Contract:
        """Describe one contract, which exists since the market day of index `listed`."""
        right = "C" if kind is ContractType.CALL else "P"
        adjusted = _ADJUSTED[self.ticker] if expiration.kind == "adjusted" else ()
        style, tail = ("american", "ASP") if self.is_american else ("european", "EIC")
        days = self._sessions.days
        return Contract(
            ticker=f"{expiration.prefix}{right}{round(strike * 1000):08d}",
            root=expiration.root,
            underlying=self.ticker,
            contract_type=kind,
            expiration=expiration.date,
            strike=strike,
            exercise_style=style,
            expires_ns=expiration.expires_ns,
            listed=max(expiration.listed, days[min(listed, len(days) - 1)].date),
            cfi=f"O{right}{tail}{'N' if adjusted else 'S'}",
            additional_underlyings=adjusted,
        )

    def lines(self, contracts: Sequence[Contract]) -> Lines:
        """The columns of these contracts."""
        keys = [contract_key(c.root, c.expiration, c.strike, c.contract_type) for c in contracts]
        cash = [ADJUSTED_CASH if c.additional_underlyings else 0.0 for c in contracts]
        return Lines(
            np.array([c.strike for c in contracts]) - np.array(cash),
            np.array([1.0 if c.contract_type is ContractType.CALL else -1.0 for c in contracts]),
            np.array([c.expires_ns for c in contracts], dtype=np.int64),
            mix(np.array(keys, dtype=np.uint64)),
        )

    def usual_level(self, day: MarketDay) -> float:
        """Where the underlying has been of late: slow, so that what follows it is slow."""
        return float(self._usual[max(day.number - 1, 0)])

    def _index_before(self, on: date) -> int:
        day = self._sessions.last_before(on)
        return day.number if day is not None else -1

    def _all_strikes(self, expiration: Expiration) -> Block:
        found = self._strikes.get((expiration.root, expiration.date))
        if found is None:
            found = self._make_strikes(expiration)
            self._strikes[expiration.root, expiration.date] = found
        return found

    def _make_strikes(self, expiration: Expiration) -> Block:
        before = self._index_before(expiration.listed)
        first = max(before, 0)
        closes = self._closes[first : max(self._index_before(expiration.date), first) + 1]
        low, high = np.minimum.accumulate(closes), np.maximum.accumulate(closes)
        steps = self._steps(expiration, float(closes[0]))
        born: dict[float, int] = {}
        for step, width in zip(steps, _BANDS[expiration.kind], strict=True):
            # A band never narrows below three steps a side.
            reach = max(width * self._widen, float(np.log1p(3 * step / closes[0])))
            strikes = _grid(step, low[-1] * exp(-reach), high[-1] * exp(reach))
            under = np.searchsorted(-low, -strikes * exp(reach))
            over = np.searchsorted(high, strikes * exp(-reach))
            for strike, at in zip(strikes.tolist(), np.maximum(under, over).tolist(), strict=True):
                born[strike] = min(born.get(strike, at), at)
        strikes = np.array(sorted(born))
        listed = np.array([born[strike] for strike in strikes.tolist()], dtype=np.int64)
        # A close lists strikes for the day after; the very first day lists its own.
        return Block(expiration, strikes, listed + before + 1, 0)

    def _steps(self, expiration: Expiration, price: float) -> Steps:
        short, long = _STEPS.get(self.ticker) or next(
            (short, long) for below, short, long in _STEPS_BY_PRICE if price < below
        )
        return long if expiration.kind == "monthly" else short


def _smoothed(closes: Floats) -> Floats:
    level = float(closes[0])
    levels: list[float] = []
    for close in closes.tolist():
        level += (close - level) / _USUAL_DAYS
        levels.append(level)
    return np.array(levels)


def _grid(step: float, low: float, high: float) -> Floats:
    first = max(ceil(low / step), 1)
    return np.arange(first, floor(high / step) + 1, dtype=np.float64) * step


def contract_key(root: str, expiration: date, strike: float, kind: ContractType) -> int:
    """Hash one contract; the whole chain of an expiration is one run of integers."""
    right = _CALL if kind is ContractType.CALL else _PUT
    return (_expiration_key(root, expiration) + 2 * round(strike * 1000) + right) & (2**64 - 1)


@cache
def _expiration_key(root: str, expiration: date) -> int:
    return key("contract", root, expiration.isoformat())


class Chain:
    """All the contracts of one underlying on one date, sorted by symbol."""

    def __init__(self, board: Board, expirations: Sequence[Expiration], on: date) -> None:
        self.board = board
        self.on = on
        self.blocks: list[Block] = []
        offset = 0
        for expiration in expirations:
            block = board.block(expiration, on, offset)
            if len(block.strikes):
                self.blocks.append(block)
                offset += 2 * len(block.strikes)
        self.count = offset
        self.lines = self._lines()
        self._contracts: list[Contract] | None = None
        self._tickers: list[str] | None = None
        self._places: dict[str, int] | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes it holds, records and symbols included."""
        return 500 * self.count

    @property
    def tickers(self) -> list[str]:
        """Symbols by place."""
        if self._tickers is None:
            self._tickers = [ticker for block in self.blocks for ticker in _symbols(block)]
        return self._tickers

    def place(self, ticker: str) -> int | None:
        """Where a symbol stands in the chain."""
        if self._places is None:
            self._places = {name: place for place, name in enumerate(self.tickers)}
        return self._places.get(ticker)

    @property
    def contracts(self) -> Sequence[Contract]:
        """Contracts by place."""
        if self._contracts is None:
            self._contracts = [c for block in self.blocks for c in self._described(block)]
        return self._contracts

    def _described(self, block: Block) -> Iterator[Contract]:
        for kind in (ContractType.CALL, ContractType.PUT):
            for strike, listed in zip(block.strikes.tolist(), block.listed.tolist(), strict=True):
                yield self.board.contract(block.expiration, strike, kind, listed)

    def _lines(self) -> Lines:
        parts = [_block_lines(block) for block in self.blocks]
        if not parts:
            nothing = np.empty(0)
            return Lines(nothing, nothing, np.empty(0, np.int64), np.empty(0, np.uint64))
        return Lines(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _symbols(block: Block) -> list[str]:
    thousandths = np.rint(block.strikes * 1000).astype(np.int64).tolist()
    prefix = block.expiration.prefix
    return [f"{prefix}{right}{strike:08d}" for right in "CP" for strike in thousandths]


def _block_lines(block: Block) -> Lines:
    count = len(block.strikes)
    expiration = block.expiration
    cash = ADJUSTED_CASH if expiration.kind == "adjusted" else 0.0
    thousandths = np.rint(block.strikes * 1000).astype(np.uint64)
    base = np.uint64(_expiration_key(expiration.root, expiration.date))
    keys = base + np.uint64(2) * thousandths
    return Lines(
        np.tile(block.strikes - cash, 2),
        np.repeat([1.0, -1.0], count),
        np.full(2 * count, expiration.expires_ns, dtype=np.int64),
        mix(np.concatenate((keys + np.uint64(_CALL), keys + np.uint64(_PUT)))),
    )


class Boards:
    """The boards of every optionable underlying, found by ticker or by root."""

    def __init__(
        self, listings: Mapping[str, Listing], *, sessions: Sessions, levels: Levels
    ) -> None:
        self._listings = {
            ticker: listing
            for ticker, listing in listings.items()
            if listing.instrument.has_options
        }
        self._sessions = sessions
        self._levels = levels
        self._boards: dict[str, Board] = {}
        self._by_root = {rule.root: ticker for ticker in self._listings for rule in _rules(ticker)}

    @property
    def tickers(self) -> Sequence[str]:
        """The optionable underlyings, sorted."""
        return tuple(self._listings)

    def of(self, ticker: str) -> Board | None:
        """The board of an underlying."""
        board = self._boards.get(ticker)
        if board is None and (listing := self._listings.get(ticker)):
            board = Board(listing, sessions=self._sessions, levels=self._levels)
            self._boards[ticker] = board
        return board

    def find(self, ticker: str) -> Contract | None:
        """The contract of this symbol, whenever it is listed."""
        try:
            symbol = parse_option(ticker)
        except InvalidSymbol:
            return None
        board = self.of(self._by_root.get(symbol.root, ""))
        return board.find(symbol) if board is not None else None
