"""What is wrong with this set-up, and what to do about it: `onetape doctor`.

Each check is one question with one answer: `ok`, `note`, `fault` or `skipped`, a
sentence, and for a fault what to do. No answer holds a secret. Only `live` checks
leave this host: they log in to the real vendors and so take the vendor's connection
from whoever has it.
"""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import aiohttp
import msgspec

from onetape import config as settings
from onetape.clock import SystemClock
from onetape.config import Config, Secret
from onetape.errors import ConfigInvalid, OnetapeError
from onetape.gateway.keys import FILE_NAME, KeyStore
from onetape.massive import notices
from onetape.massive.notices import FeedPolicy, Notice
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.model import AssetClass

Verdict = Literal["ok", "note", "fault", "skipped"]
_TIMEOUT_S = 10.0


class Result(NamedTuple):
    """One answer."""

    check: str
    verdict: Verdict
    message: str
    advice: str | None = None

    def __str__(self) -> str:
        advice = f"\n          → {self.advice}" if self.advice else ""
        return f"{self.verdict:8}  {self.check}: {self.message}{advice}"


async def examine(*, live: bool) -> list[Result]:
    """Ask every question that can be asked."""
    try:
        config = await asyncio.to_thread(settings.load)
    except ConfigInvalid as error:
        return [Result("settings", "fault", str(error), "docs/config.md lists every setting")]
    results = [Result("settings", "ok", "every setting is readable")]
    results += await asyncio.to_thread(_environment)
    results.append(await asyncio.to_thread(_state, config))
    results += await _running_gateway(config)
    if live:
        results.append(await _massive_rest(config))
        results += [await _massive_stream(config, asset) for asset in config.gateway.assets]
        results.append(await _tradier(config))
    else:
        results.append(Result("vendors", "skipped", "not asked", "onetape doctor --live asks them"))
    return results


def _environment() -> list[Result]:
    verdicts: dict[str, Verdict] = {"ok": "ok"}
    return [
        Result(
            finding.variable,
            "fault" if finding.fatal else verdicts.get(finding.status, "note"),
            finding.message,
        )
        for finding in settings.check_environment()
    ]


def _state(config: Config) -> Result:
    path = config.gateway.state_dir / FILE_NAME
    try:
        with KeyStore(config.gateway.state_dir) as store:
            live = sum(record.revoked_ns is None for record in store.records())
    except ConfigInvalid as error:
        return Result(
            "state", "fault", str(error), "name a writable directory with ONETAPE_STATE_DIR"
        )
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Result("state", "fault", "others may read the key store", f"chmod 600 {path}")
    if not live:
        return Result("state", "note", "there is no client key yet", "onetape keys create NAME")
    return Result("state", "ok", f"the key store holds {live} live keys")


# the gateway, if one runs


async def _running_gateway(config: Config) -> list[Result]:
    host, port = config.gateway.host, config.gateway.port
    if port == 0:
        return [Result("port", "ok", "any free port will be taken")]
    if await asyncio.to_thread(_is_free, host, port):
        return [Result("port", "ok", f"{port} is free; no gateway runs there")]
    address = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    health = await _json_of(f"http://{address}:{port}/api/health")
    if health is None or "version" not in health:
        return [
            Result("port", "fault", f"{port} is taken by another program", "choose another PORT")
        ]
    results = [Result("gateway", "ok", f"version {health['version']} runs on port {port}")]
    results += [_explained(reason) for reason in health.get("reasons", [])]
    sockets = await _json_of(f"http://{address}:{port}/api/ws-health")
    for warning in (sockets or {}).get("warnings", []):
        results.append(
            Result("gateway", "note", warning, "see the upstream's last error at /api/ws-health")
        )
    return results


_REASONS = {
    "key_missing": ("the gateway has no vendor key", "set MASSIVE_API_KEY and start it again"),
    "draining": ("the gateway is shutting down", "start it again"),
    "rest_down": (
        "the vendor's REST does not answer",
        "check MASSIVE_BASE_URL and the network; `onetape doctor --live` asks the vendor itself",
    ),
    "stream_down": (
        "the vendor's stream is down",
        "does another program use the same vendor account? then one evicts the other",
    ),
}


