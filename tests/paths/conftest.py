from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onetape.gateway.app import Gateway
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.testing import Playground

# A playground imports these when it is made; a test makes it in the loop, where an
# import reads files and so blocks.
IMPORTED = (Gateway, Simulator)


@pytest.fixture
async def calm(tmp_path: Path) -> AsyncIterator[Playground]:
    """At the market's own pace, where a year of bars is quickly made."""
    async with Playground(tmp_path) as running:
        yield running


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Playground]:
    async with Playground(tmp_path, simulator=SimulatorSettings(rate=20)) as running:
        yield running
