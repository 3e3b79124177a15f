import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import connect

from onetape.clock import SystemClock
from onetape.config import Config, GatewayConfig, MassiveConfig, Secret
from onetape.doctor import Result, examine
from onetape.gateway.app import Gateway
from onetape.gateway.keys import FILE_NAME, KeyStore
from onetape.simulator.app import Simulator
from onetape.simulator.faults import Answer, Mute, Refuse, RejectLogin, RestRule, Stage, StreamRule
from onetape.testing import Playground, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
TOKEN = "canary-token-4tz81mfa63ye"


def env_in(state_dir: Path, **more: str) -> dict[str, str]:
    return {
        "ONETAPE_STATE_DIR": str(state_dir),
        "MASSIVE_API_KEY": "sim-key",
        "MASSIVE_PROXY_TOKEN": TOKEN,
        "PORT": "0",
        **more,
    }


async def ask(
    env: Mapping[str, str], *, live: bool = False, timeout_s: float = 10.0
) -> dict[str, list[Result]]:
    """Examine; return the results by check, and see that no secret is among them."""
    results = await examine(live=live, env=env, timeout_s=timeout_s)
    shown = "\n".join(map(str, results)) + repr(results)
    secrets = [value for name, value in env.items() if name.endswith(("_KEY", "_TOKEN"))]
    assert not [secret for secret in secrets if secret in shown]
    by_check: dict[str, list[Result]] = {}
    for result in results:
        by_check.setdefault(result.check, []).append(result)
    return by_check


async def make_store(state_dir: Path, *names: str) -> None:
    def make() -> None:
        with KeyStore(state_dir) as store:
            for name in names:
                store.create(name, now_ns=SystemClock().now_ns())

    await asyncio.to_thread(make)


@contextlib.contextmanager
def closed_port() -> Generator[int]:
    """A port that nobody else gets, and where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.asynccontextmanager
async def program(answer: bytes | None) -> AsyncGenerator[int]:
    """A program of somebody else's that answers anything with these bytes, or never."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await gone.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        gone.set()


def http(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


# settings and state


async def test_settings_that_cannot_be_read_are_the_one_answer(tmp_path: Path) -> None:
    """R267."""
    results = await ask(env_in(tmp_path, PORT="eighty"))

    ((settings,),) = results.values()
    assert settings.verdict == "fault"
    assert settings.message.startswith("PORT: expected a whole number")
    assert "docs/config.md" in str(settings)


async def test_every_variable_is_judged_as_check_env_does(tmp_path: Path) -> None:
    env = {"ONETAPE_STATE_DIR": str(tmp_path), "PORT": "0", "MASSIVE_PROXY_TOKEN": "abc"}
    results = await ask(env)

    assert results["settings"][0].verdict == "ok"
    assert results["MASSIVE_API_KEY"][0].verdict == "fault"
    assert results["MASSIVE_PROXY_TOKEN"][0].verdict == "note"
    assert results["TRADIER_ACCESS_TOKEN"][0].verdict == "note"
    assert results["MASSIVE_BASE_URL"][0].verdict == "ok"


async def test_no_proxy_token_is_no_fault_where_clients_have_keys(tmp_path: Path) -> None:
    env = env_in(tmp_path)
    del env["MASSIVE_PROXY_TOKEN"]

    without = await ask(env)
    await make_store(tmp_path, "laptop")
    with_key = await ask(env)

    assert without["MASSIVE_PROXY_TOKEN"][0].verdict == "fault"
    assert with_key["MASSIVE_PROXY_TOKEN"][0].verdict == "note"
    assert str(with_key["state"][0]) == "ok        state: the key store holds 1 live key"


async def test_looking_for_the_key_store_makes_none(tmp_path: Path) -> None:
    results = await ask(env_in(tmp_path / "state"))

    assert results["state"][0].verdict == "note"
    assert "keys create" in str(results["state"][0])
    assert not (tmp_path / "state").exists()


async def test_a_store_without_keys_is_a_note(tmp_path: Path) -> None:
    await make_store(tmp_path)

    assert (await ask(env_in(tmp_path)))["state"][0].message == "there is no client key yet"


async def test_a_store_that_others_may_read_is_a_fault_and_left_for_the_owner(
    tmp_path: Path,
) -> None:
    await make_store(tmp_path, "laptop")
    (tmp_path / FILE_NAME).chmod(0o640)

    (state,) = (await ask(env_in(tmp_path)))["state"]

    assert state.verdict == "fault"
    assert state.advice is not None
    assert "chmod 600" in state.advice
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["file/state", "file", "n" * 300], ids=["below", "is", "long"])
async def test_a_place_where_no_store_can_be_is_a_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")

    (state,) = (await ask(env_in(tmp_path / name)))["state"]

    assert state.verdict == "fault"
    assert "ONETAPE_STATE_DIR" in str(state)


