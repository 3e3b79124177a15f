"""What the exit status of a command says; `--help` and docs/cli.md have the same table.

what the command found   0 all, 1 not all
why it found nothing     2 us, 3 the gateway, 4 the vendor
who ended it             130, 141, 143, as shells have it
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from onetape.errors import (
    ContractNotFound,
    DataProviderError,
    NotEntitled,
    NotFound,
    OnetapeError,
    StreamClosed,
    SubscriptionFailed,
    Throttled,
    Unauthorized,
    UpstreamError,
)

PEER: Final = "the gateway"
"""What the client's errors begin with when no gateway answered; else one told of its vendor."""


class Exit(IntEnum):
    """The statuses."""

    OK = 0
    FAULT_FOUND = 1
    WRONG_USAGE = 2
    GATEWAY = 3
    VENDOR = 4
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.OK: "all is well; also a server that was told to stop by SIGINT or SIGTERM",
    Exit.FAULT_FOUND: "a check found a fault, or not all that was asked for is there",
    Exit.WRONG_USAGE: "the command was typed wrong, or a setting is missing or wrong",
    Exit.GATEWAY: "the gateway cannot be reached, or does not let us in",
    Exit.VENDOR: "the gateway is there, and its vendor fails",
    Exit.INTERRUPTED: "Ctrl-C, where it does not mean that a server shall stop, or a second one",
    Exit.READER_GONE: "the reader of the output went away, as in `onetape keys list | head -1`",
    Exit.TERMINATED: "SIGTERM, where it does not mean that a server shall stop",
}

EPILOGUE: Final = "\n".join(
    ["**Exit status**", "", *(f"- `{status}` {meaning}" for status, meaning in MEANINGS.items())]
)
"""The end of every `--help`, in Markdown."""


def status_of(error: OnetapeError) -> Exit:
    """Return what a command that failed exits with."""
    match error:
        case NotFound() | ContractNotFound() | StreamClosed():
            return Exit.FAULT_FOUND
        case Unauthorized() | NotEntitled() | Throttled():
            return Exit.GATEWAY
        case UpstreamError():
            return Exit.GATEWAY if str(error).startswith(PEER) else Exit.VENDOR
        case DataProviderError() | SubscriptionFailed():
            return Exit.VENDOR
        case _:
            return Exit.WRONG_USAGE
