"""What the gateway tells about itself: metrics to scrape, and one log line per request.

Requests, closed sessions and errors are counted here when they happen. What the hubs,
the upstream and `Auth` count themselves is copied when somebody scrapes, so the path of
a tick knows nothing of metrics. `docs/metrics.md` lists every metric, held by a test.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from onetape.clock import Clock
from onetape.core.limits import ALERT_SHARE
from onetape.core.recovery import BreakerState
from onetape.gateway.auth import AuthStatistics
from onetape.gateway.fanout import HubStatistics
from onetape.gateway.logs import EventLog
from onetape.gateway.market import MarketFacts
from onetape.gateway.market_session import MarketStatistics
from onetape.gateway.metrics import MARKET, Family, Histogram
from onetape.hub import HubMetrics
from onetape.massive.notices import FeedStatistics, State
from onetape.massive.rest import RestStatistics
from onetape.model import AssetClass

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_CLASSES: Final = ("error", "1xx", "2xx", "3xx", "4xx", "5xx")
_NS: Final = 1_000_000_000


class RequestFacts(Protocol):
    """One request that is over."""

    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def endpoint(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def duration_s(self) -> float: ...  # noqa: D102
    @property
    def sent_bytes(self) -> int: ...  # noqa: D102
    @property
    def client(self) -> str | None: ...  # noqa: D102 - the key's public id
    @property
    def how(self) -> str | None: ...  # noqa: D102 - hit, miss, coalesced, stale
    @property
    def code(self) -> str | None: ...  # noqa: D102 - of the error, if one
    @property
    def request_id(self) -> str | None: ...  # noqa: D102
    @property
    def peer(self) -> str | None: ...  # noqa: D102 - None: the head could not be read


class SessionFacts(Protocol):
    """One client's socket that is closed."""

    @property
    def asset(self) -> str: ...  # noqa: D102
    @property
    def peer(self) -> str: ...  # noqa: D102
    @property
    def key_id(self) -> str | None: ...  # noqa: D102
    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def duration_s(self) -> float: ...  # noqa: D102
    @property
    def topics(self) -> int: ...  # noqa: D102
    @property
    def events(self) -> int: ...  # noqa: D102
    @property
    def bytes_out(self) -> int: ...  # noqa: D102
    @property
    def conflated(self) -> int: ...  # noqa: D102


class TelemetryPolicy(NamedTuple):
    """What is told, and when it is too much."""

    log_every: int = 1  # of requests that went well one in so many is logged; 0: none
    quota_per_minute: int | None = None  # requests the vendor's plan allows; None: any number
    lag_interval_s: float = 0.5


class _Make(Protocol):
    """Adds one family."""

    def __call__(self, name: str, text: str, /, *labels: str) -> Family: ...


