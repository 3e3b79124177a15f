"""Our Tradier against the simulated one: every question, and the stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import date, timedelta

import pytest

from onetape.calendar import new_york_date
from onetape.clock import SystemClock
from onetape.errors import InvalidRequest, UpstreamForbidden
from onetape.massive.notices import Lost, Restored
from onetape.model import ContractType, Quote, Trade
from onetape.secret import Secret
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.testing import until
from onetape.tradier.greeks import Carry
from onetape.tradier.notices import TradierFeedPolicy, TradierNotice
from onetape.tradier.parse import (
    ChainPage,
    parse_chain,
    parse_expirations,
    parse_lookup,
    parse_quotes,
    parse_strikes,
    underlying_price,
)
from onetape.tradier.parse_series import (
    parse_calendar,
    parse_clock,
    parse_history,
    parse_timesales,
)
from onetape.tradier.rest import TradierAnswer, TradierPolicy, TradierREST
from onetape.tradier.shapes import Origin
from onetape.tradier.stream import TradierWebSocket
from onetape.tradier.wire_rest import (
    Ask,
    Intraday,
    Refusal,
    ask_calendar,
    ask_chain,
    ask_clock,
    ask_expirations,
    ask_history,
    ask_lookup,
    ask_quotes,
    ask_strikes,
    ask_timesales,
)

START_NS = 1_764_000_000_000_000_000  # Monday 2025-11-24, 11:00 in New York
HOUR_NS = 3_600_000_000_000
TODAY = new_york_date(START_NS)


class Rig:
    """The simulated Tradier and our edge."""

    def __init__(self, simulator: Simulator, rest: TradierREST) -> None:
        self.simulator = simulator
        self.rest = rest

    async def ask(self, ask: Ask) -> tuple[bytes, Origin]:
        answer: TradierAnswer = await self.rest.get(ask)
        assert answer.simulated
        return answer.body, Origin(START_NS, simulated=True)


@contextlib.asynccontextmanager
async def rig(*, token: str | None = None) -> AsyncGenerator[Rig]:
    async with Simulator(SimulatorSettings(start_ns=START_NS)) as simulator:
        edge = TradierREST(
            base_url=simulator.tradier_url,
            token=Secret(token or simulator.tradier_token),
            clock=SystemClock(),
            policy=TradierPolicy(backoff_base_s=0.01, backoff_cap_s=0.01),
        )
        async with edge as rest:
            yield Rig(simulator, rest)


async def test_every_question_has_an_answer_that_is_read() -> None:
    """R213, R214, R215."""
    async with rig() as made:
        page = parse_quotes(*await made.ask(ask_quotes(["SPY", "I:SPX", "BRK.B", "ZZZZZ"])))
        quotes = {one.symbol: one for one in page.quotes}
        spot = underlying_price(quotes["SPY"])
        body, _ = await made.ask(ask_expirations("I:SPX"))
        expirations = parse_expirations(body)
        day = expirations[2].date
        chain = parse_chain(*await made.ask(ask_chain("I:SPX", day)))
        strikes = parse_strikes((await made.ask(ask_strikes("I:SPX", day)))[0])
        lookup = parse_lookup((await made.ask(ask_lookup("SPY")))[0])
        status = parse_clock(*await made.ask(ask_clock()))
        month = parse_calendar((await made.ask(ask_calendar(2025, 11)))[0])

    assert quotes.keys() >= {"SPY", "I:SPX"}
    assert "ZZZZZ" in {fault.symbol for fault in page.faults}
    assert spot is not None
    assert all(one.date >= TODAY for one in expirations)
    assert {one.contract.expiration for one in chain.contracts} == {day}
    assert {one.contract.underlying for one in chain.contracts} == {"I:SPX"}
    assert {one.contract.strike for one in chain.contracts} <= set(strikes)
    assert chain.faults == []
    assert "SPY" in lookup.contracts
    assert status.is_open
    assert date(2025, 11, 27) in {one.date for one in month.holidays}
    assert date(2025, 11, 28) in month.sessions


async def test_the_greeks_of_puts_come_out_true() -> None:
    """W-61: what the simulator's calls say of the puts of the same strikes is corrected."""
    async with rig() as made:
        body, _ = await made.ask(ask_expirations("SPY"))
        day = next(one.date for one in parse_expirations(body) if one.date > TODAY + timedelta(20))
        spot = underlying_price(parse_quotes(*await made.ask(ask_quotes(["SPY"]))).quotes[0])
        assert spot is not None
        answer = await made.ask(ask_chain("SPY", day))
        bare = parse_chain(*answer)
        carried = parse_chain(*answer, carry={"SPY": Carry(spot, 0.04, 0.0)})

    def rhos(page: ChainPage) -> list[float | None]:
        return [
            one.greeks.rho
            for one in page.contracts
            if one.contract.contract_type is ContractType.PUT and one.greeks is not None
        ]

    assert set(rhos(bare)) == {None}
    assert all(rho is not None and rho < 0.01 for rho in rhos(carried))


