"""The gateway in front of the simulated vendor, with a key to paste: `onetape demo`.

Nothing of it touches a real vendor, even if a vendor's key is set, nothing listens
beyond this host, and nothing stays behind: unless `ONETAPE_STATE_DIR` says where, the
state lives in a temporary directory.
"""

import asyncio
import secrets
import shlex
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec

from onetape.clock import SystemClock
from onetape.config import Config, GatewayConfig, MassiveConfig, Origin, Secret, TradierConfig
from onetape.gateway.app import Gateway
from onetape.gateway.keys import KeyStore, NewKey, Scopes
from onetape.gateway.logs import Write
from onetape.massive.notices import FeedPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import Split, decode
from onetape.model import AssetClass, Quote, Topic
from onetape.ports import listening
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.market import Hours

LIVELY = 5.0  # times the market's own pace: a demo should move
KEY_RATE_PER_MINUTE = 6_000  # the raw proxy's default is for strangers; this key is yours
DRAIN_S = 1.0  # Ctrl-C ends a demo in less than 2 s, whoever is connected
WATCHED = (Topic("V.I:SPX"), Topic("V.I:NDX"), Topic("V.I:VIX"))


class Demo(NamedTuple):
    """A running demo, as scripts see it."""

    url: str
    netloc: str
    client_key: str
    simulator_url: str


@asynccontextmanager
async def running(config: Config, *, write: Write) -> AsyncGenerator[Demo]:
    """Run simulator and gateway for as long as the block is open.

    Raises:
        ConfigInvalid: a port named in the settings is taken.
    """
    async with AsyncExitStack() as stack:
        simulator = await _simulator(stack, config)
        if _is_named(config, "ONETAPE_STATE_DIR"):
            state_dir = config.gateway.state_dir
        else:
            directory = await asyncio.to_thread(_temporary_directory)
            stack.push_async_callback(asyncio.to_thread, directory.cleanup)
            state_dir = Path(directory.name)
        key = await asyncio.to_thread(_new_key, state_dir)
        stack.push_async_callback(asyncio.to_thread, _revoke, state_dir, key)
        aimed = _aimed_at(simulator, config, state_dir)
        gateway = await _gateway(stack, simulator, aimed, write)
        yield Demo(gateway.url, gateway.netloc, key.secret, simulator.url)


async def watch(demo: Demo, show: Callable[[str], None]) -> None:
    """Stream index values through the gateway, a line a second, until cancelled."""
    clock = SystemClock()
    values: dict[str, float] = {}
    events = 0

    def take(split: Split) -> None:
        nonlocal events
        events += len(split.raws)
        for topic, raw in zip(split.topics, split.raws, strict=True):
            datum = decode(topic, raw, received_ns=clock.now_ns(), simulated=True)
            if isinstance(datum, Quote) and datum.last is not None:
                values[datum.symbol.removeprefix("I:")] = datum.last

    stream = MassiveWebSocket(
        url=f"ws://{demo.netloc}/{AssetClass.INDICES}",
        asset=AssetClass.INDICES,
        credential=lambda: demo.client_key,
        clock=clock,
        policy=FeedPolicy(),
        on_split=take,
        on_notice=lambda _: None,
    )
    stream.want(frozenset(WATCHED))
    stream.activate()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.run())
        while True:
            await asyncio.sleep(1)
            shown = "   ".join(f"{name} {value:,.2f}" for name, value in sorted(values.items()))
            show(f"simulated   {shown or 'connecting ...'}   {events} events/s")
            events = 0


def unused(config: Config) -> list[str]:
    """Name the settings that are set and that a demo leaves alone."""
    return [
        variable
        for variable, is_set in (
            ("MASSIVE_API_KEY", config.massive.api_key is not None),
            ("TRADIER_ACCESS_TOKEN", config.tradier.access_token is not None),
            ("ONETAPE_HOST", not _is_loopback(config.gateway.host)),
        )
        if is_set
    ]


