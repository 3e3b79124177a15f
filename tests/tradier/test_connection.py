"""Tradier from the settings: R22."""

import contextlib
from typing import Any

import pytest

from onetape.chain_query import ChainQuery
from onetape.model import Quote
from onetape.secret import Secret
from onetape.settings import TradierConfig
from onetape.testing import until
from onetape.timeframes import bar_length
from onetape.tradier.connection import connected, is_sandbox
from onetape.tradier.providers import TradierHabits


def config(floor: Any, **changes: Any) -> TradierConfig:
    settings: dict[str, Any] = {
        "access_token": Secret(floor.simulator.tradier_token),
        "base_url": floor.simulator.tradier_url,
        "socket_url": floor.simulator.tradier_socket_url,
    }
    return TradierConfig(**(settings | changes))


async def test_without_a_token_there_is_no_tradier(floor: Any) -> None:
    async with connected(config(floor, access_token=None), clock=floor) as tradier:
        assert tradier is None


async def test_the_three_share_a_token_a_budget_and_a_stream(floor: Any) -> None:
    before = floor.simulator.state().tradier_stream["connections_total"]
    told: list[Quote] = []
    async with (
        connected(config(floor), clock=floor, simulated=True) as tradier,
        contextlib.AsyncExitStack() as stack,
    ):
        assert tradier is not None
        options, broker, indices = tradier
        for one in tradier:
            await stack.enter_async_context(one)
        chain = await options.get_option_chain("SPY", ChainQuery(max_expirations=1))
        (index,) = await indices.get_index_snapshots(["SPX"])
        handles = [
            broker.subscribe_equity("SPY", told.append),
            options.subscribe_chain("SPY", lambda _: None, ChainQuery(max_expirations=1)),
        ]
        await until(lambda: any(quote.source == "stream" for quote in told))
        sockets = floor.simulator.state().tradier_stream["connections_total"]
        for handle in handles:
            handle.close()

    assert chain.contracts
    assert not chain.delayed
    assert index.quote.last is not None
    assert told[-1].simulated
    assert sockets - before <= 1


async def test_the_sandbox_is_delayed_and_polled(sandbox: Any) -> None:
    """Trap 12."""
    told: list[Quote] = []
    async with (
        connected(config(sandbox), clock=sandbox, sandbox=True, habits=TradierHabits()) as tradier,
        contextlib.AsyncExitStack() as stack,
    ):
        assert tradier is not None
        options, broker, _ = tradier
        for one in tradier:
            await stack.enter_async_context(one)
        handle = broker.subscribe_equity("SPY", told.append)
        chain = await options.get_option_chain("SPY", ChainQuery(max_expirations=1))
        bars = await broker.get_bars("SPY", bar_length("1d"), "2025-11-20", "2025-11-21")
        await until(lambda: told)
        handle.close()

    assert chain.delayed
    assert chain.quality is not None
    assert chain.quality.delayed
    assert chain.quality.is_usable(sandbox.now_ns()), "late as promised, not useless"
    assert told[0].delayed
    assert all(bar.delayed for bar in bars)
    assert sandbox.simulator.state().tradier_stream["connections_total"] == 0


def test_the_sandbox_is_known_by_its_address() -> None:
    assert is_sandbox("https://sandbox.tradier.com/v1")
    assert not is_sandbox("https://api.tradier.com/v1")


async def test_what_the_block_raises_comes_out_as_it_is(floor: Any) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with connected(config(floor), clock=floor):
            raise LookupError("mine")
