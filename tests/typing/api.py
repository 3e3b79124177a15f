"""The public API as a user writes it. Checked by the type gate and by a test; never run."""

from collections.abc import Mapping
from datetime import date
from typing import assert_type

import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - it brings its own types, in part
import polars as pl

from onetape import (
    AssetClass,
    Bar,
    IndexSnapshot,
    MarketStatus,
    MassiveDataProvider,
    OnetapeError,
    OptionChain,
    OptionContract,
    Quality,
    Quote,
    Rows,
    Subscription,
    Trade,
    sync,
)
from onetape.calendar import Holiday
from onetape.client import Health
from onetape.model import IndicatorValue
from onetape.rows import SymbolFault


async def questions(massive: MassiveDataProvider) -> None:
    assert_type(await massive.get_market_status(), MarketStatus)
    assert_type(await massive.get_market_holidays(2026), Rows[Holiday])
    quote = await massive.get_quote("SPY")
    assert_type(quote, Quote)
    assert_type(quote.bid, float | None)
    assert_type(quote.event_ns, int | None)
    assert_type(quote.price, float | None)
    assert_type(quote.quality, Quality | None)
    quotes = await massive.get_quotes(["SPY", "SPX"])
    assert_type(quotes, Rows[Quote])
    assert_type(quotes[0], Quote)
    assert_type(quotes[:1], Rows[Quote])
    assert_type(quotes.errors, Mapping[str, SymbolFault])
    assert_type(quotes.by_symbol["SPY"], Quote)
    assert_type(quotes.to_polars(), pl.DataFrame)
    assert_type(quotes.to_pandas(), pd.DataFrame)
    assert_type(await massive.get_index("SPX"), IndexSnapshot)
    assert_type(await massive.get_indices(["SPX"]), Rows[IndexSnapshot])
    chain = await massive.get_options_chain(
        "SPY",
        contract_type="call",
        last_expiration=date(2026, 12, 18),
        around=5,
        max_spread_percent=2.5,
    )
    assert_type(chain, OptionChain)
    assert_type(chain.rows.to_polars(), pl.DataFrame)
    assert_type(await massive.get_option_contract("O:SPY261218C00650000"), OptionContract)
    assert_type(await massive.get_rsi("SPY", window=14), Rows[IndicatorValue])
    assert_type(massive.get_health(), Health)
    assert_type(massive.clear_cache(), int)


async def pages(massive: MassiveDataProvider) -> None:
    assert_type(await massive.get_aggregates("SPY", "5m", lookback=20), Rows[Bar])
    async for bar in massive.get_aggregates("SPY", "1d", date(2026, 1, 1), "2026-11-20"):
        assert_type(bar.event_ns, int)
    async for trade in massive.get_option_trades("O:SPY261218C00650000", max_rows=None):
        assert_type(trade, Trade)
        assert_type(trade.event_ns, int)


async def live(massive: MassiveDataProvider) -> None:
    async with massive.subscribe_quotes(["SPX", "SPY"]) as quotes:
        assert_type(quotes, Subscription[Quote])
        async for quote in quotes:
            assert_type(quote, Quote)
    massive.subscribe_trades(["O:SPY261218C00650000"], lambda trade: print(trade.price))

    async def keep(bar: Bar) -> None:
        print(bar.close)

    cancel = massive.subscribe_aggregates(["SPX"], keep, "1m")
    assert_type(cancel, Subscription[Bar])
    cancel()
    massive.update_watchlist(["SPX", "VIX"])


async def a_life() -> None:
    try:
        async with MassiveDataProvider(
            "http://127.0.0.1:3000", "key", streams=["stocks"]
        ) as massive:
            await questions(massive)
        async with MassiveDataProvider("", "", streams={AssetClass.OPTIONS}):
            pass
    except OnetapeError as error:
        assert_type(error.code, str)
        assert_type(error.retry_after_s, float | None)


def blocking() -> None:
    with sync.MassiveDataProvider("http://127.0.0.1:3000", "key") as massive:
        assert_type(massive.get_quote("SPY"), Quote)
        assert_type(massive.get_quotes(["SPY"]), Rows[Quote])
        assert_type(massive.get_aggregates("SPY", lookback=5), Rows[Bar])
        assert_type(massive.get_option_trades("O:SPY261218C00650000"), Rows[Trade])
        with massive.subscribe_quotes(["SPX"]) as quotes:
            for quote in quotes:
                assert_type(quote, Quote)
