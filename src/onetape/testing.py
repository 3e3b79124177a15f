"""What tests of onetape, ours and yours, are made of: shipped, typed and tested."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from onetape.clock import SystemClock
from onetape.config import (
    Config,
    GatewayConfig,
    HubConfig,
    MassiveConfig,
    Secret,
    TradierConfig,
    UpstreamConfig,
)

if TYPE_CHECKING:
    from onetape.gateway.app import Gateway
    from onetape.simulator.app import SimulatorSettings

P = ParamSpec("P")
T = TypeVar("T")

_SOME_DAY_NS = 1_764_000_000_000_000_000


class ManualClock:
    """A clock that moves only when told; monotonic and wall time move together."""

    def __init__(self, *, monotonic: float = 1_000.0, now_ns: int = _SOME_DAY_NS) -> None:
        self._monotonic = monotonic
        self._now_ns = now_ns

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._now_ns += round(seconds * 1_000_000_000)


async def until(holds: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    """Wait until something holds that another task brings about.

    Raises:
        TimeoutError: it did not in time.
    """
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - any condition, not one event
            await asyncio.sleep(0.005)


class Playground:
    """A gateway in front of the simulated vendor, on loopback, while its block is open.

    Args:
        state_dir: Where the gateway keeps its keys.
        simulator: What the vendor is like.
        vendor_key: What the gateway logs in with.
        upstream: Overrides of `config.UpstreamConfig`.
        hub: Overrides of `config.HubConfig`.
        tradier: Whether the gateway has a token of Tradier's.
        gateway: Overrides of `config.GatewayConfig`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        simulator: "SimulatorSettings | None" = None,
        vendor_key: str = "sim-key",
        upstream: Mapping[str, Any] | None = None,
        hub: Mapping[str, Any] | None = None,
        tradier: bool = True,
        **gateway: Any,
    ) -> None:
        from onetape.simulator.app import Simulator

        self.simulator = Simulator(simulator)
        self.lines: list[bytes] = []  # what the gateway logs
        self.state_dir = state_dir
        self._vendor_key = vendor_key
        self._upstream = dict(upstream or {})
        self._hub = dict(hub or {})
        self._tradier = tradier
        waits = {"linger_s": 0.1, "idle_s": 0.1, "drain_s": 1.0}
        self._settings: dict[str, Any] = {"port": 0, "state_dir": state_dir, **waits, **gateway}
        self._stack = AsyncExitStack()
        self._keys = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.simulator)
        try:
            self.gateway = await self._stack.enter_async_context(self.another())
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def another(self, **settings: Any) -> "Gateway":
        """Make one more gateway like ours, not started."""
        from onetape.gateway.app import Gateway

        config = Config(
            massive=MassiveConfig(
                api_key=Secret(self._vendor_key),
                base_url=self.simulator.url,
                socket_url=self.simulator.socket_url,
            ),
            tradier=TradierConfig(
                access_token=Secret(self.simulator.tradier_token) if self._tradier else None,
                base_url=self.simulator.tradier_url,
                socket_url=self.simulator.tradier_socket_url,
            ),
            gateway=GatewayConfig(**{**self._settings, **settings}),
            upstream=UpstreamConfig(**self._upstream),
            hub=HubConfig(**self._hub),
        )
        return Gateway(
            config,
            write=self.lines.append,
            simulated=True,
            is_open=self.simulator.is_open,
        )

    async def key(self, **scopes: Any) -> str:
        """Make a client key the way the command line does, from outside the gateway."""
        from onetape.gateway.keys import KeyStore, Scopes

        self._keys += 1
        name = f"key{self._keys}"

        def create() -> tuple[str, str]:
            with KeyStore(self.state_dir) as store:
                wide: dict[str, Any] = {"rate_per_minute": 1_000_000, **scopes}
                key = store.create(name, now_ns=SystemClock().now_ns(), scopes=Scopes(**wide))
                return key.record.key_id, key.secret

        key_id, secret = await asyncio.to_thread(create)
        await until(lambda: self.gateway.ring.snapshot.is_live(key_id))
        return secret

    async def revoke(self, secret: str) -> None:
        """Revoke a key, from outside the gateway."""
        from onetape.gateway.keys import KeyStore

        def revoke() -> None:
            with KeyStore(self.state_dir) as store:
                store.revoke(secret.split("_")[1], now_ns=SystemClock().now_ns())

        await asyncio.to_thread(revoke)


class LeapLoop(asyncio.SelectorEventLoop):
    """An event loop that waits for nothing: when all wait, its time leaps to the first timer.

    An hour of timers takes a moment and is the same every time. What comes from outside
    of the loop, a thread's result or a peer's answer, is waited for by no one: keep such
    things out. When everybody waits for ever, that is a `RuntimeError`.
    """

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Seconds since it was made."""
        return self._leaping.now


class LeapClock:
    """The time of the running loop, `start_ns` being the loop's zero."""

    def __init__(self, *, start_ns: int = _SOME_DAY_NS) -> None:
        self._start_ns = start_ns

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        """Nanoseconds UTC since the epoch."""
        return self._start_ns + round(self.monotonic() * 1_000_000_000)


def leaping(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make a function of a coroutine function: it runs in a new `LeapLoop`, to the end."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=LeapLoop, debug=True) as runner:
            return runner.run(work(*args, **kwargs))

    return run


class _Leaping(selectors.DefaultSelector):
    """Lets the time that it is told to wait pass at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits for ever")
            self.now += max(timeout, 0)
        return ready
