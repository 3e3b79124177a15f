"""Our own routes on the real application, without a network."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, strategies as st
from starlette.applications import Starlette

from onetape.core.limits import SlidingWindow
from onetape.errors import TokenExpired, TokenRevoked
from onetape.gateway.api import Api
from onetape.gateway.auth import Auth, AuthPolicy
from onetape.gateway.callers import Callers
from onetape.gateway.endpoints import credential_of
from onetape.gateway.health import GatewayFacts, Health, HubFacts
from onetape.gateway.keyring import KeyRing
from onetape.gateway.telemetry import Telemetry
from onetape.massive.notices import State
from onetape.model import AssetClass
from onetape.testing import ManualClock

BOOT = "a bootstrap secret for tests only"
BEARER = {"authorization": f"Bearer {BOOT}"}
PUBLIC = [
    "/health",
    "/api/health",
    "/api/health/ready",
    "/api/ws-health",
    "/metrics",
    "/market/status",
    "/api/market/status",
]
MINTS = ["/api/ws-token", "/api/massive/ws-token"]


class Hub:
    def __init__(self) -> None:
        self.state = State.LIVE

    def facts(self) -> HubFacts:
        return HubFacts(AssetClass.OPTIONS, self.state, 1, 0, None, 0, "canary error", None)


class Journal:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    warning = info


class Desk:
    def __init__(self, ring: KeyRing, clock: ManualClock, *, key_present: bool) -> None:
        self.clock = clock
        self.journal = Journal()
        self.hub = Hub()
        self.auth = Auth(
            ring, clock=clock, bootstrap=BOOT, policy=AuthPolicy(failures_per_minute=5)
        )
        self.limit = SlidingWindow(1200, 60.0)
        facts = GatewayFacts(version="1.2.3", key_present=key_present)
        self.telemetry = Telemetry(clock=clock, log=self.journal, version="1.2.3")
        api = Api(
            auth=self.auth,
            telemetry=self.telemetry,
            health=Health(facts, [self.hub], clock=clock),
            callers=Callers(),
            limit=self.limit,
            clock=clock,
        )
        self.app = Starlette(routes=api.routes())

    async def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=self.app, client=("192.0.2.1", 123))
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, **options)

    async def mint(self, **options: Any) -> dict[str, Any]:
        response = await self.ask("POST", "/api/ws-token", headers=BEARER, **options)
        assert response.status_code == 200
        return response.json()


@contextlib.asynccontextmanager
async def desk(tmp_path: Path, *, key_present: bool = True) -> AsyncGenerator[Desk]:
    clock = ManualClock()
    async with KeyRing(tmp_path, clock=clock) as ring:
        yield Desk(ring, clock, key_present=key_present)


@pytest.mark.parametrize("path", PUBLIC)
async def test_public_routes_answer_without_a_credential_and_tell_no_secret(
    path: str, tmp_path: Path
) -> None:
    """R16, R32."""
    async with desk(tmp_path) as here:
        response = await here.ask("GET", path)

        assert response.status_code == 200
        assert BOOT not in response.text
        assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", [*PUBLIC, *MINTS])
async def test_other_methods_are_405_in_the_vendors_shape(path: str, tmp_path: Path) -> None:
    """C3: GET on the mint route is 405."""
    async with desk(tmp_path) as here:
        method = "GET" if path in MINTS else "POST"
        response = await here.ask(method, path, headers=BEARER)

        assert response.status_code == 405
        assert response.json()["code"] == "method_not_allowed"
        assert response.json()["status"] == "ERROR"
        assert method not in response.headers["allow"].split(", ")


async def test_health_is_always_alive_and_ready_only_when_it_is(tmp_path: Path) -> None:
    """R25, R32: started without a key it is alive, degraded and not ready."""
    async with desk(tmp_path, key_present=False) as here:
        alive = await here.ask("GET", "/api/health")

        assert (alive.status_code, alive.json()["status"]) == (200, "degraded")
        for path in ("/api/health/ready", "/api/health?ready=1", "/health?ready=true"):
            ready = await here.ask("GET", path)
            assert (ready.status_code, ready.json()) == (
                503,
                {"ready": False, "reasons": ["key_missing"]},
            )


async def test_ws_health_is_503_when_a_needed_upstream_is_down(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        assert (await here.ask("GET", "/api/ws-health")).json()["healthy"] is True

        here.hub.state = State.BACKING_OFF
        response = await here.ask("GET", "/api/ws-health")

        assert response.status_code == 503
        assert response.json()["metrics"]["options"]["lastError"] == "canary error"


async def test_market_status_comes_from_the_calendar(tmp_path: Path) -> None:
    """R32: 24 November 2025, 11:00 in New York; closed at night."""
    async with desk(tmp_path) as here:
        by_day = (await here.ask("GET", "/market/status")).json()
        here.clock.advance(12 * 3600)
        by_night = (await here.ask("GET", "/api/market/status")).json()

        assert (by_day["isOpen"], by_day["session"]) == (True, "open")
        assert by_day["nextClose"] == by_day["timestamp"] + 5 * 3_600_000
        assert (by_night["isOpen"], by_night["session"]) == (False, "closed")
        assert by_night["nextOpen"] == by_day["timestamp"] + int(22.5 * 3_600_000)


async def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.ask("GET", "/health")
        response = await here.ask("GET", "/metrics")

        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'onetape_requests_total{endpoint="health",status="2xx"} 1.0' in response.text


# tokens


async def test_a_token_is_minted_for_five_minutes(tmp_path: Path) -> None:
    """R33, W-11: `expiresAt` in ms, and `expires_in` for clocks that are wrong."""
    async with desk(tmp_path) as here:
        one, two = await here.mint(), await here.mint()

        assert one.keys() == {"token", "expiresAt", "expires_in", "token_id"}
        assert one["expiresAt"] == here.clock.now_ns() // 1_000_000 + 300_000
        assert one["expires_in"] == 300
        assert one["token"] != two["token"]
        principal = here.auth.identify(one["token"], peer="192.0.2.9")
        assert principal.token_id == one["token_id"]


@pytest.mark.parametrize("path", MINTS)
async def test_minting_needs_a_credential(path: str, tmp_path: Path) -> None:
    """R34, C5, W-05: 403 without, 200 with."""
    async with desk(tmp_path) as here:
        missing = await here.ask("POST", path)
        wrong = await here.ask("POST", path, headers={"authorization": "Bearer nonsense"})
        right = await here.ask("POST", path, headers={"x-massive-proxy-token": BOOT})

        assert (missing.status_code, missing.json()["code"]) == (403, "token_missing")
        assert (wrong.status_code, wrong.json()["code"]) == (403, "token_invalid")
        assert right.status_code == 200
        assert right.headers["cache-control"] == "no-store"


async def test_the_old_mint_route_says_it_is_deprecated(tmp_path: Path) -> None:
    """R34, C4."""
    async with desk(tmp_path) as here:
        old = await here.ask("POST", "/api/massive/ws-token", headers=BEARER)
        new = await here.ask("POST", "/api/ws-token", headers=BEARER)

        assert old.headers["deprecation"].startswith("@")
        assert "/api/ws-token" in old.headers["link"]
        assert "deprecation" not in new.headers


async def test_a_key_in_the_url_mints_nothing(tmp_path: Path) -> None:
    """W-06."""
    async with desk(tmp_path) as here:
        response = await here.ask("POST", "/api/ws-token", params={"apiKey": BOOT})

        assert response.json()["code"] == "token_missing"
        assert BOOT not in str(here.journal.lines)


async def test_a_token_renews_itself_and_revokes_itself(tmp_path: Path) -> None:
    """W-12."""
    async with desk(tmp_path) as here:
        first = await here.mint()
        headers = {"authorization": f"Bearer {first['token']}"}
        renewed = (await here.ask("POST", "/api/ws-token", headers=headers)).json()

        gone = await here.ask("DELETE", "/api/ws-token", headers=headers)

        assert gone.json() == {"revoked": first["token_id"]}
        with pytest.raises(TokenRevoked):
            here.auth.identify(first["token"], peer="192.0.2.9")
        assert here.auth.identify(renewed["token"], peer="192.0.2.9")
        again = await here.ask("POST", "/api/ws-token", headers=headers)
        assert (again.status_code, again.json()["code"]) == (403, "token_revoked")


async def test_the_bootstrap_secret_is_not_revoked_over_http(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        response = await here.ask("DELETE", "/api/ws-token", headers=BEARER)

        assert response.json()["code"] == "not_entitled"


async def test_an_expired_token_mints_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        token = (await here.mint())["token"]
        here.clock.advance(300)

        response = await here.ask(
            "POST", "/api/ws-token", headers={"authorization": f"Bearer {token}"}
        )

        assert (response.status_code, response.json()["code"]) == (403, TokenExpired.code)


async def test_guessing_is_throttled_with_retry_after(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        answers = [
            await here.ask("POST", "/api/ws-token", headers={"authorization": f"Bearer guess{n}"})
            for n in range(7)
        ]

        assert [a.json()["code"] for a in answers] == ["token_invalid"] * 5 + ["throttled"] * 2
        assert answers[-1].status_code == 429
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60


async def test_requests_beyond_the_minutes_limit_are_throttled_until_it_is_over(
    tmp_path: Path,
) -> None:
    """R28, C14: 429 with Retry-After; resets."""
    async with desk(tmp_path) as here:
        for _ in range(1200):
            here.limit.admit("bootstrap", here.clock.monotonic())

        refused = await here.ask("POST", "/api/ws-token", headers=BEARER)
        assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
        assert int(refused.headers["retry-after"]) == 60
        here.clock.advance(60)
        await here.mint()


@pytest.mark.parametrize(
    ("length", "status"),
    [("4096", 200), ("4097", 413), ("9" * 5_000, 413), ("many", 400), ("-1", 400), ("²", 400)],
)
async def test_large_bodies_are_refused_unread(length: str, status: int, tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        response = await here.ask(
            "POST", "/api/ws-token", headers={**BEARER, "content-length": length.encode("latin-1")}
        )

        assert response.status_code == status


async def test_every_request_leaves_one_line_without_its_credential(tmp_path: Path) -> None:
    """W-14: the key's public id stands for it."""
    async with desk(tmp_path) as here:
        await here.mint()
        await here.ask("POST", "/api/ws-token", headers={"authorization": "Bearer canary"})

        good, bad = here.journal.lines
        assert (good["event"], good["key_id"], good["status"]) == (
            "request.finished",
            "bootstrap",
            200,
        )
        assert (bad["key_id"], bad["code"], bad["peer"]) == (None, "token_invalid", "192.0.2.1")
        assert "canary" not in str(here.journal.lines)
        assert BOOT not in str(here.journal.lines)


