"""(b) Age at arrival under load, and (c) what one stopped client changes for the others."""

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

from bench.load import Load, rss_kib
from bench.rig import Measured, Running, Stand, direct, gateway

RATE = 200.0  # frames of 100 events: 20,000 events a second
WINDOW = 10**9
PROBES = 10


@contextmanager
def stopped_client(running: Running, load: Load) -> Generator[None]:
    """A client that subscribes and then never reads again."""
    host, _, port = running.netloc.partition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(
            b"GET /options HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        sock.recv(4096)
        topics = ",".join(f"{load.channel}.{name}" for name in load.names())
        for action in (
            f'{{"action":"auth","params":"{running.credential}"}}',
            f'{{"action":"subscribe","params":"{topics}"}}',
        ):
            body = action.encode()
            sock.sendall(b"\x81\xfe" + len(body).to_bytes(2, "big") + bytes(4) + body)
        time.sleep(0.5)
        yield


def straight() -> Measured:
    """The same clients, bytes and frames a second with nothing in between."""
    load = Load(is_direct=True, probes=PROBES)
    with Stand(load) as stand, direct(stand.vendor_port) as vendor:
        stand.connect(vendor)
        return stand.measure(vendor, seconds=4, window=WINDOW, rate=RATE)


def main() -> list[str]:
    load = Load(probes=PROBES)
    without: list[Measured] = []
    alone: list[Measured] = []
    beside: list[Measured] = []
    memory: list[int] = []
    with Stand(load) as stand, gateway(stand.vendor_port) as ours:
        stand.connect(ours)
        stand.measure(ours, seconds=2, window=WINDOW, rate=RATE)
        for _ in range(5):
            without.append(straight())
            alone.append(stand.measure(ours, seconds=4, window=WINDOW, rate=RATE))
            before = rss_kib(ours.pid)
            with stopped_client(ours, load):
                beside.append(stand.measure(ours, seconds=4, window=WINDOW, rate=RATE))
                memory.append(rss_kib(ours.pid) - before)
    base50, base99 = (median(getattr(m, name) for m in without) for name in ("p50_ms", "p99_ms"))
    p50, p99 = (median(getattr(m, name) for m in alone) for name in ("p50_ms", "p99_ms"))
    p99_beside = median(m.p99_ms for m in beside)
    per_cpu = median(m.per_cpu_s for m in alone)
    return [
        f"latency, straight from the vendor    p50 {base50:5.2f} ms, p99 {base99:5.2f} ms",
        f"latency, through the gateway         p50 {p50:5.2f} ms, p99 {p99:5.2f} ms"
        f"  (at {per_cpu / 1e6:.2f} M deliveries per CPU-second)",
        f"latency, added by the gateway        p50 {p50 - base50:5.2f} ms, p99 {p99 - base99:5.2f} ms",
        f"latency, beside one stopped client   p99 {p99_beside:5.2f} ms"
        f"  ({(p99_beside / p99 - 1) * 100:+.0f} %)",
        f"memory, one stopped client           {max(memory):+d} KiB at most (outbox bound 1,024 KiB)",
    ]


if __name__ == "__main__":
    print("\n".join(main()))
