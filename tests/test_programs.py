"""The programs of the pages on the client are run, and no old method is forgotten."""

import ast
import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import massive as official  # pyright: ignore[reportMissingTypeStubs] - it brings its own
import pytest

from onetape.client import MassiveDataProvider
from onetape.gateway.app import Gateway
from onetape.simulator.app import Simulator
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator, MassiveDataProvider)  # in the loop an import would block
DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "migration.md").read_text("utf-8")


def programs(page: str) -> list[str]:
    text = (DOCS / page).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


OLD = [
    "getMarketStatus",
    "getMarketHolidays",
    "getRSI",
    "getQuotes",
    "getQuote",
    "getOptionsChain",
    "getOptionContract",
    "getIndex",
    "getIndicates",
    "getHistoricalData",
    "getAggregates",
    "getOptionTrades",
    "connect",
    "connectEndpoint",
    "updateWatchlist",
    "subscribeQuotes",
    "subscribeAggregates",
    "subscribeOptionAggregates",
    "getConnectionState",
    "isConnected",
    "disconnect",
    "subscribe",
    "unsubscribe",
    "createTransport",
    "activate",
    "deactivate",
    "fetch",
    "attachClient",
    "onClientMessage",
    "connectUpstream",
    "disconnectUpstream",
]


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Playground]:
    async with Playground(tmp_path) as running:
        yield running


@pytest.mark.parametrize("program", [*programs("migration.md"), *programs("client.md")])
async def test_the_programs_of_the_page_run(play: Playground, program: str) -> None:
    key = await play.key()
    names: dict[str, Any] = {"URL": play.gateway.url, "NETLOC": play.gateway.netloc, "KEY": key}
    code = compile(program, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "await" in program or "async" in program:
        await eval(code, names)
    else:
        await asyncio.to_thread(eval, code, names)

    found = ("price", "bars", "values", "quote", "chain", "total")
    results = {name: names[name] for name in found if name in names}
    assert results
    assert all(value for name, value in results.items() if name != "values")


async def test_the_program_of_the_data_page_runs_on_both_vendors(
    play: Playground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = play.simulator
    for name, value in {
        "MASSIVE_API_KEY": simulator.key,
        "MASSIVE_BASE_URL": simulator.url,
        "MASSIVE_PROXY_TOKEN": "a-token-of-ours-that-nobody-guesses",
        "TRADIER_ACCESS_TOKEN": simulator.tradier_token,
        "TRADIER_BASE_URL": simulator.tradier_url,
        "TRADIER_SOCKET_URL": simulator.tradier_socket_url,
    }.items():
        monkeypatch.setenv(name, value)
    (program,) = programs("data.md")

    await asyncio.to_thread(exec, compile(program, "page", "exec"), {})

    price, provider, *_ = capsys.readouterr().out.split()
    assert (float(price) > 0, provider) == (True, "massive")


def test_every_method_of_the_old_clients_has_its_row() -> None:
    """R172-R174: every old method is present."""
    missing = [name for name in OLD if not re.search(rf"`[^`|]*\b{name}\(|`{name}`", PAGE)]

    assert not missing


def test_what_is_said_to_be_ours_is_and_what_is_said_to_be_theirs_is() -> None:
    section = PAGE.partition("## From the official client")[2].partition("## From the seven")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
    theirs = {name for row, _ in rows for name in re.findall(r"`(\w+)", row)} - {"massive"}
    ours = {name for _, row in rows for name in re.findall(r"`([a-z]\w+)`", row)} - {"async"}

    clients = (official.RESTClient, official.WebSocketClient)
    assert not [name for name in theirs if not any(hasattr(one, name) for one in clients)]
    assert ours
    assert not [name for name in ours if not hasattr(MassiveDataProvider, name)]
