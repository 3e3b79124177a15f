"""What the commands share; what they do with a gateway is in their own tests."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from onetape.clock import SystemClock
from onetape.commands.desk import DEFAULTS, Common, Desk, Output, desk_of, ran
from onetape.commands.exits import Exit
from onetape.errors import ConfigInvalid, InvalidRequest, UpstreamGarbled
from onetape.gateway.app import Gateway
from onetape.rows import SymbolFault
from onetape.secret import Secret
from onetape.simulator.app import Simulator
from onetape.terminal.screen import Screen
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
CANARY = "ot_canary_9f3kq7w2x8v4"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A place without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("ONETAPE_URL", "ONETAPE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def desk(url: str = "http://127.0.0.1:1") -> Desk:
    return Desk(url, Secret(CANARY), Output.PEOPLE, SystemClock(), Screen(io.StringIO()))


def test_without_a_key_it_says_how_to_make_one_and_where_to_put_it(
    settings: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        desk_of(DEFAULTS)

    said = str(raised.value)
    assert all(word in said for word in ("ONETAPE_KEY", "onetape keys create", ".env", "demo"))


def test_an_address_on_the_command_line_wins_over_the_setting(
    settings: pytest.MonkeyPatch,
) -> None:
    settings.setenv("ONETAPE_KEY", CANARY)
    settings.setenv("ONETAPE_URL", "https://desk.example:1/")

    assert desk_of(DEFAULTS).url == "https://desk.example:1"
    assert desk_of(Common(url="http://127.0.0.1:2/")).url == "http://127.0.0.1:2"
    assert CANARY not in repr(desk_of(DEFAULTS))


@pytest.mark.parametrize(
    "url", [f"http://{CANARY}@desk.example", "ftp://desk.example", "desk.example", "http://"]
)
def test_an_address_that_is_none_is_refused_and_not_repeated(
    url: str, settings: pytest.MonkeyPatch
) -> None:
    """People put credentials into addresses."""
    settings.setenv("ONETAPE_KEY", CANARY)

    with pytest.raises(ConfigInvalid, match=r"^--url: the gateway's address is http") as raised:
        desk_of(Common(url=url))
    assert CANARY not in str(raised.value)


def test_a_key_is_not_sent_to_another_host_in_the_clear(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("ONETAPE_KEY", CANARY)

    with pytest.raises(ConfigInvalid, match=r"--url.*in the clear"):
        desk_of(Common(url="http://desk.example:3000"))
    settings.setenv("ONETAPE_ALLOW_PLAIN_HTTP", "true")
    assert desk_of(Common(url="http://desk.example:3000")).url == "http://desk.example:3000"


def test_two_outputs_at_one_time_are_refused(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("ONETAPE_KEY", CANARY)
    wanted = [desk_of(one).output for one in (DEFAULTS, Common(json=True), Common(csv=True))]

    assert wanted == [Output.PEOPLE, Output.JSON, Output.CSV]
    with pytest.raises(InvalidRequest, match="--json and --csv"):
        desk_of(Common(json=True, csv=True))


def fault(symbol: str, code: str, message: str = "so it is") -> tuple[str, SymbolFault]:
    return symbol, SymbolFault(symbol=symbol, error=code, message=message)


UNREACHABLE = "the gateway cannot be reached (3 tries)"


@pytest.mark.parametrize(
    ("rows", "faults", "status", "said"),
    [
        ([1], [], Exit.OK, ""),
        ([], [], Exit.FAULT_FOUND, "onetape: there are no quotes\n"),
        ([1], [fault("X", "not_found")], Exit.FAULT_FOUND, "onetape: X: not_found: so it is\n"),
        ([1], [fault("", "upstream_garbled")], Exit.FAULT_FOUND, "onetape: quotes: upstream_"),
        ([], [fault("X", "not_found")], Exit.FAULT_FOUND, "onetape: X: "),
        ([], [fault("X", "upstream_forbidden")], Exit.VENDOR, "onetape: X: "),
        ([], [fault("X", "upstream_down", UNREACHABLE)], Exit.GATEWAY, "onetape: X: "),
        ([], [fault("X", "not_found"), fault("Y", "upstream_down")], Exit.FAULT_FOUND, "onetape"),
        ([], [fault("X", "who_knows")], Exit.WRONG_USAGE, "onetape: X: "),
    ],
    ids=[
        "all",
        "nothing",
        "one-missing",
        "unreadable",
        "none-found",
        "vendor",
        "gateway",
        "mixed",
        "unknown",
    ],
)
def test_what_is_missing_is_named_and_makes_the_status(
    rows: list[Any],
    faults: list[tuple[str, SymbolFault]],
    status: Exit,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert desk().report(rows, dict(faults), "quotes") is status
    assert capsys.readouterr().err.startswith(said)


async def test_what_is_no_gateway_is_not_taken_for_one(tmp_path: Path) -> None:
    """The simulated vendor speaks JSON, and has no health; others have not even JSON."""
    async with Playground(tmp_path) as play:
        health = await desk(play.gateway.url).gateway_health()
        with pytest.raises(UpstreamGarbled, match=r"^the gateway at http://.* is none: does it"):
            await desk(play.simulator.url).gateway_health()

    async def page(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<h1>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(UpstreamGarbled, match="is none"):
            await desk(f"http://{host}:{port}").gateway_health()

    assert health["status"] == "ok"


def test_work_is_done_in_a_loop_of_its_own() -> None:
    async def answer() -> int:
        return 42

    assert ran(answer()) == 42
