"""Start `onetape demo`, use what it prints, stop it with SIGINT; fails loudly."""

import json  # noqa: TID251 - a script for a bare environment, outside the package
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.error import HTTPError


def main(onetape: str) -> None:
    with tempfile.TemporaryDirectory() as state:
        env = {**os.environ, "ONETAPE_STATE_DIR": state, "PORT": "0"}  # noqa: TID251 - as above
        demo = subprocess.Popen(
            [onetape, "demo", "--json"], stdout=subprocess.PIPE, env=env, text=True, cwd=state
        )
        try:
            line = demo.stdout.readline() if demo.stdout else ""
            facts = json.loads(line)
            request = urllib.request.Request(
                facts["url"] + "/v3/snapshot?ticker.any_of=SPY,I:SPX&limit=250",
                headers={"Authorization": "Bearer " + facts["client_key"]},
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                rows = json.load(answer)["results"]
            assert len(rows) == 2, rows
            try:
                urllib.request.urlopen(facts["url"] + "/v3/snapshot", timeout=20)
            except HTTPError as refused:
                assert refused.code == 403, refused.code
            else:
                raise AssertionError("answered without a key")
        finally:
            started = time.monotonic()  # noqa: TID251 - as above
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=10)
            took_s = time.monotonic() - started  # noqa: TID251 - as above
        assert took_s < 2, f"took {took_s:.1f} s to stop"
        print(f"demo: answered, and stopped in {took_s:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1])
