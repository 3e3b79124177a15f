"""The commands that do not end by themselves, as `main` runs them; Ctrl-C is in test_cli.py."""

import asyncio
import contextlib
import csv
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from onetape.cli import main
from onetape.client import Gap, MassiveDataProvider, Reason, SourceChanged
from onetape.client._notices import Key, Kind
from onetape.commands import live as live_commands
from onetape.commands.desk import Desk, Output
from onetape.commands.live import Showing, Tape
from onetape.gateway.app import Gateway
from onetape.model import Bar, Quote
from onetape.provenance import Source
from onetape.secret import Secret
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.terminal.board import BOARD, Board
from onetape.terminal.columns import COLUMNS
from onetape.terminal.printer import Printer
from onetape.terminal.screen import Screen
from onetape.testing import ManualClock, Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would block


class Venue(NamedTuple):
    """A gateway in a thread of its own: the commands have loops of theirs."""

    play: Playground
    key: str
    loop: asyncio.AbstractEventLoop

    def kick(self) -> None:
        """Let the gateway lose the vendor's connections."""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    found: list[Venue] = []
    ready, stops = threading.Event(), list[asyncio.Event]()

    async def run() -> None:
        stops.append(asyncio.Event())
        busy = SimulatorSettings(rate=5.0)
        async with Playground(tmp_path_factory.mktemp("state"), simulator=busy) as play:
            found.append(Venue(play, await play.key(), asyncio.get_running_loop()))
            ready.set()
            await stops[0].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30)
    yield found[0]
    found[0].loop.call_soon_threadsafe(stops[0].set)
    thread.join()


Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(
    venue: Venue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Ask:
    """Run a command with the gateway's address and key in the environment."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["onetape", *arguments])
            patch.setenv("ONETAPE_URL", venue.play.gateway.url)
            patch.setenv("ONETAPE_KEY", venue.key)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        assert venue.key not in out + err
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    return run


def objects(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


# streams


def test_quotes_are_printed_as_they_come_until_there_were_enough(ask: Ask) -> None:
    done = ask("stream", "quotes", "SPX", "vix", "--count", "3")
    heading, titles, *lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr, len(lines)) == (0, "", 3)
    assert heading == "Quotes of I:SPX, I:VIX   SIMULATED: no number here is real"
    assert titles.split() == ["Time", "Symbol", "Last", "Bid", "Ask", "Source"]
    line = r"\d\d:\d\d:\d\d\.\d{3} E[SD]T  I:(SPX|VIX) +[\d,]+\.\d\d +- +-  stream"
    assert all(re.fullmatch(line, one) for one in lines)


def test_quotes_for_programs_come_with_what_happened_to_their_source(ask: Ask) -> None:
    done = ask("stream", "quotes", "SPX", "SPY", "--count", "4", "--json")
    quotes = [one for one in objects(done) if one["type"] == "quote"]
    changes = [one for one in objects(done) if one["type"] == "source_changed"]

    assert (done.returncode, done.stderr, len(quotes)) == (0, "", 4)
    assert all(quote["simulated"] and quote["event_time"] for quote in quotes)
    assert {one["key"]["symbol"]: one["source"] for one in changes} == {
        "I:SPX": "stream",
        "SPY": "rest",
    }


def test_csv_has_its_header_once(ask: Ask) -> None:
    done = ask("stream", "quotes", "SPX", "--count", "2", "--csv")
    rows = csv.DictReader(io.StringIO(done.stdout))

    assert rows.fieldnames == [column.name for column in COLUMNS[Quote]]
    assert [row["symbol"] for row in rows] == ["I:SPX", "I:SPX"]


def test_bars_are_printed_as_they_close(ask: Ask) -> None:
    done = ask("stream", "bars", "SPX", "--timeframe", "1s", "--count", "1", "--json")
    bars = [one for one in objects(done) if one["type"] == "bar"]

    assert set(Bar.__struct_fields__) <= bars[0].keys()
    assert bars[0]["end_ns"] - bars[0]["event_ns"] == 1_000_000_000


def test_what_did_not_come_in_time_is_said(ask: Ask) -> None:
    done = ask("stream", "bars", "SPX", "--count", "9", "--seconds", "0.2")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "onetape: 0 of 9 events came in 0.2 s\n"


def test_a_symbol_that_nothing_comes_of_is_named(ask: Ask) -> None:
    silent = ask("stream", "quotes", "NOSUCH", "--seconds", "0.8", "--json")

    assert silent.returncode == 1
    assert silent.stderr == "onetape: NOSUCH: nothing comes\n"
    assert objects(silent)[-1]["reason"] == "poll_failed"


def test_what_makes_no_sense_is_one_line(ask: Ask) -> None:
    done = ask("stream", "trades", "SPX")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "onetape: invalid_request: indices have no trades\n"


def desk(output: Output, out: io.StringIO | None = None) -> Desk:
    url, screen = "http://127.0.0.1:1", Screen(out or io.StringIO())
    return Desk(url, Secret("ot_key"), output, ManualClock(now_ns=NOW), screen)


@pytest.fixture
def paper() -> Iterator[tuple[Printer, Callable[[], str]]]:
    """A printer, and what it printed."""
    reader, writer = os.pipe()
    file = io.FileIO(writer, "w")

    def printed() -> str:
        printer.__exit__()
        file.close()
        return os.read(reader, 65_536).decode()

    with file, Printer(file) as printer:
        yield printer, printed
    os.close(reader)


NOW = 1_795_194_000_000_000_000  # noon in New York
SPX = Key(Kind.QUOTE, "I:SPX")
GAP = Gap(key=SPX, start_ns=NOW, end_ns=NOW + 1_000_000_000, reason=Reason.STREAM_DOWN)
MISSED = "I:SPX: events between 12:00:00.000 EST and 12:00:01.000 EST were missed (stream_down)"


def changed(source: Source | None, reason: Reason) -> SourceChanged:
    return SourceChanged(key=SPX, source=source, reason=reason, at_ns=NOW)


def test_what_was_missed_and_who_stood_in_is_said_on_standard_error(
    paper: tuple[Printer, Callable[[], str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """That there is a source at the start is no news."""
    printer, printed = paper
    tape = Tape(desk(Output.PEOPLE), printer, Quote, ["I:SPX"])
    tape.hear(changed(Source.STREAM, Reason.LIVE))
    tape.hear(changed(Source.REST, Reason.STREAM_DOWN))
    tape.hear(GAP)
    tape.hear(changed(None, Reason.POLL_FAILED))

    assert capsys.readouterr().err.splitlines() == [
        "onetape: I:SPX: from rest now (stream_down)",
        f"onetape: {MISSED}",
        "onetape: I:SPX: nothing comes (poll_failed)",
    ]
    assert (tape.silent, printed()) == (["I:SPX"], "")


def test_programs_are_told_all_of_it_among_the_events(
    paper: tuple[Printer, Callable[[], str]], capsys: pytest.CaptureFixture[str]
) -> None:
    printer, printed = paper
    tape = Tape(desk(Output.JSON), printer, Quote, ["I:SPX"])
    tape.hear(changed(Source.STREAM, Reason.LIVE))
    tape.hear(GAP)

    first, second = map(msgspec.json.decode, printed().splitlines())
    assert (first["type"], first["source"], tape.silent) == ("source_changed", "stream", [])
    assert (second["type"], second["end_time"]) == ("gap", "2026-11-20T17:00:01.000000000Z")
    assert capsys.readouterr().err == ""


class Xterm(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_board_says_what_was_missed_where_it_is_seen(
    paper: tuple[Printer, Callable[[], str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    massive, board = MassiveDataProvider("http://127.0.0.1:1", "ot_key"), Board(["I:SPX"])
    drawn = desk(Output.PEOPLE, Xterm())
    on_terminal = Showing(drawn, paper[0], massive, board)
    elsewhere = Showing(desk(Output.PEOPLE), paper[0], massive, board)

    for showing in (on_terminal, elsewhere):
        showing.hear(GAP)
        showing.hear(changed(None, Reason.POLL_FAILED))

    text = re.sub(r"\x1b\[[\d;]*m", "", drawn.screen.text_of(on_terminal.drawn()))
    assert MISSED in " ".join(text.split())
    assert "poll_failed" in text
    assert capsys.readouterr().err == f"onetape: {MISSED}\n"


def test_sigterm_puts_away_what_is_open(ask: Ask) -> None:
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    done = ask("stream", "quotes", "SPX", "--csv")

    assert (done.returncode, done.stderr) == (143, "")
    assert done.stdout.startswith("symbol,")


# the board, where there is none


def test_without_a_terminal_what_changed_is_a_line(ask: Ask) -> None:
    done = ask("watch", "SPX", "SPY", "--seconds", "0.6")
    heading, titles, *lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert heading == "Watch   SIMULATED: no number here is real"
    assert titles.split()[:4] == ["Symbol", "Price", "Change", "Change"]
    assert {line.split()[0] for line in lines} == {"I:SPX", "SPY"}
    assert all(re.search(r"  (stream|rest)$", line) for line in lines)


def test_a_board_for_programs(ask: Ask) -> None:
    rows = objects(ask("watch", "SPX", "--seconds", "0.4", "--json"))
    done = ask("watch", "SPX", "--seconds", "0.4", "--csv")
    table = csv.DictReader(io.StringIO(done.stdout))

    assert (rows[0]["type"], rows[0]["symbol"]) == ("board", "I:SPX")
    assert rows[0]["change"] is not None
    assert table.fieldnames == [column.name for column in BOARD]
    assert float(next(table)["age_s"]) < 60


def test_a_board_names_what_is_not_there(ask: Ask) -> None:
    some = ask("watch", "SPX", "NOSUCH", "--seconds", "0.5")
    none = ask("watch", "NOSUCH")  # and ends by itself

    assert (some.returncode, none.returncode) == (1, 1)
    assert some.stderr == none.stderr == "onetape: NOSUCH: not_found\n"
    assert none.stdout == ""


def test_closes_are_asked_for_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change once a day, and a board stays on for weeks."""
    monkeypatch.setattr(live_commands, "CLOSES_S", 0.1)
    done = ask("watch", "SPX", "NOSUCH", "--seconds", "1.3", "--json")

    assert sum(one["symbol"] == "NOSUCH" for one in objects(done)) > 1


# the board, on a terminal


class Terminal:
    """A terminal of 100 columns, and what was shown on it."""

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self) -> str:
        self.stream.close()
        self._reader.join(5)
        os.close(self._ours)
        return self._shown.decode()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(self._ours, 65_536):
                self._shown.extend(piece)


