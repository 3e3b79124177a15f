import asyncio
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from rich.text import Text

from onetape.errors import NotFound
from onetape.terminal.printer import Printer
from onetape.terminal.screen import Frames, Screen, awaited
from onetape.testing import until


class Terminal(io.StringIO):
    """What says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def xterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich looks at these."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.delenv("NO_COLOR", raising=False)


LOUD = Text("loud", style="bold red")


def test_a_terminal_has_colours_and_a_pipe_has_none() -> None:
    assert Screen(Terminal()).text_of(LOUD) == "\x1b[1;31mloud\x1b[0m\n"
    assert Screen(io.StringIO()).text_of(LOUD, Text("two  ")) == "loud\ntwo\n"


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    text = Screen(Terminal()).text_of(LOUD)
    assert "31" not in text
    assert "loud" in text


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_pipe_is_never_taken_for_a_terminal(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")

    assert Screen(io.StringIO()).text_of(LOUD) == "loud\n"


def test_a_terminal_is_as_wide_as_it_is_and_a_pipe_as_wide_as_it_takes() -> None:
    long = Text("x" * 300)

    assert Screen(Terminal()).width == 50
    assert Screen(Terminal()).text_of(long).count("\n") == 6
    assert Screen(io.StringIO()).text_of(long).count("\n") == 1


def test_only_a_terminal_that_can_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Screen(Terminal()).can_redraw
    assert not Screen(io.StringIO()).can_redraw
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen(Terminal()).can_redraw


def test_a_frame_begins_at_home_and_leaves_out_what_does_not_fit() -> None:
    frame = Screen(Terminal()).frame_of(*(Text(str(number)) for number in range(9)))

    assert frame == "\x1b[H" + "".join(f"{number}\x1b[K\n" for number in range(4)) + "\x1b[J"


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    reader, writer = os.pipe()
    with io.FileIO(writer, "wb") as file:
        yield reader, file
    os.close(reader)


async def test_the_other_screen_is_left_as_it_was_entered(pipe: tuple[int, BinaryIO]) -> None:
    reader, file = pipe
    with Printer(file) as printer:
        with Frames(Screen(Terminal()), printer) as frames:
            await frames.show(Text("board"))
        await printer.drain()

    assert os.read(reader, 1_000) == (
        b"\x1b[?1049h\x1b[?25l\x1b[Hboard\x1b[K\n\x1b[J\x1b[?25h\x1b[?1049l"
    )


# progress


async def test_who_waits_long_at_a_terminal_sees_how_many_pages_there_are() -> None:
    err = Terminal()

    async def slow() -> str:
        await until(lambda: "7 pages" in err.getvalue())
        return "done"

    assert await awaited(slow(), pages=lambda: 7, most=None, err=err) == "done"
    assert err.getvalue().endswith("\x1b[2K")  # and nothing of it stays


async def test_what_comes_soon_needs_no_progress() -> None:
    err = Terminal()

    assert await awaited(asyncio.sleep(0, "done"), pages=lambda: 0, most=3, err=err) == "done"
    assert err.getvalue() == ""


async def test_where_nobody_looks_there_is_no_progress() -> None:
    err = io.StringIO()

    assert await awaited(asyncio.sleep(0.6, "done"), pages=lambda: 0, most=3, err=err) == "done"
    assert err.getvalue() == ""


@pytest.mark.parametrize("err", [Terminal(), io.StringIO()], ids=["terminal", "pipe"])
async def test_a_failure_comes_through_as_it_is(err: io.StringIO) -> None:
    async def failing() -> None:
        raise NotFound("no such symbol")

    with pytest.raises(NotFound):
        await awaited(failing(), pages=lambda: 0, most=None, err=err)
