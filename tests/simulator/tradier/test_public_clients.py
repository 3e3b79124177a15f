"""Two public clients of Tradier's, unchanged but for their base URL, against the simulator."""

# Neither client is typed:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import lumiwealth_tradier.base
import pytest
from lumiwealth_tradier.base import TradierApiError
from lumiwealth_tradier.market import MarketData

from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Fail, FailureKind, TradierRule
from onetape.simulator.market import Hours

with contextlib.redirect_stdout(io.StringIO()):  # it greets whoever imports it
    from uvatradier import OptionsData, Quotes, Stream

T = TypeVar("T")
DECEMBER = date(2025, 12, 19)
WEDNESDAY_NS = int(datetime(2025, 11, 26, 16, 0, tzinfo=UTC).timestamp()) * 1_000_000_000


@asynccontextmanager
async def vendor() -> AsyncGenerator[Simulator]:
    settings = SimulatorSettings(start_ns=WEDNESDAY_NS, hours=Hours.EXCHANGE)
    async with asyncio.timeout(50), Simulator(settings) as simulator:
        yield simulator


async def ask(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


# ---- lumiwealth ----


@pytest.fixture
def lumiwealth(monkeypatch: pytest.MonkeyPatch) -> Callable[[Simulator], Any]:
    def client(simulator: Simulator, token: str | None = None) -> Any:
        base = f"{simulator.url}/tradier"
        monkeypatch.setattr(lumiwealth_tradier.base, "TRADIER_SANDBOX_URL", base)
        market = MarketData("account", token or simulator.tradier_token, is_paper=True)
        market._configure_retry_session(market._session, retries=0)
        return market

    return client


async def test_lumiwealth_reads_quotes_one_or_many(lumiwealth: Any) -> None:
    async with vendor() as simulator:
        client = lumiwealth(simulator)
        many = await ask(lambda: client.get_quotes(["SPY", "SPX", "AAPL", "NOPE"]))
        one = await ask(lambda: client.get_quotes("SPY"))
        with pytest.raises(ValueError, match="Invalid symbol"):
            await ask(lambda: client.get_quotes("NOPE"))
        client._session.close()

    assert set(many.index) == {"SPY", "SPX", "AAPL"}
    assert list(one.index) == ["SPY"]
    assert one.loc["SPY"]["bid"] <= one.loc["SPY"]["ask"]


async def test_lumiwealth_reads_chains_with_greeks_expirations_and_strikes(lumiwealth: Any) -> None:
    async with vendor() as simulator:
        client = lumiwealth(simulator)
        chain = await ask(lambda: client.get_option_chains("SPY", DECEMBER, greeks=True))
        dates = await ask(lambda: client.get_option_expirations("SPY"))
        strikes = await ask(lambda: client.get_option_strikes("SPY", DECEMBER))
        symbol = await ask(lambda: client.get_option_symbol("SPY", DECEMBER, 650.0, "call"))
        client._session.close()

    assert {"greeks.delta", "greeks.mid_iv", "greeks.updated_at"} <= set(chain.columns)
    assert set(chain["expiration_date"]) == {DECEMBER}
    assert DECEMBER in dates.index
    assert dates.loc[DECEMBER]["expiration_type"] == "standard"
    assert strikes == dates.loc[DECEMBER]["strikes"]
    assert symbol == "SPY251219C00650000"


async def test_lumiwealth_reads_history_timesales_clock_calendar_and_lookup(
    lumiwealth: Any,
) -> None:
    async with vendor() as simulator:
        client = lumiwealth(simulator)
        days = await ask(
            lambda: client.get_historical_quotes(
                "SPY", start_date="2025-11-17", end_date="2025-11-21"
            )
        )
        start, end = datetime(2025, 11, 25, 9, 30), datetime(2025, 11, 25, 11, 30)  # noqa: DTZ001 - as it wants them
        bars = await ask(lambda: client.get_timesales("SPY", 15, start, end))
        clock = await ask(client.get_clock)
        calendar = await ask(lambda: client.get_calendar(11, 2025))
        found = await ask(lambda: client.lookup_symbol("SP", types="etf"))
        before = await ask(lambda: client.get_previous_trading_day(date(2025, 11, 28)))
        client._session.close()

    assert len(days) == 5
    assert len(bars) == 9
    assert bars.index[0].isoformat() == "2025-11-25T09:30:00-05:00"
    assert clock["state"] == "open"
    assert (len(calendar), calendar.loc[date(2025, 11, 27)]["status"]) == (30, "closed")
    assert list(found["symbol"]) == ["SPY"]
    assert before == date(2025, 11, 26)


async def test_lumiwealth_meets_a_bad_token_and_a_failing_vendor(lumiwealth: Any) -> None:
    async with vendor() as simulator:
        simulator.inject(TradierRule(action=Fail(kind=FailureKind.ERRORS, message="no")))
        client = lumiwealth(simulator)
        with pytest.raises(TradierApiError, match="no"):
            await ask(client.get_clock)
        simulator.faults.clear(now=0)
        bad = lumiwealth(simulator, "wrong")
        bad._configure_retry_session(bad._session, retries=0, status_forcelist=[])
        with pytest.raises(TradierApiError, match="Invalid Access Token"):
            await ask(bad.get_clock)
        for one in (client, bad):
            one._session.close()


# ---- uvatradier ----


def uva(kind: Any, simulator: Simulator) -> Any:
    client = kind("account", simulator.tradier_token)
    client.BASE_URL = f"{simulator.url}/tradier"
    return client


async def test_uvatradier_reads_quotes_history_timesales_and_searches() -> None:
    async with vendor() as simulator:
        quotes = uva(Quotes, simulator)
        one = await ask(lambda: quotes.get_quote_day("SPY"))
        last = await ask(lambda: quotes.get_quote_day("SPY", last_price=True))
        some = await ask(lambda: quotes.get_quote_data(["SPY", "SPX", "NOPE"]))
        weeks = await ask(
            lambda: quotes.get_historical_quotes("SPY", "weekly", "2025-10-06", "2025-11-21")
        )
        bars = await ask(
            lambda: quotes.get_timesales("SPY", "5min", "2025-11-25 09:30", "2025-11-25 16:00")
        )
        found = await ask(lambda: quotes.search_companies("Trust"))

    assert one["symbol"].iloc[0] == "SPY"
    assert last == pytest.approx(one["last"].iloc[0], rel=0.01)
    assert list(some["symbol"]) == ["SPY", "SPX"]
    assert len(weeks) == 7
    assert len(bars) == 79, "captured: 09:30 to 16:00 in fives is 79 bars"
    assert {"SPY", "QQQ"} <= set(found["symbol"])


async def test_uvatradier_reads_options() -> None:
    async with vendor() as simulator:
        options = uva(OptionsData, simulator)
        dates = await ask(lambda: options.get_expiry_dates("SPX"))
        strikes = await ask(lambda: options.get_expiry_dates("SPY", strikes=True))
        chain = await ask(lambda: options.get_chain_day("SPY", "2025-12-19", strike_low=640))
        symbols = await ask(lambda: options.get_options_symbols("SPY"))
        table = await ask(lambda: options.get_options_symbols("SPY", df=True))
        with pytest.raises(TypeError):  # null, of which it wants an item
            await ask(lambda: options.get_options_symbols("NOPE"))
        none = await ask(lambda: options.get_expiry_dates("SPXW"))

    assert "2025-11-26" in dates
    assert strikes["expiration"][0]["strikes"]["strike"]
    assert chain["strike"].min() >= 640
    assert "SPY251219C00650000" in symbols
    assert len(table) == len(symbols)
    assert none == []


async def test_uvatradier_opens_a_session_for_the_stream() -> None:
    async with vendor() as simulator:
        stream = uva(Stream, simulator)
        found = await ask(stream.http_market_stream_connect)

        assert found
        assert simulator.state().tradier_stream["sessions_minted"] == 1
