"""Alive is one thing, ready another; nobody's idle upstream is a fault."""

from collections.abc import Sequence
from typing import Any

import pytest

from onetape.consolidation import ConsolidationStatistics
from onetape.gateway.health import GatewayFacts, Health, HubFacts, RestFacts
from onetape.gateway.market import MarketFacts
from onetape.hub import HubMetrics
from onetape.massive.notices import State
from onetape.model import AssetClass, ProviderHealth
from onetape.testing import ManualClock

SECOND = 1_000_000_000
OPEN_NS = 1_764_000_000 * SECOND  # Monday 24 November 2025, 11:00 in New York
NIGHT_NS = OPEN_NS + 12 * 3600 * SECOND
LIVE = HubFacts(
    asset=AssetClass.OPTIONS,
    state=State.LIVE,
    clients=2,
    topics=3,
    last_frame_ns=OPEN_NS,
    reconnects=0,
    last_error=None,
    connected_since_ns=OPEN_NS - SECOND,
)


class Hub:
    def __init__(self, facts: HubFacts) -> None:
        self._facts = facts

    def facts(self) -> HubFacts:
        return self._facts


def health(
    *hubs: HubFacts,
    key_present: bool = True,
    rest: RestFacts | None = None,
    draining: bool = False,
    market: MarketFacts | None = None,
    now_ns: int = OPEN_NS,
) -> Health:
    return Health(
        GatewayFacts(version="1.2.3", key_present=key_present, simulated=True),
        [Hub(facts) for facts in hubs],
        clock=ManualClock(now_ns=now_ns),
        rest=lambda: rest or RestFacts(),
        market=lambda: market,
        is_draining=lambda: draining,
    )


def warnings(*hubs: HubFacts, now_ns: int = OPEN_NS) -> object:
    return health(*hubs, now_ns=now_ns).websockets()["warnings"]


def test_all_well_reads_so() -> None:
    """R32, R258: a plain schema, component by component."""
    assert health(LIVE, rest=RestFacts(latency_ms=12.5, quota_remaining=99)).liveness() == {
        "status": "ok",
        "reasons": [],
        "version": "1.2.3",
        "simulated": True,
        "uptime_s": 0.0,
        "timestamp": OPEN_NS // 1_000_000,
        "components": {
            "rest": {"healthy": True, "latencyMs": 12.5, "lastError": None},
            "websocket": {
                "healthy": True,
                "lastMessageTime": OPEN_NS // 1_000_000,
                "activeSubscriptions": 3,
            },
            "upstream": {"healthy": True, "rateLimitRemaining": 99},
        },
    }


@pytest.mark.parametrize(
    ("well", "reasons"),
    [
        (health(LIVE, key_present=False), ["key_missing"]),
        (health(LIVE, draining=True), ["draining"]),
        (health(LIVE, rest=RestFacts(healthy=False, last_error="timeout")), ["rest_down"]),
        (health(LIVE._replace(state=State.BACKING_OFF)), ["stream_down:options"]),
        (health(LIVE._replace(state=State.COOLING)), ["stream_down:options"]),
        (health(LIVE._replace(state=State.COOLING, clients=0)), []),
        (health(LIVE._replace(state=State.CONNECTING)), []),
        (health(LIVE._replace(state=State.IDLE, clients=0)), []),
        (health(), []),
    ],
)
def test_degraded_and_not_ready_have_the_same_reasons(well: Health, reasons: Sequence[str]) -> None:
    """R25, R32: degraded without a key, and when a needed upstream is down."""
    assert well.liveness()["status"] == ("degraded" if reasons else "ok")
    assert well.readiness() == {"ready": not reasons, "reasons": reasons}


def test_the_upstream_component_needs_key_rest_and_sockets() -> None:
    """R258: transitions."""
    for well in (
        health(LIVE, key_present=False),
        health(LIVE, rest=RestFacts(healthy=False)),
        health(LIVE._replace(state=State.BACKING_OFF)),
    ):
        components = well.liveness()["components"]
        assert isinstance(components, dict)
        assert components["upstream"]["healthy"] is False


def test_ws_health_has_the_shape_clients_know() -> None:
    body = health(LIVE, LIVE._replace(asset=AssetClass.INDICES, clients=0)).websockets()

    assert list(body) == ["healthy", "timestamp", "metrics", "warnings", "limits"]
    assert body["limits"] == {"maxUpstreamConnections": 2}
    metrics = body["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["options"] == {
        "totalClients": 2,
        "upstreamConnections": 1,
        "activeSubscriptions": 3,
        "connectionState": "connected",
        "upstreamState": "live",
        "lastError": None,
        "lastConnectedAt": OPEN_NS // 1_000_000 - 1_000,
        "lastMessageTime": OPEN_NS // 1_000_000,
        "reconnectAttempts": 0,
    }


