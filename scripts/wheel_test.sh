#!/bin/sh
# Build the wheel and use it as a user would: alone, in clean environments.
set -eu
bin=$1
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bin/uv" build -q --wheel --out-dir "$work"
wheel=$(ls "$work"/*.whl)

# The client: no gateway, no simulator.
"$bin/uv" venv -q --python "$bin/python" "$work/client"
"$bin/uv" pip install -q --python "$work/client/bin/python" -c constraints.txt "$wheel"
(cd "$work" && client/bin/python - <<'PY'
import asyncio, importlib.util
for absent in ("starlette", "uvicorn", "numpy", "structlog", "polars", "pandas"):
    assert importlib.util.find_spec(absent) is None, absent

from onetape import MassiveDataProvider, Quote, Rows, sync
from onetape.errors import UpstreamDown

async def nobody_there():
    try:
        async with MassiveDataProvider("http://127.0.0.1:9", "key"):
            raise AssertionError
    except UpstreamDown:
        pass

asyncio.run(nobody_there())
try:
    Rows([], kind=Quote).to_polars()
except ImportError as error:
    assert "onetape[polars]" in str(error), error
PY
)
# Its command works as far as it goes, and says what the rest needs.
mkdir "$work/empty"
(
    cd "$work/empty"
    ../client/bin/onetape --version
    env -u MASSIVE_API_KEY ../client/bin/onetape check-env >found && exit 1
    grep -q '^MASSIVE_API_KEY: missing' found
    ../client/bin/onetape check-config >found
    ../client/bin/onetape demo 2>said && exit 1
    grep -q "pip install 'onetape\[gateway,simulator\]'" said
    test "$(wc -l <said)" -eq 1
)

# The gateway: the demo starts, answers, streams and stops.
"$bin/uv" venv -q --python "$bin/python" "$work/gateway"
"$bin/uv" pip install -q --python "$work/gateway/bin/python" -c constraints.txt "$wheel[gateway,simulator]"
(cd "$work/empty" && ../gateway/bin/python "$root/scripts/demo_smoke.py" "$work/gateway/bin/onetape")
echo "wheel: ok"
