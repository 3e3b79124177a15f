"""Every metric is documented, every request one line, every alert fires and clears."""

import asyncio
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onetape.consolidation import ConsolidationStatistics
from onetape.core.recovery import BreakerState
from onetape.gateway.auth import AuthStatistics
from onetape.gateway.fanout import HubStatistics
from onetape.gateway.market import MarketFacts
from onetape.gateway.market_session import MarketStatistics
from onetape.gateway.telemetry import Telemetry, TelemetryPolicy, status_class
from onetape.hub import HubMetrics
from onetape.hybrid.fallback import FallbackStatistics
from onetape.hybrid.providers import HybridStatistics
from onetape.hybrid.verdicts import Why
from onetape.massive.notices import FeedStatistics, State
from onetape.massive.rest import RestStatistics
from onetape.massive.wire_rest import Endpoint
from onetape.model import AssetClass, ProviderHealth
from onetape.testing import ManualClock

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"

IDLE = FeedStatistics(
    state=State.IDLE,
    topics_wanted=0,
    topics_acked=0,
    topics_failed=0,
    frames=0,
    events=0,
    bytes=0,
    garbled=0,
    reconnects=0,
    evictions=0,
    auth_failures=0,
    last_frame_ns=None,
    connected_since_ns=None,
)


class Journal:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


class Request(NamedTuple):
    method: str = "GET"
    endpoint: str = Endpoint.AGGREGATES
    status: int = 200
    duration_s: float = 0.0123
    sent_bytes: int = 100
    client: str | None = "abcdefgh"
    how: str | None = "hit"
    code: str | None = None
    request_id: str | None = "0f"
    peer: str = "192.0.2.1"


class Ended(NamedTuple):
    asset: str = "options"
    peer: str = "192.0.2.1"
    key_id: str | None = "abcdefgh"
    code: str = "slow_reader"
    duration_s: float = 12.3456
    topics: int = 3
    events: int = 40
    bytes_out: int = 500
    conflated: int = 6


class Desk:
    def __init__(self, policy: TelemetryPolicy | None = None) -> None:
        self.clock = ManualClock()
        self.journal = Journal()
        self.telemetry = Telemetry(
            clock=self.clock,
            log=self.journal,
            version="1.2.3",
            policy=policy or TelemetryPolicy(),
        )

    async def samples(self) -> dict[str, float]:
        text = (await self.telemetry.render()).decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines)}


async def test_a_request_is_counted_and_told_in_one_line() -> None:
    """R263: structured event names."""
    desk = Desk()

    desk.telemetry.rest_request(Request())

    assert desk.journal.events == [
        (
            "request.finished",
            {
                "method": "GET",
                "endpoint": "aggregates",
                "status": 200,
                "duration_ms": 12.3,
                "cache": "hit",
                "key_id": "abcdefgh",
                "code": None,
                "request_id": "0f",
                "bytes": 100,
                "peer": "192.0.2.1",
            },
        )
    ]
    samples = await desk.samples()
    assert samples['onetape_requests_total{endpoint="aggregates",status="2xx"}'] == 1
    assert samples['onetape_request_seconds_bucket{endpoint="aggregates",le="0.025"}'] == 1
    assert samples['onetape_answers_total{how="hit"}'] == 1
    assert samples["onetape_sent_bytes_total"] == 100


async def test_a_failed_request_is_counted_by_its_code() -> None:
    desk = Desk()

    desk.telemetry.rest_request(Request(status=403, how=None, code="token_expired", client=None))

    samples = await desk.samples()
    assert samples['onetape_request_errors_total{code="token_expired"}'] == 1
    assert samples['onetape_requests_total{endpoint="aggregates",status="4xx"}'] == 1


