"""The command as people and scripts have it: real processes, on loopback."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import pytest
from cyclopts import App
from websockets.asyncio.client import ClientConnection, connect

from onetape.cli import MARKET, app, main
from onetape.clock import SystemClock
from onetape.commands.exits import Exit
from onetape.gateway.app import Gateway
from onetape.gateway.keys import FILE_NAME
from onetape.setting_table import TABLE
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.massive.accounts import ADVANCED, Account, Plan
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
CANARY = "canary-9f3kq7w2x8v4"
TOKEN = "canary-token-4tz81mfa63ye"
DOCUMENT = Path(__file__).parents[1] / "docs/cli.md"


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """Ours without the settings of whoever runs the tests."""
    ours = {row.variable for row in TABLE} | {row.setting.alias for row in TABLE}
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - to hand on to a process
        if name not in ours and not name.startswith("ONETAPE_")
    }
    return {**kept, "HOME": str(directory), "XDG_STATE_HOME": str(directory / "state"), **variables}


class Program:
    """`onetape` as a process; what it says goes to files, so that nothing ever blocks."""

    def __init__(self, directory: Path, *arguments: str, **variables: str) -> None:
        self._out, self._err = directory / "stdout", directory / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "onetape", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env=environment(directory, **variables),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def has_said(self, pattern: str) -> bool:
        return re.search(pattern, self.out + self.err) is not None

    async def says(self, pattern: str, *, timeout_s: float = 30.0) -> str:
        """Wait for a line that matches; return it."""
        async with asyncio.timeout(timeout_s):
            while not self.has_said(pattern):
                assert self.process.poll() is None, self.out + self.err
                await asyncio.sleep(0.02)
        return next(line for line in (self.out + self.err).splitlines() if re.search(pattern, line))

    async def stop(self, number: int) -> tuple[int, float]:
        """Send the signal; return the exit status and how long it took, in seconds."""
        clock = SystemClock()
        started = clock.monotonic()
        self.process.send_signal(number)
        status = await asyncio.to_thread(self.process.wait, 20)
        return status, clock.monotonic() - started


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onetape", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=directory,
        env=environment(directory, **variables),
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that could not."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The same in this process, where nothing depends on its being another: quicker."""

    def run_here(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["onetape", *arguments])
            for name, value in environment(tmp_path, **variables).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    return run_here


@contextlib.contextmanager
def taken_port(port: int = 0) -> Generator[tuple[socket.socket, int]]:
    """A port on which something listens, and never answers."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it: as good
            listener.bind(("127.0.0.1", port))
        listener.listen()
        listener.settimeout(20)
        yield listener, listener.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def assert_untouched(listener: socket.socket) -> None:
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def get(url: str, key: str | None = None, method: str = "GET") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers) as answer,
    ):
        return answer.status, msgspec.json.decode(await answer.read())


async def logged_in(client: ClientConnection, key: str) -> None:
    await client.send(msgspec.json.encode({"action": "auth", "params": key}).decode())
    async with asyncio.timeout(10):
        while b"auth_success" not in await client.recv(decode=False):
            pass


async def hears(client: ClientConnection, topic: str) -> None:
    await client.send(msgspec.json.encode({"action": "subscribe", "params": topic}).decode())
    async with asyncio.timeout(20):
        while b'"ev":"V"' not in await client.recv(decode=False):
            pass


# demo


async def test_demo_json_says_where_it_is_and_works_until_it_is_ended(tmp_path: Path) -> None:
    """The real vendor is never asked, and its key is nowhere."""
    with taken_port() as (listener, trap):
        port, state = free_port(), tmp_path / "state"
        variables = {
            "PORT": str(port),
            "ONETAPE_STATE_DIR": str(state),
            "MASSIVE_API_KEY": CANARY,
            "TRADIER_ACCESS_TOKEN": TOKEN,
            "MASSIVE_BASE_URL": f"http://127.0.0.1:{trap}",
            "MASSIVE_SOCKET_URL": f"ws://127.0.0.1:{trap}",
            "TRADIER_BASE_URL": f"http://127.0.0.1:{trap}",
        }
        with Program(tmp_path, "demo", "--json", **variables) as demo:
            await demo.says("client_key")
            facts: dict[str, str] = msgspec.json.decode(demo.out.splitlines()[0])
            key, url = facts["client_key"], facts["url"]
            assert url == f"http://127.0.0.1:{port}"
            assert facts["simulator_url"].startswith("http://127.0.0.1:")

            status, body = await get(f"{url}/v3/snapshot?ticker.any_of=SPY,I:SPX", key)
            assert (status, len(body["results"])) == (200, 2)
            assert (await get(f"{url}/v3/snapshot"))[0] == 403
            async with connect(f"ws://127.0.0.1:{port}/indices") as client:
                await logged_in(client, key)
                await hears(client, "V.I:SPX")
                ended, took_s = await demo.stop(signal.SIGTERM)

            assert (ended, took_s < 2) == (0, True), demo.err
            assert len(demo.out.splitlines()) == 1
            assert "MASSIVE_API_KEY and TRADIER_ACCESS_TOKEN: set, and ignored" in demo.err
            assert "Traceback" not in demo.err
            assert not re.search(f"{CANARY}|{TOKEN}", demo.out + demo.err)
        assert_untouched(listener)
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(f"{url}/api/health")
    async with Playground(state) as play:
        status, body = await get(f"{play.gateway.url}/v1/marketstatus/now", key)
    assert (status, body["code"]) == (403, "token_revoked")


def requests_in(banner: str) -> Iterator[tuple[str, str, str]]:
    """The banner's curl commands as method, URL and Authorization."""
    for text in re.findall(r"^  (curl (?:.|\\\n)*?[^\\])$", banner, re.MULTILINE):
        words = shlex.split(text)
        (url,) = (word for word in words if word.startswith("http"))
        header = words[words.index("-H") + 1]
        yield words[words.index("-X") + 1] if "-X" in words else "GET", url, header


