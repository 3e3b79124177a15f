"""Boards, tapes and trackers, on a client made of what was said to it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from onetape.client import _watch as watch
from onetape.client._notices import Key, Kind
from onetape.client._subscription import Subscription
from onetape.client._watch import (
    ChainWatch,
    MacroWatch,
    OptionTape,
    PnlTracker,
    QuoteBoard,
    provided,
    providing,
)
from onetape.errors import InvalidRequest, NotConnected, OnetapeError, UpstreamDown
from onetape.model import IndexSnapshot, OptionChain, Quote, Trade
from onetape.rows import Rows
from onetape.testing import ManualClock, until

OPTION = "O:SPY261218C00650000"


def quote(symbol: str, **fields: Any) -> Quote:
    return Quote(symbol=symbol, event_ns=1, received_ns=1, provider="massive", **fields)


def trade(price: float) -> Trade:
    return Trade(symbol=OPTION, event_ns=1, received_ns=1, provider="massive", price=price, size=1)


class Said:
    """A client that remembers what was asked and says what it is told to."""

    def __init__(self) -> None:
        self.readers: dict[Key, list[tuple[Subscription[Any], Callable[[Any], object]]]] = {}
        self.opened: list[Key] = []
        self.asked = 0
        self.refused: str | None = None
        self.answers: dict[str, asyncio.Future[OptionChain]] = {}

    def subscribe_quotes(
        self,
        symbols: Iterable[str] | None = None,
        callback: Callable[[Quote], object] | None = None,
    ) -> Subscription[Quote]:
        return self._subscribe(Kind.QUOTE, symbols, callback)

    def subscribe_trades(
        self, symbols: Iterable[str], callback: Callable[[Trade], object] | None = None
    ) -> Subscription[Trade]:
        return self._subscribe(Kind.TRADE, symbols, callback)

    async def get_options_chain(self, underlying: str) -> OptionChain:
        return await self.answers.setdefault(underlying, asyncio.Future())

    async def get_indices(self, symbols: Iterable[str]) -> Rows[IndexSnapshot]:
        self.asked += 1
        await asyncio.sleep(0)
        rows = [IndexSnapshot(symbol=one, quote=quote(one, last=1.0)) for one in symbols]
        return Rows(rows, kind=IndexSnapshot)

    def _subscribe(
        self, kind: Kind, symbols: Iterable[str] | None, callback: Callable[[Any], object] | None
    ) -> Subscription[Any]:
        assert callback is not None
        keys = [Key(kind, symbol) for symbol in symbols or ()]
        if any(key.symbol == self.refused for key in keys):
            raise InvalidRequest("refused")
        self.opened += keys
        subscription: Subscription[Any] = Subscription(keys, callback=callback)
        subscription.bind(self, tuple(keys), lambda _: pytest.fail("no task is needed"))
        for key in keys:
            self.readers.setdefault(key, []).append((subscription, callback))
        return subscription

    def release(self, subscription: Subscription[Any]) -> None:
        for key in subscription.keys:
            self.readers[key] = [one for one in self.readers[key] if one[0] is not subscription]

    def source_of(self, key: Key) -> None:
        """Nothing comes from anywhere."""

    def delivered(self, keys: Sequence[Key]) -> int:
        """Count nothing: nobody asks."""
        del keys
        return 0

    def say(self, event: Quote | Trade) -> None:
        kind = Kind.QUOTE if isinstance(event, Quote) else Kind.TRADE
        for _, callback in self.readers.get(Key(kind, event.symbol), []):
            callback(event)

    @property
    def read(self) -> set[str]:
        return {key.symbol for key, readers in self.readers.items() if readers}


async def test_a_board_holds_the_latest_quote_of_each_symbol() -> None:
    """R177."""
    said, heard = Said(), list[Quote]()
    async with QuoteBoard(said, ["spy", "SPX"], callback=heard.append) as board:
        assert dict(board) == {}
        said.say(quote("SPY", last=1.0))
        said.say(quote("SPY", last=2.0))

        assert board["SPY"].last == 2.0
        assert (list(board), len(board), "I:SPX" in board) == (["SPY"], 1, False)
        assert len(heard) == 2
    assert not said.read


async def test_a_change_of_the_board_subscribes_only_the_difference() -> None:
    """R177: change the list, only the difference."""
    said = Said()
    async with QuoteBoard(said, ["A", "B"]) as board:
        said.say(quote("A", last=1.0))
        board.watch(["B", "C"])

        assert [key.symbol for key in said.opened] == ["A", "B", "C"]
        assert said.read == {"B", "C"}
        assert "A" not in board
        assert board.symbols == ("B", "C")


async def test_a_symbol_that_is_refused_leaves_nothing_open_behind_the_board() -> None:
    said = Said()
    said.refused = "C"
    board = QuoteBoard(said, ["A", "B"])
    with pytest.raises(InvalidRequest):
        async with board:
            board.watch(["B", "D", "C"])
    assert not said.read


async def test_a_board_that_cannot_be_opened_leaves_nothing_open() -> None:
    said = Said()
    said.refused = "B"
    with pytest.raises(InvalidRequest):
        async with QuoteBoard(said, ["A", "B"]):
            raise AssertionError
    assert not said.read


async def test_a_callback_on_a_chain_that_raises_does_not_end_the_watch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Said()

    def fail(_: watch.ChainState) -> None:
        raise ValueError("mine")

    async with ChainWatch(said, on_change=fail) as chains:
        chains.watch("SPY")
        await until(lambda: "SPY" in said.answers)
        assert chains.state.loading

    assert {line.message for line in caplog.records} == {"watch.callback_failed"}


async def test_the_answer_for_an_old_question_is_dropped() -> None:
    """R178: a late result of the old symbol is ignored."""
    said, states = Said(), list[watch.ChainState]()
    async with ChainWatch(said, on_change=states.append) as chains:
        chains.watch("SPY")
        await until(lambda: "SPY" in said.answers)
        chains.watch("SPX")
        await until(lambda: "I:SPX" in said.answers)
        assert said.answers["SPY"].cancelled()
        chain = OptionChain(
            underlying="I:SPX",
            underlying_price=None,
            contracts=(),
            received_ns=1,
            provider="massive",
        )
        said.answers["I:SPX"].set_result(chain)
        await until(lambda: chains.state.chain)

    assert chains.state == ("I:SPX", chain, False, None)
    assert [(one.underlying, one.loading) for one in states] == [
        ("SPY", True),
        ("I:SPX", True),
        ("I:SPX", False),
    ]


async def test_a_chain_that_fails_is_told_beside_the_last_good_one() -> None:
    said = Said()
    async with ChainWatch(said, refresh_s=0.001) as chains:
        said.answers["SPY"] = asyncio.Future()
        said.answers["SPY"].set_exception(UpstreamDown("gone"))
        chains.watch("SPY")
        await until(lambda: chains.state.error)

        assert isinstance(chains.state.error, OnetapeError)
        assert (chains.state.chain, chains.state.loading) == (None, False)


async def test_a_tape_keeps_the_last_hundred_prints_of_its_option() -> None:
    """R181, W-41: by contract."""
    said = Said()
    async with OptionTape(said, OPTION) as tape:
        assert (tape.trades, tape.quote, tape.spread_percent) == ((), None, None)
        for price in range(130):
            said.say(trade(float(price)))
        said.say(quote(OPTION, bid=0.99, ask=1.01))

        assert len(tape.trades) == 100
        assert tape.trades[-1].price == 129.0
        assert tape.spread_percent == 2.0
    assert not said.read


async def test_profit_and_loss_is_reckoned_in_the_middle_of_the_market() -> None:
    """R179; W-76: unknown is None, not 0."""
    said = Said()
    async with PnlTracker(said, OPTION, entry_price=2.0, quantity=-3) as position:
        assert (position.pnl, position.pnl_percent) == (None, None)
        said.say(quote(OPTION, bid=1.0))
        assert position.pnl is None
        said.say(quote(OPTION, bid=1.0, ask=2.0))

        assert position.pnl == 150.0
        assert position.pnl_percent == 25.0


async def test_a_position_that_cost_nothing_has_no_percentage() -> None:
    said = Said()
    async with PnlTracker(said, OPTION, entry_price=0.0) as position:
        said.say(quote(OPTION, bid=1.0, ask=1.0))

        assert (position.pnl, position.pnl_percent) == (100.0, None)


async def test_many_readers_of_the_macro_picture_cause_one_request() -> None:
    """R182."""
    said, clock = Said(), ManualClock()
    async with MacroWatch(said, clock=clock) as macro:
        pictures = await asyncio.gather(*(macro.get() for _ in range(20)))
        assert {row.symbol for row in pictures[0]} == {"I:SPX", "I:NDX", "I:VIX"}
        clock.advance(29.9)
        await macro.get()
        assert said.asked == 1
        clock.advance(0.2)
        await macro.get()
        assert said.asked == 2


def test_a_client_is_handed_to_code_that_is_far_away() -> None:
    """R176, R180: an override in tests returns the fake."""
    with pytest.raises(NotConnected, match="providing"):
        provided()
    outer, inner = Said(), Said()
    with providing(outer):
        with providing(inner):
            assert provided() is inner
        assert provided() is outer
