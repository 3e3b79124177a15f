"""Where the commands write: the edge between what is shown and who looks at it.

a terminal    colours unless NO_COLOR is set, as wide as it is, a board that is redrawn
anything else no colours, as wide as it takes, a line for each event
"""

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, TextIO, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from onetape.terminal.printer import Printer

T = TypeVar("T")

WIDE: Final = 10_000
"""How wide what is no terminal may get: nothing gives way, nothing is folded."""

_QUIET_S: Final = 0.5  # an answer that comes sooner needs no progress bar
_TURN_S: Final = 0.1

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME, _TO_LINE_END, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """Turns what rich can draw into text for one output."""

    def __init__(self, out: TextIO) -> None:
        self.is_terminal = out.isatty()
        self._buffer = io.StringIO()
        # rich heeds NO_COLOR and TERM by itself.
        self._console = Console(
            file=self._buffer,
            force_terminal=self.is_terminal,
            width=None if self.is_terminal else WIDE,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    @property
    def can_redraw(self) -> bool:
        """Whether a board can be drawn over and over in one place."""
        console = self._console
        is_plain = console.is_dumb_terminal or console.legacy_windows
        return self.is_terminal and not is_plain

    @property
    def width(self) -> int:
        """How many columns there are, now."""
        return self._console.width

    def text_of(self, *views: RenderableType) -> str:
        """Return the views one below the other, each line without blanks at its end."""
        for view in views:
            self._console.print(view)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text if self.is_terminal else "\n".join(map(str.rstrip, text.split("\n")))

    def frame_of(self, *views: RenderableType) -> str:
        """Return what replaces the whole screen; what is below its last line is left out."""
        lines = self.text_of(*views).splitlines()[: max(1, self._console.height - 1)]
        return _HOME + "".join(f"{line}{_TO_LINE_END}\n" for line in lines) + _TO_END


class Frames:
    """The other screen of a terminal, redrawn until the block is left; then all is as it was."""

    def __init__(self, screen: Screen, printer: Printer) -> None:
        self._screen = screen
        self._printer = printer

    def __enter__(self) -> Self:
        self._printer.put(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        self._printer.put(_LEAVE)

    async def show(self, *views: RenderableType) -> None:
        """Draw the views in place of what is there."""
        await self._printer.write(self._screen.frame_of(*views))


async def awaited(
    work: Coroutine[Any, Any, T], *, pages: Callable[[], int], most: int | None, err: TextIO
) -> T:
    """Await work that reads pages; if it takes long and somebody looks, show how it goes.

    Args:
        work: What is awaited.
        pages: How many were read so far.
        most: How many there are at most, if that is known.
        err: Where to show it, if that is a terminal.
    """
    if not err.isatty():
        return await work
    try:
        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(_progress(pages, most, err))
            try:
                return await work
            finally:
                showing.cancel()
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _progress(pages: Callable[[], int], most: int | None, err: TextIO) -> None:
    await asyncio.sleep(_QUIET_S)
    console = Console(file=err, force_terminal=True)
    look = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.completed} pages"),
        TimeElapsedColumn(),
    )
    with Progress(*look, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=most)
        while True:
            progress.update(task, completed=pages(), refresh=True)
            await asyncio.sleep(_TURN_S)
