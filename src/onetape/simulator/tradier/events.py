"""The market's ticks as Tradier's stream tells them, typed as its wire types them.

    quote      prices are numbers, times are text, to the second
    trade      everything is text; the regular session's only
    tradex     the same, before and after it too
    timesale   everything is text; with details also numbers and switches
    summary    the day so far, in text, when it changes

An index has trades of size 0. A stock's print is told by `trade` and `timesale` alike.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Final, NamedTuple

import msgspec

from onetape.model import AssetClass
from onetape.simulator.market import Market, QuoteTick, Session, TradeTick, ValueTick
from onetape.simulator.seeded.conditions import BY_ID
from onetape.simulator.tradier import names
from onetape.simulator.tradier.quotes import second_ms
from onetape.simulator.tradier.request import NS_PER_MS

KINDS: Final = ("trade", "quote", "summary", "timesale", "tradex")
_OF_TRADES: Final = ("trade", "tradex", "timesale", "summary")
_OF_QUOTES: Final = ("quote", "timesale")
_SESSIONS: Final = {Session.PRE: "pre", Session.REGULAR: "normal", Session.AFTER: "post"}
_DAY_SEQUENCE: Final = 1_000_000_000

Wanted = Mapping[str, frozenset[str]]
"""The market's symbols by kind of event."""


class Event(NamedTuple):
    """One event: whose, of what kind, and its JSON, with and without details."""

    symbol: str
    kind: str
    raw: bytes
    detailed: bytes


def event(symbol: str, kind: str, fields: dict[str, Any], details: dict[str, Any]) -> Event:
    """Write an event; `details` are for those who asked for them."""
    whole = {"type": kind, "symbol": symbol, **fields}
    raw = msgspec.json.encode(whole)
    return Event(symbol, kind, raw, msgspec.json.encode(whole | details) if details else raw)


class _Day:
    """What one symbol's day has been so far."""

    def __init__(self, market: Market, symbol: str, t_ns: int) -> None:
        self.date: date = market.market_date(t_ns)
        stats = market.session_stats(symbol, t_ns - 1)
        is_today = stats.day == self.date
        self.open = stats.open if is_today else None
        self.high = stats.high if is_today else None
        self.low = stats.low if is_today else None
        self.volume = (stats.volume or 0) if is_today else 0
        self.previous = stats.previous_close if is_today else stats.close

    def is_moved(self, price: float) -> bool:
        """Take a price; whether it is the first, the highest or the lowest."""
        if self.open is None or self.high is None or self.low is None:
            self.open = self.high = self.low = price
            return True
        moved = not self.low <= price <= self.high
        self.low, self.high = min(self.low, price), max(self.high, price)
        return moved

    def summary(self) -> dict[str, Any]:
        """Return the fields of a summary; what is not known is absent."""
        known = {"open": self.open, "high": self.high, "low": self.low, "prevClose": self.previous}
        return {name: _text(value) for name, value in known.items() if value is not None}