def _explained(reason: str) -> Result:
    name, _, asset = reason.partition(":")
    message, advice = _REASONS.get(name, (reason, None))
    return Result(f"gateway {asset}".strip(), "fault", message, advice)


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def _json_of(url: str) -> dict[str, Any] | None:
    try:
        async with _session() as session, session.get(url) as answer:
            return msgspec.json.decode(await answer.read(), type=dict[str, Any])
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return None


@asynccontextmanager
async def _session() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        yield session


# the vendors


async def _massive_rest(config: Config) -> Result:
    key = config.massive.api_key
    if key is None:
        return Result("massive REST", "skipped", "MASSIVE_API_KEY is not set")
    rest = MassiveREST(
        base_url=config.massive.base_url,
        headers=lambda: {"Authorization": f"Bearer {key.reveal()}"},
        clock=SystemClock(),
        policy=RestPolicy(timeout_s=_TIMEOUT_S),
    )
    try:
        async with rest:
            status = (await rest.get("/v1/marketstatus/now")).status
    except OnetapeError as error:
        return Result("massive REST", "fault", f"{error.code}: {error}", "check MASSIVE_BASE_URL")
    return _judged("massive REST", status, "MASSIVE_API_KEY")


def _judged(check: str, status: int, variable: str) -> Result:
    if status == 200:
        return Result(check, "ok", "it answers, and accepts the key")
    if status in {401, 403}:
        return Result(check, "fault", "it does not accept the key", f"check {variable}")
    if status == 429:
        return Result(check, "note", "the plan's requests of this minute are used up")
    return Result(check, "fault", f"it answers with HTTP {status}", "try again later")


async def _massive_stream(config: Config, asset: AssetClass) -> Result:
    check = f"massive {asset} stream"
    key = config.massive.api_key
    if key is None:
        return Result(check, "skipped", "MASSIVE_API_KEY is not set")
    outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    stream = _probe(config, asset, key, lambda notice: _settle(outcome, check, notice))
    stream.activate()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stream.run())
        try:
            result = await asyncio.wait_for(outcome, _TIMEOUT_S)
        except TimeoutError:
            result = Result(check, "fault", "it does not answer", "check MASSIVE_SOCKET_URL")
        running.cancel()
    return result


def _probe(
    config: Config, asset: AssetClass, key: Secret, on_notice: Callable[[Notice], None]
) -> MassiveWebSocket:
    return MassiveWebSocket(
        url=f"{config.massive.socket_url}/{asset}",
        asset=asset,
        credential=key.reveal,
        clock=SystemClock(),
        policy=FeedPolicy(),
        on_split=lambda _: None,
        on_notice=on_notice,
    )


def _settle(outcome: asyncio.Future[Result], check: str, notice: Notice) -> None:
    if outcome.done():
        return
    match notice:
        case notices.Authenticated():
            outcome.set_result(Result(check, "ok", "it accepts the key"))
        case notices.AuthFailed():
            outcome.set_result(
                Result(
                    check,
                    "fault",
                    "it does not accept the key for this asset class",
                    "check the plan, or leave the asset class out of ONETAPE_ASSETS",
                )
            )
        case notices.Lost(reason=reason):
            advice = "check MASSIVE_SOCKET_URL and the network"
            outcome.set_result(Result(check, "fault", f"it is not there: {reason}", advice))
        case _:
            pass


async def _tradier(config: Config) -> Result:
    token = config.tradier.access_token
    if token is None:
        return Result("tradier", "skipped", "TRADIER_ACCESS_TOKEN is not set: no fallback")
    headers = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
    url = f"{config.tradier.base_url}/markets/clock"
    try:
        async with _session() as session, session.get(url, headers=headers) as answer:
            return _judged("tradier", answer.status, "TRADIER_ACCESS_TOKEN")
    except (aiohttp.ClientError, TimeoutError):
        return Result("tradier", "fault", "it does not answer", "check TRADIER_BASE_URL")
