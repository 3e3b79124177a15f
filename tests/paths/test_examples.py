"""Every example is run as a user would run it, against a gateway on loopback."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onetape.gateway.app import Gateway
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with Playground(tmp_path, simulator=SimulatorSettings(rate=3)) as play:
        yield {
            **{
                name: value
                for name, value in os.environ.items()  # noqa: TID251 - a program's own environment is made of ours
                if "ONETAPE" not in name
            },
            "ONETAPE_URL": play.gateway.url,
            "ONETAPE_KEY": await play.key(),
            "PYTHONUNBUFFERED": "1",
        }


async def run(environment: dict[str, str], program: str, *arguments: str) -> str:
    return await started(environment, str(EXAMPLES / program), *arguments)


async def started(environment: dict[str, str], *arguments: str) -> str:
    def wait() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=50
        )

    done = await asyncio.to_thread(wait)
    complaints = [line for line in done.stderr.splitlines() if "IPKernelApp" not in line]
    assert (done.returncode, complaints) == (0, [])
    return done.stdout


async def test_the_quote_board(environment: dict[str, str]) -> None:
    shown = await run(environment, "quote_board.py", "SPX", "SPY", "--seconds", "6")

    lines = [line for line in shown.splitlines() if "simulated" in line]
    assert any(line.startswith("I:SPX") and " stream " in line for line in lines)
    assert any(line.startswith("SPY") and " rest " in line for line in lines)


async def test_the_chain_as_a_table(environment: dict[str, str]) -> None:
    shown = await run(environment, "chain_to_dataframe.py", "SPY")

    assert "(simulated)" in shown
    assert "implied_volatility" in shown
    assert "shape: (22, 7)" in shown


async def test_the_trade_tape(environment: dict[str, str]) -> None:
    shown = await run(environment, "trade_tape.py", "SPY", "--count", "3")

    history, live = shown.split("live:\n")
    assert history.startswith("SPY so far today:")
    assert len([line for line in live.splitlines() if " at " in line]) == 3


async def test_the_bot(environment: dict[str, str]) -> None:
    shown = await run(environment, "bar_bot.py", "SPX", "--timespan", "1s", "--count", "3")

    assert "warmed up on 20 bars" in shown
    assert len([line for line in shown.splitlines() if line.startswith("bar ")]) == 3


EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=50, kernel_name="python3").execute()
print([output for cell in notebook.cells for output in cell.get("outputs", [])])
"""


async def test_the_notebook(environment: dict[str, str]) -> None:
    shown = await started(
        environment, "-W", "ignore", "-c", EXECUTE, str(EXAMPLES / "notebook.ipynb")
    )

    assert "'output_type': 'error'" not in shown
    assert "I:SPX" in shown
    assert "disconnected" in shown


def test_every_example_is_listed_and_compiles() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    for program in EXAMPLES.glob("*.py"):
        compile(program.read_text("utf-8"), str(program), "exec")
        assert f"[{program.name}]({program.name})" in listed
