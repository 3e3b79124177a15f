"""One WebSocket of a simulated vendor: writes what a machine wants, and reads whole messages.

Nothing is decided here but how to write, and when a peer that does not say goodbye is cut.
"""

import asyncio
import struct
from functools import partial
from typing import Final, Protocol

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from onetape.simulator.effects import Abort, Close, Effect, Freeze, Ping, Send, SessionId, Thaw

TOO_BIG: Final = 1009
_NO_CODE: Final = 1005
_MOST_BYTES: Final = 1 << 20


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How the stream moves through time."""

    step_s: float = 0.05
    bar_lag_s: float = 0.25  # of market time; the vendor's is about 2
    close_grace_s: float = 1.0
    most_s: float = 5.0  # a longer pause of the host is left out, not caught up with


class LinkOwner(Protocol):
    """Who a link tells."""

    def opened(self, link: "Link") -> None:
        """Learn of a connection that can be written to."""
        ...

    def received(self, session: SessionId, frame: bytes) -> None:
        """Learn of a client's message."""
        ...

    def refuse_size(self, link: "Link") -> None:
        """Learn of a message in fragments that grows too long."""
        ...

    def closed(self, session: SessionId) -> None:
        """Learn that a connection ended."""
        ...


class Link(WSListener):
    """One socket."""

    transport: WSTransport

    def __init__(self, owner: LinkOwner, session: SessionId) -> None:
        self.session = session
        self._owner = owner
        self._fragments: list[bytes] = []
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say that we are here."""
        self.transport = transport
        self._owner.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand whole messages on; answer a goodbye."""
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._fragments.append(frame.get_payload_as_bytes())
                if frame.fin:
                    message = b"".join(self._fragments)
                    self._fragments.clear()
                    self._owner.received(self.session, message)
                elif sum(map(len, self._fragments)) > _MOST_BYTES:
                    self._fragments.clear()
                    self._owner.refuse_size(self)
            case WSMsgType.CLOSE:
                if not self._closing:
                    transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes()[:2])
                transport.disconnect()
            case _:
                pass

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the machine."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._owner.closed(self.session)

    def pause_writing(self) -> None:
        """Go on: the machine bounds what waits, and cuts."""

    def resume_writing(self) -> None:
        """Go on."""

    def obey(self, effect: Effect, *, grace_s: float) -> int:
        """Carry out an effect; return the bytes that still wait to be written."""
        match effect:
            case Send(frame=frame):
                return self.send(frame)
            case Close(code=code, reason=reason):
                self.close(code, reason, grace_s=grace_s)
            case Abort():
                self.drop(grace_s=grace_s)
            case Freeze():
                self.transport.underlying_transport.pause_reading()
            case Thaw():
                self.transport.underlying_transport.resume_reading()
            case Ping():
                self.transport.send_ping()
        return 0

    def send(self, frame: bytes) -> int:
        """Write one text frame; return the bytes that still wait. Nothing follows a goodbye."""
        if not self._closing:
            self.transport.send(WSMsgType.TEXT, frame)
        return self.transport.underlying_transport.get_write_buffer_size()

    def close(self, code: int, reason: str, *, grace_s: float) -> None:
        """Say goodbye, and wait for the answer no longer than the grace."""
        if not self._closing:
            payload = b"" if code == _NO_CODE else struct.pack("!H", code) + reason.encode()
            self.transport.send(WSMsgType.CLOSE, payload)
            self._end_within(grace_s)

    def drop(self, *, grace_s: float) -> None:
        """End without a close frame, after what was written, which must not take long."""
        if not self._closing:
            self._end_within(grace_s)
            self.transport.disconnect()

    def _end_within(self, grace_s: float) -> None:
        self._closing = True
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            grace_s, partial(self.transport.disconnect, graceful=False)
        )
