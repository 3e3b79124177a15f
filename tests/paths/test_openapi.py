"""Every route that `/openapi.json` describes does what it says, asked by schemathesis."""

import asyncio
from collections.abc import Iterator
from datetime import date
from typing import Any, Final, cast

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import ScenarioRecorder

from onetape.testing import Playground

SYMBOLS: Final = {
    "stock": ("SPY", "BRK.B", "NOSUCH"),
    "index": ("SPX", "I:VIX", "TRIN"),
    "option": ("O:SPY261218C00650000", "SPY261218C00650000"),
    "underlying": ("vix", "NOSUCH"),  # of SPY alone there are some thousand contracts
    "symbol": ("SPY", "SPX", "O:SPY261218C00650000"),
}
"""The formats that JSON Schema does not know."""

DAYS: Final = (date(2000, 1, 1), date(2030, 12, 31))

RANGES: Final = (
    ("from", "to"),
    ("min_strike", "max_strike"),
    ("first_expiration", "last_expiration"),
)
LATEST_MS: Final = 253_402_300_799_000


def of_a_week(edge: str) -> str:
    """Bring a valid end of a range into one week: the simulator makes each bar of a range."""
    try:
        number = date.fromisoformat(edge).toordinal()
    except ValueError:
        if not (edge.isdigit() and int(edge) <= LATEST_MS):
            return edge
        number = int(edge)
    return date(2026, 1, 5 + number % 5).isoformat()


@cast("Any", schemathesis.hook)
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Mend what a schema cannot say: a range's ends have an order, a bound has one form."""
    query: dict[str, Any] = case.query or {}
    for edge in {"from", "to"} & query.keys():
        query[edge] = of_a_week(str(query[edge]))
    for low, high in RANGES:
        if low in query and high in query and type(query[low]) is type(query[high]):
            query[low], query[high] = sorted((query[low], query[high]))
    for bound in ("strike_price", "expiration_date"):
        for name in [name for name in query if name.startswith(bound)][1:]:
            del query[name]


def faults(url: str, key: str) -> Iterator[str]:
    """Run it, and say what it found."""
    config: SchemathesisConfig = cast("Any", SchemathesisConfig).from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "headers": {"Authorization": f"Bearer {key}"},
            "generation": {"max-examples": 5, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
        }
    )
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    # HEAD is GET; DELETE takes a token only, and would end the one it is asked with.
    schema = schema.exclude(method=["HEAD", "DELETE"])

    for event in from_schema(schema).execute():
        match event:
            case FatalError() | NonFatalError():
                yield repr(event)
            case ScenarioFinished(recorder=recorder):
                yield from failures(recorder)
            case _:
                pass


def failures(recorder: ScenarioRecorder) -> Iterator[str]:
    for case_id, checks in recorder.checks.items():
        asked = recorder.interactions[case_id].request
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                yield f"{asked.method} {asked.uri} {check.name}: {failure.message}"


@pytest.mark.timeout(120)
async def test_schemathesis_finds_no_fault(calm: Playground) -> None:
    """R29, R39-R46: every operation, with parameters as they should be and as they should not."""
    for name, symbols in SYMBOLS.items():
        schemathesis.openapi.format(name, st.sampled_from(symbols))
    # The vendor refuses days that are too far off, as a range of them cannot be told.
    schemathesis.openapi.format("date", st.dates(*DAYS).map(date.isoformat))
    key = await calm.key()

    found = await asyncio.to_thread(lambda: list(faults(calm.gateway.url, key)))

    assert not found, "\n".join(found[:20])
