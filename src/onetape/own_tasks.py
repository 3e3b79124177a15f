"""The tasks of an object that is a context manager: begun in its block, over when it is."""

import asyncio
from types import TracebackType


class OwnTasks(asyncio.TaskGroup):
    """A TaskGroup of tasks that raise nothing, so that what the block raises is the block's.

    A plain one would wrap it into an ExceptionGroup, and callers of ours would have to
    unpack their own errors. Who owns it cancels what would not end by itself.
    """

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the tasks; let an error of the block pass."""
        if isinstance(error, Exception):
            kind = error = traceback = None
        await super().__aexit__(kind, error, traceback)
