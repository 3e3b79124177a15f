"""The command line: `onetape demo | serve | simulate | keys | check-env | check-config | doctor`.

Results go to standard output, logs and complaints to standard error. The exit status
is 0 when all is well, 1 when a check found a fault, 2 when a command or a setting is
wrong. Commands import what they need when they run: the base install has no gateway.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
from cyclopts import App, Parameter

from onetape import __version__, config as settings
from onetape.clock import SystemClock
from onetape.config import Config
from onetape.errors import ConfigInvalid, OnetapeError
from onetape.model import AssetClass

if TYPE_CHECKING:
    from onetape.gateway.keys import KeyRecord

app = App(
    name="onetape",
    help="Share one Massive.com subscription among any number of programs.",
    version=__version__,
    result_action="return_value",
)
keys = App(name="keys", help="Make, list and revoke the keys that programs come in with.")
app.command(keys)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, for scripts.")]

FAULT_FOUND = 1
WRONG_USAGE = 2


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        status = app()
    except ConfigInvalid as error:
        status = _complain(str(error))
    except OnetapeError as error:
        status = _complain(f"{error.code}: {error}")
    except ImportError as error:
        extra = "pip install 'onetape[gateway,simulator]'"
        status = _complain(f"this command needs more than the base install ({error.name}): {extra}")
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


# servers


@app.command
def demo(*, json: Json = False) -> int:
    """Run the gateway in front of the simulated vendor; no key, no account, no market hours."""
    from onetape import demo as demo_

    async def run(stop: asyncio.Event) -> None:
        async with demo_.running(_config(), write=_quiet) as running:
            if json:
                _print_json(running._asdict())
                await stop.wait()
                return
            _print(demo_.banner(running))
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(demo_.watch(running, _print))
                await stop.wait()
                watching.cancel()

    return _run(run)


@app.command
def serve() -> int:
    """Run the gateway in front of the real vendor. Needs MASSIVE_API_KEY."""
    config = _config()
    if config.massive.api_key is None:
        return _complain(
            "MASSIVE_API_KEY is not set: put it into the environment or .env,"
            " or try everything without a key with `onetape demo`"
        )
    from onetape.gateway.app import Gateway
    from onetape.gateway.logs import Sink

    async def run(stop: asyncio.Event) -> None:
        async with Gateway(config, write=sink.write) as gateway:
            _say(f"onetape {__version__} serves {gateway.url}")
            await stop.wait()
            _say("draining ...")

    with Sink(sys.stderr.buffer) as sink:
        return _run(run)


@app.command
def simulate(
    *,
    port: int | None = None,
    seed: int | None = None,
    speed: float | None = None,
    rate: float | None = None,
    json: Json = False,
) -> int:
    """Run the simulated vendor alone, REST and WebSocket on one port.

    Args:
        port: Where to listen; 0 for any free port.
        seed: The same seed makes the same tape.
        speed: Market seconds per second.
        rate: Density of the tape; 2 makes twice the trades.
        json: Print one JSON line, for scripts.
    """
    from onetape.simulator.app import Simulator, SimulatorSettings
    from onetape.simulator.market import Hours

    defaults = _config().simulator
    simulator_settings = SimulatorSettings(
        port=defaults.port if port is None else port,
        seed=defaults.seed if seed is None else seed,
        speed=speed or defaults.speed,
        rate=rate or defaults.rate,
        hours=Hours(defaults.hours),
        extra=defaults.symbols,
    )

    async def run(stop: asyncio.Event) -> None:
        async with Simulator(simulator_settings) as simulator:
            facts = {
                "url": simulator.url,
                "socket_url": simulator.socket_url,
                "api_key": simulator.key,
                "seed": simulator_settings.seed,
            }
            if json:
                _print_json(facts)
            else:
                _print(
                    "A SIMULATED vendor. Aim a gateway at it:\n\n"
                    f"  MASSIVE_API_KEY={simulator.key} MASSIVE_BASE_URL={simulator.url}"
                    f" MASSIVE_SOCKET_URL={simulator.socket_url} onetape serve\n"
                )
            await stop.wait()

    return _run(run)


# keys


@keys.command(name="create")
def create_key(  # noqa: PLR0913 - each is an option of the command
    name: str,
    *,
    asset: tuple[AssetClass, ...] = tuple(AssetClass),
    rest: tuple[str, ...] | None = None,
    topic: tuple[str, ...] = ("*",),
    rate: int | None = None,
    loopback_only: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> int:
    """Make a key and print its secret, this once.

    Args:
        name: What to call it; one name, one live key.
        asset: Which sockets it opens; may be repeated. All by default.
        rest: Path prefixes it may ask for, like /v3/snapshot; may be repeated.
        topic: Patterns of topics it may read, like 'Q.O:SPY*'; may be repeated.
        rate: REST requests a minute, instead of the gateway's own limits.
        loopback_only: Good only from the gateway's own host.
        json: Print JSON, for scripts.
    """
    from onetape.gateway.keys import KeyStore, Scopes

    scopes = Scopes(
        assets=frozenset(asset),
        rest=rest,
        topics=topic,
        rate_per_minute=rate,
        loopback_only=loopback_only,
    )
    with KeyStore(_state_dir()) as store:
        key = store.create(name, now_ns=SystemClock().now_ns(), scopes=scopes)
    if json:
        _print_json({"key_id": key.record.key_id, "name": name, "client_key": key.secret})
    else:
        _print(key.secret)
        _say(f"key {key.record.key_id} ({name}): keep the line above, it is not shown again")
    return 0


@keys.command(name="list")
def list_keys(*, json: Json = False) -> int:
    """List every key, the revoked ones too. No secret is kept, so none is shown."""
    from onetape.gateway.keys import KeyStore

    with KeyStore(_state_dir()) as store:
        records = store.records()
    if json:
        _print_json(records)
        return 0
    _print(f"{'ID':10}{'NAME':24}{'STATE':10}{'CREATED':22}{'LAST USED':22}SCOPES")
    for record in records:
        state = "live" if record.revoked_ns is None else "revoked"
        _print(
            f"{record.key_id:10}{record.name:24}{state:10}{_when(record.created_ns):22}"
            f"{_when(record.last_used_ns):22}{_scopes(record)}"
        )
    return 0


@keys.command(name="revoke")
def revoke_key(name_or_id: str) -> int:
    """Revoke a key and the tokens minted with it; its open sockets close within a second."""
    from onetape.gateway.keys import KeyStore

    with KeyStore(_state_dir()) as store:
        record = store.revoke(name_or_id, now_ns=SystemClock().now_ns())
    _say(f"key {record.key_id} ({record.name}) is revoked")
    return 0


@keys.command(name="rotate")
def rotate_signing_key(*, now: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Sign tokens with a new key from now on.

    Args:
        now: Refuse all tokens signed before, at once: for a signing key that leaked.
    """
    from onetape.gateway.keys import KeyStore

    config = _config()
    overlap_s = 0 if now else 2 * config.gateway.token_ttl_s
    with KeyStore(config.gateway.state_dir) as store:
        kid = store.rotate_signing_key(
            now_ns=SystemClock().now_ns(), overlap_ns=round(overlap_s * 1e9)
        )
    _say(f"tokens are signed with {kid} from now on; older ones are good for {overlap_s:g} s")
    return 0


