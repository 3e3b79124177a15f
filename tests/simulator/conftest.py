"""The simulated REST API for its tests: one market, one frozen instant, no sockets.

The instant is Monday 2025-11-24 at 11:00 in New York, in exchange hours.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from starlette.testclient import TestClient

from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.testing import ManualClock


class Rest:
    """Asks the API as a caller with a key would."""

    def __init__(self, market: Market, client: TestClient, limits: ManualClock) -> None:
        self.market = market
        self.client = client
        self._limits = limits

    def get(self, url: str, *, key: str | None = "sim-key", method: str = "GET", **headers: str):
        """Ask, with the key in the header."""
        self._limits.advance(60)  # no caller is ever over its limit per minute
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return self.client.request(method, url, headers=headers)

    def json(self, url: str, *, key: str = "sim-key") -> Any:
        """Ask for what must be there."""
        answer = self.get(url, key=key)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content)

    def refusal(self, url: str, *, key: str | None = "sim-key") -> tuple[int, Any]:
        """Ask for what must not be there."""
        answer = self.get(url, key=key)
        assert answer.status_code != 200, answer.text
        return answer.status_code, msgspec.json.decode(answer.content)

    def pages(self, url: str, *, key: str = "sim-key", most: int = 400) -> list[Any]:
        """Follow `next_url` to the end."""
        pages = [self.json(url, key=key)]
        while (following := pages[-1].get("next_url")) is not None:
            assert len(pages) < most, "does the paging ever end?"
            parts = urlsplit(str(following))
            pages.append(self.json(f"{parts.path}?{parts.query}", key=key))
        return pages

    def rows(self, url: str, *, key: str = "sim-key") -> list[Any]:
        """Concatenate the results of all pages."""
        return [row for page in self.pages(url, key=key) for row in page.get("results", [])]


@pytest.fixture(scope="session")
def rest() -> Iterator[Rest]:
    limits = ManualClock()
    market = Market(clock=SimClock(clock=ManualClock()), hours=Hours.EXCHANGE)
    with TestClient(MassiveRestSimulator(market, Accounts(), limits)) as client:
        yield Rest(market, client, limits)


@pytest.fixture
def rest_of_basic(rest: Rest) -> Any:
    """Refused requests of a basic account."""

    def refused(url: str) -> tuple[int, Any]:
        return rest.refusal(url, key="sim-basic-key")

    return refused
