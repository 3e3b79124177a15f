"""What is wrong with this set-up, and what to do about it: `onetape doctor`.

Each check is one question with one answer: `ok`, `note`, `fault` or `skipped`, a
sentence, and for a fault what to do. No answer holds a secret. Only `live` checks
leave this host: they log in to the real vendors and so take the vendor's connection
from whoever has it.
"""

import asyncio
import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import msgspec

from onetape import config as settings
from onetape.calendar import stocks_trade
from onetape.clock import SystemClock
from onetape.config import Config, Finding, Secret
from onetape.errors import UNREADABLE, ConfigInvalid, OnetapeError
from onetape.gateway.keys import FILE_NAME, KeyStore
from onetape.massive import notices
from onetape.massive.notices import FeedPolicy, Notice
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.model import AssetClass, ProviderHealth
from onetape.ports import trouble

Verdict = Literal["ok", "note", "fault", "skipped"]

STALE_S: Final = 30.0
"""Data older than that are worth nothing while the market is open."""

UNSURE_BELOW: Final = 50
"""A score that is no reason to act, and none to worry if it passes."""

_LOCAL_TIMEOUT_S: Final = 2.0
_MS_NS: Final = 1_000_000
_MAX_ANSWER_BYTES: Final = 1 << 20


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    check: str
    verdict: Verdict
    message: str
    advice: str | None = None

    def __str__(self) -> str:
        """One line, and a second one with what to do."""
        advice = f"\n          → {self.advice}" if self.advice else ""
        return f"{self.verdict:8}  {self.check}: {self.message}{advice}"


async def examine(
    *,
    live: bool,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 10.0,
) -> list[Result]:
    """Ask every question that can be asked.

    Args:
        live: Also ask the vendors.
        env: As in `config.load`.
        cwd: As in `config.load`.
        timeout_s: How long a vendor may take to answer.
    """
    try:
        config = await asyncio.to_thread(settings.load, env, cwd=cwd)
    except ConfigInvalid as error:
        return [_fault("settings", str(error), "docs/config.md lists every setting")]
    findings = await asyncio.to_thread(settings.check_environment, env, cwd=cwd)
    state = await asyncio.to_thread(_state, config.gateway.state_dir)
    has_keys = state.verdict == "ok"
    results = [_ok("settings", "every setting is readable")]
    results += [_variable(finding, has_keys=has_keys) for finding in findings]
    results.append(state)
    gateway = await _gateway(config)
    results += gateway
    if not live:
        return [*results, _skipped("vendors", "not asked", "`onetape doctor --live` asks them")]
    is_shared = _HOLDS_VENDOR in gateway
    return results + await _vendors(config, is_shared=is_shared, timeout_s=timeout_s)


def _ok(check: str, message: str) -> Result:
    return Result(check=check, verdict="ok", message=message)


def _note(check: str, message: str, advice: str | None = None) -> Result:
    return Result(check=check, verdict="note", message=message, advice=advice)


def _fault(check: str, message: str, advice: str | None) -> Result:
    return Result(check=check, verdict="fault", message=message, advice=advice)


def _skipped(check: str, message: str, advice: str | None = None) -> Result:
    return Result(check=check, verdict="skipped", message=message, advice=advice)


def _variable(finding: Finding, *, has_keys: bool) -> Result:
    name, message = finding.variable, finding.message
    if finding.status == "ok":
        return _ok(name, message)
    if name == "MASSIVE_PROXY_TOKEN" and finding.status == "missing" and has_keys:
        return _note(name, "not set; clients come in with their keys")
    if finding.fatal:
        return _fault(name, message, "correct it in the environment or .env, then ask again")
    return _note(name, message)


# the state directory: looked at before it is opened, for opening repairs its mode


