"""What every command that shows the market works with: whom to ask, and where to show it.

ONETAPE_URL or --url, ONETAPE_KEY ──▶ Desk ── connected ──▶ the client
                                       └───── print, report ──▶ standard output and error
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from onetape import config as settings
from onetape.client import MassiveDataProvider
from onetape.client._provider import STREAMED
from onetape.client._rest import MOUNT, error_of, root_of
from onetape.clock import Clock, SystemClock
from onetape.commands.exits import PEER, Exit, status_of
from onetape.errors import (
    BY_CODE,
    UNREADABLE,
    ConfigInvalid,
    InvalidRequest,
    NotEntitled,
    OnetapeError,
    Unauthorized,
    UpstreamError,
    UpstreamGarbled,
)
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.model import AssetClass
from onetape.rows import SymbolFault
from onetape.secret import Secret
from onetape.terminal.columns import Column
from onetape.terminal.printer import say
from onetape.terminal.records import csv_of, json_of
from onetape.terminal.screen import Screen, awaited

__all__ = ["DEFAULTS", "STREAMED", "Common", "Desk", "Output", "complain", "desk_of", "ran"]

T = TypeVar("T")

_QUICK: Final = RestPolicy(timeout_s=5.0, deadline_s=5.0, attempts=1)
_ONCE: Final = RestPolicy(timeout_s=10.0, deadline_s=10.0, attempts=1)
_health_body: Final = msgspec.json.Decoder(dict[str, Any])


@Parameter(name="*")
class Common:
    """What every one of the commands takes."""

    # A plain class: of a NamedTuple cyclopts does not read the annotations.
    def __init__(
        self,
        *,
        json: Annotated[bool, Parameter(help="Print JSON, for scripts.")] = False,
        csv: Annotated[bool, Parameter(help="Print CSV, for scripts and sheets.")] = False,
        url: Annotated[
            str | None, Parameter(help="The gateway's address, in place of ONETAPE_URL.")
        ] = None,
    ) -> None:
        self.json = json
        self.csv = csv
        self.url = url


DEFAULTS: Final = Common()


class Output(Enum):
    """What is printed."""

    PEOPLE = auto()
    JSON = auto()
    CSV = auto()


class Desk(NamedTuple):
    """Whom to ask, and where to show it."""

    url: str
    key: Secret
    output: Output
    clock: Clock
    screen: Screen

    @property
    def now_ns(self) -> int:
        """The time."""
        return self.clock.now_ns()

    # asking

    @contextlib.asynccontextmanager
    async def connected(
        self, streams: Iterable[AssetClass] = ()
    ) -> AsyncGenerator[MassiveDataProvider]:
        """Connect for as long as the block is open.

        Raises:
            OnetapeError: the gateway is not there or does not let us in, and what to do.
        """
        massive = MassiveDataProvider(self.url, self.key, streams=streams, clock=self.clock)
        try:
            await massive.connect()
        except OnetapeError as error:
            raise self._explained(error) from None
        try:
            yield massive
        finally:
            await massive.disconnect()

    async def paged(
        self, massive: MassiveDataProvider, work: Coroutine[Any, Any, T], *, most: int | None = None
    ) -> T:
        """Await what may read many pages; on a terminal, show how far it is."""

        def pages() -> int:
            return massive.get_health().rest.rest.requests

        return await awaited(work, pages=pages, most=most, err=sys.stderr)

    async def gateway_health(self) -> dict[str, Any]:
        """Ask the gateway how it is; it needs no key for that.

        Raises:
            UpstreamError: it is not there, or is no gateway.
        """
        rest = MassiveREST(
            base_url=self.url, headers=dict, clock=self.clock, policy=_QUICK, peer=PEER
        )
        async with rest:
            try:
                response = await rest.get("/api/health")
            except OnetapeError as error:
                raise self._explained(error) from None
        try:
            body = _health_body.decode(response.body)
        except UNREADABLE:
            body = {}
        if not {"status", "version"} <= body.keys():
            raise UpstreamGarbled(f"{PEER} at {self.url} is none: {_WHERE}")
        return body

    async def ask_vendor(self) -> OnetapeError | None:
        """Let the gateway ask its vendor the cheapest question; return what is wrong, if any.

        What the gateway answers by itself does not tell: it has copies, and another vendor.
        """
        rest = MassiveREST(
            base_url=self.url,
            headers=lambda: {"Authorization": f"Bearer {self.key.reveal()}"},
            clock=self.clock,
            policy=_ONCE,
            peer=PEER,
            mount=MOUNT,
        )
        async with rest:
            try:
                response = await rest.get(f"{MOUNT}/v1/marketstatus/now")
            except OnetapeError as error:
                return error
        return None if response.status < 300 else error_of(response)

    def _explained(self, error: OnetapeError) -> OnetapeError:
        """Say the same with the address and what to do about it."""
        said = str(error).removeprefix(PEER).strip()
        at = f"{PEER} at {self.url}"
        if isinstance(error, Unauthorized | NotEntitled):
            return type(error)(f"{at} does not accept ONETAPE_KEY: {said}; {_MAKE_ONE}")
        if isinstance(error, UpstreamError):
            return type(error)(f"{at} {said}: {_WHERE}")
        return error

    # showing

    def print(
        self,
        document: object,
        rows: Sequence[Any],
        columns: Sequence[Column],
        *,
        draw: Callable[[], Iterable[RenderableType]],
    ) -> None:
        """Print an answer: the document as JSON, or its rows as CSV, or what people see."""
        match self.output:
            case Output.JSON:
                text = json_of(document, now_ns=self.now_ns) + "\n"
            case Output.CSV:
                text = csv_of(rows, columns, now_ns=self.now_ns)
            case Output.PEOPLE:
                text = self.screen.text_of(*draw())
        sys.stdout.write(text)
        sys.stdout.flush()

    def report(self, rows: Sequence[Any], errors: Mapping[str, SymbolFault], what: str) -> Exit:
        """Name what is missing, and return what that makes of the command."""
        for symbol, fault in errors.items():
            said = fault.message.removeprefix(f"{symbol}: ")  # it may name the symbol itself
            complain(f"{symbol or what}: {fault.error}: {said}")
        if rows:
            return Exit.FAULT_FOUND if errors else Exit.OK
        if not errors:
            complain(f"there are no {what}")
        statuses = {status_of(_error_of(fault)) for fault in errors.values()}
        return statuses.pop() if len(statuses) == 1 else Exit.FAULT_FOUND


_MAKE_ONE: Final = "`onetape keys create NAME` on the gateway's host makes one"
_WHERE: Final = (
    "does it run? `onetape demo` or `onetape serve` starts one,"
    " ONETAPE_URL or --url says where it is"
)


def desk_of(common: Common) -> Desk:
    """Read the settings and take a place.

    Raises:
        ConfigInvalid: there is no key, or a setting or the address is wrong.
        InvalidRequest: two outputs at one time.
    """
    if common.json and common.csv:
        raise InvalidRequest("--json and --csv are two outputs: choose one")
    config = settings.load()
    client = config.client
    if client.key is None:
        raise ConfigInvalid(
            f"ONETAPE_KEY is not set: {_MAKE_ONE}; put it into the environment or .env."
            " `onetape demo` prints one to try"
        )
    output = Output.JSON if common.json else Output.CSV if common.csv else Output.PEOPLE
    try:
        url = root_of(common.url or client.url)
    except ConfigInvalid as error:  # which does not repeat it: it may hold a credential
        raise ConfigInvalid(f"--url: {error}") from None
    if not config.massive.allow_plain_http and (wrong := settings.in_the_clear(url)):
        raise ConfigInvalid(f"--url: {wrong}")
    return Desk(url, client.key, output, SystemClock(), Screen(sys.stdout))


def ran(work: Coroutine[Any, Any, T]) -> T:
    """Do the work in a loop of its own. Ctrl-C cancels it, and what it holds is put away."""
    with asyncio.Runner() as runner:
        return runner.run(work)


def complain(text: str) -> None:
    """Write one line to standard error."""
    say(f"onetape: {text}")


def _error_of(fault: SymbolFault) -> OnetapeError:
    return BY_CODE.get(fault.error, OnetapeError)(fault.message)
