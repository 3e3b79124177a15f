#!/bin/sh
# Build the wheel and use it as a user would: alone, in clean environments.
set -eu
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$bin/uv" build -q --wheel --out-dir "$work"
wheel=$(ls "$work"/*.whl)

# The client: no gateway, no simulator.
"$bin/uv" venv -q --python "$bin/python" "$work/client"
"$bin/uv" pip install -q --python "$work/client/bin/python" -c constraints.txt "$wheel"
(cd "$work" && client/bin/python - <<'PY'
import importlib.util, onetape.massive.rest, onetape.massive.stream
for absent in ("starlette", "uvicorn", "numpy", "structlog"):
    assert importlib.util.find_spec(absent) is None, absent
PY
)

# The gateway: the demo starts, answers and stops.
"$bin/uv" venv -q --python "$bin/python" "$work/gateway"
"$bin/uv" pip install -q --python "$work/gateway/bin/python" -c constraints.txt "$wheel[gateway,simulator]"
"$work/gateway/bin/python" scripts/demo_smoke.py "$work/gateway/bin/onetape"
echo "wheel: ok"