def _state(state_dir: Path) -> Result:
    advice = "name a writable directory with ONETAPE_STATE_DIR"
    path = state_dir / FILE_NAME
    try:
        if not path.exists():
            return _absent(state_dir, advice)
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return _fault(
                "state",
                "others may read the key store, and with it sign tokens",
                f"chmod 600 {path}, then `onetape keys rotate --now`",
            )
        with KeyStore(state_dir) as store:
            live = sum(record.revoked_ns is None for record in store.records())
    except OSError as error:
        return _fault("state", f"the key store cannot be reached: {error.strerror}", advice)
    except ConfigInvalid as error:
        return _fault("state", str(error), advice)
    except sqlite3.Error as error:
        return _fault("state", f"the key store is damaged: {error}", "restore it, or move it away")
    if not live:
        return _note("state", "there is no client key yet", "onetape keys create NAME")
    return _ok("state", f"the key store holds {live} live {'key' if live == 1 else 'keys'}")


def _absent(state_dir: Path, advice: str) -> Result:
    nearest = next(place for place in (state_dir, *state_dir.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return _fault("state", f"the key store cannot be made: {nearest} is not writable", advice)
    return _note("state", "there is no key store yet", "`onetape keys create NAME` makes it")


# the gateway, if one runs


_HOLDS_VENDOR: Final = _ok("gateway", "it holds the vendor's connections")


async def _gateway(config: Config) -> list[Result]:
    host, port = config.gateway.host, config.gateway.port
    if port == 0:
        return [_ok("port", "any free port will be taken")]
    why_not = await asyncio.to_thread(trouble, "PORT", host=host, port=port)
    if why_not is None:
        return [_ok("port", f"{port} is free; no gateway runs there")]
    url = f"http://{_reachable(host)}:{port}"
    health = await _json_of(f"{url}/api/health")
    if health is None or not {"version", "simulated", "reasons"} <= health.keys():
        return [_fault("port", why_not, "`onetape serve` will not start until then")]
    sockets = await _json_of(f"{url}/api/ws-health") or {}
    return list(_described(health, sockets, port=port, refresh_s=config.hub.refresh_s))


def _described(
    health: Mapping[str, Any], sockets: Mapping[str, Any], *, port: int, refresh_s: float
) -> Iterator[Result]:
    vendor = "the simulated vendor" if health["simulated"] else "the vendor"
    version = health["version"]
    yield _ok("gateway", f"version {version} runs on port {port}, in front of {vendor}")
    if not health["simulated"]:
        yield _HOLDS_VENDOR
    reasons: list[str] = health["reasons"]
    errors: dict[str, str | None] = {
        asset: facts.get("lastError") for asset, facts in sockets.get("metrics", {}).items()
    }
    yield from (_explained(reason, errors) for reason in reasons)
    if "rest_down" in reasons and any(reason.startswith("stream_down") for reason in reasons):
        yield _fault(
            "gateway",
            "neither the vendor's REST nor its stream works",
            "check MASSIVE_API_KEY and the network; `onetape doctor --live` asks the vendor",
        )
    for warning in sockets.get("warnings", []):
        yield _note("gateway", warning, "the upstream's last error is at /api/ws-health")
    yield from _market(health, refresh_s=refresh_s)


_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "key_missing": ("the gateway has no vendor key", "set MASSIVE_API_KEY and start it again"),
    "draining": ("the gateway is shutting down", "start it again"),
    "rest_down": (
        "the vendor's REST does not answer",
        "check MASSIVE_BASE_URL and the network; `onetape doctor --live` asks the vendor itself",
    ),
    "stream_down": ("the vendor's stream is down", "check MASSIVE_SOCKET_URL and the network"),
}
_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    ("accept the key", "check MASSIVE_API_KEY, and that the plan has this asset class"),
    ("another login", "another program uses the same account; let it use the gateway instead"),
)


def _explained(reason: str, errors: Mapping[str, str | None]) -> Result:
    name, _, asset = reason.partition(":")
    message, advice = _REASONS.get(name, (reason, "GET /api/health says more"))
    if cause := errors.get(asset):
        message = f"{message}: {cause}"
        advice = next((better for hint, better in _CAUSES if hint in cause), advice)
    return _fault(f"gateway {asset}".strip(), message, advice)


# what it shows of the market


class _Provider(ProviderHealth, frozen=True, kw_only=True):
    """How a provider does at one kind of data."""

    data: str = ""


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway's health says of its own view of the market."""

    watched: int = 0
    known: int = 0
    failed: int = 0
    last_update_age_s: float | None = None
    confidence: int | None = None