async def test_a_store_that_is_damaged_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database " * 100)
    path.chmod(0o600)
    garbage = await ask(env_in(tmp_path))
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")
    path.chmod(0o600)
    empty = await ask(env_in(tmp_path))

    assert garbage["state"][0].verdict == empty["state"][0].verdict == "fault"
    assert "damaged" in empty["state"][0].message


# the port, and who is there


async def test_a_free_port_is_fine(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    free = await ask(env_in(tmp_path, PORT=str(port)))
    any_free = await ask(env_in(tmp_path))

    assert free["port"][0].verdict == any_free["port"][0].verdict == "ok"
    assert any_free["vendors"][0].verdict == "skipped"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        http(200, b"<html>"),
        http(200, b'{"version":"7"}'),
        http(200, b'"\xff"'),
        http(404),
    ],
    ids=["mute", "hangs up", "html", "other", "garbage", "404"],
)
async def test_a_port_taken_by_another_program_is_a_fault(
    tmp_path: Path, answer: bytes | None
) -> None:
    async with program(answer) as port:
        results = await ask(env_in(tmp_path, PORT=str(port)))

    (result,) = results["port"]
    assert result.verdict == "fault"
    assert f"port {port} is taken by another program" in result.message


async def test_a_host_that_is_not_ours_is_named(tmp_path: Path) -> None:
    results = await ask(env_in(tmp_path, PORT="4000", ONETAPE_HOST="192.0.2.1"))

    assert results["port"][0].message.startswith("ONETAPE_HOST: cannot listen on 192.0.2.1")


async def test_a_healthy_gateway_is_recognised(tmp_path: Path) -> None:
    async with Playground(tmp_path, host="0.0.0.0") as play:
        port = play.gateway.netloc.rpartition(":")[2]
        results = await ask(env_in(tmp_path, PORT=port, ONETAPE_HOST="0.0.0.0"))

    (gateway,) = results["gateway"]
    assert gateway.verdict == "ok"
    assert gateway.message.endswith("in front of the simulated vendor")
    assert "port" not in results


async def health_of(play: Playground) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{play.gateway.url}/api/health") as answer,
    ):
        return (await answer.json())["reasons"]


async def reading(play: Playground, rule: StreamRule) -> list[Result]:
    """What the doctor says while a client reads and the vendor does this."""
    play.simulator.inject(rule)
    key = await play.key()
    async with connect(f"ws://{play.gateway.netloc}/indices") as client:
        await client.send(f'{{"action":"auth","params":"{key}"}}')
        await client.send('{"action":"subscribe","params":"V.I:SPX"}')
        async with asyncio.timeout(10):
            while "stream_down:indices" not in await health_of(play):
                await asyncio.sleep(0.02)
        port = play.gateway.netloc.rpartition(":")[2]
        results = await ask(env_in(play.state_dir, PORT=port))
    assert results["gateway"][0].verdict == "ok"
    assert any(result.verdict == "note" for result in results["gateway"][1:]), "its own warnings"
    return results["gateway indices"]


async def test_a_stream_that_is_down_is_explained(tmp_path: Path) -> None:
    """R267: with the upstream's own last error."""
    async with Playground(tmp_path) as play:
        (fault,) = await reading(play, StreamRule(action=Refuse()))

    assert fault.verdict == "fault"
    assert fault.message.startswith("the vendor's stream is down: ")
    assert fault.advice == "check MASSIVE_SOCKET_URL and the network"


