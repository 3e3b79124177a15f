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
        # Handing work to a thread takes a lock for microseconds, and so does coverage's
        # tracer; asyncio's debug mode logs slow callbacks, which pytest writes down.
        detector.functions["threading.Lock.acquire"].deactivate()
        detector.functions["io.TextIOWrapper.write"].can_block_in("logging/__init__.py", "emit")
        yield detector
