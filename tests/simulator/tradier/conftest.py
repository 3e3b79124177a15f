"""The simulated Tradier for its tests: any instant, frozen; no sockets.

Unless a test says otherwise it is Monday 2025-11-24 at 11:00 in New York.
"""

from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from typing import Any

import msgspec
import pytest
from anyio import CapacityLimiter
from starlette.testclient import TestClient

from onetape import calendar
from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.rest import TradierRest
from onetape.testing import ManualClock

TOKEN = "sim-tradier-token"
MONDAY_AT_11 = "2025-11-24 11:00"


@cache
def market_at(instant: str, hours: Hours = Hours.EXCHANGE) -> Market:
    at = datetime.fromisoformat(instant)
    at_ns = calendar.instant_ns(at.date(), at.time())
    return Market(clock=SimClock(clock=ManualClock(), start_ns=at_ns), hours=hours)


class Tradier:
    """Asks the API as a program with a token would."""

    def __init__(self, market: Market, **policy: Any) -> None:
        self.market = market
        self.clock = ManualClock()
        self.policy = msgspec.structs.replace(TradierPolicy(calls_per_minute=None), **policy)
        self.sessions = 0
        app = TradierRest(
            market,
            token=TOKEN,
            policy=self.policy,
            clock=self.clock,
            thread=CapacityLimiter(1),
            open_session=self._open_session,
        )
        self.client = TestClient(app)

    def _open_session(self) -> str:
        self.sessions += 1
        return f"session-{self.sessions}"

    @property
    def today(self) -> date:
        return self.market.market_date(self.market.now_ns())

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str | None = TOKEN,
        accept: str | None = "application/json",
        **params: Any,
    ) -> Any:
        """Ask, as `requests` would: parameters in the query, or the form of a POST."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= {"Accept": accept or "*/*"}
        url = f"/v1/markets/{path}"
        if method == "POST":
            return self.client.post(url, headers=headers, data=params)
        return self.client.get(url, headers=headers, params=params)

    def json(self, path: str, **params: Any) -> Any:
        """Ask for what must be there."""
        answer = self.ask(path, **params)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content)

    def refusal(self, path: str, **params: Any) -> tuple[int, str]:
        """Ask for what must not be there."""
        answer = self.ask(path, **params)
        return answer.status_code, answer.text

    def quote(self, symbol: str, **params: Any) -> Any:
        """Ask for one quote."""
        return self.json("quotes", symbols=symbol, **params)["quotes"]["quote"]

    def chain(self, symbol: str, expiration: str, **params: Any) -> list[Any]:
        """Ask for one chain."""
        found = self.json("options/chains", symbol=symbol, expiration=expiration, **params)
        return found["options"]["option"]


@pytest.fixture
def at() -> Callable[..., Tradier]:
    """A Tradier at an instant of New York's."""

    def make(
        instant: str = MONDAY_AT_11, *, hours: Hours = Hours.EXCHANGE, **policy: Any
    ) -> Tradier:
        return Tradier(market_at(instant, hours), **policy)

    return make


@pytest.fixture
def tradier(at: Callable[..., Tradier]) -> Tradier:
    """It is Monday 2025-11-24 at 11:00 in New York."""
    return at()


@pytest.fixture(scope="session")
def sunday() -> Tradier:
    """It is Sunday, noon; nothing changes, so everybody may ask the same one."""
    return Tradier(market_at("2025-11-23 12:00"))
