from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

settings.register_profile("onetape", deadline=None)  # machines are shared and noisy
settings.load_profile("onetape")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"debug": True, "use_uvloop": False}


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A blocking call of ours inside the event loop fails the test."""
    with blockbuster_ctx("onetape") as detector:
        # Not blocking that matters: handing work to a thread takes a lock for microseconds,
        # and coverage's tracer and asyncio's debug log write a line when it suits them.
        detector.functions["threading.Lock.acquire"].deactivate()
        detector.functions["io.TextIOWrapper.write"].deactivate()
        detector.functions["io.BufferedWriter.write"].deactivate()  # where that line ends up
        yield detector