def test_access_lines_may_be_thinned_but_errors_are_always_told() -> None:
    every_third, none = Desk(TelemetryPolicy(log_every=3)), Desk(TelemetryPolicy(log_every=0))

    for desk in (every_third, none):
        for _ in range(7):
            desk.telemetry.rest_request(Request())
        desk.telemetry.rest_request(Request(status=502))

    assert [fields["status"] for _, fields in every_third.journal.events] == [200, 200, 502]
    assert [fields["status"] for _, fields in none.journal.events] == [502]


async def test_a_closed_session_is_counted_and_told_in_one_line() -> None:
    desk = Desk()

    desk.telemetry.session_closed(Ended())

    assert desk.journal.names == ["session.closed"]
    assert desk.journal.events[0][1]["duration_s"] == 12.346
    samples = await desk.samples()
    assert samples['onetape_session_closes_total{asset="options",code="slow_reader"}'] == 1


async def test_the_quota_alert_fires_at_80_percent_once_and_clears_below() -> None:
    """R261: alert at 80 %, clears below."""
    desk = Desk(TelemetryPolicy(quota_per_minute=100))
    seen: list[float] = []

    for requests in (79, 80, 95, 79, 10):
        desk.telemetry.observe_quota({"aggregates": requests - 5, "trades": 5})
        seen.append(desk.telemetry.quota_alert.value())

    assert seen == [0, 1, 1, 0, 0]
    assert desk.journal.events == [
        ("quota.high", {"used": 0.8, "limit_per_minute": 100}),
        ("quota.normal", {"used": 0.79, "limit_per_minute": 100}),
    ]


async def test_an_endpoint_nobody_asks_any_more_falls_to_zero() -> None:
    """R261: a rolling minute counter by endpoint."""
    desk = Desk()

    desk.telemetry.observe_quota({"aggregates": 7})
    desk.telemetry.observe_quota({"trades": 1})

    samples = await desk.samples()
    assert samples['onetape_upstream_requests_per_minute{endpoint="aggregates"}'] == 0
    assert samples['onetape_upstream_requests_per_minute{endpoint="trades"}'] == 1
    assert desk.journal.events == [], "without a known plan there is no alert"


async def test_what_others_count_is_copied_at_each_scrape() -> None:
    desk = Desk()
    counted = {"client_key": 1}

    def copy() -> None:
        desk.telemetry.observe_auth(
            AuthStatistics(
                minted=dict(counted),
                failures={"token_invalid": 4},
                static_token_uses=2,
                tokens_revoked=1,
                verified=3,
            )
        )

    desk.telemetry.on_scrape(copy)
    await desk.samples()
    counted["client_key"] = 5
    samples = await desk.samples()

    assert samples['onetape_tokens_minted_total{by="client_key"}'] == 5
    assert samples['onetape_auth_failures_total{reason="token_invalid"}'] == 4
    assert samples["onetape_static_token_uses_total"] == 2
    assert samples["onetape_tokens_revoked_total"] == 1


async def test_the_vendors_rest_side_is_told() -> None:
    """R261."""
    desk = Desk(TelemetryPolicy(quota_per_minute=10))

    desk.telemetry.observe_rest(
        RestStatistics(
            requests=5,
            attempts=7,
            throttled=2,
            failures=1,
            in_flight=3,
            cooling_s=1.5,
            consecutive_failures=0,
            last_success_ns=None,
            last_failure_ns=None,
            last_failure=None,
            latency_p50_s=None,
            latency_p95_s=None,
            breakers={
                Endpoint.TRADES: BreakerState.OPEN,
                Endpoint.QUOTES: BreakerState.CLOSED,
            },
            per_minute={"trades": 9},
        )
    )
    desk.telemetry.rest_request(Request(how="miss", status=404))

    samples = await desk.samples()
    assert samples["onetape_upstream_requests_total"] == 7
    assert samples["onetape_upstream_throttled_total"] == 2
    assert samples["onetape_upstream_failures_total"] == 1
    assert samples["onetape_upstream_requests_in_flight"] == 3
    assert samples["onetape_upstream_cooling_seconds"] == 1.5
    assert samples['onetape_upstream_breaker_open{endpoint="trades"}'] == 1
    assert samples['onetape_upstream_breaker_open{endpoint="quotes"}'] == 0
    assert samples["onetape_upstream_quota_alert"] == 1
    assert samples['onetape_upstream_answers_total{endpoint="aggregates",status="4xx"}'] == 1