class Ticker:
    """Turns one market's steps into events. It remembers the days of the symbols it tells of."""

    def __init__(self, market: Market, *, index_ticks: bool) -> None:
        self._market = market
        self._index_ticks = index_ticks
        self._days: dict[str, _Day] = {}
        self._quotes: dict[str, QuoteTick] = {}
        self._follow({})

    def forget(self) -> None:
        """Begin anew: time was left out."""
        self._days.clear()
        self._quotes.clear()

    def events_between(self, wanted: Wanted, start_ns: int, end_ns: int) -> list[Event]:
        """Return the events within `[start_ns, end_ns)`, in order."""
        if wanted is not self._wanted:
            self._follow(wanted)
        ticks: list[TradeTick | QuoteTick | ValueTick] = []
        for asset in (AssetClass.STOCKS, AssetClass.OPTIONS):
            if followed := self._followed[asset]:
                ticks += self._market.stream_trades(asset, followed, start_ns, end_ns)
            if quoted := self._quoted[asset]:
                ticks += self._market.stream_quotes(asset, quoted, start_ns, end_ns)
        if self._index_ticks and (indices := self._followed[AssetClass.INDICES]):
            ticks += self._market.stream_values(indices, start_ns, end_ns)
        ticks.sort(key=lambda tick: tick.event_ns)
        return [one for tick in ticks for one in self._told(tick, wanted)]

    def _follow(self, wanted: Wanted) -> None:
        """Part the symbols, once per change: the market remembers the sets it was asked with."""
        followed = frozenset[str]().union(*(wanted.get(kind, ()) for kind in _OF_TRADES))
        quoted = frozenset[str]().union(*(wanted.get(kind, ()) for kind in _OF_QUOTES))
        self._wanted = wanted
        self._followed = {asset: _of(asset, followed) for asset in AssetClass}
        self._quoted = {asset: _of(asset, quoted) for asset in AssetClass}
        self._days = {name: day for name, day in self._days.items() if name in followed}
        self._quotes = {name: one for name, one in self._quotes.items() if name in quoted}

    def standing(self, symbols: Iterable[str], t_ns: int) -> list[Event]:
        """Return the last quote and trade of symbols: what is sent again when they are idle."""
        return [one for symbol in symbols for one in self._standing(symbol, t_ns)]

    def _standing(self, symbol: str, t_ns: int) -> Iterator[Event]:
        value = self._market.value_at(symbol, t_ns)
        if value is not None:
            if self._index_ticks:
                yield event(names.name_of(symbol), "trade", _value_fields(value), {})
            return
        if (quote := self._market.last_quote(symbol, t_ns)) is not None:
            yield _quote(quote)
        if (trade := self._market.last_trade(symbol, t_ns)) is not None:
            volume = self._market.session_stats(symbol, t_ns).volume or 0
            for kind in ("trade", "tradex"):
                yield event(names.name_of(symbol), kind, _trade_fields(trade, volume), {})

    def _told(self, tick: TradeTick | QuoteTick | ValueTick, wanted: Wanted) -> Iterator[Event]:
        symbol = tick.symbol
        if isinstance(tick, QuoteTick):
            self._quotes[symbol] = tick
            if symbol in wanted.get("quote", ()):
                yield _quote(tick)
            return
        day = self._day(symbol, tick.event_ns)
        name = names.name_of(symbol)
        if isinstance(tick, ValueTick):
            moved = day.is_moved(tick.value)
            if symbol in wanted.get("trade", ()):
                yield event(name, "trade", _value_fields(tick), {})
        else:
            moved = yield from self._of_trade(tick, day, wanted)
        if moved and symbol in wanted.get("summary", ()):
            yield event(name, "summary", day.summary(), {})

    def _of_trade(self, tick: TradeTick, day: _Day, wanted: Wanted) -> Generator[Event, None, bool]:
        symbol, name = tick.symbol, names.name_of(tick.symbol)
        conditions = [BY_ID[one] for one in tick.conditions if one in BY_ID]
        if all(one.updates_volume for one in conditions):
            day.volume += tick.size
        session = self._market.session(tick.event_ns)
        fields = _trade_fields(tick, day.volume)
        if symbol in wanted.get("trade", ()) and session is Session.REGULAR:
            yield event(name, "trade", fields, {})
        if symbol in wanted.get("tradex", ()):
            yield event(name, "tradex", fields, {})
        if symbol in wanted.get("timesale", ()):
            yield self._timesale(tick, session)
        counts = all(one.updates_high_low and one.updates_open_close for one in conditions)
        return counts and day.is_moved(tick.price)

    def _timesale(self, tick: TradeTick, session: Session) -> Event:
        quote = self._quotes.get(tick.symbol)
        if quote is None and (quote := self._market.last_quote(tick.symbol, tick.event_ns)):
            self._quotes[tick.symbol] = quote
        fields = {
            "exch": names.letter(tick.exchange),
            "bid": _text(quote.bid if quote else 0.0),
            "ask": _text(quote.ask if quote else 0.0),
            "last": _text(tick.price),
            "size": str(tick.size),
            "date": str(tick.event_ns // NS_PER_MS),
        }
        details = {
            "seq": tick.sequence % _DAY_SEQUENCE,
            "flag": "" if tick.conditions else "@",
            "cancel": False,
            "correction": False,
            "session": _SESSIONS.get(session, "normal"),
        }
        return event(names.name_of(tick.symbol), "timesale", fields, details)

    def _day(self, symbol: str, t_ns: int) -> _Day:
        day = self._days.get(symbol)
        if day is None or day.date != self._market.market_date(t_ns):
            day = self._days[symbol] = _Day(self._market, symbol, t_ns)
        return day


_PREFIXES: Final = {AssetClass.OPTIONS: "O:", AssetClass.INDICES: "I:"}


def _of(asset: AssetClass, symbols: Collection[str]) -> frozenset[str]:
    prefix = _PREFIXES.get(asset)
    if prefix is None:
        return frozenset(one for one in symbols if not one.startswith(("O:", "I:")))
    return frozenset(one for one in symbols if one.startswith(prefix))


def _text(number: float) -> str:
    return repr(round(number, 4))


def _quote(tick: QuoteTick) -> Event:
    at = str(second_ms(tick.event_ns))
    fields = {
        "bid": tick.bid,
        "bidsz": tick.bid_size,
        "bidexch": names.letter(tick.bid_exchange) if tick.bid_size else "",
        "biddate": at,
        "ask": tick.ask,
        "asksz": tick.ask_size,
        "askexch": names.letter(tick.ask_exchange) if tick.ask_size else "",
        "askdate": at,
    }
    return event(names.name_of(tick.symbol), "quote", fields, {})


def _trade_fields(tick: TradeTick, volume: int) -> dict[str, Any]:
    return {
        "exch": names.letter(tick.exchange),
        "price": _text(tick.price),
        "size": str(tick.size),
        "cvol": str(volume),
        "date": str(tick.event_ns // NS_PER_MS),
        "last": _text(tick.price),
    }


def _value_fields(tick: ValueTick) -> dict[str, Any]:
    return {
        "exch": "",
        "price": _text(tick.value),
        "size": "0",
        "cvol": "0",
        "date": str(tick.event_ns // NS_PER_MS),
        "last": _text(tick.value),
    }
