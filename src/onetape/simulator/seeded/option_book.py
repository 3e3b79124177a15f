"""Fair values, quotes and open interest of one underlying's options on one day.

Everything is a function of a contract's own columns, so a page of a chain, a basket of
the stream and a day's tape are all priced by the same code and agree to the cent.
"""

from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded import slots
from onetape.simulator.seeded.chains import Board, Lines
from onetape.simulator.seeded.noise import Floats, Integers, Keys, digit, key, mix, unit
from onetape.simulator.seeded.paths import Path
from onetape.simulator.seeded.pricing import Sensitivities, Terms, black, greeks
from onetape.simulator.seeded.sessions import SECOND_NS, MarketDay
from onetape.simulator.seeded.surface import RATE, YEAR_NS, Market, Smile, Surface
from onetape.simulator.seeded.tape import QuoteColumns, latency_ns

DAY_SEQUENCE: Final = 1_000_000_000
_LEAST_YEARS: Final = 60 / (365 * 86_400)
_THRESHOLD: Final = 3.0

# Smallest price steps below and from $3.
_TICKS: Final = {
    "I:SPX": (0.05, 0.10),
    "I:NDX": (0.05, 0.10),
    "I:RUT": (0.05, 0.10),
    "I:VIX": (0.01, 0.05),
    "SPY": (0.01, 0.01),
    "QQQ": (0.01, 0.01),
    "IWM": (0.01, 0.01),
}
_PENNY: Final = (0.01, 0.05)

_CBOE: Final = np.array([302])
_NASDAQ: Final = np.array([308, 323, 307])
_MULTIPLE: Final = np.array(
    [302, 308, 313, 316, 300, 301, 303, 304, 309, 312, 315, 319, 322, 323, 325]
)
_VENUES: Final = {"I:SPX": _CBOE, "I:VIX": _CBOE, "I:RUT": _CBOE, "I:NDX": _NASDAQ}

ACTIVITY: Final = {
    "I:SPX": 1.0,
    "SPY": 1.0,
    "QQQ": 0.6,
    "NVDA": 0.5,
    "TSLA": 0.5,
    "AAPL": 0.35,
    "IWM": 0.2,
    "MSFT": 0.2,
    "I:VIX": 0.15,
    "I:NDX": 0.1,
    "I:RUT": 0.08,
}
"""How busy each underlying's options are, next to SPX's."""
_QUIET: Final = 0.05


class Valued(NamedTuple):
    """Contracts valued, one entry per contract and instant."""

    spot: Floats
    years: Floats
    smile: Smile
    fair: Floats
    time_value: Floats
    """Fair value less what exercising now, or holding for sure, would give."""