def _market(health: Mapping[str, Any], *, refresh_s: float) -> Iterator[Result]:
    """Judge the providers and the view, if this gateway tells of them."""
    with contextlib.suppress(msgspec.ValidationError):  # a later version puts it otherwise
        yield from _provided(msgspec.convert(health.get("providers", []), list[_Provider]))
    with contextlib.suppress(msgspec.ValidationError):
        if "hub" in health:
            view = msgspec.convert(health["hub"], _View)
            at_ns = msgspec.convert(health.get("timestamp", 0), int) * _MS_NS
            yield from _seen(view, refresh_s=refresh_s, is_open=stocks_trade(at_ns))


def _provided(healths: list[_Provider]) -> Iterator[Result]:
    """Name the providers that fail: one after another each kind of data has."""
    by_data: dict[str, list[_Provider]] = {}
    for one in healths:
        if one.enabled:
            by_data.setdefault(one.data or "market data", []).append(one)
    lost = {data: ones for data, ones in by_data.items() if not any(one.healthy for one in ones)}
    for data, ones in by_data.items():
        failing = [one for one in ones if not one.healthy]
        if failing and data not in lost:
            why = "; ".join(map(_failure, failing))
            other = next(one.provider for one in ones if one.healthy)
            message = f"for {data} {other} stands in: {why}"
            yield _note("providers", message, "`onetape doctor --live` asks each vendor itself")
    if lost:
        failing = {one.provider: one for ones in lost.values() for one in ones}
        why = "; ".join(map(_failure, failing.values()))
        credentials = " and ".join(map(_credential, failing))
        advice = f"check {credentials}, and the network; `onetape doctor --live` asks the vendors"
        yield _fault("providers", f"nobody answers for {' and '.join(lost)}: {why}", advice)
    elif all(one.healthy for ones in by_data.values() for one in ones) and by_data:
        names = dict.fromkeys(one.provider for ones in by_data.values() for one in ones)
        yield _ok("providers", f"nothing is wrong with {' and '.join(names)}")


_CREDENTIALS: Final[Mapping[str, str]] = {
    "massive": "MASSIVE_API_KEY",
    "tradier": "TRADIER_ACCESS_TOKEN",
}


def _credential(provider: str) -> str:
    return _CREDENTIALS.get(provider, f"the credentials of {provider}")


def _failure(one: _Provider) -> str:
    code = (one.last_failure or "no answer").partition(":")[0]
    return f"{one.provider} fails ({code}, {one.consecutive_errors} times in a row)"


def _seen(view: _View, *, refresh_s: float, is_open: bool) -> Iterator[Result]:
    if not view.watched:
        yield _note("hub", "the gateway watches nothing by itself", "name it in ONETAPE_WATCHLIST")
    elif not view.known:
        message = f"of {view.watched} parts of the market that it watches none is known"
        advice = f"check ONETAPE_WATCHLIST and the providers; it asks every {refresh_s:g} s"
        yield _fault("hub", message, advice)
    else:
        well = _ok("hub", f"{view.known} of {view.watched} parts of the market are at hand")
        yield from [*_doubts(view, refresh_s=refresh_s, is_open=is_open)] or [well]


def _doubts(view: _View, *, refresh_s: float, is_open: bool) -> Iterator[Result]:
    age_s, confidence = view.last_update_age_s, view.confidence
    if is_open and age_s is not None and age_s > STALE_S:
        advice = (
            f"it should poll every {refresh_s:g} s: check ONETAPE_REFRESH_S, the providers,"
            " and the log for hub.poll_failed"
        )
        yield _fault("hub", f"the newest of its data came {age_s:.0f} s ago", advice)
    if confidence is not None and confidence < UNSURE_BELOW:
        advice = f"wait {refresh_s:g} s for the next look; `reasons` in each `quality` say why"
        yield _note("hub", f"its data score {confidence} of 100", advice)
    if view.failed:
        message = f"{view.failed} of {view.watched} parts could not be renewed"
        yield _note("hub", message, "check ONETAPE_WATCHLIST for names that the plan lacks")


def _reachable(host: str) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound
    return f"[{address}]" if ":" in address else address