class _Families:
    """Every metric, in the order of the documentation."""

    def __init__(self) -> None:
        self.all: list[Family | Histogram] = []
        self._http(self._counter, self._gauge)
        self._sockets(self._counter, self._gauge)
        self._upstream_sockets(self._counter, self._gauge)
        self._market(self._counter, self._gauge)
        self._credentials(self._counter)
        self._process(self._counter, self._gauge)

    def _http(self, counter: _Make, gauge: _Make) -> None:
        self.requests = counter("requests", "Requests answered.", "endpoint", "status")
        self.request_seconds = Histogram(
            "onetape_request_seconds", "How long requests took.", ("endpoint",)
        )
        self.all.append(self.request_seconds)
        self.request_errors = counter("request_errors", "Requests answered with an error.", "code")
        self.answers = counter("answers", "Vendor answers, by how they were come by.", "how")
        self.sent_bytes = counter("sent_bytes", "Body bytes sent over HTTP.")
        self.upstream_answers = counter(
            "upstream_answers", "Answers the vendor gave.", "endpoint", "status"
        )
        self.upstream_requests = counter("upstream_requests", "Requests made, retries too.")
        self.upstream_throttled = counter("upstream_throttled", "Of these, answered 429.")
        self.upstream_failures = counter("upstream_failures", "Questions left without an answer.")
        self.upstream_in_flight = gauge("upstream_requests_in_flight", "Requests not yet answered.")
        self.upstream_cooling = gauge("upstream_cooling_seconds", "How long nobody may ask.")
        self.breaker_open = gauge("upstream_breaker_open", "1 while it is not asked.", "endpoint")
        self.upstream_minute = gauge(
            "upstream_requests_per_minute", "Requests asked in the last minute.", "endpoint"
        )
        self.client_minute = gauge(
            "client_upstream_requests_per_minute",
            "Requests to the vendor that a key caused in the last minute.",
            "key_id",
        )
        self.quota_ratio = gauge("upstream_quota_ratio", "Share of the plan's requests used.")
        self.quota_alert = gauge("upstream_quota_alert", "1 from 80 % of the plan's requests on.")

    def _sockets(self, counter: _Make, gauge: _Make) -> None:
        self.sessions = gauge("sessions", "Client sockets open.", "asset")
        self.sessions_congested = gauge("sessions_congested", "Of these, reading slowly.", "asset")
        self.session_closes = counter("session_closes", "Client sockets closed.", "asset", "code")
        self.topics = gauge("topics", "Topics somebody reads.", "asset")
        self.subscriptions = gauge("subscriptions", "Pairs of client and topic.", "asset")
        self.events_in = counter("events_in", "Events from the vendor.", "asset")
        self.events_out = counter("events_out", "Events to clients.", "asset")
        self.bytes_out = counter("bytes_out", "Bytes to clients' sockets.", "asset")
        self.conflated = counter("conflated_events", "Events replaced by later ones.", "asset")
        self.slow_readers = counter("slow_reader_cuts", "Clients cut as too slow.", "asset")

    def _upstream_sockets(self, counter: _Make, gauge: _Make) -> None:
        self.upstream_state = gauge("upstream_state", "1 for the state it is in.", "asset", "state")
        self.upstream_topics = gauge("upstream_topics", "Topics asked of the vendor.", "asset")
        self.topics_failed = gauge("upstream_topics_failed", "Of these, refused.", "asset")
        self.frames = counter("upstream_frames", "Frames from the vendor.", "asset")
        self.bytes_in = counter("upstream_bytes", "Bytes from the vendor.", "asset")
        self.reconnects = counter("upstream_reconnects", "Times the socket came back.", "asset")
        self.evictions = counter("upstream_evictions", "Times another login took it.", "asset")
        self.garbled = counter("upstream_garbled_frames", "Frames we cannot read.", "asset")
        self.frame_age = gauge(
            "upstream_last_frame_age_seconds", "Time since the vendor's last frame.", "asset"
        )

    def _market(self, counter: _Make, gauge: _Make) -> None:
        by = ("data", "provider")
        self.provider_healthy = gauge("provider_healthy", "1 while it answers.", *by)
        self.provider_requests = counter("provider_requests", "Questions asked of it.", *by)
        self.provider_failures = counter("provider_failures", "Of these, failed.", *by)
        self.provider_seconds = gauge(
            "provider_response_seconds", "How long it takes, as a moving mean.", *by
        )
        self.fallbacks = counter(
            "fallbacks", "Answers of the second provider, by what the first did.", "data", "why"
        )
        self.switches = counter("provider_switches", "Changes of who is asked first.", "data")
        self.on_secondary = gauge(
            "on_secondary", "Keys of which the second provider is asked first.", "data"
        )
        self.hub_watched = gauge("hub_parts_watched", "Parts of the view that are watched.")
        self.hub_known = gauge("hub_parts_known", "Of these, those with a value.")
        self.hub_failed = gauge("hub_parts_failed", "Of these, those that cannot be renewed.")
        self.hub_readers = gauge("hub_readers", "Subscribers of the view.")
        self.hub_ticks = counter("hub_ticks", "Changes told.")
        self.hub_dropped = counter("hub_dropped_ticks", "Of these, replaced unread.")
        self.hub_polls = counter("hub_polls", "Questions asked for the view.")
        self.hub_poll_failures = counter("hub_poll_failures", "Of these, failed.")
        self.hub_late = counter("hub_late_rounds", "Rounds of questions that began late.")
        self.hub_age = gauge("hub_last_update_age_seconds", "Time since the view changed.")

    def _credentials(self, counter: _Make) -> None:
        self.minted = counter("tokens_minted", "Tokens minted, by the credential shown.", "by")
        self.revoked = counter("tokens_revoked", "Tokens revoked by their bearer.")
        self.auth_failures = counter("auth_failures", "Credentials refused.", "reason")
        self.static_uses = counter("static_token_uses", "Uses of the deprecated static token.")
        self.query_tokens = counter("query_token_uses", "Sockets opened by a token in the URL.")

    def _process(self, counter: _Make, gauge: _Make) -> None:
        self.loop_lag = gauge(
            "loop_lag_seconds", "Longest delay of the loop since the last scrape."
        )
        self.uptime = gauge("uptime_seconds", "Time since the start.")
        self.log_lines_dropped = counter("log_lines_dropped", "Log lines that nobody took.")
        self.build = gauge("build_info", "1, with the version.", "version")

    def _counter(self, name: str, text: str, /, *labels: str) -> Family:
        family = Family("counter", f"onetape_{name}_total", text, labels)
        self.all.append(family)
        return family

    def _gauge(self, name: str, text: str, /, *labels: str) -> Family:
        family = Family("gauge", f"onetape_{name}", text, labels)
        self.all.append(family)
        return family


