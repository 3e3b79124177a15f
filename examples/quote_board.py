"""A board of live quotes: streamed where the plan streams, polled where it does not.

    ONETAPE_KEY=ot_… python examples/quote_board.py SPX VIX SPY

Ctrl-C ends it; `--seconds 5` ends it by itself.
"""

import argparse
import asyncio
import os
import time

from onetape import MassiveDataProvider, Quote
from onetape.client import QuoteBoard


def line(symbol: str, quote: Quote | None) -> str:
    if quote is None:
        return f"{symbol:<24} waiting"
    age_s = quote.age_s(time.time_ns())
    age = "-" if age_s is None else f"{age_s:.1f} s"
    price = "-" if quote.price is None else f"{quote.price:,.2f}"
    marks = " simulated" if quote.simulated else ""
    return f"{symbol:<24} {price:>12}   {quote.source:<6} {age:>8}{marks}"


async def main(symbols: list[str], seconds: float) -> None:
    url = os.environ.get("ONETAPE_URL", "http://127.0.0.1:3000")
    async with (
        MassiveDataProvider(url, os.environ["ONETAPE_KEY"]) as massive,
        QuoteBoard(massive, symbols) as board,
    ):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(1)
            print("\n".join(line(symbol, board.get(symbol)) for symbol in board.symbols), "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbols", nargs="*", default=["SPX", "VIX", "SPY"])
    parser.add_argument("--seconds", type=float, default=float("inf"))
    chosen = parser.parse_args()
    try:
        asyncio.run(main(chosen.symbols, chosen.seconds))
    except KeyboardInterrupt:
        pass
