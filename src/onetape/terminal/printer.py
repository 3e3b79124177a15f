"""Writing without waiting: a terminal or pipe that blocks stops a thread, and nothing else.

Not the loop, not the client's sockets, and not Ctrl-C.
"""

import asyncio
import contextlib
import io
import queue
import sys
import threading
from typing import BinaryIO, Final, Self, TextIO

PATIENCE_S: Final = 0.5
"""How long the end waits for a reader that does not read."""

_WAITING: Final = 256  # texts that may wait to be written


class Printer:
    """Writes texts in order from a thread of its own, for as long as its block is open."""

    def __init__(self, file: BinaryIO, *, encoding: str = "utf-8") -> None:
        self._file = file
        self._encoding = encoding
        self._queue: queue.SimpleQueue[bytes | asyncio.Future[None] | None] = queue.SimpleQueue()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="onetape.printer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join(PATIENCE_S)

    def put(self, text: str) -> None:
        """Hand a text over; never waits."""
        # A terminal that cannot show an arrow shows a question mark.
        self._queue.put(text.encode(self._encoding, "replace"))

    async def write(self, text: str) -> None:
        """Hand a text over; wait while too much waits to be written. Cancel-safe.

        Raises:
            BrokenPipeError: the reader went away.
        """
        self.put(text)
        if self._queue.qsize() > _WAITING:
            await self.drain()
        if self._error is not None:
            raise self._error

    async def drain(self) -> None:
        """Wait until all that was handed over is written, or cannot be."""
        drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(drained)
        await drained

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, bytes):
                self._write(item)
                continue
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                item.get_loop().call_soon_threadsafe(_settle, item)

    def _write(self, text: bytes) -> None:
        if self._error is not None:
            return
        left = memoryview(text)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def unbuffered(stream: TextIO) -> BinaryIO:
    """Return the stream's file without its buffer.

    A thread stuck in a buffer would hold its lock, and the interpreter could not end.
    """
    stream.flush()
    return io.FileIO(stream.fileno(), "wb", closefd=False)


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