# checks


@app.command(name="check-env")
def check_env() -> int:
    """Say of each variable whether it is fit to start with; never its value."""
    findings = settings.check_environment()
    for finding in findings:
        _print(str(finding))
    if any(finding.fatal for finding in findings):
        return FAULT_FOUND
    _print("all required variables are set")
    return 0


@app.command(name="check-config")
def check_config(*, json: Json = False) -> int:
    """Print every setting, its value and where it came from; secrets as ***."""
    rows = settings.describe(_config())
    if json:
        _print_json(rows)
        return 0
    for row in rows:
        _print(f"{row.variable:32}{row.value if row.value is not None else '-':40}{row.origin}")
    return 0


@app.command
def doctor(*, live: Annotated[bool, Parameter(negative=())] = False, json: Json = False) -> int:
    """Examine the set-up and say what is wrong, and what to do about it.

    Args:
        live: Also ask the real vendors: one REST call each, and one login per asset
            class, which takes the connection from whoever has it.
        json: Print JSON, for scripts.
    """
    from onetape import doctor as doctor_

    async def run(_stop: asyncio.Event) -> None:
        results.extend(await doctor_.examine(live=live))

    results: list[doctor_.Result] = []
    _run(run)
    if json:
        _print_json(results)
    else:
        for result in results:
            _print(str(result))
    return FAULT_FOUND if any(result.verdict == "fault" for result in results) else 0


# private


def _config() -> Config:
    config = settings.load()
    for warning in config.warnings:
        _say(f"warning: {warning}")
    return config


def _state_dir() -> Path:
    return settings.load().gateway.state_dir


def _run(program: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run a program until it ends, or is asked to by SIGINT or SIGTERM."""

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt will do
                loop.add_signal_handler(number, stop.set)
        await program(stop)

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(until_told())
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise
        return _complain(f"{error.strerror}; PORT=0 takes any free port")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _quiet(line: bytes) -> None:
    """Show only what somebody should look at; a demo is no place for a log."""
    if b'"level":"info"' not in line and b"[info" not in line:
        sys.stderr.buffer.write(line + b"\n")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_json(value: object) -> None:
    _print(msgspec.json.encode(value).decode())


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _complain(text: str) -> int:
    _say(f"onetape: {text}")
    return WRONG_USAGE


def _when(at_ns: int | None) -> str:
    return "-" if at_ns is None else f"{datetime.fromtimestamp(at_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}"


def _scopes(record: "KeyRecord") -> str:
    scopes = record.scopes
    parts = ["+".join(sorted(scopes.assets)), f"topics {','.join(scopes.topics)}"]
    if scopes.rest is not None:
        parts.append(f"rest {','.join(scopes.rest)}")
    if scopes.rate_per_minute is not None:
        parts.append(f"{scopes.rate_per_minute}/min")
    if scopes.loopback_only:
        parts.append("loopback only")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
