"""The commands that do not end by themselves: `onetape stream quotes | bars | trades`, `watch`.

    stream   a line for each event, as it comes; --count and --seconds end it
    watch    on a terminal a board that is redrawn, elsewhere a line for each change

Ctrl-C ends both within a second, with 130, as it does `tail -f`. What was missed, and what
has no source any more, is said on standard error; with --json it is a line among the others.

As in `market`, `cli` does not import this module before it is needed.
"""

import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.text import Text

from onetape.client import Gap, MassiveDataProvider, SourceChanged, Subscription
from onetape.commands.desk import DEFAULTS, STREAMED, Common, Desk, Output, complain, desk_of, ran
from onetape.commands.exits import Exit
from onetape.errors import OnetapeError
from onetape.massive.questions import normalized
from onetape.model import AssetClass, Bar, Quote, Trade
from onetape.provenance import Source
from onetape.symbols import asset_class
from onetape.terminal import views
from onetape.terminal.board import BOARD, Board, BoardRow, line_columns
from onetape.terminal.columns import COLUMNS, LINE, Column, named, new_york
from onetape.terminal.printer import Printer, unbuffered
from onetape.terminal.records import csv_of, json_of
from onetape.terminal.screen import Frames

T = TypeVar("T")
D = TypeVar("D", Quote, Trade, Bar)
Change = SourceChanged | Gap
Subscribe = Callable[[MassiveDataProvider, Callable[[Change], object]], Subscription[D]]

FRAME_S: Final = 0.25
"""How often a board is redrawn."""

LINE_S: Final = 1.0
"""How often what changed is printed, where there is no board."""

CLOSES_S: Final = 300.0
"""How often the previous closes are asked for: they change once a day, and a board stays on."""

_NEWS: Final = 3  # changes of source that a board shows

Seconds = Annotated[
    float | None, Parameter(validator=Number(gt=0), help="End after so many seconds.")
]


@Parameter(name="*")
class Limits:
    """What ends a stream besides Ctrl-C."""

    def __init__(
        self,
        *,
        count: Annotated[
            int | None, Parameter(validator=Number(gt=0), help="End after so many events.")
        ] = None,
        seconds: Seconds = None,
    ) -> None:
        self.count = count
        self.seconds = seconds


NO_LIMITS: Final = Limits()


stream = App(name="stream", help="Print quotes, bars or trades as they come, a line for each.")


@stream.command(name="quotes")
def stream_quotes(
    symbols: tuple[str, ...], /, *, limits: Limits = NO_LIMITS, common: Common = DEFAULTS
) -> int:
    """Print quotes as they come.

    Args:
        symbols: Stocks, options and indices. What the plan does not stream is polled.
        limits: What ends it besides Ctrl-C.
        common: Whom to ask, and how to print.
    """
    wanted = normalized(symbols)
    return _stream(
        Quote,
        wanted,
        lambda massive, hear: massive.subscribe_quotes(wanted, on_change=hear, judged=True),
        limits,
        common,
    )


@stream.command(name="bars")
def stream_bars(
    symbols: tuple[str, ...],
    /,
    *,
    timeframe: Literal["1s", "1m"] = "1m",
    limits: Limits = NO_LIMITS,
    common: Common = DEFAULTS,
) -> int:
    """Print bars as they close, none missing and none twice.

    Args:
        symbols: Stocks, options and indices.
        timeframe: 1s or 1m; longer ones are asked for with `onetape bars`.
        limits: What ends it besides Ctrl-C.
        common: Whom to ask, and how to print.
    """
    wanted = normalized(symbols)
    return _stream(
        Bar,
        wanted,
        lambda massive, hear: massive.subscribe_aggregates(
            wanted, timespan=timeframe, on_change=hear, judged=True
        ),
        limits,
        common,
    )


@stream.command(name="trades")
def stream_trades(
    symbols: tuple[str, ...], /, *, limits: Limits = NO_LIMITS, common: Common = DEFAULTS
) -> int:
    """Print trades as they come, none missing and none twice.

    Args:
        symbols: Stocks and options; an index has no trades.
        limits: What ends it besides Ctrl-C.
        common: Whom to ask, and how to print.
    """
    wanted = normalized(symbols)
    return _stream(
        Trade,
        wanted,
        lambda massive, hear: massive.subscribe_trades(wanted, on_change=hear, judged=True),
        limits,
        common,
    )