async def test_a_login_that_is_refused_points_at_the_credentials(tmp_path: Path) -> None:
    """R267."""
    async with Playground(tmp_path) as play:
        (fault,) = await reading(play, StreamRule(action=RejectLogin()))

    assert fault.advice is not None
    assert "MASSIVE_API_KEY" in fault.advice


async def test_rest_and_stream_down_at_once_point_at_the_credentials(tmp_path: Path) -> None:
    """R267: "both fail"."""
    reasons = ["rest_down", "stream_down:stocks", "key_missing", "new"]
    health = {"version": "1", "simulated": False, "reasons": reasons}
    async with program(http(200, msgspec.json.encode(health))) as port:
        results = await ask(env_in(tmp_path, PORT=str(port)))

    faults = [one for one in results["gateway"] if one.verdict == "fault"]
    assert len(faults) == 4
    assert faults[1].advice == "set MASSIVE_API_KEY and start it again"
    assert faults[2].message == "new", "a reason of a later version"
    assert faults[3].message == "neither the vendor's REST nor its stream works"
    assert "MASSIVE_API_KEY" in str(faults[3])
    assert results["gateway stocks"][0].verdict == "fault"


# what it shows of the market

MONDAY_MS = 1_764_000_000_000  # 11:00 in New York
SATURDAY_MS = MONDAY_MS - 2 * 86_400_000
WELL = {"watched": 6, "known": 6, "failed": 0, "last_update_age_s": 1.5, "confidence": 90}


async def told(state_dir: Path, **facts: object) -> dict[str, list[Result]]:
    """What the doctor makes of a gateway's health."""
    known = {"version": "1", "simulated": True, "reasons": (), "timestamp": MONDAY_MS}
    health = {**known, **facts}
    async with program(http(200, msgspec.json.encode(health))) as port:
        return await ask(env_in(state_dir, PORT=str(port), ONETAPE_REFRESH_S="7"))


def provider(name: str, data: str = "options", *, errors: int = 0) -> dict[str, object]:
    is_healthy = errors < 3
    return {
        "data": data,
        "provider": name,
        "healthy": is_healthy,
        "status": "ok" if is_healthy else "failing",
        "consecutive_errors": errors,
        "last_failure": "MASSIVE_API_ERROR: the vendor's words" if errors else None,
    }


@pytest.mark.parametrize(
    ("facts", "verdict", "message", "advice"),
    [
        (WELL, "ok", "6 of 6 parts of the market are at hand", None),
        ({"watched": 0}, "note", "watches nothing by itself", "ONETAPE_WATCHLIST"),
        ({"watched": 6, "failed": 6}, "fault", "none is known", "ONETAPE_WATCHLIST"),
        (
            {**WELL, "last_update_age_s": 31.0},
            "fault",
            "the newest of its data came 31 s ago",
            "poll every 7 s: check ONETAPE_REFRESH_S",
        ),
        ({**WELL, "confidence": 49}, "note", "score 49 of 100", "wait 7 s for the next look"),
        ({**WELL, "failed": 2}, "note", "2 of 6 parts could not be renewed", "ONETAPE_WATCHLIST"),
    ],
    ids=["well", "nothing watched", "nothing known", "stale", "unsure", "failed"],
)
async def test_each_trouble_of_the_view_has_its_hint(
    tmp_path: Path, facts: dict[str, object], verdict: str, message: str, advice: str | None
) -> None:
    """R267: no data, stale data, doubtful data."""
    (result,) = (await told(tmp_path, hub=facts))["hub"]

    assert result.verdict == verdict
    assert message in result.message
    assert (advice or "") in (result.advice or "")
    assert (advice is None) is (result.advice is None)


async def test_while_the_market_is_closed_data_may_be_old(tmp_path: Path) -> None:
    """R267: nothing new comes then, and nothing is wrong with that."""
    old = {**WELL, "last_update_age_s": 50_000.0}
    results = await told(tmp_path, hub=old, timestamp=SATURDAY_MS)

    assert results["hub"][0].verdict == "ok"


