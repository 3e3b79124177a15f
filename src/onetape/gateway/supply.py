"""Where answers come from: the cache, a request in flight, the vendor, an old copy.

    look ── fresh copy ─────────────────────────────────────────────▶ hit
      │
    fetch ── the same request is in flight ── its answer ───────────▶ coalesced
      │
      └──── ask the vendor ── an answer ────────────────────────────▶ miss
                  │
                  └─ no answer, 5xx or 429 ── an old copy, marked ──▶ stale
                                           └─ none: the vendor's answer, or the error

One plan pays for one gateway, so a copy is shared by all its clients: keys know
nothing of who asks. Only what the `Ttl` table gives a life is kept, and of that only
status 200.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol

from onetape.clock import Clock
from onetape.core.cache import Cache, Freshness
from onetape.errors import UpstreamError
from onetape.gateway.answers import Answer, VendorResponse, answer_of
from onetape.gateway.routes import Target
from onetape.massive.wire_rest import TTL, Endpoint, Ttl

READ_OFF_LOOP_FROM_BYTES: Final = 1 << 20
"""Reading a body for faults and its `next_url` takes under a ms per MB."""

PACK_OFF_LOOP_FROM_BYTES: Final = 32_768
"""Packing takes some 7 ms per MB; a thread costs 0.1 ms to reach."""


class Upstream(Protocol):
    """What we need of `MassiveREST`."""

    async def get(self, path: str, query: str = "") -> VendorResponse:
        """Ask the vendor; raises `UpstreamError` when there is no answer at all."""
        ...


class Flights(Protocol):
    """What we need of `onetape.flights.Flights`."""

    def joined(self, key: str) -> bool:
        """Whether the key's work is in progress."""
        ...

    async def join(self, key: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do the work, or wait for whoever does it."""
        ...


class Served(NamedTuple):
    """An answer, and how it was come by."""

    answer: Answer
    how: str  # hit, miss, coalesced or stale
    age_s: float | None = None
    stale_reason: str | None = None


class Supply:
    """Answers targets. Cancelling one caller does not disturb those who wait for the same."""

    def __init__(
        self,
        *,
        cache: Cache[Answer],
        flights: Flights,
        upstream: Upstream,
        clock: Clock,
        ttl: Mapping[Endpoint, Ttl] = TTL,
    ) -> None:
        self._cache = cache
        self._flights = flights
        self._upstream = upstream
        self._clock = clock
        self._ttl = ttl
        self._kept = frozenset(e for e, (fresh_s, stale_s) in ttl.items() if fresh_s + stale_s > 0)

    def look(self, target: Target, now: float) -> Served | None:
        """Return the fresh copy, if there is one. Never waits."""
        if target.endpoint not in self._kept:
            return None
        found = self._cache.get(target.key, now)
        if found is None or found.state is not Freshness.FRESH:
            return None
        return Served(found.entry, "hit", found.age_s)

    async def fetch(self, target: Target) -> Served:
        """Return an answer, after `look` found no fresh copy.

        Raises:
            UpstreamError: there is no answer, and no old copy either.
            ShuttingDown: the gateway stops.
        """
        how = "coalesced" if self._flights.joined(target.key) else "miss"
        try:
            answer = await self._flights.join(target.key, lambda: self._ask(target))
        except UpstreamError as error:
            served = self._stand_in(target, error.code)
            if served is None:
                raise
            return served
        if answer.is_fault:
            return self._stand_in(target, answer.code) or Served(answer, how)
        return Served(answer, how)

    async def pack(self, answer: Answer, base: str) -> None:
        """Make the answer's gzip copy; who wants it meanwhile waits for the same one."""
        if answer.size_bytes < PACK_OFF_LOOP_FROM_BYTES:
            answer.pack(base)
            return

        async def work() -> Answer:
            await asyncio.to_thread(answer.pack, base)
            return answer

        await self._flights.join(f"gzip {id(answer)} {base}", work)

    def _stand_in(self, target: Target, reason: str | None) -> Served | None:
        found = self._cache.get(target.key, self._clock.monotonic())
        return found and Served(found.entry, "stale", found.age_s, reason)

    async def _ask(self, target: Target) -> Answer:
        response = await self._upstream.get(target.path, target.query)
        if len(response.body) < READ_OFF_LOOP_FROM_BYTES:
            answer = answer_of(response)
        else:
            answer = await asyncio.to_thread(answer_of, response)
        if answer.is_good and target.endpoint in self._kept:
            fresh_s, stale_s = self._ttl[target.endpoint]
            self._cache.put(
                target.key,
                answer,
                size_bytes=answer.size_bytes,
                fresh_s=fresh_s,
                stale_s=stale_s,
                now=self._clock.monotonic(),
            )
        return answer
