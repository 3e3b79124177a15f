import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from onetape.clock import SystemClock
from onetape.terminal.printer import Printer, say, unbuffered


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    reader, writer = os.pipe()
    with io.FileIO(writer, "wb") as file:
        yield reader, file
    os.close(reader)


async def test_texts_come_out_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    texts = [f"{number:06}\n" for number in range(5_000)]
    file = await asyncio.to_thread(path.open, "wb", 0)
    with Printer(file) as printer:
        for text in texts:
            await printer.write(text)
        await printer.drain()
        written = await asyncio.to_thread(path.read_text)
    file.close()

    assert written == "".join(texts)


async def test_a_reader_that_does_not_read_stops_the_writer_and_not_the_loop(
    pipe: tuple[int, BinaryIO],
) -> None:
    """The end does not wait for it either."""
    _, file = pipe
    clock = SystemClock()

    async def write_for_ever() -> None:
        while True:
            await printer.write("x" * 1_000)

    with Printer(file) as printer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write_for_ever(), 0.2)
        began = clock.monotonic()

    assert clock.monotonic() - began < 1
    os.set_blocking(pipe[0], False)  # lets the thread go: it still holds the pipe
    while len(os.read(pipe[0], 1 << 20)) > 60_000:
        await asyncio.sleep(0.01)


async def test_a_reader_that_went_away_is_told_once_it_is_known() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with io.FileIO(writer, "wb") as file, Printer(file) as printer:
        printer.put("nobody reads this")
        await printer.drain()
        with pytest.raises(BrokenPipeError):
            await printer.write("nor this")
        await printer.drain()


async def test_what_cannot_be_encoded_is_a_question_mark(pipe: tuple[int, BinaryIO]) -> None:
    reader, file = pipe
    with Printer(file, encoding="ascii") as printer:
        await printer.write("10 \N{EURO SIGN}\n")
        await printer.drain()

    assert os.read(reader, 100) == b"10 ?\n"


def test_a_drain_that_nobody_awaits_any_more_does_no_harm(pipe: tuple[int, BinaryIO]) -> None:
    reader, file = pipe

    async def leave() -> Printer:
        printer = Printer(file)
        printer.put("before")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(printer.drain(), 0.01)  # the thread does not run yet
        return printer

    with asyncio.run(leave()) as printer:  # the loop is closed when it does
        printer.put(" and after")
    assert os.read(reader, 100) == b"before and after"


async def test_a_drain_that_is_cancelled_does_no_harm(pipe: tuple[int, BinaryIO]) -> None:
    printer = Printer(pipe[1])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(printer.drain(), 0.01)
    with printer:
        await printer.drain()


def test_a_stream_without_its_buffer_keeps_its_place(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        stream.write("one ")
        unbuffered(stream).write(b"two ")
        stream.write("three")

    assert (tmp_path / "out").read_text() == "one two three"


def test_complaints_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("so it is")

    assert capsys.readouterr() == ("", "so it is\n")
