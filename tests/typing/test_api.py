"""What a user writes type-checks, and what is wrong does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRONG = """
from onetape import MassiveDataProvider, sync

async def wrong(massive: MassiveDataProvider) -> None:
    await massive.get_quote(7)
    (await massive.get_quotes(["SPY"]))[0].bid + 1
    await massive.get_options_chain("SPY", contract_type="straddle")
    async for quote in massive.subscribe_quotes(["SPY"]):
        quote.no_such_field
    sync.MassiveDataProvider("", "").get_quote()
"""


def complaints(path: Path) -> list[str]:
    """Return the lines the type checker complains of, as the type gate would."""
    checker = Path(sys.executable).with_name("basedpyright")
    run = subprocess.run(
        [checker, "--project", ROOT / "pyproject.toml", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return re.findall(r":(\d+):\d+ - error", run.stdout)


@pytest.mark.timeout(120)
def test_the_public_api_is_typed_as_a_user_sees_it() -> None:
    """R190, W-78: no Any on the way from a call to a field."""
    assert complaints(HERE / "api.py") == []


@pytest.mark.timeout(120)
def test_a_wrong_use_is_found_by_the_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(WRONG)

    assert set(complaints(program)) >= {"5", "6", "7", "9", "10"}
