"""What importing onetape costs: nothing by itself, little with its client.

Each program runs in a fresh interpreter, and what it costs is measured against aiohttp,
which the client needs anyway, in the same way and on the same machine.
"""

import subprocess
import sys

import pytest

OURS_AT_MOST = 64
TIMES_AIOHTTP = 3.0
TRIES = 3

HEAVY = frozenset(
    {
        "anyio",
        "cyclopts",
        "httpx",
        "numpy",
        "pandas",
        "polars",
        "prometheus_client",
        "pyarrow",
        "rich",
        "starlette",
        "uvicorn",
        "websockets",
    }
)
"""What is the gateway's, the command line's or an extra's, and none of it the client's."""

NOT_THE_CLIENTS = ("cli", "commands", "config", "gateway", "settings", "simulator", "terminal")

LOADED = "import sys; before = set(sys.modules); {program}; print(*(set(sys.modules) - before))"
TIMED = "import time; began = time.perf_counter(); {program}; print(time.perf_counter() - began)"
CLIENT = "from onetape import MassiveDataProvider"


def printed(program: str) -> str:
    # `-I`: neither the environment nor the directory has a say in what is imported.
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


def loaded(program: str) -> set[str]:
    return set(printed(LOADED.format(program=program)).split())


def seconds(program: str) -> float:
    return float(printed(TIMED.format(program=program)))


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "onetape"}


def test_onetape_alone_imports_nothing_of_its_own_or_of_others() -> None:
    modules = loaded("import onetape")

    assert ours(modules) == {"onetape"}
    assert not tops(modules) & (HEAVY | {"aiohttp", "msgspec", "asyncio", "ssl"})


@pytest.mark.parametrize(
    "program",
    [
        CLIENT,
        "from onetape.sync import MassiveDataProvider",
        "from onetape.client import QuoteBoard",
    ],
)
def test_the_client_brings_nothing_of_the_gateway_and_no_table_library(program: str) -> None:
    """R170, issue 3: it installs, and is imported, without what only a gateway needs."""
    modules = loaded(program)

    assert "onetape.client" in modules
    assert not tops(modules) & HEAVY
    assert not {name.split(".")[1] for name in ours(modules) if "." in name} & {*NOT_THE_CLIENTS}
    assert len(ours(modules)) < OURS_AT_MOST


def test_importing_the_client_is_a_small_multiple_of_importing_aiohttp() -> None:
    # In turn, so that a busy moment of the machine is nobody's alone.
    measured = [(seconds(CLIENT), seconds("import aiohttp")) for _ in range(TRIES)]
    client_s, aiohttp_s = (min(column) for column in zip(*measured, strict=True))

    assert client_s <= TIMES_AIOHTTP * aiohttp_s
