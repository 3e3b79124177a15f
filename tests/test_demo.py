"""The demo as a block; the command around it is in test_cli.py."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Generator
from pathlib import Path

import aiohttp
import pytest

from onetape import config as settings
from onetape.config import Config
from onetape.demo import Demo, banner, called_as, running, unused, watch
from onetape.errors import ConfigInvalid
from onetape.gateway.keys import KeyStore
from onetape.testing import until


def config_of(state_dir: Path | None = None, **env: str) -> Config:
    named = {} if state_dir is None else {"ONETAPE_STATE_DIR": str(state_dir)}
    return settings.load({"PORT": "0", **named, **env})


async def status_of(url: str, key: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def taken_port(port: int = 0) -> Generator[int]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", port))
        taken.listen()
        yield port or taken.getsockname()[1]


async def test_its_key_is_good_while_the_block_is_open_and_its_state_goes_with_it(
    temporary: Path,
) -> None:
    lines: list[bytes] = []
    async with running(config_of(), write=lines.append) as demo:
        assert len(list(temporary.iterdir())) == 1
        assert await status_of(f"{demo.url}/v1/marketstatus/now", demo.client_key) == 200
        assert await status_of(f"{demo.url}/v1/marketstatus/now") == 403
        assert await status_of(f"{demo.simulator_url}/_simulator/state") == 200

    assert not list(temporary.iterdir())
    assert not [line for line in lines if b"info" in line]
    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(f"{demo.url}/api/health")


async def test_a_named_state_directory_stays_and_its_key_is_revoked(tmp_path: Path) -> None:
    lines: list[bytes] = []
    config = config_of(tmp_path, ONETAPE_LOG_LEVEL="info", ONETAPE_LOG_FORMAT="json")
    async with running(config, write=lines.append) as demo:
        await status_of(f"{demo.url}/v1/marketstatus/now", demo.client_key)

    def records() -> list[tuple[bool, bool]]:
        with KeyStore(tmp_path) as store:
            return [
                (record.scopes.loopback_only, record.revoked_ns is not None)
                for record in store.records()
            ]

    assert await asyncio.to_thread(records) == [(True, True)]
    assert any(b'"level":"info"' in line for line in lines), "a named log level is honoured"


async def test_watching_shows_a_line_a_second_of_what_streams() -> None:
    shown: list[str] = []
    async with (
        running(config_of(ONETAPE_ASSETS="stocks"), write=lambda _: None) as demo,
        asyncio.TaskGroup() as tasks,
    ):
        watching = tasks.create_task(watch(demo, shown.append))
        await until(lambda: "VIX" in "".join(shown))
        watching.cancel()

    assert all(line.startswith("simulated   ") for line in shown)
    assert shown[-1].endswith(" events/s")


async def test_it_listens_on_this_host_only_whatever_the_settings_say() -> None:
    everywhere = config_of(ONETAPE_HOST="0.0.0.0")
    by_name = config_of(ONETAPE_HOST="localhost")

    async with running(everywhere, write=lambda _: None) as demo:
        assert demo.netloc.startswith("127.0.0.1:")
    async with running(by_name, write=lambda _: None) as demo:
        assert demo.netloc.startswith("localhost:")
        assert await status_of(f"{demo.url}/v1/marketstatus/now", demo.client_key) == 200

    assert unused(everywhere) == ["ONETAPE_HOST"]
    assert unused(by_name) == []
    assert unused(config_of(ONETAPE_HOST="desk.example")) == ["ONETAPE_HOST"]


@pytest.mark.parametrize("variable", ["PORT", "ONETAPE_SIM_PORT"])
async def test_a_port_that_was_named_and_is_taken_stops_it(variable: str, temporary: Path) -> None:
    with taken_port() as port:
        config = settings.load({"PORT": "0", variable: str(port)})
        with pytest.raises(ConfigInvalid, match=rf"^{variable}: port {port} is taken"):
            await running(config, write=lambda _: None).__aenter__()

    assert not list(temporary.iterdir())


async def test_the_default_port_is_as_good_as_any_other() -> None:
    config = settings.load({})
    with taken_port(config.gateway.port) as port:
        async with running(config, write=lambda _: None) as demo:
            assert not demo.netloc.endswith(f":{port}")
            assert await status_of(f"{demo.url}/api/health") == 200


DEMO = Demo("http://127.0.0.1:1", "127.0.0.1:1", "ot_the_key", "http://127.0.0.1:2")


def test_the_banner_names_what_it_ignores_and_no_value() -> None:
    config = config_of(MASSIVE_API_KEY="canary-1", TRADIER_ACCESS_TOKEN="canary-2")

    loud, quiet = banner(DEMO, ignored=unused(config)), banner(DEMO, ignored=[])

    assert "MASSIVE_API_KEY and TRADIER_ACCESS_TOKEN: set, and ignored by the demo." in loud
    assert "canary" not in loud
    assert "ignored" not in quiet
    assert quiet.count("ot_the_key") == 5


def test_the_banner_has_the_line_that_watches_the_demo() -> None:
    line = "  ONETAPE_URL=http://127.0.0.1:1 ONETAPE_KEY=ot_the_key {} watch SPX VIX SPY\n"

    assert line.format("onetape") in banner(DEMO, ignored=[])
    assert line.format(".venv/bin/onetape") in banner(DEMO, ignored=[], command=".venv/bin/onetape")


@pytest.mark.parametrize(
    ("called", "pasted"),
    [
        ("/somewhere/onetape/__main__.py", "python -m onetape"),
        (".venv/bin/onetape", ".venv/bin/onetape"),
        ("my place/onetape", "'my place/onetape'"),
        ("sh", "sh"),
    ],
    ids=["module", "path", "blank", "on-path"],
)
def test_what_is_to_be_pasted_begins_with_how_we_were_called(called: str, pasted: str) -> None:
    assert called_as(shutil.which(called) or called) == pasted
