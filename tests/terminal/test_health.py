import msgspec

from onetape.client import Health, MassiveDataProvider, Status
from onetape.client._endpoint import EndpointHealth, EndpointState
from onetape.model import AssetClass
from onetape.terminal.health import COLUMNS, Line, drawn, lines_of
from onetape.terminal.records import csv_of

NOW = 1_795_194_000_000_000_000
GATEWAY = {
    "status": "degraded",
    "reasons": ["rest_down"],
    "version": "9.9.9",
    "simulated": True,
    "uptime_s": 0.25,
    "components": {
        "rest": {"healthy": False, "latencyMs": 12.34, "lastError": "upstream_down"},
        "websocket": {"healthy": True, "lastMessageTime": NOW // 1_000_000, "flag": True},
    },
}
STREAM = EndpointHealth(
    asset=AssetClass.OPTIONS,
    state=EndpointState.DOWN,
    authenticated=False,
    upstream_up=True,
    simulated=True,
    topics_wanted=3,
    topics_acked=2,
    topics_failed=1,
    last_message_ns=NOW,
    messages=5,
    messages_per_s=1.25,
    undecodable=0,
    unmodelled=0,
    reconnects=4,
    auth_failures=0,
    lag_s=0.012,
    since_ns=NOW,
)


async def client(**changes: object) -> Health:
    massive = MassiveDataProvider("http://127.0.0.1:1", "ot_key")
    return msgspec.structs.replace(massive.get_health(), **changes)


async def test_every_part_has_its_line_the_gateways_first() -> None:
    health = await client(status=Status.DEGRADED, reasons=("token",), streams={"options": STREAM})
    lines = {line.part: line for line in lines_of(GATEWAY, health, now_ns=NOW)}

    assert [*lines] == [
        "gateway",
        "gateway rest",
        "gateway websocket",
        "client",
        "client rest",
        "client options",
        "client token",
        "client cache",
    ]
    assert lines["gateway"][1:] == (False, "degraded", "rest_down  version 9.9.9  up 250 ms")
    rest = Line("gateway rest", False, "failing", "latency ms 12.3  last error upstream_down")
    assert lines["gateway rest"] == rest
    assert lines["gateway websocket"].figures == "last message 12:00:00 EST  flag True"
    assert lines["client"][1:] == (False, "degraded", "token")
    assert lines["client options"][1:] == (
        False,
        "down",
        "topics 2/3  failed 1  events/s 1.2  reconnects 4  lag 12 ms  last frame 12:00:00 EST",
    )
    assert lines["client token"].state == "missing"


async def test_providers_are_shown_once_the_gateway_tells_them() -> None:
    massive = {
        "provider": "massive",
        "healthy": True,
        "status": "ok",
        "last_success_ns": NOW,
        "response_time_s": 0.5,
    }
    tradier = {"provider": "tradier", "healthy": False, "status": "open", "failures": 3}
    tradier["data"] = "options"
    lines = lines_of({"status": "ok", "providers": [massive, tradier]}, await client(), now_ns=NOW)

    assert lines[0] == Line("gateway", True, "ok", "")
    assert lines[1] == Line(
        "provider massive", True, "ok", "last success 12:00:00 EST  response time 500 ms"
    )
    assert lines[2] == Line("provider tradier options", False, "open", "failures 3")


async def test_the_gateways_own_view_has_its_line() -> None:
    hub = {"watched": 6, "known": 5, "last_update_age_s": 1.25, "last_poll_age_s": None}
    lines = lines_of({"status": "ok", "hub": hub}, await client(), now_ns=NOW)

    assert lines[1] == Line("gateway hub", True, "ok", "watched 6  known 5  last update age 1.2 s")


async def test_lines_are_drawn_for_people_and_written_for_programs() -> None:
    lines = lines_of(GATEWAY, await client(), now_ns=NOW)

    assert drawn(lines).row_count == len(lines)
    text = csv_of(lines, COLUMNS, now_ns=NOW).splitlines()
    assert text[0] == "part,is_well,state,figures"
    assert text[1] == "gateway,false,degraded,rest_down  version 9.9.9  up 250 ms"
