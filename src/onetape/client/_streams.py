"""The client's live streams: one socket to the gateway for each asset class.

        topics, by symbol ─▶ options ─┐
    want ───────────────▶   indices  ─┼─▶ on_events: typed, one call a frame
                         ─▶ stocks   ─┘   on_state: every end, gap and failure

The sockets are dialled in parallel and know nothing of each other. Each is the same
machine that the gateway has towards the vendor: it logs in with the token at hand,
carries what is wanted over every reconnect, and never gives up. What is added here is
what a *client* needs: topics go to the socket of their symbol's class, tokens are
renewed on open sockets, and an endpoint counts as authenticated only while the gateway
has not said that its own upstream is gone.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from onetape import symbols
from onetape.client._endpoint import (
    Endpoint,
    EndpointHealth,
    EndpointState,
    Event,
    StreamNotice,
    TopicState,
    worst,
)
from onetape.clock import Clock
from onetape.errors import ConfigInvalid, InvalidTopic, OnetapeError
from onetape.massive.notices import FeedPolicy
from onetape.massive.stream import MassiveWebSocket
from onetape.massive.wire_stream import split_topic
from onetape.model import AssetClass, Topic

POLICY: Final = FeedPolicy(idle_s=5.0)
"""How a client waits: as the gateway does, but that a socket outlives a change of mind."""

_FIRST_TOKEN_S: Final = 5.0


class TokenSource(Protocol):
    """What streams need of `Tokens`."""

    @property
    def generation(self) -> int:
        """Counts the tokens there were."""
        ...

    def current(self) -> str:
        """Return the token at hand.

        Raises:
            TokenMissing: there is none.
        """
        ...

    async def refresh_token(self, *, generation: int | None = None) -> str:
        """Return a token newer than that of the generation; cancel-safe.

        Raises:
            OnetapeError: there is none to be had.
        """
        ...


class Streams:
    """Every live stream of one client. One event loop owns it.

    `on_events` and `on_state` are called in order, endpoint by endpoint; `on_state` also
    from within `want` and `connect`. What they raise is logged once and disturbs nobody.

    Args:
        url: The gateway's root, `http://` or `https://`, with or without a path.
        assets: The classes that the plan streams.
        tokens: Where the credential comes from. Whoever owns it calls `renew` after
            each mint.
        clock: The time.
        on_events: Takes the events of one frame, in the vendor's order.
        on_state: Takes what becomes of sockets and topics.
        policy: How long to wait for what.
        tls: For tests; by default the host's certificates.

    Raises:
        ConfigInvalid: `url` is no address of a gateway.
    """

    def __init__(  # noqa: PLR0913 - called once, by the provider; all by name
        self,
        *,
        url: str,
        assets: frozenset[AssetClass],
        tokens: TokenSource,
        clock: Clock,
        on_events: Callable[[AssetClass, list[Event]], None],
        on_state: Callable[[StreamNotice], None],
        policy: FeedPolicy | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        root = _socket_root(url)
        if tls is None and root.startswith("wss:"):
            tls = ssl.create_default_context()  # once: it reads certificates from the disk
        self._tokens = tokens
        self._clock = clock
        self._policy = policy or POLICY
        self._assets: dict[Topic, AssetClass] = {}  # of what is wanted
        self._held: frozenset[AssetClass] = frozenset()
        self._stale = asyncio.Event()  # the token of `_seen` is refused, or ends
        self._seen = 0
        self._refresh_from = float("-inf")
        self._endpoints = {
            asset: Endpoint(
                asset,
                clock=clock,
                on_events=on_events,
                on_state=on_state,
                on_refused=self._refresh_soon,
                connect=lambda endpoint: MassiveWebSocket(
                    url=f"{root}/ws/{endpoint.asset}",
                    asset=endpoint.asset,
                    credential=lambda: self._credential(endpoint),
                    clock=clock,
                    policy=self._policy,
                    on_batch=endpoint.take,
                    on_notice=endpoint.hear,
                    tls=tls,
                ),
            )
            for asset in sorted(assets)
        }

    def __repr__(self) -> str:
        states = ", ".join(f"{h.asset} {h.state}" for h in self.health().values())
        return f"<Streams {states}>"

    # what is wanted

    def want(self, topics: frozenset[Topic]) -> None:
        """Carry exactly these from now on, each on the socket of its symbol's class.

        A socket is dialled with its first topic, and let go some seconds after its last
        unless `connect` holds it.

        Raises:
            InvalidTopic: one is none, or of a class that is not streamed; nothing changed.
        """
        known = self._assets
        self._assets = {topic: known.get(topic) or self._asset_of(topic) for topic in topics}
        for asset, endpoint in self._endpoints.items():
            own = frozenset(topic for topic in topics if self._assets[topic] is asset)
            endpoint.want(own, held=asset in self._held)

    def connect(self, assets: Iterable[AssetClass] | None = None) -> None:
        """Dial these now, all at once, and keep them up whether anything is wanted or not.

        Args:
            assets: By default every class that is streamed; others are ignored.
        """
        self._held = frozenset(self._endpoints if assets is None else assets)
        for asset, endpoint in self._endpoints.items():
            endpoint.want(endpoint.wanted, held=asset in self._held)

    def renew(self) -> None:
        """There is a new token: show it on every open socket, and where we were refused."""
        for endpoint in self._endpoints.values():
            if endpoint.generation != self._tokens.generation:
                endpoint.socket.renew()
                endpoint.socket.retry()

    # how it goes

    @property
    def wanted(self) -> frozenset[Topic]:
        """The topics that are to be carried."""
        return frozenset(self._assets)

    @property
    def state(self) -> EndpointState:
        """The worst of the endpoints' that somebody needs."""
        return worst(endpoint.state for endpoint in self._endpoints.values())

    def health(self) -> Mapping[AssetClass, EndpointHealth]:
        """Say how each endpoint fares."""
        return {asset: endpoint.health() for asset, endpoint in self._endpoints.items()}

    def topic_state(self, topic: Topic) -> TopicState | None:
        """Say what became of a topic; None when it is not wanted."""
        asset = self._assets.get(topic)
        return None if asset is None else self._endpoints[asset].topic_state(topic)

    # the work

    async def run(self) -> None:
        """Keep the sockets as they should be, until cancelled; then close them. Call it once."""
        await self._await_first_token()
        async with asyncio.TaskGroup() as tasks:
            for endpoint in self._endpoints.values():
                tasks.create_task(endpoint.socket.run())
            while True:
                await self._stale.wait()
                self._stale.clear()
                with contextlib.suppress(OnetapeError):  # whoever owns the tokens tries on
                    await self._tokens.refresh_token(generation=self._seen)
                    self.renew()

    # private

    async def _await_first_token(self) -> None:
        """Rather than be refused for want of one; but no longer than a user would wait."""
        if not self._tokens.generation:
            with contextlib.suppress(OnetapeError, TimeoutError):
                async with asyncio.timeout(_FIRST_TOKEN_S):
                    await self._tokens.refresh_token(generation=0)

    def _credential(self, endpoint: Endpoint) -> str:
        token = self._tokens.current()
        generation = self._tokens.generation
        if endpoint.show(generation):
            self._refresh_soon(endpoint)  # it will be refused again
        return token

    def _refresh_soon(self, endpoint: Endpoint) -> None:
        """Get a token newer than the endpoint's; by ourselves no oftener than logins may be."""
        if self._tokens.generation > endpoint.generation:
            self.renew()
            return
        now = self._clock.monotonic()
        if now >= self._refresh_from:
            self._refresh_from = now + self._policy.auth_retry_s
            self._seen = endpoint.generation
            self._stale.set()

    def _asset_of(self, topic: Topic) -> AssetClass:
        _, symbol = split_topic(topic)
        if symbol == symbols.WILDCARD:
            raise InvalidTopic(f"{topic}: name the symbols")
        asset = _CLASSES.get(symbol[:2], AssetClass.STOCKS)
        if symbols.parse_topic(topic, asset).asset not in self._endpoints:
            raise InvalidTopic(f"{topic}: {asset} are not streamed here")
        return asset


_CLASSES: Final = {"O:": AssetClass.OPTIONS, "I:": AssetClass.INDICES}
"""In the vendor's form what has no prefix is a stock."""


def _socket_root(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.query or parts.fragment:
        raise ConfigInvalid("the gateway's address is http:// or https://, a host and a path")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
