"""The blocking twin does what the async client does, from threads without a loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from onetape import sync
from onetape.client import MassiveDataProvider as AsyncProvider, Overflow
from onetape.errors import ContractNotFound, InvalidRequest, NotConnected, TokenInvalid
from onetape.gateway.app import Gateway
from onetape.model import Bar, Quote
from onetape.simulator.app import Simulator
from onetape.sync import BlockingSubscription, MassiveDataProvider
from onetape.testing import Playground, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
T = TypeVar("T")


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Playground]:
    async with Playground(tmp_path) as running:
        yield running


async def script(play: Playground, program: Callable[[MassiveDataProvider], T]) -> T:
    """Run a program as a script would, in a thread, while the gateway runs in ours."""
    key = await play.key()

    def run() -> T:
        with MassiveDataProvider(play.gateway.url, key) as massive:
            return program(massive)

    return await asyncio.to_thread(run)


def threads() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith("onetape.sync")}


async def test_a_script_asks_and_is_answered(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> None:
        assert massive.get_market_status().provider in {"massive", "calendar"}
        assert massive.get_quote("spy").symbol == "SPY"
        assert [quote.symbol for quote in massive.get_quotes(["SPX", "SPY"])] == ["I:SPX", "SPY"]
        assert massive.get_index("VIX").quote.last
        assert len(massive.get_aggregates("SPY", "1m", lookback=5)) == 5
        chain = massive.get_options_chain("SPY", min_strike=660, max_strike=661)
        contract = chain.contracts[0].contract
        assert massive.get_option_contract(contract.symbol) == contract
        assert len(massive.get_option_trades(contract.symbol, max_rows=3)) <= 3
        assert massive.get_rsi("SPY")
        assert massive.get_market_holidays(2026)
        assert massive.clear_cache("chain:*") == 1
        assert massive.get_health().status == "ok"

    await script(play, program)

    assert not threads()


async def test_a_loop_over_a_subscription_reads_what_comes(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> list[Quote]:
        quotes: list[Quote] = []
        with massive.subscribe_quotes(["SPX", "VIX"]) as subscription:
            for quote in subscription:
                quotes.append(quote)
                if len({one.symbol for one in quotes}) == 2:
                    break
        assert subscription.is_closed
        assert subscription.read() == []
        return quotes

    quotes = await script(play, program)

    assert {quote.symbol for quote in quotes} == {"I:SPX", "I:VIX"}


async def test_waiting_has_an_end_when_one_is_given(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> None:
        with massive.subscribe_aggregates(["SPX"]) as subscription, pytest.raises(TimeoutError):
            subscription.read(timeout_s=0.05)

    await script(play, program)


async def test_a_callback_may_block_and_may_fail_and_has_a_thread_of_its_own(
    play: Playground,
) -> None:
    heard: list[str] = []
    failed = threading.Event()
    told: list[threading.ExceptHookArgs] = []

    def take(quote: Quote) -> None:
        heard.append(threading.current_thread().name)
        if len(heard) == 1:
            raise ValueError(quote.symbol)
        failed.set()

    def program(massive: MassiveDataProvider) -> None:
        hook, threading.excepthook = threading.excepthook, told.append
        try:
            subscription = massive.subscribe_quotes(["SPX"], take)
            assert failed.wait(10)
            subscription()
            subscription()
        finally:
            threading.excepthook = hook

    await script(play, program)

    assert set(heard) == {"onetape.sync.callback"}
    assert [one.exc_type for one in told] == [ValueError]
    assert not threads()


async def test_the_watchlist_is_followed(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> str:
        massive.update_watchlist(["VIX"], at_once=True)
        with massive.subscribe_quotes() as subscription:
            return next(iter(subscription)).symbol

    assert await script(play, program) == "I:VIX"


async def test_many_threads_may_share_one_client(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> list[str]:
        found: list[str] = []
        workers = [
            threading.Thread(target=lambda: found.append(massive.get_quote("SPY").symbol))
            for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return found

    assert await script(play, program) == ["SPY"] * 8


async def test_errors_are_those_of_the_async_client(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> None:
        with pytest.raises(ContractNotFound):
            massive.get_option_contract("O:SPY300101C00000001")

    await script(play, program)

    def refused() -> None:
        massive = MassiveDataProvider(play.gateway.url, "ot_wrong")
        with pytest.raises(TokenInvalid):
            massive.connect()
        with pytest.raises(NotConnected):
            massive.get_quote("SPY")
        massive.disconnect()

    await asyncio.to_thread(refused)
    assert not threads()


async def test_connecting_is_done_once_and_again_after_the_end(play: Playground) -> None:
    key = await play.key()

    def program() -> None:
        massive = MassiveDataProvider(play.gateway.url, key)
        massive.connect()
        massive.connect()
        assert len(threads()) == 1
        subscription = massive.subscribe_quotes(["SPX"])
        massive.disconnect()
        massive.disconnect()
        assert subscription.is_closed
        subscription.close()
        massive.connect()
        assert massive.get_quote("SPX").last
        massive.disconnect()

    await asyncio.to_thread(program)
    await until(lambda: not threads())


async def test_its_own_loop_cannot_be_waited_for(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> None:
        caught: list[BaseException] = []

        def take(_bar: Bar) -> None:
            """Never called: a callback is not called in the loop."""

        with massive.subscribe_aggregates(["SPX"], take):
            massive._run(ask(massive, caught))  # pyright: ignore[reportPrivateUsage] - nobody else gets there
        assert [type(error) for error in caught] == [NotConnected]

    async def ask(massive: MassiveDataProvider, caught: list[BaseException]) -> None:
        try:
            massive.get_quote("SPY")
        except NotConnected as error:
            caught.append(error)

    await script(play, program)


def test_every_method_has_a_twin_with_its_documentation() -> None:
    for name in (one for one in vars(AsyncProvider) if not one.startswith("_")):
        twin = getattr(MassiveDataProvider, name)
        assert twin.__doc__, name
        assert (
            name in {"connect", "disconnect"}
            or twin.__doc__ == getattr(AsyncProvider, name).__doc__
        )
    assert set(sync.__all__) == {"BlockingSubscription", "MassiveDataProvider"}


async def test_a_loop_that_was_left_goes_on_where_it_was(play: Playground) -> None:
    """Nothing is lost between `next(iter(subscription))` and the next of it."""

    def program(massive: MassiveDataProvider) -> tuple[int, int]:
        overflow = Overflow.DROP_OLDEST
        with massive.subscribe_quotes(["SPX", "VIX", "NDX"], overflow=overflow) as subscription:
            while subscription.statistics().pending < 4:
                threading.Event().wait(0.01)
            read = [next(iter(subscription)), next(iter(subscription)), *subscription.read()]
            return len(read), subscription.statistics().delivered

    read, delivered = await script(play, program)

    assert read == delivered >= 4


async def test_what_was_queued_at_the_end_is_still_read_and_then_it_ends(
    play: Playground,
) -> None:
    def program(massive: MassiveDataProvider) -> tuple[BlockingSubscription[Quote], int]:
        subscription = massive.subscribe_quotes(["SPX"], overflow=Overflow.DROP_OLDEST)
        while subscription.statistics().pending < 2:
            threading.Event().wait(0.01)
        massive.disconnect()
        return subscription, subscription.statistics().pending

    subscription, pending = await script(play, program)

    assert [quote.symbol for quote in subscription] == ["I:SPX"] * pending
    assert subscription.read() == []


async def test_nothing_is_called_after_a_callback_closed_its_subscription(
    play: Playground,
) -> None:
    """R89: what came with the same batch is dropped with the rest."""
    heard: list[Quote] = []

    def program(massive: MassiveDataProvider) -> None:
        begun, closed = threading.Event(), threading.Event()

        def take(quote: Quote) -> None:
            heard.append(quote)
            if len(heard) == 1:  # the others queue up meanwhile
                begun.wait()
            else:
                subscription.close()
                closed.set()

        subscription = massive.subscribe_quotes(["SPX"], take, overflow=Overflow.DROP_OLDEST)
        while subscription.statistics().pending < 3:
            threading.Event().wait(0.01)
        begun.set()
        assert closed.wait(10)

    await script(play, program)

    assert len(heard) == 2


async def test_a_coroutine_function_is_no_callback_of_a_blocking_client(play: Playground) -> None:
    async def take(_: Quote) -> None: ...

    def program(massive: MassiveDataProvider) -> None:
        with pytest.raises(InvalidRequest, match="plain"):
            massive.subscribe_quotes(["SPX"], take)

    await script(play, program)


async def test_who_waits_while_another_thread_disconnects_is_told(play: Playground) -> None:
    def program(massive: MassiveDataProvider) -> list[object]:
        ended: list[object] = []

        def read() -> None:
            with massive.subscribe_aggregates(["SPX"]) as subscription:
                ready.set()
                ended.append(subscription.read())

        def ask() -> None:
            try:
                while True:
                    massive.get_market_status()
            except NotConnected as error:
                ended.append(type(error))

        ready = threading.Event()
        running = [threading.Thread(target=read), *(threading.Thread(target=ask) for _ in range(4))]
        for one in running:
            one.start()
        assert ready.wait(10)
        massive.disconnect()
        for one in running:
            one.join(10)
        return ended

    ended = await script(play, program)

    assert sorted(ended, key=str) == sorted([[], *[NotConnected] * 4], key=str)
