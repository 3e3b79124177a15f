# pyright: basic, reportMissingTypeStubs=false
"""The vendor's own client, unmodified, through the gateway: base URL, host and key changed."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from massive import RESTClient, WebSocketClient
from massive.exceptions import AuthError, BadResponse

from onetape.model import AssetClass
from onetape.simulator.faults import Drop, Stage, StreamRule
from onetape.testing import Playground, until

T = TypeVar("T")


def client_of(play: Playground, key: str) -> RESTClient:
    return RESTClient(api_key=key, base=play.gateway.url, retries=0)


async def ask(play: Playground, question: Callable[[RESTClient], T]) -> T:
    """Ask in a thread, as the client is synchronous."""
    client = client_of(play, await play.key())
    return await asyncio.to_thread(question, client)


TODAY = datetime.now(UTC).date()  # noqa: TID251 - the client's own clock is the wall's
FROM, TO = (TODAY - timedelta(days=7)).isoformat(), TODAY.isoformat()


def first(rows: Any, count: int = 25) -> list[Any]:
    return list(itertools.islice(rows, count))


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "get_market_status": lambda c: c.get_market_status(),
    "get_market_holidays": lambda c: c.get_market_holidays(),
    "list_universal_snapshots": lambda c: first(
        c.list_universal_snapshots(ticker_any_of=["SPY", "I:SPX", "NOPE"])
    ),
    "list_snapshot_options_chain": lambda c: first(
        c.list_snapshot_options_chain("SPY", params={"limit": 10})
    ),
    "get_snapshot_option": lambda c: c.get_snapshot_option(
        "SPY", next(iter(c.list_options_contracts("SPY", limit=1))).ticker
    ),
    "get_snapshot_indices": lambda c: c.get_snapshot_indices(["I:SPX", "I:VIX"]),
    "get_snapshot_all": lambda c: c.get_snapshot_all("stocks", ["SPY", "AAPL"]),
    "get_snapshot_ticker": lambda c: c.get_snapshot_ticker("stocks", "SPY"),
    "get_snapshot_direction": lambda c: c.get_snapshot_direction("stocks", "gainers"),
    "list_options_contracts": lambda c: first(c.list_options_contracts("SPY", limit=10)),
    "get_options_contract": lambda c: c.get_options_contract(
        next(iter(c.list_options_contracts("SPX", limit=1))).ticker
    ),
    "list_aggs": lambda c: first(c.list_aggs("SPY", 1, "day", FROM, TO, limit=2)),
    "get_aggs": lambda c: c.get_aggs("I:SPX", 1, "hour", FROM, TO),
    "get_grouped_daily_aggs": lambda c: c.get_grouped_daily_aggs(FROM),
    "get_previous_close_agg": lambda c: c.get_previous_close_agg("SPY"),
    "get_daily_open_close_agg": lambda c: c.get_daily_open_close_agg("SPY", FROM),
    "get_sma": lambda c: c.get_sma("SPY", window=5),
    "get_ema": lambda c: c.get_ema("I:SPX", window=5),
    "get_rsi": lambda c: c.get_rsi("SPY"),
    "get_macd": lambda c: c.get_macd("SPY"),
    "list_trades": lambda c: first(c.list_trades("SPY", limit=10)),
    "list_quotes": lambda c: first(c.list_quotes("SPY", limit=10)),
    "get_last_trade": lambda c: c.get_last_trade("SPY"),
    "get_last_quote": lambda c: c.get_last_quote("SPY"),
    "list_tickers": lambda c: first(c.list_tickers(limit=4)),
    "get_ticker_details": lambda c: c.get_ticker_details("AAPL"),
    "get_ticker_types": lambda c: c.get_ticker_types(),
    "get_exchanges": lambda c: c.get_exchanges("options"),
    "list_conditions": lambda c: first(c.list_conditions("options")),
    "get_summaries": lambda c: c.get_summaries(["SPY", "I:SPX"]),
}
"""Every method of section 6.1.4 of the vendor facts."""

MAY_BE_EMPTY = {"get_snapshot_direction"}
"""Gainers need a volume that nobody has yet in the first hours of a market day."""


async def test_every_rest_method_answers_through_the_gateway_as_at_the_vendor(
    calm: Playground,
) -> None:
    """R39-R55: the same call at the vendor gives the same kind of answer."""
    key = await calm.key()
    through = client_of(calm, key)
    direct = RESTClient(api_key=calm.simulator.key, base=calm.simulator.url, retries=0)

    def compare() -> None:
        for name, question in QUESTIONS.items():
            answer, expected = question(through), question(direct)
            assert type(answer) is type(expected), name
            assert answer or name in MAY_BE_EMPTY, name
            if isinstance(answer, list):
                assert [type(row) for row in answer] == [type(row) for row in expected], name

    await asyncio.to_thread(compare)


async def test_pages_follow_each_other_through_the_gateway(calm: Playground) -> None:
    """R42: nothing missing, nothing twice, and the vendor's host never shown."""

    def read(client: RESTClient) -> tuple[list[str], list[str]]:
        small = [row.ticker for row in first(client.list_options_contracts("SPY", limit=7), 300)]
        large = [row.ticker for row in first(client.list_options_contracts("SPY", limit=1000), 300)]
        return small, large

    small, large = await ask(calm, read)

    assert len(small) == 300
    assert small == large
    assert calm.simulator.state().rest_requests >= 300 // 7