@pytest.mark.parametrize(
    ("state", "named", "healthy"),
    [
        (State.LIVE, "connected", True),
        (State.CONNECTING, "connecting", True),
        (State.GREETING, "connecting", True),
        (State.AUTHENTICATING, "connecting", True),
        (State.IDLE, "disconnected", True),
        (State.CLOSING, "disconnected", True),
        (State.BACKING_OFF, "error", False),
        (State.COOLING, "error", False),
    ],
)
def test_every_state_has_a_word_clients_know(state: State, named: str, healthy: bool) -> None:
    body = health(LIVE._replace(state=state)).websockets()

    metrics = body["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["options"]["connectionState"] == named
    assert body["healthy"] is healthy
    assert (body["warnings"] == [f"options: upstream is {state.replace('_', ' ')}"]) is not healthy


def test_silence_is_alarming_from_ten_seconds_on_in_market_hours() -> None:
    """R260: the alert fires at 10 s."""
    assert warnings(LIVE, now_ns=OPEN_NS + 10 * SECOND) == []
    assert warnings(LIVE, now_ns=OPEN_NS + 11 * SECOND) == ["options: nothing arrived for 11 s"]
    assert warnings(LIVE._replace(topics=0), now_ns=OPEN_NS + 11 * SECOND) == []
    assert warnings(LIVE, now_ns=NIGHT_NS) == []


def test_silence_since_the_connection_counts_too() -> None:
    mute = LIVE._replace(last_frame_ns=None)

    assert warnings(mute, now_ns=OPEN_NS + 20 * SECOND) == ["options: nothing arrived for 21 s"]
    assert warnings(mute._replace(connected_since_ns=None)) == []


def test_beyond_the_calendar_silence_is_not_judged() -> None:
    far = OPEN_NS + 100 * 365 * 86_400 * SECOND

    assert warnings(LIVE, now_ns=far) == []


def test_flapping_is_reported_while_it_is_recent() -> None:
    """R262: synthetic flapping triggers the rule."""
    flapping = LIVE._replace(reconnects=4)

    assert warnings(flapping) == ["options: 4 reconnects so far, the last within minutes"]
    assert warnings(flapping._replace(reconnects=3)) == []
    assert warnings(flapping._replace(connected_since_ns=OPEN_NS - 301 * SECOND)) == []


VIEW = HubMetrics(
    view=ConsolidationStatistics(
        watched=3, known=2, failed=1, accepted=9, outdated=0, unwanted=0, ticks=9, snapshots=1
    ),
    tick_subscribers=1,
    snapshot_subscribers=1,
    dropped=0,
    failures=0,
    polls=5,
    poll_failures=1,
    rounds=2,
    late_rounds=0,
    last_poll_ns=OPEN_NS - 2 * SECOND,
    last_update_ns=None,
    providers=(),
)


def test_the_data_layer_is_described_provider_by_provider() -> None:
    """R226, R237: each for what it is asked for, and what the hub has."""
    provider = ProviderHealth(
        provider="massive",
        healthy=False,
        status="open",
        fallbacks=4,
        last_failure="MASSIVE_API_ERROR: the vendor's own words",
        last_failure_code="upstream_down",
    )
    facts = MarketFacts(hub=VIEW, confidence=85, providers={"broker": (provider,)}, hybrids={})
    body: Any = health(LIVE, market=facts).liveness()

    (one,) = body["providers"]
    assert (one["data"], one["provider"], one["status"]) == ("broker", "massive", "open")
    assert (one["healthy"], one["fallbacks"], one["last_failure"]) == (False, 4, "upstream_down")
    assert body["hub"] == {
        "watched": 3,
        "known": 2,
        "failed": 1,
        "healthy": False,
        "confidence": 85,
        "subscribers": 2,
        "last_update_age_s": None,
        "last_poll_age_s": 2.0,
        "poll_failures": 1,
    }


def test_a_provider_that_another_stands_in_for_does_not_degrade_the_gateway() -> None:
    provider = ProviderHealth(provider="massive", healthy=False, status="open")
    facts = MarketFacts(hub=VIEW, confidence=85, providers={"broker": (provider,)}, hybrids={})

    assert health(LIVE, market=facts).liveness()["status"] == "ok"