async def test_several_troubles_are_told_together(tmp_path: Path) -> None:
    results = await told(
        tmp_path, hub={**WELL, "last_update_age_s": 99.0, "confidence": 0, "failed": 1}
    )

    assert [one.verdict for one in results["hub"]] == ["fault", "note", "note"]


async def test_all_providers_failing_point_at_the_credentials(tmp_path: Path) -> None:
    """R267: "both fail"."""
    healths = [
        provider("massive", errors=5),
        provider("tradier", errors=3),
        provider("massive", "broker"),
        provider("tradier", "broker"),
    ]
    (result,) = (await told(tmp_path, providers=healths))["providers"]

    assert result.verdict == "fault"
    assert result.message == (
        "nobody answers for options: massive fails (MASSIVE_API_ERROR, 5 times in a row);"
        " tradier fails (MASSIVE_API_ERROR, 3 times in a row)"
    )
    assert "the vendor's words" not in str(result)
    assert result.advice is not None
    assert result.advice.startswith("check MASSIVE_API_KEY and TRADIER_ACCESS_TOKEN")
    assert "--live" in result.advice


async def test_a_provider_that_another_stands_in_for_is_a_note(tmp_path: Path) -> None:
    healths = [
        provider("massive", errors=3),
        provider("tradier"),
        {**provider("other", errors=9), "enabled": False},
    ]
    (result,) = (await told(tmp_path, providers=healths))["providers"]

    assert result.verdict == "note"
    assert result.message.startswith("for options tradier stands in: massive fails (MASSIVE_API")


async def test_the_only_provider_that_fails_is_a_fault(tmp_path: Path) -> None:
    """Also one that we have no word for, of a later version."""
    alone = {"provider": "newer", "healthy": False, "status": "failing", "consecutive_errors": 3}
    (result,) = (await told(tmp_path, providers=[alone]))["providers"]

    assert result.verdict == "fault"
    assert "nobody answers for market data: newer fails (no answer" in result.message
    assert "check the credentials of newer" in (result.advice or "")


async def test_providers_that_answer_are_well(tmp_path: Path) -> None:
    healths = [provider("massive"), provider("tradier"), provider("massive", "indices")]
    (result,) = (await told(tmp_path, providers=healths))["providers"]

    assert (result.verdict, result.message) == ("ok", "nothing is wrong with massive and tradier")


ELSE: list[dict[str, object]] = [
    {},
    {"hub": 1, "providers": "none"},
    {"hub": {"watched": "six"}},
    {"providers": [{"healthy": 7}]},
]


@pytest.mark.parametrize("facts", ELSE, ids=["earlier", "other", "words", "empty"])
async def test_a_gateway_that_puts_it_otherwise_is_not_judged_by_it(
    tmp_path: Path, facts: dict[str, object]
) -> None:
    results = await told(tmp_path, **facts)

    assert results["gateway"][0].verdict == "ok"
    assert not {"hub", "providers"} & results.keys()


# the vendors


def aimed_at(simulator: Simulator, state_dir: Path, key: str = "sim-key") -> dict[str, str]:
    return env_in(
        state_dir,
        MASSIVE_API_KEY=key,
        MASSIVE_BASE_URL=simulator.url,
        MASSIVE_SOCKET_URL=simulator.socket_url,
    )


STREAMS = [f"massive {asset} stream" for asset in ("options", "indices", "stocks")]


def verdicts(results: Mapping[str, list[Result]]) -> dict[str, str]:
    vendors = {name: found for name, found in results.items() if "massive" in name}
    return {name.split()[1]: result.verdict for name, (result,) in vendors.items()}


async def test_a_good_key_is_accepted_everywhere(tmp_path: Path) -> None:
    """R271."""
    async with Simulator() as simulator:
        results = await ask(aimed_at(simulator, tmp_path), live=True)
        await until(lambda: not any(simulator.state().connections_open.values()))

    assert set(verdicts(results).values()) == {"ok"}
    assert len(verdicts(results)) == 4
    assert results["tradier"][0].verdict == "skipped"
    assert "vendors" not in results