async def test_a_hub_and_its_upstream_are_told_by_asset() -> None:
    """R260: the age of the last frame; R262: reconnects, to be watched."""
    desk = Desk()
    hub = HubStatistics(*range(1, 1 + len(HubStatistics._fields)))
    feed = IDLE._replace(
        state=State.LIVE, reconnects=4, last_frame_ns=desk.clock.now_ns() - 11_000_000_000
    )

    desk.telemetry.observe_hub(AssetClass.OPTIONS, hub, feed)

    samples = await desk.samples()
    assert samples['onetape_sessions{asset="options"}'] == hub.clients
    assert samples['onetape_events_out_total{asset="options"}'] == hub.events_out
    assert samples['onetape_slow_reader_cuts_total{asset="options"}'] == hub.slow_readers
    assert samples['onetape_upstream_state{asset="options",state="live"}'] == 1
    assert samples['onetape_upstream_state{asset="options",state="cooling"}'] == 0
    assert samples['onetape_upstream_reconnects_total{asset="options"}'] == 4
    assert samples['onetape_upstream_last_frame_age_seconds{asset="options"}'] == 11


async def test_the_sockets_of_the_view_are_told_like_the_others() -> None:
    desk = Desk()
    desk.telemetry.observe_desk(
        MarketStatistics(
            clients=2,
            congested=1,
            keys=3,
            keys_lingering=0,
            subscriptions=4,
            ticks=5,
            events_out=6,
            bytes_out=7,
            conflated=8,
            slow_readers=9,
        )
    )
    samples = await desk.samples()

    names = ("sessions", "topics", "subscriptions", "events_out_total", "bytes_out_total")
    assert [samples[f'onetape_{name}{{asset="market"}}'] for name in names] == [2, 3, 4, 6, 7]


async def test_providers_fallbacks_and_the_view_are_told() -> None:
    """R220, R237: a counter for each trigger of a fallback."""
    desk = Desk()
    now_ns = desk.clock.now_ns()
    facts = MarketFacts(
        confidence=None,
        hub=HubMetrics(
            view=ConsolidationStatistics(
                watched=3,
                known=2,
                failed=1,
                accepted=9,
                outdated=0,
                unwanted=0,
                ticks=9,
                snapshots=1,
            ),
            tick_subscribers=1,
            snapshot_subscribers=1,
            dropped=4,
            failures=0,
            polls=5,
            poll_failures=1,
            rounds=2,
            late_rounds=1,
            last_poll_ns=None,
            last_update_ns=now_ns - 3_000_000_000,
            providers=(),
        ),
        providers={
            "broker": (
                ProviderHealth(
                    provider="massive",
                    healthy=False,
                    status="open",
                    requests=7,
                    failures=3,
                    mean_response_time_s=0.25,
                ),
                ProviderHealth(provider="tradier", healthy=True, status="ok"),
            )
        },
        hybrids={
            "broker": HybridStatistics(
                fallback=FallbackStatistics(
                    fallbacks={Why.DOWN: 3},
                    switches=1,
                    called_off=0,
                    on_secondary=2,
                    probes=1,
                    hedged=0,
                ),
                relays=0,
                polling=0,
                reader_failures=0,
            )
        },
    )
    desk.telemetry.observe_market(facts)
    desk.telemetry.observe_market(
        facts._replace(hub=facts.hub._replace(last_update_ns=None), providers={}, hybrids={})
    )
    samples = await desk.samples()

    by = '{data="broker",provider="massive"}'
    assert samples["onetape_provider_healthy" + by] == 0
    assert samples["onetape_provider_requests_total" + by] == 7
    assert samples["onetape_provider_failures_total" + by] == 3
    assert samples["onetape_provider_response_seconds" + by] == 0.25
    assert samples['onetape_provider_healthy{data="broker",provider="tradier"}'] == 1
    assert samples[f'onetape_fallbacks_total{{data="broker",why="{Why.DOWN}"}}'] == 3
    assert samples['onetape_provider_switches_total{data="broker"}'] == 1
    assert samples['onetape_on_secondary{data="broker"}'] == 2
    assert samples["onetape_hub_parts_watched"] == 3
    assert samples["onetape_hub_readers"] == 2
    assert samples["onetape_hub_dropped_ticks_total"] == 4
    assert samples["onetape_hub_last_update_age_seconds"] == 3


