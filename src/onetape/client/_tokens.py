"""The short-lived token that lets the client in: fetched before it is missed, shared by all.

    none ── mint ──▶ good ── 60 s left ──▶ ending ── its time is over ──▶ ended
                      ▲  ▲                    │                             │
                      │  └──────── mint ──────┘                             │
                      └─────────────────────── mint ────────────────────────┘

However many ask at once, one request mints; a mint that fails changes nothing but the
statistics. Each token has a generation, so that a refusal of an older one costs no mint.
Life is measured on our monotonic clock from before the request, by the `expires_in` of
the answer: neither host's wall clock counts.
"""

import asyncio
import logging
import random as stdlib_random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Annotated, Final, NamedTuple, Self

import msgspec

from onetape.client._rest import error_of
from onetape.clock import Clock
from onetape.core.recovery import Backoff
from onetape.errors import (
    UNREADABLE,
    NotEntitled,
    OnetapeError,
    TokenMissing,
    Unauthorized,
    UpstreamGarbled,
)
from onetape.flights import Flights
from onetape.massive.rest import MassiveREST, RestResponse
from onetape.secret import Secret

TOKEN_PATH: Final = "/api/ws-token"  # noqa: S105 - a path

EARLY_S: Final = 60.0
"""A token with no more than this left is not given out where another can be had. One that
lives less than twice as long is renewed at half its life instead."""

REFUSED: Final = (Unauthorized, NotEntitled)
"""What says that the credential is at fault; asking again soon won't help."""

REFUSED_S: Final = 30.0
"""How long a refused credential rests, at least; it was probably revoked."""

_ECHO_S: Final = 1.0  # for so long a refusal is repeated without asking
_STEP_S: Final = 60.0  # how long we sleep at most before looking again: tokens come by other ways
_RETRY_BASE_S, _RETRY_CAP_S = 1.0, 30.0
_REFUSED_CAP_S: Final = 270.0
_OK: Final = range(200, 300)

logger: Final = logging.getLogger("onetape.client.tokens")


class TokenStatistics(NamedTuple):
    """A snapshot for health and metrics."""

    valid: bool
    expires_in_s: float | None  # None: there is none; 0: it ended
    generation: int
    mints: int
    failures: int
    consecutive_failures: int
    last_failure: str | None  # the code of the error
    last_mint_s: float | None  # how long the last one took


class _Minted(msgspec.Struct):
    """What the gateway answers; its `expiresAt` is by its own clock and not read."""

    token: Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,8192}\Z")]  # as a header may be
    expires_in: Annotated[float, msgspec.Meta(ge=1)]


_minted = msgspec.json.Decoder(_Minted)


class _Held(NamedTuple):
    token: Secret
    ends: float
    early_s: float