async def test_a_bad_key_is_told_from_a_dead_host(tmp_path: Path) -> None:
    async with Simulator() as simulator:
        bad = await ask(aimed_at(simulator, tmp_path, "not-a-key-of-theirs"), live=True)
    with closed_port() as port:
        dead = await ask(
            env_in(
                tmp_path,
                MASSIVE_BASE_URL=f"http://127.0.0.1:{port}",
                MASSIVE_SOCKET_URL=f"ws://127.0.0.1:{port}",
            ),
            live=True,
        )

    assert set(verdicts(bad).values()) == set(verdicts(dead).values()) == {"fault"}
    for check in ("massive REST", *STREAMS):
        assert "does not accept the key" in bad[check][0].message
        assert "MASSIVE_API_KEY" in str(bad[check][0])
        assert "_URL" in str(dead[check][0])


async def test_a_plan_without_an_asset_class_is_told_from_a_bad_key(tmp_path: Path) -> None:
    async with Simulator() as simulator:
        results = await ask(aimed_at(simulator, tmp_path, "sim-options-only-key"), live=True)

    assert verdicts(results) == {
        "REST": "ok",
        "options": "ok",
        "indices": "fault",
        "stocks": "fault",
    }
    assert "plan" in results["massive indices stream"][0].message
    assert "ONETAPE_ASSETS" in str(results["massive indices stream"][0])


async def test_a_vendor_that_is_slow_full_or_broken_is_told_as_such(tmp_path: Path) -> None:
    async with Simulator() as simulator:
        simulator.inject(
            RestRule(action=Answer(status=429), count=1),
            RestRule(action=Answer(status=404), count=1),
            StreamRule(action=Mute(), stage=Stage.ACCEPT),
        )
        env = aimed_at(simulator, tmp_path) | {"ONETAPE_ASSETS": "stocks"}
        full = await ask(env, live=True, timeout_s=0.3)
        broken = await ask(env, live=True, timeout_s=0.3)

    assert full["massive REST"][0].verdict == "note"
    assert "HTTP 404" in broken["massive REST"][0].message
    assert full["massive stocks stream"][0].message == "it does not answer"


async def test_without_keys_no_vendor_is_asked(tmp_path: Path) -> None:
    """R271."""
    env = env_in(tmp_path)
    del env["MASSIVE_API_KEY"]

    results = await ask(env, live=True)

    assert set(verdicts(results).values()) == {"skipped"}
    assert results["tradier"][0].verdict == "skipped"


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (http(200), "ok", "accepts the key"),
        (http(401), "fault", "check TRADIER_ACCESS_TOKEN"),
        (http(302), "fault", "HTTP 302"),
        (b"", "fault", "check TRADIER_BASE_URL"),
    ],
    ids=["good", "bad", "elsewhere", "dead"],
)
async def test_tradier_is_asked_too(tmp_path: Path, answer: bytes, verdict: str, said: str) -> None:
    async with program(answer) as port:
        env = env_in(
            tmp_path,
            TRADIER_ACCESS_TOKEN="canary-tradier-x7",
            TRADIER_BASE_URL=f"http://127.0.0.1:{port}",
        )
        del env["MASSIVE_API_KEY"]
        (result,) = (await ask(env, live=True))["tradier"]

    assert result.verdict == verdict
    assert said in str(result)


async def test_a_gateway_of_the_real_vendor_keeps_its_connections(tmp_path: Path) -> None:
    """A login of ours would evict it."""
    async with Simulator() as simulator:
        config = Config(
            massive=MassiveConfig(
                api_key=Secret(simulator.key),
                base_url=simulator.url,
                socket_url=simulator.socket_url,
            ),
            gateway=GatewayConfig(port=0, state_dir=tmp_path),
        )
        async with Gateway(config) as gateway:
            port = gateway.netloc.rpartition(":")[2]
            results = await ask(aimed_at(simulator, tmp_path) | {"PORT": port}, live=True)

        assert not any(simulator.state().logins.values())
    assert results["massive streams"][0].verdict == "skipped"
    assert results["massive REST"][0].verdict == "ok"
    assert any("holds the vendor's connections" in one.message for one in results["gateway"])
