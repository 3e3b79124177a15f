"""The skeleton of a bot on one-minute bars that a lost connection cannot fool.

It warms up on history, then takes each bar once and in order. What the stream missed is
fetched before it goes on; if that fails, the bot is told and starts its window anew
rather than act on bars that do not follow each other.

    ONETAPE_KEY=ot_… python examples/bar_bot.py SPX
"""

import argparse
import asyncio
import os
from collections import deque

from onetape import Bar, MassiveDataProvider, SourceChanged
from onetape.client import Gap

WINDOW = 20


class Bot:
    """Buys strength, sells weakness; replace `decide` with something better."""

    def __init__(self) -> None:
        self.bars: deque[Bar] = deque(maxlen=WINDOW)
        self.position = 0

    def decide(self) -> None:
        if len(self.bars) < WINDOW:
            return
        mean = sum(bar.close for bar in self.bars) / WINDOW
        wanted = 1 if self.bars[-1].close > mean else -1
        if wanted != self.position:
            self.position = wanted
            print(f"   position {wanted:+d} at {self.bars[-1].close:,.2f}, mean {mean:,.2f}")

    def take(self, bar: Bar) -> None:
        print(f"bar {bar.event_ns // 1_000_000_000} close {bar.close:,.2f} {bar.source}")
        self.bars.append(bar)
        self.decide()

    def changed(self, change: SourceChanged | Gap) -> None:
        print("--", change)
        if isinstance(change, Gap):  # bars are missing for good: what we know is not a window
            self.bars.clear()


async def main(symbol: str, timespan: str, count: int) -> None:
    bot = Bot()
    url = os.environ.get("ONETAPE_URL", "http://127.0.0.1:3000")
    async with (
        MassiveDataProvider(url, os.environ["ONETAPE_KEY"]) as massive,
        # Subscribed before history is asked for, so that no bar falls between the two.
        massive.subscribe_aggregates([symbol], timespan=timespan, on_change=bot.changed) as live,
    ):
        for bar in await massive.get_aggregates(symbol, timespan, lookback=WINDOW):
            bot.bars.append(bar)
        print(f"warmed up on {len(bot.bars)} bars")
        taken = 0
        while taken < count:
            bar = await anext(live)
            if not bot.bars or bar.event_ns > bot.bars[-1].event_ns:
                bot.take(bar)
                taken += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbol", nargs="?", default="SPX")
    parser.add_argument("--timespan", choices=["1s", "1m"], default="1m")
    parser.add_argument("--count", type=int, default=1_000_000)
    chosen = parser.parse_args()
    try:
        asyncio.run(main(chosen.symbol, chosen.timespan, chosen.count))
    except KeyboardInterrupt:
        pass
