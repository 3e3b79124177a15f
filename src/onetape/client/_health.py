"""How a client fares: one picture of its parts, made when asked for.

ok             all that is needed works
degraded       something does not, and something else stands in: polls for streams
down           neither REST nor a stream answers
disconnected   not connected, or no longer
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Protocol, cast

import msgspec

from onetape.client._cache import ClientCacheStatistics
from onetape.client._endpoint import EndpointHealth, EndpointState
from onetape.client._notices import TransportStatistics
from onetape.client._rest import GatewayStatistics
from onetape.client._tokens import TokenStatistics
from onetape.model import AssetClass


class Status(StrEnum):
    """The whole in a word."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    DISCONNECTED = "disconnected"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The parts' own figures, and what follows from them. Times in ns UTC, durations in s."""

    status: Status
    reasons: tuple[str, ...]
    """What is wrong: `rest`, `token`, and endpoints by name, as `stream:options`."""
    rest: GatewayStatistics
    streams: Mapping[AssetClass, EndpointHealth]
    token: TokenStatistics
    cache: ClientCacheStatistics
    transport: TransportStatistics
    simulated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return all of it by name, for JSON and for logs."""
        return {name: _named(getattr(self, name)) for name in self.__struct_fields__}


def judge(
    *,
    is_connected: bool,
    rest: GatewayStatistics,
    streams: Mapping[AssetClass, EndpointHealth],
    token: TokenStatistics,
    cache: ClientCacheStatistics,
    transport: TransportStatistics,
) -> Health:
    """Put the parts together and say how the whole is."""
    reasons = tuple(_reasons(rest, streams, token)) if is_connected else ("not_connected",)
    is_streaming = any(health.authenticated for health in streams.values())
    status = Status.DEGRADED if reasons else Status.OK
    if not rest.healthy and not is_streaming:
        status = Status.DOWN
    return Health(
        status=status if is_connected else Status.DISCONNECTED,
        reasons=reasons,
        rest=rest,
        streams=streams,
        token=token,
        cache=cache,
        transport=transport,
        simulated=rest.simulated or any(health.simulated for health in streams.values()),
    )


def _reasons(
    rest: GatewayStatistics, streams: Mapping[AssetClass, EndpointHealth], token: TokenStatistics
) -> Iterator[str]:
    if not rest.healthy:
        yield "rest"
    if not token.valid or token.consecutive_failures:
        yield "token"
    for asset, health in streams.items():
        if health.state is not EndpointState.IDLE and not health.authenticated:
            yield f"stream:{asset}"


class _Fields(Protocol):
    def _asdict(self) -> dict[str, Any]: ...


def _named(value: Any) -> Any:
    """Turn named tuples into mappings, which JSON keeps the names of."""
    if hasattr(value, "_asdict"):
        fields: _Fields = value
        value = fields._asdict()  # pyright: ignore[reportPrivateUsage] - public, for all its name
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, Any]", value)
        return {str(name): _named(entry) for name, entry in entries.items()}
    return value