def watch(
    symbols: tuple[str, ...], /, *, seconds: Seconds = None, common: Common = DEFAULTS
) -> int:
    """Show a board of prices that stays up to date.

    Args:
        symbols: Stocks, options and indices, in the order to show them.
        seconds: End after so many seconds.
        common: Whom to ask, and how to print.
    """
    desk, wanted = desk_of(common), normalized(symbols)
    with Printer(unbuffered(sys.stdout), encoding=sys.stdout.encoding) as printer:
        return ran(_unless_told(_watch(desk, printer, wanted, seconds)))


# streams


class Tape:
    """Writes events as they come, in what was asked for."""

    def __init__(self, desk: Desk, printer: Printer, kind: type, symbols: Sequence[str]) -> None:
        self._desk = desk
        self._printer = printer
        self._columns: Sequence[Column] = COLUMNS[kind]
        self._lines = views.Lines(named(self._columns, LINE[kind]), symbols)
        self._title = f"{kind.__name__}s of {', '.join(symbols)}"
        self._sources: dict[str, Source | None] = {}
        self.events = 0

    async def write(self, event: Quote | Trade | Bar) -> None:
        """Write one event."""
        self.events += 1
        await self._printer.write(self._text(event, is_first=self.events == 1))

    def hear(self, change: Change) -> None:
        """Tell what happened to a source; that there is one at the start is no news."""
        is_new = True
        if isinstance(change, SourceChanged):
            symbol = change.key.symbol
            is_new = symbol in self._sources or change.source is None
            self._sources[symbol] = change.source
        if self._desk.output is Output.JSON:
            self._printer.put(json_of(change, now_ns=self._desk.now_ns) + "\n")
        elif is_new:
            complain(views.told(change, now_ns=self._desk.now_ns))

    @property
    def silent(self) -> list[str]:
        """The symbols that nothing comes of, by the last word."""
        return [symbol for symbol, source in self._sources.items() if source is None]

    def _text(self, event: Quote | Trade | Bar, *, is_first: bool) -> str:
        now_ns, screen = self._desk.now_ns, self._desk.screen
        match self._desk.output:
            case Output.JSON:
                return json_of(event, now_ns=now_ns) + "\n"
            case Output.CSV:
                return csv_of([event], self._columns, now_ns=now_ns, has_header=is_first)
            case Output.PEOPLE:
                line = self._lines.line(event, now_ns=now_ns)
        if not is_first:
            return screen.text_of(line)
        heading = views.heading(self._title, simulated=event.simulated, delayed=event.delayed)
        return screen.text_of(heading, self._lines.header(), line)


def _stream(
    kind: type[D],
    symbols: Sequence[str],
    subscribe: Subscribe[D],
    limits: Limits,
    common: Common,
) -> Exit:
    desk = desk_of(common)

    async def follow() -> Exit:
        async with (
            desk.connected(_streamed(symbols)) as massive,
            subscribe(massive, tape.hear) as subscription,
        ):
            await _until(limits.seconds, _read(subscription, tape, limits.count))
        return _ended(tape, limits)

    with Printer(unbuffered(sys.stdout), encoding=sys.stdout.encoding) as printer:
        tape = Tape(desk, printer, kind, symbols)
        return ran(_unless_told(follow()))


async def _read(subscription: Subscription[Any], tape: Tape, count: int | None) -> None:
    async for event in subscription:
        await tape.write(event)
        if tape.events == count:
            return


def _ended(tape: Tape, limits: Limits) -> Exit:
    for symbol in tape.silent:
        complain(f"{symbol}: nothing comes")
    if limits.count is not None and tape.events < limits.count:
        complain(f"{tape.events} of {limits.count} events came in {limits.seconds:g} s")
        return Exit.FAULT_FOUND
    return Exit.FAULT_FOUND if tape.silent else Exit.OK


# the board


async def _watch(
    desk: Desk, printer: Printer, symbols: Sequence[str], seconds: float | None
) -> Exit:
    board = Board(symbols)
    async with desk.connected(_streamed(symbols)) as massive:
        board.know(await massive.get_quotes(symbols), desk.clock.monotonic())
        if len(board.missing()) < len(symbols):
            showing = Showing(desk, printer, massive, board)
            reading = massive.subscribe_quotes(
                symbols, showing.take, on_change=showing.hear, judged=True
            )
            async with reading:
                await _until(seconds, showing.run())
    for row in board.rows():
        if row.received_ns is None:
            complain(f"{row.symbol}: {row.trouble or 'nothing came'}")
    return Exit.FAULT_FOUND if board.missing() else Exit.OK


