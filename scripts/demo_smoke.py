"""Start `onetape demo`, use what it prints, stop it with SIGINT; fails loudly."""

import asyncio
import json  # noqa: TID251 - a script for a bare environment, outside the package
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

LIMIT_S = 30


async def use(url: str, key: str) -> None:
    """Ask over REST and listen on a socket, with the key and without."""
    authorized = {"Authorization": f"Bearer {key}"}
    path = f"{url}/v3/snapshot?ticker.any_of=SPY,I:SPX&limit=250"
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as session:
        async with session.get(path, headers=authorized) as answer:
            rows = (await answer.json())["results"]
            assert len(rows) == 2, rows
        async with session.get(path) as answer:
            assert answer.status == 403, answer.status
        async with session.ws_connect(f"{url}/indices") as ws:
            await ws.send_json({"action": "auth", "params": key})
            await ws.send_json({"action": "subscribe", "params": "V.I:SPX"})
            while not any(event["ev"] == "V" for event in await ws.receive_json()):
                pass


async def refused(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url):
            return False
    except aiohttp.ClientConnectionError:
        return True


def main(onetape: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        complaints = Path(work, "stderr")
        state = str(Path(work, "state"))
        env = {**os.environ, "ONETAPE_STATE_DIR": state, "PORT": "0"}  # noqa: TID251 - as above
        with complaints.open("wb") as err:
            demo = subprocess.Popen(
                [onetape, "demo", "--json"], stdout=subprocess.PIPE, stderr=err, env=env, cwd=work
            )
        try:
            facts = json.loads(demo.stdout.readline() if demo.stdout else b"")
            asyncio.run(use(facts["url"], facts["client_key"]))
        except BaseException:
            demo.kill()
            sys.stderr.write(complaints.read_text())
            raise
        started = time.monotonic()  # noqa: TID251 - as above
        demo.send_signal(signal.SIGINT)
        status = demo.wait(timeout=LIMIT_S)
        took_s = time.monotonic() - started  # noqa: TID251 - as above
        assert status == 0, f"exit status {status}"
        assert "Traceback" not in complaints.read_text(), complaints.read_text()
        assert took_s < 2, f"took {took_s:.1f} s to stop"
        assert asyncio.run(refused(facts["url"])), "still there"
        print(f"demo: answered, streamed, and stopped in {took_s:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1])
