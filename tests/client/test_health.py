"""One word for the whole, and which part is to blame (R167, R120)."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from onetape.client import Status
from onetape.client._cache import ClientCache
from onetape.client._endpoint import EndpointHealth, EndpointState
from onetape.client._health import Health, judge
from onetape.client._rest import GatewayStatistics
from onetape.client._tokens import TokenStatistics
from onetape.client._transport import Transport
from onetape.massive.rest import RestStatistics
from onetape.model import AssetClass
from onetape.testing import ManualClock

OPTIONS, INDICES = AssetClass.OPTIONS, AssetClass.INDICES
UP, DOWN, IDLE = EndpointState.AUTHENTICATED, EndpointState.DOWN, EndpointState.IDLE
REST = RestStatistics(0, 0, 0, 0, 0, 0.0, 0, None, None, None, None, None, {}, {})
TOKEN = TokenStatistics(True, 300.0, 1, 1, 0, 0, None, 0.01)


def endpoint(asset: AssetClass, state: EndpointState) -> EndpointHealth:
    empty: dict[str, Any] = dict.fromkeys(EndpointHealth._fields, 0)
    facts: dict[str, Any] = {
        "asset": asset,
        "state": state,
        "authenticated": state is UP,
        "simulated": False,
    }
    return EndpointHealth(**(empty | facts))


def health_of(
    *,
    is_connected: bool = True,
    rest: bool = True,
    states: Mapping[AssetClass, EndpointState] | None = None,
    token: TokenStatistics = TOKEN,
) -> Health:
    states = {OPTIONS: UP, INDICES: UP} if states is None else states
    return judge(
        is_connected=is_connected,
        rest=GatewayStatistics(healthy=rest, refreshes=0, rest=REST),
        streams={asset: endpoint(asset, state) for asset, state in states.items()},
        token=token,
        cache=ClientCache(clock=ManualClock()).statistics(),
        transport=Transport(streamed=()).statistics(),
    )


@pytest.mark.parametrize(
    ("trouble", "status", "reasons"),
    [
        ({}, "ok", ()),
        ({"rest": False}, "degraded", ("rest",)),
        ({"states": {OPTIONS: DOWN, INDICES: UP}}, "degraded", ("stream:options",)),
        (
            {"states": {OPTIONS: DOWN, INDICES: EndpointState.CONNECTED}},
            "degraded",
            ("stream:options", "stream:indices"),
        ),
        ({"states": {OPTIONS: IDLE, INDICES: UP}}, "ok", ()),
        ({"states": {}}, "ok", ()),
        ({"token": TOKEN._replace(valid=False)}, "degraded", ("token",)),
        ({"token": TOKEN._replace(consecutive_failures=1)}, "degraded", ("token",)),
        ({"rest": False, "states": {}}, "down", ("rest",)),
        (
            {"rest": False, "states": {OPTIONS: DOWN}},
            "down",
            ("rest", "stream:options"),
        ),
        ({"is_connected": False}, "disconnected", ("not_connected",)),
        ({"is_connected": False, "rest": False, "states": {}}, "disconnected", ("not_connected",)),
    ],
    ids=str,
)
def test_each_part_in_trouble_is_named(
    trouble: dict[str, Any], status: str, reasons: tuple[str, ...]
) -> None:
    health = health_of(**trouble)

    assert (health.status, health.reasons) == (Status(status), reasons)


def test_health_is_a_plain_mapping_for_json_with_names_all_the_way_down() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(health_of().as_dict()))

    assert shown.keys() == set(Health.__struct_fields__)
    assert shown["streams"]["options"]["state"] == "authenticated"
    assert shown["rest"]["rest"]["breakers"] == {}
    assert shown["token"]["expires_in_s"] == 300.0
    assert shown["cache"]["hits"] == 0
    assert shown["transport"]["polling"] == 0


def test_a_simulated_vendor_is_told() -> None:
    real = health_of()
    simulated = endpoint(INDICES, UP)._replace(simulated=True)

    assert not real.simulated
    assert judge(
        is_connected=True,
        rest=real.rest,
        streams={INDICES: simulated},
        token=TOKEN,
        cache=real.cache,
        transport=real.transport,
    ).simulated
    assert judge(
        is_connected=True,
        rest=real.rest._replace(simulated=True),
        streams={},
        token=TOKEN,
        cache=real.cache,
        transport=real.transport,
    ).simulated, "without a stream REST tells"
