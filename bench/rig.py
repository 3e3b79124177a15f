"""Starts and stops the processes of a benchmark."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from bench import naive
from bench.load import CONTEXT, UNDER_TEST, Load, Meter, cpu_s, pin, run_clients, run_vendor
from onetape.clock import SystemClock
from onetape.config import Config, GatewayConfig, MassiveConfig, Secret
from onetape.gateway.app import Gateway
from onetape.gateway.keys import KeyStore, Scopes


async def _serve(port: int, rest_url: str, facts: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with KeyStore(Path(directory)) as store:
            scopes = Scopes(rate_per_minute=1_000_000_000)
            key = store.create("bench", now_ns=SystemClock().now_ns(), scopes=scopes)
        config = Config(
            massive=MassiveConfig(
                api_key=Secret("bench-vendor-key"),
                base_url=rest_url,
                socket_url=f"ws://127.0.0.1:{port}",
            ),
            gateway=GatewayConfig(
                port=0, state_dir=Path(directory), max_clients=20_000, log_format="json"
            ),
        )
        async with Gateway(config) as gateway:
            facts.send((gateway.netloc, key.secret))
            while not facts.poll():
                await asyncio.sleep(0.05)


def _run_gateway(port: int, rest_url: str, facts: Any) -> None:
    pin(UNDER_TEST)
    uvloop.run(_serve(port, rest_url, facts))


class Running(NamedTuple):
    """A process under test, and how to reach it."""

    pid: int
    netloc: str
    credential: str


@contextmanager
def gateway(vendor_port: int, rest_url: str = "http://127.0.0.1:1") -> Generator[Running]:
    """The real thing, as `onetape serve` runs it."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run_gateway, args=(vendor_port, rest_url, theirs))
    process.start()
    try:
        netloc, credential = ours.recv()
        yield Running(process.pid or 0, netloc, credential)
    finally:
        ours.send("stop")
        process.join(20)


@contextmanager
def baseline(vendor_port: int, meter: Meter) -> Generator[Running]:
    """The usual way of writing it."""
    port, stop = CONTEXT.Value("i", 0), CONTEXT.Event()
    url = f"ws://127.0.0.1:{vendor_port}"
    process = CONTEXT.Process(target=naive.run, args=(url, port, meter.ready, stop))
    process.start()
    try:
        meter.ready.acquire()
        yield Running(process.pid or 0, f"127.0.0.1:{port.value}", "key")
    finally:
        stop.set()
        process.join(20)


@contextmanager
def direct(vendor_port: int) -> Generator[Running]:
    """Nothing in between: what the load itself costs."""
    yield Running(0, f"127.0.0.1:{vendor_port}", "key")


class Stand:
    """Vendor and clients around a process under test."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.meter = Meter.new()
        self._reports, theirs = CONTEXT.Pipe()
        self._their_reports = theirs
        self._processes: list[Any] = []

    def __enter__(self) -> "Stand":
        self._start(run_vendor, self.load, self.meter)
        self.meter.ready.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.meter.stop.set()
        for process in self._processes:
            process.join(20)
            if process.is_alive():
                process.kill()

    @property
    def vendor_port(self) -> int:
        return self.meter.port.value

    def connect(self, running: Running) -> None:
        """Bring the clients in; returns when all are subscribed."""
        url = f"ws://{running.netloc}/options"
        self._start(
            run_clients, self.load, self.meter, url, running.credential, self._their_reports
        )
        self.meter.ready.acquire()
        time.sleep(0.5)

    def measure(
        self, running: Running, *, seconds: float, window: int, rate: float = 0.0
    ) -> "Measured":
        """Blast for a while; the deliveries of that while, and what they cost."""
        meter = self.meter
        meter.rate.value, meter.window.value = rate, window
        time.sleep(1.0)
        self.late()
        began, delivered, cpu = time.monotonic(), meter.delivered.value, self._cpu(running)
        time.sleep(seconds)
        took = time.monotonic() - began
        delivered, cpu = meter.delivered.value - delivered, self._cpu(running) - cpu
        p50, p99 = self.late()
        meter.window.value = 0
        self._drain()
        return Measured(delivered, cpu, took, p50, p99)

    def late(self) -> tuple[float, float]:
        """p50 and p99 of the age at arrival, in ms, since last asked."""
        self._reports.send("late")
        return tuple(self._reports.recv())

    def _drain(self) -> None:
        deadline = time.monotonic() + 10
        while self.meter.delivered.value < self.meter.sent.value:
            if time.monotonic() > deadline:
                missing = self.meter.sent.value - self.meter.delivered.value
                raise RuntimeError(f"{missing} deliveries never came")
            time.sleep(0.05)

    def _cpu(self, running: Running) -> float:
        return cpu_s(running.pid) if running.pid else 0.0

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        process = CONTEXT.Process(target=target, args=args, daemon=True)
        process.start()
        self._processes.append(process)


class Measured(NamedTuple):
    """What one run gave. No delivery of it was lost: the stand waits for all of them."""

    delivered: int
    cpu_s: float
    took_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_cpu_s(self) -> float:
        return self.delivered / self.cpu_s if self.cpu_s else 0.0
