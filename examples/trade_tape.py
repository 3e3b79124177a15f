"""The tape of one option: every print once, also over a lost connection.

ONETAPE_KEY=ot_… python examples/trade_tape.py O:SPY261218C00660000
ONETAPE_KEY=ot_… python examples/trade_tape.py            (the busiest call near the money)
"""

import argparse
import asyncio
import os
from datetime import UTC, datetime

from onetape import MassiveDataProvider, SourceChanged, Trade
from onetape.client import Gap


async def busiest(massive: MassiveDataProvider) -> str:
    chain = await massive.get_options_chain(
        "SPY", contract_type="call", around=10, max_expirations=1
    )
    return max(chain.contracts, key=lambda one: one.volume or 0).symbol


def show(trade: Trade) -> None:
    at = datetime.fromtimestamp(trade.event_ns / 1e9, UTC)
    print(f"{at:%H:%M:%S.%f}  {trade.size:>6g} at {trade.price:>8.2f}  {trade.source}")


def tell(change: SourceChanged | Gap) -> None:
    print("--", change)


async def main(symbol: str | None, count: int) -> None:
    url = os.environ.get("ONETAPE_URL", "http://127.0.0.1:3000")
    async with MassiveDataProvider(url, os.environ["ONETAPE_KEY"]) as massive:
        symbol = symbol or await busiest(massive)
        print(symbol, "so far today:")
        for trade in reversed(await massive.get_option_trades(symbol, order="desc", max_rows=5)):
            show(trade)
        print("live:")
        async with massive.subscribe_trades([symbol], on_change=tell) as tape:
            for _ in range(count):
                show(await anext(tape))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbol", nargs="?")
    parser.add_argument("--count", type=int, default=1_000_000)
    chosen = parser.parse_args()
    try:
        asyncio.run(main(chosen.symbol, chosen.count))
    except KeyboardInterrupt:
        pass