async def _json_of(url: str) -> dict[str, Any] | None:
    try:
        async with _session(_LOCAL_TIMEOUT_S) as session, session.get(url) as answer:
            body = await answer.content.read(_MAX_ANSWER_BYTES)
            while chunk := await answer.content.read(_MAX_ANSWER_BYTES - len(body)):
                body += chunk
            return msgspec.json.decode(body, type=dict[str, Any])
    except (aiohttp.ClientError, TimeoutError, *UNREADABLE):
        return None


def _session(timeout_s: float) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s))


# the vendors


async def _vendors(config: Config, *, is_shared: bool, timeout_s: float) -> list[Result]:
    """Ask them all at once; `is_shared`: a gateway of ours is logged in, and would be evicted."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_massive_rest(config, timeout_s))]
        if not is_shared:
            asked += [
                tasks.create_task(_massive_stream(config, asset, timeout_s))
                for asset in config.gateway.assets
            ]
        asked.append(tasks.create_task(_tradier(config, timeout_s)))
    results = [task.result() for task in asked]
    if is_shared:
        message = "not asked: a login would take the connection from the gateway that runs"
        results.append(_skipped("massive streams", message, "its own health is above"))
    return results


async def _massive_rest(config: Config, timeout_s: float) -> Result:
    key = config.massive.api_key
    if key is None:
        return _skipped("massive REST", "MASSIVE_API_KEY is not set")
    rest = MassiveREST(
        base_url=config.massive.base_url,
        headers=lambda: {"Authorization": f"Bearer {key.reveal()}"},
        clock=SystemClock(),
        policy=RestPolicy(timeout_s=timeout_s, attempts=1),
    )
    try:
        async with rest:
            status = (await rest.get("/v1/marketstatus/now")).status
    except OnetapeError as error:
        return _fault("massive REST", f"{error.code}: {error}", "check MASSIVE_BASE_URL")
    return _judged("massive REST", status, "MASSIVE_API_KEY")


def _judged(check: str, status: int, variable: str) -> Result:
    if status == 200:
        return _ok(check, "it answers, and accepts the key")
    if status in {401, 403}:
        return _fault(check, "it does not accept the key", f"check {variable}")
    if status == 429:
        return _note(check, "the plan's requests of this minute are used up")
    return _fault(check, f"it answers with HTTP {status}", "check its URL, or try again later")


async def _massive_stream(config: Config, asset: AssetClass, timeout_s: float) -> Result:
    check = f"massive {asset} stream"
    key = config.massive.api_key
    if key is None:
        return _skipped(check, "MASSIVE_API_KEY is not set")
    outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    stream = _probe(config, asset, key, lambda notice: _settle(outcome, check, notice))
    stream.activate()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stream.run())
        try:
            result = await asyncio.wait_for(outcome, timeout_s)
        except TimeoutError:
            result = _fault(check, "it does not answer", "check MASSIVE_SOCKET_URL")
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
            outcome.set_result(_ok(check, "it accepts the key"))
        case notices.AuthFailed(message=message) if "plan" in message.lower():
            advice = "get the plan, or leave the asset class out of ONETAPE_ASSETS"
            outcome.set_result(_fault(check, "the key's plan does not include it", advice))
        case notices.AuthFailed():
            outcome.set_result(
                _fault(check, "it does not accept the key", "check MASSIVE_API_KEY, and the plan")
            )
        case notices.Lost(reason=reason):
            advice = "check MASSIVE_SOCKET_URL and the network"
            outcome.set_result(_fault(check, f"it is not there: {reason}", advice))
        case _:
            pass


async def _tradier(config: Config, timeout_s: float) -> Result:
    token = config.tradier.access_token
    if token is None:
        return _skipped("tradier", "TRADIER_ACCESS_TOKEN is not set: no fallback")
    headers = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
    url = f"{config.tradier.base_url}/markets/clock"
    try:
        async with (
            _session(timeout_s) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            return _judged("tradier", answer.status, "TRADIER_ACCESS_TOKEN")
    except (aiohttp.ClientError, TimeoutError):
        return _fault("tradier", "it does not answer", "check TRADIER_BASE_URL")