async def test_demo_prints_four_commands_that_work_when_pasted(tmp_path: Path) -> None:
    """The default port is taken, so another one is."""
    with taken_port(3000), Program(tmp_path, "demo") as demo:
        await demo.says(r"simulated   NDX [\d,.]+   SPX [\d,.]+   VIX [\d.]+   \d+ events/s")
        banner = demo.out
        assert ":3000" not in banner
        assert "SIMULATED" in banner
        assert "ignored" not in banner

        curls = list(requests_in(banner))
        assert len(curls) == 2
        for method, url, header in curls:
            name, _, value = header.partition(": ")
            assert name == "Authorization"
            status, body = await get(url, value.removeprefix("Bearer "), method)
            assert status == 200
            assert body.get("token") or len(body["results"]) == 3

        (pasted,) = re.findall(
            r"^  (pip install (?:.|\n)*?\.run\(print\)\")$", banner, re.MULTILINE
        )
        await prints_values(tmp_path, pasted)

        (pasted,) = re.findall(r"^  (ONETAPE_URL=.* watch SPX VIX SPY)$", banner, re.MULTILINE)
        await watches(tmp_path, pasted)

        ended, took_s = await demo.stop(signal.SIGINT)
        assert (ended, took_s < 2, demo.err) == (0, True, "")