class Telemetry(_Families):
    """One gateway's metrics and canonical log lines, in a registry of its own."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: EventLog,
        version: str,
        policy: TelemetryPolicy = TelemetryPolicy(),  # noqa: B008 - immutable
    ) -> None:
        super().__init__()
        self._clock = clock
        self._log = log
        self._policy = policy
        self._started_at = clock.monotonic()
        self._unlogged = 0
        self._lag_s = 0.0
        self._over_quota = False
        self._sources: list[Callable[[], None]] = []
        self.build.put(1, version)
        self.quota_alert.put(0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # what happened

    def rest_request(self, record: RequestFacts) -> None:
        """Count one request, and log it."""
        endpoint, status = record.endpoint, record.status
        self.requests.add(endpoint, status_class(status))
        self.request_seconds.observe(record.duration_s, endpoint)
        self.sent_bytes.add(by=record.sent_bytes)
        if record.how is not None:
            self.answers.add(record.how)
        if record.how == "miss":
            self.upstream_answers.add(endpoint, status_class(status))
        if record.code is not None:
            self.request_errors.add(record.code)
        if status >= 400 or self._is_sampled():
            self._log.info(
                "request.finished",
                method=record.method,
                endpoint=endpoint,
                status=status,
                duration_ms=round(record.duration_s * 1_000, 3),
                cache=record.how,
                key_id=record.client,
                code=record.code,
                request_id=record.request_id,
                bytes=record.sent_bytes,
                peer=record.peer,
            )

    def session_closed(self, end: SessionFacts) -> None:
        """Count one client's socket that is closed, and log it."""
        self.session_closes.add(end.asset, end.code)
        self._log.info(
            "session.closed",
            asset=end.asset,
            key_id=end.key_id,
            topics=end.topics,
            events=end.events,
            bytes=end.bytes_out,
            conflated=end.conflated,
            code=end.code,
            duration_s=round(end.duration_s, 3),
            peer=end.peer,
        )

    def observe_quota(self, per_minute: Mapping[str, int]) -> None:
        """Compare the last minute's requests with the plan; warn at 80 %, once, until below."""
        for endpoint, requests in per_minute.items():
            self.upstream_minute.put(requests, endpoint)
        for labels in self.upstream_minute.label_sets():
            if labels[0] not in per_minute:
                self.upstream_minute.put(0, *labels)
        limit = self._policy.quota_per_minute
        if limit is None:
            return
        ratio = sum(per_minute.values()) / limit
        self.quota_ratio.put(ratio)
        is_over = ratio >= ALERT_SHARE
        self.quota_alert.put(is_over)
        if is_over and not self._over_quota:
            self._log.warning("quota.high", used=round(ratio, 3), limit_per_minute=limit)
        elif self._over_quota and not is_over:
            self._log.info("quota.normal", used=round(ratio, 3), limit_per_minute=limit)
        self._over_quota = is_over

    # what others counted

    def on_scrape(self, source: Callable[[], None]) -> None:
        """Call the source in the loop before each scrape, to copy what it counts."""
        self._sources.append(source)

    def observe_hub(self, asset: AssetClass, hub: HubStatistics, feed: FeedStatistics) -> None:
        """Copy what one asset class counts."""
        self.sessions.put(hub.clients, asset)
        self.sessions_congested.put(hub.congested, asset)
        self.topics.put(hub.topics_read, asset)
        self.subscriptions.put(hub.subscriptions, asset)
        self.events_in.put(hub.events_in, asset)
        self.events_out.put(hub.events_out, asset)
        self.bytes_out.put(hub.bytes_out, asset)
        self.conflated.put(hub.conflated, asset)
        self.slow_readers.put(hub.slow_readers, asset)
        for state in State:
            self.upstream_state.put(state == feed.state, asset, state)
        self.upstream_topics.put(feed.topics_wanted, asset)
        self.topics_failed.put(feed.topics_failed, asset)
        self.frames.put(feed.frames, asset)
        self.bytes_in.put(feed.bytes, asset)
        self.reconnects.put(feed.reconnects, asset)
        self.evictions.put(feed.evictions, asset)
        self.garbled.put(feed.garbled, asset)
        if feed.last_frame_ns is not None:
            age_s = (self._clock.now_ns() - feed.last_frame_ns) / _NS
            self.frame_age.put(max(0.0, age_s), asset)

    def observe_rest(self, rest: RestStatistics) -> None:
        """Copy what the vendor's REST side counts, its quota included."""
        self.upstream_requests.put(rest.attempts)
        self.upstream_throttled.put(rest.throttled)
        self.upstream_failures.put(rest.failures)
        self.upstream_in_flight.put(rest.in_flight)
        self.upstream_cooling.put(rest.cooling_s)
        for endpoint, state in rest.breakers.items():
            self.breaker_open.put(state is not BreakerState.CLOSED, endpoint)
        self.observe_quota(rest.per_minute)

    def observe_market(self, facts: MarketFacts) -> None:
        """Copy what the providers, the hybrids and the hub count."""
        for data, providers in facts.providers.items():
            for one in providers:
                self.provider_healthy.put(one.healthy, data, one.provider)
                self.provider_requests.put(one.requests, data, one.provider)
                self.provider_failures.put(one.failures, data, one.provider)
                if one.mean_response_time_s is not None:
                    self.provider_seconds.put(one.mean_response_time_s, data, one.provider)
        for data, hybrid in facts.hybrids.items():
            for why, answers in hybrid.fallback.fallbacks.items():
                self.fallbacks.put(answers, data, why)
            self.switches.put(hybrid.fallback.switches, data)
            self.on_secondary.put(hybrid.fallback.on_secondary, data)
        self._observe_view(facts.hub)

    def observe_desk(self, desk: MarketStatistics) -> None:
        """Copy what the sockets at `/ws/market` count; `market` stands where a class does."""
        self.sessions.put(desk.clients, MARKET)
        self.sessions_congested.put(desk.congested, MARKET)
        self.topics.put(desk.keys, MARKET)
        self.subscriptions.put(desk.subscriptions, MARKET)
        self.events_in.put(desk.ticks, MARKET)
        self.events_out.put(desk.events_out, MARKET)
        self.bytes_out.put(desk.bytes_out, MARKET)
        self.conflated.put(desk.conflated, MARKET)
        self.slow_readers.put(desk.slow_readers, MARKET)

    def _observe_view(self, hub: HubMetrics) -> None:
        self.hub_watched.put(hub.view.watched)
        self.hub_known.put(hub.view.known)
        self.hub_failed.put(hub.view.failed)
        self.hub_readers.put(hub.tick_subscribers + hub.snapshot_subscribers)
        self.hub_ticks.put(hub.view.ticks)
        self.hub_dropped.put(hub.dropped)
        self.hub_polls.put(hub.polls)
        self.hub_poll_failures.put(hub.poll_failures)
        self.hub_late.put(hub.late_rounds)
        if hub.last_update_ns is not None:
            self.hub_age.put(max(0.0, (self._clock.now_ns() - hub.last_update_ns) / _NS))

    def observe_clients(self, per_minute: Mapping[str, int]) -> None:
        """Copy who used how much of the quota: one label a key, and keys are made by hand."""
        for (key_id,) in self.client_minute.label_sets():
            self.client_minute.put(0, key_id)
        for key_id, requests in per_minute.items():
            self.client_minute.put(requests, key_id)

    def observe_auth(self, auth: AuthStatistics) -> None:
        """Copy what `Auth` counts."""
        for kind, tokens in auth.minted.items():
            self.minted.put(tokens, kind)
        for code, failures in auth.failures.items():
            self.auth_failures.put(failures, code)
        self.revoked.put(auth.tokens_revoked)
        self.static_uses.put(auth.static_token_uses)

    # telling it

    async def render(self) -> bytes:
        """Write the exposition, off the loop."""
        for source in self._sources:
            source()
        self.uptime.put(self._clock.monotonic() - self._started_at)
        self.loop_lag.put(self._lag_s)
        self._lag_s = 0.0
        return await asyncio.to_thread(generate_latest, self._registry)

    async def run(self) -> None:
        """Measure the loop's lag until cancelled."""
        interval_s = self._policy.lag_interval_s
        while True:
            due = self._clock.monotonic() + interval_s
            await asyncio.sleep(interval_s)
            self._lag_s = max(self._lag_s, self._clock.monotonic() - due)

    def describe(self) -> list[Metric]:
        """Name every family without collecting; the registry's protocol."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Copy every family; the registry's protocol, called in another thread."""
        for family in self.all:
            yield family.collect()

    # private

    def _is_sampled(self) -> bool:
        every = self._policy.log_every
        if every <= 1:
            return every == 1
        self._unlogged += 1
        if self._unlogged < every:
            return False
        self._unlogged = 0
        return True


def status_class(status: int) -> str:
    """Return the class of an HTTP status; `error` for no status at all."""
    hundreds = status // 100
    return _CLASSES[hundreds] if 0 <= hundreds <= 5 else "error"