def banner(demo: Demo, *, ignored: list[str], command: str = "onetape") -> str:
    """Say what runs and what to try; `command` is how `onetape` is called from here."""
    key, url = demo.client_key, demo.url
    note = f"\n  {' and '.join(ignored)}: set, and ignored by the demo.\n" if ignored else ""
    return f"""
onetape demo: a gateway in front of a SIMULATED vendor. No number here is real.

  gateway     {url}
  client key  {key}
              (good from this machine only, and until the demo ends)
{note}
Try, in another terminal:

  ONETAPE_URL={url} ONETAPE_KEY={key} {command} watch SPX VIX SPY

  curl -H 'Authorization: Bearer {key}' \\
    '{url}/v3/snapshot?ticker.any_of=SPY,I:SPX,I:VIX&limit=250'

  curl -X POST -H 'Authorization: Bearer {key}' {url}/api/ws-token

  pip install massive && python -c "from massive import WebSocketClient as W; \\
    W('{key}', feed='{demo.netloc}', secure=False, market='indices', subscriptions=['V.*']).run(print)"

Ctrl-C ends it. Live, through the gateway:
"""


def called_as(program: str) -> str:
    """Return how `onetape` is called again from where it was called as `program`."""
    called = Path(program)
    if called.name == "__main__.py":
        return "python -m onetape"
    found = shutil.which(called.name)
    is_on_path = found is not None and Path(found).resolve() == called.resolve()
    return called.name if is_on_path else shlex.quote(str(called))


def _is_named(config: Config, variable: str) -> bool:
    return config.origins.get(variable, Origin.DEFAULT) is not Origin.DEFAULT


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _simulator(stack: AsyncExitStack, config: Config) -> Simulator:
    simulator = config.simulator
    port = simulator.port if _is_named(config, "ONETAPE_SIM_PORT") else 0
    simulator_settings = SimulatorSettings(
        port=port,
        seed=simulator.seed,
        speed=simulator.speed,
        rate=simulator.rate if _is_named(config, "ONETAPE_SIM_RATE") else LIVELY,
        hours=Hours(simulator.hours),
        extra=simulator.symbols,
    )
    with listening("ONETAPE_SIM_PORT", host=simulator_settings.host, port=port):
        return await stack.enter_async_context(Simulator(simulator_settings))


def _aimed_at(simulator: Simulator, config: Config, state_dir: Path) -> Config:
    defaults = GatewayConfig()
    chosen = config.gateway
    gateway = msgspec.structs.replace(
        chosen,
        host=chosen.host if _is_loopback(chosen.host) else defaults.host,
        state_dir=state_dir,
        assets=defaults.assets,
        drain_s=min(chosen.drain_s, DRAIN_S),
        # Only what somebody should look at: a demo is no place for a log.
        log_level=chosen.log_level if _is_named(config, "ONETAPE_LOG_LEVEL") else "warning",
    )
    massive = MassiveConfig(
        api_key=Secret(simulator.key), base_url=simulator.url, socket_url=simulator.socket_url
    )
    tradier = TradierConfig(
        access_token=Secret(simulator.tradier_token),
        base_url=simulator.tradier_url,
        socket_url=simulator.tradier_socket_url,
    )
    return msgspec.structs.replace(config, massive=massive, tradier=tradier, gateway=gateway)


async def _gateway(
    stack: AsyncExitStack, simulator: Simulator, config: Config, write: Write
) -> Gateway:
    chosen = config.gateway

    def made(config: Config) -> Gateway:
        return Gateway(config, write=write, simulated=True, is_open=simulator.is_open)

    with listening("PORT", host=chosen.host, port=chosen.port):
        try:
            return await stack.enter_async_context(made(config))
        except OSError:
            # Whoever named a port wants that one; the default one is as good as any other.
            if _is_named(config, "PORT"):
                raise
        anywhere = msgspec.structs.replace(chosen, port=0)
        return await stack.enter_async_context(
            made(msgspec.structs.replace(config, gateway=anywhere))
        )


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="onetape-demo-")


def _new_key(state_dir: Path) -> NewKey:
    scopes = Scopes(loopback_only=True, rate_per_minute=KEY_RATE_PER_MINUTE)
    with KeyStore(state_dir) as store:
        name = f"demo-{secrets.token_hex(4)}"
        return store.create(name, now_ns=SystemClock().now_ns(), scopes=scopes)


def _revoke(state_dir: Path, key: NewKey) -> None:
    with KeyStore(state_dir) as store:
        store.revoke(key.record.key_id, now_ns=SystemClock().now_ns())