class OptionBook:
    """The options of one underlying on one day."""

    def __init__(
        self, board: Board, day: MarketDay, path: Path, vix: Path, *, seed: int, rate: float
    ) -> None:
        self.board = board
        self.day = day
        self.ticker = board.ticker
        self.activity = ACTIVITY.get(board.ticker, _QUIET)
        self.venues = _VENUES.get(board.ticker, _MULTIPLE)
        self.ticks = _TICKS.get(board.ticker, _PENNY)
        self._path = path
        self._vix = vix
        self._behaviour = board.listing.behaviour
        self._surface = Surface(board.listing.behaviour)
        self._rate = rate
        self._salt = np.uint64(key(seed, "options", board.ticker, day.number))
        self._last_ns = day.close_ns - 1

    # ---- values ----

    def spot(self, t_ns: Integers) -> Floats:
        """The underlying's fair level; after the close, where it closed."""
        return self._path.at(np.minimum(t_ns, self._last_ns))

    def value(self, lines: Lines, t_ns: Integers) -> Valued:
        """Value contracts, each at its own instant."""
        held = np.minimum(t_ns, self._last_ns)
        spot = self._path.at(held)
        # The surface moves with VIX but not with its every tick.
        vix = self._vix.at(held)
        years = np.maximum((lines.expires_ns - t_ns) * (1.0 / YEAR_NS), _LEAST_YEARS)
        smile = self._surface.smile(Market(spot, vix, years), lines.strike)
        fair = np.maximum(black(self._terms(lines, smile)), 0.0)
        sure = smile.discount * lines.sign * (smile.forward - lines.strike)
        if self.board.is_american:
            now = lines.sign * (spot - lines.strike)
            fair = np.maximum(fair, now)
            sure = np.maximum(sure, now)
        return Valued(spot, years, smile, fair, fair - np.maximum(sure, 0.0))

    def sensitivities(self, lines: Lines, valued: Valued) -> Sensitivities:
        """Greeks of contracts just valued."""
        smile = valued.smile
        return greeks(
            self._terms(lines, smile),
            years=valued.years,
            carry=smile.carry,
            growth=smile.growth,
            rate=RATE,
        )

    def _terms(self, lines: Lines, smile: Smile) -> Terms:
        return Terms(smile.forward, lines.strike, smile.deviation, smile.discount, lines.sign)

    # ---- quotes ----

    def widths(self, lines: Lines) -> Integers:
        """How long each contract's quote lasts on average today, ns: short near the money."""
        opened = np.array([self.day.open_ns], dtype=np.int64)
        spot = float(self._path.at(opened)[0])
        days = np.maximum((lines.expires_ns - self.day.open_ns) / (86_400 * SECOND_NS), 0.3)
        deviation = self._behaviour.volatility * np.sqrt(days / 365)
        away = np.abs(np.log(lines.strike / spot)) / deviation
        seconds = 0.5 * np.exp(np.minimum(1.1 * away, 5.0)) * (1.0 + days / 15) ** 0.6
        seconds = np.clip(seconds * (1.0 + 0.15 / self.activity), 0.5, 60.0)
        return np.maximum(seconds * (SECOND_NS / self._rate), 2_000_000).astype(np.int64)

    def keys(self, lines: Lines) -> Keys:
        """The hashes that drive each contract's quotes today."""
        return mix(lines.keys ^ self._salt)

    def standing(self, lines: Lines, t_ns: Integers) -> Integers:
        """The slot of the quote that stands at each instant of the session; -1 if none."""
        at = np.minimum(t_ns, self._last_ns)
        return slots.standing(self.day.open_ns, self.keys(lines), self.widths(lines), at)

    def prices(self, lines: Lines, hashes: Keys, t_ns: Integers) -> tuple[Floats, Floats, Valued]:
        """Bid and ask of quotes made at these instants."""
        valued = self.value(lines, t_ns)
        fair = valued.fair
        low, high = self.ticks
        # A market maker asks for part of the premium, of what hedging it costs, and of
        # the uncertainty of far expirations.
        moves = valued.spot * (2e-5 + 4e-5 * np.sqrt(valued.years))
        half = 0.3 * low + 0.006 * np.minimum(fair, 100.0) + 0.002 * fair + moves
        half *= (0.7 + 0.6 * unit(hashes)) * (1.0 if self.activity > _QUIET * 2 else 1.8)
        bid = np.maximum(fair - half, 0.0)
        ask = fair + half
        bid_tick = np.where(bid >= _THRESHOLD, high, low)
        ask_tick = np.where(ask > _THRESHOLD, high, low)
        bid = np.floor(bid / bid_tick + 1e-6) * bid_tick
        ask = np.maximum(np.ceil(ask / ask_tick - 1e-6), 1.0) * ask_tick
        ask = np.maximum(ask, bid + np.where(bid >= _THRESHOLD, high, low))
        return np.rint(bid * 100) / 100, np.rint(ask * 100) / 100, valued

    def quotes(self, lines: Lines, numbers: Integers) -> tuple[QuoteColumns, Valued]:
        """The quotes of these slots, one per line, and the values they surround."""
        widths, hashes = self.widths(lines), slots.scramble(self.keys(lines), numbers)
        t_ns = slots.times(self.day.open_ns, widths, numbers, hashes)
        return self.quotes_at(lines, numbers, hashes, t_ns)

    def quotes_at(
        self, lines: Lines, numbers: Integers, hashes: Keys, t_ns: Integers
    ) -> tuple[QuoteColumns, Valued]:
        """The quotes of slots whose hashes and times are known."""
        more = mix(hashes)
        bid, ask, valued = self.prices(lines, more, t_ns)
        deep = 1.0 + 30.0 * self.activity * unit(mix(more)) ** 2
        bid_size = 1 + (deep * digit(more, 0, 12)).astype(np.int64)
        columns = QuoteColumns(
            t_ns,
            bid,
            ask,
            np.where(bid > 0, bid_size, 0),
            1 + (deep * digit(more, 1, 12)).astype(np.int64),
            self.venues[digit(more, 2, len(self.venues))],
            self.venues[digit(more, 3, len(self.venues))],
            numbers + (1 + (self.day.number + 1) * DAY_SEQUENCE),
            t_ns - latency_ns(hashes),
        )
        return columns, valued

    # ---- open interest ----

    def open_interest(self, lines: Lines, listed_days: Floats, usual: float) -> Integers:
        """Contracts outstanding before the day's open.

        It grows with a contract's age and peaks around where the underlying has been
        (`usual`), so from one day to the next it moves by a few percent: less than a
        usual day's volume.

        Args:
            lines: the contracts.
            listed_days: how long before the day each was listed.
            usual: average level of the underlying over recent months.
        """
        days = np.maximum((lines.expires_ns - self.day.open_ns) / (86_400 * SECOND_NS), 0.0)
        life = listed_days + days
        wide = self._behaviour.volatility * np.sqrt((life + 10.0) / 365)
        away = np.log(lines.strike / usual) / wide + 0.15 * -lines.sign
        near = np.exp(-0.5 * away * away)
        noise = np.exp(1.4 * (unit(mix(lines.keys)) - 0.5) * 2)
        step = np.where(lines.strike < 50, 5.0, np.where(lines.strike < 1000, 10.0, 100.0))
        round_strike = np.where(lines.strike % step < 1e-6, 3.0, 1.0)
        grown = -np.expm1(-2.5 * listed_days / np.maximum(life, 1.0))
        scale = (
            (60.0 if len(self.board.rules) > len("ab") else 180.0)
            * self.activity
            * (life + 5.0) ** 0.35
        )
        return (scale * near * noise * round_strike * grown).astype(np.int64)
