"""(e) What one idle client costs."""

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.load import Load, rss_kib
from bench.rig import Running, Stand, gateway

CLIENTS = 2_000


class _Idle(WSListener):
    def __init__(self, credential: str) -> None:
        self._credential = credential
        self.is_in = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        auth = b'{"action":"auth","params":"%b"}' % self._credential.encode()
        transport.send(WSMsgType.TEXT, auth)
        transport.send(WSMsgType.TEXT, b'{"action":"subscribe","params":"T.O:SPY251219C00001000"}')

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if b"subscribed" in frame.get_payload_as_bytes():
            self.is_in.set()


async def _fill(running: Running, count: int) -> int:
    url = f"ws://{running.netloc}/options"
    kept = [await ws_connect(lambda: _Idle(running.credential), url) for _ in range(count)]
    for _, listener in kept:
        await listener.is_in.wait()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    used = rss_kib(running.pid)
    for transport, _ in kept:
        transport.disconnect(graceful=False)
    await asyncio.sleep(1)
    return used


def main() -> list[str]:
    with Stand(Load()) as stand, gateway(stand.vendor_port) as ours:
        uvloop.run(_fill(ours, 50))  # what is loaded once is not the clients'
        before = rss_kib(ours.pid)
        after = uvloop.run(_fill(ours, CLIENTS))
    return [f"memory, idle client   {(after - before) / CLIENTS:.1f} KiB each of {CLIENTS:,}"]


if __name__ == "__main__":
    print("\n".join(main()))
