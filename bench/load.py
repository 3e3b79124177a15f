"""The load of the fan-out benchmarks: a vendor that blasts, clients that count.

Both run in processes of their own, so that the CPU time of the process under test is
its own. They speak the vendor's protocol and share one counter, by which the vendor
keeps a bounded number of deliveries in flight: the numbers are of what was delivered,
never of what was dropped.
"""

import asyncio
import multiprocessing as mp
import os
import random
import re
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from typing import Any, NamedTuple

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

CONTEXT = mp.get_context("spawn")
LOAD, UNDER_TEST = 0, 1


def pin(role: int) -> None:
    """Give the load one core and the process under test another, where there are two.

    Else the scheduler's choice of who shares a core with whom is what is measured.
    """
    if (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {role})


class Load(NamedTuple):
    """Who reads what, the same in every process."""

    clients: int = 200
    topics: int = 500
    topics_each: int = 50
    events_per_frame: int = 100
    channel: str = "T"
    seed: int = 1
    is_direct: bool = False  # clients at the vendor itself: all get the same tenth of a frame
    probes: int = 0  # so many clients read at once and are timed, the others 20 times a second;
    # 0: all are, which on two cores measures the load's own scheduling

    def names(self) -> list[str]:
        return [f"O:SPY251219C{(n + 1) * 1000:08}" for n in range(self.topics)]

    def subscriptions(self) -> list[list[str]]:
        chance = random.Random(self.seed)
        names = self.names()
        return [chance.sample(names, self.topics_each) for _ in range(self.clients)]

    def frames(self, count: int = 100) -> list[tuple[list[bytes], int]]:
        """Events of each frame without their stamp, and how many deliveries it makes."""
        chance = random.Random(self.seed + 1)
        readers: dict[str, int] = {}
        for names in self.subscriptions():
            for name in names:
                readers[name] = readers.get(name, 0) + 1
        out: list[tuple[list[bytes], int]] = []
        for _ in range(count):
            chosen = [chance.choice(self.names()) for _ in range(self.events_per_frame)]
            events = [
                b'{"ev":"%b","sym":"%b","x":302,"p":9.71,"s":17,"c":[209],"t":1644506128351,"q":'
                % (self.channel.encode(), name.encode())
                for name in chosen
            ]
            if self.is_direct:
                events = events[: self.events_per_frame * self.topics_each // self.topics]
                out.append((events, len(events) * self.clients))
            else:
                out.append((events, sum(readers.get(name, 0) for name in chosen)))
        return out


class Meter(NamedTuple):
    """What the processes share."""

    delivered: "Synchronized[int]"
    sent: "Synchronized[int]"  # deliveries that what was sent will make
    rate: "Synchronized[float]"  # frames a second; 0: as many as `window` lets
    window: "Synchronized[int]"  # deliveries in flight, at most
    ready: Any
    stop: Any
    port: "Synchronized[int]"

    @classmethod
    def new(cls) -> "Meter":
        value = CONTEXT.Value
        return cls(
            value("q", 0), value("q", 0), value("d", 0.0), value("q", 0),
            CONTEXT.Semaphore(0), CONTEXT.Event(), value("i", 0),
        )  # fmt: skip


# the vendor


class _Upstream(WSListener):
    open: "set[_Upstream]"

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport, self.paused = transport, False
        self.open.add(self)
        transport.send(WSMsgType.TEXT, b'[{"ev":"status","status":"connected","message":"hi"}]')

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(1000)  # type: ignore[arg-type]
            transport.disconnect()
            return
        text = frame.get_payload_as_bytes()
        if b'"auth"' in text:
            transport.send(
                WSMsgType.TEXT, b'[{"ev":"status","status":"auth_success","message":"ok"}]'
            )
        elif b'"subscribe"' in text:
            names = re.findall(rb"[A-Z]+\.[^,\"]+", text)
            acks = b",".join(
                b'{"ev":"status","status":"success","message":"subscribed to: %b"}' % name
                for name in names
            )
            transport.send(WSMsgType.TEXT, b"[%b]" % acks)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.open.discard(self)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False


async def _vendor(load: Load, meter: Meter) -> None:
    open_: set[_Upstream] = set()
    _Upstream.open = open_
    server = await ws_create_server(lambda _: _Upstream(), "127.0.0.1", 0, max_frame_size=1 << 22)
    meter.port.value = server.sockets[0].getsockname()[1]
    meter.ready.release()
    frames = load.frames()
    index, due = 0, time.monotonic()
    while not meter.stop.is_set():
        rate, window = meter.rate.value, meter.window.value
        room = meter.sent.value - meter.delivered.value < window
        blocked = any(upstream.paused for upstream in open_)
        if not open_ or not window or not room or blocked or (rate and time.monotonic() < due):
            if rate and time.monotonic() - due > 0.1:
                due = time.monotonic()
            await asyncio.sleep(0.0005 if rate else 0)
            if not window:
                await asyncio.sleep(0.01)
            continue
        events, deliveries = frames[index % len(frames)]
        index += 1
        due += 1 / rate if rate else 0
        stamp = b"%d}" % time.monotonic_ns()
        frame = b"[" + b",".join([event + stamp for event in events]) + b"]"
        meter.sent.value += deliveries
        for upstream in list(open_):
            upstream.transport.send(WSMsgType.TEXT, frame)
        if not rate:
            await asyncio.sleep(0)
    server.close()


# the clients


class _Client(WSListener):
    late: list[int]
    count = 0

    def __init__(self, credential: str, topics: Sequence[str], *, is_timed: bool) -> None:
        self._credential, self._topics = credential, topics
        self._is_timed = is_timed
        self.is_ready = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(
            WSMsgType.TEXT, b'{"action":"auth","params":"%b"}' % self._credential.encode()
        )
        params = ",".join(self._topics).encode()
        transport.send(WSMsgType.TEXT, b'{"action":"subscribe","params":"%b"}' % params)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        if not self.is_ready:
            if b"subscribed to" in payload:
                self.is_ready = True
            return
        _Client.count += payload.count(b'"sym"')
        if not self._is_timed:
            return
        at = payload.find(b'"q":') + 4  # of the oldest event in it
        end = payload.find(b"}", at)
        if at > 4:
            _Client.late.append(time.monotonic_ns() - int(payload[at:end]))


async def _clients(load: Load, meter: Meter, url: str, credential: str, reports: Any) -> None:
    _Client.late, _Client.count = [], 0
    clients: list[tuple[WSTransport, _Client]] = []
    every = load.clients // load.probes if load.probes else 1
    for number, topics in enumerate(load.subscriptions()):
        names = [f"{load.channel}.{name}" for name in topics]
        client = _Client(credential, names, is_timed=number % every == 0)
        pair = await ws_connect(lambda *_, client=client: client, url, max_frame_size=1 << 22)
        clients.append(pair)  # type: ignore[arg-type]
    while not all(client.is_ready for _, client in clients):
        await asyncio.sleep(0.01)
    meter.ready.release()
    bulk = [pair[0] for number, pair in enumerate(clients) if number % every]
    while not meter.stop.is_set():
        meter.delivered.value = _Client.count
        if reports.poll():
            reports.recv()
            late, _Client.late = sorted(_Client.late), []
            reports.send([late[int(len(late) * q)] / 1e6 for q in (0.5, 0.99)] if late else [0, 0])
        if not bulk:
            await asyncio.sleep(0.0005)
            continue
        for start in range(0, len(bulk), 10):  # ten at a time, so that none waits for all
            for transport in bulk[start : start + 10]:
                transport.underlying_transport.resume_reading()
            await asyncio.sleep(0.002)
            for transport in bulk[start : start + 10]:
                transport.underlying_transport.pause_reading()


def run_vendor(load: Load, meter: Meter) -> None:
    pin(UNDER_TEST if load.is_direct else LOAD)
    uvloop.run(_vendor(load, meter))


def run_clients(load: Load, meter: Meter, url: str, credential: str, reports: Any) -> None:
    pin(LOAD)
    uvloop.run(_clients(load, meter, url, credential, reports))


def cpu_s(pid: int) -> float:
    """User and system time of a process, in seconds."""
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - not a file
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - not a file
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
