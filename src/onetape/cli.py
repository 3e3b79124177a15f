"""The command line: what runs a gateway, what looks after it, and what asks it.

    demo  serve  simulate            servers
    keys  check-env  check-config  doctor
    quote  chain  bars  trades  stream  watch  health     in `commands`

Results go to standard output, logs and complaints to standard error; `exits` has what the
exit status means. Commands import what they need when they run: the base install has no
gateway, and `onetape --version` needs neither the client nor what draws.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from onetape import __version__, config as settings
from onetape.clock import SystemClock
from onetape.commands.exits import EPILOGUE, Exit, status_of
from onetape.errors import ConfigInvalid, NotFound, OnetapeError
from onetape.model import AssetClass
from onetape.ports import listening
from onetape.terminal.printer import say as _say, unbuffered as _raw

if TYPE_CHECKING:
    from onetape.gateway.keys import KeyRecord
    from onetape.simulator.app import Simulator

app = App(
    name="onetape",
    help="Share one Massive.com subscription among any number of programs.",
    help_epilogue=EPILOGUE,
    version_flags=(),  # cyclopts' own would load all that draws
    result_action="return_value",
    default_parameter=Parameter(negative=()),
)
keys = App(name="keys", help="Make, list and revoke the keys that programs come in with.")
app.command(keys)

Json = Annotated[bool, Parameter(help="Print JSON, for scripts.")]
Factor = Annotated[float | None, Parameter(validator=Number(gt=0, lte=100_000))]

MARKET: Final = {
    "quote": ("commands.market:quote", "Show the quotes of stocks, options and indices."),
    "chain": ("commands.market:chain", "Show the options on a stock or an index."),
    "bars": ("commands.market:bars", "Show bars of a range, or the last so many."),
    "trades": ("commands.market:trades", "Show the prints of an option."),
    "stream": ("commands.live:stream", "Print quotes, bars or trades as they come."),
    "watch": ("commands.live:watch", "Show a board of prices that stays up to date."),
    "health": ("commands.market:health", "Say how the gateway fares, and a client of it."),
}
"""The commands that ask a gateway: where they are, and what the list of commands says of them."""

for _name, (_place, _help) in MARKET.items():
    app.command(f"onetape.{_place}", name=_name, help=_help)

_PATIENCE_S: Final = 1.0  # between the Ctrl-C that drains and the one that does not wait


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_missing_streams()
    # What is not bridged into a gateway's log is not for the terminal.
    logging.getLogger("onetape").addHandler(logging.NullHandler())
    try:
        status = _status()
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_readers()
        status = Exit.READER_GONE
    sys.exit(status)


def _status() -> int:
    try:
        return app(sys.argv[1:]) or 0
    except ConfigInvalid as error:
        return _complain(str(error))
    except OnetapeError as error:
        return _complain(f"{error.code}: {error}", status_of(error))
    except sqlite3.Error as error:
        return _complain(f"ONETAPE_STATE_DIR: the key store cannot be used: {error}")
    except ImportError as error:
        extra = "pip install 'onetape[gateway,simulator]'"
        return _complain(f"this command needs more than the base install ({error.name}): {extra}")


@app.command(name="--version")
def version() -> int:
    """Print the version and exit."""
    _print(__version__)
    return 0


# servers


@app.command
def demo(*, json: Json = False) -> int:
    """Run the gateway in front of the simulated vendor; no key, no account, no market hours."""
    from onetape import demo as demo_
    from onetape.gateway.logs import Sink

    config = settings.load()
    ignored = demo_.unused(config)

    async def run(stop: asyncio.Event) -> None:
        def show(text: str) -> None:
            out.write(text.encode())
            if out.dropped:  # nobody reads any more
                stop.set()

        async with demo_.running(config, write=log.write) as running:
            if json:
                show(msgspec.json.encode(running._asdict()).decode())
                if ignored:
                    _say(f"{' and '.join(ignored)}: set, and ignored by the demo")
                await stop.wait()
                return
            show(demo_.banner(running, ignored=ignored, command=demo_.called_as(sys.argv[0])))
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(demo_.watch(running, show))
                await stop.wait()
                watching.cancel()

    # A terminal or pipe that blocks must not stop the loop, or Ctrl-C.
    with Sink(_raw(sys.stderr)) as log, Sink(_raw(sys.stdout)) as out:
        _run(run)
    return Exit.READER_GONE if out.dropped else 0


@app.command
def serve() -> int:
    """Run the gateway in front of the real vendor. Needs MASSIVE_API_KEY."""
    config = settings.load()
    if config.massive.api_key is None:
        return _complain(
            "MASSIVE_API_KEY is not set: put it into the environment or .env,"
            " or try everything without a key with `onetape demo`"
        )
    from onetape.gateway.app import Gateway
    from onetape.gateway.logs import Renderer, Sink, event_log, redactor

    chosen = config.gateway
    renderer = Renderer(chosen.log_format, clock=SystemClock(), redact=redactor(()))

    async def run(stop: asyncio.Event) -> None:
        log = event_log(sink.write, renderer, level=chosen.log_level)
        async with contextlib.AsyncExitStack() as stack:
            with listening("PORT", host=chosen.host, port=chosen.port):
                gateway = await stack.enter_async_context(
                    Gateway(config, write=sink.write, lines_dropped=lambda: sink.dropped)
                )
            log.info("gateway.serving", url=gateway.url, version=__version__)
            await stop.wait()
            log.info("gateway.draining")
        log.info("gateway.stopped")

    with Sink(_raw(sys.stderr)) as sink:
        _run(run)
    return 0


@app.command
def simulate(
    *,
    port: Annotated[int | None, Parameter(validator=Number(gte=0, lte=65_535))] = None,
    seed: Annotated[int | None, Parameter(validator=Number(gte=0, lt=2**63))] = None,
    speed: Factor = None,
    rate: Factor = None,
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

    defaults = settings.load().simulator
    chosen = SimulatorSettings(
        port=defaults.port if port is None else port,
        seed=defaults.seed if seed is None else seed,
        speed=speed or defaults.speed,
        rate=rate or defaults.rate,
        hours=Hours(defaults.hours),
        extra=defaults.symbols,
    )

    async def run(stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            variable = "ONETAPE_SIM_PORT" if port is None else "--port"
            with listening(variable, host=chosen.host, port=chosen.port):
                simulator = await stack.enter_async_context(Simulator(chosen))
            if json:
                _print_json(
                    {
                        "url": simulator.url,
                        "socket_url": simulator.socket_url,
                        "api_key": simulator.key,
                        "seed": chosen.seed,
                        "speed": chosen.speed,
                        "rate": chosen.rate,
                    }
                )
            else:
                _print(_how_to_aim(simulator))
            await stop.wait()

    _run(run)
    return 0


# keys


@keys.command(name="create")
def create_key(  # noqa: PLR0913 - each is an option of the command
    name: str,
    /,
    *,
    asset: tuple[AssetClass, ...] = tuple(AssetClass),
    rest: tuple[str, ...] | None = None,
    topic: tuple[str, ...] = ("*",),
    rate: int | None = None,
    loopback_only: bool = False,
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
    rows = [
        (
            record.key_id,
            record.name,
            "live" if record.revoked_ns is None else "revoked",
            _when(record.created_ns),
            _when(record.last_used_ns),
            _scopes(record),
        )
        for record in records
    ]
    _print_table(("ID", "NAME", "STATE", "CREATED", "LAST USED", "SCOPES"), *rows)
    return 0


@keys.command(name="revoke")
def revoke_key(key: str, /) -> int:
    """Revoke a key and the tokens minted with it; its open sockets close within a second.

    Args:
        key: Its name, its id, or the leaked key itself.
    """
    from onetape.gateway.keys import SECRET_PATTERN, KeyStore

    secret = SECRET_PATTERN.fullmatch(key)
    name_or_id = secret[1] if secret else key
    try:
        with KeyStore(_state_dir()) as store:
            record = store.revoke(name_or_id, now_ns=SystemClock().now_ns())
    except NotFound:  # whose message repeats what was typed, which may be most of a secret
        return _complain("no live key has this name or id; `onetape keys list` shows them all")
    _say(f"key {record.key_id} ({record.name}) is revoked")
    return 0


@keys.command(name="rotate")
def rotate_signing_key(*, now: bool = False) -> int:
    """Sign tokens with a new key from now on.

    Args:
        now: Refuse all tokens signed before, at once: for a signing key that leaked.
    """
    from onetape.gateway.keys import KeyStore

    config = settings.load()
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
        return Exit.FAULT_FOUND
    _print("all required variables are set")
    return 0


@app.command(name="check-config")
def check_config(*, json: Json = False) -> int:
    """Print every setting, its value and where it came from; secrets as ***."""
    config = settings.load()
    for warning in config.warnings:
        _say(f"warning: {warning}")
    rows = settings.describe(config)
    if json:
        _print_json(rows)
    else:
        _print_table(*((row.variable, row.origin, row.value or "-") for row in rows))
    return 0


@app.command
def doctor(*, live: bool = False, json: Json = False) -> int:
    """Examine the set-up and say what is wrong, and what to do about it.

    Args:
        live: Also ask the real vendors: one REST call each, and one login per asset
            class, which takes the connection from whoever has it.
        json: Print JSON, for scripts.
    """
    from onetape import doctor as doctor_

    results = asyncio.run(doctor_.examine(live=live))
    if json:
        _print_json(results)
    else:
        _print("\n".join(map(str, results)))
    return Exit.FAULT_FOUND if any(result.verdict == "fault" for result in results) else 0


# private


def _state_dir() -> Path:
    return settings.load().gateway.state_dir


def _run(program: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a program until it ends, or is told to by SIGINT or SIGTERM.

    A second signal, if it is no echo of the first, does not wait for the end.
    """

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def listen(do: Callable[[], object]) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt does
                    loop.add_signal_handler(number, do)

        def told() -> None:
            stop.set()
            loop.call_later(_PATIENCE_S, listen, _give_up)

        listen(told)
        await program(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(until_told())


def _give_up() -> None:
    logging.disable()  # every request that is cut would log a traceback
    raise KeyboardInterrupt


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _open_missing_streams() -> None:
    """Take the place of streams closed before the start, or a socket might take it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
            setattr(sys, name, nowhere)


def _forget_readers() -> None:
    """Let what is still buffered go nowhere; or the interpreter complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_table(*rows: Sequence[str]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _print("  ".join(cells).rstrip())


def _print_json(value: object) -> None:
    _print(msgspec.json.encode(value).decode())


def _complain(text: str, status: int = Exit.WRONG_USAGE) -> int:
    _say(f"onetape: {text}")
    return status


def _how_to_aim(simulator: "Simulator") -> str:
    return (
        "A SIMULATED vendor. Aim a gateway at it:\n\n"
        f"  MASSIVE_API_KEY={simulator.key} MASSIVE_BASE_URL={simulator.url}"
        f" MASSIVE_SOCKET_URL={simulator.socket_url} onetape serve\n"
    )


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