async def test_a_bad_key_is_refused_in_words(calm: Playground) -> None:
    """C7."""

    def refused(_: RESTClient) -> str:
        with pytest.raises(BadResponse) as refusal:
            client_of(calm, "wrong").get_last_trade("SPY")
        return str(refusal.value)

    assert '"code":"token_invalid"' in await ask(calm, refused)


async def test_an_unknown_ticker_is_the_vendors_own_error(calm: Playground) -> None:
    def refused(client: RESTClient) -> str:
        with pytest.raises(BadResponse) as refusal:
            client.get_last_trade("NOSUCH")
        return str(refusal.value)

    assert '"status":"NOT_FOUND"' in await ask(calm, refused)


class Listener:
    """The official WebSocket client at work, in the loop."""

    def __init__(self, play: Playground, key: str, market: str, *topics: str) -> None:
        self.got: list[Any] = []
        self.client = WebSocketClient(
            api_key=key,
            feed=play.gateway.netloc,
            market=market,
            secure=False,
            subscriptions=list(topics),
        )

    async def take(self, messages: list[Any]) -> None:
        self.got += messages

    def kinds(self) -> set[str]:
        return {type(message).__name__ for message in self.got}

    async def __aenter__(self) -> "Listener":
        self.task = asyncio.get_running_loop().create_task(self.client.connect(self.take))
        return self

    async def __aexit__(self, *error: object) -> None:
        # The client may swallow a cancellation and come back: close first, and do not
        # wait for ever.
        if self.client.websocket is not None:
            await asyncio.wait_for(self.client.close(), 3)
        for _ in range(5):
            self.task.cancel()
            done, _ = await asyncio.wait({self.task}, timeout=1)
            if done:
                break


async def some_contracts(play: Playground, count: int) -> list[str]:
    def nearest(client: RESTClient) -> list[str]:
        price = float(getattr(client.get_last_trade("SPY"), "price", 0))
        rows = client.list_options_contracts(
            "SPY",
            strike_price_gte=price - 5,
            strike_price_lte=price + 5,
            expiration_date_lte=(TODAY + timedelta(days=3)).isoformat(),
            limit=count,
        )
        return [str(row.ticker) for row in first(rows, count)]

    return await ask(play, nearest)


async def test_its_socket_receives_options_quotes_trades_and_bars(play: Playground) -> None:
    contracts = await some_contracts(play, 30)
    topics = [f"{channel}.{contract}" for contract in contracts for channel in ("Q", "T", "A")]

    async with Listener(play, await play.key(), "options", *topics) as listener:
        await until(
            lambda: listener.kinds() >= {"EquityQuote", "EquityTrade", "EquityAgg"}, timeout_s=40
        )

    assert {message.symbol for message in listener.got} <= set(contracts)


async def test_its_socket_receives_index_values_and_stock_trades(play: Playground) -> None:
    key = await play.key()
    async with (
        Listener(play, key, "indices", "V.I:SPX", "A.I:SPX") as indices,
        Listener(play, key, "stocks", "T.SPY", "Q.SPY", "A.*") as stocks,
    ):
        await until(lambda: len(indices.kinds()) == 2, timeout_s=20)
        await until(lambda: len(stocks.kinds()) == 3, timeout_s=20)

    assert all(message.value > 0 for message in indices.got if hasattr(message, "value"))


async def test_its_caller_does_not_notice_an_upstream_drop(play: Playground) -> None:
    """R65, R108, C16: the client keeps its socket; data goes on by itself."""
    async with Listener(play, await play.key(), "indices", "V.I:SPX") as listener:
        await until(lambda: len(listener.got) > 2)
        logins = play.simulator.state().logins["indices"]

        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Drop(), count=1))
        await until(lambda: play.simulator.state().logins["indices"] > logins)
        before = len(listener.got)
        await until(lambda: len(listener.got) > before + 2)

        assert play.gateway.lines[AssetClass.INDICES].hub.statistics().clients == 1


async def test_a_bad_key_raises_its_auth_error(play: Playground) -> None:
    client = WebSocketClient(
        api_key="wrong", feed=play.gateway.netloc, market="indices", secure=False
    )

    async def nothing(_: list[Any]) -> None:
        """Never called."""

    with pytest.raises(AuthError):
        await client.connect(nothing)