class Showing:
    """Keeps a board up to date, and shows it."""

    def __init__(
        self, desk: Desk, printer: Printer, massive: MassiveDataProvider, board: Board
    ) -> None:
        self._desk = desk
        self._printer = printer
        self._massive = massive
        self._board = board
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._is_board = desk.output is Output.PEOPLE and desk.screen.can_redraw

    def take(self, quote: Quote) -> None:
        """Take one quote. The hot path."""
        self._board.take(quote, self._desk.clock.monotonic())

    def hear(self, change: Change) -> None:
        """Take note of a change of source; the board itself shows where a price is from."""
        if isinstance(change, SourceChanged):
            self._board.hear(change)
        elif self._is_board:
            self._news.append(views.told(change, now_ns=self._desk.now_ns))
        else:
            complain(views.told(change, now_ns=self._desk.now_ns))

    async def run(self) -> None:
        """Show the board until cancelled; on a terminal, leave it there."""
        show = self._frames() if self._is_board else self._lines()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask_closes())
                tasks.create_task(show)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            if self._is_board:
                self._printer.put(self._desk.screen.text_of(self.drawn()))

    def drawn(self) -> Group:
        """Return the board as it is now."""
        desk, rows, now = self._desk, self._board.rows(), self._desk.clock.monotonic()
        health = self._massive.get_health()
        facts = [desk.url, ": ".join(filter(None, (health.status, ", ".join(health.reasons))))]
        heading = views.heading(
            new_york(desk.now_ns, now_ns=desk.now_ns),
            *facts,
            simulated=any(row.simulated for row in rows),
            delayed=any(row.delayed for row in rows),
        )
        board = views.table(
            rows,
            BOARD,
            now_ns=desk.now_ns,
            width=desk.screen.width,
            paint=lambda row, column: self._board.paint(row, column, now=now),
        )
        return Group(heading, Text(), board, *(Text(news, style="dim") for news in self._news))

    async def _ask_closes(self) -> None:
        while True:
            await asyncio.sleep(CLOSES_S)
            with contextlib.suppress(OnetapeError):  # what was known stands until the next time
                rows = await self._massive.get_quotes(self._board.symbols)
                self._board.know(rows, self._desk.clock.monotonic())

    async def _frames(self) -> None:
        with Frames(self._desk.screen, self._printer) as frames:
            while True:
                await frames.show(self.drawn())
                await asyncio.sleep(FRAME_S)

    async def _lines(self) -> None:
        lines = views.Lines(line_columns(), self._board.symbols)
        is_first = True
        while True:
            for row in self._board.changed():
                await self._printer.write(self._text(row, lines, is_first=is_first))
                is_first = False
            await asyncio.sleep(LINE_S)

    def _text(self, row: BoardRow, lines: views.Lines, *, is_first: bool) -> str:
        now_ns, screen = self._desk.now_ns, self._desk.screen
        match self._desk.output:
            case Output.JSON:
                return json_of(row, now_ns=now_ns) + "\n"
            case Output.CSV:
                return csv_of([row], BOARD, now_ns=now_ns, has_header=is_first)
            case Output.PEOPLE:
                line = lines.line(row, now_ns=now_ns)
        if not is_first:
            return screen.text_of(line)
        heading = views.heading("Watch", simulated=row.simulated, delayed=row.delayed)
        return screen.text_of(heading, lines.header(), line)


# private


def _streamed(symbols: Iterable[str]) -> frozenset[AssetClass]:
    """Return the asset classes worth a socket."""
    return STREAMED & {asset_class(symbol) for symbol in symbols}


async def _until(seconds: float | None, work: Coroutine[Any, Any, None]) -> None:
    """Do the work for so many seconds at most; None: until it ends."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await work
    except TimeoutError:
        if not limit.expired():
            raise


async def _unless_told(work: Coroutine[Any, Any, Exit]) -> Exit:
    """Do the work, or put it away when SIGTERM comes: a terminal is given back as it was."""
    task, is_told = asyncio.current_task(), False

    def tell() -> None:
        nonlocal is_told
        is_told = True
        if task is not None:
            task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tell)
    try:
        return await work
    except asyncio.CancelledError:
        if is_told:
            return Exit.TERMINATED
        raise