async def watches(directory: Path, pasted: str) -> None:
    """Run what the shell would, where `python` is ours."""
    assert "python -m onetape watch" in pasted
    aimed = pasted.replace(" python ", f' "{sys.executable}" ')
    process = await asyncio.create_subprocess_exec(
        "sh",
        *("-c", f"exec env {aimed} --seconds 1 --json"),
        stdout=asyncio.subprocess.PIPE,
        cwd=directory,
        env=environment(directory),
    )
    out, _ = await process.communicate()
    rows = [msgspec.json.decode(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert {row["symbol"] for row in rows} == {"I:SPX", "I:VIX", "SPY"}
    assert all(row["simulated"] and row["change"] is not None for row in rows)


async def prints_values(directory: Path, pasted: str) -> None:
    """Run what the shell would; its `pip` does nothing, its `python` is ours."""
    script = f'pip() {{ :; }}; python() {{ exec "{sys.executable}" "$@"; }}; {pasted}'
    process = await asyncio.create_subprocess_exec(
        "sh",
        *("-c", script),
        stdout=asyncio.subprocess.PIPE,
        env=environment(directory, PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert b"IndexValue" in line
    finally:
        process.kill()
        await process.communicate()


def test_a_demo_whose_reader_went_away_ends_quietly(tmp_path: Path) -> None:
    """As `onetape demo | head -1`, with the vendor's key set."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "onetape", "demo"]
    variables = environment(tmp_path, PORT="0", MASSIVE_API_KEY=CANARY, ONETAPE_HOST="0.0.0.0")
    with subprocess.Popen(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=variables
    ) as demo:
        os.close(writer)
        first = b""
        while b"Live, through" not in first:
            first += os.read(reader, 4096)
        os.close(reader)
        _, errors = demo.communicate(timeout=20)

    assert demo.returncode == 141
    assert b"MASSIVE_API_KEY and ONETAPE_HOST: set, and ignored by the demo" in first
    assert b"gateway     http://127.0.0.1:" in first
    assert CANARY.encode() not in first + errors
    assert b"Traceback" not in errors
    assert b"Broken" not in errors


@pytest.mark.parametrize(
    ("arguments", "variable", "named"),
    [
        (["demo"], "PORT", "PORT"),
        (["serve"], "PORT", "PORT"),
        (["simulate"], "ONETAPE_SIM_PORT", "ONETAPE_SIM_PORT"),
        (["simulate", "--port", "{}"], "X", "--port"),
    ],
    ids=["demo", "serve", "simulate", "simulate-port"],
)
def test_a_named_port_that_is_taken_is_one_line(
    command: Command, arguments: list[str], variable: str, named: str
) -> None:
    with taken_port() as (_, port):
        filled = [argument.format(port) for argument in arguments]
        done = command(*filled, MASSIVE_API_KEY=CANARY, **{variable: str(port)})

    said = f"onetape: {named}: port {port} is taken by another program"
    assert complaint(done).startswith(said)


# serve


def test_serve_without_a_key_says_what_to_do(command: Command) -> None:
    line = complaint(command("serve"))

    assert "MASSIVE_API_KEY" in line
    assert "`onetape demo`" in line


CANARY_VENDOR = SimulatorSettings(
    key=CANARY,
    accounts=(Account(name="canary", keys=frozenset({CANARY}), plan=Plan.everywhere(ADVANCED)),),
)


def aimed_at(simulator: Simulator, **more: str) -> dict[str, str]:
    return {
        "MASSIVE_API_KEY": simulator.key,
        "MASSIVE_BASE_URL": simulator.url,
        "MASSIVE_SOCKET_URL": simulator.socket_url,
        "PORT": "0",
        **more,
    }


@contextlib.asynccontextmanager
async def listener_on(url: str, key: str) -> AsyncGenerator[ClientConnection]:
    """A client that hears index values."""
    async with connect(url.replace("http", "ws") + "/indices") as client:
        await logged_in(client, key)
        await hears(client, "V.I:SPX")
        yield client


async def test_serve_serves_drains_and_never_says_the_key(tmp_path: Path) -> None:
    """A client is asked to come back; the log is JSON, line for line."""
    secret = run(tmp_path, "keys", "create", "laptop").stdout.strip()
    async with Simulator(CANARY_VENDOR) as simulator:
        variables = aimed_at(simulator, ONETAPE_LOG_FORMAT="json", MASSIVE_PROXY_TOKEN=TOKEN)
        with Program(tmp_path, "serve", **variables) as serve:
            url = msgspec.json.decode(await serve.says("gateway.serving"))["url"]
            assert (await get(f"{url}/v1/marketstatus/now", secret))[0] == 200
            assert (await get(f"{url}/v1/marketstatus/now", CANARY))[0] == 403
            async with listener_on(url, secret) as client:
                status, took_s = await serve.stop(signal.SIGTERM)
                await client.wait_closed()

    assert (status, took_s < 3) == (0, True), serve.err
    assert client.close_code == 1012
    assert serve.out == ""
    events = [msgspec.json.decode(line)["event"] for line in serve.err.splitlines()]
    assert {"gateway.serving", "gateway.draining", "gateway.stopped", "session.closed"} <= {*events}
    assert not re.search(f"{CANARY}|{TOKEN}|{secret}", serve.err)


async def test_a_second_signal_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    secret = run(tmp_path, "keys", "create", "laptop").stdout.strip()
    with taken_port() as (vendor, port):
        variables = {
            "MASSIVE_API_KEY": CANARY,
            "MASSIVE_BASE_URL": f"http://127.0.0.1:{port}",
            "ONETAPE_DRAIN_S": "30",
            "PORT": "0",
        }
        async with asyncio.TaskGroup() as tasks:
            with Program(tmp_path, "serve", **variables) as serve:
                (url,) = re.findall(r"url=(\S+)", await serve.says("gateway.serving"))
                asked = tasks.create_task(is_cut(f"{url}/v1/marketstatus/now", secret))
                asking, _ = await asyncio.to_thread(vendor.accept)  # and never an answer
                serve.process.send_signal(signal.SIGINT)
                await serve.says("gateway.draining")
                await asyncio.sleep(1.2)  # a second one at once is taken for an echo
                is_waiting = serve.process.poll() is None
                status, took_s = await serve.stop(signal.SIGINT)
                asking.close()

    assert is_waiting
    assert (status, took_s < 2) == (130, True), serve.err
    assert "Traceback" not in serve.err
    assert asked.result()


async def is_cut(url: str, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status >= 500
    except aiohttp.ClientError:
        return True


# simulate


async def test_simulate_serves_the_vendor_as_told(tmp_path: Path) -> None:
    arguments = ["simulate", "--port", "0", "--seed", "3", "--speed", "2", "--rate", "5", "--json"]
    with Program(tmp_path, *arguments) as simulate:
        await simulate.says("api_key")
        facts = msgspec.json.decode(simulate.out)
        assert {name: facts[name] for name in ("seed", "speed", "rate")} == {
            "seed": 3,
            "speed": 2,
            "rate": 5,
        }

        status, _ = await get(f"{facts['url']}/v1/marketstatus/now", facts["api_key"])
        state = await get(f"{facts['url']}/_simulator/state")
        async with connect(f"{facts['socket_url']}/indices") as client:
            await logged_in(client, facts["api_key"])
        ended, took_s = await simulate.stop(signal.SIGINT)

    assert (status, state[1]["speed"]) == (200, 2)
    assert (ended, took_s < 2) == (0, True)
    assert simulate.err == ""


async def test_simulate_says_how_to_aim_a_gateway_at_it(tmp_path: Path) -> None:
    with Program(tmp_path, "simulate", ONETAPE_SIM_PORT="0") as simulate:
        line = await simulate.says("onetape serve")
        assert (await simulate.stop(signal.SIGTERM))[0] == 0

    pairs = [word.partition("=") for word in shlex.split(line)[:3]]
    address = r"127\.0\.0\.1:\d+"
    assert [name for name, _, _ in pairs] == [
        "MASSIVE_API_KEY",
        "MASSIVE_BASE_URL",
        "MASSIVE_SOCKET_URL",
    ]
    assert re.fullmatch(f"http://{address}", pairs[1][2])
    assert re.fullmatch(f"ws://{address}", pairs[2][2])


@pytest.mark.parametrize(
    "arguments",
    [["--speed", "0"], ["--rate", "-1"], ["--port", "70000"], ["--seed", "-1"], ["--speed", "nan"]],
    ids=" ".join,
)
def test_simulate_refuses_numbers_that_make_no_sense(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["simulate", *arguments])

    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


# keys


def test_a_keys_life(tmp_path: Path, command: Command) -> None:
    """Section C: the secret is shown once, and never kept."""
    scoped = ["--asset", "options", "--asset", "stocks", "--rest", "/v3/snapshot"]
    scoped += ["--topic", "Q.O:SPY*", "--rate", "60", "--loopback-only"]
    made = command("keys", "create", "laptop", *scoped, "--json")
    facts = msgspec.json.decode(made.stdout)
    secret = facts["client_key"]
    assert re.fullmatch(r"ot_[a-z2-7]{8}_\S{43}", secret)

    again = complaint(command("keys", "create", "laptop"))
    assert again == "onetape: invalid_request: there is a key named 'laptop' already"
    plain = command("keys", "create", "phone")
    assert re.fullmatch(r"ot_\S+\n", plain.stdout)
    assert plain.stdout.strip() not in plain.stderr

    listed = command("keys", "list")
    laptop, phone = listed.stdout.splitlines()[1:]
    expected = "options+stocks; topics Q.O:SPY*; rest /v3/snapshot; 60/min; loopback only"
    assert re.search(rf"^{facts['key_id']}  laptop  live  .*  {re.escape(expected)}$", laptop)
    assert phone.endswith("indices+options+stocks; topics *")

    revoked = command("keys", "revoke", secret)
    assert revoked.stderr == f"key {facts['key_id']} (laptop) is revoked\n"
    records = msgspec.json.decode(command("keys", "list", "--json").stdout)
    assert [record["revoked_ns"] is None for record in records] == [False, True]
    assert records[0]["scopes"]["rest"] == ["/v3/snapshot"]

    gone = complaint(command("keys", "revoke", secret))
    assert gone.startswith("onetape: no live key has this name or id")
    everything = (listed, revoked, *(command("keys", "list", "--json"),))
    assert all(secret not in done.stdout + done.stderr for done in everything)
    assert secret.encode() not in (tmp_path / "state/onetape" / FILE_NAME).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "a b"], "a key's name is 1-64 letters"),
        (["create", "x", "--rest", "v3"], "not a path prefix"),
        (["create", "x", "--topic", "Q O"], "not a topic pattern"),
        (["create", "x", "--rate", "0"], "a scope is malformed"),
    ],
    ids=["name", "rest", "topic", "rate"],
)
def test_a_key_that_makes_no_sense_is_one_line(
    command: Command, arguments: list[str], said: str
) -> None:
    assert said in complaint(command("keys", *arguments))


def test_rotating_leaves_older_tokens_their_time_unless_they_leaked(command: Command) -> None:
    later = command("keys", "rotate", ONETAPE_TOKEN_TTL_S="30")
    now = command("keys", "rotate", "--now")

    assert (later.returncode, now.returncode) == (0, 0)
    assert later.stderr.endswith("older ones are good for 60 s\n")
    assert now.stderr.endswith("older ones are good for 0 s\n")


async def test_revoking_closes_the_keys_open_sockets_within_a_second(tmp_path: Path) -> None:
    """By the command line, in another process than the gateway."""
    async with Playground(tmp_path / "state") as play:
        key = await play.key()
        async with connect(f"ws://{play.gateway.netloc}/indices") as client:
            await logged_in(client, key)
            variables = {"ONETAPE_STATE_DIR": str(play.state_dir)}
            done = await asyncio.to_thread(run, tmp_path, "keys", "revoke", "key1", **variables)
            assert done.returncode == 0
            async with asyncio.timeout(1):
                await client.wait_closed()

        assert client.close_code == 4401


def test_a_damaged_key_store_is_one_line(tmp_path: Path, command: Command) -> None:
    (tmp_path / "state/onetape").mkdir(parents=True)
    (tmp_path / "state/onetape" / FILE_NAME).write_bytes(b"no database " * 100)

    assert "ONETAPE_STATE_DIR: the key store cannot be" in complaint(command("keys", "list"))


# checks

GOOD = {"MASSIVE_API_KEY": CANARY, "MASSIVE_PROXY_TOKEN": TOKEN}
ENVIRONMENTS: dict[str, tuple[dict[str, str], int, str]] = {
    "all set": (GOOD, 0, "all required variables are set"),
    "no key": ({"MASSIVE_PROXY_TOKEN": TOKEN}, 1, "MASSIVE_API_KEY: missing: "),
    "no token": ({"MASSIVE_API_KEY": CANARY}, 1, "MASSIVE_PROXY_TOKEN: missing: "),
    "no client token, static": (
        {**GOOD, "ONETAPE_ALLOW_STATIC_TOKEN": "true"},
        1,
        "MASSIVE_CLIENT_TOKEN: missing: ",
    ),
    "tokens differ, static": (
        {**GOOD, "ONETAPE_ALLOW_STATIC_TOKEN": "true", "MASSIVE_CLIENT_TOKEN": f"{TOKEN}x"},
        1,
        "MASSIVE_CLIENT_TOKEN: mismatch: ",
    ),
    "tokens differ, not static": (
        {**GOOD, "MASSIVE_CLIENT_TOKEN": f"{TOKEN}x"},
        0,
        "MASSIVE_CLIENT_TOKEN: deprecated: ",
    ),
    "invalid": ({**GOOD, "PORT": CANARY}, 1, "PORT: invalid: expected a whole number"),
    "unknown": ({**GOOD, "ONETAPE_PROT": CANARY}, 1, "ONETAPE_PROT: invalid: no such setting"),
}


@pytest.mark.parametrize(
    ("variables", "status", "said"), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys()
)
def test_check_env_names_what_is_wrong_and_shows_no_value(
    tmp_path: Path, variables: dict[str, str], status: int, said: str
) -> None:
    """R24, C8, C30, W-14."""
    done = run(tmp_path, "check-env", **variables)

    assert done.returncode == status
    assert re.search(f"^{re.escape(said)}", done.stdout, re.MULTILINE), done.stdout
    assert all(
        re.match(r"[A-Z_]+: [a-z]+: |all required", line) for line in done.stdout.split("\n")[:-1]
    )
    assert "canary" not in done.stdout + done.stderr


def test_check_config_shows_everything_but_secrets(tmp_path: Path, command: Command) -> None:
    (tmp_path / ".env").write_text(f"MASSIVE_API_KEY={CANARY}\nMASSIVE_PROXY_TOKEN={TOKEN}\n")
    urls = {"MASSIVE_BASE_URL": "http://127.0.0.1:1", "MASSIVE_API_BASE": "http://127.0.0.1:2"}
    shown = command("check-config", PORT="4000", **urls)
    decoded = msgspec.json.decode(command("check-config", "--json", PORT="4000").stdout)

    assert re.search(r"^MASSIVE_API_KEY +\.env +\*\*\*$", shown.stdout, re.MULTILINE)
    assert re.search(r"^PORT +environment +4000$", shown.stdout, re.MULTILINE)
    assert "warning: MASSIVE_BASE_URL and MASSIVE_API_BASE differ" in shown.stderr
    assert len(shown.stdout.splitlines()) == len(decoded) == len(TABLE)
    values = {row["variable"]: row["value"] for row in decoded}
    assert (values["MASSIVE_PROXY_TOKEN"], values["PORT"]) == ("***", "4000")
    assert "canary" not in shown.stdout + str(decoded)


def test_a_setting_that_is_wrong_is_one_line_without_its_value(command: Command) -> None:
    line = complaint(command("check-config", PORT=CANARY))

    assert line.startswith("onetape: PORT: expected a whole number")
    assert CANARY not in line


def test_doctor_says_whether_there_is_a_fault(tmp_path: Path) -> None:
    """R267; every question of it is in test_doctor.py."""
    run(tmp_path, "keys", "create", "laptop")
    well = run(tmp_path, "doctor", PORT="0", **GOOD)
    ill = run(tmp_path, "doctor", "--json", PORT="0")

    assert (well.returncode, ill.returncode) == (0, 1), well
    assert "ok        state: the key store holds 1 live key\n" in well.stdout
    faults = [row for row in msgspec.json.decode(ill.stdout) if row["verdict"] == "fault"]
    assert [fault["check"] for fault in faults] == ["MASSIVE_API_KEY"]
    assert "canary" not in well.stdout + well.stderr


# the command itself


def commands(app: App, *path: str) -> Iterator[tuple[str, App]]:
    """Every command, by what one types."""
    for name in app:
        if not name.startswith("-"):
            if app[name].default_command is not None:
                yield " ".join((*path, name)), app[name]
            yield from commands(app[name], *path, name)


def flags(command: App) -> set[str]:
    arguments = command.assemble_argument_collection(default_parameter=app.default_parameter)
    names: list[str] = [name for argument in arguments for name in argument.names]
    return {name for name in names if name.startswith("--")}


def test_the_document_names_every_command_and_flag_and_no_other() -> None:
    sections = re.split(r"^## `onetape ([a-z -]+)", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    documented = {
        name.strip(): set(re.findall(r"^\| `(--[a-z-]+)", body, re.MULTILINE))
        for name, body in zip(sections[::2], sections[1::2], strict=True)
    }

    assert documented == {name: flags(command) for name, command in commands(app)}
    mentioned = set(re.findall(r"--[a-z][a-z-]*", DOCUMENT.read_text()))
    assert mentioned <= {"--help", "--version"}.union(*documented.values())


def test_help_says_of_the_commands_that_ask_what_they_say_themselves() -> None:
    """They are named without being imported; and nothing names one that is not there."""
    for name, (_, said) in MARKET.items():
        assert said.removesuffix(".") in (app[name].help or "")


def test_every_command_helps(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in commands(app):
        app([*name.split(), "--help"])
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in flags(command)), name
        assert f"Usage: onetape {name}" in shown
        assert all(f"• {status} " in shown for status in Exit), name


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, r"^\d+\.\d+\.\d+\n$"),
        (["--help"], 0, "Share one Massive.com subscription"),
        (["bogus"], 2, 'Unknown command "bogus"'),
        (["keys", "create"], 2, "requires an argument"),
    ],
    ids=["version", "help", "unknown", "missing"],
)
def test_usage(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    done = run(tmp_path, *arguments)

    assert done.returncode == status
    assert re.search(said, done.stderr if status else done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--version"], ["check-config"], ["keys", "list"]], ids=" ".join
)
def test_what_asks_nobody_loads_nothing_to_ask_with(tmp_path: Path, arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['onetape', *{arguments}];"
        "from onetape.cli import main\n"
        "try: main()\n"
        "finally: print(*(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env=environment(tmp_path),
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert "onetape" in done.stderr.split()
    assert not {"aiohttp", "rich", "polars", "pandas", "numpy"} & {*done.stderr.split()}


async def test_ctrl_c_ends_what_never_ends_within_a_second(tmp_path: Path) -> None:
    """As `tail -f` ends; even while nobody reads what it prints."""
    async with Playground(tmp_path / "state") as play:
        variables = environment(
            tmp_path, ONETAPE_URL=play.gateway.url, ONETAPE_KEY=await play.key()
        )
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "onetape", "stream", "quotes", "SPX", "VIX", "--json"]
        stream = await asyncio.create_subprocess_exec(
            *command, stdout=writer, stderr=asyncio.subprocess.PIPE, cwd=tmp_path, env=variables
        )
        os.close(writer)
        await asyncio.to_thread(os.read, reader, 100)  # it streams; no more is read
        clock = SystemClock()
        began = clock.monotonic()
        stream.send_signal(signal.SIGINT)
        _, errors = await stream.communicate()
        took_s = clock.monotonic() - began
        os.close(reader)

    assert (stream.returncode, took_s < 1, errors) == (130, True, b"")


def test_a_reader_that_went_away_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "onetape.cli", "check-config"]
    done = subprocess.run(
        command,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=20,
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (141, b"")


def test_it_runs_with_its_streams_closed(tmp_path: Path) -> None:
    script = f'exec "{sys.executable}" -m onetape check-config >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script], check=False, timeout=20, env=environment(tmp_path), cwd=tmp_path
    )

    assert done.returncode == 0


def test_the_base_install_says_which_extra_is_missing(tmp_path: Path) -> None:
    """Without starlette, as `pip install onetape` leaves it."""
    script = (
        "import sys; sys.modules['starlette'] = None; sys.argv = ['onetape', 'demo'];"
        "from onetape.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env=environment(tmp_path),
        cwd=tmp_path,
    )

    line = complaint(done)
    assert "pip install 'onetape[gateway,simulator]'" in line
    assert "starlette" in line


async def test_ctrl_c_is_no_traceback_where_nothing_has_to_be_put_away(tmp_path: Path) -> None:
    with taken_port() as (listener, port), Program(tmp_path, "doctor", PORT=str(port)) as doctor:
        connection, _ = await asyncio.to_thread(listener.accept)  # and never an answer
        status, took_s = await doctor.stop(signal.SIGINT)
        connection.close()

    assert (status, took_s < 1) == (130, True)
    assert (doctor.out, doctor.err) == ("", "")
