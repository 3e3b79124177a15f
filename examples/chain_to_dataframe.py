"""An option chain as a table: the soonest expiration, five strikes on either side of the money.

pip install 'onetape[polars]'
ONETAPE_KEY=ot_… python examples/chain_to_dataframe.py SPY
"""

import os
import sys

from onetape.sync import MassiveDataProvider


def main(underlying: str) -> None:
    url = os.environ.get("ONETAPE_URL", "http://127.0.0.1:3000")
    with MassiveDataProvider(url, os.environ["ONETAPE_KEY"]) as massive:
        chain = massive.get_options_chain(underlying, around=5, max_expirations=1)
        print(f"{chain.underlying} at {chain.underlying_price}", "(simulated)" * chain.simulated)
        for missing in chain.partial:
            print("missing:", missing)
        table = chain.rows.to_polars().select(
            "symbol", "strike", "contract_type", "bid", "ask", "implied_volatility", "delta"
        )
        print(table)


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["SPY"])
