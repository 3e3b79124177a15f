"""The table of operations, and the routes that are there: the same."""

from collections import Counter
from typing import Any, cast

import msgspec

from onetape.gateway.api import Api
from onetape.gateway.market_api import MarketApi
from onetape.gateway.metrics import LABELS
from onetape.gateway.operations import OPERATIONS, Access
from onetape.testing import ManualClock


def routes() -> list[Any]:
    """Return what is mounted; nothing of it is asked here."""
    make_api, make_market = cast("Any", Api), cast("Any", MarketApi)
    own = ("auth", "telemetry", "health", "callers", "limit")
    market = ("asker", "hub", "auth", "limit", "callers", "telemetry")
    providers = cast("Any", Counter())
    providers.broker = providers.options = None
    clock = ManualClock()
    return [
        *make_api(**dict.fromkeys(own), clock=clock).routes(),
        *make_market(**dict.fromkeys(market), providers=providers, clock=clock).routes(),
    ]


def test_every_operation_has_a_route_and_every_route_an_operation() -> None:
    paths = {path for operation in OPERATIONS.values() for path in operation.paths}

    assert Counter(route.path for route in routes()) == Counter(paths)


def test_every_route_answers_the_methods_of_its_operations() -> None:
    methods: dict[str, set[str]] = {}
    for operation in OPERATIONS.values():
        for path in operation.paths:
            methods.setdefault(path, set()).update(operation.methods)

    assert {route.path: set(route.app._handlers) for route in routes()} == methods


def test_everything_but_the_gateways_own_state_needs_a_credential() -> None:
    """R29."""
    public = {one.name for one in OPERATIONS.values() if one.access is Access.PUBLIC}

    assert public == {"health", "ready", "ws_health", "metrics", "market_status", "openapi"}


def test_aliases_lead_to_parameters_that_there_are() -> None:
    for operation in OPERATIONS.values():
        names = {one.encode_name for one in msgspec.structs.fields(operation.parameters)}
        assert set(operation.aliases.values()) <= names, operation.name
        assert not set(operation.aliases) & names, operation.name


def test_every_operation_is_counted_under_a_name_that_metrics_know() -> None:
    assert {operation.counted for operation in OPERATIONS.values()} <= LABELS["endpoint"]