@pytest.fixture
def shown(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run a command at a terminal; return its status and what was shown there."""

    def run(*arguments: str) -> tuple[int, str]:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "100"), ("LINES", "24")):
                patch.setenv(name, value)
            patch.delenv("NO_COLOR", raising=False)
            patch.setattr(sys, "stdout", terminal.stream)
            status = ask(*arguments).returncode
        return status, terminal.close()

    return run


def test_a_terminal_has_a_board_that_is_redrawn_and_stays(
    shown: Callable[..., tuple[int, str]],
) -> None:
    status, text = shown("watch", "SPX", "SPY", "NOSUCH", "--seconds", "1.5")
    other, _, left = text.partition("\x1b[?1049l")

    assert status == 1
    assert other.startswith("\x1b[?1049h\x1b[?25l")
    frames = other.split("\x1b[H")[1:]
    assert len(frames) >= 4
    for text in (frames[-1], left):
        plain = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text)
        heading, blank, titles, spx, spy, nosuch = plain.splitlines()[:6]
        assert re.match(r"\d\d:\d\d:\d\d E[SD]T   http://127\S+   ok   SIMULATED", heading)
        assert (blank, titles.split()[-1]) == ("", "Trouble")
        assert re.match(r"I:SPX +\d,\d{3}\.\d\d +[-+\d.]+ +[-+\d.]+ +- +- +\d", spx)
        assert spy.startswith("SPY ")
        assert nosuch.split()[-1] == "not_found"
    assert "\x1b[1;7;3" in other, "a price that moved is lit"


def test_a_streams_lines_are_coloured_on_a_terminal(
    shown: Callable[..., tuple[int, str]],
) -> None:
    status, text = shown("stream", "quotes", "SPX", "--count", "8")

    assert status == 0
    assert re.search(r"\x1b\[3[12]m +[\d,.]+", text)