async def test_bars_come_by_day_and_by_minute() -> None:
    """R215."""
    first = TODAY - timedelta(days=14)
    async with rig() as made:
        days = parse_history(*await made.ask(ask_history("SPY", first, TODAY)), symbol="SPY")
        minutes = parse_timesales(
            *await made.ask(
                ask_timesales("SPY", START_NS - HOUR_NS, START_NS, interval=Intraday.FIVE_MINUTES)
            ),
            symbol="SPY",
            interval=Intraday.FIVE_MINUTES,
        )
        early = await made.rest.ask(
            ask_timesales(
                "SPY", START_NS - 90 * 24 * HOUR_NS, START_NS, interval=Intraday.FIVE_MINUTES
            )
        )

    assert len(days.bars) >= 9
    assert days.faults == minutes.faults == []
    assert 12 <= len(minutes.bars) <= 13
    assert all(bar.low <= bar.open <= bar.high for bar in minutes.bars)
    assert minutes.bars[0].event_ns == START_NS - HOUR_NS
    assert isinstance(early, Refusal)
    assert isinstance(early.error, InvalidRequest)
    assert early.earliest_ns is not None
    assert 50 < (START_NS - early.earliest_ns) / (24 * HOUR_NS) < 61


async def test_a_wrong_token_is_forbidden() -> None:
    async with rig(token="another") as made:
        with pytest.raises(UpstreamForbidden):
            await made.rest.get(ask_clock())


async def test_the_stream_carries_what_is_wanted_over_its_losses() -> None:
    events: list[Quote | Trade] = []
    notices: list[TradierNotice] = []
    async with rig() as made:
        stream = TradierWebSocket(
            url=made.simulator.tradier_socket_url,
            mint=made.rest.session,
            clock=SystemClock(),
            policy=TradierFeedPolicy(replace_s=0.01, close_timeout_s=0.2),
            on_events=events.extend,
            on_notice=notices.append,
            simulated=True,
        )
        task = asyncio.ensure_future(stream.run())  # noqa: TID251 - cancelled below
        stream.want(frozenset({"SPY", "BRK.B"}))
        await until(lambda: any(one.symbol == "SPY" for one in events))
        stream.want(frozenset({"SPY", "QQQ", "I:SPX"}))
        await until(lambda: {"QQQ", "I:SPX"} <= {one.symbol for one in events})
        await until(lambda: any(isinstance(one, Trade) for one in events))
        # Another stream of the same token: the simulator ends ours.
        rival = TradierWebSocket(
            url=made.simulator.tradier_socket_url,
            mint=made.rest.session,
            clock=SystemClock(),
            policy=TradierFeedPolicy(close_timeout_s=0.2),
            on_events=lambda _: None,
            on_notice=lambda _: None,
        )
        other = asyncio.ensure_future(rival.run())  # noqa: TID251 - cancelled below
        rival.want(frozenset({"SPY"}))
        await until(lambda: any(isinstance(one, Lost) for one in notices))
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        seen = len(events)
        await until(lambda: any(isinstance(one, Restored) for one in notices))
        await until(lambda: len(events) > seen)
        statistics = stream.statistics()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert statistics.garbled == 0
    assert {type(one) for one in events} == {Quote, Trade}
    values = [one for one in events if one.symbol == "I:SPX"]
    assert all(isinstance(one, Quote) and one.last is not None for one in values)
    assert all(one.simulated for one in events)