async def test_an_upstream_without_frames_has_no_age() -> None:
    desk = Desk()
    hub = HubStatistics(*[0] * len(HubStatistics._fields))

    desk.telemetry.observe_hub(AssetClass.STOCKS, hub, IDLE)

    assert not any("frame_age" in name or "last_frame" in name for name in await desk.samples())


async def test_the_process_and_the_build_are_told() -> None:
    desk = Desk()
    desk.clock.advance(5)

    samples = await desk.samples()

    assert samples['onetape_build_info{version="1.2.3"}'] == 1
    assert samples["onetape_uptime_seconds"] == 5
    assert samples["process_resident_memory_bytes"] > 0


async def test_the_loops_lag_is_measured_until_the_next_scrape() -> None:
    class Slow(ManualClock):
        """Each look at the clock costs 0.1 s, as if the loop were held up."""

        def monotonic(self) -> float:
            self.advance(0.1)
            return super().monotonic()

    telemetry = Telemetry(
        clock=Slow(),
        log=Journal(),
        version="1",
        policy=TelemetryPolicy(lag_interval_s=0.0),
    )
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(telemetry.run())
        for _ in range(4):
            await asyncio.sleep(0)
        run.cancel()

    await telemetry.render()
    assert telemetry.loop_lag.value() == pytest.approx(0.1)
    await telemetry.render()
    assert telemetry.loop_lag.value() == 0


async def test_two_gateways_in_one_process_do_not_share_numbers() -> None:
    one, two = Desk(), Desk()

    one.telemetry.rest_request(Request())

    assert "onetape_sent_bytes_total" not in await two.samples()


async def test_what_a_client_sends_makes_no_label() -> None:
    desk = Desk()

    for n in range(50):
        desk.telemetry.rest_request(Request(endpoint=f"/made/up/{n}", how=f"{n}", code=f"{n}"))

    samples = await desk.samples()
    assert samples['onetape_requests_total{endpoint="other",status="2xx"}'] == 50
    assert len([name for name in samples if name.startswith("onetape_requests_total")]) == 1


@pytest.mark.parametrize(
    ("status", "named"), [(200, "2xx"), (304, "3xx"), (499, "4xx"), (0, "error"), (700, "error")]
)
def test_a_status_has_a_class(status: int, named: str) -> None:
    assert status_class(status) == named


def test_docs_list_every_metric_with_its_labels() -> None:
    documented = {
        match[1]: tuple(re.findall(r"\w+", match[2]))
        for match in re.finditer(
            r"^\| `(onetape_\w+)` \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE
        )
    }

    assert documented == {family.name: family.labels for family in Desk().telemetry.all}


def test_each_keys_share_of_the_quota_is_shown_and_goes_back_to_zero() -> None:
    """R261."""
    telemetry = Telemetry(clock=ManualClock(), log=Journal(), version="0")

    telemetry.observe_clients({"k1": 7})
    telemetry.observe_clients({"k2": 3})

    assert telemetry.client_minute.value("k1") == 0
    assert telemetry.client_minute.value("k2") == 3