class _Pause:
    """How long the refresh task rests after failures; over as soon as there is a newer token."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._soon = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, first_immediate=False, random=random)
        self._late = Backoff(REFUSED_S, _REFUSED_CAP_S, first_immediate=False, random=random)
        self._generation = -1
        self._until = 0.0

    def begin(self, error: OnetapeError, generation: int, now: float) -> float:
        if isinstance(error, REFUSED):
            delay_s = REFUSED_S + self._late.next_delay()
        else:
            delay_s = max(error.retry_after_s or 0.0, self._soon.next_delay())
        self._generation, self._until = generation, now + delay_s
        return delay_s

    def remaining(self, generation: int, now: float) -> float:
        if generation == self._generation:
            return self._until - now
        self._soon.reset()
        self._late.reset()
        return 0.0


class Tokens:
    """The token of one client. Use it as an async context manager; `run` renews it early.

    Args:
        rest: The gateway at its root, with the client's credential as its headers. Whoever
            made it opens and closes it.
        clock: The time.
        sleep: How `run` waits.
        random: The jitter, from 0 to 1.
        on_renewed: Called after each mint, in the loop; sockets log in anew.
    """

    def __init__(
        self,
        *,
        rest: MassiveREST,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
        on_renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self.generation = 0  # of the current token; 0: there was none yet
        self._rest = rest
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._on_renewed = on_renewed
        self._flights = Flights[str, Secret]()
        self._is_open = False
        self._held: _Held | None = None
        self._refusal: OnetapeError | None = None
        self._echo_until = 0.0
        self._mints = self._failures = self._consecutive_failures = 0
        self._last_failure: str | None = None
        self._last_mint_s: float | None = None

    async def __aenter__(self) -> Self:
        await self._flights.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        await self._flights.__aexit__(kind, error, traceback)

    # having one

    async def ensure_token(self) -> str:
        """Return a token with more than 60 s left, minting one for all who wait if need be.

        A token with less is returned when the gateway gives no other at the moment.
        Cancel-safe: cancelling one caller does not disturb the others.

        Raises:
            Unauthorized: The gateway does not accept the credential.
            UpstreamError: There is no token and the gateway gives none.
        """
        held = self._held
        if held is not None and self.is_valid():
            return held.token.reveal()
        try:
            return await self.refresh_token()
        except REFUSED:
            raise  # where the credential is refused, its tokens will be too
        except OnetapeError:
            if held is None or self._left_s(held) <= 0:
                raise
            return self.current()

    async def refresh_token(self, *, generation: int | None = None) -> str:
        """Mint a token and return it, or join a mint that is under way.

        Args:
            generation: Of the token that was refused; a newer one is returned as it is.

        Raises:
            Unauthorized: The gateway does not accept the credential. For a second after,
                that is repeated without asking again.
            OnetapeError: The gateway gives none, for a reason named by the type.
        """
        if generation is not None and generation < self.generation and self._is_alive():
            return self.current()
        if self._refusal is not None and self._clock.monotonic() < self._echo_until:
            raise type(self._refusal)(str(self._refusal))
        secret = await self._flights.join("mint", self._mint)
        return secret.reveal()

    def current(self) -> str:
        """Return the token at hand, however little is left of it.

        Raises:
            TokenMissing: There is none, or its time is over.
        """
        held = self._held
        if held is None or self._left_s(held) <= 0:
            raise TokenMissing("there is no token at the moment")
        return held.token.reveal()

    def is_valid(self) -> bool:
        """Whether there is a token with more than 60 s left; then `ensure_token` asks nobody."""
        held = self._held
        return held is not None and self._left_s(held) > held.early_s

    async def run(self) -> None:
        """Keep a good token at hand until cancelled or the block is left.

        Mints at once without one, then 60 s before each ends. What fails is tried again
        with growing waits, and after a refusal rarely.
        """
        pause = _Pause(self._random)
        while True:
            now = self._clock.monotonic()
            wait_s = max(self._due_in_s(), pause.remaining(self.generation, now))
            if wait_s > 0:
                await self._sleep(min(wait_s, _STEP_S))
                continue
            try:
                await self.refresh_token(generation=self.generation)
            except OnetapeError as error:
                if not self._is_open:
                    return
                delay_s = pause.begin(error, self.generation, self._clock.monotonic())
                logger.warning(
                    "token.refresh_failed",
                    extra={"code": error.code, "again_in_s": round(delay_s, 1)},
                )

    def statistics(self) -> TokenStatistics:
        """Count everything."""
        held = self._held
        return TokenStatistics(
            valid=self.is_valid(),
            expires_in_s=None if held is None else max(0.0, self._left_s(held)),
            generation=self.generation,
            mints=self._mints,
            failures=self._failures,
            consecutive_failures=self._consecutive_failures,
            last_failure=self._last_failure,
            last_mint_s=self._last_mint_s,
        )

    # private

    def _left_s(self, held: _Held) -> float:
        return held.ends - self._clock.monotonic()

    def _is_alive(self) -> bool:
        return self._held is not None and self._left_s(self._held) > 0

    def _due_in_s(self) -> float:
        held = self._held
        return 0.0 if held is None else self._left_s(held) - held.early_s

    async def _mint(self) -> Secret:
        began = self._clock.monotonic()
        try:
            minted = _minted_of(await self._rest.post(TOKEN_PATH))
        except OnetapeError as error:
            self._failed(error)
            raise
        now = self._clock.monotonic()
        life_s = minted.expires_in
        held = _Held(Secret(minted.token), began + life_s, min(EARLY_S, life_s / 2))
        self._held, self._refusal = held, None
        self.generation += 1
        self._mints += 1
        self._consecutive_failures = 0
        self._last_mint_s = now - began
        self._tell()
        return held.token

    def _failed(self, error: OnetapeError) -> None:
        self._failures += 1
        self._consecutive_failures += 1
        self._last_failure = error.code
        if isinstance(error, REFUSED):
            self._refusal = error
            self._echo_until = self._clock.monotonic() + _ECHO_S

    def _tell(self) -> None:
        try:
            self._on_renewed()
        except Exception:
            # The token is good whatever the one we tell makes of it.
            logger.exception("token.on_renewed_failed")


def _minted_of(response: RestResponse) -> _Minted:
    if response.status not in _OK:
        raise error_of(response)
    try:
        return _minted.decode(response.body)
    except UNREADABLE:
        # Without the cause: its text may quote the token.
        raise UpstreamGarbled("the gateway's answer holds no token (status 200)") from None
