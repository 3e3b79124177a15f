"""The market's ticks as the vendor's events, for the topics somebody reads.

Each event is encoded once, keys in the vendor's order, however many read it. The
market is asked for exactly `[start_ns, end_ns)`, so steps that meet leave nothing
out and say nothing twice.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from onetape.massive.wire_stream import event, split_topic
from onetape.model import AssetClass, Topic
from onetape.simulator.massive.mangling import Event
from onetape.simulator.seeded.records import BarTick, QuoteTick, TradeTick, ValueTick

_MS: Final = 1_000_000
_BAR_SECONDS: Final = {"A": 1, "AM": 60}

Symbols = frozenset[str] | None
"""None: all of the asset class."""


class Tape(Protocol):
    """What the stream needs of the market."""

    def stream_trades(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[TradeTick]:
        """Trades within the range, in order."""
        ...

    def stream_quotes(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[QuoteTick]:
        """Quotes within the range, in order."""
        ...

    def stream_values(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[ValueTick]:
        """Index values within the range, in order."""
        ...

    def closed_bars(
        self,
        asset: AssetClass,
        symbols: Collection[str] | None,
        start_ns: int,
        end_ns: int,
        *,
        seconds: int = 60,
    ) -> list[BarTick]:
        """Bars whose window ended within the range."""
        ...


def by_channel(topics: Iterable[Topic]) -> dict[str, Symbols]:
    """Part topics into the symbols of each channel; `*` is all of them."""
    symbols: defaultdict[str, set[str]] = defaultdict(set)
    for topic in topics:
        channel, symbol = split_topic(topic)
        symbols[channel].add(symbol)
    return {
        channel: None if "*" in named else frozenset(named) for channel, named in symbols.items()
    }


def events_between(
    tape: Tape,
    asset: AssetClass,
    wanted: Mapping[str, Symbols],
    *,
    start_ns: int,
    end_ns: int,
    bar_lag_ns: int = 0,
) -> list[Event]:
    """Return the events of the wanted channels in `[start_ns, end_ns)`, merged by time.

    A bar is published `bar_lag_ns` after its window ended. Fair values, halts and
    imbalances are channels that can be subscribed and never speak.
    """
    merged: list[tuple[int, Event]] = []
    for channel, symbols in wanted.items():
        match channel:
            case "T":
                trades = tape.stream_trades(asset, symbols, start_ns, end_ns)
                merged += [(tick.event_ns, _trade(asset, tick)) for tick in trades]
            case "Q":
                quotes = tape.stream_quotes(asset, symbols, start_ns, end_ns)
                merged += [(tick.event_ns, _quote(asset, tick)) for tick in quotes]
            case "V":
                values = tape.stream_values(symbols, start_ns, end_ns)
                merged += [(tick.event_ns, _value(tick)) for tick in values]
            case "A" | "AM":
                bars = tape.closed_bars(
                    asset,
                    symbols,
                    start_ns - bar_lag_ns,
                    end_ns - bar_lag_ns,
                    seconds=_BAR_SECONDS[channel],
                )
                merged += [(bar.end_ns + bar_lag_ns, _bar(channel, bar)) for bar in bars]
            case _:
                pass
    merged.sort(key=lambda timed: timed[0])
    return [event for _, event in merged]


def _event(channel: str, symbol: str, **fields: Any) -> Event:
    return Event(Topic(f"{channel}.{symbol}"), event(channel, **fields))


def _trade(asset: AssetClass, tick: TradeTick) -> Event:
    if asset is AssetClass.OPTIONS:
        return _event(
            "T",
            tick.symbol,
            sym=tick.symbol,
            x=tick.exchange,
            p=tick.price,
            s=tick.size,
            c=tick.conditions,
            t=tick.event_ns // _MS,
            q=tick.sequence,
        )
    return _event(
        "T",
        tick.symbol,
        sym=tick.symbol,
        x=tick.exchange,
        i=tick.id,
        z=tick.tape,
        p=tick.price,
        s=tick.size,
        c=tick.conditions or None,
        t=tick.event_ns // _MS,
        q=tick.sequence,
        trfi=tick.trf_id,
        trft=None if tick.trf_ns is None else tick.trf_ns // _MS,
    )


def _quote(asset: AssetClass, tick: QuoteTick) -> Event:
    if asset is AssetClass.OPTIONS:
        return _event(
            "Q",
            tick.symbol,
            sym=tick.symbol,
            bx=tick.bid_exchange,
            ax=tick.ask_exchange,
            bp=tick.bid,
            ap=tick.ask,
            bs=tick.bid_size,
            as_=tick.ask_size,
            t=tick.event_ns // _MS,
            q=tick.sequence,
        )
    return _event(
        "Q",
        tick.symbol,
        sym=tick.symbol,
        bx=tick.bid_exchange,
        bp=tick.bid,
        bs=tick.bid_size,
        ax=tick.ask_exchange,
        ap=tick.ask,
        as_=tick.ask_size,
        t=tick.event_ns // _MS,
        q=tick.sequence,
        z=tick.tape,
    )


def _value(tick: ValueTick) -> Event:
    return _event("V", tick.symbol, val=tick.value, T=tick.symbol, t=tick.event_ns // _MS)


def _bar(channel: str, bar: BarTick) -> Event:
    average = bar.volume // bar.transactions if bar.volume and bar.transactions else None
    return _event(
        channel,
        bar.symbol,
        sym=bar.symbol,
        v=bar.volume,
        av=bar.day_volume,
        op=bar.day_open,
        vw=bar.vwap,
        o=bar.open,
        c=bar.close,
        h=bar.high,
        l=bar.low,
        a=bar.day_vwap,
        z=average,
        s=bar.start_ns // _MS,
        e=bar.end_ns // _MS,
    )
