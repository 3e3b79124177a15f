"""Whether the gateway is well, from what its parts say.

Alive is answering at all. Ready is having a key and no upstream down that somebody
needs; an idle upstream is no fault, and neither is one that is just connecting.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from onetape import calendar
from onetape.clock import Clock
from onetape.errors import InvalidRequest
from onetape.gateway.market import MarketFacts
from onetape.massive.notices import State
from onetape.model import AssetClass, ProviderHealth

STALE_ALERT_S: Final = 10.0
"""Silence on a socket that is up, with topics and the market open, from which we warn."""

_FLAPPING_RECONNECTS: Final = 3
_FLAPPING_S: Final = 300.0
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_DOWN: Final = frozenset({State.BACKING_OFF, State.COOLING})
_CONNECTION: Final = {
    State.LIVE: "connected",
    State.CONNECTING: "connecting",
    State.GREETING: "connecting",
    State.AUTHENTICATING: "connecting",
    State.BACKING_OFF: "error",
    State.COOLING: "error",
}


class HubFacts(NamedTuple):
    """What health says of one asset class."""

    asset: AssetClass
    state: State
    clients: int
    topics: int
    last_frame_ns: int | None
    reconnects: int
    last_error: str | None
    connected_since_ns: int | None


class HubStatus(Protocol):
    """What we ask of a hub and its upstream."""

    def facts(self) -> HubFacts:
        """Say how it is now."""
        ...


class RestFacts(NamedTuple):
    """What health says of the vendor's REST side."""

    healthy: bool = True
    latency_ms: float | None = None
    last_error: str | None = None
    quota_remaining: int | None = None


class GatewayFacts(NamedTuple):
    """What health says of the whole."""

    version: str
    key_present: bool
    simulated: bool = False


class Health:
    """Answers for the whole gateway; asks its parts each time."""

    def __init__(
        self,
        facts: GatewayFacts,
        hubs: Sequence[HubStatus],
        *,
        clock: Clock,
        rest: Callable[[], RestFacts] = RestFacts,
        market: Callable[[], MarketFacts | None] = lambda: None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._facts = facts
        self._hubs = hubs
        self._clock = clock
        self._rest = rest
        self._market = market
        self._is_draining = is_draining
        self._started_at = clock.monotonic()

    def reasons(self) -> list[str]:
        """Say what is wrong, in words that scripts may compare; empty when all is well."""
        reasons = [] if self._facts.key_present else ["key_missing"]
        if self._is_draining():
            reasons.append("draining")
        if not self._rest().healthy:
            reasons.append("rest_down")
        reasons.extend(f"stream_down:{hub.asset}" for hub in self._hub_facts() if _is_down(hub))
        return reasons

    def liveness(self) -> dict[str, object]:
        """Describe the gateway, part by part."""
        reasons = self.reasons()
        return {
            "status": "degraded" if reasons else "ok",
            "reasons": reasons,
            "version": self._facts.version,
            "simulated": self._facts.simulated,
            "uptime_s": round(self._clock.monotonic() - self._started_at, 3),
            "timestamp": self._clock.now_ns() // _MS,
            "components": self._components(),
            **self._data(),
        }

    def readiness(self) -> dict[str, object]:
        """Say whether clients should be sent here, and why not."""
        reasons = self.reasons()
        return {"ready": not reasons, "reasons": reasons}

    def websockets(self) -> dict[str, object]:
        """Describe the live side, asset class by asset class."""
        hubs = self._hub_facts()
        return {
            "healthy": not any(map(_is_down, hubs)),
            "timestamp": self._clock.now_ns() // _MS,
            "metrics": {hub.asset: _ws_metrics(hub) for hub in hubs},
            "warnings": [
                warning for hub in hubs for warning in _warnings(hub, self._clock.now_ns())
            ],
            "limits": {"maxUpstreamConnections": len(hubs)},
        }

    def _hub_facts(self) -> list[HubFacts]:
        return [hub.facts() for hub in self._hubs]

    def _data(self) -> dict[str, object]:
        """Describe the data layer: who answers for what, and the hub's view."""
        facts = self._market()
        if facts is None:
            return {}
        hub = facts.hub
        return {
            "providers": [
                {"data": data, **msgspec.to_builtins(_in_our_words(one))}
                for data, providers in facts.providers.items()
                for one in providers
            ],
            "hub": {
                "watched": hub.view.watched,
                "healthy": not hub.view.failed,
                "known": hub.view.known,
                "failed": hub.view.failed,
                "confidence": facts.confidence,
                "subscribers": hub.tick_subscribers + hub.snapshot_subscribers,
                "last_update_age_s": _age_s(hub.last_update_ns, self._clock.now_ns()),
                "last_poll_age_s": _age_s(hub.last_poll_ns, self._clock.now_ns()),
                "poll_failures": hub.poll_failures,
            },
        }

    def _components(self) -> dict[str, object]:
        hubs, rest = self._hub_facts(), self._rest()
        frames = [hub.last_frame_ns for hub in hubs if hub.last_frame_ns is not None]
        down = any(map(_is_down, hubs))
        return {
            "rest": {
                "healthy": rest.healthy,
                "latencyMs": rest.latency_ms,
                "lastError": rest.last_error,
            },
            "websocket": {
                "healthy": not down,
                "lastMessageTime": max(frames) // _MS if frames else None,
                "activeSubscriptions": sum(hub.topics for hub in hubs),
            },
            "upstream": {
                "healthy": self._facts.key_present and rest.healthy and not down,
                "rateLimitRemaining": rest.quota_remaining,
            },
        }


def _is_down(hub: HubFacts) -> bool:
    return hub.clients > 0 and hub.state in _DOWN


def _ws_metrics(hub: HubFacts) -> dict[str, object]:
    return {
        "totalClients": hub.clients,
        "upstreamConnections": int(hub.state is State.LIVE),
        "activeSubscriptions": hub.topics,
        "connectionState": _CONNECTION.get(hub.state, "disconnected"),
        "upstreamState": hub.state,
        "lastError": hub.last_error,
        "lastConnectedAt": _ms(hub.connected_since_ns),
        "lastMessageTime": _ms(hub.last_frame_ns),
        "reconnectAttempts": hub.reconnects,
    }


def _warnings(hub: HubFacts, now_ns: int) -> Iterator[str]:
    if hub.state in _DOWN:
        yield f"{hub.asset}: upstream is {hub.state.replace('_', ' ')}"
    since_ns = hub.connected_since_ns
    is_young = since_ns is None or (now_ns - since_ns) / _NS < _FLAPPING_S
    if hub.reconnects > _FLAPPING_RECONNECTS and is_young and hub.clients:
        yield f"{hub.asset}: {hub.reconnects} reconnects so far, the last within minutes"
    if hub.state is State.LIVE and hub.topics and _is_market_open(now_ns):
        silent_s = (now_ns - (hub.last_frame_ns or since_ns or now_ns)) / _NS
        if silent_s > STALE_ALERT_S:
            yield f"{hub.asset}: nothing arrived for {math.floor(silent_s)} s"


def _in_our_words(provider: ProviderHealth) -> ProviderHealth:
    """Leave the vendor's words out: who may read this is not known."""
    return msgspec.structs.replace(provider, last_failure=provider.last_failure_code)


def _age_s(at_ns: int | None, now_ns: int) -> float | None:
    return None if at_ns is None else round((now_ns - at_ns) / _NS, 3)


def _ms(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // _MS


def _is_market_open(now_ns: int) -> bool:
    try:
        return calendar.session_of(now_ns) is calendar.Session.REGULAR
    except InvalidRequest:  # the table of sessions has an end
        return False
