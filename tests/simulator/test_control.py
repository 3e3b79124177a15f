import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onetape.asgi import Message
from onetape.simulator.control import ClockChange, Control, SimulatorState, is_local
from onetape.simulator.faults import Drop, Faults, Stage, StreamRule
from onetape.testing import ManualClock

SCRIPT = b'{"seed":3,"rules":[{"where":"stream","action":{"do":"drop"}}]}'
STATE = SimulatorState(
    connections_open={"options": 1},
    connections_total={"options": 2},
    logins={"options": 2},
    logins_failed={"options": 0},
    evictions={"options": 1},
    slow_consumers={"options": 0},
    events={"options": 9},
    topics={"options": ()},
    rest_requests=3,
    rest_paths={"/v3/snapshot": 3},
    market_ns=7,
    speed=1.0,
)


class Switchboard:
    """The control application, asked as uvicorn would ask it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.faults = Faults(now=self.clock.monotonic())
        self.changes: list[ClockChange] = []
        self._app = Control(
            faults=self.faults,
            clock=self.clock,
            state=lambda: STATE,
            change_clock=self.changes.append,
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        peer: str | None = "127.0.0.1",
        headers: list[tuple[bytes, bytes]] = [],  # noqa: B006 - never changed
    ) -> tuple[int, Any]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": f"/_simulator/{path}",
            "headers": headers,
            "query_string": b"",
            "client": None if peer is None else (peer, 5),
        }
        await self._app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], msgspec.json.decode(answer) if answer[:1] in b"{[" else answer


async def test_the_state_is_shown() -> None:
    status, state = await Switchboard().ask("GET", "state")

    assert status == 200
    assert msgspec.convert(state, SimulatorState) == STATE


async def test_a_script_is_played_shown_added_to_and_cleared() -> None:
    board = Switchboard()

    status, played = await board.ask("PUT", "faults", SCRIPT)
    assert status == 200
    assert played["script"]["seed"] == 3
    assert board.faults.for_stream(Stage.LIVE, "options", board.clock.monotonic()) == Drop()

    _, shown = await board.ask("GET", "faults")
    assert shown["statistics"] == [{"chances": 1, "struck": 1}]

    _, added = await board.ask("POST", "faults", SCRIPT)
    assert len(added["script"]["rules"]) == 2

    await board.ask("DELETE", "faults")
    assert board.faults.script.rules == ()


async def test_a_script_that_cannot_be_read_changes_nothing_and_says_why() -> None:
    board = Switchboard()
    board.faults.add([StreamRule(action=Drop())], now=0)

    status, answer = await board.ask("PUT", "faults", b'{"rules":[{"where":"moon"}]}')

    assert status == 400
    assert "moon" in answer["error"]
    assert len(board.faults.script.rules) == 1


async def test_the_clock_is_shown_and_hurried() -> None:
    board = Switchboard()

    assert await board.ask("GET", "clock") == (200, {"market_ns": 7, "speed": 1.0})
    await board.ask("POST", "clock", b'{"speed":10,"jump_s":60}')

    assert board.changes == [ClockChange(speed=10, jump_s=60)]


@pytest.mark.parametrize("body", [b"", b'{"speed":0}', b'{"jump_s":-1}', b'{"when":1}', b"\xff"])
async def test_a_clock_cannot_stop_or_go_back(body: bytes) -> None:
    board = Switchboard()

    status, answer = await board.ask("POST", "clock", body)

    assert (status, board.changes) == (400, [])
    assert answer["error"]


@pytest.mark.parametrize("peer", ["10.0.0.7", "8.8.8.8", "2001:db8::1", "not an address", None])
async def test_another_host_is_refused(peer: str | None) -> None:
    board = Switchboard()

    status, _ = await board.ask("PUT", "faults", SCRIPT, peer=peer)

    assert (status, board.faults.script.rules) == (403, ())


async def test_a_page_in_this_hosts_browser_is_refused() -> None:
    headers = [(b"origin", b"https://evil.example")]

    assert (await Switchboard().ask("GET", "state", headers=headers))[0] == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_host_has_several_addresses(peer: str) -> None:
    assert is_local({"client": (peer, 1), "headers": []})


async def test_what_is_not_here_is_not_found() -> None:
    board = Switchboard()

    assert (await board.ask("GET", "nothing"))[0] == 404
    assert (await board.ask("PATCH", "faults"))[0] == 405


DOCS = (Path(__file__).parents[2] / "docs/simulator.md").read_text("utf-8")
MODULE = sys.modules[Control.__module__].__doc__ or ""


def test_every_request_and_every_field_of_the_state_is_documented() -> None:
    requests = re.findall(r"^    ([A-Z]+) +(/_simulator/\w+)", MODULE, re.MULTILINE)

    assert len(requests) == 7
    assert all(f"`{method} {path}`" in DOCS for method, path in requests)
    assert all(f"`{name}`" in DOCS for name in SimulatorState.__struct_fields__)
