import re
from pathlib import Path

import pytest

from onetape.client._rest import PEER
from onetape.commands.exits import EPILOGUE, MEANINGS, PEER as NAMED, Exit, status_of
from onetape.errors import (
    AllProvidersFailed,
    ConfigInvalid,
    ContractNotFound,
    InvalidSymbol,
    NotEntitled,
    NotFound,
    OnetapeError,
    SlowReader,
    SubscriptionFailed,
    Throttled,
    TokenRevoked,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamTimeout,
)

DOCUMENT = Path(__file__).parents[2] / "docs/cli.md"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigInvalid("ONETAPE_KEY is not set"), Exit.WRONG_USAGE),
        (InvalidSymbol("what is this"), Exit.WRONG_USAGE),
        (OnetapeError("who knows"), Exit.WRONG_USAGE),
        (NotFound("no such symbol"), Exit.FAULT_FOUND),
        (ContractNotFound("no such contract"), Exit.FAULT_FOUND),
        (SlowReader("cut"), Exit.FAULT_FOUND),
        (TokenRevoked("revoked"), Exit.GATEWAY),
        (NotEntitled("not yours"), Exit.GATEWAY),
        (Throttled("wait"), Exit.GATEWAY),
        (UpstreamDown(f"{PEER} cannot be reached (3 tries)"), Exit.GATEWAY),
        (UpstreamTimeout(f"{PEER} did not answer in time (1 try)"), Exit.GATEWAY),
        (UpstreamDown("the vendor cannot be reached (status 502)"), Exit.VENDOR),
        (UpstreamForbidden("the plan lacks it (status 403)"), Exit.VENDOR),
        (AllProvidersFailed("nobody answered"), Exit.VENDOR),
        (SubscriptionFailed("not carried"), Exit.VENDOR),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, OnetapeError) else one.name,
)
def test_who_is_at_fault_decides_the_status(error: OnetapeError, status: Exit) -> None:
    assert status_of(error) is status


def test_the_gateway_has_the_name_that_the_client_gives_it() -> None:
    assert NAMED == PEER


def test_the_document_has_every_status_as_help_has_it() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)

    assert {int(status): said.replace("\\|", "|") for status, said in rows} == MEANINGS
    assert all(f"- `{status}` {said}" in EPILOGUE for status, said in MEANINGS.items())