async def test_a_bug_is_answered_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as here:

        def broken() -> None:
            raise RuntimeError("canary words")

        here.telemetry.on_scrape(broken)
        response = await here.ask("GET", "/metrics")

        assert (response.status_code, response.json()["code"]) == (500, "internal")
        assert "canary" not in response.text
        (line,) = [record for record in caplog.records if record.message == "api.internal"]
        assert vars(line)["request_id"] == response.json()["request_id"]


# credentials


def scope(*headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    return {"headers": list(headers), "query_string": query}


@pytest.mark.parametrize(
    ("shown", "credential"),
    [
        (scope(), None),
        (scope((b"authorization", b"Bearer abc")), "abc"),
        (scope((b"authorization", b"bearer  abc ")), "abc"),
        (scope((b"authorization", b"Basic abc")), None),
        (scope((b"authorization", b"Bearer ")), None),
        (scope((b"authorization", b"Bearer")), None),
        (scope((b"x-massive-proxy-token", b"abc")), "abc"),
        (scope((b"x-massive-proxy-token", b"")), None),
        (scope((b"x-massive-proxy-token", b"old"), (b"authorization", b"Bearer new")), "new"),
        (scope((b"authorization", b"Basic x"), (b"x-massive-proxy-token", b"abc")), "abc"),
        (scope(query=b"apiKey=abc"), "abc"),
        (scope(query=b"limit=5&apiKey=a%2Bb"), "a+b"),
        (scope(query=b"APIKEY=abc"), "abc"),
        (scope(query=b"apiKey="), None),
        (scope(query=b"notapikey=abc"), None),
        (scope((b"authorization", b"Bearer abc"), query=b"apiKey=other"), "abc"),
        (scope((b"authorization", b"Bearer \xff")), "\xff"),
    ],
)
def test_a_credential_is_found_wherever_clients_put_it(
    shown: dict[str, Any], credential: str | None
) -> None:
    assert credential_of(shown) == credential


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_reading_a_credential_never_fails(first: bytes, second: bytes, query: bytes) -> None:
    credential_of(
        scope(
            (b"authorization", b"Bearer " + first),
            (b"x-massive-proxy-token", second),
            query=b"apiKey=" + query,
        )
    )
